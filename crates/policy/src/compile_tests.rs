//! Every error of a table has a test of its name, with the place and the remedy.

use super::*;
use crate::testing::{api, api_at, documented, faults, rules, vocabulary};

/// The only fault of a table: its rule, the text at its place, its remedy.
fn only(table: &str) -> (&'static str, String, String) {
    let faults = faults(table);
    assert_eq!(faults.len(), 1, "{table}: {faults:#?}");
    let place = faults[0].place.clone().unwrap();
    assert_eq!(faults[0].severity, Severity::Error);
    assert!(!faults[0].message.ends_with('.') && !faults[0].remedy.ends_with('.'));
    (faults[0].rule, table[place.bytes].to_owned(), faults[0].remedy.clone())
}

#[track_caller]
fn refused(table: &str, rule: &str, at: &str, remedy: &str) {
    let (found, text, advice) = only(table);
    assert_eq!((found, text.as_str()), (rule, at), "{table}");
    assert!(advice.contains(remedy), "{advice}");
}

#[test]
fn shape_twice() {
    let table = "'GET /a/{x}' = { allow = 'user' }\n'GET /a/{y}' = { allow = 'user' }";
    refused(table, "ShapeTwice", "'GET /a/{y}'", "keep one");
    assert!(faults(table)[0].message.contains("`t.toml:1`"));
    rules("'GET /a/{x}' = { allow = 'user' }\n'PUT /a/{y}' = { allow = 'user' }");
}

#[test]
fn address_twice() {
    let line = "'GET /a' = { allow = 'user' }";
    let apis = [api_at("https://h.example/v1", line), api_at("https://h.example/v1", line)];
    let faults = compile(&apis, &[], &vocabulary()).err().unwrap();
    assert_eq!(faults[0].rule, "AddressTwice");
    let apis = [api_at("https://h.example/v1", line), api_at("https://h.example/v2", line)];
    assert!(compile(&apis, &[], &vocabulary()).is_ok());
}

#[test]
fn unknown_parameter() {
    let table = "'GET /a/{account}' = { allow = 'user', when = 'resource.acount == principal.id' }";
    refused(table, "UnknownParameter", "resource.acount", "did you mean `account`?");
    let table = "'GET /a' = { allow = 'user', when = 'true && resource.x == principal.id' }";
    refused(table, "UnknownParameter", "resource.x", "no parameters");
    let table = "'GET /a' = { allow = 'user', when = 'resource.body.amount > 3' }";
    refused(table, "UnknownParameter", "resource.body.amount", "fields");
    let table = "'GET /a' = { allow = 'user', when = 'resource.query.x == \"y\"' }";
    refused(table, "UnknownParameter", "resource.query.x", "query = {");
    let table = "'GET /a' = { allow = 'user', when = 'resource.owner == \"y\"' }";
    refused(table, "UnknownParameter", "resource.owner", "owner = {");
    let table = "'GET /a' = { allow = 'user', query = { x = 'string' }, when = 'resource.query has y && resource.query.y == \"z\"' }";
    refused(table, "UnknownParameter", "resource.query.y", "did you mean `query.x`?");
    let table = "'POST /a' = { allow = 'user', body = { fields = { 'c.n' = 'string' } }, when = 'resource.body has c' }";
    refused(table, "UnknownParameter", "'resource.body has c'", "ask for a member");
    let table = "'GET /a/{a}' = { allow = 'user', when = 'resource has b' }";
    refused(table, "UnknownParameter", "'resource has b'", "did you mean `a`?");
}

#[test]
fn unknown_attribute() {
    let table = "'GET /a/{a}' = { allow = 'user', when = 'resource.a == principal.acount' }";
    refused(table, "UnknownAttribute", "principal.acount", "did you mean `account`?");
    let table = "'GET /a' = { allow = 'user', when = 'context.zone == \"x\"' }";
    refused(table, "UnknownAttribute", "context.zone", "`now`");
}

#[test]
fn unknown_scope() {
    let table = "'GET /a' = { allow = 'user', scope = 'payments:raed' }";
    refused(table, "UnknownScope", "'payments:raed'", "did you mean `payments:read`?");
    let table = "'GET /a' = { allow = 'user', scope = { any = ['payments:read', 'zzz'] } }";
    refused(table, "UnknownScope", "'zzz'", "clients");
    refused("'GET /a' = { allow = 'user', scope = '' }", "ScopeMalformed", "''", "leave");
}

#[test]
fn unknown_principal() {
    for (word, remedy) in [
        ("role:amdin", "did you mean `role:admin`?"),
        ("role:zebra", "roles"),
        ("group:stuff", "did you mean `group:staff`?"),
        ("service:leger", "did you mean `service:ledger`?"),
        ("service:", "[clients]"),
        ("usr", "did you mean `user`?"),
        ("everybody", "write"),
        ("user:alice", "write"),
    ] {
        let table = format!("'GET /a' = {{ allow = '{word}' }}");
        refused(&table, "UnknownPrincipal", &format!("'{word}'"), remedy);
    }
    let table = "'GET /a' = { allow = 'user', when = 'principal in Role::\"amdin\"' }";
    let (rule, _, remedy) = only(table);
    assert_eq!((rule, remedy.as_str()), ("UnknownPrincipal", "did you mean `admin`?"));
}

#[test]
fn identity_limit_on_anyone() {
    let table = "'GET /a' = { allow = 'anyone', limit = 'normal' }";
    refused(table, "IdentityLimitOnAnyone", "'normal'", "per ip");
    rules("'GET /a' = { allow = 'anyone', limit = 'anonymous' }");
}

#[test]
fn unknown_limit() {
    let table = "'GET /a' = { allow = 'user', limit = 'norml' }";
    refused(table, "UnknownLimit", "'norml'", "did you mean `normal`?");
    let table = "'GET /a' = { allow = 'user', limit = 'none' }";
    refused(table, "LimitReasonMissing", "'none'", "limit_reason");
    let table = "'GET /a' = { allow = 'user', limit = 'none', limit_reason = 'probe' }";
    assert_eq!(rules(table).entries[0].operation.limits, ["none".into()]);
    // One table's `none` never frees another table's callers.
    let none = "{ allow = 'service', limit = 'none', limit_reason = 'probe' }";
    for (other, limits) in [
        ("{ allow = 'user', limit = 'normal' }", vec!["normal".into()]),
        ("{ allow = 'user' }", vec![]),
    ] {
        let table = format!("'GET /a' = [{none}, {other}]");
        assert_eq!(rules(&table).entries[0].operation.limits, limits);
    }
}

#[test]
fn scope_on_anyone_and_condition_on_anyone() {
    let table = "'GET /a' = { allow = 'anyone', scope = 'payments:read' }";
    refused(table, "ScopeOnAnyone", "'payments:read'", "leave `scope` out");
    let table = "'GET /a' = { allow = ['user', 'anyone'], when = 'context.now > 1' }";
    refused(table, "ConditionOnAnyone", "'context.now > 1'", "leave `when` out");
}

#[test]
fn closed_among_others() {
    let table = "'GET /a' = { allow = ['user', 'nobody'] }";
    refused(table, "ClosedAmongOthers", "'nobody'", "leave");
    let table = "'GET /a' = [{ allow = 'user' }, { allow = 'REVIEW' }]";
    refused(table, "ClosedAmongOthers", "'REVIEW'", "leave");
    assert_eq!(rules("'GET /a' = { allow = 'nobody' }").entries[0].alternatives.len(), 0);
}

#[test]
fn allow_missing_and_principal_twice() {
    let table = "'GET /a' = { scope = 'payments:read' }";
    refused(table, "AllowMissing", "{", "nobody");
    refused("'GET /a' = { allow = ['user', 'user'] }", "PrincipalTwice", "'user'", "keep one");
}

#[test]
fn bad_keys() {
    refused("'get /a' = { allow = 'user' }", "MethodUnknown", "'get /a'", "upper case");
    refused("'GET a' = { allow = 'user' }", "PathMalformed", "'GET a'", "from `/`");
    refused("'GET /**/a' = { allow = 'user' }", "PathMalformed", "'GET /**/a'", "last");
    refused("'GET /{a}/{a}' = { allow = 'user' }", "ParameterMalformed", "'GET /{a}/{a}'", "once");
}

#[test]
fn alternatives_count() {
    let nine = ["{ allow = 'user' }"; 9].join(", ");
    refused(&format!("'GET /a' = [{nine}]"), "AlternativesCount", "'GET /a'", "at most 8");
    refused("'GET /a' = []", "AlternativesCount", "'GET /a'", "one table");
}

#[test]
fn too_many_lines() {
    let table = "'GET get' = { allow = 'user' }\n".repeat(MAX_LINES + 1);
    assert_eq!(faults(&table)[0].rule, "TooManyLines");
}

#[test]
fn malformed_values() {
    for (table, rule, at, remedy) in [
        ("from = '10.0.0.1/8'", "NetworkMalformed", "'10.0.0.1/8'", "`10.0.0.0/8`"),
        ("from = 'office'", "NetworkMalformed", "'office'", "as in"),
        ("until = 'soon'", "DateMalformed", "'soon'", "2027-03-31"),
        ("timeout = '11m'", "TimeoutMalformed", "'11m'", "10 minutes"),
        ("timeout = '0s'", "TimeoutMalformed", "'0s'", "10 minutes"),
        ("audit = 'ful'", "AuditUnknown", "'ful'", "`full`"),
        ("shared = ' '", "ReasonMalformed", "' '", "why"),
    ] {
        let table = format!("'GET /a' = {{ allow = 'user', {table} }}");
        refused(&table, rule, at, remedy);
    }
    let table =
        "'GET /a' = [{ allow = 'user', audit = 'all' }, { allow = 'service', audit = 'full' }]";
    refused(table, "SettingDiffers", "'full'", "same `audit`");
}

#[test]
fn conditions_point_into_the_text() {
    let table = "'GET /a/{a}' = { allow = 'user', when = 'resource.a = principal.id' }";
    let (rule, at, remedy) = only(table);
    assert_eq!((rule, at.as_str()), ("ConditionMalformed", "resource.a = principal.id"));
    assert!(remedy.contains("'=='"), "{remedy}");
    let table = "'GET /a/{a}' = { allow = 'user', when = 'true && == 3' }";
    let (rule, at, _) = only(table);
    assert_eq!((rule, at.as_str()), ("ConditionMalformed", "=="));
    let table = "'GET /a/{a}' = { allow = 'user', when = 'true && resource.a > 3' }";
    let (rule, at, _) = only(table);
    assert_eq!((rule, at.as_str()), ("ConditionIllTyped", "resource.a"));
    let table = "'GET /a/{a}' = { allow = 'user', when = 'principal.account == 3' }";
    assert_eq!(only(table).0, "ConditionIllTyped");
    let table = "'GET /a/{a}' = { allow = 'user', when = 'principal is Usr' }";
    assert_eq!(only(table).0, "ConditionIllTyped");
    let deep = format!("'GET /a' = {{ allow = 'user', when = '{}' }}", "(".repeat(20));
    assert_eq!(only(&deep).0, "ConditionTooDeep");
    let long = format!("'GET /a' = {{ allow = 'user', when = '{}' }}", "a".repeat(3000));
    assert_eq!(only(&long).0, "ConditionTooLong");
}

#[test]
fn attribute_reserved() {
    for name in ["id", "tenant", "Account", "a-b", ""] {
        let mut words = vocabulary();
        words.attributes.push((name.into(), crate::access::AttributeType::String));
        let faults = compile(&[api("'GET /a' = { allow = 'user' }")], &[], &words).err().unwrap();
        assert_eq!(faults[0].rule, "AttributeReserved", "{name}");
    }
}

const DOCUMENT: &str = "
openapi: 3.0.3
paths:
  /items/{itemId}:
    get: { parameters: [{ name: itemId, in: path, schema: { type: integer } }] }
    put: { parameters: [{ name: itemId, in: path, schema: { type: string } }] }
";

#[test]
fn rule_without_operation() {
    let of = |table: &str| compile(&[documented(table, DOCUMENT)], &[], &vocabulary());
    let faults = of("'GET /item/{item}' = { allow = 'user' }").err().unwrap();
    assert_eq!(faults[0].rule, "RuleWithoutOperation");
    assert_eq!(faults[0].remedy, "did you mean `GET /items/{item_id}`?");
    let faults = of("'POST /items/{item}' = { allow = 'user' }").err().unwrap();
    assert_eq!(faults[0].rule, "RuleWithoutOperation");
    for table in [
        "'GET /item/{item}' = { allow = 'user', undocumented = 'internal' }",
        "'GET /items/{item}' = { allow = 'user' }",
        "'ANY /**' = { allow = 'user' }",
        "'PUT /{what}/{item}' = { allow = 'user' }",
    ] {
        assert!(of(table).is_ok(), "{table}");
    }
}

#[test]
fn types_come_from_the_document() {
    let of = |table: &str| compile(&[documented(table, DOCUMENT)], &[], &vocabulary());
    let host = crate::testing::HOST;
    let rules =
        of("'GET /items/{item}' = { allow = 'user', when = 'resource.item == principal.level' }");
    let rules = rules.unwrap_or_else(|faults| panic!("{faults:?}"));
    assert!(matches!(rules.find(host, "GET", "/v1/items/7"), Found::Operation(..)));
    for path in ["/v1/items/007", "/v1/items/7%20", "/v1/items/x"] {
        assert_eq!(rules.find(host, "GET", path), Found::NotFound, "{path}");
    }
    let rules = of("'ANY /items/{item}' = { allow = 'user' }").unwrap_or_else(|_| panic!());
    assert!(matches!(rules.find(host, "GET", "/v1/items/007"), Found::Operation(..)));
}

#[test]
fn all_faults_are_told_at_once() {
    let table =
        "'get /a' = { allow = 'usr', scope = 'x' }\n'GET /b' = { allow = 'user', limit = 'x' }";
    let names: Vec<_> = faults(table).iter().map(|fault| fault.rule).collect();
    assert_eq!(names, ["MethodUnknown", "UnknownPrincipal", "UnknownScope", "UnknownLimit"]);
}

#[test]
fn an_operation_says_what_the_gateway_needs() {
    let rules = rules(
        "'POST /a' = [
           { allow = 'user', scope = 'payments:write', limit = 'normal', timeout = '3s', body = 10 },
           { allow = 'service:ledger', scope = { any = ['payments:settle', 'payments:write'] } }]
         'GET /b' = { allow = 'anyone', limit = 'anonymous', audit = 'none' }",
    );
    let [a, b] = [0, 1].map(|id| rules.operation(OperationId(id)).unwrap());
    assert_eq!((&*a.key, &*a.rule, &*a.api), ("POST /a", "t.toml:1", "payments"));
    assert_eq!(a.scopes, ["payments:write", "payments:settle"]);
    assert_eq!((a.timeout.as_secs(), a.body_max, a.audit), (3, 10, AuditLevel::All));
    assert!(a.authenticates && !b.authenticates);
    assert_eq!((b.body_max, b.audit, &*b.rule), (1024 * 1024, AuditLevel::None, "t.toml:4"));
    assert_eq!(a.limits, ["normal".into()]);
    assert!(rules.operation(OperationId(2)).is_none());
}

#[test]
fn a_line_is_pure_when_caller_and_scopes_decide() {
    let rules = rules(
        "'GET /a' = [{ allow = 'role:admin' }, { allow = 'user', scope = 'payments:read' }]
         'GET /b' = { allow = 'user', when = 'principal has account' }
         'GET /c' = { allow = 'user', from = '10.0.0.0/8' }
         'GET /d' = [{ allow = 'role:admin' }, { allow = 'user', until = '2030-01-01' }]
         'GET /e/{id}' = { allow = 'user', shared = 'all may' }",
    );
    let pure: Vec<bool> = (0..6).map(|id| rules.pure_line(OperationId(id))).collect();
    assert_eq!(pure, [true, false, false, false, true, false]);
}

#[test]
fn the_audience_is_the_one_api_that_uses_the_scopes() {
    let scopes = |text: &str| portcullis_core::scope::Scopes::parse(text).unwrap();
    let read = "'GET /a' = { allow = 'user', scope = 'payments:read' }";
    let write = "'GET /a' = { allow = 'user', scope = 'payments:write' }";
    let apis = [api_at("https://h.example/r", read), api_at("https://h.example/w", write)];
    let rules = compile(&apis, &[], &vocabulary()).unwrap_or_else(|_| panic!());
    let of = |text: &str| rules.audience_of(&scopes(text)).map(|at| at.to_string());
    assert_eq!(of("openid payments:read").as_deref(), Some("https://h.example/r"));
    assert_eq!(of("payments:read payments:write"), None);
    assert_eq!(of("openid"), None);
    let one = crate::testing::rules(read);
    assert!(one.audience_of(&scopes("openid")).is_some());
}

#[test]
fn a_thousand_lines_load() {
    let table: String = (0..1000)
        .map(|n| format!("'GET /p{n}/{{account}}' = {{ allow = 'user', scope = 'payments:read', when = 'resource.account == principal.account' }}\n"))
        .collect();
    assert_eq!(rules(&table).operations().count(), 1000);
}
