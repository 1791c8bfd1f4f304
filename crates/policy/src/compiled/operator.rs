//! Cedar's operators on plain values, one function each; cited against Cedar's own evaluator by the
//! agreement tests, which break each of them once and must notice.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Erred;
use super::code::At;
use super::value::{Held, Uid};
use crate::entities::Caller;
use crate::expr::{EntityName, PatternPiece};
use crate::field::Decimal;

/// `&&`: the right side only after a true left.
pub(super) fn and(
    left: Result<bool, Erred>,
    right: impl FnOnce() -> Result<bool, Erred>,
) -> Result<bool, Erred> {
    broken!(AndIsOr => or(left, right));
    broken!(AndEvaluatesBoth => { let right = right()?; Ok(left? && right) });
    broken!(AndForgivesLeft => Ok(left.unwrap_or(false) && right()?));
    if left? { right() } else { Ok(false) }
}

/// `||`: the right side only after a false left.
pub(super) fn or(
    left: Result<bool, Erred>,
    right: impl FnOnce() -> Result<bool, Erred>,
) -> Result<bool, Erred> {
    broken!(OrIsAnd => and(left, right));
    broken!(OrEvaluatesBoth => { let right = right()?; Ok(left? || right) });
    broken!(OrForgivesLeft => Ok(left.unwrap_or(false) || right()?));
    if left? { Ok(true) } else { right() }
}

pub(super) fn not(value: bool) -> bool {
    broken!(NotKeeps => value);
    !value
}

/// Whether `if` takes its `then`.
pub(super) fn chooses(test: bool) -> bool {
    broken!(IfIsTurned => !test);
    test
}

/// `==` never errs once its operands are there.
pub(super) fn equal(same: bool) -> bool {
    broken!(EqualIsUnequal => !same);
    same
}

pub(super) fn texts_equal(a: &str, b: &str) -> bool {
    broken!(TextsFoldCase => a.eq_ignore_ascii_case(b));
    a == b
}

/// Networks are equal as they are written: host bits count.
pub(super) fn networks_equal(a: IpNet, b: IpNet) -> bool {
    broken!(NetworksEqualByMask => a.trunc() == b.trunc());
    broken!(NetworksEqualByAddress => a.addr() == b.addr());
    a == b
}

pub(super) fn entities_equal(a: Uid<'_>, b: Uid<'_>) -> bool {
    broken!(EntitiesEqualById => a.id == b.id);
    broken!(EntitiesEqualByKind => a.kind == b.kind);
    a == b
}

/// The second half of set equality.
pub(super) fn other_way(test: impl FnOnce() -> bool) -> bool {
    broken!(SetsEqualOneWay => true);
    test()
}

pub(super) fn less(a: i64, b: i64) -> bool {
    broken!(LessIsLessEqual => a <= b);
    broken!(LessIsGreater => a > b);
    a < b
}

pub(super) fn less_equal(a: i64, b: i64) -> bool {
    broken!(LessEqualIsLess => a < b);
    broken!(LessEqualIsGreaterEqual => a >= b);
    a <= b
}

pub(super) fn negate(a: i64) -> Result<i64, Erred> {
    broken!(NegateWraps => Ok(a.wrapping_neg()));
    broken!(NegateKeeps => Ok(a));
    a.checked_neg().ok_or(Erred)
}

pub(super) fn add(a: i64, b: i64) -> Result<i64, Erred> {
    broken!(AddWraps => Ok(a.wrapping_add(b)));
    broken!(AddSaturates => Ok(a.saturating_add(b)));
    broken!(AddSubtracts => a.checked_sub(b).ok_or(Erred));
    a.checked_add(b).ok_or(Erred)
}

pub(super) fn subtract(a: i64, b: i64) -> Result<i64, Erred> {
    broken!(SubtractWraps => Ok(a.wrapping_sub(b)));
    broken!(SubtractIsTurned => b.checked_sub(a).ok_or(Erred));
    a.checked_sub(b).ok_or(Erred)
}

pub(super) fn multiply(a: i64, b: i64) -> Result<i64, Erred> {
    broken!(MultiplyWraps => Ok(a.wrapping_mul(b)));
    broken!(MultiplyAdds => a.checked_add(b).ok_or(Erred));
    a.checked_mul(b).ok_or(Erred)
}

/// An attribute of the caller that was read.
pub(super) fn attribute(value: Option<Held<'_>>) -> Option<Held<'_>> {
    broken!(AbsentIsEmpty => value.or(Some(Held::Text(""))));
    value
}

pub(super) fn has(is_there: bool) -> bool {
    broken!(HasIsAlways => true);
    broken!(HasIsTurned => !is_there);
    is_there
}

pub(super) fn contains(found: bool) -> bool {
    broken!(ContainsIsTurned => !found);
    found
}

/// The receiver of `containsAll` is the whole.
pub(super) fn whole_and_part(receiver: At, argument: At) -> (At, At) {
    broken!(ContainsAllIsTurned => (argument, receiver));
    (receiver, argument)
}

pub(super) fn contains_any(found: bool) -> bool {
    broken!(ContainsAnyIsTurned => !found);
    found
}

pub(super) fn is_empty(empty: bool) -> bool {
    broken!(IsEmptyIsTurned => !empty);
    empty
}

pub(super) fn is_kind(own: &str, kind: &str) -> bool {
    broken!(IsKindIsAlways => true);
    own == kind
}

/// `in`: itself, or what the caller belongs to. Nothing else has parents.
pub(super) fn within(caller: &Caller, entity: Uid<'_>, groups: &[EntityName]) -> bool {
    broken!(InIsFirstOnly => groups.first().is_some_and(|group| is_in(caller, entity, group)));
    groups.iter().any(|group| is_in(caller, entity, group))
}

fn is_in(caller: &Caller, entity: Uid<'_>, group: &EntityName) -> bool {
    let itself = *entity.kind == *group.kind && *entity.id == *group.id;
    broken!(InIsIrreflexive => !itself && belongs(caller, entity, group));
    broken!(InIsEquality => itself);
    itself || belongs(caller, entity, group)
}

fn belongs(caller: &Caller, entity: Uid<'_>, group: &EntityName) -> bool {
    let (kind, id) = (&*group.kind, &*group.id);
    broken!(InTakesOthers => parents(caller, kind, id));
    entity == Uid::of(caller) && parents(caller, kind, id)
}

fn parents(caller: &Caller, kind: &str, id: &str) -> bool {
    match (caller, kind) {
        (Caller::User(user), "Role") => user.roles.iter().any(|role| role == id),
        (Caller::User(user), "Group") => user.groups.iter().any(|group| {
            broken!(GroupsByPrefix => group.starts_with(id));
            group == id
        }),
        (Caller::User(user), "Tenant") => user.tenant.as_deref() == Some(id),
        (Caller::Service { tenant, .. }, "Tenant") => tenant.as_deref() == Some(id),
        (Caller::Anonymous | Caller::User(_) | Caller::Service { .. }, _) => false,
    }
}

pub(super) fn decimal_less(a: Decimal, b: Decimal) -> bool {
    broken!(DecimalLessIsLessEqual => a <= b);
    a < b
}

pub(super) fn decimal_less_equal(a: Decimal, b: Decimal) -> bool {
    broken!(DecimalLessEqualIsLess => a < b);
    a <= b
}

/// `like`: `*` is any run of characters; everything else itself.
pub(super) fn like(text: &str, pattern: &[PatternPiece]) -> bool {
    broken!(LikeStopsEarly => matches_from_start(text, pattern));
    broken!(LikeStarIsOne => !text.is_empty() && matches(text, pattern));
    matches(text, pattern)
}

/// Greedy, with one place to fall back to: the last wildcard, one character further each time.
fn matches(text: &str, pattern: &[PatternPiece]) -> bool {
    let (mut rest, mut pieces) = (text.chars(), pattern);
    let mut back: Option<(std::str::Chars<'_>, &[PatternPiece])> = None;
    loop {
        match pieces.split_first() {
            Some((PatternPiece::Wildcard, after)) => {
                back = Some((rest.clone(), after));
                pieces = after;
                continue;
            }
            Some((PatternPiece::Character(wanted), after)) => {
                let mut ahead = rest.clone();
                if ahead.next() == Some(*wanted) {
                    (rest, pieces) = (ahead, after);
                    continue;
                }
            }
            None if rest.as_str().is_empty() => return true,
            None => {}
        }
        broken!(LikeNeverFallsBack => false);
        let Some((from, after)) = &mut back else { return false };
        if from.next().is_none() {
            return false;
        }
        (rest, pieces) = (from.clone(), after);
    }
}

#[cfg(test)]
fn matches_from_start(text: &str, pattern: &[PatternPiece]) -> bool {
    let mut open = pattern.to_vec();
    open.push(PatternPiece::Wildcard);
    matches(text, &open)
}

/// Every address of the one is in the other; never across versions.
pub(super) fn in_range(this: IpNet, other: IpNet) -> bool {
    broken!(InRangeIsTurned => contains_network(this, other));
    broken!(InRangeByAddress => other.contains(&this.addr()));
    contains_network(other, this)
}

/// The same of a single address.
pub(super) fn address_in_range(address: IpAddr, network: &IpNet) -> bool {
    broken!(AddressInRangeIsEquality => network.addr() == address);
    broken!(AddressInRangeIsTurned => !network.contains(&address));
    network.contains(&address)
}

fn contains_network(whole: IpNet, part: IpNet) -> bool {
    match (whole, part) {
        (IpNet::V4(whole), IpNet::V4(part)) => {
            whole.network() <= part.network() && part.broadcast() <= whole.broadcast()
        }
        (IpNet::V6(whole), IpNet::V6(part)) => {
            whole.network() <= part.network() && part.broadcast() <= whole.broadcast()
        }
        (IpNet::V4(_), IpNet::V6(_)) | (IpNet::V6(_), IpNet::V4(_)) => false,
    }
}

pub(super) fn is_ipv4(ip: IpNet) -> bool {
    broken!(IsIpv4IsTurned => ip.addr().is_ipv6());
    ip.addr().is_ipv4()
}

pub(super) fn is_ipv6(ip: IpNet) -> bool {
    broken!(IsIpv6IsTurned => ip.addr().is_ipv4());
    ip.addr().is_ipv6()
}

/// Within 127.0.0.0/8, or `::1` itself.
pub(super) fn is_loopback(ip: IpNet) -> bool {
    broken!(LoopbackForgetsPrefix => ip.addr().is_loopback());
    ip.addr().is_loopback() && ip.prefix_len() >= if is_v4(ip) { 8 } else { 128 }
}

/// Within 224.0.0.0/4 or ff00::/8.
pub(super) fn is_multicast(ip: IpNet) -> bool {
    broken!(MulticastForgetsPrefix => ip.addr().is_multicast());
    ip.addr().is_multicast() && ip.prefix_len() >= if is_v4(ip) { 4 } else { 8 }
}

fn is_v4(ip: IpNet) -> bool {
    matches!(ip.addr(), IpAddr::V4(_))
}
