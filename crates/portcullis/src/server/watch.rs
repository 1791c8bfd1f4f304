//! Watches the folder of the config: a changed file is a reload. Editors write in several steps, so
//! a change is answered when it has been quiet for a moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context;
use notify::{RecursiveMode, Watcher};

use super::Live;

/// How long a change must have been quiet.
const QUIET: Duration = Duration::from_millis(150);

/// Starts the watcher's thread; it ends with the process.
pub(super) fn start(live: &Arc<Live>) -> anyhow::Result<()> {
    let folder = folder(&live.path);
    let (changes, changed) = channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // A reader of the file makes `Access` events too: only writing means a change.
        let writes = event.iter().any(|event| !event.kind.is_access());
        if let (true, Ok(event)) = (writes, event) {
            drop(changes.send(event.paths));
        }
    })?;
    watcher
        .watch(&folder, RecursiveMode::NonRecursive)
        .with_context(|| format!("`{}` cannot be watched", folder.display()))?;
    let weak = Arc::downgrade(live);
    std::thread::Builder::new().name("watch".into()).spawn(move || {
        let _watcher = watcher;
        while let Some(paths) = settled(&changed) {
            let Some(live) = weak.upgrade() else { return };
            if paths.iter().any(|path| live.is_watched(path)) {
                live.reload_aloud();
            }
        }
    })?;
    Ok(())
}

fn folder(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The paths of one burst of changes; `None` when the watcher is gone.
fn settled(changed: &Receiver<Vec<PathBuf>>) -> Option<Vec<PathBuf>> {
    let mut paths = changed.recv().ok()?;
    loop {
        match changed.recv_timeout(QUIET) {
            Ok(more) => paths.extend(more),
            Err(RecvTimeoutError::Timeout) => return Some(paths),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
        // A burst of many files is still one reload.
        paths.truncate(1024);
    }
}
