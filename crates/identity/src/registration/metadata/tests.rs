//! What a client may say of itself: each refusal by its rule.

use serde_json::json;

use super::*;

fn read(value: Value) -> Result<Metadata, (&'static str, &'static str)> {
    let Value::Object(members) = value else { panic!("an object") };
    Metadata::read(&members).map_err(|error| (error.code.as_str(), error.rule))
}

fn keys() -> Value {
    let key = portcullis_core::jose::sign::SigningKey::generate(
        portcullis_core::jose::algorithm::Algorithm::Es256,
    );
    JwkSet::new(vec![key.expect("key").public()]).to_json()
}

fn with(name: &str, value: Value) -> Value {
    let mut said = json!({ "redirect_uris": ["https://app.example/cb"] });
    said[name] = value;
    said
}

#[test]
fn a_kind_follows_from_redirects_and_keys() {
    for (said, expected) in [
        (json!({"redirect_uris": ["https://a.example/cb"]}), ClientType::Spa),
        (json!({"redirect_uris": ["http://127.0.0.1/cb"]}), ClientType::Native),
        (json!({"redirect_uris": ["http://localhost:3000/cb"]}), ClientType::Native),
        (json!({"redirect_uris": ["https://a.example/cb", "com.app:/cb"]}), ClientType::Native),
        (with("application_type", json!("native")), ClientType::Native),
        // Whatever it says: any app of the machine could claim that redirect.
        (json!({"redirect_uris": ["com.app:/cb"], "application_type": "web"}), ClientType::Native),
        (with("jwks", keys()), ClientType::Web),
    ] {
        assert_eq!(read(said.clone()).map(|read| read.kind), Ok(expected), "{said}");
    }
}

#[test]
fn left_out_means_the_code_grant_alone() {
    let plain = read(with("unknown", json!(1))).map(|read| read.grants);
    assert_eq!(plain, Ok(vec![GrantType::AuthorizationCode]));
    let both = json!(["refresh_token", "authorization_code"]);
    let both = read(with("grant_types", both)).map(|read| read.grants);
    assert_eq!(both, Ok(vec![GrantType::AuthorizationCode, GrantType::RefreshToken]));
}

#[test]
fn each_rule_refuses_by_itself() {
    let redirect = "invalid_redirect_uri";
    for (value, rule) in [
        (json!([]), "RedirectMissing"),
        (json!("https://app.example/cb"), "RedirectMalformed"),
        (json!([7]), "RedirectMalformed"),
        (json!(["https://app.example/cb#f"]), "RedirectMalformed"),
        (json!(["https://*.example/cb"]), "RedirectMalformed"),
        (json!(["http://app.example/cb"]), "RedirectMalformed"),
        (json!(["javascript:alert(1)"]), "RedirectMalformed"),
        (json!(["https://app.example/../cb"]), "RedirectMalformed"),
        (json!(vec!["https://app.example/cb"; 17]), "RedirectsTooMany"),
    ] {
        let found = read(with("redirect_uris", value.clone())).err();
        assert_eq!(found, Some((redirect, rule)), "{value}");
    }
    let long = "n".repeat(MAX_NAME + 1);
    for (name, value, rule) in [
        ("client_secret", json!("s"), "SecretForbidden"),
        ("client_secret_expires_at", json!(0), "SecretForbidden"),
        ("jwks_uri", json!("https://app.example/jwks"), "KeysByReference"),
        ("software_statement", json!("a.b.c"), "StatementUnsupported"),
        ("sector_identifier_uri", json!("https://a.example/s"), "SectorUnsupported"),
        ("token_endpoint_auth_method", json!("client_secret_basic"), "MethodUnsupported"),
        ("token_endpoint_auth_method", json!("tls_client_auth"), "MethodUnsupported"),
        ("token_endpoint_auth_method", json!("private_key_jwt"), "KeysMissing"),
        ("token_endpoint_auth_method", json!(7), "MemberMalformed"),
        ("jwks", json!({"keys": []}), "passed"),
        ("jwks", json!({"keys": [{"kty": "oct", "k": "AAAA"}]}), "KeysMalformed"),
        ("application_type", json!("service"), "ApplicationTypeUnknown"),
        ("grant_types", json!(["client_credentials"]), "GrantUnsupported"),
        ("grant_types", json!(["authorization_code", "implicit"]), "GrantUnsupported"),
        ("grant_types", json!(["refresh_token"]), "GrantUnsupported"),
        ("grant_types", json!("authorization_code"), "GrantMalformed"),
        ("response_types", json!(["token"]), "ResponseTypeUnsupported"),
        ("response_types", json!(["code", "id_token"]), "ResponseTypeUnsupported"),
        ("scope", json!("a\"b"), "ScopeMalformed"),
        ("client_name", json!(""), "NameMalformed"),
        ("client_name", json!("two\nlines"), "NameMalformed"),
        ("client_name", json!("evil\u{202e}gpj"), "NameMalformed"),
        ("client_name", json!("app\u{200b}"), "NameMalformed"),
        ("client_name", json!(long), "NameMalformed"),
        ("post_logout_redirect_uris", json!(["javascript:x"]), "RedirectMalformed"),
        ("backchannel_logout_uri", json!("http://a.example/l"), "LogoutAddressMalformed"),
        ("backchannel_logout_uri", json!("https://a.example/l#f"), "LogoutAddressMalformed"),
        ("authorization_details_types", json!(vec!["a"; 17]), "DetailTypesMalformed"),
        ("authorization_details_types", json!([""]), "DetailTypesMalformed"),
    ] {
        let found = read(with(name, value.clone())).map_or_else(|(_, rule)| rule, |_| "passed");
        assert_eq!(found, rule, "{name} {value}");
    }
    let mut both = with("jwks", keys());
    both["token_endpoint_auth_method"] = json!("none");
    assert_eq!(read(both).err().map(|(_, rule)| rule), Some("KeysOfPublicClient"));
    let mut native = with("jwks", keys());
    native["redirect_uris"] = json!(["http://127.0.0.1/cb"]);
    assert_eq!(read(native).err().map(|(_, rule)| rule), Some("KeysOfNativeClient"));
}
