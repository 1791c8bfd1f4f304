//! Discovery documents (RFC 8414, OpenID Connect Discovery, RFC 9728): generated from what runs.
//!
//! The shapes alone; their values are filled from the table of what is compiled in and switched on,
//! so that nothing is advertised that does not run.

use serde::Serialize;

/// Authorization server metadata (RFC 8414 §2), also served as the OpenID configuration.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "each member is RFC 8414's or OpenID Discovery's own")]
pub struct ServerMetadata {
    pub issuer: String,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    pub jwks_uri: String,
    pub revocation_endpoint: String,
    pub scopes_supported: Vec<String>,
    pub response_types_supported: Vec<&'static str>,
    pub response_modes_supported: Vec<&'static str>,
    pub grant_types_supported: Vec<&'static str>,
    pub token_endpoint_auth_methods_supported: Vec<&'static str>,
    pub token_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
    pub revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    pub revocation_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
    pub code_challenge_methods_supported: Vec<&'static str>,
    pub authorization_response_iss_parameter_supported: bool,
    pub subject_types_supported: Vec<&'static str>,
    pub id_token_signing_alg_values_supported: Vec<&'static str>,
    pub acr_values_supported: Vec<&'static str>,
    pub claims_supported: Vec<&'static str>,
    pub prompt_values_supported: Vec<&'static str>,
    pub request_parameter_supported: bool,
    pub request_uri_parameter_supported: bool,
    pub claims_parameter_supported: bool,
}

/// Protected resource metadata (RFC 9728 §2) of one API.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "each member is RFC 9728's own")]
pub struct ResourceMetadata {
    pub resource: String,
    pub authorization_servers: Vec<String>,
    pub scopes_supported: Vec<String>,
    pub bearer_methods_supported: Vec<&'static str>,
    pub resource_name: String,
}

/// Where an API's metadata stands (RFC 9728 §3.1): the well-known path inserted between host and
/// the path of the resource, whose trailing slash is cut.
pub fn resource_metadata_path(resource_path: &str) -> String {
    let path = resource_path.strip_suffix('/').unwrap_or(resource_path);
    format!("/.well-known/oauth-protected-resource{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_path_is_inserted_before_the_resource_path() {
        for (path, expected) in [
            ("", "/.well-known/oauth-protected-resource"),
            ("/", "/.well-known/oauth-protected-resource"),
            ("/v1", "/.well-known/oauth-protected-resource/v1"),
            ("/a/v1/", "/.well-known/oauth-protected-resource/a/v1"),
        ] {
            assert_eq!(resource_metadata_path(path), expected);
        }
    }

    #[test]
    fn members_have_the_standards_names() {
        let metadata = ResourceMetadata {
            resource: "https://api.example/v1".into(),
            authorization_servers: vec!["https://login.example".into()],
            scopes_supported: vec!["payments:read".into()],
            bearer_methods_supported: vec!["header"],
            resource_name: "payments".into(),
        };
        assert_eq!(
            serde_json::to_string(&metadata).unwrap(),
            r#"{"resource":"https://api.example/v1","authorization_servers":["https://login.example"],"scopes_supported":["payments:read"],"bearer_methods_supported":["header"],"resource_name":"payments"}"#
        );
    }
}
