//! The tour: the whole product shown by itself. Each step sends a real request over loopback,
//! says what came back and why (from the decision record), and what should have come.

mod attempts;
mod login;
mod objects;
mod services;
mod show;

use std::time::Duration;

use portcullis_core::jose::base64url;

use super::stage::Stage;
use show::{Expect, Show};

/// Walks the tour. 0 when every step came out as it should, 1 otherwise.
///
/// # Errors
/// When the demo itself cannot go on (nothing listens, a file is gone).
pub(super) async fn walk(stage: &Stage) -> anyhow::Result<u8> {
    let mut show = Show::new(stage)?;
    nobody_and_anybody(&mut show).await?;
    let token = people(&mut show).await?;
    services(&mut show).await?;
    forgeries(&mut show, &token).await?;
    floods(&mut show).await?;
    endings(&mut show, &token).await?;
    show.table();
    Ok(show.verdict())
}

async fn nobody_and_anybody(show: &mut Show<'_>) -> anyhow::Result<()> {
    show.chapter("Deny by default");
    let api = show.stage.place.api.clone();
    let answer = show.client.get(&format!("{api}/rates"), &[]).await?;
    show.step("anyone reads a public operation", "GET /v1/rates", &answer, Expect::status(200))
        .await;
    let url = format!("{api}/accounts/acc-alice");
    let answer = show.client.get(&url, &[]).await?;
    let challenged = Expect::status(401).field("www-authenticate", "resource_metadata=");
    show.step("no token", "GET /v1/accounts/acc-alice", &answer, challenged).await;
    let answer = show.client.get(&format!("{api}/unlisted"), &[]).await?;
    show.step("a path that no line lists", "GET /v1/unlisted", &answer, Expect::status(404)).await;
    let answer = show.client.get(&format!("{api}/rates/..%2fadmin/report"), &[]).await?;
    show.step("a path that is not canonical", "GET /v1/rates/..%2f…", &answer, Expect::status(400))
        .await;
    let plain = format!("{}/v1/rates", show.stage.place.plain);
    let answer = show.client.get(&plain, &[]).await?;
    show.step("plain HTTP", "GET http://…/v1/rates", &answer, Expect::status(403)).await;
    Ok(())
}

async fn people(show: &mut Show<'_>) -> anyhow::Result<String> {
    show.chapter("A person: code, PKCE, password, one-time password");
    login::password_alone_gets_nothing(show).await?;
    let tokens = login::whole(show).await?;
    let token = tokens.access.clone();
    let api = show.stage.place.api.clone();
    let bearer = format!("Bearer {token}");
    let fields = [("authorization", bearer.as_str())];
    let answer = show.client.get(&format!("{api}/accounts/acc-alice"), &fields).await?;
    show.step("her own account", "GET /v1/accounts/acc-alice", &answer, Expect::status(200)).await;
    let answer = show.client.get(&format!("{api}/accounts/acc-bob"), &fields).await?;
    show.step("another's account", "GET /v1/accounts/acc-bob", &answer, Expect::status(403)).await;
    objects::invoices(show, &token).await?;
    objects::amounts(show, &tokens).await?;
    show.stage.clock.advance(Duration::from_secs(61));
    services::refreshed(show, &tokens).await?;
    show.stage.clock.advance(Duration::from_secs(61));
    Ok(login::whole(show).await?.access)
}

async fn services(show: &mut Show<'_>) -> anyhow::Result<()> {
    show.chapter("Services: keys, bound tokens, an exception with a date, an API key");
    services::bound(show).await?;
    services::waived(show).await?;
    services::key(show).await
}

async fn forgeries(show: &mut Show<'_>, token: &str) -> anyhow::Result<()> {
    show.chapter("Tokens that lie");
    let url = format!("{}/accounts/acc-alice", show.stage.place.api);
    let target = "GET /v1/accounts/acc-alice";
    let refused = || Expect::status(401).field("www-authenticate", "invalid_token");
    let answer = show.client.get(&url, &[("authorization", &forged(token))]).await?;
    show.step("a changed claim under the old signature", target, &answer, refused()).await;
    let answer = show.client.get(&url, &[("authorization", &unsigned(token))]).await?;
    show.step("alg: none", target, &answer, refused()).await;
    show.stage.clock.advance(Duration::from_secs(360));
    let bearer = format!("Bearer {token}");
    let answer = show.client.get(&url, &[("authorization", &bearer)]).await?;
    show.step("the same token six minutes later", target, &answer, refused()).await;
    Ok(())
}

async fn floods(show: &mut Show<'_>) -> anyhow::Result<()> {
    show.chapter("Floods and guesses");
    attempts::public_flood(show).await?;
    attempts::ten_wrong_passwords(show).await
}

async fn endings(show: &mut Show<'_>, _expired: &str) -> anyhow::Result<()> {
    show.chapter("Revocation and reload");
    show.stage.clock.advance(Duration::from_secs(60));
    let token = login::whole(show).await?.access;
    let url = format!("{}/accounts/acc-alice", show.stage.place.api);
    let bearer = format!("Bearer {token}");
    let fields = [("authorization", bearer.as_str())];
    let answer = show.client.get(&url, &fields).await?;
    show.step("a fresh token", "GET /v1/accounts/acc-alice", &answer, Expect::status(200)).await;
    let form = [("token", token.as_str()), ("client_id", "app")];
    let revoke = format!("{}/oauth/revoke", show.stage.place.issuer);
    let answer = show.client.post(&revoke, &[], &form).await?;
    show.step("the app revokes it", "POST /oauth/revoke", &answer, Expect::status(200)).await;
    let answer = show.client.get(&url, &fields).await?;
    show.step("the very next request", "GET /v1/accounts/acc-alice", &answer, Expect::status(401))
        .await;
    attempts::bad_config(show).await
}

/// The token with `sub` changed and everything else as it was.
fn forged(token: &str) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let &[head, _, signature] = parts.as_slice() else { return String::from("Bearer x") };
    let mut claims = super::claims_of(token);
    if let Some(claims) = claims.as_object_mut() {
        claims.insert("sub".into(), "u_someoneelse".into());
    }
    let payload = base64url::encode(claims.to_string().as_bytes());
    format!("Bearer {head}.{payload}.{signature}")
}

/// RFC 8725 §2.1: the oldest forgery of all.
fn unsigned(token: &str) -> String {
    let head = base64url::encode(br#"{"alg":"none","typ":"at+jwt"}"#);
    format!("Bearer {head}.{}.", token.split('.').nth(1).unwrap_or_default())
}
