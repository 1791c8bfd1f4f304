//! Typed ids: an id of one kind cannot stand where another is asked for.
//!
//! User ids start with `u_`, which no client id may: access tokens carry both in `sub`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::entropy::Entropy;
use crate::jose::base64url;

/// A kind of id: its prefix, and its name in messages.
pub trait Kind: 'static {
    /// What minted ids of the kind start with; empty for names chosen by people.
    const PREFIX: &'static str;
    /// The kind's name in messages.
    const NAME: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $prefix:literal $name:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $kind {}
        impl Kind for $kind {
            const PREFIX: &'static str = $prefix;
            const NAME: &'static str = $name;
        }
    )*};
}

kinds! {
    /// A person.
    User = "u_" "user";
    /// Software; its id is a name chosen by the operator.
    Client = "" "client";
    /// A login session.
    Session = "s_" "session";
    /// What a user granted a client.
    Grant = "g_" "grant";
    /// One arrival at the gateway.
    Request = "r_" "request";
    /// One access token (`jti`).
    Token = "t_" "token";
    /// A known device.
    Device = "d_" "device";
    /// A user's factor.
    Credential = "f_" "credential";
    /// An API key of a service client.
    ApiKey = "k_" "API key";
}

/// Longest id accepted from outside, in bytes.
pub const MAX_ID: usize = 64;

/// Longest client id that is the address of a metadata document, in bytes: as long as the token
/// endpoint reads (`oauth::token::MAX_CLIENT_ID_BYTES`).
pub const MAX_DOCUMENT_ID: usize = 256;

/// An id of kind `K`: 1 to 64 of `A–Z a–z 0–9 - _ .`, starting with the kind's prefix. A
/// client's may also be the https address of its metadata document.
pub struct Id<K> {
    text: Arc<str>,
    kind: PhantomData<fn() -> K>,
}

/// Why a text is not an id of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a {0} id: 1 to 64 of letters, digits, `-`, `_`, `.`, with the kind's prefix")]
pub struct IdMalformed(pub &'static str);

impl<K: Kind> Id<K> {
    /// A new id of 128 random bits behind the kind's prefix.
    pub fn mint(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0u8; 16];
        entropy.fill(&mut bytes);
        Id { text: format!("{}{}", K::PREFIX, base64url::encode(&bytes)).into(), kind: PhantomData }
    }

    /// Reads an id that came from outside.
    ///
    /// # Errors
    /// [`IdMalformed`] when it is empty, too long, has a foreign character or another prefix; a
    /// client id that starts like a user id is refused too.
    pub fn parse(text: &str) -> Result<Self, IdMalformed> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let shaped = !text.is_empty() && text.len() <= MAX_ID && text.bytes().all(plain);
        let shaped = shaped || (K::PREFIX.is_empty() && is_document(text));
        let foreign = K::PREFIX.is_empty() && text.starts_with(User::PREFIX);
        if !shaped || foreign || !text.starts_with(K::PREFIX) {
            return Err(IdMalformed(K::NAME));
        }
        Ok(Id { text: text.into(), kind: PhantomData })
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether a text is shaped like the address of a client's metadata document (client ID metadata
/// documents §3): https, a path, no fragment; nothing in it that a log, a header, a form or a key of
/// several parts could stumble over. Which addresses are taken, and what they say, is identity's.
fn is_document(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/".contains(&b);
    let Some(rest) = text.strip_prefix("https://") else { return false };
    let Some((authority, path)) = rest.split_once('/') else { return false };
    let authority_is_plain = !authority.is_empty() && !authority.contains(['@', '%']);
    text.len() <= MAX_DOCUMENT_ID
        && text.bytes().all(plain)
        && authority_is_plain
        && !path.is_empty()
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        Id { text: self.text.clone(), kind: PhantomData }
    }
}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl<K> serde::Serialize for Id<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
impl<'de, K: Kind> serde::Deserialize<'de> for Id<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Id::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_never_looks_like_a_user_id() {
        assert!(Id::<Client>::parse("ledger").is_ok());
        assert!(Id::<Client>::parse("u_ledger").is_err());
        assert!(Id::<User>::parse("ledger").is_err());
    }

    #[test]
    fn ids_are_bounded_and_plain() {
        assert!(Id::<Client>::parse("").is_err());
        assert!(Id::<Client>::parse(&"a".repeat(65)).is_err());
        for bad in ["a b", "a/b", "a\n", "ä", "a\u{0}"] {
            assert!(Id::<Client>::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_client_id_may_be_the_address_of_a_document() {
        let longest = format!("https://a.example/{}", "a".repeat(MAX_DOCUMENT_ID - 18));
        for good in ["https://app.example/client.json", "https://app.example:8443/a/b~c", &longest]
        {
            assert!(Id::<Client>::parse(good).is_ok(), "{good}");
            assert!(Id::<Token>::parse(good).is_err(), "of no other kind: {good}");
        }
        for bad in [
            "http://app.example/c",
            "https://app.example",
            "https://app.example/",
            "https:///c",
            "https://a@app.example/c",
            "https://app.example/c#f",
            "https://app.example/c?x=1",
            "https://app.example/a b",
            "https://app.example/\"",
            "https://app.example/\n",
            "https://äpp.example/c",
            &format!("{longest}a"),
        ] {
            assert!(Id::<Client>::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_minted_id_has_its_kind_and_never_repeats() {
        let entropy = crate::entropy::SeededEntropy::new(1);
        let (one, other) = (Id::<User>::mint(&entropy), Id::<User>::mint(&entropy));
        assert_ne!(one, other);
        assert!(one.as_str().starts_with("u_") && one.as_str().len() == 24);
        assert_eq!(Id::<User>::parse(one.as_str()), Ok(one.clone()));
        assert_eq!(Id::<Session>::parse(one.as_str()), Err(IdMalformed("session")));
    }

    #[test]
    fn json_is_parsed_like_anything_from_outside() {
        let id: Id<User> = serde_json::from_str(r#""u_\u0061lice""#).expect("an id");
        assert_eq!(serde_json::to_string(&id).expect("text"), r#""u_alice""#);
        for bad in [r#""alice""#, r#""u_a b""#, "7", "null", r#"["u_alice"]"#] {
            assert!(serde_json::from_str::<Id<User>>(bad).is_err(), "{bad}");
        }
    }
}
