//! Devices of a plain machine: its interrupt controllers and what ends it.

use hypercall_abi::sched::ShutdownReason;

use crate::{boot_info::GuestType, cpu::guest_type::guest_type};

/// The masks of the two interrupt controllers (8259).
const PIC_MASKS: [u16; 2] = [0x21, 0xa1];

/// Masks the legacy interrupt controllers. Firmware leaves the timer running, whose
/// interrupt arrives as vector 8, a double fault's; nothing here uses them.
pub(crate) fn mask_legacy_interrupts() {
    for port in PIC_MASKS {
        // SAFETY: the controllers belong to this kernel; where there are none, the write
        // has no effect.
        unsafe { x86::io::outb(port, 0xff) };
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
/// The keyboard controller (8042): its status, of which bit 1 says that it is busy, and
/// the command that pulses the processor's reset line.
const KEYBOARD_CONTROLLER_PORT: u16 = 0x64;
const KEYBOARD_BUSY: u8 = 2;
const PULSE_RESET: u8 = 0xfe;
/// Looks at a controller that is busy, or not there.
const TRIES: usize = 100_000;

/// Ends a machine that is not Xen's, by every way that it may have.
pub(crate) fn off(reason: ShutdownReason) -> ! {
    if guest_type() == Some(GuestType::Bare) {
        // SAFETY: on a machine without the device the write has no effect.
        unsafe { x86::io::outl(QEMU_EXIT_PORT, reason.0.min(UNNAMED_REASON)) };
        if reason == ShutdownReason::REBOOT {
            // SAFETY: resets the machine: nothing runs after it.
            unsafe { x86::io::outb(RESET_CONTROL_PORT, 6) };
        }
        // SAFETY: powers the machine off: nothing runs after it.
        unsafe { x86::io::outw(QEMU_ACPI_CONTROL_PORT, ACPI_SLEEP_ENABLE) };
        reset();
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

/// Resets a machine without ACPI: a monitor that has no way to power off ends then.
fn reset() -> ! {
    for _ in 0..TRIES {
        // SAFETY: reading the status of the controller (or of nothing) is harmless.
        if unsafe { x86::io::inb(KEYBOARD_CONTROLLER_PORT) } & KEYBOARD_BUSY == 0 {
            break;
        }
    }
    // SAFETY: resets the processor: nothing runs after it.
    unsafe { x86::io::outb(KEYBOARD_CONTROLLER_PORT, PULSE_RESET) };
    // The line takes a moment.
    for _ in 0..TRIES {
        core::hint::spin_loop();
    }
    let no_handlers = [0_u16; 5];
    // SAFETY: without handlers the breakpoint is a triple fault, which resets the
    // processor: nothing runs after it.
    unsafe {
        core::arch::asm!("lidt [{}]", "int3", in(reg) &no_handlers, options(noreturn));
    }
}
