//! Digests and keyed hashes; the one door to the crypto provider's hash functions.

use aws_lc_rs::{digest, hmac};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

use crate::entropy::Entropy;

/// SHA-256 of the bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// HMAC-SHA-256 (RFC 2104) of the bytes under the key.
pub fn hmac_sha256(key: &[u8], bytes: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes);
    out.copy_from_slice(tag.as_ref());
    out
}

/// Constant-time comparison of two byte strings; lengths are not secret.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// SipHash-1-3 under a key that an attacker does not know: for tables that strangers fill.
#[derive(Clone)]
pub struct TableKey(u64, u64);

impl TableKey {
    /// A key of this process alone.
    pub fn mint(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0u8; 16];
        entropy.fill(&mut bytes);
        let both = u128::from_le_bytes(bytes);
        TableKey(both as u64, (both >> 64) as u64)
    }

    /// The 64-bit hash of the parts; lengths are mixed in, so that parts cannot slide.
    pub fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_vectors_of_the_standards() {
        // FIPS 180-2 appendix B.1
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&sha256(b"abc")), abc);
        // RFC 4231 §4.3
        let jefe = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(&hmac_sha256(b"Jefe", b"what do ya want for nothing?")), jefe);
    }

    #[test]
    fn same_means_every_byte() {
        assert!(same(b"", b"") && same(b"ab", b"ab"));
        for other in [&b""[..], b"a", b"aB", b"abc", b"ba"] {
            assert!(!same(b"ab", other), "{other:?}");
        }
    }

    #[test]
    fn parts_do_not_slide() {
        let key = TableKey::mint(&SeededEntropy::new(1));
        assert_eq!(key.hash(&[b"ab", b"c"]), key.clone().hash(&[b"ab", b"c"]));
        for other in [&[&b"a"[..], b"bc"][..], &[b"abc"], &[b"ab", b"c", b""], &[b"", b"ab", b"c"]]
        {
            assert_ne!(key.hash(&[b"ab", b"c"]), key.hash(other), "{other:?}");
        }
    }

    #[test]
    fn another_process_hashes_otherwise() {
        let (one, other) = (SeededEntropy::new(1), SeededEntropy::new(2));
        assert_ne!(TableKey::mint(&one).hash(&[b"a"]), TableKey::mint(&other).hash(&[b"a"]));
    }
}
