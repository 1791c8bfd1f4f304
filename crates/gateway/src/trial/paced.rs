//! GCRA is exact through the whole journey: on a frozen clock exactly the burst passes, and stepped
//! evenly over a period exactly N more, however many ask at once (`5-limits`, point 1).

use http::StatusCode;
use std::time::Duration;

use super::*;

/// N of the limit below.
const COUNT: usize = 20;
/// Its burst.
const BURST: usize = 8;
/// Clients that ask at once.
const CLIENTS: usize = 64;
const WORDS: &str = "20/min per user, burst 8";

#[test]
fn sixty_four_connections_of_http_1_pass_exactly_n_in_a_period() {
    run(async |setup| {
        let trial = setup.limit("normal", WORDS).start().await;
        let token = trial.token(&trial.user());
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(trial.connect("192.0.2.7", Wire::Tls).await);
        }
        let mut passed = Vec::new();
        for step in 0..=COUNT {
            let asking = clients.iter_mut().map(|client| {
                let request = get("/v1/accounts/a1", Some(&token));
                async move { ask(client, request).await.status }
            });
            passed.push(through(&limits::join_all(asking).await));
            assert!(step == 0 || passed[step] == 1, "step {step}: {passed:?}");
            trial.clock.advance(Duration::from_secs(3));
        }
        assert_eq!(passed.iter().sum::<usize>(), BURST + COUNT);
    });
}

#[test]
fn sixty_four_streams_of_http_2_pass_exactly_n_in_a_period() {
    run(async |setup| {
        let trial = setup.limit("normal", WORDS).start().await;
        let token = trial.token(&trial.user());
        let sender = http2::connect(&trial).await;
        let mut passed = Vec::new();
        for step in 0..=COUNT {
            let asking = (0..CLIENTS).map(|_| {
                let (mut sender, token) = (sender.clone(), token.clone());
                async move {
                    let request = http2::at("/v1/accounts/a1", Some(&token));
                    let answer = sender.send_request(request).await.unwrap();
                    let status = answer.status();
                    answer.into_body().collect().await.unwrap();
                    status
                }
            });
            passed.push(through(&limits::join_all(asking).await));
            assert!(step == 0 || passed[step] == 1, "step {step}: {passed:?}");
            trial.clock.advance(Duration::from_secs(3));
        }
        assert_eq!(passed.iter().sum::<usize>(), BURST + COUNT);
    });
}

fn through(statuses: &[StatusCode]) -> usize {
    let limited = StatusCode::TOO_MANY_REQUESTS;
    assert!(statuses.iter().all(|status| *status == StatusCode::OK || *status == limited));
    statuses.iter().filter(|status| **status == StatusCode::OK).count()
}
