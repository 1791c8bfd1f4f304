//! The attacks of `6-attacks`, "Tokens at the edge", on proofs: each is really signed, and wrong in
//! the one thing under test.

use std::sync::Barrier;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::ProofFault::*;
use super::*;
use crate::entropy::SeededEntropy;
use crate::jose::forging::{self, Rsa, forge};

const NOW: i64 = 1_800_000_000;
const URL: &str = "https://api.example/v1/payments";
const TOKEN: &str = "a.b.c";

fn now() -> Timestamp {
    Timestamp::from_unix(NOW)
}
fn desk() -> ProofDesk {
    ProofDesk::new(&SeededEntropy::new(1))
}
fn at_resource() -> Expected<'static> {
    Expected { method: "POST", url: URL, token: Some(TOKEN) }
}
fn at_token() -> Expected<'static> {
    Expected { method: "POST", url: URL, token: None }
}
fn ath(token: &str) -> String {
    base64url::encode(&sha256(token.as_bytes()))
}
fn es256() -> SigningKey {
    forging::key(Algorithm::Es256)
}
fn public(key: &SigningKey) -> Value {
    key.public().to_json()
}
fn header(key: &SigningKey) -> String {
    json!({ "typ": "dpop+jwt", "alg": key.algorithm().name(), "jwk": public(key) }).to_string()
}
/// A good proof's claims with some changed (raw JSON) or, at `None`, left out.
fn claims(desk: &ProofDesk, changed: &[(&str, Option<&str>)]) -> String {
    let good = [
        ("jti", "\"once\"".into()),
        ("htm", "\"POST\"".into()),
        ("htu", format!("\"{URL}\"")),
        ("iat", NOW.to_string()),
        ("ath", format!("\"{}\"", ath(TOKEN))),
        ("nonce", format!("\"{}\"", desk.nonce(now()))),
    ];
    forging::payload(&good, changed)
}
fn judged(desk: &ProofDesk, proof: &str) -> Result<Proof, ProofFault> {
    desk.judge(proof, &at_resource(), now())
}
/// Judges a proof with a good header and some claims changed, at a desk of its own.
fn with(changed: &[(&str, Option<&str>)]) -> Result<Proof, ProofFault> {
    let (desk, key) = (desk(), es256());
    judged(&desk, &forge(&key, &header(&key), &claims(&desk, changed)))
}
fn proved(desk: &ProofDesk, key: &SigningKey, seed: u64) -> String {
    let nonce = desk.nonce(now());
    prove(key, &at_resource(), Some(&nonce), (&SeededEntropy::new(seed), now()))
}

#[test]
fn a_good_proof_is_taken() {
    let desk = desk();
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let key = forging::key(algorithm);
        let proof = forge(&key, &header(&key), &claims(&desk, &[]));
        let taken = judged(&desk, &proof).expect("taken");
        assert_eq!(taken.thumbprint(), key.public().thumbprint());
        // What our own clients write, at either door.
        for (seed, expected) in [(1, at_resource()), (2, at_token())] {
            let nonce = desk.nonce(now());
            let proof = prove(&key, &expected, Some(&nonce), (&SeededEntropy::new(seed), now()));
            let taken = desk.judge(&proof, &expected, now()).expect("taken");
            assert_eq!(taken.thumbprint(), key.public().thumbprint());
        }
    }
}

#[test]
fn a_proof_by_rsa_is_taken_with_ps256_alone() {
    let (desk, rsa) = (desk(), Rsa::new());
    let header = |alg: &str, jwk: Value| json!({ "typ": "dpop+jwt", "alg": alg, "jwk": jwk });
    let sent = |alg: &str, named: &str, said: &str| {
        let header = header(alg, rsa.jwk(said)).to_string();
        judged(&desk, &rsa.forge(named, &header, &claims(&desk, &[])))
    };
    assert!(sent("PS256", "PS256", "PS256").is_ok());
    // FAPI 2.0 §5.4.1: no RS256, however it is dressed.
    assert_eq!(sent("RS256", "RS256", "RS256"), Err(AlgorithmNotAccepted));
    assert_eq!(sent("RS256", "RS256", "PS256"), Err(AlgorithmNotAccepted));
    assert_eq!(sent("PS256", "RS256", "RS256"), Err(KeyMalformed));
    assert_eq!(sent("PS256", "RS256", "PS256"), Err(SignatureWrong));
}

#[test]
fn malformed() {
    let (desk, key) = (desk(), es256());
    let payload = claims(&desk, &[]);
    let good = forge(&key, &header(&key), &payload);
    let more = |more: &str| forge(&key, &header(&key).replacen('{', more, 1), &payload);
    let doubled = payload.replacen('{', r#"{"htm":"GET","#, 1);
    let long = format!("\"{}\"", "a".repeat(jws::MAX_TOKEN));
    let table = [
        String::new(),
        "a".into(),
        "..".into(),
        format!("{good}="),
        format!("{good}\n"),
        format!("{good}.e30"),
        format!("{good},{good}"),
        format!("{good}, {good}"),
        more(r#"{"crit":["exp"],"#),
        more(r#"{"b64":false,"#),
        more(r#"{"typ":"JWT","#),
        more(r#"{"jwk":{},"#),
        more(r#"{"kid":["a"],"#),
        forge(&key, &header(&key), &doubled),
        forge(&key, &header(&key), "[]"),
        forge(&key, &header(&key), &claims(&desk, &[("x", Some(&long))])),
    ];
    for bad in table {
        assert_eq!(judged(&desk, &bad), Err(Malformed), "{bad}");
    }
    assert!(judged(&desk, &good).is_ok(), "none of them spent it");
}

#[test]
fn type_wrong() {
    let (desk, key) = (desk(), es256());
    let untyped = json!({ "alg": "ES256", "jwk": public(&key) }).to_string();
    let mut headers = vec![untyped, header(&key).replace("\"dpop+jwt\"", "7")];
    for typ in ["JWT", "at+jwt", "dpop", "dpop+jwt ", "x/dpop+jwt", "", "client-authentication+jwt"]
    {
        headers.push(header(&key).replace("dpop+jwt", typ));
    }
    for header in headers {
        let proof = forge(&key, &header, &claims(&desk, &[]));
        assert_eq!(judged(&desk, &proof), Err(TypeWrong), "{header}");
    }
    // RFC 7515 §4.1.9
    let full = header(&key).replace("dpop+jwt", "application/DPoP+JWT");
    assert!(judged(&desk, &forge(&key, &full, &claims(&desk, &[]))).is_ok());
}

#[test]
fn algorithm_not_accepted() {
    let (desk, key) = (desk(), es256());
    for alg in ["none", "None", "NONE", "", "HS256", "HS512", "RS256", "ES384", "ES256K", "es256"] {
        let header = header(&key).replace("ES256", alg);
        let proof = forge(&key, &header, &claims(&desk, &[]));
        let (bare, _) = proof.rsplit_once('.').expect("a dot");
        for proof in [proof.as_str(), &format!("{bare}.")] {
            assert_eq!(judged(&desk, proof), Err(AlgorithmNotAccepted), "{alg}");
        }
    }
    // The key's own text as an HMAC secret.
    let header = header(&key).replace(r#""alg":"ES256""#, r#""alg":"HS256""#);
    let signed = format!(
        "{}.{}",
        base64url::encode(header.as_bytes()),
        base64url::encode(claims(&desk, &[]).as_bytes())
    );
    let mac = crate::hash::hmac_sha256(public(&key).to_string().as_bytes(), signed.as_bytes());
    let proof = format!("{signed}.{}", base64url::encode(&mac));
    assert_eq!(judged(&desk, &proof), Err(AlgorithmNotAccepted));
}

#[test]
fn key_malformed() {
    let (desk, key, ed) = (desk(), es256(), forging::key(Algorithm::EdDsa));
    let good = public(&key);
    let changed = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        jwk
    };
    let table = [
        Value::Null,
        json!("key"),
        json!([good]),
        json!({ "keys": [good] }),
        json!({}),
        // A private key in `jwk`, whole or in part.
        changed("d", json!("AAAA")),
        changed("d", Value::Null),
        changed("priv", json!("AAAA")),
        json!({ "kty": "oct", "k": "AAAA" }),
        json!({ "kty": "oct" }),
        changed("use", json!("enc")),
        changed("key_ops", json!(["sign"])),
        changed("crv", json!("P-384")),
        changed("y", good["x"].clone()),
        changed("alg", json!("EdDSA")),
        public(&ed),
    ];
    for jwk in table {
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk }).to_string();
        let proof = forge(&key, &header, &claims(&desk, &[]));
        assert_eq!(judged(&desk, &proof), Err(KeyMalformed), "{header}");
    }
    let without = json!({ "typ": "dpop+jwt", "alg": "ES256", "kid": key.kid(), "x5c": ["MIIB"],
        "jku": "https://evil.example/jwks" });
    let proof = forge(&key, &without.to_string(), &claims(&desk, &[]));
    assert_eq!(judged(&desk, &proof), Err(KeyMalformed), "nothing is fetched");
}

#[test]
fn signature_wrong() {
    let (desk, key, thief) = (desk(), es256(), es256());
    let good = forge(&key, &header(&key), &claims(&desk, &[]));
    let (signed, signature) = good.rsplit_once('.').expect("a dot");
    let other = forge(&key, &header(&key), &claims(&desk, &[("htm", Some("\"GET\""))]));
    let (_, of_other) = other.rsplit_once('.').expect("a dot");
    let (head, _) = good.split_once('.').expect("a dot");
    let (_, tail) = other.split_once('.').expect("a dot");
    let table = [
        forge(&thief, &header(&key), &claims(&desk, &[])),
        format!("{signed}."),
        format!("{signed}.{}", base64url::encode(&[0; 64])),
        format!("{signed}.{}", &signature[..40]),
        format!("{signed}.{of_other}"),
        format!("{head}.{}", tail.replace(of_other, signature)),
        // Without the nonce too: nobody gets an answer about nonces without a key.
        forge(&thief, &header(&key), &claims(&desk, &[("nonce", None)])),
    ];
    for proof in table {
        assert_eq!(judged(&desk, &proof), Err(SignatureWrong), "{proof}");
    }
    assert!(judged(&desk, &good).is_ok(), "none of them spent it");
}

#[test]
fn claim_malformed() {
    let long = format!("\"{}\"", "j".repeat(MAX_JTI + 1));
    let exact = format!("{NOW}.0");
    let table: &[(&str, Option<&str>)] = &[
        ("jti", None),
        ("jti", Some("\"\"")),
        ("jti", Some("7")),
        ("jti", Some("null")),
        ("jti", Some(&long)),
        ("htm", None),
        ("htm", Some("[\"POST\"]")),
        ("htu", None),
        ("htu", Some("7")),
        ("htu", Some("[]")),
        ("iat", None),
        ("iat", Some("\"1800000000\"")),
        ("iat", Some(&exact)),
        ("iat", Some("9223372036854775808")),
        ("iat", Some("null")),
        ("ath", Some("null")),
        ("ath", Some("7")),
        ("nonce", Some("null")),
        ("nonce", Some("[\"a\"]")),
    ];
    for change in table {
        assert_eq!(with(&[*change]), Err(ClaimMalformed), "{change:?}");
    }
    assert!(with(&[("jti", Some(&format!("\"{}\"", "j".repeat(MAX_JTI))))]).is_ok());
}

#[test]
fn method_other() {
    for htm in ["GET", "post", "Post", "POST ", "", "PUT", "*"] {
        let htm = format!("\"{htm}\"");
        assert_eq!(with(&[("htm", Some(&htm))]), Err(MethodOther), "{htm}");
    }
}

#[test]
fn address_other() {
    for htu in [
        "",
        "/v1/payments",
        "//api.example/v1/payments",
        "http://api.example/v1/payments",
        "ftp://api.example/v1/payments",
        "https://api.example",
        "https://api.example/",
        "https://api.example/v1",
        "https://api.example/v1/payments/",
        "https://api.example/v1/payments/7",
        "https://api.example/V1/payments",
        "https://api.example/v1/%70ayments",
        "https://api.example/v1/./payments",
        "https://api.example//v1/payments",
        "https://api.example/v1/payments;a",
        "https://api.example:80/v1/payments",
        "https://api.example:8443/v1/payments",
        "https://api.example:443:443/v1/payments",
        "https://api.example::443/v1/payments",
        "https://api.example./v1/payments",
        "https://evil.example/v1/payments",
        "https://api.example.evil.example/v1/payments",
        "https://api.example@evil.example/v1/payments",
        "https://user@api.example/v1/payments",
        "https://evil.example/?https://api.example/v1/payments",
        "https://evil.example/#https://api.example/v1/payments",
        "https:///v1/payments",
        " https://api.example/v1/payments",
        "https://api.example\\\\/v1/payments",
    ] {
        let htu = format!("\"{htu}\"");
        assert_eq!(with(&[("htu", Some(&htu))]), Err(AddressOther), "{htu}");
    }
}

#[test]
fn spellings_of_one_address_are_one() {
    for htu in [
        "HTTPS://API.Example/v1/payments",
        "https://api.example:443/v1/payments",
        "https://api.example/v1/payments?a=b",
        "https://api.example/v1/payments#c",
        "https://api.example/v1/payments?a#b",
    ] {
        let htu = format!("\"{htu}\"");
        assert!(with(&[("htu", Some(&htu))]).is_ok(), "{htu}");
    }
    let equal = [
        ("https://a.example", "https://a.example/"),
        ("http://A.example:80?x", "http://a.example"),
        ("http://[::1]:80/a", "http://[::1]/a"),
        ("http://127.0.0.1:3000/a", "HTTP://127.0.0.1:3000/a"),
    ];
    for (one, other) in equal {
        assert!(
            same_spelling(one).is_some() && same_spelling(one) == same_spelling(other),
            "{one}"
        );
    }
    assert_ne!(same_spelling("http://[::1]:443/a"), same_spelling("http://[::1]/a"));
}

#[test]
fn time_off() {
    for (ahead, taken) in
        [(-301, false), (-300, true), (-60, true), (8, true), (300, true), (301, false)]
    {
        let iat = (NOW + ahead).to_string();
        let expected = if taken { None } else { Some(TimeOff) };
        assert_eq!(with(&[("iat", Some(&iat))]).err(), expected, "{ahead} s");
    }
    for iat in ["0", "-1", "9223372036854775807", "-9223372036854775808"] {
        assert_eq!(with(&[("iat", Some(iat))]), Err(TimeOff), "{iat}");
    }
}

#[test]
fn token_other() {
    let (other, padded) = (format!("\"{}\"", ath("a.b.d")), format!("\"{}=\"", ath(TOKEN)));
    let hex: String = sha256(TOKEN.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    for value in [None, Some("\"\""), Some("\"a.b.c\""), Some(&*other), Some(&*padded)] {
        assert_eq!(with(&[("ath", value)]), Err(TokenOther), "{value:?}");
    }
    assert_eq!(with(&[("ath", Some(&format!("\"{hex}\"")))]), Err(TokenOther));
    // At the token endpoint there is no token yet, and `ath` says nothing.
    let (desk, key) = (desk(), es256());
    let proof = forge(&key, &header(&key), &claims(&desk, &[("ath", None)]));
    assert!(desk.judge(&proof, &at_token(), now()).is_ok());
    // A proof made there is none at a resource.
    let made = forge(&key, &header(&key), &claims(&desk, &[("ath", None), ("jti", Some("\"b\""))]));
    assert_eq!(judged(&desk, &made), Err(TokenOther));
}

#[test]
fn nonce_wanted() {
    let (here, key) = (desk(), es256());
    let foreign = format!("\"{}\"", ProofDesk::new(&SeededEntropy::new(2)).nonce(now()));
    for nonce in [None, Some("\"\""), Some("\"x\""), Some(&*foreign)] {
        assert_eq!(with(&[("nonce", nonce)]), Err(NonceWanted), "{nonce:?}");
    }
    // In force for its step and the next, then stale.
    let nonce = here.nonce(now());
    for (later, taken) in [(0, true), (NONCE_STEP_S, true), (2 * NONCE_STEP_S, false)] {
        let then = Timestamp::from_unix(NOW + later);
        let entropy = SeededEntropy::new(9 + later.unsigned_abs());
        let proof = prove(&key, &at_resource(), Some(&nonce), (&entropy, then));
        let expected = if taken { None } else { Some(NonceWanted) };
        assert_eq!(here.judge(&proof, &at_resource(), then).err(), expected, "{later} s");
    }
}

#[test]
fn what_the_client_must_mend_is_said_before_the_nonce() {
    let table = [
        ("jti", None, ClaimMalformed),
        ("htm", Some("\"GET\""), MethodOther),
        ("htu", Some("\"https://b.example/\""), AddressOther),
        ("iat", Some("0"), TimeOff),
        ("ath", None, TokenOther),
    ];
    for (name, value, fault) in table {
        assert_eq!(with(&[("nonce", None), (name, value)]), Err(fault), "{name}");
    }
}

#[test]
fn replayed() {
    let (desk, key) = (desk(), es256());
    let proof = proved(&desk, &key, 1);
    assert!(judged(&desk, &proof).is_ok());
    assert_eq!(judged(&desk, &proof), Err(Replayed));
    let later = Timestamp::from_unix(NOW + NONCE_STEP_S);
    assert_eq!(desk.judge(&proof, &at_resource(), later), Err(Replayed), "while its nonce lives");
    let stale = Timestamp::from_unix(NOW + 2 * NONCE_STEP_S);
    assert_eq!(desk.judge(&proof, &at_resource(), stale), Err(NonceWanted), "and never after");
    assert_eq!(judged(&desk, &proof), Err(NonceWanted), "whatever the clock does");
}

#[test]
fn a_jti_is_spent_for_every_address_and_for_its_key_alone() {
    let (desk, key, other) = (desk(), es256(), es256());
    assert!(judged(&desk, &forge(&key, &header(&key), &claims(&desk, &[]))).is_ok());
    let url = "https://login.example/oauth/token";
    let elsewhere = claims(&desk, &[("htu", Some(&format!("\"{url}\"")))]);
    let proof = forge(&key, &header(&key), &elsewhere);
    let expected = Expected { method: "POST", url, token: None };
    assert_eq!(desk.judge(&proof, &expected, now()), Err(Replayed), "one set for both doors");
    assert!(judged(&desk, &forge(&other, &header(&other), &claims(&desk, &[]))).is_ok());
}

#[test]
fn a_proof_that_is_not_taken_spends_nothing() {
    let (desk, key) = (desk(), es256());
    for (name, value) in [
        ("htm", Some("\"GET\"")),
        ("htu", Some("\"https://b.example/\"")),
        ("iat", Some("0")),
        ("ath", None),
        ("nonce", None),
    ] {
        let proof = forge(&key, &header(&key), &claims(&desk, &[(name, value)]));
        assert!(judged(&desk, &proof).is_err());
    }
    assert!(judged(&desk, &forge(&key, &header(&key), &claims(&desk, &[]))).is_ok());
}

#[test]
fn a_restart_takes_no_proof_from_before() {
    let key = es256();
    let before = desk();
    let proof = proved(&before, &key, 1);
    assert!(judged(&before, &proof).is_ok());
    let after = ProofDesk::new(&SeededEntropy::new(2));
    assert_eq!(judged(&after, &proof), Err(NonceWanted));
}

#[test]
fn eight_threads_one_winner() {
    let (desk, key) = (desk(), es256());
    let proofs: Vec<String> = (0..40).map(|seed| proved(&desk, &key, seed)).collect();
    let start = Barrier::new(8);
    let run = || {
        start.wait();
        let taken = |proof: &String| judged(&desk, proof).is_ok();
        proofs.iter().map(taken).collect::<Vec<bool>>()
    };
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        joined.collect::<Vec<_>>()
    });
    for at in 0..proofs.len() {
        let winners = results.iter().filter(|result| result[at]).count();
        assert_eq!(winners, 1, "proof {at}");
    }
}

proptest! {
    #[test]
    fn no_text_panics_or_is_taken(text in ".{0,200}", parts in "[A-Za-z0-9_.-]{0,200}") {
        let desk = desk();
        prop_assert!(judged(&desk, &text).is_err());
        prop_assert!(judged(&desk, &parts).is_err());
        let _ = same_spelling(&text);
        let _ = same_spelling(&format!("https://{text}"));
    }
    #[test]
    fn no_signed_text_panics(header in ".{0,60}", payload in ".{0,60}") {
        let (desk, key) = (desk(), es256());
        prop_assert!(judged(&desk, &forge(&key, &header, &payload)).is_err());
        let jwk = public(&key);
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk }).to_string();
        prop_assert!(judged(&desk, &forge(&key, &header, &payload)).is_err());
    }
    #[test]
    fn one_changed_character_is_not_taken(at: usize, to in "[A-Za-z0-9_.=-]") {
        let (desk, key) = (desk(), forging::key(Algorithm::EdDsa));
        let proof = proved(&desk, &key, 1);
        let mut forged = proof.clone();
        let at = at % proof.len();
        forged.replace_range(at..=at, &to);
        prop_assert_eq!(judged(&desk, &forged).is_ok(), forged == proof);
    }
    #[test]
    fn a_proof_is_taken_at_most_once(moves in proptest::collection::vec((-400i64..400, 0usize..3), 1..30)) {
        let (desk, key) = (desk(), forging::key(Algorithm::EdDsa));
        let proofs: Vec<String> = (0..3).map(|seed| proved(&desk, &key, seed)).collect();
        let (mut taken, mut time) = ([0; 3], NOW);
        for (by, which) in moves {
            time += by;
            let now = Timestamp::from_unix(time);
            taken[which] += usize::from(desk.judge(&proofs[which], &at_resource(), now).is_ok());
        }
        prop_assert!(taken.iter().all(|times| *times <= 1), "{taken:?}");
    }
}
