//! `kill -9` while it commits: what was acknowledged is there, a code stays redeemed once, a refresh
//! counter never goes back, and who must hear of a logout still waits for it.
//!
//! The test starts itself as the process to be killed. That shows a dying process, not a power
//! cut: for that the store relies on `synchronous = FULL` and on what SQLite's authors test.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use portcullis_core::hash::sha256;
use portcullis_core::id::Id;
use portcullis_core::revocation::RevocationKind;

use crate::database::{StoreFault, Tx};
use crate::grants::Family;
use crate::row::bind;
use crate::testing::{World, block_on, grant, id, later, offline, on_disk, session, user};
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
    // The newest counter that each task's family was acknowledged at.
    let mut counters = BTreeMap::new();
    for name in acknowledged {
        assert!(world.kills(RevocationKind::Token, name), "{name}: its revocation is lost");
        assert!(world.kills(RevocationKind::Session, &format!("s_{name}")), "{name}: it lives");
        let value = name.clone();
        let (first, told) = world
            .transact(async move |tx: &Tx| {
                let first = tx.first_use(UsedKind::Code, &value, later(60)).await?;
                let sql = "SELECT 1 FROM logouts WHERE session_id = $1";
                let told = tx.fetch_one(sql, bind![format!("s_{value}")]).await?;
                Ok((first, told.is_some()))
            })
            .await;
        assert!(!first, "{name}: its code is good again");
        assert!(told, "{name}: nobody hears of its logout");
        let (task, n) = name.rsplit_once('-').expect("a number");
        let n: u64 = n.parse().expect("a number");
        let newest = counters.entry(format!("g_{task}")).or_insert(n);
        *newest = n.max(*newest);
    }
    for (name, acknowledged) in counters {
        let grant = Id::parse(&name).expect("an id");
        let found = world.transact(async move |tx: &Tx| tx.grant(&grant).await).await;
        let counter = found.expect("its grant").family.counter;
        assert!(counter >= acknowledged, "{name}: {counter} is before {acknowledged}");
    }
}

/// Not a test of its own: does nothing unless it was started to be killed.
#[test]
fn worker() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let world = on_disk(Path::new(&path)).expect("open");
    let name = std::process::id();
    block_on(async {
        let known = world.transact(async |tx: &Tx| tx.user(&id("ada")).await).await;
        if known.is_none() {
            world.transact(async |tx: &Tx| tx.add_user(&user("ada")).await).await;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8u32 {
            let store = world.store.clone();
            let family = format!("t_{name}-{task}");
            let granted = offline(&family, "ada", "gone");
            world.transact(async move |tx: &Tx| tx.add_grant(&granted).await).await;
            tasks.spawn(async move {
                for n in 0..u64::MAX {
                    let name = format!("{family}-{n}");
                    let (value, family) = (name.clone(), family.clone());
                    let work = async move |tx: &Tx| step(tx, &value, (&family, n)).await;
                    store.transact(work).await.expect("a transaction");
                    println!("{ACKNOWLEDGED}{name}");
                }
            });
        }
        tasks.join_next().await
    });
}

/// One transaction of the worker: a code redeemed, a token revoked, a refresh, a logout.
async fn step(tx: &Tx, name: &str, (family, n): (&str, u64)) -> Result<(), StoreFault> {
    assert!(tx.first_use(UsedKind::Code, name, later(60)).await?);
    tx.revoke(RevocationKind::Token, name, later(60)).await?;
    let granted = tx.active_grant(&id(family)).await?.expect("it is never ended");
    let moved = Family { counter: n, ..granted.family.clone() };
    tx.keep_family(&granted.id, &moved).await?;
    let seed = u64::from_be_bytes(*sha256(name.as_bytes()).first_chunk().expect("32 bytes"));
    tx.add_session(&session(name, "ada", seed)).await?;
    tx.add_grant(&grant(name, "ada", name)).await?;
    tx.end_session(&id(name), later(1)).await
}
