//! Our own pages travel the same journey: routes whose destination is [`House`] instead of an
//! upstream. One hygiene, one limiter, one record.
//!
//! Here stand the words between the two, and the last step of a page's journey. What a page does is
//! the binary's.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use portcullis_core::certificate::ClientCertificate;
use portcullis_core::jose::claims::AccessClaims;
use portcullis_core::jose::verify::Verified;

use crate::api_keys::LiveKey;
use crate::authenticate::{Exposed, Presence};
use crate::hygiene::Cleansed;
use crate::hygiene::body::RequestBody;
use crate::journey::{Answer, Gateway};
use crate::record::{Draft, Outcome, Stage};
use crate::refusal::Refusal;
use crate::relay::AnswerBody;

/// What a page reads to know who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Nothing: public documents.
    Nothing,
    /// The session cookie: identity authenticates.
    Session,
    /// Client credentials: identity authenticates.
    Client,
    /// One of our access tokens: the gateway authenticates.
    Token,
}

/// One line of the house: a method on a path.
#[derive(Clone, Debug)]
pub struct HouseLine {
    /// `GET`, `POST`; HEAD follows GET.
    pub method: &'static str,
    /// The page's name, by which the binary dispatches: `token`, `login_page` …
    pub page: &'static str,
    /// What it reads.
    pub reads: Reads,
    /// The limit charged to the peer before it runs.
    pub limit: Arc<str>,
    /// Whether the origins of `spa` redirects get CORS here.
    pub cors: Vec<portcullis_core::web::Origin>,
    /// Largest body.
    pub body_max: usize,
}

/// A request for one of our pages, hygiene passed, limits charged.
pub struct HouseRequest {
    /// The page's name.
    pub page: &'static str,
    /// The method.
    pub method: http::Method,
    /// The authority asked, canonical.
    pub authority: Box<str>,
    /// The canonical path.
    pub path: Box<str>,
    /// The raw query, without `?`.
    pub query: Option<Box<str>>,
    /// The header fields as they passed hygiene (cookies included).
    pub headers: http::HeaderMap,
    /// The whole body, capped.
    pub body: Bytes,
    /// The client's address.
    pub ip: IpAddr,
    /// The `Request-Id`.
    pub request_id: Box<str>,
    /// For `Reads::Token` lines: one of our own, proven by all that it is bound to.
    pub token: Option<Arc<Verified<AccessClaims>>>,
    /// An API key that was exposed (`plain_token` alone).
    pub key: Option<Arc<LiveKey>>,
    /// The certificate of the connection, where its host asks for one.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// The answer of a page, with what the record should say.
pub struct HouseAnswer {
    /// Status, fields, body.
    pub response: http::Response<Bytes>,
    /// `login.password`, `token`, `revoke` …; `request` for plain pages.
    pub event: &'static str,
    /// `allow`, or `deny` with the rule broken.
    pub outcome: Result<String, String>,
    /// Who, as far as it became known.
    pub caller: Option<String>,
    /// The OAuth client, as far as it became known.
    pub client: Option<String>,
}

/// The future of an answer.
pub type Answering<'h> = Pin<Box<dyn Future<Output = HouseAnswer> + Send + 'h>>;

/// The house: wired by the binary, which alone knows identity and templates.
pub trait House: Send + Sync {
    /// Answers a page.
    fn answer(&self, request: HouseRequest) -> Answering<'_>;
}

/// The page that is told of a token that was exposed, so that it revokes it.
const PLAIN_TOKEN: &str = "plain_token";
/// A body of ours is small: whoever needs longer than this to send it holds a place for nothing.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that a page may work.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers one of our pages. Its work is a task of its own, since it goes on when the client does not
/// wait for it: a password that was tried is recorded as such, however soon the guesser hangs up.
pub(crate) async fn visit(
    gateway: &Arc<Gateway>,
    cleansed: Box<Cleansed>,
    line: Box<HouseLine>,
    presence: Presence,
    draft: &mut Draft<'_>,
) -> Result<(Answer, Outcome), Refusal> {
    draft.stage = Stage::House;
    let mut request = request(&cleansed, line.page, draft.id.as_str());
    request.token = match presence {
        Presence::Token(known) => known.own().cloned(),
        Presence::Unread => None,
    };
    request.headers = cleansed.parts.headers;
    request.body = collect(cleansed.body.take(), line.body_max).await?;
    draft.decide();
    let (mut late, house) = (draft.hand_over(gateway), gateway.house.clone());
    let (give, taken) = tokio::sync::oneshot::channel();
    tokio::task::spawn_local(async move {
        let answered = tokio::time::timeout(PAGE_TIMEOUT, house.answer(request)).await.ok();
        if let Some(answered) = &answered {
            late.learn(answered);
        }
        // Nobody there: the record is written as what was handed over is dropped.
        drop(give.send((late, answered)));
    });
    let (late, answered) = taken.await.map_err(|_| Refusal::HouseSlow)?;
    draft.take_back(late);
    let answered = answered.ok_or(Refusal::HouseSlow)?;
    draft.event = answered.event;
    draft.caller = answered.caller;
    draft.client = answered.client;
    let (decision, reason) = match answered.outcome {
        Ok(rule) => ("allow", rule),
        Err(rule) => ("deny", rule),
    };
    let mut answer = answered.response.map(AnswerBody::whole);
    protect(answer.headers_mut());
    let status = answer.status().as_u16();
    Ok((answer, Outcome { status, decision, reason }))
}

/// What every page gets unless it says so itself: no cache keeps it, no browser guesses its type.
fn protect(fields: &mut http::HeaderMap) {
    use http::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
    fields.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    fields.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
}

fn request(cleansed: &Cleansed, page: &'static str, request_id: &str) -> HouseRequest {
    HouseRequest {
        page,
        method: cleansed.parts.method.clone(),
        authority: cleansed.authority.clone(),
        path: cleansed.path.clone(),
        query: cleansed.query.clone(),
        headers: http::HeaderMap::new(),
        body: Bytes::new(),
        ip: cleansed.ip,
        request_id: request_id.into(),
        token: None,
        key: None,
        certificate: cleansed.connection.certificate.clone(),
    }
}

async fn collect(body: RequestBody, body_max: usize) -> Result<Bytes, Refusal> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > body_max as u64 {
        return Err(Refusal::BodyTooLarge);
    }
    let collecting = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, body_max).collect());
    match collecting.await {
        Err(_) => Err(Refusal::BodySlow),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(fault)) if fault.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge),
        Ok(Err(_)) => Err(Refusal::BodyBroken),
    }
}

/// Where an exposed token was seen.
pub(crate) struct Exposure<'a> {
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    pub(crate) ip: IpAddr,
    pub(crate) request_id: &'a str,
}

/// Has a live token or key revoked that arrived in clear or in a query (`1-product`, "Defaults that are
/// promises"). Waits until the revocation is in force.
pub(crate) async fn report_exposed(
    house: &Arc<dyn House>,
    exposure: &Exposure<'_>,
    exposed: Exposed,
) {
    let (token, key) = match exposed {
        Exposed::Token(token) => (Some(token), None),
        Exposed::Key(key) => (None, Some(key)),
    };
    let request = HouseRequest {
        page: PLAIN_TOKEN,
        method: http::Method::POST,
        authority: exposure.authority.into(),
        path: exposure.path.into(),
        query: None,
        headers: http::HeaderMap::new(),
        body: Bytes::new(),
        ip: exposure.ip,
        request_id: exposure.request_id.into(),
        token,
        key,
        certificate: None,
    };
    // Whatever it answers, the request that exposed the token is refused all the same.
    tokio::time::timeout(PAGE_TIMEOUT, house.answer(request)).await.ok();
}
