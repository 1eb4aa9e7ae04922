//! Memory that a device's backend can reach all the time.

use alloc::vec::Vec;

use grant_tables::{Access, Error, GrantTable, Granted, Owner, Page, PeerWrites};
use hypercall_abi::{DomId, PAGE_SIZE, peer::PeerSlice, platform::Platform};

use crate::{Current, kept_pages::Home};

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

static ZEROES: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

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

/// Memory of whole pages that is lent to a device's backend: what is read into
/// it or written from it is not copied on the way.
///
/// The backend may change it at any time, so its bytes are copied in and out and
/// never borrowed. It is zeroed when it is made. Dropping it takes the pages
/// back; those of a disk's buffer stay lent, and so do those that the backend still uses:
/// they are the device's next buffers. When the connection is over, what is in use goes
/// into quarantine.
///
/// A buffer for a backend that is not trusted is memory of the same kind that is lent to
/// nobody: what is read or written goes through pages of the driver's own.
#[derive(Debug)]
pub struct GrantedBuf<'g, P: Platform = Current> {
    peer: DomId,
    pub(crate) pages: Vec<Lent<'g, P>>,
    /// Pages that are lent to nobody: all, or none.
    private: Vec<Page<'g, P>>,
    /// Who keeps the pages afterwards.
    home: Option<Home<'g, P>>,
}

impl<'g, P: Platform> GrantedBuf<'g, P> {
    /// `pages` pages, lent to `peer`.
    ///
    /// # Errors
    /// No pages or no references are left.
    pub fn new(grants: &'g GrantTable<P>, peer: DomId, pages: usize) -> Result<Self, Error> {
        let lender = Lender::new(grants, Owner::NONE);
        let pages = (0..pages).map(|_| lend(lender, peer));
        Ok(Self {
            peer,
            pages: pages.collect::<Result<_, _>>()?,
            private: Vec::new(),
            home: None,
        })
    }

    /// `pages` pages for `peer`, which is not trusted: lent to nobody.
    pub(crate) fn private(
        grants: &'g GrantTable<P>,
        peer: DomId,
        pages: usize,
    ) -> Result<Self, Error> {
        let private = (0..pages).map(|_| Page::new(grants));
        Ok(Self {
            peer,
            pages: Vec::new(),
            private: private.collect::<Result<_, _>>()?,
            home: None,
        })
    }

    /// Whether it is lent to its peer.
    pub(crate) const fn is_lent(&self) -> bool {
        self.private.is_empty()
    }

    /// Takes it back from its peer: the bytes are moved to pages that are lent to nobody.
    pub(crate) fn take_back(&mut self, grants: &'g GrantTable<P>) -> Result<(), Error> {
        if self.pages.is_empty() {
            return Ok(());
        }
        let mut other = Self::private(grants, self.peer, self.pages.len())?;
        for (page, lent) in other.private.iter_mut().zip(&self.pages) {
            lent.peer().copy_to(page.bytes_mut());
        }
        self.home = None;
        self.private = core::mem::take(&mut other.private);
        self.pages.clear();
        Ok(())
    }

    pub(crate) const fn of(peer: DomId, pages: Vec<Lent<'g, P>>, home: Home<'g, P>) -> Self {
        Self {
            peer,
            pages,
            private: Vec::new(),
            home: Some(home),
        }
    }

    /// To whom it is lent, or for whom it was made if that one is not trusted.
    pub const fn peer(&self) -> DomId {
        self.peer
    }

    /// Bytes in it: a multiple of the page's.
    pub fn len_bytes(&self) -> usize {
        (self.pages.len() + self.private.len()) * PAGE_SIZE
    }

    /// Copies bytes out, from `offset` on, as many as both have, and says how
    /// many.
    pub fn copy_to(&self, offset: usize, target: &mut [u8]) -> usize {
        let mut done = copy_private(&self.private, offset, target);
        for part in parts(&self.pages, offset) {
            let Some(rest) = target.get_mut(done..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            done += part.copy_to(rest);
        }
        done
    }

    /// Copies bytes in, from `offset` on, as many as both have, and says how
    /// many.
    pub fn copy_from(&mut self, offset: usize, source: &[u8]) -> usize {
        let mut done = 0;
        let first = offset / PAGE_SIZE;
        let mut skip = offset % PAGE_SIZE;
        for page in self.private.iter_mut().skip(first) {
            let target = page.bytes_mut().get_mut(skip..).unwrap_or(&mut []);
            let rest = source.get(done..).unwrap_or(&[]);
            let len = target.len().min(rest.len());
            for (to, byte) in target.iter_mut().zip(rest) {
                *to = *byte;
            }
            (done, skip) = (done + len, 0);
        }
        for part in parts(&self.pages, offset) {
            let Some(rest) = source.get(done..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            done += part.copy_from(rest);
        }
        done
    }
}

impl<P: Platform> Drop for GrantedBuf<'_, P> {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            home.give_back(core::mem::take(&mut self.pages));
        }
    }
}

/// Copies bytes out of pages that are lent to nobody, and says how many.
fn copy_private<P: Platform>(pages: &[Page<'_, P>], offset: usize, target: &mut [u8]) -> usize {
    let mut done = 0;
    let mut skip = offset % PAGE_SIZE;
    for page in pages.iter().skip(offset / PAGE_SIZE) {
        let source = page.bytes().get(skip..).unwrap_or(&[]);
        let rest = target.get_mut(done..).unwrap_or(&mut []);
        let len = source.len().min(rest.len());
        for (to, byte) in rest.iter_mut().zip(source) {
            *to = *byte;
        }
        (done, skip) = (done + len, 0);
    }
    done
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
