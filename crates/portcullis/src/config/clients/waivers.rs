//! Waivers: dated exceptions from FAPI 2.0, the default of confidential clients.

use portcullis_core::client::{ClientType, Waivers};
use portcullis_core::time::Timestamp;
use toml::de::DeValue;

use super::super::known;
use super::super::reader::{Entry, Reading, Section, Value};

/// Reads `waivers = { … }`.
pub(super) fn read(reading: &mut Reading<'_>, section: &Section<'_>) -> Waivers {
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

/// A secret needs its waiver, and no waiver may excuse nothing.
pub(super) fn judge(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
    entry: &Entry<'_>,
    kind: ClientType,
) {
    let waivers = section.value("waivers");
    if matches!(kind, ClientType::Spa | ClientType::Native | ClientType::Device) {
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
    let has_secret = section.value("secret").is_some();
    let span = waivers.map_or(entry.span.clone(), |value| value.span());
    match (has_secret, written("client_secret")) {
        (true, false) => {
            let message = format!("`{}` has a secret and no waiver for it", entry.name);
            let remedy = "a shared secret is the server's to lose too: use `keys`, or accept that \
                          until a date of yours with `waivers = { client_secret = \"DATE\" }`";
            reading.fault("WaiverMissing", span, message, remedy);
        }
        (false, true) => {
            let message = "the waiver `client_secret` excuses nothing: the client has no secret";
            reading.fault("WaiverNeedless", span, message, "leave it out");
        }
        (true, true) | (false, false) => {}
    }
}
