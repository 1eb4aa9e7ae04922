//! The platform of a guest that is a process, and whether events are delivered to it.

use core::ptr::NonNull;

use hypercall_abi::{
    Gfn, HypercallNr, Port,
    peer::PeerPtr,
    peer_field,
    platform::{Clock, Hypercall, Pages, Park, Platform, Singletons},
    xen::{SharedInfo, VcpuInfo},
};

use super::sync::{self, Upcalls};

/// The platform beneath this guest: that of the process which started it.
pub type Current = &'static dyn Platform;

static PLATFORM: spin::Once<Current> = spin::Once::new();

/// The platform, once a guest was started.
pub(crate) fn platform() -> Option<Current> {
    PLATFORM.get().copied()
}

/// The platform of the running guest; one that offers nothing before there is
/// one.
pub(crate) fn current() -> Current {
    platform().unwrap_or(&NoPlatform)
}

/// Tells the platform, once.
pub(crate) fn set_platform(platform: Current) {
    PLATFORM.call_once(|| platform);
}

/// The words of the first vCPU, once upcalls were let through.
static VCPU_INFO: spin::Once<PeerPtr<'static, VcpuInfo>> = spin::Once::new();

/// Tells where the words of the first vCPU are, and lets upcalls through.
pub(crate) fn open_upcalls(shared: PeerPtr<'static, SharedInfo>) {
    if let Some(vcpu) = peer_field!(shared, SharedInfo, vcpu_info).get(0) {
        VCPU_INFO.call_once(|| vcpu);
        sync::open();
    }
}

/// Holds upcalls back, and returns whether they came until now.
pub(crate) fn mask() -> Upcalls {
    let before = VCPU_INFO
        .get()
        .copied()
        .map(|vcpu| peer_field!(vcpu, VcpuInfo, evtchn_upcall_mask).swap(1));
    match before.map(|before| before.trust()) {
        Some(0) => Upcalls::Open,
        _ => Upcalls::Held,
    }
}

/// Lets upcalls through.
pub(crate) fn unmask() {
    let Some(vcpu) = VCPU_INFO.get().copied() else {
        return;
    };
    peer_field!(vcpu, VcpuInfo, evtchn_upcall_mask).store_release(0);
    let pending = peer_field!(vcpu, VcpuInfo, evtchn_upcall_pending);
    if pending.load_acquire().trust() != 0 {
        // They come on the way back from any hypercall.
        let _any = hypercall_abi::version::version(&current());
    }
}

/// Where there is no platform, every call is ENOSYS.
#[derive(Debug)]
struct NoPlatform;

// SAFETY: it calls nobody.
unsafe impl Hypercall for NoPlatform {
    unsafe fn call5(
        &self,
        _: HypercallNr,
        _: usize,
        _: usize,
        _: usize,
        _: usize,
        _: usize,
    ) -> isize {
        hypercall_abi::Errno::ENOSYS.to_answer()
    }
}

// SAFETY: it has no pages to give.
unsafe impl Pages for NoPlatform {
    fn alloc(&self, _count: usize) -> Option<NonNull<u8>> {
        None
    }
    unsafe fn free(&self, _first: NonNull<u8>, _count: usize) {}
    fn gfn_of(&self, _page: NonNull<u8>) -> Option<Gfn> {
        None
    }
    fn page_of(&self, _gfn: Gfn) -> Option<NonNull<u8>> {
        None
    }
    fn singletons(&self) -> &Singletons {
        static SINGLETONS: Singletons = Singletons::new();
        &SINGLETONS
    }
}

impl Park for NoPlatform {
    fn park(&self, _ports: &[Port], _deadline_ns: Option<u64>) {}
    fn idle(&self, _deadline_ns: Option<u64>, _has_work: &dyn Fn() -> bool) {}
}

impl Clock for NoPlatform {
    fn now_ns(&self) -> u64 {
        0
    }
    fn wall_clock_ns(&self) -> Option<u64> {
        None
    }
}
