//! Files in the data directory: secrets are 0600 from the moment they exist, writes are whole.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

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
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(said)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(said)
}

/// The installation's key-encryption key, made at the first start.
///
/// # Errors
/// When the file cannot be read or made, or is not 32 bytes long.
pub(crate) fn key_encryption_key(
    path: &Path,
    entropy: &dyn Entropy,
) -> anyhow::Result<Secret<[u8; 32]>> {
    let mut key = [0u8; 32];
    if path.exists() {
        let mut file = File::open(path).with_context(|| format!("`{}`", path.display()))?;
        file.read_exact(&mut key).with_context(|| {
            format!("`{}` is not a key of 32 bytes: restore it", path.display())
        })?;
    } else {
        entropy.fill(&mut key);
        write_secret(path, &key)?;
    }
    Ok(Secret::new(key))
}
