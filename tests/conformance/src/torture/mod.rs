//! Two vCPUs that give each other no rest: what events interrupt goes on as if
//! nothing had been, and no event is lost.

use alloc::{format, string::String};

use event_channels::{Channel, Wait};
use hypercall_abi::{
    VcpuId,
    platform::Clock,
    vcpu::{self, SingleshotFlags},
    xen::Virq,
};
use pv_guest::{Current, Error, Guest, println};

use crate::{
    claim::Stop,
    second::{self, Order, PACE_NS, PATIENCE_NS, SECOND},
};

/// What came of it, in a line.
type Told = Result<String, Stop>;

/// Does one of them, and says how it was.
pub(crate) fn run(guest: &Guest, count: u64, test: fn(&Guest, u64) -> Told) -> Result<(), Error> {
    match test(guest, count) {
        Ok(told) => println!("{told}"),
        Err(Stop::Skipped(why)) => println!("skipped ({why})"),
        Err(Stop::Failed(why)) => {
            println!("FAILED: {why}");
            return Err(Error::Failed("the torture found something"));
        }
    }
    Ok(())
}

/// A port of a vCPU's, which rings.
fn bell(guest: &Guest, vcpu: VcpuId) -> Result<Channel<'static, Current>, Stop> {
    let bell = Channel::ipi(guest.ports()?, vcpu).map_err(|_| "no port")?;
    bell.unmask().map_err(|_| "a port cannot be unmasked")?;
    Ok(bell)
}

/// Sends to the other vCPU, which answers, again and again.
pub(crate) fn ipis(guest: &Guest, count: u64) -> Told {
    second::ensure(guest, 0)?;
    let (there, back) = (bell(guest, SECOND)?, bell(guest, VcpuId(0))?);
    second::answer_on(back.port());
    second::begin(guest, Order::Answer, there.port())?;
    let mut answered = 0;
    let started_ns = guest.platform().now_ns();
    while answered < count {
        there.notify().map_err(|_| "it cannot be sent on")?;
        let deadline = guest.platform().now_ns() + PATIENCE_NS;
        if back.wait_blocking(Some(deadline)) != Wait::Event {
            break;
        }
        answered += 1;
    }
    let took_ns = guest.platform().now_ns() - started_ns;
    second::rest();
    there.notify().map_err(|_| "it cannot be sent on")?;
    second::finish(guest)?;
    if answered < count {
        return Err(format!("event {answered} of {count} was not answered").into());
    }
    Ok(format!(
        "ipis: {count} went and came, none was lost, {} ns each way",
        took_ns / count.max(1) / 2
    ))
}

/// Looks whether all registers stay what they are, while the other vCPU sends; or,
/// where there is none, while a timer rings.
pub(crate) fn registers(guest: &Guest, count: u64) -> Told {
    let checks = state::Checks::new(guest)?;
    let platform = guest.platform();
    let (parts, upcalls) = if vcpu::state(platform, SECOND).is_ok() {
        second::ensure(guest, 0)?;
        let bell = bell(guest, VcpuId(0))?;
        second::begin(guest, Order::Pace, bell.port())?;
        let checked = checks.run(count, || Ok(()));
        second::rest();
        second::finish(guest)?;
        (checked?, bell.events())
    } else {
        let timer = Channel::virq(guest.ports()?, Virq::TIMER, VcpuId(0));
        let timer = timer.map_err(|_| "no timer")?;
        let mut seen = u32::MAX;
        let wind = || {
            if timer.events() != seen {
                seen = timer.events();
                timer.unmask().map_err(|_| "a port cannot be unmasked")?;
                let at_ns = platform.now_ns() + PACE_NS;
                vcpu::set_singleshot_timer(platform, VcpuId(0), at_ns, SingleshotFlags::empty())?;
            }
            Ok(())
        };
        (checks.run(count, wind)?, timer.events())
    };
    Ok(format!(
        "registers: {count} loops with {parts}, {upcalls} upcalls, no difference"
    ))
}

/// A process's registers are its host's business.
#[cfg(not(target_os = "none"))]
mod state {
    use super::{Guest, Stop};

    pub(super) struct Checks;

    impl Checks {
        pub(super) fn new(_: &Guest) -> Result<Self, Stop> {
            Err(Stop::Skipped(crate::claim::NO_PROCESSOR.into()))
        }

        pub(super) fn run(
            &self,
            _: u64,
            _: impl FnMut() -> Result<(), Stop>,
        ) -> Result<&'static str, Stop> {
            Ok("nothing")
        }
    }
}

#[cfg(target_os = "none")]
mod state;
