//! The local certificate authority of a laptop and of the demo: `tls = "local"`.
//!
//! Made once in the data directory (`ca.pem`, and `ca-key.pem` with mode 0600); certificates for the
//! config's domains are made anew at each start and live in memory alone.

use std::path::{Path, PathBuf};

use anyhow::Context;
use portcullis_core::secret::Secret;
use portcullis_gateway::tls::Certified;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use crate::files;

/// Where the CA's certificate stands, for `curl --cacert`.
pub(crate) fn certificate_path(data: &Path) -> PathBuf {
    data.join("ca.pem")
}

/// Certifies names with the data directory's CA, which is made when it is not there.
///
/// # Errors
/// When the directory cannot be written, or holds a damaged CA.
pub(crate) fn certify(data: &Path, names: &[String]) -> anyhow::Result<Certified> {
    let (ca_pem, ca_key) = authority(data)?;
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key)
        .with_context(|| format!("{} is damaged: remove it and its key", data.display()))?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = named(names.first().map_or("portcullis", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(&key, &issuer)?;
    Ok(Certified {
        names: names.to_vec(),
        chain_pem: format!("{}{ca_pem}", leaf.pem()).into_bytes(),
        key_pem: Secret::new(key.serialize_pem().into_bytes()),
    })
}

fn authority(data: &Path) -> anyhow::Result<(String, KeyPair)> {
    let (certificate, key) = (certificate_path(data), data.join("ca-key.pem"));
    if certificate.exists() && key.exists() {
        let pem = std::fs::read_to_string(&certificate)?;
        let key = KeyPair::from_pem(&std::fs::read_to_string(&key)?)
            .with_context(|| format!("{} is damaged", key.display()))?;
        return Ok((pem, key));
    }
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Portcullis local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&pair)?.pem();
    files::write_secret(&key, pair.serialize_pem().as_bytes())?;
    files::write_public(&certificate, pem.as_bytes())?;
    Ok((pem, pair))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
