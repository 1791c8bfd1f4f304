//! The signing keys: read from the store, opened, and made when there are none.
//!
//! Rotation (next → active → verify-only → gone) is not here yet: keys at rest already carry their
//! state, and all of them are published.

use std::sync::Arc;

use portcullis_core::entropy::Entropy;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::jwk::{Jwk, JwkSet};
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::seal::{Purpose, Sealer};
use portcullis_core::time::Timestamp;
use portcullis_store::database::{Store, StoreFault};
use portcullis_store::keys::{KeyRecord, KeyState, KeyUse};

use crate::parts::StartFault;

/// What each use signs with: `8-performance` for access tokens, ES256 for what others' libraries
/// read.
const USES: [(KeyUse, Algorithm); 3] = [
    (KeyUse::Access, Algorithm::EdDsa),
    (KeyUse::Identity, Algorithm::Es256),
    (KeyUse::Passport, Algorithm::Es256),
];

/// The open keys of this installation.
pub struct Keyring {
    access: Arc<SigningKey>,
    identity: Arc<SigningKey>,
    passport: Arc<SigningKey>,
    verifying: Arc<JwkSet>,
    published: JwkSet,
    passports: JwkSet,
}

impl Keyring {
    /// Reads the keys, and makes those that are missing, in one transaction: two nodes that start
    /// at once agree on one key.
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
        let mut spare = Vec::new();
        for (usage, algorithm) in USES {
            let key = SigningKey::generate(algorithm).map_err(|_| StartFault::KeyUnmakeable)?;
            let sealed = sealer.seal(Purpose::Sign, key.to_pkcs8().expose(), entropy);
            let kid = key.kid().to_owned();
            let state = KeyState::Active;
            spare.push(KeyRecord { kid, usage, algorithm, state, sealed, made: now });
        }
        let records = store
            .transact(async move |tx| -> Result<Vec<KeyRecord>, StoreFault> {
                let mut found = tx.keys().await?;
                for key in spare {
                    if !found.iter().any(|k| k.usage == key.usage && k.state == KeyState::Active) {
                        tx.add_key(&key).await?;
                        found.push(key);
                    }
                }
                Ok(found)
            })
            .await?;
        Self::open(&records, sealer)
    }

    fn open(records: &[KeyRecord], sealer: &Sealer) -> Result<Self, StartFault> {
        let mut keys = Vec::new();
        for record in records {
            let unopenable = || StartFault::KeyUnopenable(record.kid.clone());
            let der = sealer.open(Purpose::Sign, &record.sealed).map_err(|_| unopenable())?;
            let key = SigningKey::from_pkcs8(record.algorithm, der.expose());
            keys.push((record, Arc::new(key.map_err(|_| unopenable())?)));
        }
        let active = |usage: KeyUse| {
            let mut fitting =
                keys.iter().filter(|(k, _)| k.usage == usage && k.state == KeyState::Active);
            fitting.next().map(|(_, key)| key.clone()).ok_or(StartFault::KeyUnmakeable)
        };
        let public = |wanted: fn(KeyUse) -> bool| -> Vec<Jwk> {
            keys.iter().filter(|(k, _)| wanted(k.usage)).map(|(_, key)| key.public()).collect()
        };
        Ok(Keyring {
            access: active(KeyUse::Access)?,
            identity: active(KeyUse::Identity)?,
            passport: active(KeyUse::Passport)?,
            // RFC 8725 §3.12: keys of one use verify nothing of another.
            verifying: Arc::new(JwkSet::new(public(|usage| usage == KeyUse::Access))),
            published: JwkSet::new(public(|usage| usage != KeyUse::Passport)),
            passports: JwkSet::new(public(|usage| usage == KeyUse::Passport)),
        })
    }

    /// The public keys that access tokens verify under: for the gateway's snapshot.
    pub fn access_keys(&self) -> Arc<JwkSet> {
        self.verifying.clone()
    }

    /// The key that signs `Portcullis-Identity`: for the gateway.
    pub fn passport_key(&self) -> Arc<SigningKey> {
        self.passport.clone()
    }

    /// The public keys of access and ID tokens (RFC 7517 §5), as `/oauth/jwks` shows them.
    pub fn published(&self) -> &JwkSet {
        &self.published
    }

    /// The public keys of `Portcullis-Identity`, apart: an upstream must not take an access token
    /// for a passport, nor a client a passport for a token (RFC 8725 §3.12).
    pub fn passports(&self) -> &JwkSet {
        &self.passports
    }

    /// Signs access tokens; `token::issue` alone asks for it.
    pub(crate) fn access(&self) -> &SigningKey {
        &self.access
    }

    /// Signs ID tokens.
    pub(crate) fn identity(&self) -> &SigningKey {
        &self.identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{KEY, store};
    use portcullis_core::entropy::SeededEntropy;
    use portcullis_core::secret::Secret;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(vec![(1, Secret::new([byte; 32]))], "https://login.example")
    }

    async fn load(store: &Store, byte: u8) -> Result<Keyring, StartFault> {
        Keyring::load(store, &sealer(byte), &SeededEntropy::new(1), NOW).await
    }

    #[tokio::test]
    async fn keys_are_made_once_and_found_again() {
        let store = store();
        let first = load(&store, KEY).await.expect("made");
        let again = load(&store, KEY).await.expect("found");
        assert_eq!(first.access().kid(), again.access().kid());
        assert_eq!(first.published().iter().count(), 2);
        assert_eq!(first.passports().iter().count(), 1);
        assert_eq!(first.access().algorithm(), Algorithm::EdDsa);
        assert_eq!(first.identity().algorithm(), Algorithm::Es256);
    }

    #[tokio::test]
    async fn only_access_keys_verify_access_tokens() {
        let keyring = load(&store(), KEY).await.expect("made");
        let kids: Vec<_> =
            keyring.access_keys().iter().map(|k| k.kid().map(str::to_owned)).collect();
        assert_eq!(kids, [Some(keyring.access().kid().to_owned())]);
    }

    #[tokio::test]
    async fn key_unopenable() {
        let store = store();
        load(&store, KEY).await.expect("made");
        let refused = load(&store, KEY + 1).await;
        assert!(matches!(refused, Err(StartFault::KeyUnopenable(_))));
    }
}
