//! What Cedar's strict validation, against the operation's own schema, says of a table; in the
//! words of the operator's file and with a place inside the operator's text.

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Policy, PolicySet, ValidationMode, ValidationWarning, Validator};
use portcullis_core::fault::{Fault, Place};

use crate::access::Vocabulary;
use crate::clause::Alternative;
use crate::condition::{Condition, Read, Root};
use crate::line::{inside, unknown_principal};
use crate::nearest::advice;
use crate::parameter::Parameter;
use crate::schema;

/// How far an attribute may be from its entity: `principal.account`, never further.
const LEVEL: u32 = 1;

/// What validation proves of a table that is well typed.
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
    parameters: &[Parameter],
    vocabulary: &Vocabulary,
    faults: &mut Vec<Fault>,
) {
    let Some((condition, place)) = &alternative.when else { return };
    for read in &condition.reads {
        let Some(name) = read.path.first() else { continue };
        let known = schema::names(read.root, parameters, vocabulary);
        if known.contains(name) {
            continue;
        }
        let place = spot(condition, place, read);
        let fault = match read.root {
            Root::Resource => unknown_parameter(place, name, &known),
            Root::Principal | Root::Context | Root::Action => {
                unknown_attribute(place, read.root, name, &known)
            }
        };
        faults.push(fault);
    }
    for (kind, id) in &condition.literals {
        let known = match kind.as_str() {
            "Role" => &vocabulary.roles,
            "Group" => &vocabulary.groups,
            "Service" => &vocabulary.services,
            _ => continue,
        };
        if !known.contains(id) {
            let text = format!("{kind}::\"{id}\"");
            let remedy = advice(id, known.iter().map(String::as_str), || {
                format!("add `{id}` to the file's {}s first", kind.to_ascii_lowercase())
            });
            faults.push(unknown_principal(place, &text, remedy));
        }
    }
}

/// Validates a table's policy; faults go to the operator's text where it is the operator's.
pub(crate) fn validate(
    validator: &Validator,
    policy: &Policy,
    origin: (&str, &Alternative),
    faults: &mut Vec<Fault>,
) -> Proof {
    let Ok(set) = PolicySet::from_policies([policy.clone()]) else { return Proof::Open };
    let result = validator.validate_with_level(&set, ValidationMode::Strict, LEVEL);
    let mut told: Vec<Fault> = Vec::new();
    for error in result.validation_errors() {
        let fault = type_fault(&DetailedError::from(error), origin);
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
    let place = alternative.when.as_ref().map_or(&alternative.place, |(_, place)| place);
    Fault::error(
        "ConditionMalformed",
        place.clone(),
        "the table does not make a Cedar policy".into(),
        "write one Cedar expression, as in `resource.account == principal.account`".into(),
    )
}

fn type_fault(error: &DetailedError, origin: (&str, &Alternative)) -> Fault {
    let (source, alternative) = origin;
    let message = match error.message.split_once("`, ") {
        // Cedar begins with "for policy `…`, ".
        Some((before, after)) if before.starts_with("for policy") => after,
        _ => error.message.as_str(),
    };
    let remedy = error.help.clone().unwrap_or_else(|| {
        "compare values of one type; what only some callers have goes into a table of its own"
            .into()
    });
    let place = match &alternative.when {
        Some((condition, place)) => {
            let start = source.rfind(&condition.guarded).unwrap_or(0) + condition.offset();
            error.source_locations.first().map_or(place.clone(), |spot| {
                let within = |at: usize| at.saturating_sub(start).min(condition.text.len());
                inside(place, within(spot.loc.start)..within(spot.loc.end))
            })
        }
        None => alternative.place.clone(),
    };
    let message = format!("the condition has no type: {message}");
    Fault::error("ConditionIllTyped", place, message, one_line(&remedy))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
}

fn unknown_parameter(place: Place, name: &str, known: &[String]) -> Fault {
    let designed = matches!(name, "body" | "query" | "header" | "owner");
    let remedy = if designed {
        "conditions on it are designed but not built yet: use the path's parameters".to_owned()
    } else {
        advice(name, known.iter().map(String::as_str), || match known {
            [] => "the path has no parameters: write them as `{name}`".into(),
            known => format!("the path has `{}`", known.join("`, `")),
        })
    };
    let message = format!("the path has no parameter `{name}`");
    Fault::error("UnknownParameter", place, message, remedy)
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
