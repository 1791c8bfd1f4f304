//! Roles and groups of people: given, and taken away. What is taken away is gone on the next request;
//! nobody is logged out for it.

use anyhow::{Context, bail};
use portcullis_store::database::StoreFault;
use portcullis_store::users::{UserRecord, canonical_login};
use serde_json::{Value, json};

use super::{LabelChange, Office};

/// `user grant`, `user revoke`.
pub(super) async fn change(
    office: &Office<'_>,
    login: &str,
    labels: &[String],
    change: LabelChange,
) -> anyhow::Result<Value> {
    for label in labels {
        let declared = match label.split_once(':') {
            Some(("role", name)) => office.facts.roles.iter().any(|role| role == name),
            Some(("group", name)) => office.facts.groups.iter().any(|group| group == name),
            _ => bail!("`{label}` is neither `role:NAME` nor `group:NAME`"),
        };
        // One that left the file may still be taken away.
        if !declared && change == LabelChange::Grant {
            bail!("`{label}` is not declared: add it to [identity] in the file");
        }
    }
    let (login, labels, now) = (canonical_login(login), labels.to_vec(), office.now);
    let changed: Result<Option<UserRecord>, StoreFault> = office
        .store
        .transact(async move |tx| {
            let Some(mut user) = tx.user_by_login(&login).await? else { return Ok(None) };
            for label in &labels {
                apply(&mut user, label, change);
            }
            tx.set_labels(&user.id, (&user.roles, &user.groups), now).await?;
            Ok(Some(user))
        })
        .await;
    let user = changed?.context("there is no such user; `portcullis user list` shows all")?;
    Ok(json!({ "login": user.login, "roles": user.roles, "groups": user.groups }))
}

fn apply(user: &mut UserRecord, label: &str, change: LabelChange) {
    let (list, name) = match label.split_once(':') {
        Some(("role", name)) => (&mut user.roles, name),
        Some((_, name)) => (&mut user.groups, name),
        None => return,
    };
    list.retain(|held| held != name);
    if change == LabelChange::Grant {
        list.push(name.to_owned());
    }
}
