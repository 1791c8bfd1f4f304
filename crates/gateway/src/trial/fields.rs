//! What passes between client and upstream, and what does not.

use http::{Request, StatusCode};
use http_body_util::Full;
use portcullis_core::jose::jws;

use super::*;

fn spoofing(request: http::request::Builder) -> Request<Full<Bytes>> {
    let names = [
        "portcullis-identity",
        "Portcullis-Identity",
        "portcullis_identity",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "forwarded",
        "x-user-id",
        "x-original-url",
        "request-id",
    ];
    let request = names.iter().fold(request, |request, name| request.header(*name, "spoofed"));
    request.body(Full::default()).unwrap()
}

#[test]
fn the_upstream_sees_our_word_alone() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let own = Request::get("/v1/things/1").header("authorization", format!("Bearer {token}"));
        let open = Request::get("/v1/rates");
        for (kind, request) in [("user", own), ("anonymous", open)] {
            let seen = trial.ask(spoofing(request.header("host", "api.example"))).await;
            assert_eq!(seen.status, StatusCode::OK);
            assert!(!seen.json().to_string().contains("spoofed"), "{kind}");
            assert_eq!(seen.upstream_saw("authorization"), None);
            assert_eq!(seen.upstream_saw("host").unwrap(), "127.0.0.1:9000");
            assert_eq!(seen.upstream_saw("x-forwarded-for").unwrap(), "192.0.2.7");
            assert_eq!(seen.upstream_saw("x-forwarded-host").unwrap(), "api.example");
            assert_eq!(seen.upstream_saw("x-forwarded-proto").unwrap(), "https");
            assert_eq!(
                seen.upstream_saw("forwarded").unwrap(),
                "for=192.0.2.7;proto=https;host=api.example"
            );
            assert_eq!(seen.upstream_saw("request-id").unwrap(), seen.field("request-id"));
            let passport = seen.upstream_saw("portcullis-identity").unwrap();
            let parsed = jws::parse(&passport).unwrap();
            assert!(trial.passport.public().verify(parsed.signed, &parsed.signature));
            let claims: serde_json::Value = serde_json::from_slice(&parsed.payload).unwrap();
            assert_eq!(
                (claims["kind"].as_str(), claims["iss"].as_str()),
                (Some(kind), Some(ISSUER))
            );
            assert_eq!(claims["aud"], "http://127.0.0.1:9000");
            assert_eq!(claims["sub"].as_str(), (kind == "user").then_some("u_alice"));
            assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
        }
    });
}

#[test]
fn a_passport_is_no_access_token() {
    run(async |setup| {
        let trial = setup.start().await;
        let passport =
            trial.get("/v1/rates", None).await.upstream_saw("portcullis-identity").unwrap();
        let seen = trial.get("/v1/things/1", Some(&passport)).await;
        assert_eq!(
            (seen.status, trial.records.last().reason),
            (StatusCode::UNAUTHORIZED, "TokenTypeWrong".into())
        );
    });
}

#[test]
fn our_cookies_stay_with_us_and_theirs_pass() {
    run(async |setup| {
        let trial = setup.start().await;
        let ask = async |cookie: &str| {
            let request =
                Request::get("/v1/rates").header("host", "api.example").header("cookie", cookie);
            trial.ask(request.body(Full::default()).unwrap()).await.upstream_saw("cookie")
        };
        assert_eq!(ask("a=1; __Host-pc_session=s; b=2").await.as_deref(), Some("a=1; b=2"));
        assert_eq!(ask("__Host-pc_session=s").await, None);
        assert_eq!(ask("a=1").await.as_deref(), Some("a=1"));
    });
}

#[test]
fn an_upstream_says_nothing_in_our_name() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let seen = trial.get("/v1/things/1", Some(&token)).await;
        for absent in ["portcullis-identity", "access-control-allow-origin", "x-hop", "connection"]
        {
            assert_eq!(seen.headers.get(absent), None, "{absent}");
        }
        let cookies: Vec<_> = seen.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["theirs=1"]);
        assert!(seen.field("request-id").starts_with("r_"));
        assert_eq!(seen.field("x-content-type-options"), "nosniff");
        assert_eq!(seen.field("cache-control"), "private, no-store");
        assert!(seen.field("strict-transport-security").starts_with("max-age="));
        let open = trial.get("/v1/rates", None).await;
        assert_eq!(open.headers.get("cache-control"), None, "only answers that know who asks");
    });
}

#[test]
fn the_rest_of_the_target_is_passed_on_byte_for_byte() {
    run(async |setup| {
        let trial = setup.start().await;
        let token = trial.token(&trial.user());
        let targets =
            ["/things/a/b", "/things/a%20b?x=%41&y", "/things/%C3%A9?", "/things/a?a=/../b"];
        for rest in targets {
            let seen = trial.get(&format!("/v1{rest}"), Some(&token)).await;
            assert_eq!(seen.status, StatusCode::OK, "{rest}");
            assert_eq!(seen.json()["target"], format!("/base{rest}"));
        }
    });
}

#[test]
fn only_listed_origins_read_answers() {
    run(async |setup| {
        let trial = setup.start().await;
        let from = |origin: &str, path: &str| {
            let request = Request::get(path).header("host", "api.example").header("origin", origin);
            request.body(Full::default()).unwrap()
        };
        for path in ["/v1/rates", "/v1/accounts/a1"] {
            let seen = trial.ask(from(APP, path)).await;
            assert_eq!(seen.field("access-control-allow-origin"), APP, "{path}");
            assert!(seen.field("access-control-expose-headers").contains("WWW-Authenticate"));
            assert_eq!(seen.field("vary"), "Origin");
            for foreign in
                ["null", "https://app.example.evil", "http://app.example", "https://app.example:1"]
            {
                let seen = trial.ask(from(foreign, path)).await;
                assert_eq!(seen.headers.get("access-control-allow-origin"), None, "{foreign}");
                assert_eq!(seen.field("vary"), "Origin");
            }
        }
    });
}

#[test]
fn a_preflight_is_answered_before_authentication() {
    run(async |setup| {
        let trial = setup.start().await;
        let preflight = |origin: &str, path: &str, method: &str| {
            let request = Request::options(path)
                .header(
                    "host",
                    if path.starts_with("/v1") { "api.example" } else { "login.example" },
                )
                .header("origin", origin)
                .header("access-control-request-method", method)
                .header("access-control-request-headers", "authorization,content-type");
            request.body(Full::default()).unwrap()
        };
        for (path, method) in [("/v1/accounts/a1", "GET"), ("/oauth/token", "POST")] {
            let seen = trial.ask(preflight(APP, path, method)).await;
            assert_eq!(seen.status, StatusCode::NO_CONTENT);
            assert_eq!(seen.field("access-control-allow-origin"), APP);
            assert_eq!(seen.field("access-control-allow-methods"), method);
            assert_eq!(seen.field("access-control-allow-headers"), "authorization,content-type");
            assert_eq!(seen.headers.get("access-control-allow-credentials"), None);
        }
        let foreign = trial.ask(preflight("https://evil.example", "/v1/accounts/a1", "GET")).await;
        assert_eq!(foreign.status, StatusCode::FORBIDDEN);
        assert_eq!(foreign.headers.get("access-control-allow-origin"), None);
        assert_eq!(
            trial.ask(preflight(APP, "/v1/rates", "DELETE")).await.status,
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(
            trial.ask(preflight(APP, "/v1/unlisted", "GET")).await.status,
            StatusCode::NOT_FOUND
        );
    });
}
