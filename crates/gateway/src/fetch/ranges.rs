//! Which IP addresses belong to the public internet: a table, and the question asked of it.
//!
//! The question is asked of the very socket address that is connected, never of a name or a text:
//! names change their answers between two look-ups, and texts have many spellings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 blocks where a stranger may not send us: IANA's special-purpose registry (RFC 6890), without
/// those that are plain public addresses.
const CLOSED_V4: [([u8; 4], u32); 17] = [
    ([0, 0, 0, 0], 8),        // RFC 791 §3.2: this network; Linux connects it to itself
    ([10, 0, 0, 0], 8),       // RFC 1918 §3
    ([100, 64, 0, 0], 10),    // RFC 6598 §7: carrier's NAT; also a cloud's metadata
    ([127, 0, 0, 0], 8),      // RFC 1122 §3.2.1.3: loopback
    ([168, 63, 129, 16], 32), // a cloud's host agent on an address that looks public
    ([169, 254, 0, 0], 16),   // RFC 3927 §2.1: link-local; clouds' metadata
    ([172, 16, 0, 0], 12),    // RFC 1918 §3
    ([192, 0, 0, 0], 24),     // RFC 6890 §2.1: protocol assignments; a cloud's metadata
    ([192, 0, 2, 0], 24),     // RFC 5737 §3: documentation
    ([192, 88, 99, 0], 24),   // RFC 7526 §4: the abandoned 6to4 relays
    ([192, 168, 0, 0], 16),   // RFC 1918 §3
    ([198, 18, 0, 0], 15),    // RFC 2544 §C.2.2: benchmarking
    ([198, 51, 100, 0], 24),  // RFC 5737 §3: documentation
    ([203, 0, 113, 0], 24),   // RFC 5737 §3: documentation
    ([224, 0, 0, 0], 4),      // RFC 5771 §3: multicast
    ([240, 0, 0, 0], 4),      // RFC 1112 §4: reserved
    ([255, 255, 255, 255], 32), // RFC 919 §7: broadcast
];

/// IPv6 blocks inside the global unicast block where a stranger may not send us.
const CLOSED_V6: [(Ipv6Addr, u32); 4] = [
    // RFC 2928 §2: protocol assignments; Teredo (RFC 4380 §2.6), benchmarking (RFC 5180 §8) and
    // ORCHIDs (RFC 7343 §2) lie in it.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // RFC 3849 §2: documentation
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // RFC 3056 §2: 6to4 carries an IPv4 address, and nothing runs on it any more (RFC 7526 §4).
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    // RFC 9637 §2: documentation
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// RFC 4291 §2.4: the block that global unicast addresses are given out of. What lies outside
/// (loopback, unspecified, `fc00::/7`, `fe80::/10`, `ff00::/8` and all that is reserved) is closed
/// without being named: a new special block is closed before anybody hears of it.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// RFC 6052 §2.1: the well-known prefix of NAT64. The local one of RFC 8215 is closed: where in it
/// the IPv4 address stands is each network's own choice.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether an address belongs to the public internet.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match plain(ip) {
        IpAddr::V4(ip) => {
            !CLOSED_V4.iter().any(|(net, length)| holds_v4(Ipv4Addr::from(*net), *length, ip))
        }
        IpAddr::V6(ip) => {
            holds_v6(GLOBAL_V6, ip) && !CLOSED_V6.iter().any(|block| holds_v6(*block, ip))
        }
    }
}

/// The address that packets reach: an IPv4 address in IPv6 clothes is that IPv4 address.
pub(crate) fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    // RFC 4291 §2.5.5.2: mapped addresses leave as IPv4.
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    if holds_v6(NAT64, v6) {
        let [.., a, b, c, d] = v6.octets();
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    ip
}

fn holds_v4(net: Ipv4Addr, length: u32, ip: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
    u32::from(net) & mask == u32::from(ip) & mask
}

fn holds_v6((net, length): (Ipv6Addr, u32), ip: Ipv6Addr) -> bool {
    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
    u128::from(net) & mask == u128::from(ip) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_global_unicast_is_public() {
        let closed = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:1:a00:0:100::",
            "100::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
        ];
        for text in closed {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn the_public_internet_is_public() {
        let open = [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "168.63.129.15",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "3ffe::1",
        ];
        for text in open {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    proptest::proptest! {
        /// Dressing an IPv4 address in IPv6 changes no verdict.
        #[test]
        fn clothes_change_nothing(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let mapped = IpAddr::V6(v4.to_ipv6_mapped());
            let [a, b, c, d] = v4.octets();
            let low = |one: u8, two: u8| u16::from_be_bytes([one, two]);
            let nat64 = IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, low(a, b), low(c, d)));
            let verdict = is_public(IpAddr::V4(v4));
            proptest::prop_assert_eq!(verdict, is_public(mapped));
            proptest::prop_assert_eq!(verdict, is_public(nat64));
            proptest::prop_assert_eq!(verdict, is_public(mapped) && is_public(nat64));
        }
    }
}
