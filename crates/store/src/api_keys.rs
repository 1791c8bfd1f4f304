//! API keys of service clients (`client key add`): what the gateway knows of each live one.

use std::time::Duration;

use portcullis_core::id::{self, Id};
use portcullis_core::revocation::RevocationKind;
use portcullis_core::scope::Scopes;
use portcullis_core::time::Timestamp;

use crate::database::{StoreFault, Tx};
use crate::row::{MAX_LABEL, Row, bind, bounded, json};
use crate::sessions::MAX_LISTED;

/// An API key at rest. The key itself is a MAC of its id, so nothing secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// Its id.
    pub id: Id<id::ApiKey>,
    /// Whose.
    pub client: Id<id::Client>,
    /// A subset of the client's scopes.
    pub scopes: Scopes,
    /// Networks that it may come from (CIDR texts); empty: any.
    pub from: Vec<String>,
    /// When it was made.
    pub made: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// Revoked, and when.
    pub revoked: Option<Timestamp>,
    /// Its last use, to the minute.
    pub used: Option<Timestamp>,
}

/// Most live keys of an installation: all of them stand in each gateway's memory.
pub const MAX_API_KEYS: usize = 100_000;
/// Most live keys of one client: two, so that one can take over from the other.
pub const MAX_KEYS_PER_CLIENT: usize = 2;
/// Longest life of a key: a year, and a day for whoever counts in leap years.
pub const MAX_KEY_LIFE: Duration = Duration::from_secs(366 * 86_400);
/// Most networks that one key names.
pub const MAX_NETWORKS: usize = 32;
/// Most uses noted at once: some tens of milliseconds of the writer.
pub const MAX_NOTED: usize = 10_000;

/// Keys read at once when all live ones are.
const PAGE: usize = 5_000;

impl Tx {
    /// Adds a key.
    ///
    /// # Errors
    /// `Taken` when the id is; `TooMuch` when the client has two live ones, or the installation
    /// 100,000, or it lives over a year or names over 32 networks; `Missing` when the store knows
    /// its client as disabled.
    pub async fn add_api_key(&self, key: &ApiKeyRecord, now: Timestamp) -> Result<(), StoreFault> {
        fits(key, now)?;
        let sql = "SELECT 1 FROM clients WHERE id = $1 AND disabled IS NOT NULL";
        if self.fetch_one(sql, bind![&key.client]).await?.is_some() {
            return Err(StoreFault::Missing("a client that is not disabled"));
        }
        let of_client = "SELECT count(*) AS n FROM api_keys
                         WHERE client_id = $1 AND revoked IS NULL AND expires > $2";
        let live = self.fetch_one(of_client, bind![&key.client, now]).await?;
        if live.ok_or(StoreFault::Missing("a count"))?.natural("n")? >= MAX_KEYS_PER_CLIENT as u64 {
            return Err(StoreFault::TooMuch("live API keys of a client"));
        }
        let of_all = "SELECT count(*) AS n FROM api_keys WHERE revoked IS NULL AND expires > $1";
        let live = self.fetch_one(of_all, bind![now]).await?;
        if live.ok_or(StoreFault::Missing("a count"))?.natural("n")? >= MAX_API_KEYS as u64 {
            return Err(StoreFault::TooMuch("live API keys"));
        }
        let sql = "INSERT INTO api_keys
                   (id, client_id, scopes, networks, made, expires, revoked, used)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
        let values = bind![
            &key.id,
            &key.client,
            key.scopes.to_string(),
            json(&key.from)?,
            key.made,
            key.expires,
            key.revoked,
            key.used,
        ];
        match self.execute(sql, values).await? {
            0 => Err(StoreFault::Taken("the API key")),
            _ => Ok(()),
        }
    }

    /// A client's keys, live or not, the newest first, at most 200.
    pub async fn api_keys_of(
        &self,
        client: &Id<id::Client>,
    ) -> Result<Vec<ApiKeyRecord>, StoreFault> {
        let sql = "SELECT id, client_id, scopes, networks, made, expires, revoked, used
                   FROM api_keys WHERE client_id = $1 ORDER BY made DESC, id LIMIT $2";
        self.fetch(sql, bind![client, MAX_LISTED as i64]).await?.iter().map(key).collect()
    }

    /// A key, live or not.
    pub async fn api_key(&self, id: &Id<id::ApiKey>) -> Result<Option<ApiKeyRecord>, StoreFault> {
        let sql = "SELECT id, client_id, scopes, networks, made, expires, revoked, used
                   FROM api_keys WHERE id = $1";
        self.fetch_one(sql, bind![id]).await?.as_ref().map(key).transpose()
    }

    /// All live keys, by id: not revoked, not expired.
    pub async fn live_api_keys(&self, now: Timestamp) -> Result<Vec<ApiKeyRecord>, StoreFault> {
        let sql = "SELECT id, client_id, scopes, networks, made, expires, revoked, used
                   FROM api_keys WHERE id > $1 AND revoked IS NULL AND expires > $2
                   ORDER BY id LIMIT $3";
        let mut live: Vec<ApiKeyRecord> = Vec::new();
        loop {
            let after = live.last().map_or("", |key| key.id.as_str());
            let page = self.fetch(sql, bind![after, now, PAGE as i64]).await?;
            for row in &page {
                live.push(key(row)?);
            }
            if page.len() < PAGE {
                return Ok(live);
            }
        }
    }

    /// Revokes a key: writes a `Token` revocation of its id, so that it is dead at the gateway
    /// before `transact` returns. `false` when there is no such live key.
    pub async fn revoke_api_key(
        &self,
        id: &Id<id::ApiKey>,
        now: Timestamp,
    ) -> Result<bool, StoreFault> {
        let sql = "UPDATE api_keys SET revoked = $2
                   WHERE id = $1 AND revoked IS NULL AND expires > $2 RETURNING id, expires";
        let revoked = self.fetch(sql, bind![id, now]).await?;
        self.kill(&revoked).await?;
        Ok(!revoked.is_empty())
    }

    /// Revokes all live keys of a client.
    pub(crate) async fn revoke_api_keys_of(
        &self,
        client: &Id<id::Client>,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        // At most two: see `add_api_key`.
        let sql = "UPDATE api_keys SET revoked = $2
                   WHERE client_id = $1 AND revoked IS NULL AND expires > $2 RETURNING id, expires";
        let revoked = self.fetch(sql, bind![client, now]).await?;
        self.kill(&revoked).await
    }

    /// Notes when keys were used last, to the minute, never back; at most 10,000 at once.
    ///
    /// # Errors
    /// `TooMuch` for more.
    pub async fn note_api_key_uses(
        &self,
        uses: &[(Id<id::ApiKey>, Timestamp)],
    ) -> Result<(), StoreFault> {
        if uses.len() > MAX_NOTED {
            return Err(StoreFault::TooMuch("uses of API keys"));
        }
        let sql = "UPDATE api_keys SET used = $2 WHERE id = $1 AND (used IS NULL OR used < $2)";
        for (id, moment) in uses {
            let minute = Timestamp::from_unix(moment.unix().div_euclid(60).saturating_mul(60));
            self.execute(sql, bind![id, minute]).await?;
        }
        Ok(())
    }

    /// The revocation outlives no key: one that expired by itself is refused by its row's date.
    async fn kill(&self, rows: &[Row]) -> Result<(), StoreFault> {
        for row in rows {
            let expires = row.moment("expires")?;
            self.revoke(RevocationKind::Token, row.text("id")?, expires).await?;
        }
        Ok(())
    }
}

fn fits(key: &ApiKeyRecord, now: Timestamp) -> Result<(), StoreFault> {
    if key.expires > now.after(MAX_KEY_LIFE) {
        return Err(StoreFault::TooMuch("an API key's life"));
    }
    if key.from.len() > MAX_NETWORKS {
        return Err(StoreFault::TooMuch("an API key's networks"));
    }
    key.from.iter().try_for_each(|network| bounded("a network", network, MAX_LABEL))
}

fn key(row: &Row) -> Result<ApiKeyRecord, StoreFault> {
    Ok(ApiKeyRecord {
        id: row.id("id")?,
        client: row.id("client_id")?,
        scopes: row.scopes()?,
        from: row.json("networks")?,
        made: row.moment("made")?,
        expires: row.moment("expires")?,
        revoked: row.moment_if_any("revoked")?,
        used: row.moment_if_any("used")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::StoredClient;
    use crate::testing::{NOW, id, later, memory, scopes};

    const DAY: u64 = 86_400;

    fn key(name: &str, client: &str) -> ApiKeyRecord {
        ApiKeyRecord {
            id: id(name),
            client: id(client),
            scopes: scopes("payments.settle"),
            from: vec!["10.0.0.0/8".into(), "2001:db8::/32".into()],
            made: NOW,
            expires: later(90 * DAY),
            revoked: None,
            used: None,
        }
    }

    #[tokio::test]
    async fn a_key_comes_back_as_added_and_lives_until_its_date() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                let first = key("a", "ledger");
                let mut second = key("b", "ledger");
                (second.made, second.from) = (later(5), Vec::new());
                second.expires = later(60);
                for key in [&first, &second] {
                    tx.add_api_key(key, NOW).await?;
                    assert_eq!(tx.api_key(&key.id).await?.as_ref(), Some(key));
                }
                assert_eq!(tx.api_key(&id("none")).await?, None);
                let listed = tx.api_keys_of(&id("ledger")).await?;
                assert_eq!(listed, [second.clone(), first.clone()], "the newest first");
                assert!(tx.api_keys_of(&id("other")).await?.is_empty());
                assert_eq!(tx.live_api_keys(later(59)).await?, [first.clone(), second]);
                assert_eq!(tx.live_api_keys(later(60)).await?, [first], "expired");
                assert!(tx.live_api_keys(later(90 * DAY)).await?.is_empty());
                assert_eq!(tx.api_keys_of(&id("ledger")).await?.len(), 2, "still listed");
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn taken() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_api_key(&key("a", "ledger"), NOW).await?;
                let again = tx.add_api_key(&key("a", "other"), NOW).await;
                assert!(matches!(again, Err(StoreFault::Taken("the API key"))));
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_client_has_at_most_two_live_keys() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                let mut short = key("a", "ledger");
                short.expires = later(60);
                tx.add_api_key(&short, NOW).await?;
                tx.add_api_key(&key("b", "ledger"), NOW).await?;
                let full = async |name: &str, now| {
                    let added = tx.add_api_key(&key(name, "ledger"), now).await;
                    matches!(added, Err(StoreFault::TooMuch("live API keys of a client")))
                };
                assert!(full("c", later(59)).await);
                tx.add_api_key(&key("other", "bank"), NOW).await?;
                assert!(!full("c", later(60)).await, "one has expired");
                assert!(full("d", later(60)).await);
                assert!(tx.revoke_api_key(&id("b"), later(61)).await?);
                assert!(!full("d", later(61)).await, "one is revoked");
                Ok(())
            })
            .await;
    }

    type Spoiler<'s> = &'s (dyn Fn(&mut ApiKeyRecord) + Sync);

    #[tokio::test]
    async fn too_much() {
        let spoilers: [(Spoiler<'_>, &str); 3] = [
            (&|key| key.expires = later(366 * DAY + 1), "an API key's life"),
            (&|key| key.from = vec!["::/0".into(); MAX_NETWORKS + 1], "an API key's networks"),
            (&|key| key.from = vec!["x".repeat(MAX_LABEL + 1)], "a network"),
        ];
        let world = memory();
        for (spoil, what) in spoilers {
            let mut long = key("a", "ledger");
            spoil(&mut long);
            let work = async move |tx: &Tx| tx.add_api_key(&long, NOW).await;
            let added = world.store.transact(work).await;
            assert!(matches!(added, Err(StoreFault::TooMuch(found)) if found == what), "{what}");
        }
        let uses = vec![(id("a"), NOW); MAX_NOTED + 1];
        let work = async move |tx: &Tx| tx.note_api_key_uses(&uses).await;
        let noted = world.store.transact(work).await;
        assert!(matches!(noted, Err(StoreFault::TooMuch("uses of API keys"))));
    }

    /// More than one statement hands out; and the limit of all, reached by SQL for speed.
    #[tokio::test]
    async fn all_live_keys_are_read_however_many_and_there_is_a_limit() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                let sql = "WITH RECURSIVE n (i) AS
                           (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
                           INSERT INTO api_keys
                           (id, client_id, scopes, networks, made, expires, revoked, used)
                           SELECT 'k_' || i, 'c' || i, 'a', '[]', $2, $3, NULL, NULL FROM n";
                tx.execute(sql, bind![MAX_API_KEYS as i64 - 1, NOW, later(60)]).await?;
                tx.add_api_key(&key("last", "ledger"), NOW).await?;
                let live = tx.live_api_keys(NOW).await?;
                assert_eq!(live.len(), MAX_API_KEYS);
                assert!(live.is_sorted_by(|one, next| one.id < next.id), "each once");
                let added = tx.add_api_key(&key("more", "bank"), NOW).await;
                assert!(matches!(added, Err(StoreFault::TooMuch("live API keys"))));
                tx.add_api_key(&key("more", "bank"), later(60)).await
            })
            .await;
    }

    #[tokio::test]
    async fn a_revoked_key_is_dead_at_once_and_once() {
        let world = memory();
        let answers = world
            .transact(async |tx: &Tx| {
                tx.add_api_key(&key("a", "ledger"), NOW).await?;
                let mut short = key("b", "ledger");
                short.expires = later(60);
                tx.add_api_key(&short, NOW).await?;
                let mut answers = Vec::new();
                for (name, seconds) in [("a", 1), ("a", 2), ("b", 60), ("none", 1)] {
                    answers.push(tx.revoke_api_key(&id(name), later(seconds)).await?);
                }
                assert!(tx.live_api_keys(later(61)).await?.is_empty());
                let dead = tx.api_key(&id("a")).await?.expect("kept");
                assert_eq!(dead.revoked, Some(later(1)));
                assert_eq!(tx.revision().await?, 1);
                Ok(answers)
            })
            .await;
        assert_eq!(answers, [true, false, false, false]);
        assert!(world.kills(RevocationKind::Token, "k_a"));
        assert!(!world.kills(RevocationKind::Token, "k_b"));
        // The entry is kept as long as the key would have lived, not as long as a token.
        world.advance(89 * DAY);
        world.transact(async |tx: &Tx| tx.forget_expired(later(89 * DAY)).await).await;
        assert!(world.kills(RevocationKind::Token, "k_a"));
    }

    #[tokio::test]
    async fn a_disabled_client_gets_no_key_and_keeps_none() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_client(&StoredClient::new(id("ledger"), "{}".into()), NOW).await?;
                tx.add_api_key(&key("a", "ledger"), NOW).await?;
                tx.add_api_key(&key("other", "bank"), NOW).await?;
                tx.disable_client(&id("ledger"), later(1)).await?;
                let live = tx.live_api_keys(later(1)).await?;
                assert_eq!(live.len(), 1);
                assert_eq!(live[0].client, id("bank"));
                let added = tx.add_api_key(&key("b", "ledger"), later(1)).await;
                let missing = "a client that is not disabled";
                assert!(matches!(added, Err(StoreFault::Missing(what)) if what == missing));
                Ok(())
            })
            .await;
        assert!(world.kills(RevocationKind::Token, "k_a"));
        assert!(!world.kills(RevocationKind::Token, "k_other"));
    }

    #[tokio::test]
    async fn uses_are_noted_to_the_minute_and_never_back() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                tx.add_api_key(&key("a", "ledger"), NOW).await?;
                for (seconds, minute) in [(61, 60), (119, 60), (120, 120), (5, 120)] {
                    let uses = [(id("a"), later(seconds)), (id("none"), later(seconds))];
                    tx.note_api_key_uses(&uses).await?;
                    let used = tx.api_key(&id("a")).await?.expect("there").used;
                    assert_eq!(used, Some(later(minute)), "{seconds}");
                }
                Ok(())
            })
            .await;
    }

    #[tokio::test]
    async fn a_dead_key_is_listed_for_ninety_days() {
        let world = memory();
        world
            .transact(async |tx: &Tx| {
                let mut expiring = key("expired", "ledger");
                expiring.expires = later(DAY);
                tx.add_api_key(&expiring, NOW).await?;
                let mut long = key("revoked", "ledger");
                long.expires = later(365 * DAY);
                tx.add_api_key(&long, NOW).await?;
                tx.revoke_api_key(&id("revoked"), later(2 * DAY)).await?;
                let mut living = key("living", "bank");
                living.expires = later(365 * DAY);
                tx.add_api_key(&living, NOW).await?;
                for (seconds, left) in [(91 * DAY - 1, 2), (91 * DAY, 1), (92 * DAY - 1, 1)] {
                    tx.forget_expired(later(seconds)).await?;
                    let listed = tx.api_keys_of(&id("ledger")).await?;
                    assert_eq!(listed.len(), left, "{seconds}");
                }
                tx.forget_expired(later(92 * DAY)).await?;
                assert!(tx.api_keys_of(&id("ledger")).await?.is_empty());
                assert_eq!(tx.api_keys_of(&id("bank")).await?.len(), 1);
                Ok(())
            })
            .await;
    }
}
