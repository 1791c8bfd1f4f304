//! Where an answer goes, and how it travels: the response modes (OAuth 2.0 Multiple Response Types
//! §2.1, Form Post Response Mode, JARM), errors like codes.
//!
//! An [`AnswerTo`] exists for a proven redirect alone. Never a fragment: what stands there is read
//! by every script of the page and left in histories.

use std::sync::Arc;

use portcullis_core::oauth::error::OauthError;
use portcullis_core::web::form_encode;
use serde_json::{Map, Value};

use crate::desk::Desk;
use crate::outcome::{FormPostPage, Show};

/// How long a signed answer is good, seconds (JARM §2.1: ten minutes at most is recommended).
const SIGNED_S: i64 = 600;

/// How an answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `query`, the default of `response_type=code`.
    Query,
    /// `form_post`.
    FormPost,
    /// `query.jwt`, and `jwt`, which is that for codes (JARM §2.3.4).
    QueryJwt,
    /// `form_post.jwt`.
    FormPostJwt,
}

impl Mode {
    /// From the parameter; `None` for what is not answered, `fragment` first of all.
    pub(crate) fn from_word(word: Option<&str>) -> Option<Self> {
        match word {
            None | Some("query") => Some(Mode::Query),
            Some("form_post") => Some(Mode::FormPost),
            Some("jwt" | "query.jwt") => Some(Mode::QueryJwt),
            Some("form_post.jwt") => Some(Mode::FormPostJwt),
            Some(_) => None,
        }
    }
}

/// A redirect proven to be the client's, with what every answer repeats.
#[derive(Clone, Debug)]
pub(crate) struct AnswerTo {
    pub(super) client: String,
    pub(super) redirect: String,
    pub(super) state: Option<String>,
    pub(super) issuer: Arc<str>,
    pub(super) mode: Mode,
}

/// Names and values of an answer.
type Fields = Vec<(&'static str, String)>;

impl AnswerTo {
    /// The redirect as the client sent it.
    pub(crate) fn redirect(&self) -> &str {
        &self.redirect
    }

    /// The answer with a code (RFC 6749 §4.1.2).
    pub(crate) fn with_code(&self, desk: &Desk, code: String) -> Show {
        self.show(desk, vec![("code", code)])
    }

    /// The answer with an error (RFC 6749 §4.1.2.1).
    pub(crate) fn with_error(&self, desk: &Desk, error: &OauthError) -> Show {
        let description = ("error_description", error.description.to_owned());
        self.show(desk, vec![("error", error.code.as_str().to_owned()), description])
    }

    /// The redirect's source for the page's `form-action`, and its host for people: browsers apply
    /// the directive to the redirect that follows a form too (CSP 3 §6.4.2).
    pub(crate) fn source(&self) -> String {
        let (scheme, rest) = self.redirect.split_once(':').unwrap_or((&self.redirect, ""));
        let host = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?']).next());
        match host {
            // CSP 3 §2.3.1: a host-source has no spelling for `[::1]`.
            Some(host) if !host.is_empty() && !host.starts_with('[') => {
                format!("{scheme}://{host}")
            }
            _ => format!("{scheme}:"),
        }
    }

    fn show(&self, desk: &Desk, mut fields: Fields) -> Show {
        // RFC 6749 §4.1.2: `state` as it came. RFC 9207 §2: `iss` in every answer, errors too,
        // against mix-up.
        fields.extend(self.state.clone().map(|state| ("state", state)));
        fields.push(("iss", self.issuer.to_string()));
        match self.mode {
            Mode::Query => Show::Redirect(self.with_query(&fields)),
            Mode::FormPost => Show::FormPost(self.form(fields)),
            Mode::QueryJwt => {
                let signed = self.signed(desk, fields);
                Show::Redirect(self.with_query(&[("response", signed)]))
            }
            Mode::FormPostJwt => {
                let signed = self.signed(desk, fields);
                Show::FormPost(self.form(vec![("response", signed)]))
            }
        }
    }

    /// JARM §2.1: what would be parameters, with `iss`, `aud` and `exp`, signed; RFC 9207 §2.4: the
    /// `iss` inside is the one that counts.
    fn signed(&self, desk: &Desk, fields: Fields) -> String {
        let said = fields.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
        let mut claims: Map<String, Value> = said.collect();
        claims.insert("aud".into(), self.client.clone().into());
        claims.insert("exp".into(), desk.in_seconds(SIGNED_S).unix().into());
        desk.shared.keyring.identity().sign("JWT", &claims)
    }

    fn form(&self, fields: Fields) -> FormPostPage {
        FormPostPage { action: self.redirect.clone(), fields, form_target: self.source() }
    }

    fn with_query(&self, fields: &[(&'static str, String)]) -> String {
        let mut location = self.redirect.clone();
        // RFC 6749 §3.1.2: a query of the redirect itself is kept.
        let mut separator = if location.contains('?') { '&' } else { '?' };
        for (name, value) in fields {
            location.push(separator);
            location.push_str(name);
            location.push('=');
            location.push_str(&form_encode(value));
            separator = '&';
        }
        location
    }
}

#[cfg(test)]
mod tests;
