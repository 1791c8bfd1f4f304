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
/// Changes after which a burst counts as over although it is not quiet: nobody writes a file for
/// ever, and a reload must not wait for whoever does.
const MAX_BURST: usize = 64;

/// Starts the watcher's thread; it ends with the process.
pub(super) fn start(live: &Arc<Live>) -> anyhow::Result<()> {
    let folder = folder(&live.path);
    let (changes, changed) = channel();
    let weak = Arc::downgrade(live);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // A reader of the file makes `Access` events too: only writing means a change.
        let Ok(event) = event.map(|event| (!event.kind.is_access()).then_some(event)) else {
            return;
        };
        // Other files in the folder may change all the time (a log, the records themselves): they
        // neither wake the thread nor keep a change waiting for quiet.
        let watched = |path: &PathBuf| weak.upgrade().is_some_and(|live| live.is_watched(path));
        if event.is_some_and(|event| event.paths.iter().any(watched)) {
            changes.send(()).ok();
        }
    })?;
    watcher
        .watch(&folder, RecursiveMode::NonRecursive)
        .with_context(|| format!("`{}` cannot be watched", folder.display()))?;
    let weak = Arc::downgrade(live);
    std::thread::Builder::new().name("watch".into()).spawn(move || {
        let _watcher = watcher;
        while let Some(()) = settled(&changed) {
            let Some(live) = weak.upgrade() else { return };
            live.reload_aloud();
        }
    })?;
    Ok(())
}

fn folder(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Waits for the end of one burst of changes; `None` when the watcher is gone.
fn settled(changed: &Receiver<()>) -> Option<()> {
    changed.recv().ok()?;
    for _ in 0..MAX_BURST {
        match changed.recv_timeout(QUIET) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return Some(()),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_one_change_and_one_without_end_is_not_waited_for() {
        let (changes, changed) = channel();
        for _ in 0..MAX_BURST / 2 {
            changes.send(()).unwrap();
        }
        assert_eq!(settled(&changed), Some(()));
        assert!(changed.try_recv().is_err(), "the burst was taken whole");
        let endless = std::thread::spawn(move || while changes.send(()).is_ok() {});
        assert_eq!(settled(&changed), Some(()));
        drop(changed);
        endless.join().unwrap();
    }
}
