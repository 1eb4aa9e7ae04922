//! The local APIC, by its registers' newer form (x2APIC): Intel SDM volume 3,
//! 12.12.

use x86::msr::{rdmsr, wrmsr};

use hypercall_abi::arch_x86::cpuid::Cpuid;

use super::interrupts::set_interrupt;

const IA32_APIC_BASE: u32 = 0x1b;
/// On, and by model specific registers.
const ENABLE: u64 = 1 << 11 | 1 << 10;
const END_OF_INTERRUPT: u32 = 0x80b;
const SPURIOUS: u32 = 0x80f;
/// Software enable.
const SOFTWARE_ENABLE: u64 = 1 << 8;
const TIMER: u32 = 0x832;
const INITIAL_COUNT: u32 = 0x838;
const CURRENT_COUNT: u32 = 0x839;
const DIVIDE: u32 = 0x83e;
/// Not divided.
const DIVIDE_BY_ONE: u64 = 0b1011;
const MASKED: u64 = 1 << 16;

/// The vector of the timer.
const TIMER_VECTOR: u32 = 33;
/// The vector of interrupts that were taken back.
const SPURIOUS_VECTOR: u32 = 34;

fn read(register: u32) -> u64 {
    // SAFETY: all callers name a register of the APIC, which is on.
    unsafe { rdmsr(register) }
}

fn write(register: u32, value: u64) {
    // SAFETY: as above; the handlers for all vectors in use are there.
    unsafe { wrmsr(register, value) }
}

/// Switches it on; false if there is none of this form.
pub(crate) fn enable() -> bool {
    if !has_apic() {
        return false;
    }
    write(IA32_APIC_BASE, read(IA32_APIC_BASE) | ENABLE);
    write(SPURIOUS, SOFTWARE_ENABLE | u64::from(SPURIOUS_VECTOR));
    true
}

/// The interrupt was taken.
pub(crate) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Has the timer ring once after so many of its ticks, at least one.
pub(crate) fn set_timer(ticks: u32) {
    set_interrupt(TIMER_VECTOR, end_of_interrupt);
    write(TIMER, u64::from(TIMER_VECTOR));
    write(INITIAL_COUNT, u64::from(ticks.max(1)));
}

/// Counts how many ticks pass in `wait`.
pub(crate) fn count_ticks(wait: impl FnOnce()) -> u64 {
    write(DIVIDE, DIVIDE_BY_ONE);
    write(TIMER, MASKED | u64::from(TIMER_VECTOR));
    write(INITIAL_COUNT, u64::from(u32::MAX));
    wait();
    let ticks = u64::from(u32::MAX) - read(CURRENT_COUNT);
    write(INITIAL_COUNT, 0);
    ticks
}

/// Whether the processor has the local APIC in the form that is used here.
fn has_apic() -> bool {
    // Bit 21 of ecx: x2APIC.
    Cpuid::PLAIN.leaf(1, 0).ecx & (1 << 21) != 0
}
