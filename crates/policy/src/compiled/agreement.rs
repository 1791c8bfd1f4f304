//! Tests only: the evaluator against Cedar, pair by pair, and each operator broken once.
//!
//! A pair is an operation's policies (and one expression of any type) with a question. Compared are
//! the answers of all three passes, and the expression's value or error.

use std::collections::BTreeMap;

use cedar_policy::{Expression, Policy, PolicySet};

use super::evaluate::Asked;
use super::generator::{Dice, Draft};
use super::mutation::Mutation;
use super::oracle::{Asking, Seen, judged, policy, waits_for, with_slots};
use super::{Answered, Pass, answer};
use crate::entities::{Caller, Circumstances, Question};
use crate::expr::{Lowered, Outside, lower};
use crate::resource::Resource;
use crate::table::OperationId;

/// Questions asked of each set of policies.
const QUESTIONS: usize = 20;
const PASSES: [Pass; 3] = [Pass::Head, Pass::Body, Pass::Owner];

/// Generated rules, on both sides.
struct Sample {
    drafts: Vec<Draft>,
    lowered: Vec<Lowered>,
    /// Of each pass; one for all where nothing waits.
    cedar: Vec<PolicySet>,
    text: String,
    expression: Expression,
    alone: Lowered,
}

/// A generated question.
struct Case {
    caller: Caller,
    resource: Resource,
    circumstances: Circumstances,
}

/// What one side says of a pair.
#[derive(Debug, PartialEq)]
struct Said {
    answers: [Answered; 3],
    value: Option<Seen>,
}

impl Sample {
    /// `None` where the lowering leaves it to Cedar.
    fn roll(dice: &mut Dice) -> Result<Self, Outside> {
        let (drafts, text) = (dice.policies(), dice.expression());
        let source = format!("permit(principal, action, resource) when {{ {text} }};");
        let alone = Policy::parse(None, &source).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let mut conditions = drafts.iter().flat_map(|draft| &draft.conditions);
        let waits = conditions.any(|condition| waits_for(condition) > Pass::Head);
        let cedar = match waits {
            true => PASSES.map(|pass| judged(&drafts, pass)).into(),
            false => vec![judged(&drafts, Pass::Owner)],
        };
        let lowered = with_slots(|slots| {
            let policies = drafts.iter().enumerate().map(|(position, draft)| {
                let conditions: Vec<&str> = draft.conditions.iter().map(String::as_str).collect();
                lower(&policy(draft, position, &conditions), slots)
            });
            policies.collect::<Result<Vec<_>, _>>()
        })?;
        let alone = with_slots(|slots| lower(&alone, slots))?;
        let expression = text.parse().unwrap();
        Ok(Sample { lowered, cedar, expression, text, alone, drafts })
    }

    fn cedar(&self, case: &Case) -> Said {
        let asking = Asking::of(&case.caller, &case.resource, &case.circumstances);
        let answer = |set| asking.answer(set, &self.drafts);
        let answers = match self.cedar.as_slice() {
            [head, body, owner] => [answer(head), answer(body), answer(owner)],
            sets => [answer(&sets[0]); 3],
        };
        Said { answers, value: asking.value(&self.expression) }
    }

    fn ours(&self, case: &Case) -> Said {
        let question = Question {
            operation: OperationId(0),
            resource: &case.resource,
            caller: &case.caller,
            circumstances: &case.circumstances,
        };
        let code = &self.alone.code;
        let asked = Asked { code, caller: &case.caller, question: &question };
        let at = code.conditions().next().unwrap();
        let answers = PASSES.map(|pass| answer(&self.lowered, &case.caller, &question, pass));
        let value = asked.value(at).ok().map(|value| asked.seen(value));
        Said { answers, value }
    }

    fn show(&self, case: &Case) -> String {
        let mut shown = format!("{}\n", self.text);
        for draft in &self.drafts {
            let conditions = draft.conditions.join("\n  ");
            shown.push_str(&format!("{}{}\n  {conditions}\n", draft.effect, draft.head));
        }
        format!("{shown}{:?}\n{:?}\n{:?}", case.caller, case.resource, case.circumstances)
    }
}

impl Case {
    fn roll(dice: &mut Dice) -> Self {
        Case {
            caller: dice.caller(),
            resource: dice.resource(),
            circumstances: dice.circumstances(),
        }
    }
}

/// Counts of a run.
#[derive(Debug, Default)]
struct Counts {
    pairs: usize,
    outside: usize,
    erred: usize,
    answers: BTreeMap<&'static str, usize>,
}

/// Compares so many pairs; panics at the first difference.
fn compare(seed: u64, wanted: usize) -> Counts {
    let (mut dice, mut counts) = (Dice::new(seed), Counts::default());
    while counts.pairs < wanted {
        let Ok(sample) = Sample::roll(&mut dice) else {
            counts.outside += 1;
            continue;
        };
        for _ in 0..QUESTIONS {
            let case = Case::roll(&mut dice);
            let (cedar, ours) = (sample.cedar(&case), sample.ours(&case));
            assert_eq!(ours, cedar, "ours, Cedar's\n{}", sample.show(&case));
            counts.pairs += 1;
            counts.erred += usize::from(cedar.value.is_none());
            let [_, _, last] = cedar.answers;
            *counts.answers.entry(word(last)).or_default() += 1;
        }
    }
    counts
}

fn word(answer: Answered) -> &'static str {
    match answer {
        Answered::Permitted(_) => "permitted",
        Answered::Forbidden(_) => "forbidden",
        Answered::ForbidErred(_) => "forbid erred",
        Answered::NotPermitted => "not permitted",
    }
}

#[test]
fn the_evaluator_agrees_with_cedar() {
    let counts = compare(1, 30_000);
    println!("{counts:?}");
    // The generator is worth something only where every answer is common.
    for answer in ["permitted", "forbidden", "forbid erred", "not permitted"] {
        assert!(counts.answers[answer] > 1_000, "{counts:?}");
    }
    assert!(counts.erred > 1_000 && counts.outside < 100, "{counts:?}");
}

/// For `conformance/full.sh`: `PORTCULLIS_PAIRS` pairs (1,000,000), seed `PORTCULLIS_SEED`, on all cores.
#[test]
#[ignore = "minutes: a million pairs, with --release"]
fn the_evaluator_agrees_with_cedar_a_million_times() {
    let number = |name: &str, default: usize| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (pairs, seed) = (number("PORTCULLIS_PAIRS", 1_000_000), number("PORTCULLIS_SEED", 2));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runs: Vec<_> = (0..threads)
        .map(|thread| {
            let seed = (seed * 1_000 + thread) as u64;
            std::thread::spawn(move || compare(seed, pairs.div_ceil(threads)))
        })
        .collect();
    let mut total = 0;
    for run in runs {
        let counts = run.join().expect("no difference");
        println!("{counts:?}");
        total += counts.pairs;
    }
    println!("{total} pairs, 0 differ");
}

#[test]
fn each_operator_broken_once_is_noticed_within_ten_thousand_pairs() {
    let mut dice = Dice::new(3);
    let mut left: Vec<Mutation> = Mutation::ALL.to_vec();
    let mut found: Vec<(usize, Mutation)> = Vec::new();
    let mut pairs = 0;
    while pairs < 10_000 && !left.is_empty() {
        let Ok(sample) = Sample::roll(&mut dice) else { continue };
        for _ in 0..QUESTIONS {
            let case = Case::roll(&mut dice);
            let cedar = sample.cedar(&case);
            assert_eq!(sample.ours(&case), cedar, "{}", sample.show(&case));
            pairs += 1;
            left.retain(|mutation| {
                let same = mutation.during(|| sample.ours(&case)) == cedar;
                if !same {
                    found.push((pairs, *mutation));
                }
                same
            });
        }
    }
    println!("found after pairs: {found:?}");
    assert_eq!(left, [], "not noticed within {pairs} pairs");
}
