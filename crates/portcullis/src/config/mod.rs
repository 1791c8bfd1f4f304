//! The config: one TOML file, read whole or refused whole.
//!
//! A file becomes a [`Config`] in four steps: TOML with spans; each table by its own reader, which
//! collects every fault and goes on; what no table sees alone (`compose`: the issuer's own origin,
//! the hosts that need a certificate); the rules, compiled by the policy crate. One fault refuses
//! the file, and a person sees them all at once, each with line, caret and remedy. Gaps are found
//! afterwards (`check`), they do not refuse.
//!
//! Nothing here opens the store, a socket or a data directory: `check` runs anywhere.

pub(crate) mod known;
mod words;
mod loader;
mod render;
mod reader;
mod secrets;
mod settings;
mod server;
mod identity;
mod opened;
mod issuers;
mod clients;
mod limits;
mod policy;
mod api;
mod access;
mod compose;
mod dev;
#[cfg(test)]
mod golden;

pub(crate) use dev::dev;
#[cfg(test)]
pub(crate) use loader::Memory;
pub(crate) use loader::{Disk, Loader, Sources};
pub(crate) use render::{Colour, position, render};
pub(crate) use settings::{Api, Config, Server, Tls};

use std::path::Path;

use portcullis_core::fault::Fault;
use portcullis_core::time::Timestamp;
use toml::de::DeTable;

use reader::{Reading, Section};

/// Largest config, in bytes: 5,000 access lines have room.
pub(crate) const MAX_CONFIG_BYTES: usize = 4 * 1024 * 1024;

/// What surrounds a file while it is read.
pub(crate) struct Surroundings<'s> {
    /// Other files, and the environment.
    pub loader: &'s dyn Loader,
    /// When the file is judged: dates of waivers and lines.
    pub now: Timestamp,
    /// What it is read for.
    pub purpose: Purpose,
}

/// What a file is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Service, and every command that judges it.
    Serve,
    /// `serve --dev`: `http://localhost:*` is allowed in redirects and `browsers`.
    Dev,
}

/// A file that was refused: everything wrong with it, and the texts to show it in.
pub(crate) struct Rejected {
    /// Every fault.
    pub faults: Vec<Fault>,
    /// The texts that they point into.
    pub sources: Sources,
}

impl Rejected {
    /// The faults as people read them.
    pub(crate) fn render(&self, colour: Colour) -> String {
        render(&self.faults, &self.sources, colour)
    }
}

/// Reads and judges a file of the machine.
///
/// # Errors
/// Every fault of the file and of what it points at.
pub(crate) fn read(path: &Path, now: Timestamp, purpose: Purpose) -> Result<Config, Rejected> {
    let name = path.to_string_lossy();
    let refused = |message: String, remedy: &str| Rejected {
        faults: vec![Fault {
            rule: "FileUnreadable",
            severity: portcullis_core::fault::Severity::Error,
            place: None,
            message,
            remedy: remedy.into(),
        }],
        sources: Sources::default(),
    };
    let bytes = Disk.file(path).map_err(|error| {
        let remedy = "name the file with `-c FILE`, or write one with `portcullis init`";
        refused(format!("cannot read `{name}`: {error}"), remedy)
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        refused(format!("`{name}` is not UTF-8 at byte {at}"), "save the file as UTF-8")
    })?;
    parse(&name, &text, &Surroundings { loader: &Disk, now, purpose })
}

/// Reads and judges a text; `file` is how messages name it, and its folder is where paths start.
///
/// # Errors
/// Every fault of the text and of what it points at.
pub(crate) fn parse(
    file: &str,
    text: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Config, Rejected> {
    let mut reading = Reading::new(file, text, surroundings);
    if text.len() > MAX_CONFIG_BYTES {
        let message = format!("the file is larger than {MAX_CONFIG_BYTES} bytes");
        reading.fault("FileTooLarge", 0..0, message, "split the APIs over several instances");
        return Err(rejected(reading));
    }
    // Every syntax error at once; what a broken line may have hidden is not judged.
    let (document, errors) = DeTable::parse_recoverable(text);
    syntax(&mut reading, &errors);
    if !reading.faults.is_empty() {
        return Err(rejected(reading));
    }
    let root = Section::of(document.get_ref(), 0..0);
    root.judge_names(&mut reading, &known::ROOT);
    match compose::compose(&mut reading, &root) {
        Some(config) if reading.faults.is_empty() => {
            Ok(Config { sources: reading.sources, watched: reading.watched, ..config })
        }
        _ => Err(rejected(reading)),
    }
}

fn rejected(reading: Reading<'_>) -> Rejected {
    Rejected { faults: reading.faults, sources: reading.sources }
}

/// Most syntax errors shown: one unclosed bracket makes nonsense of all that follows.
const MAX_SYNTAX_FAULTS: usize = 3;

/// The first syntax error of each line, in the order of the text.
fn syntax(reading: &mut Reading<'_>, errors: &[toml::de::Error]) {
    let span = |error: &toml::de::Error| error.span().unwrap_or(0..0);
    let mut errors: Vec<&toml::de::Error> = errors.iter().collect();
    errors.sort_by_key(|error| span(error).start);
    errors.dedup_by_key(|error| reading.line(span(error).start));
    for error in errors.into_iter().take(MAX_SYNTAX_FAULTS) {
        let message = error.message().trim().replace('\n', ", ");
        if message.contains("duplicate key") {
            let remedy = "keep one of the two";
            reading.fault("KeyTwice", span(error), "this key is written twice", remedy);
        } else {
            let remedy = "see https://toml.io for the format";
            reading.fault("TomlMalformed", span(error), message, remedy);
        }
    }
}
