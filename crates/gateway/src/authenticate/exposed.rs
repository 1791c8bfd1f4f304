//! Credentials that arrived where none may: in a query, or in clear. Refused, and revoked if they are
//! alive and whoever read them could use them (`1-product`, "Defaults that are promises").

use std::sync::Arc;

use portcullis_core::jose::claims::AccessClaims;
use portcullis_core::jose::jws;
use portcullis_core::jose::verify::{OPAQUE_PREFIX, Verified};

use super::credential::looks_like_key;
use super::{Seen, key, verify_now};
use crate::api_keys::LiveKey;
use crate::house::{self, Exposure};
use crate::hygiene::Cleansed;
use crate::journey::{Halt, Worker};
use crate::memory::Credentials;
use crate::record::Draft;
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

/// A live credential of ours that showed itself.
pub(crate) enum Exposed {
    /// An access token.
    Token(Arc<Verified<AccessClaims>>),
    /// An API key.
    Key(Arc<LiveKey>),
}

impl Exposed {
    /// Whether it is of use to who read it. What is bound is not: it is only refused.
    pub(crate) fn is_usable(&self) -> bool {
        match self {
            Exposed::Token(verified) => verified.claims().cnf.is_none(),
            Exposed::Key(_) => true,
        }
    }
}

/// Verifies a credential that arrived where none may; `None` unless it is a live one of ours.
///
/// Charges nobody, since any page can make its readers' browsers ask for an address with a forged
/// token in it, and so spend the failures of an office, which its login shares. What bounds the work
/// instead is that every such token waits in the slow lane.
pub(crate) async fn verify_exposed(
    worker: &Worker,
    snapshot: &Snapshot,
    seen: Seen,
    text: &str,
) -> Option<Exposed> {
    if looks_like_key(text.as_bytes()) {
        let found = key::find(worker, snapshot, text).ok()?;
        return (seen.at < found.expires).then_some(Exposed::Key(found));
    }
    if !text.starts_with(OPAQUE_PREFIX) {
        // An API's own `access_token` costs it no wait.
        jws::parse(text).ok()?;
    }
    Box::pin(worker.slow_lane.wait()).await.ok()?;
    let verified = verify_now(worker, snapshot, seen, text).ok()?;
    Some(Exposed::Token(Arc::new(verified)))
}

/// Credentials looked at in one query: more are no client's.
const MAX_SHOWN: usize = 2;

/// Refuses a token in the query (RFC 6750 §2.3, RFC 9700 §4.3.2: it lands in logs and histories), or
/// an API key under whatever name, and revokes what is alive. On a line open to `anyone`,
/// `access_token` may be the API's own parameter, so there only a live token of ours is refused.
pub(super) async fn refuse_exposed(
    worker: &Worker,
    snapshot: &Snapshot,
    (cleansed, query, reads): (&Cleansed, &str, Credentials),
    draft: &Draft<'_>,
) -> Result<(), Halt> {
    let mut refused = None;
    for shown in shown_in_query(query).take(MAX_SHOWN) {
        let seen = Seen { ip: cleansed.ip, at: cleansed.at };
        match verify_exposed(worker, snapshot, seen, &shown.text).await {
            Some(exposed) if exposed.is_usable() => {
                let exposure = Exposure {
                    authority: &cleansed.authority,
                    path: &cleansed.path,
                    ip: cleansed.ip,
                    request_id: draft.id.as_str(),
                };
                house::report_exposed(&worker.gateway.house, &exposure, exposed).await;
                refused = Some(Refusal::CredentialExposed);
            }
            Some(_) => refused = refused.or(Some(Refusal::CredentialInQuery)),
            None => match (reads, shown.by) {
                (Credentials::Token | Credentials::TokenOrKey, By::Name) => {
                    refused = refused.or(Some(Refusal::CredentialInQuery));
                }
                (Credentials::Unread, By::Name) | (_, By::Looks) => {}
            },
        }
    }
    refused.map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// Whether a query may name a token or a key at all: nearly none does.
pub(super) fn names_token(query: &str) -> bool {
    query.contains("access_token=") || query.contains("=pk_") || query.contains('%')
}

/// What may be a credential in a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) text: String,
    by: By,
}

/// By what it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// It is called `access_token` (RFC 6750 §2.3).
    Name,
    /// It begins as API keys do, under another name: other products have `api_key`, `key` …
    Looks,
}

/// The values of a query that may be credentials of ours, escapes decoded.
pub(crate) fn shown_in_query(query: &str) -> impl Iterator<Item = Shown> {
    query.split('&').filter_map(|pair| pair.split_once('=')).filter_map(|(name, value)| {
        if name == "access_token" || (name.contains('%') && decoded(name) == "access_token") {
            return Some(Shown { text: decoded(value), by: By::Name });
        }
        let text = value.starts_with(['p', '%']).then(|| decoded(value));
        let text = text.filter(|text| looks_like_key(text.as_bytes()))?;
        Some(Shown { text, by: By::Looks })
    })
}

/// Decodes `%41`; what is no escape stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = tail.first_chunk::<2>().filter(|_| *first == b'%');
        let byte = escape.and_then(|hex| std::str::from_utf8(hex).ok());
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_found_in_any_query() {
        let table = [
            ("access_token=a.b.c", Some("a.b.c")),
            ("api_key=pk_a", Some("pk_a")),
            ("x=1&k=%70%6b%5Fa", Some("pk_a")),
            ("k=p%6b_a", Some("pk_a")),
            ("k=spk_a", None),
            ("pk_a=1", None),
            ("pk_a", None),
            ("x=1&access_token=a%2Eb", Some("a.b")),
            ("acc%65ss_token=a", Some("a")),
            ("access_token=", Some("")),
            ("access_token", None),
            ("xaccess_token=a", None),
            ("x=access_token", None),
            ("%=1&%zz=2", None),
        ];
        for (query, expected) in table {
            let shown = shown_in_query(query).next().map(|shown| shown.text);
            assert_eq!(shown.as_deref(), expected, "{query}");
            assert!(expected.is_none() || names_token(query), "{query}");
        }
    }
}
