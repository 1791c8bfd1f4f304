//! Listeners: one `current_thread` runtime per core, each with its own `SO_REUSEPORT` socket,
//! upstream pool, token cache and log buffer. TLS on one, the plain refusals on the other.
//!
//! Here: starting and stopping. [`worker`] accepts, [`seats`] caps, [`connection`] speaks TLS and
//! HTTP with one client and hands its requests to the journey. Decides nothing about them.

mod socket;
mod seats;
mod worker;
mod shown;
mod connection;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod certificates;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::journey::Gateway;
use crate::tls::Handshakes;
use connection::Door;
#[cfg(test)]
pub(crate) use connection::http1;
use seats::Seats;
use worker::{Listening, Post};

/// Where to listen and with what certificates.
pub struct Listeners {
    /// TLS addresses; port 0 picks one.
    pub tls: Vec<SocketAddr>,
    /// Plain addresses: redirect pages, refuse API paths (and refuse-and-revoke live tokens).
    pub plain: Vec<SocketAddr>,
    /// The TLS configurations (swappable certificates inside).
    pub config: Handshakes,
    /// Worker threads; 0: one per core.
    pub workers: usize,
    /// Caps.
    pub caps: Caps,
}

/// Caps on connections, before TLS.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// In all.
    pub connections: usize,
    /// Per address (an IPv6 /64 counts as one).
    pub per_address: usize,
}

/// A running set of listeners.
pub struct Running {
    /// The bound TLS addresses.
    pub tls: Vec<SocketAddr>,
    /// The bound plain addresses.
    pub plain: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<Stop>,
}

/// Whether the workers shall stop, and within what time. Dropping the sender stops at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Not yet.
    Running,
    /// Accept nothing more; let running requests end within this time.
    Draining(Duration),
}

/// Binds and starts the workers.
///
/// # Errors
/// When an address cannot be bound; the message names it and what to do (a port in use, a privileged
/// port).
pub fn start(gateway: Arc<Gateway>, listeners: Listeners) -> io::Result<Running> {
    let workers = match listeners.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    let mut posts: Vec<Vec<Listening>> = Vec::new();
    posts.resize_with(workers, Vec::new);
    let tls = bind(&listeners.tls, Door::Tls, &mut posts)?;
    let plain = bind(&listeners.plain, Door::Plain, &mut posts)?;
    let (stop, stopping) = watch::channel(Stop::Running);
    let seats = Seats::new(listeners.caps);
    let mut threads = Vec::new();
    for (number, sockets) in posts.into_iter().enumerate() {
        let post = Post {
            number,
            gateway: Arc::clone(&gateway),
            config: listeners.config.clone(),
            seats: Arc::clone(&seats),
            stopping: stopping.clone(),
        };
        let thread = std::thread::Builder::new().name(format!("worker-{number}"));
        threads.push(thread.spawn(move || worker::run(post, sockets))?);
    }
    Ok(Running { tls, plain, threads, stop })
}

/// Binds each address once per worker; the addresses bound.
fn bind(
    addresses: &[SocketAddr],
    door: Door,
    posts: &mut [Vec<Listening>],
) -> io::Result<Vec<SocketAddr>> {
    let mut bound = Vec::new();
    for address in addresses {
        let sockets = socket::bind(*address, posts.len())?;
        bound.push(sockets.address);
        for (post, socket) in posts.iter_mut().zip(sockets.each) {
            post.push(Listening { socket, door, port: sockets.address.port() });
        }
    }
    Ok(bound)
}

impl Running {
    /// Stops accepting, lets running requests end within `grace`, then closes. Blocks.
    pub fn drain(self, grace: Duration) {
        // A worker that is gone already has nothing left to drain.
        self.stop.send_replace(Stop::Draining(grace));
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker thread had panicked before it was drained");
            }
        }
    }
}
