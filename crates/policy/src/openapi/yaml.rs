//! YAML by its events: doubled keys are an error, aliases are copied within a budget.
//!
//! One document per file. Merge keys (`<<`) are honoured, since real documents use them; custom
//! tags are ignored.

use std::collections::{HashMap, HashSet};

use portcullis_core::fault::Fault;
use saphyr_parser::{Event, Parser};

use super::node::{MAX_DEPTH, MAX_NODES, Node, NodeKind, Source};

/// Reads one YAML document.
pub(super) fn read(source: &Source<'_>) -> Result<Node, Fault> {
    let mut builder = Builder::new(source);
    for event in Parser::new_from_str(source.text) {
        let (event, span) = event.map_err(|error| {
            let message = format!("the document is not YAML: {}", error.info());
            source.fault("DocumentMalformed", error.marker().index(), message, "mend it here")
        })?;
        builder.event(event, span.start.index())?;
    }
    builder.root.ok_or_else(|| {
        let message = "the document is empty".to_owned();
        source.fault("DocumentMalformed", 0, message, "write an OpenAPI document")
    })
}

struct Builder<'s, 't> {
    source: &'s Source<'t>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

/// A list or map that has begun.
struct Open {
    at: usize,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map { members: Vec<(String, Node)>, seen: HashSet<String>, key: Option<String> },
}

impl<'s, 't> Builder<'s, 't> {
    fn new(source: &'s Source<'t>) -> Self {
        Builder { source, open: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None }
    }

    fn event(&mut self, event: Event<'_>, at: usize) -> Result<(), Fault> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => {
                let message = "a second document in one file".to_owned();
                Err(self.source.fault("DocumentMalformed", at, message, "keep one of them"))
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Scalar(text, _, anchor, _) => {
                let node = Node { kind: NodeKind::Scalar(text.into_owned()), at };
                self.value(node, anchor)
            }
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::SequenceStart(anchor, _) => self.begin(anchor, at, Inside::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                let (members, seen) = (Vec::new(), HashSet::new());
                self.begin(anchor, at, Inside::Map { members, seen, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(at),
        }
    }

    fn begin(&mut self, anchor: usize, at: usize, inside: Inside) -> Result<(), Fault> {
        let takes_key =
            matches!(self.open.last(), Some(Open { inside: Inside::Map { key: None, .. }, .. }));
        if takes_key {
            let message = "a key that is not a plain word".to_owned();
            return Err(self.source.fault("DocumentMalformed", at, message, "write a text as key"));
        }
        self.open.push(Open { at, anchor, inside });
        self.charge(1, self.open.len(), at)
    }

    fn end(&mut self, at: usize) -> Result<(), Fault> {
        let Some(Open { at, anchor, inside }) = self.open.pop() else {
            let message = "an end without a beginning".to_owned();
            return Err(self.source.fault("DocumentMalformed", at, message, "mend it here"));
        };
        let kind = match inside {
            Inside::List(items) => NodeKind::List(items),
            Inside::Map { members, .. } => NodeKind::Map(merged(members)),
        };
        self.place(Node { kind, at }, anchor)
    }

    fn alias(&mut self, anchor: usize, at: usize) -> Result<(), Fault> {
        // An anchor is known once its value has ended, so a value cannot hold itself.
        let Some(node) = self.anchors.get(&anchor) else {
            let message = "an alias to something that is not there yet".to_owned();
            return Err(self.source.fault("AliasUnknown", at, message, "write the value itself"));
        };
        let (count, height) = node.extent();
        let node = Node { kind: node.kind.clone(), at };
        self.charge(count, self.open.len() + height, at)?;
        self.place(node, 0)
    }

    fn value(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        self.charge(1, self.open.len(), node.at)?;
        self.place(node, anchor)
    }

    /// INVARIANT: every node that enters the tree was charged, copies of aliases too.
    fn charge(&mut self, count: usize, depth: usize, at: usize) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(count);
        if self.nodes > MAX_NODES || depth > MAX_DEPTH {
            let message = "the document is too large or too deep, aliases expanded".to_owned();
            let remedy = "keep to 128 levels and two million values";
            return Err(self.source.fault("DocumentTooLarge", at, message, remedy));
        }
        Ok(())
    }

    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            let (count, _) = node.extent();
            self.charge(count, 0, node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.inside {
            Inside::List(items) => items.push(node),
            Inside::Map { members, seen, key } => match key.take() {
                Some(name) => members.push((name, node)),
                None => {
                    let NodeKind::Scalar(name) = node.kind else {
                        let message = "a key that is not a plain word".to_owned();
                        let remedy = "write a text as key";
                        return Err(self.source.fault(
                            "DocumentMalformed",
                            node.at,
                            message,
                            remedy,
                        ));
                    };
                    if !seen.insert(name.clone()) {
                        return Err(super::doubled(self.source, node.at, &name));
                    }
                    *key = Some(name);
                }
            },
        }
        Ok(())
    }
}

/// `<<: *base`: members of the base that the map lacks.
fn merged(members: Vec<(String, Node)>) -> Vec<(String, Node)> {
    if !members.iter().any(|(name, _)| name == "<<") {
        return members;
    }
    let (bases, mut own): (Vec<_>, Vec<_>) =
        members.into_iter().partition(|(name, _)| name == "<<");
    let mut known: HashSet<String> = own.iter().map(|(name, _)| name.clone()).collect();
    for (_, base) in bases {
        let maps = match base.kind {
            NodeKind::List(items) => items,
            NodeKind::Map(_) | NodeKind::Scalar(_) => vec![base],
        };
        for map in maps {
            let NodeKind::Map(members) = map.kind else { continue };
            own.extend(members.into_iter().filter(|(name, _)| known.insert(name.clone())));
        }
    }
    own
}
