//! An expression against a question, in Cedar's order: `&&`, `||` and `if` stop as soon as they can,
//! everything else evaluates all its operands; any error is the expression's.
//!
//! There is a function per type: what they return fits into two registers. [`Asked::value`] is for
//! where the type is not known; it takes several times as long.

use std::net::IpAddr;

use ipnet::IpNet;
use portcullis_core::jose::claims::Attribute;

use super::code::{At, Code, Op, Place, Span};
use super::value::{Held, Set, Uid};
use super::{Erred, operator};
use crate::entities::{Caller, Question};
use crate::field::Value;
use crate::schema::AGES;

/// A policy put to a question, by whoever counts as its caller.
#[derive(Clone, Copy)]
pub(super) struct Asked<'q> {
    pub(super) code: &'q Code,
    pub(super) caller: &'q Caller,
    pub(super) question: &'q Question<'q>,
}

impl<'q> Asked<'q> {
    /// Whether a condition holds; one that is no boolean errs.
    pub(super) fn holds(&self, at: At) -> Result<bool, Erred> {
        match *self.op(at)? {
            Op::Bool(value) => Ok(value),
            Op::And(left, right) => operator::and(self.holds(left), || self.holds(right)),
            Op::Or(left, right) => operator::or(self.holds(left), || self.holds(right)),
            Op::Not(inner) => self.holds(inner).map(operator::not),
            Op::If(test, then, otherwise) => self.holds(self.chosen(test, then, otherwise)?),
            Op::Equal(left, right) => self.same(left, right).map(operator::equal),
            Op::Less(left, right) => Ok(operator::less(self.long(left)?, self.long(right)?)),
            Op::LessEqual(left, right) => {
                Ok(operator::less_equal(self.long(left)?, self.long(right)?))
            }
            Op::Has(place) => self.has(place).map(operator::has),
            Op::Contains(set, member) => {
                let set = self.set(set)?;
                self.includes(set, member).map(operator::contains)
            }
            Op::ContainsAll(whole, part) => {
                let (whole, part) = operator::whole_and_part(whole, part);
                let (whole, part) = (self.set(whole)?, self.set(part)?);
                Ok(self.contains_all(whole, part))
            }
            Op::ContainsAny(one, other) => {
                let (one, other) = (self.set(one)?, self.set(other)?);
                Ok(operator::contains_any(self.contains_any(one, other)))
            }
            Op::IsEmpty(set) => Ok(operator::is_empty(self.set(set)?.is_empty())),
            Op::Like(text, pattern) => {
                Ok(operator::like(self.text(text)?, self.code.pattern(pattern).ok_or(Erred)?))
            }
            Op::IsKind(entity, kind) => self.is_kind(entity, kind),
            Op::In(entity, groups) => {
                let entity = match self.op(entity)? {
                    Op::Principal => Uid::of(self.caller),
                    _ => self.value(entity)?.entity(self.caller)?,
                };
                Ok(operator::within(self.caller, entity, self.code.names(groups)))
            }
            Op::DecimalLess(left, right) => Ok(operator::decimal_less(
                self.value(left)?.decimal()?,
                self.value(right)?.decimal()?,
            )),
            Op::DecimalLessEqual(left, right) => Ok(operator::decimal_less_equal(
                self.value(left)?.decimal()?,
                self.value(right)?.decimal()?,
            )),
            Op::InRange(ip, network) => self.in_range(ip, network),
            Op::IsIpv4(ip) => Ok(operator::is_ipv4(self.network(ip)?)),
            Op::IsIpv6(ip) => Ok(operator::is_ipv6(self.network(ip)?)),
            Op::IsLoopback(ip) => Ok(operator::is_loopback(self.network(ip)?)),
            Op::IsMulticast(ip) => Ok(operator::is_multicast(self.network(ip)?)),
            Op::Read(place) => self.read(place)?.ok_or(Erred)?.bool(),
            Op::Long(_)
            | Op::Text(_)
            | Op::Decimal(_)
            | Op::Network(_)
            | Op::Entity(_)
            | Op::Set(_)
            | Op::Principal
            | Op::Negate(_)
            | Op::Add(..)
            | Op::Subtract(..)
            | Op::Multiply(..) => Err(Erred),
        }
    }

    /// What an expression comes to, of whatever type.
    pub(super) fn value(&self, at: At) -> Result<Held<'q>, Erred> {
        match *self.op(at)? {
            Op::Text(text) => Ok(Held::Text(self.code.text(text))),
            Op::Decimal(value) => Ok(Held::Decimal(value)),
            Op::Network(network) => {
                self.code.network(network).copied().map(Held::Network).ok_or(Erred)
            }
            Op::Entity(name) => self.code.name(name).map(Held::Entity).ok_or(Erred),
            Op::Principal => Ok(Held::Principal),
            Op::Read(place) => self.read(place)?.ok_or(Erred),
            Op::Set(_) => self.set(at).map(Held::Set),
            Op::If(test, then, otherwise) => self.value(self.chosen(test, then, otherwise)?),
            Op::Long(_) | Op::Negate(_) | Op::Add(..) | Op::Subtract(..) | Op::Multiply(..) => {
                self.long(at).map(Held::Long)
            }
            Op::Bool(_)
            | Op::Has(_)
            | Op::Not(_)
            | Op::And(..)
            | Op::Or(..)
            | Op::Equal(..)
            | Op::Less(..)
            | Op::LessEqual(..)
            | Op::Contains(..)
            | Op::ContainsAll(..)
            | Op::ContainsAny(..)
            | Op::IsEmpty(_)
            | Op::Like(..)
            | Op::IsKind(..)
            | Op::In(..)
            | Op::DecimalLess(..)
            | Op::DecimalLessEqual(..)
            | Op::InRange(..)
            | Op::IsIpv4(_)
            | Op::IsIpv6(_)
            | Op::IsLoopback(_)
            | Op::IsMulticast(_) => self.holds(at).map(Held::Bool),
        }
    }

    fn op(&self, at: At) -> Result<&'q Op, Erred> {
        self.code.op(at).ok_or(Erred)
    }

    /// The branch that an `if` takes.
    fn chosen(&self, test: At, then: At, otherwise: At) -> Result<At, Erred> {
        Ok(if operator::chooses(self.holds(test)?) { then } else { otherwise })
    }

    fn long(&self, at: At) -> Result<i64, Erred> {
        match *self.op(at)? {
            Op::Long(value) => Ok(value),
            Op::Negate(inner) => operator::negate(self.long(inner)?),
            Op::Add(left, right) => operator::add(self.long(left)?, self.long(right)?),
            Op::Subtract(left, right) => operator::subtract(self.long(left)?, self.long(right)?),
            Op::Multiply(left, right) => operator::multiply(self.long(left)?, self.long(right)?),
            Op::Read(Place::Now) => Ok(self.question.circumstances.now),
            Op::Read(Place::Age(name)) => self.age(name).ok_or(Erred),
            _ => self.value(at)?.long(),
        }
    }

    fn text(&self, at: At) -> Result<&'q str, Erred> {
        match self.plain(at) {
            Some(text) => Ok(text),
            None => self.value(at)?.text(),
        }
    }

    fn set(&self, at: At) -> Result<Set<'q>, Erred> {
        let op = self.op(at)?;
        match *op {
            Op::Set(_) => {
                for (at, item) in self.code.items(op) {
                    if !matches!(item, Op::Text(_)) {
                        self.value(at)?;
                    }
                }
                Ok(Set::Written(op))
            }
            Op::Read(Place::Scopes) => Ok(Set::Scopes(&self.question.circumstances.scopes)),
            Op::Read(Place::Actors) => Ok(Set::Texts(&self.question.circumstances.actors)),
            _ => self.value(at)?.set(),
        }
    }

    fn network(&self, at: At) -> Result<IpNet, Erred> {
        match *self.op(at)? {
            Op::Network(network) => self.code.network(network).copied().ok_or(Erred),
            Op::Read(Place::Ip) => Ok(IpNet::from(self.ip())),
            _ => self.value(at)?.network(),
        }
    }

    fn in_range(&self, ip: At, network: At) -> Result<bool, Erred> {
        match (self.op(ip)?, self.op(network)?) {
            (Op::Read(Place::Ip), Op::Network(network)) => {
                let network = self.code.network(*network).ok_or(Erred)?;
                Ok(operator::address_in_range(self.ip(), network))
            }
            _ => Ok(operator::in_range(self.network(ip)?, self.network(network)?)),
        }
    }

    fn is_kind(&self, entity: At, kind: Span) -> Result<bool, Erred> {
        let own = match *self.op(entity)? {
            Op::Principal => self.caller.kind_name(),
            _ => self.value(entity)?.entity(self.caller)?.kind,
        };
        Ok(operator::is_kind(own, self.code.text(kind)))
    }

    /// A text that is there in every question.
    fn plain(&self, at: At) -> Option<&'q str> {
        let resource = self.question.resource;
        match *self.code.op(at)? {
            Op::Text(text) => Some(self.code.text(text)),
            Op::Read(Place::Parameter(position)) => {
                resource.parameters.get(position as usize).map(|(_, value)| value.as_str())
            }
            Op::Read(Place::Owner) => resource.owner.as_deref(),
            _ => None,
        }
    }

    fn same(&self, left: At, right: At) -> Result<bool, Erred> {
        broken!(EqualErrsOnTypes => {
            let (left, right) = (self.value(left)?, self.value(right)?);
            if left.is_like(right) { Ok(self.equal(left, right)) } else { Err(Erred) }
        });
        if let Some(text) = self.plain(left) {
            return self.is_text(right, text);
        }
        if let Some(text) = self.plain(right) {
            return self.is_text(left, text);
        }
        let (left, right) = (self.value(left)?, self.value(right)?);
        Ok(self.equal(left, right))
    }

    /// Whether an expression comes to this text.
    fn is_text(&self, at: At, wanted: &'q str) -> Result<bool, Erred> {
        match *self.op(at)? {
            Op::Read(Place::Declared(name)) => match self.declared(name).ok_or(Erred)? {
                Attribute::String(own) => Ok(operator::texts_equal(own, wanted)),
                Attribute::Bool(_) | Attribute::Integer(_) => Ok(false),
            },
            Op::Read(place @ (Place::Id | Place::Issuer | Place::Tenant)) => {
                Ok(operator::texts_equal(self.built_in(place).ok_or(Erred)?, wanted))
            }
            _ => match self.plain(at) {
                Some(own) => Ok(operator::texts_equal(own, wanted)),
                None => Ok(self.equal(self.value(at)?, Held::Text(wanted))),
            },
        }
    }

    fn includes(&self, set: Set<'q>, member: At) -> Result<bool, Erred> {
        match self.plain(member) {
            Some(text) => Ok(self.contains_text(set, text)),
            None => Ok(self.contains(set, self.value(member)?)),
        }
    }

    fn has(&self, place: Place) -> Result<bool, Erred> {
        match place {
            Place::Declared(name) => Ok(self.declared(name).is_some()),
            Place::Id | Place::Issuer | Place::Tenant => Ok(self.built_in(place).is_some()),
            Place::Age(name) => Ok(self.age(name).is_some()),
            other => self.read(other).map(|value| value.is_some()),
        }
    }
}

impl<'q> Asked<'q> {
    /// The value in a place; `None` where it is absent. A question that lacks the place itself, or
    /// whose integer is none, errs: it is not a question about this operation.
    fn read(&self, place: Place) -> Result<Option<Held<'q>>, Erred> {
        let circumstances = self.question.circumstances;
        let resource = self.question.resource;
        let text = |text: &'q Option<String>| text.as_deref().map(Held::Text);
        let parameter = |position: u32| {
            resource.parameters.get(position as usize).map(|(_, value)| value).ok_or(Erred)
        };
        let optional = |fields: &'q Vec<Option<Value>>, position: u32| {
            let field = fields.get(position as usize).ok_or(Erred)?;
            Ok(field.as_ref().map(Held::field))
        };
        match place {
            Place::Id | Place::Issuer | Place::Tenant => {
                Ok(operator::attribute(self.built_in(place).map(Held::Text)))
            }
            Place::Declared(name) => {
                Ok(operator::attribute(self.declared(name).map(Held::attribute)))
            }
            Place::Parameter(position) => Ok(Some(Held::Text(parameter(position)?))),
            Place::IntegerParameter(position) => {
                Ok(Some(Held::Long(parameter(position)?.parse().map_err(|_| Erred)?)))
            }
            Place::Query(position) => optional(&resource.query, position),
            Place::Header(position) => optional(&resource.header, position),
            Place::Body(position) => optional(resource.body.as_ref().ok_or(Erred)?, position),
            Place::Owner => Ok(Some(Held::Text(resource.owner.as_deref().ok_or(Erred)?))),
            Place::Now => Ok(Some(Held::Long(circumstances.now))),
            Place::Ip => Ok(Some(Held::Network(IpNet::from(self.ip())))),
            Place::Client => Ok(text(&circumstances.client)),
            Place::Scopes => Ok(Some(Held::Set(Set::Scopes(&circumstances.scopes)))),
            Place::Acr => Ok(text(&circumstances.acr)),
            Place::Amr => Ok(Some(Held::Set(Set::Texts(&circumstances.amr)))),
            Place::Age(name) => Ok(self.age(name).map(Held::Long)),
            Place::Dpop => Ok(Some(Held::Bool(circumstances.dpop))),
            Place::Mtls => Ok(Some(Held::Bool(circumstances.mtls))),
            Place::Actors => Ok(Some(Held::Set(Set::Texts(&circumstances.actors)))),
        }
    }

    fn built_in(&self, place: Place) -> Option<&'q str> {
        match (self.caller, place) {
            (Caller::User(user), Place::Id) => Some(&user.id),
            (Caller::User(user), Place::Issuer) => Some(&user.issuer),
            (Caller::User(user), Place::Tenant) => user.tenant.as_deref(),
            (Caller::Service { id, .. }, Place::Id) => Some(id),
            (Caller::Service { tenant, .. }, Place::Tenant) => tenant.as_deref(),
            (Caller::Anonymous | Caller::User(_) | Caller::Service { .. }, _) => None,
        }
    }

    /// A declared attribute; people's alone.
    fn declared(&self, name: Span) -> Option<&'q Attribute> {
        match self.caller {
            Caller::User(user) => user.attributes.get(self.code.text(name)),
            Caller::Anonymous | Caller::Service { .. } => None,
        }
    }

    fn age(&self, name: u32) -> Option<i64> {
        let name = AGES.get(name as usize)?;
        self.question.circumstances.ages.get(name).copied()
    }

    /// `::ffff:10.0.0.1` is 10.0.0.1, for a rule as for the network.
    fn ip(&self) -> IpAddr {
        self.question.circumstances.ip.to_canonical()
    }
}
