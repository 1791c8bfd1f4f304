//! The token request and its answer (RFC 6749 §4.1.3, §4.4.2, §5.1).
//!
//! Reads what was sent into exactly one way of authentication and one grant. Deliberately proves
//! nothing: whether the secret or the assertion is right is identity's `client_auth`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::error::{ErrorCode, OauthError};
use crate::scope::MAX_SCOPE_BYTES;
use crate::secret::Secret;
use crate::web::{Parameters, form_decode};

/// Longest client id, in bytes.
pub const MAX_CLIENT_ID_BYTES: usize = 256;
/// Longest client secret, in bytes.
pub const MAX_CLIENT_SECRET_BYTES: usize = 512;
/// Longest client assertion, in bytes; as our own tokens.
pub const MAX_ASSERTION_BYTES: usize = 8 * 1024;
/// Longest `code`, `redirect_uri`, `resource` or `code_verifier`, in bytes.
pub const MAX_TOKEN_VALUE_BYTES: usize = 2048;
/// Longest `authorization_details`, in bytes: it travels in the code and in each token.
pub const MAX_DETAILS_BYTES: usize = 2048;
/// The one kind of assertion (RFC 7523 §2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a client asks the token endpoint for.
pub enum TokenRequest {
    /// RFC 6749 §4.1.3 with RFC 7636 §4.5.
    AuthorizationCode {
        /// The code.
        code: Secret<String>,
        /// Must equal the authorization request's.
        redirect_uri: Option<String>,
        /// PKCE.
        code_verifier: Option<Secret<String>>,
        /// RFC 8707 §2.2: only the code's own, or none.
        resource: Option<String>,
    },
    /// RFC 6749 §4.4.2.
    ClientCredentials {
        /// Scopes asked for.
        scope: Option<String>,
        /// The API wanted.
        resource: Option<String>,
        /// RFC 9396 §6: `authorization_details`, as sent.
        details: Option<String>,
    },
    /// RFC 6749 §6.
    RefreshToken {
        /// The token.
        token: Secret<String>,
        /// Fewer scopes than were granted, never more.
        scope: Option<String>,
        /// Only the grant's own.
        resource: Option<String>,
    },
    /// RFC 8628 §3.4.
    DeviceCode {
        /// The device code.
        code: Secret<String>,
    },
    /// RFC 8693 §2.1.
    TokenExchange {
        /// On whose behalf.
        subject_token: Secret<String>,
        /// Its type.
        subject_token_type: String,
        /// Who acts, when it is not the client itself.
        actor_token: Option<Secret<String>>,
        /// Its type.
        actor_token_type: Option<String>,
        /// What is wanted; only access tokens are issued.
        requested_token_type: Option<String>,
        /// Scopes asked for.
        scope: Option<String>,
        /// The API wanted.
        resource: Option<String>,
        /// The same by name (RFC 8693 §2.1 `audience`).
        audience: Option<String>,
    },
    /// RFC 7523 §2.1.
    JwtBearer {
        /// The assertion.
        assertion: Secret<String>,
        /// Scopes asked for.
        scope: Option<String>,
        /// The API wanted.
        resource: Option<String>,
    },
}

/// How the client authenticated itself on the wire: exactly one way (RFC 6749 §2.3).
pub enum PresentedClient {
    /// `client_id` alone.
    Public {
        /// The client.
        client_id: String,
    },
    /// `Authorization: Basic` (RFC 6749 §2.3.1), form-decoded.
    Basic {
        /// The client.
        client_id: String,
        /// Its secret.
        secret: Secret<String>,
    },
    /// RFC 7523 §2.2.
    Assertion {
        /// `client_id`, when it was sent too; must then equal the assertion's `sub`.
        client_id: Option<String>,
        /// The JWT.
        assertion: Secret<String>,
    },
}

impl PresentedClient {
    /// Reads the client's credentials of any endpoint that authenticates it (token, revoke).
    /// `authorization` holds every `Authorization` field value.
    ///
    /// # Errors
    /// `invalid_request` for two methods at once, `invalid_client` for none or a malformed one.
    pub fn read(authorization: &[&[u8]], form: &Parameters) -> Result<Self, OauthError> {
        let client_id = bounded(form, "client_id", MAX_CLIENT_ID_BYTES)?;
        let in_form = form.value("client_secret").is_some();
        let asserted = ["client_assertion", "client_assertion_type"]
            .iter()
            .any(|name| form.value(name).is_some());
        // RFC 6749 §2.3: the client MUST NOT use more than one authentication method per request.
        if authorization.len() + usize::from(in_form) + usize::from(asserted) > 1 {
            return Err(request("ClientMethodTwice", "authenticate the client in one way only"));
        }
        if in_form {
            // RFC 9700 §2.5 asks for keys; a secret in the body also ends up in logs of forms.
            return Err(client("ClientSecretInForm", "client_secret_post is not supported"));
        }
        if asserted {
            return read_assertion(form, client_id);
        }
        match (authorization.first(), client_id) {
            (Some(field), client_id) => read_basic(field, client_id.as_deref()),
            (None, Some(client_id)) => Ok(PresentedClient::Public { client_id }),
            (None, None) => Err(client("ClientUnauthenticated", "the client must identify itself")),
        }
    }
}

impl TokenRequest {
    /// Reads the form. The query is never looked at.
    ///
    /// # Errors
    /// `unsupported_grant_type`, `invalid_request`.
    pub fn read(form: &Parameters) -> Result<Self, OauthError> {
        let value = |name| bounded(form, name, MAX_TOKEN_VALUE_BYTES);
        let secret = |name: &'static str, rule| {
            let description = "the parameter that this grant needs is missing";
            value(name)?.map(Secret::new).ok_or_else(|| request(rule, description))
        };
        match form.value("grant_type") {
            Some("authorization_code") => Ok(TokenRequest::AuthorizationCode {
                code: value("code")?
                    .map(Secret::new)
                    .ok_or(request("CodeMissing", "the parameter code is missing"))?,
                redirect_uri: value("redirect_uri")?,
                code_verifier: value("code_verifier")?.map(Secret::new),
                resource: value("resource")?,
            }),
            Some("client_credentials") => Ok(TokenRequest::ClientCredentials {
                scope: bounded(form, "scope", MAX_SCOPE_BYTES)?,
                resource: value("resource")?,
                details: bounded(form, "authorization_details", MAX_DETAILS_BYTES)?,
            }),
            Some("refresh_token") => Ok(TokenRequest::RefreshToken {
                token: secret("refresh_token", "RefreshTokenMissing")?,
                scope: bounded(form, "scope", MAX_SCOPE_BYTES)?,
                resource: value("resource")?,
            }),
            Some("urn:ietf:params:oauth:grant-type:device_code") => {
                Ok(TokenRequest::DeviceCode { code: secret("device_code", "DeviceCodeMissing")? })
            }
            Some("urn:ietf:params:oauth:grant-type:token-exchange") => read_exchange(form),
            Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => Ok(TokenRequest::JwtBearer {
                assertion: long_secret(form, "assertion", "AssertionMissing")?,
                scope: bounded(form, "scope", MAX_SCOPE_BYTES)?,
                resource: value("resource")?,
            }),
            // RFC 6749 §5.2. The password grant is gone (RFC 9700 §2.4).
            Some(_) => Err(OauthError::new(
                ErrorCode::UnsupportedGrantType,
                "GrantTypeUnsupported",
                "grant_types_supported of the metadata names the grants",
            )),
            None => Err(request("GrantTypeMissing", "the parameter grant_type is missing")),
        }
    }
}

/// RFC 8693 §2.1.
fn read_exchange(form: &Parameters) -> Result<TokenRequest, OauthError> {
    let value = |name| bounded(form, name, MAX_TOKEN_VALUE_BYTES);
    let actor_token = bounded(form, "actor_token", MAX_ASSERTION_BYTES)?.map(Secret::new);
    let actor_token_type = value("actor_token_type")?;
    // RFC 8693 §2.1: REQUIRED when there is an actor token, and MUST NOT be there without.
    if actor_token.is_some() != actor_token_type.is_some() {
        let description = "actor_token and actor_token_type go together";
        return Err(request("ActorTokenHalf", description));
    }
    let missing = || request("SubjectTokenTypeMissing", "subject_token_type is missing");
    Ok(TokenRequest::TokenExchange {
        subject_token: long_secret(form, "subject_token", "SubjectTokenMissing")?,
        subject_token_type: value("subject_token_type")?.ok_or_else(missing)?,
        actor_token,
        actor_token_type,
        requested_token_type: value("requested_token_type")?,
        scope: bounded(form, "scope", MAX_SCOPE_BYTES)?,
        resource: value("resource")?,
        audience: value("audience")?,
    })
}

/// A token or assertion as a parameter.
fn long_secret(
    form: &Parameters,
    name: &'static str,
    rule: &'static str,
) -> Result<Secret<String>, OauthError> {
    let found = bounded(form, name, MAX_ASSERTION_BYTES)?.map(Secret::new);
    found.ok_or_else(|| request(rule, "the parameter that this grant needs is missing"))
}

fn read_assertion(
    form: &Parameters,
    client_id: Option<String>,
) -> Result<PresentedClient, OauthError> {
    // RFC 7521 §4.2: both parameters are REQUIRED, the type with exactly this value.
    if form.value("client_assertion_type") != Some(ASSERTION_TYPE) {
        return Err(client(
            "AssertionTypeUnknown",
            "client_assertion_type must be the jwt-bearer one of RFC 7523",
        ));
    }
    match form.value("client_assertion") {
        Some(assertion) if assertion.len() <= MAX_ASSERTION_BYTES => {
            Ok(PresentedClient::Assertion {
                client_id,
                assertion: Secret::new(assertion.to_owned()),
            })
        }
        Some(_) => Err(client("AssertionTooLong", "client_assertion is too long")),
        None => Err(client("AssertionMissing", "client_assertion is missing")),
    }
}

/// RFC 7617 §2 with the form-encoding of both halves that RFC 6749 §2.3.1 asks for.
fn read_basic(field: &[u8], in_form: Option<&str>) -> Result<PresentedClient, OauthError> {
    let malformed = || client("BasicMalformed", "the Authorization field is not Basic credentials");
    // RFC 9110 §11.1: the scheme is case-insensitive; one or more spaces follow it.
    let (scheme, rest) = field.split_at_checked(5).ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case(b"basic") || rest.first() != Some(&b' ') {
        return Err(malformed());
    }
    let longest_encoded = 4 * (MAX_CLIENT_ID_BYTES + MAX_CLIENT_SECRET_BYTES);
    let encoded = rest.trim_ascii();
    if encoded.len() > longest_encoded {
        return Err(malformed());
    }
    let decoded = Secret::new(STANDARD.decode(encoded).map_err(|_| malformed())?);
    // RFC 7617 §2: the first colon ends the id.
    let mut halves = decoded.expose().splitn(2, |byte| *byte == b':');
    let client_id = halves.next().and_then(form_decode).ok_or_else(malformed)?;
    let secret = halves.next().and_then(form_decode).map(Secret::new).ok_or_else(malformed)?;
    let lengths_are_good = (1..=MAX_CLIENT_ID_BYTES).contains(&client_id.len())
        && (1..=MAX_CLIENT_SECRET_BYTES).contains(&secret.expose().len());
    if !lengths_are_good {
        return Err(malformed());
    }
    // Many libraries send the id in the form as well; it may not name somebody else.
    if in_form.is_some_and(|other| other != client_id) {
        return Err(request("ClientIdTwice", "client_id differs from the Authorization field"));
    }
    Ok(PresentedClient::Basic { client_id, secret })
}

fn bounded(
    form: &Parameters,
    name: &'static str,
    longest: usize,
) -> Result<Option<String>, OauthError> {
    match form.value(name) {
        Some(value) if value.len() > longest => {
            Err(request("ParameterTooLong", "a parameter is too long"))
        }
        value => Ok(value.map(str::to_owned)),
    }
}

fn request(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidRequest, rule, description)
}

fn client(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidClient, rule, description)
}

/// A successful answer (RFC 6749 §5.1); always sent with `Cache-Control: no-store`.
#[derive(Serialize)]
pub struct TokenAnswer {
    /// The token.
    pub access_token: String,
    /// `Bearer`, `DPoP`, or `N_A` (RFC 8693 §2.2.1).
    pub token_type: &'static str,
    /// Seconds.
    pub expires_in: i64,
    /// What was granted; left out when it is nothing, which RFC 6749 §3.3 has no words for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// OpenID Connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_token: Option<String>,
    /// RFC 6749 §6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// RFC 8693 §2.2.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_token_type: Option<&'static str>,
    /// RFC 9396 §7.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorization_details: Vec<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ASSERTED: &str = "client_assertion=a.b.c&client_assertion_type=\
                            urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";

    fn form(text: &str) -> Parameters {
        Parameters::parse(text.as_bytes()).unwrap()
    }

    fn basic(pair: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(pair)).into_bytes()
    }

    fn refusal(authorization: &[&[u8]], text: &str) -> (&'static str, ErrorCode) {
        match PresentedClient::read(authorization, &form(text)) {
            Err(error) => (error.rule, error.code),
            Ok(_) => panic!("{text} was accepted"),
        }
    }

    #[test]
    fn a_public_client_gives_its_id_alone() {
        let presented = PresentedClient::read(&[], &form("client_id=app&client_secret=")).unwrap();
        assert!(matches!(presented, PresentedClient::Public { client_id } if client_id == "app"));
    }

    #[test]
    fn basic_credentials_are_form_decoded() {
        let field = basic("my%3Aclient:s%2Bcr+t:x");
        for text in ["", "client_id=my%3Aclient"] {
            match PresentedClient::read(&[&field], &form(text)).unwrap() {
                PresentedClient::Basic { client_id, secret } => {
                    assert_eq!(client_id, "my:client");
                    assert_eq!(secret.expose(), "s+cr t:x");
                }
                _ => panic!("not basic"),
            }
        }
        for scheme in ["basic", "BASIC"] {
            let field = format!("{scheme}  {}", STANDARD.encode("a:b"));
            assert!(PresentedClient::read(&[field.as_bytes()], &form("")).is_ok());
        }
    }

    #[test]
    fn an_assertion_is_read_with_or_without_the_id() {
        for (text, expected) in
            [(ASSERTED.to_owned(), None), (format!("{ASSERTED}&client_id=ledger"), Some("ledger"))]
        {
            match PresentedClient::read(&[], &form(&text)).unwrap() {
                PresentedClient::Assertion { client_id, assertion } => {
                    assert_eq!(client_id.as_deref(), expected);
                    assert_eq!(assertion.expose(), "a.b.c");
                }
                _ => panic!("not an assertion"),
            }
        }
    }

    #[test]
    fn two_methods_at_once_are_refused() {
        let field = basic("a:b");
        let twice = ("ClientMethodTwice", ErrorCode::InvalidRequest);
        assert_eq!(refusal(&[&field], ASSERTED), twice);
        assert_eq!(refusal(&[&field], "client_assertion=x"), twice);
        assert_eq!(refusal(&[&field], "client_secret=b"), twice);
        assert_eq!(refusal(&[], &format!("{ASSERTED}&client_secret=b")), twice);
        assert_eq!(refusal(&[b"Bearer x"], &format!("{ASSERTED}&client_secret=b")), twice);
    }

    #[test]
    fn two_authorization_fields_are_refused() {
        let field = basic("a:b");
        let twice = ("ClientMethodTwice", ErrorCode::InvalidRequest);
        assert_eq!(refusal(&[&field, &field], ""), twice);
        assert_eq!(refusal(&[&field, b""], ""), twice);
    }

    #[test]
    fn a_secret_in_the_form_is_refused() {
        let expected = ("ClientSecretInForm", ErrorCode::InvalidClient);
        assert_eq!(refusal(&[], "client_id=a&client_secret=b"), expected);
    }

    #[test]
    fn no_client_at_all_is_refused() {
        let expected = ("ClientUnauthenticated", ErrorCode::InvalidClient);
        for text in ["", "client_id=", "client_secret=&grant_type=x"] {
            assert_eq!(refusal(&[], text), expected);
        }
    }

    #[test]
    fn another_id_in_the_form_is_refused() {
        let expected = ("ClientIdTwice", ErrorCode::InvalidRequest);
        assert_eq!(refusal(&[&basic("a:b")], "client_id=c"), expected);
    }

    #[test]
    fn an_unknown_assertion_type_is_refused() {
        let expected = ("AssertionTypeUnknown", ErrorCode::InvalidClient);
        for text in [
            "client_assertion=a.b.c",
            "client_assertion=a.b.c&client_assertion_type=saml2-bearer",
            "client_assertion=a.b.c&client_assertion_type=",
        ] {
            assert_eq!(refusal(&[], text), expected);
        }
    }

    #[test]
    fn a_missing_or_long_assertion_is_refused() {
        let kind = ASSERTED.split_once('&').unwrap().1;
        assert_eq!(refusal(&[], kind), ("AssertionMissing", ErrorCode::InvalidClient));
        let long = format!("{kind}&client_assertion={}", "a".repeat(MAX_ASSERTION_BYTES + 1));
        assert_eq!(refusal(&[], &long), ("AssertionTooLong", ErrorCode::InvalidClient));
    }

    #[test]
    fn malformed_basic_is_refused() {
        let long = basic(&format!("a:{}", "b".repeat(MAX_CLIENT_SECRET_BYTES + 1)));
        let endless = basic(&"a".repeat(100_000));
        for field in [
            &b""[..],
            b"B",
            b"Basic",
            b"Basic ",
            b"Basic\tYTpi",
            b"BasicYTpi",
            b"Bearer YTpi",
            b"Digest username=a",
            b"Basic YTpi YTpi",
            b"Basic YTpi,",
            b"Basic YTpi=",
            b"Basic !!!!",
            b"Basic \xff\xfe",
            &basic("no-colon"),
            &basic(":secret"),
            &basic("id:"),
            &basic("a%:b"),
            &basic("a:b%zz"),
            &basic("a%00:b"),
            &basic("a:%ff"),
            &long,
            &endless,
        ] {
            let expected = ("BasicMalformed", ErrorCode::InvalidClient);
            assert_eq!(refusal(&[field], ""), expected, "{field:?}");
        }
    }

    #[test]
    fn grants_are_read() {
        let code = "grant_type=authorization_code&code=c&redirect_uri=r&code_verifier=v&resource=x";
        match TokenRequest::read(&form(code)).unwrap() {
            TokenRequest::AuthorizationCode { code, redirect_uri, code_verifier, resource } => {
                assert_eq!(code.expose(), "c");
                assert_eq!(redirect_uri.as_deref(), Some("r"));
                assert_eq!(code_verifier.unwrap().expose(), "v");
                assert_eq!(resource.as_deref(), Some("x"));
            }
            _ => panic!("not the code grant"),
        }
        match TokenRequest::read(&form("grant_type=client_credentials&scope=a+b")).unwrap() {
            TokenRequest::ClientCredentials { scope, resource, .. } => {
                assert_eq!((scope.as_deref(), resource), (Some("a b"), None));
            }
            _ => panic!("not client credentials"),
        }
    }

    #[test]
    fn requests_that_cannot_be_read_are_refused_by_name() {
        let long = "x".repeat(MAX_TOKEN_VALUE_BYTES + 1);
        for (text, rule) in [
            (String::new(), "GrantTypeMissing"),
            ("grant_type=".into(), "GrantTypeMissing"),
            ("grant_type=password&username=a&password=b".into(), "GrantTypeUnsupported"),
            ("grant_type=Authorization_code&code=c".into(), "GrantTypeUnsupported"),
            ("grant_type=refresh_token".into(), "RefreshTokenMissing"),
            ("grant_type=authorization_code".into(), "CodeMissing"),
            (format!("grant_type=authorization_code&code={long}"), "ParameterTooLong"),
            (format!("grant_type=client_credentials&scope={long}"), "ParameterTooLong"),
        ] {
            let error = TokenRequest::read(&form(&text)).err().unwrap();
            assert_eq!(error.rule, rule, "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_authorization_field_never_panics(
            head in "(Basic |basic|B)?",
            tail in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let field = [head.as_bytes(), &tail].concat();
            let _ = PresentedClient::read(&[&field], &Parameters::default());
        }
    }
}
