//! Tokens as an attacker makes them: any header, any claims, any signature. A recipe is data of the
//! attack corpus; what is not said is as in an honest token, so that each attack differs from it by
//! one thing.

use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::base64url;
use portcullis_core::jose::sign::SigningKey;
use rcgen::{KeyPair, SigningKey as _};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::tls13::OkmBlock;
use serde_json::{Value, json};

use super::seed::Person;
use super::server::Server;

/// How a token is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// Members of the header that differ (JSON), or the header's whole text behind `raw `.
    pub(crate) header: Option<String>,
    /// Members of the claims that differ (JSON; null leaves one out), or `raw ` and the text.
    pub(crate) claims: Option<String>,
    /// Who signs.
    pub(crate) sign: Sign,
    /// How the three parts are put together; `h.c.s` unless written.
    pub(crate) shape: Option<String>,
}

/// Who signs a forged token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The installation's access key: only header and claims lie.
    #[default]
    Honest,
    /// A key of the attacker's.
    Stranger,
    /// The key of `Portcullis-Identity`.
    Passport,
    /// The key of ID tokens.
    Identity,
    /// HMAC with the access key's public bytes as the secret (CVE-2016-5431).
    PublicKeyAsSecret,
    /// 64 zero bytes (CVE-2022-21449).
    Zero,
    /// An honest signature with one bit changed.
    Flipped,
    /// Nothing behind the last dot.
    Empty,
}

impl Sign {
    /// Reads the word of a recipe.
    pub(crate) fn parse(word: &str) -> Option<Sign> {
        Some(match word {
            "honest" => Sign::Honest,
            "stranger" => Sign::Stranger,
            "passport" => Sign::Passport,
            "identity" => Sign::Identity,
            "public-key-as-secret" => Sign::PublicKeyAsSecret,
            "zero" => Sign::Zero,
            "flipped" => Sign::Flipped,
            "empty" => Sign::Empty,
            _ => return None,
        })
    }
}

/// Makes a token.
pub(crate) fn make(server: &Server, recipe: &Recipe) -> String {
    let kid = server.keys.access.kid();
    let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": kid });
    let header = base64url::encode(merged(header, recipe.header.as_deref()).as_bytes());
    let claims = honest(server, &server.people[0]);
    let claims = base64url::encode(merged(claims, recipe.claims.as_deref()).as_bytes());
    let signature = sign(server, recipe.sign, format!("{header}.{claims}").as_bytes());
    let signature = base64url::encode(&signature);
    let mut token = String::new();
    for piece in recipe.shape.as_deref().unwrap_or("h.c.s").chars() {
        match piece {
            'h' => token.push_str(&header),
            'c' => token.push_str(&claims),
            's' => token.push_str(&signature),
            '_' => token.push(' '),
            other => token.push(other),
        }
    }
    token
}

/// The claims of an honest token of a person.
pub(crate) fn honest(server: &Server, person: &Person) -> Value {
    use portcullis_core::time::Clock;
    let now = super::seed::Wall.now().unix();
    json!({
        "iss": server.issuer(),
        "sub": person.id,
        "aud": server.audience(),
        "iat": now,
        "exp": now + 300,
        "jti": format!("t_forged{now}"),
        "client_id": "app",
        "scope": "payments:read",
        "kind": "user",
        "rev": 1_000_000,
        "auth_time": now,
        "acr": "aal2",
        "amr": ["pwd", "otp"],
        "attributes": { "account": person.account },
    })
}

fn merged(mut honest: Value, changes: Option<&str>) -> String {
    let Some(changes) = changes else { return honest.to_string() };
    if let Some(raw) = changes.strip_prefix("raw ") {
        return raw.to_owned();
    }
    let changes: Value = serde_json::from_str(changes).unwrap_or_else(|e| panic!("{changes}: {e}"));
    let members = honest.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => drop(members.remove(name)),
            value => drop(members.insert(name.clone(), value.clone())),
        }
    }
    honest.to_string()
}

fn sign(server: &Server, sign: Sign, message: &[u8]) -> Vec<u8> {
    let with = |key: &SigningKey| {
        let pair = KeyPair::from_pem(key.to_pem().expose()).expect("a key pair");
        pair.sign(message).expect("signed")
    };
    match sign {
        Sign::Honest => with(&server.keys.access),
        Sign::Stranger => with(&SigningKey::generate(Algorithm::EdDsa).expect("a key")),
        Sign::Passport => with(&server.keys.passport),
        Sign::Identity => with(&server.keys.identity),
        Sign::PublicKeyAsSecret => hmac(&public_bytes(&server.keys.access), message),
        Sign::Zero => vec![0; 64],
        Sign::Flipped => {
            let mut signature = with(&server.keys.access);
            signature[10] ^= 1;
            signature
        }
        Sign::Empty => Vec::new(),
    }
}

fn public_bytes(key: &SigningKey) -> Vec<u8> {
    let jwk = key.public().to_json();
    base64url::decode(jwk["x"].as_str().expect("an OKP key")).expect("base64url")
}

/// HMAC-SHA-256, from the TLS provider: tests have no crypto of their own.
fn hmac(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("a TLS 1.3 suite");
    suite.hkdf_provider.hmac_sign(&OkmBlock::new(secret), message).as_ref().to_vec()
}
