//! Every way to write a limit wrong, with the words that answer it.

use super::*;
use proptest::prelude::*;

#[test]
fn limits_are_read() {
    let rate = |count, seconds, burst, per| Rate {
        count,
        period: Duration::from_secs(seconds),
        burst,
        per,
    };
    for (words, expected) in [
        ("120/min per user, burst 30", vec![rate(120, 60, 30, Per::User)]),
        ("500/s per client", vec![rate(500, 1, 50, Per::Client)]),
        ("7/h per prefix", vec![rate(7, 3600, 1, Per::Prefix)]),
        ("11/min per caller", vec![rate(11, 60, 2, Per::Caller)]),
        (
            "60/min per ip, burst 20, 1000/h per ip",
            vec![rate(60, 60, 20, Per::Ip), rate(1000, 3600, 100, Per::Ip)],
        ),
        ("  60/min  per ip ,burst 20 ", vec![rate(60, 60, 20, Per::Ip)]),
        ("1000000/s per ip", vec![rate(1_000_000, 1, 100_000, Per::Ip)]),
    ] {
        let limit = Limit::parse(words).unwrap();
        assert_eq!(limit.rates, expected, "{words}");
        assert_eq!(Limit::parse(&limit.to_string()).unwrap(), limit, "its own words");
    }
}

/// Words, the part that the caret stands under, message, remedy.
const FAULTS: &[(&str, &str, &str, &str)] = &[
    ("", "", "an empty limit", "write a rate, as in `120/min per user`"),
    ("120/minute per user", "minute", "`minute` is not a unit of time", "did you mean `/min`"),
    ("120/m per user", "m", "`m` is not a unit of time", "did you mean `/min`"),
    (
        "9/fortnight per ip",
        "fortnight",
        "`fortnight` is not a unit of time",
        "write `/s`, `/min` or `/h`",
    ),
    ("120/ per user", "", "`` is not a unit of time", "write `/s`, `/min` or `/h`"),
    ("120 per user", "120", "`120` has no period", "write `120/s`, `120/min` or `120/h`"),
    ("120/min", "120/min", "`120/min` does not say whose requests are counted", SUBJECTS_REMEDY),
    ("120/min per", "per", "nothing follows `per`", SUBJECTS_REMEDY),
    ("120/min for user", "for", "`for` cannot follow a rate", SUBJECTS_REMEDY),
    ("120/min burst 30", "burst", "`burst` cannot follow a rate", SUBJECTS_REMEDY),
    (
        "120/min per user burst 30",
        "burst",
        "`burst` cannot follow `per user`",
        "write a comma between the parts of a limit",
    ),
    (
        "120/min per usr",
        "usr",
        "`usr` is nobody whose requests can be counted",
        "did you mean `per user`",
    ),
    (
        "120/min per planet",
        "planet",
        "`planet` is nobody whose requests can be counted",
        SUBJECTS_REMEDY,
    ),
    ("120/min per tenant", "tenant", "limits `per tenant` are not built yet", SUBJECTS_REMEDY),
    (
        "0/min per ip",
        "0",
        "a limit of zero lets nobody pass",
        "write at least 1, or `allow = \"nobody\"` on the line",
    ),
    ("4294967296/h per ip", "4294967296", "`4294967296` is too large", "write at most 4294967295"),
    (
        "1000001/s per ip",
        "1000001/s",
        "`1000001/s` is more than one in a microsecond",
        "write a smaller number",
    ),
    ("1.5/min per ip", "1.5", "`1.5` is not a whole number", "write digits alone, as in `120/min`"),
    (
        "10/min per user, 200/day per user",
        "day",
        "quotas per `/day` are not built yet",
        "write `/s`, `/min` or `/h`",
    ),
    (
        "9/month per user",
        "month",
        "quotas per `/month` are not built yet",
        "write `/s`, `/min` or `/h`",
    ),
    (
        "9/min per user, cluster-wide",
        "cluster-wide",
        "`cluster-wide` limits are not built yet",
        "remove it; only rates and bursts count today",
    ),
    (
        "9/min per user, at most 50 at once",
        "at most 50 at once",
        "limits on requests at once (`at most N at once`) are not built yet",
        "remove it; only rates and bursts count today",
    ),
    (
        "9/min per user, cost = 5",
        "cost = 5",
        "`cost` is not built yet",
        "remove it; only rates and bursts count today",
    ),
    (
        "9/min per user, brust 5",
        "brust",
        "`brust` is not a word of a limit",
        "did you mean `burst`",
    ),
    (
        "unlimited",
        "unlimited",
        "`unlimited` is not a word of a limit",
        "write a rate, as in `120/min per user, burst 30`",
    ),
    (
        "burst 5, 9/min per user",
        "burst",
        "`burst` before any rate",
        "write the rate first, as in `120/min per user, burst 30`",
    ),
    ("9/min per user, burst 5, burst 6", "burst", "a second `burst` for one rate", "remove one"),
    (
        "9/min per user, burst",
        "burst",
        "nothing follows `burst`",
        "write a number, as in `burst 30`",
    ),
    (
        "9/min per user, burst 0",
        "0",
        "a limit of zero lets nobody pass",
        "write at least 1, or `allow = \"nobody\"` on the line",
    ),
    (
        "9/min per user, burst x",
        "x",
        "`x` is not a whole number",
        "write digits alone, as in `120/min`",
    ),
    (
        "9/min per user, burst 5 or so",
        "or",
        "`or` cannot follow a burst",
        "write a comma between the parts of a limit",
    ),
    (
        "1/h per user, burst 721",
        "burst 721",
        "a burst of 721 would need more than 30 days to come back",
        "write a smaller burst",
    ),
    ("9/min per user,", ",", "nothing stands beside the comma", "remove the comma"),
    ("9/min per user,, burst 5", ",", "nothing stands beside the comma", "remove the comma"),
    (
        "-9/min per user",
        "-9/min",
        "`-9/min` is not a word of a limit",
        "write a rate, as in `120/min per user, burst 30`",
    ),
    (
        "1/s per ip, 1/s per ip, 1/s per ip, 1/s per ip, 1/s per ip",
        " 1/s per ip",
        "more than 4 rates",
        "remove one",
    ),
];

#[test]
fn faults_say_where_what_and_what_to_write() {
    for (words, under_caret, message, remedy) in FAULTS {
        let fault = Limit::parse(words).expect_err(words);
        assert_eq!(&words[fault.at.clone()], *under_caret, "{words}");
        assert_eq!((fault.message.as_str(), fault.remedy.as_str()), (*message, *remedy), "{words}");
    }
}

#[test]
fn the_caret_stands_under_the_word_meant_not_an_earlier_twin() {
    let words = "9/min per user, burst 5, burst 6";
    assert_eq!(Limit::parse(words).unwrap_err().at, 25..30);
}

#[test]
fn words_without_end_are_refused() {
    let words = "9/min per ip, ".repeat(100);
    assert!(Limit::parse(&words).unwrap_err().message.contains("more than 256 bytes"));
}

proptest! {
    #[test]
    fn reading_never_panics_and_the_caret_stands_within(
        words in "([0-9]{1,11}|/|min|per|user|burst|,| |é|at most|day){0,12}",
    ) {
        if let Err(fault) = Limit::parse(&words) {
            prop_assert!(words.get(fault.at.clone()).is_some(), "{words} {:?}", fault.at);
            prop_assert!(!fault.message.is_empty() && !fault.remedy.is_empty());
        }
    }
}
