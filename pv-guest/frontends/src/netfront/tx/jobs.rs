//! Packets in pages that the caller lent.

use alloc::vec::Vec;
use core::task::{Poll, Waker};

use hypercall_abi::{PAGE_SIZE, platform::Platform};

use super::{Pieces, Tx, Use};
use crate::{
    buffers::Lent,
    netfront::{Error, Offload},
};

/// A packet in pages that the caller lent.
#[derive(Debug)]
pub(super) struct Job<'g, P: Platform> {
    pages: Vec<Lent<'g, P>>,
    /// Slots without an answer.
    left: usize,
    result: Result<(), Error>,
    owner: Owner,
}

/// Whether somebody waits for a job's end.
#[derive(Debug)]
enum Owner {
    Waits(Option<Waker>),
    Gone,
}

/// What became of a packet in lent pages, and the pages.
pub(in crate::netfront) type Ended<'g, P> = (Result<(), Error>, Vec<Lent<'g, P>>);

impl<'g, P: Platform> Tx<'g, P> {
    /// Sends the first bytes of pages that the caller lent; gives them back if
    /// there is no room.
    pub(in crate::netfront) fn send_lent(
        &mut self,
        mut pages: Vec<Lent<'g, P>>,
        len_bytes: usize,
        offload: Offload,
    ) -> Result<usize, Vec<Lent<'g, P>>> {
        self.close_train();
        if self.room() < Self::needed(len_bytes, offload) {
            return Err(pages);
        }
        for page in &mut pages {
            // A resume may have ended it. One that cannot be lent again is refused by the
            // backend, which the caller is told.
            let _refused = page.renew(self.peer);
        }
        let mut pieces: Pieces = Default::default();
        let count = len_bytes.div_ceil(PAGE_SIZE).max(1);
        let mut rest = len_bytes;
        for (piece, page) in pieces.iter_mut().zip(&pages).take(count) {
            let here = rest.min(PAGE_SIZE);
            *piece = (page.gref(), here as u16);
            rest -= here;
        }
        let job = Job {
            pages,
            left: count,
            result: Ok(()),
            owner: Owner::Waits(None),
        };
        let place = self.jobs.iter().position(Option::is_none);
        let id = place.unwrap_or(self.jobs.len());
        match self.jobs.get_mut(id) {
            Some(slot) => *slot = Some(job),
            None => self.jobs.push(Some(job)),
        }
        self.push(
            pieces.get(..count).unwrap_or_default(),
            offload,
            Use::Job(id),
        );
        Ok(id)
    }

    /// What became of a job.
    pub(in crate::netfront) fn poll_job(&mut self, id: usize, waker: &Waker) -> Poll<Ended<'g, P>> {
        let place = self.jobs.get_mut(id);
        let ended = place.and_then(|job| job.take_if(|job| job.left == 0));
        if let Some(job) = ended {
            return Poll::Ready((job.result, job.pages));
        }
        match self.jobs.get_mut(id).and_then(Option::as_mut) {
            Some(job) => {
                job.owner = Owner::Waits(Some(waker.clone()));
                Poll::Pending
            }
            // Nobody asks twice.
            None => Poll::Ready((Err(Error::Lost), Vec::new())),
        }
    }

    /// Nobody waits for it any more: its pages are taken back when they may be.
    pub(in crate::netfront) fn forget_job(&mut self, id: usize) {
        if let Some(job) = self.jobs.get_mut(id) {
            if job.as_ref().is_some_and(|job| job.left == 0) {
                *job = None;
            } else if let Some(job) = job {
                job.owner = Owner::Gone;
            }
        }
    }

    /// A slot of a job's was answered.
    pub(super) fn answer_job(&mut self, index: usize, result: Result<(), Error>) {
        let Some(place) = self.jobs.get_mut(index) else {
            return;
        };
        let Some(job) = place else {
            return;
        };
        job.left = job.left.saturating_sub(1);
        job.result = job.result.and(result);
        if job.left > 0 {
            return;
        }
        match &mut job.owner {
            Owner::Gone => *place = None,
            Owner::Waits(waker) => {
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            }
        }
    }
}
