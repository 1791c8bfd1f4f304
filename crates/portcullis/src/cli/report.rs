//! How commands speak: one place for streams, colour and exit codes.
//!
//! Output is for people unless `--json` is asked for; the answer goes to standard output, what went
//! wrong with the question to standard error.

use std::io::{self, Write};
use std::process::ExitCode;

use portcullis_core::fault::{Fault, Severity};
use serde_json::{Value, json};

use crate::config::{Colour, Rejected, Sources, position};

/// What a command came to (`1-product`, exit codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: fine.
    Fine,
    /// 1: found something: a gap, a refusal.
    Found,
    /// 2: wrong use: a bad file, a bad argument.
    Misuse,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        match exit {
            Exit::Fine => ExitCode::SUCCESS,
            Exit::Found => ExitCode::from(1),
            Exit::Misuse => ExitCode::from(2),
        }
    }
}

/// Where a command writes.
pub(crate) struct Output<'o> {
    /// The answer.
    pub out: &'o mut dyn Write,
    /// What was wrong with the question.
    pub err: &'o mut dyn Write,
    /// Whether `err` and `out` are a terminal that shows colours.
    pub colour: Colour,
}

/// Shows why a file was refused.
pub(crate) fn show_rejected(output: &mut Output<'_>, rejected: &Rejected) -> io::Result<Exit> {
    writeln!(output.err, "{}", rejected.render(output.colour))?;
    let errors = rejected.faults.len();
    writeln!(output.err, "{} in the file; nothing was loaded", counted(errors, "error"))?;
    Ok(Exit::Misuse)
}

/// `1 gap`, `3 gaps`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A fault for machines: rule, severity, file, line and column from 1, message, remedy.
pub(crate) fn fault_json(fault: &Fault, sources: &Sources) -> Value {
    let located = fault.place.as_ref().map(|place| {
        let text = sources.text(&place.file).unwrap_or_default();
        (&place.file, position(text, place.bytes.start))
    });
    json!({
        "rule": fault.rule,
        "severity": match fault.severity { Severity::Error => "error", Severity::Gap => "gap" },
        "file": located.as_ref().map(|(file, _)| file.to_string()),
        "line": located.as_ref().map(|(_, (line, _))| *line),
        "column": located.as_ref().map(|(_, (_, column))| *column),
        "message": fault.message,
        "remedy": fault.remedy,
    })
}

#[cfg(test)]
pub(crate) mod testing {
    use std::path::{Path, PathBuf};

    use portcullis_core::time::{FrozenClock, Timestamp};

    use super::*;

    /// The day on which golden files are judged.
    pub(crate) fn clock() -> FrozenClock {
        FrozenClock::at(Timestamp::parse("2026-11-24").expect("a date"))
    }

    /// A config of the golden files.
    pub(crate) fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config").join(name)
    }

    /// Compares a text with a golden file of `tests/golden/cli`, or rewrites it; the folder of the
    /// fixtures is cut out of the text, so that it is the same on every machine.
    pub(crate) fn golden(name: &str, text: &str) {
        let folder = format!("{}/", fixture("").display().to_string().trim_end_matches('/'));
        let text = text.replace(&folder, "");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli").join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, text).expect("a golden file can be written");
        } else {
            let expected = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(text, expected, "{} (UPDATE_GOLDEN=1 rewrites it)", file.display());
        }
    }

    /// Runs a command with its output captured: exit, standard output, standard error.
    pub(crate) fn captured(
        run: impl FnOnce(&mut Output<'_>) -> anyhow::Result<Exit>,
    ) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output { out: &mut out, err: &mut err, colour: Colour::Never };
        let exit = run(&mut output).expect("the command ends");
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        (exit, text(out), text(err))
    }
}
