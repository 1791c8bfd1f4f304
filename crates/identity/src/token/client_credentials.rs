//! Client credentials (RFC 6749 §4.4): software that speaks for itself.

use std::sync::Arc;

use portcullis_core::client::ClientType;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::token::TokenAnswer;
use portcullis_core::scope::Scopes;
use portcullis_store::database::Tx;

use super::client_auth::{self, Claim};
use super::issue::{self, Revision};
use super::{Aborted, Granted};
use crate::authorize::{OPENID, target};
use crate::desk::Desk;
use crate::settings::ACCESS_TOKEN_S;

/// Mints a token for the client itself.
pub(crate) async fn answer(
    desk: &Desk,
    claim: Claim,
    scope: Option<String>,
    resource: Option<String>,
) -> Result<Granted, OauthError> {
    let wanted = wanted(desk, &claim, scope.as_deref(), resource.as_deref());
    let (scopes, audience) = match wanted {
        Ok(wanted) => wanted,
        Err(error) => {
            client_auth::spend_alone(desk, claim).await?;
            return Err(error);
        }
    };
    let at = desk.clone();
    let work = async move |tx: &Tx| -> Result<Result<Granted, OauthError>, Aborted> {
        // INVARIANT: before anything that a revocation could touch is read.
        let revision = Revision::read(tx).await?;
        let client = match claim.proven(tx).await? {
            Ok(client) => client,
            Err(error) => return Ok(Err(error)),
        };
        let token = issue::for_service(&at, revision, &client, issue::Wanted { scopes, audience });
        let answer = TokenAnswer {
            scope: token.scope().to_string(),
            access_token: token.into_text(),
            token_type: "Bearer",
            expires_in: ACCESS_TOKEN_S,
            id_token: None,
        };
        Ok(Ok(Granted { answer, caller: format!("service:{}", client.id) }))
    };
    desk.shared.store.transact(work).await.map_err(OauthError::from)?
}

/// What is asked for, as far as the client may have it.
fn wanted(
    desk: &Desk,
    claim: &Claim,
    scope: Option<&str>,
    resource: Option<&str>,
) -> Result<(Scopes, Arc<str>), OauthError> {
    let client = claim.client();
    match client.kind {
        ClientType::Service => {}
        // RFC 6749 §4.4: confidential clients only; ours must be made for it.
        ClientType::Spa | ClientType::Native | ClientType::Web => {
            return Err(OauthError::new(
                ErrorCode::UnauthorizedClient,
                "ClientNotService",
                "only a service may use client credentials",
            ));
        }
    }
    let invalid = |rule, description| OauthError::new(ErrorCode::InvalidScope, rule, description);
    let scopes = match scope {
        Some(text) => {
            Scopes::parse(text).map_err(|_| invalid("ScopeMalformed", "scope cannot be read"))?
        }
        // RFC 6749 §3.3: without a scope, a pre-defined value: what the operator registered.
        None => client.scopes.clone(),
    };
    // Nobody is there to be known.
    if scopes.contains(OPENID) || !scopes.is_subset(&client.scopes) {
        let description = "a scope was asked for that this client is not registered for";
        return Err(invalid("ScopeUnregistered", description));
    }
    let unclear =
        || OauthError::new(ErrorCode::InvalidTarget, "TargetUnclear", "name the API with resource");
    let audience = target(&desk.settings, resource, &scopes)?.ok_or_else(unclear)?;
    Ok((scopes, audience))
}
