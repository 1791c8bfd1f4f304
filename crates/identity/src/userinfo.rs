//! Userinfo (OpenID Connect Core §5.3): what a client that holds an access token with `openid` may
//! know of its user, plain or signed.
//!
//! The gateway verified the token at the edge, its binding and that it was not revoked. Here only
//! the user is read again, since what is told is theirs.

use std::sync::Arc;

use portcullis_core::client::{Authentication, ClientRecord, ClientType};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::{AccessClaims, CallerKind};
use portcullis_core::jose::verify::Verified;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::scope::Scopes;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::users::UserRecord;
use serde_json::{Map, Value};

use crate::authorize::OPENID;
use crate::desk::Desk;
use crate::introspect::is_stranger;
use crate::outcome::{Answered, Document};
use crate::subject;
use crate::token::Aborted;

/// The scope for names (OpenID Connect Core §5.4).
const PROFILE: &str = "profile";
/// The scope for the mail address (OpenID Connect Core §5.4).
const EMAIL: &str = "email";
/// OpenID Connect Core §5.3.2: the media type of a signed answer.
const SIGNED: &str = "application/jwt";

/// `GET /oauth/userinfo`.
pub(crate) async fn answer(desk: &Desk, token: &Verified<AccessClaims>) -> Answered<Document> {
    let claims = token.claims();
    Answered {
        result: told(desk, claims).await,
        caller: Some(claims.caller()),
        client: Some(claims.client_id.to_string()),
        nonce: None,
    }
}

async fn told(desk: &Desk, claims: &AccessClaims) -> Result<Document, OauthError> {
    // OpenID Connect Core §5.3.1, RFC 6750 §3.1: a token of this server that was granted `openid`,
    // whatever API it is for.
    if !claims.scope.contains(OPENID) {
        let description = "the token was not granted the scope openid";
        return Err(OauthError::new(ErrorCode::InsufficientScope, "OpenidMissing", description));
    }
    let user = match claims.kind {
        CallerKind::User => Id::parse(&claims.sub).ok(),
        // Nobody is there to be told of.
        CallerKind::Service => None,
    };
    let user = user.ok_or_else(|| invalid("TokenOfNoUser", "the token speaks for no user"))?;
    // Without its registration nobody knows which `sub` it may see.
    let client = registered(desk, &claims.client_id);
    let client = client.ok_or_else(|| invalid("ClientRemoved", "the token is no longer good"))?;
    let user = active(desk, user, claims.gid.clone()).await?;
    Ok(document(desk, &client, about(desk, &client, &user, &claims.scope)))
}

/// The client; one that nobody registered sees what such clients see, unsigned.
fn registered(desk: &Desk, id: &Id<id::Client>) -> Option<Arc<ClientRecord>> {
    let known = desk.settings.clients.get(id).cloned();
    known.or_else(|| {
        let stranger = || ClientRecord::new(id.clone(), ClientType::Native, Authentication::None);
        is_stranger(&desk.settings, id).then(|| Arc::new(stranger()))
    })
}

/// The user, if they and the grant still are. The token may be some minutes old.
async fn active(
    desk: &Desk,
    user: Id<id::User>,
    grant: Option<Id<id::Grant>>,
) -> Result<UserRecord, OauthError> {
    let read = async move |tx: &Tx| -> Result<Result<UserRecord, OauthError>, StoreFault> {
        let Some(user) = tx.active_user(&user).await? else {
            return Ok(Err(invalid("UserDisabled", "the token is no longer good")));
        };
        let granted = match &grant {
            Some(grant) => tx.active_grant(grant).await?.is_some(),
            None => false,
        };
        match granted {
            true => Ok(Ok(UserRecord::clone(&user))),
            false => Ok(Err(invalid("GrantEnded", "the token is no longer good"))),
        }
    };
    desk.shared.store.read(read).await.map_err(|fault| OauthError::from(Aborted::Store(fault)))?
}

/// OpenID Connect Core §5.1, §5.4: each claim by the scope that asks for it.
fn about(
    desk: &Desk,
    client: &ClientRecord,
    user: &UserRecord,
    scope: &Scopes,
) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut say = |name: &str, value: &str| claims.insert(name.to_owned(), value.into());
    // OpenID Connect Core §5.3.2: always, and the very one of the ID token.
    say("sub", &subject::seen_by(desk, client, &user.id));
    if scope.contains(PROFILE) {
        say("name", &user.name);
        say("preferred_username", &user.login);
    }
    if scope.contains(EMAIL)
        && let Some(mail) = &user.mail
    {
        // OpenID Connect Core §5.7: relying parties link accounts by a verified address. Nobody
        // here has verified it, so `email_verified` is left out and never claimed.
        say("email", mail);
    }
    claims
}

fn document(desk: &Desk, client: &Arc<ClientRecord>, mut claims: Map<String, Value>) -> Document {
    if !client.signed_userinfo {
        return Document::Json(Value::Object(claims));
    }
    // OpenID Connect Core §5.3.2: signed, it SHOULD name issuer and audience. It never has an `exp`,
    // so that no reader can take it for an ID token (RFC 8725 §3.11).
    claims.insert("iss".to_owned(), Value::from(&*desk.settings.issuer_text));
    claims.insert("aud".to_owned(), Value::from(client.id.as_str()));
    let text = desk.shared.keyring.identity().sign("JWT", &claims);
    Document::Signed { media_type: SIGNED, text }
}

/// RFC 6750 §3.1: answered with 401.
fn invalid(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidToken, rule, description)
}

#[cfg(test)]
mod tests;
