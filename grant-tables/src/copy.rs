//! Copies, made by the hypervisor, between this guest's memory and what others
//! lend: nothing is mapped for them.

use core::ptr::NonNull;

use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE,
    grant_table::{CopyFlags, GnttabCopy, GnttabCopyPtr, GrantStatus, copy},
    platform::{Hypercall, Pages},
    sched,
};

use crate::{Error, GrantTable};

/// Operations in one call.
const CALL: usize = 16;
/// How often a page that is paged out is asked for again.
const TRIES: u32 = 10;

/// A copy from a peer's page.
#[derive(Debug)]
pub struct CopyFrom<'a> {
    /// Who lends it.
    pub peer: DomId,
    /// What it lends.
    pub gref: GrantRef,
    /// Where in its page.
    pub offset: usize,
    /// Where to: in memory of this platform.
    pub target: &'a mut [u8],
    /// How it went.
    pub status: GrantStatus,
}

/// A copy to a peer's page.
#[derive(Debug)]
pub struct CopyTo<'a> {
    /// Who lends it.
    pub peer: DomId,
    /// What it lends.
    pub gref: GrantRef,
    /// Where in its page.
    pub offset: usize,
    /// Where from: in memory of this platform.
    pub source: &'a [u8],
    /// How it went.
    pub status: GrantStatus,
}

/// Which way.
#[derive(Clone, Copy)]
enum Way {
    From,
    To,
}

/// A copy of either way.
trait OneCopy {
    const WAY: Way;
    /// The peer's end of so many bytes, if it lies in one page.
    fn peer(&self, len: usize) -> Option<GnttabCopyPtr>;
    /// This guest's bytes, and how many they are.
    fn own(&mut self) -> (NonNull<u8>, usize);
    fn status(&mut self) -> &mut GrantStatus;
}

impl OneCopy for CopyFrom<'_> {
    const WAY: Way = Way::From;

    fn peer(&self, len: usize) -> Option<GnttabCopyPtr> {
        peer_end(self.peer, self.gref, self.offset, len)
    }

    fn own(&mut self) -> (NonNull<u8>, usize) {
        let len = self.target.len();
        (NonNull::from(&mut *self.target).cast(), len)
    }

    fn status(&mut self) -> &mut GrantStatus {
        &mut self.status
    }
}

impl OneCopy for CopyTo<'_> {
    const WAY: Way = Way::To;

    fn peer(&self, len: usize) -> Option<GnttabCopyPtr> {
        peer_end(self.peer, self.gref, self.offset, len)
    }

    fn own(&mut self) -> (NonNull<u8>, usize) {
        (NonNull::from(self.source).cast(), self.source.len())
    }

    fn status(&mut self) -> &mut GrantStatus {
        &mut self.status
    }
}

/// Operations that wait to be made, and the index of the copy that each is a
/// part of.
struct Batch<'p, P> {
    platform: &'p P,
    ops: [GnttabCopy; CALL],
    copies: [usize; CALL],
    len: usize,
}

impl<P: Hypercall + Pages> Batch<'_, P> {
    /// Adds the parts of a copy; its own memory need not lie in one page.
    ///
    /// # Safety
    /// `len` bytes at `own` are valid for reads and, if they are copied to, for
    /// writes, until the batch was made.
    unsafe fn add(
        &mut self,
        way: Way,
        copy: usize,
        peer: GnttabCopyPtr,
        own: NonNull<u8>,
        len: usize,
        told: &mut impl FnMut(usize, GrantStatus),
    ) -> Result<(), Error> {
        // The hypervisor finds these bytes by their address.
        let _address = own.as_ptr().expose_provenance();
        let mut done = 0;
        while done < len {
            // SAFETY: within the caller's bytes.
            let at = unsafe { own.add(done) };
            let offset = at.addr().get() % PAGE_SIZE;
            // The start of the page that holds it: only its address is used.
            let page = NonNull::new(at.as_ptr().wrapping_sub(offset)).ok_or(Error::NotMemory)?;
            let gfn = self.platform.gfn_of(page).ok_or(Error::NotMemory)?;
            let part = (PAGE_SIZE - offset).min(len - done);
            let own_end = GnttabCopyPtr {
                u: gfn.0,
                domid: DomId::SELF,
                offset: offset as u16,
                ..GnttabCopyPtr::default()
            };
            let peer_end = GnttabCopyPtr {
                offset: peer.offset + done as u16,
                ..peer
            };
            let (source, dest, flags) = match way {
                Way::From => (peer_end, own_end, CopyFlags::SOURCE_GREF),
                Way::To => (own_end, peer_end, CopyFlags::DEST_GREF),
            };
            if self.len == CALL {
                self.make(told)?;
            }
            if let (Some(op), Some(slot)) =
                (self.ops.get_mut(self.len), self.copies.get_mut(self.len))
            {
                *op = GnttabCopy {
                    source,
                    dest,
                    len: part as u16,
                    flags: flags.bits(),
                    status: GrantStatus::GENERAL_ERROR,
                    ..GnttabCopy::default()
                };
                *slot = copy;
                self.len += 1;
            }
            done += part;
        }
        Ok(())
    }

    fn make(&mut self, told: &mut impl FnMut(usize, GrantStatus)) -> Result<(), Error> {
        let ops = self.ops.get_mut(..self.len).unwrap_or(&mut []);
        self.len = 0;
        if ops.is_empty() {
            return Ok(());
        }
        // SAFETY: the memory is valid by the promise of `add`.
        unsafe { copy(self.platform, ops) }?;
        for (op, index) in ops.iter_mut().zip(self.copies) {
            let mut pause = 1;
            for _ in 0..TRIES {
                if op.status != GrantStatus::EAGAIN {
                    break;
                }
                for _ in 0..pause {
                    sched::yield_now(self.platform);
                }
                pause *= 2;
                // SAFETY: as above.
                unsafe { copy(self.platform, core::slice::from_mut(op)) }?;
            }
            if op.status != GrantStatus::OKAY {
                told(index, op.status);
            }
        }
        Ok(())
    }
}

/// The peer's end of a copy, if it lies in one page.
fn peer_end(peer: DomId, gref: GrantRef, offset: usize, len: usize) -> Option<GnttabCopyPtr> {
    let end = offset.checked_add(len)?;
    (end <= PAGE_SIZE).then_some(GnttabCopyPtr {
        u: u64::from(gref.0),
        domid: peer,
        offset: offset as u16,
        ..GnttabCopyPtr::default()
    })
}

impl<P: Hypercall + Pages> GrantTable<P> {
    fn batch(&self) -> Batch<'_, P> {
        Batch {
            platform: self.platform(),
            ops: [GnttabCopy::default(); CALL],
            copies: [0; CALL],
            len: 0,
        }
    }

    /// Copies from what peers lend. Each copy has its own status; bytes of one
    /// that failed may have changed. A copy beyond the peer's page is
    /// [`GrantStatus::BAD_COPY_ARG`], and not made.
    ///
    /// # Errors
    /// [`Error::NotMemory`]: a target is no memory of this platform;
    /// [`Error::Other`]: the hypervisor takes no such call.
    pub fn copy_from(&self, copies: &mut [CopyFrom<'_>]) -> Result<(), Error> {
        self.copy_all(copies)
    }

    /// Copies to what peers lend: as [`copy_from`](Self::copy_from).
    ///
    /// # Errors
    /// As there.
    pub fn copy_to(&self, copies: &mut [CopyTo<'_>]) -> Result<(), Error> {
        self.copy_all(copies)
    }

    fn copy_all<C: OneCopy>(&self, copies: &mut [C]) -> Result<(), Error> {
        let mut batch = self.batch();
        for copy in copies.iter_mut() {
            *copy.status() = GrantStatus::OKAY;
        }
        for index in 0..copies.len() {
            let Some(copy) = copies.get_mut(index) else {
                break;
            };
            let (own, len) = copy.own();
            let Some(peer) = copy.peer(len) else {
                *copy.status() = GrantStatus::BAD_COPY_ARG;
                continue;
            };
            // SAFETY: bytes that are borrowed until this function returns, before which the
            // batch is made: mutably if they are copied to.
            unsafe { batch.add(C::WAY, index, peer, own, len, &mut note(copies)) }?;
        }
        batch.make(&mut note(copies))
    }
}

/// What notes a status.
fn note<C: OneCopy>(copies: &mut [C]) -> impl FnMut(usize, GrantStatus) {
    |index, status| {
        if let Some(copy) = copies.get_mut(index) {
            *copy.status() = status;
        }
    }
}
