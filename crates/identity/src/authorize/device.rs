//! The browser's half of a device login (RFC 8628 §3.3): which device, then the same login and the
//! same consent page as for any client, with the place from where the device asked.
//!
//! A user code by itself approves nothing, not even in the complete address (§3.3.1): it fills in
//! the field, a person sends the form, and what is decided is decided on the consent page. What the
//! device then gets is `token::device`'s.

use portcullis_core::client::GrantType;
use portcullis_core::web::Parameters;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::device_logins::{Decision, DeviceLogin, MAX_USER_CODE};

use super::ask::{Ask, DeviceAsk};
use super::{Assurance, Checked, Destination, Prompt, Rejected, may_ask, page as refused};
use crate::desk::Desk;
use crate::login::throttle::Attempt;
use crate::login::{begin, sealed, show};
use crate::outcome::{DeviceCodePage, Notice, Outcome, Presented};
use crate::token::details;

/// What is read out of the field at most: what the page lets one type, and more.
const MAX_TYPED: usize = 2 * MAX_USER_CODE;

/// `GET /device`, `POST /device`. What comes from our own page has its `state`; without it the page
/// is shown, prefilled, and nothing is looked up.
pub(crate) async fn page(desk: &Desk, form: &Parameters, presented: &Presented) -> Outcome {
    let typed = form.value("user_code").unwrap_or_default();
    let Some(state) = form.value("state") else {
        return asked(desk, typed, Ok("DeviceAsked"), presented);
    };
    if let Err(rejected) = sealed::open_device_page(desk, state, presented) {
        return show::outcome(desk, "device.code", Err(rejected), presented);
    }
    // `6-attacks`: ten thousand user codes from an address are counted as failed logins are, before
    // anything is looked up (RFC 8628 §5.1).
    let attempt = Attempt::at_client(desk, presented.ip);
    if let Err(wait_s) = attempt.charge() {
        return asked(desk, typed, Err(("Throttled", Notice::Throttled(wait_s))), presented);
    }
    match waiting(desk, canonical(typed)).await {
        Ok(Some(login)) => {
            attempt.succeeded();
            let step = match check(desk, DeviceAsk::of(login)) {
                Ok(checked) => begin::from(desk, checked, presented).await,
                Err(rejected) => Err(rejected),
            };
            show::outcome(desk, "device.code", step, presented)
        }
        Ok(None) => asked(desk, typed, Err(("UserCodeUnknown", Notice::WrongUserCode)), presented),
        Err(fault) => {
            attempt.forget();
            show::outcome(desk, "device.code", Err(fault.into()), presented)
        }
    }
}

/// The page that asks for the code.
fn asked(
    desk: &Desk,
    typed: &str,
    result: Result<&'static str, (&'static str, Notice)>,
    presented: &Presented,
) -> Outcome {
    let notice = result.as_ref().err().map(|(_, notice)| *notice);
    let user_code = typed.chars().take(MAX_TYPED).collect();
    let result = result.map_err(|(rule, _)| rule);
    show::device_code(desk, result, presented, |sealed| DeviceCodePage {
        sealed,
        user_code,
        notice,
    })
}

/// RFC 8628 §6.1: case and punctuation are the typist's; the letters are the code.
fn canonical(typed: &str) -> String {
    let letters = typed.chars().filter(char::is_ascii_alphanumeric);
    letters.take(MAX_TYPED).map(|letter| letter.to_ascii_uppercase()).collect()
}

/// The device that waits under a user code, undecided.
async fn waiting(desk: &Desk, user_code: String) -> Result<Option<DeviceLogin>, StoreFault> {
    let now = desk.now;
    let reading = async move |tx: &Tx| tx.device_login_of_user_code(&user_code, now).await;
    let found: Result<Option<DeviceLogin>, StoreFault> = desk.shared.store.read(reading).await;
    Ok(found?.filter(|login| login.decision == Decision::Pending))
}

/// Checks what a device asks for under the settings in force: the table of its kind, short because
/// the device authenticated when it asked.
///
/// # Errors
/// [`Rejected::Page`], naming the rule: there is nobody to send the browser to.
pub(super) fn check(desk: &Desk, ask: DeviceAsk) -> Result<Checked, Rejected> {
    let words = "The app on your device can no longer be connected. Start again there.";
    let client = desk.settings.clients.get(&ask.client);
    let client = client.ok_or_else(|| refused("ClientUnknown", words))?.clone();
    if !client.may(GrantType::DeviceCode) {
        return Err(refused("ClientNotDevice", words));
    }
    // RFC 8628 §3.2: the code is good for so long, however far its user has come.
    if desk.now.unix() >= ask.expires {
        return Err(refused("DeviceCodeExpired", words));
    }
    // What was taken away since the device asked is not given.
    if !ask.scopes.iter().all(|scope| may_ask(&client, scope)) {
        return Err(refused("ScopeUnregistered", words));
    }
    if details::kept(&client, &ask.details).len() != ask.details.len() {
        return Err(refused("DetailTypeUnregistered", words));
    }
    Ok(Checked {
        client,
        scopes: ask.scopes.clone(),
        audience: ask.audience.as_deref().map(Into::into),
        details: ask.details.clone(),
        ask: Ask::Device(Box::new(ask.clone())),
        destination: Destination::Device(Box::new(ask)),
        prompt: Prompt::default(),
        max_age_s: None,
        assurance: Assurance::AsUsual,
        hint: None,
    })
}

#[cfg(test)]
mod tests;
