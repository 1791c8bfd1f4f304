//! The machines' endpoints: token, revocation, metadata.

use bytes::Bytes;
use http::header::{self, HeaderName};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::web::Parameters;
use portcullis_gateway::house::{HouseAnswer, HouseRequest};
use portcullis_identity::login::Identity;

use super::{cookies, page};

/// `POST /oauth/token`. The query is never looked at (RFC 6749 §3.2: parameters in the body).
pub(super) async fn token(identity: &Identity, request: &HouseRequest) -> HouseAnswer {
    let form = match form(request) {
        Ok(form) => form,
        Err(error) => return refused("token", &error),
    };
    let answered =
        identity.token(&authorization(request), &form, cookies::presented(request)).await;
    let mut answer = match &answered.result {
        Ok(tokens) => granted(serde_json::to_vec(tokens).unwrap_or_default()),
        Err(error) => refused("token", error),
    };
    answer.event = "token";
    answer.caller = answered.caller;
    answer.client = answered.client;
    answer
}

/// `POST /oauth/revoke` (RFC 7009 §2.2: 200 also for a token that is unknown).
pub(super) async fn revoke(identity: &Identity, request: &HouseRequest) -> HouseAnswer {
    let form = match form(request) {
        Ok(form) => form,
        Err(error) => return refused("revoke", &error),
    };
    let answered =
        identity.revoke(&authorization(request), &form, cookies::presented(request)).await;
    let mut answer = match &answered.result {
        Ok(()) => granted(b"{}".to_vec()),
        Err(error) => refused("revoke", error),
    };
    answer.event = "revoke";
    answer.caller = answered.caller;
    answer.client = answered.client;
    answer
}

/// RFC 9728 §3: the metadata of the API whose well-known path was asked.
pub(super) fn resource_metadata(identity: &Identity, request: &HouseRequest) -> HouseAnswer {
    let path = request.path.strip_prefix("/.well-known/oauth-protected-resource");
    let audience = format!("https://{}{}", request.authority, path.unwrap_or_default());
    match identity.resource_metadata(&audience) {
        Some(document) => page::json(&document, "public, max-age=300"),
        None => page::refused(404, "ResourceUnknown", "There is no such resource."),
    }
}

fn form(request: &HouseRequest) -> Result<Parameters, OauthError> {
    if !page::is_form(request) {
        return Err(OauthError::new(
            ErrorCode::InvalidRequest,
            "FormMalformed",
            "send the parameters as application/x-www-form-urlencoded",
        ));
    }
    Parameters::parse(&request.body).map_err(|_| {
        OauthError::new(
            ErrorCode::InvalidRequest,
            "ParametersMalformed",
            "a parameter is doubled, too long or not form-encoded",
        )
    })
}

fn authorization(request: &HouseRequest) -> Vec<&[u8]> {
    request.headers.get_all(header::AUTHORIZATION).iter().map(|value| value.as_bytes()).collect()
}

fn granted(body: Vec<u8>) -> HouseAnswer {
    let mut response = http::Response::new(Bytes::from(body));
    page::set(&mut response, header::CONTENT_TYPE, "application/json");
    // RFC 6749 §5.1: no-store on every answer that holds a token.
    page::set(&mut response, header::CACHE_CONTROL, "no-store");
    let mut answer = page::plain(response);
    answer.outcome = Ok("Granted".into());
    answer
}

fn refused(event: &'static str, error: &OauthError) -> HouseAnswer {
    let mut answer = granted(error.to_json());
    *answer.response.status_mut() =
        http::StatusCode::from_u16(error.status()).unwrap_or(http::StatusCode::BAD_REQUEST);
    if error.code == ErrorCode::InvalidClient {
        // RFC 6749 §5.2: a 401 names the scheme that the client may use.
        page::set(&mut answer.response, header::WWW_AUTHENTICATE, "Basic realm=\"portcullis\"");
    }
    if error.code == ErrorCode::TemporarilyUnavailable {
        page::set(&mut answer.response, HeaderName::from_static("retry-after"), "1");
    }
    answer.event = event;
    answer.outcome = Err(error.rule.to_owned());
    answer
}
