//! A family of refresh tokens: one counter, and what presenting a number does to it. Pure.
//!
//! The newest number handed out stands in the row. Presenting it moves on to the next; presenting
//! the one before, for a moment, hands out the same next one again (two tabs, a lost answer);
//! anything older is proof that two hold the family.

use std::time::Duration;

use portcullis_core::client::RefreshLife;
use portcullis_core::time::Timestamp;
use portcullis_store::grants::{Family, GrantRecord};

/// How long the predecessor is still answered, where tokens are bearers'.
pub(super) const GRACE_BEARER: Duration = Duration::from_secs(10);
/// The same where the key or certificate must be shown too: a thief has less to gain.
pub(super) const GRACE_BOUND: Duration = Duration::from_secs(60);
/// Generations running whose predecessor came again: no accident any more.
const MAX_GRACES: u32 = 3;
/// A fixed token's use is written down at most this often.
const SEEN_STEP: Duration = Duration::from_secs(60);

/// Whether refresh tokens change.
#[derive(Clone, Copy)]
pub(super) enum Rotation {
    /// Never.
    Fixed,
    /// At each use.
    EachUse {
        /// For how long the predecessor hands out the same successor.
        grace: Duration,
    },
}

/// What presenting a number comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The family goes on so; its counter is the token to hand out.
    On(Family),
    /// The grant ends; the rule broken.
    Over(&'static str),
}

/// Presents number `n` of a grant's family.
pub(super) fn step(grant: &GrantRecord, n: u64, rotation: Rotation, now: Timestamp) -> Step {
    let family = &grant.family;
    match rotation {
        Rotation::Fixed if n >= family.counter => Step::On(Family {
            // Above the row: an older backup came back. Whoever holds the number got it from us.
            counter: n,
            seen: if now >= family.seen.after(SEEN_STEP) { now } else { family.seen },
            ..family.clone()
        }),
        Rotation::EachUse { .. } if n >= family.counter => Step::On(moved(family, n, now)),
        Rotation::EachUse { grace } if n.saturating_add(1) == family.counter => {
            // INVARIANT: the successor is unused, or the counter would have moved past it.
            match family.moved {
                Some(moved) if now <= moved.after(grace) => graced(family, now),
                Some(_) | None => Step::Over("RefreshReused"),
            }
        }
        // RFC 9700 §4.14.2: a token that was replaced came back.
        Rotation::Fixed | Rotation::EachUse { .. } => Step::Over("RefreshReused"),
    }
}

/// From `n`, at or above the row, to its successor.
fn moved(family: &Family, n: u64, now: Timestamp) -> Family {
    let graces = Graces::read(family.graces);
    Family {
        counter: n.saturating_add(1),
        moved: Some(now),
        graces: graces.next_generation().written(),
        seen: now,
        ..family.clone()
    }
}

/// The predecessor again: the same successor, counted once in a generation.
fn graced(family: &Family, now: Timestamp) -> Step {
    let graces = Graces::read(family.graces).graced();
    if graces.running >= MAX_GRACES {
        // A thief that rides the grace of every refresh is found by the third.
        return Step::Over("RefreshGraceRidden");
    }
    Step::On(Family { graces: graces.written(), seen: now, ..family.clone() })
}

/// Why a family is over by itself: too long unused, or too old. The limits are those that the
/// client has now, where they are tighter.
pub(super) fn lapsed(
    life: RefreshLife,
    grant: &GrantRecord,
    now: Timestamp,
) -> Option<&'static str> {
    let family = &grant.family;
    if now >= family.expires || now >= grant.made.after(life.max) {
        return Some("RefreshExpired");
    }
    (now >= family.seen.after(life.idle)).then_some("RefreshIdle")
}

/// Generations running in which the grace was used, and whether this generation is one of them.
/// The row keeps both in one number: twice the count, and one more when it is.
struct Graces {
    running: u32,
    here: bool,
}

impl Graces {
    fn read(stored: u32) -> Self {
        Graces { running: stored / 2, here: stored % 2 == 1 }
    }

    fn written(&self) -> u32 {
        self.running.saturating_mul(2).saturating_add(u32::from(self.here))
    }

    fn graced(self) -> Self {
        let more = u32::from(!self.here);
        Graces { running: self.running.saturating_add(more), here: true }
    }

    /// A generation without a grace breaks the row.
    fn next_generation(self) -> Self {
        Graces { running: if self.here { self.running } else { 0 }, here: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NOW;
    use crate::token::testing::grant;

    const BEARER: Rotation = Rotation::EachUse { grace: GRACE_BEARER };
    const BOUND: Rotation = Rotation::EachUse { grace: GRACE_BOUND };

    fn later(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    /// A family at `counter`, moved there at NOW.
    fn at(counter: u64) -> GrantRecord {
        let mut grant = grant("a");
        grant.family = Family { counter, moved: Some(NOW), ..grant.family };
        grant
    }

    /// `n` presented: the counter that follows, or the rule broken.
    fn presented(
        grant: &mut GrantRecord,
        n: u64,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<u64, &'static str> {
        match step(grant, n, rotation, now) {
            Step::On(family) => {
                grant.family = family;
                Ok(grant.family.counter)
            }
            Step::Over(rule) => Err(rule),
        }
    }

    #[test]
    fn what_each_number_comes_to() {
        let reused = Err("RefreshReused");
        for (rotation, n, seconds, expected) in [
            (BEARER, 5, 0, Ok(6)),
            (BEARER, 5, 3_000, Ok(6)),
            (BEARER, 4, 0, Ok(5)),
            (BEARER, 4, 10, Ok(5)),
            (BEARER, 4, 11, reused),
            (BOUND, 4, 11, Ok(5)),
            (BOUND, 4, 60, Ok(5)),
            (BOUND, 4, 61, reused),
            (BEARER, 3, 0, reused),
            (BEARER, 0, 0, reused),
            (BOUND, 1, 0, reused),
            // Above the row: a backup came back.
            (BEARER, 6, 0, Ok(7)),
            (BEARER, 9, 9_000, Ok(10)),
            (Rotation::Fixed, 5, 0, Ok(5)),
            (Rotation::Fixed, 5, 9_000, Ok(5)),
            (Rotation::Fixed, 8, 0, Ok(8)),
            (Rotation::Fixed, 4, 0, reused),
        ] {
            let came = presented(&mut at(5), n, rotation, later(seconds));
            assert_eq!(came, expected, "{n} after {seconds}");
        }
    }

    #[test]
    fn before_the_first_move_there_is_no_predecessor() {
        let mut first = grant("a");
        first.family.counter = 1;
        assert_eq!(presented(&mut first, 0, BEARER, NOW), Err("RefreshReused"));
        assert_eq!(presented(&mut first, 1, BEARER, NOW), Ok(2));
    }

    #[test]
    fn the_grace_of_three_generations_running_ends_it() {
        let mut family = at(5);
        for generation in 5..7 {
            // However often within one generation, it counts once.
            for _ in 0..20 {
                assert_eq!(presented(&mut family, generation - 1, BEARER, NOW), Ok(generation));
            }
            assert_eq!(presented(&mut family, generation, BEARER, NOW), Ok(generation + 1));
        }
        assert_eq!(presented(&mut family, 6, BEARER, NOW), Err("RefreshGraceRidden"));
    }

    #[test]
    fn a_generation_without_a_grace_starts_the_count_again() {
        let mut family = at(5);
        for generation in 5..50 {
            if generation % 3 != 0 {
                assert_eq!(presented(&mut family, generation - 1, BEARER, NOW), Ok(generation));
            }
            assert_eq!(presented(&mut family, generation, BEARER, NOW), Ok(generation + 1));
        }
    }

    #[test]
    fn a_family_lapses_by_idleness_and_by_age_at_the_tighter_limit() {
        let hours = |count: u64| Duration::from_secs(3_600 * count);
        let life = |idle, max| RefreshLife { idle: hours(idle), max: hours(max) };
        let mut grant = at(1);
        grant.family.expires = NOW.after(hours(12));
        grant.family.seen = NOW.after(hours(5));
        let just = Duration::from_nanos(1);
        for (life, now, expected) in [
            (life(1, 12), NOW.after(hours(6)).before(just), None),
            (life(1, 12), NOW.after(hours(6)), Some("RefreshIdle")),
            (life(9, 12), NOW.after(hours(12)).before(just), None),
            (life(9, 12), NOW.after(hours(12)), Some("RefreshExpired")),
            // A longer life given to the client later is not the grant's; a shorter one is.
            (life(90, 900), NOW.after(hours(12)), Some("RefreshExpired")),
            (life(9, 6), NOW.after(hours(6)), Some("RefreshExpired")),
        ] {
            assert_eq!(lapsed(life, &grant, now), expected, "{life:?}");
        }
    }

    #[test]
    fn a_fixed_token_is_written_down_once_a_minute() {
        let mut family = at(1);
        family.family.seen = NOW;
        for (seconds, written) in [(1, false), (59, false), (60, true), (61, false), (120, true)] {
            let before = family.family.clone();
            assert_eq!(presented(&mut family, 1, Rotation::Fixed, later(seconds)), Ok(1));
            assert_eq!(family.family != before, written, "{seconds}");
        }
    }
}
