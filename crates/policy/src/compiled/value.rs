//! Values while a policy is evaluated: borrowed from rule and question, never copied, so that a
//! decision allocates nothing.

use ipnet::IpNet;
use portcullis_core::jose::claims::Attribute;
use portcullis_core::scope::Scopes;

use super::code::Op;
use super::evaluate::Asked;
use super::{Erred, operator};
use crate::entities::Caller;
use crate::expr::EntityName;
use crate::field::{Decimal, Value};

/// What an expression comes to.
#[derive(Clone, Copy)]
pub(super) enum Held<'v> {
    Bool(bool),
    Long(i64),
    Text(&'v str),
    Decimal(Decimal),
    Network(IpNet),
    /// The caller, as an entity.
    Principal,
    Entity(&'v EntityName),
    Set(Set<'v>),
}

/// `User::"u_1"`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Uid<'v> {
    pub(super) kind: &'v str,
    pub(super) id: &'v str,
}

/// A set where it lies; members may stand there twice, and in any order.
///
/// One reference each, so that a set fits into two registers.
#[derive(Clone, Copy)]
pub(super) enum Set<'v> {
    Texts(&'v Vec<String>),
    Scopes(&'v Scopes),
    Field(&'v Vec<Value>),
    /// The [`Op::Set`].
    ///
    /// INVARIANT: none of its expressions errs; they were evaluated when the set was.
    Written(&'v Op),
}

impl Caller {
    /// Its entity type.
    pub(super) fn kind_name(&self) -> &'static str {
        match self {
            Caller::Anonymous => "Anonymous",
            Caller::User(_) => "User",
            Caller::Service { .. } => "Service",
        }
    }
}

impl<'v> Uid<'v> {
    /// The caller's.
    pub(super) fn of(caller: &'v Caller) -> Self {
        let id = match caller {
            Caller::Anonymous => "anyone",
            Caller::User(user) => &user.id,
            Caller::Service { id, .. } => id,
        };
        Uid { kind: caller.kind_name(), id }
    }
}

impl<'v> Held<'v> {
    /// Of a declared attribute.
    pub(super) fn attribute(value: &'v Attribute) -> Self {
        match value {
            Attribute::Bool(value) => Held::Bool(*value),
            Attribute::Integer(value) => Held::Long(*value),
            Attribute::String(value) => Held::Text(value),
        }
    }

    /// Of a declared field.
    pub(super) fn field(value: &'v Value) -> Self {
        match value {
            Value::Bool(value) => Held::Bool(*value),
            Value::Long(value) => Held::Long(*value),
            Value::Decimal(value) => Held::Decimal(*value),
            Value::Text(value) => Held::Text(value),
            Value::Set(members) => Held::Set(Set::Field(members)),
        }
    }

    pub(super) fn long(self) -> Result<i64, Erred> {
        match self {
            Held::Long(value) => Ok(value),
            _ => Err(Erred),
        }
    }

    pub(super) fn text(self) -> Result<&'v str, Erred> {
        match self {
            Held::Text(value) => Ok(value),
            _ => Err(Erred),
        }
    }

    pub(super) fn bool(self) -> Result<bool, Erred> {
        match self {
            Held::Bool(value) => Ok(value),
            _ => Err(Erred),
        }
    }

    pub(super) fn decimal(self) -> Result<Decimal, Erred> {
        match self {
            Held::Decimal(value) => Ok(value),
            _ => Err(Erred),
        }
    }

    pub(super) fn network(self) -> Result<IpNet, Erred> {
        match self {
            Held::Network(value) => Ok(value),
            _ => Err(Erred),
        }
    }

    /// The entity that it is, for this caller.
    pub(super) fn entity(self, caller: &'v Caller) -> Result<Uid<'v>, Erred> {
        match self {
            Held::Principal => Ok(Uid::of(caller)),
            Held::Entity(name) => Ok(Uid { kind: &name.kind, id: &name.id }),
            _ => Err(Erred),
        }
    }

    pub(super) fn set(self) -> Result<Set<'v>, Erred> {
        match self {
            Held::Set(value) => Ok(value),
            _ => Err(Erred),
        }
    }
}

impl Set<'_> {
    pub(super) fn is_empty(self) -> bool {
        match self {
            Set::Texts(texts) => texts.is_empty(),
            Set::Scopes(scopes) => scopes.is_empty(),
            Set::Field(members) => members.is_empty(),
            Set::Written(op) => matches!(op, Op::Set(items) if items.is_empty()),
        }
    }
}

impl<'v> Asked<'v> {
    /// Equality of any two values; those of different types are unequal.
    pub(super) fn equal(&self, a: Held<'_>, b: Held<'_>) -> bool {
        match (a, b) {
            (Held::Bool(a), Held::Bool(b)) => a == b,
            (Held::Long(a), Held::Long(b)) => a == b,
            (Held::Text(a), Held::Text(b)) => operator::texts_equal(a, b),
            (Held::Decimal(a), Held::Decimal(b)) => a == b,
            (Held::Network(a), Held::Network(b)) => operator::networks_equal(a, b),
            (Held::Principal | Held::Entity(_), Held::Principal | Held::Entity(_)) => {
                match (a.entity(self.caller), b.entity(self.caller)) {
                    (Ok(a), Ok(b)) => operator::entities_equal(a, b),
                    (Ok(_) | Err(Erred), _) => false,
                }
            }
            (Held::Set(a), Held::Set(b)) => {
                self.contains_all(a, b) && operator::other_way(|| self.contains_all(b, a))
            }
            (
                Held::Bool(_)
                | Held::Long(_)
                | Held::Text(_)
                | Held::Decimal(_)
                | Held::Network(_)
                | Held::Principal
                | Held::Entity(_)
                | Held::Set(_),
                _,
            ) => false,
        }
    }

    pub(super) fn contains(&self, set: Set<'v>, value: Held<'_>) -> bool {
        match value {
            Held::Text(text) => self.contains_text(set, text),
            _ => match set {
                Set::Scopes(_) | Set::Texts(_) => false,
                Set::Field(_) | Set::Written(_) => {
                    self.any(set, |member| self.equal(member, value))
                }
            },
        }
    }

    pub(super) fn contains_text(&self, set: Set<'v>, text: &str) -> bool {
        match set {
            Set::Scopes(scopes) => scopes.contains(text),
            Set::Texts(texts) => texts.iter().any(|member| member == text),
            Set::Field(_) => self.any(set, |member| self.equal(member, Held::Text(text))),
            Set::Written(set) => self.code.items(set).any(|(at, item)| match *item {
                Op::Text(own) => self.code.text(own) == text,
                _ => self.value(at).is_ok_and(|own| self.equal(own, Held::Text(text))),
            }),
        }
    }

    /// Whether every member of `part` is in `whole`.
    pub(super) fn contains_all(&self, whole: Set<'v>, part: Set<'v>) -> bool {
        match part {
            Set::Texts(texts) => texts.iter().all(|text| self.contains_text(whole, text)),
            Set::Scopes(scopes) => scopes.iter().all(|text| self.contains_text(whole, text)),
            Set::Field(_) => !self.any(part, |member| !self.contains(whole, member)),
            Set::Written(set) => self.code.items(set).all(|(at, item)| match *item {
                Op::Text(text) => self.contains_text(whole, self.code.text(text)),
                _ => self.value(at).is_ok_and(|member| self.contains(whole, member)),
            }),
        }
    }

    pub(super) fn contains_any(&self, one: Set<'v>, other: Set<'v>) -> bool {
        self.any(other, |member| self.contains(one, member))
    }

    /// Whether the test holds for some member.
    pub(super) fn any(&self, set: Set<'v>, mut test: impl FnMut(Held<'v>) -> bool) -> bool {
        match set {
            Set::Texts(texts) => texts.iter().any(|text| test(Held::Text(text))),
            Set::Scopes(scopes) => scopes.iter().any(|scope| test(Held::Text(scope))),
            Set::Field(members) => members.iter().any(|member| test(Held::field(member))),
            Set::Written(set) => {
                self.code.items(set).any(|(at, _)| self.value(at).is_ok_and(&mut test))
            }
        }
    }
}
