//! Request objects that are really signed, and wrong in the one thing under test.

use proptest::prelude::*;

use super::TokenFault::*;
use super::*;
use crate::jose::algorithm::Algorithm;
use crate::jose::forging::{self, Rsa, forge, header, key, set};
use crate::jose::jwk::Jwk;
use crate::jose::verify::client_assertion;

const ISSUER: &str = "https://login.example";
const NOW: i64 = 1_800_000_000;
const TYP: &str = "oauth-authz-req+jwt";

fn now() -> Timestamp {
    Timestamp::from_unix(NOW)
}
fn claims(changed: &[(&str, Option<&str>)]) -> String {
    let good = [
        ("iss", "\"shop\"".into()),
        ("aud", format!("\"{ISSUER}\"")),
        ("exp", (NOW + 300).to_string()),
        ("nbf", NOW.to_string()),
        ("client_id", "\"shop\"".into()),
        ("response_type", "\"code\"".into()),
    ];
    forging::payload(&good, changed)
}
fn verified(token: &str, keys: &JwkSet) -> Result<Verified<Map<String, Value>>, TokenFault> {
    request_object(token, keys, "shop", ISSUER, now())
}
fn with(changed: &[(&str, Option<&str>)]) -> Result<Verified<Map<String, Value>>, TokenFault> {
    let key = key(Algorithm::Es256);
    verified(&forge(&key, &header(&key, TYP), &claims(changed)), &set(&[&key]))
}

#[test]
fn a_good_object_passes() {
    let key = key(Algorithm::EdDsa);
    let untyped = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, key.kid());
    for header in [
        header(&key, TYP),
        header(&key, "application/OAuth-AuthZ-Req+JWT"),
        header(&key, "JWT"),
        untyped,
    ] {
        let verified = verified(&forge(&key, &header, &claims(&[])), &set(&[&key]));
        assert_eq!(verified.expect("verified").claims()["response_type"], "code");
    }
    assert!(with(&[("aud", Some("[\"x\",\"https://login.example\"]"))]).is_ok());
    assert!(with(&[("client_id", None)]).is_ok());
    assert!(with(&[("nbf", None)]).is_ok_and(|object| !object.claims().contains_key("nbf")));
}

#[test]
fn each_rule_refuses_by_itself() {
    let (past, soon) = ((NOW - 1).to_string(), (NOW + 60).to_string());
    let (far, old) = ((NOW + 3700).to_string(), (NOW - 3601).to_string());
    let late = (NOW + 3500).to_string();
    let table: &[(&str, Option<&str>, TokenFault)] = &[
        ("iss", Some("\"other\""), IssuerWrong),
        ("iss", Some("\"https://login.example\""), IssuerWrong),
        ("iss", Some("[\"shop\"]"), ClaimMalformed),
        ("iss", None, ClaimMalformed),
        ("client_id", Some("\"other\""), IssuerWrong),
        ("client_id", Some("7"), IssuerWrong),
        ("sub", Some("\"shop\""), TypeWrong),
        ("request", Some("\"a.b.c\""), ClaimMalformed),
        ("request_uri", Some("\"https://evil.example/\""), ClaimMalformed),
        ("aud", Some("\"https://login.example/\""), AudienceWrong),
        ("aud", Some("\"https://login.example/oauth/par\""), AudienceWrong),
        ("aud", Some("\"https://other.example\""), AudienceWrong),
        ("aud", Some("[\"https://other.example\"]"), AudienceWrong),
        ("aud", Some("[]"), AudienceWrong),
        ("aud", Some("[[\"https://login.example\"]]"), AudienceWrong),
        ("aud", Some("7"), AudienceWrong),
        ("aud", None, ClaimMalformed),
        ("exp", None, ClaimMalformed),
        ("exp", Some("1.5"), ClaimMalformed),
        ("exp", Some(&past), Expired),
        ("exp", Some(&far), NotYetValid),
        ("nbf", Some(&soon), NotYetValid),
        ("nbf", Some(&old), Expired),
        ("nbf", Some("-9223372036854775808"), Expired),
        ("nbf", Some("null"), ClaimMalformed),
        ("iat", Some(&soon), NotYetValid),
    ];
    for (name, value, expected) in table {
        assert_eq!(with(&[(name, *value)]).err(), Some(*expected), "{name}: {value:?}");
    }
    let (early, long) = ((NOW - 3000).to_string(), [("exp", Some(&*late)), ("nbf", None)]);
    assert!(with(&long).is_ok());
    let stretched = [("exp", Some(&*late)), ("nbf", Some(&*early))];
    assert_eq!(with(&stretched).err(), Some(NotYetValid), "an hour from nbf on");
}

#[test]
fn type_wrong() {
    let key = key(Algorithm::Es256);
    for typ in
        ["at+jwt", "dpop+jwt", "logout+jwt", "client-authentication+jwt", "oauth-authz-req", ""]
    {
        let token = forge(&key, &header(&key, typ), &claims(&[]));
        assert_eq!(verified(&token, &set(&[&key])).err(), Some(TypeWrong), "{typ}");
    }
}

#[test]
fn an_object_and_an_assertion_are_not_each_other() {
    let key = key(Algorithm::Es256);
    let keys = set(&[&key]);
    // RFC 9101 §10.8, both ways.
    let assertion = forging::payload(
        &[
            ("iss", "\"shop\"".into()),
            ("sub", "\"shop\"".into()),
            ("aud", format!("\"{ISSUER}\"")),
            ("exp", (NOW + 60).to_string()),
            ("jti", "\"a\"".into()),
        ],
        &[],
    );
    let assertion = forge(&key, &header(&key, "JWT"), &assertion);
    assert!(client_assertion(&assertion, &keys, "shop", ISSUER, now()).is_ok());
    assert_eq!(verified(&assertion, &keys).err(), Some(TypeWrong));
    for typ in [TYP, "JWT"] {
        let object = forge(&key, &header(&key, typ), &claims(&[("jti", Some("\"a\""))]));
        assert!(verified(&object, &keys).is_ok());
        assert!(client_assertion(&object, &keys, "shop", ISSUER, now()).is_err());
    }
}

#[test]
fn algorithm_not_accepted() {
    let rsa = Rsa::new();
    for (alg, expected) in [("PS256", None), ("RS256", Some(AlgorithmNotAccepted))] {
        let keys = JwkSet::new(vec![Jwk::from_json(&rsa.jwk(alg)).expect("a key")]);
        let header = format!(r#"{{"alg":"{alg}","kid":"r","typ":"{TYP}"}}"#);
        let token = rsa.forge(alg, &header, &claims(&[]));
        assert_eq!(verified(&token, &keys).err(), expected, "{alg}");
    }
    let key = key(Algorithm::Es256);
    let unsigned = forge(&key, &header(&key, TYP).replace("ES256", "none"), &claims(&[]));
    assert_eq!(verified(&unsigned, &set(&[&key])).err(), Some(AlgorithmNotAccepted));
}

#[test]
fn signature_wrong() {
    let (key, thief) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let token = forge(&thief, &header(&key, TYP), &claims(&[]));
    assert_eq!(verified(&token, &set(&[&key])).err(), Some(SignatureWrong));
    let token = forge(&thief, &header(&thief, TYP), &claims(&[]));
    assert_eq!(verified(&token, &set(&[&key])).err(), Some(KeyUnknown));
    let doubled = claims(&[]).replacen('{', r#"{"scope":"admin","scope":"a","#, 1);
    let token = forge(&key, &header(&key, TYP), &doubled);
    assert_eq!(verified(&token, &set(&[&key])).err(), Some(MemberDoubled));
}

proptest! {
    #[test]
    fn no_signed_text_panics(text in ".{0,60}", value in r#"[\[\]{}":,a-z0-9. ]{0,40}"#) {
        let key = key(Algorithm::EdDsa);
        let keys = set(&[&key]);
        let _ = verified(&text, &keys);
        let _ = verified(&forge(&key, &header(&key, TYP), &text), &keys);
        for name in ["iss", "aud", "exp", "nbf", "sub", "client_id"] {
            let _ = with(&[(name, Some(&value))]);
        }
    }
}
