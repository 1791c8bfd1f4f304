//! One test per check: each refusal by its rule, and where its answer goes.

use super::*;
use crate::testing::{NOW, REDIRECT, parameters, request_with, settings};
use portcullis_core::client::Waivers;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::sign::SigningKey;

fn config() -> Settings {
    settings(&SigningKey::generate(Algorithm::Es256).expect("key"))
}

fn verdict(changes: &[(&'static str, &str)]) -> Result<Checked, Rejected> {
    check(&request_with(changes), &config(), NOW)
}

/// The rule of a refusal that must be a page.
fn paged(changes: &[(&'static str, &str)]) -> &'static str {
    match verdict(changes) {
        Err(Rejected::Page(refusal)) => refusal.rule,
        Err(Rejected::Return { location, .. }) => panic!("redirected to {location}"),
        Ok(_) => "passed",
    }
}

/// The code and rule of a refusal that must go to the client.
fn told(changes: &[(&'static str, &str)]) -> (&'static str, &'static str) {
    match verdict(changes) {
        Err(Rejected::Return { location, error }) => {
            assert!(location.starts_with("https://app.example/cb?error="), "{location}");
            assert!(location.ends_with("&state=st&iss=https%3A%2F%2Flogin.example"), "{location}");
            (error.code.as_str(), error.rule)
        }
        Err(Rejected::Page(refusal)) => panic!("a page: {}", refusal.rule),
        Ok(_) => ("passed", "passed"),
    }
}

#[test]
fn a_whole_request_passes() {
    let checked = verdict(&[]).expect("passes");
    assert_eq!(checked.scopes().to_string(), "openid payments:read");
    assert_eq!(checked.audience().map(|a| &**a), Some("https://api.example/v1"));
    assert_eq!(checked.prompt(), Prompt::default());
}

#[test]
fn request_malformed() {
    assert_eq!(paged(&[("client_id", "")]), "RequestMalformed");
    assert_eq!(paged(&[("state", &"x".repeat(2000))]), "RequestMalformed");
}

#[test]
fn client_unknown() {
    for id in ["nobody", "APP", "u_ada", "app "] {
        assert_eq!(paged(&[("client_id", id)]), "ClientUnknown", "{id}");
    }
}

#[test]
fn client_without_codes() {
    assert_eq!(paged(&[("client_id", "ledger")]), "ClientWithoutCodes");
}

#[test]
fn redirect_missing() {
    assert_eq!(paged(&[("redirect_uri", "")]), "RedirectMissing");
}

#[test]
fn redirect_unregistered() {
    for redirect in [
        "https://app.example/cb/",
        "https://app.example/cb/../x",
        "https://app.example/cb%2f",
        "https://app.example/CB",
        "https://app.example/cb?x=1",
        "https://app.example/cb#f",
        "https://app.example:444/cb",
        "https://user@app.example/cb",
        "https://app.example.evil/cb",
        "https://evil/cb?https://app.example/cb",
        "http://app.example/cb",
        "//app.example/cb",
        "/\\app.example/cb",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "https://app.example/..;/cb",
        " https://app.example/cb",
        "https://app.example/cb\n",
    ] {
        assert_eq!(paged(&[("redirect_uri", redirect)]), "RedirectUnregistered", "{redirect:?}");
    }
}

#[test]
fn only_a_native_clients_loopback_port_varies() {
    let native = |redirect| paged(&[("client_id", "mobile"), ("redirect_uri", redirect)]);
    assert_eq!(native("http://127.0.0.1:51004/cb"), "passed");
    for other in ["http://localhost:51004/cb", "http://127.0.0.1:51004/cc", "http://127.0.0.2/cb"] {
        assert_eq!(native(other), "RedirectUnregistered", "{other}");
    }
}

#[test]
fn response_type_missing() {
    assert_eq!(told(&[("response_type", "")]), ("invalid_request", "ResponseTypeMissing"));
}

#[test]
fn response_type_unsupported() {
    for other in ["token", "code id_token", "id_token", "none"] {
        let expected = ("unsupported_response_type", "ResponseTypeUnsupported");
        assert_eq!(told(&[("response_type", other)]), expected, "{other}");
    }
}

#[test]
fn response_mode_unsupported() {
    assert_eq!(told(&[("response_mode", "query")]).1, "passed");
    let expected = ("invalid_request", "ResponseModeUnsupported");
    assert_eq!(told(&[("response_mode", "fragment")]), expected);
}

#[test]
fn request_object_unsupported() {
    let expected = ("request_not_supported", "RequestObjectUnsupported");
    assert_eq!(told(&[("request", "e30.e30.")]), expected);
}

#[test]
fn request_uri_unsupported() {
    let expected = ("request_uri_not_supported", "RequestUriUnsupported");
    assert_eq!(told(&[("request_uri", "https://evil/r")]), expected);
}

#[test]
fn parameter_unsupported() {
    for name in ["claims", "authorization_details", "dpop_jkt"] {
        assert_eq!(told(&[(name, "{}")]), ("invalid_request", "ParameterUnsupported"), "{name}");
    }
}

#[test]
fn waiver_no_par_expired() {
    let request = request_with(&[("client_id", "console")]);
    let rule = |settings: &Settings, now| match check(&request, settings, now) {
        Err(Rejected::Return { error, .. }) => error.rule,
        Err(Rejected::Page(refusal)) => refusal.rule,
        Ok(_) => "passed",
    };
    let settings = config();
    let day = std::time::Duration::from_secs(86_400);
    let second = std::time::Duration::from_secs(1);
    assert_eq!(rule(&settings, NOW), "passed");
    assert_eq!(rule(&settings, NOW.after(day).before(second)), "passed");
    assert_eq!(rule(&settings, NOW.after(day)), "WaiverNoParExpired");
    let mut without = config();
    let id = Id::parse("console").expect("id");
    let record = without.clients.remove(&id).and_then(Arc::into_inner).expect("alone");
    without.clients.insert(id, Arc::new(ClientRecord { waivers: Waivers::default(), ..record }));
    assert_eq!(rule(&without, NOW), "WaiverNoParExpired");
}

#[test]
fn challenge_missing() {
    assert_eq!(told(&[("code_challenge", "")]), ("invalid_request", "ChallengeMissing"));
}

#[test]
fn challenge_method_unsupported() {
    for method in ["", "plain", "s256", "S512"] {
        let expected = ("invalid_request", "ChallengeMethodUnsupported");
        assert_eq!(told(&[("code_challenge_method", method)]), expected, "{method}");
    }
}

#[test]
fn challenge_malformed() {
    for text in ["short", &"A".repeat(44), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw_c="] {
        assert_eq!(told(&[("code_challenge", text)]).1, "ChallengeMalformed", "{text}");
    }
}

#[test]
fn scope_unregistered() {
    for scope in ["payments:settle", "payments:read admin", "profile", "OPENID"] {
        assert_eq!(told(&[("scope", scope)]), ("invalid_scope", "ScopeUnregistered"), "{scope}");
    }
}

#[test]
fn scope_malformed() {
    assert_eq!(told(&[("scope", "a\"b")]), ("invalid_scope", "ScopeMalformed"));
}

#[test]
fn target_unknown() {
    for resource in ["https://api.example/v1/", "https://api.example", "api"] {
        let expected = ("invalid_target", "TargetUnknown");
        assert_eq!(told(&[("resource", resource)]), expected, "{resource}");
    }
}

#[test]
fn target_unclear() {
    let both = "payments:read other:read";
    assert_eq!(told(&[("scope", both)]), ("invalid_target", "TargetUnclear"));
    assert_eq!(told(&[("scope", "")]), ("invalid_target", "TargetUnclear"), "two APIs, no scope");
}

#[test]
fn scope_of_another_target() {
    let asked = [("scope", "other:read"), ("resource", "https://api.example/v1")];
    assert_eq!(told(&asked), ("invalid_scope", "ScopeOfAnotherTarget"));
}

#[test]
fn openid_alone_is_for_no_api() {
    assert_eq!(verdict(&[("scope", "openid")]).expect("passes").audience(), None);
}

#[test]
fn prompt_unknown() {
    assert_eq!(told(&[("prompt", "login create")]), ("invalid_request", "PromptUnknown"));
}

#[test]
fn prompt_none_not_alone() {
    assert_eq!(told(&[("prompt", "none login")]), ("invalid_request", "PromptNoneNotAlone"));
}

#[test]
fn max_age_malformed() {
    for age in ["-1", "+1", "1.5", "x", "99999999999999999999"] {
        assert_eq!(told(&[("max_age", age)]).1, "MaxAgeMalformed", "{age}");
    }
    assert_eq!(verdict(&[("max_age", "60")]).expect("passes").max_age_s(), Some(60));
}

#[test]
fn request_too_long() {
    let nonce = "n".repeat(1000);
    assert_eq!(told(&[("nonce", &nonce)]), ("invalid_request", "RequestTooLong"));
    assert_eq!(told(&[("nonce", &nonce[100..])]).1, "passed");
}

#[test]
fn every_check_names_its_source() {
    assert_eq!(CHECKS.len(), 10);
    assert!(CHECKS.iter().all(|(source, _)| !source.is_empty()));
}

#[test]
fn an_answer_keeps_the_redirects_own_query() {
    let answer_to = AnswerTo {
        redirect: "https://app.example/cb?tenant=1".into(),
        state: None,
        issuer: "https://login.example".into(),
    };
    let expected = "https://app.example/cb?tenant=1&code=c%2B1&iss=https%3A%2F%2Flogin.example";
    assert_eq!(answer_to.with_code("c+1"), expected);
}

#[test]
fn the_source_of_a_redirect_is_its_origin_or_scheme() {
    for (redirect, source) in [
        (REDIRECT, "https://app.example"),
        ("https://app.example:8443?x=1", "https://app.example:8443"),
        ("http://127.0.0.1:51004/cb", "http://127.0.0.1:51004"),
        ("http://[::1]:51004/cb", "http:"),
        ("com.app:/cb", "com.app:"),
    ] {
        let issuer = "https://login.example".into();
        let answer_to = AnswerTo { redirect: redirect.into(), state: None, issuer };
        assert_eq!(answer_to.source(), source);
    }
}

#[test]
fn a_scope_taken_away_meanwhile_is_refused() {
    let checked = verdict(&[]).expect("passes");
    let mut settings = config();
    let id = Id::parse("app").expect("id");
    let record = settings.clients.remove(&id).and_then(Arc::into_inner).expect("alone");
    let scopes = Scopes::parse("other:read").expect("scopes");
    settings.clients.insert(id, Arc::new(ClientRecord { scopes, ..record }));
    let again = check_again(checked.request().clone(), &settings, NOW);
    assert!(matches!(
        again,
        Err(Rejected::Return { error, .. }) if error.rule == "ScopeUnregistered"
    ));
}

#[test]
fn parameters_of_nobody_are_ignored() {
    // RFC 6749 §3.1: unrecognised parameters MUST be ignored.
    let mut pairs: Vec<(&str, &str)> = vec![("ui_locales", "de"), ("display", "page")];
    let request = crate::testing::request();
    pairs.extend(request.iter().map(|(name, value)| (*name, value.as_str())));
    assert!(check(&parameters(&pairs), &config(), NOW).is_ok());
}
