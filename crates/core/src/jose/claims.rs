//! The claims of the tokens that we mint and read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::jws::TokenFault;
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

/// What a token is bound to (`cnf`, RFC 7800 §3.1): exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Confirmation {
    /// The SHA-256 thumbprint of the DPoP key (RFC 9449 §6.1), base64url.
    #[serde(rename = "jkt")]
    Key(String),
    /// The SHA-256 of the client certificate (RFC 8705 §3.1), base64url.
    #[serde(rename = "x5t#S256")]
    Certificate(String),
}

/// Who acts for the subject (`act`, RFC 8693 §4.1); the nearest first, at most four deep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The service.
    pub sub: String,
    /// For whom that one acted before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Actor>>,
}

/// Longest chain of actors.
pub const MAX_ACTORS: usize = 4;

impl Actor {
    /// The services of the chain, the nearest first.
    pub fn chain(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let mut next = Some(self);
        while let Some(actor) = next {
            names.push(actor.sub.as_str());
            next = actor.act.as_deref();
        }
        names
    }
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
    /// What it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// Who acts for the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
    /// What was granted in detail (RFC 9396 §9.1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorization_details: Vec<serde_json::Value>,
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
    /// Who acts for the caller (RFC 8693 §4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<&'a Actor>,
    /// The issuer of the caller's own token, when it is not ours; `sub` then starts with its name in
    /// the file and `|`, so that it is no subject of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_iss: Option<&'a str>,
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

/// The claims of another issuer's token. What it grants here is not in them, but in what
/// [`mapped`](crate::foreign::mapped) makes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignClaims {
    /// The issuer.
    pub iss: String,
    /// Whom it names; unique only together with the issuer.
    pub sub: String,
    /// For whom it is: one or several.
    pub aud: Vec<String>,
    /// Expiry, Unix seconds.
    pub exp: i64,
    /// Issued at.
    pub iat: Option<i64>,
    /// Not before.
    pub nbf: Option<i64>,
    /// The token's id, when it has one.
    pub jti: Option<String>,
    /// The client (`client_id` of RFC 9068 §2.2, else `azp` of OpenID Connect Core §2).
    pub client: Option<String>,
    /// Its scopes (`scope`, else `scp`); empty when they are not of a type that can be read.
    pub scope: Scopes,
    /// What it is bound to: without that, it must not pass.
    pub cnf: Option<Confirmation>,
    /// Who acts for the subject, in the issuer's names, not in ours.
    pub act: Option<Actor>,
    /// All claims, for the mapping.
    pub raw: Map<String, Value>,
}

/// Longest `sub`, `jti`, client or audience of another issuer, in bytes (OpenID Connect Core §2: a
/// `sub` has at most 255 characters).
pub const MAX_FOREIGN_WORD: usize = 255;

impl ForeignClaims {
    /// Reads claims that are still to be judged, also those of an introspection answer.
    ///
    /// # Errors
    /// [`TokenFault::ClaimMalformed`] when a claim that is needed is missing, and when one that would
    /// narrow the token (times, `cnf`, `act`) cannot be understood.
    pub fn read(raw: Map<String, Value>) -> Result<Self, TokenFault> {
        let time = |name: &str| raw.get(name).map(|value| value.as_i64().ok_or(MALFORMED));
        let optional = |name: &str| raw.get(name).map(|value| word(value).ok_or(MALFORMED));
        let needed = |name: &str| raw.get(name).and_then(word).ok_or(MALFORMED);
        let act: Option<Actor> = narrowing(&raw, "act")?;
        if act.as_ref().is_some_and(|actor| actor.chain().len() > MAX_ACTORS) {
            return Err(MALFORMED);
        }
        let client = ["client_id", "azp"].iter().find_map(|name| raw.get(*name).and_then(word));
        Ok(ForeignClaims {
            iss: raw.get("iss").and_then(Value::as_str).ok_or(MALFORMED)?.to_owned(),
            sub: needed("sub")?,
            aud: audiences(raw.get("aud")).ok_or(MALFORMED)?,
            exp: time("exp").ok_or(MALFORMED)??,
            iat: time("iat").transpose()?,
            nbf: time("nbf").transpose()?,
            jti: optional("jti").transpose()?,
            client,
            scope: scopes(&raw),
            cnf: narrowing(&raw, "cnf")?,
            act,
            raw,
        })
    }
}

const MALFORMED: TokenFault = TokenFault::ClaimMalformed;

/// A word that may stand in a log and in a header: neither empty nor long, no control characters.
fn word(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let shaped = (1..=MAX_FOREIGN_WORD).contains(&text.len()) && !text.contains(char::is_control);
    shaped.then(|| text.to_owned())
}

/// RFC 7519 §4.1.3: one string, or a list of them.
fn audiences(value: Option<&Value>) -> Option<Vec<String>> {
    match value? {
        Value::Array(list) => list.iter().map(word).collect(),
        one => word(one).map(|one| vec![one]),
    }
}

/// A claim that narrows what a token is good for (RFC 7800 §3.1, RFC 8693 §4.1): whoever cannot
/// understand it must not treat the token as if it were not there.
fn narrowing<C: serde::de::DeserializeOwned>(
    raw: &Map<String, Value>,
    name: &str,
) -> Result<Option<C>, TokenFault> {
    let claim = raw.get(name).cloned();
    claim.map(|claim| serde_json::from_value(claim).map_err(|_| MALFORMED)).transpose()
}

/// RFC 9068 §2.2.3 (RFC 8693 §4.2): words with spaces between; others write `scp`, also as a list.
fn scopes(raw: &Map<String, Value>) -> Scopes {
    let text = match raw.get("scope").or_else(|| raw.get("scp")) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => {
            let words: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            words.unwrap_or_default().join(" ")
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            String::new()
        }
    };
    Scopes::parse(&text).unwrap_or_default()
}
