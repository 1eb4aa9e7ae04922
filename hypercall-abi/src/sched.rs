//! Yield, sleep, end: `xen/include/public/sched.h`.

use crate::{DomId, Errno, HypercallNr, Mfn, Port, call::subop, platform::Hypercall};

crate::facts::open_enum! {
    /// Why a domain ended.
    pub struct ShutdownReason(u32) {
        /// The domain is done.
        POWEROFF = 0, "SHUTDOWN_poweroff";
        /// It wants to start again.
        REBOOT = 1, "SHUTDOWN_reboot";
        /// It is ready to be saved.
        SUSPEND = 2, "SHUTDOWN_suspend";
        /// It cannot go on.
        CRASH = 3, "SHUTDOWN_crash";
        /// Its watchdog was not fed.
        WATCHDOG = 4, "SHUTDOWN_watchdog";
        /// It wants to start again in the same memory.
        SOFT_RESET = 5, "SHUTDOWN_soft_reset";
    }
}

crate::facts::constants! {
    /// The greatest reason.
    SHUTDOWN_MAX: u32 = 5;
    /// Let others run.
    SCHEDOP_YIELD: usize = 0, "SCHEDOP_yield";
    /// Sleep until an upcall.
    SCHEDOP_BLOCK: usize = 1, "SCHEDOP_block";
    /// End the domain.
    SCHEDOP_SHUTDOWN: usize = 2, "SCHEDOP_shutdown";
    /// Sleep until a port is pending.
    SCHEDOP_POLL: usize = 3, "SCHEDOP_poll";
    /// End another domain (toolstack).
    SCHEDOP_REMOTE_SHUTDOWN: usize = 4, "SCHEDOP_remote_shutdown";
    /// Set the reason before another domain ends this one.
    SCHEDOP_SHUTDOWN_CODE: usize = 5, "SCHEDOP_shutdown_code";
    /// A watchdog.
    SCHEDOP_WATCHDOG: usize = 6, "SCHEDOP_watchdog";
    /// Tie a vCPU to a processor (initial domain).
    SCHEDOP_PIN_OVERRIDE: usize = 7, "SCHEDOP_pin_override";
}

crate::facts::structs! {
    /// The argument of `SCHEDOP_shutdown` and `SCHEDOP_shutdown_code`.
    "sched_shutdown" 4
    pub struct SchedShutdown {
        /// Why.
        reason: ShutdownReason = 0,
    }

    /// The argument of `SCHEDOP_poll`.
    "sched_poll" 24
    pub struct SchedPoll {
        /// The address of the ports.
        ports: u64 = 0,
        /// How many there are, at most 128.
        nr_ports: u32 = 8,
        #[doc(hidden)]
        _gap0: [u8; 4] = 12,
        /// The system time to wake at, in nanoseconds; zero: never.
        timeout: u64 = 16,
    }

    /// The argument of `SCHEDOP_remote_shutdown`.
    "sched_remote_shutdown" 8
    pub struct SchedRemoteShutdown {
        /// Which domain.
        domain_id: DomId = 0,
        #[doc(hidden)]
        _gap0: [u8; 2] = 2,
        /// Why.
        reason: ShutdownReason = 4,
    }

    /// The argument of `SCHEDOP_watchdog`.
    "sched_watchdog" 8
    pub struct SchedWatchdog {
        /// Zero for a new one.
        id: u32 = 0,
        /// Seconds; zero: stop it.
        timeout: u32 = 4,
    }

    /// The argument of `SCHEDOP_pin_override`.
    "sched_pin_override" 4
    pub struct SchedPinOverride {
        /// The processor; negative: no longer.
        pcpu: i32 = 0,
    }
}

impl ShutdownReason {
    /// The name, without `SHUTDOWN_`.
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
///
/// # Safety
/// No code on this vCPU relies on upcalls being held back across this call: a lock that
/// an upcall may take is not locked, and nothing is in the middle of a change that an
/// upcall looks at.
#[inline]
pub unsafe fn block<H: Hypercall + ?Sized>(h: &H) -> Result<(), Errno> {
    // SAFETY: no argument; the rest is this function's contract.
    let answer = unsafe { h.call2(HypercallNr::SCHED_OP, SCHEDOP_BLOCK, 0) };
    Errno::check(answer).map(|_| ())
}

/// The time of a [`SchedPoll`]. Zero means none, so the first nanosecond is the least;
/// what Xen would take for a time before its start is never reached.
const fn timeout(timeout_ns: Option<u64>) -> u64 {
    match timeout_ns {
        None | Some(0x8000_0000_0000_0000..) => 0,
        Some(0) => 1,
        Some(ns) => ns,
    }
}

impl SchedPoll {
    /// Asks for `ports`, which it points to: they must outlive its use.
    ///
    /// # Errors
    /// `EINVAL`: they are more than can be told.
    #[inline]
    pub fn new(ports: &[Port], timeout_ns: Option<u64>) -> Result<Self, Errno> {
        Ok(Self {
            ports: ports.as_ptr().expose_provenance() as u64,
            nr_ports: u32::try_from(ports.len()).map_err(|_| Errno::EINVAL)?,
            timeout: timeout(timeout_ns),
            ..Self::default()
        })
    }
}

/// Sleeps until one of `ports` is pending, or system time reaches
/// `timeout_ns`; it may return earlier. Any guest may.
///
/// # Errors
/// `EINVAL`: more than 128 ports, or one out of range; `ENOSYS`: not offered.
#[inline]
pub fn poll<H: Hypercall + ?Sized>(
    h: &H,
    ports: &[Port],
    timeout_ns: Option<u64>,
) -> Result<(), Errno> {
    let mut arg = SchedPoll::new(ports, timeout_ns)?;
    // SAFETY: the hypervisor reads `arg` and the ports; both outlive the call.
    unsafe { subop(h, HypercallNr::SCHED_OP, SCHEDOP_POLL, &mut arg) }.map(|_| ())
}

/// Ends the domain. Returns only if there is no Xen, or with an error. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen; `EINVAL`: [`ShutdownReason::SUSPEND`], after which a domain
/// goes on, and Xen is not asked: see [`suspend`].
#[inline]
pub fn shutdown<H: Hypercall + ?Sized>(h: &H, reason: ShutdownReason) -> Result<usize, Errno> {
    if reason == ShutdownReason::SUSPEND {
        return Err(Errno::EINVAL);
    }
    let mut arg = SchedShutdown { reason };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, HypercallNr::SCHED_OP, SCHEDOP_SHUTDOWN, &mut arg) }
}

/// That the domain was suspended and goes on elsewhere, once: for whoever then has to begin
/// anew, and must not do so at any other time.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what this domain had is gone, and whoever manages it is to be told"]
pub struct Resumed(());

impl Resumed {
    /// For a kernel that suspends itself by other means than [`suspend`].
    ///
    /// # Safety
    /// It did, and goes on in new frames, without the ports and grants that it had. This
    /// is called once for each time.
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

/// What became of a domain that suspended itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Suspended {
    /// It was saved, and goes on in new frames, on this host or another: its
    /// ports, grants, timers and watches are gone.
    Resumed(Resumed),
    /// It was not: all is as it was, but time has passed.
    Cancelled,
}

/// Suspends the domain, whose other vCPUs are down: it is ready to be saved.
/// `start_info` is the frame of a PV guest's
/// [`StartInfo`](crate::xen::StartInfo), which is written anew if the domain is
/// resumed elsewhere; other guests have none. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
///
/// # Safety
/// The frame is that of the start information, to which no reference leads: it
/// changes. What this kernel does afterwards expects neither old frames nor old
/// ports if it was resumed.
#[inline]
pub unsafe fn suspend<H: Hypercall + ?Sized>(
    h: &H,
    start_info: Option<Mfn>,
) -> Result<Suspended, Errno> {
    let mut arg = SchedShutdown {
        reason: ShutdownReason::SUSPEND,
    };
    let address = (&raw mut arg).expose_provenance();
    let frame = start_info.map_or(0, |mfn| mfn.0 as usize);
    // SAFETY: the hypervisor reads `arg`, which outlives the call; the rest is the
    // caller's promise.
    let answer = unsafe { h.call3(HypercallNr::SCHED_OP, SCHEDOP_SHUTDOWN, address, frame) };
    Errno::check(answer).map(|answer| match answer {
        0 => Suspended::Resumed(Resumed(())),
        _ => Suspended::Cancelled,
    })
}

/// Sets the reason that is told if the domain is ended from outside (by a
/// watchdog of the toolstack's, say). Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn shutdown_code<H: Hypercall + ?Sized>(h: &H, reason: ShutdownReason) -> Result<(), Errno> {
    let mut arg = SchedShutdown { reason };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    unsafe { subop(h, HypercallNr::SCHED_OP, SCHEDOP_SHUTDOWN_CODE, &mut arg) }.map(|_| ())
}

/// Starts (`id` zero), feeds or stops (`timeout_s` zero) a watchdog, and
/// returns its number. One that is started with no time at all ends the domain at
/// once. Any guest may.
///
/// # Errors
/// `ENOSPC`: there are two already; `EINVAL`, `EEXIST`: no such watchdog.
#[inline]
pub fn watchdog<H: Hypercall + ?Sized>(h: &H, id: u32, timeout_s: u32) -> Result<u32, Errno> {
    let mut arg = SchedWatchdog {
        id,
        timeout: timeout_s,
    };
    // SAFETY: the hypervisor reads `arg`, which outlives the call.
    let answer = unsafe { subop(h, HypercallNr::SCHED_OP, SCHEDOP_WATCHDOG, &mut arg) }?;
    // Xen (4.17 to 4.21) tells ENOSPC as a number of 32 bits, which is positive.
    let id = Errno::check((answer as u32).cast_signed() as isize)?;
    Ok(id as u32)
}
