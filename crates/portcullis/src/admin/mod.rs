//! Administration: what the command line asks of a running server over its Unix socket, or does
//! itself when none runs. One closed set of commands, one function that carries them out.

pub(crate) mod api_keys;
mod labels;
mod registration;
mod sessions;
mod signing_keys;
pub(crate) mod socket;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use portcullis_core::client::{ClientRecord, ClientType, Profile};
use portcullis_core::entropy::Entropy;
use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::Attribute;
use portcullis_core::seal::Sealer;
use portcullis_core::time::Timestamp;
use portcullis_identity::account::{self, Making, NewUser, SecondFactorWish};
use portcullis_identity::server::Identity;
use portcullis_policy::access::AttributeType;
use portcullis_store::clients::StoredClient;
use portcullis_store::database::{Store, StoreFault};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Config, Purpose};

pub(crate) use registration::Registration;

/// Most users in one listing.
const PAGE: usize = 1_000;

/// A command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Command {
    /// `user add`.
    UserAdd {
        /// Login name.
        login: String,
        /// Shown name.
        name: String,
        /// Roles.
        roles: Vec<String>,
        /// Groups.
        groups: Vec<String>,
        /// Declared attributes, as typed.
        attributes: BTreeMap<String, String>,
    },
    /// `user list`.
    UserList,
    /// `user disable`.
    UserDisable {
        /// Login name.
        login: String,
    },
    /// `user grant`, `user revoke`.
    UserLabels {
        /// Login name.
        login: String,
        /// `role:x`, `group:x`.
        labels: Vec<String>,
        /// Whether they are given or taken away.
        change: LabelChange,
    },
    /// `client add`.
    ClientAdd {
        /// The client's id.
        id: String,
        /// What it is.
        registration: Box<Registration>,
    },
    /// `client list`.
    ClientList,
    /// `client key add`.
    ClientKeyAdd {
        /// The client.
        client: String,
        /// Some of its scopes.
        scopes: String,
        /// Networks that it may come from.
        from: Vec<String>,
        /// How long it lives.
        days: u32,
    },
    /// `client key list`.
    ClientKeyList {
        /// The client.
        client: String,
    },
    /// `client key revoke`.
    ClientKeyRevoke {
        /// The key's id.
        id: String,
    },
    /// `session list`.
    SessionList {
        /// One user's, by login name.
        login: Option<String>,
    },
    /// `session end`.
    SessionEnd {
        /// One session.
        id: Option<String>,
        /// All of a user's, by login name.
        login: Option<String>,
    },
    /// `consent list`.
    ConsentList {
        /// Login name.
        login: String,
    },
    /// `consent withdraw`.
    ConsentWithdraw {
        /// Login name.
        login: String,
        /// The client.
        client: String,
    },
    /// `signing-key list`.
    SigningKeyList,
    /// `signing-key rotate`.
    SigningKeyRotate {
        /// Without waiting for the next keys to have been published for a day.
        now: bool,
    },
    /// `signing-key kill`.
    SigningKeyKill {
        /// The key.
        kid: String,
    },
    /// `reload --wait`.
    Reload,
}

/// What becomes of a user's roles and groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LabelChange {
    /// They are given.
    Grant,
    /// They are taken away.
    Revoke,
}

/// What carrying out a command needs.
pub(crate) struct Office<'o> {
    /// The store.
    pub store: &'o Store,
    /// Seals new factors.
    pub sealer: &'o Sealer,
    /// Randomness.
    pub entropy: &'o dyn Entropy,
    /// The time.
    pub now: Timestamp,
    /// What the file names.
    pub facts: Arc<Facts>,
    /// The authorization server, when one runs.
    pub identity: Option<&'o Identity>,
}

/// What the file names, and commands may name too.
pub(crate) struct Facts {
    /// Its clients, whose ids the store may not repeat.
    pub registered: Vec<Arc<ClientRecord>>,
    /// Declared attributes and their types.
    pub attributes: Vec<(String, AttributeType)>,
    /// Roles.
    pub roles: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Scopes that some client may be granted.
    pub scopes: Vec<String>,
    /// How long a signing key signs.
    pub key_life: Duration,
}

impl Facts {
    /// Of a file.
    pub(crate) fn of(config: &Config) -> Facts {
        Facts {
            registered: config.clients.clone(),
            attributes: config.identity.attributes.clone(),
            roles: config.identity.roles.clone(),
            groups: config.identity.groups.clone(),
            scopes: config.vocabulary().scopes.clone(),
            key_life: config.identity.key_life,
        }
    }
}

/// Carries out a command; the answer is JSON, printed by the command line in words or as it is.
///
/// # Errors
/// What is wrong with the command, and what to do.
pub(crate) async fn perform(office: &Office<'_>, command: Command) -> anyhow::Result<Value> {
    match command {
        Command::UserAdd { login, name, roles, groups, attributes } => {
            let attributes = typed(office, attributes)?;
            declared("role", &office.facts.roles, &roles)?;
            declared("group", &office.facts.groups, &groups)?;
            let new = NewUser { login, name, roles, groups, attributes, ..NewUser::default() };
            user_add(office, new).await
        }
        Command::UserList => user_list(office).await,
        Command::UserDisable { login } => user_disable(office, &login).await,
        Command::UserLabels { login, labels, change } => {
            labels::change(office, &login, &labels, change).await
        }
        Command::ClientAdd { id, registration } => client_add(office, &id, *registration).await,
        Command::ClientList => client_list(office).await,
        Command::ClientKeyAdd { client, scopes, from, days } => {
            api_keys::add(office, api_keys::Asked { client, scopes, from, days }).await
        }
        Command::ClientKeyList { client } => api_keys::list(office, &client).await,
        Command::ClientKeyRevoke { id } => api_keys::revoke(office, &id).await,
        Command::SessionList { login } => sessions::list(office, login.as_deref()).await,
        Command::SessionEnd { id, login } => {
            sessions::end(office, id.as_deref(), login.as_deref()).await
        }
        Command::ConsentList { login } => sessions::apps(office, &login).await,
        Command::ConsentWithdraw { login, client } => {
            sessions::withdraw(office, &login, &client).await
        }
        Command::SigningKeyList => signing_keys::list(office).await,
        Command::SigningKeyRotate { now } => signing_keys::rotate(office, now).await,
        Command::SigningKeyKill { kid } => signing_keys::kill(office, &kid).await,
        Command::Reload => bail!("no server runs: there is nothing to reload"),
    }
}

async fn user_add(office: &Office<'_>, new: NewUser) -> anyhow::Result<Value> {
    let new = NewUser { second_factor: SecondFactorWish::AtFirstLogin, ..new };
    let making = Making {
        store: office.store,
        sealer: office.sealer,
        entropy: office.entropy,
        now: office.now,
    };
    let added = account::add_user(&making, new).await?;
    Ok(json!({
        "id": added.user.id.as_str(),
        "login": added.user.login,
        "one_off_password": added.password.expose(),
    }))
}

async fn user_list(office: &Office<'_>) -> anyhow::Result<Value> {
    let users: Result<_, StoreFault> = office.store.read(async |tx| tx.users("", PAGE).await).await;
    let rows = users?.into_iter().map(|user| {
        json!({
            "id": user.id.as_str(),
            "login": user.login,
            "name": user.name,
            "roles": user.roles,
            "groups": user.groups,
            "disabled": user.disabled.map(|since| since.to_string()),
        })
    });
    Ok(Value::Array(rows.collect()))
}

async fn user_disable(office: &Office<'_>, login: &str) -> anyhow::Result<Value> {
    let (login, now) = (portcullis_store::users::canonical_login(login), office.now);
    let found: Result<Option<Id<id::User>>, StoreFault> = office
        .store
        .transact(async move |tx| {
            let Some(user) = tx.user_by_login(&login).await? else { return Ok(None) };
            tx.disable_user(&user.id, now).await?;
            Ok(Some(user.id))
        })
        .await;
    let id = found?.context("there is no such user; `portcullis user list` shows all")?;
    Ok(json!({ "id": id.as_str(), "disabled": now.to_string() }))
}

async fn client_add(
    office: &Office<'_>,
    id: &str,
    registration: Registration,
) -> anyhow::Result<Value> {
    let id = Id::<id::Client>::parse(id)?;
    if office.facts.registered.iter().any(|known| known.id == id) {
        bail!("the client `{id}` stands in the file: choose another name");
    }
    let scopes: Vec<String> = registration.scopes.split_whitespace().map(str::to_owned).collect();
    if let Some(scope) = scopes.iter().find(|scope| !office.facts.scopes.contains(scope)) {
        bail!("no line may use the scope `{scope}`: add it to [identity.scopes] with its words");
    }
    // Judged before it is kept: a registration that cannot be read back is never stored.
    registration.clone().record(&id, office.now)?;
    let text = serde_json::to_string(&registration)?;
    let (stored, now) = (StoredClient::new(id.clone(), text), office.now);
    let added: Result<(), StoreFault> =
        office.store.transact(async move |tx| tx.add_client(&stored, now).await).await;
    added.map_err(|fault| match fault {
        StoreFault::Taken(_) => anyhow!("the client `{id}` exists: choose another name"),
        other => anyhow!(other),
    })?;
    Ok(json!({ "id": id.as_str() }))
}

/// A client as it is listed: what it is, what it may do, and until when it is excused from what.
fn listed(client: &ClientRecord, lives_in: &str) -> Value {
    let kind = match client.kind {
        ClientType::Spa => "spa",
        ClientType::Native => "native",
        ClientType::Web => "web",
        ClientType::Service => "service",
        ClientType::Device => "device",
    };
    let profile = match client.profile() {
        Profile::Fapi2 => "fapi2",
        Profile::Public => "public",
        Profile::Compat => "compat",
    };
    let waivers = &client.waivers;
    let dated = [
        ("bearer_tokens", waivers.bearer_tokens),
        ("no_par", waivers.no_par),
        ("client_secret", waivers.client_secret),
    ];
    let waivers: serde_json::Map<String, Value> = dated
        .into_iter()
        .filter_map(|(name, until)| Some((name.to_owned(), until?.to_string().into())))
        .collect();
    json!({
        "id": client.id.as_str(),
        "lives_in": lives_in,
        "type": kind,
        "profile": profile,
        "scopes": client.scopes.to_string(),
        "waivers": waivers,
    })
}

async fn client_list(office: &Office<'_>) -> anyhow::Result<Value> {
    let mut rows: Vec<Value> =
        office.facts.registered.iter().map(|client| listed(client, "file")).collect();
    let stored: Result<_, StoreFault> = office.store.read(async |tx| tx.clients().await).await;
    for client in stored? {
        let registration: Registration = serde_json::from_str(&client.registration)
            .with_context(|| format!("the stored client `{}` cannot be read", client.id))?;
        let mut row = listed(&registration.record(&client.id, Timestamp::default())?, "store");
        if let (Some(row), Some(since)) = (row.as_object_mut(), client.disabled) {
            row.insert("disabled".into(), since.to_string().into());
        }
        rows.push(row);
    }
    Ok(Value::Array(rows))
}

/// Attributes in the types that the file declares.
fn typed(
    office: &Office<'_>,
    written: BTreeMap<String, String>,
) -> anyhow::Result<BTreeMap<String, Attribute>> {
    let mut typed = BTreeMap::new();
    for (name, text) in written {
        let declared = office.facts.attributes.iter().find(|(known, _)| *known == name);
        let Some((_, kind)) = declared else {
            bail!("`{name}` is not declared: add it to [identity.attributes]");
        };
        let value = match kind {
            AttributeType::String => Attribute::String(text),
            AttributeType::Integer => {
                let said = || format!("`{name}` is an integer in [identity.attributes]");
                Attribute::Integer(text.parse().with_context(said)?)
            }
            AttributeType::Bool => {
                let said = || format!("`{name}` is `true` or `false` in [identity.attributes]");
                Attribute::Bool(text.parse().with_context(said)?)
            }
        };
        typed.insert(name, value);
    }
    Ok(typed)
}

fn declared(what: &str, known: &[String], given: &[String]) -> anyhow::Result<()> {
    match given.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => bail!("the {what} `{name}` is not declared: add it to identity.{what}s"),
    }
}

/// The clients of the store, as the login reads them. Disabled ones are left out.
///
/// # Errors
/// When the store fails, or holds a registration that this version cannot read.
pub(crate) async fn stored_clients(store: &Store) -> anyhow::Result<Vec<ClientRecord>> {
    let stored: Result<Vec<StoredClient>, StoreFault> =
        store.read(async |tx| tx.clients().await).await;
    let live = stored?.into_iter().filter(|client| client.disabled.is_none());
    live.map(|client| {
        let registration: Registration = serde_json::from_str(&client.registration)
            .with_context(|| format!("the stored client `{}` cannot be read", client.id))?;
        // A waiver that ran out since is judged at each request, not here: one old client must not
        // keep the server from starting.
        let record = registration.record(&client.id, Timestamp::default())?;
        Ok(ClientRecord { registered: client.registered, ..record })
    })
    .collect()
}

/// Marks a new store as made by `--dev`, and refuses a store of the other kind (`1-product`).
///
/// # Errors
/// When the store was made the other way.
pub(crate) async fn mark_dev(store: &Store, purpose: Purpose) -> anyhow::Result<()> {
    let want = match purpose {
        Purpose::Dev => "dev",
        Purpose::Serve => "serve",
    };
    let found: Result<Option<String>, StoreFault> = store
        .transact(async move |tx| {
            let found = tx.fact("made_by").await?;
            if found.is_none() {
                tx.remember_fact("made_by", want).await?;
            }
            Ok(found)
        })
        .await;
    match found?.as_deref() {
        None => Ok(()),
        Some(made_by) if made_by == want => Ok(()),
        Some(_) if purpose == Purpose::Dev => {
            bail!(
                "this data directory was not made by `--dev`: write `data = \"data-dev\"` (or another folder) in [server]"
            )
        }
        Some(_) => bail!(
            "this data directory was made by `--dev`: write `data = \"data-dev\"` (or another folder) in [server]"
        ),
    }
}

/// The words of a client type.
pub(crate) fn kind_of(word: &str) -> anyhow::Result<ClientType> {
    match word {
        "spa" => Ok(ClientType::Spa),
        "native" => Ok(ClientType::Native),
        "web" => Ok(ClientType::Web),
        "service" => Ok(ClientType::Service),
        "device" => Ok(ClientType::Device),
        other => bail!("`{other}` is no client type: write spa, native, web, service or device"),
    }
}

#[cfg(test)]
mod tests;
