//! Ports that no other test uses: below the range that the kernel hands out for outgoing
//! connections, so that a client's own port never stands in the way of a listener.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A free port of 127.0.0.1, given to nobody else in this process.
pub(crate) fn free() -> u16 {
    for _ in FIRST..LAST {
        let port =
            FIRST + start().wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (LAST - FIRST);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}

/// Processes that run at once begin at different places.
fn start() -> u16 {
    u16::try_from(std::process::id() % 1_000).unwrap_or(0).wrapping_mul(21)
}
