//! Path parameters: their types, and their one canonical spelling.
//!
//! A value that could be spelled in two ways is an object that could be judged under one name and
//! served under another; so every other spelling is not found.

use crate::lookalike::nibble;

/// Longest value, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 1024;

/// One `{parameter}` of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// Its name in the line's key.
    pub(crate) name: Box<str>,
    /// Its type by the document, else a string.
    pub(crate) kind: Kind,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any segment.
    Text,
    /// A 64-bit whole number, as `0`, `7`, `-3`; a Cedar Long.
    Integer,
    /// RFC 9562 §4 in lower case; a Cedar String.
    Uuid,
}

/// The value of a segment, or `None` when it is not the canonical spelling of one.
pub(crate) fn decode(raw: &str, kind: Kind) -> Option<String> {
    let value = unescape(raw)?;
    let sound = match kind {
        Kind::Text => {
            !value.is_empty()
                && value.len() <= MAX_VALUE_BYTES
                && value.trim() == value
                && value != "."
                && value != ".."
                && !value.chars().any(|c| c.is_control() || matches!(c, '/' | '\\'))
        }
        // No escape is needed in these, so none is canonical.
        Kind::Integer => value == raw && value.parse::<i64>().is_ok_and(|n| n.to_string() == value),
        Kind::Uuid => value == raw && is_uuid(&value),
    };
    sound.then_some(value)
}

/// Whether a segment that a final `**` passes on is free of what could end up elsewhere.
pub(crate) fn is_harmless(raw: &str) -> bool {
    let lower = raw.to_ascii_lowercase();
    let dots = lower.replace("%2e", ".");
    dots != "."
        && dots != ".."
        && !["%2f", "%5c", "%00", "\\"].iter().any(|bad| lower.contains(bad))
}

/// RFC 3986 §2.1 and §6.2.2: upper-case hexadecimal digits, unreserved characters never escaped.
fn unescape(raw: &str) -> Option<String> {
    if !raw.contains('%') {
        return raw.is_ascii().then(|| raw.to_owned());
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (high, low) = (bytes.next()?, bytes.next()?);
        let is_upper_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'A'..=b'F');
        if !is_upper_hex(high) || !is_upper_hex(low) {
            return None;
        }
        let byte = nibble(high) << 4 | nibble(low);
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            return None;
        }
        out.push(byte);
    }
    String::from_utf8(out).ok().filter(|_| raw.is_ascii())
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(position, byte)| match position {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_one_spelling() {
        let uuid = "0190a0b1-0000-7000-8000-00000000000a";
        for (raw, kind, value) in [
            ("a2", Kind::Text, Some("a2")),
            ("a%20b", Kind::Text, Some("a b")),
            ("caf%C3%A9", Kind::Text, Some("café")),
            ("caf%c3%a9", Kind::Text, None),
            ("%61", Kind::Text, None),
            ("a%20", Kind::Text, None),
            ("%2E%2E", Kind::Text, None),
            ("..", Kind::Text, None),
            ("a%2Fb", Kind::Text, None),
            ("a%5Cb", Kind::Text, None),
            ("a%00", Kind::Text, None),
            ("%FF", Kind::Text, None),
            ("%4", Kind::Text, None),
            ("café", Kind::Text, None),
            ("", Kind::Text, None),
            ("7", Kind::Integer, Some("7")),
            ("-3", Kind::Integer, Some("-3")),
            ("007", Kind::Integer, None),
            ("+7", Kind::Integer, None),
            ("-0", Kind::Integer, None),
            ("7%20", Kind::Integer, None),
            ("%37", Kind::Integer, None),
            ("7.0", Kind::Integer, None),
            ("9223372036854775808", Kind::Integer, None),
            (uuid, Kind::Uuid, Some(uuid)),
            ("0190A0B1-0000-7000-8000-00000000000A", Kind::Uuid, None),
            ("0190a0b1000070008000000000000000000a", Kind::Uuid, None),
        ] {
            assert_eq!(decode(raw, kind).as_deref(), value, "{raw} {kind:?}");
        }
        assert_eq!(decode(&"a".repeat(MAX_VALUE_BYTES + 1), Kind::Text), None);
    }

    #[test]
    fn the_rest_is_harmless_or_not_taken() {
        for good in ["a", "", "a.b", "...", "%20"] {
            assert!(is_harmless(good), "{good}");
        }
        for bad in [".", "..", "%2e%2E", ".%2e", "a%2fb", "a%5Cb", "a\\b", "%00"] {
            assert!(!is_harmless(bad), "{bad}");
        }
    }
}
