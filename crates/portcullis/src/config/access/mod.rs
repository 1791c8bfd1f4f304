//! `[api.NAME.access]`: each line read into the policy crate's drafts, every value with its place.
//!
//! Names, types and words are judged here; what a line means, and whether its names exist, is
//! judged by `portcullis_policy::compile`. A line with a fault is left out of the drafts, so that
//! one mistake is told once.

use portcullis_core::fault::Placed;
use portcullis_core::time;
use portcullis_policy::access::{AlternativeDraft, LineDraft, ScopeDraft};
use toml::de::DeValue;

mod about;

use super::known;
use super::reader::{Entry, Reading, Section, Value};

/// Most lines in a file (`7-authorization`, bounds).
const MAX_LINES: usize = 5_000;
/// Most alternatives of a line.
const MAX_ALTERNATIVES: usize = 8;

/// Reads the table of an API; without one, the API has no operations.
pub(crate) fn read(reading: &mut Reading<'_>, api: &Section<'_>) -> Vec<LineDraft> {
    let Some(value) = api.value("access") else { return Vec::new() };
    let Some(section) = Section::open_names(reading, value, "access") else { return Vec::new() };
    if section.entries().len() > MAX_LINES {
        let message = format!("more than {MAX_LINES} access lines");
        let remedy = "split the API over several instances";
        reading.fault("ListTooLong", section.span.clone(), message, remedy);
        return Vec::new();
    }
    section.entries().iter().filter_map(|entry| line(reading, entry)).collect()
}

fn line(reading: &mut Reading<'_>, entry: &Entry<'_>) -> Option<LineDraft> {
    let before = reading.faults.len();
    let alternatives = match entry.value.get_ref() {
        DeValue::Array(array) if array.is_empty() || array.len() > MAX_ALTERNATIVES => {
            let message = format!("a line has 1 to {MAX_ALTERNATIVES} alternatives");
            let remedy = "one that passes whole suffices; write fewer";
            reading.fault("AlternativesCount", entry.value.span(), message, remedy);
            return None;
        }
        DeValue::Array(array) => {
            array.iter().filter_map(|value| alternative(reading, value, entry.name)).collect()
        }
        _ => alternative(reading, entry.value, entry.name).into_iter().collect(),
    };
    (reading.faults.len() == before).then(|| LineDraft {
        key: Placed::new(entry.name.to_owned(), reading.place(entry.span.clone())),
        line: reading.line(entry.span.start),
        alternatives,
    })
}

fn alternative(
    reading: &mut Reading<'_>,
    value: &Value<'_>,
    key: &str,
) -> Option<AlternativeDraft> {
    if !value.get_ref().is_table() {
        let remedy = "write `{ allow = \"user\" }`, or a list of such tables".into();
        reading.wrong_type(value, key, "a table", remedy);
        return None;
    }
    let before = reading.faults.len();
    refuse_environment(reading, value);
    if reading.faults.len() > before {
        return None;
    }
    let section = Section::open(reading, value, &known::LINE)?;
    if section.value("allow").is_none() {
        let message = "the line allows nobody in particular: `allow` is missing";
        let remedy =
            "add `allow = \"user\"`, `\"role:x\"`, `\"service:x\"`, `\"anyone\"` or `\"nobody\"`";
        reading.fault("AllowMissing", value.span(), message, remedy);
    }
    let place = reading.place(value.span());
    let body = about::body(reading, &section);
    Some(AlternativeDraft {
        allow: section.texts(reading, "allow"),
        scope: scope(reading, &section),
        when: section.text(reading, "when"),
        from: section.texts(reading, "from"),
        until: until(reading, &section),
        public: reason(reading, &section, "public"),
        shared: reason(reading, &section, "shared"),
        undocumented: reason(reading, &section, "undocumented"),
        limit: section.text(reading, "limit"),
        limit_reason: reason(reading, &section, "limit_reason"),
        audit: audit(reading, &section),
        timeout: timeout(reading, &section),
        body_max: body.max,
        body_fields: body.fields,
        body_types: body.types,
        body_extra: body.extra,
        query: about::query(reading, &section),
        owner: about::owner(reading, &section),
        step_up: about::step_up(reading, &section),
        response: about::response(reading, &section),
        bound: section.text(reading, "bound"),
        accept: accept(reading, &section),
        via: section.texts(reading, "via"),
        ..AlternativeDraft::new(place)
    })
}

/// Who may do what never depends on the machine that the file lies on.
fn refuse_environment(reading: &mut Reading<'_>, value: &Value<'_>) {
    let Some(table) = value.get_ref().as_table() else { return };
    for (key, value) in table {
        let inner = value.get_ref().as_table();
        if inner.is_some_and(|inner| inner.iter().any(|(name, _)| name.get_ref() == "env")) {
            let message = format!("`{}` comes from the environment", key.get_ref());
            let remedy = "write the value: inside `access` everything stands in the file";
            reading.fault("VariableInAccess", value.span(), message, remedy);
        }
    }
}

fn scope(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<ScopeDraft> {
    let value = section.value("scope")?;
    if !value.get_ref().is_table() {
        return reading.string(value, "scope").map(ScopeDraft::All);
    }
    let inner = Section::open(reading, value, &known::SCOPE)?;
    let any = inner.texts(reading, "any");
    if any.is_empty() {
        inner.missing(reading, "any", "any = [\"a\", \"b\"]");
        return None;
    }
    Some(ScopeDraft::Any(any))
}

/// A date as a text, or as TOML's own.
fn until(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Placed<String>> {
    let value = section.value("until")?;
    let written = match value.get_ref() {
        DeValue::Datetime(date) => Placed::new(date.to_string(), reading.place(value.span())),
        _ => reading.string(value, "until")?,
    };
    if time::Timestamp::parse(&written.value).is_none() {
        let message = format!("`{}` is not a date", written.value);
        reading.fault("DateMalformed", value.span(), message, "write `\"2027-03-31\"`");
        return None;
    }
    Some(written)
}

/// A reason in words, which an empty text is not.
fn reason(reading: &mut Reading<'_>, section: &Section<'_>, name: &str) -> Option<Placed<String>> {
    let written = section.text(reading, name)?;
    if written.value.trim().is_empty() {
        let message = format!("`{name}` gives no reason");
        let remedy = "say why in words: the next reader will ask";
        reading.fault("ReasonEmpty", written.place.bytes, message, remedy);
        return None;
    }
    Some(written)
}

fn accept(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Placed<String>> {
    let written = section.text(reading, "accept")?;
    if written.value == "cookie" {
        let instead = "leave it out: the page's own program sends a token";
        reading.later(written.place.bytes, "accept = \"cookie\"", instead);
        return None;
    }
    Some(written)
}

fn audit(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Placed<String>> {
    let written = section.text(reading, "audit")?;
    if matches!(&*written.value, "none" | "sampled" | "all" | "full") {
        return Some(written);
    }
    let message = format!("`{}` is no level of recording", written.value);
    let remedy = known::suggest(&written.value, ["none", "sampled", "all", "full"].into_iter());
    reading.fault("AuditUnknown", written.place.bytes, message, remedy);
    None
}

fn timeout(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Placed<String>> {
    let written = section.text(reading, "timeout")?;
    if let Err(malformed) = time::duration(&written.value) {
        duration_malformed(reading, &written, malformed);
        return None;
    }
    Some(written)
}

/// Notes words that are not a duration.
pub(crate) fn duration_malformed(
    reading: &mut Reading<'_>,
    written: &Placed<String>,
    malformed: time::DurationMalformed,
) {
    let words = malformed.to_string();
    let (wrong, remedy) = words.split_once(": ").unwrap_or((&words, "write `15s`"));
    let message = format!("`{}` is {wrong}", written.value);
    reading.fault("DurationMalformed", written.place.bytes.clone(), message, remedy);
}
