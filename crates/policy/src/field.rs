//! Declared fields of a request: what a rule may read of query, headers and body, and their values.
//!
//! A value has one of Cedar's types and no float: `integer` is a Long, `number` a decimal of four
//! places, so that a rule about money compares money (`7-authorization`, the schema).

use std::fmt;

/// Longest text value, in bytes; also longest name of a field.
pub const MAX_TEXT_BYTES: usize = 1024;
/// Most members of a set value.
pub const MAX_SET: usize = 64;

/// The type of a declared field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// `boolean`.
    Bool,
    /// `integer`: 64 bits.
    Long,
    /// `number`: at most four places.
    Decimal,
    /// `string`.
    Text,
    /// An array of one of the others, without order and doubles.
    Set(Box<FieldKind>),
}

/// One declared field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name; members of objects are joined by a dot: `card.number` is `resource.body.card.number`.
    pub name: Box<str>,
    /// Its type.
    pub kind: FieldKind,
    /// Whether every request has it. One that may be absent is guarded in conditions.
    pub required: bool,
}

/// A value of a declared field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `boolean`.
    Bool(bool),
    /// `integer`.
    Long(i64),
    /// `number`.
    Decimal(Decimal),
    /// `string`.
    Text(String),
    /// An array: sorted, without doubles.
    Set(Vec<Value>),
}

/// A number with four places, as Cedar's `decimal`: a count of ten-thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(i64);

impl Decimal {
    /// From ten-thousandths.
    pub fn from_ten_thousandths(count: i64) -> Self {
        Decimal(count)
    }

    /// In ten-thousandths.
    pub fn ten_thousandths(self) -> i64 {
        self.0
    }

    /// Reads a JSON number or Cedar literal: sign, digits, at most four places; no exponent, no
    /// leading zero, nothing that does not fit. `-0` is `0`.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, places) = digits.split_once('.').unwrap_or((digits, "0"));
        let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !are_digits(whole) || !are_digits(places) || places.len() > 4 {
            return None;
        }
        if whole.len() > 1 && whole.starts_with('0') {
            return None;
        }
        let scale = 10_i128.pow(4 - u32::try_from(places.len()).ok()?);
        let whole: i128 = whole.parse::<i64>().ok()?.into();
        let count = whole * 10_000 + i128::from(places.parse::<i64>().ok()?) * scale;
        i64::try_from(if negative { -count } else { count }).ok().map(Decimal)
    }
}

/// As Cedar writes it: at least one place.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = i128::from(self.0);
        let sign = if count < 0 { "-" } else { "" };
        let (whole, rest) = (count.abs() / 10_000, count.abs() % 10_000);
        let places = format!("{rest:04}");
        let trimmed = places.trim_end_matches('0');
        write!(f, "{sign}{whole}.{}", if trimmed.is_empty() { "0" } else { trimmed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_or_not_at_all() {
        for (text, shown) in [
            ("0", Some("0.0")),
            ("-0", Some("0.0")),
            ("1000", Some("1000.0")),
            ("1.5", Some("1.5")),
            ("-1.0001", Some("-1.0001")),
            ("922337203685477.5807", Some("922337203685477.5807")),
            ("-922337203685477.5808", Some("-922337203685477.5808")),
            ("922337203685477.5808", None),
            ("1.00001", None),
            ("1e3", None),
            ("01", None),
            (".5", None),
            ("5.", None),
            ("+1", None),
            ("", None),
            ("-", None),
            ("1.-5", None),
        ] {
            let read = Decimal::parse(text).map(|decimal| decimal.to_string());
            assert_eq!(read.as_deref(), shown, "{text}");
        }
    }
}
