//! The documents name what runs.

use super::*;
use crate::testing::{PAYMENTS, World, settings};
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::sign::SigningKey;

fn config() -> Settings {
    settings(&SigningKey::generate(Algorithm::Es256).expect("key"))
}

#[test]
fn every_endpoint_stands_on_the_issuer() {
    let document = server(&config());
    assert_eq!(document["issuer"], "https://login.example");
    for (name, path) in [
        ("authorization_endpoint", "/oauth/authorize"),
        ("token_endpoint", "/oauth/token"),
        ("jwks_uri", "/oauth/jwks"),
        ("revocation_endpoint", "/oauth/revoke"),
    ] {
        assert_eq!(document[name], format!("https://login.example{path}"));
    }
}

#[test]
fn nothing_is_advertised_that_does_not_run() {
    let text = server(&config()).to_string();
    for absent in [
        "introspection",
        "userinfo",
        "device_authorization",
        "pushed_authorization",
        "registration",
        "end_session",
        "dpop",
        "implicit",
        "refresh_token",
        "plain",
        "RS256",
        "client_secret_post",
    ] {
        assert!(!text.contains(absent), "{absent}");
    }
    let document = server(&config());
    for algorithm in
        document["token_endpoint_auth_signing_alg_values_supported"].as_array().expect("list")
    {
        assert!(Algorithm::from_name(algorithm.as_str().expect("text")).is_some());
    }
}

#[test]
fn scopes_are_those_of_the_lines() {
    let scopes = server(&config())["scopes_supported"].to_string();
    assert_eq!(
        scopes,
        r#"["openid","other:read","payments:read","payments:settle","payments:write"]"#
    );
}

#[test]
fn a_resource_has_its_own_document() {
    let document = resource(&config(), PAYMENTS).expect("known");
    assert_eq!(document["resource"], PAYMENTS);
    assert_eq!(document["authorization_servers"][0], "https://login.example");
    assert_eq!(document["bearer_methods_supported"][0], "header");
    assert!(resource(&config(), "https://api.example").is_none());
}

#[tokio::test]
async fn key_sets_are_apart_and_public() {
    let world = World::start().await;
    let (own, passports) = (world.identity.jwks(), world.identity.passport_jwks());
    assert_eq!(own["keys"].as_array().map(Vec::len), Some(2));
    assert_eq!(passports["keys"].as_array().map(Vec::len), Some(1));
    assert!(!own.to_string().contains("\"d\":") && !passports.to_string().contains("\"d\":"));
    assert!(!own.to_string().contains(passports["keys"][0]["kid"].as_str().expect("kid")));
}
