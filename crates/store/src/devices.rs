//! Known devices: where an account has logged in whole, so that its owner is never locked out.

use portcullis_core::id::{self, Id};
use portcullis_core::time::Timestamp;

use crate::database::{StoreFault, Tx};
use crate::row::bind;

/// Most known devices of one user; the oldest goes.
pub const MAX_DEVICES: usize = 20;

impl Tx {
    /// Remembers a device of a user until a moment; at most 20 per user, the oldest goes.
    pub async fn know_device(
        &self,
        device: &Id<id::Device>,
        user: &Id<id::User>,
        expires: Timestamp,
    ) -> Result<(), StoreFault> {
        let sql = "INSERT INTO known_devices (device, user_id, expires) VALUES ($1, $2, $3)
                   ON CONFLICT (user_id, device) DO UPDATE SET expires = excluded.expires";
        self.execute(sql, bind![device, user, expires]).await?;
        // All live equally long, so the one that expires first is the oldest; never the new one.
        let sql = "DELETE FROM known_devices WHERE user_id = $2 AND device <> $1
                   AND device NOT IN (SELECT device FROM known_devices
                   WHERE user_id = $2 AND device <> $1 ORDER BY expires DESC, device LIMIT $3)";
        let others = MAX_DEVICES as i64 - 1;
        self.execute(sql, bind![device, user, others]).await.map(drop)
    }

    /// Whether the device is known for the user, now.
    pub async fn device_known(
        &self,
        device: &Id<id::Device>,
        user: &Id<id::User>,
        now: Timestamp,
    ) -> Result<bool, StoreFault> {
        let sql = "SELECT 1 FROM known_devices
                   WHERE user_id = $2 AND device = $1 AND expires > $3";
        Ok(self.fetch_one(sql, bind![device, user, now]).await?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, later, memory, user};

    #[tokio::test]
    async fn a_device_is_known_for_its_user_until_its_moment() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                for name in ["ada", "bob"] {
                    tx.add_user(&user(name)).await?;
                }
                tx.know_device(&id("one"), &id("ada"), later(60)).await?;
                let known = async |user: &'static str, after| {
                    tx.device_known(&id("one"), &id(user), later(after)).await
                };
                assert!(known("ada", 59).await?);
                assert!(!known("ada", 60).await?, "expired");
                assert!(!known("bob", 1).await?, "another's");
                tx.know_device(&id("one"), &id("ada"), later(90)).await?;
                assert!(known("ada", 60).await?, "prolonged");
                tx.know_device(&id("one"), &id("bob"), later(90)).await?;
                assert!(known("ada", 60).await? && known("bob", 60).await?, "shared");
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn of_more_than_twenty_the_oldest_goes_and_the_new_one_stays() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                for name in ["ada", "bob"] {
                    tx.add_user(&user(name)).await?;
                }
                tx.know_device(&id("bob"), &id("bob"), later(100)).await?;
                for n in 0..MAX_DEVICES as u64 + 2 {
                    let device = id(&format!("n{n}"));
                    tx.know_device(&device, &id("ada"), later(1000 + n)).await?;
                }
                let known = async |device: &str, user: &str| {
                    tx.device_known(&id(device), &id(user), later(1)).await
                };
                assert!(known("n2", "ada").await? && !known("n1", "ada").await?, "twenty");
                tx.know_device(&id("short"), &id("ada"), later(500)).await?;
                for (device, stays) in [("n0", false), ("n2", false), ("n3", true), ("n21", true)] {
                    assert_eq!(known(device, "ada").await?, stays, "{device}");
                }
                assert!(known("short", "ada").await?, "the new one");
                assert!(known("bob", "bob").await?, "another user's");
                Ok(())
            })
            .await;
    }
}
