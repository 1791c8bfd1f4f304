//! OAuth messages as they arrive and as they are answered (RFC 6749, OAuth 2.1 draft, RFC 9700).
//!
//! These are words, not rules: whether a request may be granted is identity's.

pub mod authorize;
pub mod token;
pub mod refresh;
pub mod details;
pub mod pkce;
pub mod error;
pub mod metadata;
