//! Private keys, and the signing of claims. Which claims may be signed is decided elsewhere
//! (`identity::token::issue` is the only mint of access tokens).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, Signature,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::algorithm::Algorithm;
use super::base64url;
use super::jwk::Jwk;
use crate::secret::Secret;

/// Longest PEM text that is read, in bytes: a key of ours has 250.
pub const MAX_PEM: usize = 8 * 1024;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A private signing key: EdDSA or ES256.
pub struct SigningKey {
    public: Jwk,
    kid: Box<str>,
    pair: Pair,
}

enum Pair {
    EdDsa(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
}

/// Why a private key cannot be read or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a PKCS #8 private key of EdDSA or ES256")]
pub struct SigningKeyMalformed;

impl SigningKey {
    /// A new key of the algorithm (`EdDsa` or `Es256`); `kid` is its RFC 7638 thumbprint.
    ///
    /// # Errors
    /// [`SigningKeyMalformed`] for RSA, which we never mint with (`8-performance`: 220 µs each).
    pub fn generate(algorithm: Algorithm) -> Result<Self, SigningKeyMalformed> {
        let pair = match algorithm {
            Algorithm::EdDsa => Ed25519KeyPair::generate().map(Pair::EdDsa),
            Algorithm::Es256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::Es256)
            }
            Algorithm::Ps256 | Algorithm::Rs256 => return Err(SigningKeyMalformed),
        };
        Self::of(pair.map_err(|_| SigningKeyMalformed)?)
    }

    /// Reads PKCS #8 DER.
    ///
    /// # Errors
    /// [`SigningKeyMalformed`] when the bytes are not a private key of that algorithm.
    pub fn from_pkcs8(algorithm: Algorithm, der: &[u8]) -> Result<Self, SigningKeyMalformed> {
        let pair = match algorithm {
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(der).map(Pair::EdDsa),
            Algorithm::Es256 => {
                let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
                EcdsaKeyPair::from_pkcs8(signing, der).map(Pair::Es256)
            }
            Algorithm::Ps256 | Algorithm::Rs256 => return Err(SigningKeyMalformed),
        };
        Self::of(pair.map_err(|_| SigningKeyMalformed)?)
    }

    /// Reads a PEM file as `client add --new-key` wrote it (`PRIVATE KEY`), finding the algorithm.
    ///
    /// # Errors
    /// [`SigningKeyMalformed`] unless there is exactly one such block (RFC 7468 §10) of such a key.
    pub fn from_pem(pem: &str) -> Result<Self, SigningKeyMalformed> {
        let (_, rest) = pem.split_once(BEGIN).ok_or(SigningKeyMalformed)?;
        let (body, after) = rest.split_once(END).ok_or(SigningKeyMalformed)?;
        if pem.len() > MAX_PEM || after.contains(BEGIN) {
            return Err(SigningKeyMalformed);
        }
        // RFC 7468 §2: parsers ignore white space between the lines.
        let body = Secret::new(body.split_ascii_whitespace().collect::<String>());
        let der = STANDARD.decode(body.expose()).map_err(|_| SigningKeyMalformed)?;
        let der = Secret::new(der);
        Self::from_pkcs8(Algorithm::EdDsa, der.expose())
            .or_else(|_| Self::from_pkcs8(Algorithm::Es256, der.expose()))
    }

    /// PKCS #8 DER (version 1, which OpenSSL reads too), for sealing or for a 0600 file.
    pub fn to_pkcs8(&self) -> Secret<Vec<u8>> {
        let document = match &self.pair {
            Pair::EdDsa(pair) => pair.to_pkcs8v1(),
            Pair::Es256(pair) => pair.to_pkcs8v1(),
        };
        let document = document.expect("a pair that was made or read is complete");
        Secret::new(document.as_ref().to_vec())
    }

    /// PKCS #8 PEM.
    pub fn to_pem(&self) -> Secret<String> {
        let body = Secret::new(STANDARD.encode(self.to_pkcs8().expose()));
        let mut pem = String::with_capacity(body.expose().len() + 80);
        pem.push_str(BEGIN);
        for (position, letter) in body.expose().chars().enumerate() {
            // RFC 7468 §2: lines of 64 characters.
            if position % 64 == 0 {
                pem.push('\n');
            }
            pem.push(letter);
        }
        pem.push('\n');
        pem.push_str(END);
        pem.push('\n');
        Secret::new(pem)
    }

    /// The key's id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// The public half.
    pub fn public(&self) -> Jwk {
        self.public.clone()
    }

    /// A compact JWS (RFC 7515 §7.1) of the claims with `typ`, `alg`, `kid` in the header.
    pub fn sign<C: Serialize>(&self, typ: &str, claims: &C) -> String {
        #[derive(Serialize)]
        struct Header<'a> {
            alg: &'a str,
            kid: &'a str,
            typ: &'a str,
        }
        self.sign_under(&Header { alg: self.algorithm().name(), kid: &self.kid, typ }, claims)
    }

    /// The same under a header of the caller's own: a DPoP proof carries its key there.
    pub(super) fn sign_under<H: Serialize, C: Serialize>(&self, header: &H, claims: &C) -> String {
        let header = serde_json::to_vec(header).expect("text and a key are always JSON");
        // INVARIANT: claims are our own structs with text for names, which JSON can always carry.
        let claims = serde_json::to_vec(claims).expect("a claim set's names are text");
        let mut token = base64url::encode(&header);
        token.push('.');
        token.push_str(&base64url::encode(&claims));
        let signature = self.signature(token.as_bytes());
        token.push('.');
        token.push_str(&base64url::encode(signature.as_ref()));
        token
    }

    /// The bare signature; `pub(super)` so that the tests beside can sign what no honest key would.
    pub(super) fn signature(&self, message: &[u8]) -> Signature {
        match &self.pair {
            Pair::EdDsa(pair) => pair.sign(message),
            Pair::Es256(pair) => {
                let signed = pair.sign(&SystemRandom::new(), message);
                signed.expect("a complete key pair signs; only memory could be missing")
            }
        }
    }

    fn of(pair: Pair) -> Result<Self, SigningKeyMalformed> {
        let public = match &pair {
            Pair::EdDsa(pair) => Jwk::from_public(Algorithm::EdDsa, pair.public_key().as_ref()),
            Pair::Es256(pair) => Jwk::from_public(Algorithm::Es256, pair.public_key().as_ref()),
        };
        let public = public.map_err(|_| SigningKeyMalformed)?;
        let kid = public.thumbprint().into();
        Ok(SigningKey { public, kid, pair })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::jws;
    use serde_json::json;

    const BOTH: [Algorithm; 2] = [Algorithm::EdDsa, Algorithm::Es256];

    #[test]
    fn what_is_signed_verifies_with_the_public_half_alone() {
        for algorithm in BOTH {
            let (key, other) = (made(algorithm), made(algorithm));
            let token = key.sign("x+jwt", &json!({ "sub": "a" }));
            let parsed = jws::parse(&token).expect("parsed");
            assert_eq!(parsed.algorithm, algorithm);
            assert_eq!(parsed.kid.as_deref(), Some(key.kid()));
            assert_eq!(parsed.typ.as_deref(), Some("x+jwt"));
            assert_eq!(parsed.payload, br#"{"sub":"a"}"#);
            assert_eq!(parsed.signature.len(), 64);
            assert!(key.public().verify(parsed.signed, &parsed.signature));
            assert!(!other.public().verify(parsed.signed, &parsed.signature));
        }
    }

    #[test]
    fn a_key_comes_back_from_der_and_pem() {
        for algorithm in BOTH {
            let key = made(algorithm);
            let der = SigningKey::from_pkcs8(algorithm, key.to_pkcs8().expose()).expect("DER");
            let pem = key.to_pem();
            assert!(pem.expose().lines().all(|line| line.len() <= 64));
            let pem = SigningKey::from_pem(pem.expose()).expect("PEM");
            for back in [der, pem] {
                assert_eq!((back.kid(), back.algorithm()), (key.kid(), algorithm));
                assert_eq!(back.kid(), key.public().thumbprint());
            }
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let (ed, es) = (made(Algorithm::EdDsa), made(Algorithm::Es256));
        assert!(SigningKey::from_pkcs8(Algorithm::Es256, ed.to_pkcs8().expose()).is_err());
        assert!(SigningKey::from_pkcs8(Algorithm::EdDsa, es.to_pkcs8().expose()).is_err());
        assert!(SigningKey::from_pkcs8(Algorithm::EdDsa, b"").is_err());
        for rsa in [Algorithm::Ps256, Algorithm::Rs256] {
            assert!(SigningKey::generate(rsa).is_err());
            assert!(SigningKey::from_pkcs8(rsa, ed.to_pkcs8().expose()).is_err());
        }
    }

    #[test]
    fn a_damaged_pem_is_refused() {
        let pem = made(Algorithm::Es256).to_pem();
        let pem = pem.expose();
        let (twice, commented) = (pem.repeat(2), format!("a comment\n{pem}\n"));
        let long = format!("{pem}{}", " ".repeat(MAX_PEM));
        let windows = pem.replace('\n', "\r\n");
        assert!(SigningKey::from_pem(&commented).is_ok(), "RFC 7468 §2: text may stand around");
        assert!(SigningKey::from_pem(&windows).is_ok());
        for bad in [
            "",
            BEGIN,
            &pem[..pem.len() - 30],
            &pem.replace("PRIVATE", "EC PRIVATE"),
            &pem.replace("PRIVATE", "PUBLIC"),
            &pem.replacen("MIG", "MIH", 1),
            &twice,
            &long,
        ] {
            assert!(SigningKey::from_pem(bad).is_err(), "{bad}");
        }
    }

    /// RFC 8037 appendix A.4; Ed25519 signs the same way each time.
    #[test]
    fn the_vector_of_rfc_8037_appendix_a() {
        let seed = base64url::decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").expect("d");
        // RFC 8410 §7: a PKCS #8 wrapping of the seed.
        let head = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
        let der = [&head[..], &seed].concat();
        let key = SigningKey::from_pkcs8(Algorithm::EdDsa, &der).expect("a key");
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let signature = key.signature(b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc");
        assert_eq!(
            base64url::encode(signature.as_ref()),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        );
    }

    fn made(algorithm: Algorithm) -> SigningKey {
        SigningKey::generate(algorithm).expect("a key")
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(der: Vec<u8>, text in ".{0,200}") {
            let _ = SigningKey::from_pkcs8(Algorithm::EdDsa, &der);
            let _ = SigningKey::from_pkcs8(Algorithm::Es256, &der);
            let _ = SigningKey::from_pem(&text);
            let _ = SigningKey::from_pem(&format!("{BEGIN}\n{}\n{END}", STANDARD.encode(&der)));
        }
    }
}
