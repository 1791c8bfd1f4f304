//! The golden files of `tests/golden/config`: each `*.toml` there, read with its folder's files on
//! a fixed day, must come to its `*.txt`: the errors, or the gaps, or `no error, no gap`.
//! `UPDATE_GOLDEN=1 cargo test -p portcullis golden` rewrites them; the diff is then what an
//! operator would see change.

use std::path::{Path, PathBuf};

use portcullis_core::time::Timestamp;

use super::{Colour, Config, Disk, Loader, Purpose, Rejected, Surroundings, parse, render};

/// Files are named as an operator in their folder would name them.
struct Folder(PathBuf);

impl Loader for Folder {
    fn file(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        Disk.file(&self.0.join(path))
    }
    fn folder(&self, path: &Path) -> std::io::Result<Vec<String>> {
        Disk.folder(&self.0.join(path))
    }
    fn variable(&self, name: &str) -> Option<String> {
        (name == "UPSTREAM").then(|| "https://10.0.0.12:8443".into())
    }
}

#[test]
fn golden_files_come_out_as_they_stand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of golden files")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 30, "the golden files are gone: {}", cases.len());
    let mut differing = Vec::new();
    for case in cases {
        let found = outcome(&folder, &case);
        // No input repeats its secret, whatever is wrong with it.
        assert!(!found.contains("hunter2"), "{}: {found}", case.display());
        let expected = case.with_extension("txt");
        if update {
            std::fs::write(&expected, &found).expect("a golden file can be written");
        } else if std::fs::read_to_string(&expected).ok().as_ref() != Some(&found) {
            differing.push(format!("{}:\n{found}", expected.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

fn outcome(folder: &Path, case: &Path) -> String {
    let name = case.file_name().expect("a file").to_string_lossy().into_owned();
    let text = std::fs::read_to_string(case).expect("a golden file");
    match read(folder, &name, &text) {
        Err(rejected) => rejected.render(Colour::Never),
        Ok(config) => match config.gaps() {
            gaps if gaps.is_empty() => "no error, no gap\n".into(),
            gaps => render(&gaps, &config.sources, Colour::Never),
        },
    }
}

fn read(folder: &Path, name: &str, text: &str) -> Result<Config, Rejected> {
    let now = Timestamp::parse("2026-11-24").expect("a date");
    let loader = Folder(folder.into());
    parse(name, text, &Surroundings { loader: &loader, now, purpose: Purpose::Serve })
}

fn complete(change: impl Fn(String) -> String) -> Result<Config, Rejected> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let text = std::fs::read_to_string(folder.join("complete.toml")).expect("a golden file");
    read(&folder, "complete.toml", &change(text))
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = complete(|text| text).unwrap_or_else(|r| panic!("{}", r.render(Colour::Never)));
    let mut names: Vec<&str> = config.limits.keys().map(AsRef::as_ref).collect();
    names.sort_unstable();
    assert_eq!(names, ["anonymous", "default", "failed_authentication", "normal", "peer"]);
    assert_eq!(config.server.domains, ["api.pay.example", "login.pay.example"]);
    assert_eq!(config.server.listen, ["[::]:443".parse().expect("an address")]);
    assert_eq!(config.server.metrics, config.server.health);
    assert!(config.server.health.ip().is_loopback());
    assert_eq!(config.identity.require, portcullis_identity::settings::Require::Everyone);
    let watched: Vec<_> = config.watched.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(watched, ["ledger.jwks.json", "payments.yaml"]);
}

#[test]
fn rules_never_name_the_limits_that_the_server_charges_itself() {
    let limit = |name: &str| {
        let line = format!("limit = \"{name}\"");
        complete(|text| text.replace("limit = \"anonymous\"", &line)).err()
    };
    for name in ["peer", "failed_authentication"] {
        let rejected = limit(name).expect("refused");
        assert_eq!(rejected.faults.first().map(|fault| fault.rule), Some("UnknownLimit"));
    }
    assert!(limit("default").is_none());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever a slip of the hand makes of a file, it is read or refused, and shown.
    #[test]
    fn reading_never_panics(at in 0.0..1.0f64, cut in 0usize..40, put in "\\PC{0,6}") {
        let changed = |text: String| {
            let at = text.floor_char_boundary((text.len() as f64 * at) as usize);
            let end = text.floor_char_boundary((at + cut).min(text.len()));
            format!("{}{put}{}", &text[..at], &text[end..])
        };
        match complete(changed) {
            Err(rejected) => {
                assert!(!rejected.faults.is_empty());
                assert!(!rejected.render(Colour::Never).is_empty());
            }
            Ok(config) => drop(render(&config.gaps(), &config.sources, Colour::Never)),
        }
    }
}
