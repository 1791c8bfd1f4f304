//! A fault: something wrong in the operator's file, said so that a person can mend it.
//!
//! The binary reads TOML and renders faults with line and caret; the policy crate finds most of
//! them. Both share these words. Nothing here renders or reads files.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Where something stands: the file's name as the operator gave it, and a byte range in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the operator named it.
    pub file: Arc<str>,
    /// Byte offsets into the file's text, start inclusive, end exclusive.
    pub bytes: Range<usize>,
}

/// A value together with the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

impl<T> Placed<T> {
    /// Pairs a value with its place.
    pub fn new(value: T, place: Place) -> Self {
        Placed { value, place }
    }
}

/// Whether a fault refuses the load (`Error`) or leaves something open that `check` must name
/// (`Gap`): errors block, gaps warn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be loaded.
    Error,
    /// The file loads; `check` exits 1.
    Gap,
}

/// One thing wrong in the operator's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The rule broken, in the words of the design: `UnknownKey`, `ShapeTwice`, `ObjectUnbound` …
    pub rule: &'static str,
    /// Error or gap.
    pub severity: Severity,
    /// Where, if it stands anywhere (a missing thing points at where it would belong).
    pub place: Option<Place>,
    /// What is wrong: lower case, no full stop, the operator's words in backticks.
    pub message: String,
    /// What to do about it, in the same style.
    pub remedy: String,
}

impl Fault {
    /// An error at a place.
    pub fn error(rule: &'static str, place: Place, message: String, remedy: String) -> Self {
        Fault { rule, severity: Severity::Error, place: Some(place), message, remedy }
    }

    /// A gap at a place.
    pub fn gap(rule: &'static str, place: Place, message: String, remedy: String) -> Self {
        Fault { rule, severity: Severity::Gap, place: Some(place), message, remedy }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.rule, self.message, self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_rule_message_and_remedy() {
        let place = Place { file: "portcullis.toml".into(), bytes: 3..9 };
        let error =
            Fault::error("UnknownKey", place.clone(), "`pots`".into(), "write `port`".into());
        assert_eq!(error.to_string(), "UnknownKey: `pots`; write `port`");
        assert_eq!((error.severity, error.place), (Severity::Error, Some(place.clone())));
        let gap = Fault::gap("OperationUnruled", place, "a".into(), "b".into());
        assert_eq!(gap.severity, Severity::Gap);
        assert!(Severity::Error < Severity::Gap, "sorted, errors come first");
    }
}
