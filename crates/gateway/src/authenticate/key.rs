//! API keys: a MAC tells ours from garbage without a look-up, the snapshot tells which are alive.

use std::sync::Arc;

use portcullis_core::api_key;

use super::CredentialFault;
use crate::api_keys::LiveKey;
use crate::journey::Worker;
use crate::snapshot::Snapshot;

/// The live key of a text. When it may be used, and from where, is asked on each request.
pub(super) fn find(
    worker: &Worker,
    snapshot: &Snapshot,
    text: &str,
) -> Result<Arc<LiveKey>, CredentialFault> {
    let id = api_key::read(&worker.gateway.sealer, text).ok_or(CredentialFault::KeyForged)?;
    // Ours, but not alive: revoked, ended, or its client is gone.
    snapshot.api_keys.find(&id).cloned().ok_or(CredentialFault::KeyDead)
}
