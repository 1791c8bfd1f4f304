//! The replay set (RFC 9449 §11.1): each proof that was taken, for as long as its nonce could be.
//!
//! Kept apart by era, so that what can no longer be taken is dropped whole and nothing is ever
//! searched for old entries; kept in shards, so that threads seldom meet.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};

use super::ProofFault;
use super::nonces::Era;

/// Shards; a power of two.
const SHARDS: usize = 64;

/// The proofs that were taken, by keyed hash: at 2^22 entries a stranger's proof is mistaken for one
/// of them once in 2^42.
pub(super) struct Spent {
    shards: Box<[Mutex<Vec<Generation>>]>,
    per_shard: usize,
}

/// The proofs whose nonce is of one era.
struct Generation {
    era: Era,
    marks: HashSet<u64, BuildHasherDefault<AsIs>>,
}

impl Spent {
    /// A set for about `most` proofs: keyed hashes fill its shards alike.
    pub(super) fn new(most: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Vec::new())).collect();
        Spent { shards, per_shard: most.div_ceil(SHARDS) }
    }

    /// Spends a mark once. `latest` is asked under the shard's lock.
    ///
    /// # Errors
    /// [`ProofFault::NonceWanted`] when its era has passed meanwhile, [`ProofFault::Replayed`],
    /// [`ProofFault::Crowded`].
    pub(super) fn spend(
        &self,
        mark: u64,
        era: Era,
        latest: impl FnOnce() -> Era,
    ) -> Result<(), ProofFault> {
        // The hash table inside takes the lowest and the highest bits.
        let shard = (mark >> 32) as usize % SHARDS;
        let shard = self.shards.get(shard).expect("a remainder of the shards' number");
        // No holder can panic between two changes; and a set that forgot would be worse.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        // INVARIANT: read under the lock. Whoever dropped this era's generation held the lock before
        // and had read a later era, so a proof of it is not taken a second time here.
        let latest = latest();
        if !era.is_in_force(latest) {
            return Err(ProofFault::NonceWanted);
        }
        shard.retain(|generation| generation.era.is_in_force(latest));
        if shard.iter().any(|generation| generation.marks.contains(&mark)) {
            return Err(ProofFault::Replayed);
        }
        // RFC 9449 §11.1 leaves the bound to us: what cannot be remembered is not taken.
        if shard.iter().map(|generation| generation.marks.len()).sum::<usize>() >= self.per_shard {
            return Err(ProofFault::Crowded);
        }
        match shard.iter_mut().find(|generation| generation.era == era) {
            Some(generation) => {
                generation.marks.insert(mark);
            }
            None => {
                shard.push(Generation { era, marks: HashSet::from_iter([mark]) });
            }
        }
        Ok(())
    }
}

/// The marks are hashes under a secret already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, mark: u64) {
        self.0 = mark;
    }
}

#[cfg(test)]
mod tests {
    use super::super::nonces::Nonces;
    use super::*;
    use crate::entropy::SeededEntropy;
    use crate::hash::TableKey;
    use crate::time::Timestamp;

    fn era(step: i64) -> Era {
        Nonces::new(&SeededEntropy::new(1))
            .advance(Timestamp::from_unix(step * super::super::NONCE_STEP_S))
    }
    fn marks() -> impl Iterator<Item = u64> {
        let key = TableKey::mint(&SeededEntropy::new(3));
        (0u64..).map(move |number| key.hash(&[&number.to_be_bytes()]))
    }

    #[test]
    fn replayed() {
        let spent = Spent::new(1 << 10);
        let (now, next) = (era(100), era(101));
        assert_eq!(spent.spend(7, now, || now), Ok(()));
        assert_eq!(spent.spend(7, now, || now), Err(ProofFault::Replayed));
        assert_eq!(spent.spend(7, now, || next), Err(ProofFault::Replayed), "a step later");
        assert_eq!(spent.spend(7, next, || next), Err(ProofFault::Replayed), "with a newer nonce");
        assert_eq!(spent.spend(8, now, || next), Ok(()));
    }

    #[test]
    fn a_proof_whose_era_has_passed_is_not_taken_though_forgotten() {
        let spent = Spent::new(1 << 10);
        let (old, later) = (era(100), era(102));
        assert_eq!(spent.spend(7, old, || old), Ok(()));
        assert_eq!(spent.spend(7, later, || later), Ok(()), "forgotten");
        assert_eq!(spent.spend(9, old, || later), Err(ProofFault::NonceWanted));
    }

    #[test]
    fn crowded() {
        let (most, now, next) = (1 << 12, era(100), era(101));
        let spent = Spent::new(most);
        let full = marks().take(2 * most).map(|mark| spent.spend(mark, now, || now));
        let taken = full.filter(|result| result.is_ok()).count();
        // No more than the bound, and nearly all of it: the shards fill alike.
        assert!((most * 95 / 100..=most).contains(&taken), "{taken}");
        for mark in marks().skip(2 * most).take(100) {
            assert_eq!(spent.spend(mark, next, || next), Err(ProofFault::Crowded));
        }
        let first = marks().next().expect("a mark");
        assert_eq!(spent.spend(first, now, || next), Err(ProofFault::Replayed), "still known");
        // Nothing of it can be taken any more two steps later: the room is free again.
        let later = era(102);
        let fresh = marks().skip(2 * most).take(most / 2);
        assert!(fresh.map(|mark| spent.spend(mark, later, || later)).all(|result| result.is_ok()));
    }
}
