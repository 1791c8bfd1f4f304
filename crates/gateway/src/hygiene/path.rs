//! The path as sent is the path decided on and the path forwarded: so it must have one reading only.
//!
//! Refuses every spelling that some upstream reads as another path. Changes nothing, decodes
//! nothing, matches nothing.

use super::fault::HygieneFault;
use super::override_scan::OverrideScan;

/// Longest path with its query.
pub(crate) const MAX_TARGET_BYTES: usize = 8 * 1024;

/// What a raw byte of a path means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Itself.
    Plain,
    Slash,
    Percent,
    Dot,
    Refused(HygieneFault),
}

static CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut table = [Class::Refused(HygieneFault::PathByte); 256];
    let mut byte = 0;
    while byte < 256 {
        if let Some(slot) = table.as_mut_slice().split_at_mut(byte).1.first_mut() {
            *slot = class(byte as u8);
        }
        byte += 1;
    }
    table
}

const fn class(byte: u8) -> Class {
    match byte {
        b'/' => Class::Slash,
        b'%' => Class::Percent,
        b'.' => Class::Dot,
        // RFC 3986 §3.3: pchar = unreserved / pct-encoded / sub-delims / ":" / "@"
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => Class::Plain,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => {
            Class::Plain
        }
        // Servlet containers cut `;…` off before they map a path, so `/admin;x` is `/admin` there.
        b';' => Class::Refused(HygieneFault::PathParameter),
        // The WHATWG URL parser and IIS read `\` as `/`.
        b'\\' => Class::Refused(HygieneFault::PathBackslash),
        0x80.. => Class::Refused(HygieneFault::PathNotAscii),
        _ => Class::Refused(HygieneFault::PathByte),
    }
}

/// Whether a path is canonical.
///
/// # Errors
/// The first rule that it breaks, left to right.
pub(crate) fn judge(path: &str) -> Result<(), HygieneFault> {
    let bytes = path.as_bytes();
    match bytes {
        [b'*'] => return Err(HygieneFault::PathAsterisk),
        [b'/', ..] => {}
        // RFC 9113 §8.3.1: `:path` must start with `/`
        _ => return Err(HygieneFault::PathEmpty),
    }
    let mut scan = Scan::default();
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match CLASSES.get(usize::from(*byte)).copied().unwrap_or(Class::Plain) {
            Class::Plain => scan.segment = Segment::Other,
            Class::Dot => scan.segment = scan.segment.with_dot(),
            Class::Slash => {
                if scan.segment == Segment::Empty {
                    return Err(HygieneFault::PathEmptySegment);
                }
                scan.end_segment()?;
            }
            Class::Percent => {
                scan.escape(bytes.get(at + 1..).unwrap_or_default())?;
                at += 2;
            }
            Class::Refused(fault) => return Err(fault),
        }
        at += 1;
    }
    scan.end_segment()?;
    if let Some(fault) = scan.needless {
        return Err(fault);
    }
    if scan.above_ascii && std::str::from_utf8(&decoded(bytes)).is_err() {
        // RFC 3629 §3: overlong forms (`%c0%ae` for `.`) are not UTF-8
        return Err(HygieneFault::PathNotUtf8);
    }
    Ok(())
}

#[derive(Default)]
struct Scan {
    segment: Segment,
    /// Told only at the end, so that an encoded dot segment is called what it is.
    needless: Option<HygieneFault>,
    above_ascii: bool,
}

/// What the segment being read decodes to so far.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Segment {
    #[default]
    Empty,
    Dot,
    DotDot,
    Other,
}

impl Segment {
    fn with_dot(self) -> Segment {
        match self {
            Segment::Empty => Segment::Dot,
            Segment::Dot => Segment::DotDot,
            Segment::DotDot | Segment::Other => Segment::Other,
        }
    }
}

impl Scan {
    fn end_segment(&mut self) -> Result<(), HygieneFault> {
        match std::mem::take(&mut self.segment) {
            // RFC 3986 §6.2.2.3: dot segments are to be removed by the client, never here
            Segment::Dot | Segment::DotDot => Err(HygieneFault::PathDotSegment),
            Segment::Empty | Segment::Other => Ok(()),
        }
    }

    /// Judges one escape by the bytes behind its `%`.
    fn escape(&mut self, rest: &[u8]) -> Result<(), HygieneFault> {
        let byte = match rest {
            [high, low, ..] => hex(*high, *low).ok_or(HygieneFault::PathEscapeMalformed)?,
            _ => return Err(HygieneFault::PathEscapeMalformed),
        };
        match byte {
            b'/' | b'\\' => return Err(HygieneFault::PathEncodedSeparator),
            0..=0x1f | 0x7f => return Err(HygieneFault::PathControl),
            // `%252e` is `%2e` after the first decoding and `.` after the second
            b'%' if matches!(rest.get(2..4), Some([high, low]) if hex(*high, *low).is_some()) => {
                return Err(HygieneFault::PathEscapeDouble);
            }
            b'.' => {
                self.segment = self.segment.with_dot();
                self.needless = Some(HygieneFault::PathEscapeNeedless);
                return Ok(());
            }
            // RFC 3986 §6.2.2.2: equal to the bare character, so a second spelling of the same path
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                self.needless = Some(HygieneFault::PathEscapeNeedless);
            }
            0x80.. => self.above_ascii = true,
            _ => {}
        }
        self.segment = Segment::Other;
        Ok(())
    }
}

/// Whether a query may pass: it takes no part in any match, so only its bytes are judged, and that
/// it does not turn one method into another.
///
/// # Errors
/// The rule that it breaks.
pub(crate) fn judge_query(query: &str) -> Result<(), HygieneFault> {
    if !query.bytes().fold(true, |fits, byte| fits & byte.is_ascii_graphic()) {
        return Err(HygieneFault::QueryByte);
    }
    let mut scan = OverrideScan::new();
    if scan.finds(query.as_bytes()) || scan.ends_found() {
        return Err(HygieneFault::MethodOverrideInQuery);
    }
    Ok(())
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// Percent-decoded; a malformed escape stays as it is.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let escape = match rest {
            [b'%', high, low, ..] => hex(*high, *low),
            _ => None,
        };
        out.push(escape.unwrap_or(*first));
        rest = if escape.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::HygieneFault::*;
    use super::*;

    #[test]
    fn canonical_paths_pass() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.json",
            "/.well-known/jwks",
            "/a..b",
            "/...",
            "/a.",
            "/.a",
            "/accounts/a1:close",
            "/a/%20b",
            "/a/%E2%82%AC",
            "/a/%e2%82%ac",
            "/100%25",
            "/100%25x",
            "/a/%40me",
            "/a+b,c=d&e",
            "/~user",
            "/a/%3B",
            "/a/%7B",
            "/x/%25%20",
        ] {
            assert_eq!(judge(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn refusals() {
        let cases: &[(&str, HygieneFault)] = &[
            ("", PathEmpty),
            ("a", PathEmpty),
            ("?q", PathEmpty),
            ("*", PathAsterisk),
            ("/.", PathDotSegment),
            ("/..", PathDotSegment),
            ("/./a", PathDotSegment),
            ("/public/../admin", PathDotSegment),
            ("/public/..", PathDotSegment),
            ("/public/%2e%2e/admin", PathDotSegment),
            ("/public/%2E%2E/admin", PathDotSegment),
            ("/public/.%2e/admin", PathDotSegment),
            ("/public/%2e./admin", PathDotSegment),
            ("/public/%2e", PathDotSegment),
            ("//admin", PathEmptySegment),
            ("/a//b", PathEmptySegment),
            ("/a//", PathEmptySegment),
            ("/a\\b", PathBackslash),
            ("/..\\admin", PathBackslash),
            ("/admin;x", PathParameter),
            ("/public/..;/admin", PathParameter),
            ("/admin%2Fusers", PathEncodedSeparator),
            ("/admin%2fusers", PathEncodedSeparator),
            ("/api%2f", PathEncodedSeparator),
            ("/a%5cb", PathEncodedSeparator),
            ("/a%5Cb", PathEncodedSeparator),
            ("/a%00", PathControl),
            ("/a%0d%0aX:y", PathControl),
            ("/a%7f", PathControl),
            ("/é", PathNotAscii),
            ("/a b", PathByte),
            ("/a[1]", PathByte),
            ("/a{b}", PathByte),
            ("/a|b", PathByte),
            ("/a^b", PathByte),
            ("/a<b", PathByte),
            ("/a\"b", PathByte),
            ("/a#b", PathByte),
            ("/a\tb", PathByte),
            ("/a%", PathEscapeMalformed),
            ("/a%2", PathEscapeMalformed),
            ("/a%zz", PathEscapeMalformed),
            ("/a%+2", PathEscapeMalformed),
            ("/a%u002e", PathEscapeMalformed),
            ("/%252e%252e/admin", PathEscapeDouble),
            ("/a%252fb", PathEscapeDouble),
            ("/a%2525", PathEscapeDouble),
            ("/%61dmin", PathEscapeNeedless),
            ("/a%2eb", PathEscapeNeedless),
            ("/a%2D", PathEscapeNeedless),
            ("/%c0%ae%c0%ae/admin", PathNotUtf8),
            ("/%ff", PathNotUtf8),
            ("/%e2%82", PathNotUtf8),
            ("/%ed%a0%80", PathNotUtf8),
        ];
        for (path, fault) in cases {
            assert_eq!(judge(path), Err(*fault), "{path}");
        }
    }

    #[test]
    fn a_megabyte_is_judged_in_one_pass() {
        // The target's limit stands before this; what matters is that no path costs more than its
        // length.
        assert_eq!(judge(&format!("/{}", "a".repeat(1 << 20))), Ok(()));
        assert_eq!(judge(&"/a".repeat(1 << 19)), Ok(()));
    }

    #[test]
    fn method_override_in_query() {
        for query in [
            "_method=DELETE",
            "a=1&_method=PUT",
            "_METHOD=x",
            "%5fmethod=x",
            "_method",
            "a;_method=b",
            "_method[]=x",
        ] {
            assert_eq!(judge_query(query), Err(MethodOverrideInQuery), "{query}");
        }
        for query in
            ["", "a=1&b=2", "method=DELETE", "x=_method", "x_method=1", "filter[a]=b", "q=100%"]
        {
            assert_eq!(judge_query(query), Ok(()), "{query}");
        }
    }

    #[test]
    fn query_byte() {
        for query in ["é", "a b", "a\u{7f}"] {
            assert_eq!(judge_query(query), Err(QueryByte), "{query}");
        }
    }

    proptest::proptest! {
        /// What passes has one reading: decoding it never yields a separator, a control or a dot
        /// segment, and decoding it again changes nothing but what stood as `%25`.
        #[test]
        fn what_passes_has_one_reading(path in "/([a-c./%;]|%[0-9a-f]{2}|%25){0,12}") {
            if judge(&path).is_ok() {
                let once = String::from_utf8(decoded(path.as_bytes())).unwrap();
                proptest::prop_assert!(!once.contains("//") && !once.contains('\\'));
                proptest::prop_assert_eq!(once.matches('/').count(), path.matches('/').count());
                proptest::prop_assert!(once.split('/').all(|s| s != "." && s != ".."));
                proptest::prop_assert!(!once.chars().any(char::is_control) || path.contains("%c2"));
                let twice = decoded(once.as_bytes());
                proptest::prop_assert!(twice == once.as_bytes());
            }
        }
    }
}
