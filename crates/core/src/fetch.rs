//! Fetching: one request to another server and its bounded answer, as words. The one guarded fetcher
//! is the gateway's; key sets, client documents, logout tokens, introspection go through it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::secret::Secret;

/// Who named the address: decides where it may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The operator's file: private addresses are allowed, `https` is demanded except to loopback.
    Config,
    /// A request, a client or another server's document: public addresses alone, `https` alone.
    Stranger,
}

/// What to fetch.
pub struct FetchRequest {
    /// The whole address.
    pub url: String,
    /// Who named it.
    pub named_by: NamedBy,
    /// A form or JSON to `POST`; `None` is a `GET`.
    pub post: Option<Body>,
    /// An `Authorization` field.
    pub authorization: Option<Secret<String>>,
    /// What is wanted (`Accept`).
    pub accept: &'static str,
    /// Largest answer, in bytes; a longer one is a fault.
    pub max_bytes: usize,
    /// From connect to the last byte.
    pub timeout: Duration,
}

/// A body to send.
pub struct Body {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its bytes.
    pub bytes: Secret<Vec<u8>>,
}

/// A bounded answer.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The status; a redirect is returned as it is, never followed.
    pub status: u16,
    /// `Content-Type`, lower case, without parameters.
    pub content_type: Option<String>,
    /// `max-age` of `Cache-Control`; `None` also for `no-store`.
    pub max_age: Option<Duration>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchFault {
    /// Not an absolute https address (or http to loopback, of the config).
    #[error("the address `{0}` cannot be fetched; it must be https")]
    AddressUnfit(String),
    /// It leads to an address that its namer may not send us to (private, link-local, loopback …).
    #[error("the host `{0}` leads to an address that may not be fetched")]
    AddressForbidden(String),
    /// Not connected, or broken off.
    #[error("`{0}` cannot be reached")]
    Unreachable(String),
    /// Not in time.
    #[error("`{0}` did not answer in time")]
    Slow(String),
    /// Longer than asked for.
    #[error("`{0}` answered more than was asked for")]
    TooLarge(String),
    /// Too many fetches at once.
    #[error("too many fetches at once")]
    Crowded,
}

/// The future of an answer.
pub type Fetching<'f> = Pin<Box<dyn Future<Output = Result<Fetched, FetchFault>> + Send + 'f>>;

/// Fetches.
pub trait Fetch: Send + Sync {
    /// One request, one answer; no redirect, no cookie, no retry.
    fn fetch(&self, request: FetchRequest) -> Fetching<'_>;
}
