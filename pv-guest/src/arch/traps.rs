//! Exceptions on hardware: Xen's table of handlers, or the processor's.

use core::{
    cell::UnsafeCell,
    sync::atomic::{AtomicPtr, AtomicU8, Ordering},
};

use hypercall_abi::{
    Errno,
    sched::ShutdownReason,
    trap,
    xen::traps::{FLAT_KERNEL_CS, TI_MASK_EVENTS, TrapInfo, set_trap_table},
};
use x86::{
    dtables::{DescriptorTablePointer, lgdt, lidt},
    segmentation::SegmentSelector,
    task::load_tr,
};

use super::{image, interrupts, machine};
use crate::{
    boot_info::GuestType,
    cpu::shared_info,
    trap::{Frame, Outcome, handle},
};

/// Not zero: exceptions return by Xen's iret.
static IS_PV: AtomicU8 = AtomicU8::new(0);

core::arch::global_asm!(
    include_str!("traps.S"),
    trap = sym on_trap,
    is_pv = sym IS_PV,
    options(att_syntax)
);

unsafe extern "C" {
    static pv_guest_trap_stubs: u8;
}

/// Bytes from one stub pair to the next, and from Xen's to the processor's.
const STUB_BYTES: u64 = 12;
const HARDWARE_STUB: u64 = 3;
/// Those of exceptions.
const VECTORS: usize = 32;
/// And of interrupts.
const ALL_VECTORS: usize = VECTORS + 3;

pub(crate) fn stub(vector: usize) -> u64 {
    (&raw const pv_guest_trap_stubs).addr() as u64 + vector as u64 * STUB_BYTES
}

pub(crate) fn set_exit(guest_type: GuestType) {
    IS_PV.store(u8::from(guest_type == GuestType::Pv), Ordering::Relaxed);
}

/// Tells Xen the handlers of a PV guest.
pub(crate) fn init_pv() -> Result<(), Errno> {
    // One more than there are vectors: a zero entry ends the table.
    let mut table = [TrapInfo::default(); VECTORS + 1];
    for (vector, entry) in table.iter_mut().take(VECTORS).enumerate() {
        // Breakpoint and overflow may be raised by instruction.
        let privilege = if vector == 3 || vector == 4 { 3 } else { 0 };
        *entry = TrapInfo {
            vector: vector as u8,
            flags: privilege | TI_MASK_EVENTS,
            cs: FLAT_KERNEL_CS,
            _gap0: [0; 4],
            address: stub(vector),
        };
    }
    // SAFETY: the stubs are made for it, and the last entry is zero.
    unsafe { set_trap_table(&trap::Native, &table) }
}

/// The processor's tables: written once, before they are loaded.
#[repr(C, align(16))]
struct Tables {
    gdt: [u64; 5],
    idt: [[u64; 2]; ALL_VECTORS],
    /// The task state: 26 words of four bytes.
    tss: [u32; 26],
}

struct TablesCell(UnsafeCell<Tables>);

// SAFETY: written only by `init_hardware`, on one processor, before use.
unsafe impl Sync for TablesCell {}

static TABLES: TablesCell = TablesCell(UnsafeCell::new(Tables {
    gdt: [0; 5],
    idt: [[0; 2]; ALL_VECTORS],
    tss: [0; 26],
}));

const CODE_SELECTOR: u64 = 0x08;
const TASK_SELECTOR: u16 = 0x18;

/// Vectors that get the fault stack: those that come when the other may be
/// unusable. Non-maskable interrupt, double fault, machine check.
const ON_FAULT_STACK: [usize; 3] = [2, 8, 18];

/// Loads the processor's own tables.
pub(crate) fn init_hardware() {
    let tables = TABLES.0.get();
    // SAFETY: called once at boot, on one processor: nobody else looks.
    let tables = unsafe { &mut *tables };
    for (vector, entry) in tables.idt.iter_mut().enumerate() {
        let handler = stub(vector) + HARDWARE_STUB;
        let stack = u64::from(ON_FAULT_STACK.contains(&vector));
        // Present, 64-bit interrupt gate.
        *entry = [
            (handler & 0xffff)
                | (CODE_SELECTOR << 16)
                | (stack << 32)
                | (0x8e << 40)
                | ((handler >> 16 & 0xffff) << 48),
            handler >> 32,
        ];
    }
    // Interrupt stack 1 is words 9 and 10; no I/O bitmap.
    let top = image::fault_stack_top();
    let [_, _, _, _, _, _, _, _, _, low, high, .., io] = &mut tables.tss;
    *low = top as u32;
    *high = (top >> 32) as u32;
    *io = (size_of::<[u32; 26]>() as u32) << 16;
    let task = (&raw const tables.tss).addr() as u64;
    let limit = size_of::<[u32; 26]>() as u64 - 1;
    // None, 64-bit code, data, and the task state in two.
    tables.gdt = [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        limit | ((task & 0xff_ffff) << 16) | (0x89 << 40) | ((task >> 24 & 0xff) << 56),
        task >> 32,
    ];
    let gdt = DescriptorTablePointer::new(&tables.gdt);
    let idt = DescriptorTablePointer::new(&tables.idt);
    // SAFETY: a static table with the segments that are in use.
    unsafe { lgdt(&gdt) };
    // SAFETY: a static table of handlers.
    unsafe { lidt(&idt) };
    // SAFETY: the descriptor was made above.
    unsafe { load_tr(SegmentSelector::from_raw(TASK_SELECTOR)) };
}

/// What ends the guest at an exception that nobody handles: a [`Fatal`], or null.
static FATAL: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Reports an exception, with the address of the last page fault, and ends the guest.
type Fatal = fn(&Frame, u64) -> !;

/// Has `report` called at an exception that nobody handles.
pub(crate) fn set_fatal(report: Fatal) {
    FATAL.store(report as *mut (), Ordering::Relaxed);
}

/// The address of the last page fault.
fn fault_address() -> u64 {
    if IS_PV.load(Ordering::Relaxed) == 0 {
        // SAFETY: reading cr2 is harmless in ring 0.
        unsafe { x86::controlregs::cr2() as u64 }
    } else {
        shared_info::pv_cr2()
    }
}

/// Where the stubs lead.
extern "C" fn on_trap(frame: &mut Frame) {
    if interrupts::interrupt(frame.vector) || handle(frame, fault_address) == Outcome::Resume {
        return;
    }
    let report = FATAL.load(Ordering::Relaxed);
    if report.is_null() {
        // Before there are words for it.
        machine::off(ShutdownReason::CRASH);
    }
    // SAFETY: what is stored there is a `Fatal`.
    let report = unsafe { core::mem::transmute::<*mut (), Fatal>(report) };
    report(frame, fault_address())
}

/// This place: instruction and frame pointer.
pub(crate) fn here() -> (u64, u64) {
    let (rip, rbp);
    // SAFETY: reads two registers.
    unsafe {
        core::arch::asm!(
            "lea {rip}, [rip]", "mov {rbp}, rbp",
            rip = out(reg) rip, rbp = out(reg) rbp,
            options(nomem, nostack, preserves_flags),
        );
    }
    (rip, rbp)
}
