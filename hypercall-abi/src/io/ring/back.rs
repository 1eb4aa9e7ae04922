//! The backend's end of a shared ring.

use zerocopy::{FromBytes, IntoBytes};

use super::{
    Broken, Notify, RingMemory,
    index::{listen, publish, published},
    memory::{self, Words},
};

/// The backend's end of a ring of `SLOT_BYTES` a slot: takes requests out, puts
/// responses in. See [`FrontRing`](super::FrontRing).
#[derive(Debug)]
pub struct BackRing<M, const SLOT_BYTES: usize> {
    memory: M,
    count: u32,
    /// Requests taken.
    taken: u32,
    /// Responses written, published or not.
    written: u32,
    /// Responses published.
    published: u32,
}

impl<M: RingMemory, const SLOT_BYTES: usize> BackRing<M, SLOT_BYTES> {
    /// The ring that a frontend made in these pages. It begins where the
    /// responses end, so that a backend that was replaced can go on: what has no
    /// response is to be answered. `None`: the pages hold no slot. Source:
    /// `BACK_RING_ATTACH`.
    pub fn attach(memory: M) -> Option<Self> {
        let count = memory::count(&memory, SLOT_BYTES);
        if count == 0 {
            return None;
        }
        let responses = Words::of(&memory)?.rsp_prod.load_acquire().trust();
        Some(Self {
            memory,
            count,
            taken: responses,
            written: responses,
            published: responses,
        })
    }

    /// The pages.
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// How many slots there are.
    pub const fn slots(&self) -> u32 {
        self.count
    }

    /// How many requests were taken and have no response yet.
    pub const fn in_flight(&self) -> u32 {
        self.taken.wrapping_sub(self.written)
    }

    /// Takes a request, if there is one: a copy, of which everything is still
    /// to be checked.
    ///
    /// # Errors
    /// The frontend broke the ring: more requests than slots.
    pub fn pop<R: FromBytes + IntoBytes>(&mut self) -> Result<Option<R>, Broken> {
        let words = Words::of(&self.memory).ok_or(Broken)?;
        let most = self.count - self.in_flight().min(self.count);
        if published(&words.req_prod, self.taken, most)? == 0 {
            return Ok(None);
        }
        let mut request = R::new_zeroed();
        let bytes = request.as_mut_bytes();
        memory::read(&self.memory, self.taken, self.count, SLOT_BYTES, bytes).ok_or(Broken)?;
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(request))
    }

    /// Writes a response; false: there is no request without one. The frontend
    /// sees it when it is [published](Self::publish).
    pub fn push<R: IntoBytes + zerocopy::Immutable + ?Sized>(&mut self, response: &R) -> bool {
        if self.in_flight() == 0 {
            return false;
        }
        let bytes = response.as_bytes();
        let done = memory::write(&self.memory, self.written, self.count, SLOT_BYTES, bytes);
        if done.is_some() {
            self.written = self.written.wrapping_add(1);
        }
        done.is_some()
    }

    /// Shows the frontend what was pushed, and says whether it wants to be told.
    pub fn publish(&mut self) -> Notify {
        let old = self.published;
        if old == self.written {
            return Notify::No;
        }
        self.published = self.written;
        Words::of(&self.memory).map_or(Notify::No, |words| {
            publish(&words.rsp_prod, &words.rsp_event, old, self.written)
        })
    }

    /// Before sleeping: asks to be told of the next request, and says whether
    /// there is one already.
    pub fn listen(&self) -> bool {
        Words::of(&self.memory)
            .is_some_and(|words| listen(&words.req_prod, &words.req_event, self.taken))
    }
}
