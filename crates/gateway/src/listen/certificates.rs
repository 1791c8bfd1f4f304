//! Client certificates over real sockets: asked for by host, kept by a resumed session, judged by the
//! CA of now.

use portcullis_core::certificate::ClientCertificate;
use portcullis_core::client::CertificateRule;
use rustls::HandshakeKind;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tests::{CAPS, listening, port};
use super::*;
use crate::tls;
use crate::tls::clients::ClientCa;
use crate::tls::tests::{CHAIN, CLIENT_CA, LEDGER, signer};
use crate::trial::{self, Trial};

/// A client that shows what its resolver has, and keeps its sessions.
fn client(resolver: Option<Arc<dyn ResolvesClientCert>>) -> Arc<rustls::ClientConfig> {
    let mut config = (*tls::client_config(Some(CHAIN.as_bytes())).unwrap()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if let Some(resolver) = resolver {
        config.client_auth_cert_resolver = resolver;
    }
    Arc::new(config)
}

type Spoken = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect(
    running: &Running,
    name: &'static str,
    config: &Arc<rustls::ClientConfig>,
) -> io::Result<Spoken> {
    let stream = TcpStream::connect(port(&running.tls)).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    connector.connect(ServerName::try_from(name).unwrap(), stream).await
}

/// What the login page is told of the certificate.
async fn told(trial: &Trial, stream: &mut Spoken) -> Option<Arc<ClientCertificate>> {
    let request = "GET /login HTTP/1.1\r\nHost: login.example\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = [0; 4096];
    let length = stream.read(&mut said).await.unwrap();
    assert!(said[..length].starts_with(b"HTTP/1.1 200"), "{:?}", trial.records.last());
    trial.house.seen.lock().unwrap().pop().unwrap().certificate
}

fn ledger() -> CertificateRule {
    CertificateRule::Uri("spiffe://pay.example/ledger".into())
}

fn with_ca(trial: &Trial) {
    trial.reload(|next| {
        next.certificate_hosts = vec!["login.example".into()];
        next.client_ca = Some(Arc::new(ClientCa::read(CLIENT_CA.as_bytes()).unwrap()));
    });
}

#[test]
fn a_certificate_is_asked_for_on_its_hosts_and_demanded_nowhere() {
    trial::run(async |setup| {
        let (trial, running) = listening(setup, CAPS).await;
        let showing = client(Some(signer(LEDGER.0, LEDGER.1)));
        // No host asks: nothing is shown, whatever the client has.
        let mut stream = connect(&running, "login.example", &showing).await.unwrap();
        assert_eq!(told(&trial, &mut stream).await, None);
        with_ca(&trial);
        let showing = client(Some(signer(LEDGER.0, LEDGER.1)));
        let mut stream = connect(&running, "login.example", &showing).await.unwrap();
        let certificate = told(&trial, &mut stream).await.expect("it was shown");
        assert!(certificate.fits(&ledger()));
        let mut stream = connect(&running, "login.example", &client(None)).await.unwrap();
        assert_eq!(told(&trial, &mut stream).await, None);
        // Another host of the same listener does not ask: no browser there opens a dialogue.
        let mut quiet = connect(&running, "api.example", &showing).await.unwrap();
        let asked = "GET /v1/rates HTTP/1.1\r\nHost: api.example\r\n\r\n";
        quiet.write_all(asked.as_bytes()).await.unwrap();
        assert_ne!(quiet.read(&mut [0; 64]).await.unwrap(), 0);
    });
}

/// RFC 9110 §7.4: a connection that was asked for a certificate carries no request for a host that
/// asks for none, and one that was not asked carries none for a host that asks (RFC 8705 §6.3).
#[test]
fn a_connection_carries_no_request_for_a_host_of_the_other_kind() {
    trial::run(async |setup| {
        let (trial, running) = listening(setup, CAPS).await;
        with_ca(&trial);
        let showing = client(Some(signer(LEDGER.0, LEDGER.1)));
        for (name, host) in [("login.example", "api.example"), ("api.example", "login.example")] {
            let mut stream = connect(&running, name, &showing).await.unwrap();
            for path in ["/login", "/v1/rates"] {
                let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut said = [0; 4096];
                let length = stream.read(&mut said).await.unwrap();
                assert!(said[..length].starts_with(b"HTTP/1.1 421"), "{name} {host}{path}");
                if said[..length].windows(17).any(|w| w == b"connection: close") {
                    stream = connect(&running, name, &showing).await.unwrap();
                }
            }
        }
        assert!(trial.house.seen.lock().unwrap().is_empty());
    });
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    trial::run(async |setup| {
        let (trial, running) = listening(setup, CAPS).await;
        with_ca(&trial);
        let stolen = client(Some(signer(LEDGER.0, include_str!("../tls/client-stranger.key"))));
        // TLS 1.3 tells the client only when it reads (RFC 8446 §4.4.3, `decrypt_error`).
        let refused = match connect(&running, "login.example", &stolen).await {
            Err(_) => true,
            Ok(mut stream) => stream.read(&mut [0; 16]).await.is_err(),
        };
        assert!(refused);
        assert!(trial.house.seen.lock().unwrap().is_empty());
    });
}

#[test]
fn a_chain_is_judged_by_the_ca_of_now() {
    trial::run(async |setup| {
        let (trial, running) = listening(setup, CAPS).await;
        with_ca(&trial);
        let showing = client(Some(signer(LEDGER.0, LEDGER.1)));
        let mut stream = connect(&running, "login.example", &showing).await.unwrap();
        let first = told(&trial, &mut stream).await.unwrap();
        assert!(first.fits(&ledger()));
        // The connection outlives its CA.
        trial.reload(|next| next.client_ca = None);
        let second = told(&trial, &mut stream).await.unwrap();
        assert!(!second.fits(&ledger()));
        assert_eq!(second.thumbprint(), first.thumbprint(), "it is still the same certificate");
        with_ca(&trial);
        assert!(told(&trial, &mut stream).await.unwrap().fits(&ledger()));
    });
}

#[test]
fn a_resumed_session_keeps_its_certificate_and_is_judged_anew() {
    trial::run(async |setup| {
        let (trial, running) = listening(setup, CAPS).await;
        with_ca(&trial);
        let showing = client(Some(signer(LEDGER.0, LEDGER.1)));
        let mut stream = connect(&running, "login.example", &showing).await.unwrap();
        let first = told(&trial, &mut stream).await.unwrap();
        drop(stream);
        trial.reload(|next| next.client_ca = None);
        let mut stream = connect(&running, "login.example", &showing).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        let resumed = told(&trial, &mut stream).await.expect("a ticket does not lose it");
        assert_eq!(resumed.thumbprint(), first.thumbprint());
        assert!(!resumed.fits(&ledger()), "nor does it keep the CA of then");
        // A session that showed nothing never comes by a certificate, and a quiet host's session is
        // none at an asking one.
        let anonymous = client(None);
        for _ in 0..2 {
            let mut stream = connect(&running, "login.example", &anonymous).await.unwrap();
            assert_eq!(told(&trial, &mut stream).await, None);
        }
        trial.reload(|next| next.certificate_hosts = vec!["api.example".into()]);
        let mut stream = connect(&running, "login.example", &showing).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(told(&trial, &mut stream).await, None, "the host asks no more");
    });
}
