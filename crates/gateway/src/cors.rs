//! Browsers: which origins may read an API from a page (the Fetch standard's CORS protocol).
//!
//! Exact origins of the config, byte for byte; never a wildcard, never `null`, never credentials:
//! no line reads a cookie. A preflight is answered here, before authentication, since a browser
//! sends none with it.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, request};
use portcullis_core::web::Origin;

use crate::journey::Answer;
use crate::relay::AnswerBody;

/// What a page may read of an answer besides the safelisted fields (`3-gateway`, "Browsers").
const EXPOSED: &str = "WWW-Authenticate, DPoP-Nonce, RateLimit, RateLimit-Policy, Retry-After, \
                       Location, ETag, Request-Id";
/// How long a browser may remember a preflight, in seconds. Short: an origin taken out of the
/// config is out within minutes.
const MAX_AGE_S: &str = "600";
/// Longest list of request fields in a preflight, in bytes.
const MAX_ASKED: usize = 1024;

/// What a preflight asks: may this origin use this method?
pub(crate) struct Preflight {
    pub(crate) method: Method,
}

/// Whether a request is a preflight (Fetch, "CORS-preflight request").
pub(crate) fn preflight(parts: &request::Parts) -> Option<Preflight> {
    if parts.method != Method::OPTIONS || !parts.headers.contains_key(header::ORIGIN) {
        return None;
    }
    let mut asked = parts.headers.get_all(header::ACCESS_CONTROL_REQUEST_METHOD).iter();
    let (Some(method), None) = (asked.next(), asked.next()) else { return None };
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    Some(Preflight { method })
}

/// The request's origin, if it may read: exactly one `Origin`, and it is in the list.
pub(crate) fn reader(headers: &HeaderMap, allowed: &[Origin]) -> Option<HeaderValue> {
    if allowed.is_empty() {
        return None;
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else { return None };
    let listed = allowed.iter().any(|one| one.as_str().as_bytes() == origin.as_bytes());
    listed.then(|| origin.clone())
}

/// The answer to a preflight of an origin that may.
pub(crate) fn welcome(headers: &HeaderMap, preflight: &Preflight) -> Answer {
    let mut answer = Answer::new(AnswerBody::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let fields = answer.headers_mut();
    if let Ok(method) = HeaderValue::from_str(preflight.method.as_str()) {
        fields.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method);
    }
    if let Some(asked) = asked_fields(headers) {
        fields.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
    }
    fields.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_S));
    let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
    fields.insert(header::VARY, HeaderValue::from_static(vary));
    answer
}

/// The fields that a page wants to send: all that it asked for, since hygiene judges each when it
/// comes. Named one by one: `*` would not cover `Authorization` (Fetch, "CORS non-wildcard").
fn asked_fields(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS)?;
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b',' | b' ');
    (asked.len() <= MAX_ASKED && asked.as_bytes().iter().all(plain)).then(|| asked.clone())
}

/// Lets an origin read an answer. Called on every answer of its requests, refusals included: a
/// page must be able to see that its token expired.
pub(crate) fn open(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}

/// Says that an answer depends on who asks, so that no cache hands it to another origin.
pub(crate) fn vary(headers: &mut HeaderMap) {
    let varies = headers.get_all(header::VARY).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value.split(',').any(|name| {
                matches!(name.trim(), "*") || name.trim().eq_ignore_ascii_case("origin")
            })
        })
    });
    if !varies {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn only_the_exact_origin_reads() {
        let allowed = [Origin::parse("https://app.pay.example").unwrap()];
        assert!(reader(&headers(&[("origin", "https://app.pay.example")]), &allowed).is_some());
        for foreign in [
            "null",
            "https://app.pay.example.evil.example",
            "https://evilapp.pay.example",
            "http://app.pay.example",
            "https://app.pay.example:8443",
            "https://app.pay.example/",
            "https://APP.pay.example",
            "*",
            "",
        ] {
            assert!(reader(&headers(&[("origin", foreign)]), &allowed).is_none(), "{foreign}");
        }
        let twice = [("origin", "https://app.pay.example"), ("origin", "https://app.pay.example")];
        assert!(reader(&headers(&twice), &allowed).is_none());
        assert!(reader(&headers(&[]), &allowed).is_none());
    }

    #[test]
    fn a_preflight_has_all_its_marks() {
        let table = [
            (
                Method::OPTIONS,
                vec![("origin", "x"), ("access-control-request-method", "POST")],
                true,
            ),
            (Method::OPTIONS, vec![("access-control-request-method", "POST")], false),
            (Method::OPTIONS, vec![("origin", "x")], false),
            (Method::GET, vec![("origin", "x"), ("access-control-request-method", "POST")], false),
        ];
        for (method, fields, expected) in table {
            let (mut parts, ()) = http::Request::new(()).into_parts();
            parts.method = method.clone();
            parts.headers = headers(&fields);
            assert_eq!(preflight(&parts).is_some(), expected, "{method} {fields:?}");
        }
    }

    #[test]
    fn fields_are_echoed_only_when_plain() {
        let asked = |text: &'static str| {
            asked_fields(&headers(&[("access-control-request-headers", text)]))
        };
        assert_eq!(asked("authorization, content-type").unwrap(), "authorization, content-type");
        assert!(asked("a\"b").is_none());
        assert!(asked("a;b").is_none());
    }

    #[test]
    fn vary_is_said_once() {
        let mut fields = headers(&[("vary", "Accept, origin")]);
        vary(&mut fields);
        assert_eq!(fields.get_all("vary").iter().count(), 1);
        let mut fields = headers(&[("vary", "Accept")]);
        vary(&mut fields);
        assert_eq!(fields.get_all("vary").iter().count(), 2);
    }
}
