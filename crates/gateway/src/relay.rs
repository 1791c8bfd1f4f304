//! Bodies, streamed both ways with back-pressure: a frame is read only when the other side asks
//! for it. Decides nothing; keeps the caps.
//!
//! Trailers are dropped both ways (RFC 9110 §6.5.1 lets an intermediary discard them): no field
//! that hygiene has not seen may reach an upstream or a client.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::hygiene::body::RequestBody;
use crate::hygiene::override_scan::OverrideScan;
use crate::upstream::{Engaged, Hold, Reader};

/// An upstream that sends nothing for this long in the middle of a body is given up.
pub const STALL: Duration = Duration::from_secs(60);

/// The body of an answer: ours and whole, or streamed from an upstream.
pub struct AnswerBody(Source);

enum Source {
    Whole(Bytes),
    Streamed(Box<Stream>),
    Ended,
}

/// A body in transit, with the connection that it comes from.
struct Stream {
    body: Incoming,
    // INVARIANT: given back to its pool only when the body was read to its end; a connection with
    // half an answer in it would poison the next request.
    held: Held,
    stall: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// How the connection is held.
enum Held {
    /// By the stream alone: its reader's own connection has a timer for readers that stop.
    Alone(Option<Engaged>),
    /// Watched.
    Watched(Rc<Hold>),
}

impl Held {
    fn note(&self, reader: Reader) {
        if let Held::Watched(hold) = self {
            hold.note(reader);
        }
    }

    fn release(&mut self) {
        let engaged = match self {
            Held::Alone(engaged) => engaged.take(),
            Held::Watched(hold) => hold.take(),
        };
        if let Some(engaged) = engaged {
            engaged.release();
        }
    }
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off: {0}")]
pub struct RelayFault(pub String);

impl AnswerBody {
    /// A body that is wholly there.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        AnswerBody(Source::Whole(bytes.into()))
    }

    /// No body.
    pub fn empty() -> Self {
        AnswerBody(Source::Ended)
    }

    /// Streams an upstream's body; its connection goes back to the pool after the last byte. The
    /// version is the client's.
    pub(crate) fn streamed(body: Incoming, engaged: Engaged, version: Version) -> Self {
        if body.is_end_stream() {
            engaged.release();
            return AnswerBody(Source::Ended);
        }
        let held = match version {
            Version::HTTP_2 => Held::Watched(engaged.watched()),
            _ => Held::Alone(Some(engaged)),
        };
        AnswerBody(Source::Streamed(Box::new(Stream { body, held, stall: None })))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = RelayFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RelayFault>>> {
        let polled = match &mut self.0 {
            Source::Ended => return Poll::Ready(None),
            Source::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Streamed(stream) => stream.poll(cx),
        };
        let over = match &self.0 {
            Source::Whole(_) => true,
            Source::Streamed(_) => matches!(polled, Poll::Ready(None | Some(Err(_)))),
            Source::Ended => true,
        };
        if over {
            self.0 = Source::Ended;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Ended => true,
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Streamed(stream) => stream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Ended => SizeHint::with_exact(0),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Streamed(stream) => stream.body.size_hint(),
        }
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayFault>>> {
        loop {
            return match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => self.wait(cx),
                Poll::Ready(Some(Ok(frame))) => {
                    self.stall = None;
                    if frame.is_trailers() {
                        continue;
                    }
                    self.held.note(Reader::Reads);
                    Poll::Ready(Some(Ok(frame)))
                }
                Poll::Ready(Some(Err(fault))) => {
                    Poll::Ready(Some(Err(RelayFault(fault.to_string()))))
                }
                Poll::Ready(None) => {
                    // Of a chunked body this alone tells the end.
                    self.held.release();
                    Poll::Ready(None)
                }
            };
        }
    }

    /// The timer is made only when there is something to wait for, so that a body which is already
    /// here costs none.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayFault>>> {
        self.held.note(Reader::Waits);
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        match stall.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Some(Err(RelayFault("the upstream stalled".into())))),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.held.release();
        }
    }
}

/// How a request's body ended early, seen from the side that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It went over the operation's cap.
    TooLarge,
    /// The client broke off.
    Broken,
    /// It is a form with `_method` in it.
    MethodOverridden,
}

/// What is known of a body on its way: shared with the stage that waits for the answer.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) cut: Cell<Option<Cut>>,
    pub(crate) ended: Cell<bool>,
}

/// A request's body on its way to an upstream, cut at the operation's cap.
pub(crate) struct Upload {
    body: Option<RequestBody>,
    left: u64,
    progress: Option<Rc<Progress>>,
    form: Option<OverrideScan>,
}

impl Upload {
    /// Nothing to send.
    pub(crate) fn none() -> Self {
        Upload { body: None, left: 0, progress: None, form: None }
    }

    /// Sends at most `cap` bytes.
    pub(crate) fn capped(body: RequestBody, cap: u64, progress: Rc<Progress>) -> Self {
        Upload { body: Some(body), left: cap, progress: Some(progress), form: None }
    }

    /// The body is a form: it is broken off, never sent whole, once it overrides the method.
    pub(crate) fn watch_for_override(&mut self) {
        self.form = Some(OverrideScan::new());
    }

    fn overrides(&mut self, data: &[u8]) -> bool {
        let last = self.is_end_stream();
        let Some(scan) = &mut self.form else { return false };
        scan.finds(data) || (last && scan.ends_found())
    }

    fn cut(&mut self, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, RelayFault>>> {
        if let Some(progress) = &self.progress {
            progress.cut.set(Some(cut));
        }
        self.body = None;
        Poll::Ready(Some(Err(RelayFault(format!("{cut:?}")))))
    }

    fn end(&mut self) {
        if let Some(progress) = &self.progress {
            progress.ended.set(true);
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = RelayFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RelayFault>>> {
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            let frame = match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    self.end();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(_))) => return self.cut(Cut::Broken),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            let Some(data) = frame.data_ref() else { continue };
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                return self.cut(Cut::TooLarge);
            };
            self.left = left;
            if frame.data_ref().is_some_and(|data| self.overrides(data)) {
                return self.cut(Cut::MethodOverridden);
            }
            if self.is_end_stream() {
                self.end();
            }
            return Poll::Ready(Some(Ok(frame)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}
