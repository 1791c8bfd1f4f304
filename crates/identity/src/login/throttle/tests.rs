//! Guessing: who is slowed, who is not, and what a success gives back.

use std::time::Duration;

use crate::account::SecondFactorWish;
use crate::outcome::{Notice, Outcome, Show};
use crate::testing::*;

const WRONG: &str = "not-the-password";

fn notice(outcome: &Outcome) -> Option<Notice> {
    match &outcome.show {
        Show::Password(page) => page.notice,
        _ => None,
    }
}

/// Guesses at an account from one browser; returns the last answer.
async fn guess(world: &World, browser: &mut Browser, login: &str, times: usize) -> Outcome {
    let mut last = browser.authorize(world, &request_with(&[("prompt", "login")])).await;
    for _ in 0..times {
        last = browser.password(world, login, WRONG).await;
    }
    last
}

#[tokio::test]
async fn throttled_after_five_wrong_ones_at_one_address() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    assert_eq!(notice(&guess(&world, &mut browser, "ada", 5).await), Some(Notice::WrongPassword));
    // The right one too, now: whoever guesses learns nothing.
    let shown = browser.password(&world, "ada", ada.password.expose()).await;
    assert_eq!((rule(&shown), notice(&shown)), ("Throttled", Some(Notice::Throttled(180))));
    assert_eq!(shown.retry_after, Some(180));
    world.clock.advance(Duration::from_secs(180));
    let shown = browser.password(&world, "ada", ada.password.expose()).await;
    assert_eq!(page(&shown), "totp");
}

#[tokio::test]
async fn names_that_nobody_has_are_throttled_alike() {
    let world = World::start().await;
    let mut browser = Browser::new();
    guess(&world, &mut browser, "nobody", 5).await;
    let shown = browser.password(&world, "nobody", WRONG).await;
    assert_eq!((notice(&shown), shown.retry_after), (Some(Notice::Throttled(180)), Some(180)));
}

#[tokio::test]
async fn a_name_is_counted_in_its_canonical_spelling() {
    let world = World::start().await;
    world.ada().await;
    let mut browser = Browser::new();
    for login in ["ada", "ADA", " ada", "Ada ", "aDa"] {
        guess(&world, &mut browser, login, 1).await;
    }
    assert_eq!(rule(&browser.password(&world, "adA", WRONG).await), "Throttled");
}

#[tokio::test]
async fn the_owner_on_a_known_device_is_not_locked_out() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut home = Browser::new();
    home.log_in(&world, &ada).await;
    world.clock.advance(Duration::from_secs(60));
    // A guesser at the very same address, then one at many.
    let mut guesser = Browser::new();
    assert_eq!(rule(&guess(&world, &mut guesser, "ada", 10).await), "Throttled");
    for host in 0..40 {
        let mut guesser = Browser::at(&format!("198.51.100.{host}"));
        guess(&world, &mut guesser, "ada", 1).await;
    }
    let mut stranger = Browser::at("203.0.113.7");
    let shown = guess(&world, &mut stranger, "ada", 1).await;
    assert_eq!(rule(&shown), "Throttled", "the account's own budget is gone for strangers");
    home.authorize(&world, &request_with(&[("prompt", "login")])).await;
    assert_eq!(page(&home.prove(&world, &ada).await), "consent");
}

#[tokio::test]
async fn a_known_device_of_one_account_is_unknown_for_another() {
    let world = World::start().await;
    let (ada, _bob) = (world.ada().await, world.add("bob", SecondFactorWish::HandedOut).await);
    let mut home = Browser::new();
    home.log_in(&world, &ada).await;
    assert_eq!(rule(&guess(&world, &mut home, "bob", 6).await), "Throttled");
    // And its own bucket is bounded too.
    assert_eq!(rule(&guess(&world, &mut home, "ada", 5).await), "PasswordWrong");
    assert_eq!(rule(&guess(&world, &mut home, "ada", 1).await), "Throttled");
}

#[tokio::test]
async fn a_success_gives_the_address_nothing_back() {
    let world = World::with(|settings| settings.throttles.address.rates[0].burst = 5).await;
    let (ada, _bob) = (world.ada().await, world.add("bob", SecondFactorWish::HandedOut).await);
    let mut browser = Browser::new();
    guess(&world, &mut browser, "ada", 4).await;
    browser.password(&world, "ada", ada.password.expose()).await;
    // Four of five are spent at the address: the failures, and not the success.
    let mut fresh = Browser::new();
    assert_eq!(rule(&guess(&world, &mut fresh, "bob", 1).await), "PasswordWrong");
    assert_eq!(rule(&guess(&world, &mut fresh, "bob", 1).await), "Throttled");
}

#[tokio::test]
async fn a_success_empties_the_owners_bucket() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    guess(&world, &mut browser, "ada", 4).await;
    browser.password(&world, "ada", ada.password.expose()).await;
    assert_eq!(rule(&guess(&world, &mut browser, "ada", 5).await), "PasswordWrong");
}

#[tokio::test]
async fn a_refusal_by_one_bucket_eats_no_other() {
    let world = World::with(|settings| settings.throttles.address.rates[0].burst = 7).await;
    let mut browser = Browser::new();
    // Five are counted; the next twenty are refused by the pair's bucket and cost the address nothing.
    assert_eq!(rule(&guess(&world, &mut browser, "ada", 25).await), "Throttled");
    assert_eq!(rule(&guess(&world, &mut browser, "bob", 2).await), "LoginUnknown");
    assert_eq!(rule(&guess(&world, &mut browser, "bob", 1).await), "Throttled");
}

#[tokio::test]
async fn a_whole_prefix_shares_one_budget() {
    let world = World::with(|settings| settings.throttles.address.rates[1].burst = 20).await;
    for host in 1..=20 {
        let mut browser = Browser::at(&format!("192.0.2.{host}"));
        guess(&world, &mut browser, &format!("user{host}"), 1).await;
    }
    let mut next = Browser::at("192.0.2.201");
    assert_eq!(rule(&guess(&world, &mut next, "other", 1).await), "Throttled");
    let mut elsewhere = Browser::at("192.0.3.1");
    assert_eq!(rule(&guess(&world, &mut elsewhere, "other", 1).await), "LoginUnknown");
}

#[tokio::test]
async fn one_v6_host_is_its_whole_64() {
    let world = World::start().await;
    for host in 0..5 {
        let mut browser = Browser::at(&format!("2001:db8:1:1::{host}"));
        guess(&world, &mut browser, "ada", 1).await;
    }
    let mut next = Browser::at("2001:db8:1:1:ffff::1");
    assert_eq!(rule(&guess(&world, &mut next, "ada", 1).await), "Throttled");
}

#[tokio::test]
async fn of_fifty_guesses_at_once_five_are_hashed() {
    let world = World::start().await;
    world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    let shown = at_once(50, || {
        let (identity, presented) = (world.identity.clone(), browser.presented());
        let form = parameters(&[("state", &browser.state), ("login", "ada"), ("password", WRONG)]);
        async move { identity.password(&form, presented).await }
    });
    let hashed = shown.iter().filter(|shown| rule(shown) == "PasswordWrong").count();
    assert_eq!(hashed, 5);
    assert!(shown.iter().all(|shown| ["PasswordWrong", "Throttled"].contains(&rule(shown))));
}

#[tokio::test]
async fn a_forged_client_credential_charges_its_address() {
    let world = World::with(|settings| settings.throttles.address.rates[0].burst = 3).await;
    world.ada().await;
    let browser = Browser::new();
    for _ in 0..3 {
        let form = parameters(&[("grant_type", "client_credentials"), ("client_id", "nobody")]);
        let answered = world.identity.token(&[], &form, browser.presented()).await;
        assert!(answered.result.is_err());
    }
    let mut browser = Browser::new();
    assert_eq!(rule(&guess(&world, &mut browser, "ada", 1).await), "Throttled");
}
