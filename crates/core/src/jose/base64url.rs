//! base64url without padding (RFC 7515 §2), strict: no padding, white space or stray bits.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Text that is not canonical base64url.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not canonical base64url (RFC 7515 §2)")]
pub struct NotBase64Url;

/// Encodes bytes.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes text; non-canonical trailing bits, padding and white space are errors.
pub fn decode(text: &str) -> Result<Vec<u8>, NotBase64Url> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| NotBase64Url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7515_appendix_c() {
        assert_eq!(encode(&[3, 236, 255, 224, 193]), "A-z_4ME");
        assert_eq!(decode("A-z_4ME"), Ok(vec![3, 236, 255, 224, 193]));
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        // Padding, the other alphabet, white space, an impossible length, stray bits (RFC 4648 §3.5).
        for bad in
            ["YQ==", "YQ=", "+w", "/w", " YQ", "YQ\n", "Y Q", "Y", "YWJjZ", "YR", "YWK", "é", "."]
        {
            assert_eq!(decode(bad), Err(NotBase64Url), "{bad}");
        }
        assert_eq!(decode(""), Ok(vec![]));
    }

    proptest::proptest! {
        #[test]
        fn bytes_have_one_spelling(bytes: Vec<u8>, text in "[A-Za-z0-9_-]{0,12}") {
            proptest::prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
            if let Ok(read) = decode(&text) {
                proptest::prop_assert_eq!(encode(&read), text);
            }
        }
    }
}
