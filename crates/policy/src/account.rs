//! Why a table said no: its clauses judged one by one, in words, with their inputs. Told only after
//! the decision; where it contradicts the decision, the answer is no.

use cedar_policy::{Decision, EvalResult, Expression, eval_expression};
use portcullis_core::audit::{Clause, neutralise};
use portcullis_core::jose::claims::Attribute;

use crate::clause::{Alternative, ClauseKind, Grants, Objects};
use crate::compile::{Entry, Rules};
use crate::compiled::Pass;
use crate::condition::{Access, Condition, Root};
use crate::declared::header_name;
use crate::entities::{Caller, Facts, Question, attribute_of};
use crate::field::{Field, Value};
use crate::stage::Waits;

/// A question with the rules that it is put to, and what Cedar sees of it.
pub(crate) struct Asked<'q> {
    pub(crate) rules: &'q Rules,
    pub(crate) entry: &'q Entry,
    pub(crate) caller: &'q Caller,
    pub(crate) question: &'q Question<'q>,
    pub(crate) facts: &'q Facts,
}

/// The clauses of one table.
pub(crate) struct Account {
    pub(crate) clauses: Vec<Clause>,
    /// Those that failed, in order, with the reason.
    pub(crate) failed: Vec<(ClauseKind, &'static str)>,
}

impl Account {
    /// Of what a pass can judge.
    pub(crate) fn of(alternative: &Alternative, asked: &Asked<'_>, pass: Pass) -> Self {
        let circumstances = asked.question.circumstances;
        let mut account = Account { clauses: Vec::new(), failed: Vec::new() };
        for (kind, clause) in alternative.plain_clauses(asked.caller, circumstances) {
            account.tell(kind, kind.reason(), clause);
        }
        if alternative.grants == Grants::Files {
            account.files(asked, pass);
        }
        if let Some((condition, _)) = &alternative.when
            && asked.can_judge(condition, pass)
        {
            let value = asked.evaluate(&condition.expression);
            let reason = match value {
                Some(_) => ClauseKind::When.reason(),
                None => "ConditionErred",
            };
            let clause = format!("when = \"{}\"", condition.text);
            let (held, inputs) = (value == Some(true), inputs(condition, asked));
            account.tell(ClauseKind::When, reason, Clause { clause, held, inputs });
        }
        account.step_up(alternative, asked, pass);
        if alternative.objects == Objects::CallersOwn && pass == Pass::Owner {
            let id = attribute_of(asked.caller, "id").map(shown).unwrap_or_default();
            let owner = asked.question.resource.owner.as_deref().unwrap_or_default();
            let clause = "owner = the caller".to_owned();
            let held = !id.is_empty() && id == owner;
            let inputs = format!("resource.owner={} principal.id={id}", neutralise(owner));
            account.tell(
                ClauseKind::Owner,
                ClauseKind::Owner.reason(),
                Clause { clause, held, inputs },
            );
        }
        account
    }

    fn tell(&mut self, kind: ClauseKind, reason: &'static str, clause: Clause) {
        if !clause.held {
            self.failed.push((kind, reason));
        }
        self.clauses.push(clause);
    }

    /// `allow = "policy"`: whether some permit of a file holds by itself.
    fn files(&mut self, asked: &Asked<'_>, pass: Pass) {
        let seen = (&asked.facts.request, &asked.facts.entities);
        let bare = asked.entry.bare.as_ref();
        let response = bare.and_then(|bare| bare.ask(&asked.rules.authorizer, seen, pass));
        let held = response.as_ref().is_some_and(|one| one.decision() == Decision::Allow);
        let by = response.iter().flat_map(|one| one.diagnostics().reason());
        let by: Vec<&str> = by.map(AsRef::as_ref).filter(|_| held).collect();
        let clause = "a permit in the Cedar files".to_owned();
        let clause = Clause { clause, held, inputs: by.join(" ") };
        self.tell(ClauseKind::Policy, ClauseKind::Policy.reason(), clause);
    }

    /// What is absent or errs in its condition is "needed".
    fn step_up(&mut self, alternative: &Alternative, asked: &Asked<'_>, pass: Pass) {
        let Some(step_up) = &alternative.step_up else { return };
        let needed = step_up.when.as_ref();
        if needed.is_some_and(|needed| !asked.can_judge(&needed.condition, pass)) {
            return;
        }
        let circumstances = asked.question.circumstances;
        let freed = |refuted: &Expression| asked.evaluate(refuted) == Some(true);
        let held =
            step_up.is_fresh(circumstances) || needed.is_some_and(|needed| freed(&needed.refuted));
        let inputs = needed.map(|needed| inputs(&needed.condition, asked)).unwrap_or_default();
        let clause = step_up.told(held, circumstances, &inputs);
        self.tell(ClauseKind::StepUp, ClauseKind::StepUp.reason(), clause);
    }

    /// Whether the table speaks of such a caller at all.
    pub(crate) fn admits_caller(&self) -> bool {
        !self.failed.iter().any(|(kind, _)| *kind == ClauseKind::Allow)
    }
}

impl Asked<'_> {
    /// Whether all that a condition reads is there by this pass.
    fn can_judge(&self, condition: &Condition, pass: Pass) -> bool {
        let reads = |member: &str| {
            condition.reads.iter().any(|read| {
                read.root == Root::Resource && read.path.first().is_some_and(|one| one == member)
            })
        };
        Waits { body: reads("body"), owner: reads("owner") }.beyond(pass).is_none()
    }

    /// `None` when it errs, or is no truth value.
    fn evaluate(&self, expression: &Expression) -> Option<bool> {
        match eval_expression(&self.facts.request, &self.facts.entities, expression) {
            Ok(EvalResult::Bool(value)) => Some(value),
            Ok(_) | Err(_) => None,
        }
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
    let circumstances = asked.question.circumstances;
    let first = path.first()?.as_str();
    match root {
        Root::Principal => attribute_of(asked.caller, first).map(shown),
        Root::Resource => member_of(path, asked),
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

fn member_of(path: &[String], asked: &Asked<'_>) -> Option<String> {
    let (resource, uses) = (asked.question.resource, &asked.entry.uses);
    let (first, rest) = path.split_first()?;
    let at = |fields: &[Field], name: fn(&Field) -> String, values: &[Option<Value>]| {
        let wanted = rest.join(".");
        let position = fields.iter().position(|field| name(field) == wanted)?;
        values.get(position)?.as_ref().map(written)
    };
    let plain = |field: &Field| field.name.to_string();
    match first.as_str() {
        "query" => at(&uses.query, plain, &resource.query),
        "header" => at(&uses.header, header_name, &resource.header),
        "body" => at(&uses.body, plain, resource.body.as_ref()?),
        "owner" => resource.owner.clone(),
        name => {
            let mut parameters = resource.parameters.iter();
            parameters.find(|(known, _)| known == name).map(|(_, value)| value.clone())
        }
    }
}

fn written(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Long(value) => value.to_string(),
        Value::Decimal(value) => value.to_string(),
        Value::Text(value) => value.clone(),
        Value::Set(values) => values.iter().map(written).collect::<Vec<_>>().join(","),
    }
}

fn shown(value: Attribute) -> String {
    match value {
        Attribute::Bool(value) => value.to_string(),
        Attribute::Integer(value) => value.to_string(),
        Attribute::String(value) => value,
    }
}
