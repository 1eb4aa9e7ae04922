//! The platform of a guest on hardware: nothing to carry around.

use core::ptr::NonNull;

use hypercall_abi::{
    Errno, Gfn, HypercallNr, PAGE_SIZE, Port, VcpuId,
    peer::PeerPtr,
    peer_field,
    platform::{Clock, GrantFrame, Hypercall, OwnGrants, Pages, Park, Singletons},
    sched, trap,
    xen::{SharedInfo, VcpuInfo},
};

use super::{guest_type, memory, pv, pvh, timer, tsc, upcalls, window};
use crate::{GuestType, clock, set_once::SetOnce, sync};

/// The platform of the kernel that this image is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

const _: () = assert!(size_of::<Native>() == 0);

/// The shared page, once it is mapped.
static SHARED_INFO: SetOnce<PeerPtr<'static, SharedInfo>> = SetOnce::new();
/// What is taken of this domain.
static SINGLETONS: Singletons = Singletons::new();
static LATEST: clock::Monotonic = clock::Monotonic::new();

/// Tells where the shared page is.
pub(super) fn set_shared_info(page: PeerPtr<'static, SharedInfo>) {
    SHARED_INFO.set(page);
}

/// Where Xen keeps a vCPU's words, once they are there.
pub(super) fn vcpu_info(vcpu: VcpuId) -> Option<PeerPtr<'static, VcpuInfo>> {
    peer_field!(SHARED_INFO.get()?, SharedInfo, vcpu_info).get(vcpu.0 as usize)
}

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
        // SAFETY: the caller's promise.
        unsafe { trap::Native.call5(nr, a1, a2, a3, a4, a5) }
    }
    #[inline]
    unsafe fn call1(&self, nr: HypercallNr, a1: usize) -> isize {
        // SAFETY: the caller's promise.
        unsafe { trap::Native.call1(nr, a1) }
    }
    #[inline]
    unsafe fn call2(&self, nr: HypercallNr, a1: usize, a2: usize) -> isize {
        // SAFETY: the caller's promise.
        unsafe { trap::Native.call2(nr, a1, a2) }
    }
    #[inline]
    unsafe fn call3(&self, nr: HypercallNr, a1: usize, a2: usize, a3: usize) -> isize {
        // SAFETY: the caller's promise.
        unsafe { trap::Native.call3(nr, a1, a2, a3) }
    }
    #[inline]
    unsafe fn call4(&self, nr: HypercallNr, a1: usize, a2: usize, a3: usize, a4: usize) -> isize {
        // SAFETY: the caller's promise.
        unsafe { trap::Native.call4(nr, a1, a2, a3, a4) }
    }
}

// SAFETY: pages come from the frame allocator, zeroed, and are mapped for good
// by the direct map; the frames are those of the loader's lists.
unsafe impl Pages for Native {
    fn alloc(&self, count: usize) -> Option<NonNull<u8>> {
        memory::allocate_zeroed(count)
    }

    unsafe fn free(&self, first: NonNull<u8>, count: usize) {
        memory::free(first, count);
    }

    fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn> {
        let paddr = memory::physical_of(page.addr().get() as u64)?;
        let pfn = paddr / PAGE_SIZE as u64;
        match guest_type()? {
            GuestType::Pv => pv::gfn_of(pfn),
            GuestType::Pvh | GuestType::Bare => Some(Gfn(pfn)),
        }
    }

    fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        match guest_type()? {
            GuestType::Pv => pv::page_of(gfn),
            GuestType::Pvh | GuestType::Bare => pvh::page_of(gfn),
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
                sync::is_only_hold() && (before == sync::Upcalls::Open || !upcalls::are_set_up());
            if may_open {
                // SAFETY: nobody on this vCPU holds them back: this function has the only
                // hold, and is not called in an upcall. Others' vCPUs take none of this
                // crate's locks (`vcpu::up` is unsafe).
                sync::suspend_hold(|| unsafe { timer::sleep(deadline_ns) });
            } else {
                timer::doze(deadline_ns);
            }
        }
        sync::release();
    }
}

impl Clock for Native {
    fn now_ns(&self) -> u64 {
        match SHARED_INFO.get() {
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
        let page = SHARED_INFO.get()?;
        Some(clock::boot_wall_clock_ns(page).saturating_add(self.now_ns()))
    }
}

/// The address of the last page fault of a PV guest.
pub(super) fn pv_cr2() -> u64 {
    use hypercall_abi::xen::ArchVcpuInfo;
    SHARED_INFO
        .get()
        .and_then(|page| peer_field!(page, SharedInfo, vcpu_info).get(0))
        .map_or(0, |vcpu| {
            let arch = peer_field!(vcpu, VcpuInfo, arch);
            peer_field!(arch, ArchVcpuInfo, cr2).load().trust()
        })
}
