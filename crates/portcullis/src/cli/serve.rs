//! `serve`: the server, until a signal.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::entropy::ProviderEntropy;

use crate::clock::SystemClock;
use crate::config::Purpose;
use crate::journal::Form;
use crate::server::{Server, Start};

/// How long running requests may take once we are asked to end.
const GRACE: Duration = Duration::from_secs(20);

/// Serves the file until SIGTERM or an interrupt.
///
/// # Errors
/// A refused file, an address that cannot be bound, a store that cannot be opened.
pub(crate) fn run(
    config: PathBuf,
    purpose: Purpose,
    shadow: Option<PathBuf>,
) -> anyhow::Result<u8> {
    let form = if std::io::stdout().is_terminal() { Form::Readable } else { Form::Json };
    let server = Server::start(Start {
        config,
        shadow,
        purpose,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(ProviderEntropy::default()),
        records: Box::new(std::io::stdout()),
        form,
    })?;
    for address in server.addresses() {
        tracing::info!(%address, "serving");
    }
    if purpose == Purpose::Dev {
        eprint!("{}", server.introduction()?);
    }
    server.wait()?;
    tracing::info!("draining");
    server.stop(GRACE);
    Ok(0)
}
