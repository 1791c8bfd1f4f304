//! The schema of one operation, generated: its own resource type with what path, document and line
//! declare, and only the kinds of principal that its line names. A condition on a parameter that the
//! path lacks does not validate.
//!
//! Two operations with the same resource and callers have the same schema; it is made once. Which
//! operations an action stands for is no matter of types ([`crate::cedar_files`]), so a schema has
//! one action.

use std::collections::HashMap;

use cedar_policy::{Schema, Validator};
use serde_json::{Map, Value, json};

use crate::access::{AttributeType, Vocabulary};
use crate::condition::{Read, Root};
use crate::declared::{Declared, Uses, header_name};
use crate::field::{Field, FieldKind};
use crate::parameter::{Kind, Parameter};

/// The members of `context.age`.
pub(crate) const AGES: [&str; 5] = ["any", "mfa", "passkey", "totp", "password"];
/// What every `User` has or may have, besides declared attributes.
pub(crate) const RESERVED_ATTRIBUTES: [&str; 3] = ["id", "issuer", "tenant"];

/// The kinds of principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PrincipalKind {
    Anonymous,
    User,
    Service,
}

impl PrincipalKind {
    /// Its entity type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            PrincipalKind::Anonymous => "Anonymous",
            PrincipalKind::User => "User",
            PrincipalKind::Service => "Service",
        }
    }

    /// Whether such a principal can have the attribute at all.
    pub(crate) fn may_have(self, attribute: &str, vocabulary: &Vocabulary) -> bool {
        match self {
            PrincipalKind::Anonymous => false,
            PrincipalKind::Service => matches!(attribute, "id" | "tenant"),
            PrincipalKind::User => {
                RESERVED_ATTRIBUTES.contains(&attribute)
                    || vocabulary.attributes.iter().any(|(name, _)| name == attribute)
            }
        }
    }
}

/// The attributes that may be absent: reading one is guarded.
pub(crate) fn optional_reads(vocabulary: &Vocabulary) -> Vec<Read> {
    let declared = vocabulary.attributes.iter().map(|(name, _)| name.as_str());
    let principal = declared.chain(["tenant"]).map(|name| Read::value(Root::Principal, &[name]));
    let context = ["client", "acr"].into_iter().map(|name| Read::value(Root::Context, &[name]));
    let ages = AGES.into_iter().map(|name| Read::value(Root::Context, &["age", name]));
    principal.chain(context).chain(ages).collect()
}

/// Every name that may stand after `principal.`, `resource.` or `context.`.
pub(crate) fn names(root: Root, declared: &Declared, vocabulary: &Vocabulary) -> Vec<String> {
    match root {
        Root::Principal => RESERVED_ATTRIBUTES
            .iter()
            .map(|name| (*name).to_owned())
            .chain(vocabulary.attributes.iter().map(|(name, _)| name.clone()))
            .collect(),
        Root::Resource => declared.names(),
        Root::Context => crate::entities::CONTEXT.map(Into::into).into(),
        Root::Action => Vec::new(),
    }
}

/// What a schema is made of.
pub(crate) struct Outline<'o> {
    pub(crate) parameters: &'o [Parameter],
    pub(crate) kinds: &'o [PrincipalKind],
    pub(crate) uses: &'o Uses,
}

/// The validators of one file's operations.
pub(crate) struct Validators<'v> {
    vocabulary: &'v Vocabulary,
    made: Vec<Validator>,
    by_outline: HashMap<String, usize>,
}

impl<'v> Validators<'v> {
    /// None yet.
    pub(crate) fn new(vocabulary: &'v Vocabulary) -> Self {
        Validators { vocabulary, made: Vec::new(), by_outline: HashMap::new() }
    }

    /// The number of an operation's validator; `None` if Cedar refuses the schema, which the names'
    /// own checks should have made impossible.
    pub(crate) fn of(&mut self, outline: &Outline<'_>) -> Option<usize> {
        let key = format!("{:?} {:?} {:?}", outline.parameters, outline.kinds, outline.uses);
        if let Some(known) = self.by_outline.get(&key) {
            return Some(*known);
        }
        let validator = validator(outline, self.vocabulary)?;
        let number = self.made.len();
        self.made.push(validator);
        self.by_outline.insert(key, number);
        Some(number)
    }

    /// The validator of a number.
    pub(crate) fn number(&self, number: usize) -> Option<&Validator> {
        self.made.get(number)
    }
}

fn validator(outline: &Outline<'_>, vocabulary: &Vocabulary) -> Option<Validator> {
    let schema = json!({ "": {
        "entityTypes": entity_types(outline, vocabulary),
        "actions": { "operation": { "appliesTo": {
            "principalTypes": outline.kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
            "resourceTypes": ["Resource"],
            "context": context(),
        } } },
    } });
    Schema::from_json_value(schema).ok().map(Validator::new)
}

fn entity_types(outline: &Outline<'_>, vocabulary: &Vocabulary) -> Value {
    let mut user = Map::new();
    for (name, kind) in &vocabulary.attributes {
        user.insert(name.clone(), attribute(cedar_type(*kind), Presence::Optional));
    }
    user.insert("id".into(), attribute("String", Presence::Required));
    user.insert("issuer".into(), attribute("String", Presence::Required));
    user.insert("tenant".into(), attribute("String", Presence::Optional));
    let service = json!({
        "id": attribute("String", Presence::Required),
        "tenant": attribute("String", Presence::Optional),
    });
    json!({
        "User": { "memberOfTypes": ["Role", "Group", "Tenant"], "shape": record(user.into()) },
        "Service": { "memberOfTypes": ["Tenant"], "shape": record(service) },
        "Anonymous": {},
        "Role": {},
        "Group": {},
        "Tenant": {},
        "Resource": { "shape": record(resource(outline).into()) },
    })
}

/// `resource`: path parameters, and what rules read of query, headers and body.
fn resource(outline: &Outline<'_>) -> Map<String, Value> {
    let mut resource: Map<String, Value> = outline
        .parameters
        .iter()
        .map(|parameter| {
            let kind = match parameter.kind {
                Kind::Integer => "Long",
                Kind::Text | Kind::Uuid => "String",
            };
            (parameter.name.to_string(), attribute(kind, Presence::Required))
        })
        .collect();
    let uses = outline.uses;
    let optional = |name: String, field: &Field| (name, typed(&field.kind, Presence::Optional));
    if !uses.query.is_empty() {
        let fields = uses.query.iter().map(|field| optional(field.name.to_string(), field));
        resource.insert("query".into(), record(fields.collect::<Map<_, _>>().into()));
    }
    if !uses.header.is_empty() {
        let fields = uses.header.iter().map(|field| optional(header_name(field), field));
        resource.insert("header".into(), record(fields.collect::<Map<_, _>>().into()));
    }
    if !uses.body.is_empty() {
        let fields: Vec<(Vec<&str>, &Field)> =
            uses.body.iter().map(|field| (field.name.split('.').collect(), field)).collect();
        resource.insert("body".into(), record(nested(&fields).into()));
    }
    if uses.owner {
        resource.insert("owner".into(), attribute("String", Presence::Required));
    }
    resource
}

/// Objects grow out of the dots; one is required if anything in it is.
fn nested(fields: &[(Vec<&str>, &Field)]) -> Map<String, Value> {
    let mut members = Map::new();
    for (path, field) in fields {
        let Some((first, rest)) = path.split_first() else { continue };
        let presence = |required: bool| {
            if required { Presence::Required } else { Presence::Optional }
        };
        if rest.is_empty() {
            members.insert((*first).to_owned(), typed(&field.kind, presence(field.required)));
        } else if !members.contains_key(*first) {
            let within: Vec<(Vec<&str>, &Field)> = fields
                .iter()
                .filter(|(path, _)| path.len() > 1 && path.first() == Some(first))
                .map(|(path, field)| (path.iter().skip(1).copied().collect(), *field))
                .collect();
            let required = within.iter().any(|(_, field)| field.required);
            let mut object = record(nested(&within).into());
            if let (Presence::Optional, Some(object)) = (presence(required), object.as_object_mut())
            {
                object.insert("required".into(), false.into());
            }
            members.insert((*first).to_owned(), object);
        }
    }
    members
}

fn typed(kind: &FieldKind, presence: Presence) -> Value {
    let mut value = match kind {
        FieldKind::Bool => json!({ "type": "Boolean" }),
        FieldKind::Long => json!({ "type": "Long" }),
        FieldKind::Text => json!({ "type": "String" }),
        FieldKind::Decimal => json!({ "type": "Extension", "name": "decimal" }),
        FieldKind::Set(element) => {
            json!({ "type": "Set", "element": typed(element, Presence::Required) })
        }
    };
    if let (Presence::Optional, Some(members)) = (presence, value.as_object_mut()) {
        members.insert("required".into(), false.into());
    }
    value
}

fn context() -> Value {
    let strings = json!({ "type": "Set", "element": { "type": "String" } });
    let ages: Map<String, Value> = AGES
        .iter()
        .map(|name| ((*name).to_owned(), attribute("Long", Presence::Optional)))
        .collect();
    record(json!({
        "now": attribute("Long", Presence::Required),
        "ip": { "type": "Extension", "name": "ipaddr" },
        "client": attribute("String", Presence::Optional),
        "scopes": strings,
        "acr": attribute("String", Presence::Optional),
        "amr": strings,
        "dpop": attribute("Boolean", Presence::Required),
        "mtls": attribute("Boolean", Presence::Required),
        "actors": strings,
        "age": record(ages.into()),
    }))
}

fn record(attributes: Value) -> Value {
    json!({ "type": "Record", "attributes": attributes })
}

enum Presence {
    Required,
    Optional,
}

fn attribute(kind: &str, presence: Presence) -> Value {
    match presence {
        Presence::Required => json!({ "type": kind }),
        Presence::Optional => json!({ "type": kind, "required": false }),
    }
}

fn cedar_type(kind: AttributeType) -> &'static str {
    match kind {
        AttributeType::String => "String",
        AttributeType::Integer => "Long",
        AttributeType::Bool => "Boolean",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_stands_for_every_kind_of_member_and_is_made_once() {
        let vocabulary = Vocabulary {
            attributes: vec![
                ("account".into(), AttributeType::String),
                ("level".into(), AttributeType::Integer),
                ("vip".into(), AttributeType::Bool),
            ],
            ..Vocabulary::default()
        };
        let parameter = |name: &str, kind| Parameter { name: name.into(), kind };
        let field = |name: &str, kind, required| Field { name: name.into(), kind, required };
        let parameters = [parameter("a", Kind::Text), parameter("n", Kind::Integer)];
        let kinds = [PrincipalKind::User, PrincipalKind::Service, PrincipalKind::Anonymous];
        let uses = Uses {
            query: vec![field("status", FieldKind::Set(Box::new(FieldKind::Text)), true)],
            header: vec![field("x-account", FieldKind::Text, false)],
            body: vec![
                field("amount", FieldKind::Decimal, true),
                field("card.number", FieldKind::Long, false),
                field("card.deep.er", FieldKind::Bool, true),
            ],
            owner: true,
        };
        let mut validators = Validators::new(&vocabulary);
        let outline = Outline { parameters: &parameters, kinds: &kinds, uses: &uses };
        let first = validators.of(&outline);
        assert!(first.and_then(|number| validators.number(number)).is_some());
        assert_eq!(validators.of(&outline), first);
        let plain = Outline { uses: &Uses::default(), ..outline };
        assert_ne!(validators.of(&plain), first);
    }
}
