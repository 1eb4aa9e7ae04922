//! Where an operation's bytes come from or go to.

use alloc::vec::Vec;
use core::ops::Range;

use hypercall_abi::{DomId, PAGE_SIZE, platform::Platform};
use smallvec::{SmallVec, smallvec};

use super::{
    Error,
    queue::{Batch, Queue, Source},
};
use crate::buffers::{Lent, parts};

/// Where an operation's bytes come from or go to.
pub(super) trait Data<'g, P: Platform> {
    /// Whose pages these are.
    const SOURCE: Source = Source::Pool;

    /// To whom the caller's pages are lent.
    fn peer(&self) -> Option<DomId> {
        None
    }

    /// The pages for up to `len_bytes` bytes from `offset` on, with what is to be
    /// written: fewer, if there are fewer just now; none if they must be waited
    /// for.
    fn pages(
        &mut self,
        queue: &mut Queue<'g, P>,
        offset: usize,
        len_bytes: usize,
    ) -> Result<Vec<Lent<'g, P>>, Error>;

    /// They come back, with what was read if `read` is `Ok`.
    fn done(
        &mut self,
        queue: &mut Queue<'g, P>,
        offset: usize,
        len_bytes: usize,
        batch: Batch<'g, P>,
        result: Result<(), Error>,
    );
}

/// The way through slices that follow each other: of each, the part that some bytes lie in.
struct Walk {
    /// Bytes before those.
    skip: usize,
    /// Bytes of those that lie in slices to come.
    rest: usize,
}

impl Walk {
    const fn new(offset: usize, len_bytes: usize) -> Self {
        Self {
            skip: offset,
            rest: len_bytes,
        }
    }

    /// The part of the next slice, which has so many bytes.
    fn next(&mut self, len: usize) -> Range<usize> {
        let start = self.skip.min(len);
        let count = self.rest.min(len - start);
        (self.skip, self.rest) = (self.skip - start, self.rest - count);
        start..start + count
    }
}

/// Bytes that are read into memory of the caller's.
pub(super) struct Into<'b, 'c>(pub(super) &'b mut [&'c mut [u8]]);

impl<'g, P: Platform> Data<'g, P> for Into<'_, '_> {
    fn pages(
        &mut self,
        queue: &mut Queue<'g, P>,
        _offset: usize,
        len_bytes: usize,
    ) -> Result<Vec<Lent<'g, P>>, Error> {
        queue.pages(len_bytes.div_ceil(PAGE_SIZE))
    }

    fn done(
        &mut self,
        queue: &mut Queue<'g, P>,
        offset: usize,
        len_bytes: usize,
        batch: Batch<'g, P>,
        result: Result<(), Error>,
    ) {
        if result.is_ok() {
            let mut walk = Walk::new(offset, len_bytes);
            let mut at = 0;
            for target in self.0.iter_mut() {
                let range = walk.next(target.len());
                let mut target = target.get_mut(range).unwrap_or_default();
                for part in parts(&batch.pages, at) {
                    let copied = part.copy_to(target);
                    at += copied;
                    target = target.get_mut(copied..).unwrap_or_default();
                }
            }
        }
        queue.give_back(batch);
    }
}

/// Bytes that are written from memory of the caller's.
pub(super) struct From<'b, 'c>(pub(super) &'b [&'c [u8]]);

impl<'g, P: Platform> Data<'g, P> for From<'_, '_> {
    fn pages(
        &mut self,
        queue: &mut Queue<'g, P>,
        offset: usize,
        len_bytes: usize,
    ) -> Result<Vec<Lent<'g, P>>, Error> {
        let pages = queue.pages(len_bytes.div_ceil(PAGE_SIZE))?;
        let mut walk = Walk::new(offset, len_bytes.min(pages.len() * PAGE_SIZE));
        let mut at = 0;
        for source in self.0 {
            let mut source = source.get(walk.next(source.len())).unwrap_or_default();
            for part in parts(&pages, at) {
                let copied = part.copy_from(source);
                at += copied;
                source = source.get(copied..).unwrap_or_default();
            }
        }
        Ok(pages)
    }

    fn done(
        &mut self,
        queue: &mut Queue<'g, P>,
        _offset: usize,
        _len_bytes: usize,
        batch: Batch<'g, P>,
        _result: Result<(), Error>,
    ) {
        queue.give_back(batch);
    }
}

/// Pages of the caller's that the backend has: runs of them that are here, each with
/// its offset. Of an operation that is one request, none needs to be taken apart.
pub(super) struct Own<'g, P: Platform> {
    peer: DomId,
    runs: SmallVec<[(usize, Vec<Lent<'g, P>>); 1]>,
}

impl<'g, P: Platform> Own<'g, P> {
    pub(super) fn new(peer: DomId, pages: Vec<Lent<'g, P>>) -> Self {
        Self {
            peer,
            runs: smallvec![(0, pages)],
        }
    }

    /// All that are here, in their order.
    pub(super) fn take(&mut self) -> Vec<Lent<'g, P>> {
        self.runs.sort_unstable_by_key(|(offset, _)| *offset);
        let mut runs = self.runs.drain(..).map(|(_, pages)| pages);
        let mut all = runs.next().unwrap_or_default();
        all.extend(runs.flatten());
        all
    }
}

impl<'g, P: Platform> Data<'g, P> for Own<'g, P> {
    const SOURCE: Source = Source::Caller;

    fn peer(&self) -> Option<DomId> {
        Some(self.peer)
    }

    fn pages(
        &mut self,
        queue: &mut Queue<'g, P>,
        offset: usize,
        len_bytes: usize,
    ) -> Result<Vec<Lent<'g, P>>, Error> {
        let has_it = |(start, pages): &(usize, Vec<_>)| {
            (*start..*start + pages.len() * PAGE_SIZE).contains(&offset)
        };
        let Some(place) = self.runs.iter().position(has_it) else {
            return Ok(Vec::new());
        };
        let (start, mut pages) = self.runs.swap_remove(place);
        if offset > start {
            let rest = pages.split_off((offset - start) / PAGE_SIZE);
            self.runs
                .push((start, core::mem::replace(&mut pages, rest)));
        }
        let count = len_bytes.div_ceil(PAGE_SIZE);
        if count < pages.len() {
            let rest = pages.split_off(count);
            self.runs.push((offset + count * PAGE_SIZE, rest));
        }
        for page in &mut pages {
            // A resume may have ended it. One that cannot be lent again is refused by the
            // backend, and stays the caller's.
            let _refused = page.renew(queue.peer());
        }
        Ok(pages)
    }

    fn done(
        &mut self,
        _queue: &mut Queue<'g, P>,
        offset: usize,
        _len_bytes: usize,
        batch: Batch<'g, P>,
        _result: Result<(), Error>,
    ) {
        self.runs.push((offset, batch.pages));
    }
}

/// No bytes at all.
pub(super) struct Nothing;

impl<'g, P: Platform> Data<'g, P> for Nothing {
    fn pages(
        &mut self,
        _queue: &mut Queue<'g, P>,
        _offset: usize,
        _len_bytes: usize,
    ) -> Result<Vec<Lent<'g, P>>, Error> {
        Ok(Vec::new())
    }

    fn done(
        &mut self,
        _queue: &mut Queue<'g, P>,
        _offset: usize,
        _len_bytes: usize,
        _batch: Batch<'g, P>,
        _result: Result<(), Error>,
    ) {
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_goes_through_all_bytes_and_no_others() {
        let through = |offset, len_bytes, lens: &[usize]| {
            let mut walk = Walk::new(offset, len_bytes);
            lens.iter().map(|len| walk.next(*len)).collect::<Vec<_>>()
        };
        assert_eq!(through(0, 10, &[4, 0, 6]), [0..4, 0..0, 0..6]);
        assert_eq!(through(5, 3, &[4, 4, 4]), [4..4, 1..4, 0..0]);
        assert_eq!(through(4, 5, &[4, 4, 4]), [4..4, 0..4, 0..1]);
        // Fewer bytes than were asked for.
        assert_eq!(through(1, 100, &[2, 2]), [1..2, 0..2]);
        assert_eq!(through(9, 1, &[2, 2]), [2..2, 2..2]);
    }
}
