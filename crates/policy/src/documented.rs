//! The table against the API's OpenAPI document: which line owns which operation, what type the
//! document gives a parameter, and lines for operations that do not exist.

use portcullis_core::fault::Fault;

use crate::access::ApiDraft;
use crate::nearest::advice;
use crate::openapi::{Document, DocumentedOperation};
use crate::parameter::{Kind, Parameter};
use crate::shape::{LineKey, Segment, Shape};
use crate::table::{OperationId, Trie, Walk};

/// What stands for a documented parameter in a look-up: no literal reads like it.
const SOME_VALUE: &str = "\u{1}some-value\u{1}";

/// A documented operation and the line of the API that answers for it.
pub(crate) struct Owned<'d> {
    pub(crate) operation: &'d DocumentedOperation,
    /// The line's position in the API.
    pub(crate) line: Option<usize>,
}

/// Which line owns each documented operation, found the way a request finds it.
pub(crate) fn owners<'d>(keys: &[&LineKey], document: &'d Document) -> Vec<Owned<'d>> {
    let mut trie = Trie::new();
    for (position, key) in keys.iter().enumerate() {
        let id = OperationId(u32::try_from(position).unwrap_or(u32::MAX));
        trie.insert(&key.shape, key.method, id);
    }
    let operations = document.operations.iter();
    operations
        .map(|operation| {
            let shape = Shape::parse(&operation.path).ok();
            let line = shape.and_then(|shape| owner(&trie, &shape, &operation.method));
            Owned { operation, line }
        })
        .collect()
}

fn owner(trie: &Trie, shape: &Shape, method: &str) -> Option<usize> {
    let segments: Vec<&str> = shape
        .segments
        .iter()
        .map(|segment| match segment {
            Segment::Literal(literal) => &**literal,
            Segment::Parameter(_) | Segment::Rest => SOME_VALUE,
        })
        .collect();
    match trie.walk(&segments) {
        (Walk::Leaf(leaf), _) => leaf.operation(method).map(|id| id.0 as usize),
        (Walk::LookAlike | Walk::Nothing, _) => None,
    }
}

/// Whether some request of the operation is one of the line.
pub(crate) fn covers(key: &LineKey, operation: &DocumentedOperation) -> bool {
    let same_method = key.method == "ANY" || key.method == operation.method;
    same_method && Shape::parse(&operation.path).is_ok_and(|shape| key.shape.covers(&shape))
}

/// The line's parameters. A type other than text only where every operation that the line covers
/// has a parameter there and gives it that type.
pub(crate) fn parameters(key: &LineKey, document: Option<&Document>) -> Vec<Parameter> {
    let covered: Vec<(&DocumentedOperation, Shape)> = document
        .into_iter()
        .flat_map(|document| &document.operations)
        .filter(|operation| covers(key, operation))
        .filter_map(|operation| Some((operation, Shape::parse(&operation.path).ok()?)))
        .collect();
    let positions = key.shape.segments.iter().enumerate();
    positions
        .filter_map(|(position, segment)| match segment {
            Segment::Parameter(name) => {
                let mut kinds =
                    covered.iter().map(|(operation, shape)| kind(operation, shape, position));
                let first = kinds.next().unwrap_or(Kind::Text);
                let kind = if kinds.all(|kind| kind == first) { first } else { Kind::Text };
                Some(Parameter { name: name.clone(), kind })
            }
            Segment::Literal(_) | Segment::Rest => None,
        })
        .collect()
}

fn kind(operation: &DocumentedOperation, shape: &Shape, position: usize) -> Kind {
    let Some(Segment::Parameter(name)) = shape.segments.get(position) else { return Kind::Text };
    let mut known = operation.path_parameters.iter();
    match known.find(|(known, _)| **known == **name).map(|(_, kind)| kind.as_str()) {
        Some("integer") => Kind::Integer,
        Some("uuid") => Kind::Uuid,
        Some(_) | None => Kind::Text,
    }
}

/// A rule for an operation that does not exist is an error, unless the line says why.
pub(crate) fn check_rules(api: &ApiDraft, faults: &mut Vec<Fault>) {
    let Some(document) = api.document.as_ref().map(|document| &document.value) else { return };
    let known: Vec<String> = document
        .operations
        .iter()
        .map(|operation| format!("{} {}", operation.method, operation.path))
        .collect();
    for line in &api.lines {
        let explained = line.alternatives.iter().any(|table| table.undocumented.is_some());
        let Ok(key) = LineKey::parse(&line.key.value) else { continue };
        if explained || document.operations.iter().any(|operation| covers(&key, operation)) {
            continue;
        }
        let text = key.to_string();
        let remedy = advice(&text, known.iter().map(String::as_str), || {
            "mend the key, or say why in `undocumented`".into()
        });
        faults.push(Fault::error(
            "RuleWithoutOperation",
            line.key.place.clone(),
            format!("`{}` has no operation `{text}`", document.file),
            remedy,
        ));
    }
}
