//! The documents name what runs: what is switched on, and nothing else.

use super::*;
use crate::logout::tests::client;
use crate::settings::{SelfRegistration, Strangers};
use crate::testing::{NOW, PAYMENTS, World, settings};
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::scope::Scopes;
use serde_json::json;

const ISSUER: &str = "https://login.example";

fn config() -> Settings {
    settings(&SigningKey::generate(Algorithm::Es256).expect("key"))
}

fn document(change: impl FnOnce(&mut Settings)) -> Value {
    let mut settings = config();
    change(&mut settings);
    server(&settings, NOW)
}

fn strangers() -> Option<Strangers> {
    Some(Strangers { scopes: Scopes::default(), hosts: Vec::new() })
}

#[test]
fn every_endpoint_stands_on_the_issuer() {
    let document = document(|_| {});
    assert_eq!(document["issuer"], ISSUER);
    for (name, path) in [
        ("authorization_endpoint", "/oauth/authorize"),
        ("token_endpoint", "/oauth/token"),
        ("jwks_uri", "/oauth/jwks"),
        ("revocation_endpoint", "/oauth/revoke"),
        ("introspection_endpoint", "/oauth/introspect"),
        ("userinfo_endpoint", "/oauth/userinfo"),
        ("pushed_authorization_request_endpoint", "/oauth/par"),
        ("end_session_endpoint", "/logout"),
    ] {
        assert_eq!(document[name], format!("{ISSUER}{path}"));
    }
}

#[test]
fn assurance_and_logout_are_advertised() {
    let document = document(|_| {});
    // RFC 9470 §7: what `acr_values` can ask for; Back-Channel Logout §2.1.
    assert_eq!(document["acr_values_supported"], json!(["aal1", "aal2"]));
    for on in ["backchannel_logout_supported", "backchannel_logout_session_supported"] {
        assert_eq!(document[on], true, "{on}");
    }
}

#[test]
fn what_is_switched_off_is_not_advertised() {
    let document = document(|_| {});
    for absent in [
        "device_authorization_endpoint",
        "registration_endpoint",
        "mtls_endpoint_aliases",
        "authorization_details_types_supported",
    ] {
        assert!(document.get(absent).is_none(), "{absent}");
    }
    for off in [
        "client_id_metadata_document_supported",
        "tls_client_certificate_bound_access_tokens",
        "require_pushed_authorization_requests",
        "request_uri_parameter_supported",
        "claims_parameter_supported",
    ] {
        assert_eq!(document[off], false, "{off}");
    }
    let text = document.to_string();
    for never in [
        "implicit",
        "\"plain\"",
        "RS256",
        "client_secret_post",
        "fragment",
        "tls_client_auth",
        "pairwise",
        "ui_locales",
        "frontchannel",
        "null",
    ] {
        assert!(!text.contains(never), "{never}");
    }
}

#[test]
fn what_is_switched_on_is_advertised() {
    let on = document(|settings| {
        settings.mtls = Address::parse("https://mtls.login.example").ok();
        settings.documents = strangers();
        settings.registration =
            Some(SelfRegistration { token_digest: [0; 32], scopes: Scopes::default() });
        settings.apis[0].details = vec!["payment".into()];
        client(settings, "mobile").grants.push(GrantType::DeviceCode);
        client(settings, "app").subject = SubjectType::Pairwise { sector: "app.example".into() };
    });
    assert_eq!(on["device_authorization_endpoint"], format!("{ISSUER}/oauth/device"));
    assert_eq!(on["registration_endpoint"], format!("{ISSUER}/oauth/register"));
    assert_eq!(on["client_id_metadata_document_supported"], true);
    assert_eq!(on["tls_client_certificate_bound_access_tokens"], true);
    assert_eq!(on["authorization_details_types_supported"], json!(["payment"]));
    assert_eq!(on["subject_types_supported"], json!(["public", "pairwise"]));
    let aliases = on["mtls_endpoint_aliases"].as_object().expect("aliases");
    for (name, address) in aliases {
        let host = "https://mtls.login.example/oauth/";
        assert!(address.as_str().is_some_and(|address| address.starts_with(host)), "{name}");
        let plain = on[name].as_str().expect("the endpoint itself");
        assert_eq!(address.as_str().map(|at| at.replace("mtls.", "")).as_deref(), Some(plain));
    }
    assert!(aliases.contains_key("device_authorization_endpoint"));
    let methods = on["token_endpoint_auth_methods_supported"].to_string();
    assert!(
        methods.contains("\"tls_client_auth\"") && methods.contains("self_signed_tls_client_auth")
    );
}

#[test]
fn grants_are_those_that_some_client_may_use() {
    let grants = |change: fn(&mut Settings)| document(change)["grant_types_supported"].clone();
    let usual = json!(["authorization_code", "refresh_token", "client_credentials"]);
    assert_eq!(grants(|_| {}), usual);
    assert_eq!(grants(|settings| settings.clients.clear()), json!(["authorization_code"]));
    let strange = grants(|settings| {
        settings.clients.clear();
        settings.documents = strangers();
    });
    assert_eq!(strange, json!(["authorization_code", "refresh_token"]));
    let all = grants(|settings| client(settings, "ledger").grants = GrantType::ALL.into());
    assert_eq!(all.as_array().map(Vec::len), Some(6));
}

#[test]
fn a_secret_is_advertised_while_its_waiver_lasts() {
    let settings = config();
    let until = Timestamp::from_unix(NOW.unix() + 86_400);
    let before = until.before(std::time::Duration::from_nanos(1));
    for (now, lasts) in [(NOW, true), (before, true), (until, false)] {
        let document = server(&settings, now);
        for list in ["token", "revocation", "introspection"] {
            let methods = &document[format!("{list}_endpoint_auth_methods_supported")];
            let offered = methods.as_array().expect("list").contains(&"client_secret_basic".into());
            assert_eq!(offered, lasts, "{list}");
        }
    }
}

#[test]
fn only_who_can_be_public_needs_no_proof() {
    let methods = |change: fn(&mut Settings)| {
        let document = document(change);
        let introspection = document["introspection_endpoint_auth_methods_supported"].to_string();
        assert!(!introspection.contains("none"), "RFC 7662 §2.1");
        document["token_endpoint_auth_methods_supported"].to_string()
    };
    assert!(methods(|_| {}).contains("none"));
    let confidential = |settings: &mut Settings| {
        settings.clients.retain(|_, client| client.is_confidential());
    };
    assert!(!methods(confidential).contains("none"));
    let strangers = |settings: &mut Settings| {
        settings.clients.clear();
        settings.documents = strangers();
    };
    assert!(methods(strangers).contains("none"));
}

#[test]
fn pushing_is_required_when_no_client_may_come_without() {
    let required = |now, change: fn(&mut Settings)| {
        let mut settings = config();
        change(&mut settings);
        server(&settings, now)["require_pushed_authorization_requests"] == true
    };
    let late = Timestamp::from_unix(NOW.unix() + 86_400);
    let confidential = |settings: &mut Settings| {
        settings.clients.retain(|_, client| client.is_confidential());
    };
    assert!(!required(late, |_| {}), "public clients need not push");
    assert!(!required(NOW, confidential), "waived until tomorrow");
    assert!(required(late, confidential));
    let open = |settings: &mut Settings| {
        settings.clients.retain(|_, client| client.is_confidential());
        settings.documents = strangers();
    };
    assert!(!required(late, open));
    assert!(!required(late, |settings| settings.clients.clear()), "nobody to require it of");
}

#[test]
fn every_algorithm_advertised_is_one_that_core_verifies() {
    let document = document(|_| {});
    let lists = document.as_object().expect("object").iter();
    let mut seen = 0;
    for (name, list) in lists.filter(|(name, _)| name.contains("signing_alg")) {
        for algorithm in list.as_array().expect("list") {
            let algorithm = algorithm.as_str().and_then(Algorithm::from_name);
            assert!(algorithm.is_some_and(|algorithm| algorithm != Algorithm::Rs256), "{name}");
        }
        seen += 1;
    }
    assert_eq!(seen, 9);
}

#[test]
fn scopes_are_those_of_the_lines_and_of_openid() {
    let scopes = &document(|_| {})["scopes_supported"];
    let expected = json!([
        "email",
        "offline_access",
        "openid",
        "other:read",
        "payments:read",
        "payments:settle",
        "payments:write",
        "profile",
    ]);
    assert_eq!(*scopes, expected);
}

#[test]
fn a_resource_has_its_own_document() {
    let mut config = config();
    let found = resource(&config, PAYMENTS).expect("known");
    assert_eq!(found["resource"], PAYMENTS);
    assert_eq!(found["authorization_servers"], json!([ISSUER]));
    assert_eq!(found["bearer_methods_supported"], json!(["header"]));
    assert_eq!(found["dpop_signing_alg_values_supported"], json!(VERIFIED));
    assert_eq!(found["tls_client_certificate_bound_access_tokens"], false);
    assert!(found.get("authorization_details_types_supported").is_none());
    assert!(resource(&config, "https://api.example").is_none());
    config.mtls = Address::parse("https://mtls.login.example").ok();
    config.apis[0].details = vec!["payment".into()];
    let found = resource(&config, PAYMENTS).expect("known");
    assert_eq!(found["tls_client_certificate_bound_access_tokens"], true);
    assert_eq!(found["authorization_details_types_supported"], json!(["payment"]));
}

#[tokio::test]
async fn key_sets_are_apart_and_public() {
    let world = World::start().await;
    let (own, passports) = (world.identity.jwks(), world.identity.passport_jwks());
    assert_eq!(own["keys"].as_array().map(Vec::len), Some(4), "an active and a next one each");
    assert_eq!(passports["keys"].as_array().map(Vec::len), Some(2));
    assert!(!own.to_string().contains("\"d\":") && !passports.to_string().contains("\"d\":"));
    for passport in passports["keys"].as_array().expect("keys") {
        assert!(!own.to_string().contains(passport["kid"].as_str().expect("kid")));
    }
}

#[tokio::test]
async fn the_server_serves_what_its_settings_say_now() {
    let world = World::start().await;
    assert_eq!(world.identity.metadata()["client_id_metadata_document_supported"], false);
    world.reload(|settings| settings.documents = strangers());
    assert_eq!(world.identity.metadata()["client_id_metadata_document_supported"], true);
}
