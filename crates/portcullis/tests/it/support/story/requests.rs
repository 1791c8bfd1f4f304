//! How the honest request of each verb looks: where it goes, its form, its proofs; and how it is
//! sent, once or many times at once.

use std::sync::Barrier;

use super::super::browser;
use super::super::corpus::story::{Change, How, Part, Step};
use super::super::server::{Server, request};
use super::super::wire::{Answer, Wire};
use super::cast::{self, Client, Request};
use super::tale::Tale;
use super::tokens::{self, Proven};

type Pairs = Vec<(String, String)>;

/// A request, ready to be sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) certificate: Option<String>,
    /// Whether it goes to the plain port, with the authority that it would have behind TLS.
    pub(super) clear: bool,
    /// Method and target.
    pub(super) line: String,
    pub(super) fields: Pairs,
    pub(super) body: String,
}

/// Where the endpoints of a verb are, and whether a client proves itself there.
fn endpoint(verb: &str) -> &'static str {
    match verb {
        "push" | "code" => "/oauth/par",
        "begin" => "/oauth/device",
        "introspect" => "/oauth/introspect",
        "revoke" => "/oauth/revoke",
        _ => "/oauth/token",
    }
}

/// The honest form of a verb.
fn form(tale: &Tale, verb: &str, client: &Client) -> Pairs {
    let kept = |name: &str| tale.kept(name);
    let grant = |name: &str| ("grant_type", name.to_owned());
    let urn = "urn:ietf:params:oauth:grant-type:";
    let pairs = match verb {
        "redeem" => vec![
            grant("authorization_code"),
            ("code", kept("code")),
            ("redirect_uri", client.redirect.to_owned()),
            ("code_verifier", kept("verifier")),
        ],
        "refresh" => vec![grant("refresh_token"), ("refresh_token", kept("refresh_token"))],
        "credentials" => {
            vec![grant("client_credentials"), ("scope", client.scope.to_owned())]
        }
        "exchange" => vec![
            grant(&format!("{urn}token-exchange")),
            ("subject_token", kept("access_token")),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token".to_owned()),
        ],
        "assert" => vec![
            grant(&format!("{urn}jwt-bearer")),
            ("assertion", kept("forged")),
            ("scope", client.scope.to_owned()),
        ],
        "begin" => vec![("scope", client.scope.to_owned())],
        "poll" => vec![grant(&format!("{urn}device_code")), ("device_code", kept("device_code"))],
        "introspect" | "revoke" => vec![("token", kept("access_token"))],
        _ => authorization(tale, client),
    };
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The parameters of an authorization request.
fn authorization(tale: &Tale, client: &Client) -> Vec<(&'static str, String)> {
    vec![
        ("response_type", "code".to_owned()),
        ("redirect_uri", client.redirect.to_owned()),
        ("scope", client.scope.to_owned()),
        ("state", "s1".to_owned()),
        ("code_challenge", tale.kept("challenge")),
        ("code_challenge_method", "S256".to_owned()),
    ]
}

/// The request of a client at an endpoint of its own.
pub(super) fn of_client(server: &Server, tale: &mut Tale, step: &Step) -> Outgoing {
    let verb = step.verb.as_str();
    let id = step.words[0].clone();
    let client = cast::client(&id);
    tale.client.clone_from(&id);
    let path = endpoint(verb);
    let mut out =
        at_door(server, step, if client.auth == "certificate" { "mtls" } else { "issuer" });
    out.line = format!("POST {path}");
    out.fields.push(("content-type".into(), "application/x-www-form-urlencoded".into()));
    let mut pairs = form(tale, verb, &client);
    if path == "/oauth/par" {
        pairs.push(("client_id".into(), id.clone()));
        if client.request == Request::SignedAndPushed {
            let object = tokens::object(server, step, &id, &pairs);
            pairs = vec![("request".into(), object), ("client_id".into(), id.clone())];
        }
    }
    prove(server, tale, step, (&id, &mut pairs, &mut out));
    let at_token = path == "/oauth/token";
    let mode = step.switch("proof").unwrap_or(if at_token { client.proof } else { "none" });
    change(&mut pairs, step.changes(Part::Parameter));
    let address = format!("https://{}:{}{path}", out.name, out.port);
    let about = Proven { method: "POST", address: &address, token: None };
    add_proofs(tale, step, (&about, mode), &mut out);
    change(&mut out.fields, step.changes(Part::Field));
    out.body = encoded(&pairs);
    out
}

/// Adds the client's proof of itself.
fn prove(
    server: &Server,
    tale: &mut Tale,
    step: &Step,
    (id, pairs, out): (&str, &mut Pairs, &mut Outgoing),
) {
    let named = pairs.iter().any(|(name, _)| name == "client_id");
    let mut add = |name: &str, value: &str| {
        if name != "client_id" || !named {
            pairs.push((name.to_owned(), value.to_owned()));
        }
    };
    let method = step.switch("auth").unwrap_or(cast::client(id).auth);
    let basic = |id: &str| {
        let plain =
            format!("{id}:{}", browser::encode(&[("", cast::SECRET)]).trim_start_matches('='));
        ("authorization".to_owned(), format!("Basic {}", base64(plain.as_bytes())))
    };
    match method {
        "none" => add("client_id", id),
        "certificate" => {
            add("client_id", id);
            if out.certificate.is_none() && step.switch("certificate").is_none() {
                out.certificate = Some(id.to_owned());
            }
        }
        "secret" => out.fields.push(basic(id)),
        method => {
            if method != "again" {
                tale.assertion = if method == "federated" {
                    tokens::federated(server, step, id)
                } else {
                    tokens::assertion(server, step, id)
                };
            }
            if method == "federated" {
                add("client_id", id);
            }
            add("client_assertion", &tale.assertion);
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            add("client_assertion_type", kind);
            if method == "basic" {
                out.fields.push(basic(id));
            }
        }
    }
}

/// The authorization request of a browser.
pub(super) fn authorize(tale: &mut Tale, step: &Step) -> String {
    let id = step.words[0].as_str();
    tale.client = id.to_owned();
    let client = cast::client(id);
    let mut pairs: Pairs = vec![("client_id".into(), id.to_owned())];
    if client.request == Request::Query {
        let own = authorization(tale, &client);
        pairs.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
    } else {
        pairs.push(("request_uri".into(), tale.kept("request_uri")));
    }
    change(&mut pairs, step.changes(Part::Parameter));
    format!("/oauth/authorize?{}", encoded(&pairs))
}

/// A call to an API, or to userinfo, with a token.
pub(super) fn call(server: &Server, tale: &mut Tale, step: &Step) -> Outgoing {
    let mut pairs: Pairs = vec![("token".into(), tale.kept("access_token"))];
    change(&mut pairs, step.changes(Part::Parameter));
    let token = pairs.first().map(|(_, value)| value.clone()).unwrap_or_default();
    let mut out = at_door(server, step, "issuer");
    let path = if step.verb == "userinfo" {
        tale.client.clone_from(&step.words[0]);
        out.line = "GET /oauth/userinfo".into();
        "/oauth/userinfo".to_owned()
    } else {
        let (name, path) = step.words[1].split_once('/').unwrap_or((&step.words[1], ""));
        (out.name, out.port) = (name.to_owned(), server.ports.api);
        out.clear = step.switch("door") == Some("plain");
        out.line = format!("{} /{path}", step.words[0]);
        format!("/{path}")
    };
    let shown = cast::client(&tale.client).auth == "certificate";
    if shown && step.switch("certificate").is_none() && step.switch("door").is_none() {
        out.certificate = Some(tale.client.clone());
    }
    let bound = tale.kept("token_type").eq_ignore_ascii_case("dpop");
    let scheme = step.switch("scheme").unwrap_or(if bound { "dpop" } else { "bearer" });
    match scheme {
        "none" => {}
        "dpop" => out.fields.push(("authorization".into(), format!("DPoP {token}"))),
        _ => out.fields.push(("authorization".into(), format!("Bearer {token}"))),
    }
    let mode = step.switch("proof").unwrap_or(if scheme == "dpop" { "own" } else { "none" });
    let address = format!("https://{}:{}{path}", out.name, out.port);
    let method = out.line.split(' ').next().unwrap_or_default().to_owned();
    let about = Proven { method: &method, address: &address, token: Some(&token) };
    add_proofs(tale, step, (&about, mode), &mut out);
    change(&mut out.fields, step.changes(Part::Field));
    out
}

fn add_proofs(
    tale: &mut Tale,
    step: &Step,
    (about, mode): (&Proven<'_>, &str),
    out: &mut Outgoing,
) {
    if mode == "none" {
        return;
    }
    if mode != "again" {
        tale.proof = tokens::proof(tale, step, about, mode);
    }
    out.fields.push(("dpop".into(), tale.proof.clone()));
    if mode == "doubled" {
        out.fields.push(("dpop".into(), tokens::proof(tale, step, about, "own")));
    }
}

fn at_door(server: &Server, step: &Step, door: &str) -> Outgoing {
    let name = match step.switch("door").unwrap_or(door) {
        "mtls" => "mtls.test",
        _ => "localhost",
    };
    let certificate = step.switch("certificate").filter(|name| *name != "none");
    Outgoing {
        name: name.to_owned(),
        port: server.ports.issuer,
        certificate: certificate.map(str::to_owned),
        ..Outgoing::default()
    }
}

/// Applies changes to names and values.
pub(super) fn change<'c>(pairs: &mut Pairs, changes: impl Iterator<Item = &'c Change>) {
    for change in changes {
        let at = pairs.iter().position(|(name, _)| *name == change.name);
        match (&change.how, at) {
            (How::Missing, _) => pairs.retain(|(name, _)| *name != change.name),
            (How::Says(text), Some(at)) => pairs[at].1.clone_from(text),
            (How::Says(text) | How::Again(text), _) => {
                pairs.push((change.name.clone(), text.clone()));
            }
        }
    }
}

pub(super) fn encoded(pairs: &[(String, String)]) -> String {
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    browser::encode(&pairs)
}

/// Sends a request on a connection of its own; 0 stands for no answer.
pub(super) fn send(server: &Server, out: &Outgoing) -> Answer {
    connect(server, out).and_then(|wire| converse(wire, out)).unwrap_or_default()
}

/// Sends requests at once: each connection is open before the first byte is sent. What shall happen
/// while they are under way is done meanwhile.
pub(super) fn send_at_once(
    server: &Server,
    outs: &[Outgoing],
    meanwhile: &dyn Fn(),
) -> Vec<Answer> {
    let gate = Barrier::new(outs.len() + 1);
    std::thread::scope(|scope| {
        let send = |out: &Outgoing| {
            let wire = connect(server, out);
            gate.wait();
            wire.and_then(|wire| converse(wire, out)).unwrap_or_default()
        };
        let threads: Vec<_> = outs.iter().map(|out| scope.spawn(move || send(out))).collect();
        gate.wait();
        meanwhile();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

fn connect(server: &Server, out: &Outgoing) -> Option<Wire> {
    if out.clear {
        return Wire::plain(server.ports.plain).ok();
    }
    let door = (out.port, out.name.as_str());
    server.connect_with(door, out.certificate.as_deref()).ok()
}

fn converse(mut wire: Wire, out: &Outgoing) -> Option<Answer> {
    // A server that has heard enough closes while we still send.
    drop(wire.send(&bytes(out)));
    wire.answer()
}

fn bytes(out: &Outgoing) -> Vec<u8> {
    let fields: Vec<(&str, &str)> =
        out.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let text = request(&out.line, out.port, &fields, out.body.as_bytes());
    let host = format!("host: localhost:{}", out.port);
    let named = format!("host: {}:{}", out.name, out.port);
    let text = String::from_utf8_lossy(&text).into_owned();
    text.replacen(&host, &named, 1).into_bytes()
}

/// Base64 with padding, for `Basic` (RFC 7617 §2).
fn base64(bytes: &[u8]) -> String {
    let text = portcullis_core::jose::base64url::encode(bytes);
    let padding = "=".repeat((4 - text.len() % 4) % 4);
    text.replace('-', "+").replace('_', "/") + &padding
}
