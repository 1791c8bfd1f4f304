//! From a step to what the browser is shown: pages with a sealed state, cookies, the record.

use portcullis_core::bearer::Plain;
use portcullis_core::id::{self, Id};
use portcullis_core::secret::Secret;

use super::sealed::{self, Stage, TxCookie};
use super::second_factor::{AwaitingEnrolment, qr};
use super::state::{Login, Step, Ticket};
use crate::authorize::{OPENID, Rejected};
use crate::consent::AwaitingConsent;
use crate::desk::Desk;
use crate::outcome::{
    ConsentPage, CookieChange, EnrolPage, Notice, Outcome, PasswordPage, Presented,
    SecondFactorPage, Show,
};
use crate::settings::{DEVICE_S, SESSION_MAX_S};

/// The session's cookie.
pub const SESSION_COOKIE: &str = "__Host-pc-session";
/// The known device's cookie.
pub const DEVICE_COOKIE: &str = "__Host-pc-device";
/// The cookie that binds a login's state to its browser.
pub const TX_COOKIE: &str = "__Host-pc-tx";

/// Shows what a step came to.
pub(super) fn outcome(
    desk: &Desk,
    event: &'static str,
    step: Result<Step, Rejected>,
    presented: &Presented,
) -> Outcome {
    match step {
        Ok(step) => shown(desk, event, step, presented),
        Err(Rejected::Page(refusal)) => {
            ended(event, Show::Refused(refusal.clone()), refusal.rule.to_owned())
        }
        Err(Rejected::Return { location, error }) => {
            ended(event, Show::Redirect(location), error.rule.to_owned())
        }
    }
}

fn ended(event: &'static str, show: Show, rule: String) -> Outcome {
    let (caller, client, retry_after) = (None, None, None);
    Outcome { show, cookies: Vec::new(), event, outcome: Err(rule), caller, client, retry_after }
}

fn shown(desk: &Desk, event: &'static str, step: Step, presented: &Presented) -> Outcome {
    let mut cookies = Vec::new();
    let tx = tx_cookie(desk, presented, &mut cookies);
    let show = match &step.login {
        Login::Password(awaiting) => {
            Show::Password(password_page(desk, &tx, awaiting.ticket(), &step))
        }
        Login::SecondFactor(awaiting) => Show::SecondFactor(SecondFactorPage {
            form_target: awaiting.ticket().checked().answer_to().source(),
            sealed: sealed::seal(desk, &tx, awaiting.ticket(), awaiting.stage()),
            notice: step.notice,
        }),
        Login::Enrol(awaiting) => Show::Enrol(enrol_page(desk, &tx, awaiting, step.notice)),
        Login::Consent(awaiting) => Show::Consent(consent_page(desk, &tx, awaiting)),
        Login::Done(done) => Show::Redirect(done.location().to_owned()),
    };
    // Nothing to bind when the browser leaves at once.
    if matches!(show, Show::Redirect(_)) {
        cookies.clear();
    }
    let cookie = |name, value, seconds| CookieChange { name, value, max_age_s: Some(seconds) };
    if let Some(session) = &step.session {
        let value = Secret::new(session.reveal().to_owned());
        cookies.push(cookie(SESSION_COOKIE, value, SESSION_MAX_S));
    }
    if let Some(device) = step.device {
        cookies.push(cookie(DEVICE_COOKIE, Secret::new(device), DEVICE_S));
    }
    let retry_after = match step.notice {
        Some(Notice::Throttled(seconds)) => Some(seconds),
        Some(
            Notice::WrongPassword | Notice::WrongCode | Notice::Stale | Notice::WrongUserCode,
        )
        | None => None,
    };
    Outcome {
        show,
        cookies,
        event,
        outcome: step.result.map(str::to_owned).map_err(str::to_owned),
        caller: step.caller.as_ref().map(caller),
        client: Some(step.client.id.to_string()),
        retry_after,
    }
}

/// A user, as the record names them.
pub(crate) fn caller(user: &Id<id::User>) -> String {
    format!("user:{user}")
}

/// The browser's binding value; a new one is set when it has none. One value serves all of a
/// browser's logins, so that two tabs do not end each other.
fn tx_cookie(
    desk: &Desk,
    presented: &Presented,
    cookies: &mut Vec<CookieChange>,
) -> Plain<TxCookie> {
    if let Some(tx) = presented.tx.as_ref().and_then(|tx| Plain::presented(tx.expose())) {
        return tx;
    }
    let tx = Plain::mint(&*desk.shared.entropy);
    let value = Secret::new(tx.reveal().to_owned());
    cookies.push(CookieChange { name: TX_COOKIE, value, max_age_s: None });
    tx
}

fn password_page(desk: &Desk, tx: &Plain<TxCookie>, ticket: &Ticket, step: &Step) -> PasswordPage {
    let request = ticket.checked().request();
    let hint = request.login_hint.clone().unwrap_or_default();
    PasswordPage {
        form_target: ticket.checked().answer_to().source(),
        sealed: sealed::seal(desk, tx, ticket, Stage::Asked),
        client: ticket.checked().client().id.to_string(),
        login: step.typed.clone().unwrap_or(hint),
        notice: step.notice,
    }
}

fn enrol_page(
    desk: &Desk,
    tx: &Plain<TxCookie>,
    awaiting: &AwaitingEnrolment,
    notice: Option<Notice>,
) -> EnrolPage {
    let drawn = qr(awaiting.secret(), desk.settings.issuer.host(), awaiting.login());
    EnrolPage {
        form_target: awaiting.ticket().checked().answer_to().source(),
        sealed: sealed::seal(desk, tx, awaiting.ticket(), awaiting.stage()),
        qr_svg_path: drawn.path,
        qr_side: drawn.side,
        secret: awaiting.secret().base32(),
        notice,
    }
}

fn consent_page(desk: &Desk, tx: &Plain<TxCookie>, awaiting: &AwaitingConsent) -> ConsentPage {
    let checked = awaiting.ticket().checked();
    let source = checked.answer_to().source();
    // What people read: a host, or the scheme of an app.
    let redirect_host = source.split_once("://").map_or(source.as_str(), |(_, host)| host);
    let words = |scope: &str| {
        let words = desk.settings.scope_words.get(scope).map(String::as_str);
        let words = words.unwrap_or(if scope == OPENID { "Know who you are" } else { scope });
        (scope.to_owned(), words.to_owned())
    };
    ConsentPage {
        redirect_host: redirect_host.to_owned(),
        form_target: source,
        sealed: sealed::seal(desk, tx, awaiting.ticket(), awaiting.stage()),
        client: checked.client().id.to_string(),
        scopes: checked.scopes().iter().map(words).collect(),
        details: Vec::new(),
        client_host: None,
        device_place: None,
        login: awaiting.login().to_owned(),
    }
}
