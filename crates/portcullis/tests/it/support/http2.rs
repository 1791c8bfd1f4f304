//! HTTP/2, for what differs there: many streams of one connection at once.

use std::sync::Arc;

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::server::Server;
use super::wire;

/// A connection.
pub(crate) type Connection = SendRequest<Empty<Bytes>>;

/// Connects to the API; must run inside a runtime.
pub(crate) async fn connect(server: &Server) -> Connection {
    let ca = std::fs::read(server.ca_path()).expect("a CA");
    let connector = TlsConnector::from(Arc::clone(&wire::trust(&ca, &[b"h2"])));
    let stream = TcpStream::connect(("127.0.0.1", server.ports.api)).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = connector.connect(name, stream).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let executor = TokioExecutor::new();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// A `GET`; its status and body.
pub(crate) async fn get(mut connection: Connection, port: u16, target: &str) -> (u16, Bytes) {
    let request = Request::get(format!("https://localhost:{port}{target}"));
    let request = request.body(Empty::new()).expect("a request");
    connection.ready().await.expect("open");
    let answer = connection.send_request(request).await.expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, body)
}
