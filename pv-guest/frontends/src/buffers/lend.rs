//! Pages that are granted to a device's backend, read and write.

use grant_tables::{Access, Error, GrantTable, Granted, Owner, Page, PeerWrites};
use hypercall_abi::{DomId, PAGE_SIZE, peer::PeerSlice, platform::Platform};

/// Pages of a device that its backends may keep: beyond that, no connection is made and
/// no buffer is lent until they let go of some.
pub const MAX_QUARANTINED_PAGES: u32 = 256;

/// A page that the backend may read and write.
pub(crate) type Lent<'g, P> = Granted<'g, P, PeerWrites>;

/// A guest's grant table, and for whom it lends: what a device's backends keep of its pages
/// is counted for the device.
#[derive(Debug)]
pub(crate) struct Lender<'g, P: Platform> {
    grants: &'g GrantTable<P>,
    owner: Owner,
}

impl<P: Platform> Clone for Lender<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Lender<'_, P> {}

impl<'g, P: Platform> Lender<'g, P> {
    /// Who lends for `owner`.
    pub(crate) const fn new(grants: &'g GrantTable<P>, owner: Owner) -> Self {
        Self { grants, owner }
    }

    /// Whether peers keep so many of the owner's pages that no more are lent to them.
    pub(crate) fn is_hoarded(self) -> bool {
        self.grants.quarantined_of(self.owner) > MAX_QUARANTINED_PAGES && {
            self.grants.release_quarantine();
            self.grants.quarantined_of(self.owner) > MAX_QUARANTINED_PAGES
        }
    }

    /// The guest's grant table.
    pub(crate) const fn table(self) -> &'g GrantTable<P> {
        self.grants
    }

    /// A fresh page.
    pub(crate) fn page(self) -> Result<Page<'g, P>, Error> {
        Page::new(self.grants)
    }

    /// Lends a page.
    pub(crate) fn share<A: Access>(
        self,
        peer: DomId,
        page: Page<'g, P>,
    ) -> Result<Granted<'g, P, A>, Error> {
        let mut lent = self.grants.share::<A>(peer, page)?;
        lent.set_owner(self.owner);
        Ok(lent)
    }
}

/// Lends a fresh page.
pub(crate) fn lend<P: Platform>(grants: Lender<'_, P>, peer: DomId) -> Result<Lent<'_, P>, Error> {
    grants.share::<PeerWrites>(peer, grants.page()?)
}

const ZEROES: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// Sets all but the first `keep_bytes` bytes of a page to zero.
pub(crate) fn clear_from(page: PeerSlice<'_>, keep_bytes: usize) {
    let keep_bytes = keep_bytes.min(PAGE_SIZE);
    if let Some(rest) = page.get(keep_bytes, PAGE_SIZE - keep_bytes) {
        rest.copy_from(&ZEROES);
    }
}

/// Lends to `peer` what was lent to another; a copy of it, if that other still
/// uses it. The new peer sees the first `keep_bytes` bytes, and else zeroes.
pub(crate) fn lend_on<'g, P: Platform>(
    grants: Lender<'g, P>,
    peer: DomId,
    lent: Lent<'g, P>,
    keep_bytes: usize,
) -> Result<Lent<'g, P>, Error> {
    let keep_bytes = keep_bytes.min(PAGE_SIZE);
    let page = match lent.end() {
        Ok(mut page) => {
            page.bytes_mut()
                .iter_mut()
                .skip(keep_bytes)
                .for_each(|byte| *byte = 0);
            page
        }
        Err(still) => {
            let mut page = grants.page()?;
            if let Some(target) = page.bytes_mut().get_mut(..keep_bytes) {
                still.0.peer().copy_to(target);
            }
            page
        }
    };
    grants.share::<PeerWrites>(peer, page)
}

/// The bytes of pages from `offset` on, page by page.
pub(crate) fn parts<'p, P: Platform>(
    pages: &'p [Lent<'_, P>],
    offset: usize,
) -> impl Iterator<Item = PeerSlice<'p>> {
    let first = (offset / PAGE_SIZE).min(pages.len());
    let rest = pages.get(first..).unwrap_or(&[]);
    rest.iter().enumerate().filter_map(move |(index, page)| {
        let skip = if index == 0 { offset % PAGE_SIZE } else { 0 };
        page.peer().get(skip, PAGE_SIZE - skip)
    })
}
