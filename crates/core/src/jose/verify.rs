//! The only maker of [`Verified`]: a claim set whose signature, type, issuer, audience and times
//! have all been checked.

mod foreign;
mod opaque;
mod request;

use serde::Deserialize;

use super::algorithm::Algorithm;
use super::claims::{AccessClaims, AssertionClaims, IdClaims};
use super::jwk::JwkSet;
use super::jws::{self, TokenFault, Unverified};
use crate::time::Timestamp;

pub use self::foreign::{MAX_FOREIGN_LIFE_S, federated_assertion, foreign_token};
pub use self::opaque::{OPAQUE_PREFIX, opaque_token};
pub use self::request::{MAX_REQUEST_LIFE_S, request_object};

/// Claims that were verified; cannot be made anywhere else.
///
/// ```compile_fail,E0451
/// use portcullis_core::jose::verify::Verified;
/// let forged = Verified { claims: "sub=admin", kid: None };
/// ```
/// The twin, which only reads:
/// ```
/// use portcullis_core::jose::verify::Verified;
/// fn read(verified: &Verified<&'static str>) -> &'static str { verified.claims() }
/// ```
#[derive(Clone, Debug)]
pub struct Verified<C> {
    claims: C,
    kid: Option<Box<str>>,
}

impl<C> Verified<C> {
    /// The claims.
    pub fn claims(&self) -> &C {
        &self.claims
    }
    /// The key that signed them.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }
}

/// Clocks apart by this much are one clock: 8 s ahead is accepted, 60 s is not (FAPI 2.0 §5.3.2.1).
pub const LEEWAY_S: i64 = 10;
/// No access token of ours lives longer; one that claims to is not ours to believe.
pub const MAX_ACCESS_LIFE_S: i64 = 24 * 60 * 60;
/// Furthest that an assertion's `exp` may lie ahead: its `jti` is remembered as long. An hour is
/// what clients in use write (Authlib's default).
pub const MAX_ASSERTION_LIFE_S: i64 = 60 * 60;
/// Longest `jti` of an assertion, in bytes.
pub const MAX_JTI: usize = 128;

/// Verifies one of our access tokens (RFC 9068 §4): `typ` `at+jwt`, then key and algorithm, then
/// signature, `iss`, `aud` (one string, byte for byte; `None` skips it for a house line),
/// `exp`, `iat`. Numbers must be integers.
///
/// # Errors
/// The first rule broken, in that order. Whether the token was revoked is not asked here.
pub fn access_token(
    token: &str,
    keys: &JwkSet,
    issuer: &str,
    audience: Option<&str>,
    now: Timestamp,
) -> Result<Verified<AccessClaims>, TokenFault> {
    let unverified = jws::parse(token)?;
    // RFC 9068 §4, RFC 8725 §3.11: an ID token or an assertion is no access token.
    if unverified.typ.as_deref() != Some("at+jwt") {
        return Err(TokenFault::TypeWrong);
    }
    let signed = check_signature(unverified, keys)?;
    let claims: AccessClaims = read(&signed.payload)?;
    let times: Times = read(&signed.payload)?;
    // RFC 9068 §4: `iss` exactly; RFC 8725 §3.8: the key belongs to this issuer.
    if claims.iss != issuer {
        return Err(TokenFault::IssuerWrong);
    }
    // RFC 8725 §3.9: a token for another API is not for this one.
    if audience.is_some_and(|audience| claims.aud != audience) {
        return Err(TokenFault::AudienceWrong);
    }
    times.check(now, MAX_ACCESS_LIFE_S)?;
    Ok(Verified { claims, kid: signed.kid.map(Into::into) })
}

/// Verifies a client assertion (RFC 7523 §3): `iss` = `sub` = the client, `aud` = our issuer as one
/// string, `exp` present and at most [`MAX_ASSERTION_LIFE_S`] ahead, `jti` present (≤ 128 bytes).
/// Replay of the `jti` is the caller's to refuse, atomically.
///
/// # Errors
/// The first rule broken.
pub fn client_assertion(
    token: &str,
    keys: &JwkSet,
    client: &str,
    issuer: &str,
    now: Timestamp,
) -> Result<Verified<AssertionClaims>, TokenFault> {
    let unverified = jws::parse(token)?;
    // RFC 8725 §3.11; the draft that revises RFC 7523 names `client-authentication+jwt`, older
    // clients write `JWT` or nothing.
    match unverified.typ.as_deref() {
        None | Some("jwt" | "client-authentication+jwt") => {}
        Some(_) => return Err(TokenFault::TypeWrong),
    }
    refuse_rs256(&unverified)?;
    let signed = check_signature(unverified, keys)?;
    let claims: AssertionClaims = read(&signed.payload)?;
    let times: Times = read(&signed.payload)?;
    // RFC 7523 §3, points 1 and 2: the client speaks for itself.
    if claims.iss != client || claims.sub != client {
        return Err(TokenFault::IssuerWrong);
    }
    // RFC 7523bis §4: the issuer as the only value, never the token endpoint or a list: one
    // written for another server must not open this one.
    if claims.aud != issuer {
        return Err(TokenFault::AudienceWrong);
    }
    // RFC 7523 §3, point 7, here required: without it a replay could not be told.
    if !(1..=MAX_JTI).contains(&claims.jti.len()) {
        return Err(TokenFault::ClaimMalformed);
    }
    times.check(now, MAX_ASSERTION_LIFE_S)?;
    Ok(Verified { claims, kid: signed.kid.map(Into::into) })
}

/// Verifies one of our ID tokens that came back as a hint (OpenID Connect Core §3.1.2.1,
/// RP-Initiated Logout §2): the signature, the type and `iss` must hold; it may have expired, and
/// says only who was logged in where. `keys` should hold retired ones too.
///
/// # Errors
/// The first rule broken. Whose it is (`aud`, `sub`, `sid`) is the caller's to compare.
pub fn id_token_hint(
    token: &str,
    keys: &JwkSet,
    issuer: &str,
) -> Result<Verified<IdClaims>, TokenFault> {
    let unverified = jws::parse(token)?;
    // RFC 8725 §3.11: our access tokens, logout tokens and assertions have types of their own.
    if unverified.typ.as_deref() != Some("jwt") {
        return Err(TokenFault::TypeWrong);
    }
    let signed = check_signature(unverified, keys)?;
    let claims: IdClaims = read(&signed.payload)?;
    if claims.iss != issuer {
        return Err(TokenFault::IssuerWrong);
    }
    Ok(Verified { claims, kid: signed.kid.map(Into::into) })
}

/// What our own clients sign is EdDSA, ES256 or PS256 (FAPI 2.0 §5.4.1), whatever key one registered.
fn refuse_rs256(unverified: &Unverified<'_>) -> Result<(), TokenFault> {
    match unverified.algorithm {
        Algorithm::EdDsa | Algorithm::Es256 | Algorithm::Ps256 => Ok(()),
        Algorithm::Rs256 => Err(TokenFault::AlgorithmNotAccepted),
    }
}

/// Finds the one key that may have signed, and asks it.
fn check_signature<'a>(
    unverified: Unverified<'a>,
    keys: &JwkSet,
) -> Result<Unverified<'a>, TokenFault> {
    // RFC 8725 §3.1: the key decides the algorithm; a header that names another finds no key.
    let key = keys.find(unverified.kid.as_deref(), unverified.algorithm);
    let key = key.ok_or(TokenFault::KeyUnknown)?;
    match key.verify(unverified.signed, &unverified.signature) {
        true => Ok(unverified),
        false => Err(TokenFault::SignatureWrong),
    }
}

fn read<C: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<C, TokenFault> {
    serde_json::from_slice(payload).map_err(|_| TokenFault::ClaimMalformed)
}

/// The times of any token: whole seconds (RFC 7519 §2 allows fractions; we mint none, and what two
/// readers could round apart is refused). A `null` is not a number.
#[derive(Deserialize)]
struct Times {
    exp: i64,
    #[serde(default, deserialize_with = "present")]
    iat: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<i64>,
}

impl Times {
    fn check(&self, now: Timestamp, life_s: i64) -> Result<(), TokenFault> {
        let now = now.unix();
        // RFC 7519 §4.1.4: on or after `exp` it is over. No leeway: a revocation is remembered
        // only as long as a token could live.
        if now >= self.exp {
            return Err(TokenFault::Expired);
        }
        let soon = now.saturating_add(LEEWAY_S);
        // RFC 7519 §4.1.5, §4.1.6
        let ahead = |time: Option<i64>| time.is_some_and(|time| time > soon);
        if ahead(self.nbf) || ahead(self.iat) || self.exp > soon.saturating_add(life_s) {
            return Err(TokenFault::NotYetValid);
        }
        Ok(())
    }
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    i64::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod attacks;
