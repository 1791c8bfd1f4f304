//! Tokens of other issuers, as far as the journey goes with them.

use http::StatusCode;
use portcullis_core::foreign::{ClaimMap, ForeignIssuer, KeySource, SecondFactor, Subjects};
use portcullis_core::jose::base64url;
use portcullis_core::revocation::{Revocation, RevocationKind, mark};
use serde_json::{Value, json};

use super::*;

const PARTNER: &str = "https://partner.example";

/// A network in which the partner's keys can be had.
struct Partner(String);

impl Fetch for Partner {
    fn fetch(&self, _request: FetchRequest) -> Fetching<'_> {
        let fetched = portcullis_core::fetch::Fetched {
            status: 200,
            content_type: Some("application/json".into()),
            max_age: None,
            body: self.0.clone().into_bytes(),
        };
        Box::pin(std::future::ready(Ok(fetched)))
    }
}

fn issuer() -> Arc<ForeignIssuer> {
    Arc::new(ForeignIssuer {
        name: "partner".into(),
        issuer: PARTNER.into(),
        source: KeySource::Address("https://partner.example/jwks".into()),
        audience: vec![AT.into()],
        algorithms: Vec::new(),
        map: ClaimMap {
            claim: "groups".into(),
            words: [("CN=pay-admins".into(), "role:admin".into())].into(),
            tenant: None,
            attributes: Default::default(),
            subjects: Subjects::Users,
            second_factor: SecondFactor::Ours,
        },
        until: None,
    })
}

async fn with_partner(mut setup: Setup, key: &SigningKey) -> Trial {
    let keys = json!({ "keys": [key.public().to_json()] }).to_string();
    setup.network = Arc::new(Partner(keys));
    let setup = setup.limit("failed_authentication", "1000/min per ip, burst 1000");
    let trial = setup.start().await;
    trial.reload(|next| next.issuers = vec![issuer()]);
    trial
}

fn claims(trial: &Trial, more: Value) -> Value {
    let now = trial.now().unix();
    let mut claims = json!({
        "iss": PARTNER, "sub": "u_alice", "aud": AT, "exp": now + 300, "iat": now,
        "client_id": "ledger", "scope": "payments:read",
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[test]
fn a_foreign_caller_is_its_own_and_has_what_is_mapped() {
    run(async |setup| {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let trial = with_partner(setup, &key).await;
        let token = |more| key.sign("at+jwt", &claims(&trial, more));
        let seen = trial.get("/v1/things/1", Some(&token(json!({})))).await;
        assert_eq!(seen.status, StatusCode::OK, "{:?}", trial.records.last());
        let record = trial.records.last();
        assert_eq!(record.caller, "user:partner|u_alice", "never our own u_alice");
        assert_eq!(record.client.as_deref(), Some("partner|ledger"));
        let passport = seen.upstream_saw("portcullis-identity").unwrap();
        let payload = base64url::decode(passport.split('.').nth(1).unwrap()).unwrap();
        let payload: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(payload["sub"], "partner|u_alice");
        assert_eq!(payload["caller_iss"], PARTNER);
        assert!(payload.get("scope").is_none());
        for (more, status) in [
            (json!({}), 403),
            (json!({ "groups": ["admin"] }), 403),
            (json!({ "roles": ["admin"] }), 403),
            (json!({ "groups": { "CN=pay-admins": true } }), 403),
            (json!({ "groups": ["CN=pay-admins"] }), 200),
        ] {
            let seen = trial.get("/v1/admin", Some(&token(more.clone()))).await;
            assert_eq!(seen.status.as_u16(), status, "{more}");
        }
        let seen = trial.get("/v1/full", Some(&token(json!({})))).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN, "its scopes are its own words");
    });
}

#[test]
fn a_foreign_token_that_is_bound_or_delegated_stays_so() {
    run(async |setup| {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let trial = with_partner(setup, &key).await;
        for (more, reason) in [
            (json!({ "cnf": { "jkt": "x" } }), "ProofMissing"),
            (json!({ "cnf": { "x5t#S256": "x" } }), "CertificateMissing"),
            (json!({ "cnf": { "other": "x" } }), "TokenClaimMalformed"),
            (json!({ "act": { "sub": "agent" } }), "ActorNotNamed"),
        ] {
            let token = key.sign("at+jwt", &claims(&trial, more));
            let seen = trial.get("/v1/relayed", Some(&token)).await;
            assert!(matches!(seen.status.as_u16(), 401 | 403), "{reason}");
            assert_eq!(trial.records.last().reason, reason);
        }
    });
}

#[test]
fn a_foreign_subject_or_key_can_be_revoked() {
    run(async |setup| {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let trial = with_partner(setup, &key).await;
        let subject = format!("{PARTNER} u_alice");
        let named = |sub: &str| key.sign("at+jwt", &claims(&trial, json!({ "sub": sub })));
        for (seq, sub, kind, value) in [
            (1, "u_alice", RevocationKind::Subject, subject.as_str()),
            (2, "other", RevocationKind::Key, key.kid()),
        ] {
            let token = named(sub);
            assert_eq!(trial.get("/v1/things/1", Some(&token)).await.status, StatusCode::OK);
            let expires = trial.now().after(Duration::from_secs(3600));
            let entry = Revocation { seq, kind, mark: mark(kind, value), expires };
            trial.revoked.publish(&[entry], trial.now());
            let seen = trial.get("/v1/things/1", Some(&token)).await;
            assert_eq!(seen.status, StatusCode::UNAUTHORIZED, "{kind:?}");
            assert_eq!(trial.records.last().reason, "TokenRevoked");
        }
    });
}

#[test]
fn a_foreign_token_is_none_for_our_own_pages() {
    run(async |setup| {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let trial = with_partner(setup, &key).await;
        let mut request =
            get("/oauth/userinfo", Some(&key.sign("at+jwt", &claims(&trial, json!({})))));
        request.headers_mut().insert("host", "login.example".parse().unwrap());
        assert_eq!(trial.ask(request).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(trial.records.last().reason, "TokenAudienceWrong");
    });
}

#[test]
fn an_issuer_that_was_never_reached_is_503() {
    run(async |setup| {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let trial = setup.start().await;
        trial.reload(|next| next.issuers = vec![issuer()]);
        let token = key.sign("at+jwt", &claims(&trial, json!({})));
        for _ in 0..10 {
            let seen = trial.get("/v1/things/1", Some(&token)).await;
            assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(seen.field("retry-after").parse::<u64>().unwrap() >= 1);
            let record = trial.records.last();
            assert_eq!((record.reason.as_str(), record.decision), ("IssuerUnreached", "error"));
        }
        // What is nobody's token is not the partner's fault, and ours still pass.
        let seen = trial.get("/v1/things/1", Some("garbage")).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        let own = trial.token(&trial.user());
        assert_eq!(trial.get("/v1/things/1", Some(&own)).await.status, StatusCode::OK);
    });
}

#[test]
fn a_foreign_client_cannot_dress_up_a_record() {
    run(async |setup| {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let trial = with_partner(setup, &key).await;
        let dressed = json!({ "client_id": "x\u{202e}y", "sub": "x\u{202e}y" });
        let token = key.sign("at+jwt", &claims(&trial, dressed));
        assert_eq!(trial.get("/v1/things/1", Some(&token)).await.status, StatusCode::OK);
        let record = trial.records.last();
        assert_eq!(record.client.as_deref(), Some("partner|x\\u{202e}y"));
        assert_eq!(record.caller, "user:partner|x\\u{202e}y");
    });
}
