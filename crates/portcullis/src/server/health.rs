//! The health listener: `/healthz` (the process lives), `/readyz` (it serves what is on disk),
//! `/metrics`. Plain HTTP, loopback unless the file says otherwise; no caller's data passes here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Live;

/// Most connections at once: a scraper and a prober or two.
const CONNECTIONS: usize = 32;
/// Longest wait for a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// Wait after a connection that could not be accepted.
const BREATH: Duration = Duration::from_millis(100);

/// Binds the health and metrics addresses and serves them on the control runtime.
pub(super) async fn serve(
    live: Arc<Live>,
    health: SocketAddr,
    metrics: SocketAddr,
) -> anyhow::Result<()> {
    let mut addresses = vec![health, metrics];
    addresses.dedup();
    for address in addresses {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("the health listener cannot bind {address}: is it taken?"))?;
        let serves = Serves { health: address == health, metrics: address == metrics };
        tokio::spawn(accept(live.clone(), listener, serves));
    }
    Ok(())
}

/// Which pages an address serves.
#[derive(Clone, Copy)]
struct Serves {
    health: bool,
    metrics: bool,
}

async fn accept(live: Arc<Live>, listener: TcpListener, serves: Serves) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: asking again at once would only take a core.
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let live = live.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request: Request<Incoming>| {
                let answer = answer(&live, serves, request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD);
            // A prober that breaks off is its own affair.
            drop(http.serve_connection(TokioIo::new(stream), service).await);
            drop(place);
        });
    }
}

fn answer(live: &Live, serves: Serves, path: &str) -> Response<Full<Bytes>> {
    let (status, body) = match path {
        "/healthz" if serves.health => (StatusCode::OK, String::from("ok\n")),
        "/readyz" if serves.health => ready(live),
        "/metrics" if serves.metrics => (StatusCode::OK, metrics(live)),
        _ => (StatusCode::NOT_FOUND, String::from("not found\n")),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

/// Ready while the file on disk is the one in force: the traffic is served either way, but whoever
/// rolls out a config must see that it did not take.
fn ready(live: &Live) -> (StatusCode, String) {
    if live.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, String::from("draining\n"));
    }
    match live.refused() {
        None => (StatusCode::OK, format!("ready, generation {}\n", live.snapshot().generation)),
        Some((since, why)) => {
            let words = format!("the config on disk is refused since {since}\n{why}\n");
            (StatusCode::SERVICE_UNAVAILABLE, words)
        }
    }
}

fn metrics(live: &Live) -> String {
    let figures = &live.gateway.figures;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let refused_since = live.refused().map_or(0, |(since, _)| since.unix());
    let all = Figures(vec![
        ("connections", "connections accepted", Kind::Counter(count(&figures.connections_total))),
        ("connections_open", "connections open now", gauge(count(&figures.connections_open))),
        ("requests", "requests answered", Kind::Counter(count(&figures.requests_total))),
        ("refused", "requests refused", Kind::Counter(count(&figures.refused_total))),
        ("forwarded", "requests forwarded", Kind::Counter(count(&figures.forwarded_total))),
        (
            "upstream_errors",
            "failed upstreams",
            Kind::Counter(count(&figures.upstream_errors_total)),
        ),
        (
            "tokens_verified",
            "signatures verified",
            Kind::Counter(count(&figures.tokens_verified_total)),
        ),
        (
            "token_cache_hits",
            "verified tokens reused",
            Kind::Counter(count(&figures.token_cache_hits_total)),
        ),
        (
            "records_dropped",
            "records dropped by a full queue",
            Kind::Counter(live.journal.dropped()),
        ),
        (
            "limit_slots_shared",
            "limit keys that shared a slot",
            Kind::Counter(live.counters.shared()),
        ),
        ("store_commits", "transactions committed", Kind::Counter(live.store.commits())),
        ("revocations", "revocations in force", gauge(live.revoked.len() as u64)),
        ("config_generation", "generation in force", gauge(live.snapshot().generation)),
        (
            "config_refused_since",
            "Unix time since when the file is refused, or 0",
            Kind::Gauge(refused_since),
        ),
    ]);
    let mut registry = Registry::with_prefix("portcullis");
    registry.register_collector(Box::new(all));
    let mut page = String::new();
    // Writing to a string cannot fail; a page cut short would be a scraper's error, not ours to hide.
    match text::encode(&mut page, &registry) {
        Ok(()) => page,
        Err(std::fmt::Error) => String::new(),
    }
}

/// The figures of one scrape.
#[derive(Debug)]
struct Figures(Vec<(&'static str, &'static str, Kind)>);

#[derive(Debug)]
enum Kind {
    Counter(u64),
    Gauge(i64),
}

fn gauge(value: u64) -> Kind {
    Kind::Gauge(i64::try_from(value).unwrap_or(i64::MAX))
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, kind) in &self.0 {
            match kind {
                Kind::Counter(value) => {
                    let metric = ConstCounter::new(*value);
                    metric.encode(encoder.encode_descriptor(
                        name,
                        help,
                        None,
                        metric.metric_type(),
                    )?)?;
                }
                Kind::Gauge(value) => {
                    let metric = ConstGauge::new(*value);
                    metric.encode(encoder.encode_descriptor(
                        name,
                        help,
                        None,
                        metric.metric_type(),
                    )?)?;
                }
            }
        }
        Ok(())
    }
}
