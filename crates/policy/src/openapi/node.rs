//! A document's tree, whether it was JSON or YAML: scalars, lists, maps, each with its place.

use std::sync::Arc;

use portcullis_core::fault::{Fault, Place};

/// Most nodes of a document, aliases expanded (a bomb of ten lines expands to billions).
pub(super) const MAX_NODES: usize = 2_000_000;
/// Deepest nesting.
pub(super) const MAX_DEPTH: usize = 128;
/// Longest chain of `$ref`.
const MAX_REFERENCES: usize = 32;

/// One value of a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    /// Where it starts, in the source's unit.
    pub(super) at: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum NodeKind {
    /// Text, number, boolean or null: rules need the text alone.
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// What offsets count: JSON's reader counts bytes, the YAML parser characters.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Bytes,
    Characters,
}

/// The text that a tree was read from.
pub(super) struct Source<'t> {
    pub(super) file: &'t str,
    pub(super) text: &'t str,
    pub(super) unit: Unit,
}

impl Source<'_> {
    /// An error at an offset.
    pub(super) fn fault(
        &self,
        rule: &'static str,
        at: usize,
        message: String,
        remedy: &str,
    ) -> Fault {
        let start = match self.unit {
            Unit::Bytes => at.min(self.text.len()),
            Unit::Characters => {
                self.text.char_indices().nth(at).map_or(self.text.len(), |(byte, _)| byte)
            }
        };
        let rest = self.text.get(start..).unwrap_or_default();
        let word = rest.find(|c: char| c.is_whitespace() || c == ':').unwrap_or(rest.len());
        let bytes = start..start + word.max(1).min(rest.len());
        let place = Place { file: Arc::from(self.file), bytes };
        Fault::error(rule, place, message, remedy.to_owned())
    }
}

impl Node {
    /// The member of a map.
    pub(super) fn member(&self, name: &str) -> Option<&Node> {
        self.members().iter().find(|(known, _)| known == name).map(|(_, node)| node)
    }

    /// The members of a map; none of anything else.
    pub(super) fn members(&self) -> &[(String, Node)] {
        match &self.kind {
            NodeKind::Map(members) => members,
            NodeKind::Scalar(_) | NodeKind::List(_) => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub(super) fn items(&self) -> &[Node] {
        match &self.kind {
            NodeKind::List(items) => items,
            NodeKind::Scalar(_) | NodeKind::Map(_) => &[],
        }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Scalar(text) => Some(text),
            NodeKind::List(_) | NodeKind::Map(_) => None,
        }
    }

    /// Nodes in it, itself included, and its height.
    pub(super) fn extent(&self) -> (usize, usize) {
        let inner = self.items().iter().chain(self.members().iter().map(|(_, node)| node));
        let (count, height) = inner.fold((0_usize, 0_usize), |(count, height), node| {
            let (more, tall) = node.extent();
            (count.saturating_add(more), height.max(tall))
        });
        (count.saturating_add(1), height + 1)
    }
}

/// Follows local `$ref`s (`#/components/parameters/account`, RFC 6901) to what they mean.
pub(super) fn resolve<'n>(
    root: &'n Node,
    node: &'n Node,
    source: &Source<'_>,
) -> Result<&'n Node, Fault> {
    let mut at = node;
    for _ in 0..MAX_REFERENCES {
        let Some(reference) = at.member("$ref") else { return Ok(at) };
        let target = reference.text().unwrap_or_default();
        let Some(pointer) = target.strip_prefix("#/") else {
            let message = format!("`{target}` points out of this document");
            let remedy = "bundle the document into one file: nothing is fetched";
            return Err(source.fault("ReferenceForeign", reference.at, message, remedy));
        };
        let found = pointer.split('/').try_fold(root, |node, part| {
            let part = crate::openapi::percent_decoded(part).replace("~1", "/").replace("~0", "~");
            match &node.kind {
                NodeKind::Map(_) => node.member(&part),
                NodeKind::List(items) => items.get(part.parse::<usize>().ok()?),
                NodeKind::Scalar(_) => None,
            }
        });
        at = match found {
            Some(found) => found,
            None => {
                let message = format!("there is nothing at `{target}`");
                let remedy = "define it, or mend the reference";
                return Err(source.fault("ReferenceUnknown", reference.at, message, remedy));
            }
        };
    }
    let message = format!("a chain of more than {MAX_REFERENCES} references");
    Err(source.fault("ReferenceTooDeep", node.at, message, "refer to the definition itself"))
}
