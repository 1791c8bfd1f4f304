//! Refreshing by calling its functions: what comes, each refusal by its rule, what leaves a trace.

use portcullis_core::certificate::Chain;
use portcullis_core::client::{Binding, ClientRecord, GrantType, Waivers};
use portcullis_core::id::Id;
use portcullis_core::jose::claims::Confirmation;
use portcullis_core::oauth::token::ASSERTION_TYPE;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Clock;
use portcullis_store::database::Tx;
use portcullis_store::grants::{GrantLife, GrantRecord};
use serde_json::json;

use crate::outcome::{Answered, Presented};
use crate::settings::{Require, Settings};
use crate::testing::*;
use crate::token::testing::*;

/// Uses a refresh token with more parameters.
async fn with(
    world: &World,
    token: &str,
    more: &[(&str, &str)],
) -> Answered<portcullis_core::oauth::token::TokenAnswer> {
    let mut form = refreshing(token).to_vec();
    for (name, value) in more {
        form.retain(|(given, _)| given != name);
        form.push((name, value));
    }
    world.token(&form).await
}

/// A grant bound as given.
fn bound(grant: &mut GrantRecord, to: &Confirmation) {
    grant.binding = Some(serde_json::to_string(to).expect("JSON"));
}

fn to_key(holder: &Holder) -> Confirmation {
    Confirmation::Key(holder.thumbprint())
}

/// Uses a refresh token with what comes along with the request.
async fn showing(
    world: &World,
    form: &[(&str, &str)],
    presented: Presented,
) -> Answered<portcullis_core::oauth::token::TokenAnswer> {
    world.identity.token(&[], &parameters(form), presented).await
}

async fn revision(world: &World) -> u64 {
    let reading = async |tx: &Tx| tx.revision().await;
    world.store.read(reading).await.expect("read")
}

#[tokio::test]
async fn a_code_brings_a_refresh_token_and_that_brings_the_next() {
    let world = World::start().await;
    let ada = world.ada().await;
    let code = Browser::new().log_in(&world, &ada).await;
    let first = ok(world.redeem(&code).await);
    let token = first.refresh_token.expect("app may refresh");
    assert!(token.starts_with("rt_g_"), "{token}");
    world.clock.advance(seconds(200));
    let before = world.store.commits();
    let answered = refreshed(&world, &token).await;
    assert_eq!(world.store.commits(), before + 1, "one commit");
    assert_eq!(answered.client.as_deref(), Some("app"));
    assert!(answered.caller.as_ref().is_some_and(|caller| caller.starts_with("user:u_")));
    let second = ok(answered);
    assert_eq!((second.token_type, second.expires_in), ("Bearer", 300));
    assert_eq!(second.scope, "openid payments:read");
    assert_eq!(second.id_token, None);
    assert_ne!(second.refresh_token.as_ref(), Some(&token));
    let (old, new) = (
        world.claims(&first.access_token).expect("lives"),
        world.claims(&second.access_token).expect("lives"),
    );
    assert_eq!((old.gid, old.sid), (new.gid, new.sid));
    // When the factors were used is not touched by a refresh.
    assert_eq!((old.fat, old.auth_time, old.acr), (new.fat, new.auth_time, new.acr));
    assert_eq!(new.iat, NOW.unix() + 200);
}

#[tokio::test]
async fn a_client_that_may_not_refresh_is_given_no_token_and_has_no_way() {
    let none = |settings: &mut Settings| {
        plain(settings);
        amend(settings, "app", |app| app.grants = vec![GrantType::AuthorizationCode]);
    };
    let world = World::with(|settings| {
        none(settings);
        settings.require = Require::Everyone;
    })
    .await;
    let ada = world.ada().await;
    let code = Browser::new().log_in(&world, &ada).await;
    assert_eq!(ok(world.redeem(&code).await).refresh_token, None);
    let world = with_grant(|_| {}).await;
    world.reload(none);
    let answered = refreshed(&world, &nth("one", 1)).await;
    assert_eq!(refused(&answered), ("unauthorized_client", "ClientWithoutRefresh"));
}

#[tokio::test]
async fn garbage_triggers_nothing() {
    let world = with_grant(|grant| grant.family.counter = 5).await;
    let (good, before) = (nth("one", 5), world.store.commits());
    let (stem, mac) = good.rsplit_once('.').expect("three parts");
    let (gid, _) = stem.rsplit_once('.').expect("three parts");
    let of_another_n = nth("one", 1);
    let (_, other_mac) = of_another_n.rsplit_once('.').expect("three parts");
    for garbage in [
        "",
        "rt_",
        "rt_g_one.1",
        &good[1..],
        &format!("{stem}.{}", mac.to_lowercase()),
        &format!("{stem}.{other_mac}"),
        &format!("{gid}.05.{mac}"),
        &format!("{gid}.18446744073709551615.{mac}"),
        &format!("{good}="),
        &"rt_".repeat(500),
    ] {
        let expected =
            if garbage.is_empty() { "RefreshTokenMissing" } else { "RefreshTokenForged" };
        assert_eq!(broke(&refreshed(&world, garbage).await), expected, "{garbage}");
    }
    assert_eq!(world.store.commits(), before);
    assert_eq!(ok(refreshed(&world, &good).await).refresh_token, Some(nth("one", 6)));
}

#[tokio::test]
async fn the_predecessor_hands_out_the_identical_successor_for_a_moment() {
    let world = with_grant(|_| {}).await;
    let one = ok(refreshed(&world, &nth("one", 1)).await);
    world.clock.advance(seconds(10));
    let again = ok(refreshed(&world, &nth("one", 1)).await);
    assert_eq!(one.refresh_token, again.refresh_token);
    assert_ne!(one.access_token, again.access_token, "a fresh access token");
    for token in [&one.access_token, &again.access_token] {
        assert!(world.claims(token).is_ok());
    }
    world.clock.advance(seconds(1));
    assert_eq!(
        refused(&refreshed(&world, &nth("one", 1)).await),
        ("invalid_grant", "RefreshReused")
    );
}

#[tokio::test]
async fn a_bound_grant_has_a_minute_s_grace() {
    let holder = Holder::new();
    let world = with_grant(|grant| bound(grant, &to_key(&holder))).await;
    let token = nth("one", 1);
    let form = refreshing(&token);
    let first = ok(showing(&world, &form, holder.shows(&world)).await);
    assert_eq!(first.token_type, "DPoP");
    world.clock.advance(seconds(60));
    let again = ok(showing(&world, &form, holder.shows(&world)).await);
    assert_eq!(again.refresh_token, first.refresh_token);
    world.clock.advance(seconds(1));
    assert_eq!(broke(&showing(&world, &form, holder.shows(&world)).await), "RefreshReused");
}

#[tokio::test]
async fn reuse_ends_the_grant_and_every_token_of_it() {
    // n−2 at once; n−1 after the grace; n−1 after its successor was used is n−2.
    for (uses, n, wait) in [(2, 1, 0), (3, 1, 0), (1, 1, 11), (3, 2, 5)] {
        let world = with_grant(|_| {}).await;
        let mut minted = Vec::new();
        for used in 1..=uses {
            minted.push(ok(refreshed(&world, &nth("one", used)).await).access_token);
        }
        world.clock.advance(seconds(wait));
        let before = revision(&world).await;
        let answered = refreshed(&world, &nth("one", n)).await;
        assert_eq!(refused(&answered), ("invalid_grant", "RefreshReused"), "{n} of {uses}");
        assert_eq!(revision(&world).await, before + 1, "the trace");
        assert!(stored(&world, "one").await.ended.is_some());
        for token in &minted {
            assert_eq!(world.claims(token).err(), Some("token_revoked"));
        }
        for n in 1..=uses + 1 {
            assert_eq!(broke(&refreshed(&world, &nth("one", n)).await), "GrantEnded");
        }
        assert_eq!(revision(&world).await, before + 1, "once");
    }
}

/// `6-attacks`: a thief that rides the grace of every refresh is found by the third.
#[tokio::test]
async fn a_thief_that_rides_the_grace_is_found_by_the_third() {
    let world = with_grant(|_| {}).await;
    let mut rides = Vec::new();
    for n in 1..10 {
        let owner = refreshed(&world, &nth("one", n)).await;
        let thief = refreshed(&world, &nth("one", n)).await;
        rides.push((broke(&owner), broke(&thief)));
        if thief.result.is_err() {
            break;
        }
    }
    let both = ("granted", "granted");
    assert_eq!(rides, [both, both, ("granted", "RefreshGraceRidden")]);
    assert!(stored(&world, "one").await.ended.is_some());
}

#[tokio::test]
async fn a_number_above_the_row_moves_it_forward() {
    let world = with_grant(|grant| grant.family.counter = 3).await;
    let answer = ok(refreshed(&world, &nth("one", 9)).await);
    assert_eq!(answer.refresh_token, Some(nth("one", 10)));
    assert_eq!(stored(&world, "one").await.family.counter, 10);
    assert_eq!(broke(&refreshed(&world, &nth("one", 3)).await), "RefreshReused");
}

#[tokio::test]
async fn of_fifty_parallel_uses_all_get_the_same_successor_and_one_state() {
    let world = with_grant(|_| {}).await;
    let answers = at_once(50, || {
        let (identity, token) = (world.identity.clone(), nth("one", 1));
        async move { identity.token(&[], &parameters(&refreshing(&token)), Presented::default()).await }
    });
    for answered in answers {
        assert_eq!(ok(answered).refresh_token, Some(nth("one", 2)));
    }
    let family = stored(&world, "one").await.family;
    assert_eq!((family.counter, family.graces), (2, 3), "one generation with a grace");
}

#[tokio::test]
async fn refresh_token_of_another_client_moves_and_ends_nothing() {
    let world = with_grant(|grant| grant.family.counter = 3).await;
    for n in 1..=3 {
        let answered = with(&world, &nth("one", n), &[("client_id", "own")]).await;
        assert_eq!(refused(&answered), ("invalid_grant", "RefreshTokenOfAnotherClient"));
    }
    assert_eq!(ok(refreshed(&world, &nth("one", 3)).await).refresh_token, Some(nth("one", 4)));
}

#[tokio::test]
async fn a_refresh_narrows_for_once_and_never_widens() {
    let world = with_grant(|_| {}).await;
    let answered = with(&world, &nth("one", 1), &[("scope", "payments:read other:read")]).await;
    assert_eq!(refused(&answered), ("invalid_scope", "ScopeWidened"));
    let answered = with(&world, &nth("one", 1), &[("scope", "payments:\u{e9}")]).await;
    assert_eq!(refused(&answered), ("invalid_scope", "ScopeMalformed"));
    let answered = with(&world, &nth("one", 1), &[("resource", "https://other.example")]).await;
    assert_eq!(refused(&answered), ("invalid_target", "TargetOther"));
    // None of them has used the token up.
    let more = [("scope", "payments:read"), ("resource", PAYMENTS)];
    let answer = ok(with(&world, &nth("one", 1), &more).await);
    assert_eq!(answer.scope, "payments:read");
    assert_eq!(
        world.claims(&answer.access_token).expect("lives").scope.to_string(),
        "payments:read"
    );
    let answer = ok(refreshed(&world, &nth("one", 2)).await);
    assert_eq!(answer.scope, "openid payments:read payments:write", "the grant is whole");
}

#[tokio::test]
async fn details_widened() {
    let details = json!([{"type": "payment", "amount": 5}, {"type": "payment", "amount": 7}]);
    let world = with_grant(|grant| grant.details = details.to_string()).await;
    world.reload(|settings| {
        plain(settings);
        amend(settings, "app", |app| app.details = vec!["payment".into()]);
    });
    let more = [("authorization_details", r#"[{"type":"payment","amount":6}]"#)];
    let answered = with(&world, &nth("one", 1), &more).await;
    assert_eq!(refused(&answered), ("invalid_authorization_details", "DetailsWidened"));
    let more = [("authorization_details", r#"[{"amount":7,"type":"payment"}]"#)];
    let answer = ok(with(&world, &nth("one", 1), &more).await);
    assert_eq!(answer.authorization_details, [json!({"type": "payment", "amount": 7})]);
    let answer = ok(refreshed(&world, &nth("one", 2)).await);
    assert_eq!(json!(answer.authorization_details), details);
    // A type taken away from the client shrinks the next.
    world.reload(plain);
    assert!(ok(refreshed(&world, &nth("one", 3)).await).authorization_details.is_empty());
}

/// `6-attacks`: a scope taken away shrinks the next refresh, and does not log out.
#[tokio::test]
async fn what_was_taken_away_shrinks_the_next_token() {
    let world = with_grant(|_| {}).await;
    let before = ok(refreshed(&world, &nth("one", 1)).await);
    assert_eq!(before.scope, "openid payments:read payments:write");
    world.reload(|settings| {
        plain(settings);
        amend(settings, "app", |app| app.scopes = Scopes::parse("payments:read").expect("scopes"));
    });
    assert_eq!(ok(refreshed(&world, &nth("one", 2)).await).scope, "openid payments:read");
    world.reload(plain);
    let after = ok(refreshed(&world, &nth("one", 3)).await);
    assert_eq!(after.scope, "openid payments:read payments:write", "the grant is whole");
}

/// `6-attacks`: a role taken away shrinks the next refresh, kills what carries it, and does not log
/// out.
#[tokio::test]
async fn a_role_taken_away_shrinks_and_does_not_log_out() {
    let world = with_grant(|_| {}).await;
    let label = |role: &'static str| {
        let (id, now) = (Id::parse("u_ada").expect("id"), world.clock.now());
        let roles: Vec<String> = role.split_whitespace().map(str::to_owned).collect();
        let groups = roles.clone();
        async move |tx: &Tx| tx.set_labels(&id, (&roles, &groups), now).await
    };
    world.change(label("admin")).await;
    let first = ok(refreshed(&world, &nth("one", 1)).await).access_token;
    assert_eq!(world.claims(&first).expect("lives").roles, ["admin"]);
    // What is given kills nothing.
    world.change(label("admin auditor")).await;
    assert!(world.claims(&first).is_ok());
    world.change(label("auditor")).await;
    assert_eq!(world.claims(&first).err(), Some("token_revoked"));
    let second = ok(refreshed(&world, &nth("one", 2)).await).access_token;
    let claims = world.claims(&second).expect("lives");
    assert_eq!((claims.roles, claims.groups), (vec!["auditor".into()], vec!["auditor".into()]));
}

#[tokio::test]
async fn a_factor_that_is_owed_since_is_asked_at_a_new_login() {
    let world = with_grant(|_| {}).await;
    world.reload(|settings| settings.require = Require::Role("admin".into()));
    assert_eq!(broke(&refreshed(&world, &nth("one", 1)).await), "FactorOwed");
    world.reload(plain);
    ok(refreshed(&world, &nth("one", 1)).await);
}

#[tokio::test]
async fn user_disabled() {
    for life in [GrantLife::Session, GrantLife::Offline] {
        let world = with_grant(|grant| grant.life = life).await;
        let now = world.clock.now();
        let id = Id::parse("u_ada").expect("id");
        world.change(async move |tx: &Tx| tx.disable_user(&id, now).await).await;
        let answered = refreshed(&world, &nth("one", 1)).await;
        assert!(["UserDisabled", "GrantEnded"].contains(&broke(&answered)), "{}", broke(&answered));
    }
}

#[tokio::test]
async fn client_removed() {
    let world = with_grant(|_| {}).await;
    let began = world.identity.desk();
    world.reload(|settings| {
        settings.clients.remove(&Id::parse("app").expect("id"));
    });
    let token = nth("one", 1);
    let form = parameters(&refreshing(&token));
    let answered = crate::token::answer(&began, &[], &form, &Presented::default()).await;
    assert_eq!(refused(&answered), ("invalid_client", "ClientRemoved"));
    assert_eq!(refused(&refreshed(&world, &token).await), ("invalid_client", "ClientUnknown"));
}

#[tokio::test]
async fn without_offline_access_a_grant_dies_with_its_session() {
    for (life, ended, expected) in [
        (GrantLife::Session, true, "GrantEnded"),
        (GrantLife::Offline, true, "granted"),
        (GrantLife::Session, false, "SessionEnded"),
        (GrantLife::Offline, false, "granted"),
    ] {
        let world = with_grant(|grant| {
            grant.life = life;
            grant.family.expires = NOW.after(seconds(180 * 86_400));
        })
        .await;
        world.reload(|settings| {
            plain(settings);
            let long = portcullis_core::client::RefreshLife {
                idle: seconds(30 * 86_400),
                max: seconds(180 * 86_400),
            };
            amend(settings, "app", |app| app.refresh = long);
        });
        if ended {
            let now = world.clock.now();
            let session = Id::parse("s_one").expect("id");
            world.change(async move |tx: &Tx| tx.end_session(&session, now).await).await;
        } else {
            world.clock.advance(seconds(12 * 3_600));
        }
        let answered = refreshed(&world, &nth("one", 1)).await;
        assert_eq!(broke(&answered), expected, "{life:?} {ended}");
        if life == GrantLife::Offline {
            let claims = world.claims(&ok(answered).access_token).expect("lives");
            assert_eq!(claims.sid, None, "no session that could be named");
        }
    }
}

#[tokio::test]
async fn refresh_idle_and_refresh_expired() {
    let world = with_grant(|_| {}).await;
    world.clock.advance(seconds(3_600));
    assert_eq!(refused(&refreshed(&world, &nth("one", 1)).await), ("invalid_grant", "RefreshIdle"));
    let world = with_grant(|grant| grant.life = GrantLife::Offline).await;
    for n in 1..=13 {
        world.clock.advance(seconds(3_400));
        let expected = if n * 3_400 < 12 * 3_600 { "granted" } else { "RefreshExpired" };
        assert_eq!(broke(&refreshed(&world, &nth("one", n)).await), expected, "{n}");
    }
}

#[tokio::test]
async fn a_public_client_s_key_is_sticky() {
    let (holder, thief) = (Holder::new(), Holder::new());
    let world = with_grant(|grant| {
        bound(grant, &to_key(&holder));
        grant.family.counter = 3;
    })
    .await;
    // Whoever cannot show the key moves and ends nothing, whatever the number.
    for n in 1..=3 {
        let token = nth("one", n);
        let form = refreshing(&token);
        let bare = showing(&world, &form, Presented::default()).await;
        assert_eq!(refused(&bare), ("invalid_grant", "BindingAbsent"));
        let other = showing(&world, &form, thief.shows(&world)).await;
        assert_eq!(refused(&other), ("invalid_grant", "BindingOther"));
        let mtls = showing(&world, &form, certified("one", Chain::Trusted, "mtls.example")).await;
        assert_eq!(refused(&mtls), ("invalid_grant", "BindingOther"));
    }
    let token = nth("one", 3);
    let answered = showing(&world, &refreshing(&token), holder.shows(&world)).await;
    assert!(answered.nonce.is_some(), "renewed with every answer");
    let answer = ok(answered);
    assert_eq!((answer.token_type, answer.refresh_token), ("DPoP", Some(nth("one", 4))));
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!(claims.cnf, Some(to_key(&holder)));
}

/// `console` without waivers: keys, bound tokens.
fn fapi(settings: &mut Settings) {
    plain(settings);
    amend(settings, "console", |console: &mut ClientRecord| {
        console.waivers = Waivers::default();
        assert_eq!(console.binding, Binding::Required);
    });
}

/// A world with a bound grant of `console`.
async fn with_console(holder: &Holder) -> World {
    let world = with_grant(|grant| {
        grant.client = Id::parse("console").expect("id");
        grant.life = GrantLife::Offline;
        grant.family.expires = NOW.after(seconds(180 * 86_400));
        bound(grant, &to_key(holder));
    })
    .await;
    world.reload(fapi);
    world
}

/// `console` uses the token, with an assertion of its own each time.
async fn by_console(
    world: &World,
    jti: &str,
    presented: Presented,
) -> Answered<portcullis_core::oauth::token::TokenAnswer> {
    let assertion = world.assertion("console", &[("jti", json!(jti))]);
    let token = nth("one", 1);
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token.as_str()),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion.as_str()),
    ];
    showing(world, &form, presented).await
}

/// FAPI 2.0 §5.3.2.1: no rotation for a sender-constrained confidential client.
#[tokio::test]
async fn a_bound_confidential_client_s_token_does_not_rotate() {
    let holder = Holder::new();
    let world = with_console(&holder).await;
    for use_ in 0..6 {
        let answer = ok(by_console(&world, &format!("j{use_}"), holder.shows(&world)).await);
        assert_eq!(answer.refresh_token, Some(nth("one", 1)));
        assert_eq!(answer.token_type, "DPoP");
        world.clock.advance(seconds(86_400));
    }
    assert_eq!(stored(&world, "one").await.family.counter, 1);
    world.clock.advance(seconds(30 * 86_400));
    assert_eq!(broke(&by_console(&world, "late", holder.shows(&world)).await), "RefreshIdle");
}

/// RFC 9449 §5: the refresh token that answers a proof is bound to its key, from then on.
#[tokio::test]
async fn a_key_first_shown_at_a_refresh_is_sticky_too() {
    let (world, holder) = (with_grant(|_| {}).await, Holder::new());
    let token = nth("one", 1);
    let answer = ok(showing(&world, &refreshing(&token), holder.shows(&world)).await);
    assert_eq!(answer.token_type, "DPoP");
    // The predecessor in its grace, the successor, and another key: all too late.
    for n in 1..=2 {
        assert_eq!(broke(&refreshed(&world, &nth("one", n)).await), "BindingAbsent");
    }
    let token = nth("one", 2);
    let thief = Holder::new();
    let answered = showing(&world, &refreshing(&token), thief.shows(&world)).await;
    assert_eq!(refused(&answered), ("invalid_grant", "BindingOther"));
    ok(showing(&world, &refreshing(&token), holder.shows(&world)).await);
}

/// RFC 9449 §5: a confidential client's refresh token is bound by its authentication.
#[tokio::test]
async fn a_confidential_client_renews_its_key_and_never_goes_without() {
    let (holder, next) = (Holder::new(), Holder::new());
    let world = with_console(&holder).await;
    let answer = ok(by_console(&world, "a", next.shows(&world)).await);
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!(claims.cnf, Some(to_key(&next)));
    let bare = by_console(&world, "b", Presented::default()).await;
    assert_eq!(refused(&bare), ("invalid_request", "BindingMissing"));
    // Nor by a waiver that came later.
    world.reload(plain);
    let bare = by_console(&world, "c", Presented::default()).await;
    assert_eq!(refused(&bare), ("invalid_grant", "BindingAbsent"));
    let mtls = by_console(&world, "d", certified("one", Chain::Trusted, "mtls.example")).await;
    assert_eq!(refused(&mtls), ("invalid_grant", "BindingOther"));
}

#[tokio::test]
async fn the_client_must_authenticate() {
    let holder = Holder::new();
    let world = with_console(&holder).await;
    let token = nth("one", 1);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "console"),
        ("refresh_token", token.as_str()),
    ];
    let answered = showing(&world, &form, holder.shows(&world)).await;
    assert_eq!(refused(&answered), ("invalid_client", "ClientMustAuthenticate"));
}

/// `6-attacks`: after a revocation returned, no token of the grant appears.
#[tokio::test]
async fn nothing_is_minted_after_a_revocation_returned() {
    let mut minted = 0;
    for round in 0..6_u64 {
        let world = with_grant(|_| {}).await;
        let turn = std::sync::atomic::AtomicU64::new(0);
        let tokens = at_once(20, || {
            let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (identity, store) = (world.identity.clone(), world.store.clone());
            async move {
                let revoking = turn == round * 3;
                let mut tokens = Vec::new();
                if revoking {
                    let gid = Id::parse("g_one").expect("id");
                    let end = async move |tx: &Tx| tx.end_grant(&gid, NOW).await;
                    store.transact(end).await.expect("ended");
                }
                for n in 1..=2 {
                    let token = nth("one", n);
                    let form = parameters(&refreshing(&token));
                    let answered = identity.token(&[], &form, Presented::default()).await;
                    assert!(!revoking || answered.result.is_err(), "minted after it returned");
                    tokens.extend(answered.result.ok());
                }
                tokens
            }
        });
        for token in tokens.into_iter().flatten() {
            minted += 1;
            assert_eq!(world.claims(&token.access_token).err(), Some("token_revoked"));
        }
        assert_eq!(broke(&refreshed(&world, &nth("one", 2)).await), "GrantEnded");
    }
    assert!(minted > 0, "no refresh was ever first");
}
