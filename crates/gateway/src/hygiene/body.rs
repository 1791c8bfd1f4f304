//! A request's body until somebody reads it, and the body that was read before the decision.
//!
//! Over HTTP/2 an answer that comes before the body ends makes the library reset the stream
//! (RFC 9113 §8.1 allows it: `NO_ERROR`), and some clients then lose the answer: curl 7.88 shows a
//! framing error instead of a 401. So a body that nobody took is read on for a moment and thrown
//! away; what is longer or slower is reset as before.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::Frame;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming, SizeHint};

use crate::body::Buffered;

/// Most bytes that are read only to be thrown away.
const DRAIN_BYTES: usize = 512 * 1024;
/// Longest time that is spent on it.
const DRAIN: Duration = Duration::from_secs(2);

/// A body that is drained when it is dropped unread. Lives on a worker's thread.
pub(crate) struct HeldBody {
    body: Option<RequestBody>,
    version: Version,
}

/// The body of a request.
pub(crate) enum RequestBody {
    /// Still on its way.
    Arriving(Incoming),
    /// Judged: these bytes and no others are sent on.
    Judged(Buffered),
}

impl HeldBody {
    /// Holds the body of a request that came in this version.
    pub(crate) fn new(body: Incoming, version: Version) -> Self {
        HeldBody { body: Some(RequestBody::Arriving(body)), version }
    }

    /// For whoever reads it.
    pub(crate) fn take(mut self) -> RequestBody {
        self.body.take().expect("taken once, by value")
    }

    /// The body while it is on its way; whoever stops reading leaves the rest to be drained.
    pub(crate) fn arriving(&mut self) -> Option<&mut Incoming> {
        match &mut self.body {
            Some(RequestBody::Arriving(body)) => Some(body),
            Some(RequestBody::Judged(_)) | None => None,
        }
    }

    /// Puts what was read of it, to its end, in its place.
    pub(crate) fn judged(&mut self, bytes: Buffered) {
        self.body = Some(RequestBody::Judged(bytes));
    }

    /// What is known of its length.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        let Some(RequestBody::Arriving(body)) = self.body.take() else { return };
        if self.version != Version::HTTP_2 || body.is_end_stream() {
            return;
        }
        tokio::task::spawn_local(tokio::time::timeout(
            DRAIN,
            Limited::new(body, DRAIN_BYTES).collect(),
        ));
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            RequestBody::Arriving(body) => Pin::new(body).poll_frame(cx),
            RequestBody::Judged(bytes) => {
                Poll::Ready(bytes.give().map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Arriving(body) => body.is_end_stream(),
            RequestBody::Judged(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Arriving(body) => body.size_hint(),
            RequestBody::Judged(bytes) => SizeHint::with_exact(bytes.len()),
        }
    }
}
