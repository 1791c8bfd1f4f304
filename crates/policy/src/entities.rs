//! Who asks, about what, and in which circumstances: the inputs of a decision, already identified;
//! and the part of them that Cedar gets to see.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
};

use portcullis_core::jose::claims::Attribute;
use portcullis_core::scope::Scopes;

use crate::compile::Entry;
use crate::condition::{Root, Survey};
use crate::declared::{Uses, header_name};
use crate::field::{Field, Value};
use crate::parameter::{Kind, Parameter};
use crate::resource::Resource;
use crate::schema::AGES;
use crate::table::OperationId;

/// Whoever a request speaks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Caller {
    /// No credential was read.
    Anonymous,
    /// A person.
    User(UserCaller),
    /// Software, by its client id.
    Service {
        /// The client id.
        id: String,
        /// Its tenant.
        tenant: Option<String>,
    },
}

/// A person as the token describes them.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct UserCaller {
    /// The user's id (`sub`).
    pub id: String,
    /// The issuer.
    pub issuer: String,
    /// The tenant.
    pub tenant: Option<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Declared attributes.
    pub attributes: BTreeMap<String, Attribute>,
}

impl Caller {
    /// `user:u_…`, `service:ledger` or `anyone`: how records name the caller.
    pub fn label(&self) -> String {
        match self {
            Caller::Anonymous => "anyone".into(),
            Caller::User(user) => format!("user:{}", user.id),
            Caller::Service { id, .. } => format!("service:{id}"),
        }
    }
}

/// The circumstances (`context` in a rule).
#[derive(Clone, Debug, PartialEq)]
pub struct Circumstances {
    /// Unix seconds.
    pub now: i64,
    /// The client's address.
    pub ip: IpAddr,
    /// The OAuth client, if any.
    pub client: Option<String>,
    /// The token's scopes.
    pub scopes: Scopes,
    /// Assurance.
    pub acr: Option<String>,
    /// Methods.
    pub amr: Vec<String>,
    /// Seconds since each factor (`any mfa passkey totp password`), absent if never.
    pub ages: BTreeMap<&'static str, i64>,
    /// Whether the token is bound to a DPoP key, whose proof came with the request (RFC 9449).
    pub dpop: bool,
    /// Whether the token is bound to the connection's certificate (RFC 8705 §3).
    pub mtls: bool,
    /// Services that act for the caller (RFC 8693 §4.1 `act`), the nearest first.
    pub actors: Vec<String>,
}

impl Circumstances {
    /// Those of a request that proves nothing: no token, no factor, no actor.
    pub fn unproven(now: i64, ip: IpAddr) -> Self {
        Circumstances {
            now,
            ip,
            client: None,
            scopes: Scopes::default(),
            acr: None,
            amr: Vec::new(),
            ages: BTreeMap::new(),
            dpop: false,
            mtls: false,
            actors: Vec::new(),
        }
    }
}

/// One question: may this caller do this operation on these parameters, now?
#[derive(Clone, Debug, PartialEq)]
pub struct Question<'q> {
    /// The operation found by the table.
    pub operation: OperationId,
    /// What it is about.
    pub resource: &'q Resource,
    /// Who.
    pub caller: &'q Caller,
    /// When and whence.
    pub circumstances: &'q Circumstances,
}

/// The part of a question that an operation's policies can read. Building the rest would cost more
/// than the decision itself.
///
/// INVARIANT: what is left out is read by no policy of the operation; a policy that read it would
/// err, and an erring permit grants nothing.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    principal: BTreeSet<String>,
    parents: Vec<EntityUid>,
    context: BTreeSet<&'static str>,
    resource: BTreeSet<String>,
}

/// The members of `context`.
pub(crate) const CONTEXT: [&str; 10] =
    ["now", "ip", "client", "scopes", "acr", "amr", "age", "dpop", "mtls", "actors"];

impl Needs {
    /// Adds an entity that some policy compares a caller's parents with.
    pub(crate) fn parent(&mut self, uid: EntityUid) {
        if !self.parents.contains(&uid) {
            self.parents.push(uid);
        }
    }

    /// Adds what a policy's conditions read.
    pub(crate) fn survey(&mut self, survey: &Survey) {
        for read in &survey.reads {
            let first = read.path.first().map(String::as_str);
            match (read.root, first) {
                (Root::Principal, Some(name)) => {
                    self.principal.insert(name.to_owned());
                }
                (Root::Resource, Some(name)) => {
                    self.resource.insert(name.to_owned());
                }
                (Root::Context, name) => {
                    let wanted = CONTEXT.iter().filter(|member| name.is_none_or(|n| n == **member));
                    self.context.extend(wanted);
                }
                (Root::Principal | Root::Resource, None) | (Root::Action, _) => {}
            }
        }
        for (kind, id) in &survey.literals {
            if let Some(uid) = uid(kind, id) {
                self.parent(uid);
            }
        }
    }
}

/// An entity of a plain type name.
pub(crate) fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    let kind: EntityTypeName = kind.parse().ok()?;
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

/// The type names and uids that every request of a generation shares.
pub(crate) struct Names {
    user: EntityTypeName,
    service: EntityTypeName,
    anonymous: EntityUid,
    resource: EntityUid,
}

impl Names {
    /// The names; `None` cannot happen, since they are constants of this file.
    pub(crate) fn new() -> Option<Self> {
        Some(Names {
            user: "User".parse().ok()?,
            service: "Service".parse().ok()?,
            anonymous: uid("Anonymous", "anyone")?,
            resource: uid("Resource", "requested")?,
        })
    }

    fn principal(&self, caller: &Caller) -> EntityUid {
        let named = |kind: &EntityTypeName, id: &str| {
            EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
        };
        match caller {
            Caller::Anonymous => self.anonymous.clone(),
            Caller::User(user) => named(&self.user, &user.id),
            Caller::Service { id, .. } => named(&self.service, id),
        }
    }
}

/// A question as Cedar takes it.
pub(crate) struct Facts {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
}

/// What the operation says about itself, for [`Facts::of`].
pub(crate) struct Frame<'r> {
    pub(crate) names: &'r Names,
    pub(crate) action: &'r EntityUid,
    pub(crate) parameters: &'r [Parameter],
    pub(crate) uses: &'r Uses,
    pub(crate) needs: &'r Needs,
}

impl Facts {
    /// Builds them once per decision; `None` (a value that does not fit its type) denies.
    pub(crate) fn of(frame: &Frame<'_>, caller: &Caller, question: &Question<'_>) -> Option<Self> {
        let principal = frame.names.principal(caller);
        let mut entities = Vec::with_capacity(2);
        if let Some(entity) = principal_entity(frame.needs, caller, &principal) {
            entities.push(entity?);
        }
        if !frame.needs.resource.is_empty() {
            let values = resource_values(frame, question)?;
            let uid = frame.names.resource.clone();
            entities.push(Entity::new(uid, values, HashSet::new()).ok()?);
        }
        let entities = if entities.is_empty() {
            Entities::empty()
        } else {
            Entities::from_entities(entities, None).ok()?
        };
        let context = context_of(frame.needs, question.circumstances)?;
        let resource = frame.names.resource.clone();
        let request =
            Request::new(principal, frame.action.clone(), resource, context, None).ok()?;
        Some(Facts { request, entities })
    }
}

type Values = HashMap<String, RestrictedExpression>;

/// The caller's entity: `None` when nothing of it is read, `Some(None)` when it cannot be built.
fn principal_entity(
    needs: &Needs,
    caller: &Caller,
    principal: &EntityUid,
) -> Option<Option<Entity>> {
    if needs.principal.is_empty() && needs.parents.is_empty() {
        return None;
    }
    let mut values = Values::new();
    for name in &needs.principal {
        if let Some(value) = attribute_of(caller, name) {
            values.insert(name.clone(), restricted(&value));
        }
    }
    let parents = needs.parents.iter().filter(|uid| belongs(caller, uid)).cloned().collect();
    Some(Entity::new(principal.clone(), values, parents).ok())
}

/// The value of `principal.NAME`. Built-in names win over declared ones.
pub(crate) fn attribute_of(caller: &Caller, name: &str) -> Option<Attribute> {
    let text = |text: &String| Attribute::String(text.clone());
    match (caller, name) {
        (Caller::Anonymous, _) => None,
        (Caller::User(user), "id") => Some(text(&user.id)),
        (Caller::User(user), "issuer") => Some(text(&user.issuer)),
        (Caller::User(user), "tenant") => user.tenant.as_ref().map(text),
        (Caller::User(user), _) => user.attributes.get(name).cloned(),
        (Caller::Service { id, .. }, "id") => Some(text(id)),
        (Caller::Service { tenant, .. }, "tenant") => tenant.as_ref().map(text),
        (Caller::Service { .. }, _) => None,
    }
}

fn belongs(caller: &Caller, parent: &EntityUid) -> bool {
    let id: &str = parent.id().as_ref();
    let kind = parent.type_name().basename();
    match caller {
        Caller::Anonymous => false,
        Caller::User(user) => match kind {
            "Role" => user.roles.iter().any(|role| role == id),
            "Group" => user.groups.iter().any(|group| group == id),
            "Tenant" => user.tenant.as_deref() == Some(id),
            _ => false,
        },
        Caller::Service { tenant, .. } => kind == "Tenant" && tenant.as_deref() == Some(id),
    }
}

fn restricted(value: &Attribute) -> RestrictedExpression {
    match value {
        Attribute::Bool(value) => RestrictedExpression::new_bool(*value),
        Attribute::Integer(value) => RestrictedExpression::new_long(*value),
        Attribute::String(value) => RestrictedExpression::new_string(value.clone()),
    }
}

/// What the policies read of `resource`; whether the question fits the operation was checked before
/// ([`fits`]).
fn resource_values(frame: &Frame<'_>, question: &Question<'_>) -> Option<Values> {
    let (mut values, resource) = (Values::new(), question.resource);
    for (parameter, (name, value)) in frame.parameters.iter().zip(&resource.parameters) {
        if frame.needs.resource.contains(name) {
            let value = match parameter.kind {
                Kind::Integer => RestrictedExpression::new_long(value.parse().ok()?),
                Kind::Text | Kind::Uuid => RestrictedExpression::new_string(value.clone()),
            };
            values.insert(name.clone(), value);
        }
    }
    let flat = |fields: &[Field], given: &[Option<Value>], name: fn(&Field) -> String| {
        let there = fields.iter().zip(given);
        let there = there.filter_map(|(field, value)| Some((name(field), value.as_ref()?)));
        let pairs: Vec<_> = there.map(|(name, value)| (name, restricted_value(value))).collect();
        RestrictedExpression::new_record(pairs).ok()
    };
    let uses = frame.uses;
    if !uses.query.is_empty() {
        let record = flat(&uses.query, &resource.query, |field| field.name.to_string())?;
        values.insert("query".into(), record);
    }
    if !uses.header.is_empty() {
        values.insert("header".into(), flat(&uses.header, &resource.header, header_name)?);
    }
    if let (Some(given), false) = (&resource.body, uses.body.is_empty()) {
        let there = uses.body.iter().zip(given);
        let there = there.filter_map(|(field, value)| {
            Some((field.name.split('.').collect::<Vec<_>>(), value.as_ref()?))
        });
        values.insert("body".into(), object(&there.collect::<Vec<_>>())?);
    }
    if let (Some(owner), true) = (&resource.owner, uses.owner) {
        values.insert("owner".into(), RestrictedExpression::new_string(owner.clone()));
    }
    Some(values)
}

/// Members of a body, objects growing out of the dots: an object is there when a member of it is.
fn object(there: &[(Vec<&str>, &Value)]) -> Option<RestrictedExpression> {
    let mut members: BTreeMap<String, RestrictedExpression> = BTreeMap::new();
    for (path, value) in there {
        let (first, rest) = path.split_first()?;
        if rest.is_empty() {
            members.insert((*first).to_owned(), restricted_value(value));
        } else if !members.contains_key(*first) {
            let within: Vec<(Vec<&str>, &Value)> = there
                .iter()
                .filter(|(path, _)| path.len() > 1 && path.first() == Some(first))
                .map(|(path, value)| (path.iter().skip(1).copied().collect(), *value))
                .collect();
            members.insert((*first).to_owned(), object(&within)?);
        }
    }
    RestrictedExpression::new_record(members).ok()
}

fn restricted_value(value: &Value) -> RestrictedExpression {
    match value {
        Value::Bool(value) => RestrictedExpression::new_bool(*value),
        Value::Long(value) => RestrictedExpression::new_long(*value),
        Value::Decimal(value) => RestrictedExpression::new_decimal(value.to_string()),
        Value::Text(value) => RestrictedExpression::new_string(value.clone()),
        Value::Set(values) => RestrictedExpression::new_set(values.iter().map(restricted_value)),
    }
}

/// Whether a question has what its operation's policies read: parameters by name and in order, fields
/// by number. Where no policy reads a parameter, the gateway leaves them out.
pub(crate) fn fits(entry: &Entry, resource: &Resource) -> bool {
    let (parameters, uses) = (&entry.parameters, &entry.uses);
    let mut names = parameters.iter().zip(&resource.parameters);
    let named = parameters.len() == resource.parameters.len()
        && names.all(|(parameter, (name, _))| **name == *parameter.name);
    (named || entry.needs.resource.is_empty())
        && resource.query.len() == uses.query.len()
        && resource.header.len() == uses.header.len()
        && resource.body.as_ref().is_none_or(|body| body.len() == uses.body.len())
}

fn context_of(needs: &Needs, circumstances: &Circumstances) -> Option<Context> {
    if needs.context.is_empty() {
        return Some(Context::empty());
    }
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let mut pairs = Vec::with_capacity(needs.context.len());
    for member in &needs.context {
        let value = match *member {
            "now" => Some(RestrictedExpression::new_long(circumstances.now)),
            // `::ffff:10.0.0.1` is 10.0.0.1, for Cedar as for the network.
            "ip" => Some(RestrictedExpression::new_ip(circumstances.ip.to_canonical().to_string())),
            "client" => circumstances.client.as_deref().map(text),
            "scopes" => Some(RestrictedExpression::new_set(circumstances.scopes.iter().map(text))),
            "acr" => circumstances.acr.as_deref().map(text),
            "amr" => Some(RestrictedExpression::new_set(circumstances.amr.iter().map(|m| text(m)))),
            "dpop" => Some(RestrictedExpression::new_bool(circumstances.dpop)),
            "mtls" => Some(RestrictedExpression::new_bool(circumstances.mtls)),
            "actors" => {
                Some(RestrictedExpression::new_set(circumstances.actors.iter().map(|a| text(a))))
            }
            _ => Some(ages_of(circumstances)?),
        };
        if let Some(value) = value {
            pairs.push(((*member).to_owned(), value));
        }
    }
    Context::from_pairs(pairs).ok()
}

fn ages_of(circumstances: &Circumstances) -> Option<RestrictedExpression> {
    let ages = circumstances
        .ages
        .iter()
        .filter(|(name, _)| AGES.contains(name))
        .map(|(name, age)| ((*name).to_owned(), RestrictedExpression::new_long(*age)));
    RestrictedExpression::new_record(ages).ok()
}
