//! `Portcullis-Identity`: what an upstream is told of the caller, signed (ES256, `pc-id+jwt`).
//!
//! Its audience is the **upstream's origin** as the config writes it (`https://10.0.0.12:8443`):
//! the one name that an upstream surely knows itself by. One is reused for 30 of its 60 seconds,
//! per caller and upstream, so that a hot token costs no signature; being shared, it carries no `rid`.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use portcullis_core::jose::claims::{AccessClaims, CallerKind, PassportClaims};
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::time::Timestamp;

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

impl Passports {
    /// The passport for an audience: one from memory, or a new one.
    pub(crate) fn show(&self, journey: &Journey<'_>, claims: Option<&AccessClaims>) -> HeaderValue {
        let now = journey.now.unix();
        let mut kept = self.0.borrow_mut();
        let mine = kept.iter().position(|one| one.audience == *journey.audience);
        // A clock set back must not stretch a passport's life: reuse only within [0, 30].
        if let Some(one) = mine.and_then(|place| kept.get(place))
            && (0..=REUSE_S).contains(&now.saturating_sub(one.minted))
        {
            return one.value.clone();
        }
        let value = sign(journey, claims, now);
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

fn sign(journey: &Journey<'_>, claims: Option<&AccessClaims>, now: i64) -> HeaderValue {
    let passport = PassportClaims {
        iss: journey.issuer,
        aud: journey.audience,
        sub: claims.map(|claims| claims.sub.as_str()),
        kind: match claims.map(|claims| claims.kind) {
            Some(CallerKind::User) => "user",
            Some(CallerKind::Service) => "service",
            None => "anonymous",
        },
        client_id: claims.map(|claims| claims.client_id.as_str()),
        tenant: claims.and_then(|claims| claims.tenant.as_deref()),
        scope: claims.map(|claims| claims.scope.to_string()),
        roles: claims.map(|claims| claims.roles.as_slice()).unwrap_or_default(),
        acr: claims.and_then(|claims| claims.acr.as_deref()),
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
            passports.show(&journey, None)
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
        let shown = payload(&Passports::default().show(&journey, None));
        assert_eq!(shown["kind"], "anonymous");
        assert_eq!(shown["exp"].as_i64().unwrap() - shown["iat"].as_i64().unwrap(), 60);
        for absent in ["sub", "client_id", "scope", "roles", "rid"] {
            assert!(shown.get(absent).is_none(), "{absent}");
        }
    }
}
