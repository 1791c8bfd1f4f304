//! Client credentials (RFC 6749 §4.4): software that speaks for itself.

use portcullis_core::client::{ClientRecord, GrantType};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_store::database::Tx;
use serde_json::Value;

use super::binding::{self, TOKEN_PATH};
use super::client_auth::{self, Claim};
use super::issue::{self, Extras, Revision, Wanted};
use super::{Aborted, Granted, details, may};
use crate::desk::Desk;
use crate::outcome::Presented;
use crate::settings::Settings;

/// Mints a token for the client itself.
pub(crate) async fn answer(
    desk: &Desk,
    claim: Claim,
    asked: Asked,
    presented: &Presented,
) -> Result<Granted, OauthError> {
    let fits = asked.read(&desk.settings, claim.client());
    let fits = fits.and_then(|_| binding::confirmation(desk, presented, TOKEN_PATH));
    let bound = match fits {
        Ok(bound) => bound,
        Err(error) => return client_auth::refuse(desk, claim, error).await,
    };
    let at = desk.clone();
    let work = async move |tx: &Tx| -> Result<Result<Granted, OauthError>, Aborted> {
        // INVARIANT: before anything that a revocation could touch is read.
        let revision = Revision::read(tx).await?;
        let client = match claim.proven(tx, &at).await? {
            Ok(client) => client,
            Err(error) => return Ok(Err(error)),
        };
        // Read again for the client as it is registered now (see `Claim::proven`).
        let (wanted, details) = match asked.read(&at.shared.in_force(), &client) {
            Ok(wanted) => wanted,
            Err(error) => return Ok(Err(error)),
        };
        let extras = Extras { binding: bound, details, ..Extras::default() };
        // RFC 6749 §4.4.3: no refresh token.
        let answer = issue::for_service(&at, revision, &client, wanted, extras).into_answer();
        Ok(Ok(Granted { answer, caller: format!("service:{}", client.id) }))
    };
    desk.shared.store.transact(work).await.map_err(OauthError::from)?
}

/// What the client sent.
pub(crate) struct Asked {
    pub(crate) scope: Option<String>,
    pub(crate) resource: Option<String>,
    /// `authorization_details`, as sent.
    pub(crate) details: Option<String>,
}

impl Asked {
    /// What is asked for, if the client may have it.
    fn read(
        &self,
        settings: &Settings,
        client: &ClientRecord,
    ) -> Result<(Wanted, Vec<Value>), OauthError> {
        may(client, GrantType::ClientCredentials)?;
        // RFC 6749 §4.4: confidential clients only, whatever was registered.
        if !client.is_confidential() {
            return Err(OauthError::new(
                ErrorCode::UnauthorizedClient,
                "ClientNotService",
                "only a confidential client may use client credentials",
            ));
        }
        let (scope, resource) = (self.scope.as_deref(), self.resource.as_deref());
        let wanted = Wanted::registered(settings, client, scope, resource)?;
        let details = details::asked(settings, client, self.details.as_deref(), &wanted.audience)?;
        Ok((wanted, details))
    }
}
