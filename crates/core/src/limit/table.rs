//! The table: one theoretical arrival time (TAT) per key, in a fixed amount of memory.
//!
//! **Layout.** Buckets of eight 64-bit slots, one cache line each. The key's low bits choose the
//! bucket; a slot holds a 16-bit tag (the key's top bits), a *shared* mark and a TAT of 47 bits:
//! microseconds modulo 2^47 (4.4 years), read as the nearest such moment to now. Two keys of one
//! bucket have the same tag, and are then counted together, with probability 2^-16: for a key in a
//! table of 2^18 slots, about 2·10^-9 for each other live key, and at most 1 in 9,000 when every
//! slot is live. Keys are hashes under a secret, so it cannot be brought about.
//!
//! **What is free.** A slot whose TAT has passed equals "never seen": replacing it loses nothing.
//! When all of a bucket are live, a newcomer shares the one with the smallest TAT, which gets the
//! mark; further newcomers share the marked one, and a newcomer that finds a free slot again starts
//! from the marked TAT. So a key's TAT is never earlier than its own charges made it: the error is
//! only ever too strict, it is counted, and no key forgets.
//!
//! **Threads.** Every change is one compare-and-swap of one slot; there is no lock. The delicate
//! part is that two threads must not bring one key into two slots, since moments differ between
//! threads and so does what they hold for free. Therefore a key enters in two steps: *reserve* a
//! free slot (its tag with a TAT long past, which counts as nothing), then charge it, provided that
//! the bucket, read twice without a change between, holds the tag exactly once. A second
//! reservation is cleared first.
//!
//! INVARIANT: at no moment do two slots hold the same tag that were both charged since they were
//! reserved. (Let a be reserved at Ra and first charged under a reading Sa of {a}, b likewise, both
//! still there. The tag stands in b from Rb on, but not at Sa: Sa < Rb. Likewise Sb < Ra. With
//! Ra < Sa and Rb < Sb that is a circle.) So a live slot of one's own tag is the only one, and is
//! charged without a second look.
//!
//! **Time** must not run backwards between threads by more than a bucket's own time: a clock that
//! steps back makes live keys wait that much longer. The TAT of a slot untouched for 2.2 years of
//! one process's life can be misread as live, once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use super::gcra::{Pace, micros};
use super::{Charge, Rate};
use crate::time::Timestamp;

/// Slots in a table by default: 2 MiB.
pub const DEFAULT_SLOTS: usize = 256 * 1024;

/// Slots in a bucket: one cache line.
const WAYS: usize = 8;
/// Tries before a charge is refused because other threads keep changing the bucket; never seen.
const MAX_TRIES: usize = 100_000;

const TAT_BITS: u32 = 47;
const TAT_MASK: u64 = (1 << TAT_BITS) - 1;
const SHARED: u64 = 1 << TAT_BITS;
const TAG_SHIFT: u32 = 48;
/// A slot that nobody has: no key has tag 0.
const EMPTY: u64 = 0;
/// How far back a reservation lies. Twice as far a moment would be read as one to come.
const LONG_PAST_US: u64 = 1 << 45;
/// Reservations differ in their TAT, so that no stale swap finds what it read come back.
const RESERVATIONS: u64 = 1 << 30;

/// A table of theoretical arrival times, shared by all keys of any number of rates.
pub struct Table {
    buckets: Box<[Line]>,
    shared: AtomicU64,
    reserved: AtomicU64,
}

#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; WAYS]);

impl Table {
    /// A table of at least `slots` slots.
    pub fn new(slots: usize) -> Self {
        let buckets = slots.div_ceil(WAYS).max(1).next_power_of_two();
        Table {
            buckets: (0..buckets).map(|_| Line::default()).collect(),
            shared: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
        }
    }

    /// Charges `cost` units of `rate` to `key` (a keyed 64-bit hash, see [`crate::hash::TableKey`]).
    /// A refused charge changes nothing. Exact for any number of threads: on a frozen clock exactly
    /// B pass; stepped evenly over a period, exactly N more.
    pub fn charge(&self, key: u64, rate: &Rate, cost: u32, now: Timestamp) -> Charge {
        let entry = Entry { line: self.line(key), tag: tag(key), pace: Pace::of(rate), cost, now };
        for _ in 0..MAX_TRIES {
            let view = View::of(entry.line, entry.tag, micros(now));
            if let Place::Reserved(_) = view.place()
                && !view.still_stands(entry.line)
            {
                continue;
            }
            if let Some(charge) = self.act(&entry, &view) {
                return charge;
            }
        }
        self.shared.fetch_add(1, Relaxed);
        Charge { allowed: false, ..entry.pace.judge(entry.full_tat(), cost, now).0 }
    }

    /// What a charge of one would come to, without charging.
    pub fn peek(&self, key: u64, rate: &Rate, now: Timestamp) -> Charge {
        let view = View::of(self.line(key), tag(key), micros(now));
        let tat = match view.place() {
            Place::Own(slot) | Place::Shared(slot) => slot.tat_us,
            Place::Reserved(_) | Place::ReservedTwice(_) | Place::Free(_) => view.marked_tat(),
        };
        Pace::of(rate).judge(tat, 1, now).0
    }

    /// Gives `cost` units back to a key (a success that should not have been counted). A key that
    /// shares its slot gets nothing back: it would be another's.
    pub fn give_back(&self, key: u64, rate: &Rate, cost: u32, now: Timestamp) {
        let (line, pace) = (self.line(key), Pace::of(rate));
        for _ in 0..MAX_TRIES {
            let view = View::of(line, tag(key), micros(now));
            let Place::Own(slot) = view.place() else { return };
            if slot.word & SHARED != 0 {
                return;
            }
            let tat = pace.taken_back(slot.tat_us, cost, now);
            if swap(line, slot, word(tag(key), tat)) {
                return;
            }
        }
    }

    /// How often keys had to share a slot since the start (a metric).
    pub fn shared(&self) -> u64 {
        self.shared.load(Relaxed)
    }

    /// One try on what was read; `None` when it has to be read again.
    fn act(&self, entry: &Entry<'_>, view: &View) -> Option<Charge> {
        match view.place() {
            Place::Own(slot) => entry.charge_own(slot),
            Place::Reserved(slot) => entry.charge_reserved(view, slot),
            Place::ReservedTwice(slot) => entry.clear(slot),
            Place::Free(slot) => entry.reserve(view, slot, &self.reserved),
            Place::Shared(slot) => {
                self.shared.fetch_add(1, Relaxed);
                entry.charge_shared(slot)
            }
        }
    }

    fn line(&self, key: u64) -> &Line {
        // INVARIANT: the number of buckets is a power of two and fits `usize`.
        let mask = self.buckets.len() - 1;
        self.buckets.get(key as usize & mask).expect("masked by the length")
    }
}

/// One charge on its way.
struct Entry<'a> {
    line: &'a Line,
    tag: u64,
    pace: Pace,
    cost: u32,
    now: Timestamp,
}

impl Entry<'_> {
    /// A live slot of our own tag: see the invariant on top.
    fn charge_own(&self, slot: Slot) -> Option<Charge> {
        let (charge, next) = self.pace.judge(slot.tat_us, self.cost, self.now);
        let Some(tat) = next else { return Some(charge) };
        swap(self.line, slot, word(self.tag, tat) | slot.word & SHARED).then_some(charge)
    }

    /// Our only slot, which counts as nothing yet (or no more), in a view that [still
    /// stood](View::still_stands).
    fn charge_reserved(&self, view: &View, slot: Slot) -> Option<Charge> {
        let (charge, next) = self.pace.judge(view.marked_tat(), self.cost, self.now);
        let Some(tat) = next else { return Some(charge) };
        swap(self.line, slot, word(self.tag, tat)).then_some(charge)
    }

    /// Two slots of our tag, none live: clearing one loses nothing.
    fn clear(&self, slot: Slot) -> Option<Charge> {
        swap(self.line, slot, EMPTY);
        None
    }

    fn reserve(&self, view: &View, slot: Slot, reserved: &AtomicU64) -> Option<Charge> {
        let (charge, next) = self.pace.judge(view.marked_tat(), self.cost, self.now);
        if next.is_none() {
            return Some(charge);
        }
        let nonce = reserved.fetch_add(1, Relaxed) % RESERVATIONS;
        let long_past = micros(self.now).wrapping_sub(LONG_PAST_US + nonce);
        swap(self.line, slot, word(self.tag, long_past));
        None
    }

    /// All slots are live and none is ours.
    fn charge_shared(&self, slot: Slot) -> Option<Charge> {
        let (charge, next) = self.pace.judge(slot.tat_us, self.cost, self.now);
        let Some(tat) = next else { return Some(charge) };
        let others_tag = slot.word & !(TAT_MASK | SHARED);
        if !swap(self.line, slot, others_tag | SHARED | tat & TAT_MASK) {
            return None;
        }
        // Another thread of this key, for which a slot was free already, may have reserved it
        // before it could see our mark: then that slot is charged as well.
        let after = View::of(self.line, self.tag, micros(self.now));
        after.owns_nothing().then_some(charge)
    }

    /// A TAT at which nothing passes.
    fn full_tat(&self) -> u64 {
        micros(self.now).saturating_add(super::gcra::MAX_FILL_US)
    }
}

/// A slot as it was read.
#[derive(Clone, Copy)]
struct Slot {
    index: usize,
    word: u64,
    /// Its TAT when live, else 0.
    tat_us: u64,
}

impl Slot {
    fn read(index: usize, cell: &AtomicU64, now_us: u64) -> Slot {
        let word = cell.load(SeqCst);
        let ahead = word.wrapping_sub(now_us) & TAT_MASK;
        let live = word >> TAG_SHIFT != 0 && ahead != 0 && ahead <= TAT_MASK / 2;
        Slot { index, word, tat_us: if live { now_us + ahead } else { 0 } }
    }

    fn still_stands(self, cell: &AtomicU64) -> bool {
        cell.load(SeqCst) == self.word
    }

    fn is_live(self) -> bool {
        self.tat_us != 0
    }
}

/// A bucket as one thread read it, slot by slot.
struct View {
    slots: [Slot; WAYS],
    tag: u64,
}

/// Where a key is counted.
enum Place {
    /// In the live slot of its tag.
    Own(Slot),
    /// In the only slot of its tag, which counts as nothing yet.
    Reserved(Slot),
    /// In more than one such slot; this one goes first.
    ReservedTwice(Slot),
    /// Nowhere; this slot is free.
    Free(Slot),
    /// Nowhere, and none is free; in another's.
    Shared(Slot),
}

impl View {
    fn of(line: &Line, tag: u64, now_us: u64) -> View {
        let mut slots = [Slot { index: 0, word: EMPTY, tat_us: 0 }; WAYS];
        for (index, (slot, cell)) in slots.iter_mut().zip(&line.0).enumerate() {
            *slot = Slot::read(index, cell, now_us);
        }
        View { slots, tag }
    }

    fn place(&self) -> Place {
        let mut own = self.slots.iter().filter(|slot| slot.word >> TAG_SHIFT == self.tag);
        let (mut live, mut reserved, mut twice) = (None, None, None);
        for slot in &mut own {
            match (slot.is_live(), reserved) {
                (true, _) => live = Some(*slot),
                (false, None) => reserved = Some(*slot),
                (false, Some(_)) => twice = Some(*slot),
            }
        }
        match (live, twice, reserved) {
            (Some(slot), _, _) => Place::Own(slot),
            (None, Some(slot), _) => Place::ReservedTwice(slot),
            (None, None, Some(slot)) => Place::Reserved(slot),
            (None, None, None) => self.elsewhere(),
        }
    }

    fn elsewhere(&self) -> Place {
        // Keys begin at different slots, so that two newcomers seldom want the same one.
        let start = self.tag as usize % WAYS;
        let from_start = self.slots.iter().cycle().skip(start).take(WAYS);
        if let Some(free) = from_start.copied().find(|slot| !slot.is_live()) {
            return Place::Free(free);
        }
        let least = self.slots.iter().copied().min_by_key(|slot| slot.tat_us);
        let shared = self.marked().or(least);
        Place::Shared(shared.expect("a bucket has eight slots"))
    }

    /// The live slot that newcomers share: the latest one marked.
    fn marked(&self) -> Option<Slot> {
        let marked = self.slots.iter().copied().filter(|s| s.is_live() && s.word & SHARED != 0);
        marked.max_by_key(|slot| slot.tat_us)
    }

    /// Where a newcomer starts from: it may have been charged in the marked slot. 0 without one.
    fn marked_tat(&self) -> u64 {
        self.marked().map_or(0, |slot| slot.tat_us)
    }

    fn owns_nothing(&self) -> bool {
        self.slots.iter().all(|slot| slot.word >> TAG_SHIFT != self.tag)
    }

    /// Whether a second reading finds every slot as in the first: then both saw one moment.
    fn still_stands(&self, line: &Line) -> bool {
        self.slots.iter().zip(&line.0).all(|(slot, cell)| slot.still_stands(cell))
    }
}

fn tag(key: u64) -> u64 {
    (key >> TAG_SHIFT).max(1)
}

fn word(tag: u64, tat_us: u64) -> u64 {
    tag << TAG_SHIFT | tat_us & TAT_MASK
}

fn swap(line: &Line, slot: Slot, new: u64) -> bool {
    let cell = line.0.get(slot.index).expect("read from this line");
    cell.compare_exchange(slot.word, new, SeqCst, SeqCst).is_ok()
}

#[cfg(test)]
mod interleaved;
#[cfg(test)]
mod tests;
