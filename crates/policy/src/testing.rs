//! Tests only: access tables as an operator writes them, read into drafts with true places.
//!
//! Knows just enough of TOML for that: one line per key, strings without escapes, lists, tables.

use portcullis_core::fault::{Fault, Place, Placed};
use portcullis_core::web::Address;

use crate::access::{
    AlternativeDraft, ApiDraft, AttributeType, FieldGroupDraft, LineDraft, OwnerDraft, PolicyFile,
    ScopeDraft, StepUpDraft, Vocabulary,
};
use crate::compile::{Rules, compile};
use crate::entities::{Caller, Circumstances, UserCaller};
use crate::openapi;

/// 2026-11-24 in Unix seconds.
pub(crate) const NOW: i64 = 1_795_478_400;
/// Where the API of [`api`] stands.
pub(crate) const HOST: &str = "api.pay.example";

/// The names that test tables may speak of.
pub(crate) fn vocabulary() -> Vocabulary {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Vocabulary {
        roles: words(&["admin", "support"]),
        groups: words(&["staff"]),
        services: words(&["ledger", "mailer"]),
        scopes: words(&["payments:read", "payments:write", "payments:settle"]),
        limits: vec![("anonymous".into(), false), ("normal".into(), true)],
        attributes: vec![
            ("account".into(), AttributeType::String),
            ("level".into(), AttributeType::Integer),
        ],
        factors: words(&["totp", "passkey"]),
        now: NOW,
    }
}

/// One API at `https://api.pay.example/v1` with this table.
pub(crate) fn api(table: &str) -> ApiDraft {
    api_at("https://api.pay.example/v1", table)
}

/// One API at an address.
pub(crate) fn api_at(at: &str, table: &str) -> ApiDraft {
    let place = place(0..1);
    ApiDraft {
        name: Placed::new("payments".into(), place.clone()),
        at: Placed::new(Address::parse(at).unwrap(), place),
        document: None,
        lines: Reader { text: table, at: 0 }.lines(),
    }
}

/// The same with a document.
pub(crate) fn documented(table: &str, yaml: &str) -> ApiDraft {
    let document = openapi::read("api.yaml", yaml).unwrap();
    ApiDraft { document: Some(Placed::new(document, place(0..1))), ..api(table) }
}

/// The rules of one table, which must compile.
pub(crate) fn rules(table: &str) -> Rules {
    compile(&[api(table)], &[], &vocabulary()).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// The faults of one table, which must not compile.
pub(crate) fn faults(table: &str) -> Vec<Fault> {
    compile(&[api(table)], &[], &vocabulary()).err().unwrap_or_default()
}

/// A Cedar file, `p.cedar`.
pub(crate) fn cedar(text: &str) -> PolicyFile {
    PolicyFile { file: "p.cedar".into(), text: text.into() }
}

/// The rules of one table and one Cedar file, which must compile.
pub(crate) fn rules_with(table: &str, policies: &str) -> Rules {
    compile(&[api(table)], &[cedar(policies)], &vocabulary())
        .unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// The faults of one table and one Cedar file, which must not compile.
pub(crate) fn faults_with(table: &str, policies: &str) -> Vec<Fault> {
    compile(&[api(table)], &[cedar(policies)], &vocabulary()).err().unwrap_or_default()
}

/// A person with an account.
pub(crate) fn user(account: &str) -> Caller {
    let account = portcullis_core::jose::claims::Attribute::String(account.into());
    Caller::User(UserCaller {
        id: "u_1".into(),
        issuer: "https://login.pay.example".into(),
        attributes: [("account".into(), account)].into(),
        ..UserCaller::default()
    })
}

/// A person with a role and nothing else.
pub(crate) fn with_role(role: &str) -> Caller {
    Caller::User(UserCaller { id: "u_2".into(), roles: vec![role.into()], ..UserCaller::default() })
}

/// A service.
pub(crate) fn service(id: &str) -> Caller {
    Caller::Service { id: id.into(), tenant: None }
}

/// Now, from 10.0.0.7, with these scopes.
pub(crate) fn circumstances(scopes: &str) -> Circumstances {
    Circumstances {
        now: NOW,
        ip: "10.0.0.7".parse().unwrap(),
        client: Some("app".into()),
        scopes: portcullis_core::scope::Scopes::parse(scopes).unwrap(),
        acr: None,
        amr: vec!["pwd".into()],
        ages: Default::default(),
        dpop: false,
        mtls: false,
        actors: Vec::new(),
    }
}

pub(crate) fn place(bytes: std::ops::Range<usize>) -> Place {
    Place { file: "t.toml".into(), bytes }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn lines(mut self) -> Vec<LineDraft> {
        let mut lines = Vec::new();
        while self.peek().is_some() {
            let key = self.string();
            let line = self.text[..key.place.bytes.start].matches('\n').count() + 1;
            self.expect('=');
            let mut alternatives = Vec::new();
            if self.take('[') {
                while !self.take(']') {
                    alternatives.push(self.table());
                    self.take(',');
                }
            } else {
                alternatives.push(self.table());
            }
            lines.push(LineDraft { key, line, alternatives });
        }
        lines
    }

    fn table(&mut self) -> AlternativeDraft {
        self.peek();
        let mut table = AlternativeDraft::new(place(self.at..self.at + 1));
        self.expect('{');
        while !self.take('}') {
            let key = self.word();
            self.expect('=');
            match key.as_str() {
                "allow" => table.allow = self.strings(),
                "from" => table.from = self.strings(),
                "via" => table.via = self.strings(),
                "scope" if self.peek() == Some('{') => {
                    self.expect('{');
                    assert_eq!(self.word(), "any");
                    self.expect('=');
                    table.scope = Some(ScopeDraft::Any(self.strings()));
                    self.expect('}');
                }
                "scope" => table.scope = Some(ScopeDraft::All(self.string())),
                "body" => self.body(&mut table),
                "query" => table.query = self.pairs(),
                "owner" => {
                    let mut pairs = self.pairs().into_iter();
                    let mut next = |key: &str| {
                        pairs.next().filter(|(name, _)| name.value == key).expect("a key").1
                    };
                    table.owner = Some(OwnerDraft { lookup: next("lookup"), field: next("field") });
                }
                "step_up" if self.peek() == Some('{') => {
                    let mut pairs = self.pairs().into_iter();
                    let need = pairs.next().expect("need").1;
                    let when = pairs.next().map(|(_, when)| when);
                    table.step_up = Some(StepUpDraft { need, when });
                }
                "step_up" => {
                    table.step_up = Some(StepUpDraft { need: self.string(), when: None });
                }
                "response" => table.response = self.groups(),
                other => {
                    let value = Some(self.string());
                    match other {
                        "when" => table.when = value,
                        "bound" => table.bound = value,
                        "accept" => table.accept = value,
                        "until" => table.until = value,
                        "public" => table.public = value,
                        "shared" => table.shared = value,
                        "undocumented" => table.undocumented = value,
                        "limit" => table.limit = value,
                        "limit_reason" => table.limit_reason = value,
                        "audit" => table.audit = value,
                        "timeout" => table.timeout = value,
                        unknown => panic!("no key {unknown}"),
                    }
                }
            }
            self.take(',');
        }
        table
    }

    /// A number, or a table.
    fn body(&mut self, table: &mut AlternativeDraft) {
        if self.peek() != Some('{') {
            let word = self.word();
            table.body_max = Some(Placed::new(word.parse().unwrap(), table.place.clone()));
            return;
        }
        self.expect('{');
        while !self.take('}') {
            let key = self.word();
            self.expect('=');
            match key.as_str() {
                "max" => {
                    let start = self.at;
                    let word = self.word();
                    table.body_max =
                        Some(Placed::new(word.parse().unwrap(), place(start..self.at)));
                }
                "types" => table.body_types = self.strings(),
                "extra" => table.body_extra = Some(self.string()),
                "fields" => table.body_fields = self.pairs(),
                unknown => panic!("no key {unknown}"),
            }
            self.take(',');
        }
    }

    /// `{ a = 'x', 'b.c' = 'y' }`.
    fn pairs(&mut self) -> Vec<(Placed<String>, Placed<String>)> {
        self.expect('{');
        let mut pairs = Vec::new();
        while !self.take('}') {
            let name = self.name();
            self.expect('=');
            pairs.push((name, self.string()));
            self.take(',');
        }
        pairs
    }

    /// A list, or `{ all = […], 'role:x' = […] }`.
    fn groups(&mut self) -> Vec<FieldGroupDraft> {
        if self.peek() != Some('{') {
            return vec![FieldGroupDraft { to: None, members: self.strings() }];
        }
        self.expect('{');
        let mut groups = Vec::new();
        while !self.take('}') {
            let name = self.name();
            self.expect('=');
            let to = Some(name).filter(|name| name.value != "all");
            groups.push(FieldGroupDraft { to, members: self.strings() });
            self.take(',');
        }
        groups
    }

    /// A key, bare or in quotes.
    fn name(&mut self) -> Placed<String> {
        if self.peek().is_some_and(|c| "\"'".contains(c)) {
            return self.string();
        }
        let start = self.at;
        let word = self.word();
        Placed::new(word, place(start..self.at))
    }

    fn strings(&mut self) -> Vec<Placed<String>> {
        if !self.take('[') {
            return vec![self.string()];
        }
        let mut strings = Vec::new();
        while !self.take(']') {
            strings.push(self.string());
            self.take(',');
        }
        strings
    }

    fn string(&mut self) -> Placed<String> {
        let quote = self.peek().filter(|c| "\"'".contains(*c)).expect("a string");
        let start = self.at;
        let length = self.text[start + 1..].find(quote).expect("the string's end");
        self.at = start + length + 2;
        let value = self.text[start + 1..start + 1 + length].to_owned();
        Placed::new(value, place(start..self.at))
    }

    fn word(&mut self) -> String {
        self.peek();
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, c: char) -> bool {
        let is_there = self.peek() == Some(c);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, c: char) {
        assert!(self.take(c), "`{c}` at {} of {}", self.at, self.text);
    }
}
