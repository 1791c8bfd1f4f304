//! What the config says about identity: one immutable value, swapped whole on reload.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::client::ClientRecord;
use portcullis_core::foreign::ForeignIssuer;
use portcullis_core::id::{self, Id};
use portcullis_core::limit::Limit;
use portcullis_core::scope::Scopes;
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
#[derive(Clone)]
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
    /// The origin where client certificates are asked for (RFC 8705 §5).
    pub mtls: Option<Address>,
    /// Other issuers.
    pub issuers: Vec<Arc<ForeignIssuer>>,
    /// Clients that nobody registered (client ID metadata documents).
    pub documents: Option<Strangers>,
    /// Dynamic registration (RFC 7591).
    pub registration: Option<SelfRegistration>,
    /// `authorization_details` types and their words for the consent page.
    pub detail_words: BTreeMap<String, String>,
    /// How long a key signs before the next one does.
    pub key_life: Duration,
}

/// What clients that nobody registered may have.
#[derive(Clone, Debug)]
pub struct Strangers {
    /// The most that they may be granted.
    pub scopes: Scopes,
    /// Hosts of their documents; empty: any public one.
    pub hosts: Vec<String>,
}

/// What clients that register themselves may have, and who may register.
#[derive(Clone, Debug)]
pub struct SelfRegistration {
    /// SHA-256 of the initial access token (RFC 7591 §3).
    pub token_digest: [u8; 32],
    /// The most that they may be granted.
    pub scopes: Scopes,
}

/// What the access tokens of an API look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenFormat {
    /// A JWT (RFC 9068).
    #[default]
    Jwt,
    /// Sealed: only we read it; others ask introspection.
    Opaque,
}

/// An API as a token's target.
#[derive(Clone, Debug)]
pub struct ApiTarget {
    /// The `aud`.
    pub audience: Arc<str>,
    /// For people.
    pub name: String,
    /// Scopes.
    pub scopes: Scopes,
    /// What its tokens look like.
    pub format: TokenFormat,
    /// The `authorization_details` types that it understands.
    pub details: Vec<String>,
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
/// How long a key signs: 90 days (`4-identity`, "Keys").
pub const KEY_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// Lifetime of a code, seconds.
pub const CODE_S: i64 = 60;
/// A session's idle time, seconds.
pub const SESSION_IDLE_S: i64 = 3_600;
/// A session's absolute life, seconds.
pub const SESSION_MAX_S: i64 = 12 * 3_600;
/// A known device's life, seconds.
pub const DEVICE_S: i64 = 90 * 86_400;
