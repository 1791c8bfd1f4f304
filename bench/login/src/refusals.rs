//! A server that refuses nothing is fast: what it must refuse before it is measured.

use std::rc::Rc;

use crate::Fault;
use crate::minted::Minted;
use crate::plan::{Kind, Plan};
use crate::slot::{Code, Slot, basic};
use crate::wire::{Ask, Dialer};

/// Asks for what must not be given.
pub(crate) async fn check(
    plan: &Rc<Plan>,
    dialer: &Dialer,
    minted: &Rc<Minted>,
) -> Result<(), Fault> {
    let mut slot = Slot::open(plan, dialer, minted, 0).await?;
    match plan.kind {
        Kind::ClientCredentials => {
            let form = slot.credentials();
            credentials(plan, &mut slot, &form).await
        }
        Kind::Refresh => {
            let form = "grant_type=refresh_token&refresh_token=rt_forged";
            let ask = slot.token_request(form);
            refuse(&mut slot, ask, "a forged refresh token").await
        }
        Kind::Code => {
            let code = slot.code().await?;
            let verifier = "x".repeat(43);
            let form = slot.redemption(&Code { code: code.code.clone(), verifier });
            let ask = slot.token_request(&form);
            refuse(&mut slot, ask, "another verifier").await?;
            let code = slot.code().await?;
            let form = slot.redemption(&code);
            slot.token(&form).await?.member("access_token", "a code")?;
            let ask = slot.token_request(&form);
            refuse(&mut slot, ask, "a code used twice").await
        }
    }
}

async fn credentials(plan: &Plan, slot: &mut Slot, form: &str) -> Result<(), Fault> {
    if plan.secret.is_some() {
        let authorization = Some(basic(&plan.client, "another-secret-of-the-bench-0123456789"));
        let ask = Ask { authorization, ..slot.token_request(form) };
        refuse(slot, ask, "a wrong secret").await?;
    }
    if plan.key.is_some() {
        let first = slot.token_request(form);
        let assertion = first.form.clone();
        slot.send(first).await?.member("access_token", "an assertion")?;
        let again = Ask { form: assertion, ..slot.token_request(form) };
        refuse(slot, again, "an assertion used twice").await?;
        let mut forged = slot.token_request(form);
        // The last letters are the signature's.
        forged.form = forged.form.map(|form| match form.strip_suffix("AAAAAAAA") {
            Some(rest) => format!("{rest}BBBBBBBB"),
            None => format!("{}AAAAAAAA", form.get(..form.len() - 8).unwrap_or_default()),
        });
        refuse(slot, forged, "a forged assertion").await?;
    }
    if plan.dpop {
        let first = slot.token_request(form);
        let proof = first.proof.clone();
        slot.send(first).await?.member("access_token", "a proof")?;
        let again = Ask { proof, ..slot.token_request(form) };
        refuse(slot, again, "a proof used twice").await?;
    }
    Ok(())
}

async fn refuse(slot: &mut Slot, ask: Ask, what: &str) -> Result<(), Fault> {
    let reply = slot.send(ask).await?;
    match reply.status {
        400 | 401 => Ok(()),
        _ => Err(reply.unlike(what)),
    }
}
