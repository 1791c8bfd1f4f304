//! What a file comes to: typed, complete, judged. The wiring reads these fields and nothing else
//! of the file.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use portcullis_core::client::ClientRecord;
use portcullis_core::fault::Place;
use portcullis_core::foreign::ForeignIssuer;
use portcullis_core::limit::Limit;
use portcullis_core::secret::Secret;
use portcullis_core::web::{Address, Origin};
use portcullis_gateway::snapshot::HostField;
use portcullis_identity::settings::{Require, SelfRegistration, Strangers, TokenFormat};
use portcullis_policy::access::{ApiDraft, AttributeType, Vocabulary};
use portcullis_policy::compile::Rules;

use super::loader::Sources;
use super::policy::Policy;

/// One file, read and judged whole.
pub(crate) struct Config {
    /// The file's name as the operator gave it.
    pub file: Arc<str>,
    /// `[server]`.
    pub server: Server,
    /// `[identity]`.
    pub identity: Identity,
    /// The file's clients; others live in the store, and the same id in both is an error.
    pub clients: Vec<Arc<ClientRecord>>,
    /// Other issuers.
    pub issuers: Vec<Arc<ForeignIssuer>>,
    /// All limits by name, the four built-in ones included.
    pub limits: HashMap<Arc<str>, Arc<Limit>>,
    /// Each API's side of the wire.
    pub apis: Vec<Api>,
    /// The rules that the access lines come to.
    pub rules: Rules,
    /// The texts that faults and gaps point into.
    pub sources: Sources,
    /// Every file that was read besides the config: what a reload watches.
    pub watched: Vec<PathBuf>,
    /// `[policy]`.
    pub policy: Policy,
    pub(crate) drafts: Vec<ApiDraft>,
    pub(crate) vocabulary: Vocabulary,
}

/// `[server]`.
pub(crate) struct Server {
    /// Hosts that we answer for, lower case.
    pub domains: Vec<String>,
    /// TLS addresses.
    pub listen: Vec<SocketAddr>,
    /// Where `listen` stands, when it was written.
    pub listen_place: Option<Place>,
    /// Plain addresses; none when `"off"`.
    pub plain: Vec<SocketAddr>,
    /// `/healthz` and `/readyz`.
    pub health: SocketAddr,
    /// `/metrics`; may equal `health`.
    pub metrics: SocketAddr,
    /// Certificates.
    pub tls: Tls,
    /// The data directory: SQLite, key-encryption key, local CA.
    pub data: PathBuf,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trust_proxies: Vec<IpNet>,
    /// Further addresses that may be fetched from, though they are private.
    pub egress: Vec<IpNet>,
}

/// Where certificates come from.
pub(crate) enum Tls {
    /// Our own CA in the data directory, one certificate for all `domains`.
    Local,
    /// PEM files.
    Files {
        /// The chain.
        chain_pem: Vec<u8>,
        /// The private key.
        key_pem: Secret<Vec<u8>>,
    },
}

/// `[identity]`.
pub(crate) struct Identity {
    /// Our issuer: an origin of its own.
    pub issuer: Address,
    /// Whom a second factor is asked of; `totp` is the factor.
    pub require: Require,
    /// Roles that rules may name.
    pub roles: Vec<String>,
    /// Groups that rules may name.
    pub groups: Vec<String>,
    /// Facts about a user that rules may use.
    pub attributes: Vec<(String, AttributeType)>,
    /// The consent page's words for scopes.
    pub scope_words: BTreeMap<String, String>,
    /// Where client certificates are asked for.
    pub mtls: Option<Mtls>,
    /// Clients that nobody registered.
    pub documents: Option<Strangers>,
    /// Dynamic registration.
    pub registration: Option<SelfRegistration>,
    /// `authorization_details` types and their words.
    pub detail_words: BTreeMap<String, String>,
    /// How long a signing key signs.
    pub key_life: Duration,
}

/// `mtls = { at, ca }`.
pub(crate) struct Mtls {
    /// The origin.
    pub at: Address,
    /// Where it stands.
    pub place: Place,
    /// The client CA, PEM; without one only pinned certificates are good.
    pub ca_pem: Option<Vec<u8>>,
}

/// One `[api.NAME]`, besides its access lines.
pub(crate) struct Api {
    /// Its name.
    pub name: Arc<str>,
    /// Where callers reach it; its tokens' audience.
    pub at: Arc<Address>,
    /// Where `at` stands.
    pub at_place: Place,
    /// Where it is forwarded.
    pub upstream: Address,
    /// What `Host` the upstream sees.
    pub host: HostField,
    /// Exact origins that may call from a browser.
    pub browsers: Vec<Origin>,
    /// What its tokens look like.
    pub tokens: TokenFormat,
    /// The `authorization_details` types that it understands.
    pub details: Vec<String>,
}
