//! The schema of one operation, generated: its own action, its own resource type with the path's
//! parameters, and only the kinds of principal that its line names. A condition on a parameter that
//! the path lacks does not validate.
//!
//! Action groups (`read`, `write`, the API's, tags) come with the Cedar files that can speak of them.

use cedar_policy::{Schema, Validator};
use serde_json::{Map, Value, json};

use crate::access::{AttributeType, Vocabulary};
use crate::condition::{Read, Root};
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
pub(crate) fn names(root: Root, parameters: &[Parameter], vocabulary: &Vocabulary) -> Vec<String> {
    match root {
        Root::Principal => RESERVED_ATTRIBUTES
            .iter()
            .map(|name| (*name).to_owned())
            .chain(vocabulary.attributes.iter().map(|(name, _)| name.clone()))
            .collect(),
        Root::Resource => parameters.iter().map(|parameter| parameter.name.to_string()).collect(),
        Root::Context => crate::entities::CONTEXT.map(Into::into).into(),
        Root::Action => Vec::new(),
    }
}

/// A validator for one operation; `None` if Cedar refuses the schema, which the names' own checks
/// should have made impossible.
pub(crate) fn validator(
    action: &str,
    parameters: &[Parameter],
    kinds: &[PrincipalKind],
    vocabulary: &Vocabulary,
) -> Option<Validator> {
    let schema = json!({ "": {
        "entityTypes": entity_types(parameters, vocabulary),
        "actions": { action: { "appliesTo": {
            "principalTypes": kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
            "resourceTypes": ["Resource"],
            "context": context(),
        } } },
    } });
    Schema::from_json_value(schema).ok().map(Validator::new)
}

fn entity_types(parameters: &[Parameter], vocabulary: &Vocabulary) -> Value {
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
    let resource: Map<String, Value> = parameters
        .iter()
        .map(|parameter| {
            let kind = match parameter.kind {
                Kind::Integer => "Long",
                Kind::Text | Kind::Uuid => "String",
            };
            (parameter.name.to_string(), attribute(kind, Presence::Required))
        })
        .collect();
    json!({
        "User": { "memberOfTypes": ["Role", "Group", "Tenant"], "shape": record(user.into()) },
        "Service": { "memberOfTypes": ["Tenant"], "shape": record(service) },
        "Anonymous": {},
        "Role": {},
        "Group": {},
        "Tenant": {},
        "Resource": { "shape": record(resource.into()) },
    })
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
    fn a_schema_stands_for_every_kind_of_parameter() {
        let vocabulary = Vocabulary {
            attributes: vec![
                ("account".into(), AttributeType::String),
                ("level".into(), AttributeType::Integer),
                ("vip".into(), AttributeType::Bool),
            ],
            ..Vocabulary::default()
        };
        let parameter = |name: &str, kind| Parameter { name: name.into(), kind };
        let parameters = [parameter("a", Kind::Text), parameter("n", Kind::Integer)];
        let kinds = [PrincipalKind::User, PrincipalKind::Service, PrincipalKind::Anonymous];
        let action = "GET /caf%C3%A9/\"x\"/{a}/{n}";
        assert!(validator(action, &parameters, &kinds, &vocabulary).is_some());
        assert!(validator("GET /", &[], &[PrincipalKind::User], &Vocabulary::default()).is_some());
    }
}
