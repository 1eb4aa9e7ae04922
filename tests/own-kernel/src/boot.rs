//! From the loader to [`crate::run`]: tables, a stack, and an interrupt table.

use core::arch::{asm, global_asm};

global_asm!(
    include_str!("boot.S"),
    start = sym start,
    fault = sym fault,
    options(att_syntax)
);

unsafe extern "C" {
    fn kernel_trap();
}

/// Exceptions have the first 32 vectors; this kernel has no interrupts.
const VECTORS: usize = 32;
/// Present, an interrupt gate; in the code segment of `boot.S`.
const GATE: u64 = 0x8e << 40 | 8 << 16;

static TABLE: spin::Once<[[u64; 2]; VECTORS]> = spin::Once::new();

/// Where `boot.S` leads.
extern "C" fn start(start_info: u64) -> ! {
    let handler = kernel_trap as *const () as u64;
    let low = GATE | handler & 0xffff | (handler >> 16 & 0xffff) << 48;
    let table = TABLE.call_once(|| [[low, handler >> 32]; VECTORS]);
    let limit = (size_of_val(table) - 1) as u16;
    let base = (&raw const *table).addr();
    let mut place = [0; 10];
    place[..2].copy_from_slice(&limit.to_le_bytes());
    place[2..].copy_from_slice(&base.to_le_bytes());
    // SAFETY: a table of gates that lead to `kernel_trap`, which stays where it is.
    unsafe { asm!("lidt [{}]", in(reg) &place, options(readonly, nostack)) };
    crate::run(start_info)
}

/// An exception: `frame` is what the processor pushed, an error code first for some.
extern "C" fn fault(frame: *const [u64; 4]) -> ! {
    // SAFETY: on the stack, where the processor and `boot.S` put it.
    panic!("exception: {:x?}", unsafe { frame.read() })
}

/// The processor's counter.
pub(crate) fn counter() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}
