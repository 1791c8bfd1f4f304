//! `[server]`: where we listen, with which certificates, and where our state lies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use portcullis_core::fault::Placed;
use toml::de::DeValue;

use super::known;
use super::reader::{Environment, Reading, Section, Value};
use super::secrets;
use super::settings::{Server, Tls};

/// Most addresses of one kind.
const MAX_ADDRESSES: usize = 32;
/// Where health and metrics are served unless written: this machine only.
const HEALTH: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);
/// Where the state lies unless written, relative to the file.
const DATA: &str = "data";

/// Reads `[server]`; `domains` that it does not name are filled in by `compose`.
pub(crate) fn read(reading: &mut Reading<'_>, root: &Section<'_>) -> Option<Server> {
    let Some(value) = root.value("server") else {
        root.missing(reading, "[server]", "[server]` and `tls = \"local\"");
        return None;
    };
    let section = Section::open(reading, value, &known::SERVER)?;
    let health = one_address(reading, &section, "health").unwrap_or(HEALTH);
    let metrics = one_address(reading, &section, "metrics").unwrap_or(health);
    let data = section.text(reading, "data").map_or(DATA.into(), |data| data.value);
    Some(Server {
        domains: domains(reading, &section),
        listen: section
            .value("listen")
            .map_or(vec![all(443)], |value| addresses(reading, value, "listen")),
        listen_place: section.value("listen").map(|value| reading.place(value.span())),
        plain: plain(reading, &section),
        health,
        metrics,
        data: reading.path(&data),
        trust_proxies: networks(reading, &section, "trust_proxies"),
        egress: networks(reading, &section, "egress"),
        tls: tls(reading, &section)?,
    })
}

/// All addresses of the machine, IPv4 through the IPv6 socket.
fn all(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

fn domains(reading: &mut Reading<'_>, section: &Section<'_>) -> Vec<String> {
    let Some(value) = section.value("domains") else { return Vec::new() };
    let written = reading.strings(value, "domains", Environment::Allowed);
    written.into_iter().filter_map(|domain| self::domain(reading, domain)).collect()
}

/// A DNS name or an address literal: what a certificate can be for.
fn domain(reading: &mut Reading<'_>, written: Placed<String>) -> Option<String> {
    let name = written.value.to_ascii_lowercase();
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let dashed = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && label.len() <= 63 && label.bytes().all(plain) && !dashed
    };
    // RFC 1035 §2.3.4: names of at most 255 octets, labels of at most 63.
    let named = name.len() <= 253 && name.split('.').all(label);
    if named || name.parse::<IpAddr>().is_ok() {
        return Some(name);
    }
    let message = format!("`{}` is not a host name", written.value);
    let remedy = "write a name such as `api.pay.example`: no scheme, port, path or wildcard";
    reading.fault("DomainMalformed", written.place.bytes, message, remedy);
    None
}

fn plain(reading: &mut Reading<'_>, section: &Section<'_>) -> Vec<SocketAddr> {
    match section.value("plain") {
        None => vec![all(80)],
        Some(value) if value.get_ref().as_str() == Some("off") => Vec::new(),
        Some(value) => addresses(reading, value, "plain"),
    }
}

fn one_address(reading: &mut Reading<'_>, section: &Section<'_>, name: &str) -> Option<SocketAddr> {
    let value = section.value(name)?;
    let addresses = addresses(reading, value, name);
    if addresses.len() > 1 {
        let message = format!("`{name}` takes one address");
        reading.fault("ListTooLong", value.span(), message, "write `\"127.0.0.1:9090\"`");
    }
    addresses.first().copied()
}

/// A port (all addresses), an `"address:port"`, or a list of them.
fn addresses(reading: &mut Reading<'_>, value: &Value<'_>, what: &str) -> Vec<SocketAddr> {
    let DeValue::Array(array) = value.get_ref() else {
        return address(reading, value, what).into_iter().collect();
    };
    if array.len() > MAX_ADDRESSES || array.is_empty() {
        let message = format!("`{what}` lists {} addresses", array.len());
        let remedy = format!("write 1 to {MAX_ADDRESSES}");
        reading.fault("ListTooLong", value.span(), message, remedy);
        return Vec::new();
    }
    array.iter().filter_map(|value| address(reading, value, what)).collect()
}

fn address(reading: &mut Reading<'_>, value: &Value<'_>, what: &str) -> Option<SocketAddr> {
    let read = match value.get_ref() {
        DeValue::Integer(port) if port.radix() == 10 => port.as_str().parse().ok().map(all),
        DeValue::String(text) => text.parse().ok(),
        _ => None,
    };
    if read.is_none() {
        let message = match value.get_ref() {
            DeValue::String(text) => format!("`{text}` is not an address with a port"),
            _ => format!("`{what}` is not an address with a port"),
        };
        let remedy = "write `\"127.0.0.1:8443\"`, `\"[::1]:8443\"`, or a port for all addresses";
        reading.fault("ListenMalformed", value.span(), message, remedy);
    }
    read
}

fn networks(reading: &mut Reading<'_>, section: &Section<'_>, what: &str) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for written in section.texts(reading, what) {
        let network = written.value.parse::<IpNet>().ok();
        match network.or_else(|| written.value.parse::<IpAddr>().ok().map(IpNet::from)) {
            Some(network) => networks.push(network),
            None => {
                let message = format!("`{}` is not a network", written.value);
                let remedy = "write an address or `10.0.0.0/8`";
                reading.fault("NetworkMalformed", written.place.bytes, message, remedy);
            }
        }
    }
    networks
}

fn tls(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Tls> {
    let remedy = "write `tls = \"local\"` (our own authority, for a laptop or a private network) \
                  or `tls = { certificate = \"FILE\", key = \"FILE\" }`";
    let Some(value) = section.value("tls") else {
        let message = "`tls` is left out, which means `\"acme\"`: designed, not built yet";
        reading.fault("NotBuiltYet", section.span.clone(), message, remedy);
        return None;
    };
    match value.get_ref().as_str() {
        Some("local") => Some(Tls::Local),
        Some("acme") => {
            reading.later(value.span(), "tls = \"acme\"", remedy);
            None
        }
        Some(other) => {
            let message = format!("`{other}` is no way to get certificates");
            reading.fault("TlsUnknown", value.span(), message, remedy);
            None
        }
        None => files(reading, value),
    }
}

/// `{ certificate = "chain.pem", key = "key.pem" }`.
fn files(reading: &mut Reading<'_>, value: &Value<'_>) -> Option<Tls> {
    let section = Section::open(reading, value, &known::TLS)?;
    let (chain, key) = (section.text(reading, "certificate"), section.value("key"));
    if section.value("certificate").is_none() {
        section.missing(reading, "certificate", "certificate = \"chain.pem\"");
    }
    let Some(key) = key else {
        section.missing(reading, "key", "key = \"key.pem\"");
        return None;
    };
    // A path is no secret, so that `key = "key.pem"` may stand in the file; the key itself may not.
    let key_pem = if key.get_ref().is_str() {
        let path = reading.string(key, "key")?;
        if path.value.contains("-----BEGIN") {
            reading.mask(key.span());
            let remedy = "write the path of a file that only the server may read";
            reading.fault("SecretInFile", key.span(), "`key` stands in the file", remedy);
            return None;
        }
        portcullis_core::secret::Secret::new(reading.load(&path)?)
    } else {
        secrets::secret(reading, key, "key")?
    };
    Some(Tls::Files { chain_pem: reading.load(&chain?)?, key_pem })
}
