//! Clients that live in the store (`client add`); those of the file belong to the file.

use portcullis_core::id::{self, Id};
use portcullis_core::time::Timestamp;

use crate::active::Active;
use crate::database::{StoreFault, Tx};
use crate::row::{MAX_DOCUMENT, Row, bind, bounded};

/// A client at rest: its registration as one JSON document, read by the binary like the file's.
#[derive(Clone, Debug)]
pub struct StoredClient {
    /// Its id.
    pub id: Id<id::Client>,
    /// The registration, JSON.
    pub registration: String,
    /// Disabled, and when.
    pub disabled: Option<Timestamp>,
}

/// Most clients of the store: all of them stand in memory.
pub const MAX_CLIENTS: usize = 5_000;

impl Tx {
    /// Adds a client; `Taken` when the id is, `TooMuch` over 64 KiB or 5000 clients.
    pub async fn add_client(
        &self,
        client: &StoredClient,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        bounded("a client's registration", &client.registration, MAX_DOCUMENT)?;
        let count = self.fetch_one("SELECT count(*) AS n FROM clients", bind![]).await?;
        let count = count.ok_or(StoreFault::Missing("a count"))?.natural("n")?;
        if count >= MAX_CLIENTS as u64 {
            return Err(StoreFault::TooMuch("clients"));
        }
        let sql = "INSERT INTO clients (id, registration, disabled, made)
                   VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let values = bind![&client.id, &*client.registration, client.disabled, now];
        match self.execute(sql, values).await? {
            0 => Err(StoreFault::Taken("the client")),
            _ => Ok(()),
        }
    }

    /// All clients, by id, disabled or not.
    pub async fn clients(&self) -> Result<Vec<StoredClient>, StoreFault> {
        let sql = "SELECT id, registration, disabled FROM clients ORDER BY id LIMIT $1";
        self.fetch(sql, bind![MAX_CLIENTS as i64]).await?.iter().map(client).collect()
    }

    /// A client of the store, disabled or not.
    pub async fn client(&self, id: &Id<id::Client>) -> Result<Option<StoredClient>, StoreFault> {
        let sql = "SELECT id, registration, disabled FROM clients WHERE id = $1";
        self.fetch_one(sql, bind![id]).await?.as_ref().map(client).transpose()
    }

    /// A client of the store that is not disabled.
    pub async fn active_client(
        &self,
        id: &Id<id::Client>,
    ) -> Result<Option<Active<'_, StoredClient>>, StoreFault> {
        Ok(self.client(id).await?.filter(|client| client.disabled.is_none()).map(Active::found))
    }

    /// Disables a client: ends its grants; writes `Client` and `Grant` revocations.
    ///
    /// # Errors
    /// [`StoreFault::Missing`] when the store has no such client; one of the file is removed
    /// there, and its grants end by [`Tx::end_grants_of_client`].
    pub async fn disable_client(
        &self,
        id: &Id<id::Client>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let sql = "UPDATE clients SET disabled = COALESCE(disabled, $2) WHERE id = $1";
        if self.execute(sql, bind![id, now]).await? == 0 {
            return Err(StoreFault::Missing("the client"));
        }
        self.end_grants_of_client(id, now).await
    }
}

fn client(row: &Row) -> Result<StoredClient, StoreFault> {
    Ok(StoredClient {
        id: row.id("id")?,
        registration: row.text("registration")?.to_owned(),
        disabled: row.moment_if_any("disabled")?,
    })
}

#[cfg(test)]
mod tests {
    use portcullis_core::revocation::RevocationKind;

    use super::*;
    use crate::testing::{NOW, grant, id, later, memory, session, user};

    fn stored(name: &str) -> StoredClient {
        StoredClient { id: id(name), registration: format!("{{\"{name}\":1}}"), disabled: None }
    }

    #[tokio::test]
    async fn a_client_comes_back_as_added() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                for name in ["shop", "bank"] {
                    tx.add_client(&stored(name), NOW).await?;
                }
                let all = tx.clients().await?;
                let names: Vec<_> = all.iter().map(|client| client.id.as_str()).collect();
                assert_eq!(names, ["bank", "shop"]);
                let found = tx.client(&id("shop")).await?.expect("there");
                assert_eq!(format!("{found:?}"), format!("{:?}", stored("shop")));
                assert!(tx.client(&id("none")).await?.is_none());
                assert!(tx.active_client(&id("none")).await?.is_none());
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn taken_and_too_much() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_client(&stored("shop"), NOW).await?;
                let again = tx.add_client(&stored("shop"), NOW).await;
                assert!(matches!(again, Err(StoreFault::Taken("the client"))));
                let mut long = stored("long");
                long.registration = "x".repeat(MAX_DOCUMENT + 1);
                let long = tx.add_client(&long, NOW).await;
                assert!(matches!(long, Err(StoreFault::TooMuch("a client's registration"))));
                for n in 1..MAX_CLIENTS {
                    tx.add_client(&stored(&format!("n{n}")), NOW).await?;
                }
                let full = tx.add_client(&stored("more"), NOW).await;
                assert!(matches!(full, Err(StoreFault::TooMuch("clients"))));
                assert_eq!(tx.clients().await?.len(), MAX_CLIENTS);
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_disabled_client_is_not_active_and_its_grants_are_dead() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                tx.add_session(&session("one", "ada", 1)).await?;
                tx.add_client(&stored("shop"), NOW).await?;
                let mut other = grant("other", "ada", "one");
                other.client = id("bank");
                tx.add_grant(&grant("a", "ada", "one")).await?;
                tx.add_grant(&other).await?;
                assert!(tx.active_client(&id("shop")).await?.is_some());
                tx.disable_client(&id("shop"), later(1)).await?;
                tx.disable_client(&id("shop"), later(2)).await?;
                assert!(tx.active_client(&id("shop")).await?.is_none());
                let shop = tx.client(&id("shop")).await?.expect("kept");
                assert_eq!(shop.disabled, Some(later(1)), "the first time counts");
                assert!(tx.active_grant(&id("a")).await?.is_none());
                assert!(tx.active_grant(&id("other")).await?.is_some());
                let missing = tx.disable_client(&id("bank"), later(2)).await;
                assert!(matches!(missing, Err(StoreFault::Missing("the client"))), "of the file");
                Ok(())
            })
            .await;
        assert!(world.kills(RevocationKind::Client, "shop"));
        assert!(world.kills(RevocationKind::Grant, "g_a"));
        assert!(!world.kills(RevocationKind::Client, "bank"));
        assert!(!world.kills(RevocationKind::Grant, "g_other"));
        world.transact(async |tx: &Tx| tx.end_grants_of_client(&id("bank"), later(3)).await).await;
        assert!(world.kills(RevocationKind::Client, "bank"));
        assert!(world.kills(RevocationKind::Grant, "g_other"));
    }
}
