//! Certificates and other issuers' assertions as a client's proof; each refusal by its rule.

use std::sync::Arc;

use portcullis_core::certificate::Chain;
use portcullis_core::client::{Authentication, CertificateRule, Federated};
use portcullis_core::foreign::ForeignIssuer;
use portcullis_core::oauth::token::{ASSERTION_TYPE, TokenAnswer};
use portcullis_core::time::Clock;
use serde_json::{Value, json};

use crate::outcome::{Answered, Presented};
use crate::settings::Settings;
use crate::testing::*;
use crate::token::testing::*;

fn by_certificate(settings: &mut Settings, rule: CertificateRule) {
    plain(settings);
    amend(settings, "ledger", |ledger| {
        ledger.authentication = Authentication::Certificate(rule);
    });
}

async fn named(world: &World, presented: Presented) -> Answered<TokenAnswer> {
    let form = parameters(&[
        ("grant_type", "client_credentials"),
        ("client_id", "ledger"),
        ("scope", "payments:read"),
    ]);
    world.identity.token(&[], &form, presented).await
}

#[tokio::test]
async fn a_certificate_proves_its_client() {
    let pinned = certificate("one", Chain::Unproven).thumbprint().to_owned();
    for (rule, chain) in [
        (CertificateRule::Dns("one.example".into()), Chain::Trusted),
        (CertificateRule::Uri("spiffe://pay.example/one".into()), Chain::Trusted),
        (CertificateRule::Subject("CN=one".into()), Chain::Trusted),
        (CertificateRule::Pinned(vec![pinned.clone()]), Chain::Unproven),
    ] {
        let world = World::with(|settings| by_certificate(settings, rule.clone())).await;
        let answered = named(&world, certified("one", chain, "mtls.example")).await;
        assert_eq!(broke(&answered), "granted", "{rule:?}");
        let answered = named(&world, certified("two", chain, "mtls.example")).await;
        assert_eq!(refused(&answered), ("invalid_client", "CertificateOther"), "{rule:?}");
    }
}

#[tokio::test]
async fn certificate_missing_elsewhere_or_without_a_chain() {
    let rule = CertificateRule::Dns("one.example".into());
    let world = World::with(|settings| by_certificate(settings, rule)).await;
    for (presented, expected) in [
        (
            Presented { authority: "mtls.example".into(), ..Presented::default() },
            "CertificateMissing",
        ),
        (certified("one", Chain::Trusted, AUTHORITY), "CertificateElsewhere"),
        (certified("one", Chain::Trusted, ""), "CertificateElsewhere"),
        (certified("one", Chain::Unproven, "mtls.example"), "CertificateOther"),
    ] {
        assert_eq!(refused(&named(&world, presented).await), ("invalid_client", expected));
    }
    // Where no certificate is ever asked for, none counts.
    world.reload(|settings| {
        by_certificate(settings, CertificateRule::Dns("one.example".into()));
        settings.mtls = None;
    });
    let answered = named(&world, certified("one", Chain::Trusted, "mtls.example")).await;
    assert_eq!(broke(&answered), "CertificateElsewhere");
}

#[tokio::test]
async fn a_certificate_does_not_stand_for_another_method() {
    let world = World::with(plain).await;
    let answered = named(&world, certified("one", Chain::Trusted, "mtls.example")).await;
    assert_eq!(refused(&answered), ("invalid_client", "ClientMustAuthenticate"));
    // Nor another method for a certificate.
    let rule = CertificateRule::Dns("one.example".into());
    world.reload(|settings| by_certificate(settings, rule));
    let assertion = world.assertion("ledger", &[]);
    let form = parameters(&[
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &assertion),
    ]);
    let presented = certified("one", Chain::Trusted, "mtls.example");
    let answered = world.identity.token(&[], &form, presented).await;
    assert_eq!(refused(&answered), ("invalid_client", "MethodUnregistered"));
}

/// `5-limits` point 6: whoever shows a wrong certificate charges its address.
#[tokio::test]
async fn a_wrong_certificate_charges_and_a_missing_one_does_not() {
    let world = World::with(|settings| {
        by_certificate(settings, CertificateRule::Dns("one.example".into()));
        settings.throttles.address.rates[0].burst = 3;
    })
    .await;
    let from = Browser::new().ip;
    let there = |presented: Presented| Presented { ip: Some(from), ..presented };
    let charged = async || {
        let mut browser = Browser::new();
        browser.authorize(&world, &request_with(&[])).await;
        crate::testing::rule(&browser.password(&world, "ada", "wrong").await) != "LoginUnknown"
    };
    for _ in 0..5 {
        let bare = Presented { authority: "mtls.example".into(), ..Presented::default() };
        named(&world, there(bare)).await;
        named(&world, there(certified("one", Chain::Trusted, AUTHORITY))).await;
    }
    assert!(!charged().await);
    for _ in 0..5 {
        named(&world, there(certified("two", Chain::Trusted, "mtls.example"))).await;
    }
    assert!(charged().await);
}

const SUBJECT: &str = "system:serviceaccount:pay:ledger";

fn federated(settings: &mut Settings) {
    plain(settings);
    settings.issuers = vec![Arc::new(Cluster::issuer())];
    amend(settings, "ledger", |ledger| {
        ledger.authentication = Authentication::Federated(Federated {
            issuer: "cluster".into(),
            subject: SUBJECT.into(),
        });
    });
}

async fn among(cluster: &Arc<Cluster>) -> World {
    World::over(Ground { foreign: cluster.clone(), ..Ground::new() }, federated).await
}

/// What the cluster says of the workload; `changes` replaces claims, `null` removes.
fn word(cluster: &Cluster, changes: &[(&str, Value)]) -> String {
    let now = NOW.unix();
    let mut claims = json!({
        "iss": Cluster::ISSUER, "sub": SUBJECT, "aud": [ISSUER], "iat": now, "exp": now + 600,
        "jti": "k1",
    });
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    if let Some(members) = claims.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    cluster.key.sign("JWT", &claims)
}

async fn asserted(world: &World, client: &str, assertion: &str) -> Answered<TokenAnswer> {
    let form = parameters(&[
        ("grant_type", "client_credentials"),
        ("client_id", client),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
        ("scope", "payments:read"),
    ]);
    world.identity.token(&[], &form, Presented::default()).await
}

#[tokio::test]
async fn another_issuer_s_word_stands_for_its_client_while_it_lives() {
    let cluster = Cluster::new();
    let world = among(&cluster).await;
    let assertion = word(&cluster, &[]);
    let answered = asserted(&world, "ledger", &assertion).await;
    assert_eq!(answered.caller.as_deref(), Some("service:ledger"));
    ok(answered);
    // The platform projects one into a file, and every replica reads it from there.
    ok(asserted(&world, "ledger", &assertion).await);
    world.clock.advance(std::time::Duration::from_secs(600));
    assert_eq!(broke(&asserted(&world, "ledger", &assertion).await), "AssertionExpired");
}

#[tokio::test]
async fn each_part_of_another_issuer_s_word_is_checked() {
    let cluster = Cluster::new();
    let world = among(&cluster).await;
    let now = world.clock.now().unix();
    for (claim, value, expected) in [
        ("iss", json!("https://kubernetes.example/"), "AssertionIssuerWrong"),
        ("iss", Value::Null, "AssertionIssuerWrong"),
        ("sub", json!("system:serviceaccount:pay:other"), "AssertionSubjectOther"),
        ("sub", json!("ledger"), "AssertionSubjectOther"),
        ("aud", json!("https://login.example/"), "AssertionAudienceWrong"),
        ("aud", json!([ISSUER, "https://other.example"]), "AssertionAudienceWrong"),
        ("exp", json!(now), "AssertionExpired"),
        ("exp", Value::Null, "AssertionClaimMalformed"),
        ("nbf", json!(now + 60), "AssertionNotYetValid"),
        ("exp", json!(now + 2 * 86_400), "AssertionTooLong"),
        ("cnf", json!({"jkt": "x"}), "AssertionBound"),
    ] {
        let answered = asserted(&world, "ledger", &word(&cluster, &[(claim, value.clone())])).await;
        assert_eq!(refused(&answered), ("invalid_client", expected), "{claim}={value}");
    }
    // One of another key, one of the client's own making, one for another client.
    let forged = word(&Cluster::new(), &[]);
    assert_eq!(broke(&asserted(&world, "ledger", &forged).await), "AssertionKeyUnknown");
    let own = world.assertion("ledger", &[]);
    assert_eq!(broke(&asserted(&world, "ledger", &own).await), "AssertionIssuerWrong");
    let answered = asserted(&world, "console", &word(&cluster, &[])).await;
    assert_eq!(refused(&answered), ("invalid_client", "AssertionOfAnotherClient"));
}

#[tokio::test]
async fn issuer_ended_unknown_or_unreachable() {
    let cluster = Cluster::new();
    let world = among(&cluster).await;
    let with = |change: &dyn Fn(&mut ForeignIssuer)| {
        let mut issuer = Cluster::issuer();
        change(&mut issuer);
        world.reload(|settings| {
            federated(settings);
            settings.issuers = vec![Arc::new(issuer)];
        });
    };
    with(&|issuer| issuer.until = Some(NOW));
    let answered = asserted(&world, "ledger", &word(&cluster, &[])).await;
    assert_eq!(refused(&answered), ("invalid_client", "IssuerEnded"));
    with(&|issuer| issuer.name = "other".into());
    let answered = asserted(&world, "ledger", &word(&cluster, &[])).await;
    assert_eq!(refused(&answered), ("invalid_client", "IssuerUnknown"));
    // Nobody answers: neither the client's fault nor the address's.
    let world = World::with(federated).await;
    let answered = asserted(&world, "ledger", &word(&cluster, &[])).await;
    assert_eq!(refused(&answered), ("temporarily_unavailable", "IssuerUnreachable"));
    assert_eq!(answered.result.err().map(|error| error.status()), Some(503));
}
