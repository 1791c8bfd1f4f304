//! `[limits]`: named rates in words, and the four names that are always there.

use std::collections::HashMap;
use std::sync::Arc;

use portcullis_core::limit::Limit;

use super::identity::named;
use super::reader::{Entry, Reading, Section};

/// Most named limits.
const MAX_LIMITS: usize = 256;

/// A limit that exists unless the file says otherwise: its name, its words, and why.
pub(crate) struct BuiltIn {
    /// Its name in `[limits]`.
    pub(crate) name: &'static str,
    /// Its words.
    pub(crate) words: &'static str,
    /// Whether lines may name it; the others are charged before any line is known.
    pub(crate) on_lines: OnLines,
}

/// Whether an access line may name a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnLines {
    /// A line's limit.
    Yes,
    /// The server's own.
    No,
}

/// The four. `peer` is high enough that only a flood meets it: an office or a carrier behind one
/// address stays far below 100 requests a second. `failed_authentication` is the budget of wrong
/// credentials, shared by the gateway and the login.
pub(crate) static BUILT_IN: [BuiltIn; 4] = [
    BuiltIn { name: "default", words: "300/min per caller", on_lines: OnLines::Yes },
    BuiltIn { name: "anonymous", words: "60/min per ip", on_lines: OnLines::Yes },
    BuiltIn {
        name: "failed_authentication",
        words: "20/min per ip, burst 20",
        on_lines: OnLines::No,
    },
    BuiltIn { name: "peer", words: "6000/min per ip, burst 1000", on_lines: OnLines::No },
];

/// Reads `[limits]`, and adds the built-in ones that it does not name.
pub(crate) fn read(reading: &mut Reading<'_>, root: &Section<'_>) -> HashMap<Arc<str>, Arc<Limit>> {
    let mut limits = HashMap::new();
    for built_in in &BUILT_IN {
        let limit = Limit::parse(built_in.words).expect("the words above are read by a test");
        limits.insert(built_in.name.into(), Arc::new(limit));
    }
    let Some(value) = root.value("limits") else { return limits };
    let Some(section) = Section::open_names(reading, value, "limits") else { return limits };
    if section.entries().len() > MAX_LIMITS {
        let message = format!("more than {MAX_LIMITS} limits");
        reading.fault("ListTooLong", section.span.clone(), message, "share them between lines");
        return limits;
    }
    for entry in section.entries() {
        if let Some(limit) = limit(reading, entry) {
            limits.insert(entry.name.into(), Arc::new(limit));
        }
    }
    limits
}

fn limit(reading: &mut Reading<'_>, entry: &Entry<'_>) -> Option<Limit> {
    let fits = named(reading, entry.name, entry.span.clone());
    let words = reading.string(entry.value, entry.name)?;
    if entry.name == "none" {
        let remedy = "choose another name: on a line, `limit = \"none\"` means no limit";
        reading.fault("NameTaken", entry.span.clone(), "`none` cannot name a limit", remedy);
        return None;
    }
    let limit = match Limit::parse(&words.value) {
        Ok(limit) => limit,
        Err(malformed) => {
            let span = reading.within(&words, malformed.at.clone());
            let later = malformed.message.contains("not built yet");
            let rule = if later { "NotBuiltYet" } else { "LimitMalformed" };
            reading.fault(rule, span, malformed.message, malformed.remedy);
            return None;
        }
    };
    // These are charged before anybody is known; a user or a client can't be counted there.
    let early = matches!(entry.name, "anonymous" | "failed_authentication" | "peer");
    if early && limit.needs_identity() {
        let message = format!("`{}` is charged before anybody is known", entry.name);
        let remedy = "count `per ip` or `per prefix`";
        reading.fault("IdentityLimitOnAnyone", words.place.bytes, message, remedy);
        return None;
    }
    fits.then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_words_are_read_and_count_nobody_unknown() {
        for built_in in &BUILT_IN {
            let limit = Limit::parse(built_in.words).unwrap();
            assert!(!limit.needs_identity(), "{}", built_in.name);
        }
    }
}
