//! Every fuzz body, boxed in time, on stable.
//!
//! `PORTCULLIS_FUZZ_MS` is the time of each body (500 by default). A failure prints
//! `Seed: 0x…`; `PORTCULLIS_FUZZ_SEED=0x… cargo test -p portcullis-fuzz NAME` runs that one input
//! again.

use std::time::Duration;

use portcullis_fuzz::{BODIES, Body};

const DEFAULT_MS: u64 = 500;
/// Most bytes of one input: over the longest token and form, so that their limits are met.
const MOST_BYTES: u32 = 24 * 1024;

/// One test for each body, and a list of their names to compare with [`BODIES`].
macro_rules! boxed {
    ($($name:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            run(stringify!($name), portcullis_fuzz::$name);
        })*
    };
}

boxed! {
    token signed_claims jwk_set private_keys sealed parameters limit_words scopes addresses times
}

#[test]
fn every_body_is_tested() {
    let names: Vec<&str> = BODIES.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, TESTED);
}

#[test]
fn every_body_stands_the_extremes() {
    let cases = [vec![], vec![0; 1], vec![0; 20_000], vec![0xff; 20_000], vec![b'['; 20_000]];
    for (name, body) in BODIES {
        for case in &cases {
            println!("{name}: {} bytes", case.len());
            body(case);
        }
    }
}

fn run(name: &str, body: Body) {
    let budget = number("PORTCULLIS_FUZZ_MS").unwrap_or(DEFAULT_MS);
    let property = |input: &mut arbtest::arbitrary::Unstructured<'_>| {
        let length = input.len();
        body(input.bytes(length)?);
        Ok(())
    };
    let test = arbtest::arbtest(property).size_max(MOST_BYTES);
    match number("PORTCULLIS_FUZZ_SEED") {
        Some(seed) => {
            println!("{name}: seed {seed:#x}");
            test.seed(seed).run();
        }
        None => {
            println!("{name}: {budget} ms; a failure prints its seed");
            test.budget(Duration::from_millis(budget)).run();
        }
    }
}

/// A whole number of the environment, decimal or `0x…`.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let read = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(read.expect("the variable holds a whole number"))
}
