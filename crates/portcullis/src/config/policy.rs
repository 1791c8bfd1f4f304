//! `[policy]`: Cedar files beside the table, and what must be true of all of it.
//!
//! Reads texts with their places. Whether a policy has a type, an invariant holds or an expectation
//! is met is for the policy crate to say.

use std::path::Path;

use portcullis_core::fault::Placed;
use portcullis_policy::access::PolicyFile;

use super::known;
use super::reader::{Reading, Section};

/// Most Cedar files.
const MAX_FILES: usize = 200;

/// `[policy]`.
#[derive(Default)]
pub(crate) struct Policy {
    /// The Cedar files, by name.
    pub(crate) files: Vec<PolicyFile>,
    /// Expectations, as written.
    pub(crate) expect: Vec<Placed<String>>,
}

/// Reads the table, if it is there, and the files that it names.
pub(crate) fn read(reading: &mut Reading<'_>, root: &Section<'_>) -> Policy {
    let Some(value) = root.value("policy") else { return Policy::default() };
    let Some(section) = Section::open(reading, value, &known::POLICY) else {
        return Policy::default();
    };
    let mut files: Vec<PolicyFile> = Vec::new();
    for pattern in section.texts(reading, "policies") {
        for name in matching(reading, &pattern) {
            if files.iter().all(|known| *known.file != *name) {
                files.extend(file(reading, name, &pattern));
            }
        }
    }
    if files.len() > MAX_FILES {
        let message = format!("`policies` names {} files", files.len());
        let remedy = format!("join them: at most {MAX_FILES} are read");
        reading.fault("ListTooLong", section.span.clone(), message, remedy);
    }
    Policy { files, expect: section.texts(reading, "expect") }
}

/// The files of a name, which may have one `*` in its last part; in order.
fn matching(reading: &mut Reading<'_>, pattern: &Placed<String>) -> Vec<String> {
    let Some((before, after)) = pattern.value.split_once('*') else {
        return vec![pattern.value.clone()];
    };
    let (folder, start) = before.rsplit_once('/').map_or(("", before), |(f, s)| (f, s));
    if after.contains(['*', '/']) {
        let message = format!("`{}` is no pattern", pattern.value);
        let remedy = "write one `*`, in the file's name, as in `policies/*.cedar`";
        reading.fault("PatternMalformed", pattern.place.bytes.clone(), message, remedy);
        return Vec::new();
    }
    let listed = reading.surroundings.loader.folder(&reading.path(folder));
    let mut names: Vec<String> = listed.unwrap_or_default();
    let fits = |name: &String| {
        let inner = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(after));
        inner.is_some() && !name.starts_with('.')
    };
    names.retain(fits);
    names.sort();
    if names.is_empty() {
        let message = format!("no file fits `{}`", pattern.value);
        let remedy = "paths are relative to the folder of this file; leave `policies` out if there \
                      are none";
        reading.fault("FileUnreadable", pattern.place.bytes.clone(), message, remedy);
    }
    let whole = |name: String| match folder {
        "" => name,
        folder => Path::new(folder).join(name).to_string_lossy().into_owned(),
    };
    names.into_iter().map(whole).collect()
}

fn file(reading: &mut Reading<'_>, name: String, pattern: &Placed<String>) -> Option<PolicyFile> {
    let bytes = reading.load(&Placed::new(name.clone(), pattern.place.clone()))?;
    let Ok(text) = String::from_utf8(bytes) else {
        let message = format!("`{name}` is not UTF-8");
        reading.fault("FileUnreadable", pattern.place.bytes.clone(), message, "save it as UTF-8");
        return None;
    };
    let (file, text): (std::sync::Arc<str>, std::sync::Arc<str>) = (name.into(), text.into());
    reading.sources.insert(file.clone(), text.clone());
    Some(PolicyFile { file, text })
}
