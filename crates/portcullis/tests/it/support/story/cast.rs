//! Who plays in stories: the clients of the tests' config with what an honest request of each looks
//! like, and their keys and certificates, written before the server starts.

use std::path::Path;

use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::sign::SigningKey;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) id: &'static str,
    /// How it proves who it is.
    pub(crate) auth: &'static str,
    /// Its redirect; nothing for those without.
    pub(crate) redirect: &'static str,
    /// What it asks for.
    pub(crate) scope: &'static str,
    /// Whether its tokens are bound by proofs unless a step says otherwise.
    pub(crate) proof: &'static str,
    /// Whether it pushes its requests, and signs them.
    pub(crate) request: Request,
}

/// How an authorization request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Query,
    Pushed,
    SignedAndPushed,
}

const LOOPBACK: &str = super::super::browser::REDIRECT;

const fn public(id: &'static str, redirect: &'static str, scope: &'static str) -> Client {
    Client { id, auth: "none", redirect, scope, proof: "none", request: Request::Query }
}

const fn web(id: &'static str, redirect: &'static str, request: Request) -> Client {
    let scope = "openid payments:read";
    Client { id, auth: "assertion", redirect, scope, proof: "own", request }
}

const fn service(id: &'static str, scope: &'static str, auth: &'static str) -> Client {
    let proof = if matches!(auth.as_bytes(), b"certificate") { "none" } else { "own" };
    Client { id, auth, redirect: "", scope, proof, request: Request::Query }
}

/// The clients of `plan.toml` that stories know.
const CAST: &[Client] = &[
    public("app", LOOPBACK, "openid payments:read"),
    public("other", LOOPBACK, "openid payments:read"),
    public("page", "https://app.test/cb", "payments:read"),
    public("offline", LOOPBACK, "openid payments:read offline_access"),
    public("tv", "", "payments:read"),
    web("web", "https://web.test/cb", Request::Pushed),
    web("rival", "https://rival.test/cb", Request::Pushed),
    web("signed", "https://signed.test/cb", Request::SignedAndPushed),
    web("pair", "https://pair.test/cb", Request::Pushed),
    Client {
        id: "old",
        auth: "secret",
        redirect: "https://old.test/cb",
        scope: "openid payments:read",
        proof: "none",
        request: Request::Query,
    },
    Client { proof: "none", ..service("ledger", "payments:settle", "assertion") },
    Client { proof: "none", ..service("auditor", "settlements:read", "assertion") },
    service("settler", "bound:read", "assertion"),
    service("partner", "bound:read", "certificate"),
    service("chained", "bound:read", "certificate"),
    service("proxy", "bound:read", "assertion"),
    service("spy", "bound:read", "assertion"),
    service("teller", "payments:read", "assertion"),
    service("worker", "bound:read", "federated"),
];

/// The secret of `old`.
pub(crate) const SECRET: &str = "a secret of the tests, long enough";

/// A client by its id; one that nobody registered speaks as a native application.
pub(crate) fn client(id: &str) -> Client {
    let found = CAST.iter().find(|client| client.id == id).copied();
    found.unwrap_or_else(|| public("", LOOPBACK, "payments:read"))
}

/// The ids of those with a key of their own.
pub(crate) fn with_keys() -> impl Iterator<Item = &'static str> {
    CAST.iter().filter(|client| client.auth == "assertion").map(|client| client.id)
}

/// Writes keys, certificates and the secret into a folder.
pub(crate) fn dress(folder: &Path) {
    let write =
        |name: String, text: &str| std::fs::write(folder.join(name), text).expect("written");
    for id in with_keys() {
        let key = SigningKey::generate(Algorithm::EdDsa).expect("a key");
        let set = JwkSet::new(vec![key.public()]).to_json().to_string();
        write(format!("{id}.jwks.json"), &set);
        write(format!("{id}.pem"), key.to_pem().expose());
    }
    write("old.secret".into(), SECRET);
    let authority = |name: &str| {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        (pem, Issuer::new(params, key))
    };
    let (pem, ours) = authority("the clients' authority");
    let (_, theirs) = authority("another authority");
    write("clients-ca.pem".into(), &pem);
    for (file, name, signer) in [
        ("partner", "partner.test", None),
        ("stranger", "partner.test", None),
        ("chained", "chained.test", Some(&ours)),
        ("cousin", "cousin.test", Some(&ours)),
        ("forged", "chained.test", Some(&theirs)),
    ] {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = match signer {
            None => params.self_signed(&key),
            Some(authority) => params.signed_by(&key, authority),
        };
        write(format!("{file}.pem"), &certificate.expect("signed").pem());
        write(format!("{file}-key.pem"), &key.serialize_pem());
    }
}
