//! What `serve --dev` says at its start: where everything is, and the first user, who is made when
//! the store has none.

use std::fmt::Write as _;

use portcullis_core::entropy::ProviderEntropy;
use portcullis_identity::account::{self, Making, NewUser};
use portcullis_store::database::StoreFault;

use super::Live;
use crate::local_ca;

/// The first user's login name.
const FIRST: &str = "dev";

/// The text; makes the first user when there is none.
pub(super) async fn introduction(live: &Live) -> anyhow::Result<String> {
    let snapshot = live.snapshot();
    let mut text = format!("\n  login  {}\n", snapshot.issuer);
    for api in snapshot.apis.values() {
        let _ = writeln!(text, "  api    {}  ->  {}", api.audience, api.upstream.address);
    }
    let _ = writeln!(text, "  CA     {}", local_ca::certificate_path(&live.bound.data).display());
    let known: Result<usize, StoreFault> =
        live.store.read(async |tx| Ok(tx.users("", 1).await?.len())).await;
    if known? == 0 {
        text.push_str(&first_user(live).await?);
    }
    text.push('\n');
    Ok(text)
}

/// On a laptop the first user holds every role that the file names, so that each line can be tried.
async fn first_user(live: &Live) -> anyhow::Result<String> {
    let making = Making {
        store: &live.store,
        sealer: live.identity.sealer(),
        entropy: &ProviderEntropy::default(),
        now: live.now(),
    };
    let roles = live.facts().roles.clone();
    let new = NewUser { login: FIRST.into(), roles, ..NewUser::default() };
    let added = account::add_user(&making, new).await?;
    Ok(format!("  user   {FIRST}, password {} (shown this once)\n", added.password.expose()))
}
