//! The login as an attacker tries it: `6-attacks`, "Refresh, revocation, sessions" and "Factors and
//! enrolment", line by line as far as they are built.

use std::time::Duration;

use portcullis_core::id::Id;
use portcullis_core::otp::{TotpSecret, step_at};
use portcullis_core::time::Clock;
use portcullis_store::database::Tx;

use crate::account::SecondFactorWish;
use crate::login::sealed::{LOGIN_S, STATE_S};
use crate::outcome::Show;
use crate::settings::Require;
use crate::testing::*;

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

/// The secret of the enrolment page shown.
fn shown_secret(outcome: &crate::outcome::Outcome) -> TotpSecret {
    let Show::Enrol(form) = &outcome.show else { panic!("{}", page(outcome)) };
    TotpSecret::from_base32(form.secret.expose()).expect("base32")
}

#[tokio::test]
async fn a_state_that_is_kept_alive_makes_no_second_code() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.prove(&world, &ada).await;
    let asked = browser.state.clone();
    code_of(&browser.consent(&world, "allow").await);
    // A form without a decision is shown again, with a state sealed anew: over and over, longer than
    // any nonce is remembered. Other logins keep the session alive, and drop what has expired.
    browser.state = asked;
    for _ in 0..LOGIN_S / STATE_S.unsigned_abs() + 2 {
        world.clock.advance(seconds(STATE_S - 1));
        let own = request_with(&[("client_id", "own")]);
        assert!(returned(&browser.authorize(&world, &own).await, "code").is_some());
        browser.consent(&world, "").await;
        let shown = browser.consent(&world, "allow").await;
        assert_eq!(returned(&shown, "code"), None, "{}", rule(&shown));
    }
}

#[tokio::test]
async fn a_login_ends_after_an_hour_however_often_its_page_is_shown_again() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    for _ in 0..LOGIN_S / 500 {
        world.clock.advance(Duration::from_secs(500));
        assert_eq!(rule(&browser.password(&world, "ada", "wrong").await), "PasswordWrong");
    }
    world.clock.advance(Duration::from_secs(500));
    let shown = browser.password(&world, "ada", ada.password.expose()).await;
    assert_eq!((page(&shown), rule(&shown)), ("password", "StateStale"));
}

#[tokio::test]
async fn a_state_rolled_back_makes_no_second_code() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.password(&world, "ada", ada.password.expose()).await;
    let awaiting_code = browser.state.clone();
    let code = world.code(ada.totp.as_ref().expect("totp"));
    browser.totp(&world, &code).await;
    let awaiting_consent = browser.state.clone();
    code_of(&browser.consent(&world, "allow").await);
    for old in [awaiting_code, awaiting_consent] {
        browser.state = old;
        browser.totp(&world, "").await;
        let shown = browser.consent(&world, "allow").await;
        assert_eq!((page(&shown), rule(&shown)), ("refused", "StateReplayed"));
    }
}

#[tokio::test]
async fn a_planted_session_is_not_taken_over() {
    let world = World::start().await;
    let (ada, eve) = (world.ada().await, world.add("eve", SecondFactorWish::HandedOut).await);
    let mut attacker = Browser::new();
    attacker.log_in(&world, &eve).await;
    let planted = attacker.cookies["__Host-pc-session"].clone();
    let mut victim = Browser::new();
    victim.authorize(&world, &request_with(&[])).await;
    victim.cookies.insert("__Host-pc-session", planted.clone());
    victim.prove(&world, &ada).await;
    assert_ne!(victim.cookies["__Host-pc-session"], planted);
    // Whoever kept the planted one has nobody's session now.
    assert_eq!(page(&attacker.authorize(&world, &request_with(&[])).await), "password");
}

#[tokio::test]
async fn a_stolen_cookie_dies_when_its_owner_logs_in_again() {
    let world = World::start().await;
    let ada = world.ada().await;
    let (mut owner, mut thief) = (Browser::new(), Browser::new());
    owner.log_in(&world, &ada).await;
    thief.cookies.clone_from(&owner.cookies);
    owner.authorize(&world, &request_with(&[("prompt", "login")])).await;
    owner.password(&world, "ada", ada.password.expose()).await;
    assert_eq!(page(&thief.authorize(&world, &request_with(&[])).await), "password");
}

#[tokio::test]
async fn two_tabs_get_each_their_own_code() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.prove(&world, &ada).await;
    let first = browser.state.clone();
    let other = request_with(&[("client_id", "console"), ("state", "other")]);
    assert_eq!(page(&browser.authorize(&world, &other).await), "consent");
    let second = browser.state.clone();
    browser.state = first;
    let shown = browser.consent(&world, "allow").await;
    assert_eq!(returned(&shown, "state").as_deref(), Some("st"));
    let code = code_of(&shown);
    browser.state = second;
    let shown = browser.consent(&world, "allow").await;
    assert_eq!(returned(&shown, "state").as_deref(), Some("other"));
    let others = world.redeem(&code_of(&shown)).await.result.err().map(|error| error.rule);
    assert_eq!(others, Some("CodeOfAnotherClient"));
    assert!(world.redeem(&code).await.result.is_ok());
}

#[tokio::test]
async fn prompt_login_is_not_got_round_by_the_page_of_another_tab() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    // The session is whole, but this login has proven nothing yet.
    browser.authorize(&world, &request_with(&[("prompt", "login")])).await;
    let awaiting_password = browser.state.clone();
    for step in ["consent", "totp"] {
        browser.state = awaiting_password.clone();
        let shown = match step {
            "consent" => browser.consent(&world, "allow").await,
            _ => browser.totp(&world, "").await,
        };
        assert_eq!((page(&shown), rule(&shown)), ("password", "StateStale"), "{step}");
    }
}

#[tokio::test]
async fn one_time_passwords_have_one_budget_over_all_sessions_and_addresses() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut rules = Vec::new();
    for host in 1..=8 {
        let mut browser = Browser::at(&format!("198.51.100.{host}"));
        browser.authorize(&world, &request_with(&[])).await;
        browser.password(&world, "ada", ada.password.expose()).await;
        rules.push(rule(&browser.totp(&world, "000000").await).to_owned());
    }
    assert_eq!(rules.iter().filter(|rule| *rule == "CodeWrong").count(), 5);
    assert_eq!(rules.iter().filter(|rule| *rule == "Throttled").count(), 3);
}

#[tokio::test]
async fn of_twenty_uses_of_one_step_at_once_one_passes() {
    let world = World::with(|settings| settings.throttles.otp.rates[0].burst = 100).await;
    let ada = world.ada().await;
    let code = world.code(ada.totp.as_ref().expect("totp"));
    let mut browsers = Vec::new();
    for _ in 0..20 {
        let mut browser = Browser::new();
        browser.authorize(&world, &request_with(&[])).await;
        browser.password(&world, "ada", ada.password.expose()).await;
        browsers.push(browser);
    }
    let next = std::sync::Mutex::new(browsers);
    let shown = at_once(20, || {
        let browser = next.lock().expect("no panic").pop().expect("one each");
        let (identity, presented) = (world.identity.clone(), browser.presented());
        let form = parameters(&[("state", &browser.state), ("code", &code)]);
        async move { identity.totp(&form, presented).await }
    });
    assert_eq!(shown.iter().filter(|shown| page(shown) == "consent").count(), 1);
    assert_eq!(shown.iter().filter(|shown| rule(shown) == "CodeWrong").count(), 19);
}

#[tokio::test]
async fn who_hammers_the_second_factor_does_not_lock_out_a_known_device() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut home = Browser::new();
    home.log_in(&world, &ada).await;
    world.clock.advance(Duration::from_secs(60));
    // Somebody has her password, and spends the account's budget of codes.
    let mut thief = Browser::at("198.51.100.1");
    thief.authorize(&world, &request_with(&[])).await;
    thief.password(&world, "ada", ada.password.expose()).await;
    for _ in 0..6 {
        thief.totp(&world, "000000").await;
    }
    assert_eq!(rule(&thief.totp(&world, "000000").await), "Throttled");
    home.authorize(&world, &request_with(&[("prompt", "login")])).await;
    assert_eq!(page(&home.prove(&world, &ada).await), "consent");
    // Her device has a budget of its own, and no more than that.
    home.authorize(&world, &request_with(&[("prompt", "login")])).await;
    home.password(&world, "ada", ada.password.expose()).await;
    let mut rules = Vec::new();
    for _ in 0..6 {
        rules.push(rule(&home.totp(&world, "000000").await).to_owned());
    }
    assert_eq!(rules[4..], ["CodeWrong", "Throttled"]);
}

#[tokio::test]
async fn a_known_device_that_shows_up_at_a_hundred_addresses_is_unknown() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut home = Browser::new();
    home.log_in(&world, &ada).await;
    let stolen = home.cookies["__Host-pc-device"].clone();
    let guess = async |host: u8| {
        let mut thief = Browser::at(&format!("203.0.113.{host}"));
        thief.cookies.insert("__Host-pc-device", stolen.clone());
        thief.authorize(&world, &request_with(&[])).await;
        rule(&thief.password(&world, "ada", "wrong").await).to_owned()
    };
    for host in 0..100 {
        // Slowly, so that the device's own budget is never what refuses.
        world.clock.advance(Duration::from_secs(200));
        assert_eq!(guess(host).await, "PasswordWrong", "{host}");
    }
    world.clock.advance(Duration::from_secs(200));
    // Now strangers have nothing left on this account: who is a stranger?
    for host in 0..40 {
        let mut stranger = Browser::at(&format!("198.51.100.{host}"));
        stranger.authorize(&world, &request_with(&[])).await;
        stranger.password(&world, "ada", "wrong").await;
    }
    assert_eq!(guess(200).await, "Throttled", "the hundred and first address");
    assert_eq!(guess(3).await, "PasswordWrong", "a person on the road is known");
}

#[tokio::test]
async fn the_first_factor_enrolled_ends_every_other_session() {
    let world = World::with(|settings| settings.require = Require::Offer).await;
    let bob = world.add("bob", SecondFactorWish::AtFirstLogin).await;
    let mut thief = Browser::new();
    thief.authorize(&world, &request_with(&[])).await;
    thief.password(&world, "bob", bob.password.expose()).await;
    let token = world.redeem(&code_of(&thief.consent(&world, "allow").await)).await;
    let token = token.result.expect("granted").access_token;
    world.reload(|settings| settings.require = Require::Everyone);
    let mut owner = Browser::new();
    owner.authorize(&world, &request_with(&[])).await;
    let shown = owner.password(&world, "bob", bob.password.expose()).await;
    let code = world.code(&shown_secret(&shown));
    let shown = owner.totp(&world, &code).await;
    assert_eq!((page(&shown), shown.outcome.as_deref()), ("consent", Ok("FactorEnrolled")));
    assert_eq!(world.claims(&token).err(), Some("token_revoked"));
    assert_eq!(page(&thief.authorize(&world, &request_with(&[])).await), "password");
}

#[tokio::test]
async fn of_ten_enrolments_at_once_one_stands() {
    let world = World::with(|settings| settings.throttles.otp.rates[0].burst = 100).await;
    let bob = world.add("bob", SecondFactorWish::AtFirstLogin).await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let mut browser = Browser::new();
        browser.authorize(&world, &request_with(&[])).await;
        let shown = browser.password(&world, "bob", bob.password.expose()).await;
        let code = shown_secret(&shown).code(step_at(world.clock.now()));
        waiting.push((browser, code));
    }
    let next = std::sync::Mutex::new(waiting);
    let shown = at_once(10, || {
        let (browser, code) = next.lock().expect("no panic").pop().expect("one each");
        let (identity, presented) = (world.identity.clone(), browser.presented());
        let form = parameters(&[("state", &browser.state), ("code", &code)]);
        async move { identity.totp(&form, presented).await }
    });
    assert_eq!(shown.iter().filter(|shown| page(shown) == "consent").count(), 1);
}

#[tokio::test]
async fn enrolment_never_begins_while_a_factor_stands() {
    for require in [Require::Everyone, Require::Offer] {
        let world = World::with(|settings| settings.require = require.clone()).await;
        let ada = world.ada().await;
        let id = ada.user.id.clone();
        // Also when it is switched off by a hundred failures: the password alone opens nothing.
        world
            .change(async move |tx: &Tx| {
                let totp = tx.totp(&id).await?.expect("there");
                for _ in 0..100 {
                    tx.totp_failed(&totp.id).await?;
                }
                Ok(())
            })
            .await;
        let mut browser = Browser::new();
        browser.authorize(&world, &request_with(&[])).await;
        let shown = browser.password(&world, "ada", ada.password.expose()).await;
        assert_eq!(page(&shown), "totp", "{require:?}");
        assert_eq!(rule(&browser.consent(&world, "allow").await), "StepSkipped");
    }
}

#[tokio::test]
async fn a_v4_address_in_v6_clothes_is_counted_as_itself() {
    let world = World::start().await;
    for spelling in ["192.0.2.9", "::ffff:192.0.2.9", "192.0.2.9", "::ffff:c000:209", "192.0.2.9"] {
        let mut browser = Browser::at(spelling);
        browser.authorize(&world, &request_with(&[])).await;
        assert_eq!(rule(&browser.password(&world, "ada", "wrong").await), "LoginUnknown");
    }
    let mut browser = Browser::at("::ffff:192.0.2.9");
    browser.authorize(&world, &request_with(&[])).await;
    assert_eq!(rule(&browser.password(&world, "ada", "wrong").await), "Throttled");
}

#[tokio::test]
async fn a_client_removed_while_its_user_types_gets_no_code() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[("client_id", "own")])).await;
    browser.password(&world, "ada", ada.password.expose()).await;
    world.reload(|settings| {
        settings.clients.remove(&Id::parse("own").expect("id"));
    });
    let code = world.code(ada.totp.as_ref().expect("totp"));
    assert_eq!(rule(&browser.totp(&world, &code).await), "ClientUnknown");
}

/// `6-attacks`: a new factor needs fresh assurance.
#[tokio::test]
async fn a_factor_is_enrolled_only_behind_a_fresh_password() {
    let world = World::with(|settings| settings.require = Require::Offer).await;
    let bob = world.add("bob", SecondFactorWish::AtFirstLogin).await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.password(&world, "bob", bob.password.expose()).await;
    world.reload(|settings| settings.require = Require::Everyone);
    world.clock.advance(Duration::from_secs(299));
    assert_eq!(page(&browser.authorize(&world, &request_with(&[])).await), "enrol");
    world.clock.advance(Duration::from_secs(1));
    // Whoever sits down at the open browser now has no password.
    assert_eq!(page(&browser.authorize(&world, &request_with(&[])).await), "password");
    let silent = request_with(&[("prompt", "none"), ("client_id", "own")]);
    let shown = browser.authorize(&world, &silent).await;
    assert_eq!(returned(&shown, "error").as_deref(), Some("login_required"));
}

#[tokio::test]
async fn a_page_that_waited_for_the_password_too_long_enrols_nothing() {
    let world = World::with(|settings| settings.require = Require::Offer).await;
    let bob = world.add("bob", SecondFactorWish::AtFirstLogin).await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.password(&world, "bob", bob.password.expose()).await;
    let consent = browser.state.clone();
    world.reload(|settings| settings.require = Require::Everyone);
    world.clock.advance(Duration::from_secs(300));
    let shown = browser.totp(&world, "123456").await;
    assert_eq!((page(&shown), rule(&shown)), ("password", "StateStale"));
    browser.state = consent;
    let shown = browser.consent(&world, "allow").await;
    assert_eq!((page(&shown), rule(&shown)), ("password", "StepSkipped"));
}

#[tokio::test]
async fn an_app_may_be_installed_while_the_enrolment_page_is_open() {
    let world = World::start().await;
    let bob = world.add("bob", SecondFactorWish::AtFirstLogin).await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    let secret = shown_secret(&browser.password(&world, "bob", bob.password.expose()).await);
    world.clock.advance(Duration::from_secs(590));
    assert_eq!(rule(&browser.totp(&world, "000000").await), "CodeWrong");
    let code = world.code(&secret);
    assert_eq!(page(&browser.totp(&world, &code).await), "consent");
}

#[tokio::test]
async fn password_missing_looks_like_a_wrong_one() {
    let world = World::start().await;
    let ada = world.ada().await;
    let record = ada.user.clone();
    world
        .change(async move |tx: &Tx| {
            let login = "nopassword".to_owned();
            let id = Id::parse("u_nopassword").expect("id");
            tx.add_user(&portcullis_store::users::UserRecord { id, login, ..record }).await
        })
        .await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    for (login, expected) in [("nopassword", "PasswordMissing"), ("nobody", "LoginUnknown")] {
        let shown = browser.password(&world, login, "").await;
        assert_eq!(rule(&shown), expected);
        let Show::Password(form) = &shown.show else { panic!("{}", page(&shown)) };
        assert_eq!(form.notice, Some(crate::outcome::Notice::WrongPassword));
    }
}

/// The same work for a name that nobody has. (How close the times are is measured on a release
/// build; here it shows that the hash is computed at all.)
#[tokio::test]
async fn an_unknown_name_costs_the_work_of_a_known_one() {
    let world = World::with(|settings| {
        for limit in [&mut settings.throttles.account, &mut settings.throttles.account_device] {
            limit.rates[0].burst = 1000;
        }
    })
    .await;
    world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    let mut least = [Duration::MAX; 2];
    for _ in 0..9 {
        for (least, login) in least.iter_mut().zip(["ada", "nobody"]) {
            let began = tokio::time::Instant::now();
            browser.password(&world, login, "wrong").await;
            *least = (*least).min(began.elapsed());
        }
    }
    let [known, unknown] = least;
    assert!(unknown * 3 > known * 2 && known * 3 > unknown * 2, "{known:?} {unknown:?}");
}

#[tokio::test]
async fn password_pool_full_is_said_and_never_waited_for() {
    let world = World::with(|settings| {
        for rate in &mut settings.throttles.address.rates {
            rate.burst = 1000;
        }
    })
    .await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    let names = std::sync::atomic::AtomicUsize::new(0);
    let shown = at_once(120, || {
        let name = names.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let login = format!("user{name}");
        let (identity, presented) = (world.identity.clone(), browser.presented());
        let form = parameters(&[("state", &browser.state), ("login", &login), ("password", "x")]);
        async move { identity.password(&form, presented).await }
    });
    let full = shown.iter().filter(|shown| rule(shown) == "PasswordPoolFull");
    for shown in full.clone() {
        let Show::Refused(refusal) = &shown.show else { panic!("{}", page(shown)) };
        assert_eq!(refusal.status, 503);
    }
    assert!((1..=60).contains(&full.count()));
}

#[tokio::test]
async fn an_own_app_that_anybody_could_be_still_asks() {
    // RFC 8252 §8.6: a loopback port or a scheme is claimed by any app on the machine.
    let world = World::with(|settings| {
        let id = Id::parse("mobile").expect("id");
        let record = settings.clients.remove(&id).and_then(std::sync::Arc::into_inner);
        let record =
            portcullis_core::client::ClientRecord { first_party: true, ..record.expect("alone") };
        settings.clients.insert(id, std::sync::Arc::new(record));
    })
    .await;
    let ada = world.ada().await;
    let asked = [("client_id", "mobile"), ("redirect_uri", "http://127.0.0.1:51004/cb")];
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&asked)).await;
    assert_eq!(page(&browser.prove(&world, &ada).await), "consent");
    assert_eq!(page(&browser.authorize(&world, &request_with(&asked)).await), "consent");
    let silent = request_with(&[asked[0], asked[1], ("prompt", "none")]);
    let shown = browser.authorize(&world, &silent).await;
    assert_eq!(returned(&shown, "error").as_deref(), Some("consent_required"));
}
