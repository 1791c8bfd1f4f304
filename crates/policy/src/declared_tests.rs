//! Declared fields: how they are read, typed, guarded, and what a rule may say of them.

use crate::access::PolicyFile;
use crate::compile::{Rules, compile};
use crate::decide::{Verdict, judge, judge_with_cedar};
use crate::entities::Question;
use crate::field::{Decimal, FieldKind, Value};
use crate::resource::Resource;
use crate::table::OperationId;
use crate::testing::{api, circumstances, documented, faults, rules, user, vocabulary};

fn ask(rules: &Rules, resource: &Resource) -> &'static str {
    let (caller, circumstances) = (user("a1"), circumstances(""));
    let question = Question {
        operation: OperationId(0),
        resource,
        caller: &caller,
        circumstances: &circumstances,
    };
    let verdict = judge(rules, &question);
    assert_eq!(verdict, judge_with_cedar(rules, &question));
    match verdict {
        Verdict::Allow { .. } => "allow",
        Verdict::Deny(denial) => denial.reason,
        Verdict::NeedsBody => "NeedsBody",
        Verdict::NeedsOwner => "NeedsOwner",
    }
}

fn body(values: Vec<Option<Value>>) -> Resource {
    Resource { body: Some(values), ..Resource::default() }
}

#[test]
fn money_is_compared_as_money() {
    let rules = rules(
        "'POST /a' = { allow = 'user', body = { fields = { amount = 'number', note = 'string' } }, \
           when = 'resource.body.amount.lessThanOrEqual(decimal(\"1000.0\"))' }",
    );
    let operation = rules.operation(OperationId(0)).unwrap();
    let fields = &operation.body.as_ref().unwrap().fields;
    assert_eq!((fields.len(), &fields[0].kind), (1, &FieldKind::Decimal), "only what is read");
    let amount = |text: &str| body(vec![Decimal::parse(text).map(Value::Decimal)]);
    assert_eq!(ask(&rules, &amount("1000")), "allow");
    assert_eq!(ask(&rules, &amount("999.9999")), "allow");
    assert_eq!(ask(&rules, &amount("1000.0001")), "ConditionFalse");
    assert_eq!(ask(&rules, &amount("-1")), "allow");
    assert_eq!(ask(&rules, &body(vec![None])), "ConditionFalse", "absent never grants");
    assert_eq!(ask(&rules, &Resource::default()), "NeedsBody");
}

#[test]
fn members_of_objects_are_read_through_dots() {
    let rules = rules(
        "'POST /a' = { allow = 'user', \
           body = { fields = { 'card.number' = 'string', 'card.old' = 'boolean', tags = '[string]' } }, \
           when = 'resource.body.card.number == \"4\" && resource.body.tags.contains(\"x\")' }",
    );
    let (number, tags) = (Value::Text("4".into()), Value::Set(vec![Value::Text("x".into())]));
    assert_eq!(ask(&rules, &body(vec![Some(number.clone()), Some(tags.clone())])), "allow");
    assert_eq!(ask(&rules, &body(vec![None, Some(tags)])), "ConditionFalse");
    assert_eq!(ask(&rules, &body(vec![Some(number), None])), "ConditionFalse");
}

#[test]
fn a_declared_query_parameter_may_be_absent() {
    let rules = rules(
        "'GET /a' = { allow = 'user', query = { status = 'string', page = 'integer' }, \
           when = 'resource.query.status == \"open\"' }",
    );
    let query = |status: Option<&str>| Resource {
        query: vec![status.map(|text| Value::Text(text.into()))],
        ..Resource::default()
    };
    assert_eq!(rules.operation(OperationId(0)).unwrap().query.len(), 1);
    assert_eq!(ask(&rules, &query(Some("open"))), "allow");
    assert_eq!(ask(&rules, &query(Some("paid"))), "ConditionFalse");
    assert_eq!(ask(&rules, &query(None)), "ConditionFalse");
    assert_eq!(ask(&rules, &Resource::default()), "QuestionMalformed", "unread is not absent");
    assert!(!rules.pure_line(OperationId(0)));
}

#[test]
fn an_array_is_read_as_a_set_of_its_type() {
    for (kind, condition, types) in [
        ("[integer]", "resource.query.x.contains(3)", true),
        ("[integer]", "resource.query.x.contains(\"3\")", false),
        ("integer", "resource.query.x > 3", true),
        ("number", "resource.query.x > 3", false),
        ("number", "resource.query.x.greaterThan(decimal(\"3.0\"))", true),
        ("boolean", "resource.query.x", true),
        ("string", "resource.query.x like \"a*\"", true),
    ] {
        let table = format!(
            "'GET /a' = {{ allow = 'user', query = {{ x = '{kind}' }}, when = '{condition}' }}"
        );
        let found = faults(&table);
        assert_eq!(found.is_empty(), types, "{table} {found:?}");
        assert!(found.iter().all(|fault| fault.rule == "ConditionIllTyped"));
    }
}

#[test]
fn a_document_declares_what_rules_may_read() {
    let document = "
openapi: 3.0.3
paths:
  /pay:
    post:
      parameters:
        - { name: status, in: query, schema: { type: string } }
        - { name: X-Account, in: header, schema: { type: string } }
      requestBody:
        content:
          application/json:
            schema:
              type: object
              required: [amount]
              properties: { amount: { type: number }, note: { type: string } }
";
    let of = |line: &str| {
        let table = format!("'POST /pay' = {{ allow = 'user', {line} }}");
        compile(&[documented(&table, document)], &[], &vocabulary())
    };
    let rules = of("when = 'resource.query.status == \"x\" && resource.header.x_account == \"a\" && resource.body.amount.lessThan(decimal(\"5.0\"))'")
        .unwrap_or_else(|faults| panic!("{faults:#?}"));
    let operation = rules.operation(OperationId(0)).unwrap();
    assert_eq!(&*operation.header[0].name, "x-account");
    assert!(operation.body.as_ref().unwrap().fields[0].required);
    let text = |text: &str| Some(Value::Text(text.into()));
    let amount = |text: &str| Some(vec![Decimal::parse(text).map(Value::Decimal)]);
    let whole = Resource {
        query: vec![text("x")],
        header: vec![text("a")],
        body: amount("4.5"),
        ..Resource::default()
    };
    assert_eq!(ask(&rules, &whole), "allow");
    assert_eq!(
        ask(&rules, &Resource { header: vec![text("b")], ..whole.clone() }),
        "ConditionFalse"
    );
    assert_eq!(ask(&rules, &Resource { body: amount("5"), ..whole.clone() }), "ConditionFalse");
    // Another's header is refused before anyone reads a body.
    assert_eq!(ask(&rules, &Resource { body: None, ..whole }), "NeedsBody");
    for (line, rule) in [
        ("body = { fields = { note = 'integer' } }", "FieldDeclaredTwice"),
        ("when = 'resource.header.x_other == \"a\"'", "UnknownParameter"),
        ("when = 'resource.body.amount > 5'", "ConditionIllTyped"),
    ] {
        let found = of(line).err().unwrap_or_default();
        assert_eq!(found.first().map(|fault| fault.rule), Some(rule), "{line}");
    }
    assert!(
        of("body = { fields = { extra = 'integer' } }, when = 'resource.body.extra > 5'").is_ok()
    );
}

#[test]
fn each_fault_has_its_name() {
    for (line, rule) in [
        ("query = { x = 'text' }", "FieldTypeUnknown"),
        ("query = { x = '[[string]]' }", "FieldTypeUnknown"),
        ("query = { '' = 'string' }", "FieldMalformed"),
        ("query = { 'a..b' = 'string' }", "FieldMalformed"),
        ("body = { fields = { x = 'string', x = 'integer' } }", "FieldMalformed"),
        ("body = { extra = 'deny' }", "ExtraUnknown"),
        ("body = { types = ['json'] }", "MediaTypeMalformed"),
        ("body = { types = ['Application/JSON'] }", "MediaTypeMalformed"),
        ("body = { types = ['application/json; charset=utf-8'] }", "MediaTypeMalformed"),
        (
            "body = { max = 1048577, fields = { x = 'integer' } }, when = 'resource.body.x > 1'",
            "BodyTooLargeToJudge",
        ),
        (
            "body = { types = ['text/plain'], fields = { x = 'integer' } }, when = 'resource.body.x > 1'",
            "BodyTypeUnjudged",
        ),
    ] {
        let table = format!("'POST /a' = {{ allow = 'user', {line} }}");
        let found: Vec<_> = faults(&table).iter().map(|fault| fault.rule).collect();
        assert_eq!(found, [rule], "{line}");
    }
    let many: Vec<String> = (0..=super::MAX_DECLARED).map(|n| format!("f{n} = 'string'")).collect();
    let table = format!("'GET /a' = {{ allow = 'user', query = {{ {} }} }}", many.join(", "));
    assert_eq!(faults(&table)[0].rule, "TooManyFields");
}

#[test]
fn two_hundred_operations_and_a_thousand_policies_load() {
    let table: String = (0..200)
        .map(|n| format!("'GET /p{n}/{{account}}' = {{ allow = 'user', when = 'resource.account == principal.account' }}\n"))
        .collect();
    let policies: String = (0..1000)
        .map(|n| format!(
            "forbid(principal is User, action == Action::\"GET /p{}/{{account}}\", resource) when {{ resource.account == \"x{n}\" }};\n",
            n % 200
        ))
        .collect();
    let file = PolicyFile { file: "p.cedar".into(), text: policies.as_str().into() };
    let rules = compile(&[api(&table)], &[file], &vocabulary()).unwrap_or_else(|f| panic!("{f:?}"));
    assert!(rules.entries.iter().all(|entry| entry.marks.len() == 6));
    assert!(rules.entries.iter().all(|entry| entry.lowered.is_some()));
}
