//! Exceptions: how they come, and how the guest returns from them.

use core::arch::naked_asm;

use hypercall_abi::platform::Pages;
use pv_guest::{Guest, GuestType, trap};

use crate::{
    claim::{
        Group, IS_PROCESS, Stop, Verdict, claims, ensure, everywhere, on_processor, on_xen, same,
        with_privileges,
    },
    probe::{self, Caught, Probe, Then},
};

pub(super) const GROUP: Group = Group {
    name: "traps",
    claims: claims! {
        everywhere(breakpoint_returns): "arch-x86/xen.h: set_trap_table",
        everywhere(a_breakpoint_is_told_behind_it): "Intel SDM 3, 7.15: vector 3",
        everywhere(a_breakpoint_by_number_is_one): "Intel SDM 3, 7.15: vector 3",
        everywhere(an_overflow_by_number_is_one): "arch-x86/xen.h: TI_GET_DPL",
        on_processor(an_instruction_breakpoint_is_a_debug_exception): "Intel SDM 3, 7.15: vector 1",
        everywhere(an_undefined_instruction_is_told_at_it): "Intel SDM 3, 7.15: vector 6",
        everywhere(a_division_by_zero_is_told_at_it): "Intel SDM 3, 7.15: vector 0",
        everywhere(an_interrupt_without_a_gate_is_refused): "Intel SDM 3, 7.13: error code",
        everywhere(a_selector_of_nothing_is_refused): "Intel SDM 3, 7.13: error code",
        everywhere(a_wild_address_is_a_protection_fault): "Intel SDM 3, 7.15: vector 13",
        on_xen(an_unknown_register_of_the_model_is_refused): "Intel SDM 3, 7.15: vector 13",
        everywhere(a_read_of_nothing_tells_where): "arch-x86/xen.h: arch_vcpu_info, cr2",
        everywhere(a_write_of_nothing_says_that_it_wrote): "arch-x86/xen.h: arch_vcpu_info, cr2",
        everywhere(code_is_not_written): "Intel SDM 3, 7.15: vector 14",
        everywhere(data_is_not_executed): "Intel SDM 3, 7.15: vector 14",
        everywhere(a_step_stops_behind_an_instruction): "Intel SDM 3, 7.15: vector 1",
        everywhere(a_trap_keeps_all_registers): "arch-x86/xen.h: HYPERVISOR_iret",
        everywhere(a_trap_keeps_the_flags): "arch-x86/xen.h: HYPERVISOR_iret",
        on_processor(a_trap_aligns_the_stack): "Intel SDM 3, 7.14.2: 64-bit mode stack frame",
        everywhere(traps_in_a_row_all_come): "arch-x86/xen.h: HYPERVISOR_iret",
        everywhere(an_unmasked_division_stops_the_next_wait): "Intel SDM 3, 7.15: vector 16",
        with_privileges(the_floating_point_unit_can_be_taken_away): "xen.h: fpu_taskswitch",
        with_privileges(a_watched_address_is_told): "xen.h: set_debugreg",
    },
};

/// A breakpoint is a trap: it returns behind the instruction.
fn breakpoint_returns(_: &Guest) -> Verdict {
    let before = trap::breakpoints_caught();
    trap::breakpoint();
    ensure(trap::breakpoints_caught() == before + 1, "it was not seen")
}

/// A function of a few instructions, of which one raises an exception.
macro_rules! probe {
    ($name:ident: $($line:literal),*) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(_: u64) -> u64 {
            naked_asm!($($line,)* "xor eax, eax", "ret")
        }
    };
}

/// One that is told behind the instruction, which has a length.
fn trap_of(probe: Probe, vector: u32, length: u64) -> Verdict {
    // SAFETY: the probe goes on behind the instruction.
    let (caught, returned) = unsafe { probe::run(probe, 0, Then::GoOn) };
    let caught = caught.ok_or("no exception came")?;
    same(caught.frame.vector, vector)?;
    same(probe::place(&caught, probe), length)?;
    same((returned, caught.count), (0, 1))
}

/// One that is told at the instruction, which is the first.
fn fault_of(probe: Probe, argument: u64, vector: u32) -> Result<Caught, Stop> {
    // SAFETY: the probe has changed no more than registers that it may.
    let caught = unsafe { probe::fault(probe, argument) }?;
    same(caught.frame.vector, vector)?;
    Ok(caught)
}

probe!(int3: "int3");
fn a_breakpoint_is_told_behind_it(_: &Guest) -> Verdict {
    trap_of(int3, 3, 1)
}

probe!(int3_by_number: ".byte 0xcd, 3");
fn a_breakpoint_by_number_is_one(_: &Guest) -> Verdict {
    trap_of(int3_by_number, 3, 2)
}

probe!(int4: "int 4");
fn an_overflow_by_number_is_one(_: &Guest) -> Verdict {
    trap_of(int4, 4, 2)
}

probe!(icebp: ".byte 0xf1");
fn an_instruction_breakpoint_is_a_debug_exception(_: &Guest) -> Verdict {
    trap_of(icebp, 1, 1)
}

probe!(ud2: "ud2");
fn an_undefined_instruction_is_told_at_it(_: &Guest) -> Verdict {
    let caught = fault_of(ud2, 0, 6)?;
    same(
        (probe::place(&caught, ud2), caught.frame.error_code),
        (0, 0),
    )
}

probe!(divide: "xor edx, edx", "xor ecx, ecx", "div ecx");
fn a_division_by_zero_is_told_at_it(_: &Guest) -> Verdict {
    let caught = fault_of(divide, 0, 0)?;
    same(
        (probe::place(&caught, divide), caught.frame.error_code),
        (4, 0),
    )
}

probe!(int40: "int 0x40");
/// The error code says which vector it was, and that it was one.
fn an_interrupt_without_a_gate_is_refused(_: &Guest) -> Verdict {
    let caught = fault_of(int40, 0, 13)?;
    let of_table = 2;
    same(caught.frame.error_code, (0x40 << 3) | of_table)?;
    same(probe::place(&caught, int40), 0)
}

probe!(selector: "mov fs, edi");
fn a_selector_of_nothing_is_refused(_: &Guest) -> Verdict {
    // In the global table, behind all that is there.
    const NOWHERE: u32 = 0x7ff0;
    let caught = fault_of(selector, u64::from(NOWHERE) | 3, 13)?;
    same(caught.frame.error_code, NOWHERE)
}

probe!(load: "mov rax, [rdi]");
fn a_wild_address_is_a_protection_fault(_: &Guest) -> Verdict {
    let caught = fault_of(load, 0x8000_0000_0000_0000, 13)?;
    same(
        (probe::place(&caught, load), caught.frame.error_code),
        (0, 0),
    )
}

probe!(rdmsr: "mov ecx, edi", "rdmsr");
/// Neither the processor nor Xen has it.
fn an_unknown_register_of_the_model_is_refused(_: &Guest) -> Verdict {
    let caught = fault_of(rdmsr, 0xc0de_0000, 13)?;
    same(
        (probe::place(&caught, rdmsr), caught.frame.error_code),
        (2, 0),
    )
}

const PRESENT: u32 = 1;
const WRITE: u32 = 1 << 1;
/// A PV kernel runs as user code, but Xen tells its faults as a kernel's; a
/// process's are user code's.
const USER: u32 = 1 << 2;
const FETCH: u32 = 1 << 4;

fn page_fault(guest: &Guest, probe: Probe, address: u64, why: u32) -> Verdict {
    let caught = fault_of(probe, address, trap::PAGE_FAULT)?;
    same(caught.frame.error_code & !USER, why)?;
    if !keeps_cr2(guest) {
        return crate::claim::skip("whatever cr2 is, it reads as 0");
    }
    same(caught.address, address)
}

/// Whether a kernel that has a processor to itself reads what it wrote to cr2: with
/// Xen 4.17 in QEMU, one does not.
fn keeps_cr2(guest: &Guest) -> bool {
    if !IS_PROCESS && guest.guest_type() != GuestType::Pv {
        let told: u64;
        // SAFETY: only the handler of page faults reads it, after each.
        unsafe {
            core::arch::asm!("mov {0}, 0x1230", "mov cr2, {0}", "xor {0:e}, {0:e}",
                "mov {0}, cr2", out(reg) told);
        }
        return told == 0x1230;
    }
    true
}

fn a_read_of_nothing_tells_where(guest: &Guest) -> Verdict {
    page_fault(guest, load, 0x18, 0)
}

probe!(store: "mov dword ptr [rdi], 0xc3");
fn a_write_of_nothing_says_that_it_wrote(guest: &Guest) -> Verdict {
    page_fault(guest, store, 0x123, WRITE)
}

fn code_is_not_written(guest: &Guest) -> Verdict {
    page_fault(
        guest,
        store,
        (ud2 as *const ()).addr() as u64,
        PRESENT | WRITE,
    )
}

probe!(jump: "jmp rdi");
fn data_is_not_executed(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let page = platform.alloc(1).ok_or("no memory")?;
    let told = page_fault(guest, jump, page.addr().get() as u64, PRESENT | FETCH);
    // SAFETY: allocated above, and used by nobody.
    unsafe { platform.free(page, 1) };
    told
}

probe!(step: "pushfq", "or dword ptr [rsp], 0x100", "popfq", "nop", "nop");
/// The first one behind that which set the flag.
fn a_step_stops_behind_an_instruction(_: &Guest) -> Verdict {
    // pushfq 1, or 7, popfq 1, nop 1.
    trap_of(step, 1, 10)
}

/// Fills all registers, raises a breakpoint, and says whether one has changed.
#[unsafe(naked)]
unsafe extern "C" fn registers(_: u64) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov rax, 0x101",
        "mov rbx, 0x202",
        "mov rcx, 0x303",
        "mov rdx, 0x404",
        "mov rsi, 0x505",
        "mov rdi, 0x606",
        "mov rbp, rsp",
        "mov r8, 0x808",
        "mov r9, 0x909",
        "mov r10, 0xa0a",
        "mov r11, 0xb0b",
        "mov r12, 0xc0c",
        "mov r13, 0xd0d",
        "mov r14, 0xe0e",
        "mov r15, 0xf0f",
        "int3",
        "sub rax, 0x101",
        "sub rbx, 0x202",
        "sub rcx, 0x303",
        "sub rdx, 0x404",
        "sub rsi, 0x505",
        "sub rdi, 0x606",
        "sub rbp, rsp",
        "sub r8, 0x808",
        "sub r9, 0x909",
        "sub r10, 0xa0a",
        "sub r11, 0xb0b",
        "sub r12, 0xc0c",
        "sub r13, 0xd0d",
        "sub r14, 0xe0e",
        "sub r15, 0xf0f",
        "or rax, rbx",
        "or rax, rcx",
        "or rax, rdx",
        "or rax, rsi",
        "or rax, rdi",
        "or rax, rbp",
        "or rax, r8",
        "or rax, r9",
        "or rax, r10",
        "or rax, r11",
        "or rax, r12",
        "or rax, r13",
        "or rax, r14",
        "or rax, r15",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

fn a_trap_keeps_all_registers(_: &Guest) -> Verdict {
    // SAFETY: a breakpoint goes on behind it.
    let (caught, changed) = unsafe { probe::run(registers, 0, Then::GoOn) };
    let frame = caught.ok_or("no exception came")?.frame;
    same(changed, 0)?;
    let told = [
        frame.rax, frame.rbx, frame.rcx, frame.r8, frame.r11, frame.r15,
    ];
    same(told, [0x101, 0x202, 0x303, 0x808, 0xb0b, 0xf0f])?;
    same(frame.rbp, frame.rsp)
}

/// Sets the flags (interrupts stay as they are), raises a breakpoint, and returns those that it finds.
#[unsafe(naked)]
unsafe extern "C" fn flags(_: u64) -> u64 {
    naked_asm!(
        "pushfq",
        "pop rsi",
        "mov rax, rsi",
        "and eax, 0x200",
        "or rdi, rax",
        "push rdi",
        "popfq",
        "int3",
        "pushfq",
        "pop rax",
        "push rsi",
        "popfq",
        "ret",
    )
}

fn a_trap_keeps_the_flags(_: &Guest) -> Verdict {
    // Carry, parity, adjust, zero, sign, direction, overflow.
    const ALL: u64 = 0xcd5;
    for set in [0, ALL, 0x401, 0x8c0] {
        // With the bit that is always set.
        // SAFETY: a breakpoint goes on behind it; the flags are put back.
        let (caught, after) = unsafe { probe::run(flags, set | (1 << 1), Then::GoOn) };
        let told = caught.ok_or("no exception came")?.frame.rflags;
        same((told & ALL, after & ALL), (set, set))?;
    }
    Ok(())
}

probe!(higher: "int3");
probe!(lower: "push rax", "int3", "pop rax");
/// What lies on it begins at a multiple of 16, however the stack was: of these two, one is
/// at none.
fn a_trap_aligns_the_stack(_: &Guest) -> Verdict {
    for probe in [higher, lower] {
        // SAFETY: a breakpoint goes on behind it.
        let (caught, _) = unsafe { probe::run(probe, 0, Then::GoOn) };
        same(caught.ok_or("no exception came")?.end % 16, 0)?;
    }
    Ok(())
}

probe!(many: "int3", "int3", "int3", "int3", "int3", "int3", "int3", "int3");
fn traps_in_a_row_all_come(_: &Guest) -> Verdict {
    let mut count = 0;
    for _ in 0..1000 {
        // SAFETY: breakpoints go on behind them.
        let (caught, _) = unsafe { probe::run(many, 0, Then::GoOn) };
        count += caught.map_or(0, |caught| caught.count);
    }
    same(count, 8000)
}

/// Has a division by zero be an error, divides, and waits for the result.
#[unsafe(naked)]
unsafe extern "C" fn divide_and_wait(_: u64) -> u64 {
    naked_asm!(
        "fninit",
        "mov word ptr [rsp - 8], 0x37b",
        "fldcw [rsp - 8]",
        "fldz",
        "fld1",
        "fdivrp st(1), st",
        "fwait",
        "xor eax, eax",
        "ret",
    )
}
probe!(reset: "fninit");

/// The instruction that divides is done; the next one that waits is not.
fn an_unmasked_division_stops_the_next_wait(guest: &Guest) -> Verdict {
    own_errors(guest);
    let caught = fault_of(divide_and_wait, 0, 16);
    // SAFETY: puts the unit into its first state; Rust's code expects that.
    let _zero = unsafe { reset(0) };
    same(caught?.frame.error_code, 0)
}

const NOT_AVAILABLE: u32 = 7;

fn the_floating_point_unit_can_be_taken_away(guest: &Guest) -> Verdict {
    unit::take(guest)?;
    let caught = fault_of(reset, 0, NOT_AVAILABLE);
    unit::give_back(guest)?;
    caught.map(|_| ())
}

probe!(watched_store: "mov dword ptr [rdi], 1");
/// Behind the instruction that wrote there.
fn a_watched_address_is_told(guest: &Guest) -> Verdict {
    let mut place = 0_u32;
    let address = (&raw mut place).expose_provenance() as u64;
    watch::set(guest, address)?;
    // SAFETY: the probe writes the word above, and goes on behind that.
    let (caught, _) = unsafe { probe::run(watched_store, address, Then::GoOn) };
    let told = watch::end(guest)?;
    let caught = caught.ok_or("no exception came")?;
    same(caught.frame.vector, 1)?;
    same(probe::place(&caught, watched_store), 6)?;
    // Which of the four it was.
    same(told & 0xf, 1)
}

/// Who has the floating-point unit: the processor is told, or Xen.
mod unit {
    use core::arch::asm;

    use hypercall_abi::xen::cpu::{FpuTaskswitch, fpu_taskswitch};

    use super::{Guest, GuestType, Verdict};

    pub(super) fn take(guest: &Guest) -> Verdict {
        if guest.guest_type() == GuestType::Pv {
            // SAFETY: this kernel does not use the unit, and the trap has a handler.
            unsafe { fpu_taskswitch(guest.platform(), FpuTaskswitch::Set) }?;
        } else {
            // SAFETY: "task switched", for a unit that this kernel does not use.
            unsafe { asm!("mov {0}, cr0", "or {0}, 8", "mov cr0, {0}", out(reg) _) };
        }
        Ok(())
    }

    pub(super) fn give_back(guest: &Guest) -> Verdict {
        if guest.guest_type() == GuestType::Pv {
            // SAFETY: as it was.
            unsafe { fpu_taskswitch(guest.platform(), FpuTaskswitch::Clear) }?;
        } else {
            // SAFETY: as it was.
            unsafe { asm!("clts") };
        }
        Ok(())
    }
}

/// Debug registers: the processor's, or Xen's.
mod watch {
    use core::arch::asm;

    use hypercall_abi::xen::cpu::{get_debugreg, set_debugreg};

    use super::{Guest, GuestType, Stop, Verdict};

    /// Four bytes, when they are written; and the bit that is always set.
    const FIRST_OF_FOUR: u64 = 0b1101 << 16 | 0b11 | 1 << 10;
    const NONE: u64 = 1 << 10;

    pub(super) fn set(guest: &Guest, address: u64) -> Verdict {
        if guest.guest_type() == GuestType::Pv {
            set_debugreg(guest.platform(), 0, address)?;
            set_debugreg(guest.platform(), 6, 0)?;
            set_debugreg(guest.platform(), 7, FIRST_OF_FOUR)?;
        } else {
            // SAFETY: an exception for whoever writes there; there is a handler.
            unsafe {
                asm!("mov dr0, {}", "mov dr6, {}", "mov dr7, {}",
                     in(reg) address, in(reg) 0_u64, in(reg) FIRST_OF_FOUR);
            }
        }
        Ok(())
    }

    pub(super) fn end(guest: &Guest) -> Result<u64, Stop> {
        if guest.guest_type() == GuestType::Pv {
            set_debugreg(guest.platform(), 7, NONE)?;
            return Ok(get_debugreg(guest.platform(), 6)?);
        }
        let told;
        // SAFETY: reads what happened, and ends it.
        unsafe { asm!("mov {}, dr6", "mov dr7, {}", out(reg) told, in(reg) NONE) };
        Ok(told)
    }
}

/// Has errors of the floating-point unit come as exceptions: a PV kernel's do, a
/// process's too; on a processor of its own a kernel has to say so.
fn own_errors(guest: &Guest) {
    if !IS_PROCESS && guest.guest_type() != GuestType::Pv {
        // SAFETY: "numeric error", for which there is a handler.
        unsafe { core::arch::asm!("mov {0}, cr0", "or {0}, 0x20", "mov cr0, {0}", out(reg) _) };
    }
}
