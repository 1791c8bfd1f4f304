//! Key sets of others over real sockets, at a frozen clock: what is fetched, how often, and what is
//! believed when an issuer fails or lies.

use std::time::Duration;

use portcullis_core::time::FrozenClock;
use serde_json::json;

use super::testing::{NOW, foreign, headed, issuer, key, metadata, set, token};
use super::*;
use crate::fetch::testing::{Reply, Server};
use ForeignFault::{Crowded, IssuerEnded, NeverReached, NotForeign};

const ISS: &str = "https://as.example";
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// An issuer whose key set is at a server, with the process that asks it.
struct Stage {
    foreign: Arc<Foreign>,
    clock: Arc<FrozenClock>,
    server: Server,
    issuers: Vec<Arc<ForeignIssuer>>,
}

impl Stage {
    async fn with(reply: Reply) -> Self {
        let server = Server::https(move |_| reply.clone()).await;
        let (foreign, clock) = foreign();
        let listed = issuer(KeySource::Address(server.url("/keys")));
        Stage { foreign, clock, server, issuers: vec![Arc::new(listed)] }
    }

    async fn ask(&self, token: &str) -> Result<Recognised, ForeignFault> {
        recognise(&self.foreign, &self.issuers, token, self.clock.now()).await
    }

    /// The outcome for a token of a key.
    async fn knows(&self, name: &str) -> Result<(), ForeignFault> {
        self.ask(&token(ISS, name)).await.map(drop)
    }

    fn after(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn becomes(&self, reply: Reply) {
        self.server.becomes(move |_| reply.clone());
    }

    fn fetches(&self) -> usize {
        self.server.connections()
    }

    /// Waits until nothing is in flight.
    async fn settled(&self) {
        while self.foreign.keys.in_flight(&self.issuers[0]) {
            tokio::task::yield_now().await;
        }
    }
}

fn broken(fault: TokenFault) -> Result<(), ForeignFault> {
    Err(ForeignFault::Token(fault))
}

#[tokio::test]
async fn a_token_is_recognised_by_the_keys_of_its_issuer() {
    let stage = Stage::with(Reply::ok(set(&["a", "b"]))).await;
    let recognised = stage.ask(&token(ISS, "b")).await.unwrap();
    assert_eq!(
        (recognised.claims().sub.as_str(), recognised.issuer().name.as_str()),
        ("u1", "partner")
    );
    assert_eq!(recognised.kid(), Some(key("b").kid()));
    assert_eq!(recognised.believed_until(), NOW.after(MAX_BELIEF));
    assert_eq!(stage.knows("a").await, Ok(()));
    assert_eq!(stage.fetches(), 1, "one set serves all its tokens");
}

#[tokio::test]
async fn keys_are_found_by_discovery_in_either_place() {
    for oauth in [false, true] {
        let server = Server::https(|_| Reply::Json(404, "{}".into())).await;
        let (foreign, _) = foreign();
        let iss = server.url("/realm");
        let document = metadata(&iss, &server.url("/keys"));
        server.becomes(move |seen| match (seen.target(), oauth) {
            ("/realm/.well-known/openid-configuration", false)
            | ("/.well-known/oauth-authorization-server/realm", true) => Reply::ok(&document),
            ("/keys", _) => Reply::ok(set(&["a"])),
            _ => Reply::Json(404, "{}".into()),
        });
        let listed = ForeignIssuer { issuer: iss.clone(), ..issuer(KeySource::Discovery) };
        let issuers = [Arc::new(listed)];
        let outcome = recognise(&foreign, &issuers, &token(&iss, "a"), NOW).await;
        assert!(outcome.is_ok(), "{:?}", outcome.err());
        assert_eq!(server.connections(), if oauth { 3 } else { 2 });
    }
}

#[tokio::test]
async fn an_issuer_in_the_clear_is_for_loopback_alone() {
    let server = Server::http(|_| Reply::Json(404, "{}".into())).await;
    let (foreign, _) = foreign();
    let iss = server.url("");
    let document = metadata(&iss, &server.url("/keys"));
    server.becomes(move |seen| match seen.target() {
        "/keys" => Reply::ok(set(&["a"])),
        _ => Reply::ok(&document),
    });
    let listed = |iss: &str| {
        [Arc::new(ForeignIssuer { issuer: iss.into(), ..issuer(KeySource::Discovery) })]
    };
    assert!(recognise(&foreign, &listed(&iss), &token(&iss, "a"), NOW).await.is_ok());
    let far = "http://as.example";
    let outcome = recognise(&foreign, &listed(far), &token(far, "a"), NOW).await;
    assert_eq!(outcome.err(), Some(NeverReached));
}

#[tokio::test]
async fn not_foreign_unless_its_issuer_is_listed_byte_for_byte() {
    let stage = Stage::with(Reply::ok(set(&["a"]))).await;
    for iss in [
        "https://as.example/",
        "https://AS.example",
        "http://as.example",
        "",
        "https://as.example.evil.example",
        "https://as.example:443",
    ] {
        assert_eq!(stage.ask(&token(iss, "a")).await.err(), Some(NotForeign), "{iss}");
    }
    for opaque in ["", "opaque", "a.b", "a.b.c.d", "at_x", "a b", "\u{e9}", "eyJhbGciOiJub25lIn0"] {
        assert_eq!(stage.ask(opaque).await.err(), Some(NotForeign), "{opaque}");
    }
    assert_eq!(stage.fetches(), 0, "whose token it is costs no fetch");
}

#[tokio::test]
async fn each_rule_of_a_token_refuses() {
    let stage = Stage::with(Reply::ok(set(&["a"]))).await;
    let signed = |claims: serde_json::Value| key("a").sign("at+jwt", &claims);
    let now = NOW.unix();
    let (aud, exp) = ("https://api.example", now + 60);
    let forged = {
        let good = token(ISS, "a");
        let (signed, _) = good.rsplit_once('.').unwrap();
        format!("{signed}.{}", portcullis_core::jose::base64url::encode(&[0; 64]))
    };
    let table = [
        (forged, TokenFault::SignatureWrong),
        ("a".repeat(9000), TokenFault::TooLong),
        ("a.b.c".into(), TokenFault::NotCompact),
        (signed(json!({ "sub": "u", "aud": aud, "exp": exp })), TokenFault::ClaimMalformed),
        (
            signed(json!({ "iss": [ISS], "sub": "u", "aud": aud, "exp": exp })),
            TokenFault::ClaimMalformed,
        ),
        (signed(json!({ "iss": ISS, "sub": "u", "exp": exp })), TokenFault::ClaimMalformed),
        (
            signed(json!({ "iss": ISS, "sub": "u", "aud": "x", "exp": exp })),
            TokenFault::AudienceWrong,
        ),
        (signed(json!({ "iss": ISS, "sub": "u", "aud": aud, "exp": now })), TokenFault::Expired),
        (headed(json!({ "alg": "none" }), ISS), TokenFault::AlgorithmNotAccepted),
        (headed(json!({ "alg": "HS256" }), ISS), TokenFault::AlgorithmNotAccepted),
        (headed(json!({ "alg": "ES256", "kid": key("a").kid() }), ISS), TokenFault::KeyUnknown),
        (headed(json!({ "alg": "EdDSA", "crit": ["x"] }), ISS), TokenFault::CriticalUnknown),
    ];
    for (token, fault) in table {
        assert_eq!(stage.ask(&token).await.map(drop), broken(fault), "{token}");
    }
    assert_eq!(stage.fetches(), 1);
}

#[tokio::test]
async fn issuer_ended() {
    let mut stage = Stage::with(Reply::ok(set(&["a"]))).await;
    let until = NOW.after(Duration::from_secs(10));
    let listed = ForeignIssuer { until: Some(until), ..(*stage.issuers[0]).clone() };
    stage.issuers = vec![Arc::new(listed)];
    let recognised = stage.ask(&token(ISS, "a")).await.unwrap();
    assert_eq!(recognised.believed_until(), until, "nobody remembers it for longer");
    stage.after(10);
    assert_eq!(stage.knows("a").await, Err(IssuerEnded));
}

#[tokio::test]
async fn outbound_canary_no_header_ever_causes_a_fetch() {
    let canary = Server::https(|_| Reply::ok(set(&["evil"]))).await;
    let stage = Stage::with(Reply::ok(set(&["a"]))).await;
    assert_eq!(stage.knows("a").await, Ok(()));
    let url = canary.url("/keys");
    let jwk = key("evil").public().to_json();
    let evil = key("evil").kid().to_owned();
    for header in [
        json!({ "alg": "EdDSA", "jku": url }),
        json!({ "alg": "EdDSA", "jku": url, "kid": evil }),
        json!({ "alg": "EdDSA", "jku": url, "kid": key("a").kid() }),
        json!({ "alg": "EdDSA", "x5u": url, "kid": url }),
        json!({ "alg": "EdDSA", "jwk": jwk, "kid": evil }),
        json!({ "alg": "EdDSA", "x5c": ["AAAA"], "x5t": "AA" }),
        json!({ "alg": "EdDSA", "kid": "../../../../etc/passwd" }),
        json!({ "alg": "EdDSA", "kid": "' OR 1=1 --" }),
        json!({ "alg": "EdDSA", "iss": url, "url": url }),
    ] {
        let outcome = stage.ask(&headed(header.clone(), ISS)).await;
        assert!(matches!(outcome, Err(ForeignFault::Token(_))), "{header}");
    }
    // The `iss` itself is looked up in the list, and never followed.
    assert_eq!(stage.ask(&token(&canary.url(""), "evil")).await.err(), Some(NotForeign));
    assert_eq!((canary.connections(), stage.fetches()), (0, 1));
}

#[tokio::test]
async fn a_flood_of_unknown_kids_causes_one_fetch_in_ten_seconds() {
    let stage = Stage::with(Reply::ok(set(&["a"]))).await;
    assert_eq!(stage.knows("a").await, Ok(()));
    let flood = |from: usize| {
        let stage = &stage;
        async move {
            for at in from..from + 300 {
                let invented = headed(json!({ "alg": "EdDSA", "kid": format!("k{at}") }), ISS);
                let outcome = stage.ask(&invented).await.map(drop);
                assert_eq!(outcome, broken(TokenFault::KeyUnknown));
            }
        }
    };
    flood(0).await;
    stage.after(9);
    flood(300).await;
    assert_eq!(stage.fetches(), 1, "the first fetch is not ten seconds old");
    for round in 1..=3 {
        stage.after(10);
        flood(0).await;
        assert_eq!(stage.fetches(), 1 + round);
    }
    assert_eq!(stage.knows("a").await, Ok(()));
}

#[tokio::test]
async fn a_flood_of_unknown_kids_asks_for_the_set_alone() {
    let server = Server::https(|_| Reply::Json(404, "{}".into())).await;
    let (foreign, clock) = foreign();
    let iss = server.url("");
    let document = metadata(&iss, &server.url("/keys"));
    server.becomes(move |seen| match seen.target() {
        "/keys" => Reply::ok(set(&["a"])),
        _ => Reply::ok(&document),
    });
    let listed = ForeignIssuer { issuer: iss.clone(), ..issuer(KeySource::Discovery) };
    let issuers = [Arc::new(listed)];
    for _ in 0..3 {
        let invented = headed(json!({ "alg": "EdDSA", "kid": "k" }), &iss);
        recognise(&foreign, &issuers, &invented, clock.now()).await.err().unwrap();
        clock.advance(Duration::from_secs(10));
    }
    let expected = ["/.well-known/openid-configuration", "/keys", "/keys", "/keys"];
    assert_eq!(server.targets(), expected);
}

#[tokio::test]
async fn a_renewal_looks_again_where_the_keys_are() {
    let server = Server::https(|_| Reply::Json(404, "{}".into())).await;
    let (foreign, clock) = foreign();
    let iss = server.url("");
    let listed = ForeignIssuer { issuer: iss.clone(), ..issuer(KeySource::Discovery) };
    let issuers = [Arc::new(listed)];
    for (path, name) in [("/old", "a"), ("/new", "b")] {
        let document = metadata(&iss, &server.url(path));
        server.becomes(move |seen| match seen.target() {
            target if target == path => {
                Reply::answer(200, "cache-control: max-age=300\r\n", &set(&[name]))
            }
            "/.well-known/openid-configuration" => Reply::ok(&document),
            _ => Reply::ok(set(&["evil"])),
        });
        // Without a `kid`, so that it is time alone that renews.
        foreign.keys(&issuers[0], None).await.unwrap();
        let outcome = recognise(&foreign, &issuers, &token(&iss, name), clock.now()).await;
        assert!(outcome.is_ok(), "{path}: {:?}", outcome.err());
        clock.advance(Duration::from_secs(5 * MINUTE));
    }
}

#[tokio::test]
async fn a_flood_of_unknown_kids_does_not_keep_an_old_place_alive() {
    let server = Server::https(|_| Reply::Json(404, "{}".into())).await;
    let (foreign, clock) = foreign();
    let iss = server.url("");
    let (old, new) = (metadata(&iss, &server.url("/old")), metadata(&iss, &server.url("/new")));
    let serves = |document: String| {
        move |seen: &crate::fetch::testing::Seen| match seen.target() {
            "/old" => Reply::ok(set(&["a"])),
            "/new" => Reply::ok(set(&["b"])),
            _ => Reply::ok(&document),
        }
    };
    server.becomes(serves(old));
    let listed = ForeignIssuer { issuer: iss.clone(), ..issuer(KeySource::Discovery) };
    let issuers = [Arc::new(listed)];
    let flood = headed(json!({ "alg": "EdDSA", "kid": "k" }), &iss);
    assert!(recognise(&foreign, &issuers, &flood, clock.now()).await.is_err());
    server.becomes(serves(new));
    // Each fetch for an unknown `kid` makes the set younger, and the place where it is older.
    for _ in 0..5 {
        clock.advance(Duration::from_secs(15 * MINUTE));
        assert!(recognise(&foreign, &issuers, &flood, clock.now()).await.is_err());
    }
    assert!(recognise(&foreign, &issuers, &token(&iss, "b"), clock.now()).await.is_ok());
}

#[tokio::test]
async fn a_rotated_key_is_found_by_its_kid() {
    let stage = Stage::with(Reply::ok(set(&["a"]))).await;
    assert_eq!(stage.knows("a").await, Ok(()));
    stage.becomes(Reply::ok(set(&["a", "b"])));
    stage.after(10);
    assert_eq!(stage.knows("b").await, Ok(()));
    assert_eq!((stage.knows("a").await, stage.fetches()), (Ok(()), 2));
}

#[tokio::test]
async fn fifty_askers_at_once_cause_one_fetch() {
    let reply = Reply::Late(Duration::from_millis(50), set(&["a"]));
    let stage = Arc::new(Stage::with(reply).await);
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let stage = stage.clone();
        askers.spawn(async move { stage.knows("a").await });
    }
    let outcomes = askers.join_all().await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(stage.fetches(), 1);
}

#[tokio::test]
async fn an_asker_who_goes_away_takes_no_fetch_along() {
    let reply = Reply::Late(Duration::from_millis(50), set(&["a"]));
    let stage = Arc::new(Stage::with(reply).await);
    let first = tokio::spawn({
        let stage = stage.clone();
        async move { stage.knows("a").await }
    });
    while stage.fetches() == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert_eq!((stage.knows("a").await, stage.fetches()), (Ok(()), 1));
}

#[tokio::test]
async fn crowded_when_too_many_wait_for_a_first_set() {
    let stage = Arc::new(Stage::with(Reply::Silence).await);
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..keys::MAX_WAITING {
        let stage = stage.clone();
        askers.spawn(async move { stage.knows("a").await });
    }
    while stage.server.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.knows("a").await, Err(Crowded));
    assert_eq!(stage.fetches(), 1);
}

#[tokio::test]
async fn never_reached_is_asked_again_after_some_seconds() {
    let stage = Stage::with(Reply::Json(500, "{}".into())).await;
    for round in 1..=3 {
        for _ in 0..100 {
            assert_eq!(stage.knows("a").await, Err(NeverReached));
        }
        assert_eq!(stage.fetches(), round);
        stage.after(5);
    }
    stage.becomes(Reply::ok(set(&["a"])));
    assert_eq!(stage.knows("a").await, Ok(()));
}

/// What a key set's server may do wrong, quickly.
fn misdeeds(canary: &str) -> Vec<(&'static str, Reply)> {
    let head = |length: u64| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let to = |url: &str| Reply::answer(302, &format!("location: {url}\r\n"), &set(&["evil"]));
    vec![
        ("answers 500", Reply::Json(500, set(&["evil"]))),
        ("answers 404", Reply::Json(404, set(&["evil"]))),
        ("a gigabyte by its own word", Reply::Endless(head(1 << 30).into_bytes())),
        ("a gigabyte without a word", Reply::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())),
        ("redirects to a link-local address", to("http://169.254.169.254/latest/meta-data/")),
        ("redirects to another server", to(canary)),
        ("redirects to itself", to("/keys")),
        ("breaks off", Reply::Raw(head(100).into_bytes())),
        ("closes", Reply::Raw(Vec::new())),
        ("answers nonsense", Reply::ok("<html>")),
        ("answers without keys", Reply::ok(r#"{"keys":[]}"#)),
        ("answers other keys alone", Reply::ok(r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#)),
        ("doubles a member", Reply::ok(r#"{"keys":[],"keys":[]}"#)),
    ]
}

#[tokio::test]
async fn the_last_good_keys_are_kept_whatever_their_server_does() {
    let canary = Server::https(|_| Reply::ok(set(&["evil"]))).await;
    for (deed, reply) in misdeeds(&canary.url("/keys")) {
        let stage = Stage::with(Reply::ok(set(&["a"]))).await;
        assert_eq!(stage.knows("a").await, Ok(()));
        stage.becomes(reply);
        stage.after(2 * HOUR);
        assert_eq!(stage.knows("a").await, Ok(()), "{deed}");
        assert_eq!(stage.fetches(), 2, "{deed}");
        assert_eq!(stage.knows("evil").await, broken(TokenFault::KeyUnknown), "{deed}");
        // Nobody else waits for a failing issuer, and it is left alone for ten seconds.
        assert_eq!((stage.knows("a").await, stage.fetches()), (Ok(()), 2), "{deed}");
        stage.becomes(Reply::ok(set(&["b"])));
        stage.after(10);
        assert_eq!(stage.knows("b").await, Ok(()), "{deed}: it recovers");
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn the_last_good_keys_are_kept_while_their_server_is_silent() {
    let stage = Stage::with(Reply::ok(set(&["a"]))).await;
    assert_eq!(stage.knows("a").await, Ok(()));
    stage.becomes(Reply::Silence);
    stage.after(2 * HOUR);
    // Only tokio's clock runs ahead from here: the one that the fetch's timeout is on.
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    assert_eq!(stage.knows("a").await, Ok(()));
    assert!(before.elapsed() <= Duration::from_secs(5), "the first asker waits for a while");
    let before = tokio::time::Instant::now();
    assert_eq!(stage.knows("a").await, Ok(()));
    assert_eq!(before.elapsed(), Duration::ZERO, "and nobody after");
    stage.after(10);
    let before = tokio::time::Instant::now();
    assert_eq!(stage.knows("a").await, Ok(()));
    assert_eq!(before.elapsed(), Duration::ZERO, "not even for the next attempt");
    assert!(stage.foreign.keys.in_flight(&stage.issuers[0]));
}

#[tokio::test]
async fn stale_keys_end_a_day_after_their_life() {
    let stage = Stage::with(Reply::ok(set(&["a"]))).await;
    let verdict = |stage: &Stage| {
        let (keys, listed) = (stage.foreign.clone(), stage.issuers[0].clone());
        async move { keys.keys(&listed, None).await.map(drop) }
    };
    assert_eq!(verdict(&stage).await, Ok(()));
    stage.becomes(Reply::Json(500, "{}".into()));
    stage.after(25 * HOUR - 1);
    assert_eq!(verdict(&stage).await, Ok(()));
    stage.after(1);
    assert_eq!(verdict(&stage).await, Err(FetchFault::Unreachable("partner".into())));
    assert_eq!(stage.knows("a").await, Err(NeverReached));
}

#[tokio::test]
async fn a_withdrawn_key_ends_with_the_life_of_its_set() {
    for (field, life) in [
        ("", HOUR),
        ("cache-control: max-age=1200\r\n", 20 * MINUTE),
        ("cache-control: max-age=1\r\n", 5 * MINUTE),
        ("cache-control: no-store\r\n", HOUR),
        ("cache-control: max-age=604800\r\n", 24 * HOUR),
    ] {
        let stage = Stage::with(Reply::answer(200, field, &set(&["a", "b"]))).await;
        let find = || stage.foreign.keys(&stage.issuers[0], None);
        assert_eq!(find().await.unwrap().iter().count(), 2);
        stage.becomes(Reply::ok(set(&["b"])));
        stage.after(life * 4 / 5 - 1);
        assert_eq!((find().await.unwrap().iter().count(), stage.fetches()), (2, 1), "{field}");
        stage.after(life - life * 4 / 5 + 1);
        assert_eq!((find().await.unwrap().iter().count(), stage.fetches()), (1, 2), "{field}");
    }
}

#[tokio::test]
async fn a_ripe_set_is_renewed_behind_its_users() {
    let stage = Stage::with(Reply::ok(set(&["a"]))).await;
    assert_eq!(stage.knows("a").await, Ok(()));
    stage.becomes(Reply::Late(Duration::from_millis(50), set(&["b"])));
    stage.after(50 * MINUTE);
    for _ in 0..20 {
        assert_eq!(stage.knows("a").await, Ok(()), "nobody waits");
    }
    stage.settled().await;
    assert_eq!((stage.knows("b").await, stage.fetches()), (Ok(()), 2));
}

#[tokio::test]
async fn a_clock_that_was_set_back_forbids_no_renewal() {
    let stage = Stage::with(Reply::ok(set(&["a"]))).await;
    assert_eq!(stage.knows("a").await, Ok(()));
    stage.becomes(Reply::ok(set(&["a", "b"])));
    stage.clock.set(NOW.before(Duration::from_secs(600)));
    assert_eq!((stage.knows("b").await, stage.fetches()), (Ok(()), 2));
}

#[tokio::test]
async fn metadata_that_names_another_place_is_a_strangers_word() {
    let canary = Server::https(|_| Reply::ok(set(&["evil"]))).await;
    let in_clear = Server::http(|_| Reply::ok(set(&["evil"]))).await;
    let by_ip = format!("https://127.0.0.1:{}/keys", canary.address.port());
    for place in [
        canary.url("/keys"),
        in_clear.url("/keys"),
        by_ip,
        "https://169.254.169.254/keys".into(),
        "https://[::1]/keys".into(),
    ] {
        let server = Server::https(|_| Reply::Json(404, "{}".into())).await;
        let (foreign, _) = foreign();
        let iss = server.url("");
        let document = metadata(&iss, &place);
        server.becomes(move |_| Reply::ok(&document));
        let listed = ForeignIssuer { issuer: iss.clone(), ..issuer(KeySource::Discovery) };
        let issuers = [Arc::new(listed)];
        let outcome = recognise(&foreign, &issuers, &token(&iss, "evil"), NOW).await;
        assert_eq!(outcome.err(), Some(NeverReached), "{place}");
    }
    assert_eq!((canary.connections(), in_clear.connections()), (0, 0));
}

#[tokio::test]
async fn metadata_of_another_issuer_is_not_this_ones() {
    let server = Server::https(|_| Reply::Json(404, "{}".into())).await;
    let (foreign, _) = foreign();
    let iss = server.url("");
    let document = metadata(&server.url("/"), &server.url("/keys"));
    server.becomes(move |seen| match seen.target() {
        "/keys" => Reply::ok(set(&["evil"])),
        _ => Reply::ok(&document),
    });
    let listed = ForeignIssuer { issuer: iss.clone(), ..issuer(KeySource::Discovery) };
    let issuers = [Arc::new(listed)];
    let outcome = recognise(&foreign, &issuers, &token(&iss, "evil"), NOW).await;
    assert_eq!(outcome.err(), Some(NeverReached));
    assert!(!server.targets().contains(&"/keys".into()));
}

#[tokio::test]
async fn after_a_reload_only_the_new_words_count() {
    let stage = Stage::with(Reply::ok(set(&["a"]))).await;
    assert_eq!(stage.knows("a").await, Ok(()));
    let moved = Server::https(|_| Reply::ok(set(&["b"]))).await;
    let issuers = [Arc::new(issuer(KeySource::Address(moved.url("/keys"))))];
    let outcome = recognise(&stage.foreign, &issuers, &token(ISS, "a"), NOW).await;
    assert_eq!(outcome.map(drop), broken(TokenFault::KeyUnknown));
    assert!(recognise(&stage.foreign, &issuers, &token(ISS, "b"), NOW).await.is_ok());
}

#[tokio::test]
async fn issuers_remembered_are_bounded() {
    let (foreign, _) = foreign();
    for at in 0..keys::MAX_ISSUERS + 50 {
        let listed = issuer(KeySource::Introspection {
            endpoint: format!("https://as.example/{at}"),
            client_id: String::new(),
            secret: Arc::new(portcullis_core::secret::Secret::new(String::new())),
        });
        assert!(foreign.keys(&listed, None).await.is_err(), "it has no keys");
    }
    assert_eq!(foreign.keys.remembered(), keys::MAX_ISSUERS);
}
