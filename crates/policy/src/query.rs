//! Query and header parameters that rules read: declared names, each at most once, in one canonical
//! spelling. Names that no rule reads pass untouched.
//!
//! A query has no grammar that all upstreams share (RFC 3986 §3.4 gives none), so a declared
//! parameter is taken only in the spelling that all of them read alike:
//! - **The name** stands exactly as declared. What some reader could take for it is refused:
//!   escapes, other case, brackets (`id[]`, `id[0]`), `.` or a space for `_` (PHP), spaces around
//!   it, a NUL behind it.
//! - **Separators**: `&` alone. `;` separates for some readers and not for others: a declared name
//!   behind one is refused, and so is a value that holds one (write `%3B`).
//! - **A value** has `=` before it. `+` is a space to some and a plus to others: refused, write
//!   `%20` or `%2B`. Escapes are of upper-case digits (RFC 3986 §2.1) and only of what needs one
//!   (§6.2.2.2), save `~`, which form encoders escape. No control characters, no space at an end.
//! - **Sets** are one list with commas, `a=x,y` (OpenAPI `explode: false`); an escaped comma is
//!   refused.

use crate::field::{Decimal, Field, FieldKind, MAX_SET, MAX_TEXT_BYTES, Value};
use crate::lookalike::nibble;

/// Why a query or header is refused: 400, with the rule's name as the record's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryFault {
    /// A declared name stands twice, also when it is escaped or its case is folded.
    #[error("a parameter that rules read stands twice")]
    ParameterDoubled,
    /// A declared name in another spelling: escaped, in other case, with brackets, behind a `;`.
    #[error("a parameter that rules read is spelled in another way than declared")]
    ParameterMisspelt,
    /// Not the canonical spelling of a value of its type.
    #[error("a parameter that rules read has another type than declared")]
    ParameterIllTyped,
}

/// The values of the declared parameters, in their order, from a raw query (without `?`).
///
/// # Errors
/// See [`QueryFault`].
pub fn read(fields: &[Field], raw: Option<&str>) -> Result<Vec<Option<Value>>, QueryFault> {
    let mut values = vec![None; fields.len()];
    let Some(raw) = raw.filter(|_| !fields.is_empty()) else { return Ok(values) };
    let names: Vec<String> = fields.iter().map(|field| folded(field.name.as_bytes())).collect();
    // Doubled before ill-typed: what counts is told apart from how it is spelled.
    let mut misspelt = false;
    let mut seen = vec![false; fields.len()];
    for (position, exact) in raw.split('&').flat_map(|pair| mentions(pair, fields, &names)) {
        let Some(slot) = seen.get_mut(position) else { continue };
        if std::mem::replace(slot, true) {
            return Err(QueryFault::ParameterDoubled);
        }
        misspelt |= exact == Spelling::Other;
    }
    if misspelt {
        return Err(QueryFault::ParameterMisspelt);
    }
    for pair in raw.split('&') {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (pair, None),
        };
        for (field, slot) in fields.iter().zip(&mut values) {
            if &*field.name == name {
                let value = value.ok_or(QueryFault::ParameterIllTyped)?;
                *slot = Some(value_of(&field.kind, value).ok_or(QueryFault::ParameterIllTyped)?);
            }
        }
    }
    Ok(values)
}

/// The value of one header field. A set is a list with commas, spaces around each allowed
/// (RFC 9110 §5.6.1); a member of it is no quoted string.
///
/// # Errors
/// [`QueryFault::ParameterIllTyped`].
pub fn header(kind: &FieldKind, text: &str) -> Result<Value, QueryFault> {
    // RFC 9110 §5.5: visible characters, spaces between them; what is beyond ASCII is opaque.
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let is_trim = text.trim() == text && text.len() <= MAX_TEXT_BYTES;
    let value = match kind {
        _ if !is_plain || !is_trim => None,
        FieldKind::Set(_) if text.contains('"') => None,
        FieldKind::Set(kind) => {
            let items = text.split(',').map(|item| header_single(kind, item.trim_matches(' ')));
            set(items)
        }
        kind => header_single(kind, text),
    };
    value.ok_or(QueryFault::ParameterIllTyped)
}

fn header_single(kind: &FieldKind, text: &str) -> Option<Value> {
    match kind {
        FieldKind::Text => Some(Value::Text(text.to_owned())),
        kind => plain(kind, text),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Declared,
    Other,
}

/// The declared parameters that some reader finds in a pair, each once.
fn mentions<'f>(
    pair: &'f str,
    fields: &'f [Field],
    names: &'f [String],
) -> impl Iterator<Item = (usize, Spelling)> + 'f {
    pair.split(';').enumerate().flat_map(move |(behind, piece)| {
        let name = piece.split_once('=').map_or(piece, |(name, _)| name);
        let readings = readings(name);
        fields.iter().zip(names).enumerate().filter_map(move |(position, (field, known))| {
            if behind == 0 && &*field.name == name {
                return Some((position, Spelling::Declared));
            }
            readings.contains(known).then_some((position, Spelling::Other))
        })
    })
}

/// What readers could make of a name: escapes undone (twice, as behind a careless proxy), cut at a
/// bracket or NUL, or with the characters replaced that PHP replaces.
fn readings(name: &str) -> Vec<String> {
    let once = unescaped(name.as_bytes());
    let twice = unescaped(&once);
    let mut readings = Vec::new();
    for bytes in [name.as_bytes(), &once, &twice] {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
        let cut = text.split(['[', '\0']).next().unwrap_or_default();
        let dot = text.rsplit(['.', ']', '[']).find(|part| !part.is_empty()).unwrap_or_default();
        for one in [text, cut] {
            readings.push(folded(one.as_bytes()));
            readings.push(folded(one.replace(['.', ' ', '['], "_").as_bytes()));
        }
        // `filter.id` is no `id`; but `[id]` and `.id` are for readers that drop what is empty.
        if text.starts_with(['.', '[']) {
            readings.push(folded(dot.as_bytes()));
        }
    }
    readings
}

/// Percent escapes and `+` undone; a broken escape stays.
fn unescaped(raw: &[u8]) -> Vec<u8> {
    let plus: Vec<u8> = raw.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    crate::lookalike::unescape(&plus)
}

/// Without its case, as readers fold by Unicode (`ſ` is `s`).
fn folded(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_uppercase().to_lowercase()
}

fn value_of(kind: &FieldKind, raw: &str) -> Option<Value> {
    match kind {
        FieldKind::Set(kind) => {
            let escaped_comma = raw.contains("%2C");
            let items = raw.split(',').map(|item| value_of(kind, item));
            let items = items.map(|item| item.filter(|item| *item != Value::Text(String::new())));
            if escaped_comma { None } else { set(items) }
        }
        FieldKind::Text => decoded(raw).map(Value::Text),
        kind => plain(kind, raw),
    }
}

fn set(items: impl Iterator<Item = Option<Value>>) -> Option<Value> {
    let items: Option<Vec<Value>> = items.take(MAX_SET + 1).collect();
    let mut items = items.filter(|items| items.len() <= MAX_SET)?;
    items.sort();
    items.dedup();
    Some(Value::Set(items))
}

/// A value whose spelling has no need of escapes.
fn plain(kind: &FieldKind, text: &str) -> Option<Value> {
    match kind {
        FieldKind::Bool if text == "true" => Some(Value::Bool(true)),
        FieldKind::Bool if text == "false" => Some(Value::Bool(false)),
        FieldKind::Long => {
            let number: i64 = text.parse().ok()?;
            (number.to_string() == text).then_some(Value::Long(number))
        }
        FieldKind::Decimal if text != "-0" => Decimal::parse(text).map(Value::Decimal),
        FieldKind::Bool | FieldKind::Decimal | FieldKind::Text | FieldKind::Set(_) => None,
    }
}

/// A text in its canonical spelling, decoded once.
fn decoded(raw: &str) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            // WHATWG URL §5.1 reads `+` as a space, RFC 3986 as itself; `;` may separate.
            if !byte.is_ascii_graphic() || matches!(byte, b'+' | b';') {
                return None;
            }
            out.push(byte);
            continue;
        }
        let (high, low) = (bytes.next()?, bytes.next()?);
        let is_upper_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'A'..=b'F');
        if !is_upper_hex(high) || !is_upper_hex(low) {
            return None;
        }
        let byte = nibble(high) << 4 | nibble(low);
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            return None;
        }
        out.push(byte);
    }
    let text = String::from_utf8(out).ok()?;
    let is_sound =
        text.len() <= MAX_TEXT_BYTES && text.trim() == text && !text.chars().any(char::is_control);
    is_sound.then_some(text)
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
