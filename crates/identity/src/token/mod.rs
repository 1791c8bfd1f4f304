//! The token endpoint (RFC 6749 §3.2): who asks, for which grant, and one transaction that mints.
//!
//! The order is the security: the client authenticates; what it presents is checked, which consumes
//! nothing but a DPoP proof; then one transaction reads the revocation sequence, uses up what is
//! used once, reads again everyone concerned, and mints. At most one commit per request.

pub(crate) mod client_auth;
pub(crate) mod binding;
pub(crate) mod authorization_code;
pub(crate) mod refresh_token;
pub(crate) mod client_credentials;
pub(crate) mod device;
pub(crate) mod exchange;
pub(crate) mod jwt_bearer;
pub(crate) mod details;
pub(crate) mod issue;
pub(crate) mod opaque;

use portcullis_core::client::{ClientRecord, GrantType};
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
    let result = match client_auth::authenticate(desk, authorization, form, presented).await {
        Ok(claim) => {
            client = Some(claim.client().id.to_string());
            granted(desk, claim, form, presented).await
        }
        Err(error) => Err(error),
    };
    let nonce = binding::nonce(desk, presented);
    match result {
        Ok(granted) => {
            Answered { result: Ok(granted.answer), caller: Some(granted.caller), client, nonce }
        }
        Err(error) => Answered { result: Err(error), caller: None, client, nonce },
    }
}

async fn granted(
    desk: &Desk,
    claim: Claim,
    form: &Parameters,
    presented: &Presented,
) -> Result<Granted, OauthError> {
    let request = match TokenRequest::read(form) {
        Ok(request) => request,
        Err(error) => return client_auth::refuse(desk, claim, error).await,
    };
    let client = claim.client();
    let allowed = may(client, kind(&request));
    if let Err(error) = allowed.and_then(|()| binding::shown(desk, client, presented)) {
        return client_auth::refuse(desk, claim, error).await;
    }
    // RFC 9396 §6: of what was granted, this token is for these alone.
    let details = form.value("authorization_details").map(str::to_owned);
    match request {
        TokenRequest::AuthorizationCode { code, redirect_uri, code_verifier, resource } => {
            let asked =
                authorization_code::Asked { code, redirect_uri, code_verifier, resource, details };
            authorization_code::redeem(desk, claim, asked, presented).await
        }
        TokenRequest::RefreshToken { token, scope, resource } => {
            let asked = refresh_token::Asked { token, scope, resource, details };
            refresh_token::answer(desk, claim, asked, presented).await
        }
        TokenRequest::ClientCredentials { scope, resource, details } => {
            let asked = client_credentials::Asked { scope, resource, details };
            client_credentials::answer(desk, claim, asked, presented).await
        }
        TokenRequest::DeviceCode { code } => device::redeem(desk, claim, code, presented).await,
        TokenRequest::TokenExchange {
            subject_token,
            subject_token_type,
            actor_token,
            actor_token_type,
            requested_token_type,
            scope,
            resource,
            audience,
        } => {
            let asked = exchange::ExchangeAsked {
                subject_token,
                subject_token_type,
                actor_token,
                actor_token_type,
                requested_token_type,
                scope,
                resource,
                audience,
            };
            exchange::answer(desk, claim, asked, presented).await
        }
        TokenRequest::JwtBearer { assertion, scope, resource } => {
            let asked = jwt_bearer::AssertionAsked { assertion, scope, resource };
            jwt_bearer::answer(desk, claim, asked, presented).await
        }
    }
}

fn kind(request: &TokenRequest) -> GrantType {
    match request {
        TokenRequest::AuthorizationCode { .. } => GrantType::AuthorizationCode,
        TokenRequest::RefreshToken { .. } => GrantType::RefreshToken,
        TokenRequest::ClientCredentials { .. } => GrantType::ClientCredentials,
        TokenRequest::DeviceCode { .. } => GrantType::DeviceCode,
        TokenRequest::TokenExchange { .. } => GrantType::TokenExchange,
        TokenRequest::JwtBearer { .. } => GrantType::JwtBearer,
    }
}

/// Whether a client may use a grant. Asked before anything is looked at, and again in the
/// transaction that mints, of the client as it is registered then.
///
/// # Errors
/// `unauthorized_client` (RFC 6749 §5.2).
pub(crate) fn may(client: &ClientRecord, grant: GrantType) -> Result<(), OauthError> {
    if client.may(grant) {
        return Ok(());
    }
    let rule = match grant {
        GrantType::AuthorizationCode => "ClientWithoutCodes",
        GrantType::RefreshToken => "ClientWithoutRefresh",
        GrantType::ClientCredentials => "ClientNotService",
        GrantType::DeviceCode => "ClientNotDevice",
        GrantType::TokenExchange => "ClientWithoutExchange",
        GrantType::JwtBearer => "ClientWithoutAssertions",
    };
    let description = "this client is not registered for this grant";
    Err(OauthError::new(ErrorCode::UnauthorizedClient, rule, description))
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
pub(crate) mod testing;
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;
