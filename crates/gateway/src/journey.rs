//! The journey of a request, one straight function.
//!
//! The order of the stages carries security meaning; the reason stands beside each line. Each
//! stage's type is born in its own file with private fields, so none can be skipped.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::{self, HeaderName, HeaderValue};
use portcullis_core::audit::Records;
use portcullis_core::entropy::Entropy;
use portcullis_core::jose::dpop::ProofDesk;
use portcullis_core::limit::Counters;
use portcullis_core::revocation::Revoked;
use portcullis_core::seal::Sealer;
use portcullis_core::time::Clock;

use crate::api_keys::KeyUses;
use crate::authenticate::{self, SlowLane};
use crate::authorize;
use crate::body::Room;
use crate::cors;
use crate::foreign::Foreign;
use crate::forward;
use crate::house::House;
use crate::hygiene::{self, Arrived};
use crate::limit;
use crate::memory::{Kits, Visitors};
use crate::owners::Owners;
use crate::plain;
use crate::record::{Draft, Outcome, RequestIds, Stage};
use crate::refusal::Refusal;
use crate::route;
use crate::snapshot::Snapshot;
use crate::tokens::TokenCache;
use crate::upstream::Pool;

/// What every request of this process shares.
pub struct Gateway {
    /// The generation in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Where limits are counted.
    pub counters: Arc<dyn Counters>,
    /// Revocations in force.
    pub revoked: Arc<Revoked>,
    /// Where DPoP proofs are judged: the login's too, so that a proof is good at one door once.
    pub proofs: Arc<ProofDesk>,
    /// What opens opaque access tokens and API keys.
    pub sealer: Arc<Sealer>,
    /// What is known of other issuers.
    pub foreign: Arc<Foreign>,
    /// When API keys were used, until the binary takes it to the store.
    pub key_uses: KeyUses,
    /// Whose objects are.
    pub owners: Owners,
    /// Our own pages.
    pub house: Arc<dyn House>,
    /// Where records go.
    pub records: Arc<dyn Records>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness (request ids).
    pub entropy: Arc<dyn Entropy>,
    /// Figures for `/metrics`.
    pub figures: crate::record::Figures,
}

/// Answers of the gateway.
pub type Answer = http::Response<crate::relay::AnswerBody>;

/// One worker's view: the shared gateway, and what is this thread's own (upstream pool, token
/// cache). Not `Sync`: its futures stay on the worker's thread, and want a `LocalSet`.
pub struct Worker {
    /// What all share.
    pub gateway: Arc<Gateway>,
    pub(crate) pool: Pool,
    pub(crate) tokens: TokenCache,
    pub(crate) kits: Kits,
    pub(crate) visitors: Visitors,
    pub(crate) bodies: Room,
    pub(crate) slow_lane: SlowLane,
    ids: RequestIds,
}

/// Why a journey ends before its last stage.
pub(crate) enum Halt {
    /// With a no.
    Refused(Refusal),
    /// With an answer of the gateway itself (a preflight, a redirect to HTTPS).
    Answered(Box<Answer>),
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Halt::Refused(refusal)
    }
}

impl Worker {
    /// A worker of this thread.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Worker {
            gateway,
            pool: Pool::default(),
            tokens: TokenCache::new(),
            kits: Kits::default(),
            visitors: Visitors::new(),
            bodies: Room::default(),
            slow_lane: SlowLane::default(),
            ids: RequestIds::default(),
        }
    }

    /// One answer and one record per arrival, also when the task is dropped.
    pub async fn serve(&self, arrived: Arrived) -> Answer {
        let mut draft = Draft::open(&self.gateway, &self.ids, &arrived);
        // INVARIANT: loaded once: one generation decides the whole request.
        let snapshot = self.gateway.snapshot.load_full();
        let ended = self.travel(&snapshot, arrived, &mut draft).await;
        let mut answer = finish(&snapshot, ended, &mut draft);
        insist_on_https(&mut answer, &draft);
        answer
    }

    /// The same for what arrives in clear: never forwarded.
    pub async fn serve_plain(&self, arrived: Arrived) -> Answer {
        let mut draft = Draft::open(&self.gateway, &self.ids, &arrived);
        let snapshot = self.gateway.snapshot.load_full();
        let halt = Box::pin(plain::turn_away(self, &snapshot, arrived, &mut draft)).await;
        finish(&snapshot, Err(halt), &mut draft)
    }

    async fn travel(
        &self,
        snapshot: &Snapshot,
        arrived: Arrived,
        draft: &mut Draft<'_>,
    ) -> Result<(Answer, Outcome), Halt> {
        let counters = self.gateway.counters.as_ref();
        // What the guard refused is not a request: nothing of it may be read.
        if let Some(fault) = arrived.wire_fault {
            return Err(
                limit::charge_malformed(counters, snapshot, Refusal::Wire(fault), draft).into()
            );
        }
        draft.stage = Stage::Hygiene;
        // First: no later stage may see two readings of one request.
        let cleansed = hygiene::cleanse(snapshot, arrived)
            .map_err(|refusal| limit::charge_malformed(counters, snapshot, refusal, draft))?;
        draft.ip = cleansed.ip;
        // Before any look-up or signature: a flood is turned away at the least cost.
        let admitted = limit::admit_peer(counters, snapshot, cleansed, draft)?;
        // Before authentication: only the operation says which credential it reads, if any, and a
        // path that is not there must not tell a valid token from a forged one.
        let routed = route::find(self, snapshot, admitted, draft)?;
        // Before the caller's limits: an identity that anyone can claim must not spend another's.
        let identified = authenticate::identify(self, snapshot, routed, draft).await?;
        // Before the decision, whatever it will be: probing is metered like use.
        let counted = limit::admit_caller(counters, snapshot, identified, draft)?;
        // Last before the upstream: it judges the very request that is sent, and reads a body or asks
        // for an owner only when nothing else refuses.
        let approved = authorize::approve(self, snapshot, counted, draft).await?;
        // Only an approved request leaves.
        Ok(forward::send(self, snapshot, approved, draft).await?)
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The one answer and the one record of an arrival.
fn finish(
    snapshot: &Snapshot,
    ended: Result<(Answer, Outcome), Halt>,
    draft: &mut Draft<'_>,
) -> Answer {
    let (mut answer, outcome) = match ended {
        Ok(sent) => sent,
        Err(Halt::Refused(refusal)) => refusal.answer(snapshot, draft),
        Err(Halt::Answered(answer)) => {
            let status = answer.status().as_u16();
            (*answer, Outcome { status, decision: "allow", reason: "AnsweredHere".to_owned() })
        }
    };
    dress(&mut answer, draft);
    draft.close(outcome);
    answer
}

/// The fields that every answer carries.
fn dress(answer: &mut Answer, draft: &mut Draft<'_>) {
    let fields = answer.headers_mut();
    fields.insert(REQUEST_ID, draft.id.value());
    // RFC 9449 §8.2: a fresh one with each answer, so that a client never has to ask twice.
    if let Some(nonce) = draft.nonce() {
        fields.insert(authenticate::DPOP_NONCE, nonce);
    }
    if let Some((policy, limit)) = draft.standing.as_ref().and_then(|standing| standing.fields()) {
        fields.insert(RATE_LIMIT_POLICY, policy);
        fields.insert(RATE_LIMIT, limit);
    }
    let browsers = draft.api.as_ref().is_some_and(|api| !api.browsers.is_empty());
    if browsers || draft.cors.is_some() {
        cors::vary(fields);
    }
    if let Some(origin) = draft.cors.take() {
        cors::open(fields, origin);
    }
}

/// HSTS (RFC 6797 §7.1), unless the answer says its own. Not for `localhost`: a browser would hold
/// it against every other server of the developer's machine.
fn insist_on_https(answer: &mut Answer, draft: &Draft<'_>) {
    if draft.is_local() {
        return;
    }
    let year = HeaderValue::from_static("max-age=31536000");
    answer.headers_mut().entry(header::STRICT_TRANSPORT_SECURITY).or_insert(year);
}
