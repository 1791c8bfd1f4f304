//! Sets the demo's stage: directory, keys, config, upstream, server, people.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use portcullis_core::entropy::{Entropy, ProviderEntropy};
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::claims::Attribute;
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::time::{Clock, Timestamp};
use portcullis_identity::account::{self, Making, NewUser, SecondFactorWish};

use super::upstream::Owners;
use super::{Person, Place, Tour, app, upstream};
use crate::admin::api_keys::USUAL_DAYS;
use crate::admin::{Command, socket};
use crate::clock::SystemClock;
use crate::config::Purpose;
use crate::files;
use crate::server::{Server, Start};

/// The demo's directory, under the current one. Made anew at each start.
const HOME: &str = "portcullis-demo";
/// The file that says a directory is ours to remove.
const MARK: &str = ".made-by-portcullis-demo";

/// The demo while it runs.
pub(super) struct Stage {
    pub(super) place: Place,
    pub(super) people: Vec<Person>,
    /// A key of the auditor's.
    pub(super) api_key: String,
    pub(super) server: Server,
    pub(super) clock: Arc<ShiftedClock>,
    pub(super) runtime: tokio::runtime::Runtime,
}

/// The machine's clock, moved ahead: the tour does not wait five minutes for a token to expire.
pub(super) struct ShiftedClock(AtomicI64);

impl ShiftedClock {
    /// Moves ahead.
    pub(super) fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).unwrap_or(0);
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        let ahead = self.0.load(Ordering::SeqCst);
        SystemClock.now().after(Duration::from_nanos(u64::try_from(ahead).unwrap_or(0)))
    }
}

impl Stage {
    /// Sets everything up and starts the server.
    pub(super) fn set(tour: &Tour, entropy: Arc<dyn Entropy>) -> anyhow::Result<Stage> {
        let home = fresh_home(tour)?;
        let ports = Ports::choose(tour)?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let owners = Owners::default();
        let upstream = runtime.block_on(upstream::start(owners.clone()))?;
        let place = ports.place(&home);
        write_files(&place, &ports, upstream)?;
        let clock = Arc::new(ShiftedClock(AtomicI64::new(0)));
        let records = std::fs::File::create(home.join("records.jsonl"))?;
        let server = Server::start(Start {
            config: PathBuf::from(beside(&home.join("portcullis.toml"))),
            shadow: None,
            purpose: Purpose::Serve,
            clock: clock.clone(),
            entropy,
            records: Box::new(records),
            form: crate::journal::Form::Json,
        })?;
        let people = runtime.block_on(add_people(&server, &owners))?;
        let api_key = runtime.block_on(add_key(&place))?;
        Ok(Stage { place, people, api_key, server, clock, runtime })
    }

    /// What to try, printed at the start of `demo`.
    pub(super) fn invitation(&self) -> String {
        let mut people = String::new();
        for person in &self.people {
            let secret = person.totp.base32();
            let (login, password) = (&person.login, &person.password);
            let line = format!("    {login:<6} password {password}   authenticator secret ");
            people.push_str(&line);
            people.push_str(secret.expose());
            people.push('\n');
        }
        let place = &self.place;
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("portcullis"));
        include_str!("invitation.txt")
            .replace("{people}", people.trim_end_matches('\n'))
            .replace("{api_key}", &self.api_key)
            .replace("{api}", &place.api)
            .replace("{issuer}", &place.issuer)
            .replace("{plain}", &place.plain)
            .replace("{app}", &place.app)
            .replace("{home}", &beside(&place.home))
            .replace("{portcullis}", &beside(&program))
    }

    /// Serves the demo's application until an interrupt.
    pub(super) async fn serve_app(&self, entropy: Arc<dyn Entropy>) -> anyhow::Result<()> {
        let address = self.place.app.trim_start_matches("http://");
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("{address} is taken: stop what listens there"))?;
        let people = self.people.iter().map(Person::again).collect();
        let clock: Arc<dyn Clock> = self.clock.clone();
        let client = self.place.client()?;
        let place = self.place.clone();
        let pending = std::sync::Mutex::default();
        app::serve(Arc::new(app::App { place, people, client, entropy, clock, pending }), listener);
        tokio::signal::ctrl_c().await?;
        Ok(())
    }

    /// Ends the demo.
    pub(super) fn close(self) {
        self.server.stop(Duration::from_secs(2));
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

impl Person {
    fn again(&self) -> Person {
        let totp = portcullis_core::otp::TotpSecret::from_bytes(self.totp.expose());
        Person {
            login: self.login.clone(),
            password: self.password.clone(),
            totp: totp.expect("the bytes of a TOTP secret are one"),
            account: self.account.clone(),
        }
    }
}

/// The demo's ports: well-known ones for a person, free ones for the tour.
struct Ports {
    api: u16,
    issuer: u16,
    plain: u16,
    health: u16,
    app: u16,
}

impl Ports {
    fn choose(tour: &Tour) -> anyhow::Result<Ports> {
        if *tour == Tour::No {
            let ports = Ports { api: 8443, issuer: 8444, plain: 8080, health: 9090, app: 8445 };
            for port in [ports.api, ports.issuer, ports.plain, ports.health, ports.app] {
                if TcpListener::bind(("127.0.0.1", port)).is_err() {
                    bail!(
                        "port {port} of 127.0.0.1 is taken: stop what listens there (the demo needs 8080, 8443, 8444, 8445 and 9090)"
                    );
                }
            }
            return Ok(ports);
        }
        let held: Vec<TcpListener> = (0..5)
            .map(|_| TcpListener::bind(("127.0.0.1", 0)))
            .collect::<Result<_, _>>()
            .context("no free loopback port")?;
        let free: Vec<u16> = held
            .iter()
            .map(|listener| listener.local_addr().map(|address| address.port()))
            .collect::<Result<_, _>>()?;
        let &[api, issuer, plain, health, app] = free.as_slice() else { bail!("five ports") };
        Ok(Ports { api, issuer, plain, health, app })
    }

    fn place(&self, home: &Path) -> Place {
        Place {
            home: home.to_owned(),
            api: format!("https://localhost:{}/v1", self.api),
            issuer: format!("https://localhost:{}", self.issuer),
            plain: format!("http://127.0.0.1:{}", self.plain),
            app: format!("http://127.0.0.1:{}", self.app),
            redirect: format!("http://127.0.0.1:{}/cb", self.app),
        }
    }
}

/// A path as one would type it from here: lines to paste should be short.
pub(super) fn beside(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here)
        .map_or_else(|_| path.display().to_string(), |relative| format!("./{}", relative.display()))
}

/// A directory made anew. One that the demo did not make is left alone.
fn fresh_home(tour: &Tour) -> anyhow::Result<PathBuf> {
    let name = if *tour == Tour::Yes { format!("{HOME}-tour") } else { HOME.to_owned() };
    let home = std::env::current_dir()?.join(name);
    if home.exists() {
        if !home.join(MARK).exists() {
            bail!("`{}` is there and was not made by the demo: move it away", home.display());
        }
        std::fs::remove_dir_all(&home)?;
    }
    files::private_directory(&home)?;
    files::write_public(&home.join(MARK), b"")?;
    Ok(home)
}

fn write_files(place: &Place, ports: &Ports, upstream: SocketAddr) -> anyhow::Result<()> {
    let config = include_str!("portcullis.toml")
        .replace("{api_port}", &ports.api.to_string())
        .replace("{issuer_port}", &ports.issuer.to_string())
        .replace("{plain_port}", &ports.plain.to_string())
        .replace("{health}", &format!("127.0.0.1:{}", ports.health))
        .replace("{upstream}", &upstream.to_string());
    files::write_public(&place.home.join("portcullis.toml"), config.as_bytes())?;
    files::write_public(&place.home.join("payments.yaml"), upstream::DOCUMENT.as_bytes())?;
    for service in ["ledger", "auditor"] {
        let key = SigningKey::generate(Algorithm::Es256)?;
        let set = JwkSet::new(vec![key.public()]).to_json().to_string();
        files::write_secret(
            &place.home.join(format!("{service}.pem")),
            key.to_pem().expose().as_bytes(),
        )?;
        files::write_public(&place.home.join(format!("{service}.jwks.json")), set.as_bytes())?;
    }
    Ok(())
}

/// A key for the auditor, made as `portcullis client key add` makes it.
async fn add_key(place: &Place) -> anyhow::Result<String> {
    let command = Command::ClientKeyAdd {
        client: "auditor".into(),
        scopes: "settlements:read".into(),
        from: Vec::new(),
        days: USUAL_DAYS,
    };
    let answer = socket::ask(&place.home.join("data"), &command).await?;
    let key = answer.as_ref().and_then(|answer| answer.get("key")).and_then(|key| key.as_str());
    key.map(str::to_owned).context("the running server made no API key")
}

/// Alice and Bob, each with an account and an invoice.
async fn add_people(server: &Server, owners: &Owners) -> anyhow::Result<Vec<Person>> {
    let making = Making {
        store: &server.store,
        sealer: server.identity.sealer(),
        entropy: &ProviderEntropy::default(),
        now: SystemClock.now(),
    };
    let mut people = Vec::new();
    for (login, name) in [("alice", "Alice Anders"), ("bob", "Bob Brown")] {
        let account = format!("acc-{login}");
        let attributes = [("account".to_owned(), Attribute::String(account.clone()))].into();
        let second_factor = SecondFactorWish::HandedOut;
        let (login_name, name) = (login.to_owned(), name.to_owned());
        let new =
            NewUser { login: login_name, name, attributes, second_factor, ..NewUser::default() };
        let added = account::add_user(&making, new).await?;
        owners.give(&format!("inv-{login}"), added.user.id.as_str());
        let totp = added.totp.context("the demo's people have an authenticator")?;
        let password = added.password.expose().clone();
        people.push(Person { login: login.into(), password, totp, account });
    }
    Ok(people)
}
