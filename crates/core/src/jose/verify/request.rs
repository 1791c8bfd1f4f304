//! Request objects (RFC 9101): authorization requests that the client signed.
//!
//! Only the frame is judged here; the parameters inside are read as any others, by the same table of
//! checks.

use serde_json::{Map, Value};

use super::super::jwk::JwkSet;
use super::super::jws::{self, TokenFault};
use super::{Times, Verified, check_signature, read, refuse_rs256};
use crate::time::Timestamp;

/// Longest life of a request object, seconds, and furthest that its `nbf` may lie back (FAPI 2.0
/// Message Signing §5.3.1).
pub const MAX_REQUEST_LIFE_S: i64 = 60 * 60;

/// Verifies a request object: type, algorithm, signature, `iss` and `client_id` the client's, `aud`
/// our issuer or a list with it, `exp` present. `nbf` is judged where it is; that it *must* be there
/// for `fapi2` clients is the caller's to ask (`claims().contains_key("nbf")`).
///
/// # Errors
/// The first rule broken.
pub fn request_object(
    token: &str,
    keys: &JwkSet,
    client: &str,
    issuer: &str,
    now: Timestamp,
) -> Result<Verified<Map<String, Value>>, TokenFault> {
    let unverified = jws::parse(token)?;
    // RFC 9101 §10.8, RFC 8725 §3.11; RFC 9101 §4 leaves `typ` to the client.
    match unverified.typ.as_deref() {
        None | Some("jwt" | "oauth-authz-req+jwt") => {}
        Some(_) => return Err(TokenFault::TypeWrong),
    }
    // RFC 9101 §4: signed; `none` does not even parse.
    refuse_rs256(&unverified)?;
    let signed = check_signature(unverified, keys)?;
    let claims = jws::strict_object(&signed.payload)?;
    check_client(&claims, client)?;
    // RFC 9101 §4, FAPI 2.0 Message Signing §5.3.1: the issuer, or a list that holds it.
    let to_us = match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().any(|aud| aud == issuer),
        Some(one) => one == issuer,
        None => return Err(TokenFault::ClaimMalformed),
    };
    if !to_us {
        return Err(TokenFault::AudienceWrong);
    }
    let times: Times = read(&signed.payload)?;
    times.check(now, MAX_REQUEST_LIFE_S)?;
    // FAPI 2.0 Message Signing §5.3.1: not before at most an hour ago, and an hour from there on.
    if let Some(nbf) = times.nbf {
        if now.unix().saturating_sub(nbf) > MAX_REQUEST_LIFE_S {
            return Err(TokenFault::Expired);
        }
        if times.exp.saturating_sub(nbf) > MAX_REQUEST_LIFE_S {
            return Err(TokenFault::NotYetValid);
        }
    }
    Ok(Verified { claims, kid: signed.kid.map(Into::into) })
}

/// Whose object it is, and that it is one.
fn check_client(claims: &Map<String, Value>, client: &str) -> Result<(), TokenFault> {
    // RFC 9101 §10.2: the client that signed is the client that asks.
    match claims.get("iss") {
        Some(iss) if iss == client => {}
        Some(Value::String(_)) => return Err(TokenFault::IssuerWrong),
        Some(_) | None => return Err(TokenFault::ClaimMalformed),
    }
    // RFC 9101 §5: `client_id` inside and outside are the same.
    if claims.get("client_id").is_some_and(|id| id != client) {
        return Err(TokenFault::IssuerWrong);
    }
    // RFC 9101 §10.8: a client assertion, which has the client for its subject, asks for nothing.
    if claims.get("sub").is_some_and(|sub| sub == client) {
        return Err(TokenFault::TypeWrong);
    }
    // RFC 9101 §4: no object within the object.
    if claims.contains_key("request") || claims.contains_key("request_uri") {
        return Err(TokenFault::ClaimMalformed);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
