//! Tokens of others at the edge: whose a token is, by which keys it is verified, and who is asked about
//! one that nobody can read.
//!
//! ```text
//! three dotted parts   `iss`, not yet believed, finds the issuer in the file's list → its keys → core
//!                      verifies (or, where the issuer wants to be asked, introspection)
//! anything else        introspection (RFC 7662) at the issuers that offer it
//! ```
//! The list is the operator's, and so is every address that is contacted: nothing in a token (`jku`,
//! `x5u`, `jwk`, a `kid` that looks like an address, the `iss` itself) is ever fetched. What the claims
//! are good for here is [`portcullis_core::foreign::mapped`]'s to say, and whether a bound token came
//! with its proof is for [`crate::authenticate`].

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::fetch::{Fetch, FetchFault};
use portcullis_core::foreign::{FindingKeys, ForeignIssuer, ForeignKeys, KeySource};
use portcullis_core::jose::claims::ForeignClaims;
use portcullis_core::jose::jws::{self, MAX_TOKEN, TokenFault};
use portcullis_core::jose::verify::{self, Verified};
use portcullis_core::time::{Clock, Timestamp};
use serde_json::Value;

mod source;
mod keys;
mod answer;
mod introspection;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod introspection_tests;

use introspection::Desk;
use keys::KeySets;

/// How long a verified token may be believed without being verified again: a key that its issuer
/// withdrew stops counting this soon after the key set was renewed.
const MAX_BELIEF: Duration = Duration::from_secs(60);
/// Beginnings of our own opaque texts: they are shown to nobody else, not even when they are dead.
const OURS: [&str; 3] = ["at_", "rt_", "pk_"];

/// What is known of other issuers; one for the process.
pub struct Foreign {
    keys: KeySets,
    desk: Desk,
}

impl Foreign {
    /// Knows nothing yet; asks when the first token comes.
    pub fn new(fetch: Arc<dyn Fetch>, clock: Arc<dyn Clock>) -> Self {
        Foreign { keys: KeySets::new(fetch.clone(), clock), desk: Desk::new(fetch) }
    }
}

impl ForeignKeys for Foreign {
    fn keys<'k>(&'k self, issuer: &'k ForeignIssuer, kid: Option<&'k str>) -> FindingKeys<'k> {
        Box::pin(self.keys.find(issuer, kid))
    }
}

/// Why a token is not one of another issuer, or cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignFault {
    /// No issuer of the list made it, or knows it.
    #[error("no issuer of the list knows the token")]
    NotForeign,
    /// Its issuer is not accepted any more (`until`).
    #[error("the issuer is not accepted any more")]
    IssuerEnded,
    /// It is an issuer's, and breaks a rule.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// Its issuer could not be asked: nobody can say (503).
    #[error("the issuer could not be reached")]
    NeverReached,
    /// Too many wait for its issuer (503).
    #[error("too many wait for the issuer")]
    Crowded,
}

impl From<FetchFault> for ForeignFault {
    fn from(fault: FetchFault) -> Self {
        match fault {
            FetchFault::Crowded => ForeignFault::Crowded,
            FetchFault::AddressUnfit(_)
            | FetchFault::AddressForbidden(_)
            | FetchFault::Unreachable(_)
            | FetchFault::Slow(_)
            | FetchFault::TooLarge(_) => ForeignFault::NeverReached,
        }
    }
}

/// A token that another issuer stands for; made by [`recognise`] alone.
#[derive(Clone)]
pub struct Recognised {
    issuer: Arc<ForeignIssuer>,
    proof: Proof,
    believed_until: Timestamp,
}

#[derive(Clone)]
enum Proof {
    /// Its signature was verified.
    Signed(Arc<Verified<ForeignClaims>>),
    /// Its issuer said that it is active.
    Answered(Arc<ForeignClaims>),
}

impl Recognised {
    /// Whose it is.
    pub fn issuer(&self) -> &Arc<ForeignIssuer> {
        &self.issuer
    }

    /// What it says.
    pub fn claims(&self) -> &ForeignClaims {
        match &self.proof {
            Proof::Signed(verified) => verified.claims(),
            Proof::Answered(claims) => claims,
        }
    }

    /// The key that signed it; `None` for an answer.
    pub fn kid(&self) -> Option<&str> {
        match &self.proof {
            Proof::Signed(verified) => verified.kid(),
            Proof::Answered(_) => None,
        }
    }

    /// Until when it may be believed without asking here again; never later than its `exp`, nor than
    /// its issuer's `until`.
    pub fn believed_until(&self) -> Timestamp {
        self.believed_until
    }
}

/// Finds the issuer of a token, and has it stand for the token.
///
/// # Errors
/// [`ForeignFault`]; of several issuers that can be asked, the last one's, where none knows it.
pub async fn recognise(
    foreign: &Foreign,
    issuers: &[Arc<ForeignIssuer>],
    token: &str,
    now: Timestamp,
) -> Result<Recognised, ForeignFault> {
    if token.len() > MAX_TOKEN {
        return Err(ForeignFault::Token(TokenFault::TooLong));
    }
    // A dead one of ours is nobody's business; none begins as the header of a JWS does.
    if OURS.iter().any(|beginning| token.starts_with(beginning)) {
        return Err(ForeignFault::NotForeign);
    }
    if token.split('.').count() != 3 {
        return ask_around(foreign, issuers, token, now).await;
    }
    let (iss, kid) = peek(token)?;
    // RFC 8725 §3.8: byte for byte. Not yet believed; it only says whose keys to try.
    let issuer = issuers.iter().find(|issuer| issuer.issuer == iss);
    let issuer = issuer.ok_or(ForeignFault::NotForeign)?;
    ended(issuer, now)?;
    if let KeySource::Introspection { .. } = issuer.source {
        return answered(foreign, issuer, token, now).await;
    }
    let keys = foreign.keys.find(issuer, kid.as_deref()).await?;
    let verified = verify::foreign_token(token, &keys, issuer, now)?;
    let proof = Proof::Signed(Arc::new(verified));
    Ok(recognised(issuer, proof, now.after(MAX_BELIEF)))
}

/// Asks the issuers that want to be asked, in the file's order, until one knows the token.
async fn ask_around(
    foreign: &Foreign,
    issuers: &[Arc<ForeignIssuer>],
    token: &str,
    now: Timestamp,
) -> Result<Recognised, ForeignFault> {
    // RFC 6750 §2.1: other characters no bearer token has.
    let shaped = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || !token.bytes().all(shaped) {
        return Err(ForeignFault::NotForeign);
    }
    let mut last = ForeignFault::NotForeign;
    for issuer in issuers {
        if !matches!(issuer.source, KeySource::Introspection { .. }) {
            continue;
        }
        let asked = match ended(issuer, now) {
            Ok(()) => answered(foreign, issuer, token, now).await,
            Err(ended) => Err(ended),
        };
        match asked {
            Ok(recognised) => return Ok(recognised),
            // Who does not know it says nothing against what another said.
            Err(ForeignFault::NotForeign) => {}
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

async fn answered(
    foreign: &Foreign,
    issuer: &Arc<ForeignIssuer>,
    token: &str,
    now: Timestamp,
) -> Result<Recognised, ForeignFault> {
    let (claims, until) = foreign.desk.ask(issuer, token, now).await?;
    Ok(recognised(issuer, Proof::Answered(claims), until))
}

fn recognised(issuer: &Arc<ForeignIssuer>, proof: Proof, until: Timestamp) -> Recognised {
    let mut recognised = Recognised { issuer: issuer.clone(), proof, believed_until: until };
    let exp = Timestamp::from_unix(recognised.claims().exp);
    let ends = issuer.until.unwrap_or(exp);
    recognised.believed_until = until.min(exp).min(ends);
    recognised
}

/// The operator's last day for an issuer.
fn ended(issuer: &ForeignIssuer, now: Timestamp) -> Result<(), ForeignFault> {
    match issuer.until {
        Some(until) if now >= until => Err(ForeignFault::IssuerEnded),
        Some(_) | None => Ok(()),
    }
}

/// The `iss` and the `kid` of a token that nobody has verified.
fn peek(token: &str) -> Result<(String, Option<String>), TokenFault> {
    let unverified = jws::parse(token)?;
    let claims = jws::strict_object(&unverified.payload)?;
    let iss = claims.get("iss").and_then(Value::as_str).ok_or(TokenFault::ClaimMalformed)?;
    Ok((iss.to_owned(), unverified.kid))
}

/// What an issuer's words in the file amount to: another word, another identity, and nothing that was
/// learned under the old one counts. No secret is in it.
fn identity(issuer: &ForeignIssuer) -> String {
    let source = match &issuer.source {
        KeySource::Discovery => "",
        KeySource::Address(url) => url,
        KeySource::Introspection { endpoint, .. } => endpoint,
    };
    let ForeignIssuer { name, issuer, algorithms, audience, .. } = issuer;
    format!("{name}\n{issuer}\n{source}\n{algorithms:?}\n{audience:?}")
}
