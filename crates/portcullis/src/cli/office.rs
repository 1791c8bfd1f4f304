//! How a command reaches the store: through a running server's socket, or by opening the store
//! itself when none runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_core::entropy::ProviderEntropy;
use portcullis_core::revocation::Revoked;
use portcullis_core::seal::Sealer;
use portcullis_core::time::Clock;
use portcullis_store::database::Store;
use serde_json::Value;

use crate::admin::{self, Command, Facts, Office};
use crate::clock::SystemClock;
use crate::config::{self, Colour, Purpose};
use crate::files;
use crate::server::FileRefused;

/// Has a command carried out for the installation of a config file.
///
/// # Errors
/// A refused file, or the command's own refusal.
pub(super) fn carry_out(path: &Path, command: Command) -> anyhow::Result<Value> {
    let clock = Arc::new(SystemClock);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let read = config::read(path, clock.now(), Purpose::Serve);
    let config = match read {
        Ok(config) => config,
        Err(rejected) => {
            // A file that a slip has broken must not keep anybody from disabling a user: a server
            // that runs beside it knows the version in force.
            let answer = runtime.block_on(admin::socket::ask(&data_beside(path), &command))?;
            return answer.ok_or_else(|| FileRefused(rejected.render(Colour::Never)).into());
        }
    };
    let data = &config.server.data;
    if let Some(answer) = runtime.block_on(admin::socket::ask(data, &command))? {
        return Ok(answer);
    }
    files::private_directory(data)?;
    let entropy = ProviderEntropy::default();
    let key = files::key_encryption_key(&data.join("kek"), &entropy)?;
    let sealer = Sealer::new(vec![(1, key)], &config.identity.issuer.to_string());
    let store = Store::open(&data.join("portcullis.db"), Arc::new(Revoked::new()), clock.clone())?;
    let office = Office {
        store: &store,
        sealer: &sealer,
        entropy: &entropy,
        now: clock.now(),
        facts: Arc::new(Facts::of(&config)),
        identity: None,
    };
    let answer = runtime.block_on(admin::perform(&office, command));
    store.close();
    answer
}

/// The data directory of a file that is refused: what it says, as far as it can be read, or where it
/// is by default.
fn data_beside(path: &Path) -> PathBuf {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    let server = table.get("server").and_then(toml::Value::as_table);
    let written = server.and_then(|server| server.get("data")).and_then(toml::Value::as_str);
    path.parent().unwrap_or(Path::new(".")).join(written.unwrap_or("data"))
}
