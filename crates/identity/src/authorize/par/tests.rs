//! Pushed and signed requests: each refusal by its rule, and what "used once" means.

use std::time::Duration;

use portcullis_core::client::{ClientType, Waivers};
use portcullis_core::entropy::SeededEntropy;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::dpop::{Expected, prove};
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::secret::Secret;
use serde_json::json;

use super::*;
use crate::outcome::Show;
use crate::testing::*;
use crate::testing::{page, request};
use portcullis_core::time::Clock;

/// `strict` is held to fapi2, and signs with the key of the tests.
async fn world() -> World {
    World::with(|settings| {
        register(settings, "strict", ClientType::Web, |strict| strict.waivers = Waivers::default());
    })
    .await
}

/// A form of `strict` that passes, with changes; its assertion beside it.
fn form(world: &World, changes: &[(&'static str, &str)], jti: &str) -> Parameters {
    let assertion = world.assertion("strict", &[("jti", jti.into())]);
    let mut pairs = request();
    pairs.insert("client_id", "strict".into());
    pairs.insert("client_assertion", assertion);
    pairs.insert(
        "client_assertion_type",
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".into(),
    );
    for (name, value) in changes {
        pairs.insert(name, (*value).to_owned());
    }
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    parameters(&pairs)
}

async fn push(world: &World, form: &Parameters, dpop: Option<String>) -> Answered<Pushed> {
    let presented = Presented {
        authority: "login.example".into(),
        dpop: dpop.into_iter().map(Secret::new).collect(),
        ..Presented::default()
    };
    world.identity.push(&[], form, presented).await
}

async fn pushed(world: &World, changes: &[(&'static str, &str)], jti: &str) -> String {
    let answer = push(world, &form(world, changes, jti), None).await;
    answer.result.unwrap_or_else(|error| panic!("{}", error.rule)).request_uri
}

async fn refused(
    world: &World,
    changes: &[(&'static str, &str)],
    jti: &str,
) -> (&'static str, &'static str) {
    let answer = push(world, &form(world, changes, jti), None).await;
    answer.result.map_or_else(|error| (error.code.as_str(), error.rule), |_| ("passed", "passed"))
}

fn by(client: &str, reference: &str) -> Parameters {
    parameters(&[("client_id", client), ("request_uri", reference)])
}

/// A request object of `strict`, with members changed or taken out.
fn object(world: &World, changes: &[(&str, serde_json::Value)]) -> String {
    let now = world.clock.now().unix();
    let mut claims = json!({
        "iss": "strict", "aud": ISSUER, "exp": now + 60, "nbf": now, "jti": "o1",
    });
    for (name, value) in request() {
        claims[name] = value.into();
    }
    claims["client_id"] = "strict".into();
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    claims.as_object_mut().expect("object").retain(|_, value| !value.is_null());
    world.key.sign("oauth-authz-req+jwt", &claims)
}

#[tokio::test]
async fn a_pushed_request_goes_the_whole_way_and_is_used_once() {
    let world = world().await;
    let ada = world.ada().await;
    let reference = pushed(&world, &[], "a").await;
    assert!(reference.starts_with(PREFIX) && reference.len() <= MAX_REFERENCE);
    let (mut one, mut other) = (Browser::new(), Browser::at("192.0.2.2"));
    // The page may be loaded again before anything was done with it.
    for browser in [&mut one, &mut other] {
        for _ in 0..2 {
            let shown = browser.authorize(&world, &by("strict", &reference)).await;
            assert_eq!(page(&shown), "password");
        }
    }
    one.prove(&world, &ada).await;
    code_of(&one.consent(&world, "allow").await);
    // Of all logins that it began, one comes to a code.
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(page(&other.prove(&world, &ada).await), "refused", "the consent stands");
    let shown = one.authorize(&world, &by("strict", &reference)).await;
    assert_eq!(rule(&shown), "RequestUriUsed");
}

#[tokio::test]
async fn parameters_outside_the_reference_do_not_count() {
    let world = world().await;
    let reference = pushed(&world, &[], "a").await;
    let mut pairs = vec![("client_id", "strict"), ("request_uri", reference.as_str())];
    pairs.extend([("redirect_uri", "https://evil.example/cb"), ("prompt", "none"), ("scope", "x")]);
    let shown = Browser::new().authorize(&world, &parameters(&pairs)).await;
    let Show::Password(shown) = &shown.show else { panic!("{}", page(&shown)) };
    assert_eq!(shown.form_target, "https://app.example");
}

#[tokio::test]
async fn request_uri_of_another_client() {
    let world = world().await;
    let reference = pushed(&world, &[], "a").await;
    for client in ["console", "app", "nobody", ""] {
        let shown = Browser::new().authorize(&world, &by(client, &reference)).await;
        assert_eq!((page(&shown), rule(&shown)), ("refused", "RequestUriOfAnotherClient"));
    }
}

#[tokio::test]
async fn request_uri_expired() {
    let world = world().await;
    let reference = pushed(&world, &[], "a").await;
    world.clock.advance(Duration::from_secs(89));
    let shown = Browser::new().authorize(&world, &by("strict", &reference)).await;
    assert_eq!(page(&shown), "password");
    world.clock.advance(Duration::from_secs(1));
    let shown = Browser::new().authorize(&world, &by("strict", &reference)).await;
    assert_eq!((page(&shown), rule(&shown)), ("refused", "RequestUriExpired"));
}

#[tokio::test]
async fn request_uri_forged_or_elsewhere() {
    let world = world().await;
    let reference = pushed(&world, &[], "a").await;
    let cut = &reference[..reference.len() - 2];
    for forged in [PREFIX, &format!("{PREFIX}x"), cut, &format!("{reference}A")] {
        let shown = Browser::new().authorize(&world, &by("strict", forged)).await;
        assert_eq!((page(&shown), rule(&shown)), ("refused", "RequestUriForged"), "{forged}");
    }
    // An address is never fetched; without a proven redirect it is a page.
    let shown = Browser::new().authorize(&world, &by("app", "https://evil.example/r")).await;
    assert_eq!((page(&shown), rule(&shown)), ("refused", "RedirectMissing"));
    let foreign = request_with(&[("request_uri", "http://127.0.0.1/r")]);
    let shown = Browser::new().authorize(&world, &foreign).await;
    assert_eq!(rule(&shown), "RequestUriUnsupported");
}

#[tokio::test]
async fn a_pushed_request_is_judged_by_the_whole_table() {
    let world = world().await;
    for (count, (changes, expected)) in [
        (
            [("redirect_uri", "https://evil.example/cb")],
            ("invalid_request", "RedirectUnregistered"),
        ),
        ([("redirect_uri", "")], ("invalid_request", "RedirectMissing")),
        ([("code_challenge_method", "plain")], ("invalid_request", "ChallengeMethodUnsupported")),
        ([("response_mode", "fragment")], ("invalid_request", "ResponseModeUnsupported")),
        ([("scope", "admin")], ("invalid_scope", "ScopeUnregistered")),
        ([("resource", "https://x.example")], ("invalid_target", "TargetUnknown")),
        (
            [("request_uri", "urn:ietf:params:oauth:request_uri:x")],
            ("invalid_request", "RequestUriPushed"),
        ),
        ([("id_token_hint", "a.b.c")], ("invalid_request", "HintForged")),
        ([("acr_values", "phrh")], ("unmet_authentication_requirements", "AssuranceUnreachable")),
        ([("client_id", "console")], ("invalid_client", "AssertionOfAnotherClient")),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(refused(&world, &changes, &format!("j{count}")).await, expected, "{changes:?}");
    }
}

#[tokio::test]
async fn client_must_authenticate_to_push_and_its_assertion_is_spent() {
    let world = world().await;
    let bare = request_with(&[("client_id", "strict")]);
    let answer = push(&world, &bare, None).await;
    assert_eq!(answer.result.err().map(|error| error.rule), Some("ClientMustAuthenticate"));
    pushed(&world, &[], "same").await;
    assert_eq!(refused(&world, &[], "same").await, ("invalid_client", "AssertionReplayed"));
    let before = world.store.commits();
    pushed(&world, &[], "other").await;
    assert_eq!(world.store.commits() - before, 1, "the assertion, and nothing else");
    // RFC 9126 §2: a public client may push too; that writes nothing.
    let answer = push(&world, &request_with(&[]), None).await;
    assert!(answer.result.is_ok());
    assert_eq!(world.store.commits() - before, 1);
}

#[tokio::test]
async fn pushed_too_large() {
    let world = world().await;
    let long = "s".repeat(1000);
    assert_eq!(
        refused(&world, &[("state", &long), ("login_hint", &long), ("ui_locales", &long)], "a")
            .await
            .1,
        "PushedTooLarge"
    );
    assert_eq!(refused(&world, &[("state", &long)], "b").await.1, "passed");
}

#[tokio::test]
async fn a_proof_shown_at_the_push_binds_the_code() {
    let world = world().await;
    let key = SigningKey::generate(Algorithm::Es256).expect("key");
    let jkt = key.public().thumbprint();
    let desk = world.identity.desk();
    let proof = |seed: u64| {
        let nonce = desk.shared.proofs.nonce(desk.now);
        let expected =
            Expected { method: "POST", url: "https://login.example/oauth/par", token: None };
        prove(&key, &expected, Some(&nonce), (&SeededEntropy::new(seed), desk.now))
    };
    let other = "A".repeat(43);
    for (changes, seed, expected) in [
        (vec![], 101, "passed"),
        (vec![("dpop_jkt", jkt.as_str())], 102, "passed"),
        (vec![("dpop_jkt", other.as_str())], 103, "DpopKeyOther"),
    ] {
        let form = form(&world, &changes, &seed.to_string());
        let answer = push(&world, &form, Some(proof(seed))).await;
        assert!(answer.nonce.is_some());
        match answer.result {
            Ok(pushed) => {
                let ask = open(&desk, Some("strict"), &pushed.request_uri).expect("ours");
                assert_eq!(ask.request.dpop_jkt.as_deref(), Some(jkt.as_str()));
                assert_eq!(expected, "passed");
            }
            Err(error) => assert_eq!(error.rule, expected),
        }
    }
}

#[tokio::test]
async fn a_signed_request_goes_the_whole_way() {
    let world = world().await;
    let ada = world.ada().await;
    let signed = object(&world, &[]);
    let answer = push(&world, &form_of_object(&world, &signed, "a"), None).await;
    let reference = answer.result.unwrap_or_else(|error| panic!("{}", error.rule)).request_uri;
    let mut browser = Browser::new();
    browser.authorize(&world, &by("strict", &reference)).await;
    browser.prove(&world, &ada).await;
    code_of(&browser.consent(&world, "allow").await);
    // The same object begins no second login.
    let answer = push(&world, &form_of_object(&world, &signed, "b"), None).await;
    let reference = answer.result.unwrap_or_else(|error| panic!("{}", error.rule)).request_uri;
    let shown = browser.authorize(&world, &by("strict", &reference)).await;
    assert_eq!(rule(&shown), "RequestObjectUsed");
}

/// A push of an object: beside it what authenticates the client, and words that must not count.
fn form_of_object(world: &World, object: &str, jti: &str) -> Parameters {
    form(
        world,
        &[("request", object), ("redirect_uri", "https://evil.example/cb"), ("scope", "x")],
        jti,
    )
}

#[tokio::test]
async fn a_request_object_that_does_not_hold_is_refused() {
    let world = world().await;
    let now = world.clock.now().unix();
    let none = serde_json::Value::Null;
    let nested = object(&world, &[]);
    for (count, (changes, expected)) in [
        (vec![("aud", json!("https://other.example"))], "RequestObjectAudienceWrong"),
        (vec![("iss", json!("console"))], "RequestObjectOfAnotherClient"),
        (vec![("client_id", json!("console"))], "RequestObjectOfAnotherClient"),
        (vec![("exp", json!(now))], "RequestObjectExpired"),
        (vec![("exp", none.clone())], "RequestObjectClaimMalformed"),
        (vec![("nbf", none.clone())], "RequestObjectWithoutNbf"),
        (vec![("nbf", json!(now + 60))], "RequestObjectNotYetValid"),
        (vec![("request", json!(nested))], "RequestObjectClaimMalformed"),
        (vec![("request_uri", json!("https://evil.example/r"))], "RequestObjectClaimMalformed"),
        (vec![("jti", json!(7))], "RequestObjectClaimMalformed"),
        // From here on the table: parameters come from the object alone.
        (vec![("redirect_uri", json!("https://evil.example/cb"))], "RedirectUnregistered"),
        (vec![("redirect_uri", none.clone())], "RedirectMissing"),
        (vec![("code_challenge", none)], "ChallengeMissing"),
        (vec![("claims", json!({"id_token": {}}))], "ParameterUnsupported"),
        (vec![("max_age", json!(60))], "passed"),
    ]
    .into_iter()
    .enumerate()
    {
        let text = object(&world, &changes);
        let answer = push(&world, &form_of_object(&world, &text, &format!("j{count}")), None).await;
        let found = answer.result.map_or_else(|error| error.rule, |_| "passed");
        assert_eq!(found, expected, "{changes:?}");
    }
    let other = SigningKey::generate(Algorithm::Es256).expect("key");
    let forged = other.sign("oauth-authz-req+jwt", &json!({"iss": "strict", "aud": ISSUER}));
    let answer = push(&world, &form_of_object(&world, &forged, "f"), None).await;
    let error = answer.result.err().expect("forged");
    assert_eq!(error.code.as_str(), "invalid_request_object");
}

#[tokio::test]
async fn an_object_at_the_authorization_endpoint() {
    let world = World::with(|settings| {
        // Signed is demanded, pushed is waived.
        register(settings, "strict", ClientType::Web, |strict| strict.signed_requests = true);
    })
    .await;
    let text = object(&world, &[]);
    let sent = [("client_id", "strict"), ("request", &text), ("prompt", "none")];
    let shown = Browser::new().authorize(&world, &parameters(&sent)).await;
    assert_eq!((page(&shown), rule(&shown)), ("password", "-"), "prompt outside does not count");
    let shown = Browser::new().authorize(&world, &request_with(&[("client_id", "strict")])).await;
    assert_eq!(rule(&shown), "RequestUnsigned");
    // Another client's name outside: its keys do not verify it.
    let sent = [("client_id", "console"), ("request", text.as_str())];
    let shown = Browser::new().authorize(&world, &parameters(&sent)).await;
    assert_eq!((page(&shown), rule(&shown)), ("refused", "RequestObjectOfAnotherClient"));
    let twice = [("client_id", "strict"), ("request", &text), ("request_uri", "urn:x")];
    let shown = Browser::new().authorize(&world, &parameters(&twice)).await;
    assert_eq!((page(&shown), rule(&shown)), ("refused", "RequestTwice"));
}
