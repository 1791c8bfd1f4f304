//! The spanned reader: TOML values with their places, every fault collected, none hidden by the
//! one before. The tables' own readers (`server`, `identity`, `clients`, `limits`, `api`,
//! `access`) ask it for keys; it refuses wrong types, unknown keys and keys that are not built.
//!
//! It knows nothing of what a value means.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_core::fault::{Fault, Place, Placed};
use portcullis_core::time::Timestamp;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::known::{State, Table};
use super::loader::Sources;
use super::render::position;
use super::{Purpose, Surroundings};

/// A TOML value with its span.
pub(crate) type Value<'t> = Spanned<DeValue<'t>>;

/// Longest text of one value, in bytes: a condition has 2 KiB, nothing else as much.
pub(crate) const MAX_TEXT_BYTES: usize = 4 * 1024;
/// Most texts in a list.
pub(crate) const MAX_LIST: usize = 1_000;

/// One reading of one file: what is found wrong, and what was read besides the file.
pub(crate) struct Reading<'r> {
    /// The file's name as the operator gave it.
    pub(crate) file: Arc<str>,
    /// What surrounds the file.
    pub(crate) surroundings: &'r Surroundings<'r>,
    /// Everything wrong so far.
    pub(crate) faults: Vec<Fault>,
    /// The texts that faults point into.
    pub(crate) sources: Sources,
    /// Files read besides this one.
    pub(crate) watched: Vec<PathBuf>,
    text: &'r str,
    folder: PathBuf,
}

/// Whether a text may be `{ env = "NAME" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Environment {
    /// Hosts, upstreams and redirects.
    Allowed,
    /// Everything else; above all, nothing inside `access` depends on the machine.
    Refused,
}

impl<'r> Reading<'r> {
    /// Starts reading a text; paths in it are relative to the file's folder.
    pub(crate) fn new(file: &str, text: &'r str, surroundings: &'r Surroundings<'r>) -> Self {
        let file: Arc<str> = file.into();
        let mut sources = Sources::default();
        sources.insert(file.clone(), text.into());
        let folder = Path::new(&*file).parent().map(Path::to_path_buf).unwrap_or_default();
        let (faults, watched) = (Vec::new(), Vec::new());
        Reading { file, surroundings, faults, sources, watched, text, folder }
    }

    /// When the file is judged.
    pub(crate) fn now(&self) -> Timestamp {
        self.surroundings.now
    }

    /// Whether `serve --dev` reads it.
    pub(crate) fn for_a_laptop(&self) -> bool {
        self.surroundings.purpose == Purpose::Dev
    }

    /// The place of a span.
    pub(crate) fn place(&self, bytes: Range<usize>) -> Place {
        Place { file: self.file.clone(), bytes }
    }

    /// The line of a byte offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        position(self.text, offset).0
    }

    /// Notes an error.
    pub(crate) fn fault(
        &mut self,
        rule: &'static str,
        bytes: Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let place = self.place(bytes);
        self.faults.push(Fault::error(rule, place, message.into(), remedy.into()));
    }

    /// Notes that something is designed, not built yet.
    pub(crate) fn later(&mut self, bytes: Range<usize>, what: &str, instead: &str) {
        let message = format!("`{what}` is designed, not built yet");
        self.fault("NotBuiltYet", bytes, message, instead);
    }

    /// Hides a range from every rendering: what looks like a secret is not repeated in a log.
    pub(crate) fn mask(&mut self, bytes: Range<usize>) {
        let shown = self.sources.text(&self.file).unwrap_or_default();
        let hidden: String =
            shown.get(bytes.clone()).unwrap_or_default().bytes().map(|_| '*').collect();
        let (Some(before), Some(after)) = (shown.get(..bytes.start), shown.get(bytes.end..)) else {
            return;
        };
        let masked = format!("{before}{hidden}{after}");
        self.sources.insert(self.file.clone(), masked.into());
    }

    /// A path of the file, relative to its folder.
    pub(crate) fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    /// The bytes of a file that the config names.
    pub(crate) fn load(&mut self, path: &Placed<String>) -> Option<Vec<u8>> {
        let full = self.path(&path.value);
        let loaded = self.surroundings.loader.file(&full);
        self.watched.push(full);
        match loaded {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let message = format!("cannot read `{}`: {error}", path.value);
                let remedy = "paths are relative to the folder of this file";
                self.fault("FileUnreadable", path.place.bytes.clone(), message, remedy);
                None
            }
        }
    }

    /// The place of a range within a text, or the whole of it when escapes make that unsure.
    pub(crate) fn within(&self, placed: &Placed<String>, range: Range<usize>) -> Range<usize> {
        let whole = placed.place.bytes.clone();
        let start = whole.start + 1;
        let verbatim = self.text.get(start..whole.end.saturating_sub(1)) == Some(&*placed.value);
        if verbatim { start + range.start..start + range.end } else { whole }
    }

    /// A text in quotes.
    pub(crate) fn string(&mut self, value: &Value<'_>, what: &str) -> Option<Placed<String>> {
        let DeValue::String(text) = value.get_ref() else {
            let remedy = format!("write `{what} = \"…\"`");
            self.wrong_type(value, what, "a text in quotes", remedy);
            return None;
        };
        if text.len() > MAX_TEXT_BYTES {
            let message = format!("`{what}` is longer than {MAX_TEXT_BYTES} bytes");
            self.fault("TextTooLong", value.span(), message, "write it shorter");
            return None;
        }
        Some(Placed::new(text.to_string(), self.place(value.span())))
    }

    /// A text, or the variable that holds it.
    pub(crate) fn string_or_variable(
        &mut self,
        value: &Value<'_>,
        what: &str,
    ) -> Option<Placed<String>> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.string(value, what);
        };
        let named = table.iter().find(|(key, _)| key.get_ref() == "env").map(|(_, value)| value);
        let Some(named) = named.filter(|_| table.len() == 1) else {
            let remedy = format!("write `{what} = \"…\"` or `{what} = {{ env = \"NAME\" }}`");
            self.wrong_type(value, what, "a text or `{ env = … }`", remedy);
            return None;
        };
        let name = self.string(named, "env")?;
        self.variable(&name).map(|value| Placed::new(value, name.place))
    }

    /// The value of a variable of the environment.
    pub(crate) fn variable(&mut self, name: &Placed<String>) -> Option<String> {
        let value = self.surroundings.loader.variable(&name.value).filter(|v| !v.is_empty());
        if value.is_none() {
            let message = format!("the environment has no variable `{}`", name.value);
            let remedy = "set it before starting, or write the value here";
            self.fault("VariableMissing", name.place.bytes.clone(), message, remedy);
        }
        value
    }

    /// One text or a list of them.
    pub(crate) fn strings(
        &mut self,
        value: &Value<'_>,
        what: &str,
        environment: Environment,
    ) -> Vec<Placed<String>> {
        let mut one = |value: &Value<'_>| match environment {
            Environment::Allowed => self.string_or_variable(value, what),
            Environment::Refused => self.string(value, what),
        };
        let DeValue::Array(array) = value.get_ref() else {
            return one(value).into_iter().collect();
        };
        if array.len() > MAX_LIST {
            let message = format!("`{what}` lists more than {MAX_LIST} values");
            self.fault("ListTooLong", value.span(), message, "write fewer");
            return Vec::new();
        }
        array.iter().filter_map(one).collect()
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, value: &Value<'_>, what: &str) -> bool {
        if let DeValue::Boolean(flag) = value.get_ref() {
            return *flag;
        }
        let remedy = format!("write `{what} = true` or leave it out");
        self.wrong_type(value, what, "`true` or `false`", remedy);
        false
    }

    /// Notes a value of the wrong type.
    pub(crate) fn wrong_type(
        &mut self,
        value: &Value<'_>,
        what: &str,
        wanted: &str,
        remedy: String,
    ) {
        let found = kind(value.get_ref());
        let message = format!("`{what}` must be {wanted}, not {found}");
        self.fault("WrongType", value.span(), message, remedy);
    }
}

/// What a value is, for people.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Splits core's "what is wrong; what to do".
pub(crate) fn advised(words: &str) -> (&str, &str) {
    words.split_once("; ").unwrap_or((words, "write an exact `https://` address"))
}

/// One key with its value.
#[derive(Clone)]
pub(crate) struct Entry<'t> {
    /// The key.
    pub(crate) name: &'t str,
    /// Where the key stands.
    pub(crate) span: Range<usize>,
    /// Its value.
    pub(crate) value: &'t Value<'t>,
}

/// A table opened for reading, its keys in the order written.
pub(crate) struct Section<'t> {
    /// What messages point at when a key is missing.
    pub(crate) span: Range<usize>,
    entries: Vec<Entry<'t>>,
}

impl<'t> Section<'t> {
    /// Opens a table whose keys are fixed, and judges their names.
    pub(crate) fn open(
        reading: &mut Reading<'_>,
        value: &'t Value<'t>,
        table: &'static Table,
    ) -> Option<Section<'t>> {
        let section = Section::open_names(reading, value, table.name)?;
        section.judge_names(reading, table);
        Some(section)
    }

    /// Opens a table whose keys are names that the operator chose.
    pub(crate) fn open_names(
        reading: &mut Reading<'_>,
        value: &'t Value<'t>,
        what: &str,
    ) -> Option<Section<'t>> {
        let DeValue::Table(table) = value.get_ref() else {
            let remedy = "write a table, `{ key = value, … }`".into();
            reading.wrong_type(value, what.trim_matches('`'), "a table", remedy);
            return None;
        };
        Some(Section::of(table, value.span()))
    }

    /// The entries of a table in the order written: the library sorts them by name.
    pub(crate) fn of(table: &'t DeTable<'t>, span: Range<usize>) -> Section<'t> {
        let mut entries: Vec<Entry<'t>> = table
            .iter()
            .map(|(key, value)| Entry { name: key.get_ref(), span: key.span(), value })
            .collect();
        entries.sort_by_key(|entry| entry.span.start);
        Section { span, entries }
    }

    /// Refuses unknown keys, and those that are not built.
    pub(crate) fn judge_names(&self, reading: &mut Reading<'_>, table: &'static Table) {
        for entry in &self.entries {
            match table.find(entry.name).map(|key| key.1) {
                Some(State::Built) => {}
                Some(State::Later(instead)) => {
                    // `store = "postgres://user:password@…"` is refused without repeating it.
                    if entry.value.get_ref().as_str().is_some_and(|text| text.contains('@')) {
                        reading.mask(entry.value.span());
                    }
                    reading.later(entry.span.clone(), entry.name, instead);
                }
                None => {
                    let message = format!("unknown key `{}` in {}", entry.name, table.name);
                    let remedy = table.suggest(entry.name);
                    reading.fault("UnknownKey", entry.span.clone(), message, remedy);
                }
            }
        }
    }

    /// All entries.
    pub(crate) fn entries(&self) -> &[Entry<'t>] {
        &self.entries
    }

    /// One entry.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry<'t>> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The value of a key.
    pub(crate) fn value(&self, name: &str) -> Option<&'t Value<'t>> {
        self.entry(name).map(|entry| entry.value)
    }

    /// The text of a key, if it is written.
    pub(crate) fn text(&self, reading: &mut Reading<'_>, name: &str) -> Option<Placed<String>> {
        reading.string(self.value(name)?, name)
    }

    /// The text of a key, or of the variable that it names.
    pub(crate) fn text_or_variable(
        &self,
        reading: &mut Reading<'_>,
        name: &str,
    ) -> Option<Placed<String>> {
        reading.string_or_variable(self.value(name)?, name)
    }

    /// The texts of a key: one or a list; none when it is not written.
    pub(crate) fn texts(&self, reading: &mut Reading<'_>, name: &str) -> Vec<Placed<String>> {
        let value = self.value(name);
        value.map(|value| reading.strings(value, name, Environment::Refused)).unwrap_or_default()
    }

    /// Notes that a key is missing.
    pub(crate) fn missing(&self, reading: &mut Reading<'_>, name: &str, example: &str) {
        let message = format!("`{name}` is missing");
        reading.fault("KeyMissing", self.span.clone(), message, format!("add `{example}`"));
    }
}
