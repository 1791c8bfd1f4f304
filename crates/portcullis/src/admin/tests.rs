//! Commands without a socket: what is refused, and that a secret is answered once.

use std::sync::Arc;

use portcullis_core::entropy::SeededEntropy;
use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::jwk::JwkSet;
use portcullis_core::jose::sign::SigningKey;
use portcullis_core::revocation::Revoked;
use portcullis_core::secret::Secret;
use portcullis_core::time::FrozenClock;

use super::*;

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

struct World {
    store: Store,
    sealer: Sealer,
    entropy: SeededEntropy,
}

impl World {
    fn new() -> World {
        let clock = Arc::new(FrozenClock::at(NOW));
        World {
            store: Store::in_memory(Arc::new(Revoked::new()), clock).expect("a store"),
            sealer: Sealer::new(vec![(1, Secret::new([7; 32]))], "https://login.example"),
            entropy: SeededEntropy::new(5),
        }
    }

    async fn perform(&self, command: Command) -> anyhow::Result<Value> {
        let facts = Facts {
            registered: vec![Arc::new(ClientRecord::new(
                Id::parse("app").expect("an id"),
                ClientType::Spa,
                portcullis_core::client::Authentication::None,
            ))],
            attributes: vec![("level".into(), AttributeType::Integer)],
            roles: vec!["admin".into()],
            groups: vec!["staff".into()],
            scopes: vec!["payments:read".into()],
            key_life: portcullis_identity::settings::KEY_LIFE,
        };
        let World { store, sealer, entropy } = self;
        let (facts, identity) = (facts.into(), None);
        perform(&Office { store, sealer, entropy, now: NOW, facts, identity }, command).await
    }

    /// The words of a refusal.
    async fn refused(&self, command: Command) -> String {
        format!("{:#}", self.perform(command).await.expect_err("refused"))
    }
}

fn user(login: &str) -> Command {
    let (roles, groups) = (vec!["admin".into()], vec!["staff".into()]);
    Command::UserAdd {
        login: login.into(),
        name: String::new(),
        roles,
        groups,
        attributes: BTreeMap::from([("level".into(), "3".into())]),
    }
}

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::Es256).expect("a key")
}

fn service(keys: Option<Value>) -> Registration {
    Registration {
        kind: "service".into(),
        redirects: Vec::new(),
        scopes: "payments:read".into(),
        keys,
        bearer_tokens: Some("2028-01-01".into()),
        no_par: Some("2028-01-01".into()),
        name: None,
        grants: None,
        post_logout: Vec::new(),
        back_channel_logout: None,
        introspects: Vec::new(),
        details: Vec::new(),
        certificate: None,
    }
}

fn client(id: &str, registration: Registration) -> Command {
    Command::ClientAdd { id: id.into(), registration: Box::new(registration) }
}

#[tokio::test]
async fn a_secret_is_in_the_answer_to_its_making_and_in_no_other() {
    let world = World::new();
    let added = world.perform(user("Ada")).await.expect("added");
    let password = added["one_off_password"].as_str().expect("shown once").to_owned();
    assert_eq!(added["login"], "ada");
    let listed = world.perform(Command::UserList).await.expect("listed").to_string();
    assert!(listed.contains("ada") && !listed.contains(&password) && !listed.contains("argon2"));
    let again = world.refused(user("ADA")).await;
    assert!(again.contains("taken") && !again.contains(&password), "{again}");
    let disabled = world.perform(Command::UserDisable { login: " ADA ".into() }).await;
    assert!(!disabled.expect("disabled").to_string().contains(&password));
}

#[tokio::test]
async fn what_the_file_does_not_declare_is_refused() {
    let world = World::new();
    let command = |role: &str, group: &str, (name, value): (&str, &str)| Command::UserAdd {
        login: "ada".into(),
        name: String::new(),
        roles: vec![role.into()],
        groups: vec![group.into()],
        attributes: BTreeMap::from([(name.to_owned(), value.to_owned())]),
    };
    for (command, part) in [
        (command("root", "staff", ("level", "1")), "role `root`"),
        (command("admin", "wheel", ("level", "1")), "group `wheel`"),
        (command("admin", "staff", ("tenant", "1")), "`tenant` is not declared"),
        (command("admin", "staff", ("level", "high")), "integer"),
        (
            client("jobs", Registration { scopes: "payments:raed".into(), ..service(None) }),
            "payments:raed",
        ),
    ] {
        let refused = world.refused(command).await;
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(world.perform(Command::UserList).await.expect("listed"), json!([]));
    let unknown = world.refused(Command::UserDisable { login: "ada".into() }).await;
    assert!(unknown.contains("no such user"), "{unknown}");
}

#[tokio::test]
async fn a_private_key_is_never_kept() {
    let world = World::new();
    let mut keys = JwkSet::new(vec![key().public()]).to_json();
    keys["keys"][0]["d"] = json!("c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I");
    let refused = world.refused(client("ledger", service(Some(keys)))).await;
    assert!(refused.contains("private member `d`"), "{refused}");
    assert!(!refused.contains("c2Vjc"), "{refused}");
    let listed = world.perform(Command::ClientList).await.expect("listed");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!((&listed[0]["id"], &listed[0]["profile"]), (&json!("app"), &json!("public")));
}

#[tokio::test]
async fn a_client_that_could_not_be_read_back_is_never_stored() {
    let world = World::new();
    let keys = || Some(JwkSet::new(vec![key().public()]).to_json());
    let spa = |redirect: &str| Registration {
        kind: "spa".into(),
        redirects: vec![redirect.into()],
        bearer_tokens: None,
        no_par: None,
        ..service(None)
    };
    for (id, registration, part) in [
        ("app", service(keys()), "stands in the file"),
        ("u_ada", service(keys()), "client id"),
        ("a b", service(keys()), "client id"),
        ("x", service(None), "needs a key"),
        ("x", Registration { grants: Some(vec!["password".into()]), ..service(keys()) }, "grant"),
        ("x", Registration { certificate: Some("x".into()), ..service(None) }, "certificate"),
        ("x", Registration { certificate: Some("dns:x".into()), ..service(keys()) }, "not both"),
        (
            "x",
            Registration { no_par: Some("2028-01-01".into()), ..spa("https://app.example/cb") },
            "nothing to waive",
        ),
        ("x", Registration { no_par: Some("2026-01-01".into()), ..service(keys()) }, "ran out"),
        ("x", Registration { no_par: Some("soon".into()), ..service(keys()) }, "not a date"),
        ("x", Registration { kind: "root".into(), ..service(keys()) }, "client type"),
        ("x", Registration { scopes: "a\"b".into(), ..service(keys()) }, "scope"),
        (
            "x",
            Registration { redirects: vec!["https://a.example/cb".into()], ..service(keys()) },
            "has no a redirect",
        ),
        ("x", Registration { redirects: Vec::new(), ..spa("") }, "needs a redirect"),
        ("x", spa("http://app.example/cb"), "loopback"),
        ("x", spa("javascript:alert(1)"), "private-use"),
        ("x", spa("https://app.example/../cb"), "`..`"),
        ("x", Registration { keys: keys(), ..spa("https://app.example/cb") }, "has no key"),
    ] {
        let refused = world.refused(client(id, registration)).await;
        assert!(refused.contains(part), "{id}: {refused}");
    }
    world.perform(client("ledger", service(keys()))).await.expect("added");
    let again = world.refused(client("ledger", service(keys()))).await;
    assert!(again.contains("exists"), "{again}");
    assert_eq!(stored_clients(&world.store).await.expect("read back").len(), 1);
}

#[tokio::test]
async fn a_disabled_client_is_no_client_of_the_login() {
    let world = World::new();
    let keys = JwkSet::new(vec![key().public()]).to_json();
    world.perform(client("ledger", service(Some(keys)))).await.expect("added");
    let disable = async |tx: &portcullis_store::database::Tx| {
        let id = Id::parse("ledger").map_err(|_| StoreFault::Missing("an id"))?;
        tx.disable_client(&id, NOW).await
    };
    let done: Result<(), StoreFault> = world.store.transact(disable).await;
    done.expect("disabled");
    assert!(stored_clients(&world.store).await.expect("read").is_empty());
}

#[tokio::test]
async fn a_store_is_of_dev_or_not_for_ever() {
    for (made, opened) in [(Purpose::Dev, Purpose::Serve), (Purpose::Serve, Purpose::Dev)] {
        let world = World::new();
        mark_dev(&world.store, made).await.expect("new");
        mark_dev(&world.store, made).await.expect("the same");
        let fault = mark_dev(&world.store, opened).await.expect_err("another").to_string();
        assert!(fault.contains("in [server]"), "{fault}");
    }
}

#[test]
fn a_command_that_nobody_defined_is_not_read() {
    for line in [
        "",
        "[]",
        r#"{"command":"drop-all"}"#,
        r#"{"command":"user-list","command":"user-list"}"#,
        r#"{"command":"user-disable"}"#,
        r#"{"command":"user-disable","login":"a","also":"b"}"#,
        r#"{"command":"user-disable","login":["a"]}"#,
    ] {
        assert!(serde_json::from_str::<Command>(line).is_err(), "{line}");
    }
}
