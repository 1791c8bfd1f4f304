//! Bodies over what people and clients write: forms, limits, scopes, addresses, times.

use portcullis_core::audit::neutralise;
use portcullis_core::limit::Limit;
use portcullis_core::oauth::authorize::AuthorizationRequest;
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::oauth::token::{PresentedClient, TokenRequest};
use portcullis_core::scope::{MAX_SCOPES, Scopes};
use portcullis_core::time::{Timestamp, duration};
use portcullis_core::web::{
    Address, MAX_FORM_BYTES, MAX_PARAMETERS, Origin, Parameters, Redirect, form_encode,
};

use crate::source::Source;

const FORM_WORDS: &[&str] = &[
    "client_id",
    "app",
    "redirect_uri",
    "https%3A%2F%2Fa.example%2Fcb",
    "response_type",
    "code",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "S256",
    "grant_type",
    "authorization_code",
    "client_credentials",
    "code_verifier",
    "resource",
    "client_assertion",
    "client_assertion_type",
    "request_uri",
    "=",
    "=",
    "=",
    "&",
    "&",
    "&",
    "+",
    "%",
    "%2",
    "%00",
    "%C3%A9",
    "%ff",
    ";",
    "é",
];
const LIMIT_WORDS: &[&str] = &[
    "1",
    "10",
    "120",
    "0",
    "4294967296",
    "/",
    "/min",
    "/s",
    "/h",
    "/day",
    "/month",
    " per ",
    "per",
    "user",
    "ip",
    "client",
    "caller",
    "prefix",
    "tenant",
    ", ",
    ",",
    "burst ",
    "at most ",
    " at once",
    "cluster-wide",
    "cost",
    " ",
    "\t",
    "é",
    "-",
    "+",
];
const ADDRESS_WORDS: &[&str] = &[
    "https://",
    "http://",
    "HTTPS://",
    "app.example",
    "APP",
    ":",
    "443",
    "8443",
    "0",
    "/",
    "//",
    "/cb",
    "..",
    ".",
    "@",
    "?",
    "#",
    "[::1]",
    "127.0.0.1",
    "localhost",
    "com.app:/cb",
    "%2e",
    "\\",
    "*",
    "é",
    "xn--",
    "javascript:",
    "data:",
    "0x7f",
    "null",
    ";",
    " ",
];
const TIME_WORDS: &[&str] = &[
    "2026",
    "-",
    "-",
    "11",
    "24",
    "02",
    "29",
    "30",
    "T",
    "t",
    " ",
    "22",
    ":",
    ":",
    "60",
    "00",
    ".",
    "120",
    "Z",
    "z",
    "+",
    "01",
    "5",
    "ms",
    "s",
    "m",
    "h",
    "d",
    "18446744073709551615",
    "1969",
    "é",
];

/// Queries and forms: what is read is bounded, has each name once, and reads back the same.
pub fn parameters(data: &[u8]) {
    read_form(data);
    read_form(Source::new(data).blend(FORM_WORDS, 300).as_bytes());
}

fn read_form(text: &[u8]) {
    let Ok(form) = Parameters::parse(text) else { return };
    assert!(text.len() <= MAX_FORM_BYTES);
    let pairs: Vec<(&str, &str)> = form.iter().collect();
    assert!(pairs.len() <= MAX_PARAMETERS);
    let mut names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    // RFC 6749 §3.1: parameters must not come more than once.
    assert!(names.windows(2).all(|pair| pair.first() != pair.last()), "doubled: {names:?}");
    let written = pairs.iter().map(|(name, value)| form_encode(name) + "=" + &form_encode(value));
    let again = written.collect::<Vec<_>>().join("&");
    if again.len() <= MAX_FORM_BYTES {
        let again = Parameters::parse(again.as_bytes()).expect("what was read reads back");
        assert!(again.iter().eq(pairs.iter().copied()));
    }
    let _ = AuthorizationRequest::from_parameters(&form);
    let _ = TokenRequest::read(&form);
    let _ = PresentedClient::read(&[], &form);
    let _ = PresentedClient::read(&[text], &form);
    let _ = PresentedClient::read(&[&[b"Basic ", text].concat()], &form);
}

/// A limit's words: a rate is never zero, a fault points into the words.
pub fn limit_words(data: &[u8]) {
    read_limit(&String::from_utf8_lossy(data));
    read_limit(&Source::new(data).blend(LIMIT_WORDS, 30));
}

fn read_limit(words: &str) {
    match Limit::parse(words) {
        Ok(limit) => {
            assert!(!limit.rates.is_empty());
            for rate in &limit.rates {
                assert!(rate.count >= 1 && rate.burst >= 1 && !rate.period.is_zero(), "{rate:?}");
            }
        }
        Err(fault) => {
            // The caret of the config's reader stands there: on a character, within the words.
            assert!(words.get(fault.at.clone()).is_some(), "{words:?} {:?}", fault.at);
            assert!(!fault.message.is_empty() && !fault.remedy.is_empty());
        }
    }
}

/// Scope lists and PKCE challenges: one spelling each.
pub fn scopes(data: &[u8]) {
    let blended = Source::new(data).blend(&["a", "payments:read", " ", "\"", "\\", "é", "\t"], 100);
    for text in [String::from_utf8_lossy(data).as_ref(), &blended] {
        if let Ok(scopes) = Scopes::parse(text) {
            assert!(scopes.iter().count() <= MAX_SCOPES);
            assert_eq!(Scopes::parse(&scopes.to_string()), Ok(scopes));
        }
        if let Some(challenge) = Challenge::parse(text) {
            assert_eq!(challenge.as_str(), text);
        }
        assert!(!Challenge::of(text).answered_by("") && !Challenge::of("").answered_by(text));
        let shown = neutralise(text);
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }
}

/// Addresses, origins, redirects: canonical, and equal only to themselves.
pub fn addresses(data: &[u8]) {
    let blended = Source::new(data).blend(ADDRESS_WORDS, 12);
    for text in [String::from_utf8_lossy(data).as_ref(), &blended] {
        if let Ok(address) = Address::parse(text) {
            assert_eq!(Address::parse(&address.to_string()), Ok(address.clone()));
            let origin = Origin::parse(address.origin().as_str());
            assert_eq!(origin, Ok(address.origin()));
            assert!(!address.host().is_empty() && !address.path().ends_with('/'));
        }
        if let Ok(origin) = Origin::parse(text) {
            assert_eq!(origin.as_str(), text);
        }
        if let Ok(redirect) = Redirect::parse(text) {
            assert_eq!(redirect.as_str(), text);
            assert!(!text.bytes().any(|byte| byte.is_ascii_control() || byte == b'#'));
        }
    }
}

/// Moments and durations: what is read and written again reads the same.
pub fn times(data: &[u8]) {
    let blended = Source::new(data).blend(TIME_WORDS, 20);
    for text in [String::from_utf8_lossy(data).as_ref(), &blended] {
        if let Some(moment) = Timestamp::parse(text) {
            let again = Timestamp::parse(&moment.to_string()).expect("what is written reads back");
            // Written to the millisecond.
            assert_eq!(again.nanos().div_euclid(1_000_000), moment.nanos().div_euclid(1_000_000));
        }
        let _ = duration(text);
    }
    let mut source = Source::new(data);
    let nanos = i64::from_le_bytes(std::array::from_fn(|_| source.byte()));
    let moment = Timestamp::from_nanos(nanos);
    if let Some(again) = Timestamp::parse(&moment.to_string()) {
        assert_eq!(again.nanos().div_euclid(1_000_000), nanos.div_euclid(1_000_000));
    }
}
