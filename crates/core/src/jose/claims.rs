//! The claims of the tokens that we mint and read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{self, Id};
use crate::scope::Scopes;

/// Whether a token speaks for a person or for software (`4-identity`, "Tokens"): the gateway reads
/// only this, since user and client ids share `sub`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerKind {
    /// A person.
    User,
    /// Software.
    Service,
}

/// When each kind of factor was last used, Unix seconds (`fat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorTimes {
    /// Password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pwd: Option<i64>,
    /// One-time password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otp: Option<i64>,
    /// Hardware-bound key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hwk: Option<i64>,
}

/// The claims of our access tokens (RFC 9068 §2.2, plus ours).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// The issuer.
    pub iss: String,
    /// User id or client id.
    pub sub: String,
    /// The API's `at`, one string.
    pub aud: String,
    /// Expiry, Unix seconds.
    pub exp: i64,
    /// Issued at, Unix seconds.
    pub iat: i64,
    /// The token's id.
    pub jti: Id<id::Token>,
    /// The client.
    pub client_id: Id<id::Client>,
    /// Scopes granted.
    pub scope: Scopes,
    /// User or service.
    pub kind: CallerKind,
    /// The revocation sequence read before minting.
    pub rev: u64,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<Id<id::Session>>,
    /// The grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<Id<id::Grant>>,
    /// When the user authenticated, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// Assurance reached: `aal1`, `aal2` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// Methods used (RFC 8176).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// Factor times.
    #[serde(default)]
    pub fat: FactorTimes,
    /// Roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Declared attributes that rules may use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Attribute>,
}

impl AccessClaims {
    /// `user:u_…` or `service:ledger`: how records name whom the token speaks for.
    pub fn caller(&self) -> String {
        match self.kind {
            CallerKind::User => format!("user:{}", self.sub),
            CallerKind::Service => format!("service:{}", self.sub),
        }
    }
}

/// The value of a declared attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attribute {
    /// `"bool"`.
    Bool(bool),
    /// `"integer"`.
    Integer(i64),
    /// `"string"`.
    String(String),
}

/// The claims of our ID tokens (OpenID Connect Core §2).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdClaims {
    /// The issuer.
    pub iss: String,
    /// The user.
    pub sub: String,
    /// The client.
    pub aud: String,
    /// Expiry.
    pub exp: i64,
    /// Issued at.
    pub iat: i64,
    /// When the user authenticated.
    pub auth_time: i64,
    /// The request's nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Assurance reached.
    pub acr: String,
    /// Methods used.
    pub amr: Vec<String>,
    /// Left half of SHA-256 of the access token (§3.1.3.6; for EdDSA SHA-512 does not apply: we sign ES256).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_hash: Option<String>,
    /// The session.
    pub sid: Id<id::Session>,
}

/// The claims of `Portcullis-Identity` (`3-gateway`, "What the upstream receives").
#[derive(Clone, Debug, Serialize)]
pub struct PassportClaims<'a> {
    /// The issuer.
    pub iss: &'a str,
    /// The API's `at`… as its upstream knows itself: the upstream's origin.
    pub aud: &'a str,
    /// The caller; absent for `anyone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<&'a str>,
    /// `user`, `service` or `anonymous`.
    pub kind: &'a str,
    /// The client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<&'a str>,
    /// The tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<&'a str>,
    /// Scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Roles.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub roles: &'a [String],
    /// Assurance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acr: Option<&'a str>,
    /// Issued at.
    pub iat: i64,
    /// Expiry: 60 s later.
    pub exp: i64,
    /// The `Request-Id`; absent when the passport is reused within its 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<&'a str>,
}

/// The claims of a client assertion (RFC 7523 §3).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AssertionClaims {
    /// The client.
    pub iss: String,
    /// The client again.
    pub sub: String,
    /// Our issuer, one string.
    pub aud: String,
    /// Expiry.
    pub exp: i64,
    /// Issued at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Once per client.
    pub jti: String,
}
