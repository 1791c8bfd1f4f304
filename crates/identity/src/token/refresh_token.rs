//! Refreshing (RFC 6749 §6): the same grant again, as everyone concerned is now.
//!
//! All of a grant's refresh tokens are one counter in its row ([`family`]); the token is that
//! number under a MAC, so that garbage reaches no row and can end nothing. What a user, a client or
//! a session lost since is seen here, because all of them are read again.

mod family;

use portcullis_core::client::{ClientRecord, GrantType};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::Confirmation;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::refresh;
use portcullis_core::scope::Scopes;
use portcullis_core::secret::Secret;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::grants::{Family, GrantLife, GrantRecord};

use super::binding::{self, TOKEN_PATH};
use super::client_auth::{self, AuthenticatedClient, Claim};
use super::issue::{self, Extras, Person, Revision};
use super::{Aborted, Granted, details, may};
use crate::desk::Desk;
use crate::login::second_factor::Demand;
use crate::login::show::caller;
use crate::outcome::Presented;
use family::{Rotation, Step};

/// What the client sent.
pub(crate) struct Asked {
    pub(crate) token: Secret<String>,
    /// Fewer scopes, for this access token alone.
    pub(crate) scope: Option<String>,
    pub(crate) resource: Option<String>,
    /// `authorization_details`: fewer than were granted.
    pub(crate) details: Option<String>,
}

/// The same, read; the DPoP proof judged.
struct Shown {
    gid: Id<id::Grant>,
    n: u64,
    scope: Option<Scopes>,
    resource: Option<String>,
    details: Option<String>,
    binding: Option<Confirmation>,
}

/// The state of the refresh tokens of a grant that is being made: the first one is 1.
pub(crate) fn family(desk: &Desk, client: &ClientRecord) -> Family {
    Family {
        counter: u64::from(client.may(GrantType::RefreshToken)),
        moved: None,
        graces: 0,
        seen: desk.now,
        expires: desk.now.after(client.refresh.max),
    }
}

/// The first refresh token of a grant just made; nothing for a client that may not refresh.
pub(crate) fn first(desk: &Desk, client: &ClientRecord, grant: &GrantRecord) -> Option<String> {
    may(client, GrantType::RefreshToken).ok()?;
    minted(desk, grant, &grant.family)
}

/// Mints an access token for a refresh token, and its successor where tokens rotate.
pub(crate) async fn answer(
    desk: &Desk,
    claim: Claim,
    asked: Asked,
    presented: &Presented,
) -> Result<Granted, OauthError> {
    let shown = match read(desk, asked, presented) {
        Ok(shown) => shown,
        Err(error) => return client_auth::refuse(desk, claim, error).await,
    };
    let at = desk.clone();
    let work = async move |tx: &Tx| -> Result<Result<Granted, OauthError>, Aborted> {
        // INVARIANT: before anything that a revocation could touch is read.
        let revision = Revision::read(tx).await?;
        match claim.proven(tx, &at).await? {
            Ok(client) => refreshed(tx, &at, revision, &client, &shown).await,
            Err(error) => Ok(Err(error)),
        }
    };
    desk.shared.store.transact(work).await.map_err(OauthError::from)?
}

/// The grant of a refresh token of ours, whatever became of it; for the revocation endpoint.
pub(crate) fn grant_of(desk: &Desk, text: &str) -> Option<Id<id::Grant>> {
    refresh::read(&desk.shared.sealer, text).map(|(gid, _)| gid)
}

fn read(desk: &Desk, asked: Asked, presented: &Presented) -> Result<Shown, OauthError> {
    // `4-identity`: garbage can trigger nothing. It never gets as far as a row.
    let Some((gid, n)) = refresh::read(&desk.shared.sealer, asked.token.expose()) else {
        let description = "the refresh token is not one of this server";
        return Err(refused("RefreshTokenForged", description));
    };
    let malformed =
        |_| OauthError::new(ErrorCode::InvalidScope, "ScopeMalformed", "scope cannot be read");
    let scope = asked.scope.as_deref().map(Scopes::parse).transpose().map_err(malformed)?;
    // Last, since judging spends the proof.
    let binding = binding::confirmation(desk, presented, TOKEN_PATH)?;
    Ok(Shown { gid, n, scope, resource: asked.resource, details: asked.details, binding })
}

/// Inside the transaction. A refusal that must leave a trace (a reuse ends the grant) is a value.
async fn refreshed(
    tx: &Tx,
    desk: &Desk,
    revision: Revision,
    client: &AuthenticatedClient,
    shown: &Shown,
) -> Result<Result<Granted, OauthError>, Aborted> {
    let person = match whose(tx, desk, client, shown).await? {
        Ok(person) => person,
        Err(error) => return Ok(Err(error)),
    };
    let extras = match shown.extras(client, &person.grant) {
        Ok(extras) => extras,
        Err(error) => return Ok(Err(error)),
    };
    // INVARIANT: nothing has moved yet. Only whoever passed every check (client, binding, grant)
    // gets here, so nobody else can move a family, or end it.
    let family =
        match family::step(&person.grant, shown.n, rotation(client, &person.grant), desk.now) {
            Step::On(family) => family,
            // RFC 9700 §4.14.2: of two holders one is a thief, and nobody can say which.
            Step::Over(rule) => {
                tx.end_grant(&shown.gid, desk.now).await?;
                let (user, grant) = (&person.user.id, &shown.gid);
                tracing::warn!(%user, client = %client.id, %grant, rule, "a grant was ended");
                return Ok(Err(refused(rule, "the refresh token was used before")));
            }
        };
    if family != person.grant.family {
        tx.keep_family(&shown.gid, &family).await?;
    }
    // RFC 9449 §5: a public client's refresh token that answers a proof is bound to its key.
    if let Some(binding) = newly_bound(client, &person.grant, shown.binding.as_ref()) {
        tx.bind_grant(&shown.gid, &binding).await?;
    }
    let mut answer = issue::for_user(desk, revision, client, &person, extras).into_answer();
    answer.refresh_token = minted(desk, &person.grant, &family);
    Ok(Ok(Granted { answer, caller: caller(&person.user.id) }))
}

/// The grant and everyone concerned, read again and found active.
async fn whose<'tx>(
    tx: &'tx Tx,
    desk: &Desk,
    client: &AuthenticatedClient,
    shown: &Shown,
) -> Result<Result<Person<'tx>, OauthError>, StoreFault> {
    if let Err(error) = may(client, GrantType::RefreshToken) {
        return Ok(Err(error));
    }
    let over = |rule| Ok(Err(refused(rule, "the refresh token is no longer good")));
    let Some(grant) = tx.active_grant(&shown.gid).await? else { return over("GrantEnded") };
    // RFC 6749 §6: bound to the client to which it was issued.
    if grant.client != client.id {
        let description = "the refresh token was issued to another client";
        return Ok(Err(refused("RefreshTokenOfAnotherClient", description)));
    }
    if let Err(error) = held(client, &grant, shown.binding.as_ref()) {
        return Ok(Err(error));
    }
    if let Some(rule) = family::lapsed(client.refresh, &grant, desk.now) {
        return over(rule);
    }
    let Some(user) = tx.active_user(&grant.user).await? else { return over("UserDisabled") };
    let session = tx.active_session(&grant.session, desk.now).await?;
    match grant.life {
        // OpenID Connect Core §11: without `offline_access` it ends with the session.
        GrantLife::Session if session.is_none() => return over("SessionEnded"),
        GrantLife::Session | GrantLife::Offline => {}
    }
    let totp = tx.totp(&user.id).await?;
    // A role gained, or a factor enrolled: what the grant lacks is asked at a new login.
    match Demand::of(&desk.shared.in_force().require, &user, totp.as_ref(), &grant.factors) {
        Demand::Nothing => {}
        Demand::Code(_) | Demand::Enrolment => return over("FactorOwed"),
    }
    let factors = grant.factors;
    Ok(Ok(Person { user, session, grant, factors }))
}

/// Whether the request holds what the grant is bound to.
fn held(
    client: &ClientRecord,
    grant: &GrantRecord,
    shown: Option<&Confirmation>,
) -> Result<(), OauthError> {
    use Confirmation::{Certificate, Key};
    let Some(stored) = &grant.binding else { return Ok(()) };
    let bound = serde_json::from_str::<Confirmation>(stored).ok();
    let fits = match (&bound, shown, client.is_confidential()) {
        // RFC 9449 §5: a public client's refresh token is bound to the key; RFC 8705 §4 likewise.
        (Some(bound), Some(shown), false) => bound == shown,
        // RFC 9449 §5, RFC 8705 §7.1: a confidential client's is bound by its authentication, so
        // that keys and certificates may be renewed; to nothing at all it does not fall back.
        (Some(Key(_)), Some(Key(_)), true) => true,
        (Some(Certificate(_)), Some(Certificate(_)), true) => true,
        (Some(_), Some(_), true) | (None, _, _) | (_, None, _) => false,
    };
    match (fits, shown) {
        (true, _) => Ok(()),
        (false, Some(_)) => {
            let description = "the grant is bound to another key or certificate";
            Err(refused("BindingOther", description))
        }
        (false, None) => {
            let description = "the grant is bound: show the key or certificate that it is bound to";
            Err(refused("BindingAbsent", description))
        }
    }
}

/// What a grant is bound to from now on that was bound to nothing; as its row keeps it. A confidential
/// client's is bound by its authentication.
fn newly_bound(
    client: &ClientRecord,
    grant: &GrantRecord,
    shown: Option<&Confirmation>,
) -> Option<String> {
    let bare = grant.binding.is_none() && !client.is_confidential();
    shown.filter(|_| bare).and_then(|shown| serde_json::to_string(shown).ok())
}

/// FAPI 2.0 §5.3.2.1: refresh tokens of confidential clients whose tokens are bound do not rotate;
/// RFC 9700 §2.2.2: a public client's do, at each use.
fn rotation(client: &ClientRecord, grant: &GrantRecord) -> Rotation {
    match (client.is_confidential(), grant.binding.is_some()) {
        (true, true) => Rotation::Fixed,
        (false, true) => Rotation::EachUse { grace: family::GRACE_BOUND },
        (true | false, false) => Rotation::EachUse { grace: family::GRACE_BEARER },
    }
}

impl Shown {
    /// What this access token will be; never more than was granted (RFC 6749 §6).
    fn extras(&self, client: &ClientRecord, grant: &GrantRecord) -> Result<Extras, OauthError> {
        if self.scope.as_ref().is_some_and(|scope| !scope.is_subset(&grant.scopes)) {
            let description = "a scope was asked for that was not granted";
            return Err(OauthError::new(ErrorCode::InvalidScope, "ScopeWidened", description));
        }
        // RFC 8707 §2.2: only the resource that was granted.
        if self.resource.is_some() && self.resource != grant.audience {
            let description = "resource is not the one that was granted";
            return Err(OauthError::new(ErrorCode::InvalidTarget, "TargetOther", description));
        }
        let granted = details::from_stored(&grant.details);
        let asked = details::narrowed(self.details.as_deref(), granted)?;
        Ok(Extras {
            binding: self.binding.clone(),
            details: details::kept(client, &asked),
            narrowed: self.scope.clone(),
            ..Extras::default()
        })
    }
}

fn minted(desk: &Desk, grant: &GrantRecord, family: &Family) -> Option<String> {
    // 0: the client could not refresh when the grant was made.
    let n = Some(family.counter).filter(|n| *n > 0)?;
    refresh::mint(&desk.shared.sealer, &grant.id, n).map(|token| token.expose().clone())
}

fn refused(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidGrant, rule, description)
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
