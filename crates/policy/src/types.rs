//! What Cedar's strict validation, against the operation's own schema, says of a table or of a policy
//! in a file; in the words of the operator's file and with a place inside the operator's text.

use std::sync::Arc;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Policy, PolicySet, ValidationMode, ValidationWarning, Validator};
use portcullis_core::fault::{Fault, Place};

use crate::access::Vocabulary;
use crate::cedar_files::FilePolicy;
use crate::clause::Alternative;
use crate::condition::{Access, Condition, Read, Root};
use crate::declared::Declared;
use crate::line::{inside, unknown_principal};
use crate::nearest::advice;
use crate::schema;

/// How far an attribute may be from its entity: `principal.account`, never further.
const LEVEL: u32 = 1;

/// What validation proves of a policy that is well typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing.
    Open,
    /// It is false for every caller.
    Impossible,
}

/// Refuses names that the operation, the caller or the file do not have.
pub(crate) fn check_names(
    alternative: &Alternative,
    declared: &Declared,
    vocabulary: &Vocabulary,
    faults: &mut Vec<Fault>,
) {
    for (condition, place) in alternative.conditions() {
        for read in condition.reads.iter().filter(|read| !read.path.is_empty()) {
            let known = schema::names(read.root, declared, vocabulary);
            let fault = match (read.root, read.path.first()) {
                (Root::Resource, _) if declared.member(&read.path).is_none() => {
                    unknown_parameter(spot(condition, place, read), read, &known)
                }
                (Root::Principal | Root::Context | Root::Action, Some(name))
                    if !known.contains(name) =>
                {
                    unknown_attribute(spot(condition, place, read), read.root, name, &known)
                }
                _ => continue,
            };
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        for (kind, id) in &condition.literals {
            faults.extend(unknown_literal((kind, id), vocabulary, place));
        }
    }
}

/// A role, group or service that the file does not know.
pub(crate) fn unknown_literal(
    (kind, id): (&str, &str),
    vocabulary: &Vocabulary,
    place: &Place,
) -> Option<Fault> {
    let known = match kind {
        "Role" => &vocabulary.roles,
        "Group" => &vocabulary.groups,
        "Service" => &vocabulary.services,
        _ => return None,
    };
    if known.iter().any(|one| one == id) {
        return None;
    }
    let remedy = advice(id, known.iter().map(String::as_str), || {
        format!("add `{id}` to the file's {}s first", kind.to_ascii_lowercase())
    });
    Some(unknown_principal(place, &format!("{kind}::\"{id}\""), remedy))
}

/// Whose text a policy is.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'o> {
    /// A table's, with its Cedar source.
    Table(&'o Alternative, &'o str),
    /// A file's, with the operation that it is validated for.
    File(&'o FilePolicy, &'o str),
}

/// Validates a policy; faults go to the operator's text where it is the operator's.
pub(crate) fn validate(
    validator: &Validator,
    policy: &Policy,
    origin: Origin<'_>,
    faults: &mut Vec<Fault>,
) -> Proof {
    let Ok(set) = PolicySet::from_policies([policy.clone()]) else { return Proof::Open };
    let result = validator.validate_with_level(&set, ValidationMode::Strict, LEVEL);
    let mut told: Vec<Fault> = Vec::new();
    for error in result.validation_errors() {
        let error = DetailedError::from(error);
        let fault = match origin {
            Origin::Table(alternative, source) => type_fault(&error, alternative, source),
            Origin::File(policy, operation) => file_fault(&error, policy, operation),
        };
        // Once per kind of principal that the table allows: said once.
        if !told.contains(&fault) {
            told.push(fault);
        }
    }
    faults.extend(told);
    let impossible = result
        .validation_warnings()
        .any(|warning| matches!(warning, ValidationWarning::ImpossiblePolicy(_)));
    if impossible { Proof::Impossible } else { Proof::Open }
}

/// A policy of ours that does not parse: a condition that is an expression alone but not in place.
pub(crate) fn unreadable(alternative: &Alternative) -> Fault {
    let place = alternative.conditions().next().map_or(&alternative.place, |(_, place)| place);
    Fault::error(
        "ConditionMalformed",
        place.clone(),
        "the table does not make a Cedar policy".into(),
        "write one Cedar expression, as in `resource.account == principal.account`".into(),
    )
}

fn type_fault(error: &DetailedError, alternative: &Alternative, source: &str) -> Fault {
    let remedy = error.help.clone().unwrap_or_else(|| {
        "compare values of one type; what only some callers have goes into a table of its own"
            .into()
    });
    let spot = error.source_locations.first().map(|spot| spot.loc.start..spot.loc.end);
    let within = alternative.conditions().find_map(|(condition, place)| {
        let (start, spot) = (condition.offset_in(source)?, spot.clone()?);
        let end = start + condition.text.len();
        let inner = spot.start >= start && spot.start < end;
        inner.then(|| inside(place, spot.start - start..spot.end.min(end) - start))
    });
    let first = alternative.conditions().next().map(|(_, place)| place.clone());
    let place = within.or(first).unwrap_or_else(|| alternative.place.clone());
    let message = format!("the condition has no type: {}", said(error));
    Fault::error("ConditionIllTyped", place, message, one_line(&remedy))
}

fn file_fault(error: &DetailedError, policy: &FilePolicy, operation: &str) -> Fault {
    let (in_source, in_file) = policy.conditions_at;
    let bytes = match error.source_locations.first() {
        Some(spot) if spot.loc.start >= in_source => {
            let at = |offset: usize| (offset - in_source + in_file).min(policy.place.bytes.end);
            at(spot.loc.start)..at(spot.loc.end)
        }
        Some(_) | None => policy.place.bytes.clone(),
    };
    let remedy = "guard it, as in `resource has x && resource.x == …`, or name the operations that \
                  have it in the head";
    Fault::error(
        "ConditionIllTyped",
        Place { file: Arc::clone(&policy.place.file), bytes },
        format!("the policy has no type for `{operation}`: {}", said(error)),
        error.help.as_ref().map_or_else(|| remedy.into(), |help| one_line(help)),
    )
}

/// Cedar begins with "for policy `…`, ".
fn said(error: &DetailedError) -> &str {
    match error.message.split_once("`, ") {
        Some((before, after)) if before.starts_with("for policy") => after,
        _ => error.message.as_str(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
}

fn unknown_parameter(place: Place, read: &Read, known: &[String]) -> Fault {
    let name = read.path.join(".");
    let nested = known.iter().any(|one| one.starts_with(&format!("{name}.")));
    let remedy = match read.path.first().map(String::as_str) {
        _ if nested => match read.access {
            Access::Value => format!("it is an object: read a member of it, as in `{name}.x`"),
            Access::Presence => {
                format!("it is an object: ask for a member of it, as in `resource has {name}.x`")
            }
        },
        Some("owner") => "say how it is found, in `owner = { lookup = …, field = … }`".into(),
        Some("query") => declare(&name, known, "query = { x = \"string\" }"),
        Some("body") => declare(&name, known, "body = { fields = { x = \"string\" } }"),
        Some("header") => advice(&name, known.iter().map(String::as_str), || {
            "the document has to declare the header".into()
        }),
        Some(_) | None => advice(&name, known.iter().map(String::as_str), || match known {
            [] => "the path has no parameters: write them as `{name}`".into(),
            known => format!("there is `{}`", known.join("`, `")),
        }),
    };
    let message = format!("there is no `resource.{name}`");
    Fault::error("UnknownParameter", place, message, remedy)
}

fn declare(name: &str, known: &[String], how: &str) -> String {
    advice(name, known.iter().map(String::as_str), || {
        format!("declare it in the document, or in the line with `{how}`")
    })
}

fn unknown_attribute(place: Place, root: Root, name: &str, known: &[String]) -> Fault {
    let root = root.name();
    let remedy = advice(name, known.iter().map(String::as_str), || {
        if root == "principal" {
            format!("declare `{name}` under `[identity.attributes]`")
        } else {
            format!("write one of `{}`", known.join("`, `"))
        }
    });
    let message = format!("there is no `{root}.{name}`");
    Fault::error("UnknownAttribute", place, message, remedy)
}

/// Where an attribute is read: its first mention, or the whole condition when it is spelled as
/// `principal["account"]`.
fn spot(condition: &Condition, place: &Place, read: &Read) -> Place {
    let name = read.name();
    let mentioned = condition.text.match_indices(&name).find(|(at, _)| {
        let after = condition.text.get(at + name.len()..).and_then(|rest| rest.chars().next());
        !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    match mentioned {
        Some((at, _)) => inside(place, at..at + name.len()),
        None => place.clone(),
    }
}
