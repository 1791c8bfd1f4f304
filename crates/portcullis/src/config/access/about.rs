//! The keys of a line that speak of the request's content: `body`, `query`, `owner`, `step_up`,
//! `response`. Read into drafts with their places; what a type or a word means is policy's.

use portcullis_core::fault::Placed;
use portcullis_policy::access::{FieldGroupDraft, OwnerDraft, StepUpDraft};
use toml::de::DeValue;

use crate::config::known;
use crate::config::reader::{Environment, Reading, Section, Value};
use crate::config::words;

/// What `body` says.
#[derive(Default)]
pub(super) struct Body {
    pub(super) max: Option<Placed<u64>>,
    pub(super) fields: Vec<(Placed<String>, Placed<String>)>,
    pub(super) types: Vec<Placed<String>>,
    pub(super) extra: Option<Placed<String>>,
}

/// `body = "10MiB"`, or `body = { max, types, extra, fields }`.
pub(super) fn body(reading: &mut Reading<'_>, section: &Section<'_>) -> Body {
    let Some(value) = section.value("body") else { return Body::default() };
    if !value.get_ref().is_table() {
        return Body { max: size(reading, value, "body"), ..Body::default() };
    }
    let Some(inner) = Section::open(reading, value, &known::BODY) else { return Body::default() };
    Body {
        max: inner.value("max").and_then(|max| size(reading, max, "max")),
        fields: inner.value("fields").map(|one| typed(reading, one, "fields")).unwrap_or_default(),
        types: inner.texts(reading, "types"),
        extra: inner.text(reading, "extra"),
    }
}

/// `query = { status = "string" }`, or the names alone, which are strings then.
pub(super) fn query(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
) -> Vec<(Placed<String>, Placed<String>)> {
    let Some(value) = section.value("query") else { return Vec::new() };
    if value.get_ref().is_table() {
        return typed(reading, value, "query");
    }
    let names = reading.strings(value, "query", Environment::Refused);
    let text = |name: Placed<String>| {
        let kind = Placed::new("string".to_owned(), name.place.clone());
        (name, kind)
    };
    names.into_iter().map(text).collect()
}

/// `{ name = "type" }`.
fn typed(
    reading: &mut Reading<'_>,
    value: &Value<'_>,
    what: &str,
) -> Vec<(Placed<String>, Placed<String>)> {
    let Some(section) = Section::open_names(reading, value, what) else { return Vec::new() };
    let mut fields = Vec::new();
    for entry in section.entries() {
        let Some(kind) = reading.string(entry.value, entry.name) else { continue };
        let name = Placed::new(entry.name.to_owned(), reading.place(entry.span.clone()));
        fields.push((name, kind));
    }
    fields
}

/// `owner = { lookup, field }`.
pub(super) fn owner(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<OwnerDraft> {
    let inner = Section::open(reading, section.value("owner")?, &known::OWNER)?;
    for (name, example) in
        [("lookup", "lookup = \"GET /internal/owner/{id}\""), ("field", "field = \"/owner\"")]
    {
        if inner.value(name).is_none() {
            inner.missing(reading, name, example);
        }
    }
    let (lookup, field) = (inner.text(reading, "lookup"), inner.text(reading, "field"));
    Some(OwnerDraft { lookup: lookup?, field: field? })
}

/// `step_up = "mfa within 5m"`, or `{ need, when }`.
pub(super) fn step_up(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<StepUpDraft> {
    let value = section.value("step_up")?;
    if !value.get_ref().is_table() {
        let need = reading.string(value, "step_up")?;
        return Some(StepUpDraft { need, when: None });
    }
    let inner = Section::open(reading, value, &known::STEP_UP)?;
    if inner.value("need").is_none() {
        inner.missing(reading, "need", "need = \"mfa within 5m\"");
    }
    let (need, when) = (inner.text(reading, "need"), inner.text(reading, "when"));
    Some(StepUpDraft { need: need?, when })
}

/// `response = ["id"]`, or `{ all = ["id"], "role:x" = ["iban"] }`.
pub(super) fn response(reading: &mut Reading<'_>, section: &Section<'_>) -> Vec<FieldGroupDraft> {
    let Some(value) = section.value("response") else { return Vec::new() };
    if !value.get_ref().is_table() {
        let members = reading.strings(value, "response", Environment::Refused);
        return vec![FieldGroupDraft { to: None, members }];
    }
    let Some(inner) = Section::open_names(reading, value, "response") else { return Vec::new() };
    let mut groups = Vec::new();
    for entry in inner.entries() {
        let members = reading.strings(entry.value, entry.name, Environment::Refused);
        let to = Placed::new(entry.name.to_owned(), reading.place(entry.span.clone()));
        groups.push(FieldGroupDraft { to: (entry.name != "all").then_some(to), members });
    }
    groups
}

fn size(reading: &mut Reading<'_>, value: &Value<'_>, what: &str) -> Option<Placed<u64>> {
    if !matches!(value.get_ref(), DeValue::String(_)) {
        let remedy = format!("write `{what} = \"64KiB\"`");
        reading.wrong_type(value, what, "a size in quotes", remedy);
        return None;
    }
    let written = reading.string(value, what)?;
    let bytes = words::size(&written.value);
    if bytes.is_none() {
        let message = format!("`{}` is not a size", written.value);
        let remedy = "write a whole number and a unit, `\"64KiB\"` or `\"10MiB\"`";
        reading.fault("SizeMalformed", written.place.bytes.clone(), message, remedy);
    }
    bytes.map(|bytes| Placed::new(bytes, written.place))
}
