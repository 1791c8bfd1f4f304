//! Signing keys, sealed: next → active → verify-only → gone.

use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::time::Timestamp;

use crate::database::{StoreFault, Tx};
use crate::row::{MAX_LABEL, MAX_SEALED, Row, bind, bounded, unreadable};

/// What a signing key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Access tokens (EdDSA).
    Access,
    /// ID tokens (ES256).
    Identity,
    /// `Portcullis-Identity` (ES256).
    Passport,
}

/// The states of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Published, not yet signing.
    Next,
    /// Signing.
    Active,
    /// Verifying what it signed.
    VerifyOnly,
}

/// A key at rest.
pub struct KeyRecord {
    /// `kid`.
    pub kid: String,
    /// Its use.
    pub usage: KeyUse,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Its state.
    pub state: KeyState,
    /// The private part, sealed under `Purpose::Sign`.
    pub sealed: String,
    /// When it was made.
    pub made: Timestamp,
}

/// Most keys that are not gone: three uses, a few states each; all are read at every start.
pub const MAX_KEYS: usize = 64;

impl Tx {
    /// All keys that are not gone, the oldest first.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, StoreFault> {
        let sql = "SELECT kid, usage, algorithm, state, sealed, made FROM keys
                   ORDER BY made, kid LIMIT $1";
        self.fetch(sql, bind![MAX_KEYS as i64]).await?.iter().map(key).collect()
    }

    /// A key that is not gone.
    pub async fn key(&self, kid: &str) -> Result<Option<KeyRecord>, StoreFault> {
        let sql = "SELECT kid, usage, algorithm, state, sealed, made FROM keys WHERE kid = $1";
        self.fetch_one(sql, bind![kid]).await?.as_ref().map(key).transpose()
    }

    /// Adds a key; `Taken` when the `kid` is, `TooMuch` when there are 64.
    pub async fn add_key(&self, key: &KeyRecord) -> Result<(), StoreFault> {
        bounded("a key's id", &key.kid, MAX_LABEL)?;
        bounded("a sealed key", &key.sealed, MAX_SEALED)?;
        if self.keys().await?.len() >= MAX_KEYS {
            return Err(StoreFault::TooMuch("signing keys"));
        }
        let sql = "INSERT INTO keys (kid, usage, algorithm, state, sealed, made)
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
        let algorithm = key.algorithm.name();
        let (usage, state) = (key.usage.stored(), key.state.stored());
        let values = bind![&*key.kid, usage, algorithm, state, &*key.sealed, key.made];
        if self.execute(sql, values).await? == 0 {
            return Err(StoreFault::Taken("the key"));
        }
        Ok(())
    }

    /// Moves a key to another state; `Missing` when there is none of that `kid`.
    pub async fn move_key(&self, kid: &str, state: KeyState) -> Result<(), StoreFault> {
        let sql = "UPDATE keys SET state = $2 WHERE kid = $1";
        match self.execute(sql, bind![kid, state.stored()]).await? {
            0 => Err(StoreFault::Missing("the key")),
            _ => Ok(()),
        }
    }

    /// Drops a key: gone. (That its tokens die at once is a revocation of kind `Key`.)
    pub async fn drop_key(&self, kid: &str) -> Result<(), StoreFault> {
        self.execute("DELETE FROM keys WHERE kid = $1", bind![kid]).await.map(drop)
    }
}

impl KeyUse {
    fn stored(self) -> i64 {
        match self {
            KeyUse::Access => 1,
            KeyUse::Identity => 2,
            KeyUse::Passport => 3,
        }
    }
}

impl KeyState {
    fn stored(self) -> i64 {
        match self {
            KeyState::Next => 1,
            KeyState::Active => 2,
            KeyState::VerifyOnly => 3,
        }
    }
}

fn key(row: &Row) -> Result<KeyRecord, StoreFault> {
    let (usage, state) = (row.integer("usage")?, row.integer("state")?);
    Ok(KeyRecord {
        kid: row.text("kid")?.to_owned(),
        usage: [KeyUse::Access, KeyUse::Identity, KeyUse::Passport]
            .into_iter()
            .find(|known| known.stored() == usage)
            .ok_or_else(|| unreadable("usage"))?,
        algorithm: Algorithm::from_name(row.text("algorithm")?)
            .ok_or_else(|| unreadable("algorithm"))?,
        state: [KeyState::Next, KeyState::Active, KeyState::VerifyOnly]
            .into_iter()
            .find(|known| known.stored() == state)
            .ok_or_else(|| unreadable("state"))?,
        sealed: row.text("sealed")?.to_owned(),
        made: row.moment("made")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{later, memory};

    fn record(kid: &str, seconds: u64) -> KeyRecord {
        KeyRecord {
            kid: kid.into(),
            usage: KeyUse::Access,
            algorithm: Algorithm::EdDsa,
            state: KeyState::Next,
            sealed: "sealed".into(),
            made: later(seconds),
        }
    }

    #[tokio::test]
    async fn a_key_comes_back_as_added_and_moves_on() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                let mut second = record("a", 2);
                (second.usage, second.algorithm) = (KeyUse::Passport, Algorithm::Es256);
                second.state = KeyState::Active;
                tx.add_key(&second).await?;
                let mut first = record("z", 1);
                first.usage = KeyUse::Identity;
                tx.add_key(&first).await?;
                let [one, two] = &tx.keys().await?[..] else { panic!("two") };
                assert_eq!(
                    (&*one.kid, one.usage, one.state),
                    ("z", KeyUse::Identity, KeyState::Next)
                );
                assert_eq!((one.algorithm, one.made), (Algorithm::EdDsa, later(1)));
                assert_eq!(
                    (&*two.kid, two.usage, two.state),
                    ("a", KeyUse::Passport, KeyState::Active)
                );
                assert_eq!((two.algorithm, &*two.sealed), (Algorithm::Es256, "sealed"));
                for state in [KeyState::Active, KeyState::VerifyOnly] {
                    tx.move_key("z", state).await?;
                    assert_eq!(tx.keys().await?[0].state, state);
                }
                assert_eq!(tx.key("a").await?.expect("there").usage, KeyUse::Passport);
                assert!(tx.key("none").await?.is_none());
                let missing = tx.move_key("none", KeyState::Active).await;
                assert!(matches!(missing, Err(StoreFault::Missing("the key"))));
                tx.drop_key("z").await?;
                assert_eq!(tx.keys().await?.len(), 1);
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn taken_and_too_much() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_key(&record("a", 1)).await?;
                let again = tx.add_key(&record("a", 1)).await;
                assert!(matches!(again, Err(StoreFault::Taken("the key"))));
                let long = tx.add_key(&record(&"x".repeat(MAX_LABEL + 1), 1)).await;
                assert!(matches!(long, Err(StoreFault::TooMuch("a key's id"))));
                for n in 1..MAX_KEYS {
                    tx.add_key(&record(&n.to_string(), 1)).await?;
                }
                let full = tx.add_key(&record("more", 1)).await;
                assert!(matches!(full, Err(StoreFault::TooMuch("signing keys"))));
                Ok(())
            })
            .await;
    }
}
