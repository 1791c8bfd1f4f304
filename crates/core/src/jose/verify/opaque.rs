//! Our opaque access tokens: the claims themselves, sealed, so that whoever carries one reads nothing
//! and whoever has the sealer needs no look-up.

use super::{AccessClaims, MAX_ACCESS_LIFE_S, Times, TokenFault, Verified, read};
use crate::seal::{Purpose, Sealer};
use crate::time::Timestamp;

/// What the text of every opaque access token of ours starts with.
pub const OPAQUE_PREFIX: &str = "at_";

/// Opens one of our opaque access tokens: the seal stands in for signature, key and type; then `iss`,
/// `aud` (`None` skips it) and the times, as of a JWT (RFC 9068 §4).
///
/// # Errors
/// [`TokenFault::SignatureWrong`] when no key of ours sealed it; otherwise the first rule broken.
pub fn opaque_token(
    token: &str,
    sealer: &Sealer,
    issuer: &str,
    audience: Option<&str>,
    now: Timestamp,
) -> Result<Verified<AccessClaims>, TokenFault> {
    let sealed = token.strip_prefix(OPAQUE_PREFIX).ok_or(TokenFault::TypeWrong)?;
    let opened = sealer.open(Purpose::Opaque, sealed).map_err(|_| TokenFault::SignatureWrong)?;
    let claims: AccessClaims = read(opened.expose())?;
    let times: Times = read(opened.expose())?;
    if claims.iss != issuer {
        return Err(TokenFault::IssuerWrong);
    }
    // RFC 8725 §3.9: a token for another API is not for this one.
    if audience.is_some_and(|audience| claims.aud != audience) {
        return Err(TokenFault::AudienceWrong);
    }
    times.check(now, MAX_ACCESS_LIFE_S)?;
    Ok(Verified { claims, kid: None })
}
