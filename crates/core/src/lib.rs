//! The words of Portcullis: ids, secrets, OAuth messages, JOSE, limits, refusals.
//!
//! Everything here is a pure function of its arguments: no socket, file, runtime, wall clock,
//! SQL, HTTP framework or policy engine. Randomness comes through [`entropy::Entropy`], time
//! through [`time::Clock`]. So each rule can be tested by a table, and an auditor can read this
//! crate alone. Modules stand in reading order.

pub mod fault;
pub mod id;
pub mod secret;
pub mod time;
pub mod entropy;
pub mod hash;
pub mod bearer;
pub mod seal;
pub mod scope;
pub mod web;
pub mod client;
pub mod certificate;
pub mod oauth;
pub mod jose;
pub mod api_key;
pub mod otp;
pub mod limit;
pub mod revocation;
pub mod fetch;
pub mod foreign;
pub mod denial;
pub mod audit;
