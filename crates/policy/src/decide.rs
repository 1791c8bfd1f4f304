//! The decision. `judge` is pure and for everyone; `decide` is the only maker of a [`Permit`].

use std::sync::Arc;

use cedar_policy::{Decision, EvalResult, Response, eval_expression};
use portcullis_core::audit::{Clause, neutralise};

use crate::clause::{Alternative, ClauseKind};
use crate::compile::{AuditLevel, Entry, Rules};
use crate::condition::{Access, Condition, Root};
use crate::entities::{Caller, Facts, Frame, Question, attribute_of};
use crate::table::OperationId;

/// Policy's yes to one request: not `Clone`, private fields, consumed with its request.
///
/// ```compile_fail,E0451
/// use portcullis_policy::decide::Permit;
/// let forged = Permit { operation: portcullis_policy::table::OperationId(0), rule: "".into(), serial: 1, clauses: vec![] };
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
    /// The clauses that held.
    pub fn clauses(&self) -> &[Clause] {
        &self.clauses
    }
}

/// Policy's no.
#[derive(Clone, Debug, PartialEq)]
pub struct Denial {
    /// `PrincipalNotAllowed`, `ScopeMissing`, `TokenUnbound`, `ActorNotNamed`, `NetworkForeign`, `LineEnded`, `ConditionFalse`,
    /// `ConditionErred`, `Closed`, `OperationUnknown`, `QuestionMalformed`, `ClausesDisagree`: the
    /// rule broken, also the record's reason. Of several tables, that of the one that came furthest.
    pub reason: &'static str,
    /// The table that came furthest, `file:line.alternative`; the line when it is closed.
    pub rule: Arc<str>,
    /// Scopes that would suffice, when scope alone is missing (RFC 6750 §3.1 `insufficient_scope`).
    pub scope_needed: Option<String>,
    /// Each clause judged, with its inputs.
    pub clauses: Vec<Clause>,
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
}

/// Judges a question; never errs into an allow.
///
/// Cedar decides, over the operation's own policies. Only when it says no, or the line is audited in
/// full, are the clauses told one by one. Where they contradict Cedar, the answer is no.
pub fn judge(rules: &Rules, question: &Question<'_>) -> Verdict {
    judge_telling(rules, question, Telling::AsAudited)
}

/// The same verdict, each clause told also when allowed: for `explain`.
pub(crate) fn judge_told(rules: &Rules, question: &Question<'_>) -> Verdict {
    judge_telling(rules, question, Telling::Always)
}

/// When an allowed question's clauses are told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    AsAudited,
    Always,
}

fn judge_telling(rules: &Rules, question: &Question<'_>, telling: Telling) -> Verdict {
    let Some(entry) = rules.entry(question.operation) else {
        return refused("OperationUnknown", "".into());
    };
    if entry.closed.is_some() {
        return refused("Closed", Arc::clone(&entry.operation.rule));
    }
    // A line for `anyone` reads no credentials, so nobody is anyone else there.
    let caller = if entry.operation.authenticates { question.caller } else { &Caller::Anonymous };
    let frame = Frame {
        names: &rules.names,
        action: &entry.action,
        parameters: &entry.parameters,
        needs: &entry.needs,
    };
    let Some(facts) = Facts::of(&frame, caller, question) else {
        return refused("QuestionMalformed", Arc::clone(&entry.operation.rule));
    };
    let response = rules.authorizer.is_authorized(&facts.request, &entry.policies, &facts.entities);
    let asked = Asked { question, caller, facts: &facts };
    let briefly = telling == Telling::AsAudited && entry.operation.audit != AuditLevel::Full;
    match permitting(entry, &response) {
        Some(alternative) if briefly => {
            Verdict::Allow { rule: Arc::clone(&alternative.rule), clauses: Vec::new() }
        }
        Some(alternative) => told(alternative, &asked),
        None => Verdict::Deny(denial(entry, &asked)),
    }
}

/// The first table whose permit held.
fn permitting<'r>(entry: &'r Entry, response: &Response) -> Option<&'r Alternative> {
    if response.decision() != Decision::Allow {
        return None;
    }
    let holds = |alternative: &&Alternative| {
        let mut reasons = response.diagnostics().reason();
        reasons.any(|id| AsRef::<str>::as_ref(id) == &*alternative.rule)
    };
    entry.alternatives.iter().find(holds)
}

/// A question with what was made of it.
struct Asked<'q> {
    question: &'q Question<'q>,
    caller: &'q Caller,
    facts: &'q Facts,
}

/// An allowed question with each clause; a clause that does not hold after all denies.
fn told(alternative: &Alternative, asked: &Asked<'_>) -> Verdict {
    let account = Account::of(alternative, asked);
    if account.failed.is_empty() {
        return Verdict::Allow { rule: Arc::clone(&alternative.rule), clauses: account.clauses };
    }
    Verdict::Deny(Denial {
        reason: "ClausesDisagree",
        rule: Arc::clone(&alternative.rule),
        scope_needed: None,
        clauses: account.clauses,
    })
}

/// Why every table said no.
fn denial(entry: &Entry, asked: &Asked<'_>) -> Denial {
    let accounts: Vec<(&Alternative, Account)> = entry
        .alternatives
        .iter()
        .map(|alternative| (alternative, Account::of(alternative, asked)))
        .collect();
    // RFC 6750 §3.1: `insufficient_scope` only where scope alone is missing.
    let scope_needed = accounts
        .iter()
        .find(|(_, account)| matches!(account.failed.as_slice(), [(ClauseKind::Scope, _)]))
        .and_then(|(alternative, _)| alternative.scope.as_ref())
        .map(|scope| scope.sufficient());
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
    let clauses = accounts.into_iter().flat_map(|(_, account)| account.clauses).collect();
    Denial { reason, rule, scope_needed, clauses }
}

/// The clauses of one table, judged one by one.
struct Account {
    clauses: Vec<Clause>,
    /// Those that failed, in order, with the reason.
    failed: Vec<(ClauseKind, &'static str)>,
}

impl Account {
    fn of(alternative: &Alternative, asked: &Asked<'_>) -> Self {
        let mut told = alternative.plain_clauses(asked.caller, asked.question.circumstances);
        let mut erred = false;
        if let Some((condition, _)) = &alternative.when {
            let value =
                eval_expression(&asked.facts.request, &asked.facts.entities, &condition.expression);
            let held = matches!(value, Ok(EvalResult::Bool(true)));
            erred = value.is_err();
            let clause = format!("when = \"{}\"", condition.text);
            told.push((
                ClauseKind::When,
                Clause { clause, held, inputs: inputs(condition, asked) },
            ));
        }
        let reason = |kind: ClauseKind| match kind {
            ClauseKind::When if erred => "ConditionErred",
            other => other.reason(),
        };
        let failed = told
            .iter()
            .filter(|(_, clause)| !clause.held)
            .map(|(kind, _)| (*kind, reason(*kind)))
            .collect();
        Account { clauses: told.into_iter().map(|(_, clause)| clause).collect(), failed }
    }

    fn admits_caller(&self) -> bool {
        !self.failed.iter().any(|(kind, _)| *kind == ClauseKind::Allow)
    }
}

/// `resource.account=a2 principal.account=a1`: every attribute that a condition reads.
fn inputs(condition: &Condition, asked: &Asked<'_>) -> String {
    let mut shown: Vec<String> = Vec::new();
    for read in &condition.reads {
        if read.access == Access::Value && !read.path.is_empty() {
            let value = value_of(read.root, &read.path, asked);
            let value = value.map_or("(absent)".into(), |value| neutralise(&value));
            shown.push(format!("{}={value}", read.name()));
        }
    }
    shown.join(" ")
}

fn value_of(root: Root, path: &[String], asked: &Asked<'_>) -> Option<String> {
    use portcullis_core::jose::claims::Attribute;
    let circumstances = asked.question.circumstances;
    let first = path.first()?.as_str();
    match root {
        Root::Principal => Some(match attribute_of(asked.caller, first)? {
            Attribute::Bool(value) => value.to_string(),
            Attribute::Integer(value) => value.to_string(),
            Attribute::String(value) => value,
        }),
        Root::Resource => {
            let mut parameters = asked.question.parameters.iter();
            parameters.find(|(name, _)| name == first).map(|(_, value)| value.clone())
        }
        Root::Context => match first {
            "now" => Some(circumstances.now.to_string()),
            "ip" => Some(circumstances.ip.to_canonical().to_string()),
            "client" => circumstances.client.clone(),
            "scopes" => Some(circumstances.scopes.to_string()),
            "acr" => circumstances.acr.clone(),
            "amr" => Some(circumstances.amr.join(",")),
            "dpop" => Some(circumstances.dpop.to_string()),
            "mtls" => Some(circumstances.mtls.to_string()),
            "actors" => Some(circumstances.actors.join(",")),
            _ => {
                let age = path.get(1).and_then(|name| circumstances.ages.get(name.as_str()));
                age.map(ToString::to_string)
            }
        },
        Root::Action => None,
    }
}

fn refused(reason: &'static str, rule: Arc<str>) -> Verdict {
    Verdict::Deny(Denial { reason, rule, scope_needed: None, clauses: Vec::new() })
}

/// Judges, and mints the permit of the request with this serial.
///
/// # Errors
/// The denial.
pub fn decide(rules: &Rules, question: &Question<'_>, serial: u64) -> Result<Permit, Denial> {
    match judge(rules, question) {
        Verdict::Allow { rule, clauses } => {
            Ok(Permit { operation: question.operation, rule, serial, clauses })
        }
        Verdict::Deny(denial) => Err(denial),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
