//! Clients that live in the store (`client add`); those of the file belong to the file.

use portcullis_core::bearer::Digest;
use portcullis_core::client::Registered;
use portcullis_core::id::{self, Id};
use portcullis_core::time::Timestamp;

use crate::active::Active;
use crate::database::{StoreFault, Tx};
use crate::row::{MAX_DOCUMENT, Row, bind, bounded, unreadable};

/// Marks a registration access token (RFC 7592 §3), a bearer value.
pub enum RegistrationToken {}

/// A client at rest: its registration as one JSON document, read by the binary like the file's.
#[derive(Clone, Debug)]
pub struct StoredClient {
    /// Its id.
    pub id: Id<id::Client>,
    /// The registration, JSON.
    pub registration: String,
    /// Disabled, and when.
    pub disabled: Option<Timestamp>,
    /// Who registered it.
    pub registered: Registered,
}

impl StoredClient {
    /// One that an administrator registers.
    pub fn new(id: Id<id::Client>, registration: String) -> Self {
        StoredClient { id, registration, disabled: None, registered: Registered::Store }
    }
}

/// Most clients of the store: all of them stand in memory.
pub const MAX_CLIENTS: usize = 5_000;

/// Most clients that are looked at for what they hold: all of file and store, and strangers.
const MAX_HOLDERS: usize = 20_000;

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
        let sql = "INSERT INTO clients (id, registration, disabled, made, registered)
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        let (registration, by) = (&*client.registration, stored_by(client.registered));
        let values = bind![&client.id, registration, client.disabled, now, by];
        match self.execute(sql, values).await? {
            0 => Err(StoreFault::Taken("the client")),
            _ => Ok(()),
        }
    }

    /// All clients, by id, disabled or not.
    pub async fn clients(&self) -> Result<Vec<StoredClient>, StoreFault> {
        let sql = "SELECT id, registration, disabled, registered FROM clients ORDER BY id LIMIT $1";
        self.fetch(sql, bind![MAX_CLIENTS as i64]).await?.iter().map(client).collect()
    }

    /// A client of the store, disabled or not.
    pub async fn client(&self, id: &Id<id::Client>) -> Result<Option<StoredClient>, StoreFault> {
        let sql = "SELECT id, registration, disabled, registered FROM clients WHERE id = $1";
        self.fetch_one(sql, bind![id]).await?.as_ref().map(client).transpose()
    }

    /// A client of the store that is not disabled.
    pub async fn active_client(
        &self,
        id: &Id<id::Client>,
    ) -> Result<Option<Active<'_, StoredClient>>, StoreFault> {
        Ok(self.client(id).await?.filter(|client| client.disabled.is_none()).map(Active::found))
    }

    /// The client of a registration access token, disabled or not (RFC 7592 §2).
    pub async fn client_by_registration_token(
        &self,
        token: &Digest<RegistrationToken>,
    ) -> Result<Option<StoredClient>, StoreFault> {
        let sql = "SELECT id, registration, disabled, registered FROM clients WHERE manage = $1";
        self.fetch_one(sql, bind![token]).await?.as_ref().map(client).transpose()
    }

    /// Gives a client its registration access token, or another in place of the one before.
    ///
    /// # Errors
    /// [`StoreFault::Missing`] when the store has no such client.
    pub async fn keep_registration_token(
        &self,
        id: &Id<id::Client>,
        token: &Digest<RegistrationToken>,
    ) -> Result<(), StoreFault> {
        let sql = "UPDATE clients SET manage = $2 WHERE id = $1";
        match self.execute(sql, bind![id, token]).await? {
            0 => Err(StoreFault::Missing("the client")),
            _ => Ok(()),
        }
    }

    /// Replaces a client's registration (RFC 7592 §2.2); a disabled one stays as it is. What it
    /// loses by that is not known here: whoever narrows writes a `Client` revocation beside it.
    ///
    /// # Errors
    /// [`StoreFault::Missing`] when the store has no such client, or it is disabled; `TooMuch` over
    /// 64 KiB.
    pub async fn set_client_registration(
        &self,
        id: &Id<id::Client>,
        registration: &str,
    ) -> Result<(), StoreFault> {
        bounded("a client's registration", registration, MAX_DOCUMENT)?;
        let sql = "UPDATE clients SET registration = $2 WHERE id = $1 AND disabled IS NULL";
        match self.execute(sql, bind![id, registration]).await? {
            0 => Err(StoreFault::Missing("the client")),
            _ => Ok(()),
        }
    }

    /// The ids of clients that hold something: a grant, an API key, or a consent. Which of them are
    /// still registered, in the file or here, is for the caller to compare.
    pub async fn clients_with_holdings(&self) -> Result<Vec<Id<id::Client>>, StoreFault> {
        let sql = "SELECT client_id FROM grants WHERE ended IS NULL
                   UNION SELECT client_id FROM api_keys WHERE revoked IS NULL
                   UNION SELECT client_id FROM consents
                   ORDER BY client_id LIMIT $1";
        let rows = self.fetch(sql, bind![MAX_HOLDERS as i64]).await?;
        rows.iter().map(|row| row.id("client_id")).collect()
    }

    /// Removes a client (RFC 7592 §2.3) with all that it holds
    /// ([`Tx::end_grants_of_client`]); its registration access token goes with it.
    ///
    /// # Errors
    /// [`StoreFault::Missing`] when the store has no such client.
    pub async fn remove_client(
        &self,
        id: &Id<id::Client>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        match self.execute("DELETE FROM clients WHERE id = $1", bind![id]).await? {
            0 => Err(StoreFault::Missing("the client")),
            _ => self.end_grants_of_client(id, now).await,
        }
    }

    /// Disables a client and ends all that it holds ([`Tx::end_grants_of_client`]).
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
    let registered = row.integer("registered")?;
    Ok(StoredClient {
        id: row.id("id")?,
        registration: row.text("registration")?.to_owned(),
        disabled: row.moment_if_any("disabled")?,
        registered: [Registered::File, Registered::Store, Registered::Document, Registered::Itself]
            .into_iter()
            .find(|known| stored_by(*known) == registered)
            .ok_or_else(|| unreadable("registered"))?,
    })
}

fn stored_by(registered: Registered) -> i64 {
    match registered {
        Registered::File => 0,
        // The default of the column: what was there before it.
        Registered::Store => 1,
        Registered::Document => 2,
        Registered::Itself => 3,
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::bearer::Plain;
    use portcullis_core::entropy::SeededEntropy;
    use portcullis_core::revocation::RevocationKind;

    use super::*;
    use crate::testing::{NOW, grant, id, later, memory, session, user};

    fn stored(name: &str) -> StoredClient {
        StoredClient::new(id(name), format!("{{\"{name}\":1}}"))
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

    fn token(seed: u64) -> Digest<RegistrationToken> {
        Plain::mint(&SeededEntropy::new(seed)).digest()
    }

    #[tokio::test]
    async fn who_registered_a_client_comes_back() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                for (name, registered) in [
                    ("a", Registered::File),
                    ("b", Registered::Store),
                    ("c", Registered::Document),
                    ("d", Registered::Itself),
                ] {
                    let client = StoredClient { registered, ..stored(name) };
                    tx.add_client(&client, NOW).await?;
                    let found = tx.client(&id(name)).await?.expect("there");
                    assert_eq!(found.registered, registered, "{name}");
                }
                assert_eq!(stored("x").registered, Registered::Store);
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_registration_token_finds_its_client_until_there_is_another() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                for (seed, name) in [(1, "shop"), (2, "bank")] {
                    tx.add_client(&stored(name), NOW).await?;
                    tx.keep_registration_token(&id(name), &token(seed)).await?;
                }
                let found = async |seed| {
                    let found = tx.client_by_registration_token(&token(seed)).await?;
                    Ok::<_, StoreFault>(found.map(|client| client.id))
                };
                assert_eq!(found(1).await?, Some(id("shop")));
                assert_eq!(found(2).await?, Some(id("bank")));
                assert_eq!(found(3).await?, None);
                tx.keep_registration_token(&id("shop"), &token(3)).await?;
                assert_eq!(found(1).await?, None, "replaced");
                assert_eq!(found(3).await?, Some(id("shop")));
                tx.remove_client(&id("shop"), later(1)).await?;
                assert_eq!(found(3).await?, None, "removed");
                let kept = tx.keep_registration_token(&id("shop"), &token(4)).await;
                assert!(matches!(kept, Err(StoreFault::Missing("the client"))));
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_registration_is_replaced_but_not_of_a_disabled_client() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                for name in ["shop", "bank"] {
                    tx.add_client(&stored(name), NOW).await?;
                }
                tx.set_client_registration(&id("shop"), "{}").await?;
                assert_eq!(tx.client(&id("shop")).await?.expect("there").registration, "{}");
                let bank = tx.client(&id("bank")).await?.expect("there");
                assert_eq!(bank.registration, stored("bank").registration);
                let long = "x".repeat(MAX_DOCUMENT + 1);
                let set = tx.set_client_registration(&id("shop"), &long).await;
                assert!(matches!(set, Err(StoreFault::TooMuch("a client's registration"))));
                tx.disable_client(&id("shop"), later(1)).await?;
                for name in ["shop", "none"] {
                    let set = tx.set_client_registration(&id(name), "[]").await;
                    assert!(matches!(set, Err(StoreFault::Missing("the client"))), "{name}");
                }
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_removed_client_leaves_nothing_to_the_next_of_its_id() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                tx.add_session(&session("one", "ada", 1)).await?;
                tx.add_client(&stored("shop"), NOW).await?;
                tx.add_grant(&grant("a", "ada", "one")).await?;
                tx.remove_client(&id("shop"), later(1)).await?;
                assert!(tx.client(&id("shop")).await?.is_none());
                let again = tx.remove_client(&id("shop"), later(2)).await;
                assert!(matches!(again, Err(StoreFault::Missing("the client"))));
                tx.add_client(&stored("shop"), later(3)).await?;
                assert!(tx.active_grant(&id("a")).await?.is_none());
                assert_eq!(tx.revision().await?, 2, "the client and its grant");
                Ok(())
            })
            .await;
        assert!(world.kills(RevocationKind::Client, "shop"));
    }
}
