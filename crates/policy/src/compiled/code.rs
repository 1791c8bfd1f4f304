//! A policy's conditions laid out for evaluation: all of its operators one after the other in one
//! place, each naming its operands by number. A tree of boxes means the same and costs a cache miss
//! per node once there are a thousand operations.

use ipnet::IpNet;

use crate::expr::{EntityName, Expr, PatternPiece, Slot};
use crate::field::Decimal;
use crate::schema::AGES;

/// The conditions of one policy.
#[derive(Debug, Default)]
pub(crate) struct Code {
    /// INVARIANT: the conditions come first, in order; operands come after what they belong to, so
    /// that evaluation ends.
    ops: Vec<Op>,
    conditions: usize,
    text: String,
    networks: Vec<IpNet>,
    names: Vec<EntityName>,
    patterns: Vec<Box<[PatternPiece]>>,
}

/// The place of an operator in its [`Code`].
#[derive(Clone, Copy, Debug)]
pub(super) struct At(u32);

/// Neighbours: operators, bytes of text, or names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

/// As [`Expr`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Bool(bool),
    Long(i64),
    Text(Span),
    Decimal(Decimal),
    Network(At),
    Entity(At),
    Set(Span),
    Principal,
    Read(Place),
    Has(Place),
    Not(At),
    Negate(At),
    And(At, At),
    Or(At, At),
    If(At, At, At),
    Equal(At, At),
    Less(At, At),
    LessEqual(At, At),
    Add(At, At),
    Subtract(At, At),
    Multiply(At, At),
    Contains(At, At),
    ContainsAll(At, At),
    ContainsAny(At, At),
    IsEmpty(At),
    Like(At, At),
    IsKind(At, Span),
    In(At, Span),
    DecimalLess(At, At),
    DecimalLessEqual(At, At),
    InRange(At, At),
    IsIpv4(At),
    IsIpv6(At),
    IsLoopback(At),
    IsMulticast(At),
}

/// As [`Slot`], with the caller's built-in attributes told from declared ones.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Id,
    Issuer,
    Tenant,
    Declared(Span),
    Parameter(u32),
    IntegerParameter(u32),
    Query(u32),
    Header(u32),
    Body(u32),
    Owner,
    Now,
    Ip,
    Client,
    Scopes,
    Acr,
    Amr,
    /// By its place in [`AGES`].
    Age(u32),
    Dpop,
    Mtls,
    Actors,
}

impl Code {
    /// Lays conditions out.
    pub(crate) fn of(conditions: &[Expr]) -> Self {
        let mut code = Code { conditions: conditions.len(), ..Code::default() };
        code.put_all(conditions);
        code
    }

    /// The conditions.
    pub(super) fn conditions(&self) -> impl Iterator<Item = At> {
        (0..number(self.conditions)).map(At)
    }

    pub(super) fn op(&self, at: At) -> Option<&Op> {
        self.ops.get(at.0 as usize)
    }

    /// The members of a set that is written out, each with its place.
    pub(super) fn items(&self, set: &Op) -> impl Iterator<Item = (At, &Op)> {
        let span = match set {
            Op::Set(span) => *span,
            _ => Span { start: 0, end: 0 },
        };
        (span.start..span.end).map(At).zip(self.ops.get(span.range()).unwrap_or_default())
    }

    pub(super) fn text(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }

    pub(super) fn names(&self, span: Span) -> &[EntityName] {
        self.names.get(span.range()).unwrap_or_default()
    }

    pub(super) fn name(&self, at: At) -> Option<&EntityName> {
        self.names.get(at.0 as usize)
    }

    pub(super) fn network(&self, at: At) -> Option<&IpNet> {
        self.networks.get(at.0 as usize)
    }

    pub(super) fn pattern(&self, at: At) -> Option<&[PatternPiece]> {
        self.patterns.get(at.0 as usize).map(|pattern| &**pattern)
    }

    /// Puts expressions side by side, and then what they are made of.
    fn put_all(&mut self, exprs: &[Expr]) -> Span {
        let start = self.ops.len();
        self.ops.extend(exprs.iter().map(|_| Op::Bool(false)));
        for (position, expr) in exprs.iter().enumerate() {
            let op = self.lay(expr);
            if let Some(reserved) = self.ops.get_mut(start + position) {
                *reserved = op;
            }
        }
        Span { start: number(start), end: number(start + exprs.len()) }
    }

    fn put(&mut self, expr: &Expr) -> At {
        At(self.put_all(std::slice::from_ref(expr)).start)
    }

    fn put_text(&mut self, text: &str) -> Span {
        let start = number(self.text.len());
        self.text.push_str(text);
        Span { start, end: number(self.text.len()) }
    }

    fn put_names(&mut self, names: &[EntityName]) -> Span {
        let start = number(self.names.len());
        self.names.extend_from_slice(names);
        Span { start, end: number(self.names.len()) }
    }

    fn lay(&mut self, expr: &Expr) -> Op {
        let mut two = |make: fn(At, At) -> Op, left: &Expr, right: &Expr| {
            let left = self.put(left);
            make(left, self.put(right))
        };
        match expr {
            Expr::And(left, right) => two(Op::And, left, right),
            Expr::Or(left, right) => two(Op::Or, left, right),
            Expr::Equal(left, right) => two(Op::Equal, left, right),
            Expr::Less(left, right) => two(Op::Less, left, right),
            Expr::LessEqual(left, right) => two(Op::LessEqual, left, right),
            Expr::Add(left, right) => two(Op::Add, left, right),
            Expr::Subtract(left, right) => two(Op::Subtract, left, right),
            Expr::Multiply(left, right) => two(Op::Multiply, left, right),
            Expr::Contains(set, member) => two(Op::Contains, set, member),
            Expr::ContainsAll(whole, part) => two(Op::ContainsAll, whole, part),
            Expr::ContainsAny(one, other) => two(Op::ContainsAny, one, other),
            Expr::DecimalLess(left, right) => two(Op::DecimalLess, left, right),
            Expr::DecimalLessEqual(left, right) => two(Op::DecimalLessEqual, left, right),
            Expr::InRange(ip, network) => two(Op::InRange, ip, network),
            Expr::If(test, then, otherwise) => {
                let (test, then) = (self.put(test), self.put(then));
                Op::If(test, then, self.put(otherwise))
            }
            Expr::Not(inner) => Op::Not(self.put(inner)),
            Expr::Negate(inner) => Op::Negate(self.put(inner)),
            Expr::IsEmpty(set) => Op::IsEmpty(self.put(set)),
            Expr::IsIpv4(ip) => Op::IsIpv4(self.put(ip)),
            Expr::IsIpv6(ip) => Op::IsIpv6(self.put(ip)),
            Expr::IsLoopback(ip) => Op::IsLoopback(self.put(ip)),
            Expr::IsMulticast(ip) => Op::IsMulticast(self.put(ip)),
            Expr::IsKind(entity, kind) => {
                let kind = self.put_text(kind);
                Op::IsKind(self.put(entity), kind)
            }
            Expr::In(entity, groups) => {
                let groups = self.put_names(groups);
                Op::In(self.put(entity), groups)
            }
            Expr::Like(text, pattern) => {
                self.patterns.push(pattern.as_slice().into());
                let pattern = At(number(self.patterns.len() - 1));
                Op::Like(self.put(text), pattern)
            }
            Expr::Set(items) => Op::Set(self.put_all(items)),
            Expr::Bool(_)
            | Expr::Long(_)
            | Expr::Text(_)
            | Expr::Decimal(_)
            | Expr::Network(_)
            | Expr::Entity(_)
            | Expr::Principal
            | Expr::Read(_)
            | Expr::Has(_) => self.leaf(expr),
        }
    }

    fn leaf(&mut self, expr: &Expr) -> Op {
        match expr {
            Expr::Long(value) => Op::Long(*value),
            Expr::Text(text) => Op::Text(self.put_text(text)),
            Expr::Decimal(value) => Op::Decimal(*value),
            Expr::Network(network) => {
                self.networks.push(*network);
                Op::Network(At(number(self.networks.len() - 1)))
            }
            Expr::Entity(name) => Op::Entity(At(self.put_names(std::slice::from_ref(name)).start)),
            Expr::Principal => Op::Principal,
            Expr::Read(slot) => Op::Read(self.place(slot)),
            Expr::Has(slot) => Op::Has(self.place(slot)),
            // The others have operands, and are laid out above.
            other => Op::Bool(matches!(other, Expr::Bool(true))),
        }
    }

    fn place(&mut self, slot: &Slot) -> Place {
        match slot {
            Slot::Principal(name) => match &**name {
                // Built-in names win over declared ones, as in `entities::attribute_of`.
                "id" => Place::Id,
                "issuer" => Place::Issuer,
                "tenant" => Place::Tenant,
                declared => Place::Declared(self.put_text(declared)),
            },
            Slot::Parameter(position) => Place::Parameter(number(*position)),
            Slot::IntegerParameter(position) => Place::IntegerParameter(number(*position)),
            Slot::Query(position) => Place::Query(number(*position)),
            Slot::Header(position) => Place::Header(number(*position)),
            Slot::Body(position) => Place::Body(number(*position)),
            Slot::Owner => Place::Owner,
            Slot::Now => Place::Now,
            Slot::Ip => Place::Ip,
            Slot::Client => Place::Client,
            Slot::Scopes => Place::Scopes,
            Slot::Acr => Place::Acr,
            Slot::Amr => Place::Amr,
            Slot::Age(name) => {
                let position = AGES.iter().position(|age| age == name);
                Place::Age(number(position.unwrap_or(AGES.len())))
            }
            Slot::Dpop => Place::Dpop,
            Slot::Mtls => Place::Mtls,
            Slot::Actors => Place::Actors,
        }
    }
}

impl Span {
    pub(super) fn is_empty(self) -> bool {
        self.start == self.end
    }

    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// What does not fit is nowhere, and reading there errs. Files end long before.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_fits_into_sixteen_bytes() {
        assert_eq!(size_of::<Op>(), 16);
    }
}
