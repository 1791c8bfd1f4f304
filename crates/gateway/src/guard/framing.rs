//! What the fields of a head say about where its body ends, who it is for and what it expects.
//!
//! Collects while the head is scanned line by line, and judges the whole once at its end.

use std::ops::Range;

use super::fault::WireFault;
use super::scan;

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks until the last.
    Chunked,
}

/// The version of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Version {
    #[default]
    Http11,
    Http10,
}

/// What the lines of one head have said so far. Ranges are offsets into the head.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) version: Version,
    pub(crate) fields: usize,
    /// The authority of an absolute-form target.
    pub(crate) absolute: Option<Range<usize>>,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    expects: bool,
}

impl Facts {
    /// Takes in one field line.
    #[inline]
    pub(crate) fn field(
        &mut self,
        head: &[u8],
        name: Range<usize>,
        value: Range<usize>,
    ) -> Result<(), WireFault> {
        let text = head.get(name).unwrap_or_default();
        // One look at the length decides for nearly every field that it is none of ours.
        match text.len() {
            4 if text.eq_ignore_ascii_case(b"host") => self.host(head, value),
            6 if text.eq_ignore_ascii_case(b"expect") => self.expect(trimmed(head, value)),
            // RFC 9110 §7.8: an upgrade turns the connection into another protocol, which no line
            // streams yet; ignoring it would leave the client's next bytes to be read as HTTP
            7 if text.eq_ignore_ascii_case(b"upgrade") => Err(WireFault::UpgradeNotServed),
            14 if text.eq_ignore_ascii_case(b"content-length") => self.length(trimmed(head, value)),
            17 if text.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.coding(trimmed(head, value))
            }
            _ => Ok(()),
        }
    }

    /// Judges the head as a whole.
    pub(crate) fn framing(&self, head: &[u8]) -> Result<Framing, WireFault> {
        // RFC 9112 §3.2: a server MUST answer 400 to a request without Host; here HTTP/1.0 too
        let host = self.host.clone().ok_or(WireFault::HostMissing)?;
        if let Some(absolute) = self.absolute.clone() {
            let (absolute, host) = (head.get(absolute), head.get(host).unwrap_or_default());
            // RFC 9112 §3.2: Host MUST be identical to the authority of an absolute form
            if !absolute.is_some_and(|absolute| absolute.eq_ignore_ascii_case(host)) {
                return Err(WireFault::HostDiffers);
            }
        }
        match (self.length, self.chunked, self.version) {
            // RFC 9112 §6.1: a Transfer-Encoding in HTTP/1.0 is faulty framing
            (_, true, Version::Http10) => Err(WireFault::CodingInOldVersion),
            // RFC 9112 §6.1: both together ought to be handled as an error
            (Some(_), true, Version::Http11) => Err(WireFault::LengthWithCoding),
            (None, true, Version::Http11) => Ok(Framing::Chunked),
            (Some(length), false, Version::Http10 | Version::Http11) => Ok(Framing::Length(length)),
            (None, false, Version::Http10 | Version::Http11) => Ok(Framing::None),
        }
    }

    fn host(&mut self, head: &[u8], value: Range<usize>) -> Result<(), WireFault> {
        // RFC 9112 §3.2: more than one Host is 400, even when they agree
        if self.host.is_some() {
            return Err(WireFault::HostTwice);
        }
        let start = value.start;
        let text = trimmed(head, value.clone());
        let before = head.get(value).unwrap_or_default().iter();
        let start = start + before.take_while(|b| matches!(b, b' ' | b'\t')).count();
        // RFC 9110 §7.2: uri-host [ ":" port ]; user info, lists and escapes have no place in it
        let fits = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:[]".contains(b);
        if text.is_empty() || !text.iter().all(fits) {
            return Err(WireFault::HostMalformed);
        }
        self.host = Some(start..start + text.len());
        Ok(())
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), WireFault> {
        // RFC 9110 §10.1.1: the only expectation is 100-continue; 417 for others
        if self.expects || !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(WireFault::ExpectNotServed);
        }
        self.expects = true;
        Ok(())
    }

    fn length(&mut self, value: &[u8]) -> Result<(), WireFault> {
        // RFC 9112 §6.3: several values are unrecoverable; here also when they agree
        if self.length.is_some() {
            return Err(WireFault::LengthTwice);
        }
        self.length = Some(decimal(value).ok_or(WireFault::LengthMalformed)?);
        Ok(())
    }

    fn coding(&mut self, value: &[u8]) -> Result<(), WireFault> {
        if self.chunked {
            return Err(WireFault::CodingTwice);
        }
        // RFC 9112 §6.1: codings that the server does not understand are refused; ours is one
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(WireFault::CodingNotServed);
        }
        self.chunked = true;
        Ok(())
    }
}

/// A framing field in a spelling that some upstreams fold to the real one (CGI and WSGI turn `-`
/// into `_`, and so lose the difference).
pub(crate) fn disguised(name: &[u8]) -> bool {
    const FRAMING: [&[u8]; 4] = [b"transfer-encoding", b"content-length", b"host", b"connection"];
    FRAMING.iter().any(|real| {
        real.len() == name.len()
            && real
                .iter()
                .zip(name)
                .all(|(r, n)| n.eq_ignore_ascii_case(r) || (*r == b'-' && *n == b'_'))
    })
}

/// 1*DIGIT (RFC 9110 §8.6) of at most 18 digits, and no leading zero: nobody writes one, and some
/// read it as octal.
fn decimal(value: &[u8]) -> Option<u64> {
    const MAX_DIGITS: usize = 18;
    match value {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if value.len() <= MAX_DIGITS => value
            .iter()
            .try_fold(0u64, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u64::from(b - b'0'))),
        _ => None,
    }
}

fn trimmed(head: &[u8], value: Range<usize>) -> &[u8] {
    scan::trimmed(head.get(value).unwrap_or_default())
}
