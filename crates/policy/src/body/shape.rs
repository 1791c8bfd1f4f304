//! What a body may hold, and how a rule's dotted name finds its way through it. A shape comes from
//! the document's schema or from the line's own declaration; it knows nothing of bytes.

use crate::field::{Field, FieldKind, MAX_TEXT_BYTES};

/// What a body, or a member of it, may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyShape {
    /// One value of a declared type.
    Value(FieldKind),
    /// An object with these members.
    Object {
        /// In the document's order.
        members: Vec<Member>,
        /// Whether others pass, unread (`extra = "allow"`, `additionalProperties`).
        extra: Extra,
    },
    /// An array of a shape that no rule can read.
    List(Box<BodyShape>),
    /// Anything that is JSON: no rule can read it.
    Any,
}

/// One member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, exactly.
    pub name: Box<str>,
    /// What it holds.
    pub shape: BodyShape,
    /// Whether the document requires it.
    pub required: bool,
    /// Whether it may be `null`, which a rule sees as absent. Anywhere else `null` is a value of
    /// another type: a rule that asks whether a member is there is not answered "no" by it.
    pub nullable: bool,
}

/// Members that were not declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// 400.
    Refused,
    /// They pass.
    Allowed,
}

impl BodyShape {
    /// The field that a rule names (`card.number`, objects by dots): its type, and whether every
    /// body has it, which takes that every step is required and none may be `null`. `None` if it
    /// is not declared or holds what no rule can read.
    pub fn field(&self, dotted: &str) -> Option<Field> {
        if dotted.len() > MAX_TEXT_BYTES {
            return None;
        }
        let (mut at, mut required) = (self, true);
        for step in dotted.split('.') {
            let member = at.member(step)?;
            required = required && member.required && !member.nullable;
            at = &member.shape;
        }
        match at {
            BodyShape::Value(kind) => {
                Some(Field { name: dotted.into(), kind: kind.clone(), required })
            }
            BodyShape::Object { .. } | BodyShape::List(_) | BodyShape::Any => None,
        }
    }

    /// Every field that a rule could name, for "did you mean": dotted, in the document's order.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.collect("", &mut names);
        names
    }

    /// The shape of a line's own declaration (`body = { fields = { … } }`): objects grow out of
    /// the dots, nothing else is declared. An object is required if anything in it is; a name that
    /// needs an object where another declared a value is left out, so that a rule that reads it is
    /// an error.
    pub fn declared(fields: &[Field]) -> BodyShape {
        let mut root = BodyShape::Object { members: Vec::new(), extra: Extra::Refused };
        for field in fields {
            let steps: Vec<&str> = field.name.split('.').collect();
            root.insert(&steps, field);
        }
        root
    }

    /// The same, with members beyond the declared ones passing unread at every object
    /// (`extra = "allow"`).
    pub fn open(self) -> BodyShape {
        match self {
            BodyShape::Object { members, .. } => {
                let opened = |member: Member| Member { shape: member.shape.open(), ..member };
                let members = members.into_iter().map(opened).collect();
                BodyShape::Object { members, extra: Extra::Allowed }
            }
            BodyShape::List(inner) => BodyShape::List(Box::new(inner.open())),
            BodyShape::Value(_) | BodyShape::Any => self,
        }
    }

    pub(crate) fn members(&self) -> &[Member] {
        match self {
            BodyShape::Object { members, .. } => members,
            BodyShape::Value(_) | BodyShape::List(_) | BodyShape::Any => &[],
        }
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        self.members().iter().find(|member| &*member.name == name)
    }

    fn collect(&self, prefix: &str, names: &mut Vec<String>) {
        for member in self.members() {
            let name = format!("{prefix}{}", member.name);
            match member.shape {
                BodyShape::Value(_) => names.push(name),
                BodyShape::Object { .. } => member.shape.collect(&format!("{name}."), names),
                BodyShape::List(_) | BodyShape::Any => {}
            }
        }
    }

    fn insert(&mut self, steps: &[&str], field: &Field) {
        let (Some((step, rest)), BodyShape::Object { members, .. }) = (steps.split_first(), self)
        else {
            return;
        };
        let known = members.iter_mut().find(|member| &*member.name == *step);
        match known {
            // A name twice, or a value where an object is needed: the first one counts.
            Some(member) if !rest.is_empty() => {
                if matches!(member.shape, BodyShape::Object { .. }) {
                    member.required = member.required || field.required;
                    member.shape.insert(rest, field);
                }
            }
            Some(_) => {}
            None => {
                let shape = if rest.is_empty() {
                    BodyShape::Value(field.kind.clone())
                } else {
                    let mut inner =
                        BodyShape::Object { members: Vec::new(), extra: Extra::Refused };
                    inner.insert(rest, field);
                    inner
                };
                let (name, required) = ((*step).into(), field.required);
                members.push(Member { name, shape, required, nullable: false });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain_field(name: &str, kind: FieldKind, required: bool) -> Field {
        Field { name: name.into(), kind, required }
    }

    #[test]
    fn declared_fields_are_found_again_and_nothing_else() {
        let fields = [
            plain_field("amount", FieldKind::Decimal, true),
            plain_field("card.number", FieldKind::Text, true),
            plain_field("card.holder.name", FieldKind::Text, false),
            plain_field("tags", FieldKind::Set(Box::new(FieldKind::Text)), false),
        ];
        let shape = BodyShape::declared(&fields);
        for field in &fields {
            assert_eq!(shape.field(&field.name).as_ref(), Some(field));
        }
        for name in ["", ".", "card", "card.", "card.number.x", "Amount", "amount.x", "nothing"] {
            assert_eq!(shape.field(name), None, "{name}");
        }
        assert_eq!(shape.names(), ["amount", "card.number", "card.holder.name", "tags"]);
    }

    #[test]
    fn a_name_that_contradicts_an_earlier_one_is_left_out() {
        let value = || plain_field("a", FieldKind::Long, true);
        let within = || plain_field("a.b", FieldKind::Long, true);
        let shape = BodyShape::declared(&[value(), within()]);
        assert_eq!((shape.field("a"), shape.field("a.b")), (Some(value()), None));
        let shape = BodyShape::declared(&[within(), value()]);
        assert_eq!((shape.field("a"), shape.field("a.b")), (None, Some(within())));
    }

    #[test]
    fn a_field_is_required_only_if_every_step_is() {
        let of = |required, nullable| {
            let inner = BodyShape::declared(&[plain_field("number", FieldKind::Text, true)]);
            let card = Member { name: "card".into(), shape: inner, required, nullable };
            let shape = BodyShape::Object { members: vec![card], extra: Extra::Refused };
            shape.field("card.number").map(|field| field.required)
        };
        assert_eq!(of(true, false), Some(true));
        assert_eq!(of(false, false), Some(false));
        assert_eq!(of(true, true), Some(false), "`null` is a body without it");
    }

    #[test]
    fn opening_a_shape_opens_every_object() {
        let shape = BodyShape::declared(&[plain_field("a.b", FieldKind::Long, true)]).open();
        let BodyShape::Object { members, extra } = &shape else { panic!() };
        assert_eq!(*extra, Extra::Allowed);
        assert!(matches!(members[0].shape, BodyShape::Object { extra: Extra::Allowed, .. }));
        assert!(shape.field("a.b").is_some());
    }
}
