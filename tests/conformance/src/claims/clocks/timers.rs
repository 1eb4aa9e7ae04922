//! A vCPU's timers, as Xen has them: by the port of their interrupt, without what the
//! library makes of them.

use event_channels::PortRef;
use hypercall_abi::{
    Errno, Port, VcpuId,
    event_channel::{self, ChannelStatus},
    platform::Clock,
    sched,
    vcpu::{self, SingleshotFlags},
    xen::{Virq, cpu},
};
use pv_guest::{Current, Guest, sync::UpcallMutex};

use crate::claim::{Stop, Verdict, WAIT_NS, ensure};

const MS_NS: u64 = 1_000_000;
const FIRST: VcpuId = VcpuId(0);

/// The port of the first vCPU's timer, while no upcall takes its events.
struct Timer {
    platform: Current,
    bit: PortRef,
    port: Port,
    /// Whether nobody had one.
    is_own: bool,
}

/// The port that the library has for its own sleeps, if it has one.
fn port_of_timer(platform: &Current) -> Result<Option<Port>, Stop> {
    const MOST: u32 = 200;
    for port in (1..MOST).map(Port) {
        let Ok(told) = event_channel::status(platform, port) else {
            return Ok(None);
        };
        if told.status == ChannelStatus::VIRQ
            && told.interrupt() == Some(Virq::TIMER.0)
            && told.vcpu == FIRST
        {
            return Ok(Some(port));
        }
    }
    Ok(None)
}

/// Tries something with the timer, and stops all of it.
fn with_timer(guest: &Guest, test: impl FnOnce(&Timer) -> Verdict) -> Verdict {
    let ports = guest.ports()?;
    let platform = *guest.platform();
    let found = port_of_timer(&platform)?;
    let port = match found {
        Some(port) => port,
        None => event_channel::bind_virq(&platform, Virq::TIMER, FIRST)?,
    };
    let timer = Timer {
        platform,
        bit: ports.port_ref(port),
        port,
        is_own: found.is_none(),
    };
    let lock = UpcallMutex::new(());
    let held = lock.lock();
    let verdict = timer.stop().map_err(Stop::from).and_then(|()| {
        timer.bit.clear_pending();
        test(&timer)
    });
    let stopped = timer.stop();
    timer.bit.clear_pending();
    if timer.is_own {
        event_channel::close(&platform, port)?;
    }
    drop(held);
    verdict?;
    stopped.map_err(Stop::from)
}

impl Timer {
    fn stop(&self) -> Result<(), Errno> {
        vcpu::stop_singleshot_timer(&self.platform, FIRST)?;
        vcpu::stop_periodic_timer(&self.platform, FIRST)
    }

    fn set(&self, at_ns: u64) -> Result<(), Errno> {
        vcpu::set_singleshot_timer(&self.platform, FIRST, at_ns, SingleshotFlags::empty())
    }

    fn now_ns(&self) -> u64 {
        Clock::now_ns(&self.platform)
    }

    /// Whether it rings before a time; then it is quiet again.
    fn rings_before(&self, end_ns: u64) -> Result<bool, Errno> {
        loop {
            if self.bit.clear_pending() {
                return Ok(true);
            }
            if self.now_ns() >= end_ns {
                return Ok(false);
            }
            sched::poll(&self.platform, &[self.port], Some(end_ns))?;
        }
    }
}

pub(super) fn a_timer_that_is_stopped_is_quiet(guest: &Guest) -> Verdict {
    with_timer(guest, |timer| {
        // On a busy machine, this vCPU may not run for as long: then it rings rightly.
        for _ in 0..5 {
            let at_ns = timer.now_ns() + 50 * MS_NS;
            timer.set(at_ns)?;
            vcpu::stop_singleshot_timer(&timer.platform, FIRST)?;
            let was_in_time = timer.now_ns() + 5 * MS_NS < at_ns;
            let rang = timer.rings_before(at_ns + 50 * MS_NS)?;
            if was_in_time {
                return ensure(!rang, "it rang all the same");
            }
        }
        Err("it could not be stopped in time".into())
    })
}

/// The last time counts, whether it is later or earlier.
pub(super) fn a_timer_that_is_set_again_forgets_its_first_time(guest: &Guest) -> Verdict {
    with_timer(guest, |timer| {
        for _ in 0..5 {
            let start_ns = timer.now_ns();
            timer.set(start_ns + 50 * MS_NS)?;
            timer.set(start_ns + 200 * MS_NS)?;
            let was_in_time = timer.now_ns() + 5 * MS_NS < start_ns + 50 * MS_NS;
            let rang = timer.rings_before(start_ns + 150 * MS_NS)?;
            let rings_then = timer.rings_before(start_ns + 200 * MS_NS + WAIT_NS)?;
            let ended_ns = timer.now_ns();
            if was_in_time && ended_ns < start_ns + 200 * MS_NS + WAIT_NS {
                ensure(!rang, "it rang at its first time")?;
                ensure(rings_then, "it did not ring at its second time")?;
                break;
            }
        }
        let start_ns = timer.now_ns();
        timer.set(start_ns + 3600 * WAIT_NS)?;
        timer.set(start_ns + 5 * MS_NS)?;
        ensure(
            timer.rings_before(start_ns + WAIT_NS)?,
            "it kept the later of two times",
        )
    })
}

const PERIOD_NS: u64 = 5 * MS_NS;

pub(super) fn a_periodic_timer_rings_again(guest: &Guest) -> Verdict {
    with_timer(guest, |timer| {
        let start_ns = timer.now_ns();
        vcpu::set_periodic_timer(&timer.platform, FIRST, PERIOD_NS)?;
        for _ in 0..5 {
            let end_ns = timer.now_ns() + WAIT_NS;
            ensure(timer.rings_before(end_ns)?, "it did not ring again")?;
        }
        // Each has its time; the first may be at once.
        ensure(
            timer.now_ns() >= start_ns + 3 * PERIOD_NS,
            "it rings more often than it was told to",
        )
    })
}

/// One ring for all of them, and those behind it have their times.
pub(super) fn periods_that_nobody_saw_ring_once(guest: &Guest) -> Verdict {
    const UNSEEN: u64 = 40;
    with_timer(guest, |timer| {
        vcpu::set_periodic_timer(&timer.platform, FIRST, PERIOD_NS)?;
        let end_ns = timer.now_ns() + UNSEEN * PERIOD_NS;
        while timer.now_ns() < end_ns {
            core::hint::spin_loop();
        }
        let start_ns = timer.now_ns();
        for _ in 0..6 {
            let end_ns = timer.now_ns() + WAIT_NS;
            ensure(timer.rings_before(end_ns)?, "it did not ring again")?;
        }
        // One was pending, and the next may come at once.
        ensure(
            timer.now_ns() >= start_ns + 3 * PERIOD_NS,
            "it rings for each period that has passed",
        )
    })
}

pub(super) fn a_periodic_timer_stops(guest: &Guest) -> Verdict {
    with_timer(guest, |timer| {
        vcpu::set_periodic_timer(&timer.platform, FIRST, PERIOD_NS)?;
        let end_ns = timer.now_ns() + WAIT_NS;
        ensure(timer.rings_before(end_ns)?, "it did not ring")?;
        vcpu::stop_periodic_timer(&timer.platform, FIRST)?;
        // One that rang just before that.
        timer.bit.clear_pending();
        let end_ns = timer.now_ns() + 20 * PERIOD_NS;
        ensure(!timer.rings_before(end_ns)?, "it rings on")
    })
}

/// And 0 stops it.
pub(super) fn set_timer_op_sets_the_same_timer(guest: &Guest) -> Verdict {
    with_timer(guest, |timer| {
        let at_ns = timer.now_ns() + 5 * MS_NS;
        cpu::set_timer_op(&timer.platform, at_ns)?;
        ensure(timer.rings_before(at_ns + WAIT_NS)?, "it did not ring")?;
        for _ in 0..5 {
            let at_ns = timer.now_ns() + 50 * MS_NS;
            timer.set(at_ns)?;
            cpu::set_timer_op(&timer.platform, 0)?;
            let was_in_time = timer.now_ns() + 5 * MS_NS < at_ns;
            let rang = timer.rings_before(at_ns + 50 * MS_NS)?;
            if was_in_time {
                return ensure(!rang, "it was not stopped");
            }
        }
        Err("it could not be stopped in time".into())
    })
}
