//! The session: begun by the first factor, raised by the second, re-read at every step.

use portcullis_core::bearer::{Digest, Plain};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::FactorTimes;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::sessions::{SessionCookie, SessionRecord};

use super::device::Device;
use super::state::{Done, Login, Standing, Ticket, next};
pub(crate) use super::state::{standing, standing_of};
use crate::authorize::Rejected;
use crate::desk::Desk;
use crate::outcome::Presented;
use crate::settings::{SESSION_IDLE_S, SESSION_MAX_S};

/// A session with the new value of its cookie.
pub(crate) struct Begun {
    pub(crate) record: SessionRecord,
    pub(crate) cookie: Plain<SessionCookie>,
}

/// What a session's ledger comes to (NIST SP 800-63B-4 §2; RFC 8176 §2 for the words).
pub(crate) fn assurance(factors: &FactorTimes) -> (&'static str, Vec<String>) {
    let (acr, words): (_, &[&str]) = match (factors.pwd, factors.otp) {
        (Some(_), Some(_)) => ("aal2", &["pwd", "otp", "mfa"]),
        (Some(_), None) => ("aal1", &["pwd"]),
        (None, Some(_)) => ("aal1", &["otp"]),
        (None, None) => ("aal0", &[]),
    };
    (acr, words.iter().map(|word| (*word).to_owned()).collect())
}

/// The digest of the session cookie that came along.
pub(crate) fn cookie(presented: &Presented) -> Option<Digest<SessionCookie>> {
    let plain = Plain::<SessionCookie>::presented(presented.session.as_ref()?.expose())?;
    Some(plain.digest())
}

/// Begins a session after the password. The browser's session of the same user goes on under a
/// new cookie and an empty ledger, so that a second factor is asked anew; somebody else's ends.
pub(crate) async fn begin(
    tx: &Tx,
    desk: &Desk,
    user: &Id<id::User>,
    presented: Option<&Digest<SessionCookie>>,
) -> Result<Begun, StoreFault> {
    let cookie = Plain::mint(&*desk.shared.entropy);
    let factors = FactorTimes { pwd: Some(desk.now.unix()), ..FactorTimes::default() };
    let present = match presented {
        Some(digest) => tx.session_by_cookie(digest, desk.now, SESSION_IDLE_S).await?,
        None => None,
    };
    if let Some(record) = present {
        if &record.user == user {
            return raise(tx, desk, record, factors).await;
        }
        tx.end_session(&record.id, desk.now).await?;
    }
    let record = SessionRecord {
        id: Id::mint(&*desk.shared.entropy),
        cookie: cookie.digest(),
        user: user.clone(),
        factors,
        made: desk.now,
        seen: desk.now,
        expires: desk.in_seconds(SESSION_MAX_S),
        ended: None,
    };
    tx.add_session(&record).await?;
    Ok(Begun { record, cookie })
}

/// New factor times, and with them a new cookie: an old one is worth nothing afterwards
/// (OWASP ASVS 5 §7.2.4).
pub(crate) async fn raise(
    tx: &Tx,
    desk: &Desk,
    record: SessionRecord,
    factors: FactorTimes,
) -> Result<Begun, StoreFault> {
    let cookie = Plain::<SessionCookie>::mint(&*desk.shared.entropy);
    tx.raise_session(&record.id, &cookie.digest(), factors, desk.now).await?;
    let record = SessionRecord { cookie: cookie.digest(), factors, seen: desk.now, ..record };
    Ok(Begun { record, cookie })
}

/// Ends every other session of the user, with its grants.
pub(crate) async fn end_others(
    tx: &Tx,
    desk: &Desk,
    kept: &SessionRecord,
) -> Result<(), StoreFault> {
    loop {
        let mut others = tx.sessions_of(&kept.user, desk.now).await?;
        others.retain(|session| session.id != kept.id);
        if others.is_empty() {
            return Ok(());
        }
        for session in others {
            tx.end_session(&session.id, desk.now).await?;
        }
    }
}

/// The state that follows, gone on to its end where nothing has to be asked: a client whose
/// consent stands gets its code in this very transaction.
pub(crate) async fn settle(
    tx: &Tx,
    desk: &Desk,
    ticket: Ticket,
    standing: &Standing,
) -> Result<Login, Rejected> {
    match next(desk, ticket, standing) {
        Login::Consent(awaiting) if awaiting.stands() => match awaiting.granted(tx, desk).await {
            Ok(done) => Ok(Login::Done(done)),
            // A store that failed takes all of it back.
            Err(Rejected::Page(refusal)) if refusal.status >= 500 => Err(Rejected::Page(refusal)),
            // `6-attacks`: a one-time password works once, also when the login ends badly.
            Err(rejected) => Ok(Login::Done(Done::refused(desk, rejected))),
        },
        login => Ok(login),
    }
}

/// Remembers the browser once a login passed every factor in it; returns the cookie's new value.
pub(crate) async fn remember(
    tx: &Tx,
    desk: &Desk,
    reached: &Login,
    presented: Option<Device>,
    user: &Id<id::User>,
) -> Result<Option<String>, StoreFault> {
    let whole = match reached {
        Login::Consent(_) | Login::Done(_) => true,
        Login::Password(_) | Login::SecondFactor(_) | Login::Enrol(_) => false,
    };
    let own = presented.filter(|device| device.user() == user);
    let known = match &own {
        Some(device) => tx.device_known(device.id(), user, desk.now).await?,
        None => false,
    };
    if !whole || known {
        return Ok(None);
    }
    let device = Device::mint(desk, user);
    tx.know_device(device.id(), user, device.expires()).await?;
    Ok(Some(device.sealed(desk)))
}
