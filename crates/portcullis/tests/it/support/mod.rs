//! What the tests of the product stand on: the real binary in a folder and at ports of its own, an
//! upstream that remembers what reached it, clients for bytes, for browsers and for HTTP/2, and the
//! reader of the attack corpus.
//!
//! Nothing here asserts what the product should do; that is the tests'. Nothing sleeps: whoever
//! waits polls with a deadline.

pub(crate) mod server;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod seed;
pub(crate) mod upstream;
pub(crate) mod wire;
pub(crate) mod browser;
pub(crate) mod http2;
pub(crate) mod frames;
pub(crate) mod forge;
pub(crate) mod foreign;
pub(crate) mod corpus;
pub(crate) mod judge;
pub(crate) mod story;
pub(crate) mod attacker;
pub(crate) mod sources;

use std::time::{Duration, Instant};

/// Longest that anything is waited for, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Looks until what is seen has not changed for many looks; what it is then.
pub(crate) fn still<T: PartialEq>(what: &str, mut look: impl FnMut() -> T) -> T {
    let (mut last, mut same) = (look(), 0);
    wait_for(&format!("{what} to stand still"), || {
        let now = look();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same >= STILL).then_some(())
    });
    last
}

/// Looks that must see the same.
const STILL: usize = 30;

/// Looks again and again until there is something, or the time is over.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(LOOK);
    }
}
