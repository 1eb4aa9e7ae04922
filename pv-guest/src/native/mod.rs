//! The guest on hardware: entry, memory, traps, time, and [`Native`], the
//! platform that ties them together.

mod apic;
mod image;
pub mod memory;
mod paging;
mod platform;
mod pv;
mod pvh;
pub(crate) mod serial;
mod timer;
mod traps;
mod tsc;
pub(crate) mod upcalls;
mod window;

use core::sync::atomic::{AtomicU8, Ordering};

use hypercall_abi::{sched::ShutdownReason, xen::console_io};

use crate::{Error, Guest, GuestType};

pub use platform::Native;

core::arch::global_asm!(
    include_str!("entry.S"),
    start_pv = sym pv::start,
    start_pvh = sym pvh::start,
    options(att_syntax)
);

unsafe extern "Rust" {
    // What `entry!` defines.
    fn pv_guest_main(guest: Guest) -> Result<(), Error>;
    #[cfg(feature = "heap")]
    static PV_GUEST_HEAP_BYTES: usize;
}

/// How this guest is virtualized: 0 not known yet, 1 PV, 2 PVH, 3 bare.
static GUEST_TYPE: AtomicU8 = AtomicU8::new(0);

fn set_guest_type(guest_type: GuestType) {
    let number = match guest_type {
        GuestType::Pv => 1,
        GuestType::Pvh => 2,
        GuestType::Bare => 3,
    };
    GUEST_TYPE.store(number, Ordering::Relaxed);
    traps::set_exit(guest_type);
}

pub(crate) fn guest_type() -> Option<GuestType> {
    match GUEST_TYPE.load(Ordering::Relaxed) {
        1 => Some(GuestType::Pv),
        2 => Some(GuestType::Pvh),
        3 => Some(GuestType::Bare),
        _ => None,
    }
}

/// Whether the sleep of a vCPU tells what was held back until then: that of a PV
/// guest does, in one trap.
#[cfg(feature = "alloc")]
pub(crate) fn sleep_tells() -> bool {
    guest_type() == Some(GuestType::Pv)
}

/// The last part of every boot: memory, traps and console work.
fn run(guest: Result<Guest, Error>) -> ! {
    let result = guest.and_then(|guest| {
        #[cfg(feature = "heap")]
        // SAFETY: a constant of the kernel's.
        crate::memory::heap::set_limit(unsafe { PV_GUEST_HEAP_BYTES });
        // SAFETY: `entry!` defines it with this type.
        unsafe { pv_guest_main(guest) }
    });
    crate::entry::finish(result)
}

/// What the panic handler of `entry!` does.
pub fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crate::console::print_dying(format_args!("FATAL: {info}\n"));
    traps::print_backtrace(traps::here());
    crate::power::crash()
}

/// The port to which a guest of Xen's can write to Xen's log.
const XEN_LOG_PORT: u16 = 0xe9;

/// Output while there is no console: wherever there is a way.
pub(crate) fn emergency_write(bytes: &[u8]) {
    match guest_type() {
        Some(GuestType::Pv) => {
            let _refused: Result<(), hypercall_abi::Errno> = console_io::write(&Native, bytes);
        }
        Some(GuestType::Pvh) => {
            for byte in bytes {
                // SAFETY: Xen takes this port's bytes for its log.
                unsafe { x86::io::outb(XEN_LOG_PORT, *byte) };
            }
        }
        Some(GuestType::Bare) => serial::write(bytes),
        None => {}
    }
}

/// QEMU's exit device, where there is one: exits with twice the value plus one.
const QEMU_EXIT_PORT: u16 = 0xf4;
/// What it is told of all reasons that have no name: QEMU's exit status is a byte, and
/// would be another reason's for some of them.
const UNNAMED_REASON: u32 = ShutdownReason::SOFT_RESET.0 + 1;
/// ACPI's power management control on QEMU's q35 and pc machines.
const QEMU_ACPI_CONTROL_PORT: u16 = 0x604;
/// "Enter sleep state 5".
const ACPI_SLEEP_ENABLE: u16 = 0x2000;
/// The chipset's reset control.
const RESET_CONTROL_PORT: u16 = 0xcf9;

/// Ends a machine that is not Xen's, by every way that it may have.
pub(crate) fn machine_off(reason: ShutdownReason) -> ! {
    if guest_type() == Some(GuestType::Bare) {
        // SAFETY: on a machine without the device the write has no effect.
        unsafe { x86::io::outl(QEMU_EXIT_PORT, reason.0.min(UNNAMED_REASON)) };
        if reason == ShutdownReason::REBOOT {
            // SAFETY: resets the machine: nothing runs after it.
            unsafe { x86::io::outb(RESET_CONTROL_PORT, 6) };
        }
        // SAFETY: powers the machine off: nothing runs after it.
        unsafe { x86::io::outw(QEMU_ACPI_CONTROL_PORT, ACPI_SLEEP_ENABLE) };
    }
    loop {
        if guest_type() == Some(GuestType::Pv) {
            core::hint::spin_loop();
        } else {
            // SAFETY: the processor sleeps for good.
            unsafe { core::arch::asm!("cli", "hlt", options(nomem, nostack)) };
        }
    }
}
