//! `bench`: the phases of a plan, one after the other.

use load_plan::{Device, Phase, Plan, Samples};
use pv_guest::{
    Error, Guest, executor, println,
    time::{deadline_ns, now_ns},
};

use crate::{blocks, sockets};

/// Runs all that the command line says.
pub(crate) fn run(guest: &Guest) -> Result<(), Error> {
    let plan = Plan::of(guest.command_line()).map_err(|wrong| {
        println!("load: {wrong}");
        Error::Failed("the plan makes no sense")
    })?;
    let bus = guest.bus()?;
    let steps = |device| {
        plan.steps()
            .filter(move |(phase, _)| phase.device() == device)
    };
    if steps(Device::Disk).next().is_some() {
        executor::block_on(blocks::with_disk(bus, async |disk| {
            for (phase, purpose) in steps(Device::Disk) {
                println!("{}", purpose.announcement(&phase));
                let begun = now_ns();
                let end = deadline_ns(plan.length(purpose));
                let samples = blocks::run(disk, &phase, end).await?;
                tell(samples, purpose, &phase, begun);
            }
            Ok(())
        }))?;
    }
    if steps(Device::Network).next().is_some() {
        executor::block_on(sockets::with_network(bus, async |net| {
            for (phase, purpose) in steps(Device::Network) {
                println!("{}", purpose.announcement(&phase));
                let begun = now_ns();
                let end = deadline_ns(plan.length(purpose));
                let samples = sockets::run(net, &phase, end).await?;
                tell(samples, purpose, &phase, begun);
            }
            Ok(())
        }))?;
    }
    Ok(())
}

fn tell(samples: Samples, purpose: load_plan::Purpose, phase: &Phase, begun_ns: u64) {
    let elapsed_ns = now_ns().saturating_sub(begun_ns);
    println!("{}", samples.report(purpose, phase, elapsed_ns));
}
