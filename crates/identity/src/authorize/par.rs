//! Pushed authorization requests (RFC 9126): the request as the client sent it, sealed into its
//! reference; no row until it is used.
//!
//! What "used once" means (RFC 9126 §4, §7.3: once, though a page may be loaded again): a reference
//! begins a login for 90 seconds, as often as the page is loaded, since nothing durable is written
//! before a factor passed. It is spent in the transaction that ends the login, together with the
//! login's own nonce: of all logins that it began, one comes to a code. So a reference that leaked
//! gets nobody a second code, and a user who reloads is not punished.

use std::sync::Arc;

use portcullis_core::client::ClientRecord;
use portcullis_core::hash::sha256;
use portcullis_core::jose::base64url;
use portcullis_core::jose::claims::Confirmation;
use portcullis_core::oauth::authorize::AuthorizationRequest;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::seal::Purpose;
use portcullis_core::web::Parameters;
use serde::{Deserialize, Serialize};

use super::ask::{CodeAsk, Spend, Spent};
use super::{Rejected, finish, judge, object, page};
use crate::desk::Desk;
use crate::login::sealed::LOGIN_S;
use crate::outcome::{Answered, Presented, Pushed};
use crate::token::client_auth::{self, Claim};
use crate::token::{binding, named};

/// What our references begin with (RFC 9126 §2.2).
pub(super) const PREFIX: &str = "urn:ietf:params:oauth:request_uri:";
/// How long a reference begins logins, seconds (FAPI 2.0 §5.3.2.2: less than 600).
pub(crate) const LIFE_S: i64 = 90;
/// Longest reference, in bytes: it travels in a query.
pub(crate) const MAX_REFERENCE: usize = 4096;
/// The path of the endpoint: what proofs shown there are for (`htu`).
const PATH: &str = "/oauth/par";

#[derive(Serialize, Deserialize)]
struct Sealed {
    ask: CodeAsk,
    expires: i64,
}

/// `POST /oauth/par`.
pub(crate) async fn answer(
    desk: &Desk,
    authorization: &[&[u8]],
    form: &Parameters,
    presented: &Presented,
) -> Answered<Pushed> {
    let mut client = named(authorization, form);
    // RFC 9126 §2: as at the token endpoint.
    let result = match client_auth::authenticate(desk, authorization, form, presented).await {
        Ok(claim) => {
            client = Some(claim.client().id.to_string());
            pushed(desk, claim, form, presented).await
        }
        Err(error) => Err(error),
    };
    Answered { result, caller: None, client, nonce: binding::nonce(desk, presented) }
}

async fn pushed(
    desk: &Desk,
    claim: Claim,
    form: &Parameters,
    presented: &Presented,
) -> Result<Pushed, OauthError> {
    match sealed(desk, claim.client(), form, presented) {
        Ok(request_uri) => {
            client_auth::spend_alone(desk, claim).await?;
            Ok(Pushed { request_uri, expires_in: LIFE_S })
        }
        Err(error) => client_auth::refuse(desk, claim, error).await,
    }
}

/// The reference of a request that passed the whole table.
fn sealed(
    desk: &Desk,
    client: &Arc<ClientRecord>,
    form: &Parameters,
    presented: &Presented,
) -> Result<String, OauthError> {
    // RFC 9126 §2.1: the endpoint MUST refuse a `request_uri`.
    if form.value("request_uri").is_some() {
        return Err(invalid("RequestUriPushed", "a pushed request has no request_uri"));
    }
    let mut ask = match form.value("request") {
        // RFC 9126 §3: beside the object only what authenticates the client counts.
        Some(text) => object::read(desk, client, text)?,
        None => CodeAsk::plain(AuthorizationRequest::from_parameters(form).map_err(|_| {
            invalid("RequestMalformed", "client_id is missing, or a parameter is too long")
        })?),
    };
    // RFC 9126 §2: the client that authenticated is the client that asks.
    if ask.request.client_id != client.id.as_str() {
        return Err(invalid("ClientOther", "client_id is not the client that authenticated"));
    }
    ask.arrival.pushed = true;
    let checked = judge(ask, client.clone(), &desk.settings, desk.now);
    let checked = checked.and_then(|checked| finish(desk, checked)).map_err(told)?;
    // Last, since judging spends the proof.
    let proven = binding::confirmation(desk, presented, PATH)?;
    let ask = checked.into_ask().ok_or_else(|| invalid("RequestMalformed", "no request"))?;
    let ask = bound(ask, proven)?;
    let sealed = Sealed { ask, expires: desk.in_seconds(LIFE_S).unix() };
    let plain = serde_json::to_vec(&sealed).unwrap_or_default();
    let reference = format!("{PREFIX}{}", desk.seal(Purpose::Par, &plain));
    // RFC 9126 §2.3: 413 for one that is too large, in the words of our errors.
    match reference.len() <= MAX_REFERENCE {
        true => Ok(reference),
        false => Err(invalid("PushedTooLarge", "the request is larger than 4 KiB when sealed")),
    }
}

/// RFC 9449 §10.1: a proof shown here names the key of the code, as `dpop_jkt` does.
fn bound(mut ask: CodeAsk, proven: Option<Confirmation>) -> Result<CodeAsk, OauthError> {
    let shown = match proven {
        Some(Confirmation::Key(thumbprint)) => thumbprint,
        // RFC 8705 §3: a certificate binds the token, at the token endpoint.
        Some(Confirmation::Certificate(_)) | None => return Ok(ask),
    };
    if ask.request.dpop_jkt.as_ref().is_some_and(|wanted| *wanted != shown) {
        return Err(invalid("DpopKeyOther", "dpop_jkt is not the key of the DPoP proof"));
    }
    ask.request.dpop_jkt = Some(shown);
    Ok(ask)
}

/// The request behind a reference that came to the authorization endpoint.
///
/// # Errors
/// A page: nobody is proven yet to send the browser to.
pub(super) fn open(
    desk: &Desk,
    client_id: Option<&str>,
    reference: &str,
) -> Result<CodeAsk, Rejected> {
    let forged = || page("RequestUriForged", "The app sent you with a link that is not ours.");
    let text = reference.strip_prefix(PREFIX).ok_or_else(forged)?;
    let plain = desk.shared.sealer.open(Purpose::Par, text).map_err(|_| forged())?;
    let Sealed { mut ask, expires } =
        serde_json::from_slice(plain.expose()).map_err(|_| forged())?;
    // RFC 9126 §2.2: bound to the client that pushed it; RFC 9101 §6.3: the client_id beside it MUST
    // be the same.
    if client_id != Some(ask.request.client_id.as_str()) {
        let words = "The app sent you with a link that another app made.";
        return Err(page("RequestUriOfAnotherClient", words));
    }
    if desk.now.unix() >= expires {
        let words = "This sign-in waited for too long. Go back to the app and start again.";
        return Err(page("RequestUriExpired", words));
    }
    // The use is remembered for as long as any login that it began may last.
    let until = expires.saturating_add(LOGIN_S.cast_signed());
    let mark = base64url::encode(&sha256(reference.as_bytes()));
    ask.spends.push(Spend { what: Spent::Reference, mark, until });
    Ok(ask)
}

/// What would be a page for a browser is an error for a machine (RFC 9126 §2.3).
fn told(rejected: Rejected) -> OauthError {
    match rejected {
        Rejected::Page(refusal) => invalid(refusal.rule, refusal.words),
        Rejected::Return(returned) => returned.error,
    }
}

fn invalid(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidRequest, rule, description)
}

#[cfg(test)]
mod tests;
