//! What the tests of this crate stand on: a store, its clock and its revocations, and records that
//! differ in what a test names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::bearer::Plain;
use portcullis_core::entropy::SeededEntropy;
use portcullis_core::id::{Id, Kind};
use portcullis_core::jose::claims::FactorTimes;
use portcullis_core::revocation::{Marks, RevocationKind, Revoked};
use portcullis_core::scope::Scopes;
use portcullis_core::time::{Clock, FrozenClock, Timestamp};

use crate::database::{Store, StoreFault, Tx};
use crate::grants::{Family, GrantLife, GrantRecord};
use crate::sessions::SessionRecord;
use crate::users::UserRecord;

/// When every test begins.
pub(crate) const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

/// A store with all that it was given.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<FrozenClock>,
    pub(crate) revoked: Arc<Revoked>,
}

/// A world in memory.
pub(crate) fn memory() -> World {
    let (clock, revoked) = (Arc::new(FrozenClock::at(NOW)), Arc::new(Revoked::new()));
    let store = Store::in_memory(revoked.clone(), clock.clone()).expect("a store in memory");
    World { store, clock, revoked }
}

/// A world on disk.
pub(crate) fn on_disk(path: &std::path::Path) -> Result<World, StoreFault> {
    let (clock, revoked) = (Arc::new(FrozenClock::at(NOW)), Arc::new(Revoked::new()));
    let store = Store::open(path, revoked.clone(), clock.clone())?;
    Ok(World { store, clock, revoked })
}

impl World {
    /// A transaction that must succeed.
    pub(crate) async fn transact<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(&Tx) -> Result<T, StoreFault> + Send + 'static,
    ) -> T {
        self.store.transact(work).await.expect("a transaction")
    }

    /// Whether a token of the first revision, with this one mark, is dead.
    pub(crate) fn kills(&self, kind: RevocationKind, value: &str) -> bool {
        self.kills_at(0, kind, value)
    }

    /// Whether a token of a revision, with this one mark, is dead.
    pub(crate) fn kills_at(&self, rev: u64, kind: RevocationKind, value: &str) -> bool {
        self.revoked.kills(&Marks::collect(rev, &[(kind, value)]))
    }

    pub(crate) fn advance(&self, seconds: u64) -> Timestamp {
        self.clock.advance(Duration::from_secs(seconds));
        self.clock.now()
    }
}

/// An id that a test can read.
pub(crate) fn id<K: Kind>(name: &str) -> Id<K> {
    Id::parse(&format!("{}{name}", K::PREFIX)).expect("a test's id")
}

pub(crate) fn scopes(text: &str) -> Scopes {
    Scopes::parse(text).expect("a test's scopes")
}

pub(crate) fn later(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

pub(crate) fn user(name: &str) -> UserRecord {
    UserRecord {
        id: id(name),
        login: name.to_owned(),
        name: name.to_owned(),
        mail: Some(format!("{name}@example.com")),
        roles: vec!["clerk".into()],
        groups: Vec::new(),
        tenant: None,
        attributes: BTreeMap::new(),
        disabled: None,
        made: NOW,
    }
}

/// A session of a user for twelve hours; its cookie is minted from the seed.
pub(crate) fn session(name: &str, user: &str, seed: u64) -> SessionRecord {
    SessionRecord {
        id: id(name),
        cookie: Plain::mint(&SeededEntropy::new(seed)).digest(),
        user: id(user),
        factors: FactorTimes { pwd: Some(NOW.unix()), otp: None, hwk: None },
        made: NOW,
        seen: NOW,
        expires: later(12 * 3600),
        ended: None,
    }
}

pub(crate) fn grant(name: &str, user: &str, session: &str) -> GrantRecord {
    GrantRecord {
        id: id(name),
        user: id(user),
        client: id("shop"),
        session: id(session),
        scopes: scopes("openid payments.read"),
        audience: Some("https://localhost:8443".into()),
        made: NOW,
        ended: None,
        life: GrantLife::Session,
        factors: FactorTimes::default(),
        binding: None,
        details: String::new(),
        family: Family {
            counter: 0,
            moved: None,
            graces: 0,
            seen: Timestamp::default(),
            expires: Timestamp::default(),
        },
    }
}

/// A grant that outlives its session, for thirty days.
pub(crate) fn offline(name: &str, user: &str, session: &str) -> GrantRecord {
    let mut grant = grant(name, user, session);
    (grant.life, grant.family.expires) = (GrantLife::Offline, later(30 * 86_400));
    grant
}

/// Runs a future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// Runs many futures at once, each on a thread of its own.
pub(crate) fn on_threads<T: Send, F: Future<Output = T>>(
    count: usize,
    work: impl Fn(usize) -> F + Sync,
) -> Vec<T> {
    let (start, work) = (std::sync::Barrier::new(count), &work);
    std::thread::scope(|scope| {
        let one = |number| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                block_on(work(number))
            })
        };
        let threads: Vec<_> = (0..count).map(one).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    })
}
