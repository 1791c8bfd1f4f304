//! The page for devices: its code is counted, and never approves by itself.

use portcullis_core::client::ClientType;
use portcullis_core::id::Id;

use super::*;
use crate::outcome::Show;
use crate::testing::*;
use crate::testing::{page, sealed};

async fn world() -> World {
    World::with(|settings| {
        register(settings, "tv", ClientType::Device, |tv| tv.redirects.clear());
    })
    .await
}

/// A device begins; its device code and the user code as shown.
async fn begun(world: &World) -> (String, String) {
    let form = parameters(&[("client_id", "tv"), ("scope", "openid offline_access payments:read")]);
    let presented = Presented { ip: "198.51.100.7".parse().ok(), ..Presented::default() };
    let answer = world.identity.device(&[], &form, presented).await.result;
    let start = answer.unwrap_or_else(|error| panic!("{}", error.rule));
    (start.device_code, start.user_code)
}

/// Sends the form of the page.
async fn typed(browser: &mut Browser, world: &World, pairs: &[(&str, &str)]) -> Outcome {
    let outcome = world.identity.device_page(&parameters(pairs), browser.presented()).await;
    for change in &outcome.cookies {
        browser.cookies.insert(change.name, change.value.expose().clone());
    }
    match &outcome.show {
        Show::DeviceCode(page) => browser.state = page.sealed.clone(),
        _ => browser.state = sealed(&outcome).unwrap_or_default(),
    }
    outcome
}

async fn poll(world: &World, device_code: &str) -> Result<String, &'static str> {
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", "tv"),
        ("device_code", device_code),
    ];
    let answer = world.token(&form).await.result;
    answer.map(|answer| answer.access_token).map_err(|error| error.rule)
}

#[tokio::test]
async fn a_device_is_approved_on_the_consent_page_alone() {
    let world = world().await;
    let ada = world.ada().await;
    let (device_code, user_code) = begun(&world).await;
    let mut browser = Browser::new();
    // The complete address fills in the code, and nothing else happens.
    let shown = typed(&mut browser, &world, &[("user_code", &user_code)]).await;
    let Show::DeviceCode(asked) = &shown.show else { panic!("{}", page(&shown)) };
    assert_eq!((asked.user_code.as_str(), asked.notice), (user_code.as_str(), None));
    assert_eq!(poll(&world, &device_code).await, Err("DevicePending"));
    // Typed as people do: lower case, no dash.
    let plain = user_code.to_lowercase().replace('-', " ");
    let state = browser.state.clone();
    let shown = typed(&mut browser, &world, &[("user_code", &plain), ("state", &state)]).await;
    assert_eq!(page(&shown), "password");
    let shown = browser.prove(&world, &ada).await;
    let Show::Consent(asked) = &shown.show else { panic!("{}", page(&shown)) };
    assert_eq!(asked.device_place.as_deref(), Some("198.51.100.7"));
    assert_eq!((asked.client.as_str(), asked.login.as_str()), ("tv", "ada"));
    let shown = browser.consent(&world, "allow").await;
    assert_eq!((page(&shown), rule(&shown)), ("device_answered", "-"));
    world.clock.advance(std::time::Duration::from_secs(60));
    let token = poll(&world, &device_code).await.expect("granted");
    assert_eq!(world.claims(&token).expect("lives").sub, ada.user.id.to_string());
}

#[tokio::test]
async fn whoever_is_signed_in_is_asked_each_time() {
    let world = world().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    for _ in 0..2 {
        let (_, user_code) = begun(&world).await;
        typed(&mut browser, &world, &[]).await;
        let state = browser.state.clone();
        let shown =
            typed(&mut browser, &world, &[("user_code", &user_code), ("state", &state)]).await;
        assert_eq!(page(&shown), "consent");
        assert_eq!(page(&browser.consent(&world, "allow").await), "device_answered");
    }
}

#[tokio::test]
async fn denied_once_and_for_all() {
    let world = world().await;
    let ada = world.ada().await;
    let (device_code, user_code) = begun(&world).await;
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    typed(&mut browser, &world, &[]).await;
    let pairs = [("user_code", user_code.as_str()), ("state", &browser.state.clone())];
    typed(&mut browser, &world, &pairs).await;
    let asked = browser.state.clone();
    let shown = browser.consent(&world, "deny").await;
    assert_eq!((page(&shown), rule(&shown)), ("device_answered", "ConsentDenied"));
    // The page from before approves nothing any more.
    browser.state = asked;
    let shown = browser.consent(&world, "allow").await;
    assert_eq!((page(&shown), rule(&shown)), ("refused", "DeviceLoginOver"));
    assert_eq!(poll(&world, &device_code).await, Err("DeviceDenied"));
}

#[tokio::test]
async fn user_code_unknown_is_counted_by_address() {
    let world = world().await;
    let (_, user_code) = begun(&world).await;
    let mut browser = Browser::new();
    typed(&mut browser, &world, &[]).await;
    let (mut unknown, mut throttled) = (0, 0);
    for count in 0..10_000 {
        let code = format!("{count:08}");
        let state = browser.state.clone();
        let shown = typed(&mut browser, &world, &[("user_code", &code), ("state", &state)]).await;
        match rule(&shown) {
            "UserCodeUnknown" => unknown += 1,
            "Throttled" => throttled += 1,
            other => panic!("{other}"),
        }
    }
    assert!(unknown <= 200 && throttled >= 9_800, "{unknown} {throttled}");
    // Also the right one is refused from there now, and it is not from elsewhere.
    let state = browser.state.clone();
    let shown = typed(&mut browser, &world, &[("user_code", &user_code), ("state", &state)]).await;
    assert_eq!(rule(&shown), "Throttled");
    assert!(shown.retry_after.is_some());
    let mut other = Browser::at("203.0.113.9");
    typed(&mut other, &world, &[]).await;
    let state = other.state.clone();
    let shown = typed(&mut other, &world, &[("user_code", &user_code), ("state", &state)]).await;
    assert_eq!(page(&shown), "password");
}

#[tokio::test]
async fn a_form_of_another_browser_or_of_another_page_is_refused() {
    let world = world().await;
    let (_, user_code) = begun(&world).await;
    let (mut mine, mut other) = (Browser::new(), Browser::new());
    typed(&mut mine, &world, &[]).await;
    typed(&mut other, &world, &[]).await;
    let foreign = mine.state.clone();
    let pairs = [("user_code", user_code.as_str()), ("state", foreign.as_str())];
    let shown = typed(&mut other, &world, &pairs).await;
    assert_eq!((page(&shown), rule(&shown)), ("refused", "StateOfAnotherBrowser"));
    mine.authorize(&world, &request_with(&[])).await;
    for state in [mine.state.clone(), "x".into()] {
        let pairs = [("user_code", user_code.as_str()), ("state", &state)];
        let shown = typed(&mut mine, &world, &pairs).await;
        assert_eq!((page(&shown), rule(&shown)), ("refused", "StateForged"));
    }
    typed(&mut mine, &world, &[]).await;
    world.clock.advance(std::time::Duration::from_secs(600));
    let state = mine.state.clone();
    let shown = typed(&mut mine, &world, &[("user_code", &user_code), ("state", &state)]).await;
    assert_eq!((page(&shown), rule(&shown)), ("refused", "StateStale"));
}

#[tokio::test]
async fn what_was_taken_away_since_the_device_asked_is_not_approved() {
    for (change, expected) in [
        ("gone", "ClientUnknown"),
        ("grants", "ClientNotDevice"),
        ("scopes", "ScopeUnregistered"),
        ("time", "DeviceCodeExpired"),
    ] {
        let world = world().await;
        let ada = world.ada().await;
        let (_, user_code) = begun(&world).await;
        let mut browser = Browser::new();
        browser.log_in(&world, &ada).await;
        typed(&mut browser, &world, &[]).await;
        let state = browser.state.clone();
        typed(&mut browser, &world, &[("user_code", &user_code), ("state", &state)]).await;
        match change {
            "gone" => world.reload(|_| {}),
            "time" => world.clock.advance(std::time::Duration::from_secs(600)),
            _ => world.reload(|settings| {
                register(settings, "tv", ClientType::Device, |tv| match change {
                    "grants" => tv.grants.clear(),
                    _ => tv.scopes = Default::default(),
                });
                assert!(settings.clients.contains_key(&Id::parse("tv").expect("id")));
            }),
        }
        let shown = browser.consent(&world, "allow").await;
        assert_eq!((page(&shown), rule(&shown)), ("refused", expected));
    }
}
