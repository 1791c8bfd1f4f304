//! Limits on a frozen clock.

use http::StatusCode;
use std::time::Duration;

use super::*;

#[test]
fn exactly_the_burst_passes_and_the_answers_say_so() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let mut client = trial.connect("192.0.2.7", Wire::Tls).await;
        for left in [2, 1, 0] {
            let seen = ask(&mut client, get("/v1/accounts/a1", Some(&token))).await;
            assert_eq!(seen.status, StatusCode::OK);
            assert!(
                seen.field("ratelimit").starts_with(&format!("\"normal\";r={left};")),
                "{seen:?}"
            );
            assert_eq!(seen.field("ratelimit-policy"), "\"normal\";q=3;w=3");
        }
        let seen = ask(&mut client, get("/v1/accounts/a1", Some(&token))).await;
        assert_eq!(seen.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(seen.field("retry-after"), "1");
        assert!(seen.field("ratelimit").starts_with("\"normal\";r=0;"));
        assert_eq!(seen.json()["code"], "rate_limited");
        let record = trial.records.last();
        assert_eq!((record.stage, record.reason.as_str()), ("limit", "CallerLimited"));
        assert_eq!(record.limit.as_deref(), Some("normal 0 left"));
        trial.clock.advance(Duration::from_secs(1));
        let seen = ask(&mut client, get("/v1/accounts/a1", Some(&token))).await;
        assert_eq!(seen.status, StatusCode::OK);
    });
}

#[test]
fn a_limit_is_the_users_not_the_tokens_nor_the_addresss() {
    run(async |setup| {
        let trial = setup.start().await;
        for position in 0..4 {
            let token = trial.token(&trial.user());
            let from = format!("198.51.100.{position}");
            let mut client = trial.connect(&from, Wire::Tls).await;
            let seen = ask(&mut client, get("/v1/accounts/a1", Some(&token))).await;
            assert_eq!(seen.status == StatusCode::OK, position < 3, "{position}");
        }
        let bob = trial.token(&AccessClaims { sub: "u_bob".into(), ..trial.user() });
        assert_eq!(trial.get("/v1/accounts/a1", Some(&bob)).await.status, StatusCode::OK);
    });
}

#[test]
fn a_denial_is_charged_like_use() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let mut statuses = Vec::new();
        for account in ["a2", "a3", "a4", "a1"] {
            let path = format!("/v1/accounts/{account}");
            statuses.push(trial.get(&path, Some(&token)).await.status.as_u16());
        }
        assert_eq!(statuses, [403, 403, 403, 429]);
    });
}

#[test]
fn a_forged_token_spends_nobodys_limit() {
    run(async |setup| {
        let trial = setup.start().await;
        let good = trial.token(&trial.user());
        let forged = format!("{}x", &good[..good.len() - 1]);
        for _ in 0..10 {
            trial.get("/v1/accounts/a1", Some(&forged)).await;
        }
        for _ in 0..3 {
            assert_eq!(trial.get("/v1/accounts/a1", Some(&good)).await.status, StatusCode::OK);
        }
    });
}

#[test]
fn a_peer_is_limited_before_anything_is_looked_up() {
    run(async |setup| {
        let trial = setup.limit("peer", "60/min per ip, burst 2").start().await;
        let token = trial.token(&trial.user());
        for _ in 0..2 {
            assert_eq!(trial.get("/v1/things/1", Some(&token)).await.status, StatusCode::OK);
        }
        let seen = trial.get("/v1/things/1", Some(&token)).await;
        assert_eq!(seen.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(trial.records.last().stage, "peer_limit");
        assert!(seen.field("ratelimit").starts_with("\"peer\""));
        // A neighbour in the same /24 is another peer; a forwarded address of its own making is not.
        let mut other = trial.connect("192.0.2.8", Wire::Tls).await;
        assert_eq!(ask(&mut other, get("/v1/things/1", Some(&token))).await.status, StatusCode::OK);
        let mut request = get("/v1/things/1", Some(&token));
        request.headers_mut().insert("x-forwarded-for", "203.0.113.9".parse().unwrap());
        assert_eq!(trial.ask(request).await.status, StatusCode::TOO_MANY_REQUESTS);
    });
}

#[test]
fn many_at_once_pass_exactly_the_burst() {
    run(async |setup| {
        let trial = setup.limit("normal", "60/min per user, burst 20").start().await;
        let token = trial.token(&trial.user());
        let asking = (0..64).map(|_| {
            let token = token.clone();
            let trial = &trial;
            async move { trial.get("/v1/accounts/a1", Some(&token)).await.status }
        });
        let mut passed = 0;
        for status in join_all(asking).await {
            passed += usize::from(status == StatusCode::OK);
        }
        assert_eq!(passed, 20);
    });
}

/// Polls all futures of a trial together.
pub(crate) async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |cx| {
        let mut open = false;
        for (future, output) in &mut pending {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => open = true,
                }
            }
        }
        if open {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(pending.iter_mut().filter_map(|(_, output)| output.take()).collect())
    })
    .await
}
