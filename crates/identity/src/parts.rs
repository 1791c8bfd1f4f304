//! What the authorization server is put together from, and what all of its steps share.
//!
//! The binary makes the [`Parts`] once, at start; nothing here reads a file, a clock or the
//! environment by itself.

use std::sync::{Arc, PoisonError, RwLock};

use portcullis_core::entropy::Entropy;
use portcullis_core::fetch::Fetch;
use portcullis_core::foreign::ForeignKeys;
use portcullis_core::jose::dpop::ProofDesk;
use portcullis_core::limit::Counters;
use portcullis_core::revocation::Revoked;
use portcullis_core::seal::Sealer;
use portcullis_core::secret::Secret;
use portcullis_core::time::{Clock, Timestamp};
use portcullis_store::database::{Store, StoreFault};

use crate::documents::Documents;
use crate::keyring::Keyring;
use crate::login::argon::PasswordPool;
use crate::settings::Settings;

/// The arguments of [`crate::server::Identity::start`].
pub struct Parts {
    /// What is remembered.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Counters, the very ones of the gateway (`5-limits` point 6).
    pub counters: Arc<dyn Counters>,
    /// Key-encryption keys in order of preference: (key id, key).
    pub ring: Vec<(u32, Secret<[u8; 32]>)>,
    /// What the config says.
    pub settings: Settings,
    /// The one guarded fetcher.
    pub fetch: Arc<dyn Fetch>,
    /// The keys of other issuers.
    pub foreign: Arc<dyn ForeignKeys>,
    /// Where DPoP proofs are judged, the very one of the gateway.
    pub proofs: Arc<ProofDesk>,
    /// The revocations in force, the very ones that the store publishes to and the gateway probes.
    pub revoked: Arc<Revoked>,
}

/// Why the authorization server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// A signing key at rest does not open: another key-encryption key, or another issuer.
    #[error("the signing key `{0}` does not open with the key-encryption key; restore that file")]
    KeyUnopenable(String),
    /// The crypto provider made no key.
    #[error("no signing key could be made")]
    KeyUnmakeable,
    /// The password pool did not start.
    #[error("no thread for password hashing: {0}")]
    Threads(std::io::Error),
    /// There is no key to seal with.
    #[error("no key-encryption key was given")]
    RingEmpty,
}

/// What all steps share; cheap to hand to a transaction's closure.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) counters: Arc<dyn Counters>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) keyring: Keyring,
    pub(crate) passwords: PasswordPool,
    pub(crate) fetch: Arc<dyn Fetch>,
    pub(crate) documents: Documents,
    pub(crate) foreign: Arc<dyn ForeignKeys>,
    pub(crate) proofs: Arc<ProofDesk>,
    pub(crate) revoked: Arc<Revoked>,
    /// Swapped on reload; a request under way keeps those that it began with.
    pub(crate) settings: Arc<RwLock<Arc<Settings>>>,
    /// Held by whoever changes the store's clients and the settings together.
    pub(crate) registering: tokio::sync::Mutex<()>,
}

impl Shared {
    /// Opens the keys and starts the pool.
    pub(crate) async fn assemble(parts: Parts) -> Result<Shared, StartFault> {
        if parts.ring.is_empty() {
            return Err(StartFault::RingEmpty);
        }
        let Parts { store, clock, entropy, counters, ring, settings, fetch, foreign, .. } = parts;
        let Parts { proofs, revoked, .. } = parts;
        let sealer = Arc::new(Sealer::new(ring, &settings.issuer_text));
        let keyring = Keyring::load(&store, &sealer, &*entropy, clock.now()).await?;
        let passwords = PasswordPool::start().map_err(StartFault::Threads)?;
        let settings = Arc::new(RwLock::new(Arc::new(settings)));
        Ok(Shared {
            store,
            clock,
            entropy,
            counters,
            sealer,
            keyring,
            passwords,
            documents: Documents::default(),
            fetch,
            foreign,
            proofs,
            revoked,
            settings,
            registering: tokio::sync::Mutex::new(()),
        })
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The settings in force at this moment.
    pub(crate) fn in_force(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
