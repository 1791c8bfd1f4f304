//! What the server does by itself, a little at a time: rotate keys, send logout tokens.
//!
//! Each round reads, and writes only what is due: nothing is written while idle. A part that fails
//! is logged and tried again in the next round, and holds up no other.

use crate::desk::Desk;
use crate::keys;
use crate::logout::back_channel;

/// What a tick came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ticked {
    /// Nothing that others must know.
    Quiet,
    /// The keys changed: the gateway needs a new snapshot.
    KeysChanged,
}

/// One round.
pub(crate) async fn tick(desk: &Desk) -> Ticked {
    if let Err(fault) = keys::tend(desk).await {
        tracing::error!(%fault, "the signing keys could not be tended");
    }
    // Told by the caller before a client is waited for: a slow one must not hold up new keys.
    if desk.shared.keyring.news() {
        return Ticked::KeysChanged;
    }
    if let Err(fault) = back_channel::send_due(desk).await {
        tracing::error!(%fault, "logout tokens could not be sent");
    }
    Ticked::Quiet
}
