//! Parameters of a query or a form, decoded once and bounded.
//!
//! Both journeys read them here, so no two readers can disagree about a doubled name or an escape.

use crate::audit::neutralise;

/// Most parameters in a query or form.
pub const MAX_PARAMETERS: usize = 64;
/// Longest query or form of our own endpoints, in bytes.
pub const MAX_FORM_BYTES: usize = 16 * 1024;

/// The parameters of a query or an `application/x-www-form-urlencoded` body, decoded.
#[derive(Clone, Default)]
pub struct Parameters(Vec<(String, String)>);

/// What is wrong with a list of parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParametersMalformed {
    /// Over [`MAX_FORM_BYTES`] or [`MAX_PARAMETERS`].
    #[error("too many or too long parameters")]
    TooLarge,
    /// A bad percent escape, or not UTF-8.
    #[error("a parameter is not form-encoded UTF-8")]
    Encoding,
    /// A NUL, which ends a text for some readers and not for others.
    #[error("a parameter holds a NUL")]
    Nul,
    /// RFC 6749 §3.1: parameters MUST NOT be included more than once.
    #[error("the parameter `{0}` is given twice")]
    Doubled(String),
}

impl Parameters {
    /// Decodes `a=1&b=2`; any name that stands twice is refused (RFC 6749 §3.1).
    ///
    /// # Errors
    /// One variant of [`ParametersMalformed`] per rule.
    pub fn parse(text: &[u8]) -> Result<Self, ParametersMalformed> {
        if text.len() > MAX_FORM_BYTES {
            return Err(ParametersMalformed::TooLarge);
        }
        let mut pairs: Vec<(String, String)> = Vec::new();
        for piece in text.split(|byte| *byte == b'&').filter(|piece| !piece.is_empty()) {
            if pairs.len() == MAX_PARAMETERS {
                return Err(ParametersMalformed::TooLarge);
            }
            let mut halves = piece.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            // RFC 6749 §3.1: also a parameter that is not ours, and also an empty one, may stand
            // only once; the first and the last reader would see different requests.
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(ParametersMalformed::Doubled(neutralise(&name)));
            }
            pairs.push((name, value));
        }
        Ok(Parameters(pairs))
    }

    /// The value of a name. An empty value counts as omitted (RFC 6749 §3.1).
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// All pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }
}

impl std::fmt::Debug for Parameters {
    /// The names alone: values may be passwords and codes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Percent-encodes one value for a query (`application/x-www-form-urlencoded`). A space becomes
/// `%20`, which readers of forms and readers of plain queries understand alike.
pub fn form_encode(value: &str) -> String {
    const HEX: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        // RFC 3986 §2.3: unreserved characters need no escape anywhere.
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend(HEX.get(usize::from(byte >> 4)));
            out.extend(HEX.get(usize::from(byte & 15)));
        }
    }
    out
}

/// Decodes one form-encoded value; `None` for a bad escape, bad UTF-8 or a NUL.
pub(crate) fn form_decode(text: &[u8]) -> Option<String> {
    decode(text).ok()
}

fn decode(text: &[u8]) -> Result<String, ParametersMalformed> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next())? << 4 | hex(rest.next())?,
            other => *other,
        });
    }
    if out.contains(&0) {
        return Err(ParametersMalformed::Nul);
    }
    // RFC 6749 appendix B: the values are UTF-8 before they are form-encoded.
    String::from_utf8(out).map_err(|_| ParametersMalformed::Encoding)
}

fn hex(digit: Option<&u8>) -> Result<u8, ParametersMalformed> {
    let digit = digit.ok_or(ParametersMalformed::Encoding)?;
    let value = char::from(*digit).to_digit(16).ok_or(ParametersMalformed::Encoding)?;
    u8::try_from(value).map_err(|_| ParametersMalformed::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(text: &[u8]) -> ParametersMalformed {
        Parameters::parse(text).unwrap_err()
    }

    #[test]
    fn parameters_are_decoded() {
        let parameters = Parameters::parse(b"a=1&&b=x+y%20z&c=%C3%A9&d&e=&f=a=b&").unwrap();
        for (name, expected) in [
            ("a", Some("1")),
            ("b", Some("x y z")),
            ("c", Some("é")),
            ("d", None),
            ("e", None),
            ("f", Some("a=b")),
            ("g", None),
        ] {
            assert_eq!(parameters.value(name), expected, "{name}");
        }
        assert_eq!(parameters.iter().count(), 6);
        assert_eq!(Parameters::parse(b"").unwrap().iter().count(), 0);
    }

    #[test]
    fn names_are_decoded_before_they_are_compared() {
        let doubled = ParametersMalformed::Doubled("client_id".into());
        assert_eq!(refusal(b"client_id=a&client%5Fid=b"), doubled);
    }

    #[test]
    fn a_bad_escape_is_refused() {
        for text in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%+1", b"%=a", b"a=%-1", b"a=%f", b"a=%ff"]
        {
            assert_eq!(refusal(text), ParametersMalformed::Encoding, "{text:?}");
        }
        assert_eq!(refusal(b"a=\xff"), ParametersMalformed::Encoding);
        assert_eq!(refusal(b"a=%c0%ae"), ParametersMalformed::Encoding, "overlong UTF-8");
    }

    #[test]
    fn a_nul_is_refused() {
        assert_eq!(refusal(b"a=x%00y"), ParametersMalformed::Nul);
        assert_eq!(refusal(b"a\0=x"), ParametersMalformed::Nul);
    }

    #[test]
    fn a_doubled_name_is_refused() {
        for text in [&b"a=1&a=2"[..], b"a=1&a=1", b"a=&a=1", b"a&a", b"=&="] {
            assert!(matches!(refusal(text), ParametersMalformed::Doubled(_)), "{text:?}");
        }
        let long = format!("{0}=1&{0}=2", "a%0a".repeat(300));
        let ParametersMalformed::Doubled(name) = refusal(long.as_bytes()) else { panic!() };
        assert!(name.len() <= crate::audit::MAX_TEXT && !name.contains('\n'));
    }

    #[test]
    fn too_many_and_too_long_are_refused() {
        let names = |count: usize| {
            (0..count).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&").into_bytes()
        };
        assert!(Parameters::parse(&names(MAX_PARAMETERS)).is_ok());
        assert_eq!(refusal(&names(MAX_PARAMETERS + 1)), ParametersMalformed::TooLarge);
        let mut long = b"a=".to_vec();
        long.resize(MAX_FORM_BYTES, b'x');
        assert!(Parameters::parse(&long).is_ok());
        long.push(b'x');
        assert_eq!(refusal(&long), ParametersMalformed::TooLarge);
    }

    #[test]
    fn debug_shows_no_value() {
        let parameters = Parameters::parse(b"password=hunter2").unwrap();
        assert_eq!(format!("{parameters:?}"), r#"["password"]"#);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(value in "[^\0]{0,60}") {
            let text = format!("v={}", form_encode(&value));
            let parameters = Parameters::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(parameters.iter().next(), Some(("v", value.as_str())));
        }

        #[test]
        fn decoding_never_panics(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Parameters::parse(&text);
        }
    }
}
