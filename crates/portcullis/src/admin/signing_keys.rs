//! The signing keys, as an operator changes them. On a running server the change is in force at the
//! gateway before the command is answered: the socket reloads the snapshot after it.

use portcullis_core::time::Timestamp;
use portcullis_identity::keys::{self, Haste, Keeping, Promotion, Rotated};
use serde_json::{Value, json};

use super::Office;

/// `signing-key list`.
pub(super) async fn list(office: &Office<'_>) -> anyhow::Result<Value> {
    let listed = match office.identity {
        Some(identity) => identity.signing_keys().await?,
        None => keys::list(&keeping(office)).await?,
    };
    let rows = listed.into_iter().map(|key| {
        json!({
            "kid": key.kid,
            "use": keys::usage_word(key.usage),
            "algorithm": key.algorithm.name(),
            "state": keys::state_word(key.state),
            "since": key.made.to_string(),
            "next": key.until.map(|until| until.to_string()),
        })
    });
    Ok(Value::Array(rows.collect()))
}

/// `signing-key rotate`.
pub(super) async fn rotate(office: &Office<'_>, now: bool) -> anyhow::Result<Value> {
    let haste = if now { Haste::Now } else { Haste::Planned };
    let rotated = match office.identity {
        Some(identity) => identity.rotate_signing_keys(None, haste).await?,
        None => keys::rotate(&keeping(office), None, haste).await?,
    };
    Ok(Value::Array(rotated.iter().map(|one| row(one, office.now)).collect()))
}

fn row(rotated: &Rotated, now: Timestamp) -> Value {
    let (state, next) = match rotated.promotion {
        Promotion::Promoted { known_to_all: true } => ("active", None),
        Promotion::Promoted { known_to_all: false } => {
            ("active", Some("verifiers with an old key set fetch it anew".to_owned()))
        }
        Promotion::Waits { ready } => ("next", Some(format!("can sign from {ready}"))),
    };
    json!({
        "kid": rotated.kid,
        "use": keys::usage_word(rotated.usage),
        "state": state,
        "since": now.to_string(),
        "next": next,
    })
}

/// `signing-key kill`.
pub(super) async fn kill(office: &Office<'_>, kid: &str) -> anyhow::Result<Value> {
    let killed = match office.identity {
        Some(identity) => identity.kill_signing_key(kid).await?,
        None => keys::kill(&keeping(office), kid).await?,
    };
    Ok(json!({
        "kid": killed.kid,
        "use": keys::usage_word(killed.usage),
        "was": keys::state_word(killed.was),
        "successor": killed.successor,
    }))
}

fn keeping<'k>(office: &'k Office<'_>) -> Keeping<'k> {
    Keeping {
        store: office.store,
        sealer: office.sealer,
        entropy: office.entropy,
        now: office.now,
        life: office.facts.key_life,
    }
}
