//! What ends with what: one table over everything that can be ended, so that no way of ending
//! forgets a kind of thing. (Tests alone.)

use std::collections::BTreeSet;

use portcullis_core::bearer::{Digest, Plain};
use portcullis_core::entropy::SeededEntropy;
use portcullis_core::id::Kind;
use portcullis_core::jose::claims::FactorTimes;
use portcullis_core::revocation::RevocationKind;

use crate::api_keys::ApiKeyRecord;
use crate::clients::StoredClient;
use crate::database::{StoreFault, Tx};
use crate::device_logins::{Decision, DeviceCode, DeviceLogin};
use crate::grants::GrantRecord;
use crate::testing::{NOW, World, grant, id, later, memory, offline, scopes, session, user};

/// Ada has the sessions `one` and `two`, Bob has `bob`; in each the clients `shop` and `bank` hold a
/// grant that dies with the session and one that does not. An older session of Ada's has gone and
/// left an offline grant. Each has approved a device of each client.
async fn populated() -> World {
    let world = memory();
    world.transact(populate).await;
    world
}

async fn populate(tx: &Tx) -> Result<(), StoreFault> {
    for client in ["shop", "bank"] {
        tx.add_client(&StoredClient::new(id(client), "{}".into()), NOW).await?;
        tx.add_api_key(&key(client), NOW).await?;
    }
    for (seed, name, owner) in [(1, "one", "ada"), (2, "two", "ada"), (3, "bob", "bob")] {
        if tx.user(&id(owner)).await?.is_none() {
            tx.add_user(&user(owner)).await?;
        }
        tx.add_session(&session(name, owner, seed)).await?;
        for client in ["shop", "bank"] {
            tx.add_grant(&of(client, grant(&format!("{name}-{client}"), owner, name))).await?;
            let outliving = format!("{name}-{client}-offline");
            tx.add_grant(&of(client, offline(&outliving, owner, name))).await?;
            tx.keep_consent(&id(owner), &id(client), &scopes("openid"), NOW).await?;
        }
    }
    tx.add_grant(&offline("gone-shop-offline", "ada", "gone")).await?;
    for (seed, client, owner) in DEVICES {
        tx.begin_device_login(&device(seed, client, owner), NOW).await?;
    }
    Ok(())
}

const DEVICES: [(u64, &str, &str); 4] =
    [(1, "shop", "ada"), (2, "bank", "ada"), (3, "shop", "bob"), (4, "bank", "bob")];

fn of(client: &str, mut grant: GrantRecord) -> GrantRecord {
    grant.client = id(client);
    grant
}

fn key(client: &str) -> ApiKeyRecord {
    ApiKeyRecord {
        id: id(client),
        client: id(client),
        scopes: scopes("a"),
        from: Vec::new(),
        made: NOW,
        expires: later(86_400),
        revoked: None,
        used: None,
    }
}

fn code(seed: u64) -> Digest<DeviceCode> {
    Plain::mint(&SeededEntropy::new(seed)).digest()
}

fn device(seed: u64, client: &str, owner: &str) -> DeviceLogin {
    let factors = FactorTimes::default();
    DeviceLogin {
        code: code(seed),
        user_code: format!("CODE{seed}"),
        client: id(client),
        scopes: scopes("openid"),
        audience: None,
        details: String::new(),
        binding: None,
        ip: "::1".into(),
        made: NOW,
        expires: later(600),
        interval_s: 5,
        polled: None,
        decision: Decision::Approved { user: id(owner), session: id("one"), factors },
    }
}

/// All that is alive, by name.
async fn alive(tx: &Tx) -> Result<BTreeSet<String>, StoreFault> {
    let mut alive = BTreeSet::new();
    for name in ["one", "two", "bob"] {
        if tx.active_session(&id(name), later(1)).await?.is_some() {
            alive.insert(format!("session {name}"));
        }
        for kind in ["shop", "bank", "shop-offline", "bank-offline"] {
            if tx.active_grant(&id(&format!("{name}-{kind}"))).await?.is_some() {
                alive.insert(format!("grant {name}-{kind}"));
            }
        }
    }
    if tx.active_grant(&id("gone-shop-offline")).await?.is_some() {
        alive.insert("grant gone-shop-offline".into());
    }
    for (seed, client, owner) in DEVICES {
        if tx.device_login(&code(seed)).await?.is_some() {
            alive.insert(format!("device {client} {owner}"));
        }
        if !tx.consented(&id(owner), &id(client)).await?.is_empty() {
            alive.insert(format!("consent {client} {owner}"));
        }
    }
    for key in tx.live_api_keys(later(1)).await? {
        alive.insert(format!("key {}", key.client));
    }
    Ok(alive)
}

/// What an ending ended and whom it has told, `client session`; and that every session, grant and
/// key that ended is revoked, and nothing else.
async fn ended(
    ending: impl AsyncFnOnce(&Tx) -> Result<(), StoreFault> + Send + 'static,
) -> (Vec<String>, Vec<String>) {
    let world = populated().await;
    let before = world.transact(alive).await;
    world.transact(ending).await;
    let after = world.transact(alive).await;
    assert!(after.is_subset(&before));
    for thing in &before {
        let (what, name) = thing.split_once(' ').expect("two words");
        let (kind, prefix) = match what {
            "session" => (RevocationKind::Session, portcullis_core::id::Session::PREFIX),
            "grant" => (RevocationKind::Grant, portcullis_core::id::Grant::PREFIX),
            "key" => (RevocationKind::Token, portcullis_core::id::ApiKey::PREFIX),
            _ => continue,
        };
        let dead = world.kills(kind, &format!("{prefix}{name}"));
        assert_eq!(dead, !after.contains(thing), "{thing}");
    }
    let due = world.transact(async |tx: &Tx| tx.due_logouts(later(9), 99).await).await;
    let mut told: Vec<_> =
        due.iter().map(|due| format!("{} {}", due.client, due.session)).collect();
    told.sort();
    (before.difference(&after).cloned().collect(), told)
}

#[tokio::test]
async fn a_session_ends_its_own_grants_and_tells_all_its_clients() {
    let (gone, told) = ended(async |tx: &Tx| tx.end_session(&id("one"), later(1)).await).await;
    assert_eq!(gone, ["grant one-bank", "grant one-shop", "session one"]);
    assert_eq!(told, ["bank s_one", "shop s_one"], "also those whose grant lives on");
}

#[tokio::test]
async fn the_sessions_of_a_user_end_without_what_outlives_them() {
    let ending = async |tx: &Tx| tx.end_only_sessions_of(&id("ada"), later(1)).await;
    let (gone, told) = ended(ending).await;
    let expected = [
        "grant one-bank",
        "grant one-shop",
        "grant two-bank",
        "grant two-shop",
        "session one",
        "session two",
    ];
    assert_eq!(gone, expected);
    assert_eq!(told, ["bank s_one", "bank s_two", "shop s_one", "shop s_two"]);
}

#[tokio::test]
async fn signing_out_everywhere_and_disabling_a_user_end_everything_of_hers() {
    let expected = [
        "device bank ada",
        "device shop ada",
        "grant gone-shop-offline",
        "grant one-bank",
        "grant one-bank-offline",
        "grant one-shop",
        "grant one-shop-offline",
        "grant two-bank",
        "grant two-bank-offline",
        "grant two-shop",
        "grant two-shop-offline",
        "session one",
        "session two",
    ];
    let everywhere = ended(async |tx: &Tx| tx.end_sessions_of(&id("ada"), later(1)).await).await;
    let disabled = ended(async |tx: &Tx| tx.disable_user(&id("ada"), later(1)).await).await;
    for (gone, told) in [everywhere, disabled] {
        assert_eq!(gone, expected);
        let all = ["bank s_one", "bank s_two", "shop s_gone", "shop s_one", "shop s_two"];
        assert_eq!(told, all);
    }
}

#[tokio::test]
async fn a_client_disabled_removed_or_gone_from_the_file_holds_nothing() {
    let expected = [
        "consent shop ada",
        "consent shop bob",
        "device shop ada",
        "device shop bob",
        "grant bob-shop",
        "grant bob-shop-offline",
        "grant gone-shop-offline",
        "grant one-shop",
        "grant one-shop-offline",
        "grant two-shop",
        "grant two-shop-offline",
        "key shop",
    ];
    let disabled = ended(async |tx: &Tx| tx.disable_client(&id("shop"), later(1)).await).await;
    let removed = ended(async |tx: &Tx| tx.remove_client(&id("shop"), later(1)).await).await;
    let gone = ended(async |tx: &Tx| tx.end_grants_of_client(&id("shop"), later(1)).await).await;
    for (gone, told) in [disabled, removed, gone] {
        assert_eq!(gone, expected);
        assert!(told.is_empty(), "the sessions go on: {told:?}");
    }
}

#[tokio::test]
async fn a_withdrawn_consent_ends_what_it_allowed() {
    let ending = async |tx: &Tx| {
        tx.withdraw_consent(&id("ada"), &id("shop")).await?;
        tx.end_grants_between(&id("ada"), &id("shop"), later(1)).await
    };
    let (gone, told) = ended(ending).await;
    let expected = [
        "consent shop ada",
        "device shop ada",
        "grant gone-shop-offline",
        "grant one-shop",
        "grant one-shop-offline",
        "grant two-shop",
        "grant two-shop-offline",
    ];
    assert_eq!(gone, expected);
    assert!(told.is_empty());
}

#[tokio::test]
async fn a_client_that_has_gone_is_told_of_no_logout_that_waited() {
    let world = populated().await;
    world
        .transact(async |tx: &Tx| {
            tx.end_session(&id("one"), later(1)).await?;
            tx.remove_client(&id("shop"), later(2)).await?;
            let due = tx.due_logouts(later(9), 99).await?;
            assert_eq!(due.len(), 1);
            assert_eq!(due[0].client, id("bank"));
            Ok(())
        })
        .await;
}

/// Rows go, and nobody is told: that a session expires is no end.
#[tokio::test]
async fn what_expires_goes_a_day_later_each_by_its_own_date() {
    const DAY: u64 = 86_400;
    let world = populated().await;
    world
        .transact(async |tx: &Tx| {
            let there = async |name: &str| tx.grant(&id(name)).await.map(|found| found.is_some());
            tx.forget_expired(later(DAY + 12 * 3600 - 1)).await?;
            assert!(there("one-shop").await?);
            tx.forget_expired(later(DAY + 12 * 3600)).await?;
            assert!(tx.session(&id("one")).await?.is_none());
            assert!(!there("one-shop").await?, "it dies with its session");
            assert!(there("one-shop-offline").await?, "it outlives it");
            assert!(tx.active_grant(&id("one-shop-offline")).await?.is_some());
            // Ended ones go a day after their end, the others a day after their family expired.
            tx.end_grant(&id("one-bank-offline"), later(10 * DAY)).await?;
            tx.forget_expired(later(11 * DAY - 1)).await?;
            assert!(there("one-bank-offline").await?);
            tx.forget_expired(later(11 * DAY)).await?;
            assert!(!there("one-bank-offline").await?);
            tx.forget_expired(later(31 * DAY - 1)).await?;
            assert!(there("one-shop-offline").await?);
            tx.forget_expired(later(31 * DAY)).await?;
            assert!(!there("one-shop-offline").await?);
            assert!(tx.due_logouts(later(99 * DAY), 99).await?.is_empty());
            Ok(())
        })
        .await;
}
