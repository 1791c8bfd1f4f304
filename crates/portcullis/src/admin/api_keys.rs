//! API keys of service clients: made, listed, revoked. A key is shown once; what is kept is its id.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use ipnet::IpNet;
use portcullis_core::api_key;
use portcullis_core::client::{ClientRecord, ClientType};
use portcullis_core::id::Id;
use portcullis_core::scope::Scopes;
use portcullis_store::api_keys::ApiKeyRecord;
use portcullis_store::database::StoreFault;
use serde_json::{Value, json};

use super::Office;

/// How long a key lives unless said otherwise, days.
pub(crate) const USUAL_DAYS: u32 = 90;
/// And at most.
pub(crate) const MOST_DAYS: u32 = 365;
/// Most networks of a key.
const MAX_NETWORKS: usize = 16;

/// What is asked for.
pub(super) struct Asked {
    pub(super) client: String,
    pub(super) scopes: String,
    pub(super) from: Vec<String>,
    pub(super) days: u32,
}

/// `client key add`.
pub(super) async fn add(office: &Office<'_>, asked: Asked) -> anyhow::Result<Value> {
    let client = service(office, &asked.client).await?;
    let scopes = Scopes::parse(&asked.scopes)?;
    if scopes.is_empty() {
        bail!("a key needs scopes: add --scopes \"a b\"");
    }
    if !scopes.is_subset(&client.scopes) {
        bail!("`{}` may not be granted all of `{scopes}`: it has `{}`", client.id, client.scopes);
    }
    if !(1..=MOST_DAYS).contains(&asked.days) {
        bail!("a key lives 1 to {MOST_DAYS} days");
    }
    if asked.from.len() > MAX_NETWORKS {
        bail!("at most {MAX_NETWORKS} networks");
    }
    for network in &asked.from {
        let _: IpNet = network
            .parse()
            .with_context(|| format!("`{network}` is not a network: write 10.0.0.0/8"))?;
    }
    let id = Id::mint(office.entropy);
    let text = api_key::mint(office.sealer, &id).context("there is no key to make it with")?;
    let record = ApiKeyRecord {
        id: id.clone(),
        client: client.id.clone(),
        scopes,
        from: asked.from,
        made: office.now,
        expires: office.now.after(Duration::from_secs(86_400 * u64::from(asked.days))),
        revoked: None,
        used: None,
    };
    let (kept, now) = (record.clone(), office.now);
    let added: Result<(), StoreFault> =
        office.store.transact(async move |tx| tx.add_api_key(&kept, now).await).await;
    added.map_err(|fault| match fault {
        StoreFault::TooMuch(_) => anyhow!(
            "`{}` has two live keys already: revoke one with `portcullis client key revoke ID`",
            client.id
        ),
        other => anyhow!(other),
    })?;
    Ok(json!({
        "id": id.as_str(),
        "client": client.id.as_str(),
        "key": text.expose(),
        "expires": record.expires.to_string(),
    }))
}

/// `client key list`.
pub(super) async fn list(office: &Office<'_>, client: &str) -> anyhow::Result<Value> {
    let id = service(office, client).await?.id.clone();
    let found: Result<Vec<ApiKeyRecord>, StoreFault> =
        office.store.read(async move |tx| tx.api_keys_of(&id).await).await;
    let now = office.now;
    let rows = found?.into_iter().map(|key| {
        let state = match (key.revoked, key.expires > now) {
            (Some(_), _) => "revoked",
            (None, true) => "live",
            (None, false) => "expired",
        };
        json!({
            "id": key.id.as_str(),
            "state": state,
            "scopes": key.scopes.to_string(),
            "from": key.from,
            "made": key.made.to_string(),
            "expires": key.expires.to_string(),
            "used": key.used.map(|used| used.to_string()),
        })
    });
    Ok(Value::Array(rows.collect()))
}

/// `client key revoke`.
pub(super) async fn revoke(office: &Office<'_>, id: &str) -> anyhow::Result<Value> {
    // The key itself says its id too: whoever found one in a log has nothing else.
    let id = id.strip_prefix("pk_").and_then(|key| key.split('.').next()).unwrap_or(id);
    let (key, now) = (Id::parse(id)?, office.now);
    let done: Result<bool, StoreFault> =
        office.store.transact(async move |tx| tx.revoke_api_key(&key, now).await).await;
    if !done? {
        bail!("there is no live key `{id}`; `portcullis client key list CLIENT` shows all");
    }
    Ok(json!({ "id": id, "revoked": now.to_string() }))
}

/// A service client, of the file or of the store.
async fn service(office: &Office<'_>, id: &str) -> anyhow::Result<std::sync::Arc<ClientRecord>> {
    let of_file = office.facts.registered.iter().find(|client| client.id.as_str() == id).cloned();
    let found = match of_file {
        Some(client) => Some(client),
        None => {
            let stored = super::stored_clients(office.store).await?;
            stored.into_iter().find(|client| client.id.as_str() == id).map(Into::into)
        }
    };
    let client = found.context("there is no such client; `portcullis client list` shows all")?;
    if client.kind != ClientType::Service {
        bail!("`{id}` is no service: only software that speaks for itself has API keys");
    }
    Ok(client)
}
