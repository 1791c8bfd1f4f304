//! Everything that decides a request, as one immutable value, swapped whole on reload: one
//! generation decides a whole request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use portcullis_core::foreign::ForeignIssuer;
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::limit::Limit;
use portcullis_core::web::{Address, Origin};
use portcullis_policy::compile::Rules;

use crate::api_keys::ApiKeys;
use crate::house::HouseLine;
use crate::tls::clients::ClientCa;

/// One generation.
#[derive(Clone)]
pub struct Snapshot {
    /// Grows by one with each swap; part of every cache entry's key.
    pub generation: u64,
    /// The access rules.
    pub rules: Arc<Rules>,
    /// Rules that are judged beside, and decide nothing (`serve --shadow`).
    pub shadow: Option<Arc<Rules>>,
    /// Our issuer, byte for byte as tokens carry it.
    pub issuer: Arc<str>,
    /// The keys that verify our access tokens.
    pub keys: JwkSet,
    /// What signs `Portcullis-Identity` (ES256).
    pub passport: Arc<SigningKey>,
    /// What each API needs at run time, by name.
    pub apis: HashMap<Arc<str>, Arc<ApiRoute>>,
    /// Our own pages, by (authority, path).
    pub house: HouseTable,
    /// Named limits; `default` (callers), `anonymous` (the default of `anyone` lines),
    /// `failed_authentication` and `peer` are always there.
    pub limits: HashMap<Arc<str>, Arc<Limit>>,
    /// Authorities that we answer for (421 otherwise, RFC 9110 §15.5.20).
    pub authorities: Vec<Box<str>>,
    /// Other issuers whose tokens are taken.
    pub issuers: Vec<Arc<ForeignIssuer>>,
    /// The live API keys.
    pub api_keys: Arc<ApiKeys>,
    /// Hosts (lower case, no port) at which TLS asks for a client certificate: that of `[identity]
    /// mtls`, and those of APIs with an operation that takes one
    /// ([`portcullis_policy::compile::Operation::asks_certificate`]).
    pub certificate_hosts: Vec<Box<str>>,
    /// Whose client certificates are trusted; without it only pinned ones are good.
    pub client_ca: Option<Arc<ClientCa>>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trust_proxies: Vec<IpNet>,
    /// Whether answers name the reason of a refusal (`serve --dev`).
    pub reasons: Reasons,
}

impl Snapshot {
    /// Whether a client certificate is asked for at a name (RFC 6066 §3: without case).
    pub(crate) fn asks_certificate(&self, name: &str) -> bool {
        self.certificate_hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }
}

/// Whether refusals say why in the answer itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasons {
    /// Only in the record.
    Recorded,
    /// In the answer too: a laptop.
    Answered,
}

/// House lines by authority and path.
pub type HouseTable = HashMap<(Box<str>, Box<str>), Vec<HouseLine>>;

/// One API at run time.
pub struct ApiRoute {
    /// Its name.
    pub name: Arc<str>,
    /// Where callers reach it: the audience of its tokens.
    pub at: Arc<Address>,
    /// `at` as text, byte for byte.
    pub audience: Arc<str>,
    /// Where it is forwarded.
    pub upstream: Upstream,
    /// `upstream` or `keep`.
    pub host: HostField,
    /// Exact origins that may call from a browser.
    pub browsers: Vec<Origin>,
    /// The address of its RFC 9728 metadata, for challenges.
    pub resource_metadata: Arc<str>,
}

/// Where an API's requests go.
#[derive(Clone)]
pub struct Upstream {
    /// Scheme, host, port and path prefix.
    pub address: Address,
    /// Resolved at load; tried in turn.
    pub sockets: Vec<SocketAddr>,
    /// For `https` upstreams.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Connect within this (1 s).
    pub connect_timeout: Duration,
}

/// What `Host` an upstream sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostField {
    /// Its own.
    Upstream,
    /// The client's.
    Keep,
}
