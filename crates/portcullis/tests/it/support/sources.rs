//! The tree as text, for `tidy`: which files there are, and where functions begin and end. It reads
//! lines and braces, not Rust: enough for limits, and quick.

use std::path::{Path, PathBuf};

/// One text file of the tree.
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Whether it is compiled for tests alone.
    is_test: bool,
}

/// A function as its lines say.
pub(crate) struct Function {
    pub(crate) name: String,
    /// From `fn` to the last brace.
    pub(crate) lines: usize,
    /// `self` is not counted.
    pub(crate) parameters: usize,
    /// The text between the parentheses.
    pub(crate) signature: String,
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the root")
}

/// Folders that hold what is made, not written.
const MADE: [&str; 7] = [
    "target",
    ".git",
    "node_modules",
    "__pycache__",
    ".venv",
    "portcullis-demo",
    "portcullis-demo-tour",
];

/// Every text file of the tree; binary ones and made ones are left out.
pub(crate) fn all() -> Vec<Source> {
    let root = root();
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !MADE.contains(&name.as_str()) && !path.ends_with("fuzz/corpus") {
                    folders.push(path);
                }
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let within = path.strip_prefix(&root).expect("below the root");
                let path = within.to_string_lossy().replace('\\', "/");
                let is_test = path.contains("/tests/") || path.ends_with("_tests.rs");
                sources.push(Source { path, text, is_test });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    mark_tests(&mut sources);
    sources
}

/// Marks the files whose `mod` line stands behind `#[cfg(test)]`, and those below them.
fn mark_tests(sources: &mut [Source]) {
    let mut modules = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
        let folder = match file {
            "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
            file => format!("{folder}/{}", file.trim_end_matches(".rs")),
        };
        for after in source.text.split("#[cfg(test)]\n").skip(1) {
            let line = after.lines().next().unwrap_or_default().trim();
            let name = line.split("mod ").nth(1).and_then(|name| name.strip_suffix(';'));
            modules.extend(name.map(|name| format!("{folder}/{name}")));
        }
    }
    for source in sources {
        let below = |module: &String| {
            source.path == format!("{module}.rs") || source.path.starts_with(&format!("{module}/"))
        };
        source.is_test |= modules.iter().any(below);
    }
}

impl Source {
    /// Whether it is Rust that the conventions are about.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it holds nothing but tests.
    pub(crate) fn is_test(&self) -> bool {
        self.is_test
    }

    /// The code before the tests at the bottom; all of it in a file of tests.
    pub(crate) fn code(&self) -> &str {
        if self.is_test() {
            return "";
        }
        let mark = "#[cfg(test)]\nmod tests {";
        self.text.find(mark).map_or(self.text.as_str(), |at| &self.text[..at])
    }

    /// Its functions.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let lines: Vec<&str> = self.text.lines().collect();
        let starts = (0..lines.len()).filter(|at| begins_function(lines[*at]));
        starts.filter_map(|at| function(&lines[at..])).collect()
    }
}

fn begins_function(line: &str) -> bool {
    let line = line.trim_start();
    if line.starts_with("//") {
        return false;
    }
    let before = line.split("fn ").next().unwrap_or_default();
    let qualifiers =
        ["pub", "pub(crate)", "pub(super)", "async", "const", "unsafe", "extern", "\"C\""];
    line.contains("fn ") && before.split_whitespace().all(|word| qualifiers.contains(&word))
}

/// The function whose first line is the first of these: it ends with the brace that stands below
/// its own indentation, as rustfmt lays it.
fn function(lines: &[&str]) -> Option<Function> {
    let first = lines.first()?;
    let indent = first.len() - first.trim_start().len();
    let name: String = first
        .split("fn ")
        .nth(1)?
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    let one_line = first.trim_end().ends_with('}') || first.trim_end().ends_with(';');
    let closing = format!("{}}}", " ".repeat(indent));
    let last =
        if one_line { 0 } else { lines.iter().position(|line| line.trim_end() == closing)? };
    let text = lines[..=last].join("\n");
    let signature = parameters(&text);
    let parameters = split(&signature).into_iter().filter(|parameter| !is_self(parameter)).count();
    Some(Function { name, lines: last + 1, parameters, signature })
}

/// The text of the parameter list: the first parentheses outside of `<…>`.
fn parameters(text: &str) -> String {
    let mut generics = 0_usize;
    let mut depth = 0_usize;
    let mut out = String::new();
    let mut previous = ' ';
    for c in text.chars() {
        match c {
            '<' if depth == 0 => generics += 1,
            '>' if depth == 0 && previous != '-' => generics = generics.saturating_sub(1),
            '(' if generics == 0 => depth += 1,
            ')' if generics == 0 => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    break;
                }
            }
            _ => {}
        }
        if depth > 0 {
            out.push(c);
        }
        previous = c;
    }
    out.trim_start_matches('(').to_owned()
}

/// Cut at commas that are in no brackets.
fn split(parameters: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth) = (Vec::new(), String::new(), 0_i32);
    let mut previous = ' ';
    for c in parameters.chars() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            '>' if previous == '-' || previous == '=' => {}
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                previous = c;
                continue;
            }
            _ => {}
        }
        part.push(c);
        previous = c;
    }
    parts.push(part);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn is_self(parameter: &str) -> bool {
    let word = parameter.trim().trim_start_matches('&').trim_start_matches("mut ");
    let word = word.split_whitespace().last().unwrap_or_default();
    word == "self" || parameter.trim().starts_with("self:")
}
