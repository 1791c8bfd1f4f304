//! `[identity]`: the issuer, the second factor, and the names that rules may speak of.

use std::collections::BTreeMap;

use portcullis_core::fault::Placed;
use portcullis_core::scope::Scopes;
use portcullis_core::web::{Address, AddressMalformed, Scheme};
use portcullis_identity::settings::Require;
use portcullis_policy::access::AttributeType;

use super::known;
use super::opened::{detail_words, documents, key_life, mtls, registration};
use super::reader::{Reading, Section, advised};
use super::settings::Identity;

/// Longest name of a role, group or attribute, in bytes.
const MAX_NAME: usize = 64;
/// Most attributes: they travel in each token.
const MAX_ATTRIBUTES: usize = 64;

/// Reads `[identity]`.
pub(crate) fn read(reading: &mut Reading<'_>, root: &Section<'_>) -> Option<Identity> {
    let Some(value) = root.value("identity") else {
        root.missing(reading, "[identity]", "[identity]` and `issuer = \"https://login.HOST\"");
        return None;
    };
    let section = Section::open(reading, value, &known::IDENTITY)?;
    signup(reading, &section);
    let roles = names(reading, &section, "roles");
    let groups = names(reading, &section, "groups");
    let require = mfa(reading, &section, &roles);
    let attributes = attributes(reading, &section);
    let scope_words = scope_words(reading, &section);
    let mtls = mtls(reading, &section);
    let documents = documents(reading, &section);
    let registration = registration(reading, &section);
    let detail_words = detail_words(reading, &section);
    let key_life = key_life(reading, &section);
    Some(Identity {
        mtls,
        documents,
        registration,
        detail_words,
        key_life,
        issuer: issuer(reading, &section)?,
        require,
        roles,
        groups,
        attributes,
        scope_words,
    })
}

fn issuer(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Address> {
    if section.value("issuer").is_none() {
        section.missing(reading, "issuer", "issuer = \"https://login.pay.example\"");
    }
    let written = section.text_or_variable(reading, "issuer")?;
    let address = https(reading, &written, "issuer")?;
    if !address.path().is_empty() {
        let message = format!("the issuer `{}` has a path", written.value);
        let remedy = "give the issuer an origin of its own, `https://login.HOST`";
        reading.fault("IssuerHasPath", written.place.bytes, message, remedy);
    }
    Some(address)
}

/// An address that callers reach: RFC 8414 §2 wants `https` for an issuer, and so do we for APIs.
pub(crate) fn https(
    reading: &mut Reading<'_>,
    written: &Placed<String>,
    what: &str,
) -> Option<Address> {
    match Address::parse(&written.value) {
        Ok(address) if address.scheme() == Scheme::Https => Some(address),
        Ok(_) => {
            let message = format!("`{what}` is plain http");
            let remedy = "write `https://…`; callers always come over TLS";
            reading.fault("AddressInClear", written.place.bytes.clone(), message, remedy);
            None
        }
        Err(malformed) => {
            address_malformed(reading, written, what, &malformed);
            None
        }
    }
}

/// Notes an address that cannot be read. User info may hold a password, so then nothing of the
/// address is repeated.
pub(crate) fn address_malformed(
    reading: &mut Reading<'_>,
    written: &Placed<String>,
    what: &str,
    malformed: &AddressMalformed,
) {
    let (wrong, remedy) = advised(malformed.0);
    let span = written.place.bytes.clone();
    let message = if written.value.contains('@') {
        reading.mask(span.clone());
        format!("`{what}`: {wrong}")
    } else {
        format!("`{}`: {wrong}", written.value)
    };
    reading.fault("AddressMalformed", span, message, remedy);
}

fn signup(reading: &mut Reading<'_>, section: &Section<'_>) {
    let Some(written) = section.text(reading, "signup") else { return };
    match &*written.value {
        "closed" => {}
        "invite" | "open" => {
            let what = format!("signup = \"{}\"", written.value);
            let instead = "write `signup = \"closed\"` and add people with `portcullis user add`";
            reading.later(written.place.bytes, &what, instead);
        }
        other => {
            let message = format!("`{other}` is no way to sign up");
            let remedy = "write `signup = \"closed\"`";
            reading.fault("SignupUnknown", written.place.bytes, message, remedy);
        }
    }
}

/// Names of roles or groups.
fn names(reading: &mut Reading<'_>, section: &Section<'_>, what: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for written in section.texts(reading, what) {
        if named(reading, &written.value, written.place.bytes.clone())
            && !names.contains(&written.value)
        {
            names.push(written.value);
        }
    }
    names
}

/// Whether a text can be a name of a role, group, attribute, limit or API.
pub(crate) fn named(reading: &mut Reading<'_>, name: &str, span: std::ops::Range<usize>) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let fits = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(plain);
    if !fits {
        let message = format!("`{name}` is not a name");
        let remedy = format!("write 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`");
        reading.fault("NameMalformed", span, message, remedy);
    }
    fits
}

fn mfa(reading: &mut Reading<'_>, section: &Section<'_>, roles: &[String]) -> Require {
    // A server that says nothing asks everyone: the strict choice is the default.
    let Some(value) = section.value("mfa") else { return Require::Everyone };
    let Some(section) = Section::open(reading, value, &known::MFA) else {
        return Require::Everyone;
    };
    if let Some(factors) = section.text(reading, "factors")
        && factors.value != "totp"
    {
        let instead = "write `factors = \"totp\"`, the one factor that is built";
        let what = format!("factors = \"{}\"", factors.value);
        reading.later(factors.place.bytes, &what, instead);
    }
    let Some(require) = section.text(reading, "require") else { return Require::Everyone };
    match (&*require.value, require.value.strip_prefix("role:")) {
        ("everyone", _) => Require::Everyone,
        ("offer", _) => Require::Offer,
        (_, Some(role)) if roles.iter().any(|known| known == role) => Require::Role(role.into()),
        (_, Some(role)) => {
            let message = format!("`role:{role}` is not among `roles`");
            let remedy = known::suggest(role, roles.iter().map(String::as_str));
            reading.fault("UnknownPrincipal", require.place.bytes, message, remedy);
            Require::Everyone
        }
        (other, None) => {
            let message = format!("`{other}` does not say who needs a second factor");
            let remedy = "write `\"everyone\"`, `\"role:NAME\"` or `\"offer\"`";
            reading.fault("RequireUnknown", require.place.bytes, message, remedy);
            Require::Everyone
        }
    }
}

fn attributes(reading: &mut Reading<'_>, section: &Section<'_>) -> Vec<(String, AttributeType)> {
    let Some(value) = section.value("attributes") else { return Vec::new() };
    let Some(section) = Section::open_names(reading, value, "attributes") else {
        return Vec::new();
    };
    if section.entries().len() > MAX_ATTRIBUTES {
        let message = format!("more than {MAX_ATTRIBUTES} attributes");
        let remedy = "keep those that a rule uses: they travel in each token";
        reading.fault("ListTooLong", section.span.clone(), message, remedy);
    }
    let mut attributes = Vec::new();
    for entry in section.entries() {
        let fits = attribute_named(reading, entry.name, entry.span.clone());
        let Some(kind) = reading.string(entry.value, entry.name) else { continue };
        let kind = match &*kind.value {
            "string" => AttributeType::String,
            "integer" => AttributeType::Integer,
            "bool" => AttributeType::Bool,
            other => {
                let message = format!("`{other}` is not a type of attribute");
                let remedy = "write `\"string\"`, `\"integer\"` or `\"bool\"`";
                reading.fault("AttributeTypeUnknown", kind.place.bytes, message, remedy);
                continue;
            }
        };
        if fits {
            attributes.push((entry.name.to_owned(), kind));
        }
    }
    attributes
}

/// A Cedar identifier, and none of the names that every user has.
fn attribute_named(reading: &mut Reading<'_>, name: &str, span: std::ops::Range<usize>) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let taken = matches!(name, "id" | "issuer" | "tenant" | "roles" | "groups");
    let fits = first && plain && !taken && name.len() <= MAX_NAME;
    if !fits {
        let message = format!("`{name}` cannot be an attribute's name");
        let remedy = "write letters, digits and `_`; `id`, `issuer` and `tenant` are taken";
        reading.fault("NameMalformed", span, message, remedy);
    }
    fits
}

fn scope_words(reading: &mut Reading<'_>, section: &Section<'_>) -> BTreeMap<String, String> {
    let Some(value) = section.value("scopes") else { return BTreeMap::new() };
    let Some(section) = Section::open_names(reading, value, "scopes") else {
        return BTreeMap::new();
    };
    let mut words = BTreeMap::new();
    for entry in section.entries() {
        let Some(text) = reading.string(entry.value, entry.name) else { continue };
        if scope_named(reading, entry.name, entry.span.clone()) {
            words.insert(entry.name.to_owned(), text.value);
        }
    }
    words
}

/// Whether a text is one scope token (RFC 6749 §3.3).
pub(crate) fn scope_named(
    reading: &mut Reading<'_>,
    name: &str,
    span: std::ops::Range<usize>,
) -> bool {
    let fits = Scopes::parse(name).is_ok_and(|scopes| scopes.iter().eq([name]));
    if !fits {
        let message = format!("`{name}` is not one scope");
        let remedy = "write printable ASCII without spaces, quotes and backslashes";
        reading.fault("ScopeMalformed", span, message, remedy);
    }
    fits
}
