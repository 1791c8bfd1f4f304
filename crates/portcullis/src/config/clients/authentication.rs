//! How a client of the file proves itself: `keys`, `certificate`, `federated` or a dated `secret`;
//! exactly one (RFC 6749 §2.3).

use portcullis_core::certificate;
use portcullis_core::client::{Authentication, CertificateRule, ClientType, Federated};
use portcullis_core::hash::sha256;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::base64url;
use portcullis_core::jose::jwk::JwkSet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::known;
use super::super::reader::{Reading, Section, Value};
use super::super::secrets;

/// Shortest secret, in characters: 128 bits in base64url (RFC 6749 §10.10 wants 2⁻¹²⁸).
const MIN_SECRET: usize = 22;
/// The keys that say how.
const WAYS: [&str; 4] = ["keys", "certificate", "federated", "secret"];

/// Reads the one way in which a client proves itself.
pub(super) fn read(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
    kind: ClientType,
) -> Option<Authentication> {
    let written: Vec<&str> =
        WAYS.into_iter().filter(|name| section.value(name).is_some()).collect();
    let confidential = matches!(kind, ClientType::Web | ClientType::Service);
    match (written.as_slice(), confidential) {
        ([], false) => Some(Authentication::None),
        ([], true) => {
            section.missing(reading, "keys", "keys = \"NAME.jwks.json\"");
            None
        }
        ([way, ..], false) => {
            let span = section.value(way).map_or(section.span.clone(), |value| value.span());
            let message = "a public client cannot keep a key or a secret (RFC 6749 §2.1)";
            let remedy = "leave it out, or write `type = \"web\"` for a client with a back end";
            reading.fault("PublicClientWithKey", span, message, remedy);
            None
        }
        ([way], true) => one(reading, section, way),
        ([_, second, ..], true) => {
            let span = section.value(second).map_or(section.span.clone(), |value| value.span());
            let message = "a client proves itself in one way: `keys`, `certificate`, `federated` \
                           or `secret`";
            reading.fault("AuthenticationTwice", span, message, "keep `keys`");
            None
        }
    }
}

fn one(reading: &mut Reading<'_>, section: &Section<'_>, way: &str) -> Option<Authentication> {
    let value = section.value(way)?;
    match way {
        "keys" => keys_of(reading, value),
        "certificate" => certificate_of(reading, value),
        "federated" => federated_of(reading, value),
        _ => secret_of(reading, value),
    }
}

/// `"spiffe://…"`, `"dns:host"`, `"CN=…,O=…"` (all with a chain to `identity.mtls.ca`), or
/// `{ pinned = "file.pem" }` (RFC 8705 §2.2: self-signed, compared whole).
fn certificate_of(reading: &mut Reading<'_>, value: &Value<'_>) -> Option<Authentication> {
    if value.get_ref().is_table() {
        let section = Section::open(reading, value, &known::PINNED)?;
        if section.value("pinned").is_none() {
            section.missing(reading, "pinned", "pinned = \"client.pem\"");
        }
        let path = section.text(reading, "pinned")?;
        let pem = reading.load(&path)?;
        let prints: Vec<String> = CertificateDer::pem_slice_iter(&pem)
            .filter_map(Result::ok)
            .map(|der| base64url::encode(&sha256(&der)))
            .collect();
        if prints.is_empty() {
            let message = format!("`{}` holds no certificate", path.value);
            let remedy = "write a PEM file with `BEGIN CERTIFICATE` blocks";
            reading.fault("CertificateMalformed", path.place.bytes, message, remedy);
            return None;
        }
        return Some(Authentication::Certificate(CertificateRule::Pinned(prints)));
    }
    let written = reading.string(value, "certificate")?;
    let rule = match written.value.split_once(':') {
        Some(("dns", name)) if !name.is_empty() => CertificateRule::Dns(name.to_ascii_lowercase()),
        Some(("spiffe" | "https" | "uri", _)) => CertificateRule::Uri(written.value),
        _ if written.value.contains('=') => CertificateRule::Subject(written.value),
        _ => {
            let message = format!("`{}` names nothing in a certificate", written.value);
            let remedy = "write `\"spiffe://…\"`, `\"dns:host\"`, a subject like `\"CN=ledger\"`, or \
                          `{ pinned = \"client.pem\" }`";
            reading.fault("CertificateRuleUnknown", written.place.bytes, message, remedy);
            return None;
        }
    };
    if !certificate::rule_readable(&rule) {
        let message = "that name cannot be read";
        let remedy = "write a host, a URI, or a subject as RFC 4514 has it, `\"CN=ledger,O=Pay\"`";
        reading.fault("CertificateRuleUnknown", value.span(), message, remedy);
        return None;
    }
    Some(Authentication::Certificate(rule))
}

/// `{ issuer = "NAME", subject = "…" }`: assertions of another issuer stand for the client.
fn federated_of(reading: &mut Reading<'_>, value: &Value<'_>) -> Option<Authentication> {
    let section = Section::open(reading, value, &known::FEDERATED)?;
    for (name, example) in
        [("issuer", "issuer = \"NAME\""), ("subject", "subject = \"system:serviceaccount:…\"")]
    {
        if section.value(name).is_none() {
            section.missing(reading, name, example);
        }
    }
    let issuer = section.text(reading, "issuer")?.value;
    let subject = section.text(reading, "subject")?.value;
    Some(Authentication::Federated(Federated { issuer, subject }))
}

fn keys_of(reading: &mut Reading<'_>, value: &Value<'_>) -> Option<Authentication> {
    let path = reading.string(value, "keys")?;
    let bytes = reading.load(&path)?;
    match JwkSet::from_json(&bytes) {
        Ok(keys) if keys.iter().any(|key| key.algorithm() == Algorithm::Rs256) => {
            let message = format!("a key in `{}` is for RS256", path.value);
            let remedy = "make it PS256, ES256 or EdDSA (FAPI 2.0 §5.4.1); \
                          `portcullis client jwks KEY.pem` prints the set";
            reading.fault("KeysMalformed", path.place.bytes, message, remedy);
            None
        }
        Ok(keys) => Some(Authentication::Keys(keys)),
        Err(malformed) => {
            let message = format!("the keys in `{}` cannot be used: {malformed}", path.value);
            let remedy = "write a JWK set of public keys, EdDSA, ES256 or PS256; \
                          `portcullis client jwks KEY.pem` prints one";
            reading.fault("KeysMalformed", path.place.bytes, message, remedy);
            None
        }
    }
}

fn secret_of(reading: &mut Reading<'_>, value: &Value<'_>) -> Option<Authentication> {
    let secret = secrets::secret(reading, value, "secret")?;
    if secret.expose().len() < MIN_SECRET {
        let message = format!("the secret is shorter than {MIN_SECRET} characters");
        let remedy = "make one with `openssl rand -base64 32`, or use `keys`";
        reading.fault("SecretTooShort", value.span(), message, remedy);
        return None;
    }
    Some(Authentication::SecretDigest(sha256(secret.expose())))
}
