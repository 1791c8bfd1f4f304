//! "Tokens at the edge" for tokens of others: really signed, wrong in the one thing under test.

use proptest::prelude::*;
use serde_json::json;

use super::TokenFault::*;
use super::*;
use crate::foreign::{ClaimMap, KeySource};
use crate::jose::algorithm::Algorithm;
use crate::jose::claims::{Confirmation, MAX_ACTORS, MAX_FOREIGN_WORD};
use crate::jose::forging::{self, Rsa, forge, header, key, set};
use crate::jose::jwk::Jwk;
use crate::scope::Scopes;

const ISSUER: &str = "https://id.partner.example/realms/pay";
const OURS: &str = "https://login.example";
const API: &str = "https://api.example/v1";
const NOW: i64 = 1_800_000_000;

fn issuer() -> ForeignIssuer {
    ForeignIssuer {
        name: "partner".into(),
        issuer: ISSUER.into(),
        source: KeySource::Discovery,
        audience: vec![API.into(), "account".into()],
        algorithms: vec![],
        map: ClaimMap::default(),
        until: None,
    }
}
fn now() -> Timestamp {
    Timestamp::from_unix(NOW)
}
fn claims(changed: &[(&str, Option<&str>)]) -> String {
    let good = [
        ("iss", format!("\"{ISSUER}\"")),
        ("sub", "\"f:1:alice\"".into()),
        ("aud", format!("\"{API}\"")),
        ("exp", (NOW + 300).to_string()),
        ("iat", NOW.to_string()),
    ];
    forging::payload(&good, changed)
}
fn verified(token: &str, keys: &JwkSet) -> Result<Verified<ForeignClaims>, TokenFault> {
    foreign_token(token, keys, &issuer(), now())
}
/// A good token with some claims changed.
fn with(changed: &[(&str, Option<&str>)]) -> Result<Verified<ForeignClaims>, TokenFault> {
    let key = key(Algorithm::Es256);
    verified(&forge(&key, &header(&key, "JWT"), &claims(changed)), &set(&[&key]))
}
fn asserted(changed: &[(&str, Option<&str>)]) -> Result<Verified<ForeignClaims>, TokenFault> {
    let key = key(Algorithm::Es256);
    let claims = claims(&[&[("aud", Some("\"https://login.example\""))], changed].concat());
    let token = forge(&key, &header(&key, "JWT"), &claims);
    federated_assertion(&token, &set(&[&key]), &issuer(), OURS, now())
}

#[test]
fn a_good_token_passes_with_every_algorithm() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let key = key(algorithm);
        for header in [header(&key, "JWT"), header(&key, "at+jwt"), untyped(algorithm)] {
            let token = forge(&key, &header, &claims(&[]));
            let verified = verified(&token, &set(&[&key])).expect("verified");
            assert_eq!(verified.claims().sub, "f:1:alice");
        }
    }
    let rsa = Rsa::new();
    for alg in ["RS256", "PS256"] {
        let keys = JwkSet::new(vec![Jwk::from_json(&rsa.jwk(alg)).expect("a key")]);
        assert!(verified(&rsa.token(alg, &claims(&[])), &keys).is_ok(), "{alg}");
        // RFC 8725 §3.1: the key decides.
        let other = if alg == "RS256" { "PS256" } else { "RS256" };
        assert_eq!(verified(&rsa.token(other, &claims(&[])), &keys).err(), Some(KeyUnknown));
    }
}

fn untyped(algorithm: Algorithm) -> String {
    format!(r#"{{"alg":"{}"}}"#, algorithm.name())
}

#[test]
fn algorithms_that_the_operator_did_not_name() {
    let (rsa, ed) = (Rsa::new(), key(Algorithm::EdDsa));
    let rs = Jwk::from_json(&rsa.jwk("RS256")).expect("a key");
    let keys = JwkSet::new(vec![rs, ed.public()]);
    let tokens = [rsa.token("RS256", &claims(&[])), forge(&ed, &header(&ed, "JWT"), &claims(&[]))];
    for (named, passes) in [
        (vec![], [true, true]),
        (vec![Algorithm::Rs256], [true, false]),
        (vec![Algorithm::EdDsa, Algorithm::Es256], [false, true]),
        (vec![Algorithm::Ps256], [false, false]),
    ] {
        let issuer = ForeignIssuer { algorithms: named.clone(), ..issuer() };
        for (token, passes) in tokens.iter().zip(passes) {
            let expected = if passes { None } else { Some(AlgorithmNotAccepted) };
            let fault = foreign_token(token, &keys, &issuer, now()).err();
            assert_eq!(fault, expected, "{named:?}");
        }
    }
    for none in ["none", "NONE", "HS256", "RS512", "ES384"] {
        let header = header(&ed, "JWT").replace("EdDSA", none);
        let fault = verified(&forge(&ed, &header, &claims(&[])), &keys).err();
        assert_eq!(fault, Some(AlgorithmNotAccepted), "{none}");
    }
}

#[test]
fn type_wrong() {
    let key = key(Algorithm::Es256);
    for typ in [
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "oauth-authz-req+jwt",
        "client-authentication+jwt",
        "token-introspection+jwt",
        "rt+jwt",
        "pc-id+jwt",
        "JOSE",
        "",
    ] {
        let token = forge(&key, &header(&key, typ), &claims(&[]));
        assert_eq!(verified(&token, &set(&[&key])).err(), Some(TypeWrong), "{typ}");
    }
    // A logout token of an issuer that types it `JWT`.
    let events = r#"{"http://schemas.openid.net/event/backchannel-logout":{}}"#;
    for events in [events, "{}", "null"] {
        assert_eq!(with(&[("events", Some(events))]).err(), Some(TypeWrong), "{events}");
    }
}

#[test]
fn each_claim_rule_refuses_by_itself() {
    let (past, soon) = ((NOW - 1).to_string(), (NOW + 60).to_string());
    let far = (NOW + MAX_FOREIGN_LIFE_S + 60).to_string();
    let long = format!("\"{}\"", "x".repeat(MAX_FOREIGN_WORD + 1));
    let chain = |count| {
        "{\"sub\":\"a\",\"act\":".repeat(count - 1) + "{\"sub\":\"a\"}" + &"}".repeat(count - 1)
    };
    let deep = chain(MAX_ACTORS + 1);
    let table: &[(&str, Option<&str>, TokenFault)] = &[
        ("iss", Some("\"https://id.partner.example/realms/pay/\""), IssuerWrong),
        ("iss", Some("\"https://ID.partner.example/realms/pay\""), IssuerWrong),
        ("iss", Some("\"https://id.partner.example/realms/other\""), IssuerWrong),
        ("iss", Some("\"https://login.example\""), IssuerWrong),
        ("iss", Some("[\"https://id.partner.example/realms/pay\"]"), ClaimMalformed),
        ("iss", None, ClaimMalformed),
        ("aud", Some("\"https://api.example/v1/\""), AudienceWrong),
        ("aud", Some("\"ACCOUNT\""), AudienceWrong),
        ("aud", Some("[]"), AudienceWrong),
        ("aud", Some("[\"x\",\"https://api.example\"]"), AudienceWrong),
        ("aud", Some("[\"account\",7]"), ClaimMalformed),
        ("aud", Some("[[\"account\"]]"), ClaimMalformed),
        ("aud", Some("{\"account\":1}"), ClaimMalformed),
        ("aud", Some("\"\""), ClaimMalformed),
        ("aud", Some("null"), ClaimMalformed),
        ("aud", None, ClaimMalformed),
        ("sub", None, ClaimMalformed),
        ("sub", Some("\"\""), ClaimMalformed),
        ("sub", Some("7"), ClaimMalformed),
        ("sub", Some("\"a\\nb\""), ClaimMalformed),
        ("sub", Some(&long), ClaimMalformed),
        ("exp", Some(&past), Expired),
        ("exp", Some(&far), NotYetValid),
        ("exp", Some("1e3"), ClaimMalformed),
        ("exp", Some("\"1900000000\""), ClaimMalformed),
        ("exp", Some("9223372036854775808"), ClaimMalformed),
        ("exp", None, ClaimMalformed),
        ("iat", Some(&soon), NotYetValid),
        ("iat", Some("null"), ClaimMalformed),
        ("iat", Some("1.5"), ClaimMalformed),
        ("nbf", Some(&soon), NotYetValid),
        ("nbf", Some("\"1\""), ClaimMalformed),
        ("jti", Some("7"), ClaimMalformed),
        ("jti", Some(&long), ClaimMalformed),
        // What narrows a token must be understood (RFC 7800 §3.1).
        ("cnf", Some("{}"), ClaimMalformed),
        ("cnf", Some("null"), ClaimMalformed),
        ("cnf", Some("{\"jwk\":{}}"), ClaimMalformed),
        ("cnf", Some("{\"jkt\":7}"), ClaimMalformed),
        ("cnf", Some("{\"jkt\":\"a\",\"kid\":\"b\"}"), ClaimMalformed),
        ("act", Some("{}"), ClaimMalformed),
        ("act", Some("\"ledger\""), ClaimMalformed),
        ("act", Some("null"), ClaimMalformed),
        ("act", Some(&deep), ClaimMalformed),
    ];
    for (name, value, expected) in table {
        assert_eq!(with(&[(name, *value)]).err(), Some(*expected), "{name}: {value:?}");
    }
    assert!(with(&[("act", Some(&chain(MAX_ACTORS)))]).is_ok());
}

#[test]
fn one_of_several_audiences_is_enough_at_the_edge() {
    for aud in ["\"account\"", "[\"account\"]", "[\"x\",\"https://api.example/v1\"]"] {
        assert!(with(&[("aud", Some(aud))]).is_ok(), "{aud}");
    }
}

#[test]
fn an_issuer_without_audience_accepts_nothing() {
    let key = key(Algorithm::Es256);
    let token = forge(&key, &header(&key, "JWT"), &claims(&[]));
    let issuer = ForeignIssuer { audience: vec![], ..issuer() };
    let fault = foreign_token(&token, &set(&[&key]), &issuer, now()).err();
    assert_eq!(fault, Some(AudienceWrong));
}

#[test]
fn after_its_date_an_issuer_is_nobody() {
    let key = key(Algorithm::Es256);
    let token = forge(&key, &header(&key, "JWT"), &claims(&[]));
    for (until, passes) in [(NOW + 1, true), (NOW, false), (NOW - 1, false)] {
        let until = Some(Timestamp::from_unix(until));
        let issuer = ForeignIssuer { until, ..issuer() };
        let fault = foreign_token(&token, &set(&[&key]), &issuer, now()).err();
        assert_eq!(fault, if passes { None } else { Some(IssuerWrong) });
    }
}

#[test]
fn keys_in_the_header_and_of_strangers() {
    let (key, thief) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let jwk = thief.public().to_json();
    let stolen = json!({ "alg": "ES256", "kid": key.kid(), "typ": "JWT", "jwk": jwk }).to_string();
    let keys = set(&[&key]);
    assert_eq!(verified(&forge(&thief, &stolen, &claims(&[])), &keys).err(), Some(SignatureWrong));
    let unknown = forge(&thief, &header(&thief, "JWT"), &claims(&[]));
    assert_eq!(verified(&unknown, &keys).err(), Some(KeyUnknown));
    let doubled = claims(&[]).replacen('{', r#"{"aud":"account","#, 1);
    let token = forge(&key, &header(&key, "JWT"), &doubled);
    assert_eq!(verified(&token, &keys).err(), Some(MemberDoubled));
}

#[test]
fn client_and_scopes_are_read_where_issuers_write_them() {
    type Row<'r> = (&'r [(&'r str, Option<&'r str>)], Option<&'r str>, &'r str);
    let table: &[Row<'_>] = &[
        (&[], None, ""),
        (&[("azp", Some("\"app\""))], Some("app"), ""),
        (&[("client_id", Some("\"a\"")), ("azp", Some("\"b\""))], Some("a"), ""),
        (&[("azp", Some("7"))], None, ""),
        (&[("scope", Some("\"b a\""))], None, "a b"),
        (&[("scp", Some("\"a b\""))], None, "a b"),
        (&[("scp", Some("[\"a\",\"b\"]"))], None, "a b"),
        (&[("scope", Some("\"a\"")), ("scp", Some("[\"b\"]"))], None, "a"),
        // The wrong type grants nothing.
        (&[("scp", Some("[\"a\",7]"))], None, ""),
        (&[("scope", Some("{\"a\":1}"))], None, ""),
        (&[("scope", Some("7"))], None, ""),
        (&[("scope", Some("\"a\\\"b\""))], None, ""),
    ];
    for (changed, client, scope) in table {
        let verified = with(changed).expect("verified");
        let claims = verified.claims();
        assert_eq!(claims.client.as_deref(), *client, "{changed:?}");
        assert_eq!(claims.scope, Scopes::parse(scope).expect("scopes"), "{changed:?}");
    }
}

#[test]
fn what_it_is_bound_to_and_who_acts_travel_along() {
    let verified = with(&[
        ("cnf", Some("{\"x5t#S256\":\"abc\"}")),
        ("act", Some("{\"sub\":\"robot\",\"iss\":\"x\",\"act\":{\"sub\":\"desk\"}}")),
    ]);
    let verified = verified.expect("verified");
    assert_eq!(verified.claims().cnf, Some(Confirmation::Certificate("abc".into())));
    let chain = verified.claims().act.as_ref().map(|actor| actor.chain().join(" "));
    assert_eq!(chain.as_deref(), Some("robot desk"));
    assert_eq!(verified.claims().raw["sub"], "f:1:alice");
}

#[test]
fn an_assertion_is_for_us_alone() {
    for aud in ["\"https://login.example\"", "[\"https://login.example\"]"] {
        assert!(asserted(&[("aud", Some(aud))]).is_ok(), "{aud}");
    }
    for aud in [
        "\"https://login.example/\"",
        "\"https://login.example/oauth/token\"",
        "\"https://api.example/v1\"",
        "[]",
        "[\"https://login.example\",\"https://other.example\"]",
        "[\"https://login.example\",\"https://login.example\"]",
    ] {
        assert_eq!(asserted(&[("aud", Some(aud))]).err(), Some(AudienceWrong), "{aud}");
    }
    let past = (NOW - 1).to_string();
    assert_eq!(asserted(&[("exp", Some(&past))]).err(), Some(Expired));
    assert_eq!(asserted(&[("iss", Some("\"x\""))]).err(), Some(IssuerWrong));
    let key = key(Algorithm::Es256);
    let claims = claims(&[("aud", Some("\"https://login.example\""))]);
    for (typ, passes) in [
        ("JOSE", true),
        ("client-authentication+jwt", true),
        ("at+jwt", false),
        ("dpop+jwt", false),
        ("logout+jwt", false),
    ] {
        let token = forge(&key, &header(&key, typ), &claims);
        let fault = federated_assertion(&token, &set(&[&key]), &issuer(), OURS, now()).err();
        assert_eq!(fault, if passes { None } else { Some(TypeWrong) }, "{typ}");
    }
}

proptest! {
    #[test]
    fn no_signed_claims_panic(text in ".{0,60}", value in r#"[\[\]{}":,a-z0-9. ]{0,40}"#) {
        let key = key(Algorithm::EdDsa);
        let keys = set(&[&key]);
        let _ = verified(&text, &keys);
        let _ = verified(&forge(&key, &header(&key, "JWT"), &text), &keys);
        for name in ["iss", "sub", "aud", "exp", "scope", "cnf", "act", "events"] {
            if let Ok(verified) = with(&[(name, Some(&value))]) {
                prop_assert_eq!(&verified.claims().iss, ISSUER);
            }
        }
    }
}
