//! Logs of decisions, read line by line for `replay` and `suggest`: JSON as `serve` writes it to
//! standard output. Memory does not grow with the log; a line that is no record is counted, told and
//! skipped, since a log that was cut or mixed must not hide the rest.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use portcullis_core::time::Timestamp;
use portcullis_policy::replay::Decision;
use serde_json::{Value, json};

use super::report::counted;
use crate::config::{self, Config, Purpose, Rejected};

/// Longest line, in bytes: a record has less than 16 KiB.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Lines that are no record, told with their number.
const MAX_TOLD: usize = 3;

/// What was read so far.
#[derive(Default)]
pub(crate) struct Tally {
    /// Decisions on requests.
    pub decisions: u64,
    /// Records of something else: logins, tokens.
    pub others: u64,
    /// Decisions before the moment asked for.
    pub earlier: u64,
    /// Lines that are no record.
    pub bad: u64,
    /// The first of them: file and line, and why.
    pub told: Vec<String>,
    /// The moments of the first and the last decision, Unix seconds.
    pub span: Option<(i64, i64)>,
}

impl Tally {
    /// Gives each decision of a log since a moment to `take`; `-` is standard input.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn read(
        &mut self,
        log: &Path,
        since: Option<i64>,
        take: &mut dyn FnMut(&Decision),
    ) -> io::Result<()> {
        let source: Box<dyn Read> =
            if log.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(log)?) };
        self.read_all((&log.to_string_lossy(), since), BufReader::new(source), take)
    }

    fn read_all(
        &mut self,
        (name, since): (&str, Option<i64>),
        mut source: impl BufRead,
        take: &mut dyn FnMut(&Decision),
    ) -> io::Result<()> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let wanted = MAX_LINE_BYTES as u64 + 1;
            if source.by_ref().take(wanted).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.len() > MAX_LINE_BYTES {
                skip_line(&mut source)?;
                self.note(name, number, format!("longer than {MAX_LINE_BYTES} bytes"));
                continue;
            }
            let text = line.trim_ascii();
            match Decision::read(text) {
                _ if text.is_empty() => {}
                Ok(None) => self.others += 1,
                Ok(Some(decision)) if since.is_some_and(|since| decision.at < since) => {
                    self.earlier += 1;
                }
                Ok(Some(decision)) => self.take(&decision, take),
                Err(fault) => self.note(name, number, fault.to_string()),
            }
        }
        Ok(())
    }

    fn take(&mut self, decision: &Decision, take: &mut dyn FnMut(&Decision)) {
        self.decisions += 1;
        let (first, last) = self.span.unwrap_or((decision.at, decision.at));
        self.span = Some((first.min(decision.at), last.max(decision.at)));
        take(decision);
    }

    fn note(&mut self, name: &str, number: u64, why: String) {
        self.bad += 1;
        if self.told.len() < MAX_TOLD {
            self.told.push(format!("{name}:{number}: {why}"));
        }
    }

    /// Whether there was nothing to judge, though there was something to read.
    pub(crate) fn is_no_log(&self) -> bool {
        self.decisions == 0 && self.earlier == 0 && self.bad > 0
    }

    /// Lines about what was not read; none when all was.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.bad > 0 {
            let lines = counted(usize::try_from(self.bad).unwrap_or(usize::MAX), "line");
            words.push(format!("{lines} skipped that hold no decision:"));
            words.extend(self.told.iter().map(|told| format!("  {told}")));
        }
        words
    }

    /// `2026-11-01T… to 2026-11-24T…`.
    pub(crate) fn period(&self) -> String {
        let moment = |at: i64| Timestamp::from_unix(at).to_string();
        self.span.map_or_else(
            || "no moment".into(),
            |(first, last)| format!("{} to {}", moment(first), moment(last)),
        )
    }

    /// For machines.
    pub(crate) fn machines(&self) -> Value {
        json!({
            "decisions": self.decisions,
            "other_records": self.others,
            "earlier": self.earlier,
            "skipped": self.bad,
            "skipped_first": self.told,
            "from": self.span.map(|(first, _)| first),
            "to": self.span.map(|(_, last)| last),
        })
    }
}

/// Takes the rest of a line that is too long, without keeping it.
fn skip_line(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = source.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (taken, over) = match end {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        source.consume(taken);
        if over {
            return Ok(());
        }
    }
}

/// What to do with a log that holds no decision.
pub(crate) const NO_LOG: &str = "error: there is no decision in the log: `serve` writes them as JSON \
                                 lines when its standard output is no terminal (`serve > decisions.log`)";

/// Where the hosts of a config are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// As the file says.
    Written,
    /// On this machine, as `serve --dev` has them.
    Local,
}

/// Reads a config, and moves it as `serve --dev` would.
///
/// # Errors
/// Every fault.
pub(crate) fn config(path: &Path, now: Timestamp, hosts: Hosts) -> Result<Config, Rejected> {
    match hosts {
        Hosts::Written => config::read(path, now, Purpose::Serve),
        Hosts::Local => {
            let mut config = config::read(path, now, Purpose::Dev)?;
            config::dev(&mut config)?;
            Ok(config)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(request: &str, at: i64) -> String {
        json!({
            "at": "2026-11-24T00:00:00.123Z", "event": "request", "request": request,
            "decision": "allow", "status": 200, "stage": "forward", "method": "GET",
            "target": "api.pay.example/v1/rates", "caller": "anyone", "ip": "10.0.0.7", "asked": at,
        })
        .to_string()
    }

    fn read(log: &[u8], since: Option<i64>) -> (Tally, Vec<String>) {
        let (mut tally, mut taken) = (Tally::default(), Vec::new());
        let mut take = |decision: &Decision| taken.push(decision.request.clone());
        tally.read_all(("x.log", since), BufReader::with_capacity(100, log), &mut take).unwrap();
        (tally, taken)
    }

    #[test]
    fn bad_lines_are_counted_told_and_skipped() {
        let long = record(&"a".repeat(MAX_LINE_BYTES), 5);
        let log = [
            record("r_1", 5).as_str(),
            "",
            "22:41:07.120  403 deny",
            &long,
            &record("r_2", 9),
            &record("r_x", 7)
                .replace("\"request\",\"ip\"", "\"login\",\"ip\"")
                .replace("\"request\"", "\"login.totp\"")
                .replacen("\"login.totp\":", "\"request\":", 1),
            "\u{feff}",
            &record("r_3", 2)[..50],
            "{\"cut",
        ]
        .join("\n");
        let (tally, taken) = read(log.as_bytes(), None);
        assert_eq!(taken, ["r_1", "r_2"]);
        assert_eq!((tally.decisions, tally.others, tally.bad, tally.told.len()), (2, 1, 5, 3));
        assert!(tally.told[0].starts_with("x.log:3: not a decision record"), "{:?}", tally.told);
        assert!(tally.told[1].starts_with("x.log:4: longer than"), "{:?}", tally.told);
        assert_eq!(tally.span, Some((5, 9)));
        assert!(!tally.is_no_log());
    }

    #[test]
    fn a_last_line_without_an_end_is_read_and_an_endless_one_is_not_kept() {
        assert_eq!(read(record("r_1", 5).as_bytes(), None).1, ["r_1"]);
        let (tally, taken) = read(&vec![b'['; 5 * MAX_LINE_BYTES], None);
        assert_eq!((taken.len(), tally.bad, tally.is_no_log()), (0, 1, true));
    }

    #[test]
    fn what_is_older_is_left_out() {
        let log = format!("{}\n{}\n", record("r_1", 5), record("r_2", 9));
        let (tally, taken) = read(log.as_bytes(), Some(9));
        assert_eq!((taken, tally.earlier), (vec!["r_2".to_owned()], 1));
    }
}
