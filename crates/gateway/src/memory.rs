//! What a worker remembers between requests so that it need not be worked out again: per operation
//! (a [`Kit`], dead with its generation) and per connection (a [`Visitor`]).
//!
//! Nothing here is believed of a request: both are functions of the snapshot and of facts that
//! hygiene has established.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use portcullis_core::limit::{Limit, policy_field};
use portcullis_policy::compile::{AuditLevel, Operation};
use portcullis_policy::credential::Bound;
use portcullis_policy::table::OperationId;

use crate::authenticate::Scheme;
use crate::authorize::StandingPermits;
use crate::hygiene::Cleansed;
use crate::passport::Passports;
use crate::snapshot::{ApiRoute, Snapshot};
use crate::tokens::Known;
use crate::upstream::{Lane, Pool};

/// A limit with the name that it is counted under.
pub(crate) struct NamedLimit {
    pub(crate) name: Arc<str>,
    pub(crate) limit: Arc<Limit>,
    /// The `RateLimit-Policy` of each rate.
    pub(crate) policies: Vec<HeaderValue>,
}

impl NamedLimit {
    /// Names a limit, and writes its policies once.
    pub(crate) fn new(name: &Arc<str>, limit: &Arc<Limit>) -> Self {
        let policy = |rate| HeaderValue::from_maybe_shared(Bytes::from(policy_field(name, rate)));
        // A policy that is no field value is left out, with all of them: the limit still holds.
        let policies: Result<Vec<_>, _> = limit.rates.iter().map(policy).collect();
        NamedLimit {
            name: name.clone(),
            limit: limit.clone(),
            policies: policies.unwrap_or_default(),
        }
    }
}

/// Everything that a request of one operation needs, found once per generation.
pub(crate) struct Kit {
    pub(crate) id: OperationId,
    /// `file:line`.
    pub(crate) rule: Arc<str>,
    pub(crate) api: Arc<ApiRoute>,
    pub(crate) reads: Credentials,
    /// The scheme that its challenges name.
    pub(crate) scheme: Scheme,
    pub(crate) limits: Vec<NamedLimit>,
    pub(crate) audit: AuditLevel,
    pub(crate) timeout: Duration,
    pub(crate) body_max: u64,
    /// Media types that a body may have; empty: any.
    pub(crate) body_types: Vec<Box<str>>,
    pub(crate) lane: Rc<Lane>,
    /// The upstream's own `Host`.
    pub(crate) host: HeaderValue,
    /// The upstream's origin: the audience of its passports.
    pub(crate) audience: Arc<str>,
    /// Whether a permit stands for all requests of one token. Not where every decision is to be
    /// recorded in full: each must then be judged, to be told clause by clause.
    pub(crate) pure: bool,
    /// Standing permits of nobody, on a line open to `anyone`.
    pub(crate) permits: StandingPermits,
    /// Passports that name nobody.
    pub(crate) anonymous: Passports,
}

/// Whether an operation reads credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// It asks for an access token.
    Token,
    /// For an access token or an API key (`accept = "key"`).
    TokenOrKey,
    /// It is open to `anyone`: what is sent is not even read.
    Unread,
}

/// The kits of the generation in force.
#[derive(Default)]
pub(crate) struct Kits(RefCell<Shelf>);

#[derive(Default)]
struct Shelf {
    generation: u64,
    by_operation: Vec<Option<Rc<Kit>>>,
}

impl Kits {
    /// The kit of an operation. `None` when the snapshot contradicts itself (an operation without
    /// its API or its limit), which the caller turns into a refusal: an error never allows.
    pub(crate) fn of(&self, snapshot: &Snapshot, pool: &Pool, id: OperationId) -> Option<Rc<Kit>> {
        let mut shelf = self.0.borrow_mut();
        if shelf.generation != snapshot.generation {
            shelf.by_operation.clear();
            shelf.generation = snapshot.generation;
        }
        let place = id.0 as usize;
        if let Some(Some(kit)) = shelf.by_operation.get(place) {
            return Some(kit.clone());
        }
        let kit = Rc::new(assemble(snapshot, pool, snapshot.rules.operation(id)?)?);
        if shelf.by_operation.len() <= place {
            shelf.by_operation.resize(place + 1, None);
        }
        if let Some(slot) = shelf.by_operation.get_mut(place) {
            *slot = Some(kit.clone());
        }
        Some(kit)
    }
}

fn assemble(snapshot: &Snapshot, pool: &Pool, operation: &Operation) -> Option<Kit> {
    let api = snapshot.apis.get(&operation.api)?.clone();
    let reads = match (operation.authenticates, operation.accepts_key) {
        (false, _) => Credentials::Unread,
        (true, false) => Credentials::Token,
        (true, true) => Credentials::TokenOrKey,
    };
    let authority = api.upstream.address.authority();
    Some(Kit {
        id: operation.id,
        rule: operation.rule.clone(),
        reads,
        // RFC 9449 §7.1: where a bearer token will not do, the challenge does not ask for one.
        scheme: match operation.bound.is_some_and(Bound::takes_dpop) {
            true => Scheme::Dpop,
            false => Scheme::Bearer,
        },
        limits: limits(snapshot, operation)?,
        audit: operation.audit,
        timeout: operation.timeout,
        body_max: operation.body_max,
        body_types: operation.body_types.clone(),
        lane: pool.lane(&api.upstream),
        host: HeaderValue::from_str(&authority).ok()?,
        audience: api.upstream.address.origin().as_str().into(),
        pure: snapshot.rules.pure_line(operation.id)
            && operation.audit != AuditLevel::Full
            && reads_token_alone(operation),
        permits: StandingPermits::default(),
        anonymous: Passports::default(),
        api,
    })
}

/// Whether nothing of the request itself is read for the decision: policy says so too, but a permit
/// that stood for other requests would be the worst of mistakes.
fn reads_token_alone(operation: &Operation) -> bool {
    operation.query.is_empty()
        && operation.header.is_empty()
        && operation.body.is_none()
        && operation.owner.is_none()
}

/// The limits of an operation by name; without any, the default of its kind of caller.
fn limits(snapshot: &Snapshot, operation: &Operation) -> Option<Vec<NamedLimit>> {
    let named = |name: &Arc<str>| Some(NamedLimit::new(name, snapshot.limits.get(name)?));
    if !operation.limits.is_empty() {
        let counted = operation.limits.iter().filter(|name| &***name != "none");
        return counted.map(named).collect();
    }
    let default: Arc<str> = if operation.authenticates { "default" } else { "anonymous" }.into();
    Some(vec![named(&default)?])
}

/// Connections remembered by one worker; a newer one takes the place of an older.
const MAX_VISITORS: usize = 1024;

/// What was worked out for a connection.
pub(crate) struct Visitor {
    serial: u64,
    ip: IpAddr,
    authority: Box<str>,
    /// `X-Forwarded-For`.
    pub(crate) address: HeaderValue,
    /// `X-Forwarded-Host`.
    pub(crate) host: HeaderValue,
    /// `Forwarded` (RFC 7239 §4).
    pub(crate) forwarded: HeaderValue,
    /// The token that it showed last.
    pub(crate) token: RefCell<Option<Rc<Known>>>,
}

/// The connections of one worker, each at the place that its serial falls on.
pub(crate) struct Visitors(RefCell<Vec<Option<Rc<Visitor>>>>);

impl Visitors {
    /// Nobody yet.
    pub(crate) fn new() -> Self {
        Visitors(RefCell::new(vec![None; MAX_VISITORS]))
    }

    /// The visitor of a request. On one connection several authorities (HTTP/2), and behind a
    /// trusted proxy several addresses, may ask: whoever differs from the last is worked out anew.
    pub(crate) fn of(&self, cleansed: &Cleansed) -> Rc<Visitor> {
        let mut visitors = self.0.borrow_mut();
        let serial = cleansed.connection.serial;
        let slot = visitors.get_mut(serial as usize % MAX_VISITORS);
        if let Some(Some(visitor)) = &slot
            && visitor.serial == serial
            && visitor.ip == cleansed.ip
            && visitor.authority == cleansed.authority
        {
            return visitor.clone();
        }
        let visitor = Rc::new(introduce(serial, cleansed.ip, &cleansed.authority));
        if let Some(slot) = slot {
            *slot = Some(visitor.clone());
        }
        visitor
    }
}

fn introduce(serial: u64, ip: IpAddr, authority: &str) -> Visitor {
    // RFC 7239 §6: an IPv6 address is bracketed and quoted; §4: so is a host with a port.
    let node = match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    };
    let host = if authority.contains(':') { format!("\"{authority}\"") } else { authority.into() };
    let value = |text: &str| {
        HeaderValue::from_str(text).expect("hygiene lets only visible ASCII into an authority")
    };
    Visitor {
        serial,
        ip,
        authority: authority.into(),
        address: value(&ip.to_string()),
        host: value(authority),
        forwarded: value(&format!("for={node};proto=https;host={host}")),
        token: RefCell::new(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_is_quoted_where_it_must_be() {
        let table = [
            ("192.0.2.7", "api.example", "for=192.0.2.7;proto=https;host=api.example"),
            ("192.0.2.7", "localhost:8443", "for=192.0.2.7;proto=https;host=\"localhost:8443\""),
            ("2001:db8::1", "api.example", "for=\"[2001:db8::1]\";proto=https;host=api.example"),
        ];
        for (ip, authority, expected) in table {
            let visitor = introduce(1, ip.parse().unwrap(), authority);
            assert_eq!(visitor.forwarded, expected);
            assert_eq!(visitor.address, ip);
        }
    }
}
