//! Bodies for fuzzing: each takes any bytes, calls the product's readers with them, and panics when
//! something that must hold does not.
//!
//! The same bodies run boxed in time under `cargo test` (`tests/boxed.rs`, on stable) and without
//! end under libFuzzer (`README.md`). Pure noise rarely gets past the first check of a reader, so
//! each body reads its bytes twice: as they are, and as choices of a grammar that writes nearly
//! right input ([`source`]). A body never asserts *that* something is accepted, only what follows
//! when it is.

pub mod source;
mod text;
mod tokens;

pub use text::{addresses, limit_words, parameters, scopes, times};
pub use tokens::{jwk_set, private_keys, sealed, signed_claims, token};

/// A body.
pub type Body = fn(&[u8]);

/// Every body with its name, for the runners.
pub const BODIES: &[(&str, Body)] = &[
    ("token", token),
    ("signed_claims", signed_claims),
    ("jwk_set", jwk_set),
    ("private_keys", private_keys),
    ("sealed", sealed),
    ("parameters", parameters),
    ("limit_words", limit_words),
    ("scopes", scopes),
    ("addresses", addresses),
    ("times", times),
];
