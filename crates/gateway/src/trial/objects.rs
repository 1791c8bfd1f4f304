//! Whose an object is: asked last, of the API itself, and told to nobody but its owner.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::Full;

use super::judged::{noted, send};
use super::limits::join_all;
use super::*;

const BODY: (&str, &str) = ("application/json", r#"{"amount":1}"#);

fn head(path: &str, token: &str) -> Request<Full<Bytes>> {
    let mut request = get(path, Some(token));
    *request.method_mut() = http::Method::HEAD;
    request
}

fn bob(trial: &Trial) -> String {
    trial.token(&AccessClaims { sub: "u_bob".into(), ..trial.user() })
}

#[test]
fn an_owner_gets_its_object() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        for (request, line) in [
            (get("/v1/invoices/mine", Some(&token)), "GET /base/invoices/mine"),
            (head("/v1/invoices/mine", &token), "HEAD /base/invoices/mine"),
            (send("PUT /v1/invoices/mine", &token, BODY), "PUT /base/invoices/mine"),
        ] {
            let seen = trial.ask(request).await;
            assert_eq!(seen.status, StatusCode::OK, "{line} {:?}", trial.records.last());
            assert_eq!(notes.served().pop().unwrap().line, line);
        }
        assert_eq!(notes.served().len(), 3);
    });
}

#[test]
fn the_look_up_carries_nothing_of_the_client() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let mut request = get("/v1/invoices/mine%20%C3%A9%3F?owner=u_alice", Some(&token));
        for (name, value) in [
            ("cookie", "a=b"),
            ("accept", "text/html"),
            ("accept-encoding", "gzip"),
            ("x-owner", "u_alice"),
            ("portcullis-identity", "forged"),
            ("if-none-match", "*"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        assert_eq!(trial.ask(request).await.status, StatusCode::OK);
        let asked = notes.seen.borrow()[0].clone();
        assert_eq!(asked.line, "GET /base/internal/owner/mine%20%C3%A9%3F", "encoded anew");
        let mut names: Vec<_> = asked.fields.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "host", "portcullis-identity", "request-id"]);
        assert_eq!(asked.fields["accept"], "application/json");
        assert_eq!(asked.fields["host"], "127.0.0.1:9000");
        assert_eq!(asked.fields["request-id"], trial.records.last().request.as_str());
        // Our own word on who calls, the same that goes with the request itself.
        let passport = asked.fields["portcullis-identity"].to_str().unwrap();
        assert_eq!(passport.split('.').count(), 3);
        assert_eq!(notes.served()[0].fields["portcullis-identity"], passport);
    });
}

#[test]
fn anothers_object_and_a_missing_one_are_told_apart_by_nobody() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let told = |seen: Seen| {
            let mut headers = seen.headers;
            let id = headers.remove("request-id").unwrap();
            headers.remove("date");
            // It counts down with each request, whatever that asks for.
            headers.remove("ratelimit");
            let body = String::from_utf8(seen.body.to_vec()).unwrap();
            let length = body.len();
            (seen.status, headers, body.replace(id.to_str().unwrap(), "ID"), length)
        };
        for method in ["GET", "HEAD", "PUT"] {
            let ask = async |object: &str| {
                let path = format!("/v1/invoices/{object}");
                told(
                    trial
                        .ask(match method {
                            "PUT" => send(&format!("PUT {path}"), &token, BODY),
                            "HEAD" => head(&path, &token),
                            _ => get(&path, Some(&token)),
                        })
                        .await,
                )
            };
            let theirs = ask("theirs").await;
            let record = trial.records.last();
            assert_eq!((record.status, record.reason.as_str()), (404, "OwnerForeign"));
            let missing = ask("missing").await;
            let record = trial.records.last();
            assert_eq!((record.status, record.reason.as_str()), (404, "ObjectMissing"));
            assert_eq!(record.rule.as_deref().map(|rule| rule.contains(":2")), Some(true));
            assert_eq!(theirs, missing);
            assert_eq!(theirs.0, StatusCode::NOT_FOUND);
        }
        // Nor is it told apart from a place where nothing is.
        let nowhere = told(trial.get("/v1/nowhere", Some(&token)).await);
        let theirs = told(trial.get("/v1/invoices/theirs", Some(&token)).await);
        assert_eq!((nowhere.0, nowhere.2), (theirs.0, theirs.2));
        assert!(notes.served().is_empty(), "none of it got to the operation");
    });
}

#[test]
fn who_may_not_whatever_the_owner_has_nothing_looked_up() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let act = serde_json::from_value(serde_json::json!({ "sub": "agent" })).unwrap();
        let poor = trial.token(&AccessClaims { scope: Scopes::default(), ..trial.user() });
        let service = trial.token(&trial.service("payments:read"));
        let delegated = trial.token(&AccessClaims { act: Some(act), ..trial.user() });
        for (token, reason) in [
            (&poor, "ScopeMissing"),
            (&service, "PrincipalNotAllowed"),
            (&delegated, "ActorNotNamed"),
        ] {
            let mut answers = Vec::new();
            for object in ["mine", "theirs", "missing"] {
                let seen = trial.get(&format!("/v1/invoices/{object}"), Some(token)).await;
                assert_eq!(trial.records.last().reason, reason);
                answers.push((seen.status, seen.field("www-authenticate").to_owned()));
            }
            assert_eq!(answers[0].0, StatusCode::FORBIDDEN);
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        }
        let token = trial.token(&trial.user());
        // The body is judged before, and its faults are the same for every id.
        for object in ["mine", "theirs", "missing"] {
            let line = format!("PUT /v1/invoices/{object}");
            let large = (BODY.0, r#"{"amount":5000}"#);
            assert_eq!(trial.ask(send(&line, &token, large)).await.status, StatusCode::FORBIDDEN);
            let doubled = (BODY.0, r#"{"amount":1,"amount":5000}"#);
            assert_eq!(
                trial.ask(send(&line, &token, doubled)).await.status,
                StatusCode::BAD_REQUEST
            );
        }
        assert!(notes.seen.borrow().is_empty());
    });
}

#[test]
fn owner_unavailable() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        for object in [
            "list",
            "null",
            "twice",
            "folded",
            "elsewhere",
            "text",
            "long",
            "huge",
            "empty",
            "moved",
            "gone",
            "forbidden",
            "broken",
            "dead",
        ] {
            for method in ["GET", "HEAD", "PUT"] {
                let path = format!("/v1/invoices/{object}");
                let seen = trial
                    .ask(match method {
                        "PUT" => send(&format!("PUT {path}"), &token, BODY),
                        "HEAD" => head(&path, &token),
                        _ => get(&path, Some(&token)),
                    })
                    .await;
                assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE, "{method} {object}");
                assert_eq!(seen.field("retry-after"), "1");
                let record = trial.records.last();
                assert_eq!(record.decision, "error");
                assert!(record.reason.starts_with("OwnerUnavailable: "), "{}", record.reason);
            }
        }
        assert!(notes.served().is_empty(), "no answer never allows");
        assert!(
            !notes.seen.borrow().iter().any(|noted| noted.line.ends_with("/mine")),
            "no redirect"
        );
        // And none of it poisoned a connection.
        assert_eq!(trial.get("/v1/invoices/mine", Some(&token)).await.status, StatusCode::OK);
        // A number for a text is the name of somebody else.
        let seen = trial.get("/v1/invoices/number", Some(&token)).await;
        assert_eq!(
            (seen.status, trial.records.last().reason.as_str()),
            (StatusCode::NOT_FOUND, "OwnerForeign")
        );
    });
}

#[test]
fn a_look_up_that_is_slow_ends_in_its_time() {
    run(async |setup| {
        let setup = Setup { owners_within: crate::owners::TIMEOUT, ..setup };
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let began = tokio::time::Instant::now();
        let seen = trial.get("/v1/invoices/late", Some(&token)).await;
        assert!(began.elapsed() < Duration::from_secs(3));
        assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(trial.records.last().reason, "OwnerUnavailable: no answer in time");
        assert!(notes.served().is_empty());
        assert_eq!(crate::owners::TIMEOUT, Duration::from_millis(300));
    });
}

#[test]
fn an_upstream_that_is_dead_tells_no_owner() {
    run(async |setup| {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let trial = Setup { sockets: Some(vec![address]), ..setup }.start().await;
        let token = trial.token(&trial.user());
        let seen = trial.get("/v1/invoices/mine", Some(&token)).await;
        assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!seen.json().to_string().contains("127.0.0.1"), "no address in the answer");
    });
}

#[test]
fn what_permitted_is_remembered_for_reads_and_seconds() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let (alice, bob) = (trial.token(&trial.user()), bob(&trial));
        let ask = async |object: &str, token: &str| {
            let before = notes.look_ups();
            let path = format!("/v1/invoices/{object}");
            let status = trial.get(&path, Some(token)).await.status.as_u16();
            (status, notes.look_ups() - before)
        };
        assert_eq!(ask("mine", &alice).await, (200, 1));
        assert_eq!(ask("mine", &alice).await, (200, 0));
        trial.ask(head("/v1/invoices/mine", &alice)).await;
        assert_eq!(notes.look_ups(), 1, "HEAD follows GET");
        // Of one principal alone, whatever its token; of one object alone.
        let again = trial.token(&AccessClaims { auth_time: None, ..trial.user() });
        assert_eq!(ask("mine", &again).await, (200, 0));
        assert_eq!(ask("mine", &bob).await, (404, 1));
        assert_eq!(ask("mine2", &alice).await, (200, 1));
        // A no is never remembered: the object may become the caller's.
        assert_eq!(ask("theirs", &alice).await, (404, 1));
        assert_eq!(ask("theirs", &alice).await, (404, 1));
        assert_eq!(ask("missing", &alice).await, (404, 1));
        assert_eq!(ask("missing", &alice).await, (404, 1));
        // A write asks, and leaves nothing for a read.
        for _ in 0..2 {
            let before = notes.look_ups();
            trial.ask(send("PUT /v1/invoices/mine", &alice, BODY)).await;
            trial.ask(send("PUT /v1/invoices/mine3", &alice, BODY)).await;
            assert_eq!(notes.look_ups() - before, 2);
        }
        assert_eq!(ask("mine3", &alice).await, (200, 1));
        trial.clock.advance(Duration::from_millis(4_999));
        assert_eq!(ask("mine", &alice).await, (200, 0));
        trial.clock.advance(Duration::from_millis(1));
        assert_eq!(
            ask("mine", &alice).await,
            (200, 1),
            "five seconds from the look-up, not from its use"
        );
        trial.gateway.owners.forget();
        assert_eq!(ask("mine", &alice).await, (200, 1));
        trial.reload(|_| {});
        assert_eq!(ask("mine", &alice).await, (200, 1));
    });
}

#[test]
fn refused_ids_run_out() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let (alice, bob) = (trial.token(&trial.user()), bob(&trial));
        assert_eq!(trial.get("/v1/invoices/mine", Some(&alice)).await.status, StatusCode::OK);
        let mut statuses = Vec::new();
        for number in 0..40 {
            let object = if number % 2 == 0 { "theirs" } else { "missing" };
            let path = format!("/v1/invoices/{object}{number}");
            statuses.push(trial.get(&path, Some(&alice)).await.status.as_u16());
        }
        assert_eq!(statuses, [[404; 30].as_slice(), &[429; 10]].concat());
        assert_eq!(notes.look_ups(), 31, "once they are spent the API is left alone");
        let seen = trial.get("/v1/invoices/mine2", Some(&alice)).await;
        assert_eq!(seen.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            (seen.field("retry-after"), &seen.json()["code"]),
            ("2", &"rate_limited".into())
        );
        assert!(seen.field("ratelimit").starts_with("\"refused_objects\";r=0;"), "{seen:?}");
        let record = trial.records.last();
        assert_eq!((record.reason.as_str(), record.stage), ("ObjectsExhausted", "authorize"));
        // What is known to be its own stays open, and so does everything for everybody else.
        assert_eq!(trial.get("/v1/invoices/mine", Some(&alice)).await.status, StatusCode::OK);
        assert_eq!(trial.get("/v1/invoices/theirs", Some(&bob)).await.status, StatusCode::OK);
        assert_eq!(trial.get("/v1/things/1", Some(&alice)).await.status, StatusCode::OK);
        trial.clock.advance(Duration::from_secs(2));
        assert_eq!(
            trial.get("/v1/invoices/missing", Some(&alice)).await.status,
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            trial.get("/v1/invoices/missing", Some(&alice)).await.status,
            StatusCode::TOO_MANY_REQUESTS
        );
    });
}

/// Waits until so many look-ups are under way.
async fn under_way(notes: &upstream::Notes, count: usize) {
    while notes.asking.get() < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn equal_questions_are_asked_once() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let (alice, bob) = (trial.token(&trial.user()), bob(&trial));
        let reads = (0..20).map(|_| trial.get("/v1/invoices/held", Some(&alice)));
        let other = std::iter::once(trial.get("/v1/invoices/held", Some(&bob)));
        let mut gate = Box::pin(async {
            under_way(&notes, 2).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            notes.held.notify_waiters();
        });
        let asking = join_all(reads.chain(other));
        let (statuses, ()) = tokio::join!(asking, gate.as_mut());
        let ok = statuses.iter().filter(|seen| seen.status == StatusCode::OK).count();
        assert_eq!(ok, 20);
        assert_eq!(statuses[20].status, StatusCode::NOT_FOUND, "another's question is another");
        assert_eq!(notes.look_ups(), 2);
        // Writes never join.
        let writes = (0..5).map(|_| trial.ask(send("PUT /v1/invoices/held", &alice, BODY)));
        let gate = async {
            under_way(&notes, 5).await;
            notes.held.notify_waiters();
        };
        let (statuses, ()) = tokio::join!(join_all(writes), gate);
        assert!(statuses.iter().all(|seen| seen.status == StatusCode::OK));
        assert_eq!(notes.look_ups(), 7);
    });
}

#[test]
fn no_more_than_sixty_four_at_once() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let paths: Vec<String> = (0..100).map(|n| format!("/v1/invoices/held{n}")).collect();
        let asking = join_all(paths.iter().map(|path| trial.get(path, Some(&token))));
        let gate = async {
            under_way(&notes, 64).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(notes.asking.get(), 64);
            assert_eq!(trial.gateway.owners.asking(), 100);
            while notes.look_ups() < 100 || notes.asking.get() > 0 {
                notes.held.notify_waiters();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (seen, ()) = tokio::join!(asking, gate);
        assert!(seen.iter().all(|seen| seen.status == StatusCode::OK));
        assert_eq!((notes.most.get(), notes.look_ups()), (64, 100));
        assert_eq!(trial.gateway.owners.asking(), 0);
    });
}

#[test]
fn an_asker_who_goes_away_takes_no_others_answer_along() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let mut first = Box::pin(trial.get("/v1/invoices/held", Some(&token)));
        tokio::select! {
            _ = &mut first => panic!("it is held"),
            () = under_way(&notes, 1) => {}
        }
        let second = trial.get("/v1/invoices/held", Some(&token));
        drop(first);
        let gate = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            notes.held.notify_waiters();
        };
        let (seen, ()) = tokio::join!(second, gate);
        assert_eq!(seen.status, StatusCode::OK);
        assert_eq!(notes.look_ups(), 1);
    });
}

#[test]
fn one_generation_decides_while_an_owner_is_asked_for() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        let asking = trial.ask(send("PUT /v1/invoices/held", &token, BODY));
        let limits = Setup::default().limits;
        let gate = async {
            under_way(&notes, 1).await;
            // Rules without any line of these: the operation's number means another one there.
            trial.reload(|next| next.rules = Arc::new(table::other_rules(&limits)));
            notes.held.notify_waiters();
        };
        let (seen, ()) = tokio::join!(asking, gate);
        assert_eq!(seen.status, StatusCode::OK);
        assert_eq!(notes.served()[0].line, "PUT /base/invoices/held");
        let seen = trial.ask(send("PUT /v1/invoices/mine", &token, BODY)).await;
        assert_eq!(seen.status, StatusCode::NOT_FOUND, "and the next is of the new one");
        assert_eq!(notes.look_ups(), 1);
    });
}

#[test]
fn another_spelling_of_an_id_is_another_object_or_none() {
    run(async |setup| {
        let (trial, notes) = noted(setup).await;
        let token = trial.token(&trial.user());
        for (path, status) in [
            ("/v1/invoices/Mine", 404),
            ("/v1/invoices/%6Dine", 400),
            ("/v1/invoices/mine%20", 404),
            ("/v1/invoices/mine/", 404),
            ("/v1/invoices/MINE", 404),
            ("/v1/Invoices/mine", 404),
            ("/v1/invoices/mine;x", 400),
            ("/v1/invoices/..%2Fmine", 400),
            ("/v1/invoices/%2e%2e/mine", 400),
            ("/v1/invoices//mine", 400),
        ] {
            let seen = trial.get(path, Some(&token)).await;
            assert_eq!(seen.status.as_u16(), status, "{path} {:?}", trial.records.last());
        }
        assert!(notes.served().is_empty());
    });
}
