//! The floor that Portcullis is measured against: the same libraries (hyper, tokio-rustls, a pooled
//! HTTP/1.1 upstream, one `current_thread` runtime) and no policy at all. It checks nothing, limits
//! nothing and records nothing; never put it before anything real.
//!
//! The same program is the upstream (`upstream.rs`) and mints the peers' tokens (`mint.rs`), so
//! that the bench needs no other library than the product's.

mod mint;
mod upstream;

use std::cell::RefCell;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Empty};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

const USE: &str = "use: bench-bare proxy LISTEN UPSTREAM CERTIFICATE KEY
     bench-bare upstream LISTEN
     bench-bare mint KEY ISSUER AUDIENCE LIFETIME COUNT";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.as_slice() {
        ["proxy", listen, to, certificate, key] => {
            let tls = tls(&std::fs::read(certificate)?, &std::fs::read(key)?)?;
            let pool = Rc::new(Pool { upstream: to.parse()?, idle: RefCell::default() });
            LocalSet::new().block_on(&runtime, proxy(listen.parse()?, tls, pool))
        }
        ["upstream", listen] => {
            LocalSet::new().block_on(&runtime, upstream::serve(listen.parse()?))
        }
        ["mint", key, issuer, audience, lifetime, count] => mint::print(&mint::Order {
            key: std::fs::read_to_string(key)?,
            issuer: (*issuer).to_owned(),
            audience: (*audience).to_owned(),
            lifetime: lifetime.parse()?,
            count: count.parse()?,
        }),
        _ => Err(USE.into()),
    }
}

fn tls(certificate: &[u8], key: &[u8]) -> Result<TlsAcceptor, Box<dyn Error>> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>()?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config).into())
}

async fn proxy(listen: SocketAddr, tls: TlsAcceptor, pool: Rc<Pool>) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (tls, pool) = (tls.clone(), pool.clone());
        // An end of the connection is no news to anybody.
        spawn_local(async move { serve(tls, stream, pool).await.ok() });
    }
}

async fn serve(tls: TlsAcceptor, stream: TcpStream, pool: Rc<Pool>) -> Result<(), Box<dyn Error>> {
    let stream = tls.accept(stream).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    let service = service_fn(move |request| forward(pool.clone(), request));
    if http2 {
        hyper::server::conn::http2::Builder::new(OnThisThread)
            .serve_connection(stream, service)
            .await?;
    } else {
        hyper::server::conn::http1::Builder::new()
            .pipeline_flush(true)
            .serve_connection(stream, service)
            .await?;
    }
    Ok(())
}

type Answer = Response<Either<Relayed, Empty<Bytes>>>;

async fn forward(
    pool: Rc<Pool>,
    mut request: Request<Incoming>,
) -> Result<Answer, std::convert::Infallible> {
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().remove(header::CONNECTION);
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("upstream"));
    Ok(send(pool, request).await.unwrap_or_else(|_| {
        let mut answer = Response::new(Either::Right(Empty::new()));
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
        answer
    }))
}

async fn send(pool: Rc<Pool>, request: Request<Incoming>) -> Result<Answer, Box<dyn Error>> {
    let mut sender = match pool.ready() {
        Some(sender) => sender,
        None => pool.connect().await?,
    };
    let (mut head, body) = sender.send_request(request).await?.into_parts();
    head.headers.remove(header::CONNECTION);
    head.version = Version::HTTP_11;
    let body = Relayed { body, sender: Some(sender), pool };
    Ok(Response::from_parts(head, Either::Left(body)))
}

/// Idle connections to the upstream.
struct Pool {
    upstream: SocketAddr,
    idle: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Pool {
    fn ready(&self) -> Option<SendRequest<Incoming>> {
        let mut idle = self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop()).find(SendRequest::is_ready)
    }

    async fn connect(&self) -> Result<SendRequest<Incoming>, Box<dyn Error>> {
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        spawn_local(async move { connection.await.ok() });
        Ok(sender)
    }
}

/// An answer's body; gives its connection back once it was read.
struct Relayed {
    body: Incoming,
    sender: Option<SendRequest<Incoming>>,
    pool: Rc<Pool>,
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.pool.idle.borrow_mut().extend(self.sender.take());
        }
    }
}

#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, stream: F) {
        spawn_local(stream);
    }
}
