//! `authorization_details` at the token endpoint (RFC 9396 §6, §7): what may be asked for, and that
//! it is never more than was granted. What a type means is its API's.

use portcullis_core::client::ClientRecord;
use portcullis_core::oauth::details::{parse, type_of, within};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use serde_json::Value;

use crate::settings::Settings;

/// Reads what a client asks for without a user; each type must be one that it is registered for
/// and that its target understands.
///
/// # Errors
/// `invalid_authorization_details` (RFC 9396 §5).
pub(crate) fn asked(
    settings: &Settings,
    client: &ClientRecord,
    text: Option<&str>,
    audience: &str,
) -> Result<Vec<Value>, OauthError> {
    let asked = text.map(parse).transpose()?.unwrap_or_default();
    let api = settings.apis.iter().find(|api| *api.audience == *audience);
    for detail in &asked {
        if !registered(client, detail) {
            let description = "a type was asked for that this client is not registered for";
            return Err(refused("DetailTypeUnregistered", description));
        }
        let understood = |word| api.is_some_and(|api| api.details.iter().any(|one| one == word));
        if !type_of(detail).is_some_and(understood) {
            let description = "a type was asked for that this resource does not use";
            return Err(refused("DetailTypeOfAnotherTarget", description));
        }
    }
    Ok(asked)
}

/// What this token is for, of all that was granted: everything, unless the request names less.
///
/// # Errors
/// `invalid_authorization_details` when it names something that was not granted (RFC 9396 §6.1).
pub(crate) fn narrowed(text: Option<&str>, granted: Vec<Value>) -> Result<Vec<Value>, OauthError> {
    let Some(text) = text else { return Ok(granted) };
    let asked = parse(text)?;
    match within(&asked, &granted) {
        true => Ok(asked),
        false => {
            let description = "authorization_details names something that was not granted";
            Err(refused("DetailsWidened", description))
        }
    }
}

/// What is left of a grant's details: a type taken away from the client shrinks the token.
pub(crate) fn kept(client: &ClientRecord, granted: &[Value]) -> Vec<Value> {
    granted.iter().filter(|detail| registered(client, detail)).cloned().collect()
}

/// The details as a grant's row keeps them.
pub(crate) fn to_stored(details: &[Value]) -> String {
    match details {
        [] => String::new(),
        // Our own values are always JSON.
        [_, ..] => serde_json::to_string(details).unwrap_or_default(),
    }
}

/// The details of a grant's row. What cannot be read was not granted.
pub(crate) fn from_stored(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_default()
}

fn registered(client: &ClientRecord, detail: &Value) -> bool {
    type_of(detail).is_some_and(|word| client.details.iter().any(|one| one == word))
}

fn refused(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidAuthorizationDetails, rule, description)
}
