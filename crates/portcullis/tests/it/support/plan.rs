//! What a test's server is started with: one config, written here once, with the few things that
//! tests change.

use std::path::{Path, PathBuf};

use super::ports;
use super::server::Server;

/// The config of the tests.
const CONFIG: &str = include_str!("plan.toml");

/// A limit that no test meets by accident.
const WIDE: &str = "60000/min per ip, burst 60000";

/// What to start.
pub(crate) struct Plan {
    failed: String,
    public: String,
    normal: String,
    people: usize,
}

/// The ports of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) api: u16,
    pub(crate) issuer: u16,
    pub(crate) plain: u16,
    pub(crate) health: u16,
}

impl Default for Plan {
    fn default() -> Self {
        let normal = "60000/min per user, burst 60000".into();
        Plan { failed: WIDE.into(), public: WIDE.into(), normal, people: 2 }
    }
}

impl Plan {
    /// Another budget of failed authentications.
    pub(crate) fn failed(self, words: &str) -> Plan {
        Plan { failed: words.into(), ..self }
    }

    /// Another limit of what is open to anyone.
    pub(crate) fn public(self, words: &str) -> Plan {
        Plan { public: words.into(), ..self }
    }

    /// Another limit of what people do.
    pub(crate) fn normal(self, words: &str) -> Plan {
        Plan { normal: words.into(), ..self }
    }

    /// So many people: `p0`, `p1` …, each with an account of their own.
    pub(crate) fn people(self, people: usize) -> Plan {
        Plan { people, ..self }
    }

    /// How many people there are.
    pub(crate) fn count(&self) -> usize {
        self.people
    }

    /// Starts it.
    pub(crate) fn start(self) -> Server {
        Server::start(&self)
    }

    /// The config with its ports.
    pub(crate) fn config(&self, ports: Ports, upstream: u16, foreign: u16) -> String {
        CONFIG
            .replace("{api}", &ports.api.to_string())
            .replace("{issuer}", &ports.issuer.to_string())
            .replace("{plain}", &ports.plain.to_string())
            .replace("{health}", &ports.health.to_string())
            .replace("{upstream}", &upstream.to_string())
            .replace("{foreign}", &foreign.to_string())
            .replace("{failed}", &self.failed)
            .replace("{public}", &self.public)
            .replace("{normal}", &self.normal)
    }
}

impl Ports {
    /// Four free ones.
    pub(crate) fn choose() -> Ports {
        Ports {
            api: ports::free(),
            issuer: ports::free(),
            plain: ports::free(),
            health: ports::free(),
        }
    }
}

/// The access lines of the tests' config: API, method, path pattern.
pub(crate) fn access_lines() -> Vec<(String, String, String)> {
    let mut lines = Vec::new();
    let mut api = None;
    for line in CONFIG.lines() {
        if let Some(table) = line.strip_prefix("[api.") {
            api = table.strip_suffix(".access]").map(str::to_owned);
        }
        let key = line.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        if let (Some(api), Some((key, _))) = (&api, key) {
            let (method, path) = key.split_once(' ').expect("a method and a path");
            lines.push((api.clone(), method.to_owned(), path.trim().to_owned()));
        }
    }
    lines
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_portcullis")).to_owned()
}
