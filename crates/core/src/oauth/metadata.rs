//! Discovery documents (RFC 8414, OpenID Connect Discovery, RFC 9728): generated from what runs.
//!
//! The shapes alone; their values are filled from the table of what is compiled in and switched on,
//! so that nothing is advertised that does not run.

use serde::Serialize;

/// Authorization server metadata (RFC 8414 §2), also served as the OpenID configuration. What is not
/// there is left out of the document, never written as `null` (RFC 8414 §3.2: no empty lists either).
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "each member is the standard's own that its group cites")]
pub struct ServerMetadata {
    // RFC 8414 §2
    pub issuer: String,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    pub jwks_uri: String,
    pub revocation_endpoint: String,
    pub introspection_endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration_endpoint: Option<String>,
    pub scopes_supported: Vec<String>,
    pub response_types_supported: Vec<&'static str>,
    pub response_modes_supported: Vec<&'static str>,
    pub grant_types_supported: Vec<&'static str>,
    pub token_endpoint_auth_methods_supported: Vec<&'static str>,
    pub token_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
    pub revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    pub revocation_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub introspection_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
    pub code_challenge_methods_supported: Vec<&'static str>,
    // RFC 8628 §4
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_authorization_endpoint: Option<String>,
    // RFC 9126 §5
    pub pushed_authorization_request_endpoint: String,
    pub require_pushed_authorization_requests: bool,
    // RFC 9207 §3
    pub authorization_response_iss_parameter_supported: bool,
    // RFC 9396 §10
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorization_details_types_supported: Vec<String>,
    // RFC 9449 §5.1
    pub dpop_signing_alg_values_supported: Vec<&'static str>,
    // RFC 8705 §3.3, §5
    pub tls_client_certificate_bound_access_tokens: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls_endpoint_aliases: Option<EndpointAliases>,
    // RFC 9701 §7
    pub introspection_signing_alg_values_supported: Vec<&'static str>,
    // JWT Secured Authorization Response Mode §4
    pub authorization_signing_alg_values_supported: Vec<&'static str>,
    // OAuth Client ID Metadata Document §5
    pub client_id_metadata_document_supported: bool,
    // RFC 9101 §10.5, OpenID Connect Discovery §3
    pub request_parameter_supported: bool,
    pub request_uri_parameter_supported: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub request_object_signing_alg_values_supported: Vec<&'static str>,
    // OpenID Connect Discovery §3
    pub userinfo_endpoint: String,
    pub userinfo_signing_alg_values_supported: Vec<&'static str>,
    pub subject_types_supported: Vec<&'static str>,
    pub id_token_signing_alg_values_supported: Vec<&'static str>,
    pub acr_values_supported: Vec<&'static str>,
    pub claims_supported: Vec<&'static str>,
    pub claims_parameter_supported: bool,
    // Initiating User Registration via OpenID Connect §3
    pub prompt_values_supported: Vec<&'static str>,
    // RP-Initiated Logout §2.1, Back-Channel Logout §2.1
    pub end_session_endpoint: String,
    pub backchannel_logout_supported: bool,
    pub backchannel_logout_session_supported: bool,
}

/// The same endpoints where client certificates are asked for (RFC 8705 §5).
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "each member is named as the endpoint that it stands for")]
pub struct EndpointAliases {
    pub token_endpoint: String,
    pub revocation_endpoint: String,
    pub introspection_endpoint: String,
    pub pushed_authorization_request_endpoint: String,
    pub userinfo_endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_authorization_endpoint: Option<String>,
}

/// Protected resource metadata (RFC 9728 §2) of one API.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "each member is RFC 9728's own")]
pub struct ResourceMetadata {
    pub resource: String,
    pub authorization_servers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes_supported: Vec<String>,
    pub bearer_methods_supported: Vec<&'static str>,
    pub resource_name: String,
    pub dpop_signing_alg_values_supported: Vec<&'static str>,
    pub dpop_bound_access_tokens_required: bool,
    pub tls_client_certificate_bound_access_tokens: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorization_details_types_supported: Vec<String>,
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
            dpop_signing_alg_values_supported: vec!["ES256"],
            dpop_bound_access_tokens_required: false,
            tls_client_certificate_bound_access_tokens: true,
            authorization_details_types_supported: Vec::new(),
        };
        assert_eq!(
            serde_json::to_string(&metadata).unwrap(),
            concat!(
                r#"{"resource":"https://api.example/v1","#,
                r#""authorization_servers":["https://login.example"],"#,
                r#""scopes_supported":["payments:read"],"bearer_methods_supported":["header"],"#,
                r#""resource_name":"payments","dpop_signing_alg_values_supported":["ES256"],"#,
                r#""dpop_bound_access_tokens_required":false,"#,
                r#""tls_client_certificate_bound_access_tokens":true}"#,
            )
        );
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let document = serde_json::to_value(ServerMetadata::default()).unwrap();
        for absent in [
            "registration_endpoint",
            "device_authorization_endpoint",
            "mtls_endpoint_aliases",
            "authorization_details_types_supported",
            "request_object_signing_alg_values_supported",
        ] {
            assert!(document.get(absent).is_none(), "{absent}");
        }
        assert!(!document.to_string().contains("null"));
    }
}
