//! Client certificates (RFC 8705): asked for on some hosts, demanded on none, judged afterwards.
//!
//! In the handshake only the possession of the key is proven: a self-signed certificate is as good
//! there as any (RFC 8705 §2.2). Whether a chain leads to the operator's client CA is judged by
//! [`ClientCa::judge`] when the connection is there, by the CA of that moment. No CRL is read yet: who
//! is to be shut out leaves the CA, or the client's registration.

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::certificate::{Chain, ClientCertificate, MAX_CERTIFICATE};
use portcullis_core::time::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::{TlsFault, provider};

/// Most certificates of a chain, the leaf among them.
const MAX_CHAIN: usize = 8;

/// The certificate authorities of clients.
pub struct ClientCa(Arc<dyn ClientCertVerifier>);

impl ClientCa {
    /// Reads them from PEM.
    ///
    /// # Errors
    /// When the text is not PEM, or holds no certificate that can be a root.
    pub fn read(pem: &[u8]) -> Result<Self, TlsFault> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| {
                TlsFault(format!(
                    "the client CA is not PEM: {error}; give `BEGIN CERTIFICATE` blocks"
                ))
            })?;
            roots.add(certificate).map_err(|error| {
                TlsFault(format!("a certificate of the client CA cannot be a root: {error}"))
            })?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = verifier.build().map_err(|error| {
            TlsFault(format!("the client CA holds no certificate that can be used: {error}"))
        })?;
        Ok(ClientCa(verifier))
    }

    /// Whether the chain leads here now (RFC 5280 §6): signatures, times, constraints, and the leaf is
    /// for client authentication (§4.2.1.12).
    pub fn judge(&self, shown: &[CertificateDer<'_>], now: Timestamp) -> Chain {
        let now = Duration::from_secs(u64::try_from(now.unix()).unwrap_or(0));
        let judged = shown.split_first().is_some_and(|(leaf, rest)| {
            self.0.verify_client_cert(leaf, rest, UnixTime::since_unix_epoch(now)).is_ok()
        });
        if judged { Chain::Trusted } else { Chain::Unproven }
    }
}

/// What a connection showed, as far as it can be read.
pub(crate) fn read(
    shown: &[CertificateDer<'_>],
    ca: Option<&ClientCa>,
    now: Timestamp,
) -> Option<Arc<ClientCertificate>> {
    let leaf = shown.first()?;
    let chain = ca.map_or(Chain::Unproven, |ca| ca.judge(shown, now));
    match ClientCertificate::read(leaf, chain) {
        Ok(certificate) => Some(Arc::new(certificate)),
        Err(error) => {
            tracing::debug!(%error, "a client certificate is left out");
            None
        }
    }
}

/// Asks for a certificate, and takes any whose key the client has.
#[derive(Debug)]
pub(super) struct Offered(Arc<CryptoProvider>);

impl Offered {
    pub(super) fn verifier() -> Arc<dyn ClientCertVerifier> {
        Arc::new(Offered(provider()))
    }
}

impl ClientCertVerifier for Offered {
    fn client_auth_mandatory(&self) -> bool {
        // Most callers of such a host have none, and are told so by the operation, in words.
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // None: self-signed certificates are welcome too (RFC 8446 §4.2.4 makes hints optional).
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let fits = leaf.len() <= MAX_CERTIFICATE && intermediates.len() < MAX_CHAIN;
        match fits {
            true => Ok(ClientCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        }
    }

    // RFC 8446 §4.4.3: the client has the key of the certificate that it shows.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::{CHAIN, CLIENT_CA, LEDGER};

    fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
    }

    #[test]
    fn a_chain_leads_to_the_ca_or_does_not() {
        let ca = ClientCa::read(CLIENT_CA.as_bytes()).unwrap();
        let (now, later) =
            (Timestamp::from_unix(1_795_600_000), Timestamp::from_unix(1_800_000_000));
        let brief = include_str!("client-brief.pem");
        let server = include_str!("client-stranger.pem");
        for (what, pem, at, expected) in [
            ("a client of the CA", LEDGER.0, later, Chain::Trusted),
            ("not yet valid", LEDGER.0, Timestamp::from_unix(1_700_000_000), Chain::Unproven),
            ("still valid", brief, now, Chain::Trusted),
            ("expired", brief, later, Chain::Unproven),
            ("for servers (RFC 5280 §4.2.1.12)", server, later, Chain::Unproven),
            ("of another CA", CHAIN, later, Chain::Unproven),
            ("nothing", "", later, Chain::Unproven),
        ] {
            assert_eq!(ca.judge(&chain(pem), at), expected, "{what}");
        }
        let shown = chain(LEDGER.0);
        assert!(read(&shown, None, now).is_some_and(|one| !one.thumbprint().is_empty()));
        assert!(read(&[], Some(&ca), now).is_none());
        assert!(read(&[CertificateDer::from(vec![0x30, 0])], Some(&ca), now).is_none());
    }

    #[test]
    fn a_ca_that_cannot_be_read_is_refused() {
        for pem in
            [&b""[..], b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
        {
            assert!(ClientCa::read(pem).is_err());
        }
    }

    #[test]
    fn what_is_too_large_ends_the_handshake() {
        let offered = Offered(provider());
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let leaf = |bytes| CertificateDer::from(vec![0; bytes]);
        let judge = |leaf: &CertificateDer<'_>, more: usize| {
            let rest = vec![CertificateDer::from(vec![0; 8]); more];
            offered.verify_client_cert(leaf, &rest, now).is_ok()
        };
        assert!(judge(&leaf(MAX_CERTIFICATE), MAX_CHAIN - 1));
        assert!(!judge(&leaf(MAX_CERTIFICATE + 1), 0));
        assert!(!judge(&leaf(8), MAX_CHAIN));
        assert!(!offered.client_auth_mandatory() && offered.offer_client_auth());
    }
}
