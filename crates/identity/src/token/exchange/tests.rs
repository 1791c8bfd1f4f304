//! Exchanges by calling the token endpoint: what comes out is never more than what went in.

use portcullis_core::client::ClientType;
use portcullis_core::id;
use portcullis_core::oauth::token::ASSERTION_TYPE;
use portcullis_core::revocation::RevocationKind;
use portcullis_core::scope::Scopes;
use portcullis_store::database::StoreFault;
use serde_json::{Value, json};

use super::*;
use crate::account::AddedUser;
use crate::outcome::Answered;
use crate::settings::{Settings, TokenFormat};
use crate::testing::*;
use crate::token::testing::{Holder, amend, ok, refused, seconds};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const OTHER: &str = "https://other.example";
const FAR: &str = "https://far.example";

/// `middle` is the API of payments, `back` that of the other one; both use `payments:read`.
fn services(settings: &mut Settings) {
    for (id, at) in [("middle", PAYMENTS), ("back", OTHER), ("end", FAR)] {
        register(settings, id, ClientType::Service, |client| {
            client.introspects = vec![at.to_owned()];
            client.grants.push(GrantType::TokenExchange);
            client.details = vec!["payment".into()];
        });
    }
    let scopes = |text| Scopes::parse(text).expect("scopes");
    settings.apis[1].scopes = scopes("payments:read other:read");
    let far = crate::settings::ApiTarget {
        audience: FAR.into(),
        scopes: scopes("payments:read far:read"),
        ..settings.apis[1].clone()
    };
    settings.apis.push(far);
}

/// A world with ada's token of `app` for the payments, with `openid payments:read payments:write`.
async fn with_token(change: impl FnOnce(&mut Settings)) -> (World, AddedUser, String) {
    let world = World::with(|settings| {
        services(settings);
        change(settings);
    })
    .await;
    let ada = world.ada().await;
    let mut browser = Browser::new();
    let scope = "openid payments:read payments:write";
    browser.authorize(&world, &request_with(&[("scope", scope), ("resource", PAYMENTS)])).await;
    browser.prove(&world, &ada).await;
    let code = code_of(&browser.consent(&world, "allow").await);
    let answer = ok(world.redeem(&code).await);
    (world, ada, answer.access_token)
}

/// An assertion of a client that was never shown.
fn fresh(world: &World, client: &str) -> String {
    let desk = world.identity.desk();
    let jti = Id::<id::Token>::mint(&*desk.shared.entropy).to_string();
    world.assertion(client, &[("jti", json!(jti))])
}

/// An exchange as a client; `pairs` replace, and an empty value leaves out.
async fn tried(
    world: &World,
    client: &str,
    token: &str,
    pairs: &[(&str, &str)],
) -> Answered<TokenAnswer> {
    let assertion = fresh(world, client);
    let mut form = vec![
        ("grant_type", GRANT),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion.as_str()),
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN),
        ("resource", OTHER),
    ];
    form.retain(|(name, _)| !pairs.iter().any(|(other, _)| other == name));
    form.extend(pairs.iter().filter(|(_, value)| !value.is_empty()));
    world.token(&form).await
}

/// The client's own token.
async fn token_of(world: &World, client: &str) -> String {
    let assertion = fresh(world, client);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion.as_str()),
        ("scope", "payments:read"),
        ("resource", PAYMENTS),
    ];
    ok(world.token(&form).await).access_token
}

#[tokio::test]
async fn a_service_goes_on_in_the_name_of_its_caller() {
    let (world, ada, token) = with_token(|_| {}).await;
    let subject = world.claims(&token).expect("lives");
    world.clock.advance(seconds(60));
    let answered = tried(&world, "middle", &token, &[]).await;
    assert_eq!(answered.caller.as_deref(), Some(format!("user:{}", ada.user.id).as_str()));
    let answer = ok(answered);
    assert_eq!(answer.issued_token_type, Some(ACCESS_TOKEN));
    assert_eq!((answer.scope.as_str(), answer.expires_in), ("payments:read", 240));
    assert!(answer.refresh_token.is_none() && answer.id_token.is_none());
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!((claims.sub, claims.aud.as_str()), (subject.sub, OTHER));
    assert_eq!((claims.sid, claims.gid, claims.fat), (subject.sid, subject.gid, subject.fat));
    assert_eq!((claims.client_id.as_str(), claims.kind), ("middle", CallerKind::User));
    assert_eq!(claims.exp, subject.exp);
    assert_eq!(claims.act.expect("an actor").chain(), ["middle"]);
}

#[tokio::test]
async fn subject_of_another_audience() {
    let (world, _, token) = with_token(|_| {}).await;
    let expected = ("invalid_request", "SubjectOfAnotherAudience");
    assert_eq!(refused(&tried(&world, "back", &token, &[]).await), expected);
    // Also where it would stay at the API that it is for.
    let same = [("resource", PAYMENTS)];
    assert_eq!(refused(&tried(&world, "back", &token, &same).await), expected);
    // What came out is for its own audience's API, and no longer for the one before.
    let next = ok(tried(&world, "middle", &token, &[]).await).access_token;
    assert_eq!(refused(&tried(&world, "middle", &next, &[]).await), expected);
}

#[tokio::test]
async fn client_without_exchange() {
    let (world, _, token) = with_token(|settings| {
        amend(settings, "ledger", |ledger| ledger.introspects = vec![PAYMENTS.to_owned()]);
    })
    .await;
    let expected = ("unauthorized_client", "ClientWithoutExchange");
    assert_eq!(refused(&tried(&world, "ledger", &token, &[]).await), expected);
}

#[tokio::test]
async fn exchange_unauthenticated() {
    let (world, _, token) = with_token(|settings| {
        amend(settings, "own", |own| {
            own.introspects = vec![PAYMENTS.to_owned()];
            own.grants.push(GrantType::TokenExchange);
        });
    })
    .await;
    let form = [
        ("grant_type", GRANT),
        ("client_id", "own"),
        ("subject_token", token.as_str()),
        ("subject_token_type", ACCESS_TOKEN),
        ("resource", OTHER),
    ];
    let expected = ("unauthorized_client", "ExchangeUnauthenticated");
    assert_eq!(refused(&world.token(&form).await), expected);
}

/// `6-attacks`: exchange never widens.
#[tokio::test]
async fn exchange_never_widens() {
    let (world, _, token) = with_token(|_| {}).await;
    for (pairs, expected) in [
        (vec![("scope", "other:read")], ("invalid_scope", "ScopeWidened")),
        (vec![("scope", "payments:read payments:settle")], ("invalid_scope", "ScopeWidened")),
        (vec![("scope", "openid")], ("invalid_scope", "ScopeUnregistered")),
        (vec![("scope", "payments:write")], ("invalid_scope", "ScopeOfAnotherTarget")),
        (vec![("scope", "a\u{7}")], ("invalid_scope", "ScopeMalformed")),
        (vec![("resource", "https://nobody.example")], ("invalid_target", "TargetUnknown")),
        (vec![("resource", "")], ("invalid_target", "TargetUnclear")),
        (vec![("audience", PAYMENTS)], ("invalid_target", "TargetTwice")),
        (vec![("resource", ISSUER)], ("invalid_target", "TargetUnknown")),
    ] {
        let answered = tried(&world, "middle", &token, &pairs).await;
        assert_eq!(refused(&answered), expected, "{pairs:?}");
    }
    for pairs in [vec![("scope", "payments:read")], vec![("audience", OTHER)]] {
        let answer = ok(tried(&world, "middle", &token, &pairs).await);
        assert_eq!(answer.scope, "payments:read");
    }
    let named = [("resource", ""), ("audience", PAYMENTS)];
    assert_eq!(
        ok(tried(&world, "middle", &token, &named).await).scope,
        "payments:read payments:write"
    );
}

#[tokio::test]
async fn nothing_left() {
    let (world, _, token) = with_token(|settings| {
        amend(settings, "middle", |middle| {
            middle.scopes = Scopes::parse("payments:write").expect("scopes");
        });
    })
    .await;
    let expected = ("invalid_scope", "NothingLeft");
    assert_eq!(refused(&tried(&world, "middle", &token, &[]).await), expected);
}

/// A second exchange starts from what the first one left, not from the grant.
#[tokio::test]
async fn what_was_narrowed_stays_narrow() {
    let (world, _, token) = with_token(|settings| {
        settings.apis[1].scopes = Scopes::parse("payments:read payments:write").expect("scopes");
        settings.apis[2].scopes = Scopes::parse("payments:read payments:write").expect("scopes");
    })
    .await;
    let less = [("scope", "payments:read")];
    let next = ok(tried(&world, "middle", &token, &less).await).access_token;
    let far = [("resource", FAR)];
    let last = ok(tried(&world, "back", &next, &far).await);
    assert_eq!(last.scope, "payments:read");
    let wider = [("resource", FAR), ("scope", "payments:write")];
    assert_eq!(refused(&tried(&world, "back", &next, &wider).await).1, "ScopeWidened");
    let claims = world.claims(&last.access_token).expect("lives");
    assert_eq!(claims.act.expect("actors").chain(), ["back", "middle"]);
}

/// Claims of ours, signed by our own key: what no honest way through the endpoint makes.
fn minted(world: &World, token: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = serde_json::to_value(world.claims(token).expect("lives")).expect("json");
    change(&mut claims);
    world.identity.keyring().access().sign("at+jwt", &claims)
}

#[tokio::test]
async fn actors_too_many() {
    let (world, _, token) = with_token(|_| {}).await;
    let chain = |count| {
        (0..count).fold(Value::Null, |act, _| match act {
            Value::Null => json!({ "sub": "back" }),
            act => json!({ "sub": "back", "act": act }),
        })
    };
    let three = minted(&world, &token, |claims| claims["act"] = chain(3));
    let answer = ok(tried(&world, "middle", &three, &[]).await);
    let actors = world.claims(&answer.access_token).expect("lives").act.expect("actors");
    assert_eq!(actors.chain(), ["middle", "back", "back", "back"]);
    let four = minted(&world, &token, |claims| claims["act"] = chain(4));
    let expected = ("invalid_request", "ActorsTooMany");
    assert_eq!(refused(&tried(&world, "middle", &four, &[]).await), expected);
}

#[tokio::test]
async fn details_go_along_word_for_word_or_not_at_all() {
    let (world, _, token) = with_token(|settings| {
        settings.apis[1].details = vec!["payment".into(), "account".into()];
    })
    .await;
    let details = json!([
        { "type": "payment", "amount": "12.50" },
        { "type": "account" },
        { "type": "admin" },
    ]);
    let token = minted(&world, &token, |claims| claims["authorization_details"] = details.clone());
    let answer = ok(tried(&world, "middle", &token, &[]).await);
    // `account` is not the client's, `admin` not the API's.
    assert_eq!(json!(answer.authorization_details), json!([details[0]]));
    let far = ok(tried(&world, "middle", &token, &[("resource", FAR)]).await);
    assert!(far.authorization_details.is_empty());
}

#[tokio::test]
async fn types_that_are_not_access_tokens() {
    let (world, _, token) = with_token(|_| {}).await;
    for (name, value, rule) in [
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:id_token",
            "SubjectTokenTypeUnsupported",
        ),
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:jwt",
            "SubjectTokenTypeUnsupported",
        ),
        ("subject_token_type", "", "SubjectTokenTypeMissing"),
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:refresh_token",
            "RequestedTypeUnsupported",
        ),
        ("actor_token", "x", "ActorTokenHalf"),
    ] {
        let answered = tried(&world, "middle", &token, &[(name, value)]).await;
        assert_eq!(refused(&answered), ("invalid_request", rule), "{name}={value}");
    }
    let half = [("actor_token", "x"), ("actor_token_type", "urn:ietf:params:oauth:token-type:jwt")];
    let answered = tried(&world, "middle", &token, &half).await;
    assert_eq!(refused(&answered).1, "ActorTokenTypeUnsupported");
    let asked = [("requested_token_type", ACCESS_TOKEN)];
    ok(tried(&world, "middle", &token, &asked).await);
}

#[tokio::test]
async fn subject_token_invalid() {
    let (world, _, token) = with_token(|_| {}).await;
    let claims = world.claims(&token).expect("lives");
    let forged = world.key.sign("at+jwt", &claims);
    let retyped = world.identity.keyring().access().sign("JWT", &claims);
    let elsewhere =
        minted(&world, &token, |claims| claims["iss"] = json!("https://login.example/"));
    for (name, text) in [
        ("garbage", "garbage"),
        ("another's signature", &forged),
        ("not typed as an access token", &retyped),
        ("another issuer", &elsewhere),
        ("an empty seal", "at_"),
        ("a refresh token", "rt_g_1.1.AAAA"),
    ] {
        let answered = tried(&world, "middle", text, &[]).await;
        assert_eq!(refused(&answered), ("invalid_request", "SubjectTokenInvalid"), "{name}");
    }
    world.clock.advance(seconds(300));
    let answered = tried(&world, "middle", &token, &[]).await;
    assert_eq!(refused(&answered), ("invalid_request", "SubjectTokenInvalid"), "expired");
}

#[tokio::test]
async fn subject_token_revoked() {
    type Death = fn(&AddedUser, &AccessClaims) -> Killing;
    struct Killing(Box<dyn FnOnce(portcullis_store::database::Store) -> Dying>);
    type Dying = std::pin::Pin<Box<dyn Future<Output = ()>>>;
    fn by<F>(work: F) -> Killing
    where
        F: AsyncFnOnce(&Tx) -> Result<(), StoreFault> + Send + 'static,
    {
        Killing(Box::new(|store| {
            Box::pin(async move { store.transact(work).await.expect("changed") })
        }))
    }
    let deaths: [(&str, Death); 6] = [
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
            let (id, until) = (claims.jti.clone(), NOW.after(seconds(600)));
            by(async move |tx: &Tx| {
                tx.revoke(RevocationKind::Token, id.as_str(), until).await.map(drop)
            })
        }),
        ("group disabled", |_, _| {
            let until = NOW.after(seconds(600));
            by(async move |tx: &Tx| {
                tx.revoke(RevocationKind::Group, "admin", until).await.map(drop)
            })
        }),
    ];
    for format in [TokenFormat::Jwt, TokenFormat::Opaque] {
        for (name, death) in deaths {
            let (world, ada, token) = with_token(|settings| settings.apis[0].format = format).await;
            let desk = world.identity.desk();
            let claims = Read::of(&desk, &token).expect("ours").claims;
            ok(tried(&world, "middle", &token, &[]).await);
            death(&ada, &claims).0(world.store.clone()).await;
            let answered = tried(&world, "middle", &token, &[]).await;
            let expected = ("invalid_request", "SubjectTokenRevoked");
            assert_eq!(refused(&answered), expected, "{name} {format:?}");
        }
    }
}

#[tokio::test]
async fn what_was_exchanged_dies_with_the_grant_and_with_those_who_act() {
    for kind in ["grant", "actor"] {
        let (world, _, token) = with_token(|_| {}).await;
        let answer = ok(tried(&world, "middle", &token, &[]).await);
        let claims = world.claims(&answer.access_token).expect("lives");
        let grant = claims.gid.clone().expect("of a grant");
        let (gone, middle) = (kind == "grant", Id::parse("middle").expect("id"));
        world
            .change(async move |tx: &Tx| match gone {
                true => tx.end_grant(&grant, NOW).await,
                false => tx.end_grants_of_client(&middle, NOW).await,
            })
            .await;
        assert_eq!(world.claims(&answer.access_token).err(), Some("token_revoked"), "{kind}");
        let back = tried(&world, "back", &answer.access_token, &[("resource", FAR)]).await;
        assert_eq!(refused(&back).1, "SubjectTokenRevoked", "{kind}");
    }
}

#[tokio::test]
async fn a_service_exchanges_its_own_token_and_nobody_elses() {
    let (world, _, _) = with_token(|_| {}).await;
    let own = token_of(&world, "middle").await;
    let answered = tried(&world, "middle", &own, &[]).await;
    assert_eq!(answered.caller.as_deref(), Some("service:middle"));
    let answer = ok(answered);
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!((claims.sub.as_str(), claims.kind), ("middle", CallerKind::Service));
    assert_eq!((claims.aud.as_str(), claims.act), (OTHER, None));
    // `middle` is the audience of this one, and yet goes on as itself.
    let others = token_of(&world, "ledger").await;
    let expected = ("invalid_request", "SubjectOfAnotherService");
    assert_eq!(refused(&tried(&world, "middle", &others, &[]).await), expected);
}

#[tokio::test]
async fn actor_token_of_another() {
    let (world, _, token) = with_token(|_| {}).await;
    let (own, others) = (token_of(&world, "middle").await, token_of(&world, "back").await);
    for (actor, expected) in [
        (others.as_str(), ("invalid_request", "ActorTokenOfAnother")),
        (token.as_str(), ("invalid_request", "ActorTokenOfAnother")),
        ("garbage", ("invalid_request", "ActorTokenInvalid")),
    ] {
        let pairs = [("actor_token", actor), ("actor_token_type", ACCESS_TOKEN)];
        assert_eq!(refused(&tried(&world, "middle", &token, &pairs).await), expected);
    }
    let pairs = [("actor_token", own.as_str()), ("actor_token_type", ACCESS_TOKEN)];
    let answer = ok(tried(&world, "middle", &token, &pairs).await);
    let actors = world.claims(&answer.access_token).expect("lives").act.expect("an actor");
    assert_eq!(actors.chain(), ["middle"]);
    let (jti, until) = (world.claims(&own).expect("lives").jti, NOW.after(seconds(600)));
    world
        .change(async move |tx: &Tx| {
            tx.revoke(RevocationKind::Token, jti.as_str(), until).await.map(drop)
        })
        .await;
    let answered = tried(&world, "middle", &token, &pairs).await;
    assert_eq!(refused(&answered), ("invalid_request", "ActorTokenRevoked"));
}

/// The new token is bound to the key of whoever exchanges, whatever the subject's was bound to.
#[tokio::test]
async fn a_bound_token_is_exchanged_by_its_audience_and_bound_anew() {
    let (world, _, token) = with_token(|_| {}).await;
    let (first, holder) = (Holder::new(), Holder::new());
    let token =
        minted(&world, &token, |claims| claims["cnf"] = json!({ "jkt": first.thumbprint() }));
    let assertion = fresh(&world, "middle");
    let form = [
        ("grant_type", GRANT),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion.as_str()),
        ("subject_token", token.as_str()),
        ("subject_token_type", ACCESS_TOKEN),
        ("resource", OTHER),
    ];
    let answered = world.identity.token(&[], &parameters(&form), holder.shows(&world)).await;
    let answer = ok(answered);
    assert_eq!(answer.token_type, "DPoP");
    let claims = world.claims(&answer.access_token).expect("lives");
    assert_eq!(claims.cnf, Some(Confirmation::Key(holder.thumbprint())));
}

#[tokio::test]
async fn of_an_exchange_that_waits_while_its_right_is_taken_nothing_comes() {
    let (world, _, token) = with_token(|_| {}).await;
    let began = world.identity.desk();
    world.reload(|settings| {
        services(settings);
        amend(settings, "middle", |middle| middle.introspects.clear());
    });
    let assertion = fresh(&world, "middle");
    let form = parameters(&[
        ("grant_type", GRANT),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &assertion),
        ("subject_token", &token),
        ("subject_token_type", ACCESS_TOKEN),
        ("resource", OTHER),
    ]);
    let answered = crate::token::answer(&began, &[], &form, &Presented::default()).await;
    assert_eq!(refused(&answered).1, "SubjectOfAnotherAudience");
}
