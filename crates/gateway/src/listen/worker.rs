//! One worker: a thread with a runtime, its sockets, and the connections that the kernel gives it.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::Stop;
use super::connection::{self, Door};
use super::seats::Seats;
use crate::journey::{Gateway, Worker};
use crate::tls::Handshakes;

/// How long accepting rests when the system has no descriptor left: an accept that fails would be
/// tried again at once, for ever.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What a worker is given at start.
pub(crate) struct Post {
    pub(crate) number: usize,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) config: Handshakes,
    pub(crate) seats: Arc<Seats>,
    pub(crate) stopping: watch::Receiver<Stop>,
}

/// A socket to accept on, and what is spoken there.
pub(crate) struct Listening {
    pub(crate) socket: TcpListener,
    pub(crate) door: Door,
    pub(crate) port: u16,
}

/// What the connections of one worker share.
pub(crate) struct Shop {
    pub(crate) worker: Worker,
    pub(crate) handshakes: Handshakes,
    pub(crate) stopping: watch::Receiver<Stop>,
    pub(crate) http1: hyper::server::conn::http1::Builder,
    pub(crate) http2: hyper::server::conn::http2::Builder<connection::OnThisThread>,
    seats: Arc<Seats>,
    serial: Cell<u64>,
    /// Held by each connection; all are dropped when the last has ended.
    open: mpsc::WeakSender<()>,
}

impl Shop {
    /// The next number for a connection or request, unique in this process: the upper 16 bits are
    /// the worker's, so that no two workers share a counter.
    pub(crate) fn next_serial(&self) -> u64 {
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        serial
    }
}

/// Runs a worker until it is stopped. Blocks its thread.
pub(crate) fn run(post: Post, sockets: Vec<Listening>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, worker = post.number, "a worker has no runtime");
            return;
        }
    };
    LocalSet::new().block_on(&runtime, serve(post, sockets));
}

async fn serve(post: Post, sockets: Vec<Listening>) {
    let mut stopping = post.stopping.clone();
    let (open, mut all_closed) = mpsc::channel(1);
    let shop = Rc::new(Shop {
        worker: Worker::new(post.gateway),
        handshakes: post.config,
        stopping: post.stopping,
        http1: connection::http1(),
        http2: connection::http2(),
        seats: post.seats,
        serial: Cell::new((post.number as u64) << 48),
        open: open.downgrade(),
    });
    let mut accepting = Vec::new();
    for listening in sockets {
        let loop_ = accept(Rc::clone(&shop), listening);
        accepting.push(tokio::task::spawn_local(loop_));
    }
    let grace = match stopping.wait_for(|stop| *stop != Stop::Running).await.map(|stop| *stop) {
        Ok(Stop::Draining(grace)) => grace,
        // The sender is gone: whoever started us no longer waits.
        Ok(Stop::Running) | Err(_) => Duration::ZERO,
    };
    for task in accepting {
        // Closes the socket.
        task.abort();
    }
    drop(open);
    // Connections drain by themselves (`connection::drive`); what is left after the grace is dropped
    // with the runtime, and dropped requests still make their records.
    drop(tokio::time::timeout(grace, all_closed.recv()).await);
}

async fn accept(shop: Rc<Shop>, listening: Listening) {
    let Listening { socket, door, port } = listening;
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, port, "a socket cannot be listened on");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without a seat the connection is closed here, before TLS costs anything.
                let (Some(seat), Some(open)) = (shop.seats.take(peer.ip()), shop.open.upgrade())
                else {
                    continue;
                };
                // Small answers go out at once, not after the client's delayed acknowledgement.
                drop(stream.set_nodelay(true));
                let held = (seat, open);
                let serving = connection::serve(
                    Rc::clone(&shop),
                    stream,
                    connection::Met { door, peer, port },
                );
                spawn_holding(serving, held);
            }
            // The client went away before it was accepted.
            Err(error) if transient(&error) => {}
            Err(error) => {
                tracing::warn!(%error, port, "connections cannot be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// Runs a connection, and keeps what it holds until its end.
fn spawn_holding<H: 'static>(serving: impl Future<Output = ()> + 'static, held: H) {
    tokio::task::spawn_local(async move {
        serving.await;
        drop(held);
    });
}

fn transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
