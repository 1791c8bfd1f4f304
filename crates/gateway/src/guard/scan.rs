//! The bytes of a line: what a token, a value and a target may hold, and how a line ends.
//!
//! The hot loop of the guard: values are scanned eight bytes at a time.

use super::fault::WireFault;

/// How the scan of one line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// The value ends here (exclusive), and CRLF follows.
    Ends(usize),
    /// The bytes end before the line does.
    Incomplete,
    /// A byte that no line holds.
    Refused(WireFault),
}

/// Scans from `at` to the CRLF, allowing what a field value allows: VCHAR, obs-text, SP and HTAB
/// (RFC 9110 §5.5).
#[inline]
pub(crate) fn value(bytes: &[u8], at: usize) -> Line {
    let mut at = at;
    loop {
        at = plain(bytes, at);
        match bytes.get(at) {
            None => return Line::Incomplete,
            Some(b'\t') => at += 1,
            Some(b'\r') => return line_end(bytes, at),
            // RFC 9112 §2.2: a recipient MAY read a bare LF as a line's end; this one does not
            Some(b'\n') => return Line::Refused(WireFault::BareLf),
            Some(0) => return Line::Refused(WireFault::NulByte),
            Some(_) => return Line::Refused(WireFault::ControlByte),
        }
    }
}

/// Judges the CR at `at`.
#[inline]
pub(crate) fn line_end(bytes: &[u8], at: usize) -> Line {
    match bytes.get(at + 1) {
        Some(b'\n') => Line::Ends(at),
        // RFC 9112 §2.2: a bare CR makes the element invalid
        Some(_) => Line::Refused(WireFault::BareCr),
        None => Line::Incomplete,
    }
}

/// The first byte at or after `at` that is a control byte (below SP, or DEL).
#[inline]
fn plain(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let (words, tail) = rest.as_chunks::<8>();
    let mut clean = at;
    for word in words {
        let found = controls(u64::from_le_bytes(*word));
        if found != 0 {
            return clean + (found.trailing_zeros() / 8) as usize;
        }
        clean += 8;
    }
    clean + tail.iter().position(|b| *b < b' ' || *b == 0x7f).unwrap_or(tail.len())
}

/// The high bit of the first byte of eight that is a control byte; bits above it mean nothing
/// (Mycroft's test, one subtraction for eight comparisons).
#[inline]
fn controls(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let delete = word ^ (ONES * 0x7f);
    (below_space | (delete.wrapping_sub(ONES) & !delete)) & HIGHS
}

/// Classes of bytes, as bits.
const TOKEN: u8 = 1;
const UNDERSCORE: u8 = 2;
const TARGET: u8 = 4;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let mut class = 0;
        // RFC 9110 §5.6.2: tchar
        if b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
            || matches!(b, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
        {
            class |= TOKEN;
        }
        if b == b'_' {
            class |= UNDERSCORE;
        }
        // RFC 3986 §2 allows less; `hygiene` narrows the path further. What stands here is what
        // browsers send raw in a query, without the delimiters of a URI in text.
        if b.is_ascii_graphic() && !matches!(b, b'#' | b'<' | b'>' | b'"' | b'`') {
            class |= TARGET;
        }
        if let Some(slot) = table.as_mut_slice().split_at_mut(byte).1.first_mut() {
            *slot = class;
        }
        byte += 1;
    }
    table
}

#[inline]
fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Where the token that starts at `at` ends, and whether it holds an underscore.
#[inline]
pub(crate) fn token(bytes: &[u8], at: usize) -> (usize, bool) {
    let mut seen = 0;
    let mut end = at;
    for byte in bytes.get(at..).unwrap_or_default() {
        let class = class(*byte);
        if class & TOKEN == 0 {
            break;
        }
        seen |= class;
        end += 1;
    }
    (end, seen & UNDERSCORE != 0)
}

/// Where the target that starts at `at` ends.
#[inline]
pub(crate) fn target(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| class(*byte) & TARGET == 0).unwrap_or(rest.len())
}

/// A field's value without the optional white space around it (RFC 9110 §5.6.3).
pub(crate) fn trimmed(value: &[u8]) -> &[u8] {
    let start = value.iter().position(|b| !matches!(b, b' ' | b'\t')).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(start, |at| at + 1);
    value.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_control_byte_is_found_wherever_it_stands() {
        for length in 0..40 {
            for at in 0..length {
                for control in [0, b'\t', b'\n', b'\r', 0x1f, 0x7f] {
                    // Neighbours at the edges of the ranges, which a borrow could disturb.
                    for other in [b' ', b'!', b'~', 0x80, 0xff] {
                        let mut bytes = vec![other; length];
                        bytes[at] = control;
                        assert_eq!(plain(&bytes, 0), at);
                        bytes[length - 1] = control;
                        assert_eq!(plain(&bytes, 0), at);
                    }
                }
            }
            assert_eq!(plain(&vec![0x80; length], 0), length);
        }
    }

    #[test]
    fn white_space_around_a_value_is_optional() {
        for (value, bare) in [("", ""), (" ", ""), (" a", "a"), ("\ta b \t", "a b"), ("a", "a")] {
            assert_eq!(trimmed(value.as_bytes()), bare.as_bytes());
        }
    }
}
