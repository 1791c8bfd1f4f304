//! Problem details (RFC 9457): the one body of every refusal, at the edge and at our own pages.
//!
//! The words for a caller, who may be an attacker: a code and a sentence. Why in detail stands in
//! the record, found by the `Request-Id`. Which refusal has which status is each journey's own file.

use serde::Serialize;

/// The media type of a problem document (RFC 9457 §6.1).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A problem document (RFC 9457 §3.1). `type` is `urn:portcullis:<code>`, which promises no page to
/// look at; `instance` the `Request-Id`, which `portcullis explain --request` opens up.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// `urn:portcullis:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status's public words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The refusal's code, e.g. `insufficient_scope`.
    pub code: &'static str,
    /// One sentence for the caller; never why in detail, never whether an object exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The `Request-Id`.
    pub instance: String,
}

impl Problem {
    /// A problem of a status and code.
    pub fn new(status: u16, code: &'static str, title: &'static str, request_id: &str) -> Self {
        let instance = request_id.to_owned();
        Problem {
            kind: format!("urn:portcullis:{code}"),
            title,
            status,
            code,
            detail: None,
            instance,
        }
    }

    /// The same with one sentence for the caller.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<String>) -> Self {
        Problem { detail: Some(detail.into()), ..self }
    }

    /// As JSON, to be sent as [`PROBLEM_JSON`].
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_members_of_rfc_9457() {
        let problem = Problem::new(403, "insufficient_scope", "Forbidden", "r_1");
        assert_eq!(
            String::from_utf8(problem.clone().to_json()).unwrap(),
            r#"{"type":"urn:portcullis:insufficient_scope","title":"Forbidden","status":403,"code":"insufficient_scope","instance":"r_1"}"#
        );
        let detailed = String::from_utf8(problem.with_detail("a \"scope\"").to_json()).unwrap();
        assert!(detailed.contains(r#""detail":"a \"scope\"","instance""#));
    }
}
