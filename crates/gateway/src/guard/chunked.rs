//! A chunked body (RFC 9112 §7.1): sizes, data, trailers; where it ends.
//!
//! Data passes as it comes. A size line and the trailers are judged whole, so they are held until
//! they are complete; both are short.

use super::fault::WireFault;
use super::head::odd_byte;
use super::scan::{self, Line};
use crate::hygiene::fields;

/// Longest chunk extension, its `;` included.
const MAX_EXTENSION_BYTES: usize = 256;
/// Most hexadecimal digits of a chunk's size: 2^60 bytes are more than anyone sends.
const MAX_SIZE_DIGITS: usize = 15;
/// Longest trailer section, its blank line included.
const MAX_TRAILER_BYTES: usize = 8 * 1024;
/// Most trailers.
const MAX_TRAILERS: usize = 32;

/// Where in a chunked body the next byte stands.
#[derive(Debug, Default)]
pub(crate) enum Chunks {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    /// Offset of the line not yet judged, and how many were.
    Trailers(usize, usize),
}

/// What a look at a chunked body came to.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// So many bytes are well.
    Passed(usize),
    /// So many bytes, and the body ends with them.
    Ended(usize),
    Incomplete,
    Refused(WireFault),
}

impl Chunks {
    /// Looks at the next bytes; `bytes` is not empty.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Chunk {
        match self {
            Chunks::Size => match size_line(bytes) {
                Ok(Some((length, 0))) => {
                    *self = Chunks::Trailers(0, 0);
                    Chunk::Passed(length)
                }
                Ok(Some((length, size))) => {
                    *self = Chunks::Data(size);
                    Chunk::Passed(length)
                }
                Ok(None) => Chunk::Incomplete,
                Err(fault) => Chunk::Refused(fault),
            },
            Chunks::Data(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                if *left == 0 {
                    *self = Chunks::DataEnd;
                }
                Chunk::Passed(taken)
            }
            Chunks::DataEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    *self = Chunks::Size;
                    Chunk::Passed(2)
                }
                [b'\r'] => Chunk::Incomplete,
                // RFC 9112 §7.1: chunk-data is followed by CRLF, and by nothing else
                [_, ..] | [] => Chunk::Refused(WireFault::ChunkEndMissing),
            },
            Chunks::Trailers(at, count) => match trailers(bytes, at, count) {
                Ok(Some(length)) => Chunk::Ended(length),
                Ok(None) => Chunk::Incomplete,
                Err(fault) => Chunk::Refused(fault),
            },
        }
    }
}

/// chunk-size [ chunk-ext ] CRLF: the line's length and the size. White space before the extension
/// is refused although RFC 9112 §7.1.1 tolerates it: readers differ about what it ends.
fn size_line(bytes: &[u8]) -> Result<Option<(usize, u64)>, WireFault> {
    let digits = bytes.iter().take(MAX_SIZE_DIGITS).take_while(|b| b.is_ascii_hexdigit()).count();
    let size = bytes.iter().take(digits).fold(0u64, |size, byte| {
        let digit = char::from(*byte).to_digit(16).unwrap_or_default();
        (size << 4) | u64::from(digit)
    });
    let window = bytes.get(..digits + MAX_EXTENSION_BYTES + 2).unwrap_or(bytes);
    let line = match window.get(digits) {
        None => return Ok(None),
        Some(b'\r') if digits > 0 => scan::line_end(window, digits),
        Some(b';') if digits > 0 => scan::value(window, digits),
        Some(byte) => return Err(odd_byte(*byte, WireFault::ChunkSizeMalformed)),
    };
    match line {
        Line::Ends(end) => Ok(Some((end + 2, size))),
        Line::Incomplete if window.len() == digits + MAX_EXTENSION_BYTES + 2 => {
            Err(WireFault::ChunkExtensionTooLong)
        }
        Line::Incomplete => Ok(None),
        Line::Refused(fault) => Err(fault),
    }
}

/// The trailer section with its blank line; `at` and `count` remember the lines already judged.
fn trailers(bytes: &[u8], at: &mut usize, count: &mut usize) -> Result<Option<usize>, WireFault> {
    let window = bytes.get(..MAX_TRAILER_BYTES).unwrap_or(bytes);
    loop {
        let line = trailer(window, *at)?;
        match line {
            Line::Ends(end) if end == *at => return Ok(Some(end + 2)),
            Line::Ends(end) => {
                *at = end + 2;
                *count += 1;
                if *count > MAX_TRAILERS {
                    return Err(WireFault::TrailersTooLarge);
                }
            }
            Line::Incomplete if bytes.len() >= MAX_TRAILER_BYTES => {
                return Err(WireFault::TrailersTooLarge);
            }
            Line::Incomplete => return Ok(None),
            Line::Refused(fault) => return Err(fault),
        }
    }
}

/// One trailer line, or the blank one (which ends where it starts).
fn trailer(window: &[u8], at: usize) -> Result<Line, WireFault> {
    let (name_end, _) = scan::token(window, at);
    match window.get(name_end) {
        None => return Ok(Line::Incomplete),
        Some(b'\r') if name_end == at => return Ok(scan::line_end(window, at)),
        Some(b':') if name_end > at => {}
        Some(b' ' | b'\t') if name_end == at => return Err(WireFault::FoldedLine),
        Some(b' ' | b'\t') => return Err(WireFault::FieldNameSpace),
        Some(byte) => return Err(odd_byte(*byte, WireFault::FieldNameMalformed)),
    }
    let line = scan::value(window, name_end + 1);
    let name = window.get(at..name_end).unwrap_or_default();
    // RFC 9110 §6.5.1: a trailer never frames, routes, modifies or authenticates
    if matches!(line, Line::Ends(_)) && fields::forbidden_in_trailers(name) {
        return Err(WireFault::TrailerForbidden);
    }
    Ok(line)
}
