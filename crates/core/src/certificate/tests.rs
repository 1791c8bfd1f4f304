//! Certificates made by another hand (OpenSSL), self-signed; read and compared.

use proptest::prelude::*;

use super::*;

/// `CN=ledger,OU=Pay,O=Example\, Inc.,C=DE`; DNS `ledger.pay.example` and `*.batch.example`, URI
/// `spiffe://pay.example/ledger`, e-mail `ops@pay.example`, IP 10.0.0.7, directory `CN=hidden.example`.
const NAMED: &str = "\
    MIICRTCCAeqgAwIBAgITdsh91XSd_e3E6dTETmW3HROaeTAKBggqhkjOPQQDAjBEMQswCQYDVQQGEwJERTEWMBQGA1\
    UECgwNRXhhbXBsZSwgSW5jLjEMMAoGA1UECwwDUGF5MQ8wDQYDVQQDDAZsZWRnZXIwIBcNMjYxMTI1MDIwNjM4WhgP\
    MjEyNjExMDEwMjA2MzhaMEQxCzAJBgNVBAYTAkRFMRYwFAYDVQQKDA1FeGFtcGxlLCBJbmMuMQwwCgYDVQQLDANQYX\
    kxDzANBgNVBAMMBmxlZGdlcjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHR7XtBy6QvRD6BIkvKAXHn7cNZhFRzw\
    igX6j5Y17QmtnCR2uYEi3DkrDFCouUdGxgQhDWocaQAFlb5HSPOuqf2jgbgwgbUwfwYDVR0RBHgwdoISbGVkZ2VyLn\
    BheS5leGFtcGxlgg8qLmJhdGNoLmV4YW1wbGWGG3NwaWZmZTovL3BheS5leGFtcGxlL2xlZGdlcoEPb3BzQHBheS5l\
    eGFtcGxlhwQKAAAHpBswGTEXMBUGA1UEAwwOaGlkZGVuLmV4YW1wbGUwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR\
    0OBBYEFI8PeTMUc3ZqsFEqXuEdxQS3c-I2MAoGCCqGSM49BAMCA0kAMEYCIQDA1g8nqjSYW3lXoW5SmdsURz83Jn71\
    0Oc-pz49JitVEgIhAMMpgU28E9xUy0P0h5HeZwr0dJW2EJFuHqb4qS5-RXkg";
/// `CN=bare\, x \\ \+ é,O=Ex+OU=Pay,C=DE`, no alternative names.
const BARE: &str = "\
    MIIBezCCASECFCl56_j6l27wC9I-6lng2nMWt5upMAoGCCqGSM49BAMCMD8xCzAJBgNVBAYTAkRFMRcwCQYDVQQKDA\
    JFeDAKBgNVBAsMA1BheTEXMBUGA1UEAwwOYmFyZSwgeCBcICsgw6kwIBcNMjYxMTI1MDIwNzMwWhgPMjEyNjExMDEw\
    MjA3MzBaMD8xCzAJBgNVBAYTAkRFMRcwCQYDVQQKDAJFeDAKBgNVBAsMA1BheTEXMBUGA1UEAwwOYmFyZSwgeCBcIC\
    sgw6kwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAR0e17QcukL0Q-gSJLygFx5-3DWYRUc8IoF-o-WNe0JrZwkdrmB\
    Itw5KwxQqLlHRsYEIQ1qHGkABZW-R0jzrqn9MAoGCCqGSM49BAMCA0gAMEUCIQCBhQfIS0v5QupNh5iOL7m61dNKlc\
    FxhzxD73qUlMrkowIgAvq5VvT5ucCKvWjDKILYk1HeOKgKg7lNqL5wjHtbND0";
/// `CN=twice`; DNS `ledger.pay.example`, and an extension 2.5.29.99 that holds DNS `evil.example`.
const TWICE: &str = "\
    MIIBfDCCASOgAwIBAgIUThMcbNGZln2V14uwLXhTUHBohjMwCgYIKoZIzj0EAwIwEDEOMAwGA1UEAwwFdHdpY2UwIB\
    cNMjYxMTI1MDIwNzMxWhgPMjEyNjExMDEwMjA3MzFaMBAxDjAMBgNVBAMMBXR3aWNlMFkwEwYHKoZIzj0CAQYIKoZI\
    zj0DAQcDQgAEdHte0HLpC9EPoEiS8oBceftw1mEVHPCKBfqPljXtCa2cJHa5gSLcOSsMUKi5R0bGBCENahxpAAWVvk\
    dI866p_aNZMFcwHQYDVR0RBBYwFIISbGVkZ2VyLnBheS5leGFtcGxlMBcGA1UdYwQQMA6CDGV2aWwuZXhhbXBsZTAd\
    BgNVHQ4EFgQUjw95MxRzdmqwUSpe4R3FBLdz4jYwCgYIKoZIzj0EAwIDRwAwRAIgf15urhob4gu4M2yrIMEStIPD3M\
    4MMgGgLE3tckXWqMoCIAaV_pWSQdq3YnTNb3iNKyRsC5Jd4FovoucCUarvXk36";
/// `CN=ledger` as BMPString; a DNS name that is no text.
const ODD: &str = "\
    MIIBZDCCAQmgAwIBAgIUNDT2RX3GKF0_NGOfs4HwwkhjJi8wCgYIKoZIzj0EAwIwFzEVMBMGA1UEAx4MAGwAZQBkAG\
    cAZQByMCAXDTI2MTEyNTAyMDYzOFoYDzIxMjYxMTAxMDIwNjM4WjAXMRUwEwYDVQQDHgwAbABlAGQAZwBlAHIwWTAT\
    BgcqhkjOPQIBBggqhkjOPQMBBwNCAAR0e17QcukL0Q-gSJLygFx5-3DWYRUc8IoF-o-WNe0JrZwkdrmBItw5KwxQqL\
    lHRsYEIQ1qHGkABZW-R0jzrqn9ozEwLzAOBgNVHREEBzAFggNh_2IwHQYDVR0OBBYEFI8PeTMUc3ZqsFEqXuEdxQS3\
    c-I2MAoGCCqGSM49BAMCA0kAMEYCIQDwIucJqnld-NI3eBjuBcBjuf85DgHIstBDIuGkF4WTHwIhAMTBS6nCpXBJdD\
    TPwoliIyJ8B1OSrRoHIt9Hg974j885";
/// By `openssl dgst -sha256` of [`NAMED`].
const THUMBPRINT: &str = "V0cbnLmCLY10vY6tRqHD-ft_HMp56uvqLKpnR0YLi4c";

fn der(text: &str) -> Vec<u8> {
    base64url::decode(text).expect("a fixture")
}
fn read(text: &str, chain: Chain) -> ClientCertificate {
    ClientCertificate::read(&der(text), chain).expect("a certificate")
}
fn dns(name: &str) -> CertificateRule {
    CertificateRule::Dns(name.into())
}
fn uri(uri: &str) -> CertificateRule {
    CertificateRule::Uri(uri.into())
}
fn subject(text: &str) -> CertificateRule {
    CertificateRule::Subject(text.into())
}
fn pinned(thumbprints: &[&str]) -> CertificateRule {
    CertificateRule::Pinned(thumbprints.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn the_rule_that_fits() {
    let named = read(NAMED, Chain::Trusted);
    assert_eq!(named.thumbprint(), THUMBPRINT);
    for rule in [
        dns("ledger.pay.example"),
        dns("LEDGER.pay.Example"),
        dns("*.batch.example"),
        uri("spiffe://pay.example/ledger"),
        subject(r"CN=ledger,OU=Pay,O=Example\, Inc.,C=DE"),
        subject(r"cn=ledger, ou=Pay, o=Example\2C Inc., c=DE"),
        subject(r"2.5.4.3=ledger,OU=Pay,O=Example\, Inc.,C=DE"),
        pinned(&[THUMBPRINT]),
        pinned(&["AAAA", THUMBPRINT]),
    ] {
        assert!(named.fits(&rule), "{rule:?}");
        assert!(rule == pinned(&["AAAA", THUMBPRINT]) || rule_readable(&rule), "{rule:?}");
    }
    let bare = read(BARE, Chain::Trusted);
    assert!(bare.fits(&subject(r"CN=bare\, x \\ \+ é,O=Ex+OU=Pay,C=DE")));
    assert!(bare.fits(&subject(r"CN=bare\, x \\ \+ \C3\A9,OU=Pay+O=Ex,C=DE")));
}

#[test]
fn another_name_does_not_fit() {
    let named = read(NAMED, Chain::Trusted);
    for rule in [
        dns(""),
        dns("ledger.pay.example."),
        dns("ledger.pay.exampl"),
        dns("x.ledger.pay.example"),
        dns("pay.example"),
        // A wildcard is a name like any other, on either side.
        dns("a.batch.example"),
        dns("*.pay.example"),
        dns("ledger"),
        dns("hidden.example"),
        dns("ops@pay.example"),
        dns("10.0.0.7"),
        dns("spiffe://pay.example/ledger"),
        uri(""),
        uri("spiffe://pay.example/ledger/"),
        uri("SPIFFE://pay.example/ledger"),
        uri("spiffe://pay.example/Ledger"),
        uri("spiffe://pay.example"),
        uri("ledger.pay.example"),
        subject(""),
        subject("CN=ledger"),
        subject("CN=hidden.example"),
        subject(r"C=DE,O=Example\, Inc.,OU=Pay,CN=ledger"),
        subject(r"CN=Ledger,OU=Pay,O=Example\, Inc.,C=DE"),
        subject("CN=ledger,OU=Pay,O=Example, Inc.,C=DE"),
        subject(r"CN=ledger+OU=Pay,O=Example\, Inc.,C=DE"),
        pinned(&[]),
        pinned(&[""]),
        pinned(&[&THUMBPRINT[..42]]),
        pinned(&[&THUMBPRINT.to_lowercase()]),
        pinned(&["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]),
    ] {
        assert!(!named.fits(&rule), "{rule:?}");
    }
    let bare = read(BARE, Chain::Trusted);
    // RFC 6125 §6.4.4's fallback to the common name is not ours.
    assert!(!bare.fits(&dns("bare")) && !bare.fits(&uri("bare")) && !bare.fits(&dns("")));
}

#[test]
fn without_a_chain_only_a_pinned_certificate_fits() {
    let named = read(NAMED, Chain::Unproven);
    for rule in [
        dns("ledger.pay.example"),
        uri("spiffe://pay.example/ledger"),
        subject(r"CN=ledger,OU=Pay,O=Example\, Inc.,C=DE"),
    ] {
        assert!(!named.fits(&rule), "{rule:?}");
    }
    assert!(named.fits(&pinned(&[THUMBPRINT])));
}

#[test]
fn certificate_malformed() {
    let good = der(NAMED);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{NAMED}\n-----END CERTIFICATE-----\n");
    let behind = [&good[..], &[0]].concat();
    let two = [&good[..], &good].concat();
    let long = [&good[..], &[0; MAX_CERTIFICATE]].concat();
    for bad in [&b""[..], b"\x30", b"\x30\x80", pem.as_bytes(), &behind, &two, &long] {
        assert_eq!(ClientCertificate::read(bad, Chain::Trusted), Err(CertificateMalformed));
    }
    for cut in 0..good.len() {
        assert!(ClientCertificate::read(&good[..cut], Chain::Trusted).is_err(), "{cut} bytes");
    }
    // A DNS name that is no text: another reader might see one.
    assert!(ClientCertificate::read(&der(ODD), Chain::Trusted).is_err());
}

#[test]
fn alternative_names_that_stand_twice_are_refused() {
    let mut twice = der(TWICE);
    assert!(ClientCertificate::read(&twice, Chain::Trusted).is_ok());
    // 2.5.29.99 becomes 2.5.29.17: nobody checks the signature here.
    let at = twice.windows(5).position(|bytes| bytes == b"\x06\x03\x55\x1d\x63").expect("its id");
    twice[at + 4] = 0x11;
    assert_eq!(ClientCertificate::read(&twice, Chain::Trusted), Err(CertificateMalformed));
}

#[test]
fn a_name_of_another_string_type_is_compared_by_its_der() {
    let mut odd = der(ODD);
    // The name that is no text becomes one.
    let at = odd.windows(3).position(|bytes| bytes == b"a\xffb").expect("its name");
    odd[at + 1] = b'.';
    let odd = ClientCertificate::read(&odd, Chain::Trusted).expect("a certificate");
    assert!(odd.fits(&dns("a.b")));
    assert!(odd.fits(&subject("CN=#1E0C006C00650064006700650072")));
    assert!(!odd.fits(&subject("CN=ledger")));
}

#[test]
fn rules_that_never_fit_are_told() {
    for rule in [
        dns(""),
        dns("a b"),
        dns(&"x".repeat(MAX_SUBJECT + 1)),
        uri("no colon"),
        uri("nocolon"),
        subject("ledger"),
        subject(""),
        pinned(&[]),
        pinned(&["AAAA"]),
        pinned(&[&format!("{THUMBPRINT}=")]),
    ] {
        assert!(!rule_readable(&rule), "{rule:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = ClientCertificate::read(&bytes, Chain::Trusted);
    }
    #[test]
    fn no_damaged_certificate_panics_or_keeps_its_thumbprint(
        which in 0usize..4,
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let whole = der([NAMED, BARE, TWICE, ODD][which]);
        let mut damaged = whole.clone();
        for (at, to) in changes {
            let at = at % damaged.len();
            damaged[at] = to;
        }
        if let Ok(read) = ClientCertificate::read(&damaged, Chain::Unproven) {
            let same = read.thumbprint() == base64url::encode(&sha256(&whole));
            prop_assert_eq!(same, damaged == whole);
            prop_assert!(!read.fits(&dns("ledger.pay.example")));
        }
    }
}
