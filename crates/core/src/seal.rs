//! Sealed values: AES-256-GCM-SIV (RFC 8452) under keys by purpose.
//!
//! A sealed text is `base64url(key-id ‖ nonce ‖ ciphertext ‖ tag)`; each value names its key; the
//! AAD is purpose ‖ issuer ‖ version, so that a value sealed for one purpose opens for no other.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::entropy::Entropy;
use crate::hash::{hmac_sha256, same};
use crate::jose::base64url;
use crate::secret::Secret;

/// What a sealed value is for (`4-identity`, "Sealed things").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The wrapping of private signing keys.
    Sign,
    /// Authorization codes.
    Code,
    /// A login's state before its first factor.
    Login,
    /// Cookies: the known device.
    Cookie,
    /// One-use values shown to browsers (CSRF).
    Nonce,
    /// TOTP secrets and other fields at rest.
    Field,
    /// Pushed authorization requests (RFC 9126).
    Par,
    /// The MAC of refresh tokens.
    Refresh,
    /// Opaque access tokens.
    Opaque,
    /// Pairwise subjects (OpenID Connect Core §8.1): never rotated, see [`Sealer::mac_oldest`].
    Pairwise,
    /// The MAC of API keys.
    Key,
}

impl Purpose {
    const ALL: [Purpose; 11] = [
        Purpose::Sign,
        Purpose::Code,
        Purpose::Login,
        Purpose::Cookie,
        Purpose::Nonce,
        Purpose::Field,
        Purpose::Par,
        Purpose::Refresh,
        Purpose::Opaque,
        Purpose::Pairwise,
        Purpose::Key,
    ];

    /// The word that is hashed into the key. Never reuse one that has left.
    fn word(self) -> &'static str {
        match self {
            Purpose::Sign => "sign",
            Purpose::Code => "code",
            Purpose::Login => "login",
            Purpose::Cookie => "cookie",
            Purpose::Nonce => "nonce",
            Purpose::Field => "field",
            Purpose::Par => "par",
            Purpose::Refresh => "refresh",
            Purpose::Opaque => "opaque",
            Purpose::Pairwise => "pairwise",
            Purpose::Key => "key",
        }
    }
}

/// A ring of 256-bit keys; the first seals, all open. One key is derived per purpose:
/// HMAC-SHA-256 over version ‖ purpose ‖ issuer, as NIST SP 800-108 does in counter mode with one
/// block.
pub struct Sealer {
    ring: Vec<Generation>,
    issuer: Box<str>,
}

/// The keys derived of one key of the ring, each made ready once.
struct Generation {
    id: u32,
    keys: Vec<(Purpose, LessSafeKey, Secret<[u8; 32]>)>,
}

/// A text that no key of ours opens: forged, damaged, of another purpose or issuer. One answer for
/// all, so that nothing can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open")]
pub struct Unsealable;

/// Longest sealed text that is opened, in bytes: what a cookie or a form field may carry.
pub const MAX_SEALED: usize = 8 * 1024;

/// Of the format; in the key and in the AAD.
const VERSION: u8 = 1;
const ID_LEN: usize = size_of::<u32>();

impl Sealer {
    /// `ring` in order of preference: (key id, key). The issuer is bound into every value.
    pub fn new(ring: Vec<(u32, Secret<[u8; 32]>)>, issuer: &str) -> Self {
        let derived = ring.iter().map(|(id, key)| Generation::derive(*id, key, issuer));
        Sealer { ring: derived.collect(), issuer: issuer.into() }
    }

    /// Seals bytes for a purpose. A sealer without keys gives the empty text, which opens nowhere.
    pub fn seal(&self, purpose: Purpose, plain: &[u8], entropy: &dyn Entropy) -> String {
        let Some(generation) = self.ring.first() else { return String::new() };
        let Some(key) = generation.key(purpose) else { return String::new() };
        // RFC 8452 §9: a nonce that comes twice tells only that the same bytes were sealed twice.
        let mut nonce = [0u8; NONCE_LEN];
        entropy.fill(&mut nonce);
        let mut body = plain.to_vec();
        let aad = self.aad(purpose, generation.id);
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce_used, aad, &mut body)
            .expect("RFC 8452 §6: only 2^36 bytes or more cannot be sealed");
        base64url::encode(&[&generation.id.to_be_bytes()[..], &nonce, &body].concat())
    }

    /// Opens a sealed text.
    ///
    /// # Errors
    /// [`Unsealable`], whatever is wrong.
    pub fn open(&self, purpose: Purpose, sealed: &str) -> Result<Secret<Vec<u8>>, Unsealable> {
        if sealed.len() > MAX_SEALED {
            return Err(Unsealable);
        }
        let bytes = base64url::decode(sealed).map_err(|_| Unsealable)?;
        let (id, rest) = bytes.split_first_chunk::<ID_LEN>().ok_or(Unsealable)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unsealable)?;
        let id = u32::from_be_bytes(*id);
        let generation = self.ring.iter().find(|generation| generation.id == id);
        let key = generation.and_then(|generation| generation.key(purpose)).ok_or(Unsealable)?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.open_in_place(nonce, self.aad(purpose, id), &mut body);
        let length = opened.map_err(|_| Unsealable)?.len();
        body.truncate(length);
        Ok(Secret::new(body))
    }

    /// HMAC-SHA-256 of bytes under a purpose's key of the ring's first generation. A sealer without
    /// keys gives `None`.
    pub fn mac(&self, purpose: Purpose, bytes: &[u8]) -> Option<[u8; 32]> {
        self.ring.first()?.mac(purpose, bytes)
    }

    /// The same under the oldest generation: for what must stay the same when keys rotate (pairwise
    /// subjects).
    pub fn mac_oldest(&self, purpose: Purpose, bytes: &[u8]) -> Option<[u8; 32]> {
        self.ring.last()?.mac(purpose, bytes)
    }

    /// Whether some generation made this MAC of the bytes; constant time in the MAC.
    pub fn made(&self, purpose: Purpose, bytes: &[u8], mac: &[u8]) -> bool {
        let fits = |generation: &Generation| {
            generation.mac(purpose, bytes).is_some_and(|own| same(&own, mac))
        };
        self.ring.iter().any(fits)
    }

    /// Version ‖ key id ‖ purpose ‖ issuer. The id is in it too, so that a text has one spelling
    /// even when two ids name the same key.
    fn aad(&self, purpose: Purpose, id: u32) -> Aad<Vec<u8>> {
        let mut aad = context(purpose, &self.issuer);
        aad.extend_from_slice(&id.to_be_bytes());
        Aad::from(aad)
    }
}

impl Generation {
    fn derive(id: u32, key: &Secret<[u8; 32]>, issuer: &str) -> Self {
        let keys = Purpose::ALL.map(|purpose| {
            let derived = Secret::new(hmac_sha256(key.expose(), &context(purpose, issuer)));
            let key = UnboundKey::new(&AES_256_GCM_SIV, derived.expose());
            let key = LessSafeKey::new(key.expect("an HMAC-SHA-256 has the 32 bytes of the key"));
            // A key of its own for MACs: no key serves two algorithms.
            let mac = Secret::new(hmac_sha256(derived.expose(), b"mac"));
            (purpose, key, mac)
        });
        Generation { id, keys: keys.into() }
    }

    fn key(&self, purpose: Purpose) -> Option<&LessSafeKey> {
        self.keys.iter().find(|(of, _, _)| *of == purpose).map(|(_, key, _)| key)
    }

    fn mac(&self, purpose: Purpose, bytes: &[u8]) -> Option<[u8; 32]> {
        let (_, _, key) = self.keys.iter().find(|(of, _, _)| *of == purpose)?;
        Some(hmac_sha256(key.expose(), bytes))
    }
}

/// No purpose's word begins another's with its NUL, so that the parts cannot slide.
fn context(purpose: Purpose, issuer: &str) -> Vec<u8> {
    let word = purpose.word();
    let mut context = Vec::with_capacity(24 + issuer.len());
    context.extend_from_slice(b"portcullis seal");
    context.push(VERSION);
    context.extend_from_slice(word.as_bytes());
    context.push(0);
    context.extend_from_slice(issuer.as_bytes());
    context
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;
    use proptest::prelude::*;

    const ISSUER: &str = "https://login.example";

    fn sealer(ring: &[(u32, u8)], issuer: &str) -> Sealer {
        let ring = ring.iter().map(|(id, byte)| (*id, Secret::new([*byte; 32])));
        Sealer::new(ring.collect(), issuer)
    }

    #[test]
    fn what_is_sealed_opens() {
        let sealer = sealer(&[(7, 1)], ISSUER);
        for plain in [&b""[..], b"a", &[0; 5000]] {
            let sealed = sealer.seal(Purpose::Login, plain, &SeededEntropy::new(1));
            let opened = sealer.open(Purpose::Login, &sealed).expect("opens");
            assert_eq!(opened.expose(), plain);
        }
    }

    #[test]
    fn a_value_opens_for_its_own_purpose_only() {
        let sealer = sealer(&[(1, 1)], ISSUER);
        for sealed_for in Purpose::ALL {
            let sealed = sealer.seal(sealed_for, b"x", &SeededEntropy::new(1));
            for opened_for in Purpose::ALL {
                let opens = sealer.open(opened_for, &sealed).is_ok();
                assert_eq!(opens, sealed_for == opened_for, "{sealed_for:?} {opened_for:?}");
            }
        }
    }

    #[test]
    fn a_value_opens_for_its_own_issuer_only() {
        let sealed = sealer(&[(1, 1)], ISSUER).seal(Purpose::Code, b"x", &SeededEntropy::new(1));
        for other in ["https://login.example/", "https://login.exampl", ""] {
            assert!(sealer(&[(1, 1)], other).open(Purpose::Code, &sealed).is_err(), "{other}");
        }
    }

    #[test]
    fn the_ring_turns() {
        let (old, new) = (sealer(&[(1, 1)], ISSUER), sealer(&[(2, 2), (1, 1)], ISSUER));
        let before = old.seal(Purpose::Cookie, b"x", &SeededEntropy::new(1));
        let after = new.seal(Purpose::Cookie, b"x", &SeededEntropy::new(1));
        assert!(new.open(Purpose::Cookie, &before).is_ok());
        assert!(new.open(Purpose::Cookie, &after).is_ok());
        assert!(old.open(Purpose::Cookie, &after).is_err(), "the first key seals");
        assert!(sealer(&[(1, 9)], ISSUER).open(Purpose::Cookie, &before).is_err(), "another key");
    }

    #[test]
    fn without_keys_nothing_opens() {
        let empty = sealer(&[], ISSUER);
        let sealed = empty.seal(Purpose::Field, b"x", &SeededEntropy::new(1));
        assert_eq!(sealed, "");
        assert!(empty.open(Purpose::Field, &sealed).is_err());
    }

    #[test]
    fn what_is_too_long_is_not_looked_at() {
        let sealer = sealer(&[(1, 1)], ISSUER);
        let fits = sealer.seal(Purpose::Field, &[0; 6112], &SeededEntropy::new(1));
        let over = sealer.seal(Purpose::Field, &[0; 6113], &SeededEntropy::new(1));
        assert_eq!((fits.len(), over.len()), (MAX_SEALED, MAX_SEALED + 2));
        assert!(sealer.open(Purpose::Field, &fits).is_ok());
        assert!(sealer.open(Purpose::Field, &over).is_err());
    }

    #[test]
    fn a_nonce_is_drawn_each_time() {
        let (sealer, entropy) = (sealer(&[(1, 1)], ISSUER), SeededEntropy::new(1));
        let one = sealer.seal(Purpose::Nonce, b"x", &entropy);
        assert_ne!(one, sealer.seal(Purpose::Nonce, b"x", &entropy));
    }

    proptest! {
        #[test]
        fn sealing_round_trips(plain: Vec<u8>, seed: u64) {
            let sealer = sealer(&[(3, 3), (4, 4)], ISSUER);
            let sealed = sealer.seal(Purpose::Login, &plain, &SeededEntropy::new(seed));
            let opened = sealer.open(Purpose::Login, &sealed).expect("opens");
            prop_assert_eq!(opened.expose(), &plain);
        }
        #[test]
        fn one_changed_character_does_not_open(
            plain: Vec<u8>, seed: u64, at: usize, to in "[A-Za-z0-9_=+/. -]",
        ) {
            // Both ids name the same key: only the AAD can tell them apart.
            let sealer = sealer(&[(0, 3), (1, 3)], ISSUER);
            let mut sealed = sealer.seal(Purpose::Login, &plain, &SeededEntropy::new(seed));
            let at = at % sealed.len();
            let same = sealed[at..=at] == to;
            sealed.replace_range(at..=at, &to);
            prop_assert_eq!(sealer.open(Purpose::Login, &sealed).is_ok(), same);
        }
        #[test]
        fn no_text_panics_or_opens(text in ".{0,200}") {
            prop_assert!(sealer(&[(1, 1)], ISSUER).open(Purpose::Field, &text).is_err());
        }
    }

    #[test]
    fn the_same_key_under_two_ids_has_one_spelling() {
        let sealer = sealer(&[(0, 3), (1, 3)], ISSUER);
        let sealed = sealer.seal(Purpose::Login, b"x", &SeededEntropy::new(1));
        let mut bytes = base64url::decode(&sealed).expect("base64url");
        bytes[3] ^= 1;
        assert!(sealer.open(Purpose::Login, &base64url::encode(&bytes)).is_err());
    }
}
