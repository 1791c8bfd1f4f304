//! The protocol of two steps, one atomic operation at a time.
//!
//! Threads on a small machine seldom meet in the few nanoseconds that matter. So here a schedule
//! decides which actor makes its next read or swap, in one crowded bucket whose slots come free
//! within the run, while each actor has its own idea of now.

use std::time::Duration;

use super::*;
use crate::limit::Per;
use proptest::prelude::*;

const START_US: u64 = 1_800_000_000_000_000;

/// One thread's charge, cut into its atomic operations.
struct Actor {
    key: u64,
    now: Timestamp,
    at: Operation,
    view: View,
    passed: Option<bool>,
}

enum Operation {
    Read(usize),
    ReadAgain(usize),
    Act,
}

impl Actor {
    fn new(key: u64, offset_us: u64) -> Self {
        let now = Timestamp::from_nanos((START_US + offset_us) as i64 * 1_000);
        let nothing = Slot { index: 0, word: EMPTY, tat_us: 0 };
        let view = View { slots: [nothing; WAYS], tag: tag(key) };
        Actor { key, now, at: Operation::Read(0), view, passed: None }
    }

    /// Does what [`Table::charge`] does, up to and with the next atomic operation.
    fn step(&mut self, table: &Table, rate: &Rate) {
        if self.passed.is_some() {
            return;
        }
        let line = table.line(self.key);
        self.at = match self.at {
            Operation::Read(index) => {
                self.view.slots[index] = Slot::read(index, &line.0[index], micros(self.now));
                match (index + 1 < WAYS, self.view.place()) {
                    (true, _) => Operation::Read(index + 1),
                    (false, Place::Reserved(_)) => Operation::ReadAgain(0),
                    (false, _) => Operation::Act,
                }
            }
            Operation::ReadAgain(index) => {
                if !self.view.slots[index].still_stands(&line.0[index]) {
                    Operation::Read(0)
                } else if index + 1 < WAYS {
                    Operation::ReadAgain(index + 1)
                } else {
                    Operation::Act
                }
            }
            Operation::Act => {
                let (tag, now) = (tag(self.key), self.now);
                let entry = Entry { line, tag, pace: Pace::of(rate), cost: 1, now };
                self.passed = table.act(&entry, &self.view).map(|charge| charge.allowed);
                Operation::Read(0)
            }
        };
    }
}

/// Slots of a tag that were charged since they were reserved.
fn charged(line: &Line, tag: u64) -> usize {
    let words = line.0.iter().map(|cell| cell.load(SeqCst));
    let is_charged = |word: &u64| {
        let behind = START_US.wrapping_sub(*word) & TAT_MASK;
        word >> TAG_SHIFT == tag && behind.abs_diff(LONG_PAST_US) > 2 * RESERVATIONS
    };
    words.filter(is_charged).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn no_schedule_brings_a_key_into_two_slots_or_past_its_limit(
        // Whose slots they were; when they come free. All but one at most are taken.
        taken in proptest::collection::vec(0u64..60, 7..=8),
        burst in 1u32..=2,
        offsets in proptest::collection::vec(0u64..60, 7),
        schedule in proptest::collection::vec((0usize..7, 1usize..20), 40..200),
    ) {
        // One in 100 µs: within these 60 µs nothing but the burst passes. (With a burst of one, a
        // shared slot lets nobody pass; with two it does.)
        let rate = Rate { count: 10_000, period: Duration::from_secs(1), burst, per: Per::Ip };
        let table = Table::new(8);
        for (cell, (owner, free_at)) in table.buckets[0].0.iter().zip((100u64..).zip(&taken)) {
            cell.store(word(owner, START_US + free_at), SeqCst);
        }
        let (ours, another) = (7u64 << TAG_SHIFT, 8u64 << TAG_SHIFT);
        let mut actors = [ours, ours, ours, ours, another, another, another]
            .iter()
            .zip(&offsets)
            .map(|(key, offset)| Actor::new(*key, *offset))
            .collect::<Vec<_>>();
        // An actor makes several operations before the next one's turn, as threads do.
        for (which, operations) in schedule {
            for _ in 0..operations {
                actors[which].step(&table, &rate);
                prop_assert!(charged(&table.buckets[0], 7) <= 1, "two slots");
                prop_assert!(charged(&table.buckets[0], 8) <= 1, "two slots");
            }
        }
        for key in [ours, another] {
            let passed = actors.iter().filter(|a| a.key == key && a.passed == Some(true)).count();
            prop_assert!(passed <= burst as usize, "{} passed", passed);
        }
    }
}
