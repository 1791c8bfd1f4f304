//! Dynamic client registration (RFC 7591) and its management (RFC 7592): off unless the file says so,
//! and then for holders of the initial access token alone.
//!
//! What a client says of itself is judged by [`metadata`], with the rules of the file; what it may
//! have at most is the file's. The row is what the binary reads at its next start or reload; until
//! then the settings in force are swapped here, so that a client works at once and one that is
//! removed stops at once.

pub(crate) mod metadata;

use std::sync::{Arc, PoisonError};

use portcullis_core::bearer::Plain;
use portcullis_core::client::{ClientRecord, ClientType, GrantType, Registered};
use portcullis_core::hash::{same, sha256};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::jws;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::revocation::RevocationKind;
use portcullis_core::web::Redirect;
use portcullis_store::clients::{RegistrationToken, StoredClient};
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::revocations::LONGEST_TOKEN;
use serde_json::{Map, Value, json};

use crate::desk::Desk;
use crate::login::throttle::Attempt;
use crate::outcome::{Answered, Presented, RegistrationAnswer};
use crate::settings::{SelfRegistration, Settings};
use crate::token::Aborted;
use metadata::Metadata;

/// Longest body, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// What is asked.
pub struct Call<'c> {
    /// The method.
    pub method: &'c str,
    /// The client, from the path, for RFC 7592.
    pub client: Option<&'c str>,
    /// Each `Authorization` value.
    pub authorization: &'c [&'c [u8]],
    /// The body: client metadata as JSON.
    pub body: &'c [u8],
}

/// Answers it.
pub(crate) async fn answer(
    desk: &Desk,
    call: Call<'_>,
    presented: &Presented,
) -> Answered<RegistrationAnswer> {
    let named = call.client.map(|client| format!("?{client}"));
    let result = answered(desk, &call).await;
    if result.as_ref().is_err_and(|error| error.code == ErrorCode::InvalidToken) {
        // `5-limits` point 6: a forged token charges its address.
        let _ = Attempt::at_client(desk, presented.ip).charge();
    }
    match result {
        Ok((id, answer)) => {
            Answered { result: Ok(answer), caller: None, client: Some(id.to_string()), nonce: None }
        }
        Err(error) => Answered { result: Err(error), caller: None, client: named, nonce: None },
    }
}

type Answer = Result<(Id<id::Client>, RegistrationAnswer), OauthError>;

async fn answered(desk: &Desk, call: &Call<'_>) -> Answer {
    let rules = desk.settings.registration.as_ref().ok_or_else(|| {
        let (code, rule) = (ErrorCode::RegistrationNotSupported, "RegistrationOff");
        OauthError::new(code, rule, "clients do not register themselves here")
    })?;
    let token = bearer(call.authorization)?;
    match (call.method, call.client) {
        ("POST", None) => {
            let _turn = desk.shared.registering.lock().await;
            register(desk, rules, token, call.body).await
        }
        ("GET", Some(client)) => {
            let (id, token) = authenticated(desk, client, token).await?;
            let record = desk.settings.clients.get(&id).ok_or_else(unauthorized)?;
            let body = described(desk, record, &token);
            Ok((id, RegistrationAnswer { status: 200, body: Some(body) }))
        }
        // INVARIANT: row and settings change together, one client at a time, and no reload between.
        ("PUT", Some(client)) => {
            let _turn = desk.shared.registering.lock().await;
            let (id, token) = authenticated(desk, client, token).await?;
            replace(desk, rules, (id, &token), call.body).await
        }
        ("DELETE", Some(client)) => {
            let _turn = desk.shared.registering.lock().await;
            let (id, _) = authenticated(desk, client, token).await?;
            remove(desk, id).await
        }
        _ => {
            let description = "POST registers; GET, PUT and DELETE are for one client";
            Err(OauthError::new(ErrorCode::InvalidRequest, "MethodUnsupported", description))
        }
    }
}

/// RFC 7591 §3.1.
async fn register(desk: &Desk, rules: &SelfRegistration, token: &str, body: &[u8]) -> Answer {
    // RFC 7591 §3: the initial access token; compared in constant time.
    if !same(&sha256(token.as_bytes()), &rules.token_digest) {
        return Err(unauthorized());
    }
    let metadata = Metadata::read(&members(body)?)?;
    let minted = Id::<id::Token>::mint(&*desk.shared.entropy);
    // A prefix of our own: a client id may not begin as a user's does.
    let id = Id::parse(&format!("c_{}", minted.as_str().trim_start_matches("t_")));
    let id: Id<id::Client> = id.map_err(|_| unauthorized())?;
    let record = record(&metadata, id.clone(), rules);
    let client = StoredClient {
        registered: Registered::Itself,
        ..StoredClient::new(id.clone(), at_rest(&record))
    };
    let (now, token) = (desk.now, Plain::<RegistrationToken>::mint(&*desk.shared.entropy));
    let digest = token.digest();
    let work = async move |tx: &Tx| -> Result<(), StoreFault> {
        tx.add_client(&client, now).await?;
        tx.keep_registration_token(&client.id, &digest).await
    };
    desk.shared.store.transact(work).await.map_err(failed)?;
    let record = Arc::new(record);
    let body = described(desk, &record, &token);
    change(desk, |settings| {
        settings.clients.insert(record.id.clone(), record.clone());
    });
    Ok((id, RegistrationAnswer { status: 201, body: Some(body) }))
}

/// RFC 7592 §2.2: the whole metadata anew; what it leaves out is gone.
async fn replace(
    desk: &Desk,
    rules: &SelfRegistration,
    (id, token): (Id<id::Client>, &Plain<RegistrationToken>),
    body: &[u8],
) -> Answer {
    let members = members(body)?;
    // RFC 7592 §2.2: the client_id MUST be there, and be its own.
    if members.get("client_id").and_then(Value::as_str) != Some(id.as_str()) {
        let description = "client_id must be the client's own";
        let code = ErrorCode::InvalidClientMetadata;
        return Err(OauthError::new(code, "ClientIdOther", description));
    }
    let record = Arc::new(record(&Metadata::read(&members)?, id.clone(), rules));
    let before = desk.shared.in_force().clients.get(&id).cloned();
    // INVARIANT: the settings are swapped before the revocation commits: whoever mints after it sees
    // what was taken away.
    change(desk, |settings| {
        settings.clients.insert(id.clone(), record.clone());
    });
    let (at_rest, now, changed) = (at_rest(&record), desk.now, id.clone());
    let work = async move |tx: &Tx| -> Result<(), StoreFault> {
        tx.set_client_registration(&changed, &at_rest).await?;
        let until = now.after(LONGEST_TOKEN);
        tx.revoke(RevocationKind::Client, changed.as_str(), until).await.map(drop)
    };
    undone_on_failure(desk, &id, before, desk.shared.store.transact(work).await)?;
    let body = described(desk, &record, token);
    Ok((id, RegistrationAnswer { status: 200, body: Some(body) }))
}

/// RFC 7592 §2.3: the client goes with all that it holds.
async fn remove(desk: &Desk, id: Id<id::Client>) -> Answer {
    let before = desk.shared.in_force().clients.get(&id).cloned();
    change(desk, |settings| {
        settings.clients.remove(&id);
    });
    let (removed, now) = (id.clone(), desk.now);
    let work = async move |tx: &Tx| tx.remove_client(&removed, now).await;
    undone_on_failure(desk, &id, before, desk.shared.store.transact(work).await)?;
    Ok((id, RegistrationAnswer { status: 204, body: None }))
}

/// Takes a change of the settings back whose transaction failed.
fn undone_on_failure(
    desk: &Desk,
    id: &Id<id::Client>,
    before: Option<Arc<ClientRecord>>,
    result: Result<(), StoreFault>,
) -> Result<(), OauthError> {
    result.map_err(|fault| {
        change(desk, |settings| match before {
            Some(record) => drop(settings.clients.insert(id.clone(), record)),
            None => drop(settings.clients.remove(id)),
        });
        failed(fault)
    })
}

/// Swaps the settings in force for the same with a change.
fn change(desk: &Desk, by: impl FnOnce(&mut Settings)) {
    let mut settings = desk.shared.settings.write().unwrap_or_else(PoisonError::into_inner);
    let mut changed = Settings::clone(&settings);
    by(&mut changed);
    *settings = Arc::new(changed);
}

/// The client of a registration access token (RFC 7592 §2), if it is the one of the path.
async fn authenticated(
    desk: &Desk,
    client: &str,
    token: &str,
) -> Result<(Id<id::Client>, Plain<RegistrationToken>), OauthError> {
    let token = Plain::<RegistrationToken>::presented(token).ok_or_else(unauthorized)?;
    let digest = token.digest();
    let reading = async move |tx: &Tx| tx.client_by_registration_token(&digest).await;
    let found: Result<Option<StoredClient>, StoreFault> = desk.shared.store.read(reading).await;
    // RFC 7592 §2: a token of another client, or of one that is gone, is answered alike.
    let own = |found: &StoredClient| {
        found.id.as_str() == client
            && found.disabled.is_none()
            && found.registered == Registered::Itself
    };
    let found = found.map_err(failed)?.filter(own).ok_or_else(unauthorized)?;
    Ok((found.id, token))
}

/// RFC 6750 §2.1: one field, one bearer token.
fn bearer<'a>(authorization: &[&'a [u8]]) -> Result<&'a str, OauthError> {
    let [field] = authorization else { return Err(unauthorized()) };
    let text = std::str::from_utf8(field).map_err(|_| unauthorized())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(unauthorized)?;
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Ok(token.trim_matches(' ')),
        false => Err(unauthorized()),
    }
}

fn members(body: &[u8]) -> Result<Map<String, Value>, OauthError> {
    let malformed = |description| {
        OauthError::new(ErrorCode::InvalidClientMetadata, "MetadataMalformed", description)
    };
    if body.len() > MAX_BODY {
        return Err(malformed("the metadata is larger than 16 KiB"));
    }
    jws::strict_object(body).map_err(|_| malformed("the metadata is not a JSON object"))
}

/// The client, with no more than the file gives those who register themselves. RFC 7591 §2: what is
/// given instead stands in the answer.
fn record(metadata: &Metadata, id: Id<id::Client>, rules: &SelfRegistration) -> ClientRecord {
    let scopes = match &metadata.scopes {
        Some(asked) => asked.intersection(&rules.scopes),
        None => rules.scopes.clone(),
    };
    ClientRecord {
        registered: Registered::Itself,
        // Who may ask for which details is an operator's word.
        details: Vec::new(),
        ..metadata.record(id, scopes)
    }
}

/// The registration as the binary reads it (`admin::registration::Registration`), member by member:
/// one that is unknown there would keep the server from starting. Who registered it is a column.
fn at_rest(record: &ClientRecord) -> String {
    let mut said = json!({
        "kind": kind(record),
        "redirects": texts(&record.redirects),
        "scopes": record.scopes.to_string(),
        "keys": record.keys().map(JwkSet::to_json),
        "bearer_tokens": null,
        "no_par": null,
        "grants": words(record),
        "post_logout": texts(&record.post_logout),
    });
    let logout = record.back_channel_logout.as_ref().map(ToString::to_string);
    let name = record.name.clone();
    for (member, value) in [("name", name), ("back_channel_logout", logout)] {
        if let (Some(members), Some(value)) = (said.as_object_mut(), value) {
            members.insert(member.to_owned(), value.into());
        }
    }
    said.to_string()
}

/// RFC 7591 §3.2.1, RFC 7592 §3: all that is registered. The registration access token is in the
/// answer of each, as §3 demands: the new one, or the very one that the request just presented; it
/// is kept as a digest alone.
fn described(desk: &Desk, record: &ClientRecord, token: &Plain<RegistrationToken>) -> Value {
    let at = format!("/oauth/register/client?client_id={}", record.id);
    let method = if record.keys().is_some() { "private_key_jwt" } else { "none" };
    let application = if record.kind == ClientType::Native { "native" } else { "web" };
    json!({
        "client_id": record.id.as_str(),
        "client_name": record.name.as_deref().unwrap_or(record.id.as_str()),
        "redirect_uris": texts(&record.redirects),
        "post_logout_redirect_uris": texts(&record.post_logout),
        "application_type": application,
        "token_endpoint_auth_method": method,
        "grant_types": words(record),
        "response_types": ["code"],
        "scope": record.scopes.to_string(),
        "jwks": record.keys().map_or(json!({"keys": []}), JwkSet::to_json),
        "registration_client_uri": format!("{}{at}", desk.settings.issuer_text),
        "registration_access_token": token.reveal(),
    })
}

fn kind(record: &ClientRecord) -> &'static str {
    match record.kind {
        ClientType::Spa => "spa",
        ClientType::Native => "native",
        ClientType::Web => "web",
        ClientType::Service => "service",
        ClientType::Device => "device",
    }
}

fn texts(redirects: &[Redirect]) -> Vec<&str> {
    redirects.iter().map(Redirect::as_str).collect()
}

fn words(record: &ClientRecord) -> Vec<&'static str> {
    record.grants.iter().copied().map(GrantType::as_str).collect()
}

/// One answer for every token that is not the right one.
fn unauthorized() -> OauthError {
    let description = "the token of this request is not one that may do this";
    OauthError::new(ErrorCode::InvalidToken, "RegistrationTokenWrong", description)
}

fn failed(fault: StoreFault) -> OauthError {
    match fault {
        StoreFault::TooMuch(_) => {
            let (code, rule) = (ErrorCode::TemporarilyUnavailable, "ClientsTooMany");
            OauthError::new(code, rule, "too many clients are registered")
        }
        StoreFault::Missing(_) => unauthorized(),
        fault => OauthError::from(Aborted::Store(fault)),
    }
}

#[cfg(test)]
mod tests;
