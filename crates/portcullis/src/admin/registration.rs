//! A client's registration as the store keeps it: JSON, read back into the same record that the
//! file's clients become.

use anyhow::{anyhow, bail};
use portcullis_core::client::{
    Authentication, CertificateRule, ClientRecord, ClientType, GrantType, Registered, Waivers,
};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_core::web::{Address, Redirect};
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
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `grant_type` words; those of the kind when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<String>>,
    /// Where a logout may end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_logout: Vec<String>,
    /// Where logout tokens go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_channel_logout: Option<String>,
    /// The APIs whose tokens it introspects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub introspects: Vec<String>,
    /// `authorization_details` types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// A certificate's name instead of keys: `dns:…`, `spiffe://…`, or a subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
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
        let wants_redirect = !matches!(kind, ClientType::Service | ClientType::Device);
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
        if waivers.any() && !confidential {
            bail!("a {} client has nothing to waive", self.kind);
        }
        let authentication = match (confidential, self.keys, self.certificate.as_deref()) {
            (false, None, None) => Authentication::None,
            (true, Some(keys), None) => {
                Authentication::Keys(JwkSet::from_json(keys.to_string().as_bytes())?)
            }
            (true, None, Some(rule)) => Authentication::Certificate(certificate(rule)?),
            (true, Some(_), Some(_)) => bail!("a client has keys or a certificate, not both"),
            (true, None, None) => {
                bail!("a confidential client needs a key: add --new-key FILE or --keys FILE")
            }
            (false, _, _) => bail!("a {} client has no key", self.kind),
        };
        let base = ClientRecord::new(id.clone(), kind, authentication);
        let parsed = |texts: &[String]| -> anyhow::Result<Vec<Redirect>> {
            Ok(texts.iter().map(|text| Redirect::parse(text)).collect::<Result<_, _>>()?)
        };
        Ok(ClientRecord {
            redirects,
            scopes: Scopes::parse(&self.scopes)?,
            waivers,
            name: self.name,
            grants: match &self.grants {
                Some(words) => grants(words)?,
                None => base.grants.clone(),
            },
            post_logout: parsed(&self.post_logout)?,
            back_channel_logout: match &self.back_channel_logout {
                Some(text) => Some(Address::parse(text)?),
                None => None,
            },
            introspects: self.introspects,
            details: self.details,
            registered: Registered::Store,
            ..base
        })
    }
}

fn grants(words: &[String]) -> anyhow::Result<Vec<GrantType>> {
    let read = |word: &String| {
        GrantType::from_word(word).ok_or_else(|| {
            let known: Vec<&str> = GrantType::ALL.map(GrantType::as_str).into();
            anyhow!("`{word}` is not a grant: write one of {}", known.join(", "))
        })
    };
    words.iter().map(read).collect()
}

fn certificate(rule: &str) -> anyhow::Result<CertificateRule> {
    Ok(match rule.split_once(':') {
        Some(("dns", name)) if !name.is_empty() => CertificateRule::Dns(name.to_ascii_lowercase()),
        Some(("spiffe" | "https" | "uri", _)) => CertificateRule::Uri(rule.to_owned()),
        _ if rule.contains('=') => CertificateRule::Subject(rule.to_owned()),
        _ => bail!("`{rule}` names nothing in a certificate: write dns:HOST, spiffe://… or CN=…"),
    })
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
