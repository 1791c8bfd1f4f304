//! Consent: the last state of a login, and the only maker of codes.
//!
//! Asked on first use, on widening, and always for clients that cannot prove who they are. The
//! grant itself is made when the code is redeemed; what is kept here is that the user agreed.

use std::time::Duration;

use portcullis_core::client::{ClientRecord, Registered};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::FactorTimes;
use portcullis_core::oauth::error::{ErrorCode, OauthError};
use portcullis_core::oauth::pkce::Challenge;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;
use portcullis_core::web::Parameters;
use portcullis_store::database::Tx;
use portcullis_store::device_logins::Decision;
use portcullis_store::sessions::SessionRecord;
use portcullis_store::used::UsedKind;

use crate::authorize::ask::DeviceAsk;
use crate::authorize::{Checked, Destination, OFFLINE, Rejected};
use crate::code;
use crate::desk::Desk;
use crate::documents;
use crate::login::CameBack;
use crate::login::password::AwaitingPassword;
use crate::login::sealed::{self, Opened, Stage};
use crate::login::state::{Done, Login, Proven, Step, Ticket, next};
use crate::outcome::{DeviceAnswer, Notice, PageRefusal, Presented, Show};
use crate::subject;

/// How exactly a session's last use is kept.
const SEEN_STEP: Duration = Duration::from_secs(60);

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
    /// Whether the grant outlives the session: `offline_access`.
    pub(crate) offline: bool,
    /// What the client's document said, when it is one ([`documents::digest`]).
    pub(crate) document: Option<String>,
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
    let (ticket, stage) = match sealed::open(desk, form, presented).await? {
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
            "deny" => (Login::Done(awaiting.denied(tx, &at).await?), Err("ConsentDenied")),
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
        let answer_to = match checked.destination() {
            Destination::Client { answer_to, .. } => answer_to,
            // RFC 8628 §5.4: whoever approves must see which device asks, each time.
            Destination::Device(_) => return false,
        };
        // RFC 9396 §11.2: another amount is another question, even for a known client. A client that
        // nobody registered is asked about always.
        let always = checked.prompt().consent
            || !checked.details().is_empty()
            || client.registered == Registered::Document;
        if always {
            return false;
        }
        let agreed = checked.scopes().is_subset(&self.consented);
        // RFC 8252 §8.6: only an https redirect is the client's and nobody
        // else's; any app can claim a scheme or a loopback port.
        let held = answer_to.redirect().starts_with("https://");
        // OpenID Connect Core §11: what outlives the session is the user's to grant, not ours.
        let ours = client.first_party && (agreed || !checked.scopes().contains(OFFLINE));
        (ours && held) || (client.is_confidential() && agreed)
    }

    /// Whether [`Self::granted`] will write nothing, where the consent stands: no state that was
    /// shown, nothing used once, and a session whose last use is kept already.
    pub(crate) fn only_reads(&self, desk: &Desk, seen: Timestamp) -> bool {
        let used_once = self.ticket.was_shown() || !self.ticket.checked().spends().is_empty();
        self.stands() && !used_once && desk.now.since(seen) < SEEN_STEP
    }

    /// The only maker of codes. Reads user and session again in this transaction, and consumes the
    /// login's nonce in it, with whatever else is used once: a state replayed after its consent
    /// makes no second code.
    pub(crate) async fn granted(self, tx: &Tx, desk: &Desk) -> Result<Done, Rejected> {
        let AwaitingConsent { ticket, proven, consented } = self;
        let checked = ticket.checked();
        let user = tx.active_user(&proven.user).await?;
        let session = tx.active_session(&proven.session, desk.now).await?;
        let (Some(user), Some(session)) = (user, session) else {
            return Err(refused("SessionEnded"));
        };
        // OpenID Connect Core §3.1.2.1: the user that `id_token_hint` names, or an error.
        let seen = || subject::seen_by(desk, checked.client(), &user.id);
        if checked.hint().is_some_and(|hint| hint != seen()) {
            let description = "another user signed in than the one of id_token_hint";
            let (code, rule) = (ErrorCode::LoginRequired, "HintOfAnotherUser");
            return Err(checked.refuse(OauthError::new(code, rule, description)));
        }
        spend(tx, &ticket).await?;
        // The session was used: its idle time begins anew, to the minute, so that whoever asks again
        // and again writes once.
        if desk.now.since(session.seen) >= SEEN_STEP {
            tx.see_session(&session.id, desk.now).await?;
        }
        let scopes = checked.scopes();
        if !of_operator(checked.client(), scopes) && !scopes.is_subset(&consented) {
            tx.keep_consent(&user.id, &checked.client().id, scopes, desk.now).await?;
        }
        match checked.destination() {
            Destination::Client { answer_to, challenge } => {
                let consented = Consented { terms: terms(checked, challenge, &session) };
                Ok(Done::at(answer_to.with_code(desk, code::mint(desk, consented))))
            }
            Destination::Device(device) => {
                let session = SessionRecord::clone(&session);
                let (user, factors) = (session.user, session.factors);
                let decision = Decision::Approved { user, session: session.id, factors };
                decide(tx, desk, device, &decision).await?;
                Ok(Done::at(Show::DeviceAnswered(DeviceAnswer::Approved)))
            }
        }
    }

    /// RFC 6749 §4.1.2.1, RFC 8628 §3.5: whoever asked learns that the user said no.
    async fn denied(self, tx: &Tx, desk: &Desk) -> Result<Done, Rejected> {
        let description = "the user did not agree";
        let error = OauthError::new(ErrorCode::AccessDenied, "ConsentDenied", description);
        match self.ticket.checked().destination() {
            Destination::Client { answer_to, .. } => {
                Ok(Done::at(answer_to.with_error(desk, &error)))
            }
            Destination::Device(device) => {
                decide(tx, desk, device, &Decision::Denied).await?;
                Ok(Done::at(Show::DeviceAnswered(DeviceAnswer::Denied)))
            }
        }
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

/// Uses up what the login is good for once: its own nonce, and the reference or the object that it
/// came with (RFC 9126 §7.3). All or nothing: a login that is refused has used nothing.
async fn spend(tx: &Tx, ticket: &Ticket) -> Result<(), Rejected> {
    // A login that ends in the request that began it has shown no state that could come back.
    if ticket.was_shown() && !tx.first_use(UsedKind::Login, ticket.nonce(), ticket.ends()).await? {
        return Err(refused("StateReplayed"));
    }
    for spend in ticket.checked().spends() {
        if !tx.first_use(spend.kind(), &spend.mark, spend.until()).await? {
            return Err(refused(spend.rule()));
        }
    }
    Ok(())
}

/// Whether the operator agreed in the user's stead. OpenID Connect Core §11: never to what outlives the
/// session.
pub(crate) fn of_operator(client: &ClientRecord, scopes: &Scopes) -> bool {
    client.first_party && !scopes.contains(OFFLINE)
}

/// All that the code is bound to.
fn terms(checked: &Checked, challenge: &Challenge, session: &SessionRecord) -> Terms {
    let client = checked.client();
    let request = checked.request();
    Terms {
        client: client.id.clone(),
        redirect: request.and_then(|request| request.redirect_uri.clone()).unwrap_or_default(),
        challenge: challenge.clone(),
        nonce: request.and_then(|request| request.nonce.clone()),
        scopes: checked.scopes().clone(),
        audience: checked.audience().map(|audience| audience.to_string()),
        session: session.id.clone(),
        user: session.user.clone(),
        factors: session.factors,
        dpop_jkt: request.and_then(|request| request.dpop_jkt.clone()),
        details: checked.details().to_vec(),
        // OpenID Connect Core §11; `4-identity`: a native app's grant lives by its own clock.
        offline: checked.scopes().contains(OFFLINE),
        document: documents::digest(client),
    }
}

/// Decides a device login, once (RFC 8628 §3.3).
async fn decide(
    tx: &Tx,
    desk: &Desk,
    device: &DeviceAsk,
    decision: &Decision,
) -> Result<(), Rejected> {
    let code = device.code().ok_or_else(|| refused("DeviceLoginOver"))?;
    match tx.decide_device_login(&code, decision, desk.now).await? {
        true => Ok(()),
        false => Err(refused("DeviceLoginOver")),
    }
}

fn refused(rule: &'static str) -> Rejected {
    let words = "This sign-in is over. Go back to the app and start again.";
    Rejected::Page(PageRefusal { status: 400, rule, words })
}

#[cfg(test)]
mod tests;
