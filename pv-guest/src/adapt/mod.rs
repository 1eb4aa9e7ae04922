//! Other crates' traits, one file each, behind a feature each. Those of disks and network
//! interfaces are `pv-frontends`'.

#[cfg(any(feature = "embedded-sdmmc", feature = "ext4-view"))]
mod blocking;
#[cfg(feature = "critical-section")]
mod critical_section;
#[cfg(feature = "embassy")]
pub mod embassy;

#[cfg(any(feature = "embedded-sdmmc", feature = "ext4-view"))]
pub use blocking::{BlockOn, Blocking, GuestExecutor, blocking};
#[cfg(feature = "ext4-view")]
pub use pv_frontends::adapters::{ext4_files, ext4_view};

/// Network interfaces as `embassy-net`'s drivers: [`pv_frontends::adapters::embassy_net`].
#[cfg(feature = "embassy-net")]
pub mod embassy_net {
    pub use pv_frontends::adapters::embassy_net::*;

    /// A network interface: [`pv_frontends::adapters::embassy_net::Device`].
    pub type Device<'g, P = crate::hypervisor::Current> =
        pv_frontends::adapters::embassy_net::Device<'g, P>;
}

/// Network interfaces as `smoltcp`'s devices: [`pv_frontends::adapters::smoltcp`].
#[cfg(feature = "smoltcp")]
pub mod smoltcp {
    /// A network interface: [`pv_frontends::adapters::smoltcp::Device`].
    pub type Device<'g, P = crate::hypervisor::Current> =
        pv_frontends::adapters::smoltcp::Device<'g, P>;
}
