//! A decision in up to three passes: what needs neither body nor owner; then with the body; then with
//! the owner. So nothing is read or looked up for a caller whom the rest refuses already.
//!
//! Both evaluators answer the same small question per pass; the walk through the passes is one.

use cedar_policy::{Authorizer, Decision, Entities, Policy, PolicySet, Request, Response};
use serde_json::Value;

use crate::compile::Entry;
use crate::compiled::{self, Answered, Pass};
use crate::condition::Survey;
use crate::entities::{Caller, Question};
use crate::expr::Lowered;
use crate::resource::Resource;

/// What a policy reads that is not there from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    pub(crate) body: bool,
    pub(crate) owner: bool,
}

impl Waits {
    /// For what an expression reads.
    pub(crate) fn of(survey: &Survey) -> Self {
        Waits { body: survey.reads_body(), owner: survey.reads_owner() }
    }

    /// For either.
    pub(crate) fn or(self, other: Waits) -> Self {
        Waits { body: self.body || other.body, owner: self.owner || other.owner }
    }

    /// What both wait for.
    pub(crate) fn and(self, other: Waits) -> Self {
        Waits { body: self.body && other.body, owner: self.owner && other.owner }
    }

    /// What a pass does not have of it.
    pub(crate) fn beyond(self, pass: Pass) -> Self {
        match pass {
            Pass::Head => self,
            Pass::Body => Waits { body: false, owner: self.owner },
            Pass::Owner => Waits::default(),
        }
    }

    /// Whether nothing is waited for.
    pub(crate) fn is_none(self) -> bool {
        !self.body && !self.owner
    }
}

/// Whether a forbid holds or has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Forbade {
    Holds,
    Errs,
}

/// Where a question stands in one pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The first forbid that holds or errs.
    forbidden: Option<(usize, Forbade)>,
    /// The first permit that holds whole.
    whole: Option<usize>,
    /// What permits that hold so far wait for.
    waits: Option<Waits>,
}

/// What came of all passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// By the policy at this position.
    Permitted(usize),
    /// By the policy at this position.
    Forbidden(usize, Forbade, Pass),
    /// No permit is left after this pass.
    Refused(Pass),
    NeedsBody,
    NeedsOwner,
}

/// Walks through the passes as far as the resource goes.
///
/// INVARIANT: `Permitted` only where a permit holds whole and every forbid of the operation was
/// judged and does not hold.
pub(crate) fn walk(
    entry: &Entry,
    resource: &Resource,
    mut ask: impl FnMut(Pass) -> Standing,
) -> Outcome {
    let mut pass = if entry.waits.is_none() { Pass::Owner } else { Pass::Head };
    loop {
        let standing = ask(pass);
        if let Some((position, forbade)) = standing.forbidden {
            return Outcome::Forbidden(position, forbade, pass);
        }
        let pending = entry.forbids_wait.beyond(pass);
        let waits = match (standing.whole, standing.waits) {
            (Some(position), _) if pending.is_none() => return Outcome::Permitted(position),
            (None, None) => return Outcome::Refused(pass),
            (_, waits) => waits.unwrap_or_default().or(pending),
        };
        // The body first: it is here already, and the look-up is a request of its own.
        pass = match pass {
            Pass::Head if waits.body && resource.body.is_none() => return Outcome::NeedsBody,
            // Where no owner is known of, nothing may be left unjudged for want of one.
            Pass::Head if waits.body && entry.waits.owner => Pass::Body,
            Pass::Head if waits.body => Pass::Owner,
            Pass::Head | Pass::Body if resource.owner.is_none() => return Outcome::NeedsOwner,
            Pass::Head | Pass::Body => Pass::Owner,
            // Nothing waits beyond the last pass.
            Pass::Owner => return Outcome::Refused(pass),
        };
    }
}

/// What the compiled evaluator says of a pass.
pub(crate) fn compiled(
    entry: &Entry,
    lowered: &[Lowered],
    caller: &Caller,
    question: &Question<'_>,
    pass: Pass,
) -> Standing {
    let first = match compiled::answer(lowered, caller, question, pass) {
        Answered::Permitted(first) => first,
        Answered::Forbidden(at) => return Standing::forbidden(at, Forbade::Holds),
        Answered::ForbidErred(at) => return Standing::forbidden(at, Forbade::Errs),
        Answered::NotPermitted => return Standing::default(),
    };
    let mut standing = Standing::default();
    standing.permit(entry, first, pass);
    // Another one may hold whole where the first still waits.
    for (position, policy) in lowered.iter().enumerate().skip(first + 1) {
        if standing.whole.is_some() && entry.waits.is_none() {
            break;
        }
        let one = std::slice::from_ref(policy);
        if matches!(compiled::answer(one, caller, question, pass), Answered::Permitted(_)) {
            standing.permit(entry, position, pass);
        }
    }
    standing
}

impl Standing {
    fn forbidden(position: usize, forbade: Forbade) -> Self {
        Standing { forbidden: Some((position, forbade)), ..Standing::default() }
    }

    /// Adds a permit that holds as far as the pass goes.
    fn permit(&mut self, entry: &Entry, position: usize, pass: Pass) {
        let Some(mark) = entry.marks.get(position) else { return };
        let waits = mark.waits.beyond(pass);
        if waits.is_none() {
            self.whole = Some(self.whole.map_or(position, |known| known.min(position)));
        } else {
            self.waits = Some(self.waits.unwrap_or_default().or(waits));
        }
    }
}

/// An operation's policies as Cedar takes them, per pass.
pub(crate) struct CedarSets {
    /// One for all passes where nothing waits, else one for each.
    sets: Vec<PolicySet>,
}

impl CedarSets {
    /// Sets of these policies, which wait for this at most; `None` if Cedar refuses one, which it read before.
    pub(crate) fn of<'p>(
        policies: impl Iterator<Item = &'p Policy> + Clone,
        waits: Waits,
    ) -> Option<Self> {
        if waits.is_none() {
            let whole = PolicySet::from_policies(policies.cloned()).ok()?;
            return Some(CedarSets { sets: vec![whole] });
        }
        let mut sets = Vec::with_capacity(3);
        for pass in [Pass::Head, Pass::Body, Pass::Owner] {
            let mut set = PolicySet::new();
            for policy in policies.clone() {
                if let Some(policy) = within(policy, pass, waits)? {
                    set.add(policy).ok()?;
                }
            }
            sets.push(set);
        }
        Some(CedarSets { sets })
    }

    fn at(&self, pass: Pass) -> Option<&PolicySet> {
        let position = match pass {
            Pass::Head => 0,
            Pass::Body => 1,
            Pass::Owner => 2,
        };
        self.sets.get(position).or(self.sets.last())
    }

    /// Cedar's answer in a pass.
    pub(crate) fn ask(
        &self,
        authorizer: &Authorizer,
        (request, entities): (&Request, &Entities),
        pass: Pass,
    ) -> Option<Response> {
        Some(authorizer.is_authorized(request, self.at(pass)?, entities))
    }
}

/// What is judged of a policy in a pass: a permit without the conditions that wait, a forbid only
/// when none of its conditions does.
fn within(policy: &Policy, pass: Pass, known: Waits) -> Option<Option<Policy>> {
    let mut json = policy.to_json().ok()?;
    let conditions = json.get_mut("conditions")?.as_array_mut()?;
    let waits =
        |condition: &Value| !Waits::of(&Survey::of(condition)).and(known).beyond(pass).is_none();
    if !conditions.iter().any(waits) {
        return Some(Some(policy.clone()));
    }
    if policy.effect() == cedar_policy::Effect::Forbid {
        return Some(None);
    }
    conditions.retain(|condition| !waits(condition));
    Policy::from_json(Some(policy.id().clone()), json).ok().map(Some)
}

/// What Cedar's answer in a pass says, with our own rule: a forbid that errs denies, where Cedar
/// would skip it.
pub(crate) fn cedar(entry: &Entry, response: Option<&Response>, pass: Pass) -> Standing {
    // Without an answer nothing is permitted.
    let Some(response) = response else { return Standing::default() };
    let position = |id: &cedar_policy::PolicyId| {
        let id: &str = id.as_ref();
        entry.marks.iter().position(|mark| &*mark.id == id)
    };
    let is_forbid = |position: &usize| {
        entry.marks.get(*position).is_some_and(|mark| mark.origin == Origin::Forbid)
    };
    let erred = response.diagnostics().errors().filter_map(|error| match error {
        cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
            position(error.policy_id()).filter(is_forbid)
        }
    });
    let erred = erred.map(|position| (position, Forbade::Errs)).min();
    let reasons = || response.diagnostics().reason().filter_map(position);
    let held = reasons().filter(is_forbid).map(|position| (position, Forbade::Holds)).min();
    if let Some((position, forbade)) = erred.into_iter().chain(held).min() {
        return Standing::forbidden(position, forbade);
    }
    let mut standing = Standing::default();
    if response.decision() == Decision::Allow {
        for position in reasons() {
            standing.permit(entry, position, pass);
        }
    }
    standing
}

/// What a policy of an operation is.
pub(crate) struct Mark {
    /// `file:line.alternative`, or `file.cedar:line`.
    pub(crate) id: std::sync::Arc<str>,
    pub(crate) origin: Origin,
    pub(crate) waits: Waits,
}

/// Where a policy of an operation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The table at this position.
    Table(usize),
    /// A permit of a file, narrowed by the table at this position.
    Permit(usize),
    /// A forbid of a file.
    Forbid,
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
