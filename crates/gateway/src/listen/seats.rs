//! Caps on connections, in all and per address, before a byte of TLS is read.
//!
//! One lock, taken at accept and at close only, never by a request.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use super::Caps;

/// The seats of all workers.
pub(crate) struct Seats {
    caps: Caps,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place; free again when dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
}

impl Seats {
    pub(crate) fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Seats { caps, taken: Mutex::default() })
    }

    /// A seat for a peer, if a cap leaves one.
    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let address = counted(peer);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.caps.connections {
            return None;
        }
        let here = taken.by_address.entry(address).or_default();
        if *here >= self.caps.per_address {
            return None;
        }
        *here += 1;
        taken.all += 1;
        Some(Seat { seats: Arc::clone(self), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        // INVARIANT: the map holds an address only while a seat of it is taken, so it never
        // outgrows the cap in all.
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: IPv4 whole; IPv6 by /64, since whoever has one has 2^64.
fn counted(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(seats: &Arc<Seats>, peer: &str) -> Option<Seat> {
        seats.take(peer.parse().unwrap())
    }

    #[test]
    fn the_cap_per_address_leaves_room_for_others() {
        let seats = Seats::new(Caps { connections: 10, per_address: 2 });
        let held = [take(&seats, "192.0.2.1"), take(&seats, "192.0.2.1")];
        assert!(held.iter().all(Option::is_some));
        assert!(take(&seats, "192.0.2.1").is_none());
        assert!(take(&seats, "::ffff:192.0.2.1").is_none());
        assert!(take(&seats, "192.0.2.2").is_some());
        drop(held);
        assert!(take(&seats, "192.0.2.1").is_some());
        assert!(seats.taken.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_address() {
        let seats = Seats::new(Caps { connections: 10, per_address: 1 });
        let _held = take(&seats, "2001:db8::1").unwrap();
        assert!(take(&seats, "2001:db8::ffff:2").is_none());
        assert!(take(&seats, "2001:db8:0:1::1").is_some());
    }

    #[test]
    fn the_cap_in_all_holds() {
        let seats = Seats::new(Caps { connections: 2, per_address: 2 });
        let _held = [take(&seats, "192.0.2.1").unwrap(), take(&seats, "192.0.2.2").unwrap()];
        assert!(take(&seats, "192.0.2.3").is_none());
    }
}
