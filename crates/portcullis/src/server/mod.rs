//! The wiring: from one judged file to a running server, and from a changed file to a new
//! generation. The only place that knows all crates at once.

mod caps;
mod bound;
mod compose;
mod dev;
mod health;
mod watch;
mod chores;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use ipnet::IpNet;
use portcullis_core::entropy::Entropy;
use portcullis_core::fetch::Fetch;
use portcullis_core::hash::TableKey;
use portcullis_core::jose::dpop::ProofDesk;
use portcullis_core::limit::{Counters, DEFAULT_SLOTS, LocalCounters};
use portcullis_core::revocation::{RevocationKind, Revoked};
use portcullis_core::time::{Clock, Timestamp};
use portcullis_gateway::api_keys::KeyUses;
use portcullis_gateway::fetch::{Fetcher, FetcherSettings};
use portcullis_gateway::foreign::Foreign;
use portcullis_gateway::journey::Gateway;
use portcullis_gateway::listen::{Listeners, Running};
use portcullis_gateway::record::Figures;
use portcullis_gateway::snapshot::Reasons;
use portcullis_gateway::tls::{self, Certificates, Sound};
use portcullis_gateway::{listen, snapshot::Snapshot};
use portcullis_identity::parts::Parts;
use portcullis_identity::server::Identity;
use portcullis_identity::settings::Settings;
use portcullis_policy::compile::Rules;
use portcullis_store::database::{Store, StoreFault};
use portcullis_store::revocations::LONGEST_TOKEN;

use crate::admin;
use crate::config::{self, Colour, Config, Purpose, Rejected};
use crate::files;
use crate::house::Portal;
use crate::journal::{self, Form, Journal};
use bound::Bound;

/// What a server is started with.
pub(crate) struct Start {
    /// The config file.
    pub config: PathBuf,
    /// A config whose rules judge each decision too, and decide nothing (`serve --shadow`).
    pub shadow: Option<PathBuf>,
    /// For service, or `serve --dev`.
    pub purpose: Purpose,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Where decision records go.
    pub records: Box<dyn Write + Send>,
    /// How they are written.
    pub form: Form,
}

/// A running server.
pub(crate) struct Server {
    /// The authorization server.
    pub identity: Arc<Identity>,
    /// What is remembered.
    pub store: Store,
    live: Arc<Live>,
    running: Running,
    control: tokio::runtime::Runtime,
    journal: journal::Writer,
}

/// What a reload needs, shared by the watcher, the signal, the admin socket and the health page.
pub(crate) struct Live {
    path: PathBuf,
    bound: Bound,
    purpose: Purpose,
    clock: Arc<dyn Clock>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) store: Store,
    pub(crate) journal: Arc<Journal>,
    pub(crate) counters: Arc<LocalCounters>,
    pub(crate) revoked: Arc<Revoked>,
    certificates: Certificates,
    control: tokio::runtime::Handle,
    /// Since when the file on disk is bad, and why.
    refused: Mutex<Option<(Timestamp, String)>>,
    /// One reload at a time. INVARIANT: never waited for on a thread of the control runtime, which is
    /// what a reload waits for.
    turn: Mutex<()>,
    /// The files whose change means a reload.
    watched: Mutex<Vec<PathBuf>>,
    /// What the file in force names.
    facts: Mutex<Arc<admin::Facts>>,
    /// Whether the end has begun.
    draining: AtomicBool,
}

/// A file that was refused, as a person reads it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FileRefused(pub String);

impl Server {
    /// Reads the file, opens the store, and listens.
    ///
    /// # Errors
    /// [`FileRefused`] with line, caret and remedy; otherwise what could not be opened or bound.
    pub(crate) fn start(start: Start) -> anyhow::Result<Server> {
        let config = read(&start.config, start.purpose, start.clock.now())?;
        let shadow = shadow(&start)?;
        let data = config.server.data.clone();
        files::private_directory(&data)?;
        let control = control_runtime()?;
        let revoked = Arc::new(Revoked::new());
        let store = Store::open(&data.join("portcullis.db"), revoked.clone(), start.clock.clone())?;
        control.block_on(admin::mark_dev(&store, start.purpose))?;
        let key = TableKey::mint(&*start.entropy);
        let counters = Arc::new(LocalCounters::new(key, DEFAULT_SLOTS));
        // Before the fetcher, which trusts the local CA that this may make.
        let certified = compose::certified(&config.server)?;
        let outside = Outside::assemble(&config, &start, &revoked)?;
        let identity =
            Arc::new(control.block_on(identity(&config, &start, (&store, &counters), &outside))?);
        let (records, journal) = journal::start(start.records, start.form);
        let (tls, certificates) = tls::server_config(certified)?;
        let listeners = listeners(&config.server, tls);
        let bound = Bound::of(&config.server);
        let (watched, facts) = (config.watched.clone(), Arc::new(admin::Facts::of(&config)));
        let reasons = reasons(start.purpose);
        let settings = compose::current(&identity);
        let now = start.clock.now();
        // Before anybody is served: a client that left the file while nothing ran leaves nothing.
        control.block_on(end_orphans(&store, &settings, now))?;
        let api_keys = control.block_on(compose::api_keys(&store, &settings, now))?;
        let stage = compose::Stage { identity: &identity, settings: &settings, api_keys, shadow };
        let gateway = Arc::new(Gateway {
            snapshot: ArcSwap::from_pointee(compose::snapshot(config, &stage, 1, reasons)?),
            counters: counters.clone(),
            revoked: revoked.clone(),
            house: portal(&identity, &store, &control),
            records: records.clone(),
            clock: start.clock.clone(),
            entropy: start.entropy,
            figures: Figures::default(),
            proofs: outside.proofs,
            sealer: identity.sealer().clone(),
            foreign: outside.foreign,
            key_uses: KeyUses::default(),
            owners: Default::default(),
        });
        let running = listen::start(gateway.clone(), listeners)?;
        let live = Arc::new(Live {
            path: start.config,
            bound: bound.clone(),
            purpose: start.purpose,
            clock: start.clock,
            gateway,
            identity: identity.clone(),
            store: store.clone(),
            journal: records,
            counters,
            revoked,
            certificates,
            control: control.handle().clone(),
            refused: Mutex::default(),
            turn: Mutex::default(),
            watched: Mutex::new(watched),
            facts: Mutex::new(facts),
            draining: AtomicBool::new(false),
        });
        control.block_on(admin::socket::serve(live.clone(), &data))?;
        watch::start(&live)?;
        control.spawn(chores::run(live.clone()));
        // Last: whoever is told `ready` may change the file or send a command at once.
        control.block_on(health::serve(live.clone(), bound.health, bound.metrics))?;
        Ok(Server { identity, store, live, running, control, journal })
    }

    /// Reads the file again and swaps it in, whole or not at all.
    ///
    /// # Errors
    /// [`FileRefused`]: the version in force stays.
    pub(crate) fn reload(&self) -> Result<(), FileRefused> {
        // On a thread of its own: loading waits for the store, which no runtime's thread may.
        std::thread::scope(|scope| scope.spawn(|| self.live.reload()).join())
            .unwrap_or_else(|_| Err(FileRefused("loading the config failed; see the log".into())))
    }

    /// What `serve --dev` says at its start: where everything is, and the first user.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn introduction(&self) -> anyhow::Result<String> {
        self.control.block_on(dev::introduction(&self.live))
    }

    /// The TLS addresses that were bound.
    pub(crate) fn addresses(&self) -> &[std::net::SocketAddr] {
        &self.running.tls
    }

    /// Waits for SIGTERM or an interrupt; SIGHUP reloads.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub(crate) fn wait(&self) -> anyhow::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        self.control.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut hangup = signal(SignalKind::hangup())?;
            loop {
                tokio::select! {
                    _ = terminate.recv() => return Ok(()),
                    _ = interrupt.recv() => return Ok(()),
                    _ = hangup.recv() => {
                        let live = self.live.clone();
                        tokio::task::spawn_blocking(move || live.reload_aloud()).await?;
                    }
                }
            }
        })
    }

    /// Drains and ends: no new connections, running requests within `grace`, every record written,
    /// the store closed.
    pub(crate) fn stop(self, grace: Duration) {
        self.live.draining.store(true, Ordering::Relaxed);
        self.running.drain(grace);
        self.control.shutdown_timeout(grace);
        drop((self.identity, self.live));
        self.store.close();
        self.journal.finish();
    }
}

impl Live {
    /// Reads the file again and swaps it in.
    pub(crate) fn reload(&self) -> Result<(), FileRefused> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.load();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(()) => *refused = None,
            Err(fault) => {
                let since = refused.take().map_or_else(|| self.clock.now(), |(since, _)| since);
                *refused = Some((since, fault.0.clone()));
            }
        }
        result
    }

    /// The same for a signal or a changed file: nobody waits for the answer, so it is logged.
    pub(crate) fn reload_aloud(&self) {
        match self.reload() {
            Ok(()) => tracing::info!(file = %self.path.display(), "the config was loaded"),
            Err(fault) => {
                tracing::error!("the config was refused; the version in force stays\n{fault}");
            }
        }
    }

    /// Gives the gateway the signing keys that identity holds now. The rest of the snapshot stays, so
    /// that a bad file on disk keeps no key from being rotated.
    pub(crate) fn take_keys(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.gateway.snapshot.load_full();
        let keyring = self.identity.keyring();
        self.gateway.snapshot.store(Arc::new(Snapshot {
            generation: before.generation + 1,
            keys: keyring.access_keys().as_ref().clone(),
            passport: keyring.passport_key(),
            ..before.as_ref().clone()
        }));
    }

    /// Gives the gateway our own pages as the settings have them now.
    fn take_pages(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.gateway.snapshot.load_full();
        let house = compose::house_table(&compose::current(&self.identity));
        let generation = before.generation + 1;
        self.gateway.snapshot.store(Arc::new(Snapshot {
            generation,
            house,
            ..before.as_ref().clone()
        }));
    }

    /// Gives the gateway the API keys that the store holds now. Waits for the store: not on a
    /// runtime's thread.
    pub(crate) fn take_api_keys(&self) -> anyhow::Result<()> {
        // Read under the turn: of two at once the later reader is the later writer.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (settings, now) = (compose::current(&self.identity), self.clock.now());
        let api_keys = self.control.block_on(compose::api_keys(&self.store, &settings, now))?;
        let before = self.gateway.snapshot.load_full();
        let generation = before.generation + 1;
        let next = Snapshot { generation, api_keys, ..before.as_ref().clone() };
        self.gateway.snapshot.store(Arc::new(next));
        Ok(())
    }

    /// Since when the file on disk is refused, and why.
    pub(crate) fn refused(&self) -> Option<(Timestamp, String)> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn load(&self) -> Result<(), FileRefused> {
        let said = |fault: anyhow::Error| FileRefused(format!("{fault:#}"));
        let config = read(&self.path, self.purpose, self.clock.now()).map_err(said)?;
        self.bound.holds_for(&config.server)?;
        let facts = admin::Facts::of(&config);
        let certified = compose::certified(&config.server).map_err(said)?;
        let watched = config.watched.clone();
        let before = self.gateway.snapshot.load_full();
        // INVARIANT: no client registers or removes itself between the reading of the store and the
        // swap, which would forget the one and bring back the other.
        let _still = self.control.block_on(self.identity.hold_registrations());
        let stored = self.control.block_on(admin::stored_clients(&self.store)).map_err(said)?;
        let settings = compose::settings(&config, stored).map_err(said)?;
        let stage = compose::Stage {
            identity: &self.identity,
            settings: &settings,
            api_keys: before.api_keys.clone(),
            shadow: before.shadow.clone(),
        };
        let next = compose::snapshot(config, &stage, before.generation + 1, before.reasons)
            .map_err(said)?;
        let sound = Sound::judge(certified).map_err(|fault| FileRefused(fault.to_string()))?;
        let narrowed = compose::narrowed(&compose::current(&self.identity), &settings);
        // The last thing that can refuse: a store that fails must leave the old version whole.
        self.control
            .block_on(self.revoke_clients(&narrowed))
            .map_err(|fault| said(fault.into()))?;
        let now = self.clock.now();
        self.control
            .block_on(end_orphans(&self.store, &settings, now))
            .map_err(|fault| said(fault.into()))?;
        // Read after the revocations: a key that stays must not carry a sequence from before them.
        let api_keys = self.control.block_on(compose::api_keys(&self.store, &settings, now));
        let api_keys = api_keys.map_err(|fault| said(fault.into()))?;
        self.certificates.put(sound);
        self.identity.reload(settings);
        self.gateway.snapshot.store(Arc::new(Snapshot { api_keys, ..next }));
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = watched;
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts);
        // Once more: for tokens that were minted by the old version since.
        if let Err(fault) = self.control.block_on(self.revoke_clients(&narrowed)) {
            tracing::error!(%fault, clients = ?narrowed, "tokens minted during the reload live on");
        }
        Ok(())
    }

    /// A reload that takes a client or a scope away ends the access tokens that still carry it
    /// (`4-identity`, "Revocation").
    async fn revoke_clients(&self, clients: &[String]) -> Result<(), StoreFault> {
        if clients.is_empty() {
            return Ok(());
        }
        // As long as any token may live: one that was minted under a clock that ran ahead too.
        let (expires, clients) = (self.clock.now().after(LONGEST_TOKEN), clients.to_vec());
        self.store
            .transact(async move |tx| {
                for client in &clients {
                    tx.revoke(RevocationKind::Client, client, expires).await?;
                }
                Ok(())
            })
            .await
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What administration may name: what the file in force names. A bad file on disk must not keep
    /// anybody from disabling a user.
    pub(crate) fn facts(&self) -> Arc<admin::Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the end has begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn is_watched(&self, path: &Path) -> bool {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let named = |known: &Path| known.file_name() == path.file_name();
        named(&self.path) || watched.iter().any(|known| named(known))
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.gateway.snapshot.load_full()
    }
}

/// Reads and judges the file; every fault in one text.
fn read(path: &Path, purpose: Purpose, now: Timestamp) -> anyhow::Result<Config> {
    let refused = |rejected: Rejected| FileRefused(rejected.render(Colour::Never));
    let mut config = config::read(path, now, purpose).map_err(refused)?;
    if purpose == Purpose::Dev {
        config::dev(&mut config).map_err(refused)?;
    }
    Ok(config)
}

/// The rules of the other file, moved as this one's are.
fn shadow(start: &Start) -> anyhow::Result<Option<Arc<Rules>>> {
    let Some(path) = &start.shadow else { return Ok(None) };
    let config = read(path, start.purpose, start.clock.now())?;
    tracing::info!(file = %path.display(), "judged beside, decides nothing");
    Ok(Some(Arc::new(config.rules)))
}

/// On a laptop answers say why; elsewhere only the record does.
fn reasons(purpose: Purpose) -> Reasons {
    match purpose {
        Purpose::Serve => Reasons::Recorded,
        Purpose::Dev => Reasons::Answered,
    }
}

fn control_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .context("the control runtime cannot start")
}

/// Ends all that clients hold which are registered nowhere any more: whoever bears the same id later
/// inherits nothing.
async fn end_orphans(store: &Store, settings: &Settings, now: Timestamp) -> Result<(), StoreFault> {
    for client in compose::orphans(store, settings).await? {
        tracing::info!(%client, "a client is gone; its grants, keys and consents end");
        store.transact(async move |tx| tx.end_grants_of_client(&client, now).await).await?;
    }
    Ok(())
}

/// What identity shares with the gateway, and what reaches out.
struct Outside {
    fetch: Arc<dyn Fetch>,
    foreign: Arc<Foreign>,
    proofs: Arc<ProofDesk>,
    revoked: Arc<Revoked>,
}

impl Outside {
    fn assemble(config: &Config, start: &Start, revoked: &Arc<Revoked>) -> anyhow::Result<Outside> {
        let fetch = fetcher(config, start.purpose)?;
        Ok(Outside {
            foreign: Arc::new(Foreign::new(fetch.clone(), start.clock.clone())),
            fetch,
            proofs: Arc::new(ProofDesk::new(&*start.entropy)),
            revoked: revoked.clone(),
        })
    }
}

fn portal(
    identity: &Arc<Identity>,
    store: &Store,
    control: &tokio::runtime::Runtime,
) -> Arc<Portal> {
    let (identity, store, control) = (identity.clone(), store.clone(), control.handle().clone());
    Arc::new(Portal { identity, store, control })
}

fn listeners(server: &config::Server, tls: tls::Handshakes) -> Listeners {
    Listeners {
        tls: server.listen.clone(),
        plain: server.plain.clone(),
        config: tls,
        workers: 0,
        caps: caps::caps(),
    }
}

/// The one guarded fetcher. Our own local CA is trusted too; on a laptop everything is loopback.
fn fetcher(config: &Config, purpose: Purpose) -> anyhow::Result<Arc<dyn Fetch>> {
    let mut egress = config.server.egress.clone();
    if purpose == Purpose::Dev {
        let loopback = ["127.0.0.0/8", "::1/128"];
        egress.extend(loopback.iter().filter_map(|network| network.parse::<IpNet>().ok()));
    }
    let extra_roots = match config.server.tls {
        config::Tls::Local => std::fs::read(config.server.data.join("ca.pem")).ok(),
        config::Tls::Files { .. } => None,
    };
    Ok(Arc::new(Fetcher::new(FetcherSettings { egress, extra_roots })?))
}

async fn identity(
    config: &Config,
    start: &Start,
    (store, counters): (&Store, &Arc<LocalCounters>),
    outside: &Outside,
) -> anyhow::Result<Identity> {
    let key = files::key_encryption_key(&config.server.data.join("kek"), &*start.entropy)?;
    let counters: Arc<dyn Counters> = counters.clone();
    let settings = compose::settings(config, admin::stored_clients(store).await?)?;
    let parts = Parts {
        store: store.clone(),
        clock: start.clock.clone(),
        entropy: start.entropy.clone(),
        counters,
        ring: vec![(1, key)],
        settings,
        fetch: outside.fetch.clone(),
        foreign: outside.foreign.clone(),
        proofs: outside.proofs.clone(),
        revoked: outside.revoked.clone(),
    };
    Ok(Identity::start(parts).await?)
}
