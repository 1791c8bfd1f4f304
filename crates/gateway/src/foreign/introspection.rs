//! Asking an issuer about a token that only it can read (RFC 7662): one question per token at a time,
//! within 500 ms, and its answer remembered for seconds.
//!
//! An issuer that does not answer, or nothing that can be understood, is no verdict: the caller gets
//! 503, and nothing is remembered. How a verdict is read is [`super::answer`]'s.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_core::fetch::{Body, Fetch, FetchRequest, Fetched, NamedBy};
use portcullis_core::foreign::{ForeignIssuer, KeySource};
use portcullis_core::hash::sha256;
use portcullis_core::jose::base64url;
use portcullis_core::jose::claims::ForeignClaims;
use portcullis_core::secret::Secret;
use portcullis_core::time::Timestamp;
use portcullis_core::web::form_encode;
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::ForeignFault;
use super::answer::{self, BELIEVED};
use crate::fetch::MAX_PER_HOST;
use crate::fetch::seldom::Seldom;

/// From the question to its verdict, waiting for a place included (`3-gateway`, stage 6).
pub(super) const TIMEOUT: Duration = Duration::from_millis(500);
/// How long "not active" is believed: long enough that a client in a loop does not become the
/// issuer's problem, short enough that a token minted a moment ago is not lost.
pub(super) const DOUBTED: Duration = Duration::from_secs(5);
/// Verdicts remembered. Good and bad ones apart, so that a flood of invented tokens pushes out only
/// its own kind.
const MAX_ACTIVE: usize = 10_000;
/// Bad verdicts remembered.
const MAX_INACTIVE: usize = 10_000;
/// Questions to one issuer at once: one less than the fetcher has seats for a host, since its key
/// sets may be on the same one.
pub(super) const MAX_AT_ONCE: usize = MAX_PER_HOST - 1;
/// Tokens asked about at once, and askers that wait for an answer that is on its way.
pub(super) const MAX_QUESTIONS: usize = 256;
const MAX_WAITING: usize = 1024;
/// Issuers remembered.
const MAX_ISSUERS: usize = 256;
/// Longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What is asked about: the issuer's words and the token, as one digest.
type Question = [u8; 32];
/// An active token's claims, and until when they are believed.
type Verdict = Result<(Arc<ForeignClaims>, Timestamp), ForeignFault>;
/// Where a verdict will appear; closed without one when its task is gone.
type Coming = watch::Receiver<Option<Verdict>>;

/// Where questions are asked and answers remembered.
pub(super) struct Desk {
    fetch: Arc<dyn Fetch>,
    known: Arc<Known>,
    /// How many may ask an issuer at once.
    lanes: Mutex<HashMap<String, Arc<Semaphore>>>,
    waiting: Semaphore,
    /// [`TIMEOUT`]; a busy machine's tests are more patient.
    pub(super) limit: Duration,
}

/// What outlives an asker.
struct Known {
    active: Cache<Question, Remembered>,
    inactive: Cache<Question, Remembered>,
    coming: Mutex<HashMap<Question, Coming>>,
    warnings: Seldom,
}

/// A verdict from one moment to another; a clock that was set back ends it too.
#[derive(Clone)]
struct Remembered {
    from: Timestamp,
    until: Timestamp,
    verdict: Verdict,
}

impl Desk {
    pub(super) fn new(fetch: Arc<dyn Fetch>) -> Self {
        let known = Known {
            active: Cache::new(MAX_ACTIVE),
            inactive: Cache::new(MAX_INACTIVE),
            coming: Mutex::default(),
            warnings: Seldom::default(),
        };
        let waiting = Semaphore::new(MAX_WAITING);
        Desk { fetch, known: Arc::new(known), lanes: Mutex::default(), waiting, limit: TIMEOUT }
    }

    /// The verdict on a token.
    pub(super) async fn ask(
        &self,
        issuer: &Arc<ForeignIssuer>,
        token: &str,
        now: Timestamp,
    ) -> Verdict {
        let identity = super::identity(issuer);
        // INVARIANT: what is remembered is found only under the whole token and the very issuer.
        let question = sha256(&[identity.as_bytes(), b"\n\n", token.as_bytes()].concat());
        if let Some(verdict) = self.known.recall(&question, now) {
            return verdict;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Err(ForeignFault::Crowded) };
        let lane = self.lane(identity);
        let mut coming = self.question(question, issuer, token, (now, lane))?;
        match coming.wait_for(Option::is_some).await {
            Ok(verdict) => verdict.clone().unwrap_or(Err(ForeignFault::NeverReached)),
            Err(_) => Err(ForeignFault::NeverReached),
        }
    }

    /// The verdict that is on its way; asks when none is.
    fn question(
        &self,
        question: Question,
        issuer: &Arc<ForeignIssuer>,
        token: &str,
        (now, lane): (Timestamp, Arc<Semaphore>),
    ) -> Result<Coming, ForeignFault> {
        let mut coming = lock(&self.known.coming);
        if let Some(coming) = coming.get(&question) {
            return Ok(coming.clone());
        }
        if coming.len() >= MAX_QUESTIONS {
            return Err(ForeignFault::Crowded);
        }
        let (told, verdict) = watch::channel(None);
        coming.insert(question, verdict.clone());
        let entry = Entry { known: self.known.clone(), question };
        let (fetch, issuer) = (self.fetch.clone(), issuer.clone());
        let token = Secret::new(token.to_owned());
        let limit = self.limit;
        // A task of its own: an asker who goes away takes no other's answer along.
        tokio::spawn(async move {
            let verdict = match put(&*fetch, &issuer, &token, (&lane, limit)).await {
                Ok(Fetched { status: 200, body, .. }) => judged(&body, &issuer, now),
                Ok(Fetched { status, .. }) => {
                    // RFC 7662 §2.3: 401 says that it is us whom the issuer does not know.
                    if entry.known.warnings.due() {
                        tracing::warn!(issuer = issuer.name, status, "introspection was refused");
                    }
                    Err(ForeignFault::NeverReached)
                }
                Err(fault) => Err(fault),
            };
            entry.known.remember(question, now, &verdict);
            told.send(Some(verdict)).ok();
        });
        Ok(verdict)
    }

    fn lane(&self, identity: String) -> Arc<Semaphore> {
        let mut lanes = lock(&self.lanes);
        if lanes.len() >= MAX_ISSUERS {
            // Those that nobody is on: of issuers that a reload took away, for example.
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        let lane = lanes.entry(identity);
        lane.or_insert_with(|| Arc::new(Semaphore::new(MAX_AT_ONCE))).clone()
    }
}

impl Known {
    fn recall(&self, question: &Question, now: Timestamp) -> Option<Verdict> {
        let remembered = self.active.get(question).or_else(|| self.inactive.get(question))?;
        let holds = remembered.from <= now && now < remembered.until;
        holds.then_some(remembered.verdict)
    }

    /// Remembers a verdict; that nobody answered is none.
    fn remember(&self, question: Question, from: Timestamp, verdict: &Verdict) {
        let verdict = verdict.clone();
        match &verdict {
            Ok((_, until)) => {
                let until = *until;
                self.active.insert(question, Remembered { from, until, verdict });
            }
            Err(ForeignFault::NotForeign | ForeignFault::Token(_)) => {
                self.active.remove(&question);
                let until = from.after(DOUBTED);
                self.inactive.insert(question, Remembered { from, until, verdict });
            }
            Err(ForeignFault::NeverReached | ForeignFault::Crowded | ForeignFault::IssuerEnded) => {
            }
        }
    }
}

/// The entry of a question that is being asked; gone with its task, however that ends.
struct Entry {
    known: Arc<Known>,
    question: Question,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.known.coming).remove(&self.question);
    }
}

fn judged(body: &[u8], issuer: &ForeignIssuer, now: Timestamp) -> Verdict {
    let claims = answer::judge(body, issuer, now)?;
    let until = now.after(BELIEVED).min(Timestamp::from_unix(claims.exp));
    Ok((Arc::new(claims), until))
}

/// Puts the question, when a place is free.
async fn put(
    fetch: &dyn Fetch,
    issuer: &ForeignIssuer,
    token: &Secret<String>,
    (lane, limit): (&Semaphore, Duration),
) -> Result<Fetched, ForeignFault> {
    let KeySource::Introspection { endpoint, client_id, secret } = &issuer.source else {
        return Err(ForeignFault::NotForeign);
    };
    // One limit spans waiting and asking: whoever got a place too late does not ask at all.
    let latest = Instant::now() + limit;
    let place = tokio::time::timeout_at(latest, lane.acquire()).await;
    let left = latest.saturating_duration_since(Instant::now());
    let (Ok(Ok(_place)), false) = (place, left.is_zero()) else {
        return Err(ForeignFault::Crowded);
    };
    // RFC 7662 §2.1
    let form = format!("token={}&token_type_hint=access_token", form_encode(token.expose()));
    let asked = fetch.fetch(FetchRequest {
        url: endpoint.clone(),
        named_by: NamedBy::Config,
        post: Some(Body {
            content_type: "application/x-www-form-urlencoded",
            bytes: Secret::new(form.into_bytes()),
        }),
        authorization: Some(basic(client_id, secret)),
        accept: "application/json",
        max_bytes: MAX_ANSWER_BYTES,
        timeout: left,
    });
    Ok(asked.await?)
}

/// RFC 6749 §2.3.1: id and secret, each form-encoded, then RFC 7617 §2.
fn basic(client_id: &str, secret: &Secret<String>) -> Secret<String> {
    let pair = format!("{}:{}", form_encode(client_id), form_encode(secret.expose()));
    let pair = Secret::new(pair);
    let encoded = Secret::new(base64url::encode(pair.expose().as_bytes()));
    let mut field = String::from("Basic ");
    // RFC 4648 §4 differs from §5 by two characters and the padding.
    field.extend(encoded.expose().chars().map(|c| match c {
        '-' => '+',
        '_' => '/',
        other => other,
    }));
    field.extend(std::iter::repeat_n('=', (4 - encoded.expose().len() % 4) % 4));
    Secret::new(field)
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held, and what is in it is true between any two lines.
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
impl Desk {
    /// How many questions are being asked.
    pub(super) fn asking(&self) -> usize {
        lock(&self.known.coming).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_form_encoded_first() {
        for (id, secret, expected) in [
            ("a", "b", "Basic YTpi"),
            ("ab", "c", "Basic YWI6Yw=="),
            ("ab", "cd", "Basic YWI6Y2Q="),
            // `https%3A%2F%2Fa:%C3%BC%3A+` would be another reader's form; a space is `%20` here.
            ("s6BhdRkqt3", "gX1fBat3bV", "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW"),
            ("a:b", "c d/", "Basic YSUzQWI6YyUyMGQlMkY="),
        ] {
            assert_eq!(basic(id, &Secret::new(secret.into())).expose(), expected);
        }
    }
}
