//! Servers on ephemeral loopback ports, with and without TLS, that tests fetch from: they write down
//! what they saw, and answer with whatever bytes a test likes, HTTP or not.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_core::fetch::{FetchRequest, NamedBy};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// For `localhost`, `api.example` and `login.example`; trusted by itself.
pub(crate) const CHAIN: &[u8] = include_bytes!("../tls/localhost.pem");
const KEY: &[u8] = include_bytes!("../tls/localhost.key");

/// A request as a server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Seen {
    /// The target of the request line.
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
    /// A field's value.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut pairs = self.head.lines().filter_map(|line| line.split_once(": "));
        pairs.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// What a server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answers with JSON.
    Json(u16, String),
    /// Writes these bytes and closes.
    Raw(Vec<u8>),
    /// Writes these bytes, then a megabyte after another, as long as somebody reads.
    Endless(Vec<u8>),
    /// Answers with JSON after a while.
    Late(Duration, String),
    /// Says nothing, and keeps the connection.
    Silence,
    /// Writes these bytes, and keeps the connection.
    Stuck(Vec<u8>),
}

impl Reply {
    /// JSON with a 200.
    pub(crate) fn ok(json: impl ToString) -> Self {
        Reply::Json(200, json.to_string())
    }
    /// A whole answer of a status, some fields and a body.
    pub(crate) fn answer(status: u16, fields: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{fields}\r\n{body}");
        Reply::Raw(text.into_bytes())
    }
}

/// A whole answer in chunks.
pub(crate) fn chunked(parts: &[&str]) -> Reply {
    let mut text = String::from("HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n");
    for part in parts {
        text.push_str(&format!("{:x}\r\n{part}\r\n", part.len()));
    }
    text.push_str("0\r\n\r\n");
    Reply::Raw(text.into_bytes())
}

type Answering = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A server that lives as long as its test's runtime.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
    reply: Arc<Mutex<Arc<Answering>>>,
}

impl Server {
    pub(crate) async fn http(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start("http", Arc::new(reply)).await
    }

    pub(crate) async fn https(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start("https", Arc::new(reply)).await
    }

    /// From now on it answers otherwise.
    pub(crate) fn becomes(&self, reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *self.reply.lock().unwrap() = Arc::new(reply);
    }

    /// The requests seen so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The targets asked for so far, in order.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.seen().iter().map(|seen| seen.target().to_owned()).collect()
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of endless answers were taken off it.
    pub(crate) fn written(&self) -> usize {
        self.written.load(Ordering::SeqCst)
    }

    /// An address of it, by `localhost`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.address.port())
    }

    async fn start(scheme: &'static str, reply: Arc<Answering>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            scheme,
            seen: Arc::default(),
            connections: Arc::default(),
            written: Arc::default(),
            reply: Arc::new(Mutex::new(reply)),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::SeqCst);
                let serving = serving.clone();
                tokio::spawn(async move {
                    match serving.scheme {
                        "https" => {
                            if let Ok(stream) = acceptor().accept(stream).await {
                                serving.converse(stream).await;
                            }
                        }
                        _ => serving.converse(stream).await,
                    }
                });
            }
        });
        server
    }

    async fn converse(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Some(seen) = hear(&mut stream).await else { return };
        self.seen.lock().unwrap().push(seen.clone());
        let answering = self.reply.lock().unwrap().clone();
        let reply = answering(&seen);
        let (delay, reply) = match reply {
            Reply::Late(delay, json) => (delay, Reply::ok(json)),
            other => (Duration::ZERO, other),
        };
        tokio::time::sleep(delay).await;
        match reply {
            Reply::Json(status, json) => {
                let fields = "content-type: application/json\r\n";
                if let Reply::Raw(bytes) = Reply::answer(status, fields, &json) {
                    stream.write_all(&bytes).await.ok();
                }
            }
            Reply::Raw(bytes) => drop(stream.write_all(&bytes).await),
            Reply::Endless(head) => {
                stream.write_all(&head).await.ok();
                let block = vec![b' '; 64 * 1024];
                while stream.write_all(&block).await.is_ok() {
                    self.written.fetch_add(block.len(), Ordering::SeqCst);
                }
            }
            Reply::Stuck(bytes) => {
                stream.write_all(&bytes).await.ok();
                std::future::pending::<()>().await;
            }
            Reply::Late(..) | Reply::Silence => std::future::pending::<()>().await,
        }
        stream.shutdown().await.ok();
    }
}

async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let line = head.lines().next().unwrap_or_default().to_owned();
            let seen = Seen { line, head: head.to_owned(), body: body.to_owned() };
            let length = seen.field("content-length").and_then(|length| length.parse().ok());
            if seen.body.len() >= length.unwrap_or(0) {
                return Some(seen);
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

fn acceptor() -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            CertificateDer::pem_slice_iter(CHAIN).collect::<Result<_, _>>().unwrap(),
            PrivateKeyDer::from_pem_slice(KEY).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A plain `GET`.
pub(crate) fn get(url: &str, named_by: NamedBy) -> FetchRequest {
    FetchRequest {
        url: url.to_owned(),
        named_by,
        post: None,
        authorization: None,
        accept: "application/json",
        max_bytes: 1024,
        timeout: Duration::from_secs(5),
    }
}
