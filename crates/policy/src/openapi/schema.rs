//! Schemas, as far as rules need them: which members a body has and of what type. What a schema
//! forbids beyond that (patterns, bounds, `not`) is the upstream's to judge.
//!
//! Real schemas are deep, refer to each other in circles and are used a thousand times, so a shape
//! is taken as deep as it fits into a budget, level by level: what it says of a member depends on
//! the schema alone, never on the order of the document. Beyond that it is [`BodyShape::Any`].

mod merged;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use portcullis_core::fault::Fault;

use self::merged::Merged;
use super::node::{Node, References};
use crate::body::{BodyShape, Extra, Member};
use crate::field::{FieldKind, MAX_TEXT_BYTES};

/// Deepest shape: objects and arrays in each other.
const MAX_LEVELS: usize = 8;
/// Most schemas that one shape is made of.
const MAX_SCHEMAS: usize = 1024;
/// Deepest chain of alternatives and levels, so that a circle of `oneOf` ends.
const MAX_STEPS: usize = 48;

/// Which way the message goes: `readOnly` members are not required of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    /// A reference that leads nowhere is an error.
    Request,
    /// Such a reference is anything.
    Response,
}

type Known = HashMap<(*const Node, Direction), Arc<BodyShape>>;

/// Makes shapes of schemas, each once.
pub(super) struct Schemas<'r, 'n> {
    pub(super) references: &'r References<'n>,
    known: RefCell<Known>,
}

impl<'r, 'n> Schemas<'r, 'n> {
    pub(super) fn new(references: &'r References<'n>) -> Self {
        Schemas { references, known: RefCell::default() }
    }

    /// The shape of a schema.
    pub(super) fn shape(
        &self,
        schema: &'n Node,
        direction: Direction,
    ) -> Result<Arc<BodyShape>, Fault> {
        // A node that is a reference and no more has its target's shape; the tree stands still while
        // it is read, so an address names a node.
        let alone = schema.members().len() == 1;
        let target = match self.references.resolve(schema) {
            Ok(target) if alone => target,
            Ok(_) => schema,
            Err(fault) if direction == Direction::Request => return Err(fault),
            Err(_) => return Ok(Arc::new(BodyShape::Any)),
        };
        let key = (std::ptr::from_ref(target), direction);
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(Arc::clone(known));
        }
        let mut shape = BodyShape::Any;
        for levels in 1..=MAX_LEVELS {
            let mut maker =
                Maker { references: self.references, direction, left: MAX_SCHEMAS, was_cut: false };
            let found = maker.shape(&[target], levels, 0)?.shape;
            if maker.left == 0 {
                break;
            }
            shape = found;
            if !maker.was_cut {
                break;
            }
        }
        let shape = Arc::new(shape);
        self.known.borrow_mut().insert(key, Arc::clone(&shape));
        Ok(shape)
    }
}

/// One attempt at one shape.
struct Maker<'r, 'n> {
    references: &'r References<'n>,
    direction: Direction,
    /// Schemas that it may still look at; 0: too few.
    left: usize,
    /// Whether something lay deeper than it went.
    was_cut: bool,
}

/// A schema's shape, and what it says about the member that holds it.
struct Described {
    shape: BodyShape,
    nullable: bool,
    read_only: bool,
}

impl<'n> Maker<'_, 'n> {
    /// The shape that all of these schemas describe together.
    fn shape(
        &mut self,
        schemas: &[&'n Node],
        levels: usize,
        steps: usize,
    ) -> Result<Described, Fault> {
        self.left = self.left.saturating_sub(1);
        let mut described = Described { shape: BodyShape::Any, nullable: false, read_only: false };
        if self.left == 0 || steps > MAX_STEPS {
            self.was_cut = true;
            return Ok(described);
        }
        let merged = match Merged::of(self.references, schemas) {
            Ok(Some(merged)) => merged,
            Ok(None) => return Ok(described),
            Err(fault) if self.direction == Direction::Request => return Err(fault),
            Err(_) => return Ok(described),
        };
        described.nullable = merged.is_nullable();
        described.read_only = merged.says("readOnly", "true");
        described.shape = match merged.kind() {
            Some("object" | "array") if levels == 0 => {
                self.was_cut = true;
                return Ok(described);
            }
            Some("string") => BodyShape::Value(FieldKind::Text),
            Some("integer") => BodyShape::Value(FieldKind::Long),
            Some("number") => BodyShape::Value(FieldKind::Decimal),
            Some("boolean") => BodyShape::Value(FieldKind::Bool),
            Some("array") => self.list(&merged, levels, steps)?,
            Some("object") => self.object(&merged, levels, steps)?,
            Some(_) | None => BodyShape::Any,
        };
        for alternatives in merged.alternatives() {
            self.choose(&mut described, alternatives, (levels, steps))?;
        }
        Ok(described)
    }

    fn list(
        &mut self,
        merged: &Merged<'n>,
        levels: usize,
        steps: usize,
    ) -> Result<BodyShape, Fault> {
        let items = merged.all("items");
        if items.is_empty() {
            return Ok(BodyShape::List(Box::new(BodyShape::Any)));
        }
        let inner = self.shape(&items, levels - 1, steps + 1)?;
        Ok(match inner.shape {
            // A `null` in it would be no member of the set.
            BodyShape::Value(kind) if !matches!(kind, FieldKind::Set(_)) && !inner.nullable => {
                BodyShape::Value(FieldKind::Set(Box::new(kind)))
            }
            shape => BodyShape::List(Box::new(shape)),
        })
    }

    fn object(
        &mut self,
        merged: &Merged<'n>,
        levels: usize,
        steps: usize,
    ) -> Result<BodyShape, Fault> {
        let required = merged.required();
        let mut members = Vec::new();
        for (name, schemas) in merged.properties() {
            if name.len() > MAX_TEXT_BYTES {
                continue;
            }
            let inner = self.shape(&schemas, levels - 1, steps + 1)?;
            // OpenAPI 3.0 §4.7.24.2: a required `readOnly` member is required of answers alone.
            let asked = self.direction == Direction::Response || !inner.read_only;
            members.push(Member {
                name: name.into(),
                shape: inner.shape,
                required: required.contains(name) && asked,
                nullable: inner.nullable,
            });
        }
        // A bare `type: object` is "any object" to those who write it; once members are named,
        // others are undeclared unless the document says that they are welcome.
        let is_open = merged.is_open() || (members.is_empty() && !merged.is_closed());
        let extra = if is_open { Extra::Allowed } else { Extra::Refused };
        Ok(BodyShape::Object { members, extra })
    }

    /// `oneOf`, `anyOf`: all of one shape, or beside members that hold whatever is chosen.
    fn choose(
        &mut self,
        described: &mut Described,
        alternatives: &'n [Node],
        (levels, steps): (usize, usize),
    ) -> Result<(), Fault> {
        let mut shapes = Vec::new();
        for alternative in alternatives {
            if alternative.member("type").and_then(Node::text) == Some("null") {
                described.nullable = true;
                continue;
            }
            let inner = self.shape(&[alternative], levels, steps + 1)?;
            described.nullable |= inner.nullable;
            // Such as `required: [a]`: it narrows and declares nothing.
            if inner.shape != BodyShape::Any || !Merged::only_narrows(alternative) {
                shapes.push(inner.shape);
            }
        }
        let Some((first, others)) = shapes.split_first() else { return Ok(()) };
        let is_same = others.iter().all(|shape| shape == first);
        match &mut described.shape {
            BodyShape::Any if is_same => described.shape = first.clone(),
            BodyShape::Object { members, extra } => {
                let declared = |shape: &BodyShape| {
                    let is_known = |name: &str| members.iter().any(|known| &*known.name == name);
                    let theirs = shape.members();
                    !theirs.is_empty() && theirs.iter().all(|member| is_known(&member.name))
                };
                if !shapes.iter().all(declared) {
                    *extra = Extra::Allowed;
                }
            }
            BodyShape::Any | BodyShape::Value(_) | BodyShape::List(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
