//! One libFuzzer target for all bodies: `PORTCULLIS_FUZZ_BODY` names the one that runs.
//!
//! What the bodies check stands in `fuzz/src`; here is only the door.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::{BODIES, Body};

static BODY: LazyLock<Body> = LazyLock::new(|| {
    let wanted = std::env::var("PORTCULLIS_FUZZ_BODY").unwrap_or_else(|_| "token".to_owned());
    let found = BODIES.iter().find(|(name, _)| *name == wanted);
    found.expect("PORTCULLIS_FUZZ_BODY is one of the names in fuzz/src/lib.rs").1
});

fuzz_target!(|data: &[u8]| BODY(data));
