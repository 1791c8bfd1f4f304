//! Beginning a device login (RFC 8628 §3.1, §3.2): what is asked for is judged as for a code, room
//! is looked for, and one row waits for a user.
//!
//! This is one of the few rows that someone unauthenticated can cause, so they are counted twice:
//! by address before the store is asked at all, and by client and address in the store.

use std::net::IpAddr;
use std::time::Duration;

use portcullis_core::bearer::Plain;
use portcullis_core::client::{ClientRecord, GrantType};
use portcullis_core::entropy::Entropy;
use portcullis_core::jose::claims::Confirmation;
use portcullis_core::limit::{Bucket, Per, Rate};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::scope::Scopes;
use portcullis_core::web::Parameters;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::device_logins::{Decision, DeviceCode, DeviceLogin};

use super::{INTERVAL_S, LIFE_S, PATH, stored};
use crate::authorize::{may_ask, target};
use crate::desk::Desk;
use crate::outcome::{DeviceStart, Presented};
use crate::token::client_auth::{self, Claim};
use crate::token::{Aborted, binding, details, may};

/// RFC 8628 §6.1: no vowels, so that no word comes out; no letter that is read as another.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// RFC 8628 §6.1: eight of twenty letters are 34.5 bits, in a row that lives for ten minutes.
const USER_CODE: usize = 8;
/// Two codes that meet are met with another one, so often.
const TRIES: usize = 3;
/// Device logins begun from one address: a living room, an office, not a flood.
const ADDRESS: &str = "device_begin";
const ADDRESS_RATE: Rate =
    Rate { count: 20, period: Duration::from_secs(600), burst: 20, per: Per::Ip };

/// Checks what is asked for, and begins.
pub(super) async fn begin(
    desk: &Desk,
    claim: Claim,
    form: &Parameters,
    presented: &Presented,
) -> Result<DeviceStart, OauthError> {
    let place = place(presented.ip);
    let asked = Asked::read(desk, claim.client(), form)
        .and_then(|asked| room(desk, &place).map(|()| asked))
        // RFC 9449 §10: a proof shown here binds what the device will get.
        .and_then(|asked| Ok((asked, binding::confirmation(desk, presented, PATH)?)));
    let (asked, binding) = match asked {
        Ok(asked) => asked,
        Err(error) => return client_auth::refuse(desk, claim, error).await,
    };
    let device_code = Plain::<DeviceCode>::mint(&*desk.shared.entropy);
    let login = asked.login(desk, claim.client(), (&device_code, binding.as_ref()), place);
    let at = desk.clone();
    let work = async move |tx: &Tx| -> Result<Result<String, OauthError>, Aborted> {
        match claim.proven(tx, &at).await? {
            Ok(_) => Ok(waiting(tx, &at, login).await?),
            Err(error) => Ok(Err(error)),
        }
    };
    let user_code = desk.shared.store.transact(work).await.map_err(OauthError::from)??;
    Ok(answer(desk, &device_code, &user_code))
}

/// Writes the row; the user code that it came to.
async fn waiting(
    tx: &Tx,
    desk: &Desk,
    mut login: DeviceLogin,
) -> Result<Result<String, OauthError>, StoreFault> {
    for _ in 0..TRIES {
        login.user_code = user_code(&*desk.shared.entropy);
        match tx.begin_device_login(&login, desk.now).await {
            Ok(()) => return Ok(Ok(login.user_code)),
            Err(StoreFault::Taken(_)) => {}
            Err(StoreFault::TooMuch(_)) => return Ok(Err(crowded("DeviceLoginsTooMany"))),
            Err(fault) => return Err(fault),
        }
    }
    Ok(Err(crowded("UserCodesTaken")))
}

/// RFC 8628 §3.2.
fn answer(desk: &Desk, device_code: &Plain<DeviceCode>, user_code: &str) -> DeviceStart {
    let shown = shown(user_code);
    let verification_uri = format!("{}/device", desk.settings.issuer_text);
    DeviceStart {
        device_code: device_code.reveal().to_owned(),
        verification_uri_complete: format!("{verification_uri}?user_code={shown}"),
        verification_uri,
        user_code: shown,
        expires_in: LIFE_S,
        interval: INTERVAL_S,
    }
}

/// What the device asked for, checked.
struct Asked {
    scopes: Scopes,
    audience: Option<String>,
    details: String,
}

impl Asked {
    fn read(desk: &Desk, client: &ClientRecord, form: &Parameters) -> Result<Self, OauthError> {
        may(client, GrantType::DeviceCode)?;
        let invalid =
            |rule, description| OauthError::new(ErrorCode::InvalidScope, rule, description);
        let scopes = Scopes::parse(form.value("scope").unwrap_or_default())
            .map_err(|_| invalid("ScopeMalformed", "scope cannot be read"))?;
        if !scopes.iter().all(|scope| may_ask(client, scope)) {
            let description = "a scope was asked for that this client is not registered for";
            return Err(invalid("ScopeUnregistered", description));
        }
        let audience = target(&desk.settings, form.value("resource"), &scopes)?;
        let audience = audience.as_deref().map(str::to_owned);
        let text = form.value("authorization_details");
        let asked =
            details::asked(&desk.settings, client, text, audience.as_deref().unwrap_or_default());
        Ok(Asked { scopes, audience, details: details::to_stored(&asked?) })
    }

    fn login(
        self,
        desk: &Desk,
        client: &ClientRecord,
        (device_code, binding): (&Plain<DeviceCode>, Option<&Confirmation>),
        ip: String,
    ) -> DeviceLogin {
        DeviceLogin {
            code: device_code.digest(),
            user_code: String::new(),
            client: client.id.clone(),
            scopes: self.scopes,
            audience: self.audience,
            details: self.details,
            binding: stored(binding),
            ip,
            made: desk.now,
            expires: desk.in_seconds(LIFE_S),
            interval_s: INTERVAL_S,
            polled: None,
            decision: Decision::Pending,
        }
    }
}

/// Whether the address may begin another one.
fn room(desk: &Desk, place: &str) -> Result<(), OauthError> {
    let subject = place.as_bytes();
    let bucket = Bucket { limit: ADDRESS, position: 0, rate: &ADDRESS_RATE, subject };
    match desk.shared.counters.charge(bucket, 1, desk.now).allowed {
        true => Ok(()),
        false => Err(crowded("DeviceLoginsTooFast")),
    }
}

/// From where, as it is counted and as the user is shown it. `5-limits` point 3: who has one IPv6
/// address has its whole /64.
fn place(ip: Option<IpAddr>) -> String {
    match ip.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => {
            let network = ip.to_bits() & !u128::from(u64::MAX);
            format!("{}/64", std::net::Ipv6Addr::from_bits(network))
        }
        None => String::new(),
    }
}

/// RFC 6749 §5.2 has no word for it; RFC 8628 §3.5's `slow_down` is for polls alone.
fn crowded(rule: &'static str) -> OauthError {
    let description = "too many device logins are waiting; try again in some minutes";
    OauthError::new(ErrorCode::TemporarilyUnavailable, rule, description)
}

/// A user code as it is kept: letters alone.
fn user_code(entropy: &dyn Entropy) -> String {
    let mut code = String::with_capacity(USER_CODE);
    while code.len() < USER_CODE {
        let mut bytes = [0u8; 2 * USER_CODE];
        entropy.fill(&mut bytes);
        let missing = USER_CODE - code.len();
        // 240 is twelve times twenty: above it some letters would come more often than others.
        let even = bytes.iter().filter(|byte| **byte < 240);
        let letters = even.filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()));
        code.extend(letters.take(missing).map(|letter| char::from(*letter)));
    }
    code
}

/// RFC 8628 §6.1: in two groups, to be read aloud and typed.
fn shown(user_code: &str) -> String {
    match user_code.split_at_checked(USER_CODE / 2) {
        Some((one, other)) => format!("{one}-{other}"),
        None => user_code.to_owned(),
    }
}
