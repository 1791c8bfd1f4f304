//! Secrets never stand in the file: `{ file = … }` or `{ env = … }`.
//!
//! What is read here is moved straight into a [`Secret`]; no fault repeats a byte of it.

use portcullis_core::secret::Secret;

use super::known;
use super::reader::{Reading, Section, Value};

/// Reads a secret from where its value says that it is. The end of the last line is cut off.
pub(crate) fn secret(
    reading: &mut Reading<'_>,
    value: &Value<'_>,
    what: &str,
) -> Option<Secret<Vec<u8>>> {
    if value.get_ref().is_str() {
        reading.mask(value.span());
        let message = format!("`{what}` stands in the file");
        let remedy = format!("write `{what} = {{ file = \"…\" }}` or `{{ env = \"…\" }}`");
        reading.fault("SecretInFile", value.span(), message, remedy);
        return None;
    }
    let section = Section::open(reading, value, &known::SECRET)?;
    let file = section.text(reading, "file");
    let variable = section.text(reading, "env");
    match (file, variable) {
        (Some(path), None) => reading.load(&path).map(|bytes| Secret::new(trimmed(bytes))),
        (None, Some(name)) => {
            reading.variable(&name).map(|text| Secret::new(trimmed(text.into_bytes())))
        }
        (Some(_), Some(_)) => {
            let message = format!("`{what}` names both a file and a variable");
            reading.fault("SecretTwice", value.span(), message, "keep one of the two");
            None
        }
        (None, None) => {
            section.missing(reading, "file", "file = \"…\"");
            None
        }
    }
}

fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    bytes
}
