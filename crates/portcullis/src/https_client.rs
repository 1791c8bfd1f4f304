//! A small HTTPS client for the tour and for `token fetch`: one request, one answer. It follows no redirect: the tour wants to see them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use portcullis_core::web::{Address, Scheme};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

/// Longest answer read, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that trusts one CA (or the system's roots).
pub(crate) struct Client {
    tls: tokio_rustls::TlsConnector,
    cookies: std::sync::Mutex<Vec<(String, String, String)>>,
}

/// An answer, whole.
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its fields.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
}

impl Answer {
    /// A field's text, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }
}

impl Client {
    /// Trusts the CA of this PEM text.
    ///
    /// # Errors
    /// When the text holds no certificate.
    pub(crate) fn trusting(ca_pem: &[u8]) -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            roots.add(certificate.context("the CA file is not PEM")?)?;
        }
        Self::with_roots(roots)
    }

    /// Trusts the machine's own roots.
    ///
    /// # Errors
    /// When the machine has none.
    pub(crate) fn trusting_system() -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            anyhow::bail!("this machine has no root certificates: name a CA with --ca FILE");
        }
        Self::with_roots(roots)
    }

    fn with_roots(roots: rustls::RootCertStore) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
        Ok(Client { tls, cookies: std::sync::Mutex::default() })
    }

    /// Forgets all cookies: another browser.
    pub(crate) fn forget_cookies(&self) {
        self.jar().clear();
    }

    /// Forgets the cookies of one name.
    pub(crate) fn forget_cookie(&self, name: &str) {
        self.jar().retain(|(_, known, _)| known != name);
    }

    /// `GET`.
    pub(crate) async fn get(&self, url: &str, fields: &[(&str, &str)]) -> anyhow::Result<Answer> {
        self.send("GET", url, fields, Bytes::new()).await
    }

    /// `POST` of a JSON text, as it stands.
    pub(crate) async fn post_json(
        &self,
        url: &str,
        authorization: &str,
        json: &'static str,
    ) -> anyhow::Result<Answer> {
        let fields = [("authorization", authorization), ("content-type", "application/json")];
        self.send("POST", url, &fields, Bytes::from_static(json.as_bytes())).await
    }

    /// `POST` of a form.
    pub(crate) async fn post(
        &self,
        url: &str,
        fields: &[(&str, &str)],
        form: &[(&str, &str)],
    ) -> anyhow::Result<Answer> {
        let encode = portcullis_core::web::form_encode;
        let pairs: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        let mut fields = fields.to_vec();
        fields.push(("content-type", "application/x-www-form-urlencoded"));
        self.send("POST", url, &fields, Bytes::from(pairs.join("&"))).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(
        &self,
        method: &str,
        url: &str,
        fields: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let (origin, target) = split(url)?;
        let mut request = Request::builder().method(method).uri(target);
        request = request.header("host", origin.authority());
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let cookies = self.cookies_for(&origin.authority());
        if !cookies.is_empty() {
            request = request.header("cookie", cookies);
        }
        let request = request.body(Full::new(body))?;
        let answer = tokio::time::timeout(PATIENCE, self.exchange(&origin, request))
            .await
            .map_err(|_| anyhow!("no answer from {url} within {PATIENCE:?}"))??;
        self.keep_cookies(&origin.authority(), &answer.headers);
        Ok(answer)
    }

    async fn exchange(
        &self,
        origin: &Address,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<Answer> {
        let host = if origin.host() == "localhost" { "127.0.0.1" } else { origin.host() };
        let mut addresses = tokio::net::lookup_host((host, origin.port())).await?;
        let socket: SocketAddr = addresses.next().context("the host has no address")?;
        let stream = tokio::net::TcpStream::connect(socket)
            .await
            .with_context(|| format!("nothing listens at {origin}"))?;
        match origin.scheme() {
            Scheme::Http => converse(TokioIo::new(stream), request).await,
            Scheme::Https => {
                let name = ServerName::try_from(origin.host().to_owned())?;
                let stream = self.tls.connect(name, stream).await?;
                converse(TokioIo::new(stream), request).await
            }
        }
    }

    fn jar(&self) -> std::sync::MutexGuard<'_, Vec<(String, String, String)>> {
        self.cookies.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn cookies_for(&self, authority: &str) -> String {
        let jar = self.jar();
        let ours = jar.iter().filter(|(host, _, _)| host == authority);
        ours.map(|(_, name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn keep_cookies(&self, authority: &str, headers: &HeaderMap) {
        let mut jar = self.jar();
        for field in headers.get_all("set-cookie") {
            let Some((pair, _)) = field.to_str().ok().and_then(|text| text.split_once(';')) else {
                continue;
            };
            let Some((name, value)) = pair.split_once('=') else { continue };
            jar.retain(|(host, known, _)| host != authority || known != name);
            if !value.is_empty() {
                jar.push((authority.to_owned(), name.to_owned(), value.to_owned()));
            }
        }
    }
}

async fn converse<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<Answer>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|fault| anyhow!(fault))?;
    Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
}

/// Splits `https://host:port/path?query` into its origin and its target.
fn split(url: &str) -> anyhow::Result<(Address, &str)> {
    let after_scheme = url.find("://").map(|at| at + 3).context("not an absolute address")?;
    let tail = url.get(after_scheme..).unwrap_or_default();
    let path_at = tail.find(['/', '?']).map_or(url.len(), |at| at + after_scheme);
    let (origin, target) = url.split_at(path_at);
    let origin = Address::parse(origin).map_err(|fault| anyhow!("{fault}: `{origin}`"))?;
    Ok((origin, if target.is_empty() { "/" } else { target }))
}
