//! Discovery: what is advertised runs, and what does not run is not advertised.
//!
//! Generated from the settings in force: an endpoint that the file switches off, a grant that no
//! client may use, a way to authenticate that nobody has, is not in the document.

use std::collections::BTreeSet;

use portcullis_core::client::{Authentication, ClientRecord, GrantType, SubjectType};
use portcullis_core::oauth::metadata::{EndpointAliases, ResourceMetadata, ServerMetadata};
use portcullis_core::time::Timestamp;
use portcullis_core::web::Address;
use serde_json::Value;

use crate::authorize::OPENID;
use crate::settings::Settings;

/// What core verifies that clients sign: assertions, request objects, proofs. RS256 is left out
/// (`4-identity`, "Clients"; FAPI 2.0 §5.4.1).
const VERIFIED: [&str; 4] = ["EdDSA", "Ed25519", "ES256", "PS256"];
/// What we sign for clients to read. OpenID Connect Discovery §3 asks for RS256 too: the named
/// deviation of `4-identity`.
const SIGNED: [&str; 1] = ["ES256"];
/// The scopes of OpenID Connect Core §5.4 and §11 that userinfo and the grants know.
const OPENID_SCOPES: [&str; 4] = [OPENID, "email", "offline_access", "profile"];
/// The claims of ID tokens and userinfo.
const CLAIMS: [&str; 14] = [
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
    "name",
    "preferred_username",
    "email",
];

/// RFC 8414 §2 and OpenID Connect Discovery §3, one document for both.
pub(crate) fn server(settings: &Settings, now: Timestamp) -> Value {
    let at = |path: &str| settings.issuer.with_path(path).to_string();
    let grants = grants(settings);
    let methods = methods(settings, now);
    let proven: Vec<&str> = methods.iter().copied().filter(|method| *method != "none").collect();
    let document = ServerMetadata {
        issuer: settings.issuer_text.to_string(),
        authorization_endpoint: at("/oauth/authorize"),
        token_endpoint: at("/oauth/token"),
        jwks_uri: at("/oauth/jwks"),
        revocation_endpoint: at("/oauth/revoke"),
        introspection_endpoint: at("/oauth/introspect"),
        registration_endpoint: settings.registration.as_ref().map(|_| at("/oauth/register")),
        scopes_supported: scopes(settings),
        response_types_supported: vec!["code"],
        // Never a fragment (RFC 9700 §2.1.2).
        response_modes_supported: vec!["query", "form_post", "jwt", "query.jwt", "form_post.jwt"],
        token_endpoint_auth_methods_supported: methods.clone(),
        token_endpoint_auth_signing_alg_values_supported: VERIFIED.into(),
        revocation_endpoint_auth_methods_supported: methods,
        revocation_endpoint_auth_signing_alg_values_supported: VERIFIED.into(),
        // RFC 7662 §2.1: nobody asks there without saying who they are.
        introspection_endpoint_auth_methods_supported: proven,
        introspection_endpoint_auth_signing_alg_values_supported: VERIFIED.into(),
        // RFC 9700 §2.1.1: S256 alone.
        code_challenge_methods_supported: vec!["S256"],
        device_authorization_endpoint: device(&grants).map(at),
        pushed_authorization_request_endpoint: at("/oauth/par"),
        require_pushed_authorization_requests: all_push(settings, now),
        // RFC 9207 §3
        authorization_response_iss_parameter_supported: true,
        authorization_details_types_supported: details(settings),
        dpop_signing_alg_values_supported: VERIFIED.into(),
        tls_client_certificate_bound_access_tokens: settings.mtls.is_some(),
        mtls_endpoint_aliases: settings.mtls.as_ref().map(|host| aliases(host, &grants)),
        grant_types_supported: grants.into_iter().map(GrantType::as_str).collect(),
        introspection_signing_alg_values_supported: SIGNED.into(),
        authorization_signing_alg_values_supported: SIGNED.into(),
        client_id_metadata_document_supported: settings.documents.is_some(),
        request_parameter_supported: true,
        // OpenID Connect Discovery §3: left out it would mean true. A `request_uri` is one of our
        // own PAR endpoint, and nothing else is ever fetched.
        request_uri_parameter_supported: false,
        request_object_signing_alg_values_supported: VERIFIED.into(),
        userinfo_endpoint: at("/oauth/userinfo"),
        userinfo_signing_alg_values_supported: SIGNED.into(),
        subject_types_supported: subject_types(settings),
        id_token_signing_alg_values_supported: SIGNED.into(),
        acr_values_supported: vec!["aal1", "aal2"],
        claims_supported: CLAIMS.into(),
        claims_parameter_supported: false,
        prompt_values_supported: vec!["none", "login", "consent", "select_account"],
        end_session_endpoint: at("/logout"),
        backchannel_logout_supported: true,
        // Back-Channel Logout §2.1: each logout token names the session.
        backchannel_logout_session_supported: true,
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
        dpop_signing_alg_values_supported: VERIFIED.into(),
        // Some line may take an unbound token; which does not stands with each refusal.
        dpop_bound_access_tokens_required: false,
        tls_client_certificate_bound_access_tokens: settings.mtls.is_some(),
        authorization_details_types_supported: api.details.clone(),
    };
    serde_json::to_value(document).ok()
}

/// Whether software that nobody registered, or that registers itself, may come.
fn takes_strangers(settings: &Settings) -> bool {
    settings.documents.is_some() || settings.registration.is_some()
}

fn clients(settings: &Settings) -> impl Iterator<Item = &ClientRecord> {
    settings.clients.values().map(|client| &**client)
}

/// The grants that some client may use. The code grant is always there: RFC 8414 §2 reads an absent
/// list as "code and implicit", and so might some read an empty one.
fn grants(settings: &Settings) -> Vec<GrantType> {
    let used = |grant: &GrantType| match grant {
        GrantType::AuthorizationCode => true,
        GrantType::RefreshToken if takes_strangers(settings) => true,
        GrantType::RefreshToken
        | GrantType::ClientCredentials
        | GrantType::DeviceCode
        | GrantType::TokenExchange
        | GrantType::JwtBearer => clients(settings).any(|client| client.may(*grant)),
    };
    GrantType::ALL.into_iter().filter(used).collect()
}

fn device(grants: &[GrantType]) -> Option<&'static str> {
    grants.contains(&GrantType::DeviceCode).then_some("/oauth/device")
}

/// How clients authenticate: keys always, the rest where it is switched on.
fn methods(settings: &Settings, now: Timestamp) -> Vec<&'static str> {
    let mut methods = vec!["private_key_jwt"];
    if takes_strangers(settings) || clients(settings).any(|client| !client.is_confidential()) {
        methods.push("none");
    }
    if settings.mtls.is_some() {
        // RFC 8705 §2.1.1, §2.2.1
        methods.extend(["tls_client_auth", "self_signed_tls_client_auth"]);
    }
    let secret = |client: &ClientRecord| {
        matches!(client.authentication, Authentication::SecretDigest(_))
            && client.waivers.client_secret_at(now)
    };
    // FAPI 2.0 §5.3.2.1 has no secrets: only while some client's waiver lasts.
    if clients(settings).any(secret) {
        methods.push("client_secret_basic");
    }
    methods
}

/// Whether every authorization request must be pushed: there is a client that uses codes, and none
/// that may come without (RFC 9126 §5).
fn all_push(settings: &Settings, now: Timestamp) -> bool {
    let mut codes = clients(settings).filter(|client| client.uses_codes()).peekable();
    let must = |client: &ClientRecord| client.is_confidential() && !client.waivers.no_par_at(now);
    codes.peek().is_some() && codes.all(must) && !takes_strangers(settings)
}

fn scopes(settings: &Settings) -> Vec<String> {
    let mut scopes: BTreeSet<String> = OPENID_SCOPES.map(str::to_owned).into();
    scopes.extend(settings.apis.iter().flat_map(|api| api.scopes.iter().map(str::to_owned)));
    scopes.into_iter().collect()
}

fn details(settings: &Settings) -> Vec<String> {
    let types: BTreeSet<String> =
        settings.apis.iter().flat_map(|api| api.details.iter().cloned()).collect();
    types.into_iter().collect()
}

fn subject_types(settings: &Settings) -> Vec<&'static str> {
    let pairwise = |client: &ClientRecord| match client.subject {
        SubjectType::Public => false,
        SubjectType::Pairwise { .. } => true,
    };
    let mut types = vec!["public"];
    if clients(settings).any(pairwise) {
        types.push("pairwise");
    }
    types
}

/// RFC 8705 §5: the endpoints that read a client certificate, where one is asked for.
fn aliases(host: &Address, grants: &[GrantType]) -> EndpointAliases {
    let at = |path: &str| host.with_path(path).to_string();
    EndpointAliases {
        token_endpoint: at("/oauth/token"),
        revocation_endpoint: at("/oauth/revoke"),
        introspection_endpoint: at("/oauth/introspect"),
        pushed_authorization_request_endpoint: at("/oauth/par"),
        userinfo_endpoint: at("/oauth/userinfo"),
        device_authorization_endpoint: device(grants).map(at),
    }
}

#[cfg(test)]
mod tests;
