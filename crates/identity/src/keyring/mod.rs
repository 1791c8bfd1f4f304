//! The signing keys: read from the store, opened, made when there are none, and swapped at run time
//! when they move on.
//!
//! A key is next (published, so that verifiers learn it in time), then active (it signs), then
//! verify-only, then gone. [`schedule`] says when, [`change`] does it in the store; here are the
//! open keys of a running server. Whoever took a key keeps it for the signature that it is making.

pub mod change;
pub mod schedule;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use portcullis_core::entropy::Entropy;
use portcullis_core::jose::jwk::{Jwk, JwkSet};
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::seal::{Purpose, Sealer};
use portcullis_core::time::Timestamp;
use portcullis_store::database::Store;
use portcullis_store::keys::{KeyRecord, KeyState, KeyUse};

use crate::keys::KeyFault;
use crate::parts::StartFault;
use crate::settings::KEY_LIFE;
use change::Keeping;

/// The open keys of this installation.
pub struct Keyring {
    ring: RwLock<Arc<Ring>>,
    /// Reading and swapping are one step, or an older set could come last.
    swapping: tokio::sync::Mutex<()>,
    swaps: AtomicU64,
    told: AtomicU64,
}

/// One set of them, immutable.
struct Ring {
    access: Arc<SigningKey>,
    identity: Arc<SigningKey>,
    passport: Arc<SigningKey>,
    verifying: Arc<JwkSet>,
    hints: Arc<JwkSet>,
    published: Arc<JwkSet>,
    passports: Arc<JwkSet>,
    /// What it was opened of: (`kid`, state).
    of: Vec<(String, KeyState)>,
}

impl Keyring {
    /// Reads the keys, and makes those that are missing, in one transaction: two nodes that start
    /// at once agree on one set.
    ///
    /// # Errors
    /// [`StartFault`]: a key that does not open is never replaced silently, since every token
    /// signed by it would die.
    pub async fn load(
        store: &Store,
        sealer: &Sealer,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<Self, StartFault> {
        let keeping = Keeping { store, sealer, entropy, now, life: KEY_LIFE };
        let records = change::complete(&keeping).await.map_err(KeyFault::at_start)?;
        let ring = RwLock::new(Arc::new(Ring::open(&records, sealer)?));
        let (swaps, told) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Keyring { ring, swapping: tokio::sync::Mutex::new(()), swaps, told })
    }

    /// Takes the keys as they are in the store now, if they are others than those held.
    ///
    /// # Errors
    /// [`KeyFault`]; the keys held stay.
    pub(crate) async fn refresh(&self, store: &Store, sealer: &Sealer) -> Result<(), KeyFault> {
        let _alone = self.swapping.lock().await;
        let records = change::read(store).await?;
        if self.now().of == of(&records) {
            return Ok(());
        }
        let ring = Arc::new(Ring::open(&records, sealer)?);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        self.swaps.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Whether the keys were swapped since this was asked last.
    pub(crate) fn news(&self) -> bool {
        let swaps = self.swaps.load(Ordering::SeqCst);
        self.told.swap(swaps, Ordering::SeqCst) != swaps
    }

    /// The public keys that access tokens verify under (next, active and verify-only): for the
    /// gateway's snapshot.
    pub fn access_keys(&self) -> Arc<JwkSet> {
        self.now().verifying.clone()
    }

    /// The public keys that our ID tokens verify under, when they come back as hints.
    pub(crate) fn identity_keys(&self) -> Arc<JwkSet> {
        self.now().hints.clone()
    }

    /// The key that signs `Portcullis-Identity`: for the gateway.
    pub fn passport_key(&self) -> Arc<SigningKey> {
        self.now().passport.clone()
    }

    /// The public keys of access and ID tokens (RFC 7517 §5), as `/oauth/jwks` shows them.
    pub fn published(&self) -> Arc<JwkSet> {
        self.now().published.clone()
    }

    /// The public keys of `Portcullis-Identity`, apart: an upstream must not take an access token
    /// for a passport, nor a client a passport for a token (RFC 8725 §3.12).
    pub fn passports(&self) -> Arc<JwkSet> {
        self.now().passports.clone()
    }

    /// Signs access tokens; `token::issue` alone asks for it.
    pub(crate) fn access(&self) -> Arc<SigningKey> {
        self.now().access.clone()
    }

    /// Signs ID tokens, and whatever else a client verifies by the published set.
    pub(crate) fn identity(&self) -> Arc<SigningKey> {
        self.now().identity.clone()
    }

    fn now(&self) -> Arc<Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Ring {
    fn open(records: &[KeyRecord], sealer: &Sealer) -> Result<Self, StartFault> {
        let mut keys = Vec::new();
        for record in records {
            let unopenable = || StartFault::KeyUnopenable(record.kid.clone());
            let der = sealer.open(Purpose::Sign, &record.sealed).map_err(|_| unopenable())?;
            let key = SigningKey::from_pkcs8(record.algorithm, der.expose());
            keys.push((record, Arc::new(key.map_err(|_| unopenable())?)));
        }
        let active = |usage: KeyUse| {
            let kid = &schedule::find(records, usage, KeyState::Active)?.kid;
            keys.iter().find(|(record, _)| &record.kid == kid).map(|(_, key)| key.clone())
        };
        let signing = |usage: KeyUse| active(usage).ok_or(StartFault::KeyUnmakeable);
        let public = |wanted: fn(KeyUse) -> bool| {
            let fitting = keys.iter().filter(|(k, _)| wanted(k.usage));
            Arc::new(JwkSet::new(fitting.map(|(_, key)| key.public()).collect::<Vec<Jwk>>()))
        };
        Ok(Ring {
            access: signing(KeyUse::Access)?,
            identity: signing(KeyUse::Identity)?,
            passport: signing(KeyUse::Passport)?,
            // RFC 8725 §3.12: keys of one use verify nothing of another.
            verifying: public(|usage| usage == KeyUse::Access),
            hints: public(|usage| usage == KeyUse::Identity),
            published: public(|usage| usage != KeyUse::Passport),
            passports: public(|usage| usage == KeyUse::Passport),
            of: of(records),
        })
    }
}

fn of(records: &[KeyRecord]) -> Vec<(String, KeyState)> {
    records.iter().map(|key| (key.kid.clone(), key.state)).collect()
}

#[cfg(test)]
mod tests;
