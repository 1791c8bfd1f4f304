//! The key of an access line: `"GET /accounts/{account}"` → a method and a shape.
//!
//! Only reads; whether two lines tie is for the table to say.

use std::fmt;

/// Most parameters of a path (`7-authorization`, bounds).
pub(crate) const MAX_PATH_PARAMETERS: usize = 16;
/// Longest key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 1024;
/// The methods that a line may name. HEAD follows GET; TRACE and CONNECT never reach a rule.
pub(crate) const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "ANY"];

/// One segment of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Itself, byte for byte.
    Literal(Box<str>),
    /// `{name}`: one segment that is not empty.
    Parameter(Box<str>),
    /// `**`: the rest, zero or more segments; last only.
    Rest,
}

/// A path's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// In order.
    pub(crate) segments: Vec<Segment>,
}

/// A key that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineKey {
    /// One of [`METHODS`].
    pub(crate) method: &'static str,
    /// The shape.
    pub(crate) shape: Shape,
}

/// Why a key is not one: the rule broken, what is wrong, what to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyMalformed {
    /// `MethodUnknown`, `PathMalformed`, `ParameterMalformed`.
    pub(crate) rule: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// What to write.
    pub(crate) remedy: String,
}

impl LineKey {
    /// Reads `"METHOD /path"`; several spaces between are one, so that tables can be aligned.
    pub(crate) fn parse(text: &str) -> Result<Self, KeyMalformed> {
        if text.len() > MAX_KEY_BYTES {
            return Err(path_fault(text, format!("cut it to {MAX_KEY_BYTES} bytes")));
        }
        let (method, path) = text.split_once(' ').unwrap_or((text, ""));
        let method = read_method(method)?;
        let shape = Shape::parse(path.trim_start_matches(' '))?;
        Ok(LineKey { method, shape })
    }
}

impl fmt::Display for LineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.shape)
    }
}

impl Shape {
    /// Reads `/accounts/{account}/**`.
    pub(crate) fn parse(path: &str) -> Result<Self, KeyMalformed> {
        let Some(inner) = path.strip_prefix('/') else {
            return Err(path_fault(path, "write the path from `/` on, as in `GET /rates`".into()));
        };
        let texts: Vec<&str> = inner.split('/').collect();
        let mut segments = Vec::with_capacity(texts.len());
        for (position, text) in texts.iter().enumerate() {
            let is_last = position + 1 == texts.len();
            segments.push(read_segment(
                text,
                path,
                if is_last { Spot::Last } else { Spot::Inner },
            )?);
        }
        let shape = Shape { segments };
        let names: Vec<&str> = shape.parameters().collect();
        for (position, name) in names.iter().enumerate() {
            if names.iter().skip(position + 1).any(|other| other == name) {
                return Err(parameter_fault(name, "stands twice in the path"));
            }
        }
        if names.len() > MAX_PATH_PARAMETERS {
            return Err(path_fault(path, format!("keep to {MAX_PATH_PARAMETERS} parameters")));
        }
        Ok(shape)
    }

    /// The names of its parameters, in order.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(&**name),
            Segment::Literal(_) | Segment::Rest => None,
        })
    }

    /// Whether every path of `other` is a path of this shape.
    pub(crate) fn covers(&self, other: &Shape) -> bool {
        let mut theirs = other.segments.iter();
        for mine in &self.segments {
            let covered = match (mine, theirs.next()) {
                (Segment::Rest, _) => return true,
                (Segment::Literal(a), Some(Segment::Literal(b))) => a == b,
                (Segment::Parameter(_), Some(Segment::Parameter(_))) => true,
                (Segment::Parameter(_), Some(Segment::Literal(literal))) => !literal.is_empty(),
                (Segment::Literal(_) | Segment::Parameter(_), _) => false,
            };
            if !covered {
                return false;
            }
        }
        theirs.next().is_none()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => write!(f, "/{literal}")?,
                Segment::Parameter(name) => write!(f, "/{{{name}}}")?,
                Segment::Rest => f.write_str("/**")?,
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Spot {
    Inner,
    Last,
}

fn read_method(method: &str) -> Result<&'static str, KeyMalformed> {
    if let Some(known) = METHODS.iter().find(|known| **known == method) {
        return Ok(known);
    }
    let upper = method.to_ascii_uppercase();
    let remedy = match METHODS.iter().find(|known| **known == upper) {
        Some(known) => format!("methods are upper case: write `{known}`"),
        None if upper == "HEAD" => "leave it out: HEAD follows the rule of GET".into(),
        None => format!("write one of `{}`", METHODS.join(" ")),
    };
    let message = format!("`{method}` is not a method that a rule can name");
    Err(KeyMalformed { rule: "MethodUnknown", message, remedy })
}

fn read_segment(text: &str, path: &str, spot: Spot) -> Result<Segment, KeyMalformed> {
    if text == "**" {
        return match spot {
            Spot::Last => Ok(Segment::Rest),
            Spot::Inner => Err(path_fault(path, "`**` may only stand last".into())),
        };
    }
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return if is_parameter_name(name) {
            Ok(Segment::Parameter(name.into()))
        } else {
            Err(parameter_fault(name, "is not a parameter's name"))
        };
    }
    if text.is_empty() && matches!(spot, Spot::Inner) {
        return Err(path_fault(path, "a path has no empty segment but the last".into()));
    }
    if text == "." || text == ".." {
        return Err(path_fault(path, "write the path without dot segments".into()));
    }
    if let Some(bad) = text.chars().find(|c| !is_path_character(*c)) {
        return Err(path_fault(path, bad_character(bad)));
    }
    if !text.is_empty() && crate::parameter::decode(text, crate::parameter::Kind::Text).is_none() {
        let remedy = "escape only what must be escaped, with upper-case digits, as in `%C3%A9`";
        return Err(path_fault(path, remedy.into()));
    }
    Ok(Segment::Literal(text.into()))
}

/// `[a-z_][a-z0-9_]*`: also a Cedar identifier.
pub(crate) fn is_parameter_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 64
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// RFC 3986 §3.3 `pchar` without `;` (matrix parameters), `*` (no globs), `{` and `}`; and `%`.
fn is_path_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~!$&'()+,=:@%".contains(c)
}

fn bad_character(bad: char) -> String {
    match bad {
        '{' | '}' => "a parameter is a whole segment: `/{name}/`".into(),
        '*' => "the only wildcard is a final `/**`".into(),
        '?' | '#' => "queries and fragments take no part in a match: leave them out".into(),
        c if !c.is_ascii() => "write it percent-encoded, as a client sends it".into(),
        c => format!("`{}` cannot stand in a path", c.escape_default()),
    }
}

fn path_fault(path: &str, remedy: String) -> KeyMalformed {
    let message = format!("`{path}` is not a path that a rule can name");
    KeyMalformed { rule: "PathMalformed", message, remedy }
}

fn parameter_fault(name: &str, what: &str) -> KeyMalformed {
    KeyMalformed {
        rule: "ParameterMalformed",
        message: format!("`{{{name}}}` {what}"),
        remedy: "name each parameter once, in lower case letters, digits and `_`".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_written_alike() {
        for (text, written) in [
            ("GET /rates", "GET /rates"),
            ("GET  /rates", "GET /rates"),
            ("ANY /admin/**", "ANY /admin/**"),
            ("GET /", "GET /"),
            ("GET /a/", "GET /a/"),
            ("POST /accounts/{account}/payments", "POST /accounts/{account}/payments"),
            ("GET /caf%C3%A9", "GET /caf%C3%A9"),
        ] {
            assert_eq!(LineKey::parse(text).unwrap().to_string(), written);
        }
    }

    #[test]
    fn bad_keys_name_their_rule() {
        for (text, rule, remedy) in [
            ("get /rates", "MethodUnknown", "write `GET`"),
            ("HEAD /rates", "MethodUnknown", "HEAD follows"),
            ("TRACE /rates", "MethodUnknown", "one of"),
            ("/rates", "MethodUnknown", "one of"),
            ("GET rates", "PathMalformed", "from `/` on"),
            ("GET", "PathMalformed", "from `/` on"),
            ("GET\t/rates", "MethodUnknown", "one of"),
            ("GET /**/x", "PathMalformed", "last"),
            ("GET /a*", "PathMalformed", "wildcard"),
            ("GET //a", "PathMalformed", "empty segment"),
            ("GET /../a", "PathMalformed", "dot segments"),
            ("GET /a;b", "PathMalformed", "cannot stand"),
            ("GET /a?b", "PathMalformed", "queries"),
            ("GET /café", "PathMalformed", "percent-encoded"),
            ("GET /%61", "PathMalformed", "escape only"),
            ("GET /caf%c3%a9", "PathMalformed", "escape only"),
            ("GET /a{b}", "PathMalformed", "whole segment"),
            ("GET /{a}/{a}", "ParameterMalformed", "once"),
            ("GET /{A}", "ParameterMalformed", "lower case"),
            ("GET /{}", "ParameterMalformed", "lower case"),
            ("GET /{1a}", "ParameterMalformed", "lower case"),
        ] {
            let fault = LineKey::parse(text).unwrap_err();
            assert_eq!(fault.rule, rule, "{text}");
            assert!(fault.remedy.contains(remedy), "{text}: {}", fault.remedy);
        }
        let many: String = (0..17).map(|n| format!("/{{p{n}}}")).collect();
        assert_eq!(LineKey::parse(&format!("GET {many}")).unwrap_err().rule, "PathMalformed");
    }

    #[test]
    fn a_shape_covers_what_it_could_match() {
        let shape = |text: &str| Shape::parse(text).unwrap();
        for (mine, theirs, covered) in [
            ("/a/{x}", "/a/{y}", true),
            ("/a/{x}", "/a/b", true),
            ("/a/b", "/a/{x}", false),
            ("/a/**", "/a", true),
            ("/a/**", "/a/b/{c}", true),
            ("/a/**", "/b", false),
            ("/a/{x}", "/a/", false),
            ("/a", "/a/b", false),
        ] {
            assert_eq!(shape(mine).covers(&shape(theirs)), covered, "{mine} {theirs}");
        }
    }
}
