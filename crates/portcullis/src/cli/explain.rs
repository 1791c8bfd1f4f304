//! `explain METHOD PATH --as WHO`: what that request would meet, clause by clause.
//!
//! It judges with the rules of the file and with facts given on the command line; the store is not
//! opened, so that a user's roles and attributes are those said with `--with`. Tokens, TLS and
//! hygiene come before the rule and are not tried here.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use portcullis_core::limit::Per;
use portcullis_core::time::Clock;
use portcullis_policy::decide::Verdict;
use portcullis_policy::explain::{Explanation, explain};
use serde_json::json;

use super::facts::{Asked, AskedWrongly, Facts};
use super::report::{Exit, Output, show_rejected};
use crate::config::{self, Config, Purpose};

/// Arguments of `explain`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub question: Option<Question>,
    /// Many questions: a file of JSON lines, each with `method`, `path`, `as`, and perhaps `with`
    /// and `host`; each is answered with a JSON line. `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "Question")]
    pub batch: Option<PathBuf>,
    /// The config
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "portcullis.toml")]
    pub config: PathBuf,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// One question.
#[derive(clap::Args, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// The method
    pub method: String,
    /// The path as callers send it (`/v1/rates?page=2`), or a whole address
    pub path: String,
    /// Who asks: `anyone`, `user:NAME`, `role:NAME` (a user with that role), `service:NAME`
    #[arg(long = "as", value_name = "WHO")]
    #[serde(rename = "as")]
    pub caller: String,
    /// Facts: `scope="a b"`, `ip=…`, `role=…`, `group=…`, `client=…`, `acr=…`, `mfa=2m` (how long
    /// ago), `bound=dpop`, `via=…`, an attribute; of the request: `body=@FILE`, `owner=ID`,
    /// `header.NAME=…`
    #[arg(long = "with", value_name = "KEY=VALUE")]
    #[serde(default)]
    pub with: Vec<String>,
    /// The host, when several are served
    #[arg(long)]
    pub host: Option<String>,
}

/// Runs `explain`: 0 when the request would be forwarded, 1 when it would be refused.
///
/// # Errors
/// Only what writing the answer says.
pub(crate) fn run(
    arguments: &Arguments,
    clock: &dyn Clock,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let config = match config::read(&arguments.config, clock.now(), Purpose::Serve) {
        Ok(config) => config,
        Err(rejected) => return Ok(show_rejected(output, &rejected)?),
    };
    if let Some(file) = &arguments.batch {
        return batch(&config, file, clock.now().unix(), output);
    }
    let Some(question) = &arguments.question else {
        writeln!(output.err, "error: say METHOD PATH --as WHO, or --batch FILE")?;
        return Ok(Exit::Misuse);
    };
    match answered(&config, question, clock.now().unix()) {
        Ok(Answered { asked, facts, explanation }) => {
            if arguments.json {
                writeln!(output.out, "{:#}", machines(&config, (&asked, &facts), &explanation))?;
            } else {
                people(&config, (&asked, &facts), &explanation, output)?;
            }
            Ok(if explanation.status == 200 { Exit::Fine } else { Exit::Found })
        }
        Err(wrong) => {
            writeln!(output.err, "error: {wrong}")?;
            Ok(Exit::Misuse)
        }
    }
}

/// A question with its answer.
struct Answered {
    asked: Asked,
    facts: Facts,
    explanation: Explanation,
}

fn answered(config: &Config, question: &Question, now: i64) -> Result<Answered, AskedWrongly> {
    let asked = Asked::read(config, question)?;
    let facts = Facts::read(config, question, now)?;
    let request = asked.request();
    let explanation = explain(&config.rules, &request, &facts.caller, &facts.circumstances);
    Ok(Answered { asked, facts, explanation })
}

/// Longest line of a batch.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// A JSON line for a JSON line. The first that is none ends it: 2, with its number.
fn batch(config: &Config, file: &Path, now: i64, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let mut lines: Box<dyn BufRead> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => match std::fs::File::open(file) {
            Ok(file) => Box::new(BufReader::new(file)),
            Err(error) => {
                writeln!(output.err, "error: cannot read `{}`: {error}", file.display())?;
                return Ok(Exit::Misuse);
            }
        },
    };
    let (mut exit, mut number, mut line) = (Exit::Fine, 0_u64, String::new());
    loop {
        line.clear();
        number += 1;
        if lines.by_ref().take(MAX_LINE_BYTES).read_line(&mut line)? == 0 {
            return Ok(exit);
        }
        let question: Result<Question, _> = serde_json::from_str(&line);
        let answer = question.map_err(|error| error.to_string()).and_then(|question| {
            answered(config, &question, now).map_err(|wrong| wrong.to_string())
        });
        match answer {
            Ok(Answered { asked, facts, explanation }) => {
                let answer = machines(config, (&asked, &facts), &explanation);
                writeln!(output.out, "{answer}")?;
                if explanation.status != 200 {
                    exit = Exit::Found;
                }
            }
            Err(wrong) => {
                writeln!(output.err, "error: line {number}: {wrong}")?;
                return Ok(Exit::Misuse);
            }
        }
    }
}

fn people(
    config: &Config,
    (asked, facts): (&Asked, &Facts),
    explanation: &Explanation,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let mut say = |label: &str, text: &str| writeln!(output.out, "{label:<8}{text}");
    say("request", &format!("{} https://{}{}", asked.method, asked.host, asked.path))?;
    say("caller", &facts.words())?;
    let rule = explanation.rule.as_deref().unwrap_or_default();
    match &explanation.key {
        Some(key) => say("line", &format!("\"{key}\"  {rule}"))?,
        None => say("line", "none")?,
    }
    for line in clause_lines(explanation) {
        say("", &line)?;
    }
    for name in limits(config, explanation) {
        say("limit", &limit_words(config, &name))?;
    }
    say("answer", &answer(explanation))?;
    if let Some(remedy) = &explanation.remedy {
        say("remedy", remedy)?;
    }
    Ok(())
}

/// Each clause, ✓ or ✗, with its inputs, aligned.
fn clause_lines(explanation: &Explanation) -> Vec<String> {
    let clauses = clauses(explanation);
    let width = clauses.iter().map(|clause| clause.clause.chars().count()).max().unwrap_or(0);
    let line = |clause: &portcullis_core::audit::Clause| {
        let mark = if clause.held { '✓' } else { '✗' };
        format!("{mark} {:<width$}  {}", clause.clause, clause.inputs).trim_end().to_owned()
    };
    clauses.iter().map(line).collect()
}

/// An explanation in a few lines: clauses, answer, remedy.
pub(super) fn told(explanation: &Explanation) -> Vec<String> {
    let mut lines = clause_lines(explanation);
    lines.push(answer(explanation));
    lines.extend(explanation.remedy.clone());
    lines
}

/// The limits that would be charged: the line's own, or the default of its kind of line.
fn limits(config: &Config, explanation: &Explanation) -> Vec<String> {
    let rule = explanation.rule.as_deref().unwrap_or_default();
    let operation = config.rules.operations().find(|operation| &*operation.rule == rule);
    match operation {
        Some(operation) if operation.limits.is_empty() => {
            vec![if operation.authenticates { "default" } else { "anonymous" }.into()]
        }
        _ => explanation.limits.clone(),
    }
}

fn clauses(explanation: &Explanation) -> &[portcullis_core::audit::Clause] {
    match &explanation.verdict {
        Some(Verdict::Allow { clauses, .. }) => clauses,
        Some(Verdict::Deny(denial)) => &denial.clauses,
        Some(Verdict::NeedsBody | Verdict::NeedsOwner) | None => &[],
    }
}

/// `200, forwarded by portcullis.toml:25.1` or `403 at authorize: ConditionFalse`.
fn answer(explanation: &Explanation) -> String {
    match &explanation.verdict {
        Some(Verdict::Allow { rule, .. }) => format!("{}, forwarded by {rule}", explanation.status),
        Some(Verdict::Deny(denial)) => {
            format!("{} at {}: {}", explanation.status, explanation.stage, denial.reason)
        }
        Some(Verdict::NeedsBody) => "depends on the body: say it with `--with body=@FILE`".into(),
        Some(Verdict::NeedsOwner) => {
            "depends on the object's owner: say it with `--with owner=ID`".into()
        }
        None if explanation.status == 200 => "200, forwarded".into(),
        None => {
            let reason = explanation.reason.as_deref().map(|reason| format!(": {reason}"));
            let (status, stage) = (explanation.status, explanation.stage);
            format!("{status} at {stage}{}", reason.unwrap_or_default())
        }
    }
}

/// A limit with its bound: N per period plus the burst.
fn limit_words(config: &Config, name: &str) -> String {
    let Some(limit) = config.limits.get(name) else { return name.into() };
    let rates: Vec<String> = limit
        .rates
        .iter()
        .map(|rate| {
            let period = match rate.period.as_secs() {
                1 => "s".into(),
                60 => "min".into(),
                3_600 => "h".into(),
                other => format!("{other}s"),
            };
            let per = match rate.per {
                Per::Ip => "ip",
                Per::Prefix => "prefix",
                Per::Client => "client",
                Per::User => "user",
                Per::Caller => "caller",
            };
            let most = u64::from(rate.count) + u64::from(rate.burst);
            format!(
                "{}/{period} per {per}, burst {}: at most {most} in any {period}",
                rate.count, rate.burst
            )
        })
        .collect();
    format!("{name}, {}", rates.join("; "))
}

fn machines(
    config: &Config,
    (asked, facts): (&Asked, &Facts),
    explanation: &Explanation,
) -> serde_json::Value {
    let rule = match &explanation.verdict {
        Some(Verdict::Allow { rule, .. }) => Some(rule.to_string()),
        Some(Verdict::Deny(denial)) => Some(denial.rule.to_string()),
        Some(Verdict::NeedsBody | Verdict::NeedsOwner) | None => explanation.rule.clone(),
    };
    json!({
        "method": asked.method,
        "host": asked.host,
        "path": asked.path,
        "caller": facts.caller.label(),
        "line": explanation.key,
        "rule": rule,
        "stage": explanation.stage,
        "status": explanation.status,
        "reason": explanation.reason,
        "clauses": clauses(explanation),
        "limits": limits(config, explanation),
        "remedy": explanation.remedy,
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::testing::{captured, clock, fixture, golden};
    use super::*;

    fn arguments(words: &[&str]) -> Arguments {
        let question = Question {
            method: words[0].into(),
            path: words[1].into(),
            caller: words[2].into(),
            with: words[3..].iter().map(|fact| (*fact).to_owned()).collect(),
            host: None,
        };
        let config = fixture("complete.toml");
        Arguments { question: Some(question), batch: None, config, json: false }
    }

    fn ask(words: &[&str]) -> (Exit, String, String) {
        captured(|output| run(&arguments(words), &clock(), output))
    }

    const PAYMENTS: &str = "/v1/accounts/a1/payments";

    #[test]
    fn each_clause_is_shown_with_its_inputs() {
        let mut text = String::new();
        for (exit, words) in [
            (Exit::Fine, vec!["GET", "/v1/rates", "anyone"]),
            (Exit::Fine, vec!["GET", PAYMENTS, "user:alice", "account=a1", "scope=payments:read"]),
            (Exit::Found, vec!["GET", PAYMENTS, "user:alice", "account=a2", "scope=payments:read"]),
            (Exit::Found, vec!["GET", PAYMENTS, "user:alice", "account=a1"]),
            (Exit::Found, vec!["get", PAYMENTS, "anyone"]),
            (Exit::Found, vec!["POST", "/v1/settlements", "role:admin"]),
            (Exit::Fine, vec!["POST", "/v1/settlements", "service:ledger"]),
            (Exit::Found, vec!["GET", "/v1/nothing", "user"]),
            (Exit::Found, vec!["DELETE", "https://api.pay.example/v1/rates?x=1", "anyone"]),
        ] {
            let (came, out, err) = ask(&words);
            assert_eq!((came, err.as_str()), (exit, ""), "{words:?}\n{out}");
            text.push_str(&format!("$ explain {}\n{out}\n", words.join(" ")));
        }
        golden("explain.txt", &text);
    }

    #[test]
    fn a_question_that_cannot_be_answered_exits_2() {
        for (words, part) in [
            (vec!["GET", "rates", "anyone"], "starts with `/`"),
            (vec!["G ET", "/v1/rates", "anyone"], "not a method"),
            (vec!["GET", "/v1/rates", "everyone"], "is no caller"),
            (vec!["GET", "/v1/rates", "role:amdin"], "no role of the file (it has `admin`)"),
            (vec!["GET", "/v1/rates", "service:nobody"], "no service of the file"),
            (vec!["GET", "/v1/rates", "user:a", "colour=red"], "is no fact"),
            (vec!["GET", "/v1/rates", "user:a", "account"], "is not `KEY=VALUE`"),
            (vec!["GET", "/v1/rates", "user:a", "ip=here"], "is not an address"),
            (vec!["GET", "/v1/rates", "user:a", "group=x"], "no group of the file (it has none)"),
            (vec!["GET", "/v1/rates", "anyone", "role=admin"], "a fact about a user"),
        ] {
            let (exit, out, err) = ask(&words);
            assert_eq!((exit, out.as_str()), (Exit::Misuse, ""), "{words:?}");
            assert!(err.contains(part), "{words:?}: {err}");
        }
    }

    #[test]
    fn a_batch_is_answered_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("questions.jsonl");
        let whole = [
            r#"{"method":"GET","path":"/v1/rates","as":"anyone"}"#,
            r#"{"method":"GET","path":"/v1/accounts/a2/payments","as":"user:a","with":["account=a1","scope=payments:read"]}"#,
            "nonsense",
        ];
        let ask = |lines: &[&str]| {
            std::fs::write(&file, lines.join("\n")).unwrap();
            let config = fixture("complete.toml");
            let batch = Some(file.clone());
            let arguments = Arguments { question: None, batch, config, json: false };
            captured(|output| run(&arguments, &clock(), output))
        };
        let (exit, out, err) = ask(&whole[..2]);
        assert_eq!((exit, err.as_str()), (Exit::Found, ""));
        let status = |line: &str| -> u64 {
            let answer: serde_json::Value = serde_json::from_str(line).unwrap();
            answer["status"].as_u64().unwrap()
        };
        assert_eq!(out.lines().map(status).collect::<Vec<_>>(), [200, 403]);
        let (exit, out, err) = ask(&whole);
        assert_eq!((exit, out.lines().count()), (Exit::Misuse, 2));
        assert!(err.starts_with("error: line 3: "), "{err}");
    }

    #[test]
    fn json_carries_the_clauses() {
        let mut asked = arguments(&["GET", PAYMENTS, "user:alice", "account=a2"]);
        asked.json = true;
        let (exit, out, _) = captured(|output| run(&asked, &clock(), output));
        let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((exit, answer["status"].as_u64()), (Exit::Found, Some(403)));
        assert!(answer["clauses"].as_array().unwrap().iter().any(|clause| clause["held"] == false));
    }
}
