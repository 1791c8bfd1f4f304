//! Bearer values: shown once as [`Plain`], kept as [`Digest`]. SQL accepts only the digest.

use std::marker::PhantomData;

use zeroize::Zeroize as _;

use crate::entropy::Entropy;
use crate::hash::{same, sha256};
use crate::jose::base64url;
use crate::secret::Secret;

/// A value of 256 random bits of kind `K` in the clear: given to its bearer, then forgotten.
pub struct Plain<K> {
    text: Secret<String>,
    kind: PhantomData<fn() -> K>,
}

/// What is kept of a [`Plain`]: its SHA-256. Plain values have 256 bits of entropy, so no salt.
pub struct Digest<K> {
    bytes: [u8; 32],
    kind: PhantomData<fn() -> K>,
}

impl<K> Plain<K> {
    /// Mints a new value.
    pub fn mint(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0u8; 32];
        entropy.fill(&mut bytes);
        let text = Secret::new(base64url::encode(&bytes));
        bytes.zeroize();
        Plain { text, kind: PhantomData }
    }

    /// Reads one that came back; `None` unless it has the minted shape (43 characters of base64url).
    pub fn presented(text: &str) -> Option<Self> {
        let shaped = text.len() == 43 && base64url::decode(text).is_ok_and(|b| b.len() == 32);
        shaped.then(|| Plain { text: Secret::new(text.to_owned()), kind: PhantomData })
    }

    /// The text, for the one answer that carries it.
    pub fn reveal(&self) -> &str {
        self.text.expose()
    }

    /// What to keep, or to look up by.
    pub fn digest(&self) -> Digest<K> {
        Digest { bytes: sha256(self.text.expose().as_bytes()), kind: PhantomData }
    }
}

impl<K> Digest<K> {
    /// A digest read back from the store.
    pub fn from_stored(bytes: [u8; 32]) -> Self {
        Digest { bytes, kind: PhantomData }
    }

    /// The bytes that are stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Constant-time comparison.
    pub fn matches(&self, other: &Self) -> bool {
        same(&self.bytes, &other.bytes)
    }
}

impl<K> Clone for Digest<K> {
    fn clone(&self) -> Self {
        Digest { bytes: self.bytes, kind: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    enum Session {}

    #[test]
    fn what_is_minted_comes_back() {
        let entropy = SeededEntropy::new(1);
        let (one, other) = (Plain::<Session>::mint(&entropy), Plain::<Session>::mint(&entropy));
        let back = Plain::<Session>::presented(one.reveal()).expect("minted shape");
        assert!(back.digest().matches(&one.digest()));
        assert!(!other.digest().matches(&one.digest()));
        let stored = Digest::<Session>::from_stored(*one.digest().as_bytes());
        assert!(stored.clone().matches(&back.digest()));
    }

    #[test]
    fn another_shape_is_not_looked_up() {
        let minted = Plain::<Session>::mint(&SeededEntropy::new(1));
        let text = minted.reveal();
        let (short, stray) = (&text[..42], format!("{}B", &text[..42]));
        for bad in ["", short, &format!("{text}="), &format!("{text}A"), &stray, &"é".repeat(21)] {
            assert!(Plain::<Session>::presented(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_digest_is_not_the_text() {
        let minted = Plain::<Session>::mint(&SeededEntropy::new(1));
        assert_eq!(minted.digest().as_bytes(), &sha256(minted.reveal().as_bytes()));
    }
}
