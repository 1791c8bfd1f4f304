//! Clients of documents: which addresses are taken, what a document may say, what is kept.

use std::sync::atomic::AtomicUsize;

use portcullis_core::client::ClientType;
use portcullis_core::fetch::{Fetch, Fetching};
use portcullis_core::scope::Scopes;

use super::*;
use crate::outcome::{Presented, Show};
use crate::testing::*;

const CLIENT: &str = "https://app.example/client.json";

/// A web that answers what it is told to.
struct Web {
    answer: Mutex<Result<Fetched, FetchFault>>,
    asked: AtomicUsize,
    last: Mutex<Option<FetchRequest>>,
}

impl Fetch for Web {
    fn fetch(&self, asked: FetchRequest) -> Fetching<'_> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        *self.last.lock().unwrap() = Some(asked);
        let answer = self.answer.lock().unwrap().clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            answer
        })
    }
}

impl Web {
    fn says(&self, document: &Value) {
        *self.answer.lock().unwrap() = Ok(fetched(document));
    }
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn fetched(document: &Value) -> Fetched {
    Fetched {
        status: 200,
        content_type: Some("application/json".into()),
        max_age: None,
        body: document.to_string().into_bytes(),
    }
}

fn document(id: &str) -> Value {
    json!({
        "client_id": id,
        "client_name": "A tool",
        "redirect_uris": [REDIRECT, "http://127.0.0.1/cb"],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "logo_uri": "https://app.example/logo.png",
    })
}

fn strangers() -> Strangers {
    Strangers { scopes: Scopes::parse("payments:read").expect("scopes"), hosts: Vec::new() }
}

async fn world() -> (World, Arc<Web>) {
    let web = Arc::new(Web {
        answer: Mutex::new(Ok(fetched(&document(CLIENT)))),
        asked: AtomicUsize::new(0),
        last: Mutex::new(None),
    });
    let ground = Ground { fetch: web.clone(), ..Ground::new() };
    let world = World::over(ground, |settings| settings.documents = Some(strangers())).await;
    (world, web)
}

async fn rule_of(world: &World, id: &str) -> &'static str {
    find(&world.identity.desk(), id).await.map_or_else(|error| error.rule, |_| "found")
}

#[tokio::test]
async fn a_client_that_nobody_registered_goes_the_whole_way() {
    let (world, web) = world().await;
    let ada = world.ada().await;
    for _ in 0..2 {
        let mut browser = Browser::new();
        let shown = browser.authorize(&world, &request_with(&[("client_id", CLIENT)])).await;
        let Show::Password(asked) = &shown.show else {
            panic!("{} {}", page(&shown), rule(&shown))
        };
        assert_eq!(asked.client, "app.example", "the host, not what it calls itself");
        let shown = browser.prove(&world, &ada).await;
        let Show::Consent(asked) = &shown.show else { panic!("asked always: {}", page(&shown)) };
        assert_eq!(asked.client_host.as_deref(), Some("app.example"));
        assert_eq!(
            (asked.client.as_str(), asked.redirect_host.as_str()),
            ("A tool", "app.example")
        );
        let code = code_of(&browser.consent(&world, "allow").await);
        let mut form = redemption(&code);
        form[1].1 = CLIENT;
        let tokens = world.token(&form).await.result.unwrap_or_else(|e| panic!("{}", e.rule));
        let claims = world.claims(&tokens.access_token).expect("lives");
        assert_eq!(claims.client_id.as_str(), CLIENT);
        world.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(web.asked(), 1, "kept");
    let last = web.last.lock().unwrap().take().expect("asked");
    assert_eq!((last.named_by, last.max_bytes), (NamedBy::Stranger, 5 * 1024));
    assert_eq!((last.url.as_str(), last.timeout), (CLIENT, Duration::from_secs(3)));
}

#[tokio::test]
async fn one_that_proves_itself_pushes_and_is_asked_about_each_time() {
    let (world, web) = world().await;
    let ada = world.ada().await;
    let mut keyed = document(CLIENT);
    keyed["redirect_uris"] = json!([REDIRECT]);
    keyed["token_endpoint_auth_method"] = json!("private_key_jwt");
    keyed["jwks"] = portcullis_core::jose::jwk::JwkSet::new(vec![world.key.public()]).to_json();
    web.says(&keyed);
    let mut browser = Browser::new();
    browser.log_in(&world, &ada).await;
    let shown = browser.authorize(&world, &request_with(&[("client_id", CLIENT)])).await;
    assert_eq!(rule(&shown), "RequestNotPushed", "held to fapi2");
    for jti in ["a", "b"] {
        let assertion = world.assertion(CLIENT, &[("jti", jti.into())]);
        let form = request_with(&[
            ("client_id", CLIENT),
            ("client_assertion", &assertion),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ]);
        let pushed = world.identity.push(&[], &form, Presented::default()).await.result;
        let reference = pushed.unwrap_or_else(|error| panic!("{}", error.rule)).request_uri;
        let sent = parameters(&[("client_id", CLIENT), ("request_uri", &reference)]);
        assert_eq!(page(&browser.authorize(&world, &sent).await), "consent", "{jti}");
        code_of(&browser.consent(&world, "allow").await);
    }
}

#[tokio::test]
async fn document_address_unfit() {
    let (world, web) = world().await;
    for id in [
        "https://10.0.0.1/c.json",
        "https://0x7f.1/c.json",
        "https://2130706433/c.json",
        "https://localhost/c.json",
        "https://printer.local/c.json",
        "https://intranet/c.json",
        "https://app.example/../c.json",
        "https://app.example/a/./c.json",
        "https://app.example/%2e%2e/c.json",
        "https://App.example/c.json",
        "https://app.example:443/c.json",
        "https://app.example//c.json",
    ] {
        assert_eq!(rule_of(&world, id).await, "DocumentAddressUnfit", "{id}");
    }
    for id in [
        "http://app.example/c.json",
        "https://app.example",
        "https://app.example/",
        "https://user@app.example/c.json",
        "https://app.example/c.json#f",
        "https://app.example/c.json?x=1",
        "https://[::1]/c.json",
        "https://xn--/\u{430}pp.example",
        "https://\u{430}pp.example/c.json",
    ] {
        assert_eq!(rule_of(&world, id).await, "ClientUnknown", "{id}");
    }
    assert_eq!(web.asked(), 0, "nothing is fetched for any of them");
}

#[tokio::test]
async fn off_unless_the_file_says_so_and_for_its_hosts_alone() {
    let (world, web) = world().await;
    world.reload(|settings| settings.documents = None);
    assert_eq!(rule_of(&world, CLIENT).await, "ClientUnknown");
    let of = |host: &str| Some(Strangers { hosts: vec![host.into()], ..strangers() });
    world.reload(|settings| settings.documents = of("tools.example"));
    assert_eq!(rule_of(&world, CLIENT).await, "DocumentHostNotAllowed");
    // A look-alike host is another host.
    world.reload(|settings| settings.documents = of("app.example"));
    for id in
        ["https://app.example.evil.example/c", "https://xapp.example/c", "https://a.app.example/c"]
    {
        assert_eq!(rule_of(&world, id).await, "DocumentHostNotAllowed", "{id}");
    }
    assert_eq!(web.asked(), 0);
    assert_eq!(rule_of(&world, CLIENT).await, "found");
}

#[tokio::test]
async fn what_a_document_may_not_be_or_say() {
    let with = |name: &str, value: Value| {
        let mut document = document(CLIENT);
        document[name] = value;
        Ok(fetched(&document))
    };
    let answer = |status, kind: &str| {
        Ok(Fetched { status, content_type: Some(kind.into()), ..fetched(&document(CLIENT)) })
    };
    let body = |text: &str| Ok(Fetched { body: text.as_bytes().to_vec(), ..fetched(&json!({})) });
    let fault = |fault: fn(String) -> FetchFault| Err(fault("app.example".into()));
    for (answer, expected) in [
        (answer(404, "application/json"), "DocumentNotThere"),
        // A redirect is returned as it is, and never followed.
        (answer(302, "application/json"), "DocumentNotThere"),
        (answer(200, "text/html"), "DocumentNotJson"),
        (body("[]"), "DocumentMalformed"),
        (body(r#"{"client_id":"a","client_id":"b"}"#), "DocumentMalformed"),
        (with("client_id", json!("https://app.example/other.json")), "DocumentOfAnotherClient"),
        (with("client_id", json!("https://APP.example/client.json")), "DocumentOfAnotherClient"),
        (with("client_id", json!(7)), "DocumentOfAnotherClient"),
        (with("client_secret", json!("s")), "SecretForbidden"),
        (with("token_endpoint_auth_method", json!("client_secret_basic")), "MethodUnsupported"),
        (with("jwks_uri", json!("https://app.example/jwks")), "KeysByReference"),
        (with("redirect_uris", json!([])), "RedirectMissing"),
        (with("redirect_uris", json!(["https://*.app.example/cb"])), "RedirectMalformed"),
        (fault(FetchFault::AddressForbidden), "DocumentAddressForbidden"),
        (fault(FetchFault::TooLarge), "DocumentTooLarge"),
        (fault(FetchFault::Slow), "DocumentSlow"),
        (fault(FetchFault::Unreachable), "DocumentUnreachable"),
    ] {
        let (world, web) = world().await;
        *web.answer.lock().unwrap() = answer;
        assert_eq!(rule_of(&world, CLIENT).await, expected);
        let shown = Browser::new().authorize(&world, &request_with(&[("client_id", CLIENT)])).await;
        assert_eq!((page(&shown), rule(&shown)), ("refused", expected), "a page, never a redirect");
        assert_eq!(web.asked(), 1, "{expected}: remembered for a minute");
        web.says(&document(CLIENT));
        world.clock.advance(NONE_KEPT);
        assert_eq!(rule_of(&world, CLIENT).await, "found");
    }
}

#[tokio::test]
async fn scopes_are_what_the_file_gives_strangers() {
    let (world, web) = world().await;
    let asked = request_with(&[("client_id", CLIENT), ("scope", "payments:write")]);
    let shown = Browser::new().authorize(&world, &asked).await;
    assert_eq!(rule(&shown), "ScopeUnregistered");
    let mut narrow = document(CLIENT);
    narrow["scope"] = json!("other:read admin");
    web.says(&narrow);
    world.clock.advance(LEAST_KEPT);
    let record = find(&world.identity.desk(), CLIENT).await.expect("found");
    assert!(record.scopes.is_empty());
    assert_eq!((record.registered, record.kind), (Registered::Document, ClientType::Native));
    // Taken away from strangers, it is gone for those under way too.
    web.says(&document(CLIENT));
    world.clock.advance(LEAST_KEPT);
    let record = find(&world.identity.desk(), CLIENT).await.expect("found");
    world.reload(|settings| {
        settings.documents = Some(Strangers { scopes: Scopes::default(), hosts: Vec::new() });
    });
    let now = in_force(&world.identity.desk().shared, &record).expect("let in");
    assert!(!record.scopes.is_empty() && now.scopes.is_empty());
    world.reload(|settings| settings.documents = None);
    assert!(in_force(&world.identity.desk().shared, &record).is_none());
}

#[tokio::test]
async fn document_changed_between_authorize_and_token() {
    let (world, web) = world().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    browser.authorize(&world, &request_with(&[("client_id", CLIENT)])).await;
    browser.prove(&world, &ada).await;
    let asked = browser.state.clone();
    let code = code_of(&browser.consent(&world, "allow").await);
    let mut changed = document(CLIENT);
    changed["redirect_uris"] = json!([REDIRECT, "https://evil.example/cb"]);
    web.says(&changed);
    // Not yet seen: kept as it was.
    let desk = world.identity.desk();
    let before = digest(&find(&desk, CLIENT).await.expect("found"));
    desk.shared.documents.0.lock().unwrap().clear();
    let after = digest(&find(&desk, CLIENT).await.expect("found"));
    assert!(before.is_some() && after.is_some() && before != after);
    let mut form = redemption(&code);
    form[1].1 = CLIENT;
    let refused = world.token(&form).await.result.err().map(|error| error.code.as_str());
    assert_eq!(refused, Some("invalid_grant"));
    browser.state = asked;
    let shown = browser.consent(&world, "allow").await;
    assert_eq!((page(&shown), rule(&shown)), ("refused", "DocumentChanged"));
}

#[tokio::test]
async fn fifty_at_once_are_one_fetch() {
    let (world, web) = world().await;
    let desk = world.identity.desk();
    let finding = (0..50).map(|_| {
        let desk = desk.clone();
        tokio::spawn(async move { find(&desk, CLIENT).await.is_ok() })
    });
    for found in finding.collect::<Vec<_>>() {
        assert!(found.await.expect("no panic"));
    }
    assert_eq!(web.asked(), 1);
}

#[tokio::test]
async fn a_document_is_kept_within_bounds_whatever_it_says() {
    for (said, kept) in [(None, 300), (Some(1), 300), (Some(900), 900), (Some(900_000), 86_400)] {
        let (world, web) = world().await;
        let max_age = said.map(Duration::from_secs);
        *web.answer.lock().unwrap() = Ok(Fetched { max_age, ..fetched(&document(CLIENT)) });
        rule_of(&world, CLIENT).await;
        world.clock.advance(Duration::from_secs(kept - 1));
        rule_of(&world, CLIENT).await;
        assert_eq!(web.asked(), 1, "{said:?}");
        world.clock.advance(Duration::from_secs(1));
        rule_of(&world, CLIENT).await;
        assert_eq!(web.asked(), 2, "{said:?}");
    }
}

#[tokio::test]
async fn documents_crowded_and_the_table_stays_bounded() {
    let (world, web) = world().await;
    let mut of_one_host = 0;
    for count in 0..50 {
        let rule = rule_of(&world, &format!("https://one.example/{count}")).await;
        of_one_host += usize::from(rule != "DocumentsCrowded");
    }
    assert_eq!((of_one_host, web.asked()), (10, 10));
    for count in 0..2_000 {
        rule_of(&world, &format!("https://h{count}.example/c")).await;
        world.clock.advance(Duration::from_millis(250));
    }
    let desk = world.identity.desk();
    assert!(desk.shared.documents.0.lock().unwrap().len() <= MAX_KEPT);
}

#[tokio::test]
async fn a_registered_client_comes_first() {
    let (world, web) = world().await;
    assert_eq!(rule_of(&world, "app").await, "found");
    assert_eq!(web.asked(), 0);
    let form = parameters(&[
        ("client_id", CLIENT),
        ("grant_type", "refresh_token"),
        ("refresh_token", "x"),
    ]);
    let answer = world.identity.token(&[], &form, Presented::default()).await;
    assert_eq!(answer.result.err().map(|error| error.code.as_str()), Some("invalid_grant"));
}
