//! JOSE, the narrow part that Portcullis speaks: compact JWS (RFC 7515), JWK (7517), JWT (7519),
//! by the best current practice (RFC 8725).
//!
//! The key decides the algorithm, never the header (RFC 8725 §3.1); `typ` is checked first
//! (§3.11); unknown `crit` is refused; nothing in a header is ever fetched or used as a key.

pub mod base64url;
mod strict;
pub mod jwk;
mod jwk_set;
pub mod jws;
pub mod algorithm;
pub mod claims;
pub mod verify;
pub mod sign;
pub mod dpop;

#[cfg(test)]
mod forging;
