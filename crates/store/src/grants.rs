//! Grants: what a user granted a client, with the state of its refresh tokens. (What she agreed to
//! for good is a consent.)

use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::FactorTimes;
use portcullis_core::revocation::RevocationKind;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;

use crate::active::Active;
use crate::database::{StoreFault, Tx};
use crate::revocations::LONGEST_TOKEN;
use crate::row::{MAX_BINDING, MAX_DETAILS, Row, bind, bounded};
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
    /// In which session it was made.
    pub session: Id<id::Session>,
    /// Whether it outlives that session (`offline_access`, or a device's).
    pub life: GrantLife,
    /// When each factor was used, at authorization; unchanged by refresh.
    pub factors: FactorTimes,
    /// What its refresh tokens are bound to: a `cnf` as JSON.
    pub binding: Option<String>,
    /// `authorization_details`, JSON array; empty when none.
    pub details: String,
    /// The refresh token family.
    pub family: Family,
    /// What.
    pub scopes: Scopes,
    /// For which API; `None` when only OpenID scopes were granted.
    pub audience: Option<String>,
    /// When.
    pub made: Timestamp,
    /// Ended, and when.
    pub ended: Option<Timestamp>,
}

/// How long a grant lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantLife {
    /// Until its session ends.
    Session,
    /// On its own: until its family expires.
    Offline,
}

/// The state of a grant's refresh tokens: one counter, not a row per token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The newest token that was handed out; 0 before the first.
    pub counter: u64,
    /// When the counter moved last.
    pub moved: Option<Timestamp>,
    /// Generations running in which the predecessor was presented within its grace.
    pub graces: u32,
    /// Last use.
    pub seen: Timestamp,
    /// Over at the latest.
    pub expires: Timestamp,
}

/// Longest audience: a URL.
pub const MAX_AUDIENCE: usize = crate::row::MAX_AUDIENCE;

/// Most grants of one user at one client that outlive their sessions; of more the oldest ends. A
/// client that asks anew at every start must not fill the store for half a year.
pub const MAX_OFFLINE: usize = 100;

/// All that a grant is, in one place: whoever selects less cannot be read.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT id, user_id, client_id, session_id, dies_with, scopes, audience, details, \
             binding, pwd, otp, hwk, counter, moved, graces, seen, expires, made, ended \
             FROM grants ",
            $which
        )
    };
}

impl Tx {
    /// Adds a grant. Of one that outlives its session the user's newest 100 at the client stay, the
    /// others end.
    ///
    /// # Errors
    /// `Taken` when the id is (a code redeemed twice); `TooMuch` for a text over its limit.
    pub async fn add_grant(&self, grant: &GrantRecord) -> Result<(), StoreFault> {
        bounded("an audience", grant.audience.as_deref().unwrap_or_default(), MAX_AUDIENCE)?;
        bounded("authorization details", &grant.details, MAX_DETAILS)?;
        bounded("a binding", grant.binding.as_deref().unwrap_or_default(), MAX_BINDING)?;
        let (session, family) = (&grant.session, &grant.family);
        let sql = "INSERT INTO grants
                   (id, user_id, client_id, session_id, dies_with, scopes, audience, details,
                   binding, pwd, otp, hwk, counter, moved, graces, seen, expires, made, ended)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
                   $17, $18, $19) ON CONFLICT DO NOTHING";
        let values = bind![
            &grant.id,
            &grant.user,
            &grant.client,
            session,
            match grant.life {
                GrantLife::Session => Some(session),
                GrantLife::Offline => None,
            },
            grant.scopes.to_string(),
            grant.audience.as_deref(),
            &*grant.details,
            grant.binding.as_deref(),
            grant.factors.pwd,
            grant.factors.otp,
            grant.factors.hwk,
            counter(family)?,
            family.moved,
            i64::from(family.graces),
            family.seen,
            family.expires,
            grant.made,
            grant.ended,
        ];
        if self.execute(sql, values).await? == 0 {
            return Err(StoreFault::Taken("the grant"));
        }
        match grant.life {
            GrantLife::Session => Ok(()),
            GrantLife::Offline => self.end_oldest_offline(grant).await,
        }
    }

    /// Ends what a grant that outlives its session is one too many for; never itself.
    async fn end_oldest_offline(&self, grant: &GrantRecord) -> Result<(), StoreFault> {
        let sql = "UPDATE grants SET ended = $1 WHERE id IN
                   (SELECT id FROM grants WHERE user_id = $3 AND client_id = $4 AND id <> $5
                   AND dies_with IS NULL AND ended IS NULL
                   ORDER BY made DESC, id LIMIT $2 OFFSET $6) RETURNING id";
        let others = MAX_OFFLINE as i64 - 1;
        let (user, client) = (&grant.user, &grant.client);
        let values = bind![grant.made, CHUNK, user, client, &grant.id, others];
        self.end_each(sql, RevocationKind::Grant, grant.made, values).await
    }

    /// A grant, ended or not.
    pub async fn grant(&self, id: &Id<id::Grant>) -> Result<Option<GrantRecord>, StoreFault> {
        let sql = select!("WHERE id = $1");
        self.fetch_one(sql, bind![id]).await?.as_ref().map(grant).transpose()
    }

    /// A user's grants that have not ended, the newest first, at most 200.
    pub async fn grants_of(&self, user: &Id<id::User>) -> Result<Vec<GrantRecord>, StoreFault> {
        let sql = select!("WHERE user_id = $1 AND ended IS NULL ORDER BY made DESC, id LIMIT $2");
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

    /// A grant that has not ended. Whether its session lives, and its family has not expired, is
    /// looked at apart.
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

    /// A user's grants to one client that have not ended, the newest first, at most 200.
    pub async fn grants_between(
        &self,
        user: &Id<id::User>,
        client: &Id<id::Client>,
    ) -> Result<Vec<GrantRecord>, StoreFault> {
        let sql = select!(
            "WHERE user_id = $1 AND client_id = $2 AND ended IS NULL
             ORDER BY made DESC, id LIMIT $3"
        );
        let values = bind![user, client, MAX_LISTED as i64];
        self.fetch(sql, values).await?.iter().map(grant).collect()
    }

    /// Ends all that a user granted a client (a consent withdrawn), also a device's login that was
    /// approved and not yet fetched, and writes `Grant` revocations.
    pub async fn end_grants_between(
        &self,
        user: &Id<id::User>,
        client: &Id<id::Client>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let sql = "DELETE FROM device_logins WHERE user_id = $1 AND client_id = $2";
        self.execute(sql, bind![user, client]).await?;
        let sql = "UPDATE grants SET ended = $1 WHERE id IN
                   (SELECT id FROM grants
                   WHERE user_id = $3 AND client_id = $4 AND ended IS NULL LIMIT $2)
                   RETURNING id";
        let values = bind![now, CHUNK, user, client];
        self.end_each(sql, RevocationKind::Grant, now, values).await
    }

    /// Ends all that a client holds: its grants, of whatever life, its API keys, the consents given
    /// to it, the device logins that it began, and logouts that it would have been told of. Writes
    /// `Client`, `Grant` and `Token` revocations. For a client of the store
    /// ([`Tx::disable_client`], [`Tx::remove_client`]) and for one that has gone from the file.
    pub async fn end_grants_of_client(
        &self,
        client: &Id<id::Client>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        self.revoke(RevocationKind::Client, client.as_str(), now.after(LONGEST_TOKEN)).await?;
        let sql = "UPDATE grants SET ended = $1 WHERE id IN
                   (SELECT id FROM grants WHERE client_id = $3 AND ended IS NULL LIMIT $2)
                   RETURNING id";
        self.end_each(sql, RevocationKind::Grant, now, bind![now, CHUNK, client]).await?;
        self.revoke_api_keys_of(client, now).await?;
        // INVARIANT: whoever bears the same id later inherits nothing.
        for sql in [
            "DELETE FROM consents WHERE client_id = $1",
            "DELETE FROM device_logins WHERE client_id = $1",
            "DELETE FROM logouts WHERE client_id = $1",
        ] {
            self.execute(sql, bind![client]).await?;
        }
        Ok(())
    }

    /// Keeps the state of a grant's refresh tokens. Writers stand in one line and each reads the row
    /// in the transaction that writes it, so this is the compare-and-set of the design. Any counter
    /// is taken: after a restore a token with a valid MAC may stand above the row.
    ///
    /// # Errors
    /// `Missing` when the grant has ended, or is not there: nothing is minted for it any more.
    pub async fn keep_family(&self, id: &Id<id::Grant>, family: &Family) -> Result<(), StoreFault> {
        let sql = "UPDATE grants SET counter = $2, moved = $3, graces = $4, seen = $5, expires = $6
                   WHERE id = $1 AND ended IS NULL";
        let values = bind![
            id,
            counter(family)?,
            family.moved,
            i64::from(family.graces),
            family.seen,
            family.expires,
        ];
        match self.execute(sql, values).await? {
            0 => Err(StoreFault::Missing("a live grant")),
            _ => Ok(()),
        }
    }

    /// Binds a grant that is bound to nothing yet; one that is bound stays as it is.
    pub async fn bind_grant(&self, id: &Id<id::Grant>, binding: &str) -> Result<(), StoreFault> {
        bounded("a binding", binding, MAX_BINDING)?;
        let sql = "UPDATE grants SET binding = $2
                   WHERE id = $1 AND binding IS NULL AND ended IS NULL";
        self.execute(sql, bind![id, binding]).await.map(drop)
    }
}

fn counter(family: &Family) -> Result<i64, StoreFault> {
    i64::try_from(family.counter).map_err(|_| StoreFault::TooMuch("a refresh counter"))
}

fn grant(row: &Row) -> Result<GrantRecord, StoreFault> {
    Ok(GrantRecord {
        id: row.id("id")?,
        user: row.id("user_id")?,
        client: row.id("client_id")?,
        session: row.id("session_id")?,
        life: match row.text_if_any("dies_with")? {
            Some(_) => GrantLife::Session,
            None => GrantLife::Offline,
        },
        factors: row.factors()?,
        binding: row.text_if_any("binding")?.map(str::to_owned),
        details: row.text("details")?.to_owned(),
        family: Family {
            counter: row.natural("counter")?,
            moved: row.moment_if_any("moved")?,
            graces: row.count("graces")?,
            seen: row.moment("seen")?,
            expires: row.moment("expires")?,
        },
        scopes: row.scopes()?,
        audience: row.text_if_any("audience")?.map(str::to_owned),
        made: row.moment("made")?,
        ended: row.moment_if_any("ended")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        World, grant, id, later, memory, offline, on_threads, scopes, session, user,
    };

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
                let added = tx.add_grant(&long).await;
                assert!(matches!(added, Err(StoreFault::TooMuch("an audience"))));
                let mut long = grant("a", "ada", "one");
                long.details = "x".repeat(MAX_DETAILS + 1);
                let added = tx.add_grant(&long).await;
                assert!(matches!(added, Err(StoreFault::TooMuch("authorization details"))));
                let mut long = grant("a", "ada", "one");
                long.binding = Some("x".repeat(MAX_BINDING + 1));
                let added = tx.add_grant(&long).await;
                assert!(matches!(added, Err(StoreFault::TooMuch("a binding"))));
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
    async fn all_that_a_grant_carries_comes_back() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                let mut added = offline("a", "ada", "one");
                added.factors = FactorTimes { pwd: Some(1), otp: Some(2), hwk: Some(3) };
                added.binding = Some(r#"{"jkt":"x"}"#.into());
                added.details = r#"[{"type":"payment"}]"#.into();
                added.family = Family {
                    counter: i64::MAX as u64,
                    moved: Some(later(1)),
                    graces: u32::MAX,
                    seen: later(2),
                    expires: later(3),
                };
                tx.add_grant(&added).await?;
                let found = tx.grant(&added.id).await?.expect("there");
                assert_eq!(format!("{found:?}"), format!("{added:?}"));
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_family_moves_to_any_counter_while_its_grant_lives() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                tx.add_grant(&grant("a", "ada", "one")).await?;
                tx.add_grant(&grant("b", "ada", "one")).await?;
                let other = tx.grant(&id("b")).await?.expect("there").family;
                // On by one, and far on: a valid MAC above the row, after a restore.
                for counter in [1, 2, 1 << 40] {
                    let family = Family {
                        counter,
                        moved: Some(later(counter)),
                        graces: 2,
                        seen: later(counter),
                        expires: later(900),
                    };
                    tx.keep_family(&id("a"), &family).await?;
                    assert_eq!(tx.grant(&id("a")).await?.expect("there").family, family);
                }
                assert_eq!(tx.grant(&id("b")).await?.expect("there").family, other);
                let mut over = other.clone();
                over.counter = 1 << 63;
                let kept = tx.keep_family(&id("a"), &over).await;
                assert!(matches!(kept, Err(StoreFault::TooMuch("a refresh counter"))));
                tx.end_grant(&id("a"), later(1)).await?;
                for name in ["a", "none"] {
                    let kept = tx.keep_family(&id(name), &other).await;
                    assert!(matches!(kept, Err(StoreFault::Missing("a live grant"))), "{name}");
                }
                Ok(())
            })
            .await;
    }

    /// Refreshes and one revocation at once, on threads: no two see the same counter, and none moves
    /// the family after the revocation returned.
    #[test]
    fn no_family_forks_or_moves_past_the_end_of_its_grant() {
        use crate::testing::block_on;
        let mut moved = 0;
        for seed in 0..10 {
            let world = memory();
            block_on(world.transact(async move |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                tx.add_session(&session("one", "ada", seed)).await?;
                tx.add_grant(&offline("a", "ada", "one")).await
            }));
            let refresh = async |tx: &Tx| {
                let Some(grant) = tx.active_grant(&id("a")).await? else { return Ok(None) };
                let mut family = grant.family.clone();
                family.counter += 1;
                tx.keep_family(&id("a"), &family).await?;
                Ok(Some((tx.revision().await?, family.counter)))
            };
            let counters = on_threads(16, async |number| {
                if number == 8 {
                    let end = async |tx: &Tx| tx.end_grant(&id("a"), later(1)).await;
                    world.transact(end).await;
                    assert_eq!(world.transact(refresh).await, None, "after it returned");
                    return None;
                }
                world.transact(refresh).await
            });
            let mut counters: Vec<_> = counters.into_iter().flatten().collect();
            for (rev, _) in &counters {
                assert!(world.kills_at(*rev, RevocationKind::Grant, "g_a"), "seed {seed}");
            }
            counters.sort_by_key(|(_, counter)| *counter);
            let expected: Vec<_> = (1..=counters.len() as u64).collect();
            let found: Vec<_> = counters.iter().map(|(_, counter)| *counter).collect();
            assert_eq!(found, expected, "seed {seed}");
            moved += counters.len();
        }
        assert!(moved > 0, "no thread was ever first");
    }

    #[tokio::test]
    async fn of_more_than_a_hundred_offline_grants_at_a_client_the_oldest_end() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                tx.add_grant(&grant("in_session", "ada", "one")).await?;
                let mut other = offline("other", "ada", "one");
                other.client = id("bank");
                tx.add_grant(&other).await?;
                for n in 0..MAX_OFFLINE as u64 + 2 {
                    let mut next = offline(&format!("n{n}"), "ada", "one");
                    next.made = later(1 + n);
                    tx.add_grant(&next).await?;
                }
                // The newest by its arrival stays, whatever its date says.
                tx.add_grant(&offline("early", "ada", "one")).await?;
                for (name, lives) in [
                    ("in_session", true),
                    ("other", true),
                    ("n0", false),
                    ("n2", false),
                    ("n3", true),
                    ("n101", true),
                    ("early", true),
                ] {
                    let found = tx.active_grant(&id(name)).await?;
                    assert_eq!(found.is_some(), lives, "{name}");
                }
                assert_eq!(tx.revision().await?, 3, "each is revoked");
                Ok(())
            })
            .await;
        assert!(world.kills(RevocationKind::Grant, "g_n0"));
        assert!(!world.kills(RevocationKind::Grant, "g_n3"));
    }

    #[tokio::test]
    async fn what_a_user_granted_a_client_is_listed_and_ends_alone() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("bob")).await?;
                tx.add_session(&session("bob", "bob", 9)).await?;
                tx.add_grant(&grant("a", "ada", "one")).await?;
                let mut newer = offline("b", "ada", "one");
                newer.made = later(1);
                tx.add_grant(&newer).await?;
                let mut other = grant("other", "ada", "one");
                other.client = id("bank");
                tx.add_grant(&other).await?;
                tx.add_grant(&grant("bob", "bob", "bob")).await?;
                let (ada, shop) = (id("ada"), id("shop"));
                let between = tx.grants_between(&ada, &shop).await?;
                let names: Vec<_> = between.iter().map(|grant| grant.id.as_str()).collect();
                assert_eq!(names, ["g_b", "g_a"]);
                tx.end_grants_between(&ada, &shop, later(2)).await?;
                tx.end_grants_between(&ada, &shop, later(3)).await?;
                assert!(tx.grants_between(&ada, &shop).await?.is_empty());
                assert!(tx.active_grant(&id("other")).await?.is_some());
                assert!(tx.active_grant(&id("bob")).await?.is_some());
                assert_eq!(tx.grant(&id("a")).await?.expect("kept").ended, Some(later(2)));
                assert_eq!(tx.revision().await?, 2, "two, once each");
                assert!(tx.due_logouts(later(9), 9).await?.is_empty(), "no logout");
                Ok(())
            })
            .await;
        assert!(world.kills(RevocationKind::Grant, "g_b"));
        assert!(!world.kills(RevocationKind::Session, "s_one"));
    }
}
