//! Device logins by calling the endpoints: the user's decision is written by hand.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portcullis_core::client::{ClientRecord, ClientType};
use portcullis_core::oauth::token::TokenAnswer;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Clock;

use super::*;
use crate::account::AddedUser;
use crate::settings::{Require, Settings};
use crate::testing::*;
use crate::token::testing::{Holder, amend, broke, ok, refused, seconds, shows, stored};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

fn televisions(settings: &mut Settings) {
    settings.require = Require::Offer;
    for id in ["tv", "radio"] {
        register(settings, id, ClientType::Device, |client| client.redirects.clear());
    }
}

/// A world with ada, who is signed in somewhere.
async fn with_ada() -> (World, AddedUser) {
    let world = World::with(televisions).await;
    let ada = world.ada().await;
    Browser::new().log_in(&world, &ada).await;
    (world, ada)
}

fn at(ip: &str) -> Presented {
    Presented { ip: Some(ip.parse().expect("address")), ..Presented::default() }
}

async fn asked(
    world: &World,
    pairs: &[(&str, &str)],
    presented: Presented,
) -> Answered<DeviceStart> {
    let mut form = vec![("client_id", "tv"), ("scope", "openid payments:read")];
    form.retain(|(name, _)| !pairs.iter().any(|(other, _)| other == name));
    form.extend_from_slice(pairs);
    world.identity.device(&[], &parameters(&form), presented).await
}

async fn begun(world: &World) -> DeviceStart {
    asked(world, &[], at("192.0.2.9")).await.result.expect("begun")
}

async fn polled(world: &World, code: &str) -> Answered<TokenAnswer> {
    world.token(&[("grant_type", GRANT), ("client_id", "tv"), ("device_code", code)]).await
}

async fn login(world: &World, start: &DeviceStart) -> DeviceLogin {
    let code = Plain::<DeviceCode>::presented(&start.device_code).expect("minted").digest();
    let found = world.store.read(async move |tx: &Tx| tx.device_login(&code).await).await;
    found.expect("read").expect("waits")
}

/// What ada says of a device login.
async fn says(world: &World, ada: &AddedUser, start: &DeviceStart, yes: &str) {
    let (user, now) = (ada.user.id.clone(), world.clock.now());
    let code = login(world, start).await.code;
    let approves = yes == "yes";
    world
        .change(async move |tx: &Tx| {
            let session = tx.sessions_of(&user, now).await?.remove(0);
            let (session, factors) = (session.id, session.factors);
            let approved = Decision::Approved { user, session, factors };
            let decision = if approves { approved } else { Decision::Denied };
            assert!(tx.decide_device_login(&code, &decision, now).await?);
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn a_device_waits_and_is_given_tokens_once() {
    let (world, ada) = with_ada().await;
    let start = begun(&world).await;
    assert_eq!((start.expires_in, start.interval), (600, 5));
    assert_eq!(start.verification_uri, format!("{ISSUER}/device"));
    let complete = format!("{ISSUER}/device?user_code={}", start.user_code);
    assert_eq!(start.verification_uri_complete, complete);
    let pending = ("authorization_pending", "DevicePending");
    assert_eq!(refused(&polled(&world, &start.device_code).await), pending);
    says(&world, &ada, &start, "yes").await;
    let answered = polled(&world, &start.device_code).await;
    assert_eq!(answered.caller.as_deref(), Some(format!("user:{}", ada.user.id).as_str()));
    let answer = ok(answered);
    assert_eq!((answer.scope.as_str(), answer.token_type), ("openid payments:read", "Bearer"));
    assert!(answer.id_token.is_some());
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!((claims.sub.as_str(), claims.aud.as_str()), (ada.user.id.as_str(), PAYMENTS));
    assert_eq!((claims.acr.as_deref(), claims.client_id.as_str()), (Some("aal2"), "tv"));
    let gid = claims.gid.expect("of a grant");
    let grant = stored(&world, gid.as_str().trim_start_matches("g_")).await;
    assert_eq!((grant.life, grant.factors), (GrantLife::Offline, claims.fat));
    let again = polled(&world, &start.device_code).await;
    assert_eq!(refused(&again), ("invalid_grant", "DeviceCodeUnknown"));
    let refresh = answer.refresh_token.expect("a device may refresh");
    let form =
        [("grant_type", "refresh_token"), ("client_id", "tv"), ("refresh_token", refresh.as_str())];
    ok(world.token(&form).await);
}

#[tokio::test]
async fn polled_too_fast_it_must_slow_down() {
    let (world, ada) = with_ada().await;
    let start = begun(&world).await;
    for (wait, rule, interval) in [
        (0, "DevicePending", 5),
        (4, "DevicePolledTooFast", 10),
        (9, "DevicePolledTooFast", 15),
        (15, "DevicePending", 15),
        (14, "DevicePolledTooFast", 20),
    ] {
        world.clock.advance(seconds(wait));
        let answered = polled(&world, &start.device_code).await;
        assert_eq!(broke(&answered), rule, "after {wait}");
        let code = answered.result.err().expect("refused").code;
        let expected = match rule {
            "DevicePending" => ErrorCode::AuthorizationPending,
            _ => ErrorCode::SlowDown,
        };
        assert_eq!((code, login(&world, &start).await.interval_s), (expected, interval));
    }
    // RFC 8628 §3.5: it says that the user has not decided; once they have, nobody waits for it.
    says(&world, &ada, &start, "yes").await;
    ok(polled(&world, &start.device_code).await);
}

#[tokio::test]
async fn a_device_that_hammers_writes_no_more() {
    let (world, _) = with_ada().await;
    let start = begun(&world).await;
    for _ in 0..100 {
        polled(&world, &start.device_code).await;
    }
    let login = login(&world, &start).await;
    assert_eq!(login.interval_s, MAX_INTERVAL_S);
    let before = world.store.commits();
    assert_eq!(broke(&polled(&world, &start.device_code).await), "DevicePolledTooFast");
    assert!(world.store.commits() <= before + 1);
}

#[tokio::test]
async fn device_denied() {
    let (world, ada) = with_ada().await;
    let start = begun(&world).await;
    says(&world, &ada, &start, "no").await;
    for _ in 0..2 {
        let answered = polled(&world, &start.device_code).await;
        assert_eq!(refused(&answered), ("access_denied", "DeviceDenied"));
    }
}

#[tokio::test]
async fn device_code_expired() {
    let (world, ada) = with_ada().await;
    let expired = ("expired_token", "DeviceCodeExpired");
    let (waiting, approved) = (begun(&world).await, begun(&world).await);
    says(&world, &ada, &approved, "yes").await;
    world.clock.advance(seconds(600));
    for start in [waiting, approved] {
        assert_eq!(refused(&polled(&world, &start.device_code).await), expired);
    }
}

#[tokio::test]
async fn device_code_of_another_client() {
    let (world, ada) = with_ada().await;
    let start = begun(&world).await;
    says(&world, &ada, &start, "yes").await;
    let form = [("grant_type", GRANT), ("client_id", "radio"), ("device_code", &start.device_code)];
    let expected = ("invalid_grant", "DeviceCodeOfAnotherClient");
    assert_eq!(refused(&world.token(&form).await), expected);
    // It used nothing up.
    ok(polled(&world, &start.device_code).await);
}

#[tokio::test]
async fn device_code_forged_or_unknown() {
    let (world, _) = with_ada().await;
    let unknown = Plain::<DeviceCode>::mint(&portcullis_core::entropy::SeededEntropy::new(99));
    for (code, rule) in [
        ("garbage", "DeviceCodeForged"),
        ("BCDF-GHJK", "DeviceCodeForged"),
        (unknown.reveal(), "DeviceCodeUnknown"),
    ] {
        assert_eq!(refused(&polled(&world, code).await), ("invalid_grant", rule));
    }
}

#[tokio::test]
async fn client_not_device() {
    let (world, _) = with_ada().await;
    let expected = ("unauthorized_client", "ClientNotDevice");
    let answered = asked(&world, &[("client_id", "app")], at("192.0.2.9")).await;
    assert_eq!(refused(&answered), expected);
    let start = begun(&world).await;
    let form = [("grant_type", GRANT), ("client_id", "app"), ("device_code", &start.device_code)];
    assert_eq!(refused(&world.token(&form).await), expected);
}

#[tokio::test]
async fn what_is_asked_for_is_judged_as_for_a_code() {
    let (world, _) = with_ada().await;
    for (name, value, expected) in [
        ("scope", "payments:settle", ("invalid_scope", "ScopeUnregistered")),
        ("scope", "a\u{7}b", ("invalid_scope", "ScopeMalformed")),
        ("resource", "https://nobody.example", ("invalid_target", "TargetUnknown")),
        ("resource", "https://other.example", ("invalid_scope", "ScopeOfAnotherTarget")),
        ("scope", "payments:read other:read", ("invalid_target", "TargetUnclear")),
        (
            "authorization_details",
            r#"[{"type":"payment"}]"#,
            ("invalid_authorization_details", "DetailTypeUnregistered"),
        ),
        ("authorization_details", "{", ("invalid_authorization_details", "DetailsMalformed")),
        ("client_id", "nobody", ("invalid_client", "ClientUnknown")),
    ] {
        let answered = asked(&world, &[(name, value)], at("192.0.2.9")).await;
        assert_eq!(refused(&answered), expected, "{name}={value}");
    }
}

#[tokio::test]
async fn what_was_granted_in_detail_stands_in_the_token() {
    let world = World::with(|settings| {
        televisions(settings);
        amend(settings, "tv", |tv| tv.details = vec!["payment".into()]);
        settings.apis[0].details = vec!["payment".into()];
    })
    .await;
    let ada = world.ada().await;
    Browser::new().log_in(&world, &ada).await;
    let details = r#"[{"type":"payment","amount":"12.50"}]"#;
    let asked = asked(&world, &[("authorization_details", details)], at("192.0.2.9")).await;
    let start = asked.result.expect("begun");
    says(&world, &ada, &start, "yes").await;
    let answer = ok(polled(&world, &start.device_code).await);
    let expected: Vec<serde_json::Value> = serde_json::from_str(details).expect("json");
    assert_eq!(answer.authorization_details, expected);
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!(claims.authorization_details, expected);
}

/// `6-attacks`: 10⁴ user codes → limited.
#[tokio::test]
async fn ten_thousand_user_codes_are_not_had() {
    let (world, _) = with_ada().await;
    let mut had = 0;
    for n in 0..10_000u32 {
        // Whoever has one IPv6 address has its whole network.
        let ip = format!("2001:db8:1:2::{:x}", n % 0xffff);
        let answered = asked(&world, &[], at(&ip)).await;
        match broke(&answered) {
            "granted" => had += 1,
            rule => assert_eq!(rule, "DeviceLoginsTooFast"),
        }
    }
    assert_eq!(had, 20);
    let other = asked(&world, &[], at("2001:db8:1:3::1")).await;
    assert_eq!(broke(&other), "granted", "another network");
}

#[tokio::test]
async fn device_logins_too_many() {
    let (world, _) = with_ada().await;
    // The store counts the rows themselves: forgotten counters (a restart) give nobody more room.
    let place = "192.0.2.9";
    for n in 0..2 {
        for _ in 0..10 {
            asked(&world, &[], at(place)).await.result.expect("begun");
        }
        world.clock.advance(seconds(n * 290));
    }
    world.clock.advance(seconds(290));
    let answered = asked(&world, &[], at(place)).await;
    assert_eq!(refused(&answered), ("temporarily_unavailable", "DeviceLoginsTooMany"));
}

#[tokio::test]
async fn user_codes_are_read_aloud() {
    let (world, _) = with_ada().await;
    let mut seen = BTreeSet::new();
    for n in 0..50 {
        let start = asked(&world, &[], at(&format!("198.51.{n}.1"))).await.result.expect("begun");
        let (one, other) = start.user_code.split_once('-').expect("two groups");
        assert_eq!((one.len(), other.len()), (4, 4));
        let letters = format!("{one}{other}");
        assert!(letters.chars().all(|letter| "BCDFGHJKLMNPQRSTVWXZ".contains(letter)));
        assert_eq!(login(&world, &start).await.user_code, letters);
        assert!(seen.insert(letters));
    }
}

#[tokio::test]
async fn where_it_was_begun_is_kept_for_the_page_that_asks() {
    let (world, _) = with_ada().await;
    for (ip, place) in [
        ("192.0.2.9", "192.0.2.9"),
        ("::ffff:192.0.2.10", "192.0.2.10"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ] {
        let ip: IpAddr = ip.parse().expect("address");
        let presented = Presented { ip: Some(ip), ..Presented::default() };
        let start = asked(&world, &[], presented).await.result.expect("begun");
        assert_eq!(login(&world, &start).await.ip, place);
    }
}

#[tokio::test]
async fn device_binding_other() {
    let (world, ada) = with_ada().await;
    let (holder, thief) = (Holder::new(), Holder::new());
    let now = world.clock.now();
    let nonce = world.identity.desk().shared.proofs.nonce(now);
    let proof = holder.made(&format!("{ISSUER}{PATH}"), Some(&nonce), now);
    let answered = asked(&world, &[], shows(&[&proof])).await;
    assert!(answered.nonce.is_some());
    let start = answered.result.expect("begun");
    says(&world, &ada, &start, "yes").await;
    let form = parameters(&[
        ("grant_type", GRANT),
        ("client_id", "tv"),
        ("device_code", &start.device_code),
    ]);
    let poll = async |presented| world.identity.token(&[], &form, presented).await;
    let expected = ("invalid_grant", "DeviceBindingOther");
    assert_eq!(refused(&poll(Presented::default()).await), expected, "no proof");
    assert_eq!(refused(&poll(thief.shows(&world)).await), expected, "another key");
    let answer = ok(poll(holder.shows(&world)).await);
    assert_eq!(answer.token_type, "DPoP");
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!(claims.cnf, Some(Confirmation::Key(holder.thumbprint())));
}

#[tokio::test]
async fn a_proof_at_the_poll_binds_what_was_begun_without() {
    let (world, ada) = with_ada().await;
    let holder = Holder::new();
    let start = begun(&world).await;
    says(&world, &ada, &start, "yes").await;
    let form = parameters(&[
        ("grant_type", GRANT),
        ("client_id", "tv"),
        ("device_code", &start.device_code),
    ]);
    // A proof for the other endpoint is for the other endpoint (RFC 9449 §4.3).
    let now = world.clock.now();
    let nonce = world.identity.desk().shared.proofs.nonce(now);
    let elsewhere = holder.made(&format!("{ISSUER}{PATH}"), Some(&nonce), now);
    let answered = world.identity.token(&[], &form, shows(&[&elsewhere])).await;
    assert_eq!(refused(&answered), ("invalid_dpop_proof", "DpopAddressOther"));
    let answer = ok(world.identity.token(&[], &form, holder.shows(&world)).await);
    let refresh = answer.refresh_token.expect("a device may refresh");
    let form =
        [("grant_type", "refresh_token"), ("client_id", "tv"), ("refresh_token", refresh.as_str())];
    assert_eq!(broke(&world.token(&form).await), "BindingAbsent", "bound for good");
}

#[tokio::test]
async fn of_fifty_polls_at_once_one_is_given_tokens() {
    let (world, ada) = with_ada().await;
    let start = begun(&world).await;
    says(&world, &ada, &start, "yes").await;
    let form = [("grant_type", GRANT), ("client_id", "tv"), ("device_code", &start.device_code)];
    let form = parameters(&form);
    let answers = at_once(50, || {
        let (identity, form) = (world.identity.clone(), form.clone());
        async move { identity.token(&[], &form, Presented::default()).await }
    });
    let rules: Vec<_> = answers.iter().map(broke).collect();
    assert_eq!(rules.iter().filter(|rule| **rule == "granted").count(), 1);
    assert_eq!(rules.iter().filter(|rule| **rule == "DeviceCodeUnknown").count(), 49);
}

#[tokio::test]
async fn user_disabled_after_they_agreed() {
    let (world, ada) = with_ada().await;
    let start = begun(&world).await;
    says(&world, &ada, &start, "yes").await;
    let (id, now) = (ada.user.id.clone(), world.clock.now());
    world.change(async move |tx: &Tx| tx.disable_user(&id, now).await).await;
    // What they agreed to went with them, in the same transaction.
    let expected = ("invalid_grant", "DeviceCodeUnknown");
    assert_eq!(refused(&polled(&world, &start.device_code).await), expected);
    // Nor after they were let in again: the device asks anew.
    let id = ada.user.id.clone();
    world.change(async move |tx: &Tx| tx.enable_user(&id).await).await;
    assert_ne!(broke(&polled(&world, &start.device_code).await), "granted");
}

#[tokio::test]
async fn session_ended_after_they_agreed() {
    let (world, ada) = with_ada().await;
    let start = begun(&world).await;
    says(&world, &ada, &start, "yes").await;
    let (id, now) = (ada.user.id.clone(), world.clock.now());
    world
        .change(async move |tx: &Tx| {
            let session = tx.sessions_of(&id, now).await?.remove(0);
            tx.end_session(&session.id, now).await
        })
        .await;
    let expected = ("invalid_grant", "SessionEnded");
    assert_eq!(refused(&polled(&world, &start.device_code).await), expected);
}

#[tokio::test]
async fn factor_owed_since_they_agreed() {
    let world = World::with(televisions).await;
    let bob = world.add("bob", crate::account::SecondFactorWish::AtFirstLogin).await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[])).await;
    browser.password(&world, "bob", bob.password.expose()).await;
    let start = begun(&world).await;
    says(&world, &bob, &start, "yes").await;
    world.reload(|settings| {
        televisions(settings);
        settings.require = Require::Role("admin".into());
    });
    let expected = ("invalid_grant", "FactorOwed");
    assert_eq!(refused(&polled(&world, &start.device_code).await), expected);
}

/// OpenID Connect Core §5.4, §11: these mean nothing at an API, and are asked for as for a code.
#[tokio::test]
async fn the_scopes_of_openid_connect_are_no_scopes_of_an_api() {
    let (world, _) = with_ada().await;
    let begin = async |scope| refused(&asked(&world, &[("scope", scope)], at("192.0.2.9")).await);
    assert_eq!(begin("openid offline_access payments:read").await.1, "granted");
    assert_eq!(begin("openid profile payments:read").await.1, "ScopeUnregistered");
    world.reload(|settings| {
        televisions(settings);
        amend(settings, "tv", |tv: &mut ClientRecord| {
            tv.scopes = Scopes::parse("profile email payments:read").expect("scopes");
        });
    });
    for scope in ["openid profile email", "openid profile email offline_access payments:read"] {
        assert_eq!(begin(scope).await.1, "granted", "{scope}");
    }
}

#[tokio::test]
async fn a_scope_taken_away_meanwhile_is_not_given() {
    let (world, ada) = with_ada().await;
    let start = begun(&world).await;
    says(&world, &ada, &start, "yes").await;
    world.reload(|settings| {
        televisions(settings);
        amend(settings, "tv", |tv: &mut ClientRecord| tv.scopes = Scopes::default());
    });
    assert_eq!(ok(polled(&world, &start.device_code).await).scope, "openid");
}

#[tokio::test]
async fn a_grant_taken_away_meanwhile_is_not_given() {
    let (world, ada) = with_ada().await;
    let start = begun(&world).await;
    says(&world, &ada, &start, "yes").await;
    world.reload(|settings| {
        televisions(settings);
        amend(settings, "tv", |tv: &mut ClientRecord| tv.grants.clear());
    });
    assert_eq!(broke(&polled(&world, &start.device_code).await), "ClientNotDevice");
}
