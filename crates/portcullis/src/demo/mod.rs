//! The demo: everything on loopback. A sample payments API, the gateway in front of it, the login,
//! two people and two services, and an application to try it with.

mod app;
mod stage;
mod tour;
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use portcullis_core::entropy::ProviderEntropy;
use portcullis_core::jose::base64url;
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::otp::TotpSecret;
use portcullis_core::web::form_encode;

use crate::https_client::Client;

/// Where everything of a demo is.
#[derive(Clone)]
pub(crate) struct Place {
    /// The demo's own directory.
    pub(crate) home: PathBuf,
    /// The API's `at`.
    pub(crate) api: String,
    /// The issuer.
    pub(crate) issuer: String,
    /// The plain listener.
    pub(crate) plain: String,
    /// The application's address.
    pub(crate) app: String,
    /// Its redirect.
    pub(crate) redirect: String,
}

/// One of the demo's people.
pub(crate) struct Person {
    /// Login name.
    pub(crate) login: String,
    /// The password, made at this start.
    pub(crate) password: String,
    /// The authenticator.
    pub(crate) totp: TotpSecret,
    /// The account they own.
    pub(crate) account: String,
}

/// Runs the demo until it is interrupted, or the tour to its end. Returns the exit code.
///
/// # Errors
/// When a port is taken or the directory cannot be written; the text says which and what to do.
pub(crate) fn run(tour: Tour) -> anyhow::Result<u8> {
    let entropy = Arc::new(ProviderEntropy::default());
    let stage = stage::Stage::set(&tour, entropy.clone())?;
    match tour {
        Tour::Yes => {
            let outcome = stage.runtime.block_on(tour::walk(&stage));
            let code = outcome?;
            stage.close();
            Ok(code)
        }
        Tour::No => {
            print!("{}", stage.invitation());
            stage.runtime.block_on(stage.serve_app(entropy))?;
            stage.close();
            Ok(0)
        }
    }
}

/// Whether the demo shows itself, or waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tour {
    /// `demo --tour`.
    Yes,
    /// `demo`.
    No,
}

impl Place {
    fn authorize_url(&self, state: &str, challenge: &Challenge) -> String {
        format!(
            "{}/oauth/authorize?response_type=code&client_id=app&redirect_uri={}&scope={}&state={}\
             &code_challenge={}&code_challenge_method=S256",
            self.issuer,
            form_encode(&self.redirect),
            form_encode("openid payments:read payments:write"),
            form_encode(state),
            challenge.as_str(),
        )
    }

    fn token_url(&self) -> String {
        format!("{}/oauth/token", self.issuer)
    }

    fn ca(&self) -> PathBuf {
        self.home.join("data").join("ca.pem")
    }

    fn client(&self) -> anyhow::Result<Client> {
        let path = self.ca();
        let pem = std::fs::read(&path).with_context(|| format!("`{}`", path.display()))?;
        Client::trusting(&pem)
    }

    /// Lines to paste once a token is there.
    fn curls_for(&self, token: &str, account: &str) -> Vec<String> {
        let ca = stage::beside(&self.ca());
        let curl = format!("curl --cacert {ca} -H \"Authorization: Bearer $TOKEN\" {}", self.api);
        let other = if account == "acc-alice" { "acc-bob" } else { "acc-alice" };
        vec![
            format!("TOKEN={token}"),
            format!("# 200: your own account\n{curl}/accounts/{account}"),
            format!("# 403: another's\n{curl}/accounts/{other}"),
        ]
    }
}

/// The claims of a token, unverified: for showing.
fn claims_of(token: &str) -> serde_json::Value {
    let payload = token.split('.').nth(1).and_then(|part| base64url::decode(part).ok());
    payload.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}
