//! The shared ring: requests one way, responses the other, in the same slots.
//!
//! ```text
//!   0  req_prod   requests written, by the frontend
//!   4  req_event  tell me when req_prod passes this, by the backend
//!   8  rsp_prod   responses written, by the backend
//!  12  rsp_event  tell me when rsp_prod passes this, by the frontend
//!  16  private
//!  64  slots: as many as fit, rounded down to a power of two
//! ```
//!
//! Indices run freely, modulo 2^32; a slot is an index modulo the number of
//! slots. Each protocol's ring has this head: [`slots`] tells how many fit.
//!
//! [`FrontRing`] and [`BackRing`] are the two ends: their indices ([`index`]) are
//! what both sides change at once. The other kind of ring ([`byte_ring`]) carries
//! bytes, with the indices apart from the data.

mod back;
mod front;
pub mod index;
mod memory;

pub use back::BackRing;
pub use front::FrontRing;
pub use index::{Broken, Notify};
pub use memory::RingMemory;

crate::facts::constants! {
    /// Bits of an offset into a page, as protocols count pages.
    XEN_PAGE_SHIFT: u32 = 12;
}

crate::facts::structs! {
    /// The head of a shared ring; its slots follow.
    "blkif_sring" 64
    pub struct Sring {
        /// Requests written.
        req_prod: u32 = 0,
        /// The request after which the backend wants to be told.
        req_event: u32 = 4,
        /// Responses written.
        rsp_prod: u32 = 8,
        /// The response after which the frontend wants to be told.
        rsp_event: u32 = 12,
        /// For the domain that owns the page; not used any more.
        pvt: u32 = 16,
        /// Zero.
        __pad: [u8; 44] = 20,
    }
}

/// How many slots of `slot_bytes` a ring of `ring_bytes` has. Source:
/// `__RING_SIZE`, `io/ring.h`.
///
/// ```
/// use hypercall_abi::io::{blkif::BlkifRequest, ring};
///
/// assert_eq!(ring::slots(4096, size_of::<BlkifRequest>()), 32);
/// assert_eq!(ring::slots(100, 200), 0);
/// ```
pub const fn slots(ring_bytes: usize, slot_bytes: usize) -> usize {
    let Some(room) = ring_bytes.checked_sub(size_of::<Sring>()) else {
        return 0;
    };
    let Some(fit) = room.checked_div(slot_bytes) else {
        return 0;
    };
    match fit.checked_ilog2() {
        Some(order) => 1 << order,
        None => 0,
    }
}

/// Rings of bytes: the other kind of ring, as in
/// [`pvcalls`](super::pvcalls) and [`p9fs`](super::p9fs), whose data lies in
/// pages of its own, the first half towards the frontend.
///
/// Source: `DEFINE_XEN_FLEX_RING`, `io/ring.h`.
pub mod byte_ring {
    /// The largest ring whose bytes have indices of their own.
    const MAX_ORDER: u32 = 20;

    /// Bytes of each direction of a ring of `1 << order` pages; `None`: more than an index
    /// of 32 bits tells apart.
    pub const fn len_bytes(order: u32) -> Option<u32> {
        if order > MAX_ORDER {
            return None;
        }
        Some((crate::PAGE_SIZE as u32 / 2) << order)
    }

    /// The place of the byte with this free-running index.
    pub const fn place(index: u32, len_bytes: u32) -> u32 {
        index & len_bytes.wrapping_sub(1)
    }

    /// Bytes to be read; `None` if the other side broke the ring.
    pub const fn queued(producer: u32, consumer: u32, len_bytes: u32) -> Option<u32> {
        let queued = producer.wrapping_sub(consumer);
        if queued > len_bytes {
            None
        } else {
            Some(queued)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn indices_wrap() {
            assert_eq!(len_bytes(1), Some(4096));
            assert_eq!(place(4097, 4096), 1);
            assert_eq!(queued(2, u32::MAX, 4096), Some(3));
            assert_eq!(queued(0, 1, 4096), None);
        }

        #[test]
        fn rings_have_a_most() {
            assert_eq!(len_bytes(0), Some(2048));
            assert_eq!(len_bytes(20), Some(1 << 31));
            assert_eq!([21, 31, 32, u32::MAX].map(len_bytes), [None; 4]);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::ptr::NonNull;

    use static_assertions::{assert_impl_all, assert_not_impl_any};

    use super::*;
    use crate::{PAGE_SIZE, peer::PeerSlice};

    // An end of a ring goes where its memory does, and there is one of it.
    assert_impl_all!(FrontRing<PeerSlice<'static>, 8>: Send, Sync);
    assert_impl_all!(BackRing<PeerSlice<'static>, 8>: Send, Sync);
    assert_not_impl_any!(FrontRing<NonNull<u8>, 8>: Send, Sync);
    assert_not_impl_any!(BackRing<NonNull<u8>, 8>: Send, Sync);
    assert_not_impl_any!(FrontRing<PeerSlice<'static>, 8>: Clone, Copy);
    assert_not_impl_any!(BackRing<PeerSlice<'static>, 8>: Clone, Copy);

    #[repr(align(4096))]
    struct Page([u8; PAGE_SIZE]);

    struct Pages([NonNull<u8>; 2]);

    impl RingMemory for &Pages {
        fn pages(&self) -> usize {
            2
        }
        fn page(&self, index: usize) -> Option<PeerSlice<'_>> {
            let page = self.0.get(index)?;
            // SAFETY: the test's pages outlive the ring, which alone uses them.
            Some(unsafe { PeerSlice::new(*page, PAGE_SIZE) })
        }
    }

    const SLOT: usize = 112;

    /// Slots of 112 bytes lie across the end of the first page.
    #[test]
    fn slots_may_lie_across_pages() {
        let mut memory = [Page([0; PAGE_SIZE]), Page([0; PAGE_SIZE])];
        let [one, other] = &mut memory;
        let pages = Pages([one, other].map(|page| NonNull::from(&mut page.0).cast()));
        let mut front = FrontRing::<_, SLOT>::new(&pages).unwrap();
        let mut back = BackRing::<_, SLOT>::attach(&pages).unwrap();
        assert_eq!((front.slots(), back.slots()), (64, 64));
        // Miri is slow.
        for round in 0..if cfg!(miri) { 2 } else { 200_u8 } {
            for slot in 0..64 {
                assert!(front.push(&[round ^ slot; SLOT]));
            }
            assert!(!front.push(&[0_u8; SLOT]));
            let _told = front.publish();
            for slot in 0..64 {
                let request: [u8; SLOT] = back.pop().unwrap().unwrap();
                assert_eq!(request, [round ^ slot; SLOT]);
                assert!(back.push(&[!request[0]; 16]));
            }
            assert_eq!(back.pop::<[u8; SLOT]>(), Ok(None));
            assert!(!back.push(&[0_u8; 16]));
            assert_eq!(front.ready(), Ok(0));
            let _told = back.publish();
            for slot in 0..64 {
                assert_eq!(front.pop(), Ok(Some([!(round ^ slot); 16])));
            }
            assert_eq!(front.pop::<[u8; 16]>(), Ok(None));
        }
    }

    #[test]
    fn impossible_indices_are_noticed() {
        let mut memory = [Page([0; PAGE_SIZE]), Page([0; PAGE_SIZE])];
        let [one, other] = &mut memory;
        let pages = Pages([one, other].map(|page| NonNull::from(&mut page.0).cast()));
        let mut front = FrontRing::<_, SLOT>::new(&pages).unwrap();
        let shared = &pages;
        let words = memory::Words::of(&shared).unwrap();
        words.rsp_prod.store_release(1);
        assert_eq!(front.pop::<u64>(), Err(Broken));
        // Not even for a request that the peer was not yet shown.
        assert!(front.push(&0_u64));
        assert_eq!(front.pop::<u64>(), Err(Broken));
        let _told = front.publish();
        assert_eq!(front.pop(), Ok(Some(0_u64)));
        let mut back = BackRing::<_, SLOT>::attach(&pages).unwrap();
        words.req_prod.store_release(1 + 65);
        assert_eq!(back.pop::<u64>(), Err(Broken));
    }
}
