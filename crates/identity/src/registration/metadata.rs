//! Client metadata (RFC 7591 §2): what software says of itself, be it in a registration or in a
//! document at its own address. Judged as strictly as the clients of the file.
//!
//! Members that nobody defined are ignored (RFC 7591 §2); those that would ask for something that
//! is not built, or is never given to a stranger, refuse the whole.

use portcullis_core::audit::neutralise;
use portcullis_core::client::{Authentication, ClientRecord, ClientType, GrantType};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::scope::Scopes;
use portcullis_core::web::{Address, Redirect};
use serde_json::{Map, Value};

/// Most redirects of a client; as in the file.
pub(crate) const MAX_REDIRECTS: usize = 16;
/// Longest name for people, in letters: it stands in a headline.
pub(crate) const MAX_NAME: usize = 80;
/// Most `authorization_details` types.
pub(crate) const MAX_DETAIL_TYPES: usize = 16;

/// What a client says of itself, read.
#[derive(Clone)]
pub(crate) struct Metadata {
    pub(crate) kind: ClientType,
    pub(crate) redirects: Vec<Redirect>,
    pub(crate) keys: Option<JwkSet>,
    pub(crate) grants: Vec<GrantType>,
    /// `None`: it did not say.
    pub(crate) scopes: Option<Scopes>,
    pub(crate) name: Option<String>,
    pub(crate) post_logout: Vec<Redirect>,
    pub(crate) back_channel_logout: Option<Address>,
    pub(crate) details: Vec<String>,
}

impl Metadata {
    /// Reads it.
    ///
    /// # Errors
    /// `invalid_redirect_uri` or `invalid_client_metadata` (RFC 7591 §3.2.2), naming the rule.
    pub(crate) fn read(members: &Map<String, Value>) -> Result<Self, OauthError> {
        refuse_what_is_never_taken(members)?;
        let redirects = redirects(members, "redirect_uris")?;
        if redirects.is_empty() {
            return Err(redirect_fault("RedirectMissing", "redirect_uris must name one at least"));
        }
        let keys = keys(members)?;
        let kind = kind(members, &redirects, keys.as_ref())?;
        Ok(Metadata {
            kind,
            redirects,
            keys,
            grants: grants(members)?,
            scopes: scopes(members)?,
            name: name(members)?,
            post_logout: redirects_of_logout(members)?,
            back_channel_logout: back_channel_logout(members)?,
            details: details(members)?,
        })
    }

    /// The client that it describes, with everything that follows from its kind.
    pub(crate) fn record(&self, id: Id<id::Client>, scopes: Scopes) -> ClientRecord {
        let authentication = match &self.keys {
            Some(keys) => Authentication::Keys(keys.clone()),
            None => Authentication::None,
        };
        ClientRecord {
            redirects: self.redirects.clone(),
            scopes,
            name: self.name.clone(),
            grants: self.grants.clone(),
            post_logout: self.post_logout.clone(),
            back_channel_logout: self.back_channel_logout.clone(),
            details: self.details.clone(),
            ..ClientRecord::new(id, self.kind, authentication)
        }
    }
}

/// A secret cannot be shared with whoever writes this (client ID metadata documents §4.1; and we
/// hand none out, RFC 7591 §2); keys by reference would be one more address to fetch; a statement
/// (RFC 7591 §2.3) has no issuer that is trusted here.
fn refuse_what_is_never_taken(members: &Map<String, Value>) -> Result<(), OauthError> {
    for (name, rule, description) in [
        ("client_secret", "SecretForbidden", "no client of this kind has a secret"),
        ("client_secret_expires_at", "SecretForbidden", "no client of this kind has a secret"),
        ("jwks_uri", "KeysByReference", "put the keys into jwks; jwks_uri is not fetched"),
        ("software_statement", "StatementUnsupported", "software statements are not taken"),
        ("sector_identifier_uri", "SectorUnsupported", "sector_identifier_uri is not fetched"),
    ] {
        if members.contains_key(name) {
            return Err(fault(rule, description));
        }
    }
    Ok(())
}

fn redirects(members: &Map<String, Value>, name: &str) -> Result<Vec<Redirect>, OauthError> {
    let words = words(members, name)
        .ok_or_else(|| redirect_fault("RedirectMalformed", "redirects must be a list of texts"))?;
    if words.len() > MAX_REDIRECTS {
        return Err(redirect_fault("RedirectsTooMany", "at most 16 redirects"));
    }
    // RFC 7591 §5, RFC 9700 §2.1: the very rules of the file: no wildcard, no fragment, no `http`
    // but to loopback.
    let read = |text: &&str| {
        Redirect::parse(text).map_err(|_| {
            redirect_fault(
                "RedirectMalformed",
                "a redirect is not one of https, of loopback http, or of a scheme with a dot",
            )
        })
    };
    words.iter().map(read).collect()
}

fn redirects_of_logout(members: &Map<String, Value>) -> Result<Vec<Redirect>, OauthError> {
    redirects(members, "post_logout_redirect_uris")
}

fn back_channel_logout(members: &Map<String, Value>) -> Result<Option<Address>, OauthError> {
    let Some(value) = members.get("backchannel_logout_uri") else { return Ok(None) };
    // OpenID Connect Back-Channel Logout §2.2: https, and no fragment.
    let address = value.as_str().filter(|text| text.starts_with("https://"));
    let address = address.and_then(|text| Address::parse(text).ok());
    let malformed = || fault("LogoutAddressMalformed", "backchannel_logout_uri must be https");
    address.map(Some).ok_or_else(malformed)
}

/// RFC 7591 §2: `token_endpoint_auth_method`, with `jwks` for the one that proves something. Left
/// out it would mean a secret there, which nobody can have here: it follows from the keys.
fn keys(members: &Map<String, Value>) -> Result<Option<JwkSet>, OauthError> {
    let jwks = members.get("jwks");
    match (member(members, "token_endpoint_auth_method")?, jwks) {
        (None | Some("none"), None) => Ok(None),
        (Some("none"), Some(_)) => {
            Err(fault("KeysOfPublicClient", "a client without authentication has no use for jwks"))
        }
        (None | Some("private_key_jwt"), Some(jwks)) => {
            let read = JwkSet::from_json(jwks.to_string().as_bytes());
            let malformed = |_| fault("KeysMalformed", "jwks holds no key that can verify");
            read.map(Some).map_err(malformed)
        }
        (Some("private_key_jwt"), None) => {
            Err(fault("KeysMissing", "private_key_jwt needs the public keys in jwks"))
        }
        (Some(_), _) => {
            let description = "token_endpoint_auth_method must be none or private_key_jwt";
            Err(fault("MethodUnsupported", description))
        }
    }
}

/// OpenID Connect Registration §2: `application_type`. Whoever has a redirect that any app of a
/// machine could claim is native, whatever it says.
fn kind(
    members: &Map<String, Value>,
    redirects: &[Redirect],
    keys: Option<&JwkSet>,
) -> Result<ClientType, OauthError> {
    let local = redirects.iter().any(|redirect| !redirect.as_str().starts_with("https://"));
    let native = match member(members, "application_type")? {
        None | Some("web") => local,
        Some("native") => true,
        Some(_) => {
            return Err(fault("ApplicationTypeUnknown", "application_type must be web or native"));
        }
    };
    match (keys, native) {
        (None, true) => Ok(ClientType::Native),
        (None, false) => Ok(ClientType::Spa),
        (Some(_), false) => Ok(ClientType::Web),
        // RFC 8252 §8.4: what is handed to many people is no secret.
        (Some(_), true) => {
            Err(fault("KeysOfNativeClient", "a client with a native redirect keeps no key"))
        }
    }
}

/// RFC 7591 §2: left out it means the code grant alone.
fn grants(members: &Map<String, Value>) -> Result<Vec<GrantType>, OauthError> {
    let named = words(members, "grant_types");
    let named =
        named.ok_or_else(|| fault("GrantMalformed", "grant_types must be a list of texts"))?;
    let named = if named.is_empty() { vec!["authorization_code"] } else { named };
    // Software that nobody vouched for acts for people alone: no grant of its own.
    let taken = named.iter().all(|word| matches!(*word, "authorization_code" | "refresh_token"));
    if !taken || !named.contains(&"authorization_code") {
        let description = "grant_types must be authorization_code, and refresh_token beside it";
        return Err(fault("GrantUnsupported", description));
    }
    // RFC 7591 §2.1: the response types agree with the grants; no implicit one, ever.
    let answers = words(members, "response_types");
    if !answers.is_some_and(|words| words.iter().all(|word| *word == "code")) {
        return Err(fault("ResponseTypeUnsupported", "response_types must be code"));
    }
    let refresh = named.contains(&"refresh_token").then_some(GrantType::RefreshToken);
    Ok([GrantType::AuthorizationCode].into_iter().chain(refresh).collect())
}

fn scopes(members: &Map<String, Value>) -> Result<Option<Scopes>, OauthError> {
    let text = member(members, "scope")?;
    let read = text.map(Scopes::parse).transpose();
    read.map_err(|_| fault("ScopeMalformed", "scope cannot be read"))
}

/// A name for people, shown on pages where they decide: one line, and short.
fn name(members: &Map<String, Value>) -> Result<Option<String>, OauthError> {
    let Some(text) = member(members, "client_name")? else { return Ok(None) };
    // `6-attacks`: no line end, no mark that turns the reading direction or shows nothing.
    let plain = neutralise(text) == text && !text.trim().is_empty();
    if !plain || text.chars().count() > MAX_NAME {
        return Err(fault("NameMalformed", "client_name must be one short line of plain text"));
    }
    Ok(Some(text.to_owned()))
}

fn details(members: &Map<String, Value>) -> Result<Vec<String>, OauthError> {
    // RFC 9396 §10: `authorization_details_types`.
    let named = words(members, "authorization_details_types");
    let fits = |words: &Vec<&str>| {
        words.len() <= MAX_DETAIL_TYPES && words.iter().all(|word| (1..=128).contains(&word.len()))
    };
    let named = named.filter(fits);
    let malformed = || fault("DetailTypesMalformed", "authorization_details_types cannot be read");
    Ok(named.ok_or_else(malformed)?.into_iter().map(str::to_owned).collect())
}

/// A member that is text, where it is there.
fn member<'m>(
    members: &'m Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'m str>, OauthError> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(fault("MemberMalformed", "a member that must be text is something else")),
    }
}

/// A list of texts; empty where it is left out, `None` for anything else.
fn words<'m>(members: &'m Map<String, Value>, name: &str) -> Option<Vec<&'m str>> {
    match members.get(name) {
        None => Some(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(Value::as_str).collect(),
        Some(_) => None,
    }
}

fn redirect_fault(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidRedirectUri, rule, description)
}

fn fault(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidClientMetadata, rule, description)
}

#[cfg(test)]
mod tests;
