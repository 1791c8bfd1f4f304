//! One time type, and time as an argument.
//!
//! Every rule that depends on time takes a [`Timestamp`]; whoever must ask for one takes a
//! [`Clock`]. Nothing here reads the machine's clock, and nothing here knows a time zone: text is
//! UTC on the way out, and an offset is applied on the way in.

use std::fmt;
use std::time::Duration;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// A moment: nanoseconds since the Unix epoch (until the year 2262).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Timestamp(nanos)
    }

    /// From whole seconds since the epoch (a JWT's `NumericDate`, RFC 7519 §2), saturating.
    pub const fn from_unix(seconds: i64) -> Self {
        Timestamp(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn unix(self) -> i64 {
        self.0.div_euclid(NANOS_PER_SECOND)
    }

    /// Later by a duration, saturating.
    pub fn after(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Earlier by a duration, saturating.
    pub fn before(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// How long since `earlier`; zero when `earlier` lies ahead.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads `2027-03-31` (midnight UTC) or a full RFC 3339 moment.
    ///
    /// A leap second (`:60`) and a moment that [`Timestamp`] cannot hold are `None`: neither can be
    /// given back as it came.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = Digits(text.as_bytes());
        let (year, month, day) = rest.date()?;
        let midnight = days_from_civil(year, month, day)?.checked_mul(SECONDS_PER_DAY)?;
        if rest.0.is_empty() {
            return from_parts(midnight, 0);
        }
        // RFC 3339 §5.6: `T` and `Z` may be lower case; a space for `T` is only a reading aid there.
        rest.one_of(b"Tt")?;
        let of_day = rest.time_of_day()?;
        let nanos = rest.fraction()?;
        let offset = rest.offset()?;
        if !rest.0.is_empty() {
            return None;
        }
        from_parts(midnight.checked_add(of_day)?.checked_sub(offset)?, nanos)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds: `2026-11-24T22:37:23.120Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.unix();
        let millis = self.0.rem_euclid(NANOS_PER_SECOND) / 1_000_000;
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// A clock that a test moves by hand.
#[derive(Default)]
pub struct FrozenClock(std::sync::atomic::AtomicI64);

impl FrozenClock {
    /// Stands still at a moment.
    pub fn at(now: Timestamp) -> Self {
        FrozenClock(now.nanos().into())
    }

    /// Stands at another moment, earlier or later: what a corrected clock does.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.nanos(), std::sync::atomic::Ordering::SeqCst);
    }

    /// Moves forward.
    pub fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.0.fetch_add(nanos, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for FrozenClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

/// Why a duration's words cannot be read; says what can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: write a whole number and `ms`, `s`, `m`, `h` or `d`, as in `5m`")]
pub struct DurationMalformed;

/// Longest duration that words can say: 100 years, so that no sum with a moment can overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Reads a duration in words: `250ms`, `5s`, `5m`, `1h`, `30d`.
///
/// # Errors
/// [`DurationMalformed`] for anything else, fractions, signs, white space and more than
/// [`MAX_DURATION`].
pub fn duration(words: &str) -> Result<Duration, DurationMalformed> {
    let digits = words.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = words.split_at_checked(digits).ok_or(DurationMalformed)?;
    let number: u64 = number.parse().map_err(|_| DurationMalformed)?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(DurationMalformed),
    };
    let total = number.checked_mul(unit_ms).map(Duration::from_millis).ok_or(DurationMalformed)?;
    if total > MAX_DURATION { Err(DurationMalformed) } else { Ok(total) }
}

fn from_parts(seconds: i64, nanos: i64) -> Option<Timestamp> {
    seconds.checked_mul(NANOS_PER_SECOND)?.checked_add(nanos).map(Timestamp)
}

/// What is left to read of an RFC 3339 text.
struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    fn number(&mut self, width: usize) -> Option<i64> {
        let (head, tail) = self.0.split_at_checked(width)?;
        let mut value = 0;
        for byte in head {
            value = value * 10 + i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        }
        self.0 = tail;
        Some(value)
    }

    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let (first, tail) = self.0.split_first()?;
        self.0 = tail;
        wanted.contains(first).then_some(*first)
    }

    fn date(&mut self) -> Option<(i64, i64, i64)> {
        let year = self.number(4)?;
        self.one_of(b"-")?;
        let month = self.number(2)?;
        self.one_of(b"-")?;
        Some((year, month, self.number(2)?))
    }

    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.number(2)?;
        self.one_of(b":")?;
        let minute = self.number(2)?;
        self.one_of(b":")?;
        let second = self.number(2)?;
        (hour < 24 && minute < 60 && second < 60).then_some(hour * 3600 + minute * 60 + second)
    }

    /// `.123` of one to nine digits, as nanoseconds; nothing is zero.
    fn fraction(&mut self) -> Option<i64> {
        let Some(b'.') = self.0.first() else { return Some(0) };
        self.one_of(b".")?;
        let width = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let scale = 9u32.checked_sub(u32::try_from(width).ok()?)?;
        if width == 0 {
            return None;
        }
        Some(self.number(width)? * 10i64.pow(scale))
    }

    /// `Z`, `+01:00` or `-08:00`, as seconds ahead of UTC.
    fn offset(&mut self) -> Option<i64> {
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hour = self.number(2)?;
        self.one_of(b":")?;
        let minute = self.number(2)?;
        (hour < 24 && minute < 60).then_some(sign * (hour * 3600 + minute * 60))
    }
}

/// Days since 1970-01-01 of a day of the Gregorian calendar; `None` for a day that it has not.
/// (Howard Hinnant, "chrono-compatible low-level date algorithms": years begin in March, so that
/// the leap day is the last.)
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) {
        return None;
    }
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    // A day past its month's end would come back as a day of the next month.
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_are_read() {
        for (text, seconds, nanos) in [
            ("1970-01-01", 0, 0),
            ("2027-03-31", 1_806_451_200, 0),
            ("2026-11-24T22:37:23.120Z", 1_795_559_843, 120_000_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800, 0),
            ("2000-02-29", 951_782_400, 0),
            ("2026-11-24t23:37:23+01:00", 1_795_559_843, 0),
            ("2026-11-24T14:07:23.000000001-08:30", 1_795_559_843, 1),
            ("1969-12-31T23:59:59.5z", -1, 500_000_000),
        ] {
            let expected = Timestamp::from_nanos(seconds * NANOS_PER_SECOND + nanos);
            assert_eq!(Timestamp::parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2027",
            "2027-3-31",
            "2027-02-29",
            "1900-02-29",
            "2027-13-01",
            "2027-00-01",
            "2027-01-00",
            "2027-04-31",
            "2027-03-31T",
            "2027-03-31 00:00:00Z",
            "2027-03-31T00:00:00",
            "2027-03-31T24:00:00Z",
            "2027-03-31T00:60:00Z",
            "2016-12-31T23:59:60Z",
            "2027-03-31T00:00:00.Z",
            "2027-03-31T00:00:00.1234567890Z",
            "2027-03-31T00:00:00+1:00",
            "2027-03-31T00:00:00Zx",
            "2263-01-01",
            "0000-01-01",
            "+027-03-31",
            "２０２７-03-31",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (words, millis) in
            [("250ms", 250), ("0s", 0), ("5s", 5_000), ("5m", 300_000), ("1h", 3_600_000)]
        {
            assert_eq!(duration(words), Ok(Duration::from_millis(millis)), "{words}");
        }
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for words in [
            "",
            "5",
            "m",
            "-5m",
            "+5m",
            "5 m",
            "5M",
            "1.5h",
            "5min",
            "99999999999999999999s",
            "99999d",
        ] {
            assert_eq!(duration(words), Err(DurationMalformed), "{words}");
        }
    }

    #[test]
    fn sums_saturate() {
        let last = Timestamp::from_nanos(i64::MAX);
        assert_eq!(last.after(Duration::MAX), last);
        assert_eq!(Timestamp::from_unix(i64::MAX), last);
        assert_eq!(Timestamp::from_unix(5).since(Timestamp::from_unix(9)), Duration::ZERO);
        assert_eq!(Timestamp::from_unix(9).since(Timestamp::from_unix(5)), Duration::from_secs(4));
    }

    #[test]
    fn a_frozen_clock_moves_only_by_hand() {
        let clock = FrozenClock::at(Timestamp::from_unix(7));
        assert_eq!(clock.now(), clock.now());
        clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.now(), Timestamp::from_nanos(8_500_000_000));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos in any::<i64>()) {
            let moment = Timestamp::from_nanos(nanos);
            // Text carries milliseconds, rounded down; the very first ones lie before the range.
            let expected = nanos.div_euclid(1_000_000).checked_mul(1_000_000);
            prop_assert_eq!(Timestamp::parse(&moment.to_string()).map(Timestamp::nanos), expected);
        }

        #[test]
        fn every_day_is_its_own(days in -200_000i64..200_000) {
            let (year, month, day) = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month, day), Some(days));
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,40}") {
            let _ = Timestamp::parse(&text);
            let _ = duration(&text);
        }
    }
}
