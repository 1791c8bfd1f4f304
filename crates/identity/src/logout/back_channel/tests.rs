//! Back-channel logout: who is told, how often, and with what.

use super::*;
use crate::logout::tests::client;
use crate::sessions;
use crate::settings::Settings;
use crate::testing::*;
use portcullis_core::client::{Registered, SubjectType};
use portcullis_core::fetch::{Fetch, FetchFault, Fetched, Fetching};
use portcullis_core::jose::{base64url, jws, verify};
use portcullis_core::web::{Address, Parameters};
use portcullis_store::database::Store;
use std::sync::{Mutex, OnceLock};

/// Other servers: what they were sent, and what they answer.
struct Others {
    got: Mutex<Vec<(String, String)>>,
    status: Mutex<u16>,
    namers: Mutex<Vec<NamedBy>>,
    store: OnceLock<Store>,
    together: Option<tokio::sync::Barrier>,
}

impl Others {
    fn new() -> Arc<Others> {
        Others::meeting(None)
    }

    fn meeting(together: Option<tokio::sync::Barrier>) -> Arc<Others> {
        let (got, status, store) = (Mutex::default(), Mutex::new(200), OnceLock::new());
        Arc::new(Others { got, status, namers: Mutex::default(), store, together })
    }

    fn answers(&self, status: u16) {
        *self.status.lock().expect("lock") = status;
    }

    /// The logout tokens got since this was asked last, with the address.
    fn tokens(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.got.lock().expect("lock"))
    }
}

impl Fetch for Others {
    fn fetch(&self, request: FetchRequest) -> Fetching<'_> {
        Box::pin(async move {
            assert!(request.authorization.is_none());
            self.namers.lock().expect("lock").push(request.named_by);
            let body = request.post.expect("a POST");
            assert_eq!(body.content_type, "application/x-www-form-urlencoded");
            let form = Parameters::parse(body.bytes.expose()).expect("a form");
            assert_eq!(form.iter().count(), 1);
            let token = form.value("logout_token").expect("the token").to_owned();
            // Were a transaction held while a client is asked, this would wait for it forever.
            if let Some(store) = self.store.get() {
                let write = store.transact(async |tx| tx.remember_fact("a", "b").await);
                tokio::time::timeout(TIMEOUT, write)
                    .await
                    .expect("no transaction is held")
                    .expect("written");
            }
            if let Some(together) = &self.together {
                let met = tokio::time::timeout(TIMEOUT, together.wait()).await;
                met.expect("nobody waits for another client");
            }
            self.got.lock().expect("lock").push((request.url.clone(), token));
            match *self.status.lock().expect("lock") {
                0 => Err(FetchFault::Unreachable(request.url)),
                status => {
                    Ok(Fetched { status, content_type: None, max_age: None, body: Vec::new() })
                }
            }
        })
    }
}

fn told(settings: &mut Settings) {
    for name in ["app", "own"] {
        let address = Address::parse(&format!("https://{name}.example/back")).expect("address");
        client(settings, name).back_channel_logout = Some(address);
    }
}

async fn world(others: &Arc<Others>, change: impl FnOnce(&mut Settings)) -> World {
    let ground = Ground { fetch: others.clone(), ..Ground::new() };
    World::over(ground, change).await
}

/// ada signs in at `app`; her session's id.
async fn log_in(world: &World) -> String {
    let ada = world.ada().await;
    let code = Browser::new().log_in(world, &ada).await;
    let answer = world.redeem(&code).await.result.expect("granted");
    let claims = world.claims(&answer.access_token).expect("alive");
    claims.sid.expect("a session").to_string()
}

fn claims(token: &str) -> serde_json::Value {
    let body = base64url::decode(token.split('.').nth(1).expect("claims")).expect("base64url");
    serde_json::from_slice(&body).expect("JSON")
}

#[tokio::test]
async fn a_logout_token_is_what_the_standard_says() {
    let others = Others::new();
    let world = world(&others, told).await;
    others.store.set(world.store.clone()).ok().expect("once");
    let session = log_in(&world).await;
    sessions::end(&world.store, &session, NOW).await.expect("ended");
    world.identity.tick().await;
    let [(url, token)] = &others.tokens()[..] else { panic!("one client") };
    assert_eq!(url, "https://app.example/back");
    let parsed = jws::parse(token).expect("a token");
    assert_eq!(parsed.typ.as_deref(), Some("logout+jwt"));
    let published = world.identity.keyring().published();
    let key = published.find(parsed.kid.as_deref(), parsed.algorithm).expect("published");
    assert!(key.verify(parsed.signed, &parsed.signature));
    let claims = claims(token);
    assert_eq!((&claims["iss"], &claims["aud"]), (&ISSUER.into(), &"app".into()));
    assert_eq!(claims["sid"], session);
    assert!(claims["sub"].as_str().expect("sub").starts_with("u_"));
    assert_eq!(
        (claims["iat"].as_i64(), claims["exp"].as_i64()),
        (Some(NOW.unix()), Some(NOW.unix() + 120))
    );
    assert!(claims["jti"].as_str().is_some_and(|jti| jti.len() > 16));
    assert_eq!(claims["events"], serde_json::json!({ EVENT: {} }));
    assert_eq!(claims.as_object().map(serde_json::Map::len), Some(8), "and no nonce");
    // Nowhere else does it count.
    let own = world.identity.keyring().access_keys();
    assert!(verify::access_token(token, &own, ISSUER, None, NOW).is_err());
    assert!(verify::id_token_hint(token, &published, ISSUER).is_err());
}

#[tokio::test]
async fn every_way_to_end_a_session_tells_its_clients_once() {
    for way in ["session end", "session end --all", "user disable", "logout"] {
        let others = Others::new();
        let world = world(&others, told).await;
        let ada = world.ada().await;
        let mut browser = Browser::new();
        let code = browser.log_in(&world, &ada).await;
        let answer = world.redeem(&code).await.result.expect("granted");
        let sid = world.claims(&answer.access_token).expect("alive").sid.expect("session");
        let id = ada.user.id.clone();
        match way {
            "session end" => sessions::end(&world.store, sid.as_str(), NOW).await.expect("ended"),
            "session end --all" => {
                sessions::end_all(&world.store, "ada", NOW).await.map(drop).expect("ended");
            }
            "user disable" => {
                world.change(async move |tx: &Tx| tx.disable_user(&id, NOW).await).await;
            }
            _ => {
                let hint = answer.id_token.expect("openid");
                let asked = parameters(&[("id_token_hint", &hint)]);
                world.identity.log_out(&asked, browser.presented()).await;
            }
        }
        for _ in 0..3 {
            world.identity.tick().await;
        }
        let tokens = others.tokens();
        assert_eq!(tokens.len(), 1, "{way}");
        assert_eq!(claims(&tokens[0].1)["sid"], sid.as_str(), "{way}");
    }
}

#[tokio::test]
async fn a_client_is_told_the_subject_that_it_knows() {
    let others = Others::new();
    let pairwise = |settings: &mut Settings| {
        told(settings);
        client(settings, "app").subject = SubjectType::Pairwise { sector: "app.example".into() };
    };
    let world = world(&others, pairwise).await;
    let ada = world.ada().await;
    let code = Browser::new().log_in(&world, &ada).await;
    let answer = world.redeem(&code).await.result.expect("granted");
    sessions::end_all(&world.store, "ada", NOW).await.expect("ended");
    world.identity.tick().await;
    let (known, told) = (answer.id_token.expect("openid"), others.tokens());
    let sub = claims(&told[0].1)["sub"].clone();
    assert_eq!(sub, claims(&known)["sub"]);
    assert_ne!(sub, ada.user.id.as_str());
}

#[tokio::test]
async fn who_does_not_take_it_is_told_again_and_given_up_in_the_end() {
    let others = Others::new();
    let world = world(&others, told).await;
    let session = log_in(&world).await;
    sessions::end(&world.store, &session, NOW).await.expect("ended");
    // 200 and 204 alone are taken; a redirect is not followed, a refusal is not believed.
    let mut jtis = std::collections::BTreeSet::new();
    for (status, wait) in [(500, 60), (400, 300), (302, 900), (0, 3_600), (201, 3_600)] {
        others.answers(status);
        world.identity.tick().await;
        let tokens = others.tokens();
        assert_eq!(tokens.len(), 1, "{status}");
        jtis.insert(claims(&tokens[0].1)["jti"].to_string());
        world.clock.advance(Duration::from_secs(wait - 1));
        world.identity.tick().await;
        assert_eq!(others.tokens().len(), 0, "not before its time: {status}");
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(jtis.len(), 5, "a new token each time");
    others.answers(200);
    world.identity.tick().await;
    world.clock.advance(Duration::from_secs(86_400));
    world.identity.tick().await;
    assert_eq!(others.tokens().len(), 0, "given up");
    let left = world.store.read(async |tx| tx.due_logouts(NOW.after(RETRIES[4] * 99), 9).await);
    assert!(left.await.expect("read").is_empty(), "and forgotten");
}

#[tokio::test]
async fn no_content_is_taken_too() {
    let others = Others::new();
    let world = world(&others, told).await;
    let session = log_in(&world).await;
    sessions::end(&world.store, &session, NOW).await.expect("ended");
    others.answers(204);
    world.identity.tick().await;
    world.clock.advance(Duration::from_secs(7_200));
    world.identity.tick().await;
    assert_eq!(others.tokens().len(), 1);
}

#[tokio::test]
async fn who_registered_no_address_is_told_nothing() {
    let others = Others::new();
    let world = world(&others, |_| {}).await;
    let session = log_in(&world).await;
    sessions::end(&world.store, &session, NOW).await.expect("ended");
    world.identity.tick().await;
    assert_eq!(others.tokens().len(), 0);
    let commits = world.store.commits();
    world.identity.tick().await;
    assert_eq!(world.store.commits(), commits, "nothing waits, nothing is written");
}

#[tokio::test]
async fn two_clients_are_told_at_once() {
    let others = Others::meeting(Some(tokio::sync::Barrier::new(2)));
    let world = world(&others, told).await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    let code = browser.log_in(&world, &ada).await;
    world.redeem(&code).await.result.expect("granted");
    let shown = browser.authorize(&world, &request_with(&[("client_id", "own")])).await;
    let code = code_of(&shown);
    let mut form = redemption(&code);
    form[1] = ("client_id", "own");
    world.token(&form).await.result.expect("granted");
    sessions::end_all(&world.store, "ada", NOW).await.expect("ended");
    world.identity.tick().await;
    let mut told: Vec<_> = others.tokens().into_iter().map(|(url, _)| url).collect();
    told.sort();
    assert_eq!(told, ["https://app.example/back", "https://own.example/back"]);
}

/// A crash after the batch was taken sends it later, and nobody is forgotten.
#[tokio::test]
async fn a_restart_forgets_nobody() {
    let others = Others::new();
    let ground = Ground::new();
    let (store, clock, revoked) =
        (ground.store.clone(), ground.clock.clone(), ground.revoked.clone());
    let world = World::over(Ground { fetch: others.clone(), ..ground }, told).await;
    let session = log_in(&world).await;
    sessions::end(&world.store, &session, NOW).await.expect("ended");
    let desk = world.identity.desk();
    let taken = world.store.transact(async move |tx: &Tx| claim(tx, &desk).await).await;
    assert_eq!(taken.expect("taken").len(), 1);
    drop(world.identity);
    clock.advance(RETRIES[0]);
    let again = Ground { store, clock, revoked, fetch: others.clone(), seed: 12, ..Ground::new() };
    let world = World::over(again, told).await;
    world.identity.tick().await;
    assert_eq!(others.tokens().len(), 1);
}

/// `6-attacks`: whoever registers itself names no address of our own network.
#[tokio::test]
async fn only_operators_lead_to_private_addresses() {
    for (registered, namer) in [
        (Registered::File, NamedBy::Config),
        (Registered::Store, NamedBy::Config),
        (Registered::Document, NamedBy::Stranger),
        (Registered::Itself, NamedBy::Stranger),
    ] {
        let others = Others::new();
        let world = world(&others, told).await;
        let session = log_in(&world).await;
        sessions::end(&world.store, &session, NOW).await.expect("ended");
        world.reload(|settings| {
            told(settings);
            client(settings, "app").registered = registered;
        });
        world.identity.tick().await;
        assert_eq!(*others.namers.lock().expect("lock"), [namer], "{registered:?}");
    }
}
