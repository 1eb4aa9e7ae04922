//! Pages that were lent to a device's backend and are not used just now.
//!
//! A backend that keeps grants mapped does so for those that it sees first, up to some
//! number, and maps all others for each request: a page that it knows is worth more than
//! a fresh one. And one that is ended while the backend has it mapped is nobody's, until
//! the backend lets go.

use alloc::{sync::Arc, vec::Vec};

use hypercall_abi::{DomId, platform::Platform};
use spin::Mutex;

use crate::granted_buf::{GrantedBuf, Lender, Lent, clear_from, lend};

/// The most that are kept: about as many as Linux's backend keeps mapped.
const MOST: usize = 1024;

#[derive(Debug)]
struct Kept<'g, P: Platform> {
    /// To whom all of them are lent; `None`: nothing is kept.
    peer: Option<DomId>,
    /// Which connection it is: a backend of before may still be at work on what it had.
    connection: u64,
    /// The last used on top.
    pages: Vec<Lent<'g, P>>,
}

/// Pages of buffers that were dropped, for those that are made.
#[derive(Debug)]
pub(crate) struct KeptPages<'g, P: Platform>(Mutex<Kept<'g, P>>);

impl<'g, P: Platform> KeptPages<'g, P> {
    /// None, and none are kept until [`Self::begin`].
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Kept {
            peer: None,
            connection: 0,
            pages: Vec::new(),
        })))
    }

    /// There is a connection to `peer`: keeps what is lent for it.
    pub(crate) fn begin(&self, peer: DomId) {
        self.end();
        self.0.lock().peer = Some(peer);
    }

    /// There is none any more: nothing is kept.
    pub(crate) fn end(&self) {
        let mut kept = self.0.lock();
        kept.peer = None;
        kept.connection += 1;
        let ended = core::mem::take(&mut kept.pages);
        drop(kept);
        drop(ended);
    }

    fn give_back(&self, connection: u64, pages: Vec<Lent<'g, P>>) {
        let mut kept = self.0.lock();
        if kept.peer.is_some() && kept.connection == connection {
            let room = MOST.saturating_sub(kept.pages.len());
            kept.pages.extend(pages.into_iter().take(room));
        }
    }

    /// A buffer of zeroes, lent to `peer`.
    pub(crate) fn buffer(
        self: &Arc<Self>,
        grants: Lender<'g, P>,
        peer: DomId,
        count: usize,
    ) -> Result<GrantedBuf<'g, P>, grant_tables::Error> {
        let (mut pages, connection) = {
            let mut kept = self.0.lock();
            let count = if kept.peer == Some(peer) { count } else { 0 };
            let rest = kept.pages.len().saturating_sub(count);
            (kept.pages.split_off(rest), kept.connection)
        };
        for page in &pages {
            clear_from(page.peer(), 0);
        }
        while pages.len() < count {
            pages.push(lend(grants, peer)?);
        }
        let home = Home {
            kept: Arc::clone(self),
            connection,
        };
        Ok(GrantedBuf::of(peer, pages, home))
    }
}

/// Where a buffer's pages go afterwards.
#[derive(Debug)]
pub(crate) struct Home<'g, P: Platform> {
    kept: Arc<KeptPages<'g, P>>,
    connection: u64,
}

impl<'g, P: Platform> Home<'g, P> {
    pub(crate) fn give_back(&self, pages: Vec<Lent<'g, P>>) {
        self.kept.give_back(self.connection, pages);
    }
}
