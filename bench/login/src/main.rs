//! The clients of `bench/login.py`: so many connections, each asking for the next token as soon as it
//! has the last, on one thread. It speaks to any authorization server and knows none.
//!
//! Everything that a client signs is signed before the measured window, so that the load's core is not
//! the limit. An answer that is not a token ends the run. Not here: starting servers, signing people
//! in, reading CPU times; those are the script's.

mod plan;
mod minted;
mod wire;
mod slot;
mod refusals;

use std::cell::Cell;
use std::error::Error;
use std::io::{BufRead, Write};
use std::rc::Rc;
use std::time::Duration;

use portcullis_core::jose::algorithm::Algorithm;
use portcullis_core::jose::sign::SigningKey;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use minted::Minted;
use plan::Plan;
use slot::Slot;
use wire::Dialer;

/// What makes a run worthless.
pub(crate) type Fault = Box<dyn Error>;

const USE: &str = "use: bench-login key PEM JWKS
     bench-login run PLAN";

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["key", pem, jwks] => make_key(pem, jwks),
        ["run", plan] => {
            let plan = Plan::read(plan)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, run(Rc::new(plan)))
        }
        _ => Err(USE.into()),
    }
}

fn make_key(pem: &str, jwks: &str) -> Result<(), Fault> {
    let key = SigningKey::generate(Algorithm::Es256)?;
    std::fs::write(pem, key.to_pem().expose())?;
    let set = serde_json::json!({ "keys": [key.public().to_json()] });
    Ok(std::fs::write(jwks, set.to_string())?)
}

/// Sets up, says `ready`, waits for a line, measures, and prints what came of it.
async fn run(plan: Rc<Plan>) -> Result<(), Fault> {
    let dialer = Rc::new(Dialer::new(&plan)?);
    let minted = Rc::new(Minted::new(&plan)?);
    if plan.dpop {
        let nonce = Slot::open(&plan, &dialer, &minted, 0).await?.first_nonce().await?;
        minted.renew(nonce);
    }
    refusals::check(&plan, &dialer, &minted).await?;
    // Before the connections are opened: an idle one is closed by a careful server.
    minted.stock(plan.prepared);
    let mut slots = Vec::new();
    for number in 0..plan.connections {
        let mut slot = Slot::open(&plan, &dialer, &minted, number).await?;
        slot.prepare().await?;
        slots.push(slot);
    }
    let (slots, _) = drive(slots, plan.warm_up).await?;
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    let began = Instant::now();
    let (_, answered) = drive(slots, plan.seconds).await?;
    let seconds = began.elapsed().as_secs_f64();
    let late = minted.late();
    println!("{}", serde_json::json!({ "answered": answered, "seconds": seconds, "late": late }));
    Ok(())
}

/// Every slot asks again and again until the time is up; then what was asked is still answered.
async fn drive(slots: Vec<Slot>, seconds: f64) -> Result<(Vec<Slot>, u64), Fault> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let answered = Rc::new(Cell::new(0));
    let mut running = JoinSet::new();
    for mut slot in slots {
        let answered = answered.clone();
        running.spawn_local(async move {
            while Instant::now() < end {
                slot.once().await.map_err(|fault| fault.to_string())?;
                answered.set(answered.get() + 1);
            }
            Ok::<Slot, String>(slot)
        });
    }
    let mut kept = Vec::new();
    while let Some(ended) = running.join_next().await {
        kept.push(ended??);
    }
    Ok((kept, answered.get()))
}
