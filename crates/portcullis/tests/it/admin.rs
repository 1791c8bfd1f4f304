//! What an operator's commands do to a running server, through its control socket: keys of clients
//! and of the server itself, sessions, consents. What each command prints is `cli`'s.

use serde_json::Value;

use crate::support::browser::{Browser, Errand, access_token, claims_of};
use crate::support::corpus;
use crate::support::plan::Plan;
use crate::support::server::Server;
use crate::support::story::{self, Troupe};

/// A command with `--json`; what it said.
fn said(server: &Server, words: &[&str]) -> Value {
    let output = server.cli(&[words, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{words:?}: {fault}: {text}"))
}

/// Tells a story; it must go as it is written.
fn tell(steps: &str) {
    let text = format!("name: story\nwhy: it is asked for\n{steps}");
    let attacks = corpus::parse(&text).expect("a story");
    let people = Troupe::of(attacks.iter().flat_map(|attack| &attack.tales));
    let mut server = Plan::default().people(people).start();
    let faults = story::tell(&mut server, &attacks[0], &mut Troupe::new());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_client_key_works_until_it_is_revoked() {
    tell(
        "step: admin client key add settler --scopes bound:read --days 1 --json\n\
         step: call GET bound.test/b/keyed token=${key}\n\
         expect: status 200\n\
         step: admin client key list settler\n\
         expect: body ${id}\n\
         step: admin client key list settler --json\n\
         expect: no-member 0.key\n\
         step: admin client key revoke ${id}\n\
         step: call GET bound.test/b/keyed token=${key}\n\
         expect: status 401\n\
         step: admin client key revoke ${id}\n\
         expect: exit 1\n",
    );
}

#[test]
fn a_session_that_is_ended_takes_its_tokens_along() {
    tell(
        "step: code web ann\n\
         step: redeem web\n\
         step: call GET localhost/v1/accounts/${ann-account}\n\
         step: admin session list ${ann} --json\n\
         step: admin session end ${id}\n\
         step: call GET localhost/v1/accounts/${ann-account}\n\
         expect: status 401\n\
         expect: reason TokenRevoked\n\
         step: refresh web\n\
         expect: error invalid_grant\n\
         step: authorize app\n\
         expect: body name=\"password\"\n\
         step: admin session end ${id}\n\
         expect: exit 1\n\
         step: admin session end --user nobody\n\
         expect: exit 1\n",
    );
}

#[test]
fn a_consent_that_is_withdrawn_ends_what_it_granted_and_nothing_else() {
    tell(
        "step: code app ann\n\
         step: redeem app\n\
         step: keep other ${access_token}\n\
         step: code page ann\n\
         step: redeem page\n\
         step: call GET localhost/v1/accounts/${ann-account}\n\
         step: admin consent list ${ann}\n\
         expect: body page\n\
         step: admin consent withdraw ${ann} page\n\
         step: call GET localhost/v1/accounts/${ann-account}\n\
         expect: status 401\n\
         step: refresh page\n\
         expect: error invalid_grant\n\
         step: call GET localhost/v1/accounts/${ann-account} token=${other}\n\
         expect: status 200\n\
         step: admin consent withdraw ${ann} page\n\
         expect: exit 1\n",
    );
}

/// Ids of the keys that the server publishes for tokens.
fn published(server: &Server) -> Vec<String> {
    let set = Browser::new(server).get("/oauth/jwks").json();
    let keys = set["keys"].as_array().cloned().unwrap_or_default();
    keys.iter().filter_map(|key| key["kid"].as_str().map(str::to_owned)).collect()
}

/// The key id in a token's header.
fn kid_of(token: &str) -> String {
    let header = token.split('.').next().expect("a JWS");
    let header = portcullis_core::jose::base64url::decode(header).expect("base64url");
    let header: Value = serde_json::from_slice(&header).expect("a header");
    header["kid"].as_str().expect("a kid").to_owned()
}

#[test]
fn signing_keys_change_without_a_failed_verification() {
    let server = Plan::default().start();
    let before = server.log_in(&server.people[0]);
    assert!(published(&server).contains(&kid_of(&before)));
    // The next key was published, but not for a day.
    let waits = server.cli(&["signing-key", "rotate"]);
    assert!(published(&server).contains(&kid_of(&before)), "{waits:?}");
    let known = published(&server);
    said(&server, &["signing-key", "rotate", "--now"]);
    let after = server.log_in(&server.people[1]);
    assert_ne!(kid_of(&before), kid_of(&after), "another key signs");
    assert!(known.contains(&kid_of(&after)), "and it was published before it signed");
    for (token, account) in [(&before, "acc-0"), (&after, "acc-1")] {
        let answer = server.ask_as(&format!("GET /v1/accounts/{account}"), token);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let list = said(&server, &["signing-key", "list"]).to_string();
    assert!(list.contains(&kid_of(&before)) && list.contains(&kid_of(&after)), "{list}");
    assert!(!list.contains("\"d\""), "{list}");
}

#[test]
fn a_killed_key_takes_everything_along_that_it_signed() {
    let mut server = Plan::default().start();
    let errand = Errand::new();
    let answer = server.log_in_for(&server.people[0], &errand);
    let (token, refresh) = (access_token(&answer), answer.json()["refresh_token"].clone());
    let killed = kid_of(&token);
    // A key id may begin with `-`.
    let command = ["signing-key", "kill", "--json", "--", &killed];
    let command = server.cli_with(&command);
    assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
    let line = "GET /v1/accounts/acc-0";
    assert_eq!(server.ask_as(line, &token).status, 401, "dead before the command returned");
    assert!(!published(&server).contains(&killed));
    // Its successor signs; who holds a refresh token goes on.
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", refresh.as_str().expect("a refresh token")),
    ];
    let answer = server.form("/oauth/token", &form.map(|(n, v)| (n.to_owned(), v.to_owned())));
    let renewed = access_token(&answer);
    assert_ne!(kid_of(&renewed), killed);
    assert_eq!(server.ask_as(line, &renewed).status, 200);
    assert_eq!(claims_of(&renewed)["sub"], server.people[0].id.as_str());
    // And none of it is forgotten.
    server.kill();
    server.run();
    assert_eq!(server.ask_as(line, &token).status, 401);
    assert_eq!(server.ask_as(line, &renewed).status, 200);
    let again = server.cli_with(&["signing-key", "kill", "--", &killed]);
    assert_eq!(again.status.code(), Some(1), "{}", String::from_utf8_lossy(&again.stdout));
}
