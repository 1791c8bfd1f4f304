//! The only seam to SQL: open, transact, execute, fetch. A second database is one more folder
//! beside `sqlite` and one more arm in the matches below; no record's file changes.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_core::revocation::{Revocation, Revoked};
use portcullis_core::time::Clock;

use crate::row::{Row, Value};
use crate::sqlite::{self, Job, Shared, Sqlite};

/// What went wrong in the store. Its text is for the log, never for a caller.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// The database refused.
    #[error("the store failed: {0}")]
    Database(String),
    /// A row that must be there is not.
    #[error("not in the store: {0}")]
    Missing(&'static str),
    /// A row that must not be there is: a name taken, an id used.
    #[error("already in the store: {0}")]
    Taken(&'static str),
    /// A text too long, or a list too full, to be kept.
    #[error("more than the store takes: {0}")]
    TooMuch(&'static str),
    /// A login name that is empty, not in its canonical form, or with blanks or control characters
    /// inside.
    #[error("a login name must be lower case, without blanks or control characters")]
    LoginMalformed,
    /// The writer's queue is full: answer 503.
    #[error("the store is busy")]
    Busy,
    /// The file was made by a newer version, or is not ours.
    #[error("{0}")]
    Foreign(String),
    /// Another process, or another store of this one, has the file open.
    #[error("{0}")]
    Held(String),
}

impl StoreFault {
    /// The fault of a store that was closed, or whose thread died.
    pub(crate) fn closed() -> Self {
        StoreFault::Database("it is closed".into())
    }

    /// The same fault once more: one lost commit has many callers.
    pub(crate) fn same(&self) -> Self {
        match self {
            StoreFault::Database(text) => StoreFault::Database(text.clone()),
            StoreFault::Missing(what) => StoreFault::Missing(what),
            StoreFault::Taken(what) => StoreFault::Taken(what),
            StoreFault::TooMuch(what) => StoreFault::TooMuch(what),
            StoreFault::LoginMalformed => StoreFault::LoginMalformed,
            StoreFault::Busy => StoreFault::Busy,
            StoreFault::Foreign(text) => StoreFault::Foreign(text.clone()),
            StoreFault::Held(text) => StoreFault::Held(text.clone()),
        }
    }
}

/// The store. Cheap to clone; all clones share one writer. When the last one goes, what was
/// queued is finished and the file is released, as by [`Store::close`].
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    commits: Arc<AtomicU64>,
}

/// The databases that can stand behind a store.
enum Backend {
    Sqlite(Sqlite),
}

/// One open transaction. Everything remembered is read and written through it.
pub struct Tx {
    link: Link,
    /// To be published after the commit.
    revocations: RefCell<Vec<Revocation>>,
}

/// A transaction's way to its database.
pub(crate) enum Link {
    /// The connection of the thread that runs the transaction.
    Sqlite(Rc<rusqlite::Connection>),
}

/// Most closures that wait for the writer; then [`StoreFault::Busy`]. At a full queue of 50 µs
/// each the last one waits a fifth of a second and some commits: longer helps nobody.
pub const MAX_WAITING: usize = 4096;

impl Store {
    /// Opens or makes the database file (0600, its folder 0700), migrates it, loads the
    /// revocations in force into `revoked`, which the store publishes to after each commit.
    ///
    /// # Errors
    /// [`StoreFault::Held`] when a process has it open (the text names its pid);
    /// [`StoreFault::Foreign`] when the file is of a newer version, of something else, or damaged.
    pub fn open(
        path: &Path,
        revoked: Arc<Revoked>,
        clock: Arc<dyn Clock>,
    ) -> Result<Store, StoreFault> {
        Store::over(revoked, clock, |shared| Sqlite::open(path, shared))
    }

    /// A database in memory: the fake of every test.
    pub fn in_memory(revoked: Arc<Revoked>, clock: Arc<dyn Clock>) -> Result<Store, StoreFault> {
        Store::over(revoked, clock, Sqlite::in_memory)
    }

    fn over(
        revoked: Arc<Revoked>,
        clock: Arc<dyn Clock>,
        open: impl FnOnce(Shared) -> Result<Sqlite, StoreFault>,
    ) -> Result<Store, StoreFault> {
        let commits = Arc::new(AtomicU64::new(0));
        let backend = Backend::Sqlite(open(Shared { revoked, clock, commits: commits.clone() })?);
        Ok(Store { inner: Arc::new(Inner { backend, commits }) })
    }

    /// Runs `work` in a transaction and returns its answer after the commit is on disk and its
    /// revocations are in force. An `Err` rolls back all that `work` wrote: what must be kept
    /// together with a refusal (a counted failure) is returned inside an `Ok`.
    ///
    /// `work` may await only `tx`. Once queued it runs to its end even when this future is dropped.
    ///
    /// # Errors
    /// What `work` returned; or [`StoreFault::Busy`] when too many wait, and
    /// [`StoreFault::Database`] when the commit failed (then nothing was written or published) or
    /// `work` panicked.
    pub async fn transact<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreFault> + Send + 'static,
    {
        let (job, answer) = sqlite::job(work);
        self.inner.backend.write(job)?;
        answer.await.unwrap_or_else(|_stopped| Err(StoreFault::closed().into()))
    }

    /// The same without writing: sees everything that was acknowledged before it was called,
    /// waits for no commit, and any write in it is an error.
    ///
    /// # Errors
    /// As [`Store::transact`].
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreFault> + Send + 'static,
    {
        let (job, answer) = sqlite::job(work);
        self.inner.backend.read(job)?;
        answer.await.unwrap_or_else(|_stopped| Err(StoreFault::closed().into()))
    }

    /// Commits since it was opened (a metric): under load far fewer than transactions.
    pub fn commits(&self) -> u64 {
        self.inner.commits.load(Ordering::Relaxed)
    }

    /// Blocks until everything queued is on disk, stops the writer and releases the file. Clones
    /// that are left answer [`StoreFault::Database`].
    pub fn close(self) {
        self.inner.backend.stop();
    }
}

impl Backend {
    fn write(&self, job: Box<dyn Job>) -> Result<(), StoreFault> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.write(job),
        }
    }

    fn read(&self, job: Box<dyn Job>) -> Result<(), StoreFault> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.read(job),
        }
    }

    fn stop(&self) {
        match self {
            Backend::Sqlite(sqlite) => sqlite.stop(),
        }
    }
}

impl Tx {
    pub(crate) fn over(link: Link) -> Self {
        Tx { link, revocations: RefCell::default() }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Runs a statement; returns how many rows it changed.
    pub(crate) async fn execute(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<usize, StoreFault> {
        self.link.execute(sql, values)
    }

    /// Runs a statement; returns its rows.
    pub(crate) async fn fetch(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Vec<Row>, StoreFault> {
        self.link.fetch(sql, values)
    }

    /// Runs a statement whose answer is one row or none.
    pub(crate) async fn fetch_one(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Option<Row>, StoreFault> {
        Ok(self.fetch(sql, values).await?.pop())
    }

    /// Has a revocation published after the commit.
    pub(crate) fn publish_later(&self, revocation: Revocation) {
        self.revocations.borrow_mut().push(revocation);
    }

    /// What to publish, now that it is committed.
    pub(crate) fn into_revocations(self) -> Vec<Revocation> {
        self.revocations.into_inner()
    }
}

impl Link {
    pub(crate) fn execute(&self, sql: &'static str, values: &[Value]) -> Result<usize, StoreFault> {
        match self {
            Link::Sqlite(connection) => sqlite::execute(connection, sql, values),
        }
    }

    pub(crate) fn fetch(
        &self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Vec<Row>, StoreFault> {
        match self {
            Link::Sqlite(connection) => sqlite::fetch(connection, sql, values),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};

    use portcullis_core::revocation::RevocationKind;

    use super::*;
    use crate::row::bind;
    use crate::testing::{World, later, memory, on_disk};
    use crate::used::UsedKind;

    type Holder = Pin<Box<dyn Future<Output = Result<(), StoreFault>>>>;

    /// Holds the writer until the sender is used, so that what follows gathers in its queue.
    fn hold(world: &World) -> (mpsc::Sender<()>, Holder) {
        let (release, held) = mpsc::channel::<()>();
        let store = world.store.clone();
        let mut job: Holder = Box::pin(async move {
            let work = async move |_tx: &Tx| {
                held.recv().map_err(|_| StoreFault::Missing("a release"))?;
                Ok::<_, StoreFault>(())
            };
            store.transact(work).await
        });
        assert!(queue(&mut job).is_none());
        (release, job)
    }

    /// Polls once: the job is queued, and answered only if it was refused.
    fn queue<T>(job: &mut Pin<Box<impl Future<Output = T> + ?Sized>>) -> Option<T> {
        match job.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn an_err_rolls_back_its_own_writes_and_no_sibling_s() {
        let world = memory();
        let (release, held) = hold(&world);
        let sibling = world.store.transact(async |tx: &Tx| tx.remember_fact("a", "kept").await);
        let failing = world.store.transact(async |tx: &Tx| {
            tx.remember_fact("b", "lost").await?;
            tx.revoke(RevocationKind::Token, "t_x", later(60)).await?;
            Err::<(), _>(StoreFault::Taken("on purpose"))
        });
        let (mut sibling, mut failing) = (Box::pin(sibling), Box::pin(failing));
        assert!(queue(&mut sibling).is_none() && queue(&mut failing).is_none());
        release.send(()).expect("release");
        held.await.expect("the holder");
        sibling.await.expect("the sibling");
        assert!(matches!(failing.await, Err(StoreFault::Taken("on purpose"))));
        world
            .transact(async |tx: &Tx| {
                assert_eq!(tx.fact("a").await?.as_deref(), Some("kept"));
                assert_eq!(tx.fact("b").await?, None);
                assert_eq!(tx.revision().await?, 0);
                Ok(())
            })
            .await;
        assert_eq!(world.revoked.len(), 0);
    }

    #[tokio::test]
    async fn a_panic_rolls_back_and_leaves_the_writer_alive() {
        let world = memory();
        let answer = world
            .store
            .transact(async |tx: &Tx| {
                tx.remember_fact("a", "lost").await?;
                if tx.revision().await? == 0 {
                    panic!("on purpose");
                }
                Ok::<_, StoreFault>(())
            })
            .await;
        assert_eq!(
            answer.expect_err("a panic").to_string(),
            "the store failed: a transaction panicked"
        );
        assert_eq!(world.transact(async |tx: &Tx| tx.fact("a").await).await, None);
    }

    #[tokio::test]
    async fn a_future_that_pends_is_refused() {
        let world = memory();
        let answer = world
            .store
            .transact(async |tx: &Tx| {
                tx.remember_fact("a", "lost").await?;
                std::future::pending::<()>().await;
                Ok::<_, StoreFault>(())
            })
            .await;
        assert!(answer.expect_err("pending").to_string().contains("other than its `tx`"));
        assert_eq!(world.transact(async |tx: &Tx| tx.fact("a").await).await, None);
    }

    #[tokio::test]
    async fn busy() {
        let world = memory();
        let (release, held) = hold(&world);
        let job = || Box::pin(world.store.transact(async |tx: &Tx| tx.revision().await));
        let mut waiting = Vec::new();
        // One more than waits, if the writer has already taken the holder out of the queue.
        let refused = loop {
            let mut one = job();
            match queue(&mut one) {
                None => waiting.push(one),
                Some(answer) => break answer,
            }
            assert!(waiting.len() <= MAX_WAITING, "nothing is refused");
        };
        assert!(matches!(refused, Err(StoreFault::Busy)));
        assert!(waiting.len() >= MAX_WAITING - 1);
        release.send(()).expect("release");
        held.await.expect("the holder");
        for one in waiting {
            assert_eq!(one.await.expect("waited"), 0);
        }
    }

    #[tokio::test]
    async fn waiting_transactions_share_a_commit() {
        let folder = tempfile::tempdir().expect("a folder");
        let world = on_disk(&folder.path().join("a.db")).expect("open");
        let (release, held) = hold(&world);
        let mut waiting: Vec<_> = (0..64)
            .map(|n| {
                let work = async move |tx: &Tx| tx.remember_fact(&n.to_string(), "x").await;
                Box::pin(world.store.transact(work))
            })
            .collect();
        assert!(waiting.iter_mut().all(|job| queue(job).is_none()));
        release.send(()).expect("release");
        held.await.expect("the holder");
        for job in waiting {
            job.await.expect("a fact");
        }
        assert_eq!(world.store.commits(), 1, "the holder and 64 that waited behind it");
    }

    #[tokio::test]
    async fn a_failed_commit_undoes_answers_and_publishes_for_the_whole_batch() {
        let world = memory();
        let (release, held) = hold(&world);
        let mut revoking =
            Box::pin(world.store.transact(async |tx: &Tx| {
                tx.revoke(RevocationKind::Token, "t_x", later(60)).await
            }));
        let mut breaking = Box::pin(world.store.transact(async |tx: &Tx| {
            // A foreign key that is looked at only by the commit, and broken.
            tx.execute("PRAGMA defer_foreign_keys = ON", bind![]).await?;
            let sql = "INSERT INTO passwords (user_id, hash, one_off) VALUES ('u_none', '', 0)";
            tx.execute(sql, bind![]).await
        }));
        let mut refusing = Box::pin(
            world.store.transact(async |_: &Tx| Err::<(), _>(StoreFault::Missing("something"))),
        );
        assert!(queue(&mut revoking).is_none());
        assert!(queue(&mut breaking).is_none());
        assert!(queue(&mut refusing).is_none());
        release.send(()).expect("release");
        assert!(matches!(held.await, Err(StoreFault::Database(_))), "in the batch too");
        assert!(matches!(revoking.await, Err(StoreFault::Database(_))));
        assert!(matches!(breaking.await, Err(StoreFault::Database(_))));
        assert!(matches!(refusing.await, Err(StoreFault::Database(_))));
        assert_eq!(world.revoked.len(), 0);
        // And the writer goes on from where it was.
        assert_eq!(world.transact(async |tx: &Tx| tx.revision().await).await, 0);
    }

    #[tokio::test]
    async fn a_transaction_that_sqlite_ended_by_itself_is_lost_for_all_in_it() {
        let world = memory();
        let answer = world
            .store
            .transact(async |tx: &Tx| {
                tx.remember_fact("a", "lost").await?;
                // As a full disk does.
                tx.execute("ROLLBACK", bind![]).await
            })
            .await;
        assert!(matches!(answer, Err(StoreFault::Database(_))));
        assert_eq!(world.transact(async |tx: &Tx| tx.fact("a").await).await, None);
    }

    #[tokio::test]
    async fn a_read_sees_what_was_acknowledged_and_cannot_write() {
        let folder = tempfile::tempdir().expect("a folder");
        for world in [memory(), on_disk(&folder.path().join("a.db")).expect("open")] {
            for n in 0..20 {
                let value = n.to_string();
                let written = value.clone();
                world.transact(async move |tx: &Tx| tx.remember_fact("n", &written).await).await;
                let read = world.store.read(async |tx: &Tx| tx.fact("n").await).await;
                assert_eq!(read.expect("a read"), Some(value));
            }
            let commits = world.store.commits();
            let write = world.store.read(async |tx: &Tx| tx.remember_fact("n", "x").await).await;
            assert!(matches!(write, Err(StoreFault::Database(_))));
            let panicking = world.store.read(async |tx: &Tx| match tx.revision().await {
                Ok(_) => panic!("on purpose"),
                Err(fault) => Err::<(), StoreFault>(fault),
            });
            assert!(matches!(panicking.await, Err(StoreFault::Database(_))));
            assert_eq!(world.store.commits(), commits, "a read commits nothing");
            let value = world.transact(async |tx: &Tx| tx.fact("n").await).await;
            assert_eq!(value.as_deref(), Some("19"));
        }
    }

    #[tokio::test]
    async fn a_read_waits_for_no_writer() {
        let folder = tempfile::tempdir().expect("a folder");
        let world = on_disk(&folder.path().join("a.db")).expect("open");
        let (release, held) = hold(&world);
        let read = world.store.read(async |tx: &Tx| tx.revision().await).await;
        assert_eq!(read.expect("while a transaction is open"), 0);
        release.send(()).expect("release");
        held.await.expect("the holder");
    }

    #[tokio::test]
    async fn a_closed_store_says_so_and_what_was_queued_is_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let world = on_disk(&path).expect("open");
        let clone = world.store.clone();
        let mut queued = Box::pin(
            clone.transact(async |tx: &Tx| tx.first_use(UsedKind::Code, "a", later(60)).await),
        );
        assert!(queue(&mut queued).is_none());
        world.store.close();
        assert!(queued.await.expect("it was queued before"));
        let after = clone.transact(async |tx: &Tx| tx.revision().await).await;
        assert_eq!(after.expect_err("closed").to_string(), "the store failed: it is closed");
        let again = on_disk(&path).expect("the file is free");
        assert!(
            !again
                .transact(async |tx: &Tx| tx.first_use(UsedKind::Code, "a", later(60)).await)
                .await
        );
    }
}
