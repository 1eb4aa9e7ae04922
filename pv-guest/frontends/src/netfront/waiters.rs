//! Those who wait for a network interface.
//!
//! A port wakes one task only. Whoever waited last is the one: when an event
//! comes, it wakes the others, and when it leaves, too, so that one of them takes
//! its place.

use alloc::{sync::Arc, task::Wake, vec::Vec};
use core::{
    sync::atomic::{AtomicU64, Ordering},
    task::Waker,
};

use atomic_waker::AtomicWaker;
use spin::Mutex;

/// What ports wake: it takes no lock, since it is called where an event comes.
#[derive(Debug, Default)]
struct Bell(AtomicWaker);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// The place of one who may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

/// All who wait.
#[derive(Debug)]
pub(super) struct Waiters {
    all: Mutex<Vec<(Place, Waker)>>,
    bell: Arc<Bell>,
    /// What ports are given.
    waker: Waker,
    next: AtomicU64,
}

impl Waiters {
    pub(super) fn new() -> Self {
        let bell = Arc::new(Bell::default());
        Self {
            all: Mutex::new(Vec::new()),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            next: AtomicU64::new(1),
        }
    }

    /// A place, which nobody else has.
    pub(super) fn place(&self) -> Place {
        Place(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Has this one woken; ports wake it first, from now on.
    pub(super) fn wait(&self, place: Place, waker: &Waker) {
        let mut all = self.all.lock();
        match all.iter_mut().find(|(other, _)| *other == place) {
            Some((_, known)) => known.clone_from(waker),
            None => all.push((place, waker.clone())),
        }
        drop(all);
        self.bell.0.register(waker);
    }

    /// What ports are to wake.
    pub(super) const fn bell(&self) -> &Waker {
        &self.waker
    }

    /// Wakes this one, if it waits.
    pub(super) fn wake(&self, place: Place) {
        let all = self.all.lock();
        let own = all.iter().find(|(other, _)| *other == place);
        if let Some((_, waker)) = own {
            waker.wake_by_ref();
        }
    }

    /// Wakes all but this one: something came that may be for them.
    pub(super) fn wake_others(&self, place: Place) {
        let mut all = self.all.lock();
        if all.iter().all(|(other, _)| *other == place) {
            return;
        }
        let (own, others): (Vec<_>, Vec<_>) = all.drain(..).partition(|(other, _)| *other == place);
        *all = own;
        drop(all);
        for (_, waker) in others {
            waker.wake();
        }
    }

    /// Wakes all.
    pub(super) fn wake_all(&self) {
        let all = core::mem::take(&mut *self.all.lock());
        for (_, waker) in all {
            waker.wake();
        }
    }

    /// This one does not wait any more.
    pub(super) fn leave(&self, place: Place) {
        self.wake_others(place);
        self.all.lock().retain(|(other, _)| *other != place);
    }
}
