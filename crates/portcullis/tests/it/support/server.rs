//! The real binary, started as an operator starts it: a config file, a folder, ports.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::Value;
use tempfile::TempDir;

use super::foreign::Foreign;
use super::plan::{Plan, Ports, binary};
use super::seed::{self, Keys, Person};
use super::upstream::Upstream;
use super::wait_for;
use super::wire::{self, Answer, Wire};

/// A running server with all that is around it.
pub(crate) struct Server {
    pub(crate) ports: Ports,
    pub(crate) upstream: Upstream,
    pub(crate) people: Vec<Person>,
    pub(crate) keys: Keys,
    pub(crate) foreign: Foreign,
    /// An address that attacks name, and that nobody may call.
    pub(crate) silent: TcpListener,
    folder: TempDir,
    child: Option<Child>,
    trust: Option<Arc<ClientConfig>>,
}

impl Server {
    /// Seeds a folder and starts.
    pub(crate) fn start(plan: &Plan) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let ports = Ports::choose();
        let upstream = Upstream::start();
        let seeds = seed::sow(folder.path(), &issuer(ports), plan.count());
        let foreign = Foreign::start();
        let config = plan.config(ports, upstream.port, foreign.port);
        std::fs::write(folder.path().join("portcullis.toml"), config).expect("a config");
        let (people, keys) = (seeds.people, seeds.keys);
        let silent = TcpListener::bind(("127.0.0.1", super::ports::free())).expect("a port");
        silent.set_nonblocking(true).expect("set");
        let mut server = Server {
            ports,
            upstream,
            people,
            keys,
            foreign,
            silent,
            folder,
            child: None,
            trust: None,
        };
        server.run();
        server
    }

    /// Starts the process (again) and waits until it is ready.
    pub(crate) fn run(&mut self) {
        let log = |name: &str| {
            let mut options = File::options();
            options.create(true).append(true).open(self.folder.path().join(name)).expect("a log")
        };
        let child = Command::new(binary())
            .args(["serve", "-c"])
            .arg(self.config_path())
            .stdin(Stdio::null())
            .stdout(log("records.jsonl"))
            .stderr(log("stderr.txt"))
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
        wait_for("ready", || {
            let child = self.child.as_mut().expect("just started");
            if let Ok(Some(status)) = child.try_wait() {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            (self.health("/readyz")?.status == 200).then_some(())
        });
        let ca = std::fs::read(self.ca_path()).expect("a CA of its own");
        self.trust = Some(wire::trust(&ca, &[]));
    }

    /// Ends the process at once, in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// Sends a signal by name, as in `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Waits for the process to end by itself; its exit code.
    pub(crate) fn ended(&mut self) -> i32 {
        let mut child = self.child.take().expect("running");
        let status = wait_for("the end of the server", || child.try_wait().ok().flatten());
        status.code().unwrap_or(-1)
    }

    /// A command of the same binary; `-c` names this server's config.
    pub(crate) fn cli(&self, words: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(words).arg("-c").arg(self.config_path()).stdin(Stdio::null());
        command.output().expect("the binary runs")
    }

    /// The same for words behind a `--`.
    pub(crate) fn cli_with(&self, words: &[&str]) -> Output {
        let (noun, rest) = words.split_at(2);
        let mut command = Command::new(binary());
        command.args(noun).arg("-c").arg(self.config_path()).args(rest).stdin(Stdio::null());
        command.output().expect("the binary runs")
    }

    /// Whether nobody called the address that must stay silent.
    pub(crate) fn stayed_silent(&self) -> bool {
        self.silent.accept().is_err()
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Its config file.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.path().join("portcullis.toml")
    }

    /// The CA to trust.
    pub(crate) fn ca_path(&self) -> PathBuf {
        self.path().join("data").join("ca.pem")
    }

    /// What it said on standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("stderr.txt")).unwrap_or_default()
    }

    /// The issuer.
    pub(crate) fn issuer(&self) -> String {
        issuer(self.ports)
    }

    /// The audience of the payments API.
    pub(crate) fn audience(&self) -> String {
        format!("https://localhost:{}/v1", self.ports.api)
    }

    /// A connection to a TLS port, asking for `localhost`.
    pub(crate) fn connect(&self, port: u16) -> Wire {
        self.connect_as(port, "localhost").expect("a TLS connection")
    }

    /// A connection that asks for a name.
    pub(crate) fn connect_as(&self, port: u16, name: &str) -> std::io::Result<Wire> {
        Wire::tls(port, name, self.trust.clone().expect("running"))
    }

    /// A connection that asks for a name and shows a certificate of the cast, or none.
    pub(crate) fn connect_with(
        &self,
        (port, name): (u16, &str),
        certificate: Option<&str>,
    ) -> std::io::Result<Wire> {
        let Some(certificate) = certificate else { return self.connect_as(port, name) };
        let read = |end: &str| {
            std::fs::read(self.path().join(format!("{certificate}{end}.pem"))).expect("of the cast")
        };
        let ca = std::fs::read(self.ca_path()).expect("a CA of its own");
        Wire::tls(port, name, wire::trust_as(&ca, &read(""), &read("-key")))
    }

    /// One request to the API on a connection of its own: method and target, fields, body.
    pub(crate) fn ask(&self, line: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut wire = self.connect(self.ports.api);
        wire.send(&request(line, self.ports.api, fields, body)).expect("sent");
        let answer = if line.starts_with("HEAD ") { wire.answer_to_head() } else { wire.answer() };
        answer.unwrap_or_else(|| panic!("no answer to {line}"))
    }

    /// A request with a bearer token.
    pub(crate) fn ask_as(&self, line: &str, token: &str) -> Answer {
        self.ask(line, &[("authorization", &format!("Bearer {token}"))], b"")
    }

    /// A page of the health listener; `None` while nothing listens.
    pub(crate) fn health(&self, page: &str) -> Option<Answer> {
        let mut wire = Wire::plain(self.ports.health).ok()?;
        let request =
            format!("GET {page} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        wire.send(request.as_bytes()).ok()?;
        wire.answer()
    }

    /// The decision record of an answer: written soon after it.
    pub(crate) fn record(&self, answer: &Answer) -> Value {
        let id = answer.field("request-id").to_owned();
        assert!(!id.is_empty(), "an answer without `Request-Id`: {answer:?}");
        wait_for("the record of an answer", || {
            let text = std::fs::read_to_string(self.path().join("records.jsonl")).ok()?;
            let line = text.lines().rev().find(|line| line.contains(&id))?;
            serde_json::from_str(line).ok()
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.upstream.release();
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn issuer(ports: Ports) -> String {
    format!("https://localhost:{}", ports.issuer)
}

/// The bytes of a well-formed request.
pub(crate) fn request(line: &str, port: u16, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nhost: localhost:{port}\r\n");
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}
