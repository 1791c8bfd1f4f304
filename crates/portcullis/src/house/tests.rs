//! Our own pages without a socket: cookies, origins, the table, and what a page says of itself.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use portcullis_core::client::{ClientRecord, Registered};
use portcullis_core::entropy::SeededEntropy;
use portcullis_core::hash::{TableKey, sha256};
use portcullis_core::jose::dpop::ProofDesk;
use portcullis_core::limit::{Limit, LocalCounters};
use portcullis_core::revocation::Revoked;
use portcullis_core::scope::Scopes;
use portcullis_core::secret::Secret;
use portcullis_core::time::{FrozenClock, Timestamp};
use portcullis_core::web::{Address, Origin, Redirect};
use portcullis_gateway::fetch::{Fetcher, FetcherSettings};
use portcullis_gateway::foreign::Foreign;
use portcullis_gateway::house::{HouseAnswer, HouseRequest};
use portcullis_identity::outcome::{
    ConsentPage, CookieChange, DeviceCodePage, FormPostPage, LogoutPage, Notice, Outcome,
    PasswordPage, Show,
};
use portcullis_identity::parts::Parts;
use portcullis_identity::server::Identity;
use portcullis_identity::settings::{
    ApiTarget, KEY_LIFE, Require, SelfRegistration, Settings, Throttles, TokenFormat,
};
use portcullis_store::database::Store;

use super::{Site, cookies, dispatch, login_pages, page, table};

const ISSUER: &str = "https://login.example";

fn request(page: &'static str) -> HouseRequest {
    HouseRequest {
        page,
        method: http::Method::POST,
        authority: "login.example".into(),
        path: "/".into(),
        query: None,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        ip: "192.0.2.1".parse().expect("an address"),
        request_id: "r_1".into(),
        token: None,
        key: None,
        certificate: None,
    }
}

fn with(mut request: HouseRequest, fields: &[(&'static str, &'static [u8])]) -> HouseRequest {
    for (name, value) in fields {
        request.headers.append(*name, HeaderValue::from_bytes(value).expect("a value"));
    }
    request
}

const FORM: (&str, &[u8]) = ("content-type", b"application/x-www-form-urlencoded");

async fn world() -> (Identity, Store) {
    world_with(|_| {}).await
}

async fn world_with(change: impl FnOnce(&mut Settings)) -> (Identity, Store) {
    let clock = Arc::new(FrozenClock::at(Timestamp::from_unix(1_800_000_000)));
    let revoked = Arc::new(Revoked::new());
    let store = Store::in_memory(revoked.clone(), clock.clone()).expect("a store");
    let entropy = Arc::new(SeededEntropy::new(3));
    let limit = || Limit::parse("1000/min per ip, burst 1000").expect("a limit");
    let mut settings = Settings {
        issuer: Address::parse(ISSUER).expect("an issuer"),
        issuer_text: ISSUER.into(),
        clients: Default::default(),
        scope_words: Default::default(),
        apis: vec![ApiTarget {
            audience: "https://api.example/v1".into(),
            name: "payments".into(),
            scopes: Scopes::parse("payments:read").expect("scopes"),
            format: TokenFormat::Jwt,
            details: Vec::new(),
        }],
        require: Require::Everyone,
        attributes: Vec::new(),
        throttles: Throttles {
            account_device: limit(),
            account: limit(),
            address: limit(),
            otp: limit(),
        },
        mtls: None,
        issuers: Vec::new(),
        documents: None,
        registration: None,
        detail_words: Default::default(),
        key_life: KEY_LIFE,
    };
    change(&mut settings);
    let fetch = Arc::new(Fetcher::new(FetcherSettings::default()).expect("a fetcher"));
    let (frozen, proofs) = (clock.clone(), Arc::new(ProofDesk::new(&*entropy)));
    let parts = Parts {
        store: store.clone(),
        clock,
        counters: Arc::new(LocalCounters::new(TableKey::mint(&*entropy), 64)),
        entropy,
        ring: vec![(1, Secret::new([7; 32]))],
        settings,
        foreign: Arc::new(Foreign::new(fetch.clone(), frozen)),
        fetch,
        proofs,
        revoked,
    };
    (Identity::start(parts).await.expect("starts"), store)
}

fn reason(answer: &HouseAnswer) -> &str {
    answer.outcome.as_ref().err().map_or("-", String::as_str)
}

fn field<'a>(answer: &'a HouseAnswer, name: &str) -> &'a str {
    answer.response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

fn body(answer: &HouseAnswer) -> &str {
    std::str::from_utf8(answer.response.body()).expect("text")
}

fn shown(show: Show) -> HouseAnswer {
    login_pages::show(Outcome {
        show,
        cookies: Vec::new(),
        event: "login.test",
        outcome: Ok("Test".into()),
        caller: None,
        client: None,
        retry_after: None,
    })
}

fn session(fields: &[(&'static str, &'static [u8])]) -> Option<String> {
    let request = with(request("login"), fields);
    cookies::presented(&request).session.map(|session| session.expose().clone())
}

#[test]
fn a_cookie_is_read_by_its_exact_name_and_only_when_it_stands_once() {
    let read = |value: &'static [u8]| session(&[("cookie", value)]);
    assert_eq!(read(b"a=b; __Host-pc-session=x; c=d").as_deref(), Some("x"));
    for (value, why) in [
        (&b"__Host-pc-session=x; __Host-pc-session=y"[..], "twice"),
        (b"__Host-pc-session=x; __Host-pc-session=x", "twice the same"),
        (b"__host-pc-session=x", "another case"),
        (b"pc-session=x", "no prefix"),
        (b" __Host-pc-session=x", "a blank before it"),
        (b"__Host-pc-session =x", "a blank behind it"),
        (b"__Host-pc-session", "no value"),
        (b"\xff; __Host-pc-session=x", "not text"),
        (b"", "nothing"),
    ] {
        assert_eq!(read(value), None, "{why}");
    }
    // HTTP/2 may split the field; that is still one list.
    let two = [("cookie", &b"a=b"[..]), ("cookie", b"__Host-pc-session=x")];
    assert_eq!(session(&two).as_deref(), Some("x"));
    let twice = [("cookie", &b"__Host-pc-session=y"[..]), ("cookie", b"__Host-pc-session=x")];
    assert_eq!(session(&twice), None);
}

#[test]
fn a_cookie_is_written_with_all_that_its_prefix_demands() {
    let written = |value: &str, max_age_s| {
        let value = Secret::new(value.to_owned());
        cookies::written(&CookieChange { name: "__Host-pc-tx", value, max_age_s })
    };
    let whole = "__Host-pc-tx=v; Path=/; Secure; HttpOnly; SameSite=Lax";
    assert_eq!(written("v", None), whole);
    assert_eq!(written("v", Some(60)), format!("{whole}; Max-Age=60"));
    assert!(written("", Some(60)).ends_with("; Max-Age=0"), "removed");
}

#[tokio::test]
async fn a_form_of_another_site_is_refused_before_it_is_read() {
    let (identity, store) = world().await;
    for (fields, expected) in [
        (&[("origin", &b"https://login.example"[..])][..], "StateMissing"),
        (&[("sec-fetch-site", b"same-origin")], "StateMissing"),
        (&[], "StateMissing"),
        (&[("origin", b"https://evil.example")], "OriginForeign"),
        (&[("origin", b"null")], "OriginForeign"),
        (&[("origin", b"http://login.example")], "OriginForeign"),
        (&[("origin", b"https://login.example:444")], "OriginForeign"),
        (&[("origin", b"https://login.example.evil")], "OriginForeign"),
        (&[("origin", b"https://badlogin.example")], "OriginForeign"),
        (&[("origin", b"")], "OriginForeign"),
        (&[("origin", b"\xff")], "OriginForeign"),
        (&[("origin", b"null"), ("sec-fetch-site", b"same-origin")], "OriginForeign"),
        (&[("sec-fetch-site", b"cross-site")], "OriginForeign"),
        (&[("sec-fetch-site", b"same-site")], "OriginForeign"),
        (&[("sec-fetch-site", b"none")], "OriginForeign"),
    ] {
        for page in ["login", "totp", "consent"] {
            let request = with(with(request(page), &[FORM]), fields);
            let answer = dispatch(&identity, &store, request).await;
            assert_eq!(reason(&answer), expected, "{page} {fields:?}");
        }
    }
}

#[tokio::test]
async fn a_form_that_is_none_is_refused() {
    let (identity, store) = world().await;
    for (kind, body) in [
        (&b"text/plain"[..], "state=x"),
        (b"multipart/form-data", "state=x"),
        (b"application/json", "{}"),
        (FORM.1, "state=x&state=y"),
        (FORM.1, "a=%zz"),
        (FORM.1, "a=%00"),
    ] {
        let mut request = with(request("login"), &[("content-type", kind)]);
        request.body = Bytes::from_static(body.as_bytes());
        let answer = dispatch(&identity, &store, request).await;
        assert_eq!((reason(&answer), answer.response.status().as_u16()), ("FormMalformed", 400));
    }
}

#[tokio::test]
async fn doubled_parameters_of_an_authorization_request_are_a_page() {
    let (identity, store) = world().await;
    let mut doubled = request("authorize");
    doubled.query = Some("client_id=app&redirect_uri=https://a.example&redirect_uri=x".into());
    let answer = dispatch(&identity, &store, doubled).await;
    assert_eq!((reason(&answer), field(&answer, "location")), ("ParametersMalformed", ""));
}

#[tokio::test]
async fn an_authorization_request_comes_in_the_query_or_in_a_form() {
    let (identity, store) = world().await;
    // OpenID Connect Core §3.1.2.1: GET and POST; the same words come to the same answer.
    let words = "client_id=nobody&response_type=code";
    let mut queried = request("authorize");
    queried.method = http::Method::GET;
    queried.query = Some(words.into());
    let mut posted = with(request("authorize"), &[FORM]);
    posted.body = Bytes::from_static(words.as_bytes());
    let queried = dispatch(&identity, &store, queried).await;
    let posted = dispatch(&identity, &store, posted).await;
    assert_eq!((reason(&queried), body(&queried)), (reason(&posted), body(&posted)));
    assert_ne!(reason(&queried), "-");
    // In the query of a POST nothing is read.
    let mut mixed = with(request("authorize"), &[FORM]);
    mixed.query = Some(words.into());
    let answer = dispatch(&identity, &store, mixed).await;
    assert_eq!(reason(&answer), "RequestMalformed");
}

#[tokio::test]
async fn the_token_endpoint_ignores_its_query() {
    let (identity, store) = world().await;
    let asked = "grant_type=client_credentials&client_id=ledger";
    let mut in_query = with(request("token"), &[FORM]);
    in_query.query = Some(asked.into());
    let answer = dispatch(&identity, &store, in_query).await;
    assert_eq!(reason(&answer), "ClientUnauthenticated");
    let mut in_body = with(request("token"), &[FORM]);
    in_body.body = Bytes::from_static(asked.as_bytes());
    let answer = dispatch(&identity, &store, in_body).await;
    assert_eq!((reason(&answer), field(&answer, "cache-control")), ("ClientUnknown", "no-store"));
    assert_eq!(field(&answer, "www-authenticate"), "Basic realm=\"portcullis\"");
    assert_eq!(answer.response.status(), 401);
}

#[tokio::test]
async fn doubled_parameters_of_a_token_request_are_refused() {
    let (identity, store) = world().await;
    for page in ["token", "revoke"] {
        let mut doubled = with(request(page), &[FORM]);
        doubled.body = Bytes::from_static(b"client_id=a&client_id=a");
        let answer = dispatch(&identity, &store, doubled).await;
        assert_eq!(reason(&answer), "ParametersMalformed", "{page}");
        assert!(body(&answer).contains("\"invalid_request\""), "{}", body(&answer));
    }
}

#[tokio::test]
async fn the_issuer_never_comes_from_the_host() {
    let (identity, store) = world().await;
    let mut metadata = with(request("metadata"), &[("host", b"evil.example")]);
    metadata.authority = "evil.example".into();
    let answer = dispatch(&identity, &store, metadata).await;
    let document: serde_json::Value = serde_json::from_str(body(&answer)).expect("JSON");
    for member in ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"] {
        let value = document[member].as_str().expect("text");
        assert!(value.starts_with(ISSUER), "{member}: {value}");
    }
    let mut resource = request("resource_metadata");
    resource.authority = "evil.example".into();
    resource.path = "/.well-known/oauth-protected-resource/v1".into();
    let answer = dispatch(&identity, &store, resource).await;
    assert_eq!(reason(&answer), "ResourceUnknown");
}

#[test]
fn cors_is_where_applications_call_and_never_on_a_page() {
    let issuer = Address::parse(ISSUER).expect("an issuer");
    let spa = Address::parse("https://app.example").expect("an origin").origin();
    let table = table(&Site {
        issuer: &issuer,
        mtls: None,
        registration: true,
        apis: &[],
        spa_origins: &[spa],
    });
    let open: fn(&[Origin]) -> bool = |origins| !origins.is_empty();
    for line in table.values().flatten() {
        let expected =
            ["token", "par", "device", "revoke", "introspect", "userinfo", "jwks", "metadata"]
                .contains(&line.page);
        assert_eq!(open(&line.cors), expected, "{}", line.page);
    }
}

/// A consent page of hostile words.
fn consent_of(words: &str) -> ConsentPage {
    ConsentPage {
        form_target: "com.app:".into(),
        sealed: words.into(),
        client: words.into(),
        redirect_host: words.into(),
        scopes: vec![(words.into(), words.into())],
        details: vec![(words.into(), vec![(words.into(), words.into())])],
        client_host: Some(words.into()),
        device_place: None,
        login: words.into(),
    }
}

#[test]
fn words_from_outside_are_escaped_in_every_page() {
    const HOSTILE: &str = "\"><script>alert(1)</script>'";
    let password = PasswordPage {
        form_target: "https://app.example".into(),
        sealed: HOSTILE.into(),
        client: HOSTILE.into(),
        login: HOSTILE.into(),
        notice: Some(Notice::WrongPassword),
    };
    let consent = consent_of(HOSTILE);
    let place = Some(HOSTILE.into());
    let device = ConsentPage { device_place: place, ..consent_of(HOSTILE) };
    let form_post = FormPostPage {
        action: "https://app.example/cb".into(),
        fields: vec![("state", HOSTILE.into())],
        form_target: "https://app.example".into(),
    };
    let code = DeviceCodePage { sealed: HOSTILE.into(), user_code: HOSTILE.into(), notice: None };
    let logout = LogoutPage {
        sealed: HOSTILE.into(),
        login: HOSTILE.into(),
        client: Some(HOSTILE.into()),
        form_target: None,
    };
    let pages = [
        Show::Password(password),
        Show::Consent(consent),
        Show::Consent(device),
        Show::FormPost(form_post),
        Show::DeviceCode(code),
        Show::Logout(logout),
    ];
    for show in pages {
        let answer = shown(show);
        // The one script that there is stands alone, and its hash is in the policy.
        let text = body(&answer).replace("<script>document.forms[0].submit()</script>", "");
        for raw in ["<script", "value=\"\">", "1)</"] {
            assert!(!text.contains(raw), "{text}");
        }
        assert!(body(&answer).contains("alert(1)"), "it is shown, as text");
    }
}

#[test]
fn a_page_stands_in_no_frame_and_its_form_may_reach_the_application() {
    let page = ConsentPage {
        form_target: "com.app:".into(),
        sealed: "s".into(),
        client: "app".into(),
        redirect_host: "com.app:".into(),
        scopes: Vec::new(),
        details: Vec::new(),
        client_host: None,
        device_place: None,
        login: "ada".into(),
    };
    let answer = shown(Show::Consent(page));
    let policy = field(&answer, "content-security-policy");
    for directive in
        ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "'self' com.app:;"]
    {
        assert!(policy.contains(directive), "{policy}");
    }
    assert!(!policy.contains("script-src") && !policy.contains("unsafe"));
    assert_eq!(field(&answer, "x-frame-options"), "DENY");
    assert_eq!(field(&answer, "cache-control"), "no-store");
}

/// What identity keeps of a client that registered itself is what the next start reads.
#[tokio::test]
async fn a_client_that_registered_itself_survives_a_restart() {
    let token = "an initial access token of many bits";
    let (identity, store) = world_with(|settings| {
        settings.registration = Some(SelfRegistration {
            token_digest: sha256(token.as_bytes()),
            scopes: Scopes::parse("payments:read").expect("scopes"),
        });
    })
    .await;
    let bearer = format!("Bearer {token}").into_bytes();
    for metadata in [
        r#"{"redirect_uris": ["https://app.example/cb"]}"#,
        r#"{"redirect_uris": ["http://127.0.0.1/cb"], "client_name": "A tool"}"#,
        r#"{"redirect_uris": ["https://app.example/cb"], "grant_types": ["authorization_code"],
            "post_logout_redirect_uris": ["https://app.example/bye"], "scope": "payments:read",
            "backchannel_logout_uri": "https://app.example/logout"}"#,
    ] {
        let mut request = request("register");
        let value = HeaderValue::from_bytes(&bearer).expect("a value");
        request.headers.append("authorization", value);
        request.body = Bytes::from(metadata);
        let answer = dispatch(&identity, &store, request).await;
        assert_eq!(answer.response.status(), 201, "{}", body(&answer));
    }
    let read = crate::admin::stored_clients(&store).await.expect("read");
    let settings = identity.settings.read().expect("whole").clone();
    assert_eq!(read.len(), 3);
    for client in read {
        let now = settings.clients.get(&client.id).expect("in force since");
        let of = |client: &ClientRecord| {
            let redirects = |list: &[Redirect]| {
                list.iter().map(|to| to.as_str().to_owned()).collect::<Vec<_>>()
            };
            let (kind, grants) = (client.kind, client.grants.clone());
            let lists = (redirects(&client.redirects), redirects(&client.post_logout));
            let logout = client.back_channel_logout.as_ref().map(ToString::to_string);
            (kind, grants, lists, logout, client.scopes.to_string(), client.name.clone())
        };
        assert_eq!(of(&client), of(now));
        assert_eq!((client.registered, now.registered), (Registered::Itself, Registered::Itself));
    }
}

#[test]
fn a_redirect_is_a_303_that_tells_nobody_where_it_came_from() {
    let answer = shown(Show::Redirect("https://app.example/cb?code=c".into()));
    assert_eq!(answer.response.status(), 303, "never 307, which would send the password on");
    assert_eq!(field(&answer, "referrer-policy"), "no-referrer");
    assert_eq!(field(&answer, "cache-control"), "no-store");
    // What is no field value is left out, never split.
    let mut response = page::redirect("https://app.example/\r\nset-cookie: x=y");
    assert!(response.headers_mut().remove(header::LOCATION).is_none());
    assert!(response.headers().get(header::SET_COOKIE).is_none());
}
