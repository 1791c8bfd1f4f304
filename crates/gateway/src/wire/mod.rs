//! The stream under hyper: runs the guard over what was read before hyper sees it.
//!
//! Nearly always a head is complete in one read: then its bytes go on where they were read to,
//! without a copy. A head in pieces is held back until it is whole. For a head with a fault hyper is
//! given a stand-in, so that the answer and the record are made where all others are; the number of
//! the head tells the service which request is the stand-in, and no client can forge that. It also
//! keeps the times of stage 2: 10 s for a head, 60 s idle.
//!
//! Knows no TLS and no HTTP beyond the guard's.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::guard::{Guard, Verdict, WireFault};

/// From a head's first byte to its last; from the connection's start to its first byte.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Between an answer and the next head.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may read nothing of an answer that waits to be written.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a refused client may go on sending before the connection is closed under it.
const LINGER: Duration = Duration::from_secs(1);
/// How much of it is read, unseen.
const LINGER_BYTES: usize = 256 * 1024;

/// What hyper reads in place of a head with a fault. `.invalid` belongs to nobody (RFC 2606 §2).
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

/// What stream and service of one connection tell each other. Both live on one thread.
#[derive(Default)]
pub(crate) struct Findings {
    fault: Cell<Option<(u64, WireFault)>>,
    begun: Cell<u64>,
    open: Cell<usize>,
}

impl Findings {
    /// Counts a request as begun; the fault that was found in its head, if it is the stand-in.
    pub(crate) fn begin(self: &Rc<Self>) -> (Option<WireFault>, Open) {
        let number = self.begun.get();
        self.begun.set(number + 1);
        self.open.set(self.open.get() + 1);
        // INVARIANT: the guard counts heads and the service counts requests in the same order, as
        // hyper makes exactly one request of each head that the guard let pass.
        let fault = self.fault.get().filter(|(head, _)| *head == number).map(|(_, fault)| fault);
        (fault, Open(Rc::clone(self)))
    }

    /// Whether no request is being answered.
    pub(crate) fn idle(&self) -> bool {
        self.open.get() == 0
    }

    /// How many requests have begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.get()
    }
}

/// A request that is being answered: dropped with its answer's body.
pub(crate) struct Open(Rc<Findings>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

/// A stream with the guard in front of its reader.
pub(crate) struct Wire<S> {
    inner: S,
    guard: Guard,
    findings: Rc<Findings>,
    /// Read, but not yet judged whole.
    held: Vec<u8>,
    /// Judged or made by us, but not yet handed on; and how much of it was.
    ready: Vec<u8>,
    handed: usize,
    end: End,
    patience: Patience,
    stall: Option<Pin<Box<Sleep>>>,
    linger: Option<(Pin<Box<Sleep>>, usize)>,
}

/// Whether more will be read.
#[derive(Clone, Copy)]
enum End {
    Open,
    /// A stand-in was given: nothing more is read. No end of file either, which hyper would take for
    /// a client that went away.
    StoodIn,
    /// A body broke the rules.
    Broken(WireFault),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Puts a guard before a stream.
    pub(crate) fn new(inner: S, findings: Rc<Findings>) -> Self {
        Wire {
            inner,
            guard: Guard::default(),
            findings,
            held: Vec::new(),
            ready: Vec::new(),
            handed: 0,
            end: End::Open,
            patience: Patience::default(),
            stall: None,
            linger: None,
        }
    }

    /// Judges what was read behind the first `before` bytes of the buffer.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let read = buf.filled().get(before..).unwrap_or_default();
        let verdict = if self.held.is_empty() {
            let judged = self.guard.judge(read);
            match judged.verdict {
                Verdict::Held => {
                    self.held.extend_from_slice(read.get(judged.passed..).unwrap_or_default());
                }
                Verdict::Passed | Verdict::HeadRefused(_) | Verdict::BodyRefused(_) => {}
            }
            if judged.passed > 0 {
                self.patience.restart();
            }
            buf.set_filled(before + judged.passed);
            judged.verdict
        } else {
            self.held.extend_from_slice(read);
            buf.set_filled(before);
            let judged = self.guard.judge(&self.held);
            if judged.passed > 0 {
                self.patience.restart();
                let rest = self.held.split_off(judged.passed);
                self.ready = std::mem::replace(&mut self.held, rest);
                self.handed = 0;
            }
            judged.verdict
        };
        match verdict {
            Verdict::Passed | Verdict::Held => {}
            Verdict::HeadRefused(fault) => self.stand_in(fault),
            Verdict::BodyRefused(fault) => self.end = End::Broken(fault),
        }
    }

    fn stand_in(&mut self, fault: WireFault) {
        self.findings.fault.set(Some((self.guard.heads(), fault)));
        self.held = Vec::new();
        self.ready.extend_from_slice(STAND_IN);
        self.end = End::StoodIn;
    }

    /// Hands on what is ready; whether there was any.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> Handed {
        let rest = self.ready.get(self.handed..).unwrap_or_default();
        if rest.is_empty() {
            return Handed::Nothing;
        }
        let length = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..length).unwrap_or_default());
        self.handed += length;
        if self.handed == self.ready.len() {
            self.ready = Vec::new();
            self.handed = 0;
        }
        Handed::Some
    }

    /// What is being waited for, if its time is limited.
    fn waits(&self) -> Option<Wait> {
        match (self.guard.between_messages(), self.held.is_empty(), self.findings.idle()) {
            (true, false, _) => Some(Wait::Head),
            (true, true, true) if self.findings.begun() == 0 => Some(Wait::First),
            (true, true, true) => Some(Wait::Next),
            (true, true, false) | (false, _, _) => None,
        }
    }

    /// Nothing more can be read now: the client's time runs.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Wait> {
        let wait = self.waits();
        self.patience.poll(wait, cx)
    }

    /// A write that is not ready must become so in time: a client that reads nothing holds buffers
    /// here and at the upstream.
    fn in_time<T>(
        &mut self,
        write: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stall = None;
            return write;
        }
        let until = || Box::pin(sleep_until(Instant::now() + STALL_TIMEOUT));
        ready!(self.stall.get_or_insert_with(until).as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }

    /// Reads what a refused client still sends, so that closing does not reset the connection before
    /// the client has read the answer (RFC 9112 §9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (sleep, taken) =
            self.linger.get_or_insert_with(|| (Box::pin(sleep_until(Instant::now() + LINGER)), 0));
        loop {
            if sleep.as_mut().poll(cx).is_ready() || *taken > LINGER_BYTES {
                return Poll::Ready(());
            }
            let mut bytes = [0; 2048];
            let mut buf = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => *taken += buf.filled().len(),
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

enum Handed {
    Nothing,
    Some,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        loop {
            match (this.hand_on(buf), this.end) {
                (Handed::Some, _) => return Poll::Ready(Ok(())),
                (Handed::Nothing, End::Open) => {}
                (Handed::Nothing, End::StoodIn) => return Poll::Pending,
                (Handed::Nothing, End::Broken(fault)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
                }
            }
            match Pin::new(&mut this.inner).poll_read(cx, buf) {
                Poll::Pending => match ready!(this.poll_patience(cx)) {
                    Wait::Head => this.stand_in(WireFault::HeadTimedOut),
                    // Nobody asked anything: the end of the connection.
                    Wait::First | Wait::Next => return Poll::Ready(Ok(())),
                },
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if buf.filled().len() == before => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {
                    this.judge(buf, before);
                    if buf.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let write = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.in_time(write, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let write = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        this.in_time(write, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flush = Pin::new(&mut this.inner).poll_flush(cx);
        this.in_time(flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        match this.end {
            // Not in the middle of a body that was refused unread.
            End::Open if this.guard.between_messages() => Poll::Ready(Ok(())),
            End::Open | End::StoodIn | End::Broken(_) => this.poll_linger(cx).map(Ok),
        }
    }
}

/// What a client is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wait {
    /// The first byte of the connection.
    First,
    /// The rest of a head.
    Head,
    /// The next head.
    Next,
}

/// One timer for all waits. It is not reset with each request: it fires at the earliest time that was
/// asked, and then looks at the time that holds.
#[derive(Default)]
struct Patience {
    deadline: Option<(Wait, Instant)>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Something came whole: the next wait starts anew.
    fn restart(&mut self) {
        self.deadline = None;
    }

    /// Ready when the wait has lasted too long.
    fn poll(&mut self, wait: Option<Wait>, cx: &mut Context<'_>) -> Poll<Wait> {
        let Some(wait) = wait else {
            self.deadline = None;
            return Poll::Pending;
        };
        let deadline = match self.deadline {
            // A head that drips keeps the deadline of its first byte.
            Some((same, deadline)) if same == wait => deadline,
            Some(_) | None => Instant::now() + wait.limit(),
        };
        self.deadline = Some((wait, deadline));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(wait);
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

impl Wait {
    fn limit(self) -> Duration {
        match self {
            Wait::First | Wait::Head => HEAD_TIMEOUT,
            Wait::Next => IDLE_TIMEOUT,
        }
    }
}

#[cfg(test)]
mod tests;
