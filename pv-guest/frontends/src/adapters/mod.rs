//! Other crates' traits, one file each, behind a feature each.

#[cfg(feature = "block-device-driver")]
mod block_device;
#[cfg(any(feature = "embedded-sdmmc", feature = "ext4-view"))]
mod blocking;
#[cfg(any(feature = "embassy-net", feature = "smoltcp"))]
mod cut;
#[cfg(feature = "embassy-net")]
pub mod embassy_net;
#[cfg(feature = "embedded-sdmmc")]
mod embedded_sdmmc;
#[cfg(feature = "ext4-view")]
pub mod ext4_files;
#[cfg(feature = "ext4-view")]
pub mod ext4_view;
#[cfg(feature = "net")]
pub(crate) mod limits;
#[cfg(any(feature = "embassy-net", feature = "smoltcp"))]
mod offload;
#[cfg(feature = "smoltcp")]
pub mod smoltcp;
#[cfg(any(feature = "embassy-net", feature = "smoltcp"))]
mod stack;

#[cfg(any(feature = "embedded-sdmmc", feature = "ext4-view"))]
pub use blocking::{BlockOn, Blocking};
