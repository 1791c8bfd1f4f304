//! Tests of `replay`: records as a gateway writes them, judged under other tables.

use super::*;
use crate::compile::{JudgedBody, Operation};
use crate::field::Field;
use crate::testing::{HOST, NOW, circumstances, rules, service, user};

/// A record of GET /v1/accounts/a1 with these members changed.
fn line(changes: Json) -> Vec<u8> {
    let mut record = json!({
        "at": "2026-11-24T00:00:00.123Z", "event": "request", "request": "r_1", "decision": "allow",
        "status": 200, "stage": "forward", "reason": "t.toml:1.1", "method": "GET",
        "target": format!("{HOST}/v1/accounts/a1"), "rule": "t.toml:1.1", "caller": "user:u_1",
        "client": "app", "ip": "10.0.0.7", "asked": NOW, "decided_us": 1, "took_us": 2,
        "facts": facts("a1", "payments:read"),
    });
    for (name, value) in changes.as_object().unwrap() {
        record[name] = value.clone();
    }
    serde_json::to_vec(&record).unwrap()
}

fn facts(account: &str, scopes: &str) -> Json {
    let facts = Facts::of(&user(account), &circumstances(scopes), [("mfa", NOW - 60)]);
    serde_json::to_value(facts).unwrap()
}

fn decision(changes: Json) -> Decision {
    Decision::read(&line(changes)).unwrap().unwrap()
}

fn effect_of(table: &str, changes: Json) -> Effect {
    let decision = decision(changes);
    effect(&decision, &replay(&rules(table), &decision))
}

#[test]
fn facts_are_compact_and_come_back() {
    let mut here = circumstances("payments:read payments:write");
    (here.dpop, here.acr, here.actors) = (true, Some("aal2".into()), vec!["mailer".into()]);
    here.ages = [("mfa", 60), ("totp", 90)].into();
    let factors = [("mfa", NOW - 60), ("totp", NOW - 90)];
    for caller in [user("a1"), service("ledger")] {
        let facts = Facts::of(&caller, &here, factors);
        let text = serde_json::to_string(&facts).unwrap();
        assert!(!text.contains("null") && !text.contains("[]") && !text.contains("mtls"), "{text}");
        let back: Facts = serde_json::from_str(&text).unwrap();
        assert_eq!(back.who(), Some(caller));
        assert_eq!(back.at(NOW, here.ip), Some(here.clone()));
    }
    assert_eq!(Facts { caller: "robot:x".into(), ..Facts::default() }.who(), None);
    assert!(serde_json::from_str::<Facts>(r#"{"caler":"anyone"}"#).is_err());
}

#[test]
fn the_same_rules_change_nothing() {
    let same = "'GET /accounts/{account}' = { allow = 'user', when = 'resource.account == principal.account' }";
    assert_eq!(effect_of(same, json!({})), Effect::Same);
    let denied = json!({ "stage": "authorize", "decision": "deny", "status": 403, "facts": facts("a2", "") });
    assert_eq!(effect_of(same, denied), Effect::Same);
    // What the upstream made of an allowed request is not the rules' matter.
    assert_eq!(effect_of(same, json!({ "status": 502, "decision": "error" })), Effect::Same);
}

#[test]
fn gains_and_losses_are_told() {
    let refused =
        |status: u16| json!({ "stage": "authorize", "decision": "deny", "status": status });
    for (table, changes, effect) in [
        (
            "'GET /accounts/{account}' = { allow = 'user', scope = 'payments:write' }",
            json!({}),
            Effect::Lost(403),
        ),
        ("'GET /rates' = { allow = 'user' }", json!({}), Effect::Lost(404)),
        ("'POST /accounts/{account}' = { allow = 'user' }", json!({}), Effect::Lost(405)),
        ("'GET /accounts/{account}' = { allow = 'nobody' }", json!({}), Effect::Lost(404)),
        ("'GET /accounts/{account}' = { allow = 'user' }", refused(403), Effect::Gained),
        ("'GET /rates' = { allow = 'user' }", refused(403), Effect::RefusedOtherwise(404)),
        (
            "'GET /accounts/{account}' = { allow = 'anyone', public = 'r', shared = 'r' }",
            json!({ "stage": "authenticate", "decision": "deny", "status": 401, "caller": "anyone", "facts": null }),
            Effect::Gained,
        ),
        (
            "'GET /accounts/{account}' = { allow = 'user' }",
            json!({ "stage": "authenticate", "decision": "deny", "status": 401, "caller": "anyone", "facts": null }),
            Effect::Same,
        ),
        (
            "'GET /rates' = { allow = 'user' }",
            json!({ "stage": "authenticate", "decision": "deny", "status": 401, "caller": "anyone", "facts": null }),
            Effect::RefusedOtherwise(404),
        ),
        (
            "'GET /rates' = { allow = 'user' }",
            json!({ "stage": "route", "decision": "deny", "status": 404, "caller": "anyone", "facts": null }),
            Effect::Same,
        ),
    ] {
        assert_eq!(effect_of(table, changes.clone()), effect, "{table} {changes}");
    }
}

#[test]
fn time_and_address_are_those_of_then() {
    let within = "'GET /accounts/{account}' = { allow = 'user', when = 'context.age.mfa <= 60' }";
    assert_eq!(effect_of(within, json!({})), Effect::Same);
    assert_eq!(effect_of(within, json!({ "asked": NOW + 1 })), Effect::Lost(403));
    let network = "'GET /accounts/{account}' = { allow = 'user', from = '10.0.0.0/8' }";
    assert_eq!(effect_of(network, json!({})), Effect::Same);
    assert_eq!(effect_of(network, json!({ "ip": "192.0.2.1" })), Effect::Lost(403));
    // Without `asked`, the record's own moment will do.
    assert_eq!(decision(json!({ "asked": null })).at, NOW);
}

#[test]
fn what_is_not_in_the_record_is_not_guessed() {
    let open = "'GET /accounts/{account}' = { allow = 'user' }";
    let nobody = json!({ "caller": "anyone", "facts": null });
    assert_eq!(effect_of(open, nobody), Effect::Undecided("who asked"));
    let unrouted = json!({ "stage": "route", "decision": "deny", "status": 404, "caller": "anyone", "facts": null });
    assert_eq!(effect_of(open, unrouted), Effect::Undecided("who asked"));
    assert_eq!(effect_of(open, json!({ "facts": null })), Effect::Undecided("who asked"));
    for target in ["/v1/accounts/aaaa…", "/v1/a\\u{202e}"] {
        let target = format!("{HOST}{target}");
        assert_eq!(
            effect_of(open, json!({ "target": target })),
            Effect::Undecided("the whole path")
        );
    }
}

#[test]
fn what_the_rules_were_not_asked_is_left_out() {
    let open = "'GET /accounts/{account}' = { allow = 'user' }";
    for (stage, decision, status) in [
        ("guard", "deny", 400),
        ("hygiene", "deny", 400),
        ("peer_limit", "deny", 429),
        ("limit", "deny", 429),
        ("route", "deny", 403),
        ("route", "allow", 204),
        ("authorize", "error", 503),
        ("authorize", "deny", 400),
        ("authorize", "deny", 429),
        ("house", "allow", 200),
    ] {
        let changes = json!({ "stage": stage, "decision": decision, "status": status });
        assert_eq!(effect_of(open, changes), Effect::Unjudged, "{stage} {status}");
    }
    assert_eq!(Decision::read(&line(json!({ "event": "login.password" }))).unwrap(), None);
}

#[test]
fn a_line_that_is_no_record_is_a_fault() {
    let cut = line(json!({}));
    for bytes in [
        b"".as_slice(),
        b"{}",
        b"[]",
        b"22:41:07.120  403 deny",
        b"{\"at\":\"\xff\"}",
        &cut[..cut.len() - 1],
        &line(json!({ "status": "200" })),
        &line(json!({ "facts": { "admin": true } })),
    ] {
        assert!(matches!(Decision::read(bytes), Err(LineFault::NotARecord(_))), "{bytes:?}");
    }
    for (name, value) in [("ip", "here"), ("at", "today")] {
        let line = line(json!({ name: value, "asked": null }));
        assert!(matches!(Decision::read(&line), Err(LineFault::MemberMalformed(it)) if it == name));
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Decision::read(deep.as_bytes()).is_err());
}

#[test]
fn host_and_port_are_as_the_table_has_them() {
    let target = format!("{}:443/v1/accounts/a1", HOST.to_uppercase());
    let table = "'GET /accounts/{account}' = { allow = 'user' }";
    assert_eq!(effect_of(table, json!({ "target": target })), Effect::Same);
}

fn field(name: &str, kind: FieldKind) -> Field {
    Field { name: name.into(), kind, required: false }
}

/// An operation whose rules read these, whatever its line says.
fn reading(query: Vec<Field>, body: Vec<Field>) -> (crate::compile::Rules, OperationParts) {
    (rules("'GET /accounts/{account}' = { allow = 'user' }"), OperationParts { query, body })
}

struct OperationParts {
    query: Vec<Field>,
    body: Vec<Field>,
}

impl OperationParts {
    fn put<T>(self, mut rules: crate::compile::Rules, ask: impl FnOnce(&Operation) -> T) -> T {
        let operation = &mut rules.entries[0].operation;
        operation.query = self.query;
        operation.body = Some(JudgedBody {
            max: 1024,
            shape: std::sync::Arc::new(crate::body::BodyShape::Any),
            fields: self.body,
        });
        ask(operation)
    }
}

#[test]
fn what_rules_read_comes_back_exactly_or_not_at_all() {
    let text = |text: &str| Value::Text(text.into());
    let set = FieldKind::Set(Box::new(FieldKind::Text));
    let query = vec![field("status", FieldKind::Text), field("page", FieldKind::Long)];
    let body =
        vec![field("amount", FieldKind::Decimal), field("tags", set), field("ok", FieldKind::Bool)];
    let resource = Resource {
        query: vec![Some(text("open")), None],
        body: Some(vec![
            Some(Value::Decimal(Decimal::parse("1500.5").unwrap())),
            Some(Value::Set(vec![text("a"), text("b")])),
            Some(Value::Bool(true)),
        ]),
        owner: Some("u_1".into()),
        ..Resource::default()
    };
    let (rules, parts) = reading(query, body);
    parts.put(rules, |operation| {
        let recorded = Recorded::of(operation, &resource).unwrap();
        let json = serde_json::to_string(&recorded).unwrap();
        assert!(
            json.contains(r#""page":null"#) && json.contains(r#"{"decimal":"1500.5"}"#),
            "{json}"
        );
        let back: Recorded = serde_json::from_str(&json).unwrap();
        assert_eq!(back.resource(operation, Vec::new()), Ok(resource.clone()));
        // Nothing of it was recorded: the query is missed, the body is asked for.
        let nothing = Recorded::too_large();
        assert_eq!(nothing.resource(operation, Vec::new()), Err("a query parameter"));
        // A text that a record cuts is not taken for the text.
        let long = Resource { query: vec![Some(text(&"a".repeat(300))), None], ..resource.clone() };
        let recorded = Recorded::of(operation, &long).unwrap();
        assert!(serde_json::to_string(&recorded).unwrap().len() < 600);
        assert_eq!(recorded.resource(operation, Vec::new()), Err("a query parameter"));
    });
    // Other rules read another member, or another type of it.
    for other in [field("currency", FieldKind::Text), field("amount", FieldKind::Text)] {
        let (rules, parts) = reading(vec![], vec![other]);
        parts.put(rules, |operation| {
            let recorded = json!({ "body": { "amount": { "decimal": "1.5" } } });
            let recorded: Recorded = serde_json::from_value(recorded).unwrap();
            assert_eq!(
                recorded.resource(operation, vec![]).map(|resource| resource.body),
                Ok(None)
            );
        });
    }
}

#[test]
fn a_path_alone_records_nothing() {
    let rules = rules("'GET /accounts/{account}' = { allow = 'user' }");
    let operation = rules.operations().next().unwrap();
    let resource = Resource::of_path(vec![("account".into(), "a1".into())]);
    assert_eq!(Recorded::of(operation, &resource), None);
}
