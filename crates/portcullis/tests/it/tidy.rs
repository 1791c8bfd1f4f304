//! The countable part of the conventions (`ARCHITECTURE.md`): sizes, names, words that have no place
//! in a tree, which crate may know which, what may be in the built tree. What is worth knowing but
//! no reason to stop is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::support::sources::{self, Source};

const MAX_FILE: usize = 600;
const MAX_FUNCTION: usize = 70;
const LONG_FUNCTION: usize = 50;
const MAX_PARAMETERS: usize = 5;

/// Words that say nothing about a thing.
const FORBIDDEN_NAMES: [&str; 5] = ["Manager", "Helper", "Util", "Common", "Info"];

/// Which of our crates a crate may import.
const IMPORTS: [(&str, &[&str]); 6] = [
    ("core", &[]),
    ("policy", &["core"]),
    ("store", &["core"]),
    ("gateway", &["core", "policy"]),
    ("identity", &["core", "store"]),
    ("portcullis", &["core", "policy", "store", "gateway", "identity"]),
];

/// Crates that may be in the tree in two versions.
const DUPLICATES: [&str; 13] = [
    "base64",
    "block-buffer",
    "crypto-common",
    "digest",
    "fallible-iterator",
    "getrandom",
    "itertools",
    "nom",
    "phf_shared",
    "syn",
    "synstructure",
    "unicode-width",
    "untrusted",
];

fn ours() -> Vec<Source> {
    let mut sources = sources::all();
    sources.retain(|source| source.is_rust() && source.path.starts_with("crates/"));
    assert!(sources.len() > 100, "the tree was not read: {}", sources.len());
    sources
}

fn none(rule: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{rule}: {}\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn files_fit_in_a_head() {
    let long = |source: &Source| source.text.lines().count() > MAX_FILE;
    let faults = ours().into_iter().filter(long);
    none(
        "at most 600 lines",
        faults.map(|s| format!("{}: {}", s.path, s.text.lines().count())).collect(),
    );
}

#[test]
fn functions_fit_on_a_screen() {
    let mut faults = Vec::new();
    let (mut all, mut long) = (0, 0);
    for source in ours() {
        for function in source.functions() {
            all += 1;
            long += usize::from(function.lines > LONG_FUNCTION);
            if function.lines > MAX_FUNCTION {
                faults.push(format!(
                    "{}: {} has {} lines",
                    source.path, function.name, function.lines
                ));
            }
        }
    }
    println!(
        "{all} functions, {:.1} % over {LONG_FUNCTION} lines",
        100.0 * f64::from(long as u32) / f64::from(all as u32)
    );
    assert!(all > 1_000, "functions were not found: {all}");
    none("at most 70 lines", faults);
}

#[test]
fn functions_take_few_things_and_no_bools() {
    let mut faults = Vec::new();
    for source in ours() {
        for function in source.functions() {
            let place = format!("{}: {}", source.path, function.name);
            // proptest's arguments are a table, and serde says what its visitors take.
            if function.signature.contains(" in ") || function.name == "visit_bool" {
                continue;
            }
            if function.parameters > MAX_PARAMETERS {
                faults.push(format!("{place} takes {}", function.parameters));
            }
            // A test's table may; what others call says what it means.
            let in_code = source.code().contains(&format!("fn {}", function.name));
            let takes_bool =
                function.signature.split(',').any(|part| part.trim().ends_with(": bool"));
            if in_code && takes_bool {
                faults.push(format!("{place} takes a bool"));
            }
        }
    }
    none("at most five parameters, no `bool`", faults);
}

#[test]
fn names_say_what_a_thing_is() {
    let mut faults = Vec::new();
    for source in ours() {
        for (number, line) in source.text.lines().enumerate() {
            let words = line.trim_start().split(|c: char| !(c.is_alphanumeric() || c == '_'));
            let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
            let declares = ["struct", "enum", "trait", "type", "mod", "fn"];
            let names =
                words.windows(2).filter(|pair| declares.contains(&pair[0])).map(|pair| pair[1]);
            for name in names.filter(|_| !line.trim_start().starts_with("//")) {
                let vague = FORBIDDEN_NAMES.iter().any(|word| name.contains(word));
                let lower = FORBIDDEN_NAMES.iter().any(|word| name == word.to_lowercase());
                if vague || lower || name.starts_with("get_") {
                    faults.push(format!("{}:{}: {name}", source.path, number + 1));
                }
            }
        }
    }
    none("names", faults);
}

#[test]
fn each_file_says_what_it_is() {
    let silent = |source: &Source| !source.text.starts_with("//!");
    none("`//!` on top", ours().into_iter().filter(silent).map(|source| source.path).collect());
}

/// Put together here, so that this file does not find itself.
fn word(parts: &[&str]) -> String {
    parts.concat()
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [word(&["TO", "DO"]), word(&["FIX", "ME"]), word(&["XX", "X"])];
    let mut faults = Vec::new();
    for source in sources::all() {
        for (number, line) in source.text.lines().enumerate() {
            let is_word = |mark: &String| {
                line.split(|c: char| !c.is_alphanumeric()).any(|found| found == mark.as_str())
            };
            // What forbids them has to name them.
            let forbids =
                line.contains("No `") || line.contains("no `") || source.path.ends_with("tidy.rs");
            if marks.iter().any(is_word) && !forbids && !source.path.ends_with("Cargo.lock") {
                faults.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    none("marks", faults);
}

#[test]
fn nothing_panics_outside_of_tests() {
    let marks = ["todo!(", "unimplemented!(", "panic!(", ".unwrap()", "unreachable!("];
    let mut faults = Vec::new();
    for source in ours() {
        let mut depth_of_test = None;
        for (number, line) in source.code().lines().enumerate() {
            let text = line.trim_start();
            let indent = line.len() - text.len();
            if text.starts_with("#[cfg(test)]") {
                depth_of_test = Some(indent);
            } else if depth_of_test.is_some_and(|depth| indent <= depth && ends(text)) {
                depth_of_test = None;
            }
            if depth_of_test.is_some() || text.starts_with("//") {
                continue;
            }
            if marks.iter().any(|mark| text.contains(mark)) {
                faults.push(format!("{}:{}: {text}", source.path, number + 1));
            }
        }
    }
    none("panics", faults);
}

/// Whether a line ends an item that stands no deeper than its attribute.
fn ends(line: &str) -> bool {
    line.starts_with('}') || line.ends_with(';')
}

#[test]
fn no_machine_and_no_registry_is_named() {
    let marks = [
        word(&["/home", "/"]),
        word(&["/ro", "ot/"]),
        word(&["/wo", "rk/"]),
        word(&["/tmp/", "tgt"]),
        word(&["crates", ".io"]),
        word(&["registry.", "npmjs"]),
        word(&["files.python", "hosted"]),
        word(&["pypi", ".org"]),
        word(&["deb.", "debian"]),
    ];
    let mut faults = Vec::new();
    for source in sources::all() {
        if source.path.ends_with("Cargo.lock") || source.path.ends_with("package-lock.json") {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(mark.as_str())) {
                faults.push(format!("{}:{}: {mark}", source.path, number + 1));
            }
        }
    }
    none("machine paths and registry hosts", faults);
}

#[test]
fn a_crate_imports_what_its_place_allows() {
    let root = sources::root();
    let mut faults = Vec::new();
    for (name, allowed) in IMPORTS {
        let text = std::fs::read_to_string(root.join("crates").join(name).join("Cargo.toml"))
            .expect("a crate");
        let manifest: toml::Table = text.parse().expect("TOML");
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = manifest.get(table).and_then(toml::Value::as_table) else { continue };
            for dependency in table.keys().filter_map(|key| key.strip_prefix("portcullis-")) {
                if !allowed.contains(&dependency) {
                    faults.push(format!("{name} imports {dependency}"));
                }
            }
            let versioned = table.iter().filter(|(_, value)| {
                value.get("workspace").and_then(toml::Value::as_bool) != Some(true)
            });
            faults.extend(
                versioned.map(|(key, _)| format!("{name}: `{key}` has a version of its own")),
            );
        }
        if manifest.contains_key("build-dependencies")
            || root.join("crates").join(name).join("build.rs").exists()
        {
            faults.push(format!("{name} has a build script"));
        }
    }
    let crates = std::fs::read_dir(root.join("crates")).expect("readable").flatten().count();
    assert_eq!(crates, IMPORTS.len(), "a crate was added or taken away: give it a row");
    none("imports", faults);
}

/// One line of `cargo tree --prefix depth`: depth, name, version.
struct Built {
    depth: usize,
    name: String,
    version: String,
}

fn built() -> Vec<Built> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "-e",
            "normal",
            "--target",
            "x86_64-unknown-linux-gnu",
            "--locked",
            "--offline",
        ])
        .args(["-p", "portcullis", "--prefix", "depth", "--no-dedupe", "--format", " {p}"])
        .current_dir(sources::root())
        .output()
        .expect("cargo is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let depth = words.next()?.parse().ok()?;
        let (name, version) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Built { depth, name, version })
    });
    let built: Vec<Built> = lines.collect();
    assert!(built.len() > 200, "the tree was not read: {}", built.len());
    built
}

/// Who depends on whom, directly.
fn parents(built: &[Built]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut stack: Vec<&str> = Vec::new();
    let mut parents: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in built {
        stack.truncate(line.depth);
        if let Some(parent) = stack.last() {
            parents.entry(&line.name).or_default().insert(parent);
        }
        stack.push(&line.name);
    }
    parents
}

#[test]
fn the_built_tree_is_what_deny_toml_allows() {
    let text = std::fs::read_to_string(sources::root().join("deny.toml")).expect("deny.toml");
    let table: toml::Table = text.parse().expect("TOML");
    let denied = table["bans"]["deny"].as_array().expect("bans.deny");
    let built = built();
    let parents = parents(&built);
    let mut faults = Vec::new();
    let (mut bans, mut wrapped) = (0, 0);
    for entry in denied {
        let name = entry["crate"].as_str().expect("a name");
        let wrappers: Option<Vec<&str>> = entry
            .get("wrappers")
            .and_then(toml::Value::as_array)
            .map(|list| list.iter().filter_map(toml::Value::as_str).collect());
        match (&wrappers, parents.get(name)) {
            (None, found) => {
                bans += 1;
                faults.extend(found.map(|by| format!("`{name}` is in the tree, by {by:?}")));
            }
            (Some(wrappers), found) => {
                wrapped += 1;
                let found =
                    found.unwrap_or_else(|| panic!("`{name}` is wrapped but not in the tree"));
                let foreign = found.iter().filter(|parent| !wrappers.contains(parent));
                faults.extend(foreign.map(|parent| format!("`{parent}` uses `{name}` itself")));
            }
        }
    }
    assert!(bans >= 10 && wrapped >= 6, "deny.toml was not read: {bans} bans, {wrapped} wrapped");
    none("the built tree", faults);
}

#[test]
fn no_library_is_in_the_tree_twice_but_those_accepted() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in built() {
        versions.entry(line.name).or_default().insert(line.version);
    }
    let twice = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    let foreign = twice.filter(|(name, _)| !DUPLICATES.contains(&name.as_str()));
    none(
        "twice in the tree",
        foreign.map(|(name, versions)| format!("{name} {versions:?}")).collect(),
    );
}

#[test]
fn our_code_names_no_forbidden_crate() {
    let forbidden = ["chrono", "jiff", "rand", "url", "log", "lazy_static", "once_cell"];
    let mut faults = Vec::new();
    for (name, _) in IMPORTS {
        let path = sources::root().join("crates").join(name).join("Cargo.toml");
        let manifest: toml::Table =
            std::fs::read_to_string(path).expect("a crate").parse().expect("TOML");
        for table in ["dependencies", "dev-dependencies"] {
            let keys = manifest.get(table).and_then(toml::Value::as_table);
            let keys = keys.into_iter().flat_map(|table| table.keys());
            faults.extend(
                keys.filter(|key| forbidden.contains(&key.as_str()) || *key == "time")
                    .map(|key| format!("{name}: {key}")),
            );
        }
    }
    none("crates that we do not use", faults);
}

#[test]
fn what_must_not_compile_has_a_twin_that_does() {
    let mut pairs = 0;
    let mut faults = Vec::new();
    for source in ours() {
        let lines: Vec<&str> = source.text.lines().map(str::trim_start).collect();
        let fences: Vec<(usize, &str)> = lines
            .iter()
            .enumerate()
            .filter_map(|(at, line)| {
                Some((at, line.trim_start_matches("//!").trim_start_matches("///").trim()))
                    .filter(|_| line.starts_with("//"))
            })
            .filter(|(_, line)| line.starts_with("```"))
            .collect();
        for (position, (at, _)) in
            fences.iter().enumerate().filter(|(_, fence)| fence.1.contains("compile_fail"))
        {
            // Its own end, then the twin's beginning.
            let twin =
                fences.get(position + 2).filter(|(next, fence)| next - at < 40 && *fence == "```");
            match twin {
                Some(_) => pairs += 1,
                None => faults.push(format!("{}:{}", source.path, at + 1)),
            }
        }
    }
    println!("{pairs} pairs of what compiles and what must not");
    assert!(pairs >= 3, "forwarding, minting and printing must not compile: {pairs}");
    none("`compile_fail` without a twin", faults);
}

#[test]
fn what_is_worth_knowing() {
    let mut crates: BTreeMap<String, (usize, usize, usize)> = BTreeMap::new();
    for source in ours() {
        let name = source.path.split('/').nth(1).unwrap_or_default().to_owned();
        let count = crates.entry(name).or_default();
        let (all, code) = (source.text.lines().count(), source.code().lines().count());
        count.0 += code;
        count.1 += all - code;
        count.2 += source.code().matches("RFC ").count()
            + source.code().matches("OpenID Connect Core §").count()
            + source.code().matches("FAPI 2.0 §").count();
    }
    for (name, (code, test, citations)) in &crates {
        let per_thousand = 1_000 * citations / (*code).max(1);
        let ratio = 100 * test / (*code).max(1);
        println!(
            "{name:<11} {code:>6} lines, tests {ratio:>3} %, {per_thousand:>3} citations per 1000 lines"
        );
    }
    // `2-architecture`, "Docs": at least ten in the two crates that standards are about.
    for name in ["core", "identity"] {
        let (code, _, citations) = crates[name];
        assert!(citations * 100 >= code, "{name}: {citations} citations in {code} lines");
    }
}
