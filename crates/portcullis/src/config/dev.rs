//! `serve --dev`: the same file on a laptop.
//!
//! Every host becomes `localhost` with a port of its own, so that two names in the file stay two
//! origins in the browser: the first API's host gets 8443, each further one the next, the issuer
//! the last; a host that is `localhost` with a port already keeps it. Certificates come from the
//! local CA, only loopback is listened on, nothing is served in plain, no proxy is believed. A
//! `listen` that was written and is not loopback is refused rather than ignored: whoever wrote it
//! meant others to come.
//!
//! Upstreams, clients, limits and rules stay what they are. Where redirects and `browsers` may be
//! `http://localhost:*` is decided when the file is read (`Purpose::Dev`).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use portcullis_core::fault::Fault;
use portcullis_core::web::Address;

use super::Rejected;
use super::settings::{Config, Tls};

/// The first port given out.
const FIRST_PORT: u16 = 8443;

/// What became of a host of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DevHost {
    /// The authority in the file.
    pub written: String,
    /// Its port on `localhost`.
    pub port: u16,
}

/// Moves a config onto this machine; returns each host with its port, in the order of the file.
///
/// # Errors
/// A `listen` that is not loopback, or more hosts than ports.
pub(crate) fn dev(config: &mut Config) -> Result<Vec<DevHost>, Rejected> {
    let sources = config.sources.clone();
    move_here(config).map_err(|faults| Rejected { faults, sources })
}

fn move_here(config: &mut Config) -> Result<Vec<DevHost>, Vec<Fault>> {
    refuse_wide(config)?;
    let hosts = assign(config)?;
    let moved = |address: &Address| moved(address, &hosts);
    for (api, draft) in config.apis.iter_mut().zip(&mut config.drafts) {
        api.at = Arc::new(moved(&api.at));
        draft.at.value = (*api.at).clone();
    }
    config.identity.issuer = moved(&config.identity.issuer);
    if let Some(mtls) = &mut config.identity.mtls {
        mtls.at = moved(&mtls.at);
    }
    let here = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    config.server.listen = hosts.iter().map(|host| here(host.port)).collect();
    config.server.domains = vec!["localhost".into()];
    config.server.plain = Vec::new();
    config.server.tls = Tls::Local;
    config.server.trust_proxies = Vec::new();
    config.recompile()?;
    Ok(hosts)
}

fn refuse_wide(config: &Config) -> Result<(), Vec<Fault>> {
    let wide = |address: &SocketAddr| !address.ip().is_loopback();
    let listen = config.server.listen_place.as_ref();
    let Some(place) = listen.filter(|_| config.server.listen.iter().any(wide)) else {
        return Ok(());
    };
    let message = "`serve --dev` listens on this machine alone, and `listen` is wider".into();
    let remedy = "leave `listen` out, write loopback addresses, or serve without `--dev`".into();
    Err(vec![Fault::error("DevListensWide", place.clone(), message, remedy)])
}

/// A port for each distinct authority: APIs in the file's order, then the issuer.
fn assign(config: &Config) -> Result<Vec<DevHost>, Vec<Fault>> {
    let addresses = || {
        let apis = config.apis.iter().map(|api| &*api.at);
        let mtls = config.identity.mtls.as_ref().map(|mtls| &mtls.at);
        apis.chain(std::iter::once(&config.identity.issuer)).chain(mtls)
    };
    let kept = addresses().filter(|address| stays(address)).map(Address::port);
    let mut taken: BTreeSet<u16> = kept.collect();
    taken.extend([config.server.health.port(), config.server.metrics.port()]);
    let mut hosts: Vec<DevHost> = Vec::new();
    for address in addresses() {
        let written = address.authority();
        if hosts.iter().any(|host| host.written == written) {
            continue;
        }
        let port = if stays(address) { Some(address.port()) } else { free(&taken) };
        let Some(port) = port else {
            let message = "more hosts than ports for `serve --dev`".into();
            let remedy = "serve fewer hosts".into();
            let place = config.server.listen_place.clone();
            let severity = portcullis_core::fault::Severity::Error;
            return Err(vec![Fault { rule: "DevPortsSpent", severity, place, message, remedy }]);
        };
        taken.insert(port);
        hosts.push(DevHost { written, port });
    }
    Ok(hosts)
}

/// Whether an address already is a port of this machine.
fn stays(address: &Address) -> bool {
    address.host() == "localhost" && address.port() >= 1024
}

fn free(taken: &BTreeSet<u16>) -> Option<u16> {
    (FIRST_PORT..=u16::MAX).find(|port| !taken.contains(port))
}

fn moved(address: &Address, hosts: &[DevHost]) -> Address {
    let written = address.authority();
    let Some(host) = hosts.iter().find(|host| host.written == written) else {
        return address.clone();
    };
    let text = format!("https://localhost:{}{}", host.port, address.path());
    Address::parse(&text).expect("`localhost`, a port and a path that was read before")
}

#[cfg(test)]
mod tests {
    use portcullis_core::time::Timestamp;

    use super::super::{Colour, Memory, Purpose, Surroundings, parse};
    use super::*;

    const APIS: &str = r#"
[identity]
issuer = "https://login.pay.example"
[clients]
app = { type = "spa", redirect = "http://localhost:5173/cb" }
[api.a]
at = "https://api.pay.example/v1"
upstream = "http://127.0.0.1:3000"
access = { "GET /x" = { allow = "anyone" } }
[api.b]
at = "https://api.pay.example/v2"
upstream = "http://127.0.0.1:3001"
[api.c]
at = "https://localhost:8444"
upstream = "http://127.0.0.1:3002"
browsers = ["http://localhost:5173"]
"#;

    fn read(server: &str, purpose: Purpose) -> Result<Config, String> {
        let text = format!("[server]\ntls = \"local\"\n{server}\n{APIS}");
        let loader = Memory::default();
        let now = Timestamp::parse("2026-11-24").unwrap();
        parse("a.toml", &text, &Surroundings { loader: &loader, now, purpose })
            .map_err(|rejected| rejected.render(Colour::Never))
    }

    #[test]
    fn each_host_becomes_a_port_of_localhost_and_keeps_its_paths() {
        let mut config = read("trust_proxies = \"10.0.0.0/8\"", Purpose::Dev).unwrap();
        let hosts = dev(&mut config).ok().unwrap();
        let named: Vec<(&str, u16)> =
            hosts.iter().map(|host| (host.written.as_str(), host.port)).collect();
        assert_eq!(
            named,
            [("api.pay.example", 8443), ("localhost:8444", 8444), ("login.pay.example", 8445)]
        );
        let at: Vec<String> = config.apis.iter().map(|api| api.at.to_string()).collect();
        assert_eq!(
            at,
            ["https://localhost:8443/v1", "https://localhost:8443/v2", "https://localhost:8444"]
        );
        assert_eq!(config.identity.issuer.to_string(), "https://localhost:8445");
        assert!(config.server.listen.iter().all(|address| address.ip().is_loopback()));
        assert!(config.server.plain.is_empty() && config.server.trust_proxies.is_empty());
    }

    #[test]
    fn the_rules_move_with_their_api() {
        let mut config = read("", Purpose::Dev).unwrap();
        assert!(dev(&mut config).is_ok());
        let found = |host| format!("{:?}", config.rules.find(host, "GET", "/v1/x"));
        assert!(found("localhost:8443").starts_with("Operation"), "{}", found("localhost:8443"));
        assert_eq!(found("api.pay.example"), "NotFound");
    }

    #[test]
    fn a_listener_that_is_not_loopback_is_refused() {
        let mut wide = read("listen = [\"127.0.0.1:1\", \"0.0.0.0:443\"]", Purpose::Dev).unwrap();
        let refused = dev(&mut wide).err().unwrap().render(Colour::Never);
        assert!(refused.contains("DevListensWide") && refused.contains("a.toml:3:10"), "{refused}");
        let mut here = read("listen = \"127.0.0.1:9\"", Purpose::Dev).unwrap();
        assert!(dev(&mut here).is_ok());
    }

    #[test]
    fn http_on_localhost_is_for_dev_alone() {
        let refused = read("", Purpose::Serve).err().unwrap();
        assert!(
            refused.contains("RedirectInClear") && refused.contains("OriginInClear"),
            "{refused}"
        );
    }
}
