//! Stage 6: whose request it is. Exactly one credential, of a kind that the operation accepts: an
//! access token of ours (RFC 9068), a JWT or opaque, as `Bearer` (RFC 6750 §2.1) or, bound to a key, as
//! `DPoP` (RFC 9449 §7.1); bound to a certificate, on a connection that showed it (RFC 8705 §3); or an
//! API key where the line says `accept = "key"`; or the token of another issuer of the file
//! ([`crate::foreign`]).
//!
//! [`credential`] finds it, [`key`] knows API keys, [`possession`] holds it against proof and
//! certificate, [`exposed`] refuses what shows itself where it may not, [`slow_lane`] bounds the
//! signatures of who fails too often. Proves who; decides nothing about what they may do. An operation
//! open to `anyone` reads no credential at all, so that a stale token never breaks what is public.

mod credential;
mod key;
mod possession;
mod exposed;
mod slow_lane;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use portcullis_core::jose::claims::AccessClaims;
use portcullis_core::jose::dpop::ProofFault;
use portcullis_core::jose::jws::TokenFault;
use portcullis_core::jose::verify::{self, OPAQUE_PREFIX, Verified};
use portcullis_core::time::Timestamp;
use portcullis_policy::resource::Resource;

use crate::foreign::{self, ForeignFault, Recognised};
use crate::house::Reads;
use crate::hygiene::Cleansed;
use crate::journey::{Halt, Worker};
use crate::limit;
use crate::memory::{Credentials, Visitor};
use crate::record::{Draft, Stage, count};
use crate::refusal::Refusal;
use crate::route::{Destination, Routed};
use crate::snapshot::Snapshot;
use crate::tokens::{Digest, Known, Proven};

pub(crate) use credential::{API_KEY, DPOP, DPOP_NONCE, Scheme, credential_in, looks_like_key};
pub(crate) use exposed::{Exposed, shown_in_query, verify_exposed};
pub(crate) use slow_lane::SlowLane;

/// A request whose caller is known, or whose destination does not ask.
pub struct Identified {
    routed: Routed,
    presence: Presence,
}

/// What is known of the caller.
pub(crate) enum Presence {
    /// No credential was read here.
    Unread,
    /// A credential: verified, alive, for this audience, in the hands that it is bound to.
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
    /// For [`crate::authorize`] alone, which fills in what rules read.
    pub(crate) fn learn(&mut self) -> Option<(&mut Cleansed, &mut Resource)> {
        self.routed.learn()
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
/// its failures, for the house when an exposed token is revoked, and for other issuers.
pub(crate) async fn identify(
    worker: &Worker,
    snapshot: &Snapshot,
    routed: Routed,
    draft: &mut Draft<'_>,
) -> Result<Identified, Halt> {
    draft.stage = Stage::Authenticate;
    let cleansed = routed.cleansed();
    let (reads, audience) = match routed.destination() {
        Destination::Operation { kit, .. } => {
            draft.scheme = kit.scheme;
            (kit.reads, Some(&*kit.api.audience))
        }
        Destination::House(line) => match line.reads {
            Reads::Nothing | Reads::Session | Reads::Client => (Credentials::Unread, None),
            // Any token of ours, whatever it is for (`4-identity`, "Tokens"): the page asks for more.
            Reads::Token => (Credentials::Token, None),
        },
    };
    if let Some(query) = cleansed.query.as_deref().filter(|query| exposed::names_token(query)) {
        let exposed = (cleansed, query, reads);
        Box::pin(exposed::refuse_exposed(worker, snapshot, exposed, draft)).await?;
    }
    if reads == Credentials::Unread {
        return Ok(Identified { routed, presence: Presence::Unread });
    }
    let desk = Desk { worker, snapshot, cleansed, reads, audience };
    match desk.identify(draft).await {
        Ok(known) => {
            draft.known = Some(known.clone());
            Ok(Identified { routed, presence: Presence::Token(known) })
        }
        Err(fault) => Err(desk.refuse(fault, draft).into()),
    }
}

/// Why there is no identity: what the credential lacks, before it is put as a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialFault {
    /// None was sent.
    Missing,
    /// More than one was.
    Doubled,
    /// A scheme that is not spoken here.
    SchemeForeign,
    /// No `b64token`.
    Malformed,
    /// The token breaks a rule.
    Token(TokenFault),
    /// A token that no key is bound to, in the scheme `DPoP`.
    TokenNotOfKey,
    /// No proof beside a token that is bound to a key.
    ProofMissing,
    /// Two proofs.
    ProofDoubled,
    /// A proof that is no text.
    ProofUnreadable,
    /// The proof breaks a rule.
    Proof(ProofFault),
    /// The proof is of another key than the token's.
    ProofKeyOther,
    /// No certificate on the connection of a token that is bound to one.
    CertificateMissing,
    /// Another certificate.
    CertificateOther,
    /// A key in a field of its own.
    KeyMisplaced,
    /// A key on a line that does not accept keys.
    KeyNotAccepted,
    /// A key that we never made.
    KeyForged,
    /// A key of ours that is not alive.
    KeyDead,
    /// From a network that it may not come from.
    KeyNetworkForeign,
    /// Its issuer is not accepted any more.
    IssuerEnded,
    /// Its issuer could never be asked.
    IssuerUnreached,
    /// Too many wait for its issuer.
    IssuersCrowded,
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
    reads: Credentials,
    audience: Option<&'a str>,
}

impl Desk<'_> {
    async fn identify(&self, draft: &mut Draft<'_>) -> Result<Rc<Known>, CredentialFault> {
        let presented = credential::sole(&self.cleansed.parts.headers)?;
        if presented.scheme == Scheme::Dpop {
            draft.scheme = Scheme::Dpop;
        }
        if self.reads != Credentials::TokenOrKey && looks_like_key(presented.text.as_bytes()) {
            // Not even looked at: whether it is alive must not be learned here.
            return Err(CredentialFault::KeyNotAccepted);
        }
        let visitor = self.worker.visitors.of(self.cleansed);
        let known = self.recognise(presented.text, &visitor).await?;
        self.still_holds(&known, presented.text)?;
        // Last: a proof is spent by looking at it, so nothing that is refused anyway may spend one.
        self.possesses(&known, presented).await?;
        Ok(known)
    }

    /// The entry of a credential: the connection's last, one from memory, or a new one.
    async fn recognise(&self, text: &str, visitor: &Visitor) -> Result<Rc<Known>, CredentialFault> {
        let (generation, now) = (self.snapshot.generation, self.cleansed.at);
        let figures = &self.worker.gateway.figures;
        if let Some(known) = visitor.token.borrow().as_ref()
            && known.stands(generation, now)
            && known.is(text)
        {
            count(&figures.token_cache_hits_total);
            return Ok(known.clone());
        }
        let digest = Digest::of(text);
        let known = match self.worker.tokens.find(&digest, generation, now) {
            Some(known) => {
                count(&figures.token_cache_hits_total);
                known
            }
            None => {
                let proven = self.prove(text).await?;
                let known = Rc::new(Known::new(text, proven, generation));
                self.worker.tokens.keep(digest, known.clone());
                known
            }
        };
        *visitor.token.borrow_mut() = Some(known.clone());
        Ok(known)
    }

    async fn prove(&self, text: &str) -> Result<Proven, CredentialFault> {
        if looks_like_key(text.as_bytes()) {
            return Ok(Proven::Key(key::find(self.worker, self.snapshot, text)?));
        }
        let seen = Seen { ip: self.cleansed.ip, at: self.cleansed.at };
        match verify(self.worker, self.snapshot, seen, text).await {
            Ok(verified) => Ok(Proven::Own(Arc::new(verified))),
            Err(CredentialFault::Token(fault)) if !self.snapshot.issuers.is_empty() => {
                let recognised = Box::pin(self.recognise_foreign(text, fault)).await?;
                Ok(Proven::Foreign(Box::new(recognised)))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Whether another issuer stands for a token that is not ours for this reason.
    async fn recognise_foreign(
        &self,
        text: &str,
        fault: TokenFault,
    ) -> Result<Recognised, CredentialFault> {
        let (foreign, issuers) = (&self.worker.gateway.foreign, &self.snapshot.issuers);
        let recognised = foreign::recognise(foreign, issuers, text, self.cleansed.at).await;
        recognised.map_err(|other| match other {
            ForeignFault::NotForeign => CredentialFault::Token(fault),
            ForeignFault::Token(fault) => CredentialFault::Token(fault),
            ForeignFault::IssuerEnded => CredentialFault::IssuerEnded,
            ForeignFault::NeverReached => CredentialFault::IssuerUnreached,
            ForeignFault::Crowded => CredentialFault::IssuersCrowded,
        })
    }

    /// What is asked again on every request, hit or miss.
    fn still_holds(&self, known: &Known, text: &str) -> Result<(), CredentialFault> {
        let gateway = &self.worker.gateway;
        // RFC 7519 §4.1.4: on or after `exp` a token MUST NOT be accepted.
        if self.cleansed.at.unix() >= known.ends {
            self.worker.tokens.forget(&Digest::of(text));
            return Err(TokenFault::Expired.into());
        }
        if gateway.revoked.kills(&known.marks) {
            return Err(TokenFault::Revoked.into());
        }
        // RFC 9068 §4: `aud` must be this resource server, byte for byte; a page of ours takes any
        // token, but of ours alone.
        let fits = self.audience.map_or(known.own().is_some(), |audience| known.is_for(audience));
        if !fits {
            return Err(TokenFault::AudienceWrong.into());
        }
        if let Proven::Key(key) = &known.proven {
            if !key.may_come_from(self.cleansed.ip) {
                return Err(CredentialFault::KeyNetworkForeign);
            }
            known.noted.note(&gateway.key_uses, &key.id, self.cleansed.at);
        }
        Ok(())
    }

    /// Puts a fault as a refusal: charges the address for what is forged, and once its budget is
    /// spent answers 429 where 401 stood.
    fn refuse(&self, fault: CredentialFault, draft: &mut Draft<'_>) -> Refusal {
        let counters = self.worker.gateway.counters.as_ref();
        let (ip, now) = (self.cleansed.ip, self.cleansed.at);
        let spent = match blame(fault) {
            Blame::Forged => limit::charge_failure(counters, self.snapshot, ip, now),
            Blame::Nothing => limit::failures_exhausted(counters, self.snapshot, ip, now),
            Blame::Ours => None,
        };
        if let Some(standing) = spent {
            draft.standing = Some(standing);
            return Refusal::FailuresExhausted;
        }
        match fault {
            CredentialFault::Crowded => Refusal::FailuresExhausted,
            fault => Refusal::Credential(fault),
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
    Ok(verify_now(worker, snapshot, seen, token)?)
}

fn verify_now(
    worker: &Worker,
    snapshot: &Snapshot,
    seen: Seen,
    token: &str,
) -> Result<Verified<AccessClaims>, TokenFault> {
    count(&worker.gateway.figures.tokens_verified_total);
    // The audience is left to `still_holds`: the entry must not depend on where it was used.
    if token.starts_with(OPAQUE_PREFIX) {
        let sealer = &worker.gateway.sealer;
        return verify::opaque_token(token, sealer, &snapshot.issuer, None, seen.at);
    }
    verify::access_token(token, &snapshot.keys, &snapshot.issuer, None, seen.at)
}

/// What a fault says of who sent it.
enum Blame {
    /// Nobody gave it this credential, or it was taken back: the address is charged.
    Forged,
    /// The credential is genuine, or none.
    Nothing,
    /// No fault of the sender: we cannot tell, or it lacks the nonce that this answer hands out. Put as
    /// what it is also where the address has spent its failures, or a valid token could not get in.
    Ours,
}

/// Which faults charge the address (`5-limits`, point 6): only what we never made, or took back. A
/// token that merely expired, or was meant for another API, is a genuine one.
fn blame(fault: CredentialFault) -> Blame {
    let forged = |forged: bool| if forged { Blame::Forged } else { Blame::Nothing };
    match fault {
        CredentialFault::Token(fault) => forged(is_forged_token(fault)),
        CredentialFault::Proof(ProofFault::Crowded | ProofFault::NonceWanted)
        | CredentialFault::IssuerUnreached
        | CredentialFault::IssuersCrowded => Blame::Ours,
        CredentialFault::Proof(fault) => forged(possession::is_forged(fault)),
        CredentialFault::Malformed
        | CredentialFault::ProofUnreadable
        | CredentialFault::ProofKeyOther
        | CredentialFault::KeyForged
        | CredentialFault::KeyDead => Blame::Forged,
        CredentialFault::Missing
        | CredentialFault::Doubled
        | CredentialFault::SchemeForeign
        | CredentialFault::TokenNotOfKey
        | CredentialFault::ProofMissing
        | CredentialFault::ProofDoubled
        | CredentialFault::CertificateMissing
        | CredentialFault::CertificateOther
        | CredentialFault::KeyMisplaced
        | CredentialFault::KeyNotAccepted
        | CredentialFault::KeyNetworkForeign
        | CredentialFault::IssuerEnded
        | CredentialFault::Crowded => Blame::Nothing,
    }
}

fn is_forged_token(fault: TokenFault) -> bool {
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
