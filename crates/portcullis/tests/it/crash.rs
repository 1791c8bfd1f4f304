//! `kill -9` in the middle of logins, token requests and revocations: what was acknowledged
//! before it holds after the restart.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::browser::{Browser, Errand};
use crate::support::plan::Plan;
use crate::support::seed::Person;
use crate::support::server::{Server, request};

/// How often the server is killed.
const ROUNDS: usize = 3;
/// How long the stream runs before it is.
const STREAM: Duration = Duration::from_millis(900);
/// People that log in, each once a round.
const PEOPLE: usize = 6;

/// What clients were told, and what they asked last.
#[derive(Default)]
struct Told {
    /// Tokens whose revocation was acknowledged.
    revoked: Mutex<Vec<String>>,
    /// Codes whose redemption was acknowledged, with their redemption.
    redeemed: Mutex<Vec<Vec<(String, String)>>>,
    /// Codes that were handed out and whose redemption was not acknowledged.
    open: Mutex<Vec<Vec<(String, String)>>>,
}

#[test]
fn nothing_acknowledged_is_lost_and_no_code_is_redeemed_twice() {
    let mut server = Plan::default().people(PEOPLE * ROUNDS).start();
    let told = Told::default();
    for round in 0..ROUNDS {
        let people: Vec<usize> = (round * PEOPLE..(round + 1) * PEOPLE).collect();
        stream_until_killed(&mut server, &people, &told);
        server.run();
        for token in told.revoked.lock().expect("lock").iter() {
            let answer = server.ask_as("GET /v1/accounts/acc-0", token);
            assert_eq!(answer.status, 401, "an acknowledged revocation was lost in round {round}");
        }
        for form in told.redeemed.lock().expect("lock").iter() {
            let answer = server.form("/oauth/token", form);
            assert_eq!(answer.status, 400, "a code was redeemed twice: {}", answer.text());
        }
        // What was not acknowledged may have happened or not; but not twice.
        for form in std::mem::take(&mut *told.open.lock().expect("lock")) {
            let statuses = [0, 1].map(|_| server.form("/oauth/token", &form).status);
            assert_ne!(statuses, [200, 200], "a code was redeemed twice");
        }
    }
    let revoked = told.revoked.lock().expect("lock").len();
    let redeemed = told.redeemed.lock().expect("lock").len();
    println!("{ROUNDS} kills: {revoked} revocations and {redeemed} redemptions acknowledged");
    assert!(revoked > 0 && redeemed > 0, "the stream did nothing");
}

/// Logs in, fetches and revokes on several threads, until the server is killed under them.
fn stream_until_killed(server: &mut Server, people: &[usize], told: &Told) {
    let over = AtomicBool::new(false);
    let shared: &Server = server;
    std::thread::scope(|scope| {
        for half in people.chunks(people.len().div_ceil(2)) {
            let over = &over;
            scope.spawn(move || {
                for person in half {
                    if !over.load(Ordering::SeqCst) {
                        live(shared, &shared.people[*person], told);
                    }
                }
            });
        }
        let until = Instant::now() + STREAM;
        while Instant::now() < until {
            std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
        shared.signal("KILL");
        over.store(true, Ordering::SeqCst);
    });
    server.kill();
}

/// A login and what follows, as far as the server lives.
fn live(server: &Server, person: &Person, told: &Told) {
    let errand = Errand::new();
    // A browser that meets a dead server gives up: a panic of this thread alone.
    let code = quietly(|| Browser::new(server).code(person, &errand));
    let Some(code) = code else { return };
    let form = errand.redemption(&code);
    let answer = quietly(|| server.form("/oauth/token", &form));
    let Some(answer) = answer.filter(|answer| answer.status == 200) else {
        told.open.lock().expect("lock").push(form);
        return;
    };
    told.redeemed.lock().expect("lock").push(form);
    let Some(token) = answer.json()["access_token"].as_str().map(str::to_owned) else { return };
    let answer = quietly(|| server.revoke(&token));
    if answer.is_some_and(|answer| answer.status == 200) {
        told.revoked.lock().expect("lock").push(token);
    }
}

/// What came of it, or nothing when the server was gone.
fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

#[test]
fn a_store_that_is_in_use_is_not_opened_twice() {
    let server = Plan::default().people(1).start();
    let second = server.cli(&["serve"]);
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&server.id().to_string()), "it names the process: {said}");
    let mut wire = server.connect(server.ports.api);
    wire.send(&request("GET /v1/rates", server.ports.api, &[], b"")).expect("sent");
    assert_eq!(wire.answer().expect("an answer").status, 200, "the first goes on");
}
