//! The client's address: the socket's, or what trusted proxies say it was.
//!
//! Read before the fields that carry it are removed. Trusts nothing that an untrusted peer wrote.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// Most entries of `X-Forwarded-For` that are looked at, from the right.
const MAX_HOPS: usize = 32;

/// The address that limits are charged to.
///
/// Goes through `X-Forwarded-For` from right to left, as long as the writer of an entry is trusted:
/// each proxy appends the address that it saw, so whatever stands left of the first untrusted
/// address was written by the client. An entry that is not an address ends the walk at the last
/// address believed.
pub(crate) fn client(peer: SocketAddr, trusted: &[IpNet], headers: &HeaderMap) -> IpAddr {
    let peer = peer.ip().to_canonical();
    let trusts = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    if !trusts(&peer) {
        return peer;
    }
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).collect();
    let mut believed = peer;
    for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')).take(MAX_HOPS) {
        let Some(address) = address(entry.trim_matches([' ', '\t'])) else { break };
        believed = address;
        if !trusts(&address) {
            break;
        }
    }
    believed
}

/// An address with or without a port, an IPv6 one with or without brackets.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| entry.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        client(SocketAddr::new(peer.parse().unwrap(), 1), &trusted, &headers).to_string()
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        for line in ["1.2.3.4", "10.0.0.1", "junk"] {
            assert_eq!(seen("203.0.113.9", &[line]), "203.0.113.9");
        }
        assert_eq!(seen("::ffff:203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
    }

    #[test]
    fn trusted_proxies_are_walked_from_right_to_left() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "10.0.0.1"),
            (&["203.0.113.9"], "203.0.113.9"),
            (&["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            (&["1.1.1.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            (&["203.0.113.9", "10.0.0.2"], "203.0.113.9"),
            (&["203.0.113.9:4711"], "203.0.113.9"),
            (&["[2001:db8::1]:4711, 10.3.3.3"], "2001:db8::1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["1.1.1.1, junk, 10.0.0.2"], "10.0.0.2"),
            (&["junk"], "10.0.0.1"),
            (&["1.1.1.1, , 10.0.0.2"], "10.0.0.2"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ];
        for (lines, expected) in cases {
            assert_eq!(seen("10.0.0.1", lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn the_walk_is_bounded() {
        let line = "10.1.1.1,".repeat(10_000) + "10.2.2.2";
        assert_eq!(seen("10.0.0.1", &[&line]), "10.1.1.1");
    }
}
