//! The authorization request (RFC 6749 §4.1.1) as one table of named checks.
//!
//! The first thing of a login, and again at each later step: what is sealed into the pages is the
//! request as it came, so that a client or a scope taken away meanwhile is refused. Until client
//! and redirect are proven an error is a page; afterwards it goes to the client. Who the user is
//! and what was granted is not looked at here.

pub(crate) mod par;
pub(crate) mod device;

use std::sync::Arc;

use portcullis_core::client::{ClientRecord, ClientType};
use portcullis_core::id::Id;
use portcullis_core::oauth::authorize::AuthorizationRequest;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_core::web::{Native, Parameters, form_encode};
use portcullis_store::database::StoreFault;

use crate::outcome::PageRefusal;
use crate::settings::Settings;

/// The scope that asks for an ID token (OpenID Connect Core §3.1.2.1); it gives no right at any API.
pub const OPENID: &str = "openid";

/// Longest request, as sealed into a page; with its frame it must stay under `seal::MAX_SEALED`.
const MAX_REQUEST: usize = 4096;

/// Every check between a proven redirect and the login, in order: the source, and the check. Each
/// names its own rule.
const CHECKS: &[(&str, Check)] = &[
    ("RFC 6749 §3.1.1", response_type_is_code),
    ("OAuth 2.0 Multiple Response Types §2.1", response_mode_is_query),
    ("OpenID Connect Core §6.1, RFC 9101 §5", no_request_object),
    ("FAPI 2.0 §5.3.2.2", par_is_waived),
    ("RFC 9700 §2.1.1, RFC 7636 §4.3", challenge_is_s256),
    ("RFC 6749 §3.3", scopes_are_registered),
    ("RFC 8707 §2", target_is_one_api),
    ("OpenID Connect Core §3.1.2.1", prompt_is_known),
    ("OpenID Connect Core §3.1.2.1", max_age_is_a_number),
    ("our own limits", request_fits),
];

/// Longest of those parts that travel on in the code, so that the code stays under the 2 KiB that
/// the token endpoint reads.
const MAX_CARRIED: usize = 1024;

type Check = fn(&Asked<'_>) -> Result<(), OauthError>;

/// What the checks look at: client and redirect are proven already.
struct Asked<'a> {
    request: &'a AuthorizationRequest,
    client: &'a ClientRecord,
    settings: &'a Settings,
    now: Timestamp,
}

/// A request that passed every check under the settings in force.
pub struct Checked {
    request: AuthorizationRequest,
    client: Arc<ClientRecord>,
    answer_to: AnswerTo,
    challenge: Challenge,
    scopes: Scopes,
    audience: Option<Arc<str>>,
    prompt: Prompt,
    max_age_s: Option<i64>,
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
#[derive(Debug)]
pub enum Rejected {
    /// With a page: nobody proven to send the browser to.
    Page(PageRefusal),
    /// With an answer to the client.
    Return {
        /// The redirect with `error`, `state`, `iss`.
        location: String,
        /// The error, for the record.
        error: OauthError,
    },
}

impl From<StoreFault> for Rejected {
    fn from(fault: StoreFault) -> Self {
        tracing::error!(%fault, "a step of the login failed in the store");
        let busy = matches!(fault, StoreFault::Busy);
        let (status, rule) = if busy { (503, "StoreBusy") } else { (500, "StoreFailed") };
        Rejected::Page(PageRefusal { status, rule, words: "Something broke here. Try again soon." })
    }
}

/// Reads and checks a request that just arrived.
///
/// # Errors
/// [`Rejected`], naming the first rule broken.
pub fn check(
    parameters: &Parameters,
    settings: &Settings,
    now: Timestamp,
) -> Result<Checked, Rejected> {
    let request = AuthorizationRequest::from_parameters(parameters)
        .map_err(|_| page("RequestMalformed", "The app sent a request that cannot be read."))?;
    check_again(request, settings, now)
}

/// Checks a request that was sealed into a page, under the settings in force now.
pub(crate) fn check_again(
    request: AuthorizationRequest,
    settings: &Settings,
    now: Timestamp,
) -> Result<Checked, Rejected> {
    let client = find_client(&request, settings)?;
    let answer_to = prove_redirect(&request, &client, settings)?;
    // INVARIANT: from here on, and not before, an error may leave for the client's redirect.
    let asked = Asked { request: &request, client: &client, settings, now };
    match CHECKS.iter().try_for_each(|(_, check)| check(&asked)).and_then(|()| read(&asked)) {
        Ok(Reading { challenge, scopes, audience, prompt, max_age_s }) => {
            let (client, request) = (client.clone(), request.clone());
            Ok(Checked {
                request,
                client,
                answer_to,
                challenge,
                scopes,
                audience,
                prompt,
                max_age_s,
            })
        }
        Err(error) => Err(answer_to.refuse(error)),
    }
}

/// RFC 6749 §4.1.2.1: an unknown client MUST NOT be redirected to.
fn find_client(
    request: &AuthorizationRequest,
    settings: &Settings,
) -> Result<Arc<ClientRecord>, Rejected> {
    let known = Id::parse(&request.client_id).ok().and_then(|id| settings.clients.get(&id));
    known.cloned().ok_or_else(|| page("ClientUnknown", "The app that sent you here is not known."))
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
    let native = match client.kind {
        // RFC 8252 §7.3: the port of a loopback address varies, for native apps alone.
        ClientType::Native => Native::Yes,
        ClientType::Spa | ClientType::Web | ClientType::Service | ClientType::Device => Native::No,
    };
    if !client.uses_codes() {
        return Err(page("ClientWithoutCodes", "The app that sent you here cannot sign you in."));
    }
    if !client.redirects.iter().any(|registered| registered.matches(presented, native)) {
        let words = "The app wants you sent to an address that it has not registered.";
        return Err(page("RedirectUnregistered", words));
    }
    Ok(AnswerTo {
        redirect: presented.to_owned(),
        state: request.state.clone(),
        issuer: settings.issuer_text.clone(),
    })
}

fn page(rule: &'static str, words: &'static str) -> Rejected {
    Rejected::Page(PageRefusal { status: 400, rule, words })
}

fn response_type_is_code(asked: &Asked<'_>) -> Result<(), OauthError> {
    match asked.request.response_type.as_deref() {
        Some("code") => Ok(()),
        None => {
            let description = "response_type is missing; send response_type=code";
            Err(OauthError::new(ErrorCode::InvalidRequest, "ResponseTypeMissing", description))
        }
        // RFC 9700 §2.1.2: no implicit grant, ever.
        Some(_) => Err(OauthError::new(
            ErrorCode::UnsupportedResponseType,
            "ResponseTypeUnsupported",
            "only response_type=code is answered",
        )),
    }
}

fn response_mode_is_query(asked: &Asked<'_>) -> Result<(), OauthError> {
    match asked.request.response_mode.as_deref() {
        None | Some("query") => Ok(()),
        Some(_) => Err(invalid_request("ResponseModeUnsupported", "only query is answered")),
    }
}

fn no_request_object(asked: &Asked<'_>) -> Result<(), OauthError> {
    // OpenID Connect Core §3.1.2.6: each has its own code.
    let first = asked.request.unsupported.first().map(String::as_str);
    let (code, rule) = match first {
        None => return Ok(()),
        Some("request") => (ErrorCode::RequestNotSupported, "RequestObjectUnsupported"),
        Some("request_uri") => (ErrorCode::RequestUriNotSupported, "RequestUriUnsupported"),
        Some(_) => (ErrorCode::InvalidRequest, "ParameterUnsupported"),
    };
    Err(OauthError::new(code, rule, "a parameter that this server does not take was sent"))
}

fn par_is_waived(asked: &Asked<'_>) -> Result<(), OauthError> {
    // FAPI 2.0 §5.3.2.2: confidential clients push their requests; until PAR exists here each
    // carries a dated waiver, and the date is kept by us, not by a restart.
    let waived = asked.client.waivers.no_par.is_some_and(|until| asked.now < until);
    if asked.client.is_confidential() && !waived {
        return Err(OauthError::new(
            ErrorCode::UnauthorizedClient,
            "WaiverNoParExpired",
            "this client must push its authorization requests; its waiver has run out",
        ));
    }
    Ok(())
}

fn challenge_is_s256(asked: &Asked<'_>) -> Result<(), OauthError> {
    challenge(asked.request).map(drop)
}

fn challenge(request: &AuthorizationRequest) -> Result<Challenge, OauthError> {
    let Some(text) = request.code_challenge.as_deref() else {
        return Err(invalid_request("ChallengeMissing", "code_challenge is missing (RFC 7636)"));
    };
    // RFC 7636 §4.3: without a method it would be `plain`, which RFC 9700 §2.1.1 rules out.
    if request.code_challenge_method.as_deref() != Some("S256") {
        let description = "code_challenge_method must be S256";
        return Err(invalid_request("ChallengeMethodUnsupported", description));
    }
    let malformed = || invalid_request("ChallengeMalformed", "code_challenge is not an S256 hash");
    Challenge::parse(text).ok_or_else(malformed)
}

fn scopes_are_registered(asked: &Asked<'_>) -> Result<(), OauthError> {
    let scopes = scopes(asked.request)?;
    let foreign = scopes.iter().any(|s| s != OPENID && !asked.client.scopes.contains(s));
    if foreign {
        // RFC 6749 §4.1.2.1: refused rather than cut, so that the client learns of it.
        return Err(OauthError::new(
            ErrorCode::InvalidScope,
            "ScopeUnregistered",
            "a scope was asked for that this client is not registered for",
        ));
    }
    Ok(())
}

fn scopes(request: &AuthorizationRequest) -> Result<Scopes, OauthError> {
    let text = request.scope.as_deref().unwrap_or_default();
    Scopes::parse(text).map_err(|_| {
        OauthError::new(ErrorCode::InvalidScope, "ScopeMalformed", "scope cannot be read")
    })
}

fn target_is_one_api(asked: &Asked<'_>) -> Result<(), OauthError> {
    let scopes = scopes(asked.request)?;
    target(asked.settings, asked.request.resource.as_deref(), &scopes).map(drop)
}

/// The one API that a token will be for (RFC 8707 §2): the one named, else the only one whose
/// lines use all the scopes. `None`: only an ID token is wanted.
pub(crate) fn target(
    settings: &Settings,
    resource: Option<&str>,
    scopes: &Scopes,
) -> Result<Option<Arc<str>>, OauthError> {
    let invalid = |rule, description| OauthError::new(ErrorCode::InvalidTarget, rule, description);
    let uses_all = |api: &crate::settings::ApiTarget| {
        scopes.iter().all(|scope| scope == OPENID || api.scopes.contains(scope))
    };
    if let Some(resource) = resource {
        let Some(api) = settings.apis.iter().find(|api| *api.audience == *resource) else {
            return Err(invalid("TargetUnknown", "resource is not an API of this server"));
        };
        // RFC 8707 §2.2: a token for one API carries no scope that means something elsewhere.
        if !uses_all(api) {
            let description = "a scope was asked for that this resource does not use";
            return Err(OauthError::new(
                ErrorCode::InvalidScope,
                "ScopeOfAnotherTarget",
                description,
            ));
        }
        return Ok(Some(api.audience.clone()));
    }
    if scopes.contains(OPENID) && scopes.iter().all(|scope| scope == OPENID) {
        return Ok(None);
    }
    let mut fitting = settings.apis.iter().filter(|api| uses_all(api));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(Some(only.audience.clone())),
        _ => Err(invalid("TargetUnclear", "name the API with resource (RFC 8707)")),
    }
}

fn prompt_is_known(asked: &Asked<'_>) -> Result<(), OauthError> {
    prompt(asked.request).map(drop)
}

fn prompt(request: &AuthorizationRequest) -> Result<Prompt, OauthError> {
    let mut prompt = Prompt::default();
    for word in request.prompt.as_deref().unwrap_or_default().split(' ').filter(|w| !w.is_empty()) {
        match word {
            "none" => prompt.none = true,
            // The page asks for a name, which is how an account is selected.
            "login" | "select_account" => prompt.login = true,
            "consent" => prompt.consent = true,
            _ => return Err(invalid_request("PromptUnknown", "prompt has an unknown value")),
        }
    }
    // OpenID Connect Core §3.1.2.1: `none` with any other value is an error.
    if prompt.none && (prompt.login || prompt.consent) {
        return Err(invalid_request("PromptNoneNotAlone", "prompt=none allows no other value"));
    }
    Ok(prompt)
}

fn max_age_is_a_number(asked: &Asked<'_>) -> Result<(), OauthError> {
    max_age_s(asked.request).map(drop)
}

fn max_age_s(request: &AuthorizationRequest) -> Result<Option<i64>, OauthError> {
    let Some(text) = request.max_age.as_deref() else { return Ok(None) };
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.map(Some).ok_or_else(|| invalid_request("MaxAgeMalformed", "max_age is not a number"))
}

fn request_fits(asked: &Asked<'_>) -> Result<(), OauthError> {
    let Asked { request, .. } = asked;
    let length = |text: serde_json::Result<Vec<u8>>| text.map_or(usize::MAX, |text| text.len());
    let carried = (&request.redirect_uri, &request.nonce, &request.scope, &request.resource);
    if length(serde_json::to_vec(request)) > MAX_REQUEST
        || length(serde_json::to_vec(&carried)) > MAX_CARRIED
    {
        let description = "redirect_uri, nonce, scope and resource are too long together";
        return Err(invalid_request("RequestTooLong", description));
    }
    Ok(())
}

fn invalid_request(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidRequest, rule, description)
}

/// What a request that passed every check says.
struct Reading {
    challenge: Challenge,
    scopes: Scopes,
    audience: Option<Arc<str>>,
    prompt: Prompt,
    max_age_s: Option<i64>,
}

fn read(asked: &Asked<'_>) -> Result<Reading, OauthError> {
    let scopes = scopes(asked.request)?;
    Ok(Reading {
        challenge: challenge(asked.request)?,
        audience: target(asked.settings, asked.request.resource.as_deref(), &scopes)?,
        scopes,
        prompt: prompt(asked.request)?,
        max_age_s: max_age_s(asked.request)?,
    })
}

impl Checked {
    /// The request as it came, for sealing.
    pub(crate) fn request(&self) -> &AuthorizationRequest {
        &self.request
    }
    /// The client.
    pub(crate) fn client(&self) -> &Arc<ClientRecord> {
        &self.client
    }
    /// Where answers go.
    pub(crate) fn answer_to(&self) -> &AnswerTo {
        &self.answer_to
    }
    /// The PKCE challenge.
    pub(crate) fn challenge(&self) -> &Challenge {
        &self.challenge
    }
    /// What was asked for.
    pub(crate) fn scopes(&self) -> &Scopes {
        &self.scopes
    }
    /// For which API.
    pub(crate) fn audience(&self) -> Option<&Arc<str>> {
        self.audience.as_ref()
    }
    /// What may and must be shown.
    pub(crate) fn prompt(&self) -> Prompt {
        self.prompt
    }
    /// Greatest age of the password, seconds.
    pub(crate) fn max_age_s(&self) -> Option<i64> {
        self.max_age_s
    }
    /// The request's answer when it ends here.
    pub(crate) fn refuse(&self, error: OauthError) -> Rejected {
        self.answer_to.refuse(error)
    }
}

/// A redirect proven to be the client's, with what every answer repeats.
#[derive(Clone, Debug)]
pub(crate) struct AnswerTo {
    redirect: String,
    state: Option<String>,
    issuer: Arc<str>,
}

impl AnswerTo {
    /// The redirect with a code (RFC 6749 §4.1.2).
    pub(crate) fn with_code(&self, code: &str) -> String {
        self.with(&[("code", code)])
    }

    /// The redirect as the client sent it.
    pub(crate) fn redirect(&self) -> &str {
        &self.redirect
    }

    /// The redirect's source for the page's `form-action`, and its host for people: browsers apply
    /// the directive to the redirect that follows a form too (CSP 3 §6.4.2).
    pub(crate) fn source(&self) -> String {
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

    /// The redirect with an error (RFC 6749 §4.1.2.1).
    pub(crate) fn with_error(&self, error: &OauthError) -> String {
        self.with(&[("error", error.code.as_str()), ("error_description", error.description)])
    }

    fn refuse(&self, error: OauthError) -> Rejected {
        Rejected::Return { location: self.with_error(&error), error }
    }

    fn with(&self, pairs: &[(&str, &str)]) -> String {
        let mut location = self.redirect.clone();
        let mut separator = if location.contains('?') { '&' } else { '?' };
        // RFC 9207 §2: `iss` in every answer, errors too, against mix-up.
        let repeated = [("state", self.state.as_deref()), ("iss", Some(&*self.issuer))];
        let repeated = repeated.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        for (name, value) in pairs.iter().copied().chain(repeated) {
            location.push(separator);
            location.push_str(name);
            location.push('=');
            location.push_str(&form_encode(value));
            separator = '&';
        }
        location
    }
}

#[cfg(test)]
mod tests;
