//! Redeeming a code (RFC 6749 §4.1.3): once, by its client, into a grant and its first tokens.

use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::token::TokenAnswer;
use portcullis_core::secret::Secret;
use portcullis_store::database::Tx;
use portcullis_store::grants::GrantRecord;
use portcullis_store::used::UsedKind;

use super::client_auth::{self, AuthenticatedClient, Claim};
use super::issue::{self, Person, Revision};
use super::{Aborted, Granted};
use crate::authorize::OPENID;
use crate::code::{self, Code, Redemption};
use crate::desk::Desk;
use crate::login::second_factor::Demand;
use crate::login::show::caller;
use crate::settings::ACCESS_TOKEN_S;

/// What the client sent.
pub(crate) struct Presented {
    pub(crate) code: Secret<String>,
    pub(crate) redirect_uri: Option<String>,
    pub(crate) code_verifier: Option<Secret<String>>,
    pub(crate) resource: Option<String>,
}

/// Checks the code, which consumes nothing, and redeems it.
pub(crate) async fn redeem(
    desk: &Desk,
    claim: Claim,
    presented: Presented,
) -> Result<Granted, OauthError> {
    let redemption = Redemption {
        client: &claim.client().id,
        redirect_uri: presented.redirect_uri.as_deref(),
        verifier: presented.code_verifier.as_ref().map(|verifier| verifier.expose().as_str()),
        resource: presented.resource.as_deref(),
    };
    // RFC 6749 §5.2: this client was never given a way to a code.
    let opened = match claim.client().uses_codes() {
        true => code::open(desk, presented.code.expose(), &redemption),
        false => Err(OauthError::new(
            ErrorCode::UnauthorizedClient,
            "ClientWithoutCodes",
            "this client may not use the authorization code grant",
        )),
    };
    let code = match opened {
        Ok(code) => code,
        Err(error) => {
            client_auth::spend_alone(desk, claim).await?;
            return Err(error);
        }
    };
    let at = desk.clone();
    let work = async move |tx: &Tx| -> Result<Result<Granted, OauthError>, Aborted> {
        // INVARIANT: before anything that a revocation could touch is read.
        let revision = Revision::read(tx).await?;
        match claim.proven(tx, &at).await? {
            Ok(client) => redeemed(tx, &at, revision, &client, &code).await,
            Err(error) => Ok(Err(error)),
        }
    };
    desk.shared.store.transact(work).await.map_err(OauthError::from)?
}

/// Inside the transaction. A refusal that must leave a trace (a replay ends its grant) is a value.
async fn redeemed(
    tx: &Tx,
    desk: &Desk,
    revision: Revision,
    client: &AuthenticatedClient,
    code: &Code,
) -> Result<Result<Granted, OauthError>, Aborted> {
    // RFC 6749 §4.1.2: used once; RFC 9700 §4.5: a second use ends what the first one made. Only
    // whoever passed every check gets here, so nobody else can end it.
    if !tx.first_use(UsedKind::Code, code.gid().as_str(), code.expires()).await? {
        tx.end_grant(code.gid(), desk.now).await?;
        return Ok(Err(refused("CodeReplayed", "the code was used before")));
    }
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
        Demand::Nothing => {}
        Demand::Code(_) | Demand::Enrolment => {
            return Ok(Err(refused("FactorOwed", "the user must sign in again")));
        }
    }
    tx.add_grant(&GrantRecord {
        id: code.gid().clone(),
        user: user.id.clone(),
        client: client.id.clone(),
        session: session.id.clone(),
        scopes: code.scopes().clone(),
        audience: code.audience().map(str::to_owned),
        made: desk.now,
        ended: None,
    })
    .await?;
    let Some(grant) = tx.active_grant(code.gid()).await? else {
        return Err(Aborted::Refused(refused("GrantEnded", "the code is no longer good")));
    };
    let person = Person { user, session, grant, factors: code.factors() };
    let token = issue::for_user(desk, revision, client, &person);
    let id_token = person.grant.scopes.contains(OPENID).then(|| {
        issue::identity(desk, client, &person, issue::Bound { nonce: code.nonce(), token: &token })
    });
    let answer = TokenAnswer {
        scope: token.scope().to_string(),
        access_token: token.into_text(),
        token_type: "Bearer",
        expires_in: ACCESS_TOKEN_S,
        id_token,
    };
    Ok(Ok(Granted { answer, caller: caller(&person.user.id) }))
}

fn refused(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidGrant, rule, description)
}
