//! Typed hypercalls, each beside the assembly that a person would write.
//! `tests/same.rs` compares what the compiler makes of them.
#![no_std]

use core::arch::asm;

use hypercall_abi::{
    Port, event_channel,
    sched::{self, ShutdownReason},
    trap::{Native, Syscall, Vmcall, Vmmcall},
    version,
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
    let argument = reason;
    by_hand!(pv 29_usize, 2_usize, &raw const argument);
}

/// The names of the pairs.
pub const NAMES: [&str; 5] = [
    "yield_pv",
    "yield_vmcall",
    "send_vmmcall",
    "version_native",
    "shutdown_pv",
];
