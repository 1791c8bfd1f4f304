//! A closure on its way to a thread of the store and its answer on the way back.
//!
//! A job runs at once and is answered later, after the commit; so one object holds both the
//! closure and, between the two, its outcome.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use crate::database::{StoreFault, Tx};

/// A closure with its types erased.
pub(crate) trait Job: Send {
    /// Runs the closure and keeps its outcome; says whether its writes may stay.
    fn run(&mut self, tx: &Tx) -> Verdict;
    /// Hands the outcome back, or instead of it the fault that undid the whole batch.
    fn answer(self: Box<Self>, undone: Option<&StoreFault>);
}

/// What becomes of a closure's writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    Undo,
}

/// Where the outcome arrives.
pub(crate) type Answer<T, E> = oneshot::Receiver<Result<T, E>>;

struct Work<F, T, E> {
    closure: Option<F>,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

/// Makes a job of a closure.
pub(crate) fn job<T, E, F>(closure: F) -> (Box<dyn Job>, Answer<T, E>)
where
    F: AsyncFnOnce(&Tx) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<StoreFault> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Work { closure: Some(closure), outcome: None, reply }), answer)
}

impl<T, E, F> Job for Work<F, T, E>
where
    F: AsyncFnOnce(&Tx) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreFault> + Send,
{
    fn run(&mut self, tx: &Tx) -> Verdict {
        // It runs even when its caller has gone: who hangs up early must not escape being counted.
        let outcome = match self.closure.take() {
            Some(closure) => at_once(closure, tx),
            None => Err(fault("a transaction ran twice").into()),
        };
        let verdict = if outcome.is_ok() { Verdict::Keep } else { Verdict::Undo };
        self.outcome = Some(outcome);
        verdict
    }

    fn answer(self: Box<Self>, undone: Option<&StoreFault>) {
        let outcome = match (undone, self.outcome) {
            // Also an `Err` of the closure's own: it may rest on what a sibling had written.
            (Some(fault), _) => Err(fault.same().into()),
            (None, Some(outcome)) => outcome,
            (None, None) => Err(fault("a transaction was answered before it ran").into()),
        };
        // A caller that has gone needs no answer.
        let _gone = self.reply.send(outcome);
    }
}

/// Polls the closure's future once. SQLite answers inside the call, so a future that pends waits
/// for something that is not its `tx`, and everybody behind it would wait too.
fn at_once<T, E, F>(closure: F, tx: &Tx) -> Result<T, E>
where
    F: AsyncFnOnce(&Tx) -> Result<T, E>,
    E: From<StoreFault>,
{
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let mut future = pin!(closure(tx));
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }));
    match polled {
        Ok(Poll::Ready(outcome)) => outcome,
        Ok(Poll::Pending) => {
            Err(fault("a transaction awaited something other than its `tx`").into())
        }
        // The panic hook has printed it; its savepoint is rolled back and the thread lives on.
        Err(_panic) => Err(fault("a transaction panicked").into()),
    }
}

fn fault(message: &str) -> StoreFault {
    StoreFault::Database(message.to_owned())
}
