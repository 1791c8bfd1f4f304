//! Stage 6: whose request it is. Exactly one credential, of the one kind that there is for now:
//! our own access token in `Authorization: Bearer` (RFC 6750 §2.1, RFC 9068 §4).
//!
//! Proves who; decides nothing about what they may do. An operation open to `anyone` reads no
//! credential at all, so that a stale token never breaks what is public.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap};
use portcullis_core::jose::claims::AccessClaims;
use portcullis_core::jose::jws::{self, TokenFault};
use portcullis_core::jose::verify::{self, Verified};
use portcullis_core::time::Timestamp;

use crate::house::{self, Exposure, Reads};
use crate::hygiene::Cleansed;
use crate::journey::{Halt, Worker};
use crate::limit;
use crate::memory::{Credentials, Visitor};
use crate::record::{Draft, Stage, count};
use crate::refusal::Refusal;
use crate::route::{Destination, Routed};
use crate::snapshot::Snapshot;
use crate::tokens::{Digest, Known};

/// A request whose caller is known, or whose destination does not ask.
pub struct Identified {
    routed: Routed,
    presence: Presence,
}

/// What is known of the caller.
pub(crate) enum Presence {
    /// No credential was read here.
    Unread,
    /// A token of ours: verified, alive, for this audience.
    Token(Rc<Known>),
}

impl Identified {
    pub(crate) fn cleansed(&self) -> &Cleansed {
        self.routed.cleansed()
    }
    pub(crate) fn destination(&self) -> &Destination {
        self.routed.destination()
    }
    pub(crate) fn presence(&self) -> &Presence {
        &self.presence
    }
    pub(crate) fn into_parts(self) -> (Box<Cleansed>, Destination, Presence) {
        let (cleansed, destination) = self.routed.into_parts();
        (cleansed, destination, self.presence)
    }
}

/// Identifies the caller.
///
/// # Errors
/// The rule that the credential breaks. Awaits only for the slow lane of an address that spent
/// its failures, and for the house when an exposed token is revoked.
pub(crate) async fn identify(
    worker: &Worker,
    snapshot: &Snapshot,
    routed: Routed,
    draft: &mut Draft<'_>,
) -> Result<Identified, Halt> {
    draft.stage = Stage::Authenticate;
    let cleansed = routed.cleansed();
    let audience = match routed.destination() {
        Destination::Operation { kit, .. } => {
            if let Some(query) = cleansed.query.as_deref().filter(|query| names_token(query)) {
                let exposed = (cleansed, query, kit.reads);
                Box::pin(refuse_exposed(worker, snapshot, exposed, draft)).await?;
            }
            match kit.reads {
                Credentials::Unread => {
                    return Ok(Identified { routed, presence: Presence::Unread });
                }
                Credentials::Token => Some(&*kit.api.audience),
            }
        }
        Destination::House(line) => match line.reads {
            Reads::Nothing | Reads::Session | Reads::Client => {
                return Ok(Identified { routed, presence: Presence::Unread });
            }
            Reads::Token => None,
        },
    };
    let desk = Desk { worker, snapshot, cleansed };
    match desk.identify(audience).await {
        Ok(known) => {
            draft.known = Some(known.clone());
            Ok(Identified { routed, presence: Presence::Token(known) })
        }
        Err(fault) => Err(desk.refuse(fault, draft).into()),
    }
}

/// Why there is no identity: what the credential lacks, before it is put as a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CredentialFault {
    Missing,
    Doubled,
    SchemeForeign,
    Malformed,
    Token(TokenFault),
    /// Too many others of exhausted addresses wait for their signature to be looked at.
    Crowded,
}

impl From<TokenFault> for CredentialFault {
    fn from(fault: TokenFault) -> Self {
        CredentialFault::Token(fault)
    }
}

/// One request at the desk where credentials are looked at.
struct Desk<'a> {
    worker: &'a Worker,
    snapshot: &'a Snapshot,
    cleansed: &'a Cleansed,
}

impl Desk<'_> {
    async fn identify(&self, audience: Option<&str>) -> Result<Rc<Known>, CredentialFault> {
        let token = sole_bearer(&self.cleansed.parts.headers)?;
        let visitor = self.worker.visitors.of(self.cleansed);
        let known = self.recognise(token, &visitor).await?;
        self.still_holds(&known, token, audience)?;
        Ok(known)
    }

    /// The entry of a token: the connection's last, one from memory, or a new one.
    async fn recognise(
        &self,
        token: &str,
        visitor: &Visitor,
    ) -> Result<Rc<Known>, CredentialFault> {
        let generation = self.snapshot.generation;
        let figures = &self.worker.gateway.figures;
        if let Some(known) = visitor.token.borrow().as_ref()
            && known.is(token, generation)
        {
            count(&figures.token_cache_hits_total);
            return Ok(known.clone());
        }
        let digest = Digest::of(token);
        let known = match self.worker.tokens.find(&digest, generation) {
            Some(known) => {
                count(&figures.token_cache_hits_total);
                known
            }
            None => {
                let verified = self.verify(token).await?;
                let known = Rc::new(Known::new(token, verified, generation));
                self.worker.tokens.keep(digest, known.clone());
                known
            }
        };
        *visitor.token.borrow_mut() = Some(known.clone());
        Ok(known)
    }

    async fn verify(&self, token: &str) -> Result<Verified<AccessClaims>, CredentialFault> {
        let seen = Seen { ip: self.cleansed.ip, at: self.cleansed.at };
        verify(self.worker, self.snapshot, seen, token).await
    }

    /// What is asked again on every request, hit or miss.
    fn still_holds(
        &self,
        known: &Known,
        token: &str,
        audience: Option<&str>,
    ) -> Result<(), CredentialFault> {
        // RFC 7519 §4.1.4: on or after `exp` a token MUST NOT be accepted.
        if self.cleansed.at.unix() >= known.claims().exp {
            self.worker.tokens.forget(&Digest::of(token));
            return Err(TokenFault::Expired.into());
        }
        if self.worker.gateway.revoked.kills(&known.marks) {
            return Err(TokenFault::Revoked.into());
        }
        // RFC 9068 §4: `aud` must be this resource server, byte for byte.
        match audience {
            Some(audience) if known.claims().aud != audience => {
                Err(TokenFault::AudienceWrong.into())
            }
            _ => Ok(()),
        }
    }

    /// Puts a fault as a refusal: charges the address for what is forged, and once its budget is
    /// spent answers 429 where 401 stood.
    fn refuse(&self, fault: CredentialFault, draft: &mut Draft<'_>) -> Refusal {
        let counters = self.worker.gateway.counters.as_ref();
        let (ip, now) = (self.cleansed.ip, self.cleansed.at);
        let spent = match fault {
            CredentialFault::Token(fault) if is_forged(fault) => {
                limit::charge_failure(counters, self.snapshot, ip, now)
            }
            CredentialFault::Malformed => limit::charge_failure(counters, self.snapshot, ip, now),
            _ => limit::failures_exhausted(counters, self.snapshot, ip, now),
        };
        if let Some(standing) = spent {
            draft.standing = Some(standing);
            return Refusal::FailuresExhausted;
        }
        match fault {
            CredentialFault::Missing => Refusal::CredentialMissing,
            CredentialFault::Doubled => Refusal::CredentialDoubled,
            CredentialFault::SchemeForeign => Refusal::CredentialSchemeForeign,
            CredentialFault::Malformed => Refusal::CredentialMalformed,
            CredentialFault::Token(fault) => Refusal::Token(fault),
            CredentialFault::Crowded => Refusal::FailuresExhausted,
        }
    }
}

/// From where and when a token was shown.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) ip: IpAddr,
    pub(crate) at: Timestamp,
}

/// The dear part: one signature. Whoever spent its address's failures waits in the slow lane, so
/// that forged tokens cannot starve the others; it waits, it is not refused.
async fn verify(
    worker: &Worker,
    snapshot: &Snapshot,
    seen: Seen,
    token: &str,
) -> Result<Verified<AccessClaims>, CredentialFault> {
    let counters = worker.gateway.counters.as_ref();
    if limit::failures_exhausted(counters, snapshot, seen.ip, seen.at).is_some() {
        Box::pin(worker.slow_lane.wait()).await?;
    }
    verify_now(worker, snapshot, seen, token)
}

fn verify_now(
    worker: &Worker,
    snapshot: &Snapshot,
    seen: Seen,
    token: &str,
) -> Result<Verified<AccessClaims>, CredentialFault> {
    count(&worker.gateway.figures.tokens_verified_total);
    // The audience is left to `still_holds`: the entry must not depend on where it was used.
    Ok(verify::access_token(token, &snapshot.keys, &snapshot.issuer, None, seen.at)?)
}

/// Verifies a token that arrived where none may (in a query, in clear); `None` unless it is ours.
///
/// Charges nobody, since any page can make its readers' browsers ask for an address with a forged
/// token in it, and so spend the failures of an office, which its login shares. What bounds the work
/// instead is that every such token waits in the slow lane.
pub(crate) async fn verify_exposed(
    worker: &Worker,
    snapshot: &Snapshot,
    seen: Seen,
    token: &str,
) -> Option<Arc<Verified<AccessClaims>>> {
    // An API's own `access_token` costs it no wait.
    jws::parse(token).ok()?;
    Box::pin(worker.slow_lane.wait()).await.ok()?;
    verify_now(worker, snapshot, seen, token).ok().map(Arc::new)
}

/// Whether a fault charges the address (`5-limits`, point 6): only what we never signed, or took
/// back. A token that merely expired, or was meant for another API, is a genuine one.
fn is_forged(fault: TokenFault) -> bool {
    match fault {
        TokenFault::TooLong
        | TokenFault::NotCompact
        | TokenFault::MemberDoubled
        | TokenFault::AlgorithmNotAccepted
        | TokenFault::CriticalUnknown
        | TokenFault::TypeWrong
        | TokenFault::KeyUnknown
        | TokenFault::SignatureWrong
        | TokenFault::ClaimMalformed
        | TokenFault::Revoked => true,
        TokenFault::IssuerWrong
        | TokenFault::AudienceWrong
        | TokenFault::Expired
        | TokenFault::NotYetValid => false,
    }
}

/// The one bearer token of a request.
fn sole_bearer(headers: &HeaderMap) -> Result<&str, CredentialFault> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(CredentialFault::Missing)?;
    if values.next().is_some() {
        return Err(CredentialFault::Doubled);
    }
    bearer(value.as_bytes())
}

/// The bearer token in a field's value, wherever it arrived.
pub(crate) fn bearer_in(value: &[u8]) -> Option<&str> {
    bearer(value).ok()
}

/// RFC 6750 §2.1: `Bearer` in any case (RFC 9110 §11.1), one space, a `b64token`.
fn bearer(value: &[u8]) -> Result<&str, CredentialFault> {
    let text = std::str::from_utf8(value).map_err(|_| CredentialFault::Malformed)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(CredentialFault::SchemeForeign);
    }
    let plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    let end = token.trim_end_matches('=');
    if end.is_empty() || !end.bytes().all(plain) {
        Err(CredentialFault::Malformed)
    } else {
        Ok(token)
    }
}

/// Verifications a second that all exhausted addresses together get from one worker: 200 of
/// 40 µs are under one percent of it.
const SLOW_LANE_STEP: Duration = Duration::from_millis(5);
/// Requests waiting in the slow lane; with the step this bounds the wait at 1.3 s.
const SLOW_LANE_LENGTH: usize = 256;

/// Where tokens from addresses with an exhausted budget wait, in order, for their verification.
#[derive(Default)]
pub(crate) struct SlowLane {
    waiting: Cell<usize>,
    turn: tokio::sync::Mutex<()>,
}

impl SlowLane {
    async fn wait(&self) -> Result<(), CredentialFault> {
        if self.waiting.get() >= SLOW_LANE_LENGTH {
            return Err(CredentialFault::Crowded);
        }
        let _place = Place::taken(&self.waiting);
        let _turn = self.turn.lock().await;
        tokio::time::sleep(SLOW_LANE_STEP).await;
        Ok(())
    }
}

/// A place in the lane, given up also when the one who waits goes away.
struct Place<'l>(&'l Cell<usize>);

impl<'l> Place<'l> {
    fn taken(waiting: &'l Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Place(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Refuses a token in the query (RFC 6750 §2.3, RFC 9700 §4.3.2: it lands in logs and histories),
/// and revokes it if it is alive. On a line open to `anyone`, `access_token` may be the API's own
/// parameter, so there only a live token of ours is refused.
async fn refuse_exposed(
    worker: &Worker,
    snapshot: &Snapshot,
    (cleansed, query, reads): (&Cleansed, &str, Credentials),
    draft: &Draft<'_>,
) -> Result<(), Halt> {
    let Some(token) = token_in_query(query) else { return Ok(()) };
    let seen = Seen { ip: cleansed.ip, at: cleansed.at };
    if let Some(verified) = verify_exposed(worker, snapshot, seen, &token).await {
        let exposure = Exposure {
            authority: &cleansed.authority,
            path: &cleansed.path,
            ip: cleansed.ip,
            request_id: draft.id.as_str(),
        };
        house::report_exposed(&worker.gateway.house, &exposure, verified).await;
        return Err(Refusal::CredentialExposed.into());
    }
    match reads {
        Credentials::Token => Err(Refusal::CredentialInQuery.into()),
        Credentials::Unread => Ok(()),
    }
}

/// Whether a query may name a token at all: nearly none does.
fn names_token(query: &str) -> bool {
    query.contains("access_token=") || query.contains('%')
}

/// The value of `access_token` in a query, escapes decoded.
pub(crate) fn token_in_query(query: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(name, _)| {
        *name == "access_token" || (name.contains('%') && decoded(name) == "access_token")
    });
    named.next().map(|(_, value)| decoded(value))
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
    fn a_bearer_token_has_one_shape() {
        let table = [
            ("Bearer abc.DEF-_~+/", Ok("abc.DEF-_~+/")),
            ("bearer abc==", Ok("abc==")),
            ("BEARER abc", Ok("abc")),
            ("Bearer", Err(CredentialFault::Malformed)),
            ("Bearer ", Err(CredentialFault::Malformed)),
            ("Bearer  abc", Err(CredentialFault::Malformed)),
            ("Bearer a b", Err(CredentialFault::Malformed)),
            ("Bearer a=b", Err(CredentialFault::Malformed)),
            ("Bearer ==", Err(CredentialFault::Malformed)),
            ("Bearer abc,Bearer def", Err(CredentialFault::Malformed)),
            ("Bearer é", Err(CredentialFault::Malformed)),
            ("Basic abc", Err(CredentialFault::SchemeForeign)),
            ("DPoP abc", Err(CredentialFault::SchemeForeign)),
            ("Bearer\tabc", Err(CredentialFault::SchemeForeign)),
            (" Bearer abc", Err(CredentialFault::SchemeForeign)),
            ("", Err(CredentialFault::SchemeForeign)),
        ];
        for (value, expected) in table {
            assert_eq!(bearer(value.as_bytes()), expected, "{value:?}");
        }
        assert_eq!(bearer(b"Bearer \xff"), Err(CredentialFault::Malformed));
    }

    #[test]
    fn a_token_is_found_in_any_query() {
        let table = [
            ("access_token=a.b.c", Some("a.b.c")),
            ("x=1&access_token=a%2Eb", Some("a.b")),
            ("acc%65ss_token=a", Some("a")),
            ("access_token=", Some("")),
            ("access_token", None),
            ("xaccess_token=a", None),
            ("x=access_token", None),
            ("%=1&%zz=2", None),
        ];
        for (query, expected) in table {
            assert_eq!(token_in_query(query).as_deref(), expected, "{query}");
            assert!(expected.is_none() || names_token(query), "{query}");
        }
    }

    #[test]
    fn the_slow_lane_is_bounded_and_forgets_who_left() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let lane = SlowLane::default();
            {
                let mut waiting: Vec<_> =
                    (0..SLOW_LANE_LENGTH).map(|_| Box::pin(lane.wait())).collect();
                for one in &mut waiting {
                    assert!(poll_once(one.as_mut()).await.is_none());
                }
                assert_eq!(lane.wait().await, Err(CredentialFault::Crowded));
            }
            assert_eq!(lane.waiting.get(), 0);
            assert_eq!(lane.wait().await, Ok(()));
        });
    }

    /// Polls once.
    async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match future.as_mut().poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
