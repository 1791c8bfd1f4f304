//! The one integration binary: the product as it ships, through its front door.
//!
//! Each test starts the real binary in a folder and at ports of its own (`support`), so that they
//! run in any order and all at once. `tidy` reads the sources instead; `attacks` runs the corpus of
//! `tests/attacks`. What a stage does in detail is tested beside its code.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on ends with a panic"
)]
#![allow(clippy::disallowed_methods, reason = "the server under test reads the wall clock too")]

mod support;

mod tidy;
mod standards;
mod unauthorized;
mod attacks;
mod login;
mod token;
mod gateway;
mod limits;
mod crash;
mod admin;
mod cli;
mod config;
