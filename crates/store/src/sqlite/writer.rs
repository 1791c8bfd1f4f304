//! Group commit: the loop of the one thread that writes.
//!
//! A batch opens with the first job that waits, takes in whatever else waits for at most
//! [`BATCH`], commits once, puts the revocations in force, and only then answers. When nothing
//! else waits it commits at once. While the disk works the next batch gathers in the queue, so
//! the busier it is, the more share one `fsync`.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use portcullis_core::revocation::Revocation;
use portcullis_core::time::Timestamp;
use rusqlite::Connection;
use tokio::time::Instant;

use super::{Job, Message, Shared, Verdict, execute, look};
use crate::database::{Link, StoreFault, Tx};
use crate::used;

/// Longest time that a batch takes jobs in, so that its first one does not wait for ever.
/// Tests own their time: there, what waits together shares a batch however slow the machine is.
const BATCH: Duration = if cfg!(test) { Duration::from_secs(60) } else { Duration::from_millis(2) };

/// How often a batch drops what expired.
const FORGET: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    connection: Rc<Connection>,
    shared: Shared,
    queue: Receiver<Message>,
    forgotten: Timestamp,
}

/// Jobs that ran and wait for their commit.
#[derive(Default)]
struct Batch {
    ran: Vec<Box<dyn Job>>,
    revocations: Vec<Revocation>,
    /// Set when the transaction is lost: then nothing in it happened.
    lost: Option<StoreFault>,
}

impl Writer {
    pub(super) fn new(connection: Connection, shared: Shared, queue: Receiver<Message>) -> Self {
        let forgotten = shared.clock.now();
        Writer { connection: Rc::new(connection), shared, queue, forgotten }
    }

    pub(super) fn run(mut self) {
        let mut held = None;
        while let Some(message) = held.take().or_else(|| self.queue.recv().ok()) {
            match message {
                Message::Write(job) => held = self.batch(job),
                Message::Read(mut job) => {
                    let fault = self.look(&mut *job).err();
                    job.answer(fault.as_ref());
                }
                Message::Stop => break,
            }
        }
    }

    /// One batch. Returns the message that ended it, if one that is not a write did.
    fn batch(&mut self, first: Box<dyn Job>) -> Option<Message> {
        let mut batch = Batch::default();
        let mut held = None;
        if let Err(fault) = self.step("BEGIN IMMEDIATE") {
            first.answer(Some(&fault));
            return None;
        }
        let began = Instant::now();
        self.take_in(first, &mut batch);
        while batch.lost.is_none() && began.elapsed() < BATCH {
            match self.queue.try_recv() {
                Ok(Message::Write(job)) => self.take_in(job, &mut batch),
                Ok(other) => {
                    held = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        self.finish(batch);
        held
    }

    /// Runs a job in a savepoint of its own.
    fn take_in(&self, mut job: Box<dyn Job>, batch: &mut Batch) {
        if let Err(fault) = self.step("SAVEPOINT one") {
            batch.lost = Some(fault);
            batch.ran.push(job);
            return;
        }
        let tx = Tx::over(Link::Sqlite(self.connection.clone()));
        let verdict = job.run(&tx);
        batch.ran.push(job);
        let kept = match verdict {
            Verdict::Keep => self.step("RELEASE one"),
            Verdict::Undo => self.step("ROLLBACK TO one").and_then(|()| self.step("RELEASE one")),
        };
        if let Err(fault) = kept {
            // A full disk or a failed read makes SQLite undo the whole transaction by itself.
            batch.lost = Some(fault);
        } else if verdict == Verdict::Keep {
            batch.revocations.append(&mut tx.into_revocations());
        }
    }

    /// Commits, publishes, answers: in this order and no other.
    fn finish(&mut self, mut batch: Batch) {
        let now = self.shared.clock.now();
        if batch.lost.is_none() {
            self.forget(now);
            batch.lost = self.step("COMMIT").err();
        }
        if let Some(fault) = &batch.lost {
            tracing::error!(%fault, jobs = batch.ran.len(), "a batch of transactions was lost");
            if !self.connection.is_autocommit()
                && let Err(fault) = self.step("ROLLBACK")
            {
                tracing::error!(%fault, "and could not be rolled back");
            }
        } else {
            self.shared.commits.fetch_add(1, Ordering::Relaxed);
            // INVARIANT: in force before any caller learns that it revoked something.
            if !batch.revocations.is_empty() {
                self.shared.revoked.publish(&batch.revocations, now);
            }
        }
        for job in batch.ran {
            job.answer(batch.lost.as_ref());
        }
    }

    /// Now and then drops what expired, within a commit that happens anyway: no write while idle.
    fn forget(&mut self, now: Timestamp) {
        if now.since(self.forgotten) < FORGET {
            return;
        }
        let forgotten = self.step("SAVEPOINT forget").and_then(|()| {
            let dropped = used::forget(&Link::Sqlite(self.connection.clone()), now);
            if dropped.is_err() {
                self.step("ROLLBACK TO forget")?;
            }
            self.step("RELEASE forget")?;
            dropped
        });
        match forgotten {
            // A full thousand: more may wait, so the next commit goes on.
            Ok(dropped) if dropped >= used::FORGET_ROWS => {}
            Ok(_) => {
                self.forgotten = now;
                self.shared.revoked.publish(&[], now);
            }
            Err(fault) => {
                self.forgotten = now;
                tracing::warn!(%fault, "could not drop what expired");
            }
        }
    }

    /// A read of a database in memory, which has no second connection.
    fn look(&self, job: &mut dyn Job) -> Result<(), StoreFault> {
        self.step("PRAGMA query_only = ON")?;
        let looked = look(&self.connection, job);
        self.step("PRAGMA query_only = OFF")?;
        looked
    }

    fn step(&self, sql: &'static str) -> Result<(), StoreFault> {
        execute(&self.connection, sql, &[]).map(drop)
    }
}
