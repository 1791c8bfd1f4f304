//! What words of others become: exactly what the operator named, and nothing of the wrong type.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn issuer(map: ClaimMap) -> ForeignIssuer {
    ForeignIssuer {
        name: "partner".into(),
        issuer: "https://id.partner.example".into(),
        source: KeySource::Discovery,
        audience: vec!["api".into()],
        algorithms: vec![],
        map,
        until: None,
    }
}
fn map(claim: &str, words: &[(&str, &str)]) -> ClaimMap {
    let words = words.iter().map(|(word, meaning)| ((*word).into(), (*meaning).into()));
    ClaimMap { claim: claim.into(), words: words.collect(), ..ClaimMap::default() }
}
fn claims(more: Value) -> ForeignClaims {
    let mut raw = json!({ "iss": "https://id.partner.example", "sub": "alice", "aud": "api",
        "exp": 1_900_000_000 });
    let members = raw.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object").clone());
    ForeignClaims::read(members.clone()).expect("claims")
}
fn roles(claim: &str, more: Value) -> Vec<String> {
    let words =
        &[("CN=pay-admins", "role:admin"), ("pay read", "role:reader"), ("pay", "role:payer")];
    mapped(&issuer(map(claim, words)), &claims(more)).roles
}

#[test]
fn a_word_becomes_what_the_operator_named() {
    let words = &[
        ("CN=pay-admins", "role:admin"),
        ("staff", "group:employees"),
        ("more", "role:admin"),
        ("odd", "admin"),
        ("other", "tenant:x"),
    ];
    let all = json!({ "groups": ["staff", "CN=pay-admins", "more", "odd", "other", "unknown"] });
    let mapped = mapped(&issuer(map("groups", words)), &claims(all));
    assert_eq!(mapped.roles, ["admin"]);
    assert_eq!(mapped.groups, ["employees"]);
    assert_eq!((mapped.tenant, mapped.attributes.len()), (None, 0));
}

#[test]
fn a_role_of_ours_in_their_words_is_only_a_word() {
    for word in ["admin", "role:admin", "cn=pay-admins", "CN=pay-admins ", "CN=pay-admin", ""] {
        assert_eq!(roles("groups", json!({ "groups": [word] })), Vec::<String>::new(), "{word}");
        assert_eq!(roles("groups", json!({ "groups": word })), Vec::<String>::new(), "{word}");
    }
    let elsewhere = json!({ "roles": ["CN=pay-admins"], "role": "admin", "admin": true });
    assert_eq!(roles("groups", elsewhere), Vec::<String>::new());
}

#[test]
fn a_claim_of_the_wrong_type_is_no_role() {
    for value in [
        json!(null),
        json!(true),
        json!(7),
        json!({ "CN=pay-admins": true }),
        json!([["CN=pay-admins"]]),
        json!(["CN=pay-admins", 7]),
        json!([{ "name": "CN=pay-admins" }, "CN=pay-admins"]),
        json!("CN=pay-admins,other"),
        json!("CN=pay-admins other"),
    ] {
        assert_eq!(roles("groups", json!({ "groups": value })), Vec::<String>::new(), "{value}");
    }
    assert_eq!(roles("groups", json!({ "groups": "CN=pay-admins" })), ["admin"]);
}

#[test]
fn only_scopes_are_words_with_spaces_between() {
    assert_eq!(roles("scope", json!({ "scope": "openid pay" })), ["payer"]);
    assert_eq!(roles("scp", json!({ "scp": "pay openid" })), ["payer"]);
    assert_eq!(roles("scp", json!({ "scp": ["pay read"] })), ["reader"]);
    assert_eq!(roles("groups", json!({ "groups": "pay read" })), ["reader"]);
}

#[test]
fn a_claim_is_found_by_its_very_name_or_along_its_dots() {
    let nested = json!({ "realm_access": { "roles": ["pay"] } });
    assert_eq!(roles("realm_access.roles", nested), ["payer"]);
    let deeper = json!({ "resource_access": { "api.example": { "roles": ["pay"] } } });
    assert_eq!(roles("resource_access.api.example.roles", deeper), Vec::<String>::new());
    let deeper = json!({ "resource_access": { "api": { "roles": ["pay"] } } });
    assert_eq!(roles("resource_access.api.roles", deeper), ["payer"]);
    let address = json!({ "https://pay.example/roles": ["pay"] });
    assert_eq!(roles("https://pay.example/roles", address), ["payer"]);
    let both = json!({ "a.b": ["pay"], "a": { "b": ["CN=pay-admins"] } });
    assert_eq!(roles("a.b", both), ["payer"]);
    for lacking in [json!({ "a": 7 }), json!({ "a": ["pay"] }), json!({ "a": {} }), json!({})] {
        assert_eq!(roles("a.b", lacking.clone()), Vec::<String>::new(), "{lacking}");
        assert_eq!(roles("", lacking), Vec::<String>::new());
    }
}

#[test]
fn tenant_and_attributes_have_their_types() {
    let map = ClaimMap {
        tenant: Some("tid".into()),
        attributes: [("lvl", "level"), ("dep.name", "department"), ("ok", "cleared"), ("x", "y")]
            .map(|(claim, attribute)| (claim.to_owned(), attribute.to_owned()))
            .into(),
        ..ClaimMap::default()
    };
    let good = json!({ "tid": "acme", "lvl": 3, "dep": { "name": "pay" }, "ok": true, "x": [1] });
    let read = mapped(&issuer(map.clone()), &claims(good));
    assert_eq!(read.tenant.as_deref(), Some("acme"));
    let expected = BTreeMap::from([
        ("cleared".to_owned(), Attribute::Bool(true)),
        ("department".to_owned(), Attribute::String("pay".into())),
        ("level".to_owned(), Attribute::Integer(3)),
    ]);
    assert_eq!(read.attributes, expected);
    let long = "x".repeat(MAX_FOREIGN_WORD + 1);
    for bad in [json!(null), json!(1.5), json!([]), json!({}), json!(long), json!(u64::MAX)] {
        let read = mapped(&issuer(map.clone()), &claims(json!({ "tid": bad, "lvl": bad })));
        assert_eq!(read, Mapped::default(), "{bad}");
    }
    for bad in [json!(7), json!(["acme"]), json!(""), json!("a\nb"), json!(true)] {
        let read = mapped(&issuer(map.clone()), &claims(json!({ "tid": bad })));
        assert_eq!(read.tenant, None, "{bad}");
    }
}

#[test]
fn without_a_map_nothing_counts() {
    let more = json!({ "roles": ["admin"], "groups": ["x"], "tenant": "acme", "": ["pay"] });
    assert_eq!(mapped(&issuer(ClaimMap::default()), &claims(more)), Mapped::default());
}

proptest! {
    #[test]
    fn only_named_rights_come_out(claim in "[a-c.]{0,5}", words in proptest::collection::vec("[a-c:]{0,3}", 0..6)) {
        let map = map(&claim, &[("a", "role:one"), ("b", "group:two"), ("c", "role:three")]);
        let read = mapped(&issuer(map), &claims(json!({ "a": words, "b": { "c": words } })));
        prop_assert!(read.roles.iter().all(|role| role == "one" || role == "three"));
        prop_assert!(read.groups.iter().all(|group| group == "two"));
    }
}
