//! API keys at the edge.

use http::{Request, StatusCode};
use http_body_util::Full;
use portcullis_core::api_key;
use portcullis_core::id;
use portcullis_core::revocation::{Revocation, RevocationKind, mark};
use std::time::Duration;

use super::*;
use crate::api_keys::LiveKey;

/// A trial in which `ledger` has a key.
async fn with_key(setup: Setup, edit: impl FnOnce(&mut LiveKey)) -> (Trial, String) {
    let trial = setup.limit("failed_authentication", "1000/min per ip, burst 1000").start().await;
    let id: Id<id::ApiKey> = Id::parse("k_one").unwrap();
    let mut key = LiveKey {
        id: id.clone(),
        client: Id::parse("ledger").unwrap(),
        scopes: Scopes::parse("payments:read").unwrap(),
        from: Vec::new(),
        expires: trial.now().after(Duration::from_secs(3600)),
        rev: 7,
    };
    edit(&mut key);
    trial.reload(|next| next.api_keys = Arc::new(ApiKeys::new([key])));
    let text = api_key::mint(&trial.gateway.sealer, &id).unwrap();
    (trial, text.expose().clone())
}

#[test]
fn a_key_opens_the_lines_that_accept_keys_and_no_other() {
    run(async |setup| {
        let (trial, key) = with_key(setup, |_| {}).await;
        for _ in 0..2 {
            let seen = trial.get("/v1/keyed", Some(&key)).await;
            assert_eq!(seen.status, StatusCode::OK, "{:?}", trial.records.last());
            assert_eq!(seen.upstream_saw("authorization"), None);
        }
        let record = trial.records.last();
        assert_eq!(
            (record.caller.as_str(), record.client.as_deref()),
            ("service:ledger", Some("ledger"))
        );
        assert!(!serde_json::to_string(&record).unwrap().contains(&key), "a key is in no record");
        for path in ["/v1/things/1", "/v1/bound"] {
            let seen = trial.get(path, Some(&key)).await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
            assert_eq!(trial.records.last().reason, "KeyNotAccepted", "remembered or not");
        }
        let userinfo = Request::get("/oauth/userinfo")
            .header("host", "login.example")
            .header("authorization", format!("Bearer {key}"))
            .body(Full::default())
            .unwrap();
        assert_eq!(trial.ask(userinfo).await.status, StatusCode::UNAUTHORIZED);
        // A token is taken there too.
        let token = trial.token(&trial.service("payments:read"));
        assert_eq!(trial.get("/v1/keyed", Some(&token)).await.status, StatusCode::OK);
    });
}

#[test]
fn a_keys_passport_names_its_service() {
    run(async |setup| {
        let (trial, key) = with_key(setup, |_| {}).await;
        let seen = trial.get("/v1/keyed", Some(&key)).await;
        let passport = seen.upstream_saw("portcullis-identity").unwrap();
        let payload = passport.split('.').nth(1).unwrap();
        let payload = portcullis_core::jose::base64url::decode(payload).unwrap();
        let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((&payload["kind"], &payload["sub"]), (&"service".into(), &"ledger".into()));
    });
}

#[test]
fn what_a_key_may_not_do_is_refused_by_its_rule() {
    run(async |setup| {
        let (trial, key) = with_key(setup, |_| {}).await;
        let forged = format!("{}A", &key[..key.len() - 1]);
        let other = api_key::mint(&trial.gateway.sealer, &Id::parse("k_two").unwrap()).unwrap();
        for (text, reason) in [
            (forged.as_str(), "KeyForged"),
            ("pk_garbage", "KeyForged"),
            (other.expose(), "KeyDead"),
        ] {
            let seen = trial.get("/v1/keyed", Some(text)).await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED, "{reason}");
            assert_eq!(trial.records.last().reason, reason);
        }
        assert_eq!(trial.get("/v1/keyed", Some(&key)).await.status, StatusCode::OK);
        trial.clock.advance(Duration::from_secs(3600));
        let seen = trial.get("/v1/keyed", Some(&key)).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.records.last().reason, "TokenExpired");
    });
}

#[test]
fn a_key_comes_from_its_networks_alone() {
    run(async |setup| {
        let networks = || vec!["198.51.100.0/24".parse().unwrap()];
        let (trial, key) = with_key(setup, |key| key.from = networks()).await;
        for (from, status) in
            [("198.51.100.9", 200), ("192.0.2.7", 401), ("::ffff:198.51.100.1", 200)]
        {
            let mut client = trial.connect(from, Wire::Tls).await;
            let seen = ask(&mut client, get("/v1/keyed", Some(&key))).await;
            assert_eq!(seen.status.as_u16(), status, "{from}");
        }
        assert!(trial.records.last().reason.starts_with("portcullis.toml"));
    });
}

#[test]
fn a_keys_scopes_are_its_own() {
    run(async |setup| {
        let scopes = Scopes::parse("payments:settle").unwrap();
        let (trial, key) = with_key(setup, |key| key.scopes = scopes).await;
        let seen = trial.get("/v1/keyed", Some(&key)).await;
        assert_eq!(seen.json()["code"], "insufficient_scope");
    });
}

#[test]
fn a_revoked_key_is_dead_on_the_next_request() {
    run(async |setup| {
        let (trial, key) = with_key(setup, |_| {}).await;
        let expires = trial.now().after(Duration::from_secs(3600));
        let revoke = |seq, kind, value: &str| {
            let entry = Revocation { seq, kind, mark: mark(kind, value), expires };
            trial.revoked.publish(&[entry], trial.now());
        };
        // What was revoked before the key was read as live does not reach it.
        revoke(7, RevocationKind::Client, "ledger");
        assert_eq!(trial.get("/v1/keyed", Some(&key)).await.status, StatusCode::OK);
        revoke(8, RevocationKind::Token, "k_one");
        let seen = trial.get("/v1/keyed", Some(&key)).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.records.last().reason, "TokenRevoked");
        // And gone with the next generation.
        trial.reload(|next| next.api_keys = Arc::new(ApiKeys::default()));
        trial.get("/v1/keyed", Some(&key)).await;
        assert_eq!(trial.records.last().reason, "KeyDead");
    });
}

#[test]
fn a_key_beside_a_token_or_in_another_field_is_refused() {
    run(async |setup| {
        let (trial, key) = with_key(setup, |_| {}).await;
        let token = trial.token(&trial.service("payments:read"));
        let mut both = get("/v1/keyed", Some(&token));
        both.headers_mut().insert("x-api-key", key.parse().unwrap());
        assert_eq!(trial.ask(both).await.status, StatusCode::BAD_REQUEST);
        assert_eq!(trial.records.last().reason, "CredentialDoubled");
        let mut alone = get("/v1/keyed", None);
        alone.headers_mut().insert("x-api-key", key.parse().unwrap());
        assert_eq!(trial.ask(alone).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.records.last().reason, "KeyMisplaced");
        // On a line that reads none it goes no further either; another's key does.
        let mut open = get("/v1/rates", None);
        open.headers_mut().insert("x-api-key", key.parse().unwrap());
        assert_eq!(trial.ask(open).await.upstream_saw("x-api-key"), None);
        let mut theirs = get("/v1/rates", None);
        theirs.headers_mut().insert("x-api-key", "sk-theirs".parse().unwrap());
        assert_eq!(trial.ask(theirs).await.upstream_saw("x-api-key").as_deref(), Some("sk-theirs"));
        let dpop = Request::get("/v1/keyed")
            .header("host", "api.example")
            .header("authorization", format!("DPoP {key}"))
            .body(Full::default())
            .unwrap();
        assert_eq!(trial.ask(dpop).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.records.last().reason, "TokenNotOfKey");
    });
}

#[test]
fn a_key_in_a_query_or_in_clear_is_refused_and_revoked() {
    run(async |setup| {
        let (trial, key) = with_key(setup, |_| {}).await;
        let told = || {
            let told = trial.house.seen.lock().unwrap().pop().expect("the house is told");
            assert_eq!(told.page, "plain_token");
            told.key.unwrap().id.to_string()
        };
        let seen = trial.get(&format!("/v1/rates?access_token={key}"), None).await;
        assert_eq!(seen.json()["code"], "credential_exposed");
        assert_eq!(told(), "k_one");
        for field in ["authorization", "x-api-key"] {
            let value =
                if field == "authorization" { format!("Bearer {key}") } else { key.clone() };
            let mut request = get("/v1/keyed", None);
            request.headers_mut().insert(field, value.parse().unwrap());
            let mut plain = trial.connect("192.0.2.7", Wire::Plain).await;
            assert_eq!(ask(&mut plain, request).await.status, StatusCode::FORBIDDEN);
            assert_eq!(told(), "k_one", "{field}");
        }
    });
}

#[test]
fn a_live_key_in_a_query_is_revoked_under_any_name() {
    run(async |setup| {
        let (trial, key) = with_key(setup, |_| {}).await;
        let escaped = key.replacen("pk_", "%70k_", 1);
        for query in [format!("api_key={key}"), format!("x=1&key={escaped}")] {
            for path in ["/v1/rates", "/v1/keyed"] {
                let seen = trial.get(&format!("{path}?{query}"), None).await;
                assert_eq!(seen.json()["code"], "credential_exposed", "{path} {query}");
                let told = trial.house.seen.lock().unwrap().pop().expect("the house is told");
                assert_eq!(told.key.unwrap().id.as_str(), "k_one");
            }
        }
        // What only looks like one is the API's own parameter, and tells nobody anything.
        let dead = api_key::mint(&trial.gateway.sealer, &Id::parse("k_two").unwrap()).unwrap();
        for theirs in ["pk_live_51H8", dead.expose()] {
            let path = format!("/v1/keyed?api_key={theirs}");
            assert_eq!(trial.get(&path, Some(&key)).await.status, StatusCode::OK, "{theirs}");
        }
        assert!(trial.house.seen.lock().unwrap().is_empty());
    });
}

#[test]
fn the_last_use_is_noted_and_drained() {
    run(async |setup| {
        let (trial, key) = with_key(setup, |_| {}).await;
        assert!(trial.gateway.key_uses.take().is_empty());
        trial.get("/v1/keyed", Some(&key)).await;
        let noted = trial.gateway.key_uses.take();
        assert_eq!(noted, [(Id::parse("k_one").unwrap(), trial.now())]);
        assert!(trial.gateway.key_uses.take().is_empty());
    });
}
