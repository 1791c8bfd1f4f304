//! One access line judged: its key, each of its tables, and its settings.
//!
//! Everything that can be said without Cedar's types is said here; [`crate::types`] says the rest.

use std::sync::Arc;

use ipnet::IpNet;
use portcullis_core::fault::{Fault, Place, Placed};
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;

use crate::access::{AlternativeDraft, LineDraft, ScopeDraft, Vocabulary};
use crate::clause::{Alternative, Grants, Objects, Principal, ScopeClause};
use crate::condition::{Condition, Root};
use crate::credential;
use crate::declared::{Declared, RESERVED_MEMBERS};
use crate::nearest::advice;
use crate::schema;
use crate::settings::{self, Settings};
use crate::shape::LineKey;
use crate::step_up::{self, Needed, StepUpClause};

/// Most tables of a line.
pub(crate) const MAX_ALTERNATIVES: usize = 8;
/// Longest string of a rule besides conditions (`7-authorization`, bounds).
pub(crate) const MAX_STRING_BYTES: usize = 1024;

/// A line that was understood.
pub(crate) struct Line {
    pub(crate) key: LineKey,
    pub(crate) place: Place,
    /// `file:line`.
    pub(crate) rule: Arc<str>,
    pub(crate) closed: Option<Closed>,
    pub(crate) alternatives: Vec<Alternative>,
    pub(crate) settings: Settings,
}

/// Why a line is closed for everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    Nobody,
    Review,
    ReviewPublic,
}

/// What a line is read against.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) vocabulary: &'a Vocabulary,
    pub(crate) declared: &'a Declared,
}

/// Reads the key of a line; `None` after a fault.
pub(crate) fn read_key(draft: &LineDraft, faults: &mut Vec<Fault>) -> Option<LineKey> {
    let place = &draft.key.place;
    let key = match LineKey::parse(&draft.key.value) {
        Ok(key) => key,
        Err(bad) => {
            faults.push(Fault::error(bad.rule, place.clone(), bad.message, bad.remedy));
            return None;
        }
    };
    let reserved = key.shape.parameters().find(|name| RESERVED_MEMBERS.contains(name));
    if let Some(name) = reserved {
        faults.push(Fault::error(
            "ParameterReserved",
            place.clone(),
            format!("`resource.{name}` is not a parameter of the path"),
            format!("name it otherwise, as in `{{{name}_id}}`: only its place counts"),
        ));
        return None;
    }
    Some(key)
}

/// Reads a line; `None` after a fault.
pub(crate) fn read(
    draft: &LineDraft,
    key: Option<LineKey>,
    around: Around<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Line> {
    let before = faults.len();
    let place = &draft.key.place;
    let count = draft.alternatives.len();
    if count == 0 || count > MAX_ALTERNATIVES {
        faults.push(Fault::error(
            "AlternativesCount",
            place.clone(),
            format!("the line has {count} tables"),
            format!("write one table, or an array of at most {MAX_ALTERNATIVES}"),
        ));
        return None;
    }
    let rule: Arc<str> = format!("{}:{}", place.file, draft.line).into();
    let closed = closed(draft, faults);
    let mut alternatives = Vec::new();
    for (position, table) in draft.alternatives.iter().enumerate() {
        let rule = format!("{rule}.{}", position + 1);
        let alternative = read_alternative(table, &rule, around, faults);
        alternatives.extend(alternative.filter(|_| closed.is_none()));
    }
    policy_once(draft, faults);
    let settings = settings::read(draft, key.as_ref(), around, faults);
    let place = place.clone();
    let (key, settings) = (key?, settings?);
    (faults.len() == before).then_some(Line { key, place, rule, closed, alternatives, settings })
}

/// `nobody`, `REVIEW` or `REVIEW-PUBLIC`, which stand alone on their line.
fn closed(draft: &LineDraft, faults: &mut Vec<Fault>) -> Option<Closed> {
    let words = draft.alternatives.iter().flat_map(|table| &table.allow);
    let found = words.clone().find_map(|word| Some((closing(&word.value)?, word)))?;
    if words.count() > 1 || draft.alternatives.len() > 1 {
        faults.push(Fault::error(
            "ClosedAmongOthers",
            found.1.place.clone(),
            format!("`{}` closes the line, and stands beside others", found.1.value),
            "leave it out, or leave the others out".into(),
        ));
    }
    Some(found.0)
}

fn closing(word: &str) -> Option<Closed> {
    match word {
        "nobody" => Some(Closed::Nobody),
        "REVIEW" => Some(Closed::Review),
        "REVIEW-PUBLIC" => Some(Closed::ReviewPublic),
        _ => None,
    }
}

/// Two tables that permits of files could fill would make two rules of one policy.
fn policy_once(draft: &LineDraft, faults: &mut Vec<Fault>) {
    let words = draft.alternatives.iter().flat_map(|table| &table.allow);
    if let Some(second) = words.filter(|word| word.value == POLICY).nth(1) {
        faults.push(Fault::error(
            "PolicyTwice",
            second.place.clone(),
            "two tables of one line leave it to the Cedar files".into(),
            "keep one of them; what differs goes into the permits".into(),
        ));
    }
}

fn read_alternative(
    table: &AlternativeDraft,
    rule: &str,
    around: Around<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Alternative> {
    let before = faults.len();
    let vocabulary = around.vocabulary;
    let (allow, grants) = read_allow(table, vocabulary, faults);
    let scope = table.scope.as_ref().and_then(|scope| read_scope(scope, vocabulary, faults));
    let from = table.from.iter().filter_map(|network| read_network(network, faults)).collect();
    let until = table.until.as_ref().and_then(|words| read_until(words, faults));
    let when = table.when.as_ref().and_then(|text| read_when(text, around, faults));
    let step_up = table.step_up.as_ref().and_then(|draft| read_step_up(draft, around, faults));
    let bound = table.bound.as_ref().and_then(|word| credential::read_bound(word, faults));
    let via = credential::read_via(&table.via, vocabulary, faults);
    check_anyone(table, &allow, faults);
    credential::check(table, &allow, faults);
    let reasons = [&table.public, &table.shared, &table.undocumented, &table.limit_reason];
    for reason in reasons.into_iter().flatten() {
        check_reason(reason, faults);
    }
    (faults.len() == before).then(|| Alternative {
        rule: rule.into(),
        place: table.place.clone(),
        allow,
        grants,
        scope,
        bound,
        via,
        from,
        until,
        when,
        step_up,
        objects: if table.owner.is_some() { Objects::CallersOwn } else { Objects::Anyones },
    })
}

/// Leaves a line to the permits of Cedar files.
const POLICY: &str = "policy";

fn read_allow(
    table: &AlternativeDraft,
    vocabulary: &Vocabulary,
    faults: &mut Vec<Fault>,
) -> (Vec<Principal>, Grants) {
    if let Some(word) = table.allow.iter().find(|word| word.value == POLICY) {
        if table.allow.len() > 1 {
            faults.push(Fault::error(
                "PolicyAmongOthers",
                word.place.clone(),
                "`policy` leaves the table to the Cedar files, and stands beside others".into(),
                "write a table of its own for the others, in an array".into(),
            ));
        }
        return (vec![Principal::User, Principal::Service], Grants::Files);
    }
    if table.allow.is_empty() {
        faults.push(Fault::error(
            "AllowMissing",
            table.place.clone(),
            "the table allows no one by name".into(),
            "write `allow`, as in `allow = \"user\"`; `nobody` closes a known operation".into(),
        ));
    }
    let mut allow: Vec<Principal> = Vec::new();
    for word in &table.allow {
        if closing(&word.value).is_some() {
            continue;
        }
        match read_principal(word, vocabulary) {
            Ok(principal) if allow.contains(&principal) => faults.push(Fault::error(
                "PrincipalTwice",
                word.place.clone(),
                format!("`{}` stands twice", word.value),
                "keep one of the two".into(),
            )),
            Ok(principal) => allow.push(principal),
            Err(fault) => faults.push(fault),
        }
    }
    (allow, Grants::Table)
}

const PRINCIPAL_WORDS: [&str; 7] =
    ["anyone", "user", "service", "policy", "nobody", "REVIEW", "REVIEW-PUBLIC"];

/// Also for groups of `response`.
pub(crate) fn read_principal(
    word: &Placed<String>,
    vocabulary: &Vocabulary,
) -> Result<Principal, Fault> {
    let text = word.value.as_str();
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    let unknown = |kind: &str, known: &[String], add: String| {
        let candidates: Vec<String> = known.iter().map(|known| format!("{kind}:{known}")).collect();
        let remedy = advice(text, candidates.iter().map(String::as_str), || add);
        unknown_principal(&word.place, text, remedy)
    };
    match (kind, name) {
        ("anyone", "") => Ok(Principal::Anyone),
        ("user", "") => Ok(Principal::User),
        ("service", "") if !text.ends_with(':') => Ok(Principal::Service),
        ("role", name) if vocabulary.roles.iter().any(|known| known == name) => {
            Ok(Principal::Role(name.into()))
        }
        ("group", name) if vocabulary.groups.iter().any(|known| known == name) => {
            Ok(Principal::Group(name.into()))
        }
        ("service", name) if vocabulary.services.iter().any(|known| known == name) => {
            Ok(Principal::NamedService(name.into()))
        }
        ("role", name) => {
            let add = format!("add `{name}` to `roles` under `[identity]`");
            Err(unknown("role", &vocabulary.roles, add))
        }
        ("group", name) => {
            let add = format!("add `{name}` to `groups` under `[identity]`");
            Err(unknown("group", &vocabulary.groups, add))
        }
        ("service", name) => {
            let add = format!("add a client `{name}` with `type = \"service\"` to `[clients]`");
            Err(unknown("service", &vocabulary.services, add))
        }
        _ => {
            let remedy = advice(text, PRINCIPAL_WORDS, || {
                "write `anyone`, `user`, `service`, `role:x`, `group:x`, `service:x` or `nobody`"
                    .into()
            });
            Err(unknown_principal(&word.place, text, remedy))
        }
    }
}

/// Also for principals named in a condition.
pub(crate) fn unknown_principal(place: &Place, text: &str, remedy: String) -> Fault {
    let message = format!("`{text}` is no one that the file knows");
    Fault::error("UnknownPrincipal", place.clone(), message, remedy)
}

fn read_scope(
    draft: &ScopeDraft,
    vocabulary: &Vocabulary,
    faults: &mut Vec<Fault>,
) -> Option<ScopeClause> {
    let (words, joined) = match draft {
        ScopeDraft::All(all) => (vec![all.clone()], all.value.clone()),
        ScopeDraft::Any(any) => {
            let names: Vec<&str> = any.iter().map(|one| one.value.as_str()).collect();
            (any.clone(), names.join(" "))
        }
    };
    let first = words.first()?.place.clone();
    let scopes = match Scopes::parse(&joined) {
        Ok(scopes) if !scopes.is_empty() => scopes,
        Ok(_) | Err(_) => {
            let message = format!("`{joined}` is not a list of scopes (RFC 6749 §3.3)");
            let remedy = "write scopes separated by single spaces, or leave `scope` out".into();
            faults.push(Fault::error("ScopeMalformed", first, message, remedy));
            return None;
        }
    };
    let mut known = true;
    for word in &words {
        for name in word.value.split(' ').filter(|name| !name.is_empty()) {
            if !vocabulary.scopes.iter().any(|scope| scope == name) {
                known = false;
                let candidates = vocabulary.scopes.iter().map(String::as_str);
                let remedy = advice(name, candidates, || {
                    "add it to the `scopes` of the clients that may ask for it, or to [identity.scopes] \
                     for clients of the store".into()
                });
                let message = format!("no client may be granted the scope `{name}`");
                faults.push(Fault::error("UnknownScope", word.place.clone(), message, remedy));
            }
        }
    }
    known.then_some(match draft {
        ScopeDraft::All(_) => ScopeClause::All(scopes),
        ScopeDraft::Any(_) => ScopeClause::Any(scopes),
    })
}

fn read_network(word: &Placed<String>, faults: &mut Vec<Fault>) -> Option<IpNet> {
    let text = word.value.as_str();
    let address = text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    let network = text.parse::<IpNet>().ok().or(address);
    let remedy = match network {
        Some(network) if network.addr() == network.network() => return Some(network),
        Some(network) => format!("did you mean `{}`?", network.trunc()),
        None => "write an address or a network, as in `10.0.0.0/8` or `2001:db8::/32`".into(),
    };
    let message = format!("`{text}` is not a network");
    faults.push(Fault::error("NetworkMalformed", word.place.clone(), message, remedy));
    None
}

/// The line ends when its date begins, in UTC.
fn read_until(word: &Placed<String>, faults: &mut Vec<Fault>) -> Option<(i64, String)> {
    let moment = Timestamp::parse(&word.value);
    if moment.is_none() {
        faults.push(Fault::error(
            "DateMalformed",
            word.place.clone(),
            format!("`{}` is not a date", word.value),
            "write it as `2027-03-31` (the line ends when that day begins, in UTC)".into(),
        ));
    }
    moment.map(|moment| (moment.unix(), word.value.clone()))
}

fn read_when(
    text: &Placed<String>,
    around: Around<'_>,
    faults: &mut Vec<Fault>,
) -> Option<(Condition, Place)> {
    let always = schema::optional_reads(around.vocabulary);
    let optional = |read: &crate::condition::Read| match read.root {
        Root::Resource => around.declared.is_optional(read),
        Root::Principal | Root::Context | Root::Action => always.contains(read),
    };
    match Condition::parse(&text.value, &optional) {
        Ok(condition) => Some((condition, text.place.clone())),
        Err(bad) => {
            let place = inside(&text.place, bad.bytes);
            faults.push(Fault::error(bad.rule, place, bad.message, bad.remedy));
            None
        }
    }
}

fn read_step_up(
    draft: &crate::access::StepUpDraft,
    around: Around<'_>,
    faults: &mut Vec<Fault>,
) -> Option<StepUpClause> {
    let need = step_up::read_need(&draft.need, faults);
    let when = match &draft.when {
        None => None,
        Some(text) => {
            let (condition, place) = read_when(text, around, faults)?;
            // A condition that parses is one whose negation parses.
            let refuted = condition.refuted.parse().ok()?;
            Some(Needed { condition, place, refuted })
        }
    };
    let (factors, within) = need?;
    Some(StepUpClause { factors, within, need: draft.need.value.clone(), when })
}

/// A place within a quoted string. Exact while the string has no escapes before the spot.
pub(crate) fn inside(place: &Place, bytes: std::ops::Range<usize>) -> Place {
    let end = place.bytes.end;
    let at = |offset: usize| (place.bytes.start + 1 + offset).min(end);
    Place { file: Arc::clone(&place.file), bytes: at(bytes.start)..at(bytes.end) }
}

/// `anyone` has no token and no attributes, so nothing that asks for them can stand beside it.
fn check_anyone(table: &AlternativeDraft, allow: &[Principal], faults: &mut Vec<Fault>) {
    if !allow.contains(&Principal::Anyone) {
        return;
    }
    let scope = table.scope.as_ref().map(|scope| match scope {
        ScopeDraft::All(word) => Some(&word.place),
        ScopeDraft::Any(words) => words.first().map(|word| &word.place),
    });
    let scope = scope.map(|place| ("ScopeOnAnyone", "scope", place.unwrap_or(&table.place)));
    let when = table.when.as_ref().map(|when| ("ConditionOnAnyone", "when", &when.place));
    let step_up = table.step_up.as_ref();
    let step_up = step_up.map(|one| ("StepUpOnAnyone", "step_up", &one.need.place));
    let owner = table.owner.as_ref().map(|one| ("OwnerOnAnyone", "owner", &one.lookup.place));
    for (rule, key, place) in scope.into_iter().chain(when).chain(step_up).chain(owner) {
        faults.push(Fault::error(
            rule,
            place.clone(),
            format!("`{key}` on a line for `anyone`, whose credentials are never read"),
            format!("write `allow = \"user\"`, or leave `{key}` out"),
        ));
    }
}

fn check_reason(reason: &Placed<String>, faults: &mut Vec<Fault>) {
    let length = reason.value.trim().len();
    if length == 0 || reason.value.len() > MAX_STRING_BYTES {
        faults.push(Fault::error(
            "ReasonMalformed",
            reason.place.clone(),
            "a reason that says nothing, or too much".into(),
            format!("write in a few words why, in at most {MAX_STRING_BYTES} bytes"),
        ));
    }
}
