//! How answers travel: each mode, for codes and for errors.

use portcullis_core::jose::jws;
use portcullis_core::oauth::error::ErrorCode;
use portcullis_core::web::Parameters;

use super::*;
use crate::testing::{ISSUER, NOW, REDIRECT, World};

fn answer_to(redirect: &str, mode: Mode) -> AnswerTo {
    AnswerTo {
        client: "app".into(),
        redirect: redirect.into(),
        state: Some("s t".into()),
        issuer: ISSUER.into(),
        mode,
    }
}

fn error() -> OauthError {
    OauthError::new(ErrorCode::AccessDenied, "ConsentDenied", "the user did not agree")
}

/// The parameters of a redirect or of a form, by name.
fn said(show: &Show, name: &str) -> Option<String> {
    match show {
        Show::Redirect(location) => {
            let (_, query) = location.split_once('?')?;
            let parameters = Parameters::parse(query.as_bytes()).expect("our own query");
            parameters.value(name).map(str::to_owned)
        }
        Show::FormPost(page) => {
            assert_eq!(
                (page.action.as_str(), page.form_target.as_str()),
                (REDIRECT, "https://app.example")
            );
            page.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        }
        _ => panic!("an answer is a redirect or a form"),
    }
}

#[tokio::test]
async fn every_mode_carries_code_state_and_issuer() {
    let desk = World::start().await.identity.desk();
    for (mode, form, signed) in [
        (Mode::Query, false, false),
        (Mode::FormPost, true, false),
        (Mode::QueryJwt, false, true),
        (Mode::FormPostJwt, true, true),
    ] {
        let to = answer_to(REDIRECT, mode);
        for (show, name, value) in [
            (to.with_code(&desk, "c+1".into()), "code", "c+1"),
            (to.with_error(&desk, &error()), "error", "access_denied"),
        ] {
            assert_eq!(matches!(show, Show::FormPost(_)), form, "{mode:?}");
            if let Show::Redirect(location) = &show {
                assert!(!location.contains('#') && location.starts_with(REDIRECT), "{location}");
            }
            if !signed {
                for (name, value) in [(name, value), ("state", "s t"), ("iss", ISSUER)] {
                    assert_eq!(said(&show, name).as_deref(), Some(value), "{mode:?} {name}");
                }
                continue;
            }
            // JARM §2.1: inside alone, signed by the published key.
            for outside in [name, "state", "iss"] {
                assert_eq!(said(&show, outside), None, "{mode:?} {outside}");
            }
            let token = said(&show, "response").expect("signed");
            let parsed = jws::parse(&token).expect("a JWS");
            let keys = desk.shared.keyring.published();
            let key = keys.find(parsed.kid.as_deref(), parsed.algorithm).expect("published");
            assert!(key.verify(parsed.signed, &parsed.signature));
            let claims: serde_json::Value = serde_json::from_slice(&parsed.payload).expect("JSON");
            assert_eq!(claims[name], value);
            assert_eq!((&claims["iss"], &claims["aud"]), (&ISSUER.into(), &"app".into()));
            assert_eq!(
                (&claims["state"], &claims["exp"]),
                (&"s t".into(), &(NOW.unix() + 600).into())
            );
        }
    }
}

#[tokio::test]
async fn an_answer_keeps_the_redirects_own_query() {
    let desk = World::start().await.identity.desk();
    let to = AnswerTo { state: None, ..answer_to("https://app.example/cb?tenant=1", Mode::Query) };
    let Show::Redirect(location) = to.with_code(&desk, "c+1".into()) else { panic!("a redirect") };
    let expected = "https://app.example/cb?tenant=1&code=c%2B1&iss=https%3A%2F%2Flogin.example";
    assert_eq!(location, expected);
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
        assert_eq!(answer_to(redirect, Mode::Query).source(), source);
    }
}
