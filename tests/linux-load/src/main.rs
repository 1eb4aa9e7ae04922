//! The load that the guest `load` makes, by Linux's own drivers, so that they can be
//! compared; and what a benchmark needs in domain 0.
//!
//! - `linux-load bench=PHASE,PHASE...`: the phases, on `/dev/xvda` and the network.
//! - `linux-load serve`: the other side of the network's phases.
//! - `linux-load watch DOMAIN LOG`: follows a guest's console, and counts what
//!   is done when it says that it is time.
//! - `linux-load scene DOMAIN TERMINAL WHAT...`: sets a guest going, and looks at it from
//!   its first instruction (see `scene`).
//! - `linux-load density web|echo LIST`: asks many servers: the file has each one's domain and
//!   number.

mod blocks;
mod density;
mod domctl;
mod http;
mod scene;
mod serve;
mod sockets;
mod terminal;
mod trace;
mod watch;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use load_plan::{Device, Phase, Plan, Samples};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve"] => serve::run(),
        ["watch", domain, log] => watch::run(domain.parse()?, log.as_ref()),
        ["density", server, list] => density::run(server, list.as_ref()),
        ["scene", domain, terminal, what @ ..] => {
            scene::run(domain.parse()?, terminal.as_ref(), what)
        }
        [] => bail!(
            "usage: linux-load bench=PHASES | serve | watch DOMAIN LOG | scene ... | density ..."
        ),
        words => bench(&words.join(" ")),
    }
}

fn bench(command_line: &str) -> Result<()> {
    let plan = Plan::of(command_line).map_err(anyhow::Error::msg)?;
    for (phase, purpose) in plan.steps() {
        println!("{}", purpose.announcement(&phase));
        let (elapsed, samples) =
            run(&phase, plan.length(purpose)).with_context(|| format!("phase {phase}"))?;
        println!(
            "{}",
            samples.report(purpose, &phase, elapsed.as_nanos() as u64)
        );
    }
    Ok(())
}

fn run(phase: &Phase, length: Duration) -> Result<(Duration, Samples)> {
    let begun = Instant::now();
    let samples = match phase.device() {
        Device::Disk => blocks::run(phase, begun + length)?,
        Device::Network => sockets::run(phase, begun + length)?,
    };
    Ok((begun.elapsed(), samples))
}
