//! The machines' endpoints: token, PAR, device, revocation, introspection, userinfo, registration,
//! metadata.

use bytes::Bytes;
use http::header::{self, HeaderName};
use portcullis_core::jose::claims::Confirmation;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::web::Parameters;
use portcullis_gateway::house::{HouseAnswer, HouseRequest};
use portcullis_identity::outcome::{Answered, Document};
use portcullis_identity::registration::Call;
use portcullis_identity::server::Identity;

use super::{cookies, page};

/// `POST /oauth/token`. The query is never looked at (RFC 6749 §3.2: parameters in the body).
pub(super) async fn token(identity: &Identity, request: &HouseRequest) -> HouseAnswer {
    let form = match form(request) {
        Ok(form) => form,
        Err(error) => return refused("token", &error),
    };
    let presented = cookies::presented(request);
    let answered = identity.token(&authorization(request), &form, presented).await;
    put("token", answered, |tokens| granted(serde_json::to_vec(tokens).unwrap_or_default()))
}

/// `POST /oauth/par` (RFC 9126 §2.2: 201).
pub(super) async fn push(identity: &Identity, request: &HouseRequest) -> HouseAnswer {
    let form = match form(request) {
        Ok(form) => form,
        Err(error) => return refused("par", &error),
    };
    let presented = cookies::presented(request);
    let answered = identity.push(&authorization(request), &form, presented).await;
    let too_large = answered.result.as_ref().is_err_and(|error| error.rule == "PushedTooLarge");
    let mut answer = put("par", answered, |pushed| {
        let mut answer = granted(serde_json::to_vec(pushed).unwrap_or_default());
        *answer.response.status_mut() = http::StatusCode::CREATED;
        answer
    });
    if too_large {
        // RFC 9126 §2.3
        *answer.response.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
    }
    answer
}

/// `POST /oauth/device` (RFC 8628 §3.2).
pub(super) async fn device(identity: &Identity, request: &HouseRequest) -> HouseAnswer {
    let form = match form(request) {
        Ok(form) => form,
        Err(error) => return refused("device", &error),
    };
    let presented = cookies::presented(request);
    let answered = identity.device(&authorization(request), &form, presented).await;
    put("device", answered, |begun| granted(serde_json::to_vec(begun).unwrap_or_default()))
}

/// `POST /oauth/revoke` (RFC 7009 §2.2: 200 also for a token that is unknown).
pub(super) async fn revoke(identity: &Identity, request: &HouseRequest) -> HouseAnswer {
    let form = match form(request) {
        Ok(form) => form,
        Err(error) => return refused("revoke", &error),
    };
    let presented = cookies::presented(request);
    let answered = identity.revoke(&authorization(request), &form, presented).await;
    put("revoke", answered, |()| granted(b"{}".to_vec()))
}

/// `POST /oauth/introspect` (RFC 7662 §2).
pub(super) async fn introspect(identity: &Identity, request: &HouseRequest) -> HouseAnswer {
    let form = match form(request) {
        Ok(form) => form,
        Err(error) => return refused("introspect", &error),
    };
    let accept = request.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let presented = cookies::presented(request);
    let answered = identity.introspect(&authorization(request), &form, presented, accept).await;
    put("introspect", answered, document)
}

/// `GET /oauth/userinfo`, `POST /oauth/userinfo` (OpenID Connect Core §5.3.1).
pub(super) async fn userinfo(identity: &Identity, request: &HouseRequest) -> HouseAnswer {
    let Some(token) = request.token.as_ref() else { return page::broken() };
    let answered = identity.userinfo(token).await;
    let failed = answered.result.as_ref().err().map(|error| error.code);
    let mut answer = put("userinfo", answered, document);
    if let Some(code) = failed {
        // RFC 6750 §3, RFC 9449 §7.1: a protected resource names the scheme and the error.
        let scheme = match token.claims().cnf {
            Some(Confirmation::Key(_)) => "DPoP",
            Some(Confirmation::Certificate(_)) | None => "Bearer",
        };
        let challenge = format!("{scheme} error=\"{}\"", code.as_str());
        page::set(&mut answer.response, header::WWW_AUTHENTICATE, &challenge);
    }
    answer
}

/// `/oauth/register` (RFC 7591 §3), `/oauth/register/client?client_id=…` (RFC 7592 §2).
pub(super) async fn register(identity: &Identity, request: &HouseRequest) -> HouseAnswer {
    let query = Parameters::parse(request.query.as_deref().unwrap_or_default().as_bytes());
    let query = query.unwrap_or_default();
    let authorization = authorization(request);
    let call = Call {
        method: request.method.as_str(),
        client: match request.page {
            "registered" => Some(query.value("client_id").unwrap_or_default()),
            _ => None,
        },
        authorization: &authorization,
        body: &request.body,
    };
    let answered = identity.register(call, cookies::presented(request)).await;
    put("register", answered, |registered| {
        let body = registered.body.as_ref().map(|body| body.to_string()).unwrap_or_default();
        let mut answer = granted(body.into_bytes());
        *answer.response.status_mut() =
            http::StatusCode::from_u16(registered.status).unwrap_or(http::StatusCode::OK);
        answer
    })
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

/// An answer or an error, with what the record should say.
fn put<T>(
    event: &'static str,
    answered: Answered<T>,
    granted: impl FnOnce(&T) -> HouseAnswer,
) -> HouseAnswer {
    let mut answer = match &answered.result {
        Ok(result) => granted(result),
        Err(error) => refused(event, error),
    };
    if let Some(nonce) = &answered.nonce {
        // RFC 9449 §8: each answer may hand out the nonce for the next proof.
        page::set(&mut answer.response, HeaderName::from_static("dpop-nonce"), nonce);
    }
    answer.event = event;
    answer.caller = answered.caller;
    answer.client = answered.client;
    answer
}

fn document(document: &Document) -> HouseAnswer {
    match document {
        Document::Json(value) => granted(value.to_string().into_bytes()),
        Document::Signed { media_type, text } => {
            let mut answer = granted(text.clone().into_bytes());
            page::set(&mut answer.response, header::CONTENT_TYPE, media_type);
            answer
        }
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
