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

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::corpus::story::Step;
use super::corpus::{self, Attack, Expect};
use super::server::Server;
use super::wire::Answer;
use super::{browser, judge};

use self::tale::Tale;

/// People in a story at most: `ann` and `bob`.
const PEOPLE: usize = 2;
/// The person of all stories that leave their person as they found them.
const SHARED: usize = 1;

/// What a story may do and still leave its person's sessions alone.
const MILD: [&str; 17] = [
    "code",
    "redeem",
    "refresh",
    "credentials",
    "exchange",
    "assert",
    "introspect",
    "revoke",
    "userinfo",
    "call",
    "forge",
    "issuer",
    "restart",
    "wait",
    "keep",
    "push",
    "poll",
];

/// The people that stories have used up, and the browser in which the shared one is signed in: a
/// login costs a password's work and a one-time password.
pub(crate) struct Troupe {
    next: usize,
    browser: BTreeMap<String, String>,
}

impl Troupe {
    /// Nobody has played yet.
    pub(crate) fn new() -> Troupe {
        Troupe { next: SHARED + 1, browser: BTreeMap::new() }
    }

    /// How many people are needed for so many tellings.
    pub(crate) fn of<'s>(tales: impl Iterator<Item = &'s Vec<Step>>) -> usize {
        SHARED + 1 + tales.map(|tale| people(tale)).sum::<usize>()
    }
}

/// How many people of its own a telling of a story needs.
fn people(steps: &[Step]) -> usize {
    let said = format!("{steps:?}");
    if said.contains("bob") {
        return PEOPLE;
    }
    usize::from(!is_mild(steps) && said.contains("ann"))
}

fn is_mild(steps: &[Step]) -> bool {
    steps.iter().all(|step| MILD.contains(&step.verb.as_str()))
}

/// Tells every spelling of a story; what came out otherwise than it must, in words.
pub(crate) fn tell(server: &mut Server, attack: &Attack, troupe: &mut Troupe) -> Vec<String> {
    let mut faults = Vec::new();
    for (each, steps) in attack.each.iter().zip(&attack.tales) {
        let own = people(steps);
        let mut tale = match own {
            0 => Tale::new([SHARED, SHARED]),
            _ => Tale::new([troupe.next, troupe.next + own - 1]),
        };
        troupe.next += own;
        let shared = own == 0 && is_mild(steps);
        if shared {
            *tale.cookies() = std::mem::take(&mut troupe.browser);
        }
        let fault = steps.iter().enumerate().find_map(|(number, step)| {
            let said = perform(server, &mut tale, step);
            (!said.is_empty()).then(|| format!("step {}, `{}`: {said}", number + 1, step.verb))
        });
        if shared {
            troupe.browser = std::mem::take(tale.cookies());
        }
        faults.extend(fault.map(|fault| format!("{} [{each}]: {fault}", attack.name)));
        faults.extend(sing(server).map(|fault| format!("{} [{each}]: {fault}", attack.name)));
    }
    faults
}

/// A service's bearer token: for those that a waiver lets have one.
pub(crate) fn bearer(server: &mut Server, service: &str) -> String {
    let step = corpus::story::read(&format!("credentials {service}")).expect("a step");
    let answers = acts::act(server, &mut Tale::new([SHARED, SHARED]), &step);
    browser::access_token(&answers[0])
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
            Expect::Alike(name) => matches!(&members(&answers, name)[..], [one] if one != "null"),
            Expect::NoFork(name) => members(&answers, name).len() <= 1,
            Expect::OtherKept(one, other) => {
                let (one, other) = (tale.kept(one), tale.kept(other));
                one != other && !one.is_empty() && !other.is_empty()
            }
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
            let _ = write!(said, "came {}", described(server, &step, answer));
        }
    }
    said
}

fn described(server: &Server, step: &Step, answer: &Answer) -> String {
    let recorded = !answer.field("request-id").is_empty();
    // Whoever is killed takes the last records along.
    let recorded = recorded && step.switch("restart").is_none();
    let reason = if recorded { server.record(answer)["reason"].to_string() } else { String::new() };
    let mut text = answer.text();
    for mark in ["<main", "role=\"alert\""] {
        text = text.split_once(mark).map_or(text.clone(), |(_, rest)| rest.to_owned());
    }
    if let Some(members) = answer.json().as_object() {
        // Tokens are long, and say nothing to a reader.
        let short = members.iter().filter(|(_, value)| value.to_string().len() < 80);
        text = short.map(|(name, value)| format!("{name}={value} ")).collect();
    }
    let text: String = text.chars().take(300).collect();
    format!("{} {reason} {} {text}; ", answer.status, answer.field("location"))
}

/// The different members of a name among the answers that succeeded.
fn members(answers: &[Answer], name: &str) -> Vec<String> {
    let good = answers.iter().filter(|answer| answer.status == 200);
    let mut members: Vec<String> =
        good.map(|answer| judge::member(&answer.json(), name).to_string()).collect();
    members.sort();
    members.dedup();
    members
}

/// What an honest step comes to.
fn succeeded(step: &Step, answer: &Answer) -> bool {
    match step.verb.as_str() {
        "code" => judge::parameter(answer, "code").is_some(),
        "consent" => answer.status == 303 && judge::error_of(answer).is_empty(),
        "authorize" | "login" | "visit" | "submit" | "post" => {
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
