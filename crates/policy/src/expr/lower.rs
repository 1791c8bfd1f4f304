//! From Cedar's own tree (its JSON) to [`Expr`]. What is not known here, or not evaluated exactly,
//! is [`Outside`] with its words; nothing is guessed, and nothing is checked: types are
//! [`crate::schema`]'s.

use cedar_policy::Policy;
use serde_json::Value;

use super::name::{self, Named};
use super::{Effect, EntityName, Expr, Lowered, Outside, PatternPiece, Slots};
use crate::condition::Root;

/// Deepest tree; what is deeper is Cedar's, which watches its own stack. Chains of `&&` and `||` are
/// no depth: see [`Lowering::chain`].
const MAX_DEPTH: usize = 64;
/// Sets within sets: comparing them costs as much as there are pairs, on every level.
const MAX_SET_DEPTH: usize = 2;
/// The entity that every request is about ([`crate::entities::Names`]).
const RESOURCE: (&str, &str) = ("Resource", "requested");

/// Lowers a policy of the operation that the slots describe.
///
/// # Errors
/// What it has that is not evaluated here.
pub(crate) fn lower(policy: &Policy, slots: &Slots<'_>) -> Result<Lowered, Outside> {
    let tree = policy.to_json().map_err(|error| Outside(error.to_string()))?;
    let effect = match member(&tree, "effect")?.as_str() {
        Some("permit") => Effect::Permit,
        Some("forbid") => Effect::Forbid,
        _ => return Err(unknown("effect")),
    };
    let lowering = Lowering { slots };
    let mut conditions = Vec::new();
    lowering.head(&Expr::Principal, member(&tree, "principal")?, &mut conditions)?;
    lowering.action_head(member(&tree, "action")?, &mut conditions)?;
    lowering.head(&resource(), member(&tree, "resource")?, &mut conditions)?;
    for condition in member(&tree, "conditions")?.as_array().ok_or_else(|| unknown("conditions"))? {
        let body = lowering.expr(member(condition, "body")?, 0)?;
        conditions.push(match member(condition, "kind")?.as_str() {
            Some("when") => body,
            Some("unless") => Expr::Not(Box::new(body)),
            _ => return Err(unknown("condition")),
        });
    }
    Ok(Lowered::new(effect, conditions))
}

/// Makes an expression of two.
type Make = fn(Box<Expr>, Box<Expr>) -> Expr;

struct Lowering<'l> {
    slots: &'l Slots<'l>,
}

impl Lowering<'_> {
    /// What a head asks of principal or resource.
    fn head(&self, subject: &Expr, head: &Value, out: &mut Vec<Expr>) -> Result<(), Outside> {
        let subject = || Box::new(subject.clone());
        match member(head, "op")?.as_str() {
            Some("All" | "all") => {}
            Some("==") => {
                let entity = Expr::Entity(entity(member(head, "entity")?)?);
                out.push(Expr::Equal(subject(), Box::new(entity)));
            }
            Some("in") => out.push(Expr::In(subject(), vec![entity(member(head, "entity")?)?])),
            Some("is") => {
                out.push(Expr::IsKind(subject(), kind(member(head, "entity_type")?)?));
                if let Some(group) = head.get("in") {
                    out.push(Expr::In(subject(), vec![entity(member(group, "entity")?)?]));
                }
            }
            _ => return Err(unknown("head")),
        }
        Ok(())
    }

    /// Which action it is, is known: either nothing is asked, or the policy never applies.
    fn action_head(&self, head: &Value, out: &mut Vec<Expr>) -> Result<(), Outside> {
        let applies = match member(head, "op")?.as_str() {
            Some("All" | "all") => true,
            Some("==") => self.is_action(&entity(member(head, "entity")?)?),
            Some("in") => match head.get("entities") {
                Some(groups) => self.action_in(&entities(groups)?),
                None => self.action_in(&[entity(member(head, "entity")?)?]),
            },
            _ => return Err(unknown("action head")),
        };
        if !applies {
            out.push(Expr::Bool(false));
        }
        Ok(())
    }

    fn is_action(&self, name: &EntityName) -> bool {
        *name.kind == *"Action" && *name.id == *self.slots.action
    }

    fn action_in(&self, names: &[EntityName]) -> bool {
        let is_group = |name: &EntityName| {
            *name.kind == *"Action" && self.slots.groups.iter().any(|group| **group == *name.id)
        };
        names.iter().any(|name| self.is_action(name) || is_group(name))
    }

    fn expr(&self, tree: &Value, depth: usize) -> Result<Expr, Outside> {
        if depth > MAX_DEPTH {
            return Err(Outside("a tree this deep".into()));
        }
        let (name, inner) = only_member(tree)?;
        let depth = depth + 1;
        let side = |name: &str| Ok(Box::new(self.expr(member(inner, name)?, depth)?));
        let binary =
            |make: fn(Box<Expr>, Box<Expr>) -> Expr| Ok(make(side("left")?, side("right")?));
        let mirrored =
            |make: fn(Box<Expr>, Box<Expr>) -> Expr| Ok(make(side("right")?, side("left")?));
        match name {
            "Value" => literal(inner),
            "Var" => self.variable(inner),
            "Set" => self.set(inner, depth),
            "!" => Ok(Expr::Not(side("arg")?)),
            "neg" => Ok(Expr::Negate(side("arg")?)),
            "isEmpty" => Ok(Expr::IsEmpty(side("arg")?)),
            "==" => binary(Expr::Equal),
            "!=" => Ok(Expr::Not(Box::new(binary(Expr::Equal)?))),
            "<" => binary(Expr::Less),
            "<=" => binary(Expr::LessEqual),
            ">" => mirrored(Expr::Less),
            ">=" => mirrored(Expr::LessEqual),
            "&&" => self.chain((name, Expr::And), tree, depth),
            "||" => self.chain((name, Expr::Or), tree, depth),
            "+" => binary(Expr::Add),
            "-" => binary(Expr::Subtract),
            "*" => binary(Expr::Multiply),
            "contains" => binary(Expr::Contains),
            "containsAll" => binary(Expr::ContainsAll),
            "containsAny" => binary(Expr::ContainsAny),
            "if-then-else" => Ok(Expr::If(side("if")?, side("then")?, side("else")?)),
            "." => self.read(inner),
            "has" => self.has(inner),
            "like" => Ok(Expr::Like(side("left")?, pattern(member(inner, "pattern")?)?)),
            "in" => self.membership(member(inner, "left")?, member(inner, "right")?, depth),
            "is" => self.kind_test(inner, depth),
            _ => self.call(name, inner, depth),
        }
    }

    /// `a && b && c`, which leans to the left as deep as it is long, as a balanced tree. In whatever
    /// way they are bracketed, the operands are evaluated from left to right up to the first that
    /// decides or errs.
    fn chain(
        &self,
        (name, make): (&str, Make),
        tree: &Value,
        depth: usize,
    ) -> Result<Expr, Outside> {
        let (mut operands, mut rest) = (Vec::new(), tree);
        while let Some(inner) = rest.get(name) {
            operands.push(self.expr(member(inner, "right")?, depth)?);
            rest = member(inner, "left")?;
        }
        operands.push(self.expr(rest, depth)?);
        while operands.len() > 1 {
            // From the right, since that is how they were gathered; the odd one is the leftmost.
            let mut paired = Vec::with_capacity(operands.len().div_ceil(2));
            let mut each = operands.into_iter();
            while let Some(right) = each.next() {
                paired.push(match each.next() {
                    Some(left) => make(Box::new(left), Box::new(right)),
                    None => right,
                });
            }
            operands = paired;
        }
        operands.pop().ok_or_else(|| unknown("expression"))
    }

    fn variable(&self, name: &Value) -> Result<Expr, Outside> {
        match name.as_str() {
            Some("principal") => Ok(Expr::Principal),
            Some("action") => {
                Ok(Expr::Entity(EntityName { kind: "Action".into(), id: self.slots.action.into() }))
            }
            Some("resource") => Ok(resource()),
            _ => Err(unknown("`context` as a value")),
        }
    }

    fn set(&self, items: &Value, depth: usize) -> Result<Expr, Outside> {
        let items = items.as_array().ok_or_else(|| unknown("set"))?;
        let items = items.iter().map(|item| self.expr(item, depth)).collect::<Result<_, _>>()?;
        shallow(Expr::Set(items))
    }

    fn read(&self, inner: &Value) -> Result<Expr, Outside> {
        let mut path = vec![text(member(inner, "attr")?)?];
        let root = path_of(member(inner, "left")?, &mut path)?;
        match name::resolve(root, &path, self.slots)? {
            Named::Slot(slot) => Ok(Expr::Read(slot)),
            Named::Record => Err(unknown("`context.age` as a value")),
        }
    }

    fn has(&self, inner: &Value) -> Result<Expr, Outside> {
        let mut path = Vec::new();
        let root = path_of(member(inner, "left")?, &mut path)?;
        match member(inner, "attr")? {
            Value::Array(parts) => {
                for part in parts {
                    path.push(text(part)?);
                }
            }
            attr => path.push(text(attr)?),
        }
        match name::resolve(root, &path, self.slots)? {
            Named::Slot(slot) => Ok(Expr::Has(slot)),
            Named::Record => Ok(Expr::Bool(true)),
        }
    }

    fn membership(&self, left: &Value, right: &Value, depth: usize) -> Result<Expr, Outside> {
        let groups = match self.expr(right, depth)? {
            Expr::Entity(group) => vec![group],
            Expr::Set(items) => items
                .into_iter()
                .map(|item| match item {
                    Expr::Entity(group) => Ok(group),
                    _ => Err(unknown("`in` what is not written out")),
                })
                .collect::<Result<_, _>>()?,
            _ => return Err(unknown("`in` what is not written out")),
        };
        if left.get("Var").and_then(Value::as_str) == Some("action") {
            return Ok(Expr::Bool(self.action_in(&groups)));
        }
        match self.expr(left, depth)? {
            // Its groups are not in the expression.
            Expr::Entity(name) if *name.kind == *"Action" => Err(unknown("an action `in`")),
            left => Ok(Expr::In(Box::new(left), groups)),
        }
    }

    fn kind_test(&self, inner: &Value, depth: usize) -> Result<Expr, Outside> {
        let left = member(inner, "left")?;
        let kind = kind(member(inner, "entity_type")?)?;
        let test = Expr::IsKind(Box::new(self.expr(left, depth)?), kind);
        match inner.get("in") {
            None => Ok(test),
            Some(right) => {
                let membership = self.membership(left, right, depth)?;
                Ok(Expr::And(Box::new(test), Box::new(membership)))
            }
        }
    }

    /// Functions and methods of Cedar's extensions: `{ "isInRange": [this, that] }`.
    fn call(&self, name: &str, arguments: &Value, depth: usize) -> Result<Expr, Outside> {
        let outside = || Outside(format!("`{name}`"));
        let arguments = arguments.as_array().ok_or_else(outside)?;
        let lowered = |tree: &Value| Ok(Box::new(self.expr(tree, depth)?));
        match (name, arguments.as_slice()) {
            ("decimal", [text]) => extension("decimal", member(text, "Value")?),
            ("ip", [text]) => extension("ip", member(text, "Value")?),
            ("isIpv4", [ip]) => Ok(Expr::IsIpv4(lowered(ip)?)),
            ("isIpv6", [ip]) => Ok(Expr::IsIpv6(lowered(ip)?)),
            ("isLoopback", [ip]) => Ok(Expr::IsLoopback(lowered(ip)?)),
            ("isMulticast", [ip]) => Ok(Expr::IsMulticast(lowered(ip)?)),
            ("isInRange", [ip, network]) => Ok(Expr::InRange(lowered(ip)?, lowered(network)?)),
            ("lessThan", [a, b]) => Ok(Expr::DecimalLess(lowered(a)?, lowered(b)?)),
            ("lessThanOrEqual", [a, b]) => Ok(Expr::DecimalLessEqual(lowered(a)?, lowered(b)?)),
            ("greaterThan", [a, b]) => Ok(Expr::DecimalLess(lowered(b)?, lowered(a)?)),
            ("greaterThanOrEqual", [a, b]) => Ok(Expr::DecimalLessEqual(lowered(b)?, lowered(a)?)),
            _ => Err(outside()),
        }
    }
}

fn resource() -> Expr {
    Expr::Entity(EntityName { kind: RESOURCE.0.into(), id: RESOURCE.1.into() })
}

/// `context.age.mfa`, seen from its end: what stands before is put before.
fn path_of<'t>(tree: &'t Value, path: &mut Vec<&'t str>) -> Result<Root, Outside> {
    match only_member(tree)? {
        ("Var", variable) => {
            variable_named(text(variable)?).ok_or_else(|| unknown("a variable of that name"))
        }
        (".", inner) => {
            path.insert(0, text(member(inner, "attr")?)?);
            path_of(member(inner, "left")?, path)
        }
        _ => Err(unknown("an attribute of what is no variable")),
    }
}

fn variable_named(name: &str) -> Option<Root> {
    let all = [Root::Principal, Root::Action, Root::Resource, Root::Context];
    all.into_iter().find(|root| root.name() == name)
}

fn literal(value: &Value) -> Result<Expr, Outside> {
    match value {
        Value::Bool(value) => Ok(Expr::Bool(*value)),
        Value::Number(number) => {
            number.as_i64().map(Expr::Long).ok_or_else(|| unknown("a number that is no Long"))
        }
        Value::String(text) => Ok(Expr::Text(text.as_str().into())),
        Value::Array(items) => {
            shallow(Expr::Set(items.iter().map(literal).collect::<Result<_, _>>()?))
        }
        Value::Object(_) => match only_member(value)? {
            ("__entity", inner) => Ok(Expr::Entity(entity(inner)?)),
            ("__extn", inner) => extension(text(member(inner, "fn")?)?, member(inner, "arg")?),
            _ => Err(unknown("a record as a value")),
        },
        Value::Null => Err(unknown("null")),
    }
}

fn extension(function: &str, argument: &Value) -> Result<Expr, Outside> {
    match function {
        "decimal" => Ok(Expr::Decimal(name::decimal(text(argument)?)?)),
        "ip" => Ok(Expr::Network(name::network(text(argument)?)?)),
        other => Err(Outside(format!("`{other}`"))),
    }
}

fn shallow(set: Expr) -> Result<Expr, Outside> {
    fn depth(expr: &Expr) -> usize {
        match expr {
            Expr::Set(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            // Which set a condition gives, is not looked at: as deep as both.
            Expr::If(_, then, otherwise) => depth(then).max(depth(otherwise)),
            _ => 0,
        }
    }
    if depth(&set) > MAX_SET_DEPTH { Err(unknown("sets this deep")) } else { Ok(set) }
}

fn pattern(pieces: &Value) -> Result<Vec<PatternPiece>, Outside> {
    let mut pattern = Vec::new();
    for piece in pieces.as_array().ok_or_else(|| unknown("pattern"))? {
        if piece.as_str() == Some("Wildcard") {
            pattern.push(PatternPiece::Wildcard);
        } else {
            let literal = text(member(piece, "Literal")?)?;
            pattern.extend(literal.chars().map(PatternPiece::Character));
        }
    }
    Ok(pattern)
}

fn entities(names: &Value) -> Result<Vec<EntityName>, Outside> {
    let names = names.as_array().ok_or_else(|| unknown("entities"))?;
    names.iter().map(entity).collect()
}

fn entity(name: &Value) -> Result<EntityName, Outside> {
    let name = name.get("__entity").unwrap_or(name);
    Ok(EntityName { kind: kind(member(name, "type")?)?, id: text(member(name, "id")?)?.into() })
}

/// An entity type without a namespace: ours have none, and parents are compared by the last part.
fn kind(name: &Value) -> Result<Box<str>, Outside> {
    let name = text(name)?;
    if name.contains("::") { Err(Outside(format!("`{name}`"))) } else { Ok(name.into()) }
}

fn only_member(tree: &Value) -> Result<(&str, &Value), Outside> {
    let mut members = tree.as_object().into_iter().flatten();
    match (members.next(), members.next()) {
        (Some((name, inner)), None) => Ok((name, inner)),
        _ => Err(unknown("expression")),
    }
}

fn member<'t>(tree: &'t Value, name: &str) -> Result<&'t Value, Outside> {
    tree.get(name).ok_or_else(|| Outside(format!("an expression without `{name}`")))
}

fn text(value: &Value) -> Result<&str, Outside> {
    value.as_str().ok_or_else(|| unknown("a name that is no text"))
}

fn unknown(what: &str) -> Outside {
    Outside(what.to_owned())
}
