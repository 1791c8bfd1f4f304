//! `[issuers.NAME]`: whose tokens are accepted besides our own, and what their words mean here.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_core::fault::Placed;
use portcullis_core::foreign::{ClaimMap, ForeignIssuer, KeySource, SecondFactor, Subjects};
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::secret::Secret;
use portcullis_core::time::Timestamp;
use portcullis_core::web::Address;

use super::identity::{address_malformed, named};
use super::known;
use super::reader::{Entry, Reading, Section, Value};
use super::secrets;
use super::settings::Identity;

/// Most other issuers.
const MAX_ISSUERS: usize = 64;
/// Most words of a map.
const MAX_WORDS: usize = 1_000;

/// Reads all of them.
pub(crate) fn read(
    reading: &mut Reading<'_>,
    root: &Section<'_>,
    identity: Option<&Identity>,
) -> Vec<Arc<ForeignIssuer>> {
    let Some(value) = root.value("issuers") else { return Vec::new() };
    let Some(section) = Section::open_names(reading, value, "issuers") else { return Vec::new() };
    if section.entries().len() > MAX_ISSUERS {
        let message = format!("more than {MAX_ISSUERS} other issuers");
        reading.fault("ListTooLong", section.span.clone(), message, "write fewer");
        return Vec::new();
    }
    let entries = section.entries().iter();
    entries.filter_map(|entry| issuer(reading, entry, identity).map(Arc::new)).collect()
}

fn issuer(
    reading: &mut Reading<'_>,
    entry: &Entry<'_>,
    identity: Option<&Identity>,
) -> Option<ForeignIssuer> {
    let fits = named(reading, entry.name, entry.span.clone());
    let section = Section::open(reading, entry.value, &known::ISSUER)?;
    for (name, example) in [
        ("issuer", "issuer = \"https://idp.example\""),
        ("audience", "audience = \"https://api.pay.example\""),
    ] {
        if section.value(name).is_none() {
            section.missing(reading, name, example);
        }
    }
    let written = section.text_or_variable(reading, "issuer")?;
    if identity.is_some_and(|identity| identity.issuer.to_string() == written.value) {
        let message = format!("`{}` is this server itself", written.value);
        let remedy = "leave it out: our own tokens are accepted already";
        reading.fault("IssuerOurs", written.place.bytes.clone(), message, remedy);
    }
    let source = source(reading, &section, &written)?;
    let audience: Vec<String> =
        section.texts(reading, "audience").into_iter().map(|written| written.value).collect();
    let algorithms = algorithms(reading, &section);
    let map = map(reading, &section, identity);
    let until = until(reading, &section);
    (fits && !audience.is_empty()).then(|| ForeignIssuer {
        name: entry.name.to_owned(),
        issuer: written.value,
        source,
        audience,
        algorithms,
        map,
        until,
    })
}

fn source(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
    issuer: &Placed<String>,
) -> Option<KeySource> {
    match (section.value("jwks"), section.value("introspection")) {
        (None, None) => {
            address(reading, issuer, "issuer")?;
            Some(KeySource::Discovery)
        }
        (Some(_), None) => {
            let written = section.text_or_variable(reading, "jwks")?;
            address(reading, &written, "jwks").map(KeySource::Address)
        }
        (None, Some(value)) => introspection(reading, value),
        (Some(_), Some(value)) => {
            // Read all the same: a secret that stands in it must be masked in what is shown.
            introspection(reading, value);
            let message = "an issuer's tokens are verified by keys or by introspection, not both";
            reading.fault("SourceTwice", value.span(), message, "keep `jwks`");
            None
        }
    }
}

fn introspection(reading: &mut Reading<'_>, value: &Value<'_>) -> Option<KeySource> {
    let section = Section::open(reading, value, &known::INTROSPECTION)?;
    for (name, example) in [
        ("endpoint", "endpoint = \"https://idp.example/introspect\""),
        ("client", "client = \"portcullis\""),
        ("secret", "secret = { file = \"idp.secret\" }"),
    ] {
        if section.value(name).is_none() {
            section.missing(reading, name, example);
        }
    }
    let written = section.text_or_variable(reading, "endpoint")?;
    let endpoint = address(reading, &written, "endpoint")?;
    let client_id = section.text(reading, "client")?.value;
    let secret = secrets::secret(reading, section.value("secret")?, "secret")?;
    let Ok(text) = String::from_utf8(secret.expose().clone()) else {
        let span = section.value("secret").map_or(section.span.clone(), |value| value.span());
        reading.fault("SecretMalformed", span, "the secret is not UTF-8", "write it as text");
        return None;
    };
    Some(KeySource::Introspection { endpoint, client_id, secret: Arc::new(Secret::new(text)) })
}

/// An address that is fetched: https, or http to this machine. Kept as it was written, since an
/// issuer is compared byte for byte (RFC 8414 §3.3).
fn address(reading: &mut Reading<'_>, written: &Placed<String>, what: &str) -> Option<String> {
    match Address::parse(written.value.split('?').next().unwrap_or_default()) {
        Ok(address) if written.value.starts_with("https://") || address.is_loopback() => {
            Some(written.value.clone())
        }
        Ok(_) => {
            let message = format!("`{what}` is plain http beyond this machine");
            let remedy = "write `https://…`: whoever can answer in its place signs tokens";
            reading.fault("AddressInClear", written.place.bytes.clone(), message, remedy);
            None
        }
        Err(malformed) => {
            address_malformed(reading, written, what, &malformed);
            None
        }
    }
}

fn algorithms(reading: &mut Reading<'_>, section: &Section<'_>) -> Vec<Algorithm> {
    let mut algorithms = Vec::new();
    for written in section.texts(reading, "algorithms") {
        match Algorithm::from_name(&written.value) {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let message =
                    format!("`{}` is not an algorithm that is verified here", written.value);
                let remedy = "write `EdDSA`, `ES256`, `PS256` or `RS256`, or leave it out";
                reading.fault("AlgorithmUnknown", written.place.bytes, message, remedy);
            }
        }
    }
    algorithms
}

fn map(reading: &mut Reading<'_>, section: &Section<'_>, identity: Option<&Identity>) -> ClaimMap {
    let claim = section.text(reading, "claim").map_or("groups".into(), |written| written.value);
    let words = pairs(reading, section, "map");
    for (_, right) in &words {
        judge_right(reading, right, identity);
    }
    let attributes = pairs(reading, section, "attributes");
    for (_, name) in &attributes {
        judge_attribute(reading, name, identity);
    }
    let plain = |pairs: Vec<(String, Placed<String>)>| -> BTreeMap<String, String> {
        pairs.into_iter().map(|(from, to)| (from, to.value)).collect()
    };
    ClaimMap {
        claim,
        words: plain(words),
        tenant: section.text(reading, "tenant").map(|written| written.value),
        attributes: plain(attributes),
        subjects: subjects(reading, section),
        second_factor: second_factor(reading, section),
    }
}

fn pairs(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
    name: &'static str,
) -> Vec<(String, Placed<String>)> {
    let Some(value) = section.value(name) else { return Vec::new() };
    let Some(inner) = Section::open_names(reading, value, name) else { return Vec::new() };
    if inner.entries().len() > MAX_WORDS {
        let message = format!("`{name}` has more than {MAX_WORDS} entries");
        reading.fault("ListTooLong", inner.span.clone(), message, "map fewer words");
        return Vec::new();
    }
    let entries = inner.entries().iter();
    entries
        .filter_map(|entry| Some((entry.name.to_owned(), reading.string(entry.value, entry.name)?)))
        .collect()
}

/// A word may become a role or a group that the file declares, and nothing else.
fn judge_right(reading: &mut Reading<'_>, right: &Placed<String>, identity: Option<&Identity>) {
    let Some(identity) = identity else { return };
    let known = match right.value.split_once(':') {
        Some(("role", name)) => identity.roles.iter().any(|role| role == name),
        Some(("group", name)) => identity.groups.iter().any(|group| group == name),
        _ => false,
    };
    if !known {
        let message = format!("`{}` is no role or group of this file", right.value);
        let remedy = "write `\"role:NAME\"` or `\"group:NAME\"`, declared in [identity]";
        reading.fault("UnknownPrincipal", right.place.bytes.clone(), message, remedy);
    }
}

fn judge_attribute(reading: &mut Reading<'_>, name: &Placed<String>, identity: Option<&Identity>) {
    let Some(identity) = identity else { return };
    if !identity.attributes.iter().any(|(known, _)| *known == name.value) {
        let message = format!("`{}` is not declared in [identity.attributes]", name.value);
        let names = identity.attributes.iter().map(|(known, _)| known.as_str());
        let remedy = known::suggest(&name.value, names);
        reading.fault("UnknownAttribute", name.place.bytes.clone(), message, remedy);
    }
}

fn subjects(reading: &mut Reading<'_>, section: &Section<'_>) -> Subjects {
    let Some(written) = section.text(reading, "subjects") else { return Subjects::Users };
    match &*written.value {
        "users" => Subjects::Users,
        "services" => Subjects::Services,
        other => {
            let message = format!("`{other}` does not say what the subjects are");
            let remedy = "write `\"users\"` or `\"services\"`";
            reading.fault("SubjectsUnknown", written.place.bytes, message, remedy);
            Subjects::Users
        }
    }
}

fn second_factor(reading: &mut Reading<'_>, section: &Section<'_>) -> SecondFactor {
    let Some(written) = section.text(reading, "mfa") else { return SecondFactor::Ours };
    match &*written.value {
        "ours" => SecondFactor::Ours,
        "theirs" => SecondFactor::Theirs,
        other => {
            let message = format!("`{other}` does not say whose second factor counts");
            let remedy = "write `\"ours\"`, or `\"theirs\"` to trust the issuer's";
            reading.fault("MfaUnknown", written.place.bytes, message, remedy);
            SecondFactor::Ours
        }
    }
}

fn until(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Timestamp> {
    let written = section.text(reading, "until")?;
    let date = Timestamp::parse(&written.value);
    if date.is_none() {
        let message = format!("`{}` is not a date", written.value);
        reading.fault("DateMalformed", written.place.bytes, message, "write `\"2027-03-31\"`");
    }
    date
}
