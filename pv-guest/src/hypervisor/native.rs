//! The platform of a guest on hardware: nothing to carry around.

use core::ptr::NonNull;

use hypercall_abi::{
    Errno, Gfn, HypercallNr, PAGE_SIZE, Port, peer_field,
    platform::{Clock, GrantFrame, Hypercall, OwnGrants, Pages, Park, Singletons},
    sched, trap,
    xen::{SharedInfo, VcpuInfo},
};

use super::{frames, own_tables, pv_frames, sleep, upcall, window};
use crate::{
    arch::tsc,
    boot_info::GuestType,
    clock::{self, ClockSource},
    cpu::{guest_type::guest_type, shared_info, sync},
};

/// The platform of the kernel that this image is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

const _: () = assert!(size_of::<Native>() == 0);

/// What is taken of this domain.
static SINGLETONS: Singletons = Singletons::new();
static LATEST: clock::Monotonic = clock::Monotonic::new();

// SAFETY: `trap::Native` keeps the contract.
unsafe impl Hypercall for Native {
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
        unsafe { trap::Native.call5(nr, a1, a2, a3, a4, a5) }
    }
    #[inline]
    unsafe fn call1(&self, nr: HypercallNr, a1: usize) -> isize {
        // SAFETY: this function's contract.
        unsafe { trap::Native.call1(nr, a1) }
    }
    #[inline]
    unsafe fn call2(&self, nr: HypercallNr, a1: usize, a2: usize) -> isize {
        // SAFETY: this function's contract.
        unsafe { trap::Native.call2(nr, a1, a2) }
    }
    #[inline]
    unsafe fn call3(&self, nr: HypercallNr, a1: usize, a2: usize, a3: usize) -> isize {
        // SAFETY: this function's contract.
        unsafe { trap::Native.call3(nr, a1, a2, a3) }
    }
    #[inline]
    unsafe fn call4(&self, nr: HypercallNr, a1: usize, a2: usize, a3: usize, a4: usize) -> isize {
        // SAFETY: this function's contract.
        unsafe { trap::Native.call4(nr, a1, a2, a3, a4) }
    }
}

// SAFETY: pages come from the frame allocator, zeroed, and are mapped for good
// by the direct map; the frames are those of the loader's lists.
unsafe impl Pages for Native {
    fn alloc(&self, count: usize) -> Option<NonNull<u8>> {
        frames::allocate_zeroed(count)
    }

    unsafe fn free(&self, first: NonNull<u8>, count: usize) {
        frames::free(first, count);
    }

    fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn> {
        let paddr = frames::physical_of(page.addr().get() as u64)?;
        let pfn = paddr / PAGE_SIZE as u64;
        match guest_type()? {
            GuestType::Pv => pv_frames::gfn_of(pfn),
            GuestType::Pvh | GuestType::Bare => Some(Gfn(pfn)),
        }
    }

    fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        match guest_type()? {
            GuestType::Pv => pv_frames::page_of(gfn),
            GuestType::Pvh | GuestType::Bare => own_tables::page_of(gfn),
        }
    }

    fn grant_frame(&self, frame: GrantFrame, index: u32) -> Result<NonNull<u8>, Errno> {
        window::grant_frame(frame, index)
    }

    fn reserve_window(&self, count: usize) -> Option<NonNull<u8>> {
        window::reserve(count)
    }

    unsafe fn release_window(&self, first: NonNull<u8>, count: usize) {
        window::release(first, count);
    }

    fn window_address(&self, page: NonNull<u8>) -> u64 {
        window::address_of(page)
    }

    fn singletons(&self) -> &Singletons {
        &SINGLETONS
    }

    fn own_grants(&self) -> OwnGrants {
        match guest_type() {
            Some(GuestType::Pv) => OwnGrants::Alias,
            _ => OwnGrants::Move,
        }
    }
}

impl Park for Native {
    fn park(&self, ports: &[Port], deadline_ns: Option<u64>) {
        if guest_type() == Some(GuestType::Bare) || sched::poll(self, ports, deadline_ns).is_err() {
            core::hint::spin_loop();
        }
    }

    fn idle(&self, deadline_ns: Option<u64>, has_work: &dyn Fn() -> bool) {
        let before = sync::hold();
        if !has_work() {
            // Asked now: whoever was asked for work may keep a lock. A caller who holds
            // upcalls back relies on that; so does an upcall.
            let may_open =
                sync::is_only_hold() && (before == sync::Upcalls::Open || !upcall::are_set_up());
            if may_open {
                // SAFETY: nobody on this vCPU holds them back: this function has the only
                // hold, and is not called in an upcall. Others' vCPUs take none of this
                // crate's locks (`vcpu::up` is unsafe).
                sync::suspend_hold(|| unsafe { sleep::sleep(deadline_ns) });
            } else {
                sleep::doze(deadline_ns);
            }
        }
        sync::release();
    }
}

impl Clock for Native {
    fn now_ns(&self) -> u64 {
        match shared_info::get() {
            Some(page) => {
                let vcpus = peer_field!(page, SharedInfo, vcpu_info);
                vcpus.get(0).map_or(0, |vcpu| {
                    let time = peer_field!(vcpu, VcpuInfo, time);
                    LATEST.at_least(clock::system_time_ns(time, tsc::read))
                })
            }
            None => tsc::since_start_ns(),
        }
    }

    fn wall_clock_ns(&self) -> Option<u64> {
        let page = shared_info::get()?;
        Some(clock::boot_wall_clock_ns(page).saturating_add(self.now_ns()))
    }
}

/// What the clock of this guest reads.
pub(crate) fn clock_source() -> ClockSource {
    match (guest_type(), tsc::rate()) {
        (Some(GuestType::Bare), Some(rate)) => ClockSource::Tsc(rate),
        _ => ClockSource::Xen,
    }
}

/// Whether the sleep of a vCPU tells what was held back until then: that of a PV
/// guest does, in one trap.
#[cfg(feature = "alloc")]
pub(crate) fn sleep_tells() -> bool {
    guest_type() == Some(GuestType::Pv)
}
