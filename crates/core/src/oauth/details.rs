//! `authorization_details` (RFC 9396): what is asked for in detail, as bounded and strict JSON.
//!
//! Only the frame is known here: what a type's own fields mean is the API's business, and whether a
//! client may ask for a type is identity's. So "no more than was granted" is the one comparison that
//! cannot be wrong: each one asked equals one that was granted.

use serde_json::{Map, Value};

use super::error::{ErrorCode, OauthError};
use super::token::MAX_DETAILS_BYTES;
use crate::jose::jws;

/// Most objects in the list.
pub const MAX_DETAILS: usize = 8;
/// Deepest nesting, the list itself being 1.
pub const MAX_DETAILS_DEPTH: usize = 6;
/// Longest `type`, in bytes.
pub const MAX_DETAIL_TYPE: usize = 128;

/// Reads the parameter: a list of at most [`MAX_DETAILS`] objects, each with a `type`.
///
/// # Errors
/// `invalid_authorization_details` (RFC 9396 §5), naming the rule broken.
pub fn parse(text: &str) -> Result<Vec<Value>, OauthError> {
    if text.len() > MAX_DETAILS_BYTES {
        return Err(refused("DetailsTooLong", "authorization_details has more than 2048 bytes"));
    }
    // RFC 8259 §4: of two members with one name the API might read the other one.
    let list = jws::strict_list(text.as_bytes()).map_err(|fault| match fault {
        jws::TokenFault::MemberDoubled => {
            refused("DetailsMemberDoubled", "authorization_details holds a member twice")
        }
        _ => refused("DetailsMalformed", "authorization_details is not a JSON list of objects"),
    })?;
    checked(list)
}

/// The same of JSON that was read already: the claim of a request object (RFC 9396 §3).
///
/// # Errors
/// As [`parse`].
pub fn checked(list: Vec<Value>) -> Result<Vec<Value>, OauthError> {
    if list.len() > MAX_DETAILS {
        return Err(refused("DetailsTooMany", "authorization_details has more than 8 objects"));
    }
    if list.iter().any(|value| depth(value) >= MAX_DETAILS_DEPTH) {
        return Err(refused("DetailsTooDeep", "authorization_details is nested too deeply"));
    }
    for value in &list {
        let Value::Object(members) = value else {
            let description = "authorization_details is not a JSON list of objects";
            return Err(refused("DetailsMalformed", description));
        };
        check_frame(members)?;
    }
    Ok(list)
}

/// The `type` of one that was read.
pub fn type_of(detail: &Value) -> Option<&str> {
    detail.get("type").and_then(Value::as_str)
}

/// Whether each one asked was granted, word for word (RFC 9396 §6.1: a token request may ask for
/// less, never for more). Order does not matter; members' order neither.
pub fn within(asked: &[Value], granted: &[Value]) -> bool {
    asked.iter().all(|one| granted.contains(one))
}

/// RFC 9396 §2 and §2.2: `type` is required; the common fields have the types given there.
fn check_frame(members: &Map<String, Value>) -> Result<(), OauthError> {
    let named = members.get("type").and_then(Value::as_str);
    let shaped = |name: &str| {
        (1..=MAX_DETAIL_TYPE).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
    };
    if !named.is_some_and(shaped) {
        return Err(refused("DetailTypeMissing", "a detail has no type, or one that is no word"));
    }
    let words =
        |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    let lists = ["locations", "actions", "datatypes", "privileges"];
    let fields_fit = lists.iter().all(|name| members.get(*name).is_none_or(words))
        && members.get("identifier").is_none_or(Value::is_string);
    // RFC 9396 §5: fields of the wrong type for the authorization details type.
    match fields_fit {
        true => Ok(()),
        false => Err(refused("DetailFieldMalformed", "a detail's field has the wrong type")),
    }
}

/// Levels of nesting below and with this value; the strict reader has bounded the recursion.
fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(list) => list.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return 0,
    };
    inner.unwrap_or(0).saturating_add(1)
}

fn refused(rule: &'static str, description: &'static str) -> OauthError {
    OauthError::new(ErrorCode::InvalidAuthorizationDetails, rule, description)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Vec<Value> {
        parse(text).expect("details")
    }
    fn payment(more: &str) -> String {
        format!(r#"{{"type":"payment","actions":["initiate"],"amount":"12.50"{more}}}"#)
    }

    #[test]
    fn a_list_of_details_is_read() {
        let text = format!("[{},{{\"type\":\"account\"}}]", payment(""));
        let details = read(&text);
        assert_eq!(details.iter().filter_map(type_of).collect::<Vec<_>>(), ["payment", "account"]);
        assert_eq!(details[0]["amount"], "12.50");
        assert_eq!(read(" [ ] "), Vec::<Value>::new());
    }

    #[test]
    fn each_rule_refuses_by_itself() {
        let many = |count| format!("[{}]", vec![r#"{"type":"a"}"#; count].join(","));
        let deep = |inner: usize| {
            format!(r#"[{{"type":"a","x":{}{}}}]"#, "[".repeat(inner), "]".repeat(inner))
        };
        let long = |bytes: usize| {
            let head = r#"[{"type":"a","x":""#;
            format!("{head}{}\"}}]", "x".repeat(bytes - head.len() - 3))
        };
        assert!(parse(&many(8)).is_ok() && parse(&deep(4)).is_ok());
        assert_eq!(long(MAX_DETAILS_BYTES).len(), MAX_DETAILS_BYTES);
        assert!(parse(&long(MAX_DETAILS_BYTES)).is_ok());
        let word = format!(r#"[{{"type":"{}"}}]"#, "t".repeat(MAX_DETAIL_TYPE + 1));
        let doubled = format!("[{}]", payment(r#","amount":"1.00""#));
        let table = [
            (many(9), "DetailsTooMany"),
            (deep(5), "DetailsTooDeep"),
            (deep(500), "DetailsMalformed"),
            (long(MAX_DETAILS_BYTES + 1), "DetailsTooLong"),
            (doubled, "DetailsMemberDoubled"),
            (r#"[{"type":"a","x":{"y":1,"\u0079":2}}]"#.into(), "DetailsMemberDoubled"),
            (r#"{"type":"a"}"#.into(), "DetailsMalformed"),
            (r#"["a"]"#.into(), "DetailsMalformed"),
            (r#"[{"type":"a"},null]"#.into(), "DetailsMalformed"),
            (r#"[{"type":"a"}],[]"#.into(), "DetailsMalformed"),
            (r#"[{"type":"a"}"#.into(), "DetailsMalformed"),
            ("".into(), "DetailsMalformed"),
            ("null".into(), "DetailsMalformed"),
            ("[{}]".into(), "DetailTypeMissing"),
            (r#"[{"type":""}]"#.into(), "DetailTypeMissing"),
            (r#"[{"type":["a"]}]"#.into(), "DetailTypeMissing"),
            (r#"[{"type":"a b"}]"#.into(), "DetailTypeMissing"),
            (r#"[{"type":"é"}]"#.into(), "DetailTypeMissing"),
            (word, "DetailTypeMissing"),
            (r#"[{"type":"a","actions":"read"}]"#.into(), "DetailFieldMalformed"),
            (r#"[{"type":"a","locations":[1]}]"#.into(), "DetailFieldMalformed"),
            (r#"[{"type":"a","datatypes":{}}]"#.into(), "DetailFieldMalformed"),
            (r#"[{"type":"a","privileges":null}]"#.into(), "DetailFieldMalformed"),
            (r#"[{"type":"a","identifier":7}]"#.into(), "DetailFieldMalformed"),
        ];
        for (text, rule) in table {
            let refused = parse(&text).expect_err(&text);
            assert_eq!(refused.rule, rule, "{text}");
            assert_eq!(refused.code, ErrorCode::InvalidAuthorizationDetails);
        }
    }

    #[test]
    fn widened_at_the_token_call() {
        let granted = read(&format!("[{},{{\"type\":\"account\",\"n\":1}}]", payment("")));
        let narrower = [
            "[]".to_owned(),
            format!("[{}]", payment("")),
            r#"[{"n":1,"type":"account"}]"#.to_owned(),
        ];
        for asked in narrower {
            assert!(within(&read(&asked), &granted), "{asked}");
        }
        let wider = [
            format!("[{}]", payment("").replace("12.50", "12.51")),
            format!("[{}]", payment(r#","creditor":"x""#)),
            format!("[{}]", payment("").replace(r#"["initiate"]"#, r#"["initiate","cancel"]"#)),
            // Fewer words may mean more, not less: no action named could be all of them.
            format!("[{}]", payment("").replace(r#""actions":["initiate"],"#, "")),
            format!("[{},{{\"type\":\"admin\"}}]", payment("")),
            r#"[{"type":"account"}]"#.to_owned(),
            r#"[{"type":"account","n":1.0}]"#.to_owned(),
            r#"[{"type":"account","n":"1"}]"#.to_owned(),
            r#"[{"type":"Account","n":1}]"#.to_owned(),
        ];
        for asked in wider {
            assert!(!within(&read(&asked), &granted), "{asked}");
        }
        assert!(!within(&[json!({"type": "account"})], &[]));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}", tail in r#"[\[\]{}":,a-z0-9 ]{0,80}"#) {
            let _ = parse(&text);
            if let Ok(details) = parse(&format!("[{{\"type\":\"a\"{tail}}}]")) {
                prop_assert!(within(&details, &details));
                prop_assert!(details.iter().all(|detail| type_of(detail).is_some()));
            }
        }
    }
}
