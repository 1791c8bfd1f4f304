//! Over real sockets: TLS, both protocols, the guard's answers, caps and draining, with the whole
//! journey behind.

use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::tls;
use crate::tls::tests::{CHAIN, certified};
use crate::trial::{self, Setup, Trial};

pub(super) const CAPS: Caps = Caps { connections: 100, per_address: 50 };

/// Starts a trial behind real listeners.
pub(super) async fn listening(setup: Setup, caps: Caps) -> (Trial, Running) {
    let trial = setup.start().await;
    let (config, _) =
        tls::server_config(vec![certified(&["localhost", "api.example", "login.example"])])
            .unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners { tls: vec![any], plain: vec![any], config, workers: 2, caps };
    let running = start(Arc::clone(&trial.gateway), listeners).unwrap();
    (trial, running)
}

pub(super) fn port(addresses: &[SocketAddr]) -> SocketAddr {
    *addresses.first().unwrap()
}

async fn secured(
    running: &Running,
    name: &'static str,
    protocol: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let mut config = (*tls::client_config(Some(CHAIN.as_bytes())).unwrap()).clone();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(port(&running.tls)).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from(name).unwrap(), stream).await
}

/// Sends bytes over TLS, reads until the server closes.
async fn told(running: &Running, name: &'static str, bytes: &[u8]) -> String {
    let mut stream = secured(running, name, b"http/1.1").await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut said = Vec::new();
    drop(stream.read_to_end(&mut said).await);
    String::from_utf8_lossy(&said).into_owned()
}

async fn told_in_clear(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut said = Vec::new();
    drop(stream.read_to_end(&mut said).await);
    String::from_utf8_lossy(&said).into_owned()
}

const CLOSE: &str = "connection: close\r\n\r\n";

#[test]
fn http1_goes_the_whole_way() {
    trial::run(async |setup| {
        let (trial, running) = listening(setup, CAPS).await;
        let head = "GET /v1/rates HTTP/1.1\r\nHost: api.example\r\n";
        let said =
            told(&running, "api.example", format!("{head}\r\n{head}{CLOSE}").as_bytes()).await;
        assert_eq!(said.matches("HTTP/1.1 200").count(), 2, "{said}");
        assert!(said.contains("\"target\":\"/base/rates\""), "{said}");
        assert_eq!(trial.records.len(), 2);
        assert_ne!(trial.records.last().request, "");
    });
}

#[test]
fn http2_goes_the_whole_way() {
    trial::run(async |setup| {
        let (trial, running) = listening(setup, CAPS).await;
        let stream = secured(&running, "api.example", b"h2").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(connection::OnThisThread, TokioIo::new(stream))
                .await
                .unwrap();
        tokio::task::spawn_local(connection);
        for (target, status, reason) in [
            ("https://api.example/v1/rates", 200, ""),
            ("https://api.example/v1//rates", 400, "PathEmptySegment"),
            ("https://api.example/v1/%2e%2e/rates", 400, "PathDotSegment"),
            ("https://login.example/login", 421, "AuthorityNotOfConnection"),
            ("https://other.example/", 421, "AuthorityNotServed"),
            ("http://api.example/v1/rates", 400, "SchemeDiffers"),
        ] {
            let request = Request::get(target).body(Full::<bytes::Bytes>::default()).unwrap();
            let answer = client.send_request(request).await.unwrap();
            assert_eq!(answer.status(), status, "{target}");
            answer.into_body().collect().await.unwrap();
            if !reason.is_empty() {
                assert_eq!(trial.records.last().reason, reason, "{target}");
            }
        }
        assert_eq!(trial.records.len(), 6);
    });
}

#[test]
fn what_the_guard_refuses_is_answered_and_recorded_like_all_else() {
    trial::run(async |setup| {
        let (trial, running) = listening(setup, CAPS).await;
        for (bytes, status, reason) in [
            ("GET /v1/rates HTTP/1.1\r\nHost: api.example\r\nHost: b\r\n\r\n", 400, "HostTwice"),
            ("GET /v1/rates HTTP/1.1\nHost: api.example\n\n", 400, "BareLf"),
            ("TRACE / HTTP/1.1\r\nHost: api.example\r\n\r\n", 501, "MethodNotServed"),
            ("GET /v1/rates#x HTTP/1.1\r\nHost: api.example\r\n\r\n", 400, "TargetFragment"),
        ] {
            let said = told(&running, "api.example", bytes.as_bytes()).await;
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
            assert!(said.contains("application/problem+json"), "{said}");
            assert!(said.contains("request-id: "), "{said}");
            assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{said}");
            assert_eq!(trial.records.last().reason, reason);
        }
        assert_eq!(trial.records.len(), 4);
    });
}

#[test]
fn a_smuggled_request_is_never_answered() {
    trial::run(async |setup| {
        let (trial, running) = listening(setup, CAPS).await;
        let bytes = "POST /v1/rates HTTP/1.1\r\nHost: api.example\r\nContent-Length: 4\r\n\
                     Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/secrets HTTP/1.1\r\n\
                     Host: api.example\r\n\r\n";
        let said = told(&running, "api.example", bytes.as_bytes()).await;
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{said}");
        assert_eq!(trial.records.last().reason, "LengthWithCoding");
        assert_eq!(trial.records.len(), 1);
    });
}

#[test]
fn another_host_on_the_same_connection_is_421() {
    trial::run(async |setup| {
        let (_trial, running) = listening(setup, CAPS).await;
        let head = format!("GET /login HTTP/1.1\r\nHost: login.example\r\n{CLOSE}");
        let said = told(&running, "api.example", head.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 421 "), "{said}");
        let said = told(&running, "login.example", head.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    });
}

#[test]
fn an_unknown_name_gets_no_handshake() {
    trial::run(async |setup| {
        let (_trial, running) = listening(setup, CAPS).await;
        assert!(secured(&running, "other.example", b"h2").await.is_err());
        assert!(secured(&running, "127.0.0.1", b"h2").await.is_err());
        assert!(secured(&running, "api.example", b"spdy/1").await.is_err());
    });
}

#[test]
fn in_clear_everything_is_turned_away() {
    trial::run(async |setup| {
        let (trial, running) = listening(setup, CAPS).await;
        let head = format!("GET /v1/rates HTTP/1.1\r\nHost: api.example\r\n{CLOSE}");
        // Also at the TLS port: the answer can be read by who sent it.
        for address in [port(&running.plain), port(&running.tls)] {
            let said = told_in_clear(address, head.as_bytes()).await;
            assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
            assert!(said.contains("application/problem+json"), "{said}");
        }
        let said = told_in_clear(port(&running.plain), b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
        assert_eq!(trial.records.last().reason, "HostMissing");
        assert_eq!(trial.records.len(), 3);
        assert_eq!(told_in_clear(port(&running.tls), b"\0\0\0\0").await, "");
    });
}

#[test]
fn the_cap_per_address_closes_the_next_connection() {
    trial::run(async |setup| {
        let caps = Caps { connections: 100, per_address: 2 };
        let (_trial, running) = listening(setup, caps).await;
        let first = secured(&running, "api.example", b"http/1.1").await.unwrap();
        let second = secured(&running, "api.example", b"http/1.1").await.unwrap();
        assert!(secured(&running, "api.example", b"http/1.1").await.is_err());
        drop((first, second));
    });
}

#[test]
fn draining_answers_what_has_begun_and_accepts_nothing_more() {
    trial::run(async |setup| {
        let (trial, running) = listening(setup, CAPS).await;
        let address = port(&running.tls);
        let mut idle = secured(&running, "api.example", b"http/1.1").await.unwrap();
        let mut busy = secured(&running, "api.example", b"http/1.1").await.unwrap();
        // The upstream takes 5 s, the line allows 300 ms: the drain has to wait for the 504.
        busy.write_all(b"GET /v1/slow HTTP/1.1\r\nHost: api.example\r\n\r\n").await.unwrap();
        while trial.gateway.figures.requests_total.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let drained = tokio::task::spawn_blocking(|| running.drain(Duration::from_secs(5)));
        let mut said = Vec::new();
        drop(busy.read_to_end(&mut said).await);
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with("HTTP/1.1 504 "), "{said}");
        assert_eq!(idle.read(&mut [0; 16]).await.unwrap_or(0), 0);
        drained.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
        assert_eq!(trial.records.len(), 1);
        let open = &trial.gateway.figures.connections_open;
        assert_eq!(open.load(std::sync::atomic::Ordering::Relaxed), 0);
    });
}

#[test]
fn a_request_cut_off_by_the_end_of_the_grace_is_still_recorded() {
    trial::run(async |setup| {
        let (trial, running) = listening(setup, CAPS).await;
        let mut busy = secured(&running, "api.example", b"http/1.1").await.unwrap();
        busy.write_all(b"GET /v1/slow HTTP/1.1\r\nHost: api.example\r\n\r\n").await.unwrap();
        while trial.gateway.figures.requests_total.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        tokio::task::spawn_blocking(|| running.drain(Duration::ZERO)).await.unwrap();
        assert_eq!(trial.records.len(), 1);
    });
}
