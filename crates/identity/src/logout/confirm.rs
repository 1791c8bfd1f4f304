//! The page that asks before it signs out, and its answer.
//!
//! What was asked travels in a sealed state bound to the browser's `__Host-pc-tx` cookie, so that no
//! other site can press the button; the session is read again, and must be the one asked about.

use portcullis_core::bearer::Plain;
use portcullis_core::hash::{same, sha256};
use portcullis_core::id::{self, Id};
use portcullis_core::jose::base64url;
use portcullis_core::seal::Purpose;
use portcullis_core::secret::Secret;
use portcullis_core::web::Parameters;
use serde::{Deserialize, Serialize};

use super::request::{Destination, Request, find, is_registered, refused};
use super::{Present, blank, end, present, signed_out};
use crate::authorize::Rejected;
use crate::desk::Desk;
use crate::login::sealed::{STATE_S, TxCookie};
use crate::login::show::{TX_COOKIE, caller};
use crate::outcome::{CookieChange, LogoutPage, Outcome, Presented, Show};

/// The sealed words.
#[derive(Serialize, Deserialize)]
struct Asked {
    /// SHA-256 of the cookie, base64url.
    tx: String,
    /// Which session.
    session: Id<id::Session>,
    client: Option<String>,
    redirect: Option<String>,
    state: Option<String>,
    expires: i64,
}

/// Asks. Writes nothing.
pub(super) fn page(
    desk: &Desk,
    request: &Request,
    present: &Present,
    presented: &Presented,
) -> Outcome {
    let mut cookies = Vec::new();
    let known = presented.tx.as_ref().and_then(|tx| Plain::<TxCookie>::presented(tx.expose()));
    let tx = known.unwrap_or_else(|| {
        let tx = Plain::mint(&*desk.shared.entropy);
        let value = Secret::new(tx.reveal().to_owned());
        cookies.push(CookieChange { name: TX_COOKIE, value, max_age_s: None });
        tx
    });
    let asked = Asked {
        tx: bound(tx.reveal()),
        session: present.record.id.clone(),
        client: request.client.as_ref().map(|client| client.id.to_string()),
        redirect: request.to.as_ref().map(|to| to.redirect.clone()),
        state: request.to.as_ref().and_then(|to| to.state.clone()),
        expires: desk.in_seconds(STATE_S).unix(),
    };
    // An empty text opens nowhere; our own words are always JSON.
    let plain = serde_json::to_vec(&asked).unwrap_or_default();
    let show = Show::Logout(LogoutPage {
        sealed: desk.seal(Purpose::Nonce, &plain),
        login: present.login.clone(),
        client: request.client.as_ref().map(|client| client.shown().to_owned()),
        form_target: request.to.as_ref().map(Destination::source),
    });
    Outcome { cookies, caller: Some(caller(&present.record.user)), ..blank(show) }
}

/// The page's answer: `state`, and `decision` (`logout` or `stay`).
pub(super) async fn answered(
    desk: &Desk,
    form: &Parameters,
    presented: &Presented,
    decision: &str,
) -> Result<Outcome, Rejected> {
    let asked = open(desk, form, presented)?;
    let leaves = match decision {
        "logout" => true,
        "stay" => false,
        _ => return Err(refused(400, "DecisionUnknown")),
    };
    let outcome = match present(desk, presented).await? {
        // Another login in between: what was asked is not what would end.
        Some(present) if present.record.id != asked.session => {
            return Err(refused(403, "StateOfAnotherSession"));
        }
        Some(_) if !leaves => Outcome { outcome: Ok("Stayed".into()), ..blank(Show::Nothing) },
        Some(present) => {
            end(desk, &present.record.id).await?;
            signed_out(destination(desk, &asked).as_ref()).by(&present.record.user)
        }
        None => signed_out(destination(desk, &asked).as_ref()),
    };
    Ok(Outcome { client: asked.client.map(|client| format!("?{client}")), ..outcome })
}

fn open(desk: &Desk, form: &Parameters, presented: &Presented) -> Result<Asked, Rejected> {
    let text = form.value("state").ok_or_else(|| refused(400, "StateMissing"))?;
    let plain = desk.shared.sealer.open(Purpose::Nonce, text);
    let plain = plain.map_err(|_| refused(400, "StateForged"))?;
    let asked: Asked =
        serde_json::from_slice(plain.expose()).map_err(|_| refused(400, "StateForged"))?;
    // RFC 9700 §4.7: a form is good in the browser that it was shown to, alone.
    let tx = presented.tx.as_ref().map(|tx| bound(tx.expose())).unwrap_or_default();
    if !same(tx.as_bytes(), asked.tx.as_bytes()) {
        return Err(refused(403, "StateOfAnotherBrowser"));
    }
    if desk.now.unix() >= asked.expires {
        return Err(refused(400, "StateExpired"));
    }
    Ok(asked)
}

/// Where to go, if the client still registers it: the file may have changed since.
fn destination(desk: &Desk, asked: &Asked) -> Option<Destination> {
    let client = find(desk, asked.client.as_deref()?)?;
    let redirect = asked.redirect.clone().filter(|to| is_registered(&client, to))?;
    Some(Destination { redirect, state: asked.state.clone() })
}

fn bound(cookie: &str) -> String {
    base64url::encode(&sha256(cookie.as_bytes()))
}
