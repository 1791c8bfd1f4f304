//! One process per data file: an exclusive lock beside it, held for as long as the store is open.
//!
//! The kernel drops the lock with its process, however that dies; the file itself stays and
//! carries the last holder's pid. It is taken before anything touches the database: closing any
//! other handle of that file would drop the locks that SQLite holds in this process.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::database::StoreFault;

/// Longest text read from a lock file: a pid.
const MAX_HOLDER: u64 = 20;

/// The lock; dropping it lets the next process in.
#[derive(Debug)]
pub(crate) struct Lock {
    // INVARIANT: open, and locked, for as long as a connection to the database is.
    file: File,
}

impl Lock {
    /// Takes the lock of a database file.
    ///
    /// # Errors
    /// [`StoreFault::Held`] when another store has it; its text names the other's pid.
    pub(crate) fn take(database: &Path) -> Result<Lock, StoreFault> {
        let path = beside(database);
        let mut file = super::files::open_private(&path)
            .map_err(|error| super::files::refused("open the lock", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(database, &mut file)),
            Err(TryLockError::Error(error)) => {
                return Err(super::files::refused("lock", &path, &error));
            }
        }
        // The pid is for people: a lock without it still holds.
        let _unnamed = name_holder(&mut file);
        Ok(Lock { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, but for a child of ours that is just being started and still has the
        // handle: unlocking says it for all copies. When it fails, closing is what is left.
        let _closed = self.file.unlock();
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn name_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn held(database: &Path, file: &mut File) -> StoreFault {
    let mut pid = String::new();
    let read = file.take(MAX_HOLDER).read_to_string(&mut pid);
    let holder = match (read, pid.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        (Ok(_), Err(_)) | (Err(_), _) => "another process".to_owned(),
    };
    StoreFault::Held(format!(
        "`{}` is in use by {holder}; stop it first, or name another data directory",
        database.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_handle_does_not_keep_the_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let lock = Lock::take(&path).expect("free");
        // What a child has between its start and its `exec`.
        let _copy = lock.file.try_clone().expect("a copy");
        assert!(matches!(Lock::take(&path), Err(StoreFault::Held(_))));
        drop(lock);
        Lock::take(&path).expect("free again");
    }

    #[test]
    fn a_holder_without_a_name_still_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let lock = Lock::take(&path).expect("free");
        lock.file.set_len(0).expect("empty");
        let fault = Lock::take(&path).expect_err("held");
        assert!(fault.to_string().contains("in use by another process;"), "{fault}");
    }
}
