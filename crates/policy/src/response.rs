//! `response`: which members of an answer go out, and to whom. Only read here; the gateway filters.

use portcullis_core::fault::{Fault, Placed};

use crate::access::{FieldGroupDraft, LineDraft, Vocabulary};
use crate::clause::Principal;
use crate::compile::{FieldGroup, ResponseRule};
use crate::entities::Caller;
use crate::line::{MAX_STRING_BYTES, read_principal, unknown_principal};

/// Most members of all groups of a line.
pub(crate) const MAX_MEMBERS: usize = 512;
/// Most groups.
pub(crate) const MAX_GROUPS: usize = 16;

/// What a line lets out, and who sees each group; `None` is everyone whom the line lets in.
pub(crate) struct Response {
    pub(crate) rule: ResponseRule,
    pub(crate) to: Vec<Option<Principal>>,
}

impl Response {
    /// The groups that a caller sees, by position.
    pub(crate) fn groups(&self, caller: &Caller) -> Vec<usize> {
        let sees = |to: &Option<Principal>| to.as_ref().is_none_or(|one| one.is(caller));
        self.to.iter().enumerate().filter(|(_, to)| sees(to)).map(|(at, _)| at).collect()
    }
}

/// Reads `response`. Every table of a line says the same, or none says it: what goes out must not
/// depend on which of two tables happened to hold.
pub(crate) fn read_line(
    draft: &LineDraft,
    vocabulary: &Vocabulary,
    faults: &mut Vec<Fault>,
) -> Option<Response> {
    let first = draft.alternatives.first()?;
    if let Some(other) = draft.alternatives.iter().find(|table| !alike(first, table)) {
        faults.push(Fault::error(
            "SettingDiffers",
            other.place.clone(),
            "the tables of one line differ in `response`".into(),
            "write the same `response` in each; `\"role:x\" = […]` adds members for some".into(),
        ));
        return None;
    }
    if first.response.is_empty() {
        return None;
    }
    let count: usize = first.response.iter().map(|group| group.members.len()).sum();
    if count > MAX_MEMBERS || first.response.len() > MAX_GROUPS {
        faults.push(Fault::error(
            "ResponseTooLong",
            first.place.clone(),
            format!("`response` has {} groups with {count} members", first.response.len()),
            format!("keep to {MAX_GROUPS} groups and {MAX_MEMBERS} members"),
        ));
        return None;
    }
    let (mut groups, mut to) = (Vec::new(), Vec::new());
    for group in &first.response {
        let members = read_members(group, faults);
        let principal = match &group.to {
            Some(word) => Some(read_to(word, vocabulary, faults)?),
            None => None,
        };
        let words = group.to.as_ref().map(|word| word.value.as_str().into());
        groups.push(FieldGroup { to: words, members });
        to.push(principal);
    }
    Some(Response { rule: ResponseRule { groups }, to })
}

fn alike(a: &crate::access::AlternativeDraft, b: &crate::access::AlternativeDraft) -> bool {
    let words = |group: &FieldGroupDraft| {
        let members: Vec<String> = group.members.iter().map(|one| one.value.clone()).collect();
        (group.to.as_ref().map(|word| word.value.clone()), members)
    };
    a.response.iter().map(words).eq(b.response.iter().map(words))
}

fn read_to(
    word: &Placed<String>,
    vocabulary: &Vocabulary,
    faults: &mut Vec<Fault>,
) -> Option<Principal> {
    match read_principal(word, vocabulary) {
        Ok(Principal::Anyone) => {
            let remedy = "write the members for everyone under `all`".into();
            faults.push(unknown_principal(&word.place, &word.value, remedy));
            None
        }
        Ok(principal) => Some(principal),
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

fn read_members(group: &FieldGroupDraft, faults: &mut Vec<Fault>) -> Vec<Box<str>> {
    let mut members: Vec<Box<str>> = Vec::new();
    for word in &group.members {
        let text = word.value.as_str();
        let sound = text.len() <= MAX_STRING_BYTES
            && text.split('.').all(|part| !part.is_empty())
            && !text.chars().any(char::is_control);
        if !sound || members.iter().any(|known| **known == *text) {
            faults.push(Fault::error(
                "ResponseMemberMalformed",
                word.place.clone(),
                format!("`{text}` is not a member's name, or stands twice"),
                "write each member once, those of objects behind a dot, as in `owner.name`".into(),
            ));
            continue;
        }
        members.push(text.into());
    }
    members
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
