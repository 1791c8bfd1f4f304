//! Stages 4 and 7: the limits of the peer, before anything is known of the caller, and the limits
//! of the caller, before anything is decided. And the budget of failed authentications.
//!
//! Counting itself is core's (`core::limit`); how many is the operator's.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use portcullis_core::hash::sha256;
use portcullis_core::id::MAX_ID;
use portcullis_core::limit::{
    Bucket, Charge, Counters, Limit, Per, Rate, limit_field, policy_field,
};
use portcullis_core::time::Timestamp;

use crate::authenticate::{Identified, Presence};
use crate::hygiene::Cleansed;
use crate::memory::NamedLimit;
use crate::record::{Draft, Stage};
use crate::refusal::Refusal;
use crate::route::Destination;
use crate::snapshot::Snapshot;

/// The limit of peers, in the snapshot.
pub(crate) const PEER: &str = "peer";
/// The budget of failed authentications; the login spends from the same one.
pub(crate) const FAILED: &str = "failed_authentication";

/// A request whose peer is within its limits.
pub struct Admitted {
    // Boxed once, here: each later stage wraps the one before, and a journey that is moved about is
    // to stay small.
    cleansed: Box<Cleansed>,
}

impl Admitted {
    pub(crate) fn cleansed(&self) -> &Cleansed {
        &self.cleansed
    }
    pub(crate) fn cleansed_mut(&mut self) -> &mut Cleansed {
        &mut self.cleansed
    }
    pub(crate) fn into_cleansed(self) -> Box<Cleansed> {
        self.cleansed
    }
}

/// Charges the peer's address and prefix.
///
/// # Errors
/// [`Refusal::PeerLimited`].
pub(crate) fn admit_peer(
    counters: &dyn Counters,
    snapshot: &Snapshot,
    cleansed: Cleansed,
    draft: &mut Draft<'_>,
) -> Result<Admitted, Refusal> {
    draft.stage = Stage::PeerLimit;
    charge_peer(counters, snapshot, cleansed.ip, draft)?;
    Ok(Admitted { cleansed: Box::new(cleansed) })
}

/// Charges an address as a peer: also for what is not a whole journey (the plain listener).
pub(crate) fn charge_peer(
    counters: &dyn Counters,
    snapshot: &Snapshot,
    ip: IpAddr,
    draft: &mut Draft<'_>,
) -> Result<(), Refusal> {
    let Some((name, limit)) = snapshot.limits.get_key_value(PEER) else { return Ok(()) };
    let subjects = |per| Subject::of_address(per, ip);
    let charged = tightest(counters, [Counting { name, limit, policies: &[] }], subjects, draft.at);
    charged.map(|_| ()).map_err(|standing| {
        draft.standing = Some(standing);
        Refusal::PeerLimited
    })
}

/// Charges the peer for what is no request, and so never gets to [`admit_peer`]: otherwise nobody
/// could write records as fast as who sends nothing else. The refusal, or a 429 in its place.
///
/// A trusted proxy is not charged: whom it speaks for cannot be read, and its own address must stay
/// free for what it asks itself.
pub(crate) fn charge_malformed(
    counters: &dyn Counters,
    snapshot: &Snapshot,
    refusal: Refusal,
    draft: &mut Draft<'_>,
) -> Refusal {
    let ip = draft.ip.to_canonical();
    if snapshot.trust_proxies.iter().any(|network| network.contains(&ip)) {
        return refusal;
    }
    charge_peer(counters, snapshot, ip, draft).err().unwrap_or(refusal)
}

/// What a 404 or a 405 costs on top: whoever looks for doors runs out sooner.
pub(crate) fn charge_probe(
    counters: &dyn Counters,
    snapshot: &Snapshot,
    ip: IpAddr,
    now: Timestamp,
) {
    let Some((name, limit)) = snapshot.limits.get_key_value(PEER) else { return };
    for (position, rate) in limit.rates.iter().enumerate() {
        let subject = Subject::of_address(rate.per, ip);
        let bucket = Bucket { limit: name, position, rate, subject: subject.bytes() };
        // The outcome is for the next request: this one is refused already.
        counters.charge(bucket, 1, now);
    }
}

/// A request whose caller is within the operation's limits.
pub struct Counted {
    identified: Identified,
}

impl Counted {
    pub(crate) fn identified(&self) -> &Identified {
        &self.identified
    }
    /// For what the decision itself learns of a request.
    pub(crate) fn identified_mut(&mut self) -> &mut Identified {
        &mut self.identified
    }
    pub(crate) fn into_identified(self) -> Identified {
        self.identified
    }
}

/// Charges the caller, whatever the verdict will be.
///
/// # Errors
/// [`Refusal::CallerLimited`].
pub(crate) fn admit_caller(
    counters: &dyn Counters,
    snapshot: &Snapshot,
    identified: Identified,
    draft: &mut Draft<'_>,
) -> Result<Counted, Refusal> {
    draft.stage = Stage::CallerLimit;
    let ip = identified.cleansed().ip;
    let subjects = |per| Subject::of_caller(per, ip, identified.presence());
    let charged = match identified.destination() {
        Destination::Operation { kit, .. } => {
            let limits = kit.limits.iter().map(Counting::of);
            charge(counters, limits, subjects, draft.at)
        }
        Destination::House(line) => match snapshot.limits.get(&line.limit) {
            Some(limit) => {
                let counting = Counting { name: &line.limit, limit, policies: &[] };
                charge(counters, [counting], subjects, draft.at)
            }
            // `none` is no limit's name: pages that are nobody's work to answer.
            None => Ok(None),
        },
    };
    match charged {
        Ok(standing) => {
            draft.standing = standing;
            Ok(Counted { identified })
        }
        Err(standing) => {
            draft.standing = Some(standing);
            Err(Refusal::CallerLimited)
        }
    }
}

/// Whether an address has spent its failed authentications.
///
/// INVARIANT: this never refuses a valid token; it turns 401 into 429 and slows signature work.
pub(crate) fn failures_exhausted(
    counters: &dyn Counters,
    snapshot: &Snapshot,
    ip: IpAddr,
    now: Timestamp,
) -> Option<Standing> {
    failures(snapshot, ip, |bucket| counters.peek(bucket, now))
}

/// Charges one failed authentication (a forged, revoked or unknown credential) to an address.
pub(crate) fn charge_failure(
    counters: &dyn Counters,
    snapshot: &Snapshot,
    ip: IpAddr,
    now: Timestamp,
) -> Option<Standing> {
    failures(snapshot, ip, |bucket| counters.charge(bucket, 1, now))
}

fn failures(
    snapshot: &Snapshot,
    ip: IpAddr,
    ask: impl Fn(Bucket<'_>) -> Charge,
) -> Option<Standing> {
    let (name, limit) = snapshot.limits.get_key_value(FAILED)?;
    let mut refused = None;
    for (position, rate) in limit.rates.iter().enumerate() {
        // Accounts are counted at the login: a token whose signature failed names nobody.
        if matches!(rate.per, Per::User | Per::Client) {
            continue;
        }
        let subject = Subject::of_address(rate.per, ip);
        let charge = ask(Bucket { limit: name, position, rate, subject: subject.bytes() });
        if !charge.allowed {
            refused = Some(Counting { name, limit, policies: &[] }.stands(position, charge));
        }
    }
    refused
}

/// Whether a caller has spent its refused ids.
pub(crate) fn objects_exhausted(
    counters: &dyn Counters,
    limit: &NamedLimit,
    caller: (IpAddr, &Presence),
    now: Timestamp,
) -> Option<Standing> {
    refused_objects(limit, caller, |bucket| counters.peek(bucket, now))
}

/// Charges a refused id to its caller; where that is one too many, where it stands.
pub(crate) fn charge_object(
    counters: &dyn Counters,
    limit: &NamedLimit,
    caller: (IpAddr, &Presence),
    now: Timestamp,
) -> Option<Standing> {
    refused_objects(limit, caller, |bucket| counters.charge(bucket, 1, now))
}

fn refused_objects(
    limit: &NamedLimit,
    (ip, presence): (IpAddr, &Presence),
    ask: impl Fn(Bucket<'_>) -> Charge,
) -> Option<Standing> {
    let counting = Counting::of(limit);
    let mut refused = None;
    for (counting, position, rate) in rates([counting]) {
        let subject = Subject::of_caller(rate.per, ip, presence);
        let charge = ask(Bucket { limit: counting.name, position, rate, subject: subject.bytes() });
        if !charge.allowed {
            refused = Some(counting.stands(position, charge));
        }
    }
    refused
}

/// A limit that is being charged.
#[derive(Clone, Copy)]
struct Counting<'l> {
    name: &'l Arc<str>,
    limit: &'l Arc<Limit>,
    /// The policies as fields, where they were written before.
    policies: &'l [HeaderValue],
}

impl<'l> Counting<'l> {
    fn of(named: &'l NamedLimit) -> Self {
        Counting { name: &named.name, limit: &named.limit, policies: &named.policies }
    }

    fn stands(&self, position: usize, charge: Charge) -> Standing {
        Standing {
            name: self.name.clone(),
            limit: self.limit.clone(),
            policy: self.policies.get(position).cloned(),
            position,
            charge,
        }
    }
}

/// Where a caller stands in a limit.
#[derive(Clone)]
pub(crate) struct Standing {
    name: Arc<str>,
    limit: Arc<Limit>,
    policy: Option<HeaderValue>,
    position: usize,
    charge: Charge,
}

impl Standing {
    /// `normal 29 left`.
    pub(crate) fn words(&self) -> String {
        let mut words = String::with_capacity(self.name.len() + 16);
        words.push_str(&self.name);
        words.push(' ');
        words.push_str(&self.charge.remaining.to_string());
        words.push_str(" left");
        words
    }

    /// `RateLimit-Policy` and `RateLimit`.
    pub(crate) fn fields(&self) -> Option<(HeaderValue, HeaderValue)> {
        let rate = self.limit.rates.get(self.position)?;
        let value = |text: String| HeaderValue::from_maybe_shared(Bytes::from(text)).ok();
        let policy = self.policy.clone().or_else(|| value(policy_field(&self.name, rate)))?;
        Some((policy, value(limit_field(&self.name, rate, &self.charge))?))
    }

    /// Whole seconds until one would pass, never less than the true wait (RFC 9110 §10.2.3).
    pub(crate) fn retry_after_s(&self) -> u64 {
        self.charge.retry_after_seconds().max(1)
    }
}

/// Charges every rate of every limit. The tightest standing comes back: on success the one with
/// the least remaining, on refusal the one that refused; what was charged before it is given back,
/// so that a refusal by one limit does not eat another.
fn charge<'l>(
    counters: &dyn Counters,
    limits: impl IntoIterator<Item = Counting<'l>> + Clone,
    subject_of: impl Fn(Per) -> Subject,
    now: Timestamp,
) -> Result<Option<Standing>, Standing> {
    let tightest = tightest(counters, limits, subject_of, now)?;
    Ok(tightest.map(|(counting, position, charge)| counting.stands(position, charge)))
}

/// The same, for who may not want to hear where it stands.
fn tightest<'l>(
    counters: &dyn Counters,
    limits: impl IntoIterator<Item = Counting<'l>> + Clone,
    subject_of: impl Fn(Per) -> Subject,
    now: Timestamp,
) -> Result<Option<(Counting<'l>, usize, Charge)>, Standing> {
    let mut tightest: Option<(Counting<'l>, usize, Charge)> = None;
    for (charged, (counting, position, rate)) in rates(limits.clone()).enumerate() {
        let subject = subject_of(rate.per);
        let bucket = Bucket { limit: counting.name, position, rate, subject: subject.bytes() };
        let charge = counters.charge(bucket, 1, now);
        if !charge.allowed {
            for (counting, position, rate) in rates(limits).take(charged) {
                let subject = subject_of(rate.per);
                let name = counting.name;
                let bucket = Bucket { limit: name, position, rate, subject: subject.bytes() };
                counters.give_back(bucket, 1, now);
            }
            return Err(counting.stands(position, charge));
        }
        if tightest.as_ref().is_none_or(|(_, _, least)| charge.remaining < least.remaining) {
            tightest = Some((counting, position, charge));
        }
    }
    Ok(tightest)
}

fn rates<'l>(
    limits: impl IntoIterator<Item = Counting<'l>>,
) -> impl Iterator<Item = (Counting<'l>, usize, &'l Rate)> {
    limits.into_iter().flat_map(|counting| {
        let rates = counting.limit.rates.iter().enumerate();
        rates.map(move |(position, rate)| (counting, position, rate))
    })
}

/// Who is counted, as bytes on the stack.
struct Subject {
    bytes: [u8; MAX_ID],
    len: usize,
}

impl Subject {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Another issuer's subjects may be longer than ours: cut off, two of them could be one.
    fn of(parts: &[u8]) -> Self {
        if parts.len() > MAX_ID {
            return Subject::of(&sha256(parts));
        }
        let mut bytes = [0; MAX_ID];
        let len = parts.len().min(MAX_ID);
        if let (Some(to), Some(from)) = (bytes.get_mut(..len), parts.get(..len)) {
            to.copy_from_slice(from);
        }
        Subject { bytes, len }
    }

    /// An address, or its prefix (`5-limits`, point 3): IPv4 /32 and /24, IPv6 /64 and /48, since
    /// whoever has one IPv6 address has at least a /64 of them.
    fn of_address(per: Per, ip: IpAddr) -> Self {
        match (ip.to_canonical(), per) {
            (IpAddr::V4(ip), Per::Prefix) => {
                Subject::of(ip.octets().first_chunk::<3>().map_or(&[], |p| p))
            }
            (IpAddr::V4(ip), _) => Subject::of(&ip.octets()),
            (IpAddr::V6(ip), Per::Prefix) => {
                Subject::of(ip.octets().first_chunk::<6>().map_or(&[], |p| p))
            }
            (IpAddr::V6(ip), _) => Subject::of(ip.octets().first_chunk::<8>().map_or(&[], |p| p)),
        }
    }

    /// A caller. Without a token, or where a rate counts what the token does not have, the next
    /// that it does have: nobody goes uncounted.
    fn of_caller(per: Per, ip: IpAddr, presence: &Presence) -> Self {
        let Presence::Token(known) = presence else { return Subject::of_address(per, ip) };
        match per {
            Per::Ip | Per::Prefix => Subject::of_address(per, ip),
            Per::Client => Subject::of(known.client().as_bytes()),
            // A service's `sub` is its client id, which cannot look like a user's (core::id).
            Per::User | Per::Caller => Subject::of(known.subject().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_core::entropy::SeededEntropy;
    use portcullis_core::hash::TableKey;
    use portcullis_core::limit::LocalCounters;

    fn counters() -> LocalCounters {
        LocalCounters::new(TableKey::mint(&SeededEntropy::new(7)), 1024)
    }

    fn named(name: &str, words: &str) -> NamedLimit {
        NamedLimit::new(&name.into(), &Arc::new(Limit::parse(words).unwrap()))
    }

    fn now() -> Timestamp {
        Timestamp::from_unix(1_800_000_000)
    }

    #[test]
    fn subjects_are_prefixes() {
        let table: [(&str, Per, &[u8]); 6] = [
            ("192.0.2.7", Per::Ip, &[192, 0, 2, 7]),
            ("192.0.2.7", Per::Prefix, &[192, 0, 2]),
            ("::ffff:192.0.2.7", Per::Ip, &[192, 0, 2, 7]),
            ("2001:db8:1:2:3::9", Per::Ip, &[0x20, 1, 0x0d, 0xb8, 0, 1, 0, 2]),
            ("2001:db8:1:2:3::9", Per::Prefix, &[0x20, 1, 0x0d, 0xb8, 0, 1]),
            ("192.0.2.7", Per::Caller, &[192, 0, 2, 7]),
        ];
        for (ip, per, bytes) in table {
            let subject = Subject::of_caller(per, ip.parse().unwrap(), &Presence::Unread);
            assert_eq!(subject.bytes(), bytes, "{ip} {per:?}");
        }
    }

    #[test]
    fn exactly_the_burst_passes() {
        let counters = counters();
        let limits = [named("normal", "60/min per ip, burst 5")];
        let subject = |per| Subject::of_address(per, "192.0.2.7".parse().unwrap());
        for left in (0..5).rev() {
            let standing = charge(&counters, limits.iter().map(Counting::of), subject, now())
                .ok()
                .flatten()
                .unwrap();
            assert_eq!(standing.words(), format!("normal {left} left"));
        }
        let refused =
            charge(&counters, limits.iter().map(Counting::of), subject, now()).err().unwrap();
        assert_eq!(refused.retry_after_s(), 1);
    }

    #[test]
    fn a_refusal_by_one_limit_does_not_eat_another() {
        let counters = counters();
        let wide = named("wide", "60/min per ip, burst 10");
        let tight = named("tight", "60/min per ip, burst 1");
        let both = [&wide, &tight].map(Counting::of);
        let subject = |per| Subject::of_address(per, "192.0.2.7".parse().unwrap());
        assert!(charge(&counters, both, subject, now()).is_ok());
        for _ in 0..20 {
            assert!(charge(&counters, both, subject, now()).is_err());
        }
        let standing =
            charge(&counters, [Counting::of(&wide)], subject, now()).ok().flatten().unwrap();
        assert_eq!(standing.words(), "wide 8 left");
    }
}
