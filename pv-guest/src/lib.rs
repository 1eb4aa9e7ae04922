#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod adapt;
pub mod boot_info;
pub mod clock;
mod command_line;
pub mod console;
mod entry;
mod error;
mod events;
#[cfg(feature = "alloc")]
pub mod executor;
#[cfg(feature = "alloc")]
mod frontends;
mod grants;
mod guest;
#[cfg(not(target_os = "none"))]
pub mod hosted;
pub mod memory;
#[cfg(target_os = "none")]
pub mod native;
mod number;
pub mod power;
#[cfg(any(test, target_os = "none"))]
mod set_once;
#[cfg(feature = "alloc")]
mod store;
pub mod sync;
#[cfg(feature = "alloc")]
pub mod time;
pub mod trap;
#[cfg(any(test, target_os = "none"))]
mod tsc_rate;

pub use boot_info::{BootInfo, GuestType};
pub use command_line::CommandLine;
pub use error::{Error, Shown};
pub use event_channels;
pub use events::Delivery;
#[cfg(feature = "net")]
pub use frontends::net;
#[cfg(feature = "alloc")]
pub use frontends::{GrantedBuf, blkfront, netfront, xenbus};
pub use grant_tables;
pub use guest::{Guest, HypervisorInfo};
pub use hypercall_abi as abi;
#[cfg(feature = "alloc")]
pub use store::Store;
#[cfg(feature = "alloc")]
pub use xenstore_client;

cfg_if::cfg_if! {
    if #[cfg(target_os = "none")] {
        /// The world beneath this kernel.
        pub type Current = native::Native;

        pub(crate) fn current() -> Current {
            native::Native
        }

        #[cfg(feature = "alloc")]
        pub(crate) use native::sleep_tells;
    } else {
        /// The world beneath this guest: whatever started it.
        pub type Current = &'static dyn hypercall_abi::platform::Platform;

        pub(crate) use hosted::current;

        #[cfg(feature = "alloc")]
        pub(crate) const fn sleep_tells() -> bool {
            false
        }
    }
}
