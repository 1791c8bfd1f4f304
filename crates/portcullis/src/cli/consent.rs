//! `consent list | withdraw`.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::Value;

use super::office;
use crate::admin::Command;

/// What people let applications do.
#[derive(Subcommand)]
pub(crate) enum ConsentCommand {
    /// List the applications that a user let in
    List(ListConsents),
    /// Take a consent back: the application's grants and tokens end with it
    Withdraw(WithdrawConsent),
}

/// Arguments of `consent list`.
#[derive(Args)]
pub(crate) struct ListConsents {
    /// The user's login name
    login: String,
    #[command(flatten)]
    installation: super::Installation,
}

/// Arguments of `consent withdraw`.
#[derive(Args)]
pub(crate) struct WithdrawConsent {
    /// The user's login name
    login: String,
    /// The application's client id
    client: String,
    #[command(flatten)]
    installation: super::Installation,
}

/// Runs a `consent` command.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn run(command: ConsentCommand) -> anyhow::Result<u8> {
    match command {
        ConsentCommand::List(list) => {
            let command = Command::ConsentList { login: list.login };
            let answer = office::carry_out(&list.installation.config, command)?;
            list.installation.show(&answer, listing);
        }
        ConsentCommand::Withdraw(withdraw) => {
            let command =
                Command::ConsentWithdraw { login: withdraw.login, client: withdraw.client };
            let answer = office::carry_out(&withdraw.installation.config, command)?;
            withdraw.installation.show(&answer, |answer| {
                let client = text(answer, "client");
                format!("withdrawn; the grants and tokens of {client} have ended\n")
            });
        }
    }
    Ok(0)
}

fn listing(answer: &Value) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["client", "may", "since", "live grants"]);
    for app in answer.as_array().into_iter().flatten() {
        let grants = app.get("grants").and_then(Value::as_u64).unwrap_or_default();
        table.add_row([
            text(app, "client"),
            text(app, "consented"),
            text(app, "given"),
            grants.to_string(),
        ]);
    }
    format!("{table}\n")
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
