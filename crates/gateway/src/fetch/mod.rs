//! The one guarded fetcher: every request that Portcullis itself makes to another server (key sets,
//! introspection, client documents, logout tokens) leaves through here.
//!
//! ```text
//! Target::read   the text: https, no user info, no fragment, one spelling of an IP address
//! resolve        names to addresses, by the system
//! Target::judge  each address; only those that pass are connected, and judged again once they are
//! exchange       one request, one bounded answer
//! ```
//! What is judged is the socket address that is connected, so that a name cannot answer the check with
//! one address and the connection with another. A redirect is an answer like any other. There are no
//! cookies, no retries, no kept connections, no proxy of the environment; one timeout spans it all.
//!
//! It believes nothing of an answer: what a body means is its caller's question.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use portcullis_core::fetch::{Fetch, FetchFault, FetchRequest, Fetched, Fetching, NamedBy};
use portcullis_core::web::Scheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::TlsFault;

mod ranges;
mod target;
mod seats;
pub(crate) mod seldom;
mod exchange;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use exchange::Ended;
pub(crate) use seats::MAX_PER_HOST;
use seats::{Seat, Seats};
use seldom::Seldom;
pub(crate) use target::Target;

/// Longest fetch, whatever its asker wants.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for one address of a name, so that one in a hole leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Addresses of one name that are tried; a name with more has enough that are good.
const MAX_SOCKETS: usize = 4;

/// What the operator says about fetching.
#[derive(Default)]
pub struct FetcherSettings {
    /// Further addresses that a stranger may send us to, on any port (`egress`).
    pub egress: Vec<IpNet>,
    /// PEM certificates that are trusted besides the system's roots.
    pub extra_roots: Option<Vec<u8>>,
}

/// The guarded fetcher; one for the process.
pub struct Fetcher {
    egress: Vec<IpNet>,
    tls: TlsConnector,
    seats: Seats,
    names: Names,
    warnings: Seldom,
}

impl Fetcher {
    /// A fetcher. A machine without any root certificate gets one too: there only `https` fails.
    ///
    /// # Errors
    /// When the extra roots are not PEM certificates.
    pub fn new(settings: FetcherSettings) -> Result<Self, TlsFault> {
        let tls = TlsConnector::from(Arc::new(client_config(settings.extra_roots.as_deref())?));
        Ok(Fetcher {
            egress: settings.egress,
            tls,
            seats: Seats::default(),
            names: Names::System,
            warnings: Seldom::default(),
        })
    }

    async fn guarded(&self, asked: FetchRequest) -> Result<Fetched, FetchFault> {
        let target = Target::read(&asked.url, asked.named_by)?;
        let host = target.address.authority();
        let seat = self.seats.take(target.address.host())?;
        let named_by = asked.named_by;
        let timeout = asked.timeout.min(MAX_TIMEOUT);
        let answered = tokio::time::timeout(timeout, self.ask(&target, asked, seat)).await;
        let fault = match answered {
            Ok(Ok(fetched)) => return Ok(fetched),
            Ok(Err(fault)) => fault,
            Err(_) => Unanswered::from(FetchFault::Slow(host)),
        };
        // Here alone is the cause known. What strangers name fails by the thousand, at their will.
        match named_by {
            NamedBy::Config if self.warnings.due() => {
                tracing::warn!(cause = %fault.cause, "{}", fault.fault);
            }
            NamedBy::Config | NamedBy::Stranger => {
                tracing::debug!(cause = %fault.cause, "{}", fault.fault);
            }
        }
        Err(fault.fault)
    }

    async fn ask(
        &self,
        target: &Target,
        asked: FetchRequest,
        seat: Seat,
    ) -> Result<Fetched, Unanswered> {
        let host = target.address.authority();
        let max_bytes = asked.max_bytes;
        let request = exchange::request(target, asked)?;
        let (sockets, _seat) = self.names.find(target, seat).await?;
        let stream = self.connect(target, sockets).await?;
        let fetched = match target.address.scheme() {
            Scheme::Http => exchange::converse(stream, request, max_bytes).await,
            Scheme::Https => {
                let name = ServerName::try_from(target.address.host().to_owned())
                    .map_err(|_| FetchFault::AddressUnfit(host.clone()))?;
                let stream = self.tls.connect(name, stream).await;
                let stream = stream.map_err(|cause| unreachable(&host, &cause.to_string()))?;
                exchange::converse(stream, request, max_bytes).await
            }
        };
        fetched.map_err(|ended| match ended {
            Ended::Broken(cause) => unreachable(&host, &cause),
            Ended::TooLarge => FetchFault::TooLarge(host).into(),
        })
    }

    /// Connects the first address that may be, and can be, connected.
    async fn connect(
        &self,
        target: &Target,
        sockets: Vec<SocketAddr>,
    ) -> Result<TcpStream, Unanswered> {
        let host = target.address.authority();
        let mut last = unreachable(&host, "the name has no address");
        for socket in sockets.into_iter().take(MAX_SOCKETS) {
            if let Err(forbidden) = target.judge(socket, &self.egress) {
                last = Unanswered { cause: socket.ip().to_string(), fault: forbidden };
                continue;
            }
            match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(socket)).await {
                Ok(Ok(stream)) => {
                    // INVARIANT: no byte is sent to a socket that was not judged. The kernel
                    // connects what it is told; this holds even where something rewrites it.
                    let peer = stream.peer_addr();
                    let peer = peer.map_err(|cause| unreachable(&host, &cause.to_string()))?;
                    target.judge(peer, &self.egress)?;
                    return Ok(stream);
                }
                Ok(Err(cause)) => last = unreachable(&host, &cause.to_string()),
                Err(_) => last = FetchFault::Slow(host.clone()).into(),
            }
        }
        Err(last)
    }
}

impl Fetch for Fetcher {
    fn fetch(&self, request: FetchRequest) -> Fetching<'_> {
        Box::pin(self.guarded(request))
    }
}

/// A fault with its cause, which is for the log alone.
struct Unanswered {
    fault: FetchFault,
    cause: String,
}

impl From<FetchFault> for Unanswered {
    fn from(fault: FetchFault) -> Self {
        Unanswered { fault, cause: String::new() }
    }
}

fn unreachable(host: &str, cause: &str) -> Unanswered {
    Unanswered { fault: FetchFault::Unreachable(host.to_owned()), cause: cause.to_owned() }
}

/// The answer of a look-up.
type Resolving = Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>>;

/// Who turns names into addresses.
enum Names {
    /// The system.
    System,
    /// A table that a test wrote.
    #[cfg(test)]
    Table(fn(&str, u16) -> Vec<SocketAddr>),
}

impl Names {
    /// The addresses of a target's host; the seat comes back with them. A look-up cannot be broken
    /// off, so it keeps its seat until it ends, however soon its asker went away: dead name servers
    /// must not fill the machine with threads.
    async fn find(
        &self,
        target: &Target,
        seat: Seat,
    ) -> Result<(Vec<SocketAddr>, Seat), Unanswered> {
        let port = target.address.port();
        if let Some(ip) = target.literal() {
            return Ok((vec![SocketAddr::new(ip, port)], seat));
        }
        let lookup = self.lookup(target.address.host().to_owned(), port);
        let looked_up = tokio::spawn(async move { (lookup.await, seat) }).await;
        let host = target.address.authority();
        match looked_up {
            Ok((Ok(sockets), seat)) => Ok((sockets, seat)),
            Ok((Err(cause), _)) => Err(unreachable(&host, &cause.to_string())),
            Err(cause) => Err(unreachable(&host, &cause.to_string())),
        }
    }

    fn lookup(&self, host: String, port: u16) -> Resolving {
        match self {
            Names::System => Box::pin(async move {
                let found = tokio::net::lookup_host((host, port)).await?;
                Ok(found.take(MAX_SOCKETS).collect())
            }),
            #[cfg(test)]
            Names::Table(table) => {
                let found = table(&host, port);
                Box::pin(async move { Ok(found) })
            }
        }
    }
}

/// TLS to others: the system's roots and the extra ones, HTTP/1.1 alone, no client certificate.
fn client_config(extra_roots: Option<&[u8]>) -> Result<ClientConfig, TlsFault> {
    let mut roots = RootCertStore::empty();
    // Some system stores hold a certificate that does not parse; the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = extra_roots {
        let system = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|fault| {
                TlsFault(format!(
                    "the extra roots are not PEM: {fault}; give `BEGIN CERTIFICATE` blocks"
                ))
            })?;
            roots.add(certificate).map_err(|fault| {
                TlsFault(format!("a certificate of the extra roots cannot be a root: {fault}"))
            })?;
        }
        if roots.len() == system {
            return Err(TlsFault("the extra roots hold no certificate; give a PEM file".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|fault| TlsFault(format!("no TLS version is available: {fault}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
