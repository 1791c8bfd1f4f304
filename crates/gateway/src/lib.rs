//! The journey of a request: accept, hygiene, limits, route, authenticate, authorise, forward,
//! record. The order is fixed in code ([`journey`]); each stage's type is born in its own file
//! with private fields, so that no stage can be skipped.
//!
//! Knows neither store nor identity: no request waits for a database.

pub mod journey;
mod plain;
pub mod listen;
pub mod tls;
pub mod guard;
pub mod wire;
pub mod hygiene;
pub mod limit;
pub mod route;
pub mod cors;
pub mod fetch;
pub mod foreign;
pub mod authenticate;
pub mod api_keys;
mod tokens;
mod memory;
pub mod authorize;
pub mod body;
pub mod owners;
mod shadow;
mod answers;
pub mod forward;
pub mod house;
pub mod passport;
pub mod upstream;
pub mod relay;
pub mod refusal;
pub mod record;
pub mod snapshot;
#[cfg(test)]
mod trial;
