//! A client's registration as the store keeps it: JSON, read back into the same record that the
//! file's clients become.

use anyhow::{anyhow, bail};
use portcullis_core::client::{Authentication, ClientRecord, ClientType, Waivers};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_core::web::Redirect;
use serde::{Deserialize, Serialize};

/// Most redirects of a client.
const MAX_REDIRECTS: usize = 16;

/// A registration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registration {
    /// `spa`, `native`, `web` or `service`.
    pub kind: String,
    /// Redirect URIs.
    pub redirects: Vec<String>,
    /// Scopes, space-separated.
    pub scopes: String,
    /// Public keys, for confidential clients.
    pub keys: Option<serde_json::Value>,
    /// `waivers.bearer_tokens`, a date.
    pub bearer_tokens: Option<String>,
    /// `waivers.no_par`, a date.
    pub no_par: Option<String>,
}

impl Registration {
    /// Judges and reads it. `now` decides whether a waiver has run out.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(crate) fn record(
        self,
        id: &Id<id::Client>,
        now: Timestamp,
    ) -> anyhow::Result<ClientRecord> {
        let kind = super::kind_of(&self.kind)?;
        if self.redirects.len() > MAX_REDIRECTS {
            bail!("at most {MAX_REDIRECTS} redirects");
        }
        let redirects: Vec<Redirect> =
            self.redirects.iter().map(|text| Redirect::parse(text)).collect::<Result<_, _>>()?;
        let wants_redirect = kind != ClientType::Service;
        if wants_redirect == redirects.is_empty() {
            bail!(
                "a {} client {} a redirect",
                self.kind,
                if wants_redirect { "needs" } else { "has no" }
            );
        }
        let waivers = Waivers {
            bearer_tokens: date("bearer_tokens", self.bearer_tokens.as_deref(), now)?,
            no_par: date("no_par", self.no_par.as_deref(), now)?,
            client_secret: None,
        };
        let confidential = matches!(kind, ClientType::Web | ClientType::Service);
        if confidential && (waivers.bearer_tokens.is_none() || waivers.no_par.is_none()) {
            bail!(
                "until PAR and DPoP are built, a confidential client needs dated waivers: add \
                 --waive-bearer-tokens DATE and --waive-no-par DATE"
            );
        }
        let authentication = match (confidential, self.keys) {
            (false, None) => Authentication::None,
            (true, Some(keys)) => {
                Authentication::Keys(JwkSet::from_json(keys.to_string().as_bytes())?)
            }
            (true, None) => {
                bail!("a confidential client needs a key: add --new-key FILE or --keys FILE")
            }
            (false, Some(_)) => bail!("a {} client has no key", self.kind),
        };
        Ok(ClientRecord {
            id: id.clone(),
            kind,
            redirects,
            scopes: Scopes::parse(&self.scopes)?,
            authentication,
            waivers,
            first_party: false,
        })
    }
}

fn date(name: &str, text: Option<&str>, now: Timestamp) -> anyhow::Result<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let until = Timestamp::parse(text)
        .ok_or_else(|| anyhow!("`{text}` is not a date: write waiver {name} as 2027-03-31"))?;
    if until <= now {
        bail!("the waiver {name} ran out on {text}: write a later date");
    }
    Ok(Some(until))
}
