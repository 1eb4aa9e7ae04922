//! What this guest asks of its hypervisor: pages and their frames, upcalls, sleep, time.

mod delivery;
#[cfg(target_os = "none")]
mod early_output;
#[cfg(target_os = "none")]
pub(crate) mod frames;
#[cfg(target_os = "none")]
pub(crate) mod native;
#[cfg(target_os = "none")]
pub(crate) mod own_tables;
pub(crate) mod ports;
#[cfg(target_os = "none")]
pub(crate) mod pv_frames;
#[cfg(target_os = "none")]
pub(crate) mod pv_tables;
#[cfg(target_os = "none")]
mod sleep;
#[cfg(target_os = "none")]
mod upcall;
#[cfg(target_os = "none")]
pub(crate) mod window;

use hypercall_abi::{peer::PeerPtr, xen::SharedInfo};

use crate::error::Error;

pub use delivery::Delivery;

cfg_if::cfg_if! {
    if #[cfg(target_os = "none")] {
        pub use native::Native;

        /// The platform that this image was built for.
        pub type Current = Native;

        pub(crate) const fn current() -> Current {
            Native
        }

        pub(crate) use early_output::write as early_write;
        pub(crate) use native::clock_source;
        #[cfg(feature = "alloc")]
        pub(crate) use native::sleep_tells;

        /// Lets upcalls come, by which the ports are dispatched.
        pub(crate) fn set_up_upcalls(
            _: PeerPtr<'static, SharedInfo>,
            delivery: Delivery,
        ) -> Result<(), Error> {
            upcall::set_up(delivery)
        }
    } else {
        use crate::{clock::ClockSource, cpu::hosted};

        pub use crate::cpu::hosted::Current;
        pub(crate) use crate::cpu::hosted::current;

        /// Output while there is no console: to the hypervisor's log.
        pub(crate) fn early_write(bytes: &[u8]) {
            if let Some(platform) = hosted::platform() {
                let _refused: Result<(), hypercall_abi::Errno> =
                    hypercall_abi::xen::console_io::write(&platform, bytes);
            }
        }

        pub(crate) const fn clock_source() -> ClockSource {
            ClockSource::Platform
        }

        #[cfg(feature = "alloc")]
        pub(crate) const fn sleep_tells() -> bool {
            false
        }

        /// Lets upcalls come: the host calls the ports' dispatch then.
        pub(crate) fn set_up_upcalls(
            shared: PeerPtr<'static, SharedInfo>,
            _: Delivery,
        ) -> Result<(), Error> {
            hosted::open_upcalls(shared);
            Ok(())
        }
    }
}
