//! Client credentials (RFC 6749 §4.4): software that speaks for itself.

use portcullis_core::client::{ClientRecord, ClientType};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::token::TokenAnswer;
use portcullis_core::scope::Scopes;
use portcullis_store::database::Tx;

use super::client_auth::{self, Claim};
use super::issue::{self, Revision, Wanted};
use super::{Aborted, Granted};
use crate::authorize::{OPENID, target};
use crate::desk::Desk;
use crate::settings::{ACCESS_TOKEN_S, Settings};

/// Mints a token for the client itself.
pub(crate) async fn answer(
    desk: &Desk,
    claim: Claim,
    scope: Option<String>,
    resource: Option<String>,
) -> Result<Granted, OauthError> {
    let asked = Asked { scope, resource };
    if let Err(error) = asked.read(&desk.settings, claim.client()) {
        client_auth::spend_alone(desk, claim).await?;
        return Err(error);
    }
    let at = desk.clone();
    let work = async move |tx: &Tx| -> Result<Result<Granted, OauthError>, Aborted> {
        // INVARIANT: before anything that a revocation could touch is read.
        let revision = Revision::read(tx).await?;
        let client = match claim.proven(tx, &at).await? {
            Ok(client) => client,
            Err(error) => return Ok(Err(error)),
        };
        // Read again for the client as it is registered now (see `Claim::proven`).
        let wanted = match asked.read(&at.shared.in_force(), &client) {
            Ok(wanted) => wanted,
            Err(error) => return Ok(Err(error)),
        };
        let token = issue::for_service(&at, revision, &client, wanted);
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

/// What the client sent.
struct Asked {
    scope: Option<String>,
    resource: Option<String>,
}

impl Asked {
    /// What is asked for, if the client may have it.
    fn read(&self, settings: &Settings, client: &ClientRecord) -> Result<Wanted, OauthError> {
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
        let invalid =
            |rule, description| OauthError::new(ErrorCode::InvalidScope, rule, description);
        let scopes = match self.scope.as_deref() {
            Some(text) => Scopes::parse(text)
                .map_err(|_| invalid("ScopeMalformed", "scope cannot be read"))?,
            // RFC 6749 §3.3: without a scope, a pre-defined value: what the operator registered.
            None => client.scopes.clone(),
        };
        // Nobody is there to be known.
        if scopes.contains(OPENID) || !scopes.is_subset(&client.scopes) {
            let description = "a scope was asked for that this client is not registered for";
            return Err(invalid("ScopeUnregistered", description));
        }
        let description = "name the API with resource";
        let unclear = || OauthError::new(ErrorCode::InvalidTarget, "TargetUnclear", description);
        let audience = target(settings, self.resource.as_deref(), &scopes)?.ok_or_else(unclear)?;
        Ok(Wanted { scopes, audience })
    }
}
