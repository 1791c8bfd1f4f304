//! Which door a request comes to: operations, pages of ours, nothing; and the plain listener.

use http::{Request, StatusCode};
use http_body_util::Full;

use super::*;

#[test]
fn what_is_not_listed_is_not_there() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        for path in
            ["/v1/unlisted", "/v1/secrets", "/v1", "/", "/v2/rates", "/v1/rates/x", "/v1/Rates"]
        {
            for token in [None, Some(token.as_str())] {
                let seen = trial.get(path, token).await;
                assert_eq!(seen.status, StatusCode::NOT_FOUND, "{path}");
                assert_eq!(seen.json()["code"], "not_found");
                assert_eq!(seen.headers.get("www-authenticate"), None, "{path}");
            }
        }
        assert_eq!(trial.records.last().reason, "NotFound");
    });
}

#[test]
fn a_method_that_is_not_there_is_405_with_allow() {
    run(async |setup| {
        let trial = setup.start().await;
        let post = Request::post("/v1/rates").header("host", "api.example");
        let seen = trial.ask(post.body(Full::default()).unwrap()).await;
        assert_eq!(seen.status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(seen.field("allow").contains("GET"), "{seen:?}");
    });
}

#[test]
fn probing_spends_the_peers_limit_twice() {
    run(async |setup| {
        let trial = setup.limit("peer", "60/min per ip, burst 6").start().await;
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(trial.get("/v1/unlisted", None).await.status.as_u16());
        }
        assert_eq!(statuses, [404, 404, 404, 429]);
    });
}

#[test]
fn head_takes_gets_rule() {
    run(async |setup| {
        let trial = setup.start().await;
        let head = |path: &str| {
            Request::head(path).header("host", "api.example").body(Full::default()).unwrap()
        };
        assert_eq!(trial.ask(head("/v1/rates")).await.status, StatusCode::OK);
        assert_eq!(trial.ask(head("/v1/accounts/a1")).await.status, StatusCode::UNAUTHORIZED);
    });
}

#[test]
fn a_page_of_ours_travels_the_same_journey() {
    run(async |setup| {
        let trial = setup.start().await;
        let page = |method: &str, path: &str, body: &'static str| {
            let request =
                Request::builder().method(method).uri(path).header("host", "login.example");
            request.body(Full::from(body)).unwrap()
        };
        let seen = trial.ask(page("POST", "/oauth/token", "grant_type=x")).await;
        assert_eq!((seen.status, &*seen.body), (StatusCode::OK, &b"token 12"[..]));
        assert_eq!(seen.field("cache-control"), "no-store");
        assert!(!seen.field("request-id").is_empty() && !seen.field("ratelimit").is_empty());
        let record = trial.records.last();
        assert_eq!(
            (record.event, record.stage, record.reason.as_str()),
            ("page", "house", "PageShown")
        );
        assert_eq!(
            trial.ask(page("GET", "/oauth/token", "")).await.status,
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(
            trial.ask(page("GET", "/oauth/nothing", "")).await.status,
            StatusCode::NOT_FOUND
        );
        let large: &'static str = Box::leak("x".repeat(1025).into_boxed_str());
        assert_eq!(
            trial.ask(page("POST", "/oauth/token", large)).await.status,
            StatusCode::PAYLOAD_TOO_LARGE
        );
        assert_eq!(trial.ask(page("HEAD", "/login", "")).await.status, StatusCode::OK);
    });
}

#[test]
fn a_page_that_reads_a_token_gets_a_verified_one() {
    run(async |setup| {
        let trial = setup.start().await;
        let userinfo = |token: Option<&str>| {
            let mut request = Request::get("/oauth/userinfo").header("host", "login.example");
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            request.body(Full::default()).unwrap()
        };
        let seen = trial.ask(userinfo(None)).await;
        assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
        assert_eq!(seen.field("www-authenticate"), "Bearer realm=\"portcullis\"");
        assert_eq!(trial.ask(userinfo(Some("garbage"))).await.status, StatusCode::UNAUTHORIZED);
        assert!(trial.house.seen.lock().unwrap().is_empty());
        // A token of any of our audiences will do here.
        let token =
            trial.token(&AccessClaims { aud: "https://other.example".into(), ..trial.user() });
        assert_eq!(trial.ask(userinfo(Some(&token))).await.status, StatusCode::OK);
        assert_eq!(trial.records.last().caller, "u_alice");
    });
}

#[test]
fn plain_http_is_refused_and_a_live_token_revoked() {
    run(async |setup| {
        let trial = setup.start().await;
        let mut client = trial.connect("192.0.2.7", Wire::Plain).await;
        let seen = ask(&mut client, get("/v1/rates", None)).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN);
        assert_eq!(seen.json()["code"], "https_only");
        assert_eq!(seen.headers.get("strict-transport-security"), None, "RFC 6797 §7.2");
        let token = trial.token(&trial.user());
        let get_as = |path: &str, shown: &str| {
            let mut request = get(path, None);
            request.headers_mut().insert("authorization", shown.parse().unwrap());
            request
        };
        for request in [
            get("/v1/accounts/a1", Some(&token)),
            get(&format!("/v1/rates?access_token={token}"), None),
            // Bound to nothing, so of use to who reads it, whatever the scheme says.
            get_as("/v1/rates", &format!("DPoP {token}")),
        ] {
            let seen = ask(&mut client, request).await;
            assert_eq!(seen.status, StatusCode::FORBIDDEN);
            let told = trial.house.seen.lock().unwrap().pop().expect("the house is told");
            assert_eq!(
                (told.page, told.token.unwrap().claims().sub.as_str()),
                ("plain_token", "u_alice")
            );
        }
        let seen = ask(&mut client, get("/v1/accounts/a1", Some("garbage"))).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN);
        assert!(trial.house.seen.lock().unwrap().is_empty());
    });
}

#[test]
fn plain_pages_redirect_to_our_own_address() {
    run(async |setup| {
        let trial = setup.start().await;
        let mut client = trial.connect("192.0.2.7", Wire::Plain).await;
        let page = |host: &str, path: &str| {
            Request::get(path).header("host", host).body(Full::default()).unwrap()
        };
        let seen = ask(&mut client, page("login.example:80", "/login?next=1")).await;
        assert_eq!(seen.status, StatusCode::PERMANENT_REDIRECT);
        assert_eq!(seen.field("location"), "https://login.example/login?next=1");
        for (host, path) in [
            ("evil.example", "/login"),
            ("login.example", "/oauth/token"),
            ("login.example", "/nothing"),
        ] {
            let seen = ask(&mut client, page(host, path)).await;
            assert_eq!(seen.status, StatusCode::FORBIDDEN, "{host}{path}");
        }
    });
}

#[test]
fn a_laptop_is_told_why() {
    run(async |setup| {
        let trial = Setup { reasons: Reasons::Answered, ..setup }.start().await;
        let token = trial.token(&trial.user());
        let seen = trial.get("/v1/accounts/a2", Some(&token)).await;
        let detail = seen.json()["detail"].as_str().unwrap().to_owned();
        for word in ["ConditionFalse", "portcullis.toml:2.1", "authorize"] {
            assert!(detail.contains(word), "{detail}");
        }
    });
}

#[test]
fn a_request_that_is_given_up_is_recorded() {
    run(async |setup| {
        let trial = setup.start().await;
        let before = trial.records.len();
        let mut client = trial.connect("192.0.2.7", Wire::Tls).await;
        client.ready().await.unwrap();
        let asking = client.send_request(get("/v1/slow", None));
        assert!(tokio::time::timeout(Duration::from_millis(50), asking).await.is_err());
        drop(client);
        while trial.records.len() == before {
            tokio::task::yield_now().await;
        }
        let record = trial.records.last();
        assert_eq!(
            (record.status, record.reason.as_str(), record.stage),
            (499, "ClientGone", "forward")
        );
        assert_eq!(trial.records.len(), before + 1);
    });
}

#[test]
fn lines_say_how_much_is_recorded() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let before = trial.records.len();
        assert_eq!(trial.get("/v1/quiet", Some(&token)).await.status, StatusCode::OK);
        assert_eq!(trial.records.len(), before, "`none` leaves permits out");
        trial.get("/v1/quiet", None).await;
        assert_eq!(trial.records.len(), before + 1, "and never a refusal");
        for _ in 0..2 {
            trial.get("/v1/full", Some(&token)).await;
            let clauses = trial.records.last().clauses;
            assert!(!clauses.is_empty() && clauses.iter().all(|clause| clause.held), "{clauses:?}");
        }
        trial.get("/v1/things/1", Some(&token)).await;
        assert!(trial.records.last().clauses.is_empty());
    });
}

#[test]
fn a_journey_is_small() {
    // hyper keeps a place for it in every connection, idle ones too, and moves it once a request.
    run(async |setup| {
        let trial = setup.start().await;
        fn of<A, F: Future>(_: impl Fn(A) -> F) -> usize {
            size_of::<F>()
        }
        let worker = &trial.worker;
        let bytes = of(|arrived| worker.serve(arrived));
        // Of it 120 bytes are what rules read of a request (`Resource`), wherever it is on its way.
        assert!(bytes <= 4352, "{bytes} bytes");
    });
}
