//! A client: software that asks for tokens (RFC 6749 §2), as its owner registered it.
//!
//! What it may do follows from its kind and its waivers; where it came from (the file, later the
//! store) and whether it is still active are not in here.

use std::time::Duration;

use crate::id::{self, Id};
use crate::jose::jwk::JwkSet;
use crate::scope::Scopes;
use crate::time::Timestamp;
use crate::web::{Address, Native, Redirect};

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
    /// A device without a browser or keyboard (RFC 8628): public.
    Device,
}

/// The profile that a client is held to (`4-identity`, "Clients").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// FAPI 2.0: pushed requests, keys or certificates, bound tokens. Confidential clients' default.
    Fapi2,
    /// Public clients: PKCE, exact redirects, rotating refresh tokens.
    Public,
    /// A confidential client with dated waivers.
    Compat,
}

/// A way to a token (the `grant_type` words).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GrantType {
    /// `authorization_code`.
    AuthorizationCode,
    /// `refresh_token`.
    RefreshToken,
    /// `client_credentials`.
    ClientCredentials,
    /// `urn:ietf:params:oauth:grant-type:device_code` (RFC 8628).
    DeviceCode,
    /// `urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693).
    TokenExchange,
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer` (RFC 7523).
    JwtBearer,
}

impl GrantType {
    /// All of them.
    pub const ALL: [GrantType; 6] = [
        GrantType::AuthorizationCode,
        GrantType::RefreshToken,
        GrantType::ClientCredentials,
        GrantType::DeviceCode,
        GrantType::TokenExchange,
        GrantType::JwtBearer,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            GrantType::AuthorizationCode => "authorization_code",
            GrantType::RefreshToken => "refresh_token",
            GrantType::ClientCredentials => "client_credentials",
            GrantType::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            GrantType::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            GrantType::JwtBearer => "urn:ietf:params:oauth:grant-type:jwt-bearer",
        }
    }

    /// From the word on the wire.
    pub fn from_word(word: &str) -> Option<Self> {
        GrantType::ALL.into_iter().find(|grant| grant.as_str() == word)
    }
}

/// Whether tokens must be bound to a key or a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Always (FAPI 2.0 §5.3.2.1); a `bearer_tokens` waiver excuses it until its date.
    Required,
    /// Where the client shows a proof; then sticky for the grant.
    Offered,
}

/// How long refresh tokens last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshLife {
    /// Unused for this long: over.
    pub idle: Duration,
    /// Over at the latest.
    pub max: Duration,
}

/// Which `sub` a client sees in ID tokens and userinfo (OpenID Connect Core §8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectType {
    /// The user's id.
    Public,
    /// One per sector (a host), so that two sectors cannot compare notes.
    Pairwise {
        /// The sector: a host.
        sector: String,
    },
}

/// Who registered a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The configuration file.
    File,
    /// An administrator, in the store.
    Store,
    /// Nobody: its id is the address of its metadata document (client ID metadata documents).
    Document,
    /// Itself (RFC 7591), in the store.
    Itself,
}

/// What a client certificate must show (RFC 8705 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateRule {
    /// `tls_client_auth`: a chain to the operator's client CA, and this DNS name among its
    /// alternative names.
    Dns(String),
    /// The same with a URI (`spiffe://…`).
    Uri(String),
    /// The same with a subject, as RFC 4514 writes it.
    Subject(String),
    /// `self_signed_tls_client_auth`: one of these certificates, by SHA-256 in base64url
    /// (`x5t#S256`); no chain is asked for.
    Pinned(Vec<String>),
}

/// Assertions of another issuer that stand for a client (workload identity: Kubernetes, SPIFFE).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federated {
    /// The name of an `[issuers]` entry.
    pub issuer: String,
    /// The `sub` that it must carry.
    pub subject: String,
}

/// How a client proves who it is at the token endpoint.
pub enum Authentication {
    /// It cannot (RFC 6749 §2.1 public client).
    None,
    /// `private_key_jwt` (RFC 7523 §2.2) with one of these keys.
    Keys(JwkSet),
    /// `client_secret_basic`: SHA-256 of a secret of at least 128 bits. Only as a dated waiver.
    SecretDigest([u8; 32]),
    /// `tls_client_auth` or `self_signed_tls_client_auth` (RFC 8705 §2).
    Certificate(CertificateRule),
    /// An assertion of another issuer.
    Federated(Federated),
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
    /// For people; the id when nothing was registered.
    pub name: Option<String>,
    /// The grants it may use.
    pub grants: Vec<GrantType>,
    /// Whether its tokens must be bound.
    pub binding: Binding,
    /// How long its refresh tokens last.
    pub refresh: RefreshLife,
    /// Where a logout may end (OpenID Connect RP-Initiated Logout §3).
    pub post_logout: Vec<Redirect>,
    /// Where logout tokens are sent (OpenID Connect Back-Channel Logout §2.2).
    pub back_channel_logout: Option<Address>,
    /// Whether it may introspect tokens whose audience it is (RFC 7662 §2.1): the APIs by `at`.
    pub introspects: Vec<String>,
    /// What `sub` it sees.
    pub subject: SubjectType,
    /// Whether userinfo answers it as a signed JWT (OpenID Connect Core §5.3.2).
    pub signed_userinfo: bool,
    /// Whether its authorization requests must be signed (RFC 9101 §10.5).
    pub signed_requests: bool,
    /// The `authorization_details` types it may ask for (RFC 9396 §10).
    pub details: Vec<String>,
    /// Who registered it.
    pub registered: Registered,
}

/// Refresh tokens of native apps: 30 days idle, 180 at most.
const NATIVE_REFRESH: RefreshLife =
    RefreshLife { idle: Duration::from_secs(30 * 86_400), max: Duration::from_secs(180 * 86_400) };
/// Of single-page applications: an hour idle, twelve at most.
const SPA_REFRESH: RefreshLife =
    RefreshLife { idle: Duration::from_secs(3_600), max: Duration::from_secs(12 * 3_600) };

impl Waivers {
    /// Whether there is any, in force or not.
    pub fn any(&self) -> bool {
        self.bearer_tokens.is_some() || self.no_par.is_some() || self.client_secret.is_some()
    }

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
    /// A client with everything that follows from its kind, and nothing else: no redirect, no scope.
    pub fn new(id: Id<id::Client>, kind: ClientType, authentication: Authentication) -> Self {
        use GrantType::{AuthorizationCode, ClientCredentials, DeviceCode, RefreshToken};
        let (grants, binding, refresh) = match kind {
            ClientType::Spa => {
                (vec![AuthorizationCode, RefreshToken], Binding::Offered, SPA_REFRESH)
            }
            ClientType::Native => {
                (vec![AuthorizationCode, RefreshToken], Binding::Offered, NATIVE_REFRESH)
            }
            // `4-identity`, "Keys": a web client's grants live as long as the session, unless
            // `offline_access` was granted; then as a native one's.
            ClientType::Web => {
                (vec![AuthorizationCode, RefreshToken], Binding::Required, NATIVE_REFRESH)
            }
            ClientType::Service => (vec![ClientCredentials], Binding::Required, SPA_REFRESH),
            ClientType::Device => {
                (vec![DeviceCode, RefreshToken], Binding::Offered, NATIVE_REFRESH)
            }
        };
        ClientRecord {
            id,
            kind,
            redirects: Vec::new(),
            scopes: Scopes::default(),
            authentication,
            waivers: Waivers::default(),
            first_party: false,
            name: None,
            grants,
            binding,
            refresh,
            post_logout: Vec::new(),
            back_channel_logout: None,
            introspects: Vec::new(),
            subject: SubjectType::Public,
            signed_userinfo: false,
            signed_requests: false,
            details: Vec::new(),
            registered: Registered::File,
        }
    }

    /// The profile that it is held to.
    pub fn profile(&self) -> Profile {
        match (self.is_confidential(), self.waivers.any()) {
            (false, _) => Profile::Public,
            (true, false) => Profile::Fapi2,
            (true, true) => Profile::Compat,
        }
    }

    /// Whether it may use a grant.
    pub fn may(&self, grant: GrantType) -> bool {
        self.grants.contains(&grant)
    }

    /// Its name for people.
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(self.id.as_str())
    }

    /// The keys that its request objects (RFC 9101) verify with.
    pub fn keys(&self) -> Option<&JwkSet> {
        match &self.authentication {
            Authentication::Keys(keys) => Some(keys),
            Authentication::None
            | Authentication::SecretDigest(_)
            | Authentication::Certificate(_)
            | Authentication::Federated(_) => None,
        }
    }

    /// Whether it can keep a secret (RFC 6749 §2.1).
    pub fn is_confidential(&self) -> bool {
        match self.kind {
            ClientType::Web | ClientType::Service => true,
            ClientType::Spa | ClientType::Native | ClientType::Device => false,
        }
    }
    /// Whether it may use the authorization code grant.
    pub fn uses_codes(&self) -> bool {
        self.may(GrantType::AuthorizationCode)
    }

    /// The registered redirect that a client sent, by simple string comparison (RFC 9700 §2.1);
    /// only a native client's loopback port may vary (RFC 8252 §7.3).
    pub fn redirect(&self, presented: &str) -> Option<&Redirect> {
        let native = match self.kind {
            ClientType::Native => Native::Yes,
            ClientType::Spa | ClientType::Web | ClientType::Service | ClientType::Device => {
                Native::No
            }
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
            redirects: redirects.map(|text| Redirect::parse(text).unwrap()).into(),
            ..ClientRecord::new(Id::parse("app").unwrap(), kind, Authentication::None)
        }
    }

    #[test]
    fn what_a_kind_may_do() {
        for (kind, confidential, codes) in [
            (ClientType::Spa, false, true),
            (ClientType::Native, false, true),
            (ClientType::Web, true, true),
            (ClientType::Service, true, false),
            (ClientType::Device, false, false),
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
