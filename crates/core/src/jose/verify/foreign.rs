//! Tokens of other issuers: access tokens at the edge, and assertions that stand for a client.
//!
//! Which issuer is asked follows from the configuration; where its keys came from is the gateway's
//! fetcher's. What the claims mean here is [`crate::foreign::mapped`]'s.

use serde_json::{Map, Value};

use super::super::claims::ForeignClaims;
use super::super::jwk::JwkSet;
use super::super::jws::{self, TokenFault, Unverified};
use super::{Times, Verified, check_signature};
use crate::foreign::ForeignIssuer;
use crate::time::Timestamp;

/// No token of another issuer is taken whose `exp` lies further ahead; a year and a day is what
/// Kubernetes writes into the longest of its service accounts' tokens.
pub const MAX_FOREIGN_LIFE_S: i64 = 366 * 24 * 60 * 60;

/// Verifies an access token of another issuer (RFC 7519 §7.2, RFC 9068 §4): type, the issuer's
/// algorithms, key, signature, `iss` byte for byte, times, one of the issuer's audiences in `aud`.
///
/// # Errors
/// The first rule broken, in that order; [`TokenFault::IssuerWrong`] too when the issuer is no longer
/// taken (`until`).
pub fn foreign_token(
    token: &str,
    keys: &JwkSet,
    issuer: &ForeignIssuer,
    now: Timestamp,
) -> Result<Verified<ForeignClaims>, TokenFault> {
    let unverified = jws::parse(token)?;
    // RFC 8725 §3.11: many issuers write `JWT` or nothing into access tokens; what says that it is
    // something else is not taken for one.
    match unverified.typ.as_deref() {
        None | Some("jwt" | "at+jwt") => {}
        Some(_) => return Err(TokenFault::TypeWrong),
    }
    let verified = verify(unverified, keys, issuer, now)?;
    // RFC 8725 §3.9; a token without an audience that we know is for somebody else.
    let ours = |aud: &String| issuer.audience.contains(aud);
    if !verified.claims.aud.iter().any(ours) {
        return Err(TokenFault::AudienceWrong);
    }
    Ok(verified)
}

/// Verifies another issuer's assertion that stands for a client or a grant (RFC 7521 §5.2,
/// RFC 7523 §3): the same, but `aud` is our issuer and nobody else, so that one written for another
/// server does not open this one. Whom it stands for (`sub`) is the caller's to compare.
///
/// # Errors
/// The first rule broken.
pub fn federated_assertion(
    token: &str,
    keys: &JwkSet,
    issuer: &ForeignIssuer,
    ours: &str,
    now: Timestamp,
) -> Result<Verified<ForeignClaims>, TokenFault> {
    let unverified = jws::parse(token)?;
    // SPIFFE JWT-SVID §2.3 has `JOSE`; Kubernetes writes nothing. An access token is no assertion.
    match unverified.typ.as_deref() {
        None | Some("jwt" | "jose" | "client-authentication+jwt") => {}
        Some(_) => return Err(TokenFault::TypeWrong),
    }
    let verified = verify(unverified, keys, issuer, now)?;
    // RFC 7523 §3 point 3. Kubernetes writes the one audience as a list.
    if verified.claims.aud != [ours] {
        return Err(TokenFault::AudienceWrong);
    }
    Ok(verified)
}

/// What holds for both: algorithm, key, signature, issuer, times.
fn verify(
    unverified: Unverified<'_>,
    keys: &JwkSet,
    issuer: &ForeignIssuer,
    now: Timestamp,
) -> Result<Verified<ForeignClaims>, TokenFault> {
    if issuer.until.is_some_and(|until| now >= until) {
        return Err(TokenFault::IssuerWrong);
    }
    // RFC 8725 §3.1, §3.2: those that the operator named; the key decides among them.
    let named = issuer.algorithms.contains(&unverified.algorithm);
    if !issuer.algorithms.is_empty() && !named {
        return Err(TokenFault::AlgorithmNotAccepted);
    }
    let signed = check_signature(unverified, keys)?;
    let raw = jws::strict_object(&signed.payload)?;
    refuse_events(&raw)?;
    let claims = ForeignClaims::read(raw)?;
    // RFC 8725 §3.8: the keys are this issuer's, so they speak for it alone.
    if claims.iss != issuer.issuer {
        return Err(TokenFault::IssuerWrong);
    }
    let times = Times { exp: claims.exp, iat: claims.iat, nbf: claims.nbf };
    times.check(now, MAX_FOREIGN_LIFE_S)?;
    Ok(Verified { claims, kid: signed.kid.map(Into::into) })
}

/// RFC 8417 §2.2: a security event (a logout token among them, OpenID Connect Back-Channel Logout
/// §2.4, which may be typed `JWT`) is no access token.
fn refuse_events(raw: &Map<String, Value>) -> Result<(), TokenFault> {
    if raw.contains_key("events") { Err(TokenFault::TypeWrong) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
