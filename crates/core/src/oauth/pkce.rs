//! PKCE, S256 only (RFC 7636; `plain` is refused, RFC 9700 §2.1.1).

use crate::hash::{same, sha256};
use crate::jose::base64url;

/// A well-formed S256 challenge: 43 characters of base64url.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Challenge(Box<str>);

/// Why a text is not a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an S256 challenge: 43 characters of base64url (RFC 7636 §4.2)")]
pub struct ChallengeMalformed;

impl Challenge {
    /// Reads a challenge of method `S256`; `None` for another shape.
    pub fn parse(text: &str) -> Option<Self> {
        // RFC 7636 §4.2: BASE64URL-ENCODE(SHA256(…)), so exactly 32 bytes, canonically.
        let hash = (text.len() == 43).then(|| base64url::decode(text))?.ok()?;
        (hash.len() == 32).then(|| Challenge(text.into()))
    }
    /// Whether the verifier (43 to 128 unreserved characters, §4.1) hashes to it; constant time.
    pub fn answered_by(&self, verifier: &str) -> bool {
        // RFC 7636 §4.1: unreserved = ALPHA / DIGIT / "-" / "." / "_" / "~"
        let unreserved =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        let shaped = (43..=128).contains(&verifier.len()) && verifier.bytes().all(unreserved);
        // RFC 7636 §4.6
        shaped && same(Challenge::of(verifier).0.as_bytes(), self.0.as_bytes())
    }
    /// The challenge of a verifier, for clients of our own (demo, tests).
    pub fn of(verifier: &str) -> Self {
        Challenge(base64url::encode(&sha256(verifier.as_bytes())).into())
    }
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Challenge {
    type Error = ChallengeMalformed;
    /// What was sealed is parsed again when it comes back, like anything from outside.
    fn try_from(text: String) -> Result<Self, ChallengeMalformed> {
        Challenge::parse(&text).ok_or(ChallengeMalformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn the_vector_of_rfc_7636_appendix_b() {
        let challenge = Challenge::parse(CHALLENGE).expect("a challenge");
        assert!(challenge.answered_by(VERIFIER));
        assert_eq!(Challenge::of(VERIFIER), challenge);
        assert_eq!(challenge.as_str(), CHALLENGE);
    }

    #[test]
    fn a_challenge_of_another_shape_is_refused() {
        let padded = format!("{CHALLENGE}=");
        let (short, stray) = (&CHALLENGE[..42], format!("{}N", &CHALLENGE[..42]));
        let spaced = format!(" {}", &CHALLENGE[..42]);
        for bad in ["", VERIFIER, short, &padded, &stray, &spaced, &"+".repeat(43), &"é".repeat(43)]
        {
            if bad != VERIFIER {
                assert_eq!(Challenge::parse(bad), None, "{bad}");
            }
        }
        for json in [r#""""#, r#""plain""#, "7", r#"["a"]"#] {
            assert!(serde_json::from_str::<Challenge>(json).is_err(), "{json}");
        }
        let json = serde_json::to_string(&Challenge::of(VERIFIER)).expect("text");
        assert_eq!(serde_json::from_str::<Challenge>(&json).expect("back").as_str(), CHALLENGE);
    }

    #[test]
    fn another_verifier_is_refused() {
        let challenge = Challenge::of(VERIFIER);
        // The `plain` method in disguise: the challenge itself as the verifier.
        let plain = CHALLENGE;
        let (short, long) = ("a".repeat(42), "a".repeat(129));
        let lower = VERIFIER.to_lowercase();
        for bad in ["", plain, &lower, &VERIFIER[..42], &format!("{VERIFIER}a")] {
            assert!(!challenge.answered_by(bad), "{bad}");
        }
        // Right hash, wrong shape: outside of 43 to 128 unreserved characters.
        for bad in [short, long, format!("{VERIFIER} "), format!("{VERIFIER}+"), "é".repeat(30)] {
            assert!(!Challenge::of(&bad).answered_by(&bad), "{bad}");
        }
        for good in ["a".repeat(43), "-._~".repeat(32)] {
            assert!(Challenge::of(&good).answered_by(&good), "{good}");
        }
    }
}
