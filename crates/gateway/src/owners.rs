//! Stage 8, where a rule reads `resource.owner`: the API itself is asked whose the object is.
//!
//! Over the API's own lane, in our name for this caller, with nothing of the client's: no field, no
//! cookie, no token. Within 300 ms, 4 KiB, no redirect. An owner, or "not there" (404); everything
//! else is no answer, and no answer never allows. Whether the owner may is policy's.
//!
//! Only what permitted is remembered, by (object, principal), for seconds and for reads alone: a
//! denial that stays would hide an object from its new owner, and a write must see the owner of now.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use portcullis_core::hash::sha256;
use portcullis_core::limit::Limit;
use portcullis_core::time::Timestamp;
use portcullis_policy::body::{self, BodyShape};
use portcullis_policy::compile::{LookupPiece, OwnerLookup};
use portcullis_policy::field::MAX_TEXT_BYTES;
use portcullis_policy::resource::Resource;
use quick_cache::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::authenticate::Presence;
use crate::forward;
use crate::hygiene::Cleansed;
use crate::journey::Worker;
use crate::limit;
use crate::memory::{Kit, NamedLimit};
use crate::record::Draft;
use crate::refusal::Refusal;
use crate::relay::Upload;
use crate::snapshot::{HostField, Snapshot};
use crate::upstream::Lane;

/// From the question to its answer, waiting for a place included (`3-gateway`, stage 8).
pub const TIMEOUT: Duration = Duration::from_millis(300);
/// Longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 4 * 1024;
/// Look-ups with upstreams at once.
const MAX_AT_ONCE: usize = 64;
/// Look-ups that are under way or wait for a place.
const MAX_QUESTIONS: usize = 1024;
/// How long a look-up that permitted is believed.
const BELIEVED: Duration = Duration::from_secs(5);
/// Look-ups remembered.
const MAX_KEPT: usize = 10_000;

/// The name and the rate of refused ids: whoever walks through ids runs out of them soon, and the
/// API is not asked on their behalf any more.
const REFUSED_OBJECTS: &str = "refused_objects";
const REFUSED_OBJECTS_RATE: &str = "30/min per user, burst 30";

/// What is asked: generation, API, target, field, and for whom, as one digest.
type Question = [u8; 32];
/// The owner, or that there is no such object.
type Answered = Result<Option<Arc<str>>, OwnerFault>;
/// Where an answer will appear; closed without one when its task is gone.
type Coming = watch::Receiver<Option<Answered>>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerFault {
    /// Too many look-ups.
    #[error("too many look-ups at once")]
    Crowded,
    /// Nothing within [`TIMEOUT`].
    #[error("no answer in time")]
    Slow,
    /// No connection, or an answer that breaks HTTP's rules.
    #[error("{0}")]
    Unreachable(String),
    /// Another status than 200 and 404: also a redirect, which is never followed.
    #[error("it answered {0}")]
    StatusForeign(u16),
    /// Longer than 4 KiB.
    #[error("its answer is longer than 4 KiB")]
    TooLong,
    /// Not JSON, a member doubled, or no text or whole number where the owner should stand.
    #[error("its answer names no owner")]
    Unreadable,
}

/// Where owners are asked for: one for all workers.
pub struct Owners {
    kept: Cache<Question, Kept>,
    coming: Arc<Mutex<HashMap<Question, Coming>>>,
    places: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    /// Part of every question: what was asked before it moved is found by nobody after.
    epoch: AtomicU64,
    refused: NamedLimit,
    /// [`TIMEOUT`]; a busy machine's tests are more patient.
    limit: Duration,
}

/// An owner from one moment to another; a clock that was set back ends it too.
#[derive(Clone)]
struct Kept {
    from: Timestamp,
    until: Timestamp,
    owner: Arc<str>,
}

impl Default for Owners {
    fn default() -> Self {
        let rate = Limit::parse(REFUSED_OBJECTS_RATE).expect("a constant, read by a test");
        Owners {
            kept: Cache::new(MAX_KEPT),
            coming: Arc::default(),
            places: Arc::new(Semaphore::new(MAX_AT_ONCE)),
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            epoch: AtomicU64::new(0),
            refused: NamedLimit::new(&REFUSED_OBJECTS.into(), &Arc::new(rate)),
            limit: TIMEOUT,
        }
    }
}

#[cfg(test)]
impl Owners {
    /// With another limit of time.
    pub(crate) fn within(limit: Duration) -> Self {
        Owners { limit, ..Owners::default() }
    }

    /// How many look-ups are being made or wait.
    pub(crate) fn asking(&self) -> usize {
        MAX_QUESTIONS - self.questions.available_permits()
    }
}

/// One request that wants to know.
pub(crate) struct Errand<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) kit: &'a Rc<Kit>,
    pub(crate) lookup: &'a OwnerLookup,
    pub(crate) cleansed: &'a Cleansed,
    pub(crate) presence: &'a Presence,
    pub(crate) resource: &'a Resource,
}

/// What a look-up came to.
pub(crate) struct Looked {
    /// `None`: there is no such object.
    pub(crate) owner: Option<Arc<str>>,
    /// What may be remembered, should it permit.
    news: Option<(Question, Timestamp)>,
}

impl Owners {
    /// Forgets every owner, also those that are being asked for: objects changed hands.
    pub fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.kept.clear();
    }

    /// Whose the object is.
    ///
    /// # Errors
    /// [`Refusal::ObjectsExhausted`] before anything is asked; [`Refusal::OwnerUnavailable`].
    pub(crate) async fn look_up(
        &self,
        errand: &Errand<'_>,
        draft: &mut Draft<'_>,
    ) -> Result<Looked, Refusal> {
        // Policy hands out no parameter that is not one whole segment; were it so, nothing is there.
        let Some(target) = target(errand) else { return Ok(Looked { owner: None, news: None }) };
        let now = errand.worker.gateway.clock.now();
        let question = self.question(errand, &target);
        // INVARIANT: writes neither read what is remembered nor join who asked before them.
        let reads = matches!(errand.cleansed.parts.method, Method::GET | Method::HEAD);
        if let Some(owner) = self.recall(&question, now).filter(|_| reads) {
            return Ok(Looked { owner: Some(owner), news: None });
        }
        let counting = (errand.cleansed.ip, errand.presence);
        let counters = errand.worker.gateway.counters.as_ref();
        if let Some(standing) = limit::objects_exhausted(counters, &self.refused, counting, now) {
            draft.standing = Some(standing);
            return Err(Refusal::ObjectsExhausted);
        }
        let request = request(errand, target, draft).ok_or(Refusal::Miswired)?;
        let owner = match reads {
            true => self.join(question, errand, request, now).await,
            false => match self.turn() {
                Ok(turn) => heard(self.ask(errand, (request, now), (turn, None))).await,
                Err(fault) => Err(fault),
            },
        };
        let owner = owner.map_err(Refusal::OwnerUnavailable)?;
        Ok(Looked { owner, news: reads.then_some((question, now)) })
    }

    /// Remembers a look-up that permitted.
    pub(crate) fn keep(&self, looked: Looked) {
        if let (Some(owner), Some((question, from))) = (looked.owner, looked.news) {
            self.kept.insert(question, Kept { from, until: from.after(BELIEVED), owner });
        }
    }

    /// Charges an id that was not the caller's, whatever the reason: the refusal to answer with.
    pub(crate) fn charge(
        &self,
        errand: &Errand<'_>,
        refusal: Refusal,
        draft: &mut Draft<'_>,
    ) -> Refusal {
        let counting = (errand.cleansed.ip, errand.presence);
        let (counters, now) = (errand.worker.gateway.counters.as_ref(), draft.at);
        match limit::charge_object(counters, &self.refused, counting, now) {
            Some(standing) => {
                draft.standing = Some(standing);
                Refusal::ObjectsExhausted
            }
            None => refusal,
        }
    }

    fn recall(&self, question: &Question, now: Timestamp) -> Option<Arc<str>> {
        let kept = self.kept.get(question)?;
        (kept.from <= now && now < kept.until).then_some(kept.owner)
    }

    /// The answer that is on its way to the same principal; asks when none is.
    async fn join(
        &self,
        question: Question,
        errand: &Errand<'_>,
        request: Request<Upload>,
        now: Timestamp,
    ) -> Answered {
        heard(self.coming(question, errand, (request, now))?).await
    }

    fn coming(
        &self,
        question: Question,
        errand: &Errand<'_>,
        asked: (Request<Upload>, Timestamp),
    ) -> Result<Coming, OwnerFault> {
        let mut all = lock(&self.coming);
        if let Some(coming) = all.get(&question) {
            return Ok(coming.clone());
        }
        let turn = self.turn()?;
        let entry = Entry { coming: self.coming.clone(), question };
        let coming = self.ask(errand, asked, (turn, Some(entry)));
        all.insert(question, coming.clone());
        Ok(coming)
    }

    fn turn(&self) -> Result<OwnedSemaphorePermit, OwnerFault> {
        self.questions.clone().try_acquire_owned().map_err(|_| OwnerFault::Crowded)
    }

    /// Asks, in a task of its own: an asker who goes away takes no other's answer along.
    fn ask(
        &self,
        errand: &Errand<'_>,
        (request, now): (Request<Upload>, Timestamp),
        held: (OwnedSemaphorePermit, Option<Entry>),
    ) -> Coming {
        let (told, coming) = watch::channel(None);
        let (lane, places) = (errand.kit.lane.clone(), self.places.clone());
        let (field, limit) = (errand.lookup.field.clone(), self.limit);
        tokio::task::spawn_local(async move {
            let asking = async {
                // Places are never closed.
                let _place = places.acquire_owned().await.map_err(|_| OwnerFault::Crowded)?;
                put(&lane, request, (now, &field)).await
            };
            let answered = tokio::time::timeout(limit, asking).await;
            told.send(Some(answered.unwrap_or(Err(OwnerFault::Slow)))).ok();
            drop(held);
        });
        coming
    }

    /// INVARIANT: the parts are of fixed number and each is behind its length, so that no two
    /// questions are one.
    fn question(&self, errand: &Errand<'_>, target: &str) -> Question {
        let principal = match errand.presence {
            Presence::Token(known) => known.caller.label(),
            Presence::Unread => String::new(),
        };
        let texts = [&*errand.kit.api.name, target, &*errand.lookup.field, &principal];
        let mut bytes = Vec::with_capacity(64 + texts.iter().map(|text| text.len()).sum::<usize>());
        for number in [errand.snapshot.generation, self.epoch.load(Ordering::Acquire)] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for text in texts {
            bytes.extend_from_slice(&text.len().to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        sha256(&bytes)
    }
}

/// The entry of a question that is being asked; gone with its task, however that ends.
struct Entry {
    coming: Arc<Mutex<HashMap<Question, Coming>>>,
    question: Question,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.coming).remove(&self.question);
    }
}

async fn heard(mut coming: Coming) -> Answered {
    let gone = || OwnerFault::Unreachable("the look-up was given up".into());
    let answered = coming.wait_for(Option::is_some).await.map_err(|_| gone())?;
    answered.clone().unwrap_or_else(|| Err(gone()))
}

/// The look-up's target: the upstream's own path, and behind it the pieces, each value as one segment.
fn target(errand: &Errand<'_>) -> Option<String> {
    let prefix = errand.kit.api.upstream.address.path();
    spelt(prefix, &errand.lookup.path, &errand.resource.parameters)
}

fn spelt(prefix: &str, pieces: &[LookupPiece], parameters: &[(String, String)]) -> Option<String> {
    let mut text = prefix.to_owned();
    for piece in pieces {
        match piece {
            LookupPiece::Literal(literal) => text.push_str(literal),
            LookupPiece::Parameter(position) => {
                let (_, value) = parameters.get(*position)?;
                // RFC 3986 §5.2.4: a dot segment is no object but a step to another.
                if value.is_empty() || value == "." || value == ".." {
                    return None;
                }
                encode(value, &mut text);
            }
        }
    }
    Some(text)
}

/// RFC 3986 §2.1, §2.3: everything but the unreserved is escaped, so a value never leaves its segment.
fn encode(value: &str, text: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit));
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.extend(['%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

/// What the API is asked: nothing of it is the client's but the segment.
fn request(errand: &Errand<'_>, target: String, draft: &Draft<'_>) -> Option<Request<Upload>> {
    let mut request = Request::new(Upload::none());
    *request.uri_mut() = Uri::from(PathAndQuery::try_from(target).ok()?);
    let host = match errand.kit.api.host {
        HostField::Upstream => errand.kit.host.clone(),
        // One of ours: hygiene lets no other through.
        HostField::Keep => errand.worker.visitors.of(errand.cleansed).host.clone(),
    };
    let passport = forward::passport(errand.snapshot, errand.kit, errand.presence, draft.at);
    let fields = request.headers_mut();
    fields.insert(header::HOST, host);
    fields.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    fields.insert(forward::IDENTITY, passport);
    fields.insert(forward::REQUEST_ID, draft.id.value());
    Some(request)
}

async fn put(
    lane: &Rc<Lane>,
    request: Request<Upload>,
    (now, field): (Timestamp, &str),
) -> Answered {
    let unreachable = |fault: &dyn std::fmt::Display| OwnerFault::Unreachable(fault.to_string());
    let exchange = forward::exchange(lane, request, now).await;
    // Whatever ends this early drops the connection with what it still has to say.
    let (response, engaged) = exchange.map_err(|fault| unreachable(&fault))?;
    forward::judge(&response).map_err(|refusal| unreachable(&refusal.reason()))?;
    let (parts, body) = response.into_parts();
    if body.size_hint().lower() > MAX_ANSWER_BYTES as u64 {
        return Err(OwnerFault::TooLong);
    }
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|fault| match fault.is::<LengthLimitError>() {
        true => OwnerFault::TooLong,
        false => unreachable(&fault),
    })?;
    engaged.release();
    // Read whatever the status is: "not there" is to take as long as "not yours".
    let owner = owner_in(&body.to_bytes(), field);
    match parts.status {
        StatusCode::OK => owner.map(Some).ok_or(OwnerFault::Unreadable),
        StatusCode::NOT_FOUND => Ok(None),
        other => Err(OwnerFault::StatusForeign(other.as_u16())),
    }
}

/// The owner in an answer: a text or a whole number at the pointer (RFC 6901).
fn owner_in(bytes: &[u8], pointer: &str) -> Option<Arc<str>> {
    use serde_json::Value;
    // Of two members of one name, another reader may take the other one.
    body::read(&BodyShape::Any, &[], bytes).ok()?;
    let value: Value = serde_json::from_slice(bytes).ok()?;
    match value.pointer(pointer)? {
        Value::String(text) if (1..=MAX_TEXT_BYTES).contains(&text.len()) => {
            Some(text.as_str().into())
        }
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            Some(number.to_string().into())
        }
        Value::String(_) | Value::Number(_) => None,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held, and what is in it is true between any two lines.
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_never_leaves_its_segment() {
        let literal = |text: &str| LookupPiece::Literal(text.into());
        let pieces = [literal("/internal/owner/"), LookupPiece::Parameter(1), literal("/x")];
        let spelt = |value: &str| {
            let parameters = [("a".into(), "no".into()), ("id".into(), value.to_owned())];
            super::spelt("/base", &pieces, &parameters)
        };
        for (value, segment) in [
            ("i-1", "i-1"),
            ("a b", "a%20b"),
            ("a/b", "a%2Fb"),
            ("../x", "..%2Fx"),
            ("a?b=c#d", "a%3Fb%3Dc%23d"),
            ("100%", "100%25"),
            ("a%2Fb", "a%252Fb"),
            ("café", "caf%C3%A9"),
            ("a\r\nhost: x", "a%0D%0Ahost%3A%20x"),
            ("...", "..."),
        ] {
            let expected = format!("/base/internal/owner/{segment}/x");
            assert_eq!(spelt(value).as_deref(), Some(&*expected), "{value}");
        }
        for nothing in ["", ".", ".."] {
            assert_eq!(spelt(nothing), None, "{nothing}");
        }
        assert_eq!(super::spelt("", &[LookupPiece::Parameter(0)], &[]), None);
    }

    #[test]
    fn an_owner_is_a_text_or_a_whole_number() {
        let long = format!(r#"{{"owner":"{}"}}"#, "a".repeat(MAX_TEXT_BYTES + 1));
        for (answer, pointer, owner) in [
            (r#"{"owner":"u_alice"}"#, "/owner", Some("u_alice")),
            (r#"{"owner":42}"#, "/owner", Some("42")),
            (r#"{"owner":-1}"#, "/owner", Some("-1")),
            (r#"{"owner":18446744073709551615}"#, "/owner", Some("18446744073709551615")),
            (r#"{"data":[{"a/b":"u_alice"}]}"#, "/data/0/a~1b", Some("u_alice")),
            (r#""u_alice""#, "", Some("u_alice")),
            (r#"{"owner":42.0}"#, "/owner", None),
            (r#"{"owner":1e2}"#, "/owner", None),
            (r#"{"owner":-0}"#, "/owner", None),
            (r#"{"owner":18446744073709551616}"#, "/owner", None),
            (r#"{"owner":""}"#, "/owner", None),
            (r#"{"owner":null}"#, "/owner", None),
            (r#"{"owner":true}"#, "/owner", None),
            (r#"{"owner":["u_alice"]}"#, "/owner", None),
            (r#"{"owner":{"id":"u_alice"}}"#, "/owner", None),
            (r#"{"other":"u_alice"}"#, "/owner", None),
            (r#"{"owner":"u_alice"} {}"#, "/owner", None),
            (r#"{"owner":"u_alice""#, "/owner", None),
            (r#"owner=u_alice"#, "/owner", None),
            ("", "/owner", None),
            (&long, "/owner", None),
        ] {
            assert_eq!(owner_in(answer.as_bytes(), pointer).as_deref(), owner, "{answer}");
        }
    }

    #[test]
    fn an_answer_with_doubled_members_names_no_owner() {
        for answer in [
            r#"{"owner":"u_alice","owner":"u_bob"}"#,
            r#"{"owner":"u_bob","\u006fwner":"u_alice"}"#,
            r#"{"owner":"u_bob","Owner":"u_alice"}"#,
            r#"{"owner":"u_alice","x":{"y":1,"y":2}}"#,
        ] {
            assert_eq!(owner_in(answer.as_bytes(), "/owner"), None, "{answer}");
        }
    }

    #[test]
    fn the_rate_of_refused_ids_is_read() {
        let owners = Owners::default();
        assert_eq!(owners.refused.limit.rates[0].burst, 30);
        assert_eq!(owners.refused.limit.rates[0].count, 30);
        assert_eq!(owners.refused.policies.len(), 1);
    }

    #[test]
    fn what_is_remembered_ends_and_can_be_forgotten() {
        let owners = Owners::default();
        let now = Timestamp::from_unix(1_800_000_000);
        let looked = |news| Looked { owner: Some("u_alice".into()), news };
        owners.keep(looked(Some(([1; 32], now))));
        owners.keep(looked(None));
        owners.keep(Looked { owner: None, news: Some(([2; 32], now)) });
        let recall = |question: u8, now| owners.recall(&[question; 32], now).as_deref().is_some();
        assert!(recall(1, now) && recall(1, now.after(Duration::from_millis(4_999))));
        assert!(!recall(1, now.after(BELIEVED)), "it ends");
        assert!(!recall(1, Timestamp::from_unix(1_799_999_999)), "also with the clock set back");
        assert!(!recall(2, now), "what is not there is not remembered");
        owners.forget();
        assert!(!recall(1, now));
        assert_eq!(owners.epoch.load(Ordering::Relaxed), 1);
    }
}
