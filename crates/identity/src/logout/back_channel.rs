//! Telling clients that a session ended (OpenID Connect Back-Channel Logout 1.0).
//!
//! Whatever ends a session writes the rows that wait here, in its own transaction; the rounds of
//! [`crate::maintenance`] send them. A row is put off *before* its token leaves: a crash, or a second
//! node, sends it later instead of at once again. Nothing is held open while a client is asked.

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::client::{ClientRecord, Registered};
use portcullis_core::fetch::{Body, FetchRequest, NamedBy};
use portcullis_core::id::{self, Id};
use portcullis_core::secret::Secret;
use portcullis_core::web::form_encode;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::logouts::PendingLogout;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::desk::Desk;
use crate::subject;

/// Most that are sent in one round, all at once: one slow client holds up nobody else's.
const BATCH: usize = 32;
/// How long a client may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What a client may answer, in bytes; nothing of it is read.
const MAX_ANSWER: usize = 4 * 1024;
/// How long until the next try, after each; then the client is given up.
const RETRIES: [Duration; 5] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(60 * 60),
];
/// A logout token's life, seconds (§2.4 recommends at most two minutes).
const LIFE_S: i64 = 120;

/// The event that a logout token speaks of (§2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The claims of a logout token (§2.4). No `nonce`: it must not be taken for an ID token.
#[derive(Serialize)]
struct LogoutClaims<'a> {
    iss: &'a str,
    sub: String,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
    events: serde_json::Value,
    sid: &'a str,
}

/// Sends what is due. Reads alone when nothing is.
pub(crate) async fn send_due(desk: &Desk) -> Result<(), StoreFault> {
    let now = desk.now;
    let due: Result<Vec<PendingLogout>, StoreFault> =
        desk.shared.store.read(async move |tx| tx.due_logouts(now, BATCH).await).await;
    if due?.is_empty() {
        return Ok(());
    }
    let at = desk.clone();
    let claimed = desk.shared.store.transact(async move |tx| claim(tx, &at).await).await?;
    let mut sending = JoinSet::new();
    for (pending, client) in claimed {
        let at = desk.clone();
        sending.spawn(async move { told(&at, &pending, &client).await.then_some(pending.number) });
    }
    let done: Vec<i64> = sending.join_all().await.into_iter().flatten().collect();
    if done.is_empty() {
        return Ok(());
    }
    let drop_all = async move |tx: &Tx| -> Result<(), StoreFault> {
        for number in &done {
            tx.drop_logout(*number).await?;
        }
        Ok(())
    };
    desk.shared.store.transact(drop_all).await
}

/// Takes a batch: each is put off to its next try, or dropped when nobody is to be told any more.
async fn claim(
    tx: &Tx,
    desk: &Desk,
) -> Result<Vec<(PendingLogout, Arc<ClientRecord>)>, StoreFault> {
    let mut claimed = Vec::new();
    for pending in tx.due_logouts(desk.now, BATCH).await? {
        let client = desk.settings.clients.get(&pending.client);
        let client = client.filter(|client| client.back_channel_logout.is_some());
        let tries = usize::try_from(pending.tries).unwrap_or(usize::MAX);
        match (client, RETRIES.get(tries)) {
            (Some(client), Some(wait)) => {
                tx.postpone_logout(pending.number, desk.now.after(*wait)).await?;
                claimed.push((pending, client.clone()));
            }
            (Some(client), None) => {
                let (client, session) = (&client.id, &pending.session);
                tracing::warn!(%client, %session, "the client never took its logout token");
                tx.drop_logout(pending.number).await?;
            }
            (None, _) => tx.drop_logout(pending.number).await?,
        }
    }
    Ok(claimed)
}

/// Whether a client took its token.
async fn told(desk: &Desk, pending: &PendingLogout, client: &ClientRecord) -> bool {
    let Some(address) = &client.back_channel_logout else { return false };
    let form = format!("logout_token={}", form_encode(&token(desk, pending, client)));
    let request = FetchRequest {
        url: address.to_string(),
        named_by: named_by(client.registered),
        // §2.5
        post: Some(Body {
            content_type: "application/x-www-form-urlencoded",
            bytes: Secret::new(form.into_bytes()),
        }),
        authorization: None,
        accept: "*/*",
        max_bytes: MAX_ANSWER,
        timeout: TIMEOUT,
    };
    let (client, session) = (&client.id, &pending.session);
    match desk.shared.fetch.fetch(request).await {
        // §2.8: 200; some frameworks write 204.
        Ok(answer) if matches!(answer.status, 200 | 204) => true,
        Ok(answer) => {
            let status = answer.status;
            tracing::warn!(%client, %session, status, "the client refused its logout token");
            false
        }
        Err(fault) => {
            tracing::warn!(%client, %session, %fault, "the client got no logout token");
            false
        }
    }
}

/// `6-attacks`, "Fetching": only the operator may send us to a private address, never software that
/// registered itself.
fn named_by(registered: Registered) -> NamedBy {
    match registered {
        Registered::File | Registered::Store => NamedBy::Config,
        Registered::Document | Registered::Itself => NamedBy::Stranger,
    }
}

/// A logout token, made anew for each try.
fn token(desk: &Desk, pending: &PendingLogout, client: &ClientRecord) -> String {
    let now = desk.now.unix();
    let claims = LogoutClaims {
        iss: &desk.settings.issuer_text,
        // As the client knows the user: a logout must not link two sectors either.
        sub: subject::seen_by(desk, client, &pending.user),
        aud: client.id.as_str(),
        iat: now,
        exp: now.saturating_add(LIFE_S),
        jti: Id::<id::Token>::mint(&*desk.shared.entropy).to_string(),
        events: serde_json::json!({ EVENT: {} }),
        sid: pending.session.as_str(),
    };
    // §2.4: the type keeps it apart from an ID token (RFC 8725 §3.11).
    desk.shared.keyring.identity().sign("logout+jwt", &claims)
}

#[cfg(test)]
mod tests;
