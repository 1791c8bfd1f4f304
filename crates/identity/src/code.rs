//! The authorization code: sealed, 60 seconds, bound to everything that the user agreed to.
//!
//! It carries the id of the grant that it will create, so that redeeming it is one unique insert
//! and no row exists for a code that nobody redeems.

use portcullis_core::client::ClientRecord;
use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::{Confirmation, FactorTimes};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::scope::Scopes;
use portcullis_core::seal::Purpose;
use portcullis_core::time::Timestamp;
use portcullis_store::grants::GrantLife;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::consent::Consented;
use crate::desk::Desk;
use crate::documents;
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dpop_jkt: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    details: Vec<Value>,
    #[serde(default)]
    offline: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    document: Option<String>,
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
        dpop_jkt: terms.dpop_jkt,
        details: terms.details,
        offline: terms.offline,
        document: terms.document,
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
    /// Checks the key that the redemption proves against the one that the authorization request
    /// named. Consumes nothing, as [`open`].
    ///
    /// # Errors
    /// `invalid_grant`: RFC 9449 §10, a mismatch MUST be rejected; nothing shown is a mismatch.
    pub(crate) fn fits(&self, binding: Option<&Confirmation>) -> Result<(), OauthError> {
        let shown = match binding {
            Some(Confirmation::Key(thumbprint)) => Some(thumbprint),
            Some(Confirmation::Certificate(_)) | None => None,
        };
        match &self.dpop_jkt {
            Some(wanted) if shown != Some(wanted) => {
                let description = "the DPoP key is not that of the authorization request";
                Err(refused("DpopKeyOther", description))
            }
            Some(_) | None => Ok(()),
        }
    }
    /// Whether a client that is its document is still what the user agreed to.
    pub(crate) fn is_of(&self, client: &ClientRecord) -> bool {
        documents::digest(client) == self.document
    }
    /// Where it was sent.
    pub(crate) fn redirect(&self) -> &str {
        &self.redirect
    }
    /// What was agreed to in detail.
    pub(crate) fn details(&self) -> &[Value] {
        &self.details
    }
    /// Whether the grant outlives its session.
    pub(crate) fn life(&self) -> GrantLife {
        if self.offline { GrantLife::Offline } else { GrantLife::Session }
    }
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

#[cfg(test)]
mod tests {
    use portcullis_core::oauth::token::TokenAnswer;
    use portcullis_core::time::Clock;
    use portcullis_store::database::Tx;
    use serde_json::json;

    use super::*;
    use crate::outcome::{Answered, Presented};
    use crate::testing::*;
    use crate::token::testing::*;

    /// A code of ada's in the session `s_one` for `app`, changed.
    fn sealed(world: &World, change: impl FnOnce(&mut Code)) -> String {
        let mut code = Code {
            gid: Id::parse("g_new").expect("id"),
            client: Id::parse("app").expect("id"),
            redirect: REDIRECT.into(),
            challenge: Challenge::of(VERIFIER),
            nonce: None,
            scopes: Scopes::parse("payments:read").expect("scopes"),
            audience: Some(PAYMENTS.into()),
            session: Id::parse("s_one").expect("id"),
            user: Id::parse("u_ada").expect("id"),
            factors: FactorTimes { pwd: Some(NOW.unix()), ..FactorTimes::default() },
            dpop_jkt: None,
            details: Vec::new(),
            offline: false,
            document: None,
            expires: world.clock.now().unix() + CODE_S,
        };
        change(&mut code);
        let plain = serde_json::to_vec(&code).expect("JSON");
        world.identity.desk().seal(Purpose::Code, &plain)
    }

    async fn world() -> World {
        let world = World::with(plain).await;
        with_ada(&world).await;
        world
    }

    async fn redeemed(world: &World, code: &str, presented: Presented) -> Answered<TokenAnswer> {
        world.identity.token(&[], &parameters(&redemption(code)), presented).await
    }

    /// RFC 9449 §10.
    #[tokio::test]
    async fn dpop_jkt_mismatch() {
        let (world, holder, other) = (world().await, Holder::new(), Holder::new());
        let code = sealed(&world, |code| code.dpop_jkt = Some(holder.thumbprint()));
        for presented in [Presented::default(), other.shows(&world)] {
            let answered = redeemed(&world, &code, presented).await;
            assert_eq!(refused_as(&answered), ("invalid_grant", "DpopKeyOther"));
        }
        let answer = ok(redeemed(&world, &code, holder.shows(&world)).await);
        assert_eq!(answer.token_type, "DPoP", "a mismatch used nothing up");
    }

    #[tokio::test]
    async fn details_are_never_widened_by_the_token_request() {
        let world = World::with(|settings| {
            plain(settings);
            amend(settings, "app", |app| app.details = vec!["payment".into()]);
        })
        .await;
        with_ada(&world).await;
        let (five, seven) =
            (json!({"type": "payment", "n": 5}), json!({"type": "payment", "n": 7}));
        let account = json!({"type": "account"});
        let agreed = vec![five.clone(), seven.clone(), account.clone()];
        let code = sealed(&world, |code| code.details = agreed);
        let asking = async |details: serde_json::Value| {
            let details = details.to_string();
            let mut form = redemption(&code).to_vec();
            form.push(("authorization_details", &details));
            world.token(&form).await
        };
        let answered = asking(json!([{"type": "payment", "n": 6}])).await;
        let expected = ("invalid_authorization_details", "DetailsWidened");
        assert_eq!(refused_as(&answered), expected);
        let answer = ok(asking(json!([seven, account])).await);
        // A type that the client is no longer registered for is not given.
        assert_eq!(json!(answer.authorization_details), json!([seven]));
        let claims = world.claims(&answer.access_token).expect("lives");
        assert_eq!(json!(claims.authorization_details), json!([seven]));
        // The grant is whole.
        let token = answer.refresh_token.expect("may refresh");
        let answer = ok(refreshed(&world, &token).await);
        assert_eq!(answer.authorization_details, [five, seven]);
    }

    #[tokio::test]
    async fn what_the_grant_keeps_of_a_code() {
        let (world, holder) = (world().await, Holder::new());
        let code = sealed(&world, |code| code.offline = true);
        ok(redeemed(&world, &code, holder.shows(&world)).await);
        let grant = stored(&world, "new").await;
        assert_eq!(grant.life, GrantLife::Offline);
        assert_eq!(grant.factors.pwd, Some(NOW.unix()));
        let bound = serde_json::to_string(&Confirmation::Key(holder.thumbprint())).expect("JSON");
        assert_eq!(grant.binding, Some(bound));
        assert_eq!((grant.family.counter, grant.family.graces), (1, 0));
        assert_eq!(grant.family.expires, NOW.after(seconds(12 * 3_600)));
        let now = world.clock.now();
        let session = Id::parse("s_one").expect("id");
        world.change(async move |tx: &Tx| tx.end_session(&session, now).await).await;
        let form = parameters(&refreshing(&nth("new", 1)));
        ok(world.identity.token(&[], &form, holder.shows(&world)).await);
    }

    #[tokio::test]
    async fn redirect_unregistered_since_the_code() {
        let world = world().await;
        let code = sealed(&world, |_| {});
        world.reload(|settings| {
            plain(settings);
            amend(settings, "app", |app| app.redirects.clear());
        });
        let answered = redeemed(&world, &code, Presented::default()).await;
        assert_eq!(refused_as(&answered), ("invalid_grant", "RedirectUnregistered"));
    }

    /// `6-attacks`: a document changed between authorize and token. (`app` is none, so that any
    /// document is another.)
    #[tokio::test]
    async fn client_document_changed_since_the_code() {
        let world = world().await;
        let code = sealed(&world, |code| code.document = Some("AAAA".into()));
        let answered = redeemed(&world, &code, Presented::default()).await;
        assert_eq!(refused_as(&answered), ("invalid_grant", "ClientDocumentChanged"));
    }

    #[tokio::test]
    async fn client_without_codes_since_the_code() {
        let world = world().await;
        let code = sealed(&world, |_| {});
        world.reload(|settings| {
            plain(settings);
            amend(settings, "app", |app| app.grants.clear());
        });
        let answered = redeemed(&world, &code, Presented::default()).await;
        assert_eq!(refused_as(&answered), ("unauthorized_client", "ClientWithoutCodes"));
    }

    #[tokio::test]
    async fn a_code_for_an_opaque_api_brings_an_opaque_token() {
        let world = World::with(|settings| {
            plain(settings);
            settings.apis[0].format = crate::settings::TokenFormat::Opaque;
        })
        .await;
        with_ada(&world).await;
        let code = sealed(&world, |_| {});
        let answer = ok(redeemed(&world, &code, Presented::default()).await);
        assert!(answer.access_token.starts_with("at_"), "{}", answer.access_token);
        let opened = crate::token::opaque::open(&world.identity.desk(), &answer.access_token);
        assert_eq!(opened.map(|claims| claims.aud).as_deref(), Some(PAYMENTS));
        // RFC 7009 takes it as any other.
        let form = parameters(&[("client_id", "app"), ("token", &answer.access_token)]);
        let answered = world.identity.revoke(&[], &form, Presented::default()).await;
        assert!(answered.result.is_ok() && answered.caller.as_deref() == Some("user:u_ada"));
    }

    fn refused_as(answered: &Answered<TokenAnswer>) -> (&'static str, &'static str) {
        crate::token::testing::refused(answered)
    }
}
