//! `init`: writes `portcullis.toml` for an API that exists: from its OpenAPI document, or closed
//! behind one REVIEW line when there is none.
//!
//! What it writes serves on this laptop at once (`serve`, `serve --dev`), and is closed where the
//! document does not say who may call: a person decides, `check` counts. An existing file is never
//! overwritten; `--update` appends lines for new operations (see `init_update`).

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use portcullis_core::time::Clock;
use portcullis_policy::openapi::{self, Document, DocumentedSecurity};

use super::init_update;
use super::report::{Exit, Output, counted, show_rejected};
use crate::config::{self, Disk, Loader, Purpose, Rejected, Sources, Surroundings};

/// Arguments of `init`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The API's OpenAPI document, 3.0 or 3.1, YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub openapi: Option<PathBuf>,
    /// Where the API runs
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000")]
    pub upstream: String,
    /// What fills the lines of reads that the document says nothing about, e.g. 'allow = "user"'
    #[arg(long, value_name = "KEYS")]
    pub default: Option<String>,
    /// Append lines for new operations to an existing file, touch nothing else
    #[arg(long)]
    pub update: bool,
    /// The config to write
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "portcullis.toml")]
    pub config: PathBuf,
}

/// Runs `init`.
///
/// # Errors
/// What writing a file or the answer says.
pub(crate) fn run(
    arguments: &Arguments,
    clock: &dyn Clock,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    if arguments.update {
        return init_update::run(arguments, clock, output);
    }
    if arguments.config.exists() {
        let name = arguments.config.display();
        let advice = "`--update` appends lines for new operations, or name another with `-c FILE`";
        writeln!(output.err, "error: `{name}` exists and is not overwritten; {advice}")?;
        return Ok(Exit::Misuse);
    }
    let document = match arguments.openapi.as_deref().map(document).transpose() {
        Ok(document) => document,
        Err(rejected) => return Ok(show_rejected(output, &rejected)?),
    };
    let text = compose(arguments, document.as_ref());
    // What is written must be read again: a bad `--upstream` or `--default` is told now.
    let name = arguments.config.to_string_lossy();
    let surroundings = Surroundings { loader: &Disk, now: clock.now(), purpose: Purpose::Serve };
    let config = match config::parse(&name, &text, &surroundings) {
        Ok(config) => config,
        Err(rejected) => return Ok(show_rejected(output, &rejected)?),
    };
    if let Err(error) = write_new(&arguments.config, &text) {
        writeln!(output.err, "error: cannot write `{name}`: {error}")?;
        return Ok(Exit::Misuse);
    }
    let operations = counted(config.rules.operations().count(), "operation");
    let open = match config.gaps().len() {
        0 => "no gap".into(),
        gaps => format!("{} for you to close", counted(gaps, "gap")),
    };
    writeln!(output.out, "wrote {name}: {operations}, {open}")?;
    let flag = if &*name == "portcullis.toml" { String::new() } else { format!(" -c {name}") };
    writeln!(output.out, "next: portcullis check{flag}        # what is open, and what is left")?;
    writeln!(output.out, "      portcullis serve --dev{flag}  # on this machine")?;
    Ok(Exit::Fine)
}

/// Reads a document of the command line.
pub(crate) fn document(path: &Path) -> Result<Document, Rejected> {
    let name = path.to_string_lossy();
    let read = Disk.file(path).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
    });
    let text = read.map_err(|error| Rejected {
        faults: vec![portcullis_core::fault::Fault {
            rule: "FileUnreadable",
            severity: portcullis_core::fault::Severity::Error,
            place: None,
            message: format!("cannot read `{name}`: {error}"),
            remedy: "name the document with `--openapi FILE`".into(),
        }],
        sources: Sources::default(),
    })?;
    openapi::read(&name, &text).map_err(|fault| {
        let mut sources = Sources::default();
        sources.insert(name.as_ref().into(), text.into());
        Rejected { faults: vec![fault], sources }
    })
}

/// Creates the file; never follows an existing name.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The whole file.
fn compose(arguments: &Arguments, document: Option<&Document>) -> String {
    let name = document.map_or("api".into(), |document| slug(&document.title));
    let scopes = document.map(scopes).unwrap_or_default();
    let mut text = String::from(HEAD);
    if !scopes.is_empty() {
        text.push_str(
            "\n[identity.scopes]                       # the words of the consent page\n",
        );
        for scope in &scopes {
            let words = quoted(&format!("Use {scope}"));
            text.push_str(&format!("{} = {words}\n", quoted(scope)));
        }
    }
    text.push_str(CLIENTS);
    text.push_str(&format!(
        "\n[api.{name}]\nat       = \"https://localhost:8443\"     # where callers reach it, and the \
         audience of its tokens\nupstream = {}\n",
        quoted(&arguments.upstream)
    ));
    if let Some(path) = &arguments.openapi {
        let path = relative(path, &arguments.config);
        text.push_str(&format!(
            "openapi  = {:<26}  # every operation must appear below\n",
            quoted(&path)
        ));
    }
    text.push_str(&format!("\n[api.{name}.access]{ACCESS}"));
    let default = arguments.default.as_deref();
    let lines = match document {
        Some(document) => openapi::draft_lines(document, default),
        None => undocumented(default),
    };
    text.push_str(&aligned(&lines));
    text
}

const HEAD: &str = "\
# Written by `portcullis init`. `portcullis example-config` prints every setting with its default
# and its reason. This file serves on this machine; for real names, change `tls`, `listen`,
# `issuer` and `at`.

[server]
listen = [\"127.0.0.1:8443\", \"127.0.0.1:8444\"]
plain  = \"off\"
tls    = \"local\"                        # a CA of our own under `data`

[identity]
issuer = \"https://localhost:8444\"       # the login; this origin serves no upstream
mfa    = { factors = \"totp\", require = \"everyone\" }
";

const CLIENTS: &str = "
[clients]                               # who may ask for tokens
# app  = { type = \"spa\", redirect = [\"https://app.example/callback\"], scopes = [] }
# jobs = { type = \"service\", keys = \"jobs.jwks.json\", scopes = [] }
";

const ACCESS: &str = "                   # what is not listed does not exist for callers
# REVIEW is closed (404) until you say who may call: `user`, `service:jobs`, `role:x`, `anyone` …
";

/// Without a document everything is one closed line, which `--default` opens for reads alone.
fn undocumented(default: Option<&str>) -> Vec<(String, String)> {
    let reads = match default {
        Some(keys) => format!("{{ {keys} }}"),
        None => "{ allow = \"REVIEW\" }".into(),
    };
    vec![("GET /**".into(), reads), ("ANY /**".into(), "{ allow = \"REVIEW\" }".into())]
}

/// Lines with their `=` in one column.
pub(crate) fn aligned(lines: &[(String, String)]) -> String {
    let keys: Vec<String> = lines.iter().map(|(key, _)| quoted(key)).collect();
    let width = keys.iter().map(|key| key.chars().count()).max().unwrap_or(0);
    let pairs = keys.iter().zip(lines);
    pairs.map(|(key, (_, table))| format!("{key:<width$} = {table}\n")).collect()
}

/// A text as a TOML basic string, which a key may be too.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The scopes that a document's operations ask for, sorted.
fn scopes(document: &Document) -> Vec<String> {
    let mut scopes: Vec<String> = Vec::new();
    for operation in &document.operations {
        if let DocumentedSecurity::Scopes(alternatives) = &operation.security {
            scopes.extend(alternatives.iter().flatten().cloned());
        }
    }
    scopes.sort();
    scopes.dedup();
    scopes
}

/// An API's name from a document's title: `Payments API` becomes `payments`.
fn slug(title: &str) -> String {
    let mut name = String::new();
    for c in title.chars().take(40) {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    let name = name.trim_end_matches('-');
    let name = name.strip_suffix("-api").unwrap_or(name);
    if name.is_empty() { "api".into() } else { name.into() }
}

/// The document's path as the config must name it: relative to the config's folder.
fn relative(path: &Path, config: &Path) -> String {
    let folder = config.parent().filter(|folder| !folder.as_os_str().is_empty());
    let named = match folder {
        None => path.to_path_buf(),
        Some(folder) => match path.strip_prefix(folder) {
            Ok(within) => within.to_path_buf(),
            Err(_) => std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
        },
    };
    named.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::report::testing::{captured, clock, fixture, golden};

    fn arguments(folder: &Path) -> Arguments {
        Arguments {
            openapi: None,
            upstream: "http://127.0.0.1:3000".into(),
            default: None,
            update: false,
            config: folder.join("portcullis.toml"),
        }
    }

    fn init(arguments: &Arguments) -> (Exit, String, String) {
        captured(|output| run(arguments, &clock(), output))
    }

    fn with_document(folder: &Path) -> Arguments {
        let document = folder.join("payments.yaml");
        std::fs::copy(fixture("payments.yaml"), &document).unwrap();
        Arguments { openapi: Some(document), ..arguments(folder) }
    }

    fn written(folder: &Path) -> String {
        std::fs::read_to_string(folder.join("portcullis.toml")).unwrap()
    }

    fn gaps(folder: &Path) -> Vec<&'static str> {
        let path = folder.join("portcullis.toml");
        let config = config::read(&path, clock().now(), Purpose::Dev);
        let config = config.unwrap_or_else(|r| panic!("{}", r.render(config::Colour::Never)));
        config.gaps().iter().map(|gap| gap.rule).collect()
    }

    #[test]
    fn a_document_becomes_a_file_that_reads_but_for_what_a_person_decides() {
        let folder = tempfile::tempdir().unwrap();
        let (exit, out, err) = init(&with_document(folder.path()));
        assert_eq!((exit, err.as_str()), (Exit::Fine, ""));
        assert!(out.contains("4 operations, "), "{out}");
        golden("init.txt", &written(folder.path()));
        let gaps = gaps(folder.path());
        assert!(
            gaps.iter().all(|gap| matches!(*gap, "ReviewPending" | "ObjectUnbound")),
            "{gaps:?}"
        );
        assert!(gaps.contains(&"ReviewPending"));
    }

    #[test]
    fn without_a_document_everything_is_one_closed_line() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(init(&arguments(folder.path())).0, Exit::Fine);
        assert_eq!(gaps(folder.path()), ["ReviewPending", "ReviewPending"]);
    }

    #[test]
    fn the_default_opens_reads_alone() {
        let folder = tempfile::tempdir().unwrap();
        let default = Some("allow = \"user\"".into());
        assert_eq!(init(&Arguments { default, ..arguments(folder.path()) }).0, Exit::Fine);
        let text = written(folder.path());
        assert!(text.contains("\"GET /**\" = { allow = \"user\" }"), "{text}");
        assert!(text.contains("\"ANY /**\" = { allow = \"REVIEW\" }"), "{text}");
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("portcullis.toml"), "mine").unwrap();
        let (exit, _, err) = init(&arguments(folder.path()));
        assert!(exit == Exit::Misuse && err.contains("not overwritten"), "{err}");
        assert_eq!(written(folder.path()), "mine");
    }

    #[test]
    fn a_bad_upstream_default_or_document_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let base = || arguments(folder.path());
        for bad in [
            Arguments { upstream: "http://10.0.0.1".into(), ..base() },
            Arguments { upstream: "nonsense \"".into(), ..base() },
            Arguments { default: Some("allow = nonsense".into()), ..base() },
            Arguments { default: Some("allow = \"role:x\"".into()), ..base() },
            Arguments { openapi: Some("nowhere.yaml".into()), ..base() },
            Arguments { openapi: Some(fixture("broken.yaml")), ..base() },
        ] {
            let (exit, out, err) = init(&bad);
            assert!(exit == Exit::Misuse && out.is_empty() && !err.is_empty(), "{bad:?}");
            assert!(!bad.config.exists(), "{bad:?}");
        }
    }

    #[test]
    fn update_appends_lines_for_new_operations_and_touches_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = with_document(folder.path());
        init(&arguments);
        let before = written(folder.path());
        let update = Arguments { update: true, ..arguments };
        assert!(init(&update).1.contains("has a line for every operation"));
        let document = folder.path().join("payments.yaml");
        let text = std::fs::read_to_string(&document).unwrap();
        let more = text.replace("paths:\n", "paths:\n  /limits:\n    get: { security: [] }\n");
        std::fs::write(&document, more).unwrap();
        let (exit, out, err) = init(&update);
        assert_eq!((exit, err.as_str()), (Exit::Fine, ""), "{out}");
        let added = "\"GET /limits\" = { allow = \"REVIEW-PUBLIC\" }\n";
        assert_eq!(written(folder.path()), format!("{before}{added}"));
    }

    #[test]
    fn titles_become_names() {
        for (title, name) in [
            ("Payments API", "payments"),
            ("  Swagger Petstore - OpenAPI 3.0", "swagger-petstore-openapi-3-0"),
            ("API", "api"),
            ("日本", "api"),
            ("", "api"),
        ] {
            assert_eq!(slug(title), name, "{title}");
        }
    }

    #[test]
    fn documents_are_named_from_the_configs_folder() {
        let named = |path: &str, config: &str| relative(Path::new(path), Path::new(config));
        assert_eq!(named("api.yaml", "portcullis.toml"), "api.yaml");
        assert_eq!(named("etc/api.yaml", "etc/portcullis.toml"), "api.yaml");
        assert_eq!(named("/srv/api.yaml", "etc/portcullis.toml"), "/srv/api.yaml");
        assert!(Path::new(&named("api.yaml", "etc/portcullis.toml")).is_absolute());
    }

    #[test]
    fn texts_are_quoted_as_toml_reads_them() {
        for text in ["GET /rates", "a\"b", "a\\b", "a\nb\u{7f}", "ä"] {
            let table: toml::Table = format!("{} = 1", quoted(text)).parse().unwrap();
            assert!(table.contains_key(text), "{text:?} became {}", quoted(text));
        }
    }
}
