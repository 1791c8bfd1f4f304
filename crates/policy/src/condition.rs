//! A `when`: Cedar's text as the operator wrote it, read into what the rest needs to know of it.
//!
//! What it reads (so that a decision builds only that), which optional attributes must be there
//! (their guard stands around the *whole* clause: absent means not granted), and which path
//! parameters it binds. Types are judged by [`crate::schema`], not here.

use std::collections::BTreeSet;
use std::str::FromStr;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Expression, Policy};
use serde_json::Value;

/// Longest condition, in bytes (`7-authorization`, bounds).
pub(crate) const MAX_CONDITION_BYTES: usize = 2 * 1024;
/// Deepest nesting of a condition, in brackets and in expressions.
pub(crate) const MAX_CONDITION_DEPTH: usize = 16;

/// A condition that parsed.
#[derive(Debug)]
pub(crate) struct Condition {
    /// As written.
    pub(crate) text: String,
    /// With its guard; what Cedar evaluates.
    pub(crate) guarded: String,
    /// That it is surely false: what it reads is there, and it does not hold.
    pub(crate) refuted: String,
    /// The same, to be evaluated alone when a denial needs its reason.
    pub(crate) expression: Expression,
    /// The attributes that it reads.
    pub(crate) reads: BTreeSet<Read>,
    /// Entities that it names, as (type, id).
    pub(crate) literals: Vec<(String, String)>,
    /// Parameters that have one of finitely many values, known from caller and rule, whenever it holds.
    pub(crate) binds: BTreeSet<String>,
}

/// One attribute read, as `principal.account` or `context.age.mfa`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Read {
    /// Whose.
    pub(crate) root: Root,
    /// Attribute, and attribute of that; empty when the thing itself is used as a value.
    pub(crate) path: Vec<String>,
    /// Read, or only asked for by `has`.
    pub(crate) access: Access,
}

/// The variables of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Root {
    Principal,
    Action,
    Resource,
    Context,
}

/// How an attribute is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    Value,
    Presence,
}

/// Why a condition does not parse.
#[derive(Debug)]
pub(crate) struct ConditionMalformed {
    /// `ConditionTooLong`, `ConditionTooDeep`, `ConditionMalformed`.
    pub(crate) rule: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// What to write.
    pub(crate) remedy: String,
    /// Where in the condition, in bytes.
    pub(crate) bytes: std::ops::Range<usize>,
}

impl Condition {
    /// Reads a condition. `optional` tells the attributes that a request may lack.
    pub(crate) fn parse(
        text: &str,
        optional: &dyn Fn(&Read) -> bool,
    ) -> Result<Self, ConditionMalformed> {
        check_size(text)?;
        Expression::from_str(text).map_err(|errors| {
            let first = errors.iter().next().map(DetailedError::from);
            syntax_fault(text, first)
        })?;
        let tree = tree(text).ok_or_else(|| syntax_fault(text, None))?;
        let seen = Survey::of(&tree);
        if seen.depth > MAX_CONDITION_DEPTH {
            return Err(too_deep(text));
        }
        let lacking = |read: &&Read| read.access == Access::Value && optional(read);
        let guards: Vec<String> = seen.reads.iter().filter(lacking).map(Read::guard).collect();
        let guarded = guard(text, &guards, "");
        let expression = Expression::from_str(&guarded).map_err(|_| syntax_fault(text, None))?;
        Ok(Condition {
            text: text.to_owned(),
            guarded,
            refuted: guard(text, &guards, "!"),
            expression,
            reads: seen.reads,
            literals: seen.literals,
            binds: binds(&tree).unwrap_or_default(),
        })
    }

    /// The attributes of a variable whose values it reads.
    pub(crate) fn guarded_attributes(&self, root: Root) -> impl Iterator<Item = &str> {
        self.reads
            .iter()
            .filter(move |read| read.root == root && read.access == Access::Value)
            .filter_map(|read| read.path.first().map(String::as_str))
    }

    /// Where the condition's text starts within a policy's source, which holds [`Condition::guarded`]
    /// or [`Condition::refuted`].
    pub(crate) fn offset_in(&self, source: &str) -> Option<usize> {
        // `(\n` … `\n)`: the text stands once, at the end.
        let embedded = [&self.guarded, &self.refuted].into_iter();
        embedded
            .filter_map(|form| Some(source.rfind(form.as_str())? + form.len()))
            .max()
            .map(|end| end.saturating_sub(self.text.len() + 2))
    }
}

impl Read {
    /// `principal.account`, whose value is read.
    pub(crate) fn value(root: Root, path: &[&str]) -> Self {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        Read { root, path, access: Access::Value }
    }

    /// `principal.account`.
    pub(crate) fn name(&self) -> String {
        let mut name = self.root.name().to_owned();
        for part in &self.path {
            name.push('.');
            name.push_str(part);
        }
        name
    }

    /// `context.age has "mfa"`. Members of a body are asked for level by level.
    fn guard(&self) -> String {
        let first = match (self.root, self.path.first().map(String::as_str)) {
            (Root::Resource, Some("body")) => 1,
            _ => self.path.len().saturating_sub(1),
        };
        let mut owner = self.root.name().to_owned();
        let mut guards: Vec<String> = Vec::new();
        for (level, part) in self.path.iter().enumerate() {
            if level >= first {
                guards.push(format!("{owner} has {part:?}"));
            }
            owner = format!("{owner}[{part:?}]");
        }
        if guards.is_empty() { "true".into() } else { guards.join(" && ") }
    }
}

impl Root {
    /// Its name in Cedar.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Root::Principal => "principal",
            Root::Action => "action",
            Root::Resource => "resource",
            Root::Context => "context",
        }
    }

    fn read(name: &str) -> Option<Self> {
        [Root::Principal, Root::Action, Root::Resource, Root::Context]
            .into_iter()
            .find(|root| root.name() == name)
    }
}

/// The line feeds keep a trailing `//` comment from swallowing the bracket.
fn guard(text: &str, guards: &[String], sign: &str) -> String {
    let mut guarded = String::new();
    for guard in guards {
        guarded.push_str(guard);
        guarded.push_str(" && ");
    }
    guarded.push_str(sign);
    guarded.push_str("(\n");
    guarded.push_str(text);
    guarded.push_str("\n)");
    guarded
}

fn check_size(text: &str) -> Result<(), ConditionMalformed> {
    if text.len() > MAX_CONDITION_BYTES {
        return Err(ConditionMalformed {
            rule: "ConditionTooLong",
            message: format!("the condition has {} bytes", text.len()),
            remedy: format!("keep to {MAX_CONDITION_BYTES}, or write several tables in an array"),
            bytes: 0..text.len(),
        });
    }
    // Before the parser, which recurses: brackets (also those in strings, which only makes this
    // stricter) and runs of unary operators.
    let (mut depth, mut unary) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'!' | b'-' => unary += 1,
            b' ' | b'\n' | b'\t' | b'\r' => {}
            _ => unary = 0,
        }
        if depth.max(unary) > MAX_CONDITION_DEPTH {
            return Err(too_deep(text));
        }
    }
    Ok(())
}

fn too_deep(text: &str) -> ConditionMalformed {
    ConditionMalformed {
        rule: "ConditionTooDeep",
        message: format!("the condition nests deeper than {MAX_CONDITION_DEPTH}"),
        remedy: "write it flatter, or as several tables in an array".into(),
        bytes: 0..text.len(),
    }
}

fn syntax_fault(text: &str, error: Option<DetailedError>) -> ConditionMalformed {
    let spot = error.as_ref().and_then(|error| error.source_locations.first());
    let label = spot.and_then(|spot| spot.label.clone());
    let bytes = spot.map_or(0..text.len(), |spot| spot.loc.start..spot.loc.end);
    let message = error.as_ref().map_or("not a Cedar expression", |error| error.message.as_str());
    let help = error.as_ref().and_then(|error| error.help.clone()).or(label);
    ConditionMalformed {
        rule: "ConditionMalformed",
        message: format!("the condition is not Cedar: {message}"),
        remedy: help.unwrap_or_else(|| {
            "write one Cedar expression, as in `resource.account == principal.account`".into()
        }),
        bytes: bytes.start.min(text.len())..bytes.end.min(text.len()),
    }
}

/// The expression as Cedar's JSON.
fn tree(text: &str) -> Option<Value> {
    let source = format!("permit(principal, action, resource) when {{\n{text}\n}};");
    let json = Policy::parse(None, source).ok()?.to_json().ok()?;
    json.pointer("/conditions/0/body").cloned()
}

/// What an expression touches.
#[derive(Debug, Default, Clone)]
pub(crate) struct Survey {
    /// The attributes that it reads.
    pub(crate) reads: BTreeSet<Read>,
    /// Entities that it names, as (type, id).
    pub(crate) literals: Vec<(String, String)>,
    /// Its nesting.
    pub(crate) depth: usize,
    /// Whether it computes, so that it can err on values of the right type.
    pub(crate) arithmetic: bool,
}

impl Survey {
    /// Of an expression as Cedar's JSON.
    pub(crate) fn of(tree: &Value) -> Self {
        let mut seen = Survey::default();
        seen.visit(tree, 0);
        seen
    }

    /// Whether it reads the body.
    pub(crate) fn reads_body(&self) -> bool {
        self.reads_member("body")
    }

    /// Whether it reads who owns the object.
    pub(crate) fn reads_owner(&self) -> bool {
        self.reads_member("owner")
    }

    fn reads_member(&self, member: &str) -> bool {
        self.reads.iter().any(|read| {
            read.root == Root::Resource && read.path.first().is_some_and(|first| first == member)
        })
    }

    fn visit(&mut self, tree: &Value, depth: usize) {
        match tree {
            Value::Array(items) => items.iter().for_each(|item| self.visit(item, depth)),
            Value::Object(members) => {
                for (name, inner) in members {
                    self.node(name, inner, depth + 1);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn node(&mut self, name: &str, inner: &Value, depth: usize) {
        self.depth = self.depth.max(operator_depth(depth));
        match name {
            "Value" => {
                let entity = inner.get("__entity");
                let part = |key: &str| entity.and_then(|entity| entity.get(key)?.as_str());
                if let (Some(kind), Some(id)) = (part("type"), part("id")) {
                    self.literals.push((kind.to_owned(), id.to_owned()));
                }
                // Sets of literals arrive as one value.
                self.visit(inner, depth);
            }
            "Var" => {
                if let Some(root) = inner.as_str().and_then(Root::read) {
                    self.reads.insert(Read { root, path: Vec::new(), access: Access::Value });
                }
            }
            "." | "has" => {
                let access = if name == "." { Access::Value } else { Access::Presence };
                match chain(inner) {
                    Some((root, path)) => {
                        self.reads.insert(Read { root, path, access });
                    }
                    None => self.visit(inner, depth),
                }
            }
            "is" | "in" | "==" => self.identity(inner, depth),
            // A chain is not a depth: brackets, which nest it, were counted in the text.
            "&&" => self.conjuncts(inner, depth.saturating_sub(2)),
            "||" => self.visit(inner, depth.saturating_sub(2)),
            "+" | "-" | "*" | "neg" => {
                self.arithmetic = true;
                self.visit(inner, depth);
            }
            _ => self.visit(inner, depth),
        }
    }

    /// `x has a && x.a has b` asks for `x.a.b` alone: the first is implied by the second.
    fn conjuncts(&mut self, inner: &Value, depth: usize) {
        let mut flat = Vec::new();
        flatten(inner, &mut flat);
        let asked = |tree: &Value| tree.get("has").and_then(chain);
        for (position, one) in flat.iter().enumerate() {
            let implied = asked(one).is_some_and(|(root, path)| {
                let next = flat.get(position + 1).and_then(|next| asked(next));
                next.is_some_and(|(other, longer)| {
                    other == root && longer.len() == path.len() + 1 && longer.starts_with(&path)
                })
            });
            if !implied {
                self.visit(one, depth);
            }
        }
    }

    /// Operands that are a variable itself only use its identity, not its attributes.
    fn identity(&mut self, inner: &Value, depth: usize) {
        for operand in ["left", "right", "in"].iter().filter_map(|side| inner.get(side)) {
            let variable = operand.get("Var").and_then(Value::as_str);
            if !matches!(variable, Some("principal" | "action" | "resource")) {
                self.visit(operand, depth);
            }
        }
    }
}

/// The operands of a chain of `&&`, in order.
fn flatten<'t>(inner: &'t Value, into: &mut Vec<&'t Value>) {
    for side in [inner.get("left"), inner.get("right")].into_iter().flatten() {
        match side.get("&&") {
            Some(deeper) => flatten(deeper, into),
            None => into.push(side),
        }
    }
}

/// An operator takes two levels of Cedar's JSON (itself, and the object of its operands).
fn operator_depth(depth: usize) -> usize {
    depth.div_ceil(2)
}

/// `context.age.mfa` as (`context`, `[age, mfa]`).
fn chain(inner: &Value) -> Option<(Root, Vec<String>)> {
    let attribute = inner.get("attr")?.as_str()?.to_owned();
    let left = inner.get("left")?;
    if let Some(variable) = left.get("Var").and_then(Value::as_str) {
        return Some((Root::read(variable)?, vec![attribute]));
    }
    let (root, mut path) = chain(left.get(".")?)?;
    path.push(attribute);
    Some((root, path))
}

/// The parameters bound when the expression is true; `None` when it never is (all are).
///
/// INVARIANT: a name in the answer equals an attribute of the caller, or a constant of the rule, in
/// every request for which the expression is true. What this cannot see is left out, so the
/// analysis errs towards saying "unbound".
fn binds(tree: &Value) -> Option<BTreeSet<String>> {
    let Some((name, inner)) = tree.as_object().and_then(|members| members.iter().next()) else {
        return Some(BTreeSet::new());
    };
    let side = |key: &str| inner.get(key).unwrap_or(&Value::Null);
    match name.as_str() {
        "Value" if *inner == Value::Bool(false) => None,
        "&&" => both(binds(side("left")), binds(side("right"))),
        "||" => either(binds(side("left")), binds(side("right"))),
        "if-then-else" => {
            let then = both(binds(side("if")), binds(side("then")));
            either(then, binds(side("else")))
        }
        "==" => Some(equated(side("left"), side("right"))),
        "contains" => {
            let bound = parameter(side("right")).filter(|_| is_constant(side("left")));
            Some(bound.into_iter().collect())
        }
        _ => Some(BTreeSet::new()),
    }
}

fn both(a: Option<BTreeSet<String>>, b: Option<BTreeSet<String>>) -> Option<BTreeSet<String>> {
    Some(a?.union(&b?).cloned().collect())
}

fn either(a: Option<BTreeSet<String>>, b: Option<BTreeSet<String>>) -> Option<BTreeSet<String>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.intersection(&b).cloned().collect()),
        (one, None) | (None, one) => one,
    }
}

fn equated(left: &Value, right: &Value) -> BTreeSet<String> {
    let known = |side: &Value| is_constant(side) || is_attribute_of_principal(side);
    let pairs = [(left, right), (right, left)];
    pairs
        .into_iter()
        .filter(|(_, other)| known(other))
        .filter_map(|(this, _)| parameter(this))
        .collect()
}

fn parameter(tree: &Value) -> Option<String> {
    match chain(tree.get(".")?)? {
        (Root::Resource, path) if path.len() == 1 => path.into_iter().next(),
        _ => None,
    }
}

fn is_attribute_of_principal(tree: &Value) -> bool {
    tree.get(".").and_then(chain).is_some_and(|(root, _)| root == Root::Principal)
}

fn is_constant(tree: &Value) -> bool {
    let set = tree.get("Set").and_then(Value::as_array);
    tree.get("Value").is_some() || set.is_some_and(|items| items.iter().all(is_constant))
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
