//! What both judges share: where things stand, the person at the browser, and counted checks.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::process::Command;

use oauth2::http::{Request, header};
use oauth2::{HttpResponse, url::Url};

use crate::http;

/// What a check comes to.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Counts the checks of one judge.
pub struct Checks {
    judge: &'static str,
    passed: u32,
    failed: u32,
}

impl Checks {
    /// None yet.
    pub fn of(judge: &'static str) -> Self {
        Checks { judge, passed: 0, failed: 0 }
    }

    /// Runs one check; what it yields when it passes.
    pub fn check<T>(&mut self, name: &str, work: impl FnOnce() -> Outcome<T>) -> Option<T> {
        match work() {
            Ok(value) => {
                self.passed += 1;
                println!("ok - {}: {name}", self.judge);
                Some(value)
            }
            Err(error) => {
                self.failed += 1;
                println!("not ok - {}: {name}\n    {}", self.judge, whole(&*error));
                None
            }
        }
    }

    /// Prints the sum; whether all passed.
    pub fn sum(self) -> bool {
        println!("{}: {} passed, {} failed", self.judge, self.passed, self.failed);
        self.failed == 0 && self.passed > 0
    }
}

/// Refuses unless something holds.
pub fn must(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.to_owned().into()) }
}

/// An address of the stage, by its variable, with a path.
pub fn at(variable: &str, path: &str) -> Outcome<String> {
    Ok(format!("{}{path}", env::var(variable)?))
}

/// Someone walks from an address to where a login ends: the parameters of the redirect there, or
/// under `page` the last page's words.
pub fn person(arguments: &[&str]) -> Outcome<HashMap<String, String>> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../node/person.mjs");
    let output = Command::new("node").arg(program).args(arguments).output()?;
    must(output.status.success(), &String::from_utf8_lossy(&output.stderr))?;
    let said = String::from_utf8(output.stdout)?;
    match Url::parse(said.trim()) {
        Ok(redirect) => Ok(redirect.query_pairs().into_owned().collect()),
        Err(_) => Ok(HashMap::from([("page".to_owned(), said)])),
    }
}

/// Calls the API with a token.
pub fn call(name: &str, token: &str) -> Outcome<HttpResponse> {
    let request = Request::builder()
        .uri(at("API", name)?)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Vec::new())?;
    Ok(http::send(request)?)
}

fn whole(error: &dyn Error) -> String {
    let mut said = format!("{error} ({error:?})");
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push_str(&format!(": {error}"));
        cause = error.source();
    }
    said
}
