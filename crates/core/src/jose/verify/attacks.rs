//! The attacks of `6-attacks`, "Tokens at the edge" and "Client authentication", each with tokens
//! that are really signed: only the rule under test stands between them and the door.

use super::TokenFault::*;
use super::*;
use crate::jose::base64url::encode;
use crate::jose::forging::{Rsa, forge, header, key, payload, set};
use crate::jose::jwk::Jwk;
use serde_json::json;

const ISSUER: &str = "https://login.example";
const API: &str = "https://api.example/v1";
const NOW: i64 = 1_800_000_000;

fn access(changed: &[(&str, Option<&str>)]) -> String {
    let good = [
        ("iss", format!("\"{ISSUER}\"")),
        ("sub", "\"u_alice\"".into()),
        ("aud", format!("\"{API}\"")),
        ("exp", (NOW + 300).to_string()),
        ("iat", NOW.to_string()),
        ("jti", "\"t_1\"".into()),
        ("client_id", "\"app\"".into()),
        ("scope", "\"payments:read\"".into()),
        ("kind", "\"user\"".into()),
        ("rev", "7".into()),
    ];
    payload(&good, changed)
}
fn assertion(changed: &[(&str, Option<&str>)]) -> String {
    let good = [
        ("iss", "\"ledger\"".into()),
        ("sub", "\"ledger\"".into()),
        ("aud", format!("\"{ISSUER}\"")),
        ("exp", (NOW + 60).to_string()),
        ("jti", "\"once\"".into()),
    ];
    payload(&good, changed)
}
fn verify(token: &str, keys: &JwkSet) -> Result<Verified<AccessClaims>, TokenFault> {
    access_token(token, keys, ISSUER, Some(API), Timestamp::from_unix(NOW))
}
fn fault(token: &str, keys: &JwkSet) -> TokenFault {
    verify(token, keys).expect_err("refused")
}

#[test]
fn a_good_token_passes_with_either_algorithm() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let (other, key) = (key(algorithm), key(algorithm));
        let keys = set(&[&other, &key]);
        let verified = verify(&forge(&key, &header(&key, "at+jwt"), &access(&[])), &keys);
        let verified = verified.expect("verified");
        assert_eq!(verified.kid(), Some(key.kid()));
        let claims = verified.claims();
        assert_eq!((claims.sub.as_str(), claims.exp, claims.rev), ("u_alice", NOW + 300, 7));
        // RFC 7519 §7.2: what we mint, we read.
        let again = verify(&key.sign("at+jwt", claims), &keys).expect("verified");
        assert_eq!(again.claims(), claims);
    }
}

#[test]
fn the_full_name_of_eddsa_is_accepted() {
    let key = key(Algorithm::EdDsa);
    // RFC 9864 §2.2
    let header = header(&key, "application/at+jwt").replace("EdDSA", "Ed25519");
    assert!(verify(&forge(&key, &header, &access(&[])), &set(&[&key])).is_ok());
}

#[test]
fn a_house_line_reads_any_audience() {
    let key = key(Algorithm::EdDsa);
    let token = forge(&key, &header(&key, "at+jwt"), &access(&[("aud", Some("\"x\""))]));
    let now = Timestamp::from_unix(NOW);
    assert!(access_token(&token, &set(&[&key]), ISSUER, None, now).is_ok());
    assert_eq!(fault(&token, &set(&[&key])), AudienceWrong);
}

#[test]
fn type_wrong() {
    let key = key(Algorithm::Es256);
    let keys = set(&[&key]);
    // ID token, the upstream's identity, logout token (OIDC Back-Channel §2.4), assertion,
    // DPoP proof, refresh token, introspection answer, near misses.
    for typ in [
        "JWT",
        "pc-id+jwt",
        "logout+jwt",
        "client-authentication+jwt",
        "dpop+jwt",
        "rt+jwt",
        "token-introspection+jwt",
        "",
        "at+jwt ",
        "at",
        "application/",
        "x/at+jwt",
        "application/application/at+jwt",
    ] {
        assert_eq!(
            fault(&forge(&key, &header(&key, typ), &access(&[])), &keys),
            TypeWrong,
            "{typ}"
        );
    }
    let untyped = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, key.kid());
    assert_eq!(fault(&forge(&key, &untyped, &access(&[])), &keys), TypeWrong);
}

#[test]
fn algorithm_none_in_any_case() {
    let key = key(Algorithm::Es256);
    for none in ["none", "None", "NONE", "nOnE", "none ", ""] {
        let header = header(&key, "at+jwt").replace("ES256", none);
        let forged = forge(&key, &header, &access(&[]));
        let (bare, _) = forged.rsplit_once('.').expect("a dot");
        for token in [&forged, &format!("{bare}."), &format!("{bare}.AA")] {
            assert_eq!(fault(token, &set(&[&key])), AlgorithmNotAccepted, "{token}");
        }
    }
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let rsa = Rsa::new();
    let jwk = Jwk::from_json(&rsa.jwk("RS256")).expect("a key");
    let keys = JwkSet::new(vec![jwk.clone()]);
    let text = jwk.to_json().to_string();
    for secret in [rsa.n().as_slice(), rsa.public_der(), text.as_bytes()] {
        let header = r#"{"alg":"HS256","kid":"r","typ":"at+jwt"}"#;
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(access(&[]).as_bytes()));
        let mac = crate::hash::hmac_sha256(secret, signed.as_bytes());
        let token = format!("{signed}.{}", encode(&mac));
        assert_eq!(fault(&token, &keys), AlgorithmNotAccepted);
        assert_eq!(
            fault(&token.replacen("eyJhbGciOiJIUzI1NiI", "eyJhbGciOiJSUzI1NiI", 1), &keys),
            SignatureWrong
        );
    }
}

#[test]
fn the_key_decides_the_algorithm() {
    let (ed, es, rsa) = (key(Algorithm::EdDsa), key(Algorithm::Es256), Rsa::new());
    let rs = Jwk::from_json(&rsa.jwk("RS256")).expect("a key");
    let keys = JwkSet::new(vec![ed.public(), es.public(), rs]);
    let ed_header = header(&ed, "at+jwt").replace("EdDSA", "ES256");
    let es_header = header(&es, "at+jwt").replace("ES256", "EdDSA");
    assert_eq!(fault(&forge(&ed, &ed_header, &access(&[])), &keys), KeyUnknown);
    assert_eq!(fault(&forge(&es, &es_header, &access(&[])), &keys), KeyUnknown);
    // RFC 8725 §2.1: the same RSA key under its other padding.
    assert!(verify(&rsa.token("RS256", &access(&[])), &keys).is_ok());
    assert_eq!(fault(&rsa.token("PS256", &access(&[])), &keys), KeyUnknown);
    let ps = JwkSet::new(vec![Jwk::from_json(&rsa.jwk("PS256")).expect("a key")]);
    assert!(verify(&rsa.token("PS256", &access(&[])), &ps).is_ok());
    assert_eq!(fault(&rsa.token("RS256", &access(&[])), &ps), KeyUnknown);
}

#[test]
fn key_unknown() {
    let (key, stranger) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let keys = set(&[&key]);
    assert_eq!(
        fault(&forge(&stranger, &header(&stranger, "at+jwt"), &access(&[])), &keys),
        KeyUnknown
    );
    let (two, huge) = (set(&[&key, &stranger]), format!("\"{}\"", "k".repeat(4000)));
    for kid in [
        r#""../../../../dev/null""#,
        r#""' OR 1=1 --""#,
        r#""http://169.254.169.254/""#,
        r#""*""#,
        r#"["a"]"#,
        "null",
        "7",
        r#""""#,
        &huge,
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":{kid},"typ":"at+jwt"}}"#);
        assert_eq!(fault(&forge(&key, &header, &access(&[])), &two), KeyUnknown, "{kid}");
    }
    // Without a `kid`: fine while there is one key to choose from, never a guess.
    let bare = forge(&key, r#"{"alg":"ES256","typ":"at+jwt"}"#, &access(&[]));
    assert!(verify(&bare, &keys).is_ok());
    assert_eq!(fault(&bare, &two), KeyUnknown);
    assert_eq!(fault(&bare, &JwkSet::default()), KeyUnknown);
}

#[test]
fn an_encryption_key_verifies_nothing() {
    let key = key(Algorithm::Es256);
    let mut jwk = key.public().to_json();
    jwk["use"] = "enc".into();
    let set = json!({ "keys": [jwk, self::key(Algorithm::EdDsa).public().to_json()] });
    let keys = JwkSet::from_json(set.to_string().as_bytes()).expect("a set");
    assert_eq!(fault(&forge(&key, &header(&key, "at+jwt"), &access(&[])), &keys), KeyUnknown);
}

#[test]
fn a_key_in_the_header_is_not_believed() {
    let (key, thief) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let jwk = thief.public().to_json();
    for more in [
        format!(r#""jwk":{jwk}"#),
        r#""jku":"https://evil.example/jwks""#.into(),
        r#""x5u":"https://evil.example/cert""#.into(),
        r#""x5c":["MIIB"]"#.into(),
    ] {
        let kid = key.kid();
        let header = format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"at+jwt",{more}}}"#);
        assert_eq!(fault(&forge(&thief, &header, &access(&[])), &set(&[&key])), SignatureWrong);
        assert!(verify(&forge(&key, &header, &access(&[])), &set(&[&key])).is_ok(), "ignored");
    }
}

#[test]
fn signature_wrong() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
        let key = key(algorithm);
        let keys = set(&[&key]);
        let good = forge(&key, &header(&key, "at+jwt"), &access(&[]));
        let (signed, signature) = good.rsplit_once('.').expect("a dot");
        let mut flipped = crate::jose::base64url::decode(signature).expect("canonical");
        flipped[40] ^= 1;
        let long = [flipped.as_slice(), &[0]].concat();
        // RFC 7518 §3.4: r‖s; r = s = 0 passed verifiers in 2022 (CVE-2022-21449).
        for forged in [&[0; 64][..], &[0; 32], &[], &[0xff; 64], &flipped, &flipped[..63], &long] {
            let token = format!("{signed}.{}", encode(forged));
            assert_eq!(fault(&token, &keys), SignatureWrong, "{forged:?}");
        }
        let other = forge(&key, &header(&key, "at+jwt"), &access(&[("sub", Some("\"u_bob\""))]));
        let (swapped, _) = other.rsplit_once('.').expect("a dot");
        assert_eq!(fault(&format!("{swapped}.{signature}"), &keys), SignatureWrong);
    }
}

#[test]
fn each_header_and_shape_rule_holds_for_signed_tokens() {
    let key = key(Algorithm::Es256);
    let keys = set(&[&key]);
    let good = header(&key, "at+jwt");
    let with = |more: &str| good.replacen('{', &format!("{{{more},"), 1);
    let table = [
        (with(r#""crit":["exp"]"#), CriticalUnknown),
        (with(r#""crit":["b64"],"b64":false"#), CriticalUnknown),
        (with(r#""b64":false"#), CriticalUnknown),
        (with(r#""alg":"none""#), MemberDoubled),
        (with(r#""typ":"JWT""#), MemberDoubled),
        (with(r#""x":{"y":1,"y":1}"#), MemberDoubled),
    ];
    for (header, expected) in table {
        assert_eq!(fault(&forge(&key, &header, &access(&[])), &keys), expected, "{header}");
    }
    let doubled = access(&[]).replacen('{', r#"{"sub":"u_admin","#, 1);
    assert_eq!(fault(&forge(&key, &good, &doubled), &keys), MemberDoubled);
    let long = format!("\"{}\"", "a".repeat(jws::MAX_TOKEN));
    assert_eq!(fault(&forge(&key, &good, &access(&[("x", Some(&long))])), &keys), TooLong);
    let token = forge(&key, &good, &access(&[]));
    for bad in [
        format!("{token}="),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.e30.e30"),
        token.replacen('.', "..", 1),
    ] {
        assert_eq!(fault(&bad, &keys), NotCompact, "{bad}");
    }
}

#[test]
fn each_claim_rule_refuses_by_itself() {
    let (past, soon) = ((NOW - 1).to_string(), (NOW + 60).to_string());
    let (now, year) = (NOW.to_string(), (NOW + 31_536_000).to_string());
    let exact = format!("{}.0", NOW + 300);
    let table: &[(&str, Option<&str>, TokenFault)] = &[
        ("iss", Some("\"https://login.example/\""), IssuerWrong),
        ("iss", Some("\"https://LOGIN.example\""), IssuerWrong),
        ("iss", Some("\"https://login.example:443\""), IssuerWrong),
        ("iss", Some("[\"https://login.example\"]"), ClaimMalformed),
        ("iss", None, ClaimMalformed),
        ("aud", Some("\"https://api.example/v1/\""), AudienceWrong),
        ("aud", Some("\"https://api.example/v2\""), AudienceWrong),
        ("aud", Some("\"app\""), AudienceWrong),
        ("aud", Some("[\"https://api.example/v1\"]"), ClaimMalformed),
        ("aud", Some("[\"https://api.example/v1\",\"x\"]"), ClaimMalformed),
        ("aud", Some("null"), ClaimMalformed),
        ("aud", None, ClaimMalformed),
        ("exp", Some(&past), Expired),
        ("exp", Some(&now), Expired),
        ("exp", Some("-9223372036854775808"), Expired),
        ("exp", Some("0"), Expired),
        ("exp", Some(&year), NotYetValid),
        ("exp", Some("9223372036854775807"), NotYetValid),
        ("exp", Some("9223372036854775808"), ClaimMalformed),
        ("exp", Some("1e20"), ClaimMalformed),
        ("exp", Some(&exact), ClaimMalformed),
        ("exp", Some("\"1900000000\""), ClaimMalformed),
        ("exp", Some("null"), ClaimMalformed),
        ("exp", None, ClaimMalformed),
        ("iat", Some(&soon), NotYetValid),
        ("iat", Some("1.5"), ClaimMalformed),
        ("iat", Some("\"1\""), ClaimMalformed),
        ("iat", Some("9223372036854775808"), ClaimMalformed),
        ("iat", None, ClaimMalformed),
        ("nbf", Some(&soon), NotYetValid),
        ("nbf", Some("9223372036854775807"), NotYetValid),
        ("nbf", Some("9223372036854775808"), ClaimMalformed),
        ("nbf", Some("1.0"), ClaimMalformed),
        ("nbf", Some("\"1\""), ClaimMalformed),
        ("nbf", Some("null"), ClaimMalformed),
        ("sub", None, ClaimMalformed),
        ("sub", Some("7"), ClaimMalformed),
        ("jti", None, ClaimMalformed),
        ("client_id", Some("\"u_alice\""), ClaimMalformed),
        ("scope", Some("[\"a\"]"), ClaimMalformed),
        ("kind", Some("\"admin\""), ClaimMalformed),
        ("rev", Some("-1"), ClaimMalformed),
        ("rev", None, ClaimMalformed),
        ("roles", Some("\"admin\""), ClaimMalformed),
        ("attributes", Some("{\"a\":[1]}"), ClaimMalformed),
    ];
    let key = key(Algorithm::EdDsa);
    for (name, value, expected) in table {
        let token = forge(&key, &header(&key, "at+jwt"), &access(&[(name, *value)]));
        assert_eq!(fault(&token, &set(&[&key])), *expected, "{name}: {value:?}");
    }
}

#[test]
fn clocks_apart_by_the_leeway_are_one_clock() {
    let key = key(Algorithm::EdDsa);
    for name in ["iat", "nbf"] {
        for (ahead, passes) in [(0, true), (8, true), (10, true), (11, false), (60, false)] {
            let time = (NOW + ahead).to_string();
            let payload = access(&[(name, Some(&time))]);
            let verified = verify(&forge(&key, &header(&key, "at+jwt"), &payload), &set(&[&key]));
            assert_eq!(verified.is_ok(), passes, "{name} {ahead} s ahead");
        }
    }
}

fn asserted(token: &str, keys: &JwkSet) -> Result<Verified<AssertionClaims>, TokenFault> {
    client_assertion(token, keys, "ledger", ISSUER, Timestamp::from_unix(NOW))
}

#[test]
fn a_client_assertion_passes() {
    let key = key(Algorithm::Es256);
    for typ in ["JWT", "jwt", "client-authentication+jwt"] {
        let token = forge(&key, &header(&key, typ), &assertion(&[]));
        assert_eq!(asserted(&token, &set(&[&key])).expect("verified").claims().jti, "once");
    }
    let token = forge(&key, r#"{"alg":"ES256"}"#, &assertion(&[]));
    assert!(asserted(&token, &set(&[&key])).is_ok(), "`kid` and `typ` may be absent");
}

#[test]
fn each_assertion_rule_refuses_by_itself() {
    let (soon, late) = ((NOW + 60).to_string(), (NOW + 3700).to_string());
    let (past, long) = ((NOW - 1).to_string(), format!("\"{}\"", "j".repeat(MAX_JTI + 1)));
    let table: &[(&str, Option<&str>, TokenFault)] = &[
        ("iss", Some("\"other\""), IssuerWrong),
        ("sub", Some("\"other\""), IssuerWrong),
        ("sub", None, ClaimMalformed),
        ("aud", Some("\"https://login.example/oauth/token\""), AudienceWrong),
        ("aud", Some("\"https://login.example/\""), AudienceWrong),
        ("aud", Some("[\"https://login.example\"]"), ClaimMalformed),
        ("aud", None, ClaimMalformed),
        ("exp", None, ClaimMalformed),
        ("exp", Some("1.5"), ClaimMalformed),
        ("exp", Some(&past), Expired),
        ("exp", Some(&late), NotYetValid),
        ("iat", Some(&soon), NotYetValid),
        ("iat", Some("null"), ClaimMalformed),
        ("nbf", Some(&soon), NotYetValid),
        ("jti", None, ClaimMalformed),
        ("jti", Some("\"\""), ClaimMalformed),
        ("jti", Some("7"), ClaimMalformed),
        ("jti", Some(&long), ClaimMalformed),
    ];
    let key = key(Algorithm::Es256);
    for (name, value, expected) in table {
        let token = forge(&key, &header(&key, "JWT"), &assertion(&[(name, *value)]));
        let fault = asserted(&token, &set(&[&key])).err();
        assert_eq!(fault, Some(*expected), "{name}: {value:?}");
    }
    let access = forge(&key, &header(&key, "at+jwt"), &assertion(&[]));
    assert_eq!(asserted(&access, &set(&[&key])).err(), Some(TypeWrong));
    let stranger = forge(&self::key(Algorithm::Es256), &header(&key, "JWT"), &assertion(&[]));
    assert_eq!(asserted(&stranger, &set(&[&key])).err(), Some(SignatureWrong));
}

#[test]
fn an_assertion_by_rsa_passes_with_ps256_alone() {
    let rsa = Rsa::new();
    // FAPI 2.0 §5.4.1
    for (alg, expected) in [("PS256", None), ("RS256", Some(AlgorithmNotAccepted))] {
        let keys = JwkSet::new(vec![Jwk::from_json(&rsa.jwk(alg)).expect("a key")]);
        let header = format!(r#"{{"alg":"{alg}","kid":"r"}}"#);
        let token = rsa.forge(alg, &header, &assertion(&[]));
        assert_eq!(asserted(&token, &keys).err(), expected, "{alg}");
    }
}

fn identity(changed: &[(&str, Option<&str>)]) -> String {
    let good = [
        ("iss", format!("\"{ISSUER}\"")),
        ("sub", "\"u_alice\"".into()),
        ("aud", "\"app\"".into()),
        // Long over: a hint may be (RP-Initiated Logout §2).
        ("exp", (NOW - 86_400).to_string()),
        ("iat", (NOW - 90_000).to_string()),
        ("auth_time", (NOW - 90_000).to_string()),
        ("acr", "\"aal1\"".into()),
        ("amr", "[\"pwd\"]".into()),
        ("sid", "\"s_1\"".into()),
    ];
    payload(&good, changed)
}

#[test]
fn a_hint_that_has_expired_still_says_who_was_logged_in() {
    let (key, retired) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let keys = set(&[&key, &retired]);
    for key in [&key, &retired] {
        let hint = forge(key, &header(key, "JWT"), &identity(&[]));
        let verified = id_token_hint(&hint, &keys, ISSUER).expect("verified");
        assert_eq!(verified.claims().sub, "u_alice");
        assert_eq!(verified.claims().sid.as_str(), "s_1");
    }
}

#[test]
fn each_hint_rule_refuses_by_itself() {
    let (key, stranger) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let keys = set(&[&key]);
    let hint = |typ: &str, changed: &[(&str, Option<&str>)]| {
        id_token_hint(&forge(&key, &header(&key, typ), &identity(changed)), &keys, ISSUER).err()
    };
    for typ in ["at+jwt", "logout+jwt", "pc-id+jwt", "dpop+jwt", ""] {
        assert_eq!(hint(typ, &[]), Some(TypeWrong), "{typ}");
    }
    let table: &[(&str, Option<&str>, TokenFault)] = &[
        ("iss", Some("\"https://login.example/\""), IssuerWrong),
        ("iss", Some("\"https://evil.example\""), IssuerWrong),
        ("iss", None, ClaimMalformed),
        ("sub", None, ClaimMalformed),
        ("aud", Some("[\"app\"]"), ClaimMalformed),
        ("sid", None, ClaimMalformed),
        ("sid", Some("\"u_alice\""), ClaimMalformed),
    ];
    for (name, value, expected) in table {
        assert_eq!(hint("JWT", &[(name, *value)]), Some(*expected), "{name}: {value:?}");
    }
    let forged = forge(&stranger, &header(&key, "JWT"), &identity(&[]));
    assert_eq!(id_token_hint(&forged, &keys, ISSUER).err(), Some(SignatureWrong));
    let unsigned = forge(&key, &header(&key, "JWT").replace("ES256", "none"), &identity(&[]));
    assert_eq!(id_token_hint(&unsigned, &keys, ISSUER).err(), Some(AlgorithmNotAccepted));
}
