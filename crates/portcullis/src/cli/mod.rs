//! The commands, a file each: arguments by clap, an exit code as the answer. None ends the process
//! itself; `main` does.

pub(crate) mod report;
pub(crate) mod check;
pub(crate) mod explain;
mod facts;
pub(crate) mod expect;
mod decisions;
pub(crate) mod replay;
pub(crate) mod init;
mod init_update;
pub(crate) mod example_config;
pub(crate) mod serve;
mod office;
pub(crate) mod user;
pub(crate) mod client;
pub(crate) mod client_key;
pub(crate) mod token;
pub(crate) mod session;
pub(crate) mod consent;
pub(crate) mod signing_key;
pub(crate) mod reload;

use std::path::PathBuf;

use serde_json::Value;

/// What every command that speaks of an installation takes.
#[derive(clap::Args)]
pub(crate) struct Installation {
    /// The config
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "portcullis.toml")]
    pub config: PathBuf,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

impl Installation {
    /// Prints an answer: as it is for machines, in words for people.
    fn show(&self, answer: &Value, words: impl Fn(&Value) -> String) {
        if self.json {
            println!("{answer}");
        } else {
            print!("{}", words(answer));
        }
    }
}
