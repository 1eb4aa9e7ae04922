//! `critical-section`: upcalls held back. On a host, that crate's own.

#[cfg(target_os = "none")]
mod on_hardware {
    use critical_section::{Impl, RawRestoreState, set_impl};

    use crate::native::upcalls::{Upcalls, hold, restore};

    struct HeldUpcalls;
    set_impl!(HeldUpcalls);

    // SAFETY: with upcalls held back nothing else runs on the one vCPU that
    // this kernel uses.
    unsafe impl Impl for HeldUpcalls {
        unsafe fn acquire() -> RawRestoreState {
            hold() == Upcalls::Open
        }

        unsafe fn release(was_open: RawRestoreState) {
            if was_open {
                restore(Upcalls::Open);
            }
        }
    }
}
