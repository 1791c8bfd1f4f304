//! Clients and upstreams that mean harm, or only do harm: what they hold must be given back, what
//! they did must be recorded, and nobody else may pay for it.

use std::cell::Cell;

use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[test]
fn a_foreign_value_in_a_query_charges_nobody() {
    // A page anywhere can make a browser ask for such an address: it must not spend the budget of
    // whoever sits behind the same one, which the login shares.
    run(async |setup| {
        let trial = setup.start().await;
        for path in ["/v1/rates?access_token=abc", "/v1/things/1?access_token=abc"] {
            for _ in 0..20 {
                trial.get(path, None).await;
            }
            assert_eq!(trial.get("/v1/things/1", None).await.status, StatusCode::UNAUTHORIZED);
        }
    });
}

#[test]
fn what_is_no_request_is_counted_all_the_same() {
    run(async |setup| {
        let trial = setup.limit("peer", "60/min per ip, burst 5").start().await;
        let mut client = trial.connect("192.0.2.7", Wire::Tls).await;
        for asked in 0..8 {
            let status = ask(&mut client, get("/v1/../rates", None)).await.status;
            let expected = match asked {
                0..5 => StatusCode::BAD_REQUEST,
                _ => StatusCode::TOO_MANY_REQUESTS,
            };
            assert_eq!(status, expected, "{asked}");
        }
        let mut other = trial.connect("192.0.2.8", Wire::Tls).await;
        assert_eq!(ask(&mut other, get("/v1/rates", None)).await.status, StatusCode::OK);
    });
}

/// An upstream that answers each connection at once, reads no body, and keeps the connection; how
/// many of its connections were closed by the other side.
async fn hasty(answer: &'static [u8]) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let closed = Rc::new(Cell::new(0));
    let counter = closed.clone();
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = counter.clone();
            tokio::task::spawn_local(async move {
                let mut buffer = [0; 8192];
                let _ = stream.read(&mut buffer).await;
                stream.write_all(answer).await.ok();
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                counter.set(counter.get() + 1);
            });
        }
    });
    (address, closed)
}

#[test]
fn an_upload_ends_with_its_answer() {
    run(async |setup| {
        let (address, closed) = hasty(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let trial = Setup { sockets: Some(vec![address]), ..setup }.start().await;
        let token = trial.token(&trial.user());
        let mut client = trial.accept("192.0.2.7", Wire::Tls);
        let head = format!(
            "POST /v1/upload HTTP/1.1\r\nhost: api.example\r\nauthorization: Bearer {token}\r\n\
             content-length: 10\r\n\r\nabc"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = client.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
        // The client neither sends the rest nor goes away.
        settled(|| closed.get() == 1).await;
    });
}

#[test]
fn bytes_behind_an_answer_are_nobodys_answer() {
    static TWICE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok\
        HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    static EMPTY: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n\
        HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    run(async |_| {
        for bytes in [TWICE, EMPTY] {
            let (address, _) = hasty(bytes).await;
            let trial = Setup { sockets: Some(vec![address]), ..Setup::default() }.start().await;
            let mut client = trial.connect("192.0.2.7", Wire::Tls).await;
            for _ in 0..5 {
                let seen = ask(&mut client, get("/v1/rates", None)).await;
                assert_ne!(&seen.body[..], b"evil");
            }
        }
    });
}

#[test]
fn a_step_that_nobody_waits_for_is_recorded_as_what_it_was() {
    run(async |setup| {
        let trial = setup.start().await;
        let mut client = trial.accept("192.0.2.7", Wire::Tls);
        let slow =
            b"POST /oauth/token HTTP/1.1\r\nhost: login.example\r\ncontent-length: 4\r\n\r\nslow";
        client.write_all(slow).await.unwrap();
        settled(|| !trial.house.seen.lock().unwrap().is_empty()).await;
        drop(client);
        settled(|| trial.records.len() == 1).await;
        let record = trial.records.last();
        assert_eq!((record.event, record.reason.as_str()), ("page", "PageShown"));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(trial.records.len(), 1, "one arrival, one record");
    });
}

#[test]
fn a_connection_of_a_chunked_answer_is_kept() {
    run(async |setup| {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sockets = vec![listener.local_addr().unwrap()];
        let connections = Rc::new(Cell::new(0));
        let counter = connections.clone();
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.set(counter.get() + 1);
                tokio::task::spawn_local(async move {
                    let mut buffer = [0; 8192];
                    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                            2\r\nok\r\n0\r\n\r\n";
                        stream.write_all(answer).await.ok();
                    }
                });
            }
        });
        let trial = Setup { sockets: Some(sockets), ..setup }.start().await;
        for _ in 0..5 {
            let seen = trial.get("/v1/rates", None).await;
            assert_eq!(&seen.body[..], b"ok");
        }
        assert_eq!(connections.get(), 1);
    });
}

#[test]
fn a_reader_that_takes_nothing_gives_the_connection_back() {
    run_within(Duration::from_secs(600), async |setup| {
        let (address, closed) = hasty(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let trial = Setup { sockets: Some(vec![address]), ..setup }.start().await;
        let (mine, theirs) = tokio::io::duplex(64 * 1024);
        let service = trial.service_at("192.0.2.7", Wire::Tls);
        tokio::task::spawn_local(async move {
            let server = hyper::server::conn::http2::Builder::new(http2::Here);
            server.serve_connection(TokioIo::new(theirs), service).await.ok();
        });
        // No window: the head of an answer comes, its body cannot.
        let mut builder = hyper::client::conn::http2::Builder::new(http2::Here);
        builder.initial_stream_window_size(0);
        let (mut sender, connection) =
            builder.handshake::<_, Full<Bytes>>(TokioIo::new(mine)).await.unwrap();
        tokio::task::spawn_local(connection);
        let request = Request::get("https://api.example/v1/rates").body(Full::default()).unwrap();
        let answer: Response<Incoming> = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(closed.get(), 0);
        tokio::time::pause();
        for _ in 0..4 {
            tokio::time::advance(Duration::from_secs(31)).await;
            tokio::task::yield_now().await;
        }
        tokio::time::resume();
        settled(|| closed.get() == 1).await;
        drop(answer);
    });
}

#[test]
fn a_body_arrives_whatever_the_method_and_its_framing() {
    run(async |setup| {
        let trial = setup.start().await;
        for method in ["GET", "HEAD"] {
            for framed in [
                "content-length: 5\r\n\r\nhello",
                "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ] {
                let mut client = trial.accept("192.0.2.7", Wire::Tls);
                let text = format!("{method} /v1/rates HTTP/1.1\r\nhost: api.example\r\n{framed}");
                client.write_all(text.as_bytes()).await.unwrap();
                let mut answer = vec![0; 4096];
                let read = client.read(&mut answer).await.unwrap();
                let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                if method == "GET" {
                    assert!(answer.contains("\"length\":5"), "{framed:?}: {answer}");
                }
            }
        }
    });
}

/// Waits until something is so.
async fn settled(mut so: impl FnMut() -> bool) {
    for _ in 0..300 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to that");
}

#[test]
fn a_length_is_written_anew() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let mut sender = http2::connect(&trial).await;
        for (length, body, expected) in [("", "", "0"), ("0005", "12345", "5")] {
            let request = Request::post("https://api.example/v1/upload")
                .header("authorization", format!("Bearer {token}"))
                .header("content-length", length)
                .body(Full::from(body))
                .unwrap();
            let Ok(answer) = sender.send_request(request).await else { continue };
            if answer.status() != StatusCode::OK {
                continue;
            }
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let saw: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(saw["fields"]["content-length"], expected, "{length:?}");
        }
    });
}
