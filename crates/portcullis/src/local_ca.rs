//! The local certificate authority of a laptop and of the demo: `tls = "local"`.
//!
//! Made once in the data directory (`ca.pem`, and `ca-key.pem` with mode 0600); certificates for the
//! config's domains are made anew at each start and live in memory alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use portcullis_core::secret::Secret;
use portcullis_gateway::tls::Certified;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use crate::files;

/// Longest private key that is read, in bytes.
const KEY_MAX: u64 = 16 * 1024;

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
    let pair = match (key.exists(), certificate.exists()) {
        (true, true) => return Ok((std::fs::read_to_string(&certificate)?, read_key(&key)?)),
        // Killed between the two writes: nobody can trust a certificate yet that was never there.
        (true, false) => read_key(&key)?,
        (false, false) => {
            let pair = KeyPair::generate()?;
            files::write_secret(&key, pair.serialize_pem().as_bytes())?;
            pair
        }
        // A new key under the old certificate would sign what no browser believes.
        (false, true) => bail!(
            "`{}` has lost its key `{}`: restore the key, or remove the certificate and trust the \
             new one",
            certificate.display(),
            key.display()
        ),
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Portcullis local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&pair)?.pem();
    files::write_public(&certificate, pem.as_bytes())?;
    Ok((pem, pair))
}

fn read_key(path: &Path) -> anyhow::Result<KeyPair> {
    let pem = files::read_secret(path, KEY_MAX)?;
    let damaged = || format!("{} is damaged", path.display());
    let pem = std::str::from_utf8(pem.expose()).with_context(damaged)?;
    KeyPair::from_pem(pem).with_context(damaged)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names() -> Vec<String> {
        vec!["localhost".to_owned()]
    }

    /// The CA's part of a chain.
    fn ca_of(data: &Path) -> String {
        let chain = certify(data, &names()).expect("certified").chain_pem;
        let chain = String::from_utf8(chain).expect("PEM");
        let (_, ca) = chain.split_once("-----END CERTIFICATE-----\n").expect("two");
        ca.to_owned()
    }

    #[test]
    fn the_authority_is_made_once_and_its_key_is_its_owners_alone() {
        let data = tempfile::tempdir().expect("a folder");
        let made = ca_of(data.path());
        assert_eq!(ca_of(data.path()), made);
        let key = std::fs::metadata(data.path().join("ca-key.pem")).expect("there");
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn killed_between_key_and_certificate_it_goes_on_with_the_key() {
        let data = tempfile::tempdir().expect("a folder");
        ca_of(data.path());
        let key = std::fs::read(data.path().join("ca-key.pem")).expect("there");
        std::fs::remove_file(certificate_path(data.path())).expect("gone");
        ca_of(data.path());
        assert_eq!(std::fs::read(data.path().join("ca-key.pem")).expect("there"), key);
    }

    #[test]
    fn a_certificate_without_its_key_is_refused_with_a_remedy() {
        let data = tempfile::tempdir().expect("a folder");
        ca_of(data.path());
        std::fs::remove_file(data.path().join("ca-key.pem")).expect("gone");
        for _ in 0..2 {
            let fault = certify(data.path(), &names()).err().expect("refused").to_string();
            assert!(fault.contains("has lost its key"), "{fault}");
        }
    }
}
