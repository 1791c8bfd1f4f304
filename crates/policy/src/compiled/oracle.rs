//! Tests only: Cedar's own answer to a generated question, built from the question anew (not by
//! [`crate::entities`], which is tested elsewhere), and our one rule on top: an erring forbid denies.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, Entity, EntityUid, EvalResult,
    Expression, Policy, PolicyId, PolicySet, Request, RestrictedExpression, eval_expression,
};
use ipnet::IpNet;
use portcullis_core::jose::claims::Attribute;

use super::generator::{ACTION, Draft, GROUPS, declared};
use super::value::{Held, Set};
use super::{Answered, Pass};
use crate::entities::{Caller, Circumstances, uid};
use crate::expr;
use crate::field::{Decimal, Field, Value};
use crate::resource::Resource;

/// A value that both sides can be turned into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    Bool(bool),
    Long(i64),
    Text(String),
    Decimal(i64),
    Network(IpNet),
    Entity(String, String),
    Set(BTreeSet<Seen>),
}

/// A question as Cedar takes it.
pub(super) struct Asking {
    request: Request,
    entities: Entities,
}

type Rx = RestrictedExpression;

impl Asking {
    pub(super) fn of(caller: &Caller, resource: &Resource, around: &Circumstances) -> Self {
        let (principal, attributes, parents) = principal(caller);
        let action = uid("Action", ACTION).unwrap();
        let groups = GROUPS.iter().map(|group| uid("Action", group).unwrap()).collect();
        let about = uid("Resource", "requested").unwrap();
        let entities = Entities::from_entities(
            [
                Entity::new(principal.clone(), attributes, parents).unwrap(),
                Entity::new(action.clone(), HashMap::new(), groups).unwrap(),
                Entity::new(about.clone(), about_values(resource), HashSet::new()).unwrap(),
            ],
            None,
        );
        let context = Context::from_pairs(context(around)).unwrap();
        let request = Request::new(principal, action, about, context, None).unwrap();
        Asking { request, entities: entities.unwrap() }
    }

    /// What an expression comes to; `None` when it errs.
    pub(super) fn value(&self, expression: &Expression) -> Option<Seen> {
        eval_expression(&self.request, &self.entities, expression).ok().map(|value| seen(&value))
    }

    /// The policies' answer, from Cedar's reasons and errors.
    pub(super) fn answer(&self, policies: &PolicySet, drafts: &[Draft]) -> Answered {
        let response = Authorizer::new().is_authorized(&self.request, policies, &self.entities);
        let position = |id: &PolicyId| AsRef::<str>::as_ref(id).parse::<usize>().unwrap();
        let reasons: BTreeSet<usize> = response.diagnostics().reason().map(position).collect();
        let failed = response.diagnostics().errors().map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => position(error.policy_id()),
        });
        let errors: BTreeSet<usize> = failed.collect();
        let forbids = drafts.iter().enumerate().filter(|(_, draft)| draft.effect == "forbid");
        for (at, _) in forbids {
            if reasons.contains(&at) {
                return Answered::Forbidden(at);
            }
            if errors.contains(&at) {
                return Answered::ForbidErred(at);
            }
        }
        match (response.decision(), reasons.first()) {
            (Decision::Allow, Some(first)) => Answered::Permitted(*first),
            _ => Answered::NotPermitted,
        }
    }
}

/// The policies of drafts as a pass sees them: without what waits.
pub(super) fn judged(drafts: &[Draft], pass: Pass) -> PolicySet {
    let mut set = PolicySet::new();
    for (position, draft) in drafts.iter().enumerate() {
        let kept: Vec<&str> = draft
            .conditions
            .iter()
            .map(String::as_str)
            .filter(|condition| waits_for(condition) <= pass)
            .collect();
        if draft.effect == "permit" || kept.len() == draft.conditions.len() {
            set.add(policy(draft, position, &kept)).unwrap();
        }
    }
    set
}

/// The first pass that can judge the text.
pub(super) fn waits_for(condition: &str) -> Pass {
    if condition.contains("resource.owner") {
        Pass::Owner
    } else if condition.contains("resource.body") || condition.contains("has body.") {
        Pass::Body
    } else {
        Pass::Head
    }
}

/// A policy with some of its conditions.
pub(super) fn policy(draft: &Draft, position: usize, conditions: &[&str]) -> Policy {
    let text = format!("{}{}\n{};", draft.effect, draft.head, conditions.join("\n"));
    let id = PolicyId::new(position.to_string());
    Policy::parse(Some(id), &text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// Runs with the slots of the generator's operation.
pub(super) fn with_slots<T>(run: impl FnOnce(&expr::Slots<'_>) -> T) -> T {
    let (parameters, [query, header, body]) = declared();
    let groups = GROUPS.map(Into::into);
    run(&expr::Slots {
        action: ACTION,
        groups: &groups,
        parameters: &parameters,
        query: &query,
        header: &header,
        body: &body,
    })
}

fn principal(caller: &Caller) -> (EntityUid, HashMap<String, Rx>, HashSet<EntityUid>) {
    let mut values = HashMap::new();
    let mut parents = HashSet::new();
    let mut put = |name: &str, value: Rx| {
        values.insert(name.to_owned(), value);
    };
    let (kind, id, tenant) = match caller {
        Caller::Anonymous => ("Anonymous", "anyone", None),
        Caller::Service { id, tenant } => ("Service", id.as_str(), tenant.as_ref()),
        Caller::User(user) => {
            for (name, value) in &user.attributes {
                put(
                    name,
                    match value {
                        Attribute::Bool(value) => Rx::new_bool(*value),
                        Attribute::Integer(value) => Rx::new_long(*value),
                        Attribute::String(value) => text(value),
                    },
                );
            }
            put("issuer", text(&user.issuer));
            parents.extend(user.roles.iter().map(|role| uid("Role", role).unwrap()));
            parents.extend(user.groups.iter().map(|group| uid("Group", group).unwrap()));
            ("User", user.id.as_str(), user.tenant.as_ref())
        }
    };
    if kind != "Anonymous" {
        put("id", text(id));
    }
    if let Some(tenant) = tenant {
        put("tenant", text(tenant));
        parents.insert(uid("Tenant", tenant).unwrap());
    }
    (uid(kind, id).unwrap(), values, parents)
}

fn about_values(resource: &Resource) -> HashMap<String, Rx> {
    let (_, [query, header, body]) = declared();
    let mut values = HashMap::new();
    for (name, value) in &resource.parameters {
        let value = if name == "n" { Rx::new_long(value.parse().unwrap()) } else { text(value) };
        values.insert(name.clone(), value);
    }
    values.insert("query".into(), record(&query, &resource.query, ""));
    values.insert("header".into(), record(&header, &resource.header, ""));
    if let Some(members) = &resource.body {
        values.insert("body".into(), record(&body, members, ""));
    }
    if let Some(owner) = &resource.owner {
        values.insert("owner".into(), text(owner));
    }
    values
}

/// The fields below a prefix; of those with a dot, a record of their own.
fn record(fields: &[Field], values: &[Option<Value>], prefix: &str) -> Rx {
    let mut pairs: Vec<(String, Rx)> = Vec::new();
    let mut inner = false;
    for (field, value) in fields.iter().zip(values) {
        let Some(name) = field.name.strip_prefix(prefix) else { continue };
        match value {
            Some(_) if name.contains('.') => inner = true,
            Some(value) => pairs.push((name.replace('-', "_"), field_value(value))),
            None => {}
        }
    }
    if inner {
        pairs.push(("card".into(), record(fields, values, "card.")));
    }
    Rx::new_record(pairs).unwrap()
}

fn field_value(value: &Value) -> Rx {
    match value {
        Value::Bool(value) => Rx::new_bool(*value),
        Value::Long(value) => Rx::new_long(*value),
        Value::Decimal(value) => Rx::new_decimal(value.to_string()),
        Value::Text(value) => text(value),
        Value::Set(members) => Rx::new_set(members.iter().map(field_value)),
    }
}

fn context(around: &Circumstances) -> Vec<(String, Rx)> {
    let texts = |texts: &[String]| Rx::new_set(texts.iter().map(|member| text(member)));
    let ages = around.ages.iter().map(|(name, age)| ((*name).to_owned(), Rx::new_long(*age)));
    let mut pairs = vec![
        ("now", Rx::new_long(around.now)),
        ("ip", Rx::new_ip(around.ip.to_canonical().to_string())),
        ("scopes", Rx::new_set(around.scopes.iter().map(text))),
        ("amr", texts(&around.amr)),
        ("actors", texts(&around.actors)),
        ("dpop", Rx::new_bool(around.dpop)),
        ("mtls", Rx::new_bool(around.mtls)),
        ("age", Rx::new_record(ages).unwrap()),
    ];
    pairs.extend(around.client.iter().map(|client| ("client", text(client))));
    pairs.extend(around.acr.iter().map(|acr| ("acr", text(acr))));
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn text(value: &str) -> Rx {
    Rx::new_string(value.to_owned())
}

fn seen(value: &EvalResult) -> Seen {
    match value {
        EvalResult::Bool(value) => Seen::Bool(*value),
        EvalResult::Long(value) => Seen::Long(*value),
        EvalResult::String(value) => Seen::Text(value.clone()),
        EvalResult::EntityUid(uid) => {
            Seen::Entity(uid.type_name().to_string(), uid.id().unescaped().to_owned())
        }
        EvalResult::Set(members) => Seen::Set(members.iter().map(seen).collect()),
        EvalResult::ExtensionValue(shown) => {
            let argument = shown.split('"').nth(1).unwrap();
            if shown.starts_with("decimal") {
                Seen::Decimal(Decimal::parse(argument).unwrap().ten_thousandths())
            } else {
                let alone = || argument.parse::<IpAddr>().unwrap().into();
                Seen::Network(argument.parse().unwrap_or_else(|_| alone()))
            }
        }
        EvalResult::Record(_) => panic!("records are no values here"),
    }
}

impl<'v> super::evaluate::Asked<'v> {
    /// Our value, to be compared.
    pub(super) fn seen(&self, value: Held<'v>) -> Seen {
        match value {
            Held::Bool(value) => Seen::Bool(value),
            Held::Long(value) => Seen::Long(value),
            Held::Text(value) => Seen::Text(value.to_owned()),
            Held::Decimal(value) => Seen::Decimal(value.ten_thousandths()),
            Held::Network(value) => Seen::Network(value),
            Held::Principal | Held::Entity(_) => {
                let uid = value.entity(self.caller).unwrap();
                Seen::Entity(uid.kind.to_owned(), uid.id.to_owned())
            }
            Held::Set(set) => Seen::Set(self.members(set)),
        }
    }

    fn members(&self, set: Set<'v>) -> BTreeSet<Seen> {
        let mut members = BTreeSet::new();
        self.any(set, |member| {
            members.insert(self.seen(member));
            false
        });
        members
    }
}

impl Held<'_> {
    /// Whether both are of one type.
    pub(super) fn is_like(self, other: Held<'_>) -> bool {
        let kind = |held: Held<'_>| match held {
            Held::Bool(_) => 0,
            Held::Long(_) => 1,
            Held::Text(_) => 2,
            Held::Decimal(_) => 3,
            Held::Network(_) => 4,
            Held::Principal | Held::Entity(_) => 5,
            Held::Set(_) => 6,
        };
        kind(self) == kind(other)
    }
}
