//! Revocation (RFC 7009): in force at the gateway before the call returns.

use portcullis_core::jose::verify;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::revocation::RevocationKind;
use portcullis_core::time::Timestamp;
use portcullis_core::web::Parameters;
use portcullis_store::database::Tx;
use portcullis_store::used::UsedKind;

use crate::desk::Desk;
use crate::outcome::{Answered, Presented};
use crate::token::client_auth::{self, Claim};
use crate::token::{Aborted, named};

/// `POST /oauth/revoke`.
pub(crate) async fn answer(
    desk: &Desk,
    authorization: &[&[u8]],
    form: &Parameters,
    presented: &Presented,
) -> Answered<()> {
    let named = named(authorization, form);
    let claim = match client_auth::authenticate(desk, authorization, form, presented) {
        Ok(claim) => claim,
        Err(error) => return Answered { result: Err(error), caller: None, client: named },
    };
    let client = Some(claim.client().id.to_string());
    match doomed(desk, &claim, form) {
        Ok(Doomed::Nothing) => {
            let result = client_auth::spend_alone(desk, claim).await;
            Answered { result, caller: None, client }
        }
        Ok(Doomed::Token { jti, expires, caller }) => {
            let result = revoke(desk, claim, jti, expires).await;
            Answered { result, caller: Some(caller), client }
        }
        Err(error) => {
            let spent = client_auth::spend_alone(desk, claim).await;
            Answered { result: spent.and(Err(error)), caller: None, client }
        }
    }
}

/// What a request would kill.
enum Doomed {
    /// Nothing that is alive: RFC 7009 §2.2 answers 200 all the same.
    Nothing,
    /// One access token.
    Token { jti: String, expires: Timestamp, caller: String },
}

fn doomed(desk: &Desk, claim: &Claim, form: &Parameters) -> Result<Doomed, OauthError> {
    let Some(token) = form.value("token") else {
        let description = "token is missing";
        return Err(OauthError::new(ErrorCode::InvalidRequest, "TokenMissing", description));
    };
    let keys = desk.shared.keyring.access_keys();
    let issuer = &desk.settings.issuer_text;
    // RFC 7009 §2.1: the hint may be ignored. §2.2: unknown, foreign and expired ones are dead
    // already, and the client could do nothing about it.
    let Ok(verified) = verify::access_token(token, &keys, issuer, None, desk.now) else {
        return Ok(Doomed::Nothing);
    };
    let claims = verified.claims();
    if claims.client_id != claim.client().id {
        // RFC 7009 §2.1: issued to the client that asks, or the request is refused and the client
        // told; RFC 6749 §5.2 has the code for it ("was issued to another client").
        let description = "the token was issued to another client";
        return Err(OauthError::new(ErrorCode::InvalidGrant, "TokenOfAnotherClient", description));
    }
    Ok(Doomed::Token {
        jti: claims.jti.to_string(),
        expires: Timestamp::from_unix(claims.exp),
        caller: claims.caller(),
    })
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
}
