//! Revocation (RFC 7009): in force at the gateway before the call returns.
//!
//! A refresh token stands for its grant, and takes with it all that the grant was given (§2.1); an
//! access token, of either form, goes alone.

use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::AccessClaims;
use portcullis_core::jose::verify;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::revocation::RevocationKind;
use portcullis_core::time::Timestamp;
use portcullis_core::web::Parameters;
use portcullis_store::database::Tx;
use portcullis_store::used::UsedKind;

use crate::desk::Desk;
use crate::login::show::caller;
use crate::outcome::{Answered, Presented};
use crate::token::client_auth::{self, Claim};
use crate::token::{Aborted, named, opaque, refresh_token};

/// `POST /oauth/revoke`.
pub(crate) async fn answer(
    desk: &Desk,
    authorization: &[&[u8]],
    form: &Parameters,
    presented: &Presented,
) -> Answered<()> {
    let named = named(authorization, form);
    let claim = match client_auth::authenticate(desk, authorization, form, presented).await {
        Ok(claim) => claim,
        Err(error) => {
            return Answered { result: Err(error), caller: None, client: named, nonce: None };
        }
    };
    let client = Some(claim.client().id.to_string());
    let (result, caller) = match doomed(desk, &claim, form) {
        Ok(Doomed::Nothing) => (client_auth::spend_alone(desk, claim).await, None),
        Ok(Doomed::Token { jti, expires, caller }) => {
            (revoke(desk, claim, jti, expires).await, Some(caller))
        }
        Ok(Doomed::Grant(gid)) => match end(desk, claim, gid).await {
            Ok(caller) => (Ok(()), caller),
            Err(error) => (Err(error), None),
        },
        Err(error) => (client_auth::refuse(desk, claim, error).await, None),
    };
    Answered { result, caller, client, nonce: None }
}

/// What a request would kill.
enum Doomed {
    /// Nothing that is alive: RFC 7009 §2.2 answers 200 all the same.
    Nothing,
    /// One access token.
    Token { jti: String, expires: Timestamp, caller: String },
    /// A grant, by one of its refresh tokens.
    Grant(Id<id::Grant>),
}

fn doomed(desk: &Desk, claim: &Claim, form: &Parameters) -> Result<Doomed, OauthError> {
    let Some(token) = form.value("token") else {
        let description = "token is missing";
        return Err(OauthError::new(ErrorCode::InvalidRequest, "TokenMissing", description));
    };
    // RFC 7009 §2.1: the hint may be ignored; the three forms cannot be mistaken for each other.
    if let Some(gid) = refresh_token::grant_of(desk, token) {
        return Ok(Doomed::Grant(gid));
    }
    // §2.2: unknown, foreign and expired ones are dead already, and the client could do nothing
    // about it.
    let Some(claims) = access_token(desk, token) else { return Ok(Doomed::Nothing) };
    if claims.client_id != claim.client().id {
        return Err(anothers());
    }
    Ok(Doomed::Token {
        jti: claims.jti.to_string(),
        expires: Timestamp::from_unix(claims.exp),
        caller: claims.caller(),
    })
}

/// A live access token of ours, in either form.
fn access_token(desk: &Desk, token: &str) -> Option<AccessClaims> {
    let keys = desk.shared.keyring.access_keys();
    let issuer = &desk.settings.issuer_text;
    let jwt = verify::access_token(token, &keys, issuer, None, desk.now);
    jwt.ok().map(|verified| verified.claims().clone()).or_else(|| opaque::open(desk, token))
}

async fn revoke(
    desk: &Desk,
    claim: Claim,
    jti: String,
    expires: Timestamp,
) -> Result<(), OauthError> {
    let at = desk.clone();
    let work = async move |tx: &Tx| -> Result<Result<(), OauthError>, Aborted> {
        if let Err(error) = claim.proven(tx, &at).await? {
            return Ok(Err(error));
        }
        // Once is enough: the holder of one token must not fill the log with it.
        if tx.first_use(UsedKind::Revocation, &jti, expires).await? {
            tx.revoke(RevocationKind::Token, &jti, expires).await?;
        }
        Ok(Ok(()))
    };
    desk.shared.store.transact(work).await.map_err(OauthError::from)?
}

/// RFC 7009 §2.1: a refresh token is revoked with all access tokens of its grant. Also an old one
/// of the family will do: whoever holds it held them all. Returns whose it was.
async fn end(desk: &Desk, claim: Claim, gid: Id<id::Grant>) -> Result<Option<String>, OauthError> {
    let at = desk.clone();
    let work = async move |tx: &Tx| -> Result<Result<Option<String>, OauthError>, Aborted> {
        let client = match claim.proven(tx, &at).await? {
            Ok(client) => client,
            Err(error) => return Ok(Err(error)),
        };
        match tx.grant(&gid).await? {
            Some(grant) if grant.client == client.id => {
                tx.end_grant(&gid, at.now).await?;
                Ok(Ok(Some(caller(&grant.user))))
            }
            Some(_) => Ok(Err(anothers())),
            // Long ended, and forgotten since.
            None => Ok(Ok(None)),
        }
    };
    desk.shared.store.transact(work).await.map_err(OauthError::from)?
}

/// RFC 7009 §2.1: issued to the client that asks, or the request is refused and the client told;
/// RFC 6749 §5.2 has the code for it ("was issued to another client").
fn anothers() -> OauthError {
    let description = "the token was issued to another client";
    OauthError::new(ErrorCode::InvalidGrant, "TokenOfAnotherClient", description)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use portcullis_core::oauth::token::ASSERTION_TYPE;
    use std::time::Duration;

    async fn revoke(world: &World, pairs: &[(&str, &str)]) -> Answered<()> {
        world.identity.revoke(&[], &parameters(pairs), Presented::default()).await
    }

    fn rule(answered: &Answered<()>) -> (&'static str, &'static str) {
        let refused = answered.result.as_ref().err();
        refused.map_or(("done", "done"), |error| (error.code.as_str(), error.rule))
    }

    /// A world with two tokens of ada's for `app`.
    async fn with_tokens() -> (World, String, String) {
        let world = World::start().await;
        let ada = world.ada().await;
        let mut browser = Browser::new();
        let first = world.redeem(&browser.log_in(&world, &ada).await).await;
        browser.authorize(&world, &request_with(&[])).await;
        let second = world.redeem(&code_of(&browser.consent(&world, "allow").await)).await;
        let text = |answered: Answered<portcullis_core::oauth::token::TokenAnswer>| {
            answered.result.expect("granted").access_token
        };
        (world, text(first), text(second))
    }

    #[tokio::test]
    async fn a_token_is_dead_before_the_call_returns_and_others_live() {
        let (world, one, other) = with_tokens().await;
        let answered = revoke(&world, &[("client_id", "app"), ("token", &one)]).await;
        assert_eq!(rule(&answered), ("done", "done"));
        assert!(answered.caller.is_some());
        assert_eq!(world.claims(&one).err(), Some("token_revoked"));
        assert!(world.claims(&other).is_ok());
    }

    #[tokio::test]
    async fn unknown_and_expired_tokens_are_fine_and_write_nothing() {
        let (world, token, _) = with_tokens().await;
        world.clock.advance(Duration::from_secs(300));
        let before = world.store.commits();
        for dead in [token.as_str(), "garbage", "a.b.c"] {
            let form =
                [("client_id", "app"), ("token", dead), ("token_type_hint", "refresh_token")];
            assert_eq!(rule(&revoke(&world, &form).await), ("done", "done"));
        }
        assert_eq!(world.store.commits(), before);
    }

    #[tokio::test]
    async fn token_of_another_client() {
        let (world, token, _) = with_tokens().await;
        let answered = revoke(&world, &[("client_id", "own"), ("token", &token)]).await;
        assert_eq!(rule(&answered), ("invalid_grant", "TokenOfAnotherClient"));
        assert!(world.claims(&token).is_ok());
    }

    #[tokio::test]
    async fn token_missing() {
        let world = World::start().await;
        let answered = revoke(&world, &[("client_id", "app")]).await;
        assert_eq!(rule(&answered), ("invalid_request", "TokenMissing"));
    }

    #[tokio::test]
    async fn the_client_authenticates() {
        let (world, token, _) = with_tokens().await;
        for client in ["ledger", "console", "legacy"] {
            let answered = revoke(&world, &[("client_id", client), ("token", &token)]).await;
            assert_eq!(rule(&answered), ("invalid_client", "ClientMustAuthenticate"));
        }
        let answered = revoke(&world, &[("client_id", "nobody"), ("token", &token)]).await;
        assert_eq!(rule(&answered), ("invalid_client", "ClientUnknown"));
    }

    #[tokio::test]
    async fn an_assertion_revokes_once() {
        let world = World::start().await;
        let assertion = world.assertion("ledger", &[]);
        let form = [
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.as_str()),
            ("token", "garbage"),
        ];
        assert_eq!(rule(&revoke(&world, &form).await), ("done", "done"));
        assert_eq!(rule(&revoke(&world, &form).await).1, "AssertionReplayed");
    }

    /// RFC 7009 §2.1: a refresh token takes its grant with it, whichever of the family it is.
    #[tokio::test]
    async fn a_refresh_token_ends_its_grant() {
        use crate::token::testing::*;
        for n in 1..=3 {
            let world = with_grant(|grant| grant.family.counter = 2).await;
            let access = ok(refreshed(&world, &nth("one", 2)).await).access_token;
            let form = [("client_id", "app"), ("token", &nth("one", n))];
            let answered = revoke(&world, &form).await;
            assert_eq!(rule(&answered), ("done", "done"));
            assert_eq!(answered.caller.as_deref(), Some("user:u_ada"));
            assert_eq!(world.claims(&access).err(), Some("token_revoked"));
            assert_eq!(broke(&refreshed(&world, &nth("one", 3)).await), "GrantEnded");
            assert_eq!(rule(&revoke(&world, &form).await), ("done", "done"), "again");
        }
    }

    #[tokio::test]
    async fn refresh_token_of_another_client_ends_nothing() {
        use crate::token::testing::*;
        let world = with_grant(|_| {}).await;
        let answered = revoke(&world, &[("client_id", "own"), ("token", &nth("one", 1))]).await;
        assert_eq!(rule(&answered), ("invalid_grant", "TokenOfAnotherClient"));
        let unknown = revoke(&world, &[("client_id", "app"), ("token", &nth("none", 1))]).await;
        assert_eq!(rule(&unknown), ("done", "done"));
        ok(refreshed(&world, &nth("one", 1)).await);
    }
}
