//! Who is told what of which token; everything else is `{"active": false}`.

use std::time::Duration;

use portcullis_core::client::ClientType;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::claims::FactorTimes;
use portcullis_core::jose::jws;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::oauth::token::{ASSERTION_TYPE, TokenAnswer};
use portcullis_core::revocation::RevocationKind;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Clock;
use portcullis_store::grants::Family;

use super::*;
use crate::account::AddedUser;
use crate::settings::{Settings, Strangers, TokenFormat};
use crate::testing::*;

const OTHER: &str = "https://other.example";

fn readers(settings: &mut Settings) {
    let at =
        |at: &'static str| move |client: &mut ClientRecord| client.introspects = vec![at.into()];
    register(settings, "reader", ClientType::Service, at(PAYMENTS));
    register(settings, "stranger", ClientType::Service, at(OTHER));
}

/// A world with ada's token of `app` for the payments.
async fn with_token(change: impl FnOnce(&mut Settings)) -> (World, AddedUser, TokenAnswer) {
    let world = World::with(|settings| {
        readers(settings);
        change(settings);
    })
    .await;
    let ada = world.ada().await;
    let answered = world.redeem(&Browser::new().log_in(&world, &ada).await).await;
    (world, ada, answered.result.expect("granted"))
}

/// Asks as a client, which authenticates anew each time.
async fn asked(
    world: &World,
    client: &str,
    pairs: &[(&str, &str)],
    accept: Option<&str>,
) -> Answered<Document> {
    let mut jti = [0; 8];
    world.identity.desk().shared.entropy.fill(&mut jti);
    let jti = json!(format!("{jti:?}"));
    let assertion = world.assertion(client, &[("jti", jti)]);
    let mut form =
        vec![("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion.as_str())];
    form.extend_from_slice(pairs);
    world.identity.introspect(&[], &parameters(&form), Presented::default(), accept).await
}

async fn told(world: &World, client: &str, token: &str) -> Value {
    match asked(world, client, &[("token", token)], None).await.result.expect("answered") {
        Document::Json(body) => body,
        Document::Signed { .. } => panic!("signed without being asked to"),
    }
}

fn dead() -> Value {
    json!({ "active": false })
}

#[tokio::test]
async fn the_audience_is_told_what_a_jwt_would_say() {
    let (world, ada, answer) = with_token(|_| {}).await;
    let body = told(&world, "reader", &answer.access_token).await;
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!(body["active"], true);
    assert_eq!(body["sub"], ada.user.id.as_str());
    assert_eq!(body["scope"], "openid payments:read");
    assert_eq!((&body["aud"], &body["iss"]), (&json!(PAYMENTS), &json!(ISSUER)));
    assert_eq!((&body["client_id"], &body["token_type"]), (&json!("app"), &json!("Bearer")));
    assert_eq!((&body["exp"], &body["iat"]), (&json!(claims.exp), &json!(claims.iat)));
    assert_eq!((&body["acr"], &body["roles"]), (&json!("aal2"), &json!(["admin"])));
    assert_eq!(body.get("rev"), None, "our log is nobody else's business");
}

#[tokio::test]
async fn introspection_answers_only_the_tokens_audience() {
    let (world, _, answer) = with_token(|_| {}).await;
    for client in ["stranger", "ledger", "console"] {
        assert_eq!(told(&world, client, &answer.access_token).await, dead(), "{client}");
    }
    assert_eq!(told(&world, "reader", &answer.access_token).await["active"], true);
}

#[tokio::test]
async fn an_opaque_token_is_told_to_its_audience_alone() {
    let opaque = |settings: &mut Settings| settings.apis[0].format = TokenFormat::Opaque;
    let (world, ada, answer) = with_token(opaque).await;
    assert!(answer.access_token.starts_with("at_"));
    let body = told(&world, "reader", &answer.access_token).await;
    assert_eq!((&body["active"], &body["sub"]), (&json!(true), &json!(ada.user.id.as_str())));
    assert_eq!(told(&world, "stranger", &answer.access_token).await, dead());
    let id = ada.user.id.clone();
    world.change(async move |tx: &Tx| tx.disable_user(&id, NOW).await).await;
    assert_eq!(told(&world, "reader", &answer.access_token).await, dead());
}

#[tokio::test]
async fn a_client_is_told_of_its_own_token_but_not_of_its_user() {
    let world = World::with(readers).await;
    let assertion = world.assertion("ledger", &[]);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &assertion),
        ("scope", "payments:read"),
    ];
    let token = world.token(&form).await.result.expect("granted").access_token;
    let body = told(&world, "ledger", &token).await;
    assert_eq!((&body["active"], &body["scope"]), (&json!(true), &json!("payments:read")));
    assert_eq!(body["client_id"], "ledger");
    for secret in ["sub", "roles", "rev", "fat", "kind", "attributes"] {
        assert_eq!(body.get(secret), None, "{secret}");
    }
    assert_eq!(told(&world, "console", &token).await, dead());
    assert_eq!(told(&world, "reader", &token).await["sub"], "ledger");
}

#[tokio::test]
async fn introspection_unauthenticated() {
    let (world, _, answer) = with_token(|settings| {
        let id = Id::parse("own").expect("id");
        let own = settings.clients.remove(&id).and_then(std::sync::Arc::into_inner);
        let introspects = vec![PAYMENTS.to_owned()];
        let own = ClientRecord { introspects, ..own.expect("alone") };
        settings.clients.insert(id, std::sync::Arc::new(own));
    })
    .await;
    // Its name is no proof: neither of being the token's client nor of being the API.
    for client in ["app", "own"] {
        let form = parameters(&[("client_id", client), ("token", &answer.access_token)]);
        let presented = Presented::default();
        let answered = world.identity.introspect(&[], &form, presented, None).await;
        let error = answered.result.err().expect("refused");
        let expected = (ErrorCode::InvalidClient, "IntrospectionUnauthenticated");
        assert_eq!((error.code, error.rule), expected, "{client}");
    }
}

#[tokio::test]
async fn client_must_authenticate() {
    let (world, _, answer) = with_token(|_| {}).await;
    for (client, rule) in [("reader", "ClientMustAuthenticate"), ("nobody", "ClientUnknown")] {
        let form = parameters(&[("client_id", client), ("token", &answer.access_token)]);
        let presented = Presented::default();
        let answered = world.identity.introspect(&[], &form, presented, None).await;
        assert_eq!(answered.result.err().expect("refused").rule, rule);
        assert_eq!(answered.client.as_deref(), Some(format!("?{client}").as_str()));
    }
}

#[tokio::test]
async fn token_missing() {
    let world = World::with(readers).await;
    let answered = asked(&world, "reader", &[], None).await;
    assert_eq!(answered.result.err().expect("refused").rule, "TokenMissing");
}

#[tokio::test]
async fn an_assertion_asks_once() {
    let world = World::with(readers).await;
    let assertion = world.assertion("reader", &[]);
    let form = [
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion.as_str()),
        ("token", "garbage"),
    ];
    let ask = || async {
        let presented = Presented::default();
        world.identity.introspect(&[], &parameters(&form), presented, None).await
    };
    assert!(ask().await.result.is_ok());
    assert_eq!(ask().await.result.err().expect("refused").rule, "AssertionReplayed");
}

#[tokio::test]
async fn what_is_no_access_token_is_not_active() {
    let (world, _, answer) = with_token(|_| {}).await;
    let forged = world.key.sign("at+jwt", &world.claims(&answer.access_token).expect("lives"));
    let id_token = answer.id_token.expect("openid");
    for (name, text) in [
        ("garbage", "garbage"),
        ("a JWS of nobody", "a.b.c"),
        ("an ID token", &id_token),
        ("another's signature", &forged),
        ("an empty seal", "at_"),
        ("a refresh token without a MAC", "rt_g_1.1.AAAA"),
    ] {
        assert_eq!(told(&world, "reader", text).await, dead(), "{name}");
    }
}

#[tokio::test]
async fn what_is_dead_is_not_active_whatever_it_died_of() {
    type Death = fn(&AddedUser, &AccessClaims) -> Box<dyn FnOnce(&World) -> Dying + Send>;
    type Dying = std::pin::Pin<Box<dyn Future<Output = ()>>>;
    fn by<F>(work: F) -> Box<dyn FnOnce(&World) -> Dying + Send>
    where
        F: AsyncFnOnce(&Tx) -> Result<(), StoreFault> + Send + 'static,
    {
        Box::new(|world: &World| {
            let store = world.store.clone();
            Box::pin(async move { store.transact(work).await.expect("changed") })
        })
    }
    let deaths: [(&str, Death); 7] = [
        ("user disabled", |ada, _| {
            let id = ada.user.id.clone();
            by(async move |tx: &Tx| tx.disable_user(&id, NOW).await)
        }),
        ("session ended", |_, claims| {
            let id = claims.sid.clone().expect("in a session");
            by(async move |tx: &Tx| tx.end_session(&id, NOW).await)
        }),
        ("grant ended", |_, claims| {
            let id = claims.gid.clone().expect("of a grant");
            by(async move |tx: &Tx| tx.end_grant(&id, NOW).await)
        }),
        ("client ended", |_, claims| {
            let id = claims.client_id.clone();
            by(async move |tx: &Tx| tx.end_grants_of_client(&id, NOW).await)
        }),
        ("token revoked", |_, claims| {
            let (id, until) = (claims.jti.clone(), NOW.after(Duration::from_secs(600)));
            by(async move |tx: &Tx| {
                tx.revoke(RevocationKind::Token, id.as_str(), until).await.map(drop)
            })
        }),
        ("group disabled", |_, _| {
            let until = NOW.after(Duration::from_secs(600));
            by(async move |tx: &Tx| {
                tx.revoke(RevocationKind::Group, "admin", until).await.map(drop)
            })
        }),
        ("expired", |_, _| {
            Box::new(|world: &World| {
                world.clock.advance(Duration::from_secs(300));
                Box::pin(async {})
            })
        }),
    ];
    for (name, death) in deaths {
        let (world, ada, answer) = with_token(|_| {}).await;
        let claims = world.claims(&answer.access_token).expect("lives");
        assert_eq!(told(&world, "reader", &answer.access_token).await["active"], true, "{name}");
        death(&ada, &claims)(&world).await;
        assert_eq!(told(&world, "reader", &answer.access_token).await, dead(), "{name}");
    }
}

#[tokio::test]
async fn a_token_whose_client_was_removed_is_not_active() {
    let (world, _, answer) = with_token(|_| {}).await;
    world.reload(|settings| {
        readers(settings);
        settings.clients.remove(&Id::parse("app").expect("id"));
    });
    assert_eq!(told(&world, "reader", &answer.access_token).await, dead());
}

/// A grant of ada's for `console`, with a family at 3, in a session of a login.
async fn with_family(life: GrantLife) -> (World, AddedUser, Id<id::Session>, Id<id::Grant>) {
    let (world, ada, answer) = with_token(|_| {}).await;
    let session = world.claims(&answer.access_token).expect("lives").sid.expect("in a session");
    let id = Id::parse("g_family").expect("id");
    let grant = GrantRecord {
        id: Id::clone(&id),
        user: ada.user.id.clone(),
        client: Id::parse("console").expect("id"),
        session: session.clone(),
        life,
        factors: FactorTimes::default(),
        binding: None,
        details: String::new(),
        family: Family {
            counter: 3,
            moved: Some(NOW),
            graces: 0,
            seen: NOW,
            expires: NOW.after(Duration::from_secs(3600 * 24 * 40)),
        },
        scopes: Scopes::parse("payments:read").expect("scopes"),
        audience: Some(PAYMENTS.into()),
        made: NOW,
        ended: None,
    };
    world
        .change(async move |tx: &Tx| {
            tx.add_grant(&grant).await?;
            tx.keep_family(&grant.id, &grant.family).await
        })
        .await;
    (world, ada, session, id)
}

fn refresh_token(world: &World, grant: &Id<id::Grant>, n: u64) -> String {
    refresh::mint(world.identity.sealer(), grant, n).expect("a key").expose().clone()
}

#[tokio::test]
async fn a_refresh_token_is_told_to_its_client_alone() {
    let (world, _, _, grant) = with_family(GrantLife::Session).await;
    let token = refresh_token(&world, &grant, 3);
    let body = told(&world, "console", &token).await;
    assert_eq!((&body["active"], &body["client_id"]), (&json!(true), &json!("console")));
    assert_eq!(body["scope"], "payments:read");
    assert_eq!((body.get("sub"), body.get("token_type")), (None, None));
    for client in ["reader", "stranger", "ledger"] {
        assert_eq!(told(&world, client, &token).await, dead(), "{client}");
    }
}

#[tokio::test]
async fn a_refresh_token_that_was_used_is_not_active() {
    let (world, _, _, grant) = with_family(GrantLife::Session).await;
    for (n, active) in [(1, false), (2, false), (3, true), (4, true)] {
        let body = told(&world, "console", &refresh_token(&world, &grant, n)).await;
        assert_eq!(body["active"], active, "{n}");
    }
    // Asking used nothing up.
    assert_eq!(told(&world, "console", &refresh_token(&world, &grant, 3)).await["active"], true);
}

#[tokio::test]
async fn a_refresh_token_of_an_ended_session_or_user_is_not_active() {
    for (life, alive) in [(GrantLife::Session, false), (GrantLife::Offline, true)] {
        let (world, ada, _, grant) = with_family(life).await;
        world.clock.advance(Duration::from_secs(13 * 3600));
        let token = refresh_token(&world, &grant, 3);
        assert_eq!(told(&world, "console", &token).await["active"], alive, "{life:?}");
        let (id, now) = (ada.user.id.clone(), world.clock.now());
        world.change(async move |tx: &Tx| tx.disable_user(&id, now).await).await;
        assert_eq!(told(&world, "console", &token).await, dead(), "{life:?}");
    }
}

#[tokio::test]
async fn a_refresh_token_unused_for_too_long_is_not_active() {
    let (world, _, _, grant) = with_family(GrantLife::Offline).await;
    world.clock.advance(Duration::from_secs(30 * 86_400 - 1));
    let token = refresh_token(&world, &grant, 3);
    assert_eq!(told(&world, "console", &token).await["active"], true);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(told(&world, "console", &token).await, dead());
}

#[tokio::test]
async fn signed_when_that_is_accepted() {
    let (world, ada, answer) = with_token(|_| {}).await;
    for (token, active) in [(answer.access_token.as_str(), true), ("garbage", false)] {
        let answered = asked(&world, "reader", &[("token", token)], Some(SIGNED)).await;
        let Document::Signed { media_type, text } = answered.result.expect("answered") else {
            panic!("not signed")
        };
        assert_eq!(media_type, "application/token-introspection+jwt");
        let parsed = jws::parse(&text).expect("a JWS");
        assert_eq!(parsed.typ.as_deref(), Some("token-introspection+jwt"));
        let keys = world.identity.keyring().published().to_json().to_string();
        assert!(keys.contains(parsed.kid.as_deref().expect("a key's name")));
        let claims: Value = serde_json::from_slice(&parsed.payload).expect("claims");
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!("reader")));
        assert_eq!(claims["iat"], NOW.unix());
        // RFC 9701 §5: neither, so that it is never taken for a token.
        assert_eq!((claims.get("sub"), claims.get("exp")), (None, None));
        let told = &claims["token_introspection"];
        match active {
            true => assert_eq!(told["sub"], ada.user.id.as_str()),
            false => assert_eq!(told, &dead()),
        }
        // Nor does it open anything.
        assert_eq!(world.claims(&text).err(), Some("type_wrong"));
    }
}

#[test]
fn a_signed_answer_is_asked_for_by_name() {
    for (accept, expected) in [
        ("application/token-introspection+jwt", true),
        ("Application/Token-Introspection+JWT", true),
        ("application/json, application/token-introspection+jwt;q=0.5", true),
        ("application/token-introspection+jwt; q=0.001", true),
        ("application/token-introspection+jwt;q=0", false),
        ("application/token-introspection+jwt;q=0.000", false),
        ("application/json", false),
        ("application/*", false),
        ("*/*", false),
        ("application/jwt", false),
        ("application/token-introspection+jwtx", false),
        ("", false),
    ] {
        assert_eq!(wants_it_signed(Some(accept)), expected, "{accept}");
    }
    assert!(!wants_it_signed(None));
    let far = format!("{}{SIGNED}", "a/b,".repeat(MAX_ACCEPTED));
    assert!(!wants_it_signed(Some(&far)));
}

#[test]
fn a_stranger_is_one_of_a_host_that_is_let_in() {
    let mut settings = settings(&SigningKey::generate(Algorithm::Es256).expect("key"));
    let id = |text: &str| Id::<id::Client>::parse(text).expect("id");
    let (one, other) = (id("https://one.example/c"), id("https://other.example/c"));
    assert!(!is_stranger(&settings, &one), "none is let in");
    let scopes = Scopes::default();
    settings.documents = Some(Strangers { scopes: scopes.clone(), hosts: Vec::new() });
    assert!(is_stranger(&settings, &one) && is_stranger(&settings, &other));
    settings.documents = Some(Strangers { scopes, hosts: vec!["one.example".into()] });
    assert!(is_stranger(&settings, &one) && !is_stranger(&settings, &other));
}
