//! Input and output of memory that the backend has: without a copy, if it is trusted.

use hypercall_abi::platform::Platform;

use super::{
    Disk, Error, Sector,
    data::Own,
    queue::Op,
    transfer::{Transfer, Withdrawn},
    writable,
};
use crate::{buffers::GrantedBuf, xenbus::Trusted};

impl<'g, P: Platform> Disk<'g, P> {
    /// Memory of so many pages that the backend has, unless it is not trusted
    /// ([`Trust`](super::Trust)): see [`read_granted`](Self::read_granted).
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Quarantine`]; those of [`ready`](Self::ready).
    pub async fn buffer(&self, pages: usize) -> Result<GrantedBuf<'g, P>, Error> {
        self.ready().await?;
        let (peer, trusted) = {
            let link = self.core().link.lock();
            (link.peer, link.trusted)
        };
        let (grants, kept) = (self.core().bus.grants(), &self.core().kept);
        match trusted {
            Trusted::Yes => {
                GrantedBuf::from_kept(kept, self.core().lender, peer, pages).map_err(Error::from)
            }
            Trusted::No => GrantedBuf::private(grants, peer, pages).map_err(|_| Error::NoMemory),
        }
    }

    /// Reads into all of `buffer`, from `first` on, without a copy (unless the
    /// backend is not trusted). The buffer comes back; it is lost if the future is
    /// dropped.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn read_granted(
        &self,
        first: Sector,
        buffer: GrantedBuf<'g, P>,
    ) -> (GrantedBuf<'g, P>, Result<(), Error>) {
        self.granted(Op::Read, first, buffer).await
    }

    /// Writes all of `buffer`, from `first` on: as [`read_granted`](Self::read_granted).
    ///
    /// # Errors
    /// [`Error`].
    pub async fn write_granted(
        &self,
        first: Sector,
        buffer: GrantedBuf<'g, P>,
    ) -> (GrantedBuf<'g, P>, Result<(), Error>) {
        self.granted(Op::Write, first, buffer).await
    }

    async fn granted(
        &self,
        op: Op,
        first: Sector,
        mut buffer: GrantedBuf<'g, P>,
    ) -> (GrantedBuf<'g, P>, Result<(), Error>) {
        let len = buffer.len_bytes();
        let checked = self.check(first, len).await;
        let checked = checked.and_then(|geometry| match op {
            Op::Write => writable(geometry),
            _ => Ok(geometry),
        });
        if checked.is_err() || len == 0 {
            return (buffer, checked.map(|_| ()));
        }
        let (peer, trusted) = {
            let link = self.core().link.lock();
            (link.peer, link.trusted)
        };
        if trusted == Trusted::No && buffer.take_back().is_err() {
            return (buffer, Err(Error::NoMemory));
        }
        if peer != buffer.peer() || !buffer.is_lent() {
            return self.bounced(op, first, buffer).await;
        }
        let held = match (op, checked) {
            (Op::Write, Ok(geometry)) => self.hold(geometry, first, len).await,
            _ => None,
        };
        let data = Own::new(peer, core::mem::take(&mut buffer.pages));
        let mut transfer =
            Transfer::new(self, op, first, len, data, self.any_queue()).holding(held);
        let result = (&mut transfer).await;
        buffer.pages = transfer.data_mut().take();
        let withdrawn = transfer.withdrawn();
        drop(transfer);
        // Pages that the next peer got meanwhile are not the buffer's peer's.
        if (withdrawn == Withdrawn::Yes || self.core().link.lock().peer != peer)
            && buffer.take_back().is_err()
        {
            return (buffer, Err(Error::NoMemory));
        }
        match withdrawn {
            Withdrawn::Yes => self.bounced(op, first, buffer).await,
            Withdrawn::No => (buffer, result),
        }
    }

    /// The same by pages of the driver's own.
    async fn bounced(
        &self,
        op: Op,
        first: Sector,
        mut buffer: GrantedBuf<'g, P>,
    ) -> (GrantedBuf<'g, P>, Result<(), Error>) {
        let mut bytes = alloc::vec![0; buffer.len_bytes()];
        let result = match op {
            Op::Read => {
                let read = self.read(first, &mut bytes).await;
                buffer.copy_from(0, &bytes);
                read
            }
            _ => {
                buffer.copy_to(0, &mut bytes);
                self.write(first, &bytes).await
            }
        };
        (buffer, result)
    }
}
