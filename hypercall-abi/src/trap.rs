//! The trap itself: one instruction, chosen by the kind of guest.
//!
//! `rax` holds the hypercall's number and then its answer; the arguments are in
//! `rdi`, `rsi`, `rdx`, `r10` and `r8`. A PV guest uses `syscall`, which
//! destroys `rcx` and `r11`; every other guest uses `vmcall` on Intel's and
//! `vmmcall` on AMD's processors. The hypercall page that older guests used is
//! not needed (and XSA-466 tells why not to).
//!
//! [`Syscall`], [`Vmcall`] and [`Vmmcall`] each are one of them, for a kernel
//! that knows where it runs. [`Native`] is all of them: its three-byte
//! instruction starts as `push -38; pop rax` (an answer of `ENOSYS`: there is
//! no hypervisor), and [`patch`] turns every place in the image into the right
//! one at boot. It costs nothing at run time.
//!
//! Source: `xen/include/public/arch-x86/xen-x86_64.h`, "Hypercall interface".

use core::arch::asm;

use crate::{HypercallNr, platform::Hypercall};

macro_rules! calls {
    ($($asm:tt),+; $($clobber:tt),*) => {
        #[inline]
        unsafe fn call1(&self, nr: HypercallNr, a1: usize) -> isize {
            let answer;
            // SAFETY: the instruction traps to the hypervisor, which changes no
            // register but those named here; the rest is this function's contract.
            unsafe {
                asm!($($asm),+,
                    inlateout("rax") nr.0 as usize => answer, inlateout("rdi") a1 => _,
                    $(lateout($clobber) _,)*);
            }
            answer
        }

        #[inline]
        unsafe fn call2(&self, nr: HypercallNr, a1: usize, a2: usize) -> isize {
            let answer;
            // SAFETY: as in `call1`.
            unsafe {
                asm!($($asm),+,
                    inlateout("rax") nr.0 as usize => answer, inlateout("rdi") a1 => _,
                    inlateout("rsi") a2 => _, $(lateout($clobber) _,)*);
            }
            answer
        }

        #[inline]
        unsafe fn call3(&self, nr: HypercallNr, a1: usize, a2: usize, a3: usize) -> isize {
            let answer;
            // SAFETY: as in `call1`.
            unsafe {
                asm!($($asm),+,
                    inlateout("rax") nr.0 as usize => answer, inlateout("rdi") a1 => _,
                    inlateout("rsi") a2 => _, inlateout("rdx") a3 => _,
                    $(lateout($clobber) _,)*);
            }
            answer
        }

        #[inline]
        unsafe fn call4(
            &self, nr: HypercallNr, a1: usize, a2: usize, a3: usize, a4: usize,
        ) -> isize {
            let answer;
            // SAFETY: as in `call1`.
            unsafe {
                asm!($($asm),+,
                    inlateout("rax") nr.0 as usize => answer, inlateout("rdi") a1 => _,
                    inlateout("rsi") a2 => _, inlateout("rdx") a3 => _,
                    inlateout("r10") a4 => _, $(lateout($clobber) _,)*);
            }
            answer
        }

        #[inline]
        unsafe fn call5(
            &self, nr: HypercallNr, a1: usize, a2: usize, a3: usize, a4: usize, a5: usize,
        ) -> isize {
            let answer;
            // SAFETY: as in `call1`.
            unsafe {
                asm!($($asm),+,
                    inlateout("rax") nr.0 as usize => answer, inlateout("rdi") a1 => _,
                    inlateout("rsi") a2 => _, inlateout("rdx") a3 => _,
                    inlateout("r10") a4 => _, inlateout("r8") a5 => _,
                    $(lateout($clobber) _,)*);
            }
            answer
        }
    };
}

/// A PV guest's trap. Use it only where a PV hypervisor listens: elsewhere it
/// is whatever `syscall` means there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Syscall(());

impl Syscall {
    /// The trap.
    ///
    /// # Safety
    /// This code runs as the kernel of a Xen PV guest.
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: `Syscall::new` makes sure that Xen takes the trap.
unsafe impl Hypercall for Syscall {
    calls!("syscall"; "rcx", "r11");
}

/// The trap of an HVM or PVH guest on an Intel processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vmcall(());

impl Vmcall {
    /// The trap.
    ///
    /// # Safety
    /// This code runs as the kernel of an HVM or PVH guest of Xen on a
    /// processor with VT-x.
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: `Vmcall::new` makes sure that Xen takes the trap.
unsafe impl Hypercall for Vmcall {
    calls!("vmcall";);
}

/// The trap of an HVM or PVH guest on an AMD processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vmmcall(());

impl Vmmcall {
    /// The trap.
    ///
    /// # Safety
    /// This code runs as the kernel of an HVM or PVH guest of Xen on a
    /// processor with SVM.
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: `Vmmcall::new` makes sure that Xen takes the trap.
unsafe impl Hypercall for Vmmcall {
    calls!("vmmcall";);
}

/// The trap that [`patch`] chose, or an answer of `ENOSYS` before it did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

// SAFETY: before `patch` the instructions answer ENOSYS and touch one word of
// the stack, which `asm!` without `nostack` allows; after it they are the trap
// that the kernel promised to be right.
unsafe impl Hypercall for Native {
    calls!(
        "2: .byte 0x6a, 0xda, 0x58",
        ".pushsection .xen_hypercall_sites, \"a\", @progbits",
        ".long 2b - .",
        ".popsection";
        "rcx", "r11"
    );
}

/// The instructions that [`patch`] can put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `syscall`, for PV guests.
    Syscall,
    /// `vmcall`, for HVM and PVH guests on Intel's processors.
    Vmcall,
    /// `vmmcall`, for HVM and PVH guests on AMD's processors.
    Vmmcall,
}

impl Instruction {
    /// The three bytes of code.
    pub const fn bytes(self) -> [u8; 3] {
        match self {
            Self::Syscall => [0x0f, 0x05, 0x90],
            Self::Vmcall => [0x0f, 0x01, 0xc1],
            Self::Vmmcall => [0x0f, 0x01, 0xd9],
        }
    }
}

/// Writes the right instruction to every place where [`Native`] is used.
///
/// `sites` is the content of the image's `.xen_hypercall_sites` section: the
/// distance from each entry to its place.
///
/// # Safety
/// 1. `sites` is that whole section, at the address where it was linked to be.
/// 2. The code of the image is writable, and no other vCPU runs it.
/// 3. The instruction is the right one for this guest.
pub unsafe fn patch(sites: &[i32], instruction: Instruction) {
    for site in sites {
        let place = core::ptr::from_ref(site)
            .addr()
            .wrapping_add_signed(*site as isize);
        let place = core::ptr::with_exposed_provenance_mut::<[u8; 3]>(place);
        // SAFETY: 1. the entry leads to three bytes of code; 2. they may be
        // written. A processor runs new code of its own after a jump.
        unsafe { place.write_volatile(instruction.bytes()) };
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::Errno;

    #[test]
    fn without_a_hypervisor_every_call_is_enosys() {
        let nr = HypercallNr::SCHED_OP;
        let answers = [
            // SAFETY: nothing was patched, so nothing is called.
            unsafe { Native.call1(nr, 0) },
            // SAFETY: as above.
            unsafe { Native.call2(nr, 0, 0) },
            // SAFETY: as above.
            unsafe { Native.call3(nr, 0, 0, 0) },
            // SAFETY: as above.
            unsafe { Native.call4(nr, 0, 0, 0, 0) },
            // SAFETY: as above.
            unsafe { Native.call5(nr, 0, 0, 0, 0, 0) },
        ];
        assert_eq!(answers, [Errno::ENOSYS.to_answer(); 5]);
    }
}
