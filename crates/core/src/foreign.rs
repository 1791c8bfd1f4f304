//! Other issuers: whose tokens are accepted besides our own, by which keys, and what their words mean
//! here (`[issuers.NAME]`). Nothing of a foreign token counts that is not mapped by name.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::fetch::FetchFault;
use crate::jose::algorithm::Algorithm;
use crate::jose::claims::{Attribute, ForeignClaims, MAX_FOREIGN_WORD};
use crate::jose::jwk::JwkSet;
use crate::secret::Secret;
use crate::time::Timestamp;

/// Another issuer, as the file names it (`[issuers.NAME]`).
#[derive(Clone)]
pub struct ForeignIssuer {
    /// Its name in the file.
    pub name: String,
    /// Its `iss`, byte for byte.
    pub issuer: String,
    /// Where its keys are.
    pub source: KeySource,
    /// The `aud` that its tokens must carry; at least one.
    pub audience: Vec<String>,
    /// The algorithms that its keys may have; empty: all that we verify.
    pub algorithms: Vec<Algorithm>,
    /// `"CN=pay-admins"` → `role:admin`: which words of which claim become what of ours.
    pub map: ClaimMap,
    /// No token of it is accepted from then on.
    pub until: Option<Timestamp>,
}

/// Where an issuer's keys come from, or who is asked about its tokens.
#[derive(Clone)]
pub enum KeySource {
    /// The `jwks_uri` of its metadata (OpenID Connect Discovery §4, RFC 8414 §3).
    Discovery,
    /// This address.
    Address(String),
    /// Introspection (RFC 7662) at this address, for opaque tokens.
    Introspection {
        /// The endpoint.
        endpoint: String,
        /// Our client id there.
        client_id: String,
        /// Our secret there, with which `Authorization: Basic` is made.
        secret: Arc<Secret<String>>,
    },
}

/// Which claims of a foreign token become which rights of ours; nothing that is not named here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimMap {
    /// The claim whose words are looked up in `words` (`groups`, `roles`, `scp` …). Where no claim
    /// has that very name, its dots lead into objects (`realm_access.roles`); so everywhere here.
    pub claim: String,
    /// A word of that claim, exactly → `role:x`, `group:x`.
    pub words: BTreeMap<String, String>,
    /// The claim that names the tenant.
    pub tenant: Option<String>,
    /// A claim → a declared attribute.
    pub attributes: BTreeMap<String, String>,
    /// Whether its subjects are software rather than people.
    pub subjects: Subjects,
    /// Whose second factor counts where one is demanded of a user.
    pub second_factor: SecondFactor,
}

/// Whose second factor counts for people whom an issuer names (`mfa` in the file).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecondFactor {
    /// Ours: of whom one is demanded here, its assertion is not enough.
    #[default]
    Ours,
    /// Its own: the operator says so in words.
    Theirs,
}

/// What the subjects of an issuer are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subjects {
    /// People.
    #[default]
    Users,
    /// Software.
    Services,
}

/// The future of a key set.
pub type FindingKeys<'k> =
    Pin<Box<dyn Future<Output = Result<Arc<JwkSet>, FetchFault>> + Send + 'k>>;

/// The keys of other issuers, held and renewed by the gateway; asked by the login too.
pub trait ForeignKeys: Send + Sync {
    /// The keys of an issuer of the file by its name; fetched when never held, and once more (at most
    /// once in 10 s) when `kid` is not among them.
    fn keys<'k>(&'k self, issuer: &'k ForeignIssuer, kid: Option<&'k str>) -> FindingKeys<'k>;
}

/// What a foreign token is good for here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Roles, sorted.
    pub roles: Vec<String>,
    /// Groups, sorted.
    pub groups: Vec<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// Declared attributes.
    pub attributes: BTreeMap<String, Attribute>,
}

/// Makes rights of ours of another issuer's claims (`7-authorization`): a word counts when it is,
/// letter by letter, one that the operator named; a claim of the wrong type counts for nothing, all
/// of it. A role of ours that the token names in its own words is only a word.
pub fn mapped(issuer: &ForeignIssuer, claims: &ForeignClaims) -> Mapped {
    let map = &issuer.map;
    let mut mapped = Mapped {
        tenant: map.tenant.as_deref().and_then(|name| tenant(claim(&claims.raw, name)?)),
        ..Mapped::default()
    };
    let words = claim(&claims.raw, &map.claim).map(|value| words(&map.claim, value));
    for word in words.unwrap_or_default() {
        let Some(meaning) = map.words.get(word) else { continue };
        match meaning.split_once(':') {
            Some(("role", role)) => mapped.roles.push(role.to_owned()),
            Some(("group", group)) => mapped.groups.push(group.to_owned()),
            Some(_) | None => {}
        }
    }
    for list in [&mut mapped.roles, &mut mapped.groups] {
        list.sort();
        list.dedup();
    }
    for (name, attribute) in &map.attributes {
        if let Some(value) = claim(&claims.raw, name).and_then(attribute_of) {
            mapped.attributes.insert(attribute.clone(), value);
        }
    }
    mapped
}

/// The claim of a name; else dots lead into objects. Names with dots are common (addresses, RFC 7519
/// §4.2), so the very name comes first.
fn claim<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (outer, inner) = name.split_once('.')?;
    claim(claims.get(outer)?.as_object()?, inner)
}

/// The words of a claim: a list of texts, or one text, which is a list with spaces only where a
/// standard says so (RFC 8693 §4.2 `scope`; `scp`).
fn words<'c>(name: &str, value: &'c Value) -> Vec<&'c str> {
    match value {
        Value::Array(list) => {
            let words: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            words.unwrap_or_default()
        }
        Value::String(text) if matches!(name, "scope" | "scp") => text.split(' ').collect(),
        Value::String(text) => vec![text.as_str()],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

fn tenant(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let shaped = (1..=MAX_FOREIGN_WORD).contains(&text.len()) && !text.contains(char::is_control);
    shaped.then(|| text.to_owned())
}

fn attribute_of(value: &Value) -> Option<Attribute> {
    match value {
        Value::Bool(value) => Some(Attribute::Bool(*value)),
        Value::Number(value) => value.as_i64().map(Attribute::Integer),
        Value::String(text) if text.len() <= MAX_FOREIGN_WORD => {
            Some(Attribute::String(text.clone()))
        }
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
