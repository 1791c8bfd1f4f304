//! Discovery: what is advertised runs, and what does not run is not advertised.

use std::collections::BTreeSet;

use portcullis_core::oauth::metadata::{ResourceMetadata, ServerMetadata};
use serde_json::Value;

use crate::authorize::OPENID;
use crate::settings::Settings;

/// RFC 8414 §2 and OpenID Connect Discovery §3, one document for both.
pub(crate) fn server(settings: &Settings) -> Value {
    let at = |path: &str| settings.issuer.with_path(path).to_string();
    let mut scopes: BTreeSet<String> = [OPENID.to_owned()].into();
    scopes.extend(settings.apis.iter().flat_map(|api| api.scopes.iter().map(str::to_owned)));
    // What core verifies assertions with, RS256 left out (`4-identity`, "Clients").
    let algorithms = || vec!["EdDSA", "Ed25519", "ES256", "PS256"];
    let methods = || vec!["none", "private_key_jwt", "client_secret_basic"];
    let document = ServerMetadata {
        issuer: settings.issuer_text.to_string(),
        authorization_endpoint: at("/oauth/authorize"),
        token_endpoint: at("/oauth/token"),
        jwks_uri: at("/oauth/jwks"),
        revocation_endpoint: at("/oauth/revoke"),
        scopes_supported: scopes.into_iter().collect(),
        response_types_supported: vec!["code"],
        response_modes_supported: vec!["query"],
        grant_types_supported: vec!["authorization_code", "client_credentials"],
        token_endpoint_auth_methods_supported: methods(),
        token_endpoint_auth_signing_alg_values_supported: algorithms(),
        revocation_endpoint_auth_methods_supported: methods(),
        revocation_endpoint_auth_signing_alg_values_supported: algorithms(),
        // RFC 9700 §2.1.1: S256 alone.
        code_challenge_methods_supported: vec!["S256"],
        // RFC 9207 §3
        authorization_response_iss_parameter_supported: true,
        subject_types_supported: vec!["public"],
        id_token_signing_alg_values_supported: vec!["ES256"],
        acr_values_supported: vec!["aal1", "aal2"],
        claims_supported: vec![
            "iss",
            "sub",
            "aud",
            "exp",
            "iat",
            "auth_time",
            "nonce",
            "acr",
            "amr",
            "at_hash",
            "sid",
        ],
        prompt_values_supported: vec!["none", "login", "consent", "select_account"],
        request_parameter_supported: false,
        // OpenID Connect Discovery §3: left out it would mean true.
        request_uri_parameter_supported: false,
        claims_parameter_supported: false,
    };
    serde_json::to_value(document).unwrap_or_default()
}

/// RFC 9728 §2 of one API; `None` when there is none at that audience.
pub(crate) fn resource(settings: &Settings, audience: &str) -> Option<Value> {
    let api = settings.apis.iter().find(|api| *api.audience == *audience)?;
    let document = ResourceMetadata {
        resource: api.audience.to_string(),
        authorization_servers: vec![settings.issuer_text.to_string()],
        scopes_supported: api.scopes.iter().map(str::to_owned).collect(),
        // RFC 6750 §2.1 alone: never in a body or a query.
        bearer_methods_supported: vec!["header"],
        resource_name: api.name.clone(),
    };
    serde_json::to_value(document).ok()
}

#[cfg(test)]
mod tests;
