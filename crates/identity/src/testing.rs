//! What the tests of this crate share: a server over a store in memory, a clock that is moved by
//! hand, a seed, and a browser that keeps its cookies.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::client::{Authentication, ClientRecord, ClientType, Waivers};
use portcullis_core::entropy::SeededEntropy;
use portcullis_core::fetch::{Fetch, FetchFault, FetchRequest, Fetching};
use portcullis_core::foreign::{FindingKeys, ForeignIssuer, ForeignKeys};
use portcullis_core::hash::{TableKey, sha256};
use portcullis_core::id::Id;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::claims::{AccessClaims, Attribute};
use portcullis_core::jose::dpop::ProofDesk;
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::jose::verify;
use portcullis_core::limit::{Limit, LocalCounters, Per, Rate};
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::oauth::token::TokenAnswer;
use portcullis_core::otp::{TotpSecret, step_at};
use portcullis_core::revocation::{Marks, RevocationKind, Revoked};
use portcullis_core::scope::Scopes;
use portcullis_core::seal::Sealer;
use portcullis_core::secret::Secret;
use portcullis_core::time::{Clock, FrozenClock, Timestamp};
use portcullis_core::web::{Address, Parameters, Redirect, form_encode};
use portcullis_store::database::{Store, StoreFault, Tx};

use crate::account::{AddedUser, Making, NewUser, SecondFactorWish, add_user};
use crate::outcome::{Answered, Outcome, Presented, Show};
use crate::parts::Parts;
use crate::server::Identity;
use crate::settings::{ApiTarget, KEY_LIFE, Require, Settings, Throttles, TokenFormat};

pub(crate) const KEY: u8 = 7;
pub(crate) const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
pub(crate) const ISSUER: &str = "https://login.example";
pub(crate) const PAYMENTS: &str = "https://api.example/v1";
pub(crate) const REDIRECT: &str = "https://app.example/cb";
pub(crate) const VERIFIER: &str = "a-verifier-of-forty-three-characters-or-more";
pub(crate) const SECRET: &str = "a client secret of many bits";

pub(crate) fn store() -> Store {
    Store::in_memory(Arc::new(Revoked::new()), Arc::new(FrozenClock::at(NOW))).expect("store")
}

pub(crate) fn sealer() -> Sealer {
    Sealer::new(vec![(1, Secret::new([KEY; 32]))], ISSUER)
}

pub(crate) fn parameters(pairs: &[(&str, &str)]) -> Parameters {
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", form_encode(value)));
    Parameters::parse(pairs.collect::<Vec<_>>().join("&").as_bytes()).expect("well-formed")
}

/// A request of `app` that passes every check.
pub(crate) fn request() -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("client_id", "app".to_owned()),
        ("redirect_uri", REDIRECT.to_owned()),
        ("response_type", "code".to_owned()),
        ("scope", "openid payments:read".to_owned()),
        ("state", "st".to_owned()),
        ("nonce", "no".to_owned()),
        ("code_challenge", Challenge::of(VERIFIER).as_str().to_owned()),
        ("code_challenge_method", "S256".to_owned()),
    ])
}

/// The same with some values replaced; an empty one counts as left out.
pub(crate) fn request_with(changes: &[(&'static str, &str)]) -> Parameters {
    let mut request = request();
    for (name, value) in changes {
        request.insert(name, (*value).to_owned());
    }
    let pairs: Vec<_> = request.iter().map(|(name, value)| (*name, value.as_str())).collect();
    parameters(&pairs)
}

fn client(id: &str, kind: ClientType, authentication: Authentication) -> ClientRecord {
    let until = Some(Timestamp::from_unix(NOW.unix() + 86_400));
    let waived = Waivers { bearer_tokens: until, no_par: until, client_secret: until };
    let confidential = matches!(kind, ClientType::Web | ClientType::Service);
    ClientRecord {
        redirects: vec![Redirect::parse(REDIRECT).expect("redirect")],
        scopes: Scopes::parse("payments:read payments:write other:read").expect("scopes"),
        waivers: if confidential { waived } else { Waivers::default() },
        ..ClientRecord::new(Id::parse(id).expect("id"), kind, authentication)
    }
}

/// One more client beside those of [`settings`], `change`d into what a test needs; a confidential
/// one authenticates with the key of the tests.
pub(crate) fn register(
    settings: &mut Settings,
    id: &str,
    kind: ClientType,
    change: impl FnOnce(&mut ClientRecord),
) {
    let ledger = settings.clients.get(&Id::parse("ledger").expect("id"));
    let keys = ledger.and_then(|ledger| ledger.keys()).expect("of the tests").clone();
    let confidential = matches!(kind, ClientType::Web | ClientType::Service);
    let authentication =
        if confidential { Authentication::Keys(keys) } else { Authentication::None };
    let mut record = client(id, kind, authentication);
    change(&mut record);
    settings.clients.insert(record.id.clone(), Arc::new(record));
}

/// The settings of the tests; `key` verifies the assertions of `ledger` and `console`.
pub(crate) fn settings(key: &SigningKey) -> Settings {
    let keys = || Authentication::Keys(JwkSet::new(vec![key.public()]));
    let app = client("app", ClientType::Spa, Authentication::None);
    let own = client("own", ClientType::Spa, Authentication::None);
    let mobile = client("mobile", ClientType::Native, Authentication::None);
    let loopback = vec![Redirect::parse("http://127.0.0.1/cb").expect("redirect")];
    let ledger = client("ledger", ClientType::Service, keys());
    let secret = Authentication::SecretDigest(sha256(SECRET.as_bytes()));
    let clients = [
        app,
        ClientRecord { first_party: true, ..own },
        ClientRecord { redirects: loopback, ..mobile },
        client("console", ClientType::Web, keys()),
        client("legacy", ClientType::Web, secret),
        ClientRecord { redirects: Vec::new(), ..ledger },
    ];
    let api = |audience: &str, scopes: &str| ApiTarget {
        audience: audience.into(),
        name: "an API".into(),
        scopes: Scopes::parse(scopes).expect("scopes"),
        format: TokenFormat::Jwt,
        details: Vec::new(),
    };
    let limit = |count, minutes: u64, per| {
        let period = Duration::from_secs(60 * minutes);
        Limit { rates: vec![Rate { count, period, burst: count, per }] }
    };
    let both = [limit(100, 60, Per::Ip), limit(200, 60, Per::Prefix)];
    Settings {
        issuer: Address::parse(ISSUER).expect("issuer"),
        issuer_text: ISSUER.into(),
        clients: clients
            .into_iter()
            .map(|c| (c.id.clone(), Arc::new(c)))
            .collect::<HashMap<_, _>>(),
        scope_words: BTreeMap::from([("payments:read".into(), "See your payments".into())]),
        apis: vec![
            api(PAYMENTS, "payments:read payments:write payments:settle"),
            api("https://other.example", "other:read"),
        ],
        require: Require::Everyone,
        attributes: vec!["account".into()],
        throttles: Throttles {
            account_device: limit(5, 15, Per::Caller),
            account: limit(30, 60, Per::Caller),
            address: Limit { rates: both.into_iter().flat_map(|limit| limit.rates).collect() },
            otp: limit(5, 5, Per::User),
        },
        mtls: None,
        issuers: Vec::new(),
        documents: None,
        registration: None,
        detail_words: BTreeMap::new(),
        key_life: KEY_LIFE,
    }
}

/// A server, and what the tests reach beside it.
pub(crate) struct World {
    pub(crate) identity: Arc<Identity>,
    pub(crate) clock: Arc<FrozenClock>,
    pub(crate) store: Store,
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) key: SigningKey,
}

/// What a server of the tests stands on.
pub(crate) struct Ground {
    pub(crate) store: Store,
    pub(crate) clock: Arc<FrozenClock>,
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) foreign: Arc<dyn ForeignKeys>,
    pub(crate) fetch: Arc<dyn Fetch>,
    /// Of its entropy: a server started again must not draw the same ids again.
    pub(crate) seed: u64,
}

impl Ground {
    /// A store in memory, and nobody else.
    pub(crate) fn new() -> Ground {
        let (clock, revoked) = (Arc::new(FrozenClock::at(NOW)), Arc::new(Revoked::new()));
        let store = Store::in_memory(revoked.clone(), clock.clone()).expect("store");
        let (foreign, fetch) = (Arc::new(Nobody), Arc::new(Nobody));
        Ground { store, clock, revoked, foreign, fetch, seed: 11 }
    }
}

impl World {
    pub(crate) async fn start() -> World {
        World::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> World {
        World::over(Ground::new(), change).await
    }

    /// A server over what is given: a file that was there before, keys of other issuers.
    pub(crate) async fn over(ground: Ground, change: impl FnOnce(&mut Settings)) -> World {
        let Ground { store, clock, revoked, foreign, fetch, seed } = ground;
        let entropy = Arc::new(SeededEntropy::new(seed));
        let key = SigningKey::generate(Algorithm::Es256).expect("key");
        let mut settings = settings(&key);
        change(&mut settings);
        let counters = Arc::new(LocalCounters::new(TableKey::mint(&*entropy), 4096));
        let ring = vec![(1, Secret::new([KEY; 32]))];
        let parts = Parts {
            store: store.clone(),
            clock: clock.clone(),
            proofs: Arc::new(ProofDesk::new(&*entropy)),
            entropy,
            counters,
            ring,
            settings,
            fetch,
            foreign,
            revoked: revoked.clone(),
        };
        let identity = Arc::new(Identity::start(parts).await.expect("starts"));
        World { identity, clock, store, revoked, key }
    }

    /// The settings again, changed, as after a reload.
    pub(crate) fn reload(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = settings(&self.key);
        change(&mut settings);
        self.identity.reload(settings);
    }

    pub(crate) async fn add(&self, login: &str, second_factor: SecondFactorWish) -> AddedUser {
        let entropy =
            SeededEntropy::new(login.len() as u64 + u64::from(login.as_bytes()[0]) * 1000);
        let sealer = self.identity.sealer();
        let making =
            Making { store: &self.store, sealer, entropy: &entropy, now: self.clock.now() };
        let attributes = BTreeMap::from([
            ("account".to_owned(), Attribute::String("a1".into())),
            ("undeclared".to_owned(), Attribute::Bool(true)),
        ]);
        let roles = vec!["admin".to_owned()];
        let new =
            NewUser { login: login.into(), roles, attributes, second_factor, ..NewUser::default() };
        add_user(&making, new).await.expect("added")
    }

    /// With a handed-out second factor.
    pub(crate) async fn ada(&self) -> AddedUser {
        self.add("ada", SecondFactorWish::HandedOut).await
    }

    pub(crate) fn code(&self, totp: &TotpSecret) -> String {
        totp.code(step_at(self.clock.now()))
    }

    pub(crate) async fn change<F>(&self, work: F)
    where
        F: AsyncFnOnce(&Tx) -> Result<(), StoreFault> + Send + 'static,
    {
        self.store.transact(work).await.expect("changed");
    }

    pub(crate) async fn token(&self, pairs: &[(&str, &str)]) -> Answered<TokenAnswer> {
        self.identity.token(&[], &parameters(pairs), Presented::default()).await
    }

    /// Redeems a code of `app`.
    pub(crate) async fn redeem(&self, code: &str) -> Answered<TokenAnswer> {
        self.token(&redemption(code)).await
    }

    /// What a token says, as the gateway would read it: verified, and not revoked.
    pub(crate) fn claims(&self, token: &str) -> Result<AccessClaims, &'static str> {
        let keys = self.identity.keyring().access_keys();
        let verified = verify::access_token(token, &keys, ISSUER, None, self.clock.now());
        let verified = verified.map_err(|fault| fault.code())?;
        let claims = verified.claims().clone();
        let text = |id: Option<&str>| id.unwrap_or_default().to_owned();
        let (gid, sid) =
            (text(claims.gid.as_ref().map(Id::as_str)), text(claims.sid.as_ref().map(Id::as_str)));
        let things = [
            (RevocationKind::Token, claims.jti.as_str()),
            (RevocationKind::Grant, &gid),
            (RevocationKind::Session, &sid),
            (RevocationKind::Subject, &claims.sub),
            (RevocationKind::Client, claims.client_id.as_str()),
        ];
        let marks = Marks::collect(claims.rev, &things);
        if self.revoked.kills(&marks) { Err("token_revoked") } else { Ok(claims) }
    }

    /// A client assertion; `changes` replaces claims.
    pub(crate) fn assertion(&self, client: &str, changes: &[(&str, serde_json::Value)]) -> String {
        let now = self.clock.now().unix();
        let mut claims = serde_json::json!({
            "iss": client, "sub": client, "aud": ISSUER, "exp": now + 60, "iat": now, "jti": "j1",
        });
        for (name, value) in changes {
            claims[*name] = value.clone();
        }
        self.key.sign("JWT", &claims)
    }
}

/// Runs as many of these at once, each on a thread of its own that starts at one signal.
pub(crate) fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    count: usize,
    work: impl Fn() -> F,
) -> Vec<T> {
    let gate = Arc::new(std::sync::Barrier::new(count));
    let start = |work: F| {
        let gate = gate.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
            gate.wait();
            runtime.block_on(work)
        })
    };
    let threads: Vec<_> = (0..count).map(|_| start(work())).collect();
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

/// The form of a code's redemption by `app`.
pub(crate) fn redemption(code: &str) -> [(&'static str, &str); 5] {
    [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ]
}

/// A browser: cookies, an address, and the last page's hidden state.
pub(crate) struct Browser {
    pub(crate) cookies: HashMap<&'static str, String>,
    pub(crate) ip: IpAddr,
    pub(crate) state: String,
}

impl Browser {
    pub(crate) fn at(ip: &str) -> Browser {
        let ip = ip.parse().expect("address");
        Browser { cookies: HashMap::new(), ip, state: String::new() }
    }

    pub(crate) fn new() -> Browser {
        Browser::at("192.0.2.1")
    }

    pub(crate) fn presented(&self) -> Presented {
        let cookie = |name| self.cookies.get(name).map(|value| Secret::new(value.clone()));
        Presented {
            session: cookie("__Host-pc-session"),
            device: cookie("__Host-pc-device"),
            tx: cookie("__Host-pc-tx"),
            ip: Some(self.ip),
            request_id: "r_test".into(),
            ..Presented::default()
        }
    }

    fn took(&mut self, outcome: Outcome) -> Outcome {
        for change in &outcome.cookies {
            self.cookies.insert(change.name, change.value.expose().clone());
        }
        if let Some(state) = sealed(&outcome) {
            self.state = state;
        }
        outcome
    }

    pub(crate) async fn authorize(&mut self, world: &World, query: &Parameters) -> Outcome {
        let outcome = world.identity.authorize(query, self.presented()).await;
        self.took(outcome)
    }

    pub(crate) async fn password(&mut self, world: &World, login: &str, password: &str) -> Outcome {
        let form = parameters(&[("state", &self.state), ("login", login), ("password", password)]);
        let outcome = world.identity.password(&form, self.presented()).await;
        self.took(outcome)
    }

    pub(crate) async fn totp(&mut self, world: &World, code: &str) -> Outcome {
        let form = parameters(&[("state", &self.state), ("code", code)]);
        let outcome = world.identity.totp(&form, self.presented()).await;
        self.took(outcome)
    }

    pub(crate) async fn consent(&mut self, world: &World, decision: &str) -> Outcome {
        let form = parameters(&[("state", &self.state), ("decision", decision)]);
        let outcome = world.identity.consent(&form, self.presented()).await;
        self.took(outcome)
    }

    /// The whole way of a user with a second factor to a code of `app`.
    pub(crate) async fn log_in(&mut self, world: &World, user: &AddedUser) -> String {
        self.authorize(world, &request_with(&[])).await;
        self.prove(world, user).await;
        code_of(&self.consent(world, "allow").await)
    }

    /// Password and second factor, from the password page.
    pub(crate) async fn prove(&mut self, world: &World, user: &AddedUser) -> Outcome {
        self.password(world, &user.user.login, user.password.expose()).await;
        let code = world.code(user.totp.as_ref().expect("handed out"));
        self.totp(world, &code).await
    }
}

/// The hidden state of the page shown.
pub(crate) fn sealed(outcome: &Outcome) -> Option<String> {
    match &outcome.show {
        Show::Password(page) => Some(page.sealed.clone()),
        Show::Enrol(page) => Some(page.sealed.clone()),
        Show::SecondFactor(page) => Some(page.sealed.clone()),
        Show::Consent(page) => Some(page.sealed.clone()),
        Show::Logout(page) => Some(page.sealed.clone()),
        Show::Redirect(_)
        | Show::Refused(_)
        | Show::Nothing
        | Show::FormPost(_)
        | Show::DeviceCode(_)
        | Show::DeviceAnswered(_)
        | Show::LoggedOut => None,
    }
}

/// One word for what is shown.
pub(crate) fn page(outcome: &Outcome) -> &'static str {
    match &outcome.show {
        Show::Password(_) => "password",
        Show::Enrol(_) => "enrol",
        Show::SecondFactor(_) => "totp",
        Show::Consent(_) => "consent",
        Show::Redirect(_) => "redirect",
        Show::Refused(_) => "refused",
        Show::Nothing => "nothing",
        Show::FormPost(_) => "form_post",
        Show::DeviceCode(_) => "device",
        Show::DeviceAnswered(_) => "device_answered",
        Show::Logout(_) => "logout",
        Show::LoggedOut => "logged_out",
    }
}

/// The rule broken; what happened is no rule.
pub(crate) fn rule(outcome: &Outcome) -> &str {
    outcome.outcome.as_ref().err().map_or("-", String::as_str)
}

/// A parameter of the redirect shown.
pub(crate) fn returned(outcome: &Outcome, name: &str) -> Option<String> {
    let Show::Redirect(location) = &outcome.show else { return None };
    let (_, query) = location.split_once('?')?;
    let parameters = Parameters::parse(query.as_bytes()).expect("our own query");
    parameters.value(name).map(str::to_owned)
}

pub(crate) fn code_of(outcome: &Outcome) -> String {
    returned(outcome, "code").unwrap_or_else(|| panic!("no code: {}", rule(outcome)))
}

/// Nobody else is there.
pub(crate) struct Nobody;

impl Fetch for Nobody {
    fn fetch(&self, request: FetchRequest) -> Fetching<'_> {
        Box::pin(async move { Err(FetchFault::Unreachable(request.url)) })
    }
}

impl ForeignKeys for Nobody {
    fn keys<'k>(&'k self, issuer: &'k ForeignIssuer, _: Option<&'k str>) -> FindingKeys<'k> {
        Box::pin(async move { Err(FetchFault::Unreachable(issuer.issuer.clone())) })
    }
}
