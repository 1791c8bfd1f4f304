//! `owner`: how it is read, that it is asked last, and that nobody learns whose an object is.

use super::*;
use crate::compile::Rules;
use crate::decide::{Verdict, judge, judge_with_cedar};
use crate::entities::{Caller, Question};
use crate::field::Value;
use crate::resource::Resource;
use crate::table::OperationId;
use crate::testing::{circumstances, faults, rules, rules_with, service, user, with_role};

const LINE: &str = "'GET /invoices/{invoice}' = { allow = ['user', 'service:ledger'], \
    scope = 'payments:read', \
    owner = { lookup = 'GET /internal/owner/{invoice}', field = '/owner' } }";

fn of(invoice: &str, owner: Option<&str>) -> Resource {
    let resource = Resource::of_path(vec![("invoice".to_owned(), invoice.to_owned())]);
    Resource { owner: owner.map(str::to_owned), ..resource }
}

fn ask(rules: &Rules, resource: &Resource, caller: &Caller, scopes: &str) -> Verdict {
    let circumstances = circumstances(scopes);
    let question =
        Question { operation: OperationId(0), resource, caller, circumstances: &circumstances };
    let verdict = judge(rules, &question);
    assert_eq!(verdict, judge_with_cedar(rules, &question));
    verdict
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow { rule, .. } => format!("allow {rule}"),
        Verdict::Deny(denial) => denial.reason.to_owned(),
        Verdict::NeedsBody => "NeedsBody".into(),
        Verdict::NeedsOwner => "NeedsOwner".into(),
    }
}

#[test]
fn the_owner_is_asked_for_after_everything_else_passed() {
    let rules = rules(LINE);
    let read = "payments:read";
    for (owner, caller, scopes, expected) in [
        (None, user("a1"), read, "NeedsOwner"),
        (Some("u_1"), user("a1"), read, "allow t.toml:1.1"),
        (Some("u_2"), user("a1"), read, "OwnerForeign"),
        (Some(""), user("a1"), read, "OwnerForeign"),
        (Some("U_1"), user("a1"), read, "OwnerForeign"),
        (None, service("ledger"), read, "NeedsOwner"),
        (Some("ledger"), service("ledger"), read, "allow t.toml:1.1"),
        (Some("mailer"), service("ledger"), read, "OwnerForeign"),
        // Refused without a look-up: no traffic for those who could not pass anyway.
        (None, service("mailer"), read, "PrincipalNotAllowed"),
        (None, user("a1"), "", "ScopeMissing"),
        (Some("u_1"), user("a1"), "", "ScopeMissing"),
    ] {
        let verdict = ask(&rules, &of("i1", owner), &caller, scopes);
        assert_eq!(word(&verdict), expected, "{owner:?} {caller:?}");
    }
    assert!(!rules.pure_line(OperationId(0)));
}

#[test]
fn a_challenge_is_the_same_for_every_id() {
    let rules = rules(LINE);
    let challenge =
        |owner: Option<&str>, id: &str| match ask(&rules, &of(id, owner), &user("a1"), "") {
            Verdict::Deny(denial) => (denial.reason, denial.scope_needed, denial.step_up),
            other => panic!("{other:?}"),
        };
    let own = challenge(Some("u_1"), "i1");
    assert_eq!(own.1.as_deref(), Some("payments:read"));
    assert_eq!(challenge(Some("u_2"), "i2"), own);
    assert_eq!(challenge(None, "i3"), own);
    // And once the owner is known nothing is offered: it would tell that the object is there.
    let rules = crate::testing::rules(
        "'GET /invoices/{invoice}' = [
          { allow = 'user', owner = { lookup = 'GET /o/{invoice}', field = '/o' } },
          { allow = 'role:support', step_up = 'mfa within 5m' }]",
    );
    match ask(&rules, &of("i2", Some("u_9")), &with_role("support"), "") {
        Verdict::Deny(denial) => {
            assert_eq!((denial.reason, denial.step_up), ("OwnerForeign", None));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_table_that_holds_whole_needs_no_owner() {
    let rules = rules(
        "'GET /invoices/{invoice}' = [
          { allow = 'user', owner = { lookup = 'GET /o/{invoice}', field = '/o' } },
          { allow = 'role:admin', shared = 'admins see all' }]",
    );
    assert_eq!(word(&ask(&rules, &of("i1", None), &with_role("admin"), "")), "allow t.toml:1.2");
    assert_eq!(word(&ask(&rules, &of("i1", None), &user("a1"), "")), "NeedsOwner");
    // Unless a forbid has to be judged first.
    let rules = rules_with(
        "'GET /invoices/{invoice}' = [
          { allow = 'user', owner = { lookup = 'GET /o/{invoice}', field = '/o' } },
          { allow = 'role:admin', shared = 'admins see all' }]",
        "forbid(principal, action, resource) when { resource has owner && resource.owner == \"vip\" };",
    );
    let admin = with_role("admin");
    assert_eq!(word(&ask(&rules, &of("i1", None), &admin, "")), "NeedsOwner");
    assert_eq!(word(&ask(&rules, &of("i1", Some("x")), &admin, "")), "allow t.toml:1.2");
    assert_eq!(word(&ask(&rules, &of("i1", Some("vip")), &admin, "")), "OwnerForeign");
}

#[test]
fn whatever_depends_on_the_owner_is_told_as_one_reason() {
    let lookup = "owner = { lookup = 'GET /o/{invoice}', field = '/o' }";
    for table in [
        format!(
            "[{{ allow = 'role:support', step_up = 'mfa within 5m' }}, {{ allow = 'user', {lookup} }}]"
        ),
        format!("{{ allow = 'user', {lookup}, when = 'resource.owner like \"u_1\"' }}"),
        format!("{{ allow = 'user', {lookup}, when = 'resource.owner like \"U*\"' }}"),
    ] {
        let rules = rules(&format!("'GET /invoices/{{invoice}}' = {table}"));
        let support = with_role("support");
        assert_eq!(word(&ask(&rules, &of("i1", None), &support, "")), "NeedsOwner", "{table}");
        let foreign = ask(&rules, &of("i1", Some("u_9")), &support, "");
        assert_eq!(word(&foreign), "OwnerForeign", "{table}");
    }
}

#[test]
fn body_and_owner_are_asked_for_in_turn() {
    let rules = rules(
        "'POST /invoices/{invoice}' = { allow = 'user', body = { fields = { amount = 'integer' } },
           when = 'resource.body.amount < 10',
           owner = { lookup = 'GET /o/{invoice}', field = '/o' } }",
    );
    let with = |amount: Option<i64>, owner: Option<&str>| Resource {
        body: amount.map(|amount| vec![Some(Value::Long(amount))]),
        ..of("i1", owner)
    };
    for (amount, owner, expected) in [
        (None, None, "NeedsBody"),
        (None, Some("u_1"), "NeedsBody"),
        (Some(9), None, "NeedsOwner"),
        (Some(10), None, "ConditionFalse"),
        (Some(10), Some("u_1"), "ConditionFalse"),
        (Some(9), Some("u_1"), "allow t.toml:1.1"),
        (Some(9), Some("u_2"), "OwnerForeign"),
    ] {
        let verdict = ask(&rules, &with(amount, owner), &user("a1"), "");
        assert_eq!(word(&verdict), expected, "{amount:?} {owner:?}");
    }
}

#[test]
fn a_look_up_becomes_pieces() {
    let rules = rules(
        "'GET /a/{x}/b/{y}' = { allow = 'user', \
           owner = { lookup = 'GET /o/{y}/of/{x}/now', field = '/a~1b/0' } }",
    );
    let owner = rules.operation(OperationId(0)).unwrap().owner.clone().unwrap();
    let literal = |text: &str| LookupPiece::Literal(text.into());
    assert_eq!(
        owner.path,
        [
            literal("/o/"),
            LookupPiece::Parameter(1),
            literal("/of/"),
            LookupPiece::Parameter(0),
            literal("/now")
        ]
    );
    assert_eq!(&*owner.field, "/a~1b/0");
}

#[test]
fn each_fault_has_its_name() {
    for (lookup, field, rule) in [
        ("POST /o/{x}", "/o", "OwnerLookupMalformed"),
        ("GET o/{x}", "/o", "OwnerLookupMalformed"),
        ("GET https://evil.example/{x}", "/o", "OwnerLookupMalformed"),
        ("GET /o/../{x}", "/o", "OwnerLookupMalformed"),
        ("GET /o/{x}?all=1", "/o", "OwnerLookupMalformed"),
        ("GET /o/{x}/**", "/o", "OwnerLookupMalformed"),
        ("GET /o", "/o", "OwnerLookupMalformed"),
        ("GET /o/{z}", "/o", "OwnerLookupMalformed"),
        ("GET /o/{x}", "o", "OwnerFieldMalformed"),
        ("GET /o/{x}", "/o~2", "OwnerFieldMalformed"),
        ("GET /o/{x}", "/o~", "OwnerFieldMalformed"),
    ] {
        let table = format!(
            "'GET /a/{{x}}' = {{ allow = 'user', owner = {{ lookup = '{lookup}', field = '{field}' }} }}"
        );
        let found: Vec<_> = faults(&table).iter().map(|fault| fault.rule).collect();
        assert_eq!(found, [rule], "{table}");
    }
    let table =
        "'GET /a/{x}' = { allow = 'anyone', owner = { lookup = 'GET /o/{x}', field = '/o' } }";
    assert_eq!(faults(table)[0].rule, "OwnerOnAnyone");
    let table = "'GET /a/{x}' = [
        { allow = 'user', owner = { lookup = 'GET /o/{x}', field = '/o' } },
        { allow = 'service', owner = { lookup = 'GET /p/{x}', field = '/o' } }]";
    assert_eq!(faults(table)[0].rule, "SettingDiffers");
}

#[test]
fn a_parameter_named_like_a_member_is_refused() {
    for name in ["owner", "query", "header", "body"] {
        let table = format!("'GET /a/{{{name}}}' = {{ allow = 'user' }}");
        let found = faults(&table);
        assert_eq!(found[0].rule, "ParameterReserved", "{name}");
        assert!(found[0].remedy.contains(&format!("{{{name}_id}}")));
    }
}
