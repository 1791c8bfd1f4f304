//! The Unix socket in the data directory: one JSON line in, one JSON line out. Only the user that
//! runs the server (or root) is heard: the peer's credentials are the kernel's word.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use portcullis_core::entropy::ProviderEntropy;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::{Command, Office};
use crate::server::Live;

/// Longest command or answer, in bytes.
const LINE_MAX: u64 = 1024 * 1024;
/// Longest wait for a command.
const PATIENCE: Duration = Duration::from_secs(10);

/// Wait after a connection that could not be accepted.
const BREATH: Duration = Duration::from_millis(100);

/// Where the socket stands.
pub(crate) fn path(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// Binds the socket and serves it on the current runtime.
///
/// # Errors
/// When the socket cannot be bound.
pub(crate) async fn serve(live: Arc<Live>, data: &Path) -> anyhow::Result<()> {
    let path = path(data);
    // The store's lock says that no other server uses this directory: a socket left here is stale.
    drop(std::fs::remove_file(&path));
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("the socket `{}` cannot be bound", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(data)?);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: asking again at once would only take a core.
                tokio::time::sleep(BREATH).await;
                continue;
            };
            let heard = stream.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0);
            if heard {
                tokio::spawn(tokio::time::timeout(PATIENCE, converse(live.clone(), stream)));
            }
        }
    });
    Ok(())
}

async fn converse(live: Arc<Live>, stream: UnixStream) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LINE_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Command>(&line) {
        Ok(command) => carry_out(&live, command).await,
        Err(fault) => Err(fault.into()),
    };
    let answer = match answer {
        Ok(value) => json!({ "ok": value }),
        Err(fault) => json!({ "error": format!("{fault:#}") }),
    };
    write.write_all(format!("{answer}\n").as_bytes()).await?;
    Ok(())
}

async fn carry_out(live: &Arc<Live>, command: Command) -> anyhow::Result<Value> {
    let stale = match command {
        Command::ClientAdd { .. } => Stale::Clients,
        Command::ClientKeyAdd { .. } | Command::ClientKeyRevoke { .. } => Stale::ApiKeys,
        Command::SigningKeyRotate { .. } | Command::SigningKeyKill { .. } => Stale::Keys,
        Command::UserAdd { .. }
        | Command::UserList
        | Command::UserDisable { .. }
        | Command::UserLabels { .. }
        | Command::ClientList
        | Command::ClientKeyList { .. }
        | Command::SessionList { .. }
        | Command::SessionEnd { .. }
        | Command::ConsentList { .. }
        | Command::ConsentWithdraw { .. }
        | Command::SigningKeyList
        | Command::Reload => Stale::Nothing,
    };
    if matches!(command, Command::Reload) {
        return reload(live).await;
    }
    let entropy = ProviderEntropy::default();
    let office = Office {
        store: &live.store,
        sealer: live.identity.sealer(),
        entropy: &entropy,
        now: live.now(),
        facts: live.facts(),
        identity: Some(&live.identity),
    };
    let answer = super::perform(&office, command).await?;
    match stale {
        Stale::Nothing => {}
        Stale::Clients => drop(reload(live).await?),
        Stale::ApiKeys => {
            let live = live.clone();
            tokio::task::spawn_blocking(move || live.take_api_keys()).await??;
        }
        // Not a reload: a bad file on disk must keep nobody from killing a stolen key. Before the
        // answer: a thief writes any `rev`, and only a key set without the key refuses that.
        Stale::Keys => {
            let live = live.clone();
            tokio::task::spawn_blocking(move || live.take_keys()).await?;
        }
    }
    Ok(answer)
}

/// What a command leaves outdated in the gateway's snapshot.
enum Stale {
    Nothing,
    Clients,
    ApiKeys,
    Keys,
}

async fn reload(live: &Arc<Live>) -> anyhow::Result<Value> {
    let live = live.clone();
    let generation =
        tokio::task::spawn_blocking(move || live.reload().map(|()| live.snapshot().generation))
            .await??;
    Ok(json!({ "generation": generation }))
}

/// Asks a running server; `None` when none runs.
///
/// # Errors
/// The server's own refusal, or a broken conversation.
pub(crate) async fn ask(data: &Path, command: &Command) -> anyhow::Result<Option<Value>> {
    let Ok(stream) = UnixStream::connect(path(data)).await else { return Ok(None) };
    let (read, mut write) = stream.into_split();
    write.write_all(format!("{}\n", serde_json::to_string(command)?).as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(read.take(LINE_MAX)).read_line(&mut line).await?;
    let mut answer: Value = serde_json::from_str(&line).context("the server broke off")?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        anyhow::bail!("{error}");
    }
    Ok(Some(answer.get_mut("ok").map(Value::take).unwrap_or_default()))
}
