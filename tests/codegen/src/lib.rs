//! Typed hypercalls, each beside the assembly that a person would write.
//! `tests/same.rs` compares what the compiler makes of them.
#![no_std]

use core::arch::asm;

use hypercall_abi::{
    Port, event_channel,
    grant_table::{self, GnttabCopy},
    hvm::{self, HvmParam},
    sched::{self, ShutdownReason},
    trap::{Native, Syscall, Vmcall, Vmmcall},
    version,
    xen::{
        cpu,
        mmu::{self, Flush, MmuextOp},
    },
};

macro_rules! by_hand {
    ($trap:literal, $nr:literal, $a1:expr, $a2:expr) => {{
        let answer: isize;
        // SAFETY: never run, only compared.
        unsafe {
            asm!($trap,
                inlateout("rax") $nr => answer, inlateout("rdi") $a1 => _,
                inlateout("rsi") $a2 => _);
        }
        answer
    }};
    (pv $nr:literal, $a1:expr, $a2:expr) => {{
        let answer: isize;
        // SAFETY: never run, only compared.
        unsafe {
            asm!("syscall",
                inlateout("rax") $nr => answer, inlateout("rdi") $a1 => _,
                inlateout("rsi") $a2 => _, lateout("rcx") _, lateout("r11") _);
        }
        answer
    }};
}

/// Lets others run: PV.
#[unsafe(no_mangle)]
pub extern "C" fn yield_pv_typed() {
    // SAFETY: never run, only compared.
    sched::yield_now(&unsafe { Syscall::new() });
}

/// The same.
#[unsafe(no_mangle)]
pub extern "C" fn yield_pv_by_hand() {
    by_hand!(pv 29_usize, 0_usize, 0_usize);
}

/// Lets others run: PVH on Intel's processors.
#[unsafe(no_mangle)]
pub extern "C" fn yield_vmcall_typed() {
    // SAFETY: never run, only compared.
    sched::yield_now(&unsafe { Vmcall::new() });
}

/// The same.
#[unsafe(no_mangle)]
pub extern "C" fn yield_vmcall_by_hand() {
    by_hand!("vmcall", 29_usize, 0_usize, 0_usize);
}

/// Sends an event: PVH on AMD's processors.
#[unsafe(no_mangle)]
pub extern "C" fn send_vmmcall_typed(port: u32) -> bool {
    // SAFETY: never run, only compared.
    event_channel::send(&unsafe { Vmmcall::new() }, Port(port)).is_ok()
}

/// The same.
#[unsafe(no_mangle)]
pub extern "C" fn send_vmmcall_by_hand(port: u32) -> bool {
    let argument = port;
    let answer = by_hand!("vmmcall", 32_usize, 4_usize, &raw const argument);
    !(-4095..0).contains(&answer)
}

/// Asks for the version: patched at boot.
#[unsafe(no_mangle)]
pub extern "C" fn version_native_typed() -> u16 {
    version::version(&Native).map_or(0, |version| version.minor)
}

/// The same, with the bytes that stand there before.
#[unsafe(no_mangle)]
pub extern "C" fn version_native_by_hand() -> u16 {
    let answer: isize;
    // SAFETY: never run, only compared.
    unsafe {
        asm!("push -38", "pop rax",
            inlateout("rax") 17_usize => answer, inlateout("rdi") 0_usize => _,
            inlateout("rsi") 0_usize => _, lateout("rcx") _, lateout("r11") _);
    }
    if (-4095..0).contains(&answer) {
        0
    } else {
        answer as u16
    }
}

/// Ends the domain: PV.
#[unsafe(no_mangle)]
pub extern "C" fn shutdown_pv_typed(reason: u32) {
    // SAFETY: never run, only compared.
    let syscall = unsafe { Syscall::new() };
    let _answer: Result<usize, hypercall_abi::Errno> =
        sched::shutdown(&syscall, ShutdownReason(reason));
}

/// The same.
#[unsafe(no_mangle)]
pub extern "C" fn shutdown_pv_by_hand(reason: u32) {
    // A suspend is another call.
    if reason == ShutdownReason::SUSPEND.0 {
        return;
    }
    let argument = reason;
    by_hand!(pv 29_usize, 2_usize, &raw const argument);
}

/// Stops the timer: PV, one argument.
#[unsafe(no_mangle)]
pub extern "C" fn timer_pv_typed(timeout_ns: u64) {
    // SAFETY: never run, only compared.
    let _answer = cpu::set_timer_op(&unsafe { Syscall::new() }, timeout_ns);
}

/// The same.
#[unsafe(no_mangle)]
pub extern "C" fn timer_pv_by_hand(timeout_ns: u64) {
    // SAFETY: never run, only compared.
    unsafe {
        asm!("syscall", inlateout("rax") 15_usize => _, inlateout("rdi") timeout_ns => _,
            lateout("rcx") _, lateout("r11") _);
    }
}

/// Maps a page: PV, three arguments.
///
/// # Safety
/// As for `update_va_mapping`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn va_mapping_pv_typed(va: usize, entry: u64) -> bool {
    // SAFETY: never run, only compared.
    let syscall = unsafe { Syscall::new() };
    // SAFETY: never run, only compared.
    unsafe { mmu::update_va_mapping(&syscall, va, entry, Flush::Page) }.is_ok()
}

/// The same.
///
/// # Safety
/// As for `update_va_mapping`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn va_mapping_pv_by_hand(va: usize, entry: u64) -> bool {
    let answer: isize;
    // SAFETY: never run, only compared.
    unsafe {
        asm!("syscall", inlateout("rax") 14_usize => answer, inlateout("rdi") va => _,
            inlateout("rsi") entry => _, inlateout("rdx") 2_usize => _,
            lateout("rcx") _, lateout("r11") _);
    }
    !(-4095..0).contains(&answer)
}

/// A list of page table operations: PV, four arguments.
///
/// # Safety
/// As for `mmuext_op`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmuext_pv_typed(op: &MmuextOp, done: &mut u32) -> bool {
    // SAFETY: never run, only compared.
    let syscall = unsafe { Syscall::new() };
    // SAFETY: never run, only compared.
    unsafe { mmu::mmuext_op(&syscall, core::slice::from_ref(op), done) }.is_ok()
}

/// The same.
///
/// # Safety
/// As for `mmuext_op`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmuext_pv_by_hand(op: &MmuextOp, done: &mut u32) -> bool {
    let answer: isize;
    // SAFETY: never run, only compared.
    unsafe {
        asm!("syscall", inlateout("rax") 26_usize => answer,
            inlateout("rdi") &raw const *op => _, inlateout("rsi") 1_usize => _,
            inlateout("rdx") &raw mut *done => _, inlateout("r10") 0x7ff0_usize => _,
            lateout("rcx") _, lateout("r11") _);
    }
    !(-4095..0).contains(&answer)
}

/// Copies by grant: PVH on AMD's processors, a list.
///
/// # Safety
/// As for `copy`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_vmmcall_typed(op: &mut GnttabCopy) -> bool {
    // SAFETY: never run, only compared.
    let vmmcall = unsafe { Vmmcall::new() };
    // SAFETY: never run, only compared.
    unsafe { grant_table::copy(&vmmcall, core::slice::from_mut(op)) }.is_ok()
}

/// The same.
///
/// # Safety
/// As for `copy`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_vmmcall_by_hand(op: &mut GnttabCopy) -> bool {
    let answer: isize;
    // SAFETY: never run, only compared.
    unsafe {
        asm!("vmmcall", inlateout("rax") 20_usize => answer, inlateout("rdi") 5_usize => _,
            inlateout("rsi") &raw mut *op => _, inlateout("rdx") 1_usize => _);
    }
    !(-4095..0).contains(&answer)
}

/// Asks for the store's port: PVH on Intel's processors, in and out.
#[unsafe(no_mangle)]
pub extern "C" fn param_vmcall_typed() -> u64 {
    // SAFETY: never run, only compared.
    hvm::get_param(&unsafe { Vmcall::new() }, HvmParam::STORE_EVTCHN).unwrap_or(0)
}

/// The same.
#[unsafe(no_mangle)]
pub extern "C" fn param_vmcall_by_hand() -> u64 {
    #[repr(C)]
    struct Argument(u16, u16, u32, u64);
    let mut argument = Argument(0x7ff0, 0, 2, 0);
    let answer = by_hand!("vmcall", 34_usize, 1_usize, &raw mut argument);
    if (-4095..0).contains(&answer) {
        0
    } else {
        argument.3
    }
}

/// The names of the pairs.
pub const NAMES: [&str; 10] = [
    "timer_pv",
    "va_mapping_pv",
    "mmuext_pv",
    "copy_vmmcall",
    "param_vmcall",
    "yield_pv",
    "yield_vmcall",
    "send_vmmcall",
    "version_native",
    "shutdown_pv",
];
