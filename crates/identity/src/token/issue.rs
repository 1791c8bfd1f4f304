//! The only mint of access tokens (RFC 9068) and ID tokens (OpenID Connect Core §2).
//!
//! It takes only what was read again and found active in the transaction that issues, and the
//! revocation sequence that this transaction read first: whatever is revoked later has a higher
//! number, and kills the token.

use std::sync::Arc;

use portcullis_core::hash::sha256;
use portcullis_core::id::{self, Id};
use portcullis_core::jose::base64url;
use portcullis_core::jose::claims::{AccessClaims, CallerKind, FactorTimes, IdClaims};
use portcullis_core::scope::Scopes;
use portcullis_store::active::Active;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::grants::GrantRecord;
use portcullis_store::sessions::SessionRecord;
use portcullis_store::users::UserRecord;

use super::client_auth::AuthenticatedClient;
use crate::authorize::OPENID;
use crate::desk::Desk;
use crate::login::session::assurance;
use crate::settings::ACCESS_TOKEN_S;

/// The revocation sequence as this transaction read it, first of all.
pub(crate) struct Revision(u64);

impl Revision {
    /// Reads it.
    pub(crate) async fn read(tx: &Tx) -> Result<Self, StoreFault> {
        Ok(Revision(tx.revision().await?))
    }
}

/// A user in a session with a grant, all three active in one transaction.
pub(crate) struct Person<'tx> {
    pub(crate) user: Active<'tx, UserRecord>,
    pub(crate) session: Active<'tx, SessionRecord>,
    pub(crate) grant: Active<'tx, GrantRecord>,
    /// When each factor was used, at authorization.
    pub(crate) factors: FactorTimes,
}

/// What a service asked for, checked.
pub(crate) struct Wanted {
    pub(crate) scopes: Scopes,
    pub(crate) audience: Arc<str>,
}

/// A token just minted.
pub(crate) struct AccessToken {
    text: String,
    scope: Scopes,
}

/// What an ID token is bound to.
pub(crate) struct Bound<'a> {
    pub(crate) nonce: Option<&'a str>,
    pub(crate) token: &'a AccessToken,
}

impl AccessToken {
    /// What it grants.
    pub(crate) fn scope(&self) -> &Scopes {
        &self.scope
    }
    /// For the one answer that carries it.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// A token for a person.
pub(crate) fn for_user(
    desk: &Desk,
    revision: Revision,
    client: &AuthenticatedClient,
    person: &Person<'_>,
) -> AccessToken {
    let Person { user, session, grant, factors } = person;
    let (acr, amr) = assurance(factors);
    // `6-attacks`: a scope taken away from the client shrinks the token; so does a role.
    let may = |scope: &str| scope == OPENID || client.scopes.contains(scope);
    let kept: Vec<&str> = grant.scopes.iter().filter(|scope| may(scope)).collect();
    let scope = Scopes::parse(&kept.join(" ")).unwrap_or_default();
    let declared = |name: &String| desk.settings.attributes.contains(name);
    let attributes = user.attributes.iter().filter(|(name, _)| declared(name));
    let base = base(desk, revision, client, user.id.as_str());
    sign(
        desk,
        AccessClaims {
            // RFC 9068 §2.2 wants an audience also where only OpenID scopes were granted: ours,
            // where userinfo will stand; no API takes it.
            aud: grant.audience.clone().unwrap_or_else(|| desk.settings.issuer_text.to_string()),
            scope,
            kind: CallerKind::User,
            sid: Some(session.id.clone()),
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
) -> AccessToken {
    // RFC 9068 §2.2: without a user `sub` is the client.
    let base = base(desk, revision, client, client.id.as_str());
    let (aud, scope) = (wanted.audience.to_string(), wanted.scopes);
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
        sub: person.user.id.to_string(),
        aud: client.id.to_string(),
        exp: now.saturating_add(ACCESS_TOKEN_S),
        iat: now,
        auth_time: person.factors.pwd.unwrap_or(now),
        // OpenID Connect Core §3.1.3.7 (11): given back untouched.
        nonce: bound.nonce.map(str::to_owned),
        acr: acr.to_owned(),
        amr,
        at_hash: Some(left_half(&bound.token.text)),
        sid: person.session.id.clone(),
    };
    desk.shared.keyring.identity().sign("JWT", &claims)
}

/// OpenID Connect Core §3.1.3.6: the left half of the hash that goes with ES256.
fn left_half(token: &str) -> String {
    let hash = sha256(token.as_bytes());
    base64url::encode(hash.first_chunk::<16>().map_or(&[][..], |half| half))
}

/// What every token has; the rest is its own.
fn base(desk: &Desk, revision: Revision, client: &AuthenticatedClient, sub: &str) -> AccessClaims {
    let now = desk.now.unix();
    AccessClaims {
        iss: desk.settings.issuer_text.to_string(),
        sub: sub.to_owned(),
        aud: String::new(),
        exp: now.saturating_add(ACCESS_TOKEN_S),
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
    }
}

fn sign(desk: &Desk, claims: AccessClaims) -> AccessToken {
    // RFC 9068 §2.1: `typ: at+jwt`, so that it is never taken for an ID token (RFC 8725 §3.11).
    let text = desk.shared.keyring.access().sign("at+jwt", &claims);
    AccessToken { text, scope: claims.scope }
}
