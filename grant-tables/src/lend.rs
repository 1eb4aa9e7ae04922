//! Memory lent to a peer.

use core::{marker::PhantomData, mem::ManuallyDrop, ops::Range, ptr, slice};

use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE,
    grant_table::{GnttabSwapGrantRef, GrantStatus, entry::GrantFlags, swap},
    peer::PeerSlice,
    platform::{Hypercall, Pages},
};

use crate::{Error, GrantTable, Owner, Page, Version, free::List};

mod sealed {
    pub trait Sealed {}
}

/// What the peer may do: [`PeerReads`] or [`PeerWrites`].
pub trait Access: sealed::Sealed {
    #[doc(hidden)]
    const FLAGS: GrantFlags;
}

/// The peer may read.
#[derive(Clone, Copy, Debug)]
pub struct PeerReads;

/// The peer may read and write.
#[derive(Clone, Copy, Debug)]
pub struct PeerWrites;

impl sealed::Sealed for PeerReads {}
impl sealed::Sealed for PeerWrites {}

impl Access for PeerReads {
    const FLAGS: GrantFlags = GrantFlags::PERMIT_ACCESS.union(GrantFlags::READONLY);
}

impl Access for PeerWrites {
    const FLAGS: GrantFlags = GrantFlags::PERMIT_ACCESS;
}

/// A page lent to a peer. It owns the page: no memory is freed that a peer may
/// still write. Dropping it ends the grant; if the peer uses the page just then,
/// page and reference go into the table's quarantine.
#[must_use = "dropping it ends the grant"]
pub struct Granted<'t, P: Hypercall + Pages, A: Access> {
    table: &'t GrantTable<P>,
    home: &'t List,
    gref: u32,
    page: ManuallyDrop<Page<'t, P>>,
    /// Offset and length of what is granted of it, if that is not all.
    part: Option<(u16, u16)>,
    owner: Owner,
    access: PhantomData<A>,
}

/// The peer still uses the page: the grant stays.
#[derive(Debug)]
pub struct InUse<G>(
    /// The grant.
    pub G,
);

impl<P: Hypercall + Pages, A: Access> core::fmt::Debug for Granted<'_, P, A> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Granted")
            .field("gref", &self.gref())
            .field("is_used", &self.is_used())
            .finish()
    }
}

fn share<'t, P: Hypercall + Pages, A: Access>(
    table: &'t GrantTable<P>,
    home: &'t List,
    peer: DomId,
    page: Page<'t, P>,
    part: Option<Range<u16>>,
) -> Result<Granted<'t, P, A>, Error> {
    let part = match part {
        None => None,
        Some(_) if table.version() == Version::One => return Err(Error::NeedsVersion2),
        Some(part) if part.is_empty() || usize::from(part.end) > PAGE_SIZE => {
            return Err(Error::NotMemory);
        }
        Some(part) => Some((part.start, part.end - part.start)),
    };
    let gref = table.take(home)?;
    if let Err(error) = write::<P, A>(table, gref, peer, &page, part) {
        home.push(table, gref);
        return Err(error);
    }
    Ok(Granted {
        table,
        home,
        gref,
        page: ManuallyDrop::new(page),
        part,
        owner: Owner::NONE,
        access: PhantomData,
    })
}

/// Writes the entry.
fn write<P: Hypercall + Pages, A: Access>(
    table: &GrantTable<P>,
    gref: u32,
    peer: DomId,
    page: &Page<'_, P>,
    part: Option<(u16, u16)>,
) -> Result<(), Error> {
    let gfn = table.platform().gfn_of(page.start());
    let gfn = gfn.ok_or(Error::NotMemory)?;
    let flags = match part {
        None => A::FLAGS,
        Some(_) => A::FLAGS | GrantFlags::SUB_PAGE,
    };
    table.write(gref, peer, gfn, flags, part)
}

impl<P: Hypercall + Pages> GrantTable<P> {
    /// Lends a page to `peer`.
    ///
    /// # Errors
    /// [`Error::NoReference`], [`Error::NoMemory`]; [`Error::NotMemory`]: the
    /// page is of another platform, or needs version 2.
    pub fn share<'t, A: Access>(
        &'t self,
        peer: DomId,
        page: Page<'t, P>,
    ) -> Result<Granted<'t, P, A>, Error> {
        share(self, &self.free, peer, page, None)
    }

    /// Lends some bytes of a page to `peer`, who can copy them but not map
    /// them. Version 2 only.
    ///
    /// # Errors
    /// As for [`share`](Self::share); [`Error::NeedsVersion2`];
    /// [`Error::NotMemory`]: there are no such bytes in a page.
    pub fn share_part<'t, A: Access>(
        &'t self,
        peer: DomId,
        page: Page<'t, P>,
        part: Range<u16>,
    ) -> Result<Granted<'t, P, A>, Error> {
        share(self, &self.free, peer, page, Some(part))
    }

    /// Lets `peer` copy from (and, if it may be written, to) what `owner` lent
    /// to this guest as `theirs`. Version 2 only.
    ///
    /// # Errors
    /// [`Error::NeedsVersion2`], [`Error::NoReference`], [`Error::NoMemory`].
    pub fn forward<A: Access>(
        &self,
        peer: DomId,
        owner: DomId,
        theirs: GrantRef,
    ) -> Result<Forwarded<'_, P>, Error> {
        if self.version() != Version::Two {
            return Err(Error::NeedsVersion2);
        }
        let gref = self.take(&self.free)?;
        let flags = (A::FLAGS - GrantFlags::PERMIT_ACCESS) | GrantFlags::TRANSITIVE;
        self.write_transitive(gref, peer, owner, theirs, flags);
        Ok(Forwarded { table: self, gref })
    }

    /// Exchanges the references of two grants: each page is granted by the
    /// other's.
    ///
    /// # Errors
    /// [`Error::OtherTable`]; [`Error::Status`] with `EAGAIN`: a peer uses one of them
    /// just now; [`Error::Other`]: the hypervisor cannot do that.
    pub fn swap<'t, A: Access>(
        &self,
        one: &mut Granted<'t, P, A>,
        other: &mut Granted<'t, P, A>,
    ) -> Result<(), Error> {
        // Another domain's table has entries by these numbers, too.
        if ![one.table, other.table]
            .iter()
            .all(|table| ptr::eq(*table, self))
        {
            return Err(Error::OtherTable);
        }
        let mut ops = [GnttabSwapGrantRef {
            ref_a: one.gref(),
            ref_b: other.gref(),
            status: GrantStatus::GENERAL_ERROR,
            ..GnttabSwapGrantRef::default()
        }];
        // SAFETY: both entries are of this table, and their grants are borrowed mutably:
        // they are told below which reference is whose now.
        unsafe { swap(self.platform(), &mut ops) }?;
        ops[0].status.check().map_err(Error::Status)?;
        // A reference goes home where it came from.
        core::mem::swap(&mut one.gref, &mut other.gref);
        core::mem::swap(&mut one.home, &mut other.home);
        Ok(())
    }

    /// Sets `count` references aside, so that a driver never finds the table
    /// full.
    ///
    /// # Errors
    /// [`Error::NoReference`], [`Error::NoMemory`].
    pub fn reserve(&self, count: u32) -> Result<Reserved<'_, P>, Error> {
        let reserved = Reserved {
            table: self,
            list: List::default(),
        };
        for _ in 0..count {
            // What was taken so far goes back when `reserved` is dropped.
            let gref = self.take(&self.free)?;
            reserved.list.push(self, gref);
        }
        Ok(reserved)
    }
}

/// References set aside.
#[derive(Debug)]
pub struct Reserved<'t, P: Hypercall + Pages> {
    table: &'t GrantTable<P>,
    list: List,
}

impl<P: Hypercall + Pages> Reserved<'_, P> {
    /// How many of them are free. One whose page went into quarantine is the
    /// table's afterwards.
    pub fn free(&self) -> u32 {
        self.list.len()
    }

    /// [`GrantTable::share`], with one of these.
    ///
    /// # Errors
    /// As there.
    pub fn share<'r, A: Access>(
        &'r self,
        peer: DomId,
        page: Page<'r, P>,
    ) -> Result<Granted<'r, P, A>, Error> {
        share(self.table, &self.list, peer, page, None)
    }
}

impl<P: Hypercall + Pages> Drop for Reserved<'_, P> {
    fn drop(&mut self) {
        while let Some(gref) = self.list.pop(self.table) {
            self.table.free.push(self.table, gref);
        }
    }
}

impl<'t, P: Hypercall + Pages, A: Access> Granted<'t, P, A> {
    /// What the peer is told.
    pub const fn gref(&self) -> GrantRef {
        GrantRef(self.gref)
    }

    /// Says for whom it is lent: its page is counted there
    /// ([`GrantTable::quarantined_of`]) if it goes into quarantine.
    pub const fn set_owner(&mut self, owner: Owner) {
        self.owner = owner;
    }

    /// Whether the peer maps or copies it now.
    pub fn is_used(&self) -> bool {
        self.table.is_used(self.gref)
    }

    /// Whether nothing is granted any more: this guest went on elsewhere
    /// ([`GrantTable::resume`]).
    pub fn is_over(&self) -> bool {
        self.table.is_over(self.gref)
    }

    /// Lends to `peer` what a [resume](GrantTable::resume) has ended, as it was and by the
    /// same reference; a grant that goes on is left as it is.
    ///
    /// # Errors
    /// [`Error::NotMemory`]: its frame there needs version 2.
    pub fn renew(&mut self, peer: DomId) -> Result<(), Error> {
        match self.is_over() {
            true => write::<P, A>(self.table, self.gref, peer, &self.page, self.part),
            false => Ok(()),
        }
    }

    /// Ends the grant and gives the page back.
    ///
    /// # Errors
    /// The peer still uses it: ask it to let go, and try again. (With version 2
    /// it can begin no new use.)
    pub fn end(self) -> Result<Page<'t, P>, InUse<Self>> {
        if !self.table.revoke(self.gref) {
            return Err(InUse(self));
        }
        let mut this = ManuallyDrop::new(self);
        this.home.push(this.table, this.gref);
        // SAFETY: `this` is not used again, and not dropped.
        Ok(unsafe { ManuallyDrop::take(&mut this.page) })
    }
}

impl<P: Hypercall + Pages> Granted<'_, P, PeerWrites> {
    /// The page's bytes, while the peer may use them.
    pub fn peer(&self) -> PeerSlice<'_> {
        // SAFETY: a page of ours that lives as long as this borrow. Nobody has a reference
        // into it: only a page that the peer cannot write gives one.
        unsafe { PeerSlice::new(self.page.start(), PAGE_SIZE) }
    }
}

impl<P: Hypercall + Pages> Granted<'_, P, PeerReads> {
    /// The page's bytes: the peer only reads them.
    pub fn bytes(&self) -> &[u8] {
        self.page.bytes()
    }

    /// The page's bytes, to be changed: the peer only reads them.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: a page of ours, borrowed mutably, which nobody else writes.
        unsafe { slice::from_raw_parts_mut(self.page.start().as_ptr(), PAGE_SIZE) }
    }
}

impl<P: Hypercall + Pages, A: Access> Drop for Granted<'_, P, A> {
    fn drop(&mut self) {
        // SAFETY: `self` is not used again.
        let page = unsafe { ManuallyDrop::take(&mut self.page) };
        if self.table.revoke(self.gref) {
            self.home.push(self.table, self.gref);
        } else {
            self.table
                .put_in_quarantine(self.gref, page.into_raw(), self.owner);
        }
    }
}

/// Another domain's grant, lent on. Dropping it ends that.
#[derive(Debug)]
pub struct Forwarded<'t, P: Hypercall + Pages> {
    table: &'t GrantTable<P>,
    gref: u32,
}

impl<P: Hypercall + Pages> Forwarded<'_, P> {
    /// What the peer is told.
    pub const fn gref(&self) -> GrantRef {
        GrantRef(self.gref)
    }
}

impl<P: Hypercall + Pages> Drop for Forwarded<'_, P> {
    fn drop(&mut self) {
        // A copy is over when its hypercall is: this is not for long.
        while !self.table.revoke(self.gref) {
            core::hint::spin_loop();
        }
        self.table.free.push(self.table, self.gref);
    }
}
