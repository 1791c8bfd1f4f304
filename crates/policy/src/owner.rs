//! `owner`: where the API's own upstream says whose an object is. Only read here; the gateway asks.

use portcullis_core::fault::{Fault, Placed};

use crate::access::{LineDraft, OwnerDraft};
use crate::compile::{LookupPiece, OwnerLookup};
use crate::line::MAX_STRING_BYTES;
use crate::nearest::advice;
use crate::shape::{Segment, Shape};

/// Most steps of a pointer.
pub(crate) const MAX_POINTER_STEPS: usize = 16;

/// The look-up of a line: one, whichever of its tables asks for it.
pub(crate) fn read_line(
    draft: &LineDraft,
    path: Option<&Shape>,
    faults: &mut Vec<Fault>,
) -> Option<OwnerLookup> {
    let mut written = draft.alternatives.iter().filter_map(|table| table.owner.as_ref());
    let first = written.next()?;
    for other in written {
        if other.lookup.value != first.lookup.value || other.field.value != first.field.value {
            faults.push(Fault::error(
                "SettingDiffers",
                other.lookup.place.clone(),
                "the tables of one line differ in `owner`".into(),
                "write the same `owner` in each table that has one".into(),
            ));
        }
    }
    let field = read_field(&first.field, faults);
    Some(OwnerLookup { path: read_path(first, path?, faults)?, field: field? })
}

fn read_path(
    draft: &OwnerDraft,
    path: &Shape,
    faults: &mut Vec<Fault>,
) -> Option<Vec<LookupPiece>> {
    let word = &draft.lookup;
    let mut refuse = |message: String, remedy: String| {
        faults.push(Fault::error("OwnerLookupMalformed", word.place.clone(), message, remedy));
    };
    let example = "write it as `GET /internal/owner/{id}`, with a parameter of the line's path";
    let Some(lookup) = word.value.strip_prefix("GET ").filter(|_| is_short(word)) else {
        refuse(format!("`{}` is not a look-up", word.value), example.into());
        return None;
    };
    let shape = match Shape::parse(lookup) {
        Ok(shape) if !shape.segments.contains(&Segment::Rest) => shape,
        Ok(_) => {
            refuse(format!("`{lookup}` does not name one object"), example.into());
            return None;
        }
        Err(bad) => {
            refuse(bad.message, bad.remedy);
            return None;
        }
    };
    let parameters: Vec<&str> = path.parameters().collect();
    let (mut pieces, mut literal, mut names) = (Vec::new(), String::new(), 0_usize);
    for segment in &shape.segments {
        literal.push('/');
        match segment {
            Segment::Literal(text) => literal.push_str(text),
            Segment::Parameter(name) => {
                let Some(position) = parameters.iter().position(|known| *known == &**name) else {
                    let remedy = advice(name, parameters.iter().copied(), || example.into());
                    refuse(format!("the line's path has no parameter `{name}`"), remedy);
                    return None;
                };
                names += 1;
                pieces.push(LookupPiece::Literal(std::mem::take(&mut literal).into()));
                pieces.push(LookupPiece::Parameter(position));
            }
            Segment::Rest => {}
        }
    }
    if names == 0 {
        refuse(
            format!("`{lookup}` asks for the same object whatever the path says"),
            example.into(),
        );
        return None;
    }
    if !literal.is_empty() {
        pieces.push(LookupPiece::Literal(literal.into()));
    }
    Some(pieces)
}

/// RFC 6901 §3: empty, or steps that begin with `/`, in which `~` is `~0` or `~1`.
fn read_field(word: &Placed<String>, faults: &mut Vec<Fault>) -> Option<Box<str>> {
    let text = word.value.as_str();
    let steps = text.matches('/').count();
    let tildes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    let sound = (text.is_empty() || text.starts_with('/'))
        && tildes
        && is_short(word)
        && steps <= MAX_POINTER_STEPS;
    if !sound {
        faults.push(Fault::error(
            "OwnerFieldMalformed",
            word.place.clone(),
            format!("`{text}` is not a JSON pointer (RFC 6901)"),
            "write where the owner's id stands in the answer, as in `/owner`".into(),
        ));
    }
    sound.then(|| text.into())
}

fn is_short(word: &Placed<String>) -> bool {
    word.value.len() <= MAX_STRING_BYTES
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
