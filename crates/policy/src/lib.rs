//! What a caller may do: the access table, Cedar underneath, deny by default.
//!
//! A decision is a pure function of (rules, request): no HTTP, no SQL, no clock. The admin API,
//! the gateway and every command ask the same functions; a [`decide::Permit`] is minted only here.
//! Modules stand in reading order: the table's line, what it is read into, how it is judged.

pub mod access;
mod account;
pub mod body;
pub mod cedar_alone;
mod cedar_files;
mod clause;
pub mod compile;
mod compiled;
mod condition;
pub mod credential;
pub mod coverage;
pub mod decide;
mod declared;
mod documented;
pub mod entities;
mod entry;
pub mod expect;
pub mod explain;
mod expr;
pub mod field;
mod gaps;
mod line;
mod lookalike;
mod nearest;
pub mod openapi;
mod operation;
mod owner;
mod parameter;
pub mod query;
pub mod replay;
pub mod resource;
mod response;
mod schema;
mod settings;
mod shape;
mod split;
mod stage;
mod step_up;
pub mod table;
mod types;

#[cfg(test)]
mod testing;
