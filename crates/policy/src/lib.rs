//! What a caller may do: the access table, Cedar underneath, deny by default.
//!
//! A decision is a pure function of (rules, request): no HTTP, no SQL, no clock. The admin API,
//! the gateway and every command ask the same functions; a [`decide::Permit`] is minted only here.
//! Modules stand in reading order: the table's line, what it is read into, how it is judged.

pub mod access;
mod clause;
pub mod compile;
mod condition;
pub mod credential;
pub mod coverage;
pub mod decide;
mod documented;
pub mod entities;
pub mod explain;
mod gaps;
mod line;
mod lookalike;
mod nearest;
pub mod openapi;
mod parameter;
mod schema;
mod shape;
pub mod table;
mod types;

#[cfg(test)]
mod testing;
