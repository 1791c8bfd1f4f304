//! Bodies over JOSE and sealed values: whatever opens a door with a signature or a key.

use std::sync::LazyLock;

use portcullis_core::api_key;
use portcullis_core::certificate::{Chain, ClientCertificate, MAX_CERTIFICATE};
use portcullis_core::entropy::SeededEntropy;
use portcullis_core::foreign::{ClaimMap, ForeignIssuer, KeySource};
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::dpop::{Expected, ProofDesk};
use portcullis_core::jose::jwk::{Jwk, JwkSet, MAX_KEYS, MAX_SET_BYTES};
use portcullis_core::jose::jws::{self, MAX_KID, MAX_TOKEN};
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::jose::{base64url, verify};
use portcullis_core::oauth::refresh;
use portcullis_core::seal::{Purpose, Sealer};
use portcullis_core::secret::Secret;
use portcullis_core::time::Timestamp;
use serde_json::value::RawValue;

use crate::source::Source;

const ISSUER: &str = "https://login.example";
const API: &str = "https://api.example";
const NOW: i64 = 1_800_000_000;

const HEADER_NAMES: &[&str] =
    &["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c", "\\u0061lg", "enc", ""];
const HEADER_VALUES: &[&str] = &[
    "\"EdDSA\"",
    "\"ES256\"",
    "\"Ed25519\"",
    "\"PS256\"",
    "\"RS256\"",
    "\"none\"",
    "\"HS256\"",
    "\"at+jwt\"",
    "\"application/at+jwt\"",
    "\"JWT\"",
    "\"k\"",
    "[\"b64\"]",
    "null",
    "false",
    "7",
    "\"' OR 1=1 --\"",
    "\"../key\"",
    "\"\\u0000\"",
];
const CLAIM_NAMES: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "client_id",
    "scope",
    "kind",
    "rev",
    "sid",
    "gid",
    "fat",
    "attributes",
    "roles",
    "\\u0073ub",
];
const CLAIM_VALUES: &[&str] = &[
    "\"https://login.example\"",
    "\"https://login.example/\"",
    "\"https://api.example\"",
    "[\"https://api.example\"]",
    "\"u_a\"",
    "\"app\"",
    "\"t_1\"",
    "\"s_1\"",
    "\"user\"",
    "\"service\"",
    "\"a b\"",
    "1800000000",
    "1800000300",
    "1800000010",
    "1800000011",
    "1800000000.0",
    "9223372036854775807",
    "9223372036854775808",
    "-1",
    "1e99",
    "\"1800000300\"",
    "null",
    "true",
    "{}",
    "[]",
    "7",
    "{\"pwd\":1}",
];
/// All that an access token needs, so that a changed member is often the only wrong one.
const GOOD: &str = "\"iss\":\"https://login.example\",\"sub\":\"u_a\",\"aud\":\"https://api.example\",\
    \"exp\":1800000300,\"iat\":1800000000,\"jti\":\"t_1\",\"client_id\":\"app\",\"scope\":\"a\",\
    \"kind\":\"user\",\"rev\":7";

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(Algorithm::EdDsa).expect("the provider makes keys"));
static KEYS: LazyLock<JwkSet> = LazyLock::new(|| JwkSet::new(vec![KEY.public()]));
static DESK: LazyLock<ProofDesk> = LazyLock::new(|| ProofDesk::new(&SeededEntropy::new(1)));
static OTHER: LazyLock<ForeignIssuer> = LazyLock::new(|| ForeignIssuer {
    name: "other".into(),
    issuer: ISSUER.into(),
    source: KeySource::Discovery,
    audience: vec![API.into()],
    algorithms: vec![],
    map: ClaimMap::default(),
    until: None,
});

/// Tokens that nobody signed: what is taken apart is canonical, and nothing verifies.
pub fn token(data: &[u8]) {
    taken_apart(&String::from_utf8_lossy(data));
    let mut source = Source::new(data);
    let header = source.object(HEADER_NAMES, HEADER_VALUES);
    let header = header.replace("\"k\"", &format!("\"{}\"", KEY.kid()));
    let payload = source.object(CLAIM_NAMES, CLAIM_VALUES);
    let signature = source.bytes(64);
    let parts = [header.as_bytes(), payload.as_bytes(), signature].map(base64url::encode);
    let mut text = parts.join(source.pick(&[".", ".", ".", "..", ".e30."]));
    text.push_str(source.pick(&["", "", "", "=", "\n", ".", " "]));
    taken_apart(&text);
}

fn taken_apart(text: &str) {
    let now = Timestamp::from_unix(NOW);
    let believed = verify::access_token(text, &KEYS, ISSUER, None, now).is_ok()
        || verify::client_assertion(text, &KEYS, "app", ISSUER, now).is_ok()
        || verify::request_object(text, &KEYS, "app", ISSUER, now).is_ok()
        || verify::id_token_hint(text, &KEYS, ISSUER).is_ok()
        || verify::foreign_token(text, &KEYS, &OTHER, now).is_ok()
        || verify::federated_assertion(text, &KEYS, &OTHER, API, now).is_ok()
        || DESK.judge(text, &Expected { method: "GET", url: API, token: None }, now).is_ok();
    assert!(!believed, "nobody signed `{text}`");
    let Ok(parsed) = jws::parse(text) else { return };
    assert!(text.len() <= MAX_TOKEN);
    assert!(parsed.kid.is_none_or(|kid| (1..=MAX_KID).contains(&kid.len())));
    // Accepted implies canonical: there is no second spelling of the same token.
    let (signed, signature) = text.rsplit_once('.').expect("it was taken apart");
    let (_, payload) = signed.split_once('.').expect("it was taken apart");
    assert_eq!(signed.as_bytes(), parsed.signed);
    assert_eq!(base64url::encode(&parsed.signature), signature);
    assert_eq!(base64url::encode(&parsed.payload), payload);
    assert!(jws::strict_object(&parsed.payload).is_ok());
}

/// Really signed claims, arbitrary ones: what verifies says what it must.
pub fn signed_claims(data: &[u8]) {
    let mut source = Source::new(data);
    let typ =
        source.pick(&["at+jwt", "at+jwt", "at+jwt", "JWT", "application/at+jwt", "pc-id+jwt"]);
    let mut payload = source.object(CLAIM_NAMES, CLAIM_VALUES);
    if source.byte() < 128 {
        let dropped = source.pick(&GOOD.split(',').collect::<Vec<_>>());
        let rest = GOOD.split(',').filter(|member| *member != dropped).collect::<Vec<_>>();
        payload = payload.replacen('{', &format!("{{{},", rest.join(",")), 1).replace(",}", "}");
    }
    let doubled = jws::strict_object(payload.as_bytes()).is_err();
    let Ok(raw) = RawValue::from_string(payload) else { return };
    let token = KEY.sign(typ, &raw);
    let now = Timestamp::from_unix(NOW);
    let Ok(verified) = verify::access_token(&token, &KEYS, ISSUER, Some(API), now) else { return };
    assert!(!doubled && typ.ends_with("at+jwt"));
    let claims = verified.claims();
    assert_eq!((claims.iss.as_str(), claims.aud.as_str()), (ISSUER, API));
    assert!(claims.exp > NOW && claims.exp <= NOW + verify::LEEWAY_S + verify::MAX_ACCESS_LIFE_S);
    assert!(claims.iat <= NOW + verify::LEEWAY_S);
    assert_eq!(verified.kid(), Some(KEY.kid()));
}

/// Key sets: what is read is bounded, public and reads back the same.
pub fn jwk_set(data: &[u8]) {
    read_set(data);
    let mut source = Source::new(data);
    let (ed, x) = (
        base64url::encode(source.bytes(32)),
        KEY.public().to_json().get("x").map(ToString::to_string).unwrap_or_default(),
    );
    let own = format!("\"{ed}\"");
    let values = [
        "\"OKP\"",
        "\"EC\"",
        "\"RSA\"",
        "\"oct\"",
        "\"Ed25519\"",
        "\"P-256\"",
        "\"sig\"",
        "\"enc\"",
        "[\"verify\"]",
        "\"EdDSA\"",
        "\"ES256\"",
        "\"RS256\"",
        "\"AQAB\"",
        "null",
        "7",
        &own,
        &x,
    ];
    let names = ["kty", "crv", "x", "y", "n", "e", "use", "key_ops", "alg", "kid", "d", "k"];
    let mut keys = vec![format!("{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":{own}}}")];
    for _ in 0..source.byte() % 80 {
        keys.push(source.object(&names, &values));
    }
    read_set(format!("{{\"keys\":[{}]}}", keys.join(",")).as_bytes());
}

fn read_set(text: &[u8]) {
    let Ok(set) = JwkSet::from_json(text) else { return };
    assert!(text.len() <= MAX_SET_BYTES && set.iter().count() <= MAX_KEYS);
    for key in set.iter() {
        let published = key.to_json();
        let back = Jwk::from_json(&published).expect("what is published reads back");
        assert_eq!(back.thumbprint(), key.thumbprint());
        assert_eq!((back.kid(), back.algorithm()), (key.kid(), key.algorithm()));
        assert!(["d", "k", "p", "q"].iter().all(|name| published.get(name).is_none()));
        assert!(!key.verify(text, &[0; 64]), "a signature of zeros verifies nothing");
    }
}

/// Private keys in DER and PEM: what is read signs for its own public half. Certificates in DER: what
/// is read is of the size that is taken.
pub fn private_keys(data: &[u8]) {
    let certificate = ClientCertificate::read(data, Chain::Unproven);
    assert!(certificate.is_err() || data.len() <= MAX_CERTIFICATE);
    let text = String::from_utf8_lossy(data);
    let mut source = Source::new(data);
    // Our own PEM with one stretch replaced.
    let mut pem = KEY.to_pem().expose().clone();
    let at = usize::from(source.byte()) % pem.len();
    let end = (at + usize::from(source.byte() % 4)).min(pem.len());
    pem.replace_range(at..end, source.pick(&["", "A", "=", "\n", " ", "-----", "MC4C"]));
    let keys = [
        SigningKey::from_pkcs8(Algorithm::EdDsa, data),
        SigningKey::from_pkcs8(Algorithm::Es256, data),
        SigningKey::from_pem(&text),
        SigningKey::from_pem(&pem),
    ];
    for key in keys.into_iter().flatten() {
        let token = key.sign("x", &7);
        let (signed, signature) = token.rsplit_once('.').expect("a JWS has dots");
        let signature = base64url::decode(signature).expect("we encoded it");
        assert!(key.public().verify(signed.as_bytes(), &signature));
    }
}

/// Sealed values: what is sealed opens, for its purpose alone, and nothing else does.
pub fn sealed(data: &[u8]) {
    let ring = vec![(1, Secret::new([1; 32])), (2, Secret::new([1; 32]))];
    let sealer = Sealer::new(ring, ISSUER);
    assert!(sealer.open(Purpose::Code, &String::from_utf8_lossy(data)).is_err());
    assert!(sealer.open(Purpose::Code, &base64url::encode(data)).is_err());
    let text = String::from_utf8_lossy(data);
    for text in [text.to_string(), format!("rt_{text}"), format!("pk_{text}")] {
        assert!(refresh::read(&sealer, &text).is_none() && api_key::read(&sealer, &text).is_none());
    }
    let mut source = Source::new(data);
    let (seed, at) = (source.byte(), usize::from(source.byte()));
    let to = source.pick(&["A", "B", "-", "_", "=", ".", "a"]);
    let plain = source.bytes(4096);
    let mut text = sealer.seal(Purpose::Code, plain, &SeededEntropy::new(seed.into()));
    let opened = sealer.open(Purpose::Code, &text).expect("what is sealed opens");
    assert_eq!(opened.expose(), plain);
    assert!(sealer.open(Purpose::Login, &text).is_err());
    let at = at % text.len();
    let same = text.get(at..=at) == Some(to);
    text.replace_range(at..=at, to);
    assert_eq!(sealer.open(Purpose::Code, &text).is_ok(), same);
}
