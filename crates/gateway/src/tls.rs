//! TLS 1.3, and 1.2 with ECDHE-AEAD only; X25519MLKEM768 first; unknown SNI refused; no 0-RTT.
//!
//! Builds configurations and swaps certificates; opens no socket and reads no file. What clients show
//! of themselves is [`clients`]'s.

pub mod clients;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use portcullis_core::secret::Secret;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A certificate chain with its key for some names.
pub struct Certified {
    /// DNS names, lower case.
    pub names: Vec<String>,
    /// PEM chain.
    pub chain_pem: Vec<u8>,
    /// PEM private key.
    pub key_pem: Secret<Vec<u8>>,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsFault(pub String);

/// The certificates in force, by name; what a reload replaces while connections go on.
#[derive(Clone)]
pub struct Certificates(Arc<Resolver>);

struct Resolver(ArcSwap<HashMap<Box<str>, Arc<CertifiedKey>>>);

impl Certificates {
    /// Puts other certificates in force for handshakes from now on.
    ///
    /// # Errors
    /// When a chain or key cannot be read or they do not belong together; then nothing changes.
    pub fn replace(&self, certified: Vec<Certified>) -> Result<(), TlsFault> {
        self.put(Sound::judge(certified)?);
        Ok(())
    }

    /// Puts certificates in force that were judged before: this cannot fail, so that a reload can
    /// judge everything first and then swap everything.
    pub fn put(&self, sound: Sound) {
        self.0.0.store(Arc::new(sound.0));
    }
}

/// Certificates that were read, and belong to their keys.
pub struct Sound(HashMap<Box<str>, Arc<CertifiedKey>>);

impl Sound {
    /// Reads them.
    ///
    /// # Errors
    /// When a chain or key cannot be read or they do not belong together.
    pub fn judge(certified: Vec<Certified>) -> Result<Self, TlsFault> {
        by_name(certified).map(Sound)
    }
}

impl ResolvesServerCert for Resolver {
    /// Exactly the name asked, in lower case. Without a name, or with an unknown one, there is no
    /// certificate, and rustls ends the handshake with an alert: a default certificate would tell
    /// scanners of addresses which names live here.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 6066 §3: host names are compared without case
        let name = hello.server_name()?;
        let certificates = self.0.load();
        match certificates.get(name) {
            Some(key) => Some(Arc::clone(key)),
            None => certificates.get(name.to_ascii_lowercase().as_str()).cloned(),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.load().keys()).finish()
    }
}

/// How the two kinds of host greet. Their tickets have keys of their own, so that a session begun at
/// one kind is never resumed at the other.
#[derive(Clone)]
pub struct Handshakes {
    /// Asks for no client certificate: every host but those of [`Handshakes::asking`], so that no
    /// browser opens its dialogue.
    pub(crate) quiet: Arc<ServerConfig>,
    /// Asks for one, and goes on without.
    pub(crate) asking: Arc<ServerConfig>,
}

/// The server configurations, and the handle by which their certificates can be swapped later.
///
/// # Errors
/// When a chain or key cannot be read or they do not belong together.
pub fn server_config(certified: Vec<Certified>) -> Result<(Handshakes, Certificates), TlsFault> {
    let resolver = Arc::new(Resolver(ArcSwap::from_pointee(by_name(certified)?)));
    let quiet = configure(&resolver, Arc::new(rustls::server::NoClientAuth))?;
    let asking = configure(&resolver, clients::Offered::verifier())?;
    Ok((Handshakes { quiet, asking }, Certificates(resolver)))
}

fn configure(
    resolver: &Arc<Resolver>,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, TlsFault> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsFault(format!("no TLS version is available: {error}")))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::clone(resolver) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // One ticket: a client rarely opens two connections at once, and each costs a kilobyte and an
    // encryption.
    config.send_tls13_tickets = 1;
    config.ticketer = aws_lc_rs::Ticketer::new()
        .map_err(|error| TlsFault(format!("no key for session tickets: {error}")))?;
    // RFC 8446 §8: early data can be replayed, so none is taken
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// A client configuration for `https` upstreams: system roots, or the CA file given as PEM.
///
/// # Errors
/// When there is no root to trust.
pub fn client_config(ca_pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, TlsFault> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| {
                    TlsFault(format!(
                        "the CA file is not PEM: {error}; give `BEGIN CERTIFICATE` blocks"
                    ))
                })?;
                roots.add(certificate).map_err(|error| {
                    TlsFault(format!("a certificate of the CA file cannot be a root: {error}"))
                })?;
            }
        }
        None => {
            // Some system stores hold a certificate that does not parse; the others count.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(TlsFault(
            "there is no certificate authority to trust; give the upstream's CA as a PEM file"
                .into(),
        ));
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsFault(format!("no TLS version is available: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The one provider, with the post-quantum key exchange first. Its suites for TLS 1.2 are ECDHE with
/// an AEAD only (RFC 9325 §4.2).
fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    let kx_groups = vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

fn by_name(certified: Vec<Certified>) -> Result<HashMap<Box<str>, Arc<CertifiedKey>>, TlsFault> {
    let mut named = HashMap::new();
    for one in certified {
        let key = Arc::new(certified_key(&one)?);
        for name in one.names {
            named.insert(name.to_ascii_lowercase().into_boxed_str(), Arc::clone(&key));
        }
    }
    Ok(named)
}

fn certified_key(certified: &Certified) -> Result<CertifiedKey, TlsFault> {
    let names = certified.names.join(", ");
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&certified.chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsFault(format!("the certificate for `{names}` is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(TlsFault(format!(
            "the certificate file for `{names}` holds no certificate; give the chain, leaf first"
        )));
    }
    let key = PrivateKeyDer::from_pem_slice(certified.key_pem.expose())
        .map_err(|error| TlsFault(format!("the key for `{names}` is not PEM: {error}")))?;
    // INVARIANT: a key that is not the leaf's is found here, at load, not at each handshake.
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
        TlsFault(format!("certificate and key for `{names}` do not belong together: {error}"))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A throw-away CA's certificate for `localhost`, valid to 2126; made once with OpenSSL for these
    /// tests, as this crate has no certificate maker.
    pub(crate) const CHAIN: &str = include_str!("tls/localhost.pem");
    /// Its key.
    pub(crate) const KEY: &str = include_str!("tls/localhost.key");

    /// The CA of the tests' clients, a client of it, and that client's key.
    pub(crate) const CLIENT_CA: &str = include_str!("tls/client-ca.pem");
    pub(crate) const LEDGER: (&str, &str) =
        (include_str!("tls/client-ledger.pem"), include_str!("tls/client-ledger.key"));

    /// What a client shows: a certificate and the key that it signs with, its own or not.
    pub(crate) fn signer(chain: &str, key: &str) -> Arc<dyn rustls::client::ResolvesClientCert> {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let key = provider().key_provider.load_private_key(key).unwrap();
        Arc::new(rustls::sign::SingleCertAndKey::from(CertifiedKey::new(chain, key)))
    }

    pub(crate) fn certified(names: &[&str]) -> Certified {
        Certified {
            names: names.iter().map(ToString::to_string).collect(),
            chain_pem: CHAIN.into(),
            key_pem: Secret::new(KEY.into()),
        }
    }

    /// Runs a handshake in memory: the protocol agreed, or the fault of the server.
    fn handshake(config: &Arc<ServerConfig>, name: &'static str) -> Result<String, String> {
        let client_config = client_config(Some(CHAIN.as_bytes())).unwrap();
        let mut server = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
        let mut client =
            rustls::ClientConnection::new(client_config, name.try_into().unwrap()).unwrap();
        let mut wire = Vec::new();
        for _ in 0..8 {
            wire.clear();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets().map_err(|error| format!("server: {error}"))?;
            }
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets().map_err(|error| format!("client: {error}"))?;
            }
        }
        let group = server.negotiated_key_exchange_group().map(|group| group.name());
        let version = server.protocol_version();
        Ok(format!("{version:?} {group:?}"))
    }

    #[test]
    fn the_first_group_is_post_quantum() {
        let (config, _) = server_config(vec![certified(&["localhost"])]).unwrap();
        for config in [config.quiet, config.asking] {
            let agreed = handshake(&config, "localhost").unwrap();
            assert_eq!(agreed, "Some(TLSv1_3) Some(X25519MLKEM768)");
            assert_eq!(config.max_early_data_size, 0);
            assert_eq!(config.send_tls13_tickets, 1);
        }
    }

    #[test]
    fn an_unknown_or_missing_name_is_refused() {
        let (config, _) = server_config(vec![certified(&["localhost"])]).unwrap();
        for name in ["other.example", "localhost.example", "127.0.0.1"] {
            assert!(handshake(&config.quiet, name).unwrap_err().starts_with("server: "), "{name}");
        }
    }

    #[test]
    fn certificates_are_swapped_under_a_running_configuration() {
        let (config, certificates) = server_config(vec![certified(&["other.example"])]).unwrap();
        assert!(handshake(&config.quiet, "localhost").is_err());
        certificates.replace(vec![certified(&["LOCALHOST"])]).unwrap();
        assert!(handshake(&config.quiet, "localhost").is_ok());
        let mut broken = certified(&["localhost"]);
        broken.chain_pem = b"nothing".to_vec();
        assert!(certificates.replace(vec![broken]).is_err());
        assert!(
            handshake(&config.quiet, "localhost").is_ok(),
            "a bad certificate must change nothing"
        );
    }

    #[test]
    fn suites_of_tls_1_2_are_ecdhe_with_an_aead() {
        for suite in &provider().cipher_suites {
            let name = format!("{:?}", suite.suite());
            let modern = name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_");
            assert!(modern && !name.contains("CBC"), "{name}");
        }
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        assert!(client_config(Some(b"")).is_err());
    }
}
