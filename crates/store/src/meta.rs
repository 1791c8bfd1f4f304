//! Facts of the installation: revocation counter, whether `--dev` made it. (The schema's version
//! stands in the file's header.)

use crate::database::{StoreFault, Tx};
use crate::row::{MAX_NAME, MAX_SEALED, bind, bounded};

impl Tx {
    /// The revocation sequence now; minting reads it *first* in its transaction.
    pub async fn revision(&self) -> Result<u64, StoreFault> {
        let row = self.fetch_one("SELECT rev FROM meta", bind![]).await?;
        row.ok_or(StoreFault::Missing("meta"))?.natural("rev")
    }

    /// A named fact.
    pub async fn fact(&self, name: &str) -> Result<Option<String>, StoreFault> {
        let row = self.fetch_one("SELECT value FROM facts WHERE name = $1", bind![name]).await?;
        row.map(|row| row.text("value").map(str::to_owned)).transpose()
    }

    /// Sets a named fact.
    ///
    /// # Errors
    /// [`StoreFault::TooMuch`] for a name over 256 or a value over 4096 bytes.
    pub async fn remember_fact(&self, name: &str, value: &str) -> Result<(), StoreFault> {
        bounded("a fact's name", name, MAX_NAME)?;
        bounded("a fact", value, MAX_SEALED)?;
        let sql = "INSERT INTO facts (name, value) VALUES ($1, $2)
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.execute(sql, bind![name, value]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::memory;

    #[tokio::test]
    async fn facts_are_remembered_and_replaced() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                assert_eq!(tx.fact("dev").await?, None);
                tx.remember_fact("dev", "yes").await?;
                tx.remember_fact("dev", "no").await?;
                assert_eq!(tx.fact("dev").await?.as_deref(), Some("no"));
                let long = "x".repeat(MAX_SEALED + 1);
                assert!(matches!(
                    tx.remember_fact("dev", &long).await,
                    Err(StoreFault::TooMuch("a fact"))
                ));
                assert!(tx.remember_fact(&long, "x").await.is_err());
                assert_eq!(tx.revision().await?, 0);
                Ok(())
            })
            .await;
    }
}
