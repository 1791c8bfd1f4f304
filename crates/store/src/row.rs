//! Values and rows between the records and whichever database holds them: no driver's type leaves
//! its folder, and a bearer value has no way in but as its digest.

use std::rc::Rc;

use portcullis_core::bearer::Digest;
use portcullis_core::id::{Id, Kind};
use portcullis_core::jose::claims::FactorTimes;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;

use crate::database::StoreFault;

/// A value bound to a statement, or read from a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Integer(value)
    }
}
impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Value::Integer(value.nanos())
    }
}
impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}
impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}
impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Value::Blob(value.to_owned())
    }
}
impl<K: Kind> From<&Id<K>> for Value {
    fn from(value: &Id<K>) -> Self {
        Value::Text(value.as_str().to_owned())
    }
}
impl<K> From<&Digest<K>> for Value {
    fn from(value: &Digest<K>) -> Self {
        Value::Blob(value.as_bytes().to_vec())
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// The values of a statement: the n-th is `$n` in its text.
macro_rules! bind {
    ($($value:expr),* $(,)?) => {
        &[$($crate::row::Value::from($value)),*]
    };
}
pub(crate) use bind;

/// One row, read by column name: a reordered `SELECT` cannot swap two fields.
#[derive(Debug)]
pub(crate) struct Row {
    columns: Rc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(columns: Rc<[String]>, values: Vec<Value>) -> Self {
        Row { columns, values }
    }

    fn value(&self, column: &str) -> Option<&Value> {
        let position = self.columns.iter().position(|name| name == column)?;
        self.values.get(position)
    }

    /// An integer that must be there.
    pub(crate) fn integer(&self, column: &str) -> Result<i64, StoreFault> {
        self.integer_if_any(column)?.ok_or_else(|| unreadable(column))
    }

    /// An integer or nothing.
    pub(crate) fn integer_if_any(&self, column: &str) -> Result<Option<i64>, StoreFault> {
        match self.value(column) {
            Some(Value::Null) => Ok(None),
            Some(Value::Integer(value)) => Ok(Some(*value)),
            Some(Value::Text(_) | Value::Blob(_)) | None => Err(unreadable(column)),
        }
    }

    /// An integer that is never below zero.
    pub(crate) fn natural(&self, column: &str) -> Result<u64, StoreFault> {
        u64::try_from(self.integer(column)?).map_err(|_| unreadable(column))
    }

    /// A moment.
    pub(crate) fn moment(&self, column: &str) -> Result<Timestamp, StoreFault> {
        self.integer(column).map(Timestamp::from_nanos)
    }

    /// A moment or nothing.
    pub(crate) fn moment_if_any(&self, column: &str) -> Result<Option<Timestamp>, StoreFault> {
        Ok(self.integer_if_any(column)?.map(Timestamp::from_nanos))
    }

    /// A text that must be there.
    pub(crate) fn text(&self, column: &str) -> Result<&str, StoreFault> {
        self.text_if_any(column)?.ok_or_else(|| unreadable(column))
    }

    /// A text or nothing.
    pub(crate) fn text_if_any(&self, column: &str) -> Result<Option<&str>, StoreFault> {
        match self.value(column) {
            Some(Value::Null) => Ok(None),
            Some(Value::Text(value)) => Ok(Some(value)),
            Some(Value::Integer(_) | Value::Blob(_)) | None => Err(unreadable(column)),
        }
    }

    /// Exactly `N` bytes.
    pub(crate) fn bytes<const N: usize>(&self, column: &str) -> Result<[u8; N], StoreFault> {
        match self.value(column) {
            Some(Value::Blob(bytes)) => bytes.as_slice().try_into().map_err(|_| unreadable(column)),
            Some(Value::Null | Value::Integer(_) | Value::Text(_)) | None => {
                Err(unreadable(column))
            }
        }
    }

    /// An id of its kind.
    pub(crate) fn id<K: Kind>(&self, column: &str) -> Result<Id<K>, StoreFault> {
        Id::parse(self.text(column)?).map_err(|_| unreadable(column))
    }

    /// When each factor was used.
    pub(crate) fn factors(&self) -> Result<FactorTimes, StoreFault> {
        Ok(FactorTimes {
            pwd: self.integer_if_any("pwd")?,
            otp: self.integer_if_any("otp")?,
            hwk: self.integer_if_any("hwk")?,
        })
    }

    /// Scopes.
    pub(crate) fn scopes(&self) -> Result<Scopes, StoreFault> {
        Scopes::parse(self.text("scopes")?).map_err(|_| unreadable("scopes"))
    }

    /// A count that fits 32 bits.
    pub(crate) fn count(&self, column: &str) -> Result<u32, StoreFault> {
        u32::try_from(self.integer(column)?).map_err(|_| unreadable(column))
    }

    /// A JSON document.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(
        &self,
        column: &str,
    ) -> Result<T, StoreFault> {
        serde_json::from_str(self.text(column)?).map_err(|_| unreadable(column))
    }
}

/// What a row that we did not write this way says: the column, never its value.
pub(crate) fn unreadable(column: &str) -> StoreFault {
    StoreFault::Database(format!("column `{column}` does not hold what was written there"))
}

/// A document for a JSON column.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreFault> {
    serde_json::to_string(value).map_err(|error| StoreFault::Database(error.to_string()))
}

/// Bytes of a name that people read or type (RFC 5321 §4.5.3.1.3 bounds a mail path by 256).
pub(crate) const MAX_NAME: usize = 256;
/// Bytes of a role, a group, a tenant, an attribute's name: they travel in every token.
pub(crate) const MAX_LABEL: usize = 128;
/// Roles, groups, attributes of one user (`4-identity`: at most 64 declared attributes).
pub(crate) const MAX_LABELS: usize = 64;
/// Bytes of one sealed value, hash or fact.
pub(crate) const MAX_SEALED: usize = 4096;
/// Bytes of an audience: a URL.
pub(crate) const MAX_AUDIENCE: usize = 2048;
/// Bytes of a `cnf`: one hash in base64url, with its JSON around it.
pub(crate) const MAX_BINDING: usize = 256;
/// Bytes of `authorization_details`: more than a request may carry.
pub(crate) const MAX_DETAILS: usize = 4096;
/// Bytes of a document: a client's registration with its keys.
pub(crate) const MAX_DOCUMENT: usize = 64 * 1024;

/// Refuses a text over its limit, before it reaches a statement.
pub(crate) fn bounded(what: &'static str, text: &str, most: usize) -> Result<(), StoreFault> {
    if text.len() > most { Err(StoreFault::TooMuch(what)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let columns: Vec<String> = ["n", "t", "b", "none"].map(String::from).into();
        let values = vec![
            Value::Integer(-1),
            Value::Text("u_x".into()),
            Value::Blob(vec![1, 2]),
            Value::Null,
        ];
        Row::new(columns.into(), values)
    }

    #[test]
    fn a_column_is_read_only_as_what_it_holds() {
        let row = row();
        assert_eq!(row.integer("n").expect("integer"), -1);
        assert_eq!(row.text("t").expect("text"), "u_x");
        assert_eq!(row.bytes::<2>("b").expect("bytes"), [1, 2]);
        assert_eq!(row.integer_if_any("none").expect("null"), None);
        assert_eq!(row.text_if_any("none").expect("null"), None);
        for wrong in [
            row.integer("t").is_ok(),
            row.integer("none").is_ok(),
            row.integer("absent").is_ok(),
            row.natural("n").is_ok(),
            row.text("n").is_ok(),
            row.text("none").is_ok(),
            row.text_if_any("b").is_ok(),
            row.bytes::<3>("b").is_ok(),
            row.bytes::<2>("t").is_ok(),
            row.id::<portcullis_core::id::Session>("t").is_ok(),
            row.json::<Vec<String>>("t").is_ok(),
        ] {
            assert!(!wrong);
        }
    }

    #[test]
    fn too_much() {
        assert!(bounded("a name", "abc", 3).is_ok());
        assert!(matches!(bounded("a name", "abcd", 3), Err(StoreFault::TooMuch("a name"))));
    }
}
