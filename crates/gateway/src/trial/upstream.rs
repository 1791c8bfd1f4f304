//! An upstream on a socket of its own: it says what it saw.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Starts it; the address it listens at.
pub(crate) async fn start() -> SocketAddr {
    start_counted(Rc::default()).await
}

/// The same, counting the connections that were made.
pub(crate) async fn start_counted(connections: Rc<Cell<usize>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.set(connections.get() + 1);
            let server = hyper::server::conn::http1::Builder::new();
            let serving = server.serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::task::spawn_local(serving);
        }
    });
    address
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    if parts.uri.path().ends_with("/slow") {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
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
        "length": length,
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
        .body(Full::from(saw.to_string()));
    Ok(answer.unwrap())
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
