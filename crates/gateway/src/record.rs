//! The record of a request, and the figures that metrics are made of.
//!
//! A [`Draft`] is opened when a request arrives and closed by its answer; one that is dropped
//! before (its client went away, its task was aborted) records that itself. So there is one record
//! per arrival. Where records go is the binary's.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Method, Uri};
use portcullis_core::audit::{Clause, MAX_TEXT, Part, Record, Shadow, moment, neutralise};
use portcullis_core::entropy::Entropy;
use portcullis_core::jose::base64url;
use portcullis_core::time::Timestamp;
use portcullis_policy::compile::AuditLevel;
use portcullis_policy::replay::Recorded;

use crate::authenticate::{Identified, Scheme};
use crate::house::HouseAnswer;
use crate::hygiene::Arrived;
use crate::journey::Gateway;
use crate::limit::Standing;
use crate::route::Destination;
use crate::snapshot::{ApiRoute, Snapshot};
use crate::tokens::Known;

/// Plain counters, read by the binary's `/metrics`.
#[derive(Default)]
#[allow(missing_docs, reason = "names are the metrics' own")]
pub struct Figures {
    pub connections_open: AtomicU64,
    pub connections_total: AtomicU64,
    pub requests_total: AtomicU64,
    pub refused_total: AtomicU64,
    pub forwarded_total: AtomicU64,
    pub upstream_errors_total: AtomicU64,
    pub tokens_verified_total: AtomicU64,
    pub token_cache_hits_total: AtomicU64,
    pub shadow_judged_total: AtomicU64,
    pub shadow_gained_total: AtomicU64,
    pub shadow_lost_total: AtomicU64,
    pub shadow_undecided_total: AtomicU64,
}

/// Adds one.
pub(crate) fn count(figure: &AtomicU64) {
    figure.fetch_add(1, Ordering::Relaxed);
}

/// Where a request is on its journey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Guard,
    Hygiene,
    PeerLimit,
    Route,
    Authenticate,
    CallerLimit,
    Authorize,
    Forward,
    House,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stage::Guard => "guard",
            Stage::Hygiene => "hygiene",
            Stage::PeerLimit => "peer_limit",
            Stage::Route => "route",
            Stage::Authenticate => "authenticate",
            Stage::CallerLimit => "limit",
            Stage::Authorize => "authorize",
            Stage::Forward => "forward",
            Stage::House => "house",
        }
    }
}

/// How a request ended, in the record's words.
pub(crate) struct Outcome {
    pub(crate) status: u16,
    pub(crate) decision: &'static str,
    pub(crate) reason: String,
}

/// What the record will say, as far as it is known.
pub(crate) struct Draft<'g> {
    gateway: &'g Gateway,
    pub(crate) id: RequestId,
    pub(crate) at: Timestamp,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    pub(crate) stage: Stage,
    pub(crate) ip: IpAddr,
    pub(crate) event: &'static str,
    pub(crate) rule: Option<Arc<str>>,
    /// The caller of a token; pages may name another.
    pub(crate) known: Option<Rc<Known>>,
    pub(crate) caller: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) standing: Option<Standing>,
    pub(crate) clauses: Vec<Clause>,
    /// What rules read of query, headers, body and owner.
    resource: Option<Part>,
    pub(crate) shadow: Option<Shadow>,
    pub(crate) audit: AuditLevel,
    /// The API, once it is known: for challenges.
    pub(crate) api: Option<Arc<ApiRoute>>,
    /// The scheme of the credential shown, or else of the challenge.
    pub(crate) scheme: Scheme,
    /// The origin that may read the answer from a browser.
    pub(crate) cors: Option<HeaderValue>,
    /// When the decision stood.
    pub(crate) decided: Option<Timestamp>,
    // INVARIANT: set by `close` alone; a draft dropped open records its own end.
    closed: Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    Yes,
    No,
}

impl<'g> Draft<'g> {
    /// Opens the draft of an arrival.
    pub(crate) fn open(gateway: &'g Gateway, ids: &RequestIds, arrived: &Arrived) -> Self {
        count(&gateway.figures.requests_total);
        let request = &arrived.request;
        Draft {
            gateway,
            id: ids.mint(gateway.entropy.as_ref()),
            at: arrived.at,
            // Kept apart from the request, which the stages take along and may drop: these clones
            // count references, they copy nothing.
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: request.headers().get(http::header::HOST).cloned(),
            stage: Stage::Guard,
            ip: arrived.connection.peer.ip(),
            event: "request",
            rule: None,
            known: None,
            caller: None,
            client: None,
            standing: None,
            clauses: Vec::new(),
            resource: None,
            shadow: None,
            audit: AuditLevel::All,
            api: None,
            scheme: Scheme::Bearer,
            cors: None,
            decided: None,
            closed: Closed::No,
        }
    }

    /// Marks the moment of the decision.
    pub(crate) fn decide(&mut self) {
        self.decided = Some(self.gateway.clock.now());
    }

    /// The gateway's figures.
    pub(crate) fn figures(&self) -> &'g Figures {
        &self.gateway.figures
    }

    /// Notes what a decision was made of besides the path and the token, where rules read more.
    pub(crate) fn note(&mut self, snapshot: &Snapshot, identified: &Identified) {
        let Destination::Operation { kit, resource } = identified.destination() else { return };
        if kit.pure || !self.tells_facts() {
            return;
        }
        let operation = snapshot.rules.operation(kit.id);
        let recorded = operation.and_then(|operation| Recorded::of(operation, resource));
        self.resource = recorded
            .and_then(|recorded| Part::of(&recorded).or_else(|| Part::of(&Recorded::too_large())));
    }

    /// Whether the record says what a decision was made of: for lines of an API alone.
    fn tells_facts(&self) -> bool {
        let is_judged = matches!(self.stage, Stage::Authorize | Stage::Forward);
        is_judged && self.api.is_some() && self.audit != AuditLevel::None
    }

    /// The nonce for the caller's next proof (RFC 9449 §8.2), where proofs are spoken of.
    pub(crate) fn nonce(&self) -> Option<HeaderValue> {
        match self.scheme {
            Scheme::Bearer => None,
            Scheme::Dpop => HeaderValue::try_from(self.gateway.proofs.nonce(self.at)).ok(),
        }
    }

    /// Writes the record.
    pub(crate) fn close(&mut self, outcome: Outcome) {
        self.closed = Closed::Yes;
        if outcome.decision != "allow" {
            count(&self.gateway.figures.refused_total);
        } else if !self.keeps_permits() {
            return;
        }
        let record = self.write(outcome);
        self.gateway.records.record(record);
    }

    /// Hands the record over to work that may outlast the request.
    pub(crate) fn hand_over(&mut self, gateway: &Arc<Gateway>) -> Late {
        let record = self.write(client_gone());
        self.closed = Closed::Yes;
        Late { gateway: gateway.clone(), at: self.at, record: Some(record) }
    }

    /// Takes it back: the request is still there when the work is done.
    pub(crate) fn take_back(&mut self, mut late: Late) {
        late.record = None;
        self.closed = Closed::No;
    }

    /// Whether the host asked is `localhost`.
    pub(crate) fn is_local(&self) -> bool {
        let local = |host: &[u8]| host.starts_with(b"localhost");
        match (&self.host, self.uri.authority()) {
            (Some(host), _) => local(host.as_bytes()),
            (None, Some(authority)) => local(authority.as_str().as_bytes()),
            (None, None) => false,
        }
    }

    fn keeps_permits(&self) -> bool {
        match self.audit {
            AuditLevel::None => false,
            AuditLevel::Sampled => fastrand::u8(0..100) == 0,
            AuditLevel::All | AuditLevel::Full => true,
        }
    }

    fn write(&mut self, outcome: Outcome) -> Record {
        let now = self.gateway.clock.now();
        let micros =
            |until: Timestamp| u64::try_from(until.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let refused = outcome.decision != "allow";
        let judged = refused || self.audit == AuditLevel::Full;
        let known = self.known.as_ref();
        let tells = self.tells_facts();
        Record {
            at: stamp(now),
            event: self.event,
            request: self.id.as_str().to_owned(),
            decision: outcome.decision,
            status: outcome.status,
            stage: self.stage.name(),
            reason: outcome.reason,
            method: self.method(),
            target: self.target(),
            rule: self.rule.as_deref().map(str::to_owned),
            caller: match (&self.caller, known) {
                (Some(caller), _) => neutralise(caller),
                (None, Some(known)) => known.label.clone(),
                (None, None) => "anyone".to_owned(),
            },
            client: match (&self.client, known) {
                (Some(client), _) => Some(neutralise(client)),
                // Another issuer's client may be any text.
                (None, known) => known.map(|known| neutralise(known.client())),
            },
            ip: self.ip.to_string(),
            limit: self.standing.as_ref().map(Standing::words),
            clauses: if judged { std::mem::take(&mut self.clauses) } else { Vec::new() },
            asked: self.api.is_some().then(|| self.at.unix()),
            facts: known.filter(|_| tells).and_then(|known| known.facts.clone()),
            resource: self.resource.take(),
            shadow: self.shadow.take(),
            decided_us: micros(self.decided.unwrap_or(now)),
            took_us: micros(now),
        }
    }

    fn method(&self) -> String {
        match self.method {
            Method::GET => "GET".to_owned(),
            _ => neutralise(self.method.as_str()),
        }
    }

    /// Host and path. The query stays out: it carries what people type.
    fn target(&self) -> String {
        let host = self.host.as_ref().map(|host| String::from_utf8_lossy(host.as_bytes()));
        let host = host.as_deref().or(self.uri.authority().map(|a| a.as_str())).unwrap_or("");
        let path = self.uri.path();
        let mut target = String::with_capacity(host.len() + path.len());
        target.push_str(host);
        target.push_str(path);
        // Nearly always there is nothing to neutralise, and looking at bytes costs less than at
        // characters.
        let plain = |byte: u8| matches!(byte, b' '..=b'~');
        if target.len() <= MAX_TEXT && target.bytes().fold(true, |all, byte| all & plain(byte)) {
            return target;
        }
        neutralise(&target)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.closed == Closed::No {
            self.close(client_gone());
        }
    }
}

/// 499: no answer was given, because nobody was there to take it.
fn client_gone() -> Outcome {
    Outcome { status: 499, decision: "error", reason: "ClientGone".to_owned() }
}

/// The record of a page's work, while the work has it: written when dropped.
pub(crate) struct Late {
    gateway: Arc<Gateway>,
    at: Timestamp,
    record: Option<Record>,
}

impl Late {
    /// Takes note of what the work came to.
    pub(crate) fn learn(&mut self, answered: &HouseAnswer) {
        let now = self.gateway.clock.now();
        let Some(record) = &mut self.record else { return };
        let (decision, reason) = match &answered.outcome {
            Ok(rule) => ("allow", rule),
            Err(rule) => ("deny", rule),
        };
        record.at = stamp(now);
        record.event = answered.event;
        record.status = answered.response.status().as_u16();
        record.decision = decision;
        record.reason.clone_from(reason);
        if let Some(caller) = &answered.caller {
            record.caller = neutralise(caller);
        }
        record.client = answered.client.as_deref().map(neutralise).or(record.client.take());
        record.took_us = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        // A task that panics is answered, and recorded, by the request that waits for it.
        if let Some(record) = self.record.take().filter(|_| !std::thread::panicking()) {
            if record.decision != "allow" {
                count(&self.gateway.figures.refused_total);
            }
            self.gateway.records.record(record);
        }
    }
}

thread_local! {
    /// The last moment written on this thread: its second, and its text up to the fraction.
    static LAST: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// [`moment`], whose date is worked out once a second: it would be the dearest part of a record.
fn stamp(now: Timestamp) -> String {
    LAST.with_borrow_mut(|(second, text)| {
        if *second != now.unix() || text.is_empty() {
            let whole = moment(Timestamp::from_unix(now.unix()));
            let cut = whole.find('.').map_or(whole.len(), |dot| dot + 1);
            *text = whole;
            text.truncate(cut);
            *second = now.unix();
        }
        let millis = now.nanos().rem_euclid(1_000_000_000) / 1_000_000;
        let mut stamp = String::with_capacity(text.len() + 4);
        stamp.push_str(text);
        for digit in [millis / 100, millis / 10 % 10, millis % 10] {
            stamp.push(char::from(b'0' + u8::try_from(digit).unwrap_or_default()));
        }
        stamp.push('Z');
        stamp
    })
}

/// A `Request-Id`: the kind's prefix and 128 random bits, ready to be sent.
#[derive(Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(crate) fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Ids asked from the provider at once: a call for each would be the dearest part of an id.
const BATCH: usize = 64;
/// Random bytes in an id.
const ID_BYTES: usize = 16;

/// Mints the ids of one worker.
#[derive(Default)]
pub(crate) struct RequestIds(RefCell<Vec<u8>>);

impl RequestIds {
    fn mint(&self, entropy: &dyn Entropy) -> RequestId {
        let mut stock = self.0.borrow_mut();
        if stock.len() < ID_BYTES {
            stock.resize(ID_BYTES * BATCH, 0);
            entropy.fill(&mut stock);
        }
        let rest = stock.len().saturating_sub(ID_BYTES);
        let text = format_id(stock.get(rest..).unwrap_or_default());
        stock.truncate(rest);
        let value = HeaderValue::from_maybe_shared(Bytes::from(text));
        RequestId(value.expect("base64url is printable ASCII"))
    }
}

fn format_id(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(24);
    text.push_str("r_");
    text.push_str(&base64url::encode(bytes));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_core::entropy::SeededEntropy;

    #[test]
    fn a_stamp_is_the_moment() {
        let mut nanos = vec![0, 1, 999_999, 1_000_000, 999_999_999, 1_000_000_000, -1, -1_000_000];
        nanos.extend((0..200).map(|step| 1_800_000_000_000_000_000 + step * 123_456_789));
        for nanos in nanos {
            let now = Timestamp::from_nanos(nanos);
            assert_eq!(stamp(now), moment(now), "{nanos}");
        }
    }

    #[test]
    fn request_ids_are_apart_and_shaped() {
        let (ids, entropy) = (RequestIds::default(), SeededEntropy::new(1));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let id = ids.mint(&entropy);
            assert!(id.as_str().starts_with("r_") && id.as_str().len() == 24, "{}", id.as_str());
            let parsed =
                portcullis_core::id::Id::<portcullis_core::id::Request>::parse(id.as_str());
            assert!(parsed.is_ok());
            assert!(seen.insert(id.as_str().to_owned()));
        }
    }
}
