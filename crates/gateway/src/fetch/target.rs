//! Where a fetch may go: the address as text, before anything is looked up, and the socket address,
//! just before (and again after) it is connected.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use portcullis_core::fetch::{FetchFault, NamedBy};
use portcullis_core::web::{Address, Scheme};

use super::ranges;

/// Longest address that is fetched, in bytes: longer ones are nobody's.
const MAX_URL: usize = 2048;
/// Most of an address that a message repeats.
const MAX_SHOWN: usize = 128;
/// The port that a stranger may send us to.
const HTTPS_PORT: u16 = 443;

/// An address that may be looked up.
#[derive(Debug)]
pub(crate) struct Target {
    /// Scheme, host and port.
    pub(crate) address: Address,
    /// Path and query, as they were written.
    pub(crate) path: String,
    named_by: NamedBy,
}

impl Target {
    /// Reads an absolute address.
    ///
    /// # Errors
    /// [`FetchFault::AddressUnfit`]: not `https` (or `http` to loopback, of the config), user info,
    /// a fragment, or a host that has a second reading as an IP address.
    pub(crate) fn read(url: &str, named_by: NamedBy) -> Result<Self, FetchFault> {
        let unfit = || FetchFault::AddressUnfit(shown(url));
        // RFC 9110 §4.2.4: a fragment is the client's own affair; here it says that somebody wanted
        // another address than the one that would be asked.
        let odd = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'#' | b'\\' | b'"');
        if url.len() > MAX_URL || url.bytes().any(odd) {
            return Err(unfit());
        }
        let authority_at = url.find("://").ok_or_else(unfit)?.saturating_add(3);
        let (_, tail) = url.split_at_checked(authority_at).ok_or_else(unfit)?;
        let path_at = tail.find(['/', '?']).unwrap_or(tail.len());
        let (authority, path) = tail.split_at_checked(path_at).ok_or_else(unfit)?;
        let origin = url.get(..authority_at.saturating_add(path_at)).ok_or_else(unfit)?;
        // Refuses user info, ports in odd spellings, and IPv4 in octal, hex, short or one number
        // (RFC 3986 §7.4).
        let address = Address::parse(origin).map_err(|_| unfit())?;
        if !literal_is_canonical(authority, &address) || !scheme_is_fit(&address, named_by) {
            return Err(unfit());
        }
        let path = match path.strip_prefix('?') {
            Some(query) => format!("/?{query}"),
            None if path.is_empty() => "/".to_owned(),
            None => path.to_owned(),
        };
        Ok(Target { address, path, named_by })
    }

    /// Judges the socket address that is about to be connected, or that was.
    pub(crate) fn judge(&self, socket: SocketAddr, egress: &[IpNet]) -> Result<(), FetchFault> {
        let ip = ranges::plain(socket.ip());
        let fit = match self.named_by {
            // In the clear only to this machine: a name in the file that suddenly leads elsewhere
            // must not carry a secret there.
            NamedBy::Config => self.address.scheme() == Scheme::Https || ip.is_loopback(),
            NamedBy::Stranger => {
                let opened = egress.iter().any(|net| net.contains(&ip));
                opened || (socket.port() == HTTPS_PORT && ranges::is_public(socket.ip()))
            }
        };
        match fit {
            true => Ok(()),
            false => Err(FetchFault::AddressForbidden(self.address.authority())),
        }
    }

    /// The host, when it is an IP address and needs no look-up.
    pub(crate) fn literal(&self) -> Option<IpAddr> {
        self.address.host().parse().ok()
    }
}

/// RFC 5952 §4: an IPv6 literal in its one canonical form (IPv4 has only one that is read at all).
fn literal_is_canonical(authority: &str, address: &Address) -> bool {
    let literal = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    literal.is_none_or(|(literal, _)| literal.eq_ignore_ascii_case(address.host()))
}

fn scheme_is_fit(address: &Address, named_by: NamedBy) -> bool {
    match (address.scheme(), named_by) {
        (Scheme::Https, NamedBy::Config | NamedBy::Stranger) => true,
        (Scheme::Http, NamedBy::Config) => address.is_loopback(),
        (Scheme::Http, NamedBy::Stranger) => false,
    }
}

/// As much of an address as a message may repeat: no query, no user info, nothing unprintable, for
/// each may hold a secret or a trick.
fn shown(url: &str) -> String {
    let head = url.split(['?', '#']).next().unwrap_or_default();
    // Only what follows the last `@` of the authority: a password stands before it.
    let head = match head.rsplit_once('@') {
        Some((_, host)) => host,
        None => head,
    };
    let printable = |c: char| if c.is_ascii_graphic() && c != '`' { c } else { '?' };
    head.chars().take(MAX_SHOWN).map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use FetchFault::{AddressForbidden, AddressUnfit};
    use NamedBy::{Config, Stranger};

    fn judged(url: &str, named_by: NamedBy, ip: &str, egress: &[&str]) -> Result<(), FetchFault> {
        let target = Target::read(url, named_by)?;
        let egress: Vec<IpNet> = egress.iter().map(|net| net.parse().unwrap()).collect();
        target.judge(SocketAddr::new(ip.parse().unwrap(), target.address.port()), &egress)
    }

    #[test]
    fn an_address_is_taken_apart() {
        for (url, authority, path) in [
            ("https://as.example", "as.example", "/"),
            ("https://as.example/", "as.example", "/"),
            ("https://AS.example:443/Keys/", "as.example", "/Keys/"),
            ("https://as.example:8443/a%20b;c?p=1&q", "as.example:8443", "/a%20b;c?p=1&q"),
            ("https://as.example?p=a@b", "as.example", "/?p=a@b"),
            ("https://[2606:4700::1111]/x", "[2606:4700::1111]", "/x"),
        ] {
            let target = Target::read(url, Config).unwrap();
            assert_eq!(
                (target.address.authority().as_str(), target.path.as_str()),
                (authority, path)
            );
        }
    }

    #[test]
    fn address_unfit_for_anybody() {
        for url in [
            "",
            "as.example",
            "//as.example/",
            "ftp://as.example/",
            "file:///etc/passwd",
            "https:/as.example",
            "https://",
            "https:///keys",
            "https://user@as.example/",
            "https://user:pass@as.example/",
            "https://as.example@evil.example/",
            "https://as.example/#x",
            "https://as.example\\@evil.example/",
            "https://as.example/a b",
            "https://as.example/\r\nHost:x",
            "https://as.example/\u{e9}",
            "https://as.example:0/",
            "https://as.example:99999/",
            "https://as.example./",
            "http://as.example/",
            "https://*.example/",
            "https://as%2eexample/",
            "gopher://127.0.0.1/",
            // IP addresses in every spelling but one.
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0x7f.0.0.1/",
            "https://127.1/",
            "https://0177.0.0.1/",
            "https://127.0.0.01/",
            "https://017700000001/",
            "https://127.0.0.1.:443/",
            "https://1.2.3/",
            "https://1.2.3.4.5/",
            "https://256.1.1.1/",
            "https://[::1%25lo]/",
            "https://[::1]x/",
            "https://[0:0:0:0:0:0:0:1]/",
            "https://[::0001]/",
            "https://[::ffff:7f00:1]/",
            "https://[64:ff9b::7f00:0001]/",
            "https://\u{ff11}27.0.0.1/",
            "https://\u{2460}.1.1.1/",
        ] {
            for named_by in [Config, Stranger] {
                let fault = Target::read(url, named_by).map(|_| ());
                assert!(matches!(fault, Err(AddressUnfit(_))), "{url}: {fault:?}");
            }
        }
        let long = format!("https://as.example/{}", "a".repeat(MAX_URL));
        assert!(Target::read(&long, Config).is_err());
    }

    #[test]
    fn in_the_clear_only_of_the_config_and_only_to_loopback() {
        for url in ["http://127.0.0.1:3000/keys", "http://localhost/keys", "http://[::1]/keys"] {
            assert!(Target::read(url, Config).is_ok(), "{url}");
            assert!(Target::read(url, Stranger).is_err(), "{url}");
        }
        for (ip, fit) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("8.8.8.8", false),
            ("0.0.0.0", false),
        ] {
            let verdict = judged("http://localhost:3000/", Config, ip, &["10.0.0.0/8"]);
            assert_eq!(verdict.is_ok(), fit, "{ip}");
        }
    }

    #[test]
    fn address_forbidden_to_a_stranger() {
        let refused = Err(AddressForbidden("as.example".into()));
        for ip in [
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:a00:1::",
            "0.0.0.0",
        ] {
            assert_eq!(judged("https://as.example/", Stranger, ip, &[]), refused, "{ip}");
            assert_eq!(judged("https://as.example/", Config, ip, &[]), Ok(()), "{ip}");
        }
        assert_eq!(judged("https://as.example/", Stranger, "8.8.8.8", &[]), Ok(()));
        assert!(judged("https://as.example:8443/", Stranger, "8.8.8.8", &[]).is_err());
        assert!(judged("https://as.example:22/", Stranger, "8.8.8.8", &[]).is_err());
    }

    #[test]
    fn egress_opens_what_it_names_and_nothing_else() {
        let egress = ["10.1.0.0/16", "::1/128", "9.9.9.9/32"];
        for (url, ip, fit) in [
            ("https://as.example/", "10.1.2.3", true),
            ("https://as.example:8443/", "10.1.2.3", true),
            ("https://as.example/", "::ffff:10.1.2.3", true),
            ("https://as.example/", "64:ff9b::10.1.2.3", true),
            ("https://as.example:8443/", "::1", true),
            ("https://as.example:8443/", "9.9.9.9", true),
            ("https://as.example/", "10.2.0.1", false),
            ("https://as.example/", "127.0.0.1", false),
            ("https://as.example:8443/", "8.8.8.8", false),
        ] {
            assert_eq!(judged(url, Stranger, ip, &egress).is_ok(), fit, "{url} {ip}");
        }
    }

    #[test]
    fn messages_hold_no_secret() {
        for (url, expected) in [
            ("https://user:hunter2@as.example/x?t=hunter2#hunter2", "as.example/x"),
            ("ftp://as.example/x?t=hunter2", "ftp://as.example/x"),
            ("x`\n\u{202e}y", "x???y"),
        ] {
            assert_eq!(shown(url), expected);
        }
        assert_eq!(shown(&"a".repeat(9000)).len(), MAX_SHOWN);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(url in "(https?://)?[\\PC]{0,60}") {
            for named_by in [Config, Stranger] {
                if let Ok(target) = Target::read(&url, named_by) {
                    proptest::prop_assert!(target.path.starts_with('/'));
                }
            }
        }
    }
}
