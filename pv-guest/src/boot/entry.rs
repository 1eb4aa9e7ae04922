//! `entry!`, and how a guest ends.

use crate::{
    error::Error,
    kernel::{console, power},
};

/// Ends the guest as its `main` says.
pub(super) fn finish(result: Result<(), Error>) -> ! {
    match result {
        Ok(()) => power::power_off(),
        Err(error) => {
            console::print_dying(format_args!("FATAL: {error}\n"));
            power::crash()
        }
    }
}

/// Makes `fn main(guest: Guest) -> Result<(), Error>` the kernel.
///
/// On hardware it is called once memory, traps and the console work; `Ok`
/// powers the guest off, an error (or a panic) is printed and ends the domain
/// as crashed. Also brings the panic handler. `entry!(main, heap = BYTES)`
/// limits the heap, which otherwise may take all memory.
///
/// On a host it becomes a process's entry, over the mock hypervisor: the
/// package then depends on `mock-hypervisor`. In both cases the package is
/// `no_main`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        $crate::entry!($main, heap = usize::MAX);
    };
    ($main:path, heap = $heap:expr) => {
        $crate::__notes!();

        #[cfg(target_os = "none")]
        const _: () = {
            #[unsafe(no_mangle)]
            extern "Rust" fn pv_guest_main(guest: $crate::Guest) -> Result<(), $crate::Error> {
                $main(guest)
            }

            #[unsafe(no_mangle)]
            static PV_GUEST_HEAP_BYTES: usize = $heap;

            #[panic_handler]
            fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
                $crate::__panic(info)
            }
        };

        #[cfg(not(target_os = "none"))]
        const _: () = {
            #[unsafe(export_name = "main")]
            extern "C" fn process_main(
                _: ::core::ffi::c_int,
                _: *const *const ::core::ffi::c_char,
            ) -> ::core::ffi::c_int {
                ::mock_hypervisor::hosted::run(
                    |platform, start| match start {
                        ::mock_hypervisor::hosted::Start::Pv(start_info, shared_info) => {
                            // SAFETY: the mock made them for this domain and keeps them.
                            unsafe {
                                $crate::hosted::start(platform, start_info, shared_info, $main)
                            }
                        }
                        ::mock_hypervisor::hosted::Start::Pvh(paddr) => {
                            // SAFETY: as above.
                            unsafe { $crate::hosted::start_pvh(platform, paddr, $main) }
                        }
                    },
                    |exception| {
                        // SAFETY: the mock calls this for an exception of the guest's.
                        unsafe {
                            $crate::hosted::exception(
                                exception.vector,
                                exception.error_code,
                                exception.address,
                                &mut exception.registers,
                                exception.guard,
                            );
                        }
                        ::mock_hypervisor::hosted::Resume::Yes
                    },
                    || {
                        // SAFETY: the mock calls this at upcalls of the first vCPU.
                        unsafe { $crate::hosted::upcall() };
                    },
                )
            }
        };
    };
}

/// What loaders read of a kernel that boots by this crate; note type numbers are in
/// `elfnote.h`.
///
/// They belong to the kernel: a linker keeps all notes of what it links, and those of a
/// library would make this crate's boot part of a kernel with its own.
#[doc(hidden)]
#[macro_export]
macro_rules! __notes {
    () => {
        #[cfg(target_os = "none")]
        ::core::arch::global_asm!(
            // A file that the linker finds where `pv-guest.ld` says. Without that script this
            // is its first error and its only one: it looks for files before it looks at
            // symbols. (Without the script they are undefined, and none says why.)
            ".section .deplibs, \"MS\", @llvm_dependent_libraries, 1",
            ".asciz \"link-the-kernel-with-pv-guest.ld-as-the-README-of-pv-guest-says\"",
            ".macro PV_GUEST_NOTE type, desc:vararg",
            ".balign 4",
            ".long 4, 7f - 6f, \\type",
            ".asciz \"Xen\"",
            "6: \\desc",
            "7: .balign 4",
            ".endm",
            ".section .note.Xen, \"a\", @note",
            "PV_GUEST_NOTE 6, .asciz \"pv-guest\"", // GUEST_OS
            "PV_GUEST_NOTE 7, .asciz \"0.1\"",      // GUEST_VERSION
            "PV_GUEST_NOTE 8, .asciz \"generic\"",  // LOADER
            "PV_GUEST_NOTE 5, .asciz \"xen-3.0\"",  // XEN_VERSION
            "PV_GUEST_NOTE 1, .quad pv_guest_pv_entry", // ENTRY
            "PV_GUEST_NOTE 3, .quad pv_guest_virt_base", // VIRT_BASE
            "PV_GUEST_NOTE 4, .quad 0",             // PADDR_OFFSET
            "PV_GUEST_NOTE 9, .asciz \"yes\"",      // PAE_MODE
            "PV_GUEST_NOTE 10, .asciz \"pae_pgdir_above_4gb\"", // FEATURES
            "PV_GUEST_NOTE 18, .long pv_guest_pvh_entry_paddr, 0", // PHYS32_ENTRY
            ".purgem PV_GUEST_NOTE",
            ".text",
            options(att_syntax)
        );
    };
}
