//! `[clients]`: the software that may ask for tokens, as the file registers it.
//!
//! What is left out follows from the type, and is the strict choice: a confidential client is held
//! to FAPI 2.0 unless dated waivers say otherwise.

mod authentication;
mod further;
mod waivers;

use std::ops::Range;
use std::sync::Arc;

use portcullis_core::client::{ClientRecord, ClientType};
use portcullis_core::fault::Placed;
use portcullis_core::id::Id;
use portcullis_core::scope::Scopes;
use portcullis_core::web::Redirect;

use super::identity::scope_named;
use super::known;
use super::reader::{Entry, Environment, Reading, Section, advised};

/// Most clients in a file; others live in the store.
const MAX_CLIENTS: usize = 1_000;
/// Most redirects of a client.
const MAX_REDIRECTS: usize = 64;

/// A client, and where its name stands.
pub(crate) struct Written {
    /// The client.
    pub(crate) client: Arc<ClientRecord>,
    /// Its name's place.
    pub(crate) span: Range<usize>,
}

/// Reads `[clients]`.
pub(crate) fn read(reading: &mut Reading<'_>, root: &Section<'_>) -> Vec<Written> {
    let Some(value) = root.value("clients") else { return Vec::new() };
    let Some(section) = Section::open_names(reading, value, "clients") else { return Vec::new() };
    if section.entries().len() > MAX_CLIENTS {
        let message = format!("more than {MAX_CLIENTS} clients in the file");
        let remedy = "keep them in the store, with `portcullis client add`";
        reading.fault("ListTooLong", section.span.clone(), message, remedy);
        return Vec::new();
    }
    let entries = section.entries().iter();
    entries
        .filter_map(|entry| {
            let client = Arc::new(client(reading, entry)?);
            Some(Written { client, span: entry.span.clone() })
        })
        .collect()
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
    let waivers = waivers::read(reading, &section);
    // What follows depends on the type; without one, further faults would be guesses.
    let kind = kind?;
    let redirects = redirects(reading, &section, kind);
    let authentication = authentication::read(reading, &section, kind);
    waivers::judge(reading, &section, entry, kind);
    let first_party = section.value("first_party").is_some_and(|v| reading.flag(v, "first_party"));
    if first_party {
        judge_first_party(reading, &section, &redirects);
    }
    let base = ClientRecord::new(id.ok()?, kind, authentication?);
    let client = ClientRecord { redirects, scopes, waivers, first_party, ..base };
    Some(further::read(reading, &section, client))
}

fn kind(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<ClientType> {
    if section.value("type").is_none() {
        section.missing(
            reading,
            "type",
            "type = \"spa\"`, `\"native\"`, `\"web\"`, `\"service\"` or `\"device\"",
        );
    }
    let written = section.text(reading, "type")?;
    match &*written.value {
        "spa" => Some(ClientType::Spa),
        "native" => Some(ClientType::Native),
        "web" => Some(ClientType::Web),
        "service" => Some(ClientType::Service),
        "device" => Some(ClientType::Device),
        "browser" => {
            let what = format!("type = \"{}\"", written.value);
            let instead = "write `\"spa\"` or `\"web\"` (people), `\"service\"` (software)";
            reading.later(written.place.bytes, &what, instead);
            None
        }
        other => {
            let message = format!("`{other}` is not a type of client");
            let remedy =
                known::suggest(other, ["spa", "native", "web", "service", "device"].into_iter());
            reading.fault("ClientTypeUnknown", written.place.bytes, message, remedy);
            None
        }
    }
}

fn scopes(reading: &mut Reading<'_>, section: &Section<'_>) -> Scopes {
    let mut tokens = Vec::new();
    for written in section.texts(reading, "scopes") {
        let span = written.place.bytes.clone();
        if scope_named(reading, &written.value, span) {
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
        if !matches!(kind, ClientType::Service | ClientType::Device) {
            section.missing(reading, "redirect", "redirect = [\"https://app.pay.example/cb\"]");
        }
        return Vec::new();
    };
    if matches!(kind, ClientType::Service | ClientType::Device) {
        let message = "a `service` or a `device` is never redirected to";
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
