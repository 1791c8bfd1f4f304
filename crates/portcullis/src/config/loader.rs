//! Where the reader gets what the file points at: other files, and the environment.
//!
//! One seam, so that tests read from memory and `check` provably opens nothing but files. Nothing
//! here fetches over the network.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Largest file that is read whole, in bytes: an OpenAPI document may have 32 MiB.
pub(crate) const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;

/// Most names of a folder that are looked at.
pub(crate) const MAX_LISTED: usize = 10_000;

/// Files and environment.
pub(crate) trait Loader {
    /// The bytes of a file.
    ///
    /// # Errors
    /// What the system says; a file over [`MAX_FILE_BYTES`] is an error too.
    fn file(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The names of the files in a folder, at most [`MAX_LISTED`], in no order.
    ///
    /// # Errors
    /// What the system says.
    fn folder(&self, path: &Path) -> io::Result<Vec<String>>;
    /// A variable of the environment, if it is set to Unicode text.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The machine's own files and environment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Disk;

impl Loader for Disk {
    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other("larger than 32 MiB"));
        }
        Ok(bytes)
    }

    fn folder(&self, path: &Path) -> io::Result<Vec<String>> {
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let entries = std::fs::read_dir(here)?.take(MAX_LISTED).flatten();
        let files = entries.filter(|entry| entry.path().is_file());
        Ok(files.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// Files in memory, for tests.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    files: BTreeMap<String, Vec<u8>>,
}

#[cfg(test)]
impl Memory {
    /// Adds a file; its name is the path as the config's reader joins it.
    pub(crate) fn with_file(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), bytes.into());
        self
    }
}

#[cfg(test)]
impl Loader for Memory {
    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no such file");
        self.files.get(&path.to_string_lossy().into_owned()).cloned().ok_or_else(missing)
    }

    fn folder(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = self.files.keys().filter_map(|known| {
            let known = Path::new(known);
            let name = known.file_name().filter(|_| known.parent() == Some(path))?;
            Some(name.to_string_lossy().into_owned())
        });
        Ok(names.collect())
    }

    fn variable(&self, _name: &str) -> Option<String> {
        None
    }
}

/// The texts that faults point into, by the name that their places carry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(BTreeMap<Arc<str>, Arc<str>>);

impl Sources {
    /// Adds a text.
    pub(crate) fn insert(&mut self, name: Arc<str>, text: Arc<str>) {
        self.0.insert(name, text);
    }
    /// The text of a name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(AsRef::as_ref)
    }
}
