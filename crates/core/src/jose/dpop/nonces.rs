//! The server's nonces (RFC 9449 §8): a MAC of the time's step under a key of this process.
//!
//! Nothing is stored for them. What they give is the bound of the replay set: a proof can only be
//! taken while its nonce is in force, so it need not be remembered for longer.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::NONCE_STEP_S;
use crate::entropy::Entropy;
use crate::hash::{hmac_sha256, same};
use crate::jose::base64url;
use crate::secret::Secret;
use crate::time::Timestamp;

/// Steps that the clock may fall behind before nonces start anew (one hour). Below that, the time
/// of the nonces stands still until the clock has caught up; above, it would stand too long.
const STEPS_BACK: u32 = 30;
/// Bytes of a nonce: 128 bits, 22 characters.
const NONCE_BYTES: usize = 16;

/// When a nonce is of: an epoch, which only a corrected clock ends, and a step of the clock in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Era {
    epoch: u32,
    step: u32,
}

impl Era {
    /// Whether a nonce of this era is taken in another: in its own step and in the one after.
    pub(super) fn is_in_force(self, now: Era) -> bool {
        self.epoch == now.epoch
            && (self.step == now.step || self.step.checked_add(1) == Some(now.step))
    }

    fn packed(self) -> u64 {
        u64::from(self.epoch) << 32 | u64::from(self.step)
    }

    fn unpacked(bits: u64) -> Self {
        Era { epoch: (bits >> 32) as u32, step: bits as u32 }
    }
}

/// The nonces of one process.
pub(super) struct Nonces {
    key: Secret<[u8; 32]>,
    latest: AtomicU64,
}

impl Nonces {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        Nonces { key: Secret::new(key), latest: AtomicU64::new(0) }
    }

    /// The nonce of an era (RFC 9449 §8: unpredictable; §8.1: of the characters that a field takes).
    pub(super) fn text(&self, era: Era) -> String {
        let mac = hmac_sha256(self.key.expose(), &era.packed().to_be_bytes());
        base64url::encode(mac.split_at(NONCE_BYTES).0)
    }

    /// The era in force of which the nonce is.
    pub(super) fn era_of(&self, nonce: &str, now: Era) -> Option<Era> {
        let before = now.step.checked_sub(1).map(|step| Era { step, ..now });
        let fits = |era: &Era| same(self.text(*era).as_bytes(), nonce.as_bytes());
        [Some(now), before].into_iter().flatten().find(fits)
    }

    /// The latest era that anyone has seen.
    pub(super) fn latest(&self) -> Era {
        Era::unpacked(self.latest.load(SeqCst))
    }

    /// The era now. INVARIANT: an era that has passed never comes back, whatever the clock does:
    /// the replay set has forgotten its proofs.
    pub(super) fn advance(&self, now: Timestamp) -> Era {
        let step = now.unix().div_euclid(NONCE_STEP_S).max(0);
        let step = u32::try_from(step).unwrap_or(u32::MAX);
        let next = |latest: Era| {
            if step >= latest.step {
                Era { step, ..latest }
            } else if latest.step - step > STEPS_BACK {
                Era { epoch: latest.epoch.wrapping_add(1), step }
            } else {
                latest
            }
        };
        let swap = |bits: u64| Some(next(Era::unpacked(bits)).packed());
        let before = self.latest.fetch_update(SeqCst, SeqCst, swap).unwrap_or_else(|bits| bits);
        next(Era::unpacked(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    fn at(step: i64) -> Timestamp {
        Timestamp::from_unix(step * NONCE_STEP_S)
    }

    #[test]
    fn a_nonce_is_in_force_for_its_step_and_the_next() {
        let nonces = Nonces::new(&SeededEntropy::new(1));
        let first = nonces.advance(at(100));
        let nonce = nonces.text(first);
        assert!(nonce.len() <= 64 && base64url::decode(&nonce).is_ok());
        for (step, taken) in [(100, true), (101, true), (102, false), (103, false)] {
            let now = nonces.advance(at(step));
            assert_eq!(nonces.era_of(&nonce, now).is_some(), taken, "step {step}");
            assert_eq!(first.is_in_force(now), taken, "step {step}");
        }
        for bad in ["", "x", &nonce[1..], &nonce.to_uppercase(), &format!("{nonce}A")] {
            assert_eq!(nonces.era_of(bad, first), None, "{bad}");
        }
    }

    #[test]
    fn a_nonce_of_another_process_is_not_in_force() {
        let (one, other) =
            (Nonces::new(&SeededEntropy::new(1)), Nonces::new(&SeededEntropy::new(2)));
        let era = one.advance(at(100));
        assert_eq!(other.era_of(&one.text(era), era), None);
    }

    #[test]
    fn an_era_that_has_passed_never_comes_back() {
        let nonces = Nonces::new(&SeededEntropy::new(1));
        let (old, new) = (nonces.advance(at(1000)), nonces.advance(at(1002)));
        assert!(!old.is_in_force(new));
        // A little back, as NTP does: the time of the nonces stands.
        for step in [1001, 1000, 972] {
            assert_eq!(nonces.advance(at(step)), new, "step {step}");
        }
        // Far back: all nonces so far are void, and the time of day works again.
        let far = nonces.advance(at(500));
        assert!(!old.is_in_force(far) && !new.is_in_force(far) && far != new);
        let again = nonces.advance(at(1000));
        assert!(!old.is_in_force(again) && nonces.text(again) != nonces.text(old));
    }

    #[test]
    fn absurd_times_have_an_era() {
        let nonces = Nonces::new(&SeededEntropy::new(1));
        for now in [i64::MIN, -1, 0, 1, i64::MAX, 0] {
            let era = nonces.advance(Timestamp::from_nanos(now));
            assert_eq!(nonces.era_of(&nonces.text(era), era), Some(era));
        }
    }
}
