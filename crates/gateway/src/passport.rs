//! `Portcullis-Identity`: what an upstream is told of the caller, signed (ES256, `pc-id+jwt`).
//!
//! Its audience is the **upstream's origin** as the config writes it (`https://10.0.0.12:8443`):
//! the one name that an upstream surely knows itself by. One is reused for 30 of its 60 seconds,
//! per caller and upstream, so that a hot token costs no signature; being shared, it carries no `rid`.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use portcullis_core::jose::claims::{AccessClaims, Actor, CallerKind, PassportClaims};
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_policy::entities::Caller;

use crate::api_keys::LiveKey;

/// The JWT's `typ`: never accepted as an access token (RFC 8725 §3.11).
pub(crate) const TYP: &str = "pc-id+jwt";
/// How long one is good for, in seconds.
const LIFE_S: i64 = 60;
/// How long one is sent again: at least 30 s are left when it leaves.
const REUSE_S: i64 = 30;
/// Audiences remembered beside one caller: a token has one API; anonymous callers have their own.
const MAX_KEPT: usize = 8;

/// The passports of one caller, by audience.
#[derive(Default)]
pub(crate) struct Passports(RefCell<Vec<Kept>>);

struct Kept {
    audience: Arc<str>,
    minted: i64,
    value: HeaderValue,
}

/// Who issues, for whom, when.
pub(crate) struct Journey<'a> {
    pub(crate) key: &'a SigningKey,
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a Arc<str>,
    pub(crate) now: Timestamp,
}

/// Whom a passport names.
pub(crate) struct Traveller<'a> {
    sub: &'a str,
    kind: CallerKind,
    client_id: Option<&'a str>,
    tenant: Option<&'a str>,
    scope: Option<&'a Scopes>,
    roles: &'a [String],
    acr: Option<&'a str>,
    act: Option<&'a Actor>,
    issuer: Option<&'a str>,
}

impl<'a> Traveller<'a> {
    /// Of a token of ours. What it is bound to (`cnf`) stays here: the upstream sees no proof.
    pub(crate) fn of_token(claims: &'a AccessClaims) -> Self {
        Traveller {
            sub: &claims.sub,
            kind: claims.kind,
            client_id: Some(claims.client_id.as_str()),
            tenant: claims.tenant.as_deref(),
            scope: Some(&claims.scope),
            roles: &claims.roles,
            acr: claims.acr.as_deref(),
            act: claims.act.as_ref(),
            issuer: None,
        }
    }

    /// Of another issuer's token: who it is here, and whose it is. Its scopes mean nothing here.
    pub(crate) fn of_another(
        caller: &'a Caller,
        client_id: &'a str,
        (issuer, act): (&'a str, Option<&'a Actor>),
    ) -> Self {
        let (sub, kind, tenant, roles): (&str, _, _, &[String]) = match caller {
            Caller::User(user) => (&user.id, CallerKind::User, &user.tenant, &user.roles),
            Caller::Service { id, tenant } => (id, CallerKind::Service, tenant, &[]),
            Caller::Anonymous => ("", CallerKind::Service, &None, &[]),
        };
        Traveller {
            sub,
            kind,
            client_id: Some(client_id).filter(|id| !id.is_empty()),
            tenant: tenant.as_deref(),
            scope: None,
            roles,
            acr: None,
            act,
            issuer: Some(issuer),
        }
    }

    /// Of an API key: the service that it belongs to.
    pub(crate) fn of_key(key: &'a LiveKey) -> Self {
        Traveller {
            sub: key.client.as_str(),
            kind: CallerKind::Service,
            client_id: Some(key.client.as_str()),
            tenant: None,
            scope: Some(&key.scopes),
            roles: &[],
            acr: None,
            act: None,
            issuer: None,
        }
    }
}

impl Passports {
    /// The passport for an audience: one from memory, or a new one.
    pub(crate) fn show<'t>(
        &self,
        journey: &Journey<'_>,
        traveller: impl FnOnce() -> Option<Traveller<'t>>,
    ) -> HeaderValue {
        let now = journey.now.unix();
        let mut kept = self.0.borrow_mut();
        let mine = kept.iter().position(|one| one.audience == *journey.audience);
        // A clock set back must not stretch a passport's life: reuse only within [0, 30].
        if let Some(one) = mine.and_then(|place| kept.get(place))
            && (0..=REUSE_S).contains(&now.saturating_sub(one.minted))
        {
            return one.value.clone();
        }
        let value = sign(journey, traveller().as_ref(), now);
        let new = Kept { audience: journey.audience.clone(), minted: now, value: value.clone() };
        if let Some(place) = mine {
            kept.swap_remove(place);
        }
        if kept.len() < MAX_KEPT {
            kept.push(new);
        }
        value
    }
}

fn sign(journey: &Journey<'_>, traveller: Option<&Traveller<'_>>, now: i64) -> HeaderValue {
    let passport = PassportClaims {
        iss: journey.issuer,
        aud: journey.audience,
        sub: traveller.map(|one| one.sub),
        kind: match traveller.map(|one| one.kind) {
            Some(CallerKind::User) => "user",
            Some(CallerKind::Service) => "service",
            None => "anonymous",
        },
        client_id: traveller.and_then(|one| one.client_id),
        tenant: traveller.and_then(|one| one.tenant),
        scope: traveller.and_then(|one| one.scope).map(Scopes::to_string),
        roles: traveller.map(|one| one.roles).unwrap_or_default(),
        acr: traveller.and_then(|one| one.acr),
        act: traveller.and_then(|one| one.act),
        caller_iss: traveller.and_then(|one| one.issuer),
        iat: now,
        exp: now.saturating_add(LIFE_S),
        rid: None,
    };
    let jwt = journey.key.sign(TYP, &passport);
    HeaderValue::from_maybe_shared(Bytes::from(jwt)).expect("a compact JWS is printable ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_core::jose::algorithm::Algorithm;
    use portcullis_core::jose::jws;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + seconds)
    }

    fn payload(value: &HeaderValue) -> serde_json::Value {
        let unverified = jws::parse(value.to_str().unwrap()).unwrap();
        assert_eq!(unverified.typ.as_deref(), Some(TYP));
        serde_json::from_slice(&unverified.payload).unwrap()
    }

    #[test]
    fn reused_for_thirty_seconds_and_no_longer() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let (one, other): (Arc<str>, Arc<str>) = ("https://a".into(), "https://b".into());
        let passports = Passports::default();
        let show = |audience, now| {
            let journey = Journey { key: &key, issuer: "https://login", audience, now };
            passports.show(&journey, || None)
        };
        let first = show(&one, at(0));
        assert_eq!(show(&one, at(30)), first);
        let second = show(&one, at(31));
        assert_ne!(second, first);
        assert_ne!(show(&one, at(-5)), second, "a clock set back mints anew");
        let foreign = show(&other, at(31));
        assert_eq!(payload(&foreign)["aud"], "https://b");
    }

    #[test]
    fn an_anonymous_passport_names_nobody() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let audience: Arc<str> = "http://127.0.0.1:3000".into();
        let journey =
            Journey { key: &key, issuer: "https://login", audience: &audience, now: at(0) };
        let shown = payload(&Passports::default().show(&journey, || None));
        assert_eq!(shown["kind"], "anonymous");
        assert_eq!(shown["exp"].as_i64().unwrap() - shown["iat"].as_i64().unwrap(), 60);
        for absent in ["sub", "client_id", "scope", "roles", "act", "caller_iss", "rid"] {
            assert!(shown.get(absent).is_none(), "{absent}");
        }
    }
}
