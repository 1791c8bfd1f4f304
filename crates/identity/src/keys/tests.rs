//! `signing-key list | rotate | kill`, on a running server and without one.

use super::*;
use crate::keyring::Keyring;
use crate::testing::*;
use portcullis_core::entropy::SeededEntropy;
use portcullis_core::jose::verify;
use portcullis_core::oauth::token::TokenAnswer;
use portcullis_core::time::Clock;
use portcullis_store::database::Store;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

async fn token(world: &World) -> String {
    let assertion = world
        .assertion("ledger", &[("jti", serde_json::json!(format!("j{}", world.store.commits())))]);
    let answered = world
        .token(&[
            ("grant_type", "client_credentials"),
            ("client_assertion_type", portcullis_core::oauth::token::ASSERTION_TYPE),
            ("client_assertion", &assertion),
            ("scope", "payments:read"),
        ])
        .await;
    let answer: TokenAnswer = answered.result.expect("granted");
    answer.access_token
}

async fn kid(world: &World, usage: KeyUse, state: KeyState) -> String {
    let keys = world.identity.signing_keys().await.expect("listed");
    keys.into_iter().find(|key| key.usage == usage && key.state == state).expect("there").kid
}

#[tokio::test]
async fn the_list_says_what_signs_and_until_when() {
    let world = World::start().await;
    let keys = world.identity.signing_keys().await.expect("listed");
    let shown: Vec<_> =
        keys.iter().map(|key| (usage_word(key.usage), state_word(key.state))).collect();
    assert_eq!(shown.len(), 6);
    for usage in ["access", "identity", "passport"] {
        assert!(shown.contains(&(usage, "active")) && shown.contains(&(usage, "next")));
        assert_eq!(usage_of(usage).map(usage_word), Some(usage));
    }
    let ends = NOW.after(world.identity.desk().settings.key_life);
    assert!(keys.iter().all(|key| key.made == NOW && key.until == Some(ends)));
    assert_eq!(usage_of("verify-only"), None);
}

#[tokio::test]
async fn a_next_key_that_is_not_known_yet_waits() {
    let world = World::start().await;
    let next = kid(&world, KeyUse::Access, KeyState::Next).await;
    let ready = NOW.after(DAY);
    for _ in 0..2 {
        let rotated = world.identity.rotate_signing_keys(None, Haste::Planned).await.expect("ok");
        assert_eq!(rotated.len(), 3);
        assert_eq!(rotated[0].kid, next, "the same one, however often it is asked");
        assert!(rotated.iter().all(|r| r.promotion == Promotion::Waits { ready }));
    }
    world.clock.set(ready);
    let rotated = world.identity.rotate_signing_keys(Some(KeyUse::Access), Haste::Planned).await;
    let promotion = Promotion::Promoted { known_to_all: true };
    assert_eq!(
        rotated.expect("ok"),
        [Rotated { usage: KeyUse::Access, kid: next.clone(), promotion }]
    );
    assert_eq!(world.identity.keyring().access().kid(), next);
    assert_eq!(world.identity.tick().await, crate::maintenance::Ticked::KeysChanged);
}

#[tokio::test]
async fn now_promotes_at_once_and_says_that_others_may_not_know() {
    let world = World::start().await;
    let before = token(&world).await;
    let rotated = world.identity.rotate_signing_keys(None, Haste::Now).await.expect("ok");
    assert!(rotated.iter().all(|r| r.promotion == Promotion::Promoted { known_to_all: false }));
    let after = token(&world).await;
    for token in [before, after] {
        assert!(world.claims(&token).is_ok(), "the gateway knows both");
    }
}

#[tokio::test]
async fn keys_too_many() {
    let world = World::start().await;
    let mut outcome = Ok(Vec::new());
    for _ in 0..portcullis_store::keys::MAX_KEYS {
        outcome = world.identity.rotate_signing_keys(Some(KeyUse::Access), Haste::Now).await;
    }
    assert!(matches!(outcome, Err(KeyFault::KeysTooMany)));
    assert!(world.claims(&token(&world).await).is_ok(), "what signs goes on");
    world.clock.advance(10 * DAY);
    world.identity.tick().await;
    assert_eq!(world.identity.signing_keys().await.expect("listed").len(), 6, "swept");
}

#[tokio::test]
async fn a_killed_key_is_dead_before_the_call_returns_and_its_successor_signs() {
    let world = World::start().await;
    world.clock.advance(DAY - Duration::from_secs(3_600));
    let dead = token(&world).await;
    let known = world.identity.keyring().access_keys();
    let (active, next) = (
        kid(&world, KeyUse::Access, KeyState::Active).await,
        kid(&world, KeyUse::Access, KeyState::Next).await,
    );
    let killed = world.identity.kill_signing_key(&active).await.expect("killed");
    assert_eq!((killed.was, &killed.successor), (KeyState::Active, &next));
    assert!(world.claims(&dead).is_err());
    // The revocation alone, at a gateway that still holds the old set.
    let verified = verify::access_token(&dead, &known, ISSUER, None, world.clock.now());
    let verified = verified.expect("the old set");
    let things = [(portcullis_core::revocation::RevocationKind::Key, verified.kid().expect("kid"))];
    let marks = portcullis_core::revocation::Marks::collect(verified.claims().rev, &things);
    assert!(world.revoked.kills(&marks));
    // Nobody else's verification fails: the successor was published all along.
    let alive = token(&world).await;
    assert!(verify::access_token(&alive, &known, ISSUER, None, world.clock.now()).is_ok());
    assert!(world.claims(&alive).is_ok());
}

#[tokio::test]
async fn a_thief_of_a_killed_key_forges_no_rev_past_it() {
    let world = World::start().await;
    let stolen = world.identity.keyring().access();
    let claims = world.claims(&token(&world).await).expect("alive");
    let forged = portcullis_core::jose::claims::AccessClaims { rev: u64::MAX, ..claims };
    let forged = stolen.sign("at+jwt", &forged);
    assert!(world.claims(&forged).is_ok(), "as long as nobody knows of the theft");
    world.identity.kill_signing_key(stolen.kid()).await.expect("killed");
    assert_eq!(world.claims(&forged).err(), Some("key_unknown"));
    assert!(!world.identity.jwks().to_string().contains(stolen.kid()));
}

#[tokio::test]
async fn any_state_can_be_killed_and_a_next_key_is_always_there() {
    let world = World::start().await;
    let held = world.identity.keyring().identity();
    world.identity.rotate_signing_keys(Some(KeyUse::Identity), Haste::Now).await.expect("ok");
    for state in [KeyState::Next, KeyState::VerifyOnly, KeyState::Active] {
        let signs = kid(&world, KeyUse::Identity, KeyState::Active).await;
        let kid = kid(&world, KeyUse::Identity, state).await;
        let killed = world.identity.kill_signing_key(&kid).await.expect("killed");
        assert_eq!((killed.was, killed.successor == signs), (state, state != KeyState::Active));
        let keys = world.identity.signing_keys().await.expect("listed");
        assert!(keys.iter().all(|key| key.kid != kid));
        for state in [KeyState::Active, KeyState::Next] {
            let of = |key: &&ListedKey| key.usage == KeyUse::Identity && key.state == state;
            assert_eq!(keys.iter().filter(of).count(), 1, "{state:?}");
        }
    }
    assert_ne!(held.kid(), world.identity.keyring().identity().kid());
}

#[tokio::test]
async fn kid_unknown() {
    let world = World::start().await;
    for kid in ["", "none", "' OR 1=1 --", "../kek"] {
        let refused = world.identity.kill_signing_key(kid).await;
        assert!(matches!(refused, Err(KeyFault::KidUnknown(named)) if named == kid));
    }
    assert_eq!(world.identity.signing_keys().await.expect("listed").len(), 6);
    assert!(world.claims(&token(&world).await).is_ok());
}

/// The command line opens the store itself when no server runs; the next start takes it from there.
#[tokio::test]
async fn keys_change_without_a_server() {
    let world = World::start().await;
    let (store, sealer, entropy): (Store, _, _) =
        (world.store.clone(), sealer(), SeededEntropy::new(5));
    let keeping = Keeping {
        store: &store,
        sealer: &sealer,
        entropy: &entropy,
        now: NOW.after(2 * DAY),
        life: crate::settings::KEY_LIFE,
    };
    let rotated = rotate(&keeping, Some(KeyUse::Access), Haste::Planned).await.expect("ok");
    let killed = kill(&keeping, &rotated[0].kid).await.expect("killed");
    assert_eq!(list(&keeping).await.expect("listed").len(), 7, "one verifies alone");
    let started = Keyring::load(&store, &sealer, &entropy, keeping.now).await.expect("starts");
    assert_eq!(started.access().kid(), killed.successor);
}

#[tokio::test]
async fn of_many_at_once_one_kills_and_one_promotes() {
    let world = World::start().await;
    let active = kid(&world, KeyUse::Access, KeyState::Active).await;
    let killed = at_once(8, || {
        let (identity, kid) = (world.identity.clone(), active.clone());
        async move { identity.kill_signing_key(&kid).await.is_ok() }
    });
    assert_eq!(killed.iter().filter(|killed| **killed).count(), 1);
    world.clock.advance(DAY);
    let rotated = at_once(8, || {
        let identity = world.identity.clone();
        async move {
            let rotated = identity.rotate_signing_keys(Some(KeyUse::Access), Haste::Planned).await;
            rotated.expect("ok").remove(0).promotion
        }
    });
    let promoted = Promotion::Promoted { known_to_all: true };
    assert_eq!(rotated.iter().filter(|promotion| **promotion == promoted).count(), 1);
    let keys = world.identity.signing_keys().await.expect("listed");
    assert_eq!(keys.len(), 7);
    let signs = kid(&world, KeyUse::Access, KeyState::Active).await;
    assert_eq!(world.identity.keyring().access().kid(), signs, "what is held is what is kept");
}
