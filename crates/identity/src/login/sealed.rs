//! A login's state between two pages: sealed, bound to the browser by the `__Host-pc-tx` cookie.
//!
//! The first of the two doors through which a login comes back (the other is the session row): it
//! says what was asked and which session the browser proved, never that a factor passed. Before
//! the first factor nothing durable is written for a login, so all of it travels here.

use portcullis_core::bearer::Plain;
use portcullis_core::hash::{same, sha256};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::base64url;
use portcullis_core::seal::Purpose;
use portcullis_core::time::Timestamp;
use portcullis_core::web::Parameters;
use serde::{Deserialize, Serialize};

use super::state::Ticket;
use crate::authorize::ask::Ask;
use crate::authorize::{Rejected, check_again};
use crate::desk::Desk;
use crate::outcome::{PageRefusal, Presented};

/// How long a page of the login may stay open, seconds.
pub(crate) const STATE_S: i64 = 600;

/// How long a login may take from its request to its consent, seconds, however often its pages are
/// shown again: its nonce is remembered as long.
pub(crate) const LOGIN_S: u64 = 3_600;

/// What marks the state of the page that asks for a user code.
const DEVICE_PAGE: &str = "device";

/// Marks the value of the `__Host-pc-tx` cookie.
pub(crate) enum TxCookie {}

/// Where a login stood when its page was shown.
/// No `Debug`: it may hold a secret.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// No factor passed in this login.
    Asked,
    /// The session of this browser carries the rest; it is re-read, not believed.
    Proven {
        /// The session.
        session: Id<id::Session>,
    },
    /// The same, with a TOTP secret that was shown and is not anyone's yet.
    Enrolling {
        /// The session.
        session: Id<id::Session>,
        /// The secret, base64url. Sealed here instead of kept in a row: a page that is shown writes
        /// nothing.
        secret: String,
    },
}

/// The sealed words.
#[derive(Serialize, Deserialize)]
struct Sealed {
    ask: Ask,
    /// SHA-256 of the cookie, base64url.
    tx: String,
    nonce: String,
    /// When the login began.
    begun: i64,
    expires: i64,
    stage: Stage,
}

/// A state that came back.
pub(crate) enum Opened {
    /// In time.
    Fresh(Ticket, Stage),
    /// The page was open for too long: the login begins anew, with a new nonce.
    Stale(Ticket),
}

/// Seals a state for the next page.
pub(crate) fn seal(desk: &Desk, tx: &Plain<TxCookie>, ticket: &Ticket, stage: Stage) -> String {
    let sealed = Sealed {
        ask: ticket.checked().ask().clone(),
        tx: bound(tx.reveal()),
        nonce: ticket.nonce().to_owned(),
        begun: ticket.begun().unix(),
        // INVARIANT: no state outlives the memory of its nonce, or a consent could be replayed.
        expires: desk.now.unix().saturating_add(STATE_S).min(ticket.ends().unix()),
        stage,
    };
    // An empty text opens nowhere; our own words are always JSON.
    let plain = serde_json::to_vec(&sealed).unwrap_or_default();
    desk.seal(Purpose::Login, &plain)
}

/// Opens the `state` of a form, and checks its request again under the settings in force.
///
/// # Errors
/// [`Rejected`]: `StateMissing`, `StateForged`, `StateOfAnotherBrowser`, or a rule of the request
/// that no longer holds.
pub(crate) async fn open(
    desk: &Desk,
    form: &Parameters,
    presented: &Presented,
) -> Result<Opened, Rejected> {
    let text = form.value("state").ok_or_else(|| refusal(400, "StateMissing"))?;
    let plain = desk.shared.sealer.open(Purpose::Login, text);
    let plain = plain.map_err(|_| refusal(400, "StateForged"))?;
    let sealed: Sealed =
        serde_json::from_slice(plain.expose()).map_err(|_| refusal(400, "StateForged"))?;
    // RFC 6749 §10.12, RFC 9700 §4.7: a form is good in the browser that it was shown to, alone.
    of_this_browser(&sealed.tx, presented)?;
    let checked = check_again(desk, sealed.ask).await?;
    if desk.now.unix() >= sealed.expires {
        return Ok(Opened::Stale(Ticket::begin(desk, checked)));
    }
    let begun = Timestamp::from_unix(sealed.begun);
    Ok(Opened::Fresh(Ticket::resumed(checked, sealed.nonce, begun), sealed.stage))
}

/// The state of a page that stands before any login: only that this browser was shown it.
#[derive(Serialize, Deserialize)]
struct Page {
    page: String,
    tx: String,
    expires: i64,
}

/// Seals the state of the page that asks for a user code.
pub(crate) fn seal_device_page(desk: &Desk, tx: &Plain<TxCookie>) -> String {
    let expires = desk.now.unix().saturating_add(STATE_S);
    let page = Page { page: DEVICE_PAGE.to_owned(), tx: bound(tx.reveal()), expires };
    desk.seal(Purpose::Nonce, &serde_json::to_vec(&page).unwrap_or_default())
}

/// Opens it.
///
/// # Errors
/// [`Rejected`]: `StateForged`, `StateOfAnotherBrowser`, `StateStale`.
pub(crate) fn open_device_page(
    desk: &Desk,
    text: &str,
    presented: &Presented,
) -> Result<(), Rejected> {
    let plain = desk.shared.sealer.open(Purpose::Nonce, text);
    let plain = plain.map_err(|_| refusal(400, "StateForged"))?;
    let page: Page =
        serde_json::from_slice(plain.expose()).map_err(|_| refusal(400, "StateForged"))?;
    of_this_browser(&page.tx, presented)?;
    match (page.page == DEVICE_PAGE, desk.now.unix() < page.expires) {
        (true, true) => Ok(()),
        (true, false) => Err(refusal(400, "StateStale")),
        (false, _) => Err(refusal(400, "StateForged")),
    }
}

/// Whether the browser has the cookie that a state was sealed over.
fn of_this_browser(sealed: &str, presented: &Presented) -> Result<(), Rejected> {
    let tx = presented.tx.as_ref().map(|tx| bound(tx.expose())).unwrap_or_default();
    match same(tx.as_bytes(), sealed.as_bytes()) {
        true => Ok(()),
        false => Err(refusal(403, "StateOfAnotherBrowser")),
    }
}

fn bound(cookie: &str) -> String {
    base64url::encode(&sha256(cookie.as_bytes()))
}

fn refusal(status: u16, rule: &'static str) -> Rejected {
    let words = "This sign-in cannot go on here. Go back to the app and start again.";
    Rejected::Page(PageRefusal { status, rule, words })
}
