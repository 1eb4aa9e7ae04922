//! Memory that a device's backend can reach all the time.

use alloc::vec::Vec;

use grant_tables::{GrantTable, Granted, Page, PeerWrites};
use hypercall_abi::{DomId, PAGE_SIZE, peer::PeerSlice, platform::Platform};

use crate::{Current, kept_pages::Home};

/// A page that the backend may read and write.
pub(crate) type Lent<'g, P> = Granted<'g, P, PeerWrites>;

/// Lends a fresh page.
pub(crate) fn lend<'g, P: Platform>(
    grants: &'g GrantTable<P>,
    peer: DomId,
) -> Result<Lent<'g, P>, grant_tables::Error> {
    let page = Page::new(grants)?;
    grants.share::<PeerWrites>(peer, page)
}

/// Lends to `peer` what was lent to another; a copy of it, if that other still
/// uses it.
pub(crate) fn lend_on<'g, P: Platform>(
    grants: &'g GrantTable<P>,
    peer: DomId,
    lent: Lent<'g, P>,
) -> Result<Lent<'g, P>, grant_tables::Error> {
    match lent.end() {
        Ok(page) => grants.share::<PeerWrites>(peer, page),
        Err(still) => {
            let mut page = Page::new(grants)?;
            still.0.peer().copy_to(page.bytes_mut());
            grants.share::<PeerWrites>(peer, page)
        }
    }
}

/// Memory of whole pages that is lent to a device's backend: what is read into
/// it or written from it is not copied on the way.
///
/// The backend may change it at any time, so its bytes are copied in and out and
/// never borrowed. It is zeroed when it is made. Dropping it takes the pages
/// back, or puts those that the backend still uses into quarantine; those of a disk's
/// buffer stay lent, and are the disk's next buffers.
#[derive(Debug)]
pub struct GrantedBuf<'g, P: Platform = Current> {
    peer: DomId,
    pub(crate) pages: Vec<Lent<'g, P>>,
    /// Who keeps the pages afterwards.
    home: Option<Home<'g, P>>,
}

impl<'g, P: Platform> GrantedBuf<'g, P> {
    /// `pages` pages, lent to `peer`.
    ///
    /// # Errors
    /// No pages or no references are left.
    pub fn new(
        grants: &'g GrantTable<P>,
        peer: DomId,
        pages: usize,
    ) -> Result<Self, grant_tables::Error> {
        let pages = (0..pages).map(|_| lend(grants, peer));
        Ok(Self {
            peer,
            pages: pages.collect::<Result<_, _>>()?,
            home: None,
        })
    }

    pub(crate) const fn of(peer: DomId, pages: Vec<Lent<'g, P>>, home: Home<'g, P>) -> Self {
        Self {
            peer,
            pages,
            home: Some(home),
        }
    }

    /// To whom it is lent.
    pub const fn peer(&self) -> DomId {
        self.peer
    }

    /// Bytes in it: a multiple of the page's.
    pub fn len_bytes(&self) -> usize {
        self.pages.len() * PAGE_SIZE
    }

    /// Copies bytes out, from `offset` on, as many as both have, and says how
    /// many.
    pub fn copy_to(&self, offset: usize, target: &mut [u8]) -> usize {
        let mut done = 0;
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
