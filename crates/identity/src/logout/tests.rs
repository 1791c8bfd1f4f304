//! RP-Initiated Logout, each rule by its name.

use super::*;
use crate::outcome::Show;
use crate::settings::Settings;
use crate::testing::*;
use portcullis_core::client::ClientRecord;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::web::Redirect;
use std::sync::Arc;
use std::time::Duration;

const BYE: &str = "https://app.example/bye";

/// The record of a client of fresh settings.
pub(crate) fn client<'s>(settings: &'s mut Settings, name: &str) -> &'s mut ClientRecord {
    let id = Id::parse(name).expect("id");
    Arc::get_mut(settings.clients.get_mut(&id).expect("known")).expect("not shared yet")
}

fn with_bye(settings: &mut Settings) {
    let places = [BYE, "https://app.example/bye?a=1", "com.app:/bye"];
    let places = places.map(|text| Redirect::parse(text).expect("redirect"));
    client(settings, "app").post_logout = places.into();
    client(settings, "own").post_logout =
        vec![Redirect::parse("https://own.example/bye").expect("redirect")];
}

/// A browser with a session of ada's, and what `app` got.
struct There {
    world: World,
    browser: Browser,
    id_token: String,
    access_token: String,
}

async fn there() -> There {
    let world = World::with(with_bye).await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    let code = browser.log_in(&world, &ada).await;
    let answer = world.redeem(&code).await.result.expect("granted");
    let id_token = answer.id_token.expect("openid");
    There { world, browser, id_token, access_token: answer.access_token }
}

impl There {
    async fn ask(&mut self, pairs: &[(&str, &str)]) -> Outcome {
        ask(&self.world, &mut self.browser, pairs).await
    }
    fn alive(&self) -> bool {
        self.world.claims(&self.access_token).is_ok()
    }
    /// The page's answer.
    async fn decide(&mut self, decision: &str) -> Outcome {
        let state = self.browser.state.clone();
        self.ask(&[("state", &state), ("decision", decision)]).await
    }
}

async fn ask(world: &World, browser: &mut Browser, pairs: &[(&str, &str)]) -> Outcome {
    let outcome = world.identity.log_out(&parameters(pairs), browser.presented()).await;
    for change in &outcome.cookies {
        browser.cookies.remove(change.name);
        if !change.value.expose().is_empty() {
            browser.cookies.insert(change.name, change.value.expose().clone());
        }
    }
    browser.state = sealed(&outcome).unwrap_or(std::mem::take(&mut browser.state));
    outcome
}

fn location(outcome: &Outcome) -> &str {
    match &outcome.show {
        Show::Redirect(location) => location,
        _ => panic!("no redirect: {}", page(outcome)),
    }
}

#[tokio::test]
async fn a_hint_of_this_session_ends_it_and_sends_the_browser_on() {
    let mut there = there().await;
    let (hint, commits) = (there.id_token.clone(), there.world.store.commits());
    let asked =
        [("id_token_hint", &*hint), ("post_logout_redirect_uri", BYE), ("state", "s t&x=1")];
    let outcome = there.ask(&asked).await;
    assert_eq!(location(&outcome), "https://app.example/bye?state=s%20t%26x%3D1");
    assert_eq!(outcome.client.as_deref(), Some("app"), "proven by its token");
    assert!(outcome.caller.is_some_and(|caller| caller.starts_with("user:u_")));
    assert_eq!(there.world.store.commits(), commits + 1);
    assert!(!there.alive(), "dead before the call returned");
    assert!(!there.browser.cookies.contains_key(SESSION_COOKIE));
    let again = there.browser.authorize(&there.world, &request_with(&[])).await;
    assert_eq!(page(&again), "password");
}

#[tokio::test]
async fn an_expired_hint_still_names_its_session() {
    let mut there = there().await;
    there.world.clock.advance(Duration::from_secs(1_200));
    let hint = there.id_token.clone();
    let outcome = there.ask(&[("id_token_hint", &hint)]).await;
    assert_eq!((page(&outcome), outcome.outcome.as_deref()), ("logged_out", Ok("SignedOut")));
    assert!(!there.alive());
}

#[tokio::test]
async fn a_query_of_the_redirect_is_kept() {
    let mut there = there().await;
    let (hint, to) = (there.id_token.clone(), "https://app.example/bye?a=1");
    let asked = [("id_token_hint", &*hint), ("post_logout_redirect_uri", to), ("state", "s")];
    let outcome = there.ask(&asked).await;
    assert_eq!(location(&outcome), "https://app.example/bye?a=1&state=s");
}

#[tokio::test]
async fn without_a_hint_the_user_is_asked() {
    let mut there = there().await;
    let commits = there.world.store.commits();
    for asked in [&[][..], &[("client_id", "app"), ("logout_hint", "ada"), ("ui_locales", "de")]] {
        assert_eq!(page(&there.ask(asked).await), "logout");
    }
    assert_eq!(there.world.store.commits(), commits, "a page that is shown writes nothing");
    assert!(there.alive());
    let outcome = there.decide("logout").await;
    assert_eq!(page(&outcome), "logged_out");
    assert!(!there.alive());
}

#[tokio::test]
async fn who_stays_is_signed_in_still() {
    let mut there = there().await;
    there.ask(&[("client_id", "app"), ("post_logout_redirect_uri", BYE)]).await;
    let outcome = there.decide("stay").await;
    assert_eq!((page(&outcome), outcome.outcome.as_deref()), ("nothing", Ok("Stayed")));
    assert!(there.alive());
}

#[tokio::test]
async fn after_the_page_the_browser_goes_where_the_client_registered() {
    let mut there = there().await;
    let to = [("client_id", "app"), ("post_logout_redirect_uri", BYE), ("state", "s")];
    let outcome = there.ask(&to).await;
    let Show::Logout(shown) = &outcome.show else { panic!("{}", page(&outcome)) };
    assert_eq!((&*shown.login, shown.client.as_deref()), ("ada", Some("app")));
    assert_eq!(shown.form_target.as_deref(), Some("https://app.example"));
    assert_eq!(outcome.client.as_deref(), Some("?app"), "merely named");
    assert_eq!(location(&there.decide("logout").await), "https://app.example/bye?state=s");
}

#[tokio::test]
async fn a_private_scheme_is_its_own_source() {
    let mut there = there().await;
    let outcome =
        there.ask(&[("client_id", "app"), ("post_logout_redirect_uri", "com.app:/bye")]).await;
    let Show::Logout(shown) = &outcome.show else { panic!("{}", page(&outcome)) };
    assert_eq!(shown.form_target.as_deref(), Some("com.app:"));
}

#[tokio::test]
async fn a_hint_of_another_session_only_asks() {
    let mut there = there().await;
    let ada = there.world.add("adele", crate::account::SecondFactorWish::HandedOut).await;
    let mut other = Browser::at("192.0.2.9");
    let code = other.log_in(&there.world, &ada).await;
    let foreign = there.world.redeem(&code).await.result.expect("granted");
    let foreign = foreign.id_token.expect("openid");
    assert_eq!(page(&there.ask(&[("id_token_hint", &foreign)]).await), "logout");
    assert!(there.alive());
    assert!(there.world.claims(&there.access_token).is_ok());
}

#[tokio::test]
async fn hint_forged() {
    let mut there = there().await;
    let thief = SigningKey::generate(Algorithm::Es256).expect("key");
    let (head, rest) = there.id_token.split_once('.').expect("parts");
    let (body, _) = rest.split_once('.').expect("parts");
    let unsigned = portcullis_core::jose::base64url::encode(br#"{"alg":"none","typ":"JWT"}"#);
    let keyring = there.world.identity.keyring();
    let other_issuer = keyring.identity().sign(
        "JWT",
        &serde_json::json!({
            "iss": "https://login.example/", "sub": "u_a", "aud": "app", "exp": 1, "iat": 1,
            "auth_time": 1, "acr": "aal1", "amr": [], "sid": "s_a",
        }),
    );
    let logout = keyring.identity().sign("logout+jwt", &serde_json::json!({ "iss": ISSUER }));
    let signature = thief.sign("JWT", &serde_json::json!({}));
    let signature = signature.rsplit_once('.').expect("parts").1;
    let forged = [
        "garbage".to_owned(),
        "a.b.c".to_owned(),
        format!("{unsigned}.{body}."),
        format!("{head}.{body}.{signature}"),
        there.access_token.clone(),
        other_issuer,
        logout,
    ];
    for hint in forged {
        let asked = [("id_token_hint", &*hint), ("post_logout_redirect_uri", BYE)];
        let outcome = there.ask(&asked).await;
        assert_eq!((page(&outcome), rule(&outcome)), ("refused", "HintForged"), "{hint}");
        assert!(there.alive());
    }
}

/// An app may keep its ID token for longer than we keep keys.
#[tokio::test]
async fn a_hint_of_a_key_that_is_gone_counts_as_none() {
    let mut there = there().await;
    let thief = SigningKey::generate(Algorithm::Es256).expect("key");
    let claims = there.id_token.split('.').nth(1).expect("claims");
    let claims = portcullis_core::jose::base64url::decode(claims).expect("base64url");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    let hint = thief.sign("JWT", &claims);
    assert_eq!(page(&there.ask(&[("id_token_hint", &hint)]).await), "logout");
    // It proves no client either, so it sends nobody anywhere.
    let asked = [("id_token_hint", &*hint), ("post_logout_redirect_uri", BYE)];
    assert_eq!(rule(&there.ask(&asked).await), "ClientUnknown");
    assert!(there.alive());
}

#[tokio::test]
async fn hint_of_another_client() {
    let mut there = there().await;
    let hint = there.id_token.clone();
    let outcome = there.ask(&[("id_token_hint", &hint), ("client_id", "own")]).await;
    assert_eq!((page(&outcome), rule(&outcome)), ("refused", "HintOfAnotherClient"));
    assert!(there.alive());
}

#[tokio::test]
async fn post_logout_unregistered() {
    let mut there = there().await;
    let hint = there.id_token.clone();
    for to in [
        "https://app.example/bye/",
        "https://app.example/by",
        "https://app.example/bye?",
        "https://app.example/bye?a=2",
        "https://app.example/bye#x",
        "https://APP.example/bye",
        "https://app.example:443/bye",
        "http://app.example/bye",
        "https://app.example.evil.example/bye",
        "https://app.example@evil.example/bye",
        "https://own.example/bye",
        "//app.example/bye",
        "javascript:alert(1)",
        REDIRECT,
    ] {
        for first in [("id_token_hint", &*hint), ("client_id", "app")] {
            let outcome = there.ask(&[first, ("post_logout_redirect_uri", to)]).await;
            assert_eq!((page(&outcome), rule(&outcome)), ("refused", "PostLogoutUnregistered"));
            assert!(there.alive(), "{to}");
        }
    }
}

#[tokio::test]
async fn client_unknown() {
    let mut there = there().await;
    for client in [None, Some("nobody"), Some("../app"), Some("https://app.example/id")] {
        let mut asked = vec![("post_logout_redirect_uri", BYE)];
        asked.extend(client.map(|client| ("client_id", client)));
        let outcome = there.ask(&asked).await;
        assert_eq!((page(&outcome), rule(&outcome)), ("refused", "ClientUnknown"), "{client:?}");
    }
    let outcome = there.ask(&[("client_id", "nobody")]).await;
    assert_eq!(page(&outcome), "logout", "nowhere to go: the user may still sign out");
}

#[tokio::test]
async fn request_malformed() {
    let mut there = there().await;
    let long = "x".repeat(5_000);
    for name in ["id_token_hint", "client_id", "post_logout_redirect_uri", "state", "ui_locales"] {
        let outcome = there.ask(&[(name, &long)]).await;
        assert_eq!((page(&outcome), rule(&outcome)), ("refused", "RequestMalformed"), "{name}");
    }
    assert!(there.alive());
}

#[tokio::test]
async fn without_a_session_only_a_hint_sends_the_browser_on() {
    let mut there = there().await;
    let hint = there.id_token.clone();
    // Over in the store, while the cookie is still there.
    there.world.clock.advance(Duration::from_secs(13 * 3_600));
    let to = ("post_logout_redirect_uri", BYE);
    let outcome = there.ask(&[("client_id", "app"), to]).await;
    let what = (page(&outcome), outcome.outcome.as_deref());
    assert_eq!(what, ("logged_out", Ok("SessionAbsent")), "anybody could have linked here");
    assert!(!there.browser.cookies.contains_key(SESSION_COOKIE), "a dead cookie is cut");
    let outcome = there.ask(&[("id_token_hint", &hint), to, ("again", "1")]).await;
    assert_eq!(location(&outcome), BYE);
    assert_eq!(page(&there.ask(&[]).await), "logged_out");
}

/// Browsers send no `SameSite=Lax` cookie with a form of another site.
#[tokio::test]
async fn a_foreign_form_is_sent_round_for_the_cookies() {
    let there = there().await;
    let hint = there.id_token.clone();
    let asked = [("id_token_hint", &*hint), ("post_logout_redirect_uri", BYE), ("state", "a&b")];
    let mut bare = Browser::new();
    let outcome = ask(&there.world, &mut bare, &asked).await;
    assert!(outcome.cookies.is_empty() && there.alive(), "nothing is ended or cut yet");
    let round = location(&outcome).strip_prefix("/logout?").expect("our own page").to_owned();
    let round = Parameters::parse(round.as_bytes()).expect("well-formed");
    let landed = there.world.identity.log_out(&round, there.browser.presented()).await;
    assert_eq!(location(&landed), "https://app.example/bye?state=a%26b");
    assert!(!there.alive());
    // Once round, never twice; and a cookie that did not come is not cut.
    let landed = there.world.identity.log_out(&round, bare.presented()).await;
    assert_eq!(location(&landed), "https://app.example/bye?state=a%26b");
    assert!(landed.cookies.is_empty());
}

#[tokio::test]
async fn state_missing_and_state_forged() {
    let mut there = there().await;
    assert_eq!(rule(&there.ask(&[("decision", "logout")]).await), "StateMissing");
    let mut login = Browser::new();
    login.authorize(&there.world, &request_with(&[("prompt", "login")])).await;
    for forged in ["", "x", "AAAA", &login.state] {
        if forged.is_empty() {
            continue;
        }
        let outcome = there.ask(&[("state", forged), ("decision", "logout")]).await;
        assert_eq!((page(&outcome), rule(&outcome)), ("refused", "StateForged"));
    }
    assert!(there.alive());
}

#[tokio::test]
async fn state_of_another_browser() {
    let mut there = there().await;
    let mut thief = Browser::new();
    thief.cookies.insert(SESSION_COOKIE, there.browser.cookies[SESSION_COOKIE].clone());
    ask(&there.world, &mut thief, &[]).await;
    let stolen = thief.state.clone();
    there.ask(&[]).await;
    let outcome = there.ask(&[("state", &stolen), ("decision", "logout")]).await;
    assert_eq!((page(&outcome), rule(&outcome)), ("refused", "StateOfAnotherBrowser"));
    assert!(there.alive());
}

#[tokio::test]
async fn state_of_another_session() {
    let mut there = there().await;
    there.ask(&[]).await;
    let state = there.browser.state.clone();
    let bea = there.world.add("bea", crate::account::SecondFactorWish::HandedOut).await;
    there.browser.log_in(&there.world, &bea).await;
    let outcome = there.ask(&[("state", &state), ("decision", "logout")]).await;
    assert_eq!((page(&outcome), rule(&outcome)), ("refused", "StateOfAnotherSession"));
}

#[tokio::test]
async fn state_expired() {
    let mut there = there().await;
    there.ask(&[]).await;
    there.world.clock.advance(Duration::from_secs(600));
    let outcome = there.decide("logout").await;
    assert_eq!((page(&outcome), rule(&outcome)), ("refused", "StateExpired"));
}

#[tokio::test]
async fn decision_unknown() {
    let mut there = there().await;
    there.ask(&[]).await;
    for decision in ["yes", "Logout", "logout "] {
        assert_eq!(rule(&there.decide(decision).await), "DecisionUnknown");
    }
    assert!(there.alive());
}

#[tokio::test]
async fn a_place_that_is_not_registered_any_more_is_not_gone_to() {
    let mut there = there().await;
    there.ask(&[("client_id", "app"), ("post_logout_redirect_uri", BYE)]).await;
    there.world.reload(|_| {});
    assert_eq!(page(&there.decide("logout").await), "logged_out");
    assert!(!there.alive());
}

#[tokio::test]
async fn a_page_answered_twice_ends_as_once() {
    let mut there = there().await;
    there.ask(&[("client_id", "app"), ("post_logout_redirect_uri", BYE)]).await;
    let state = there.browser.state.clone();
    for _ in 0..2 {
        let outcome = there.ask(&[("state", &state), ("decision", "logout")]).await;
        assert_eq!(location(&outcome), BYE);
    }
}
