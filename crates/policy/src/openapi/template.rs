//! A documented path in the spelling of an access line: what `{accountId}` or `/café` is called there.

use super::percent_decoded;
use crate::declared::RESERVED_MEMBERS;

/// A documented path in the spelling of an access line.
pub(super) struct Template {
    pub(super) path: String,
    /// The same without names, to find doubles.
    pub(super) shape: String,
    /// As written, and as named in the line; a segment with several has the first's declaration
    /// only if it is that parameter alone.
    pub(super) parameters: Vec<(String, String)>,
}

impl Template {
    pub(super) fn of(written: &str) -> Option<Self> {
        let mut template =
            Template { path: String::new(), shape: String::new(), parameters: Vec::new() };
        for segment in written.strip_prefix('/')?.split('/') {
            template.path.push('/');
            template.shape.push('/');
            if segment.contains('{') {
                let whole = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
                let name = template.fresh_name(segment);
                template.path.push_str(&format!("{{{name}}}"));
                template.shape.push_str("{}");
                let declared = whole.filter(|inner| !inner.contains(['{', '}'])).unwrap_or("");
                template.parameters.push((declared.to_owned(), name));
            } else {
                let literal = encoded(&percent_decoded(segment));
                template.path.push_str(&literal);
                template.shape.push_str(&literal);
            }
        }
        crate::shape::Shape::parse(&template.path).is_ok().then_some(template)
    }

    /// `{accountId}` → `account_id`, `{year}-{month}` → `year_month`.
    fn fresh_name(&self, segment: &str) -> String {
        let mut name = String::new();
        let mut before = '_';
        for c in segment.chars() {
            if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
                name.push('_');
            }
            before = c;
            match c {
                '{' | '}' => {}
                c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
                _ => name.push('_'),
            }
        }
        name.truncate(48);
        if !name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') {
            name.insert(0, '_');
        }
        // `{owner}` would stand where `resource.owner` is looked up: the line names it `{owner_id}`.
        if RESERVED_MEMBERS.contains(&&*name) {
            name.push_str("_id");
        }
        let taken = |name: &str| self.parameters.iter().any(|(_, known)| known == name);
        let mut count = 2;
        let mut fresh = name.clone();
        while taken(&fresh) {
            fresh = format!("{name}_{count}");
            count += 1;
        }
        fresh
    }
}

/// RFC 3986 §3.3: everything but `pchar` escaped, in upper case; `;` and `*` too, which shapes lack.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
