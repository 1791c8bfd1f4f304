//! Names and literals of a lowered policy: which [`Slot`] an attribute is, and the values of
//! `decimal("…")` and `ip("…")` read by Cedar's rules, not by ours.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Outside, Slot, Slots};
use crate::condition::Root;
use crate::field::{Decimal, Field};
use crate::parameter::Kind;
use crate::schema::AGES;

/// Cedar's longest `ip("…")`: a whole IPv6 address with its prefix.
const MAX_NETWORK_BYTES: usize = 43;

/// An attribute that a policy reads or asks for.
pub(super) enum Named {
    /// A value of the question.
    Slot(Slot),
    /// A record that is always there; only ever asked for by `has`.
    Record,
}

/// The place of `root.path`.
pub(super) fn resolve(root: Root, path: &[&str], slots: &Slots<'_>) -> Result<Named, Outside> {
    let unknown = || Outside(format!("`{}.{}`", root.name(), path.join(".")));
    let slot = match (root, path) {
        (Root::Principal, [name]) => Some(Slot::Principal((*name).into())),
        (Root::Context, ["age"]) => return Ok(Named::Record),
        (Root::Context, ["age", name]) => {
            AGES.iter().find(|age| *age == name).map(|age| Slot::Age(age))
        }
        (Root::Context, [name]) => context(name),
        (Root::Resource, ["owner"]) => Some(Slot::Owner),
        (Root::Resource, [name]) => parameter(name, slots),
        (Root::Resource, ["query", name]) => place(slots.query, name).map(Slot::Query),
        (Root::Resource, ["header", name]) => header(slots.header, name).map(Slot::Header),
        (Root::Resource, ["body", path @ ..]) => place(slots.body, &path.join(".")).map(Slot::Body),
        (Root::Principal | Root::Context | Root::Resource | Root::Action, _) => None,
    };
    slot.map(Named::Slot).ok_or_else(unknown)
}

fn context(name: &str) -> Option<Slot> {
    Some(match name {
        "now" => Slot::Now,
        "ip" => Slot::Ip,
        "client" => Slot::Client,
        "scopes" => Slot::Scopes,
        "acr" => Slot::Acr,
        "amr" => Slot::Amr,
        "dpop" => Slot::Dpop,
        "mtls" => Slot::Mtls,
        "actors" => Slot::Actors,
        _ => return None,
    })
}

fn parameter(name: &str, slots: &Slots<'_>) -> Option<Slot> {
    let position = slots.parameters.iter().position(|parameter| *parameter.name == *name)?;
    Some(match slots.parameters.get(position)?.kind {
        Kind::Integer => Slot::IntegerParameter(position),
        Kind::Text | Kind::Uuid => Slot::Parameter(position),
    })
}

fn place(fields: &[Field], name: &str) -> Option<usize> {
    fields.iter().position(|field| *field.name == *name)
}

/// In Cedar a header's `-` is `_`.
fn header(fields: &[Field], name: &str) -> Option<usize> {
    fields.iter().position(|field| field.name.replace('-', "_") == name)
}

/// `decimal("…")`: a point with digits on both sides, four at most behind it; leading zeros are
/// allowed, unlike in [`Decimal::parse`], which reads JSON.
pub(super) fn decimal(text: &str) -> Result<Decimal, Outside> {
    let outside = || Outside(format!("`decimal({text:?})`"));
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, places) = digits.split_once('.').ok_or_else(outside)?;
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !are_digits(whole) || !are_digits(places) || places.len() > 4 {
        return Err(outside());
    }
    let whole: i128 = whole.parse::<i64>().map_err(|_| outside())?.into();
    let places: i128 = format!("{places:0<4}").parse::<i64>().map_err(|_| outside())?.into();
    let count = whole * 10_000 + places;
    let count = i64::try_from(if negative { -count } else { count }).map_err(|_| outside())?;
    Ok(Decimal::from_ten_thousandths(count))
}

/// `ip("…")`: an address, or a network whose host bits stay as they are written.
pub(super) fn network(text: &str) -> Result<IpNet, Outside> {
    let outside = || Outside(format!("`ip({text:?})`"));
    // Cedar takes no IPv4 address within an IPv6 one.
    if text.len() > MAX_NETWORK_BYTES || (text.contains(':') && text.contains('.')) {
        return Err(outside());
    }
    let Some((address, prefix)) = text.split_once('/') else {
        return text.parse::<IpAddr>().map(IpNet::from).map_err(|_| outside());
    };
    let is_canonical =
        prefix.bytes().all(|b| b.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
    let address: IpAddr = address.parse().map_err(|_| outside())?;
    match prefix.parse::<u8>() {
        Ok(prefix) if is_canonical => IpNet::new(address, prefix).map_err(|_| outside()),
        _ => Err(outside()),
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy::{Context, Entities, EntityUid, EvalResult, Request, eval_expression};

    use super::*;

    fn cedar(expression: &str) -> Option<EvalResult> {
        let uid: EntityUid = r#"User::"x""#.parse().unwrap();
        let request = Request::new(uid.clone(), uid.clone(), uid, Context::empty(), None).unwrap();
        let expression = expression.parse().unwrap();
        eval_expression(&request, &Entities::empty(), &expression).ok()
    }

    #[test]
    fn decimals_are_read_as_cedar_reads_them() {
        for text in "1.0 01.5 -0.5 1 1. .5 1.00001 +1.0 -1.0001 1.5e3 922337203685477.5807 \
                     922337203685477.5808 -922337203685477.5808 -922337203685477.5809 \
                     9223372036854775807.0 99999999999999999999.0 ١.٥ --1.0 - . \
                     000000000000000000000001.0"
            .split_whitespace()
            .chain(["", "1.5 ", " 1.5"])
        {
            let read = cedar(&format!("decimal({text:?})"));
            let ours = decimal(text).ok();
            assert_eq!(ours.is_some(), read.is_some(), "{text}");
            if let Some(ours) = ours {
                let same = cedar(&format!("decimal({text:?}) == decimal(\"{ours}\")"));
                assert_eq!(same, Some(EvalResult::Bool(true)), "{text}");
            }
        }
    }

    #[test]
    fn networks_are_read_as_cedar_reads_them() {
        for text in "10.0.0.1 10.0.0.1/8 10.0.0.1/08 10.0.0.1/33 10.0.0.1/ ::1 ::1/128 ::1/129 \
                     ::ffff:10.0.0.1 ::ffff:a00:1 fe80::1%eth0 10.0.0 0.0.0.0/0 010.0.0.1 ::/0 /8 \
                     ABCD:EF01:2345:6789:ABCD:EF01:2345:6789/128 10.0.0.1/+8 ::1/0128"
            .split_whitespace()
            .chain(["", " ::1"])
        {
            let read = cedar(&format!("ip({text:?})"));
            assert_eq!(network(text).is_ok(), read.is_some(), "{text}");
        }
    }
}
