//! Logout tokens that wait to be sent (OpenID Connect Back-Channel Logout): written in the very
//! transaction that ends a session, so that a crash loses none.
//!
//! Which clients want to be told, and where, is not known here: a row is written for each client
//! that was granted anything in the session.

use portcullis_core::id::{self, Id};
use portcullis_core::time::Timestamp;

use crate::database::{StoreFault, Tx};
use crate::row::{Row, bind};

/// A client that must learn that a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingLogout {
    /// Its place in the queue.
    pub number: i64,
    /// Whom to tell.
    pub client: Id<id::Client>,
    /// Whose session.
    pub user: Id<id::User>,
    /// Which session.
    pub session: Id<id::Session>,
    /// Tries so far.
    pub tries: u32,
    /// Not before.
    pub due: Timestamp,
}

/// Most logouts that wait; beyond it the oldest go.
pub const MAX_PENDING_LOGOUTS: usize = 100_000;

/// Most that [`Tx::due_logouts`] hands out at once.
pub const MAX_DUE: usize = 1_000;

impl Tx {
    /// Those that are due, the oldest first, at most `most` (and 1000).
    pub async fn due_logouts(
        &self,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<PendingLogout>, StoreFault> {
        let sql = "SELECT number, client_id, user_id, session_id, tries, due FROM logouts
                   WHERE due <= $1 ORDER BY due, number LIMIT $2";
        let most = most.min(MAX_DUE) as i64;
        self.fetch(sql, bind![now, most]).await?.iter().map(logout).collect()
    }

    /// Told, or given up.
    pub async fn drop_logout(&self, number: i64) -> Result<(), StoreFault> {
        self.execute("DELETE FROM logouts WHERE number = $1", bind![number]).await.map(drop)
    }

    /// Not told: counts the try; again later. Nothing happens to one that has gone.
    pub async fn postpone_logout(&self, number: i64, due: Timestamp) -> Result<(), StoreFault> {
        let sql = "UPDATE logouts SET tries = tries + 1, due = $2 WHERE number = $1";
        self.execute(sql, bind![number, due]).await.map(drop)
    }

    /// Queues a logout for each client that was granted anything in a session: also what has ended
    /// since, and what outlives the session, for the client may have a session of its own by it.
    pub(crate) async fn queue_logouts_of_session(
        &self,
        session: &Id<id::Session>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let sql = "INSERT INTO logouts (client_id, user_id, session_id, tries, due)
                   SELECT DISTINCT client_id, user_id, session_id, 0, $2
                   FROM grants WHERE session_id = $1 ON CONFLICT DO NOTHING";
        match self.execute(sql, bind![session, now]).await? {
            0 => Ok(()),
            _ => self.trim_logouts().await,
        }
    }

    /// The same for all sessions of a user that have not ended, and for her live grants whose
    /// session has gone.
    pub(crate) async fn queue_logouts_of_user(
        &self,
        user: &Id<id::User>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let sql = "INSERT INTO logouts (client_id, user_id, session_id, tries, due)
                   SELECT DISTINCT client_id, user_id, session_id, 0, $2
                   FROM grants WHERE user_id = $1 AND (ended IS NULL OR session_id IN
                   (SELECT id FROM sessions WHERE user_id = $1 AND ended IS NULL))
                   ON CONFLICT DO NOTHING";
        match self.execute(sql, bind![user, now]).await? {
            0 => Ok(()),
            _ => self.trim_logouts().await,
        }
    }

    /// INVARIANT: numbers only grow, so that their span bounds how many there are.
    async fn trim_logouts(&self) -> Result<(), StoreFault> {
        let sql = "DELETE FROM logouts
                   WHERE number <= (SELECT max(number) FROM logouts) - $1";
        self.execute(sql, bind![MAX_PENDING_LOGOUTS as i64]).await.map(drop)
    }
}

fn logout(row: &Row) -> Result<PendingLogout, StoreFault> {
    Ok(PendingLogout {
        number: row.integer("number")?,
        client: row.id("client_id")?,
        user: row.id("user_id")?,
        session: row.id("session_id")?,
        tries: row.count("tries")?,
        due: row.moment("due")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, World, grant, id, later, memory, offline, session, user};

    /// Ada's session `one`, with a grant of each of two clients.
    async fn with_session() -> World {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                tx.add_session(&session("one", "ada", 1)).await?;
                for (name, client) in [("a", "shop"), ("b", "bank"), ("c", "shop")] {
                    let mut grant = grant(name, "ada", "one");
                    grant.client = id(client);
                    tx.add_grant(&grant).await?;
                }
                Ok(())
            })
            .await;
        world
    }

    fn numbers(due: &[PendingLogout]) -> Vec<i64> {
        due.iter().map(|due| due.number).collect()
    }

    #[tokio::test]
    async fn each_client_of_an_ended_session_is_queued_once() {
        let world = with_session().await;
        world
            .transact(async |tx: &Tx| {
                tx.end_grant(&id("b"), later(1)).await?;
                tx.end_session(&id("one"), later(2)).await?;
                tx.end_session(&id("one"), later(3)).await?;
                assert!(tx.due_logouts(later(1), 9).await?.is_empty());
                let mut due = tx.due_logouts(later(2), 9).await?;
                due.sort_by(|one, other| one.client.cmp(&other.client));
                let clients: Vec<_> = due.iter().map(|due| due.client.as_str()).collect();
                assert_eq!(clients, ["bank", "shop"], "also of a grant that had ended before");
                for due in &due {
                    assert_eq!((&due.user, &due.session), (&id("ada"), &id("one")));
                    assert_eq!((due.tries, due.due), (0, later(2)));
                }
                Ok(())
            })
            .await;
    }

    /// OpenID Connect Back-Channel Logout 1.0 §2.7: it keeps its refresh token, and hears of it.
    #[tokio::test]
    async fn a_client_whose_only_grant_lives_on_is_told_too() {
        let world = with_session().await;
        world
            .transact(async |tx: &Tx| {
                let mut lasting = offline("lasting", "ada", "one");
                lasting.client = id("mobile");
                tx.add_grant(&lasting).await?;
                tx.end_session(&id("one"), later(1)).await?;
                let due = tx.due_logouts(later(1), 9).await?;
                assert!(due.iter().any(|due| due.client == lasting.client));
                assert!(tx.active_grant(&lasting.id).await?.is_some());
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_rolled_back_end_tells_nobody() {
        let world = with_session().await;
        let work = async |tx: &Tx| {
            tx.end_session(&id("one"), later(1)).await?;
            Err::<(), _>(StoreFault::Missing("something"))
        };
        assert!(world.store.transact(work).await.is_err());
        let due = world.transact(async |tx: &Tx| tx.due_logouts(later(9), 9).await).await;
        assert!(due.is_empty());
    }

    #[tokio::test]
    async fn a_logout_is_postponed_until_it_is_dropped() {
        let world = with_session().await;
        world
            .transact(async |tx: &Tx| {
                tx.end_session(&id("one"), NOW).await?;
                let [first, second] = &tx.due_logouts(NOW, 9).await?[..] else { panic!("two") };
                assert_eq!(numbers(&tx.due_logouts(NOW, 1).await?), [first.number], "the oldest");
                assert!(tx.due_logouts(NOW, 0).await?.is_empty());
                for tries in 1..=2u64 {
                    tx.postpone_logout(first.number, later(60 * tries)).await?;
                    assert_eq!(numbers(&tx.due_logouts(NOW, 9).await?), [second.number]);
                    let due = tx.due_logouts(later(60 * tries), 9).await?;
                    assert_eq!(due.len(), 2);
                    assert_eq!((due[1].number, due[1].tries), (first.number, tries as u32));
                }
                tx.drop_logout(first.number).await?;
                tx.drop_logout(first.number).await?;
                tx.postpone_logout(first.number, NOW).await?;
                let due = tx.due_logouts(later(999), usize::MAX).await?;
                assert_eq!(numbers(&due), [second.number]);
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_number_never_comes_twice() {
        let world = with_session().await;
        world
            .transact(async |tx: &Tx| {
                tx.end_session(&id("one"), NOW).await?;
                let before = tx.due_logouts(NOW, 9).await?;
                for due in &before {
                    tx.drop_logout(due.number).await?;
                }
                tx.add_session(&session("two", "ada", 2)).await?;
                tx.add_grant(&grant("d", "ada", "two")).await?;
                tx.end_session(&id("two"), NOW).await?;
                let [after] = &tx.due_logouts(NOW, 9).await?[..] else { panic!("one") };
                assert!(before.iter().all(|before| before.number < after.number));
                Ok(())
            })
            .await;
    }

    /// Filled by SQL for speed.
    #[tokio::test]
    async fn of_more_than_wait_the_oldest_go() {
        let world = with_session().await;
        world
            .transact(async |tx: &Tx| {
                let sql = "WITH RECURSIVE n (i) AS
                           (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
                           INSERT INTO logouts (client_id, user_id, session_id, tries, due)
                           SELECT 'shop', 'u_x', 's_' || i, 0, $2 FROM n";
                tx.execute(sql, bind![MAX_PENDING_LOGOUTS as i64, NOW]).await?;
                tx.end_session(&id("one"), NOW).await?;
                let count = tx.fetch_one("SELECT count(*) AS n FROM logouts", bind![]).await?;
                assert_eq!(count.expect("one").natural("n")?, MAX_PENDING_LOGOUTS as u64);
                let due = tx.due_logouts(NOW, usize::MAX).await?;
                assert_eq!(due.len(), MAX_DUE);
                assert_eq!(due[0].session, id("3"), "two had to go for two");
                Ok(())
            })
            .await;
    }
}
