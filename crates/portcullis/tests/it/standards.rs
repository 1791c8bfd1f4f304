//! `docs/reference/standards.md` claims; this holds each claim to a test that is there.

use std::collections::BTreeSet;

use crate::support::sources;

/// The closing lists, which repeat what the tables say.
const CLOSING: [&str; 3] = ["## Rows without a test", "## Test names", "## Named deviations"];

#[test]
fn each_test_that_a_standard_names_is_there() {
    let all = sources::all();
    let page = all.iter().find(|source| source.path == "docs/reference/standards.md");
    let page = &page.expect("the page is there").text;
    let functions: BTreeSet<&str> = all
        .iter()
        .filter(|source| source.path.starts_with("crates/") && source.path.ends_with(".rs"))
        .flat_map(|source| source.text.lines())
        .filter_map(|line| line.trim_start().split_once("fn ").map(|(_, rest)| rest))
        .map(|rest| rest.split(['(', '<']).next().unwrap_or_default())
        .collect();
    let records: BTreeSet<String> = all
        .iter()
        .filter(|source| source.path.ends_with(".attack"))
        .flat_map(|source| {
            let file = source.path.rsplit('/').next().unwrap_or_default();
            let names = source.text.lines().filter_map(|line| line.strip_prefix("name: "));
            names.map(move |name| format!("{file}: {}", name.trim()))
        })
        .collect();
    let there = |name: &str| match name {
        record if record.contains(".attack: ") => records.contains(record),
        path if path.starts_with("conformance/") => all.iter().any(|source| source.path == path),
        function => functions.contains(function),
    };
    let (mut gone, mut rows) = (Vec::new(), 0);
    for (number, row) in rows_of(page) {
        rows += 1;
        let named = row.rsplit('|').nth(1).unwrap_or_default();
        let names: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        assert!(
            !names.is_empty() || named.trim() == "no test",
            "standards.md:{number}: the last column names a test, or says `no test`"
        );
        gone.extend(
            names.iter().filter(|name| !there(name)).map(|name| format!("{number}: {name}")),
        );
    }
    assert!(rows > 300, "the tables are gone: {rows} rows");
    assert!(gone.is_empty(), "standards.md names tests that are not there:\n{}", gone.join("\n"));
}

/// The rows of the tables, with their line numbers.
fn rows_of(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let body = page
        .lines()
        .enumerate()
        .take_while(|(_, line)| !CLOSING.iter().any(|heading| line.starts_with(heading)));
    body.filter(|(_, line)| {
        line.starts_with('|') && !line.starts_with("|---") && !line.starts_with("| Section")
    })
    .map(|(at, line)| (at + 1, line))
}
