//! The command line as a person meets it: help, exit codes, and the way from an API's document to a
//! server that protects it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::browser::{Browser, Errand, claims_of, code_in};
use crate::support::plan::{Plan, binary};
use crate::support::server::Server;
use crate::support::upstream::Upstream;
use crate::support::wire::{self, Wire};
use crate::support::{ports, wait_for};

/// Runs the binary in a folder: exit code, standard output, standard error.
fn run(folder: &Path, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(binary());
    command.args(words).current_dir(folder).stdin(Stdio::null()).env("NO_COLOR", "1");
    spoken(&command.output().expect("the binary runs"))
}

fn spoken(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn every_command_explains_itself() {
    let folder = folder();
    let (code, all, _) = run(folder.path(), &["--help"]);
    assert_eq!(code, 0);
    for (words, says) in [
        (&["demo"][..], "--tour"),
        (&["init"], "--openapi"),
        (&["serve"], "--dev"),
        (&["check"], "--json"),
        (&["explain"], "--as"),
        (&["example-config"], "example-config"),
        (&["user"], "disable"),
        (&["user", "add"], "--role"),
        (&["user", "list"], "--json"),
        (&["user", "disable"], "LOGIN"),
        (&["client"], "list"),
        (&["client", "add"], "--new-key"),
        (&["client", "list"], "--json"),
        (&["client", "key", "add"], "--from"),
        (&["client", "key", "list"], "CLIENT"),
        (&["client", "key", "revoke"], "ID"),
        (&["session", "list"], "LOGIN"),
        (&["session", "end"], "--user"),
        (&["consent", "withdraw"], "CLIENT"),
        (&["signing-key", "list"], "--json"),
        (&["signing-key", "rotate"], "--now"),
        (&["signing-key", "kill"], "KID"),
        (&["token", "fetch"], "--key"),
        (&["reload"], "--wait"),
    ] {
        assert!(all.contains(words[0]), "`{}` is not in the help", words[0]);
        let asked = [words, &["--help"]].concat();
        let (code, help, err) = run(folder.path(), &asked);
        assert_eq!((code, err.as_str()), (0, ""), "{words:?}");
        assert!(help.contains(says), "{words:?} says nothing of `{says}`:\n{help}");
        let first = help.lines().next().unwrap_or_default();
        assert!(first.len() > 10, "{words:?} does not say what it does: {first}");
    }
    assert_eq!(run(folder.path(), &["--version"]).0, 0);
}

#[test]
fn wrong_use_is_exit_2_and_says_what_is_right() {
    let folder = folder();
    for (words, says) in [
        (&["sreve"][..], "serve"),
        (&["serve", "--deb"], "--dev"),
        (&[], "Usage"),
        (&["user"], "Usage"),
        (&["explain", "GET", "/x"], "--as"),
        (&["check", "-c", "nowhere.toml"], "nowhere.toml"),
        (&["serve", "-c", "nowhere.toml"], "nowhere.toml"),
        (&["user", "list", "-c", "nowhere.toml"], "nowhere.toml"),
    ] {
        let (code, out, err) = run(folder.path(), words);
        assert_eq!(code, 2, "{words:?}: {out}{err}");
        assert!(err.contains(says), "{words:?}: {err}");
    }
    assert!(!folder.path().join("data").exists(), "nothing is made by a mistake");
}

#[test]
fn a_bad_file_is_exit_2_with_line_and_caret() {
    let folder = folder();
    std::fs::write(folder.path().join("portcullis.toml"), "[server]\ntsl = \"local\"\n")
        .expect("written");
    for words in
        [&["check"][..], &["serve"], &["user", "list"], &["explain", "GET", "/", "--as", "anyone"]]
    {
        let (code, _, err) = run(folder.path(), words);
        assert_eq!(code, 2, "{words:?}");
        assert!(err.contains("portcullis.toml:2:") && err.contains('^'), "{words:?}: {err}");
        assert!(err.contains("did you mean `tls`?"), "{words:?}: {err}");
    }
}

#[test]
fn check_and_explain_judge_the_file() {
    let server = Plan::default().people(1).start();
    let (code, out, _) = spoken(&server.cli(&["check"]));
    assert!(code == 0 || code == 1, "{out}");
    for word in ["/rates", "/accounts/{account}", "payments:read", "service:ledger"] {
        assert!(out.contains(word), "`{word}` is not in the matrix:\n{out}");
    }
    let (_, out, _) = spoken(&server.cli(&["check", "--json"]));
    let answer: Value = serde_json::from_str(&out).expect("JSON");
    assert!(answer["matrix"].as_array().is_some_and(|rows| rows.len() >= 10), "{out}");
    let explain = |words: &[&str]| spoken(&server.cli(&[&["explain"], words].concat()));
    let host = format!("localhost:{}", server.ports.api);
    let account = [
        "GET",
        "/v1/accounts/acc-0",
        "--as",
        "user:p0",
        "--host",
        &host,
        "--with",
        "scope=payments:read",
    ];
    let own = explain(&[&account[..], &["--with", "account=acc-0"]].concat());
    assert_eq!(own.0, 0, "{}{}", own.1, own.2);
    let other = explain(&[&account[..], &["--with", "account=acc-1"]].concat());
    assert_eq!(other.0, 1, "{}", other.1);
    assert!(other.1.contains("403") && other.1.contains("acc-1"), "{}", other.1);
    assert_eq!(explain(&["GET", "/v1/accounts/acc-0", "--as", "somebody"]).0, 2);
}

#[test]
fn the_example_reads_itself() {
    let folder = folder();
    let (code, out, err) = run(folder.path(), &["example-config"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for table in ["[server]", "[identity]", "[clients]", "[limits]", ".access]"] {
        assert!(out.contains(table), "{table}");
    }
    assert!(out.parse::<toml::Table>().is_ok(), "it is TOML");
}

#[test]
fn people_are_added_listed_and_disabled_with_a_server_and_without() {
    let mut server = Plan::default().people(1).start();
    let added = people_come_and_go(&server, "grace");
    // The one-off password works, and a second factor is set up at the first login.
    let person_page = first_login(&server, "grace", &added);
    assert!(person_page.contains("Set up your authenticator"), "{person_page}");
    let (code, out, err) = spoken(&server.cli(&["user", "disable", "grace"]));
    assert_eq!(code, 0, "{out}{err}");
    let (_, out, _) = spoken(&server.cli(&["user", "list"]));
    assert!(out.contains("disabled"), "{out}");
    server.signal("TERM");
    assert_eq!(server.ended(), 0);
    people_come_and_go(&server, "offline");
}

/// Adds a person, sees them listed, and is refused what is wrong; the one-off password.
fn people_come_and_go(server: &Server, login: &str) -> String {
    let attribute = ["--attribute", "account=acc-9"];
    let words = [&["user", "add", login, "--role", "admin", "--json"], &attribute[..]].concat();
    let (code, out, err) = spoken(&server.cli(&words));
    assert_eq!(code, 0, "{err}");
    let added: Value = serde_json::from_str(&out).expect("JSON");
    let password = added["one_off_password"].as_str().expect("shown once").to_owned();
    assert!(password.len() > 20);
    let (_, out, _) = spoken(&server.cli(&["user", "list"]));
    assert!(out.contains(login) && out.contains("admin") && out.contains("active"), "{out}");
    assert!(!out.contains(&password));
    for (words, says) in [
        (&["user", "add", login][..], "taken"),
        (&["user", "add", "x", "--role", "amdin"], "amdin"),
        (&["user", "add", "x", "--attribute", "color=red"], "color"),
        (&["user", "add", "x", "--attribute", "account"], "NAME=VALUE"),
        (&["user", "add", "a b"], "white space"),
        (&["user", "disable", "nobody"], "no such user"),
    ] {
        let (code, _, err) = spoken(&server.cli(words));
        assert_eq!(code, 1, "{words:?}: {err}");
        assert!(err.contains(says), "{words:?}: {err}");
    }
    password
}

fn first_login(server: &Server, login: &str, password: &str) -> String {
    let mut browser = Browser::new(server);
    let page = browser.begin(&Errand::new());
    let page = browser.password(&page, login, password);
    assert!(code_in(&page).is_none());
    page.text()
}

#[test]
fn a_client_is_added_with_a_key_of_its_own_and_fetches_a_token() {
    use std::os::unix::fs::PermissionsExt;
    let server = Plan::default().people(1).start();
    let key = server.path().join("robot.pem");
    let key = key.to_str().expect("a path");
    let scopes = ["--scopes", "payments:settle", "--new-key", key];
    let waivers = ["--waive-bearer-tokens", "2099-12-31", "--waive-no-par", "2099-12-31"];
    // A refused client leaves no key behind.
    let refused = [&["client", "add", "ledger"], &scopes[..], &waivers[..]].concat();
    let (code, _, err) = spoken(&server.cli(&refused));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("ledger") && !Path::new(key).exists(), "{err}");
    // FAPI 2.0 is the default: no waiver is needed, and its tokens are bound.
    let words = [&["client", "add", "robot"], &scopes[..]].concat();
    let (code, out, err) = spoken(&server.cli(&words));
    assert_eq!(code, 0, "{out}{err}");
    let mode = std::fs::metadata(key).expect("a key").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let (_, out, _) = spoken(&server.cli(&["client", "list"]));
    let lives_in = |id: &str| {
        let line = out.lines().find(|line| line.trim_start().starts_with(id)).expect("listed");
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1..4).map(|words| words.join(" "))
    };
    assert_eq!(lives_in("robot").as_deref(), Some("service fapi2 store"));
    assert!(lives_in("ledger").is_some_and(|words| words.ends_with("file")), "{out}");
    let claims = claims_of(&server.fetch("robot"));
    assert_eq!(
        (&claims["client_id"], &claims["scope"]),
        (&"robot".into(), &"payments:settle".into())
    );
    assert!(claims["cnf"]["jkt"].is_string(), "{claims}");
}

#[test]
fn reload_says_what_came_of_it() {
    let mut server = Plan::default().people(1).start();
    let (code, out, err) = spoken(&server.cli(&["reload", "--wait"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("generation"), "{out}");
    let good = std::fs::read_to_string(server.config_path()).expect("a config");
    std::fs::write(server.config_path(), good.replace("[limits]", "[limist]")).expect("written");
    let (code, _, err) = spoken(&server.cli(&["reload", "--wait"]));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("[limits]") || err.contains("`limits`"), "{err}");
    std::fs::write(server.config_path(), good).expect("written");
    server.signal("TERM");
    server.ended();
    let (code, _, err) = spoken(&server.cli(&["reload"]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("no server runs"), "{err}");
}

/// A document of an API with something open, something for people, and something unsaid.
const DOCUMENT: &str = "openapi: 3.1.0
info: { title: Things API, version: '1' }
paths:
  /things:
    get: { security: [{ oauth: ['things:read'] }], responses: { '200': { description: ok } } }
  /open:
    get: { security: [], responses: { '200': { description: ok } } }
components:
  securitySchemes:
    oauth:
      type: oauth2
      flows:
        authorizationCode:
          authorizationUrl: https://localhost/a
          tokenUrl: https://localhost/t
          scopes: { 'things:read': Read things }
";

#[test]
fn from_a_document_to_a_server_that_protects_it() {
    let folder = folder();
    let upstream = Upstream::start();
    std::fs::write(folder.path().join("things.yaml"), DOCUMENT).expect("written");
    let url = format!("http://127.0.0.1:{}", upstream.port);
    let words = ["init", "--openapi", "things.yaml", "--upstream", &url];
    let (code, out, err) = run(folder.path(), &words);
    assert_eq!(code, 0, "{out}{err}");
    let (code, _, err) = run(folder.path(), &words);
    assert!(code == 2 && err.contains("not overwritten"), "{err}");
    // A person decides what is open; until then it is a gap, and closed.
    let (code, out, _) = run(folder.path(), &["check"]);
    assert!(code == 1 && out.contains("REVIEW-PUBLIC"), "{out}");
    let path = folder.path().join("portcullis.toml");
    let written = std::fs::read_to_string(&path).expect("a config");
    let (api, health) = (ports::free(), ports::free());
    let decided = written
        .replace("REVIEW-PUBLIC", "anyone")
        .replace("8443", &api.to_string())
        .replace("8444", &ports::free().to_string())
        .replace("[server]\n", &format!("[server]\nhealth = \"127.0.0.1:{health}\"\n"));
    std::fs::write(&path, decided).expect("written");
    let (code, out, err) = run(folder.path(), &["check"]);
    assert_eq!(code, 0, "{out}{err}");
    serves(folder.path(), api, health);
    let lines: Vec<String> = upstream.take().into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines, ["GET /open"]);
}

/// Serves what stands in a folder, and asks for something open, something closed and nothing.
fn serves(folder: &Path, api: u16, health: u16) {
    let mut command = Command::new(binary());
    command.arg("serve").current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
    wait_for("ready", || {
        let mut wire = Wire::plain(health).ok()?;
        wire.send(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").ok()?;
        wire.answer().filter(|answer| answer.status == 200)
    });
    let ca = std::fs::read(folder.join("data").join("ca.pem")).expect("a CA");
    let trust = wire::trust(&ca, &[]);
    let ask = |target: &str| {
        let mut wire = Wire::tls(api, "localhost", trust.clone()).expect("connected");
        let text = format!("GET {target} HTTP/1.1\r\nhost: localhost:{api}\r\n\r\n");
        wire.send(text.as_bytes()).expect("sent");
        wire.answer().expect("an answer").status
    };
    let statuses = [ask("/open"), ask("/things"), ask("/nothing")];
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(statuses, [200, 401, 404]);
}
