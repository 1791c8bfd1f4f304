//! The token endpoint (RFC 6749 §3.2): who asks, for which grant, and one transaction that mints.
//!
//! The order is the security: the client authenticates; what it presents is checked, which consumes
//! nothing; then one transaction reads the revocation sequence, uses up what is used once, reads
//! again everyone concerned, and mints. At most one commit per request.

pub(crate) mod authorization_code;
pub(crate) mod client_auth;
pub(crate) mod client_credentials;
pub(crate) mod issue;

use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::token::{PresentedClient, TokenAnswer, TokenRequest};
use portcullis_core::web::Parameters;
use portcullis_store::database::StoreFault;

use crate::desk::Desk;
use crate::outcome::{Answered, Presented};
use client_auth::Claim;

/// What a grant came to: the answer, and for whom (for the record).
pub(crate) struct Granted {
    pub(crate) answer: TokenAnswer,
    pub(crate) caller: String,
}

/// `POST /oauth/token`.
pub(crate) async fn answer(
    desk: &Desk,
    authorization: &[&[u8]],
    form: &Parameters,
    presented: &Presented,
) -> Answered<TokenAnswer> {
    let mut client = named(authorization, form);
    let result = match client_auth::authenticate(desk, authorization, form, presented) {
        Ok(claim) => {
            client = Some(claim.client().id.to_string());
            granted(desk, claim, form).await
        }
        Err(error) => Err(error),
    };
    match result {
        Ok(granted) => {
            Answered { result: Ok(granted.answer), caller: Some(granted.caller), client }
        }
        Err(error) => Answered { result: Err(error), caller: None, client },
    }
}

async fn granted(desk: &Desk, claim: Claim, form: &Parameters) -> Result<Granted, OauthError> {
    // FAPI 2.0 §5.3.2.1 (5): tokens are sender-constrained. Until DPoP and mTLS exist here, a
    // confidential client carries a dated waiver, kept at every request, not at a restart.
    let waived = claim.client().waivers.bearer_tokens.is_some_and(|until| desk.now < until);
    let request = TokenRequest::read(form);
    let refusal = match &request {
        Err(error) => Some(error.clone()),
        Ok(_) if claim.client().is_confidential() && !waived => Some(OauthError::new(
            ErrorCode::UnauthorizedClient,
            "WaiverBearerTokensExpired",
            "this client must bind its tokens to a key; its waiver has run out",
        )),
        Ok(_) => None,
    };
    if let Some(error) = refusal {
        client_auth::spend_alone(desk, claim).await?;
        return Err(error);
    }
    match request? {
        TokenRequest::AuthorizationCode { code, redirect_uri, code_verifier, resource } => {
            let presented =
                authorization_code::Presented { code, redirect_uri, code_verifier, resource };
            authorization_code::redeem(desk, claim, presented).await
        }
        TokenRequest::ClientCredentials { scope, resource } => {
            client_credentials::answer(desk, claim, scope, resource).await
        }
    }
}

/// The client as merely named, for the record: `?name`.
pub(crate) fn named(authorization: &[&[u8]], form: &Parameters) -> Option<String> {
    let name = match PresentedClient::read(authorization, form) {
        Ok(PresentedClient::Public { client_id } | PresentedClient::Basic { client_id, .. }) => {
            Some(client_id)
        }
        Ok(PresentedClient::Assertion { client_id, .. }) => client_id,
        Err(_) => form.value("client_id").map(str::to_owned),
    };
    name.map(|name| format!("?{name}"))
}

/// Why a transaction of the token endpoint was rolled back.
pub(crate) enum Aborted {
    /// The store failed.
    Store(StoreFault),
    /// A rule was broken after something was written.
    Refused(OauthError),
}

impl From<StoreFault> for Aborted {
    fn from(fault: StoreFault) -> Self {
        Aborted::Store(fault)
    }
}

impl From<Aborted> for OauthError {
    fn from(aborted: Aborted) -> Self {
        match aborted {
            Aborted::Refused(error) => error,
            // RFC 6749 §4.1.2.1's word, which §5.2 lacks; clients back off at the 503.
            Aborted::Store(StoreFault::Busy) => OauthError::new(
                ErrorCode::TemporarilyUnavailable,
                "StoreBusy",
                "try again in a moment",
            ),
            Aborted::Store(fault) => {
                tracing::error!(%fault, "the token endpoint failed in the store");
                OauthError::new(ErrorCode::ServerError, "StoreFailed", "try again later")
            }
        }
    }
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;
