//! `client key add | list | revoke`.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::Value;

use super::office;
use crate::admin::Command;
use crate::admin::api_keys::USUAL_DAYS;

/// API keys of a service client.
#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key; it is shown once
    Add(AddKey),
    /// List a client's keys
    List(ListKeys),
    /// Revoke a key; it is dead before this returns
    Revoke(RevokeKey),
}

/// Arguments of `client key add`.
#[derive(Args)]
pub(crate) struct AddKey {
    /// The client's id
    client: String,
    /// What it may do: some of the client's scopes, space-separated
    #[arg(long)]
    scopes: String,
    /// A network that it may come from, as in 10.0.0.0/8; may be repeated [default: any]
    #[arg(long)]
    from: Vec<String>,
    /// How long it lives, at most 365
    #[arg(long, default_value_t = USUAL_DAYS)]
    days: u32,
    #[command(flatten)]
    installation: super::Installation,
}

/// Arguments of `client key list`.
#[derive(Args)]
pub(crate) struct ListKeys {
    /// The client's id
    client: String,
    #[command(flatten)]
    installation: super::Installation,
}

/// Arguments of `client key revoke`.
#[derive(Args)]
pub(crate) struct RevokeKey {
    /// The key's id, as `client key list` shows it, or the key itself
    id: String,
    #[command(flatten)]
    installation: super::Installation,
}

/// Runs a `client key` command.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn run(command: KeyCommand) -> anyhow::Result<u8> {
    match command {
        KeyCommand::Add(add) => {
            let command = Command::ClientKeyAdd {
                client: add.client,
                scopes: add.scopes,
                from: add.from,
                days: add.days,
            };
            let answer = office::carry_out(&add.installation.config, command)?;
            add.installation.show(&answer, |answer| {
                format!(
                    "{}\n\nIt is shown this once. Its id is {}; it ends on {}. Send it as \
                     `Authorization: Bearer KEY`, to lines with `accept = \"key\"`.\n",
                    text(answer, "key"),
                    text(answer, "id"),
                    text(answer, "expires"),
                )
            });
        }
        KeyCommand::List(list) => {
            let command = Command::ClientKeyList { client: list.client };
            let answer = office::carry_out(&list.installation.config, command)?;
            list.installation.show(&answer, listing);
        }
        KeyCommand::Revoke(revoke) => {
            let command = Command::ClientKeyRevoke { id: revoke.id };
            let answer = office::carry_out(&revoke.installation.config, command)?;
            revoke.installation.show(&answer, |answer| format!("revoked {}\n", text(answer, "id")));
        }
    }
    Ok(0)
}

fn listing(answer: &Value) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "id",
        "state",
        "scopes",
        "from",
        "expires",
        "last used",
    ]);
    for key in answer.as_array().into_iter().flatten() {
        let from = key.get("from").and_then(Value::as_array).into_iter().flatten();
        let from: Vec<&str> = from.filter_map(Value::as_str).collect();
        table.add_row([
            text(key, "id"),
            text(key, "state"),
            text(key, "scopes"),
            from.join(" "),
            text(key, "expires"),
            text(key, "used"),
        ]);
    }
    format!("{table}\n")
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
