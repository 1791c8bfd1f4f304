//! The one credential of a request: which scheme, which text, and the proof beside it. Says nothing
//! about whether it is good.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::CredentialFault;

/// Where a proof stands (RFC 9449 §4.1).
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");
/// Where the nonce of the next proof stands (RFC 9449 §8).
pub(crate) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// Where other products look for keys. Ours stand in `Authorization` alone.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// How a credential is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// RFC 6750: whoever has it may use it.
    Bearer,
    /// RFC 9449 §7.1: with a proof of the key that it is bound to.
    Dpop,
}

/// A credential as it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Presented<'r> {
    pub(super) scheme: Scheme,
    pub(super) text: &'r str,
}

/// The one credential of a request.
pub(super) fn sole(headers: &HeaderMap) -> Result<Presented<'_>, CredentialFault> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let mut keys = headers.get_all(API_KEY).iter();
    let ours = keys.any(|value| looks_like_key(value.as_bytes()));
    match (values.next(), values.next(), ours) {
        (Some(value), None, false) => presented(value.as_bytes()),
        (None, _, false) => Err(CredentialFault::Missing),
        (None, _, true) => Err(CredentialFault::KeyMisplaced),
        // RFC 6750 §2: exactly one method, once.
        (Some(_), Some(_), _) | (Some(_), None, true) => Err(CredentialFault::Doubled),
    }
}

/// The one proof of a request (RFC 9449 §4.3, point 1: not more than one field).
pub(super) fn sole_proof(headers: &HeaderMap) -> Result<&str, CredentialFault> {
    let mut values = headers.get_all(DPOP).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => readable(value).ok_or(CredentialFault::ProofUnreadable),
        (None, _) => Err(CredentialFault::ProofMissing),
        (Some(_), Some(_)) => Err(CredentialFault::ProofDoubled),
    }
}

fn readable(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// Whether a text is an API key of ours by its looks.
pub(crate) fn looks_like_key(text: &[u8]) -> bool {
    text.starts_with(portcullis_core::api_key::PREFIX.as_bytes())
}

/// The credential in a field's value, wherever it arrived. Whether it is of use to who reads it is for
/// what it is bound to to say, not for its scheme.
pub(crate) fn credential_in(value: &[u8]) -> Option<&str> {
    presented(value).ok().map(|presented| presented.text)
}

/// RFC 6750 §2.1, RFC 9449 §7.1: the scheme in any case (RFC 9110 §11.1), one space, a `b64token`.
fn presented(value: &[u8]) -> Result<Presented<'_>, CredentialFault> {
    let text = std::str::from_utf8(value).map_err(|_| CredentialFault::Malformed)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    let scheme = if scheme.eq_ignore_ascii_case("Bearer") {
        Scheme::Bearer
    } else if scheme.eq_ignore_ascii_case("DPoP") {
        Scheme::Dpop
    } else {
        return Err(CredentialFault::SchemeForeign);
    };
    let plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    let end = token.trim_end_matches('=');
    if end.is_empty() || !end.bytes().all(plain) {
        Err(CredentialFault::Malformed)
    } else {
        Ok(Presented { scheme, text: token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_has_one_shape() {
        use CredentialFault::{Malformed, SchemeForeign};
        let bearer = |text| Ok(Presented { scheme: Scheme::Bearer, text });
        let dpop = |text| Ok(Presented { scheme: Scheme::Dpop, text });
        let table = [
            ("Bearer abc.DEF-_~+/", bearer("abc.DEF-_~+/")),
            ("bearer abc==", bearer("abc==")),
            ("BEARER abc", bearer("abc")),
            ("DPoP abc", dpop("abc")),
            ("dpop abc", dpop("abc")),
            ("Bearer", Err(Malformed)),
            ("DPoP", Err(Malformed)),
            ("Bearer ", Err(Malformed)),
            ("Bearer  abc", Err(Malformed)),
            ("Bearer a b", Err(Malformed)),
            ("Bearer a=b", Err(Malformed)),
            ("Bearer ==", Err(Malformed)),
            ("Bearer abc,Bearer def", Err(Malformed)),
            ("Bearer é", Err(Malformed)),
            ("Basic abc", Err(SchemeForeign)),
            ("Bearer\tabc", Err(SchemeForeign)),
            (" Bearer abc", Err(SchemeForeign)),
            ("", Err(SchemeForeign)),
        ];
        for (value, expected) in table {
            assert_eq!(presented(value.as_bytes()), expected, "{value:?}");
        }
        assert_eq!(presented(b"Bearer \xff"), Err(Malformed));
        assert_eq!(credential_in(b"DPoP abc"), Some("abc"));
    }

    #[test]
    fn exactly_one_credential_and_one_proof() {
        let headers = |fields: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(*name, HeaderValue::from_static(value));
            }
            map
        };
        let (one, key) = (("authorization", "Bearer a"), ("x-api-key", "pk_a.b"));
        let table: [(&[_], _); 6] = [
            (&[one], None),
            (&[one, ("x-api-key", "theirs")], None),
            (&[], Some(CredentialFault::Missing)),
            (&[one, one], Some(CredentialFault::Doubled)),
            (&[one, key], Some(CredentialFault::Doubled)),
            (&[key], Some(CredentialFault::KeyMisplaced)),
        ];
        for (fields, fault) in table {
            assert_eq!(sole(&headers(fields)).err(), fault, "{fields:?}");
        }
        let proof = ("dpop", "a.b.c");
        let table: [(&[_], _); 4] = [
            (&[proof], Ok("a.b.c")),
            (&[], Err(CredentialFault::ProofMissing)),
            (&[proof, proof], Err(CredentialFault::ProofDoubled)),
            (&[("dpop", "\u{7f}é")], Err(CredentialFault::ProofUnreadable)),
        ];
        for (fields, expected) in table {
            let mut map = headers(&[]);
            for (name, value) in fields {
                map.append(
                    *name,
                    HeaderValue::from_bytes(value.as_bytes())
                        .unwrap_or_else(|_| HeaderValue::from_bytes(b"\xff").unwrap()),
                );
            }
            assert_eq!(sole_proof(&map), expected);
        }
    }
}
