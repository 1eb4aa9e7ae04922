//! What is kept for each port: who waits for it, and how often it rang. In
//! pages that are added as ports are opened, and found without a lock.

use core::{
    marker::PhantomData,
    ptr::NonNull,
    sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

use atomic_waker::AtomicWaker;
use hypercall_abi::{PAGE_SIZE, Port, VcpuId, platform::Pages};

/// One port's.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Slot {
    pub(crate) waker: AtomicWaker,
    state: AtomicU32,
    /// Which vCPU its upcalls go to.
    vcpu: AtomicU32,
    events: AtomicU32,
    /// When the window began in which events are counted, and how many whoever waits has
    /// taken in it.
    window_start_ns: AtomicU64,
    window_events: AtomicU32,
}

/// Some channel has this port.
const OPEN: u32 = 1;
/// An upcall came for it, and nobody has taken that yet.
const FIRED: u32 = 2;
/// It is masked until its time has come.
const THROTTLED: u32 = 4;
/// An upcall is about to take an event for it, or not.
const BUSY: u32 = 8;

impl Slot {
    const fn new() -> Self {
        Self {
            waker: AtomicWaker::new(),
            state: AtomicU32::new(0),
            vcpu: AtomicU32::new(0),
            events: AtomicU32::new(0),
            window_start_ns: AtomicU64::new(0),
            window_events: AtomicU32::new(0),
        }
    }

    pub(crate) fn open(&self, vcpu: VcpuId) {
        self.set_vcpu(vcpu);
        self.events.store(0, Ordering::Relaxed);
        self.window_start_ns.store(0, Ordering::Relaxed);
        self.window_events.store(0, Ordering::Relaxed);
        self.state.store(OPEN, Ordering::Release);
    }

    pub(crate) fn vcpu(&self) -> VcpuId {
        VcpuId(self.vcpu.load(Ordering::Acquire))
    }

    pub(crate) fn set_vcpu(&self, vcpu: VcpuId) {
        self.vcpu.store(vcpu.0, Ordering::Release);
    }

    pub(crate) fn close(&self) {
        self.state.store(0, Ordering::Release);
        let _waker = self.waker.take();
    }

    /// Its port is gone; whoever waits for it is to look what became of it.
    pub(crate) fn abandon(&self) {
        self.state.store(0, Ordering::Release);
        self.waker.wake();
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) & OPEN != 0
    }

    /// An event may have come.
    pub(crate) fn note(&self) {
        self.state.fetch_or(FIRED, Ordering::AcqRel);
    }

    /// An event came.
    pub(crate) fn fire(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
        self.note();
        self.end();
        self.waker.wake();
    }

    /// An event is about to be taken from its word.
    pub(crate) fn begin(&self) {
        self.state.fetch_or(BUSY, Ordering::AcqRel);
    }

    /// It was, and noted; or it was not.
    pub(crate) fn end(&self) {
        self.state.fetch_and(!BUSY, Ordering::AcqRel);
    }

    /// Whether there may be an event that is in no word any more, and not noted yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.state.load(Ordering::Acquire) & BUSY != 0
    }

    /// Whether an event came since this was last asked.
    pub(crate) fn take_fired(&self) -> bool {
        self.state.fetch_and(!FIRED, Ordering::AcqRel) & FIRED != 0
    }

    pub(crate) fn has_fired(&self) -> bool {
        self.state.load(Ordering::Acquire) & FIRED != 0
    }

    pub(crate) fn events(&self) -> u32 {
        self.events.load(Ordering::Relaxed)
    }

    /// Whoever waits has taken an event.
    pub(crate) fn count(&self) {
        self.window_events.fetch_add(1, Ordering::Relaxed);
    }

    /// When the next event may be taken, if `most` were taken in this window of
    /// `window_ns`. The time is asked for only where a window begins or is full.
    pub(crate) fn held_until(
        &self,
        now_ns: impl FnOnce() -> u64,
        most: u32,
        window_ns: u64,
    ) -> Option<u64> {
        let events = self.window_events.load(Ordering::Relaxed);
        if events > 0 && events < most {
            return None;
        }
        let now_ns = now_ns();
        let start = self.window_start_ns.load(Ordering::Relaxed);
        let end = start.saturating_add(window_ns);
        if start == 0 || now_ns >= end {
            self.window_start_ns.store(now_ns.max(1), Ordering::Relaxed);
            self.window_events.store(0, Ordering::Relaxed);
            return None;
        }
        (events >= most).then_some(end)
    }

    pub(crate) fn throttle(&self) {
        self.state.fetch_or(THROTTLED, Ordering::AcqRel);
    }

    pub(crate) fn is_throttled(&self) -> bool {
        self.state.load(Ordering::Acquire) & THROTTLED != 0
    }

    pub(crate) fn end_throttle(&self) -> bool {
        self.state.fetch_and(!THROTTLED, Ordering::AcqRel) & THROTTLED != 0
    }
}

const SLOTS: usize = PAGE_SIZE / size_of::<Slot>();

/// All slots.
#[derive(Debug)]
pub(crate) struct Slots<P: Pages> {
    /// Pointers to pages of slots.
    directory: NonNull<AtomicPtr<Slot>>,
    directory_pages: usize,
    platform: PhantomData<P>,
}

// SAFETY: the memory belongs to this value, and holds atomics only.
unsafe impl<P: Pages + Send> Send for Slots<P> {}
// SAFETY: as above.
unsafe impl<P: Pages + Sync> Sync for Slots<P> {}

impl<P: Pages> Slots<P> {
    /// Room for `ports`, none of it filled.
    pub(crate) fn new(platform: &P, ports: u32) -> Option<Self> {
        let pointers = (ports as usize).div_ceil(SLOTS);
        let directory_pages = (pointers * size_of::<usize>()).div_ceil(PAGE_SIZE);
        Some(Self {
            // Zeroed memory is null pointers.
            directory: platform.alloc(directory_pages)?.cast(),
            directory_pages,
            platform: PhantomData,
        })
    }

    fn entry(&self, index: usize) -> Option<&AtomicPtr<Slot>> {
        if index >= self.directory_pages * PAGE_SIZE / size_of::<usize>() {
            return None;
        }
        // SAFETY: in the directory.
        let entry = unsafe { self.directory.add(index) };
        // SAFETY: pages that are ours for as long as this value lives, aligned,
        // and used as atomics only.
        Some(unsafe { entry.as_ref() })
    }

    /// The slot of a port, if there was ever a channel near it.
    pub(crate) fn get(&self, port: Port) -> Option<&Slot> {
        let entry = self.entry(port.0 as usize / SLOTS)?;
        let page = NonNull::new(entry.load(Ordering::Acquire))?;
        // SAFETY: a page has this many slots.
        let slot = unsafe { page.add(port.0 as usize % SLOTS) };
        // SAFETY: filled before the pointer was published, and never freed
        // while this value lives.
        Some(unsafe { slot.as_ref() })
    }

    /// The slot of a port, made if need be.
    pub(crate) fn make(&self, platform: &P, port: Port) -> Option<&Slot> {
        let entry = self.entry(port.0 as usize / SLOTS)?;
        if entry.load(Ordering::Acquire).is_null() {
            let page = platform.alloc(1)?;
            for index in 0..SLOTS {
                // SAFETY: a fresh page of ours has room for this many.
                let slot = unsafe { page.cast::<Slot>().add(index) };
                // SAFETY: as above.
                unsafe { slot.write(Slot::new()) };
            }
            let published = entry.compare_exchange(
                core::ptr::null_mut(),
                page.as_ptr().cast(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if published.is_err() {
                // SAFETY: another was faster; nobody has seen this page.
                unsafe { platform.free(page, 1) };
            }
        }
        self.get(port)
    }

    /// Every slot that is there, and its port.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Port, &Slot)> {
        let entries = self.directory_pages * PAGE_SIZE / size_of::<usize>();
        let filled = move |index: &usize| {
            self.entry(*index)
                .is_some_and(|entry| !entry.load(Ordering::Acquire).is_null())
        };
        (0..entries).filter(filled).flat_map(move |index| {
            let ports = index * SLOTS..(index + 1) * SLOTS;
            ports.filter_map(|port| {
                let port = Port(port as u32);
                self.get(port).map(|slot| (port, slot))
            })
        })
    }

    /// Gives all of it back.
    pub(crate) fn free(&mut self, platform: &P) {
        for index in 0..self.directory_pages * PAGE_SIZE / size_of::<usize>() {
            let Some(entry) = self.entry(index) else {
                continue;
            };
            let page = entry.swap(core::ptr::null_mut(), Ordering::AcqRel);
            if let Some(page) = NonNull::new(page) {
                for slot in 0..SLOTS {
                    // SAFETY: a page has this many slots.
                    let slot = unsafe { page.add(slot) };
                    // SAFETY: filled, and nobody borrows it: `self` is
                    // borrowed mutably.
                    unsafe { slot.drop_in_place() };
                }
                // SAFETY: allocated in `make`; nobody borrows it.
                unsafe { platform.free(page.cast(), 1) };
            }
        }
        // SAFETY: allocated in `new`; this value is on its way out.
        unsafe { platform.free(self.directory.cast(), self.directory_pages) };
        self.directory_pages = 0;
    }
}
