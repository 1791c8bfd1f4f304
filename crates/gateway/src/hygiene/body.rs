//! A request's body until somebody reads it.
//!
//! Over HTTP/2 an answer that comes before the body ends makes the library reset the stream
//! (RFC 9113 §8.1 allows it: `NO_ERROR`), and some clients then lose the answer: curl 7.88 shows a
//! framing error instead of a 401. So a body that nobody took is read on for a moment and thrown
//! away; what is longer or slower is reset as before.

use std::time::Duration;

use http::Version;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming, SizeHint};

/// Most bytes that are read only to be thrown away.
const DRAIN_BYTES: usize = 512 * 1024;
/// Longest time that is spent on it.
const DRAIN: Duration = Duration::from_secs(2);

/// A body that is drained when it is dropped unread. Lives on a worker's thread.
pub(crate) struct HeldBody {
    body: Option<Incoming>,
    version: Version,
}

impl HeldBody {
    /// Holds the body of a request that came in this version.
    pub(crate) fn new(body: Incoming, version: Version) -> Self {
        HeldBody { body: Some(body), version }
    }

    /// For whoever reads it.
    pub(crate) fn take(mut self) -> Incoming {
        self.body.take().expect("taken once, by value")
    }

    /// What is known of its length.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if self.version != Version::HTTP_2 || body.is_end_stream() {
            return;
        }
        tokio::task::spawn_local(tokio::time::timeout(
            DRAIN,
            Limited::new(body, DRAIN_BYTES).collect(),
        ));
    }
}
