//! Schemas that hold together: `allOf`, a reference and what stands beside it, and a member that
//! several of them declare. What one alone says counts for all.

use std::collections::{HashMap, HashSet};

use portcullis_core::fault::Fault;

use super::super::node::{Node, NodeKind, References};

/// Most schemas that hold together; more (a circle of `allOf`, too) are anything.
const MAX_PARTS: usize = 64;

/// Schemas that all hold.
pub(super) struct Merged<'n> {
    parts: Vec<&'n Node>,
}

impl<'n> Merged<'n> {
    /// Everything that these schemas are made of; `None` if that is too much.
    pub(super) fn of(
        references: &References<'n>,
        schemas: &[&'n Node],
    ) -> Result<Option<Self>, Fault> {
        let mut parts: Vec<&'n Node> = Vec::new();
        let mut open: Vec<&'n Node> = schemas.iter().rev().copied().collect();
        while let Some(schema) = open.pop() {
            if parts.len() + open.len() > MAX_PARTS {
                return Ok(None);
            }
            if schema.member("$ref").is_some() {
                open.push(references.resolve(schema)?);
                // OpenAPI 3.1 §4.8.24: a schema's reference may have company.
                if schema.members().len() == 1 {
                    continue;
                }
            }
            let all_of = schema.member("allOf").map(Node::items).unwrap_or_default();
            open.extend(all_of.iter().rev());
            parts.push(schema);
        }
        Ok(Some(Merged { parts }))
    }

    /// The one type of the schemas, spoken or meant.
    pub(super) fn kind(&self) -> Option<&'n str> {
        let types = self.parts.iter().filter_map(|part| part.member("type"));
        let mut kinds: Vec<&'n str> = Vec::new();
        for node in types {
            let named = match &node.kind {
                NodeKind::Scalar(text) => vec![text.as_str()],
                NodeKind::List(items) => items.iter().filter_map(Node::text).collect(),
                NodeKind::Map(_) => Vec::new(),
            };
            let named: Vec<&str> = named.into_iter().filter(|kind| *kind != "null").collect();
            // Several types are none that a rule could read.
            let [kind] = named.as_slice() else { return None };
            kinds.push(kind);
        }
        kinds.dedup();
        match kinds.as_slice() {
            [kind] => Some(kind),
            ["integer", "number"] | ["number", "integer"] => Some("integer"),
            [] if self.has("properties") || self.has("additionalProperties") => Some("object"),
            [] if self.has("items") => Some("array"),
            _ => None,
        }
    }

    pub(super) fn is_nullable(&self) -> bool {
        let is_null = |node: &Node| {
            node.text() == Some("null") || node.items().iter().any(|i| i.text() == Some("null"))
        };
        let types = self.parts.iter().filter_map(|part| part.member("type"));
        self.says("nullable", "true") || types.into_iter().any(is_null)
    }

    /// Whether one of them has this text there.
    pub(super) fn says(&self, key: &str, value: &str) -> bool {
        self.parts.iter().any(|part| part.member(key).and_then(Node::text) == Some(value))
    }

    /// What stands under a key, in each that has it.
    pub(super) fn all(&self, key: &str) -> Vec<&'n Node> {
        self.parts.iter().filter_map(|part| part.member(key)).collect()
    }

    pub(super) fn required(&self) -> HashSet<&'n str> {
        let lists = self.parts.iter().filter_map(|part| part.member("required"));
        lists.flat_map(Node::items).filter_map(Node::text).collect()
    }

    /// The members, each with all that is said of it, in the order of their first mention.
    pub(super) fn properties(&self) -> Vec<(&'n str, Vec<&'n Node>)> {
        let mut members: Vec<(&'n str, Vec<&'n Node>)> = Vec::new();
        let mut known: HashMap<&'n str, usize> = HashMap::new();
        for (name, schema) in self.all("properties").into_iter().flat_map(Node::members) {
            let position = *known.entry(name).or_insert(members.len());
            match members.get_mut(position) {
                Some((_, schemas)) => schemas.push(schema),
                None => members.push((name, vec![schema])),
            }
        }
        members
    }

    /// Whether members without a name of their own are welcome.
    pub(super) fn is_open(&self) -> bool {
        let others = self.all("additionalProperties");
        self.has("patternProperties") || others.iter().any(|node| node.text() != Some("false"))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.says("additionalProperties", "false")
    }

    /// Each list of alternatives.
    pub(super) fn alternatives(&self) -> impl Iterator<Item = &'n [Node]> {
        let lists = self.parts.iter().flat_map(|part| [part.member("oneOf"), part.member("anyOf")]);
        lists.flatten().map(Node::items)
    }

    /// Whether a schema declares nothing that a body could hold.
    pub(super) fn only_narrows(schema: &Node) -> bool {
        let narrowing = ["required", "not", "title", "description"];
        schema.members().iter().all(|(name, _)| narrowing.contains(&name.as_str()))
    }

    fn has(&self, key: &str) -> bool {
        self.parts.iter().any(|part| part.member(key).is_some())
    }
}
