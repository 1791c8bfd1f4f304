//! TOTP (RFC 6238) over HOTP (RFC 4226): SHA-1, six digits, 30 seconds, as every app has it.
//!
//! Finds the step whose code was typed. That the step is consumed, and that failures are counted,
//! is the login's; this file only refuses to name a step twice.

use aws_lc_rs::hmac;

use crate::entropy::Entropy;
use crate::hash;
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::web::form_encode;

/// Bytes of a TOTP secret (RFC 4226 §4 R6 recommends 160 bits).
pub const SECRET_BYTES: usize = 20;
/// Seconds of a step (RFC 6238 §4.1).
pub const STEP_SECONDS: u64 = 30;
/// Digits of a code (RFC 4226 §4 R4: at least six).
pub const DIGITS: usize = 6;
/// Steps accepted before and after now (RFC 6238 §5.2 recommends at most one).
const SKEW_STEPS: u64 = 1;
/// RFC 4648 §6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A TOTP secret.
pub struct TotpSecret(Secret<[u8; SECRET_BYTES]>);

/// The number of a time step: seconds since the epoch ÷ 30.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(pub u64);

impl TotpSecret {
    /// A new random secret.
    pub fn mint(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; SECRET_BYTES];
        entropy.fill(&mut bytes);
        TotpSecret(Secret::new(bytes))
    }

    /// One read back from the store; `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| TotpSecret(Secret::new(bytes)))
    }

    /// The bytes, for sealing.
    pub fn expose(&self) -> &[u8; SECRET_BYTES] {
        self.0.expose()
    }

    /// RFC 4648 base32 without padding, for typing by hand.
    pub fn base32(&self) -> Secret<String> {
        let mut text = String::with_capacity(SECRET_BYTES * 8 / 5);
        for chunk in self.expose().chunks(5) {
            // INVARIANT: 20 bytes are four whole chunks of 40 bits, so there is never padding.
            let bits = chunk.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            for shift in (0..8).rev() {
                let digit = BASE32.get((bits >> (shift * 5) & 31) as usize);
                text.extend(digit.map(|byte| char::from(*byte)));
            }
        }
        Secret::new(text)
    }

    /// Reads base32 (spaces and case ignored); `None` for another alphabet or length.
    pub fn from_base32(text: &str) -> Option<Self> {
        let mut bytes = [0; SECRET_BYTES];
        let mut digits = text.bytes().filter(|byte| *byte != b' ');
        for chunk in bytes.chunks_mut(5) {
            let mut bits = 0u64;
            for digit in digits.by_ref().take(8) {
                let value = BASE32.iter().position(|known| *known == digit.to_ascii_uppercase())?;
                // A lone short chunk fails below: the digits then end before the bytes do.
                bits = bits << 5 | value as u64;
            }
            chunk.copy_from_slice(bits.to_be_bytes().get(3..)?);
        }
        let written = text.bytes().filter(|byte| *byte != b' ').count();
        (written == SECRET_BYTES * 8 / 5).then_some(TotpSecret(Secret::new(bytes)))
    }

    /// `otpauth://totp/…` for the QR code (the "Key URI Format" that authenticator apps share).
    pub fn uri(&self, issuer: &str, account: &str) -> Secret<String> {
        let (issuer, account) = (form_encode(issuer), form_encode(account));
        let secret = self.base32();
        Secret::new(format!(
            "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}",
            secret.expose()
        ))
    }

    /// The code at a step: six digits.
    pub fn code(&self, step: Step) -> String {
        format!("{:06}", self.truncated(step) % 1_000_000)
    }

    /// The step whose code this is, within ±1 step of now (RFC 6238 §5.2) and later than the last
    /// one used (each step is usable once). All candidates are compared in constant time.
    pub fn verify(&self, code: &str, now: Timestamp, last_used: Option<Step>) -> Option<Step> {
        if code.len() != DIGITS || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let Step(current) = step_at(now);
        let mut found = None;
        // No early end: how long it takes must not tell which step, if any, was right.
        for number in current.saturating_sub(SKEW_STEPS)..=current.saturating_add(SKEW_STEPS) {
            let step = Step(number);
            let equal = hash::same(self.code(step).as_bytes(), code.as_bytes());
            // RFC 6238 §5.2: the verifier MUST NOT accept the second attempt of the OTP. Should
            // two steps share a code, the later one is taken, which spends both.
            if equal && last_used.is_none_or(|last| step > last) {
                found = Some(step);
            }
        }
        found
    }

    /// RFC 4226 §5.3: HMAC-SHA-1 of the step, dynamically truncated to 31 bits.
    fn truncated(&self, Step(number): Step) -> u32 {
        // SHA-1's collisions do not touch HMAC, and the common apps read nothing else.
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.expose());
        let tag = hmac::sign(&key, &number.to_be_bytes());
        let tag = tag.as_ref();
        let offset = usize::from(tag.last().copied().unwrap_or(0) & 15);
        let word = tag.get(offset..).and_then(|rest| rest.first_chunk::<4>());
        u32::from_be_bytes(*word.expect("an offset of at most 15 leaves 4 of 20 bytes"))
            & 0x7fff_ffff
    }
}

/// The step at a moment.
pub fn step_at(now: Timestamp) -> Step {
    Step(u64::try_from(now.unix()).unwrap_or(0) / STEP_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    /// RFC 6238 appendix B and RFC 4226 appendix D use this one.
    fn of_the_rfc() -> TotpSecret {
        TotpSecret::from_bytes(b"12345678901234567890").unwrap()
    }

    #[test]
    fn the_vectors_of_rfc_6238_appendix_b() {
        for (seconds, eight_digits) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000i64, "65353130"),
        ] {
            // A Timestamp ends in 2262, the last vector lies in 2603: the step is given by hand.
            let step = Step(u64::try_from(seconds).unwrap() / STEP_SECONDS);
            assert_eq!(format!("{:08}", of_the_rfc().truncated(step) % 100_000_000), eight_digits);
            assert_eq!(of_the_rfc().code(step), eight_digits[2..], "our six are its last six");
        }
    }

    #[test]
    fn the_vectors_of_rfc_4226_appendix_d() {
        let expected = ["755224", "287082", "359152", "969429", "338314", "254676", "287922"];
        for (counter, code) in expected.into_iter().enumerate() {
            assert_eq!(of_the_rfc().code(Step(counter as u64)), code);
        }
    }

    #[test]
    fn one_step_of_skew_is_accepted_and_no_more() {
        let secret = of_the_rfc();
        let now = Timestamp::from_unix(1_000_000_000);
        let Step(current) = step_at(now);
        for (distance, expected) in [(-2i64, false), (-1, true), (0, true), (1, true), (2, false)] {
            let step = Step(current.saturating_add_signed(distance));
            let found = secret.verify(&secret.code(step), now, None);
            assert_eq!(found, expected.then_some(step), "{distance}");
        }
    }

    #[test]
    fn a_step_is_usable_once() {
        let secret = of_the_rfc();
        let now = Timestamp::from_unix(1_000_000_000);
        let Step(current) = step_at(now);
        let code = secret.code(Step(current));
        assert_eq!(secret.verify(&code, now, Some(Step(current - 1))), Some(Step(current)));
        assert_eq!(secret.verify(&code, now, Some(Step(current))), None);
        assert_eq!(secret.verify(&code, now, Some(Step(current + 1))), None, "nor an earlier one");
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let secret = of_the_rfc();
        let now = Timestamp::from_unix(59);
        assert_eq!(secret.verify("287082", now, None), Some(Step(1)));
        for code in
            ["", "28708", "2870820", "94287082", "28708a", " 287082", "-87082", "２８７０８２"]
        {
            assert_eq!(secret.verify(code, now, None), None, "{code}");
        }
    }

    #[test]
    fn the_beginning_of_time_does_not_underflow() {
        let secret = of_the_rfc();
        assert_eq!(
            secret.verify(&secret.code(Step(0)), Timestamp::from_unix(-5), None),
            Some(Step(0))
        );
    }

    #[test]
    fn base32_is_read_back() {
        assert_eq!(of_the_rfc().base32().expose(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let minted = TotpSecret::mint(&SeededEntropy::new(7));
        let again = TotpSecret::from_base32(minted.base32().expose()).unwrap();
        assert_eq!(again.expose(), minted.expose());
        let typed = TotpSecret::from_base32("gezd gnbv gy3t qojq GEZD GNBV GY3T QOJQ").unwrap();
        assert_eq!(typed.expose(), of_the_rfc().expose());
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in [
            "",
            "GEZDGNBVGY3TQOJQ",
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ",
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQA",
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ1",
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ=",
        ] {
            assert!(TotpSecret::from_base32(text).is_none(), "{text}");
        }
        assert!(TotpSecret::from_bytes(&[0; 19]).is_none());
    }

    #[test]
    fn the_uri_is_what_apps_read() {
        assert_eq!(
            of_the_rfc().uri("Pay & Co", "ada@pay.example").expose(),
            "otpauth://totp/Pay%20%26%20Co:ada%40pay.example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=Pay%20%26%20Co&algorithm=SHA1&digits=6&period=30"
        );
    }
}
