//! The table of named checks between a proven redirect and the login: the source of each, and the
//! check. The same for a request in the open, a pushed one and a signed one.

use std::sync::Arc;

use portcullis_core::client::{ClientRecord, GrantType};
use portcullis_core::jose::base64url;
use portcullis_core::oauth::authorize::AuthorizationRequest;
use portcullis_core::oauth::details::{parse, type_of};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use serde_json::Value;

use super::answer::Mode;
use super::ask::Arrival;
use super::assurance::{self, Assurance};
use super::{OFFLINE, OPENID, Prompt};
use crate::settings::{ApiTarget, Settings};
use crate::token::details;

/// Longest request, as sealed into a page; with its frame it must stay under `seal::MAX_SEALED`.
const MAX_REQUEST: usize = 4096;

/// Longest of those parts that travel on in the code, so that the code stays under the 2 KiB that
/// the token endpoint reads.
const MAX_CARRIED: usize = 1024;

/// Every check between a proven redirect and the login, in order: the source, and the check. Each
/// names its own rule.
pub(super) const CHECKS: &[(&str, Check)] = &[
    ("RFC 6749 §3.1.1", response_type_is_code),
    ("OAuth 2.0 Multiple Response Types §2.1, JARM §2.3", response_mode_is_answered),
    ("OpenID Connect Core §6.1, RFC 9101 §5", no_foreign_object),
    ("FAPI 2.0 §5.3.2.2, RFC 9126 §5", is_pushed),
    ("RFC 9101 §10.5", is_signed),
    ("RFC 9700 §2.1.1, RFC 7636 §4.3", challenge_is_s256),
    ("RFC 6749 §3.3", scopes_are_registered),
    ("RFC 8707 §2", target_is_one_api),
    ("RFC 9396 §5", details_are_registered),
    ("RFC 9449 §10", dpop_key_is_a_thumbprint),
    ("OpenID Connect Core §3.1.2.1", prompt_is_known),
    ("OpenID Connect Core §3.1.2.1", max_age_is_a_number),
    ("RFC 9470 §4", assurance_is_reachable),
    ("our own limits", request_fits),
];

type Check = fn(&Asked<'_>) -> Result<(), OauthError>;

/// What the checks look at: client and redirect are proven already.
pub(super) struct Asked<'a> {
    pub(super) request: &'a AuthorizationRequest,
    pub(super) arrival: Arrival,
    pub(super) client: &'a ClientRecord,
    pub(super) settings: &'a Settings,
    pub(super) now: Timestamp,
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

fn response_mode_is_answered(asked: &Asked<'_>) -> Result<(), OauthError> {
    match Mode::from_word(asked.request.response_mode.as_deref()) {
        Some(_) => Ok(()),
        // RFC 9700 §4.1.2: never a fragment, signed or not.
        None => Err(invalid_request(
            "ResponseModeUnsupported",
            "response_mode must be query, form_post, jwt, query.jwt or form_post.jwt",
        )),
    }
}

fn no_foreign_object(asked: &Asked<'_>) -> Result<(), OauthError> {
    // OpenID Connect Core §3.1.2.6: each has its own code. What could be resolved was, before this
    // table: here are objects of clients without a key, and addresses of others, which are never
    // fetched (RFC 9101 §10.4.1).
    let first = asked.request.unsupported.first().map(String::as_str);
    let (code, rule) = match first {
        None => return Ok(()),
        Some("request") => (ErrorCode::RequestNotSupported, "RequestObjectUnsupported"),
        Some("request_uri") => (ErrorCode::RequestUriNotSupported, "RequestUriUnsupported"),
        Some("registration") => (ErrorCode::RegistrationNotSupported, "RegistrationUnsupported"),
        Some(_) => (ErrorCode::InvalidRequest, "ParameterUnsupported"),
    };
    Err(OauthError::new(code, rule, "a parameter that this server does not take was sent"))
}

fn is_pushed(asked: &Asked<'_>) -> Result<(), OauthError> {
    let client = asked.client;
    if asked.arrival.pushed || !client.is_confidential() || client.waivers.no_par_at(asked.now) {
        return Ok(());
    }
    // The date is kept at every request, not at a restart.
    let rule = match client.waivers.no_par {
        Some(_) => "WaiverNoParExpired",
        None => "RequestNotPushed",
    };
    Err(invalid_request(rule, "this client must push its authorization requests (RFC 9126)"))
}

fn is_signed(asked: &Asked<'_>) -> Result<(), OauthError> {
    match asked.arrival.signed || !asked.client.signed_requests {
        true => Ok(()),
        false => {
            Err(invalid_request("RequestUnsigned", "this client must sign its requests (RFC 9101)"))
        }
    }
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
    if scopes.iter().all(|scope| may_ask(asked.client, scope)) {
        return Ok(());
    }
    // RFC 6749 §4.1.2.1: refused rather than cut, so that the client learns of it.
    Err(OauthError::new(
        ErrorCode::InvalidScope,
        "ScopeUnregistered",
        "a scope was asked for that this client is not registered for",
    ))
}

/// Every client may ask who the user is; for a grant that outlives the session (OpenID Connect Core
/// §11), whoever may refresh.
pub(crate) fn may_ask(client: &ClientRecord, scope: &str) -> bool {
    match scope {
        OPENID => true,
        OFFLINE => client.may(GrantType::RefreshToken) || client.scopes.contains(scope),
        _ => client.scopes.contains(scope),
    }
}

fn scopes(request: &AuthorizationRequest) -> Result<Scopes, OauthError> {
    let text = request.scope.as_deref().unwrap_or_default();
    Scopes::parse(text).map_err(|_| {
        OauthError::new(ErrorCode::InvalidScope, "ScopeMalformed", "scope cannot be read")
    })
}

fn target_is_one_api(asked: &Asked<'_>) -> Result<(), OauthError> {
    aim(asked).map(drop)
}

/// The API meant: by the request's own word, by its scopes, or by its details alone.
fn aim(asked: &Asked<'_>) -> Result<Option<Arc<str>>, OauthError> {
    let (scopes, details) = (scopes(asked.request)?, parsed(asked.request)?);
    let named = asked.request.resource.as_deref();
    let for_an_api = scopes.iter().any(|scope| !is_openid(scope));
    if named.is_none() && !for_an_api && !details.is_empty() {
        // RFC 9396 §2: details say by themselves what is wanted; which API understands them all?
        let understands = |api: &&ApiTarget| {
            let known = |word| api.details.iter().any(|one| one == word);
            details.iter().all(|detail| type_of(detail).is_some_and(known))
        };
        let mut fitting = asked.settings.apis.iter().filter(understands);
        return match (fitting.next(), fitting.next()) {
            (Some(only), None) => Ok(Some(only.audience.clone())),
            _ => Err(OauthError::new(
                ErrorCode::InvalidTarget,
                "TargetUnclear",
                "name the API with resource (RFC 8707)",
            )),
        };
    }
    target(asked.settings, named, &scopes)
}

/// Whether a scope is one of OpenID Connect (Core §5.4, §11), which means nothing at an API.
fn is_openid(scope: &str) -> bool {
    matches!(scope, OPENID | OFFLINE | "profile" | "email")
}

/// The one API that a token will be for (RFC 8707 §2): the one named, else the only one whose
/// lines use all the scopes. `None`: only an ID token is wanted.
pub(crate) fn target(
    settings: &Settings,
    resource: Option<&str>,
    scopes: &Scopes,
) -> Result<Option<Arc<str>>, OauthError> {
    let invalid = |rule, description| OauthError::new(ErrorCode::InvalidTarget, rule, description);
    let uses_all =
        |api: &ApiTarget| scopes.iter().all(|scope| is_openid(scope) || api.scopes.contains(scope));
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
    if scopes.contains(OPENID) && scopes.iter().all(is_openid) {
        return Ok(None);
    }
    let mut fitting = settings.apis.iter().filter(|api| uses_all(api));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(Some(only.audience.clone())),
        _ => Err(invalid("TargetUnclear", "name the API with resource (RFC 8707)")),
    }
}

fn details_are_registered(asked: &Asked<'_>) -> Result<(), OauthError> {
    let audience = aim(asked)?;
    let text = asked.request.authorization_details.as_deref();
    // RFC 9396 §5: refused whole when one type is unknown, or not this client's.
    let audience = audience.as_deref().unwrap_or_default();
    details::asked(asked.settings, asked.client, text, audience).map(drop)
}

fn parsed(request: &AuthorizationRequest) -> Result<Vec<Value>, OauthError> {
    request.authorization_details.as_deref().map_or_else(|| Ok(Vec::new()), parse)
}

fn dpop_key_is_a_thumbprint(asked: &Asked<'_>) -> Result<(), OauthError> {
    let Some(text) = asked.request.dpop_jkt.as_deref() else { return Ok(()) };
    // RFC 9449 §10: a JWK SHA-256 thumbprint, base64url.
    match base64url::decode(text).is_ok_and(|bytes| bytes.len() == 32) {
        true => Ok(()),
        false => Err(invalid_request("DpopKeyMalformed", "dpop_jkt is not a SHA-256 thumbprint")),
    }
}

fn assurance_is_reachable(asked: &Asked<'_>) -> Result<(), OauthError> {
    assurance::read(asked.request.acr_values.as_deref()).map(drop)
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
    let named = (&request.client_id, &request.redirect_uri, &request.nonce);
    let wanted = (&request.scope, &request.resource, &request.authorization_details);
    if length(serde_json::to_vec(request)) > MAX_REQUEST
        || length(serde_json::to_vec(&(named, wanted, &request.dpop_jkt))) > MAX_CARRIED
    {
        let description =
            "redirect_uri, nonce, scope, resource and authorization_details are too long together";
        return Err(invalid_request("RequestTooLong", description));
    }
    Ok(())
}

fn invalid_request(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidRequest, rule, description)
}

/// What a request that passed every check says.
pub(super) struct Reading {
    pub(super) challenge: Challenge,
    pub(super) scopes: Scopes,
    pub(super) audience: Option<Arc<str>>,
    pub(super) details: Vec<Value>,
    pub(super) prompt: Prompt,
    pub(super) max_age_s: Option<i64>,
    pub(super) assurance: Assurance,
}

/// Runs the table, and reads what passed it.
pub(super) fn run(asked: &Asked<'_>) -> Result<Reading, OauthError> {
    CHECKS.iter().try_for_each(|(_, check)| check(asked))?;
    Ok(Reading {
        challenge: challenge(asked.request)?,
        audience: aim(asked)?,
        scopes: scopes(asked.request)?,
        details: parsed(asked.request)?,
        prompt: prompt(asked.request)?,
        max_age_s: max_age_s(asked.request)?,
        assurance: assurance::read(asked.request.acr_values.as_deref())?,
    })
}
