//! The device's half of RFC 8628: begin, and poll until its user has decided.
//!
//! The user's half, with the page that shows which client asks and from where, is
//! [`crate::authorize::device`]. What the device gets at last is a grant that outlives the session
//! in which it was approved, with the factors that the user showed there.

mod begun;

use portcullis_core::bearer::Plain;
use portcullis_core::client::GrantType;
use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::{Confirmation, FactorTimes};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::secret::Secret;
use portcullis_core::web::Parameters;
use portcullis_store::active::Active;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::device_logins::{Decision, DeviceCode, DeviceLogin};
use portcullis_store::grants::{GrantLife, GrantRecord};
use portcullis_store::sessions::SessionRecord;
use portcullis_store::users::UserRecord;

use super::client_auth::{self, AuthenticatedClient, Claim};
use super::issue::{self, Extras, Person, Revision};
use super::{Aborted, Granted, binding, details, may, named, refresh_token};
use crate::authorize::OPENID;
use crate::desk::Desk;
use crate::login::second_factor::Demand;
use crate::login::show::caller;
use crate::outcome::{Answered, DeviceStart, Presented};

/// The path of the device authorization endpoint: what proofs shown there are for (`htu`).
const PATH: &str = "/oauth/device";
/// A device login waits for ten minutes (RFC 8628 §6.1: short, since user codes are).
const LIFE_S: i64 = 600;
/// Least seconds between two polls (RFC 8628 §3.2: five unless said otherwise).
const INTERVAL_S: i64 = 5;
/// RFC 8628 §3.5: `slow_down` means five seconds more, for this and all later polls.
const SLOWER_S: i64 = 5;
/// An interval that is not kept any longer: a device that polls on regardless writes no more.
const MAX_INTERVAL_S: i64 = 120;

/// `POST /oauth/device` (§3.1).
pub(crate) async fn begin(
    desk: &Desk,
    authorization: &[&[u8]],
    form: &Parameters,
    presented: &Presented,
) -> Answered<DeviceStart> {
    let mut client = named(authorization, form);
    let result = match client_auth::authenticate(desk, authorization, form, presented).await {
        Ok(claim) => {
            client = Some(claim.client().id.to_string());
            begun::begin(desk, claim, form, presented).await
        }
        Err(error) => Err(error),
    };
    Answered { result, caller: None, client, nonce: binding::nonce(desk, presented) }
}

/// The device's poll at the token endpoint (§3.4).
pub(crate) async fn redeem(
    desk: &Desk,
    claim: Claim,
    code: Secret<String>,
    presented: &Presented,
) -> Result<Granted, OauthError> {
    // Another shape is none of ours, and is not looked up.
    let code = Plain::<DeviceCode>::presented(code.expose())
        .ok_or_else(|| refused("DeviceCodeForged", "the device code is not one of this server"));
    let shown = code.and_then(|code| {
        Ok((code.digest(), binding::confirmation(desk, presented, binding::TOKEN_PATH)?))
    });
    let (code, binding) = match shown {
        Ok(shown) => shown,
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
        let login = match tx.device_login(&code).await? {
            Some(login) => login,
            None => return Ok(Err(refused("DeviceCodeUnknown", "the device code is not known"))),
        };
        // The client as it is registered now.
        if let Err(error) = may(&client, GrantType::DeviceCode) {
            return Ok(Err(error));
        }
        let binding = match decided(tx, &at, &client, &login, binding).await? {
            Ok(binding) => binding,
            Err(error) => return Ok(Err(error)),
        };
        granted(tx, &at, revision, &client, (login, binding)).await
    };
    desk.shared.store.transact(work).await.map_err(OauthError::from)?
}

/// What the user said, and what the tokens will be bound to. A refusal is a value: the poll that it
/// answers is noted all the same.
async fn decided(
    tx: &Tx,
    desk: &Desk,
    client: &AuthenticatedClient,
    login: &DeviceLogin,
    shown: Option<Confirmation>,
) -> Result<Result<Option<Confirmation>, OauthError>, StoreFault> {
    // RFC 8628 §3.4: issued to this client. Whoever found another's code learns nothing of it, and
    // slows nobody down.
    if login.client != client.id {
        let description = "the device code was issued to another client";
        return Ok(Err(refused("DeviceCodeOfAnotherClient", description)));
    }
    if let Some(bound) = &login.binding
        && serde_json::from_str(bound).ok() != shown
    {
        let description = "the device login was begun with another key";
        return Ok(Err(refused("DeviceBindingOther", description)));
    }
    // RFC 8628 §3.5, also when it was approved: the answer came too late.
    if desk.now >= login.expires {
        let description = "the device login has expired; begin another one";
        return Ok(Err(OauthError::new(ErrorCode::ExpiredToken, "DeviceCodeExpired", description)));
    }
    match &login.decision {
        Decision::Approved { .. } => Ok(Ok(shown)),
        Decision::Denied => {
            let (code, description) = (ErrorCode::AccessDenied, "the user said no");
            Ok(Err(OauthError::new(code, "DeviceDenied", description)))
        }
        Decision::Pending => Ok(Err(pending(tx, desk, login).await?)),
    }
}

/// RFC 8628 §3.5: wait, or wait longer.
async fn pending(tx: &Tx, desk: &Desk, login: &DeviceLogin) -> Result<OauthError, StoreFault> {
    let least = std::time::Duration::from_secs(u64::try_from(login.interval_s).unwrap_or(0));
    let too_fast = login.polled.is_some_and(|polled| desk.now < polled.after(least));
    if !too_fast {
        tx.note_device_poll(&login.code, login.interval_s, desk.now).await?;
        let (code, rule) = (ErrorCode::AuthorizationPending, "DevicePending");
        return Ok(OauthError::new(code, rule, "the user has not decided yet"));
    }
    let slower = login.interval_s.saturating_add(SLOWER_S);
    if slower <= MAX_INTERVAL_S {
        tx.note_device_poll(&login.code, slower, desk.now).await?;
    }
    let description = "poll less often: five seconds more between two polls";
    Ok(OauthError::new(ErrorCode::SlowDown, "DevicePolledTooFast", description))
}

/// The grant and its first tokens, for an approved device login, which is used up.
async fn granted(
    tx: &Tx,
    desk: &Desk,
    revision: Revision,
    client: &AuthenticatedClient,
    (login, binding): (DeviceLogin, Option<Confirmation>),
) -> Result<Result<Granted, OauthError>, Aborted> {
    let Decision::Approved { user, session, factors } = &login.decision else {
        return Ok(Err(refused("DeviceUndecided", "the user has not decided yet")));
    };
    // RFC 8628 §3.5: the row goes before anything is issued; a second poll finds none.
    if !tx.take_device_login(&login.code).await? {
        return Ok(Err(refused("DeviceCodeUnknown", "the device code is not known")));
    }
    let (user, session) = match whose(tx, desk, (user, session), factors).await? {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    let (binding_text, details) = (stored(binding.as_ref()), details::from_stored(&login.details));
    let grant = GrantRecord {
        id: Id::mint(&*desk.shared.entropy),
        user: user.id.clone(),
        client: client.id.clone(),
        session: session.id.clone(),
        // RFC 8628 §1: the device has no browser in which its session could go on.
        life: GrantLife::Offline,
        factors: *factors,
        binding: binding_text,
        details: login.details.clone(),
        family: refresh_token::family(desk, client),
        scopes: login.scopes.clone(),
        audience: login.audience.clone(),
        made: desk.now,
        ended: None,
    };
    tx.add_grant(&grant).await?;
    let Some(grant) = tx.active_grant(&grant.id).await? else {
        return Err(Aborted::Refused(refused("GrantEnded", "the device code is no longer good")));
    };
    let person = Person { user, session: Some(session), grant, factors: *factors };
    let details = details::kept(client, &details);
    let extras = Extras { binding, details, ..Extras::default() };
    let token = issue::for_user(desk, revision, client, &person, extras);
    let id_token = person.grant.scopes.contains(OPENID).then(|| {
        issue::identity(desk, client, &person, issue::Bound { nonce: None, token: &token })
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
    (user, session): (&Id<id::User>, &Id<id::Session>),
    factors: &FactorTimes,
) -> Result<Result<(Active<'tx, UserRecord>, Active<'tx, SessionRecord>), OauthError>, StoreFault> {
    let user = tx.active_user(user).await?;
    let session = tx.active_session(session, desk.now).await?;
    let (user, session) = match (user, session) {
        (Some(user), Some(session)) => (user, session),
        (None, _) => return Ok(Err(refused("UserDisabled", "the device code is no longer good"))),
        // Whoever signed out everywhere since has taken this back too.
        (_, None) => return Ok(Err(refused("SessionEnded", "the device code is no longer good"))),
    };
    let totp = tx.totp(&user.id).await?;
    // A role gained, or a factor enrolled, since: what it lacks is asked at a new login.
    match Demand::of(&desk.shared.in_force().require, &user, totp.as_ref(), factors) {
        Demand::Nothing => Ok(Ok((user, session))),
        Demand::Code(_) | Demand::Enrolment => {
            Ok(Err(refused("FactorOwed", "the user must sign in again")))
        }
    }
}

/// A binding as the rows keep it.
fn stored(binding: Option<&Confirmation>) -> Option<String> {
    binding.and_then(|binding| serde_json::to_string(binding).ok())
}

fn refused(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidGrant, rule, description)
}

#[cfg(test)]
mod tests;
