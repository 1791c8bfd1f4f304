//! `explain`: one request's way through the table and the rule, clause by clause, for people.

use crate::body;
use crate::compile::{Operation, Rules};
use crate::decide::{Denial, Verdict, judge_told};
use crate::entities::{Caller, Circumstances, Question};
use crate::field::{Field, Value};
use crate::query::{self, QueryFault};
use crate::resource::Resource;
use crate::table::{Found, OperationId};

/// A request, as far as rules can see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The authority, in lower case, without a default port.
    pub host: &'a str,
    /// Upper case.
    pub method: &'a str,
    /// Canonical, percent-encoded.
    pub path: &'a str,
    /// What stands behind `?`.
    pub query: Option<&'a str>,
    /// Header fields: names in lower case, values.
    pub headers: &'a [(String, String)],
    /// The body; `None`: not said.
    pub body: Option<&'a [u8]>,
    /// Who owns the object; `None`: not said.
    pub owner: Option<&'a str>,
}

/// What would meet a request.
#[derive(Debug)]
pub struct Explanation {
    /// The line, if one was found.
    pub key: Option<String>,
    /// `file:line`.
    pub rule: Option<String>,
    /// `route`, `authenticate` or `authorize`.
    pub stage: &'static str,
    /// The status it would get: 200 stands for "forwarded", 0 for "depends on what was not said".
    pub status: u16,
    /// The rule broken, as the record would name it.
    pub reason: Option<String>,
    /// The verdict, when the policy was asked.
    pub verdict: Option<Verdict>,
    /// The limits that would be charged.
    pub limits: Vec<String>,
    /// What to do about a no, in words.
    pub remedy: Option<String>,
}

/// Explains a request.
pub fn explain(
    rules: &Rules,
    asked: &Asked<'_>,
    caller: &Caller,
    circumstances: &Circumstances,
) -> Explanation {
    let (host, path) = (asked.host, asked.path);
    let (id, values) = match rules.find(host, asked.method, path) {
        Found::Operation(id, values) => (id, values),
        Found::NotFound => return unrouted(404, not_found(host, path)),
        Found::MethodNotAllowed(methods) => {
            return unrouted(405, format!("the path is there for {} alone", methods.join(", ")));
        }
    };
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let Some(operation) = rules.operation(id) else { return unrouted(404, not_found(host, path)) };
    let explanation = routed(operation);
    let resource = match head_of(operation, asked, values) {
        Ok(resource) => resource,
        Err(fault) => {
            let (reason, remedy) = (format!("{fault:?}"), fault.to_string());
            return explanation.refuse(("route", 400), reason, remedy);
        }
    };
    if operation.authenticates && *caller == Caller::Anonymous {
        let remedy = "send a token: the line does not allow `anyone`".to_owned();
        return explanation.refuse(("authenticate", 401), "CredentialMissing".into(), remedy);
    }
    explanation.decide(rules, asked, (id, resource), (caller, circumstances))
}
/// Query and headers, as the gateway reads them before anyone is identified.
fn head_of(
    operation: &Operation,
    asked: &Asked<'_>,
    parameters: Vec<(String, String)>,
) -> Result<Resource, QueryFault> {
    let query = query::read(&operation.query, asked.query)?;
    let header = operation.header.iter().map(|field| header_of(field, asked.headers));
    let header = header.collect::<Result<Vec<Option<Value>>, QueryFault>>()?;
    Ok(Resource { parameters, query, header, body: None, owner: None })
}

fn header_of(field: &Field, headers: &[(String, String)]) -> Result<Option<Value>, QueryFault> {
    let mut values = headers.iter().filter(|(name, _)| **name == *field.name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some((_, text)), None) => query::header(&field.kind, text).map(Some),
        (Some(_), Some(_)) => Err(QueryFault::ParameterDoubled),
    }
}

impl Explanation {
    /// Asks policy, with body and owner where it needs them.
    fn decide(
        self,
        rules: &Rules,
        asked: &Asked<'_>,
        (id, mut resource): (OperationId, Resource),
        (caller, circumstances): (&Caller, &Circumstances),
    ) -> Self {
        let judge = |resource: &Resource| {
            judge_told(rules, &Question { operation: id, resource, caller, circumstances })
        };
        let mut verdict = judge(&resource);
        let judged = rules.operation(id).and_then(|operation| operation.body.as_ref());
        if let (Verdict::NeedsBody, Some(bytes), Some(judged)) = (&verdict, asked.body, judged) {
            if u64::try_from(bytes.len()).is_ok_and(|length| length > judged.max) {
                let remedy = format!("send at most {} bytes: a rule reads this body", judged.max);
                return self.refuse(("authorize", 413), "BodyTooLarge".into(), remedy);
            }
            match body::read(&judged.shape, &judged.fields, bytes) {
                Ok(values) => resource.body = Some(values),
                Err(fault) => {
                    let (reason, remedy) = (format!("{fault:?}"), fault.to_string());
                    return self.refuse(("authorize", 400), reason, remedy);
                }
            }
            verdict = judge(&resource);
        }
        if let (Verdict::NeedsOwner, Some(owner)) = (&verdict, asked.owner) {
            resource.owner = Some(owner.to_owned());
            verdict = judge(&resource);
        }
        self.judged(verdict)
    }

    fn refuse(
        mut self,
        (stage, status): (&'static str, u16),
        reason: String,
        remedy: String,
    ) -> Self {
        (self.stage, self.status) = (stage, status);
        (self.reason, self.remedy) = (Some(reason), Some(remedy));
        self
    }

    fn judged(mut self, verdict: Verdict) -> Self {
        match &verdict {
            Verdict::Allow { .. } => {}
            Verdict::Deny(denial) => {
                self.status = status(denial);
                self.reason = Some(denial.reason.to_owned());
                self.remedy = Some(advice(denial));
            }
            Verdict::NeedsBody => {
                self.status = 0;
                self.remedy = Some("say what the body is".into());
            }
            Verdict::NeedsOwner => {
                self.status = 0;
                self.remedy = Some("say who owns the object".into());
            }
        }
        self.verdict = Some(verdict);
        self
    }
}

/// The status that the gateway answers a denial with.
fn status(denial: &Denial) -> u16 {
    match denial.reason {
        // RFC 6750 §3.1: `insufficient_scope`.
        _ if denial.scope_needed.is_some() => 403,
        // RFC 6750 §3.1: a token that is not the kind asked for; RFC 9470 §3: one too weak or old.
        "TokenUnbound" => 401,
        _ if denial.step_up.is_some() => 401,
        // An object of someone else is answered like one that is not there.
        "OwnerForeign" => 404,
        _ => 403,
    }
}

fn unrouted(status: u16, remedy: String) -> Explanation {
    Explanation {
        key: None,
        rule: None,
        stage: "route",
        status,
        reason: Some(if status == 405 { "MethodNotAllowed" } else { "NotFound" }.into()),
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
        reason: None,
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

fn advice(denial: &Denial) -> String {
    if let Some(scope) = &denial.scope_needed {
        return format!("ask for a token with the scope `{scope}`");
    }
    if let Some(step_up) = &denial.step_up {
        let seconds = step_up.max_age.unwrap_or_default();
        let acr = step_up.acr_values.join("` or `");
        return format!("log in again: `{acr}` within the last {seconds} s");
    }
    match denial.reason {
        "PrincipalNotAllowed" => "grant the caller what `allow` names, or name the caller",
        "ScopeMissing" => "the scope is missing, and would not suffice alone",
        "StepUpNeeded" => "a fresh factor is missing, and would not suffice alone",
        "TokenUnbound" => {
            "use a token that is bound as `bound` says (DPoP, or a client certificate)"
        }
        "ActorNotNamed" => "call without a service in between, or name each service in `via`",
        "NetworkForeign" => "call from a network of `from`, or add the caller's",
        "LineEnded" => "the line's `until` has passed: write a later date",
        "PolicySilent" => {
            "no permit of the Cedar files holds: write one, or let the table allow it"
        }
        "ConditionFalse" => {
            "the condition does not hold for these values; an absent attribute never grants"
        }
        "ConditionErred" => "the condition cannot be evaluated for these values",
        "OwnerForeign" => {
            "the object belongs to someone else; callers are told that it is not there"
        }
        "Forbidden" => "a `forbid` holds, and no permit outweighs it: narrow it, or the request",
        "ForbidErred" => "a `forbid` has no value for these inputs, which denies: guard it",
        "EvaluatorsDisagree" => "this is a defect of ours: please report it with the rule",
        _ => "read the clauses above",
    }
    .to_owned()
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
