//! Bound tokens at the token endpoint: each way a proof can be wrong, and who must have one.

use portcullis_core::certificate::Chain;
use portcullis_core::client::{Authentication, Binding, CertificateRule, Waivers};
use portcullis_core::jose::claims::Confirmation;
use portcullis_core::oauth::token::{ASSERTION_TYPE, TokenAnswer};
use portcullis_core::time::Clock;
use serde_json::json;

use crate::outcome::{Answered, Presented};
use crate::settings::Settings;
use crate::testing::*;
use crate::token::testing::*;

/// `ledger` without waivers.
fn strict(settings: &mut Settings) {
    plain(settings);
    amend(settings, "ledger", |ledger| {
        ledger.waivers = Waivers::default();
        assert_eq!(ledger.binding, Binding::Required);
    });
}

/// `ledger` asks for a token with an assertion of its own each time.
async fn ledger(world: &World, jti: &str, presented: Presented) -> Answered<TokenAnswer> {
    let assertion = world.assertion("ledger", &[("jti", json!(jti))]);
    let form = parameters(&[
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &assertion),
        ("scope", "payments:read"),
    ]);
    world.identity.token(&[], &form, presented).await
}

#[tokio::test]
async fn a_proof_binds_the_token_and_the_answer_renews_the_nonce() {
    let (world, holder) = (World::with(strict).await, Holder::new());
    let answered = ledger(&world, "a", holder.shows(&world)).await;
    assert_eq!(answered.nonce, Some(world.identity.desk().shared.proofs.nonce(NOW)));
    let answer = ok(answered);
    assert_eq!(answer.token_type, "DPoP");
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!(claims.cnf, Some(Confirmation::Key(holder.thumbprint())));
}

#[tokio::test]
async fn each_part_of_a_proof_is_checked() {
    let (world, holder) = (World::with(strict).await, Holder::new());
    let now = world.clock.now();
    let nonce = world.identity.desk().shared.proofs.nonce(now);
    let url = format!("{ISSUER}/oauth/token");
    let made = |url: &str| holder.made(url, Some(&nonce), now);
    let good = made(&url);
    let (head, _) = good.rsplit_once('.').expect("three parts");
    let (one, two) = (made(&url), made(&url));
    for (jti, presented, expected) in [
        ("a", shows(&[&one, &two]), "DpopTwice"),
        ("b", shows(&["x"]), "DpopMalformed"),
        ("c", shows(&[""]), "DpopMalformed"),
        ("d", shows(&[&format!("{head}.{}", "A".repeat(86))]), "DpopSignatureWrong"),
        ("e", shows(&[&world.assertion("ledger", &[])]), "DpopTypeWrong"),
        ("f", shows(&[&made(&format!("{ISSUER}/oauth/par"))]), "DpopAddressOther"),
        ("g", shows(&[&made(&format!("{MTLS}/oauth/token"))]), "DpopAddressOther"),
        (
            "h",
            shows(&[&holder.made(&url, Some(&nonce), now.before(seconds(86_400)))]),
            "DpopTimeOff",
        ),
    ] {
        let answered = ledger(&world, jti, presented).await;
        assert_eq!(refused(&answered), ("invalid_dpop_proof", expected));
        assert!(answered.nonce.is_some());
    }
}

#[tokio::test]
async fn dpop_replayed_also_across_threads() {
    let (world, holder) = (World::with(strict).await, Holder::new());
    let proof = holder.proof(&world);
    let turn = std::sync::atomic::AtomicU32::new(0);
    let answers = at_once(20, || {
        let jti = format!("j{}", turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let assertion = world.assertion("ledger", &[("jti", json!(jti))]);
        let form = parameters(&[
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &assertion),
            ("scope", "payments:read"),
        ]);
        let (identity, presented) = (world.identity.clone(), shows(&[&proof]));
        async move { identity.token(&[], &form, presented).await }
    });
    let rules: Vec<_> = answers.iter().map(broke).collect();
    assert_eq!(rules.iter().filter(|rule| **rule == "granted").count(), 1, "{rules:?}");
    assert_eq!(rules.iter().filter(|rule| **rule == "DpopReplayed").count(), 19, "{rules:?}");
}

/// RFC 9449 §8: the same request again with the nonce, and with it the same assertion and code.
#[tokio::test]
async fn a_proof_without_the_nonce_is_asked_again_and_costs_nothing() {
    let (world, holder) = (World::with(strict).await, Holder::new());
    let now = world.clock.now();
    let url = format!("{ISSUER}/oauth/token");
    let before = world.store.commits();
    for nonce in [None, Some("AAAA")] {
        let proof = holder.made(&url, nonce, now);
        let answered = ledger(&world, "a", shows(&[&proof])).await;
        assert_eq!(refused(&answered), ("use_dpop_nonce", "DpopNonceWanted"));
        assert_eq!(answered.result.err().map(|error| error.status()), Some(400));
        let nonce = answered.nonce.expect("handed out");
        assert_eq!(nonce, world.identity.desk().shared.proofs.nonce(now));
    }
    assert_eq!(world.store.commits(), before);
    ok(ledger(&world, "a", holder.shows(&world)).await);
    // Any other fault spends the assertion, as everywhere.
    assert_eq!(broke(&ledger(&world, "b", shows(&["x"])).await), "DpopMalformed");
    assert_eq!(broke(&ledger(&world, "b", holder.shows(&world)).await), "AssertionReplayed");
}

#[tokio::test]
async fn binding_missing_and_the_waiver_s_day() {
    let world = World::with(strict).await;
    let answered = ledger(&world, "a", Presented::default()).await;
    assert_eq!(refused(&answered), ("invalid_request", "BindingMissing"));
    assert_eq!(answered.nonce, None);
    let waived = |until| {
        world.reload(|settings| {
            plain(settings);
            let waivers = Waivers { bearer_tokens: Some(until), ..Waivers::default() };
            amend(settings, "ledger", |ledger| ledger.waivers = waivers);
        });
    };
    waived(NOW);
    let answered = ledger(&world, "b", Presented::default()).await;
    assert_eq!(refused(&answered), ("invalid_request", "WaiverBearerTokensExpired"));
    waived(NOW.after(seconds(1)));
    assert_eq!(ok(ledger(&world, "c", Presented::default()).await).token_type, "Bearer");
    // A waiver excuses from a binding; one that is shown counts all the same.
    let holder = Holder::new();
    assert_eq!(ok(ledger(&world, "d", holder.shows(&world)).await).token_type, "DPoP");
    assert_eq!(broke(&ledger(&world, "e", shows(&["x"])).await), "DpopMalformed");
}

#[tokio::test]
async fn a_certificate_binds_at_the_mtls_origin_alone() {
    let world = World::with(strict).await;
    let there = || certified("one", Chain::Unproven, "mtls.example");
    let answer = ok(ledger(&world, "a", there()).await);
    assert_eq!(answer.token_type, "Bearer", "RFC 8705 §3 gives it no type of its own");
    let claims = world.claims(&answer.access_token).expect("lives");
    let thumbprint = certificate("one", Chain::Unproven).thumbprint().to_owned();
    assert_eq!(claims.cnf, Some(Confirmation::Certificate(thumbprint)));
    for authority in [AUTHORITY, "", "mtls.example.evil", "MTLS.example", "mtls.example:443"] {
        let jti = format!("on {authority}");
        let answered = ledger(&world, &jti, certified("one", Chain::Trusted, authority)).await;
        assert_eq!(broke(&answered), "BindingMissing", "{authority}");
    }
    // With both, the proof: it is the one that the resource can be shown anywhere.
    let holder = Holder::new();
    let nonce = world.identity.desk().shared.proofs.nonce(NOW);
    let proof = holder.made(&format!("{MTLS}/oauth/token"), Some(&nonce), NOW);
    let both = Presented { dpop: shows(&[&proof]).dpop, ..there() };
    assert_eq!(ok(ledger(&world, "b", both).await).token_type, "DPoP");
}

#[tokio::test]
async fn a_public_client_s_proof_is_accepted_and_not_asked_for() {
    let world = World::start().await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    let code = browser.log_in(&world, &ada).await;
    let holder = Holder::new();
    let form = parameters(&redemption(&code));
    // Neither a missing nonce nor a wrong proof uses the code up.
    let proof = holder.made(&format!("{ISSUER}/oauth/token"), None, NOW);
    let answered = world.identity.token(&[], &form, shows(&[&proof])).await;
    assert_eq!(broke(&answered), "DpopNonceWanted");
    assert_eq!(broke(&world.identity.token(&[], &form, shows(&["x"])).await), "DpopMalformed");
    let answer = ok(world.identity.token(&[], &form, holder.shows(&world)).await);
    assert_eq!(answer.token_type, "DPoP");
    // And from then on the grant is that key's.
    let token = answer.refresh_token.expect("a refresh token");
    assert_eq!(broke(&refreshed(&world, &token).await), "BindingAbsent");
    let form = parameters(&refreshing(&token));
    ok(world.identity.token(&[], &form, holder.shows(&world)).await);
}

#[tokio::test]
async fn a_client_of_a_certificate_is_bound_to_it() {
    let world = World::with(|settings| {
        strict(settings);
        amend(settings, "ledger", |ledger| {
            let rule = CertificateRule::Dns("one.example".into());
            ledger.authentication = Authentication::Certificate(rule);
        });
    })
    .await;
    let form = parameters(&[
        ("grant_type", "client_credentials"),
        ("client_id", "ledger"),
        ("scope", "payments:read"),
    ]);
    let presented = certified("one", Chain::Trusted, "mtls.example");
    let answer = ok(world.identity.token(&[], &form, presented).await);
    let claims = world.claims(&answer.access_token).expect("lives");
    assert!(matches!(claims.cnf, Some(Confirmation::Certificate(_))));
}
