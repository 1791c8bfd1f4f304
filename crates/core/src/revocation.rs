//! Revocation by sequence, not by clock (`4-identity`, "Revocation").
//!
//! `seq` comes from the revoking transaction; a token carries the `rev` that its own issuing
//! transaction read first; an entry kills a token when `rev < seq`. The gateway probes
//! [`Revoked`] on every request; the store publishes to it after commit, before the revoking call
//! returns. So no clock can be wrong.
//!
//! Deliberately not here: the log itself (the store's), and how other nodes learn of it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::hash;
use crate::jose::claims::{AccessClaims, Actor, CallerKind};
use crate::time::Timestamp;

/// What an entry kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RevocationKind {
    /// One token, by `jti`.
    Token = 1,
    /// A grant and all its tokens, by `gid`.
    Grant = 2,
    /// A session and all its tokens, by `sid`.
    Session = 3,
    /// Access tokens of a subject.
    Subject = 4,
    /// Access tokens of a client.
    Client = 5,
    /// Access tokens of a group's or role's members.
    Group = 6,
    /// Everything signed by a key.
    Key = 7,
    /// Everything.
    All = 8,
}

/// One entry of the append-only log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its place in the one order of this installation.
    pub seq: u64,
    /// What it kills.
    pub kind: RevocationKind,
    /// [`mark`] of the thing killed.
    pub mark: Mark,
    /// When no token that it could kill can be alive any more.
    pub expires: Timestamp,
}

/// A 128-bit digest of (kind, value): the same on every node and in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark(pub [u8; 16]);

/// The mark of a thing; `All` ignores its value.
pub fn mark(kind: RevocationKind, value: &str) -> Mark {
    let value = match kind {
        RevocationKind::All => "",
        RevocationKind::Token
        | RevocationKind::Grant
        | RevocationKind::Session
        | RevocationKind::Subject
        | RevocationKind::Client
        | RevocationKind::Group
        | RevocationKind::Key => value,
    };
    // The kind is one byte in front, so a session and a user of the same name have two marks.
    let digest = hash::sha256(&[&[kind as u8], value.as_bytes()].concat());
    let mut mark = [0; 16];
    mark.copy_from_slice(digest.first_chunk::<16>().expect("SHA-256 has 32 bytes"));
    Mark(mark)
}

/// Everything by which one token can be killed, digested once when it is verified, so that each
/// later probe costs map look-ups alone.
#[derive(Clone, Debug)]
pub struct Marks {
    /// The token's `rev`.
    pub rev: u64,
    marks: Box<[Mark]>,
}

impl Marks {
    /// Collects a token's marks: `jti`, `gid`, `sid`, `sub`, `client_id`, each group and role,
    /// `kid`, and `All`, which is always among them.
    pub fn collect(rev: u64, things: &[(RevocationKind, &str)]) -> Self {
        let all = std::iter::once(mark(RevocationKind::All, ""));
        let named = things.iter().map(|(kind, value)| mark(*kind, value));
        Marks { rev, marks: named.chain(all).collect() }
    }

    /// The marks of one of our access tokens, signed by the key `kid` (none when it is opaque): the
    /// one list of what kills a token, for the gateway, for introspection and for token exchange.
    pub fn of(claims: &AccessClaims, kid: Option<&str>) -> Self {
        let mut things = vec![
            (RevocationKind::Token, claims.jti.as_str()),
            (RevocationKind::Subject, claims.sub.as_str()),
            (RevocationKind::Client, claims.client_id.as_str()),
        ];
        things.extend(claims.gid.as_ref().map(|gid| (RevocationKind::Grant, gid.as_str())));
        things.extend(claims.sid.as_ref().map(|sid| (RevocationKind::Session, sid.as_str())));
        things.extend(kid.map(|kid| (RevocationKind::Key, kid)));
        let groups = claims.groups.iter().chain(&claims.roles);
        things.extend(groups.map(|group| (RevocationKind::Group, group.as_str())));
        // A token that was exchanged (RFC 8693) names other clients than its own: the service that
        // it speaks for, and those that act. It must not outlive any of them.
        let service = (claims.kind == CallerKind::Service).then_some(claims.sub.as_str());
        let actors = claims.act.iter().flat_map(Actor::chain).chain(service);
        things.extend(actors.map(|client| (RevocationKind::Client, client)));
        Marks::collect(claims.rev, &things)
    }
}

/// Entries in the delta before it is merged into the base: a publication copies the delta alone, so
/// a flood of revocations costs no copy of everything each time.
const MAX_DELTA: usize = 256;
/// How long expired entries may stay: they kill nobody, and dropping them copies the base.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The revocations in force, shared by store (writes) and gateway (probes). Reads take no lock.
///
/// A large *base* that seldom changes and a small *delta*, swapped as one immutable pair.
pub struct Revoked {
    /// The highest `seq` ever in force. INVARIANT: stored after the entries, so whoever reads a
    /// `seq` here finds its entry there.
    newest: AtomicU64,
    entries: ArcSwap<Entries>,
    /// Publications one after another; never held while probing.
    publishing: Mutex<()>,
}

#[derive(Clone, Default)]
struct Entries {
    base: Arc<Table>,
    delta: Table,
    count: usize,
    merged: Timestamp,
}

type Table = HashMap<Mark, Entry, BuildHasherDefault<MarkHasher>>;

#[derive(Clone, Copy)]
struct Entry {
    seq: u64,
    expires: Timestamp,
}

impl Revoked {
    /// Nothing revoked.
    pub fn new() -> Self {
        Revoked {
            newest: AtomicU64::new(0),
            entries: ArcSwap::default(),
            publishing: Mutex::new(()),
        }
    }

    /// Adds entries (idempotent) and drops those that expired. In force when it returns.
    pub fn publish(&self, entries: &[Revocation], now: Timestamp) {
        // A publisher that panicked left either the old pair or the new one: both are whole.
        let _alone = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Entries::clone(&self.entries.load());
        let mut newest = 0;
        for entry in entries.iter().filter(|entry| entry.expires > now) {
            newest = newest.max(entry.seq);
            let known = next.base.get(&entry.mark).copied();
            let slot = next.delta.entry(entry.mark).or_insert(Entry { seq: 0, expires: now });
            for other in known.into_iter().chain([Entry { seq: entry.seq, expires: entry.expires }])
            {
                slot.seq = slot.seq.max(other.seq);
                slot.expires = slot.expires.max(other.expires);
            }
        }
        if next.delta.len() > MAX_DELTA || now.since(next.merged) >= SWEEP_EVERY {
            next.merge(now);
        }
        next.count =
            next.base.len() + next.delta.keys().filter(|m| !next.base.contains_key(*m)).count();
        self.entries.store(Arc::new(next));
        self.newest.fetch_max(newest, Ordering::SeqCst);
    }

    /// Whether an entry kills a token with these marks.
    pub fn kills(&self, marks: &Marks) -> bool {
        // A token minted after the last revocation is killed by none: most tokens, most of the
        // time, and every token when nothing was ever revoked.
        if marks.rev >= self.newest.load(Ordering::SeqCst) {
            return false;
        }
        let entries = self.entries.load();
        let newer = |table: &Table, mark| table.get(mark).is_some_and(|e| marks.rev < e.seq);
        marks.marks.iter().any(|mark| newer(&entries.delta, mark) || newer(&entries.base, mark))
    }

    /// How many entries are in force (a metric). Expired ones leave at a later publication.
    pub fn len(&self) -> usize {
        self.entries.load().count
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Revoked {
    fn default() -> Self {
        Revoked::new()
    }
}

impl Entries {
    /// Makes one base of both, without what expired.
    fn merge(&mut self, now: Timestamp) {
        let mut base = Table::clone(&self.base);
        // An entry of the delta already holds the greater of both, see `publish`.
        base.extend(self.delta.drain());
        base.retain(|_, entry| entry.expires > now);
        self.base = Arc::new(base);
        self.merged = now;
    }
}

/// A mark is a piece of SHA-256 over names that we mint: its own first bytes are its hash.
#[derive(Default)]
struct MarkHasher(u64);

impl Hasher for MarkHasher {
    fn write(&mut self, bytes: &[u8]) {
        let first = bytes.first_chunk::<8>();
        self.0 = first.map_or(self.0, |bytes| u64::from_ne_bytes(*bytes));
    }

    fn write_usize(&mut self, _: usize) {
        // The length of an array says nothing.
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;
    use RevocationKind::{All, Client, Grant, Group, Key, Session, Subject, Token};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
    const KINDS: [RevocationKind; 8] = [Token, Grant, Session, Subject, Client, Group, Key, All];

    fn entry(seq: u64, kind: RevocationKind, value: &str) -> Revocation {
        let expires = NOW.after(Duration::from_secs(300));
        Revocation { seq, kind, mark: mark(kind, value), expires }
    }

    fn token(rev: u64) -> Marks {
        let named = KINDS.map(|kind| (kind, "x"));
        Marks::collect(rev, &named[..7])
    }

    #[test]
    fn nothing_revoked_kills_nothing() {
        let revoked = Revoked::new();
        assert!(revoked.is_empty());
        assert!(!revoked.kills(&token(0)));
    }

    #[test]
    fn each_kind_kills_by_sequence() {
        for kind in KINDS {
            let revoked = Revoked::new();
            revoked.publish(&[entry(5, kind, "x")], NOW);
            for (rev, killed) in [(0, true), (4, true), (5, false), (6, false)] {
                assert_eq!(revoked.kills(&token(rev)), killed, "{kind:?} {rev}");
            }
            assert_eq!(revoked.len(), 1);
        }
    }

    #[test]
    fn another_name_or_another_kind_lives_on() {
        let revoked = Revoked::new();
        revoked.publish(&[entry(9, Session, "y"), entry(9, Subject, "y"), entry(9, Key, "")], NOW);
        assert!(!revoked.kills(&token(0)));
        let marks: Vec<Mark> = KINDS.iter().map(|kind| mark(*kind, "x")).collect();
        for (position, one) in marks.iter().enumerate() {
            assert!(!marks[..position].contains(one), "marks of two kinds are equal");
        }
    }

    #[test]
    fn a_token_dies_by_each_thing_that_it_names() {
        let claims = serde_json::json!({
            "iss": "https://login.example", "sub": "ledger", "aud": "https://api.example",
            "exp": 2, "iat": 1, "jti": "t_1", "client_id": "middle", "scope": "a",
            "kind": "service", "rev": 1, "sid": "s_1", "gid": "g_1", "roles": ["admin"],
            "groups": ["staff"], "act": { "sub": "near", "act": { "sub": "far" } },
        });
        let claims: AccessClaims = serde_json::from_value(claims).expect("claims");
        for (kind, value) in [
            (Token, "t_1"),
            (Grant, "g_1"),
            (Session, "s_1"),
            (Subject, "ledger"),
            (Client, "middle"),
            (Client, "ledger"),
            (Client, "near"),
            (Client, "far"),
            (Group, "admin"),
            (Group, "staff"),
            (Key, "k1"),
            (All, ""),
        ] {
            let revoked = Revoked::new();
            revoked.publish(&[entry(2, kind, value)], NOW);
            assert!(revoked.kills(&Marks::of(&claims, Some("k1"))), "{kind:?} {value}");
            let later = AccessClaims { rev: 2, ..claims.clone() };
            assert!(!revoked.kills(&Marks::of(&later, Some("k1"))), "{kind:?} {value}");
        }
        let revoked = Revoked::new();
        revoked.publish(&[entry(2, Key, "k1"), entry(2, Client, "other")], NOW);
        assert!(!revoked.kills(&Marks::of(&claims, None)));
    }

    #[test]
    fn all_kills_whatever_its_value() {
        let revoked = Revoked::new();
        revoked.publish(&[entry(3, All, "restore")], NOW);
        assert!(revoked.kills(&Marks::collect(2, &[])));
        assert!(!revoked.kills(&Marks::collect(3, &[])));
    }

    #[test]
    fn publishing_again_or_out_of_order_changes_nothing() {
        let revoked = Revoked::new();
        for seq in [7, 3, 7] {
            revoked.publish(&[entry(seq, Grant, "x")], NOW);
        }
        assert!(revoked.kills(&token(6)));
        assert_eq!(revoked.len(), 1);
    }

    #[test]
    fn a_later_entry_never_shortens_an_earlier_one() {
        let revoked = Revoked::new();
        let short =
            Revocation { expires: NOW.after(Duration::from_secs(10)), ..entry(8, Grant, "x") };
        revoked.publish(&[entry(7, Grant, "x")], NOW);
        revoked.publish(&[short], NOW);
        revoked.publish(&[], NOW.after(Duration::from_secs(60)));
        assert!(revoked.kills(&token(6)));
    }

    #[test]
    fn expired_entries_are_dropped_also_out_of_the_base() {
        let revoked = Revoked::new();
        let many: Vec<_> = (1..=2_000).map(|seq| entry(seq, Token, &format!("t{seq}"))).collect();
        revoked.publish(&many, NOW);
        assert_eq!(revoked.len(), 2_000);
        let later = NOW.after(Duration::from_secs(300));
        revoked.publish(&[], later);
        assert_eq!(revoked.len(), 0);
        revoked.publish(&[entry(2_001, Token, "late")], later);
        assert_eq!(revoked.len(), 0, "expired on arrival");
    }

    #[test]
    fn what_moved_into_the_base_still_kills() {
        let revoked = Revoked::new();
        for seq in 1..=1_000u64 {
            revoked.publish(&[entry(seq, Session, &format!("s{seq}"))], NOW);
        }
        for seq in 1..=1_000u64 {
            let marks = |rev| Marks::collect(rev, &[(Session, &format!("s{seq}"))]);
            assert!(revoked.kills(&marks(seq - 1)) && !revoked.kills(&marks(seq)));
        }
        assert_eq!(revoked.len(), 1_000);
    }

    /// Readers in parallel with publishers: once published, an entry is never missed again, and a
    /// token minted after it never killed, whatever else is published meanwhile.
    #[test]
    fn what_was_published_is_in_force_for_every_thread() {
        let revoked = Revoked::new();
        let published = AtomicU64::new(0);
        let done = AtomicBool::new(false);
        let name = |seq: u64| format!("g{seq}");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut round = 0u64;
                    while !done.load(Ordering::SeqCst) {
                        round += 1;
                        let upto = published.load(Ordering::SeqCst);
                        for seq in upto.saturating_sub(20).max(1)..=upto {
                            let killed = Marks::collect(seq - 1, &[(Grant, &name(seq))]);
                            assert!(revoked.kills(&killed), "{seq} of {upto} forgotten");
                            let minted_after = Marks::collect(seq, &[(Grant, &name(seq))]);
                            assert!(!revoked.kills(&minted_after));
                        }
                        if round.is_multiple_of(8) {
                            thread::yield_now();
                        }
                    }
                });
            }
            scope.spawn(|| {
                // A second publisher of things that concern nobody here.
                for seq in 0..2_000u64 {
                    revoked.publish(&[entry(1_000_000 + seq, Client, &name(seq))], NOW);
                }
            });
            for seq in 1..=2_000 {
                revoked.publish(&[entry(seq, Grant, &name(seq))], NOW);
                published.store(seq, Ordering::SeqCst);
            }
            done.store(true, Ordering::SeqCst);
        });
        assert_eq!(revoked.len(), 4_000);
    }

    proptest! {
        #[test]
        fn a_token_dies_exactly_when_some_entry_is_newer(
            log in proptest::collection::vec((1u64..40, 0usize..8, 0u8..4), 0..400),
            tokens in proptest::collection::vec((0u64..45, proptest::collection::vec((0usize..7, 0u8..4), 0..6)), 1..20),
        ) {
            let revoked = Revoked::new();
            let names = ["a", "b", "c", "d"];
            for chunk in log.chunks(7) {
                let entries: Vec<_> = chunk
                    .iter()
                    .map(|(seq, kind, value)| entry(*seq, KINDS[*kind], names[usize::from(*value)]))
                    .collect();
                revoked.publish(&entries, NOW);
            }
            for (rev, things) in tokens {
                let expected = log.iter().any(|(seq, kind, value)| {
                    rev < *seq && (*kind == 7 || things.contains(&(*kind, *value)))
                });
                let named: Vec<_> = things
                    .iter()
                    .map(|(kind, value)| (KINDS[*kind], names[usize::from(*value)]))
                    .collect();
                prop_assert_eq!(revoked.kills(&Marks::collect(rev, &named)), expected);
            }
        }
    }
}
