//! One test per check: each refusal by its rule, and where its answer goes.

use super::answer::Mode;
use super::checks::CHECKS;
use super::*;
use crate::testing::{NOW, World, parameters, request_with, settings};
use portcullis_core::client::Waivers;
use portcullis_core::id::Id;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::sign::SigningKey;
use serde_json::json;

fn config() -> Settings {
    let mut settings = settings(&SigningKey::generate(Algorithm::Es256).expect("key"));
    settings.apis[0].details = vec!["payment".into(), "report".into()];
    change(&mut settings, "app", |app| app.details = vec!["payment".into()]);
    settings
}

/// The settings with a client changed.
fn change(settings: &mut Settings, id: &str, by: impl FnOnce(&mut ClientRecord)) {
    let id = Id::parse(id).expect("id");
    let mut record = settings.clients.remove(&id).and_then(Arc::into_inner).expect("alone");
    by(&mut record);
    settings.clients.insert(id, Arc::new(record));
}

/// The table, over a request in the open.
fn check(
    parameters: &Parameters,
    settings: &Settings,
    now: Timestamp,
) -> Result<Checked, Rejected> {
    judged(plain(parameters)?, settings, now)
}

fn judged(ask: CodeAsk, settings: &Settings, now: Timestamp) -> Result<Checked, Rejected> {
    let id = Id::parse(&ask.request.client_id).expect("id");
    judge(ask, settings.clients.get(&id).expect("registered").clone(), settings, now)
}

fn verdict(changes: &[(&'static str, &str)]) -> Result<Checked, Rejected> {
    check(&request_with(changes), &config(), NOW)
}

/// The rule broken, wherever it is told.
fn rule(verdict: Result<Checked, Rejected>) -> &'static str {
    match verdict {
        Err(Rejected::Return(returned)) => returned.error.rule,
        Err(Rejected::Page(refusal)) => refusal.rule,
        Ok(_) => "passed",
    }
}

/// The rule of a refusal that must be a page.
fn paged(changes: &[(&'static str, &str)]) -> &'static str {
    match verdict(changes) {
        Err(Rejected::Page(refusal)) => refusal.rule,
        Err(Rejected::Return(returned)) => panic!("redirected: {:?}", returned.error),
        Ok(_) => "passed",
    }
}

/// The code and rule of a refusal that must go to the client.
fn told(changes: &[(&'static str, &str)]) -> (&'static str, &'static str) {
    match verdict(changes) {
        Err(Rejected::Return(returned)) => {
            assert_eq!(returned.to.redirect(), "https://app.example/cb");
            assert_eq!(returned.to.state.as_deref(), Some("st"));
            (returned.error.code.as_str(), returned.error.rule)
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

#[tokio::test]
async fn client_unknown() {
    let desk = World::start().await.identity.desk();
    for id in ["nobody", "APP", "u_ada", "app ", "https://app.example/client.json"] {
        let found = begin(&desk, &request_with(&[("client_id", id)])).await;
        assert!(matches!(found, Err(Rejected::Page(refusal)) if refusal.rule == "ClientUnknown"));
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
    for mode in ["query", "form_post", "jwt", "query.jwt", "form_post.jwt"] {
        assert_eq!(told(&[("response_mode", mode)]).1, "passed", "{mode}");
    }
    for mode in ["fragment", "fragment.jwt", "web_message", "QUERY"] {
        let expected = ("invalid_request", "ResponseModeUnsupported");
        assert_eq!(told(&[("response_mode", mode)]), expected, "{mode}");
    }
    let Err(Rejected::Return(returned)) = verdict(&[("response_mode", "fragment")]) else {
        panic!("refused at the client")
    };
    assert_eq!(returned.to.mode, Mode::Query);
}

#[test]
fn request_object_unsupported() {
    let expected = ("request_not_supported", "RequestObjectUnsupported");
    assert_eq!(told(&[("request", "e30.e30.")]), expected);
}

#[test]
fn request_uri_unsupported() {
    for foreign in ["https://evil/r", "urn:ietf:params:oauth:request_uri", "URN:x"] {
        let expected = ("request_uri_not_supported", "RequestUriUnsupported");
        assert_eq!(told(&[("request_uri", foreign)]), expected, "{foreign}");
    }
}

#[test]
fn parameter_unsupported() {
    assert_eq!(told(&[("claims", "{}")]), ("invalid_request", "ParameterUnsupported"));
}

#[test]
fn registration_unsupported() {
    // OpenID Connect Core §3.1.2.6 has a code of its own for it.
    let expected = ("registration_not_supported", "RegistrationUnsupported");
    assert_eq!(told(&[("registration", "{}")]), expected);
}

#[test]
fn waiver_no_par_expired() {
    let request = request_with(&[("client_id", "console")]);
    let settings = config();
    let day = std::time::Duration::from_secs(86_400);
    let second = std::time::Duration::from_secs(1);
    for (now, expected) in [
        (NOW, "passed"),
        (NOW.after(day).before(second), "passed"),
        (NOW.after(day), "WaiverNoParExpired"),
    ] {
        assert_eq!(rule(check(&request, &settings, now)), expected);
    }
}

#[test]
fn request_not_pushed() {
    let mut settings = config();
    change(&mut settings, "console", |console| console.waivers = Waivers::default());
    let mut ask = plain(&request_with(&[("client_id", "console")])).expect("read");
    assert_eq!(rule(judged(ask.clone(), &settings, NOW)), "RequestNotPushed");
    ask.arrival.signed = true;
    assert_eq!(
        rule(judged(ask.clone(), &settings, NOW)),
        "RequestNotPushed",
        "signed is not pushed"
    );
    ask.arrival.pushed = true;
    assert_eq!(rule(judged(ask, &settings, NOW)), "passed");
}

#[test]
fn request_unsigned() {
    let mut settings = config();
    change(&mut settings, "app", |app| app.signed_requests = true);
    let mut ask = plain(&request_with(&[])).expect("read");
    for pushed in [false, true] {
        ask.arrival.pushed = pushed;
        assert_eq!(rule(judged(ask.clone(), &settings, NOW)), "RequestUnsigned", "{pushed}");
    }
    ask.arrival.signed = true;
    assert_eq!(rule(judged(ask, &settings, NOW)), "passed");
}

#[test]
fn details_of_a_type_that_is_not_the_clients_or_the_targets_are_refused() {
    let code = "invalid_authorization_details";
    for (text, expected) in [
        (r#"[{"type":"payment","amount":"1"}]"#, ("passed", "passed")),
        ("[]", ("passed", "passed")),
        (r#"[{"type":"report"}]"#, (code, "DetailTypeUnregistered")),
        (r#"[{"type":"payment"},{"type":"other"}]"#, (code, "DetailTypeUnregistered")),
        (r#"[{"amount":"1"}]"#, (code, "DetailTypeMissing")),
        (r#"[{"type":"payment","x":1,"x":2}]"#, (code, "DetailsMemberDoubled")),
        ("{}", (code, "DetailsMalformed")),
    ] {
        assert_eq!(told(&[("authorization_details", text)]), expected, "{text}");
    }
    let elsewhere = [("authorization_details", r#"[{"type":"payment"}]"#), ("scope", "other:read")];
    assert_eq!(told(&elsewhere), (code, "DetailTypeOfAnotherTarget"));
}

#[test]
fn details_alone_name_their_target() {
    let asked = [("scope", "openid"), ("authorization_details", r#"[{"type":"payment"}]"#)];
    let checked = verdict(&asked).expect("passes");
    assert_eq!(checked.audience().map(|a| &**a), Some("https://api.example/v1"));
    assert_eq!(checked.details(), [json!({"type": "payment"})]);
    let unclear = [("scope", "openid"), ("authorization_details", r#"[{"type":"nobodys"}]"#)];
    assert_eq!(told(&unclear), ("invalid_target", "TargetUnclear"));
}

#[test]
fn dpop_key_malformed() {
    let good = "A".repeat(43);
    assert_eq!(told(&[("dpop_jkt", &good)]).1, "passed");
    for bad in ["x", &good[1..], &format!("{good}="), "../../etc"] {
        assert_eq!(told(&[("dpop_jkt", bad)]), ("invalid_request", "DpopKeyMalformed"), "{bad}");
    }
}

#[test]
fn assurance_unreachable() {
    let expected = ("unmet_authentication_requirements", "AssuranceUnreachable");
    assert_eq!(told(&[("acr_values", "phr")]), expected);
    let checked = verdict(&[("acr_values", "phr aal2")]).expect("passes");
    assert_eq!(checked.assurance(), Assurance::Second);
}

#[test]
fn offline_access_is_for_whoever_may_refresh() {
    let asked = [("scope", "openid offline_access payments:read")];
    assert_eq!(told(&asked).1, "passed");
    let mut settings = config();
    change(&mut settings, "app", |app| app.grants.truncate(1));
    assert_eq!(rule(check(&request_with(&asked), &settings, NOW)), "ScopeUnregistered");
}

#[test]
fn document_changed_in_the_middle_of_a_login() {
    let mut ask = plain(&request_with(&[])).expect("read");
    ask.document = Some("another".into());
    assert_eq!(rule(judged(ask, &config(), NOW)), "DocumentChanged");
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
    assert_eq!(CHECKS.len(), 14);
    assert!(CHECKS.iter().all(|(source, _)| !source.is_empty()));
}

#[test]
fn a_scope_taken_away_meanwhile_is_refused() {
    let Ask::Code(ask) = verdict(&[]).expect("passes").ask else { panic!("of a client") };
    let mut settings = config();
    change(&mut settings, "app", |app| app.scopes = Scopes::parse("other:read").expect("scopes"));
    assert_eq!(rule(judged(*ask, &settings, NOW)), "ScopeUnregistered");
}

#[test]
fn parameters_of_nobody_are_ignored() {
    // RFC 6749 §3.1: unrecognised parameters MUST be ignored.
    let mut pairs: Vec<(&str, &str)> = vec![("ui_locales", "de"), ("display", "page")];
    let request = crate::testing::request();
    pairs.extend(request.iter().map(|(name, value)| (*name, value.as_str())));
    assert!(check(&parameters(&pairs), &config(), NOW).is_ok());
}
