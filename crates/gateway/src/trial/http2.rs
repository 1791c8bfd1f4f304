//! The same journey over HTTP/2: many requests on one connection.

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;

use super::*;

/// Spawns on the worker's thread.
#[derive(Clone)]
pub(super) struct Here;

impl<F: Future + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

pub(super) async fn connect(trial: &Trial) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let (mine, theirs) = tokio::io::duplex(64 * 1024);
    let service = trial.service_at("192.0.2.7", Wire::Tls);
    tokio::task::spawn_local(async move {
        let server = hyper::server::conn::http2::Builder::new(Here);
        server.serve_connection(TokioIo::new(theirs), service).await.ok();
    });
    let handshake = hyper::client::conn::http2::handshake(Here, TokioIo::new(mine));
    let (sender, connection) = handshake.await.unwrap();
    tokio::task::spawn_local(connection);
    sender
}

pub(super) fn at(path: &str, token: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::get(format!("https://api.example{path}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Full::default()).unwrap()
}

#[test]
fn many_streams_pass_exactly_the_burst() {
    run(async |setup| {
        let trial = setup.limit("normal", "60/min per user, burst 20").start().await;
        let token = trial.token(&trial.user());
        let sender = connect(&trial).await;
        let asking = (0..64).map(|_| {
            let (mut sender, token) = (sender.clone(), token.clone());
            async move {
                let answer =
                    sender.send_request(at("/v1/accounts/a1", Some(&token))).await.unwrap();
                let status = answer.status();
                answer.into_body().collect().await.unwrap();
                status
            }
        });
        let statuses = limits::join_all(asking).await;
        let passed = statuses.iter().filter(|status| **status == StatusCode::OK).count();
        let limited =
            statuses.iter().filter(|status| **status == StatusCode::TOO_MANY_REQUESTS).count();
        assert_eq!((passed, limited), (20, 44));
    });
}

#[test]
fn an_answer_and_its_record_are_the_same_as_over_http1() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let mut sender = connect(&trial).await;
        let answer = sender.send_request(at("/v1/accounts/a1?x=1", Some(&token))).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let record = trial.records.last();
        assert_eq!(record.target, "api.example/v1/accounts/a1");
        let saw: serde_json::Value =
            serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes())
                .unwrap();
        assert_eq!(saw["target"], "/base/accounts/a1?x=1");
        assert_eq!(saw["fields"]["host"], "127.0.0.1:9000");
        let missing = sender.send_request(at("/v1/accounts/a1", None)).await.unwrap();
        assert_eq!(missing.status(), StatusCode::UNAUTHORIZED);
        assert!(missing.headers().contains_key("www-authenticate"));
    });
}
