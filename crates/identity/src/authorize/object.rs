//! Request objects (RFC 9101): the request as its client signed it. Parameters come from the object
//! alone, whatever stands beside it.

use portcullis_core::client::{ClientRecord, Profile};
use portcullis_core::jose::jws::TokenFault;
use portcullis_core::jose::verify;
use portcullis_core::oauth::authorize::AuthorizationRequest;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::web::{Parameters, form_encode};
use serde_json::{Map, Value};

use super::ask::{Arrival, CodeAsk, Spend, Spent};
use crate::desk::Desk;
use crate::login::sealed::LOGIN_S;

/// Longest `jti` that is remembered, in bytes.
const MAX_JTI: usize = 128;
/// The claims of the object itself (RFC 9101 §4), which are no parameters of the request.
const FRAME: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

/// Reads a request object of a client.
///
/// # Errors
/// `invalid_request_object` (RFC 9101 §7), naming the rule; `request_not_supported` for a client
/// that registered no key.
pub(super) fn read(
    desk: &Desk,
    client: &ClientRecord,
    object: &str,
) -> Result<CodeAsk, OauthError> {
    let Some(keys) = client.keys() else {
        let (code, rule) = (ErrorCode::RequestNotSupported, "RequestObjectUnsupported");
        return Err(OauthError::new(code, rule, "this client has no key to sign requests with"));
    };
    let (id, issuer) = (client.id.as_str(), &desk.settings.issuer_text);
    let verified = verify::request_object(object, keys, id, issuer, desk.now);
    let verified = verified.map_err(|fault| {
        tracing::debug!(client = %client.id, %fault, "a request object was refused");
        refused(rule(fault), "the request object does not verify")
    })?;
    let claims = verified.claims();
    // FAPI 2.0 Message Signing §5.3.1: `nbf` says how old it may be; core has judged its value.
    if client.profile() == Profile::Fapi2 && !claims.contains_key("nbf") {
        return Err(refused("RequestObjectWithoutNbf", "the request object must have nbf"));
    }
    let parameters = parameters(claims, id)
        .ok_or_else(|| refused("RequestObjectTooLarge", "the request object says too much"))?;
    let request = AuthorizationRequest::from_parameters(&parameters)
        .map_err(|_| refused("RequestObjectMalformed", "a member of the object is too long"))?;
    let spends = spend(claims, id)?.into_iter().collect();
    let arrival = Arrival { pushed: false, signed: true };
    Ok(CodeAsk { request, arrival, spends, document: None })
}

/// The members as parameters, decoded and bounded by the one reader of parameters.
fn parameters(claims: &Map<String, Value>, client: &str) -> Option<Parameters> {
    let mut pairs = vec![format!("client_id={}", form_encode(client))];
    for (name, value) in claims {
        if FRAME.contains(&name.as_str()) || name == "client_id" {
            continue;
        }
        // RFC 9101 §4: numbers as JSON numbers, and what is JSON already (`authorization_details`,
        // RFC 9396 §3) as it is.
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
            Value::Null | Value::Bool(_) => continue,
        };
        pairs.push(format!("{}={}", form_encode(name), form_encode(&text)));
    }
    Parameters::parse(pairs.join("&").as_bytes()).ok()
}

/// A client that names its object once means it once (RFC 9101 §10.8 leaves `jti` to it).
fn spend(claims: &Map<String, Value>, client: &str) -> Result<Option<Spend>, OauthError> {
    let jti = match claims.get("jti") {
        None => return Ok(None),
        Some(Value::String(jti)) if (1..=MAX_JTI).contains(&jti.len()) => jti,
        Some(_) => return Err(refused("RequestObjectClaimMalformed", "jti cannot be read")),
    };
    // It can begin logins until `exp`, and each of those may take its time.
    let exp = claims.get("exp").and_then(Value::as_i64).unwrap_or_default();
    let until = exp.saturating_add(LOGIN_S.cast_signed());
    // The parts cannot slide: a client id has no blank.
    Ok(Some(Spend { what: Spent::Object, mark: format!("{client} {jti}"), until }))
}

/// The rule of an object's fault, for the record.
fn rule(fault: TokenFault) -> &'static str {
    match fault {
        TokenFault::Expired => "RequestObjectExpired",
        TokenFault::NotYetValid => "RequestObjectNotYetValid",
        TokenFault::AudienceWrong => "RequestObjectAudienceWrong",
        TokenFault::IssuerWrong => "RequestObjectOfAnotherClient",
        TokenFault::KeyUnknown => "RequestObjectKeyUnknown",
        TokenFault::SignatureWrong => "RequestObjectSignatureWrong",
        TokenFault::TypeWrong => "RequestObjectTypeWrong",
        TokenFault::ClaimMalformed => "RequestObjectClaimMalformed",
        TokenFault::TooLong
        | TokenFault::NotCompact
        | TokenFault::MemberDoubled
        | TokenFault::AlgorithmNotAccepted
        | TokenFault::CriticalUnknown
        | TokenFault::Revoked => "RequestObjectMalformed",
    }
}

fn refused(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidRequestObject, rule, description)
}
