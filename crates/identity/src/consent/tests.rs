//! What is asked and what stands: details, offline access, hints, assurance.

use portcullis_core::client::ClientType;
use portcullis_core::id::Id;

use crate::account::SecondFactorWish;
use crate::outcome::Show;
use crate::settings::{Require, Settings};
use crate::testing::*;

const PAYMENT: &str = r#"[{"type":"payment","amount":"12.50","creditor":{"name":"Bob"}}]"#;

fn with_details(settings: &mut Settings) {
    settings.apis[0].details = vec!["payment".into()];
    settings.detail_words.insert("payment".into(), "Pay once".into());
    for id in ["rich", "mine"] {
        register(settings, id, ClientType::Web, |client| {
            client.details = vec!["payment".into()];
            client.first_party = id == "mine";
        });
    }
}

#[tokio::test]
async fn details_are_shown_in_words_and_asked_each_time() {
    let world = World::with(with_details).await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    for client in ["rich", "rich", "mine"] {
        let asked = request_with(&[("client_id", client), ("authorization_details", PAYMENT)]);
        let shown = browser.authorize(&world, &asked).await;
        let Show::Consent(asked) = &shown.show else { panic!("{client}: {}", page(&shown)) };
        let (words, members) = &asked.details[0];
        assert_eq!(words, "Pay once");
        assert!(members.contains(&("amount".into(), "12.50".into())), "{members:?}");
        assert!(members.contains(&("creditor".into(), r#"{"name":"Bob"}"#.into())), "{members:?}");
        code_of(&browser.consent(&world, "allow").await);
    }
    let silent = [("client_id", "mine"), ("authorization_details", PAYMENT), ("prompt", "none")];
    let shown = browser.authorize(&world, &request_with(&silent)).await;
    assert_eq!(rule(&shown), "PromptNoneWithoutConsent");
    // Without details it goes on without a question.
    let shown = browser.authorize(&world, &request_with(&[("client_id", "mine")])).await;
    code_of(&shown);
}

#[tokio::test]
async fn a_consent_that_stands_makes_codes_and_writes_nothing() {
    let world = World::with(with_details).await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    let asked = request_with(&[("client_id", "mine")]);
    code_of(&browser.authorize(&world, &asked).await);
    let before = world.store.commits();
    let first = code_of(&browser.authorize(&world, &asked).await);
    let second = code_of(&browser.authorize(&world, &asked).await);
    assert_ne!(first, second);
    assert_eq!(world.store.commits(), before, "no state was shown that could come back");
    // The session's last use is kept to the minute, so that it does not idle away.
    world.clock.advance(std::time::Duration::from_secs(61));
    code_of(&browser.authorize(&world, &asked).await);
    assert_eq!(world.store.commits(), before + 1);
}

#[tokio::test]
async fn details_travel_to_the_token_and_are_not_widened_there() {
    let world = World::with(|settings| {
        with_details(settings);
        register(settings, "plain", ClientType::Spa, |c| c.details = vec!["payment".into()]);
    })
    .await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    let asked = request_with(&[("client_id", "plain"), ("authorization_details", PAYMENT)]);
    browser.authorize(&world, &asked).await;
    let code = code_of(&browser.consent(&world, "allow").await);
    let mut form = redemption(&code).to_vec();
    form[1].1 = "plain";
    let wider = PAYMENT.replace("12.50", "9912.50");
    form.push(("authorization_details", &wider));
    let refused = world.token(&form).await.result.err().map(|error| error.rule);
    assert_eq!(refused, Some("DetailsWidened"));
    form.pop();
    let answer = world.token(&form).await.result.unwrap_or_else(|error| panic!("{}", error.rule));
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!(claims.authorization_details[0]["amount"], "12.50");
}

#[tokio::test]
async fn offline_access_is_asked_once_even_for_a_first_party() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    let own =
        request_with(&[("client_id", "own"), ("scope", "openid offline_access payments:read")]);
    let shown = browser.authorize(&world, &own).await;
    let Show::Consent(asked) = &shown.show else { panic!("{}", page(&shown)) };
    let words: Vec<_> = asked.scopes.iter().map(|(_, words)| words.as_str()).collect();
    assert!(words.contains(&"Stay connected while you are signed out"), "{words:?}");
    code_of(&browser.consent(&world, "allow").await);
    code_of(&browser.authorize(&world, &own).await);
}

/// An ID token of this user for `own`.
async fn id_token(world: &World, browser: &mut Browser) -> String {
    let shown = browser.authorize(world, &request_with(&[("client_id", "own")])).await;
    let code = code_of(&shown);
    let mut form = redemption(&code);
    form[1].1 = "own";
    let answer = world.token(&form).await.result.unwrap_or_else(|error| panic!("{}", error.rule));
    answer.id_token.expect("openid was asked")
}

#[tokio::test]
async fn hint_of_another_user() {
    let world = World::start().await;
    let (ada, bob) = (world.ada().await, world.add("bob", SecondFactorWish::HandedOut).await);
    let (mut adas, mut bobs) = (Browser::new(), Browser::at("192.0.2.2"));
    adas.log_in(&world, &ada).await;
    bobs.log_in(&world, &bob).await;
    let hint = id_token(&world, &mut adas).await;
    let hinted = |more: &[(&'static str, &str)]| {
        let mut changes = vec![("client_id", "own"), ("id_token_hint", hint.as_str())];
        changes.extend_from_slice(more);
        request_with(&changes)
    };
    code_of(&adas.authorize(&world, &hinted(&[("prompt", "none")])).await);
    let shown = bobs.authorize(&world, &hinted(&[("prompt", "none")])).await;
    assert_eq!(returned(&shown, "error").as_deref(), Some("login_required"));
    // Asked to sign in, Bob does, and is still not Ada.
    world.clock.advance(std::time::Duration::from_secs(60));
    let shown = bobs.authorize(&world, &hinted(&[])).await;
    assert_eq!(page(&shown), "password");
    let shown = bobs.prove(&world, &bob).await;
    assert_eq!((page(&shown), rule(&shown)), ("redirect", "HintOfAnotherUser"));
    assert_eq!(returned(&shown, "error").as_deref(), Some("login_required"));
    // SP 800-63B-4 §3.1.4.2: a code that was right is used, whatever came of the login.
    let mut thief = Browser::at("192.0.2.3");
    thief.authorize(&world, &request_with(&[])).await;
    assert_eq!(page(&thief.prove(&world, &bob).await), "totp");
    // An expired one still says who; one of another client, or of nobody, says nothing.
    world.clock.advance(std::time::Duration::from_secs(7_200));
    assert_eq!(page(&adas.authorize(&world, &hinted(&[])).await), "password");
    for (change, expected) in [
        (("client_id", "app"), "HintOfAnotherClient"),
        (("id_token_hint", "e30.e30.e30"), "HintForged"),
    ] {
        let shown = adas.authorize(&world, &hinted(&[change])).await;
        assert_eq!((rule(&shown), page(&shown)), (expected, "redirect"));
    }
}

#[tokio::test]
async fn aal2_is_demanded_where_a_second_factor_is_merely_offered() {
    let world = World::with(|settings| settings.require = Require::Offer).await;
    let eve = world.add("eve", SecondFactorWish::AtFirstLogin).await;
    let mut browser = Browser::new();
    let own = |acr: &str, prompt: &str| {
        request_with(&[("client_id", "own"), ("acr_values", acr), ("prompt", prompt)])
    };
    browser.authorize(&world, &own("", "")).await;
    code_of(&browser.password(&world, "eve", eve.password.expose()).await);
    code_of(&browser.authorize(&world, &own("aal1", "none")).await);
    let shown = browser.authorize(&world, &own("aal2", "none")).await;
    assert_eq!(returned(&shown, "error").as_deref(), Some("login_required"));
    let shown = browser.authorize(&world, &own("aal2", "")).await;
    assert_eq!(page(&shown), "enrol");
    // The page of the weaker request is no way around it.
    let shown = browser.consent(&world, "allow").await;
    assert_eq!((page(&shown), rule(&shown)), ("enrol", "StepSkipped"));
    let shown = browser.authorize(&world, &own("phrh", "")).await;
    let expected = "unmet_authentication_requirements";
    assert_eq!(returned(&shown, "error").as_deref(), Some(expected));
}

#[tokio::test]
async fn answers_travel_as_asked_and_errors_too() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    let asked = |mode: &'static str, prompt: &'static str| {
        request_with(&[("client_id", "own"), ("response_mode", mode), ("prompt", prompt)])
    };
    for (mode, expected) in [
        ("query", "redirect"),
        ("form_post", "form_post"),
        ("jwt", "redirect"),
        ("query.jwt", "redirect"),
        ("form_post.jwt", "form_post"),
    ] {
        let shown = browser.authorize(&world, &asked(mode, "none")).await;
        assert_eq!(page(&shown), expected, "{mode}");
        let shown = Browser::new().authorize(&world, &asked(mode, "none")).await;
        assert_eq!((page(&shown), rule(&shown)), (expected, "PromptNoneWithoutLogin"), "{mode}");
    }
    let id = Id::parse("own").expect("id");
    world.reload(|settings| assert!(settings.clients.contains_key(&id)));
}
