//! `explain METHOD PATH --as WHO`: what that request would meet, clause by clause.
//!
//! It judges with the rules of the file and with facts given on the command line; the store is not
//! opened, so that a user's roles and attributes are those said with `--with`. Tokens, TLS and
//! hygiene come before the rule and are not tried here.

use std::path::PathBuf;

use portcullis_core::limit::Per;
use portcullis_core::time::Clock;
use portcullis_policy::decide::Verdict;
use portcullis_policy::explain::{Explanation, explain};
use serde_json::json;

use super::facts::{Asked, Facts};
use super::report::{Exit, Output, show_rejected};
use crate::config::{self, Config, Purpose};

/// Arguments of `explain`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The method
    pub method: String,
    /// The path as callers send it (`/v1/rates`), or a whole address
    pub path: String,
    /// Who asks: `anyone`, `user:NAME`, `role:NAME` (a user with that role), `service:NAME`
    #[arg(long = "as", value_name = "WHO")]
    pub caller: String,
    /// Facts: `scope="a b"`, `ip=…`, `role=…`, `group=…`, `client=…`, `acr=…`, `bound=dpop`, `via=…`, or an
    /// attribute
    #[arg(long = "with", value_name = "KEY=VALUE")]
    pub with: Vec<String>,
    /// The host, when several are served
    #[arg(long)]
    pub host: Option<String>,
    /// The config
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "portcullis.toml")]
    pub config: PathBuf,
    /// For machines
    #[arg(long)]
    pub json: bool,
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
    let asked = Asked::read(&config, arguments)
        .and_then(|asked| Ok((Facts::read(&config, arguments, clock.now().unix())?, asked)));
    let (facts, asked) = match asked {
        Ok(read) => read,
        Err(wrong) => {
            writeln!(output.err, "error: {wrong}")?;
            return Ok(Exit::Misuse);
        }
    };
    let target = (&*asked.host, &*asked.method, &*asked.path);
    let explanation = explain(&config.rules, target, &facts.caller, &facts.circumstances);
    if arguments.json {
        writeln!(output.out, "{:#}", machines(&config, (&asked, &facts), &explanation))?;
    } else {
        people(&config, (&asked, &facts), &explanation, output)?;
    }
    Ok(if explanation.status == 200 { Exit::Fine } else { Exit::Found })
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
    let clauses = clauses(explanation);
    let width = clauses.iter().map(|clause| clause.clause.chars().count()).max().unwrap_or(0);
    for clause in clauses {
        let mark = if clause.held { '✓' } else { '✗' };
        let text = format!("{mark} {:<width$}  {}", clause.clause, clause.inputs);
        say("", text.trim_end())?;
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
        None => &[],
    }
}

/// `200, forwarded by portcullis.toml:25.1` or `403 at authorize: ConditionFalse`.
fn answer(explanation: &Explanation) -> String {
    match &explanation.verdict {
        Some(Verdict::Allow { rule, .. }) => format!("{}, forwarded by {rule}", explanation.status),
        Some(Verdict::Deny(denial)) => {
            format!("{} at {}: {}", explanation.status, explanation.stage, denial.reason)
        }
        None if explanation.status == 200 => "200, forwarded".into(),
        None => format!("{} at {}", explanation.status, explanation.stage),
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
    let (rule, reason) = match &explanation.verdict {
        Some(Verdict::Allow { rule, .. }) => (Some(rule.to_string()), None),
        Some(Verdict::Deny(denial)) => (Some(denial.rule.to_string()), Some(denial.reason)),
        None => (explanation.rule.clone(), None),
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
        "reason": reason,
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
        let mut arguments = Arguments {
            method: words[0].into(),
            path: words[1].into(),
            caller: words[2].into(),
            with: Vec::new(),
            host: None,
            config: fixture("complete.toml"),
            json: false,
        };
        arguments.with.extend(words[3..].iter().map(|fact| (*fact).to_owned()));
        arguments
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
    fn json_carries_the_clauses() {
        let mut asked = arguments(&["GET", PAYMENTS, "user:alice", "account=a2"]);
        asked.json = true;
        let (exit, out, _) = captured(|output| run(&asked, &clock(), output));
        let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((exit, answer["status"].as_u64()), (Exit::Found, Some(403)));
        assert!(answer["clauses"].as_array().unwrap().iter().any(|clause| clause["held"] == false));
    }
}
