//! `session list | end`.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::Value;

use super::office;
use crate::admin::Command;

/// Who is signed in.
#[derive(Subcommand)]
pub(crate) enum SessionCommand {
    /// List sessions, of everyone or of one user
    List(ListSessions),
    /// End a session, or all of a user: its grants and tokens end with it
    End(EndSession),
}

/// Arguments of `session list`.
#[derive(Args)]
pub(crate) struct ListSessions {
    /// A user's login name [default: everyone]
    login: Option<String>,
    #[command(flatten)]
    installation: super::Installation,
}

/// Arguments of `session end`.
#[derive(Args)]
pub(crate) struct EndSession {
    /// The session's id, as `session list` shows it
    #[arg(required_unless_present = "user", conflicts_with = "user")]
    id: Option<String>,
    /// All sessions of this user (login name)
    #[arg(long, value_name = "LOGIN")]
    user: Option<String>,
    #[command(flatten)]
    installation: super::Installation,
}

/// Runs a `session` command.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn run(command: SessionCommand) -> anyhow::Result<u8> {
    match command {
        SessionCommand::List(list) => {
            let command = Command::SessionList { login: list.login };
            let answer = office::carry_out(&list.installation.config, command)?;
            list.installation.show(&answer, listing);
        }
        SessionCommand::End(end) => {
            let command = Command::SessionEnd { id: end.id, login: end.user };
            let answer = office::carry_out(&end.installation.config, command)?;
            end.installation.show(&answer, |answer| {
                let count = answer.get("ended").and_then(Value::as_u64).unwrap_or_default();
                let noun = if count == 1 { "session" } else { "sessions" };
                format!("ended {count} {noun}, with their grants and tokens\n")
            });
        }
    }
    Ok(0)
}

fn listing(answer: &Value) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "id",
        "user",
        "factors",
        "began",
        "last seen",
        "ends",
    ]);
    for session in answer.as_array().into_iter().flatten() {
        let row = ["id", "login", "factors", "made", "seen", "expires"];
        table.add_row(row.map(|name| text(session, name)));
    }
    format!("{table}\n")
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
