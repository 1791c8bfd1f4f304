//! What a decision costs, from verified claims to the `Permit`: Cedar over the whole set, Cedar over
//! the operation's own policies, the compiled evaluator; 5, 200 and 1,000 operations.
//!
//! `cargo run --release -p bench-decide`; exit 1 where a compiled decision takes too long or
//! allocates. The request is at hand: neither HTTP nor the table's look-up is in it. With `loop` it
//! decides without end, for a profiler.

mod count;
mod world;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use portcullis_policy::cedar_alone::{self, WholeSet};
use portcullis_policy::decide::{SAMPLE, Verdict, decide};
use portcullis_policy::entities::Question;

use world::{Asked, Shape, World};

#[global_allocator]
static ALLOCATOR: count::Counting = count::Counting;

/// Most nanoseconds of a compiled decision.
const GOAL_NS: f64 = 200.0;
/// How often dearer Cedar over the operation's own set should be; told, and no reason to fail, since a
/// faster Cedar is no fault.
const GOAL_RATIO: f64 = 100.0;
/// Rounds; the median counts.
const ROUNDS: usize = 31;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("loop") {
        return endless();
    }
    println!(
        "operations  line   Cedar, whole   Cedar, own   compiled   with sample   own/compiled  allocations"
    );
    let (mut missed, mut least) = (false, f64::INFINITY);
    for operations in [5, 200, 1_000] {
        let world = match World::of(operations) {
            Ok(world) => world,
            Err(why) => {
                eprintln!("the rules do not compile: {why}");
                return ExitCode::from(2);
            }
        };
        let whole = WholeSet::of(&world.rules);
        for shape in [Shape::Plain, Shape::Bound, Shape::Full] {
            match measure(&world, &whole, shape) {
                Ok(row) => {
                    let ratio = row.own / row.compiled;
                    println!(
                        "{operations:>10}  {:<6} {:>10.0} ns {:>9.0} ns {:>7.0} ns {:>10.0} ns {ratio:>13.0}× {:>12}",
                        format!("{shape:?}").to_lowercase(),
                        row.whole,
                        row.own,
                        row.compiled,
                        row.sampled,
                        row.allocations
                    );
                    missed |= row.compiled > GOAL_NS || row.allocations > 0;
                    least = least.min(ratio);
                }
                Err(why) => {
                    eprintln!("{why}");
                    return ExitCode::from(2);
                }
            }
        }
    }
    let met = |met: bool| if met { "met" } else { "missed" };
    println!("compiled at most {GOAL_NS} ns, no allocation: {}", met(!missed));
    println!(
        "Cedar's own set at least {GOAL_RATIO}× of it: {}, {least:.0}×",
        met(least >= GOAL_RATIO)
    );
    println!(
        "\"with sample\": Cedar decides one in {SAMPLE} too; that one allocates, and is in no other column."
    );
    ExitCode::from(u8::from(missed))
}

/// Compiled decisions without end, for a profiler.
fn endless() -> ExitCode {
    let Ok(world) = World::of(200) else { return ExitCode::from(2) };
    let asked = world.asked(Shape::Full);
    loop {
        run(&world, &asked, 1_000_000, &|question| decide(&world.rules, question, 7).is_ok());
    }
}

/// Nanoseconds of a decision; allocations of [`SAMPLE`] − 1 of them.
struct Row {
    whole: f64,
    own: f64,
    compiled: f64,
    sampled: f64,
    allocations: u64,
}

fn measure(world: &World, whole: &WholeSet, shape: Shape) -> Result<Row, String> {
    let asked = world.asked(shape);
    let own = |question: &Question<'_>| {
        matches!(cedar_alone::judge(&world.rules, question), Verdict::Allow { .. })
    };
    let compiled = |question: &Question<'_>| decide(&world.rules, question, 7).is_ok();
    let in_whole = |question: &Question<'_>| whole.allows(&world.rules, question);
    for (name, allows) in [
        ("whole", &in_whole as &dyn Fn(&Question<'_>) -> bool),
        ("own", &own),
        ("compiled", &compiled),
    ] {
        if !asked.iter().all(|one| allows(&question(world, one))) {
            return Err(format!("{name} refuses a {shape:?} request that the rules allow"));
        }
    }
    let batch = SAMPLE as usize - 1;
    // After the one that Cedar decides too, so that the batch has none of them.
    let after_sample = || while !decisions_at_sample(world, &asked) {};
    after_sample();
    let before = count::so_far();
    run(world, &asked, batch, &compiled);
    let allocations = count::so_far() - before;
    let compiled_ns = median(ROUNDS, || {
        after_sample();
        timed(batch, || run(world, &asked, batch, &compiled))
    });
    let cycle = SAMPLE as usize * 4;
    Ok(Row {
        whole: median(7, || timed(40, || run(world, &asked, 40, &in_whole))),
        own: median(ROUNDS, || timed(200, || run(world, &asked, 200, &own))),
        compiled: compiled_ns,
        sampled: median(ROUNDS, || timed(cycle, || run(world, &asked, cycle, &compiled))),
        allocations,
    })
}

/// Decides once; whether it was the one that Cedar decides too, which is seen by its allocations.
fn decisions_at_sample(world: &World, asked: &[Asked]) -> bool {
    let before = count::so_far();
    run(world, asked, 1, &|question| decide(&world.rules, question, 7).is_ok());
    count::so_far() > before
}

fn run(world: &World, asked: &[Asked], times: usize, allows: &dyn Fn(&Question<'_>) -> bool) {
    for one in asked.iter().cycle().take(times) {
        black_box(allows(black_box(&question(world, one))));
    }
}

fn question<'w>(world: &'w World, asked: &'w Asked) -> Question<'w> {
    Question {
        operation: asked.operation,
        resource: &asked.resource,
        caller: &world.caller,
        circumstances: &world.circumstances,
    }
}

/// Nanoseconds each.
#[allow(clippy::disallowed_methods)]
fn timed(times: usize, run: impl FnOnce()) -> f64 {
    let began = Instant::now();
    run();
    began.elapsed().as_nanos() as f64 / times as f64
}

fn median(rounds: usize, mut measure: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..rounds).map(|_| measure()).collect();
    all.sort_by(f64::total_cmp);
    all.get(rounds / 2).copied().unwrap_or(f64::NAN)
}
