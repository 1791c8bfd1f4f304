//! Redeeming a code (RFC 6749 §4.1.3): once, by its client, into a grant and its first tokens.

use portcullis_core::client::GrantType;
use portcullis_core::jose::claims::Confirmation;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::secret::Secret;
use portcullis_store::active::Active;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::grants::GrantRecord;
use portcullis_store::sessions::SessionRecord;
use portcullis_store::used::UsedKind;
use portcullis_store::users::UserRecord;
use serde_json::Value;

use super::binding::{self, TOKEN_PATH};
use super::client_auth::{self, AuthenticatedClient, Claim};
use super::issue::{self, Extras, Person, Revision};
use super::{Aborted, Granted, details, may, refresh_token};
use crate::authorize::OPENID;
use crate::code::{self, Code, Redemption};
use crate::consent;
use crate::desk::Desk;
use crate::login::second_factor::Demand;
use crate::login::show::caller;
use crate::outcome::Presented;

/// What the client sent.
pub(crate) struct Asked {
    pub(crate) code: Secret<String>,
    pub(crate) redirect_uri: Option<String>,
    pub(crate) code_verifier: Option<Secret<String>>,
    pub(crate) resource: Option<String>,
    /// `authorization_details`: fewer than were agreed to.
    pub(crate) details: Option<String>,
}

/// A code that passed every check, and what its first token will be.
struct Opened {
    code: Code,
    binding: Option<Confirmation>,
    details: Vec<Value>,
}

/// Checks the code, which consumes nothing, and redeems it.
pub(crate) async fn redeem(
    desk: &Desk,
    claim: Claim,
    asked: Asked,
    presented: &Presented,
) -> Result<Granted, OauthError> {
    let opened = match open(desk, &claim, &asked, presented) {
        Ok(opened) => opened,
        Err(error) => return client_auth::refuse(desk, claim, error).await,
    };
    let at = desk.clone();
    let work = async move |tx: &Tx| -> Result<Result<Granted, OauthError>, Aborted> {
        // INVARIANT: before anything that a revocation could touch is read.
        let revision = Revision::read(tx).await?;
        match claim.proven(tx, &at).await? {
            Ok(client) => redeemed(tx, &at, revision, &client, opened).await,
            Err(error) => Ok(Err(error)),
        }
    };
    desk.shared.store.transact(work).await.map_err(OauthError::from)?
}

/// The code with all that it is bound to; the DPoP proof last, since judging spends it.
fn open(
    desk: &Desk,
    claim: &Claim,
    asked: &Asked,
    presented: &Presented,
) -> Result<Opened, OauthError> {
    let redemption = Redemption {
        client: &claim.client().id,
        redirect_uri: asked.redirect_uri.as_deref(),
        verifier: asked.code_verifier.as_ref().map(|verifier| verifier.expose().as_str()),
        resource: asked.resource.as_deref(),
    };
    let code = code::open(desk, asked.code.expose(), &redemption)?;
    let details = details::narrowed(asked.details.as_deref(), code.details().to_vec())?;
    let binding = binding::confirmation(desk, presented, TOKEN_PATH)?;
    code.fits(binding.as_ref())?;
    Ok(Opened { code, binding, details })
}

/// Inside the transaction. A refusal that must leave a trace (a replay ends its grant) is a value.
async fn redeemed(
    tx: &Tx,
    desk: &Desk,
    revision: Revision,
    client: &AuthenticatedClient,
    opened: Opened,
) -> Result<Result<Granted, OauthError>, Aborted> {
    let Opened { code, binding, details } = opened;
    // RFC 6749 §4.1.2: used once; a second use ends what the first one made. Only
    // whoever passed every check gets here, so nobody else can end it.
    if !tx.first_use(UsedKind::Code, code.gid().as_str(), code.expires()).await? {
        tx.end_grant(code.gid(), desk.now).await?;
        return Ok(Err(refused("CodeReplayed", "the code was used before")));
    }
    // The client as it is registered now: what was taken away since the code is not given.
    if let Err(error) = may(client, GrantType::AuthorizationCode) {
        return Ok(Err(error));
    }
    if client.redirect(code.redirect()).is_none() {
        return Ok(Err(refused("RedirectUnregistered", "the code is no longer good")));
    }
    if !code.is_of(client) {
        return Ok(Err(refused("ClientDocumentChanged", "the code is no longer good")));
    }
    let (user, session) = match whose(tx, desk, &code).await? {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    // INVARIANT: no row stands for a code, so whoever withdraws a consent cannot end it: the consent
    // itself is looked for, as the grant's row would be.
    let consented = tx.consented(&user.id, &client.id).await?;
    if !consent::of_operator(client, code.scopes()) && !code.scopes().is_subset(&consented) {
        return Ok(Err(refused("ConsentWithdrawn", "the code is no longer good")));
    }
    tx.add_grant(&grant(desk, client, &code, binding.as_ref())).await?;
    let Some(grant) = tx.active_grant(code.gid()).await? else {
        return Err(Aborted::Refused(refused("GrantEnded", "the code is no longer good")));
    };
    let person = Person { user, session: Some(session), grant, factors: code.factors() };
    let details = details::kept(client, &details);
    let extras = Extras { binding, details, ..Extras::default() };
    let token = issue::for_user(desk, revision, client, &person, extras);
    let id_token = person.grant.scopes.contains(OPENID).then(|| {
        issue::identity(desk, client, &person, issue::Bound { nonce: code.nonce(), token: &token })
    });
    let mut answer = token.into_answer();
    answer.id_token = id_token;
    answer.refresh_token = refresh_token::first(desk, client, &person.grant);
    Ok(Ok(Granted { answer, caller: caller(&person.user.id) }))
}

/// Whoever agreed, and the session in which they did, both still there.
async fn whose<'tx>(
    tx: &'tx Tx,
    desk: &Desk,
    code: &Code,
) -> Result<Result<(Active<'tx, UserRecord>, Active<'tx, SessionRecord>), OauthError>, StoreFault> {
    let user = tx.active_user(code.user()).await?;
    let session = tx.active_session(code.session(), desk.now).await?;
    let (user, session) = match (user, session) {
        (Some(user), Some(session)) => (user, session),
        (None, _) => return Ok(Err(refused("UserDisabled", "the code is no longer good"))),
        (_, None) => return Ok(Err(refused("SessionEnded", "the code is no longer good"))),
    };
    let totp = tx.totp(&user.id).await?;
    // A role gained, or a factor enrolled, since the code: what it lacks is asked at a new login.
    match Demand::of(&desk.shared.in_force().require, &user, totp.as_ref(), &code.factors()) {
        Demand::Nothing => Ok(Ok((user, session))),
        Demand::Code(_) | Demand::Enrolment => {
            Ok(Err(refused("FactorOwed", "the user must sign in again")))
        }
    }
}

/// The grant that the code carried. For a public client the binding is for good (`4-identity`).
fn grant(
    desk: &Desk,
    client: &AuthenticatedClient,
    code: &Code,
    binding: Option<&Confirmation>,
) -> GrantRecord {
    GrantRecord {
        id: code.gid().clone(),
        user: code.user().clone(),
        client: client.id.clone(),
        session: code.session().clone(),
        life: code.life(),
        factors: code.factors(),
        binding: binding.and_then(|binding| serde_json::to_string(binding).ok()),
        details: details::to_stored(code.details()),
        family: refresh_token::family(desk, client),
        scopes: code.scopes().clone(),
        audience: code.audience().map(str::to_owned),
        made: desk.now,
        ended: None,
    }
}

fn refused(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidGrant, rule, description)
}
