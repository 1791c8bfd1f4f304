//! Forgeries for the tests of this folder: tokens that are really signed, and wrong in one thing.

use serde_json::json;

use super::algorithm::Algorithm;
use super::base64url::encode;
use super::jwk::JwkSet;
use super::sign::SigningKey;

/// The claims of a good token with some members changed (raw JSON) or, at `None`, left out.
pub(super) fn payload(good: &[(&str, String)], changed: &[(&str, Option<&str>)]) -> String {
    let mut members: Vec<_> = good.iter().map(|(n, v)| (*n, Some(v.as_str()))).collect();
    for change in changed {
        members.retain(|(name, _)| *name != change.0);
        members.push(*change);
    }
    let written = members.iter().filter_map(|(n, v)| v.map(|v| format!("\"{n}\":{v}")));
    format!("{{{}}}", written.collect::<Vec<_>>().join(","))
}
/// Signs any header and payload, as no honest caller would.
pub(super) fn forge(key: &SigningKey, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
    let signature = encode(key.signature(signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}
pub(super) fn header(key: &SigningKey, typ: &str) -> String {
    let (alg, kid) = (key.algorithm().name(), key.kid());
    format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"{typ}"}}"#)
}
pub(super) fn key(algorithm: Algorithm) -> SigningKey {
    SigningKey::generate(algorithm).expect("a key")
}
pub(super) fn set(keys: &[&SigningKey]) -> JwkSet {
    JwkSet::new(keys.iter().map(|key| key.public()).collect())
}

/// An RSA key, which the product verifies with and never mints with.
pub(super) struct Rsa(aws_lc_rs::rsa::KeyPair);

impl Rsa {
    pub(super) fn new() -> Self {
        Rsa(aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key"))
    }
    pub(super) fn public_der(&self) -> &[u8] {
        aws_lc_rs::signature::KeyPair::public_key(&self.0).as_ref()
    }
    pub(super) fn n(&self) -> Vec<u8> {
        // RFC 8017 A.1.1: SEQUENCE { INTEGER n, INTEGER e }, four bytes of head, five of n's.
        self.public_der()[9..265].to_vec()
    }
    pub(super) fn jwk(&self, alg: &str) -> serde_json::Value {
        json!({ "kty": "RSA", "n": encode(&self.n()), "e": "AQAB", "alg": alg, "kid": "r" })
    }
    pub(super) fn token(&self, alg: &str, payload: &str) -> String {
        self.forge(alg, &format!(r#"{{"alg":"{alg}","kid":"r","typ":"at+jwt"}}"#), payload)
    }
    /// Any header, signed with the padding of `alg`.
    pub(super) fn forge(&self, alg: &str, header: &str, payload: &str) -> String {
        use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding};
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
        let padding: &'static dyn RsaEncoding =
            if alg == "RS256" { &RSA_PKCS1_SHA256 } else { &RSA_PSS_SHA256 };
        let mut signature = vec![0; self.0.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        self.0.sign(padding, &random, signed.as_bytes(), &mut signature).expect("signed");
        format!("{signed}.{}", encode(&signature))
    }
}
