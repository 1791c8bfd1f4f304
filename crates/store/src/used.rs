//! Single-use things, consumed by one atomic statement: a unique insert *before* anything is
//! issued. Only a hash is kept, so a row has one size whatever was presented.

use std::time::Duration;

use portcullis_core::hash::sha256;
use portcullis_core::time::Timestamp;

use crate::database::{Link, StoreFault, Tx};
use crate::revocations::LONGEST_TOKEN;
use crate::row::{Value, bind};

/// What is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsedKind {
    /// An authorization code, by its grant id.
    Code,
    /// A client assertion's `jti`, with its client.
    Assertion,
    /// A login state's nonce, consumed by the consent.
    Login,
    /// A token's `jti` at the revocation endpoint: revoked again, it is not written again.
    Revocation,
    /// A pushed authorization request, by its reference (RFC 9126 §7.3).
    Pushed,
    /// An assertion that was redeemed as a grant (RFC 7523 §3), by issuer and `jti`.
    ForeignAssertion,
    /// A request object (RFC 9101), by client and `jti`.
    RequestObject,
}

impl UsedKind {
    fn stored(self) -> i64 {
        match self {
            UsedKind::Code => 1,
            UsedKind::Assertion => 2,
            UsedKind::Login => 3,
            UsedKind::Revocation => 4,
            UsedKind::Pushed => 5,
            UsedKind::ForeignAssertion => 6,
            UsedKind::RequestObject => 7,
        }
    }
}

impl Tx {
    /// True when this call is the first use of (kind, value). Kept until `expires`, which must lie
    /// behind the moment at which the thing itself is refused as too old.
    pub async fn first_use(
        &self,
        kind: UsedKind,
        value: &str,
        expires: Timestamp,
    ) -> Result<bool, StoreFault> {
        // RFC 6749 §4.1.2: a code must not be used more than once; RFC 7523 §3: likewise a `jti`.
        // A row that has expired but is not yet dropped still counts: only ever too strict.
        let sql = "INSERT INTO used_ids (kind, mark, expires) VALUES ($1, $2, $3)
                   ON CONFLICT DO NOTHING";
        let digest = sha256(value.as_bytes());
        let inserted = self.execute(sql, bind![kind.stored(), &digest[..], expires]).await?;
        Ok(inserted == 1)
    }

    /// Drops what expired, at most a thousand rows; the store does it by itself now and then.
    /// Returns how many it dropped (grants that went with their session uncounted).
    pub async fn forget_expired(&self, now: Timestamp) -> Result<usize, StoreFault> {
        forget(self.link(), now)
    }
}

/// Most rows dropped at once: a few milliseconds within somebody's commit.
pub(crate) const FORGET_ROWS: usize = 1000;

/// How long an expired device login is told apart from one that never was (RFC 8628 §3.5:
/// `expired_token`).
const DEVICE_LOGINS_SHOWN: Duration = Duration::from_secs(3_600);

/// How long a dead API key stands in its client's list.
const API_KEYS_SHOWN: Duration = Duration::from_secs(90 * 86_400);

/// Drops what expired. Sessions and grants outlive their end by [`LONGEST_TOKEN`], so that
/// whoever presents something of theirs is still told apart from a stranger.
pub(crate) fn forget(link: &Link, now: Timestamp) -> Result<usize, StoreFault> {
    let mut dropped = 0;
    for (sql, before) in FORGET {
        let left = FORGET_ROWS.saturating_sub(dropped);
        let before = match before {
            Before::Now => now,
            Before::HourAgo => now.before(DEVICE_LOGINS_SHOWN),
            Before::LongAgo => now.before(LONGEST_TOKEN),
            Before::QuarterAgo => now.before(API_KEYS_SHOWN),
        };
        let left = Value::Integer(i64::try_from(left).unwrap_or(0));
        dropped += link.execute(sql, &[Value::from(before), left])?;
    }
    Ok(dropped)
}

enum Before {
    Now,
    HourAgo,
    LongAgo,
    QuarterAgo,
}

/// What goes by a date of its own, and how long after it. (The rest goes with its user.)
const FORGET: [(&str, Before); 9] = [
    (
        "DELETE FROM used_ids WHERE (kind, mark) IN
         (SELECT kind, mark FROM used_ids WHERE expires <= $1 LIMIT $2)",
        Before::Now,
    ),
    (
        "DELETE FROM revocations WHERE seq IN
         (SELECT seq FROM revocations WHERE expires <= $1 LIMIT $2)",
        Before::Now,
    ),
    (
        "DELETE FROM known_devices WHERE (user_id, device) IN
         (SELECT user_id, device FROM known_devices WHERE expires <= $1 LIMIT $2)",
        Before::Now,
    ),
    (
        "DELETE FROM device_logins WHERE code IN
         (SELECT code FROM device_logins WHERE expires <= $1 LIMIT $2)",
        Before::HourAgo,
    ),
    (
        "DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE ended <= $1 LIMIT $2)",
        Before::LongAgo,
    ),
    // A grant that dies with its session is dropped with it, below.
    (
        "DELETE FROM grants WHERE id IN
         (SELECT id FROM grants WHERE dies_with IS NULL AND expires <= $1 LIMIT $2)",
        Before::LongAgo,
    ),
    (
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires <= $1 LIMIT $2)",
        Before::LongAgo,
    ),
    (
        "DELETE FROM api_keys WHERE id IN
         (SELECT id FROM api_keys WHERE expires <= $1 LIMIT $2)",
        Before::QuarterAgo,
    ),
    (
        "DELETE FROM api_keys WHERE id IN
         (SELECT id FROM api_keys WHERE revoked <= $1 LIMIT $2)",
        Before::QuarterAgo,
    ),
];

#[cfg(test)]
mod tests {
    use portcullis_core::id;
    use portcullis_core::revocation::RevocationKind;

    use super::*;
    use crate::testing::{grant, id, later, memory, on_threads, session, user};

    const KINDS: [UsedKind; 7] = [
        UsedKind::Code,
        UsedKind::Assertion,
        UsedKind::Login,
        UsedKind::Revocation,
        UsedKind::Pushed,
        UsedKind::ForeignAssertion,
        UsedKind::RequestObject,
    ];

    #[test]
    fn of_fifty_first_users_one_is() {
        let world = memory();
        let first = on_threads(50, async |_| {
            world
                .transact(async |tx: &Tx| tx.first_use(UsedKind::Code, "g_x", later(60)).await)
                .await
        });
        assert_eq!(first.into_iter().filter(|first| *first).count(), 1);
    }

    #[tokio::test]
    async fn kinds_and_values_are_used_apart_and_for_ever() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                let long = "x".repeat(100_000);
                for kind in KINDS {
                    for value in ["", "a", "b", &long] {
                        assert!(tx.first_use(kind, value, later(0)).await?);
                        assert!(!tx.first_use(kind, value, later(60)).await?);
                    }
                }
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_use_that_was_rolled_back_was_none() {
        let world = memory();
        let work = async |tx: &Tx| {
            assert!(tx.first_use(UsedKind::Code, "a", later(60)).await?);
            Err::<(), _>(StoreFault::Missing("something"))
        };
        assert!(world.store.transact(work).await.is_err());
        let first = async |tx: &Tx| tx.first_use(UsedKind::Code, "a", later(60)).await;
        assert!(world.transact(first).await);
    }

    #[tokio::test]
    async fn what_expired_goes_and_the_rest_stays() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                tx.add_session(&session("one", "ada", 1)).await?;
                tx.add_grant(&grant("one", "ada", "one")).await?;
                tx.know_device(&id("old"), &id("ada"), later(10)).await?;
                tx.know_device(&id("new"), &id("ada"), later(1000)).await?;
                for (name, seconds) in [("old", 10), ("new", 1000)] {
                    tx.first_use(UsedKind::Code, name, later(seconds)).await?;
                    tx.revoke(RevocationKind::Token, name, later(seconds)).await?;
                }
                assert_eq!(tx.forget_expired(later(9)).await?, 0);
                assert_eq!(tx.forget_expired(later(10)).await?, 3);
                assert!(tx.first_use(UsedKind::Code, "old", later(1000)).await?);
                assert!(!tx.first_use(UsedKind::Code, "new", later(1000)).await?);
                assert!(tx.device_known(&id("new"), &id("ada"), later(999)).await?);
                // A session goes a day after its end, with its grants.
                assert_eq!(tx.forget_expired(later(36 * 3600 - 1)).await?, 4);
                assert!(tx.session(&id("one")).await?.is_some());
                assert_eq!(tx.forget_expired(later(36 * 3600)).await?, 1);
                assert!(tx.session(&id("one")).await?.is_none());
                assert!(tx.grant(&id::<id::Grant>("one")).await?.is_none());
                assert!(tx.user(&id("ada")).await?.is_some());
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn at_most_a_thousand_go_at_once() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                for n in 0..FORGET_ROWS + 5 {
                    tx.first_use(UsedKind::Login, &n.to_string(), later(10)).await?;
                }
                assert_eq!(tx.forget_expired(later(11)).await?, FORGET_ROWS);
                assert_eq!(tx.forget_expired(later(11)).await?, 5);
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn the_store_forgets_by_itself_within_a_commit_that_happens_anyway() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.revoke(RevocationKind::Token, "t_x", later(10)).await?;
                tx.first_use(UsedKind::Code, "a", later(10)).await
            })
            .await;
        world.advance(61);
        assert_eq!(world.store.commits(), 1, "nothing happens while nobody asks");
        world.transact(async |tx: &Tx| tx.revision().await).await;
        assert_eq!(world.revoked.len(), 0);
        let left = async |tx: &Tx| {
            let sql = "SELECT kind FROM used_ids UNION ALL SELECT kind FROM revocations";
            Ok(tx.fetch(sql, bind![]).await?.len())
        };
        assert_eq!(world.transact(left).await, 0);
    }
}
