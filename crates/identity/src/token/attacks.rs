//! The token endpoint as an attacker and as bad luck try it: what happens between two steps.

use portcullis_core::client::ClientRecord;
use portcullis_core::id::{self, Id};
use portcullis_core::oauth::token::{ASSERTION_TYPE, MAX_TOKEN_VALUE_BYTES};
use portcullis_core::scope::Scopes;
use portcullis_core::time::Clock;
use portcullis_store::database::Tx;
use serde_json::json;

use crate::account::SecondFactorWish;
use crate::outcome::Presented;
use crate::settings::{Require, Settings};
use crate::testing::*;

fn rule<T>(answered: &crate::outcome::Answered<T>) -> &'static str {
    answered.result.as_ref().err().map_or("granted", |error| error.rule)
}

fn with_scopes(settings: &mut Settings, client: &str, scopes: &str) {
    let id = Id::parse(client).expect("id");
    let record = settings.clients.remove(&id).and_then(std::sync::Arc::into_inner);
    let scopes = Scopes::parse(scopes).expect("scopes");
    let record = ClientRecord { scopes, ..record.expect("alone") };
    settings.clients.insert(id, std::sync::Arc::new(record));
}

/// A reload swaps the settings, then revokes by `client`; a request that began before and mints
/// after would carry a higher sequence than that revocation, and live on.
#[tokio::test]
async fn a_client_removed_while_its_request_waits_gets_nothing() {
    let world = World::start().await;
    let ada = world.ada().await;
    let code = Browser::new().log_in(&world, &ada).await;
    let assertion = world.assertion("ledger", &[]);
    let began = world.identity.desk();
    world.reload(|settings| {
        settings.clients.remove(&Id::<id::Client>::parse("app").expect("id"));
        settings.clients.remove(&Id::<id::Client>::parse("ledger").expect("id"));
    });
    let presented = Presented::default();
    let form = parameters(&redemption(&code));
    let answered = super::answer(&began, &[], &form, &presented).await;
    assert_eq!(rule(&answered), "ClientRemoved");
    let form = parameters(&[
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &assertion),
        ("scope", "payments:read"),
    ]);
    assert_eq!(rule(&super::answer(&began, &[], &form, &presented).await), "ClientRemoved");
}

#[tokio::test]
async fn a_scope_removed_while_its_request_waits_is_not_granted() {
    let world = World::start().await;
    let ada = world.ada().await;
    let code = Browser::new().log_in(&world, &ada).await;
    let assertion = world.assertion("ledger", &[]);
    let began = world.identity.desk();
    world.reload(|settings| {
        with_scopes(settings, "app", "other:read");
        with_scopes(settings, "ledger", "other:read");
    });
    let presented = Presented::default();
    let form = parameters(&redemption(&code));
    let answered = super::answer(&began, &[], &form, &presented).await;
    assert_eq!(answered.result.expect("granted").scope, "openid");
    let form = parameters(&[
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &assertion),
        ("scope", "payments:read"),
    ]);
    assert_eq!(rule(&super::answer(&began, &[], &form, &presented).await), "ScopeUnregistered");
}

/// `6-attacks`: after a revocation returns, no token of the grant appears.
#[tokio::test]
async fn of_tokens_minted_while_their_user_is_disabled_none_lives() {
    let mut minted = 0;
    for round in 0..4 {
        let world = World::start().await;
        let ada = world.ada().await;
        let mut browser = Browser::new();
        let mut codes = vec![browser.log_in(&world, &ada).await];
        for _ in 1..24 {
            browser.authorize(&world, &request_with(&[])).await;
            codes.push(code_of(&browser.consent(&world, "allow").await));
        }
        codes.insert(4 + round * 4, String::new());
        let codes = std::sync::Mutex::new(codes);
        let tokens = at_once(25, || {
            let code = codes.lock().expect("no panic").pop().expect("one each");
            let (identity, store) = (world.identity.clone(), world.store.clone());
            let (user, now) = (ada.user.id.clone(), world.clock.now());
            async move {
                if code.is_empty() {
                    let end = async move |tx: &Tx| tx.disable_user(&user, now).await;
                    store.transact(end).await.expect("disabled");
                    return None;
                }
                let form = parameters(&redemption(&code));
                identity.token(&[], &form, Presented::default()).await.result.ok()
            }
        });
        for token in tokens.into_iter().flatten() {
            minted += 1;
            assert_eq!(world.claims(&token.access_token).err(), Some("token_revoked"));
        }
    }
    assert!(minted > 0, "no redemption was ever first");
}

#[tokio::test]
async fn the_longest_request_that_passes_has_a_code_that_is_read() {
    let long = format!("c{}", "x".repeat(63));
    let world = World::with(|settings| {
        let id = Id::parse("app").expect("id");
        let record = settings.clients.remove(&id).and_then(std::sync::Arc::into_inner);
        let id: Id<id::Client> = Id::parse(&long).expect("id");
        let record = ClientRecord { id: id.clone(), ..record.expect("alone") };
        settings.clients.insert(id, std::sync::Arc::new(record));
    })
    .await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    let mut longest = None;
    for length in (0..1024).rev() {
        let nonce = "n".repeat(length);
        let request = request_with(&[("client_id", &long), ("nonce", &nonce)]);
        if page(&browser.authorize(&world, &request).await) == "password" {
            longest = Some(length);
            break;
        }
    }
    assert!(longest.is_some_and(|length| length >= 256), "{longest:?}");
    browser.prove(&world, &ada).await;
    let code = code_of(&browser.consent(&world, "allow").await);
    assert!(code.len() <= MAX_TOKEN_VALUE_BYTES, "{}", code.len());
    let mut form = redemption(&code).to_vec();
    form.retain(|(name, _)| *name != "client_id");
    form.push(("client_id", &long));
    assert_eq!(rule(&world.token(&form).await), "granted");
}

#[tokio::test]
async fn a_role_gained_after_the_code_wants_its_factor() {
    let world = World::with(|settings| settings.require = Require::Offer).await;
    let bob = world.add("bob", SecondFactorWish::AtFirstLogin).await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.password(&world, "bob", bob.password.expose()).await;
    let code = code_of(&browser.consent(&world, "allow").await);
    // Bob is an admin, and admins need a second factor from now on.
    world.reload(|settings| settings.require = Require::Role("admin".into()));
    assert_eq!(rule(&world.redeem(&code).await), "FactorOwed");
}

/// `5-limits` point 6: only forged, revoked or unknown credentials charge.
#[tokio::test]
async fn what_is_missing_or_merely_expired_charges_nothing() {
    let world = World::with(|settings| settings.throttles.address.rates[0].burst = 3).await;
    let browser = Browser::new();
    let late = world.assertion("ledger", &[("exp", json!(NOW.unix()))]);
    let ahead = world.assertion("ledger", &[("iat", json!(NOW.unix() + 60))]);
    for _ in 0..5 {
        for assertion in [&late, &ahead] {
            let form = parameters(&[
                ("grant_type", "client_credentials"),
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", assertion),
            ]);
            let answered = world.identity.token(&[], &form, browser.presented()).await;
            assert!(answered.result.is_err());
        }
        let form = parameters(&[("grant_type", "client_credentials"), ("client_id", "ledger")]);
        let answered = world.identity.token(&[], &form, browser.presented()).await;
        assert_eq!(rule(&answered), "ClientMustAuthenticate");
    }
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    let shown = browser.password(&world, "ada", "wrong").await;
    assert_eq!(crate::testing::rule(&shown), "LoginUnknown");
}

#[tokio::test]
async fn a_token_revoked_again_and_again_is_written_once() {
    let world = World::start().await;
    let ada = world.ada().await;
    let code = Browser::new().log_in(&world, &ada).await;
    let token = world.redeem(&code).await.result.expect("granted").access_token;
    let form = parameters(&[("client_id", "app"), ("token", &token)]);
    let revision = async || {
        let reading = async |tx: &Tx| tx.revision().await;
        world.store.read(reading).await.expect("read")
    };
    let before = revision().await;
    for _ in 0..20 {
        let answered = world.identity.revoke(&[], &form, Presented::default()).await;
        assert!(answered.result.is_ok());
    }
    assert_eq!(revision().await, before + 1);
    assert_eq!(world.claims(&token).err(), Some("token_revoked"));
}

/// `6-attacks`: a node whose clock runs an hour ahead mints nothing that survives a revocation.
#[tokio::test]
async fn a_token_of_a_clock_that_ran_ahead_dies_by_a_later_revocation() {
    let hour = std::time::Duration::from_secs(3_600);
    let world = World::start().await;
    let ada = world.ada().await;
    world.clock.advance(hour);
    let code = Browser::new().log_in(&world, &ada).await;
    let token = world.redeem(&code).await.result.expect("granted").access_token;
    world.clock.set(NOW);
    assert_eq!(world.claims(&token).err(), Some("token_not_yet_valid"));
    let (user, now) = (ada.user.id.clone(), world.clock.now());
    world.change(async move |tx: &Tx| tx.end_sessions_of(&user, now).await).await;
    world.clock.set(NOW.after(hour));
    // Another revocation sweeps what has expired.
    let other = async |tx: &Tx| {
        let kind = portcullis_core::revocation::RevocationKind::Token;
        tx.revoke(kind, "t_other", NOW.after(std::time::Duration::from_secs(7_200))).await.map(drop)
    };
    world.change(other).await;
    assert_eq!(world.claims(&token).err(), Some("token_revoked"));
}

/// A server over a file, with nothing of what it held in memory before.
async fn opened(path: &std::path::Path, seed: u64) -> World {
    let ground = Ground::new();
    let (revoked, clock) = (ground.revoked.clone(), ground.clock.clone());
    let store = portcullis_store::database::Store::open(path, revoked, clock).expect("opens");
    World::over(Ground { store, seed, ..ground }, |_| {}).await
}

/// `6-attacks`: a restart forgets nothing.
#[tokio::test]
async fn a_code_used_before_a_restart_is_a_replay_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let world = opened(&path, 1).await;
    let ada = world.ada().await;
    let code = Browser::new().log_in(&world, &ada).await;
    world.store.clone().close();
    let world = opened(&path, 2).await;
    let token = world.redeem(&code).await.result.expect("granted").access_token;
    assert!(world.claims(&token).is_ok());
    world.store.clone().close();
    let world = opened(&path, 3).await;
    assert_eq!(rule(&world.redeem(&code).await), "CodeReplayed");
    assert_eq!(world.claims(&token).err(), Some("token_revoked"));
}

/// Fifty redemptions at once, the server stopped in the middle of them, fifty more at the next.
#[tokio::test]
async fn of_redemptions_around_a_restart_one_wins() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let world = opened(&path, 1).await;
    let ada = world.ada().await;
    let code = Browser::new().log_in(&world, &ada).await;
    let at_all = |world: &World, stops: u32| {
        let turn = std::sync::atomic::AtomicU32::new(0);
        let answers = at_once(51, || {
            let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (identity, store) = (world.identity.clone(), world.store.clone());
            let form = parameters(&redemption(&code));
            async move {
                if turn == stops {
                    store.close();
                    return "closed";
                }
                rule(&identity.token(&[], &form, Presented::default()).await)
            }
        });
        answers.iter().filter(|rule| **rule == "granted").count()
    };
    let before = at_all(&world, 25);
    let world = opened(&path, 2).await;
    let after = at_all(&world, 51);
    assert_eq!((before + after, before <= 1), (1, true));
}

/// `authorization_details` of a service: within what it is registered for, and what its API knows.
#[tokio::test]
async fn details_of_a_service() {
    let world = World::with(|settings| {
        settings.apis[0].details = vec!["payment".into(), "account".into()];
        let id = Id::parse("ledger").expect("id");
        let record = settings.clients.remove(&id).and_then(std::sync::Arc::into_inner);
        let details = vec!["payment".into(), "order".into()];
        let record = ClientRecord { details, ..record.expect("alone") };
        settings.clients.insert(id, std::sync::Arc::new(record));
    })
    .await;
    let mut jti = 0;
    for (details, expected) in [
        (json!([{"type": "payment", "n": 1}]), "granted"),
        (json!([]), "granted"),
        (json!([{"type": "account"}]), "DetailTypeUnregistered"),
        (json!([{"type": "payment"}, {"type": "order"}]), "DetailTypeOfAnotherTarget"),
        (json!({"type": "payment"}), "DetailsMalformed"),
        (json!([{"n": 1}]), "DetailTypeMissing"),
    ] {
        jti += 1;
        let assertion = world.assertion("ledger", &[("jti", json!(jti.to_string()))]);
        let text = details.to_string();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &assertion),
            ("scope", "payments:read"),
            ("authorization_details", &text),
        ];
        let answered = world.token(&form).await;
        assert_eq!(rule(&answered), expected, "{text}");
        if let Ok(answer) = answered.result {
            assert_eq!(json!(answer.authorization_details), details);
            let claims = world.claims(&answer.access_token).expect("lives");
            assert_eq!(json!(claims.authorization_details), details);
        }
    }
}

/// A client of the store that was disabled refreshes nothing, though the settings still have it.
#[tokio::test]
async fn client_disabled_is_seen_at_the_refresh() {
    use crate::token::testing::{nth, refreshed, with_grant};
    let world = with_grant(|_| {}).await;
    let now = world.clock.now();
    world
        .change(async move |tx: &Tx| {
            let id: Id<id::Client> = Id::parse("app").expect("id");
            let stored = portcullis_store::clients::StoredClient::new(id.clone(), "{}".into());
            tx.add_client(&stored, now).await?;
            tx.disable_client(&id, now).await
        })
        .await;
    assert_eq!(rule(&refreshed(&world, &nth("one", 1)).await), "ClientDisabled");
}

/// `4-identity`: nothing is minted after a revocation returned. No row stands for a code that a
/// withdrawal could end, so the consent itself is asked for again.
#[tokio::test]
async fn a_consent_withdrawn_takes_the_code_with_it() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    let code = browser.log_in(&world, &ada).await;
    let now = world.clock.now();
    crate::sessions::withdraw(&world.store, "ada", "app", now).await.expect("withdrawn");
    assert_eq!(rule(&world.redeem(&code).await), "ConsentWithdrawn");
    // Asked again, and given again: it works.
    browser.authorize(&world, &request_with(&[])).await;
    let code = code_of(&browser.consent(&world, "allow").await);
    assert_eq!(rule(&world.redeem(&code).await), "granted");
    // A client of the operator's own was never the user's to let in.
    let shown = browser.authorize(&world, &request_with(&[("client_id", "own")])).await;
    let code = code_of(&shown);
    let mut form = redemption(&code);
    form[1].1 = "own";
    assert_eq!(rule(&world.token(&form).await), "granted");
}
