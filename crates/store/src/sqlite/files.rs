//! Files that only their owner may read: the database holds password hashes and sealed keys.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use crate::database::StoreFault;

/// Makes the folder of a database file (0700) when it is not there. One that is there keeps its
/// rights: it may be the operator's, or everybody's.
pub(crate) fn make_folder(database: &Path) -> Result<(), StoreFault> {
    let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| refused("make the folder", folder, &error))
}

/// Opens or makes a file that only its owner may read and write.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    narrow(&file)?;
    Ok(file)
}

/// A file that was there before may have wider rights than ours; SQLite gives its companions
/// (`-wal`, `-shm`) the rights of the database.
#[cfg(unix)]
fn narrow(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn narrow(_file: &File) -> io::Result<()> {
    Ok(())
}

/// The fault of a file that the system would not let us touch.
pub(crate) fn refused(doing: &str, path: &Path, error: &io::Error) -> StoreFault {
    StoreFault::Database(format!("cannot {doing} `{}`: {error}", path.display()))
}
