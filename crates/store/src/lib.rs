//! What is remembered: SQL behind one seam, one file per thing remembered.
//!
//! SQLite has one writer thread: closures of [`database::Store::transact`] run there inside
//! `BEGIN IMMEDIATE`, each in a savepoint of its own, with one commit per at most 2 ms,
//! acknowledged after it (`synchronous = FULL`). Nothing here knows OAuth's rules or HTTP.

// The seam, what crosses it, and the database behind it.
pub mod database;

mod row;

mod sqlite;

mod migrate;

// Proofs, and what is remembered.
pub mod active;

pub mod meta;

pub mod keys;

pub mod users;

pub mod credentials;

pub mod sessions;

pub mod devices;

pub mod grants;

pub mod consents;

pub mod device_logins;

pub mod clients;

pub mod api_keys;

pub mod used;

pub mod revocations;

pub mod logouts;

#[cfg(test)]
mod testing;

#[cfg(test)]
mod ends;
