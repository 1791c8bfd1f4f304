//! DPoP proofs (RFC 9449): what is checked of one, the server's nonces, and the one replay set.
//!
//! Login and gateway share one [`ProofDesk`], so that a proof that was shown at one door is a replay
//! at the other. Deliberately not here: which token a proof must fit (its `cnf`), and how a refusal
//! is put.

mod nonces;
mod spent;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::nonces::{Era, Nonces};
use self::spent::Spent;
use super::algorithm::Algorithm;
use super::base64url;
use super::jwk::Jwk;
use super::jws::{self, TokenFault, Unverified};
use super::sign::SigningKey;
use super::verify::MAX_JTI;
use crate::entropy::Entropy;
use crate::hash::{TableKey, same, sha256};
use crate::time::Timestamp;

/// What a proof is checked against.
pub struct Expected<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The request's address without query and fragment (`htu`).
    pub url: &'a str,
    /// The access token shown with it (`ath`); `None` at the token endpoint.
    pub token: Option<&'a str>,
}

/// A proof that passed every check: nobody else can make one.
///
/// ```compile_fail,E0451
/// use portcullis_core::jose::dpop::Proof;
/// let forged = Proof { thumbprint: String::from("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I") };
/// ```
/// The twin, which only reads:
/// ```
/// use portcullis_core::jose::dpop::Proof;
/// fn read(proof: &Proof) -> &str { proof.thumbprint() }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    thumbprint: String,
}

impl Proof {
    /// The key's thumbprint (`jkt`, RFC 7638), base64url.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }
}

/// The rule that a proof broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// No compact JWS of at most 8 KiB, doubled members, unknown `crit` …
    #[error("the proof cannot be read")]
    Malformed,
    /// `typ` is not `dpop+jwt`.
    #[error("the proof's typ is not dpop+jwt")]
    TypeWrong,
    /// An algorithm that is not taken.
    #[error("the proof's algorithm is not taken")]
    AlgorithmNotAccepted,
    /// No `jwk`, one that holds private parts, or one that is no public key of the algorithm.
    #[error("the proof's jwk is not a public key")]
    KeyMalformed,
    /// The signature does not verify.
    #[error("the proof's signature is wrong")]
    SignatureWrong,
    /// `jti`, `htm`, `htu` or `iat` missing or of the wrong type.
    #[error("the proof lacks a claim")]
    ClaimMalformed,
    /// `htm` is another method.
    #[error("the proof is for another method")]
    MethodOther,
    /// `htu` is another address.
    #[error("the proof is for another address")]
    AddressOther,
    /// `iat` too old or ahead.
    #[error("the proof's iat is not now")]
    TimeOff,
    /// `ath` missing or of another token.
    #[error("the proof is for another token")]
    TokenOther,
    /// No `nonce`, or one that is not in force: answered with `use_dpop_nonce` and a fresh one.
    #[error("the proof lacks the server's nonce")]
    NonceWanted,
    /// Its `jti` was seen before.
    #[error("the proof was used before")]
    Replayed,
    /// The replay set is full of live proofs: nothing can be told apart, so nothing is taken.
    #[error("too many proofs at once")]
    Crowded,
}

/// How long a nonce is handed out, seconds; it is accepted for twice as long.
pub const NONCE_STEP_S: i64 = 60;
/// Most proofs remembered; each for as long as its nonce could be accepted: 35,000 a second at least,
/// in some 75 MiB when full.
pub const MAX_PROOFS: usize = 1 << 22;
/// How far `iat` may lie from now, seconds, either way. The nonce already says when the proof was
/// made (RFC 9449 §11.1), so this only finds clocks that would break other things too.
pub const IAT_WINDOW_S: i64 = 300;

/// The desk where proofs are judged: the nonces of this process and the proofs that it saw.
///
/// The key of the nonces lives as long as the process. So no proof from before a restart is taken
/// after it, and the replay set may live in memory.
pub struct ProofDesk {
    nonces: Nonces,
    marks: TableKey,
    spent: Spent,
}

impl ProofDesk {
    /// A desk with a nonce key of its own.
    pub fn new(entropy: &dyn Entropy) -> Self {
        ProofDesk {
            nonces: Nonces::new(entropy),
            marks: TableKey::mint(entropy),
            spent: Spent::new(MAX_PROOFS),
        }
    }

    /// The nonce to hand out now (RFC 9449 §8): 22 characters, the same for everyone in a step.
    pub fn nonce(&self, now: Timestamp) -> String {
        self.nonces.text(self.nonces.advance(now))
    }

    /// Judges a proof: shape, `typ`, algorithm, key, signature, `htm`, `htu`, `iat`, `ath`, nonce,
    /// and last its `jti`, which is spent.
    ///
    /// # Errors
    /// The first rule broken, in that order (RFC 9449 §4.3 leaves the order to us). What the client
    /// must mend comes before the nonce, so that it is not sent round twice; and nothing is spent by
    /// a proof that is not taken.
    pub fn judge(
        &self,
        proof: &str,
        expected: &Expected<'_>,
        now: Timestamp,
    ) -> Result<Proof, ProofFault> {
        let (unverified, header) = jws::take_apart(proof).map_err(|fault| match fault {
            TokenFault::AlgorithmNotAccepted => ProofFault::AlgorithmNotAccepted,
            TokenFault::TypeWrong => ProofFault::TypeWrong,
            _ => ProofFault::Malformed,
        })?;
        let key = check_signature(&unverified, &header)?;
        let claims = Claims::read(&unverified.payload)?;
        claims.check(expected, now)?;
        let thumbprint = key.thumbprint();
        let era = self.era_of(&claims, now)?;
        // RFC 9449 §11.1: once. By key, so that nobody spends another's `jti`; for every address,
        // since an honest client draws a new one for each proof anyway (§4.2).
        let mark = self.marks.hash(&[thumbprint.as_bytes(), claims.jti.as_bytes()]);
        self.spent.spend(mark, era, || self.nonces.latest())?;
        Ok(Proof { thumbprint })
    }

    /// RFC 9449 §4.3 point 10: the nonce that this server gave, now or a step ago.
    fn era_of(&self, claims: &Claims, now: Timestamp) -> Result<Era, ProofFault> {
        let now = self.nonces.advance(now);
        let era = claims.nonce.as_deref().and_then(|nonce| self.nonces.era_of(nonce, now));
        era.ok_or(ProofFault::NonceWanted)
    }
}

/// RFC 9449 §4.3 points 4 to 7: type, algorithm, the key that the proof itself carries, signature.
fn check_signature(
    unverified: &Unverified<'_>,
    header: &Map<String, Value>,
) -> Result<Jwk, ProofFault> {
    // RFC 9449 §4.3 point 4, RFC 8725 §3.11: nothing else that this key signed is a proof.
    if unverified.typ.as_deref() != Some("dpop+jwt") {
        return Err(ProofFault::TypeWrong);
    }
    // RFC 9449 §4.3 point 5: asymmetric, not `none`; FAPI 2.0 §5.4.1 has no RS256.
    match unverified.algorithm {
        Algorithm::EdDsa | Algorithm::Es256 | Algorithm::Ps256 => {}
        Algorithm::Rs256 => return Err(ProofFault::AlgorithmNotAccepted),
    }
    // RFC 9449 §4.3 point 7: a key with private members is refused in there, and so is a symmetric
    // one. RFC 8725 §3.1: the key must be one of the header's algorithm.
    let key = header.get("jwk").and_then(|jwk| Jwk::from_json(jwk).ok());
    let key = key.filter(|key| key.algorithm() == unverified.algorithm);
    let key = key.ok_or(ProofFault::KeyMalformed)?;
    // RFC 9449 §4.3 point 6
    match key.verify(unverified.signed, &unverified.signature) {
        true => Ok(key),
        false => Err(ProofFault::SignatureWrong),
    }
}

/// The claims of a proof (RFC 9449 §4.2).
#[derive(Serialize, Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    ath: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    nonce: Option<String>,
}

impl Claims {
    /// RFC 9449 §4.3 point 3: all that §4.2 requires is there.
    fn read(payload: &[u8]) -> Result<Self, ProofFault> {
        let claims: Claims =
            serde_json::from_slice(payload).map_err(|_| ProofFault::ClaimMalformed)?;
        match (1..=MAX_JTI).contains(&claims.jti.len()) {
            true => Ok(claims),
            false => Err(ProofFault::ClaimMalformed),
        }
    }

    fn check(&self, expected: &Expected<'_>, now: Timestamp) -> Result<(), ProofFault> {
        // RFC 9449 §4.3 point 8; RFC 9110 §9.1: methods are case-sensitive.
        if self.htm != expected.method {
            return Err(ProofFault::MethodOther);
        }
        // RFC 9449 §4.3 point 9
        let address = same_spelling(&self.htu).ok_or(ProofFault::AddressOther)?;
        if Some(address) != same_spelling(expected.url) {
            return Err(ProofFault::AddressOther);
        }
        // RFC 9449 §4.3 point 11, §11.1
        if now.unix().abs_diff(self.iat) > IAT_WINDOW_S.unsigned_abs() {
            return Err(ProofFault::TimeOff);
        }
        // RFC 9449 §4.3 point 12: at a resource, the very token that is shown with it.
        let Some(token) = expected.token else { return Ok(()) };
        let ath = base64url::encode(&sha256(token.as_bytes()));
        match &self.ath {
            Some(shown) if same(shown.as_bytes(), ath.as_bytes()) => Ok(()),
            Some(_) | None => Err(ProofFault::TokenOther),
        }
    }
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// An address in the spelling in which two are compared (RFC 9449 §4.3): case of scheme and host
/// (RFC 3986 §6.2.2.1), the scheme's own port and the empty path (§6.2.3); query and fragment are
/// left out. Nothing in the path is touched: `/a` and `/%61` are two operations to us.
fn same_spelling(url: &str) -> Option<String> {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let (scheme, rest) = url.split_at_checked(end)?.0.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let own_port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
    let host = authority.strip_suffix(own_port).unwrap_or(authority).to_ascii_lowercase();
    let path = if path.is_empty() { "/" } else { path };
    Some(format!("{scheme}://{host}{path}"))
}

/// Makes a proof, for clients of our own (demo, `token fetch`, tests).
pub fn prove(
    key: &SigningKey,
    expected: &Expected<'_>,
    nonce: Option<&str>,
    (entropy, now): (&dyn Entropy, Timestamp),
) -> String {
    #[derive(Serialize)]
    struct Header<'a> {
        typ: &'a str,
        alg: &'a str,
        jwk: Value,
    }
    let mut jwk = key.public().to_json();
    if let Some(members) = jwk.as_object_mut() {
        // The proof is sent with every request, and the thumbprint needs only the rest.
        members.retain(|name, _| !matches!(name.as_str(), "kid" | "use" | "alg"));
    }
    let mut jti = [0; 16];
    entropy.fill(&mut jti);
    let claims = Claims {
        jti: base64url::encode(&jti),
        htm: expected.method.to_owned(),
        htu: expected.url.split(['?', '#']).next().unwrap_or_default().to_owned(),
        iat: now.unix(),
        ath: expected.token.map(|token| base64url::encode(&sha256(token.as_bytes()))),
        nonce: nonce.map(str::to_owned),
    };
    key.sign_under(&Header { typ: "dpop+jwt", alg: key.algorithm().name(), jwk }, &claims)
}

#[cfg(test)]
mod attacks;
