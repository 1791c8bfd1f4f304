//! What the config says about identity: one immutable value, swapped whole on reload.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use portcullis_core::client::ClientRecord;
use portcullis_core::id::{self, Id};
use portcullis_core::limit::Limit;
use portcullis_core::web::Address;

/// Whom a second factor is asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Require {
    /// Everyone, at each login; enrolled at the first.
    Everyone,
    /// Holders of a role.
    Role(String),
    /// Whoever has one; nobody is made to enrol.
    Offer,
}

/// The settings.
pub struct Settings {
    /// Our issuer.
    pub issuer: Address,
    /// Byte for byte as tokens carry it.
    pub issuer_text: Arc<str>,
    /// All clients, of the file and of the store.
    pub clients: HashMap<Id<id::Client>, Arc<ClientRecord>>,
    /// The consent page's words for scopes.
    pub scope_words: BTreeMap<String, String>,
    /// Each API: audience, its name for people, and the scopes that its lines use.
    pub apis: Vec<ApiTarget>,
    /// Second factor.
    pub require: Require,
    /// Declared attributes, the only ones that travel in tokens.
    pub attributes: Vec<String>,
    /// Throttles (`5-limits` point 6), all asked synchronously.
    pub throttles: Throttles,
}

/// An API as a token's target.
#[derive(Clone, Debug)]
pub struct ApiTarget {
    /// The `aud`.
    pub audience: Arc<str>,
    /// For people.
    pub name: String,
    /// Scopes.
    pub scopes: portcullis_core::scope::Scopes,
}

/// The buckets of the login (`5-limits` point 6).
#[derive(Clone, Debug)]
pub struct Throttles {
    /// Per (account, known device) and per (account, address): 5, then slower.
    pub account_device: Limit,
    /// Per account from unknown devices: 30/h.
    pub account: Limit,
    /// Per address and prefix: shared with the gateway's `failed_authentication`.
    pub address: Limit,
    /// One-time passwords: 5 per 5 min (20/day comes with quotas: as 20/24h GCRA now).
    pub otp: Limit,
}

/// Lifetime of an access token, seconds (`4-identity`: 5 minutes).
pub const ACCESS_TOKEN_S: i64 = 300;
/// Lifetime of a code, seconds.
pub const CODE_S: i64 = 60;
/// A session's idle time, seconds.
pub const SESSION_IDLE_S: i64 = 3_600;
/// A session's absolute life, seconds.
pub const SESSION_MAX_S: i64 = 12 * 3_600;
/// A known device's life, seconds.
pub const DEVICE_S: i64 = 90 * 86_400;
