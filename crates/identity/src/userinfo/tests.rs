//! What a client may know of its user, and when it may not.

use portcullis_core::client::SubjectType;
use portcullis_core::jose::{jws, verify};
use portcullis_core::oauth::token::TokenAnswer;
use serde_json::json;

use super::*;
use crate::account::AddedUser;
use crate::settings::Settings;
use crate::testing::*;

fn sector(host: &str) -> SubjectType {
    SubjectType::Pairwise { sector: host.to_owned() }
}

/// `app` and the payments also use `profile` and `email`.
fn with_claims(settings: &mut Settings, change: impl FnOnce(&mut ClientRecord)) {
    let scopes = Scopes::parse("payments:read profile email").expect("scopes");
    for api in &mut settings.apis {
        if &*api.audience == PAYMENTS {
            api.scopes = scopes.clone();
        }
    }
    let id = Id::parse("app").expect("id");
    let app = settings.clients.remove(&id).and_then(Arc::into_inner).expect("alone");
    let mut app = ClientRecord { scopes, ..app };
    change(&mut app);
    settings.clients.insert(id, Arc::new(app));
}

/// A world with ada's tokens of `app` for these scopes.
async fn granted(
    scope: &str,
    change: impl FnOnce(&mut ClientRecord),
) -> (World, AddedUser, TokenAnswer) {
    let world = World::with(|settings| with_claims(settings, change)).await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[("scope", scope)])).await;
    browser.prove(&world, &ada).await;
    let code = code_of(&browser.consent(&world, "allow").await);
    let answer = world.redeem(&code).await.result.expect("granted");
    (world, ada, answer)
}

async fn asked(world: &World, token: &str) -> Answered<Document> {
    let keys = world.identity.keyring().access_keys();
    let desk = world.identity.desk();
    let verified = verify::access_token(token, &keys, ISSUER, None, desk.now).expect("verifies");
    world.identity.userinfo(&verified).await
}

async fn told(world: &World, token: &str) -> Value {
    match asked(world, token).await.result.expect("answered") {
        Document::Json(body) => body,
        Document::Signed { .. } => panic!("signed without being asked to"),
    }
}

async fn refused(world: &World, token: &str) -> (ErrorCode, &'static str) {
    let error = asked(world, token).await.result.err().expect("refused");
    (error.code, error.rule)
}

/// What an ID token calls the user.
fn named(token: &TokenAnswer) -> String {
    let parsed = jws::parse(token.id_token.as_deref().expect("openid")).expect("a JWS");
    let claims: Value = serde_json::from_slice(&parsed.payload).expect("claims");
    claims["sub"].as_str().expect("a sub").to_owned()
}

#[tokio::test]
async fn each_scope_tells_its_claims_alone() {
    let mail = "ada@example.com";
    for (scope, names) in [
        ("openid", vec!["sub"]),
        ("openid payments:read", vec!["sub"]),
        ("openid payments:read profile", vec!["name", "preferred_username", "sub"]),
        ("openid payments:read email", vec!["email", "sub"]),
        ("openid payments:read profile email", vec!["email", "name", "preferred_username", "sub"]),
    ] {
        let (world, ada, answer) = granted(scope, |_| {}).await;
        let id = ada.user.id.clone();
        let mut user = world
            .store
            .read(async move |tx: &Tx| tx.user(&id).await)
            .await
            .expect("read")
            .expect("there");
        user.mail = Some(mail.to_owned());
        let desk = world.identity.desk();
        let client = desk.settings.clients.get(&Id::parse("app").expect("id")).expect("app");
        let claims = world.claims(&answer.access_token).expect("lives");
        let about = about(&desk, client, &user, &claims.scope);
        let mut said: Vec<_> = about.keys().map(String::as_str).collect();
        said.sort_unstable();
        assert_eq!(said, names, "{scope}");
        assert_eq!(about["sub"], ada.user.id.as_str());
        assert!(about.get("email").is_none_or(|said| said == mail));
        let body = told(&world, &answer.access_token).await;
        assert_eq!(body.get("preferred_username"), about.get("preferred_username"));
    }
}

#[tokio::test]
async fn a_mail_address_is_never_called_verified() {
    let (world, _, answer) = granted("openid payments:read email", |_| {}).await;
    assert_eq!(told(&world, &answer.access_token).await.get("email_verified"), None);
}

#[tokio::test]
async fn openid_missing() {
    let (world, _, answer) = granted("payments:read profile", |_| {}).await;
    let expected = (ErrorCode::InsufficientScope, "OpenidMissing");
    assert_eq!(refused(&world, &answer.access_token).await, expected);
}

#[tokio::test]
async fn token_of_no_user() {
    let (world, _, answer) = granted("openid", |_| {}).await;
    let claims = AccessClaims {
        kind: CallerKind::Service,
        sub: "ledger".to_owned(),
        ..world.claims(&answer.access_token).expect("lives")
    };
    let desk = world.identity.desk();
    let error = super::told(&desk, &claims).await.err().expect("refused");
    assert_eq!((error.code, error.rule), (ErrorCode::InvalidToken, "TokenOfNoUser"));
}

#[tokio::test]
async fn user_disabled() {
    let (world, ada, answer) = granted("openid", |_| {}).await;
    let id = ada.user.id.clone();
    world.change(async move |tx: &Tx| tx.disable_user(&id, NOW).await).await;
    let expected = (ErrorCode::InvalidToken, "UserDisabled");
    assert_eq!(refused(&world, &answer.access_token).await, expected);
}

#[tokio::test]
async fn grant_ended() {
    let (world, _, answer) = granted("openid", |_| {}).await;
    let grant = world.claims(&answer.access_token).expect("lives").gid.expect("of a grant");
    world.change(async move |tx: &Tx| tx.end_grant(&grant, NOW).await).await;
    let expected = (ErrorCode::InvalidToken, "GrantEnded");
    assert_eq!(refused(&world, &answer.access_token).await, expected);
}

#[tokio::test]
async fn client_removed() {
    let (world, _, answer) =
        granted("openid", |client| client.subject = sector("app.example")).await;
    world.reload(|settings| {
        settings.clients.remove(&Id::parse("app").expect("id"));
    });
    // Nor does it learn by that who the user is to others.
    let expected = (ErrorCode::InvalidToken, "ClientRemoved");
    assert_eq!(refused(&world, &answer.access_token).await, expected);
}

#[tokio::test]
async fn a_client_of_a_metadata_document_stands_while_such_are_taken() {
    let (world, ada, answer) = granted("openid", |_| {}).await;
    let client_id = Id::parse("https://app.example/client.json").expect("an address");
    let claims = AccessClaims { client_id, ..world.claims(&answer.access_token).expect("lives") };
    let error = super::told(&world.identity.desk(), &claims).await.err().expect("refused");
    assert_eq!(error.rule, "ClientRemoved");
    world.reload(|settings| {
        let hosts = Vec::new();
        settings.documents = Some(crate::settings::Strangers { scopes: Scopes::default(), hosts });
    });
    let told = super::told(&world.identity.desk(), &claims).await.expect("answered");
    let Document::Json(body) = told else { panic!("signed without being asked to") };
    assert_eq!(body["sub"], ada.user.id.as_str());
}

#[tokio::test]
async fn pairwise_here_and_in_the_id_token_and_nowhere_else() {
    let (world, ada, answer) =
        granted("openid payments:read", |client| client.subject = sector("app.example")).await;
    let body = told(&world, &answer.access_token).await;
    let pairwise = body["sub"].as_str().expect("a sub");
    assert_eq!(pairwise, named(&answer), "OpenID Connect Core §5.3.2: the very same");
    assert_ne!(pairwise, ada.user.id.as_str());
    assert_eq!(pairwise.len(), 43);
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!(claims.sub, ada.user.id.as_str(), "APIs agree on who it is");
}

#[tokio::test]
async fn two_sectors_cannot_compare_notes() {
    let world = World::start().await;
    let desk = world.identity.desk();
    let seen = |host: &str, user: &str| {
        let app = desk.settings.clients.get(&Id::parse("app").expect("id")).expect("app");
        let (id, kind) = (app.id.clone(), app.kind);
        let mut client = ClientRecord::new(id, kind, portcullis_core::client::Authentication::None);
        client.subject = sector(host);
        subject::seen_by(&desk, &client, &Id::parse(user).expect("id"))
    };
    let first = seen("a.example", "u_ada");
    assert_eq!(first, seen("a.example", "u_ada"), "the same for good");
    assert_ne!(first, seen("b.example", "u_ada"));
    assert_ne!(first, seen("a.example", "u_bob"));
    // The parts do not slide into each other.
    assert_ne!(seen("a.exampleu_", "u_ada"), seen("a.example", "u_u_ada"));
}

#[tokio::test]
async fn signed_for_its_client() {
    let (world, ada, answer) =
        granted("openid payments:read profile", |client| client.signed_userinfo = true).await;
    let answered = asked(&world, &answer.access_token).await.result.expect("answered");
    let Document::Signed { media_type, text } = answered else { panic!("not signed") };
    assert_eq!(media_type, "application/jwt");
    let parsed = jws::parse(&text).expect("a JWS");
    let claims: Value = serde_json::from_slice(&parsed.payload).expect("claims");
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!("app")));
    assert_eq!(claims["sub"], ada.user.id.as_str());
    assert_eq!(claims["preferred_username"], "ada");
    // It is no ID token, and no access token.
    assert_eq!((claims.get("exp"), claims.get("nonce")), (None, None));
    assert_eq!(world.claims(&text).err(), Some("type_wrong"));
    let published = world.identity.keyring().published().to_json().to_string();
    assert!(published.contains(parsed.kid.as_deref().expect("a key's name")));
}
