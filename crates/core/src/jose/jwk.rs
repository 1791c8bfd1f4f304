//! Public keys (RFC 7517, RFC 7518 §6, RFC 8037 §2).
//!
//! A key is parsed once, when it is configured or fetched, and kept in the provider's own form.
//! It knows the one algorithm that it verifies; what a token's header says never widens that.
//! Nothing here fetches: `x5u`, `x5c` and their like are not read.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
};
use serde_json::{Map, Value, json};

use super::algorithm::Algorithm;
use super::{base64url, jws};
use crate::hash::sha256;

pub use super::jwk_set::{JwkSet, MAX_KEYS, MAX_SET_BYTES};

/// Smallest RSA modulus (RFC 7518 §3.3: 2048 bits or larger MUST be used).
pub const MIN_RSA_BITS: usize = 2048;
/// Largest RSA modulus: a larger one makes each verification dear for us and buys nobody anything.
pub const MAX_RSA_BITS: usize = 4096;

/// A public signature key with the one algorithm that it may be used for.
#[derive(Clone)]
pub struct Jwk {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    parsed: ParsedPublicKey,
    numbers: Numbers,
}

/// The key's own members (RFC 7638 §3.2), base64url, as published.
#[derive(Clone)]
enum Numbers {
    Ed25519 { x: Box<str> },
    P256 { x: Box<str>, y: Box<str> },
    Rsa { n: Box<str>, e: Box<str> },
}

/// Why a key or a set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JwkMalformed(pub String);

impl Jwk {
    /// Reads one JWK. Refused: private members, `use` other than `sig`, `key_ops` without
    /// `verify`, symmetric keys, unknown curves, RSA under 2048 or over 4096 bits, an `alg` that
    /// does not fit. An RSA key without `alg` is for `PS256`: `RS256` wants to be said.
    ///
    /// # Errors
    /// [`JwkMalformed`], in words for the operator whose file this is.
    pub fn from_json(value: &Value) -> Result<Self, JwkMalformed> {
        let members = value.as_object().ok_or_else(|| malformed("a key must be a JSON object"))?;
        refuse_private(members)?;
        refuse_other_use(members)?;
        let kid = match members.get("kid") {
            None => None,
            Some(Value::String(kid)) if jws::kid_shaped(kid) => Some(kid.as_str().into()),
            Some(_) => {
                return Err(malformed("`kid` must be 1 to 128 characters of printable ASCII"));
            }
        };
        let (numbers, native) = Numbers::read(members)?;
        let algorithm = algorithm_of(members, native)?;
        let parsed = numbers.parse(algorithm)?;
        Ok(Jwk { kid, algorithm, parsed, numbers })
    }

    /// A key from raw public bytes (32 bytes Ed25519, or a 65-byte P-256 point); its `kid` is its
    /// thumbprint.
    ///
    /// # Errors
    /// [`JwkMalformed`] when the bytes are no point of the curve, and for RSA, which has no raw form.
    pub fn from_public(algorithm: Algorithm, public: &[u8]) -> Result<Self, JwkMalformed> {
        let numbers = match algorithm {
            Algorithm::EdDsa => Numbers::Ed25519 { x: base64url::encode(public).into() },
            Algorithm::Es256 => {
                // SEC 1 §2.3.3: 04 ‖ x ‖ y, the uncompressed point.
                let point = public.strip_prefix(&[4]).and_then(|point| point.split_at_checked(32));
                let (x, y) = point.ok_or_else(|| malformed("not an uncompressed P-256 point"))?;
                Numbers::P256 { x: base64url::encode(x).into(), y: base64url::encode(y).into() }
            }
            Algorithm::Ps256 | Algorithm::Rs256 => {
                return Err(malformed("an RSA key has no raw form; give it as a JWK"));
            }
        };
        let parsed = numbers.parse(algorithm)?;
        let kid = Some(numbers.thumbprint().into());
        Ok(Jwk { kid, algorithm, parsed, numbers })
    }

    /// The key's id, if it has one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithm this key verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// RFC 7638 SHA-256 thumbprint, base64url.
    pub fn thumbprint(&self) -> String {
        self.numbers.thumbprint()
    }

    /// The public JWK, with `kid`, `use`, `alg`.
    pub fn to_json(&self) -> Value {
        let mut jwk = match &self.numbers {
            Numbers::Ed25519 { x } => json!({ "kty": "OKP", "crv": "Ed25519", "x": x }),
            Numbers::P256 { x, y } => json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y }),
            Numbers::Rsa { n, e } => json!({ "kty": "RSA", "n": n, "e": e }),
        };
        if let Some(members) = jwk.as_object_mut() {
            if let Some(kid) = &self.kid {
                members.insert("kid".into(), Value::from(&**kid));
            }
            members.insert("use".into(), "sig".into());
            members.insert("alg".into(), self.algorithm.name().into());
        }
        jwk
    }

    /// Checks a signature. ES256 signatures are the 64-byte r‖s of RFC 7518 §3.4.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        // RFC 7518 §3.4, RFC 8032 §5.1.6: both are exactly 64 bytes; the provider refuses r or s
        // of zero (RFC 8725 §3.4's "psychic signature").
        let sized = match self.algorithm {
            Algorithm::EdDsa | Algorithm::Es256 => signature.len() == 64,
            Algorithm::Ps256 | Algorithm::Rs256 => true,
        };
        sized && self.parsed.verify_sig(message, signature).is_ok()
    }

    /// Whether a set of both could not tell them apart.
    pub(super) fn answers_as(&self, other: &Jwk) -> bool {
        self.kid.is_some() && self.kid == other.kid && self.algorithm == other.algorithm
    }
}

impl Numbers {
    /// Reads the members of the key's kind; also the algorithm that an absent `alg` means.
    fn read(members: &Map<String, Value>) -> Result<(Self, Algorithm), JwkMalformed> {
        let kind = text(members, "kty")?;
        let curve = || text(members, "crv");
        match kind {
            // RFC 8037 §2
            "OKP" if curve()? == "Ed25519" => {
                let x = sized(members, "x", 32)?;
                Ok((Numbers::Ed25519 { x }, Algorithm::EdDsa))
            }
            // RFC 7518 §6.2.1.2: the coordinate has the full size of the curve.
            "EC" if curve()? == "P-256" => {
                let (x, y) = (sized(members, "x", 32)?, sized(members, "y", 32)?);
                Ok((Numbers::P256 { x, y }, Algorithm::Es256))
            }
            "OKP" | "EC" => {
                let curve = shown(curve()?);
                Err(JwkMalformed(format!("curve `{curve}` is unknown; use `Ed25519` or `P-256`")))
            }
            "RSA" => {
                refuse_weak_rsa(members)?;
                let (n, e) = (text(members, "n")?.into(), text(members, "e")?.into());
                Ok((Numbers::Rsa { n, e }, Algorithm::Ps256))
            }
            other => {
                let kind = shown(other);
                Err(JwkMalformed(format!("`kty` is `{kind}`; use `OKP`, `EC` or `RSA`")))
            }
        }
    }

    /// The provider's form; this is also where a point off its curve is refused.
    fn parse(&self, algorithm: Algorithm) -> Result<ParsedPublicKey, JwkMalformed> {
        let rejected = |_| malformed("the key's numbers are not a public key of its kind");
        match self {
            Numbers::Ed25519 { x } => {
                let x = bytes(x)?;
                if x.len() != 32 || small_order(&x) {
                    return Err(malformed("`x` is not a point of Ed25519 that is fit for use"));
                }
                ParsedPublicKey::new(&ED25519, x).map_err(rejected)
            }
            Numbers::P256 { x, y } => {
                let point = [&[4][..], &bytes(x)?, &bytes(y)?].concat();
                if point.len() != 65 {
                    return Err(malformed("not an uncompressed P-256 point"));
                }
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(rejected)
            }
            Numbers::Rsa { n, e } => {
                let parameters = match algorithm {
                    Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
                    Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                    Algorithm::EdDsa | Algorithm::Es256 => {
                        return Err(malformed("`alg` does not fit the key"));
                    }
                };
                let components = RsaPublicKeyComponents { n: bytes(n)?, e: bytes(e)? };
                components.to_parsed_public_key(parameters).map_err(rejected)
            }
        }
    }

    /// RFC 7638 §3: the required members alone, in lexicographic order, without white space. The
    /// values are base64url, which needs no escaping.
    fn thumbprint(&self) -> String {
        let canonical = match self {
            Numbers::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
            Numbers::P256 { x, y } => {
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Numbers::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
        };
        base64url::encode(&sha256(canonical.as_bytes()))
    }
}

/// A private key in a public place is burnt: using its public half would hide that.
pub(super) fn refuse_private(members: &Map<String, Value>) -> Result<(), JwkMalformed> {
    // RFC 7518 §6.2.2, §6.3.2, §6.4; RFC 8037 §2; RFC 9964's `priv`
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"] {
        if members.contains_key(name) {
            return Err(JwkMalformed(format!(
                "the key has the private member `{name}`; publish the public key alone, and \
                 replace this one if others could read it"
            )));
        }
    }
    Ok(())
}

fn refuse_other_use(members: &Map<String, Value>) -> Result<(), JwkMalformed> {
    // RFC 7517 §4.2: a key for encryption verifies nothing.
    if members.get("use").is_some_and(|usage| usage != "sig") {
        return Err(malformed("`use` must be `sig`"));
    }
    // RFC 7517 §4.3
    match members.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|name| name == "verify") => Ok(()),
        Some(_) => Err(malformed("`key_ops` must contain `verify`")),
    }
}

/// The `alg` written must be one of the key's kind; absent, it is the kind's own.
fn algorithm_of(members: &Map<String, Value>, own: Algorithm) -> Result<Algorithm, JwkMalformed> {
    let Some(written) = members.get("alg") else { return Ok(own) };
    let written = written.as_str().and_then(Algorithm::from_name);
    match (written, own) {
        (Some(Algorithm::Rs256), Algorithm::Ps256) => Ok(Algorithm::Rs256),
        (Some(written), own) if written == own => Ok(own),
        _ => {
            let own = own.name();
            Err(JwkMalformed(format!("`alg` does not fit the key; write `{own}`")))
        }
    }
}

fn refuse_weak_rsa(members: &Map<String, Value>) -> Result<(), JwkMalformed> {
    let (n, e) = (bytes(text(members, "n")?)?, bytes(text(members, "e")?)?);
    // RFC 7518 §6.3.1: Base64urlUInt has no leading zero octet; a second spelling of a key would
    // have a second thumbprint.
    let (Some(top @ 1..), Some(1..)) = (n.first(), e.first()) else {
        return Err(malformed("`n` and `e` must be numbers without leading zeros"));
    };
    let bits = n.len().saturating_mul(8).saturating_sub(top.leading_zeros() as usize);
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(JwkMalformed(format!(
            "the RSA key has {bits} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted"
        )));
    }
    // RFC 8017 §3.1: e is odd, from 3; 32 bits are more than any key in use has.
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !odd(&n) || !odd(&e) || e == [1] || e.len() > 4 {
        return Err(malformed("`n` or `e` is not that of an RSA key"));
    }
    Ok(())
}

/// The points whose order divides 8, y first, sign bit masked: a signature under them proves
/// nothing, since anyone can make one (RFC 8032 leaves the check to the application).
fn small_order(x: &[u8]) -> bool {
    const HIGH: [u8; 30] = [0xff; 30];
    const EIGHTH: [&str; 2] = [
        "JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU",
        "xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o",
    ];
    let Some((sign, rest)) = x.split_last() else { return true };
    let top = sign & 0x7f;
    let (low, tail) = (rest.first().copied().unwrap_or(0), rest.get(1..).unwrap_or_default());
    let zero_or_one = low <= 1 && top == 0 && tail.iter().all(|byte| *byte == 0);
    let near_p = matches!(low, 0xec..=0xee) && top == 0x7f && tail == HIGH;
    let mut masked = x.to_vec();
    masked.pop();
    masked.push(top);
    zero_or_one || near_p || EIGHTH.contains(&base64url::encode(&masked).as_str())
}

fn text<'m>(members: &'m Map<String, Value>, name: &str) -> Result<&'m str, JwkMalformed> {
    let value = members.get(name).and_then(Value::as_str);
    value.ok_or_else(|| JwkMalformed(format!("`{name}` is missing, or not a string")))
}

fn sized(members: &Map<String, Value>, name: &str, size: usize) -> Result<Box<str>, JwkMalformed> {
    let text = text(members, name)?;
    match bytes(text)?.len() == size {
        true => Ok(text.into()),
        false => Err(JwkMalformed(format!("`{name}` must have {size} bytes"))),
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, JwkMalformed> {
    base64url::decode(text).map_err(|error| JwkMalformed(error.to_string()))
}

/// A stranger's word, short and plain enough for a message.
fn shown(word: &str) -> String {
    word.chars().filter(char::is_ascii_graphic).take(32).collect()
}

pub(super) fn malformed(why: &str) -> JwkMalformed {
    JwkMalformed(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR\
        1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQ\
        R0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4v\
        MQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

    fn ed() -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "x": ED })
    }
    fn ec() -> Value {
        json!({ "kty": "EC", "crv": "P-256", "x": X, "y": Y })
    }
    fn rsa() -> Value {
        json!({ "kty": "RSA", "n": N, "e": "AQAB" })
    }
    fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
        jwk[name] = value.into();
        jwk
    }
    fn read(jwk: &Value) -> Jwk {
        Jwk::from_json(jwk).expect("a key")
    }

    #[test]
    fn the_thumbprints_of_the_rfcs() {
        // RFC 7638 §3.1, with the members that the thumbprint leaves out.
        let jwk = with(with(rsa(), "alg", "RS256"), "kid", "2011-04-29");
        assert_eq!(read(&jwk).thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        // RFC 8037 appendix A.3
        assert_eq!(read(&ed()).thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn the_signatures_of_the_rfcs() {
        // RFC 8037 appendix A.4 and A.5
        let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        checks(&ed(), signed, signature);
        // RFC 7515 appendix A.3
        let signed = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        checks(&ec(), signed, signature);
    }

    fn checks(jwk: &Value, signed: &str, signature: &str) {
        let (key, signature) = (read(jwk), bytes(signature).expect("base64url"));
        assert!(key.verify(signed.as_bytes(), &signature));
        assert!(!key.verify(signed.trim_end_matches('c').as_bytes(), &signature[..63]));
        for at in 0..64 {
            let mut flipped = signature.clone();
            flipped[at] ^= 1;
            assert!(!key.verify(signed.as_bytes(), &flipped), "byte {at}");
        }
        assert!(!key.verify(&signed.as_bytes()[1..], &signature));
    }

    #[test]
    fn the_key_knows_its_algorithm() {
        let table = [
            (ed(), Algorithm::EdDsa),
            (with(ed(), "alg", "EdDSA"), Algorithm::EdDsa),
            (with(ed(), "alg", "Ed25519"), Algorithm::EdDsa),
            (ec(), Algorithm::Es256),
            (with(ec(), "alg", "ES256"), Algorithm::Es256),
            (rsa(), Algorithm::Ps256),
            (with(rsa(), "alg", "PS256"), Algorithm::Ps256),
            (with(rsa(), "alg", "RS256"), Algorithm::Rs256),
        ];
        for (jwk, algorithm) in table {
            assert_eq!(read(&jwk).algorithm(), algorithm, "{jwk}");
        }
    }

    #[test]
    fn what_is_published_reads_back() {
        for jwk in [with(ed(), "kid", "a"), ec(), with(rsa(), "alg", "RS256")] {
            let key =
                read(&with(with(jwk, "x5u", "https://evil.example"), "key_ops", json!(["verify"])));
            let published = key.to_json();
            assert_eq!(published["use"], "sig");
            assert_eq!(published.get("x5u"), None);
            let back = read(&published);
            assert_eq!((back.kid(), back.algorithm()), (key.kid(), key.algorithm()));
            assert_eq!(back.thumbprint(), key.thumbprint());
        }
    }

    #[test]
    fn each_rule_refuses_a_key() {
        let other_n = |bits: usize| {
            let mut n = vec![0xff; bits.div_ceil(8)];
            n[0] >>= (8 - bits % 8) % 8;
            with(rsa(), "n", base64url::encode(&n))
        };
        let off_curve = with(ec(), "y", X);
        let even = with(rsa(), "n", format!("{}w", &N[..N.len() - 2]) + "A");
        let table = [
            (json!([]), "object"),
            (json!({}), "`kty`"),
            (json!({ "kty": "oct" }), "`oct`"),
            (json!({ "kty": "oct", "k": "AAAA" }), "private member `k`"),
            (with(ed(), "d", ED), "private member `d`"),
            (with(rsa(), "d", "AQAB"), "private member `d`"),
            (with(rsa(), "oth", json!([])), "private member `oth`"),
            (with(ed(), "use", "enc"), "`use`"),
            (with(ed(), "use", json!(["sig"])), "`use`"),
            (with(ed(), "use", Value::Null), "`use`"),
            (with(ed(), "key_ops", json!(["sign"])), "`key_ops`"),
            (with(ed(), "key_ops", json!([])), "`key_ops`"),
            (with(ed(), "key_ops", "verify"), "`key_ops`"),
            (with(ed(), "kid", 7), "`kid`"),
            (with(ed(), "kid", ""), "`kid`"),
            (with(ed(), "kid", "a\nb"), "`kid`"),
            (with(ed(), "kid", "k".repeat(129)), "`kid`"),
            (with(ed(), "alg", "ES256"), "`alg`"),
            (with(ed(), "alg", "none"), "`alg`"),
            (with(ed(), "alg", Value::Null), "`alg`"),
            (with(ec(), "alg", "EdDSA"), "`alg`"),
            (with(rsa(), "alg", "HS256"), "`alg`"),
            (with(ed(), "crv", "X25519"), "`X25519`"),
            (with(ed(), "crv", "Ed448"), "`Ed448`"),
            (with(ec(), "crv", "P-384"), "`P-384`"),
            (with(ec(), "crv", "secp256k1"), "`secp256k1`"),
            (with(ed(), "x", 7), "`x`"),
            (with(ed(), "x", "AAAA"), "32 bytes"),
            (with(ed(), "x", format!("{ED}=")), "base64url"),
            (with(ec(), "y", "AAAA"), "32 bytes"),
            (off_curve, "numbers"),
            (other_n(2047), "2047 bits"),
            (other_n(4097), "4097 bits"),
            (with(rsa(), "n", format!("AAAA{N}")), "leading zeros"),
            (with(rsa(), "n", ""), "leading zeros"),
            (even, "RSA key"),
            (with(rsa(), "e", "AQ"), "RSA key"),
            (with(rsa(), "e", "Ag"), "RSA key"),
            (with(rsa(), "e", "AQAAAAE"), "RSA key"),
        ];
        for (jwk, expected) in table {
            let JwkMalformed(why) = Jwk::from_json(&jwk).err().expect("refused");
            assert!(why.contains(expected), "{jwk}: {why}");
        }
        assert!(Jwk::from_json(&other_n(2048)).is_ok() && Jwk::from_json(&other_n(4096)).is_ok());
    }

    #[test]
    fn points_of_small_order_are_refused() {
        let p_minus_1 = [&[0xec][..], &[0xff; 30], &[0x7f]].concat();
        let mut points = vec![vec![0; 32], [&[1][..], &[0; 31]].concat(), p_minus_1.clone()];
        for low in [0xed, 0xee] {
            points.push([&[low][..], &p_minus_1[1..]].concat());
        }
        for eighth in [
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        ] {
            let byte =
                |at: usize| u8::from_str_radix(&eighth[at * 2..at * 2 + 2], 16).expect("hex");
            points.push((0..32).map(byte).collect());
        }
        for mut point in points {
            for sign in [0, 0x80] {
                point[31] = point[31] & 0x7f | sign;
                assert!(Jwk::from_public(Algorithm::EdDsa, &point).is_err(), "{point:x?}");
            }
        }
    }

    #[test]
    fn raw_public_bytes_of_another_shape_are_refused() {
        let point = [&[4][..], &bytes(X).expect("x"), &bytes(Y).expect("y")].concat();
        let key = Jwk::from_public(Algorithm::Es256, &point).expect("a key");
        assert_eq!(key.kid(), Some(key.thumbprint().as_str()));
        let compressed = [&[3][..], &point[1..33]].concat();
        for bad in [&[][..], &point[1..], &point[..64], &compressed, &[4; 65], &[0; 65]] {
            assert!(Jwk::from_public(Algorithm::Es256, bad).is_err(), "{bad:x?}");
            assert!(Jwk::from_public(Algorithm::EdDsa, bad).is_err(), "{bad:x?}");
        }
        assert!(Jwk::from_public(Algorithm::Rs256, &point).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in ".{0,60}") {
            let _ = Jwk::from_public(Algorithm::EdDsa, &bytes);
            let _ = Jwk::from_public(Algorithm::Es256, &bytes);
            for jwk in [with(ed(), "x", text.clone()), with(rsa(), "n", text.clone()), with(ec(), "crv", text)] {
                let _ = Jwk::from_json(&jwk);
            }
        }
    }
}
