//! The authority: who a request is for. `Host`, `:authority` and the absolute form must agree, must
//! be ours, and must be the name that TLS was made for.
//!
//! Decides nothing about what is served there.

use std::net::Ipv6Addr;

use http::HeaderMap;
use http::Uri;
use http::header::HOST;

use super::fault::HygieneFault;

/// Longest host name (RFC 1035 §2.3.4).
const MAX_HOST_BYTES: usize = 253;

/// An authority as sent, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Authority<'a> {
    /// As sent: any case; an IPv6 literal with its brackets.
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
}

/// Reads `host[:port]` (RFC 3986 §3.2), stricter: names of letters, digits, `-`, `_` and dots
/// between labels; a port is 1 to 65535 without leading zeros.
///
/// # Errors
/// The rule that it breaks.
pub(crate) fn read(bytes: &[u8]) -> Result<Authority<'_>, HygieneFault> {
    // RFC 9110 §4.2.4: user info in an http(s) URI is to be treated as an error
    if bytes.contains(&b'@') {
        return Err(HygieneFault::AuthorityUserInfo);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| HygieneFault::AuthorityHostMalformed)?;
    let (host, rest) = match text.find(']') {
        Some(end) if text.starts_with('[') => text.split_at(end + 1),
        _ => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if !is_host(host) {
        return Err(HygieneFault::AuthorityHostMalformed);
    }
    let port = match rest.strip_prefix(':') {
        Some(digits) => Some(port(digits).ok_or(HygieneFault::AuthorityPortMalformed)?),
        None if rest.is_empty() => None,
        None => return Err(HygieneFault::AuthorityPortMalformed),
    };
    Ok(Authority { host, port })
}

impl Authority<'_> {
    /// Lower case, without the port when it is the scheme's own.
    pub(crate) fn canonical(self, default_port: u16) -> Box<str> {
        let mut text = self.host.to_ascii_lowercase();
        if let Some(port) = self.port.filter(|port| *port != default_port) {
            text.push(':');
            text.push_str(&port.to_string());
        }
        text.into_boxed_str()
    }
}

fn is_host(host: &str) -> bool {
    if let Some(literal) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // RFC 6874: zones are of this host only, and never come over a network
        return literal.parse::<Ipv6Addr>().is_ok();
    }
    // An empty label is also what a trailing dot makes: the same name in a second spelling.
    host.len() <= MAX_HOST_BYTES
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

fn port(digits: &str) -> Option<u16> {
    let plain = matches!(digits.as_bytes(), [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit));
    if plain { digits.parse().ok() } else { None }
}

/// The canonical authority of a request on a connection.
///
/// # Errors
/// The rule that it breaks; 421 where the name is not served, or not by this connection.
pub(crate) fn settle(
    uri: &Uri,
    headers: &HeaderMap,
    served: &[Box<str>],
    sni: Option<&str>,
) -> Result<Box<str>, HygieneFault> {
    let sent = sent(uri, headers)?;
    // Nearly always it is spelt as served, and what is served is canonical.
    let known = served.iter().find(|name| name.as_bytes() == sent);
    let authority = match known {
        Some(name) => name.clone(),
        None => {
            let canonical = read(sent)?.canonical(default_port(sni));
            if !served.contains(&canonical) {
                return Err(HygieneFault::AuthorityNotServed);
            }
            canonical
        }
    };
    // RFC 9110 §7.4: a connection made for one name carries no request for another; otherwise
    // whoever holds a certificate for one could be asked for the other
    if sni.is_some_and(|sni| host_of(&authority) != sni) {
        return Err(HygieneFault::AuthorityNotOfConnection);
    }
    Ok(authority)
}

/// The one authority that was sent.
fn sent<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Result<&'r [u8], HygieneFault> {
    let mut hosts = headers.get_all(HOST).iter().map(|host| host.as_bytes());
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(HygieneFault::AuthorityTwice);
    }
    match (uri.authority().map(|a| a.as_str().as_bytes()), host) {
        // RFC 9113 §8.3.1: a server treats a Host that differs from `:authority` as malformed
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => {
            Err(HygieneFault::AuthorityDiffers)
        }
        (Some(target), _) => Ok(target),
        (None, Some(host)) => Ok(host),
        (None, None) => Err(HygieneFault::AuthorityMissing),
    }
}

/// 443 under TLS, 80 without.
fn default_port(sni: Option<&str>) -> u16 {
    if sni.is_some() { 443 } else { 80 }
}

/// The host of a canonical authority.
pub(crate) fn host_of(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or(authority);
    }
    authority.split(':').next().unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::HygieneFault::*;
    use super::*;

    fn served() -> Vec<Box<str>> {
        vec![
            "api.example".into(),
            "localhost:8443".into(),
            "login.example".into(),
            "[::1]:8443".into(),
        ]
    }

    fn settled(uri: &str, hosts: &[&str], sni: Option<&str>) -> Result<Box<str>, HygieneFault> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        settle(&uri.parse().unwrap(), &headers, &served(), sni)
    }

    #[test]
    fn reads_names_ports_and_literals() {
        let cases: &[(&str, &str, Option<u16>)] = &[
            ("api.example", "api.example", None),
            ("API.example:8443", "API.example", Some(8443)),
            ("a_b-c.example:1", "a_b-c.example", Some(1)),
            ("127.0.0.1:65535", "127.0.0.1", Some(65535)),
            ("[::1]", "[::1]", None),
            ("[2001:db8::1]:443", "[2001:db8::1]", Some(443)),
        ];
        for (text, host, port) in cases {
            assert_eq!(read(text.as_bytes()), Ok(Authority { host, port: *port }), "{text}");
        }
    }

    #[test]
    fn malformed() {
        let cases: &[(&str, HygieneFault)] = &[
            ("", AuthorityHostMalformed),
            (":443", AuthorityHostMalformed),
            ("api.example.", AuthorityHostMalformed),
            (".example", AuthorityHostMalformed),
            ("a..b", AuthorityHostMalformed),
            ("api example", AuthorityHostMalformed),
            ("api%2eexample", AuthorityHostMalformed),
            ("api.example,other", AuthorityHostMalformed),
            ("api.example/", AuthorityHostMalformed),
            ("api.example\\", AuthorityHostMalformed),
            ("é.example", AuthorityHostMalformed),
            ("[::1", AuthorityHostMalformed),
            ("[::1%25eth0]", AuthorityHostMalformed),
            ("[api.example]", AuthorityHostMalformed),
            ("::1", AuthorityHostMalformed),
            ("user@api.example", AuthorityUserInfo),
            ("api.example@evil.example", AuthorityUserInfo),
            ("api.example:443@evil.example", AuthorityUserInfo),
            ("api.example:", AuthorityPortMalformed),
            ("api.example:0443", AuthorityPortMalformed),
            ("api.example:0", AuthorityPortMalformed),
            ("api.example:65536", AuthorityPortMalformed),
            ("api.example:+443", AuthorityPortMalformed),
            ("api.example: 443", AuthorityPortMalformed),
            ("api.example:443:80", AuthorityPortMalformed),
            ("api.example:https", AuthorityPortMalformed),
            ("[::1]8443", AuthorityPortMalformed),
        ];
        for (text, fault) in cases {
            assert_eq!(read(text.as_bytes()), Err(*fault), "{text}");
        }
    }

    #[test]
    fn settles_case_and_default_port() {
        let sni = Some("api.example");
        for host in ["api.example", "API.Example", "api.example:443"] {
            assert_eq!(settled("/", &[host], sni).as_deref(), Ok("api.example"), "{host}");
        }
        assert_eq!(
            settled("/", &["LOCALHOST:8443"], Some("localhost")).as_deref(),
            Ok("localhost:8443")
        );
        assert_eq!(settled("/", &["[::1]:8443"], None).as_deref(), Ok("[::1]:8443"));
        assert_eq!(settled("https://api.example/", &[], sni).as_deref(), Ok("api.example"));
        assert_eq!(
            settled("https://api.example/", &["API.example"], sni).as_deref(),
            Ok("api.example")
        );
    }

    #[test]
    fn authority_missing() {
        assert_eq!(settled("/", &[], Some("api.example")), Err(AuthorityMissing));
    }

    #[test]
    fn authority_twice() {
        assert_eq!(settled("/", &["api.example", "api.example"], None), Err(AuthorityTwice));
    }

    #[test]
    fn authority_differs() {
        assert_eq!(
            settled("https://api.example/", &["login.example"], None),
            Err(AuthorityDiffers)
        );
        assert_eq!(
            settled("https://api.example/", &["api.example:443"], None),
            Err(AuthorityDiffers)
        );
    }

    #[test]
    fn authority_not_served() {
        for host in
            ["other.example", "api.example:8443", "localhost", "api.example.evil", "api.example:80"]
        {
            assert_eq!(
                settled("/", &[host], Some("api.example")),
                Err(AuthorityNotServed),
                "{host}"
            );
        }
    }

    #[test]
    fn authority_not_of_connection() {
        assert_eq!(
            settled("/", &["login.example"], Some("api.example")),
            Err(AuthorityNotOfConnection)
        );
        assert_eq!(
            settled("/", &["localhost:8443"], Some("api.example")),
            Err(AuthorityNotOfConnection)
        );
    }
}
