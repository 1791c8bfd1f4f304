//! Carries out the stories of the corpus: several requests, each made as an honest party would make
//! it but for what the step changes, and judged by what the step expects. A step without
//! expectations must succeed, so that what comes after it is refused for its own reason.
//!
//! `cast` knows the clients, `tale` what has happened so far, `requests` how each honest request
//! looks, `tokens` how it is proven, `pages` how a person goes through the pages.

pub(crate) mod cast;
mod tale;
mod requests;
mod tokens;
mod pages;
mod acts;

use std::fmt::Write as _;

use super::corpus::story::Step;
use super::corpus::{Attack, Expect};
use super::judge;
use super::server::Server;
use super::wire::Answer;

use self::tale::Tale;

/// People in a story at most: `ann` and `bob`.
const PEOPLE: usize = 2;

/// How many people a telling of a story uses up.
pub(crate) fn people(steps: &[Step]) -> usize {
    let said = format!("{steps:?}");
    let names = [(" bob", 2), ("\"bob", 2), ("${bob", 2), ("\"ann", 1), ("${ann", 1), ("own", 1)];
    names.iter().find(|(name, _)| said.contains(name)).map_or(0, |(_, people)| *people)
}

/// Tells every spelling of a story; what came out otherwise than it must, in words. `people` counts
/// those that stories have used up: each spelling has people of its own.
pub(crate) fn tell(server: &mut Server, attack: &Attack, people: &mut usize) -> Vec<String> {
    let mut faults = Vec::new();
    for (each, steps) in attack.each.iter().zip(&attack.tales) {
        let mut tale = Tale::new([*people, *people + 1]);
        *people += self::people(steps);
        let fault = steps.iter().enumerate().find_map(|(number, step)| {
            let said = perform(server, &mut tale, step);
            (!said.is_empty()).then(|| format!("step {}, `{}`: {said}", number + 1, step.verb))
        });
        faults.extend(fault.map(|fault| format!("{} [{each}]: {fault}", attack.name)));
        faults.extend(sing(server).map(|fault| format!("{} [{each}]: {fault}", attack.name)));
    }
    faults
}

/// One step; what is wrong with its outcome.
fn perform(server: &mut Server, tale: &mut Tale, step: &Step) -> String {
    let step = step.filled(&|text| tale.filled(server, text));
    let asked = server.foreign.asked();
    let answers = acts::act(server, tale, &step);
    let mut said = String::new();
    for expect in &step.expect {
        let fits = match expect {
            Expect::Times(times, status) => {
                answers.iter().filter(|answer| answer.status == *status).count() == *times
            }
            Expect::Alike(name) => alike(&answers, name),
            Expect::Fetches(most) => server.foreign.asked() - asked <= *most,
            expect => answers.iter().all(|answer| judge::holds(server, expect, Some(answer))),
        };
        if !fits {
            let _ = write!(said, "expected {expect:?}; ");
        }
    }
    if step.expect.is_empty() && !answers.iter().all(|answer| succeeded(&step, answer)) {
        said.push_str("expected success; ");
    }
    if !said.is_empty() {
        for answer in answers.iter().take(3) {
            let _ = write!(said, "came {}", described(server, answer));
        }
    }
    said
}

fn described(server: &Server, answer: &Answer) -> String {
    let recorded = !answer.field("request-id").is_empty();
    let reason = if recorded { server.record(answer)["reason"].to_string() } else { String::new() };
    let mut text = answer.text();
    if let Some((_, alert)) = text.split_once("role=\"alert\"") {
        text = alert.to_owned();
    }
    let text: String = text.chars().take(300).collect();
    format!("{} {reason} {} {text}; ", answer.status, answer.field("location"))
}

/// Whether all that succeeded have the same member.
fn alike(answers: &[Answer], name: &str) -> bool {
    let good = answers.iter().filter(|answer| answer.status == 200);
    let mut members: Vec<String> =
        good.map(|answer| judge::member(&answer.json(), name).to_string()).collect();
    members.sort();
    members.dedup();
    members.len() == 1 && members[0] != "null"
}

/// What an honest step comes to.
fn succeeded(step: &Step, answer: &Answer) -> bool {
    match step.verb.as_str() {
        "code" => judge::parameter(answer, "code").is_some(),
        "consent" => answer.status == 303 && judge::error_of(answer).is_empty(),
        "authorize" | "login" | "visit" | "submit" => {
            matches!(answer.status, 200 | 303) && judge::error_of(answer).is_empty()
        }
        "push" => answer.status == 201,
        "admin" | "edit" => answer.status == 0,
        "browser" | "forge" | "issuer" | "restart" | "wait" | "keep" => true,
        _ => answer.status == 200,
    }
}

/// A request of somebody else, after the story: it must be as if nothing had happened.
fn sing(server: &Server) -> Option<String> {
    let answer = server.ask("GET /v1/rates?canary=0", &[], b"");
    let line = answer.json()["line"].as_str().unwrap_or_default().to_owned();
    let well = answer.status == 200 && line == "GET /base/rates?canary=0";
    (!well).then(|| format!("the canary is poisoned: {} {line}", answer.status))
}
