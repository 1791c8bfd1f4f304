//! Registration and its management: who may, what is kept, what is in force at once.

use std::time::Duration;

use portcullis_core::scope::Scopes;
use portcullis_core::time::Clock;

use super::*;
use crate::settings::SelfRegistration;
use crate::testing::*;

const INITIAL: &str = "an initial access token of many bits";

async fn world() -> World {
    World::with(open).await
}

fn open(settings: &mut Settings) {
    let scopes = Scopes::parse("payments:read").expect("scopes");
    let token_digest = sha256(INITIAL.as_bytes());
    settings.registration = Some(SelfRegistration { token_digest, scopes });
}

async fn call(
    world: &World,
    (method, client): (&str, Option<&str>),
    token: &str,
    body: &Value,
) -> Result<RegistrationAnswer, (u16, &'static str)> {
    let (field, body) = (format!("Bearer {token}"), body.to_string());
    let call = Call { method, client, authorization: &[field.as_bytes()], body: body.as_bytes() };
    let answer = world.identity.register(call, Presented::default()).await;
    answer.result.map_err(|error| (error.status(), error.rule))
}

fn metadata() -> Value {
    json!({
        "redirect_uris": [REDIRECT],
        "client_name": "A tool",
        "grant_types": ["authorization_code", "refresh_token"],
        "scope": "payments:read payments:write",
    })
}

/// A client that registered itself: its id and its registration access token.
async fn registered(world: &World) -> (String, String) {
    let answer = call(world, ("POST", None), INITIAL, &metadata()).await.expect("registered");
    let body = answer.body.expect("described");
    assert_eq!(answer.status, 201);
    assert_eq!(
        (&body["scope"], &body["token_endpoint_auth_method"]),
        (&json!("payments:read"), &json!("none"))
    );
    let text = |name: &str| body[name].as_str().expect("text").to_owned();
    assert_eq!(
        text("registration_client_uri"),
        format!("{ISSUER}/oauth/register/client?client_id={}", text("client_id"))
    );
    (text("client_id"), text("registration_access_token"))
}

#[tokio::test]
async fn a_client_that_registered_itself_works_at_once() {
    let world = world().await;
    let ada = world.ada().await;
    let (id, _) = registered(&world).await;
    assert!(id.starts_with("c_"));
    let mut browser = Browser::new();
    let shown = browser.authorize(&world, &request_with(&[("client_id", &id)])).await;
    assert_eq!(page(&shown), "password", "{}", rule(&shown));
    assert_eq!(page(&browser.prove(&world, &ada).await), "consent");
    let code = code_of(&browser.consent(&world, "allow").await);
    let mut form = redemption(&code);
    form[1].1 = &id;
    let answer = world.token(&form).await.result.unwrap_or_else(|error| panic!("{}", error.rule));
    assert!(answer.refresh_token.is_some());
    // At rest: as the binary reads it, with the token as a digest alone.
    let client = Id::parse(&id).expect("id");
    let reading = async move |tx: &Tx| tx.client(&client).await;
    let stored: Result<_, StoreFault> = world.store.read(reading).await;
    let stored = stored.expect("read").expect("kept");
    assert_eq!(stored.registered, Registered::Itself);
    let at_rest: Value = serde_json::from_str(&stored.registration).expect("JSON");
    assert_eq!((&at_rest["kind"], &at_rest["scopes"]), (&json!("spa"), &json!("payments:read")));
    assert_eq!(at_rest["name"], json!("A tool"));
    // Those that the binary knows, and no other: it refuses what it does not know.
    let known = [
        "kind",
        "redirects",
        "scopes",
        "keys",
        "bearer_tokens",
        "no_par",
        "grants",
        "post_logout",
        "name",
        "back_channel_logout",
    ];
    for member in at_rest.as_object().expect("an object").keys() {
        assert!(known.contains(&member.as_str()), "{member}");
    }
}

#[tokio::test]
async fn registration_off() {
    let world = World::start().await;
    for what in [("POST", None), ("GET", Some("app")), ("DELETE", Some("app"))] {
        let refused = call(&world, what, INITIAL, &metadata()).await.err();
        assert_eq!(refused.map(|(_, rule)| rule), Some("RegistrationOff"));
    }
}

#[tokio::test]
async fn registration_token_wrong() {
    let world = world().await;
    let (id, token) = registered(&world).await;
    let (other, others) = registered(&world).await;
    let wrong = Some((401, "RegistrationTokenWrong"));
    let before = world.store.commits();
    for bad in ["", "x", &INITIAL[1..], &token] {
        assert_eq!(call(&world, ("POST", None), bad, &metadata()).await.err(), wrong, "{bad}");
    }
    for bad in ["", "x", INITIAL, &others] {
        for method in ["GET", "PUT", "DELETE"] {
            let refused = call(&world, (method, Some(&id)), bad, &metadata()).await.err();
            assert_eq!(refused, wrong, "{method} {bad}");
        }
    }
    // A client of the file has no such token, and another's does not open it.
    assert_eq!(call(&world, ("GET", Some("app")), &others, &json!({})).await.err(), wrong);
    let none = Call { method: "POST", client: None, authorization: &[], body: b"{}" };
    let refused = world.identity.register(none, Presented::default()).await.result.err();
    assert_eq!(refused.map(|error| error.rule), Some("RegistrationTokenWrong"));
    assert_eq!(world.store.commits(), before, "nothing is written for any of them");
    assert!(call(&world, ("GET", Some(&other)), &others, &json!({})).await.is_ok());
}

#[tokio::test]
async fn metadata_malformed_and_method_unsupported() {
    let world = world().await;
    for (body, expected) in [
        (json!([]), (400, "MetadataMalformed")),
        (json!({"redirect_uris": [], "x": "y"}), (400, "RedirectMissing")),
        (json!({"x": "y".repeat(17 * 1024)}), (400, "MetadataMalformed")),
        (json!({"redirect_uris": ["http://evil.example/cb"]}), (400, "RedirectMalformed")),
    ] {
        assert_eq!(call(&world, ("POST", None), INITIAL, &body).await.err(), Some(expected));
    }
    let refused = call(&world, ("PATCH", None), INITIAL, &metadata()).await.err();
    assert_eq!(refused, Some((400, "MethodUnsupported")));
}

#[tokio::test]
async fn replaced_as_a_whole_and_what_it_held_shrinks() {
    let world = world().await;
    let ada = world.ada().await;
    let (id, token) = registered(&world).await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[("client_id", &id)])).await;
    browser.prove(&world, &ada).await;
    let code = code_of(&browser.consent(&world, "allow").await);
    let mut form = redemption(&code);
    form[1].1 = &id;
    let held = world.token(&form).await.result.unwrap_or_else(|error| panic!("{}", error.rule));
    let mut changed = metadata();
    let refused = call(&world, ("PUT", Some(&id)), &token, &changed).await.err();
    assert_eq!(refused, Some((400, "ClientIdOther")));
    changed["client_id"] = json!(id);
    changed["redirect_uris"] = json!(["https://new.example/cb"]);
    let answer = call(&world, ("PUT", Some(&id)), &token, &changed).await.expect("replaced");
    assert_eq!(answer.body.expect("described")["redirect_uris"], json!(["https://new.example/cb"]));
    let shown = browser.authorize(&world, &request_with(&[("client_id", &id)])).await;
    assert_eq!(rule(&shown), "RedirectUnregistered");
    assert_eq!(world.claims(&held.access_token).err(), Some("token_revoked"));
    let read = call(&world, ("GET", Some(&id)), &token, &json!({})).await.expect("read");
    assert_eq!(read.body.expect("described")["redirect_uris"], json!(["https://new.example/cb"]));
}

#[tokio::test]
async fn removed_with_all_that_it_holds() {
    let world = world().await;
    let (id, token) = registered(&world).await;
    let answer = call(&world, ("DELETE", Some(&id)), &token, &json!({})).await.expect("removed");
    assert_eq!((answer.status, answer.body), (204, None));
    let shown = Browser::new().authorize(&world, &request_with(&[("client_id", &id)])).await;
    assert_eq!(rule(&shown), "ClientUnknown");
    let refused = call(&world, ("GET", Some(&id)), &token, &json!({})).await.err();
    assert_eq!(refused, Some((401, "RegistrationTokenWrong")));
}

/// A reload that read the store before the client went, or another node that has not heard of it yet.
#[tokio::test]
async fn a_removed_client_is_gone_whatever_the_settings_say() {
    let world = world().await;
    let ada = world.ada().await;
    let (id, token) = registered(&world).await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[("client_id", &id)])).await;
    browser.prove(&world, &ada).await;
    let code = code_of(&browser.consent(&world, "allow").await);
    let stale = Settings::clone(&world.identity.desk().settings);
    assert!(call(&world, ("DELETE", Some(&id)), &token, &json!({})).await.is_ok());
    world.identity.reload(stale);
    let mut form = redemption(&code);
    form[1].1 = &id;
    let refused = world.token(&form).await.result.err().map(|error| error.rule);
    assert_eq!(refused, Some("ClientRemoved"));
}

/// What a reload reads of the store is whole until it is swapped in: a client that registers
/// meanwhile waits, or the swap would forget it.
#[tokio::test]
async fn nobody_registers_while_a_reload_reads() {
    let world = world().await;
    let (id, token) = registered(&world).await;
    let reading = world.identity.hold_registrations().await;
    let commits = world.store.commits();
    let (moment, nothing) = (Duration::from_millis(20), json!({}));
    for (what, token) in [
        (("POST", None), INITIAL),
        (("PUT", Some(&*id)), &*token),
        (("DELETE", Some(&*id)), &*token),
    ] {
        let waiting = call(&world, what, token, &nothing);
        assert!(tokio::time::timeout(moment, waiting).await.is_err(), "{}", what.0);
    }
    assert!(call(&world, ("GET", Some(&id)), &token, &nothing).await.is_ok(), "reading goes on");
    assert_eq!(world.store.commits(), commits);
    drop(reading);
    assert!(call(&world, ("DELETE", Some(&id)), &token, &nothing).await.is_ok());
}

#[tokio::test]
async fn a_disabled_client_does_not_manage_itself() {
    let world = world().await;
    let (id, token) = registered(&world).await;
    let (client, now) = (Id::parse(&id).expect("id"), world.clock.now());
    world.change(async move |tx: &Tx| tx.disable_client(&client, now).await).await;
    world.clock.advance(Duration::from_secs(1));
    for method in ["GET", "PUT", "DELETE"] {
        let refused = call(&world, (method, Some(&id)), &token, &metadata()).await.err();
        assert_eq!(refused, Some((401, "RegistrationTokenWrong")), "{method}");
    }
}
