//! `init --update`: appends lines for operations that a document gained; touches nothing else.
//!
//! The file is a person's: it is not written anew but inserted into, at the end of an API's access
//! table, and only if the result reads without an error. A line whose operation vanished is an
//! error of the file, shown as `check` shows it: what to do about it is a person's choice.

use std::path::Path;

use portcullis_core::fault::Fault;
use portcullis_core::time::Clock;
use portcullis_policy::openapi;
use toml::de::{DeTable, DeValue};

use super::init::{Arguments, aligned};
use super::report::{Exit, Output, counted, show_rejected};
use crate::config::{self, Config, Disk, Purpose, Surroundings};

/// Runs `init --update`.
///
/// # Errors
/// What writing the file or the answer says.
pub(crate) fn run(
    arguments: &Arguments,
    clock: &dyn Clock,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let config = match config::read(&arguments.config, clock.now(), Purpose::Serve) {
        Ok(config) => config,
        Err(rejected) => return Ok(show_rejected(output, &rejected)?),
    };
    let name = arguments.config.to_string_lossy();
    let text = config.sources.text(&name).unwrap_or_default().to_owned();
    let additions = additions(&config, arguments.default.as_deref());
    if additions.is_empty() {
        writeln!(output.out, "{name} has a line for every operation")?;
        return Ok(Exit::Fine);
    }
    let updated = match insert(&text, &additions) {
        Ok(updated) => updated,
        Err(wrong) => {
            writeln!(output.err, "error: {wrong}")?;
            return Ok(Exit::Misuse);
        }
    };
    let surroundings = Surroundings { loader: &Disk, now: clock.now(), purpose: Purpose::Serve };
    if let Err(rejected) = config::parse(&name, &updated, &surroundings) {
        return Ok(show_rejected(output, &rejected)?);
    }
    replace(&arguments.config, &updated)?;
    for addition in &additions {
        let lines = counted(addition.lines.len(), "line");
        writeln!(output.out, "appended {lines} to [api.{}.access]", addition.api)?;
    }
    Ok(Exit::Fine)
}

/// New lines of one API.
struct Addition {
    api: String,
    lines: Vec<(String, String)>,
}

/// The operations without a rule, as `init` would have written them.
fn additions(config: &Config, default: Option<&str>) -> Vec<Addition> {
    let gaps = config.gaps();
    let mut additions = Vec::new();
    for draft in config.api_drafts() {
        let Some(document) = &draft.document else { continue };
        let mut missing = document.value.clone();
        missing.operations.retain(|operation| {
            let key = format!("{} {}", operation.method, operation.path);
            gaps.iter().any(|gap| lacks(gap, &document.value.file, &key))
        });
        if !missing.operations.is_empty() {
            let lines = openapi::draft_lines(&missing, default);
            additions.push(Addition { api: draft.name.value.clone(), lines });
        }
    }
    additions
}

/// Whether a gap says that this operation of this document has no rule.
fn lacks(gap: &Fault, document: &str, key: &str) -> bool {
    let names = |text: &str| gap.message.contains(&format!("`{text}`"));
    gap.rule == "OperationWithoutRule" && names(key) && names(document)
}

/// Inserts from the end of the file backwards, so that earlier offsets stay true.
fn insert(text: &str, additions: &[Addition]) -> Result<String, String> {
    let document = DeTable::parse(text).map_err(|error| error.to_string())?;
    let mut places = Vec::new();
    for addition in additions {
        let at = end_of_table(text, document.get_ref(), &addition.api)?;
        places.push((at, addition));
    }
    places.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let mut updated = text.to_owned();
    for (at, addition) in places {
        let newline = if text.get(..at).is_some_and(|t| t.ends_with('\n')) { "" } else { "\n" };
        updated.insert_str(at, &format!("{newline}{}", aligned(&addition.lines)));
    }
    Ok(updated)
}

/// The start of the line behind the last entry of `[api.NAME.access]`.
fn end_of_table(text: &str, root: &DeTable<'_>, api: &str) -> Result<usize, String> {
    let header = format!("[api.{api}.access]");
    let by_hand = || format!("cannot append to `{api}`: write its lines under a `{header}` header");
    let starts_line = |at: usize| text.get(..at).is_some_and(|t| t.is_empty() || t.ends_with('\n'));
    let at = text.match_indices(&header).map(|(at, _)| at).find(|at| starts_line(*at));
    let at = at.ok_or_else(by_hand)?;
    let table = root.get("api").and_then(|value| value.get_ref().get(api));
    let table = table.and_then(|value| value.get_ref().get("access"));
    let Some(DeValue::Table(lines)) = table.map(|value| value.get_ref()) else {
        return Err(by_hand());
    };
    let mut end = at + header.len();
    for (key, value) in lines {
        // A key written elsewhere (`[[api.x.access."GET /y"]]`) would catch what is appended.
        if key.span().start < at || !starts_line(line_start(text, key.span().start)) {
            return Err(by_hand());
        }
        let bracket = text.get(line_start(text, key.span().start)..key.span().start);
        if bracket.is_some_and(|before| before.contains('[')) {
            return Err(by_hand());
        }
        end = end.max(value.span().end);
    }
    let rest = text.get(end..).unwrap_or_default();
    Ok(rest.find('\n').map_or(text.len(), |newline| end + newline + 1))
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
}

/// Writes beside the file, then renames: a crash leaves the old file or the new one.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let beside = path.with_extension("toml.new");
    std::fs::write(&beside, text)?;
    std::fs::set_permissions(&beside, std::fs::metadata(path)?.permissions())?;
    std::fs::rename(&beside, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addition() -> Vec<Addition> {
        let lines = vec![("GET /b".into(), "{ allow = \"REVIEW\" }".into())];
        vec![Addition { api: "x".into(), lines }]
    }

    #[test]
    fn lines_are_appended_behind_the_last_one_and_nothing_else_changes() {
        let before = "[api.x.access] # why\n\"GET /a\" = { allow = \"user\" } # mine\n";
        let after = "\n# the next table\n[limits]\n";
        let updated = insert(&format!("{before}{after}"), &addition()).unwrap();
        assert_eq!(updated, format!("{before}\"GET /b\" = {{ allow = \"REVIEW\" }}\n{after}"));
    }

    #[test]
    fn an_empty_table_and_a_file_without_a_last_newline_work() {
        let updated = insert("[api.x.access]", &addition()).unwrap();
        assert_eq!(updated, "[api.x.access]\n\"GET /b\" = { allow = \"REVIEW\" }\n");
    }

    #[test]
    fn tables_that_would_catch_the_new_lines_are_refused() {
        for text in [
            "[api.x]\naccess = { \"GET /a\" = { allow = \"user\" } }\n",
            "[api.x.access]\n[[api.x.access.\"GET /a\"]]\nallow = \"user\"\n",
        ] {
            assert!(insert(text, &addition()).is_err(), "{text}");
        }
    }
}
