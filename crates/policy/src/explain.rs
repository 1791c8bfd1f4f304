//! `explain`: one request's way through the table and the rule, clause by clause, for people.

use crate::compile::{Operation, Rules};
use crate::decide::{Verdict, judge_told};
use crate::entities::{Caller, Circumstances, Question};
use crate::table::Found;

/// What would meet a request.
pub struct Explanation {
    /// The line, if one was found.
    pub key: Option<String>,
    /// `file:line`.
    pub rule: Option<String>,
    /// `route`, `authenticate` or `authorize`.
    pub stage: &'static str,
    /// The status it would get: 200 stands for "forwarded".
    pub status: u16,
    /// The verdict, when the policy was asked.
    pub verdict: Option<Verdict>,
    /// The limits that would be charged.
    pub limits: Vec<String>,
    /// What to do about a no, in words.
    pub remedy: Option<String>,
}

/// Explains a request: `target` is (host, method, canonical path).
pub fn explain(
    rules: &Rules,
    target: (&str, &str, &str),
    caller: &Caller,
    circumstances: &Circumstances,
) -> Explanation {
    let (host, method, path) = target;
    let (id, values) = match rules.find(host, method, path) {
        Found::Operation(id, values) => (id, values),
        Found::NotFound => return unrouted(404, not_found(host, path)),
        Found::MethodNotAllowed(methods) => {
            return unrouted(405, format!("the path is there for {} alone", methods.join(", ")));
        }
    };
    let parameters: Vec<(String, String)> =
        values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let Some(operation) = rules.operation(id) else { return unrouted(404, not_found(host, path)) };
    let mut explanation = routed(operation);
    if operation.authenticates && *caller == Caller::Anonymous {
        explanation.stage = "authenticate";
        explanation.status = 401;
        explanation.remedy = Some("send a token: the line does not allow `anyone`".into());
        return explanation;
    }
    let question = Question { operation: id, parameters: &parameters, caller, circumstances };
    let verdict = judge_told(rules, &question);
    if let Verdict::Deny(denial) = &verdict {
        // RFC 6750 §3.1: a token that is not the kind asked for is 401 at the gateway.
        explanation.status = if denial.reason == "TokenUnbound" { 401 } else { 403 };
        explanation.remedy = Some(advice(denial.reason, denial.scope_needed.as_deref()));
    }
    explanation.verdict = Some(verdict);
    explanation
}

fn unrouted(status: u16, remedy: String) -> Explanation {
    Explanation {
        key: None,
        rule: None,
        stage: "route",
        status,
        verdict: None,
        limits: Vec::new(),
        remedy: Some(remedy),
    }
}

fn routed(operation: &Operation) -> Explanation {
    let limits = operation.limits.iter().map(|limit| limit.to_string()).collect();
    Explanation {
        key: Some(operation.key.to_string()),
        rule: Some(operation.rule.to_string()),
        stage: "authorize",
        status: 200,
        verdict: None,
        limits,
        remedy: None,
    }
}

fn not_found(host: &str, path: &str) -> String {
    format!(
        "no open line owns `{path}` at `{host}` in this spelling: write one, or open the one that is closed"
    )
}

fn advice(reason: &str, scope_needed: Option<&str>) -> String {
    match (reason, scope_needed) {
        (_, Some(scope)) => format!("ask for a token with the scope `{scope}`"),
        ("PrincipalNotAllowed", None) => {
            "grant the caller what `allow` names, or name the caller".into()
        }
        ("ScopeMissing", None) => "the scope is missing, and would not suffice alone".into(),
        ("TokenUnbound", None) => {
            "use a token that is bound as `bound` says (DPoP, or a client certificate)".into()
        }
        ("ActorNotNamed", None) => {
            "call without a service in between, or name each service in `via`".into()
        }
        ("NetworkForeign", None) => "call from a network of `from`, or add the caller's".into(),
        ("LineEnded", None) => "the line's `until` has passed: write a later date".into(),
        ("ConditionFalse", None) => {
            "the condition does not hold for these values; an absent attribute never grants".into()
        }
        ("ConditionErred", None) => "the condition cannot be evaluated for these values".into(),
        _ => "read the clauses above".into(),
    }
}
