//! `step_up`: how it is read, when it holds, and what a challenge asks for.

use super::*;
use crate::compile::{JudgedBody, Rules};
use crate::decide::{Denial, Verdict, judge, judge_told, judge_with_cedar};
use crate::entities::{Caller, Question, UserCaller};
use crate::field::Value;
use crate::resource::Resource;
use crate::table::OperationId;
use crate::testing::{circumstances, faults, rules, user};

fn aged(ages: &[(&'static str, i64)]) -> Circumstances {
    Circumstances { ages: ages.iter().copied().collect(), ..circumstances("payments:read") }
}

/// The same by both evaluators and with each clause told.
fn verdict(rules: &Rules, resource: &Resource, caller: &Caller, with: &Circumstances) -> Verdict {
    let question = Question { operation: OperationId(0), resource, caller, circumstances: with };
    let verdict = judge(rules, &question);
    assert_eq!(verdict, judge_with_cedar(rules, &question));
    let told = judge_told(rules, &question);
    assert_eq!(matches!(verdict, Verdict::Allow { .. }), matches!(told, Verdict::Allow { .. }));
    verdict
}

fn denied(verdict: Verdict) -> Denial {
    match verdict {
        Verdict::Deny(denial) => denial,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_factor_is_fresh_or_not() {
    let rules = rules("'POST /a' = { allow = 'user', step_up = 'passkey or totp within 15m' }");
    for (ages, allowed) in [
        (&[][..], false),
        (&[("passkey", 900)], true),
        (&[("passkey", 901)], false),
        (&[("totp", 0), ("passkey", 5000)], true),
        (&[("mfa", 0), ("any", 0)], false),
        // A clock that ran ahead is fresh: the age is what the token's time says.
        (&[("totp", -5)], true),
    ] {
        let verdict = verdict(&rules, &Resource::default(), &user("a1"), &aged(ages));
        assert_eq!(matches!(verdict, Verdict::Allow { .. }), allowed, "{ages:?}");
    }
    assert!(!rules.pure_line(OperationId(0)), "an age is no property of the token");
}

#[test]
fn a_challenge_says_what_would_suffice() {
    for (need, acr, seconds) in [
        ("mfa within 5m", vec!["aal2"], 300),
        ("passkey or totp within 15m", vec!["aal2"], 900),
        ("password or passkey within 1h", vec!["aal1", "aal2"], 3600),
        ("any within 30d", vec!["aal1"], 30 * 86_400),
    ] {
        let rules = rules(&format!("'POST /a' = {{ allow = 'user', step_up = '{need}' }}"));
        let denial = denied(verdict(&rules, &Resource::default(), &user("a1"), &aged(&[])));
        assert_eq!(denial.reason, "StepUpNeeded");
        let acr_values = acr.into_iter().map(str::to_owned).collect();
        assert_eq!(denial.step_up, Some(StepUp { acr_values, max_age: Some(seconds) }));
    }
}

#[test]
fn a_challenge_only_where_it_would_suffice() {
    let rules = rules(
        "'POST /a' = { allow = 'role:admin', scope = 'payments:read', step_up = 'mfa within 5m' }",
    );
    let admin = crate::testing::with_role("admin");
    let challenged = |caller: &Caller, with: &Circumstances| {
        let denial = denied(verdict(&rules, &Resource::default(), caller, with));
        (denial.reason, denial.step_up.is_some(), denial.scope_needed.is_some())
    };
    assert_eq!(challenged(&admin, &aged(&[])), ("StepUpNeeded", true, false));
    assert_eq!(challenged(&user("a1"), &aged(&[])), ("PrincipalNotAllowed", false, false));
    let unscoped = Circumstances { ages: Default::default(), ..circumstances("") };
    assert_eq!(challenged(&admin, &unscoped), ("ScopeMissing", false, false));
    let fresh = Circumstances { ages: [("mfa", 1)].into(), ..circumstances("") };
    assert_eq!(challenged(&admin, &fresh), ("ScopeMissing", false, true));
}

const BODY: &str = "'POST /a' = { allow = 'user', body = { fields = { amount = 'integer' } }, \
    step_up = { need = 'mfa within 5m', when = 'resource.body.amount > 1000' } }";

#[test]
fn a_condition_on_the_body_waits_for_it() {
    let rules = rules(BODY);
    let JudgedBody { max, fields, .. } =
        rules.operation(OperationId(0)).unwrap().body.clone().unwrap();
    assert_eq!((max, fields.len()), (64 * 1024, 1));
    let with = |amount: Option<i64>| Resource {
        body: Some(vec![amount.map(Value::Long)]),
        ..Resource::default()
    };
    let ask = |resource: &Resource, ages: &[(&'static str, i64)]| match verdict(
        &rules,
        resource,
        &user("a1"),
        &aged(ages),
    ) {
        Verdict::Allow { .. } => "allow",
        Verdict::Deny(denial) => denial.reason,
        Verdict::NeedsBody => "NeedsBody",
        Verdict::NeedsOwner => "NeedsOwner",
    };
    assert_eq!(ask(&Resource::default(), &[]), "NeedsBody");
    assert_eq!(ask(&Resource::default(), &[("mfa", 1)]), "NeedsBody");
    assert_eq!(ask(&with(Some(1000)), &[]), "allow");
    assert_eq!(ask(&with(Some(1001)), &[]), "StepUpNeeded");
    assert_eq!(ask(&with(Some(1001)), &[("mfa", 1)]), "allow");
    // Absent: needed.
    assert_eq!(ask(&with(None), &[]), "StepUpNeeded");
    assert_eq!(ask(&with(None), &[("mfa", 300)]), "allow");
    let denial = denied(verdict(&rules, &with(None), &user("a1"), &aged(&[])));
    assert!(denial.step_up.is_some());
    let told = denial.clauses.last().unwrap();
    assert_eq!(told.inputs, "context.age.mfa=(never) resource.body.amount=(absent)");
    // Nobody whom the head refuses makes anyone read a body.
    let question = Question {
        operation: OperationId(0),
        resource: &Resource::default(),
        caller: &Caller::Anonymous,
        circumstances: &aged(&[]),
    };
    assert!(matches!(judge(&rules, &question), Verdict::Deny(_)));
}

#[test]
fn a_condition_that_errs_means_needed() {
    let rules = rules(
        "'POST /a' = { allow = 'user', step_up = { need = 'mfa within 5m', \
         when = 'context.now * 9223372036854775807 > 0' } }",
    );
    let ask = |ages: &[(&'static str, i64)]| {
        verdict(&rules, &Resource::default(), &user("a1"), &aged(ages))
    };
    assert!(matches!(ask(&[("mfa", 300)]), Verdict::Allow { .. }), "the age is judged first");
    let denial = denied(ask(&[]));
    assert_eq!(denial.reason, "StepUpNeeded");
    assert!(denial.step_up.is_some());
}

#[test]
fn an_absent_attribute_means_needed() {
    let rules = rules(
        "'POST /a' = { allow = 'user', step_up = { need = 'mfa within 5m', \
         when = 'principal.level > 3' } }",
    );
    let level = |level: Option<i64>| {
        use portcullis_core::jose::claims::Attribute;
        let attributes = level.map(|n| ("level".to_owned(), Attribute::Integer(n)));
        Caller::User(UserCaller {
            id: "u".into(),
            attributes: attributes.into_iter().collect(),
            ..UserCaller::default()
        })
    };
    for (given, allowed) in [(None, false), (Some(4), false), (Some(3), true)] {
        let verdict = verdict(&rules, &Resource::default(), &level(given), &aged(&[]));
        assert_eq!(matches!(verdict, Verdict::Allow { .. }), allowed, "{given:?}");
    }
}

#[test]
fn each_fault_has_its_name() {
    for (need, rule, at) in [
        ("'mfa'", "StepUpMalformed", "'mfa'"),
        ("'mfa within'", "StepUpMalformed", "'mfa within'"),
        ("'mfa within 0s'", "StepUpMalformed", "'mfa within 0s'"),
        ("'mfa within 31d'", "StepUpMalformed", "'mfa within 31d'"),
        ("'mfa within 500ms'", "StepUpMalformed", "'mfa within 500ms'"),
        ("'mfa within -5m'", "StepUpMalformed", "'mfa within -5m'"),
        ("'mfa or mfa within 5m'", "StepUpMalformed", "'mfa or mfa within 5m'"),
        ("'mfaa within 5m'", "FactorUnknown", "'mfaa within 5m'"),
        ("'sms within 5m'", "FactorUnknown", "'sms within 5m'"),
        ("'mfa, totp within 5m'", "FactorUnknown", "'mfa, totp within 5m'"),
        ("{ need = 'mfa within 5m', when = 'resource.x > 1' }", "UnknownParameter", "resource.x"),
        ("{ need = 'mfa within 5m', when = '1 ==' }", "ConditionMalformed", ""),
        (
            "{ need = 'mfa within 5m', when = 'true && context.now == \"x\"' }",
            "ConditionIllTyped",
            "context.now == \"x\"",
        ),
    ] {
        let table = format!("'POST /a' = {{ allow = 'user', step_up = {need} }}");
        let found = faults(&table);
        assert_eq!(found.len(), 1, "{table} {found:#?}");
        assert_eq!(found[0].rule, rule, "{table}");
        let place = found[0].place.clone().unwrap();
        if !at.is_empty() {
            assert_eq!(&table[place.bytes], at, "{table}");
        }
    }
    let table = "'POST /a' = { allow = 'anyone', step_up = 'mfa within 5m' }";
    assert_eq!(faults(table)[0].rule, "StepUpOnAnyone");
}
