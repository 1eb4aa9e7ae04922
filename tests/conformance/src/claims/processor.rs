//! What a kernel may do with its processor: as if it were alone, or as Xen lets
//! it. A guest that is a process has its host's.

use hypercall_abi::{
    physdev,
    xen::traps::{FLAT_KERNEL_SS, SegmentBase, set_segment_base},
};
use pv_guest::{Guest, GuestType};

use crate::{
    claim::{Group, Stop, Verdict, claims, ensure, on_processor, on_xen, same, skip},
    probe::{self, Then},
};

pub(super) const GROUP: Group = Group {
    name: "processor",
    claims: claims! {
        on_processor(vector_registers_work): "AMD APM 2, 11.3: CR4.OSFXSR, CR0.EM, CR0.TS",
        on_processor(legacy_controllers_interrupt_nobody): "docs/DESIGN.md: The image",
        on_xens_processor(the_io_level_decides_over_interrupts): "physdev.h: PHYSDEVOP_set_iopl",
        on_xens_processor(what_a_port_tells_takes_its_place): "physdev.h: PHYSDEVOP_set_iopl; Intel SDM 1, 3.4.1.1",
        on_xens_processor(a_selector_takes_its_base_along): "arch-x86/xen-x86_64.h: FLAT_RING3_DS64; Intel SDM 3, 3.4.4",
        on_xens_processor(a_segment_begins_where_it_was_set): "arch-x86/xen-x86_64.h: set_segment_base; XSA-293",
        on_xens_processor(a_vector_of_old_system_calls_is_refused): "XSA-259",
        on_xens_processor(a_step_waits_behind_a_stack_segment): "XSA-260",
        on_xens_processor(a_wild_stack_address_is_refused): "Intel SDM 3, 7.15: vectors 12 and 13",
        on_xens_processor(registers_take_what_they_told): "XSA-269, XSA-333",
        on_xens_processor(a_kernel_is_told_its_leaves_whatever_faults): "arch-x86/msr: MISC_FEATURES_ENABLES",
    },
};

/// Claims of Xen's guests with a processor.
fn on_xens_processor(guest: &Guest, test: fn(&Guest) -> Verdict) -> Verdict {
    on_xen(guest, |_| Ok(()))?;
    on_processor(guest, test)
}

const PROTECTION: u32 = 13;

/// A function of a few instructions.
macro_rules! probe {
    ($name:ident: $($line:literal),*) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(_: u64) -> u64 {
            core::arch::naked_asm!($($line,)* "ret")
        }
    };
}

probe!(use_vectors:
    "movq xmm0, rdi",
    "punpcklqdq xmm0, xmm0",
    "xorps xmm1, xmm1",
    "orps xmm1, xmm0",
    "movhlps xmm1, xmm1",
    "movq rax, xmm1"
);

/// The same image may use them by assembly wherever it runs.
fn vector_registers_work(_: &Guest) -> Verdict {
    // SAFETY: touches registers that a kernel's code, which is soft-float, does not use.
    let (caught, value) = unsafe { probe::run(use_vectors, 0x1234_5678_9abc_def0, Then::Return) };
    same(caught.map(|caught| caught.frame.vector), None)?;
    same(value, 0x1234_5678_9abc_def0)
}

probe!(read_port: "mov edx, edi", "xor eax, eax", "in al, dx");

/// The masks of two that a machine may have: firmware leaves its timer running, whose vector
/// is an exception's.
fn legacy_controllers_interrupt_nobody(guest: &Guest) -> Verdict {
    if guest.guest_type() == GuestType::Pv {
        return skip("a PV guest has none");
    }
    for mask in [0x21, 0xa1] {
        // SAFETY: reads a mask, or nothing.
        let (caught, told) = unsafe { probe::run(read_port, mask, Then::Return) };
        ensure(caught.is_none(), "it cannot be read")?;
        same(told, 0xff)?;
    }
    Ok(())
}

probe!(off_and_on: "cli", "sti", "xor eax, eax");

/// A PV kernel's user mode apart, there is one level of two: that of Xen's guests,
/// and below. They do nothing then: events are held back by a word.
fn the_io_level_decides_over_interrupts(guest: &Guest) -> Verdict {
    if guest.guest_type() != GuestType::Pv {
        return skip("for PV guests only");
    }
    // SAFETY: no user mode runs, and this kernel uses no ports.
    let set_level = |level| unsafe { physdev::set_iopl(guest.platform(), level) };
    let at_level = |level| -> Result<Option<u32>, Stop> {
        set_level(level)?;
        // SAFETY: the stack is as it was wherever it is refused.
        let (caught, _) = unsafe { probe::run(off_and_on, 0, Then::Return) };
        Ok(caught.map(|caught| caught.frame.vector))
    };
    let (zero, one) = (at_level(0)?, at_level(1)?);
    set_level(0)?;
    same((zero, one), (Some(PROTECTION), None))
}

// Of these at a port: a byte, two, and four.
probe!(in_byte: "mov rax, rdi", "mov edx, 0x5a58", "in al, dx");
probe!(in_two: "mov rax, rdi", "mov edx, 0x5a58", "in ax, dx");
probe!(in_four: "mov rax, rdi", "mov edx, 0x5a58", "in eax, dx");

/// Where nothing is, all bits are one. As everywhere, a result of 32 bits clears what is
/// above, and a shorter one leaves it.
fn what_a_port_tells_takes_its_place(guest: &Guest) -> Verdict {
    const BEFORE: u64 = 0x1111_2222_3333_4444;
    let is_pv = guest.guest_type() == GuestType::Pv;
    // SAFETY: no user mode runs, and this kernel uses no ports.
    let set_level = |level| unsafe { physdev::set_iopl(guest.platform(), level) };
    if is_pv {
        set_level(1)?;
    }
    // SAFETY: a port at which nothing is; the probe has changed no more than registers that
    // it may.
    let told = [in_byte, in_two, in_four].map(|read| unsafe {
        let (caught, told) = probe::run(read, BEFORE, Then::Return);
        caught.is_none().then_some(told)
    });
    if is_pv {
        set_level(0)?;
    }
    let all = [0x1111_2222_3333_44ff, 0x1111_2222_3333_ffff, 0xffff_ffff];
    same(told, all.map(Some))
}

probe!(load_fs: "mov eax, fs", "mov fs, edi");

/// That of Xen's data segment, which is 0: a base of before is forgotten.
fn a_selector_takes_its_base_along(guest: &Guest) -> Verdict {
    const BASE_OF_FS: u64 = 0xc000_0100;
    if guest.guest_type() != GuestType::Pv {
        return skip("for PV guests only");
    }
    let load = |selector: u64| -> Result<u64, Stop> {
        // SAFETY: this kernel uses no segment.
        let (caught, before) = unsafe { probe::run(load_fs, selector, Then::Return) };
        ensure(caught.is_none(), "it cannot be loaded")?;
        Ok(before)
    };
    let base = || -> Result<u64, Stop> {
        // SAFETY: reads.
        let (caught, told) = unsafe { probe::run(read_register, BASE_OF_FS, Then::Return) };
        ensure(caught.is_none(), "its base cannot be read")?;
        Ok(told)
    };
    // SAFETY: as above.
    unsafe { set_segment_base(guest.platform(), SegmentBase::Fs, 0x1234_5000) }?;
    let set = base()?;
    let before = load(FLAT_KERNEL_SS.into())?;
    let loaded = base()?;
    load(before)?;
    // SAFETY: as above.
    unsafe { set_segment_base(guest.platform(), SegmentBase::Fs, 0) }?;
    same((set, loaded), (0x1234_5000, 0))
}

probe!(read_gs: "mov rax, gs:[0]");

fn a_segment_begins_where_it_was_set(guest: &Guest) -> Verdict {
    let words = [0x1111_u64, 0x2222];
    let set = |base: u64| -> Verdict {
        if guest.guest_type() == GuestType::Pv {
            // SAFETY: this kernel uses no segment.
            unsafe { set_segment_base(guest.platform(), SegmentBase::GsKernel, base) }?;
        } else {
            let (low, high) = (base as u32, (base >> 32) as u32);
            // SAFETY: as above.
            unsafe {
                core::arch::asm!("wrmsr", in("ecx") 0xc000_0101_u32, in("eax") low, in("edx") high);
            }
        }
        Ok(())
    };
    for word in &words {
        set(core::ptr::from_ref(word).expose_provenance() as u64)?;
        // SAFETY: reads the word.
        let (caught, read) = unsafe { probe::run(read_gs, 0, Then::Return) };
        ensure(caught.is_none(), "it cannot be read")?;
        same(read, *word)?;
    }
    set(0)
}

probe!(int80: "int 0x80", "xor eax, eax");

fn a_vector_of_old_system_calls_is_refused(_: &Guest) -> Verdict {
    // SAFETY: the stack is as it was.
    let caught = unsafe { probe::fault(int80, 0) }?;
    same(
        (caught.frame.vector, caught.frame.error_code),
        (PROTECTION, 0x80 << 3 | 2),
    )
}

probe!(step_over_ss:
    "mov ecx, ss", "pushfq", "or dword ptr [rsp], 0x100", "popfq",
    "mov ss, ecx", "nop", "nop", "xor eax, eax");

/// Nothing comes between it and the instruction that loads the pointer.
fn a_step_waits_behind_a_stack_segment(_: &Guest) -> Verdict {
    // SAFETY: a step goes on behind it.
    let (caught, _) = unsafe { probe::run(step_over_ss, 0, Then::GoOn) };
    let caught = caught.ok_or("no exception came")?;
    same(caught.frame.vector, 1)?;
    // mov 2, pushfq 1, or 7, popfq 1, mov 2, nop 1.
    same(probe::place(&caught, step_over_ss), 14)
}

/// By the stack's segment: a processor says that it was that, QEMU does not.
fn a_wild_stack_address_is_refused(_: &Guest) -> Verdict {
    #[unsafe(naked)]
    unsafe extern "C" fn read(_: u64) -> u64 {
        // The register is not changed where the exception comes.
        core::arch::naked_asm!("mov rax, ss:[rdi]", "ret")
    }
    // SAFETY: the stack is as it was.
    let caught = unsafe { probe::fault(read, 0x8000_0000_0000_0000) }?;
    ensure(
        [12, PROTECTION].contains(&caught.frame.vector),
        "another exception",
    )?;
    same(caught.frame.error_code, 0)
}

probe!(read_register: "mov ecx, edi", "rdmsr", "shl rdx, 32", "or rax, rdx");
probe!(write_back: "mov ecx, edi", "rdmsr", "wrmsr", "xor eax, eax");

probe!(clear: "mov ecx, edi", "xor eax, eax", "xor edx, edx", "wrmsr", "xor eax, eax");
probe!(without_long_mode:
    "mov ecx, edi", "rdmsr", "and eax, 0xfffffeff", "wrmsr", "xor eax, eax");

/// That of the processor's modes is there, and is what a 64-bit kernel runs with, for good. Of
/// the others, which a processor or Xen may refuse, a write of what was read changes nothing;
/// and what no register is, is refused both ways.
fn registers_take_what_they_told(_: &Guest) -> Verdict {
    const MISC_ENABLE: u64 = 0x1a0;
    const DEBUG_CONTROL: u64 = 0x1d9;
    const EFER: u64 = 0xc000_0080;
    const MICROCODE: u64 = 0x8b;
    /// Another hypervisor's, and of no processor.
    const UNKNOWN: [u64; 2] = [0x4b56_4d00, 0xc001_1111];
    /// Long mode, enabled and active.
    const LONG_MODE: u64 = 1 << 8 | 1 << 10;
    let try_it = |probe, register| -> Result<Option<u64>, Stop> {
        // SAFETY: reads, or writes what it is or where nothing is; a processor refuses to
        // leave long mode while it pages.
        let (caught, told) = unsafe { probe::run(probe, register, Then::Return) };
        match caught {
            None => Ok(Some(told)),
            Some(caught) => same(caught.frame.vector, PROTECTION).map(|()| None),
        }
    };
    for register in [EFER, MISC_ENABLE, DEBUG_CONTROL, MICROCODE] {
        let before = try_it(read_register, register)?;
        let is_written = try_it(write_back, register)?.is_some();
        same(try_it(read_register, register)?, before)?;
        ensure(
            before.is_some() || !is_written,
            "what cannot be read was written",
        )?;
        if register == EFER {
            let told = before.ok_or("it cannot be read")?;
            same(told & LONG_MODE, LONG_MODE)?;
            ensure(is_written, "it does not take what it told")?;
            let _refused_or_ignored = try_it(without_long_mode, register)?;
            same(try_it(read_register, register)?, before)?;
        }
    }
    for register in UNKNOWN {
        let (read, written) = (try_it(read_register, register)?, try_it(clear, register)?);
        same((read, written), (None, None))?;
    }
    Ok(())
}

probe!(ask: "push rbx", "xor eax, eax", "xor ecx, ecx", "cpuid", "pop rbx");
probe!(set_faulting: "mov ecx, 0x140", "mov eax, edi", "xor edx, edx", "wrmsr", "xor eax, eax");

/// User mode may be kept from asking; a kernel is not.
fn a_kernel_is_told_its_leaves_whatever_faults(_: &Guest) -> Verdict {
    const PLATFORM_INFO: u64 = 0xce;
    const CAN_FAULT: u64 = 1 << 31;
    // SAFETY: reads.
    let (caught, told) = unsafe { probe::run(read_register, PLATFORM_INFO, Then::Return) };
    if caught.is_some() || told & CAN_FAULT == 0 {
        return skip("it cannot fault");
    }
    // SAFETY: this kernel has no user mode; it is put back below.
    let (on, _) = unsafe { probe::run(set_faulting, 1, Then::Return) };
    // SAFETY: reads; a kernel is told. Nothing is on its stack where it could not.
    let (caught, most) = unsafe { probe::run(ask, 0, Then::GoOn) };
    // SAFETY: as it was.
    let (off, _) = unsafe { probe::run(set_faulting, 0, Then::Return) };
    ensure(on.is_none() && off.is_none(), "it cannot be chosen")?;
    ensure(caught.is_none() && most > 0, "a kernel is refused, too")
}
