//! What a token is bound to: the key of a DPoP proof (RFC 9449) or a client certificate (RFC 8705).
//!
//! Judged once per request, after the client has authenticated and before the transaction: judging
//! spends the proof. Which binding a grant insists on is the grant's own question.

use portcullis_core::client::{Binding, ClientRecord};
use portcullis_core::jose::claims::Confirmation;
use portcullis_core::jose::dpop::{Expected, ProofFault};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::web::Address;

use crate::desk::Desk;
use crate::outcome::Presented;

/// The token endpoint's path: what the proofs of all grants are for (`htu`).
pub(crate) const TOKEN_PATH: &str = "/oauth/token";

/// What this request proves possession of: the key of its DPoP proof, else the certificate of its
/// connection at the mTLS origin, else nothing. `path` is the endpoint's.
///
/// # Errors
/// `use_dpop_nonce` when the proof lacks a nonce in force, else `invalid_dpop_proof`, naming the
/// rule broken. Call it once per request: a proof is good once.
pub(crate) fn confirmation(
    desk: &Desk,
    presented: &Presented,
    path: &str,
) -> Result<Option<Confirmation>, OauthError> {
    let proof = match presented.dpop.as_slice() {
        // RFC 8705 §3: bound to the certificate of the connection, where certificates are asked for.
        [] => {
            let shown = presented.certificate.as_ref().filter(|_| at_mtls(desk, presented));
            let bound = shown.map(|shown| Confirmation::Certificate(shown.thumbprint().to_owned()));
            return Ok(bound);
        }
        [proof] => proof.expose(),
        // RFC 9449 §4.3 (1): not more than one field.
        [_, _, ..] => return Err(unproven("DpopTwice", "send one DPoP field")),
    };
    let url = origin(desk, presented).with_path(path).to_string();
    let expected = Expected { method: "POST", url: &url, token: None };
    match desk.shared.proofs.judge(proof, &expected, desk.now) {
        Ok(proof) => Ok(Some(Confirmation::Key(proof.thumbprint().to_owned()))),
        // RFC 9449 §8: the client repeats the request with the nonce that it is handed.
        Err(ProofFault::NonceWanted) => Err(OauthError::new(
            ErrorCode::UseDpopNonce,
            "DpopNonceWanted",
            "put the DPoP-Nonce of this answer into the proof and send the request again",
        )),
        Err(ProofFault::Crowded) => Err(OauthError::new(
            ErrorCode::TemporarilyUnavailable,
            "DpopCrowded",
            "too many proofs at once; try again in a moment",
        )),
        Err(fault) => {
            tracing::debug!(%fault, "a DPoP proof was refused at the token endpoint");
            Err(unproven(rule(fault), "the DPoP proof does not hold (RFC 9449 section 4.3)"))
        }
    }
}

/// Whether a client that must bind its tokens shows anything to bind them to. Looks, and spends
/// nothing.
///
/// # Errors
/// `invalid_request`: FAPI 2.0 §5.3.2.1 (5), unless a `bearer_tokens` waiver is in force.
pub(crate) fn shown(
    desk: &Desk,
    client: &ClientRecord,
    presented: &Presented,
) -> Result<(), OauthError> {
    let anything =
        !presented.dpop.is_empty() || (presented.certificate.is_some() && at_mtls(desk, presented));
    match client.binding {
        Binding::Offered => Ok(()),
        Binding::Required if anything => Ok(()),
        // The date is kept at every request, not at a restart.
        Binding::Required if client.waivers.bearer_tokens_at(desk.now) => Ok(()),
        Binding::Required => {
            let (rule, description) = match client.waivers.bearer_tokens {
                Some(_) => (
                    "WaiverBearerTokensExpired",
                    "this client must bind its tokens with DPoP or a certificate; its waiver has run out",
                ),
                None => (
                    "BindingMissing",
                    "this client must bind its tokens: send a DPoP proof, or a certificate at the mTLS origin",
                ),
            };
            Err(OauthError::new(ErrorCode::InvalidRequest, rule, description))
        }
    }
}

/// A nonce for the answer to whoever speaks DPoP (RFC 9449 §8.2): also a successful answer renews
/// it, so that the next request need not be sent twice.
pub(crate) fn nonce(desk: &Desk, presented: &Presented) -> Option<String> {
    (!presented.dpop.is_empty()).then(|| desk.shared.proofs.nonce(desk.now))
}

/// `token_type` of a token (RFC 9449 §5; RFC 8705 §3 leaves it `Bearer`).
pub(crate) fn token_type(binding: Option<&Confirmation>) -> &'static str {
    match binding {
        Some(Confirmation::Key(_)) => "DPoP",
        Some(Confirmation::Certificate(_)) | None => "Bearer",
    }
}

/// Whether the request came in where client certificates are asked for (RFC 8705 §5).
pub(crate) fn at_mtls(desk: &Desk, presented: &Presented) -> bool {
    let mtls = desk.settings.mtls.as_ref();
    mtls.is_some_and(|mtls| mtls.authority() == presented.authority)
}

/// The origin that was asked: never what `Host` says, but the one of ours that it names.
fn origin<'a>(desk: &'a Desk, presented: &Presented) -> &'a Address {
    let mtls = desk.settings.mtls.as_ref().filter(|_| at_mtls(desk, presented));
    mtls.unwrap_or(&desk.settings.issuer)
}

/// The rule of a proof's fault, for the record.
fn rule(fault: ProofFault) -> &'static str {
    match fault {
        ProofFault::Malformed => "DpopMalformed",
        ProofFault::TypeWrong => "DpopTypeWrong",
        ProofFault::AlgorithmNotAccepted => "DpopAlgorithmNotAccepted",
        ProofFault::KeyMalformed => "DpopKeyMalformed",
        ProofFault::SignatureWrong => "DpopSignatureWrong",
        ProofFault::ClaimMalformed => "DpopClaimMalformed",
        ProofFault::MethodOther => "DpopMethodOther",
        ProofFault::AddressOther => "DpopAddressOther",
        ProofFault::TimeOff => "DpopTimeOff",
        ProofFault::TokenOther => "DpopTokenOther",
        ProofFault::NonceWanted => "DpopNonceWanted",
        ProofFault::Replayed => "DpopReplayed",
        ProofFault::Crowded => "DpopCrowded",
    }
}

fn unproven(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidDpopProof, rule, description)
}

#[cfg(test)]
mod tests;
