//! What a denial asks for: RFC 9470 where a fresher login would do, a scope where that would, and
//! nothing where neither does.

use http::StatusCode;

use super::judged::{noted, send};
use super::*;

const STALE: i64 = 301;

/// Claims of a user whose factors were last used so many seconds ago.
fn aged(trial: &Trial, seconds: i64) -> AccessClaims {
    let then = Some(trial.now().unix() - seconds);
    AccessClaims { fat: FactorTimes { pwd: then, otp: then, hwk: None }, ..trial.user() }
}

#[test]
fn a_stale_login_is_asked_for_a_fresh_one() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let fresh = trial.token(&aged(&trial, 300));
        assert_eq!(trial.get("/v1/vault", Some(&fresh)).await.status, StatusCode::OK);
        let stale = trial.token(&aged(&trial, STALE));
        let seen = trial.get("/v1/vault", Some(&stale)).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!(seen.json()["code"], "insufficient_user_authentication");
        assert_eq!(
            seen.field("www-authenticate"),
            "Bearer realm=\"payments\", error=\"insufficient_user_authentication\", \
             error_description=\"a stronger or more recent login is needed for this\", \
             acr_values=\"aal2\", max_age=\"300\", \
             resource_metadata=\"https://api.example/.well-known/oauth-protected-resource/v1\""
        );
        let record = trial.records.last();
        assert_eq!((record.reason.as_str(), record.decision), ("StepUpNeeded", "deny"));
        // It is no failed authentication: the address is not charged for it.
        for _ in 0..30 {
            let seen = trial.get("/v1/vault", Some(&stale)).await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(notes.served().len(), 1);
    });
}

#[test]
fn a_step_up_may_hang_on_the_body() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let json = |body: &'static str| ("application/json", body);
        let stale = trial.token(&aged(&trial, STALE));
        let fresh = trial.token(&aged(&trial, 0));
        for (token, body, status) in [
            (&stale, r#"{"amount":1000}"#, 200),
            (&stale, r#"{"amount":1001}"#, 401),
            // Absent: needed.
            (&stale, r#"{"note":"x"}"#, 401),
            (&fresh, r#"{"amount":1001}"#, 200),
        ] {
            let seen = trial.ask(send("POST /v1/transfers", token, json(body))).await;
            assert_eq!(seen.status.as_u16(), status, "{body} {:?}", trial.records.last());
            let challenged = seen.field("www-authenticate").contains("max_age=\"300\"");
            assert_eq!(challenged, status == 401);
        }
        assert_eq!(notes.served().len(), 2);
    });
}

#[test]
fn no_challenge_where_it_would_not_suffice() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let claims = aged(&trial, STALE);
        let act = serde_json::from_value(serde_json::json!({ "sub": "agent" })).unwrap();
        let delegated = trial.token(&AccessClaims { act: Some(act), ..claims });
        let seen = trial.get("/v1/vault", Some(&delegated)).await;
        assert_eq!((seen.status, seen.field("www-authenticate")), (StatusCode::FORBIDDEN, ""));
        let service = trial.token(&trial.service("payments:read"));
        let seen = trial.get("/v1/vault", Some(&service)).await;
        assert_eq!((seen.status, seen.field("www-authenticate")), (StatusCode::FORBIDDEN, ""));
        // A scope alone is told as a scope.
        let poor = trial.token(&AccessClaims { scope: Scopes::default(), ..trial.user() });
        let seen = trial.get("/v1/invoices/theirs", Some(&poor)).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN);
        let challenge = seen.field("www-authenticate");
        assert!(challenge.contains("error=\"insufficient_scope\", scope=\"payments:read\""));
        assert!(notes.seen.borrow().is_empty());
    });
}
