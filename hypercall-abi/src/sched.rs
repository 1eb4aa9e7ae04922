//! Yield, sleep, end: `xen/include/public/sched.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Errno, HypercallNr, Port, layout, platform::Hypercall};

/// Let others run.
#[doc(alias = "SCHEDOP_yield")]
pub const SCHEDOP_YIELD: usize = 0;
/// Sleep until an upcall.
#[doc(alias = "SCHEDOP_block")]
pub const SCHEDOP_BLOCK: usize = 1;
/// End the domain.
#[doc(alias = "SCHEDOP_shutdown")]
pub const SCHEDOP_SHUTDOWN: usize = 2;
/// Sleep until a port is pending.
#[doc(alias = "SCHEDOP_poll")]
pub const SCHEDOP_POLL: usize = 3;
/// End another domain (toolstack).
#[doc(alias = "SCHEDOP_remote_shutdown")]
pub const SCHEDOP_REMOTE_SHUTDOWN: usize = 4;
/// Set the reason before another domain ends this one.
#[doc(alias = "SCHEDOP_shutdown_code")]
pub const SCHEDOP_SHUTDOWN_CODE: usize = 5;
/// A watchdog.
#[doc(alias = "SCHEDOP_watchdog")]
pub const SCHEDOP_WATCHDOG: usize = 6;
/// Tie a vCPU to a processor (initial domain).
#[doc(alias = "SCHEDOP_pin_override")]
pub const SCHEDOP_PIN_OVERRIDE: usize = 7;

/// Why a domain ended. Source: `SHUTDOWN_*`, `sched.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct ShutdownReason(pub u32);

impl ShutdownReason {
    /// The domain is done.
    #[doc(alias = "SHUTDOWN_poweroff")]
    pub const POWEROFF: Self = Self(0);
    /// It wants to start again.
    #[doc(alias = "SHUTDOWN_reboot")]
    pub const REBOOT: Self = Self(1);
    /// It is ready to be saved.
    #[doc(alias = "SHUTDOWN_suspend")]
    pub const SUSPEND: Self = Self(2);
    /// It cannot go on.
    #[doc(alias = "SHUTDOWN_crash")]
    pub const CRASH: Self = Self(3);
    /// Its watchdog was not fed.
    #[doc(alias = "SHUTDOWN_watchdog")]
    pub const WATCHDOG: Self = Self(4);
    /// It wants to start again in the same memory.
    #[doc(alias = "SHUTDOWN_soft_reset")]
    pub const SOFT_RESET: Self = Self(5);

    /// The name, as Xen's headers have it.
    pub const fn name(self) -> Option<&'static str> {
        match self.0 {
            0 => Some("poweroff"),
            1 => Some("reboot"),
            2 => Some("suspend"),
            3 => Some("crash"),
            4 => Some("watchdog"),
            5 => Some("soft_reset"),
            _ => None,
        }
    }
}

impl core::fmt::Debug for ShutdownReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "reason {}", self.0),
        }
    }
}

/// The argument of `SCHEDOP_poll`. Source: `struct sched_poll`, `sched.h`.
#[doc(alias = "sched_poll")]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedPoll {
    /// The address of the ports.
    pub ports: u64,
    /// How many there are, at most 128.
    pub nr_ports: u32,
    #[doc(hidden)]
    pub _pad: u32,
    /// The system time to wake at, in nanoseconds; zero: never.
    pub timeout: u64,
}

layout!(SchedPoll: 24 { ports: 0..8, nr_ports: 8..12, timeout: 16..24 });

/// The argument of `SCHEDOP_watchdog`. Source: `struct sched_watchdog`.
#[doc(alias = "sched_watchdog")]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedWatchdog {
    /// Zero for a new one.
    pub id: u32,
    /// Seconds; zero: stop it.
    pub timeout: u32,
}

layout!(SchedWatchdog: 8 { id: 0..4, timeout: 4..8 });

/// Lets other vCPUs run. Any guest may.
#[inline]
pub fn yield_now<H: Hypercall + ?Sized>(h: &H) {
    // SAFETY: no argument. Where there is no Xen there is nobody to yield to.
    unsafe { h.call2(HypercallNr::SCHED_OP, SCHEDOP_YIELD, 0) };
}

/// Unmasks upcalls and sleeps until one is due. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn block<H: Hypercall + ?Sized>(h: &H) -> Result<(), Errno> {
    // SAFETY: no argument.
    let answer = unsafe { h.call2(HypercallNr::SCHED_OP, SCHEDOP_BLOCK, 0) };
    Errno::check(answer).map(|_| ())
}

/// Sleeps until one of `ports` is pending, or system time reaches
/// `timeout_ns`. Any guest may.
///
/// # Errors
/// `EINVAL`: more than 128 ports, or one out of range; `ENOSYS`: not offered.
#[inline]
pub fn poll<H: Hypercall + ?Sized>(
    h: &H,
    ports: &[Port],
    timeout_ns: Option<u64>,
) -> Result<(), Errno> {
    let arg = SchedPoll {
        ports: ports.as_ptr().expose_provenance() as u64,
        nr_ports: u32::try_from(ports.len()).map_err(|_| Errno::EINVAL)?,
        _pad: 0,
        // Zero means no timeout; the first nanosecond is long over.
        timeout: timeout_ns.map_or(0, |ns| ns.max(1)),
    };
    // SAFETY: the hypervisor reads `arg` and the ports; both outlive the call.
    let answer = unsafe {
        h.call2(
            HypercallNr::SCHED_OP,
            SCHEDOP_POLL,
            (&raw const arg).expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| ())
}

/// Ends the domain. Returns only if there is no Xen, or after
/// [`ShutdownReason::SUSPEND`] (zero: resumed elsewhere; one: it went on here).
/// Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn shutdown<H: Hypercall + ?Sized>(h: &H, reason: ShutdownReason) -> Result<usize, Errno> {
    // SAFETY: the hypervisor reads struct sched_shutdown: the reason.
    let answer = unsafe {
        h.call2(
            HypercallNr::SCHED_OP,
            SCHEDOP_SHUTDOWN,
            (&raw const reason).expose_provenance(),
        )
    };
    Errno::check(answer)
}

/// Starts (`id` zero), feeds or stops (`timeout_s` zero) a watchdog, and
/// returns its number. Any guest may.
///
/// # Errors
/// `ENOSPC`: there are two already; `EINVAL`, `EEXIST`: no such watchdog.
#[inline]
pub fn watchdog<H: Hypercall + ?Sized>(h: &H, id: u32, timeout_s: u32) -> Result<u32, Errno> {
    let arg = SchedWatchdog {
        id,
        timeout: timeout_s,
    };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    let answer = unsafe {
        h.call2(
            HypercallNr::SCHED_OP,
            SCHEDOP_WATCHDOG,
            (&raw const arg).expose_provenance(),
        )
    };
    Errno::check(answer).map(|id| id as u32)
}
