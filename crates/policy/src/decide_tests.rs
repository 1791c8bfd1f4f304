//! Decisions: each reason by its name, and Cedar against the clauses told one by one.

use proptest::prelude::*;

use super::*;
use crate::compile::compile;
use crate::entities::{Circumstances, UserCaller};
use crate::resource::Resource;
use crate::table::Found;
use crate::testing::{
    HOST, NOW, api, circumstances, documented, rules, rules_with, service, user, vocabulary,
    with_role,
};

fn asked(rules: &Rules, path: &str, caller: &Caller, with: &Circumstances) -> Verdict {
    let Found::Operation(operation, values) = rules.find(HOST, "GET", path) else {
        panic!("{path} is not found")
    };
    let resource = Resource::of_path(
        values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    );
    judge(rules, &Question { operation, resource: &resource, caller, circumstances: with })
}

fn denied(decided: Result<Permit, Undecided>) -> Denial {
    match decided {
        Err(Undecided::Denied(denial)) => *denial,
        other => panic!("{other:?}"),
    }
}

fn reason(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allow { .. } => "allow",
        Verdict::Deny(denial) => denial.reason,
        Verdict::NeedsBody => "NeedsBody",
        Verdict::NeedsOwner => "NeedsOwner",
    }
}

const LINE: &str = "'GET /accounts/{account}' = { allow = 'user', scope = 'payments:read', \
    when = 'resource.account == principal.account', from = '10.0.0.0/8', until = '2027-01-01' }";

#[test]
fn a_line_allows_only_when_every_clause_holds() {
    let rules = rules(LINE);
    let good = circumstances("openid payments:read");
    let verdict = asked(&rules, "/v1/accounts/a1", &user("a1"), &good);
    assert_eq!(verdict, Verdict::Allow { rule: "t.toml:1.1".into(), clauses: vec![] });
    for (caller, with, expected) in [
        (service("ledger"), good.clone(), "PrincipalNotAllowed"),
        (Caller::Anonymous, good.clone(), "PrincipalNotAllowed"),
        (user("a1"), circumstances(""), "ScopeMissing"),
        (user("a1"), circumstances("payments:reader"), "ScopeMissing"),
        (
            user("a1"),
            Circumstances { ip: "11.0.0.1".parse().unwrap(), ..good.clone() },
            "NetworkForeign",
        ),
        (
            user("a1"),
            Circumstances { ip: "::1".parse().unwrap(), ..good.clone() },
            "NetworkForeign",
        ),
        (
            user("a1"),
            Circumstances { ip: "::ffff:10.1.2.3".parse().unwrap(), ..good.clone() },
            "allow",
        ),
        (user("a1"), Circumstances { now: 1_798_761_600, ..good.clone() }, "LineEnded"),
        (user("a1"), Circumstances { now: 1_798_761_599, ..good.clone() }, "allow"),
        (user("a2"), good.clone(), "ConditionFalse"),
        (with_role("admin"), good.clone(), "ConditionFalse"),
    ] {
        assert_eq!(reason(&asked(&rules, "/v1/accounts/a1", &caller, &with)), expected);
    }
}

#[test]
fn a_denial_tells_each_clause_with_its_inputs() {
    let rules = rules(LINE);
    let verdict = asked(&rules, "/v1/accounts/a2", &user("a1"), &circumstances("payments:read"));
    let Verdict::Deny(denial) = verdict else { panic!("allowed") };
    let told: Vec<String> = denial
        .clauses
        .iter()
        .map(|c| format!("{} {} [{}]", if c.held { "✓" } else { "✗" }, c.clause, c.inputs))
        .collect();
    assert_eq!(
        told,
        [
            "✓ allow = \"user\" [caller=user:u_1]".to_owned(),
            "✓ scope = \"payments:read\" [scopes=payments:read]".into(),
            "✓ from = \"10.0.0.0/8\" [ip=10.0.0.7]".into(),
            format!("✓ until = \"2027-01-01\" [now={NOW}]"),
            "✗ when = \"resource.account == principal.account\" \
             [principal.account=a1 resource.account=a2]"
                .into(),
        ]
    );
    let verdict = asked(&rules, "/v1/accounts/a2", &with_role("admin"), &circumstances(""));
    let Verdict::Deny(denial) = verdict else { panic!("allowed") };
    assert!(denial.clauses[4].inputs.contains("principal.account=(absent)"));
    let verdict = asked(&rules, "/v1/accounts/a%E2%80%AE", &user("a1"), &circumstances(""));
    let Verdict::Deny(denial) = verdict else { panic!("allowed") };
    assert!(!denial.clauses[4].inputs.contains('\u{202e}'), "a bidi mark must not reach a record");
}

#[test]
fn insufficient_scope_is_told_only_where_a_scope_would_suffice() {
    let rules = rules(LINE);
    let needed =
        |path: &str, caller: Caller, with: Circumstances| match asked(&rules, path, &caller, &with)
        {
            Verdict::Deny(denial) => denial.scope_needed,
            other => panic!("{other:?}"),
        };
    let own = "/v1/accounts/a1";
    assert_eq!(needed(own, user("a1"), circumstances("")).as_deref(), Some("payments:read"));
    assert_eq!(needed("/v1/accounts/a2", user("a1"), circumstances("")), None);
    assert_eq!(needed(own, service("ledger"), circumstances("")), None);
    let far = Circumstances { ip: "11.0.0.1".parse().unwrap(), ..circumstances("") };
    assert_eq!(needed(own, user("a1"), far), None);
}

#[test]
fn principals_are_who_they_are() {
    let rules = rules(
        "'GET /user' = { allow = 'user' }
         'GET /service' = { allow = 'service' }
         'GET /role' = { allow = 'role:admin' }
         'GET /group' = { allow = 'group:staff' }
         'GET /ledger' = { allow = 'service:ledger' }
         'GET /two' = { allow = ['role:admin', 'service:ledger'] }
         'GET /anyone' = { allow = 'anyone' }",
    );
    let person = |roles: &[&str], groups: &[&str]| {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Caller::User(UserCaller {
            id: "u".into(),
            roles: own(roles),
            groups: own(groups),
            ..Default::default()
        })
    };
    let paths = ["user", "service", "role", "group", "ledger", "two", "anyone"];
    for (caller, allowed) in [
        (Caller::Anonymous, vec!["anyone"]),
        (person(&[], &[]), vec!["user", "anyone"]),
        (person(&["admin"], &[]), vec!["user", "role", "two", "anyone"]),
        (person(&["staff"], &["admin"]), vec!["user", "anyone"]),
        (person(&["support"], &["staff"]), vec!["user", "group", "anyone"]),
        (service("ledger"), vec!["service", "ledger", "two", "anyone"]),
        (service("admin"), vec!["service", "anyone"]),
    ] {
        for path in paths {
            let verdict = asked(&rules, &format!("/v1/{path}"), &caller, &circumstances(""));
            assert_eq!(reason(&verdict) == "allow", allowed.contains(&path), "{caller:?} {path}");
        }
    }
}

#[test]
fn of_several_tables_one_that_passes_whole_suffices() {
    let rules = rules(
        "'GET /a/{account}' = [
            { allow = 'user', scope = 'payments:read', when = 'resource.account == principal.account' },
            { allow = 'role:support', from = '10.0.0.0/8', shared = 'support sees all' }]",
    );
    let rule = |caller: Caller, scopes: &str| match asked(
        &rules,
        "/v1/a/a1",
        &caller,
        &circumstances(scopes),
    ) {
        Verdict::Allow { rule, .. } => format!("allow {rule}"),
        Verdict::Deny(denial) => {
            format!("{} {} {}", denial.reason, denial.rule, denial.clauses.len())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(rule(user("a1"), "payments:read"), "allow t.toml:1.1");
    assert_eq!(rule(with_role("support"), ""), "allow t.toml:1.2");
    // Neither half of one and half of the other.
    assert_eq!(rule(user("a2"), "payments:read"), "ConditionFalse t.toml:1.1 5");
    assert_eq!(rule(service("ledger"), "payments:read"), "PrincipalNotAllowed t.toml:1.2 5");
}

#[test]
fn an_absent_attribute_never_grants() {
    let rules = rules(
        "'GET /or/{a}' = { allow = 'user', when = 'resource.a == principal.account || true' }
         'GET /not/{a}' = { allow = 'user', when = '!(resource.a == principal.account)' }
         'GET /age' = { allow = 'user', when = 'context.age.mfa < 300' }
         'GET /client' = { allow = 'user', when = 'context.client == \"app\"' }",
    );
    for path in ["/v1/or/x", "/v1/not/x"] {
        let verdict = asked(&rules, path, &with_role("admin"), &circumstances(""));
        assert_eq!(reason(&verdict), "ConditionFalse", "{path}");
        assert_eq!(
            reason(&asked(&rules, path, &user("a1"), &circumstances(""))),
            "allow",
            "{path}"
        );
    }
    let age = |seconds: Option<i64>| {
        let ages = seconds.map(|seconds| ("mfa", seconds)).into_iter().collect();
        let with = Circumstances { ages, ..circumstances("") };
        reason(&asked(&rules, "/v1/age", &user("a1"), &with))
    };
    assert_eq!(
        [age(None), age(Some(299)), age(Some(300))],
        ["ConditionFalse", "allow", "ConditionFalse"]
    );
    let with = Circumstances { client: None, ..circumstances("") };
    assert_eq!(reason(&asked(&rules, "/v1/client", &user("a1"), &with)), "ConditionFalse");
}

#[test]
fn a_condition_that_errs_denies() {
    let rules =
        rules("'GET /a' = { allow = 'user', when = 'context.now * 9223372036854775807 > 0' }");
    let verdict = asked(&rules, "/v1/a", &user("a1"), &circumstances(""));
    assert_eq!(reason(&verdict), "ConditionErred");
}

#[test]
fn an_attribute_of_the_wrong_type_never_grants() {
    use portcullis_core::jose::claims::Attribute;
    let rules = rules("'GET /a' = { allow = 'user', when = 'principal.level > 3 || true' }");
    let of = |level: Attribute| {
        Caller::User(UserCaller {
            attributes: [("level".into(), level)].into(),
            ..Default::default()
        })
    };
    let verdict = asked(&rules, "/v1/a", &of(Attribute::String("9".into())), &circumstances(""));
    assert_eq!(reason(&verdict), "ConditionErred");
    let verdict = asked(&rules, "/v1/a", &of(Attribute::Integer(1)), &circumstances(""));
    assert_eq!(reason(&verdict), "allow");
}

#[test]
fn every_variable_of_a_condition_is_there() {
    let rules = rules(
        "'GET /c' = { allow = 'user', when = 'context.ip.isInRange(ip(\"10.0.0.0/8\")) && context.now > 5 && context.scopes.contains(\"x\") && context.amr.contains(\"pwd\")' }
         'GET /r' = { allow = 'user', when = 'principal in Role::\"admin\" || principal is User in Group::\"staff\"' }
         'GET /i' = { allow = 'user', when = 'principal.id == \"u_1\" && principal.issuer like \"https://*\"' }
         'GET /s' = { allow = 'service', when = 'principal.id == \"ledger\" && principal.tenant == \"t\" && principal in Tenant::\"t\"' }",
    );
    assert_eq!(reason(&asked(&rules, "/v1/c", &user("a"), &circumstances("x"))), "allow");
    assert_eq!(reason(&asked(&rules, "/v1/c", &user("a"), &circumstances("y"))), "ConditionFalse");
    assert_eq!(reason(&asked(&rules, "/v1/r", &with_role("admin"), &circumstances(""))), "allow");
    assert_eq!(
        reason(&asked(&rules, "/v1/r", &with_role("support"), &circumstances(""))),
        "ConditionFalse"
    );
    assert_eq!(reason(&asked(&rules, "/v1/i", &user("a"), &circumstances(""))), "allow");
    let tenant =
        |tenant: &str| Caller::Service { id: "ledger".into(), tenant: Some(tenant.into()) };
    assert_eq!(reason(&asked(&rules, "/v1/s", &tenant("t"), &circumstances(""))), "allow");
    assert_eq!(reason(&asked(&rules, "/v1/s", &tenant("u"), &circumstances(""))), "ConditionFalse");
}

#[test]
fn integers_are_numbers() {
    let document = "{openapi: 3.1.0, paths: {'/n/{n}': {get: {parameters: [{name: n, in: path, schema: {type: integer}}]}}}}";
    let table = "'GET /n/{n}' = { allow = 'user', when = 'resource.n > 9', shared = 'a test' }";
    let rules = compile(&[documented(table, document)], &[], &vocabulary())
        .unwrap_or_else(|f| panic!("{f:?}"));
    assert_eq!(reason(&asked(&rules, "/v1/n/10", &user("a"), &circumstances(""))), "allow");
    assert_eq!(reason(&asked(&rules, "/v1/n/9", &user("a"), &circumstances(""))), "ConditionFalse");
}

#[test]
fn closed_unknown_and_malformed_questions_are_denied() {
    let rules = rules(
        "'GET /a' = { allow = 'nobody' }\n'GET /b/{x}' = { allow = 'user', when = 'resource.x == \"x\"' }",
    );
    let (caller, with) = (user("a"), circumstances(""));
    let of = |id: u32, parameters: &[(String, String)]| {
        let operation = OperationId(id);
        let resource = Resource::of_path(parameters.to_vec());
        reason(&judge(
            &rules,
            &Question { operation, resource: &resource, caller: &caller, circumstances: &with },
        ))
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(of(0, &[]), "Closed");
    assert_eq!(of(9, &[]), "OperationUnknown");
    assert_eq!(of(1, &[]), "QuestionMalformed");
    assert_eq!(of(1, &[pair("y", "x")]), "QuestionMalformed");
    assert_eq!(of(1, &[pair("x", "x"), pair("x", "y")]), "QuestionMalformed");
    assert_eq!(of(1, &[pair("x", "x")]), "allow");
}

#[test]
fn full_audit_tells_what_held() {
    let rules = rules("'GET /a' = { allow = 'user', scope = 'payments:read', audit = 'full' }");
    match asked(&rules, "/v1/a", &user("a"), &circumstances("payments:read")) {
        Verdict::Allow { clauses, .. } => {
            assert!(clauses.len() == 2 && clauses.iter().all(|c| c.held))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_permit_carries_its_serial_and_rule() {
    let rules = rules("'GET /a' = { allow = 'user' }");
    let (caller, with) = (user("a"), circumstances(""));
    let question = Question {
        operation: OperationId(0),
        resource: &Resource::default(),
        caller: &caller,
        circumstances: &with,
    };
    let permit = decide(&rules, &question, 77).unwrap();
    assert_eq!(
        (permit.serial(), &**permit.rule(), permit.operation()),
        (77, "t.toml:1.1", OperationId(0))
    );
    let anonymous = Question { caller: &Caller::Anonymous, ..question };
    assert_eq!(denied(decide(&rules, &anonymous, 78)).reason, "PrincipalNotAllowed");
}

#[test]
fn names_with_quotes_are_names() {
    let mut words = vocabulary();
    words.roles.push("o\\\"k} ]".into());
    let mut draft = api("'GET /a' = { allow = 'user' }");
    draft.lines[0].alternatives[0].allow[0].value = "role:o\\\"k} ]".into();
    let rules = compile(&[draft], &[], &words).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(
        reason(&asked(&rules, "/v1/a", &with_role("o\\\"k} ]"), &circumstances(""))),
        "allow"
    );
    assert_eq!(
        reason(&asked(&rules, "/v1/a", &with_role("ok"), &circumstances(""))),
        "PrincipalNotAllowed"
    );
}

/// Tables of every kind of clause, for the comparison below.
const MIXED: &str = "
'GET /0/{account}' = { allow = ['user', 'service:ledger'], scope = 'payments:read' }
'GET /1/{account}' = { allow = 'role:admin', scope = { any = ['payments:read', 'payments:write'] } }
'GET /2/{account}' = [{ allow = 'group:staff', from = ['10.0.0.0/8', '2001:db8::/32'] }, { allow = 'service' }]
'GET /3/{account}' = { allow = 'user', until = '2026-12-01', when = 'resource.account == principal.account' }
'GET /4/{account}' = [{ allow = 'user', when = 'context.age.mfa < 300' }, { allow = 'role:admin' }]
'GET /bound/{account}' = [{ allow = 'user', bound = 'dpop', via = 'service:mailer' }, { allow = 'service', bound = 'dpop or mtls', via = ['service:mailer', 'service:ledger'] }]
'GET /6/{account}' = [{ allow = 'user', step_up = { need = 'mfa within 299s', when = 'resource.account == principal.account' } }, { allow = 'service', owner = { lookup = 'GET /o/{account}', field = '/o' } }]
'GET /7/{account}' = [{ allow = 'policy', scope = 'payments:read' }, { allow = 'role:support', owner = { lookup = 'GET /o/{account}', field = '/o' }, query = { page = 'integer' }, when = 'resource.query.page < 3' }]
'GET /8/{account}' = { allow = ['user', 'service'] }
";

const FILES: &str = "
permit(principal is User, action, resource) when { principal has account && resource.account == principal.account };
permit(principal == Service::\"mailer\", action, resource) unless { context.dpop };
forbid(principal, action == Action::\"GET /8/{account}\", resource) when { context.age has mfa && context.age.mfa * 4611686018427387904 > 0 };
forbid(principal in Role::\"support\", action in Action::\"read\", resource) when { context.mtls && !context.dpop };
";

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn cedar_and_the_clauses_agree(
        line in 0..9_usize,
        kind in 0..4_usize,
        role in prop::sample::select(vec!["admin", "support", ""]),
        group in prop::sample::select(vec!["staff", ""]),
        account in prop::option::of(prop::sample::select(vec!["a1", "a2"])),
        scopes in prop::sample::select(vec!["", "payments:read", "payments:write x"]),
        ip in prop::sample::select(vec!["10.1.1.1", "11.1.1.1", "2001:db8::1", "::1", "::ffff:10.0.0.1"]),
        now in prop::sample::select(vec![NOW, 1_796_083_200, 1_796_083_199]),
        age in prop::option::of(prop::sample::select(vec![0_i64, 1, 299, 300])),
        owner in prop::option::of(prop::sample::select(vec!["u", "ledger", "x"])),
        page in prop::option::of(2..4_i64),
        (dpop, mtls) in (any::<bool>(), any::<bool>()),
        actors in prop::sample::subsequence(vec!["mailer", "ledger", "other"], 0..=3),
    ) {
        use portcullis_core::jose::claims::Attribute;
        thread_local!(static RULES: Rules = rules_with(MIXED, FILES));
        let caller = match kind {
            0 => Caller::Anonymous,
            1 => service("ledger"),
            2 => service("mailer"),
            _ => Caller::User(UserCaller {
                id: "u".into(),
                roles: vec![role.into()],
                groups: vec![group.into()],
                attributes: account.map(|a| ("account".into(), Attribute::String(a.into()))).into_iter().collect(),
                ..UserCaller::default()
            }),
        };
        let with = Circumstances {
            ip: ip.parse().unwrap(),
            now,
            ages: age.map(|age| ("mfa", age)).into_iter().collect(),
            dpop,
            mtls,
            actors: actors.into_iter().map(Into::into).collect(),
            ..circumstances(scopes)
        };
        RULES.with(|rules| {
            let id = OperationId(line as u32);
            let resource = Resource {
                owner: owner.map(str::to_owned),
                query: if line == 7 { vec![page.map(crate::field::Value::Long)] } else { Vec::new() },
                ..Resource::of_path(vec![("account".to_owned(), "a1".to_owned())])
            };
            let question = Question { operation: id, resource: &resource, caller: &caller, circumstances: &with };
            let verdict = judge_told(rules, &question);
            let reason = reason(&verdict);
            assert_ne!(reason, "ClausesDisagree", "{verdict:?}");
            assert_ne!(reason, "ConditionErred", "{verdict:?}");
            let judged = judge(rules, &question);
            assert_eq!(reason == "allow", super::tests::reason(&judged) == "allow");
            assert_eq!(judged, judge_with_cedar(rules, &question));
        });
    }
}
