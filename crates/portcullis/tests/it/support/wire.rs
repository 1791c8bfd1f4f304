//! A client for bytes: it sends what it is told, however malformed, and reads one answer strictly.
//! It repairs nothing, follows nothing and keeps no cookies; `browser` does.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::PATIENCE;

/// Longest answer that is read.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A connection.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Trusts one CA.
pub(crate) fn trust(ca_pem: &[u8], alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        roots.add(certificate.expect("a PEM certificate")).expect("a CA");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// Trusts one CA, and shows a certificate to whoever asks.
pub(crate) fn trust_as(ca_pem: &[u8], certificate: &[u8], key: &[u8]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&trust(ca_pem, &[]));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let chain = CertificateDer::pem_slice_iter(certificate).map(|one| one.expect("PEM"));
    let key = PrivateKeyDer::from_pem_slice(key).expect("a PEM key");
    let certified = CertifiedKey::from_der(chain.collect(), key, &provider).expect("a pair");
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    // A resumed session would show the certificate of another.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

impl Wire {
    /// In clear.
    pub(crate) fn plain(port: u16) -> io::Result<Wire> {
        Ok(Wire { stream: Box::new(connect(port)?), unread: Vec::new() })
    }

    /// Over TLS, asking for a name.
    pub(crate) fn tls(port: u16, name: &str, trust: Arc<ClientConfig>) -> io::Result<Wire> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(trust, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, connect(port)?);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Wire { stream: Box::new(stream), unread: Vec::new() })
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// The next final answer; `None` when the connection ends before its head is complete.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        self.next(Body::Framed)
    }

    /// The next final answer to a `HEAD`, which has no body.
    pub(crate) fn answer_to_head(&mut self) -> Option<Answer> {
        self.next(Body::Absent)
    }

    fn next(&mut self, body: Body) -> Option<Answer> {
        loop {
            let mut answer = self.head()?;
            // RFC 9110 §15.2: interim answers come before the one that counts.
            if (100..200).contains(&answer.status) {
                continue;
            }
            if body == Body::Framed && !matches!(answer.status, 204 | 304) {
                answer.body = self.body(&answer)?;
            }
            return Some(answer);
        }
    }

    /// Reads a head.
    pub(crate) fn head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at;
            }
            if self.more() == 0 {
                return None;
            }
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let text = String::from_utf8_lossy(&head[..end]).into_owned();
        let mut lines = text.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields =
            fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Some(Answer { status, fields: fields.collect(), body: Vec::new() })
    }

    fn body(&mut self, answer: &Answer) -> Option<Vec<u8>> {
        if answer.field("transfer-encoding") == "chunked" {
            return self.chunks();
        }
        match answer.field("content-length").parse() {
            Ok(length) => self.take(length),
            Err(_) => {
                while self.more() > 0 {}
                Some(std::mem::take(&mut self.unread))
            }
        }
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match find(&self.unread, b"\r\n") {
                    Some(at) => break at,
                    None if self.more() == 0 => return None,
                    None => {}
                }
            };
            let line = String::from_utf8_lossy(&self.take(end + 2)?).into_owned();
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let chunk = self.take(size + 2)?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Some(body);
            }
        }
    }

    /// Exactly so many bytes.
    pub(crate) fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unread.len() < length {
            if self.more() == 0 || self.unread.len() > ANSWER_MAX {
                return None;
            }
        }
        Some(self.unread.drain(..length).collect())
    }

    /// Whether the other side has closed, without a further byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && self.more() == 0
    }

    /// Reads on; nothing at the end, or when nothing comes in time.
    fn more(&mut self) -> usize {
        let mut buffer = [0; 32 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(length) => {
                self.unread.extend_from_slice(&buffer[..length]);
                length
            }
            // A connection that was reset has ended too.
            Err(_) => 0,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Framed,
    Absent,
}

impl Answer {
    /// A field's value; the first where it stands several times.
    pub(crate) fn field(&self, name: &str) -> &str {
        let mut found = self.fields.iter().filter(|(known, _)| known == name);
        found.next().map_or("", |(_, value)| value)
    }

    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let found = self.fields.iter().filter(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The code of a problem document.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Where a text begins in bytes.
pub(crate) fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}
