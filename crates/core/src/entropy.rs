//! Randomness as an argument, so that tests own their seed.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// A source of random bytes fit for secrets.
pub trait Entropy: Send + Sync {
    /// Fills the whole buffer.
    fn fill(&self, bytes: &mut [u8]);
}

/// The crypto provider's generator: what the product runs on.
#[derive(Default)]
pub struct ProviderEntropy(SystemRandom);

impl Entropy for ProviderEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // INVARIANT: no secret is made without randomness; a provider that cannot give any has
        // already aborted its own self-test, so going on would be the only wrong answer.
        self.0.fill(bytes).expect("the provider's generator is seeded at start");
    }
}

/// A seeded generator for tests: the same seed gives the same bytes. Never wired by the binary.
pub struct SeededEntropy(std::sync::Mutex<u64>);

impl SeededEntropy {
    /// Starts a sequence.
    pub fn new(seed: u64) -> Self {
        SeededEntropy(std::sync::Mutex::new(seed))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // SplitMix64 (Steele, Lea, Flood 2014): short, and good enough for a test's ids.
        let mut state = self.0.lock().expect("no holder of this lock can panic");
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = *state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
            chunk.copy_from_slice(word.to_le_bytes().get(..chunk.len()).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(entropy: &dyn Entropy, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        entropy.fill(&mut bytes);
        bytes
    }

    #[test]
    fn the_provider_never_repeats() {
        let entropy = ProviderEntropy::default();
        assert_ne!(drawn(&entropy, 32), drawn(&entropy, 32));
        assert_ne!(drawn(&entropy, 32), drawn(&ProviderEntropy::default(), 32));
    }

    #[test]
    fn a_seed_decides_every_byte() {
        for length in [0, 1, 7, 8, 9, 31, 32] {
            let (one, same) = (SeededEntropy::new(7), SeededEntropy::new(7));
            assert_eq!(drawn(&one, length), drawn(&same, length));
            assert_eq!(drawn(&one, length), drawn(&same, length), "and the next draw");
        }
        assert_ne!(drawn(&SeededEntropy::new(7), 16), drawn(&SeededEntropy::new(8), 16));
        let (entropy, zero) = (SeededEntropy::new(7), vec![0; 9]);
        assert!(drawn(&entropy, 9) != zero && drawn(&entropy, 9).last() != Some(&0));
    }
}
