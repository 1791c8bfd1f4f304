//! `user add | list | disable`.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::Value;

use super::office;
use crate::admin::{Command, LabelChange};

/// People.
#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// Add a person; prints their password, once
    Add(AddUser),
    /// List people
    List(ListUsers),
    /// Give roles or groups to a person
    Grant(LabelUser),
    /// Take roles or groups from a person: gone on the next request, and nobody is logged out
    Revoke(LabelUser),
    /// Disable a person: every session, grant and token ends now
    Disable(DisableUser),
}

/// Arguments of `user add`.
#[derive(Args)]
pub(crate) struct AddUser {
    /// Login name, as in `ada` or `ada@example.org`
    login: String,
    /// Shown name [default: the login name]
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// A role of [identity] roles; may be repeated
    #[arg(long = "role")]
    roles: Vec<String>,
    /// A group of [identity] groups; may be repeated
    #[arg(long = "group")]
    groups: Vec<String>,
    /// An attribute of [identity.attributes], NAME=VALUE; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE")]
    attributes: Vec<String>,
    #[command(flatten)]
    installation: super::Installation,
}

/// Arguments of `user list`.
#[derive(Args)]
pub(crate) struct ListUsers {
    #[command(flatten)]
    installation: super::Installation,
}

/// Arguments of `user grant` and `user revoke`.
#[derive(Args)]
pub(crate) struct LabelUser {
    /// Login name
    login: String,
    /// Roles and groups, as in `role:admin group:staff`
    #[arg(required = true, value_name = "LABEL")]
    labels: Vec<String>,
    #[command(flatten)]
    installation: super::Installation,
}

/// Arguments of `user disable`.
#[derive(Args)]
pub(crate) struct DisableUser {
    /// Login name
    login: String,
    #[command(flatten)]
    installation: super::Installation,
}

/// Runs a `user` command.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn run(command: UserCommand) -> anyhow::Result<u8> {
    match command {
        UserCommand::Add(add) => add_user(add),
        UserCommand::List(list) => {
            let answer = office::carry_out(&list.installation.config, Command::UserList)?;
            list.installation.show(&answer, listing);
            Ok(0)
        }
        UserCommand::Grant(label) => label_user(label, LabelChange::Grant),
        UserCommand::Revoke(label) => label_user(label, LabelChange::Revoke),
        UserCommand::Disable(disable) => {
            let command = Command::UserDisable { login: disable.login };
            let answer = office::carry_out(&disable.installation.config, command)?;
            disable.installation.show(&answer, |answer| {
                format!("disabled {}; sessions, grants and tokens have ended\n", text(answer, "id"))
            });
            Ok(0)
        }
    }
}

fn label_user(label: LabelUser, change: LabelChange) -> anyhow::Result<u8> {
    let command = Command::UserLabels { login: label.login, labels: label.labels, change };
    let answer = office::carry_out(&label.installation.config, command)?;
    label.installation.show(&answer, |answer| {
        let list = |name: &str| {
            let items = answer.get(name).and_then(Value::as_array).into_iter().flatten();
            let words: Vec<&str> = items.filter_map(Value::as_str).collect();
            if words.is_empty() { "none".to_owned() } else { words.join(" ") }
        };
        format!("{}: roles {}, groups {}\n", text(answer, "login"), list("roles"), list("groups"))
    });
    Ok(0)
}

fn add_user(add: AddUser) -> anyhow::Result<u8> {
    let mut attributes = BTreeMap::new();
    for pair in add.attributes {
        let (name, value) =
            pair.split_once('=').with_context(|| format!("`{pair}` is not NAME=VALUE"))?;
        attributes.insert(name.to_owned(), value.to_owned());
    }
    let command = Command::UserAdd {
        login: add.login,
        name: add.name,
        roles: add.roles,
        groups: add.groups,
        attributes,
    };
    let answer = office::carry_out(&add.installation.config, command)?;
    add.installation.show(&answer, |answer| {
        format!(
            "added {}  ({})\n\n  password: {}\n\nIt is shown this once. A second factor is set up at the first login, if the file asks for one.\n",
            text(answer, "login"),
            text(answer, "id"),
            text(answer, "one_off_password"),
        )
    });
    Ok(0)
}

fn listing(answer: &Value) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["login", "name", "roles", "groups", "state", "id"]);
    for user in answer.as_array().into_iter().flatten() {
        let list = |name: &str| {
            let items = user.get(name).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        };
        let state = if user.get("disabled").is_some_and(|since| !since.is_null()) {
            "disabled"
        } else {
            "active"
        };
        table.add_row([
            text(user, "login"),
            text(user, "name"),
            list("roles"),
            list("groups"),
            state.to_owned(),
            text(user, "id"),
        ]);
    }
    format!("{table}\n")
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
