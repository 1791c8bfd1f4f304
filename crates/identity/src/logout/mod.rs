//! Logout: asked for by a client or a person (OpenID Connect RP-Initiated Logout 1.0), and told to
//! every client of the session ([`back_channel`]). No front channel: a page in a frame proves
//! nothing. We receive no logout tokens either, so there is none to be forged or replayed here.
//!
//! A session ends when the browser that holds it says so: by an ID token of that very session, or
//! on a page that asks. Where a browser is sent afterwards is registered, or nowhere.

pub(crate) mod back_channel;
mod confirm;
mod request;

use portcullis_core::id::{self, Id};
use portcullis_core::secret::Secret;
use portcullis_core::web::{Parameters, form_encode};
use portcullis_store::database::StoreFault;
use portcullis_store::sessions::SessionRecord;

use crate::authorize::Rejected;
use crate::desk::Desk;
use crate::login::session;
use crate::login::show::{SESSION_COOKIE, caller};
use crate::outcome::{CookieChange, Outcome, Presented, Show};
use crate::settings::SESSION_IDLE_S;
use crate::subject;
use request::{Destination, Request};

/// For the record.
const EVENT: &str = "logout";

/// Marks a request that was sent round once to fetch the browser's cookies.
const AGAIN: &str = "again";

/// `GET /logout`, `POST /logout`: a client's request, or the answer to our own page (then it has a
/// `decision` beside its `state`).
pub(crate) async fn step(desk: &Desk, parameters: &Parameters, presented: &Presented) -> Outcome {
    let step = match parameters.value("decision") {
        Some(decision) => confirm::answered(desk, parameters, presented, decision).await,
        None => requested(desk, parameters, presented).await,
    };
    match step {
        Ok(outcome) => outcome,
        Err(Rejected::Page(refusal)) => {
            let rule = refusal.rule.to_owned();
            Outcome { outcome: Err(rule), ..blank(Show::Refused(refusal)) }
        }
        Err(Rejected::Return(returned)) => {
            let rule = returned.error.rule.to_owned();
            Outcome { outcome: Err(rule), ..blank(returned.to.with_error(desk, &returned.error)) }
        }
    }
}

/// A browser's session and whose it is.
struct Present {
    record: SessionRecord,
    login: String,
}

async fn requested(
    desk: &Desk,
    parameters: &Parameters,
    presented: &Presented,
) -> Result<Outcome, Rejected> {
    let request = request::read(desk, parameters)?;
    let outcome = match present(desk, presented).await? {
        Some(present) if hinted(desk, &request, &present) => {
            end(desk, &present.record.id).await?;
            signed_out(request.to.as_ref()).by(&present.record.user)
        }
        // RP-Initiated Logout §2: the user MUST be asked when no ID token was given, or one of
        // another session: anybody can link to this page.
        Some(present) => confirm::page(desk, &request, &present, presented),
        None => absent(parameters, &request, presented),
    };
    Ok(outcome.of(&request))
}

/// No session came along.
fn absent(parameters: &Parameters, request: &Request, presented: &Presented) -> Outcome {
    // §2 has clients POST too, and a browser sends no `SameSite=Lax` cookie with another site's
    // form. Round once more, as a GET that brings them: or we would say that it is over while it
    // is not.
    let asked = parameters.iter().next().is_some();
    if presented.session.is_none() && asked && parameters.value(AGAIN).is_none() {
        let pair = |(name, value)| format!("{}={}", form_encode(name), form_encode(value));
        let query: Vec<String> = parameters.iter().map(pair).collect();
        let location = format!("/logout?{}&{AGAIN}=1", query.join("&"));
        return Outcome { outcome: Ok("SentRound".into()), ..blank(Show::Redirect(location)) };
    }
    // §3: without an ID token nothing says that the client sent the browser; nobody is sent on.
    let to = request.to.as_ref().filter(|_| request.hint.is_some());
    let outcome = signed_out(to);
    // A cookie that finds nothing is cut; one that never came (a foreign form) is left alone.
    let cookies = if presented.session.is_some() { outcome.cookies } else { Vec::new() };
    Outcome { outcome: Ok("SessionAbsent".into()), cookies, ..outcome }
}

/// Whether the hint names this very session and its user, as the client knows them.
fn hinted(desk: &Desk, request: &Request, present: &Present) -> bool {
    let (Some(hint), Some(client)) = (&request.hint, &request.client) else { return false };
    // §2: the ID token must belong to the session of this browser, not merely to some login.
    hint.sid == present.record.id
        && hint.sub == subject::seen_by(desk, client, &present.record.user)
}

async fn present(desk: &Desk, presented: &Presented) -> Result<Option<Present>, StoreFault> {
    let Some(cookie) = session::cookie(presented) else { return Ok(None) };
    let now = desk.now;
    let work = async move |tx: &portcullis_store::database::Tx| {
        let Some(record) = tx.session_by_cookie(&cookie, now, SESSION_IDLE_S).await? else {
            return Ok(None);
        };
        let login = tx.user(&record.user).await?.map(|user| user.login).unwrap_or_default();
        Ok::<_, StoreFault>(Some(Present { record, login }))
    };
    desk.shared.store.read(work).await
}

/// The session and its grants end, and its clients are told: one transaction. In force at the
/// gateway before it returns.
async fn end(desk: &Desk, session: &Id<id::Session>) -> Result<(), StoreFault> {
    let (session, now) = (session.clone(), desk.now);
    desk.shared.store.transact(async move |tx| tx.end_session(&session, now).await).await
}

/// Where a browser is after its session ended.
fn signed_out(to: Option<&Destination>) -> Outcome {
    let show = to.map_or(Show::LoggedOut, |to| Show::Redirect(to.location()));
    let value = Secret::new(String::new());
    let gone = CookieChange { name: SESSION_COOKIE, value, max_age_s: Some(0) };
    Outcome { outcome: Ok("SignedOut".into()), cookies: vec![gone], ..blank(show) }
}

fn blank(show: Show) -> Outcome {
    Outcome {
        show,
        cookies: Vec::new(),
        event: EVENT,
        outcome: Ok("Asked".into()),
        caller: None,
        client: None,
        retry_after: None,
    }
}

impl Outcome {
    fn by(self, user: &Id<id::User>) -> Outcome {
        Outcome { caller: Some(caller(user)), ..self }
    }

    /// A client is proven by its ID token, and otherwise merely named.
    fn of(self, request: &Request) -> Outcome {
        let mark = if request.hint.is_some() { "" } else { "?" };
        let client = request.client.as_ref().map(|client| format!("{mark}{}", client.id));
        Outcome { client, ..self }
    }
}

#[cfg(test)]
pub(crate) mod tests;
