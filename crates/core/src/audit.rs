//! The record: one entry per request and per login step, as one JSON line.
//!
//! Everything from outside is neutralised (no newline, no escape reaches a terminal) and cut to a
//! limit; tokens, cookies and keys never enter a record, by type. Sinks live in the binary.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::time::Timestamp;

/// Longest text from outside in a record, in bytes.
pub const MAX_TEXT: usize = 256;
/// Longest part that is written once and kept ([`Part`]), in bytes.
pub const MAX_PART: usize = 4096;

/// One clause of a rule, with what it was judged on.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Clause {
    /// The clause as the operator wrote it, e.g. `scope = "payments:read"`.
    pub clause: String,
    /// Whether it held.
    pub held: bool,
    /// Its inputs, e.g. `resource.account=a2 principal.account=a1`.
    pub inputs: String,
}

/// One entry.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// When it ended; RFC 3339.
    pub at: String,
    /// `request` or the login's step: `login.password`, `login.totp`, `token`, `revoke` …
    pub event: &'static str,
    /// The `Request-Id`.
    pub request: String,
    /// `allow`, `deny` or `error`.
    pub decision: &'static str,
    /// The answer's status.
    pub status: u16,
    /// The stage that refused, or `forward`.
    pub stage: &'static str,
    /// The rule broken (`TokenExpired`, `ScopeMissing` …) or the line that permitted.
    pub reason: String,
    /// The method and the canonical target without its query.
    pub method: String,
    /// Host and path.
    pub target: String,
    /// The access line, `file:line.alternative`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Who: `user:u_…`, `service:ledger`, `anyone`.
    pub caller: String,
    /// The OAuth client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The peer's address.
    pub ip: String,
    /// The limit that refused, or the tightest one charged, `normal 29 left`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Each clause judged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clauses: Vec<Clause>,
    /// When it was asked, Unix seconds: what rules know as `context.now`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<i64>,
    /// What the token says that rules may read: with it a decision can be made again (`replay`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<Part>,
    /// What rules read of query, headers, body and owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Part>,
    /// What the rules beside those in force would have done otherwise (`serve --shadow`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// Microseconds from head to decision.
    pub decided_us: u64,
    /// Microseconds from head to the answer's head.
    pub took_us: u64,
}

/// What other rules would have answered.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Shadow {
    /// The status; 200 stands for "forwarded".
    pub status: u16,
    /// The rule broken, or the line that permits.
    pub reason: String,
}

/// A part of many records that was written once: JSON, shared, harmless and of bounded length.
#[derive(Clone)]
pub struct Part(Arc<RawValue>);

impl Part {
    /// Writes a value. Characters that move a terminal become `\u` escapes of JSON, which change
    /// nothing of what is read back. `None` when it is longer than [`MAX_PART`], or no JSON.
    pub fn of(value: &impl Serialize) -> Option<Self> {
        let raw = to_raw_value(value).ok()?;
        let raw = if raw.get().chars().any(is_harmful) { escaped(raw.get())? } else { raw };
        (raw.get().len() <= MAX_PART).then(|| Part(raw.into()))
    }

    /// Its JSON.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Part {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// RFC 8259 §7: any character may be escaped, those beyond the first plane as two surrogates. In
/// compact JSON what is harmful stands within a string.
fn escaped(json: &str) -> Option<Box<RawValue>> {
    let mut out = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_harmful(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(character);
        }
    }
    RawValue::from_string(out).ok()
}

/// Where records go. Must not block: a full queue drops nothing silently, it counts.
pub trait Records: Send + Sync {
    /// Takes one entry.
    fn record(&self, record: Record);
}

/// Makes text from outside fit for a record: control characters, escapes and bidi marks become
/// `\u{…}`, and it is cut to [`MAX_TEXT`] bytes with `…`. Doing it twice changes nothing.
pub fn neutralise(text: &str) -> String {
    const ELLIPSIS: char = '…';
    let mut out = String::with_capacity(text.len().min(MAX_TEXT));
    // The longest prefix that still leaves room for the ellipsis; an escape is never cut in two.
    let mut room_for_ellipsis = 0;
    for character in text.chars() {
        if is_harmful(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
        if out.len() > MAX_TEXT {
            out.truncate(room_for_ellipsis);
            out.push(ELLIPSIS);
            return out;
        }
        if out.len() + ELLIPSIS.len_utf8() <= MAX_TEXT {
            room_for_ellipsis = out.len();
        }
    }
    out
}

/// Whether a character moves a terminal's cursor, ends a line, or makes text read otherwise than
/// it stands (Unicode TR 36 §3.2 bidi controls, TR 39 invisible characters).
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// The RFC 3339 text of a moment, for [`Record::at`].
pub fn moment(now: Timestamp) -> String {
    now.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_from_outside_is_neutralised() {
        for (text, expected) in [
            ("plain é 日本 \\ \"", "plain é 日本 \\ \""),
            ("a\nb\r\tc", r"a\u{a}b\u{d}\u{9}c"),
            ("\u{1b}[31mred", r"\u{1b}[31mred"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("a\0b\u{7f}", r"a\u{0}b\u{7f}"),
            ("pay\u{202e}4pm.exe", r"pay\u{202e}4pm.exe"),
            ("\u{2066}x\u{2069}\u{200b}\u{2028}", r"\u{2066}x\u{2069}\u{200b}\u{2028}"),
            ("\u{feff}\u{e0041}", r"\u{feff}\u{e0041}"),
        ] {
            assert_eq!(neutralise(text), expected);
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let just_fits = "a".repeat(MAX_TEXT);
        assert_eq!(neutralise(&just_fits), just_fits);
        let cut = neutralise(&"a".repeat(MAX_TEXT + 1));
        assert_eq!(cut, format!("{}…", "a".repeat(MAX_TEXT - 3)));
        let escapes = neutralise(&"\n".repeat(200));
        assert!(escapes.ends_with(r"\u{a}…"), "an escape is kept whole: {escapes}");
    }

    #[test]
    fn a_part_reads_back_as_it_was_and_is_harmless() {
        let value =
            serde_json::json!({ "a": "x\u{1b}[31m\u{202e}\u{e0041}\n\u{9b}\"é日", "b": [1, true] });
        let part = Part::of(&value).unwrap();
        assert!(!part.as_str().chars().any(is_harmful), "{part:?}");
        assert!(part.as_str().contains(r"\udb40\udc41"), "two surrogates: {part:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(part.as_str()).unwrap(), value);
        assert_eq!(serde_json::to_string(&part).unwrap(), part.as_str());
    }

    #[test]
    fn a_part_is_bounded() {
        assert!(Part::of(&"a".repeat(MAX_PART - 2)).is_some());
        assert!(Part::of(&"a".repeat(MAX_PART - 1)).is_none());
        assert!(Part::of(&"\u{202e}".repeat(MAX_PART / 3)).is_none(), "after it was escaped");
    }

    #[test]
    fn a_record_is_one_line_without_empty_members() {
        let record = Record {
            at: moment(Timestamp::from_unix(0)),
            event: "request",
            request: "r_1".into(),
            decision: "deny",
            status: 404,
            stage: "route",
            reason: neutralise("a\nb"),
            method: "GET".into(),
            target: "api.example/x".into(),
            rule: None,
            caller: "anyone".into(),
            client: None,
            ip: "127.0.0.1".into(),
            limit: None,
            clauses: Vec::new(),
            asked: None,
            facts: None,
            resource: None,
            shadow: None,
            decided_us: 1,
            took_us: 2,
        };
        let line = serde_json::to_string(&record).unwrap();
        assert!(line.starts_with(r#"{"at":"1970-01-01T00:00:00.000Z","event":"request""#));
        assert!(!line.contains('\n') && !line.contains("null") && !line.contains("clauses"));
        let facts = Part::of(&serde_json::json!({ "scopes": "a" }));
        let line = serde_json::to_string(&Record { facts, ..record }).unwrap();
        assert!(line.contains(r#""facts":{"scopes":"a"},"decided_us""#), "{line}");
    }

    proptest! {
        #[test]
        fn what_is_neutralised_is_harmless_bounded_and_stays(text in any::<String>()) {
            let once = neutralise(&text);
            prop_assert!(once.len() <= MAX_TEXT);
            prop_assert!(!once.chars().any(is_harmful));
            prop_assert_eq!(neutralise(&once), once);
        }
    }
}
