//! The stream under a real hyper, over an in-memory pipe, on a paused clock.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::LocalSet;

use super::*;

type Request = http::Request<Incoming>;

/// What came of one request: the answer's body says what the service saw.
async fn answer(findings: Rc<Findings>, request: Request) -> http::Response<Full<Bytes>> {
    let (fault, open) = findings.begin();
    let target = request.uri().to_string();
    let body = request.into_body().collect().await.map(|body| body.to_bytes().len());
    drop(open);
    let said = match (fault, body) {
        (Some(fault), _) => format!("refused {}", fault.rule()),
        (None, Ok(length)) => format!("saw {target} {length}"),
        (None, Err(_)) => "broken".to_owned(),
    };
    let status = fault.map_or(200, WireFault::status);
    http::Response::builder().status(status).body(Full::new(said.into())).unwrap()
}

fn paused() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

/// Runs a hyper over the guarded end of a pipe, and a client on the other end.
fn serving<F: Future>(client: impl FnOnce(DuplexStream) -> F) -> F::Output {
    LocalSet::new().block_on(&paused(), async move {
        let (near, far) = duplex(256 * 1024);
        let findings = Rc::new(Findings::default());
        let wire = Wire::new(far, Rc::clone(&findings));
        let service = service_fn(move |request| {
            let findings = Rc::clone(&findings);
            async move { Ok::<_, Infallible>(answer(findings, request).await) }
        });
        tokio::task::spawn_local(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(wire), service);
            drop(connection.await);
        });
        client(near).await
    })
}

/// Sends pieces, then reads until the server closes (or nothing more comes for 5 s).
fn exchange(pieces: &[&[u8]]) -> String {
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    serving(|mut stream| async move {
        for piece in pieces {
            stream.write_all(&piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut said = Vec::new();
        let all = stream.read_to_end(&mut said);
        drop(tokio::time::timeout(Duration::from_secs(5), all).await);
        String::from_utf8_lossy(&said).into_owned()
    })
}

const GOOD: &[u8] = b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_good_head_passes_whole_and_in_pieces() {
    assert!(exchange(&[GOOD]).contains("saw /one 0"));
    let bytes: Vec<&[u8]> = GOOD.chunks(1).collect();
    assert!(exchange(&bytes).contains("saw /one 0"));
}

#[test]
fn pipelined_heads_pass() {
    let said = exchange(&[&GOOD.repeat(3)]);
    assert_eq!(said.matches("saw /one 0").count(), 3, "{said}");
}

#[test]
fn bodies_pass_in_pieces() {
    let length = b"POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
    assert!(exchange(&[length, b"01234", b"56789"]).contains("saw /l 10"));
    let chunked = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let said = exchange(&[chunked, b"5", b"\r\nhe", b"llo\r", b"\n0\r\n", b"\r\n", GOOD]);
    assert!(said.contains("saw /c 5") && said.contains("saw /one 0"), "{said}");
}

#[test]
fn a_fault_is_answered_and_the_connection_closed() {
    let said = exchange(&[b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", GOOD]);
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    assert!(said.contains("connection: close"), "{said}");
    assert!(said.ends_with("refused HostTwice"), "{said}");
}

#[test]
fn only_the_head_with_the_fault_is_refused() {
    let said = exchange(&[&[GOOD, b"get / HTTP/1.1\r\n"].concat()]);
    assert!(said.contains("saw /one 0") && said.ends_with("refused MethodLowerCase"), "{said}");
}

#[test]
fn a_fault_behind_a_head_in_pieces_is_refused() {
    let (start, end) = GOOD.split_at(10);
    let said = exchange(&[start, &[end, b"GET / HTTP/1.1\n"].concat()]);
    assert!(said.contains("saw /one 0") && said.ends_with("refused BareLf"), "{said}");
}

#[test]
fn a_client_cannot_forge_a_stand_in() {
    let said = exchange(&[STAND_IN]);
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("saw / 0"), "{said}");
}

#[test]
fn a_fault_in_a_body_breaks_the_body() {
    let head = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let said = exchange(&[head, b"0x1\r\na\r\n0\r\n\r\n", GOOD]);
    assert!(said.contains("broken") || said.is_empty(), "{said}");
    assert!(!said.contains("saw /one"), "{said}");
}

#[test]
fn hyper_never_refuses_what_the_guard_let_pass() {
    // An answer that hyper makes by itself has no record; each of these is near to its limits.
    let long = format!("GET /{}?{} HTTP/1.1", "a".repeat(4000), "b".repeat(4000));
    let lines = [
        "GET /[]{}|^\\ HTTP/1.1",
        "GET /?[]{}|^\\?/ HTTP/1.1",
        "GET /%zz HTTP/1.1",
        "GET //a HTTP/1.1",
        "GET /? HTTP/1.1",
        "GET https://a/ HTTP/1.1",
        "GET HTTP://A//x HTTP/1.1",
        "GET /@:a HTTP/1.1",
        "OPTIONS /* HTTP/1.0",
        "GET /a://b HTTP/1.1",
        &long,
    ];
    for line in lines {
        let fields = "A: b\r\n".repeat(99);
        let head = format!("{line}\r\nHost: a\r\n{fields}\r\n");
        let said = exchange(&[head.as_bytes()]);
        assert!(said.contains("saw "), "{line}: {said}");
    }
}

#[test]
fn head_timed_out() {
    let said = serving(|mut stream| async move {
        stream.write_all(b"GET / HT").await.unwrap();
        let start = Instant::now();
        // A drip keeps the first byte's deadline.
        for byte in b"TP/1.1" {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stream.write_all(&[*byte]).await.unwrap();
        }
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(start.elapsed() < HEAD_TIMEOUT + LINGER * 2, "{:?}", start.elapsed());
        said
    });
    assert!(said.starts_with("HTTP/1.1 408") && said.ends_with("refused HeadTimedOut"), "{said}");
}

#[test]
fn a_connection_that_asks_nothing_is_closed() {
    let took = serving(|mut stream| async move {
        let start = Instant::now();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        assert!(said.is_empty());
        start.elapsed()
    });
    assert!(took >= HEAD_TIMEOUT && took < HEAD_TIMEOUT * 2, "{took:?}");
}

#[test]
fn an_idle_connection_is_closed_and_a_used_one_is_not() {
    let took = serving(|mut stream| async move {
        let mut bytes = [0; 1024];
        for _ in 0..3 {
            stream.write_all(GOOD).await.unwrap();
            assert!(stream.read(&mut bytes).await.unwrap() > 0);
            tokio::time::sleep(IDLE_TIMEOUT / 2).await;
        }
        let start = Instant::now();
        assert_eq!(stream.read(&mut bytes).await.unwrap(), 0);
        start.elapsed()
    });
    assert!(took >= IDLE_TIMEOUT / 3 && took < IDLE_TIMEOUT, "{took:?}");
}

#[test]
fn a_client_that_reads_nothing_is_given_up() {
    paused().block_on(async {
        let (mut near, far) = duplex(16);
        let mut wire = Wire::new(far, Rc::default());
        let start = Instant::now();
        let error = wire.write_all(&[0; 17]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= STALL_TIMEOUT);
        // One that reads at last is not.
        near.read_exact(&mut [0; 16]).await.unwrap();
        wire.write_all(&[0; 16]).await.unwrap();
    });
}

#[test]
fn vectored_writes_are_kept() {
    struct Vectored;
    impl AsyncRead for Vectored {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }
    impl AsyncWrite for Vectored {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }
        fn is_write_vectored(&self) -> bool {
            true
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    assert!(Wire::new(Vectored, Rc::default()).is_write_vectored());
}
