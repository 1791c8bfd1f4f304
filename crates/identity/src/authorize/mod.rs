//! The authorization request (RFC 6749 §4.1.1): how it arrives, the table of named checks, and where
//! its answer goes.
//!
//! A request arrives in the open, by a reference to one that its client pushed ([`par`]), or in an
//! object that its client signed ([`object`]); a device's arrives by its user code ([`device`]).
//! The table ([`checks`]) is the same for all. It runs first in a login and again at each later
//! step: what is sealed into the pages is the request as it came ([`ask`]), so that a client or a
//! scope taken away meanwhile is refused. Until client and redirect are proven an error is a page;
//! afterwards it goes to the client ([`answer`]). Who the user is and what was granted is not looked
//! at here.

pub(crate) mod ask;
pub(crate) mod answer;
mod assurance;
mod checks;
mod object;
pub(crate) mod par;
pub(crate) mod device;

use std::sync::Arc;

use portcullis_core::client::ClientRecord;
use portcullis_core::jose::verify;
use portcullis_core::oauth::authorize::AuthorizationRequest;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_core::web::Parameters;
use portcullis_store::database::StoreFault;
use serde_json::Value;

use crate::desk::Desk;
use crate::documents;
use crate::outcome::PageRefusal;
use crate::settings::Settings;
use answer::{AnswerTo, Mode};
use ask::{Ask, CodeAsk, DeviceAsk, Spend};
pub(crate) use assurance::Assurance;
use checks::{Asked, Reading};
pub(crate) use checks::{may_ask, target};

/// The scope that asks for an ID token (OpenID Connect Core §3.1.2.1); it gives no right at any API.
pub const OPENID: &str = "openid";
/// The scope that asks for a grant which outlives its session (OpenID Connect Core §11).
pub const OFFLINE: &str = "offline_access";

/// A request that passed every check under the settings in force.
pub struct Checked {
    ask: Ask,
    client: Arc<ClientRecord>,
    destination: Destination,
    scopes: Scopes,
    audience: Option<Arc<str>>,
    details: Vec<Value>,
    prompt: Prompt,
    max_age_s: Option<i64>,
    assurance: Assurance,
    /// The `sub` of an ID token that came along: who must be there.
    hint: Option<String>,
}

/// Where a login ends.
pub(crate) enum Destination {
    /// At the client's redirect, with a code for whoever answers the challenge.
    Client {
        /// The redirect.
        answer_to: AnswerTo,
        /// PKCE.
        challenge: Challenge,
    },
    /// At the device that waits.
    Device(Box<DeviceAsk>),
}

/// What the client wants the user to be asked (OpenID Connect Core §3.1.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// `none`: nothing may be shown.
    pub none: bool,
    /// `login` or `select_account`: the password is asked again.
    pub login: bool,
    /// `consent`: the consent page is shown again.
    pub consent: bool,
}

/// Why a step of the login ends here.
pub enum Rejected {
    /// With a page: nobody proven to send the browser to.
    Page(PageRefusal),
    /// With an answer to the client.
    Return(Box<Returned>),
}

/// An error on its way to a client.
pub struct Returned {
    pub(crate) to: AnswerTo,
    /// The error, for the record too.
    pub(crate) error: OauthError,
}

impl std::fmt::Debug for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Rejected::Page(refusal) => refusal.fmt(f),
            Rejected::Return(returned) => returned.error.fmt(f),
        }
    }
}

impl From<StoreFault> for Rejected {
    fn from(fault: StoreFault) -> Self {
        tracing::error!(%fault, "a step of the login failed in the store");
        let busy = matches!(fault, StoreFault::Busy);
        let (status, rule) = if busy { (503, "StoreBusy") } else { (500, "StoreFailed") };
        Rejected::Page(PageRefusal { status, rule, words: "Something broke here. Try again soon." })
    }
}

/// Reads and checks a request that just arrived at the authorization endpoint.
///
/// # Errors
/// [`Rejected`], naming the first rule broken.
pub(crate) async fn begin(desk: &Desk, parameters: &Parameters) -> Result<Checked, Rejected> {
    let ask = arrived(desk, parameters).await?;
    check_again(desk, Ask::Code(Box::new(ask))).await
}

/// The request itself, wherever it stands. RFC 9101 §6.3: the parameters of an object or a reference
/// are the only ones that count; beside them only `client_id` is looked at.
async fn arrived(desk: &Desk, parameters: &Parameters) -> Result<CodeAsk, Rejected> {
    let (reference, object) = (parameters.value("request_uri"), parameters.value("request"));
    let ours = reference.filter(|reference| reference.starts_with(par::PREFIX));
    match (ours, object) {
        (Some(reference), None) => par::open(desk, parameters.value("client_id"), reference),
        // RFC 9101 §5: `request` and `request_uri` MUST NOT be used together.
        (_, Some(_)) if reference.is_some() => {
            Err(page("RequestTwice", "The app sent a request that cannot be read."))
        }
        (_, Some(object)) => signed(desk, parameters, object).await,
        (None, None) => plain(parameters),
    }
}

fn plain(parameters: &Parameters) -> Result<CodeAsk, Rejected> {
    let request = AuthorizationRequest::from_parameters(parameters);
    request
        .map(CodeAsk::plain)
        .map_err(|_| page("RequestMalformed", "The app sent a request that cannot be read."))
}

async fn signed(desk: &Desk, parameters: &Parameters, object: &str) -> Result<CodeAsk, Rejected> {
    // RFC 9101 §5: `client_id` stands outside too, to know whose keys to verify with.
    let client_id = parameters.value("client_id").unwrap_or_default();
    let client = find_client(desk, client_id).await?;
    // A client without a key is told so at its redirect, which stands in the open.
    if client.keys().is_none() {
        return plain(parameters);
    }
    // What does not verify has no redirect that could be trusted.
    object::read(desk, &client, object)
        .map_err(|error| page(error.rule, "The app sent a request whose signature does not hold."))
}

/// Checks what a login is for, as sealed into a page, under the settings in force now.
///
/// # Errors
/// [`Rejected`]: a rule that no longer holds.
pub(crate) async fn check_again(desk: &Desk, ask: Ask) -> Result<Checked, Rejected> {
    match ask {
        Ask::Code(ask) => {
            let client = find_client(desk, &ask.request.client_id).await?;
            finish(desk, judge(*ask, client, &desk.settings, desk.now)?)
        }
        Ask::Device(ask) => device::check(desk, *ask),
    }
}

/// Judges a request by its redirect and by the table; looks at nothing but its arguments.
///
/// # Errors
/// [`Rejected`], naming the first rule broken.
pub(crate) fn judge(
    mut ask: CodeAsk,
    client: Arc<ClientRecord>,
    settings: &Settings,
    now: Timestamp,
) -> Result<Checked, Rejected> {
    // Draft client ID metadata documents §6.3: a document changed in the middle of a login is
    // another client.
    let document = documents::digest(&client);
    if ask.document.is_some() && ask.document != document {
        let words = "The app has changed while you were signing in. Go back to it and start again.";
        return Err(page("DocumentChanged", words));
    }
    ask.document = document;
    let answer_to = prove_redirect(&ask.request, &client, settings)?;
    // INVARIANT: from here on, and not before, an error may leave for the client's redirect.
    let (request, arrival) = (&ask.request, ask.arrival);
    let asked = Asked { request, arrival, client: &client, settings, now };
    match checks::run(&asked) {
        Ok(reading) => Ok(Checked::of(ask, client, answer_to, reading)),
        Err(error) => Err(answer_to.refuse(error)),
    }
}

/// What takes our own keys to judge: the ID token that says who should be there.
pub(crate) fn finish(desk: &Desk, checked: Checked) -> Result<Checked, Rejected> {
    let Ask::Code(ask) = &checked.ask else { return Ok(checked) };
    let Some(text) = &ask.request.id_token_hint else { return Ok(checked) };
    let keys = desk.shared.keyring.identity_keys();
    // OpenID Connect Core §3.1.2.1: one that we issued; it may have expired.
    let verified = verify::id_token_hint(text, &keys, &desk.settings.issuer_text);
    let hint = match &verified {
        Ok(verified) if verified.claims().aud == checked.client.id.as_str() => {
            &verified.claims().sub
        }
        Ok(_) => {
            let description = "id_token_hint was issued to another client";
            let (code, rule) = (ErrorCode::InvalidRequest, "HintOfAnotherClient");
            return Err(checked.refuse(OauthError::new(code, rule, description)));
        }
        Err(_) => {
            let description = "id_token_hint is not an ID token of this server";
            let (code, rule) = (ErrorCode::InvalidRequest, "HintForged");
            return Err(checked.refuse(OauthError::new(code, rule, description)));
        }
    };
    Ok(Checked { hint: Some(hint.clone()), ..checked })
}

/// RFC 6749 §4.1.2.1: an unknown client MUST NOT be redirected to.
async fn find_client(desk: &Desk, client_id: &str) -> Result<Arc<ClientRecord>, Rejected> {
    documents::find(desk, client_id).await.map_err(|error| {
        let (status, words) = match error.status() {
            503 => {
                (503, "The app that sent you here cannot be looked up just now. Try again soon.")
            }
            _ => (400, "The app that sent you here is not known."),
        };
        Rejected::Page(PageRefusal { status, rule: error.rule, words })
    })
}

/// RFC 9700 §2.1: exact string comparison; §4.1.3: never a redirect to what is not registered.
fn prove_redirect(
    request: &AuthorizationRequest,
    client: &ClientRecord,
    settings: &Settings,
) -> Result<AnswerTo, Rejected> {
    // RFC 6749 §3.1.2.3 lets it be left out when one is registered; OpenID Connect Core §3.1.2.1
    // does not, and nor do we: what is sent is what is compared at the token endpoint.
    let Some(presented) = request.redirect_uri.as_deref() else {
        return Err(page("RedirectMissing", "The app did not say where to send you back."));
    };
    if !client.uses_codes() {
        return Err(page("ClientWithoutCodes", "The app that sent you here cannot sign you in."));
    }
    // RFC 8252 §7.3: the port of a loopback address varies, for native apps alone.
    if client.redirect(presented).is_none() {
        let words = "The app wants you sent to an address that it has not registered.";
        return Err(page("RedirectUnregistered", words));
    }
    Ok(AnswerTo {
        client: client.id.to_string(),
        redirect: presented.to_owned(),
        state: request.state.clone(),
        issuer: settings.issuer_text.clone(),
        // Whoever asks for a mode that is not answered learns of it in the plain one.
        mode: Mode::from_word(request.response_mode.as_deref()).unwrap_or(Mode::Query),
    })
}

fn page(rule: &'static str, words: &'static str) -> Rejected {
    Rejected::Page(PageRefusal { status: 400, rule, words })
}

impl AnswerTo {
    fn refuse(&self, error: OauthError) -> Rejected {
        Rejected::Return(Box::new(Returned { to: self.clone(), error }))
    }
}

impl Checked {
    fn of(ask: CodeAsk, client: Arc<ClientRecord>, answer_to: AnswerTo, read: Reading) -> Self {
        Checked {
            ask: Ask::Code(Box::new(ask)),
            client,
            destination: Destination::Client { answer_to, challenge: read.challenge },
            scopes: read.scopes,
            audience: read.audience,
            details: read.details,
            prompt: read.prompt,
            max_age_s: read.max_age_s,
            assurance: read.assurance,
            hint: None,
        }
    }

    /// What it is for, as it came, for sealing.
    pub(crate) fn ask(&self) -> &Ask {
        &self.ask
    }
    /// The same of a request of a client, to seal it into its reference.
    fn into_ask(self) -> Option<CodeAsk> {
        match self.ask {
            Ask::Code(ask) => Some(*ask),
            Ask::Device(_) => None,
        }
    }
    /// The request as the client sent it; a device has none.
    pub(crate) fn request(&self) -> Option<&AuthorizationRequest> {
        match &self.ask {
            Ask::Code(ask) => Some(&ask.request),
            Ask::Device(_) => None,
        }
    }
    /// What is used up with the login.
    pub(crate) fn spends(&self) -> &[Spend] {
        match &self.ask {
            Ask::Code(ask) => &ask.spends,
            Ask::Device(_) => &[],
        }
    }
    /// The client.
    pub(crate) fn client(&self) -> &Arc<ClientRecord> {
        &self.client
    }
    /// Where the login ends.
    pub(crate) fn destination(&self) -> &Destination {
        &self.destination
    }
    /// What was asked for.
    pub(crate) fn scopes(&self) -> &Scopes {
        &self.scopes
    }
    /// For which API.
    pub(crate) fn audience(&self) -> Option<&Arc<str>> {
        self.audience.as_ref()
    }
    /// What was asked for in detail.
    pub(crate) fn details(&self) -> &[Value] {
        &self.details
    }
    /// What may and must be shown.
    pub(crate) fn prompt(&self) -> Prompt {
        self.prompt
    }
    /// Greatest age of the password, seconds.
    pub(crate) fn max_age_s(&self) -> Option<i64> {
        self.max_age_s
    }
    /// How strongly the user must be proven.
    pub(crate) fn assurance(&self) -> Assurance {
        self.assurance
    }
    /// Who must be there, as the client knows them.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
    /// The CSP source of where a page's form may lead.
    pub(crate) fn source(&self) -> String {
        match &self.destination {
            Destination::Client { answer_to, .. } => answer_to.source(),
            // Nobody else's.
            Destination::Device(_) => "'self'".to_owned(),
        }
    }
    /// The request's answer when it ends here.
    pub(crate) fn refuse(&self, error: OauthError) -> Rejected {
        match &self.destination {
            Destination::Client { answer_to, .. } => answer_to.refuse(error),
            Destination::Device(_) => page(error.rule, "This sign-in cannot go on here."),
        }
    }
}

#[cfg(test)]
mod tests;
