//! Cedar files: what their policies touch, what they do there, and each fault with its place.

use super::*;
use crate::compile::{Rules, compile};
use crate::decide::{Verdict, judge, judge_with_cedar};
use crate::entities::{Caller, Circumstances, Question};
use crate::resource::Resource;
use crate::table::{Found, OperationId};
use crate::testing::{
    HOST, api, api_at, cedar, circumstances, faults_with, rules_with, service, user, vocabulary,
    with_role,
};

fn ask(rules: &Rules, request: (&str, &str), caller: &Caller, with: &Circumstances) -> String {
    let Found::Operation(operation, values) = rules.find(HOST, request.0, request.1) else {
        panic!("{request:?}")
    };
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let resource = Resource::of_path(values);
    let question = Question { operation, resource: &resource, caller, circumstances: with };
    let verdict = judge(rules, &question);
    assert_eq!(verdict, judge_with_cedar(rules, &question));
    match verdict {
        Verdict::Allow { rule, .. } => format!("allow {rule}"),
        Verdict::Deny(denial) => format!("{} {}", denial.reason, denial.rule),
        other => panic!("{other:?}"),
    }
}

const TABLE: &str = "'GET /a/{account}' = { allow = ['user', 'service'] }
'POST /a/{account}' = { allow = 'user' }
'GET /open' = { allow = 'anyone' }";

#[test]
fn a_forbid_narrows_what_its_head_names() {
    for (head, get, post, service_get) in [
        ("principal, action, resource", true, true, true),
        ("principal is User, action, resource", true, true, false),
        ("principal is Service, action, resource", false, false, true),
        ("principal == Service::\"ledger\", action, resource", false, false, true),
        ("principal, action == Action::\"POST /a/{account}\", resource", false, true, false),
        ("principal, action in Action::\"read\", resource", true, false, true),
        ("principal, action in Action::\"write\", resource", false, true, false),
        ("principal, action in Action::\"payments\", resource", true, true, true),
        (
            "principal, action in [Action::\"payments:write\", Action::\"GET /open\"], resource",
            false,
            true,
            false,
        ),
        ("principal, action == Action::\"payments:GET /a/{account}\", resource", true, false, true),
        ("principal in Role::\"admin\", action, resource", false, false, false),
    ] {
        let rules = rules_with(TABLE, &format!("\nforbid({head});"));
        let with = circumstances("");
        let forbidden = |method: &str, caller: &Caller| {
            let asked = ask(&rules, (method, "/v1/a/x"), caller, &with);
            assert!(asked == "Forbidden p.cedar:2" || asked.starts_with("allow t.toml"), "{asked}");
            asked.starts_with("Forbidden")
        };
        assert_eq!(forbidden("GET", &user("x")), get, "{head}");
        assert_eq!(forbidden("POST", &user("x")), post, "{head}");
        assert_eq!(forbidden("GET", &service("ledger")), service_get, "{head}");
    }
    let rules = rules_with(TABLE, "forbid(principal in Role::\"admin\", action, resource);");
    let with = circumstances("");
    let of = |caller: &Caller| ask(&rules, ("GET", "/v1/a/x"), caller, &with);
    assert_eq!(of(&with_role("admin")), "Forbidden p.cedar:1");
    assert_eq!(of(&with_role("support")), "allow t.toml:1.1");
}

#[test]
fn a_forbid_offers_no_way_out() {
    let rules = rules_with(
        "'GET /a' = { allow = 'user', scope = 'payments:read' }",
        "forbid(principal, action, resource) when { context.ip.isInRange(ip(\"10.0.0.0/8\")) };",
    );
    let question = Question {
        operation: OperationId(0),
        resource: &Resource::default(),
        caller: &user("a"),
        circumstances: &circumstances(""),
    };
    match judge(&rules, &question) {
        Verdict::Deny(denial) => {
            assert_eq!((denial.reason, denial.scope_needed), ("Forbidden", None));
            assert_eq!(denial.clauses.last().unwrap().clause, "forbid p.cedar:1");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_guard_decides_which_operations_a_policy_touches() {
    let policy = "forbid(principal, action, resource)\n\
                  when { resource has account && resource.account == \"x\" };";
    let rules = rules_with(TABLE, policy);
    let with = circumstances("");
    assert_eq!(ask(&rules, ("GET", "/v1/a/x"), &user("x"), &with), "Forbidden p.cedar:1");
    assert_eq!(ask(&rules, ("GET", "/v1/a/y"), &user("x"), &with), "allow t.toml:1.1");
    assert_eq!(rules.entries[2].marks.len(), 1, "what cannot fire is left out");
    assert!(rules.pure_line(OperationId(2)) && !rules.pure_line(OperationId(0)));
    // Without it the first operation that lacks the parameter is named, in the file's own text.
    let bare = "forbid(principal, action, resource)\nwhen { resource.account == \"x\" };";
    let found = faults_with(TABLE, bare);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].rule, "ConditionIllTyped");
    assert!(found[0].message.contains("`GET /open`"), "{}", found[0].message);
    let place = found[0].place.clone().unwrap();
    assert_eq!((&*place.file, &bare[place.bytes]), ("p.cedar", "resource.account"));
    // Or the head says which are meant.
    rules_with(
        TABLE,
        "forbid(principal, action == Action::\"POST /a/{account}\", resource) when { resource.account == \"x\" };",
    );
}

#[test]
fn a_permit_counts_only_where_the_line_leaves_it_to_policy() {
    let table = "'GET /a/{account}' = { allow = 'policy', scope = 'payments:read' }
'GET /b' = { allow = 'role:admin' }
'GET /c' = [{ allow = 'role:admin' }, { allow = 'policy' }]";
    let policies = "permit(principal is User, action, resource)\n\
                    when { principal has account }\n\
                    unless { resource has account && resource.account != principal.account };\n\
                    permit(principal == Service::\"ledger\", action, resource);";
    let rules = rules_with(table, policies);
    let of = |path: &str, caller: &Caller, scopes: &str| {
        ask(&rules, ("GET", path), caller, &circumstances(scopes))
    };
    let read = "payments:read";
    assert_eq!(of("/v1/a/a1", &user("a1"), read), "allow p.cedar:1");
    assert_eq!(of("/v1/a/a2", &user("a1"), read), "PolicySilent t.toml:1.1");
    // Every other key narrows what the files grant.
    assert_eq!(of("/v1/a/a1", &user("a1"), ""), "ScopeMissing t.toml:1.1");
    assert_eq!(of("/v1/a/a1", &service("ledger"), read), "allow p.cedar:4");
    assert_eq!(of("/v1/a/a1", &service("mailer"), read), "PolicySilent t.toml:1.1");
    assert_eq!(of("/v1/b", &user("a1"), ""), "PrincipalNotAllowed t.toml:2.1");
    assert_eq!(of("/v1/c", &user("a1"), ""), "allow p.cedar:1");
    assert_eq!(of("/v1/c", &with_role("admin"), ""), "allow t.toml:3.1");
    // A token in another service's hands passes nowhere without `via`.
    let delegated = Circumstances { actors: vec!["mailer".into()], ..circumstances(read) };
    assert_eq!(
        ask(&rules, ("GET", "/v1/a/a1"), &user("a1"), &delegated),
        "ActorNotNamed t.toml:1.1"
    );
    let outside: Vec<Option<&str>> = rules.files.iter().map(|one| one.outside.as_deref()).collect();
    assert_eq!(outside, [Some("GET /b"), None], "a service is nobody on `GET /b`");
    assert!(!rules.pure_line(OperationId(0)) && !rules.pure_line(OperationId(2)));
}

#[test]
fn a_challenge_stands_where_the_permit_of_a_file_holds() {
    let rules = rules_with(
        "'GET /a' = { allow = 'policy', step_up = 'mfa within 5m' }",
        "permit(principal is User, action, resource) when { principal has account };",
    );
    let of = |caller: &Caller| {
        let question = Question {
            operation: OperationId(0),
            resource: &Resource::default(),
            caller,
            circumstances: &circumstances(""),
        };
        match judge(&rules, &question) {
            Verdict::Deny(denial) => (denial.reason, denial.step_up.is_some()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(of(&user("a1")), ("StepUpNeeded", true));
    assert_eq!(of(&with_role("admin")), ("PolicySilent", false));
}

#[test]
fn a_forbid_that_touches_nothing_is_remembered() {
    let rules = rules_with(
        "'GET /a' = { allow = 'user' }",
        "forbid(principal is Service, action, resource);
         forbid(principal, action, resource) when { resource has nothing };
         forbid(principal, action, resource) when { context.now < 5 };
         forbid(principal is Anonymous, action in Action::\"read\", resource);",
    );
    let fires: Vec<bool> = rules.files.iter().map(|one| one.fires).collect();
    assert_eq!(fires, [false, false, true, false]);
}

#[test]
fn two_apis_and_tags_are_groups() {
    let apis = [
        api("'GET /x' = { allow = 'user' }"),
        crate::access::ApiDraft {
            name: portcullis_core::fault::Placed::new("ledger".into(), api("").name.place.clone()),
            ..api_at("https://l.example/", "'GET /x' = { allow = 'user' }")
        },
    ];
    let of = |head: &str| {
        let file = cedar(&format!("forbid(principal, {head}, resource);"));
        let rules = compile(&apis, &[file], &vocabulary()).unwrap_or_else(|f| panic!("{f:#?}"));
        let forbidden: Vec<bool> =
            rules.entries.iter().map(|entry| entry.marks.len() == 2).collect();
        forbidden
    };
    assert_eq!(of("action == Action::\"GET /x\""), [true, true]);
    assert_eq!(of("action in Action::\"ledger\""), [false, true]);
    assert_eq!(of("action in Action::\"ledger:GET /x\""), [false, true]);
    assert_eq!(of("action in Action::\"payments:read\""), [true, false]);
    let document =
        "{openapi: 3.1.0, paths: {/x: {get: {tags: [money]}}, /y: {get: {tags: [other]}}}}";
    let table = "'GET /x' = { allow = 'user' }\n'GET /y' = { allow = 'user' }";
    let file = cedar("forbid(principal, action in Action::\"tag:money\", resource);");
    let api = crate::testing::documented(table, document);
    let rules = compile(&[api], &[file], &vocabulary()).unwrap_or_else(|f| panic!("{f:#?}"));
    let count: Vec<usize> = rules.entries.iter().map(|entry| entry.marks.len()).collect();
    assert_eq!(count, [2, 1]);
    assert_eq!(rules.entries[0].operation.tags, ["money".into()]);
}

/// The only fault: its rule, and the text at its place.
#[track_caller]
fn only(policies: &str) -> (&'static str, String) {
    let found = faults_with(TABLE, policies);
    assert_eq!(found.len(), 1, "{policies} {found:#?}");
    let place = found[0].place.clone().unwrap();
    assert_eq!(&*place.file, "p.cedar");
    assert!(!found[0].remedy.is_empty() && !found[0].message.ends_with('.'));
    (found[0].rule, policies[place.bytes].to_owned())
}

#[test]
fn each_fault_has_its_name_and_place() {
    for (policies, rule, at) in [
        (
            "forbid(principal, action, resource)",
            "PolicyMalformed",
            "forbid(principal, action, resource)",
        ),
        ("permit(principal, action, resource);\nforbid(principal, action);", "PolicyMalformed", ""),
        (
            "forbid(principal, action, resource) when { context.now = 3 };",
            "PolicyMalformed",
            "context.now = 3",
        ),
        ("forbid(principal == ?principal, action, resource);", "PolicyMalformed", ""),
        ("forbid(principal, action == Action::\"GET /nope\", resource);", "UnknownAction", ""),
        ("forbid(principal, action in Action::\"paymnets\", resource);", "UnknownAction", ""),
        ("forbid(principal, action, resource == Resource::\"x\");", "ResourceConstrained", ""),
        ("forbid(principal in Role::\"amdin\", action, resource);", "UnknownPrincipal", ""),
        ("forbid(principal is Usr, action, resource);", "UnknownPrincipal", ""),
        (
            "forbid(principal, action, resource) when { principal in Group::\"nope\" };",
            "UnknownPrincipal",
            "",
        ),
        (
            "forbid(principal, action, resource) when { action == Action::\"GET /open\" };",
            "ActionInCondition",
            "",
        ),
        (
            "forbid(principal is User, action, resource) when { principal.account == \"x\" };",
            "ConditionIllTyped",
            "principal.account",
        ),
        (
            "forbid(principal, action, resource) when { context.now == \"x\" };",
            "ConditionIllTyped",
            "context.now == \"x\"",
        ),
        (
            "@id(\"n; )\")\nforbid(principal, action, resource) when { context.zone == \"x\" };",
            "ConditionIllTyped",
            "context.zone",
        ),
        ("forbid(principal, action, resource) when { resource has body };", "UnknownParameter", ""),
    ] {
        let (found, text) = only(policies);
        assert_eq!(found, rule, "{policies}");
        if !at.is_empty() {
            assert_eq!(text, at, "{policies}");
        }
    }
    let deep = format!("forbid(principal, action, resource) when {{ {}true }};", "(".repeat(40));
    assert_eq!(only(&deep).0, "ConditionTooDeep");
    let long =
        format!("forbid(principal, action, resource) when {{ {}true }};", "true && ".repeat(300));
    assert_eq!(only(&long).0, "ConditionTooLong");
}

#[test]
fn too_many_policies() {
    let policies = "forbid(principal, action, resource);\n".repeat(MAX_POLICIES + 1);
    let found = faults_with(TABLE, &policies);
    assert_eq!((found.len(), found[0].rule), (1, "TooManyPolicies"));
}

#[test]
fn an_api_named_like_an_action_is_refused() {
    for name in RESERVED {
        let mut draft = api("'GET /a' = { allow = 'user' }");
        draft.name.value = (*name).into();
        let found = compile(&[draft], &[], &vocabulary()).err().unwrap();
        assert_eq!(found[0].rule, "ApiNameReserved");
    }
}

const RESERVED: &[&str] = &["read", "write", "tag"];

#[test]
fn policy_stands_alone() {
    for (table, rule) in [
        ("'GET /a' = { allow = ['policy', 'user'] }", "PolicyAmongOthers"),
        ("'GET /a' = [{ allow = 'policy' }, { allow = 'policy' }]", "PolicyTwice"),
    ] {
        assert_eq!(faults_with(table, "")[0].rule, rule);
    }
    let silent = rules_with("'GET /a' = { allow = 'policy' }", "");
    let with = circumstances("");
    assert_eq!(ask(&silent, ("GET", "/v1/a"), &user("a"), &with), "PolicySilent t.toml:1.1");
    assert_eq!(
        ask(&silent, ("GET", "/v1/a"), &Caller::Anonymous, &with),
        "PrincipalNotAllowed t.toml:1.1"
    );
}
