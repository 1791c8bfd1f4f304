//! The tour's services: bound tokens and their proofs, the dated exception, an API key, refresh.

use anyhow::Context;
use portcullis_core::time::Clock;

use super::login::{self, Tokens};
use super::show::{Expect, Show};
use crate::https_client::Answer;
use crate::service_client::{Fetched, ServiceClient};

/// The ledger: `private_key_jwt`, a token bound to its key, a proof for each request (FAPI 2.0).
pub(super) async fn bound(show: &mut Show<'_>) -> anyhow::Result<()> {
    let url = format!("{}/settlements", show.stage.place.api);
    let fetched = fetched(show, "ledger").await?;
    let scheme = format!("DPoP {}", fetched.token);
    let proof = proof(show, ("POST", &url), &fetched)?;
    let fields = [("authorization", scheme.as_str()), ("dpop", proof.as_str())];
    let answer = show.client.post(&url, &fields, &[]).await?;
    show.step(
        "the ledger settles, with a proof",
        "POST /v1/settlements",
        &answer,
        Expect::status(200),
    )
    .await;
    let answer = show.client.post(&url, &fields, &[]).await?;
    let again = Expect::status(401).field("www-authenticate", "invalid_dpop_proof");
    show.step("the same proof again", "POST /v1/settlements", &answer, again).await;
    let bearer = format!("Bearer {}", fetched.token);
    let answer = show.client.post(&url, &[("authorization", &bearer)], &[]).await?;
    let thief = Expect::status(401).field("www-authenticate", "invalid_token");
    show.step("a thief with the token alone", "POST /v1/settlements", &answer, thief).await;
    let proof = self::proof(show, ("GET", &url), &fetched)?;
    let fields = [("authorization", scheme.as_str()), ("dpop", proof.as_str())];
    let answer = show.client.get(&url, &fields).await?;
    let short = Expect::status(403).field("www-authenticate", "insufficient_scope");
    show.step("the ledger reads, without the scope", "GET /v1/settlements", &answer, short).await;
    Ok(())
}

/// The auditor's dated waiver: a bearer token.
pub(super) async fn waived(show: &mut Show<'_>) -> anyhow::Result<()> {
    let url = format!("{}/settlements", show.stage.place.api);
    let token = login::service_token(show, "auditor").await?;
    let bearer = format!("Bearer {token}");
    let answer = show.client.get(&url, &[("authorization", &bearer)]).await?;
    let fine = Expect::status(200);
    show.step("the auditor reads, bearer by a dated waiver", "GET /v1/settlements", &answer, fine)
        .await;
    Ok(())
}

/// An API key, on the one line that accepts one.
pub(super) async fn key(show: &mut Show<'_>) -> anyhow::Result<()> {
    let url = format!("{}/settlements", show.stage.place.api);
    let key = show.stage.api_key.clone();
    let bearer = format!("Bearer {key}");
    let fields = [("authorization", bearer.as_str())];
    let answer = show.client.get(&url, &fields).await?;
    let fine = Expect::status(200);
    show.step("an API key, where the line accepts one", "GET /v1/settlements", &answer, fine).await;
    let answer = show.client.post(&url, &fields, &[]).await?;
    show.step("and where it does not", "POST /v1/settlements", &answer, Expect::status(401)).await;
    Ok(())
}

/// Refresh: each token once; whoever comes with an old one ends the grant for both.
pub(super) async fn refreshed(show: &mut Show<'_>, tokens: &Tokens) -> anyhow::Result<()> {
    let first = refresh(show, &tokens.refresh).await?;
    show.step("a refresh: new tokens", "POST /oauth/token", &first, Expect::status(200)).await;
    let second = refresh(show, &login::text_of(&first, "refresh_token")?).await?;
    show.step("and again", "POST /oauth/token", &second, Expect::status(200)).await;
    let stolen = refresh(show, &tokens.refresh).await?;
    let reused = Expect::status(400).body("invalid_grant");
    show.step("the first one, stolen and used again", "POST /oauth/token", &stolen, reused).await;
    let owner = refresh(show, &login::text_of(&second, "refresh_token")?).await?;
    let ended = Expect::status(400).body("invalid_grant");
    show.step("so the whole family is over", "POST /oauth/token", &owner, ended).await;
    Ok(())
}

async fn refresh(show: &Show<'_>, token: &str) -> anyhow::Result<Answer> {
    let form = [("grant_type", "refresh_token"), ("client_id", "app"), ("refresh_token", token)];
    show.client.post(&show.stage.place.token_url(), &[], &form).await
}

async fn fetched(show: &mut Show<'_>, service: &str) -> anyhow::Result<Fetched> {
    let pem = pem(show, service)?;
    let now = show.stage.clock.now();
    let client = client(show, service, &pem);
    let fetched = client.fetch(&[("grant_type", "client_credentials")], now).await?;
    let kind = fetched.document.get("token_type").and_then(|kind| kind.as_str());
    let detail =
        "POST /oauth/token: private_key_jwt and a DPoP proof; the token is bound to the key";
    show.fact("a token for the ledger", detail, 200, kind == Some("DPoP"));
    Ok(fetched)
}

fn proof(show: &Show<'_>, request: (&str, &str), fetched: &Fetched) -> anyhow::Result<String> {
    let pem = pem(show, "ledger")?;
    client(show, "ledger", &pem).proof(request, fetched, show.stage.clock.now())
}

fn client<'c>(show: &'c Show<'_>, id: &'c str, pem: &'c str) -> ServiceClient<'c> {
    ServiceClient { https: &show.client, id, pem, issuer: &show.stage.place.issuer }
}

fn pem(show: &Show<'_>, service: &str) -> anyhow::Result<String> {
    let path = show.stage.place.home.join(format!("{service}.pem"));
    std::fs::read_to_string(&path).with_context(|| format!("`{}`", path.display()))
}
