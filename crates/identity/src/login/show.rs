//! From a step to what the browser is shown: pages with a sealed state, cookies, the record.

use portcullis_core::audit::neutralise;
use portcullis_core::bearer::Plain;
use portcullis_core::client::ClientRecord;
use portcullis_core::id::{self, Id};
use portcullis_core::oauth::details::type_of;
use portcullis_core::secret::Secret;
use serde_json::Value;

use super::password::AwaitingPassword;
use super::sealed::{self, Stage, TxCookie};
use super::second_factor::{AwaitingEnrolment, qr};
use super::state::{Login, Step};
use crate::authorize::{Destination, OFFLINE, OPENID, Rejected};
use crate::consent::AwaitingConsent;
use crate::desk::Desk;
use crate::documents;
use crate::outcome::{
    ConsentPage, CookieChange, DeviceCodePage, EnrolPage, Notice, Outcome, PasswordPage, Presented,
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
pub(crate) fn outcome(
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
        Err(Rejected::Return(returned)) => {
            let show = returned.to.with_error(desk, &returned.error);
            ended(event, show, returned.error.rule.to_owned())
        }
    }
}

/// The page that asks for a user code, bound to this browser.
pub(crate) fn device_code(
    desk: &Desk,
    result: Result<&'static str, &'static str>,
    presented: &Presented,
    page: impl FnOnce(String) -> DeviceCodePage,
) -> Outcome {
    let mut cookies = Vec::new();
    let tx = tx_cookie(desk, presented, &mut cookies);
    let page = page(sealed::seal_device_page(desk, &tx));
    Outcome {
        retry_after: retry_after(page.notice),
        show: Show::DeviceCode(page),
        cookies,
        event: "device.code",
        outcome: result.map(str::to_owned).map_err(str::to_owned),
        caller: None,
        client: None,
    }
}

fn ended(event: &'static str, show: Show, rule: String) -> Outcome {
    let (caller, client, retry_after) = (None, None, None);
    Outcome { show, cookies: Vec::new(), event, outcome: Err(rule), caller, client, retry_after }
}

fn shown(desk: &Desk, event: &'static str, step: Step, presented: &Presented) -> Outcome {
    let mut cookies = Vec::new();
    let tx = tx_cookie(desk, presented, &mut cookies);
    let retry_after = retry_after(step.notice);
    let client = Some(step.client.id.to_string());
    let broken = match &step.login {
        Login::Done(done) => done.broken(),
        Login::Password(_) | Login::SecondFactor(_) | Login::Enrol(_) | Login::Consent(_) => None,
    };
    let result = broken.map_or(step.result, Err);
    let show = match step.login {
        Login::Password(awaiting) => {
            Show::Password(password_page(desk, &tx, &awaiting, (step.typed, step.notice)))
        }
        Login::SecondFactor(awaiting) => Show::SecondFactor(SecondFactorPage {
            form_target: awaiting.ticket().checked().source(),
            sealed: sealed::seal(desk, &tx, awaiting.ticket(), awaiting.stage()),
            notice: step.notice,
        }),
        Login::Enrol(awaiting) => Show::Enrol(enrol_page(desk, &tx, &awaiting, step.notice)),
        Login::Consent(awaiting) => Show::Consent(consent_page(desk, &tx, &awaiting)),
        Login::Done(done) => done.into_show(),
    };
    // Nothing to bind when the browser leaves at once.
    if matches!(show, Show::Redirect(_) | Show::FormPost(_) | Show::DeviceAnswered(_)) {
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
    Outcome {
        show,
        cookies,
        event,
        outcome: result.map(str::to_owned).map_err(str::to_owned),
        caller: step.caller.as_ref().map(caller),
        client,
        retry_after,
    }
}

fn retry_after(notice: Option<Notice>) -> Option<u64> {
    match notice {
        Some(Notice::Throttled(seconds)) => Some(seconds),
        Some(Notice::WrongPassword | Notice::WrongCode | Notice::Stale | Notice::WrongUserCode)
        | None => None,
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

fn password_page(
    desk: &Desk,
    tx: &Plain<TxCookie>,
    awaiting: &AwaitingPassword,
    (typed, notice): (Option<String>, Option<Notice>),
) -> PasswordPage {
    let ticket = awaiting.ticket();
    let checked = ticket.checked();
    let hint = checked.request().and_then(|request| request.login_hint.clone());
    PasswordPage {
        form_target: checked.source(),
        sealed: sealed::seal(desk, tx, ticket, Stage::Asked),
        client: named(checked.client()),
        login: typed.or(hint).unwrap_or_default(),
        notice,
    }
}

/// A client's name for people: its operator's word, or the host that is proven; what a stranger
/// calls itself stands on the consent page alone, beside that host.
fn named(client: &ClientRecord) -> String {
    documents::host(client).unwrap_or_else(|| client.shown().to_owned())
}

fn enrol_page(
    desk: &Desk,
    tx: &Plain<TxCookie>,
    awaiting: &AwaitingEnrolment,
    notice: Option<Notice>,
) -> EnrolPage {
    let drawn = qr(awaiting.secret(), desk.settings.issuer.host(), awaiting.login());
    EnrolPage {
        form_target: awaiting.ticket().checked().source(),
        sealed: sealed::seal(desk, tx, awaiting.ticket(), awaiting.stage()),
        qr_svg_path: drawn.path,
        qr_side: drawn.side,
        secret: awaiting.secret().base32(),
        notice,
    }
}

fn consent_page(desk: &Desk, tx: &Plain<TxCookie>, awaiting: &AwaitingConsent) -> ConsentPage {
    let checked = awaiting.ticket().checked();
    let (redirect_host, device_place) = match checked.destination() {
        Destination::Client { answer_to, .. } => {
            let source = answer_to.source();
            // What people read: a host, or the scheme of an app.
            let host = source.split_once("://").map_or(source.as_str(), |(_, host)| host);
            (host.to_owned(), None)
        }
        Destination::Device(device) => (String::new(), Some(device.place.clone())),
    };
    let words = |scope: &str| {
        let words = desk.settings.scope_words.get(scope).map(String::as_str);
        (scope.to_owned(), words.unwrap_or_else(|| own_words(scope)).to_owned())
    };
    ConsentPage {
        redirect_host,
        form_target: checked.source(),
        sealed: sealed::seal(desk, tx, awaiting.ticket(), awaiting.stage()),
        client: checked.client().shown().to_owned(),
        scopes: checked.scopes().iter().map(words).collect(),
        details: checked.details().iter().map(|detail| spelt(desk, detail)).collect(),
        client_host: documents::host(checked.client()),
        device_place,
        login: awaiting.login().to_owned(),
    }
}

/// The words of scopes that every server has (OpenID Connect Core §5.4, §11); else the scope itself.
fn own_words(scope: &str) -> &str {
    match scope {
        OPENID => "Know who you are",
        OFFLINE => "Stay connected while you are signed out",
        "profile" => "See your name",
        "email" => "See your e-mail address",
        _ => scope,
    }
}

/// RFC 9396 §11.2: the user sees all of what is asked for: the type in the operator's words, and
/// each member as it stands.
fn spelt(desk: &Desk, detail: &Value) -> (String, Vec<(String, String)>) {
    let kind = type_of(detail).unwrap_or_default();
    let words = desk.settings.detail_words.get(kind).map_or(kind, String::as_str);
    let members = detail.as_object().into_iter().flatten().filter(|(name, _)| *name != "type");
    let spelt = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => value.to_string(),
        };
        // `6-attacks`: no mark that turns the reading direction where people decide.
        (neutralise(name), neutralise(&text))
    };
    (words.to_owned(), members.map(spelt).collect())
}
