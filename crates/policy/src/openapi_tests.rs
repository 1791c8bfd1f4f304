//! Documents: what is read of them, in both languages, and what is refused.

use super::*;

const YAML: &str = r##"
openapi: 3.0.3
info: { title: Payments, version: 1 }
security: [{ oauth: ["payments:read"] }]
components:
  securitySchemes:
    oauth: { type: oauth2 }
    key: { type: apiKey, in: header, name: x }
    basic: { type: http, scheme: Basic }
  parameters:
    account: { name: accountId, in: path, required: true, schema: { $ref: "#/components/schemas/Id" } }
  schemas:
    Id: { type: string, format: uuid }
paths:
  x-internal: { get: {} }
  /accounts/{accountId}:
    parameters: [{ $ref: "#/components/parameters/account" }]
    get: { operationId: read, tags: [accounts, read] }
    head: {}
    put:
      parameters: [{ name: accountId, in: path, schema: { type: integer } }]
      security: [{ oauth: [a, b] }, { oauth: [c] }]
  /rates: { get: { security: [] } }
  /maybe: { get: { security: [{ oauth: [] }, {}] } }
  /key: { get: { security: [{ key: [] }] }, post: { security: [{ basic: [] }] } }
  /undefined: { get: { security: [{ nowhere: [] }] } }
  /reports/{year}-{month}.csv: { get: {} }
  /café/{A}/{a}: { get: {} }
"##;

fn brief(document: &Document) -> Vec<String> {
    document
        .operations
        .iter()
        .map(|operation| {
            let parameters: Vec<String> = operation
                .path_parameters
                .iter()
                .map(|(name, kind)| format!(" {name}:{kind}"))
                .collect();
            format!("{} {}{}", operation.method, operation.path, parameters.concat())
        })
        .collect()
}

#[test]
fn parameters_that_would_stand_where_rules_read_something_else_are_named_otherwise() {
    let paths = [
        ("/{owner}/{repo}", "/{owner_id}/{repo}"),
        ("/{Query}/{query_id}", "/{query_id}/{query_id_2}"),
        ("/{body}/{header}", "/{body_id}/{header_id}"),
    ];
    for (written, named) in paths {
        let text = format!("openapi: 3.0.0\npaths: {{ '{written}': {{ get: {{}} }} }}");
        let document = read("api.yaml", &text).unwrap();
        assert_eq!(document.operations[0].path, named);
    }
}

#[test]
fn yaml_is_read() {
    let document = read("api.yaml", YAML).unwrap();
    assert_eq!(document.title, "Payments");
    assert_eq!(
        brief(&document),
        [
            "GET /accounts/{account_id} account_id:uuid",
            "PUT /accounts/{account_id} account_id:integer",
            "GET /rates",
            "GET /maybe",
            "GET /key",
            "POST /key",
            "GET /undefined",
            "GET /reports/{year_month_csv} year_month_csv:string",
            "GET /caf%C3%A9/{a}/{a_2} a:string a_2:string",
        ]
    );
    let first = &document.operations[0];
    assert_eq!((first.id.as_deref(), first.tags.len()), (Some("read"), 2));
    let security: Vec<&DocumentedSecurity> =
        document.operations.iter().map(|operation| &operation.security).collect();
    let scopes = |lists: &[&[&str]]| {
        let own = |list: &&[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        DocumentedSecurity::Scopes(lists.iter().map(own).collect())
    };
    assert_eq!(*security[0], scopes(&[&["payments:read"]]));
    assert_eq!(*security[1], scopes(&[&["a", "b"], &["c"]]));
    assert_eq!([security[2], security[3]], [&DocumentedSecurity::Public; 2]);
    assert_eq!(*security[4], DocumentedSecurity::Other("apiKey".into()));
    assert_eq!(*security[5], DocumentedSecurity::Other("basic".into()));
    assert_eq!(*security[6], DocumentedSecurity::Other("nowhere (not defined)".into()));
}

#[test]
fn json_is_read_alike() {
    let json = r#"{ "openapi": "3.1.0", "info": {"title": "A \"b\" \ud83d\ude00"}, "x": [1.5e3, true, null, -0],
        "paths": { "/a~b/{id}": { "get": { "parameters": [
            {"name": "id", "in": "path", "schema": {"type": ["integer"]}} ] } } } }"#;
    let document = read("api.json", json).unwrap();
    assert_eq!(document.title, "A \"b\" 😀");
    assert_eq!(brief(&document), ["GET /a~b/{id} id:integer"]);
    assert_eq!(document.operations[0].security, DocumentedSecurity::Silent);
    assert_eq!(brief(&read("spec", json).unwrap()), brief(&document), "told by its first letter");
}

#[track_caller]
fn refused(file: &str, text: &str, rule: &str, at: &str) {
    let fault = read(file, text).expect_err(text);
    assert_eq!(fault.rule, rule, "{}", fault.message);
    let place = fault.place.unwrap();
    assert_eq!((&*place.file, &text[place.bytes]), (file, at), "{text}");
}

#[test]
fn member_doubled() {
    refused("a.json", r#"{"openapi":"3.0.0","paths":{},"paths":{}}"#, "MemberDoubled", "\"paths\"");
    refused("a.json", r#"{"a":{"b":1,"\u0062":2}}"#, "MemberDoubled", "\"\\u0062\"");
    refused("a.yaml", "openapi: 3.0.0\nü: 1\nü: 2\n", "MemberDoubled", "ü");
    refused("a.yaml", "a: {200: x, '200': y}", "MemberDoubled", "'200'");
}

#[test]
fn document_malformed() {
    for json in [
        "",
        "{",
        "{\"a\"}",
        "{\"a\":1,}",
        "[1,]",
        "{} {}",
        "{\"a\":01}",
        "{\"a\":nul}",
        "{'a':1}",
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":NaN}",
        "{\"a\":\"",
        "\"\\",
    ] {
        assert_eq!(read("a.json", json).expect_err(json).rule, "DocumentMalformed", "{json}");
    }
    for yaml in ["", "a: [", "a: 1\n b: 2\n", "{a: 1}: 2", "a: 1\n---\nb: 2\n", "? [a]\n: b\n"] {
        assert_eq!(read("a.yaml", yaml).expect_err(yaml).rule, "DocumentMalformed", "{yaml}");
    }
}

#[test]
fn version_unsupported() {
    refused("a.yaml", "swagger: '2.0'", "VersionUnsupported", "'2.0'");
    refused("a.yaml", "openapi: 2.9.0", "VersionUnsupported", "2.9.0");
    refused("a.json", "{\"openapi\":\"3.10.0\"}", "VersionUnsupported", "\"3.10.0\"}");
    assert_eq!(read("a.yaml", "title: x").unwrap_err().rule, "VersionUnsupported");
}

#[test]
fn references_stay_in_the_document() {
    let with = |reference: &str| {
        format!(
            "openapi: 3.0.0\npaths:\n  /a/{{x}}: {{ get: {{ parameters: [{{ $ref: '{reference}' }}] }} }}\n"
        )
    };
    for (reference, rule) in [
        ("other.yaml#/a", "ReferenceForeign"),
        ("https://evil.example/", "ReferenceForeign"),
        ("#/components/none", "ReferenceUnknown"),
        ("#/paths/~1a~1{x}/get/parameters/0", "ReferenceTooDeep"),
    ] {
        assert_eq!(read("a.yaml", &with(reference)).unwrap_err().rule, rule, "{reference}");
    }
}

#[test]
fn shape_twice_and_path_malformed() {
    let paths = |paths: &str| format!("openapi: 3.0.0\npaths: {{ {paths} }}");
    let twice = paths("'/a/{x}': {get: {}}, '/a/{y}': {get: {}}");
    assert_eq!(read("a.yaml", &twice).unwrap_err().rule, "ShapeTwice");
    assert!(read("a.yaml", &paths("'/a/{x}': {get: {}}, '/a/{y}': {put: {}}")).is_ok());
    assert_eq!(read("a.yaml", &paths("/a//b: {get: {}}")).unwrap_err().rule, "PathMalformed");
    assert_eq!(read("a.yaml", &paths("/a/../b: {get: {}}")).unwrap_err().rule, "PathMalformed");
}

#[test]
fn aliases_are_copied_within_a_budget() {
    let document = "openapi: 3.0.0\nx: &op { tags: [a] }\nbase: &base { get: *op }\npaths: { /a: { <<: *base, put: *op } }";
    assert_eq!(brief(&read("a.yaml", document).unwrap()), ["GET /a", "PUT /a"]);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..9 {
        let inner = vec![format!("*a{}", n - 1); 9].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{inner}]\n"));
    }
    assert_eq!(read("a.yaml", &bomb).unwrap_err().rule, "DocumentTooLarge");
    assert_eq!(read("a.yaml", "a: &a [*a]").unwrap_err().rule, "AliasUnknown");
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = "[".repeat(100_000);
    assert_eq!(read("a.json", &deep).unwrap_err().rule, "DocumentTooLarge");
    assert!(read("a.yaml", &deep).is_err());
    let long = " ".repeat(MAX_DOCUMENT_BYTES + 1);
    assert_eq!(read("a.yaml", &long).unwrap_err().rule, "DocumentTooLarge");
    let many: String =
        (0..=MAX_OPERATIONS).map(|n| format!("  /p{n}: {{ get: {{}} }}\n")).collect();
    let many = format!("openapi: 3.0.0\npaths:\n{many}");
    assert_eq!(read("a.yaml", &many).unwrap_err().rule, "DocumentTooLarge");
}

#[test]
fn init_drafts_what_the_document_says() {
    let document = read("api.yaml", YAML).unwrap();
    let lines: Vec<String> = draft_lines(&document, None)
        .into_iter()
        .map(|(key, table)| format!("{key} = {table}"))
        .collect();
    let user = r#"{ allow = "user", scope = "payments:read" }"#;
    assert_eq!(lines[0], format!("GET /accounts/{{account_id}} = {user}"));
    assert_eq!(
        lines[1],
        "PUT /accounts/{account_id} = [{ allow = \"user\", scope = \"a b\" }, { allow = \"user\", scope = \"c\" }]"
    );
    assert_eq!(lines[2], r#"GET /rates = { allow = "REVIEW-PUBLIC" }"#);
    assert_eq!(lines[4], r#"GET /key = { allow = "REVIEW" }  # the document asks for apiKey"#);
    let filled = draft_lines(&document, Some("allow = \"user\""));
    assert_eq!(filled[4].1, "{ allow = \"user\" }  # the document asks for apiKey");
    assert!(filled[5].1.starts_with("{ allow = \"REVIEW\" }"), "a write is never filled");
    assert_eq!(filled[2].1, "{ allow = \"REVIEW-PUBLIC\" }", "what is public is for a person");
}

#[test]
fn a_comment_holds_no_line_of_its_own() {
    let text = "openapi: 3.0.0\nsecurity: [{ \"x\\n[api.evil]\": [] }]\npaths: { /a: { get: {} } }";
    let document = read("a.yaml", text).unwrap();
    assert!(!draft_lines(&document, None)[0].1.contains('\n'));
}
