//! The compiled evaluator: an operation's lowered policies against a question, without allocating.
//!
//! It is exactly Cedar for what [`crate::expr::lower`] lets in, plus one rule of our own: a `forbid`
//! that errs denies, where Cedar would skip it (`7-authorization`, deciding). It gives no reasons;
//! those are [`crate::decide`]'s, which also keeps comparing the two.

/// In tests, gives the wrong answer while that mutation is on; nothing otherwise.
macro_rules! broken {
    ($mutation:ident => $wrong:expr) => {
        #[cfg(test)]
        if crate::compiled::mutation::Mutation::$mutation.is_on() {
            return $wrong;
        }
    };
}

mod evaluate;
#[cfg(test)]
mod agreement;
mod code;
#[cfg(test)]
mod generator;
#[cfg(test)]
mod mutation;
mod operator;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod questions;
#[cfg(test)]
mod tests;
mod value;

use crate::entities::{Caller, Question};
use crate::expr::{Effect, Lowered};
use evaluate::Asked;

pub(crate) use code::Code;

/// What an operation's policies say of a question. The number is the policy's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// By the first permit that holds; no forbid does.
    Permitted(usize),
    /// By the first forbid that holds or errs: this one holds.
    Forbidden(usize),
    /// By the first forbid that holds or errs: this one errs.
    ForbidErred(usize),
    /// No permit holds, and no forbid.
    NotPermitted,
}

/// How much of the request is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pass {
    /// All but body and owner.
    Head,
    /// All but the owner.
    Body,
    /// Everything.
    Owner,
}

/// An expression that has no value: an absent attribute, an overflow, an operand of another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Erred;

/// Answers a question about the operation of these policies.
///
/// In a permit, a condition that waits for a later pass counts as true; a forbid with one is not
/// judged yet. Forbids come first: there are few, and a challenge must not be made to someone whom
/// one forbids.
///
/// INVARIANT: [`Answered::Permitted`] in [`Pass::Owner`] means that some permit holds whole and no
/// forbid holds or errs.
pub(crate) fn answer(
    lowered: &[Lowered],
    caller: &Caller,
    question: &Question<'_>,
    pass: Pass,
) -> Answered {
    for (position, policy) in lowered.iter().enumerate() {
        if forbids(policy, pass) {
            match applies(policy, (caller, question), pass) {
                Ok(true) => return Answered::Forbidden(position),
                Ok(false) => {}
                Err(Erred) => return erred(position),
            }
        }
    }
    let permits = |policy: &Lowered| permits(policy, (caller, question), pass);
    lowered.iter().position(permits).map_or(Answered::NotPermitted, Answered::Permitted)
}

type Put<'q> = (&'q Caller, &'q Question<'q>);

/// Whether a policy is a forbid that can be judged.
fn forbids(policy: &Lowered, pass: Pass) -> bool {
    broken!(ForbidIsIgnored => false);
    broken!(WaitingForbidIsJudged => policy.effect == Effect::Forbid);
    policy.effect == Effect::Forbid && policy.last <= pass
}

/// Cedar skips a forbid that errs; what it would have forbidden is then open. Not here.
fn erred(position: usize) -> Answered {
    broken!(ErringForbidPasses => Answered::NotPermitted);
    Answered::ForbidErred(position)
}

fn permits(policy: &Lowered, put: Put<'_>, pass: Pass) -> bool {
    broken!(ErringPermitGrants => {
        policy.effect == Effect::Permit && applies(policy, put, pass) != Ok(false)
    });
    policy.effect == Effect::Permit && applies(policy, put, pass) == Ok(true)
}

/// Whether a policy applies: its conditions in order, up to the first that is false or errs.
fn applies(policy: &Lowered, (caller, question): Put<'_>, pass: Pass) -> Result<bool, Erred> {
    let asked = Asked { code: &policy.code, caller, question };
    broken!(OnlyFirstCondition => {
        policy.code.conditions().next().map_or(Ok(true), |first| asked.holds(first))
    });
    broken!(WaitingConditionIsJudged => all(policy, &asked));
    if policy.last <= pass {
        return all(policy, &asked);
    }
    for (condition, needs) in policy.code.conditions().zip(&policy.needs) {
        if *needs <= pass && !asked.holds(condition)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn all(policy: &Lowered, asked: &Asked<'_>) -> Result<bool, Erred> {
    for condition in policy.code.conditions() {
        if !asked.holds(condition)? {
            return Ok(false);
        }
    }
    Ok(true)
}
