//! Exactness on one thread and on 64, against a naive map, and under a flood.

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::Duration;

use super::*;
use crate::entropy::SeededEntropy;
use crate::hash::TableKey;
use crate::limit::Per;
use crate::time::{Clock, FrozenClock};
use proptest::prelude::*;

const START: Timestamp = Timestamp::from_unix(1_800_000_000);

fn rate(count: u32, seconds: u64, burst: u32) -> Rate {
    Rate { count, period: Duration::from_secs(seconds), burst, per: Per::User }
}

fn keys(seed: u64) -> impl Iterator<Item = u64> {
    let key = TableKey::mint(&SeededEntropy::new(seed));
    (0u64..).map(move |number| key.hash(&[&number.to_le_bytes()]))
}

fn passes_now(table: &Table, key: u64, rate: &Rate, now: Timestamp) -> u32 {
    let mut passed = 0;
    while table.charge(key, rate, 1, now).allowed {
        passed += 1;
    }
    passed
}

#[test]
fn on_a_frozen_clock_exactly_the_burst_passes() {
    for start in [Timestamp::default(), Timestamp::from_unix(-5), START] {
        for burst in [1, 2, 30, 1000] {
            let table = Table::new(64);
            assert_eq!(passes_now(&table, 42, &rate(120, 60, burst), start), burst);
        }
    }
}

#[test]
fn stepped_evenly_over_a_period_exactly_n_more_pass() {
    for count in [1, 7, 11, 120] {
        let table = Table::new(64);
        let rate = rate(count, 60, 5);
        passes_now(&table, 42, &rate, START);
        let mut now = START;
        let mut passed = 0;
        for _ in 0..6_000 {
            now = now.after(Duration::from_millis(10));
            passed += u32::from(table.charge(42, &rate, 1, now).allowed);
        }
        assert_eq!(passed, count);
    }
}

#[test]
fn remaining_and_reset_count_down() {
    let table = Table::new(64);
    let rate = rate(60, 60, 3);
    assert_eq!(table.peek(1, &rate, START).remaining, 2);
    for (remaining, reset) in [(2, 1), (1, 2), (0, 3)] {
        let charge = table.charge(1, &rate, 1, START);
        assert!(charge.allowed && charge.retry_after.is_zero());
        assert_eq!((charge.remaining, charge.reset), (remaining, Duration::from_secs(reset)));
    }
    let refused = table.charge(1, &rate, 1, START);
    assert_eq!(refused, table.peek(1, &rate, START), "a refused charge changes nothing");
    assert_eq!((refused.allowed, refused.retry_after), (false, Duration::from_secs(1)));
    assert!(table.charge(2, &rate, 3, START).allowed, "a cost of three is the whole burst");
    assert!(!table.charge(2, &rate, 1, START).allowed);
}

#[test]
fn what_is_given_back_passes_again() {
    let table = Table::new(64);
    let rate = rate(60, 60, 3);
    assert_eq!(passes_now(&table, 1, &rate, START), 3);
    table.give_back(1, &rate, 2, START);
    assert_eq!(passes_now(&table, 1, &rate, START), 2);
    table.give_back(1, &rate, 100, START);
    assert_eq!(passes_now(&table, 1, &rate, START), 3, "never more than the burst");
    table.give_back(2, &rate, 1, START);
    assert_eq!(passes_now(&table, 2, &rate, START), 3, "nothing to give back to a stranger");
}

#[test]
fn sixty_four_threads_pass_exactly_the_burst() {
    for round in 0..20 {
        let table = Table::new(8);
        // Three keys in one bucket; the first charges of all threads fall together.
        let rates = [
            (1u64 << 50, rate(120, 60, 30)),
            (2 << 50, rate(7, 60, 1)),
            (3 << 50, rate(50, 1, 500)),
        ];
        let passed: [AtomicU32; 3] = Default::default();
        let barrier = Barrier::new(64);
        thread::scope(|scope| {
            for worker in 0..64usize {
                let (table, rates, passed, barrier) = (&table, &rates, &passed, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for turn in 0..60 {
                        let which = (worker + turn) % 3;
                        let (key, rate) = &rates[which];
                        let allowed = table.charge(*key, rate, 1, START).allowed;
                        passed[which].fetch_add(u32::from(allowed), SeqCst);
                    }
                });
            }
        });
        let passed = passed.map(AtomicU32::into_inner);
        assert_eq!(passed, [30, 1, 500], "round {round}");
        assert_eq!(table.shared(), 0);
    }
}

#[test]
fn sixty_four_threads_and_even_steps_pass_exactly_n_more() {
    let table = Table::new(8);
    let rate = rate(7, 60, 3);
    assert_eq!(passes_now(&table, 9 << 50, &rate, START), 3);
    let clock = FrozenClock::at(START);
    let passed = AtomicU32::new(0);
    let barrier = Barrier::new(64);
    thread::scope(|scope| {
        for worker in 0..64 {
            let (table, rate, clock, passed, barrier) = (&table, &rate, &clock, &passed, &barrier);
            scope.spawn(move || {
                for _ in 0..240 {
                    if barrier.wait().is_leader() {
                        clock.advance(Duration::from_millis(250));
                    }
                    barrier.wait();
                    if worker % 4 == 0 {
                        let allowed = table.charge(9 << 50, rate, 1, clock.now()).allowed;
                        passed.fetch_add(u32::from(allowed), SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 7);
}

/// Keys expire and come back in one crowded bucket while each thread's clock differs: the case for
/// which a key enters in two steps. No key passes more often than its rate allows.
#[test]
fn threads_that_disagree_about_now_bring_no_key_into_two_slots() {
    for round in 0..30 {
        let table = Table::new(8);
        // A burst of one that comes back in 100 µs: slots are free and live in quick turns.
        let rate = rate(10_000, 1, 1);
        let ticks = AtomicU64::new(0);
        let passed: [AtomicU32; 12] = Default::default();
        thread::scope(|scope| {
            for worker in 0..16usize {
                let (table, rate, ticks, passed) = (&table, &rate, &ticks, &passed);
                scope.spawn(move || {
                    for turn in 0..2_000 {
                        let tick = ticks.fetch_add(1, SeqCst);
                        let now = START.after(Duration::from_micros(tick));
                        let which = (worker * 5 + turn) % 12;
                        let key = (which as u64 + 1) << 50;
                        let allowed = table.charge(key, rate, 1, now).allowed;
                        passed[which].fetch_add(u32::from(allowed), SeqCst);
                    }
                });
            }
        });
        // 32,000 µs are 320 intervals; and one at once.
        let elapsed = ticks.into_inner() / 100;
        for (which, count) in passed.into_iter().enumerate() {
            let count = u64::from(count.into_inner());
            assert!(count <= elapsed + 1, "round {round}, key {which}: {count} > {elapsed} + 1");
        }
    }
}

#[test]
fn a_full_bucket_is_shared_counted_and_forgets_nothing() {
    let table = Table::new(8);
    let rate = rate(60, 60, 3);
    let key = |number: u64| number << 50;
    for number in 1..=8 {
        assert_eq!(passes_now(&table, key(number), &rate, START), 3);
    }
    assert_eq!(table.shared(), 0);
    assert!(!table.charge(key(9), &rate, 1, START).allowed, "too strict, never too lax");
    assert_eq!(table.shared(), 1);
    let later = START.after(Duration::from_secs(1));
    assert!(table.charge(key(9), &rate, 1, later).allowed);
    // Everybody's slot but the shared one is free now; key 9 still remembers.
    let free = START.after(Duration::from_millis(3_500));
    assert_eq!(passes_now(&table, key(9), &rate, free), 2, "0.5 s of its 1 s are still owed");
    assert_eq!(passes_now(&table, key(10), &rate, free), 2, "who may have shared starts there too");
    let idle = START.after(Duration::from_secs(60));
    assert_eq!(passes_now(&table, key(9), &rate, idle), 3);
}

#[test]
fn nothing_is_given_back_out_of_a_shared_slot() {
    let table = Table::new(8);
    let rate = rate(60, 60, 3);
    for number in 1..=8u64 {
        table.charge(number << 50, &rate, 1, START);
    }
    assert!(table.charge(9 << 50, &rate, 1, START).allowed, "shares the slot of one of eight");
    let remaining = |number: u64| table.peek(number << 50, &rate, START).remaining;
    let sharer = (1..=8).find(|number| remaining(*number) == 0).unwrap();
    table.give_back(sharer << 50, &rate, 2, START);
    assert_eq!(remaining(sharer), 0, "half of it was another's");
}

#[test]
fn two_million_strangers_leak_no_allowance_to_an_exhausted_key() {
    let table = Table::new(DEFAULT_SLOTS);
    let strangers = rate(60, 60, 20);
    let exhausted = rate(5, 3600, 5);
    let mut keys = keys(7);
    let victims: Vec<u64> = keys.by_ref().take(100).collect();
    let mut spent = 0;
    for victim in &victims {
        spent += passes_now(&table, *victim, &exhausted, START);
    }
    assert_eq!(spent, 500);
    let mut now = START;
    for (number, key) in keys.take(2_000_000).enumerate() {
        table.charge(key, &strangers, 1, now);
        if number % 4_000 == 0 {
            now = now.after(Duration::from_millis(10));
            for victim in &victims {
                assert!(!table.charge(*victim, &exhausted, 1, now).allowed);
            }
        }
    }
    assert!(table.shared() > 0, "the flood was large enough to fill buckets");
}

/// What the table must equal for each key alone: exact GCRA in a map without limit, on the clock
/// that the pace reads.
#[derive(Default)]
struct Naive(HashMap<u64, u64>);

impl Naive {
    fn charge(&mut self, key: u64, rate: &Rate, cost: u32, now: Timestamp) -> Charge {
        let tat = self.0.entry(key).or_default();
        let (charge, next) = Pace::of(rate).judge(*tat, cost, now);
        *tat = next.unwrap_or(*tat);
        charge
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_table_with_room_equals_a_map(
        steps in proptest::collection::vec((0u64..200, 0u32..4, 0u64..400_000), 1..400),
    ) {
        let table = Table::new(DEFAULT_SLOTS);
        let mut naive = Naive::default();
        let all: Vec<u64> = keys(3).take(200).collect();
        let rates = [rate(7, 1, 3), rate(120, 60, 30), rate(500, 1, 50)];
        let mut now = START;
        for (which, cost, step) in steps {
            now = now.after(Duration::from_micros(step));
            let (key, rate) = (all[which as usize], &rates[which as usize % 3]);
            let expected = naive.charge(key, rate, cost, now);
            prop_assert_eq!(table.charge(key, rate, cost, now), expected);
        }
        prop_assert_eq!(table.shared(), 0);
    }

    #[test]
    fn a_table_without_room_is_never_laxer_than_a_map(
        steps in proptest::collection::vec((1u64..30, 1u32..3, 0u64..400_000), 1..400),
    ) {
        let table = Table::new(8);
        let mut strict = Naive::default();
        let rates = [rate(7, 1, 3), rate(120, 60, 30), rate(50, 1, 5)];
        let mut now = START;
        for (which, cost, step) in steps {
            now = now.after(Duration::from_micros(step));
            let rate = &rates[which as usize % 3];
            if table.charge(which << 50, rate, cost, now).allowed {
                // The map may have let more pass before; what passes here must pass there, given
                // what has passed here.
                prop_assert!(strict.charge(which, rate, cost, now).allowed);
            }
        }
    }
}
