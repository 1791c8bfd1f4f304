//! The token endpoint by calling its functions: each grant, each refusal by its rule, the races.

use std::time::Duration;

use portcullis_core::client::{ClientRecord, Waivers};
use portcullis_core::id::Id;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::base64url;
use portcullis_core::jose::claims::{CallerKind, IdClaims};
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::oauth::token::{ASSERTION_TYPE, TokenAnswer};
use portcullis_core::scope::Scopes;
use portcullis_core::time::Clock;
use portcullis_store::clients::StoredClient;
use portcullis_store::database::{StoreFault, Tx};
use serde_json::json;

use crate::outcome::Answered;
use crate::outcome::Presented;
use crate::testing::*;

/// The rule of a refusal, and its code.
fn refused<T>(answered: &Answered<T>) -> (&'static str, &'static str) {
    match &answered.result {
        Ok(_) => ("granted", "granted"),
        Err(error) => (error.code.as_str(), error.rule),
    }
}

fn granted(answered: Answered<TokenAnswer>) -> TokenAnswer {
    answered.result.unwrap_or_else(|error| panic!("{}", error.rule))
}

/// A world with ada's code of `app`.
async fn with_code() -> (World, String) {
    let world = World::start().await;
    let ada = world.ada().await;
    let code = Browser::new().log_in(&world, &ada).await;
    (world, code)
}

fn basic(client: &str, secret: &str) -> Vec<u8> {
    let text = base64url::encode(format!("{client}:{secret}").as_bytes());
    let padding = "=".repeat((4 - text.len() % 4) % 4);
    format!("Basic {}{padding}", text.replace('-', "+").replace('_', "/")).into_bytes()
}

async fn service(world: &World, assertion: &str, more: &[(&str, &str)]) -> Answered<TokenAnswer> {
    let mut form = vec![
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
    ];
    if !more.iter().any(|(name, _)| *name == "scope") {
        form.push(("scope", "payments:read"));
    }
    form.extend_from_slice(more);
    world.token(&form).await
}

/// An ID token's claims, its signature checked.
fn id_claims(world: &World, token: &str) -> IdClaims {
    let parsed = portcullis_core::jose::jws::parse(token).expect("a JWS");
    let keys = world.identity.keyring().published();
    let key = keys.find(parsed.kid.as_deref(), Algorithm::Es256).expect("published");
    assert!(key.verify(parsed.signed, &parsed.signature));
    serde_json::from_slice(&parsed.payload).expect("claims")
}

#[tokio::test]
async fn a_code_becomes_tokens() {
    let (world, code) = with_code().await;
    world.clock.advance(Duration::from_secs(2));
    let answered = world.redeem(&code).await;
    assert_eq!(answered.client.as_deref(), Some("app"));
    assert!(answered.caller.as_ref().is_some_and(|caller| caller.starts_with("user:u_")));
    let answer = granted(answered);
    assert_eq!((answer.token_type, answer.expires_in), ("Bearer", 300));
    assert_eq!(answer.scope, "openid payments:read");
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!((claims.aud.as_str(), claims.kind), (PAYMENTS, CallerKind::User));
    assert_eq!((claims.iat, claims.exp), (NOW.unix() + 2, NOW.unix() + 302));
    assert_eq!((claims.auth_time, claims.fat.otp), (Some(NOW.unix()), Some(NOW.unix())));
    assert_eq!(claims.roles, ["admin"]);
    assert_eq!(claims.attributes.keys().collect::<Vec<_>>(), ["account"], "declared ones alone");
    let id = id_claims(&world, answer.id_token.as_deref().expect("openid"));
    assert_eq!((id.aud.as_str(), id.nonce.as_deref()), ("app", Some("no")));
    assert_eq!((id.sub, id.acr.as_str(), Some(id.sid)), (claims.sub, "aal2", claims.sid));
    let half = portcullis_core::hash::sha256(answer.access_token.as_bytes());
    assert_eq!(id.at_hash, Some(base64url::encode(&half[..16])));
}

#[tokio::test]
async fn without_openid_there_is_no_id_token() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[("scope", "payments:read")])).await;
    browser.prove(&world, &ada).await;
    let code = code_of(&browser.consent(&world, "allow").await);
    assert_eq!(granted(world.redeem(&code).await).id_token, None);
}

#[tokio::test]
async fn openid_alone_is_good_at_no_api() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[("scope", "openid")])).await;
    browser.prove(&world, &ada).await;
    let code = code_of(&browser.consent(&world, "allow").await);
    let answer = granted(world.redeem(&code).await);
    assert_eq!(world.claims(&answer.access_token).expect("lives").aud, ISSUER);
}

#[tokio::test]
async fn each_binding_of_a_code_is_checked_and_consumes_nothing() {
    let (world, code) = with_code().await;
    for (name, value, expected) in [
        ("client_id", "own", ("invalid_grant", "CodeOfAnotherClient")),
        ("code", "AAAA", ("invalid_grant", "CodeForged")),
        ("redirect_uri", "https://app.example/cb/", ("invalid_grant", "RedirectOther")),
        ("redirect_uri", "", ("invalid_grant", "RedirectOther")),
        ("code_verifier", "", ("invalid_grant", "VerifierMissing")),
        ("code_verifier", &VERIFIER[1..], ("invalid_grant", "VerifierWrong")),
        ("resource", "https://other.example", ("invalid_target", "TargetOther")),
        ("grant_type", "password", ("unsupported_grant_type", "GrantTypeUnsupported")),
    ] {
        let mut form = redemption(&code).to_vec();
        form.retain(|(given, _)| *given != name);
        form.push((name, value));
        assert_eq!(refused(&world.token(&form).await), expected, "{name}={value}");
    }
    let mut form = redemption(&code).to_vec();
    form.push(("resource", PAYMENTS));
    granted(world.token(&form).await);
}

#[tokio::test]
async fn code_expired() {
    let (world, code) = with_code().await;
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(refused(&world.redeem(&code).await).1, "CodeExpired");
    let (world, code) = with_code().await;
    world.clock.advance(Duration::from_secs(59));
    assert_eq!(refused(&world.redeem(&code).await).1, "granted");
}

#[tokio::test]
async fn code_replayed_ends_what_the_first_use_made() {
    let (world, code) = with_code().await;
    let answer = granted(world.redeem(&code).await);
    // A replay that failed a check ends nothing.
    let mut form = redemption(&code).to_vec();
    form.retain(|(name, _)| *name != "code_verifier");
    assert_eq!(refused(&world.token(&form).await).1, "VerifierMissing");
    assert!(world.claims(&answer.access_token).is_ok());
    assert_eq!(refused(&world.redeem(&code).await), ("invalid_grant", "CodeReplayed"));
    assert_eq!(world.claims(&answer.access_token).err(), Some("token_revoked"));
}

#[tokio::test]
async fn of_fifty_redemptions_at_once_one_wins() {
    let (world, code) = with_code().await;
    let answers = at_once(50, || {
        let (identity, form) = (world.identity.clone(), parameters(&redemption(&code)));
        async move { identity.token(&[], &form, Presented::default()).await }
    });
    let rules: Vec<_> = answers.iter().map(|answered| refused(answered).1).collect();
    assert_eq!(rules.iter().filter(|rule| **rule == "granted").count(), 1);
    assert_eq!(rules.iter().filter(|rule| **rule == "CodeReplayed").count(), 49);
}

#[tokio::test]
async fn user_disabled_between_code_and_token() {
    let world = World::start().await;
    let ada = world.ada().await;
    let code = Browser::new().log_in(&world, &ada).await;
    let (id, now) = (ada.user.id.clone(), world.clock.now());
    world.change(async move |tx: &Tx| tx.disable_user(&id, now).await).await;
    assert_eq!(refused(&world.redeem(&code).await), ("invalid_grant", "UserDisabled"));
}

#[tokio::test]
async fn session_ended_between_code_and_token() {
    let world = World::start().await;
    let ada = world.ada().await;
    let code = Browser::new().log_in(&world, &ada).await;
    let (id, now) = (ada.user.id.clone(), world.clock.now());
    world
        .change(async move |tx: &Tx| {
            let session = tx.sessions_of(&id, now).await?.remove(0);
            tx.end_session(&session.id, now).await
        })
        .await;
    assert_eq!(refused(&world.redeem(&code).await), ("invalid_grant", "SessionEnded"));
}

#[tokio::test]
async fn client_disabled_between_code_and_token() {
    let (world, code) = with_code().await;
    let now = world.clock.now();
    world
        .change(async move |tx: &Tx| {
            let id = Id::parse("app").map_err(|_| StoreFault::Missing("id"))?;
            let registration = "{}".to_owned();
            tx.add_client(&StoredClient::new(id.clone(), registration), now).await?;
            tx.disable_client(&id, now).await
        })
        .await;
    assert_eq!(refused(&world.redeem(&code).await), ("invalid_client", "ClientDisabled"));
}

#[tokio::test]
async fn a_scope_taken_away_from_the_client_shrinks_the_token() {
    let (world, code) = with_code().await;
    world.reload(|settings| {
        let id = Id::parse("app").expect("id");
        let record = settings.clients.remove(&id).and_then(std::sync::Arc::into_inner);
        let scopes = Scopes::parse("other:read").expect("scopes");
        let record = ClientRecord { scopes, ..record.expect("alone") };
        settings.clients.insert(id, std::sync::Arc::new(record));
    });
    assert_eq!(granted(world.redeem(&code).await).scope, "openid");
}

#[tokio::test]
async fn a_revocation_after_issuing_kills_and_one_before_does_not() {
    let world = World::start().await;
    let ada = world.ada().await;
    let first = Browser::new().log_in(&world, &ada).await;
    let before = granted(world.redeem(&first).await);
    world.clock.advance(Duration::from_secs(30));
    let (sub, expires) = (ada.user.id.clone(), world.clock.now().after(Duration::from_secs(600)));
    world
        .change(async move |tx: &Tx| {
            let kind = portcullis_core::revocation::RevocationKind::Subject;
            tx.revoke(kind, sub.as_str(), expires).await.map(drop)
        })
        .await;
    assert_eq!(world.claims(&before.access_token).err(), Some("token_revoked"));
    // The session lives: only access tokens died, and a new one does not carry the old entry.
    let after = granted(world.redeem(&Browser::new().log_in(&world, &ada).await).await);
    assert!(world.claims(&after.access_token).is_ok());
}

#[tokio::test]
async fn a_service_speaks_for_itself() {
    let world = World::start().await;
    let answered = service(&world, &world.assertion("ledger", &[]), &[]).await;
    assert_eq!(answered.caller.as_deref(), Some("service:ledger"));
    let answer = granted(answered);
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!((claims.sub.as_str(), claims.kind), ("ledger", CallerKind::Service));
    assert_eq!((claims.aud.as_str(), claims.sid, claims.acr), (PAYMENTS, None, None));
    assert!(answer.id_token.is_none());
}

#[tokio::test]
async fn each_part_of_an_assertion_is_checked() {
    let world = World::start().await;
    let now = NOW.unix();
    for (claim, value, expected) in [
        ("aud", json!("https://login.example/"), "AssertionAudienceWrong"),
        ("aud", json!("https://login.example/oauth/token"), "AssertionAudienceWrong"),
        ("aud", json!([ISSUER]), "AssertionClaimMalformed"),
        ("iss", json!("app"), "AssertionIssuerWrong"),
        ("sub", json!("nobody"), "ClientUnknown"),
        ("sub", json!("app"), "MethodUnregistered"),
        ("exp", json!(null), "AssertionClaimMalformed"),
        ("exp", json!(now), "AssertionExpired"),
        ("exp", json!(now + 86_400), "AssertionNotYetValid"),
        ("iat", json!(now + 60), "AssertionNotYetValid"),
        ("jti", json!(""), "AssertionClaimMalformed"),
    ] {
        let assertion = world.assertion("ledger", &[(claim, value.clone())]);
        let answered = service(&world, &assertion, &[]).await;
        assert_eq!(refused(&answered), ("invalid_client", expected), "{claim}={value}");
    }
    let soon = world.assertion("ledger", &[("iat", json!(now + 8))]);
    assert_eq!(refused(&service(&world, &soon, &[]).await).1, "granted", "8 s ahead");
}

#[tokio::test]
async fn assertion_forged_or_malformed() {
    let world = World::start().await;
    let other = SigningKey::generate(Algorithm::Es256).expect("key");
    let claims = json!({"iss": "ledger", "sub": "ledger", "aud": ISSUER, "exp": NOW.unix() + 60,
                        "jti": "j"});
    let token = other.sign("JWT", &claims);
    assert_eq!(refused(&service(&world, &token, &[]).await).1, "AssertionKeyUnknown");
    let good = world.assertion("ledger", &[]);
    let (signed, _) = good.rsplit_once('.').expect("three parts");
    let forged = format!("{signed}.{}", base64url::encode(&[1; 64]));
    assert_eq!(refused(&service(&world, &forged, &[]).await).1, "AssertionSignatureWrong");
    for malformed in ["x", "a.b", "e30.e30.e30", &format!("{signed}.")] {
        let answered = service(&world, malformed, &[]).await;
        assert_eq!(refused(&answered).0, "invalid_client", "{malformed}");
    }
    // One of our own access tokens is no assertion.
    let own = granted(service(&world, &good, &[]).await).access_token;
    assert_eq!(refused(&service(&world, &own, &[]).await).0, "invalid_client");
}

#[tokio::test]
async fn assertion_of_another_client() {
    let world = World::start().await;
    let assertion = world.assertion("ledger", &[]);
    let answered = service(&world, &assertion, &[("client_id", "console")]).await;
    assert_eq!(refused(&answered), ("invalid_client", "AssertionOfAnotherClient"));
}

#[tokio::test]
async fn assertion_replayed_also_after_a_refusal() {
    let world = World::start().await;
    let assertion = world.assertion("ledger", &[]);
    let answered = service(&world, &assertion, &[("scope", "admin")]).await;
    assert_eq!(refused(&answered), ("invalid_scope", "ScopeUnregistered"));
    let answered = service(&world, &assertion, &[]).await;
    assert_eq!(refused(&answered), ("invalid_client", "AssertionReplayed"));
    let other = world.assertion("console", &[]);
    let answered = service(&world, &other, &[]).await;
    assert_eq!(refused(&answered).1, "ClientNotService", "a jti is counted per client");
}

#[tokio::test]
async fn of_fifty_uses_of_an_assertion_at_once_one_wins() {
    let world = World::start().await;
    let assertion = world.assertion("ledger", &[]);
    let answers = at_once(50, || {
        let identity = world.identity.clone();
        let form = parameters(&[
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &assertion),
            ("scope", "payments:read"),
        ]);
        async move { identity.token(&[], &form, Presented::default()).await }
    });
    let won = answers.iter().filter(|answered| answered.result.is_ok()).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn client_not_service() {
    let world = World::start().await;
    let form = [("grant_type", "client_credentials"), ("client_id", "app")];
    assert_eq!(refused(&world.token(&form).await), ("unauthorized_client", "ClientNotService"));
}

#[tokio::test]
async fn a_service_without_a_scope_gets_what_is_registered() {
    let world = World::start().await;
    let assertion = world.assertion("ledger", &[]);
    let answered = service(&world, &assertion, &[("scope", ""), ("resource", PAYMENTS)]).await;
    assert_eq!(refused(&answered), ("invalid_scope", "ScopeOfAnotherTarget"), "other:read");
    world.reload(|settings| settings.apis.truncate(1));
    let assertion = world.assertion("ledger", &[("jti", json!("j2"))]);
    let answered = service(&world, &assertion, &[("scope", "payments:read payments:write")]).await;
    assert_eq!(granted(answered).scope, "payments:read payments:write");
}

#[tokio::test]
async fn waivers_end_on_their_day_without_a_restart() {
    let world = World::start().await;
    let code = {
        let ada = world.ada().await;
        let mut browser = Browser::new();
        browser.authorize(&world, &request_with(&[("client_id", "legacy")])).await;
        browser.prove(&world, &ada).await;
        code_of(&browser.consent(&world, "allow").await)
    };
    let mut form = redemption(&code).to_vec();
    form.retain(|(name, _)| *name != "client_id");
    let form = parameters(&form);
    let header = basic("legacy", "a+client+secret+of+many+bits");
    let ask =
        async || world.identity.token(&[header.as_slice()], &form, Presented::default()).await;
    let without = |waivers: Waivers| {
        world.reload(|settings| {
            let id = Id::parse("legacy").expect("id");
            let record = settings.clients.remove(&id).and_then(std::sync::Arc::into_inner);
            let record = ClientRecord { waivers, ..record.expect("alone") };
            settings.clients.insert(id, std::sync::Arc::new(record));
        });
    };
    let (past, ahead) = (Some(NOW), Some(NOW.after(Duration::from_secs(60))));
    without(Waivers { bearer_tokens: ahead, no_par: ahead, client_secret: past });
    let expected = ("invalid_client", "WaiverClientSecretExpired");
    assert_eq!(refused(&ask().await), expected);
    without(Waivers { bearer_tokens: past, no_par: ahead, client_secret: ahead });
    let expected = ("invalid_request", "WaiverBearerTokensExpired");
    assert_eq!(refused(&ask().await), expected);
    without(Waivers { bearer_tokens: ahead, no_par: ahead, client_secret: ahead });
    assert_eq!(refused(&ask().await).1, "granted");
}

#[tokio::test]
async fn secret_wrong_and_client_unknown() {
    let world = World::start().await;
    let form = parameters(&[("grant_type", "client_credentials")]);
    for (client, secret, expected) in [
        ("legacy", "wrong", "SecretWrong"),
        ("nobody", "wrong", "ClientUnknown"),
        ("console", "wrong", "MethodUnregistered"),
        ("app", "wrong", "MethodUnregistered"),
    ] {
        let header = basic(client, secret);
        let answered =
            world.identity.token(&[header.as_slice()], &form, Presented::default()).await;
        assert_eq!(refused(&answered), ("invalid_client", expected), "{client}");
        assert_eq!(answered.client, Some(format!("?{client}")));
    }
}

#[tokio::test]
async fn client_must_authenticate() {
    let world = World::start().await;
    for client in ["console", "legacy", "ledger"] {
        let form = [("grant_type", "client_credentials"), ("client_id", client)];
        let answered = world.token(&form).await;
        assert_eq!(refused(&answered), ("invalid_client", "ClientMustAuthenticate"), "{client}");
    }
}

#[tokio::test]
async fn two_methods_at_once_are_refused_and_nothing_panics() {
    let world = World::start().await;
    let assertion = world.assertion("ledger", &[]);
    let form = parameters(&[
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &assertion),
    ]);
    let header = basic("legacy", SECRET);
    let answered = world.identity.token(&[header.as_slice()], &form, Presented::default()).await;
    assert_eq!(refused(&answered).0, "invalid_request");
    for field in [&b"Basic"[..], b"Basic ", b"Basic \xff", b"Basic Og==", b"Bearer x", b""] {
        let form = parameters(&[("grant_type", "client_credentials")]);
        let answered = world.identity.token(&[field], &form, Presented::default()).await;
        assert!(answered.result.is_err());
    }
}

#[tokio::test]
async fn a_refused_public_client_writes_nothing() {
    let (world, code) = with_code().await;
    let before = world.store.commits();
    for verifier in ["", "x", &VERIFIER[1..]] {
        let mut form = redemption(&code).to_vec();
        form.retain(|(name, _)| *name != "code_verifier");
        form.push(("code_verifier", verifier));
        assert!(world.token(&form).await.result.is_err());
    }
    service(&world, "garbage", &[]).await;
    assert_eq!(world.store.commits(), before);
    granted(world.redeem(&code).await);
    assert_eq!(world.store.commits(), before + 1, "one commit per request");
}
