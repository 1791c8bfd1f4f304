//! What is in the store before the server starts: people with a password and a second factor, the
//! keys of services, and the installation's own signing keys, so that tests can sign what no honest
//! server would.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_core::entropy::{Entropy, ProviderEntropy};
use portcullis_core::jose::claims::Attribute;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::otp::{Step, TotpSecret, step_at};
use portcullis_core::revocation::Revoked;
use portcullis_core::seal::{Purpose, Sealer};
use portcullis_core::secret::Secret;
use portcullis_core::time::{Clock, Timestamp};
use portcullis_identity::account::{self, Making, NewUser, SecondFactorWish};
use portcullis_identity::keyring::Keyring;
use portcullis_store::database::{Store, StoreFault};
use portcullis_store::keys::KeyUse;

use super::wait_for;

/// The wall clock: the server under test reads it too.
pub(crate) struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
        Timestamp::from_unix(0).after(since)
    }
}

/// A person.
pub(crate) struct Person {
    pub(crate) login: String,
    pub(crate) id: String,
    pub(crate) account: String,
    pub(crate) password: String,
    pub(crate) totp: TotpSecret,
    used: AtomicU64,
}

impl Person {
    /// A code that was not used yet. The second one within a step is the next step's, which is
    /// accepted already; the third waits.
    pub(crate) fn code(&self) -> String {
        let step = wait_for("a fresh one-time password", || {
            let Step(now) = step_at(Wall.now());
            let next = now.max(self.used.load(Ordering::Relaxed) + 1);
            (next <= now + 1).then_some(next)
        });
        self.used.store(step, Ordering::Relaxed);
        self.totp.code(Step(step))
    }
}

/// The installation's signing keys.
pub(crate) struct Keys {
    pub(crate) access: SigningKey,
    pub(crate) identity: SigningKey,
    pub(crate) passport: SigningKey,
}

/// Everything that a seeded folder holds.
pub(crate) struct Seeds {
    pub(crate) people: Vec<Person>,
    pub(crate) keys: Keys,
}

/// Writes the store, the key-encryption key and the services' keys into a folder.
pub(crate) fn sow(folder: &Path, issuer: &str, people: usize) -> Seeds {
    super::story::cast::dress(folder);
    let data = folder.join("data");
    std::fs::DirBuilder::new().mode(0o700).create(&data).expect("a data directory");
    let entropy = ProviderEntropy::default();
    let mut kek = [0; 32];
    entropy.fill(&mut kek);
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(data.join("kek")).expect("a file");
    std::io::Write::write_all(&mut file, &kek).expect("written");
    let sealer = Sealer::new(vec![(1, Secret::new(kek))], issuer);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = Store::open(&data.join("portcullis.db"), Arc::new(Revoked::new()), Arc::new(Wall))
        .expect("a store");
    let seeds = runtime.block_on(async {
        Seeds {
            keys: keys(&store, &sealer, &entropy).await,
            people: add_people(&store, &sealer, &entropy, people).await,
        }
    });
    store.close();
    seeds
}

async fn keys(store: &Store, sealer: &Sealer, entropy: &dyn Entropy) -> Keys {
    Keyring::load(store, sealer, entropy, Wall.now()).await.expect("keys");
    let records: Result<_, StoreFault> = store.read(async |tx| tx.keys().await).await;
    let records = records.expect("keys");
    let open = |usage: KeyUse| {
        let record =
            records.iter().find(|record| record.usage == usage).expect("a key of each use");
        let der = sealer.open(Purpose::Sign, &record.sealed).expect("sealed by us");
        SigningKey::from_pkcs8(record.algorithm, der.expose()).expect("a key")
    };
    Keys {
        access: open(KeyUse::Access),
        identity: open(KeyUse::Identity),
        passport: open(KeyUse::Passport),
    }
}

async fn add_people(
    store: &Store,
    sealer: &Sealer,
    entropy: &dyn Entropy,
    count: usize,
) -> Vec<Person> {
    let mut people = Vec::new();
    for number in 0..count {
        let account = format!("acc-{number}");
        let new = NewUser {
            login: format!("p{number}"),
            attributes: [("account".to_owned(), Attribute::String(account.clone()))].into(),
            second_factor: SecondFactorWish::HandedOut,
            ..NewUser::default()
        };
        let making = Making { store, sealer, entropy, now: Wall.now() };
        let added = account::add_user(&making, new).await.expect("a user");
        people.push(Person {
            login: added.user.login,
            id: added.user.id.as_str().to_owned(),
            account,
            password: added.password.expose().clone(),
            totp: added.totp.expect("handed out"),
            used: AtomicU64::new(0),
        });
    }
    people
}
