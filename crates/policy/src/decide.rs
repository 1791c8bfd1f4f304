//! The decision. `judge` is pure and for everyone; `decide` is the only maker of a [`Permit`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use portcullis_core::audit::Clause;

use crate::account::{Account, Asked};
use crate::clause::{Alternative, ClauseKind, ScopeClause};
use crate::compile::{AuditLevel, Entry, Rules};
use crate::compiled::Pass;
use crate::entities::{Caller, Facts, Frame, Question, fits};
use crate::stage::{self, Forbade, Mark, Origin, Outcome, walk};
use crate::step_up::StepUpClause;
use crate::table::OperationId;

/// Policy's yes to one request: not `Clone`, private fields, consumed with its request.
///
/// ```compile_fail,E0451
/// use portcullis_policy::decide::Permit;
/// let forged = Permit { operation: portcullis_policy::table::OperationId(0), rule: "".into(), serial: 1, clauses: vec![], groups: vec![] };
/// ```
/// The twin, which only reads:
/// ```
/// use portcullis_policy::decide::Permit;
/// fn read(permit: &Permit) -> u64 { permit.serial() }
/// ```
#[derive(Debug)]
pub struct Permit {
    operation: OperationId,
    rule: Arc<str>,
    serial: u64,
    clauses: Vec<Clause>,
    groups: Vec<usize>,
}

impl Permit {
    /// The operation permitted.
    pub fn operation(&self) -> OperationId {
        self.operation
    }
    /// `file:line.alternative`.
    pub fn rule(&self) -> &Arc<str> {
        &self.rule
    }
    /// The request's serial, which the gateway compares with its own.
    pub fn serial(&self) -> u64 {
        self.serial
    }
    /// Which groups of [`crate::compile::ResponseRule::groups`] the caller sees, by position.
    pub fn groups(&self) -> &[usize] {
        &self.groups
    }
    /// The clauses that held.
    pub fn clauses(&self) -> &[Clause] {
        &self.clauses
    }
}

/// Policy's no.
#[derive(Clone, Debug, PartialEq)]
pub struct Denial {
    /// `PrincipalNotAllowed`, `ScopeMissing`, `TokenUnbound`, `ActorNotNamed`, `NetworkForeign`,
    /// `LineEnded`, `PolicySilent`, `ConditionFalse`, `ConditionErred`, `StepUpNeeded`,
    /// `OwnerForeign` (all that depends on who owns the object), `Forbidden`, `ForbidErred`,
    /// `Closed`, `OperationUnknown`, `QuestionMalformed`, `ClausesDisagree`, `EvaluatorsDisagree`:
    /// the rule broken, also the record's reason. Of several tables, that of the one that came
    /// furthest.
    pub reason: &'static str,
    /// The table that came furthest, `file:line.alternative`; the forbid, `file.cedar:line`; the line
    /// when it is closed.
    pub rule: Arc<str>,
    /// Scopes that would suffice, when scope alone is missing (RFC 6750 §3.1 `insufficient_scope`).
    pub scope_needed: Option<String>,
    /// The assurance that would suffice, when it alone is missing (RFC 9470 §3); it assumes the
    /// owner's clause true, so it is the same for every id.
    pub step_up: Option<StepUp>,
    /// Each clause judged, with its inputs.
    pub clauses: Vec<Clause>,
}

/// What a challenge asks for (RFC 9470 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUp {
    /// `acr_values`: any of these.
    pub acr_values: Vec<String>,
    /// `max_age`, seconds.
    pub max_age: Option<u64>,
}

/// The outcome of [`judge`].
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Allowed, by this rule.
    Allow {
        /// `file:line.alternative`.
        rule: Arc<str>,
        /// The clauses that held.
        clauses: Vec<Clause>,
    },
    /// Denied.
    Deny(Denial),
    /// Everything that needs no body passed; read it ([`crate::compile::Operation::body`]) and ask
    /// again with [`crate::resource::Resource::body`].
    NeedsBody,
    /// Everything else passed; look the object's owner up ([`crate::compile::Operation::owner`]) and
    /// ask again with [`crate::resource::Resource::owner`].
    NeedsOwner,
}

/// Why [`decide`] minted no permit.
#[derive(Debug)]
pub enum Undecided {
    /// Policy's no.
    Denied(Box<Denial>),
    /// See [`Verdict::NeedsBody`].
    NeedsBody,
    /// See [`Verdict::NeedsOwner`].
    NeedsOwner,
}

/// Every so many decisions of the compiled evaluator Cedar decides too.
pub const SAMPLE: u64 = 1_000;

/// Judges a question; never errs into an allow.
///
/// The compiled evaluator decides where it has every policy of the operation, Cedar otherwise, and
/// one time in [`SAMPLE`] both: where they differ, the answer is no. Only when the answer is no, or
/// the line is audited in full, are the clauses told one by one. Where they contradict the decision,
/// the answer is no.
pub fn judge(rules: &Rules, question: &Question<'_>) -> Verdict {
    judge_telling(rules, question, (Telling::AsAudited, Judges::Compiled))
}

/// The same verdict by Cedar alone: the oracle of the compiled evaluator and of the analyser.
pub(crate) fn judge_with_cedar(rules: &Rules, question: &Question<'_>) -> Verdict {
    judge_telling(rules, question, (Telling::AsAudited, Judges::Cedar))
}

/// The same verdict, each clause told also when allowed: for `explain`.
pub(crate) fn judge_told(rules: &Rules, question: &Question<'_>) -> Verdict {
    judge_telling(rules, question, (Telling::Always, Judges::Compiled))
}

/// When an allowed question's clauses are told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    AsAudited,
    Always,
}

/// Who decides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Judges {
    /// The compiled evaluator where it can.
    Compiled,
    Cedar,
}

fn judge_telling(
    rules: &Rules,
    question: &Question<'_>,
    (telling, judges): (Telling, Judges),
) -> Verdict {
    let Some(entry) = rules.entry(question.operation) else {
        return refused("OperationUnknown", "".into());
    };
    let line = || Arc::clone(&entry.operation.rule);
    if entry.closed.is_some() {
        return refused("Closed", line());
    }
    if !fits(entry, question.resource) {
        return refused("QuestionMalformed", line());
    }
    // A line for `anyone` reads no credentials, so nobody is anyone else there.
    let caller = if entry.operation.authenticates { question.caller } else { &Caller::Anonymous };
    let case = Case { rules, entry, caller, question };
    let outcome = match &entry.lowered {
        Some(lowered) if judges == Judges::Compiled && entry.trusts_compiled() => {
            let outcome = walk(entry, question.resource, |pass| {
                stage::compiled(entry, lowered, caller, question, pass)
            });
            if is_sampled(rules) && case.cedar_differs(outcome) {
                entry.distrusted.store(true, Ordering::Relaxed);
                rules.disagreements.fetch_add(1, Ordering::Relaxed);
                return refused("EvaluatorsDisagree", line());
            }
            outcome
        }
        Some(_) | None => match case.facts() {
            Some(facts) => case.cedar(&facts),
            None => return refused("QuestionMalformed", line()),
        },
    };
    let briefly = telling == Telling::AsAudited && entry.operation.audit != AuditLevel::Full;
    let tell = |tell: &dyn Fn(&Facts) -> Verdict| match case.facts() {
        Some(facts) => tell(&facts),
        None => refused("QuestionMalformed", line()),
    };
    match outcome {
        Outcome::NeedsBody => Verdict::NeedsBody,
        Outcome::NeedsOwner => Verdict::NeedsOwner,
        Outcome::Permitted(position) => match entry.marks.get(position) {
            Some(mark) if briefly => {
                Verdict::Allow { rule: Arc::clone(&mark.id), clauses: Vec::new() }
            }
            Some(mark) => tell(&|facts| told(mark, &case.asked(facts))),
            None => refused("ClausesDisagree", line()),
        },
        Outcome::Refused(pass) => tell(&|facts| Verdict::Deny(denial(&case.asked(facts), pass))),
        Outcome::Forbidden(position, forbade, pass) => {
            let mark = entry.marks.get(position);
            tell(&|facts| Verdict::Deny(forbidden(&case.asked(facts), mark, (forbade, pass))))
        }
    }
}

/// Whether Cedar decides this one too.
fn is_sampled(rules: &Rules) -> bool {
    rules.decisions.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE)
}

impl Entry {
    fn trusts_compiled(&self) -> bool {
        !self.distrusted.load(Ordering::Relaxed)
    }
}

/// A question with the rules that it is put to.
struct Case<'c> {
    rules: &'c Rules,
    entry: &'c Entry,
    caller: &'c Caller,
    question: &'c Question<'c>,
}

impl<'c> Case<'c> {
    /// What Cedar sees of it; `None` (a value that does not fit its type) denies.
    fn facts(&self) -> Option<Facts> {
        let frame = Frame {
            names: &self.rules.names,
            action: &self.entry.action,
            parameters: &self.entry.parameters,
            uses: &self.entry.uses,
            needs: &self.entry.needs,
        };
        Facts::of(&frame, self.caller, self.question)
    }

    fn cedar(&self, facts: &Facts) -> Outcome {
        let seen = (&facts.request, &facts.entities);
        walk(self.entry, self.question.resource, |pass| {
            let response = self.entry.cedar.ask(&self.rules.authorizer, seen, pass);
            stage::cedar(self.entry, response.as_ref(), pass)
        })
    }

    /// Whether Cedar says otherwise. What Cedar cannot be asked, it would have denied.
    fn cedar_differs(&self, outcome: Outcome) -> bool {
        match self.facts() {
            Some(facts) => self.cedar(&facts) != outcome,
            None => matches!(outcome, Outcome::Permitted(_)),
        }
    }

    fn asked<'f>(&'f self, facts: &'f Facts) -> Asked<'f> {
        let Case { rules, entry, caller, question } = self;
        Asked { rules, entry, caller, question, facts }
    }
}

/// An allowed question with each clause; a clause that does not hold after all denies.
fn told(mark: &Mark, asked: &Asked<'_>) -> Verdict {
    let position = match mark.origin {
        Origin::Table(position) | Origin::Permit(position) => Some(position),
        Origin::Forbid => None,
    };
    let table = position.and_then(|position| asked.entry.alternatives.get(position));
    let account = table.map(|table| Account::of(table, asked, Pass::Owner));
    match account {
        Some(account) if account.failed.is_empty() => {
            Verdict::Allow { rule: Arc::clone(&mark.id), clauses: account.clauses }
        }
        Some(account) => {
            let clauses = account.clauses;
            Verdict::Deny(Denial { clauses, ..bare("ClausesDisagree", Arc::clone(&mark.id)) })
        }
        None => refused("ClausesDisagree", Arc::clone(&mark.id)),
    }
}

/// Why every table said no.
fn denial(asked: &Asked<'_>, pass: Pass) -> Denial {
    let entry = asked.entry;
    let accounts: Vec<(&Alternative, Account)> = entry
        .alternatives
        .iter()
        .map(|alternative| (alternative, Account::of(alternative, asked, pass)))
        .collect();
    // RFC 6750 §3.1: `insufficient_scope` only where scope alone is missing; RFC 9470 §3 likewise.
    let alone = |wanted: ClauseKind| {
        let lacks =
            |account: &Account| matches!(account.failed.as_slice(), [(kind, _)] if *kind == wanted);
        accounts.iter().find(|(_, account)| lacks(account)).map(|(alternative, _)| *alternative)
    };
    // INVARIANT: nothing that depends on who owns the object is told: once it was looked up, an
    // object of someone else is answered like one that is not there.
    let looked_up = entry.waits.owner && pass == Pass::Owner;
    let scope_needed = alone(ClauseKind::Scope).filter(|_| !looked_up);
    let scope_needed =
        scope_needed.and_then(|table| table.scope.as_ref()).map(ScopeClause::sufficient);
    let step_up = alone(ClauseKind::StepUp).filter(|_| !looked_up);
    let step_up = step_up.and_then(|table| table.step_up.as_ref()).map(StepUpClause::challenge);
    let rank =
        |account: &Account| (account.admits_caller(), std::cmp::Reverse(account.failed.len()));
    let mut furthest: Option<&(&Alternative, Account)> = None;
    for candidate in &accounts {
        if furthest.is_none_or(|best| rank(&candidate.1) > rank(&best.1)) {
            furthest = Some(candidate);
        }
    }
    let (reason, rule) = match furthest {
        Some((alternative, account)) => {
            let first = account.failed.first().map(|(_, reason)| *reason);
            (first.unwrap_or("ClausesDisagree"), Arc::clone(&alternative.rule))
        }
        None => ("Closed", Arc::clone(&entry.operation.rule)),
    };
    let reason = if looked_up { ClauseKind::Owner.reason() } else { reason };
    let clauses = accounts.into_iter().flat_map(|(_, account)| account.clauses).collect();
    Denial { reason, rule, scope_needed, step_up, clauses }
}

/// A forbid of a file: nothing that the caller could bring would help.
fn forbidden(asked: &Asked<'_>, mark: Option<&Mark>, (forbade, pass): (Forbade, Pass)) -> Denial {
    let entry = asked.entry;
    let looked_up = mark.is_some_and(|mark| mark.waits.owner);
    let reason = match forbade {
        _ if looked_up => ClauseKind::Owner.reason(),
        Forbade::Holds => "Forbidden",
        Forbade::Errs => "ForbidErred",
    };
    let rule = mark.map_or_else(|| Arc::clone(&entry.operation.rule), |mark| Arc::clone(&mark.id));
    let tables = entry.alternatives.iter();
    let mut clauses: Vec<Clause> =
        tables.flat_map(|table| Account::of(table, asked, pass).clauses).collect();
    let inputs = match forbade {
        Forbade::Holds => "it holds",
        Forbade::Errs => "it has no value for these inputs",
    };
    clauses.push(Clause { clause: format!("forbid {rule}"), held: false, inputs: inputs.into() });
    Denial { clauses, ..bare(reason, rule) }
}

fn bare(reason: &'static str, rule: Arc<str>) -> Denial {
    Denial { reason, rule, scope_needed: None, step_up: None, clauses: Vec::new() }
}

fn refused(reason: &'static str, rule: Arc<str>) -> Verdict {
    Verdict::Deny(bare(reason, rule))
}

/// Judges, and mints the permit of the request with this serial.
///
/// # Errors
/// The denial, or what must be known before there can be a decision.
pub fn decide(rules: &Rules, question: &Question<'_>, serial: u64) -> Result<Permit, Undecided> {
    match judge(rules, question) {
        Verdict::Allow { rule, clauses } => {
            let response = rules.entry(question.operation).and_then(|e| e.response.as_ref());
            let groups = response.map(|one| one.groups(question.caller)).unwrap_or_default();
            Ok(Permit { operation: question.operation, rule, serial, clauses, groups })
        }
        Verdict::Deny(denial) => Err(Undecided::Denied(Box::new(denial))),
        Verdict::NeedsBody => Err(Undecided::NeedsBody),
        Verdict::NeedsOwner => Err(Undecided::NeedsOwner),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
