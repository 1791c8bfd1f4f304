//! The config through the binary: every golden file of `tests/golden/config` is an error or a gap
//! that `check` shows as it stands there, and every rule that the reader knows has one.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::plan::binary;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config")
}

fn named(extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures()).expect("readable").flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

#[test]
fn check_refuses_every_golden_file_with_its_line_and_caret() {
    let files = named("toml");
    assert!(files.len() > 30, "{}", files.len());
    for path in files {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let output = Command::new(binary())
            .args(["check", "-c", &name])
            .current_dir(fixtures())
            .stdin(Stdio::null())
            .env("NO_COLOR", "1")
            .output()
            .expect("the binary runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let expected = match name.as_str() {
            "complete.toml" => 0,
            name if name.starts_with("gap_") => 1,
            _ => 2,
        };
        assert_eq!(output.status.code(), Some(expected), "{name}: {said}");
        if expected != 0 {
            assert!(said.contains('^') || said.contains("cannot"), "{name} has no caret: {said}");
            let golden =
                std::fs::read_to_string(path.with_extension("txt")).expect("a golden file");
            let rules = golden.lines().filter_map(|line| line.split_once('[')?.1.split_once(']'));
            for (rule, _) in rules.filter(|(rule, _)| rule.starts_with(char::is_uppercase)) {
                assert!(said.contains(rule), "{name} does not say `{rule}`: {said}");
            }
        }
    }
}

#[test]
fn every_golden_file_has_its_config_and_the_other_way() {
    for path in named("toml") {
        assert!(path.with_extension("txt").exists(), "{} has no golden file", path.display());
    }
    for path in named("txt") {
        assert!(path.with_extension("toml").exists(), "{} has no config", path.display());
    }
}
