//! A JSON object (or list) read twice as strictly as JSON asks: doubled members anywhere, depth over
//! 16 and anything but one such value are refused before a value is believed.
//!
//! Two readers that disagree about which of two equal members counts are how a checked token
//! becomes another one behind the check (RFC 8259 §4, RFC 7515 §10.12). This walk builds nothing;
//! the typed reading follows it.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::jws::TokenFault;

/// Deepest nesting: our own claims need 3, a key set 3; recursion stays far from the stack's end.
pub(super) const MAX_DEPTH: u8 = 16;

/// Checks that the bytes are exactly one JSON object, without doubled members, in UTF-8.
pub(super) fn check_object(bytes: &[u8]) -> Result<(), TokenFault> {
    // RFC 7515 §4 and RFC 7519 §7.2: the header and the claims are each one JSON object.
    check(bytes, |reader, shape| reader.deserialize_map(shape))
}

/// The same of one list.
pub(super) fn check_list(bytes: &[u8]) -> Result<(), TokenFault> {
    check(bytes, |reader, shape| reader.deserialize_seq(shape))
}

type Reader<'de> = serde_json::Deserializer<serde_json::de::SliceRead<'de>>;

fn check<'de>(
    bytes: &'de [u8],
    walk: impl FnOnce(&mut Reader<'de>, Shape<'_>) -> serde_json::Result<()>,
) -> Result<(), TokenFault> {
    let doubled = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let shape = Shape { depth: 0, doubled: &doubled };
    let walked = walk(&mut reader, shape).and_then(|()| reader.end());
    match walked {
        Ok(()) => Ok(()),
        Err(_) if doubled.get() => Err(TokenFault::MemberDoubled),
        Err(_) => Err(TokenFault::NotCompact),
    }
}

/// One value of the walk, at its depth.
#[derive(Clone, Copy)]
struct Shape<'f> {
    depth: u8,
    doubled: &'f Cell<bool>,
}

impl<'f> Shape<'f> {
    fn deeper<E: Error>(self) -> Result<Shape<'f>, E> {
        let depth = self.depth.saturating_add(1);
        let deeper = Shape { depth, ..self };
        if depth > MAX_DEPTH { Err(E::custom("too deep")) } else { Ok(deeper) }
    }
}

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without doubled members")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut names = Vec::with_capacity(16);
        while let Some(name) = members.next_key_seed(Name)? {
            names.push(name);
            members.next_value_seed(inner)?;
        }
        // Sorted, not compared pair by pair: a stranger chooses how many there are. Names are
        // compared unescaped, so that `"aud"` and `"\u0061ud"` are the same.
        names.sort_unstable();
        // RFC 7515 §4, RFC 7519 §4: names within an object MUST be unique.
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            self.doubled.set(true);
            return Err(A::Error::custom("doubled member"));
        }
        Ok(())
    }
}

/// A member's name, borrowed when it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }
    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }
    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        // The outer object is one level; each `[` another.
        format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
    }

    #[test]
    fn one_object_passes() {
        for good in [
            r#"{}"#,
            r#" {"a":1,"b":-2,"c":1.5,"d":"x","e":null,"f":true} "#,
            r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}"#,
            r#"{"":1}"#,
        ] {
            assert_eq!(check_object(good.as_bytes()), Ok(()), "{good}");
        }
    }

    #[test]
    fn member_doubled() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"aud":"x","b":2,"\u0061ud":"y"}"#,
            r#"{"a":{"b":1,"c":2,"b":3}}"#,
            r#"{"a":[1,[{"b":1,"b":1}]]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(check_object(bad.as_bytes()), Err(TokenFault::MemberDoubled), "{bad}");
        }
    }

    #[test]
    fn not_one_object() {
        for bad in [
            "",
            " ",
            "null",
            "1",
            "\"a\"",
            "[]",
            "[{}]",
            "{}{}",
            "{},",
            "{\"a\":1,}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":+1}",
            "{\"a\":NaN}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\n\"}",
            "\u{feff}{}",
            "{\"a\":1}//",
            "{\"a\":1e999}",
        ] {
            assert_eq!(check_object(bad.as_bytes()), Err(TokenFault::NotCompact), "{bad:?}");
        }
        assert_eq!(check_object(b"{\"a\":\"\xff\"}"), Err(TokenFault::NotCompact));
        assert_eq!(check_object(b"{\"\xff\":1}"), Err(TokenFault::NotCompact));
    }

    #[test]
    fn depth_is_bounded() {
        assert_eq!(check_object(nested(16).as_bytes()), Ok(()));
        assert_eq!(check_object(nested(17).as_bytes()), Err(TokenFault::NotCompact));
        assert_eq!(check_object(nested(100_000).as_bytes()), Err(TokenFault::NotCompact));
    }
}
