//! Opaque access tokens: the claims themselves, sealed, for an API whose tokens only we shall read.
//!
//! The text is `at_` and the claims under [`Purpose::Opaque`], so no row is kept for a token and
//! none can be guessed or altered: the gateway opens it by itself, others ask introspection.
//! Whether it was revoked is not asked here.

use portcullis_core::jose::claims::AccessClaims;
use portcullis_core::jose::verify::{OPAQUE_PREFIX, opaque_token};
use portcullis_core::seal::Purpose;

use crate::desk::Desk;

/// Seals claims. `token::issue` alone asks for it: what is sealed here is believed.
pub(crate) fn seal(desk: &Desk, claims: &AccessClaims) -> String {
    // A text without claims opens nowhere; our own claims are always JSON.
    let plain = serde_json::to_vec(claims).unwrap_or_default();
    format!("{OPAQUE_PREFIX}{}", desk.seal(Purpose::Opaque, &plain))
}

/// The claims of an opaque token of ours that is in time; one answer for all that is wrong.
pub(crate) fn open(desk: &Desk, text: &str) -> Option<AccessClaims> {
    let issuer = &desk.settings.issuer_text;
    let verified = opaque_token(text, &desk.shared.sealer, issuer, None, desk.now).ok()?;
    Some(verified.claims().clone())
}

/// Whether a text wants to be one; no JWT starts like it (RFC 7515 §7.1: the base64url of `{`).
pub(crate) fn looks_like(text: &str) -> bool {
    text.starts_with(OPAQUE_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use portcullis_core::entropy::SeededEntropy;
    use portcullis_core::id::Id;
    use portcullis_core::jose::claims::{CallerKind, FactorTimes};
    use portcullis_core::scope::Scopes;

    fn claims() -> AccessClaims {
        AccessClaims {
            iss: ISSUER.to_owned(),
            sub: "u_ada".to_owned(),
            aud: PAYMENTS.to_owned(),
            exp: NOW.unix() + 300,
            iat: NOW.unix(),
            jti: Id::parse("t_1").expect("id"),
            client_id: Id::parse("app").expect("id"),
            scope: Scopes::parse("payments:read").expect("scopes"),
            kind: CallerKind::User,
            rev: 3,
            sid: None,
            gid: None,
            auth_time: None,
            acr: None,
            amr: Vec::new(),
            fat: FactorTimes::default(),
            roles: vec!["admin".to_owned()],
            groups: Vec::new(),
            tenant: None,
            attributes: Default::default(),
            cnf: None,
            act: None,
            authorization_details: Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_is_sealed_opens_and_shows_nothing() {
        let desk = World::start().await.identity.desk();
        let token = seal(&desk, &claims());
        assert_eq!(open(&desk, &token), Some(claims()));
        assert!(looks_like(&token) && !token.contains('.') && !token.contains("ada"));
        assert_ne!(token, seal(&desk, &claims()), "two tokens of the same claims differ");
    }

    #[tokio::test]
    async fn whatever_is_wrong_it_does_not_open() {
        let desk = World::start().await.identity.desk();
        let token = seal(&desk, &claims());
        let foreign = AccessClaims { iss: format!("{ISSUER}/"), ..claims() };
        let over = AccessClaims { exp: NOW.unix(), ..claims() };
        let plain = serde_json::to_vec(&claims()).expect("json");
        let code = desk.seal(Purpose::Code, &plain);
        let other = portcullis_core::seal::Sealer::new(
            vec![(1, portcullis_core::secret::Secret::new([KEY + 1; 32]))],
            ISSUER,
        );
        let others = other.seal(Purpose::Opaque, &plain, &SeededEntropy::new(1));
        for (name, text) in [
            ("without its prefix", token[3..].to_owned()),
            ("cut", token[..token.len() - 1].to_owned()),
            ("longer", format!("{token}A")),
            ("another's issuer", seal(&desk, &foreign)),
            ("over", seal(&desk, &over)),
            ("a code", format!("at_{code}")),
            ("another's key", format!("at_{others}")),
            ("no claims", format!("at_{}", desk.seal(Purpose::Opaque, b"{}"))),
            ("nothing", "at_".to_owned()),
        ] {
            assert_eq!(open(&desk, &text), None, "{name}");
        }
    }
}
