//! The login by calling its functions: the whole way, each refusal, each rolled-back state.

use std::time::Duration;

use portcullis_core::id::Id;
use portcullis_core::otp::{TotpSecret, step_at};
use portcullis_core::time::Clock;
use portcullis_store::database::{StoreFault, Tx};

use crate::account::SecondFactorWish;
use crate::outcome::{Notice, Show};
use crate::settings::{Require, SESSION_IDLE_S, SESSION_MAX_S};
use crate::testing::*;

const WRONG: &str = "not-the-password";

fn notice(outcome: &crate::outcome::Outcome) -> Option<Notice> {
    match &outcome.show {
        Show::Password(page) => page.notice,
        Show::Enrol(page) => page.notice,
        Show::SecondFactor(page) => page.notice,
        Show::DeviceCode(page) => page.notice,
        Show::Consent(_)
        | Show::Redirect(_)
        | Show::Refused(_)
        | Show::Nothing
        | Show::FormPost(_)
        | Show::DeviceAnswered(_)
        | Show::Logout(_)
        | Show::LoggedOut => None,
    }
}

#[tokio::test]
async fn a_user_goes_the_whole_way() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    let shown = browser.authorize(&world, &request_with(&[("login_hint", "ada")])).await;
    let Show::Password(form) = &shown.show else { panic!("{}", page(&shown)) };
    assert_eq!((form.client.as_str(), form.login.as_str()), ("app", "ada"));
    assert_eq!(form.form_target, "https://app.example");
    let shown = browser.password(&world, " ADA ", ada.password.expose()).await;
    assert_eq!((page(&shown), rule(&shown)), ("totp", "-"));
    assert_eq!(shown.caller, Some(format!("user:{}", ada.user.id)));
    let first = browser.cookies["__Host-pc-session"].clone();
    let code = world.code(ada.totp.as_ref().expect("totp"));
    let shown = browser.totp(&world, &code).await;
    let Show::Consent(asked) = &shown.show else { panic!("{}", page(&shown)) };
    assert_eq!(asked.redirect_host, "app.example");
    assert_eq!(asked.scopes[1].1, "See your payments");
    assert_ne!(browser.cookies["__Host-pc-session"], first, "new at each raise of assurance");
    let shown = browser.consent(&world, "allow").await;
    assert_eq!(returned(&shown, "state").as_deref(), Some("st"));
    assert_eq!(returned(&shown, "iss").as_deref(), Some(ISSUER));
    let answered = world.redeem(&code_of(&shown)).await;
    let answer = answered.result.expect("granted");
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!((claims.acr.as_deref(), claims.amr.len()), (Some("aal2"), 3));
    assert_eq!(claims.sub, ada.user.id.to_string());
}

#[tokio::test]
async fn the_password_alone_gets_no_code() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.password(&world, "ada", ada.password.expose()).await;
    // Skipping to consent shows what is owed; asking again does too; an empty form never advances.
    let skipped = browser.consent(&world, "allow").await;
    assert_eq!((page(&skipped), rule(&skipped)), ("totp", "StepSkipped"));
    let again = browser.authorize(&world, &request_with(&[])).await;
    assert_eq!(page(&again), "totp");
    for code in ["", "      ", "abcdef", "12345", "1234567", "0000000000000000000"] {
        let shown = browser.totp(&world, code).await;
        assert_eq!(page(&shown), "totp", "{code}");
        world.clock.advance(Duration::from_secs(60));
    }
}

#[tokio::test]
async fn password_wrong_and_login_unknown_look_alike() {
    let world = World::start().await;
    world.ada().await;
    let mut seen = Vec::new();
    for (login, expected) in [("ada", "PasswordWrong"), ("nobody", "LoginUnknown")] {
        let mut browser = Browser::new();
        browser.authorize(&world, &request_with(&[])).await;
        let shown = browser.password(&world, login, WRONG).await;
        assert_eq!(rule(&shown), expected);
        seen.push((page(&shown), notice(&shown), shown.cookies.len(), shown.retry_after));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].1, Some(Notice::WrongPassword));
}

#[tokio::test]
async fn user_disabled_is_told_nothing_more() {
    let world = World::start().await;
    let ada = world.ada().await;
    let (id, now) = (ada.user.id.clone(), world.clock.now());
    world.change(async move |tx: &Tx| tx.disable_user(&id, now).await).await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    let shown = browser.password(&world, "ada", ada.password.expose()).await;
    assert_eq!((rule(&shown), notice(&shown)), ("UserDisabled", Some(Notice::WrongPassword)));
}

#[tokio::test]
async fn nothing_is_written_before_the_first_factor() {
    let world = World::start().await;
    world.ada().await;
    let before = world.store.commits();
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.password(&world, "ada", WRONG).await;
    browser.password(&world, "nobody", WRONG).await;
    browser.totp(&world, "123456").await;
    browser.consent(&world, "allow").await;
    assert_eq!(world.store.commits(), before);
}

#[tokio::test]
async fn state_missing_and_state_forged() {
    let world = World::start().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    for (state, expected) in [("", "StateMissing"), ("AAAA", "StateForged")] {
        browser.state = state.into();
        let shown = browser.password(&world, "ada", WRONG).await;
        assert_eq!((page(&shown), rule(&shown)), ("refused", expected));
    }
}

#[tokio::test]
async fn state_of_another_browser() {
    let world = World::start().await;
    let ada = world.ada().await;
    let (mut one, mut other) = (Browser::new(), Browser::new());
    one.authorize(&world, &request_with(&[])).await;
    other.authorize(&world, &request_with(&[])).await;
    other.state = one.state.clone();
    let shown = other.password(&world, "ada", ada.password.expose()).await;
    assert_eq!(rule(&shown), "StateOfAnotherBrowser");
    other.cookies.clear();
    let shown = other.password(&world, "ada", ada.password.expose()).await;
    assert_eq!(rule(&shown), "StateOfAnotherBrowser");
    // Nor does a later state work elsewhere, even beside the other browser's own session.
    one.prove(&world, &ada).await;
    other.state = one.state.clone();
    let shown = other.consent(&world, "allow").await;
    assert_eq!(rule(&shown), "StateOfAnotherBrowser");
}

#[tokio::test]
async fn a_state_without_its_session_begins_anew() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.prove(&world, &ada).await;
    browser.cookies.remove("__Host-pc-session");
    let shown = browser.consent(&world, "allow").await;
    assert_eq!((page(&shown), rule(&shown)), ("password", "StateStale"));
}

#[tokio::test]
async fn a_cookie_of_before_the_raise_is_worth_nothing() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.password(&world, "ada", ada.password.expose()).await;
    let stolen = browser.cookies["__Host-pc-session"].clone();
    let code = world.code(ada.totp.as_ref().expect("totp"));
    browser.totp(&world, &code).await;
    browser.cookies.insert("__Host-pc-session", stolen);
    assert_eq!(page(&browser.consent(&world, "allow").await), "password");
}

#[tokio::test]
async fn state_stale() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    world.clock.advance(Duration::from_secs(600));
    let shown = browser.password(&world, "ada", ada.password.expose()).await;
    assert_eq!((rule(&shown), notice(&shown)), ("StateStale", Some(Notice::Stale)));
    let shown = browser.password(&world, "ada", ada.password.expose()).await;
    assert_eq!(page(&shown), "totp", "the page shown instead is good");
}

#[tokio::test]
async fn state_replayed_after_consent() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.prove(&world, &ada).await;
    code_of(&browser.consent(&world, "allow").await);
    let shown = browser.consent(&world, "allow").await;
    assert_eq!((page(&shown), rule(&shown)), ("refused", "StateReplayed"));
}

#[tokio::test]
async fn of_fifty_consents_at_once_one_makes_a_code() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.prove(&world, &ada).await;
    let shown = at_once(50, || {
        let (identity, presented) = (world.identity.clone(), browser.presented());
        let form = parameters(&[("state", &browser.state), ("decision", "allow")]);
        async move { identity.consent(&form, presented).await }
    });
    let codes = shown.iter().filter(|shown| returned(shown, "code").is_some()).count();
    assert_eq!(codes, 1);
}

#[tokio::test]
async fn consent_denied_is_told_to_the_client() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.prove(&world, &ada).await;
    let shown = browser.consent(&world, "deny").await;
    assert_eq!(returned(&shown, "error").as_deref(), Some("access_denied"));
    assert_eq!((returned(&shown, "code"), rule(&shown)), (None, "ConsentDenied"));
    assert_eq!(shown.client.as_deref(), Some("app"));
    assert_eq!(shown.caller, Some(format!("user:{}", ada.user.id)));
}

#[tokio::test]
async fn decision_missing() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.prove(&world, &ada).await;
    let shown = browser.consent(&world, "").await;
    assert_eq!((page(&shown), rule(&shown)), ("consent", "DecisionMissing"));
}

#[tokio::test]
async fn disabled_between_second_factor_and_consent() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.prove(&world, &ada).await;
    let (id, now) = (ada.user.id.clone(), world.clock.now());
    world.change(async move |tx: &Tx| tx.disable_user(&id, now).await).await;
    assert_eq!(page(&browser.consent(&world, "allow").await), "password");
}

#[tokio::test]
async fn a_totp_step_works_once() {
    let world = World::start().await;
    let ada = world.ada().await;
    let code = world.code(ada.totp.as_ref().expect("totp"));
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    let mut other = Browser::new();
    other.authorize(&world, &request_with(&[])).await;
    other.password(&world, "ada", ada.password.expose()).await;
    let shown = other.totp(&world, &code).await;
    assert_eq!((page(&shown), rule(&shown)), ("totp", "CodeWrong"));
    world.clock.advance(Duration::from_secs(30));
    let next = world.code(ada.totp.as_ref().expect("totp"));
    assert_eq!(page(&other.totp(&world, &next).await), "consent");
}

#[tokio::test]
async fn one_time_passwords_are_throttled() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.password(&world, "ada", ada.password.expose()).await;
    for _ in 0..5 {
        assert_eq!(notice(&browser.totp(&world, "000000").await), Some(Notice::WrongCode));
    }
    let right = world.code(ada.totp.as_ref().expect("totp"));
    let shown = browser.totp(&world, &right).await;
    assert_eq!(rule(&shown), "Throttled");
    assert_eq!(shown.retry_after, Some(60), "5 in 5 minutes: one a minute");
    world.clock.advance(Duration::from_secs(60));
    let right = world.code(ada.totp.as_ref().expect("totp"));
    assert_eq!(page(&browser.totp(&world, &right).await), "consent");
}

#[tokio::test]
async fn factor_off_after_a_hundred_failures() {
    let world = World::start().await;
    let ada = world.ada().await;
    let id = ada.user.id.clone();
    world
        .change(async move |tx: &Tx| {
            let totp = tx.totp(&id).await?.ok_or(StoreFault::Missing("totp"))?;
            for _ in 0..100 {
                tx.totp_failed(&totp.id).await?;
            }
            Ok(())
        })
        .await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    let shown = browser.prove(&world, &ada).await;
    assert_eq!((page(&shown), rule(&shown)), ("totp", "FactorOff"));
    assert_eq!(notice(&shown), Some(Notice::WrongCode), "the page does not tell");
}

#[tokio::test]
async fn a_second_factor_is_enrolled_at_the_first_login() {
    let world = World::start().await;
    let bob = world.add("bob", SecondFactorWish::AtFirstLogin).await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    let shown = browser.password(&world, "bob", bob.password.expose()).await;
    let Show::Enrol(form) = &shown.show else { panic!("{}", page(&shown)) };
    assert!(form.qr_side > 20 && form.qr_svg_path.starts_with('M'));
    let secret = TotpSecret::from_base32(form.secret.expose()).expect("base32");
    // A wrong code keeps the secret shown; the right one makes it bob's.
    let shown = browser.totp(&world, "000000").await;
    let Show::Enrol(again) = &shown.show else { panic!("{}", page(&shown)) };
    assert_eq!(
        (again.secret.expose(), again.notice),
        (form.secret.expose(), Some(Notice::WrongCode))
    );
    assert_eq!(
        page(&browser.totp(&world, &secret.code(step_at(world.clock.now()))).await),
        "consent"
    );
    // The next browser is asked for a code, and never shown a new secret.
    let mut other = Browser::new();
    other.authorize(&world, &request_with(&[])).await;
    assert_eq!(page(&other.password(&world, "bob", bob.password.expose()).await), "totp");
}

#[tokio::test]
async fn an_old_enrolment_page_replaces_nothing() {
    let world = World::start().await;
    let bob = world.add("bob", SecondFactorWish::AtFirstLogin).await;
    let (mut one, mut other) = (Browser::new(), Browser::new());
    let mut secrets = Vec::new();
    for browser in [&mut one, &mut other] {
        browser.authorize(&world, &request_with(&[])).await;
        let shown = browser.password(&world, "bob", bob.password.expose()).await;
        let Show::Enrol(form) = &shown.show else { panic!("{}", page(&shown)) };
        secrets.push(TotpSecret::from_base32(form.secret.expose()).expect("base32"));
    }
    let now = step_at(world.clock.now());
    assert_eq!(page(&one.totp(&world, &secrets[0].code(now)).await), "consent");
    // The first enrolment ended the other session; a new one is asked for the factor that stands.
    let shown = other.totp(&world, &secrets[1].code(now)).await;
    assert_eq!((page(&shown), rule(&shown)), ("password", "StateStale"));
    other.password(&world, "bob", bob.password.expose()).await;
    let shown = other.totp(&world, &secrets[1].code(now)).await;
    assert_eq!((page(&shown), rule(&shown)), ("totp", "CodeWrong"));
}

#[tokio::test]
async fn who_is_asked_for_a_second_factor() {
    let role = || Require::Role("admin".into());
    for (require, expected) in
        [(Require::Everyone, "enrol"), (role(), "enrol"), (Require::Offer, "consent")]
    {
        let world = World::with(|settings| settings.require = require.clone()).await;
        let bob = world.add("bob", SecondFactorWish::AtFirstLogin).await;
        let mut browser = Browser::new();
        browser.authorize(&world, &request_with(&[])).await;
        let shown = browser.password(&world, "bob", bob.password.expose()).await;
        assert_eq!(page(&shown), expected, "{require:?}");
    }
    let other = World::with(|settings| settings.require = Require::Role("boss".into())).await;
    let (bob, ada) = (other.add("bob", SecondFactorWish::AtFirstLogin).await, other.ada().await);
    for (user, expected) in [(&bob, "consent"), (&ada, "totp")] {
        let mut browser = Browser::new();
        browser.authorize(&other, &request_with(&[])).await;
        let shown = browser.password(&other, &user.user.login, user.password.expose()).await;
        assert_eq!(page(&shown), expected, "whoever has a factor is asked for it");
    }
}

#[tokio::test]
async fn a_session_is_raised_when_more_is_required() {
    let world = World::with(|settings| settings.require = Require::Offer).await;
    let bob = world.add("bob", SecondFactorWish::AtFirstLogin).await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.password(&world, "bob", bob.password.expose()).await;
    world.reload(|settings| settings.require = Require::Everyone);
    assert_eq!(page(&browser.consent(&world, "allow").await), "enrol");
    assert_eq!(page(&browser.authorize(&world, &request_with(&[])).await), "enrol");
}

#[tokio::test]
async fn a_session_skips_to_consent_and_own_clients_to_the_code() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    let shown = browser.authorize(&world, &request_with(&[])).await;
    assert_eq!(page(&shown), "consent", "a public client cannot prove who it is");
    let shown = browser.authorize(&world, &request_with(&[("client_id", "own")])).await;
    assert!(returned(&shown, "code").is_some(), "first-party, https");
    let console = request_with(&[("client_id", "console")]);
    assert_eq!(page(&browser.authorize(&world, &console).await), "consent", "first use");
    code_of(&browser.consent(&world, "allow").await);
    let shown = browser.authorize(&world, &console).await;
    assert!(returned(&shown, "code").is_some(), "the consent stands");
    let wider = [("client_id", "console"), ("scope", "payments:read payments:write")];
    let shown = browser.authorize(&world, &request_with(&wider)).await;
    assert_eq!(page(&shown), "consent", "widened");
    let asked = [("client_id", "own"), ("prompt", "consent")];
    assert_eq!(page(&browser.authorize(&world, &request_with(&asked)).await), "consent");
}

#[tokio::test]
async fn first_party_ends_in_the_request_of_the_last_factor() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[("client_id", "own")])).await;
    let before = world.store.commits();
    let shown = browser.prove(&world, &ada).await;
    assert!(returned(&shown, "code").is_some());
    assert_eq!(world.store.commits() - before, 2, "one commit per request");
    assert!(shown.cookies.iter().any(|cookie| cookie.name == "__Host-pc-session"));
    assert!(shown.cookies.iter().any(|cookie| cookie.name == "__Host-pc-device"));
}

#[tokio::test]
async fn prompt_none() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    let silent = request_with(&[("prompt", "none")]);
    let shown = browser.authorize(&world, &silent).await;
    assert_eq!(returned(&shown, "error").as_deref(), Some("login_required"));
    assert_eq!((rule(&shown), shown.client.as_deref()), ("PromptNoneWithoutLogin", Some("app")));
    browser.log_in(&world, &ada).await;
    let shown = browser.authorize(&world, &silent).await;
    assert_eq!(returned(&shown, "error").as_deref(), Some("consent_required"));
    assert_eq!(rule(&shown), "PromptNoneWithoutConsent");
    let own = request_with(&[("prompt", "none"), ("client_id", "own")]);
    assert!(returned(&browser.authorize(&world, &own).await, "code").is_some());
}

#[tokio::test]
async fn prompt_login_and_max_age_ask_again() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    let old = browser.cookies["__Host-pc-session"].clone();
    world.clock.advance(Duration::from_secs(60));
    let aged = |age| request_with(&[("client_id", "own"), ("max_age", age)]);
    assert_eq!(page(&browser.authorize(&world, &aged("61")).await), "redirect");
    assert_eq!(page(&browser.authorize(&world, &aged("60")).await), "password");
    assert_eq!(page(&browser.authorize(&world, &aged("0")).await), "password");
    let again = request_with(&[("client_id", "own"), ("prompt", "login")]);
    assert_eq!(page(&browser.authorize(&world, &again).await), "password");
    // The second factor too: the ledger of the session begins anew.
    let shown = browser.password(&world, "ada", ada.password.expose()).await;
    assert_eq!(page(&shown), "totp");
    assert_ne!(browser.cookies["__Host-pc-session"], old);
}

#[tokio::test]
async fn a_session_idles_out_and_ends_absolutely() {
    let idle = u64::try_from(SESSION_IDLE_S).expect("positive");
    let whole = u64::try_from(SESSION_MAX_S).expect("positive");
    let world = World::start().await;
    let ada = world.ada().await;
    let own = request_with(&[("client_id", "own")]);
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    let mut passed = 0;
    while passed + idle - 60 < whole {
        world.clock.advance(Duration::from_secs(idle - 60));
        passed += idle - 60;
        assert_eq!(page(&browser.authorize(&world, &own).await), "redirect", "{passed}");
    }
    world.clock.advance(Duration::from_secs(whole - passed));
    assert_eq!(page(&browser.authorize(&world, &own).await), "password", "twelve hours");
    let mut other = Browser::new();
    other.log_in(&world, &ada).await;
    world.clock.advance(Duration::from_secs(idle));
    assert_eq!(page(&other.authorize(&world, &own).await), "password", "an hour idle");
}

#[tokio::test]
async fn another_persons_session_in_the_browser_ends() {
    let world = World::start().await;
    let (ada, bob) = (world.ada().await, world.add("bob", SecondFactorWish::HandedOut).await);
    let mut browser = Browser::new();
    let token = world.redeem(&browser.log_in(&world, &ada).await).await.result.expect("granted");
    browser.authorize(&world, &request_with(&[("prompt", "login")])).await;
    browser.password(&world, "bob", bob.password.expose()).await;
    assert_eq!(world.claims(&token.access_token).err(), Some("token_revoked"));
}

#[tokio::test]
async fn a_page_of_one_persons_session_is_not_answered_by_another() {
    let world = World::start().await;
    let (ada, bob) = (world.ada().await, world.add("bob", SecondFactorWish::HandedOut).await);
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.prove(&world, &ada).await;
    let asked_of_ada = browser.state.clone();
    browser.authorize(&world, &request_with(&[("prompt", "login")])).await;
    assert_eq!(page(&browser.prove(&world, &bob).await), "consent");
    browser.state = asked_of_ada;
    let shown = browser.consent(&world, "allow").await;
    assert_eq!((page(&shown), rule(&shown)), ("password", "StateStale"));
}

#[tokio::test]
async fn a_client_removed_by_a_reload_ends_its_logins() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.prove(&world, &ada).await;
    world.reload(|settings| {
        settings.clients.remove(&Id::parse("app").expect("id"));
    });
    assert_eq!(rule(&browser.consent(&world, "allow").await), "ClientUnknown");
}

#[tokio::test]
async fn a_refused_request_names_its_client_in_the_record() {
    let world = World::start().await;
    let mut browser = Browser::new();
    let shown = browser.authorize(&world, &request_with(&[("client_id", "nobody")])).await;
    assert_eq!(shown.client.as_deref(), Some("?nobody"));
    assert_eq!((shown.event, page(&shown)), ("login.authorize", "refused"));
    assert!(shown.cookies.is_empty());
}

#[tokio::test]
async fn ring_empty() {
    let world = World::start().await;
    let (store, clock) = (world.store.clone(), world.clock.clone());
    let entropy = std::sync::Arc::new(portcullis_core::entropy::SeededEntropy::new(1));
    let key = portcullis_core::hash::TableKey::mint(&*entropy);
    let counters = std::sync::Arc::new(portcullis_core::limit::LocalCounters::new(key, 64));
    let settings = settings(&world.key);
    let ring = Vec::new();
    let parts = crate::parts::Parts {
        store,
        clock,
        proofs: std::sync::Arc::new(portcullis_core::jose::dpop::ProofDesk::new(&*entropy)),
        entropy,
        counters,
        ring,
        settings,
        fetch: std::sync::Arc::new(Nobody),
        foreign: std::sync::Arc::new(Nobody),
        revoked: world.revoked.clone(),
    };
    let refused = crate::server::Identity::start(parts).await;
    assert!(matches!(refused, Err(crate::parts::StartFault::RingEmpty)));
}
