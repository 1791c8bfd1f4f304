//! Conditions: what is read, guarded, bound and refused.

use super::*;

fn read(text: &str) -> Condition {
    let optional =
        [Read::value(Root::Principal, &["account"]), Read::value(Root::Context, &["age", "mfa"])];
    Condition::parse(text, &|read| optional.contains(read)).unwrap()
}

#[test]
fn the_guard_stands_around_the_whole_clause() {
    let condition = read("resource.a == principal.account || context.age.mfa < 5 // why");
    assert_eq!(
        condition.guarded,
        "principal has \"account\" && context[\"age\"] has \"mfa\" && (\nresource.a == \
         principal.account || context.age.mfa < 5 // why\n)"
    );
    for source in [&condition.guarded, &condition.refuted] {
        let start = condition.offset_in(source).unwrap();
        assert!(source[start..].starts_with(&condition.text));
    }
    assert_eq!(condition.refuted.replace("!(", "("), condition.guarded);
    assert_eq!(read("principal has account").guarded, "(\nprincipal has account\n)");
}

#[test]
fn reads_are_seen_wherever_they_stand() {
    let names = |text: &str| -> Vec<String> { read(text).reads.iter().map(Read::name).collect() };
    assert_eq!(names("resource[\"a\"] == principal.account"), ["principal.account", "resource.a"]);
    assert_eq!(names("if context.now > 3 then true else false"), ["context.now"]);
    assert_eq!(names("[context.client].contains(\"x\")"), ["context.client"]);
    assert_eq!(names("context.ip.isInRange(ip(\"10.0.0.0/8\"))"), ["context.ip"]);
    assert_eq!(names("principal is User"), Vec::<String>::new());
    assert_eq!(names("[context].contains(context)"), ["context"]);
    let condition = read("principal in Role::\"x\" && principal is User in Group::\"y\"");
    let pair = |kind: &str, id: &str| (kind.to_owned(), id.to_owned());
    assert_eq!(condition.literals, [pair("Role", "x"), pair("Group", "y")]);
}

#[test]
fn a_parameter_is_bound_only_where_every_way_to_true_binds_it() {
    for (text, bound) in [
        ("resource.a == principal.account", vec!["a"]),
        ("principal.account == resource.a", vec!["a"]),
        ("(resource.a == principal.account) && context.now > 1", vec!["a"]),
        ("resource.a == principal.account || context.now > 1", vec![]),
        ("resource.a == principal.account || resource.a == principal.id", vec!["a"]),
        ("resource.a == principal.account && resource.b == \"x\"", vec!["a", "b"]),
        ("[\"x\", \"y\"].contains(resource.b)", vec!["b"]),
        ("[\"x\", resource.a].contains(resource.b)", vec![]),
        ("!(resource.a == principal.account)", vec![]),
        ("resource.a != principal.account", vec![]),
        ("resource.a == resource.b", vec![]),
        ("resource.a == context.client", vec![]),
        ("resource.a like \"x*\"", vec![]),
        ("if context.now > 1 then resource.a == principal.id else false", vec!["a"]),
        ("if resource.a == principal.id then true else context.now > 1", vec![]),
    ] {
        assert_eq!(read(text).binds.into_iter().collect::<Vec<_>>(), bound, "{text}");
    }
}

#[test]
fn what_is_not_one_expression_is_refused() {
    for text in [
        "",
        "true }; permit(principal, action, resource) when { true",
        "true } unless { false",
        "resource.a ==",
        "a.b",
        "principal == ?principal",
        "\"\u{0}",
        "resource.a = 1",
    ] {
        let fault = Condition::parse(text, &|_| false).expect_err(text);
        assert_eq!(fault.rule, "ConditionMalformed", "{text}: {}", fault.message);
        assert!(fault.bytes.end <= text.len());
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let long = format!("true {}", "&& true ".repeat(300));
    assert_eq!(Condition::parse(&long, &|_| false).unwrap_err().rule, "ConditionTooLong");
    for deep in ["(".repeat(2000), "!".repeat(2000), "- ".repeat(900), "[".repeat(17)] {
        assert_eq!(Condition::parse(&deep, &|_| false).unwrap_err().rule, "ConditionTooDeep");
    }
    let summed = format!("1 {} > 1", "+ 1 ".repeat(60));
    assert_eq!(Condition::parse(&summed, &|_| false).unwrap_err().rule, "ConditionTooDeep");
    let chained = format!("true {}", "&& true ".repeat(60));
    assert!(Condition::parse(&chained, &|_| false).is_ok());
    assert!(Condition::parse("((((((((true))))))))", &|_| false).is_ok());
}
