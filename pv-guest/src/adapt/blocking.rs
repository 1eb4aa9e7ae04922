//! Volumes for file systems whose calls wait, on this guest's executor.

use core::future::Future;

pub use pv_frontends::adapters::BlockOn;

use crate::{frontends::blkfront::Volume, hypervisor::Current, kernel::executor};

/// This guest's executor: [`executor::block_on`].
#[derive(Clone, Copy, Debug, Default)]
pub struct GuestExecutor;

impl BlockOn for GuestExecutor {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        executor::block_on(future)
    }
}

/// A volume whose requests block: [`pv_frontends::adapters::Blocking`].
pub type Blocking<'g, P = Current, B = GuestExecutor> = pv_frontends::adapters::Blocking<'g, P, B>;

/// What `ext4-view` and `embedded-sdmmc` read files from: requests of `volume`, each of
/// which lets this vCPU sleep until it is done.
pub const fn blocking(volume: Volume<'_>) -> Blocking<'_> {
    Blocking::new(volume, GuestExecutor)
}
