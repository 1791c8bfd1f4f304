//! The one table of routes: (host, method, path) → operation. Segment by segment, a literal before
//! `{name}` before a final `**`; a sibling-literal look-alike is not found; no regular expressions.
//!
//! Used by the gateway, `explain`, `check` and `expect` alike: what is checked is what runs.

use std::collections::{HashMap, HashSet};

use crate::lookalike::{self, Reading};
use crate::parameter::{self, Parameter};
use crate::shape::{Segment, Shape};

/// Most segments of a path: more are not found.
pub const MAX_SEGMENTS: usize = 256;

/// An operation's number within one generation of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(pub u32);

/// What a look-up found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'t> {
    /// An operation, and the values of its `{parameters}` in order, decoded once.
    Operation(OperationId, Vec<(&'t str, String)>),
    /// No API at this host, or no shape at this path, or a look-alike of a sibling literal, or `nobody`.
    NotFound,
    /// The path is there, the method is not; the methods that are, for `Allow`.
    MethodNotAllowed(Vec<&'t str>),
}

/// What the table knows of an operation: whether it is open, and how its parameters are read.
pub(crate) struct Target {
    /// `false` for `nobody` and REVIEW lines: they do not exist for callers.
    pub(crate) open: bool,
    /// In the shape's order.
    pub(crate) parameters: Vec<Parameter>,
}

/// All APIs, by host.
#[derive(Default)]
pub(crate) struct Table {
    hosts: HashMap<String, Vec<Mount>>,
    targets: Vec<Target>,
}

/// One API under its prefix.
struct Mount {
    /// `""`, or `/v1`.
    prefix: String,
    trie: Trie,
}

impl Table {
    /// Adds an API.
    pub(crate) fn mount(&mut self, host: &str, prefix: &str, trie: Trie) -> Mounted {
        let mounts = self.hosts.entry(host.to_ascii_lowercase()).or_default();
        if mounts.iter().any(|mount| mount.prefix == prefix) {
            return Mounted::Occupied;
        }
        mounts.push(Mount { prefix: prefix.to_owned(), trie });
        // INVARIANT: the longest prefix comes first, so the first owner is the right one.
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.prefix.len()));
        Mounted::Fresh
    }

    /// Sets what is known of each operation, in the order of their numbers.
    pub(crate) fn set_targets(&mut self, targets: Vec<Target>) {
        self.targets = targets;
    }

    /// The parameters of an operation.
    pub(crate) fn target(&self, id: OperationId) -> Option<&Target> {
        self.targets.get(id.0 as usize)
    }

    /// See [`crate::compile::Rules::find`].
    pub(crate) fn find(&self, host: &str, method: &str, path: &str) -> Found<'_> {
        let Some((leaf, taken)) = self.leaf(host, path) else { return Found::NotFound };
        match leaf.operation(method) {
            Some(id) => self.open(id, &taken),
            None => {
                let open: Vec<&str> = leaf
                    .methods
                    .iter()
                    .filter(|(_, id)| self.target(*id).is_some_and(|target| target.open))
                    .map(|(method, _)| *method)
                    .collect();
                // A path where everything is closed does not exist.
                if open.is_empty() { Found::NotFound } else { Found::MethodNotAllowed(open) }
            }
        }
    }

    /// The operation with its parameters decoded, if it is open and they are canonical.
    fn open(&self, id: OperationId, taken: &[&str]) -> Found<'_> {
        let Some(target) = self.target(id).filter(|target| target.open) else {
            return Found::NotFound;
        };
        let mut values = Vec::with_capacity(taken.len());
        for (parameter, raw) in target.parameters.iter().zip(taken) {
            match parameter::decode(raw, parameter.kind) {
                Some(value) => values.push((&*parameter.name, value)),
                None => return Found::NotFound,
            }
        }
        if values.len() == target.parameters.len() {
            Found::Operation(id, values)
        } else {
            Found::NotFound
        }
    }

    fn leaf<'p>(&self, host: &str, path: &'p str) -> Option<(&Leaf, Vec<&'p str>)> {
        let mounts = self.hosts.get(host)?;
        let (mount, rest) =
            mounts.iter().find_map(|mount| Some((mount, after_prefix(path, &mount.prefix)?)))?;
        // `/V1/x` beside an API at `/v1` must not fall through to one at the root.
        let longer = mounts.iter().take_while(|other| other.prefix.len() > mount.prefix.len());
        if longer.into_iter().any(|other| resembles_prefix(path, &other.prefix)) {
            return None;
        }
        let segments = segments(rest)?;
        match mount.trie.walk(&segments) {
            (Walk::Leaf(leaf), taken) => Some((leaf, taken)),
            (Walk::LookAlike | Walk::Nothing, _) => None,
        }
    }
}

/// What came of [`Table::mount`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mounted {
    /// It stands.
    Fresh,
    /// Another API stands there.
    Occupied,
}

/// What follows a prefix that ends at a segment's border.
fn after_prefix<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn resembles_prefix(path: &str, prefix: &str) -> bool {
    let mut sent = path.split('/');
    prefix.split('/').all(|literal| {
        sent.next().is_some_and(|segment| segment == literal || alike(segment, literal))
    })
}

fn alike(segment: &str, literal: &str) -> bool {
    match lookalike::read(segment) {
        Reading::Plain(plain) => lookalike::read(literal) == Reading::Plain(plain),
        Reading::Foreign => !literal.is_ascii() || literal.contains('%'),
        Reading::Suspect => true,
    }
}

/// `/a/b` → `a`, `b`; `/a/` → `a`, ``; the empty rest has none.
fn segments(rest: &str) -> Option<Vec<&str>> {
    let segments: Vec<&str> = match rest.strip_prefix('/') {
        Some(inner) => inner.split('/').collect(),
        None => Vec::new(),
    };
    (segments.len() <= MAX_SEGMENTS).then_some(segments)
}

/// The shapes of one API.
pub(crate) struct Trie {
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    literals: HashMap<Box<str>, usize>,
    /// How a lenient upstream reads the literals.
    readings: HashSet<String>,
    /// Whether some literal is not ASCII.
    foreign: bool,
    parameter: Option<usize>,
    end: Option<Leaf>,
    rest: Option<Leaf>,
}

/// The methods of one shape.
#[derive(Default, Debug)]
pub(crate) struct Leaf {
    methods: Vec<(&'static str, OperationId)>,
}

impl Leaf {
    /// The exact method before `ANY`; HEAD follows GET (RFC 9110 §9.3.2).
    pub(crate) fn operation(&self, method: &str) -> Option<OperationId> {
        let exact = |wanted: &str| {
            self.methods.iter().find(|(method, _)| *method == wanted).map(|(_, id)| *id)
        };
        let head = || if method == "HEAD" { exact("GET") } else { None };
        exact(method).filter(|_| method != "ANY").or_else(head).or_else(|| exact("ANY"))
    }
}

/// Where a walk ended.
pub(crate) enum Walk<'t> {
    /// At a shape.
    Leaf(&'t Leaf),
    /// At a segment that a literal beside it resembles.
    LookAlike,
    /// Nowhere.
    Nothing,
}

impl Trie {
    /// Without shapes.
    pub(crate) fn new() -> Self {
        Trie { nodes: vec![Node::default()] }
    }

    /// Adds a shape with a method; answers with the operation that has both already, if one does.
    pub(crate) fn insert(
        &mut self,
        shape: &Shape,
        method: &'static str,
        id: OperationId,
    ) -> Option<OperationId> {
        let mut at = 0;
        let mut rest = false;
        for segment in &shape.segments {
            match segment {
                Segment::Literal(literal) => at = self.literal(at, literal),
                Segment::Parameter(_) => at = self.parameter(at),
                Segment::Rest => rest = true,
            }
        }
        let node = self.nodes.get_mut(at)?;
        let leaf = if rest { &mut node.rest } else { &mut node.end };
        let leaf = leaf.get_or_insert_with(Leaf::default);
        if let Some((_, first)) = leaf.methods.iter().find(|(known, _)| *known == method) {
            return Some(*first);
        }
        leaf.methods.push((method, id));
        None
    }

    fn literal(&mut self, at: usize, literal: &str) -> usize {
        let fresh = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return at };
        if let Some(next) = node.literals.get(literal) {
            return *next;
        }
        node.literals.insert(literal.into(), fresh);
        match lookalike::read(literal) {
            Reading::Plain(plain) => {
                node.readings.insert(plain);
            }
            Reading::Foreign | Reading::Suspect => node.foreign = true,
        }
        self.nodes.push(Node::default());
        fresh
    }

    fn parameter(&mut self, at: usize) -> usize {
        let fresh = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return at };
        if let Some(next) = node.parameter {
            return next;
        }
        node.parameter = Some(fresh);
        self.nodes.push(Node::default());
        fresh
    }

    /// The shape of these segments, and what its `{parameters}` took, in order.
    pub(crate) fn walk<'p>(&self, segments: &[&'p str]) -> (Walk<'_>, Vec<&'p str>) {
        let mut taken = Vec::new();
        let walk = self.step(0, segments, &mut taken);
        (walk, taken)
    }

    /// Depth first, the more literal branch first. Each node is entered at most once, since a node
    /// has one depth; a look-alike anywhere before the winner ends the walk.
    fn step<'p>(&self, at: usize, segments: &[&'p str], taken: &mut Vec<&'p str>) -> Walk<'_> {
        let Some(node) = self.nodes.get(at) else { return Walk::Nothing };
        let Some((segment, others)) = segments.split_first() else {
            return node.end.as_ref().or(node.rest.as_ref()).map_or(Walk::Nothing, Walk::Leaf);
        };
        if let Some(next) = node.literals.get(*segment) {
            match self.step(*next, others, taken) {
                Walk::Nothing => {}
                ended => return ended,
            }
        } else if node.resembles(segment) {
            return Walk::LookAlike;
        }
        if let Some(next) = node.parameter.filter(|_| !segment.is_empty()) {
            taken.push(segment);
            match self.step(next, others, taken) {
                Walk::Nothing => taken.pop(),
                ended => return ended,
            };
        }
        match &node.rest {
            Some(leaf) if segments.iter().all(|segment| parameter::is_harmless(segment)) => {
                Walk::Leaf(leaf)
            }
            _ => Walk::Nothing,
        }
    }
}

impl Node {
    /// Whether a segment that is none of the literals could be read as one of them.
    fn resembles(&self, segment: &str) -> bool {
        if self.literals.is_empty() {
            return false;
        }
        match lookalike::read(segment) {
            Reading::Plain(plain) => self.readings.contains(&plain),
            Reading::Foreign => self.foreign,
            Reading::Suspect => true,
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
