//! A client: software that asks for tokens (RFC 6749 §2), as its owner registered it.
//!
//! What it may do follows from its kind and its waivers; where it came from (the file, later the
//! store) and whether it is still active are not in here.

use crate::id::{self, Id};
use crate::jose::jwk::JwkSet;
use crate::scope::Scopes;
use crate::time::Timestamp;
use crate::web::{Native, Redirect};

/// What kind of software it is; its profile and its grants follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientType {
    /// A single-page application: public, PKCE, CORS on the token endpoint.
    Spa,
    /// A native application: public, PKCE, loopback ports vary.
    Native,
    /// A web application with a back end: confidential.
    Web,
    /// Software that speaks for itself: confidential, client credentials.
    Service,
}

/// How a client proves who it is at the token endpoint.
pub enum Authentication {
    /// It cannot (RFC 6749 §2.1 public client).
    None,
    /// `private_key_jwt` (RFC 7523 §2.2) with one of these keys.
    Keys(JwkSet),
    /// `client_secret_basic`: SHA-256 of a secret of at least 128 bits. Only as a dated waiver.
    SecretDigest([u8; 32]),
}

/// Exceptions from the `fapi2` profile, each until a date, shown wherever the client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waivers {
    /// Tokens that are not sender-constrained.
    pub bearer_tokens: Option<Timestamp>,
    /// Authorization requests that are not pushed (RFC 9126).
    pub no_par: Option<Timestamp>,
    /// A client secret instead of a key.
    pub client_secret: Option<Timestamp>,
}

/// A registered client.
pub struct ClientRecord {
    /// Its id.
    pub id: Id<id::Client>,
    /// Its kind.
    pub kind: ClientType,
    /// Where codes may go.
    pub redirects: Vec<Redirect>,
    /// The most it may be granted.
    pub scopes: Scopes,
    /// How it authenticates.
    pub authentication: Authentication,
    /// Its exceptions.
    pub waivers: Waivers,
    /// No consent page (https redirects only).
    pub first_party: bool,
}

impl Waivers {
    /// Whether tokens may be issued that are not sender-constrained.
    pub fn bearer_tokens_at(&self, now: Timestamp) -> bool {
        self.bearer_tokens.is_some_and(|until| now < until)
    }

    /// Whether authorization requests may come without being pushed (RFC 9126).
    pub fn no_par_at(&self, now: Timestamp) -> bool {
        self.no_par.is_some_and(|until| now < until)
    }

    /// Whether a client secret may stand for a key.
    pub fn client_secret_at(&self, now: Timestamp) -> bool {
        self.client_secret.is_some_and(|until| now < until)
    }
}

impl ClientRecord {
    /// Whether it can keep a secret (RFC 6749 §2.1).
    pub fn is_confidential(&self) -> bool {
        match self.kind {
            ClientType::Web | ClientType::Service => true,
            ClientType::Spa | ClientType::Native => false,
        }
    }
    /// Whether it may use the authorization code grant.
    pub fn uses_codes(&self) -> bool {
        match self.kind {
            ClientType::Spa | ClientType::Native | ClientType::Web => true,
            ClientType::Service => false,
        }
    }

    /// The registered redirect that a client sent, by simple string comparison (RFC 9700 §2.1);
    /// only a native client's loopback port may vary (RFC 8252 §7.3).
    pub fn redirect(&self, presented: &str) -> Option<&Redirect> {
        let native = match self.kind {
            ClientType::Native => Native::Yes,
            ClientType::Spa | ClientType::Web | ClientType::Service => Native::No,
        };
        self.redirects.iter().find(|redirect| redirect.matches(presented, native))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn client(kind: ClientType) -> ClientRecord {
        let redirects = ["https://app.example/cb", "http://127.0.0.1/cb"];
        ClientRecord {
            id: Id::parse("app").unwrap(),
            kind,
            redirects: redirects.map(|text| Redirect::parse(text).unwrap()).into(),
            scopes: Scopes::default(),
            authentication: Authentication::None,
            waivers: Waivers::default(),
            first_party: false,
        }
    }

    #[test]
    fn what_a_kind_may_do() {
        for (kind, confidential, codes) in [
            (ClientType::Spa, false, true),
            (ClientType::Native, false, true),
            (ClientType::Web, true, true),
            (ClientType::Service, true, false),
        ] {
            assert_eq!(client(kind).is_confidential(), confidential, "{kind:?}");
            assert_eq!(client(kind).uses_codes(), codes, "{kind:?}");
        }
    }

    #[test]
    fn only_a_native_client_varies_its_loopback_port() {
        for kind in [ClientType::Spa, ClientType::Native, ClientType::Web] {
            let client = client(kind);
            assert!(client.redirect("https://app.example/cb").is_some());
            assert!(client.redirect("https://app.example/cb/").is_none());
            let found = client.redirect("http://127.0.0.1:51004/cb");
            assert_eq!(found.is_some(), kind == ClientType::Native, "{kind:?}");
        }
    }

    #[test]
    fn a_waiver_ends_on_its_date() {
        let until = Timestamp::parse("2027-03-31").unwrap();
        let waivers =
            Waivers { bearer_tokens: Some(until), no_par: Some(until), client_secret: Some(until) };
        let before = until.before(Duration::from_nanos(1));
        for (now, expected) in [(before, true), (until, false)] {
            assert_eq!(waivers.bearer_tokens_at(now), expected);
            assert_eq!(waivers.no_par_at(now), expected);
            assert_eq!(waivers.client_secret_at(now), expected);
        }
        assert!(!Waivers::default().bearer_tokens_at(before), "none unless written");
    }
}
