//! The generic cell rate algorithm (ITU-T I.371, annex A) in integers that cannot drift.
//!
//! N requests per period P mean an interval of P/N, which is rarely whole: 7/min is 8.571428… s.
//! So time is counted per rate in *units* of P/(N·K), with K = ⌊P/N⌋ in microseconds: an interval is
//! exactly K units, a period exactly N·K, whatever N. A unit is 1 to 2 µs long, so the clock is read
//! to that precision (rounded down) and nothing else is ever rounded.
//!
//! Rates share a table, so its slots hold microseconds. Units turn into them by rounding up and
//! back by rounding down, and because a unit is at least 1 µs long, ⌊⌈j·x⌉/x⌋ = j: nothing is lost.
//!
//! A caller that steps evenly, and whose moments were themselves rounded, comes up to two units too
//! early now and then; refusing it would cost it a whole step. So two units of slack are given where
//! an interval has more than two. They are lent, not given away: the TAT moves on by K as ever.
//!
//! What follows, for any moments: never more than N + B in any period (N·K + B·K + 2 units hold no
//! further K), never an idle bucket that refuses, and never a pass more than 4 µs before an ideal
//! clock's.

use std::time::Duration;

use super::{Charge, Rate};
use crate::time::Timestamp;

/// Longest time for a bucket to fill, in microseconds: a quarter of the table's window of times.
/// A rate built by hand that goes beyond is cut, which is too strict only.
pub(super) const MAX_FILL_US: u64 = 1 << 45;

/// A rate, ready for arithmetic.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    period_us: u64,
    /// N·K: units in a period; at most `period_us`.
    units: u64,
    /// K: units in an interval; at least 1.
    interval: u64,
    /// B·K: units that may be outstanding.
    depth: u64,
    /// Units that an even step may come early.
    slack: u64,
}

impl Pace {
    pub(super) fn of(rate: &Rate) -> Self {
        let period_us = u64::try_from(rate.period.as_micros()).unwrap_or(u64::MAX);
        let period_us = period_us.clamp(1, MAX_FILL_US);
        // INVARIANT: count ≤ period, so that a unit is at least 1 µs and the conversion is exact.
        let count = u64::from(rate.count).clamp(1, period_us);
        let interval = period_us / count;
        let units = interval * count;
        let deepest = mul_div(MAX_FILL_US, units, period_us).max(interval);
        let depth = interval.saturating_mul(u64::from(rate.burst.max(1))).min(deepest);
        // INVARIANT: slack < interval, so that it never adds up to one more request.
        let slack = if interval > 3 { 2 } else { 0 };
        Pace { period_us, units, interval, depth, slack }
    }

    /// Judges `cost` requests at `now` against a theoretical arrival time in microseconds. Gives
    /// the new one when they pass.
    pub(super) fn judge(&self, tat_us: u64, cost: u32, now: Timestamp) -> (Charge, Option<u64>) {
        let now_units = self.units_at(micros(now));
        let tat = self.units_at(tat_us).max(now_units);
        let outstanding = tat - now_units;
        let asked = self.interval.saturating_mul(u64::from(cost));
        let wait = |units: u64| until(self.time_of(units), now);
        let limit = self.depth + self.slack;
        if asked <= self.depth && outstanding.saturating_add(asked) <= limit {
            let next = tat + asked;
            let charge = Charge {
                allowed: true,
                remaining: self.whole(limit - outstanding - asked),
                reset: wait(next),
                retry_after: Duration::ZERO,
            };
            return (charge, Some(self.time_of(next)));
        }
        let reset = wait(tat);
        // More than the whole burst at once never passes; a full bucket is the best there is.
        let retry_after = match tat.saturating_add(asked).checked_sub(self.depth) {
            Some(units) if asked <= self.depth => wait(units),
            _ => reset,
        };
        let remaining = self.whole(limit.saturating_sub(outstanding));
        (Charge { allowed: false, remaining, reset, retry_after }, None)
    }

    /// The theoretical arrival time after `cost` requests were taken back.
    pub(super) fn taken_back(&self, tat_us: u64, cost: u32, now: Timestamp) -> u64 {
        let given = self.interval.saturating_mul(u64::from(cost));
        let floor = self.units_at(micros(now));
        self.time_of(self.units_at(tat_us).saturating_sub(given).max(floor))
    }

    fn whole(&self, units: u64) -> u32 {
        u32::try_from(units / self.interval).unwrap_or(u32::MAX)
    }

    /// Units gone by at a time: ⌊at · units / period⌋.
    fn units_at(&self, at_us: u64) -> u64 {
        let periods = at_us / self.period_us;
        periods * self.units + mul_div(at_us % self.period_us, self.units, self.period_us)
    }

    /// The first microsecond at which that many units have gone by: ⌈units · period / units⌉.
    fn time_of(&self, units: u64) -> u64 {
        let periods = units / self.units;
        let rest = units % self.units;
        let down = mul_div(rest, self.period_us, self.units);
        // One step up when the division left a rest.
        let up = u64::from(mul_div(down, self.units, self.period_us) < rest);
        periods * self.period_us + down + up
    }
}

/// Whole microseconds since the epoch; before it there are none.
pub(super) fn micros(now: Timestamp) -> u64 {
    u64::try_from(now.nanos()).unwrap_or(0) / 1_000
}

fn until(at_us: u64, now: Timestamp) -> Duration {
    let now_ns = u64::try_from(now.nanos()).unwrap_or(0);
    Duration::from_nanos(at_us.saturating_mul(1_000).saturating_sub(now_ns))
}

/// a · b / c, rounded down; the 128-bit division only where it is needed (periods over 71 minutes).
fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    match a.checked_mul(b) {
        Some(product) => product / c,
        None => {
            let quotient = u128::from(a) * u128::from(b) / u128::from(c);
            u64::try_from(quotient).unwrap_or(u64::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Per;
    use proptest::prelude::*;

    fn rate(count: u32, period: Duration, burst: u32) -> Rate {
        Rate { count, period, burst, per: Per::Ip }
    }

    /// Passes over a period, tried every `step`, after the burst is spent at `start`.
    fn passes(rate: &Rate, start: Timestamp, step: Duration) -> u32 {
        let pace = Pace::of(rate);
        let mut tat = 0;
        while let (_, Some(next)) = pace.judge(tat, 1, start) {
            tat = next;
        }
        let mut passed = 0;
        let mut now = start.after(step);
        while now <= start.after(rate.period) {
            if let (_, Some(next)) = pace.judge(tat, 1, now) {
                tat = next;
                passed += 1;
            }
            now = now.after(step);
        }
        passed
    }

    #[test]
    fn exactly_n_more_over_a_period_whatever_n() {
        let minute = Duration::from_secs(60);
        for count in [1, 2, 3, 7, 9, 11, 13, 59, 61, 97, 120, 997] {
            for start_ns in [0, 1, 1_800_000_000_123_456_789] {
                let start = Timestamp::from_nanos(start_ns);
                for burst in [2, 5] {
                    let rate = rate(count, minute, burst);
                    assert_eq!(passes(&rate, start, Duration::from_millis(10)), count);
                }
            }
        }
    }

    proptest! {
        /// With a burst of one there is no credit for coming late: the steps are the intervals,
        /// rounded to nanoseconds as any caller would.
        #[test]
        fn a_caller_at_exactly_the_pace_is_never_refused(
            count in 1u32..10_000, seconds in prop_oneof![Just(1u64), Just(60), Just(3600)],
            start in 0i64..4_000_000_000_000_000_000, up in 0u64..2,
        ) {
            let rate = rate(count, Duration::from_secs(seconds), 1);
            let pace = Pace::of(&rate);
            let start = Timestamp::from_nanos(start);
            let mut tat = pace.judge(0, 1, start).1.unwrap();
            prop_assert!(pace.judge(tat, 1, start).1.is_none());
            for step in 1..=count.min(200) {
                let exact = rate.period.as_nanos() * u128::from(step) / u128::from(count);
                let now = start.after(Duration::from_nanos(exact as u64 + up));
                let next = pace.judge(tat, 1, now).1;
                prop_assert!(next.is_some(), "refused at step {}", step);
                tat = next.unwrap();
                prop_assert!(pace.judge(tat, 1, now).1.is_none(), "two at step {}", step);
            }
        }

        /// N + B in any period, also for a caller that uses every bit of slack.
        #[test]
        fn greed_gets_n_and_b_in_a_period_and_no_more(
            count in 1u32..3_000, burst in 1u32..9, start in 0i64..4_000_000_000_000_000_000,
            step_us in 1_000u64..400_000,
        ) {
            let rate = rate(count, Duration::from_secs(1), burst);
            let pace = Pace::of(&rate);
            let start = Timestamp::from_nanos(start);
            let (mut tat, mut passed, mut now) = (0, 0, start);
            while now < start.after(rate.period) {
                while let Some(next) = pace.judge(tat, 1, now).1 {
                    tat = next;
                    passed += 1;
                }
                now = now.after(Duration::from_micros(step_us));
            }
            prop_assert!(passed <= count + burst, "{} > {} + {}", passed, count, burst);
        }
    }

    #[test]
    fn seven_a_minute_does_not_drift_in_a_year() {
        let rate = rate(7, Duration::from_secs(60), 1);
        let pace = Pace::of(&rate);
        let start = Timestamp::from_unix(1_800_000_000);
        let mut tat = micros(start);
        for _ in 0..7 * 60 * 24 * 365 {
            let (charge, next) = pace.judge(tat, 1, Timestamp::from_nanos(tat as i64 * 1_000));
            assert!(charge.allowed);
            tat = next.unwrap();
        }
        assert_eq!(tat - micros(start), 365 * 86_400 * 1_000_000);
    }

    #[test]
    fn an_absurd_rate_is_cut_not_wrapped() {
        for rate in [
            rate(0, Duration::ZERO, 0),
            rate(u32::MAX, Duration::ZERO, u32::MAX),
            rate(u32::MAX, Duration::MAX, u32::MAX),
            rate(1, Duration::MAX, u32::MAX),
            rate(u32::MAX, Duration::from_millis(1), 1),
        ] {
            let pace = Pace::of(&rate);
            let now = Timestamp::from_nanos(i64::MAX);
            assert!(pace.judge(0, 1, now).0.allowed, "{rate:?}");
            assert!(!pace.judge(u64::MAX / 2, u32::MAX, now).0.allowed, "{rate:?}");
        }
    }

    #[test]
    fn more_than_the_burst_never_passes() {
        let pace = Pace::of(&rate(60, Duration::from_secs(60), 5));
        let now = Timestamp::from_unix(1_000);
        let (charge, next) = pace.judge(0, 6, now);
        assert!(!charge.allowed && next.is_none());
        assert_eq!((charge.remaining, charge.retry_after), (5, Duration::ZERO));
        assert!(pace.judge(0, 5, now).0.allowed);
    }

    proptest! {
        #[test]
        fn units_and_microseconds_convert_without_loss(
            count in 1u32..100_000, period_us in 100_000u64..10_000_000_000, at in 0u64..1 << 52,
        ) {
            let pace = Pace::of(&rate(count, Duration::from_micros(period_us), 1));
            let units = pace.units_at(at);
            let time = pace.time_of(units);
            prop_assert!(time <= at);
            prop_assert_eq!(pace.units_at(time), units);
            prop_assert!(time == 0 || pace.units_at(time - 1) < units, "the first such moment");
        }

        #[test]
        fn the_wait_is_exact(
            count in 1u32..2_000, burst in 1u32..50, spent in 1u32..100,
            start in 0i64..4_000_000_000_000_000_000, later_ms in 0u64..5_000,
        ) {
            let pace = Pace::of(&rate(count, Duration::from_secs(60), burst));
            let start = Timestamp::from_nanos(start);
            let mut tat = 0;
            for _ in 0..spent {
                tat = pace.judge(tat, 1, start).1.unwrap_or(tat);
            }
            let now = start.after(Duration::from_millis(later_ms));
            let (charge, next) = pace.judge(tat, 1, now);
            if charge.allowed {
                prop_assert_eq!(charge.retry_after, Duration::ZERO);
                tat = next.unwrap();
            } else {
                let then = now.after(charge.retry_after);
                prop_assert!(pace.judge(tat, 1, then).0.allowed);
                // Two units of slack, rounded.
                let just_before = then.before(Duration::from_micros(4));
                prop_assert!(!pace.judge(tat, 1, just_before).0.allowed);
            }
            let full = now.after(charge.reset);
            prop_assert_eq!(pace.judge(tat, 1, full).0.remaining, burst - 1);
        }

        /// Against exact rational arithmetic over nanoseconds: never stricter, and early by less
        /// than 4 µs.
        #[test]
        fn the_ideal_bucket_is_matched(
            count in 1u32..5_000, burst in 1u32..20,
            steps_us in proptest::collection::vec(0u64..200_000, 1..300),
        ) {
            let rate = rate(count, Duration::from_secs(1), burst);
            let pace = Pace::of(&rate);
            // Ideal times in 1/count ns, so that an interval is exactly 10^9 of them.
            let interval = 1_000_000_000i128;
            let (mut tat, mut ideal) = (0, 0i128);
            let mut now = Timestamp::from_unix(1_800_000_000);
            for step in steps_us {
                now = now.after(Duration::from_micros(step));
                let at = i128::from(now.nanos()) * i128::from(count);
                let filled = ideal.max(at) + interval - at;
                let over = filled - interval * i128::from(burst);
                let allowed = pace.judge(tat, 1, now).1;
                if over <= 0 {
                    prop_assert!(allowed.is_some(), "refused what the ideal lets pass");
                }
                if let Some(next) = allowed {
                    prop_assert!(over < 4_000 * i128::from(count), "more than 4 µs early");
                    tat = next;
                    ideal = ideal.max(at) + interval;
                }
            }
        }
    }
}
