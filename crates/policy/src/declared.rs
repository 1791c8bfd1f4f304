//! What the rules of one line may read of a request: the path's parameters, and what document or
//! line declare of query, headers and body. A name that stands nowhere here is an error in the file.
//!
//! Only says what there is; what a rule reads of it becomes [`Uses`], and nothing else is ever read
//! from a request.

use portcullis_core::fault::{Fault, Placed};

use crate::access::LineDraft;
use crate::body::{BodyShape, Extra};
use crate::condition::{Read, Root};
use crate::field::{Field, FieldKind, MAX_TEXT_BYTES};
use crate::nearest::advice;
use crate::openapi::DocumentedOperation;
use crate::parameter::Parameter;

/// Most fields that a line declares itself, of query and body each.
pub(crate) const MAX_DECLARED: usize = 64;

/// What rules of a line may read of a request besides caller and circumstances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Declared {
    /// Of the path.
    pub(crate) parameters: Vec<Parameter>,
    /// Of the query.
    pub(crate) query: Vec<Field>,
    /// Of the headers, in lower case; a rule writes `_` for `-`.
    pub(crate) header: Vec<Field>,
    /// Of the body.
    pub(crate) body: Option<BodyShape>,
    /// Whether the object's owner can be looked up.
    pub(crate) owner: Owner,
}

/// Whether a line says how an owner is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    #[default]
    Unknown,
    LookedUp,
}

/// A member of `resource`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Member {
    Parameter,
    Query(Field),
    Header(Field),
    Body(Field),
    Owner,
}

/// Names of `resource` that are no path parameters.
pub(crate) const RESERVED_MEMBERS: [&str; 4] = ["query", "header", "body", "owner"];

impl Declared {
    /// The member of a path, as `body`, `card`, `number`.
    pub(crate) fn member(&self, path: &[String]) -> Option<Member> {
        let (first, rest) = path.split_first()?;
        match (first.as_str(), rest) {
            ("owner", []) => (self.owner == Owner::LookedUp).then_some(Member::Owner),
            ("query", [name]) => {
                let field = self.query.iter().find(|field| *field.name == **name);
                field.cloned().map(Member::Query)
            }
            ("header", [name]) => {
                let field = self.header.iter().find(|field| header_name(field) == **name);
                field.cloned().map(Member::Header)
            }
            ("body", [_, ..]) => self.body.as_ref()?.field(&rest.join(".")).map(Member::Body),
            (name, []) => {
                let known = self.parameters.iter().any(|parameter| *parameter.name == *name);
                known.then_some(Member::Parameter)
            }
            _ => None,
        }
    }

    /// Whether a request may lack it, so that reading it is guarded.
    pub(crate) fn is_optional(&self, read: &Read) -> bool {
        read.root == Root::Resource
            && match self.member(&read.path) {
                // A document can require a query parameter; nobody refuses a request without it.
                Some(Member::Query(_) | Member::Header(_)) => true,
                Some(Member::Body(field)) => !field.required,
                Some(Member::Parameter | Member::Owner) | None => false,
            }
    }

    /// Every name that may stand after `resource.`, for "did you mean".
    pub(crate) fn names(&self) -> Vec<String> {
        let parameters = self.parameters.iter().map(|parameter| parameter.name.to_string());
        let query = self.query.iter().map(|field| format!("query.{}", field.name));
        let header = self.header.iter().map(|field| format!("header.{}", header_name(field)));
        let body = self.body.iter().flat_map(BodyShape::names).map(|name| format!("body.{name}"));
        let owner = (self.owner == Owner::LookedUp).then(|| "owner".to_owned());
        parameters.chain(query).chain(header).chain(body).chain(owner).collect()
    }

    /// What documents say of the operations that a line answers for: only what all of them say.
    pub(crate) fn of(parameters: Vec<Parameter>, operations: &[&DocumentedOperation]) -> Self {
        let Some((first, others)) = operations.split_first() else {
            return Declared { parameters, ..Declared::default() };
        };
        let everywhere = |field: &Field, of: fn(&DocumentedOperation) -> &[Field]| {
            others.iter().all(|other| {
                of(other).iter().any(|twin| twin.name == field.name && twin.kind == field.kind)
            })
        };
        let common = |of: fn(&DocumentedOperation) -> &[Field]| -> Vec<Field> {
            of(first).iter().filter(|field| everywhere(field, of)).cloned().collect()
        };
        let (query, header) = (common(query_of), common(header_of));
        let body = body_of(first).filter(|body| others.iter().all(|o| body_of(o) == Some(body)));
        Declared { parameters, query, header, body: body.cloned(), owner: Owner::Unknown }
    }

    /// Adds what the line declares itself.
    pub(crate) fn extend(&mut self, draft: &LineDraft, faults: &mut Vec<Fault>) {
        let mut fields: Vec<Field> = Vec::new();
        for table in &draft.alternatives {
            for field in read_fields(&table.query, "query", faults) {
                add(&mut self.query, field);
            }
            for field in read_fields(&table.body_fields, "body", faults) {
                self.check_new(&field, table.body_fields.first(), faults);
                add(&mut fields, field);
            }
            if table.owner.is_some() {
                self.owner = Owner::LookedUp;
            }
        }
        if !fields.is_empty() {
            let own = BodyShape::declared(&fields);
            self.body = Some(match self.body.take() {
                Some(BodyShape::Object { mut members, extra }) => {
                    members.extend(own.members().iter().cloned());
                    BodyShape::Object { members, extra }
                }
                Some(_) | None => own,
            });
        }
        let extras = draft.alternatives.iter().filter_map(|table| table.body_extra.as_ref());
        if read_extra(extras, faults) == Extra::Allowed {
            self.body = self.body.take().map(BodyShape::open);
        }
    }

    /// A member that the document declares is not declared again: two types would be one too many.
    fn check_new(
        &self,
        field: &Field,
        first: Option<&(Placed<String>, Placed<String>)>,
        faults: &mut Vec<Fault>,
    ) {
        let top = field.name.split('.').next().unwrap_or_default();
        let known = self.body.as_ref().and_then(|body| body.member(top));
        if let (Some(_), Some((name, _))) = (known, first) {
            faults.push(Fault::error(
                "FieldDeclaredTwice",
                name.place.clone(),
                format!("the document declares `{top}` in this body already"),
                "leave it out of `fields`: rules can read it".into(),
            ));
        }
    }
}

fn query_of(operation: &DocumentedOperation) -> &[Field] {
    &operation.query
}

fn header_of(operation: &DocumentedOperation) -> &[Field] {
    &operation.header
}

fn body_of(operation: &DocumentedOperation) -> Option<&BodyShape> {
    operation.body.as_deref()
}

/// The first of two with one name stays.
fn add(fields: &mut Vec<Field>, field: Field) {
    if !fields.iter().any(|known| known.name == field.name) {
        fields.push(field);
    }
}

/// A header's name in a rule.
pub(crate) fn header_name(field: &Field) -> String {
    field.name.replace('-', "_")
}

fn read_fields(
    written: &[(Placed<String>, Placed<String>)],
    key: &str,
    faults: &mut Vec<Fault>,
) -> Vec<Field> {
    if let Some((name, _)) = written.get(MAX_DECLARED) {
        faults.push(Fault::error(
            "TooManyFields",
            name.place.clone(),
            format!("`{key}` declares {} fields", written.len()),
            format!("declare the ones that rules read, at most {MAX_DECLARED}"),
        ));
        return Vec::new();
    }
    let mut fields: Vec<Field> = Vec::new();
    for (name, kind) in written {
        let sound = !name.value.is_empty()
            && name.value.len() <= MAX_TEXT_BYTES
            && name.value.split('.').all(|part| !part.is_empty())
            && !name.value.chars().any(char::is_control);
        if !sound || fields.iter().any(|known| *known.name == *name.value) {
            faults.push(Fault::error(
                "FieldMalformed",
                name.place.clone(),
                format!("`{}` is not a field's name, or stands twice", name.value),
                "write each name once, members of objects behind a dot, as in `card.number`".into(),
            ));
            continue;
        }
        if let Some(kind) = read_kind(kind, faults) {
            let name = name.value.as_str().into();
            fields.push(Field { name, kind, required: false });
        }
    }
    fields
}

const KINDS: [&str; 8] =
    ["string", "integer", "number", "boolean", "[string]", "[integer]", "[number]", "[boolean]"];

fn read_kind(word: &Placed<String>, faults: &mut Vec<Fault>) -> Option<FieldKind> {
    let text = word.value.as_str();
    let plain = |text: &str| match text {
        "string" => Some(FieldKind::Text),
        "integer" => Some(FieldKind::Long),
        "number" => Some(FieldKind::Decimal),
        "boolean" => Some(FieldKind::Bool),
        _ => None,
    };
    let element = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let kind = match element {
        Some(element) => plain(element).map(|kind| FieldKind::Set(Box::new(kind))),
        None => plain(text),
    };
    if kind.is_none() {
        let remedy = advice(text, KINDS, || {
            "write `string`, `integer`, `number` or `boolean`, in brackets for an array".into()
        });
        let message = format!("`{text}` is not the type of a field");
        faults.push(Fault::error("FieldTypeUnknown", word.place.clone(), message, remedy));
    }
    kind
}

fn read_extra<'d>(
    written: impl Iterator<Item = &'d Placed<String>>,
    faults: &mut Vec<Fault>,
) -> Extra {
    let mut extra = Extra::Refused;
    for word in written {
        if word.value == "allow" {
            extra = Extra::Allowed;
            continue;
        }
        faults.push(Fault::error(
            "ExtraUnknown",
            word.place.clone(),
            format!("`{}` is not a way to treat undeclared members", word.value),
            "write `allow`, or leave `extra` out: they are refused".into(),
        ));
    }
    extra
}

/// What the rules of one operation read of its requests: each once, in the order first read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    pub(crate) query: Vec<Field>,
    pub(crate) header: Vec<Field>,
    pub(crate) body: Vec<Field>,
    pub(crate) owner: bool,
}

impl Uses {
    /// Adds what is declared of these reads.
    pub(crate) fn add<'r>(
        &mut self,
        reads: impl IntoIterator<Item = &'r Read>,
        declared: &Declared,
    ) {
        for read in reads.into_iter().filter(|read| read.root == Root::Resource) {
            match declared.member(&read.path) {
                Some(Member::Query(field)) => add(&mut self.query, field),
                Some(Member::Header(field)) => add(&mut self.header, field),
                Some(Member::Body(field)) => add(&mut self.body, field),
                Some(Member::Owner) => self.owner = true,
                Some(Member::Parameter) | None => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "declared_tests.rs"]
mod tests;
