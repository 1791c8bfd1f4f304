//! Files in the data directory: secrets are 0600 from the moment they exist, writes are whole.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use portcullis_core::entropy::Entropy;
use portcullis_core::secret::Secret;

/// Makes a directory that only its owner enters.
///
/// # Errors
/// When it cannot be made; names it.
pub(crate) fn private_directory(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("the directory `{}` cannot be made", path.display()))
}

/// Writes a file that only its owner reads; refuses to overwrite.
///
/// # Errors
/// When it exists already or cannot be written; names it.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_new(path, bytes, 0o600)
}

/// Writes a new file that everyone may read.
///
/// # Errors
/// When it exists already or cannot be written; names it.
pub(crate) fn write_public(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_new(path, bytes, 0o644)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let said = || format!("the file `{}` cannot be written", path.display());
    if path.exists() {
        anyhow::bail!("the file `{}` exists already: move it away first", path.display());
    }
    write_whole(path, bytes, mode).with_context(said)
}

/// Under a working name first: whoever is killed in between leaves no half file under the real one.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let working = working(path);
    match std::fs::remove_file(&working) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // `create_new` follows no link that somebody laid there.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&working)?;
    let whole = file.write_all(bytes).and_then(|()| file.sync_all());
    // A hard link, since a rename would replace what somebody else made meanwhile.
    let named = whole.and_then(|()| std::fs::hard_link(&working, path));
    let cleared = std::fs::remove_file(&working);
    named.and(cleared)?;
    // The name is on disk only when its folder is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn working(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Reads a secret of ours. One that others could read is closed to them, and that is said: it may
/// have been read.
///
/// # Errors
/// When it cannot be read or closed, or is longer than `longest` bytes.
pub(crate) fn read_secret(path: &Path, longest: u64) -> std::io::Result<Secret<Vec<u8>>> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "others could read this secret; closed to them now");
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    let mut bytes = Vec::new();
    file.take(longest.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(Secret::new(bytes))
}

/// The installation's key-encryption key, made at the first start.
///
/// # Errors
/// When the file cannot be read or made, or is not 32 bytes long.
pub(crate) fn key_encryption_key(
    path: &Path,
    entropy: &dyn Entropy,
) -> anyhow::Result<Secret<[u8; 32]>> {
    if path.exists() {
        let bytes = read_secret(path, 32).with_context(|| format!("`{}`", path.display()))?;
        let key = <[u8; 32]>::try_from(bytes.expose().as_slice());
        return key.map(Secret::new).map_err(|_| {
            anyhow::anyhow!("`{}` is not a key of 32 bytes: restore it", path.display())
        });
    }
    let mut key = [0u8; 32];
    entropy.fill(&mut key);
    write_secret(path, &key)?;
    Ok(Secret::new(key))
}

#[cfg(test)]
mod tests {
    use portcullis_core::entropy::SeededEntropy;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        (folder, path)
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    fn key(path: &Path) -> anyhow::Result<[u8; 32]> {
        key_encryption_key(path, &SeededEntropy::new(1)).map(|key| *key.expose())
    }

    #[test]
    fn a_secret_is_its_owners_alone_and_is_never_overwritten() {
        let (folder, path) = folder();
        write_secret(&path, b"first").expect("written");
        assert_eq!(mode(&path), 0o600);
        write_secret(&path, b"second").expect_err("it exists");
        write_public(&path, b"second").expect_err("it exists");
        assert_eq!(std::fs::read(&path).expect("there"), b"first");
        let left = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 1, "nothing beside it");
        let public = folder.path().join("public");
        write_public(&public, b"x").expect("written");
        assert_eq!(mode(&public), 0o644);
    }

    #[test]
    fn what_a_killed_writer_left_is_no_file_and_stands_in_nobodys_way() {
        let (folder, path) = folder();
        // Half a key under its working name; or a link, laid there to have us write elsewhere.
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(working(&path), b"half").expect("left");
        assert_eq!(key(&path).expect("made"), key(&path).expect("found"));
        std::fs::remove_file(&path).expect("gone");
        std::os::unix::fs::symlink(&elsewhere, working(&path)).expect("laid");
        key(&path).expect("made");
        assert!(!elsewhere.exists());
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_key_that_others_may_read_is_closed_to_them() {
        let (_folder, path) = folder();
        let made = key(&path).expect("made");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("widened");
        assert_eq!(key(&path).expect("found"), made);
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_key_of_another_length_is_refused_and_never_replaced() {
        for length in [0, 31, 33, 64] {
            let (_folder, path) = folder();
            std::fs::write(&path, vec![7; length]).expect("written");
            let fault = key(&path).expect_err("no key").to_string();
            assert!(fault.contains("not a key of 32 bytes"), "{length}: {fault}");
            assert_eq!(std::fs::read(&path).expect("there").len(), length);
        }
    }

    #[test]
    fn a_new_directory_is_its_owners_alone() {
        let (_folder, path) = folder();
        private_directory(&path.join("deep")).expect("made");
        assert_eq!(mode(&path.join("deep")), 0o700);
    }
}
