//! The end: power off, start again, crash.

use hypercall_abi::{platform::Hypercall, sched};

use super::console;
use crate::{
    error::{Error, asking},
    hypervisor::current,
};

pub use hypercall_abi::sched::ShutdownReason;

/// Ends the guest, after the console was read.
pub fn shutdown(reason: ShutdownReason) -> ! {
    console::drain();
    let _no_xen: Result<usize, hypercall_abi::Errno> = sched::shutdown(&current(), reason);
    #[cfg(target_os = "none")]
    crate::arch::machine::off(reason);
    #[cfg(not(target_os = "none"))]
    loop {
        core::hint::spin_loop();
    }
}

/// Powers the guest off.
pub fn power_off() -> ! {
    shutdown(ShutdownReason::POWEROFF)
}

/// Asks the toolstack to start the guest again.
pub fn reboot() -> ! {
    shutdown(ShutdownReason::REBOOT)
}

/// Ends the guest as one that cannot go on.
pub fn crash() -> ! {
    shutdown(ShutdownReason::CRASH)
}

/// A watchdog of Xen's: if it is not fed in time, the domain ends with
/// [`ShutdownReason::WATCHDOG`] (or what its configuration says).
///
/// Dropping it does not stop it: a kernel that loses its watchdog has a fault.
#[derive(Debug)]
#[must_use]
pub struct Watchdog<H: Hypercall> {
    hypercall: H,
    id: u32,
    timeout_s: u32,
}

impl<H: Hypercall> Watchdog<H> {
    /// Starts a watchdog that wants to be fed every `timeout_s` seconds (at
    /// least one).
    ///
    /// # Errors
    /// There are two already, or no Xen.
    pub fn start(hypercall: H, timeout_s: u32) -> Result<Self, Error> {
        let timeout_s = timeout_s.max(1);
        let id = sched::watchdog(&hypercall, 0, timeout_s).map_err(asking("start a watchdog"))?;
        Ok(Self {
            hypercall,
            id,
            timeout_s,
        })
    }

    /// Starts its time anew.
    ///
    /// # Errors
    /// The hypervisor lost it.
    pub fn feed(&mut self) -> Result<(), Error> {
        sched::watchdog(&self.hypercall, self.id, self.timeout_s)
            .map(|_| ())
            .map_err(asking("feed a watchdog"))
    }

    /// Ends it.
    ///
    /// # Errors
    /// The hypervisor lost it.
    pub fn stop(self) -> Result<(), Error> {
        sched::watchdog(&self.hypercall, self.id, 0)
            .map(|_| ())
            .map_err(asking("stop a watchdog"))
    }
}
