//! Tests only: random questions about the operation of [`super::generator`].

use std::net::IpAddr;

use portcullis_core::jose::claims::Attribute;
use portcullis_core::scope::Scopes;

use super::generator::{DECIMALS, Dice, LONGS, declared};
use crate::entities::{Caller, Circumstances, UserCaller};
use crate::field::{Decimal, Field, FieldKind, Value};
use crate::resource::Resource;

const IPS: [&str; 8] = [
    "10.0.0.1",
    "10.1.2.3",
    "127.0.0.1",
    "224.0.0.1",
    "::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:10.0.0.1",
];

impl Dice {
    /// Whoever asks.
    pub(super) fn caller(&mut self) -> Caller {
        match self.below(8) {
            0 => Caller::Anonymous,
            1 | 2 => Caller::Service {
                id: self.pick(&["u1", "s1"]).into(),
                tenant: self.maybe(|dice| dice.pick(&["a", "b"]).into()),
            },
            _ => Caller::User(self.user()),
        }
    }

    fn user(&mut self) -> UserCaller {
        let mut user = UserCaller {
            id: self.pick(&["u1", "u2", "a"]).into(),
            issuer: self.text().into(),
            tenant: self.maybe(|dice| dice.pick(&["a", "b"]).into()),
            roles: self.words(&["a", "b"]),
            groups: self.words(&["a", "ab", "aa"]),
            ..UserCaller::default()
        };
        for name in ["account", "level", "limit", "vip", "id"] {
            if self.one_in(2) {
                let kind = if self.one_in(12) { "any" } else { name };
                let value = match (kind, self.below(3)) {
                    ("account", _) | ("id" | "any", 0) => Attribute::String(self.text().into()),
                    ("vip", _) | ("id" | "any", 1) => Attribute::Bool(self.one_in(2)),
                    _ => Attribute::Integer(self.pick(&LONGS)),
                };
                user.attributes.insert(name.into(), value);
            }
        }
        user
    }

    /// When and whence.
    pub(super) fn circumstances(&mut self) -> Circumstances {
        let ages = ["any", "mfa", "passkey", "totp", "password"];
        let known: Vec<_> = ages.into_iter().filter(|_| self.one_in(2)).collect();
        Circumstances {
            now: self.pick(&LONGS),
            ip: self.pick(&IPS).parse::<IpAddr>().unwrap(),
            client: self.maybe(|dice| dice.text().into()),
            scopes: Scopes::parse(&self.words(&["a", "b", "ab"]).join(" ")).unwrap(),
            acr: self.maybe(|dice| dice.text().into()),
            amr: self.words(&["a", "b", "A"]),
            ages: known.into_iter().map(|name| (name, self.pick(&LONGS))).collect(),
            dpop: self.one_in(2),
            mtls: self.one_in(2),
            actors: self.words(&["a", "b"]),
        }
    }

    /// What about, with everything known.
    pub(super) fn resource(&mut self) -> Resource {
        let (_, [query, header, body]) = declared();
        Resource {
            parameters: vec![
                ("account".into(), self.text().into()),
                ("n".into(), self.pick(&LONGS).to_string()),
                ("u".into(), self.pick(&["u1", "a"]).into()),
            ],
            query: self.fields(&query),
            header: self.fields(&header),
            body: Some(self.fields(&body)),
            owner: Some(self.text().into()),
        }
    }

    fn fields(&mut self, fields: &[Field]) -> Vec<Option<Value>> {
        fields.iter().map(|field| self.maybe(|dice| dice.field(&field.kind))).collect()
    }

    fn field(&mut self, kind: &FieldKind) -> Value {
        match kind {
            FieldKind::Bool => Value::Bool(self.one_in(2)),
            FieldKind::Long => Value::Long(self.pick(&LONGS)),
            FieldKind::Decimal => {
                Value::Decimal(Decimal::from_ten_thousandths(self.pick(&DECIMALS)))
            }
            FieldKind::Text => Value::Text(self.text().into()),
            FieldKind::Set(member) => {
                let mut members: Vec<Value> =
                    (0..self.below(4)).map(|_| self.field(member)).collect();
                members.sort();
                members.dedup();
                Value::Set(members)
            }
        }
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.one_in(4) { None } else { Some(make(self)) }
    }

    /// Some of these, perhaps twice.
    fn words(&mut self, from: &[&str]) -> Vec<String> {
        (0..self.below(4)).map(|_| self.pick(from).to_owned()).collect()
    }
}
