//! `kill -9` while it commits: what was acknowledged is there, and a code stays redeemed once.
//!
//! The test starts itself as the process to be killed. That shows a dying process, not a power
//! cut: for that the store relies on `synchronous = FULL` and on what SQLite's authors test.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use portcullis_core::revocation::RevocationKind;

use crate::database::{StoreFault, Tx};
use crate::testing::{World, block_on, later, on_disk};
use crate::used::UsedKind;

/// Names the database file to the process that will be killed.
const FILE: &str = "PORTCULLIS_STORE_CRASH_FILE";

/// What the killed process says once per acknowledged transaction.
const ACKNOWLEDGED: &str = "acknowledged ";

/// Acknowledgements after which each round kills: early, and amid group commits.
const ROUNDS: [usize; 4] = [1, 40, 150, 400];

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let mut acknowledged = BTreeSet::new();
    for enough in ROUNDS {
        acknowledged.extend(killed_after(enough, &path));
        let world = on_disk(&path).expect("reopen what was killed");
        block_on(check(&world, &acknowledged));
        world.store.close();
    }
    assert!(acknowledged.len() >= ROUNDS.iter().sum(), "{}", acknowledged.len());
}

/// Starts the worker, kills it, and returns all it had acknowledged.
fn killed_after(enough: usize, path: &Path) -> BTreeSet<String> {
    let mut worker = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "sqlite::crash::worker", "--nocapture", "--test-threads=1"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the worker");
    let lines = BufReader::new(worker.stdout.take().expect("its output")).lines();
    let mut acknowledged = BTreeSet::new();
    for line in lines {
        let Ok(line) = line else { break };
        // The test harness puts the test's name before the first.
        if let Some((_, name)) = line.split_once(ACKNOWLEDGED) {
            acknowledged.insert(name.to_owned());
        }
        if acknowledged.len() == enough {
            worker.kill().expect("SIGKILL");
        }
    }
    assert!(!worker.wait().expect("its end").success(), "it ended by itself");
    assert!(acknowledged.len() >= enough, "it died early");
    acknowledged
}

async fn check(world: &World, acknowledged: &BTreeSet<String>) {
    for name in acknowledged {
        assert!(world.kills(RevocationKind::Token, name), "{name}: its revocation is lost");
        let code = name.clone();
        let first = world
            .transact(async move |tx: &Tx| tx.first_use(UsedKind::Code, &code, later(60)).await)
            .await;
        assert!(!first, "{name}: its code is good again");
    }
}

/// Not a test of its own: does nothing unless it was started to be killed.
#[test]
fn worker() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let world = on_disk(Path::new(&path)).expect("open");
    let name = std::process::id();
    block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8 {
            let store = world.store.clone();
            tasks.spawn(async move {
                for n in 0.. {
                    let name = format!("t_{name}-{task}-{n}");
                    let value = name.clone();
                    let work = async move |tx: &Tx| {
                        assert!(tx.first_use(UsedKind::Code, &value, later(60)).await?);
                        tx.revoke(RevocationKind::Token, &value, later(60)).await?;
                        Ok::<_, StoreFault>(())
                    };
                    store.transact(work).await.expect("a transaction");
                    println!("{ACKNOWLEDGED}{name}");
                }
            });
        }
        tasks.join_next().await
    });
}
