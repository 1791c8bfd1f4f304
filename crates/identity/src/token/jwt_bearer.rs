//! JWT bearer (RFC 7523 §2.1): an assertion of another issuer of the file, once, for a token of
//! ours. There is no page and no user: what stands for their consent is that the operator trusts
//! the issuer and registered the client for this grant.
//!
//! Whom an assertion can name is kept narrow:
//! - Of an issuer of services: the client that presents it and that is registered with this very
//!   `iss` and `sub`. It can speak for no other.
//! - Of an issuer of users: the user whose login name is `<sub>@<the issuer's name in the file>`.
//!   So an account is linked by (issuer, `sub`) alone (`4-identity`), an issuer can name nobody
//!   whom the operator did not enter for it, and never a mail address decides (OpenID Connect Core
//!   §5.7: it may change its owner).
//!
//! Of whom a second factor is demanded here, gets nothing, unless the operator trusts the issuer's
//! own in words (`mfa = "theirs"`). Nobody showed a factor of ours, so such a token says `aal0`, its `fat` is empty, and no `step_up`
//! takes it. It comes without a refresh token (RFC 7521 §4.1).

mod named;

use portcullis_core::client::{ClientRecord, GrantType};
use portcullis_core::jose::claims::{Confirmation, FactorTimes};
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::secret::Secret;
use portcullis_store::database::Tx;
use portcullis_store::used::UsedKind;

use super::binding::{self, TOKEN_PATH};
use super::client_auth::{self, AuthenticatedClient, Claim};
use super::issue::{self, Extras, Revision, Wanted};
use super::{Aborted, Granted, may};
use crate::desk::Desk;
use crate::login::show::caller;
use crate::outcome::Presented;
use crate::settings::Settings;
use named::{Asserted, Subject};

/// What the client sent.
pub(crate) struct AssertionAsked {
    pub(crate) assertion: Secret<String>,
    pub(crate) scope: Option<String>,
    pub(crate) resource: Option<String>,
}

/// Takes an assertion.
pub(crate) async fn answer(
    desk: &Desk,
    claim: Claim,
    asked: AssertionAsked,
    presented: &Presented,
) -> Result<Granted, OauthError> {
    // What is asked for is judged first: garbage fetches no key.
    let asserted = match asked.read(&desk.settings, claim.client()) {
        Ok(_) => Asserted::read(desk, claim.client(), &asked.assertion).await,
        Err(error) => Err(error),
    };
    let shown = asserted
        .and_then(|asserted| Ok((asserted, binding::confirmation(desk, presented, TOKEN_PATH)?)));
    let (asserted, binding) = match shown {
        Ok(shown) => shown,
        Err(error) => return client_auth::refuse(desk, claim, error).await,
    };
    let at = desk.clone();
    let work = async move |tx: &Tx| -> Result<Result<Granted, OauthError>, Aborted> {
        // INVARIANT: before anything that a revocation could touch is read.
        let revision = Revision::read(tx).await?;
        let client = match claim.proven(tx, &at).await? {
            Ok(client) => client,
            Err(error) => return Ok(Err(error)),
        };
        // RFC 7523 §3 point 7: once, and spent whatever comes of the request.
        if !tx.first_use(UsedKind::Assertion, &asserted.once, asserted.until).await? {
            return Ok(Err(refused("AssertionReplayed", "the assertion was used before")));
        }
        // Read again for the client as it is registered now (see `Claim::proven`).
        let wanted = match asked.read(&at.shared.in_force(), &client) {
            Ok(wanted) => wanted,
            Err(error) => return Ok(Err(error)),
        };
        granted(tx, &at, (revision, &client), asserted.subject, (wanted, binding)).await
    };
    desk.shared.store.transact(work).await.map_err(OauthError::from)?
}

/// The token, for whom the assertion names.
async fn granted(
    tx: &Tx,
    desk: &Desk,
    (revision, client): (Revision, &AuthenticatedClient),
    subject: Subject,
    (wanted, binding): (Wanted, Option<Confirmation>),
) -> Result<Result<Granted, OauthError>, Aborted> {
    let extras = Extras { binding, ..Extras::default() };
    match subject {
        Subject::Client => {
            let token = issue::for_service(desk, revision, client, wanted, extras);
            let caller = format!("service:{}", client.id);
            Ok(Ok(Granted { answer: token.into_answer(), caller }))
        }
        Subject::Login(login, second_factor) => {
            let asked = (login.as_str(), second_factor, &wanted);
            let person = match named::person(tx, desk, client, asked).await? {
                Ok(person) => person,
                Err(error) => return Ok(Err(error)),
            };
            let extras = Extras { narrowed: Some(wanted.scopes), ..extras };
            let token = issue::for_user(desk, revision, client, &person, extras);
            Ok(Ok(Granted { answer: token.into_answer(), caller: caller(&person.user.id) }))
        }
    }
}

/// The factors that an assertion shows: none of ours.
const NO_FACTORS: FactorTimes = FactorTimes { pwd: None, otp: None, hwk: None };

impl AssertionAsked {
    /// What is asked for, if the client may have it.
    fn read(&self, settings: &Settings, client: &ClientRecord) -> Result<Wanted, OauthError> {
        may(client, GrantType::JwtBearer)?;
        // RFC 7521 §4.1: its scope is that of any grant. No login took place here.
        Wanted::registered(settings, client, self.scope.as_deref(), self.resource.as_deref())
    }
}

/// RFC 7521 §4.1.1: an assertion that is not good is an invalid grant.
fn refused(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidGrant, rule, description)
}

#[cfg(test)]
mod tests;
