//! OAuth error answers (RFC 6749 §4.1.2.1, §5.2; RFC 8707 §2; OpenID Connect Core §3.1.2.6).
//!
//! The words that a client's developer sees. Which rule was broken travels beside them for the
//! record; it is never in the answer.

/// An error that a client sees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {description}")]
pub struct OauthError {
    /// The closed set of codes.
    pub code: ErrorCode,
    /// For the developer; ASCII, no secret, no user input.
    pub description: &'static str,
    /// The rule broken, for the record: `CodeOfAnotherClient`, `VerifierWrong` …
    pub rule: &'static str,
}

impl OauthError {
    /// An error of a code, naming the rule broken.
    pub fn new(code: ErrorCode, rule: &'static str, description: &'static str) -> Self {
        OauthError { code, description, rule }
    }

    /// The status of a token-endpoint answer: 401 for `invalid_client` (RFC 6749 §5.2), 503 for
    /// `temporarily_unavailable`, 500 for `server_error`, 400 otherwise.
    pub fn status(&self) -> u16 {
        match self.code {
            // RFC 6750 §3.1: what a protected endpoint (userinfo) answers.
            ErrorCode::InvalidClient | ErrorCode::InvalidToken => 401,
            ErrorCode::InsufficientScope => 403,
            ErrorCode::ServerError => 500,
            ErrorCode::TemporarilyUnavailable => 503,
            ErrorCode::InvalidRequest
            | ErrorCode::InvalidGrant
            | ErrorCode::UnauthorizedClient
            | ErrorCode::UnsupportedGrantType
            | ErrorCode::UnsupportedResponseType
            | ErrorCode::UnsupportedTokenType
            | ErrorCode::InvalidScope
            | ErrorCode::InvalidTarget
            | ErrorCode::AccessDenied
            | ErrorCode::LoginRequired
            | ErrorCode::ConsentRequired
            | ErrorCode::InteractionRequired
            | ErrorCode::RequestNotSupported
            | ErrorCode::RequestUriNotSupported
            | ErrorCode::InvalidDpopProof
            | ErrorCode::UseDpopNonce
            | ErrorCode::AuthorizationPending
            | ErrorCode::SlowDown
            | ErrorCode::ExpiredToken
            | ErrorCode::InvalidRequestUri
            | ErrorCode::InvalidRequestObject
            | ErrorCode::InvalidAuthorizationDetails
            | ErrorCode::UnmetAuthenticationRequirements
            | ErrorCode::InvalidClientMetadata
            | ErrorCode::InvalidRedirectUri
            | ErrorCode::RegistrationNotSupported => 400,
        }
    }

    /// `{"error": …, "error_description": …}` (RFC 6749 §5.2).
    pub fn to_json(&self) -> Vec<u8> {
        let body =
            serde_json::json!({"error": self.code.as_str(), "error_description": self.description});
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

macro_rules! codes {
    ($($code:ident = $text:literal,)*) => {
        /// The `error` codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is the standard's own word")]
        pub enum ErrorCode { $($code,)* }
        impl ErrorCode {
            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$code => $text,)* }
            }
        }
    };
}

codes! {
    InvalidRequest = "invalid_request",
    InvalidClient = "invalid_client",
    InvalidGrant = "invalid_grant",
    UnauthorizedClient = "unauthorized_client",
    UnsupportedGrantType = "unsupported_grant_type",
    UnsupportedResponseType = "unsupported_response_type",
    UnsupportedTokenType = "unsupported_token_type",
    InvalidScope = "invalid_scope",
    InvalidTarget = "invalid_target",
    AccessDenied = "access_denied",
    LoginRequired = "login_required",
    ConsentRequired = "consent_required",
    InteractionRequired = "interaction_required",
    RequestNotSupported = "request_not_supported",
    RequestUriNotSupported = "request_uri_not_supported",
    InvalidDpopProof = "invalid_dpop_proof",
    UseDpopNonce = "use_dpop_nonce",
    AuthorizationPending = "authorization_pending",
    SlowDown = "slow_down",
    ExpiredToken = "expired_token",
    InvalidRequestUri = "invalid_request_uri",
    InvalidRequestObject = "invalid_request_object",
    InvalidAuthorizationDetails = "invalid_authorization_details",
    UnmetAuthenticationRequirements = "unmet_authentication_requirements",
    InvalidClientMetadata = "invalid_client_metadata",
    InvalidRedirectUri = "invalid_redirect_uri",
    InvalidToken = "invalid_token",
    InsufficientScope = "insufficient_scope",
    RegistrationNotSupported = "registration_not_supported",
    ServerError = "server_error",
    TemporarilyUnavailable = "temporarily_unavailable",
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_follow_the_code() {
        for (code, status) in [
            (ErrorCode::InvalidRequest, 400),
            (ErrorCode::InvalidGrant, 400),
            (ErrorCode::InvalidClient, 401),
            (ErrorCode::ServerError, 500),
            (ErrorCode::TemporarilyUnavailable, 503),
        ] {
            assert_eq!(OauthError::new(code, "Rule", "words").status(), status, "{code}");
        }
    }

    #[test]
    fn the_answer_never_names_the_rule() {
        let error = OauthError::new(ErrorCode::InvalidGrant, "CodeOfAnotherClient", "no such code");
        let body = String::from_utf8(error.to_json()).unwrap();
        assert_eq!(body, r#"{"error":"invalid_grant","error_description":"no such code"}"#);
        assert_eq!(error.to_string(), "invalid_grant: no such code");
    }
}
