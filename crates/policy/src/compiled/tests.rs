//! What the random pairs do not reach: questions that are not whole, and what is left to Cedar.

use cedar_policy::Policy;

use super::generator::Dice;
use super::oracle::with_slots;
use super::{Answered, Pass, answer};
use crate::entities::{Caller, Question};
use crate::expr::{Lowered, Outside, lower};
use crate::resource::Resource;
use crate::table::OperationId;

fn lowered(text: &str) -> Result<Lowered, Outside> {
    let policy = Policy::parse(None, text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    with_slots(|slots| lower(&policy, slots))
}

fn when(condition: &str) -> String {
    format!("permit(principal, action, resource) when {{ {condition} }};")
}

fn asked(policies: &[&str], resource: &Resource, pass: Pass) -> Answered {
    let policies: Vec<Lowered> = policies.iter().map(|text| lowered(text).unwrap()).collect();
    let caller = Caller::Anonymous;
    let circumstances = Dice::new(1).circumstances();
    let question = Question {
        operation: OperationId(0),
        resource,
        caller: &caller,
        circumstances: &circumstances,
    };
    answer(&policies, &caller, &question, pass)
}

#[test]
fn a_question_that_is_not_about_the_operation_grants_nothing_and_its_forbids_err() {
    let whole = Dice::new(1).resource();
    let no_path = Resource { parameters: Vec::new(), ..whole.clone() };
    let mut letters = whole.clone();
    letters.parameters[1].1 = "7a".into();
    let no_query = Resource { query: Vec::new(), ..whole.clone() };
    let no_header = Resource { header: Vec::new(), ..whole.clone() };
    let no_body = Resource { body: None, ..whole.clone() };
    let no_owner = Resource { owner: None, ..whole.clone() };
    for (resource, condition) in [
        (&no_path, "resource.account != \"x\""),
        (&no_path, "resource.n != 7"),
        (&letters, "resource.n != 7"),
        (&no_query, "!(resource.query has text)"),
        (&no_header, "!(resource.header has x_tier)"),
        (&no_body, "!(resource.body has amount)"),
        (&no_owner, "resource.owner != \"x\""),
    ] {
        let permit = when(condition);
        let forbid = permit.replace("permit", "forbid");
        let open = "permit(principal, action, resource);";
        assert_eq!(asked(&[&permit], resource, Pass::Owner), Answered::NotPermitted, "{condition}");
        let both = [open, &forbid];
        assert_eq!(asked(&both, resource, Pass::Owner), Answered::ForbidErred(1), "{condition}");
    }
    assert_eq!(asked(&[&when("resource.n != 8")], &whole, Pass::Owner), Answered::Permitted(0));
}

#[test]
fn the_first_permit_is_named_and_the_first_forbid_comes_before_it() {
    let whole = Dice::new(1).resource();
    let permit = |condition: &str| when(condition);
    let forbid = |condition: &str| when(condition).replace("permit", "forbid");
    let overflow = "9223372036854775807 + context.now * 0 + 1 > 0";
    for (policies, answered) in [
        (vec![permit("true"), permit("true")], Answered::Permitted(0)),
        (vec![permit("false"), permit("true")], Answered::Permitted(1)),
        (vec![permit(overflow), permit("true")], Answered::Permitted(1)),
        (vec![permit("true"), forbid("true")], Answered::Forbidden(1)),
        (vec![permit("true"), forbid(overflow), forbid("true")], Answered::ForbidErred(1)),
        (vec![permit("true"), forbid("true"), forbid(overflow)], Answered::Forbidden(1)),
        (vec![permit("false"), forbid("true")], Answered::Forbidden(1)),
        (vec![permit("false"), forbid("false")], Answered::NotPermitted),
        (vec![], Answered::NotPermitted),
    ] {
        let texts: Vec<&str> = policies.iter().map(String::as_str).collect();
        assert_eq!(asked(&texts, &whole, Pass::Owner), answered, "{policies:?}");
    }
}

#[test]
fn what_waits_is_left_out_until_its_pass() {
    let mut resource = Dice::new(1).resource();
    resource.owner = Some("a".into());
    let owner = when("resource.owner == \"b\"");
    let forbid = owner.replace("permit", "forbid").replace("\"b\"", "\"a\"");
    for (pass, permitted) in [(Pass::Head, true), (Pass::Body, true), (Pass::Owner, false)] {
        let one = asked(&[&owner], &resource, pass);
        assert_eq!(one == Answered::Permitted(0), permitted, "{pass:?}");
        let open = asked(&["permit(principal, action, resource);", &forbid], &resource, pass);
        assert_eq!(open == Answered::Permitted(0), permitted, "{pass:?}");
    }
    let body = lowered(&when("resource.body has amount || resource.owner == \"a\"")).unwrap();
    assert_eq!((body.last, body.needs.as_slice()), (Pass::Owner, [Pass::Owner].as_slice()));
    assert_eq!(lowered(&when("resource.body has amount")).unwrap().last, Pass::Body);
    assert_eq!(lowered(&when("context.now > 1")).unwrap().last, Pass::Head);
}

#[test]
fn what_is_not_evaluated_exactly_is_left_to_cedar() {
    for (condition, why) in [
        ("context == {}", "`context` as a value"),
        ("{a: 1} == {a: 1}", "Record"),
        ("context.age == {}", "`context.age` as a value"),
        ("resource.body == {}", "`resource.body`"),
        ("resource.nothing == 1", "`resource.nothing`"),
        ("resource.query.nothing == 1", "`resource.query.nothing`"),
        ("context.nothing", "`context.nothing`"),
        ("resource has body", "`resource.body`"),
        ("principal.hasTag(\"x\")", "`hasTag`"),
        ("principal.getTag(\"x\") == 1", "`getTag`"),
        ("principal in resource", ""),
        ("principal in principal", "not written out"),
        ("principal in [principal]", "not written out"),
        ("Action::\"a\" in Action::\"b\"", "an action `in`"),
        ("principal in X::Role::\"a\"", "`X::Role`"),
        ("principal is X::User", "`X::User`"),
        ("User::\"u1\".id == \"u1\"", "no variable"),
        ("(if true then principal else principal).id == \"x\"", "no variable"),
        ("ip(context.acr).isIpv4()", "without `Value`"),
        ("ip(\"10.0.0\").isIpv4()", "`ip(\"10.0.0\")`"),
        ("decimal(\"1\").lessThan(decimal(\"1.0\"))", "`decimal(\"1\")`"),
        ("context.ip.isInRange(ip(\"::1\"), ip(\"::2\"))", "`isInRange`"),
        ("[[[1]]] == [[[1]]]", "sets this deep"),
    ] {
        match lowered(&when(condition)) {
            Err(Outside(said)) => assert!(said.contains(why), "{condition}: {said}"),
            // `resource` is an entity like another here.
            Ok(_) => assert_eq!(why, "", "{condition}"),
        }
    }
    let deep = format!("1{} > 0", " + 1".repeat(70));
    assert_eq!(lowered(&when(&deep)).unwrap_err(), Outside("a tree this deep".into()));
}

#[test]
fn a_long_chain_is_not_deep_and_is_judged_from_the_left() {
    let whole = Dice::new(1).resource();
    let overflow = "9223372036854775807 + resource.n * 0 + 1 > 0";
    for length in [1, 2, 3, 4, 7, 8, 100] {
        let ands = " && true".repeat(length);
        let ors = " || false".repeat(length);
        for (condition, holds) in [
            (format!("true{ands}"), true),
            (format!("true{ands} && resource.n == resource.n + 1"), false),
            (format!("resource.n == resource.n + 1{ands} && {overflow}"), false),
            (format!("!(resource.n == resource.n + 1{ands} && {overflow})"), true),
            (format!("!(true{ands} && {overflow})"), false),
            (format!("false{ors} || resource.n == resource.n"), true),
            (format!("resource.n == resource.n{ors} || {overflow}"), true),
            (format!("{overflow}{ors} || true"), false),
        ] {
            let answered = asked(&[&when(&condition)], &whole, Pass::Owner);
            assert_eq!(answered == Answered::Permitted(0), holds, "{condition}");
        }
    }
}

#[test]
fn the_head_of_a_policy_is_judged_with_its_conditions() {
    let whole = Dice::new(1).resource();
    for (head, answered) in [
        ("principal, action, resource", Answered::Permitted(0)),
        ("principal is Anonymous, action, resource", Answered::Permitted(0)),
        ("principal is User, action, resource", Answered::NotPermitted),
        ("principal == Anonymous::\"anyone\", action, resource", Answered::Permitted(0)),
        ("principal in Role::\"a\", action, resource", Answered::NotPermitted),
        ("principal, action in Action::\"write\", resource", Answered::Permitted(0)),
        (
            "principal, action in [Action::\"x\", Action::\"tag:x\"], resource",
            Answered::Permitted(0),
        ),
        ("principal, action in Action::\"read\", resource", Answered::NotPermitted),
        ("principal, action == Action::\"GET /\", resource", Answered::NotPermitted),
        ("principal, action, resource is Resource", Answered::Permitted(0)),
        ("principal, action, resource is Resource in Resource::\"x\"", Answered::NotPermitted),
    ] {
        let policy = format!("permit({head});");
        assert_eq!(asked(&[&policy], &whole, Pass::Owner), answered, "{head}");
    }
}
