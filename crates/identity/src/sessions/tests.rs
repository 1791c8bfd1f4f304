//! Sessions and apps, listed and ended.

use super::*;
use crate::testing::*;
use portcullis_core::time::Clock;
use std::time::Duration;

/// ada, signed in at `app` from two browsers; the access tokens.
async fn signed_in(world: &World) -> Vec<String> {
    let ada = world.ada().await;
    let mut tokens = Vec::new();
    for ip in ["192.0.2.1", "192.0.2.2"] {
        let code = Browser::at(ip).log_in(world, &ada).await;
        tokens.push(world.redeem(&code).await.result.expect("granted").access_token);
        // A code of the second factor works once.
        world.clock.advance(Duration::from_secs(30));
    }
    tokens
}

fn alive(world: &World, tokens: &[String]) -> Vec<bool> {
    tokens.iter().map(|token| world.claims(token).is_ok()).collect()
}

#[tokio::test]
async fn sessions_are_listed_of_one_or_of_all() {
    let world = World::start().await;
    signed_in(&world).await;
    let bea = world.add("bea", crate::account::SecondFactorWish::HandedOut).await;
    Browser::new().log_in(&world, &bea).await;
    let now = world.clock.now();
    let all = list(&world.store, None, now).await.expect("listed");
    let logins: Vec<_> = all.iter().map(|session| session.login.as_str()).collect();
    assert_eq!(logins, ["ada", "ada", "bea"]);
    assert!(all[0].made > all[1].made, "the newest first");
    assert_eq!((all[0].acr, all[0].amr.join(" ")), ("aal2", "pwd otp mfa".into()));
    let one = list(&world.store, Some(" Ada "), now).await.expect("listed");
    assert_eq!(one, all[..2]);
    let later = now.after(Duration::from_secs(13 * 3_600));
    assert!(list(&world.store, None, later).await.expect("listed").is_empty(), "expired");
}

#[tokio::test]
async fn one_session_ends_and_the_other_lives() {
    let world = World::start().await;
    let tokens = signed_in(&world).await;
    let now = world.clock.now();
    let sessions = list(&world.store, Some("ada"), now).await.expect("listed");
    end(&world.store, sessions[0].id.as_str(), now).await.expect("ended");
    assert_eq!(alive(&world, &tokens), [true, false], "in force before the call returned");
    let left = list(&world.store, Some("ada"), now).await.expect("listed");
    assert_eq!(left, sessions[1..]);
}

#[tokio::test]
async fn all_sessions_of_a_user_end() {
    let world = World::start().await;
    let tokens = signed_in(&world).await;
    let now = world.clock.now();
    assert_eq!(end_all(&world.store, "ada", now).await.expect("ended"), 2);
    assert_eq!(alive(&world, &tokens), [false, false]);
    assert_eq!(end_all(&world.store, "ada", now).await.expect("again"), 0);
}

#[tokio::test]
async fn session_unknown() {
    let world = World::start().await;
    signed_in(&world).await;
    let now = world.clock.now();
    let session = list(&world.store, None, now).await.expect("listed").remove(0).id.to_string();
    end(&world.store, &session, now).await.expect("ended");
    for id in ["", "s_none", "u_ada", "' OR 1=1 --", &session] {
        let refused = end(&world.store, id, now).await;
        assert!(matches!(refused, Err(SessionFault::SessionUnknown(named)) if named == id));
    }
}

#[tokio::test]
async fn user_unknown() {
    let world = World::start().await;
    let store = &world.store;
    let refusals = [
        list(store, Some("nobody"), NOW).await.map(drop),
        end_all(store, "nobody", NOW).await.map(drop),
        apps(store, "nobody").await.map(drop),
        withdraw(store, "nobody", "app", NOW).await,
    ];
    for refused in refusals {
        assert!(matches!(refused, Err(SessionFault::UserUnknown(name)) if name == "nobody"));
    }
}

#[tokio::test]
async fn a_consent_that_is_taken_back_ends_what_it_granted() {
    let world = World::start().await;
    let tokens = signed_in(&world).await;
    let listed = apps(&world.store, "ada").await.expect("listed");
    let [app] = &listed[..] else { panic!("one app") };
    assert_eq!((app.client.as_str(), app.grants), ("app", 2));
    assert!(app.consented.contains("payments:read") && app.given.is_some());
    withdraw(&world.store, "ada", "app", world.clock.now()).await.expect("withdrawn");
    assert_eq!(alive(&world, &tokens), [false, false]);
    assert!(apps(&world.store, "ada").await.expect("listed").is_empty());
    let sessions = list(&world.store, Some("ada"), world.clock.now()).await.expect("listed");
    assert_eq!(sessions.len(), 2, "she is signed in still");
}

#[tokio::test]
async fn app_unknown() {
    let world = World::start().await;
    signed_in(&world).await;
    for client in ["own", "nobody", "", "u_ada"] {
        let refused = withdraw(&world.store, "ada", client, NOW).await;
        let unknown = matches!(&refused, Err(SessionFault::AppUnknown { client: named, .. }) if named == client);
        assert!(unknown, "{client}");
    }
    assert_eq!(apps(&world.store, "ada").await.expect("listed").len(), 1);
}
