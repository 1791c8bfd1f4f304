//! A strict reader of JSON (RFC 8259) with places: doubled members are an error, since readers
//! disagree on which one counts (§4).

use std::collections::HashSet;

use portcullis_core::fault::Fault;

use super::node::{MAX_DEPTH, MAX_NODES, Node, NodeKind, Source};

/// Reads one JSON value and nothing after it.
pub(super) fn read(source: &Source<'_>) -> Result<Node, Fault> {
    let mut reader = Reader { source, at: 0, nodes: 0 };
    if source.text.starts_with('\u{feff}') {
        reader.at = '\u{feff}'.len_utf8();
    }
    let node = reader.value(0)?;
    reader.space();
    match reader.peek() {
        None => Ok(node),
        Some(_) => Err(reader.malformed("something follows the document")),
    }
}

struct Reader<'r, 't> {
    source: &'r Source<'t>,
    at: usize,
    nodes: usize,
}

impl<'t> Reader<'_, 't> {
    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        self.space();
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            let message = "the document is too large or too deep".to_owned();
            let remedy = "keep to 128 levels and two million values";
            return Err(self.source.fault("DocumentTooLarge", self.at, message, remedy));
        }
        let at = self.at;
        let kind = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => NodeKind::Scalar(self.string()?),
            Some(_) => NodeKind::Scalar(self.word()?),
            None => return Err(self.malformed("the document ends too early")),
        };
        Ok(Node { kind, at })
    }

    fn object(&mut self, depth: usize) -> Result<NodeKind, Fault> {
        let mut members: Vec<(String, Node)> = Vec::new();
        let mut seen = HashSet::new();
        self.at += 1;
        self.space();
        if self.take(b'}') {
            return Ok(NodeKind::Map(members));
        }
        loop {
            self.space();
            let at = self.at;
            let name = self.string()?;
            if !seen.insert(name.clone()) {
                return Err(super::doubled(self.source, at, &name));
            }
            self.space();
            if !self.take(b':') {
                return Err(self.malformed("a `:` is missing"));
            }
            members.push((name, self.value(depth + 1)?));
            self.space();
            if self.take(b'}') {
                return Ok(NodeKind::Map(members));
            }
            if !self.take(b',') {
                return Err(self.malformed("a `,` or `}` is missing"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<NodeKind, Fault> {
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        if self.take(b']') {
            return Ok(NodeKind::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.take(b']') {
                return Ok(NodeKind::List(items));
            }
            if !self.take(b',') {
                return Err(self.malformed("a `,` or `]` is missing"));
            }
        }
    }

    /// Finds the closing quote; what is between is serde_json's to judge.
    fn string(&mut self) -> Result<String, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.malformed("a string is missing"));
        }
        let mut end = self.at + 1;
        loop {
            match self.source.text.as_bytes().get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => return Err(self.malformed("a string does not end")),
            }
        }
        let quoted = self.source.text.get(self.at..=end).unwrap_or_default();
        let text =
            serde_json::from_str(quoted).map_err(|_| self.malformed("a string is broken"))?;
        self.at = end + 1;
        Ok(text)
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Result<String, Fault> {
        let rest: &'t str = self.source.text.get(self.at..).unwrap_or_default();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
        let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let is_word = matches!(word, "true" | "false" | "null");
        if !is_word && serde_json::from_str::<serde_json::Number>(word).is_err() {
            return Err(self.malformed("neither a value nor the end of one"));
        }
        self.at += word.len();
        Ok(word.to_owned())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.source.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn malformed(&self, what: &str) -> Fault {
        let message = format!("the document is not JSON: {what}");
        self.source.fault("DocumentMalformed", self.at, message, "mend it here")
    }
}
