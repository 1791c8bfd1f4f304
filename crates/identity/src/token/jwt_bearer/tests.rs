//! Assertions of another issuer by calling the token endpoint.

use std::sync::Arc;

use portcullis_core::client::{Authentication, ClientType, Federated};
use portcullis_core::foreign::{KeySource, SecondFactor, Subjects};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::CallerKind;
use portcullis_core::oauth::token::{ASSERTION_TYPE, TokenAnswer};
use portcullis_core::time::Clock;
use serde_json::{Value, json};

use super::*;
use crate::account::{AddedUser, SecondFactorWish};
use crate::outcome::Answered;
use crate::testing::*;
use crate::token::testing::{Cluster, Holder, amend, ok, refused, seconds};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

fn clients(settings: &mut Settings) {
    register(settings, "bridge", ClientType::Service, |client| {
        client.grants.push(GrantType::JwtBearer);
    });
    register(settings, "pod", ClientType::Service, |client| {
        client.grants.push(GrantType::JwtBearer);
        client.authentication = Authentication::Federated(Federated {
            issuer: "cluster".into(),
            subject: "system:serviceaccount:pay:pod".into(),
        });
    });
}

/// A world that knows the issuer `cluster`, with the user `ada@cluster`.
async fn with_ada(change: impl FnOnce(&mut Settings)) -> (World, Arc<Cluster>, AddedUser) {
    let cluster = Cluster::new();
    let ground = Ground { foreign: cluster.clone(), ..Ground::new() };
    let world = World::over(ground, |settings| {
        clients(settings);
        settings.issuers = vec![Arc::new(Cluster::issuer())];
        change(settings);
    })
    .await;
    let ada = world.add("ada@cluster", SecondFactorWish::HandedOut).await;
    (world, cluster, ada)
}

/// Its subjects are software.
fn services(settings: &mut Settings) {
    let mut issuer = Cluster::issuer();
    issuer.map.subjects = Subjects::Services;
    settings.issuers = vec![Arc::new(issuer)];
}

/// An assertion about ada that passes every check; `changes` replaces claims, a null leaves out.
fn about_ada(world: &World, cluster: &Cluster, changes: &[(&str, Value)]) -> String {
    let desk = world.identity.desk();
    let now = world.clock.now().unix();
    let jti = Id::<id::Token>::mint(&*desk.shared.entropy).to_string();
    let mut claims = json!({
        "iss": Cluster::ISSUER, "sub": "ada", "aud": ISSUER,
        "exp": now + 60, "iat": now, "jti": jti,
    });
    for (name, value) in changes {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("claims").remove(*name)),
            value => claims[*name] = value.clone(),
        }
    }
    cluster.key.sign("JWT", &claims)
}

async fn shown(world: &World, assertion: &str, pairs: &[(&str, &str)]) -> Answered<TokenAnswer> {
    let desk = world.identity.desk();
    let jti = Id::<id::Token>::mint(&*desk.shared.entropy).to_string();
    let own = world.assertion("bridge", &[("jti", json!(jti))]);
    let mut form = vec![
        ("grant_type", GRANT),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", own.as_str()),
        ("assertion", assertion),
        ("scope", "payments:read"),
    ];
    form.retain(|(name, _)| !pairs.iter().any(|(other, _)| other == name));
    form.extend_from_slice(pairs);
    world.token(&form).await
}

#[tokio::test]
async fn an_assertion_becomes_a_token_of_its_user() {
    let (world, cluster, ada) = with_ada(|_| {}).await;
    let answered = shown(&world, &about_ada(&world, &cluster, &[]), &[]).await;
    assert_eq!(answered.caller.as_deref(), Some(format!("user:{}", ada.user.id).as_str()));
    let answer = ok(answered);
    assert_eq!((answer.scope.as_str(), answer.refresh_token), ("payments:read", None));
    assert!(answer.id_token.is_none());
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!((claims.sub.as_str(), claims.kind), (ada.user.id.as_str(), CallerKind::User));
    assert_eq!((claims.client_id.as_str(), claims.aud.as_str()), ("bridge", PAYMENTS));
    // Nobody showed a factor of ours.
    assert_eq!((claims.acr.as_deref(), claims.fat), (Some("aal0"), FactorTimes::default()));
    assert_eq!((claims.auth_time, claims.amr.len()), (None, 0));
    assert!(claims.sid.is_some() && claims.gid.is_some(), "what ends sessions ends it");
}

#[tokio::test]
async fn factor_owed() {
    // Ada owes a one-time password here: unless the operator trusts the issuer's own, none is shown.
    let strict = |settings: &mut Settings| {
        let mut issuer = Cluster::issuer();
        issuer.map.second_factor = SecondFactor::Ours;
        settings.issuers = vec![std::sync::Arc::new(issuer)];
    };
    let (world, cluster, _) = with_ada(strict).await;
    let assertion = about_ada(&world, &cluster, &[]);
    let answered = shown(&world, &assertion, &[]).await;
    assert_eq!(refused(&answered), ("invalid_grant", "FactorOwed"));
    // RFC 7523 §3 point 7: spent all the same.
    let answered = shown(&world, &assertion, &[]).await;
    assert_eq!(refused(&answered), ("invalid_grant", "AssertionReplayed"));
}

#[tokio::test]
async fn what_ends_the_users_sessions_ends_its_tokens() {
    let (world, cluster, ada) = with_ada(|_| {}).await;
    let token = ok(shown(&world, &about_ada(&world, &cluster, &[]), &[]).await).access_token;
    let (id, now) = (ada.user.id.clone(), world.clock.now());
    world.change(async move |tx: &Tx| tx.end_sessions_of(&id, now).await).await;
    assert_eq!(world.claims(&token).err(), Some("token_revoked"));
    // An assertion proves anew.
    let token = ok(shown(&world, &about_ada(&world, &cluster, &[]), &[]).await).access_token;
    assert!(world.claims(&token).is_ok());
}

#[tokio::test]
async fn a_hundred_assertions_make_one_row() {
    let (world, cluster, ada) = with_ada(|_| {}).await;
    let mut grants = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let answer = ok(shown(&world, &about_ada(&world, &cluster, &[]), &[]).await);
        grants.insert(world.claims(&answer.access_token).expect("lives").gid);
    }
    assert_eq!(grants.len(), 1);
    let other = [("scope", "payments:write")];
    let answer = ok(shown(&world, &about_ada(&world, &cluster, &[]), &other).await);
    assert!(grants.insert(world.claims(&answer.access_token).expect("lives").gid));
    let id = ada.user.id.clone();
    let sessions = world.store.read(async move |tx: &Tx| tx.sessions_of(&id, NOW).await).await;
    assert_eq!(sessions.expect("read").len(), 2);
}

#[tokio::test]
async fn each_claim_is_checked() {
    let (world, cluster, _) = with_ada(|_| {}).await;
    let now = NOW.unix();
    for (changes, rule) in [
        (vec![("iss", json!("https://kubernetes.example/"))], "IssuerUnknown"),
        (vec![("iss", Value::Null)], "AssertionMalformed"),
        (vec![("iss", json!(7))], "AssertionMalformed"),
        (vec![("aud", json!("https://api.example/v1"))], "AssertionAudienceWrong"),
        (vec![("aud", json!([ISSUER, "https://x.example"]))], "AssertionAudienceWrong"),
        (vec![("aud", json!(format!("{ISSUER}/")))], "AssertionAudienceWrong"),
        (vec![("exp", Value::Null)], "AssertionClaimMalformed"),
        (vec![("exp", json!(now))], "AssertionExpired"),
        (vec![("exp", json!(now + 3_611))], "AssertionTooLong"),
        (vec![("iat", json!(now + 60))], "AssertionNotYetValid"),
        (vec![("nbf", json!(now + 60))], "AssertionNotYetValid"),
        (vec![("jti", Value::Null)], "AssertionWithoutJti"),
        (vec![("jti", json!(""))], "AssertionClaimMalformed"),
        (vec![("jti", json!("x".repeat(129)))], "AssertionWithoutJti"),
        (vec![("sub", json!("bob"))], "SubjectUnknown"),
        (vec![("sub", json!("ADA"))], "SubjectUnknown"),
        (vec![("sub", json!(" ada"))], "SubjectUnknown"),
        (vec![("sub", json!("ada@cluster"))], "SubjectUnknown"),
    ] {
        let answered = shown(&world, &about_ada(&world, &cluster, &changes), &[]).await;
        assert_eq!(refused(&answered), ("invalid_grant", rule), "{changes:?}");
    }
    for changes in [
        vec![("aud", json!(format!("{ISSUER}/oauth/token")))],
        vec![("aud", json!([ISSUER]))],
        vec![("exp", json!(now + 3_600))],
    ] {
        ok(shown(&world, &about_ada(&world, &cluster, &changes), &[]).await);
    }
}

/// `4-identity`: linked by (iss, sub) alone. Nobody else's name for the account opens it.
#[tokio::test]
async fn an_issuer_names_only_those_who_were_entered_for_it() {
    let (world, cluster, _) = with_ada(|_| {}).await;
    world.add("bob", SecondFactorWish::HandedOut).await;
    world.add("eve@elsewhere", SecondFactorWish::HandedOut).await;
    for (sub, mail) in [("bob", "bob"), ("eve@elsewhere", "eve"), ("carl", "ada@cluster")] {
        let changes =
            [("sub", json!(sub)), ("email", json!(mail)), ("email_verified", json!(true))];
        let answered = shown(&world, &about_ada(&world, &cluster, &changes), &[]).await;
        assert_eq!(refused(&answered), ("invalid_grant", "SubjectUnknown"), "{sub}");
    }
}

#[tokio::test]
async fn assertion_replayed() {
    let (world, cluster, _) = with_ada(|_| {}).await;
    let assertion = about_ada(&world, &cluster, &[]);
    // What is refused for another reason uses nothing up.
    let answered = shown(&world, &assertion, &[("scope", "payments:settle")]).await;
    assert_eq!(refused(&answered), ("invalid_scope", "ScopeUnregistered"));
    ok(shown(&world, &assertion, &[]).await);
    let expected = ("invalid_grant", "AssertionReplayed");
    assert_eq!(refused(&shown(&world, &assertion, &[]).await), expected);
    // Signed anew, it is the same assertion: ES256 signs it differently each time.
    let jti = ("jti", json!("once"));
    ok(shown(&world, &about_ada(&world, &cluster, std::slice::from_ref(&jti)), &[]).await);
    let again = about_ada(&world, &cluster, &[jti, ("exp", json!(NOW.unix() + 90))]);
    assert_eq!(refused(&shown(&world, &again, &[]).await), expected);
}

#[tokio::test]
async fn of_twenty_showings_at_once_one_wins() {
    let (world, cluster, _) = with_ada(|_| {}).await;
    let assertion = about_ada(&world, &cluster, &[]);
    let numbers = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let answers = at_once(20, || {
        let n = numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let own = world.assertion("bridge", &[("jti", json!(format!("own{n}")))]);
        let form = parameters(&[
            ("grant_type", GRANT),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &own),
            ("assertion", &assertion),
            ("scope", "payments:read"),
        ]);
        let identity = world.identity.clone();
        async move { identity.token(&[], &form, Presented::default()).await }
    });
    let rules: Vec<_> = answers.iter().map(|answered| refused(answered).1).collect();
    assert_eq!(rules.iter().filter(|rule| **rule == "granted").count(), 1);
    assert_eq!(rules.iter().filter(|rule| **rule == "AssertionReplayed").count(), 19);
}

/// `6-attacks`: own access token as assertion.
#[tokio::test]
async fn assertion_of_ours() {
    let (world, cluster, _) = with_ada(|_| {}).await;
    let token = ok(shown(&world, &about_ada(&world, &cluster, &[]), &[]).await).access_token;
    let own = world.assertion("bridge", &[("jti", json!("another"))]);
    let ours = about_ada(&world, &cluster, &[("iss", json!(ISSUER))]);
    for (text, rule) in [
        (token, "AssertionOfOurs"),
        (ours, "AssertionOfOurs"),
        (own, "IssuerUnknown"),
        ("at_AAAA".to_owned(), "AssertionMalformed"),
        ("a.b.c".to_owned(), "AssertionMalformed"),
    ] {
        let answered = shown(&world, &text, &[]).await;
        assert_eq!(refused(&answered), ("invalid_grant", rule));
    }
}

#[tokio::test]
async fn assertion_signed_by_another_or_typed_as_another() {
    let (world, cluster, _) = with_ada(|_| {}).await;
    let claims = json!({
        "iss": Cluster::ISSUER, "sub": "ada", "aud": ISSUER, "exp": NOW.unix() + 60, "jti": "x",
    });
    let stranger = Cluster::new();
    for (text, rule) in [
        (stranger.key.sign("JWT", &claims), "AssertionKeyUnknown"),
        (world.key.sign("JWT", &claims), "AssertionKeyUnknown"),
        (cluster.key.sign("at+jwt", &claims), "AssertionTypeWrong"),
        (cluster.key.sign("logout+jwt", &claims), "AssertionTypeWrong"),
    ] {
        assert_eq!(refused(&shown(&world, &text, &[]).await), ("invalid_grant", rule));
    }
}

#[tokio::test]
async fn client_without_assertions() {
    let (world, cluster, _) = with_ada(|_| {}).await;
    let own = world.assertion("ledger", &[]);
    let assertion = about_ada(&world, &cluster, &[]);
    let form = [
        ("grant_type", GRANT),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", own.as_str()),
        ("assertion", assertion.as_str()),
    ];
    let expected = ("unauthorized_client", "ClientWithoutAssertions");
    assert_eq!(refused(&world.token(&form).await), expected);
}

#[tokio::test]
async fn what_is_asked_for_is_what_the_client_may_have() {
    let (world, cluster, _) = with_ada(|_| {}).await;
    for (name, value, expected) in [
        ("scope", "openid payments:read", ("invalid_scope", "ScopeUnregistered")),
        ("scope", "payments:settle", ("invalid_scope", "ScopeUnregistered")),
        ("scope", "a\u{7}", ("invalid_scope", "ScopeMalformed")),
        ("scope", "payments:read other:read", ("invalid_target", "TargetUnclear")),
        ("resource", "https://nobody.example", ("invalid_target", "TargetUnknown")),
        ("resource", "https://other.example", ("invalid_scope", "ScopeOfAnotherTarget")),
    ] {
        let assertion = about_ada(&world, &cluster, &[]);
        let answered = shown(&world, &assertion, &[(name, value)]).await;
        assert_eq!(refused(&answered), expected, "{name}={value}");
    }
}

#[tokio::test]
async fn user_disabled() {
    let (world, cluster, ada) = with_ada(|_| {}).await;
    let token = ok(shown(&world, &about_ada(&world, &cluster, &[]), &[]).await).access_token;
    let (id, now) = (ada.user.id.clone(), world.clock.now());
    world.change(async move |tx: &Tx| tx.disable_user(&id, now).await).await;
    assert_eq!(world.claims(&token).err(), Some("token_revoked"));
    let answered = shown(&world, &about_ada(&world, &cluster, &[]), &[]).await;
    assert_eq!(refused(&answered), ("invalid_grant", "SubjectUnknown"));
}

#[tokio::test]
async fn issuer_ended() {
    let until = NOW.after(seconds(30));
    let (world, cluster, _) = with_ada(|settings| {
        let mut issuer = Cluster::issuer();
        issuer.until = Some(until);
        settings.issuers = vec![Arc::new(issuer)];
    })
    .await;
    ok(shown(&world, &about_ada(&world, &cluster, &[]), &[]).await);
    world.clock.advance(seconds(30));
    let answered = shown(&world, &about_ada(&world, &cluster, &[]), &[]).await;
    assert_eq!(refused(&answered), ("invalid_grant", "IssuerEnded"));
}

#[tokio::test]
async fn an_issuer_that_signs_nothing_asserts_nothing() {
    let (world, cluster, _) = with_ada(|settings| {
        let mut issuer = Cluster::issuer();
        issuer.source = KeySource::Introspection {
            endpoint: format!("{}/introspect", Cluster::ISSUER),
            client_id: "us".into(),
            secret: Arc::new(Secret::new("secret".into())),
        };
        settings.issuers = vec![Arc::new(issuer)];
    })
    .await;
    let answered = shown(&world, &about_ada(&world, &cluster, &[]), &[]).await;
    assert_eq!(refused(&answered), ("invalid_grant", "IssuerUnknown"));
}

#[tokio::test]
async fn issuer_unreachable() {
    let world = World::with(|settings| {
        clients(settings);
        settings.issuers = vec![Arc::new(Cluster::issuer())];
    })
    .await;
    let answered = shown(&world, &about_ada(&world, &Cluster::new(), &[]), &[]).await;
    assert_eq!(refused(&answered), ("temporarily_unavailable", "IssuerUnreachable"));
}

/// The workload's own word, as client assertion and as grant: each a different one.
async fn shown_by_the_pod(world: &World, (own, assertion): (&str, &str)) -> Answered<TokenAnswer> {
    let form = [
        ("grant_type", GRANT),
        ("client_id", "pod"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", own),
        ("assertion", assertion),
        ("scope", "payments:read"),
    ];
    world.token(&form).await
}

#[tokio::test]
async fn assertion_subject_other() {
    let (world, cluster, _) = with_ada(services).await;
    let pod = json!("system:serviceaccount:pay:pod");
    let of = |sub: &Value| about_ada(&world, &cluster, &[("sub", sub.clone())]);
    let answer = ok(shown_by_the_pod(&world, (&of(&pod), &of(&pod))).await);
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!((claims.sub.as_str(), claims.kind), ("pod", CallerKind::Service));
    let expected = ("invalid_grant", "AssertionSubjectOther");
    let other = json!("system:serviceaccount:pay:other");
    assert_eq!(refused(&shown_by_the_pod(&world, (&of(&pod), &of(&other))).await), expected);
    // A client that proves itself otherwise speaks for no workload, and a user's name is none.
    assert_eq!(refused(&shown(&world, &of(&pod), &[]).await), expected);
    assert_eq!(refused(&shown(&world, &of(&json!("ada")), &[]).await), expected);
}

#[tokio::test]
async fn as_a_grant_a_workloads_word_is_good_once() {
    let (world, cluster, _) = with_ada(services).await;
    let pod = json!("system:serviceaccount:pay:pod");
    let assertion = about_ada(&world, &cluster, &[("sub", pod)]);
    // It may stand for its client again and again (see `client_auth::federated`), for a grant not.
    ok(shown_by_the_pod(&world, (&assertion, &assertion)).await);
    let answered = shown_by_the_pod(&world, (&assertion, &assertion)).await;
    assert_eq!(refused(&answered), ("invalid_grant", "AssertionReplayed"));
}

#[tokio::test]
async fn bound_to_the_key_of_whoever_asks() {
    let (world, cluster, _) = with_ada(|_| {}).await;
    let holder = Holder::new();
    let (own, assertion) = (world.assertion("bridge", &[]), about_ada(&world, &cluster, &[]));
    let form = [
        ("grant_type", GRANT),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", own.as_str()),
        ("assertion", assertion.as_str()),
        ("scope", "payments:read"),
    ];
    let answer = ok(world.identity.token(&[], &parameters(&form), holder.shows(&world)).await);
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!(claims.cnf, Some(Confirmation::Key(holder.thumbprint())));
}

#[tokio::test]
async fn a_grant_taken_away_meanwhile_is_not_given() {
    let (world, cluster, _) = with_ada(|_| {}).await;
    let began = world.identity.desk();
    world.reload(|settings| {
        clients(settings);
        amend(settings, "bridge", |bridge| bridge.grants.clear());
    });
    let (own, assertion) = (world.assertion("bridge", &[]), about_ada(&world, &cluster, &[]));
    let form = parameters(&[
        ("grant_type", GRANT),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &own),
        ("assertion", &assertion),
        ("scope", "payments:read"),
    ]);
    let answered = crate::token::answer(&began, &[], &form, &Presented::default()).await;
    assert_eq!(refused(&answered), ("unauthorized_client", "ClientWithoutAssertions"));
}
