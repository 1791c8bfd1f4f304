//! The only mint of access tokens (RFC 9068) and ID tokens (OpenID Connect Core §2).
//!
//! It takes only what was read again and found active in the transaction that issues, and the
//! revocation sequence that this transaction read first: whatever is revoked later has a higher
//! number, and kills the token.

use std::sync::Arc;

use portcullis_core::client::ClientRecord;
use portcullis_core::hash::sha256;
use portcullis_core::id::{self, Id};
use portcullis_core::jose::base64url;
use portcullis_core::jose::claims::{
    AccessClaims, Actor, CallerKind, Confirmation, FactorTimes, IdClaims,
};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::token::TokenAnswer;
use portcullis_core::scope::Scopes;
use portcullis_store::active::Active;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::grants::GrantRecord;
use portcullis_store::sessions::SessionRecord;
use portcullis_store::users::UserRecord;
use serde_json::Value;

use super::client_auth::AuthenticatedClient;
use super::{binding, opaque};
use crate::authorize::{OPENID, may_ask, target};
use crate::desk::Desk;
use crate::login::session::assurance;
use crate::settings::{ACCESS_TOKEN_S, Settings, TokenFormat};
use crate::subject;

/// The revocation sequence as this transaction read it, first of all.
pub(crate) struct Revision(u64);

impl Revision {
    /// Reads it.
    pub(crate) async fn read(tx: &Tx) -> Result<Self, StoreFault> {
        Ok(Revision(tx.revision().await?))
    }
}

/// A user with a grant, both active in one transaction, and the session as long as it lasts.
pub(crate) struct Person<'tx> {
    pub(crate) user: Active<'tx, UserRecord>,
    /// `None` for a grant that outlives its session, once that has ended.
    pub(crate) session: Option<Active<'tx, SessionRecord>>,
    pub(crate) grant: Active<'tx, GrantRecord>,
    /// When each factor was used, at authorization.
    pub(crate) factors: FactorTimes,
}

/// What a service asked for, checked.
pub(crate) struct Wanted {
    pub(crate) scopes: Scopes,
    pub(crate) audience: Arc<str>,
}

impl Wanted {
    /// What a client may have where no login took place: some of what it is registered for, at one
    /// API. Without a `scope`, all of it (RFC 6749 §3.3: a pre-defined value).
    ///
    /// # Errors
    /// `invalid_scope` or `invalid_target`, naming the rule broken.
    pub(crate) fn registered(
        settings: &Settings,
        client: &ClientRecord,
        scope: Option<&str>,
        resource: Option<&str>,
    ) -> Result<Self, OauthError> {
        let invalid =
            |rule, description| OauthError::new(ErrorCode::InvalidScope, rule, description);
        let scopes = match scope {
            Some(text) => Scopes::parse(text)
                .map_err(|_| invalid("ScopeMalformed", "scope cannot be read"))?,
            None => client.scopes.clone(),
        };
        // Nobody is there that `openid` could tell of.
        if scopes.contains(OPENID) || !scopes.is_subset(&client.scopes) {
            let description = "a scope was asked for that this client is not registered for";
            return Err(invalid("ScopeUnregistered", description));
        }
        let description = "name the API with resource";
        let unclear = || OauthError::new(ErrorCode::InvalidTarget, "TargetUnclear", description);
        let audience = target(settings, resource, &scopes)?.ok_or_else(unclear)?;
        Ok(Wanted { scopes, audience })
    }
}

/// What makes one token different from the plain one of its grant or client.
#[derive(Default)]
pub(crate) struct Extras {
    /// What it is bound to; [`binding::confirmation`] made it.
    pub(crate) binding: Option<Confirmation>,
    /// `authorization_details` (RFC 9396 §9.1), within what was granted.
    pub(crate) details: Vec<Value>,
    /// Who acts for the subject (RFC 8693 §4.1).
    pub(crate) actor: Option<Actor>,
    /// Fewer scopes than were granted; never more, whatever stands here.
    pub(crate) narrowed: Option<Scopes>,
    /// Another API than the grant's.
    pub(crate) audience: Option<Arc<str>>,
    /// It expires no later than this (Unix seconds).
    pub(crate) latest: Option<i64>,
}

/// A token just minted.
pub(crate) struct AccessToken {
    text: String,
    scope: Scopes,
    token_type: &'static str,
    expires_in: i64,
    details: Vec<Value>,
}

/// What an ID token is bound to.
pub(crate) struct Bound<'a> {
    pub(crate) nonce: Option<&'a str>,
    pub(crate) token: &'a AccessToken,
}

impl AccessToken {
    /// The one answer that carries it; what else it carries is filled in by its grant.
    pub(crate) fn into_answer(self) -> TokenAnswer {
        TokenAnswer {
            access_token: self.text,
            token_type: self.token_type,
            expires_in: self.expires_in,
            scope: self.scope.to_string(),
            id_token: None,
            refresh_token: None,
            issued_token_type: None,
            // RFC 9396 §7: as granted.
            authorization_details: self.details,
        }
    }
}

/// A token for a person.
pub(crate) fn for_user(
    desk: &Desk,
    revision: Revision,
    client: &AuthenticatedClient,
    person: &Person<'_>,
    extras: Extras,
) -> AccessToken {
    let Person { user, session, grant, factors } = person;
    let (acr, amr) = assurance(factors);
    // `6-attacks`: a scope taken away from the client shrinks the token; so does a role.
    let may = |scope: &str| may_ask(client, scope);
    // RFC 6749 §6: what is narrowed was granted before.
    let wanted = |scope: &str| extras.narrowed.as_ref().is_none_or(|only| only.contains(scope));
    let kept = grant.scopes.iter().filter(|scope| may(scope) && wanted(scope));
    let scope = Scopes::parse(&kept.collect::<Vec<_>>().join(" ")).unwrap_or_default();
    let declared = |name: &String| desk.settings.attributes.contains(name);
    let attributes = user.attributes.iter().filter(|(name, _)| declared(name));
    let audience = extras.audience.as_deref().or(grant.audience.as_deref());
    // RFC 9068 §2.2 wants an audience also where only OpenID scopes were granted: ours,
    // where userinfo will stand; no API takes it.
    let aud = audience.unwrap_or(&desk.settings.issuer_text).to_owned();
    let base = base(desk, revision, client, extras);
    sign(
        desk,
        AccessClaims {
            sub: user.id.to_string(),
            aud,
            scope,
            kind: CallerKind::User,
            sid: session.as_ref().map(|session| session.id.clone()),
            gid: Some(grant.id.clone()),
            // RFC 9068 §2.2.1
            auth_time: factors.pwd,
            acr: Some(acr.to_owned()),
            amr,
            fat: *factors,
            // RFC 9068 §2.2.3.1
            roles: user.roles.clone(),
            groups: user.groups.clone(),
            tenant: user.tenant.clone(),
            attributes: attributes.map(|(name, value)| (name.clone(), value.clone())).collect(),
            ..base
        },
    )
}

/// A token for software that speaks for itself.
pub(crate) fn for_service(
    desk: &Desk,
    revision: Revision,
    client: &AuthenticatedClient,
    wanted: Wanted,
    extras: Extras,
) -> AccessToken {
    let narrowed = extras.narrowed.as_ref();
    let scope = narrowed.map_or(wanted.scopes.clone(), |only| wanted.scopes.intersection(only));
    let aud = extras.audience.as_ref().unwrap_or(&wanted.audience).to_string();
    let base = base(desk, revision, client, extras);
    sign(desk, AccessClaims { aud, scope, ..base })
}

/// An ID token, to be read by the client alone.
pub(crate) fn identity(
    desk: &Desk,
    client: &AuthenticatedClient,
    person: &Person<'_>,
    bound: Bound<'_>,
) -> String {
    let (acr, amr) = assurance(&person.factors);
    let now = desk.now.unix();
    let claims = IdClaims {
        iss: desk.settings.issuer_text.to_string(),
        sub: subject::seen_by(desk, client, &person.user.id),
        aud: client.id.to_string(),
        exp: now.saturating_add(ACCESS_TOKEN_S),
        iat: now,
        auth_time: person.factors.pwd.unwrap_or(now),
        // OpenID Connect Core §3.1.3.7 (11): given back untouched.
        nonce: bound.nonce.map(str::to_owned),
        acr: acr.to_owned(),
        amr,
        at_hash: Some(left_half(&bound.token.text)),
        sid: person.grant.session.clone(),
    };
    desk.shared.keyring.identity().sign("JWT", &claims)
}

/// OpenID Connect Core §3.1.3.6: the left half of the hash that goes with ES256.
fn left_half(token: &str) -> String {
    let hash = sha256(token.as_bytes());
    base64url::encode(hash.first_chunk::<16>().map_or(&[][..], |half| half))
}

/// What every token has; the rest is its own.
fn base(
    desk: &Desk,
    revision: Revision,
    client: &AuthenticatedClient,
    extras: Extras,
) -> AccessClaims {
    let now = desk.now.unix();
    let full = now.saturating_add(ACCESS_TOKEN_S);
    AccessClaims {
        iss: desk.settings.issuer_text.to_string(),
        // RFC 9068 §2.2: without a user `sub` is the client.
        sub: client.id.to_string(),
        aud: String::new(),
        // RFC 8693 §1.1 leaves it to us: what is derived from another token does not outlive it.
        exp: extras.latest.map_or(full, |latest| latest.min(full)),
        iat: now,
        jti: Id::<id::Token>::mint(&*desk.shared.entropy),
        client_id: client.id.clone(),
        scope: Scopes::default(),
        kind: CallerKind::Service,
        rev: revision.0,
        sid: None,
        gid: None,
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        fat: FactorTimes::default(),
        roles: Vec::new(),
        groups: Vec::new(),
        tenant: None,
        attributes: std::collections::BTreeMap::new(),
        cnf: extras.binding,
        act: extras.actor,
        authorization_details: extras.details,
    }
}

fn sign(desk: &Desk, claims: AccessClaims) -> AccessToken {
    let target = desk.settings.apis.iter().find(|api| *api.audience == *claims.aud);
    let text = match target.map(|api| api.format).unwrap_or_default() {
        // RFC 9068 §2.1: `typ: at+jwt`, so that it is never taken for an ID token (RFC 8725 §3.11).
        TokenFormat::Jwt => desk.shared.keyring.access().sign("at+jwt", &claims),
        TokenFormat::Opaque => opaque::seal(desk, &claims),
    };
    AccessToken {
        text,
        token_type: binding::token_type(claims.cnf.as_ref()),
        expires_in: claims.exp.saturating_sub(claims.iat),
        scope: claims.scope,
        details: claims.authorization_details,
    }
}
