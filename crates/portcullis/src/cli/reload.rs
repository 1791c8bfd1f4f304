//! `reload --wait`: has the running server read its file again, and says what came of it.

use std::path::Path;

use anyhow::bail;
use serde_json::Value;

use crate::admin::{Command, socket};
use crate::clock::SystemClock;
use crate::config::{self, Colour, Purpose};
use crate::server::FileRefused;
use portcullis_core::time::Clock;

/// Reloads.
///
/// # Errors
/// A refused file (the version in force stays), or no running server.
pub(crate) fn run(path: &Path) -> anyhow::Result<u8> {
    let config = config::read(path, SystemClock.now(), Purpose::Serve)
        .map_err(|rejected| FileRefused(rejected.render(Colour::Never)))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(socket::ask(&config.server.data, &Command::Reload))? {
        Some(answer) => {
            let generation = answer.get("generation").and_then(Value::as_u64).unwrap_or_default();
            println!("loaded; generation {generation} is in force");
            Ok(0)
        }
        None => bail!("no server runs in `{}`", config.server.data.display()),
    }
}
