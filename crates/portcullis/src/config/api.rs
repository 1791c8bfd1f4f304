//! `[api.NAME]`: where callers reach an API, where it goes on, and its document.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_core::fault::{Fault, Placed};
use portcullis_core::time;
use portcullis_core::web::{Address, Origin, Scheme};
use portcullis_gateway::snapshot::HostField;
use portcullis_identity::settings::TokenFormat;
use portcullis_policy::access::ApiDraft;
use portcullis_policy::openapi::{self, Document};

use super::access::{self, duration_malformed};
use super::identity::{address_malformed, https, named};
use super::known;
use super::reader::{Entry, Environment, Reading, Section, advised};
use super::settings::Api;

/// Most APIs in a file.
const MAX_APIS: usize = 200;

/// One API as read: its side of the wire, and its table's drafts.
pub(crate) struct Read {
    /// The wire.
    pub(crate) api: Api,
    /// The table.
    pub(crate) draft: ApiDraft,
}

/// Reads all `[api.NAME]`.
pub(crate) fn read(reading: &mut Reading<'_>, root: &Section<'_>) -> Vec<Read> {
    let Some(value) = root.value("api") else {
        root.missing(reading, "[api.NAME]", "[api.payments]` with `at`, `upstream` and `access");
        return Vec::new();
    };
    let Some(section) = Section::open_names(reading, value, "api") else { return Vec::new() };
    if section.entries().len() > MAX_APIS {
        let message = format!("more than {MAX_APIS} APIs in the file");
        let remedy = "split them over several instances";
        reading.fault("ListTooLong", section.span.clone(), message, remedy);
        return Vec::new();
    }
    // `[api]` with `at` right below it is a common slip; say once what it should have been.
    let slip = section
        .entries()
        .iter()
        .find(|entry| known::API.find(entry.name).is_some() && !entry.value.get_ref().is_table());
    if let Some(entry) = slip {
        let message = format!("`{}` belongs to one API, not to `[api]`", entry.name);
        let remedy = "write `[api.NAME]`, for example `[api.payments]`";
        reading.fault("ApiUnnamed", entry.span.clone(), message, remedy);
        return Vec::new();
    }
    let apis = section.entries().iter().filter_map(|entry| api(reading, entry)).collect();
    no_address_twice(reading, apis)
}

fn api(reading: &mut Reading<'_>, entry: &Entry<'_>) -> Option<Read> {
    let fits = named(reading, entry.name, entry.span.clone());
    let section = Section::open(reading, entry.value, &known::API)?;
    let at = at(reading, &section);
    let upstream = upstream(reading, &section);
    let host = host(reading, &section);
    let browsers = browsers(reading, &section);
    let document = document(reading, &section);
    let timeout = timeout(reading, &section);
    identity(reading, &section);
    let tokens = tokens(reading, &section);
    let details = section.texts(reading, "details");
    let details = details.into_iter().map(|written| written.value).collect();
    let mut lines = access::read(reading, &section);
    let alternatives = lines.iter_mut().flat_map(|line| line.alternatives.iter_mut());
    for alternative in alternatives.filter(|alternative| alternative.timeout.is_none()) {
        alternative.timeout.clone_from(&timeout);
    }
    let (at, name) = (at?, Placed::new(entry.name.to_owned(), reading.place(entry.span.clone())));
    let api = Api {
        name: entry.name.into(),
        at: Arc::new(at.value.clone()),
        at_place: at.place.clone(),
        upstream: upstream?,
        host,
        browsers,
        tokens,
        details,
    };
    fits.then_some(Read { api, draft: ApiDraft { name, at, document, lines } })
}

fn at(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Placed<Address>> {
    if section.value("at").is_none() {
        section.missing(reading, "at", "at = \"https://api.pay.example/v1\"");
    }
    let written = section.text_or_variable(reading, "at")?;
    let address = https(reading, &written, "at")?;
    Some(Placed::new(address, written.place))
}

fn upstream(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Address> {
    let Some(value) = section.value("upstream") else {
        section.missing(reading, "upstream", "upstream = \"http://127.0.0.1:3000\"");
        return None;
    };
    if value.get_ref().is_array() {
        let instead = "write one upstream, for example a balancer's address";
        reading.later(value.span(), "upstream = [ … ]", instead);
        return None;
    }
    let written = section.text_or_variable(reading, "upstream")?;
    let span = written.place.bytes.clone();
    if written.value.starts_with("unix:") {
        reading.later(span, "unix:", "let the upstream listen on `127.0.0.1`");
        return None;
    }
    let in_clear = section.text(reading, "in_clear");
    match Address::parse(&written.value) {
        Err(malformed) => {
            address_malformed(reading, &written, "upstream", &malformed);
            None
        }
        Ok(address) => {
            let clear = address.scheme() == Scheme::Http && !address.is_loopback();
            if clear && in_clear.is_none_or(|reason| reason.value.trim().is_empty()) {
                let message = format!("`{}` is plain http beyond this machine", written.value);
                let remedy = "write `https://…`, or say why that wire is safe with \
                              `in_clear = \"reason\"`";
                reading.fault("UpstreamInClear", span, message, remedy);
                return None;
            }
            Some(address)
        }
    }
}

fn host(reading: &mut Reading<'_>, section: &Section<'_>) -> HostField {
    let Some(written) = section.text(reading, "host") else { return HostField::Upstream };
    match &*written.value {
        "upstream" => HostField::Upstream,
        "keep" => HostField::Keep,
        other => {
            let message = format!("`{other}` is no choice for `host`");
            let remedy = "write `\"upstream\"` (its own name) or `\"keep\"` (the caller's)";
            reading.fault("HostUnknown", written.place.bytes, message, remedy);
            HostField::Upstream
        }
    }
}

fn browsers(reading: &mut Reading<'_>, section: &Section<'_>) -> Vec<Origin> {
    let Some(value) = section.value("browsers") else { return Vec::new() };
    let mut origins = Vec::new();
    for written in reading.strings(value, "browsers", Environment::Allowed) {
        let span = written.place.bytes.clone();
        match Origin::parse(&written.value) {
            Ok(_) if written.value.starts_with("http://") && !reading.for_a_laptop() => {
                let message = format!("`{}` is not https", written.value);
                let remedy = "write `https://…`; `http://localhost` works under `serve --dev`";
                reading.fault("OriginInClear", span, message, remedy);
            }
            Ok(origin) => origins.push(origin),
            Err(malformed) => {
                let (wrong, remedy) = advised(malformed.0);
                let message = format!("`{}`: {wrong}", written.value);
                reading.fault("OriginMalformed", span, message, remedy);
            }
        }
    }
    origins
}

/// The document, read through the policy crate's narrow view; its faults point into it.
fn document(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Placed<Document>> {
    let path = section.text(reading, "openapi")?;
    let bytes = reading.load(&path)?;
    let Ok(text) = String::from_utf8(bytes) else {
        let message = format!("`{}` is not UTF-8", path.value);
        reading.fault("DocumentMalformed", path.place.bytes, message, "save it as UTF-8");
        return None;
    };
    let document = openapi::read(&path.value, &text);
    reading.sources.insert(path.value.as_str().into(), text.into());
    match document {
        Ok(document) => Some(Placed::new(document, path.place)),
        Err(fault) => {
            // A fault that stands nowhere in the document points at the key that names it.
            let place = fault.place.clone().unwrap_or(path.place);
            reading.faults.push(Fault { place: Some(place), ..fault });
            None
        }
    }
}

fn timeout(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Placed<String>> {
    let written = section.text(reading, "timeout")?;
    match time::duration(&written.value) {
        Ok(_) => Some(written),
        Err(malformed) => {
            duration_malformed(reading, &written, malformed);
            None
        }
    }
}

fn identity(reading: &mut Reading<'_>, section: &Section<'_>) {
    let Some(written) = section.text(reading, "identity") else { return };
    if written.value != "token" {
        let what = format!("identity = \"{}\"", written.value);
        let instead = "leave it out: the upstream gets the signed `Portcullis-Identity`";
        reading.later(written.place.bytes, &what, instead);
    }
}

fn tokens(reading: &mut Reading<'_>, section: &Section<'_>) -> TokenFormat {
    let Some(written) = section.text(reading, "tokens") else { return TokenFormat::Jwt };
    match &*written.value {
        "jwt" => TokenFormat::Jwt,
        "opaque" => TokenFormat::Opaque,
        other => {
            let message = format!("`{other}` is no form of token");
            let remedy = "write `\"jwt\"`, or `\"opaque\"` when clients shall not read them";
            reading.fault("TokensUnknown", written.place.bytes, message, remedy);
            TokenFormat::Jwt
        }
    }
}

/// The longest `at` owns a path, so that two equal ones would leave one API unreachable.
fn no_address_twice(reading: &mut Reading<'_>, apis: Vec<Read>) -> Vec<Read> {
    let mut seen: BTreeMap<String, Arc<str>> = BTreeMap::new();
    let mut kept = Vec::new();
    for read in apis {
        match seen.insert(read.api.at.to_string(), read.api.name.clone()) {
            None => kept.push(read),
            Some(other) => {
                let message = format!("`{}` is already the address of `{other}`", read.api.at);
                let remedy = "give each API a host or a path of its own";
                reading.fault("AddressTwice", read.api.at_place.bytes, message, remedy);
            }
        }
    }
    kept
}
