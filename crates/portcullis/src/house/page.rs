//! Answers of our own pages: JSON, HTML under a strict policy, redirects, refusals.

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use portcullis_core::hash::sha256;
use portcullis_gateway::house::{HouseAnswer, HouseRequest};

/// The style sheet, part of the binary.
const STYLE: &str = include_str!("../../static/portcullis.css");

/// A page that says what is wrong.
#[derive(Template)]
#[template(path = "refused.html")]
struct RefusedPage<'p> {
    words: &'p str,
    rule: &'p str,
}

/// A JSON document.
pub(super) fn json(value: &serde_json::Value, cache: &'static str) -> HouseAnswer {
    let body = Bytes::from(serde_json::to_vec(value).unwrap_or_default());
    let mut response = http::Response::new(body);
    set(&mut response, header::CONTENT_TYPE, "application/json");
    set(&mut response, header::CACHE_CONTROL, cache);
    plain(response)
}

/// The style sheet.
pub(super) fn style() -> HouseAnswer {
    let mut response = http::Response::new(Bytes::from_static(STYLE.as_bytes()));
    set(&mut response, header::CONTENT_TYPE, "text/css; charset=utf-8");
    set(&mut response, header::CACHE_CONTROL, "public, max-age=3600");
    plain(response)
}

/// An HTML page. No script, no frame, no foreign source; forms go to ourselves and, because
/// browsers apply `form-action` to the redirect that follows a form too, to `form_target`.
pub(super) fn html(status: u16, body: String, form_target: Option<&str>) -> http::Response<Bytes> {
    let mut response = http::Response::new(Bytes::from(body));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    let target = form_target.unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self' {target}; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    set(&mut response, header::CONTENT_TYPE, "text/html; charset=utf-8");
    set(&mut response, header::CONTENT_SECURITY_POLICY, policy.trim());
    set(&mut response, header::X_FRAME_OPTIONS, "DENY");
    set(&mut response, header::CACHE_CONTROL, "no-store");
    // Not `no-referrer`: under it browsers post our own forms with `Origin: null` (Fetch §3.2).
    set(&mut response, header::REFERRER_POLICY, "same-origin");
    set(&mut response, HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    response
}

/// The one script that there is: it submits the page's form.
pub(super) const SUBMIT: &str = "document.forms[0].submit()";

/// A page whose form posts itself to the client. Its script is allowed by hash (CSP Level 3 §8.4),
/// and no other.
pub(super) fn html_that_submits(body: String, form_target: &str) -> http::Response<Bytes> {
    let mut response = html(200, body, Some(form_target));
    let hash = STANDARD.encode(sha256(SUBMIT.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'sha256-{hash}'; \
         form-action {form_target}; frame-ancestors 'none'; base-uri 'none'"
    );
    set(&mut response, header::CONTENT_SECURITY_POLICY, &policy);
    response
}

/// 303 after POST (RFC 9700 §4.12: never 307, which would repeat the password to the client).
pub(super) fn redirect(location: &str) -> http::Response<Bytes> {
    let mut response = http::Response::new(Bytes::new());
    *response.status_mut() = http::StatusCode::SEE_OTHER;
    set(&mut response, header::LOCATION, location);
    set(&mut response, header::CACHE_CONTROL, "no-store");
    set(&mut response, header::REFERRER_POLICY, "no-referrer");
    response
}

/// A redirect that the record names.
pub(super) fn moved(location: &str, rule: &'static str) -> HouseAnswer {
    let mut answer = plain(redirect(location));
    answer.outcome = Ok(rule.to_owned());
    answer
}

/// A refusal as a page.
pub(super) fn refused(status: u16, rule: &'static str, words: &str) -> HouseAnswer {
    let body = RefusedPage { words, rule }.render().unwrap_or_default();
    let mut answer = plain(html(status, body, None));
    answer.event = "login";
    answer.outcome = Err(rule.to_owned());
    answer
}

/// Something of ours failed; the log knows what.
pub(super) fn broken() -> HouseAnswer {
    refused(500, "HouseFailed", "Something went wrong here. Try again in a moment.")
}

/// An answer that the record need say nothing special of.
pub(super) fn plain(response: http::Response<Bytes>) -> HouseAnswer {
    HouseAnswer {
        response,
        event: "request",
        outcome: Ok("House".into()),
        caller: None,
        client: None,
    }
}

/// Sets a field; a value that is no field value leaves the field out.
pub(super) fn set(response: &mut http::Response<Bytes>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Whether a form came from our own page: `Origin` must be ours; browsers that send none on
/// same-origin posts say `Sec-Fetch-Site: same-origin`; without both, the sealed state alone decides
/// (a program that drives the page, which has no ambient cookies to abuse).
pub(super) fn from_same_origin(request: &HouseRequest) -> bool {
    let ours = format!("https://{}", request.authority);
    let one = |name: &str| request.headers.get(name).map(|value| value.as_bytes().to_vec());
    match (one("origin"), one("sec-fetch-site")) {
        (Some(origin), _) => origin == ours.as_bytes(),
        (None, Some(site)) => site == b"same-origin",
        (None, None) => true,
    }
}

/// Whether the body is a form.
pub(super) fn is_form(request: &HouseRequest) -> bool {
    let kind = request.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|value| value.split(';').next()).map(str::trim);
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}
