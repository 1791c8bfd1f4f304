//! `signing-key list | rotate | kill`.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::Value;

use super::office;
use crate::admin::Command;

/// The keys that tokens are signed with.
#[derive(Subcommand)]
pub(crate) enum SigningKeyCommand {
    /// List the keys with their states
    List(ListKeys),
    /// Put the next keys in force, if they have been published for a day; otherwise say when
    Rotate(RotateKeys),
    /// Kill a key: everything that it signed is dead before this returns
    Kill(KillKey),
}

/// Arguments of `signing-key list`.
#[derive(Args)]
pub(crate) struct ListKeys {
    #[command(flatten)]
    installation: super::Installation,
}

/// Arguments of `signing-key rotate`.
#[derive(Args)]
pub(crate) struct RotateKeys {
    /// Do not wait until the next keys have been published for a day: verifiers that keep the old key
    /// set refuse new tokens until they fetch it anew
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    installation: super::Installation,
}

/// Arguments of `signing-key kill`.
#[derive(Args)]
pub(crate) struct KillKey {
    /// The key's id
    #[arg(allow_hyphen_values = true)]
    kid: String,
    #[command(flatten)]
    installation: super::Installation,
}

/// Runs a `signing-key` command.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn run(command: SigningKeyCommand) -> anyhow::Result<u8> {
    match command {
        SigningKeyCommand::List(list) => {
            let answer = office::carry_out(&list.installation.config, Command::SigningKeyList)?;
            list.installation.show(&answer, listing);
        }
        SigningKeyCommand::Rotate(rotate) => {
            let command = Command::SigningKeyRotate { now: rotate.now };
            let answer = office::carry_out(&rotate.installation.config, command)?;
            rotate.installation.show(&answer, listing);
        }
        SigningKeyCommand::Kill(kill) => {
            let command = Command::SigningKeyKill { kid: kill.kid };
            let answer = office::carry_out(&kill.installation.config, command)?;
            kill.installation.show(&answer, |answer| {
                format!("killed {}: everything that it signed is refused\n", text(answer, "kid"))
            });
        }
    }
    Ok(0)
}

fn listing(answer: &Value) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "kid",
        "signs",
        "algorithm",
        "state",
        "since",
        "next step",
    ]);
    for key in answer.as_array().into_iter().flatten() {
        let row = ["kid", "use", "algorithm", "state", "since", "next"];
        table.add_row(row.map(|name| text(key, name)));
    }
    format!("{table}\n")
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
