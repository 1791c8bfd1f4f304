//! The strict reader of judged bodies: one pass over the bytes, which becomes the values that rules
//! read or the reason of a 400. It keeps nothing else of the body.

use std::collections::HashSet;

use super::{BodyShape, Extra, MAX_DEPTH, Member};
use crate::field::{Decimal, Field, FieldKind, MAX_SET, MAX_TEXT_BYTES, Value};

/// Why a body is refused: 400, with the rule's name as the record's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// Not JSON (RFC 8259), or not UTF-8.
    #[error("the body is not JSON")]
    BodyMalformed,
    /// Deeper than [`MAX_DEPTH`].
    #[error("the body nests too deep")]
    BodyTooDeep,
    /// A member stands twice, also when case is folded.
    #[error("a member of the body stands twice")]
    BodyMemberDoubled,
    /// A member that nobody declared.
    #[error("the body has a member that is not declared")]
    BodyMemberUndeclared,
    /// A required member is missing.
    #[error("the body lacks a member that is required")]
    BodyMemberMissing,
    /// A value of another type, or a number that does not fit.
    #[error("a member of the body has another type than declared")]
    BodyMemberIllTyped,
}

/// Reads the declared members that rules read, in the order of `fields` (`None`: absent, or `null`
/// where the shape allows it), and judges all of the body.
///
/// # Errors
/// See [`BodyFault`].
pub fn read(
    shape: &BodyShape,
    fields: &[Field],
    bytes: &[u8],
) -> Result<Vec<Option<Value>>, BodyFault> {
    // RFC 8259 §8.1: UTF-8 without a byte order mark.
    let text = std::str::from_utf8(bytes).map_err(|_| BodyFault::BodyMalformed)?;
    let mut reader = Reader { text, at: 0, values: vec![None; fields.len()], fields };
    let wanted = fields.iter().enumerate().map(|(position, field)| (position, &*field.name));
    let wanted: Vec<Wanted<'_>> = wanted.collect();
    reader.space();
    reader.value(shape, &wanted, 1)?;
    reader.space();
    if reader.at != text.len() {
        return Err(BodyFault::BodyMalformed);
    }
    let missing = |(field, value): (&Field, &Option<Value>)| field.required && value.is_none();
    if fields.iter().zip(&reader.values).any(missing) {
        return Err(BodyFault::BodyMemberMissing);
    }
    Ok(reader.values)
}

/// A field that a rule reads: its position, and what is left of its name from here on.
type Wanted<'f> = (usize, &'f str);

struct Reader<'t, 'f> {
    text: &'t str,
    at: usize,
    fields: &'f [Field],
    values: Vec<Option<Value>>,
}

impl<'f> Reader<'_, 'f> {
    /// One value at a place where rules want these fields of what is in it; `depth` counts open
    /// arrays and objects, this one included.
    fn value(
        &mut self,
        shape: &BodyShape,
        wanted: &[Wanted<'f>],
        depth: usize,
    ) -> Result<(), BodyFault> {
        match self.peek() {
            Some(b'{') => self.object(shape, wanted, depth),
            // Only objects have members: a rule reads in vain here, and the body lies about itself.
            _ if !wanted.is_empty() => {
                self.skip(&BodyShape::Any, depth)?;
                Err(BodyFault::BodyMemberIllTyped)
            }
            _ => self.skip(shape, depth),
        }
    }

    fn object(
        &mut self,
        shape: &BodyShape,
        wanted: &[Wanted<'f>],
        depth: usize,
    ) -> Result<(), BodyFault> {
        if depth > MAX_DEPTH {
            return Err(BodyFault::BodyTooDeep);
        }
        let mut names: HashSet<String> = HashSet::new();
        self.at += 1;
        self.space();
        if !self.take(b'}') {
            loop {
                self.space();
                self.member(shape, wanted, depth, &mut names)?;
                self.space();
                if self.take(b'}') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        let read = |member: &&Member| wanted.iter().any(|(_, rest)| within(rest, &member.name));
        let lacks = |member: &Member| member.required && !names.contains(&folded(&member.name));
        if shape.members().iter().filter(read).any(lacks) {
            return Err(BodyFault::BodyMemberMissing);
        }
        Ok(())
    }

    fn member(
        &mut self,
        shape: &BodyShape,
        wanted: &[Wanted<'f>],
        depth: usize,
        names: &mut HashSet<String>,
    ) -> Result<(), BodyFault> {
        let name = self.string()?;
        // RFC 8259 §4: readers disagree on which of two counts; many fold case besides.
        if !names.insert(folded(&name)) {
            return Err(BodyFault::BodyMemberDoubled);
        }
        self.space();
        self.expect(b':')?;
        self.space();
        let Some(member) = shape.member(&name) else {
            undeclared(shape, &name)?;
            return self.skip(&BodyShape::Any, depth + 1);
        };
        let inner: Vec<Wanted<'f>> = wanted
            .iter()
            .filter_map(|(position, rest)| Some((*position, rest.strip_prefix(&*member.name)?)))
            .filter(|(_, rest)| rest.is_empty() || rest.starts_with('.'))
            .map(|(position, rest)| (position, rest.strip_prefix('.').unwrap_or(rest)))
            .collect();
        if inner.is_empty() {
            return self.skip(&member.shape, depth + 1);
        }
        if self.rest().starts_with("null") {
            self.skip(&BodyShape::Any, depth + 1)?;
            let absent = if member.nullable { Ok(()) } else { Err(BodyFault::BodyMemberIllTyped) };
            return absent;
        }
        match inner.iter().find(|(_, rest)| rest.is_empty()) {
            Some((position, _)) => self.field(*position, depth + 1),
            None => self.value(&member.shape, &inner, depth + 1),
        }
    }

    /// A value that a rule reads.
    fn field(&mut self, position: usize, depth: usize) -> Result<(), BodyFault> {
        let Some(field) = self.fields.get(position) else { return Ok(()) };
        let value = match &field.kind {
            FieldKind::Set(kind) => self.set(kind, depth)?,
            kind => self.single(kind, depth)?,
        };
        if let Some(slot) = self.values.get_mut(position) {
            *slot = Some(value);
        }
        Ok(())
    }

    fn set(&mut self, kind: &FieldKind, depth: usize) -> Result<Value, BodyFault> {
        if self.peek() != Some(b'[') {
            self.skip(&BodyShape::Any, depth)?;
            return Err(BodyFault::BodyMemberIllTyped);
        }
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        if !self.take(b']') {
            loop {
                self.space();
                items.push(self.single(kind, depth + 1)?);
                if items.len() > MAX_SET {
                    return Err(BodyFault::BodyMemberIllTyped);
                }
                self.space();
                if self.take(b']') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        items.sort();
        items.dedup();
        Ok(Value::Set(items))
    }

    fn single(&mut self, kind: &FieldKind, depth: usize) -> Result<Value, BodyFault> {
        let value = match self.peek() {
            Some(b'"') => {
                let text = self.string()?;
                let fits = *kind == FieldKind::Text && text.len() <= MAX_TEXT_BYTES;
                fits.then_some(Value::Text(text))
            }
            Some(b'-' | b'0'..=b'9') => {
                let number = self.number()?;
                match kind {
                    // `1.0` and `1e3` are whole to some readers and not to others.
                    FieldKind::Long => number.parse().ok().map(Value::Long),
                    FieldKind::Decimal => Decimal::parse(number).map(Value::Decimal),
                    FieldKind::Bool | FieldKind::Text | FieldKind::Set(_) => None,
                }
            }
            Some(b't' | b'f') => {
                let is_true = self.word()? == "true";
                (*kind == FieldKind::Bool).then_some(Value::Bool(is_true))
            }
            _ => {
                self.skip(&BodyShape::Any, depth)?;
                None
            }
        };
        value.ok_or(BodyFault::BodyMemberIllTyped)
    }

    /// A value that no rule reads: of what is in it, names and depth are judged.
    fn skip(&mut self, shape: &BodyShape, depth: usize) -> Result<(), BodyFault> {
        match self.peek() {
            Some(b'{') => self.object(shape, &[], depth),
            Some(b'[') => {
                let inner = match shape {
                    BodyShape::List(inner) => inner,
                    BodyShape::Value(_) | BodyShape::Object { .. } | BodyShape::Any => {
                        &BodyShape::Any
                    }
                };
                self.array(inner, depth)
            }
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ => self.word().map(drop),
        }
    }

    fn array(&mut self, shape: &BodyShape, depth: usize) -> Result<(), BodyFault> {
        if depth > MAX_DEPTH {
            return Err(BodyFault::BodyTooDeep);
        }
        self.at += 1;
        self.space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.space();
            self.skip(shape, depth + 1)?;
            self.space();
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Finds the closing quote; what is between is serde_json's to judge: escapes, control
    /// characters, and lone surrogates, which some readers replace and others keep (RFC 8259 §8.2).
    fn string(&mut self) -> Result<String, BodyFault> {
        if self.peek() != Some(b'"') {
            return Err(BodyFault::BodyMalformed);
        }
        let mut end = self.at + 1;
        loop {
            match self.text.as_bytes().get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => return Err(BodyFault::BodyMalformed),
            }
        }
        let quoted = self.text.get(self.at..=end).ok_or(BodyFault::BodyMalformed)?;
        self.at = end + 1;
        serde_json::from_str(quoted).map_err(|_| BodyFault::BodyMalformed)
    }

    /// RFC 8259 §6: `-`, whole digits without a leading zero, a fraction, an exponent.
    fn number(&mut self) -> Result<&str, BodyFault> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        self.text.get(start..self.at).ok_or(BodyFault::BodyMalformed)
    }

    fn digits(&mut self) -> Result<(), BodyFault> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(BodyFault::BodyMalformed) } else { Ok(()) }
    }

    /// RFC 8259 §3: lower case alone. What follows is the caller's to judge.
    fn word(&mut self) -> Result<&'static str, BodyFault> {
        let known = ["true", "false", "null"].into_iter();
        let word = known.into_iter().find(|word| self.rest().starts_with(word));
        let word = word.ok_or(BodyFault::BodyMalformed)?;
        self.at += word.len();
        Ok(word)
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8) -> Result<(), BodyFault> {
        if self.take(byte) { Ok(()) } else { Err(BodyFault::BodyMalformed) }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

/// Whether what is left of a field's name starts with this member.
fn within(rest: &str, member: &str) -> bool {
    rest.strip_prefix(member).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A member beyond the declared ones passes only where the shape lets it, and never under a name
/// that an upstream could take for a declared one: folded in case, or cut at a NUL.
fn undeclared(shape: &BodyShape, name: &str) -> Result<(), BodyFault> {
    let BodyShape::Object { members, extra } = shape else { return Ok(()) };
    let name = folded(name);
    let stands_in = members.iter().any(|member| folded(&member.name) == name);
    match extra {
        Extra::Allowed if !stands_in && !name.contains('\0') => Ok(()),
        Extra::Allowed | Extra::Refused => Err(BodyFault::BodyMemberUndeclared),
    }
}

/// A name without its case: to upper case and back, so that `ſ` is `s`, the Kelvin sign is `k` and
/// the dotless `ı` is `i`, as for readers that fold by Unicode.
fn folded(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    name.to_uppercase().to_lowercase()
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
