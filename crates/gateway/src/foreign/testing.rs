//! Issuers, keys and tokens of others, for tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use portcullis_core::foreign::{ClaimMap, ForeignIssuer, KeySource};
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::base64url;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::secret::Secret;
use portcullis_core::time::{FrozenClock, Timestamp};
use serde_json::{Value, json};

use super::Foreign;
use crate::fetch::testing::CHAIN;
use crate::fetch::{Fetcher, FetcherSettings};

/// When the tests begin.
pub(crate) const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

/// `https://as.example`, for `https://api.example`.
pub(crate) fn issuer(source: KeySource) -> ForeignIssuer {
    ForeignIssuer {
        name: "partner".into(),
        issuer: "https://as.example".into(),
        source,
        audience: vec!["https://api.example".into()],
        algorithms: Vec::new(),
        map: ClaimMap::default(),
        until: None,
    }
}

/// The same, to be asked about each token.
pub(crate) fn introspected(endpoint: &str) -> ForeignIssuer {
    issuer(KeySource::Introspection {
        endpoint: endpoint.to_owned(),
        client_id: "portcullis".into(),
        secret: Arc::new(Secret::new("s3cret".into())),
    })
}

/// The key of a name; the same one each time.
pub(crate) fn key(name: &str) -> Arc<SigningKey> {
    static KEYS: OnceLock<Mutex<HashMap<String, Arc<SigningKey>>>> = OnceLock::new();
    let mut keys = KEYS.get_or_init(Mutex::default).lock().unwrap();
    let made = || Arc::new(SigningKey::generate(Algorithm::EdDsa).unwrap());
    keys.entry(name.to_owned()).or_insert_with(made).clone()
}

/// The key set of some names.
pub(crate) fn set(names: &[&str]) -> String {
    let keys: Vec<Value> = names.iter().map(|name| key(name).public().to_json()).collect();
    json!({ "keys": keys }).to_string()
}

/// Metadata.
pub(crate) fn metadata(issuer: &str, jwks_uri: &str) -> String {
    json!({ "issuer": issuer, "jwks_uri": jwks_uri }).to_string()
}

/// A token of an issuer for `https://api.example`, good for two days, signed by the key of a name.
pub(crate) fn token(issuer: &str, name: &str) -> String {
    let claims = json!({
        "iss": issuer, "sub": "u1", "aud": "https://api.example",
        "iat": NOW.unix() - 3600, "exp": NOW.unix() + 23 * 3600,
    });
    key(name).sign("at+jwt", &claims)
}

/// A token with a header of a test's making, and no good signature.
pub(crate) fn headed(header: Value, issuer: &str) -> String {
    let claims = json!({ "iss": issuer, "sub": "u1", "aud": "https://api.example",
        "exp": NOW.unix() + 3600 });
    let part = |value: Value| base64url::encode(value.to_string().as_bytes());
    format!("{}.{}.{}", part(header), part(claims), base64url::encode(&[1; 64]))
}

/// A fetcher that trusts the test servers.
pub(crate) fn fetcher() -> Fetcher {
    let settings =
        FetcherSettings { extra_roots: Some(CHAIN.to_vec()), ..FetcherSettings::default() };
    Fetcher::new(settings).unwrap()
}

/// Foreign issuers behind the real fetcher, at a clock that the test moves.
pub(crate) fn foreign() -> (Arc<Foreign>, Arc<FrozenClock>) {
    let clock = Arc::new(FrozenClock::at(NOW));
    (Arc::new(Foreign::new(Arc::new(fetcher()), clock.clone())), clock)
}
