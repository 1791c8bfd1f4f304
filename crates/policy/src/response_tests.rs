//! `response`: how it is read, and who sees which group.

use super::*;
use crate::decide::decide;
use crate::entities::Question;
use crate::resource::Resource;
use crate::table::OperationId;
use crate::testing::{circumstances, faults, rules, service, user, with_role};

#[test]
fn a_permit_says_which_groups_its_caller_sees() {
    let rules = rules(
        "'GET /a' = { allow = ['user', 'service:ledger'], response = { all = ['id', 'owner.name'], \
           'role:admin' = ['secret'], 'user' = ['email'], 'service:ledger' = ['iban'] } }
         'GET /b' = { allow = 'user' }
         'GET /c' = { allow = 'user', response = ['id'] }",
    );
    let seen = |operation: u32, caller: &Caller| {
        let circumstances = circumstances("");
        let question = Question {
            operation: OperationId(operation),
            resource: &Resource::default(),
            caller,
            circumstances: &circumstances,
        };
        decide(&rules, &question, 1).unwrap().groups().to_vec()
    };
    assert_eq!(seen(0, &user("a1")), [0, 2]);
    assert_eq!(seen(0, &with_role("admin")), [0, 1, 2]);
    assert_eq!(seen(0, &service("ledger")), [0, 3]);
    assert_eq!(seen(1, &user("a1")), [0_usize; 0]);
    assert_eq!(seen(2, &user("a1")), [0]);
    let rule = |id| rules.operation(OperationId(id)).unwrap().response.clone();
    assert_eq!(rule(1), None);
    let groups = rule(0).unwrap().groups;
    assert_eq!(groups[1].to.as_deref(), Some("role:admin"));
    assert_eq!(groups[0].members, ["id".into(), "owner.name".into()]);
    assert!(rules.pure_line(OperationId(0)), "who sees what is fixed by the token");
}

#[test]
fn each_fault_has_its_name() {
    for (line, rule) in [
        ("response = ['']", "ResponseMemberMalformed"),
        ("response = ['a..b']", "ResponseMemberMalformed"),
        ("response = ['a', 'a']", "ResponseMemberMalformed"),
        ("response = { 'role:amdin' = ['a'] }", "UnknownPrincipal"),
        ("response = { 'anyone' = ['a'] }", "UnknownPrincipal"),
        ("response = { 'u' = ['a'] }", "UnknownPrincipal"),
    ] {
        let table = format!("'GET /a' = {{ allow = 'user', {line} }}");
        let found: Vec<_> = faults(&table).iter().map(|fault| fault.rule).collect();
        assert_eq!(found, [rule], "{line}");
    }
    let many: Vec<String> = (0..=MAX_MEMBERS).map(|n| format!("'m{n}'")).collect();
    let table = format!("'GET /a' = {{ allow = 'user', response = [{}] }}", many.join(", "));
    assert_eq!(faults(&table)[0].rule, "ResponseTooLong");
    let table = "'GET /a' = [{ allow = 'user', response = ['id'] }, { allow = 'service' }]";
    assert_eq!(faults(table)[0].rule, "SettingDiffers");
}
