//! `entry!`, and how a guest ends.

use crate::{Error, power};

/// Ends the guest as its `main` says.
pub(crate) fn finish(result: Result<(), Error>) -> ! {
    match result {
        Ok(()) => power::power_off(),
        Err(error) => {
            crate::console::print_dying(format_args!("FATAL: {error}\n"));
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
                $crate::native::panic(info)
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
