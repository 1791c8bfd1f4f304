//! Stages 10 and 11: an approved request goes to its upstream, and the answer comes back guarded.
//!
//! Takes [`Approved`] and nothing else. The client's token and our cookies stay here; the upstream
//! gets our signed word instead. Framing is regenerated; the path after `at` goes byte for byte.
//! Known gap: the reader of upstreams' answers is hyper's, which forgives a bare LF and skips
//! interim answers uncounted; framing that it leaves visible is judged in [`judge`].

use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};

use portcullis_core::time::Timestamp;

use crate::answers::Filter;
use crate::authenticate::{self, Presence};
use crate::authorize::{Approved, Departure};
use crate::body;
use crate::house;
use crate::hygiene::{Cleansed, HygieneFault};
use crate::journey::{Answer, Worker};
use crate::memory::Kit;
use crate::passport;
use crate::record::{Draft, Outcome, Stage, count};
use crate::refusal::Refusal;
use crate::relay::{AnswerBody, Cut, Progress, Upload};
use crate::snapshot::{HostField, Snapshot};
use crate::upstream::{Engaged, Lane, Rest, UpstreamFault};

/// Our word on who calls.
pub(crate) const IDENTITY: HeaderName = HeaderName::from_static("portcullis-identity");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How many fields of ours an upstream gets, at most.
const OURS: usize = 8;
/// What our cookies' names start with: they are between a browser and us.
const OUR_COOKIES: &[u8] = b"__Host-pc";

/// Sends a request where it was approved to go.
///
/// # Errors
/// The refusals of stages 9 to 11.
pub(crate) async fn send(
    worker: &Worker,
    snapshot: &Snapshot,
    approved: Approved,
    draft: &mut Draft<'_>,
) -> Result<(Answer, Outcome), Refusal> {
    match approved.depart().ok_or(Refusal::PermitForeign)? {
        Departure::House { cleansed, line, presence } => {
            Box::pin(house::visit(&worker.gateway, cleansed, line, presence, draft)).await
        }
        Departure::Upstream { cleansed, kit, presence, groups } => {
            draft.stage = Stage::Forward;
            let filter = filter(snapshot, &kit, &groups, &cleansed)?;
            let filter = filter.as_ref();
            let trip = Trip { worker, snapshot, kit: &kit, presence: &presence, filter };
            let answer = trip.run(cleansed, draft).await;
            let figures = &worker.gateway.figures;
            match &answer {
                Ok(_) => count(&figures.forwarded_total),
                Err(refusal) if refusal.decision() == "error" => {
                    count(&figures.upstream_errors_total);
                }
                Err(_) => {}
            }
            let answer = answer?;
            let status = answer.status().as_u16();
            let reason = draft.rule.as_deref().unwrap_or_default().to_owned();
            Ok((answer, Outcome { status, decision: "allow", reason }))
        }
    }
}

/// One way to an upstream and back.
struct Trip<'a> {
    worker: &'a Worker,
    snapshot: &'a Snapshot,
    kit: &'a Rc<Kit>,
    presence: &'a Presence,
    /// What of the answer goes out, where the line says so.
    filter: Option<&'a Filter>,
}

/// The filter of a line with `response`.
fn filter(
    snapshot: &Snapshot,
    kit: &Kit,
    groups: &[usize],
    cleansed: &Cleansed,
) -> Result<Option<Filter>, Refusal> {
    let operation = snapshot.rules.operation(kit.id).ok_or(Refusal::Miswired)?;
    let about = (&cleansed.parts.method, kit.timeout);
    Ok(operation.response.as_ref().map(|rule| Filter::of(rule, groups, about)))
}

impl Trip<'_> {
    async fn run(&self, cleansed: Box<Cleansed>, draft: &Draft<'_>) -> Result<Answer, Refusal> {
        if !self.kit.body_types.is_empty() && !cleansed.body.is_empty() {
            body::among(&cleansed.parts.headers, &self.kit.body_types)?;
        }
        // Before any byte goes out: a length that is too large is known from the head alone.
        if cleansed.body.size_hint().lower() > self.kit.body_max {
            return Err(Refusal::BodyTooLarge);
        }
        let (now, version) = (cleansed.at, cleansed.parts.version);
        let (request, progress) = self.equip(cleansed, draft)?;
        let exchange = exchange(&self.kit.lane, request, now);
        let (response, mut engaged) = match tokio::time::timeout(self.kit.timeout, exchange).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(fault)) => return Err(broken(fault, progress.as_deref())),
            Err(_) => return Err(late(progress.as_deref())),
        };
        engaged.upload = progress;
        judge(&response)?;
        let (mut parts, body) = match self.filter {
            None => {
                let (parts, body) = response.into_parts();
                (parts, AnswerBody::streamed(body, engaged, version))
            }
            // Apart, since it is seldom: a journey must be small (see its test).
            Some(filter) => Box::pin(self.filtered(filter, response, engaged)).await?,
        };
        undress(&mut parts.headers, self.presence);
        // The version is the connection's own matter, on each side.
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        Ok(Response::from_parts(parts, body))
    }

    async fn filtered(
        &self,
        filter: &Filter,
        response: Response<Incoming>,
        engaged: Engaged,
    ) -> Result<(Parts, AnswerBody), Refusal> {
        let room = &self.worker.bodies;
        let filtered = filter.filtered(room, response, || engaged.release()).await?;
        let (parts, bytes) = filtered.into_parts();
        Ok((parts, AnswerBody::whole(bytes)))
    }

    /// The request as the upstream sees it.
    fn equip(
        &self,
        cleansed: Box<Cleansed>,
        draft: &Draft<'_>,
    ) -> Result<(Request<Upload>, Option<Rc<Progress>>), Refusal> {
        let visitor = self.worker.visitors.of(&cleansed);
        let api = &self.kit.api;
        let uri = target(&cleansed, api.at.path(), api.upstream.address.path())?;
        let Cleansed { mut parts, body, .. } = *cleansed;
        let body = body.take();
        let fields = &mut parts.headers;
        // Once, not twice on the way: a map that grows is hashed anew.
        fields.reserve(OURS);
        // RFC 9110 §10.1.1: we have answered an expectation ourselves.
        fields.remove(header::EXPECT);
        withhold_credentials(fields);
        withhold_cookies(fields);
        if self.filter.is_some() {
            Filter::prepare(fields);
        }
        let host = match api.host {
            HostField::Upstream => self.kit.host.clone(),
            HostField::Keep => visitor.host.clone(),
        };
        fields.insert(header::HOST, host);
        fields.insert(FORWARDED_FOR, visitor.address.clone());
        fields.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
        fields.insert(FORWARDED_HOST, visitor.host.clone());
        fields.insert(header::FORWARDED, visitor.forwarded.clone());
        fields.insert(REQUEST_ID, draft.id.value());
        fields.insert(IDENTITY, passport(self.snapshot, self.kit, self.presence, draft.at));
        parts.uri = uri;
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        // INVARIANT: what is sent is framed by what is sent: hyper writes the length that the body
        // knows, or chunks. The client's field is not repeated, whatever its version let pass.
        let length = fields.remove(header::CONTENT_LENGTH);
        if body.is_end_stream() {
            if length.is_some() {
                fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            return Ok((Request::from_parts(parts, Upload::none()), None));
        }
        if body.size_hint().exact().is_none() {
            // Said here, since hyper takes a GET without a length for one without a body, and would
            // drop it without a word.
            fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let progress = Rc::new(Progress::default());
        let mut upload = Upload::capped(body, self.kit.body_max, progress.clone());
        if is_form(&parts.headers) {
            upload.watch_for_override();
        }
        Ok((Request::from_parts(parts, upload), Some(progress)))
    }
}

/// Our word on who calls, for the upstream of an operation.
pub(crate) fn passport(
    snapshot: &Snapshot,
    kit: &Kit,
    presence: &Presence,
    now: Timestamp,
) -> HeaderValue {
    let journey = passport::Journey {
        key: &snapshot.passport,
        issuer: &snapshot.issuer,
        audience: &kit.audience,
        now,
    };
    match presence {
        Presence::Token(known) => known.passports.show(&journey, || Some(known.traveller())),
        Presence::Unread => kit.anonymous.show(&journey, || None),
    }
}

/// Sends over a pooled connection. What was not sent at all goes once more over a new one; so does
/// a request that may be repeated and has no body, when a connection that rested turns out stale.
pub(crate) async fn exchange(
    lane: &Rc<Lane>,
    request: Request<Upload>,
    now: Timestamp,
) -> Result<(Response<Incoming>, Engaged), UpstreamFault> {
    let mut engaged = lane.engage(now).await?;
    let spare = spare(&request, engaged.rest);
    let (fault, unsent) = match engaged.send(request).await {
        Ok(response) => return Ok((response, engaged)),
        Err(failed) => failed,
    };
    drop(engaged);
    match unsent.or(spare) {
        Some(again) => Box::pin(exchange_again(lane, again, now)).await,
        None => Err(fault),
    }
}

async fn exchange_again(
    lane: &Rc<Lane>,
    request: Request<Upload>,
    now: Timestamp,
) -> Result<(Response<Incoming>, Engaged), UpstreamFault> {
    let mut engaged = lane.fresh(now).await?;
    match engaged.send(request).await {
        Ok(response) => Ok((response, engaged)),
        Err((fault, _)) => Err(fault),
    }
}

/// Whether the body is a form, by any of its `Content-Type` fields.
fn is_form(fields: &HeaderMap) -> bool {
    const FORM: &[u8] = b"application/x-www-form-urlencoded";
    fields.get_all(header::CONTENT_TYPE).iter().any(|kind| {
        kind.as_bytes().get(..FORM.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(FORM))
    })
}

/// A copy to repeat (RFC 9110 §9.2.2: idempotent methods alone may be repeated by themselves). Only
/// for a connection that rested: one that was busy a moment ago is not worth the copy.
fn spare(request: &Request<Upload>, rest: Rest) -> Option<Request<Upload>> {
    let repeatable =
        rest == Rest::Long && request.method().is_idempotent() && request.body().is_end_stream();
    repeatable.then(|| {
        let mut copy = Request::new(Upload::none());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        copy
    })
}

fn broken(fault: UpstreamFault, progress: Option<&Progress>) -> Refusal {
    match progress.and_then(|progress| progress.cut.get()) {
        Some(Cut::TooLarge) => Refusal::BodyTooLarge,
        Some(Cut::Broken) => Refusal::BodyBroken,
        Some(Cut::MethodOverridden) => Refusal::Hygiene(HygieneFault::MethodOverrideInForm),
        None => Refusal::Upstream(fault),
    }
}

fn late(progress: Option<&Progress>) -> Refusal {
    match progress {
        Some(progress) if !progress.ended.get() => Refusal::BodySlow,
        _ => Refusal::UpstreamSlow,
    }
}

/// The upstream's target: the path of `at` replaced by the path of `upstream`, the rest untouched.
fn target(cleansed: &Cleansed, at: &str, upstream: &str) -> Result<Uri, Refusal> {
    let text = rewritten(&cleansed.path, cleansed.query.as_deref(), at, upstream);
    let text = text.ok_or(Refusal::Miswired)?;
    let target = PathAndQuery::from_maybe_shared(Bytes::from(text));
    Ok(Uri::from(target.map_err(|_| Refusal::Miswired)?))
}

fn rewritten(path: &str, query: Option<&str>, at: &str, upstream: &str) -> Option<String> {
    let rest = path.strip_prefix(at)?;
    // INVARIANT: cut at a segment's border only; the table has matched it so.
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let mut text =
        String::with_capacity(path.len() + upstream.len() + query.map_or(1, str::len) + 1);
    text.push_str(upstream);
    text.push_str(rest);
    if text.is_empty() {
        text.push('/');
    }
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    Some(text)
}

/// Takes out what the caller showed to us: token and proof, and an API key of ours that stands where
/// other products look for theirs. Another's key in that field is the upstream's own matter.
fn withhold_credentials(fields: &mut HeaderMap) {
    fields.remove(header::AUTHORIZATION);
    fields.remove(authenticate::DPOP);
    let ours = |value: &HeaderValue| authenticate::looks_like_key(value.as_bytes());
    if fields.get_all(authenticate::API_KEY).iter().any(ours) {
        fields.remove(authenticate::API_KEY);
    }
}

/// Takes our cookies out and joins the rest into one field (RFC 9113 §8.2.3: what HTTP/2 split must
/// be joined before it reaches an HTTP/1.1 upstream).
fn withhold_cookies(fields: &mut HeaderMap) {
    let mut all = fields.get_all(header::COOKIE).iter();
    let Some(first) = all.next() else { return };
    let ours = |value: &HeaderValue| cookies(value).any(is_ours);
    if all.next().is_none() && !ours(first) {
        return;
    }
    let mut kept: Vec<u8> = Vec::new();
    for cookie in fields.get_all(header::COOKIE).iter().flat_map(cookies) {
        if cookie.is_empty() || is_ours(cookie) {
            continue;
        }
        if !kept.is_empty() {
            kept.extend_from_slice(b"; ");
        }
        kept.extend_from_slice(cookie);
    }
    fields.remove(header::COOKIE);
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(kept))
        && !value.is_empty()
    {
        fields.insert(header::COOKIE, value);
    }
}

/// Without case, since browsers compare the prefix so (RFC 6265bis §4.1.3).
fn is_ours(cookie: &[u8]) -> bool {
    cookie.get(..OUR_COOKIES.len()).is_some_and(|start| start.eq_ignore_ascii_case(OUR_COOKIES))
}

fn cookies(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

/// Judges an answer's head as strictly as a request's (`3-gateway`, stage 11).
pub(crate) fn judge(response: &Response<Incoming>) -> Result<(), Refusal> {
    // No operation allows another protocol yet; other interim answers never get here.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS || response.status().is_informational()
    {
        return Err(Refusal::UpstreamSwitches);
    }
    framing(response.version(), response.headers())
}

fn framing(version: Version, fields: &HeaderMap) -> Result<(), Refusal> {
    let lengths = fields.get_all(header::CONTENT_LENGTH).iter().count();
    let codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    let (chunked, codings) = codings.fold((true, 0), |(chunked, n), value| {
        (chunked && value.as_bytes().eq_ignore_ascii_case(b"chunked"), n + 1)
    });
    // RFC 9112 §6.3: both framings, two lengths, a coding that is not `chunked` alone, or one in
    // HTTP/1.0 (§6.1): whoever is behind us may read another message than we do.
    let clear = match (lengths, codings) {
        (0 | 1, 0) => true,
        (0, 1) => chunked && version != Version::HTTP_10,
        _ => false,
    };
    if clear { Ok(()) } else { Err(Refusal::UpstreamFramingUnclear) }
}

/// Removes what an upstream may not say in our name, and adds what an answer must have.
fn undress(fields: &mut HeaderMap, presence: &Presence) {
    let reserved: Vec<HeaderName> =
        fields.keys().filter(|name| is_reserved(name)).cloned().collect();
    for name in reserved {
        if name == header::CONNECTION {
            remove_named(fields);
        }
        fields.remove(name);
    }
    withhold_set_cookies(fields);
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // RFC 9111 §3.5 forbids shared caches answers to `Authorization`, but our client's browser, and
    // a cache between it and us, know only what stands here.
    if matches!(presence, Presence::Token(_)) && !fields.contains_key(header::CACHE_CONTROL) {
        let private = HeaderValue::from_static("private, no-store");
        fields.insert(header::CACHE_CONTROL, private);
    }
}

/// Hop-by-hop fields (RFC 9110 §7.6.1), and those that are ours to set.
fn is_reserved(name: &HeaderName) -> bool {
    match name.as_str() {
        "connection" | "keep-alive" | "proxy-connection" | "proxy-authenticate" | "te"
        | "trailer" | "transfer-encoding" | "upgrade" | "request-id" | "ratelimit"
        | "ratelimit-policy" | "dpop-nonce" => true,
        name => name.starts_with("portcullis-") || name.starts_with("access-control-"),
    }
}

/// RFC 9110 §7.6.1: fields that `Connection` names are for this hop alone.
fn remove_named(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // Framing and what we set are not an upstream's to unsay.
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::CONNECTION)
        .collect();
    for name in named {
        fields.remove(name);
    }
}

fn withhold_set_cookies(fields: &mut HeaderMap) {
    let ours = |value: &HeaderValue| {
        // RFC 6265bis §5.7: a browser keeps `=name=value` as a nameless cookie, and sends it back as
        // `name=value`, which reads like ours.
        let start = value.as_bytes().iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'='));
        start.is_some_and(|start| is_ours(value.as_bytes().get(start..).unwrap_or_default()))
    };
    if !fields.get_all(header::SET_COOKIE).iter().any(ours) {
        return;
    }
    let kept: Vec<HeaderValue> =
        fields.get_all(header::SET_COOKIE).iter().filter(|value| !ours(value)).cloned().collect();
    fields.remove(header::SET_COOKIE);
    for value in kept {
        fields.append(header::SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn the_path_of_at_is_replaced_and_nothing_else() {
        let table = [
            ("/v1/a", None, "/v1", "", Some("/a")),
            ("/v1", None, "/v1", "", Some("/")),
            ("/v1", Some("x=1"), "/v1", "", Some("/?x=1")),
            ("/v1/a/v1", Some(""), "/v1", "/base", Some("/base/a/v1?")),
            ("/a%20b", Some("%41=?/.."), "", "", Some("/a%20b?%41=?/..")),
            ("/v1x/a", None, "/v1", "", None),
            ("/other", None, "/v1", "", None),
        ];
        for (path, query, at, upstream, expected) in table {
            assert_eq!(rewritten(path, query, at, upstream).as_deref(), expected, "{path} {at}");
        }
    }

    #[test]
    fn our_cookies_are_cut_out() {
        let table: [(&[&str], Option<&str>); 7] = [
            (&["a=1"], Some("a=1")),
            (&["a=1;  b=2"], Some("a=1;  b=2")),
            (&["a=1", "b=2"], Some("a=1; b=2")),
            (&["__Host-pc-session=x; a=1"], Some("a=1")),
            (&["a=1;__HOST-PC-device=x;b=2"], Some("a=1; b=2")),
            (&["__Host-pc-tx=x", "__Host-pc-session=y"], None),
            (&["not__Host-pc=1"], Some("not__Host-pc=1")),
        ];
        for (cookies, expected) in table {
            let mut map = HeaderMap::new();
            for cookie in cookies {
                map.append(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
            }
            withhold_cookies(&mut map);
            let left: Vec<_> = map.get_all(header::COOKIE).iter().collect();
            assert_eq!(left, Vec::from_iter(expected), "{cookies:?}");
        }
    }

    #[test]
    fn an_upstream_sets_none_of_our_cookies() {
        for (cookie, kept) in [
            ("__Host-pc-session=x; Path=/", 0),
            (" =__host-PC-session=x", 0),
            ("=__Host-pc-session=x", 0),
            ("sid=__Host-pc-session", 1),
        ] {
            let mut map = fields(&[("set-cookie", cookie)]);
            withhold_set_cookies(&mut map);
            assert_eq!(map.len(), kept, "{cookie}");
        }
    }

    #[test]
    fn framing_has_one_reading() {
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        let (length, coding) = ("content-length", "transfer-encoding");
        type Case<'c> = (&'c [(&'c str, &'c str)], Version, bool);
        let table: [Case<'_>; 8] = [
            (&[], new, true),
            (&[(length, "3")], new, true),
            (&[(coding, "chunked")], new, true),
            (&[(coding, "chunked")], old, false),
            (&[(length, "3"), (length, "3")], new, false),
            (&[(length, "3"), (coding, "chunked")], new, false),
            (&[(coding, "gzip, chunked")], new, false),
            (&[(coding, "chunked"), (coding, "chunked")], new, false),
        ];
        for (pairs, version, clear) in table {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                map.append(name, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(framing(version, &map).is_ok(), clear, "{pairs:?}");
        }
    }

    #[test]
    fn hop_by_hop_fields_end_here() {
        let mut map = fields(&[
            ("connection", "keep-alive, X-Hop, content-length"),
            ("keep-alive", "timeout=5"),
            ("x-hop", "1"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("content-length", "3"),
            ("etag", "1"),
            ("access-control-allow-credentials", "true"),
            ("portcullis-identity", "x"),
        ]);
        undress(&mut map, &Presence::Unread);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "etag", "x-content-type-options"]);
    }
}
