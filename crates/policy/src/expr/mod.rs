//! Cedar's expressions in a form of our own: typed, with every attribute resolved to its place in a
//! question. The evaluator ([`crate::compiled`]) walks it.
//!
//! It holds only what we evaluate *exactly* as Cedar does; a policy with anything else is
//! [`Outside`], and Cedar decides its operation. It is made by [`lower`], from Cedar's own tree.

mod lower;
mod name;

use std::sync::Arc;

use ipnet::IpNet;

use crate::compiled::{Code, Pass};
use crate::field::{Decimal, Field};
use crate::parameter::Parameter;

pub(crate) use lower::lower;

/// One Cedar policy, its head and conditions as expressions that must all be true, in order.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) effect: Effect,
    /// For each condition (what the head asks, then each `when`, and `unless` negated), the first pass that has all it reads.
    pub(crate) needs: Vec<Pass>,
    /// The first pass that can judge all of it.
    pub(crate) last: Pass,
    /// The conditions.
    pub(crate) code: Code,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Permit,
    Forbid,
}

/// A policy with something that is not evaluated exactly here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outside(pub(crate) String);

/// Where the names of an operation's policies are found in its questions.
pub(crate) struct Slots<'s> {
    /// The action's id, and the groups that it is in.
    pub(crate) action: &'s str,
    pub(crate) groups: &'s [Arc<str>],
    pub(crate) parameters: &'s [Parameter],
    pub(crate) query: &'s [Field],
    pub(crate) header: &'s [Field],
    pub(crate) body: &'s [Field],
}

/// An expression. Evaluation order, short cuts and errors are Cedar's.
///
/// `action` and `resource` are no variants: within one operation they are constants, and written as
/// [`Expr::Entity`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    Bool(bool),
    Long(i64),
    Text(Box<str>),
    Decimal(Decimal),
    Network(IpNet),
    Entity(EntityName),
    /// A set that is written out.
    Set(Vec<Expr>),
    /// The variable, as an identity.
    Principal,
    /// An attribute's value; an error where it is absent.
    Read(Slot),
    /// Whether an attribute is there.
    Has(Slot),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    Equal(Box<Expr>, Box<Expr>),
    Less(Box<Expr>, Box<Expr>),
    LessEqual(Box<Expr>, Box<Expr>),
    Add(Box<Expr>, Box<Expr>),
    Subtract(Box<Expr>, Box<Expr>),
    Multiply(Box<Expr>, Box<Expr>),
    Contains(Box<Expr>, Box<Expr>),
    ContainsAll(Box<Expr>, Box<Expr>),
    ContainsAny(Box<Expr>, Box<Expr>),
    IsEmpty(Box<Expr>),
    /// Text against a pattern.
    Like(Box<Expr>, Vec<PatternPiece>),
    /// `principal is User`.
    IsKind(Box<Expr>, Box<str>),
    /// `principal in Role::"x"`, or in any of several. Reflexive.
    In(Box<Expr>, Vec<EntityName>),
    DecimalLess(Box<Expr>, Box<Expr>),
    DecimalLessEqual(Box<Expr>, Box<Expr>),
    InRange(Box<Expr>, Box<Expr>),
    IsIpv4(Box<Expr>),
    IsIpv6(Box<Expr>),
    IsLoopback(Box<Expr>),
    IsMulticast(Box<Expr>),
}

/// `Role::"admin"`. Kinds have no namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntityName {
    pub(crate) kind: Box<str>,
    pub(crate) id: Box<str>,
}

/// A piece of a `like` pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatternPiece {
    Character(char),
    Wildcard,
}

/// Where a value of a question is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// `principal.NAME`; which kinds have it is the schema's.
    Principal(Box<str>),
    /// `resource.NAME`, a text (also a UUID), by position.
    Parameter(usize),
    /// `resource.NAME`, a Long, by position; parsed when it is read.
    IntegerParameter(usize),
    Query(usize),
    Header(usize),
    Body(usize),
    Owner,
    Now,
    Ip,
    Client,
    Scopes,
    Acr,
    Amr,
    /// `context.age.NAME`, a name of [`crate::schema::AGES`].
    Age(&'static str),
    Dpop,
    Mtls,
    Actors,
}

impl Lowered {
    /// A policy, with what each of its conditions waits for.
    pub(crate) fn new(effect: Effect, conditions: Vec<Expr>) -> Self {
        let needs: Vec<Pass> = conditions.iter().map(Expr::needs).collect();
        let last = needs.iter().copied().max().unwrap_or(Pass::Head);
        Lowered { effect, code: Code::of(&conditions), needs, last }
    }
}

impl Expr {
    /// The first pass that has all it reads.
    pub(crate) fn needs(&self) -> Pass {
        let mut needs = Pass::Head;
        self.walk(&mut |expr| {
            let own = match expr {
                Expr::Read(slot) | Expr::Has(slot) => slot.needs(),
                _ => Pass::Head,
            };
            needs = needs.max(own);
        });
        needs
    }

    /// Calls `visit` with this expression and each within it, outermost first.
    pub(crate) fn walk<'e>(&'e self, visit: &mut dyn FnMut(&'e Expr)) {
        visit(self);
        match self {
            Expr::Bool(_)
            | Expr::Long(_)
            | Expr::Text(_)
            | Expr::Decimal(_)
            | Expr::Network(_)
            | Expr::Entity(_)
            | Expr::Principal
            | Expr::Read(_)
            | Expr::Has(_) => {}
            Expr::Set(items) => items.iter().for_each(|item| item.walk(visit)),
            Expr::Not(inner)
            | Expr::Negate(inner)
            | Expr::IsEmpty(inner)
            | Expr::Like(inner, _)
            | Expr::IsKind(inner, _)
            | Expr::In(inner, _)
            | Expr::IsIpv4(inner)
            | Expr::IsIpv6(inner)
            | Expr::IsLoopback(inner)
            | Expr::IsMulticast(inner) => inner.walk(visit),
            Expr::And(left, right)
            | Expr::Or(left, right)
            | Expr::Equal(left, right)
            | Expr::Less(left, right)
            | Expr::LessEqual(left, right)
            | Expr::Add(left, right)
            | Expr::Subtract(left, right)
            | Expr::Multiply(left, right)
            | Expr::Contains(left, right)
            | Expr::ContainsAll(left, right)
            | Expr::ContainsAny(left, right)
            | Expr::DecimalLess(left, right)
            | Expr::DecimalLessEqual(left, right)
            | Expr::InRange(left, right) => {
                left.walk(visit);
                right.walk(visit);
            }
            Expr::If(test, then, otherwise) => {
                test.walk(visit);
                then.walk(visit);
                otherwise.walk(visit);
            }
        }
    }
}

impl Slot {
    fn needs(&self) -> Pass {
        match self {
            Slot::Owner => Pass::Owner,
            Slot::Body(_) => Pass::Body,
            Slot::Principal(_)
            | Slot::Parameter(_)
            | Slot::IntegerParameter(_)
            | Slot::Query(_)
            | Slot::Header(_)
            | Slot::Now
            | Slot::Ip
            | Slot::Client
            | Slot::Scopes
            | Slot::Acr
            | Slot::Amr
            | Slot::Age(_)
            | Slot::Dpop
            | Slot::Mtls
            | Slot::Actors => Pass::Head,
        }
    }
}
