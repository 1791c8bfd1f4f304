//! Token exchange (RFC 8693): a service that was called goes on in the name of its caller.
//!
//! Who may exchange what, by least privilege:
//! - A user's token only the API that it was shown to: the client must `introspects` the token's
//!   `aud`. That is the one relation between a client and an API that the operator writes down, and
//!   it already says "this client is that API". Being named anywhere else (a `may_act` claim,
//!   RFC 8693 §4.4) opens nothing: we mint none, and what a token says of itself is not consent.
//! - A service's token only that service itself. A service that was called by a service has
//!   credentials of its own and goes on as itself; no user's rights are at stake.
//!
//! What comes out is never more than what went in: scopes, `authorization_details` and life are
//! those of the subject's token or fewer, and every service on the way stands in `act`.

mod wanted;

use portcullis_core::client::{ClientRecord, GrantType};
use portcullis_core::id::Id;
use portcullis_core::jose::claims::{AccessClaims, Actor, CallerKind, Confirmation, MAX_ACTORS};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::token::TokenAnswer;
use portcullis_core::secret::Secret;
use portcullis_store::database::Tx;

use super::binding::{self, TOKEN_PATH};
use super::client_auth::{self, AuthenticatedClient, Claim};
use super::issue::{self, Extras, Person, Revision, Wanted};
use super::{Aborted, Granted, may};
use crate::desk::Desk;
use crate::introspect::Read;
use crate::outcome::Presented;
use wanted::Narrowed;

/// RFC 8693 §3: the one type of token that is taken and given. `…:jwt` would say less: an ID token
/// is a JWT too.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What the client sent (RFC 8693 §2.1).
pub(crate) struct ExchangeAsked {
    pub(crate) subject_token: Secret<String>,
    pub(crate) subject_token_type: String,
    pub(crate) actor_token: Option<Secret<String>>,
    pub(crate) actor_token_type: Option<String>,
    pub(crate) requested_token_type: Option<String>,
    pub(crate) scope: Option<String>,
    pub(crate) resource: Option<String>,
    pub(crate) audience: Option<String>,
}

/// Exchanges a token.
pub(crate) async fn answer(
    desk: &Desk,
    claim: Claim,
    asked: ExchangeAsked,
    presented: &Presented,
) -> Result<Granted, OauthError> {
    let read = Tokens::read(desk, claim.client(), &asked)
        .and_then(|tokens| {
            // Asked before anything is spent, and again below.
            entitled(claim.client(), &tokens.subject.claims)?;
            Narrowed::read(&desk.settings, claim.client(), &asked, &tokens.subject.claims)?;
            Ok(tokens)
        })
        .and_then(|tokens| Ok((tokens, binding::confirmation(desk, presented, TOKEN_PATH)?)));
    let (tokens, binding) = match read {
        Ok(read) => read,
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
        if let Err(error) = tokens.alive(tx, &at).await? {
            return Ok(Err(error));
        }
        // The client and the APIs as they are now (see `Claim::proven`).
        let narrowed = match allowed(&at, &client, &asked, &tokens.subject.claims) {
            Ok(narrowed) => narrowed,
            Err(error) => return Ok(Err(error)),
        };
        exchanged(tx, &at, (revision, &client), tokens.subject.claims, (narrowed, binding)).await
    };
    desk.shared.store.transact(work).await.map_err(OauthError::from)?
}

/// The tokens that the client sent, each one of ours.
struct Tokens {
    subject: Read,
    actor: Option<Read>,
}

impl Tokens {
    /// Signature or seal, issuer and times are checked here; no store is asked.
    fn read(desk: &Desk, client: &ClientRecord, asked: &ExchangeAsked) -> Result<Self, OauthError> {
        let ours = |kind: Option<&String>| kind.is_none_or(|kind| kind == ACCESS_TOKEN);
        if !ours(Some(&asked.subject_token_type)) {
            return Err(refused("SubjectTokenTypeUnsupported", "only access tokens are exchanged"));
        }
        if !ours(asked.actor_token_type.as_ref()) {
            return Err(refused(
                "ActorTokenTypeUnsupported",
                "an actor is named by an access token",
            ));
        }
        // RFC 8693 §2.1: the server may refuse what it does not issue.
        if !ours(asked.requested_token_type.as_ref()) {
            return Err(refused("RequestedTypeUnsupported", "only access tokens are issued"));
        }
        // RFC 8693 §2.2.2: invalid for whatever reason, the answer is `invalid_request`. A bound
        // token needs no proof of its key here: the client proves by its own credentials that it is
        // the API to which the holder showed the token (RFC 9449 §9 binds use at the resource).
        let subject = Read::of(desk, asked.subject_token.expose())
            .ok_or_else(|| refused("SubjectTokenInvalid", "the subject token is not good"))?;
        let actor = match &asked.actor_token {
            Some(token) => Some(actor(desk, client, token)?),
            None => None,
        };
        Ok(Tokens { subject, actor })
    }

    /// Nothing that they name was revoked, ended or disabled.
    async fn alive(&self, tx: &Tx, desk: &Desk) -> Result<Result<(), OauthError>, Aborted> {
        if !self.subject.lives(tx, desk).await? {
            return Ok(Err(refused("SubjectTokenRevoked", "the subject token is not good")));
        }
        match &self.actor {
            Some(actor) if !actor.lives(tx, desk).await? => {
                Ok(Err(refused("ActorTokenRevoked", "the actor token is not good")))
            }
            Some(_) | None => Ok(Ok(())),
        }
    }
}

/// RFC 8693 §2.1: the acting party. It is the client that authenticates, so the only actor token
/// that is taken is its own; another's would let it write somebody else's name into `act`.
fn actor(desk: &Desk, client: &ClientRecord, token: &Secret<String>) -> Result<Read, OauthError> {
    let invalid = || refused("ActorTokenInvalid", "the actor token is not good");
    let actor = Read::of(desk, token.expose()).ok_or_else(invalid)?;
    match own(client, &actor.claims) {
        true => Ok(actor),
        false => Err(refused("ActorTokenOfAnother", "the actor can only be the client itself")),
    }
}

/// Whether a token is the client's own, speaking for itself.
fn own(client: &ClientRecord, claims: &AccessClaims) -> bool {
    let named = claims.client_id == client.id && claims.sub == client.id.as_str();
    named && claims.kind == CallerKind::Service && claims.act.is_none()
}

/// Whether this client may exchange this token: see the top of the file.
fn entitled(client: &ClientRecord, claims: &AccessClaims) -> Result<(), OauthError> {
    may(client, GrantType::TokenExchange)?;
    // RFC 8693 §5: without client authentication a stolen token could be exchanged by anyone.
    if !client.is_confidential() {
        let description = "only a confidential client may exchange tokens";
        let code = ErrorCode::UnauthorizedClient;
        return Err(OauthError::new(code, "ExchangeUnauthenticated", description));
    }
    match claims.kind {
        CallerKind::User if client.introspects.contains(&claims.aud) => Ok(()),
        CallerKind::User => Err(refused(
            "SubjectOfAnotherAudience",
            "the subject token is for an API that this client is not",
        )),
        CallerKind::Service if own(client, claims) => Ok(()),
        CallerKind::Service => Err(refused(
            "SubjectOfAnotherService",
            "a service goes on with its own credentials, not with another service's",
        )),
    }
}

/// Everything that is asked of client and token, under the settings in force.
fn allowed(
    desk: &Desk,
    client: &ClientRecord,
    asked: &ExchangeAsked,
    claims: &AccessClaims,
) -> Result<Narrowed, OauthError> {
    entitled(client, claims)?;
    Narrowed::read(&desk.shared.in_force(), client, asked, claims)
}

/// The token, for whoever the subject's token speaks for.
async fn exchanged(
    tx: &Tx,
    desk: &Desk,
    (revision, client): (Revision, &AuthenticatedClient),
    claims: AccessClaims,
    (narrowed, binding): (Narrowed, Option<Confirmation>),
) -> Result<Result<Granted, OauthError>, Aborted> {
    let actor = match acting(client, &claims) {
        Ok(actor) => actor,
        Err(error) => return Ok(Err(error)),
    };
    let extras = Extras {
        binding,
        details: narrowed.details,
        actor,
        narrowed: Some(narrowed.scopes.clone()),
        audience: Some(narrowed.audience.clone()),
        // RFC 8693 §2.2.1, §6: it outlives nothing that it was made of.
        latest: Some(claims.exp),
    };
    let caller = claims.caller();
    let token = match claims.kind {
        CallerKind::User => {
            let Some(person) = person(tx, desk, &claims).await? else {
                return Ok(Err(refused("SubjectTokenRevoked", "the subject token is not good")));
            };
            issue::for_user(desk, revision, client, &person, extras)
        }
        CallerKind::Service => {
            let wanted = Wanted { scopes: narrowed.scopes, audience: narrowed.audience };
            issue::for_service(desk, revision, client, wanted, extras)
        }
    };
    let answer = TokenAnswer { issued_token_type: Some(ACCESS_TOKEN), ..token.into_answer() };
    Ok(Ok(Granted { answer, caller }))
}

/// RFC 8693 §4.1: the client in front of those who acted before. A service that speaks for itself
/// acts for nobody.
fn acting(client: &ClientRecord, claims: &AccessClaims) -> Result<Option<Actor>, OauthError> {
    if own(client, claims) {
        return Ok(None);
    }
    let before = claims.act.clone().map(Box::new);
    let actor = Actor { sub: client.id.to_string(), act: before };
    match actor.chain().len() > MAX_ACTORS {
        true => Err(refused("ActorsTooMany", "more than four services have acted already")),
        false => Ok(Some(actor)),
    }
}

/// The user with the grant that the subject's token came from, all active in this transaction; with
/// the factors that it carried, and no younger ones.
async fn person<'tx>(
    tx: &'tx Tx,
    desk: &Desk,
    claims: &AccessClaims,
) -> Result<Option<Person<'tx>>, Aborted> {
    let (Ok(user), Some(grant)) = (Id::parse(&claims.sub), &claims.gid) else { return Ok(None) };
    let (user, grant) = (tx.active_user(&user).await?, tx.active_grant(grant).await?);
    let session = match &claims.sid {
        Some(session) => tx.active_session(session, desk.now).await?,
        None => None,
    };
    Ok(user.zip(grant).map(|(user, grant)| Person { user, session, grant, factors: claims.fat }))
}

/// RFC 8693 §2.2.2.
fn refused(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidRequest, rule, description)
}

#[cfg(test)]
mod tests;
