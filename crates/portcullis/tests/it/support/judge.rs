//! What an attack expects against what came: one question, answered by looking at the answer (and,
//! for the rule that was broken, at its decision record).

use serde_json::Value;

use super::browser::{claims_of, code_in};
use super::corpus::Expect;
use super::server::Server;
use super::wire::Answer;

/// Whether an answer is what is expected; `None` stands for a connection that ended without one.
/// What is about the connection or about several answers is not asked here, and holds.
pub(crate) fn holds(server: &Server, expect: &Expect, answer: Option<&Answer>) -> bool {
    let nothing = Answer::default();
    let came = answer.unwrap_or(&nothing);
    match expect {
        Expect::Status(statuses) => statuses.contains(&came.status),
        Expect::Reason(rule) => answer.is_none() || server.record(came)["reason"] == rule.as_str(),
        Expect::Field(name, text) => came.field(name).contains(text.as_str()),
        Expect::NoField(name) => came.all(name).is_empty(),
        Expect::Body(text) => came.text().contains(text.as_str()),
        Expect::Error(error) => error_of(came) == *error,
        Expect::Member(path, text) => said(&member(&came.json(), path)).as_ref() == Some(text),
        Expect::OtherMember(path, text) => {
            said(&member(&came.json(), path)).is_some_and(|said| said != *text)
        }
        Expect::NoMember(path) => said(&member(&came.json(), path)).is_none(),
        Expect::Claim(path, text) => said(&member(&claims(came), path)).as_ref() == Some(text),
        Expect::NoClaim(path) => said(&member(&claims(came), path)).is_none(),
        Expect::Code => code_in(came).is_some(),
        Expect::NoCode => code_in(came).is_none(),
        Expect::Exit(code) => came.status == *code,
        Expect::OtherKept(..)
        | Expect::NoFork(_)
        | Expect::Closes
        | Expect::Times(..)
        | Expect::Alike(_)
        | Expect::Fetches(_) => true,
    }
}

/// The OAuth error of an answer: in its JSON, or in the redirect that it is.
pub(crate) fn error_of(answer: &Answer) -> String {
    let inside = answer.json()["error"].as_str().map(str::to_owned);
    inside.or_else(|| parameter(answer, "error")).unwrap_or_default()
}

/// A parameter of a redirect.
pub(crate) fn parameter(answer: &Answer, name: &str) -> Option<String> {
    parameters(answer.field("location"))
        .into_iter()
        .find(|(known, _)| known == name)
        .map(|(_, v)| v)
}

/// The parameters of an address, decoded.
pub(crate) fn parameters(address: &str) -> Vec<(String, String)> {
    let query = address.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// Percent signs and plus signs read.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&hex, 16).unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A member by its path.
pub(crate) fn member(document: &Value, path: &str) -> Value {
    let mut at = document;
    for step in path.split('.') {
        let next = match step.parse::<usize>() {
            Ok(index) => at.get(index).or_else(|| at.get(step)),
            Err(_) => at.get(step),
        };
        let Some(next) = next else { return Value::Null };
        at = next;
    }
    at.clone()
}

/// A text bare, everything else as JSON; nothing for null.
fn said(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The claims of the access token in an answer; null where there is none.
fn claims(answer: &Answer) -> Value {
    let token = answer.json()["access_token"].as_str().map(str::to_owned);
    token
        .filter(|token| token.split('.').count() == 3)
        .map_or(Value::Null, |token| claims_of(&token))
}
