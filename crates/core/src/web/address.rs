//! Addresses and origins: scheme, host, port and path, in one canonical spelling.
//!
//! Tokens carry an [`Address`] as `iss` and `aud` and are compared byte for byte, so there must be
//! exactly one spelling. Whether `http` is good enough for a purpose is its caller's question.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest address that a config may hold, in bytes: a host of 253 and a path as long.
pub const MAX_ADDRESS_BYTES: usize = 512;

/// An absolute `https` or `http` address without user info, query or fragment: an issuer, an API's
/// `at`, an upstream. Kept in canonical form: lower-case host, no default port, path without a
/// trailing slash (empty for the root).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    scheme: Scheme,
    host: Box<str>,
    port: u16,
    path: Box<str>,
}

/// The scheme of an [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// TLS.
    Https,
    /// In the clear; only ever to loopback or with an `in_clear` reason.
    Http,
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Scheme::Https => 443,
            Scheme::Http => 80,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Scheme::Https => "https",
            Scheme::Http => "http",
        }
    }
}

/// Why a text is not an [`Address`], [`Origin`] or [`Redirect`](super::Redirect).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressMalformed(pub &'static str);

impl Address {
    /// Reads `https://host[:port][/path]`, or the same with `http`.
    ///
    /// # Errors
    /// [`AddressMalformed`] says which part is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, AddressMalformed> {
        if text.len() > MAX_ADDRESS_BYTES {
            return Err(AddressMalformed("longer than 512 bytes; shorten the path"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AddressMalformed(
                "holds white space, a control character or a letter beyond ascii; write the host in its `xn--` form",
            ));
        }
        let (scheme, rest) = split_scheme(text)?;
        if rest.contains(['?', '#']) {
            return Err(AddressMalformed("has a query or fragment; cut it off"));
        }
        let path_at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        let (host, port) = parse_authority(authority)?;
        Ok(Address {
            scheme,
            host,
            port: port.unwrap_or(scheme.default_port()),
            path: canonical_path(path)?.into(),
        })
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host in lower case; an IPv6 literal without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own when none was written.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path: empty, or starting with `/` and not ending with one.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `host` or `host:port` when the port is not the scheme's own; what a `Host` field carries.
    pub fn authority(&self) -> String {
        // RFC 3986 §3.2.2: an IPv6 literal stands in brackets, or its colons would end the host.
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.to_string()
        };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Scheme, host and port as a serialised origin (RFC 6454 §6.2).
    pub fn origin(&self) -> Origin {
        Origin(format!("{}://{}", self.scheme.as_str(), self.authority()).into())
    }

    /// Whether the host is a loopback literal or `localhost`.
    pub fn is_loopback(&self) -> bool {
        &*self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The same origin with another path (must start with `/`, or be empty).
    pub fn with_path(&self, path: &str) -> Address {
        Address { path: path.trim_end_matches('/').into(), ..self.clone() }
    }
}

impl fmt::Display for Address {
    /// `https://host[:port][/path]`, byte for byte what tokens carry as `iss` and `aud`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.path)
    }
}

/// A serialised origin (RFC 6454 §6.2): `https://host[:port]`. Compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(Box<str>);

impl Origin {
    /// Reads an exact origin, as a config writes it; `null`, paths and wildcards are refused.
    ///
    /// # Errors
    /// [`AddressMalformed`], also for a spelling that no browser sends (upper case, default port,
    /// trailing slash): it would never match, and the operator would look for the reason.
    pub fn parse(text: &str) -> Result<Self, AddressMalformed> {
        // RFC 6454 §7.3: `null` is sent by every sandboxed frame and file; it names nobody.
        if text.eq_ignore_ascii_case("null") {
            return Err(AddressMalformed("`null` is no origin; write `https://host`"));
        }
        if text.contains('*') {
            return Err(AddressMalformed("wildcards are not accepted; list each origin"));
        }
        let address = Address::parse(text)?;
        let origin = address.origin();
        if *origin.0 == *text {
            Ok(origin)
        } else {
            Err(AddressMalformed(
                "not as a browser sends it; write lower-case `https://host[:port]` without default port, path or trailing slash",
            ))
        }
    }

    /// The text that a browser sends in `Origin`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Splits off `https://` or `http://` in any case (RFC 3986 §3.1).
fn split_scheme(text: &str) -> Result<(Scheme, &str), AddressMalformed> {
    for scheme in [Scheme::Https, Scheme::Http] {
        let name = scheme.as_str();
        if let Some((head, tail)) = text.split_at_checked(name.len())
            && head.eq_ignore_ascii_case(name)
            && let Some(rest) = tail.strip_prefix("://")
        {
            return Ok((scheme, rest));
        }
    }
    Err(AddressMalformed("does not start with `https://`; write `https://host[:port][/path]`"))
}

/// Splits `host[:port]`, host in canonical form.
pub(super) fn parse_authority(text: &str) -> Result<(Box<str>, Option<u16>), AddressMalformed> {
    // RFC 9110 §4.2.4: user info in http(s) is an old trick to make a host look like another.
    if text.contains('@') {
        return Err(AddressMalformed("holds user info; cut off everything up to the `@`"));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (literal, tail) =
            rest.split_once(']').ok_or(AddressMalformed("an IPv6 host wants a closing `]`"))?;
        let address: Ipv6Addr = literal
            .parse()
            .map_err(|_| AddressMalformed("not an IPv6 address between the brackets"))?;
        let port = match tail.strip_prefix(':') {
            Some(port) => Some(parse_port(port)?),
            None if tail.is_empty() => None,
            None => return Err(AddressMalformed("write a `:` between host and port")),
        };
        return Ok((address.to_string().into(), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(parse_port(port)?)),
        None => (text, None),
    };
    Ok((parse_name(host)?, port))
}

fn parse_port(text: &str) -> Result<u16, AddressMalformed> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port @ 1..) if digits && !text.starts_with('0') => Ok(port),
        _ => Err(AddressMalformed("not a port; write a number from 1 to 65535")),
    }
}

/// A registered name (RFC 1123 §2.1, underscores too, as container networks use them) or an IPv4
/// literal in its four decimal parts.
fn parse_name(text: &str) -> Result<Box<str>, AddressMalformed> {
    if text.is_empty() {
        return Err(AddressMalformed("has no host; write `https://host[:port][/path]`"));
    }
    if text.contains('*') {
        return Err(AddressMalformed("wildcards are not accepted; write the whole host"));
    }
    if text.ends_with('.') {
        return Err(AddressMalformed("the host ends with a dot; cut it off"));
    }
    let name = text.to_ascii_lowercase();
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label_is_good) {
        return Err(AddressMalformed(
            "not a host name; use letters, digits, hyphens and dots, each label at most 63 long",
        ));
    }
    // A last label that is a number makes resolvers read the host as IPv4, in octal, hex or with
    // parts left out: one spelling only, so that no guard is told another address than the socket.
    let last = name.rsplit('.').next().unwrap_or_default();
    let looks_numeric = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if looks_numeric && name.parse::<Ipv4Addr>().is_err() {
        return Err(AddressMalformed("not an IPv4 address; write four decimal parts"));
    }
    Ok(name.into())
}

/// Checks the path's segments and cuts one trailing slash.
fn canonical_path(path: &str) -> Result<&str, AddressMalformed> {
    let path = path.strip_suffix('/').unwrap_or(path);
    for segment in path.split('/').skip(1) {
        if segment.is_empty() {
            return Err(AddressMalformed("the path holds an empty segment; write single slashes"));
        }
        if segment == "." || segment == ".." {
            return Err(AddressMalformed("the path holds `.` or `..`; write the path meant"));
        }
        // RFC 3986 §3.3 pchar, without escapes and `;`: both have a second reading somewhere.
        if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&b)) {
            return Err(AddressMalformed(
                "the path holds a character that is not accepted; use letters, digits and `-._~`",
            ));
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_kept_in_one_spelling() {
        for (text, canonical, authority, path) in [
            ("https://api.pay.example/v1", "https://api.pay.example/v1", "api.pay.example", "/v1"),
            ("HTTPS://API.Pay.Example:443/", "https://api.pay.example", "api.pay.example", ""),
            (
                "https://api.example:8443/v1/",
                "https://api.example:8443/v1",
                "api.example:8443",
                "/v1",
            ),
            ("http://127.0.0.1:80", "http://127.0.0.1", "127.0.0.1", ""),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000", "127.0.0.1:3000", ""),
            ("https://[0:0::1]:8443/a", "https://[::1]:8443/a", "[::1]:8443", "/a"),
            (
                "https://xn--mnchen-3ya.example",
                "https://xn--mnchen-3ya.example",
                "xn--mnchen-3ya.example",
                "",
            ),
            ("http://my_service:3000", "http://my_service:3000", "my_service:3000", ""),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), canonical);
            assert_eq!(address.authority(), authority);
            assert_eq!(address.path(), path);
            assert_eq!(Address::parse(canonical).unwrap(), address, "canonical form is stable");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_do() {
        for (text, part_of_message) in [
            ("", "https://"),
            ("api.example", "https://"),
            ("ftp://api.example", "https://"),
            ("https:/api.example", "https://"),
            ("https:\\\\api.example", "https://"),
            ("https://", "no host"),
            ("https:///v1", "no host"),
            ("https://:443", "no host"),
            ("https://user@api.example", "user info"),
            ("https://api.example@evil.example", "user info"),
            ("https://api.example?x=1", "query"),
            ("https://api.example/#x", "fragment"),
            ("https://api.example/a b", "white space"),
            ("https://api.example/\n", "control character"),
            ("https://münchen.example", "xn--"),
            ("https://*.example", "wildcards"),
            ("https://api.example.", "ends with a dot"),
            ("https://api..example", "not a host name"),
            ("https://-a.example", "not a host name"),
            ("https://api.exa%6dple", "not a host name"),
            ("https://127.1", "four decimal parts"),
            ("https://2130706433", "four decimal parts"),
            ("https://0x7f.0.0.0x1", "four decimal parts"),
            ("https://0177.0.0.1", "four decimal parts"),
            ("https://[::1", "closing"),
            ("https://[fe80::1%25eth0]", "IPv6"),
            ("https://[::1]8443", "between host and port"),
            ("https://api.example:", "not a port"),
            ("https://api.example:0", "not a port"),
            ("https://api.example:+443", "not a port"),
            ("https://api.example:0443", "not a port"),
            ("https://api.example:65536", "not a port"),
            ("https://api.example//v1", "empty segment"),
            ("https://api.example/v1//", "empty segment"),
            ("https://api.example/../v1", "`..`"),
            ("https://api.example/a/./b", "`.`"),
            ("https://api.example/%2e", "not accepted"),
            ("https://api.example/a;b", "not accepted"),
            ("https://api.example/a\\b", "not accepted"),
        ] {
            let error = Address::parse(text).expect_err(text);
            assert!(error.0.contains(part_of_message), "{text}: {error}");
        }
        assert!(Address::parse(&format!("https://a.example/{}", "a".repeat(600))).is_err());
    }

    #[test]
    fn loopback_is_a_literal_or_localhost() {
        for (text, expected) in [
            ("http://127.0.0.1", true),
            ("http://127.9.9.9", true),
            ("http://[::1]", true),
            ("http://LOCALHOST:3000", true),
            ("http://localhost.evil.example", false),
            ("http://127.0.0.1.evil.example", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(Address::parse(text).unwrap().is_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn another_path_keeps_the_origin() {
        let issuer = Address::parse("https://login.example:8444/x").unwrap();
        assert_eq!(
            issuer.with_path("/oauth/token").to_string(),
            "https://login.example:8444/oauth/token"
        );
        assert_eq!(issuer.with_path("").to_string(), "https://login.example:8444");
        assert_eq!(issuer.origin().as_str(), "https://login.example:8444");
    }

    #[test]
    fn origins_are_exact() {
        for text in ["https://app.pay.example", "https://localhost:8443", "http://[::1]:3000"] {
            assert_eq!(Origin::parse(text).unwrap().as_str(), text);
        }
        for text in [
            "null",
            "NULL",
            "*",
            "https://*.example",
            "https://App.example",
            "https://app.example:443",
            "https://app.example/",
            "https://app.example/cb",
            "app.example",
            "",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "(https?://)?[\\PC]{0,40}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
            }
            let _ = Origin::parse(&text);
        }
    }
}
