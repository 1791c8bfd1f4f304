//! The token endpoint and what happens to a token afterwards: redemption, client authentication,
//! revocation.

use std::sync::Barrier;

use portcullis_core::jose::claims::AssertionClaims;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::time::Clock;

use crate::support::browser::{Browser, Errand, REDIRECT, access_token, claims_of};
use crate::support::plan::Plan;
use crate::support::seed::Wall;
use crate::support::server::Server;
use crate::support::story;
use crate::support::wire::Answer;

type Form = Vec<(String, String)>;

fn with(mut form: Form, name: &str, value: Option<&str>) -> Form {
    form.retain(|(known, _)| known != name);
    form.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    form
}

fn error_of(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn each_check_of_a_redemption_refuses_by_itself_and_consumes_nothing() {
    let server = Plan::default().people(1).start();
    let errand = Errand::new();
    let code = Browser::new(&server).code(&server.people[0], &errand);
    let form = errand.redemption(&code);
    let other = Errand::new();
    for (name, value, error) in [
        ("code_verifier", Some(other.verifier.as_str()), "invalid_grant"),
        ("code_verifier", None, "invalid_grant"),
        ("client_id", Some("other"), "invalid_grant"),
        ("client_id", Some("nobody"), "invalid_client"),
        ("client_id", Some("ledger"), "invalid_client"),
        ("redirect_uri", Some("http://127.0.0.1:10/cb"), "invalid_grant"),
        ("redirect_uri", None, "invalid_grant"),
        ("code", Some("garbage"), "invalid_grant"),
        ("grant_type", Some("password"), "unsupported_grant_type"),
        ("resource", Some("https://evil.test"), "invalid_target"),
    ] {
        let answer = server.form("/oauth/token", &with(form.clone(), name, value));
        assert_eq!(error_of(&answer), error, "{name}={value:?}: {}", answer.text());
        assert_eq!(answer.status, if error == "invalid_client" { 401 } else { 400 }, "{name}");
    }
    // The query is never looked at, and a doubled parameter is refused.
    let doubled = [form.clone(), vec![("code".into(), code.clone())]].concat();
    assert_eq!(error_of(&server.form("/oauth/token", &doubled)), "invalid_request");
    let query = format!("/oauth/token?code={code}");
    assert_eq!(
        error_of(&server.form(&query, &with(form.clone(), "code", None))),
        "invalid_request"
    );
    // All that consumed nothing.
    let answer = server.form("/oauth/token", &form);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn fifty_redemptions_at_once_have_one_winner() {
    const AT_ONCE: usize = 50;
    let server = Plan::default().people(1).start();
    let errand = Errand::new();
    let code = Browser::new(&server).code(&server.people[0], &errand);
    let form = errand.redemption(&code);
    let gate = Barrier::new(AT_ONCE);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let redeem = || {
            gate.wait();
            server.form("/oauth/token", &form)
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(redeem)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let won: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(won.len(), 1);
    for lost in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(error_of(lost), "invalid_grant", "{}", lost.text());
    }
    // A replay that passed every check revokes the grant (RFC 9700 §2.1.1): the winner's token died.
    let token = access_token(won[0]);
    assert_eq!(server.ask_as("GET /v1/accounts/acc-0", &token).status, 401);
}

#[test]
fn a_revoked_token_is_refused_on_the_very_next_request() {
    let server = Plan::default().people(1).start();
    let token = server.log_in(&server.people[0]);
    let mut wire = server.connect(server.ports.api);
    let bearer = format!("Bearer {token}");
    let fields = [("authorization", bearer.as_str())];
    let line = "GET /v1/accounts/acc-0";
    let bytes = crate::support::server::request(line, server.ports.api, &fields, b"");
    for (status, revoke) in [(200, true), (401, false)] {
        wire.send(&bytes).expect("sent");
        let answer = wire.answer().expect("an answer");
        assert_eq!(answer.status, status);
        if revoke {
            assert_eq!(server.revoke(&token).status, 200);
        } else {
            assert_eq!(server.record(&answer)["reason"], "TokenRevoked");
        }
    }
    // RFC 7009 §2.2: an unknown token is no error, and nobody revokes another's.
    assert_eq!(server.revoke("garbage").status, 200);
}

#[test]
fn nobody_revokes_anothers_token() {
    let server = Plan::default().people(1).start();
    let token = server.log_in(&server.people[0]);
    let form = [("token", token.as_str()), ("client_id", "other")];
    server.form("/oauth/revoke", &form.map(|(name, value)| (name.into(), value.into())));
    assert_eq!(server.ask_as("GET /v1/accounts/acc-0", &token).status, 200);
}

#[test]
fn a_disabled_user_is_out_on_the_next_request() {
    let server = Plan::default().start();
    let person = &server.people[0];
    let mut browser = Browser::new(&server);
    let errand = Errand::new();
    let code = browser.code(person, &errand);
    let token = access_token(&server.form("/oauth/token", &errand.redemption(&code)));
    let pending = Errand::new();
    let unredeemed = Browser::new(&server).code(person, &pending);
    assert_eq!(server.ask_as("GET /v1/accounts/acc-0", &token).status, 200);
    let disabled = server.cli(&["user", "disable", &person.login]);
    assert!(disabled.status.success(), "{}", String::from_utf8_lossy(&disabled.stderr));
    assert_eq!(server.ask_as("GET /v1/accounts/acc-0", &token).status, 401);
    // Nor does anything that was under way come to an end.
    let answer = server.form("/oauth/token", &pending.redemption(&unredeemed));
    assert_eq!(error_of(&answer), "invalid_grant", "{}", answer.text());
    assert!(browser.begin(&Errand::new()).text().contains("Password"), "the session ended");
    let page = Browser::new(&server).begin(&Errand::new());
    let answer = Browser::new(&server).password(&page, &person.login, &person.password);
    assert_ne!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_service_gets_what_it_is_registered_for() {
    let mut server = Plan::default().people(1).start();
    let token = story::bearer(&mut server, "ledger");
    let claims = claims_of(&token);
    assert_eq!((&claims["kind"], &claims["sub"]), (&"service".into(), &"ledger".into()));
    assert_eq!(server.ask_as("POST /v1/settlements", &token).status, 200);
    let short = server.ask_as("GET /v1/settlements", &token);
    assert_eq!((short.status, short.code().as_str()), (403, "insufficient_scope"));
    let challenge = short.field("www-authenticate").to_owned();
    assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
    assert!(challenge.contains("scope=\"settlements:read\""), "{challenge}");
    // What `token fetch` prints is bound, so that a log that shows it opens nothing.
    let bound = server.fetch("ledger");
    assert!(claims_of(&bound)["cnf"]["jkt"].is_string(), "{}", claims_of(&bound));
    assert_eq!(server.ask_as("POST /v1/settlements", &bound).status, 401);
    // A person's token is no service's.
    assert_eq!(server.ask_as("GET /v1/accounts/acc-0", &token).status, 403);
}

#[test]
fn client_assertions_are_strict() {
    let server = Plan::default().people(1).start();
    let honest = |name: &str| {
        let now = Wall.now().unix();
        AssertionClaims {
            iss: "ledger".into(),
            sub: "ledger".into(),
            aud: server.issuer(),
            exp: now + 60,
            iat: Some(now),
            nbf: None,
            jti: format!("jti-{name}"),
        }
    };
    let token_url = format!("{}/oauth/token", server.issuer());
    let ahead = |by: i64| Some(Wall.now().unix() + by);
    type Change<'c> = Box<dyn Fn(AssertionClaims) -> AssertionClaims + 'c>;
    let cases: Vec<(&str, u16, Change<'_>)> = vec![
        ("control", 200, Box::new(|claims| claims)),
        (
            "eight seconds ahead",
            200,
            Box::new(|c| AssertionClaims { iat: ahead(8), nbf: ahead(8), ..c }),
        ),
        (
            "a minute ahead",
            401,
            Box::new(|c| AssertionClaims { iat: ahead(61), nbf: ahead(61), ..c }),
        ),
        (
            "the token endpoint as audience",
            401,
            Box::new(|c| AssertionClaims { aud: token_url.clone(), ..c }),
        ),
        (
            "another audience",
            401,
            Box::new(|c| AssertionClaims { aud: "https://evil.test".into(), ..c }),
        ),
        ("expired", 401, Box::new(|c| AssertionClaims { exp: c.exp - 200, ..c })),
        ("another subject", 401, Box::new(|c| AssertionClaims { sub: "auditor".into(), ..c })),
        ("another issuer", 401, Box::new(|c| AssertionClaims { iss: "auditor".into(), ..c })),
    ];
    for (name, status, change) in cases {
        let answer = assert_as(&server, "ledger", &change(honest(name)));
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        if status == 401 {
            assert_eq!(error_of(&answer), "invalid_client", "{name}");
        }
    }
    // Once per client.
    let claims = honest("twice");
    assert_eq!(assert_as(&server, "ledger", &claims).status, 200);
    assert_eq!(error_of(&assert_as(&server, "ledger", &claims)), "invalid_client");
    // Another's key.
    assert_eq!(error_of(&assert_as(&server, "auditor", &honest("key"))), "invalid_client");
}

/// A client-credentials request with an assertion signed by a service's key.
fn assert_as(server: &Server, service: &str, claims: &AssertionClaims) -> Answer {
    let pem = std::fs::read_to_string(server.path().join(format!("{service}.pem"))).expect("a key");
    let assertion = SigningKey::from_pem(&pem).expect("a key").sign("JWT", claims);
    let pairs = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion.as_str()),
    ];
    server.form("/oauth/token", &pairs.map(|(name, value)| (name.into(), value.into())))
}

#[test]
fn id_tokens_and_assertions_are_no_access_tokens() {
    let server = Plan::default().people(1).start();
    let answer = server.log_in_for(&server.people[0], &Errand::new());
    let id_token = answer.json()["id_token"].as_str().expect("an ID token").to_owned();
    assert_eq!(claims_of(&id_token)["aud"], "app");
    assert_eq!(server.ask_as("GET /v1/accounts/acc-0", &id_token).status, 401);
}

#[test]
fn a_token_in_the_query_is_refused_and_dead() {
    let server = Plan::default().people(1).start();
    let token = server.log_in(&server.people[0]);
    let answer = server.ask(&format!("GET /v1/accounts/acc-0?access_token={token}"), &[], b"");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(server.ask_as("GET /v1/accounts/acc-0", &token).status, 401);
    assert!(server.upstream.take().is_empty());
    let record = server.record(&answer).to_string();
    assert!(!record.contains(&token), "{record}");
}

#[test]
fn metadata_says_what_runs() {
    let server = Plan::default().people(1).start();
    let document = Browser::new(&server).get("/.well-known/oauth-authorization-server").json();
    assert_eq!(document["issuer"], server.issuer());
    assert_eq!(document["code_challenge_methods_supported"], serde_json::json!(["S256"]));
    assert_eq!(document["response_types_supported"], serde_json::json!(["code"]));
    assert_eq!(document["authorization_response_iss_parameter_supported"], true);
    for endpoint in ["authorization_endpoint", "token_endpoint", "jwks_uri", "revocation_endpoint"]
    {
        let url = document[endpoint].as_str().unwrap_or_else(|| panic!("{endpoint}"));
        let path = url.strip_prefix(&server.issuer()).expect("on the issuer's origin");
        assert_ne!(Browser::new(&server).get(path).status, 404, "{endpoint} is there");
    }
    let jwks = Browser::new(&server).get("/oauth/jwks").json();
    let keys = jwks["keys"].as_array().expect("keys");
    assert!(keys.iter().all(|key| key.get("d").is_none()), "no private part: {jwks}");
    let resource = server.ask("GET /.well-known/oauth-protected-resource/v1", &[], b"").json();
    assert_eq!(resource["resource"], server.audience());
    assert_eq!(resource["authorization_servers"], serde_json::json!([server.issuer()]));
    assert!(REDIRECT.starts_with("http://127.0.0.1"));
}
