//! The platform interface: four traits by which a guest reaches its hypervisor.
//!
//! | trait | means | on Xen PV | on Xen PVH |
//! |---|---|---|---|
//! | [`Hypercall`] | five words in, one out | `syscall` | `vmcall`, `vmmcall` |
//! | [`Pages`] | pages, and the frame number a peer is told | machine frame | guest frame |
//! | [`Park`] | sleep until an event or a deadline | `SCHEDOP_poll` | the same |
//! | [`Clock`] | nanoseconds | pvclock | pvclock |
//!
//! A platform is a *value*: zero-sized on hardware, a handle in a test, so that
//! one test may hold many guests. All four traits are object safe, and a shared
//! reference to a platform is a platform: `&dyn Platform` will do where the
//! concrete type must not show.

mod singletons;

use core::{ptr::NonNull, task::Waker};

pub use singletons::{Singleton, Singletons};

use crate::{Errno, Gfn, HypercallNr, Port};

/// The trap into the hypervisor.
///
/// # Safety
/// An implementation hands the number and the arguments unchanged to a
/// hypervisor that follows Xen's interface (or to a model of one), returns its
/// answer, and touches no memory that this hypercall does not name.
pub unsafe trait Hypercall {
    /// Makes hypercall `nr` with five arguments, and returns its answer (an
    /// error when [`crate::Errno::check`] says so).
    ///
    /// # Safety
    /// The arguments are those of the hypercall's own contract: what they point
    /// to is valid for what the hypervisor does with it, and the effect (on
    /// page tables, say) breaks no reference that Rust code holds.
    unsafe fn call5(
        &self,
        nr: HypercallNr,
        a1: usize,
        a2: usize,
        a3: usize,
        a4: usize,
        a5: usize,
    ) -> isize;

    /// [`Hypercall::call5`] with one argument.
    ///
    /// # Safety
    /// As for [`Hypercall::call5`].
    #[inline]
    unsafe fn call1(&self, nr: HypercallNr, a1: usize) -> isize {
        // SAFETY: this function's contract, for arguments that the call ignores.
        unsafe { self.call5(nr, a1, 0, 0, 0, 0) }
    }

    /// [`Hypercall::call5`] with two arguments.
    ///
    /// # Safety
    /// As for [`Hypercall::call5`].
    #[inline]
    unsafe fn call2(&self, nr: HypercallNr, a1: usize, a2: usize) -> isize {
        // SAFETY: this function's contract, for arguments that the call ignores.
        unsafe { self.call5(nr, a1, a2, 0, 0, 0) }
    }

    /// [`Hypercall::call5`] with three arguments.
    ///
    /// # Safety
    /// As for [`Hypercall::call5`].
    #[inline]
    unsafe fn call3(&self, nr: HypercallNr, a1: usize, a2: usize, a3: usize) -> isize {
        // SAFETY: this function's contract, for arguments that the call ignores.
        unsafe { self.call5(nr, a1, a2, a3, 0, 0) }
    }

    /// [`Hypercall::call5`] with four arguments.
    ///
    /// # Safety
    /// As for [`Hypercall::call5`].
    #[inline]
    unsafe fn call4(&self, nr: HypercallNr, a1: usize, a2: usize, a3: usize, a4: usize) -> isize {
        // SAFETY: this function's contract, for arguments that the call ignores.
        unsafe { self.call5(nr, a1, a2, a3, a4, 0) }
    }
}

/// Page-aligned memory that can be shared with another domain.
///
/// # Safety
/// Pages from [`Pages::alloc`] are valid for reads and writes, zeroed, mapped
/// for as long as they are not freed, and nobody else's. [`Pages::gfn_of`]
/// tells the truth about the frame behind a page. [`Pages::singletons`] is the same value
/// for all platforms of one domain, from its start to its end.
pub unsafe trait Pages {
    /// `count` fresh, zeroed pages, contiguous in the guest's own addresses;
    /// `None` when there are none.
    fn alloc(&self, count: usize) -> Option<NonNull<u8>>;

    /// Gives pages back.
    ///
    /// # Safety
    /// They came from [`Pages::alloc`] of this platform with this `count`, and
    /// neither this kernel nor a peer nor the hypervisor uses them any more.
    unsafe fn free(&self, first: NonNull<u8>, count: usize);

    /// The frame that a peer must be told to reach the page at `page`; `None`
    /// if `page` is no memory of this platform.
    fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn>;

    /// Where this guest sees the frame `gfn`, which the hypervisor gave to it
    /// at its creation (the console's or the store's page, say), mapping it if
    /// need be; `None` if it cannot be reached. Of memory that the guest has
    /// already, this is the address that it has: any frame may be named, and
    /// nothing that is mapped changes.
    fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>>;

    /// Where this guest sees frame `index` of its own grant table (or of the
    /// table's status words), mapping it if need be. The frame stays mapped, at
    /// this address: the same question has the same answer each time, also after
    /// a suspend, when another frame is mapped there.
    ///
    /// # Errors
    /// The hypervisor gives no such frame; [`Errno::ENOMEM`]: it cannot be
    /// mapped; [`Errno::ENOSYS`]: this platform has no grant tables.
    fn grant_frame(&self, frame: GrantFrame, index: u32) -> Result<NonNull<u8>, Errno> {
        let _ = (frame, index);
        Err(Errno::ENOSYS)
    }

    /// `count` addresses of pages in a row, at which other domains' pages can
    /// be mapped and nothing is; `None` when there is no more room, or on a
    /// platform that cannot do this.
    fn reserve_window(&self, count: usize) -> Option<NonNull<u8>> {
        let _ = count;
        None
    }

    /// Gives addresses back.
    ///
    /// # Safety
    /// They came from [`Pages::reserve_window`] of this platform with this
    /// `count`, and nothing is mapped there any more.
    unsafe fn release_window(&self, first: NonNull<u8>, count: usize) {
        let _ = (first, count);
    }

    /// How the hypervisor is told the address `page` of a window: a PV guest's
    /// virtual address, another's physical one.
    fn window_address(&self, page: NonNull<u8>) -> u64 {
        page.addr().get() as u64
    }

    /// Who has what exists once in this domain. A kernel has a static:
    ///
    /// ```
    /// use hypercall_abi::platform::Singletons;
    /// # struct Kernel;
    /// # impl Kernel {
    /// fn singletons(&self) -> &Singletons {
    ///     static SINGLETONS: Singletons = Singletons::new();
    ///     &SINGLETONS
    /// }
    /// # }
    /// ```
    fn singletons(&self) -> &Singletons;

    /// What happens to a page that this domain granted to itself when it maps
    /// it.
    fn own_grants(&self) -> OwnGrants {
        OwnGrants::Alias
    }
}

/// What mapping a grant of one's own does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnGrants {
    /// The page is seen at two addresses.
    Alias,
    /// The page is moved: it is gone from where it was. So on Xen for guests
    /// other than PV.
    Move,
}

/// What a grant table is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantFrame {
    /// Its entries.
    Table,
    /// The use bits of version 2.
    Status,
}

/// Sleep.
pub trait Park {
    /// Sleeps until one of `ports` is pending, an upcall is due, or the
    /// [`Clock`] reaches `deadline_ns`. Returns at once if one of `ports` is
    /// pending already, and may return early for no reason. Without ports and
    /// deadline it waits for an upcall.
    fn park(&self, ports: &[Port], deadline_ns: Option<u64>);

    /// Sleeps until an upcall came or the [`Clock`] reaches `deadline_ns`,
    /// unless `has_work` says that there is something to do. No upcall comes
    /// between that answer and the sleep: what an upcall makes known is never
    /// slept over. May return early for no reason.
    ///
    /// Where the caller holds upcalls back they stay so: then this is a short
    /// sleep, or one in which only the deadline can come.
    fn idle(&self, deadline_ns: Option<u64>, has_work: &dyn Fn() -> bool);
}

/// Time.
pub trait Clock {
    /// Nanoseconds since an arbitrary start (Xen: since the host booted).
    /// Never goes back.
    fn now_ns(&self) -> u64;

    /// Nanoseconds since 1970-01-01 UTC; `None` where nobody tells.
    fn wall_clock_ns(&self) -> Option<u64>;
}

/// Wakes tasks at a time: what a driver needs to pause between two tries without knowing
/// its kernel's executor and timers.
///
/// Whoever waits for something else, too, may leave before the time has come: a queue that
/// gives [places](Self::enter) forgets him then; with one that has none, the entry stays
/// until its time.
///
/// It is no part of [`Platform`]: a kernel has tasks, and so a queue of those that wait
/// for a time; a platform alone has not.
pub trait Timer: Send + Sync {
    /// Has `waker` woken once the [`Clock`] reaches `deadline_ns`; soon, if it has done so
    /// already. It may be woken earlier, too: whoever waits looks at the clock. The same
    /// task may ask for the same time again and again, and is kept once.
    fn wake_at(&self, deadline_ns: u64, waker: &Waker);

    /// [`wake_at`](Self::wake_at), in a place of the caller's own, which is there until he
    /// [leaves](Self::leave) it. If he has one, `place`, it is told of the `waker` of now.
    /// `None`: there are no places, and the waker is woken all the same.
    fn enter(&self, deadline_ns: u64, place: Option<u64>, waker: &Waker) -> Option<u64> {
        let _ = place;
        self.wake_at(deadline_ns, waker);
        None
    }

    /// Gives up a place that [`enter`](Self::enter) gave for that time.
    fn leave(&self, deadline_ns: u64, place: u64) {
        let _ = (deadline_ns, place);
    }
}

impl<T: Timer + ?Sized> Timer for &T {
    fn wake_at(&self, deadline_ns: u64, waker: &Waker) {
        (**self).wake_at(deadline_ns, waker);
    }

    fn enter(&self, deadline_ns: u64, place: Option<u64>, waker: &Waker) -> Option<u64> {
        (**self).enter(deadline_ns, place, waker)
    }

    fn leave(&self, deadline_ns: u64, place: u64) {
        (**self).leave(deadline_ns, place);
    }
}

/// A whole world for a guest: the four traits together.
pub trait Platform: Hypercall + Pages + Park + Clock + Send + Sync {}

impl<T: Hypercall + Pages + Park + Clock + Send + Sync + ?Sized> Platform for T {}

// SAFETY: every call goes unchanged to an implementation that keeps the
// contract.
unsafe impl<T: Hypercall + ?Sized> Hypercall for &T {
    #[inline]
    unsafe fn call5(
        &self,
        nr: HypercallNr,
        a1: usize,
        a2: usize,
        a3: usize,
        a4: usize,
        a5: usize,
    ) -> isize {
        // SAFETY: this function's contract.
        unsafe { (**self).call5(nr, a1, a2, a3, a4, a5) }
    }
    #[inline]
    unsafe fn call1(&self, nr: HypercallNr, a1: usize) -> isize {
        // SAFETY: this function's contract.
        unsafe { (**self).call1(nr, a1) }
    }
    #[inline]
    unsafe fn call2(&self, nr: HypercallNr, a1: usize, a2: usize) -> isize {
        // SAFETY: this function's contract.
        unsafe { (**self).call2(nr, a1, a2) }
    }
    #[inline]
    unsafe fn call3(&self, nr: HypercallNr, a1: usize, a2: usize, a3: usize) -> isize {
        // SAFETY: this function's contract.
        unsafe { (**self).call3(nr, a1, a2, a3) }
    }
    #[inline]
    unsafe fn call4(&self, nr: HypercallNr, a1: usize, a2: usize, a3: usize, a4: usize) -> isize {
        // SAFETY: this function's contract.
        unsafe { (**self).call4(nr, a1, a2, a3, a4) }
    }
}

// SAFETY: every call goes unchanged to an implementation that keeps the
// contract.
unsafe impl<T: Pages + ?Sized> Pages for &T {
    fn alloc(&self, count: usize) -> Option<NonNull<u8>> {
        (**self).alloc(count)
    }
    unsafe fn free(&self, first: NonNull<u8>, count: usize) {
        // SAFETY: this function's contract.
        unsafe { (**self).free(first, count) }
    }
    fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn> {
        (**self).gfn_of(page)
    }
    fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        (**self).page_of(gfn)
    }
    fn grant_frame(&self, frame: GrantFrame, index: u32) -> Result<NonNull<u8>, Errno> {
        (**self).grant_frame(frame, index)
    }
    fn reserve_window(&self, count: usize) -> Option<NonNull<u8>> {
        (**self).reserve_window(count)
    }
    unsafe fn release_window(&self, first: NonNull<u8>, count: usize) {
        // SAFETY: this function's contract.
        unsafe { (**self).release_window(first, count) }
    }
    fn window_address(&self, page: NonNull<u8>) -> u64 {
        (**self).window_address(page)
    }
    fn singletons(&self) -> &Singletons {
        (**self).singletons()
    }
    fn own_grants(&self) -> OwnGrants {
        (**self).own_grants()
    }
}

impl<T: Park + ?Sized> Park for &T {
    fn park(&self, ports: &[Port], deadline_ns: Option<u64>) {
        (**self).park(ports, deadline_ns);
    }
    fn idle(&self, deadline_ns: Option<u64>, has_work: &dyn Fn() -> bool) {
        (**self).idle(deadline_ns, has_work);
    }
}

impl<T: Clock + ?Sized> Clock for &T {
    fn now_ns(&self) -> u64 {
        (**self).now_ns()
    }
    fn wall_clock_ns(&self) -> Option<u64> {
        (**self).wall_clock_ns()
    }
}
