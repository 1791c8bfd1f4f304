//! What a client is told: `RateLimit-Policy`, `RateLimit`, `Retry-After`.
//!
//! After draft-ietf-httpapi-ratelimit-headers-10, as structured fields (RFC 9651): a string that
//! names the policy, with parameters. Which of several charges is told is the caller's choice (the
//! draft wants the one with the least remaining).

use std::time::Duration;

use super::{Charge, Rate};

/// Longest policy name in a field, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// The `RateLimit-Policy` and `RateLimit` fields (draft-ietf-httpapi-ratelimit-headers-10) of a
/// charge. Returns (policy, limit), e.g. (`"normal";q=30;w=15`, `"normal";r=29;t=1`).
///
/// A policy is the burst (`q`) and the time in which a spent burst comes back (`w`): the two that
/// a client can plan with. `t` is the time until the bucket is full, but when nothing remains, the
/// time until one more passes: the draft (§4) wants the same moment as `Retry-After`.
pub fn fields(name: &str, rate: &Rate, charge: &Charge) -> (String, String) {
    (policy_field(name, rate), limit_field(name, rate, charge))
}

/// `RateLimit-Policy` alone: it changes with the rules only, so a gateway keeps it.
pub fn policy_field(name: &str, rate: &Rate) -> String {
    let name = policy_name(name);
    let (count, burst) = (rate.count.max(1), rate.burst.max(1));
    let window = rate.period.saturating_mul(burst) / count;
    format!("\"{name}\";q={burst};w={}", seconds_up(window).max(1))
}

/// `RateLimit` alone, see [`fields`].
pub fn limit_field(name: &str, rate: &Rate, charge: &Charge) -> String {
    let name = policy_name(name);
    let (count, burst) = (rate.count.max(1), rate.burst.max(1));
    let wait = match (charge.allowed, charge.remaining) {
        (false, _) => charge.retry_after,
        (true, 0) => charge.reset.saturating_sub(rate.period.saturating_mul(burst - 1) / count),
        (true, _) => charge.reset,
    };
    let remaining = if charge.allowed { charge.remaining } else { 0 };
    format!("\"{name}\";r={remaining};t={}", seconds_up(wait))
}

/// Whole seconds, rounded up (RFC 9110 §10.2.3 delay-seconds has no fractions, and a client that
/// comes back too early is refused again).
pub(super) fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// A name fit for a structured field's string (RFC 9651 §3.3.3: printable ASCII, with `"` and `\`
/// escaped); what is not becomes `_`.
fn policy_name(name: &str) -> String {
    let fit = |c: char| (c == ' ' || c.is_ascii_graphic()) && c != '"' && c != '\\';
    name.chars().take(MAX_NAME_BYTES).map(|c| if fit(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Limit, Table};
    use crate::time::Timestamp;

    #[test]
    fn a_burst_is_told_as_it_runs_out() {
        let limit = Limit::parse("120/min per user, burst 30").unwrap();
        let rate = &limit.rates[0];
        let table = Table::new(8);
        let now = Timestamp::from_unix(1_800_000_000);
        let told = |at| fields("normal", rate, &table.charge(7, rate, 1, at));
        assert_eq!(told(now), ("\"normal\";q=30;w=15".into(), "\"normal\";r=29;t=1".into()));
        for _ in 0..28 {
            told(now);
        }
        assert_eq!(told(now).1, "\"normal\";r=0;t=1", "one more passes in half a second");
        assert_eq!(told(now).1, "\"normal\";r=0;t=1");
    }

    #[test]
    fn retry_after_is_rounded_up_and_long_enough() {
        for (words, expected) in [
            ("1/s per ip", 1),
            ("7/min per ip, burst 1", 9),
            ("1/min per ip", 60),
            ("30/h per ip, burst 1", 120),
            ("1000/s per ip, burst 1", 1),
        ] {
            let limit = Limit::parse(words).unwrap();
            let rate = &limit.rates[0];
            let table = Table::new(8);
            let now = Timestamp::from_nanos(1_800_000_000_000_000_001);
            while table.charge(7, rate, 1, now).allowed {}
            let refused = table.charge(7, rate, 1, now);
            assert_eq!(refused.retry_after_seconds(), expected, "{words}");
            let later = now.after(Duration::from_secs(expected));
            assert!(table.charge(7, rate, 1, later).allowed, "{words}");
            let t = fields("x", rate, &refused).1;
            assert_eq!(t, format!("\"x\";r=0;t={expected}"), "the same moment as Retry-After");
        }
    }

    #[test]
    fn an_allowed_charge_waits_for_nothing() {
        let limit = Limit::parse("60/min per ip").unwrap();
        let charge = Table::new(8).charge(1, &limit.rates[0], 1, Timestamp::from_unix(9));
        assert_eq!(charge.retry_after_seconds(), 0);
    }

    #[test]
    fn a_name_never_breaks_the_field() {
        for (name, expected) in
            [("normal", "normal"), ("a\"b\\c", "a_b_c"), ("a\r\nb", "a__b"), ("é", "_")]
        {
            assert_eq!(policy_name(name), expected);
        }
        assert_eq!(policy_name(&"x".repeat(500)).len(), MAX_NAME_BYTES);
    }
}
