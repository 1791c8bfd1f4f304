//! Consent: the last state of a login, and the only maker of codes.
//!
//! Asked on first use, on widening, and always for clients that cannot prove who they are. The
//! grant itself is made when the code is redeemed; what is kept here is that the user agreed.

use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::FactorTimes;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::scope::Scopes;
use portcullis_core::web::Parameters;
use portcullis_store::database::Tx;
use portcullis_store::used::UsedKind;

use crate::authorize::Rejected;
use crate::code;
use crate::desk::Desk;
use crate::login::CameBack;
use crate::login::password::AwaitingPassword;
use crate::login::sealed::{self, Opened, Stage};
use crate::login::state::{Done, Login, Proven, Step, Ticket, next};
use crate::outcome::{Notice, PageRefusal, Presented};

/// Who it is, is proven; what the client may have, is not granted yet.
pub struct AwaitingConsent {
    ticket: Ticket,
    proven: Proven,
    /// What the user agreed to before, for this client.
    consented: Scopes,
}

/// Proof that a user, or the operator for a first-party client, agreed. Made by
/// [`AwaitingConsent`] alone; codes are sealed from nothing else.
///
/// ```compile_fail,E0451
/// use portcullis_identity::consent::Consented;
/// fn mint(_given: Consented) -> Consented { Consented { terms: unreachable!() } }
/// ```
/// The twin, which hands on what was given:
/// ```
/// use portcullis_identity::consent::Consented;
/// fn mint(_given: Consented) -> Consented { _given }
/// ```
pub struct Consented {
    terms: Terms,
}

/// What was agreed to: everything that a code is bound to.
pub(crate) struct Terms {
    pub(crate) client: Id<id::Client>,
    pub(crate) redirect: String,
    pub(crate) challenge: Challenge,
    pub(crate) nonce: Option<String>,
    pub(crate) scopes: Scopes,
    pub(crate) audience: Option<String>,
    pub(crate) session: Id<id::Session>,
    pub(crate) user: Id<id::User>,
    pub(crate) factors: FactorTimes,
    /// The key that the code's redemption must prove (RFC 9449 §10).
    pub(crate) dpop_jkt: Option<String>,
    /// `authorization_details` that were agreed to (RFC 9396).
    pub(crate) details: Vec<serde_json::Value>,
    /// Whether the grant outlives the session: `offline_access`, or a native client.
    pub(crate) offline: bool,
}

impl Consented {
    /// For sealing.
    pub(crate) fn into_terms(self) -> Terms {
        self.terms
    }
}

/// `POST /consent`.
pub(crate) async fn step(
    desk: &Desk,
    form: &Parameters,
    presented: &Presented,
) -> Result<Step, Rejected> {
    let (ticket, stage) = match sealed::open(desk, form, presented)? {
        Opened::Fresh(ticket, stage) => (ticket, stage),
        Opened::Stale(ticket) => return Ok(AwaitingPassword::stale(ticket)),
    };
    let decision = form.value("decision").unwrap_or_default().to_owned();
    let Some(back) = CameBack::of(&stage, presented) else {
        return Ok(AwaitingPassword::stale(ticket));
    };
    let at = desk.clone();
    let store = desk.shared.store.clone();
    let work = async move |tx: &Tx| -> Result<Step, Rejected> {
        let client = ticket.checked().client().clone();
        let Some(standing) = back.standing(tx, &at, &client.id).await? else {
            return Ok(AwaitingPassword::stale(ticket));
        };
        let user = &standing.user.id;
        let awaiting = match next(&at, ticket, &standing) {
            Login::Consent(awaiting) => awaiting,
            // `6-attacks`: a skipped step never advances; what is owed is shown.
            login => return Ok(Step::refused(login, client, "StepSkipped", Notice::Stale).by(user)),
        };
        let (login, what) = match decision.as_str() {
            "allow" => (Login::Done(awaiting.granted(tx, &at).await?), Ok("ConsentGranted")),
            "deny" => (Login::Done(awaiting.denied()), Err("ConsentDenied")),
            _ => (Login::Consent(awaiting), Err("DecisionMissing")),
        };
        Ok(Step { result: what, ..Step::taken(login, client, "ConsentGranted").by(user) })
    };
    store.transact(work).await
}

impl AwaitingConsent {
    /// Reached from a session whose ledger has every factor demanded.
    pub(crate) fn of(ticket: Ticket, proven: Proven, consented: &Scopes) -> Self {
        AwaitingConsent { ticket, proven, consented: consented.clone() }
    }

    /// Whether nothing has to be asked.
    pub(crate) fn stands(&self) -> bool {
        let checked = self.ticket.checked();
        let client = checked.client();
        if checked.prompt().consent {
            return false;
        }
        // RFC 8252 §8.6, RFC 9700 §4.14: only an https redirect is the client's and nobody
        // else's; any app can claim a scheme or a loopback port.
        let held = checked.answer_to().redirect().starts_with("https://");
        let agreed = client.is_confidential() && checked.scopes().is_subset(&self.consented);
        (client.first_party && held) || agreed
    }

    /// The only maker of codes. Reads user and session again in this transaction, and consumes the
    /// login's nonce in it: a state replayed after its consent makes no second code.
    pub(crate) async fn granted(self, tx: &Tx, desk: &Desk) -> Result<Done, Rejected> {
        let AwaitingConsent { ticket, proven, consented } = self;
        let checked = ticket.checked();
        let user = tx.active_user(&proven.user).await?;
        let session = tx.active_session(&proven.session, desk.now).await?;
        let (Some(user), Some(session)) = (user, session) else {
            return Err(refused("SessionEnded"));
        };
        if !tx.first_use(UsedKind::Login, ticket.nonce(), ticket.ends()).await? {
            return Err(refused("StateReplayed"));
        }
        // The session was used: its idle time begins anew. Cookie and ledger stay.
        tx.raise_session(&session.id, &session.cookie, session.factors, desk.now).await?;
        if !checked.client().first_party && !checked.scopes().is_subset(&consented) {
            tx.keep_consent(&user.id, &checked.client().id, checked.scopes(), desk.now).await?;
        }
        let consented = Consented {
            terms: Terms {
                client: checked.client().id.clone(),
                redirect: checked.answer_to().redirect().to_owned(),
                challenge: checked.challenge().clone(),
                nonce: checked.request().nonce.clone(),
                scopes: checked.scopes().clone(),
                audience: checked.audience().map(|audience| audience.to_string()),
                session: session.id.clone(),
                user: user.id.clone(),
                factors: session.factors,
                dpop_jkt: None,
                details: Vec::new(),
                offline: false,
            },
        };
        Ok(Done::at(checked.answer_to().with_code(&code::mint(desk, consented))))
    }

    /// RFC 6749 §4.1.2.1: the client learns that the user said no.
    fn denied(self) -> Done {
        let description = "the user did not agree";
        let error = OauthError::new(ErrorCode::AccessDenied, "ConsentDenied", description);
        Done::at(self.ticket.checked().answer_to().with_error(&error))
    }

    /// The request.
    pub(crate) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Who is asked.
    pub(crate) fn login(&self) -> &str {
        &self.proven.login
    }

    /// What is sealed into the page.
    pub(crate) fn stage(&self) -> Stage {
        Stage::Proven { session: self.proven.session.clone() }
    }
}

fn refused(rule: &'static str) -> Rejected {
    let words = "This sign-in is over. Go back to the app and start again.";
    Rejected::Page(PageRefusal { status: 400, rule, words })
}
