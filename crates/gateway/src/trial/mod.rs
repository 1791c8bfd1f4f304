//! The whole journey, tried from outside: a real HTTP parser in front, the real rules, a real
//! upstream on a socket of its own; only the house, the clock and the network card are stand-ins.

mod table;
mod bodies;
mod bound;
mod challenges;
mod judged;
mod objects;
mod credentials;
mod doors;
mod fields;
mod hostile;
mod keys;
mod http2;
mod limits;
mod others;
mod paced;
mod parameters;
mod upstream;

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use portcullis_core::audit::{Record, Records};
use portcullis_core::certificate::ClientCertificate;
use portcullis_core::entropy::SeededEntropy;
use portcullis_core::fetch::{Fetch, FetchFault, FetchRequest, Fetching};
use portcullis_core::hash::TableKey;
use portcullis_core::id::Id;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::claims::{AccessClaims, Attribute, CallerKind, FactorTimes};
use portcullis_core::jose::dpop::ProofDesk;
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::limit::{Limit, LocalCounters};
use portcullis_core::revocation::Revoked;
use portcullis_core::scope::Scopes;
use portcullis_core::seal::Sealer;
use portcullis_core::secret::Secret;
use portcullis_core::time::{FrozenClock, Timestamp};
use portcullis_core::web::{Address, Origin};

use crate::api_keys::{ApiKeys, KeyUses};
use crate::foreign::Foreign;
use crate::house::{Answering, House, HouseAnswer, HouseRequest};
use crate::hygiene::{Arrived, Connection};
use crate::journey::{Answer, Gateway, Worker};
use crate::owners::Owners;
use crate::snapshot::{ApiRoute, HostField, Reasons, Snapshot, Upstream};

pub(crate) const AT: &str = "https://api.example/v1";
pub(crate) const ISSUER: &str = "https://login.example";
const METADATA: &str = "https://api.example/.well-known/oauth-protected-resource/v1";
pub(crate) const APP: &str = "https://app.example";

/// A gateway with an upstream behind it.
pub(crate) struct Trial {
    pub(crate) clock: Arc<FrozenClock>,
    pub(crate) key: SigningKey,
    pub(crate) passport: Arc<SigningKey>,
    pub(crate) records: Arc<Recorded>,
    pub(crate) house: Arc<FakeHouse>,
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) worker: Rc<Worker>,
    serials: AtomicU64,
    /// What the next connections show.
    pub(crate) certificate: RefCell<Option<Arc<ClientCertificate>>>,
}

/// Runs a trial on a worker's kind of runtime.
pub(crate) fn run<F: Future<Output = ()>>(test: impl FnOnce(Setup) -> F) {
    run_within(Duration::from_secs(20), test);
}

/// The same with another limit: for trials that move the runtime's clock.
pub(crate) fn run_within<F: Future<Output = ()>>(limit: Duration, test: impl FnOnce(Setup) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(limit, test(Setup::default())).await.expect("the trial hangs");
    });
}

/// What a trial may want otherwise.
pub(crate) struct Setup {
    pub(crate) limits: Vec<(&'static str, &'static str)>,
    pub(crate) reasons: Reasons,
    pub(crate) sockets: Option<Vec<SocketAddr>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) network: Arc<dyn Fetch>,
    /// How long an owner is waited for; here longer, since a test machine may be busy.
    pub(crate) owners_within: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            limits: vec![
                ("peer", "100000/min per ip, burst 10000"),
                ("failed_authentication", "20/min per ip, burst 5"),
                ("default", "300/min per caller"),
                ("anonymous", "60/min per ip"),
                ("normal", "60/min per user, burst 3"),
            ],
            reasons: Reasons::Recorded,
            sockets: None,
            connect_timeout: Duration::from_secs(1),
            network: Arc::new(Nobody),
            owners_within: Duration::from_secs(10),
        }
    }
}

impl Setup {
    pub(crate) fn limit(mut self, name: &'static str, words: &'static str) -> Self {
        self.limits.retain(|(known, _)| *known != name);
        self.limits.push((name, words));
        self
    }

    pub(crate) async fn start(self) -> Trial {
        let sockets = match &self.sockets {
            Some(sockets) => sockets.clone(),
            None => vec![upstream::start().await],
        };
        let clock = Arc::new(FrozenClock::at(Timestamp::from_unix(1_800_000_000)));
        let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
        let passport = Arc::new(SigningKey::generate(Algorithm::Es256).unwrap());
        let snapshot = self.snapshot(sockets, &key, &passport);
        let (records, house) = (Arc::new(Recorded::default()), Arc::new(FakeHouse::default()));
        let revoked = Arc::new(Revoked::new());
        let table_key = TableKey::mint(&SeededEntropy::new(3));
        let gateway = Arc::new(Gateway {
            snapshot: ArcSwap::from_pointee(snapshot),
            counters: Arc::new(LocalCounters::new(table_key, 4096)),
            revoked: revoked.clone(),
            proofs: Arc::new(ProofDesk::new(&SeededEntropy::new(7))),
            sealer: Arc::new(Sealer::new(vec![(1, Secret::new([7; 32]))], ISSUER)),
            foreign: Arc::new(Foreign::new(self.network.clone(), clock.clone())),
            key_uses: KeyUses::default(),
            owners: Owners::within(self.owners_within),
            house: house.clone(),
            records: records.clone(),
            clock: clock.clone(),
            entropy: Arc::new(SeededEntropy::new(5)),
            figures: Default::default(),
        });
        let worker = Rc::new(Worker::new(gateway.clone()));
        let serials = AtomicU64::new(1);
        let certificate = RefCell::default();
        Trial {
            clock,
            key,
            passport,
            records,
            house,
            revoked,
            gateway,
            worker,
            serials,
            certificate,
        }
    }

    fn snapshot(
        &self,
        sockets: Vec<SocketAddr>,
        key: &SigningKey,
        passport: &Arc<SigningKey>,
    ) -> Snapshot {
        let at = Arc::new(Address::parse(AT).unwrap());
        let upstream = Upstream {
            address: Address::parse("http://127.0.0.1:9000/base").unwrap(),
            sockets,
            tls: None,
            connect_timeout: self.connect_timeout,
        };
        let route = |name: &str, at: &Arc<Address>| {
            let route = ApiRoute {
                name: name.into(),
                at: at.clone(),
                audience: AT.into(),
                upstream: upstream.clone(),
                host: HostField::Upstream,
                browsers: vec![Origin::parse(APP).unwrap()],
                resource_metadata: METADATA.into(),
            };
            (route.name.clone(), Arc::new(route))
        };
        let documented = Arc::new(Address::parse("https://api.example/doc").unwrap());
        let limits = self
            .limits
            .iter()
            .map(|(name, words)| ((*name).into(), Arc::new(Limit::parse(words).unwrap())));
        Snapshot {
            generation: 1,
            rules: Arc::new(table::rules(&self.limits)),
            shadow: None,
            issuer: ISSUER.into(),
            keys: JwkSet::new(vec![key.public()]),
            passport: passport.clone(),
            apis: [route("payments", &at), route("documented", &documented)].into(),
            house: table::house_table(),
            limits: limits.collect(),
            issuers: Vec::new(),
            api_keys: Arc::new(ApiKeys::default()),
            certificate_hosts: Vec::new(),
            client_ca: None,
            authorities: vec!["api.example".into(), "login.example".into()],
            trust_proxies: Vec::new(),
            reasons: self.reasons,
        }
    }
}

/// A network with nobody in it.
struct Nobody;

impl Fetch for Nobody {
    fn fetch(&self, request: FetchRequest) -> Fetching<'_> {
        Box::pin(std::future::ready(Err(FetchFault::Unreachable(request.url))))
    }
}

/// What was recorded.
#[derive(Default)]
pub(crate) struct Recorded(Mutex<Vec<Record>>);

impl Records for Recorded {
    fn record(&self, record: Record) {
        self.0.lock().unwrap().push(record);
    }
}

impl Recorded {
    pub(crate) fn last(&self) -> Record {
        self.0.lock().unwrap().last().cloned().expect("a record")
    }
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A house that says which page was asked.
#[derive(Default)]
pub(crate) struct FakeHouse {
    pub(crate) seen: Mutex<Vec<HouseRequest>>,
}

impl House for FakeHouse {
    fn answer(&self, request: HouseRequest) -> Answering<'_> {
        let text = format!("{} {}", request.page, request.body.len());
        let caller = request.token.as_ref().map(|token| token.claims().sub.clone());
        let slow = &request.body[..] == b"slow";
        self.seen.lock().unwrap().push(request);
        Box::pin(async move {
            if slow {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            HouseAnswer {
                response: Response::new(Bytes::from(text)),
                event: "page",
                outcome: Ok("PageShown".into()),
                caller,
                client: None,
            }
        })
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    /// The value of a field as the upstream saw it.
    pub(crate) fn upstream_saw(&self, name: &str) -> Option<String> {
        self.json()["fields"][name].as_str().map(str::to_owned)
    }
}

/// A connection of a client.
pub(crate) type Client = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

impl Trial {
    /// Opens a connection over which HTTP is really spoken.
    pub(crate) async fn connect(&self, from: &str, wire: Wire) -> Client {
        greet(self.accept(from, wire)).await
    }

    /// The client's end of a connection that the worker serves.
    pub(crate) fn accept(&self, from: &str, wire: Wire) -> tokio::io::DuplexStream {
        serve(self.service_at(from, wire))
    }

    /// What a listener does with the requests of one connection.
    pub(crate) fn service_at(
        &self,
        from: &str,
        wire: Wire,
    ) -> impl hyper::service::Service<
        Request<Incoming>,
        Response = Answer,
        Error = Infallible,
        Future: 'static,
    > + use<> {
        self.service_of(self.worker.clone(), from, wire)
    }

    /// The same with another worker of the gateway.
    pub(crate) fn service_of(
        &self,
        worker: Rc<Worker>,
        from: &str,
        wire: Wire,
    ) -> impl hyper::service::Service<
        Request<Incoming>,
        Response = Answer,
        Error = Infallible,
        Future: 'static,
    > + use<> {
        let clock = self.clock.clone();
        let ip: IpAddr = from.parse().unwrap();
        let connection = Arc::new(Connection {
            peer: SocketAddr::new(ip, 40_000),
            sni: None,
            port: 443,
            serial: self.serials.fetch_add(1, Ordering::Relaxed),
            certificate: self.certificate.borrow().clone(),
        });
        service_fn(move |request| {
            static SERIALS: AtomicU64 = AtomicU64::new(1);
            let arrived = Arrived {
                request,
                connection: connection.clone(),
                at: portcullis_core::time::Clock::now(clock.as_ref()),
                serial: SERIALS.fetch_add(1, Ordering::Relaxed),
                wire_fault: None,
            };
            let worker = worker.clone();
            async move {
                Ok(match wire {
                    Wire::Tls => worker.serve(arrived).await,
                    Wire::Plain => worker.serve_plain(arrived).await,
                })
            }
        })
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> Seen {
        ask(&mut self.connect("192.0.2.7", Wire::Tls).await, request).await
    }

    /// A GET of the API with a token, or none.
    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> Seen {
        self.ask(get(path, token)).await
    }

    /// Claims of a user's token, to be varied.
    pub(crate) fn user(&self) -> AccessClaims {
        let now = portcullis_core::time::Clock::now(self.clock.as_ref()).unix();
        AccessClaims {
            iss: ISSUER.into(),
            sub: "u_alice".into(),
            aud: AT.into(),
            exp: now + 300,
            iat: now,
            jti: Id::parse(&format!("t_{}", self.serials.fetch_add(1, Ordering::Relaxed))).unwrap(),
            client_id: Id::parse("app").unwrap(),
            scope: Scopes::parse("payments:read").unwrap(),
            kind: CallerKind::User,
            rev: 0,
            sid: Some(Id::parse("s_1").unwrap()),
            gid: Some(Id::parse("g_1").unwrap()),
            auth_time: Some(now),
            acr: Some("aal2".into()),
            amr: vec!["pwd".into(), "otp".into()],
            fat: FactorTimes { pwd: Some(now), otp: Some(now), hwk: None },
            roles: Vec::new(),
            groups: Vec::new(),
            tenant: None,
            attributes: [("account".into(), Attribute::String("a1".into()))].into(),
            cnf: None,
            act: None,
            authorization_details: Vec::new(),
        }
    }

    pub(crate) fn service(&self, scope: &str) -> AccessClaims {
        AccessClaims {
            sub: "ledger".into(),
            client_id: Id::parse("ledger").unwrap(),
            kind: CallerKind::Service,
            scope: Scopes::parse(scope).unwrap(),
            sid: None,
            attributes: Default::default(),
            ..self.user()
        }
    }

    pub(crate) fn token(&self, claims: &AccessClaims) -> String {
        self.key.sign("at+jwt", claims)
    }

    pub(crate) fn now(&self) -> Timestamp {
        portcullis_core::time::Clock::now(self.clock.as_ref())
    }

    /// Puts the next generation in force.
    pub(crate) fn reload(&self, edit: impl FnOnce(&mut Snapshot)) {
        let mut next = Snapshot::clone(&self.gateway.snapshot.load());
        next.generation += 1;
        edit(&mut next);
        self.gateway.snapshot.store(Arc::new(next));
    }
}

/// A connection that a service answers.
pub(crate) async fn speak<S>(service: S) -> Client
where
    S: hyper::service::Service<Request<Incoming>, Response = Answer, Error = Infallible> + 'static,
    S::Future: 'static,
{
    greet(serve(service)).await
}

fn serve<S>(service: S) -> tokio::io::DuplexStream
where
    S: hyper::service::Service<Request<Incoming>, Response = Answer, Error = Infallible> + 'static,
    S::Future: 'static,
{
    let (mine, theirs) = tokio::io::duplex(64 * 1024);
    tokio::task::spawn_local(async move {
        // The listener's own settings: some of them would break what is tried here.
        let server = crate::listen::http1();
        server.serve_connection(TokioIo::new(theirs), service).await.ok();
    });
    mine
}

async fn greet(io: tokio::io::DuplexStream) -> Client {
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::task::spawn_local(connection);
    sender
}

/// Over what a request arrives.
#[derive(Clone, Copy)]
pub(crate) enum Wire {
    Tls,
    Plain,
}

pub(crate) async fn ask(client: &mut Client, request: Request<Full<Bytes>>) -> Seen {
    client.ready().await.unwrap();
    let (parts, body) = client.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Seen { status: parts.status, headers: parts.headers, body }
}

pub(crate) fn get(path: &str, token: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::get(path).header("host", "api.example");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Full::default()).unwrap()
}
