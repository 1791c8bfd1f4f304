//! The states of a login, and which one comes next.
//!
//! One struct per state with private fields; each transition consumes it and hands back the next.
//! [`next`] alone decides the order, from what was re-read in this transaction: there is no flag
//! that says "second factor done", only the session's ledger.

use std::sync::Arc;

use portcullis_core::bearer::{Digest, Plain};
use portcullis_core::client::ClientRecord;
use portcullis_core::id::{self, Id};
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_store::credentials::TotpRecord;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::sessions::{SessionCookie, SessionRecord};
use portcullis_store::users::UserRecord;

use super::password::AwaitingPassword;
use super::sealed::LOGIN_S;
use super::second_factor::{AwaitingEnrolment, AwaitingSecondFactor, Demand};
use crate::authorize::{Assurance, Checked, Rejected};
use crate::consent::AwaitingConsent;
use crate::desk::Desk;
use crate::outcome::{Notice, Show};
use crate::settings::{Require, SESSION_IDLE_S};

/// How old a factor may be that another one is enrolled behind, seconds (`4-identity`, "Sessions").
const FRESH_S: i64 = 300;

/// Where a login stands.
pub enum Login {
    /// Nothing is proven.
    Password(AwaitingPassword),
    /// The password passed; a one-time password is due.
    SecondFactor(AwaitingSecondFactor),
    /// The password passed; a second factor must be enrolled.
    Enrol(AwaitingEnrolment),
    /// Who it is, is proven; what the client may have, is not granted.
    Consent(AwaitingConsent),
    /// The browser goes back to the client.
    Done(Done),
}

/// A login that ended: with a code, with the user's no, or at a device.
pub struct Done {
    show: Show,
    /// The rule broken at the very end.
    broken: Option<&'static str>,
}

/// The request of a login and the nonce that its consent consumes.
pub struct Ticket {
    checked: Checked,
    nonce: String,
    begun: Timestamp,
    shown: Shown,
}

/// Whether a login's state has been in a browser.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    No,
    Yes,
}

/// Who is there, by the session row and all that hangs on it, as read in one transaction.
pub(crate) struct Standing {
    pub(crate) session: SessionRecord,
    pub(crate) user: UserRecord,
    pub(crate) totp: Option<TotpRecord>,
    pub(crate) consented: Scopes,
}

/// A user proven by a session.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    pub(crate) user: Id<id::User>,
    pub(crate) login: String,
    pub(crate) session: Id<id::Session>,
}

/// What a step of a browser came to, before it is shown.
pub(crate) struct Step {
    pub(crate) login: Login,
    /// What happened, or the rule broken; for the record.
    pub(crate) result: Result<&'static str, &'static str>,
    pub(crate) notice: Option<Notice>,
    pub(crate) session: Option<Plain<SessionCookie>>,
    pub(crate) device: Option<String>,
    pub(crate) caller: Option<Id<id::User>>,
    pub(crate) client: Arc<ClientRecord>,
    /// The name typed, for the form that is shown again.
    pub(crate) typed: Option<String>,
}

/// The state that follows from what is known: factors first, consent last.
pub(crate) fn next(desk: &Desk, ticket: Ticket, standing: &Standing) -> Login {
    let proven = standing.proven();
    // INVARIANT: consent is reached only by a session whose ledger has every factor demanded.
    match standing.demand(desk, ticket.checked()) {
        Demand::Code(totp) => Login::SecondFactor(AwaitingSecondFactor::of(ticket, proven, totp)),
        // `4-identity`: a new factor needs a fresh one, or an open browser could be made one's own.
        Demand::Enrolment if !standing.is_fresh(desk) => {
            Login::Password(AwaitingPassword::of(ticket))
        }
        Demand::Enrolment => Login::Enrol(AwaitingEnrolment::begin(desk, ticket, proven)),
        Demand::Nothing => Login::Consent(AwaitingConsent::of(ticket, proven, &standing.consented)),
    }
}

/// Reads who is there by the session cookie: the second door through which a login comes back.
/// `None`: no live session, or its user is disabled.
pub(crate) async fn standing(
    tx: &Tx,
    desk: &Desk,
    cookie: &Digest<SessionCookie>,
    client: &Id<id::Client>,
) -> Result<Option<Standing>, StoreFault> {
    let session = tx.session_by_cookie(cookie, desk.now, SESSION_IDLE_S).await?;
    let Some(session) = session else { return Ok(None) };
    standing_of(tx, session, client).await
}

/// The same for a session that this transaction just wrote.
pub(crate) async fn standing_of(
    tx: &Tx,
    session: SessionRecord,
    client: &Id<id::Client>,
) -> Result<Option<Standing>, StoreFault> {
    let Some(user) = tx.active_user(&session.user).await? else { return Ok(None) };
    let user = UserRecord::clone(&user);
    let totp = tx.totp(&user.id).await?;
    let consented = tx.consented(&user.id, client).await?;
    Ok(Some(Standing { session, user, totp, consented }))
}

impl Standing {
    /// Who.
    pub(super) fn proven(&self) -> Proven {
        Proven {
            user: self.user.id.clone(),
            login: self.user.login.clone(),
            session: self.session.id.clone(),
        }
    }
    /// What is still owed.
    pub(super) fn demand(&self, desk: &Desk, checked: &Checked) -> Demand {
        let require = match checked.assurance() {
            Assurance::AsUsual => &desk.settings.require,
            // RFC 9470 §4: what the API wants of this request, whatever is usual here.
            Assurance::Second => &Require::Everyone,
        };
        Demand::of(require, &self.user, self.totp.as_ref(), &self.session.factors)
    }
    /// Whether the password is young enough to change factors.
    fn is_fresh(&self, desk: &Desk) -> bool {
        let proven = self.session.factors.pwd;
        proven.is_some_and(|at| desk.now.unix() < at.saturating_add(FRESH_S))
    }
}

impl Ticket {
    /// A login that begins now.
    pub(crate) fn begin(desk: &Desk, checked: Checked) -> Self {
        let nonce = Plain::<Ticket>::mint(&*desk.shared.entropy).reveal().to_owned();
        Ticket { checked, nonce, begun: desk.now, shown: Shown::No }
    }
    /// One whose sealed state came back.
    pub(super) fn resumed(checked: Checked, nonce: String, begun: Timestamp) -> Self {
        Ticket { checked, nonce, begun, shown: Shown::Yes }
    }
    /// The request.
    pub(crate) fn checked(&self) -> &Checked {
        &self.checked
    }
    /// Consumed when the code is minted.
    pub(crate) fn nonce(&self) -> &str {
        &self.nonce
    }
    /// When the login began.
    pub(super) fn begun(&self) -> Timestamp {
        self.begun
    }
    /// Whether a state of it was sealed into a page: then it could come back twice.
    pub(crate) fn was_shown(&self) -> bool {
        self.shown == Shown::Yes
    }
    /// When it is over at the latest, and its nonce may be forgotten.
    pub(crate) fn ends(&self) -> Timestamp {
        self.begun.after(std::time::Duration::from_secs(LOGIN_S))
    }
}

impl Done {
    /// Ends a login with this answer.
    pub(crate) fn at(show: Show) -> Self {
        Done { show, broken: None }
    }
    /// Ends it with a refusal, as a value: what the step wrote stays, the factor that was shown first
    /// of all.
    pub(super) fn refused(desk: &Desk, rejected: Rejected) -> Self {
        match rejected {
            Rejected::Page(refusal) => {
                Done { broken: Some(refusal.rule), show: Show::Refused(refusal) }
            }
            Rejected::Return(returned) => {
                let show = returned.to.with_error(desk, &returned.error);
                Done { show, broken: Some(returned.error.rule) }
            }
        }
    }
    /// The rule broken at the very end, for the record.
    pub(super) fn broken(&self) -> Option<&'static str> {
        self.broken
    }
    /// What the browser is shown: most often where it goes.
    pub(super) fn into_show(self) -> Show {
        self.show
    }
}

impl Step {
    /// A step that went well.
    pub(crate) fn taken(login: Login, client: Arc<ClientRecord>, what: &'static str) -> Self {
        let (session, device) = (None, None);
        let result = Ok(what);
        Step { login, result, notice: None, session, device, caller: None, client, typed: None }
    }
    /// A step that broke a rule; the state is shown again with a notice.
    pub(crate) fn refused(
        login: Login,
        client: Arc<ClientRecord>,
        rule: &'static str,
        notice: Notice,
    ) -> Self {
        let step = Step::taken(login, client, rule);
        Step { result: Err(rule), notice: Some(notice), ..step }
    }
    /// Names who it was.
    pub(crate) fn by(self, user: &Id<id::User>) -> Self {
        Step { caller: Some(user.clone()), ..self }
    }
}
