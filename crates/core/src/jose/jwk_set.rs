//! Sets of public keys (RFC 7517 §5): ours, a client's, a foreign issuer's.
//!
//! A set is read whole or not at all, within bounds, and only looked things up in afterwards.
//! Fetching one is the gateway's guarded fetcher's.

use serde_json::{Value, json};

use super::algorithm::Algorithm;
use super::jwk::{Jwk, JwkMalformed, malformed, refuse_private};
use super::jws;

/// Most keys in a set.
pub const MAX_KEYS: usize = 64;
/// Longest set, in bytes.
pub const MAX_SET_BYTES: usize = 64 * 1024;

/// A bounded set of keys.
#[derive(Clone, Default)]
pub struct JwkSet(Vec<Jwk>);

impl JwkSet {
    /// Of these keys.
    pub fn new(keys: Vec<Jwk>) -> Self {
        JwkSet(keys)
    }

    /// Reads `{"keys": […]}`. Keys that we cannot verify with (unknown kinds and curves, `use` of
    /// `enc`, weak ones) are skipped (RFC 7517 §5); private ones refuse the set, and so does a set
    /// of which nothing is left.
    ///
    /// # Errors
    /// [`JwkMalformed`], in words for the operator whose file this is.
    pub fn from_json(text: &[u8]) -> Result<Self, JwkMalformed> {
        if text.len() > MAX_SET_BYTES {
            return Err(malformed("a key set may have 64 KiB"));
        }
        let set = jws::strict_object(text)
            .map_err(|fault| JwkMalformed(format!("not a JSON object of keys: {fault}")))?;
        let listed = set.get("keys").and_then(Value::as_array);
        let listed = listed.ok_or_else(|| malformed("a key set must have a list named `keys`"))?;
        if listed.len() > MAX_KEYS {
            return Err(malformed("a key set may have 64 keys"));
        }
        let (mut keys, mut last) = (Vec::<Jwk>::new(), None);
        for value in listed {
            value.as_object().map_or(Ok(()), refuse_private)?;
            match Jwk::from_json(value) {
                Ok(key) if keys.iter().any(|other| other.answers_as(&key)) => {
                    return Err(malformed("two keys share a `kid`"));
                }
                Ok(key) => keys.push(key),
                Err(skipped) => last = Some(skipped),
            }
        }
        match last {
            Some(JwkMalformed(why)) if keys.is_empty() => {
                Err(JwkMalformed(format!("no key in the set can verify a signature: {why}")))
            }
            _ => Ok(JwkSet(keys)),
        }
    }

    /// The key of a `kid`; without a `kid`, the set's only key of that algorithm.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Jwk> {
        // RFC 8725 §3.1: a key of that name for another algorithm is not the key.
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.algorithm() == algorithm && (kid.is_none() || key.kid() == kid));
        match (fitting.next(), kid) {
            (found, Some(_)) => found,
            // Never a guess among several.
            (found, None) => found.filter(|_| fitting.next().is_none()),
        }
    }

    /// All keys.
    pub fn iter(&self) -> impl Iterator<Item = &Jwk> {
        self.0.iter()
    }

    /// `{"keys": […]}`.
    pub fn to_json(&self) -> Value {
        json!({ "keys": self.0.iter().map(Jwk::to_json).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(algorithm: Algorithm) -> Value {
        crate::jose::sign::SigningKey::generate(algorithm).expect("a key").public().to_json()
    }
    fn ed() -> Value {
        made(Algorithm::EdDsa)
    }
    fn ec() -> Value {
        made(Algorithm::Es256)
    }
    fn rsa() -> Value {
        // An odd number of 2048 bits: enough to be read, and nothing here is signed with it.
        let n = super::super::base64url::encode(&[0xff; 256]);
        json!({ "kty": "RSA", "n": n, "e": "AQAB" })
    }
    fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
        jwk[name] = value.into();
        jwk
    }
    fn read(jwk: &Value) -> Jwk {
        Jwk::from_json(jwk).expect("a key")
    }

    #[test]
    fn a_set_finds_the_one_key() {
        let set = json!({ "keys": [
            with(ed(), "kid", "a"), with(ec(), "kid", "a"), with(rsa(), "kid", "b"),
            with(ed(), "use", "enc"), { "kty": "new" }, with(rsa(), "n", "AQAB"), 7,
        ], "more": true });
        let set = JwkSet::from_json(set.to_string().as_bytes()).expect("a set");
        assert_eq!(set.iter().count(), 3, "the rest is skipped (RFC 7517 §5)");
        assert!(set.find(Some("a"), Algorithm::EdDsa).is_some());
        assert!(set.find(Some("a"), Algorithm::Es256).is_some());
        assert!(set.find(Some("a"), Algorithm::Ps256).is_none());
        assert!(set.find(Some("A"), Algorithm::EdDsa).is_none());
        assert!(set.find(None, Algorithm::EdDsa).is_some());
        assert!(set.find(None, Algorithm::Rs256).is_none());
        let back = JwkSet::from_json(set.to_json().to_string().as_bytes()).expect("back");
        assert_eq!(back.iter().count(), 3);
        let two = JwkSet::new(vec![read(&ed()), read(&with(ed(), "kid", "b"))]);
        assert!(two.find(None, Algorithm::EdDsa).is_none(), "never a guess");
    }

    #[test]
    fn an_rsa_key_that_does_not_say_its_algorithm() {
        use Algorithm::{Ps256, Rs256};
        let set = json!({ "keys": [with(rsa(), "kid", "r"), with(ec(), "kid", "e")] }).to_string();
        let found =
            |set: &JwkSet| [Rs256, Ps256].map(|algorithm| set.find(Some("r"), algorithm).is_some());
        let ours = JwkSet::from_json(set.as_bytes()).expect("a set");
        assert_eq!(found(&ours), [false, true], "RS256 wants to be said");
    }

    #[test]
    fn each_rule_refuses_a_set() {
        let many = json!({ "keys": vec![json!({}); MAX_KEYS + 1] }).to_string();
        let long = format!("{{\"keys\":[]{}}}", " ".repeat(MAX_SET_BYTES));
        let private = json!({ "keys": [ed(), with(ec(), "d", "AAAA")] }).to_string();
        let symmetric = json!({ "keys": [ed(), { "kty": "oct", "k": "AAAA" }] }).to_string();
        let same = json!({ "keys": [with(ed(), "kid", "a"), with(ed(), "kid", "a")] }).to_string();
        let none = json!({ "keys": [with(ed(), "use", "enc")] }).to_string();
        let doubled = r#"{"keys":[{"kty":"OKP","kty":"EC"}]}"#;
        let deep = format!("{{\"keys\":[],\"a\":{}{}}}", "[".repeat(99), "]".repeat(99));
        let table = [
            ("", "JSON object"),
            ("[]", "JSON object"),
            ("{}", "`keys`"),
            (r#"{"keys":{}}"#, "`keys`"),
            (r#"{"keys":[],"keys":[]}"#, "doubled"),
            (doubled, "doubled"),
            (&deep, "JSON object"),
            (&many, "64 keys"),
            (&long, "64 KiB"),
            (&private, "private member `d`"),
            (&symmetric, "private member `k`"),
            (&same, "share a `kid`"),
            (&none, "`use`"),
        ];
        for (text, expected) in table {
            let JwkMalformed(why) = JwkSet::from_json(text.as_bytes()).err().expect("refused");
            assert!(why.contains(expected), "{text}: {why}");
        }
        assert_eq!(JwkSet::from_json(br#"{"keys":[]}"#).expect("empty").iter().count(), 0);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = JwkSet::from_json(&bytes);
        }
    }
}
