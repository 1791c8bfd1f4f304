//! Everything that decides a request, as one immutable value, swapped whole on reload: one
//! generation decides a whole request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::limit::Limit;
use portcullis_core::web::{Address, Origin};
use portcullis_policy::compile::Rules;

use crate::house::HouseLine;

/// One generation.
pub struct Snapshot {
    /// Grows by one with each swap; part of every cache entry's key.
    pub generation: u64,
    /// The access rules.
    pub rules: Rules,
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
    /// Peers whose `X-Forwarded-For` is believed.
    pub trust_proxies: Vec<IpNet>,
    /// Whether answers name the reason of a refusal (`serve --dev`).
    pub reasons: Reasons,
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
