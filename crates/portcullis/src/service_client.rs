//! A service as a client of its own server: `private_key_jwt`, DPoP, and the proof for each request.
//! What `token fetch` and the demo's tour do, as any client would.

use anyhow::bail;
use portcullis_core::entropy::ProviderEntropy;
use portcullis_core::jose::dpop::{self, Expected};
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::oauth::token::ASSERTION_TYPE;
use portcullis_core::time::Timestamp;
use serde_json::Value;

use crate::cli::token::assertion;
use crate::https_client::{Answer, Client};

/// A service with its key.
pub(crate) struct ServiceClient<'c> {
    /// How it reaches the server.
    pub(crate) https: &'c Client,
    /// Its id.
    pub(crate) id: &'c str,
    /// Its private key, PEM: for assertions and for proofs.
    pub(crate) pem: &'c str,
    /// The server.
    pub(crate) issuer: &'c str,
}

/// A token that is bound to the client's key, and the nonce for the next proof.
pub(crate) struct Fetched {
    /// The whole answer.
    pub(crate) document: Value,
    /// The token.
    pub(crate) token: String,
    /// The server's nonce.
    pub(crate) nonce: Option<String>,
}

impl ServiceClient<'_> {
    /// Asks for a token; once more with the server's nonce, as RFC 9449 §8 has it.
    ///
    /// # Errors
    /// What the server answered instead.
    pub(crate) async fn fetch(
        &self,
        further: &[(&str, &str)],
        now: Timestamp,
    ) -> anyhow::Result<Fetched> {
        let issuer = self.issuer.trim_end_matches('/');
        let url = format!("{issuer}/oauth/token");
        let key = SigningKey::from_pem(self.pem)?;
        let mut nonce = None;
        for _ in 0..2 {
            let asserted = assertion(self.pem, self.id, issuer, now)?;
            let mut form = vec![
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", asserted.expose().as_str()),
            ];
            form.extend_from_slice(further);
            let expected = Expected { method: "POST", url: &url, token: None };
            let entropy = ProviderEntropy::default();
            let proof = dpop::prove(&key, &expected, nonce.as_deref(), (&entropy, now));
            let answer = self.https.post(&url, &[("dpop", &proof)], &form).await?;
            let document = answer.json();
            if document.get("error").and_then(Value::as_str) == Some("use_dpop_nonce") {
                nonce = nonce_of(&answer);
                continue;
            }
            let Some(token) = document.get("access_token").and_then(Value::as_str) else {
                bail!("the server answered {}: {}", answer.status, answer.text());
            };
            let token = token.to_owned();
            return Ok(Fetched { document, token, nonce: nonce_of(&answer) });
        }
        bail!("the server asks for a nonce again and again")
    }

    /// The proof for one request with a token (RFC 9449 §7).
    ///
    /// # Errors
    /// When the key is none.
    pub(crate) fn proof(
        &self,
        (method, url): (&str, &str),
        fetched: &Fetched,
        now: Timestamp,
    ) -> anyhow::Result<String> {
        let key = SigningKey::from_pem(self.pem)?;
        let url = url.split(['?', '#']).next().unwrap_or(url);
        let expected = Expected { method, url, token: Some(&fetched.token) };
        let entropy = ProviderEntropy::default();
        Ok(dpop::prove(&key, &expected, fetched.nonce.as_deref(), (&entropy, now)))
    }
}

fn nonce_of(answer: &Answer) -> Option<String> {
    Some(answer.field("dpop-nonce")).filter(|nonce| !nonce.is_empty()).map(str::to_owned)
}
