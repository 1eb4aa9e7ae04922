//! Other crates' traits, one file each, behind a feature each.

#[cfg(feature = "block-device-driver")]
mod block_device;
#[cfg(feature = "critical-section")]
mod critical_section;
#[cfg(feature = "embassy")]
pub mod embassy;
#[cfg(feature = "embedded-sdmmc")]
mod embedded_sdmmc;
#[cfg(feature = "ext4-view")]
mod ext4_view;
