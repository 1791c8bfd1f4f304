//! The journey of a request through the front door: what gets through, what the upstream sees, how
//! bodies flow, and what happens to requests while the file changes or the server ends.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::frames;
use crate::support::plan::Plan;
use crate::support::server::{Server, request};
use crate::support::story;
use crate::support::upstream::BIG;
use crate::support::wire::Answer;
use crate::support::{still, wait_for};

#[test]
fn what_is_open_what_is_not_and_what_is_not_there() {
    let server = Plan::default().people(1).start();
    let open = server.ask("GET /v1/rates", &[], b"");
    assert_eq!((open.status, open.json()["line"].as_str()), (200, Some("GET /base/rates")));
    let unlisted = server.ask("GET /v1/unlisted", &[], b"");
    assert_eq!((unlisted.status, unlisted.code().as_str()), (404, "not_found"));
    let closed = server.ask("GET /v1/admin/report", &[], b"");
    let shown = |answer: &Answer| (answer.status, answer.code(), answer.json()["detail"].clone());
    assert_eq!(shown(&closed), shown(&unlisted), "a closed line is no place");
    let method = server.ask("PUT /v1/rates", &[], b"");
    assert!(method.status == 405 && method.field("allow").contains("GET"), "{method:?}");
    let several = server.ask("DELETE /v1/settlements", &[], b"");
    let allow = several.field("allow");
    assert!(several.status == 405 && allow.contains("GET") && allow.contains("POST"), "{allow}");
}

#[test]
fn a_refusal_over_http_2_waits_for_the_rest_of_a_body() {
    let server = Plan::default().people(1).start();
    let host = format!(":authority localhost:{}", server.ports.api);
    let lines = [":method POST", ":scheme https", &host, ":path /v1/accounts/acc-0/payments"];
    let lines = lines.map(|line| line.as_bytes().to_vec());
    // curl 7.88 loses an answer whose stream is reset, as RFC 9113 §8.1 allows.
    assert!(frames::keeps_stream_of_late_body(&server, &lines, b"amount=1"));
}

#[test]
fn every_answer_carries_a_request_id_and_every_refusal_is_a_problem() {
    let server = Plan::default().people(1).start();
    let mut ids = Vec::new();
    for (line, status) in [
        ("GET /v1/rates", 200),
        ("GET /v1/accounts/acc-0", 401),
        ("GET /v1/unlisted", 404),
        ("PUT /v1/rates", 405),
        ("GET /v1/%2e%2e/x", 400),
        ("BREW /v1/rates", 501),
    ] {
        let answer = server.ask(line, &[("request-id", "mine")], b"");
        assert_eq!(answer.status, status, "{line}");
        let id = answer.field("request-id").to_owned();
        assert!(id.starts_with("r_"), "{line}: {id}");
        if status != 200 {
            assert_eq!(answer.field("content-type"), "application/problem+json", "{line}");
            let problem = answer.json();
            assert_eq!(problem["instance"], id.as_str(), "{line}: {problem}");
            assert_eq!(problem["status"], status, "{line}: {problem}");
        }
        assert_eq!(server.record(&answer)["status"], status, "{line}");
        ids.push(id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6, "each its own");
}

#[test]
fn the_upstream_gets_our_word_and_not_the_clients_token() {
    let server = Plan::default().start();
    let token = server.log_in(&server.people[0]);
    server.upstream.take();
    let bearer = format!("Bearer {token}");
    let fields = [("authorization", bearer.as_str()), ("portcullis-identity", "mine")];
    let answer = server.ask("GET /v1/accounts/acc-0", &fields, b"");
    assert_eq!(answer.status, 200);
    let seen = server.upstream.take().pop().expect("it arrived");
    assert!(seen.all("authorization").is_empty());
    assert_eq!(seen.all("request-id"), [answer.field("request-id")]);
    let words = seen.all("portcullis-identity");
    assert_eq!(words.len(), 1, "{words:?}");
    let claims = crate::support::browser::claims_of(words[0]);
    let upstream = format!("http://127.0.0.1:{}", server.upstream.port);
    assert_eq!(
        (&claims["sub"], &claims["aud"]),
        (&server.people[0].id.as_str().into(), &upstream.into())
    );
    assert_eq!((&claims["kind"], &claims["client_id"]), (&"user".into(), &"app".into()));
    let left = claims["exp"].as_i64().expect("exp") - now();
    assert!((29..=61).contains(&left), "at least half a minute left: {left}");
    // It is no access token, here or anywhere.
    assert_eq!(server.ask_as("GET /v1/accounts/acc-0", words[0]).status, 401);
    assert_eq!(answer.field("cache-control"), "private, no-store");
}

fn now() -> i64 {
    use portcullis_core::time::Clock;
    crate::support::seed::Wall.now().unix()
}

#[test]
fn a_body_beyond_its_line_is_refused() {
    let server = Plan::default().people(1).start();
    let fits = server.ask("POST /v1/small", &[], &[b'a'; 1024]);
    assert_eq!((fits.status, fits.json()["length"].as_u64()), (200, Some(1024)));
    server.upstream.take();
    let answer = server.ask("POST /v1/small", &[], &[b'a'; 1025]);
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(server.upstream.take().is_empty(), "known from the head alone");
    // A form of ours has a cap too.
    let mut wire = server.connect(server.ports.issuer);
    let fields = [("content-type", "application/x-www-form-urlencoded")];
    let body = vec![b'a'; 1024 * 1024];
    drop(wire.send(&request("POST /oauth/token", server.ports.issuer, &fields, &body)));
    let status = wire.answer().map(|answer| answer.status);
    assert!(matches!(status, Some(413) | None), "{status:?}");
}

#[test]
fn thirty_megabytes_go_up() {
    let server = Plan::default().people(1).start();
    let body = vec![b'u'; BIG];
    let answer = server.ask("POST /v1/echo", &[], &body);
    assert_eq!((answer.status, answer.json()["length"].as_u64()), (200, Some(BIG as u64)));
}

#[test]
fn thirty_megabytes_come_down_as_fast_as_they_are_read() {
    let mut server = Plan::default().people(1).start();
    // Once as fast as it comes, so that what follows is measured on a server that is warm.
    assert_eq!(server.ask("GET /big", &[], b"").body.len(), BIG);
    let before = resident_kib(&server);
    let mut wire = server.connect(server.ports.api);
    wire.send(&request("GET /big", server.ports.api, &[], b"")).expect("sent");
    let head = wire.head().expect("a head");
    assert_eq!(head.status, 200);
    // Nothing is read until the upstream gets rid of nothing more: what the server holds then must
    // be far below the body. Others are answered meanwhile.
    let sent = still("the stream", || {
        assert_eq!(server.ask("GET /v1/rates", &[], b"").status, 200);
        server.upstream.sent()
    });
    let grown = resident_kib(&server).saturating_sub(before);
    assert!(grown < 6 * 1024, "the server holds the body: {grown} KiB of {sent}, before {before}");
    assert!(sent < 2 * BIG, "nothing held it back");
    let mut left = BIG;
    while left > 0 {
        let piece = wire.take(left.min(64 * 1024)).expect("more");
        assert!(piece.iter().all(|byte| *byte == b'b'));
        left -= piece.len();
    }
    server.kill();
}

#[test]
fn thirty_megabytes_go_up_as_fast_as_they_are_taken() {
    let server = Plan::default().people(1).start();
    let before = resident_kib(&server);
    let sent = AtomicUsize::new(0);
    let mut wire = server.connect(server.ports.api);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let length = BIG.to_string();
            let fields = [("content-length", length.as_str())];
            wire.send(&request("POST /v1/slow", server.ports.api, &fields, b"")).expect("sent");
            for _ in 0..BIG / PIECE {
                wire.send(&[b'u'; PIECE]).expect("sent");
                sent.fetch_add(PIECE, Ordering::SeqCst);
            }
            wire.answer().expect("an answer")
        });
        wait_for("the head at the upstream", || (server.upstream.begun() == 1).then_some(()));
        let last = still("the stream", || {
            assert_eq!(server.ask("GET /v1/rates", &[], b"").status, 200);
            sent.load(Ordering::SeqCst)
        });
        let grown = resident_kib(&server).saturating_sub(before);
        assert!(grown < 6 * 1024, "the server holds the body: {grown} KiB of {last}");
        assert!(last < BIG, "nothing held it back");
        server.upstream.release();
        let answer = sending.join().expect("no panic");
        assert_eq!((answer.status, answer.text().as_str()), (200, "slow"));
    });
    assert_eq!(sent.load(Ordering::SeqCst), BIG);
}

/// What is sent at once.
const PIECE: usize = 64 * 1024;

/// Resident memory of the server's process.
fn resident_kib(server: &Server) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_dead_upstream_is_a_502_and_nobody_elses_fault() {
    let server = Plan::default().people(1).start();
    let config = std::fs::read_to_string(server.config_path()).expect("a config");
    let dead = format!("127.0.0.1:{}", crate::support::ports::free());
    let config = config
        .replace(&format!("127.0.0.1:{}/rest", server.upstream.port), &format!("{dead}/rest"));
    std::fs::write(server.config_path(), config).expect("written");
    wait_for("the new upstream", || {
        let answer = server.ask("GET /anything", &[], b"");
        matches!(answer.status, 502 | 503).then_some(())
    });
    assert_eq!(server.ask("GET /v1/rates", &[], b"").status, 200);
}

#[test]
fn preflights_are_answered_for_listed_origins_alone() {
    let server = Plan::default().people(1).start();
    let ask = |origin: &str, method: &str| {
        let fields = [("origin", origin), ("access-control-request-method", method)];
        server.ask("OPTIONS /v1/accounts/acc-0", &fields, b"")
    };
    let good = ask("https://app.test", "GET");
    assert!(matches!(good.status, 200 | 204), "{}", good.status);
    assert_eq!(good.field("access-control-allow-origin"), "https://app.test");
    for origin in ["https://evil.test", "null", "http://app.test", "https://app.test:8443"] {
        let answer = ask(origin, "GET");
        assert_eq!(answer.status, 403, "{origin}");
        assert!(answer.all("access-control-allow-origin").is_empty(), "{origin}");
    }
    assert!(server.upstream.take().is_empty());
}

#[test]
fn a_good_file_is_in_force_without_a_restart() {
    let server = Plan::default().people(1).start();
    assert_eq!(server.ask("GET /v1/settlements/today", &[], b"").status, 404);
    let config = std::fs::read_to_string(server.config_path()).expect("a config");
    let line = "\"GET  /rates\" =";
    let more = format!(
        "\"GET  /settlements/today\" = {{ allow = \"anyone\", limit = \"public\" }}\n{line}"
    );
    std::fs::write(server.config_path(), config.replace(line, &more)).expect("written");
    wait_for("the new line", || {
        (server.ask("GET /v1/settlements/today", &[], b"").status == 200).then_some(())
    });
    assert!(server.health("/readyz").expect("an answer").text().contains("generation 2"));
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let server = Plan::default().people(1).start();
    let good = std::fs::read_to_string(server.config_path()).expect("a config");
    let bad = good
        .replace("\"GET  /rates\" = { allow = \"anyone\"", "\"GET  /rates\" = { alow = \"anyone\"");
    assert_ne!(good, bad);
    std::fs::write(server.config_path(), &bad).expect("written");
    let why = wait_for("a word about the bad file", || {
        let answer = server.health("/readyz")?;
        (answer.status == 503).then(|| answer.text())
    });
    let line = bad.lines().position(|line| line.contains("alow")).expect("there") + 1;
    assert!(why.contains(&format!("portcullis.toml:{line}:")), "file and line: {why}");
    assert!(why.contains("^"), "a caret: {why}");
    assert!(why.contains("did you mean `allow`?"), "a remedy: {why}");
    assert_eq!(server.ask("GET /v1/rates", &[], b"").status, 200, "the version in force stays");
    let metrics = server.health("/metrics").expect("an answer").text();
    let since = metrics.lines().find(|line| line.starts_with("portcullis_config_refused_since "));
    assert!(since.is_some_and(|line| !line.ends_with(" 0")), "{since:?}");
    // Back to the good one, by a signal this time.
    std::fs::write(server.config_path(), &good).expect("written");
    server.signal("HUP");
    wait_for("ready again", || (server.health("/readyz")?.status == 200).then_some(()));
}

#[test]
fn a_reload_that_takes_a_scope_away_ends_the_tokens_that_carry_it() {
    let mut server = Plan::default().people(1).start();
    let token = story::bearer(&mut server, "ledger");
    assert_eq!(server.ask_as("POST /v1/settlements", &token).status, 200);
    let config = std::fs::read_to_string(server.config_path()).expect("a config");
    // The two services swap what they may.
    let (settle, read) = ("scopes = [\"payments:settle\"]", "scopes = [\"settlements:read\"]");
    let swapped = config.replace(settle, "swapped").replace(read, settle).replace("swapped", read);
    assert_ne!(config, swapped);
    std::fs::write(server.config_path(), swapped).expect("written");
    let reload = server.cli(&["reload", "--wait"]);
    assert!(reload.status.success(), "{}", String::from_utf8_lossy(&reload.stderr));
    let answer = server.ask_as("POST /v1/settlements", &token);
    assert_eq!(answer.status, 401, "{}", server.record(&answer));
}

#[test]
fn a_running_request_is_drained_and_no_new_one_is_taken() {
    let mut server = Plan::default().people(1).start();
    let mut wire = server.connect(server.ports.api);
    wire.send(&request("GET /slow", server.ports.api, &[], b"")).expect("sent");
    wait_for("the request at the upstream", || (!server.upstream.seen().is_empty()).then_some(()));
    server.signal("TERM");
    wait_for("the listener's end", || match server.connect_as(server.ports.api, "localhost") {
        Err(_) => Some(()),
        Ok(mut late) => {
            drop(late.send(&request("GET /v1/rates", server.ports.api, &[], b"")));
            late.answer().is_none().then_some(())
        }
    });
    server.upstream.release();
    let answer = wire.answer().expect("the running one is answered");
    assert_eq!((answer.status, answer.text().as_str()), (200, "slow"));
    assert_eq!(server.ended(), 0);
    assert_eq!(server.record(&answer)["status"], 200, "and recorded");
}
