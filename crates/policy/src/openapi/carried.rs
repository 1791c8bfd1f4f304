//! What a request of an operation carries, as far as a rule may read it: parameters of path, query
//! and header, the JSON body, and what the answer holds.

use std::collections::HashSet;
use std::sync::Arc;

use portcullis_core::fault::Fault;

use super::node::{Node, NodeKind};
use super::schema::{Direction, Schemas};
use crate::body::BodyShape;
use crate::field::{Field, FieldKind, MAX_TEXT_BYTES};

/// The parameters of an operation.
pub(super) struct Declared<'n> {
    pub(super) query: Vec<Field>,
    pub(super) header: Vec<Field>,
    path: Vec<(&'n str, &'static str)>,
}

impl<'n> Declared<'n> {
    /// The operation's own declarations before the path's (OpenAPI 3.1 §4.8.10: name and place make
    /// a parameter).
    pub(super) fn of(
        schemas: &Schemas<'_, 'n>,
        item: &'n Node,
        operation: &'n Node,
    ) -> Result<Self, Fault> {
        let mut declared = Declared { query: Vec::new(), header: Vec::new(), path: Vec::new() };
        let mut seen = HashSet::new();
        for owner in [operation, item] {
            for parameter in owner.member("parameters").map(Node::items).unwrap_or_default() {
                let parameter = schemas.references.resolve(parameter)?;
                let text = |key: &str| parameter.member(key).and_then(Node::text);
                let (Some(name), Some(place)) = (text("name"), text("in")) else { continue };
                if name.len() <= MAX_TEXT_BYTES && seen.insert((place, name)) {
                    declared.add(schemas, parameter, (place, name))?;
                }
            }
        }
        Ok(declared)
    }

    /// The type of a path parameter; text unless the document says more.
    pub(super) fn path_kind(&self, written: &str) -> &'static str {
        self.path.iter().find(|(name, _)| *name == written).map_or("string", |(_, kind)| kind)
    }

    fn add(
        &mut self,
        schemas: &Schemas<'_, 'n>,
        parameter: &'n Node,
        (place, name): (&str, &'n str),
    ) -> Result<(), Fault> {
        // With `content` in its place, what the text means is a language of its own.
        let Some(schema) = parameter.member("schema") else { return Ok(()) };
        match place {
            "path" => {
                let kind = schema_kind(schemas.references.resolve(schema)?);
                self.path.push((name, kind));
            }
            "query" => {
                if let Some(field) = field(schemas, parameter, (place, name))? {
                    self.query.push(field);
                }
            }
            // OpenAPI 3.1 §4.8.12.1: declarations of these three are ignored.
            "header"
                if !["accept", "content-type", "authorization"]
                    .iter()
                    .any(|known| name.eq_ignore_ascii_case(known)) =>
            {
                if let Some(field) = field(schemas, parameter, (place, name))? {
                    self.header.push(field);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A parameter as a field, if it holds one value, or a list in one spelling.
fn field<'n>(
    schemas: &Schemas<'_, 'n>,
    parameter: &'n Node,
    (place, name): (&str, &str),
) -> Result<Option<Field>, Fault> {
    let Some(schema) = parameter.member("schema") else { return Ok(None) };
    let shape = schemas.shape(schema, Direction::Request)?;
    let BodyShape::Value(kind) = &*shape else { return Ok(None) };
    let says = |key: &str, value: &str| parameter.member(key).and_then(Node::text) == Some(value);
    if let FieldKind::Set(_) = kind {
        // OpenAPI 3.1 §4.8.12.2: `a=x&a=y` unless it says otherwise, and once is the rule here.
        let form = parameter.member("style").is_none() || says("style", "form");
        if place == "query" && !(form && says("explode", "false")) {
            return Ok(None);
        }
    }
    // RFC 9110 §5.1: names of fields have no case.
    let name = if place == "header" { name.to_ascii_lowercase() } else { name.to_owned() };
    let required = says("required", "true");
    Ok(Some(Field { name: name.into(), kind: kind.clone(), required }))
}

/// What an `application/json` body may hold.
pub(super) fn body<'n>(
    schemas: &Schemas<'_, 'n>,
    operation: &'n Node,
) -> Result<Option<Arc<BodyShape>>, Fault> {
    let Some(body) = operation.member("requestBody") else { return Ok(None) };
    let body = schemas.references.resolve(body)?;
    let schema = json_schema(body);
    schema.map(|schema| schemas.shape(schema, Direction::Request)).transpose()
}

/// What the first successful answer with JSON holds. Nothing in it can be read by a condition, so a
/// reference that leads nowhere is not an error here.
pub(super) fn response<'n>(
    schemas: &Schemas<'_, 'n>,
    operation: &'n Node,
) -> Result<Option<Arc<BodyShape>>, Fault> {
    let answers = operation.member("responses").map(Node::members).unwrap_or_default();
    for (_, answer) in answers.iter().filter(|(status, _)| status.starts_with('2')) {
        let Ok(answer) = schemas.references.resolve(answer) else { continue };
        if let Some(schema) = json_schema(answer) {
            return schemas.shape(schema, Direction::Response).map(Some);
        }
    }
    Ok(None)
}

/// The schema of `application/json`, parameters of the media type aside (RFC 9110 §8.3.1).
fn json_schema(owner: &Node) -> Option<&Node> {
    let content = owner.member("content")?.members();
    let is_json = |media: &str| {
        let media = media.split(';').next().unwrap_or_default().trim();
        media.eq_ignore_ascii_case("application/json")
    };
    content.iter().find(|(media, _)| is_json(media))?.1.member("schema")
}

fn schema_kind(schema: &Node) -> &'static str {
    let is = |key: &str, value: &str| match schema.member(key).map(|node| &node.kind) {
        Some(NodeKind::Scalar(text)) => text == value,
        // OpenAPI 3.1 writes `type: [integer]`.
        Some(NodeKind::List(items)) => {
            items.len() == 1 && items.iter().all(|item| item.text() == Some(value))
        }
        Some(NodeKind::Map(_)) | None => false,
    };
    if is("type", "integer") {
        "integer"
    } else if is("type", "string") && is("format", "uuid") {
        "uuid"
    } else {
        "string"
    }
}
