//! Opaque tokens of others over real sockets, at a frozen clock: what is asked, how often, and what is
//! believed when an issuer fails or lies.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_core::time::FrozenClock;
use serde_json::json;

use super::introspection::{MAX_AT_ONCE, MAX_QUESTIONS, TIMEOUT};
use super::testing::{NOW, foreign, headed, introspected, issuer};
use super::*;
use crate::fetch::testing::{Reply, Server};
use ForeignFault::{Crowded, IssuerEnded, NeverReached, NotForeign};

struct Stage {
    foreign: Arc<Foreign>,
    clock: Arc<FrozenClock>,
    server: Server,
    issuers: Vec<Arc<ForeignIssuer>>,
}

impl Stage {
    /// With more patience than the product has: these servers are slow only where a test says so.
    async fn with(reply: Reply) -> Self {
        Self::within(Duration::from_secs(5), reply).await
    }

    async fn within(limit: Duration, reply: Reply) -> Self {
        let server = Server::https(move |_| reply.clone()).await;
        let (mut foreign, clock) = foreign();
        Arc::get_mut(&mut foreign).unwrap().desk.limit = limit;
        let listed = introspected(&server.url("/introspect"));
        Stage { foreign, clock, server, issuers: vec![Arc::new(listed)] }
    }

    async fn ask(&self, token: &str) -> Result<Recognised, ForeignFault> {
        recognise(&self.foreign, &self.issuers, token, self.clock.now()).await
    }

    fn after(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn becomes(&self, reply: Reply) {
        self.server.becomes(move |_| reply.clone());
    }

    fn asked(&self) -> usize {
        self.server.connections()
    }
}

fn active() -> Reply {
    Reply::ok(json!({
        "active": true, "sub": "u1", "aud": "https://api.example", "scope": "a",
        "exp": NOW.unix() + 3600,
    }))
}

fn inactive() -> Reply {
    Reply::ok(json!({ "active": false }))
}

#[tokio::test]
async fn an_opaque_token_is_asked_about() {
    let stage = Stage::with(active()).await;
    let recognised = stage.ask("opaque+/~1==").await.unwrap();
    assert_eq!((recognised.claims().sub.as_str(), recognised.kid()), ("u1", None));
    assert_eq!(recognised.believed_until(), NOW.after(Duration::from_secs(30)));
    let seen = &stage.server.seen()[0];
    assert_eq!(seen.line, "POST /introspect HTTP/1.1");
    assert_eq!(seen.body, "token=opaque%2B%2F~1%3D%3D&token_type_hint=access_token");
    assert_eq!(seen.field("authorization"), Some("Basic cG9ydGN1bGxpczpzM2NyZXQ="));
    assert_eq!(seen.field("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(seen.field("accept"), Some("application/json"));
}

#[tokio::test]
async fn an_answer_is_believed_for_thirty_seconds() {
    let stage = Stage::with(active()).await;
    for _ in 0..20 {
        assert!(stage.ask("t").await.is_ok());
    }
    stage.after(29);
    assert!(stage.ask("t").await.is_ok());
    assert_eq!(stage.asked(), 1);
    stage.becomes(inactive());
    stage.after(1);
    assert_eq!(stage.ask("t").await.err(), Some(NotForeign), "revoked at its issuer");
    assert_eq!(stage.asked(), 2);
}

#[tokio::test]
async fn an_answer_is_not_believed_past_its_exp() {
    let exp = NOW.unix() + 10;
    let body = json!({ "active": true, "sub": "u", "aud": "https://api.example", "exp": exp });
    let stage = Stage::with(Reply::ok(body)).await;
    assert_eq!(stage.ask("t").await.unwrap().believed_until(), Timestamp::from_unix(exp));
    stage.after(10);
    let late = stage.ask("t").await.err();
    assert_eq!((late, stage.asked()), (Some(TokenFault::Expired.into()), 2));
}

#[tokio::test]
async fn not_active_is_believed_for_five_seconds() {
    let stage = Stage::with(inactive()).await;
    for _ in 0..20 {
        assert_eq!(stage.ask("t").await.err(), Some(NotForeign));
    }
    stage.becomes(active());
    stage.after(4);
    assert_eq!((stage.ask("t").await.err(), stage.asked()), (Some(NotForeign), 1));
    stage.after(1);
    assert!(stage.ask("t").await.is_ok());
    assert_eq!(stage.asked(), 2);
}

#[tokio::test]
async fn a_clock_that_was_set_back_ends_what_was_believed() {
    let stage = Stage::with(active()).await;
    assert!(stage.ask("t").await.is_ok());
    stage.becomes(inactive());
    stage.clock.set(NOW.before(Duration::from_secs(5)));
    assert_eq!(stage.ask("t").await.err(), Some(NotForeign));
}

#[tokio::test]
async fn never_reached_is_no_verdict_and_is_not_remembered() {
    let canary = Server::https(|_| active()).await;
    let to = |url: &str| Reply::answer(307, &format!("location: {url}\r\n"), "");
    for (deed, reply) in [
        ("500", Reply::Json(500, r#"{"active":true}"#.into())),
        ("401", Reply::Json(401, r#"{"active":true}"#.into())),
        ("redirect", to(&canary.url("/introspect"))),
        ("link-local", to("http://169.254.169.254/")),
        ("a gigabyte", Reply::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())),
        ("nonsense", Reply::ok("<html>")),
        ("a text", Reply::ok(r#"{"active":"true"}"#)),
        ("closed", Reply::Raw(Vec::new())),
    ] {
        let stage = Stage::with(reply).await;
        assert_eq!(stage.ask("t").await.err(), Some(NeverReached), "{deed}");
        stage.becomes(active());
        assert!(stage.ask("t").await.is_ok(), "{deed}");
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn slow_is_never_reached_after_500_ms() {
    let stage = Stage::within(TIMEOUT, Reply::Silence).await;
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    assert_eq!(stage.ask("t").await.err(), Some(NeverReached));
    assert!(before.elapsed() <= Duration::from_millis(510), "{:?}", before.elapsed());
}

#[tokio::test]
async fn fifty_askers_about_one_token_cause_one_question() {
    let json = json!({ "active": true, "sub": "u", "aud": "https://api.example" }).to_string();
    let stage = Arc::new(Stage::with(Reply::Late(Duration::from_millis(50), json)).await);
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let stage = stage.clone();
        askers.spawn(async move { stage.ask("t").await.map(drop) });
    }
    // The first one goes away, and takes nobody's answer along.
    while stage.asked() == 0 {
        tokio::task::yield_now().await;
    }
    let outcomes = askers.join_all().await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(stage.asked(), 1);
}

#[tokio::test]
async fn an_asker_who_goes_away_takes_no_answer_along() {
    let json = json!({ "active": true, "sub": "u", "aud": "https://api.example" }).to_string();
    let stage = Arc::new(Stage::with(Reply::Late(Duration::from_millis(50), json)).await);
    let first = tokio::spawn({
        let stage = stage.clone();
        async move { stage.ask("t").await.map(drop) }
    });
    while stage.asked() == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(stage.ask("t").await.is_ok());
    assert_eq!(stage.asked(), 1);
}

#[tokio::test]
async fn a_flood_of_invented_tokens_is_bounded() {
    let stage = Arc::new(Stage::with(inactive()).await);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    stage.server.becomes(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Reply::Silence
    });
    let mut askers = tokio::task::JoinSet::new();
    for at in 0..MAX_QUESTIONS + 50 {
        let stage = stage.clone();
        askers.spawn(async move { stage.ask(&format!("t{at}")).await.map(drop) });
    }
    while asked.load(Ordering::SeqCst) < MAX_AT_ONCE {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), MAX_AT_ONCE, "no more than these at once");
    assert_eq!(stage.foreign.desk.asking(), MAX_QUESTIONS);
    tokio::time::pause();
    let outcomes = askers.join_all().await;
    // Those that were asked about got no answer; the others found no place in time.
    let crowded = outcomes.iter().filter(|outcome| **outcome == Err(Crowded)).count();
    let unanswered = outcomes.iter().filter(|outcome| **outcome == Err(NeverReached)).count();
    assert_eq!(crowded + unanswered, outcomes.len());
    assert!(unanswered >= MAX_AT_ONCE && crowded >= 50, "{unanswered} {crowded}");
    assert_eq!(stage.foreign.desk.asking(), 0, "afterwards there is place again");
}

#[tokio::test]
async fn our_own_texts_are_shown_to_nobody() {
    let stage = Stage::with(active()).await;
    for own in ["at_abc", "rt_g.1.mac-with-no-more-dots", "pk_abc.mac", "", "a b", "a\r\nb"] {
        assert_eq!(stage.ask(own).await.err(), Some(NotForeign), "{own}");
    }
    assert_eq!(stage.asked(), 0);
}

#[tokio::test]
async fn a_jwt_goes_only_to_its_own_issuer() {
    let stage = Stage::with(active()).await;
    let header = || json!({ "alg": "EdDSA", "kid": "k" });
    assert!(stage.ask(&headed(header(), "https://as.example")).await.is_ok());
    assert_eq!(stage.asked(), 1);
    for iss in ["https://other.example", "https://as.example/"] {
        assert_eq!(stage.ask(&headed(header(), iss)).await.err(), Some(NotForeign));
    }
    assert_eq!(stage.asked(), 1);
}

#[tokio::test]
async fn issuers_are_asked_in_order_until_one_knows_the_token() {
    let mut stage = Stage::with(inactive()).await;
    let second = Server::https(|_| active()).await;
    let third = Server::https(|_| active()).await;
    for (name, server) in [("second", &second), ("third", &third)] {
        let listed = ForeignIssuer { name: name.into(), ..introspected(&server.url("/i")) };
        stage.issuers.push(Arc::new(listed));
    }
    stage.issuers.insert(0, Arc::new(issuer(KeySource::Discovery)));
    let recognised = stage.ask("t").await.unwrap();
    assert_eq!(recognised.issuer().name, "second");
    assert_eq!((stage.asked(), second.connections(), third.connections()), (1, 1, 0));
    // One that cannot be asked may have known it: without another's yes, nobody can say.
    second.becomes(|_| Reply::Json(500, "{}".into()));
    third.becomes(|_| inactive());
    assert_eq!(stage.ask("u").await.err(), Some(NeverReached));
}

#[tokio::test]
async fn an_ended_issuer_is_not_asked() {
    let mut stage = Stage::with(active()).await;
    let listed = ForeignIssuer { until: Some(NOW), ..(*stage.issuers[0]).clone() };
    stage.issuers = vec![Arc::new(listed)];
    assert_eq!(stage.ask("t").await.err(), Some(IssuerEnded));
    assert_eq!(stage.asked(), 0);
}

#[tokio::test]
async fn what_one_issuer_said_is_not_another_ones_word() {
    let mut stage = Stage::with(active()).await;
    assert!(stage.ask("t").await.is_ok());
    let other = ForeignIssuer {
        audience: vec!["https://other.example".into()],
        ..(*stage.issuers[0]).clone()
    };
    stage.issuers = vec![Arc::new(other)];
    let outcome = stage.ask("t").await.err();
    assert_eq!(outcome, Some(TokenFault::AudienceWrong.into()), "after a reload it is asked anew");
}
