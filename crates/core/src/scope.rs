//! Scopes (RFC 6749 §3.3): a bounded, ordered set of tokens.
//!
//! What a scope permits is the access table's; here it is a word that can only be narrowed.

use std::collections::BTreeSet;
use std::fmt;

/// Longest scope list, in bytes.
pub const MAX_SCOPE_BYTES: usize = 2048;
/// Most scopes in a list.
pub const MAX_SCOPES: usize = 64;

/// A set of scope tokens. Its text form is sorted and joined by single spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(BTreeSet<Box<str>>);

/// Why a scope list cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a scope list (RFC 6749 §3.3)")]
pub struct ScopeMalformed;

impl Scopes {
    /// Reads a space-separated list; empty text is the empty set.
    pub fn parse(text: &str) -> Result<Self, ScopeMalformed> {
        if text.len() > MAX_SCOPE_BYTES {
            return Err(ScopeMalformed);
        }
        let mut set = BTreeSet::new();
        for token in text.split(' ').filter(|token| !token.is_empty()) {
            // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
            if !token.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
                return Err(ScopeMalformed);
            }
            set.insert(token.into());
        }
        if set.len() > MAX_SCOPES { Err(ScopeMalformed) } else { Ok(Scopes(set)) }
    }
    /// Whether the token is in the set.
    pub fn contains(&self, token: &str) -> bool {
        self.0.contains(token)
    }
    /// Whether every token of `self` is in `other`.
    pub fn is_subset(&self, other: &Scopes) -> bool {
        self.0.is_subset(&other.0)
    }
    /// The tokens in both.
    pub fn intersection(&self, other: &Scopes) -> Scopes {
        Scopes(self.0.intersection(&other.0).cloned().collect())
    }
    /// The tokens in either.
    pub fn union(&self, other: &Scopes) -> Scopes {
        Scopes(self.0.union(&other.0).cloned().collect())
    }
    /// The tokens, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, token) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(token)?;
        }
        Ok(())
    }
}

impl serde::Serialize for Scopes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> serde::Deserialize<'de> for Scopes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Scopes::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scopes(text: &str) -> Scopes {
        Scopes::parse(text).unwrap()
    }

    #[test]
    fn a_list_is_a_sorted_set() {
        for (text, expected) in [
            ("", ""),
            ("payments:read", "payments:read"),
            ("b a  b ", "a b"),
            (
                "https://api.example/x !#$%&'()*+,-./:;<=>?@[]^_`{|}~",
                "!#$%&'()*+,-./:;<=>?@[]^_`{|}~ https://api.example/x",
            ),
        ] {
            assert_eq!(scopes(text).to_string(), expected);
        }
        assert!(scopes(" ").is_empty());
        assert!(scopes("a b").contains("b") && !scopes("a b").contains("a b"));
    }

    #[test]
    fn a_character_outside_the_grammar_is_refused() {
        for text in ["a\"b", "a\\b", "a\tb", "a\nb", "é", "a\u{a0}b", "\u{7f}"] {
            assert_eq!(Scopes::parse(text), Err(ScopeMalformed), "{text:?}");
        }
    }

    #[test]
    fn too_many_and_too_long_are_refused() {
        let list = |count: usize| (0..count).map(|n| format!("s{n} ")).collect::<String>();
        assert!(Scopes::parse(&list(MAX_SCOPES)).is_ok());
        assert_eq!(Scopes::parse(&list(MAX_SCOPES + 1)), Err(ScopeMalformed));
        assert!(Scopes::parse(&"x".repeat(MAX_SCOPE_BYTES)).is_ok());
        assert_eq!(Scopes::parse(&"x".repeat(MAX_SCOPE_BYTES + 1)), Err(ScopeMalformed));
    }

    #[test]
    fn sets_narrow_and_join() {
        let (asked, granted) = (scopes("admin payments:read"), scopes("payments:read openid"));
        assert_eq!(asked.intersection(&granted), scopes("payments:read"));
        assert_eq!(asked.union(&granted), scopes("admin openid payments:read"));
        assert!(asked.intersection(&granted).is_subset(&granted) && !asked.is_subset(&granted));
        assert!(scopes("").is_subset(&granted));
    }

    #[test]
    fn json_carries_the_text() {
        assert_eq!(serde_json::to_string(&scopes("b a")).unwrap(), r#""a b""#);
        assert_eq!(serde_json::from_str::<Scopes>(r#""b a""#).unwrap(), scopes("a b"));
        assert!(serde_json::from_str::<Scopes>(r#""a\"b""#).is_err());
        assert!(serde_json::from_str::<Scopes>(r#"["a"]"#).is_err());
    }

    proptest! {
        #[test]
        fn its_own_text_is_read_back(text in "[a-z: ]{0,60}") {
            let set = scopes(&text);
            prop_assert_eq!(scopes(&set.to_string()), set);
        }
    }
}
