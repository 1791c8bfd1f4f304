//! What the script wants done: one JSON file.

use serde::Deserialize;

use crate::Fault;

/// The plan of a run.
#[derive(Deserialize)]
pub(crate) struct Plan {
    /// Where the server listens.
    pub(crate) address: String,
    /// `Host`, and the name of the certificate with the port.
    pub(crate) host: String,
    /// The server's certificate, PEM.
    pub(crate) certificate: String,
    /// What is asked for again and again.
    pub(crate) kind: Kind,
    /// `iss`: the audience of assertions.
    pub(crate) issuer: String,
    /// Paths of the endpoints.
    pub(crate) token: String,
    pub(crate) authorize: String,
    pub(crate) par: String,
    pub(crate) client: String,
    /// The client's secret: `client_secret_basic`.
    #[serde(default)]
    pub(crate) secret: Option<String>,
    /// The client's key, a PEM file: `private_key_jwt`.
    #[serde(default)]
    pub(crate) key: Option<String>,
    /// Whether a DPoP proof goes with each token request.
    #[serde(default)]
    pub(crate) dpop: bool,
    /// Whether the authorization request is pushed.
    #[serde(default)]
    pub(crate) pushed: bool,
    pub(crate) scope: String,
    pub(crate) resource: String,
    #[serde(default)]
    pub(crate) redirect: String,
    /// `Cookie` fields of people who are signed in; the connections take turns.
    #[serde(default)]
    pub(crate) cookies: Vec<String>,
    pub(crate) connections: usize,
    pub(crate) warm_up: f64,
    pub(crate) seconds: f64,
    /// Assertions, and proofs, that are signed ahead.
    pub(crate) prepared: usize,
}

/// What counts as one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A token by client credentials.
    ClientCredentials,
    /// A token by a refresh token.
    Refresh,
    /// From the authorization request to the tokens.
    Code,
}

impl Plan {
    pub(crate) fn read(path: &str) -> Result<Self, Fault> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}
