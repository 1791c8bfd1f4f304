//! `expect`: the requests that the file speaks of, tried on its own rules. `check` tries them too; this
//! shows each one.

use std::path::PathBuf;

use portcullis_core::time::Clock;
use portcullis_policy::expect::Outcome;
use serde_json::{Value, json};

use super::explain;
use super::report::{Exit, Output, counted, show_rejected};
use crate::config::{self, Purpose};

/// Arguments of `expect`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The config
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "portcullis.toml")]
    pub config: PathBuf,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// Runs `expect`: 0 when every expectation is met, 1 when one is not.
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
    let outcomes = config.outcomes();
    if arguments.json {
        let all: Vec<Value> = outcomes.iter().map(outcome_json).collect();
        writeln!(output.out, "{:#}", json!({ "expectations": all }))?;
    } else if outcomes.is_empty() {
        writeln!(
            output.out,
            "no expectation: write some under [policy], as in `expect = [\"anyone GET payments:/rates -> 200\"]`"
        )?;
    } else {
        for outcome in &outcomes {
            let mark = if outcome.holds() { '✓' } else { '✗' };
            writeln!(output.out, "{mark} {}", outcome.text.value)?;
            if !outcome.holds() {
                for line in explain::told(&outcome.came) {
                    writeln!(output.out, "    {line}")?;
                }
            }
        }
        let met = outcomes.iter().filter(|outcome| outcome.holds()).count();
        writeln!(output.out, "{met} of {} met", counted(outcomes.len(), "expectation"))?;
    }
    Ok(if outcomes.iter().all(Outcome::holds) { Exit::Fine } else { Exit::Found })
}

fn outcome_json(outcome: &Outcome) -> Value {
    json!({
        "expectation": outcome.text.value,
        "expected": outcome.expected,
        "status": outcome.came.status,
        "holds": outcome.holds(),
        "explanation": explain::told(&outcome.came),
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::testing::{captured, clock, fixture, golden};
    use super::*;

    fn arguments(name: &str, json: bool) -> Arguments {
        Arguments { config: fixture(name), json }
    }

    #[test]
    fn each_expectation_is_met_or_explained() {
        let (exit, out, err) = captured(|output| {
            run(&arguments("gap_expectation_failed.toml", false), &clock(), output)
        });
        assert_eq!((exit, err.as_str()), (Exit::Found, ""), "{out}");
        golden("expect.txt", &out);
    }

    #[test]
    fn machines_get_the_same() {
        let (_, out, _) = captured(|output| {
            run(&arguments("gap_expectation_failed.toml", true), &clock(), output)
        });
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert!(answer["expectations"][0]["holds"].is_boolean());
    }
}
