//! The head as a whole: the order of the rules, and each rule that no other file of hygiene tests.

use http::{Request, Version};

use super::HygieneFault::*;
use super::*;

type Verdict = Result<(String, String, Vec<String>), HygieneFault>;

/// Judges a head on a connection to `api.example`, with 10.0.0.0/8 trusted.
fn judged(peer: &str, request: http::request::Builder) -> Verdict {
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let connection = Connection {
        peer: format!("{peer}:5000").parse().unwrap(),
        sni: Some("api.example".into()),
        port: 443,
        serial: 1,
        certificate: None,
    };
    let here = Here {
        authorities: &["api.example".into(), "login.example".into()],
        trust_proxies: &["10.0.0.0/8".parse().unwrap()],
        connection: &connection,
    };
    let (authority, ip) = canonical(&mut parts, &here)?;
    let names = parts.headers.keys().map(ToString::to_string).collect();
    Ok((authority.into(), ip.to_string(), names))
}

fn get(target: &str) -> http::request::Builder {
    Request::get(target).header("host", "api.example")
}

#[test]
fn a_browser_s_request_passes() {
    let request = get("/accounts/a1?fields=x")
        .header("connection", "keep-alive")
        .header("x-forwarded-for", "1.2.3.4")
        .header("portcullis-identity", "forged")
        .header("accept", "*/*");
    let passed = ("api.example".into(), "203.0.113.9".into(), vec!["host".into(), "accept".into()]);
    let (authority, ip, mut names) = judged("203.0.113.9", request).unwrap();
    names.sort_by_key(|name| name != "host");
    assert_eq!((authority, ip, names), passed);
}

#[test]
fn the_address_is_read_before_its_field_is_removed() {
    let (_, ip, names) = judged("10.0.0.1", get("/").header("x-forwarded-for", "1.2.3.4")).unwrap();
    assert_eq!((ip.as_str(), names), ("1.2.3.4", vec!["host".to_owned()]));
}

#[test]
fn http2_without_host_passes() {
    let request = Request::get("https://api.example/a").version(Version::HTTP_2);
    assert_eq!(judged("203.0.113.9", request).unwrap().0, "api.example");
}

#[test]
fn method_not_served() {
    for method in ["TRACE", "CONNECT", "PROPFIND", "BREW"] {
        assert_eq!(
            judged("203.0.113.9", get("/").method(method)),
            Err(MethodNotServed),
            "{method}"
        );
    }
}

#[test]
fn method_lower_case() {
    for method in ["get", "Get", "pOST"] {
        assert_eq!(
            judged("203.0.113.9", get("/").method(method)),
            Err(MethodLowerCase),
            "{method}"
        );
    }
}

#[test]
fn target_too_long() {
    let long = |length: usize| get(&format!("/{}", "a".repeat(length - 1)));
    assert_eq!(judged("203.0.113.9", long(8193)), Err(TargetTooLong));
    assert!(judged("203.0.113.9", long(8192)).is_ok());
}

#[test]
fn scheme_differs() {
    assert_eq!(judged("203.0.113.9", get("http://api.example/")), Err(SchemeDiffers));
}

#[test]
fn path_and_query_are_judged() {
    assert_eq!(judged("203.0.113.9", get("*")), Err(PathAsterisk));
    assert_eq!(judged("203.0.113.9", get("/a/../b")), Err(PathDotSegment));
    assert_eq!(judged("203.0.113.9", get("/a?_method=PUT")), Err(MethodOverrideInQuery));
    assert!(judged("203.0.113.9", get("/a?next=/../b")).is_ok());
}

#[test]
fn another_name_is_misdirected() {
    let other = Request::get("/").header("host", "login.example");
    assert_eq!(judged("203.0.113.9", other), Err(AuthorityNotOfConnection));
    assert_eq!(AuthorityNotOfConnection.status(), 421);
    assert_eq!(AuthorityNotServed.status(), 421);
}

#[test]
fn fields_are_judged() {
    assert_eq!(
        judged("203.0.113.9", get("/").header("connection", "authorization")),
        Err(ConnectionNamesField)
    );
}

proptest::proptest! {
    /// No head makes hygiene panic, and what passes holds no field of the table.
    #[test]
    fn what_passes_is_clean(
        path in "[/a-z.%;0-9]{0,20}",
        fields in proptest::collection::vec(("[a-zA-Z_.-]{1,16}", "[ -~]{0,8}"), 0..8),
    ) {
        let mut request = get(&format!("/{path}"));
        for (name, value) in &fields {
            request = request.header(name, value);
        }
        if let Ok((_, _, names)) = judged("203.0.113.9", request) {
            for name in names {
                let plain = reserved::plain(name.as_bytes()).unwrap_or(name);
                proptest::prop_assert_eq!(reserved::why(&plain), None);
            }
        }
    }
}
