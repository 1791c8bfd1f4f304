//! How the tour shows a step: what was sent, what came, and why, taken from the decision record.

use std::time::Duration;

use crate::demo::stage::Stage;
use crate::https_client::{Answer, Client};

/// How often the records are looked through before a step goes on without its reason.
const LOOKS: u32 = 100;
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// The tour so far.
pub(super) struct Show<'s> {
    pub(super) stage: &'s Stage,
    pub(super) client: Client,
    rows: Vec<Row>,
}

struct Row {
    what: String,
    status: u16,
    good: bool,
}

/// What should come.
pub(super) struct Expect {
    status: u16,
    field: Option<(&'static str, &'static str)>,
    body: Option<&'static str>,
}

impl Expect {
    /// This status.
    pub(super) fn status(status: u16) -> Self {
        Expect { status, field: None, body: None }
    }
    /// And this text within this field.
    pub(super) fn field(self, name: &'static str, text: &'static str) -> Self {
        Expect { field: Some((name, text)), ..self }
    }
    /// And this text within the body.
    pub(super) fn body(self, text: &'static str) -> Self {
        Expect { body: Some(text), ..self }
    }
    fn met_by(&self, answer: &Answer) -> bool {
        let field = self.field.is_none_or(|(name, text)| answer.field(name).contains(text));
        let body = self.body.is_none_or(|text| answer.text().contains(text));
        self.status == answer.status.as_u16() && field && body
    }
}

impl<'s> Show<'s> {
    /// Nothing shown yet.
    pub(super) fn new(stage: &'s Stage) -> anyhow::Result<Self> {
        let client = stage.place.client()?;
        Ok(Show { stage, client, rows: Vec::new() })
    }

    /// A heading.
    pub(super) fn chapter(&self, title: &str) {
        println!("\n{title}\n{}", "─".repeat(title.chars().count()));
    }

    /// One step: shown, judged, kept for the table.
    pub(super) async fn step(&mut self, what: &str, target: &str, answer: &Answer, expect: Expect) {
        let good = expect.met_by(answer);
        let mark = if good { "✓" } else { "✗" };
        println!("{mark} {what}\n    {target}  →  {}", answer.status);
        for name in ["www-authenticate", "retry-after", "ratelimit"] {
            if !answer.field(name).is_empty() {
                println!("    {name}: {}", shortened(answer.field(name)));
            }
        }
        if !good {
            println!(
                "    expected {}; the answer was:\n{}",
                expect.status,
                shortened(&answer.text())
            );
        }
        println!("    why: {}", self.reason(answer.field("request-id")).await);
        self.rows.push(Row { what: what.into(), status: answer.status.as_u16(), good });
    }

    /// A fact that is no single answer.
    pub(super) fn fact(&mut self, what: &str, detail: &str, status: u16, good: bool) {
        println!("{} {what}\n    {detail}", if good { "✓" } else { "✗" });
        self.rows.push(Row { what: what.into(), status, good });
    }

    /// The decision record of a request, as a person reads it.
    async fn reason(&self, request: &str) -> String {
        for _ in 0..LOOKS {
            let records = std::fs::read_to_string(self.stage.place.home.join("records.jsonl"));
            let found = records.unwrap_or_default().lines().rev().find_map(|line| {
                let record: serde_json::Value = serde_json::from_str(line).ok()?;
                (record.get("request")?.as_str()? == request).then_some(record)
            });
            if let Some(record) = found {
                return in_words(&record);
            }
            tokio::time::sleep(PAUSE).await;
        }
        String::from("no decision record was written")
    }

    /// The table at the end.
    pub(super) fn table(&self) {
        println!("\n{:<58} {:>6}", "step", "answer");
        for row in &self.rows {
            println!("{:<58} {:>6} {}", row.what, row.status, if row.good { "✓" } else { "✗" });
        }
        let failed = self.rows.iter().filter(|row| !row.good).count();
        println!("\n{} passed, {failed} failed", self.rows.len() - failed);
    }

    /// The exit code.
    pub(super) fn verdict(&self) -> u8 {
        u8::from(self.rows.iter().any(|row| !row.good))
    }
}

fn in_words(record: &serde_json::Value) -> String {
    let text = |name: &str| record.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    let mut words = format!("{} at {}", text("decision"), text("stage"));
    // A permit's reason is its rule: said once.
    if text("reason") != text("rule") {
        words.push_str(&format!(", {}", text("reason")));
    }
    for (label, name) in [("rule", "rule"), ("caller", "caller"), ("limit", "limit")] {
        if !text(name).is_empty() {
            words.push_str(&format!(", {label} {}", text(name)));
        }
    }
    let clauses = record.get("clauses").and_then(|value| value.as_array());
    for clause in clauses.into_iter().flatten() {
        let part =
            |name: &str| clause.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        if clause.get("held") == Some(&serde_json::Value::Bool(false)) {
            words.push_str(&format!("\n         ✗ {}   {}", part("clause"), part("inputs")));
        }
    }
    words
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(160).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
