//! Whom an assertion names: read unverified for its issuer alone, then by that issuer's keys.

use portcullis_core::bearer::Plain;
use portcullis_core::client::{Authentication, ClientRecord};
use portcullis_core::foreign::{ForeignIssuer, KeySource, SecondFactor, Subjects};
use portcullis_core::id::Id;
use portcullis_core::jose::claims::ForeignClaims;
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::jws::{self, TokenFault};
use portcullis_core::jose::verify::{self, LEEWAY_S, MAX_ASSERTION_LIFE_S, MAX_JTI};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::secret::Secret;
use portcullis_core::time::Timestamp;
use portcullis_store::active::Active;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::grants::{GrantLife, GrantRecord};
use portcullis_store::sessions::SessionRecord;
use portcullis_store::users::{UserRecord, canonical_login};
use serde::Deserialize;

use super::{NO_FACTORS, refused};
use crate::desk::Desk;
use crate::login::second_factor::Demand;
use crate::settings::SESSION_IDLE_S;
use crate::token::client_auth::AuthenticatedClient;
use crate::token::issue::{Person, Wanted};
use crate::token::refresh_token;

/// An assertion that verified.
pub(super) struct Asserted {
    /// By what it is remembered as used.
    pub(super) once: String,
    /// For how long.
    pub(super) until: Timestamp,
    /// Whom it names.
    pub(super) subject: Subject,
}

/// Whom an assertion can name.
pub(super) enum Subject {
    /// The client that presents it.
    Client,
    /// The user of this canonical login name, and whose second factor counts.
    Login(String, SecondFactor),
}

impl Asserted {
    /// Verifies an assertion (RFC 7523 §3).
    ///
    /// # Errors
    /// `invalid_grant`, naming the rule broken; `temporarily_unavailable` when the issuer's keys
    /// were never reached.
    pub(super) async fn read(
        desk: &Desk,
        client: &ClientRecord,
        assertion: &Secret<String>,
    ) -> Result<Self, OauthError> {
        let unverified = jws::parse(assertion.expose())
            .map_err(|_| refused("AssertionMalformed", "the assertion cannot be read"))?;
        let issuer = issuer(desk, &unverified.payload)?;
        let keys = desk.shared.foreign.keys(issuer, unverified.kid.as_deref()).await;
        let keys = keys.map_err(|fault| {
            tracing::warn!(issuer = %issuer.name, %fault, "no keys of an assertion's issuer");
            let description = "the keys of the assertion's issuer cannot be had at the moment";
            OauthError::new(ErrorCode::TemporarilyUnavailable, "IssuerUnreachable", description)
        })?;
        let claims = verified(desk, issuer, &keys, assertion)?;
        // RFC 7523 §3 point 4: unreasonably far in the future may be refused; its `jti` has to be
        // remembered as long.
        let furthest = desk.now.unix().saturating_add(MAX_ASSERTION_LIFE_S + LEEWAY_S);
        if claims.exp > furthest {
            return Err(refused("AssertionTooLong", "an assertion is good for an hour at most"));
        }
        // RFC 7523 §3 point 7, here required: without it a replay could not be told.
        let jti = claims.jti.as_deref().filter(|jti| (1..=MAX_JTI).contains(&jti.len()));
        let missing = || refused("AssertionWithoutJti", "the assertion needs a jti");
        let jti = jti.ok_or_else(missing)?;
        Ok(Asserted {
            // The parts cannot slide: the name of a table of the file has no blank.
            once: format!("federated {} {jti}", issuer.name),
            until: Timestamp::from_unix(claims.exp),
            subject: subject(issuer, client, &claims.sub)?,
        })
    }
}

/// Whose keys to verify with; compared exactly, before a key is fetched (RFC 7523 §3 point 1).
fn issuer<'d>(desk: &'d Desk, payload: &[u8]) -> Result<&'d ForeignIssuer, OauthError> {
    #[derive(Deserialize)]
    struct Names {
        iss: String,
    }
    let names: Names = serde_json::from_slice(payload)
        .map_err(|_| refused("AssertionMalformed", "the assertion names no issuer"))?;
    // `6-attacks`: an access token of ours as an assertion would be traded for a longer one.
    if names.iss == *desk.settings.issuer_text {
        return Err(refused("AssertionOfOurs", "our own tokens are no assertions"));
    }
    let mut known = desk.settings.issuers.iter().filter(|issuer| issuer.issuer == names.iss);
    let unknown = || refused("IssuerUnknown", "the issuer is not known here");
    let issuer = known.next().ok_or_else(unknown)?;
    if issuer.until.is_some_and(|until| desk.now >= until) {
        return Err(refused("IssuerEnded", "this issuer is no longer accepted"));
    }
    match issuer.source {
        KeySource::Discovery | KeySource::Address(_) => Ok(issuer),
        // Its tokens are opaque; it signs nothing.
        KeySource::Introspection { .. } => Err(unknown()),
    }
}

/// RFC 7523 §3 point 3: written for us, by our issuer or by the token endpoint's address.
fn verified(
    desk: &Desk,
    issuer: &ForeignIssuer,
    keys: &JwkSet,
    assertion: &Secret<String>,
) -> Result<ForeignClaims, OauthError> {
    let read = |ours: &str| {
        let verified =
            verify::federated_assertion(assertion.expose(), keys, issuer, ours, desk.now);
        verified.map(|verified| verified.claims().clone())
    };
    let ours = &desk.settings.issuer_text;
    let claims = match read(ours) {
        Err(TokenFault::AudienceWrong) => read(&format!("{ours}{}", super::TOKEN_PATH)),
        read => read,
    };
    claims.map_err(|fault| {
        tracing::debug!(issuer = %issuer.name, %fault, "an assertion was refused");
        refused(rule(fault), "the assertion does not verify")
    })
}

/// RFC 7523 §3 point 2: whom it is about. See the top of the grant's file.
fn subject(
    issuer: &ForeignIssuer,
    client: &ClientRecord,
    sub: &str,
) -> Result<Subject, OauthError> {
    match issuer.map.subjects {
        Subjects::Services => match &client.authentication {
            Authentication::Federated(of) if of.issuer == issuer.name && of.subject == sub => {
                Ok(Subject::Client)
            }
            Authentication::Federated(_)
            | Authentication::None
            | Authentication::Keys(_)
            | Authentication::SecretDigest(_)
            | Authentication::Certificate(_) => {
                Err(refused("AssertionSubjectOther", "the assertion is not about this client"))
            }
        },
        Subjects::Users => {
            let login = format!("{sub}@{}", issuer.name);
            // Byte for byte: two subjects that differ in case are two people over there.
            match canonical_login(&login) == login {
                true => Ok(Subject::Login(login, issuer.map.second_factor)),
                false => Err(refused("SubjectUnknown", "the assertion names no user of ours")),
            }
        }
    }
}

/// The active user of a login name, with a grant for what is wanted, in a session that no browser
/// has: so what ends a user's sessions ends these tokens too. A refusal is a value: the assertion
/// stays spent.
///
/// A grant of before is used again while its session lasts, so that a service that asks a hundred
/// times an hour makes one row.
pub(super) async fn person<'tx>(
    tx: &'tx Tx,
    desk: &Desk,
    client: &AuthenticatedClient,
    (login, second_factor, wanted): (&str, SecondFactor, &Wanted),
) -> Result<Result<Person<'tx>, OauthError>, StoreFault> {
    // One answer, whether there is none or it is disabled.
    let unknown = || Ok(Err(refused("SubjectUnknown", "the assertion names no user of ours")));
    let Some(user) = tx.user_by_login(login).await? else { return unknown() };
    let Some(user) = tx.active_user(&user.id).await? else { return unknown() };
    if second_factor == SecondFactor::Ours {
        // `4-identity`, "Login by another provider": unless it is trusted in words, ours counts, and
        // an assertion shows none.
        let totp = tx.totp(&user.id).await?;
        let require = &desk.shared.in_force().require;
        match Demand::of(require, &user, totp.as_ref(), &NO_FACTORS) {
            Demand::Nothing => {}
            Demand::Code(_) | Demand::Enrolment => {
                let description = "this user needs a second factor, which an assertion cannot show";
                return Ok(Err(refused("FactorOwed", description)));
            }
        }
    }
    let (session, grant) = match standing(tx, desk, &user, (client, wanted)).await? {
        Some(standing) => standing,
        None => {
            let session = session(desk, &user);
            tx.add_session(&session).await?;
            let grant = grant(desk, client, &session, wanted);
            tx.add_grant(&grant).await?;
            let session = tx.active_session(&session.id, desk.now).await?;
            let made = session.zip(tx.active_grant(&grant.id).await?);
            made.ok_or(StoreFault::Missing("a grant just made"))?
        }
    };
    Ok(Ok(Person { user, session: Some(session), grant, factors: NO_FACTORS }))
}

type Standing<'tx> = (Active<'tx, SessionRecord>, Active<'tx, GrantRecord>);

/// A grant of before for the same.
async fn standing<'tx>(
    tx: &'tx Tx,
    desk: &Desk,
    user: &UserRecord,
    (client, wanted): (&AuthenticatedClient, &Wanted),
) -> Result<Option<Standing<'tx>>, StoreFault> {
    for grant in tx.grants_of(&user.id).await? {
        let same = grant.client == client.id
            // No login leaves these empty: each begins with a factor.
            && grant.factors == NO_FACTORS
            && grant.audience.as_deref() == Some(&*wanted.audience)
            && grant.scopes == wanted.scopes;
        if !same {
            continue;
        }
        let session = tx.active_session(&grant.session, desk.now).await?;
        if let Some(standing) = session.zip(tx.active_grant(&grant.id).await?) {
            return Ok(Some(standing));
        }
    }
    Ok(None)
}

/// A session whose cookie is told to nobody.
fn session(desk: &Desk, user: &UserRecord) -> SessionRecord {
    SessionRecord {
        id: Id::mint(&*desk.shared.entropy),
        cookie: Plain::mint(&*desk.shared.entropy).digest(),
        user: user.id.clone(),
        factors: NO_FACTORS,
        made: desk.now,
        seen: desk.now,
        expires: desk.in_seconds(SESSION_IDLE_S),
        ended: None,
    }
}

fn grant(
    desk: &Desk,
    client: &AuthenticatedClient,
    session: &SessionRecord,
    wanted: &Wanted,
) -> GrantRecord {
    GrantRecord {
        id: Id::mint(&*desk.shared.entropy),
        user: session.user.clone(),
        client: client.id.clone(),
        session: session.id.clone(),
        life: GrantLife::Session,
        factors: NO_FACTORS,
        binding: None,
        details: String::new(),
        // None is ever handed out for it.
        family: refresh_token::family(desk, client),
        scopes: wanted.scopes.clone(),
        audience: Some(wanted.audience.to_string()),
        made: desk.now,
        ended: None,
    }
}

/// The rule of an assertion's fault, for the record.
fn rule(fault: TokenFault) -> &'static str {
    match fault {
        TokenFault::Expired => "AssertionExpired",
        TokenFault::NotYetValid => "AssertionNotYetValid",
        TokenFault::AudienceWrong => "AssertionAudienceWrong",
        TokenFault::IssuerWrong => "AssertionIssuerWrong",
        TokenFault::KeyUnknown => "AssertionKeyUnknown",
        TokenFault::SignatureWrong => "AssertionSignatureWrong",
        TokenFault::TypeWrong => "AssertionTypeWrong",
        TokenFault::ClaimMalformed => "AssertionClaimMalformed",
        TokenFault::TooLong
        | TokenFault::NotCompact
        | TokenFault::MemberDoubled
        | TokenFault::AlgorithmNotAccepted
        | TokenFault::CriticalUnknown
        | TokenFault::Revoked => "AssertionMalformed",
    }
}
