//! Verified credentials that a worker remembers: what was learned of one, once, and stays true for
//! as long as the rules' generation does.
//!
//! An entry is a function of (credential, generation) alone. What can change between two requests is
//! never remembered: expiry, revocation, audience, and the proof or certificate that the credential is
//! bound to are asked on every hit, by [`crate::authenticate`].

use std::cell::RefCell;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use portcullis_core::audit::{Part, neutralise};
use portcullis_core::foreign::{Mapped, Subjects, mapped};
use portcullis_core::hash::{same, sha256};
use portcullis_core::jose::claims::{AccessClaims, CallerKind, Confirmation, FactorTimes};
use portcullis_core::jose::verify::Verified;
use portcullis_core::revocation::{Marks, RevocationKind};
use portcullis_core::scope::Scopes;
use portcullis_core::secret::Secret;
use portcullis_core::time::Timestamp;
use portcullis_policy::entities::{Caller, Circumstances, UserCaller};
use portcullis_policy::replay;
use quick_cache::unsync::{Cache, DefaultLifecycle};

use crate::api_keys::{LiveKey, Noted};
use crate::authorize::StandingPermits;
use crate::foreign::Recognised;
use crate::passport::{Passports, Traveller};

/// Tokens remembered by one worker. At about 2 KiB each this is some 16 MiB when full.
pub(crate) const MAX_KNOWN: usize = 8 * 1024;

/// A credential that was proven to be what it says.
pub(crate) enum Proven {
    /// An access token of ours, a JWT or opaque: signature or seal, type, issuer and times were checked.
    Own(Arc<Verified<AccessClaims>>),
    /// An API key of ours that is live.
    Key(Arc<LiveKey>),
    /// A token that another issuer stands for.
    Foreign(Box<Recognised>),
}

/// A proven credential, with all that is derived from it.
pub(crate) struct Known {
    /// The rules' generation that it was verified under.
    pub(crate) generation: u64,
    token: Secret<Vec<u8>>,
    pub(crate) proven: Proven,
    /// When it ends, Unix seconds.
    pub(crate) ends: i64,
    /// Until when this entry may stand for it: for another's token, less than its life.
    believed_until: i64,
    /// The OAuth client.
    client: Box<str>,
    /// What it is bound to.
    pub(crate) confirmation: Option<Confirmation>,
    /// By what it can be revoked.
    pub(crate) marks: Marks,
    /// Who.
    pub(crate) caller: Caller,
    /// Who, in a record's words.
    pub(crate) label: String,
    /// What rules may read of it, as records carry it; `None` where that is too long.
    pub(crate) facts: Option<Part>,
    /// The circumstances that the token fixes; time, address and ages are set at each question.
    pub(crate) circumstances: RefCell<Circumstances>,
    /// Operations that it may always do.
    pub(crate) permits: StandingPermits,
    /// What the upstream is shown.
    pub(crate) passports: Passports,
    /// When an API key's use was noted.
    pub(crate) noted: Noted,
}

impl Known {
    /// Derives everything from a credential.
    pub(crate) fn new(text: &str, proven: Proven, generation: u64) -> Self {
        let facts = match &proven {
            Proven::Own(verified) => Facts::of_token(verified),
            Proven::Key(key) => Facts::of_key(key),
            Proven::Foreign(recognised) => Facts::of_foreign(recognised),
        };
        let recorded = recorded(&proven, &facts);
        Known {
            generation,
            token: Secret::new(text.as_bytes().to_vec()),
            ends: facts.ends,
            believed_until: facts.believed_until,
            client: facts.circumstances.client.as_deref().unwrap_or_default().into(),
            confirmation: facts.confirmation,
            marks: facts.marks,
            // Another issuer's `sub` may be any text.
            label: neutralise(&facts.caller.label()),
            facts: recorded,
            caller: facts.caller,
            circumstances: RefCell::new(facts.circumstances),
            permits: StandingPermits::default(),
            passports: Passports::default(),
            noted: Noted::default(),
            proven,
        }
    }

    /// A token of our own.
    pub(crate) fn own(&self) -> Option<&Arc<Verified<AccessClaims>>> {
        match &self.proven {
            Proven::Own(verified) => Some(verified),
            Proven::Key(_) | Proven::Foreign(_) => None,
        }
    }

    /// Whether it was made for a resource, byte for byte (RFC 9068 §4). An API key is for every line
    /// that accepts keys; another's token carries an audience of the file's, which was compared when it
    /// was recognised.
    pub(crate) fn is_for(&self, audience: &str) -> bool {
        match &self.proven {
            Proven::Own(verified) => verified.claims().aud == audience,
            Proven::Key(_) | Proven::Foreign(_) => true,
        }
    }

    /// Whom it speaks for, as limits count it.
    pub(crate) fn subject(&self) -> &str {
        match &self.caller {
            Caller::User(user) => &user.id,
            Caller::Service { id, .. } => id,
            Caller::Anonymous => "",
        }
    }

    /// The OAuth client.
    pub(crate) fn client(&self) -> &str {
        &self.client
    }

    /// What an upstream is told.
    pub(crate) fn traveller(&self) -> Traveller<'_> {
        match &self.proven {
            Proven::Own(verified) => Traveller::of_token(verified.claims()),
            Proven::Key(key) => Traveller::of_key(key),
            Proven::Foreign(recognised) => {
                let claims = recognised.claims();
                Traveller::of_another(
                    &self.caller,
                    &self.client,
                    (&claims.iss, claims.act.as_ref()),
                )
            }
        }
    }

    /// When each kind of factor was last used.
    fn factors(&self) -> FactorTimes {
        self.proven.factors()
    }

    /// Whether it may stand for its credential without that being looked at again.
    pub(crate) fn stands(&self, generation: u64, now: Timestamp) -> bool {
        self.generation == generation && now.unix() < self.believed_until
    }

    /// Whether this is the entry of a credential; constant time in its text.
    pub(crate) fn is(&self, token: &str) -> bool {
        same(self.token.expose(), token.as_bytes())
    }

    /// Sets what differs from request to request.
    pub(crate) fn in_circumstances<T>(
        &self,
        now: Timestamp,
        ip: IpAddr,
        ask: impl FnOnce(&Circumstances) -> T,
    ) -> T {
        let mut circumstances = self.circumstances.borrow_mut();
        circumstances.now = now.unix();
        circumstances.ip = ip;
        for (factor, at) in moments(&self.factors()) {
            match at {
                Some(at) => circumstances.ages.insert(factor, now.unix().saturating_sub(at).max(0)),
                None => None,
            };
        }
        ask(&circumstances)
    }
}

impl Proven {
    fn factors(&self) -> FactorTimes {
        match self {
            Proven::Own(verified) => verified.claims().fat,
            // RFC 8725 §3.8: when another's users showed what is not ours to believe.
            Proven::Key(_) | Proven::Foreign(_) => FactorTimes::default(),
        }
    }
}

/// What a record carries, so that the decision can be made again (`replay`): written once a token.
fn recorded(proven: &Proven, facts: &Facts) -> Option<Part> {
    let factors = moments(&proven.factors()).into_iter();
    let factors = factors.filter_map(|(name, at)| Some((name, at?)));
    Part::of(&replay::Facts::of(&facts.caller, &facts.circumstances, factors))
}

/// When each factor was last used; `mfa` when two kinds were, or one that is two by itself.
fn moments(fat: &FactorTimes) -> [(&'static str, Option<i64>); 5] {
    let known = fat.pwd.max(fat.otp);
    // Two factors are as fresh as the older of them; a hardware-bound key with user verification
    // counts as both (NIST SP 800-63B §2.2.2).
    let both = fat.pwd.zip(fat.otp).map(|(pwd, otp)| pwd.min(otp));
    [
        ("any", known.max(fat.hwk)),
        ("mfa", both.max(fat.hwk)),
        ("passkey", fat.hwk),
        ("totp", fat.otp),
        ("password", fat.pwd),
    ]
}

/// What a credential says, before it is kept.
struct Facts {
    ends: i64,
    believed_until: i64,
    confirmation: Option<Confirmation>,
    marks: Marks,
    caller: Caller,
    circumstances: Circumstances,
}

impl Facts {
    fn of_token(verified: &Verified<AccessClaims>) -> Self {
        let claims = verified.claims();
        Facts {
            ends: claims.exp,
            believed_until: i64::MAX,
            confirmation: claims.cnf.clone(),
            marks: marks(verified),
            caller: caller(claims),
            circumstances: circumstances(claims),
        }
    }

    fn of_key(key: &LiveKey) -> Self {
        let id = key.client.as_str().to_owned();
        Facts {
            ends: key.expires.unix(),
            believed_until: i64::MAX,
            confirmation: None,
            marks: key.marks(),
            circumstances: blank(Some(id.clone()), key.scopes.clone()),
            caller: Caller::Service { id, tenant: None },
        }
    }

    /// Of another issuer's token: what the operator's map makes of it, and nothing else. Its own
    /// scopes, roles, `acr` and `amr` are words of a house that is not ours.
    fn of_foreign(recognised: &Recognised) -> Self {
        let (issuer, claims) = (recognised.issuer(), recognised.claims());
        // INVARIANT: `NAME|sub` is no id of ours, which have no `|` (core::id): a principal is (issuer,
        // sub), so nobody else's subject is ever taken for one of our users, services or actors.
        let qualified = |word: &str| format!("{}|{word}", issuer.name);
        let id = qualified(&claims.sub);
        let Mapped { roles, groups, tenant, attributes } = mapped(issuer, claims);
        let issuer_text = claims.iss.clone();
        let caller = match issuer.map.subjects {
            Subjects::Users => {
                let issuer = issuer_text;
                Caller::User(UserCaller { id, issuer, tenant, roles, groups, attributes })
            }
            Subjects::Services => Caller::Service { id, tenant },
        };
        let actors = claims.act.as_ref().map(|actor| actor.chain()).unwrap_or_default();
        let client = claims.client.as_deref().map(qualified);
        Facts {
            ends: claims.exp,
            believed_until: recognised.believed_until().unix(),
            confirmation: claims.cnf.clone(),
            marks: foreign_marks(recognised),
            caller,
            circumstances: Circumstances {
                dpop: matches!(claims.cnf, Some(Confirmation::Key(_))),
                mtls: matches!(claims.cnf, Some(Confirmation::Certificate(_))),
                actors: actors.into_iter().map(qualified).collect(),
                ..blank(client, Scopes::default())
            },
        }
    }
}

/// Another's token has no `rev`: whatever is revoked of it kills it for as long as the entry stands.
fn foreign_marks(recognised: &Recognised) -> Marks {
    let claims = recognised.claims();
    let subject = format!("{} {}", claims.iss, claims.sub);
    let mut things = vec![(RevocationKind::Subject, subject.as_str())];
    things.extend(recognised.kid().map(|kid| (RevocationKind::Key, kid)));
    Marks::collect(0, &things)
}

fn caller(claims: &AccessClaims) -> Caller {
    match claims.kind {
        CallerKind::User => Caller::User(UserCaller {
            id: claims.sub.clone(),
            issuer: claims.iss.clone(),
            tenant: claims.tenant.clone(),
            roles: claims.roles.clone(),
            groups: claims.groups.clone(),
            attributes: claims.attributes.clone(),
        }),
        CallerKind::Service => {
            Caller::Service { id: claims.sub.clone(), tenant: claims.tenant.clone() }
        }
    }
}

fn circumstances(claims: &AccessClaims) -> Circumstances {
    let actors = claims.act.as_ref().map(|actor| actor.chain()).unwrap_or_default();
    Circumstances {
        acr: claims.acr.clone(),
        amr: claims.amr.clone(),
        // INVARIANT: what the token is bound to was proven by the request before anyone asks these.
        dpop: matches!(claims.cnf, Some(Confirmation::Key(_))),
        mtls: matches!(claims.cnf, Some(Confirmation::Certificate(_))),
        actors: actors.into_iter().map(str::to_owned).collect(),
        ..blank(Some(claims.client_id.as_str().to_owned()), claims.scope.clone())
    }
}

/// Circumstances of a client with scopes and nothing else.
fn blank(client: Option<String>, scopes: Scopes) -> Circumstances {
    Circumstances {
        now: 0,
        ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        client,
        scopes,
        acr: None,
        amr: Vec::new(),
        ages: Default::default(),
        dpop: false,
        mtls: false,
        actors: Vec::new(),
    }
}

fn marks(verified: &Verified<AccessClaims>) -> Marks {
    Marks::of(verified.claims(), verified.kid())
}

/// The memory of one worker.
pub(crate) struct TokenCache(
    RefCell<Cache<[u8; 32], Rc<Known>, quick_cache::UnitWeighter, Spread>>,
);

/// SHA-256 is spread already, and only tokens that verified get in, so nobody can pile entries up.
type Spread = BuildHasherDefault<FirstWord>;

/// The first eight bytes of a digest, as its hash.
#[derive(Default)]
struct FirstWord(u64);

impl Hasher for FirstWord {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        if let Some(word) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*word);
        }
    }
    fn write_usize(&mut self, _length: usize) {
        // The length of a digest says nothing.
    }
}

/// What a token is looked up by.
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// Of the whole token, signature included: two signatures over the same claims are two tokens.
    pub(crate) fn of(token: &str) -> Self {
        Digest(sha256(token.as_bytes()))
    }
}

impl TokenCache {
    /// An empty memory.
    pub(crate) fn new() -> Self {
        let (weights, spread) = (quick_cache::UnitWeighter, Spread::default());
        let lifecycle = DefaultLifecycle::default();
        TokenCache(RefCell::new(Cache::with(
            MAX_KNOWN,
            MAX_KNOWN as u64,
            weights,
            spread,
            lifecycle,
        )))
    }

    /// The entry of a token, if it was verified under this generation.
    pub(crate) fn find(
        &self,
        digest: &Digest,
        generation: u64,
        now: Timestamp,
    ) -> Option<Rc<Known>> {
        let cache = self.0.borrow();
        cache.get(&digest.0).filter(|known| known.stands(generation, now)).cloned()
    }

    /// Remembers a token.
    pub(crate) fn keep(&self, digest: Digest, known: Rc<Known>) {
        self.0.borrow_mut().insert(digest.0, known);
    }

    /// Forgets one, so that what cannot be used any more takes no place.
    pub(crate) fn forget(&self, digest: &Digest) {
        self.0.borrow_mut().remove(&digest.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_of_the_weaker_half() {
        let table = [
            // (pwd, otp, hwk) → (any, mfa)
            ((None, None, None), (None, None)),
            ((Some(10), None, None), (Some(10), None)),
            ((Some(10), Some(20), None), (Some(20), Some(10))),
            ((Some(10), None, Some(5)), (Some(10), Some(5))),
            ((Some(10), Some(20), Some(30)), (Some(30), Some(30))),
        ];
        for ((pwd, otp, hwk), (any, mfa)) in table {
            let moments = moments(&FactorTimes { pwd, otp, hwk });
            assert_eq!(moments[0], ("any", any));
            assert_eq!(moments[1], ("mfa", mfa));
        }
    }
}
