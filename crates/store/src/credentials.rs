//! Factors: password hashes and TOTP secrets.

use portcullis_core::id::{self, Id};
use portcullis_core::otp::Step;
use portcullis_core::time::Timestamp;

use crate::database::{StoreFault, Tx};
use crate::row::{MAX_SEALED, bind, bounded, unreadable};

/// A user's password, hashed (a PHC string).
#[derive(Clone)]
pub struct PasswordRecord {
    /// The argon2id PHC string.
    pub hash: String,
    /// Whether it was handed out and must be changed (the demo's and `user add`'s one-off ones).
    pub one_off: bool,
}

/// A TOTP credential.
#[derive(Clone)]
pub struct TotpRecord {
    /// Its id.
    pub id: Id<id::Credential>,
    /// The secret, sealed under `Purpose::Field`.
    pub sealed: String,
    /// The last step used: each is usable once.
    pub last_used: Option<Step>,
    /// Failures in a row; at 100 it is off (SP 800-63B-4 §3.2.2).
    pub failures: u32,
    /// Whether a code has confirmed it.
    pub confirmed: bool,
}

/// Failures in a row at which an OTP credential is off (SP 800-63B-4 §3.2.2: no more than 100).
pub const MAX_FAILURES: u32 = 100;

impl Tx {
    /// A user's password.
    pub async fn password(
        &self,
        user: &Id<id::User>,
    ) -> Result<Option<PasswordRecord>, StoreFault> {
        let sql = "SELECT hash, one_off FROM passwords WHERE user_id = $1";
        let Some(row) = self.fetch_one(sql, bind![user]).await? else { return Ok(None) };
        Ok(Some(PasswordRecord {
            hash: row.text("hash")?.to_owned(),
            one_off: row.integer("one_off")? != 0,
        }))
    }

    /// Sets a user's password. (That a changed password ends every session is the caller's to do:
    /// [`Tx::end_sessions_of`].)
    pub async fn keep_password(
        &self,
        user: &Id<id::User>,
        password: &PasswordRecord,
    ) -> Result<(), StoreFault> {
        bounded("a password's hash", &password.hash, MAX_SEALED)?;
        let sql = "INSERT INTO passwords (user_id, hash, one_off) VALUES ($1, $2, $3)
                   ON CONFLICT (user_id)
                   DO UPDATE SET hash = excluded.hash, one_off = excluded.one_off";
        let values = bind![user, &*password.hash, i64::from(password.one_off)];
        self.execute(sql, values).await.map(drop)
    }

    /// A user's TOTP credential.
    pub async fn totp(&self, user: &Id<id::User>) -> Result<Option<TotpRecord>, StoreFault> {
        let sql = "SELECT id, sealed, last_used, failures, confirmed FROM totp WHERE user_id = $1";
        let Some(row) = self.fetch_one(sql, bind![user]).await? else { return Ok(None) };
        let step = |step| u64::try_from(step).map(Step).map_err(|_| unreadable("last_used"));
        Ok(Some(TotpRecord {
            id: row.id("id")?,
            sealed: row.text("sealed")?.to_owned(),
            last_used: row.integer_if_any("last_used")?.map(step).transpose()?,
            failures: u32::try_from(row.integer("failures")?)
                .map_err(|_| unreadable("failures"))?,
            confirmed: row.integer("confirmed")? != 0,
        }))
    }

    /// Enrols or replaces a user's TOTP credential.
    pub async fn keep_totp(
        &self,
        user: &Id<id::User>,
        totp: &TotpRecord,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        bounded("a sealed TOTP secret", &totp.sealed, MAX_SEALED)?;
        let sql = "INSERT INTO totp (id, user_id, sealed, last_used, failures, confirmed, made)
                   VALUES ($1, $2, $3, $4, $5, $6, $7)
                   ON CONFLICT (user_id) DO UPDATE SET
                   id = excluded.id, sealed = excluded.sealed, last_used = excluded.last_used,
                   failures = excluded.failures, confirmed = excluded.confirmed,
                   made = excluded.made";
        let last_used = totp.last_used.map(stored).transpose()?;
        let (failures, confirmed) = (i64::from(totp.failures), i64::from(totp.confirmed));
        let values = bind![&totp.id, user, &*totp.sealed, last_used, failures, confirmed, now];
        self.execute(sql, values).await.map(drop)
    }

    /// Uses a step: true when this call moved `last_used` to it (one atomic statement), which also
    /// resets failures and confirms. False for a step used or passed before, for a credential that
    /// is off after a hundred failures, and for one that is not there.
    pub async fn use_totp_step(
        &self,
        totp: &Id<id::Credential>,
        step: Step,
    ) -> Result<bool, StoreFault> {
        // RFC 6238 §5.2: the verifier must not accept the second attempt of the OTP.
        let sql = "UPDATE totp SET last_used = $2, failures = 0, confirmed = 1
                   WHERE id = $1 AND (last_used IS NULL OR last_used < $2) AND failures < $3";
        let values = bind![totp, stored(step)?, i64::from(MAX_FAILURES)];
        Ok(self.execute(sql, values).await? == 1)
    }

    /// Counts a failure; returns how many there are in a row now.
    ///
    /// # Errors
    /// [`StoreFault::Missing`] when there is no such credential.
    pub async fn totp_failed(&self, totp: &Id<id::Credential>) -> Result<u32, StoreFault> {
        // Counting stops at the limit: what is off stays off by the same number.
        let sql = "UPDATE totp
                   SET failures = CASE WHEN failures < $2 THEN failures + 1 ELSE failures END
                   WHERE id = $1 RETURNING failures";
        let row = self.fetch_one(sql, bind![totp, i64::from(MAX_FAILURES)]).await?;
        let failures =
            row.ok_or(StoreFault::Missing("the TOTP credential"))?.integer("failures")?;
        u32::try_from(failures).map_err(|_| unreadable("failures"))
    }

    /// Switches a credential on again, after another factor has succeeded.
    pub async fn restore_totp(&self, totp: &Id<id::Credential>) -> Result<(), StoreFault> {
        self.execute("UPDATE totp SET failures = 0 WHERE id = $1", bind![totp]).await.map(drop)
    }
}

fn stored(step: Step) -> Result<i64, StoreFault> {
    i64::try_from(step.0).map_err(|_| StoreFault::TooMuch("a TOTP step"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, id, memory, on_threads, user};

    fn record(name: &str) -> TotpRecord {
        TotpRecord {
            id: id(name),
            sealed: format!("sealed {name}"),
            last_used: None,
            failures: 0,
            confirmed: false,
        }
    }

    #[tokio::test]
    async fn a_password_is_replaced_not_added() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                assert!(tx.password(&id("ada")).await?.is_none());
                for (hash, one_off) in [("first", true), ("second", false)] {
                    let password = PasswordRecord { hash: hash.into(), one_off };
                    tx.keep_password(&id("ada"), &password).await?;
                    let kept = tx.password(&id("ada")).await?.expect("kept");
                    assert_eq!((&*kept.hash, kept.one_off), (hash, one_off));
                }
                let nobody = PasswordRecord { hash: "x".into(), one_off: false };
                let kept = tx.keep_password(&id("eve"), &nobody).await;
                assert!(matches!(kept, Err(StoreFault::Database(_))), "a user must be there");
                let long = PasswordRecord { hash: "x".repeat(MAX_SEALED + 1), one_off: false };
                let kept = tx.keep_password(&id("ada"), &long).await;
                assert!(matches!(kept, Err(StoreFault::TooMuch(_))));
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_totp_credential_is_replaced_whole() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                assert!(tx.totp(&id("ada")).await?.is_none());
                tx.keep_totp(&id("ada"), &record("one"), NOW).await?;
                tx.totp_failed(&id("one")).await?;
                tx.use_totp_step(&id("one"), Step(7)).await?;
                let used = tx.totp(&id("ada")).await?.expect("kept");
                assert_eq!((used.last_used, used.confirmed), (Some(Step(7)), true));
                tx.keep_totp(&id("ada"), &record("two"), NOW).await?;
                let kept = tx.totp(&id("ada")).await?.expect("kept");
                assert_eq!((&kept.id, &*kept.sealed), (&id("two"), "sealed two"));
                assert_eq!((kept.last_used, kept.failures, kept.confirmed), (None, 0, false));
                assert!(!tx.use_totp_step(&id("one"), Step(8)).await?, "the first is gone");
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_step_is_used_once_and_none_before_it_after() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                tx.keep_totp(&id("ada"), &record("one"), NOW).await?;
                for (step, used) in [(7, true), (7, false), (6, false), (9, true), (8, false)] {
                    assert_eq!(tx.use_totp_step(&id("one"), Step(step)).await?, used, "{step}");
                }
                let beyond = tx.use_totp_step(&id("one"), Step(u64::MAX)).await;
                assert!(matches!(beyond, Err(StoreFault::TooMuch(_))));
                Ok(())
            })
            .await;
    }

    #[test]
    fn of_many_at_once_one_uses_the_step() {
        let world = memory();
        crate::testing::block_on(world.transact(async |tx: &Tx| {
            tx.add_user(&user("ada")).await?;
            tx.keep_totp(&id("ada"), &record("one"), NOW).await
        }));
        let used = on_threads(20, async |_| {
            world.transact(async |tx: &Tx| tx.use_totp_step(&id("one"), Step(7)).await).await
        });
        assert_eq!(used.into_iter().filter(|used| *used).count(), 1);
    }

    #[tokio::test]
    async fn after_a_hundred_failures_it_is_off_until_restored() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                tx.keep_totp(&id("ada"), &record("one"), NOW).await?;
                for failures in 1..MAX_FAILURES {
                    assert_eq!(tx.totp_failed(&id("one")).await?, failures);
                }
                assert!(tx.use_totp_step(&id("one"), Step(1)).await?, "99 are not yet 100");
                assert_eq!(tx.totp(&id("ada")).await?.expect("kept").failures, 0);
                for _ in 0..MAX_FAILURES {
                    tx.totp_failed(&id("one")).await?;
                }
                assert_eq!(tx.totp_failed(&id("one")).await?, MAX_FAILURES, "counting stops");
                assert!(!tx.use_totp_step(&id("one"), Step(2)).await?, "it is off");
                tx.restore_totp(&id("one")).await?;
                assert!(tx.use_totp_step(&id("one"), Step(2)).await?);
                let unknown = tx.totp_failed(&id("none")).await;
                assert!(matches!(unknown, Err(StoreFault::Missing(_))));
                Ok(())
            })
            .await;
    }
}
