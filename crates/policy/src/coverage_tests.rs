//! Every gap has a test of its name, and a twin that lacks the gap by one word.

use super::*;
use crate::compile::compile;
use crate::testing::{api, documented, rules, vocabulary};

fn gaps_of(draft: ApiDraft) -> Vec<(&'static str, Fault)> {
    let apis = [draft];
    let words = vocabulary();
    let rules = compile(&apis, &[], &words).unwrap_or_else(|faults| panic!("{faults:#?}"));
    gaps(&apis, &rules, &words)
        .into_iter()
        .inspect(|gap| {
            assert_eq!(gap.severity, portcullis_core::fault::Severity::Gap);
            assert!(gap.place.is_some() && !gap.message.ends_with('.') && !gap.remedy.is_empty());
        })
        .map(|gap| (gap.rule, gap))
        .collect()
}

fn names(draft: ApiDraft) -> Vec<&'static str> {
    gaps_of(draft).into_iter().map(|(name, _)| name).collect()
}

#[track_caller]
fn gap_and_twin(gap: &str, table: &str, twin: &str) {
    assert_eq!(names(api(table)), [gap], "{table}");
    assert_eq!(names(api(twin)), Vec::<&str>::new(), "{twin}");
}

#[test]
fn review_pending() {
    let twin = "'GET /a' = { allow = 'nobody' }";
    gap_and_twin("ReviewPending", "'GET /a' = { allow = 'REVIEW' }", twin);
    gap_and_twin("ReviewPending", "'GET /a' = { allow = 'REVIEW-PUBLIC' }", twin);
}

#[test]
fn public_without_reason() {
    let public = "'POST /a' = { allow = 'anyone', public = 'a form' }";
    gap_and_twin("PublicWithoutReason", "'POST /a' = { allow = 'anyone' }", public);
    let twin = "'GET /a' = { allow = 'anyone' }";
    gap_and_twin("PublicWithoutReason", "'ANY /a' = { allow = 'anyone' }", twin);
}

#[test]
fn object_unbound() {
    let bound = "'GET /a/{x}' = { allow = 'user', when = 'resource.x == principal.account' }";
    for unbound in [
        "'GET /a/{x}' = { allow = 'user' }",
        "'GET /a/{x}' = { allow = 'role:admin' }",
        "'GET /a/{x}' = { allow = 'service:ledger' }",
        "'GET /a/{x}' = { allow = 'user', when = 'resource.x != principal.account' }",
        "'GET /a/{x}' = { allow = 'user', when = 'resource.x == context.client' }",
    ] {
        gap_and_twin("ObjectUnbound", unbound, bound);
    }
    gap_and_twin(
        "ObjectUnbound",
        "'GET /a/{x}/{y}' = { allow = 'user', when = 'resource.x == principal.account' }",
        "'GET /a/{x}/{y}' = { allow = 'user', when = 'resource.x == principal.account && resource.y == principal.id' }",
    );
    gap_and_twin(
        "ObjectUnbound",
        "'GET /a/{x}' = [{ allow = 'user', when = 'resource.x == principal.id' }, { allow = 'role:admin' }]",
        "'GET /a/{x}' = [{ allow = 'user', when = 'resource.x == principal.id' }, { allow = 'role:admin', shared = 'admins' }]",
    );
    gap_and_twin(
        "ObjectUnbound",
        "'GET /a/{x}' = { allow = 'user' }",
        "'GET /a/{x}' = { allow = 'anyone' }",
    );
    gap_and_twin(
        "ObjectUnbound",
        "'GET /a/{x}' = { allow = 'user' }",
        "'GET /a/**' = { allow = 'user' }",
    );
}

#[test]
fn rule_shadowed_by_an_earlier_table() {
    for (first, second, twin) in [
        ("allow = 'user'", "allow = 'role:admin'", "allow = 'service'"),
        ("allow = 'service'", "allow = 'service:ledger'", "allow = 'user'"),
        (
            "allow = 'user', scope = 'payments:read'",
            "allow = 'user', scope = 'payments:read payments:write'",
            "allow = 'user', scope = 'payments:write'",
        ),
        (
            "allow = 'user', from = '10.0.0.0/8'",
            "allow = 'user', from = '10.1.0.0/16'",
            "allow = 'user', from = '11.0.0.0/8'",
        ),
        (
            "allow = 'user', until = '2030-01-01'",
            "allow = 'user', until = '2029-01-01'",
            "allow = 'user', until = '2031-01-01'",
        ),
        (
            "allow = 'user', when = 'context.now > 1'",
            "allow = 'user', when = 'context.now > 1'",
            "allow = 'user', when = 'context.now > 0'",
        ),
    ] {
        gap_and_twin(
            "RuleShadowed",
            &format!("'GET /a' = [{{ {first} }}, {{ {second} }}]"),
            &format!("'GET /a' = [{{ {first} }}, {{ {twin} }}]"),
        );
    }
}

#[test]
fn never_satisfiable() {
    for (never, twin) in [
        ("allow = 'user', until = '2026-01-01'", "allow = 'user', until = '2027-01-01'"),
        ("allow = 'user', when = 'false'", "allow = 'user', when = 'true'"),
        (
            "allow = 'user', when = 'principal is Service'",
            "allow = 'user', when = 'principal is User'",
        ),
        (
            "allow = ['user', 'service'], when = 'principal.account == \"x\"'",
            "allow = ['user', 'service'], when = 'principal.tenant == \"x\"'",
        ),
    ] {
        gap_and_twin(
            "NeverSatisfiable",
            &format!("'GET /a' = {{ {never} }}"),
            &format!("'GET /a' = {{ {twin} }}"),
        );
    }
    gap_and_twin(
        "NeverSatisfiable",
        "'GET /a' = [{ allow = 'anyone' }, { allow = 'user' }]",
        "'GET /a' = [{ allow = 'service' }, { allow = 'user' }]",
    );
}

const DOCUMENT: &str = "
openapi: 3.1.0
components:
  securitySchemes:
    oauth: { type: oauth2 }
    token: { type: http, scheme: bearer }
    key: { type: apiKey }
paths:
  /open: { get: { security: [] } }
  /scoped: { get: { security: [{ oauth: ['payments:read'] }, { oauth: ['payments:write', 'payments:settle'] }] } }
  /token: { get: { security: [{ token: [] }] } }
  /key: { get: { security: [{ key: [] }] } }
";

fn with_document(table: &str) -> Vec<&'static str> {
    names(documented(table, DOCUMENT))
}

const COVERED: &str = "
'GET /open' = { allow = 'anyone' }
'GET /scoped' = { allow = 'user', scope = 'payments:read' }
'GET /token' = { allow = 'user' }
'GET /key' = { allow = 'user' }
";

#[test]
fn operation_without_rule() {
    assert_eq!(with_document(COVERED), Vec::<&str>::new());
    for line in COVERED.trim().lines() {
        let without = COVERED.replace(line, "");
        assert_eq!(with_document(&without), ["OperationWithoutRule"], "{line}");
    }
    let (_, gap) = gaps_of(documented("'GET /open' = { allow = 'anyone' }", DOCUMENT)).remove(0);
    assert!(gap.message.contains("`GET /scoped`") && gap.remedy.contains("\"GET /scoped\" ="));
    // A line with another method does not own it, however its shape fits.
    let table = COVERED.replace("'GET /open'", "'GET /**'");
    assert_eq!(with_document(&table), Vec::<&str>::new());
}

#[test]
fn weaker_than_document() {
    for (from, to) in [
        ("allow = 'user', scope = 'payments:read'", "allow = 'user'"),
        ("scope = 'payments:read'", "scope = 'payments:settle'"),
        ("scope = 'payments:read'", "scope = { any = ['payments:read', 'payments:write'] }"),
        ("allow = 'user', scope = 'payments:read'", "allow = 'anyone'"),
        ("'GET /token' = { allow = 'user' }", "'GET /token' = { allow = 'anyone' }"),
        ("'GET /key' = { allow = 'user' }", "'GET /key' = { allow = 'anyone' }"),
    ] {
        assert_eq!(with_document(&COVERED.replace(from, to)), ["WeakerThanDocument"], "{to}");
    }
    for (from, to) in [
        ("scope = 'payments:read'", "scope = 'payments:write payments:settle'"),
        (
            "'GET /scoped' = { allow = 'user', scope = 'payments:read' }",
            "'GET /scoped' = { allow = 'nobody' }",
        ),
        ("'GET /open' = { allow = 'anyone' }", "'GET /open' = { allow = 'user' }"),
    ] {
        assert_eq!(with_document(&COVERED.replace(from, to)), Vec::<&str>::new(), "{to}");
    }
}

#[test]
fn rule_shadowed_by_more_literal_lines() {
    let shadowed = format!("{COVERED}\n'GET /{{page}}' = {{ allow = 'user', shared = 'pages' }}");
    assert_eq!(with_document(&shadowed), ["RuleShadowed"]);
    let twin = shadowed.replace("'GET /open' = { allow = 'anyone' }", "");
    assert_eq!(with_document(&twin), Vec::<&str>::new());
}

#[test]
fn the_matrix_says_who_can_pass() {
    let rules = rules(
        "'GET /rates' = { allow = 'anyone', limit = 'anonymous' }
         'GET /a/{account}' = { allow = 'user', scope = 'payments:read', when = 'resource.account == principal.account' }
         'GET /b' = [{ allow = 'user', from = '10.0.0.0/8' }, { allow = ['role:admin', 'service:ledger'], until = '2027-01-01' }]
         'GET /c' = { allow = ['user', 'service'] }
         'ANY /d/**' = { allow = 'nobody' }",
    );
    let rows: Vec<String> = matrix(&rules)
        .into_iter()
        .map(|row| {
            let who = [row.anyone, row.user, row.service].join(" ");
            [row.operation, who, row.named, row.scope, row.condition, row.limit].join("; ")
        })
        .collect();
    assert_eq!(
        rows,
        [
            "GET /rates; yes yes yes; ; ; ; anonymous",
            "GET /a/{account}; no if no; ; payments:read; resource.account == principal.account; default",
            "GET /b; no if no; role:admin | service:ledger; ; from 10.0.0.0/8 | until 2027-01-01; default",
            "GET /c; no yes yes; ; ; ; default",
            "ANY /d/**; no no no; nobody; ; ; default",
        ]
    );
}

#[test]
fn explain_names_stage_status_and_remedy() {
    use crate::explain::{Asked, explain};
    use crate::testing::{HOST, circumstances, user};
    let rules = rules(
        "'GET /a/{account}' = { allow = 'user', scope = 'payments:read', when = 'resource.account == principal.account' }
         'GET /open' = { allow = 'anyone' }",
    );
    let caller = user("a1");
    for (method, path, caller, scopes, stage, status, remedy) in [
        ("GET", "/v1/zzz", &caller, "", "route", 404, "no open line"),
        ("POST", "/v1/open", &caller, "", "route", 405, "GET"),
        ("GET", "/v1/a/a1", &crate::entities::Caller::Anonymous, "", "authenticate", 401, "token"),
        ("GET", "/v1/a/a1", &caller, "", "authorize", 403, "scope `payments:read`"),
        ("GET", "/v1/a/a2", &caller, "payments:read", "authorize", 403, "condition"),
        ("GET", "/v1/a/a1", &caller, "payments:read", "authorize", 200, ""),
        ("GET", "/v1/open", &crate::entities::Caller::Anonymous, "", "authorize", 200, ""),
    ] {
        let asked = Asked { host: HOST, method, path, ..Asked::default() };
        let told = explain(&rules, &asked, caller, &circumstances(scopes));
        assert_eq!((told.stage, told.status), (stage, status), "{method} {path}");
        assert!(told.remedy.unwrap_or_default().contains(remedy), "{method} {path}");
        if let Some(crate::decide::Verdict::Allow { clauses, .. }) = told.verdict {
            assert!(!clauses.is_empty(), "an allowed request is explained too");
        }
    }
}
