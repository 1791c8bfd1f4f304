//! Bodies that rules read: read last, judged whole, and sent byte for byte.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const JSON: &str = "application/json";

/// A trial with the notes of its upstream.
pub(super) async fn noted(setup: Setup) -> (Trial, Rc<upstream::Notes>) {
    let notes = Rc::new(upstream::Notes::default());
    let sockets = Some(vec![upstream::start_noting(notes.clone()).await]);
    let setup = setup.limit("default", "100000/min per caller, burst 10000");
    (Setup { sockets, ..setup }.start().await, notes)
}

/// A request with a body.
pub(super) fn send(
    line: &str,
    token: &str,
    (kind, body): (&str, impl Into<Bytes>),
) -> Request<Full<Bytes>> {
    let (method, path) = line.split_once(' ').unwrap();
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "api.example")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", kind)
        .body(Full::from(body.into()))
        .unwrap()
}

fn order(token: &str, body: &str) -> Request<Full<Bytes>> {
    send("POST /v1/orders", token, (JSON, body.to_owned()))
}

#[test]
fn the_bytes_judged_are_the_bytes_sent() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        for body in [
            r#"{"amount":1000}"#,
            " {\r\n\t\"note\" : \"caf\\u00e9 \u{65e5}\" , \"amount\":  7 }\n\n",
            r#"{"amount":-9223372036854775808,"note":""}"#,
        ] {
            let seen = trial.ask(order(&token, body)).await;
            assert_eq!(seen.status, StatusCode::OK, "{body} {seen:?}");
            let last = notes.served().pop().unwrap();
            assert_eq!(last.body, body.as_bytes());
            assert_eq!(last.line, "POST /base/orders");
            assert_eq!(last.fields["content-length"], body.len().to_string().as_str());
            assert_eq!(last.fields["content-type"], JSON);
            assert!(!last.fields.contains_key("transfer-encoding"));
        }
        let left = trial.worker.bodies.left().get();
        assert_eq!(left, crate::body::MAX_BUFFERED, "what was sent is held no longer");
    });
}

#[test]
fn a_condition_on_the_body_decides() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let seen = trial.ask(order(&token, r#"{"amount":1001}"#)).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN);
        assert_eq!(trial.records.last().reason, "ConditionFalse");
        assert!(notes.seen.borrow().is_empty());
    });
}

#[test]
fn bodies_that_have_two_readings_never_get_there() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let deep = format!(r#"{{"amount":1,"note":{}{}}}"#, "[".repeat(40), "]".repeat(40));
        let deeper = "[".repeat(60_000);
        for (body, reason) in [
            (r#"{"amount":1,"amount":5000}"#, "BodyMemberDoubled"),
            (r#"{"amount":5000,"amount":1}"#, "BodyMemberDoubled"),
            (r#"{"amount":1,"\u0061mount":5000}"#, "BodyMemberDoubled"),
            (r#"{"amount":1,"Amount":5000}"#, "BodyMemberDoubled"),
            (r#"{"amount":1,"extra":2}"#, "BodyMemberUndeclared"),
            (r#"{"amount":"1"}"#, "BodyMemberIllTyped"),
            (r#"{"amount":1.0}"#, "BodyMemberIllTyped"),
            (r#"{"amount":1e0}"#, "BodyMemberIllTyped"),
            (r#"{"amount":9223372036854775808}"#, "BodyMemberIllTyped"),
            (r#"{"amount":null}"#, "BodyMemberIllTyped"),
            (r#"[{"amount":1}]"#, "BodyMemberIllTyped"),
            ("{\"amount\":01}", "BodyMalformed"),
            ("\u{feff}{\"amount\":1}", "BodyMalformed"),
            (r#"{"amount":1}{"amount":5000}"#, "BodyMalformed"),
            (r#"{"amount":1,"note":"\ud800"}"#, "BodyMalformed"),
            (r#"{"amount":1,"#, "BodyMalformed"),
            ("amount=1", "BodyMalformed"),
            ("", "BodyMalformed"),
            (&deep, "BodyTooDeep"),
            (&deeper, "BodyMemberIllTyped"),
        ] {
            let seen = trial.ask(order(&token, body)).await;
            let shown = &body[..body.len().min(40)];
            assert_eq!(seen.status, StatusCode::BAD_REQUEST, "{shown}");
            assert_eq!(seen.json()["code"], "invalid_body");
            let record = trial.records.last();
            // Of what is wrong in two ways either may be told.
            let told = [reason, "BodyTooDeep"];
            assert!(told.contains(&record.reason.as_str()), "{shown}: {}", record.reason);
            assert_eq!((record.stage, record.decision), ("authorize", "deny"));
        }
        assert!(notes.seen.borrow().is_empty(), "the upstream saw nothing of it");
        assert_eq!(trial.worker.bodies.left().get(), crate::body::MAX_BUFFERED);
    });
}

#[test]
fn body_type_foreign() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let body = r#"{"amount":1}"#;
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "application/json, text/plain",
            "application/merge-patch+json",
        ] {
            let seen = trial.ask(send("POST /v1/orders", &token, (kind, body))).await;
            assert_eq!(seen.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
            assert_eq!(trial.records.last().reason, "BodyTypeForeign");
        }
        let mut request = order(&token, body);
        request.headers_mut().remove("content-type");
        assert_eq!(trial.ask(request).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        // Two are refused before anything of them is read.
        let mut request = order(&token, body);
        request.headers_mut().append("content-type", JSON.parse().unwrap());
        assert_eq!(trial.ask(request).await.status, StatusCode::BAD_REQUEST);
        assert_eq!(trial.records.last().reason, "FieldTwice");
        // A line takes the types that it names, whether or not a rule reads the body.
        for (line, kind, status) in [
            ("PATCH /v1/orders/1", JSON, 415),
            ("PATCH /v1/orders/1", "application/merge-patch+json", 200),
            ("POST /v1/pictures", JSON, 415),
            ("POST /v1/pictures", "image/png", 200),
        ] {
            let seen = trial.ask(send(line, &token, (kind, body))).await;
            assert_eq!(seen.status.as_u16(), status, "{line} {kind}");
        }
        assert_eq!(notes.served().len(), 2);
    });
}

#[test]
fn body_encoded() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        for coding in ["gzip", "identity", "br, gzip", ""] {
            let mut request = order(&token, r#"{"amount":1}"#);
            request.headers_mut().insert("content-encoding", coding.parse().unwrap());
            let seen = trial.ask(request).await;
            assert_eq!(seen.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{coding}");
            assert_eq!(trial.records.last().reason, "BodyEncoded");
        }
        assert!(notes.seen.borrow().is_empty());
    });
}

#[test]
fn a_judged_body_has_a_cap_of_its_own() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let body = |bytes: usize| {
            let pad = "x".repeat(bytes - r#"{"amount":1,"note":""}"#.len());
            format!(r#"{{"amount":1,"note":"{pad}"}}"#)
        };
        for (line, bytes, status) in [
            ("POST /v1/orders", 64 * 1024, 200),
            ("POST /v1/orders", 64 * 1024 + 1, 413),
            ("POST /v1/large-orders", 1024 * 1024, 200),
            ("POST /v1/large-orders", 1024 * 1024 + 1, 413),
        ] {
            let seen = trial.ask(send(line, &token, (JSON, body(bytes)))).await;
            assert_eq!(seen.status.as_u16(), status, "{line} {bytes} {:?}", trial.records.last());
        }
        assert_eq!(notes.served().len(), 2);
        // Without a length it is cut where the cap is.
        let mut client = trial.accept("192.0.2.7", Wire::Tls);
        let head = head("POST /v1/orders", &token, "transfer-encoding: chunked");
        client.write_all(head.as_bytes()).await.unwrap();
        let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
        for _ in 0..5 {
            client.write_all(&chunk).await.ok();
        }
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 413"));
        assert_eq!(trial.worker.bodies.left().get(), crate::body::MAX_BUFFERED);
    });
}

#[test]
fn chunks_are_judged_as_one_and_sent_with_a_length() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        for (pieces, status) in [
            (["{\"amo", "unt\":", "1}"], "200"),
            (["{\"amount\":1,", "\"amount\":", "5000}"], "400"),
        ] {
            let mut client = trial.accept("192.0.2.7", Wire::Tls);
            let head = head("POST /v1/orders", &token, "transfer-encoding: chunked");
            client.write_all(head.as_bytes()).await.unwrap();
            for piece in pieces {
                tokio::task::yield_now().await;
                let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                client.write_all(chunk.as_bytes()).await.unwrap();
            }
            client.write_all(b"0\r\nx-trailer: 1\r\n\r\n").await.unwrap();
            let answer = answer(&mut client).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
        let served = notes.served();
        assert_eq!(served.len(), 1);
        assert_eq!(served[0].fields["content-length"], "12");
        assert_eq!(&served[0].body[..], br#"{"amount":1}"#);
    });
}

#[test]
fn a_body_that_does_not_come_is_408() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let mut client = trial.accept("192.0.2.7", Wire::Tls);
        let head = head("POST /v1/slow-orders", &token, "content-length: 12");
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(b"{\"amount\":").await.unwrap();
        let answer = answer(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert_eq!(trial.records.last().reason, "BodySlow");
        assert!(notes.seen.borrow().is_empty());
        assert_eq!(trial.worker.bodies.left().get(), crate::body::MAX_BUFFERED);
    });
}

#[test]
fn the_body_of_who_may_not_is_never_asked_for() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let expect = "expect: 100-continue\r\ncontent-length: 12";
        let poor = trial.token(&AccessClaims { scope: Scopes::default(), ..trial.user() });
        let service = trial.token(&trial.service("payments:read"));
        for (token, status) in [(&poor, "403"), (&service, "403"), (&"x".to_owned(), "401")] {
            let mut client = trial.accept("192.0.2.7", Wire::Tls);
            let head = head("POST /v1/orders", token, expect);
            client.write_all(head.as_bytes()).await.unwrap();
            let answer = answer(&mut client).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
        // Nor one that is too large, whoever may.
        let token = trial.token(&trial.user());
        let mut client = trial.accept("192.0.2.7", Wire::Tls);
        let large =
            head("POST /v1/orders", &token, "expect: 100-continue\r\ncontent-length: 70000");
        client.write_all(large.as_bytes()).await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 413"));
        let mut client = trial.accept("192.0.2.7", Wire::Tls);
        client.write_all(head("POST /v1/orders", &token, expect).as_bytes()).await.unwrap();
        let go_on = answer(&mut client).await;
        assert!(go_on.starts_with("HTTP/1.1 100"), "{go_on}");
        client.write_all(br#"{"amount":1}"#).await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
        let served = notes.served();
        assert_eq!(served.len(), 1);
        assert!(!served[0].fields.contains_key("expect"));
    });
}

#[test]
fn one_generation_decides_while_a_body_arrives() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let start = async |body: &str| {
            let mut client = trial.accept("192.0.2.7", Wire::Tls);
            let fields = format!("expect: 100-continue\r\ncontent-length: {}", body.len());
            let head = head("POST /v1/orders", &token, &fields);
            client.write_all(head.as_bytes()).await.unwrap();
            // Only who waits for the body says so: the rules in force then decide to the end.
            assert!(answer(&mut client).await.starts_with("HTTP/1.1 100"));
            client
        };
        let (small, large) = (r#"{"amount":1}"#, r#"{"amount":5000}"#);
        let mut before = start(small).await;
        let limits = Setup::default().limits;
        // Other rules: the very line has another condition.
        trial.reload(|next| {
            next.rules = Arc::new(table::rules_where(&limits, "resource.body.amount > 1000"))
        });
        let mut after = start(large).await;
        before.write_all(small.as_bytes()).await.unwrap();
        assert!(answer(&mut before).await.starts_with("HTTP/1.1 200"));
        trial.reload(|next| next.rules = Arc::new(table::rules(&limits)));
        after.write_all(large.as_bytes()).await.unwrap();
        assert!(answer(&mut after).await.starts_with("HTTP/1.1 200"));
        assert_eq!(notes.served().len(), 2);
        let seen = trial.ask(order(&token, large)).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN, "and the next is of the last");
    });
}

#[test]
fn bodies_crowded() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let left = trial.worker.bodies.left();
        left.set(11);
        let seen = trial.ask(order(&token, r#"{"amount":1}"#)).await;
        assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(seen.field("retry-after"), "1");
        assert_eq!(trial.records.last().reason, "BodiesCrowded");
        assert!(notes.seen.borrow().is_empty());
        left.set(12);
        assert_eq!(trial.ask(order(&token, r#"{"amount":1}"#)).await.status, StatusCode::OK);
    });
}

#[test]
fn a_judged_body_over_http_2() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let mut sender = http2::connect(&trial).await;
        for (body, status) in [(r#"{"amount":1}"#, 200), (r#"{"amount":1,"AMOUNT":2}"#, 400)] {
            let request = Request::post("https://api.example/v1/orders")
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", JSON)
                .body(Full::from(body))
                .unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{body}");
        }
        assert_eq!(notes.served().len(), 1);
    });
}

fn head(line: &str, token: &str, more: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nhost: api.example\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\n{more}\r\n\r\n"
    )
}

/// Reads to the end of a head.
async fn answer(client: &mut tokio::io::DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_secs(5), client.read(&mut byte));
        assert_eq!(read.await.expect("an answer").unwrap(), 1, "closed before an answer");
        head.extend_from_slice(&byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}
