//! Every door, tried without a key. The doors are read where they are made (the house's table of
//! pages, the access lines of the tests' config), so that a door without a row here fails.

use serde_json::Value;

use crate::support::browser::Browser;
use crate::support::plan::{self, Plan};
use crate::support::server::{Server, request};
use crate::support::wire::{Answer, Wire};

/// What meets whoever has no key.
#[derive(Clone, Copy, Debug)]
enum Meets {
    /// It is for everyone.
    Open,
    /// 401 with a challenge.
    Challenge,
    /// 401 with a challenge of the issuer's own, which is no API with metadata.
    Token,
    /// As if nothing were there.
    Nothing,
    /// A page that says no, with this status.
    Page(u16),
    /// A page with a form that is bound to the browser.
    Form,
    /// An OAuth error, with status and code.
    Oauth(u16, &'static str),
}

use Meets::{Challenge, Form, Nothing, Oauth, Open, Page, Token};

/// Method, path, and what is met: every page of the issuer.
const ISSUER: &[(&str, &str, Meets)] = &[
    // Without parameters there is no client, and nobody is sent anywhere.
    ("GET", "/oauth/authorize", Page(400)),
    ("POST", "/oauth/authorize", Page(400)),
    ("POST", "/login", Page(400)),
    ("POST", "/login/totp", Page(400)),
    ("POST", "/consent", Page(400)),
    ("POST", "/oauth/token", Oauth(401, "invalid_client")),
    ("POST", "/oauth/revoke", Oauth(401, "invalid_client")),
    ("POST", "/oauth/par", Oauth(401, "invalid_client")),
    ("POST", "/oauth/device", Oauth(401, "invalid_client")),
    ("POST", "/oauth/introspect", Oauth(401, "invalid_client")),
    ("GET", "/oauth/userinfo", Token),
    ("POST", "/oauth/userinfo", Token),
    ("GET", "/device", Form),
    ("POST", "/device", Form),
    ("GET", "/logout", Page(200)),
    ("POST", "/logout", Page(200)),
    ("GET", "/oauth/jwks", Open),
    ("GET", "/.well-known/openid-configuration", Open),
    ("GET", "/.well-known/oauth-authorization-server", Open),
    ("GET", "/.well-known/portcullis-jwks", Open),
    ("GET", "/static/portcullis.css", Open),
];

/// API, method, pattern, what is met: every access line.
const OPERATIONS: &[(&str, &str, &str, Meets)] = &[
    ("payments", "GET", "/rates", Open),
    ("payments", "POST", "/echo", Open),
    ("payments", "POST", "/small", Open),
    ("payments", "POST", "/slow", Open),
    ("payments", "GET", "/accounts/{account}", Challenge),
    ("payments", "POST", "/accounts/{account}/payments", Challenge),
    ("payments", "POST", "/settlements", Challenge),
    ("payments", "GET", "/settlements", Challenge),
    ("payments", "GET", "/admin/report", Nothing),
    ("payments", "GET", "/shared", Challenge),
    ("bound", "GET", "/dpop", Challenge),
    ("bound", "GET", "/mtls", Challenge),
    ("bound", "GET", "/either", Challenge),
    ("bound", "GET", "/keyed", Challenge),
    ("bound", "GET", "/free", Challenge),
    ("bound", "GET", "/via", Challenge),
    ("bound", "GET", "/shared", Challenge),
    ("bound", "GET", "/user", Challenge),
    ("bound", "GET", "/admin", Challenge),
    ("pages", "GET", "/{page}", Open),
    ("pages", "GET", "/admin", Nothing),
    ("rest", "GET", "/**", Open),
];

/// The pages of the house on each API's host.
const HOUSE_ON_APIS: &[&str] =
    &["/.well-known/oauth-protected-resource/v1", "/.well-known/portcullis-jwks"];

/// Method and path of every entry of `ISSUER_PAGES`.
fn issuer_pages() -> Vec<(String, String)> {
    let source = include_str!("../../src/house/mod.rs");
    let (_, table) = source.split_once("const ISSUER_PAGES").expect("the table of pages");
    let (table, _) = table.split_once("];").expect("its end");
    let rows = table.lines().map(str::trim).filter(|line| line.starts_with("(\""));
    rows.map(|row| {
        let mut words = row.split('"').skip(1).step_by(2).map(str::to_owned);
        (words.next().expect("a method"), words.next().expect("a path"))
    })
    .collect()
}

#[test]
fn every_page_of_the_issuer_has_a_row() {
    let mut made = issuer_pages();
    let mut rows: Vec<_> = ISSUER.iter().map(|row| (row.0.to_owned(), row.1.to_owned())).collect();
    made.sort();
    rows.sort();
    assert!(made.len() >= 11, "the table of pages was not read: {made:?}");
    assert_eq!(made, rows, "a page was added or taken away: give it a row in ISSUER");
}

#[test]
fn every_operation_has_a_row() {
    let mut lines = plan::access_lines();
    let rows = OPERATIONS.iter().map(|row| (row.0.to_owned(), row.1.to_owned(), row.2.to_owned()));
    let mut rows: Vec<_> = rows.collect();
    lines.sort();
    rows.sort();
    assert_eq!(lines, rows, "a line was added or taken away: give it a row in OPERATIONS");
}

#[test]
fn the_issuers_pages_without_a_key() {
    let server = Plan::default().people(1).start();
    for (method, path, meets) in ISSUER {
        let answer = match *method {
            "GET" => Browser::new(&server).get(path),
            _ => Browser::new(&server).post(path, &[]),
        };
        meets_without_a_key(&format!("{method} {path}"), *meets, &answer);
        // The other methods are not there.
        let mut wire = server.connect(server.ports.issuer);
        let other = request(&format!("DELETE {path}"), server.ports.issuer, &[], b"");
        wire.send(&other).expect("sent");
        let answer = wire.answer().expect("an answer");
        assert_eq!(answer.status, 405, "DELETE {path}");
        assert!(answer.field("allow").contains(method), "DELETE {path}: {}", answer.field("allow"));
    }
    for path in [
        "/",
        "/admin/v1/users",
        "/account",
        "/login/totp/",
        "/oauth",
        "/oauth/register",
        "/metrics",
        "/readyz",
    ] {
        assert_eq!(Browser::new(&server).get(path).status, 404, "{path}");
    }
}

/// The endpoints that a document names: where each is, by the member that names it.
fn advertised(document: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, value) in document.as_object().expect("an object") {
        match value {
            Value::String(url) if name.ends_with("_endpoint") || name.ends_with("_uri") => {
                found.push((name.clone(), url.clone()));
            }
            Value::Object(_) => found.extend(advertised(value)),
            _ => {}
        }
    }
    found
}

#[test]
fn what_discovery_names_is_there() {
    let server = Plan::default().people(1).start();
    for document in ["openid-configuration", "oauth-authorization-server"] {
        let document = Browser::new(&server).get(&format!("/.well-known/{document}")).json();
        let named = advertised(&document);
        assert!(named.len() >= 9, "{document}");
        for (name, url) in named {
            let (host, path) = url
                .strip_prefix("https://")
                .and_then(|rest| rest.split_once('/'))
                .unwrap_or_else(|| panic!("{name}: {url}"));
            let path = format!("/{path}");
            let rows: Vec<_> = ISSUER.iter().filter(|row| row.1 == path).collect();
            assert!(!rows.is_empty(), "{name}: `{path}` is no page of the issuer");
            let (host, port) = host.split_once(':').expect("a port");
            assert_eq!(port, server.ports.issuer.to_string(), "{name}");
            for (method, path, _) in rows {
                let mut wire = server.connect_as(server.ports.issuer, host).expect("connected");
                let text = format!(
                    "{method} {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: 0\r\n\r\n"
                );
                wire.send(text.as_bytes()).expect("sent");
                let status = wire.answer().expect("an answer").status;
                assert!(!matches!(status, 404 | 405 | 421), "{name}: {method} {url}: {status}");
            }
        }
        // And what is off is not named.
        assert_eq!(document["registration_endpoint"], Value::Null);
    }
}

#[test]
fn what_answers_at_the_issuer_is_named_or_a_page() {
    let server = Plan::default().people(1).start();
    let document = Browser::new(&server).get("/.well-known/openid-configuration").json();
    let named: Vec<String> = advertised(&document).into_iter().map(|(_, url)| url).collect();
    for (_, path, _) in ISSUER.iter().filter(|row| row.1.starts_with("/oauth/")) {
        let url = format!("{}{path}", server.issuer());
        assert!(named.contains(&url), "`{path}` answers and no metadata names it");
    }
}

#[test]
fn the_operations_without_a_key() {
    let server = Plan::default().people(1).start();
    server.upstream.release();
    for (api, method, pattern, meets) in OPERATIONS {
        let (name, at) = match *api {
            "payments" => ("localhost", "/v1"),
            "pages" => ("open.test", ""),
            "bound" => ("bound.test", "/b"),
            _ => ("localhost", ""),
        };
        let path = pattern.replace("{account}", "acc-0").replace("{page}", "p").replace("**", "r");
        let mut wire = server.connect_as(server.ports.api, name).expect("connected");
        let port = server.ports.api;
        let line = format!(
            "{method} {at}{path} HTTP/1.1\r\nhost: {name}:{port}\r\ncontent-length: 0\r\n\r\n"
        );
        wire.send(line.as_bytes()).expect("sent");
        let answer = wire.answer().expect("an answer");
        meets_without_a_key(&format!("{api} {method} {pattern}"), *meets, &answer);
        let reached = !server.upstream.take().is_empty();
        assert_eq!(reached, matches!(meets, Open), "{api} {method} {pattern}: at the upstream");
    }
    for path in HOUSE_ON_APIS {
        let answer = server.ask(&format!("GET {path}"), &[], b"");
        meets_without_a_key(path, Open, &answer);
        assert!(answer.json().is_object(), "{path}");
    }
    assert!(server.upstream.take().is_empty(), "the house answers itself");
}

#[test]
fn the_health_listener_shows_three_pages() {
    let server = Plan::default().people(1).start();
    for (page, status) in
        [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/v1/rates", 404)]
    {
        let answer = server.health(page).expect("an answer");
        assert_eq!(answer.status, status, "{page}");
    }
    let metrics = server.health("/metrics").expect("an answer").text();
    assert!(metrics.contains("portcullis_requests_total"), "{metrics}");
    for page in ["/healthz", "/readyz", "/metrics"] {
        let answer = server.ask(&format!("GET {page}"), &[], b"");
        let line = answer.json()["line"].as_str().map(str::to_owned);
        assert_eq!(line, Some(format!("GET /rest{page}")), "the API's port has no health pages");
    }
}

#[test]
fn the_plain_listener_redirects_pages_and_refuses_apis() {
    let server = Plan::default().people(1).start();
    let ask = |path: &str, host: &str| {
        let mut wire = Wire::plain(server.ports.plain).expect("connected");
        let text = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        wire.send(text.as_bytes()).expect("sent");
        wire.answer().expect("an answer")
    };
    let page = ask("/.well-known/openid-configuration", "localhost");
    assert_eq!(page.status, 308);
    let target = format!("{}/.well-known/openid-configuration", server.issuer());
    assert_eq!(page.field("location"), target);
    for (path, host) in
        [("/v1/rates", "localhost"), ("/oauth/jwks", "evil.test"), ("/p", "open.test")]
    {
        assert_eq!(ask(path, host).status, 403, "{host}{path}");
    }
    assert!(server.upstream.take().is_empty());
}

#[test]
fn the_control_socket_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let server: Server = Plan::default().people(1).start();
    let mode = |name: &str| {
        let path = server.path().join("data").join(name);
        let meta = std::fs::metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        meta.permissions().mode() & 0o777
    };
    for (name, expected) in [
        ("", 0o700),
        ("control.sock", 0o600),
        ("kek", 0o600),
        ("ca-key.pem", 0o600),
        ("portcullis.db", 0o600),
    ] {
        assert_eq!(mode(name), expected, "data/{name}");
    }
}

fn meets_without_a_key(door: &str, meets: Meets, answer: &Answer) {
    let said = format!("{door}: {} {}", answer.status, answer.text());
    assert!(answer.field("request-id").starts_with("r_"), "{said}");
    match meets {
        Open => assert_eq!(answer.status, 200, "{said}"),
        Challenge => {
            assert_eq!(answer.status, 401, "{said}");
            let challenge = answer.field("www-authenticate");
            // RFC 9728 §5.1; RFC 6750 §3.1: no error code where no credential was sent.
            assert!(challenge.contains("resource_metadata="), "{said}: {challenge}");
            assert!(!challenge.contains("error="), "{said}: {challenge}");
            assert_eq!(answer.field("content-type"), "application/problem+json", "{said}");
        }
        Token => {
            assert_eq!(answer.status, 401, "{said}");
            let challenge = answer.field("www-authenticate");
            // RFC 6750 §3.1: no error code where no credential was sent.
            assert!(challenge.starts_with("Bearer"), "{said}: {challenge}");
            assert!(!challenge.contains("error="), "{said}: {challenge}");
        }
        Nothing => assert_eq!(answer.status, 404, "{said}"),
        Form | Page(_) => {
            let status = if let Page(status) = meets { status } else { 200 };
            assert_eq!(answer.status, status, "{said}");
            assert!(answer.field("content-type").starts_with("text/html"), "{said}");
            let policy = answer.field("content-security-policy");
            assert!(policy.contains("frame-ancestors 'none'"), "{said}: {policy}");
            assert!(!policy.contains("unsafe"), "{said}: {policy}");
            let cookies = answer.all("set-cookie");
            let bound = cookies.iter().all(|cookie| cookie.starts_with("__Host-"));
            assert!(cookies.is_empty() || (matches!(meets, Form) && bound), "{said}");
        }
        Oauth(status, code) => {
            assert_eq!(answer.status, status, "{said}");
            assert_eq!(answer.json()["error"], code, "{said}");
            assert_eq!(answer.field("cache-control"), "no-store", "{said}");
        }
    }
}
