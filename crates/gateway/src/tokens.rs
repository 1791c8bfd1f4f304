//! Verified tokens that a worker remembers: what was learned of a token once, and stays true for
//! as long as the rules' generation does.
//!
//! An entry is a function of (token, generation) alone. What can change between two requests is
//! never remembered: expiry, revocation and audience are asked on every hit, by
//! [`crate::authenticate`].

use std::cell::RefCell;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use portcullis_core::hash::{same, sha256};
use portcullis_core::jose::claims::{AccessClaims, CallerKind, FactorTimes};
use portcullis_core::jose::verify::Verified;
use portcullis_core::revocation::{Marks, RevocationKind};
use portcullis_core::secret::Secret;
use portcullis_core::time::Timestamp;
use portcullis_policy::entities::{Caller, Circumstances, UserCaller};
use quick_cache::unsync::{Cache, DefaultLifecycle};

use crate::authorize::StandingPermits;
use crate::passport::Passports;

/// Tokens remembered by one worker. At about 2 KiB each this is some 16 MiB when full.
pub(crate) const MAX_KNOWN: usize = 8 * 1024;

/// A token that was verified, with all that is derived from it.
pub(crate) struct Known {
    /// The rules' generation that it was verified under.
    pub(crate) generation: u64,
    token: Secret<Vec<u8>>,
    /// The claims, whose signature, type, issuer and times were checked.
    pub(crate) verified: Arc<Verified<AccessClaims>>,
    /// By what it can be revoked.
    pub(crate) marks: Marks,
    /// Who.
    pub(crate) caller: Caller,
    /// Who, in a record's words.
    pub(crate) label: String,
    /// The circumstances that the token fixes; time, address and ages are set at each question.
    pub(crate) circumstances: RefCell<Circumstances>,
    /// Operations that it may always do.
    pub(crate) permits: StandingPermits,
    /// What the upstream is shown.
    pub(crate) passports: Passports,
}

impl Known {
    /// Derives everything from a token's claims.
    pub(crate) fn new(token: &str, verified: Verified<AccessClaims>, generation: u64) -> Self {
        let claims = verified.claims();
        let caller = caller(claims);
        Known {
            generation,
            token: Secret::new(token.as_bytes().to_vec()),
            marks: marks(&verified),
            label: caller.label(),
            circumstances: RefCell::new(circumstances(claims)),
            permits: StandingPermits::default(),
            passports: Passports::default(),
            caller,
            verified: Arc::new(verified),
        }
    }

    /// The claims.
    pub(crate) fn claims(&self) -> &AccessClaims {
        self.verified.claims()
    }

    /// The OAuth client.
    pub(crate) fn client(&self) -> &str {
        self.claims().client_id.as_str()
    }

    /// Whether this is the entry of a token under a generation; constant time in the token.
    pub(crate) fn is(&self, token: &str, generation: u64) -> bool {
        self.generation == generation && same(self.token.expose(), token.as_bytes())
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
        for (factor, at) in moments(&self.claims().fat) {
            match at {
                Some(at) => circumstances.ages.insert(factor, now.unix().saturating_sub(at).max(0)),
                None => None,
            };
        }
        ask(&circumstances)
    }
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
    Circumstances {
        now: 0,
        ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        client: Some(claims.client_id.as_str().to_owned()),
        scopes: claims.scope.clone(),
        acr: claims.acr.clone(),
        amr: claims.amr.clone(),
        ages: Default::default(),
    }
}

fn marks(verified: &Verified<AccessClaims>) -> Marks {
    let claims = verified.claims();
    let mut things = vec![
        (RevocationKind::All, ""),
        (RevocationKind::Token, claims.jti.as_str()),
        (RevocationKind::Subject, claims.sub.as_str()),
        (RevocationKind::Client, claims.client_id.as_str()),
    ];
    things.extend(claims.gid.as_ref().map(|gid| (RevocationKind::Grant, gid.as_str())));
    things.extend(claims.sid.as_ref().map(|sid| (RevocationKind::Session, sid.as_str())));
    things.extend(verified.kid().map(|kid| (RevocationKind::Key, kid)));
    let groups = claims.groups.iter().chain(&claims.roles);
    things.extend(groups.map(|group| (RevocationKind::Group, group.as_str())));
    Marks::collect(claims.rev, &things)
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
    pub(crate) fn find(&self, digest: &Digest, generation: u64) -> Option<Rc<Known>> {
        let cache = self.0.borrow();
        cache.get(&digest.0).filter(|known| known.generation == generation).cloned()
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
