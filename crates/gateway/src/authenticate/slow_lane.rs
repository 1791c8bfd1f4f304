//! Where signatures wait that come from addresses with an exhausted budget of failures: forged tokens
//! must not starve the others. Who waits is not refused.

use std::cell::Cell;
use std::time::Duration;

use super::CredentialFault;

/// Verifications a second that all exhausted addresses together get from one worker: 200 of
/// 40 µs are under one percent of it.
const SLOW_LANE_STEP: Duration = Duration::from_millis(5);
/// Requests waiting in the slow lane; with the step this bounds the wait at 1.3 s.
const SLOW_LANE_LENGTH: usize = 256;

/// Where tokens from addresses with an exhausted budget wait, in order, for their verification.
#[derive(Default)]
pub(crate) struct SlowLane {
    waiting: Cell<usize>,
    turn: tokio::sync::Mutex<()>,
}

impl SlowLane {
    pub(super) async fn wait(&self) -> Result<(), CredentialFault> {
        if self.waiting.get() >= SLOW_LANE_LENGTH {
            return Err(CredentialFault::Crowded);
        }
        let _place = Place::taken(&self.waiting);
        let _turn = self.turn.lock().await;
        tokio::time::sleep(SLOW_LANE_STEP).await;
        Ok(())
    }
}

/// A place in the lane, given up also when the one who waits goes away.
struct Place<'l>(&'l Cell<usize>);

impl<'l> Place<'l> {
    fn taken(waiting: &'l Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Place(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slow_lane_is_bounded_and_forgets_who_left() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let lane = SlowLane::default();
            {
                let mut waiting: Vec<_> =
                    (0..SLOW_LANE_LENGTH).map(|_| Box::pin(lane.wait())).collect();
                for one in &mut waiting {
                    assert!(poll_once(one.as_mut()).await.is_none());
                }
                assert_eq!(lane.wait().await, Err(CredentialFault::Crowded));
            }
            assert_eq!(lane.waiting.get(), 0);
            assert_eq!(lane.wait().await, Ok(()));
        });
    }

    /// Polls once.
    async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match future.as_mut().poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
