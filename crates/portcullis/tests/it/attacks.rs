//! The attack corpus against the real binary: every record of `tests/attacks`, in every spelling,
//! with a canary behind each.

use crate::support::attacker::Attacker;
use crate::support::corpus::{self, Attack, Expect};
use crate::support::plan::Plan;
use crate::support::story::{self, Troupe};

fn run(file: &str, least: usize) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks").join(file);
    let text = std::fs::read_to_string(&path).expect("the file is there");
    let attacks = corpus::parse(&text).unwrap_or_else(|fault| panic!("{file}: {fault}"));
    let (stories, single): (Vec<_>, Vec<_>) =
        attacks.iter().partition(|attack| !attack.tales.is_empty());
    let people = Troupe::of(stories.iter().flat_map(|story| &story.tales));
    let mut server = Plan::default().people(people).start();
    let mut attacker = Attacker::new(&server);
    let mut faults = Vec::new();
    for attack in single {
        faults.extend(weighed(file, attack, attacker.carry_out(attack)));
    }
    let mut troupe = Troupe::new();
    for attack in stories {
        let found = story::tell(&mut server, attack, &mut troupe);
        faults.extend(weighed(file, attack, found));
    }
    let attempts: usize = attacks.iter().map(|attack| attack.each.len()).sum();
    assert!(server.stayed_silent(), "{file}: an address that a token named was called");
    println!("{file}: {} attacks, {attempts} attempts, {} faults", attacks.len(), faults.len());
    assert!(faults.is_empty(), "{} faults in {file}:\n{}", faults.len(), faults.join("\n"));
    // A file that lost its records would pass too.
    assert!(attempts >= least, "{file}: only {attempts} attempts");
}

/// What was found, unless it is a gap that is known: that must still be there.
fn weighed(file: &str, attack: &Attack, found: Vec<String>) -> Vec<String> {
    match &attack.gap {
        None => found,
        Some(gap) if found.is_empty() => {
            vec![format!("{}: no gap any more, take the line out: {gap}", attack.name)]
        }
        Some(gap) => {
            println!("{file}: known gap: {}: {gap}", attack.name);
            found.iter().for_each(|fault| println!("  {fault}"));
            Vec::new()
        }
    }
}

#[test]
fn path_host_and_routing() {
    run("path.attack", 130);
}

#[test]
fn headers_and_identity() {
    run("header.attack", 90);
}

#[test]
fn framing() {
    run("framing.attack", 95);
}

#[test]
fn tokens_at_the_edge() {
    run("token.attack", 290);
}

#[test]
fn redirects_codes_and_pkce() {
    run("redirect.attack", 290);
}

#[test]
fn client_authentication() {
    run("client.attack", 175);
}

#[test]
fn refresh_revocation_and_sessions() {
    run("refresh.attack", 75);
}

#[test]
fn every_file_is_run() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks");
    let files = std::fs::read_dir(folder).expect("readable").flatten();
    let files = files.filter(|file| file.path().extension().is_some_and(|ext| ext == "attack"));
    let this = include_str!("attacks.rs");
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        assert!(this.contains(&format!("run(\"{name}\"")), "`{name}` is run by no test");
    }
}

#[test]
fn a_record_that_proves_nothing_is_refused() {
    let whole = "name: a\nwhy: b\nrequest: GET /\nexpect: status 400\nupstream: silent\n";
    let read = corpus::parse(whole).expect("whole");
    assert_eq!(read[0].expect, [Expect::Status(vec![400])]);
    for key in ["name", "why", "request", "expect", "upstream"] {
        let lines: Vec<&str> = whole.lines().filter(|line| !line.starts_with(key)).collect();
        assert!(corpus::parse(&lines.join("\n")).is_err(), "without `{key}`");
    }
    for more in [
        "colour: red",
        "no key",
        "each: x",
        "expect: miracle",
        "expect: status many",
        "upstream: loud",
        "token: somebody",
        "door: back",
    ] {
        assert!(corpus::parse(&format!("{whole}{more}\n")).is_err(), "with `{more}`");
    }
}

#[test]
fn a_story_that_cannot_be_told_is_refused() {
    let story = |steps: &str| corpus::parse(&format!("name: a\nwhy: b\n{steps}"));
    let whole = "step: redeem app code=x\nexpect: error invalid_grant\n";
    let read = story(whole).expect("whole");
    assert_eq!(read[0].tales[0][0].expect, [Expect::Error("invalid_grant".into())]);
    for steps in [
        "step: redeem app\n",
        "step: steal app\nexpect: status 200\n",
        "step: redeem\nexpect: status 200\n",
        "step: redeem app code\nexpect: status 200\n",
        "step: redeem app colour:red\nexpect: status 200\n",
        "step: redeem app proof:forged\nexpect: status 200\n",
        "step: parallel 1 redeem app\nexpect: status 200\n",
        "step: parallel 1000 redeem app\nexpect: status 200\n",
        "step: redeem app 'code=x\nexpect: status 200\n",
        "step: wait 60000\nexpect: status 200\n",
        "step: redeem app\nexpect: miracle\n",
        "step: redeem app\nexpect: times many 200\n",
        "step: redeem app ${each}\nexpect: status 200\n",
        "step: redeem app\nexpect: status 200\neach: code=x\n",
    ] {
        assert!(story(steps).is_err(), "{steps}");
    }
    for more in ["upstream: silent\n", "request: GET /\n", "token: honest\n"] {
        assert!(story(&format!("{whole}{more}")).is_err(), "with `{more}`");
    }
    let long = "step: wait 1\n".repeat(50);
    assert!(story(&format!("{whole}{long}")).is_err(), "too long");
}

#[test]
fn bytes_and_placeholders_are_read() {
    assert_eq!(corpus::unescaped("a\\r\\n\\t\\0\\\\\\x7f"), b"a\r\n\t\0\\\x7f");
    let of = |name: &str| (name == "a").then(|| "1".to_owned());
    assert_eq!(corpus::filled("x${a}y${repeat ab 3}z", &of), "x1yabababz");
}
