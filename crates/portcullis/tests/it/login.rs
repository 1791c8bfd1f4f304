//! The journey of a login through its pages: what each step refuses, and what the whole way gives.

use crate::support::browser::{Browser, Errand, access_token, claims_of, code_in, hidden};
use crate::support::plan::Plan;
use crate::support::server::Server;
use crate::support::wire::Answer;

#[test]
fn a_whole_login_opens_ones_own_account_alone() {
    let server = Plan::default().start();
    let answer = server.log_in_for(&server.people[0], &Errand::new());
    assert_eq!((answer.status, answer.field("cache-control")), (200, "no-store"));
    let document = answer.json();
    assert_eq!(document["token_type"], "Bearer");
    assert!(document["id_token"].is_string(), "openid was granted: {document}");
    let token = access_token(&answer);
    let claims = claims_of(&token);
    assert_eq!(
        (&claims["aud"], &claims["iss"]),
        (&server.audience().into(), &server.issuer().into())
    );
    let amr = claims["amr"].to_string();
    assert!(amr.contains("pwd") && amr.contains("otp"), "{amr}");
    assert_eq!(claims["acr"], "aal2");
    assert_eq!(server.ask_as("GET /v1/accounts/acc-0", &token).status, 200);
    let other = server.ask_as("GET /v1/accounts/acc-1", &token);
    assert_eq!(other.status, 403);
    let record = server.record(&other);
    assert!(record["clauses"].to_string().contains("acc-1"), "why, with its inputs: {record}");
    assert!(!record.to_string().contains(&token), "no token in a record");
}

#[test]
fn a_password_alone_gets_no_token() {
    let server = Plan::default().people(1).start();
    let person = &server.people[0];
    let mut browser = Browser::new(&server);
    let errand = Errand::new();
    let page = browser.begin(&errand);
    let page = browser.password(&page, &person.login, &person.password);
    assert_eq!((page.status, page.field("location")), (200, ""));
    assert!(page.text().contains("Six-digit code"), "{}", page.text());
    // Whatever is tried with the half-made session shows a page, never a code.
    let state = hidden(&page);
    for answer in [
        browser.begin(&errand),
        browser.post("/consent", &[("state", &state), ("decision", "allow")]),
        browser.post("/login/totp", &[("state", &state), ("code", "")]),
        browser.post("/login/totp", &[("state", &state)]),
        browser.post("/login/totp", &[("state", &state), ("code", "000000")]),
    ] {
        assert!(code_in(&answer).is_none(), "{answer:?}");
        assert_ne!(answer.status, 303, "{answer:?}");
    }
}

#[test]
fn a_wrong_password_and_an_unknown_name_are_told_the_same() {
    let server = Plan::default().people(1).start();
    let said = |login: &str, password: &str| {
        let mut browser = Browser::new(&server);
        let page = browser.begin(&Errand::new());
        let answer = browser.password(&page, login, password);
        let words = answer.text().split("role=\"alert\"").nth(1).unwrap_or_default().to_owned();
        (answer.status, words.split('<').next().unwrap_or_default().to_owned())
    };
    let known = said("p0", "wrong");
    assert_eq!(known.0, 400);
    assert!(known.1.contains("do not match"), "{known:?}");
    for (login, password) in [("nobody", "wrong"), ("", "wrong"), ("p0", "")] {
        assert_eq!(said(login, password), known, "{login:?}");
    }
}

#[test]
fn each_one_time_password_counts_once() {
    let server = Plan::default().people(1).start();
    let person = &server.people[0];
    let code = person.code();
    let to_code = |code: &str| {
        let mut browser = Browser::new(&server);
        let page = browser.begin(&Errand::new());
        let page = browser.password(&page, &person.login, &person.password);
        browser.totp(&page, code)
    };
    let first = to_code(&code);
    assert!(first.text().contains("Allow app?") || first.status == 303, "{}", first.text());
    let again = to_code(&code);
    assert_eq!(again.status, 400, "{}", again.text());
    assert!(again.text().contains("used already"), "{}", again.text());
}

#[test]
fn a_login_started_in_another_browser_is_refused() {
    let server = Plan::default().people(1).start();
    let person = &server.people[0];
    let (mut one, mut other) = (Browser::new(&server), Browser::new(&server));
    let page = one.begin(&Errand::new());
    let stolen = other.password(&page, &person.login, &person.password);
    assert_eq!(code_in(&stolen), None);
    assert!(!stolen.text().contains("Six-digit code"), "{}", stolen.text());
    // With a login of its own under way it is refused all the same.
    other.begin(&Errand::new());
    let stolen = other.password(&page, &person.login, &person.password);
    assert!(!stolen.text().contains("Six-digit code"), "{}", stolen.text());
    // The one that began goes on.
    let page = one.password(&page, &person.login, &person.password);
    assert!(page.text().contains("Six-digit code"), "{}", page.text());
}

#[test]
fn a_state_replayed_after_its_consent_makes_no_second_code() {
    let server = Plan::default().people(1).start();
    let person = &server.people[0];
    let mut browser = Browser::new(&server);
    let page = browser.begin(&Errand::new());
    let page = browser.password(&page, &person.login, &person.password);
    let page = browser.totp(&page, &person.code());
    assert!(page.text().contains("Allow app?"), "a native app is always asked: {}", page.text());
    assert!(code_in(&browser.consent(&page, "allow")).is_some());
    let again = browser.consent(&page, "allow");
    assert!(again.status == 400 && code_in(&again).is_none(), "{again:?}");
}

#[test]
fn consent_denied_is_told_to_the_application() {
    let server = Plan::default().people(1).start();
    let person = &server.people[0];
    let mut browser = Browser::new(&server);
    let page = browser.begin(&Errand::new());
    let page = browser.password(&page, &person.login, &person.password);
    let page = browser.totp(&page, &person.code());
    let answer = browser.consent(&page, "deny");
    let location = answer.field("location");
    assert_eq!(answer.status, 303);
    assert!(
        location.contains("error=access_denied") && location.contains("state=s1"),
        "{location}"
    );
    // RFC 9207 §2: `iss` in every answer, errors too.
    assert!(location.contains("iss=https"), "{location}");
}

#[test]
fn forms_from_another_site_are_refused() {
    let server = Plan::default().people(1).start();
    let page = Browser::new(&server).begin(&Errand::new());
    let body = format!("state={}&login=p0&password=x", hidden(&page));
    let foreign = [
        ("origin", "https://evil.test"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ];
    for (name, value) in foreign {
        let fields = [("content-type", "application/x-www-form-urlencoded"), (name, value)];
        let answer = post_raw(&server, "/login", &fields, &body);
        assert_eq!(answer.status, 403, "{name}: {value}");
    }
    let json = [("content-type", "application/json")];
    assert_eq!(post_raw(&server, "/login", &json, &body).status, 400);
    let doubled = format!("{body}&login=p1");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(post_raw(&server, "/login", &form, &doubled).status, 400);
}

#[test]
fn an_authorization_request_goes_nowhere_that_is_not_registered() {
    let server = Plan::default().people(1).start();
    let good = Errand::new().target();
    let page = |target: &str| Browser::new(&server).get(target);
    assert_eq!(page(&good).status, 200, "the control");
    let redirect = "redirect_uri=http%3A%2F%2F127.0.0.1%3A9%2Fcb";
    assert!(good.contains(redirect));
    for other in [
        "http%3A%2F%2F127.0.0.1%3A9%2Fcb%2F..%2Fx",
        "http%3A%2F%2F127.0.0.1%3A9%2Fcb%2F",
        "http%3A%2F%2F127.0.0.1%3A9%2Fcb%3Fx%3D1",
        "http%3A%2F%2F127.0.0.1%3A9%2Fcb%23x",
        "http%3A%2F%2F127.0.0.1%40evil.test%2Fcb",
        "http%3A%2F%2F127.0.0.1.evil.test%2Fcb",
        "http%3A%2F%2Flocalhost%3A9%2Fcb",
        "https%3A%2F%2F127.0.0.1%3A9%2Fcb",
        "https%3A%2F%2Fapp.test%2Fcb",
        "JaVaScRiPt%3Aalert(1)",
        "data%3Atext%2Fhtml%2Cx",
        "%2F%2Fevil.test%2Fcb",
        "",
    ] {
        let answer = page(&good.replace(redirect, &format!("redirect_uri={other}")));
        assert_eq!((answer.status, answer.field("location")), (400, ""), "{other}");
    }
    for (from, to) in [("client_id=app", "client_id=nobody"), ("client_id=app", "client_id=ledger")]
    {
        let answer = page(&good.replace(from, to));
        assert_eq!((answer.status, answer.field("location")), (400, ""), "{to}");
    }
    let doubled = page(&format!("{good}&{redirect}"));
    assert_eq!((doubled.status, doubled.field("location")), (400, ""));
}

#[test]
fn what_is_wrong_behind_a_proven_redirect_is_told_to_the_application() {
    let server = Plan::default().people(1).start();
    let good = Errand::new().target();
    for (from, to, error) in [
        ("response_type=code", "response_type=token", "unsupported_response_type"),
        ("code_challenge_method=S256", "code_challenge_method=plain", "invalid_request"),
        ("&code_challenge_method=S256", "", "invalid_request"),
        ("code_challenge=", "x=", "invalid_request"),
        ("scope=", "scope=payments%3Asettle+", "invalid_scope"),
        ("&state=s1", "&state=s1&resource=https%3A%2F%2Fevil.test", "invalid_target"),
        (
            "&state=s1",
            "&state=s1&request_uri=https%3A%2F%2Fevil.test%2Fr",
            "request_uri_not_supported",
        ),
        ("&state=s1", "&state=s1&prompt=none", "login_required"),
    ] {
        let answer = Browser::new(&server).get(&good.replace(from, to));
        let location = answer.field("location");
        assert_eq!(answer.status, 303, "{to}");
        assert!(location.starts_with("http://127.0.0.1:9/cb?"), "{to}: {location}");
        assert!(location.contains(&format!("error={error}")), "{to}: {location}");
        assert!(code_in(&answer).is_none());
    }
}

#[test]
fn ten_wrong_passwords_are_throttled_and_the_owner_is_not_locked_out() {
    let server = Plan::default().people(1).start();
    let person = &server.people[0];
    // The owner's browser has logged in before: a known device.
    let mut owner = Browser::new(&server);
    owner.code(person, &Errand::new());
    owner.cookies.retain(|name, _| name.contains("device"));
    assert_eq!(owner.cookies.len(), 1, "the device is remembered");
    let mut statuses = Vec::new();
    for _ in 0..10 {
        let mut stranger = Browser::new(&server);
        let page = stranger.begin(&Errand::new());
        let answer = stranger.password(&page, &person.login, "not the password");
        if answer.status == 429 {
            assert!(answer.field("retry-after").parse::<u64>().expect("a wait") > 0);
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 5, "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    // A stranger with the right password is throttled too; the owner is let in.
    let mut stranger = Browser::new(&server);
    let page = stranger.begin(&Errand::new());
    let answer = stranger.password(&page, &person.login, &person.password);
    assert_eq!(answer.status, 429, "{}", answer.text());
    let page = owner.begin(&Errand::new());
    let page = owner.password(&page, &person.login, &person.password);
    assert!(page.text().contains("Six-digit code"), "{} {}", page.status, page.text());
}

#[test]
fn cookies_are_host_bound_and_the_session_changes_with_its_assurance() {
    let server = Plan::default().people(1).start();
    let person = &server.people[0];
    let mut browser = Browser::new(&server);
    let page = browser.begin(&Errand::new());
    let page = browser.password(&page, &person.login, &person.password);
    let attributes = ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"];
    let set = page.all("set-cookie");
    assert!(!set.is_empty());
    for cookie in set {
        assert!(cookie.starts_with("__Host-"), "{cookie}");
        assert!(attributes.iter().all(|part| cookie.contains(part)), "{cookie}");
        assert!(!cookie.contains("Domain"), "{cookie}");
    }
    let before = browser.cookies.get("__Host-pc-session").cloned();
    assert!(before.is_some(), "{:?}", browser.cookies.keys());
    browser.totp(&page, &person.code());
    let after = browser.cookies.get("__Host-pc-session").cloned();
    assert!(after.is_some() && before != after, "a raise makes a new session cookie");
}

/// A form without the browser around it.
fn post_raw(server: &Server, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let port = server.ports.issuer;
    let mut wire = server.connect(port);
    let line = format!("POST {path}");
    let bytes = crate::support::server::request(&line, port, fields, body.as_bytes());
    wire.send(&bytes).expect("sent");
    wire.answer().expect("an answer")
}
