//! The second factor: who must give one, and the two states that wait for it.
//!
//! Both states are reached only over a live session whose password passed; both raise that session
//! and give it a new cookie. What a one-time password is, is `totp`'s.

mod totp;

use std::net::IpAddr;

use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::FactorTimes;
use portcullis_core::otp::TotpSecret;
use portcullis_core::web::Parameters;
use portcullis_store::credentials::TotpRecord;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::users::UserRecord;

use super::CameBack;
use super::device::Device;
use super::password::AwaitingPassword;
use super::sealed::{self, Opened, Stage};
use super::session;
use super::state::{Login, Proven, Standing, Step, Ticket, next};
use super::throttle::{Attempt, settled};
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
    ip: Option<IpAddr>,
}

/// `POST /login/totp`.
pub(crate) async fn step(
    desk: &Desk,
    form: &Parameters,
    presented: &Presented,
) -> Result<Step, Rejected> {
    let (ticket, stage) = match sealed::open(desk, form, presented).await? {
        Opened::Fresh(ticket, stage) => (ticket, stage),
        Opened::Stale(ticket) => return Ok(AwaitingPassword::stale(ticket)),
    };
    let Some(back) = CameBack::of(&stage, presented) else {
        return Ok(AwaitingPassword::stale(ticket));
    };
    let typed = Typed {
        code: totp::typed(form.value("code").unwrap_or_default()),
        device: Device::presented(desk, presented),
        ip: presented.ip,
    };
    let at = desk.clone();
    let store = desk.shared.store.clone();
    let work = async move |tx: &Tx| -> Result<Step, Rejected> {
        let client = ticket.checked().client().clone();
        let Some(standing) = back.standing(tx, &at, &client.id).await? else {
            return Ok(AwaitingPassword::stale(ticket));
        };
        // A page that showed a secret was shown behind a fresh password.
        let login = match (totp::shown(&stage), standing.demand(&at, ticket.checked())) {
            (Some(secret), Demand::Enrolment) => {
                let proven = standing.proven();
                Login::Enrol(AwaitingEnrolment { ticket, proven, secret })
            }
            (_, Demand::Nothing | Demand::Code(_) | Demand::Enrolment) => {
                next(&at, ticket, &standing)
            }
        };
        match login {
            Login::SecondFactor(awaiting) => awaiting.answered(tx, &at, standing, typed).await,
            Login::Enrol(awaiting) => awaiting.answered(tx, &at, standing, typed).await,
            login @ Login::Password(_) => {
                let step = Step::refused(login, client, "StateStale", Notice::Stale);
                Ok(step.by(&standing.user.id))
            }
            // Nothing is owed (the form was sent twice): the login stands where it stands.
            login @ (Login::Consent(_) | Login::Done(_)) => {
                Ok(Step::taken(login, client, "FactorNotAsked").by(&standing.user.id))
            }
        }
    };
    store.transact(work).await
}

impl Demand {
    /// By the settings, and by what the user has: a credential that is there is always asked for.
    pub(crate) fn of(
        require: &Require,
        user: &UserRecord,
        totp: Option<&TotpRecord>,
        factors: &FactorTimes,
    ) -> Self {
        if factors.otp.is_some() {
            return Demand::Nothing;
        }
        if let Some(totp) = totp.filter(|totp| totp.confirmed) {
            return Demand::Code(totp.clone());
        }
        let asked = match require {
            Require::Everyone => true,
            Require::Role(role) => user.roles.contains(role),
            Require::Offer => false,
        };
        if asked { Demand::Enrolment } else { Demand::Nothing }
    }
}

impl Typed {
    /// The device of the browser, when it is one that this user is known by.
    async fn known_here(
        &self,
        tx: &Tx,
        desk: &Desk,
        user: &Id<id::User>,
    ) -> Result<Option<Id<id::Device>>, StoreFault> {
        let own = self.device.as_ref().filter(|device| device.user() == user);
        let Some(device) = own.map(Device::id) else { return Ok(None) };
        let known = tx.device_known(device, user, desk.now).await?;
        Ok(Some(device.clone()).filter(|device| known && settled(desk, device, self.ip)))
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
        let device = typed.known_here(tx, desk, &self.proven.user).await?;
        let attempt = Attempt::at_otp(desk, &self.proven.user, device.as_ref());
        if let Err(wait_s) = attempt.charge() {
            return Ok(self.again("Throttled", Notice::Throttled(wait_s)));
        }
        match totp::check(tx, desk, &self.totp, &typed.code).await? {
            Ok(()) => {
                attempt.succeeded();
                let step = raised(tx, desk, self.ticket, standing, typed.device).await?;
                Ok(Step { result: step.result.and(Ok("FactorPassed")), ..step })
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
        let attempt = Attempt::at_otp(desk, &self.proven.user, None);
        if let Err(wait_s) = attempt.charge() {
            return Ok(self.again("Throttled", Notice::Throttled(wait_s)));
        }
        match totp::enrol(tx, desk, &self.proven.user, &self.secret, &typed.code).await? {
            Ok(()) => {
                attempt.succeeded();
                // `4-identity`: whoever else came in by the password alone is out.
                session::end_others(tx, desk, &standing.session).await?;
                let step = raised(tx, desk, self.ticket, standing, typed.device).await?;
                Ok(Step { result: step.result.and(Ok("FactorEnrolled")), ..step })
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
