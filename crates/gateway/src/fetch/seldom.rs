//! A log line that a dead server would otherwise cause a thousand times a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines.
const APART: Duration = Duration::from_secs(5);

/// Lets one through now and then.
#[derive(Default)]
pub(crate) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether it is time for another line.
    pub(crate) fn due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= APART);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_in_five_seconds() {
        let seldom = Seldom::default();
        assert!(seldom.due());
        assert!((0..1000).all(|_| !seldom.due()));
        tokio::time::advance(APART).await;
        assert!(seldom.due());
        assert!(!seldom.due());
    }
}
