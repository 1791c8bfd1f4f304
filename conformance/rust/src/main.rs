//! The crates `openidconnect` and `oauth2` against a running Portcullis: each check a line, a sum
//! for each crate. Started by `conformance/clients.sh`, which says where things stand.

mod connect;
mod http;
mod oauth;
mod stage;

use std::process::ExitCode;

fn main() -> ExitCode {
    let judged = [connect::judge(), oauth::judge()];
    if judged.iter().all(|passed| *passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
