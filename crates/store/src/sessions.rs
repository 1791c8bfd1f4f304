//! Sessions: what a browser's `__Host-` cookie stands for, with a ledger of factors.

use std::time::Duration;

use portcullis_core::bearer::Digest;
use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::FactorTimes;
use portcullis_core::revocation::RevocationKind;
use portcullis_core::time::Timestamp;

use crate::active::Active;
use crate::database::{StoreFault, Tx};
use crate::revocations::LONGEST_TOKEN;
use crate::row::{Row, Value, bind};
use crate::users::MAX_PAGE;

/// Marks a session cookie's bearer value.
pub enum SessionCookie {}

/// A session.
#[derive(Clone)]
pub struct SessionRecord {
    /// Its id (`sid`).
    pub id: Id<id::Session>,
    /// Digest of the cookie; new at every raise of assurance.
    pub cookie: Digest<SessionCookie>,
    /// Whose.
    pub user: Id<id::User>,
    /// When each factor was used.
    pub factors: FactorTimes,
    /// When it began.
    pub made: Timestamp,
    /// Last use.
    pub seen: Timestamp,
    /// Ends at the latest.
    pub expires: Timestamp,
    /// Ended, and when.
    pub ended: Option<Timestamp>,
}

/// Most sessions or grants that one list hands out.
pub const MAX_LISTED: usize = 200;

/// Most sessions of one user that have one factor and no grant: more than passwords can be hashed
/// while their owner types a code, so that nobody pushes her out of her login.
pub const MAX_UNFINISHED: usize = 1000;

/// Rows ended by one statement; as often as needed.
pub(crate) const CHUNK: i64 = 1000;

impl Tx {
    /// Begins a session. Of a user's sessions that got no further than the password, and granted
    /// nothing, the newest 1000 stay.
    ///
    /// # Errors
    /// [`StoreFault::Taken`] when the id or the cookie is.
    pub async fn add_session(&self, session: &SessionRecord) -> Result<(), StoreFault> {
        let sql = "INSERT INTO sessions
                   (id, cookie, user_id, pwd, otp, hwk, made, seen, expires, ended)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
        let values = bind![
            &session.id,
            &session.cookie,
            &session.user,
            session.factors.pwd,
            session.factors.otp,
            session.factors.hwk,
            session.made,
            session.seen,
            session.expires,
            session.ended,
        ];
        if self.execute(sql, values).await? == 0 {
            return Err(StoreFault::Taken("the session"));
        }
        // INVARIANT: whoever has a password alone cannot fill the store. What goes carries nothing:
        // no token names a session that has no grant.
        let sql = "DELETE FROM sessions WHERE id IN
                   (SELECT id FROM sessions WHERE user_id = $1 AND id <> $2 AND ended IS NULL
                   AND otp IS NULL AND hwk IS NULL
                   AND NOT EXISTS (SELECT 1 FROM grants WHERE session_id = sessions.id)
                   ORDER BY made DESC, id LIMIT $3 OFFSET $4)";
        let values = bind![&session.user, &session.id, CHUNK, MAX_UNFINISHED as i64 - 1];
        self.execute(sql, values).await.map(drop)
    }

    /// The live session of a cookie: not ended, not expired, idle under `idle_s` seconds.
    pub async fn session_by_cookie(
        &self,
        cookie: &Digest<SessionCookie>,
        now: Timestamp,
        idle_s: i64,
    ) -> Result<Option<SessionRecord>, StoreFault> {
        let sql = "SELECT id, cookie, user_id, pwd, otp, hwk, made, seen, expires, ended
                   FROM sessions
                   WHERE cookie = $1 AND ended IS NULL AND expires > $2 AND seen > $3";
        let idle = Duration::from_secs(u64::try_from(idle_s).unwrap_or(0));
        let row = self.fetch_one(sql, bind![cookie, now, now.before(idle)]).await?;
        row.as_ref().map(session).transpose()
    }

    /// A session, ended or not.
    pub async fn session(&self, id: &Id<id::Session>) -> Result<Option<SessionRecord>, StoreFault> {
        let sql = "SELECT id, cookie, user_id, pwd, otp, hwk, made, seen, expires, ended
                   FROM sessions WHERE id = $1";
        self.fetch_one(sql, bind![id]).await?.as_ref().map(session).transpose()
    }

    /// A user's sessions that are not ended and not expired, the newest first, at most 200.
    pub async fn sessions_of(
        &self,
        user: &Id<id::User>,
        now: Timestamp,
    ) -> Result<Vec<SessionRecord>, StoreFault> {
        let sql = "SELECT id, cookie, user_id, pwd, otp, hwk, made, seen, expires, ended
                   FROM sessions WHERE user_id = $1 AND ended IS NULL AND expires > $2
                   ORDER BY made DESC, id LIMIT $3";
        let rows = self.fetch(sql, bind![user, now, MAX_LISTED as i64]).await?;
        rows.iter().map(session).collect()
    }

    /// A session that is not ended and not expired.
    pub async fn active_session(
        &self,
        id: &Id<id::Session>,
        now: Timestamp,
    ) -> Result<Option<Active<'_, SessionRecord>>, StoreFault> {
        let alive = |session: &SessionRecord| session.ended.is_none() && session.expires > now;
        Ok(self.session(id).await?.filter(alive).map(Active::found))
    }

    /// Raises a session: new cookie digest, new factor times; `seen` moves.
    ///
    /// # Errors
    /// [`StoreFault::Missing`] when it is not there, ended or expired.
    pub async fn raise_session(
        &self,
        id: &Id<id::Session>,
        cookie: &Digest<SessionCookie>,
        factors: FactorTimes,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let sql = "UPDATE sessions SET cookie = $2, pwd = $3, otp = $4, hwk = $5, seen = $6
                   WHERE id = $1 AND ended IS NULL AND expires > $6";
        let values = bind![id, cookie, factors.pwd, factors.otp, factors.hwk, now];
        match self.execute(sql, values).await? {
            0 => Err(StoreFault::Missing("a live session")),
            _ => Ok(()),
        }
    }

    /// Moves `seen`, never back; nothing happens to a session that is over. A commit of its own
    /// for each page would be dear: call it with another write, or once a minute.
    pub async fn see_session(
        &self,
        id: &Id<id::Session>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let sql = "UPDATE sessions SET seen = $2
                   WHERE id = $1 AND ended IS NULL AND expires > $2 AND seen < $2";
        self.execute(sql, bind![id, now]).await.map(drop)
    }

    /// Sessions that are not ended and not expired, of everybody or of one user, by id: at most
    /// `limit` (and 1000) after `after`, the id that the page before ended with.
    pub async fn sessions(
        &self,
        of: Option<&Id<id::User>>,
        after: &str,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<SessionRecord>, StoreFault> {
        let limit = limit.min(MAX_PAGE) as i64;
        let all = "SELECT id, cookie, user_id, pwd, otp, hwk, made, seen, expires, ended
                   FROM sessions WHERE id > $1 AND ended IS NULL AND expires > $2
                   ORDER BY id LIMIT $3";
        let hers = "SELECT id, cookie, user_id, pwd, otp, hwk, made, seen, expires, ended
                    FROM sessions WHERE user_id = $4 AND id > $1 AND ended IS NULL
                    AND expires > $2 ORDER BY id LIMIT $3";
        let rows = match of {
            None => self.fetch(all, bind![after, now, limit]).await?,
            Some(user) => self.fetch(hers, bind![after, now, limit, user]).await?,
        };
        rows.iter().map(session).collect()
    }

    /// Ends a session and the grants that live no longer than it; writes `Session` and `Grant`
    /// revocations, and has each client that was granted anything in it told of the logout.
    /// Idempotent; of an unknown session nothing is left to end. (That a session expires is no end:
    /// nobody is told.)
    pub async fn end_session(
        &self,
        id: &Id<id::Session>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let sql = "UPDATE sessions SET ended = $2 WHERE id = $1 AND ended IS NULL";
        if self.execute(sql, bind![id, now]).await? > 0 {
            self.revoke(RevocationKind::Session, id.as_str(), now.after(LONGEST_TOKEN)).await?;
            self.queue_logouts_of_session(id, now).await?;
        }
        // OpenID Connect Back-Channel Logout 1.0 §2.7: refresh tokens with `offline_access` should
        // not be revoked by a logout; the others must be.
        let sql = "UPDATE grants SET ended = $1 WHERE id IN
                   (SELECT id FROM grants WHERE dies_with = $3 AND ended IS NULL LIMIT $2)
                   RETURNING id";
        self.end_each(sql, RevocationKind::Grant, now, bind![now, CHUNK, id]).await
    }

    /// Ends all sessions of a user as [`Tx::end_session`] does: grants that outlive their session
    /// live on.
    pub async fn end_only_sessions_of(
        &self,
        user: &Id<id::User>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let sql = "SELECT id FROM sessions WHERE user_id = $1 AND ended IS NULL LIMIT $2";
        loop {
            let page = self.fetch(sql, bind![user, CHUNK]).await?;
            if page.is_empty() {
                return Ok(());
            }
            for row in &page {
                self.end_session(&row.id("id")?, now).await?;
            }
        }
    }

    /// Ends all sessions and *all* grants of a user ("sign out everywhere", disabled, a changed
    /// password, a reset factor), also those that outlive their session, and device logins that she
    /// approved. Writes their revocations; every client concerned is told of the logout.
    pub async fn end_sessions_of(
        &self,
        user: &Id<id::User>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        // First: it must still see which sessions and grants are alive.
        self.queue_logouts_of_user(user, now).await?;
        let sql = "DELETE FROM device_logins WHERE user_id = $1";
        self.execute(sql, bind![user]).await?;
        let sessions = "UPDATE sessions SET ended = $1 WHERE id IN
                        (SELECT id FROM sessions WHERE user_id = $3 AND ended IS NULL LIMIT $2)
                        RETURNING id";
        let grants = "UPDATE grants SET ended = $1 WHERE id IN
                      (SELECT id FROM grants WHERE user_id = $3 AND ended IS NULL LIMIT $2)
                      RETURNING id";
        for (sql, kind) in [(sessions, RevocationKind::Session), (grants, RevocationKind::Grant)] {
            self.end_each(sql, kind, now, bind![now, CHUNK, user]).await?;
        }
        Ok(())
    }

    /// Runs a statement that ends some rows until it ends none, and writes a revocation for each
    /// row's `id`.
    pub(crate) async fn end_each(
        &self,
        sql: &'static str,
        kind: RevocationKind,
        now: Timestamp,
        values: &[Value],
    ) -> Result<(), StoreFault> {
        loop {
            let ended = self.fetch(sql, values).await?;
            if ended.is_empty() {
                return Ok(());
            }
            for row in &ended {
                self.revoke(kind, row.text("id")?, now.after(LONGEST_TOKEN)).await?;
            }
        }
    }
}

fn session(row: &Row) -> Result<SessionRecord, StoreFault> {
    Ok(SessionRecord {
        id: row.id("id")?,
        cookie: Digest::from_stored(row.bytes("cookie")?),
        user: row.id("user_id")?,
        factors: row.factors()?,
        made: row.moment("made")?,
        seen: row.moment("seen")?,
        expires: row.moment("expires")?,
        ended: row.moment_if_any("ended")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, grant, id, later, memory, session, user};

    #[tokio::test]
    async fn a_cookie_finds_only_a_live_session() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                let one = session("one", "ada", 1);
                tx.add_session(&one).await?;
                let found = tx.session_by_cookie(&one.cookie, later(5), 60).await?.expect("live");
                assert_eq!(
                    (&found.id, &found.user, found.factors),
                    (&one.id, &one.user, one.factors)
                );
                assert!(found.cookie.matches(&one.cookie));
                assert_eq!((found.made, found.seen, found.expires), (NOW, NOW, one.expires));
                let other = session("x", "ada", 2).cookie;
                let seen = async |cookie, after, idle_s| {
                    Ok::<_, StoreFault>(
                        tx.session_by_cookie(cookie, later(after), idle_s).await?.is_some(),
                    )
                };
                assert!(!seen(&other, 5, 60).await?, "another cookie");
                assert!(seen(&one.cookie, 59, 60).await?);
                assert!(!seen(&one.cookie, 60, 60).await?, "idle");
                tx.see_session(&one.id, later(59)).await?;
                assert!(seen(&one.cookie, 60, 60).await?, "seen in between");
                tx.see_session(&one.id, later(10)).await?;
                assert!(seen(&one.cookie, 118, 60).await?, "never back");
                assert!(!seen(&one.cookie, 12 * 3600, 1 << 40).await?, "expired");
                assert!(!seen(&one.cookie, 59, -1).await?, "no idle time at all");
                tx.end_session(&one.id, later(60)).await?;
                assert!(!seen(&one.cookie, 60, 60).await?, "ended");
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn sessions_that_got_no_further_than_the_password_are_capped() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                tx.add_user(&user("bob")).await?;
                let mut whole = session("whole", "ada", 1);
                whole.factors.otp = Some(NOW.unix());
                tx.add_session(&whole).await?;
                tx.add_session(&session("granted", "ada", 2)).await?;
                tx.add_grant(&grant("a", "ada", "granted")).await?;
                tx.add_session(&session("others", "bob", 3)).await?;
                for n in 0..MAX_UNFINISHED as u64 + 5 {
                    let mut next = session(&format!("n{n}"), "ada", 10 + n);
                    next.made = later(n);
                    tx.add_session(&next).await?;
                }
                for (name, stays) in [
                    ("whole", true),
                    ("granted", true),
                    ("others", true),
                    ("n0", false),
                    ("n4", false),
                    ("n5", true),
                    ("n1004", true),
                ] {
                    assert_eq!(tx.session(&id(name)).await?.is_some(), stays, "{name}");
                }
                assert_eq!(tx.revision().await?, 0, "nothing that a token could name has gone");
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn taken() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                tx.add_session(&session("one", "ada", 1)).await?;
                for (name, seed) in [("one", 2), ("two", 1)] {
                    let added = tx.add_session(&session(name, "ada", seed)).await;
                    assert!(matches!(added, Err(StoreFault::Taken("the session"))), "{name}");
                }
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn an_expired_or_ended_session_is_not_active() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                tx.add_session(&session("one", "ada", 1)).await?;
                let active = async |after| {
                    let found = tx.active_session(&id("one"), later(after)).await?;
                    Ok::<_, StoreFault>(found.map(|session| session.user.clone()))
                };
                assert_eq!(active(1).await?, Some(id("ada")));
                assert_eq!(active(12 * 3600).await?, None);
                assert!(tx.active_session(&id("none"), NOW).await?.is_none());
                tx.end_session(&id("one"), later(1)).await?;
                assert_eq!(active(1).await?, None);
                assert_eq!(tx.session(&id("one")).await?.expect("kept").ended, Some(later(1)));
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_raise_changes_the_cookie_and_only_of_a_live_session() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                let (one, raised) = (session("one", "ada", 1), session("x", "ada", 2).cookie);
                tx.add_session(&one).await?;
                let factors = FactorTimes { otp: Some(5), ..one.factors };
                tx.raise_session(&one.id, &raised, factors, later(5)).await?;
                assert!(tx.session_by_cookie(&one.cookie, later(5), 60).await?.is_none());
                let found = tx.session_by_cookie(&raised, later(5), 60).await?.expect("raised");
                assert_eq!((found.factors, found.seen), (factors, later(5)));
                for (name, after) in [("none", 5), ("one", 12 * 3600)] {
                    let raise = tx.raise_session(&id(name), &raised, factors, later(after)).await;
                    assert!(matches!(raise, Err(StoreFault::Missing("a live session"))), "{name}");
                }
                tx.end_session(&one.id, later(6)).await?;
                let raise = tx.raise_session(&one.id, &one.cookie, factors, later(6)).await;
                assert!(matches!(raise, Err(StoreFault::Missing("a live session"))));
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn the_end_of_a_session_ends_its_grants_once() {
        let world = memory();
        let revision = world
            .transact(async |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                for (seed, name) in [(1, "one"), (2, "two")] {
                    tx.add_session(&session(name, "ada", seed)).await?;
                }
                for (name, of) in [("a", "one"), ("b", "one"), ("c", "two")] {
                    tx.add_grant(&grant(name, "ada", of)).await?;
                }
                assert_eq!(tx.grants_in(&id("one")).await?.len(), 2);
                tx.end_session(&id("one"), later(1)).await?;
                tx.end_session(&id("one"), later(2)).await?;
                tx.end_session(&id("none"), later(2)).await?;
                assert!(tx.grants_in(&id("one")).await?.is_empty());
                assert!(tx.active_grant(&id("a")).await?.is_none());
                assert!(tx.active_grant(&id("c")).await?.is_some());
                tx.revision().await
            })
            .await;
        assert_eq!(revision, 3, "a session and two grants, once each");
        assert!(world.kills(RevocationKind::Session, "s_one"));
        assert!(world.kills(RevocationKind::Grant, "g_a"));
        assert!(world.kills(RevocationKind::Grant, "g_b"));
        assert!(!world.kills(RevocationKind::Session, "s_two"));
        assert!(!world.kills(RevocationKind::Grant, "g_c"));
        assert!(!world.kills(RevocationKind::Subject, "u_ada"));
    }

    #[tokio::test]
    async fn signing_out_everywhere_ends_all_however_many() {
        let world = memory();
        let count = CHUNK + 5;
        world
            .transact(async move |tx: &Tx| {
                for name in ["ada", "bob"] {
                    tx.add_user(&user(name)).await?;
                }
                for n in 0..count {
                    let name = format!("n{n}");
                    tx.add_session(&session(&name, "ada", n as u64)).await?;
                    tx.add_grant(&grant(&name, "ada", &name)).await?;
                }
                tx.add_session(&session("bob", "bob", 1 << 20)).await?;
                let listed = tx.sessions_of(&id("ada"), later(1)).await?;
                assert_eq!(listed.len(), MAX_LISTED);
                tx.end_sessions_of(&id("ada"), later(1)).await?;
                assert!(tx.sessions_of(&id("ada"), later(1)).await?.is_empty());
                assert!(tx.grants_of(&id("ada")).await?.is_empty());
                assert_eq!(tx.sessions_of(&id("bob"), later(1)).await?.len(), 1);
                assert!(tx.sessions_of(&id("bob"), later(12 * 3600)).await?.is_empty());
                assert_eq!(tx.revision().await?, 2 * count as u64);
                Ok(())
            })
            .await;
        assert!(world.kills(RevocationKind::Session, &format!("s_n{}", count - 1)));
        assert!(world.kills(RevocationKind::Grant, "g_n0"));
        assert!(!world.kills(RevocationKind::Session, "s_bob"));
    }

    #[tokio::test]
    async fn sessions_come_in_pages_by_id_of_everybody_or_of_one() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                for (seed, name) in ["d", "b", "a", "c", "x"].into_iter().enumerate() {
                    let owner = if name == "b" { "bob" } else { "ada" };
                    if tx.user(&id(owner)).await?.is_none() {
                        tx.add_user(&user(owner)).await?;
                    }
                    tx.add_session(&session(name, owner, seed as u64)).await?;
                }
                tx.end_session(&id("x"), later(1)).await?;
                let page = async |of: Option<&str>, after, limit| {
                    let of = of.map(id);
                    let page = tx.sessions(of.as_ref(), after, limit, later(1)).await?;
                    let names = page.into_iter().map(|session| session.id.as_str().to_owned());
                    Ok::<_, StoreFault>(names.collect::<Vec<_>>())
                };
                assert_eq!(page(None, "", 3).await?, ["s_a", "s_b", "s_c"]);
                assert_eq!(page(None, "s_c", 3).await?, ["s_d"], "the ended one is left out");
                assert!(page(None, "s_d", 3).await?.is_empty());
                assert_eq!(page(Some("ada"), "", 2).await?, ["s_a", "s_c"]);
                assert_eq!(page(Some("ada"), "s_c", 2).await?, ["s_d"]);
                assert_eq!(page(Some("bob"), "", usize::MAX).await?, ["s_b"]);
                assert!(page(Some("eve"), "", 9).await?.is_empty());
                assert!(page(None, "", 0).await?.is_empty());
                assert!(tx.sessions(None, "", 9, later(12 * 3600)).await?.is_empty(), "expired");
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_page_of_sessions_has_a_limit() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                for owner in ["ada", "bob"] {
                    tx.add_user(&user(owner)).await?;
                }
                for n in 0..=MAX_PAGE as u64 {
                    let owner = if n % 2 == 0 { "ada" } else { "bob" };
                    tx.add_session(&session(&format!("n{n}"), owner, n)).await?;
                }
                assert_eq!(tx.sessions(None, "", usize::MAX, NOW).await?.len(), MAX_PAGE);
                Ok(())
            })
            .await;
    }
}
