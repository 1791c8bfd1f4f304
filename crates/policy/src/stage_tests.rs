//! The passes: what is judged when, and that both evaluators walk alike.

use super::*;
use crate::compile::Rules;
use crate::decide::{SAMPLE, Verdict, judge, judge_with_cedar};
use crate::field::Value as FieldValue;
use crate::table::OperationId;
use crate::testing::{circumstances, rules_with, user, with_role};

fn ask(rules: &Rules, resource: &Resource, caller: &Caller) -> String {
    let circumstances = circumstances("");
    let question =
        Question { operation: OperationId(0), resource, caller, circumstances: &circumstances };
    let verdict = judge(rules, &question);
    assert_eq!(verdict, judge_with_cedar(rules, &question));
    match verdict {
        Verdict::Allow { rule, .. } => format!("allow {rule}"),
        Verdict::Deny(denial) => format!("{} {}", denial.reason, denial.rule),
        Verdict::NeedsBody => "NeedsBody".into(),
        Verdict::NeedsOwner => "NeedsOwner".into(),
    }
}

const TABLE: &str = "'POST /a' = { allow = 'user', body = { fields = { amount = 'integer' } } }";

fn body(amount: Option<i64>) -> Resource {
    Resource { body: Some(vec![amount.map(FieldValue::Long)]), ..Resource::default() }
}

#[test]
fn a_forbid_on_the_body_is_judged_before_anyone_passes() {
    let rules = rules_with(
        TABLE,
        "forbid(principal, action, resource)\nwhen { resource has body && resource.body has amount && resource.body.amount > 100 };",
    );
    assert_eq!(ask(&rules, &Resource::default(), &user("a")), "NeedsBody");
    assert_eq!(ask(&rules, &body(Some(100)), &user("a")), "allow t.toml:1.1");
    assert_eq!(ask(&rules, &body(Some(101)), &user("a")), "Forbidden p.cedar:1");
    assert_eq!(ask(&rules, &body(None), &user("a")), "allow t.toml:1.1");
    // Whom the table refuses, nobody reads a body of.
    assert_eq!(
        ask(&rules, &Resource::default(), &Caller::Anonymous),
        "PrincipalNotAllowed t.toml:1.1"
    );
}

#[test]
fn a_forbid_that_errs_denies() {
    let rules = rules_with(
        TABLE,
        "forbid(principal, action, resource) when { resource has body && resource.body has amount && resource.body.amount * 4611686018427387904 > 0 };",
    );
    assert_eq!(ask(&rules, &body(Some(1)), &user("a")), "Forbidden p.cedar:1");
    assert_eq!(ask(&rules, &body(Some(0)), &user("a")), "allow t.toml:1.1");
    assert_eq!(ask(&rules, &body(Some(2)), &user("a")), "ForbidErred p.cedar:1");
    // Also one that is proved false, where it can err on the way.
    let rules = rules_with(
        "'GET /a' = { allow = 'user' }",
        "forbid(principal, action, resource) when { context.now * 9223372036854775807 > 0 && false };",
    );
    assert_eq!(ask(&rules, &Resource::default(), &user("a")), "ForbidErred p.cedar:1");
}

#[test]
fn the_first_forbid_is_told_whoever_decides() {
    let rules = rules_with(
        "'GET /a' = { allow = 'user' }",
        "forbid(principal, action, resource) when { context.now * 9223372036854775807 > 0 };
         forbid(principal, action, resource) when { true };
         forbid(principal is User in Role::\"support\", action, resource);",
    );
    assert_eq!(ask(&rules, &Resource::default(), &user("a")), "ForbidErred p.cedar:1");
    assert_eq!(ask(&rules, &Resource::default(), &with_role("support")), "ForbidErred p.cedar:1");
}

#[test]
fn a_condition_that_asks_for_what_is_never_there_waits_for_nothing() {
    let rules = rules_with(
        TABLE,
        "forbid(principal, action, resource) when { (resource has owner && resource.owner == \"x\") || (resource.body has amount && resource.body.amount > 5) };",
    );
    assert!(rules.entries[0].lowered.is_none(), "Cedar decides");
    assert_eq!(ask(&rules, &Resource::default(), &user("a")), "NeedsBody");
    assert_eq!(ask(&rules, &body(Some(6)), &user("a")), "Forbidden p.cedar:1");
    assert_eq!(ask(&rules, &body(Some(5)), &user("a")), "allow t.toml:1.1");
}

#[test]
fn evaluators_that_disagree_deny_and_cedar_takes_over() {
    let mut rules = rules_with("'GET /a' = { allow = 'user' }", "");
    // A compiled evaluator gone wrong: it lets everyone in.
    for policy in rules.entries[0].lowered.as_mut().unwrap() {
        *policy = crate::expr::Lowered::new(policy.effect, Vec::new());
    }
    let circumstances = circumstances("");
    let question = Question {
        operation: OperationId(0),
        resource: &Resource::default(),
        caller: &Caller::Anonymous,
        circumstances: &circumstances,
    };
    let reason = |rules: &Rules| match judge(rules, &question) {
        Verdict::Deny(denial) => denial.reason,
        Verdict::Allow { .. } => "allow",
        other => panic!("{other:?}"),
    };
    // The first decision of a generation is sampled, then each thousandth.
    assert_eq!((reason(&rules), rules.disagreements()), ("EvaluatorsDisagree", 1));
    assert_eq!((reason(&rules), rules.disagreements()), ("PrincipalNotAllowed", 1));
    // A defect that shows later is met by the next sample.
    rules.entries[0].distrusted.store(false, std::sync::atomic::Ordering::Relaxed);
    rules.decisions.store(1, std::sync::atomic::Ordering::Relaxed);
    let wrong = (1..SAMPLE).filter(|_| reason(&rules) == "allow").count();
    assert_eq!(wrong, 999);
    assert_eq!((reason(&rules), rules.disagreements()), ("EvaluatorsDisagree", 2));
    let fresh = rules_with("'GET /a' = { allow = 'user' }", "");
    for _ in 0..2500 {
        assert_eq!(reason(&fresh), "PrincipalNotAllowed");
    }
    assert_eq!(fresh.disagreements(), 0);
}
