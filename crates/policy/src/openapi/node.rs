//! A document's tree, whether it was JSON or YAML: scalars, lists, maps, each with its place.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use portcullis_core::fault::{Fault, Place};

/// Most nodes of a document, aliases expanded (a bomb of ten lines expands to billions).
pub(super) const MAX_NODES: usize = 2_000_000;
/// Bytes of text that a copy may hold for the price of one node: one long text, aliased a thousand
/// times, is a bomb too.
const BYTES_PER_NODE: usize = 64;
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

    /// What a copy of it costs of the budget, and its height.
    pub(super) fn extent(&self) -> (usize, usize) {
        let names = self.members().iter().map(|(name, _)| name.len());
        let text = self.text().map_or(0, str::len).saturating_add(names.sum());
        let inner = self.items().iter().chain(self.members().iter().map(|(_, node)| node));
        let (count, height) = inner.fold((0_usize, 0_usize), |(count, height), node| {
            let (more, tall) = node.extent();
            (count.saturating_add(more), height.max(tall))
        });
        (count.saturating_add(1 + text / BYTES_PER_NODE), height + 1)
    }
}

/// Follows local `$ref`s (`#/components/parameters/account`, RFC 6901) to what they mean. Nothing is
/// fetched; each target is looked up once, since real documents refer a thousand times to one.
pub(super) struct References<'n> {
    pub(super) root: &'n Node,
    pub(super) source: &'n Source<'n>,
    known: RefCell<HashMap<&'n str, &'n Node>>,
}

impl<'n> References<'n> {
    pub(super) fn new(root: &'n Node, source: &'n Source<'n>) -> Self {
        References { root, source, known: RefCell::default() }
    }

    /// What a node means, at the end of its chain of references.
    pub(super) fn resolve(&self, node: &'n Node) -> Result<&'n Node, Fault> {
        let mut at = node;
        for _ in 0..MAX_REFERENCES {
            let Some(reference) = at.member("$ref") else { return Ok(at) };
            let target = reference.text().unwrap_or_default();
            let known = self.known.borrow().get(target).copied();
            at = match known {
                Some(known) => known,
                None => self.find(target, reference)?,
            };
            self.known.borrow_mut().insert(target, at);
        }
        let message = format!("a circle, or a chain of more than {MAX_REFERENCES} references");
        let remedy = "refer to the definition itself";
        Err(self.source.fault("ReferenceTooDeep", node.at, message, remedy))
    }

    fn find(&self, target: &str, reference: &Node) -> Result<&'n Node, Fault> {
        let Some(pointer) = target.strip_prefix("#/") else {
            let message = format!("`{target}` points out of this document");
            let remedy = "bundle the document into one file (`npx @redocly/cli bundle`): nothing \
                          is fetched";
            return Err(self.source.fault("ReferenceForeign", reference.at, message, remedy));
        };
        let found = pointer.split('/').try_fold(self.root, |node, part| {
            // RFC 6901 §4 and §6: percent escapes first, then `~1` before `~0`.
            let part = crate::openapi::percent_decoded(part).replace("~1", "/").replace("~0", "~");
            match &node.kind {
                NodeKind::Map(_) => node.member(&part),
                NodeKind::List(items) => items.get(part.parse::<usize>().ok()?),
                NodeKind::Scalar(_) => None,
            }
        });
        found.ok_or_else(|| {
            let message = format!("there is nothing at `{target}`");
            let remedy = "define it, or mend the reference";
            self.source.fault("ReferenceUnknown", reference.at, message, remedy)
        })
    }
}
