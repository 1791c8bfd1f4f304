//! Changes of the keys at rest, each in one transaction: missing ones made, due ones promoted, old
//! ones dropped. Whoever runs them at once, on two nodes or by hand, agrees on one set.
//!
//! Deliberately not here: when something is due ([`super::schedule`]), and the open keys of a
//! running server, which are swapped afterwards.

use std::time::Duration;

use portcullis_core::entropy::Entropy;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::revocation::RevocationKind;
use portcullis_core::seal::{Purpose, Sealer};
use portcullis_core::time::Timestamp;
use portcullis_store::database::{Store, StoreFault, Tx};
use portcullis_store::keys::{KeyRecord, KeyState, KeyUse};
use portcullis_store::revocations::LONGEST_TOKEN;

use super::schedule::{due_at, find, gone_at, ready_at};
use crate::keys::{Haste, KeyFault, Killed, Promotion, Rotated};
use crate::parts::StartFault;

/// What each use signs with: `8-performance` for access tokens, ES256 for what others' libraries
/// read.
pub(crate) const USES: [(KeyUse, Algorithm); 3] = [
    (KeyUse::Access, Algorithm::EdDsa),
    (KeyUse::Identity, Algorithm::Es256),
    (KeyUse::Passport, Algorithm::Es256),
];

/// New keys of a use that one change may need: an active and a next one.
const SPARES: usize = 2;

/// What changing keys needs from outside.
pub struct Keeping<'k> {
    /// Where they are.
    pub store: &'k Store,
    /// Wraps their private parts.
    pub sealer: &'k Sealer,
    /// Randomness for the wrapping.
    pub entropy: &'k dyn Entropy,
    /// The time.
    pub now: Timestamp,
    /// How long a key signs.
    pub life: Duration,
}

/// Makes what a use lacks: a key that signs and one that is published for later. Reads alone when
/// nothing is missing.
pub(crate) async fn complete(keeping: &Keeping<'_>) -> Result<Vec<KeyRecord>, KeyFault> {
    let keys = read(keeping.store).await?;
    if USES.iter().all(|(usage, _)| is_complete(&keys, *usage)) {
        return Ok(keys);
    }
    change(keeping, async |bench: &mut Bench<'_>| bench.complete().await).await?;
    read(keeping.store).await
}

/// Does what is due: missing keys made, old ones dropped, and the next one promoted where the
/// active one has signed for its life. Reads alone when nothing is.
pub(crate) async fn tend(keeping: &Keeping<'_>) -> Result<Vec<KeyRecord>, KeyFault> {
    let (now, life) = (keeping.now, keeping.life);
    let keys = read(keeping.store).await?;
    if !USES.iter().any(|(usage, _)| is_due(&keys, *usage, now, life)) {
        return Ok(keys);
    }
    let work = async move |bench: &mut Bench<'_>| -> Result<(), StoreFault> {
        bench.complete().await?;
        for (usage, _) in USES {
            if due_at(&bench.keys, usage, life).is_some_and(|due| due <= now) {
                bench.promote(usage).await?;
            }
        }
        bench.sweep().await
    };
    change(keeping, work).await?;
    read(keeping.store).await
}

/// Promotes the next key of each use asked for, where verifiers have had a day to learn of it, or
/// without waiting.
pub(crate) async fn rotate(
    keeping: &Keeping<'_>,
    uses: Vec<KeyUse>,
    haste: Haste,
) -> Result<Vec<Rotated>, KeyFault> {
    let now = keeping.now;
    let work = async move |bench: &mut Bench<'_>| -> Result<Vec<Rotated>, StoreFault> {
        bench.complete().await?;
        let mut rotated = Vec::new();
        for usage in uses {
            let next = find(&bench.keys, usage, KeyState::Next);
            let next = next.ok_or(StoreFault::Missing("the next signing key"))?;
            let (kid, ready) = (next.kid.clone(), ready_at(next));
            let promotion = match haste {
                Haste::Planned if ready > now => Promotion::Waits { ready },
                Haste::Planned | Haste::Now => {
                    bench.promote(usage).await?;
                    Promotion::Promoted { known_to_all: ready <= now }
                }
            };
            rotated.push(Rotated { usage, kid, promotion });
        }
        bench.sweep().await?;
        Ok(rotated)
    };
    change(keeping, work).await
}

/// Kills a key: its revocation, its removal and its successor's promotion are one transaction.
pub(crate) async fn kill(keeping: &Keeping<'_>, kid: &str) -> Result<Killed, KeyFault> {
    let (now, kid) = (keeping.now, kid.to_owned());
    let named = kid.clone();
    let work = async move |bench: &mut Bench<'_>| -> Result<Option<Killed>, StoreFault> {
        let Some(found) = bench.keys.iter().find(|key| key.kid == kid) else { return Ok(None) };
        let (usage, was) = (found.usage, found.state);
        // In force at the gateway before the transaction returns. Whoever stole a key forges `rev`
        // too, so the entry alone is not enough: the key leaves every set in this change as well.
        bench.tx.revoke(RevocationKind::Key, &kid, now.after(LONGEST_TOKEN)).await?;
        bench.tx.drop_key(&kid).await?;
        bench.keys = bench.tx.keys().await?;
        if was == KeyState::Active && find(&bench.keys, usage, KeyState::Active).is_none() {
            bench.succeed(usage).await?;
        }
        bench.complete().await?;
        let successor = find(&bench.keys, usage, KeyState::Active).map(|key| key.kid.clone());
        Ok(Some(Killed { kid, usage, was, successor: successor.unwrap_or_default() }))
    };
    change(keeping, work).await?.ok_or(KeyFault::KidUnknown(named))
}

/// All keys that are not gone.
pub(crate) async fn read(store: &Store) -> Result<Vec<KeyRecord>, KeyFault> {
    let keys: Result<Vec<KeyRecord>, StoreFault> = store.read(async |tx| tx.keys().await).await;
    Ok(keys?)
}

fn is_complete(keys: &[KeyRecord], usage: KeyUse) -> bool {
    let has = |state| find(keys, usage, state).is_some();
    has(KeyState::Active) && has(KeyState::Next)
}

fn is_due(keys: &[KeyRecord], usage: KeyUse, now: Timestamp, life: Duration) -> bool {
    let due = |moment: Option<Timestamp>| moment.is_some_and(|moment| moment <= now);
    !is_complete(keys, usage)
        || due(due_at(keys, usage, life))
        || keys.iter().any(|key| key.usage == usage && due(gone_at(keys, key)))
}

/// One transaction over the keys, with new ones at hand: they are made before it, since nothing in
/// a transaction may wait for the crypto provider.
async fn change<T: Send + 'static>(
    keeping: &Keeping<'_>,
    work: impl AsyncFnOnce(&mut Bench<'_>) -> Result<T, StoreFault> + Send + 'static,
) -> Result<T, KeyFault> {
    let (spares, now) = (spares(keeping)?, keeping.now);
    let run = async move |tx: &Tx| -> Result<T, StoreFault> {
        let keys = tx.keys().await?;
        work(&mut Bench { tx, keys, spares, now }).await
    };
    Ok(keeping.store.transact(run).await?)
}

fn spares(keeping: &Keeping<'_>) -> Result<Vec<KeyRecord>, StartFault> {
    let mut spares = Vec::new();
    for (usage, algorithm) in USES.into_iter().flat_map(|of| [of; SPARES]) {
        let key = SigningKey::generate(algorithm).map_err(|_| StartFault::KeyUnmakeable)?;
        let der = key.to_pkcs8();
        let sealed = keeping.sealer.seal(Purpose::Sign, der.expose(), keeping.entropy);
        let (kid, state) = (key.kid().to_owned(), KeyState::Next);
        spares.push(KeyRecord { kid, usage, algorithm, state, sealed, made: keeping.now });
    }
    Ok(spares)
}

/// The keys inside a transaction, as they stand after each move.
struct Bench<'t> {
    tx: &'t Tx,
    keys: Vec<KeyRecord>,
    spares: Vec<KeyRecord>,
    now: Timestamp,
}

impl Bench<'_> {
    /// INVARIANT: each use has a key that signs and one that is published for later, so that even a
    /// kill promotes a key that verifiers know.
    async fn complete(&mut self) -> Result<(), StoreFault> {
        for (usage, _) in USES {
            for state in [KeyState::Active, KeyState::Next] {
                if find(&self.keys, usage, state).is_none() {
                    self.make(usage, state).await?;
                }
            }
        }
        Ok(())
    }

    async fn make(&mut self, usage: KeyUse, state: KeyState) -> Result<(), StoreFault> {
        let spare = self.spares.iter().position(|key| key.usage == usage);
        let spare = spare.ok_or(StoreFault::Missing("a new signing key"))?;
        let key = KeyRecord { state, ..self.spares.swap_remove(spare) };
        self.tx.add_key(&key).await?;
        self.keys.push(key);
        Ok(())
    }

    /// The active key verifies alone from now on, the next one signs, and another is published.
    async fn promote(&mut self, usage: KeyUse) -> Result<(), StoreFault> {
        for key in self.keys.iter_mut().filter(|key| key.usage == usage) {
            if key.state == KeyState::Active {
                self.tx.move_key(&key.kid, KeyState::VerifyOnly).await?;
                key.state = KeyState::VerifyOnly;
            }
        }
        self.succeed(usage).await?;
        self.make(usage, KeyState::Next).await
    }

    /// The next key signs; none there, nothing happens.
    async fn succeed(&mut self, usage: KeyUse) -> Result<(), StoreFault> {
        let next = find(&self.keys, usage, KeyState::Next).map(|key| key.kid.clone());
        let Some(kid) = next else { return Ok(()) };
        self.tx.move_key(&kid, KeyState::Active).await?;
        for key in self.keys.iter_mut().filter(|key| key.kid == kid) {
            key.state = KeyState::Active;
        }
        Ok(())
    }

    /// Drops what nobody can need any more.
    async fn sweep(&mut self) -> Result<(), StoreFault> {
        let over = |key: &&KeyRecord| gone_at(&self.keys, key).is_some_and(|at| at <= self.now);
        let gone: Vec<String> = self.keys.iter().filter(over).map(|key| key.kid.clone()).collect();
        for kid in &gone {
            self.tx.drop_key(kid).await?;
        }
        self.keys.retain(|key| !gone.contains(&key.kid));
        Ok(())
    }
}
