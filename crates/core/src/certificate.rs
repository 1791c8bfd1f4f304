//! Client certificates (RFC 8705): what one says, and whether it is a client's.
//!
//! That its holder has the private key was proven in the TLS handshake; whether a chain leads to the
//! operator's client CA was found there too, and travels along as [`Chain`]. Nothing here verifies a
//! signature or reads a date.

mod name;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use self::name::Name;
use crate::client::CertificateRule;
use crate::hash::{same, sha256};
use crate::jose::base64url;

pub use self::name::MAX_SUBJECT;

/// Whether a chain leads from the certificate to the operator's client CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// It does, and nothing in it has expired or been revoked.
    Trusted,
    /// It does not, or there is no client CA: good for pinned certificates alone.
    Unproven,
}

/// A certificate that a client showed on this connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    thumbprint: String,
    subject: Name,
    dns: Vec<String>,
    uris: Vec<String>,
    chain: Chain,
}

/// A certificate that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client certificate cannot be read")]
pub struct CertificateMalformed;

/// Largest certificate, in bytes.
pub const MAX_CERTIFICATE: usize = 16 * 1024;

impl ClientCertificate {
    /// Reads DER: one certificate, nothing behind it.
    ///
    /// # Errors
    /// [`CertificateMalformed`], also for alternative names that stand twice or cannot be read: the
    /// TLS library may have read them otherwise.
    pub fn read(der: &[u8], chain: Chain) -> Result<Self, CertificateMalformed> {
        if der.len() > MAX_CERTIFICATE {
            return Err(CertificateMalformed);
        }
        let (rest, read) = X509Certificate::from_der(der).map_err(|_| CertificateMalformed)?;
        if !rest.is_empty() {
            return Err(CertificateMalformed);
        }
        let (mut dns, mut uris) = (Vec::new(), Vec::new());
        // RFC 5280 §4.2: an extension stands once; §4.2.1.6: the alternative names.
        let names = read.subject_alternative_name().map_err(|_| CertificateMalformed)?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::Invalid(..) => return Err(CertificateMalformed),
                GeneralName::OtherName(..)
                | GeneralName::RFC822Name(_)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::IPAddress(_)
                | GeneralName::RegisteredID(_) => {}
            }
        }
        let thumbprint = base64url::encode(&sha256(der));
        Ok(ClientCertificate { thumbprint, subject: Name::of(read.subject()), dns, uris, chain })
    }

    /// `x5t#S256` (RFC 8705 §3.1): SHA-256 of the DER, base64url.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Whether it is the one that a client registered (RFC 8705 §2.1.2, §2.2.2).
    pub fn fits(&self, rule: &CertificateRule) -> bool {
        // RFC 8705 §2.1: a name is worth what the CA that signed it is worth.
        let trusted = match self.chain {
            Chain::Trusted => true,
            Chain::Unproven => false,
        };
        match rule {
            // RFC 8705 §2.1.2 `tls_client_auth_san_dns`; RFC 4343: without case. The whole name: a
            // wildcard in the certificate is a name like any other.
            CertificateRule::Dns(name) => {
                trusted
                    && !name.is_empty()
                    && self.dns.iter().any(|own| own.eq_ignore_ascii_case(name))
            }
            // RFC 8705 §2.1.2 `tls_client_auth_san_uri`; byte for byte.
            CertificateRule::Uri(uri) => {
                trusted && !uri.is_empty() && self.uris.iter().any(|own| own == uri)
            }
            // RFC 8705 §2.1.2 `tls_client_auth_subject_dn`
            CertificateRule::Subject(text) => {
                trusted && Name::parse(text).is_some_and(|name| name == self.subject)
            }
            // RFC 8705 §2.2: the certificate itself is what was registered; no chain is asked for.
            CertificateRule::Pinned(thumbprints) => {
                thumbprints.iter().any(|own| same(own.as_bytes(), self.thumbprint.as_bytes()))
            }
        }
    }
}

/// Whether a rule could ever fit: for the one who reads the operator's file or a registration.
pub fn rule_readable(rule: &CertificateRule) -> bool {
    let plain = |text: &str| {
        (1..=MAX_SUBJECT).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
    };
    match rule {
        CertificateRule::Dns(name) => plain(name),
        CertificateRule::Uri(uri) => plain(uri) && uri.contains(':'),
        CertificateRule::Subject(text) => Name::parse(text).is_some(),
        CertificateRule::Pinned(thumbprints) => {
            // RFC 8705 §3.1: the base64url of a SHA-256.
            let shaped = |text: &String| base64url::decode(text).is_ok_and(|hash| hash.len() == 32);
            !thumbprints.is_empty() && thumbprints.iter().all(shaped)
        }
    }
}

#[cfg(test)]
mod tests;
