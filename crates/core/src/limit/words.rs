//! The words of a limit: `120/min per user, burst 30`.
//!
//! A fault says where, what and what to write instead, because an operator reads it in a terminal
//! with a caret under the word. Words that are designed but not built say so, so that nobody
//! believes in a quota that does not count.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::{Limit, Per, Rate};

/// Longest words of a limit, in bytes.
pub const MAX_LIMIT_BYTES: usize = 256;
/// Most rates in a limit: each is a charge on every request.
pub const MAX_RATES: usize = 4;
/// Longest time in which a spent burst comes back: beyond it, a quota is meant.
const MAX_REFILL: Duration = Duration::from_secs(30 * 86_400);

const UNITS: [(&str, u64); 3] = [("s", 1), ("min", 60), ("h", 3600)];
const UNIT_ALIASES: [(&str, &str); 10] = [
    ("sec", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("m", "min"),
    ("mins", "min"),
    ("minute", "min"),
    ("minutes", "min"),
    ("hr", "h"),
    ("hour", "h"),
    ("hours", "h"),
];
const CALENDAR_UNITS: [&str; 6] = ["d", "day", "days", "month", "months", "week"];
const SUBJECTS: [(&str, Per); 5] = [
    ("ip", Per::Ip),
    ("prefix", Per::Prefix),
    ("client", Per::Client),
    ("user", Per::User),
    ("caller", Per::Caller),
];
const SUBJECTS_REMEDY: &str =
    "write `per ip`, `per prefix`, `per client`, `per user` or `per caller`";

/// Why a limit's words cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct LimitMalformed {
    /// Byte range within the words.
    pub at: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Per {
    /// The word that follows `per`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Per::Ip => "ip",
            Per::Prefix => "prefix",
            Per::Client => "client",
            Per::User => "user",
            Per::Caller => "caller",
        })
    }
}

impl fmt::Display for Rate {
    /// The words that are read as this rate: `120/min per user, burst 30`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.period.as_secs();
        match UNITS.iter().find(|(_, unit)| *unit == seconds) {
            Some((unit, _)) => write!(f, "{}/{unit}", self.count)?,
            // Only built by hand, never read from words.
            None => write!(f, "{} in {seconds}s", self.count)?,
        }
        write!(f, " per {}, burst {}", self.per, self.burst)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, rate) in self.rates.iter().enumerate() {
            write!(f, "{}{rate}", if position > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

pub(super) fn parse(words: &str) -> Result<Limit, LimitMalformed> {
    if words.len() > MAX_LIMIT_BYTES {
        return fault(
            0..words.len(),
            format!("a limit of more than {MAX_LIMIT_BYTES} bytes"),
            "write fewer rates",
        );
    }
    let mut limit = Limit::default();
    let mut burst_written = false;
    let mut start = 0;
    for item in words.split(',') {
        let tokens = tokens(item, start);
        let place = start..start + item.len();
        start = place.end + 1;
        match tokens.split_first() {
            None => return empty_item(words, place),
            Some((first, rest)) if first.text.starts_with(|c: char| c.is_ascii_digit()) => {
                limit.rates.push(rate(first, rest)?);
                burst_written = false;
            }
            Some((first, rest)) if first.text == "burst" => {
                match limit.rates.last_mut() {
                    Some(rate) if !burst_written => rate.burst = burst(first, rest, rate)?,
                    Some(_) => {
                        return fault(first.place(), "a second `burst` for one rate", "remove one");
                    }
                    None => return burst_without_rate(first),
                }
                burst_written = true;
            }
            Some((first, _)) => return Err(unknown_item(&tokens, first)),
        }
        if limit.rates.len() > MAX_RATES {
            return fault(place, format!("more than {MAX_RATES} rates"), "remove one");
        }
    }
    Ok(limit)
}

/// A word with its place within the whole.
#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    start: usize,
}

impl Token<'_> {
    fn place(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }
}

fn tokens(item: &str, start: usize) -> Vec<Token<'_>> {
    let mut at = 0;
    let mut out = Vec::new();
    for text in item.split(' ') {
        if !text.is_empty() {
            out.push(Token { text, start: start + at });
        }
        at += text.len() + 1;
    }
    out
}

/// `N/unit per WHO`.
fn rate(first: &Token<'_>, rest: &[Token<'_>]) -> Result<Rate, LimitMalformed> {
    let Some((number, unit)) = first.text.split_once('/') else {
        return fault(
            first.place(),
            format!("`{}` has no period", first.text),
            format!("write `{}/s`, `{}/min` or `{}/h`", first.text, first.text, first.text),
        );
    };
    let period = period(Token { text: unit, start: first.start + number.len() + 1 })?;
    let count = count(Token { text: number, start: first.start })?;
    if u128::from(count) > period.as_micros() {
        return fault(
            first.place(),
            format!("`{}` is more than one in a microsecond", first.text),
            "write a smaller number",
        );
    }
    let per = subject(first, rest)?;
    Ok(Rate { count, period, burst: count.div_ceil(10), per })
}

fn period(unit: Token<'_>) -> Result<Duration, LimitMalformed> {
    if let Some((_, seconds)) = UNITS.iter().find(|(name, _)| *name == unit.text) {
        return Ok(Duration::from_secs(*seconds));
    }
    if CALENDAR_UNITS.contains(&unit.text) {
        return fault(
            unit.place(),
            format!("quotas per `/{}` are not built yet", unit.text),
            "write `/s`, `/min` or `/h`",
        );
    }
    let alias = UNIT_ALIASES.iter().find(|(name, _)| *name == unit.text.to_lowercase());
    let remedy = match alias {
        Some((_, name)) => format!("did you mean `/{name}`"),
        None => "write `/s`, `/min` or `/h`".to_owned(),
    };
    fault(unit.place(), format!("`{}` is not a unit of time", unit.text), remedy)
}

fn count(number: Token<'_>) -> Result<u32, LimitMalformed> {
    let digits = !number.text.is_empty() && number.text.bytes().all(|byte| byte.is_ascii_digit());
    match number.text.parse() {
        Ok(count @ 1u32..) if digits => Ok(count),
        Ok(_) if digits => fault(
            number.place(),
            "a limit of zero lets nobody pass",
            "write at least 1, or `allow = \"nobody\"` on the line",
        ),
        Err(_) if digits => fault(
            number.place(),
            format!("`{}` is too large", number.text),
            format!("write at most {}", u32::MAX),
        ),
        _ => fault(
            number.place(),
            format!("`{}` is not a whole number", number.text),
            "write digits alone, as in `120/min`",
        ),
    }
}

fn subject(first: &Token<'_>, rest: &[Token<'_>]) -> Result<Per, LimitMalformed> {
    let (who, after) = match rest {
        [] => {
            return fault(
                first.place(),
                format!("`{}` does not say whose requests are counted", first.text),
                SUBJECTS_REMEDY,
            );
        }
        [per] if per.text == "per" => {
            return fault(per.place(), "nothing follows `per`", SUBJECTS_REMEDY);
        }
        [per, who, after @ ..] if per.text == "per" => (who, after),
        [other, ..] => {
            return fault(
                other.place(),
                format!("`{}` cannot follow a rate", other.text),
                SUBJECTS_REMEDY,
            );
        }
    };
    if let Some(extra) = after.first() {
        return fault(
            extra.place(),
            format!("`{}` cannot follow `per {}`", extra.text, who.text),
            "write a comma between the parts of a limit",
        );
    }
    if let Some((_, per)) = SUBJECTS.iter().find(|(name, _)| *name == who.text) {
        return Ok(*per);
    }
    if who.text == "tenant" {
        return fault(who.place(), "limits `per tenant` are not built yet", SUBJECTS_REMEDY);
    }
    let remedy = match nearest(who.text, SUBJECTS.iter().map(|(name, _)| *name)) {
        Some(name) => format!("did you mean `per {name}`"),
        None => SUBJECTS_REMEDY.to_owned(),
    };
    fault(who.place(), format!("`{}` is nobody whose requests can be counted", who.text), remedy)
}

fn burst(word: &Token<'_>, rest: &[Token<'_>], rate: &Rate) -> Result<u32, LimitMalformed> {
    let number = match rest {
        [number] => number,
        [_, extra, ..] => {
            return fault(
                extra.place(),
                format!("`{}` cannot follow a burst", extra.text),
                "write a comma between the parts of a limit",
            );
        }
        [] => {
            let remedy = "write a number, as in `burst 30`";
            return fault(word.place(), "nothing follows `burst`", remedy);
        }
    };
    let burst = count(*number)?;
    if rate.period.saturating_mul(burst) / rate.count > MAX_REFILL {
        return fault(
            word.start..number.place().end,
            format!("a burst of {burst} would need more than 30 days to come back"),
            "write a smaller burst",
        );
    }
    Ok(burst)
}

fn empty_item(words: &str, place: Range<usize>) -> Result<Limit, LimitMalformed> {
    if words.trim().is_empty() {
        return fault(0..words.len(), "an empty limit", "write a rate, as in `120/min per user`");
    }
    // The comma beside the gap is what has to go.
    let comma = place.start.saturating_sub(1);
    fault(comma..comma + 1, "nothing stands beside the comma", "remove the comma")
}

fn burst_without_rate(first: &Token<'_>) -> Result<Limit, LimitMalformed> {
    let remedy = "write the rate first, as in `120/min per user, burst 30`";
    fault(first.place(), "`burst` before any rate", remedy)
}

fn unknown_item(tokens: &[Token<'_>], first: &Token<'_>) -> LimitMalformed {
    let last = tokens.last().unwrap_or(first);
    let whole = first.start..last.place().end;
    let unbuilt = |message: &str| LimitMalformed {
        at: whole.clone(),
        message: format!("{message} not built yet"),
        remedy: "remove it; only rates and bursts count today".to_owned(),
    };
    match first.text {
        "cluster-wide" => return unbuilt("`cluster-wide` limits are"),
        "at" => return unbuilt("limits on requests at once (`at most N at once`) are"),
        "cost" => return unbuilt("`cost` is"),
        _ => {}
    }
    let remedy = match nearest(first.text, ["burst", "cluster-wide", "cost", "at"].into_iter()) {
        Some(word) => format!("did you mean `{word}`"),
        None => "write a rate, as in `120/min per user, burst 30`".to_owned(),
    };
    LimitMalformed {
        at: first.place(),
        message: format!("`{}` is not a word of a limit", first.text),
        remedy,
    }
}

fn fault<T>(
    at: Range<usize>,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Result<T, LimitMalformed> {
    Err(LimitMalformed { at, message: message.into(), remedy: remedy.into() })
}

/// The known word at most two edits away (Levenshtein), but never one that is all edits.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= 2 && *edits < candidate.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(other.chars()) {
            let next = (diagonal + usize::from(a != b)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = next;
            left = next;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
