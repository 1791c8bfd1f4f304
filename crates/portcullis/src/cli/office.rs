//! How a command reaches the store: through a running server's socket, or by opening the store
//! itself when none runs.

use std::path::Path;
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
    let config = config::read(path, clock.now(), Purpose::Serve)
        .map_err(|rejected| FileRefused(rejected.render(Colour::Never)))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
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
        facts: Facts::of(&config),
    };
    let answer = runtime.block_on(admin::perform(&office, command));
    store.close();
    answer
}
