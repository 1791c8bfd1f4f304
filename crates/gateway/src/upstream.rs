//! Connections to upstreams: HTTP/1.1, kept alive, pooled per worker (no lock: one thread).
//!
//! A connection is engaged by one request, and released by the body that was read to its end.
//! Which request may be sent is decided elsewhere: only [`crate::forward`] engages.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use portcullis_core::time::Timestamp;
use portcullis_core::web::Address;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::relay::{Progress, STALL, Upload};
use crate::snapshot::Upstream;

/// Idle connections kept to one upstream by one worker.
const MAX_IDLE: usize = 256;
/// Requests of one worker that are with one upstream at once; more would only queue in memory.
const MAX_ENGAGED: usize = 1024;
/// An idle connection is closed after this long, before most servers close it under us.
const IDLE: Duration = Duration::from_secs(60);
/// A connection that rested this long may have been closed by its upstream a moment ago.
const RESTED: Duration = Duration::from_secs(1);
/// How often the readers of answers are looked at: one that takes nothing is found in two rounds.
const WATCH: Duration = Duration::from_secs(STALL.as_secs() / 2);
/// Largest head of an upstream's answer, in bytes (`3-gateway`, stage 11).
const MAX_ANSWER_HEAD: usize = 32 * 1024;
/// Most fields in an upstream's answer.
const MAX_ANSWER_FIELDS: usize = 100;

/// What a connection is asked with. Dropping it ends the connection, whatever is still under way on
/// it: an upload whose answer is out would hold its socket for as long as its client likes.
struct Link {
    sender: http1::SendRequest<Upload>,
    task: tokio::task::AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why an upstream did not answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamFault {
    /// No socket of it accepted in time.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// Its certificate or handshake failed.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// Too many requests are with it already.
    #[error("too many requests at once")]
    Busy,
    /// The connection ended, or its answer broke HTTP's rules.
    #[error("answer broken: {0}")]
    Broken(String),
}

impl UpstreamFault {
    /// The variant's name, for the record.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            UpstreamFault::Unreachable(_) => "Unreachable",
            UpstreamFault::Tls(_) => "Tls",
            UpstreamFault::Busy => "Busy",
            UpstreamFault::Broken(_) => "Broken",
        }
    }
}

/// The lanes of one worker, one per upstream.
#[derive(Default)]
pub(crate) struct Pool {
    lanes: RefCell<HashMap<Address, Rc<Lane>>>,
}

impl Pool {
    /// The lane to an upstream; a new one when its sockets or its TLS changed with a reload.
    pub(crate) fn lane(&self, upstream: &Upstream) -> Rc<Lane> {
        let mut lanes = self.lanes.borrow_mut();
        if let Some(lane) = lanes.get(&upstream.address)
            && lane.fits(upstream)
        {
            return lane.clone();
        }
        // Lanes that no operation uses any more end with the reload that dropped them.
        lanes.retain(|_, lane| Rc::strong_count(lane) > 1);
        let lane = Rc::new(Lane {
            upstream: upstream.clone(),
            idle: RefCell::new(Vec::new()),
            engaged: Cell::new(0),
            sweeping: Cell::new(Sweeping::No),
            held: RefCell::new(Vec::new()),
            watching: Cell::new(Sweeping::No),
        });
        lanes.insert(upstream.address.clone(), lane.clone());
        lane
    }
}

/// The connections of one worker to one upstream.
pub(crate) struct Lane {
    upstream: Upstream,
    idle: RefCell<Vec<Idle>>,
    engaged: Cell<usize>,
    sweeping: Cell<Sweeping>,
    /// Answers whose readers are watched.
    held: RefCell<Vec<Weak<Hold>>>,
    watching: Cell<Sweeping>,
}

/// Whether a task of a lane runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sweeping {
    Yes,
    No,
}

struct Idle {
    link: Link,
    since: Timestamp,
}

/// A connection taken by one request.
pub(crate) struct Engaged {
    // `None` only after a release.
    link: Option<Link>,
    lane: Rc<Lane>,
    since: Timestamp,
    /// The request's body, if it has one.
    pub(crate) upload: Option<Rc<Progress>>,
    /// Whether the connection served before, and rested: then it may be stale.
    pub(crate) rest: Rest,
}

/// How long a connection had rested when it was engaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It is new, or was busy a moment ago.
    Fresh,
    /// Long enough to have been closed by the other side.
    Long,
}

impl Lane {
    fn fits(&self, upstream: &Upstream) -> bool {
        let tls = match (&self.upstream.tls, &upstream.tls) {
            (None, None) => true,
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            _ => false,
        };
        tls && self.upstream.sockets == upstream.sockets
            && self.upstream.connect_timeout == upstream.connect_timeout
    }

    /// A connection that is ready: the one used last, since it is the least likely to be stale and
    /// lets the others age out; else a new one.
    pub(crate) async fn engage(self: &Rc<Self>, now: Timestamp) -> Result<Engaged, UpstreamFault> {
        if self.engaged.get() >= MAX_ENGAGED {
            return Err(UpstreamFault::Busy);
        }
        match self.rested(now) {
            Some(engaged) => Ok(engaged),
            None => self.fresh(now).await,
        }
    }

    /// A new connection.
    pub(crate) async fn fresh(self: &Rc<Self>, now: Timestamp) -> Result<Engaged, UpstreamFault> {
        // Counted from before the connect, so that a slow one is bounded too.
        let mut engaged = self.count(None, now, Rest::Fresh);
        // Boxed, as is all that happens seldom: a journey must be small (see its test).
        engaged.link = Some(Box::pin(connect(&self.upstream)).await?);
        Ok(engaged)
    }

    fn rested(self: &Rc<Self>, now: Timestamp) -> Option<Engaged> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { link, since }) = idle.pop() {
            let age = now.since(since);
            if link.sender.is_closed() || age >= IDLE || !link.sender.is_ready() {
                continue;
            }
            let rest = if age >= RESTED { Rest::Long } else { Rest::Fresh };
            return Some(self.count(Some(link), now, rest));
        }
        None
    }

    fn count(self: &Rc<Self>, link: Option<Link>, now: Timestamp, rest: Rest) -> Engaged {
        self.engaged.set(self.engaged.get() + 1);
        Engaged { link, lane: self.clone(), since: now, upload: None, rest }
    }

    fn rest(self: &Rc<Self>, link: Link, since: Timestamp) {
        let mut idle = self.idle.borrow_mut();
        if link.sender.is_closed() || idle.len() >= MAX_IDLE {
            return;
        }
        idle.push(Idle { link, since });
        if self.sweeping.replace(Sweeping::Yes) == Sweeping::No {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
    }
}

/// Closes connections that nobody used for a whole [`IDLE`]; ends when none is left, so that an
/// idle server has no timer.
async fn sweep(lane: Weak<Lane>) {
    let mut seen: Option<Timestamp> = None;
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(lane) = lane.upgrade() else { return };
        let mut idle = lane.idle.borrow_mut();
        // What was there at the last round and has not been used since: its `since` is no later.
        idle.retain(|one| !one.link.sender.is_closed() && seen.is_none_or(|seen| one.since > seen));
        seen = idle.iter().map(|one| one.since).max();
        if idle.is_empty() {
            lane.sweeping.set(Sweeping::No);
            return;
        }
    }
}

/// A connection whose answer goes to a reader that may stop reading without a word: a stream of
/// HTTP/2 whose window is shut is not even asked for its next frame, so no timer of its own runs.
pub(crate) struct Hold {
    engaged: RefCell<Option<Engaged>>,
    seen: Cell<Reader>,
}

/// What was seen of a reader since it was last looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// It asked, and got something.
    Reads,
    /// It asked, and waits for the upstream.
    Waits,
    /// Nothing.
    Silent,
}

impl Hold {
    /// Takes note of what the reader did.
    pub(crate) fn note(&self, reader: Reader) {
        self.seen.set(reader);
    }

    /// The connection; `None` when it was taken from a reader that stopped.
    pub(crate) fn take(&self) -> Option<Engaged> {
        self.engaged.borrow_mut().take()
    }
}

/// Ends the answers of readers that took nothing for a whole round; ends itself when none is left.
async fn watch(lane: Weak<Lane>) {
    loop {
        tokio::time::sleep(WATCH).await;
        let Some(lane) = lane.upgrade() else { return };
        let mut held = lane.held.borrow_mut();
        held.retain(|hold| {
            let Some(hold) = hold.upgrade() else { return false };
            match hold.seen.get() {
                Reader::Silent => {
                    drop(hold.take());
                    return false;
                }
                Reader::Reads => hold.note(Reader::Silent),
                Reader::Waits => {}
            }
            true
        });
        if held.is_empty() {
            lane.watching.set(Sweeping::No);
            return;
        }
    }
}

impl Engaged {
    /// Has the reader of its answer watched.
    pub(crate) fn watched(self) -> Rc<Hold> {
        let lane = self.lane.clone();
        let hold =
            Rc::new(Hold { engaged: RefCell::new(Some(self)), seen: Cell::new(Reader::Reads) });
        let mut held = lane.held.borrow_mut();
        // What ended since the last round is let go when it would cost memory: no more than twice
        // the engaged are ever kept.
        if held.len() >= held.capacity() {
            held.retain(|hold| hold.strong_count() > 0);
        }
        held.push(Rc::downgrade(&hold));
        if lane.watching.replace(Sweeping::Yes) == Sweeping::No {
            tokio::task::spawn_local(watch(Rc::downgrade(&lane)));
        }
        hold
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// The request comes back when nothing of it was sent: then it may be sent elsewhere.
    pub(crate) async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, (UpstreamFault, Option<Request<Upload>>)> {
        let Some(Link { sender, .. }) = &mut self.link else {
            return Err((UpstreamFault::Broken("no connection".into()), Some(request)));
        };
        sender.try_send_request(request).await.map_err(|mut fault| {
            let unsent = fault.take_message();
            (UpstreamFault::Broken(causes(&fault.into_error())), unsent)
        })
    }

    /// Gives the connection back: the answer was read to its end. Unless the request was not sent to
    /// its end: an upstream that answers early wants no more of it.
    pub(crate) fn release(mut self) {
        let sent = self.upload.as_ref().is_none_or(|upload| upload.ended.get());
        if let Some(link) = self.link.take().filter(|_| sent) {
            self.lane.rest(link, self.since);
        }
    }
}

impl Drop for Engaged {
    fn drop(&mut self) {
        self.lane.engaged.set(self.lane.engaged.get().saturating_sub(1));
    }
}

fn causes(fault: &dyn std::error::Error) -> String {
    let mut words = fault.to_string();
    let mut cause = fault.source();
    while let Some(inner) = cause {
        words.push_str(": ");
        words.push_str(&inner.to_string());
        cause = inner.source();
    }
    words
}

async fn connect(upstream: &Upstream) -> Result<Link, UpstreamFault> {
    let mut last = UpstreamFault::Unreachable("it has no address".into());
    for socket in &upstream.sockets {
        let attempt = tokio::time::timeout(upstream.connect_timeout, open(upstream, *socket));
        match attempt.await {
            Ok(Ok(link)) => return Ok(link),
            Ok(Err(fault)) => last = fault,
            Err(_) => last = UpstreamFault::Unreachable("it did not answer in time".into()),
        }
    }
    Err(last)
}

async fn open(upstream: &Upstream, socket: SocketAddr) -> Result<Link, UpstreamFault> {
    let unreachable = |fault: std::io::Error| UpstreamFault::Unreachable(fault.to_string());
    let stream = TcpStream::connect(socket).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let Some(config) = &upstream.tls else { return handshake(stream).await };
    let name = ServerName::try_from(upstream.address.host().to_owned())
        .map_err(|fault| UpstreamFault::Tls(fault.to_string()))?;
    let tls = TlsConnector::from(config.clone());
    let stream = tls.connect(name, stream).await;
    handshake(stream.map_err(|fault| UpstreamFault::Tls(fault.to_string()))?).await
}

async fn handshake<S>(stream: S) -> Result<Link, UpstreamFault>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_headers(MAX_ANSWER_FIELDS).max_buf_size(MAX_ANSWER_HEAD);
    let (sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|fault| UpstreamFault::Unreachable(fault.to_string()))?;
    // The connection ends by itself; whoever waits for its answer hears why, so the result here
    // says nothing new.
    let task = tokio::task::spawn_local(async move { connection.await.ok() }).abort_handle();
    Ok(Link { sender, task })
}
