//! The first factor: name and password.
//!
//! The order is the security: count, then hash, then begin a session, in which the truth of this
//! login lives from then on. The answer is the same whether the account exists or not.

use std::sync::Arc;

use portcullis_core::client::ClientRecord;
use portcullis_core::id::{self, Id};
use portcullis_core::secret::Secret;
use portcullis_core::web::Parameters;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::users::{UserRecord, canonical_login};

use super::argon::Verdict;
use super::device::Device;
use super::sealed::{self, Opened};
use super::session;
use super::state::{Login, Step, Ticket};
use super::throttle::{Attempt, settled};
use crate::authorize::Rejected;
use crate::desk::Desk;
use crate::outcome::{Notice, PageRefusal, Presented};

/// Nothing is proven yet.
pub struct AwaitingPassword {
    ticket: Ticket,
}

/// What is known of the name typed.
struct Account {
    user: Option<UserRecord>,
    hash: Option<String>,
    /// The device that the browser named, when it is known for this very account.
    device: Option<Id<id::Device>>,
}

/// `POST /login`.
pub(crate) async fn step(
    desk: &Desk,
    form: &Parameters,
    presented: &Presented,
) -> Result<Step, Rejected> {
    let ticket = match sealed::open(desk, form, presented).await? {
        Opened::Fresh(ticket, _) => ticket,
        Opened::Stale(ticket) => return Ok(AwaitingPassword::stale(ticket)),
    };
    let awaiting = AwaitingPassword { ticket };
    // `6-attacks`: usernames are canonical before they are counted.
    let typed = canonical_login(form.value("login").unwrap_or_default());
    let password = Secret::new(form.value("password").unwrap_or_default().to_owned());
    let account = look_up(desk, typed.clone(), presented).await?;
    let device = account.device.as_ref().filter(|device| settled(desk, device, presented.ip));
    let attempt = Attempt::at_password(desk, &typed, presented.ip, device);
    if let Err(wait_s) = attempt.charge() {
        return Ok(awaiting.again(typed, "Throttled", Notice::Throttled(wait_s)));
    }
    let Ok(verdict) = desk.shared.passwords.verify(password, account.hash.clone()).await else {
        // Nothing was tried, so nothing is counted.
        attempt.forget();
        return Err(pool_full());
    };
    match account.judged(verdict) {
        Ok(passed) => {
            attempt.succeeded();
            awaiting.answered(desk, passed, presented).await
        }
        // The rule is for the record; what is shown is the same for all.
        Err(rule) => Ok(awaiting.again(typed, rule, Notice::WrongPassword)),
    }
}

impl Account {
    /// Whether the hash that was verified lets this account in.
    fn judged(self, verdict: Verdict) -> Result<PasswordPassed, &'static str> {
        match (self.user, self.hash) {
            (None, _) => Err("LoginUnknown"),
            (Some(_), None) => Err("PasswordMissing"),
            (Some(_), Some(_)) if verdict == Verdict::Wrong => Err("PasswordWrong"),
            (Some(user), Some(_)) if user.disabled.is_some() => Err("UserDisabled"),
            (Some(user), Some(hash)) => Ok(PasswordPassed { user: user.id, hash }),
        }
    }
}

/// The proof that a password fitted; consumed by the transaction that begins the session.
struct PasswordPassed {
    user: Id<id::User>,
    hash: String,
}

impl AwaitingPassword {
    /// Where every login begins.
    pub(crate) fn of(ticket: Ticket) -> Self {
        AwaitingPassword { ticket }
    }

    /// A page that was open for too long: shown again, with a new nonce.
    pub(crate) fn stale(ticket: Ticket) -> Step {
        let client = ticket.checked().client().clone();
        let login = Login::Password(AwaitingPassword { ticket });
        Step::refused(login, client, "StateStale", Notice::Stale)
    }

    /// The same page with a notice.
    fn again(self, typed: String, rule: &'static str, notice: Notice) -> Step {
        let client = self.ticket.checked().client().clone();
        let step = Step::refused(Login::Password(self), client, rule, notice);
        Step { typed: Some(typed), ..step }
    }

    /// The request.
    pub(crate) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// The password passed: a session begins or is raised, and the login goes on from its row.
    async fn answered(
        self,
        desk: &Desk,
        passed: PasswordPassed,
        presented: &Presented,
    ) -> Result<Step, Rejected> {
        let (at, cookie) = (desk.clone(), session::cookie(presented));
        let device = Device::presented(desk, presented);
        let client = self.ticket.checked().client().clone();
        let store = desk.shared.store.clone();
        let work = async move |tx: &Tx| -> Result<Step, Rejected> {
            if !still_fits(tx, &passed).await? {
                return Ok(self.lost(client));
            }
            let begun = session::begin(tx, &at, &passed.user, cookie.as_ref()).await?;
            let standing = session::standing_of(tx, begun.record, &client.id).await?;
            let Some(standing) = standing else { return Ok(self.lost(client)) };
            let login = session::settle(tx, &at, self.ticket, &standing).await?;
            let step = Step::taken(login, client, "PasswordPassed").by(&passed.user);
            let device = session::remember(tx, &at, &step.login, device, &passed.user).await?;
            Ok(Step { session: Some(begun.cookie), device, ..step })
        };
        store.transact(work).await
    }

    /// Disabled, or the password changed, while it was being hashed.
    fn lost(self, client: Arc<ClientRecord>) -> Step {
        Step::refused(Login::Password(self), client, "AccountChanged", Notice::WrongPassword)
    }
}

/// Re-read in the transaction that begins the session: hashing took a while.
async fn still_fits(tx: &Tx, passed: &PasswordPassed) -> Result<bool, StoreFault> {
    let active = tx.active_user(&passed.user).await?.is_some();
    let password = tx.password(&passed.user).await?;
    Ok(active && password.is_some_and(|password| password.hash == passed.hash))
}

/// One reading for every name, so that it takes as long for one that nobody has.
async fn look_up(desk: &Desk, typed: String, presented: &Presented) -> Result<Account, Rejected> {
    let (device, now) = (Device::presented(desk, presented), desk.now);
    let reading = async move |tx: &Tx| -> Result<Account, StoreFault> {
        let Some(user) = tx.user_by_login(&typed).await? else {
            return Ok(Account { user: None, hash: None, device: None });
        };
        let hash = tx.password(&user.id).await?.map(|password| password.hash);
        // `6-attacks`: a known-device cookie of one account is unknown for another.
        let device = match device.filter(|device| device.user() == &user.id) {
            Some(device) if tx.device_known(device.id(), &user.id, now).await? => {
                Some(device.id().clone())
            }
            Some(_) | None => None,
        };
        Ok(Account { user: Some(user), hash, device })
    };
    Ok(desk.shared.store.read(reading).await?)
}

fn pool_full() -> Rejected {
    let words = "Many people are signing in just now. Try again in a moment.";
    Rejected::Page(PageRefusal { status: 503, rule: "PasswordPoolFull", words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use portcullis_core::time::Clock;
    use portcullis_store::credentials::PasswordRecord;

    async fn fits(world: &World, user: &Id<id::User>, hash: &str) -> bool {
        let passed = PasswordPassed { user: user.clone(), hash: hash.to_owned() };
        let work = async move |tx: &Tx| still_fits(tx, &passed).await;
        world.store.read(work).await.expect("read")
    }

    #[tokio::test]
    async fn account_changed_while_it_was_hashed() {
        let world = World::start().await;
        let (id, now) = (world.ada().await.user.id, world.clock.now());
        let keep = async |hash: &'static str| {
            let (id, hash) = (id.clone(), hash.to_owned());
            let record = PasswordRecord { hash, one_off: false };
            world.change(async move |tx: &Tx| tx.keep_password(&id, &record).await).await;
        };
        keep("old").await;
        assert!(fits(&world, &id, "old").await);
        keep("new").await;
        assert!(!fits(&world, &id, "old").await, "another password");
        let disabled = id.clone();
        world.change(async move |tx: &Tx| tx.disable_user(&disabled, now).await).await;
        assert!(!fits(&world, &id, "new").await, "disabled");
    }
}
