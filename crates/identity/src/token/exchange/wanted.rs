//! What an exchange may come to: one API of ours, and of the subject's rights those that both the
//! client and that API have.

use std::sync::Arc;

use portcullis_core::client::ClientRecord;
use portcullis_core::jose::claims::AccessClaims;
use portcullis_core::oauth::details::type_of;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::scope::Scopes;
use serde_json::Value;

use super::ExchangeAsked;
use crate::settings::{ApiTarget, Settings};
use crate::token::details;

/// What the new token will be for; within the subject's rights in each part.
pub(super) struct Narrowed {
    pub(super) audience: Arc<str>,
    pub(super) scopes: Scopes,
    pub(super) details: Vec<Value>,
}

impl Narrowed {
    /// Reads what is asked for against what the subject's token grants.
    ///
    /// # Errors
    /// `invalid_target`, `invalid_scope`.
    pub(super) fn read(
        settings: &Settings,
        client: &ClientRecord,
        asked: &ExchangeAsked,
        claims: &AccessClaims,
    ) -> Result<Self, OauthError> {
        let api = target(settings, asked)?;
        let scopes = scopes(client, api, asked.scope.as_deref(), &claims.scope)?;
        let understood =
            |word: Option<&str>| word.is_some_and(|word| api.details.iter().any(|d| d == word));
        // RFC 9396 §9: what was granted in detail goes along word for word, where it means anything.
        let mut details = details::kept(client, &claims.authorization_details);
        details.retain(|detail| understood(type_of(detail)));
        if scopes.is_empty() && details.is_empty() {
            let description = "nothing of the subject token's rights is left for this API";
            return Err(invalid_scope("NothingLeft", description));
        }
        Ok(Narrowed { audience: api.audience.clone(), scopes, details })
    }
}

/// The API. RFC 8693 §2.1: by its address (`resource`) or its name (`audience`), which are one here.
/// Never guessed: the client that goes on to somebody says to whom.
fn target<'s>(settings: &'s Settings, asked: &ExchangeAsked) -> Result<&'s ApiTarget, OauthError> {
    let invalid = |rule, description| OauthError::new(ErrorCode::InvalidTarget, rule, description);
    let named = match (asked.resource.as_deref(), asked.audience.as_deref()) {
        (Some(resource), Some(audience)) if resource != audience => {
            return Err(invalid("TargetTwice", "resource and audience name two APIs"));
        }
        (Some(named), _) | (None, Some(named)) => named,
        (None, None) => return Err(invalid("TargetUnclear", "name the API with resource")),
    };
    let found = settings.apis.iter().find(|api| *api.audience == *named);
    found.ok_or_else(|| invalid("TargetUnknown", "resource is not an API of this server"))
}

/// `6-attacks`: exchange never widens. What is asked for by name and cannot be given is refused
/// rather than cut, so that the client learns of it; without a name it is all that is left.
fn scopes(
    client: &ClientRecord,
    api: &ApiTarget,
    asked: Option<&str>,
    granted: &Scopes,
) -> Result<Scopes, OauthError> {
    let Some(text) = asked else {
        return Ok(granted.intersection(&client.scopes).intersection(&api.scopes));
    };
    let malformed = |_| invalid_scope("ScopeMalformed", "scope cannot be read");
    let asked = Scopes::parse(text).map_err(malformed)?;
    for (most, rule, description) in [
        (granted, "ScopeWidened", "a scope was asked for that the subject token does not have"),
        (
            &client.scopes,
            "ScopeUnregistered",
            "a scope was asked for that this client is not registered for",
        ),
        (
            &api.scopes,
            "ScopeOfAnotherTarget",
            "a scope was asked for that this resource does not use",
        ),
    ] {
        if !asked.is_subset(most) {
            return Err(invalid_scope(rule, description));
        }
    }
    Ok(asked)
}

fn invalid_scope(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidScope, rule, description)
}
