//! The second factor: who must give one, and the two states that wait for it.
//!
//! Both states are reached only over a live session whose password passed; both raise that session
//! and give it a new cookie. What a one-time password is, is `totp`'s.

mod totp;

use portcullis_core::otp::TotpSecret;
use portcullis_core::web::Parameters;
use portcullis_store::credentials::TotpRecord;
use portcullis_store::database::Tx;

use super::CameBack;
use super::device::Device;
use super::password::AwaitingPassword;
use super::sealed::{self, Opened, Stage};
use super::session;
use super::state::{Login, Proven, Standing, Step, Ticket, next};
use super::throttle::Attempt;
use crate::authorize::Rejected;
use crate::desk::Desk;
use crate::outcome::{Notice, Presented};
use crate::settings::Require;
pub(crate) use totp::qr;

/// What a session still owes.
pub(crate) enum Demand {
    /// Nothing: every factor that is asked for stands in its ledger.
    Nothing,
    /// A one-time password of this credential.
    Code(TotpRecord),
    /// A credential, enrolled now.
    Enrolment,
}

/// The password passed; a one-time password is due.
pub struct AwaitingSecondFactor {
    ticket: Ticket,
    proven: Proven,
    totp: TotpRecord,
}

/// The password passed; a second factor must be enrolled.
pub struct AwaitingEnrolment {
    ticket: Ticket,
    proven: Proven,
    secret: TotpSecret,
}

/// What came with the form.
struct Typed {
    code: String,
    device: Option<Device>,
}

/// `POST /login/totp`.
pub(super) async fn step(
    desk: &Desk,
    form: &Parameters,
    presented: &Presented,
) -> Result<Step, Rejected> {
    let (ticket, stage) = match sealed::open(desk, form, presented)? {
        Opened::Fresh(ticket, stage) => (ticket, stage),
        Opened::Stale(ticket) => return Ok(AwaitingPassword::stale(ticket)),
    };
    let Some(back) = CameBack::of(&stage, presented) else {
        return Ok(AwaitingPassword::stale(ticket));
    };
    let typed = Typed {
        code: totp::typed(form.value("code").unwrap_or_default()),
        device: Device::presented(desk, presented),
    };
    let at = desk.clone();
    let store = desk.shared.store.clone();
    let work = async move |tx: &Tx| -> Result<Step, Rejected> {
        let client = ticket.checked().client().clone();
        let Some(standing) = back.standing(tx, &at, &client.id).await? else {
            return Ok(AwaitingPassword::stale(ticket));
        };
        match next(&at, ticket, &standing) {
            Login::SecondFactor(awaiting) => awaiting.answered(tx, &at, standing, typed).await,
            Login::Enrol(awaiting) => {
                awaiting.resumed(&stage).answered(tx, &at, standing, typed).await
            }
            // Nothing is owed (the form was sent twice): the login stands where it stands.
            login @ (Login::Password(_) | Login::Consent(_) | Login::Done(_)) => {
                Ok(Step::taken(login, client, "FactorNotAsked").by(&standing.user.id))
            }
        }
    };
    store.transact(work).await
}

impl Demand {
    /// By the settings, and by what the user has: a credential that is there is always asked for.
    pub(crate) fn of(require: &Require, standing: &Standing) -> Self {
        if standing.session.factors.otp.is_some() {
            return Demand::Nothing;
        }
        if let Some(totp) = standing.totp.as_ref().filter(|totp| totp.confirmed) {
            return Demand::Code(totp.clone());
        }
        let asked = match require {
            Require::Everyone => true,
            Require::Role(role) => standing.user.roles.contains(role),
            Require::Offer => false,
        };
        if asked { Demand::Enrolment } else { Demand::Nothing }
    }
}

impl AwaitingSecondFactor {
    pub(super) fn of(ticket: Ticket, proven: Proven, totp: TotpRecord) -> Self {
        AwaitingSecondFactor { ticket, proven, totp }
    }

    /// The request.
    pub(crate) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// What is sealed into the page.
    pub(super) fn stage(&self) -> Stage {
        Stage::Proven { session: self.proven.session.clone() }
    }

    /// A code was typed.
    async fn answered(
        self,
        tx: &Tx,
        desk: &Desk,
        standing: Standing,
        typed: Typed,
    ) -> Result<Step, Rejected> {
        let attempt = Attempt::at_otp(desk, &self.proven.user);
        if let Err(wait_s) = attempt.charge() {
            return Ok(self.again("Throttled", Notice::Throttled(wait_s)));
        }
        match totp::check(tx, desk, &self.totp, &typed.code).await? {
            Ok(()) => {
                attempt.succeeded();
                raised(tx, desk, self.ticket, standing, typed.device).await
            }
            Err(rule) => Ok(self.again(rule, Notice::WrongCode)),
        }
    }

    fn again(self, rule: &'static str, notice: Notice) -> Step {
        let (client, user) = (self.ticket.checked().client().clone(), self.proven.user.clone());
        Step::refused(Login::SecondFactor(self), client, rule, notice).by(&user)
    }
}

impl AwaitingEnrolment {
    /// With a new secret.
    pub(super) fn begin(desk: &Desk, ticket: Ticket, proven: Proven) -> Self {
        AwaitingEnrolment { ticket, proven, secret: TotpSecret::mint(&*desk.shared.entropy) }
    }

    /// With the secret that the page showed, if this state came from such a page.
    fn resumed(self, stage: &Stage) -> Self {
        match totp::shown(stage) {
            Some(secret) => AwaitingEnrolment { secret, ..self },
            None => self,
        }
    }

    /// The request.
    pub(crate) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// The secret to show.
    pub(super) fn secret(&self) -> &TotpSecret {
        &self.secret
    }

    /// Whose it will be.
    pub(super) fn login(&self) -> &str {
        &self.proven.login
    }

    /// What is sealed into the page.
    pub(super) fn stage(&self) -> Stage {
        totp::enrolling(&self.proven.session, &self.secret)
    }

    /// A code of the new secret was typed: it becomes the user's credential.
    async fn answered(
        self,
        tx: &Tx,
        desk: &Desk,
        standing: Standing,
        typed: Typed,
    ) -> Result<Step, Rejected> {
        let attempt = Attempt::at_otp(desk, &self.proven.user);
        if let Err(wait_s) = attempt.charge() {
            return Ok(self.again("Throttled", Notice::Throttled(wait_s)));
        }
        match totp::enrol(tx, desk, &self.proven.user, &self.secret, &typed.code).await? {
            Ok(()) => {
                attempt.succeeded();
                raised(tx, desk, self.ticket, standing, typed.device).await
            }
            Err(rule) => Ok(self.again(rule, Notice::WrongCode)),
        }
    }

    fn again(self, rule: &'static str, notice: Notice) -> Step {
        let (client, user) = (self.ticket.checked().client().clone(), self.proven.user.clone());
        Step::refused(Login::Enrol(self), client, rule, notice).by(&user)
    }
}

/// The session rises by the factor, under a new cookie, and the login goes on from it.
async fn raised(
    tx: &Tx,
    desk: &Desk,
    ticket: Ticket,
    standing: Standing,
    device: Option<Device>,
) -> Result<Step, Rejected> {
    let (client, user) = (ticket.checked().client().clone(), standing.user.id.clone());
    let mut factors = standing.session.factors;
    factors.otp = Some(desk.now.unix());
    let begun = session::raise(tx, desk, standing.session, factors).await?;
    let standing = session::standing_of(tx, begun.record, &client.id).await?;
    let Some(standing) = standing else { return Ok(AwaitingPassword::stale(ticket)) };
    let login = session::settle(tx, desk, ticket, &standing).await?;
    let device = session::remember(tx, desk, &login, device, &user).await?;
    let step = Step::taken(login, client, "FactorPassed").by(&user);
    Ok(Step { session: Some(begun.cookie), device, ..step })
}
