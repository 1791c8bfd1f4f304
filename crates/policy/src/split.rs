//! A Cedar file cut into its policies, each with its place: Cedar's own parser gives no places of
//! policies, and one slip should not hide the others.
//!
//! Knows strings, comments and brackets, nothing else: a `;` outside of strings and comments ends a
//! policy in every text that Cedar takes.

use std::ops::Range;

/// One policy's text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// From its first token to before its `;`, with that.
    pub(crate) bytes: Range<usize>,
    /// From behind the head's bracket to before the `;`.
    pub(crate) conditions: Range<usize>,
    /// Its line, from 1.
    pub(crate) line: usize,
    /// Deepest brackets, or longest run of unary operators.
    pub(crate) depth: usize,
}

/// The policies of a file; the place of what does not end.
pub(crate) fn split(text: &str) -> Result<Vec<Piece>, Range<usize>> {
    let mut pieces = Vec::new();
    let mut open = Open::default();
    let mut line = 1;
    let mut tokens = Tokens { bytes: text.as_bytes(), at: 0 };
    while let Some((token, at)) = tokens.next() {
        let lines = |range: Range<usize>| {
            text.as_bytes().get(range).unwrap_or_default().iter().filter(|b| **b == b'\n').count()
        };
        match token {
            Token::Blank => {}
            Token::Unfinished => return Err(open.start.unwrap_or(at.start)..text.len()),
            Token::End => {
                let start = open.start.unwrap_or(at.start);
                let head = open.head_end.unwrap_or(start);
                pieces.push(Piece {
                    bytes: start..at.end,
                    conditions: head..at.start.max(head),
                    line: open.line,
                    depth: open.deepest,
                });
                open = Open::default();
            }
            Token::String | Token::Word | Token::Mark(_) => {
                if open.start.is_none() {
                    open.start = Some(at.start);
                    open.line = line;
                }
                open.take(token, text.get(at.clone()).unwrap_or_default(), at.end);
            }
        }
        line += lines(at);
    }
    match open.start {
        None => Ok(pieces),
        Some(start) => Err(start..text.len()),
    }
}

/// The policy that is being read.
#[derive(Default)]
struct Open {
    start: Option<usize>,
    line: usize,
    depth: usize,
    deepest: usize,
    unary: usize,
    after_at: bool,
    in_head: bool,
    head_end: Option<usize>,
}

impl Open {
    fn take(&mut self, token: Token, text: &str, end: usize) {
        // `@forbid("…")` is an annotation; `forbid` without `@` begins the head.
        if token == Token::Word && !self.after_at && matches!(text, "permit" | "forbid") {
            self.in_head = true;
        }
        self.after_at = token == Token::Mark(b'@');
        self.unary = match token {
            Token::Mark(b'!' | b'-') => self.unary + 1,
            _ => 0,
        };
        match token {
            Token::Mark(b'(' | b'[' | b'{') => self.depth += 1,
            Token::Mark(b')' | b']' | b'}') => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 && self.in_head && self.head_end.is_none() {
                    self.head_end = Some(end);
                }
            }
            _ => {}
        }
        self.deepest = self.deepest.max(self.depth).max(self.unary);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Blank,
    Word,
    String,
    Mark(u8),
    End,
    Unfinished,
}

struct Tokens<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Tokens<'_> {
    fn next(&mut self) -> Option<(Token, Range<usize>)> {
        let start = self.at;
        let first = *self.bytes.get(start)?;
        self.at += 1;
        let token = match first {
            b';' => Token::End,
            b'"' => self.string(),
            b'/' if self.peek() == Some(b'/') => {
                self.run(|byte| byte != b'\n');
                Token::Blank
            }
            byte if byte.is_ascii_whitespace() => {
                self.run(|byte| byte.is_ascii_whitespace());
                Token::Blank
            }
            byte if is_word(byte) => {
                self.run(is_word);
                Token::Word
            }
            byte => Token::Mark(byte),
        };
        Some((token, start..self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn run(&mut self, inside: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&inside) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Token {
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => return Token::String,
                b'\\' => self.at = (self.at + 1).min(self.bytes.len()),
                _ => {}
            }
        }
        Token::Unfinished
    }
}

/// Bytes beyond ASCII only stand in strings and comments; elsewhere Cedar refuses them.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(&str, &str, usize)> {
        let pieces = split(text).unwrap();
        let cut = |piece: &Piece| {
            (&text[piece.bytes.clone()], text[piece.conditions.clone()].trim(), piece.line)
        };
        pieces.iter().map(cut).collect()
    }

    #[test]
    fn a_file_is_cut_at_what_ends_a_policy() {
        let text = "// first; not a policy\npermit(principal, action, resource);\n\n\
                    @forbid(\"a; )\")\nforbid(principal, action in [Action::\"x)\"], resource) // ;\n\
                    when { \"\\\";\" == \";\" } unless { true };";
        assert_eq!(
            texts(text),
            [
                ("permit(principal, action, resource);", "", 2),
                (
                    &text[text.find('@').unwrap()..],
                    "// ;\nwhen { \"\\\";\" == \";\" } unless { true }",
                    4
                ),
            ]
        );
        assert_eq!(texts(""), []);
        assert_eq!(texts("  // nothing\n"), []);
    }

    #[test]
    fn what_does_not_end_is_refused() {
        for (text, start) in [
            ("permit(principal, action, resource)", 0),
            ("permit(principal);\n forbid", 20),
            ("permit(\"abc;", 0),
            ("  \"abc\\", 2),
        ] {
            assert_eq!(split(text).unwrap_err(), start..text.len(), "{text}");
        }
    }

    #[test]
    fn depth_is_seen_before_any_parser() {
        let deep = format!("permit(principal, action, resource) when {{ {} }};", "(".repeat(5000));
        assert_eq!(split(&deep).unwrap()[0].depth, 5001);
        let unary = format!("permit(principal) when {{ {}true }};", "! ".repeat(40));
        assert_eq!(split(&unary).unwrap()[0].depth, 40, "blanks do not end a run");
    }
}
