//! How many fetches go on at once: overall, and to one host. Whoever finds no seat is told so; nobody
//! queues here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_core::fetch::FetchFault;

/// Fetches at once, overall: each holds a socket and as much memory as its answer may have.
pub(crate) const MAX_FETCHES: usize = 64;
/// Fetches at once to one host: a slow host must not take all seats, nor be made a victim of ours.
pub(crate) const MAX_PER_HOST: usize = 4;

/// The seats.
#[derive(Default)]
pub(crate) struct Seats(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    all: usize,
    by_host: HashMap<Box<str>, usize>,
}

/// A seat taken; given back when dropped.
pub(crate) struct Seat {
    seats: Arc<Mutex<Taken>>,
    host: Box<str>,
}

impl Seats {
    /// Takes a seat to a host.
    ///
    /// # Errors
    /// [`FetchFault::Crowded`].
    pub(crate) fn take(&self, host: &str) -> Result<Seat, FetchFault> {
        let mut taken = lock(&self.0);
        let at_host = taken.by_host.get(host).copied().unwrap_or(0);
        if taken.all >= MAX_FETCHES || at_host >= MAX_PER_HOST {
            return Err(FetchFault::Crowded);
        }
        taken.all += 1;
        taken.by_host.insert(host.into(), at_host + 1);
        Ok(Seat { seats: self.0.clone(), host: host.into() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.seats);
        taken.all = taken.all.saturating_sub(1);
        // INVARIANT: a host without a fetch has no entry: strangers' hosts take no memory.
        match taken.by_host.get_mut(&self.host) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(taken.by_host.remove(&self.host)),
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    // Nothing panics while it is held, and counts stay true if something did.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crowded_at_one_host() {
        let seats = Seats::default();
        let held: Vec<_> = (0..MAX_PER_HOST).map(|_| seats.take("a").ok().unwrap()).collect();
        assert_eq!(seats.take("a").err(), Some(FetchFault::Crowded));
        assert!(seats.take("b").is_ok(), "another host has seats");
        drop(held);
        assert!(seats.take("a").is_ok());
        assert!(lock(&seats.0).by_host.is_empty(), "nothing is left of a host");
    }

    #[test]
    fn crowded_overall() {
        let seats = Seats::default();
        let held: Vec<_> =
            (0..MAX_FETCHES).map(|host| seats.take(&host.to_string()).ok().unwrap()).collect();
        assert_eq!(seats.take("one more").err(), Some(FetchFault::Crowded));
        drop(held);
        assert!(seats.take("one more").is_ok());
        assert_eq!(lock(&seats.0).all, 0);
    }
}
