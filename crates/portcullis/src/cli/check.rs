//! `check`: the access matrix, and every gap with line and caret. Run it in CI: 0 without gaps,
//! 1 with, 2 when the file has an error. It never opens the store, a socket or the data directory.

use std::path::PathBuf;

use comfy_table::{Table, presets};
use portcullis_core::time::Clock;
use portcullis_policy::coverage::{self, Row};
use serde_json::json;

use super::report::{Exit, Output, counted, fault_json, show_rejected};
use crate::config::{self, Api, Config, Purpose, Rejected};

/// Arguments of `check`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The config
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "portcullis.toml")]
    pub config: PathBuf,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// Runs `check`.
///
/// # Errors
/// Only what writing the answer says.
pub(crate) fn run(
    arguments: &Arguments,
    clock: &dyn Clock,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let read = config::read(&arguments.config, clock.now(), Purpose::Serve);
    match (read, arguments.json) {
        (Ok(config), false) => people(&config, output),
        (Ok(config), true) => machines(&config, output),
        (Err(rejected), false) => Ok(show_rejected(output, &rejected)?),
        (Err(rejected), true) => refused(&rejected, output),
    }
}

fn people(config: &Config, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let rows = coverage::matrix(&config.rules);
    for api in &config.apis {
        let of_api: Vec<&Row> = rows.iter().filter(|row| *row.api == *api.name).collect();
        writeln!(output.out, "{}", heading(api))?;
        writeln!(output.out, "{}\n", table(&of_api))?;
    }
    let gaps = config.gaps();
    if !gaps.is_empty() {
        writeln!(output.out, "{}", config::render(&gaps, &config.sources, output.colour))?;
    }
    let operations = counted(rows.len(), "operation");
    if gaps.is_empty() {
        writeln!(output.out, "{operations}, no gap")?;
        return Ok(Exit::Fine);
    }
    writeln!(output.out, "{operations}, {}", counted(gaps.len(), "gap"))?;
    Ok(Exit::Found)
}

fn heading(api: &Api) -> String {
    format!("api {}: {} -> {}", api.name, api.at, api.upstream)
}

/// The matrix of an API, columns that say nothing for all of its lines left out.
fn table(rows: &[&Row]) -> String {
    type Column = (&'static str, fn(&Row) -> &str);
    let columns: [Column; 8] = [
        ("operation", |row| &row.operation),
        ("anyone", |row| &row.anyone),
        ("user", |row| &row.user),
        ("service", |row| &row.service),
        ("also", |row| &row.named),
        ("scope", |row| &row.scope),
        ("limit", |row| &row.limit),
        ("condition", |row| &row.condition),
    ];
    let spoken: Vec<&Column> =
        columns.iter().filter(|column| rows.iter().any(|row| !column.1(row).is_empty())).collect();
    if spoken.is_empty() {
        return "  no line: nothing is open".into();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(spoken.iter().map(|column| column.0));
    for row in rows {
        table.add_row(spoken.iter().map(|column| match column.1(row) {
            "" => "-",
            text => text,
        }));
    }
    let lines: Vec<String> = table.lines().map(|line| format!(" {}", line.trim_end())).collect();
    lines.join("\n")
}

fn machines(config: &Config, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let gaps = config.gaps();
    let answer = json!({
        "file": &*config.file,
        "matrix": coverage::matrix(&config.rules),
        "errors": [],
        "gaps": gaps.iter().map(|gap| fault_json(gap, &config.sources)).collect::<Vec<_>>(),
    });
    writeln!(output.out, "{answer:#}")?;
    Ok(if gaps.is_empty() { Exit::Fine } else { Exit::Found })
}

fn refused(rejected: &Rejected, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let errors = rejected.faults.iter().map(|fault| fault_json(fault, &rejected.sources));
    let answer = json!({ "errors": errors.collect::<Vec<_>>() });
    writeln!(output.out, "{answer:#}")?;
    Ok(Exit::Misuse)
}

#[cfg(test)]
mod tests {
    use super::super::report::testing::{captured, clock, fixture, golden};
    use super::*;

    fn check(name: &str, json: bool) -> (Exit, String, String) {
        let arguments = Arguments { config: fixture(name), json };
        captured(|output| run(&arguments, &clock(), output))
    }

    #[test]
    fn the_matrix_is_aligned_and_no_gap_exits_0() {
        let (exit, out, err) = check("complete.toml", false);
        assert_eq!((exit, err.as_str()), (Exit::Fine, ""));
        golden("check.txt", &out);
    }

    #[test]
    fn a_gap_is_shown_with_its_caret_and_exits_1() {
        let (exit, out, err) = check("gap_review_pending.toml", false);
        assert_eq!((exit, err.as_str()), (Exit::Found, ""));
        golden("check_gap.txt", &out);
    }

    #[test]
    fn an_error_in_the_file_exits_2_and_says_nothing_else() {
        let (exit, out, err) = check("missing_waivers.toml", false);
        assert_eq!((exit, out.as_str()), (Exit::Misuse, ""));
        assert!(err.contains("WaiverMissing") && err.contains("error in the file"), "{err}");
    }

    #[test]
    fn a_file_that_is_not_there_exits_2() {
        let (exit, _, err) = check("nowhere.toml", false);
        assert!(exit == Exit::Misuse && err.contains("portcullis init"), "{err}");
    }

    #[test]
    fn json_carries_matrix_gaps_and_errors() {
        let answer = |name: &str| -> (Exit, serde_json::Value) {
            let (exit, out, _) = check(name, true);
            (exit, serde_json::from_str(&out).unwrap())
        };
        let (exit, fine) = answer("complete.toml");
        assert_eq!(exit, Exit::Fine);
        assert_eq!(fine["matrix"].as_array().unwrap().len(), 4);
        assert_eq!(fine["matrix"][0]["anyone"], "yes");
        let (exit, gap) = answer("gap_review_pending.toml");
        assert_eq!(exit, Exit::Found);
        assert_eq!(gap["gaps"][0]["rule"], "ReviewPending");
        assert_eq!((&gap["gaps"][0]["line"], &gap["gaps"][0]["column"]), (&25.into(), &26.into()));
        let (exit, error) = answer("unknown_key.toml");
        assert_eq!((exit, &error["errors"][0]["rule"]), (Exit::Misuse, &"UnknownKey".into()));
    }
}
