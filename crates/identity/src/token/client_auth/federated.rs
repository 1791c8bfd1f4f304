//! A client for which another issuer speaks (workload identity: Kubernetes, SPIFFE; RFC 7523 §2.2
//! with a foreign `iss`). No key is registered here; the issuer's are held by the gateway.

use portcullis_core::client::Federated;
use portcullis_core::jose::jws;
use portcullis_core::jose::verify::{self, LEEWAY_S};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::secret::Secret;

use super::{Names, assertion_rule, refused};
use crate::desk::Desk;

/// Furthest that the `exp` of another issuer's word may lie ahead: what platforms project into files
/// lives an hour, some a day.
const MAX_LIFE_S: i64 = 24 * 60 * 60;

/// Verifies an assertion of the issuer that the client is registered with.
///
/// # Errors
/// `invalid_client`, naming the rule broken; `temporarily_unavailable` when the issuer's keys were
/// never reached.
pub(super) async fn verify(
    desk: &Desk,
    of: &Federated,
    names: &Names,
    assertion: &Secret<String>,
) -> Result<(), OauthError> {
    let issuer = desk.settings.issuers.iter().find(|issuer| issuer.name == of.issuer);
    let issuer = issuer.ok_or_else(|| refused("IssuerUnknown", "the issuer is not known here"))?;
    if issuer.until.is_some_and(|until| desk.now >= until) {
        return Err(refused("IssuerEnded", "this issuer is no longer accepted"));
    }
    // Compared before a key is fetched, so that garbage causes no request; and, being exact, it is
    // what binds the client to one workload (RFC 7523 §3 points 1 and 2).
    if names.iss.as_deref() != Some(issuer.issuer.as_str()) {
        return Err(refused("AssertionIssuerWrong", "the assertion is of another issuer"));
    }
    if names.sub != of.subject {
        return Err(refused("AssertionSubjectOther", "the assertion is for another subject"));
    }
    let malformed = |_| refused("AssertionMalformed", "the assertion cannot be read");
    let unverified = jws::parse(assertion.expose()).map_err(malformed)?;
    let keys = desk.shared.foreign.keys(issuer, unverified.kid.as_deref()).await;
    let keys = keys.map_err(|fault| {
        tracing::warn!(issuer = %issuer.name, %fault, "no keys of a federated client's issuer");
        let description = "the keys of the client's issuer cannot be had at the moment";
        OauthError::new(ErrorCode::TemporarilyUnavailable, "IssuerUnreachable", description)
    })?;
    let ours = &desk.settings.issuer_text;
    let verified = verify::federated_assertion(assertion.expose(), &keys, issuer, ours, desk.now);
    let verified = verified.map_err(|fault| {
        tracing::debug!(issuer = %issuer.name, %fault, "a federated assertion was refused");
        refused(assertion_rule(fault), "the assertion does not verify")
    })?;
    let claims = verified.claims();
    // RFC 7523 §3 point 4: unreasonably far in the future may be refused. It is read again and again
    // (see below), so its life is what bounds a thief of it.
    if claims.exp > desk.now.unix().saturating_add(MAX_LIFE_S + LEEWAY_S) {
        return Err(refused("AssertionTooLong", "the assertion lives longer than a day"));
    }
    // RFC 7800 §3.1: it would have to be shown with its key, which nobody does here.
    if claims.cnf.is_some() {
        return Err(refused("AssertionBound", "the assertion is bound to a key"));
    }
    // Deliberately not spent: such a token is minted by the platform, projected into a file and read
    // from there for its whole life, by every replica of the workload. What bounds a thief of it is
    // that life, and that what it obtains is bound to the thief's own key and dies with the client.
    Ok(())
}
