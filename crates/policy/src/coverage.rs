//! `check`: the access matrix, and every gap.

use portcullis_core::fault::Fault;

use crate::access::{ApiDraft, Vocabulary};
use crate::clause::{Alternative, Grants, Objects, Principal};
use crate::compile::{Entry, Rules};
use crate::line::Closed;

/// One row of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// The API.
    pub api: String,
    /// `GET /accounts/{account}`.
    pub operation: String,
    /// Whether `anyone`, a plain `user`, a plain `service` can pass: `yes`, `no`, or `if`
    /// (conditions). Scopes stand in a column of their own and do not make an `if`.
    pub anyone: String,
    /// See `anyone`.
    pub user: String,
    /// See `anyone`.
    pub service: String,
    /// Roles, groups, and named services that the line adds; `nobody` or `REVIEW` when it is closed.
    pub named: String,
    /// Scopes asked for.
    pub scope: String,
    /// Conditions in words.
    pub condition: String,
    /// Limits.
    pub limit: String,
}

/// The matrix, in the file's order.
pub fn matrix(rules: &Rules) -> Vec<Row> {
    rules.entries.iter().map(row).collect()
}

/// Every gap of the files: `OperationWithoutRule ReviewPending PublicWithoutReason ObjectUnbound
/// RuleShadowed WeakerThanDocument NeverSatisfiable` (`7-authorization`). What is an error
/// (`RuleWithoutOperation`, `UnknownScope` …) never got past [`crate::compile::compile`].
///
/// `FactorUnavailable ForbidNeverFires PermitOutsideTable ResponseFieldUnknown InvariantRefuted
/// InvariantUnproven ExpectationFailed` belong to keys that are not built.
pub fn gaps(apis: &[ApiDraft], rules: &Rules, vocabulary: &Vocabulary) -> Vec<Fault> {
    crate::gaps::find(apis, rules, vocabulary)
}

fn row(entry: &Entry) -> Row {
    let operation = &entry.operation;
    let tables = &entry.alternatives;
    let limits: Vec<&str> = operation.limits.iter().map(|limit| &**limit).collect();
    Row {
        api: operation.api.to_string(),
        operation: operation.key.to_string(),
        anyone: passes(tables, &[Principal::Anyone]),
        // On a line for `anyone` nobody is asked who they are, so everybody passes.
        user: passes(tables, &[Principal::User, Principal::Anyone]),
        service: passes(tables, &[Principal::Service, Principal::Anyone]),
        named: entry.closed.map_or_else(|| named(tables), closed),
        scope: joined(tables.iter().filter_map(|t| t.scope.as_ref()).map(|scope| scope.words())),
        condition: joined(
            tables
                .iter()
                .filter_map(conditions)
                .chain(operation.accepts_key.then(|| "an API key will do".to_owned())),
        ),
        limit: if limits.is_empty() { "default".to_owned() } else { limits.join(", ") },
    }
}

fn passes(tables: &[Alternative], principals: &[Principal]) -> String {
    let mut admitting = tables
        .iter()
        .filter(|table| table.allow.iter().any(|allowed| principals.contains(allowed)))
        .peekable();
    // A token that must be bound is not any token.
    let plain = |table: &Alternative| table.is_pure() && table.bound.is_none();
    match (admitting.peek().is_some(), admitting.any(plain)) {
        (false, _) => "no".to_owned(),
        (true, true) => "yes".to_owned(),
        (true, false) => "if".to_owned(),
    }
}

fn named(tables: &[Alternative]) -> String {
    let plain = [Principal::Anyone, Principal::User, Principal::Service];
    let names = tables.iter().flat_map(|table| &table.allow);
    joined(names.filter(|name| !plain.contains(name)).map(Principal::words))
}

fn closed(closed: Closed) -> String {
    match closed {
        Closed::Nobody => "nobody".to_owned(),
        Closed::Review => "REVIEW".to_owned(),
        Closed::ReviewPublic => "REVIEW-PUBLIC".to_owned(),
    }
}

fn conditions(table: &Alternative) -> Option<String> {
    let mut words: Vec<String> = Vec::new();
    words.extend(table.bound.map(|bound| format!("bound by {}", bound.words())));
    if !table.via.is_empty() {
        words.push(format!("also via {}", table.via.join(", ")));
    }
    words.extend(table.when.as_ref().map(|(condition, _)| condition.text.clone()));
    if !table.from.is_empty() {
        let networks: Vec<String> = table.from.iter().map(ToString::to_string).collect();
        words.push(format!("from {}", networks.join(" or ")));
    }
    words.extend((table.objects == Objects::CallersOwn).then(|| "the owner's own".to_owned()));
    words.extend(table.step_up.as_ref().map(|step_up| step_up.words()));
    words.extend((table.grants == Grants::Files).then(|| "as Cedar files permit".to_owned()));
    words.extend(table.until.as_ref().map(|(_, date)| format!("until {date}")));
    (!words.is_empty()).then(|| words.join(" and "))
}

/// Without doubles, in order.
fn joined(words: impl Iterator<Item = String>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for word in words {
        if !seen.contains(&word) {
            seen.push(word);
        }
    }
    seen.join(" | ")
}

#[cfg(test)]
#[path = "coverage_tests.rs"]
mod tests;
