//! An upstream on a socket of its own: it says what it saw, and whose its objects are.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// Where owners are asked for.
pub(crate) const OWNERS: &str = "/base/internal/owner/";

/// What an upstream noted of its requests.
#[derive(Default)]
pub(crate) struct Notes {
    /// Connections made.
    pub(crate) connections: Cell<usize>,
    /// Each request: method and target, fields, body.
    pub(crate) seen: RefCell<Vec<Noted>>,
    /// Look-ups for an object called `held…` wait for this.
    pub(crate) held: Notify,
    /// Look-ups under way now, and the most at once.
    pub(crate) asking: Cell<usize>,
    pub(crate) most: Cell<usize>,
}

#[derive(Clone)]
pub(crate) struct Noted {
    pub(crate) line: String,
    pub(crate) fields: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Notes {
    /// Requests that are no look-ups.
    pub(crate) fn served(&self) -> Vec<Noted> {
        let seen = self.seen.borrow();
        seen.iter().filter(|noted| !noted.line.contains(OWNERS)).cloned().collect()
    }

    /// How many look-ups there were.
    pub(crate) fn look_ups(&self) -> usize {
        self.seen.borrow().len() - self.served().len()
    }
}

/// Starts it; the address it listens at.
pub(crate) async fn start() -> SocketAddr {
    start_noting(Rc::default()).await
}

/// The same, with its notes.
pub(crate) async fn start_noting(notes: Rc<Notes>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            notes.connections.set(notes.connections.get() + 1);
            let notes = notes.clone();
            let answer = service_fn(move |request| answer(notes.clone(), request));
            let server = hyper::server::conn::http1::Builder::new();
            let serving = server.serve_connection(TokioIo::new(stream), answer);
            tokio::task::spawn_local(serving);
        }
    });
    address
}

/// It hangs up instead of answering.
#[derive(Debug, thiserror::Error)]
#[error("hung up")]
struct HungUp;

async fn answer(notes: Rc<Notes>, request: Request<Incoming>) -> Result<Response<Said>, HungUp> {
    let (parts, body) = request.into_parts();
    if parts.uri.path().ends_with("/slow") {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    notes.seen.borrow_mut().push(Noted {
        line: format!("{} {}", parts.method, parts.uri),
        fields: parts.headers.clone(),
        body: body.clone(),
    });
    if let Some(object) = parts.uri.path().strip_prefix(OWNERS) {
        notes.asking.set(notes.asking.get() + 1);
        notes.most.set(notes.most.get().max(notes.asking.get()));
        if object.starts_with("held") {
            notes.held.notified().await;
        }
        notes.asking.set(notes.asking.get() - 1);
        return owner(object).await;
    }
    let fields: serde_json::Map<String, serde_json::Value> = parts
        .headers
        .keys()
        .map(|name| {
            let values: Vec<_> =
                parts.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
            (name.to_string(), values.join("|").into())
        })
        .collect();
    let saw = serde_json::json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "fields": fields,
        "length": body.len(),
    });
    let answer = Response::builder()
        .header("content-type", "application/json")
        .header("portcullis-identity", "forged")
        .header("access-control-allow-origin", "*")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("set-cookie", "__Host-pc_session=stolen")
        .header("set-cookie", "=__Host-pc-session=nameless")
        .header("set-cookie", "theirs=1")
        .header("request-id", "forged")
        .body(Said::Whole(Some(saw.to_string().into())));
    Ok(answer.unwrap())
}

/// Whose an object is, by its name.
async fn owner(object: &str) -> Result<Response<Said>, HungUp> {
    let (status, body) = match object {
        _ if object.starts_with("mine") || object.starts_with("held") => {
            (200, r#"{"owner":"u_alice","other":{"owner":"u_bob"}}"#.to_owned())
        }
        _ if object.starts_with("theirs") => (200, r#"{"owner":"u_bob"}"#.into()),
        "number" => (200, r#"{"owner":7}"#.into()),
        "list" => (200, r#"{"owner":["u_alice"]}"#.into()),
        "null" => (200, r#"{"owner":null}"#.into()),
        "twice" => (200, r#"{"owner":"u_bob","owner":"u_alice"}"#.into()),
        "folded" => (200, r#"{"owner":"u_alice","Owner":"u_bob"}"#.into()),
        "elsewhere" => (200, r#"{"id":"u_alice"}"#.into()),
        "text" => (200, "u_alice".into()),
        "long" => (200, format!(r#"{{"owner":"u_alice","pad":"{}"}}"#, "x".repeat(4096))),
        "empty" => (204, String::new()),
        "moved" => (302, String::new()),
        "gone" => (410, r#"{"owner":"u_alice"}"#.into()),
        "forbidden" => (403, r#"{"owner":"u_alice"}"#.into()),
        "broken" => (500, r#"{"owner":"u_alice"}"#.into()),
        "dead" => return Err(HungUp),
        "late" => {
            tokio::time::sleep(Duration::from_secs(5)).await;
            (200, r#"{"owner":"u_alice"}"#.into())
        }
        "huge" => return Ok(Response::new(Said::Endless(1 << 30))),
        _ => (404, r#"{"error":"not found"}"#.into()),
    };
    let mut answer = Response::new(Said::Whole(Some(Bytes::from(body))));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    let fields = answer.headers_mut();
    fields.insert("content-type", "application/json".parse().unwrap());
    if status == 302 {
        fields.insert("location", format!("{OWNERS}mine").parse().unwrap());
    }
    Ok(answer)
}

/// What it answers with.
enum Said {
    Whole(Option<Bytes>),
    /// So many bytes, in chunks without a length.
    Endless(usize),
}

impl Body for Said {
    type Data = Bytes;
    type Error = HungUp;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HungUp>>> {
        Poll::Ready(match &mut *self {
            Said::Whole(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Said::Endless(0) => None,
            Said::Endless(left) => {
                let chunk = (*left).min(64 * 1024);
                *left -= chunk;
                Some(Ok(Frame::data(Bytes::from(vec![b' '; chunk]))))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Said::Whole(None) | Said::Endless(0))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Said::Whole(bytes) => {
                http_body::SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Said::Endless(_) => http_body::SizeHint::default(),
        }
    }
}

/// An upstream that answers each connection with these bytes, after it read something.
pub(crate) async fn start_raw(answers: &'static [&'static [u8]]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        for bytes in answers.iter().cycle() {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            tokio::task::spawn_local(async move {
                let mut buffer = [0; 8192];
                let _ = stream.read(&mut buffer).await;
                stream.write_all(bytes).await.ok();
                stream.shutdown().await.ok();
            });
        }
    });
    address
}
