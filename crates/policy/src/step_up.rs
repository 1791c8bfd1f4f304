//! `step_up`: how fresh a factor has to be, always or when a condition holds; and what a challenge
//! asks for where nothing else is missing (RFC 9470 §3).
//!
//! The age is judged first. Only a caller whose factor is not fresh is asked whether the condition
//! frees them, and it frees only where all that it reads is there and it is plainly false: what is
//! absent or errs is "needed".

use cedar_policy::Expression;
use portcullis_core::audit::Clause;
use portcullis_core::fault::{Fault, Place, Placed};
use portcullis_core::time::duration;

use crate::condition::Condition;
use crate::decide::StepUp;
use crate::entities::Circumstances;
use crate::nearest::advice;

/// Longest age that a line may ask for, in seconds: thirty days.
pub(crate) const MAX_AGE_S: u64 = 30 * 24 * 60 * 60;

/// One of the ages in `context.age`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Factor {
    Any,
    Mfa,
    Passkey,
    Totp,
    Password,
}

impl Factor {
    const ALL: [Factor; 5] =
        [Factor::Any, Factor::Mfa, Factor::Passkey, Factor::Totp, Factor::Password];

    /// The member of `context.age`, which is also the operator's word.
    pub(crate) fn age(self) -> &'static str {
        match self {
            Factor::Any => "any",
            Factor::Mfa => "mfa",
            Factor::Passkey => "passkey",
            Factor::Totp => "totp",
            Factor::Password => "password",
        }
    }

    /// Our authentication context class: one factor, or two.
    fn acr(self) -> &'static str {
        match self {
            Factor::Any | Factor::Password => "aal1",
            Factor::Mfa | Factor::Passkey | Factor::Totp => "aal2",
        }
    }
}

/// The `step_up` of a table.
pub(crate) struct StepUpClause {
    /// Any of these will do.
    pub(crate) factors: Vec<Factor>,
    /// Seconds.
    pub(crate) within: i64,
    /// As written.
    pub(crate) need: String,
    /// When it is needed; always, if there is none.
    pub(crate) when: Option<Needed>,
}

/// The condition of a `step_up`.
pub(crate) struct Needed {
    pub(crate) condition: Condition,
    pub(crate) place: Place,
    /// That it is surely not needed.
    pub(crate) refuted: Expression,
}

impl StepUpClause {
    /// `mfa within 5m when resource.body.amount > 1000`.
    pub(crate) fn words(&self) -> String {
        match &self.when {
            Some(needed) => format!("{} when {}", self.need, needed.condition.text),
            None => self.need.clone(),
        }
    }

    /// The clause in Cedar.
    pub(crate) fn cedar(&self) -> String {
        let ages = self.factors.iter().map(|factor| {
            let (age, within) = (factor.age(), self.within);
            format!("(context.age has {age} && context.age.{age} <= {within})")
        });
        let freed = self.when.iter().map(|needed| format!("({})", needed.condition.refuted));
        ages.chain(freed).collect::<Vec<_>>().join(" || ")
    }

    /// Whether some factor is fresh.
    pub(crate) fn is_fresh(&self, circumstances: &Circumstances) -> bool {
        self.factors.iter().any(|factor| {
            circumstances.ages.get(factor.age()).is_some_and(|age| *age <= self.within)
        })
    }

    /// What a challenge asks for.
    pub(crate) fn challenge(&self) -> StepUp {
        let mut acr_values: Vec<String> = Vec::new();
        for factor in &self.factors {
            if !acr_values.iter().any(|known| known == factor.acr()) {
                acr_values.push(factor.acr().to_owned());
            }
        }
        StepUp { acr_values, max_age: u64::try_from(self.within).ok() }
    }

    /// As a record tells it; `inputs` are those of the condition.
    pub(crate) fn told(&self, held: bool, circumstances: &Circumstances, inputs: &str) -> Clause {
        let clause = match &self.when {
            None => format!("step_up = \"{}\"", self.need),
            Some(needed) => format!(
                "step_up = {{ need = \"{}\", when = \"{}\" }}",
                self.need, needed.condition.text
            ),
        };
        let ages = self.factors.iter().map(|factor| {
            let age = circumstances.ages.get(factor.age());
            let age = age.map_or("(never)".to_owned(), ToString::to_string);
            format!("context.age.{}={age}", factor.age())
        });
        let mut shown: Vec<String> = ages.collect();
        shown.extend((!inputs.is_empty()).then(|| inputs.to_owned()));
        Clause { clause, held, inputs: shown.join(" ") }
    }
}

/// Reads `mfa within 5m` or `passkey or totp within 15m`.
pub(crate) fn read_need(
    word: &Placed<String>,
    faults: &mut Vec<Fault>,
) -> Option<(Vec<Factor>, i64)> {
    let malformed = |message: String, remedy: String| {
        Fault::error("StepUpMalformed", word.place.clone(), message, remedy)
    };
    let example = "write it as `mfa within 5m` or `passkey or totp within 15m`";
    let Some((names, within)) = word.value.split_once(" within ") else {
        let message = format!("`{}` does not say within what time", word.value);
        faults.push(malformed(message, example.into()));
        return None;
    };
    let mut factors: Vec<Factor> = Vec::new();
    for name in names.split(" or ") {
        match Factor::ALL.into_iter().find(|factor| factor.age() == name) {
            Some(factor) if factors.contains(&factor) => {
                let message = format!("`{name}` stands twice");
                faults.push(malformed(message, "keep one of the two".into()));
                return None;
            }
            Some(factor) => factors.push(factor),
            None => {
                let words = Factor::ALL.map(Factor::age);
                let remedy = advice(name, words, || example.into());
                let message = format!("`{name}` is not a factor");
                faults.push(Fault::error("FactorUnknown", word.place.clone(), message, remedy));
                return None;
            }
        }
    }
    let seconds = duration(within).ok().map(|within| (within.as_secs(), within.subsec_nanos()));
    match seconds {
        Some((seconds @ 1..=MAX_AGE_S, 0)) => Some((factors, i64::try_from(seconds).ok()?)),
        Some(_) | None => {
            let message = format!("`{within}` is not an age");
            faults.push(malformed(message, "write whole seconds up to `30d`, as in `5m`".into()));
            None
        }
    }
}

#[cfg(test)]
#[path = "step_up_tests.rs"]
mod tests;
