//! Clients that nobody registered: the id is the https address of a document that says what the
//! client is (draft-ietf-oauth-client-id-metadata-document).
//!
//! [`find`] is how every endpoint finds a client, registered or not. A document is fetched through
//! the one guarded fetcher, judged like a registration, and kept for a while; what it may have is
//! what the file allows strangers. Whoever asks for consent shows the host of the address, the one
//! thing about such a client that is proven. A code is bound to the document as it was read then,
//! by [`digest`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_core::client::{ClientRecord, Registered};
use portcullis_core::fetch::{FetchFault, FetchRequest, Fetched, NamedBy};
use portcullis_core::hash::sha256;
use portcullis_core::id::{self, Id};
use portcullis_core::jose::{base64url, jws};
use portcullis_core::limit::{Bucket, Per, Rate};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_core::web::{Address, Redirect};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::parts::Shared;
use crate::registration::metadata::Metadata;
use crate::settings::{Settings, Strangers};

/// Largest document (draft §6.6: 5 KB).
const MAX_BYTES: usize = 5 * 1024;
/// From connect to the last byte: a person waits for it.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Most addresses remembered.
const MAX_KEPT: usize = 1_000;
/// A document is kept as long as its answer says, within these bounds (draft §4.4).
const LEAST_KEPT: Duration = Duration::from_secs(300);
const MOST_KEPT: Duration = Duration::from_secs(86_400);
/// What is none is asked for again after so long. Draft §4.4 would have errors not kept at all: then
/// whoever names a dead address would have us fetch it at each of his requests.
const NONE_KEPT: Duration = Duration::from_secs(60);
/// Fetches of one host: whoever makes up addresses there is no help in a flood against it.
const HOST_RATE: Rate =
    Rate { count: 10, period: Duration::from_secs(60), burst: 10, per: Per::Caller };
/// Fetches of all.
const ALL_RATE: Rate =
    Rate { count: 300, period: Duration::from_secs(60), burst: 60, per: Per::Caller };

/// The documents read of late; one entry per address, whoever comes first fetches and the others
/// wait for it.
#[derive(Default)]
pub(crate) struct Documents(Mutex<HashMap<Id<id::Client>, Arc<Entry>>>);

#[derive(Default)]
struct Entry {
    /// Until when it is kept, Unix time; 0 while it is fetched for the first time.
    until: AtomicI64,
    kept: tokio::sync::Mutex<Option<Kept>>,
}

#[derive(Clone)]
struct Kept {
    until: Timestamp,
    read: Result<Arc<Metadata>, OauthError>,
}

/// Finds a client by what came as `client_id`: one that is registered, or one whose document the
/// file lets in.
///
/// # Errors
/// `invalid_client`: `ClientUnknown`, or the rule that its document breaks;
/// `temporarily_unavailable` when it cannot be fetched now.
pub(crate) async fn find(desk: &Desk, client_id: &str) -> Result<Arc<ClientRecord>, OauthError> {
    let unknown = || refused("ClientUnknown", "the client is not known here");
    let id = Id::<id::Client>::parse(client_id).map_err(|_| unknown())?;
    if let Some(registered) = desk.settings.clients.get(&id) {
        return Ok(registered.clone());
    }
    let strangers = desk.settings.documents.as_ref().ok_or_else(unknown)?;
    let address = address(client_id)?;
    allowed(strangers, &address)?;
    let metadata = desk.shared.documents.read(desk, &id, &address).await?;
    Ok(Arc::new(record(&metadata, id, strangers)))
}

/// The client of a record that was found before, by the settings in force at this moment: asked in
/// the transaction that mints. `None`: it was removed, or the file lets no such stranger in any
/// longer.
pub(crate) fn in_force(shared: &Shared, record: &Arc<ClientRecord>) -> Option<Arc<ClientRecord>> {
    let settings = shared.in_force();
    if let Some(registered) = settings.clients.get(&record.id) {
        return Some(registered.clone());
    }
    if record.registered != Registered::Document {
        return None;
    }
    let strangers = lets_in(&settings, &record.id)?;
    // A scope that strangers lost since is lost here too.
    let scopes = record.scopes.intersection(&strangers.scopes);
    Some(match scopes == record.scopes {
        true => record.clone(),
        false => Arc::new(with_scopes(record, scopes)),
    })
}

/// What a client may have whose id is an address; `None` where the settings do not let it in.
pub(crate) fn lets_in<'s>(settings: &'s Settings, id: &Id<id::Client>) -> Option<&'s Strangers> {
    let strangers = settings.documents.as_ref()?;
    allowed(strangers, &address(id.as_str()).ok()?).ok().map(|()| strangers)
}

/// What a code is bound to, for a client that is its document: redirects and keys as they were
/// read. `None` for registered ones, which their operator changes knowingly.
pub(crate) fn digest(client: &ClientRecord) -> Option<String> {
    if client.registered != Registered::Document {
        return None;
    }
    let redirects: Vec<&str> = client.redirects.iter().map(Redirect::as_str).collect();
    let keys = client.keys().map(portcullis_core::jose::jwk::JwkSet::to_json);
    let said = json!([client.id.as_str(), redirects, keys]);
    Some(base64url::encode(&sha256(said.to_string().as_bytes())))
}

/// The host that a client's document came from, for people (draft §6.4): the whole of it, as ASCII,
/// so that no letter looks like another.
pub(crate) fn host(client: &ClientRecord) -> Option<String> {
    let document = client.registered == Registered::Document;
    let address = document.then(|| Address::parse(client.id.as_str()).ok()).flatten();
    address.map(|address| address.authority())
}

/// Draft §3: https, a path, no dot segment, no fragment, no user info; here also no query, no second
/// spelling of the same address, and a host that is a public name.
fn address(client_id: &str) -> Result<Address, OauthError> {
    let unfit = || refused("DocumentAddressUnfit", "this client_id is no address of a document");
    // The rules for redirects are these: dot segments in every spelling, user info, upper case.
    Redirect::parse(client_id).map_err(|_| unfit())?;
    let address = Address::parse(client_id).map_err(|_| unfit())?;
    // Draft §3: compared as text, so there must be one text per address.
    let one_spelling = client_id.strip_suffix('/').unwrap_or(client_id) == address.to_string();
    // A name ends in letters (RFC 3696 §2); what ends in digits is read as an address somewhere.
    let last = address.host().rsplit('.').next().unwrap_or_default();
    let public = address.host().contains('.')
        && address.host().parse::<IpAddr>().is_err()
        && last.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && !matches!(last, "localhost" | "local" | "internal");
    match one_spelling && public && !client_id.contains('?') {
        true => Ok(address),
        false => Err(unfit()),
    }
}

fn allowed(strangers: &Strangers, address: &Address) -> Result<(), OauthError> {
    let hosts = &strangers.hosts;
    let listed = hosts.iter().any(|host| host.eq_ignore_ascii_case(address.host()));
    match hosts.is_empty() || listed {
        true => Ok(()),
        false => Err(refused("DocumentHostNotAllowed", "clients of this host are not let in")),
    }
}

/// What it may have: what it asks for itself, of what the file gives strangers.
fn record(metadata: &Metadata, id: Id<id::Client>, strangers: &Strangers) -> ClientRecord {
    let scopes = match &metadata.scopes {
        Some(asked) => asked.intersection(&strangers.scopes),
        None => strangers.scopes.clone(),
    };
    ClientRecord {
        registered: Registered::Document,
        // A stranger has no say in payments of a certain amount, and is told of no logout.
        details: Vec::new(),
        back_channel_logout: None,
        ..metadata.record(id, scopes)
    }
}

fn with_scopes(record: &ClientRecord, scopes: Scopes) -> ClientRecord {
    let metadata = Metadata {
        kind: record.kind,
        redirects: record.redirects.clone(),
        keys: record.keys().cloned(),
        grants: record.grants.clone(),
        scopes: None,
        name: record.name.clone(),
        post_logout: record.post_logout.clone(),
        back_channel_logout: None,
        details: Vec::new(),
    };
    ClientRecord { registered: Registered::Document, ..metadata.record(record.id.clone(), scopes) }
}

impl Documents {
    /// The document at an address, as kept or fetched now.
    async fn read(
        &self,
        desk: &Desk,
        id: &Id<id::Client>,
        address: &Address,
    ) -> Result<Arc<Metadata>, OauthError> {
        let entry = self.entry(desk, id)?;
        // INVARIANT: one fetch per address at a time; those that come meanwhile wait for its end.
        let mut kept = entry.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| desk.now < kept.until) {
            return kept.read.clone();
        }
        admit(desk, address)?;
        let fetched = desk.shared.fetch.fetch(request(id)).await;
        let (read, life) = match fetched {
            Ok(fetched) => {
                let life = fetched.max_age.unwrap_or(LEAST_KEPT).clamp(LEAST_KEPT, MOST_KEPT);
                (judge(id, &fetched), life)
            }
            Err(fault) => (Err(unreached(&fault)), NONE_KEPT),
        };
        let life = if read.is_ok() { life } else { NONE_KEPT };
        let now = Kept { until: desk.now.after(life), read: read.map(Arc::new) };
        entry.until.store(now.until.unix(), Ordering::Relaxed);
        *kept = Some(now.clone());
        now.read
    }

    /// The entry of an address; the map never grows past its bound.
    fn entry(&self, desk: &Desk, id: &Id<id::Client>) -> Result<Arc<Entry>, OauthError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = kept.get(id) {
            return Ok(entry.clone());
        }
        if kept.len() >= MAX_KEPT {
            let now = desk.now.unix();
            let waits = |entry: &Arc<Entry>| Arc::strong_count(entry) > 1;
            kept.retain(|_, entry| waits(entry) || entry.until.load(Ordering::Relaxed) > now);
            // What is over soonest goes first: the addresses where nothing was.
            let rest = kept.iter().filter(|(_, entry)| !waits(entry));
            let soonest = rest.min_by_key(|(_, entry)| entry.until.load(Ordering::Relaxed));
            let soonest = soonest.map(|(id, _)| id.clone());
            if kept.len() >= MAX_KEPT {
                let id = soonest.ok_or_else(crowded)?;
                kept.remove(&id);
            }
        }
        Ok(kept.entry(id.clone()).or_default().clone())
    }
}

/// Charges a fetch.
fn admit(desk: &Desk, address: &Address) -> Result<(), OauthError> {
    let host = Bucket {
        limit: "document_host",
        position: 0,
        rate: &HOST_RATE,
        subject: address.host().as_bytes(),
    };
    let all = Bucket { limit: "document", position: 0, rate: &ALL_RATE, subject: b"" };
    let (counters, now) = (&desk.shared.counters, desk.now);
    match counters.charge(host, 1, now).allowed && counters.charge(all, 1, now).allowed {
        true => Ok(()),
        false => Err(crowded()),
    }
}

fn request(id: &Id<id::Client>) -> FetchRequest {
    FetchRequest {
        url: id.to_string(),
        // Draft §6.5: public addresses alone, judged on the connected socket, no redirect followed.
        named_by: NamedBy::Stranger,
        post: None,
        authorization: None,
        accept: "application/json",
        max_bytes: MAX_BYTES,
        timeout: TIMEOUT,
    }
}

/// Draft §4: 200, JSON, and a document that names the very address that it stands at.
fn judge(id: &Id<id::Client>, fetched: &Fetched) -> Result<Metadata, OauthError> {
    if fetched.status != 200 {
        return Err(refused("DocumentNotThere", "the client's document is not at its address"));
    }
    if fetched.content_type.as_deref() != Some("application/json") {
        return Err(refused("DocumentNotJson", "the client's document is not application/json"));
    }
    let members = jws::strict_object(&fetched.body)
        .map_err(|_| refused("DocumentMalformed", "the client's document is not a JSON object"))?;
    // Draft §4.1: simple string comparison.
    if members.get("client_id").and_then(Value::as_str) != Some(id.as_str()) {
        let description = "the client's document names another client_id";
        return Err(refused("DocumentOfAnotherClient", description));
    }
    let read = Metadata::read(&members);
    read.map_err(|error| OauthError { code: ErrorCode::InvalidClient, ..error })
}

fn unreached(fault: &FetchFault) -> OauthError {
    tracing::debug!(%fault, "a client's document was not fetched");
    let later = |rule| {
        let description = "the client's document cannot be fetched now";
        OauthError::new(ErrorCode::TemporarilyUnavailable, rule, description)
    };
    match fault {
        FetchFault::AddressUnfit(_) | FetchFault::AddressForbidden(_) => {
            refused("DocumentAddressForbidden", "the client's document is at no public address")
        }
        FetchFault::TooLarge(_) => {
            refused("DocumentTooLarge", "the client's document is too large")
        }
        FetchFault::Unreachable(_) => later("DocumentUnreachable"),
        FetchFault::Slow(_) => later("DocumentSlow"),
        FetchFault::Crowded => later("DocumentsCrowded"),
    }
}

fn crowded() -> OauthError {
    let description = "too many clients' documents are fetched just now; try again in a moment";
    OauthError::new(ErrorCode::TemporarilyUnavailable, "DocumentsCrowded", description)
}

fn refused(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidClient, rule, description)
}

#[cfg(test)]
mod tests;
