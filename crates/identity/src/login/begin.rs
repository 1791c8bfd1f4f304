//! `GET /oauth/authorize`: the request is checked, and the login begins where the browser's
//! session allows: at the password, at the second factor, at consent, or at its end.

use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::time::Timestamp;
use portcullis_core::web::Parameters;
use portcullis_store::database::Tx;

use super::password::AwaitingPassword;
use super::session;
use super::state::{Login, Standing, Step, Ticket, next};
use crate::authorize::{self, Checked, Rejected};
use crate::consent::AwaitingConsent;
use crate::desk::Desk;
use crate::outcome::Presented;
use crate::subject;

/// The first step.
pub(crate) async fn step(
    desk: &Desk,
    query: &Parameters,
    presented: &Presented,
) -> Result<Step, Rejected> {
    from(desk, authorize::begin(desk, query).await?, presented).await
}

/// The same from a request that was checked: a client's, or a device's.
pub(crate) async fn from(
    desk: &Desk,
    checked: Checked,
    presented: &Presented,
) -> Result<Step, Rejected> {
    let client = checked.client().clone();
    let standing = standing(desk, &checked, presented).await?;
    let (prompt, user) = (checked.prompt(), standing.as_ref().map(|s| s.user.id.clone()));
    let silent =
        prompt.none.then(|| (checked.refuse(silent_login()), checked.refuse(silent_consent())));
    let ticket = Ticket::begin(desk, checked);
    let login = match &standing {
        Some(standing) => next(desk, ticket, standing),
        None => Login::Password(AwaitingPassword::of(ticket)),
    };
    let login = match (login, silent) {
        (Login::Consent(awaiting), _) if awaiting.stands() => {
            let seen = standing.as_ref().map(|standing| standing.session.seen);
            finish(desk, awaiting, seen).await?
        }
        // OpenID Connect Core §3.1.2.1: `none` shows nothing, and says what would have to be.
        (Login::Consent(_), Some((_, consent))) => return Err(consent),
        (Login::Password(_) | Login::SecondFactor(_) | Login::Enrol(_), Some((login, _))) => {
            return Err(login);
        }
        (login, _) => login,
    };
    let step = Step::taken(login, client, "RequestChecked");
    Ok(Step { caller: user, ..step })
}

/// The browser's session, unless the client wants the user to prove themselves anew.
async fn standing(
    desk: &Desk,
    checked: &Checked,
    presented: &Presented,
) -> Result<Option<Standing>, Rejected> {
    let Some(cookie) = session::cookie(presented).filter(|_| !checked.prompt().login) else {
        return Ok(None);
    };
    let (at, client) = (desk.clone(), checked.client().id.clone());
    let reading = async move |tx: &Tx| session::standing(tx, &at, &cookie, &client).await;
    let standing: Option<Standing> = desk.shared.store.read(reading).await?;
    // OpenID Connect Core §3.1.2.1: older than `max_age` counts as not logged in.
    let fresh = |standing: &Standing| match (checked.max_age_s(), standing.session.factors.pwd) {
        (None, _) => true,
        (Some(age_s), Some(at)) => desk.now.unix() < at.saturating_add(age_s),
        (Some(_), None) => false,
    };
    // OpenID Connect Core §3.1.2.1: somebody else's session is none for whoever was hinted at.
    Ok(standing.filter(fresh).filter(|standing| {
        let seen = || subject::seen_by(desk, checked.client(), &standing.user.id);
        checked.hint().is_none_or(|hint| hint == seen())
    }))
}

/// The code of a consent that stands, minted in a transaction that reads everything again. Mostly there
/// is nothing to write: then it waits for no commit. (What a code is good for is read once more when
/// it is redeemed.)
async fn finish(
    desk: &Desk,
    awaiting: AwaitingConsent,
    seen: Option<Timestamp>,
) -> Result<Login, Rejected> {
    let at = desk.clone();
    let only_reads = seen.is_some_and(|seen| awaiting.only_reads(desk, seen));
    let work = async move |tx: &Tx| -> Result<Login, Rejected> {
        Ok(Login::Done(awaiting.granted(tx, &at).await?))
    };
    match only_reads {
        true => desk.shared.store.read(work).await,
        false => desk.shared.store.transact(work).await,
    }
}

fn silent_login() -> OauthError {
    let description = "prompt=none, and the user is not signed in as far as is asked";
    OauthError::new(ErrorCode::LoginRequired, "PromptNoneWithoutLogin", description)
}

fn silent_consent() -> OauthError {
    let description = "prompt=none, and the user has not agreed yet";
    OauthError::new(ErrorCode::ConsentRequired, "PromptNoneWithoutConsent", description)
}
