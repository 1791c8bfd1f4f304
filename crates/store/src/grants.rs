//! Grants: what a user granted a client. Consents live here too.

use portcullis_core::id::{self, Id};
use portcullis_core::revocation::RevocationKind;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;

use crate::active::Active;
use crate::database::{StoreFault, Tx};
use crate::revocations::LONGEST_TOKEN;
use crate::row::{Row, bind, bounded, unreadable};
use crate::sessions::{CHUNK, MAX_LISTED};

/// A grant.
#[derive(Clone, Debug)]
pub struct GrantRecord {
    /// Its id (`gid`).
    pub id: Id<id::Grant>,
    /// Who granted.
    pub user: Id<id::User>,
    /// To whom.
    pub client: Id<id::Client>,
    /// In which session.
    pub session: Id<id::Session>,
    /// What.
    pub scopes: Scopes,
    /// For which API; `None` when only OpenID scopes were granted.
    pub audience: Option<String>,
    /// When.
    pub made: Timestamp,
    /// Ended, and when.
    pub ended: Option<Timestamp>,
}

/// Longest audience: a URL.
pub const MAX_AUDIENCE: usize = 2048;

impl Tx {
    /// Adds a grant; `Taken` when the id is (a code redeemed twice).
    pub async fn add_grant(&self, grant: &GrantRecord) -> Result<(), StoreFault> {
        bounded("an audience", grant.audience.as_deref().unwrap_or_default(), MAX_AUDIENCE)?;
        let sql = "INSERT INTO grants
                   (id, user_id, client_id, session_id, scopes, audience, made, ended)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
        let values = bind![
            &grant.id,
            &grant.user,
            &grant.client,
            &grant.session,
            grant.scopes.to_string(),
            grant.audience.as_deref(),
            grant.made,
            grant.ended,
        ];
        match self.execute(sql, values).await? {
            0 => Err(StoreFault::Taken("the grant")),
            _ => Ok(()),
        }
    }

    /// A grant, ended or not.
    pub async fn grant(&self, id: &Id<id::Grant>) -> Result<Option<GrantRecord>, StoreFault> {
        let sql = "SELECT id, user_id, client_id, session_id, scopes, audience, made, ended
                   FROM grants WHERE id = $1";
        self.fetch_one(sql, bind![id]).await?.as_ref().map(grant).transpose()
    }

    /// A user's grants that have not ended, the newest first, at most 200.
    pub async fn grants_of(&self, user: &Id<id::User>) -> Result<Vec<GrantRecord>, StoreFault> {
        let sql = "SELECT id, user_id, client_id, session_id, scopes, audience, made, ended
                   FROM grants WHERE user_id = $1 AND ended IS NULL
                   ORDER BY made DESC, id LIMIT $2";
        self.fetch(sql, bind![user, MAX_LISTED as i64]).await?.iter().map(grant).collect()
    }

    /// The ids of a session's grants that have not ended, at most 200.
    pub async fn grants_in(
        &self,
        session: &Id<id::Session>,
    ) -> Result<Vec<Id<id::Grant>>, StoreFault> {
        let sql = "SELECT id FROM grants WHERE session_id = $1 AND ended IS NULL
                   ORDER BY made DESC, id LIMIT $2";
        let rows = self.fetch(sql, bind![session, MAX_LISTED as i64]).await?;
        rows.iter().map(|row| row.id("id")).collect()
    }

    /// A grant that has not ended.
    pub async fn active_grant(
        &self,
        id: &Id<id::Grant>,
    ) -> Result<Option<Active<'_, GrantRecord>>, StoreFault> {
        Ok(self.grant(id).await?.filter(|grant| grant.ended.is_none()).map(Active::found))
    }

    /// Ends a grant and writes its revocation; idempotent. Of an unknown grant nothing is left to
    /// end: no token can carry it.
    pub async fn end_grant(&self, id: &Id<id::Grant>, now: Timestamp) -> Result<(), StoreFault> {
        let sql = "UPDATE grants SET ended = $2 WHERE id = $1 AND ended IS NULL";
        if self.execute(sql, bind![id, now]).await? > 0 {
            self.revoke(RevocationKind::Grant, id.as_str(), now.after(LONGEST_TOKEN)).await?;
        }
        Ok(())
    }

    /// Ends all grants of a client and writes `Client` and `Grant` revocations: for a client of
    /// the store ([`Tx::disable_client`]) and for one that has gone from the file.
    pub async fn end_grants_of_client(
        &self,
        client: &Id<id::Client>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        self.revoke(RevocationKind::Client, client.as_str(), now.after(LONGEST_TOKEN)).await?;
        let sql = "UPDATE grants SET ended = $2 WHERE id IN
                   (SELECT id FROM grants WHERE client_id = $1 AND ended IS NULL LIMIT $3)
                   RETURNING id";
        loop {
            let ended = self.fetch(sql, bind![client, now, CHUNK]).await?;
            if ended.is_empty() {
                return Ok(());
            }
            self.revoke_rows(RevocationKind::Grant, &ended, now).await?;
        }
    }

    /// Scopes that the user has consented to for the client.
    pub async fn consented(
        &self,
        user: &Id<id::User>,
        client: &Id<id::Client>,
    ) -> Result<Scopes, StoreFault> {
        let sql = "SELECT scopes FROM consents WHERE user_id = $1 AND client_id = $2";
        let row = self.fetch_one(sql, bind![user, client]).await?;
        row.as_ref().map_or_else(|| Ok(Scopes::default()), scopes)
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
        self.execute(sql, bind![user, client, union, now]).await.map(drop)
    }

    /// Takes a consent back: the client must ask again. Its grants are ended apart.
    pub async fn withdraw_consent(
        &self,
        user: &Id<id::User>,
        client: &Id<id::Client>,
    ) -> Result<(), StoreFault> {
        let sql = "DELETE FROM consents WHERE user_id = $1 AND client_id = $2";
        self.execute(sql, bind![user, client]).await.map(drop)
    }
}

fn scopes(row: &Row) -> Result<Scopes, StoreFault> {
    Scopes::parse(row.text("scopes")?).map_err(|_| unreadable("scopes"))
}

fn grant(row: &Row) -> Result<GrantRecord, StoreFault> {
    Ok(GrantRecord {
        id: row.id("id")?,
        user: row.id("user_id")?,
        client: row.id("client_id")?,
        session: row.id("session_id")?,
        scopes: scopes(row)?,
        audience: row.text_if_any("audience")?.map(str::to_owned),
        made: row.moment("made")?,
        ended: row.moment_if_any("ended")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, World, grant, id, later, memory, scopes, session, user};

    async fn with_ada() -> World {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                tx.add_session(&session("one", "ada", 1)).await
            })
            .await;
        world
    }

    #[tokio::test]
    async fn a_grant_comes_back_as_added_until_it_ends() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                let added = grant("a", "ada", "one");
                tx.add_grant(&added).await?;
                let mut other = grant("b", "ada", "one");
                (other.audience, other.scopes) = (None, scopes(""));
                tx.add_grant(&other).await?;
                for added in [added, other] {
                    let found = tx.grant(&added.id).await?.expect("there");
                    assert_eq!(format!("{found:?}"), format!("{added:?}"));
                    assert_eq!(tx.active_grant(&added.id).await?.expect("active").id, added.id);
                }
                assert_eq!(tx.grants_of(&id("ada")).await?.len(), 2);
                tx.end_grant(&id("a"), later(1)).await?;
                tx.end_grant(&id("a"), later(2)).await?;
                tx.end_grant(&id("none"), later(2)).await?;
                assert_eq!(tx.revision().await?, 1, "once");
                assert!(tx.active_grant(&id("a")).await?.is_none());
                assert_eq!(tx.grant(&id("a")).await?.expect("kept").ended, Some(later(1)));
                assert_eq!(tx.grants_in(&id("one")).await?, [id("b")]);
                assert_eq!(tx.grants_of(&id("ada")).await?.len(), 1);
                Ok(())
            })
            .await;
        assert!(world.kills(RevocationKind::Grant, "g_a"));
        assert!(!world.kills(RevocationKind::Grant, "g_b"));
    }

    #[tokio::test]
    async fn taken() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                tx.add_grant(&grant("a", "ada", "one")).await?;
                let again = tx.add_grant(&grant("a", "ada", "one")).await;
                assert!(matches!(again, Err(StoreFault::Taken("the grant"))));
                tx.end_grant(&id("a"), later(1)).await?;
                let again = tx.add_grant(&grant("a", "ada", "one")).await;
                assert!(matches!(again, Err(StoreFault::Taken("the grant"))), "ended too");
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn too_much() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                let mut long = grant("a", "ada", "one");
                long.audience = Some("x".repeat(MAX_AUDIENCE + 1));
                assert!(matches!(tx.add_grant(&long).await, Err(StoreFault::TooMuch(_))));
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
    async fn a_grant_needs_its_user_and_session() {
        let world = with_ada().await;
        for (user, session) in [("eve", "one"), ("ada", "none")] {
            let grant = grant("a", user, session);
            let added = world.store.transact(async move |tx: &Tx| tx.add_grant(&grant).await).await;
            assert!(matches!(added, Err(StoreFault::Database(_))), "{user} {session}");
        }
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
