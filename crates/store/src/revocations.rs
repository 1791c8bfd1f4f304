//! The append-only log of revocations (`4-identity`, "Revocation").
//!
//! By sequence, not by clock: the number is taken in the revoking transaction, a token carries
//! the number that its own transaction read first, and an entry kills it when that is smaller.

use std::time::Duration;

use portcullis_core::revocation::{Mark, Revocation, RevocationKind, mark};
use portcullis_core::time::Timestamp;

use crate::database::{StoreFault, Tx};
use crate::row::{Row, Value, bind, bounded, unreadable};

/// No token that the log must reach may live longer: an entry that the store writes by itself is
/// kept for this long. (Access tokens live 5 minutes by default.)
pub const LONGEST_TOKEN: Duration = Duration::from_secs(24 * 3600);

/// Longest value revoked: ids are shorter, a `jti` or `sub` of another issuer may not be.
pub const MAX_REVOKED: usize = 512;

/// Entries read at once when the store opens.
const PAGE: i64 = 5_000;

impl Tx {
    /// Revokes a thing: takes the next sequence number in this transaction, appends, and has the
    /// store publish it after the commit and before `transact` returns. `expires`: when no token
    /// that it could kill is alive any more. Returns the sequence.
    ///
    /// # Errors
    /// [`StoreFault::TooMuch`] for a value over 512 bytes.
    pub async fn revoke(
        &self,
        kind: RevocationKind,
        value: &str,
        expires: Timestamp,
    ) -> Result<u64, StoreFault> {
        bounded("a revoked value", value, MAX_REVOKED)?;
        // INVARIANT: the number comes from the transaction that revokes. Writers stand in one
        // line, so whoever mints has either read a smaller one (and dies), or sees what was ended.
        let next = "UPDATE meta SET rev = rev + 1 RETURNING rev";
        let row = self.fetch_one(next, bind![]).await?.ok_or(StoreFault::Missing("meta"))?;
        let entry = Revocation { seq: row.natural("rev")?, kind, mark: mark(kind, value), expires };
        let sql = "INSERT INTO revocations (seq, kind, mark, expires) VALUES ($1, $2, $3, $4)";
        let seq = row.integer("rev")?;
        self.execute(sql, bind![seq, kind as u8 as i64, &entry.mark.0[..], expires]).await?;
        let seq = entry.seq;
        self.publish_later(entry);
        Ok(seq)
    }
}

/// A page of the entries whose tokens may still be alive, in their order.
pub(crate) fn in_force(
    fetch: impl FnOnce(&'static str, &[Value]) -> Result<Vec<Row>, StoreFault>,
    after: u64,
    now: Timestamp,
) -> Result<Vec<Revocation>, StoreFault> {
    let after = i64::try_from(after).map_err(|_| unreadable("seq"))?;
    let sql = "SELECT seq, kind, mark, expires FROM revocations
               WHERE seq > $1 AND expires > $2 ORDER BY seq LIMIT $3";
    fetch(sql, bind![after, now, PAGE])?.iter().map(entry).collect()
}

fn entry(row: &Row) -> Result<Revocation, StoreFault> {
    Ok(Revocation {
        seq: row.natural("seq")?,
        kind: kind(row.integer("kind")?)?,
        mark: Mark(row.bytes("mark")?),
        expires: row.moment("expires")?,
    })
}

fn kind(stored: i64) -> Result<RevocationKind, StoreFault> {
    use RevocationKind::{All, Client, Grant, Group, Key, Session, Subject, Token};
    [Token, Grant, Session, Subject, Client, Group, Key, All]
        .into_iter()
        .find(|kind| *kind as u8 as i64 == stored)
        // Refusing to start beats forgetting a revocation that a newer version wrote.
        .ok_or_else(|| unreadable("kind"))
}

#[cfg(test)]
mod tests {
    use portcullis_core::entropy::{Entropy, SeededEntropy};

    use super::*;
    use crate::testing::{block_on, id, later, memory, on_threads, session, user};

    #[tokio::test]
    async fn in_force_before_the_revoking_call_returns() {
        let world = memory();
        for n in 1..=20u64 {
            let name = format!("t_{n}");
            let value = name.clone();
            let seq = world
                .transact(async move |tx: &Tx| {
                    tx.revoke(RevocationKind::Token, &value, later(60)).await
                })
                .await;
            assert_eq!(seq, n);
            assert!(world.kills_at(seq - 1, RevocationKind::Token, &name));
            assert!(!world.kills_at(seq, RevocationKind::Token, &name));
            assert!(!world.kills(RevocationKind::Grant, &name), "another kind");
        }
    }

    #[tokio::test]
    async fn too_much() {
        let world = memory();
        let long = "x".repeat(MAX_REVOKED + 1);
        let answer = world
            .store
            .transact(async move |tx: &Tx| tx.revoke(RevocationKind::Token, &long, later(60)).await)
            .await;
        assert!(matches!(answer, Err(StoreFault::TooMuch("a revoked value"))));
    }

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        for number in 1..=8 {
            assert_eq!(kind(number).expect("a kind") as u8 as i64, number);
        }
        assert!(kind(0).is_err() && kind(9).is_err());
    }

    /// Any order of issuing and revoking: a token dies exactly by entries behind its number.
    #[tokio::test]
    async fn an_entry_kills_exactly_what_was_issued_before_it() {
        const THINGS: [&str; 3] = ["s_a", "s_b", "s_c"];
        for seed in 0..40 {
            let world = memory();
            let mut bytes = [0u8; 60];
            SeededEntropy::new(seed).fill(&mut bytes);
            let (mut tokens, mut entries) = (Vec::new(), Vec::new());
            for byte in bytes {
                let thing = THINGS[usize::from(byte >> 1) % THINGS.len()];
                if byte & 1 == 0 {
                    let rev = world.transact(async |tx: &Tx| tx.revision().await).await;
                    tokens.push((rev, thing));
                } else {
                    let seq = world
                        .transact(async move |tx: &Tx| {
                            tx.revoke(RevocationKind::Session, thing, later(60)).await
                        })
                        .await;
                    entries.push((seq, thing));
                }
                for (rev, thing) in &tokens {
                    let dead = entries.iter().any(|(seq, killed)| killed == thing && rev < seq);
                    let killed = world.kills_at(*rev, RevocationKind::Session, thing);
                    assert_eq!(killed, dead, "seed {seed}, rev {rev}, {thing}, {entries:?}");
                }
            }
        }
    }

    /// Issuing and ending at the same time, on threads: no token of an ended session stays alive.
    #[test]
    fn no_token_slips_past_the_end_of_its_session() {
        let mut found = 0;
        for seed in 0..15 {
            let world = memory();
            block_on(world.transact(async move |tx: &Tx| {
                tx.add_user(&user("ada")).await?;
                tx.add_session(&session("one", "ada", seed)).await
            }));
            let issued = on_threads(16, async |number| {
                if number == 8 {
                    let end = async |tx: &Tx| tx.end_session(&id("one"), later(1)).await;
                    world.transact(end).await;
                    return None;
                }
                let issue = async |tx: &Tx| {
                    let rev = tx.revision().await?;
                    let active = tx.active_session(&id("one"), later(1)).await?;
                    Ok(active.map(|_| rev))
                };
                world.transact(issue).await
            });
            for rev in issued.into_iter().flatten() {
                found += 1;
                assert!(world.kills_at(rev, RevocationKind::Session, "s_one"), "seed {seed}");
            }
        }
        assert!(found > 0, "no thread was ever first");
    }
}
