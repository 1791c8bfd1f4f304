//! How a client proves who it is (RFC 6749 §2.3): a key, a certificate, another issuer's word, a
//! dated secret, or not at all.
//!
//! [`AuthenticatedClient`] is made here alone. An assertion is spent in the transaction that mints,
//! or by itself when nothing is minted, so that it never works twice. What a token is bound to is
//! [`super::binding`]'s.

mod federated;

use std::ops::Deref;
use std::sync::Arc;

use portcullis_core::client::{Authentication, CertificateRule, ClientRecord, Registered};
use portcullis_core::hash::{same, sha256};
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::{jws, verify};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::token::PresentedClient;
use portcullis_core::secret::Secret;
use portcullis_core::time::Timestamp;
use portcullis_core::web::Parameters;
use portcullis_store::clients::StoredClient;
use portcullis_store::database::{StoreFault, Tx};
use portcullis_store::used::UsedKind;
use serde::Deserialize;

use super::{Aborted, binding};
use crate::desk::Desk;
use crate::documents::{self, find};
use crate::login::throttle::Attempt;
use crate::outcome::Presented;

/// A client that proved who it is, as registered in the transaction in which it was found not
/// disabled.
pub(crate) struct AuthenticatedClient {
    record: Arc<ClientRecord>,
}

/// A client that proved who it is, before its assertion is spent.
pub(crate) struct Claim {
    record: Arc<ClientRecord>,
    spend: Option<Spend>,
}

/// The `jti` of an assertion with whose it is, and how long it could be replayed.
struct Spend {
    key: String,
    until: Timestamp,
}

/// Authenticates the client of a token, revocation or other back-channel request. No store is
/// asked, so a flood of forged credentials reaches no queue; awaited are the keys of an issuer of
/// the file, only for an assertion that names it, and the document of a client that is one.
///
/// # Errors
/// `invalid_client` or `invalid_request`, naming the first rule broken;
/// `temporarily_unavailable` when the keys of a federated client's issuer were never reached.
pub(crate) async fn authenticate(
    desk: &Desk,
    authorization: &[&[u8]],
    form: &Parameters,
    presented: &Presented,
) -> Result<Claim, OauthError> {
    let read = PresentedClient::read(authorization, form)?;
    let claim = match read {
        PresentedClient::Public { client_id } => by_name(desk, &client_id, presented).await,
        PresentedClient::Basic { client_id, secret } => by_secret(desk, &client_id, &secret).await,
        PresentedClient::Assertion { client_id, assertion } => {
            by_assertion(desk, client_id.as_deref(), &assertion).await
        }
    };
    if claim.as_ref().is_err_and(charges) {
        // `5-limits` point 6: a forged or unknown credential charges its address, no client.
        let _ = Attempt::at_client(desk, presented.ip).charge();
    }
    claim
}

/// Whether a refusal says that the credential was forged or unknown. One that is missing, or was
/// right in its time, may be an honest client's.
fn charges(error: &OauthError) -> bool {
    let honest = matches!(
        error.rule,
        "ClientMustAuthenticate"
            | "CertificateMissing"
            | "CertificateElsewhere"
            | "AssertionExpired"
            | "AssertionNotYetValid"
            | "IssuerEnded"
            | "WaiverClientSecretExpired"
    );
    // An issuer that cannot be reached is nobody's forgery.
    error.code == ErrorCode::InvalidClient && !honest
}

/// Refuses a request whose client has authenticated: its assertion is spent all the same.
///
/// # Errors
/// `error`, or what came of spending.
pub(crate) async fn refuse<T>(
    desk: &Desk,
    claim: Claim,
    error: OauthError,
) -> Result<T, OauthError> {
    // RFC 9449 §8: the same request comes again with the nonce, and with it maybe the same
    // assertion; nothing has been done for it yet. So that round costs no commit either.
    if error.code != ErrorCode::UseDpopNonce {
        spend_alone(desk, claim).await?;
    }
    Err(error)
}

/// Spends an assertion whose request ends without a mint.
pub(crate) async fn spend_alone(desk: &Desk, claim: Claim) -> Result<(), OauthError> {
    if claim.spend.is_none() {
        return Ok(());
    }
    let at = desk.clone();
    let work = async move |tx: &Tx| -> Result<(), Aborted> {
        claim.proven(tx, &at).await?.map(drop).map_err(Aborted::Refused)
    };
    desk.shared.store.transact(work).await.map_err(OauthError::from)
}

impl Claim {
    /// The client.
    pub(crate) fn client(&self) -> &Arc<ClientRecord> {
        &self.record
    }

    /// Spends the assertion, and finds the client still registered and not disabled, in this
    /// transaction. The inner error is a value: an assertion stays spent whatever comes of the
    /// request.
    pub(crate) async fn proven(
        self,
        tx: &Tx,
        desk: &Desk,
    ) -> Result<Result<AuthenticatedClient, OauthError>, StoreFault> {
        if let Some(spend) = &self.spend
            // RFC 7523 §3 point 7: a `jti` is accepted once.
            && !tx.first_use(UsedKind::Assertion, &spend.key, spend.until).await?
        {
            return Ok(Err(refused("AssertionReplayed", "the assertion was used before")));
        }
        // A client of the file has no row; one of the store is read again, since it may have been
        // disabled after the settings were made.
        let stored = tx.client(&self.record.id).await?;
        if stored.as_ref().is_some_and(|client| client.disabled.is_some()) {
            return Ok(Err(refused("ClientDisabled", "the client is not known here")));
        }
        // INVARIANT: a reload swaps the settings before it revokes by `client`. So whoever mints
        // after that revocation, and outlives it, sees here what was taken away.
        match documents::in_force(&desk.shared, &self.record) {
            Some(record) if is_kept(&record, stored.as_ref()) => {
                Ok(Ok(AuthenticatedClient { record }))
            }
            Some(_) | None => Ok(Err(refused("ClientRemoved", "the client is not known here"))),
        }
    }
}

/// Whether a client of the settings is still there, by its row. RFC 7592 §2.3: one of the store goes
/// with it, also where the settings are older than that.
pub(crate) fn is_kept(record: &ClientRecord, stored: Option<&StoredClient>) -> bool {
    match (record.registered, stored) {
        (_, Some(stored)) => stored.disabled.is_none(),
        (Registered::File | Registered::Document, None) => true,
        (Registered::Store | Registered::Itself, None) => false,
    }
}

impl Deref for AuthenticatedClient {
    type Target = ClientRecord;
    fn deref(&self) -> &ClientRecord {
        &self.record
    }
}

async fn by_name(desk: &Desk, client_id: &str, presented: &Presented) -> Result<Claim, OauthError> {
    let record = find(desk, client_id).await?;
    match &record.authentication {
        Authentication::None if !record.is_confidential() => Ok(Claim { record, spend: None }),
        // RFC 8705 §2: `client_id` names the client, the connection proves it.
        Authentication::Certificate(rule) => {
            by_certificate(desk, presented, rule)?;
            Ok(Claim { record, spend: None })
        }
        // RFC 6749 §3.2.1: confidential clients MUST authenticate.
        Authentication::None
        | Authentication::Keys(_)
        | Authentication::SecretDigest(_)
        | Authentication::Federated(_) => {
            Err(refused("ClientMustAuthenticate", "this client must authenticate"))
        }
    }
}

/// RFC 8705 §2.1, §2.2. That the holder has the private key was proven in the handshake.
fn by_certificate(
    desk: &Desk,
    presented: &Presented,
    rule: &CertificateRule,
) -> Result<(), OauthError> {
    // RFC 8705 §5: certificates are asked for at that origin alone; one that came another way
    // (a header, say) is nobody's.
    if !binding::at_mtls(desk, presented) {
        let description = "this client authenticates at mtls_endpoint_aliases of the metadata";
        return Err(refused("CertificateElsewhere", description));
    }
    match &presented.certificate {
        Some(certificate) if certificate.fits(rule) => Ok(()),
        Some(_) => Err(refused("CertificateOther", "the certificate is not this client's")),
        None => Err(refused("CertificateMissing", "the connection shows no client certificate")),
    }
}

async fn by_secret(
    desk: &Desk,
    client_id: &str,
    secret: &Secret<String>,
) -> Result<Claim, OauthError> {
    let record = find(desk, client_id).await;
    let expected = match record.as_ref().map(|record| &record.authentication) {
        Ok(Authentication::SecretDigest(digest)) => Some(*digest),
        Ok(
            Authentication::None
            | Authentication::Keys(_)
            | Authentication::Certificate(_)
            | Authentication::Federated(_),
        )
        | Err(_) => None,
    };
    // Compared whatever was found, in constant time.
    let fits = same(&sha256(secret.expose().as_bytes()), &expected.unwrap_or_default());
    let record = record?;
    if expected.is_none() {
        return Err(refused("MethodUnregistered", "this client authenticates in another way"));
    }
    if !fits {
        return Err(refused("SecretWrong", "the client secret is wrong"));
    }
    // A secret is a dated exception; the day it ends, it ends, without a restart.
    if !record.waivers.client_secret_at(desk.now) {
        return Err(refused("WaiverClientSecretExpired", "the waiver for a secret has run out"));
    }
    Ok(Claim { record, spend: None })
}

/// What an assertion says before it is verified: only to find whose keys to verify it with
/// (RFC 7523 §3 points 1 and 2).
#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    iss: Option<String>,
    sub: String,
}

async fn by_assertion(
    desk: &Desk,
    client_id: Option<&str>,
    assertion: &Secret<String>,
) -> Result<Claim, OauthError> {
    let malformed = |_| refused("AssertionMalformed", "the assertion cannot be read");
    let unverified = jws::parse(assertion.expose()).map_err(malformed)?;
    let names: Names = serde_json::from_slice(&unverified.payload)
        .map_err(|_| refused("AssertionMalformed", "the assertion names no client"))?;
    // A workload's subject is not its client id: there the parameter names the client.
    let record = find(desk, client_id.unwrap_or(&names.sub)).await?;
    match &record.authentication {
        Authentication::Keys(keys) => {
            // RFC 7521 §4.2: a client_id beside it must name the same client.
            if names.sub != record.id.as_str() {
                let description = "client_id and assertion differ";
                return Err(refused("AssertionOfAnotherClient", description));
            }
            let spend = own(desk, &record, keys, assertion)?;
            Ok(Claim { record, spend: Some(spend) })
        }
        Authentication::Federated(of) => {
            federated::verify(desk, of, &names, assertion).await?;
            Ok(Claim { record, spend: None })
        }
        Authentication::None | Authentication::SecretDigest(_) | Authentication::Certificate(_) => {
            Err(refused("MethodUnregistered", "this client authenticates in another way"))
        }
    }
}

/// `private_key_jwt` (RFC 7523 §2.2).
fn own(
    desk: &Desk,
    record: &ClientRecord,
    keys: &JwkSet,
    assertion: &Secret<String>,
) -> Result<Spend, OauthError> {
    let issuer = &desk.settings.issuer_text;
    let verified =
        verify::client_assertion(assertion.expose(), keys, record.id.as_str(), issuer, desk.now);
    let verified = verified.map_err(|fault| {
        tracing::debug!(client = %record.id, %fault, "a client assertion was refused");
        refused(assertion_rule(fault), "the assertion does not verify")
    })?;
    let claims = verified.claims();
    // The parts cannot slide: a client id has no blank.
    let key = format!("{} {}", record.id, claims.jti);
    Ok(Spend { key, until: Timestamp::from_unix(claims.exp) })
}

/// The rule of an assertion's fault, for the record.
fn assertion_rule(fault: jws::TokenFault) -> &'static str {
    match fault {
        jws::TokenFault::Expired => "AssertionExpired",
        jws::TokenFault::NotYetValid => "AssertionNotYetValid",
        jws::TokenFault::AudienceWrong => "AssertionAudienceWrong",
        jws::TokenFault::IssuerWrong => "AssertionIssuerWrong",
        jws::TokenFault::KeyUnknown => "AssertionKeyUnknown",
        jws::TokenFault::SignatureWrong => "AssertionSignatureWrong",
        jws::TokenFault::TypeWrong => "AssertionTypeWrong",
        jws::TokenFault::ClaimMalformed => "AssertionClaimMalformed",
        jws::TokenFault::TooLong
        | jws::TokenFault::NotCompact
        | jws::TokenFault::MemberDoubled
        | jws::TokenFault::AlgorithmNotAccepted
        | jws::TokenFault::CriticalUnknown
        | jws::TokenFault::Revoked => "AssertionMalformed",
    }
}

fn refused(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidClient, rule, description)
}

#[cfg(test)]
mod tests;
