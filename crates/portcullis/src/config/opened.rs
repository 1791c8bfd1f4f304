//! What `[identity]` opens beyond the plain login: client certificates, clients that nobody
//! registered, clients that register themselves, detailed requests. All of it is off unless written.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_core::hash::sha256;
use portcullis_core::scope::Scopes;
use portcullis_core::time;
use portcullis_identity::settings::{KEY_LIFE, SelfRegistration, Strangers};

use super::access::duration_malformed;
use super::identity::{https, scope_named};
use super::known;
use super::reader::{Reading, Section};
use super::secrets;
use super::settings::Mtls;

/// Most types of `authorization_details`.
const MAX_TYPES: usize = 64;
/// Shortest life of a signing key: the next one is published a day ahead.
const SHORTEST_KEY_LIFE: Duration = Duration::from_secs(2 * 86_400);
/// Shortest initial access token, in characters: 128 bits.
const MIN_TOKEN: usize = 22;

/// `mtls = "https://mtls.pay.example"`, or `{ at, ca }` when certificates are issued by a CA.
pub(super) fn mtls(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Mtls> {
    let value = section.value("mtls")?;
    if !value.get_ref().is_table() {
        let written = section.text_or_variable(reading, "mtls")?;
        let at = https(reading, &written, "mtls")?;
        return Some(Mtls { at, place: written.place, ca_pem: None });
    }
    let inner = Section::open(reading, value, &known::MTLS)?;
    if inner.value("at").is_none() {
        inner.missing(reading, "at", "at = \"https://mtls.pay.example\"");
    }
    let written = inner.text_or_variable(reading, "at")?;
    let ca_pem = match inner.text(reading, "ca") {
        Some(path) => Some(reading.load(&path)?),
        None => None,
    };
    let at = https(reading, &written, "at")?;
    if !at.path().is_empty() {
        let message = format!("`{}` has a path", written.value);
        let remedy = "give client certificates an origin of their own, `https://mtls.HOST`";
        reading.fault("MtlsHasPath", written.place.bytes, message, remedy);
        return None;
    }
    Some(Mtls { at, place: written.place, ca_pem })
}

/// `client_documents = { scopes = […], hosts = […] }`: what clients may have whose id is the address
/// of their metadata.
pub(super) fn documents(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Strangers> {
    let value = section.value("client_documents")?;
    let inner = Section::open(reading, value, &known::CLIENT_DOCUMENTS)?;
    let hosts = inner.texts(reading, "hosts").into_iter();
    let hosts = hosts.map(|written| written.value.to_ascii_lowercase()).collect();
    Some(Strangers { scopes: scopes(reading, &inner), hosts })
}

/// `registration = { token = { file = … }, scopes = […] }`.
pub(super) fn registration(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
) -> Option<SelfRegistration> {
    let value = section.value("registration")?;
    let inner = Section::open(reading, value, &known::REGISTRATION)?;
    let Some(token) = inner.value("token") else {
        inner.missing(reading, "token", "token = { file = \"registration.token\" }");
        return None;
    };
    let secret = secrets::secret(reading, token, "token")?;
    if secret.expose().len() < MIN_TOKEN {
        let message = format!("the initial access token is shorter than {MIN_TOKEN} characters");
        let remedy = "make one with `openssl rand -base64 32`";
        reading.fault("SecretTooShort", token.span(), message, remedy);
        return None;
    }
    let token_digest = sha256(secret.expose());
    Some(SelfRegistration { token_digest, scopes: scopes(reading, &inner) })
}

fn scopes(reading: &mut Reading<'_>, section: &Section<'_>) -> Scopes {
    if section.value("scopes").is_none() {
        section.missing(reading, "scopes", "scopes = [\"payments:read\"]");
    }
    let mut tokens = Vec::new();
    for written in section.texts(reading, "scopes") {
        if scope_named(reading, &written.value, written.place.bytes) {
            tokens.push(written.value);
        }
    }
    Scopes::parse(&tokens.join(" ")).unwrap_or_default()
}

/// `[identity.details]`: each `authorization_details` type and its words for the consent page.
pub(super) fn detail_words(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
) -> BTreeMap<String, String> {
    let Some(value) = section.value("details") else { return BTreeMap::new() };
    let Some(inner) = Section::open_names(reading, value, "details") else {
        return BTreeMap::new();
    };
    if inner.entries().len() > MAX_TYPES {
        let message = format!("more than {MAX_TYPES} types of authorization_details");
        reading.fault("ListTooLong", inner.span.clone(), message, "write fewer");
    }
    let mut words = BTreeMap::new();
    for entry in inner.entries() {
        if let Some(text) = reading.string(entry.value, entry.name) {
            words.insert(entry.name.to_owned(), text.value);
        }
    }
    words
}

/// `key_life = "90d"`.
pub(super) fn key_life(reading: &mut Reading<'_>, section: &Section<'_>) -> Duration {
    let Some(written) = section.text(reading, "key_life") else { return KEY_LIFE };
    match time::duration(&written.value) {
        Ok(life) if life >= SHORTEST_KEY_LIFE => life,
        Ok(_) => {
            let message = format!("`{}` is too short for a signing key", written.value);
            let remedy = "write two days or more: the next key is published a day ahead";
            reading.fault("KeyLifeTooShort", written.place.bytes, message, remedy);
            KEY_LIFE
        }
        Err(malformed) => {
            duration_malformed(reading, &written, malformed);
            KEY_LIFE
        }
    }
}
