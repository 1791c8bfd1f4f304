//! `[clients]`: the software that may ask for tokens, as the file registers it.
//!
//! Until PAR and DPoP exist a confidential client is weaker than its profile (`fapi2`) promises,
//! so it must say so with dated waivers: nobody gets bearer tokens by leaving something out.

use std::sync::Arc;

use portcullis_core::client::{Authentication, ClientRecord, ClientType, Waivers};
use portcullis_core::fault::Placed;
use portcullis_core::hash::sha256;
use portcullis_core::id::Id;
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_core::web::Redirect;
use toml::de::DeValue;

use super::identity::scope_named;
use super::known;
use super::reader::{Entry, Environment, Reading, Section, Value, advised};
use super::secrets;

/// Most clients in a file; others live in the store.
const MAX_CLIENTS: usize = 1_000;
/// Most redirects of a client.
const MAX_REDIRECTS: usize = 64;
/// Shortest secret, in characters: 128 bits in base64url (RFC 6749 §10.10 wants 2⁻¹²⁸).
const MIN_SECRET: usize = 22;

/// Reads `[clients]`.
pub(crate) fn read(reading: &mut Reading<'_>, root: &Section<'_>) -> Vec<Arc<ClientRecord>> {
    let Some(value) = root.value("clients") else { return Vec::new() };
    let Some(section) = Section::open_names(reading, value, "clients") else { return Vec::new() };
    if section.entries().len() > MAX_CLIENTS {
        let message = format!("more than {MAX_CLIENTS} clients in the file");
        let remedy = "keep them in the store, with `portcullis client add`";
        reading.fault("ListTooLong", section.span.clone(), message, remedy);
        return Vec::new();
    }
    let entries = section.entries().iter();
    entries.filter_map(|entry| client(reading, entry).map(Arc::new)).collect()
}

fn client(reading: &mut Reading<'_>, entry: &Entry<'_>) -> Option<ClientRecord> {
    let id = Id::parse(entry.name).map_err(|malformed| {
        let remedy = "rename it; ids that start with `u_` are people's";
        let message = format!("`{}` is {malformed}", entry.name);
        reading.fault("ClientIdMalformed", entry.span.clone(), message, remedy);
    });
    let section = Section::open(reading, entry.value, &known::CLIENT)?;
    let kind = kind(reading, &section);
    let scopes = scopes(reading, &section);
    let waivers = waivers(reading, &section);
    // What follows depends on the type; without one, further faults would be guesses.
    let kind = kind?;
    let redirects = redirects(reading, &section, kind);
    let authentication = authentication(reading, &section, kind);
    judge_waivers(reading, &section, entry, kind);
    let first_party = section.value("first_party").is_some_and(|v| reading.flag(v, "first_party"));
    if first_party {
        judge_first_party(reading, &section, &redirects);
    }
    Some(ClientRecord {
        id: id.ok()?,
        kind,
        redirects,
        scopes,
        authentication: authentication?,
        waivers,
        first_party,
    })
}

fn kind(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<ClientType> {
    if section.value("type").is_none() {
        section.missing(
            reading,
            "type",
            "type = \"spa\"`, `\"native\"`, `\"web\"` or `\"service\"",
        );
    }
    let written = section.text(reading, "type")?;
    match &*written.value {
        "spa" => Some(ClientType::Spa),
        "native" => Some(ClientType::Native),
        "web" => Some(ClientType::Web),
        "service" => Some(ClientType::Service),
        "browser" | "device" => {
            let what = format!("type = \"{}\"", written.value);
            let instead = "write `\"spa\"` or `\"web\"` (people), `\"service\"` (software)";
            reading.later(written.place.bytes, &what, instead);
            None
        }
        other => {
            let message = format!("`{other}` is not a type of client");
            let remedy = known::suggest(other, ["spa", "native", "web", "service"].into_iter());
            reading.fault("ClientTypeUnknown", written.place.bytes, message, remedy);
            None
        }
    }
}

fn scopes(reading: &mut Reading<'_>, section: &Section<'_>) -> Scopes {
    let mut tokens = Vec::new();
    for written in section.texts(reading, "scopes") {
        let span = written.place.bytes.clone();
        if written.value == "offline_access" {
            let instead = "leave it out: the application asks for a new code when a token ends";
            reading.later(span, "offline_access", instead);
        } else if scope_named(reading, &written.value, span) {
            tokens.push(written.value);
        }
    }
    Scopes::parse(&tokens.join(" ")).unwrap_or_else(|_| {
        let remedy = "write at most 64 scopes, 2 KiB in all";
        let span = section.value("scopes").map_or(section.span.clone(), |value| value.span());
        reading.fault("ScopeMalformed", span, "too many scopes for one client", remedy);
        Scopes::default()
    })
}

fn redirects(reading: &mut Reading<'_>, section: &Section<'_>, kind: ClientType) -> Vec<Redirect> {
    let Some(value) = section.value("redirect") else {
        if kind != ClientType::Service {
            section.missing(reading, "redirect", "redirect = [\"https://app.pay.example/cb\"]");
        }
        return Vec::new();
    };
    if kind == ClientType::Service {
        let message = "a `service` speaks for itself and is never redirected to";
        reading.fault("RedirectOnService", value.span(), message, "leave `redirect` out");
        return Vec::new();
    }
    let written = reading.strings(value, "redirect", Environment::Allowed);
    if written.is_empty() || written.len() > MAX_REDIRECTS {
        let message = format!("a client has 1 to {MAX_REDIRECTS} redirects");
        reading.fault("ListTooLong", value.span(), message, "write the exact addresses");
    }
    written.iter().filter_map(|written| redirect(reading, written, kind)).collect()
}

fn redirect(
    reading: &mut Reading<'_>,
    written: &Placed<String>,
    kind: ClientType,
) -> Option<Redirect> {
    let span = written.place.bytes.clone();
    let redirect = Redirect::parse(&written.value).map_err(|malformed| {
        let (wrong, remedy) = advised(malformed.0);
        let message = format!("`{}`: {wrong}", written.value);
        reading.fault("RedirectMalformed", span.clone(), message, remedy);
    });
    let redirect = redirect.ok()?;
    let https = written.value.starts_with("https://");
    let clear = written.value.starts_with("http://");
    // OAuth 2.1 §8.4.2, RFC 8252 §7.3, §7.1: loopback http and private schemes are a native app's.
    if !https && kind != ClientType::Native && !(clear && reading.for_a_laptop()) {
        let message = format!("`{}` is not https", written.value);
        let remedy = "only `native` clients may use loopback or a scheme of their own; \
                      `http://localhost` works under `serve --dev`";
        reading.fault("RedirectInClear", span, message, remedy);
        return None;
    }
    Some(redirect)
}

fn authentication(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
    kind: ClientType,
) -> Option<Authentication> {
    let (keys, secret) = (section.value("keys"), section.value("secret"));
    let confidential = matches!(kind, ClientType::Web | ClientType::Service);
    match (keys, secret) {
        (None, None) if !confidential => Some(Authentication::None),
        (None, None) => {
            // A certificate is refused by name already; asking for a key too would only confuse.
            if section.value("certificate").is_none() {
                section.missing(reading, "keys", "keys = \"NAME.jwks.json\"");
            }
            None
        }
        (Some(value), None) | (None, Some(value)) if !confidential => {
            let message = "a public client cannot keep a key or a secret (RFC 6749 §2.1)";
            let remedy = "leave it out, or write `type = \"web\"` for a client with a back end";
            reading.fault("PublicClientWithKey", value.span(), message, remedy);
            None
        }
        (Some(value), None) => keys_of(reading, value),
        (None, Some(value)) => secret_of(reading, value),
        (Some(_), Some(value)) => {
            let message = "a client proves itself in one way, `keys` or `secret`";
            reading.fault("AuthenticationTwice", value.span(), message, "keep `keys`");
            None
        }
    }
}

fn keys_of(reading: &mut Reading<'_>, value: &Value<'_>) -> Option<Authentication> {
    let path = reading.string(value, "keys")?;
    let bytes = reading.load(&path)?;
    match JwkSet::from_json(&bytes) {
        Ok(keys) => Some(Authentication::Keys(keys)),
        Err(malformed) => {
            let message = format!("the keys in `{}` cannot be used: {malformed}", path.value);
            let remedy = "write a JWK set of public keys, EdDSA, ES256 or PS256; \
                          `portcullis client add --new-key` makes one";
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

fn waivers(reading: &mut Reading<'_>, section: &Section<'_>) -> Waivers {
    let Some(value) = section.value("waivers") else { return Waivers::default() };
    let Some(section) = Section::open(reading, value, &known::WAIVERS) else {
        return Waivers::default();
    };
    let mut date = |name: &str| section.value(name).and_then(|value| waiver(reading, value, name));
    Waivers {
        bearer_tokens: date("bearer_tokens"),
        no_par: date("no_par"),
        client_secret: date("client_secret"),
    }
}

/// A date that lies ahead, as a text or as TOML's own date.
fn waiver(reading: &mut Reading<'_>, value: &Value<'_>, name: &str) -> Option<Timestamp> {
    let text = match value.get_ref() {
        DeValue::Datetime(date) => date.to_string(),
        _ => reading.string(value, name)?.value,
    };
    let Some(date) = Timestamp::parse(&text) else {
        let message = format!("`{text}` is not a date");
        reading.fault("DateMalformed", value.span(), message, "write `\"2027-03-31\"`");
        return None;
    };
    if date <= reading.now() {
        let message = format!("the waiver `{name}` ended on {text}");
        let remedy = "mend what it excuses, or write a later date on purpose";
        reading.fault("WaiverExpired", value.span(), message, remedy);
        return None;
    }
    Some(date)
}

/// The waivers that a client must carry, and none that excuse nothing.
fn judge_waivers(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
    entry: &Entry<'_>,
    kind: ClientType,
) {
    let waivers = section.value("waivers");
    if matches!(kind, ClientType::Spa | ClientType::Native) {
        if let Some(value) = waivers {
            let message = "a public client has nothing to waive";
            reading.fault("WaiverNeedless", value.span(), message, "leave `waivers` out");
        }
        return;
    }
    let written = |name: &str| {
        let table = waivers.and_then(|value| value.get_ref().as_table());
        table.is_some_and(|table| table.iter().any(|(key, _)| key.get_ref() == name))
    };
    let mut needed = vec!["bearer_tokens", "no_par"];
    if section.value("secret").is_some() {
        needed.push("client_secret");
    } else if written("client_secret") {
        let span = waivers.map_or(entry.span.clone(), |value| value.span());
        let message = "the waiver `client_secret` excuses nothing: the client has no secret";
        reading.fault("WaiverNeedless", span, message, "leave it out");
    }
    let missing: Vec<&str> = needed.iter().copied().filter(|name| !written(name)).collect();
    if missing.is_empty() {
        return;
    }
    let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
    let dates: Vec<String> = needed.iter().map(|name| format!("{name} = \"DATE\"")).collect();
    let message = format!("`{}` is confidential and lacks {}", entry.name, names.join(" and "));
    let why = match missing.as_slice() {
        ["client_secret"] => "a shared secret is the server's to lose too: use `keys`, or",
        _ => "pushed requests and bound tokens are not built yet:",
    };
    let waivers_needed = format!("`waivers = {{ {} }}`", dates.join(", "));
    let remedy = format!("{why} accept that until a date of yours with {waivers_needed}");
    let span = waivers.map_or(entry.span.clone(), |value| value.span());
    reading.fault("WaiverMissing", span, message, remedy);
}

fn judge_first_party(reading: &mut Reading<'_>, section: &Section<'_>, redirects: &[Redirect]) {
    let https = |redirect: &Redirect| redirect.as_str().starts_with("https://");
    if redirects.iter().all(https) || reading.for_a_laptop() {
        return;
    }
    // RFC 8252 §8.6: another app may hold the same scheme, so that consent must be asked.
    let span = section.value("first_party").map_or(section.span.clone(), |value| value.span());
    let message = "`first_party` skips the consent page, which only https redirects may";
    reading.fault("FirstPartyInClear", span, message, "leave it out, or use https redirects alone");
}
