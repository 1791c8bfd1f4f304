//! The authorization code: sealed, 60 seconds, bound to everything that the user agreed to.
//!
//! It carries the id of the grant that it will create, so that redeeming it is one unique insert
//! and no row exists for a code that nobody redeems.

use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::FactorTimes;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::scope::Scopes;
use portcullis_core::seal::Purpose;
use portcullis_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::consent::Consented;
use crate::desk::Desk;
use crate::settings::CODE_S;

/// A code, opened.
#[derive(Serialize, Deserialize)]
pub(crate) struct Code {
    gid: Id<id::Grant>,
    client: Id<id::Client>,
    redirect: String,
    challenge: Challenge,
    nonce: Option<String>,
    scopes: Scopes,
    audience: Option<String>,
    session: Id<id::Session>,
    user: Id<id::User>,
    factors: FactorTimes,
    expires: i64,
}

/// What a client presents with a code.
pub(crate) struct Redemption<'a> {
    pub(crate) client: &'a Id<id::Client>,
    pub(crate) redirect_uri: Option<&'a str>,
    pub(crate) verifier: Option<&'a str>,
    pub(crate) resource: Option<&'a str>,
}

/// Seals a code. [`Consented`] comes from `AwaitingConsent::granted` alone.
pub(crate) fn mint(desk: &Desk, consented: Consented) -> String {
    let terms = consented.into_terms();
    let code = Code {
        gid: Id::mint(&*desk.shared.entropy),
        client: terms.client,
        redirect: terms.redirect,
        challenge: terms.challenge,
        nonce: terms.nonce,
        scopes: terms.scopes,
        audience: terms.audience,
        session: terms.session,
        user: terms.user,
        factors: terms.factors,
        expires: desk.in_seconds(CODE_S).unix(),
    };
    // An empty text opens nowhere; our own words are always JSON.
    desk.seal(Purpose::Code, &serde_json::to_vec(&code).unwrap_or_default())
}

/// Opens a code and checks all that it is bound to. Consumes nothing: a failed check leaves the
/// code good for its owner.
///
/// # Errors
/// `invalid_grant`, naming the first rule broken.
pub(crate) fn open(
    desk: &Desk,
    text: &str,
    redemption: &Redemption<'_>,
) -> Result<Code, OauthError> {
    let plain = desk.shared.sealer.open(Purpose::Code, text);
    let plain = plain.map_err(|_| refused("CodeForged", "the code is not one of this server"))?;
    let code: Code = serde_json::from_slice(plain.expose())
        .map_err(|_| refused("CodeForged", "the code is not one of this server"))?;
    // RFC 6749 §4.1.3: issued to this client.
    if &code.client != redemption.client {
        return Err(refused("CodeOfAnotherClient", "the code was issued to another client"));
    }
    // RFC 6749 §4.1.2: short-lived; §10.5.
    if desk.now.unix() >= code.expires {
        return Err(refused("CodeExpired", "the code has expired"));
    }
    // RFC 6749 §4.1.3: the redirect of the authorization request, identical.
    if redemption.redirect_uri != Some(code.redirect.as_str()) {
        return Err(refused(
            "RedirectOther",
            "redirect_uri is not that of the authorization request",
        ));
    }
    // RFC 7636 §4.6; RFC 9700 §4.8.2: every code of ours has a challenge.
    let Some(verifier) = redemption.verifier else {
        return Err(refused("VerifierMissing", "code_verifier is missing"));
    };
    if !code.challenge.answered_by(verifier) {
        return Err(refused("VerifierWrong", "code_verifier does not answer the challenge"));
    }
    // RFC 8707 §2.2: only the resource that was granted.
    if redemption.resource.is_some_and(|resource| code.audience.as_deref() != Some(resource)) {
        let description = "resource is not the one that was granted";
        return Err(OauthError::new(ErrorCode::InvalidTarget, "TargetOther", description));
    }
    Ok(code)
}

fn refused(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidGrant, rule, description)
}

impl Code {
    /// The grant that it creates.
    pub(crate) fn gid(&self) -> &Id<id::Grant> {
        &self.gid
    }
    /// Whose.
    pub(crate) fn user(&self) -> &Id<id::User> {
        &self.user
    }
    /// In which session.
    pub(crate) fn session(&self) -> &Id<id::Session> {
        &self.session
    }
    /// What.
    pub(crate) fn scopes(&self) -> &Scopes {
        &self.scopes
    }
    /// For which API.
    pub(crate) fn audience(&self) -> Option<&str> {
        self.audience.as_deref()
    }
    /// For the ID token.
    pub(crate) fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }
    /// When each factor was used, at authorization.
    pub(crate) fn factors(&self) -> FactorTimes {
        self.factors
    }
    /// Until when its use is remembered.
    pub(crate) fn expires(&self) -> Timestamp {
        Timestamp::from_unix(self.expires)
    }
}
