//! Cedar files of `[policy] policies`: read policy by policy, each with its place, and what its head
//! says it is about. A `forbid` counts everywhere; a `permit` only where a line says
//! `allow = "policy"`.
//!
//! The head chooses operations and kinds of caller here, once; what is left of it (`principal is
//! User in Role::"x"`) is judged with every request. Types are [`crate::types`]'s to judge, against
//! each operation that a policy touches.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PrincipalConstraint, ResourceConstraint,
};
use portcullis_core::fault::{Fault, Place};

use crate::access::{PolicyFile, Vocabulary};
use crate::compile::{MAX_POLICIES, MAX_POLICY_FILE_BYTES};
use crate::condition::{MAX_CONDITION_BYTES, MAX_CONDITION_DEPTH, Root, Survey};
use crate::nearest::advice;
use crate::schema::PrincipalKind;
use crate::split::{Piece, split};
use crate::types::unknown_literal;

/// Longest head, in bytes: it may list actions.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// One policy of a file.
pub(crate) struct FilePolicy {
    /// `file.cedar:line`.
    pub(crate) id: Arc<str>,
    /// From its annotations to its `;`.
    pub(crate) place: Place,
    pub(crate) effect: Effect,
    /// With an open action: what decides, and what is validated.
    pub(crate) policy: Policy,
    /// The source of `policy`, and how far its conditions stand from those of the file.
    pub(crate) source: String,
    /// Where the conditions begin, in `source` and in the file.
    pub(crate) conditions_at: (usize, usize),
    /// The actions and groups that its head names; `None`: any.
    pub(crate) actions: Option<Vec<String>>,
    /// The role, group or tenant that its head names.
    pub(crate) parent: Option<EntityUid>,
    /// The kinds of caller that its head leaves.
    pub(crate) kinds: Vec<PrincipalKind>,
    /// What its conditions read.
    pub(crate) survey: Survey,
}

/// All policies, and where to find those of an action.
#[derive(Default)]
pub(crate) struct FilePolicies {
    pub(crate) all: Vec<FilePolicy>,
    by_action: HashMap<String, Vec<usize>>,
    everywhere: Vec<usize>,
}

impl FilePolicies {
    /// Reads all files.
    pub(crate) fn read(
        files: &[PolicyFile],
        vocabulary: &Vocabulary,
        faults: &mut Vec<Fault>,
    ) -> Self {
        let mut all = Vec::new();
        for file in files {
            if file.text.len() > MAX_POLICY_FILE_BYTES {
                faults.push(too_many(file, format!("the file has {} bytes", file.text.len())));
                continue;
            }
            let pieces = match split(&file.text) {
                Ok(pieces) => pieces,
                Err(at) => {
                    faults.push(Fault::error(
                        "PolicyMalformed",
                        Place { file: Arc::clone(&file.file), bytes: at },
                        "the last policy does not end".into(),
                        "end each policy with `;`, and close its strings".into(),
                    ));
                    continue;
                }
            };
            if all.len() + pieces.len() > MAX_POLICIES {
                let count = all.len() + pieces.len();
                faults.push(too_many(file, format!("the files have {count} policies or more")));
                return FilePolicies::default();
            }
            let mut ids = Ids::default();
            for piece in pieces {
                let id = ids.of(file, &piece);
                all.extend(read_policy(file, &piece, id, vocabulary, faults));
            }
        }
        let (mut by_action, mut everywhere) = (HashMap::<String, Vec<usize>>::new(), Vec::new());
        for (position, policy) in all.iter().enumerate() {
            match &policy.actions {
                None => everywhere.push(position),
                Some(actions) => {
                    for action in actions {
                        by_action.entry(action.clone()).or_default().push(position);
                    }
                }
            }
        }
        FilePolicies { all, by_action, everywhere }
    }

    /// The policies whose heads fit an operation (its action and groups) and its callers.
    pub(crate) fn touching(&self, names: &[Arc<str>], kinds: &[PrincipalKind]) -> Vec<usize> {
        let named = names.iter().filter_map(|name| self.by_action.get(&**name)).flatten();
        let mut found: Vec<usize> = named.chain(&self.everywhere).copied().collect();
        found.sort_unstable();
        found.dedup();
        found.retain(|position| {
            let of = self.all.get(*position).map(|policy| &policy.kinds);
            of.is_some_and(|of| of.iter().any(|kind| kinds.contains(kind)))
        });
        found
    }

    /// Actions that stand in a head and nowhere in the tables: most likely a slip of the pen, and a
    /// `forbid` of it would never fire.
    pub(crate) fn check_actions(&self, known: &[Arc<str>], faults: &mut Vec<Fault>) {
        let known: std::collections::BTreeSet<&str> = known.iter().map(|name| &**name).collect();
        for policy in &self.all {
            for action in policy.actions.iter().flatten() {
                if !known.contains(action.as_str()) {
                    let remedy = advice(action, known.iter().copied(), || {
                        "name an operation (`GET /rates`), an API, `read`, `write` or `tag:x`"
                            .into()
                    });
                    let message = format!("no line is in the action `{action}`");
                    faults.push(Fault::error(
                        "UnknownAction",
                        policy.place.clone(),
                        message,
                        remedy,
                    ));
                }
            }
        }
    }
}

fn too_many(file: &PolicyFile, message: String) -> Fault {
    Fault::error(
        "TooManyPolicies",
        Place { file: Arc::clone(&file.file), bytes: 0..0 },
        message,
        format!(
            "keep to {MAX_POLICIES} policies in all, in files of {MAX_POLICY_FILE_BYTES} bytes"
        ),
    )
}

/// `file.cedar:line`, and `file.cedar:line.2` for the second policy of one line.
#[derive(Default)]
struct Ids {
    last: usize,
    count: usize,
}

impl Ids {
    fn of(&mut self, file: &PolicyFile, piece: &Piece) -> Arc<str> {
        self.count = if piece.line == self.last { self.count + 1 } else { 1 };
        self.last = piece.line;
        match self.count {
            1 => format!("{}:{}", file.file, piece.line).into(),
            count => format!("{}:{}.{count}", file.file, piece.line).into(),
        }
    }
}

fn read_policy(
    file: &PolicyFile,
    piece: &Piece,
    id: Arc<str>,
    vocabulary: &Vocabulary,
    faults: &mut Vec<Fault>,
) -> Option<FilePolicy> {
    let place = Place { file: Arc::clone(&file.file), bytes: piece.bytes.clone() };
    let text = file.text.get(piece.bytes.clone())?;
    if let Some(fault) = check_size(piece, &place) {
        faults.push(fault);
        return None;
    }
    let written = match Policy::parse(Some(PolicyId::new(&*id)), text) {
        Ok(policy) => policy,
        Err(errors) => {
            let first = errors.iter().next().map(DetailedError::from);
            faults.push(syntax_fault(&place, first));
            return None;
        }
    };
    let before = faults.len();
    let survey = survey(&written)?;
    check_survey(&survey, &place, faults);
    if written.resource_constraint() != ResourceConstraint::Any {
        faults.push(Fault::error(
            "ResourceConstrained",
            place.clone(),
            "the head speaks of one resource, and resources have no names".into(),
            "write `resource` alone; say which operations in `action`".into(),
        ));
    }
    let (principal, kinds) = principal_of(&written, &place, vocabulary, faults)?;
    let parent = match written.principal_constraint() {
        PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => Some(uid),
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) | PrincipalConstraint::Eq(_) => None,
    };
    for (kind, name) in &survey.literals {
        faults.extend(unknown_literal((kind, name), vocabulary, &place));
    }
    // The head is written anew with an open action; conditions stay as they are, so that what Cedar
    // says of them can be pointed at in the file.
    let conditions = file.text.get(piece.conditions.clone())?;
    let word = if written.effect() == Effect::Permit { "permit" } else { "forbid" };
    let head = format!("{word}({principal}, action, resource)\n");
    let source = format!("{head}{conditions}");
    let policy = Policy::parse(Some(PolicyId::new(&*id)), format!("{source};")).ok()?;
    (faults.len() == before).then(|| FilePolicy {
        id,
        place,
        effect: written.effect(),
        policy,
        conditions_at: (head.len(), piece.conditions.start),
        source,
        actions: actions_of(&written),
        parent,
        kinds,
        survey,
    })
}

fn check_size(piece: &Piece, place: &Place) -> Option<Fault> {
    let (head, conditions) = (piece.conditions.start - piece.bytes.start, piece.conditions.len());
    if head <= MAX_HEAD_BYTES && conditions <= MAX_CONDITION_BYTES {
        return (piece.depth > MAX_CONDITION_DEPTH + 1).then(|| too_deep(place));
    }
    Some(Fault::error(
        "ConditionTooLong",
        place.clone(),
        format!("the policy has a head of {head} bytes and conditions of {conditions}"),
        format!("keep to {MAX_HEAD_BYTES} and {MAX_CONDITION_BYTES}, or write several policies"),
    ))
}

fn too_deep(place: &Place) -> Fault {
    Fault::error(
        "ConditionTooDeep",
        place.clone(),
        format!("a condition nests deeper than {MAX_CONDITION_DEPTH}"),
        "write it flatter, or as several policies".into(),
    )
}

fn syntax_fault(place: &Place, error: Option<DetailedError>) -> Fault {
    let spot = error.as_ref().and_then(|error| error.source_locations.first());
    let end = place.bytes.end;
    let bytes = spot.map_or(place.bytes.clone(), |spot| {
        let at = |offset: usize| (place.bytes.start + offset).min(end);
        at(spot.loc.start)..at(spot.loc.end)
    });
    let message = error.as_ref().map_or("it cannot be read", |error| error.message.as_str());
    let help = error.as_ref().and_then(|error| error.help.clone());
    let help = help.or_else(|| spot.and_then(|spot| spot.label.clone()));
    Fault::error(
        "PolicyMalformed",
        Place { file: Arc::clone(&place.file), bytes },
        format!("the policy is not Cedar: {message}"),
        help.unwrap_or_else(|| "write `forbid(principal, action, resource) when { … };`".into()),
    )
}

/// What all conditions of a policy touch.
fn survey(policy: &Policy) -> Option<Survey> {
    let json = policy.to_json().ok()?;
    Some(Survey::of(json.get("conditions")?))
}

fn check_survey(survey: &Survey, place: &Place, faults: &mut Vec<Fault>) {
    if survey.depth > MAX_CONDITION_DEPTH + 2 {
        faults.push(too_deep(place));
    }
    let names_action = survey.literals.iter().any(|(kind, _)| kind == "Action");
    if names_action || survey.reads.iter().any(|read| read.root == Root::Action) {
        faults.push(Fault::error(
            "ActionInCondition",
            place.clone(),
            "a condition speaks of the action".into(),
            "say in the head which operations are meant, as in `action in Action::\"write\"`"
                .into(),
        ));
    }
    let whole = survey.reads.iter().find(|read| {
        let is_record =
            matches!(read.path.first().map(String::as_str), Some("query" | "header" | "body"));
        read.root == Root::Resource && is_record && read.path.len() == 1
    });
    if let Some(read) = whole {
        faults.push(Fault::error(
            "UnknownParameter",
            place.clone(),
            format!("`{}` is no value", read.name()),
            format!("read a member of it, as in `{}.x`", read.name()),
        ));
    }
}

/// The head's principal in Cedar, and the kinds of caller that fit it.
fn principal_of(
    policy: &Policy,
    place: &Place,
    vocabulary: &Vocabulary,
    faults: &mut Vec<Fault>,
) -> Option<(String, Vec<PrincipalKind>)> {
    use PrincipalKind::{Anonymous, Service, User};
    let kinds_in = |kind: &str| match kind {
        "Role" | "Group" | "User" => vec![User],
        "Tenant" => vec![User, Service],
        "Service" => vec![Service],
        "Anonymous" => vec![Anonymous],
        _ => Vec::new(),
    };
    let constraint = policy.principal_constraint();
    let (text, kinds) = match &constraint {
        PrincipalConstraint::Any => ("principal".to_owned(), vec![Anonymous, User, Service]),
        PrincipalConstraint::Is(kind) => {
            (format!("principal is {kind}"), kinds_in(&kind.to_string()))
        }
        PrincipalConstraint::Eq(uid) => {
            (format!("principal == {uid}"), kinds_in(&uid.type_name().to_string()))
        }
        PrincipalConstraint::In(uid) => {
            (format!("principal in {uid}"), kinds_in(&uid.type_name().to_string()))
        }
        PrincipalConstraint::IsIn(kind, uid) => {
            let of = kinds_in(&uid.type_name().to_string());
            let kinds = kinds_in(&kind.to_string()).into_iter().filter(|kind| of.contains(kind));
            (format!("principal is {kind} in {uid}"), kinds.collect())
        }
    };
    if kinds.is_empty() {
        faults.push(Fault::error(
            "UnknownPrincipal",
            place.clone(),
            format!("`{text}` is no one that the file knows"),
            "callers are of type `User`, `Service` or `Anonymous`, in `Role`, `Group` or `Tenant`"
                .into(),
        ));
        return None;
    }
    if let PrincipalConstraint::Eq(uid)
    | PrincipalConstraint::In(uid)
    | PrincipalConstraint::IsIn(_, uid) = &constraint
    {
        let (kind, id): (String, &str) = (uid.type_name().to_string(), uid.id().as_ref());
        let fault = unknown_literal((&kind, id), vocabulary, place);
        if fault.is_some() {
            faults.extend(fault);
            return None;
        }
    }
    Some((text, kinds))
}

fn actions_of(policy: &Policy) -> Option<Vec<String>> {
    let id = |uid: &EntityUid| AsRef::<str>::as_ref(uid.id()).to_owned();
    match policy.action_constraint() {
        ActionConstraint::Any => None,
        ActionConstraint::Eq(uid) => Some(vec![id(&uid)]),
        ActionConstraint::In(uids) => Some(uids.iter().map(id).collect()),
    }
}

#[cfg(test)]
#[path = "cedar_files_tests.rs"]
mod tests;
