//! What the server does by itself every few seconds: lets identity rotate its keys and send its logout
//! tokens, gives the gateway new keys, and writes down when API keys were used.

use std::sync::Arc;
use std::time::Duration;

use portcullis_identity::maintenance::Ticked;
use portcullis_store::database::StoreFault;

use super::{Live, compose};

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_secs(5);

/// Goes round until the end begins.
pub(super) async fn run(live: Arc<Live>) {
    let mut origins = compose::spa_origins(&compose::current(&live.identity));
    while !live.is_draining() {
        tokio::time::sleep(PAUSE).await;
        // A client that registered itself may call from a page of its own (RFC 7591).
        let found = compose::spa_origins(&compose::current(&live.identity));
        if found != origins {
            apart(&live, Live::take_pages).await;
            origins = found;
        }
        round(&live).await;
    }
}

async fn round(live: &Arc<Live>) {
    let uses = live.gateway.key_uses.take();
    if !uses.is_empty() {
        let noted: Result<(), StoreFault> =
            live.store.transact(async move |tx| tx.note_api_key_uses(&uses).await).await;
        if let Err(fault) = noted {
            tracing::warn!(%fault, "the last use of API keys was not written down");
        }
    }
    match live.identity.tick().await {
        Ticked::Quiet => {}
        Ticked::KeysChanged => apart(live, Live::take_keys).await,
    }
}

/// Whatever waits for the turn does so on a thread of its own. A reload that holds it may in turn be
/// waiting for what only this runtime's thread can finish.
async fn apart(live: &Arc<Live>, take: fn(&Live)) {
    let live = live.clone();
    if tokio::task::spawn_blocking(move || take(&live)).await.is_err() {
        tracing::error!("the gateway's snapshot was not renewed");
    }
}
