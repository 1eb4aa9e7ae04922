//! The guest on hardware: entry, memory, traps, time, and [`Native`], the
//! platform that ties them together.

mod apic;
mod image;
mod machine;
pub mod memory;
mod paging;
mod platform;
mod pv;
mod pv_tables;
mod pvh;
pub(crate) mod serial;
mod timer;
mod traps;
mod tsc;
pub(crate) mod upcalls;
mod window;

use core::sync::atomic::{AtomicU8, Ordering};

use hypercall_abi::xen::console_io;

use crate::{
    BootInfo, Error, Guest, GuestType, clock::ClockSource, guest::SharedPage, number::Decimal,
};

pub(crate) use machine::off as machine_off;
pub use platform::Native;

// Handlers of events and faults save no vector registers, so that code between them may
// use these by assembly.
#[cfg(target_feature = "sse")]
compile_error!(
    "pv-guest is for targets without vector registers in compiled code, like x86_64-unknown-none: \
     its handlers do not save them"
);

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

/// What the clock of this guest reads.
pub(crate) fn clock_source() -> ClockSource {
    match (guest_type(), tsc::rate()) {
        (Some(GuestType::Bare), Some(rate)) => ClockSource::Tsc(rate),
        _ => ClockSource::Xen,
    }
}

/// Whether the sleep of a vCPU tells what was held back until then: that of a PV
/// guest does, in one trap.
#[cfg(feature = "alloc")]
pub(crate) fn sleep_tells() -> bool {
    guest_type() == Some(GuestType::Pv)
}

/// The last part of every boot: memory, traps and console work. No shared page: there is
/// no Xen.
///
/// # Safety
/// As for [`Guest::use_rings`], if there is a shared page.
unsafe fn run(info: BootInfo, shared: Option<SharedPage>) -> Result<(), Error> {
    let mut guest = Guest::adopt(Native, info);
    if let Some(shared) = shared {
        // SAFETY: the caller's promise.
        unsafe { guest.use_rings(shared) }?;
    }
    #[cfg(feature = "heap")]
    // SAFETY: a constant of the kernel's.
    crate::memory::heap::set_limit(unsafe { PV_GUEST_HEAP_BYTES });
    // SAFETY: `entry!` defines it with this type.
    unsafe { pv_guest_main(guest) }
}

/// What a panic says of itself.
struct Panic<'i>(&'i core::panic::PanicInfo<'i>);

impl core::fmt::Display for Panic<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("panicked at ")?;
        if let Some(place) = self.0.location() {
            f.write_str(place.file())?;
            let (line, column) = (u64::from(place.line()), u64::from(place.column()));
            write!(f, ":{}:{}", Decimal(line), Decimal(column))?;
        }
        f.write_str(":\n")?;
        self.0.message().fmt(f)?;
        f.write_str("\n")
    }
}

/// What the panic handler of `entry!` does.
pub fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crate::console::print_dying(format_args!("FATAL: {}", Panic(info)));
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
