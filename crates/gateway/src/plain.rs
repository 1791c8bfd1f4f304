//! The plain listener: everything that arrives in clear is turned away, and a live token or key that did
//! is revoked. Nothing is ever forwarded from here.
//!
//! Pages of ours redirect to HTTPS (so that a typed address works); API paths are refused, since a
//! client that follows a redirect would send its token in clear every time.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, request};

use crate::authenticate;
use crate::house::{self, Exposure};
use crate::hygiene::Arrived;
use crate::journey::{Answer, Halt, Worker};
use crate::limit;
use crate::record::{Draft, Stage};
use crate::refusal::Refusal;
use crate::relay::AnswerBody;
use crate::snapshot::Snapshot;

/// Credentials looked at in one request: more are no client's.
const MAX_CREDENTIALS: usize = 2;

/// Turns an arrival away.
pub(crate) async fn turn_away(
    worker: &Worker,
    snapshot: &Snapshot,
    arrived: Arrived,
    draft: &mut Draft<'_>,
) -> Halt {
    if let Some(fault) = arrived.wire_fault {
        return Refusal::Wire(fault).into();
    }
    draft.stage = Stage::PeerLimit;
    let ip = arrived.connection.peer.ip();
    let counters = worker.gateway.counters.as_ref();
    if let Err(refusal) = limit::charge_peer(counters, snapshot, ip, draft) {
        return refusal.into();
    }
    draft.stage = Stage::Hygiene;
    let (parts, _body) = arrived.request.into_parts();
    revoke_exposed(worker, snapshot, &parts, draft).await;
    match redirect(snapshot, &parts) {
        Some(answer) => Halt::Answered(Box::new(answer)),
        None => Refusal::HttpsOnly.into(),
    }
}

async fn revoke_exposed(
    worker: &Worker,
    snapshot: &Snapshot,
    parts: &request::Parts,
    draft: &Draft<'_>,
) {
    let fields = parts.headers.get_all(header::AUTHORIZATION).iter();
    let fields = fields.filter_map(|value| authenticate::credential_in(value.as_bytes()));
    let queried = authenticate::shown_in_query(parts.uri.query().unwrap_or_default());
    let keys = parts.headers.get_all(authenticate::API_KEY).iter();
    let keys = keys.filter(|value| authenticate::looks_like_key(value.as_bytes()));
    let keys = keys.filter_map(|value| value.to_str().ok());
    let shown = fields.chain(keys).map(str::to_owned).chain(queried.map(|shown| shown.text));
    for token in shown.take(MAX_CREDENTIALS) {
        let seen = authenticate::Seen { ip: draft.ip, at: draft.at };
        let exposed = authenticate::verify_exposed(worker, snapshot, seen, &token).await;
        let Some(exposed) = exposed.filter(authenticate::Exposed::is_usable) else { continue };
        let exposure = Exposure {
            authority: host(parts).unwrap_or_default(),
            path: parts.uri.path(),
            ip: draft.ip,
            request_id: draft.id.as_str(),
        };
        house::report_exposed(&worker.gateway.house, &exposure, exposed).await;
    }
}

/// A redirect to the HTTPS twin of a page of ours, built from our own authority and path: nothing
/// that the client sent stands in it but the query, which is no address.
fn redirect(snapshot: &Snapshot, parts: &request::Parts) -> Option<Answer> {
    if !matches!(parts.method, Method::GET | Method::HEAD) || carries_credentials(&parts.headers) {
        return None;
    }
    let name = host(parts).map(without_port)?.to_ascii_lowercase();
    let ((authority, path), _) = snapshot.house.iter().find(|((authority, path), lines)| {
        without_port(authority) == name
            && **path == *parts.uri.path()
            && lines.iter().any(|line| line.method == "GET")
    })?;
    let mut location = format!("https://{authority}{path}");
    if let Some(query) = parts.uri.query() {
        location.push('?');
        location.push_str(query);
    }
    let mut answer = Answer::new(AnswerBody::empty());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&location).ok()?);
    Some(answer)
}

fn carries_credentials(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION) || headers.contains_key(authenticate::API_KEY)
}

fn host(parts: &request::Parts) -> Option<&str> {
    let field = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    field.or_else(|| parts.uri.authority().map(|authority| authority.as_str()))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_cut() {
        let table = [
            ("localhost:8080", "localhost"),
            ("login.example", "login.example"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
        ];
        for (authority, host) in table {
            assert_eq!(without_port(authority), host);
        }
    }
}
