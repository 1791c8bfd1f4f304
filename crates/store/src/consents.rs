//! Consents: what a user agreed to for a client, once and until she takes it back. Details (RFC
//! 9396) are not in here: they are asked anew each time.

use portcullis_core::id::{self, Id};
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;

use crate::database::{StoreFault, Tx};
use crate::row::bind;

/// A consent, for the list of a user's apps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentRecord {
    /// To whom.
    pub client: Id<id::Client>,
    /// To what.
    pub scopes: Scopes,
    /// When it was given or widened last.
    pub given: Timestamp,
}

/// Most consents of one user; of more the oldest goes, and its client asks again. All of them stand
/// in her list, so that each can be taken back.
pub const MAX_CONSENTS: usize = 200;

impl Tx {
    /// Scopes that the user has consented to for the client.
    pub async fn consented(
        &self,
        user: &Id<id::User>,
        client: &Id<id::Client>,
    ) -> Result<Scopes, StoreFault> {
        let sql = "SELECT scopes FROM consents WHERE user_id = $1 AND client_id = $2";
        let row = self.fetch_one(sql, bind![user, client]).await?;
        row.map_or_else(|| Ok(Scopes::default()), |row| row.scopes())
    }

    /// All that a user has consented to, the newest first: at most 200, which is all there are.
    pub async fn consents_of(&self, user: &Id<id::User>) -> Result<Vec<ConsentRecord>, StoreFault> {
        let sql = "SELECT client_id, scopes, given FROM consents WHERE user_id = $1
                   ORDER BY given DESC, client_id LIMIT $2";
        let rows = self.fetch(sql, bind![user, MAX_CONSENTS as i64]).await?;
        let consent = |row: &crate::row::Row| {
            Ok(ConsentRecord {
                client: row.id("client_id")?,
                scopes: row.scopes()?,
                given: row.moment("given")?,
            })
        };
        rows.iter().map(consent).collect()
    }

    /// Remembers a consent (widens it).
    ///
    /// # Errors
    /// [`StoreFault::TooMuch`] when the union is more than a scope list may be.
    pub async fn keep_consent(
        &self,
        user: &Id<id::User>,
        client: &Id<id::Client>,
        scopes: &Scopes,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let union = self.consented(user, client).await?.union(scopes).to_string();
        // What is written must be readable again.
        Scopes::parse(&union).map_err(|_| StoreFault::TooMuch("a consent's scopes"))?;
        let sql = "INSERT INTO consents (user_id, client_id, scopes, given)
                   VALUES ($1, $2, $3, $4) ON CONFLICT (user_id, client_id)
                   DO UPDATE SET scopes = excluded.scopes, given = excluded.given";
        self.execute(sql, bind![user, client, union, now]).await?;
        let sql = "DELETE FROM consents WHERE user_id = $1 AND client_id <> $2
                   AND client_id NOT IN (SELECT client_id FROM consents
                   WHERE user_id = $1 AND client_id <> $2 ORDER BY given DESC, client_id LIMIT $3)";
        let others = MAX_CONSENTS as i64 - 1;
        self.execute(sql, bind![user, client, others]).await.map(drop)
    }

    /// Takes a consent back: the client must ask again. What it holds by it ends apart, by
    /// [`Tx::end_grants_between`].
    pub async fn withdraw_consent(
        &self,
        user: &Id<id::User>,
        client: &Id<id::Client>,
    ) -> Result<(), StoreFault> {
        let sql = "DELETE FROM consents WHERE user_id = $1 AND client_id = $2";
        self.execute(sql, bind![user, client]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, World, id, later, memory, scopes, user};

    async fn with_ada() -> World {
        let world = memory();
        world.transact(async |tx: &Tx| tx.add_user(&user("ada")).await).await;
        world
    }

    #[tokio::test]
    async fn too_much() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                let many =
                    |from| scopes(&(from..from + 40).map(|n| format!("s{n} ")).collect::<String>());
                tx.keep_consent(&id("ada"), &id("shop"), &many(0), NOW).await?;
                let over = tx.keep_consent(&id("ada"), &id("shop"), &many(40), NOW).await;
                assert!(matches!(over, Err(StoreFault::TooMuch(_))));
                assert_eq!(tx.consented(&id("ada"), &id("shop")).await?, many(0));
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn consents_are_listed_and_of_more_than_two_hundred_the_oldest_goes() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("bob")).await?;
                tx.keep_consent(&id("bob"), &id("n0"), &scopes("a"), NOW).await?;
                for n in 0..=MAX_CONSENTS as u64 {
                    let client = id(&format!("n{n}"));
                    tx.keep_consent(&id("ada"), &client, &scopes("a"), later(n)).await?;
                }
                let listed = tx.consents_of(&id("ada")).await?;
                assert_eq!(listed.len(), MAX_CONSENTS);
                let newest = ConsentRecord {
                    client: id("n200"),
                    scopes: scopes("a"),
                    given: later(MAX_CONSENTS as u64),
                };
                assert_eq!(listed[0], newest);
                assert!(tx.consented(&id("ada"), &id("n0")).await?.is_empty(), "the oldest");
                assert!(!tx.consented(&id("ada"), &id("n1")).await?.is_empty());
                // Widened, it is the newest; never the one that was just given goes.
                tx.keep_consent(&id("ada"), &id("n1"), &scopes("b"), later(500)).await?;
                tx.keep_consent(&id("ada"), &id("early"), &scopes("a"), NOW).await?;
                assert_eq!(tx.consents_of(&id("ada")).await?[0].scopes, scopes("a b"));
                assert!(!tx.consented(&id("ada"), &id("early")).await?.is_empty());
                assert!(tx.consented(&id("ada"), &id("n2")).await?.is_empty());
                assert_eq!(tx.consents_of(&id("bob")).await?.len(), 1, "another user's");
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_consent_widens_until_it_is_withdrawn() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                let (ada, shop, bank) = (id("ada"), id("shop"), id("bank"));
                assert!(tx.consented(&ada, &shop).await?.is_empty());
                tx.keep_consent(&ada, &shop, &scopes("b a"), NOW).await?;
                tx.keep_consent(&ada, &shop, &scopes("c"), later(1)).await?;
                assert_eq!(tx.consented(&ada, &shop).await?, scopes("a b c"));
                assert!(tx.consented(&ada, &bank).await?.is_empty(), "another client");
                tx.withdraw_consent(&ada, &shop).await?;
                assert!(tx.consented(&ada, &shop).await?.is_empty());
                Ok(())
            })
            .await;
    }
}
