//! What a client proves itself and its requests with: assertions, DPoP proofs, request objects, and
//! the tokens that stories forge. Each is an honest one but for the changes of its step.

use portcullis_core::jose::base64url;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::time::Clock;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};

use super::super::corpus::story::{Change, How, Part, Step};
use super::super::forge;
use super::super::seed::Wall;
use super::super::server::Server;
use super::tale::{Tale, fresh};

/// A request, as far as a proof is about it.
pub(super) struct Proven<'a> {
    pub(super) method: &'a str,
    pub(super) address: &'a str,
    pub(super) token: Option<&'a str>,
}

/// A client's assertion (RFC 7523 §3).
pub(super) fn assertion(server: &Server, step: &Step, client: &str) -> String {
    let now = Wall.now().unix();
    let claims = json!({
        "iss": client, "sub": client, "aud": server.issuer(),
        "iat": now, "exp": now + 60, "jti": fresh(),
    });
    let key = key_of(server, step.switch("key").unwrap_or(client));
    let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": key.kid().to_string() });
    let header = changed(header, step.changes(Part::AssertionHeader));
    jws(&key, &header, &changed(claims, step.changes(Part::Assertion)))
}

/// Another issuer's word for a client.
pub(super) fn federated(server: &Server, step: &Step, subject: &str) -> String {
    let now = Wall.now().unix();
    let claims = json!({
        "iss": server.foreign.issuer("/cluster"), "sub": subject, "aud": server.issuer(),
        "iat": now, "exp": now + 60, "jti": fresh(),
    });
    let key = signer(server, step, &server.foreign.key);
    let header =
        json!({ "alg": "EdDSA", "typ": "JWT", "kid": server.foreign.key.kid().to_string() });
    let header = changed(header, step.changes(Part::AssertionHeader));
    jws(&key, &header, &changed(claims, step.changes(Part::Assertion)))
}

/// A DPoP proof (RFC 9449 §4.2); `whose` as in the switch.
pub(super) fn proof(tale: &mut Tale, step: &Step, about: &Proven<'_>, whose: &str) -> String {
    let address = about.address.split('?').next().unwrap_or_default();
    let mut claims = json!({
        "jti": fresh(), "htm": about.method, "htu": address, "iat": Wall.now().unix(),
    });
    if let Some(token) = about.token {
        claims["ath"] = Challenge::of(token).as_str().into();
    }
    if let Some(nonce) = &tale.nonce {
        claims["nonce"] = nonce.as_str().into();
    }
    let key = tale.proof_key(if whose == "other" { "other" } else { "own" });
    let mut jwk = key.public().to_json();
    if let Some(members) = jwk.as_object_mut() {
        members.retain(|name, _| matches!(name.as_str(), "kty" | "crv" | "x"));
    }
    if whose == "private" {
        jwk["d"] = base64url::encode(&[7; 32]).into();
    }
    let header = json!({ "alg": "EdDSA", "typ": "dpop+jwt", "jwk": jwk });
    let header = changed(header, step.changes(Part::ProofHeader));
    jws(key, &header, &changed(claims, step.changes(Part::Proof)))
}

/// A request object (RFC 9101 §4).
pub(super) fn object(
    server: &Server,
    step: &Step,
    client: &str,
    parameters: &[(String, String)],
) -> String {
    let now = Wall.now().unix();
    let mut claims = json!({
        "iss": client, "aud": server.issuer(), "iat": now, "nbf": now, "exp": now + 60,
        "jti": fresh(),
    });
    for (name, value) in parameters {
        claims[name] = value.as_str().into();
    }
    let key = key_of(server, step.switch("object-key").unwrap_or(client));
    let header =
        json!({ "alg": "EdDSA", "typ": "oauth-authz-req+jwt", "kid": key.kid().to_string() });
    let header = changed(header, step.changes(Part::ObjectHeader));
    jws(&key, &header, &changed(claims, step.changes(Part::Object)))
}

/// A token of somebody, forged: `own` is an access token by our own key, `corporate`, `cluster` and
/// `nowhere` are tokens of the other issuer, `logout` and `id` are tokens of ours of another kind.
pub(super) fn forged(server: &Server, tale: &Tale, step: &Step) -> String {
    let now = Wall.now().unix();
    let who = step.words[0].as_str();
    let person = tale.person(server, "ann");
    let bound = format!("https://bound.test:{}/b", server.ports.api);
    let (key, typ, claims) = match who {
        "own" => (&server.keys.access, "at+jwt", forge::honest(server, person)),
        "id" | "logout" => {
            let claims = json!({
                "iss": server.issuer(), "sub": person.id, "aud": "app", "iat": now,
                "exp": now + 60, "jti": fresh(),
            });
            let typ = if who == "id" { "JWT" } else { "logout+jwt" };
            (&server.keys.identity, typ, claims)
        }
        issuer => {
            let path = if issuer == "corporate" { String::new() } else { format!("/{issuer}") };
            let claims = json!({
                "iss": server.foreign.issuer(&path), "sub": "somebody", "aud": bound,
                "iat": now, "exp": now + 60, "jti": fresh(),
            });
            (&server.foreign.key, "JWT", claims)
        }
    };
    let header = json!({ "alg": "EdDSA", "typ": typ, "kid": key.kid().to_string() });
    let header = changed(header, step.changes(Part::Header));
    let key = signer(server, step, key);
    jws(&key, &header, &changed(claims, step.changes(Part::Claim)))
}

/// The thumbprint of a key (RFC 7638 §3).
pub(super) fn thumbprint(key: &SigningKey) -> String {
    let jwk = key.public().to_json();
    let text = format!("{{\"crv\":{},\"kty\":{},\"x\":{}}}", jwk["crv"], jwk["kty"], jwk["x"]);
    Challenge::of(&text).as_str().to_owned()
}

/// Whoever the step lets sign, or the honest one.
fn signer(server: &Server, step: &Step, honest: &SigningKey) -> SigningKey {
    match step.switch("key") {
        Some(name) => key_of(server, name),
        None => SigningKey::from_pem(honest.to_pem().expose()).expect("a key"),
    }
}

/// A client's key; anybody else's is a stranger's.
fn key_of(server: &Server, name: &str) -> SigningKey {
    let pem = std::fs::read_to_string(server.path().join(format!("{name}.pem")));
    let known = pem.ok().and_then(|pem| SigningKey::from_pem(&pem).ok());
    known.unwrap_or_else(|| {
        SigningKey::generate(portcullis_core::jose::algorithm::Algorithm::EdDsa).expect("a key")
    })
}

/// Members that differ; a value is JSON where it reads as such, and a text otherwise.
fn changed<'c>(mut honest: Value, changes: impl Iterator<Item = &'c Change>) -> String {
    let Some(members) = honest.as_object_mut() else { return honest.to_string() };
    let mut twice = String::new();
    for change in changes {
        match &change.how {
            How::Says(text) => {
                let value = serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into());
                members.insert(change.name.clone(), value);
            }
            How::Again(text) => {
                let value: Value =
                    serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into());
                twice.push_str(&format!(",{}:{value}", Value::from(change.name.as_str())));
            }
            How::Missing => drop(members.remove(&change.name)),
        }
    }
    // A member once more makes a text that no JSON library writes.
    let text = honest.to_string();
    format!("{}{twice}}}", &text[..text.len() - 1])
}

fn jws(key: &SigningKey, header: &str, claims: &str) -> String {
    let pair = KeyPair::from_pem(key.to_pem().expose()).expect("a key pair");
    let (header, claims) =
        (base64url::encode(header.as_bytes()), base64url::encode(claims.as_bytes()));
    let signature = pair.sign(format!("{header}.{claims}").as_bytes()).expect("signed");
    format!("{header}.{claims}.{}", base64url::encode(&signature))
}
