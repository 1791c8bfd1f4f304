//! What a line says besides who may call: limits, timeout, body, records, and what of an answer goes
//! out. All of it belongs to the operation, so the tables of one line may not contradict each other.

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::fault::{Fault, Placed};
use portcullis_core::time::duration;

use crate::access::{AlternativeDraft, LineDraft, Vocabulary};
use crate::compile::{AuditLevel, OwnerLookup};
use crate::credential::{self, Accepts};
use crate::line::Around;
use crate::nearest::advice;
use crate::owner;
use crate::response::{self, Response};
use crate::shape::LineKey;

/// First-byte timeout unless written.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest first-byte timeout.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// Largest body unless written.
pub(crate) const DEFAULT_BODY_MAX: u64 = 1024 * 1024;

/// What a line says besides who may call.
pub(crate) struct Settings {
    pub(crate) limits: Vec<Arc<str>>,
    pub(crate) timeout: Duration,
    pub(crate) body_max: u64,
    /// Largest judged body, where the line says it.
    pub(crate) body_written: Option<Placed<u64>>,
    pub(crate) body_types: Vec<Box<str>>,
    pub(crate) audit: AuditLevel,
    pub(crate) accepts: Accepts,
    pub(crate) owner: Option<OwnerLookup>,
    pub(crate) response: Option<Response>,
}

/// Settings belong to the operation: tables of one line may not differ in them.
pub(crate) fn read(
    draft: &LineDraft,
    key: Option<&LineKey>,
    around: Around<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Settings> {
    let before = faults.len();
    let vocabulary = around.vocabulary;
    let tables = &draft.alternatives;
    let audit = one_of(tables.iter().filter_map(|table| table.audit.as_ref()), "audit", faults);
    let timeout =
        one_of(tables.iter().filter_map(|table| table.timeout.as_ref()), "timeout", faults);
    let body = one_of(tables.iter().filter_map(|table| table.body_max.as_ref()), "body", faults);
    let settings = Settings {
        limits: read_limits(tables, vocabulary, faults),
        timeout: timeout.map_or(DEFAULT_TIMEOUT, |words| read_timeout(words, faults)),
        body_max: body.map_or(DEFAULT_BODY_MAX, |body| body.value),
        body_written: body.cloned(),
        body_types: read_body_types(tables, faults),
        audit: audit.map_or(AuditLevel::All, |word| read_audit(word, faults)),
        accepts: credential::read_accept(draft, faults),
        owner: owner::read_line(draft, key.map(|key| &key.shape), faults),
        response: response::read_line(draft, vocabulary, faults),
    };
    (faults.len() == before).then_some(settings)
}

/// The union of what the tables name.
fn read_body_types(tables: &[AlternativeDraft], faults: &mut Vec<Fault>) -> Vec<Box<str>> {
    let mut types: Vec<Box<str>> = Vec::new();
    for word in tables.iter().flat_map(|table| &table.body_types) {
        // RFC 9110 §8.3.1: a type and a subtype, both tokens (§5.6.2); parameters take no part.
        let is_token = |part: &str| {
            let known = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$&-^_.+".contains(&byte)
            };
            !part.is_empty() && part.bytes().all(known)
        };
        let parts = word.value.split_once('/');
        if !parts.is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype)) {
            faults.push(Fault::error(
                "MediaTypeMalformed",
                word.place.clone(),
                format!("`{}` is not a media type", word.value),
                "write type and subtype in lower case, as in `application/json`".into(),
            ));
        } else if !types.iter().any(|known| **known == *word.value) {
            types.push(word.value.as_str().into());
        }
    }
    types
}

fn one_of<'d, T: PartialEq>(
    mut written: impl Iterator<Item = &'d Placed<T>>,
    key: &str,
    faults: &mut Vec<Fault>,
) -> Option<&'d Placed<T>> {
    let first = written.next()?;
    if let Some(other) = written.find(|other| other.value != first.value) {
        faults.push(Fault::error(
            "SettingDiffers",
            other.place.clone(),
            format!("the tables of one line differ in `{key}`"),
            format!("write the same `{key}` in each, or in one of them"),
        ));
    }
    Some(first)
}

fn read_limits(
    tables: &[AlternativeDraft],
    vocabulary: &Vocabulary,
    faults: &mut Vec<Fault>,
) -> Vec<Arc<str>> {
    let mut limits: Vec<Arc<str>> = Vec::new();
    for table in tables {
        let Some(limit) = &table.limit else { continue };
        check_limit(table, limit, vocabulary, faults);
        if !limits.iter().any(|known| **known == *limit.value) {
            limits.push(limit.value.as_str().into());
        }
    }
    // A table without a limit of its own, or one that has one, is never freed by another's `none`.
    if limits.len() > 1 || tables.iter().any(|table| table.limit.is_none()) {
        limits.retain(|limit| &**limit != "none");
    }
    limits
}

fn check_limit(
    table: &AlternativeDraft,
    limit: &Placed<String>,
    vocabulary: &Vocabulary,
    faults: &mut Vec<Fault>,
) {
    let name = limit.value.as_str();
    if name == "none" {
        if table.limit_reason.is_none() {
            faults.push(Fault::error(
                "LimitReasonMissing",
                limit.place.clone(),
                "`limit = \"none\"` without a reason".into(),
                "say why in `limit_reason`, or name a limit".into(),
            ));
        }
        return;
    }
    match vocabulary.limits.iter().find(|(known, _)| known == name) {
        None => {
            let candidates = vocabulary.limits.iter().map(|(known, _)| known.as_str());
            let remedy = advice(name, candidates, || "define it under `[limits]`".into());
            let message = format!("there is no limit `{name}`");
            faults.push(Fault::error("UnknownLimit", limit.place.clone(), message, remedy));
        }
        Some((_, true)) if table.allow.iter().any(|word| word.value == "anyone") => {
            faults.push(Fault::error(
                "IdentityLimitOnAnyone",
                limit.place.clone(),
                format!("the limit `{name}` counts identities, and `anyone` has none"),
                "name a limit `per ip`, or write `allow = \"user\"`".into(),
            ));
        }
        Some(_) => {}
    }
}

fn read_timeout(words: &Placed<String>, faults: &mut Vec<Fault>) -> Duration {
    match duration(&words.value) {
        Ok(timeout) if timeout > Duration::ZERO && timeout <= MAX_TIMEOUT => return timeout,
        Ok(_) | Err(_) => faults.push(Fault::error(
            "TimeoutMalformed",
            words.place.clone(),
            format!("`{}` is not a timeout", words.value),
            "write a duration of at most 10 minutes, as in `15s`".into(),
        )),
    }
    DEFAULT_TIMEOUT
}

fn read_audit(word: &Placed<String>, faults: &mut Vec<Fault>) -> AuditLevel {
    match word.value.as_str() {
        "none" => AuditLevel::None,
        "sampled" => AuditLevel::Sampled,
        "all" => AuditLevel::All,
        "full" => AuditLevel::Full,
        other => {
            let remedy = advice(other, ["none", "sampled", "all", "full"], || {
                "write `none`, `sampled`, `all` or `full`".into()
            });
            let message = format!("`{other}` is not a way to audit");
            faults.push(Fault::error("AuditUnknown", word.place.clone(), message, remedy));
            AuditLevel::All
        }
    }
}
