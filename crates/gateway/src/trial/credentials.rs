//! Tokens at the edge, and the rights behind them.

use http::{Request, StatusCode};
use http_body_util::Full;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::base64url;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::revocation::{Revocation, RevocationKind, mark};
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use std::time::Duration;

use super::*;

#[test]
fn a_user_reads_her_own_account_and_no_other() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let own = trial.get("/v1/accounts/a1", Some(&token)).await;
        assert_eq!(own.status, StatusCode::OK);
        assert_eq!(own.json()["target"], "/base/accounts/a1");
        let record = trial.records.last();
        assert_eq!((record.decision, record.stage), ("allow", "forward"));
        assert_eq!(record.caller, "user:u_alice");
        assert_eq!(record.rule.as_deref(), Some("portcullis.toml:2.1"));
        let other = trial.get("/v1/accounts/a2", Some(&token)).await;
        assert_eq!(other.status, StatusCode::FORBIDDEN);
        assert_eq!(other.json()["code"], "forbidden");
        let record = trial.records.last();
        assert_eq!((record.reason.as_str(), record.stage), ("ConditionFalse", "authorize"));
        assert!(record.clauses.iter().any(|clause| !clause.held && clause.inputs.contains("a2")));
    });
}

#[test]
fn a_missing_token_gets_the_challenge_without_an_error() {
    run(async |setup| {
        let trial = setup.start().await;
        let seen = trial.get("/v1/accounts/a1", None).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        let metadata = "https://api.example/.well-known/oauth-protected-resource/v1";
        let expected = format!("Bearer realm=\"payments\", resource_metadata=\"{metadata}\"");
        assert_eq!(seen.field("www-authenticate"), expected);
        assert_eq!(seen.field("content-type"), "application/problem+json");
        assert_eq!(seen.field("cache-control"), "no-store");
        assert_eq!(seen.json()["instance"], seen.field("request-id"));
        assert_eq!(trial.records.last().reason, "CredentialMissing");
    });
}

#[test]
fn each_forgery_is_refused_by_its_rule() {
    run(async |setup| {
        let trial =
            setup.limit("failed_authentication", "1000/min per ip, burst 1000").start().await;
        let good = trial.user();
        let stranger = SigningKey::generate(Algorithm::EdDsa).unwrap();
        let none = {
            let header = base64url::encode(br#"{"alg":"none","typ":"at+jwt"}"#);
            let claims = base64url::encode(&serde_json::to_vec(&good).unwrap());
            format!("{header}.{claims}.")
        };
        let mut flipped = trial.token(&good).into_bytes();
        let last = flipped.len() - 10;
        flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
        let expired = AccessClaims { exp: good.iat - 60, iat: good.iat - 360, ..good.clone() };
        let ahead = AccessClaims { iat: good.iat + 60, ..good.clone() };
        let table = [
            ("TokenAlgorithmNotAccepted", none),
            ("TokenSignatureWrong", String::from_utf8(flipped).unwrap()),
            ("TokenKeyUnknown", stranger.sign("at+jwt", &good)),
            ("TokenTypeWrong", trial.key.sign("JWT", &good)),
            ("TokenTypeWrong", trial.passport.sign("pc-id+jwt", &good)),
            ("TokenExpired", trial.token(&expired)),
            ("TokenNotYetValid", trial.token(&ahead)),
            (
                "TokenIssuerWrong",
                trial.token(&AccessClaims { iss: format!("{ISSUER}/"), ..good.clone() }),
            ),
            (
                "TokenAudienceWrong",
                trial.token(&AccessClaims { aud: "https://api.example/v2".into(), ..good.clone() }),
            ),
            ("TokenNotCompact", "garbage".into()),
            ("CredentialMalformed", "two words".into()),
            ("CredentialMalformed", String::new()),
        ];
        for (reason, token) in table {
            let seen = trial.get("/v1/accounts/a1", Some(&token)).await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED, "{reason}");
            assert!(seen.field("www-authenticate").contains("error=\"invalid_token\""), "{reason}");
            assert_eq!(trial.records.last().reason, reason);
            assert!(
                !serde_json::to_string(&trial.records.last())
                    .unwrap()
                    .contains(&good.jti.to_string())
            );
        }
        assert_eq!(
            trial.get("/v1/accounts/a1", Some(&trial.token(&good))).await.status,
            StatusCode::OK
        );
    });
}

#[test]
fn exactly_one_credential() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let twice = Request::get("/v1/accounts/a1")
            .header("host", "api.example")
            .header("authorization", format!("Bearer {token}"))
            .header("authorization", format!("Bearer {token}"))
            .body(Full::default())
            .unwrap();
        // Hygiene may refuse the doubled field before authentication does; both answer 400.
        assert_eq!(trial.ask(twice).await.status, StatusCode::BAD_REQUEST);
        let basic = Request::get("/v1/accounts/a1")
            .header("host", "api.example")
            .header("authorization", "Basic YTpi")
            .body(Full::default())
            .unwrap();
        let seen = trial.ask(basic).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.records.last().reason, "CredentialSchemeForeign");
    });
}

#[test]
fn a_token_in_the_query_is_refused_and_revoked() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        for path in ["/v1/accounts/a1", "/v1/rates"] {
            for name in ["access_token", "access%5Ftoken", "x=1&access_token"] {
                let seen = trial.get(&format!("{path}?{name}={token}"), None).await;
                assert_eq!(seen.status, StatusCode::BAD_REQUEST, "{path} {name}");
                assert_eq!(seen.json()["code"], "credential_exposed");
                let told = trial.house.seen.lock().unwrap().pop().expect("the house is told");
                assert_eq!(told.page, "plain_token");
                assert_eq!(told.token.unwrap().claims().sub, "u_alice");
            }
        }
        let seen = trial.get("/v1/accounts/a1?access_token=garbage", None).await;
        assert_eq!(
            (seen.status, trial.records.last().reason),
            (StatusCode::BAD_REQUEST, "CredentialInQuery".into())
        );
        let theirs = trial.get("/v1/rates?access_token=garbage", None).await;
        assert_eq!(theirs.status, StatusCode::OK, "the parameter is the API's own");
        assert!(trial.house.seen.lock().unwrap().is_empty());
    });
}

#[test]
fn a_token_in_the_query_of_a_page_or_behind_another_is_revoked_too() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let page = |target: String| {
            let request = Request::get(target).header("host", "login.example");
            trial.ask(request.body(Full::default()).unwrap())
        };
        let told = || trial.house.seen.lock().unwrap().pop().expect("the house is told").page;
        for path in ["/login", "/oauth/userinfo"] {
            let seen = page(format!("{path}?access_token={token}")).await;
            assert_eq!(seen.json()["code"], "credential_exposed", "{path}");
            assert_eq!(told(), "plain_token");
        }
        let seen = trial.get(&format!("/v1/rates?access_token=x&access_token={token}"), None).await;
        assert_eq!(seen.json()["code"], "credential_exposed", "the upstream may read the last one");
        assert_eq!(told(), "plain_token");
        assert!(trial.house.seen.lock().unwrap().is_empty());
        let seen = page("/login?access_token=garbage".into()).await;
        assert_eq!(seen.status, StatusCode::OK);
    });
}

#[test]
fn what_kills_a_token_kills_it_on_the_next_request() {
    run(async |setup| {
        let trial =
            setup.limit("failed_authentication", "1000/min per ip, burst 1000").start().await;
        let cases = [
            (RevocationKind::Token, None),
            (RevocationKind::Grant, Some("g_1")),
            (RevocationKind::Session, Some("s_1")),
            (RevocationKind::Subject, Some("u_alice")),
            (RevocationKind::Client, Some("app")),
            (RevocationKind::Key, Some(trial.key.kid())),
            (RevocationKind::All, Some("")),
        ];
        let mut client = trial.connect("192.0.2.7", Wire::Tls).await;
        for (position, (kind, value)) in cases.into_iter().enumerate() {
            let seq = position as u64 + 1;
            let claims = AccessClaims { rev: seq - 1, sub: "u_alice".into(), ..trial.user() };
            let token = trial.token(&claims);
            // A fresh worker's limits: three at once, stepped on.
            trial.clock.advance(Duration::from_secs(10));
            let before = ask(&mut client, get("/v1/accounts/a1", Some(&token))).await;
            assert_eq!(before.status, StatusCode::OK, "{kind:?}");
            let killed = mark(kind, value.unwrap_or(claims.jti.as_str()));
            let expires = Timestamp::from_unix(1_900_000_000);
            let now = Timestamp::from_unix(1_800_000_000);
            trial.revoked.publish(&[Revocation { seq, kind, mark: killed, expires }], now);
            let after = ask(&mut client, get("/v1/accounts/a1", Some(&token))).await;
            assert_eq!(after.status, StatusCode::UNAUTHORIZED, "{kind:?}");
            assert_eq!(trial.records.last().reason, "TokenRevoked");
        }
    });
}

#[test]
fn a_remembered_token_still_expires() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let mut client = trial.connect("192.0.2.7", Wire::Tls).await;
        assert_eq!(
            ask(&mut client, get("/v1/things/1", Some(&token))).await.status,
            StatusCode::OK
        );
        trial.clock.advance(Duration::from_secs(299));
        assert_eq!(
            ask(&mut client, get("/v1/things/1", Some(&token))).await.status,
            StatusCode::OK
        );
        trial.clock.advance(Duration::from_secs(1));
        let seen = ask(&mut client, get("/v1/things/1", Some(&token))).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.records.last().reason, "TokenExpired");
    });
}

#[test]
fn a_signature_is_looked_at_once_per_generation() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let figures = &trial.gateway.figures;
        let verified = || figures.tokens_verified_total.load(Ordering::Relaxed);
        for _ in 0..2 {
            // Two connections: the first hit is the connection's own, the second the worker's.
            let mut client = trial.connect("192.0.2.7", Wire::Tls).await;
            for _ in 0..3 {
                let seen = ask(&mut client, get("/v1/things/1", Some(&token))).await;
                assert_eq!(seen.status, StatusCode::OK);
            }
        }
        assert_eq!(verified(), 1);
        assert_eq!(figures.token_cache_hits_total.load(Ordering::Relaxed), 5);
        // The next generation has another key: the entry is dead, and so is the token.
        let stranger = SigningKey::generate(Algorithm::EdDsa).unwrap();
        let sockets = Vec::new();
        let mut next = Setup::default().snapshot(sockets, &stranger, &trial.passport);
        next.generation = 2;
        trial.gateway.snapshot.store(Arc::new(next));
        let seen = trial.get("/v1/things/1", Some(&token)).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!((verified(), trial.records.last().reason), (2, "TokenKeyUnknown".into()));
    });
}

#[test]
fn a_scope_that_is_missing_is_named() {
    run(async |setup| {
        let trial = setup.start().await;
        let settle = || Request::post("/v1/settlements").header("host", "api.example");
        let with = |token: String| {
            settle()
                .header("authorization", format!("Bearer {token}"))
                .body(Full::default())
                .unwrap()
        };
        let right = trial.ask(with(trial.token(&trial.service("payments:settle")))).await;
        assert_eq!(right.status, StatusCode::OK);
        assert_eq!(trial.records.last().caller, "service:ledger");
        let narrow = trial.ask(with(trial.token(&trial.service("payments:read")))).await;
        assert_eq!(narrow.status, StatusCode::FORBIDDEN);
        assert_eq!(narrow.json()["code"], "insufficient_scope");
        let challenge = narrow.field("www-authenticate").to_owned();
        assert!(
            challenge.contains("error=\"insufficient_scope\", scope=\"payments:settle\""),
            "{challenge}"
        );
        let scope = Scopes::parse("payments:settle").unwrap();
        let user = trial.token(&AccessClaims { scope, ..trial.user() });
        assert_eq!(trial.ask(with(user)).await.json()["code"], "forbidden");
    });
}

#[test]
fn a_line_for_anyone_reads_no_credential() {
    run(async |setup| {
        let trial = setup.start().await;
        let seen = trial.get("/v1/rates", Some("garbage")).await;
        assert_eq!(seen.status, StatusCode::OK);
        assert_eq!(seen.upstream_saw("authorization"), None);
        assert_eq!(trial.records.last().caller, "anyone");
    });
}

#[test]
fn failures_turn_401_into_429_and_refuse_no_valid_token() {
    run(async |setup| {
        let trial = setup.start().await;
        let mut statuses = Vec::new();
        for _ in 0..7 {
            statuses.push(trial.get("/v1/accounts/a1", Some("garbage")).await.status.as_u16());
        }
        assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
        let missing = trial.get("/v1/accounts/a1", None).await;
        assert_eq!(missing.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(missing.field("retry-after").parse::<u64>().unwrap() >= 1);
        assert_eq!(missing.json()["code"], "too_many_failures");
        let token = trial.token(&trial.user());
        assert_eq!(trial.get("/v1/accounts/a1", Some(&token)).await.status, StatusCode::OK);
        // Another address does not notice.
        let mut other = trial.connect("198.51.100.1", Wire::Tls).await;
        let seen = ask(&mut other, get("/v1/accounts/a1", None)).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
    });
}

#[test]
fn what_is_missing_or_expired_charges_nothing() {
    run(async |setup| {
        let trial = setup.start().await;
        let now = trial.user().iat;
        let expired = trial.token(&AccessClaims { exp: now - 60, iat: now - 300, ..trial.user() });
        for _ in 0..20 {
            assert_eq!(trial.get("/v1/accounts/a1", None).await.status, StatusCode::UNAUTHORIZED);
            let seen = trial.get("/v1/accounts/a1", Some(&expired)).await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        }
    });
}
