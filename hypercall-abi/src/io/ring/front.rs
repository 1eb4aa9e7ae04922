//! The frontend's end of a shared ring.

use zerocopy::{FromBytes, IntoBytes};

use super::{
    Broken, Notify, RingMemory,
    index::{listen_for, publish, published},
    memory::{self, Words},
};

/// The frontend's end of a ring of `SLOT_BYTES` a slot: puts requests in, takes
/// responses out.
///
/// Its own indices are kept here: what the peer writes over the shared ones
/// misleads nobody but itself.
///
/// ```
/// use hypercall_abi::{
///     PAGE_SIZE,
///     io::{blkif::{BlkifRequest, BlkifResponse}, ring::{BackRing, FrontRing, Notify, RingMemory}},
///     peer::PeerSlice,
/// };
/// # use core::ptr::NonNull;
/// # #[repr(align(4096))] struct Page([u8; PAGE_SIZE]);
/// # struct Pages(NonNull<u8>);
/// # impl RingMemory for &Pages {
/// #     fn pages(&self) -> usize { 1 }
/// #     fn page(&self, index: usize) -> Option<PeerSlice<'_>> {
/// #         // SAFETY: the page outlives the ring, which alone uses it.
/// #         (index == 0).then(|| unsafe { PeerSlice::new(self.0, PAGE_SIZE) })
/// #     }
/// # }
/// # let mut page = Page([0; PAGE_SIZE]);
/// # let pages = Pages(NonNull::from(&mut page).cast());
/// const SLOT: usize = size_of::<BlkifRequest>();
/// let mut front = FrontRing::<_, SLOT>::new(&pages).unwrap();
/// let mut back = BackRing::<_, SLOT>::attach(&pages).unwrap();
/// assert!(front.push(&BlkifRequest { id: 7, ..Default::default() }));
/// assert_eq!(front.publish(), Notify::Yes);
///
/// let request: BlkifRequest = back.pop()?.unwrap();
/// assert!(back.push(&BlkifResponse { id: request.id, ..Default::default() }));
/// assert_eq!(back.publish(), Notify::Yes);
///
/// let response: BlkifResponse = front.pop()?.unwrap();
/// assert_eq!(response.id, 7);
/// # Ok::<(), hypercall_abi::io::ring::Broken>(())
/// ```
#[derive(Debug)]
pub struct FrontRing<M, const SLOT_BYTES: usize> {
    memory: M,
    count: u32,
    /// Requests written, published or not.
    written: u32,
    /// Requests published.
    published: u32,
    /// Responses taken.
    taken: u32,
}

impl<M: RingMemory, const SLOT_BYTES: usize> FrontRing<M, SLOT_BYTES> {
    /// A new ring over zeroed pages, which the peer has not yet. `None`: there
    /// are no pages, or they hold no slot. Source: `SHARED_RING_INIT`.
    pub fn new(memory: M) -> Option<Self> {
        let count = memory::count(&memory, SLOT_BYTES);
        if count == 0 {
            return None;
        }
        let words = Words::of(&memory)?;
        words.req_prod.store_release(0);
        words.rsp_prod.store_release(0);
        words.req_event.store_release(1);
        words.rsp_event.store_release(1);
        Some(Self {
            memory,
            count,
            written: 0,
            published: 0,
            taken: 0,
        })
    }

    /// The pages.
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// The pages: the ring is over.
    pub fn into_memory(self) -> M {
        self.memory
    }

    /// How many slots there are.
    pub const fn slots(&self) -> u32 {
        self.count
    }

    /// How many requests have no response yet.
    pub const fn in_flight(&self) -> u32 {
        self.written.wrapping_sub(self.taken)
    }

    /// How many requests there is room for.
    pub const fn room(&self) -> u32 {
        self.count - self.in_flight()
    }

    /// Writes a request (the first `SLOT_BYTES` of it); false: there is no
    /// room. The peer sees it when it is [published](Self::publish).
    #[inline]
    pub fn push<R: IntoBytes + zerocopy::Immutable + ?Sized>(&mut self, request: &R) -> bool {
        if self.room() == 0 {
            return false;
        }
        let bytes = request.as_bytes();
        let done = memory::write(&self.memory, self.written, self.count, SLOT_BYTES, bytes);
        if done.is_some() {
            self.written = self.written.wrapping_add(1);
        }
        done.is_some()
    }

    /// Shows the peer what was pushed, and says whether it wants to be told.
    #[inline]
    pub fn publish(&mut self) -> Notify {
        let old = self.published;
        if old == self.written {
            return Notify::No;
        }
        self.published = self.written;
        Words::of(&self.memory).map_or(Notify::No, |words| {
            publish(&words.req_prod, &words.req_event, old, self.written)
        })
    }

    /// How many responses there are to be taken.
    ///
    /// # Errors
    /// More than requests without one: the peer broke the ring.
    #[inline]
    pub fn ready(&self) -> Result<u32, Broken> {
        let words = Words::of(&self.memory).ok_or(Broken)?;
        let most = self.published.wrapping_sub(self.taken);
        published(&words.rsp_prod, self.taken, most)
    }

    /// Takes a response, if there is one: a copy, of which everything is still
    /// to be checked.
    ///
    /// # Errors
    /// The peer broke the ring.
    #[inline]
    pub fn pop<R: FromBytes + IntoBytes>(&mut self) -> Result<Option<R>, Broken> {
        if self.ready()? == 0 {
            return Ok(None);
        }
        self.take().map(Some)
    }

    /// Takes a response of those that are [ready](Self::ready).
    #[inline]
    fn take<R: FromBytes + IntoBytes>(&mut self) -> Result<R, Broken> {
        let mut response = R::new_zeroed();
        let bytes = response.as_mut_bytes();
        memory::read(&self.memory, self.taken, self.count, SLOT_BYTES, bytes).ok_or(Broken)?;
        self.taken = self.taken.wrapping_add(1);
        Ok(response)
    }

    /// Before sleeping: asks to be told of the next response, and says whether
    /// there is one already.
    #[inline]
    pub fn listen(&self) -> bool {
        self.listen_for(1)
    }

    /// Before sleeping: asks to be told when `count` responses are there (one at least),
    /// and says whether they are already. It has to be no more than are
    /// [in flight](Self::in_flight), or nobody will tell.
    #[inline]
    pub fn listen_for(&self, count: u32) -> bool {
        Words::of(&self.memory)
            .is_some_and(|words| listen_for(&words.rsp_prod, &words.rsp_event, self.taken, count))
    }
}
