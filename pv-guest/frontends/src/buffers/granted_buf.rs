//! Memory that a device's backend can reach all the time.

use alloc::{sync::Arc, vec::Vec};

use grant_tables::{Error, GrantTable, Owner, Page};
use hypercall_abi::{DomId, PAGE_SIZE, platform::Platform};

use super::{
    kept_pages::{Home, KeptPages, NoBuffer},
    lend::{Lender, Lent, lend, parts},
};

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
pub struct GrantedBuf<'g, P: Platform> {
    grants: &'g GrantTable<P>,
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
            grants,
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
            grants,
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
    pub(crate) fn take_back(&mut self) -> Result<(), Error> {
        if self.pages.is_empty() {
            return Ok(());
        }
        let mut other = Self::private(self.grants, self.peer, self.pages.len())?;
        for (page, lent) in other.private.iter_mut().zip(&self.pages) {
            lent.peer().copy_to(page.bytes_mut());
        }
        self.home = None;
        self.private = core::mem::take(&mut other.private);
        self.pages.clear();
        Ok(())
    }

    /// A buffer of zeroes, lent to `peer`: pages that the device keeps, and fresh ones.
    pub(crate) fn from_kept(
        kept: &Arc<KeptPages<'g, P>>,
        grants: Lender<'g, P>,
        peer: DomId,
        count: usize,
    ) -> Result<Self, NoBuffer> {
        let (mut pages, home) = kept.take(peer, count);
        let missing = match count.saturating_sub(pages.len()) {
            0 => Ok(()),
            _ if grants.is_hoarded() => Err(NoBuffer::Hoarded),
            missing => (0..missing).try_for_each(|_| {
                pages.push(lend(grants, peer).map_err(|_| NoBuffer::Memory)?);
                Ok(())
            }),
        };
        // If that failed, what there is goes home.
        let buffer = Self {
            grants: grants.table(),
            peer,
            pages,
            private: Vec::new(),
            home: Some(home),
        };
        missing.map(|()| buffer)
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
    /// many. A buffer of a backend that is not trusted any more is taken back first: if there
    /// is no memory for that, nothing is copied.
    pub fn copy_from(&mut self, offset: usize, source: &[u8]) -> usize {
        let is_withdrawn = self.home.as_ref().is_some_and(Home::is_withdrawn);
        if is_withdrawn && self.take_back().is_err() {
            return 0;
        }
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
