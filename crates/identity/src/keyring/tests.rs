//! The life of the keys: made once, promoted in time, never missed by a verifier.

use super::*;
use crate::testing::{ISSUER, KEY, NOW, PAYMENTS, sealer, store};
use change::Keeping;
use portcullis_core::entropy::SeededEntropy;
use portcullis_core::id::{self, Id};
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::{jws, verify};
use portcullis_core::secret::Secret;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn other_sealer() -> Sealer {
    Sealer::new(vec![(1, Secret::new([KEY + 1; 32]))], ISSUER)
}

async fn load(store: &Store, sealer: &Sealer) -> Result<Keyring, StartFault> {
    Keyring::load(store, sealer, &SeededEntropy::new(1), NOW).await
}

async fn tend(store: &Store, keyring: &Keyring, now: Timestamp) {
    tend_for(store, keyring, now, KEY_LIFE).await;
}

async fn tend_for(store: &Store, keyring: &Keyring, now: Timestamp, life: Duration) {
    let (sealer, entropy) = (sealer(), SeededEntropy::new(2));
    let keeping = Keeping { store, sealer: &sealer, entropy: &entropy, now, life };
    change::tend(&keeping).await.expect("tended");
    keyring.refresh(store, &sealer).await.expect("refreshed");
}

#[tokio::test]
async fn keys_are_made_once_and_found_again() {
    let store = store();
    let first = load(&store, &sealer()).await.expect("made");
    let commits = store.commits();
    let again = load(&store, &sealer()).await.expect("found");
    assert_eq!(store.commits(), commits, "a start that finds its keys writes nothing");
    assert_eq!(first.access().kid(), again.access().kid());
    assert_eq!(first.published().iter().count(), 4, "two uses, an active and a next key each");
    assert_eq!(first.passports().iter().count(), 2);
    assert_eq!(first.access().algorithm(), Algorithm::EdDsa);
    assert_eq!(first.identity().algorithm(), Algorithm::Es256);
}

#[tokio::test]
async fn two_nodes_that_start_at_once_agree_on_one_set() {
    let store = store();
    let (one, other) = (sealer(), sealer());
    let both = tokio::join!(load(&store, &one), load(&store, &other));
    let (one, other) = (both.0.expect("one"), both.1.expect("other"));
    assert_eq!(one.access().kid(), other.access().kid());
    // The set of whoever read first may be older; a round later they are the same.
    for keyring in [&one, &other] {
        keyring.refresh(&store, &sealer()).await.expect("refreshed");
    }
    assert_eq!(one.now().of, other.now().of);
    assert_eq!(one.now().of.len(), 6);
}

#[tokio::test]
async fn only_access_keys_verify_access_tokens() {
    let keyring = load(&store(), &sealer()).await.expect("made");
    let keys = keyring.access_keys();
    assert_eq!(keys.iter().count(), 2);
    assert!(keys.find(Some(keyring.access().kid()), Algorithm::EdDsa).is_some());
    for other in [keyring.identity(), keyring.passport_key()] {
        assert!(keys.find(Some(other.kid()), Algorithm::Es256).is_none());
    }
}

#[tokio::test]
async fn key_unopenable() {
    let store = store();
    let keyring = load(&store, &sealer()).await.expect("made");
    let refused = load(&store, &other_sealer()).await;
    assert!(matches!(refused, Err(StartFault::KeyUnopenable(_))));
    tend(&store, &keyring, NOW.after(KEY_LIFE)).await;
    let held = keyring.access().kid().to_owned();
    tend(&store, &keyring, NOW.after(2 * KEY_LIFE)).await;
    let changed = keyring.access().kid().to_owned();
    assert_ne!(held, changed);
    // A running server keeps what it holds when it cannot read what came.
    let (sealer, entropy) = (other_sealer(), SeededEntropy::new(3));
    let now = NOW.after(3 * KEY_LIFE);
    let keeping =
        Keeping { store: &store, sealer: &sealer, entropy: &entropy, now, life: KEY_LIFE };
    change::tend(&keeping).await.expect("tended");
    assert!(keyring.refresh(&store, &crate::testing::sealer()).await.is_err());
    assert_eq!(keyring.access().kid(), changed);
}

#[tokio::test]
async fn nothing_is_written_while_nothing_is_due() {
    let store = store();
    let keyring = load(&store, &sealer()).await.expect("made");
    let commits = store.commits();
    for days in [0, 1, 2, 45, 89] {
        tend(&store, &keyring, NOW.after(days * DAY)).await;
    }
    assert_eq!(store.commits(), commits);
    assert!(!keyring.news());
    tend(&store, &keyring, NOW.after(KEY_LIFE)).await;
    assert!(store.commits() > commits);
    assert!(keyring.news() && !keyring.news(), "told once");
}

#[tokio::test]
async fn a_key_goes_through_its_four_states() {
    let store = store();
    let keyring = load(&store, &sealer()).await.expect("made");
    let state = async |kid: &str| {
        let keys = change::read(&store).await.expect("read");
        keys.into_iter().find(|key| key.kid == kid).map(|key| key.state)
    };
    let keys = change::read(&store).await.expect("read");
    let next = schedule::find(&keys, KeyUse::Access, KeyState::Next).expect("next").kid.clone();
    tend(&store, &keyring, NOW.after(KEY_LIFE - HOUR)).await;
    assert_eq!(state(&next).await, Some(KeyState::Next));
    tend(&store, &keyring, NOW.after(KEY_LIFE)).await;
    assert_eq!(state(&next).await, Some(KeyState::Active));
    tend(&store, &keyring, NOW.after(2 * KEY_LIFE)).await;
    assert_eq!(state(&next).await, Some(KeyState::VerifyOnly));
    let stops = NOW.after(2 * KEY_LIFE).after(schedule::VERIFY_FOR);
    tend(&store, &keyring, stops.before(Duration::from_nanos(1))).await;
    assert_eq!(state(&next).await, Some(KeyState::VerifyOnly), "longer than any token lives");
    tend(&store, &keyring, stops).await;
    assert_eq!(state(&next).await, None, "gone");
    assert_eq!(change::read(&store).await.expect("read").len(), 6, "nothing piles up");
}

/// What an installation of before has: active keys alone.
#[tokio::test]
async fn an_installation_without_next_keys_gets_them() {
    let store = store();
    load(&store, &sealer()).await.expect("made");
    let dropped =
        store.transact(async |tx| -> Result<(), portcullis_store::database::StoreFault> {
            for key in tx.keys().await? {
                if key.state == KeyState::Next {
                    tx.drop_key(&key.kid).await?;
                }
            }
            Ok(())
        });
    dropped.await.expect("dropped");
    let keyring = load(&store, &sealer()).await.expect("completed");
    let signs = keyring.access().kid().to_owned();
    assert_eq!(keyring.now().of.len(), 6);
    tend(&store, &keyring, NOW.after(HOUR)).await;
    assert_eq!(keyring.access().kid(), signs, "not before the new one is known");
}

/// A verifier that keeps a set for a day, as many do, and fetches for no `kid`.
struct Verifier {
    tokens: Arc<JwkSet>,
    passports: Arc<JwkSet>,
    fetched: Timestamp,
}

impl Verifier {
    fn at(keyring: &Keyring, fetched: Timestamp) -> Self {
        Verifier { tokens: keyring.published(), passports: keyring.passports(), fetched }
    }
}

/// What was signed at one moment, for as long as it may live.
struct Minted {
    access: String,
    id: String,
    passport: String,
}

fn mint(keyring: &Keyring, now: Timestamp) -> Minted {
    let jti = Id::<id::Token>::mint(&SeededEntropy::new(now.unix().unsigned_abs()));
    let access = serde_json::json!({
        "iss": ISSUER, "sub": "u_ada", "aud": PAYMENTS, "client_id": "app", "scope": "", "rev": 0,
        "kind": "user", "jti": jti, "iat": now.unix(), "exp": now.unix() + 86_400,
    });
    Minted {
        access: keyring.access().sign("at+jwt", &access),
        id: keyring.identity().sign("JWT", &access),
        passport: keyring.passport_key().sign("JWT", &access),
    }
}

fn holds(keys: &JwkSet, token: &str) -> bool {
    let parsed = jws::parse(token).expect("a token");
    let key = keys.find(parsed.kid.as_deref(), parsed.algorithm);
    key.is_some_and(|key| key.verify(parsed.signed, &parsed.signature))
}

/// Months of a server that is restarted now and then, and of four verifiers that fetch once a day, at
/// different hours. Returns how many keys signed access tokens.
async fn rotated(life: Duration, days: u32) -> usize {
    let store = store();
    let mut keyring = load(&store, &sealer()).await.expect("made");
    let step = 6 * HOUR;
    let phases = [0, 1, 2, 3].map(|n| NOW.before(n * step));
    let mut verifiers = phases.map(|fetched| Verifier::at(&keyring, fetched));
    let (mut alive, mut signed) = (VecDeque::new(), BTreeSet::new());
    for round in 0..(4 * days) {
        let now = NOW.after(round * step);
        tend_for(&store, &keyring, now, life).await;
        if round % 29 == 28 {
            keyring = load(&store, &sealer()).await.expect("restarted");
        }
        for verifier in &mut verifiers {
            if now.since(verifier.fetched) >= DAY {
                *verifier = Verifier::at(&keyring, now);
            }
        }
        signed.insert(keyring.access().kid().to_owned());
        alive.push_back(mint(&keyring, now));
        if alive.len() > 4 {
            alive.pop_front();
        }
        let own = keyring.access_keys();
        for Minted { access, id, passport } in &alive {
            assert!(verify::access_token(access, &own, ISSUER, Some(PAYMENTS), now).is_ok());
            for Verifier { tokens, passports, .. } in &verifiers {
                assert!(holds(tokens, access) && holds(tokens, id), "round {round}");
                assert!(holds(passports, passport), "round {round}");
            }
        }
    }
    signed.len()
}

#[tokio::test]
async fn rotation_without_a_single_failed_verification() {
    assert_eq!(rotated(KEY_LIFE, 300).await, 4, "three rotations in three hundred days");
}

/// However short a life the file says: each key is published for a day before it signs.
#[tokio::test]
async fn rotation_every_day_without_a_single_failed_verification() {
    assert_eq!(rotated(HOUR, 40).await, 40);
}
