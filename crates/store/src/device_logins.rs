//! Device logins under way (RFC 8628): one of the few rows that someone unauthenticated can cause,
//! so they are few, short-lived and counted per client and address.

use portcullis_core::bearer::Digest;
use portcullis_core::id::{self, Id};
use portcullis_core::jose::claims::FactorTimes;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;

use crate::database::{StoreFault, Tx};
use crate::row::{
    MAX_AUDIENCE, MAX_BINDING, MAX_DETAILS, MAX_LABEL, Row, bind, bounded, unreadable,
};

/// Marks the device code, a bearer value.
pub enum DeviceCode {}

/// A device that waits for its user.
#[derive(Clone)]
pub struct DeviceLogin {
    /// Digest of the device code.
    pub code: Digest<DeviceCode>,
    /// What the user types, canonical: upper case, no dash.
    pub user_code: String,
    /// Which client.
    pub client: Id<id::Client>,
    /// What it asks for.
    pub scopes: Scopes,
    /// For which API.
    pub audience: Option<String>,
    /// `authorization_details`, JSON array; empty when none.
    pub details: String,
    /// What the tokens will be bound to: a `cnf` as JSON.
    pub binding: Option<String>,
    /// From where it was begun, for the page that asks.
    pub ip: String,
    /// When it began.
    pub made: Timestamp,
    /// Over at the latest.
    pub expires: Timestamp,
    /// Least time between two polls, seconds; grows by 5 with each `slow_down`.
    pub interval_s: i64,
    /// The last poll.
    pub polled: Option<Timestamp>,
    /// What the user said.
    pub decision: Decision,
}

/// What became of a device login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing yet.
    Pending,
    /// The user agreed.
    Approved {
        /// Who.
        user: Id<id::User>,
        /// In which session.
        session: Id<id::Session>,
        /// When each factor was used.
        factors: FactorTimes,
    },
    /// The user said no.
    Denied,
}

/// Most device logins under way of one client.
pub const MAX_PENDING_PER_CLIENT: usize = 1_000;
/// Most from one address.
pub const MAX_PENDING_PER_ADDRESS: usize = 20;
/// Most of all: clients that nobody registered have as many ids as they like.
pub const MAX_PENDING: usize = 20_000;
/// Longest user code, in bytes.
pub const MAX_USER_CODE: usize = 32;

/// All that a device login is, in one place.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT code, user_code, client_id, scopes, audience, details, binding, ip, made, \
             expires, interval_s, polled, decision, user_id, session_id, pwd, otp, hwk \
             FROM device_logins ",
            $which
        )
    };
}

impl Tx {
    /// Begins a device login.
    ///
    /// # Errors
    /// `Taken` when either code is; `TooMuch` when its client, its address or everybody has too
    /// many under way, or for a text over its limit.
    pub async fn begin_device_login(
        &self,
        login: &DeviceLogin,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        fits(login)?;
        self.room_for(login, now).await?;
        let sql = "INSERT INTO device_logins
                   (code, user_code, client_id, scopes, audience, details, binding, ip, made,
                   expires, interval_s, polled, decision)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                   ON CONFLICT DO NOTHING";
        let values = bind![
            &login.code,
            &*login.user_code,
            &login.client,
            login.scopes.to_string(),
            login.audience.as_deref(),
            &*login.details,
            login.binding.as_deref(),
            &*login.ip,
            login.made,
            login.expires,
            login.interval_s,
            login.polled,
            PENDING,
        ];
        if self.execute(sql, values).await? == 0 {
            return Err(StoreFault::Taken("the device login"));
        }
        self.decide_device_login(&login.code, &login.decision, now).await.map(drop)
    }

    /// INVARIANT: whoever has not authenticated cannot fill the store.
    async fn room_for(&self, login: &DeviceLogin, now: Timestamp) -> Result<(), StoreFault> {
        let of_client = "SELECT count(*) AS n FROM device_logins
                         WHERE client_id = $1 AND expires > $2";
        let of_address = "SELECT count(*) AS n FROM device_logins WHERE ip = $1 AND expires > $2";
        let of_all = "SELECT count(*) AS n FROM device_logins WHERE expires > $1";
        for (sql, values, most, what) in [
            (
                of_address,
                bind![&*login.ip, now].as_slice(),
                MAX_PENDING_PER_ADDRESS,
                "device logins of an address",
            ),
            (
                of_client,
                bind![&login.client, now].as_slice(),
                MAX_PENDING_PER_CLIENT,
                "device logins of a client",
            ),
            (of_all, bind![now].as_slice(), MAX_PENDING, "device logins"),
        ] {
            let count = self.fetch_one(sql, values).await?;
            if count.ok_or(StoreFault::Missing("a count"))?.natural("n")? >= most as u64 {
                return Err(StoreFault::TooMuch(what));
            }
        }
        Ok(())
    }

    /// One that has not expired, by what the user typed.
    pub async fn device_login_of_user_code(
        &self,
        user_code: &str,
        now: Timestamp,
    ) -> Result<Option<DeviceLogin>, StoreFault> {
        let sql = select!("WHERE user_code = $1 AND expires > $2");
        self.fetch_one(sql, bind![user_code, now]).await?.as_ref().map(login).transpose()
    }

    /// One by its device code, expired or not (rows go an hour after they expire).
    pub async fn device_login(
        &self,
        code: &Digest<DeviceCode>,
    ) -> Result<Option<DeviceLogin>, StoreFault> {
        let sql = select!("WHERE code = $1");
        self.fetch_one(sql, bind![code]).await?.as_ref().map(login).transpose()
    }

    /// Notes a poll and the interval from now on; nothing happens to one that has gone.
    pub async fn note_device_poll(
        &self,
        code: &Digest<DeviceCode>,
        interval_s: i64,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let sql = "UPDATE device_logins SET interval_s = $2, polled = $3 WHERE code = $1";
        self.execute(sql, bind![code, interval_s, now]).await.map(drop)
    }

    /// Decides a pending one; `false` when it was decided or has expired.
    pub async fn decide_device_login(
        &self,
        code: &Digest<DeviceCode>,
        decision: &Decision,
        now: Timestamp,
    ) -> Result<bool, StoreFault> {
        let (decided, user, session, factors) = match decision {
            Decision::Pending => return Ok(false),
            Decision::Approved { user, session, factors } => {
                (APPROVED, Some(user), Some(session), *factors)
            }
            Decision::Denied => (DENIED, None, None, FactorTimes::default()),
        };
        let sql = "UPDATE device_logins
                   SET decision = $4, user_id = $5, session_id = $6, pwd = $7, otp = $8, hwk = $9
                   WHERE code = $1 AND decision = $3 AND expires > $2";
        let FactorTimes { pwd, otp, hwk } = factors;
        let values = bind![code, now, PENDING, decided, user, session, pwd, otp, hwk];
        Ok(self.execute(sql, values).await? == 1)
    }

    /// Takes an approved one, once: the row goes.
    pub async fn take_device_login(&self, code: &Digest<DeviceCode>) -> Result<bool, StoreFault> {
        let sql = "DELETE FROM device_logins WHERE code = $1 AND decision = $2";
        Ok(self.execute(sql, bind![code, APPROVED]).await? == 1)
    }
}

const PENDING: i64 = 1;
const APPROVED: i64 = 2;
const DENIED: i64 = 3;

fn fits(login: &DeviceLogin) -> Result<(), StoreFault> {
    bounded("a user code", &login.user_code, MAX_USER_CODE)?;
    bounded("an audience", login.audience.as_deref().unwrap_or_default(), MAX_AUDIENCE)?;
    bounded("authorization details", &login.details, MAX_DETAILS)?;
    bounded("a binding", login.binding.as_deref().unwrap_or_default(), MAX_BINDING)?;
    bounded("an address", &login.ip, MAX_LABEL)
}

fn login(row: &Row) -> Result<DeviceLogin, StoreFault> {
    Ok(DeviceLogin {
        code: Digest::from_stored(row.bytes("code")?),
        user_code: row.text("user_code")?.to_owned(),
        client: row.id("client_id")?,
        scopes: row.scopes()?,
        audience: row.text_if_any("audience")?.map(str::to_owned),
        details: row.text("details")?.to_owned(),
        binding: row.text_if_any("binding")?.map(str::to_owned),
        ip: row.text("ip")?.to_owned(),
        made: row.moment("made")?,
        expires: row.moment("expires")?,
        interval_s: row.integer("interval_s")?,
        polled: row.moment_if_any("polled")?,
        decision: match row.integer("decision")? {
            PENDING => Decision::Pending,
            APPROVED => Decision::Approved {
                user: row.id("user_id")?,
                session: row.id("session_id")?,
                factors: row.factors()?,
            },
            DENIED => Decision::Denied,
            _other => return Err(unreadable("decision")),
        },
    })
}

#[cfg(test)]
mod tests {
    use portcullis_core::bearer::Plain;
    use portcullis_core::entropy::SeededEntropy;

    use super::*;
    use crate::testing::{NOW, World, block_on, id, later, memory, on_threads, scopes, user};

    /// A login of ten minutes; its device code is minted from the seed.
    fn login(seed: u64) -> DeviceLogin {
        DeviceLogin {
            code: code(seed),
            user_code: format!("CODE{seed}"),
            client: id("tv"),
            scopes: scopes("openid payments.read"),
            audience: Some("https://localhost:8443".into()),
            details: String::new(),
            binding: None,
            ip: format!("address{seed}"),
            made: NOW,
            expires: later(600),
            interval_s: 5,
            polled: None,
            decision: Decision::Pending,
        }
    }

    fn code(seed: u64) -> Digest<DeviceCode> {
        Plain::mint(&SeededEntropy::new(seed)).digest()
    }

    fn approved() -> Decision {
        let factors = FactorTimes { pwd: Some(1), otp: Some(2), hwk: None };
        Decision::Approved { user: id("ada"), session: id("one"), factors }
    }

    fn same(one: &DeviceLogin, other: &DeviceLogin) -> bool {
        let rest = |login: &DeviceLogin| {
            let DeviceLogin { code: _, user_code, client, scopes, audience, details, .. } = login;
            let DeviceLogin { binding, ip, made, expires, interval_s, polled, decision, .. } =
                login;
            format!(
                "{user_code} {client} {scopes} {audience:?} {details} {binding:?} {ip} {made} \
                 {expires} {interval_s} {polled:?} {decision:?}"
            )
        };
        one.code.matches(&other.code) && rest(one) == rest(other)
    }

    async fn with_ada() -> World {
        let world = memory();
        world.transact(async |tx: &Tx| tx.add_user(&user("ada")).await).await;
        world
    }

    #[tokio::test]
    async fn a_login_comes_back_as_begun_by_either_code() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                let mut full = login(1);
                full.details = r#"[{"type":"payment"}]"#.into();
                full.binding = Some(r#"{"jkt":"x"}"#.into());
                (full.polled, full.decision) = (Some(later(3)), approved());
                let mut bare = login(2);
                (bare.audience, bare.scopes) = (None, scopes(""));
                for begun in [&full, &bare] {
                    tx.begin_device_login(begun, NOW).await?;
                    let by_code = tx.device_login(&begun.code).await?.expect("by its code");
                    assert!(same(&by_code, begun));
                    let typed = tx.device_login_of_user_code(&begun.user_code, NOW).await?;
                    assert!(same(&typed.expect("by what is typed"), begun));
                }
                assert!(tx.device_login(&code(9)).await?.is_none());
                for typed in ["", "code1", "CODE"] {
                    assert!(tx.device_login_of_user_code(typed, NOW).await?.is_none(), "{typed}");
                }
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn taken() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                tx.begin_device_login(&login(1), NOW).await?;
                let (mut same_code, mut same_user_code) = (login(2), login(3));
                same_code.code = code(1);
                same_user_code.user_code = "CODE1".into();
                for again in [same_code, same_user_code] {
                    let begun = tx.begin_device_login(&again, NOW).await;
                    assert!(matches!(begun, Err(StoreFault::Taken("the device login"))));
                }
                Ok(())
            })
            .await;
    }

    type Spoiler<'s> = &'s (dyn Fn(&mut DeviceLogin) + Sync);

    #[tokio::test]
    async fn too_much() {
        let long = |length: usize| "x".repeat(length + 1);
        let spoilers: [(Spoiler<'_>, &str); 5] = [
            (&|login| login.user_code = long(MAX_USER_CODE), "a user code"),
            (&|login| login.audience = Some(long(MAX_AUDIENCE)), "an audience"),
            (&|login| login.details = long(MAX_DETAILS), "authorization details"),
            (&|login| login.binding = Some(long(MAX_BINDING)), "a binding"),
            (&|login| login.ip = long(MAX_LABEL), "an address"),
        ];
        let world = with_ada().await;
        for (spoil, what) in spoilers {
            let mut spoilt = login(1);
            spoil(&mut spoilt);
            let work = async move |tx: &Tx| tx.begin_device_login(&spoilt, NOW).await;
            let begun = world.store.transact(work).await;
            assert!(matches!(begun, Err(StoreFault::TooMuch(found)) if found == what), "{what}");
        }
    }

    #[tokio::test]
    async fn an_address_a_client_and_everybody_have_a_limit_until_theirs_expire() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                let refused = async |login: &DeviceLogin, now| match tx
                    .begin_device_login(login, now)
                    .await
                {
                    Ok(()) => Ok(""),
                    Err(StoreFault::TooMuch(what)) => Ok(what),
                    Err(other) => Err(other),
                };
                let mut seed = 0;
                let mut next = |client: &str, ip: Option<&str>| {
                    seed += 1;
                    let mut login = login(seed);
                    login.client = id(client);
                    login.ip = ip.unwrap_or(&login.ip).to_owned();
                    login
                };
                for _ in 0..MAX_PENDING_PER_ADDRESS {
                    assert_eq!(refused(&next("tv", Some("::1")), NOW).await?, "");
                }
                let over = refused(&next("other", Some("::1")), later(599)).await?;
                assert_eq!(over, "device logins of an address");
                for _ in MAX_PENDING_PER_ADDRESS..MAX_PENDING_PER_CLIENT {
                    assert_eq!(refused(&next("tv", None), NOW).await?, "");
                }
                let over = refused(&next("tv", None), later(599)).await?;
                assert_eq!(over, "device logins of a client");
                // The rest by SQL for speed, but for the last.
                let sql = "WITH RECURSIVE n (i) AS
                           (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
                           INSERT INTO device_logins
                           (code, user_code, client_id, scopes, details, ip, made, expires,
                           interval_s, decision)
                           SELECT CAST(i AS BLOB), 'U' || i, 'c' || i, '', '', 'i' || i, $2, $3,
                           5, 1 FROM n";
                let rest = (MAX_PENDING - MAX_PENDING_PER_CLIENT) as i64 - 1;
                tx.execute(sql, bind![rest, NOW, later(600)]).await?;
                assert_eq!(refused(&next("last", None), NOW).await?, "");
                assert_eq!(refused(&next("more", None), later(599)).await?, "device logins");
                assert_eq!(refused(&next("tv", Some("::1")), later(600)).await?, "");
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_login_is_decided_once_and_before_it_expires() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                for seed in 1..=3 {
                    tx.begin_device_login(&login(seed), NOW).await?;
                }
                assert!(!tx.decide_device_login(&code(1), &Decision::Pending, later(1)).await?);
                assert!(tx.decide_device_login(&code(1), &approved(), later(1)).await?);
                assert!(!tx.decide_device_login(&code(1), &Decision::Denied, later(1)).await?);
                assert!(tx.decide_device_login(&code(2), &Decision::Denied, later(599)).await?);
                assert!(!tx.decide_device_login(&code(2), &approved(), later(599)).await?);
                assert!(!tx.decide_device_login(&code(3), &approved(), later(600)).await?, "late");
                assert!(!tx.decide_device_login(&code(9), &approved(), later(1)).await?, "none");
                for (seed, decision) in
                    [(1, approved()), (2, Decision::Denied), (3, Decision::Pending)]
                {
                    let found = tx.device_login(&code(seed)).await?.expect("there");
                    assert_eq!(found.decision, decision, "{seed}");
                }
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn only_what_was_approved_is_taken() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                for seed in 1..=3 {
                    tx.begin_device_login(&login(seed), NOW).await?;
                }
                tx.decide_device_login(&code(1), &approved(), later(1)).await?;
                tx.decide_device_login(&code(2), &Decision::Denied, later(1)).await?;
                for (seed, taken) in [(1, true), (1, false), (2, false), (3, false), (9, false)] {
                    assert_eq!(tx.take_device_login(&code(seed)).await?, taken, "{seed}");
                }
                assert!(tx.device_login(&code(1)).await?.is_none(), "it has gone");
                assert!(tx.device_login(&code(3)).await?.is_some());
                Ok(())
            })
            .await;
    }

    #[test]
    fn of_fifty_polls_at_once_one_takes_it() {
        let world = block_on(with_ada());
        block_on(world.transact(async |tx: &Tx| {
            tx.begin_device_login(&login(1), NOW).await?;
            tx.decide_device_login(&code(1), &approved(), later(1)).await
        }));
        let taken = on_threads(50, async |_| {
            world.transact(async |tx: &Tx| tx.take_device_login(&code(1)).await).await
        });
        assert_eq!(taken.into_iter().filter(|taken| *taken).count(), 1);
    }

    #[tokio::test]
    async fn a_poll_is_noted_with_its_interval() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                for seed in [1, 2] {
                    tx.begin_device_login(&login(seed), NOW).await?;
                }
                tx.note_device_poll(&code(1), 10, later(3)).await?;
                tx.note_device_poll(&code(9), 10, later(3)).await?;
                let polled = tx.device_login(&code(1)).await?.expect("there");
                assert_eq!((polled.interval_s, polled.polled), (10, Some(later(3))));
                let other = tx.device_login(&code(2)).await?.expect("there");
                assert_eq!((other.interval_s, other.polled), (5, None));
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn an_expired_login_is_known_by_its_code_for_an_hour() {
        let world = with_ada().await;
        world
            .transact(async |tx: &Tx| {
                tx.begin_device_login(&login(1), NOW).await?;
                assert!(tx.device_login_of_user_code("CODE1", later(599)).await?.is_some());
                assert!(tx.device_login_of_user_code("CODE1", later(600)).await?.is_none());
                assert_eq!(tx.forget_expired(later(600 + 3599)).await?, 0);
                assert!(tx.device_login(&code(1)).await?.is_some());
                assert_eq!(tx.forget_expired(later(600 + 3600)).await?, 1);
                assert!(tx.device_login(&code(1)).await?.is_none());
                Ok(())
            })
            .await;
    }
}
