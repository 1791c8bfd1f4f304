//! The journey of a login, and what it mints: the authorization server's rules.
//!
//! Knows no HTTP framework, no Cedar, no gateway: its rules are tested by calling functions. The
//! binary's `house/` turns requests into these calls and the outcomes into pages.

pub mod server;
pub mod settings;
pub mod outcome;
mod desk;
pub mod parts;
pub mod keyring;
pub mod keys;
pub mod authorize;
pub mod login;
pub mod consent;
pub mod code;
mod subject;
mod documents;
pub mod token;
pub mod revoke;
pub mod introspect;
pub mod userinfo;
pub mod registration;
pub mod sessions;
pub mod logout;
pub mod maintenance;
pub mod discovery;
pub mod account;
#[cfg(test)]
mod testing;
