//! One head, line by line: the request line, then fields until the blank line.
//!
//! Each line is judged as soon as its bytes are there, left to right, so that the first fault in the
//! stream is the one found, however the stream is cut.

use super::fault::WireFault;
use super::framing::{self, Facts, Framing, Version};
use super::scan::{self, Line};
use super::{MAX_FIELDS, MAX_HEAD_BYTES, MAX_TARGET_BYTES};
use crate::hygiene::authority;

/// The scan of one head, between calls.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    /// Where the line stands that is not yet judged.
    at: usize,
    next: Next,
    facts: Facts,
}

#[derive(Debug, Default, Clone, Copy)]
enum Next {
    #[default]
    Start,
    RequestLine,
    Field,
}

/// What a look at a head came to.
#[derive(Debug)]
pub(crate) enum HeadStep {
    Complete(usize, Framing),
    Incomplete,
    Refused(WireFault),
}

/// What a look at a line came to: where the next one starts.
enum LineStep {
    Next(usize),
    Last(usize),
    Incomplete,
}

impl HeadScan {
    /// Looks at a head from its first byte; lines judged in an earlier call are skipped.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> HeadStep {
        let window = bytes.get(..MAX_HEAD_BYTES).unwrap_or(bytes);
        loop {
            let step = match self.next {
                Next::Start => Ok(self.start(window)),
                Next::RequestLine => self.request_line(window),
                Next::Field => self.field(window),
            };
            match step {
                Ok(LineStep::Next(at)) => self.at = at,
                Ok(LineStep::Last(end)) => {
                    return match self.facts.framing(window) {
                        Ok(framing) => HeadStep::Complete(end, framing),
                        Err(fault) => HeadStep::Refused(fault),
                    };
                }
                Ok(LineStep::Incomplete) if bytes.len() >= MAX_HEAD_BYTES => {
                    return HeadStep::Refused(WireFault::HeadTooLarge);
                }
                Ok(LineStep::Incomplete) => return HeadStep::Incomplete,
                Err(fault) => return HeadStep::Refused(fault),
            }
        }
    }

    /// RFC 9112 §2.2: a server SHOULD ignore at least one empty line before a request line. One.
    fn start(&mut self, head: &[u8]) -> LineStep {
        let skip = match head {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] => return LineStep::Incomplete,
            _ => 0,
        };
        self.next = Next::RequestLine;
        LineStep::Next(skip)
    }

    /// RFC 9112 §3: method SP request-target SP HTTP-version.
    fn request_line(&mut self, head: &[u8]) -> Result<LineStep, WireFault> {
        let Some(method_end) = method(head, self.at)? else { return Ok(LineStep::Incomplete) };
        let target_at = method_end + 1;
        let Some(target_end) = self.target(head, target_at)? else {
            return Ok(LineStep::Incomplete);
        };
        let version_at = target_end + 1;
        let Some(next) = self.version(head, version_at)? else { return Ok(LineStep::Incomplete) };
        self.next = Next::Field;
        Ok(LineStep::Next(next))
    }

    fn target(&mut self, head: &[u8], at: usize) -> Result<Option<usize>, WireFault> {
        let end = scan::target(head, at);
        if end - at > MAX_TARGET_BYTES {
            return Err(WireFault::TargetTooLong);
        }
        match head.get(end) {
            None => return Ok(None),
            Some(b' ') => {}
            // RFC 9112 §3.2: no fragment in a request-target; dropping it would hide what was asked
            Some(b'#') => return Err(WireFault::TargetFragment),
            Some(byte) => return Err(odd_byte(*byte, WireFault::TargetByte)),
        }
        let target = head.get(at..end).unwrap_or_default();
        match target {
            [b'/', ..] => {}
            [] => return Err(WireFault::RequestLineMalformed),
            _ => {
                let scheme = scheme_length(target).ok_or(WireFault::TargetForm)?;
                let rest = target.get(scheme..).unwrap_or_default();
                let length = rest.iter().position(|b| matches!(b, b'/' | b'?'));
                let length = length.unwrap_or(rest.len());
                let authority = rest.get(..length).unwrap_or_default();
                authority::read(authority).map_err(|_| WireFault::HostMalformed)?;
                if rest.get(length) != Some(&b'/') {
                    return Err(WireFault::TargetPathEmpty);
                }
                self.facts.absolute = Some(at + scheme..at + scheme + length);
            }
        }
        Ok(Some(end))
    }

    /// RFC 9112 §2.3: `HTTP/` DIGIT `.` DIGIT, in upper case, and nothing behind it.
    fn version(&mut self, head: &[u8], at: usize) -> Result<Option<usize>, WireFault> {
        const SHAPE: &[u8] = b"HTTP/0.0";
        let rest = head.get(at..).unwrap_or_default();
        for (byte, shape) in rest.iter().zip(SHAPE) {
            let fits = if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
            if !fits {
                return Err(odd_byte(*byte, WireFault::RequestLineMalformed));
            }
        }
        self.facts.version = match rest.get(..SHAPE.len()) {
            None => return Ok(None),
            Some(b"HTTP/1.1") => Version::Http11,
            Some(b"HTTP/1.0") => Version::Http10,
            Some(_) => return Err(WireFault::VersionNotServed),
        };
        match rest.get(SHAPE.len()) {
            None => Ok(None),
            Some(b'\r') => match scan::line_end(head, at + SHAPE.len()) {
                Line::Ends(end) => Ok(Some(end + 2)),
                Line::Incomplete => Ok(None),
                Line::Refused(fault) => Err(fault),
            },
            Some(byte) => Err(odd_byte(*byte, WireFault::RequestLineMalformed)),
        }
    }

    /// RFC 9112 §5: field-name ":" OWS field-value OWS, or the blank line.
    #[inline]
    fn field(&mut self, head: &[u8]) -> Result<LineStep, WireFault> {
        let at = self.at;
        let (name_end, underscore) = scan::token(head, at);
        match head.get(name_end) {
            None => return Ok(LineStep::Incomplete),
            Some(b':') if name_end > at => {}
            Some(b'\r') if name_end == at => {
                return match scan::line_end(head, at) {
                    Line::Ends(end) => Ok(LineStep::Last(end + 2)),
                    Line::Incomplete => Ok(LineStep::Incomplete),
                    Line::Refused(fault) => Err(fault),
                };
            }
            // RFC 9112 §5.2: a sender MUST NOT fold; a server refuses with 400
            Some(b' ' | b'\t') if name_end == at => return Err(WireFault::FoldedLine),
            // RFC 9112 §5.1: white space before the colon MUST be refused with 400
            Some(b' ' | b'\t') => return Err(WireFault::FieldNameSpace),
            Some(byte) => return Err(odd_byte(*byte, WireFault::FieldNameMalformed)),
        }
        let value_at = name_end + 1;
        let value_end = match scan::value(head, value_at) {
            Line::Ends(end) => end,
            Line::Incomplete => return Ok(LineStep::Incomplete),
            Line::Refused(fault) => return Err(fault),
        };
        self.facts.fields += 1;
        if self.facts.fields > MAX_FIELDS {
            return Err(WireFault::FieldsTooMany);
        }
        if underscore && framing::disguised(head.get(at..name_end).unwrap_or_default()) {
            return Err(WireFault::FramingUnderscore);
        }
        self.facts.field(head, at..name_end, value_at..value_end)?;
        Ok(LineStep::Next(value_end + 2))
    }
}

/// RFC 9110 §9.1: methods are case-sensitive; the known ones are upper case. Where the method ends.
fn method(head: &[u8], at: usize) -> Result<Option<usize>, WireFault> {
    // `PROPPATCH` would be the longest registered one that anyone sends
    const MAX_METHOD_BYTES: usize = 16;
    let rest = head.get(at..).unwrap_or_default();
    let length = rest.iter().position(|b| !b.is_ascii_uppercase()).unwrap_or(rest.len());
    if length > MAX_METHOD_BYTES {
        return Err(WireFault::MethodNotServed);
    }
    match rest.get(length) {
        None => Ok(None),
        Some(b' ') if length > 0 => match rest.get(..length) {
            Some(b"GET" | b"HEAD" | b"POST" | b"PUT" | b"PATCH" | b"DELETE" | b"OPTIONS") => {
                Ok(Some(at + length))
            }
            _ => Err(WireFault::MethodNotServed),
        },
        Some(b'a'..=b'z') => Err(WireFault::MethodLowerCase),
        Some(byte) => Err(odd_byte(*byte, WireFault::RequestLineMalformed)),
    }
}

/// The length of `http://` or `https://`.
fn scheme_length(target: &[u8]) -> Option<usize> {
    let starts = |scheme: &[u8]| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    match (starts(b"http://"), starts(b"https://")) {
        (true, _) => Some(7),
        (false, true) => Some(8),
        (false, false) => None,
    }
}

/// What a byte outside of its place is: a line that ends wrongly, a NUL, or `otherwise`.
pub(super) fn odd_byte(byte: u8, otherwise: WireFault) -> WireFault {
    match byte {
        b'\n' => WireFault::BareLf,
        0 => WireFault::NulByte,
        _ => otherwise,
    }
}
