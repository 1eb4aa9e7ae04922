//! The pages of a ring that this side made.

use alloc::vec::Vec;

use grant_tables::Granted;
use hypercall_abi::{DomId, GrantRef, io::ring::RingMemory, peer::PeerSlice, platform::Platform};

use super::lend::{Lender, Lent, lend};

/// The pages of a ring, lent to the backend.
#[derive(Debug)]
pub(crate) struct RingPages<'g, P: Platform>(Vec<Lent<'g, P>>);

impl<'g, P: Platform> RingPages<'g, P> {
    /// Fresh ones.
    pub(crate) fn new(
        grants: Lender<'g, P>,
        peer: DomId,
        pages: usize,
    ) -> Result<Self, grant_tables::Error> {
        let pages = (0..pages).map(|_| lend(grants, peer));
        pages.collect::<Result<_, _>>().map(Self)
    }

    /// Whether the backend still has any of them.
    pub(crate) fn is_used(&self) -> bool {
        self.0.iter().any(Granted::is_used)
    }

    /// How the backend is told of them.
    pub(crate) fn grefs(&self) -> Vec<GrantRef> {
        self.0.iter().map(Granted::gref).collect()
    }
}

impl<P: Platform> RingMemory for RingPages<'_, P> {
    fn pages(&self) -> usize {
        self.0.len()
    }
    #[inline]
    fn page(&self, index: usize) -> Option<PeerSlice<'_>> {
        self.0.get(index).map(Granted::peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hypercall_abi::io::ring::FrontRing;
    use mock_hypervisor::Domain;
    use static_assertions::{assert_impl_all, assert_not_impl_any};

    type Platform = &'static Domain;

    // A driver's task may run on any thread; the pages are one owner's.
    assert_impl_all!(RingPages<'static, Platform>: Send, Sync);
    assert_impl_all!(FrontRing<RingPages<'static, Platform>, 64>: Send, Sync);
    assert_not_impl_any!(RingPages<'static, Platform>: Clone, Copy);
}
