//! From a judged file to the values that run: the gateway's snapshot, identity's settings, the
//! certificates.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use ipnet::IpNet;
use portcullis_core::client::{ClientRecord, ClientType, Registered};
use portcullis_core::id::{self, Id};
use portcullis_core::limit::Limit;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_core::web::{Address, Origin, Scheme};
use portcullis_gateway::api_keys::{ApiKeys, LiveKey};
use portcullis_gateway::snapshot::{ApiRoute, HouseTable, Reasons, Snapshot, Upstream};
use portcullis_gateway::tls::clients::ClientCa;
use portcullis_gateway::tls::{self, Certified};
use portcullis_identity::server::Identity;
use portcullis_identity::settings::{ApiTarget, SelfRegistration, Settings, Throttles};
use portcullis_policy::compile::Rules;
use portcullis_store::api_keys::ApiKeyRecord;
use portcullis_store::database::{Store, StoreFault};

use crate::config::{self, Config, Tls};
use crate::{house, local_ca};

/// What the peer of our own pages is charged unless the file names a limit `house`: a form or a
/// token each, generous for an office behind one address.
const HOUSE_LIMIT: &str = "600/min per ip, burst 120";
/// How long a connect to an upstream may take (`3-gateway`, stage 10).
const CONNECT: Duration = Duration::from_secs(1);

/// The side of a file that identity holds already.
pub(super) struct Stage<'s> {
    /// Keys.
    pub(super) identity: &'s Identity,
    /// The settings of the same file.
    pub(super) settings: &'s Settings,
    /// The live API keys.
    pub(super) api_keys: Arc<ApiKeys>,
    /// Rules that judge too, and decide nothing.
    pub(super) shadow: Option<Arc<Rules>>,
}

/// The live API keys of the store, with the revocation sequence of the transaction that read them.
/// Each is cut down to what its client may have now; one whose client is gone, is no service any
/// more, or lost all of the key's scopes is left out.
///
/// # Errors
/// When the store fails.
pub(super) async fn api_keys(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
) -> Result<Arc<ApiKeys>, StoreFault> {
    let found = store.read(async move |tx| {
        let rev = tx.revision().await?;
        Ok::<_, StoreFault>((rev, tx.live_api_keys(now).await?))
    });
    let (rev, records) = found.await?;
    let live = records.into_iter().filter_map(|record| live_key(settings, record, rev));
    Ok(Arc::new(ApiKeys::new(live)))
}

fn live_key(settings: &Settings, record: ApiKeyRecord, rev: u64) -> Option<LiveKey> {
    let client = settings.clients.get(&record.client)?;
    let scopes = record.scopes.intersection(&client.scopes);
    if client.kind != ClientType::Service || scopes.is_empty() {
        return None;
    }
    // A network that cannot be read leaves the key out: without it "some" would become "any".
    let from: Result<Vec<IpNet>, _> = record.from.iter().map(|network| network.parse()).collect();
    Some(LiveKey {
        id: record.id,
        client: record.client,
        scopes,
        from: from.ok()?,
        expires: record.expires,
        rev,
    })
}

/// Clients that hold grants, keys or consents and are registered nowhere any more.
///
/// # Errors
/// When the store fails.
pub(super) async fn orphans(
    store: &Store,
    settings: &Settings,
) -> Result<Vec<Id<id::Client>>, StoreFault> {
    let found: Result<Vec<Id<id::Client>>, StoreFault> =
        store.read(async |tx| tx.clients_with_holdings().await).await;
    let mut holders = found?;
    holders.retain(|id| {
        // Nobody registers a client that is known by its document.
        let stranger = settings.documents.is_some() && id.as_str().starts_with("https://");
        !stranger && !settings.clients.contains_key(id)
    });
    Ok(holders)
}

/// The settings in force.
pub(super) fn current(identity: &Identity) -> Arc<Settings> {
    identity.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The gateway's side of a file.
pub(super) fn snapshot(
    config: Config,
    stage: &Stage<'_>,
    generation: u64,
    reasons: Reasons,
) -> anyhow::Result<Snapshot> {
    let issuer = config.identity.issuer.clone();
    let addresses: Vec<Arc<Address>> = config.apis.iter().map(|api| api.at.clone()).collect();
    let mut limits = config.limits;
    if !limits.contains_key("house") {
        let limit = Limit::parse(HOUSE_LIMIT).expect("the constant above is a limit");
        limits.insert("house".into(), Arc::new(limit));
    }
    let mut apis = HashMap::new();
    for api in &config.apis {
        apis.insert(api.name.clone(), Arc::new(route(api)?));
    }
    let mtls = config.identity.mtls.as_ref();
    let mut authorities: Vec<Box<str>> = vec![issuer.authority().into()];
    authorities.extend(addresses.iter().map(|at| at.authority().into()));
    authorities.extend(mtls.map(|mtls| mtls.at.authority().into()));
    let mut certificate_hosts = certificate_hosts(&config.rules);
    certificate_hosts.extend(mtls.map(|mtls| mtls.at.host().into()));
    let ca = mtls.and_then(|mtls| mtls.ca_pem.as_deref());
    let client_ca = ca.map(|pem| ClientCa::read(pem).map(Arc::new)).transpose()?;
    Ok(Snapshot {
        generation,
        rules: Arc::new(config.rules),
        shadow: stage.shadow.clone(),
        issuer: issuer.to_string().into(),
        keys: stage.identity.keyring().access_keys().as_ref().clone(),
        passport: stage.identity.keyring().passport_key(),
        apis,
        house: house_table(stage.settings),
        limits,
        authorities,
        trust_proxies: config.server.trust_proxies,
        reasons,
        issuers: config.issuers,
        api_keys: stage.api_keys.clone(),
        certificate_hosts,
        client_ca,
    })
}

/// Our own pages, as the settings have them.
pub(super) fn house_table(settings: &Settings) -> HouseTable {
    let at = |api: &ApiTarget| Address::parse(&api.audience).ok().map(Arc::new);
    let apis: Vec<Arc<Address>> = settings.apis.iter().filter_map(at).collect();
    house::table(&house::Site {
        issuer: &settings.issuer,
        mtls: settings.mtls.as_ref(),
        registration: settings.registration.is_some(),
        apis: &apis,
        spa_origins: &spa_origins(settings),
    })
}

/// The hosts at which an operation takes a token that is bound by a certificate.
fn certificate_hosts(rules: &Rules) -> Vec<Box<str>> {
    let asking = rules.operations().filter(|operation| operation.asks_certificate);
    let mut hosts: Vec<Box<str>> = asking.map(|operation| operation.at.host().into()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn route(api: &config::Api) -> anyhow::Result<ApiRoute> {
    let metadata = portcullis_core::oauth::metadata::resource_metadata_path(api.at.path());
    Ok(ApiRoute {
        name: api.name.clone(),
        at: api.at.clone(),
        audience: api.at.to_string().into(),
        upstream: Upstream {
            sockets: resolve(&api.upstream)?,
            tls: match api.upstream.scheme() {
                Scheme::Https => Some(tls::client_config(None)?),
                Scheme::Http => None,
            },
            address: api.upstream.clone(),
            connect_timeout: CONNECT,
        },
        host: api.host,
        browsers: api.browsers.clone(),
        resource_metadata: format!("{}{metadata}", api.at.origin().as_str()).into(),
    })
}

/// Resolved at load, so that no request waits for DNS.
fn resolve(upstream: &Address) -> anyhow::Result<Vec<SocketAddr>> {
    let said = || format!("the upstream `{upstream}` cannot be resolved: check its host name");
    let sockets: Vec<SocketAddr> =
        (upstream.host(), upstream.port()).to_socket_addrs().with_context(said)?.collect();
    if sockets.is_empty() {
        bail!(said());
    }
    Ok(sockets)
}

/// The origins of single-page applications.
pub(super) fn spa_origins(settings: &Settings) -> Vec<Origin> {
    let spa = settings.clients.values().filter(|client| client.kind == ClientType::Spa);
    let mut origins: Vec<Origin> =
        spa.flat_map(|client| client.redirects.iter().filter_map(|to| to.origin())).collect();
    origins.sort();
    origins.dedup();
    origins
}

/// Identity's side of a file. `stored` are the clients of the store.
pub(super) fn settings(config: &Config, stored: Vec<ClientRecord>) -> anyhow::Result<Settings> {
    let mut clients: HashMap<_, _> =
        config.clients.iter().map(|client| (client.id.clone(), client.clone())).collect();
    for client in stored {
        if clients.contains_key(&client.id) {
            bail!("the client `{}` is in the file and in the store: remove one", client.id);
        }
        let client = within(config.identity.registration.as_ref(), client);
        clients.insert(client.id.clone(), Arc::new(client));
    }
    Ok(Settings {
        issuer: config.identity.issuer.clone(),
        issuer_text: config.identity.issuer.to_string().into(),
        clients,
        scope_words: config.identity.scope_words.clone(),
        apis: config.apis.iter().map(|api| target(config, api)).collect(),
        require: config.identity.require.clone(),
        attributes: config.identity.attributes.iter().map(|(name, _)| name.clone()).collect(),
        throttles: throttles(config),
        mtls: config.identity.mtls.as_ref().map(|mtls| mtls.at.clone()),
        issuers: config.issuers.clone(),
        documents: config.identity.documents.clone(),
        registration: config.identity.registration.clone(),
        detail_words: config.identity.detail_words.clone(),
        key_life: config.identity.key_life,
    })
}

/// What the file gives those who register themselves now is the most that any of them has.
fn within(rules: Option<&SelfRegistration>, client: ClientRecord) -> ClientRecord {
    let itself = client.registered == Registered::Itself;
    match rules.filter(|_| itself) {
        Some(rules) => ClientRecord { scopes: client.scopes.intersection(&rules.scopes), ..client },
        None => client,
    }
}

/// An API as a token's target: its audience, and the scopes that its lines use.
fn target(config: &Config, api: &config::Api) -> ApiTarget {
    let lines = config.rules.operations().filter(|operation| operation.api == api.name);
    let words: Vec<&str> = lines.flat_map(|line| line.scopes.iter().map(String::as_str)).collect();
    ApiTarget {
        audience: api.at.to_string().into(),
        name: api.name.to_string(),
        scopes: Scopes::parse(&words.join(" ")).unwrap_or_default(),
        format: api.tokens,
        details: api.details.clone(),
    }
}

/// The buckets of the login (`5-limits` point 6). GCRA slows down instead of locking: five at once,
/// then one each three minutes, which is the designed ceiling of 15 minutes for five.
fn throttles(config: &Config) -> Throttles {
    let limit = |words: &str| Limit::parse(words).expect("the constants here are limits");
    let address = config.limits.get("failed_authentication").map(|limit| limit.as_ref().clone());
    Throttles {
        account_device: limit("20/h per caller, burst 5"),
        account: limit("30/h per user, burst 10"),
        address: address.unwrap_or_else(|| limit("100/h per ip, burst 20")),
        otp: limit("1/min per user, burst 5, 1/h per user, burst 20"),
    }
}

/// Clients that a reload takes away, or takes scopes or types of detail from.
pub(super) fn narrowed(before: &Settings, after: &Settings) -> Vec<String> {
    let less = |old: &ClientRecord, new: &ClientRecord| {
        let keeps = |word: &String| new.details.contains(word);
        !old.scopes.is_subset(&new.scopes) || !old.details.iter().all(keeps)
    };
    let lost = before.clients.iter().filter(|(id, old)| {
        after.clients.get(*id).is_none_or(|new| less(old.as_ref(), new.as_ref()))
    });
    lost.map(|(id, _)| id.to_string()).collect()
}

/// The certificates of a file.
pub(super) fn certified(server: &config::Server) -> anyhow::Result<Vec<Certified>> {
    match &server.tls {
        Tls::Local => {
            crate::files::private_directory(&server.data)?;
            Ok(vec![local_ca::certify(&server.data, &server.domains)?])
        }
        Tls::Files { chain_pem, key_pem } => Ok(vec![Certified {
            names: server.domains.clone(),
            chain_pem: chain_pem.clone(),
            key_pem: portcullis_core::secret::Secret::new(key_pem.expose().clone()),
        }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_core::client::Authentication;
    use portcullis_core::id::Id;

    #[test]
    fn those_who_registered_themselves_have_no_more_than_the_file_gives_now() {
        let scopes = |words: &str| Scopes::parse(words).expect("scopes");
        let rules = SelfRegistration { token_digest: [0; 32], scopes: scopes("a:read") };
        for (registered, expected) in [
            (Registered::Itself, "a:read"),
            (Registered::Store, "a:read a:write"),
            (Registered::File, "a:read a:write"),
        ] {
            let id = Id::parse("tool").expect("an id");
            let record = ClientRecord::new(id, ClientType::Spa, Authentication::None);
            let record = ClientRecord { scopes: scopes("a:read a:write"), registered, ..record };
            assert_eq!(within(Some(&rules), record).scopes, scopes(expected), "{registered:?}");
        }
    }
}
