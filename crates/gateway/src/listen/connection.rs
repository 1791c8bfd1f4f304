//! One connection: TLS within its time, then HTTP/1.1 behind the guard, or HTTP/2; each request goes
//! to the journey.
//!
//! Also what both protocols may cost: every limit of stages 1 and 2 that is not the guard's.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::Stop;
use super::shown::Shown;
use super::worker::Shop;
use portcullis_core::time::Timestamp;

use crate::hygiene::{Arrived, Connection};
use crate::journey::Gateway;
use crate::relay::{AnswerBody, RelayFault};
use crate::wire::{Findings, IDLE_TIMEOUT, Open, Wire};

/// From the first byte to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The first byte of every TLS record that starts a handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;

/// hyper's read buffer: twice the largest head that the guard lets pass.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// RFC 9113 §5.1.2: streams at once.
const HTTP2_STREAMS: u32 = 100;
/// RFC 9113 §6.5.2: decoded size of a head; hyper answers 431 to more.
const HTTP2_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// RFC 9113 §6.9: what a client may send unread, per stream and in all.
const HTTP2_WINDOW_BYTES: u32 = 64 * 1024;
/// RFC 7541 §4.2: the smallest table that clients expect.
const HTTP2_HEADER_TABLE_BYTES: u32 = 4096;
/// Streams that the client reset before they were looked at (CVE-2023-44487, rapid reset).
const HTTP2_PENDING_RESETS: usize = 20;
/// Streams that we had to reset for the client's faults (CVE-2025-8671, MadeYouReset).
const HTTP2_LOCAL_RESETS: usize = 100;
/// A client that answers no ping within this time is gone.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// What is spoken at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// TLS; what comes in clear is turned away as on the other.
    Tls,
    /// In clear: everything is turned away.
    Plain,
}

/// Who came, and where.
#[derive(Clone, Copy)]
pub(crate) struct Met {
    pub(crate) door: Door,
    pub(crate) peer: SocketAddr,
    pub(crate) port: u16,
}

/// How HTTP/1 is spoken. The guard keeps the times and counts the fields.
pub(crate) fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).half_close(false).max_buf_size(HTTP1_BUFFER_BYTES);
    builder
}

/// How HTTP/2 is spoken.
pub(crate) fn http2() -> http2::Builder<OnThisThread> {
    let mut builder = http2::Builder::new(OnThisThread);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(HTTP2_HEADER_LIST_BYTES)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .header_table_size(HTTP2_HEADER_TABLE_BYTES)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS)
        .max_local_error_reset_streams(HTTP2_LOCAL_RESETS)
        .max_send_buf_size(HTTP2_WINDOW_BYTES as usize)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING);
    builder
}

/// Serves a connection to its end.
pub(crate) async fn serve(shop: Rc<Shop>, stream: TcpStream, met: Met) {
    let _counted = Counted::open(&shop.worker.gateway);
    let greeted = match met.door {
        Door::Plain => Some(Greeted::Clear(stream)),
        Door::Tls => match timeout(HANDSHAKE_TIMEOUT, greet(&shop, stream)).await {
            Ok(greeted) => greeted,
            Err(_) => {
                tracing::debug!(peer = %met.peer, "no TLS handshake within its time");
                None
            }
        },
    };
    match greeted {
        Some(Greeted::Clear(stream)) => {
            let clear = Met { door: Door::Plain, ..met };
            let host = Host::new(shop, clear, None, Shown::nothing());
            speak_http1(host, stream).await;
        }
        Some(Greeted::Tls(stream)) => {
            let (_, tls) = stream.get_ref();
            let sni = tls.server_name().map(|name| name.to_ascii_lowercase().into_boxed_str());
            let http2 = tls.alpn_protocol() == Some(b"h2");
            let shown = Shown::at_the_handshake(tls.peer_certificates());
            let host = Host::new(shop, met, sni, shown);
            if http2 { speak_http2(host, *stream).await } else { speak_http1(host, *stream).await }
        }
        None => {}
    }
}

enum Greeted {
    Clear(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// Makes the handshake; or finds that the client speaks in clear at a TLS port: then it is told so,
/// in words that it can read, and a token that it exposed is revoked.
async fn greet(shop: &Shop, stream: TcpStream) -> Option<Greeted> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first == [TLS_HANDSHAKE] => {}
        Ok(1) if first.iter().all(u8::is_ascii_alphabetic) => return Some(Greeted::Clear(stream)),
        Ok(_) | Err(_) => return None,
    }
    match shake_hands(shop, stream).await {
        Ok(stream) => Some(Greeted::Tls(Box::new(stream))),
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

/// Reads the name asked before it says anything: the host decides whether a certificate is asked for.
async fn shake_hands(
    shop: &Shop,
    stream: TcpStream,
) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    let snapshot = shop.worker.gateway.snapshot.load();
    if snapshot.certificate_hosts.is_empty() {
        drop(snapshot);
        return TlsAcceptor::from(Arc::clone(&shop.handshakes.quiet)).accept(stream).await;
    }
    let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let config = match begun.client_hello().server_name() {
        Some(name) if snapshot.asks_certificate(name) => &shop.handshakes.asking,
        Some(_) | None => &shop.handshakes.quiet,
    };
    drop(snapshot);
    begun.into_stream(Arc::clone(config)).await
}

async fn speak_http1<S>(host: Rc<Host>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let wire = Wire::new(stream, Rc::clone(&host.findings));
    let shop = Rc::clone(&host.shop);
    let service = service_fn(move |request| Host::answer(&host, request));
    let mut speaking = std::pin::pin!(shop.http1.serve_connection(TokioIo::new(wire), service));
    let mut stopping = shop.stopping.clone();
    let ended = tokio::select! {
        biased;
        ended = speaking.as_mut() => ended,
        _ = stopping.wait_for(|stop| *stop != Stop::Running) => {
            speaking.as_mut().graceful_shutdown();
            speaking.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP/1 connection broke off");
    }
}

async fn speak_http2<S>(host: Rc<Host>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let shop = Rc::clone(&host.shop);
    let findings = Rc::clone(&host.findings);
    let service = service_fn(move |request| Host::answer(&host, request));
    let mut speaking = std::pin::pin!(shop.http2.serve_connection(TokioIo::new(stream), service));
    let mut stopping = shop.stopping.clone();
    let ended = tokio::select! {
        biased;
        ended = speaking.as_mut() => ended,
        _ = stopping.wait_for(|stop| *stop != Stop::Running) => {
            speaking.as_mut().graceful_shutdown();
            speaking.await
        }
        () = idle(&findings) => {
            speaking.as_mut().graceful_shutdown();
            // A client that does not close when told so is left.
            timeout(HANDSHAKE_TIMEOUT, speaking).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP/2 connection broke off");
    }
}

/// Ends when no request was open or begun for the idle time. Pings keep a connection known to be
/// alive, not wanted.
async fn idle(findings: &Findings) {
    loop {
        let begun = findings.begun();
        tokio::time::sleep(IDLE_TIMEOUT).await;
        if findings.idle() && findings.begun() == begun {
            return;
        }
    }
}

/// Our side of one connection.
struct Host {
    shop: Rc<Shop>,
    connection: RefCell<Arc<Connection>>,
    shown: Shown,
    door: Door,
    findings: Rc<Findings>,
}

impl Host {
    fn new(shop: Rc<Shop>, met: Met, sni: Option<Box<str>>, shown: Shown) -> Rc<Self> {
        let connection = Connection {
            peer: met.peer,
            sni,
            port: met.port,
            serial: shop.next_serial(),
            certificate: None,
        };
        let connection = RefCell::new(Arc::new(connection));
        Rc::new(Host { shop, connection, shown, door: met.door, findings: Rc::default() })
    }

    /// The facts of the connection as they are now.
    fn connection(&self, now: Timestamp) -> Arc<Connection> {
        let mut connection = self.connection.borrow_mut();
        if let Some(certificate) = self.shown.judged_anew(&self.shop.worker.gateway, now) {
            let sni = connection.sni.clone();
            let Connection { peer, port, serial, .. } = **connection;
            *connection = Arc::new(Connection { peer, sni, port, serial, certificate });
        }
        Arc::clone(&connection)
    }

    /// Answers a request. What stands before the future runs when hyper has read the head, so heads
    /// are counted in their order.
    fn answer(
        self: &Rc<Self>,
        request: http::Request<Incoming>,
    ) -> impl Future<Output = Result<http::Response<Counting>, Infallible>> + use<> {
        let (wire_fault, open) = self.findings.begin();
        let at = self.shop.worker.gateway.clock.now();
        let arrived = Arrived {
            request,
            connection: self.connection(at),
            at,
            serial: self.shop.next_serial(),
            wire_fault,
        };
        let host = Rc::clone(self);
        async move {
            let answer = match host.door {
                Door::Tls => host.shop.worker.serve(arrived).await,
                Door::Plain => host.shop.worker.serve_plain(arrived).await,
            };
            Ok(answer.map(|body| Counting { body, _open: open }))
        }
    }
}

/// An answer's body, which keeps its request open until it is out.
struct Counting {
    body: AnswerBody,
    _open: Open,
}

impl Body for Counting {
    type Data = bytes::Bytes;
    type Error = RelayFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection in the figures.
struct Counted(Arc<Gateway>);

impl Counted {
    fn open(gateway: &Arc<Gateway>) -> Self {
        gateway.figures.connections_total.fetch_add(1, Ordering::Relaxed);
        gateway.figures.connections_open.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(gateway))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.figures.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs hyper's HTTP/2 streams on the worker's own thread.
#[derive(Clone, Copy)]
pub(crate) struct OnThisThread;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}
