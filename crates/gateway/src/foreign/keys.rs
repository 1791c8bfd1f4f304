//! The key sets of other issuers: held, renewed before they are stale, and kept when an issuer fails.
//!
//! ```text
//! fetched ──────── 4/5 of its life ── fresh_until ─────────────── kept_until
//!          use     use, and renew       renew first; if that       gone: 503 until
//!                  in the background    failed, use meanwhile      it answers again
//! ```
//! A life is the answer's `max-age`, within 5 minutes and 24 hours; without one, an hour. A set is kept
//! for 24 hours beyond it: an issuer's outage over a night is survived, and still nobody can hold the
//! keys that an issuer has withdrawn alive for ever by cutting it off from us.
//!
//! There is one fetch in flight per issuer, in a task of its own, so that no asker who goes away takes
//! it along; everybody else waits for it, up to a number. An unknown `kid` starts one at most every 10
//! seconds. No token is looked at here, and nothing that a token names is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_core::fetch::{Fetch, FetchFault};
use portcullis_core::foreign::ForeignIssuer;
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::time::{Clock, Timestamp};
use tokio::sync::{Semaphore, watch};

use super::source::{self, Found, Location, SourceFault};

/// A set's life when its issuer says nothing.
const DEFAULT_LIFE: Duration = Duration::from_secs(60 * 60);
/// Shortest life: nobody makes us ask more often.
const MIN_LIFE: Duration = Duration::from_secs(5 * 60);
/// Longest life: a withdrawn key counts no longer than this where its issuer can be reached.
const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a set is used after its life, while its issuer fails.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the place that the metadata named is asked again without asking for the metadata.
const MAX_PLACE: Duration = Duration::from_secs(60 * 60);
/// Between the starts of two fetches while a set is held.
const SPACING: Duration = Duration::from_secs(10);
/// Between the starts of two fetches while none is held: callers get 503 meanwhile.
const RETRY: Duration = Duration::from_secs(5);
/// A whole fetch: metadata in two places, and the set.
const FLIGHT_TIMEOUT: Duration = Duration::from_secs(5);
/// Askers that wait for one issuer at once.
pub(super) const MAX_WAITING: usize = 1024;
/// Issuers remembered; a config names a few, and a reload may change them.
pub(super) const MAX_ISSUERS: usize = 256;

/// The key sets of all issuers.
pub(super) struct KeySets {
    fetch: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    holders: Mutex<HashMap<String, Arc<Holder>>>,
}

/// What is known of one issuer's keys.
struct Holder {
    state: Mutex<State>,
    waiting: Semaphore,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// When the last fetch started, and what became of it.
    started: Option<Timestamp>,
    fault: Option<FetchFault>,
    /// Closed when the fetch in flight has landed, or its task is gone.
    flight: Option<watch::Receiver<()>>,
    /// Where the keys are, and since when that is known.
    location: Option<(Location, Timestamp)>,
    asked: Timestamp,
}

#[derive(Clone)]
struct Held {
    keys: Arc<JwkSet>,
    fetched: Timestamp,
    life: Duration,
}

/// What an asker does next.
enum Step {
    Use(Arc<JwkSet>),
    Refuse(FetchFault),
    /// Waits for the fetch in flight; what to use if that is not possible.
    Wait(watch::Receiver<()>, Option<Arc<JwkSet>>),
}

/// How good a held set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Fresh,
    /// Still fresh, and soon not.
    Ripe,
    Stale,
    /// Not to be used.
    Gone,
}

impl KeySets {
    pub(super) fn new(fetch: Arc<dyn Fetch>, clock: Arc<dyn Clock>) -> Self {
        KeySets { fetch, clock, holders: Mutex::default() }
    }

    /// The keys of an issuer, with those of a fetch that `kid` or time made necessary.
    pub(super) async fn find(
        &self,
        issuer: &ForeignIssuer,
        kid: Option<&str>,
    ) -> Result<Arc<JwkSet>, FetchFault> {
        let holder = self.holder(issuer);
        let (mut landing, meanwhile) = match self.step(&holder, issuer, kid) {
            Step::Use(keys) => return Ok(keys),
            Step::Refuse(fault) => return Err(fault),
            Step::Wait(landing, meanwhile) => (landing, meanwhile),
        };
        let Ok(_place) = holder.waiting.try_acquire() else {
            return meanwhile.ok_or(FetchFault::Crowded);
        };
        // It sends nothing: an error is the landing.
        landing.changed().await.ok();
        let state = lock(&holder.state);
        let now = self.clock.now();
        let held = state.held.as_ref().filter(|held| held.age(now) != Age::Gone);
        match held {
            Some(held) => Ok(held.keys.clone()),
            None => Err(state.fault.clone().unwrap_or(unreachable(issuer))),
        }
    }

    fn step(&self, holder: &Arc<Holder>, issuer: &ForeignIssuer, kid: Option<&str>) -> Step {
        let now = self.clock.now();
        let mut state = lock(&holder.state);
        state.asked = now;
        let held = state.held.clone().filter(|held| held.age(now) != Age::Gone);
        let Some(held) = held else {
            return match self.flight(holder, &mut state, issuer, RETRY) {
                Some(landing) => Step::Wait(landing, None),
                None => Step::Refuse(state.fault.clone().unwrap_or(unreachable(issuer))),
            };
        };
        let unknown = kid.is_some_and(|kid| held.keys.iter().all(|key| key.kid() != Some(kid)));
        // Where the issuer failed already, nobody waits for it to fail again.
        let waits = unknown || (held.age(now) == Age::Stale && state.fault.is_none());
        if !waits && held.age(now) == Age::Fresh {
            return Step::Use(held.keys);
        }
        if !unknown {
            // A renewal looks again where the keys are; a `kid` that somebody made up does not.
            state.location = None;
        }
        match self.flight(holder, &mut state, issuer, SPACING).filter(|_| waits) {
            Some(landing) => Step::Wait(landing, Some(held.keys)),
            None => Step::Use(held.keys),
        }
    }

    /// The fetch in flight; a new one when the last started long enough ago.
    fn flight(
        &self,
        holder: &Arc<Holder>,
        state: &mut State,
        issuer: &ForeignIssuer,
        spacing: Duration,
    ) -> Option<watch::Receiver<()>> {
        // A channel that is closed belongs to a task that landed, or went down with its runtime.
        if let Some(landing) = state.flight.as_ref().filter(|flight| flight.has_changed().is_ok()) {
            return Some(landing.clone());
        }
        let now = self.clock.now();
        let elapsed = |started: Timestamp| now < started || now.since(started) >= spacing;
        // A clock that was set back would otherwise forbid fetches for as long.
        if !state.started.is_none_or(elapsed) {
            return None;
        }
        state.started = Some(now);
        let (landed, landing) = watch::channel(());
        state.flight = Some(landing.clone());
        let (fetch, holder, issuer) = (self.fetch.clone(), holder.clone(), issuer.clone());
        let fresh = |since: Timestamp| since <= now && now.since(since) < MAX_PLACE;
        let known = state.location.clone().filter(|(_, since)| fresh(*since));
        let since = known.as_ref().map_or(now, |(_, since)| *since);
        tokio::spawn(async move {
            let found = source::find(&*fetch, &issuer, known.map(|(location, _)| location));
            let found = tokio::time::timeout(FLIGHT_TIMEOUT, found).await;
            let slow = || SourceFault::Fetch(FetchFault::Slow(issuer.name.clone()));
            // The state first, then the word that it is there.
            holder.land(&issuer, found.unwrap_or_else(|_| Err(slow())), (now, since));
            drop(landed);
        });
        Some(landing)
    }

    /// The holder of an issuer's keys: of what the file says of it now. After a reload that changed
    /// a word of it, nothing that the old words brought is used.
    fn holder(&self, issuer: &ForeignIssuer) -> Arc<Holder> {
        let name = super::identity(issuer);
        let mut holders = lock(&self.holders);
        if let Some(holder) = holders.get(&name) {
            return holder.clone();
        }
        if holders.len() >= MAX_ISSUERS {
            let oldest = holders.iter().min_by_key(|(_, holder)| lock(&holder.state).asked);
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.and_then(|name| holders.remove(&name));
        }
        let holder =
            Arc::new(Holder { state: Mutex::default(), waiting: Semaphore::new(MAX_WAITING) });
        holders.insert(name, holder.clone());
        holder
    }
}

impl Holder {
    /// Takes in what a fetch brought. A failure changes nothing of what is held.
    fn land(
        &self,
        issuer: &ForeignIssuer,
        found: Result<Found, SourceFault>,
        (started, located): (Timestamp, Timestamp),
    ) {
        let mut state = lock(&self.state);
        match found {
            Ok(Found { keys, max_age, location }) => {
                let life = max_age.unwrap_or(DEFAULT_LIFE).clamp(MIN_LIFE, MAX_LIFE);
                state.held = Some(Held { keys: Arc::new(keys), fetched: started, life });
                state.location = Some((location, located));
                state.fault = None;
            }
            Err(cause) => {
                let kept =
                    if state.held.is_some() { "the last good ones stay" } else { "none yet" };
                tracing::warn!(issuer = issuer.name, %cause, kept, "keys were not renewed");
                state.location = None;
                state.fault = Some(match cause {
                    SourceFault::Fetch(fault) => fault,
                    SourceFault::StatusWrong { .. }
                    | SourceFault::MetadataMalformed
                    | SourceFault::IssuerWrong(_)
                    | SourceFault::KeysUnnamed
                    | SourceFault::SetMalformed
                    | SourceFault::NoKeyUsable
                    | SourceFault::Keyless => unreachable(issuer),
                });
            }
        }
    }
}

impl Held {
    fn age(&self, now: Timestamp) -> Age {
        // A clock that was set back: how old the set is cannot be known, so it is renewed.
        if now < self.fetched {
            return Age::Stale;
        }
        let old = now.since(self.fetched);
        match () {
            () if old < self.life.mul_f64(0.8) => Age::Fresh,
            () if old < self.life => Age::Ripe,
            () if old < self.life + STALE => Age::Stale,
            () => Age::Gone,
        }
    }
}

fn unreachable(issuer: &ForeignIssuer) -> FetchFault {
    FetchFault::Unreachable(issuer.name.clone())
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held, and what is in it is true between any two lines.
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
impl KeySets {
    /// Whether a fetch of an issuer's keys is in flight.
    pub(super) fn in_flight(&self, issuer: &ForeignIssuer) -> bool {
        let holder = self.holder(issuer);
        let state = lock(&holder.state);
        state.flight.as_ref().is_some_and(|flight| flight.has_changed().is_ok())
    }

    /// How many issuers are remembered.
    pub(super) fn remembered(&self) -> usize {
        lock(&self.holders).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_ages() {
        let held = |life: u64| Held {
            keys: Arc::default(),
            fetched: Timestamp::from_unix(10_000),
            life: Duration::from_secs(life),
        };
        for (life, at, age) in [
            (1000, 10_000, Age::Fresh),
            (1000, 10_799, Age::Fresh),
            (1000, 10_800, Age::Ripe),
            (1000, 10_999, Age::Ripe),
            (1000, 11_000, Age::Stale),
            (1000, 11_000 + 86_399, Age::Stale),
            (1000, 11_000 + 86_400, Age::Gone),
            (1000, 9_999, Age::Stale),
        ] {
            assert_eq!(held(life).age(Timestamp::from_unix(at)), age, "{at}");
        }
    }
}
