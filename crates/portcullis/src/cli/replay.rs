//! `replay LOG --with NEW`: yesterday's decisions under a new config: who would gain, who would lose,
//! and what cannot be said for want of a fact in the log. Nothing is sent anywhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use portcullis_core::audit::neutralise;
use portcullis_core::time::Clock;
use portcullis_policy::compile::Rules;
use portcullis_policy::decide::Verdict;
use portcullis_policy::replay::{Decision, Effect, Replayed, Who, effect, operation_of, replay};
use serde_json::{Value, json};

use super::decisions::{self, Hosts, NO_LOG, Tally};
use super::report::{Exit, Output, show_rejected};

/// Most groups that are told apart; the rest is counted together.
const MAX_GROUPS: usize = 10_000;

/// Arguments of `replay`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The log of decisions, JSON lines; `-` is standard input
    pub log: PathBuf,
    /// The config to try
    #[arg(long = "with", value_name = "NEW")]
    pub with: PathBuf,
    /// The log was written by `serve --dev`
    #[arg(long)]
    pub dev: bool,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// Runs `replay`: 0 when nothing would change, 1 when something would or cannot be said, 2 when log or
/// file cannot be read.
///
/// # Errors
/// Only what writing the answer says.
pub(crate) fn run(
    arguments: &Arguments,
    clock: &dyn Clock,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let hosts = if arguments.dev { Hosts::Local } else { Hosts::Written };
    let config = match decisions::config(&arguments.with, clock.now(), hosts) {
        Ok(config) => config,
        Err(rejected) => return Ok(show_rejected(output, &rejected)?),
    };
    let (mut tally, mut changes) = (Tally::default(), Changes::default());
    let read =
        tally.read(&arguments.log, None, &mut |decision| changes.take(&config.rules, decision));
    if let Err(error) = read {
        writeln!(output.err, "error: cannot read `{}`: {error}", arguments.log.display())?;
        return Ok(Exit::Misuse);
    }
    if arguments.json {
        writeln!(output.out, "{:#}", changes.machines(&tally))?;
    } else {
        changes.people(&tally, output)?;
    }
    if tally.is_no_log() {
        writeln!(output.err, "{NO_LOG}")?;
        return Ok(Exit::Misuse);
    }
    Ok(if changes.groups.is_empty() { Exit::Fine } else { Exit::Found })
}

/// What would change, grouped.
#[derive(Default)]
pub(crate) struct Changes {
    groups: BTreeMap<(Kind, String), Group>,
    same: u64,
    unjudged: u64,
}

/// Of what kind a change is; in the order told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Let through now.
    Gained,
    /// Refused now.
    Lost,
    /// Refused with another status.
    Otherwise,
    /// Cannot be said.
    Undecided,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Gained => "gained",
            Kind::Lost => "lost",
            Kind::Otherwise => "refused otherwise",
            Kind::Undecided => "not decided",
        }
    }
}

/// The decisions on one operation that change alike.
struct Group {
    count: u64,
    first: First,
}

/// The first of them.
struct First {
    request: String,
    caller: String,
    target: String,
    was: u16,
    /// 200 stands for "forwarded"; `None`: cannot be said.
    now: Option<u16>,
    /// The rule broken, the line that permits, or what is missing.
    why: String,
}

impl Changes {
    /// Makes a decision again and notes what differs.
    pub(crate) fn take(&mut self, rules: &Rules, decision: &Decision) {
        let replayed = replay(rules, decision);
        let (kind, now) = match effect(decision, &replayed) {
            Effect::Same => {
                self.same += 1;
                return;
            }
            Effect::Unjudged => {
                self.unjudged += 1;
                return;
            }
            Effect::Gained => (Kind::Gained, Some(200)),
            Effect::Lost(status) => (Kind::Lost, Some(status)),
            Effect::RefusedOtherwise(status) => (Kind::Otherwise, Some(status)),
            Effect::Undecided(_) => (Kind::Undecided, None),
        };
        let mut key = (kind, label(rules, decision));
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&key) {
            key.1 = "other operations".into();
        }
        let first = || First::of(decision, &replayed, now);
        self.groups.entry(key).or_insert_with(|| Group { count: 0, first: first() }).count += 1;
    }

    /// How many decisions change so.
    pub(crate) fn count(&self, kind: Kind) -> u64 {
        let of_kind = self.groups.iter().filter(|((it, _), _)| *it == kind);
        of_kind.map(|(_, group)| group.count).sum()
    }

    fn people(&self, tally: &Tally, output: &mut Output<'_>) -> anyhow::Result<()> {
        let width = self.groups.keys().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
        for ((kind, label), group) in &self.groups {
            writeln!(output.out, "{:<18} {label:<width$}  {}", kind.word(), group.count)?;
            writeln!(output.out, "    {}", group.first.words())?;
        }
        for line in tally.words() {
            writeln!(output.out, "{line}")?;
        }
        writeln!(output.out, "{}", self.sum(tally))?;
        Ok(())
    }

    /// `120 decisions: 2 gained, 1 lost, …`.
    pub(crate) fn sum(&self, tally: &Tally) -> String {
        let mut sum = format!(
            "{} of {}: {} gained, {} lost, {} refused otherwise, {} not decided, {} the same",
            decisions_word(tally.decisions),
            tally.period(),
            self.count(Kind::Gained),
            self.count(Kind::Lost),
            self.count(Kind::Otherwise),
            self.count(Kind::Undecided),
            self.same,
        );
        if self.unjudged > 0 {
            sum.push_str(&format!(", {} that no rule was asked about", self.unjudged));
        }
        sum
    }

    fn machines(&self, tally: &Tally) -> Value {
        let change = |((kind, label), group): (&(Kind, String), &Group)| {
            json!({
                "change": kind.word(),
                "operation": label,
                "count": group.count,
                "first": group.first.machines(),
            })
        };
        json!({
            "log": tally.machines(),
            "same": self.same,
            "unjudged": self.unjudged,
            "changes": self.groups.iter().map(change).collect::<Vec<_>>(),
        })
    }
}

fn decisions_word(count: u64) -> String {
    if count == 1 { "1 decision".into() } else { format!("{count} decisions") }
}

/// The operation as the new rules name it, or else the line that it had.
fn label(rules: &Rules, decision: &Decision) -> String {
    match (operation_of(rules, decision), &decision.rule) {
        (Some(operation), _) => format!("{}: {}", operation.api, operation.key),
        (None, Some(rule)) => format!("no line now; {} then", neutralise(rule)),
        (None, None) => "no line".into(),
    }
}

impl First {
    fn of(decision: &Decision, replayed: &Replayed, now: Option<u16>) -> Self {
        let path = decision.path.as_deref().unwrap_or("…");
        First {
            request: neutralise(&decision.request),
            caller: match &decision.who {
                Who::Known(facts) => neutralise(&facts.caller),
                Who::Nobody => "anyone".into(),
                Who::NotRecorded => "somebody".into(),
            },
            target: neutralise(&format!("{} {}{path}", decision.method, decision.host)),
            was: decision.status,
            now,
            why: why(replayed),
        }
    }

    fn words(&self) -> String {
        let First { request, caller, target, was, why, .. } = self;
        let now = self.now.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
        format!("first {request}: {target} by {caller}, was {was}, now {now}: {why}")
    }

    fn machines(&self) -> Value {
        json!({
            "request": self.request, "caller": self.caller, "target": self.target,
            "was": self.was, "now": self.now, "why": self.why,
        })
    }
}

fn why(replayed: &Replayed) -> String {
    match replayed {
        Replayed::Verdict(Verdict::Allow { rule, .. }) => format!("forwarded by {rule}"),
        Replayed::Verdict(Verdict::Deny(denial)) => format!("{} ({})", denial.reason, denial.rule),
        Replayed::Verdict(Verdict::NeedsBody) => "the body is not in the record".into(),
        Replayed::Verdict(Verdict::NeedsOwner) => "the object's owner is not in the record".into(),
        Replayed::Unrouted(405) => "the path is there for other methods".into(),
        Replayed::Unrouted(_) => "no open line owns the path".into(),
        Replayed::Unauthenticated => "a token is asked for".into(),
        Replayed::ObjectForeign => "the object is another's, or not there".into(),
        Replayed::NotRecorded(missing) => format!("{missing} is not in the record"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::testing::{captured, clock, fixture, golden};
    use super::*;

    /// Writes a log beside nothing else and replays it.
    fn replayed(config: &str, lines: &[String], json: bool) -> (Exit, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("x.log");
        std::fs::write(&log, lines.join("\n")).unwrap();
        let with = fixture(config);
        let arguments = Arguments { log, with, dev: false, json };
        let (exit, out, err) = captured(|output| run(&arguments, &clock(), output));
        (exit, out.replace(&*folder.path().to_string_lossy(), ""), err)
    }

    pub(super) fn line(status: u16, target: &str, facts: Value) -> String {
        let (stage, decision) =
            if status == 200 { ("forward", "allow") } else { ("authorize", "deny") };
        let mut record = json!({
            "at": "2026-11-24T00:00:00.123Z", "event": "request", "request": "r_1",
            "decision": decision, "status": status, "stage": stage, "method": "GET",
            "target": format!("api.pay.example{target}"), "caller": facts["caller"].as_str().unwrap_or("user:alice"),
            "rule": "portcullis.toml:29.1", "ip": "10.0.0.7", "asked": 1_795_478_400,
        });
        // A record leaves out what it does not know.
        if !facts.is_null() {
            record["facts"] = facts;
        }
        record.to_string()
    }

    fn alice(scopes: &str) -> Value {
        json!({ "caller": "user:alice", "scopes": scopes, "attributes": { "account": "a1" } })
    }

    const PAYMENTS: &str = "/v1/accounts/a1/payments";

    #[test]
    fn the_same_rules_change_nothing_and_exit_0() {
        let lines = [line(200, PAYMENTS, alice("payments:read")), line(403, PAYMENTS, alice(""))];
        let (exit, out, err) = replayed("complete.toml", &lines, false);
        assert_eq!((exit, err.as_str()), (Exit::Fine, ""), "{out}");
        assert!(out.contains("2 decisions") && out.contains("2 the same"), "{out}");
    }

    #[test]
    fn changes_are_grouped_and_exit_1() {
        let lines = [
            line(200, PAYMENTS, alice("")),
            line(200, PAYMENTS, alice("")),
            line(403, PAYMENTS, alice("payments:read")),
            line(200, "/v1/gone/a", alice("")),
            line(200, PAYMENTS, Value::Null),
            "not a record".to_owned(),
        ];
        let (exit, out, err) = replayed("complete.toml", &lines, false);
        assert_eq!((exit, err.as_str()), (Exit::Found, ""), "{out}");
        golden("replay.txt", &out);
        let (exit, out, _) = replayed("complete.toml", &lines, true);
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((exit, &answer["log"]["skipped"]), (Exit::Found, &json!(1)));
        let kinds: Vec<&Value> =
            answer["changes"].as_array().unwrap().iter().map(|change| &change["change"]).collect();
        assert_eq!(kinds, ["gained", "lost", "lost", "not decided"]);
        assert_eq!(answer["changes"][1]["first"]["now"], 404);
    }

    #[test]
    fn what_comes_from_a_log_is_harmless_on_a_terminal() {
        let facts = json!({ "caller": "user:\u{1b}[31m\u{202e}x" });
        let text = line(200, "/v1/gone", facts).replace("r_1", "r_\\u001b[2J");
        let (exit, out, _) = replayed("complete.toml", &[text], false);
        assert_eq!(exit, Exit::Found);
        assert!(!out.chars().any(|c| c == '\u{1b}' || c == '\u{202e}'), "{out:?}");
    }

    #[test]
    fn a_log_that_is_none_and_a_bad_file_exit_2() {
        let (exit, _, err) = replayed("complete.toml", &["hello".to_owned()], false);
        assert!(exit == Exit::Misuse && err.contains("JSON"), "{err}");
        let (exit, _, err) = replayed("unknown_key.toml", &[], false);
        assert!(exit == Exit::Misuse && err.contains("UnknownKey"), "{err}");
        let (log, with) = (fixture("nowhere.log"), fixture("complete.toml"));
        let arguments = Arguments { log, with, dev: false, json: false };
        let (exit, _, err) = captured(|output| run(&arguments, &clock(), output));
        assert!(exit == Exit::Misuse && err.contains("nowhere.log"), "{err}");
        assert_eq!(replayed("complete.toml", &[], false).0, Exit::Fine);
    }
}
