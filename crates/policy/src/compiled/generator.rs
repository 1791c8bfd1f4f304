//! Tests only: random policies in Cedar's own text, over one operation that has a slot of every kind.
//! Types mostly fit; a few do not, so that type errors are compared too.

use crate::field::{Decimal, Field, FieldKind};
use crate::parameter::{Kind, Parameter};

/// The action of every generated question.
pub(super) const ACTION: &str = "POST /a/{account}/{n}";
/// Its groups.
pub(super) const GROUPS: [&str; 3] = ["write", "payments", "tag:x"];

/// SplitMix64: small, and the same everywhere.
pub(super) struct Dice(u64);

/// A policy in pieces, so that a pass can leave some out.
pub(super) struct Draft {
    pub(super) effect: &'static str,
    pub(super) head: String,
    /// `when { … }` or `unless { … }`.
    pub(super) conditions: Vec<String>,
}

/// The types of Cedar that occur.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Bool,
    Long,
    Text,
    Decimal,
    Network,
    Entity,
    Texts,
    Longs,
    Decimals,
    Entities,
    Nested,
}

const TYPES: [Type; 11] = [
    Type::Bool,
    Type::Long,
    Type::Text,
    Type::Decimal,
    Type::Network,
    Type::Entity,
    Type::Texts,
    Type::Longs,
    Type::Decimals,
    Type::Entities,
    Type::Nested,
];
const SETS: [Type; 5] = [Type::Texts, Type::Longs, Type::Decimals, Type::Entities, Type::Nested];
pub(super) const TEXTS: [&str; 9] = ["", "a", "b", "ab", "A", "aab", "é*", "u1", "a\u{301}b"];
const PATTERNS: [&str; 12] =
    ["*", "", "a*", "*b", "a*b", "*a*b*", "*é\\*", "?", "a", "**", "*aab", "*ab*b"];
pub(super) const LONGS: [i64; 10] =
    [0, 1, -1, 2, 7, i64::MAX, i64::MIN, i64::MAX - 1, 3_037_000_500, 60];
pub(super) const DECIMALS: [i64; 7] = [0, 1, 10_000, -10_000, 15_000, i64::MAX, i64::MIN];
const NETWORKS: [&str; 20] = [
    "10.0.0.0/8",
    "10.0.0.1/8",
    "10.0.0.1",
    "10.0.0.0/16",
    "10.0.0.1/32",
    "0.0.0.0/0",
    "::/0",
    "::1",
    "127.0.0.1/4",
    "127.0.0.1/8",
    "127.0.0.1",
    "::1/64",
    "224.0.0.1/3",
    "224.0.0.1/4",
    "ff02::1/7",
    "ff02::1/8",
    "2001:db8::/32",
    "::ffff:a00:1",
    "10.1.2.3",
    "ff02::1",
];
const NAMES: [&str; 14] = [
    "User::\"u1\"",
    "User::\"u2\"",
    "Service::\"u1\"",
    "Service::\"s1\"",
    "Role::\"a\"",
    "Role::\"b\"",
    "Group::\"a\"",
    "Group::\"ab\"",
    "Tenant::\"a\"",
    "Tenant::\"b\"",
    "Anonymous::\"anyone\"",
    "Resource::\"requested\"",
    "Resource::\"u1\"",
    "User::\"a\"",
];

const BOOL_SLOTS: [&str; 5] =
    ["context.dpop", "context.mtls", "principal.vip", "resource.query.flag", "resource.body.flag"];
const LONG_SLOTS: [&str; 9] = [
    "context.now",
    "context.age.mfa",
    "context.age.any",
    "principal.level",
    "principal.limit",
    "resource.n",
    "resource.query.page",
    "resource.header.x_count",
    "resource.body.count",
];
const TEXT_SLOTS: [&str; 13] = [
    "principal.id",
    "principal.issuer",
    "principal.tenant",
    "principal.account",
    "context.client",
    "context.acr",
    "resource.account",
    "resource.u",
    "resource.query.text",
    "resource.header.x_tier",
    "resource.body.card.number",
    "resource.owner",
    "resource.query[\"a b\"]",
];
const OPTIONAL: [&str; 19] = [
    "principal has vip",
    "principal has account",
    "principal has tenant",
    "principal has level",
    "principal has nothing",
    "context has client",
    "context has acr",
    "context.age has mfa",
    "context has age.any",
    "resource.query has flag",
    "resource.query has text",
    "resource.query has \"a b\"",
    "resource.header has x_tier",
    "resource.header has x_count",
    "resource.body has amount",
    "resource.body has card.number",
    "resource has body.card.kinds",
    "resource has account",
    "context has age",
];

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What the operation declares: path, query, header, body.
pub(super) fn declared() -> (Vec<Parameter>, [Vec<Field>; 3]) {
    let parameter = |name: &str, kind| Parameter { name: name.into(), kind };
    let field = |name: &str, kind| Field { name: name.into(), kind, required: false };
    let set = |kind| FieldKind::Set(Box::new(kind));
    let parameters = vec![
        parameter("account", Kind::Text),
        parameter("n", Kind::Integer),
        parameter("u", Kind::Uuid),
    ];
    let query = vec![
        field("text", FieldKind::Text),
        field("page", FieldKind::Long),
        field("flag", FieldKind::Bool),
        field("price", FieldKind::Decimal),
        field("words", set(FieldKind::Text)),
        field("a b", FieldKind::Text),
    ];
    let header = vec![field("x-tier", FieldKind::Text), field("x-count", FieldKind::Long)];
    let body = vec![
        field("amount", FieldKind::Decimal),
        field("count", FieldKind::Long),
        field("flag", FieldKind::Bool),
        field("card.number", FieldKind::Text),
        field("card.kinds", set(FieldKind::Text)),
        field("pages", set(FieldKind::Long)),
        field("prices", set(FieldKind::Decimal)),
    ];
    (parameters, [query, header, body])
}

impl Dice {
    /// One to four policies.
    pub(super) fn policies(&mut self) -> Vec<Draft> {
        (0..=self.below(4)).map(|_| self.policy()).collect()
    }

    fn policy(&mut self) -> Draft {
        let principal = match self.below(12) {
            0 => "principal == User::\"u1\"",
            1 => "principal in Role::\"a\"",
            2 => "principal is User",
            3 => "principal is User in Group::\"a\"",
            4 => "principal is Service",
            5 => "principal in Tenant::\"a\"",
            _ => "principal",
        };
        let action = match self.below(14) {
            0 => "action == Action::\"POST /a/{account}/{n}\"",
            1 => "action in Action::\"write\"",
            2 => "action in [Action::\"read\", Action::\"payments\"]",
            3 => "action in [Action::\"read\", Action::\"POST /a/{account}/{n}\"]",
            4 => "action in Action::\"read\"",
            _ => "action",
        };
        let resource = match self.below(12) {
            0 => "resource is Resource",
            1 => "resource == Resource::\"requested\"",
            2 => "resource in Resource::\"requested\"",
            3 => "resource is User",
            _ => "resource",
        };
        let conditions = (0..self.below(4)).map(|_| {
            let word = if self.one_in(4) { "unless" } else { "when" };
            format!("{word} {{ {} }}", self.expr(Type::Bool, 4))
        });
        Draft {
            conditions: conditions.collect(),
            effect: if self.one_in(3) { "forbid" } else { "permit" },
            head: format!("({principal}, {action}, {resource})"),
        }
    }

    /// An expression of any type.
    pub(super) fn expression(&mut self) -> String {
        let kind = self.pick(&TYPES);
        self.expr(kind, 4)
    }

    fn expr(&mut self, kind: Type, depth: usize) -> String {
        let kind = if self.one_in(40) { self.pick(&TYPES) } else { kind };
        if depth > 0 && self.one_in(12) {
            let (test, then, otherwise) = (
                self.expr(Type::Bool, depth - 1),
                self.expr(kind, depth - 1),
                self.expr(kind, depth - 1),
            );
            return format!("(if {test} then {then} else {otherwise})");
        }
        match kind {
            Type::Bool => self.bool(depth),
            Type::Long => self.long(depth),
            Type::Text => match self.below(3) {
                0 => format!("{:?}", self.text()),
                _ => self.pick(&TEXT_SLOTS).to_owned(),
            },
            Type::Decimal => match self.below(3) {
                0 => self.pick(&["resource.query.price", "resource.body.amount"]).to_owned(),
                _ => {
                    format!("decimal(\"{}\")", Decimal::from_ten_thousandths(self.pick(&DECIMALS)))
                }
            },
            Type::Network => match self.below(3) {
                0 => "context.ip".into(),
                _ => format!("ip(\"{}\")", self.pick(&NETWORKS)),
            },
            Type::Entity => match self.below(3) {
                0 => self.pick(&NAMES).to_owned(),
                1 => self.pick(&["resource", "action"]).to_owned(),
                _ => "principal".into(),
            },
            Type::Texts | Type::Longs | Type::Decimals | Type::Entities | Type::Nested => {
                self.set(kind, depth)
            }
        }
    }

    pub(super) fn text(&mut self) -> &'static str {
        self.pick(&TEXTS)
    }

    fn long(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 4 } else { 8 }) {
            0 | 1 => format!("({})", self.pick(&LONGS)),
            2 | 3 => self.pick(&LONG_SLOTS).to_owned(),
            4 => format!("(-({}))", self.expr(Type::Long, depth - 1)),
            _ => {
                let operator = self.pick(&["+", "-", "*"]);
                let (left, right) = self.two(Type::Long, depth - 1);
                format!("({left} {operator} {right})")
            }
        }
    }

    fn set(&mut self, kind: Type, depth: usize) -> String {
        let (slots, member): (&[&str], Type) = match kind {
            Type::Texts => (
                &[
                    "context.scopes",
                    "context.amr",
                    "context.actors",
                    "resource.query.words",
                    "resource.body.card.kinds",
                ],
                Type::Text,
            ),
            Type::Longs => (&["resource.body.pages"], Type::Long),
            Type::Decimals => (&["resource.body.prices"], Type::Decimal),
            Type::Entities => (&[], Type::Entity),
            _ => (&[], self.pick(&[Type::Texts, Type::Longs])),
        };
        if !slots.is_empty() && !self.one_in(3) {
            return self.pick(slots).to_owned();
        }
        let count = self.below(4);
        if kind == Type::Nested {
            // Flat inner sets: deeper ones are left to Cedar.
            let inner = |dice: &mut Self| format!("[{}, {:?}]", dice.pick(&LONGS), dice.text());
            let members: Vec<String> = (0..count).map(|_| inner(self)).collect();
            return format!("[{}]", members.join(", "));
        }
        let members: Vec<String> =
            (0..count).map(|_| self.flat(member, depth.saturating_sub(2))).collect();
        format!("[{}]", members.join(", "))
    }

    /// An expression that is no set, to be a set's member.
    fn flat(&mut self, kind: Type, depth: usize) -> String {
        match kind {
            Type::Long => self.long(depth),
            Type::Text => format!("{:?}", self.text()),
            Type::Texts | Type::Longs => format!("[{:?}]", self.text()),
            other => loop {
                let text = self.expr(other, 0);
                if !text.contains('[') {
                    return text;
                }
            },
        }
    }

    fn two(&mut self, kind: Type, depth: usize) -> (String, String) {
        (self.expr(kind, depth), self.expr(kind, depth))
    }

    fn bool(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.below(4) {
                0 => self.pick(&["true", "false"]).to_owned(),
                1 => self.pick(&BOOL_SLOTS).to_owned(),
                _ => format!("({})", self.pick(&OPTIONAL)),
            };
        }
        let depth = depth - 1;
        match self.below(22) {
            0..=2 => {
                let (left, right) = self.two(Type::Bool, depth);
                format!("({left} && {right})")
            }
            3 | 4 => {
                let (left, right) = self.two(Type::Bool, depth);
                format!("({left} || {right})")
            }
            5 => format!("(!({}))", self.expr(Type::Bool, depth)),
            6..=8 => self.equality(depth),
            9..=11 => {
                let operator = self.pick(&["<", "<=", ">", ">="]);
                let (left, right) = self.two(Type::Long, depth);
                format!("({left} {operator} {right})")
            }
            12 | 13 => self.set_test(depth),
            14 => format!("({} like \"{}\")", self.expr(Type::Text, depth), self.pick(&PATTERNS)),
            15 | 16 => self.entity_test(depth),
            17 => {
                let method = self.pick(&[
                    "lessThan",
                    "lessThanOrEqual",
                    "greaterThan",
                    "greaterThanOrEqual",
                ]);
                let (left, right) = self.two(Type::Decimal, depth);
                format!("({left}).{method}({right})")
            }
            18 | 19 => self.network_test(depth),
            // The guard as an operator's `when` gets it.
            20 => format!("({} && {})", self.pick(&OPTIONAL), self.expr(Type::Bool, depth)),
            _ => self.bool(0),
        }
    }

    fn equality(&mut self, depth: usize) -> String {
        if self.one_in(12) {
            // Alike, and not the same.
            let twins = ["10.0.0.0/8", "10.0.0.1/8", "10.0.0.1/16", "10.0.0.1"];
            return format!("(ip(\"{}\") == ip(\"{}\"))", self.pick(&twins), self.pick(&twins));
        }
        let kind = self.pick(&TYPES);
        let other = if self.one_in(8) { self.pick(&TYPES) } else { kind };
        let operator = self.pick(&["==", "!="]);
        let (left, right) = (self.expr(kind, depth), self.expr(other, depth));
        format!("({left} {operator} {right})")
    }

    fn set_test(&mut self, depth: usize) -> String {
        let kind = self.pick(&SETS);
        let set = self.expr(kind, depth);
        match self.below(8) {
            0 => format!("({set}).isEmpty()"),
            1..=3 => {
                let member = match kind {
                    Type::Texts => Type::Text,
                    Type::Longs => Type::Long,
                    Type::Decimals => Type::Decimal,
                    Type::Entities => Type::Entity,
                    _ => Type::Texts,
                };
                format!("({set}).contains({})", self.expr(member, depth))
            }
            4 | 5 => format!("({set}).containsAll({})", self.expr(kind, depth)),
            _ => format!("({set}).containsAny({})", self.expr(kind, depth)),
        }
    }

    fn entity_test(&mut self, depth: usize) -> String {
        let group = |dice: &mut Self| match dice.below(3) {
            0 => dice.pick(&NAMES).to_owned(),
            _ => {
                let groups: Vec<&str> = (0..dice.below(4)).map(|_| dice.pick(&NAMES)).collect();
                format!("[{}]", groups.join(", "))
            }
        };
        match self.below(8) {
            0 => format!("(action in Action::\"{}\")", self.pick(&["read", "write", "payments"])),
            1 => format!("({} in {})", self.pick(&NAMES), group(self)),
            2 | 3 => {
                let entity = self.pick(&["principal", "resource", "User::\"u1\""]);
                format!("({entity} in {})", group(self))
            }
            4 | 5 => format!("(principal in {})", group(self)),
            6 => format!("(principal is User in {})", group(self)),
            _ => {
                let entity = self.expr(Type::Entity, depth.min(1));
                format!(
                    "({entity} is {})",
                    self.pick(&["User", "Service", "Anonymous", "Resource"])
                )
            }
        }
    }

    fn network_test(&mut self, depth: usize) -> String {
        let ip = self.expr(Type::Network, depth);
        match self.below(8) {
            0 => format!("({ip}).isIpv4()"),
            1 => format!("({ip}).isIpv6()"),
            2 => format!("({ip}).isLoopback()"),
            3 => format!("({ip}).isMulticast()"),
            4 => {
                let (one, two) = (self.pick(&NETWORKS), self.pick(&NETWORKS));
                format!("ip(\"{one}\").isInRange(ip(\"{two}\"))")
            }
            _ => format!("({ip}).isInRange({})", self.expr(Type::Network, depth)),
        }
    }
}
