//! Sessions and consents, listed and ended. What ends here is dead at the gateway before the answer.

use portcullis_identity::sessions;
use serde_json::{Value, json};

use super::Office;

/// `session list`.
pub(super) async fn list(office: &Office<'_>, login: Option<&str>) -> anyhow::Result<Value> {
    let found = sessions::list(office.store, login, office.now).await?;
    let rows = found.into_iter().map(|session| {
        json!({
            "id": session.id.as_str(),
            "login": session.login,
            "factors": session.amr.join(" "),
            "acr": session.acr,
            "made": session.made.to_string(),
            "seen": session.seen.to_string(),
            "expires": session.expires.to_string(),
        })
    });
    Ok(Value::Array(rows.collect()))
}

/// `session end`: one, or all of a user.
pub(super) async fn end(
    office: &Office<'_>,
    id: Option<&str>,
    login: Option<&str>,
) -> anyhow::Result<Value> {
    let ended = match (id, login) {
        (Some(id), None) => {
            sessions::end(office.store, id, office.now).await?;
            1
        }
        (None, Some(login)) => sessions::end_all(office.store, login, office.now).await?,
        (Some(_), Some(_)) | (None, None) => anyhow::bail!("name a session, or a user"),
    };
    Ok(json!({ "ended": ended }))
}

/// `consent list`.
pub(super) async fn apps(office: &Office<'_>, login: &str) -> anyhow::Result<Value> {
    let found = sessions::apps(office.store, login).await?;
    let rows = found.into_iter().map(|app| {
        json!({
            "client": app.client.as_str(),
            "consented": app.consented.to_string(),
            "given": app.given.map(|given| given.to_string()),
            "grants": app.grants,
        })
    });
    Ok(Value::Array(rows.collect()))
}

/// `consent withdraw`.
pub(super) async fn withdraw(
    office: &Office<'_>,
    login: &str,
    client: &str,
) -> anyhow::Result<Value> {
    sessions::withdraw(office.store, login, client, office.now).await?;
    Ok(json!({ "login": login, "client": client }))
}
