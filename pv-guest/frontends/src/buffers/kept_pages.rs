//! Pages that were lent to a device's backend and are not used just now.
//!
//! A backend that keeps grants mapped does so for those that it sees first, up to some
//! number, and maps all others for each request: a page that it knows is worth more than
//! a fresh one. And one that is ended while the backend has it mapped is nobody's, until
//! the backend lets go. So what it has mapped is kept however much that is: it is no
//! less memory in quarantine, and whoever wants a buffer next would be lent more.

use alloc::{sync::Arc, vec::Vec};

use hypercall_abi::{DomId, platform::Platform};
use spin::Mutex;

use super::lend::{Lent, clear_from};

/// Why there is no buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoBuffer {
    /// Pages or references are short.
    Memory,
    /// Backends keep too many of the device's.
    Hoarded,
}

#[derive(Debug)]
struct Kept<'g, P: Platform> {
    /// To whom all of them are lent; `None`: nothing is kept.
    peer: Option<DomId>,
    /// Which connection it is: a backend of before may still be at work on what it had.
    connection: u64,
    /// The last used on top.
    pages: Vec<Lent<'g, P>>,
    /// How many are kept that the backend does not use.
    max_unused: usize,
    /// The backend of the connection is not trusted: what others have of these pages is not
    /// to hold anything new.
    is_withdrawn: bool,
}

/// Pages of buffers that were dropped, for those that are made.
#[derive(Debug)]
pub(crate) struct KeptPages<'g, P: Platform>(Mutex<Kept<'g, P>>);

impl<'g, P: Platform> KeptPages<'g, P> {
    /// None, and none are kept until [`Self::begin`]: then those that the backend uses,
    /// and `max_unused` others.
    pub(crate) fn new(max_unused: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Kept {
            peer: None,
            connection: 0,
            pages: Vec::new(),
            max_unused,
            is_withdrawn: false,
        })))
    }

    /// There is a connection to `peer`: keeps what is lent for it.
    pub(crate) fn begin(&self, peer: DomId) {
        self.end();
        let mut kept = self.0.lock();
        kept.peer = Some(peer);
        kept.is_withdrawn = false;
    }

    /// The backend of the connection is not trusted: buffers that are lent to it are taken
    /// back before anything is written into them.
    pub(crate) fn withdraw(&self) {
        self.0.lock().is_withdrawn = true;
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
        if kept.peer.is_none() || kept.connection != connection {
            return;
        }
        kept.pages.extend(pages);
        let most = kept.max_unused;
        if kept.pages.len() <= most {
            return;
        }
        let all = core::mem::take(&mut kept.pages).into_iter().enumerate();
        let (stay, go): (Vec<_>, Vec<_>) =
            all.partition(|(index, page)| *index < most || page.is_used());
        kept.pages = stay.into_iter().map(|(_, page)| page).collect();
        drop(kept);
        drop(go);
    }

    /// Keeps what the connection of now lent to `peer`, and whose borrower has left.
    pub(crate) fn adopt(&self, peer: DomId, pages: Vec<Lent<'g, P>>) {
        let kept = self.0.lock();
        let (lent_to, connection) = (kept.peer, kept.connection);
        drop(kept);
        if lent_to == Some(peer) {
            self.give_back(connection, pages);
        }
    }

    /// As many pages of zeroes as are kept for `peer`, `count` at the most, and where they
    /// go afterwards.
    pub(super) fn take(
        self: &Arc<Self>,
        peer: DomId,
        count: usize,
    ) -> (Vec<Lent<'g, P>>, Home<'g, P>) {
        let (pages, connection) = {
            let mut kept = self.0.lock();
            let count = if kept.peer == Some(peer) { count } else { 0 };
            let rest = kept.pages.len().saturating_sub(count);
            (kept.pages.split_off(rest), kept.connection)
        };
        for page in &pages {
            clear_from(page.peer(), 0);
        }
        let home = Home {
            kept: Arc::clone(self),
            connection,
        };
        (pages, home)
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

    /// Whether the device's backend is not trusted now.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.kept.0.lock().is_withdrawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mock_hypervisor::Domain;
    use static_assertions::{assert_impl_all, assert_not_impl_any};

    type Platform = &'static Domain;

    assert_impl_all!(KeptPages<'static, Platform>: Send, Sync);
    assert_impl_all!(Lent<'static, Platform>: Send, Sync);
    assert_not_impl_any!(KeptPages<'static, Platform>: Clone, Copy);
    assert_not_impl_any!(Lent<'static, Platform>: Clone, Copy);
}
