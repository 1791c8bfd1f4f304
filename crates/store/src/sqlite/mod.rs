//! The embedded database.
//!
//! One thread owns the connection that writes ([`writer`]): closures of `transact` run there
//! inside `BEGIN IMMEDIATE`, each in a savepoint of its own, and are answered after one commit for
//! all that waited. Another thread owns a connection that only reads, so that reads wait for no
//! `fsync`; the write-ahead log shows it every commit that has been acknowledged. A database in
//! memory has only the writer.
//!
//! Nothing is written while nobody asks: checkpoints and forgetting ride on commits.

mod connection;
mod files;
mod job;
mod lock;
mod writer;

pub(crate) use connection::{execute, fetch};
pub(crate) use job::{Job, Verdict, job};

use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use portcullis_core::revocation::Revoked;
use portcullis_core::time::Clock;
use rusqlite::Connection;

use crate::database::{Link, MAX_WAITING, StoreFault, Tx};
use crate::{migrate, revocations};
use writer::Writer;

/// The threads of an open database.
pub(crate) struct Sqlite {
    reader: Option<Lane>,
    writer: Lane,
}

/// What the writer shares with the store.
pub(crate) struct Shared {
    /// Where revocations are published.
    pub(crate) revoked: Arc<Revoked>,
    /// For forgetting what expired.
    pub(crate) clock: Arc<dyn Clock>,
    /// Commits so far.
    pub(crate) commits: Arc<AtomicU64>,
}

/// What a thread is asked.
enum Message {
    Write(Box<dyn Job>),
    Read(Box<dyn Job>),
    Stop,
}

impl Sqlite {
    /// Opens or makes a database file and starts its threads.
    pub(crate) fn open(path: &Path, shared: Shared) -> Result<Sqlite, StoreFault> {
        files::make_folder(path)?;
        let lock = lock::Lock::take(path)?;
        // Made here, so that it is private before SQLite writes the first byte; closed again
        // before SQLite opens it.
        drop(files::open_private(path).map_err(|error| files::refused("open", path, &error))?);
        let connection = connection::open_writer(path)?;
        migrate::ours(&connection)
            .map_err(|error| connection::fault_of_file(path, error))?
            .named(path)?;
        connection::durable(&connection)?;
        let connection = start(connection, &shared)?;
        let reading = connection::open_reader(path)?;
        let writer = Lane::start("store-writer", move |queue| {
            Writer::new(connection, shared, queue).run();
            drop(lock);
        })?;
        let reader = Lane::start("store-reader", move |queue| serve_reads(reading, &queue))?;
        Ok(Sqlite { reader: Some(reader), writer })
    }

    /// Makes a database in memory and starts its one thread.
    pub(crate) fn in_memory(shared: Shared) -> Result<Sqlite, StoreFault> {
        let connection = start(connection::open_memory()?, &shared)?;
        let writer = Lane::start("store-writer", move |queue| {
            Writer::new(connection, shared, queue).run();
        })?;
        Ok(Sqlite { reader: None, writer })
    }

    /// Queues a job that writes.
    pub(crate) fn write(&self, job: Box<dyn Job>) -> Result<(), StoreFault> {
        self.writer.send(Message::Write(job))
    }

    /// Queues a job that only reads.
    pub(crate) fn read(&self, job: Box<dyn Job>) -> Result<(), StoreFault> {
        self.reader.as_ref().unwrap_or(&self.writer).send(Message::Read(job))
    }

    /// Stops the threads; what was queued before is finished first.
    pub(crate) fn stop(&self) {
        // The reader first: the last connection to close empties the log into the file, and only
        // the writer may.
        if let Some(reader) = &self.reader {
            reader.stop();
        }
        self.writer.stop();
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Migrates, and puts the revocations in force before anybody can ask.
fn start(connection: Connection, shared: &Shared) -> Result<Connection, StoreFault> {
    migrate::migrate(&connection)?;
    let now = shared.clock.now();
    let mut after = 0;
    loop {
        let page =
            revocations::in_force(|sql, values| fetch(&connection, sql, values), after, now)?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        shared.revoked.publish(&page, now);
    }
    Ok(connection)
}

/// The reader's loop: each job sees one snapshot, taken after it was asked.
fn serve_reads(connection: Connection, queue: &Receiver<Message>) {
    let connection = Rc::new(connection);
    while let Ok(message) = queue.recv() {
        match message {
            Message::Read(mut job) | Message::Write(mut job) => {
                let fault = look(&connection, &mut *job).err();
                job.answer(fault.as_ref());
            }
            Message::Stop => break,
        }
    }
}

/// Runs a job in a transaction that leaves nothing behind.
fn look(connection: &Rc<Connection>, job: &mut dyn Job) -> Result<(), StoreFault> {
    let step = |sql: &'static str| execute(connection, sql, &[]);
    step("BEGIN")?;
    job.run(&Tx::over(Link::Sqlite(connection.clone())));
    if connection.is_autocommit() {
        // SQLite has ended it by itself; the job's own statement has failed and says so.
        return Ok(());
    }
    step("ROLLBACK").map(drop)
}

/// A thread and its bounded queue.
struct Lane {
    queue: SyncSender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Lane {
    fn start(
        name: &str,
        run: impl FnOnce(Receiver<Message>) + Send + 'static,
    ) -> Result<Lane, StoreFault> {
        let (queue, arrivals) = sync_channel(MAX_WAITING);
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || run(arrivals))
            .map_err(|error| StoreFault::Database(format!("cannot start a thread: {error}")))?;
        Ok(Lane { queue, thread: Mutex::new(Some(thread)) })
    }

    fn send(&self, message: Message) -> Result<(), StoreFault> {
        self.queue.try_send(message).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreFault::Busy,
            TrySendError::Disconnected(_) => StoreFault::closed(),
        })
    }

    fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        if thread.thread().id() == std::thread::current().id() {
            // A closure dropped the last clone on the very thread that would be awaited. With a
            // full queue it cannot be told; then it ends when the queue's last sender goes.
            let _full = self.queue.try_send(Message::Stop);
            return;
        }
        // The thread may be gone already; then there is nothing to stop.
        let _gone = self.queue.send(Message::Stop);
        let _panicked = thread.join();
    }
}

#[cfg(test)]
mod crash;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use portcullis_core::revocation::RevocationKind;

    use crate::database::{StoreFault, Tx};
    use crate::testing::{later, on_disk};

    #[tokio::test]
    async fn a_commit_is_on_disk_before_it_is_acknowledged() {
        let folder = tempfile::tempdir().expect("a folder");
        let world = on_disk(&folder.path().join("a.db")).expect("open");
        for (sql, value) in [
            ("SELECT journal_mode AS value FROM pragma_journal_mode", "wal"),
            // 2 is FULL: the log is synchronised at each commit.
            ("SELECT CAST(synchronous AS TEXT) AS value FROM pragma_synchronous", "2"),
            ("SELECT CAST(foreign_keys AS TEXT) AS value FROM pragma_foreign_keys", "1"),
            ("SELECT CAST(trusted_schema AS TEXT) AS value FROM pragma_trusted_schema", "0"),
        ] {
            let row = world
                .transact(async move |tx: &Tx| {
                    tx.fetch_one(sql, &[])
                        .await?
                        .map(|row| row.text("value").map(str::to_owned))
                        .transpose()
                })
                .await;
            assert_eq!(row.as_deref(), Some(value), "{sql}");
        }
    }

    #[test]
    fn the_last_clone_may_go_inside_a_transaction() {
        let folder = tempfile::tempdir().expect("a folder");
        let world = on_disk(&folder.path().join("a.db")).expect("open");
        let (clone, store) = (world.store.clone(), world.store.clone());
        let (dropping, held) = mpsc::channel::<()>();
        let (done, dropped) = mpsc::channel();
        let mut job = Box::pin(async move {
            let work = async move |_: &Tx| {
                held.recv().map_err(|_| StoreFault::Missing("a signal"))?;
                drop(clone);
                done.send(()).map_err(|_| StoreFault::Missing("a listener"))
            };
            store.transact(work).await
        });
        let queued = job.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(queued.is_pending());
        // The caller hangs up, and everybody else goes.
        drop((job, world));
        dropping.send(()).expect("the closure waits");
        dropped.recv().expect("the thread does not wait for itself");
    }

    #[test]
    fn held() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let first = on_disk(&path).expect("open");
        let fault = on_disk(&path).err().expect("a second store");
        assert!(matches!(fault, StoreFault::Held(_)));
        assert_eq!(
            fault.to_string(),
            format!(
                "`{}` is in use by process {}; stop it first, or name another data directory",
                path.display(),
                std::process::id()
            )
        );
        drop(first);
        on_disk(&path).expect("the last clone has gone");
    }

    #[cfg(unix)]
    #[test]
    fn everything_made_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/data/a.db");
        let world = on_disk(&path).expect("open");
        let data = path.parent().expect("a parent");
        let mode = |path: &std::path::Path| {
            fs::metadata(path).expect("metadata").permissions().mode() & 0o777
        };
        assert_eq!(mode(data), 0o700);
        let mut files = 0;
        for file in fs::read_dir(data).expect("a folder") {
            let file = file.expect("an entry").path();
            assert_eq!(mode(&file), 0o600, "{}", file.display());
            files += 1;
        }
        assert!(files >= 4, "the database, its log, its index, the lock: {files}");
        drop(world);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("widen");
        let _world = on_disk(&path).expect("open");
        assert_eq!(mode(&path), 0o600, "what was too wide is narrowed");
    }

    #[test]
    fn foreign() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let refused = || match on_disk(&path).err().expect("refused") {
            StoreFault::Foreign(text) => text.replace(&path.display().to_string(), "a.db"),
            other => panic!("{other}"),
        };
        fs::write(&path, "not a database at all, but long enough to have a header".repeat(100))
            .expect("write");
        assert_eq!(
            refused(),
            "`a.db` is not a database; name another file, or restore it from a backup"
        );
        fs::remove_file(&path).expect("remove");
        let theirs = rusqlite::Connection::open(&path).expect("open");
        theirs.execute_batch("CREATE TABLE theirs (x)").expect("create");
        theirs.close().expect("close");
        let before = fs::read(&path).expect("read");
        assert_eq!(refused(), "`a.db` is a database of something else; name another file");
        assert_eq!(fs::read(&path).expect("read"), before, "it was not touched");
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        drop(on_disk(&path).expect("make"));
        let newer = rusqlite::Connection::open(&path).expect("open");
        newer.pragma_update(None, "user_version", 99).expect("set");
        newer.close().expect("close");
        let fault = on_disk(&path).err().expect("newer");
        assert!(matches!(fault, StoreFault::Foreign(_)));
        assert!(fault.to_string().contains("has schema 99"), "{fault}");
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        drop(on_disk(&path).expect("make"));
        let mut bytes = fs::read(&path).expect("read");
        // The b-tree header of the schema's page, behind the file's header of 100 bytes.
        bytes[100..400].fill(0xff);
        fs::write(&path, &bytes).expect("write");
        let fault = on_disk(&path).err().expect("damaged");
        assert!(matches!(fault, StoreFault::Foreign(_)), "{fault}");
        assert!(fault.to_string().ends_with("is damaged; restore it from a backup"), "{fault}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("file"), "").expect("write");
        let fault = on_disk(&folder.path().join("file/a.db")).err().expect("refused");
        assert!(fault.to_string().contains("cannot make the folder"), "{fault}");
    }

    #[tokio::test]
    async fn revocations_are_in_force_again_when_the_store_opens() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let world = on_disk(&path).expect("open");
        world
            .transact(async |tx: &Tx| {
                tx.revoke(RevocationKind::Token, "t_short", later(0)).await?;
                for n in 0..3 {
                    let name = format!("t_{n}");
                    tx.revoke(RevocationKind::Token, &name, later(60)).await?;
                }
                Ok(())
            })
            .await;
        world.store.close();
        let world = on_disk(&path).expect("open");
        assert_eq!(world.revoked.len(), 3);
        assert!(world.kills_at(3, RevocationKind::Token, "t_2"));
        assert!(!world.kills_at(4, RevocationKind::Token, "t_2"));
        assert!(!world.kills(RevocationKind::Token, "t_short"));
        let next = world
            .transact(async |tx: &Tx| tx.revoke(RevocationKind::All, "", later(60)).await)
            .await;
        assert_eq!(next, 5, "the sequence goes on");
    }
}
