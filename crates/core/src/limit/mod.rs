//! Rate limits: GCRA over a fixed table (`5-limits`, points 1 to 3 and 7).
//!
//! An operator writes words (`words`); each rate of them becomes integer arithmetic that cannot
//! drift (`gcra`); a table of fixed size holds one theoretical arrival time per key (`table`); the
//! client is told what is left (`fields`). A charge is about a hundred nanoseconds and takes no
//! lock. Whose key is charged, and in which stage, is the gateway's and the login's: they share one
//! [`Counters`], so that guessing passwords at one door is seen at the other.
//!
//! Deliberately not here: calendar quotas (`/day`, `/month`), limits on requests at once, and
//! cluster-wide leases; their words are errors that say so.

mod fields;
mod gcra;
mod table;
mod words;

use std::time::Duration;

use crate::time::Timestamp;

pub use fields::{fields, limit_field, policy_field};
pub use table::{DEFAULT_SLOTS, Table};
pub use words::{LimitMalformed, MAX_LIMIT_BYTES, MAX_RATES};

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    /// The client's address: IPv4 /32, IPv6 /64.
    Ip,
    /// IPv4 /24, IPv6 /48.
    Prefix,
    /// The OAuth client.
    Client,
    /// The user.
    User,
    /// Whoever calls: the user, else the client, else the address.
    Caller,
}

/// N requests per period, B of them at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// N, at least 1.
    pub count: u32,
    /// The period.
    pub period: Duration,
    /// B, at least 1; ⌈N/10⌉ when not written.
    pub burst: u32,
    /// Whose.
    pub per: Per,
}

/// A named limit: every rate holds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Limit {
    /// The rates, in the order written.
    pub rates: Vec<Rate>,
}

impl Limit {
    /// Reads `"120/min per user, burst 30"`, `"60/min per ip, burst 20, 1000/h per ip"`.
    ///
    /// # Errors
    /// [`LimitMalformed`], with the place within the words. What is designed but not built
    /// (`/day`, `/month`, `cluster-wide`, `at most N at once`, `per tenant`, `cost`) is an error
    /// that says so.
    pub fn parse(words: &str) -> Result<Limit, LimitMalformed> {
        words::parse(words)
    }

    /// Whether some rate needs an identity, and so cannot stand on an `anyone` line.
    pub fn needs_identity(&self) -> bool {
        self.rates.iter().any(|rate| matches!(rate.per, Per::Client | Per::User))
    }
}

/// What one charge came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Whether it passed.
    pub allowed: bool,
    /// How many more would pass at once, now.
    pub remaining: u32,
    /// Until the bucket is full again.
    pub reset: Duration,
    /// When refused: the exact wait until one would pass; zero when allowed.
    pub retry_after: Duration,
}

impl Charge {
    /// The value of `Retry-After`: whole seconds (RFC 9110 §10.2.3), rounded up, so that a client
    /// that waits as told is never refused again; at least 1 when refused.
    pub fn retry_after_seconds(&self) -> u64 {
        fields::seconds_up(self.retry_after)
    }
}

/// Where limits are counted. The gateway and the login share one (`5-limits`, point 6).
pub trait Counters: Send + Sync {
    /// Charges one rate of a named limit to a subject. `bucket` names the limit (`normal`,
    /// `failed_authentication` …) and the rate's position; `subject` is the counted identity.
    fn charge(&self, bucket: Bucket<'_>, cost: u32, now: Timestamp) -> Charge;
    /// The same without charging.
    fn peek(&self, bucket: Bucket<'_>, now: Timestamp) -> Charge;
    /// Gives units back.
    fn give_back(&self, bucket: Bucket<'_>, cost: u32, now: Timestamp);
}

/// One bucket: a limit's name, one of its rates, and the subject counted.
#[derive(Clone, Copy)]
pub struct Bucket<'a> {
    /// The limit's name; names apart are counted apart.
    pub limit: &'a str,
    /// The rate's position in the limit.
    pub position: usize,
    /// The rate.
    pub rate: &'a Rate,
    /// Who is counted (an address, a user id …), as bytes.
    pub subject: &'a [u8],
}

/// Counters of this process: one [`Table`] for all limits, keys hashed under a key of the process.
pub struct LocalCounters {
    key: crate::hash::TableKey,
    table: Table,
}

impl LocalCounters {
    /// Empty counters.
    pub fn new(key: crate::hash::TableKey, slots: usize) -> Self {
        LocalCounters { key, table: Table::new(slots) }
    }

    /// How often keys had to share a slot.
    pub fn shared(&self) -> u64 {
        self.table.shared()
    }

    /// A keyed hash, so that nobody can choose subjects that meet in one bucket of the table.
    fn hash(&self, bucket: Bucket<'_>) -> u64 {
        self.key.hash(&[bucket.limit.as_bytes(), &bucket.position.to_le_bytes(), bucket.subject])
    }
}

impl Counters for LocalCounters {
    fn charge(&self, bucket: Bucket<'_>, cost: u32, now: Timestamp) -> Charge {
        self.table.charge(self.hash(bucket), bucket.rate, cost, now)
    }

    fn peek(&self, bucket: Bucket<'_>, now: Timestamp) -> Charge {
        self.table.peek(self.hash(bucket), bucket.rate, now)
    }

    fn give_back(&self, bucket: Bucket<'_>, cost: u32, now: Timestamp) {
        self.table.give_back(self.hash(bucket), bucket.rate, cost, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;
    use crate::hash::TableKey;

    #[test]
    fn names_positions_and_subjects_are_counted_apart() {
        let counters = LocalCounters::new(TableKey::mint(&SeededEntropy::new(1)), 64);
        let rate = Rate { count: 1, period: Duration::from_secs(60), burst: 1, per: Per::Ip };
        let now = Timestamp::from_unix(1_800_000_000);
        let bucket = |limit, position, subject| Bucket { limit, position, rate: &rate, subject };
        for bucket in [
            bucket("normal", 0, &b"ada"[..]),
            bucket("normal", 1, b"ada"),
            bucket("write", 0, b"ada"),
            bucket("normal", 0, b"bob"),
            bucket("normala", 0, b"da"),
        ] {
            assert!(counters.peek(bucket, now).allowed);
            assert!(counters.charge(bucket, 1, now).allowed);
            assert!(!counters.charge(bucket, 1, now).allowed);
        }
        counters.give_back(bucket("normal", 0, b"ada"), 1, now);
        assert!(counters.charge(bucket("normal", 0, b"ada"), 1, now).allowed);
        assert_eq!(counters.shared(), 0);
    }

    #[test]
    fn only_client_and_user_need_an_identity() {
        for (words, expected) in [
            ("60/min per ip", false),
            ("60/min per prefix", false),
            ("60/min per caller", false),
            ("60/min per user", true),
            ("60/min per client", true),
            ("60/min per ip, 10/min per user", true),
        ] {
            assert_eq!(Limit::parse(words).unwrap().needs_identity(), expected, "{words}");
        }
    }
}
