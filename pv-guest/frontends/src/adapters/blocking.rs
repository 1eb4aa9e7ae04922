//! Volumes for file systems whose calls do not return before the data is there.

use core::{fmt, future::Future};

use hypercall_abi::platform::Platform;

use crate::blkfront::Volume;

/// How a kernel waits for a future where it has no task: `pv_guest::executor::block_on`,
/// or one of the kernel's own.
pub trait BlockOn {
    /// Polls `future` until it is ready, and lets the vCPU sleep in between. Events are
    /// dispatched meanwhile.
    fn block_on<F: Future>(&self, future: F) -> F::Output;
}

/// A [`Volume`] whose requests block until they are done: what `embedded-sdmmc` and
/// `ext4-view` read files from.
pub struct Blocking<'g, P: Platform, B> {
    volume: Volume<'g, P>,
    executor: B,
}

impl<'g, P: Platform, B: BlockOn> Blocking<'g, P, B> {
    /// Requests of `volume`, awaited by `executor`.
    pub const fn new(volume: Volume<'g, P>, executor: B) -> Self {
        Self { volume, executor }
    }

    /// The volume.
    pub const fn volume(&self) -> &Volume<'g, P> {
        &self.volume
    }

    /// Waits for `future`.
    pub(super) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.executor.block_on(future)
    }
}

impl<P: Platform, B> fmt::Debug for Blocking<'_, P, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking")
            .field("volume", &self.volume)
            .finish_non_exhaustive()
    }
}
