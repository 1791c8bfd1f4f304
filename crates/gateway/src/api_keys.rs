//! API keys of service clients: the live ones of a generation, and when each was used last.
//!
//! A key is shown as `Authorization: Bearer pk_…` and in no other way: one place to look, and
//! everything that keeps tokens out of logs keeps keys out too. It is opened by
//! [`crate::authenticate`], on lines with `accept = "key"` alone. Keys are made, listed and revoked by
//! the binary.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use portcullis_core::id::{self, Id};
use portcullis_core::revocation::{Marks, RevocationKind};
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;

/// A live API key.
#[derive(Clone, Debug)]
pub struct LiveKey {
    /// Its id.
    pub id: Id<id::ApiKey>,
    /// The service client that it speaks for.
    pub client: Id<id::Client>,
    /// What it may be used for: a subset of the client's.
    pub scopes: Scopes,
    /// Networks that it may come from; empty: any.
    pub from: Vec<IpNet>,
    /// When it ends.
    pub expires: Timestamp,
    /// The revocation sequence read in the transaction that read the key as live: it is killed by what
    /// was revoked after, and what was revoked before is not among the live ones.
    pub rev: u64,
}

impl LiveKey {
    /// Whether it may come from an address.
    pub(crate) fn may_come_from(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.from.is_empty() || self.from.iter().any(|network| network.contains(&ip))
    }

    /// By what it can be revoked.
    pub(crate) fn marks(&self) -> Marks {
        let things = [
            (RevocationKind::Token, self.id.as_str()),
            (RevocationKind::Client, self.client.as_str()),
        ];
        Marks::collect(self.rev, &things)
    }
}

/// The live keys of a generation.
#[derive(Default)]
pub struct ApiKeys(HashMap<Id<id::ApiKey>, Arc<LiveKey>>);

impl ApiKeys {
    /// These.
    pub fn new(keys: impl IntoIterator<Item = LiveKey>) -> Self {
        ApiKeys(keys.into_iter().map(|key| (key.id.clone(), Arc::new(key))).collect())
    }

    /// The key of an id, if it is live.
    pub(crate) fn find(&self, id: &Id<id::ApiKey>) -> Option<&Arc<LiveKey>> {
        self.0.get(id)
    }
}

/// Keys whose use is noted between two drains; beyond it uses go unnoted until the next.
const MAX_NOTED: usize = 100_000;
/// Most uses handed out at once: what the store writes down in one transaction. The rest waits.
const MAX_TAKEN: usize = 10_000;
/// A use is noted once in so many seconds by each worker: the store keeps minutes.
const NOTE_EVERY_S: i64 = 60;

/// When keys were used last, until the binary takes it to the store.
#[derive(Default)]
pub struct KeyUses(Mutex<HashMap<Id<id::ApiKey>, Timestamp>>);

impl KeyUses {
    /// Takes what was noted since the last time, at most 10,000.
    pub fn take(&self) -> Vec<(Id<id::ApiKey>, Timestamp)> {
        // A worker that panicked left a whole map: it is changed by single inserts.
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<_> = noted.keys().take(MAX_TAKEN).cloned().collect();
        taken.into_iter().filter_map(|id| noted.remove_entry(&id)).collect()
    }

    fn note(&self, id: &Id<id::ApiKey>, now: Timestamp) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < MAX_NOTED || noted.contains_key(id) {
            noted.insert(id.clone(), now);
        }
    }
}

/// When a worker noted a key's use last, kept beside the key's entry: so the lock above is taken once
/// a minute for each worker and key.
#[derive(Default)]
pub(crate) struct Noted(Cell<Option<i64>>);

impl Noted {
    pub(crate) fn note(&self, uses: &KeyUses, id: &Id<id::ApiKey>, now: Timestamp) {
        let at = now.unix();
        // A clock set back notes anew.
        let lately = |last: i64| (0..NOTE_EVERY_S).contains(&at.saturating_sub(last));
        if !self.0.get().is_some_and(lately) {
            self.0.set(Some(at));
            uses.note(id, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_noted_once_a_minute() {
        let (uses, noted) = (KeyUses::default(), Noted::default());
        let id = Id::parse("k_one").unwrap();
        let mut taken = Vec::new();
        for at in [0, 59, 60, 61, 10] {
            noted.note(&uses, &id, Timestamp::from_unix(at));
            taken.extend(uses.take().into_iter().map(|(_, at)| at.unix()));
        }
        assert_eq!(taken, [0, 60, 10]);
    }

    #[test]
    fn the_notes_are_bounded() {
        let uses = KeyUses::default();
        for n in 0..=MAX_NOTED {
            uses.note(&Id::parse(&format!("k_{n}")).unwrap(), Timestamp::from_unix(1));
        }
        uses.note(&Id::parse("k_0").unwrap(), Timestamp::from_unix(2));
        let mut taken = Vec::new();
        for _ in 0..MAX_NOTED / MAX_TAKEN {
            let some = uses.take();
            assert_eq!(some.len(), MAX_TAKEN, "the store takes no more at once");
            taken.extend(some);
        }
        assert!(uses.take().is_empty());
        assert!(taken.iter().any(|(id, at)| id.as_str() == "k_0" && at.unix() == 2));
    }
}
