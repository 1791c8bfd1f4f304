//! Introspection (RFC 7662, signed by RFC 9701): what a token says, told to those whom it is for.
//!
//! Told are the API that is the token's audience, through the client that `introspects` it, and, in
//! fewer words, the client that it was issued to. To everybody else, and of every token that is
//! dead for whatever reason, the answer is one: `{"active": false}`.
//!
//! Nothing is remembered: each question reads again everyone whom the token names.

use portcullis_core::client::ClientRecord;
use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::{AccessClaims, Actor, CallerKind};
use portcullis_core::jose::verify;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::refresh;
use portcullis_core::revocation::Marks;
use portcullis_core::time::Timestamp;
use portcullis_core::web::Parameters;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::grants::{GrantLife, GrantRecord};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::documents;
use crate::outcome::{Answered, Document, Presented};
use crate::settings::Settings;
use crate::token::client_auth::{self, AuthenticatedClient, Claim};
use crate::token::{Aborted, binding, named, opaque};

/// RFC 9701 §4: what a client accepts that wants it signed.
const SIGNED: &str = "application/token-introspection+jwt";
/// RFC 9701 §5: its `typ`.
const SIGNED_TYP: &str = "token-introspection+jwt";
/// Most media types of an `Accept` field that are looked at.
const MAX_ACCEPTED: usize = 32;

/// `POST /oauth/introspect`.
pub(crate) async fn answer(
    desk: &Desk,
    authorization: &[&[u8]],
    form: &Parameters,
    presented: &Presented,
    accept: Option<&str>,
) -> Answered<Document> {
    let named = named(authorization, form);
    let claim = match client_auth::authenticate(desk, authorization, form, presented).await {
        Ok(claim) => claim,
        Err(error) => {
            return Answered { result: Err(error), caller: None, client: named, nonce: None };
        }
    };
    let client = Some(claim.client().id.to_string());
    let (result, caller) = match told(desk, claim, form).await {
        Ok(told) => (Ok(document(desk, accept, &told)), told.caller),
        Err(error) => (Err(error), None),
    };
    Answered { result, caller, client, nonce: None }
}

/// What a question came to.
struct Told {
    /// The members of the answer.
    body: Value,
    /// For the record: whom the token speaks for, when that was told.
    caller: Option<String>,
    /// Who asked.
    client: Id<id::Client>,
}

async fn told(desk: &Desk, claim: Claim, form: &Parameters) -> Result<Told, OauthError> {
    let refusal = refusal(claim.client(), form);
    let found = match (&refusal, form.value("token")) {
        (None, Some(text)) => Presentable::read(desk, text),
        (Some(_), _) | (None, None) => Presentable::Nothing,
    };
    let at = desk.clone();
    let work = async move |tx: &Tx| -> Result<Result<Told, OauthError>, Aborted> {
        let client = match claim.proven(tx, &at).await? {
            Ok(client) => client,
            Err(error) => return Ok(Err(error)),
        };
        // An assertion is spent whatever comes of the request.
        if let Some(error) = refusal {
            return Ok(Err(error));
        }
        let (body, caller) = match &found {
            Presentable::Access(token) => of_access(tx, &at, &client, token).await?,
            Presentable::Refresh(grant, n) => {
                (of_refresh(tx, &at, &client, grant, *n).await?, None)
            }
            Presentable::Nothing => (None, None),
        };
        // RFC 7662 §2.2: nothing beside it, so that nobody learns why.
        let body = body.unwrap_or_else(|| json!({ "active": false }));
        Ok(Ok(Told { body, caller, client: client.id.clone() }))
    };
    desk.shared.store.transact(work).await.map_err(OauthError::from)?
}

/// What is wrong with the question, whatever the token.
fn refusal(client: &ClientRecord, form: &Parameters) -> Option<OauthError> {
    // RFC 7662 §2.1: some form of authorization is a MUST, against scanning for tokens. A public
    // client proves nothing by its name.
    if !client.is_confidential() {
        let description = "only a client that authenticates may introspect tokens";
        let rule = "IntrospectionUnauthenticated";
        return Some(OauthError::new(ErrorCode::InvalidClient, rule, description));
    }
    let missing = || OauthError::new(ErrorCode::InvalidRequest, "TokenMissing", "token is missing");
    form.value("token").is_none().then(missing)
}

/// A text that may be a token of ours.
enum Presentable {
    /// An access token, its signature or seal, issuer and times checked.
    Access(Box<Read>),
    /// A refresh token with a right MAC: its grant and number.
    Refresh(Id<id::Grant>, u64),
    /// Nothing of ours, or over.
    Nothing,
}

/// An access token as it was read: by what it says, and by what it dies.
pub(crate) struct Read {
    pub(crate) claims: AccessClaims,
    pub(crate) marks: Marks,
}

impl Presentable {
    /// RFC 7662 §2.1: the hint may be ignored; the text tells by itself what it is.
    fn read(desk: &Desk, text: &str) -> Self {
        match Read::of(desk, text) {
            Some(read) => Presentable::Access(Box::new(read)),
            None => match refresh::read(&desk.shared.sealer, text) {
                Some((grant, n)) => Presentable::Refresh(grant, n),
                None => Presentable::Nothing,
            },
        }
    }
}

impl Read {
    /// An access token of ours, JWT or opaque, in time. Whether it lives is [`Read::lives`]'s.
    pub(crate) fn of(desk: &Desk, text: &str) -> Option<Self> {
        if opaque::looks_like(text) {
            let claims = opaque::open(desk, text)?;
            return Some(Read { marks: Marks::of(&claims, None), claims });
        }
        let keys = desk.shared.keyring.access_keys();
        let issuer = &desk.settings.issuer_text;
        let verified = verify::access_token(text, &keys, issuer, None, desk.now).ok()?;
        let marks = Marks::of(verified.claims(), verified.kid());
        Some(Read { claims: verified.claims().clone(), marks })
    }

    /// Whether nothing that it names was revoked, ended or disabled, as this transaction finds it.
    ///
    /// The rows are asked beside the log: they are true inside the transaction, while a revocation
    /// is published a moment after its commit.
    pub(crate) async fn lives(&self, tx: &Tx, desk: &Desk) -> Result<bool, StoreFault> {
        let claims = &self.claims;
        if desk.shared.revoked.kills(&self.marks) || !self.clients_stand(tx, desk).await? {
            return Ok(false);
        }
        if let Some(session) = &claims.sid
            && tx.active_session(session, desk.now).await?.is_none()
            && !self.outlives_its_session(tx).await?
        {
            return Ok(false);
        }
        if let Some(grant) = &claims.gid
            && tx.active_grant(grant).await?.is_none()
        {
            return Ok(false);
        }
        match (claims.kind, Id::parse(&claims.sub)) {
            (CallerKind::User, Ok(user)) => Ok(tx.active_user(&user).await?.is_some()),
            (CallerKind::User, Err(_)) => Ok(false),
            (CallerKind::Service, _) => Ok(true),
        }
    }

    /// Every client that it names: whose it is, which service it speaks for, and those that act.
    async fn clients_stand(&self, tx: &Tx, desk: &Desk) -> Result<bool, StoreFault> {
        let claims = &self.claims;
        let service = (claims.kind == CallerKind::Service).then_some(claims.sub.as_str());
        let actors = claims.act.iter().flat_map(Actor::chain);
        for name in actors.chain(service).chain([claims.client_id.as_str()]) {
            let Ok(client) = Id::parse(name) else { return Ok(false) };
            if !client_stands(tx, desk, &client).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A grant with `offline_access` goes on without its session (OpenID Connect Core §11). A
    /// session that was ended rather than run out has revoked its tokens by `sid` besides.
    async fn outlives_its_session(&self, tx: &Tx) -> Result<bool, StoreFault> {
        let Some(grant) = &self.claims.gid else { return Ok(false) };
        let grant = tx.active_grant(grant).await?;
        Ok(grant.is_some_and(|grant| grant.life == GrantLife::Offline))
    }
}

/// Whether a client is registered and not disabled (see [`Claim::proven`]).
async fn client_stands(tx: &Tx, desk: &Desk, id: &Id<id::Client>) -> Result<bool, StoreFault> {
    let stored = tx.client(id).await?;
    let settings = desk.shared.in_force();
    Ok(match settings.clients.get(id) {
        Some(record) => client_auth::is_kept(record, stored.as_ref()),
        None => stored.is_none() && is_stranger(&settings, id),
    })
}

/// Whether an id is the address of a metadata document of a host that is let in. Such clients stand
/// in no table; no registered client's id has a colon.
pub(crate) fn is_stranger(settings: &Settings, id: &Id<id::Client>) -> bool {
    documents::lets_in(settings, id).is_some()
}

/// The answer about an access token, and whom it speaks for; nothing when it is not told.
async fn of_access(
    tx: &Tx,
    desk: &Desk,
    client: &AuthenticatedClient,
    token: &Read,
) -> Result<(Option<Value>, Option<String>), StoreFault> {
    let claims = &token.claims;
    // `6-attacks`: introspection answers only the token's audience (RFC 7662 §4).
    let body = match () {
        () if client.introspects.contains(&claims.aud) => whole(claims),
        () if claims.client_id == client.id => short(claims),
        () => None,
    };
    match body {
        Some(body) if token.lives(tx, desk).await? => Ok((Some(body), Some(claims.caller()))),
        Some(_) | None => Ok((None, None)),
    }
}

/// All that the token says, for the API that it is for: what it would read in a JWT.
fn whole(claims: &AccessClaims) -> Option<Value> {
    let mut body = serde_json::to_value(claims).ok()?;
    let members = body.as_object_mut()?;
    // The place in our own log of revocations concerns nobody else.
    members.remove("rev");
    members.insert("active".to_owned(), true.into());
    // RFC 7662 §2.2; RFC 9449 §6.2.
    members.insert("token_type".to_owned(), binding::token_type(claims.cnf.as_ref()).into());
    Some(body)
}

/// What the client that holds the token was told when it got it; nothing of its user (RFC 7662 §5),
/// whom it may know under another name (OpenID Connect Core §8).
fn short(claims: &AccessClaims) -> Option<Value> {
    Some(json!({
        "active": true,
        "iss": claims.iss,
        "aud": claims.aud,
        "client_id": claims.client_id,
        "scope": claims.scope,
        "exp": claims.exp,
        "iat": claims.iat,
        "jti": claims.jti,
        "token_type": binding::token_type(claims.cnf.as_ref()),
    }))
}

/// The answer about a refresh token: to the client that it was issued to, and nobody else, since
/// no API is ever shown one.
async fn of_refresh(
    tx: &Tx,
    desk: &Desk,
    client: &AuthenticatedClient,
    grant: &Id<id::Grant>,
    n: u64,
) -> Result<Option<Value>, StoreFault> {
    let Some(grant) = tx.active_grant(grant).await? else { return Ok(None) };
    let expires = over(&grant, client);
    // One behind the row was followed by another; one ahead of it is good (after a restore).
    if grant.client != client.id || n < grant.family.counter || desk.now >= expires {
        return Ok(None);
    }
    let session = match grant.life {
        GrantLife::Session => tx.active_session(&grant.session, desk.now).await?.is_some(),
        GrantLife::Offline => true,
    };
    if !session || tx.active_user(&grant.user).await?.is_none() {
        return Ok(None);
    }
    Ok(Some(json!({
        "active": true,
        "iss": &*desk.settings.issuer_text,
        "client_id": grant.client,
        "scope": grant.scopes,
        "exp": expires.unix(),
    })))
}

/// When a grant's refresh token is over: unused for too long, or at the latest.
fn over(grant: &GrantRecord, client: &ClientRecord) -> Timestamp {
    grant.family.seen.after(client.refresh.idle).min(grant.family.expires)
}

fn document(desk: &Desk, accept: Option<&str>, told: &Told) -> Document {
    if !wants_it_signed(accept) {
        return Document::Json(told.body.clone());
    }
    // RFC 9701 §5: these four. Neither `sub` nor `exp` stands beside them, so that nobody can take
    // it for an access token or an ID token.
    let claims = json!({
        "iss": &*desk.settings.issuer_text,
        "aud": told.client,
        "iat": desk.now.unix(),
        "token_introspection": told.body,
    });
    let text = desk.shared.keyring.identity().sign(SIGNED_TYP, &claims);
    Document::Signed { media_type: SIGNED, text }
}

/// RFC 9701 §4: asked for by name; a weight of nothing is a refusal (RFC 9110 §12.4.2).
fn wants_it_signed(accept: Option<&str>) -> bool {
    let types = accept.unwrap_or_default().split(',').take(MAX_ACCEPTED);
    types.into_iter().any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(SIGNED));
        let nothing = |part: &str| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.bytes().all(|b| matches!(b, b'0' | b'.')))
        };
        named && !parts.any(nothing)
    })
}

#[cfg(test)]
mod tests;
