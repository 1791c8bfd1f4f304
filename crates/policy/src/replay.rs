//! `replay`: yesterday's decisions under other rules. A decision's record carries the facts that it
//! was made of ([`Facts`], [`Recorded`]), so that it can be made again; what is not in the record is
//! never guessed.
//!
//! Reads records and judges; files, counting and words are the command's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portcullis_core::audit::neutralise;
use portcullis_core::jose::claims::Attribute;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::compile::{Operation, Rules};
use crate::decide::{Denial, Verdict, judge};
use crate::entities::{Caller, Circumstances, Question, UserCaller};
use crate::field::{Decimal, Field, FieldKind, Value};
use crate::resource::Resource;
use crate::schema::AGES;
use crate::table::{Found, OperationId};

/// Longest text of a query, header or body that a record keeps, in bytes: a longer one is cut, and
/// then cannot be judged again.
pub const MAX_RECORDED: usize = 256;

/// The facts of a recorded decision that do not depend on the rules: who, and with what token. The
/// record's `facts` member, as JSON; what is empty is not written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// `user:u_…`, `service:ledger`, `anyone`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub caller: String,
    /// The issuer of a user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// The tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Declared attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Attribute>,
    /// Scopes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scopes: String,
    /// The client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Assurance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// Methods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// Unix seconds of each factor.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub factors: BTreeMap<String, i64>,
    /// Bound by DPoP.
    #[serde(skip_serializing_if = "is_not")]
    pub dpop: bool,
    /// Bound by a certificate.
    #[serde(skip_serializing_if = "is_not")]
    pub mtls: bool,
    /// Who acts for the caller.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<String>,
}

fn is_not(flag: &bool) -> bool {
    !flag
}

impl Facts {
    /// Of a credential: what of its circumstances does not change from request to request, and when
    /// each factor was used (Unix seconds, by the names of `context.age`).
    pub fn of(
        caller: &Caller,
        circumstances: &Circumstances,
        factors: impl IntoIterator<Item = (&'static str, i64)>,
    ) -> Self {
        let user = match caller {
            Caller::User(user) => user.clone(),
            Caller::Anonymous => UserCaller::default(),
            Caller::Service { tenant, .. } => {
                UserCaller { tenant: tenant.clone(), ..UserCaller::default() }
            }
        };
        let here = circumstances.clone();
        let factors = factors.into_iter().map(|(name, at)| (name.to_owned(), at));
        Facts {
            caller: caller.label(),
            issuer: user.issuer,
            tenant: user.tenant,
            roles: user.roles,
            groups: user.groups,
            attributes: user.attributes,
            scopes: here.scopes.to_string(),
            client: here.client,
            acr: here.acr,
            amr: here.amr,
            factors: factors.collect(),
            dpop: here.dpop,
            mtls: here.mtls,
            actors: here.actors,
        }
    }

    /// Who it was; `None` when the label is not one.
    pub fn who(&self) -> Option<Caller> {
        match self.caller.split_once(':') {
            None => (self.caller == "anyone").then_some(Caller::Anonymous),
            Some(("user", id)) => Some(Caller::User(UserCaller {
                id: id.into(),
                issuer: self.issuer.clone(),
                tenant: self.tenant.clone(),
                roles: self.roles.clone(),
                groups: self.groups.clone(),
                attributes: self.attributes.clone(),
            })),
            Some(("service", id)) => {
                Some(Caller::Service { id: id.into(), tenant: self.tenant.clone() })
            }
            Some(_) => None,
        }
    }

    /// The circumstances at a moment; `None` when the scopes are none.
    pub fn at(&self, now: i64, ip: IpAddr) -> Option<Circumstances> {
        let age = |name: &&'static str| {
            Some((*name, now.saturating_sub(*self.factors.get(*name)?).max(0)))
        };
        Some(Circumstances {
            now,
            ip,
            client: self.client.clone(),
            scopes: Scopes::parse(&self.scopes).ok()?,
            acr: self.acr.clone(),
            amr: self.amr.clone(),
            ages: AGES.iter().filter_map(age).collect(),
            dpop: self.dpop,
            mtls: self.mtls,
            actors: self.actors.clone(),
        })
    }
}

/// What rules read of query, headers, body and owner: the record's `resource` member. A member that
/// is there with `null` was read and absent; one that is not there was not read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recorded {
    #[serde(skip_serializing_if = "Map::is_empty")]
    query: Map<String, Json>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    header: Map<String, Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Map<String, Json>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// There was more than a record holds.
    #[serde(skip_serializing_if = "is_not")]
    cut: bool,
}

impl Recorded {
    /// Of a question's resource; `None` when there is nothing but the path.
    pub fn of(operation: &Operation, resource: &Resource) -> Option<Self> {
        let fields = operation.body.as_ref().map(|body| body.fields.as_slice());
        let recorded = Recorded {
            query: written(&operation.query, &resource.query),
            header: written(&operation.header, &resource.header),
            body: fields.zip(resource.body.as_deref()).map(|(f, values)| written(f, values)),
            owner: resource.owner.clone().filter(|owner| owner.len() <= MAX_RECORDED),
            cut: false,
        };
        (recorded != Recorded::default()).then_some(recorded)
    }

    /// What stands for one that is larger than a record may be.
    pub fn too_large() -> Self {
        Recorded { cut: true, ..Recorded::default() }
    }

    /// The resource as an operation of other rules reads it.
    fn resource(
        &self,
        operation: &Operation,
        parameters: Vec<(String, String)>,
    ) -> Result<Resource, &'static str> {
        let body = operation.body.as_ref().zip(self.body.as_ref());
        Ok(Resource {
            parameters,
            query: read(&operation.query, &self.query).ok_or("a query parameter")?,
            header: read(&operation.header, &self.header).ok_or("a header field")?,
            // Asked for only if the rules come to need it.
            body: body.and_then(|(judged, values)| read(&judged.fields, values)),
            owner: self.owner.clone(),
        })
    }
}

fn written(fields: &[Field], values: &[Option<Value>]) -> Map<String, Json> {
    let value = |value: &Option<Value>| value.as_ref().map_or(Json::Null, as_json);
    fields.iter().zip(values).map(|(field, v)| (field.name.to_string(), value(v))).collect()
}

fn as_json(value: &Value) -> Json {
    match value {
        Value::Bool(flag) => json!(flag),
        Value::Long(number) => json!(number),
        Value::Decimal(decimal) => json!({ "decimal": decimal.to_string() }),
        Value::Text(text) if text.len() <= MAX_RECORDED => json!(text),
        Value::Text(text) => json!({ "cut": neutralise(text) }),
        Value::Set(values) => values.iter().map(as_json).collect(),
    }
}

fn read(fields: &[Field], values: &Map<String, Json>) -> Option<Vec<Option<Value>>> {
    let one = |field: &Field| match values.get(&*field.name)? {
        Json::Null => Some(None),
        value => as_value(&field.kind, value).map(Some),
    };
    fields.iter().map(one).collect()
}

fn as_value(kind: &FieldKind, value: &Json) -> Option<Value> {
    match kind {
        FieldKind::Bool => value.as_bool().map(Value::Bool),
        FieldKind::Long => value.as_i64().map(Value::Long),
        FieldKind::Text => value.as_str().map(|text| Value::Text(text.into())),
        FieldKind::Decimal => {
            let text = value.get("decimal").and_then(Json::as_str);
            text.and_then(Decimal::parse).map(Value::Decimal)
        }
        FieldKind::Set(kind) => {
            let values: Option<Vec<Value>> =
                value.as_array()?.iter().map(|value| as_value(kind, value)).collect();
            values.map(|mut values| {
                values.sort();
                values.dedup();
                Value::Set(values)
            })
        }
    }
}

/// A recorded decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The request's id.
    pub request: String,
    /// Method.
    pub method: String,
    /// Host, lower case, without the default port.
    pub host: String,
    /// Canonical path; `None` when the record holds a part of it alone.
    pub path: Option<String>,
    /// Unix seconds.
    pub at: i64,
    /// The peer.
    pub ip: IpAddr,
    /// Who.
    pub who: Who,
    /// About what, besides the path.
    pub resource: Recorded,
    /// The status then.
    pub status: u16,
    /// The rule then.
    pub rule: Option<String>,
    /// How it ended then.
    pub came: Came,
}

/// Who asked, as far as the record says.
#[derive(Clone, Debug, PartialEq)]
pub enum Who {
    /// A token's facts.
    Known(Box<Facts>),
    /// No credential was read, or none was good.
    Nobody,
    /// Somebody; the facts are not in the record.
    NotRecorded,
}

/// How a request ended, as far as rules are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// The rules let it through, whatever the upstream made of it.
    Allowed,
    /// The rules refused it.
    Refused,
    /// There was no line for it (404, 405).
    Unrouted,
    /// It showed no good credential where the line asks for one.
    Unauthenticated,
    /// Something else ended it before the rules were asked: hygiene, limits, a page of ours.
    Unjudged,
}

/// Why a line of a log is no record.
#[derive(Debug, thiserror::Error)]
pub enum LineFault {
    /// Not JSON, or a member is missing or of another type.
    #[error("not a decision record: {0}")]
    NotARecord(serde_json::Error),
    /// A moment or an address that is none.
    #[error("`{0}` cannot be read")]
    MemberMalformed(&'static str),
}

/// A record's line, as `core::audit::Record` writes it; members that nobody needs here are skipped.
#[derive(Deserialize)]
struct Line {
    at: String,
    event: String,
    request: String,
    decision: String,
    status: u16,
    stage: String,
    method: String,
    target: String,
    rule: Option<String>,
    caller: String,
    ip: String,
    asked: Option<i64>,
    facts: Option<Box<Facts>>,
    resource: Option<Recorded>,
}

impl Decision {
    /// Reads one line of a log; `None` for a record that is not of a request.
    ///
    /// # Errors
    /// See [`LineFault`].
    pub fn read(line: &[u8]) -> Result<Option<Self>, LineFault> {
        let line: Line = serde_json::from_slice(line).map_err(LineFault::NotARecord)?;
        if line.event != "request" {
            return Ok(None);
        }
        let at = match line.asked {
            Some(asked) => asked,
            None => Timestamp::parse(&line.at).ok_or(LineFault::MemberMalformed("at"))?.unix(),
        };
        let (host, path) = match line.target.find('/') {
            Some(slash) => line.target.split_at(slash),
            None => (&*line.target, ""),
        };
        let host = host.to_ascii_lowercase();
        // INVARIANT: a canonical path is ASCII without `\`, so what `neutralise` changed or cut shows.
        let is_whole = path.starts_with('/') && path.bytes().all(|b| b.is_ascii() && b != b'\\');
        Ok(Some(Decision {
            came: came(&line),
            who: match line.facts {
                Some(facts) => Who::Known(facts),
                None if line.caller == "anyone" => Who::Nobody,
                None => Who::NotRecorded,
            },
            request: line.request,
            method: line.method,
            host: host.strip_suffix(":443").unwrap_or(&host).to_owned(),
            path: is_whole.then(|| path.to_owned()),
            at,
            ip: line.ip.parse().map_err(|_| LineFault::MemberMalformed("ip"))?,
            resource: line.resource.unwrap_or_default(),
            status: line.status,
            rule: line.rule,
        }))
    }
}

fn came(line: &Line) -> Came {
    match (line.stage.as_str(), line.decision.as_str(), line.status) {
        ("forward", _, _) => Came::Allowed,
        ("authorize", "deny", 401 | 403 | 404) => Came::Refused,
        ("route", "deny", 404 | 405) => Came::Unrouted,
        ("authenticate", "deny", _) => Came::Unauthenticated,
        _ => Came::Unjudged,
    }
}

/// What a decision would be now.
#[derive(Clone, Debug, PartialEq)]
pub enum Replayed {
    /// A verdict.
    Verdict(Verdict),
    /// The route is gone (404 or 405).
    Unrouted(u16),
    /// A credential would be asked for, and none was shown.
    Unauthenticated,
    /// The object is another's, or not there: 404.
    ObjectForeign,
    /// What the new rules read is not in the record.
    NotRecorded(&'static str),
}

/// What the other rules change for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Same,
    /// It was refused and would be let through.
    Gained,
    /// It was let through and would be refused, with this status.
    Lost(u16),
    /// It is refused either way, now with this status.
    RefusedOtherwise(u16),
    /// It cannot be said, for want of this.
    Undecided(&'static str),
    /// The rules were not asked.
    Unjudged,
}

/// The operation that a recorded decision would be about now.
pub fn operation_of<'r>(rules: &'r Rules, decision: &Decision) -> Option<&'r Operation> {
    match rules.find(&decision.host, &decision.method, decision.path.as_deref()?) {
        Found::Operation(id, _) => rules.operation(id),
        Found::NotFound | Found::MethodNotAllowed(_) => None,
    }
}

/// Makes a recorded decision again.
pub fn replay(rules: &Rules, decision: &Decision) -> Replayed {
    let Some(path) = &decision.path else { return Replayed::NotRecorded("the whole path") };
    let (id, parameters) = match rules.find(&decision.host, &decision.method, path) {
        Found::Operation(id, parameters) => (id, parameters),
        Found::NotFound => return Replayed::Unrouted(404),
        Found::MethodNotAllowed(_) => return Replayed::Unrouted(405),
    };
    let Some(operation) = rules.operation(id) else { return Replayed::Unrouted(404) };
    let (caller, circumstances) = match asker(operation, decision) {
        Ok(asker) => asker,
        Err(replayed) => return replayed,
    };
    let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let resource = match decision.resource.resource(operation, parameters) {
        Ok(resource) => resource,
        Err(missing) => return Replayed::NotRecorded(missing),
    };
    judge_again(rules, id, (resource, &caller, &circumstances))
}

/// As the gateway asks: the owner comes last, and whoever is refused then is told that nothing is
/// there.
fn judge_again(
    rules: &Rules,
    operation: OperationId,
    (mut resource, caller, circumstances): (Resource, &Caller, &Circumstances),
) -> Replayed {
    let owner = resource.owner.take();
    let ask = |resource: &Resource| {
        judge(rules, &Question { operation, resource, caller, circumstances })
    };
    let verdict = ask(&resource);
    if verdict != Verdict::NeedsOwner || owner.is_none() {
        return Replayed::Verdict(verdict);
    }
    resource.owner = owner;
    match ask(&resource) {
        Verdict::Deny(_) => Replayed::ObjectForeign,
        verdict => Replayed::Verdict(verdict),
    }
}

/// Who asks an operation, and in which circumstances.
fn asker(operation: &Operation, decision: &Decision) -> Result<(Caller, Circumstances), Replayed> {
    let nobody = Facts { caller: "anyone".into(), ..Facts::default() };
    let facts = match (&decision.who, decision.came) {
        _ if !operation.authenticates => &nobody,
        (Who::Known(facts), _) => &**facts,
        (Who::Nobody, Came::Unauthenticated) => return Err(Replayed::Unauthenticated),
        // Where a line is open, or there is none, no credential is read: whether one was sent is
        // not known.
        (Who::Nobody | Who::NotRecorded, _) => return Err(Replayed::NotRecorded("who asked")),
    };
    let asker = facts.who().zip(facts.at(decision.at, decision.ip));
    asker.ok_or(Replayed::NotRecorded("who asked"))
}

/// What changes for a decision.
pub fn effect(decision: &Decision, replayed: &Replayed) -> Effect {
    let refused = match replayed {
        _ if decision.came == Came::Unjudged => return Effect::Unjudged,
        Replayed::NotRecorded(missing) => return Effect::Undecided(missing),
        Replayed::Verdict(Verdict::NeedsBody) => return Effect::Undecided("the body"),
        Replayed::Verdict(Verdict::NeedsOwner) => return Effect::Undecided("the object's owner"),
        Replayed::Verdict(Verdict::Allow { .. }) => None,
        Replayed::Verdict(Verdict::Deny(denial)) => Some(status_of(denial)),
        Replayed::Unrouted(status) => Some(*status),
        Replayed::Unauthenticated => Some(401),
        Replayed::ObjectForeign => Some(404),
    };
    match (decision.came == Came::Allowed, refused) {
        (true, None) => Effect::Same,
        (false, None) => Effect::Gained,
        (true, Some(status)) => Effect::Lost(status),
        (false, Some(status)) if status == decision.status => Effect::Same,
        (false, Some(status)) => Effect::RefusedOtherwise(status),
    }
}

/// The status of policy's no.
pub fn status_of(denial: &Denial) -> u16 {
    match denial.reason {
        // RFC 6750 §3.1: `insufficient_scope`.
        _ if denial.scope_needed.is_some() => 403,
        // RFC 6750 §3.1: a token that is not the kind asked for is 401 at the gateway; RFC 9470 §3:
        // so is one whose assurance does not suffice, and could.
        "TokenUnbound" => 401,
        _ if denial.step_up.is_some() => 401,
        // Another's object is answered like one that is not there.
        "OwnerForeign" => 404,
        _ => 403,
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
