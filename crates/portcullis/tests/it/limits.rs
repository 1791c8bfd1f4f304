//! Limits through the front door. The real clock moves, so the rates are so slow that nothing comes
//! back while a test runs: then exactly the burst passes, however many knock at once.

use std::sync::Barrier;

use crate::support::http2;
use crate::support::plan::Plan;
use crate::support::server::{Server, request};
use crate::support::wire::Answer;

const CLIENTS: usize = 64;
/// Requests of each client: in all far more than the burst.
const EACH: usize = 3;

#[test]
fn exactly_the_burst_passes_64_clients_over_http1() {
    let server = Plan::default().people(1).public("1/h per ip, burst 100").start();
    let gate = Barrier::new(CLIENTS);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let knock = || {
            let mut wire = server.connect(server.ports.api);
            let bytes = request("GET /v1/rates", server.ports.api, &[], b"");
            gate.wait();
            let ask = || {
                wire.send(&bytes).expect("sent");
                wire.answer().expect("an answer").status
            };
            std::iter::repeat_with(ask).take(EACH).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(knock)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    exactly(100, &statuses, &server);
}

#[test]
fn exactly_the_burst_passes_64_streams_over_http2() {
    let server = Plan::default().people(1).public("1/h per ip, burst 100").start();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let port = server.ports.api;
    let statuses: Vec<u16> = runtime.block_on(async {
        // Two connections, so that they fall to workers of their own perhaps.
        let connections = [http2::connect(&server).await, http2::connect(&server).await];
        let mut tasks = Vec::new();
        for client in 0..CLIENTS {
            let connection = connections[client % 2].clone();
            tasks.push(tokio::spawn(async move {
                let mut statuses = Vec::new();
                for _ in 0..EACH {
                    statuses.push(http2::get(connection.clone(), port, "/v1/rates").await.0);
                }
                statuses
            }));
        }
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.expect("no panic"));
        }
        all
    });
    exactly(100, &statuses, &server);
}

fn exactly(burst: usize, statuses: &[u16], server: &Server) {
    assert_eq!(statuses.len(), CLIENTS * EACH);
    let passed = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!((passed, refused), (burst, CLIENTS * EACH - burst));
    assert_eq!(server.upstream.take().len(), burst, "what is refused never gets to the upstream");
}

#[test]
fn both_protocols_spend_one_budget() {
    let server = Plan::default().people(1).public("1/h per ip, burst 4").start();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let port = server.ports.api;
    let over_http2 = || {
        runtime.block_on(async {
            let connection = http2::connect(&server).await;
            http2::get(connection, port, "/v1/rates").await.0
        })
    };
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(server.ask("GET /v1/rates", &[], b"").status);
        statuses.push(over_http2());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
}

#[test]
fn answers_say_what_is_left_and_how_long_to_wait() {
    let server = Plan::default().people(1).public("1/h per ip, burst 2").start();
    let ask = || server.ask("GET /v1/rates", &[], b"");
    let left = |answer: &Answer| {
        let field = answer.field("ratelimit").to_owned();
        let left = field.split(';').find_map(|part| part.trim().strip_prefix("r="));
        left.and_then(|left| left.parse::<u64>().ok()).unwrap_or_else(|| panic!("`{field}`"))
    };
    let first = ask();
    assert!(first.field("ratelimit-policy").starts_with("\"public\""), "{:?}", first.fields);
    assert_eq!((left(&first), left(&ask())), (1, 0));
    let refused = ask();
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"));
    let wait: u64 = refused.field("retry-after").parse().expect("seconds");
    assert!((3_500..=3_600).contains(&wait), "never less than the true wait: {wait}");
    assert_eq!(left(&refused), 0);
}

#[test]
fn a_forwarded_address_is_no_new_key() {
    let server = Plan::default().people(1).public("1/h per ip, burst 3").start();
    let mut statuses = Vec::new();
    for number in 0..5 {
        let address = format!("203.0.113.{number}");
        let fields = [
            ("x-forwarded-for", address.as_str()),
            ("x-real-ip", address.as_str()),
            ("forwarded", "for=198.51.100.1"),
        ];
        statuses.push(server.ask("GET /v1/rates", &fields, b"").status);
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
}

#[test]
fn a_persons_limit_is_their_own_and_is_charged_whatever_the_verdict() {
    let server = Plan::default().normal("1/h per user, burst 4").start();
    let tokens = [server.log_in(&server.people[0]), server.log_in(&server.people[1])];
    let statuses = |token: &str, account: &str| -> Vec<u16> {
        let line = format!("GET /v1/accounts/{account}");
        (0..3).map(|_| server.ask_as(&line, token).status).collect()
    };
    assert_eq!(statuses(&tokens[0], "acc-1"), [403, 403, 403], "probing is metered");
    assert_eq!(statuses(&tokens[0], "acc-0"), [200, 429, 429]);
    assert_eq!(statuses(&tokens[1], "acc-1"), [200, 200, 200], "another person does not notice");
}

#[test]
fn forged_tokens_exhaust_an_address_and_never_refuse_a_valid_one() {
    let server = Plan::default().people(1).failed("1/h per ip, burst 6").start();
    let token = server.log_in(&server.people[0]);
    let ask = |token: &str| server.ask_as("GET /v1/accounts/acc-0", token).status;
    // A missing or merely expired credential charges nothing.
    for _ in 0..10 {
        assert_eq!(server.ask("GET /v1/accounts/acc-0", &[], b"").status, 401);
    }
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(ask("a.b.c"));
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 429, 429]);
    assert_eq!(ask(&token), 200, "a valid token is never refused for others' failures");
}
