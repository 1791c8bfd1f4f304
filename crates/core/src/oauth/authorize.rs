//! The authorization request (RFC 6749 §4.1.1, OpenID Connect Core §3.1.2.1), parsed and bounded.
//!
//! First step of a login's journey. Deliberately checks nothing but shape and length: whether the
//! client exists, the redirect is registered and the scopes are its own is identity's table of
//! named checks, which decides between a page and a redirect.

use serde::{Deserialize, Serialize};

use super::token::MAX_DETAILS_BYTES;
use crate::scope::MAX_SCOPE_BYTES;
use crate::web::Parameters;

/// Longest `state`, `nonce` and the like, in bytes.
pub const MAX_VALUE: usize = 1024;

/// Longest `id_token_hint`, in bytes.
pub const MAX_HINT: usize = 4096;

/// What a client asked, nothing checked yet but shape and length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationRequest {
    /// The client.
    pub client_id: String,
    /// Where to answer.
    pub redirect_uri: Option<String>,
    /// Must be `code`.
    pub response_type: Option<String>,
    /// `query`, `form_post`, `jwt`, `query.jwt`, `form_post.jwt`; never a fragment.
    pub response_mode: Option<String>,
    /// Scopes asked for.
    pub scope: Option<String>,
    /// Given back untouched.
    pub state: Option<String>,
    /// For the ID token.
    pub nonce: Option<String>,
    /// PKCE (RFC 7636 §4.3).
    pub code_challenge: Option<String>,
    /// Must be `S256`.
    pub code_challenge_method: Option<String>,
    /// The API wanted (RFC 8707).
    pub resource: Option<String>,
    /// `none`, `login`, `consent`, `select_account`.
    pub prompt: Option<String>,
    /// Greatest age of the login, seconds.
    pub max_age: Option<String>,
    /// Preferred assurance.
    pub acr_values: Option<String>,
    /// Prefills the name.
    pub login_hint: Option<String>,
    /// Languages of the pages, preferred first (BCP 47 tags).
    pub ui_locales: Option<String>,
    /// What is asked for in detail (RFC 9396 §2), as sent.
    pub authorization_details: Option<String>,
    /// The key that the code is bound to (RFC 9449 §10).
    pub dpop_jkt: Option<String>,
    /// An ID token of ours: who must be logged in (OpenID Connect Core §3.1.2.1).
    pub id_token_hint: Option<String>,
    /// Names of parameters present that change what is asked for, and that are designed but not
    /// built, or forbidden: see [`UNSUPPORTED`]. Passing over one would grant something else.
    pub unsupported: Vec<String>,
}

/// A parameter longer than [`MAX_VALUE`], or no `client_id`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the parameter `{0}` is missing or too long")]
pub struct AuthorizationRequestMalformed(pub &'static str);

/// Parameters that must not be passed over silently: a request object (RFC 9101) or a reference to
/// one (RFC 9126), which are resolved before this message is read and never stand inside it; the
/// claims parameter (OpenID Connect Core §5.5) and self-issued registration (§7.2.1), which are not
/// taken.
pub const UNSUPPORTED: [&str; 4] = ["request", "request_uri", "claims", "registration"];

impl AuthorizationRequest {
    /// Reads the parameters. Those that nobody defined are ignored (RFC 6749 §3.1).
    ///
    /// # Errors
    /// [`AuthorizationRequestMalformed`] with the parameter's name.
    pub fn from_parameters(parameters: &Parameters) -> Result<Self, AuthorizationRequestMalformed> {
        let value = |name: &'static str| bounded(parameters, name, MAX_VALUE);
        Ok(AuthorizationRequest {
            // RFC 6749 §4.1.1: REQUIRED; without it there is nobody to answer to.
            client_id: value("client_id")?.ok_or(AuthorizationRequestMalformed("client_id"))?,
            redirect_uri: value("redirect_uri")?,
            response_type: value("response_type")?,
            response_mode: value("response_mode")?,
            scope: bounded(parameters, "scope", MAX_SCOPE_BYTES)?,
            state: value("state")?,
            nonce: value("nonce")?,
            code_challenge: value("code_challenge")?,
            code_challenge_method: value("code_challenge_method")?,
            resource: value("resource")?,
            prompt: value("prompt")?,
            max_age: value("max_age")?,
            acr_values: value("acr_values")?,
            login_hint: value("login_hint")?,
            ui_locales: value("ui_locales")?,
            authorization_details: bounded(parameters, "authorization_details", MAX_DETAILS_BYTES)?,
            dpop_jkt: value("dpop_jkt")?,
            id_token_hint: bounded(parameters, "id_token_hint", MAX_HINT)?,
            unsupported: UNSUPPORTED
                .into_iter()
                .filter(|name| parameters.value(name).is_some())
                .map(str::to_owned)
                .collect(),
        })
    }
}

fn bounded(
    parameters: &Parameters,
    name: &'static str,
    longest: usize,
) -> Result<Option<String>, AuthorizationRequestMalformed> {
    match parameters.value(name) {
        Some(value) if value.len() > longest => Err(AuthorizationRequestMalformed(name)),
        value => Ok(value.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<AuthorizationRequest, AuthorizationRequestMalformed> {
        AuthorizationRequest::from_parameters(&Parameters::parse(query.as_bytes()).unwrap())
    }

    #[test]
    fn a_whole_request_is_read() {
        let request = read(
            "client_id=app&redirect_uri=https%3A%2F%2Fapp.example%2Fcb&response_type=code\
             &scope=openid+payments%3Aread&state=s%20t&nonce=n&code_challenge=c\
             &code_challenge_method=S256&resource=https%3A%2F%2Fapi.example&prompt=login\
             &max_age=300&acr_values=aal2&login_hint=ada&response_mode=query&unknown=1",
        )
        .unwrap();
        assert_eq!(request.client_id, "app");
        assert_eq!(request.redirect_uri.as_deref(), Some("https://app.example/cb"));
        assert_eq!(request.scope.as_deref(), Some("openid payments:read"));
        assert_eq!(request.state.as_deref(), Some("s t"));
        assert_eq!(request.max_age.as_deref(), Some("300"));
        assert!(request.unsupported.is_empty());
        let json = serde_json::to_vec(&request).unwrap();
        assert_eq!(serde_json::from_slice::<AuthorizationRequest>(&json).unwrap(), request);
    }

    #[test]
    fn a_missing_or_empty_client_is_refused() {
        for query in ["response_type=code", "client_id=&response_type=code", ""] {
            assert_eq!(read(query), Err(AuthorizationRequestMalformed("client_id")));
        }
    }

    #[test]
    fn an_empty_value_counts_as_omitted() {
        assert_eq!(read("client_id=app&state=&scope=").unwrap().state, None);
    }

    #[test]
    fn a_value_too_long_is_refused_by_its_name() {
        for name in ["client_id", "redirect_uri", "state", "nonce", "login_hint", "resource"] {
            let other = if name == "client_id" { "" } else { "client_id=app&" };
            let fits = format!("{other}{name}={}", "x".repeat(MAX_VALUE));
            assert!(read(&fits).is_ok(), "{name}");
            assert_eq!(read(&format!("{fits}x")), Err(AuthorizationRequestMalformed(name)));
        }
        let scope = format!("client_id=app&scope={}", "x".repeat(MAX_SCOPE_BYTES + 1));
        assert_eq!(read(&scope), Err(AuthorizationRequestMalformed("scope")));
    }

    #[test]
    fn what_is_not_built_is_named_not_passed_over() {
        for name in UNSUPPORTED {
            assert_eq!(read(&format!("client_id=app&{name}=x")).unwrap().unsupported, [name]);
        }
    }
}
