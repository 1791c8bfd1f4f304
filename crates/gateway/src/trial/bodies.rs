//! Bodies: caps, streaming, and upstreams that misbehave.

use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn upload(trial: &Trial, bytes: usize) -> Seen {
    let token = trial.token(&trial.user());
    let request = Request::post("/v1/upload")
        .header("host", "api.example")
        .header("authorization", format!("Bearer {token}"))
        .body(Full::from(vec![b'x'; bytes]))
        .unwrap();
    trial.ask(request).await
}

#[test]
fn a_body_within_the_cap_arrives_whole() {
    run(async |setup| {
        let trial = setup.start().await;
        for bytes in [0, 1, 10_000, 64 * 1024] {
            let seen = upload(&trial, bytes).await;
            assert_eq!(seen.status, StatusCode::OK);
            assert_eq!(seen.json()["length"], bytes);
        }
    });
}

#[test]
fn a_length_over_the_cap_is_refused_before_any_byte() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let mut client = trial.accept("192.0.2.7", Wire::Tls);
        let head = format!(
            "POST /v1/upload HTTP/1.1\r\nhost: api.example\r\nauthorization: Bearer {token}\r\n\
             content-length: {}\r\n\r\n",
            64 * 1024 + 1
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let answer = read_head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert_eq!(trial.records.last().reason, "BodyTooLarge");
    });
}

#[test]
fn a_chunked_body_is_cut_at_the_cap() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let mut client = trial.accept("192.0.2.7", Wire::Tls);
        let head = format!(
            "POST /v1/upload HTTP/1.1\r\nhost: api.example\r\nauthorization: Bearer {token}\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let chunk = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
        for _ in 0..5 {
            client.write_all(&chunk).await.ok();
        }
        let answer = read_head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    });
}

#[test]
fn a_form_that_overrides_the_method_is_broken_off_wherever_it_is_cut() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        for pieces in [["a=b&_met", "hod=DELETE"], ["a=b&c=_met", "hod=DELETE"]] {
            let mut client = trial.accept("192.0.2.7", Wire::Tls);
            let head = format!(
                "POST /v1/upload HTTP/1.1\r\nhost: api.example\r\nauthorization: Bearer {token}\r\n\
                 content-type: Application/X-WWW-Form-Urlencoded; charset=utf-8\r\n\
                 transfer-encoding: chunked\r\n\r\n"
            );
            client.write_all(head.as_bytes()).await.unwrap();
            for piece in pieces {
                let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                client.write_all(chunk.as_bytes()).await.unwrap();
            }
            client.write_all(b"0\r\n\r\n").await.unwrap();
            let answer = read_head(&mut client).await;
            let overrides = pieces[0].ends_with("&_met");
            let status = if overrides { "HTTP/1.1 400" } else { "HTTP/1.1 200" };
            assert!(answer.starts_with(status), "{answer}");
            assert_eq!(trial.records.last().reason == "MethodOverrideInForm", overrides);
        }
    });
}

#[test]
fn a_body_that_does_not_come_is_408_and_an_upstream_that_does_not_answer_504() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let mut client = trial.accept("192.0.2.7", Wire::Tls);
        let head = format!(
            "POST /v1/slow HTTP/1.1\r\nhost: api.example\r\nauthorization: Bearer {token}\r\n\
             content-length: 10\r\n\r\nabc"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let answer = read_head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        let seen = trial.get("/v1/slow", None).await;
        assert_eq!(seen.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(
            (trial.records.last().decision, trial.records.last().reason),
            ("error", "UpstreamSlow".into())
        );
    });
}

#[test]
fn an_upstream_that_is_not_there_is_502() {
    run(async |setup| {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let trial = Setup { sockets: Some(vec![address]), ..setup }.start().await;
        let seen = trial.get("/v1/rates", None).await;
        assert_eq!(seen.status, StatusCode::BAD_GATEWAY);
        assert_eq!(seen.json()["code"], "upstream_unreachable");
        assert!(!seen.json().to_string().contains("127.0.0.1"), "no address in the answer");
        assert!(trial.records.last().reason.starts_with("UpstreamUnreachable"));
    });
}

#[test]
fn unclear_answers_are_502() {
    static ANSWERS: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"nonsense\r\n\r\n",
    ];
    run(async |setup| {
        let address = upstream::start_raw(&ANSWERS).await;
        let trial = Setup { sockets: Some(vec![address]), ..setup }.start().await;
        for answer in ANSWERS {
            let seen = trial.get("/v1/rates", None).await;
            assert_eq!(seen.status, StatusCode::BAD_GATEWAY, "{}", String::from_utf8_lossy(answer));
        }
    });
}

#[test]
fn connections_to_the_upstream_are_kept_and_a_stale_one_is_not_the_clients_trouble() {
    static ANSWERS: [&[u8]; 1] = [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"];
    run(async |setup| {
        // Each connection answers once, without saying so, and is closed.
        let address = upstream::start_raw(&ANSWERS).await;
        let trial = Setup { sockets: Some(vec![address]), ..setup }.start().await;
        for _ in 0..20 {
            assert_eq!(trial.get("/v1/rates", None).await.status, StatusCode::OK);
            trial.clock.advance(Duration::from_secs(5));
        }
    });
}

#[test]
fn a_connection_to_the_upstream_serves_many_requests() {
    run(async |setup| {
        let notes = Rc::new(upstream::Notes::default());
        let address = upstream::start_noting(notes.clone()).await;
        let trial = Setup { sockets: Some(vec![address]), ..setup }.start().await;
        let token = trial.token(&trial.user());
        for _ in 0..5 {
            assert_eq!(trial.get("/v1/rates", None).await.status, StatusCode::OK);
            assert_eq!(upload(&trial, 10_000).await.status, StatusCode::OK);
            assert_eq!(trial.get("/v1/things/1", Some(&token)).await.status, StatusCode::OK);
        }
        assert_eq!(notes.connections.get(), 1);
        // One that rested too long is not used again.
        trial.clock.advance(Duration::from_secs(61));
        assert_eq!(trial.get("/v1/rates", None).await.status, StatusCode::OK);
        assert_eq!(notes.connections.get(), 2);
    });
}

#[test]
fn a_long_answer_streams_with_back_pressure() {
    run(async |setup| {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Rc::new(std::cell::Cell::new(0usize));
        let counter = sent.clone();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..LENGTH / CHUNK {
                if stream.write_all(&[b'x'; CHUNK]).await.is_err() {
                    return;
                }
                counter.set(counter.get() + CHUNK);
            }
        });
        let trial = Setup { sockets: Some(vec![address]), ..setup }.start().await;
        let mut client = trial.accept("192.0.2.7", Wire::Tls);
        client.write_all(b"GET /v1/rates HTTP/1.1\r\nhost: api.example\r\n\r\n").await.unwrap();
        read_head(&mut client).await;
        // Nobody reads: what is under way is bounded by sockets and small buffers.
        let mut before = usize::MAX;
        while sent.get() != before {
            before = sent.get();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(sent.get() < LENGTH / 2, "{} bytes are under way", sent.get());
        let mut rest = 0;
        let mut buffer = vec![0; 64 * 1024];
        while rest < LENGTH - 64 * 1024 {
            rest += client.read(&mut buffer).await.unwrap();
        }
        assert!(sent.get() > LENGTH / 2);
    });
}

const LENGTH: usize = 64 * 1024 * 1024;
const CHUNK: usize = 64 * 1024;

/// Reads until the head is there.
async fn read_head(client: &mut tokio::io::DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut buffer = [0; 512];
        let read = client.read(&mut buffer).await.unwrap();
        assert!(read > 0, "closed before an answer");
        head.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&head).into_owned()
}
