//! The logout request (RP-Initiated Logout §2), checked: each rule by its name, always a page.

use std::sync::Arc;

use portcullis_core::client::ClientRecord;
use portcullis_core::id::Id;
use portcullis_core::jose::claims::IdClaims;
use portcullis_core::jose::jws::TokenFault;
use portcullis_core::jose::verify;
use portcullis_core::oauth::authorize::{MAX_HINT, MAX_VALUE};
use portcullis_core::web::{Parameters, form_encode};

use crate::authorize::Rejected;
use crate::desk::Desk;
use crate::outcome::PageRefusal;

/// The parameters that are read, and their longest values. `logout_hint` names nobody that the
/// session does not, and the pages speak one language: neither changes anything.
const BOUNDS: [(&str, usize); 6] = [
    ("id_token_hint", MAX_HINT),
    ("client_id", MAX_VALUE),
    ("post_logout_redirect_uri", MAX_VALUE),
    ("state", MAX_VALUE),
    ("logout_hint", MAX_VALUE),
    ("ui_locales", MAX_VALUE),
];

/// What was asked, as far as it holds.
pub(super) struct Request {
    /// Who asks.
    pub(super) client: Option<Arc<ClientRecord>>,
    /// An ID token of ours, perhaps expired.
    pub(super) hint: Option<IdClaims>,
    /// Where to go afterwards: registered by that client.
    pub(super) to: Option<Destination>,
}

/// A registered place to go to.
#[derive(Clone)]
pub(super) struct Destination {
    pub(super) redirect: String,
    pub(super) state: Option<String>,
}

impl Destination {
    /// The redirect, with the client's `state` given back untouched (§3).
    pub(super) fn location(&self) -> String {
        let Some(state) = &self.state else { return self.redirect.clone() };
        let join = if self.redirect.contains('?') { '&' } else { '?' };
        format!("{}{join}state={}", self.redirect, form_encode(state))
    }

    /// Its CSP source, for the page whose form leads there.
    pub(super) fn source(&self) -> String {
        let (scheme, rest) = self.redirect.split_once(':').unwrap_or((&self.redirect, ""));
        let host = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?']).next());
        match host {
            // CSP 3 §2.3.1: a host-source has no spelling for `[::1]`.
            Some(host) if !host.is_empty() && !host.starts_with('[') => {
                format!("{scheme}://{host}")
            }
            _ => format!("{scheme}:"),
        }
    }
}

/// Reads and checks a request.
///
/// # Errors
/// [`Rejected::Page`], naming the first rule broken: nothing ends then, and nobody is sent anywhere.
pub(super) fn read(desk: &Desk, parameters: &Parameters) -> Result<Request, Rejected> {
    for (name, longest) in BOUNDS {
        if parameters.value(name).is_some_and(|value| value.len() > longest) {
            return Err(refused(400, "RequestMalformed"));
        }
    }
    let hint = hint(desk, parameters)?;
    let named = parameters.value("client_id");
    // §2: a `client_id` beside an ID token must be the client that it was issued to.
    if let (Some(named), Some(hint)) = (named, &hint)
        && hint.aud != named
    {
        return Err(refused(400, "HintOfAnotherClient"));
    }
    let named = named.or(hint.as_ref().map(|hint| hint.aud.as_str()));
    let client = named.and_then(|name| find(desk, name));
    let to = match parameters.value("post_logout_redirect_uri") {
        None => None,
        Some(redirect) => Some(destination(client.as_deref(), redirect, parameters)?),
    };
    Ok(Request { client, hint, to })
}

/// The client of a name, under the settings in force.
pub(super) fn find(desk: &Desk, name: &str) -> Option<Arc<ClientRecord>> {
    desk.settings.clients.get(&Id::parse(name).ok()?).cloned()
}

/// Whether a client registered this place, byte for byte (§3: simple string comparison).
pub(super) fn is_registered(client: &ClientRecord, redirect: &str) -> bool {
    client.post_logout.iter().any(|registered| registered.as_str() == redirect)
}

fn hint(desk: &Desk, parameters: &Parameters) -> Result<Option<IdClaims>, Rejected> {
    let Some(text) = parameters.value("id_token_hint") else { return Ok(None) };
    let keys = desk.shared.keyring.identity_keys();
    match verify::id_token_hint(text, &keys, &desk.settings.issuer_text) {
        Ok(verified) => Ok(Some(verified.claims().clone())),
        // One of a key that is gone: an app may keep its ID token for months. It counts as none,
        // and the user is asked.
        Err(TokenFault::KeyUnknown) => Ok(None),
        // §4: what cannot be validated must not be used.
        Err(_) => Err(refused(400, "HintForged")),
    }
}

fn destination(
    client: Option<&ClientRecord>,
    redirect: &str,
    parameters: &Parameters,
) -> Result<Destination, Rejected> {
    let Some(client) = client else { return Err(refused(400, "ClientUnknown")) };
    // §3, and OWASP ASVS 5 §10.4.1: no open redirect.
    if !is_registered(client, redirect) {
        return Err(refused(400, "PostLogoutUnregistered"));
    }
    let state = parameters.value("state").map(str::to_owned);
    Ok(Destination { redirect: redirect.to_owned(), state })
}

/// A refusal of a logout.
pub(super) fn refused(status: u16, rule: &'static str) -> Rejected {
    let words = "This sign-out cannot go on here. Go back to the app and try again.";
    Rejected::Page(PageRefusal { status, rule, words })
}
