//! The wire guard: a strict reader over the bytes of HTTP/1, before any lenient parser.
//!
//! Measured on hyper: it accepts a bare LF, two `Transfer-Encoding` lines, `gzip, chunked`, no
//! `Host` or two, lower-case methods; it silently drops a fragment, and `Content-Length` when
//! `Transfer-Encoding` is present. Two readers that disagree about where a message ends are request
//! smuggling, so this one refuses whatever two readers could read apart.
//!
//! A pure state machine: bytes in, verdict out, no I/O, no allocation. It judges each head
//! ([`head`], [`framing`]), then counts the body ([`chunked`]) to find the next head of the
//! connection. [`crate::wire`] feeds it. It knows nothing of paths, names or rights: that is
//! `hygiene`, which HTTP/2 goes through as well.

pub mod fault;
pub(crate) mod scan;
mod head;
mod framing;
mod chunked;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;

pub use fault::WireFault;

use chunked::Chunks;
use framing::Framing;
use head::{HeadScan, HeadStep};

/// Longest head, request line and blank line included.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Most field lines in a head.
pub const MAX_FIELDS: usize = 100;
/// Longest target.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;

/// The guard of one connection.
#[derive(Debug, Default)]
pub struct Guard {
    phase: Phase,
    heads: u64,
}

/// Where in the stream of messages the next byte stands.
#[derive(Debug)]
enum Phase {
    Head(HeadScan),
    Fixed(u64),
    Chunked(Chunks),
    /// A fault was found: nothing more is judged, and nothing passes.
    Refused,
}

impl Default for Phase {
    fn default() -> Self {
        Phase::Head(HeadScan::default())
    }
}

/// What the guard says of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// How many of the bytes may go on to the parser.
    pub passed: usize,
    /// What of the rest.
    pub verdict: Verdict,
}

/// What of the bytes that did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There are none.
    Passed,
    /// They are the beginning of something judged whole (a head, a chunk's line, trailers): show
    /// them again, with more behind them.
    Held,
    /// The head that starts there is refused.
    HeadRefused(WireFault),
    /// The body that goes on there is refused.
    BodyRefused(WireFault),
}

impl Guard {
    /// Judges the next bytes of the connection. Bytes that did not pass must stand first in the
    /// next call. However the stream is cut into calls, the same bytes pass and the same fault is
    /// found.
    pub fn judge(&mut self, bytes: &[u8]) -> Judged {
        let mut passed = 0;
        loop {
            let rest = bytes.get(passed..).unwrap_or_default();
            if rest.is_empty() {
                return Judged { passed, verdict: Verdict::Passed };
            }
            let step = match &mut self.phase {
                Phase::Head(scan) => match scan.step(rest) {
                    HeadStep::Complete(length, framing) => {
                        self.heads += 1;
                        self.phase = Phase::after_head(framing);
                        Step::On(length)
                    }
                    HeadStep::Incomplete => Step::Stop(Verdict::Held),
                    HeadStep::Refused(fault) => Step::Stop(Verdict::HeadRefused(fault)),
                },
                Phase::Fixed(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        self.phase = Phase::default();
                    }
                    Step::On(taken)
                }
                Phase::Chunked(chunks) => match chunks.step(rest) {
                    chunked::Chunk::Passed(length) => Step::On(length),
                    chunked::Chunk::Ended(length) => {
                        self.phase = Phase::default();
                        Step::On(length)
                    }
                    chunked::Chunk::Incomplete => Step::Stop(Verdict::Held),
                    chunked::Chunk::Refused(fault) => Step::Stop(Verdict::BodyRefused(fault)),
                },
                Phase::Refused => Step::Stop(Verdict::Held),
            };
            match step {
                Step::On(length) => passed += length,
                Step::Stop(verdict) => {
                    if matches!(verdict, Verdict::HeadRefused(_) | Verdict::BodyRefused(_)) {
                        // INVARIANT: after a fault nobody knows where the next message starts, so
                        // no later byte of the connection is ever read as one.
                        self.phase = Phase::Refused;
                    }
                    return Judged { passed, verdict };
                }
            }
        }
    }

    /// How many heads have passed; so also the number of the head being judged, from 0.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the next byte starts a head.
    pub fn between_messages(&self) -> bool {
        matches!(self.phase, Phase::Head(_))
    }
}

enum Step {
    On(usize),
    Stop(Verdict),
}

impl Phase {
    fn after_head(framing: Framing) -> Phase {
        match framing {
            Framing::None | Framing::Length(0) => Phase::default(),
            Framing::Length(length) => Phase::Fixed(length),
            Framing::Chunked => Phase::Chunked(Chunks::default()),
        }
    }
}
