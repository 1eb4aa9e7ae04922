//! What this kernel is to the drivers: the traits of a platform.

use core::{
    alloc::Layout,
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
};

use hypercall_abi::{
    Errno, Gfn, HypercallNr, PAGE_SIZE, Port,
    arch_x86::cpuid::Cpuid,
    hvm::{self, CallbackVia, HvmParam},
    memory::{MapSpace, add_to_physmap},
    peer::PeerPtr,
    peer_field,
    platform::{Clock, GrantFrame, Hypercall, OwnGrants, Pages, Park, Singletons},
    sched,
    trap::{Vmcall, Vmmcall},
    xen::{SharedInfo, VcpuInfo},
};
use pv_guest::clock;

use crate::boot;

/// This kernel, by the trap of its processor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kernel {
    Intel(Vmcall),
    Amd(Vmmcall),
}

impl Kernel {
    pub(crate) fn here() -> Self {
        match &Cpuid::PLAIN.vendor() {
            // SAFETY: under Xen, in a PVH guest, on a processor of AMD's kind.
            b"AuthenticAMD" | b"HygonGenuine" => Self::Amd(unsafe { Vmmcall::new() }),
            // SAFETY: as above, of Intel's.
            _ => Self::Intel(unsafe { Vmcall::new() }),
        }
    }

    /// The page that Xen and this guest share, put in the place of a page of the heap.
    pub(crate) fn shared(self) -> Result<PeerPtr<'static, SharedInfo>, Errno> {
        let mut page = NonNull::new(SHARED.load(Ordering::Relaxed) as *mut u8);
        if page.is_none() {
            let fresh = self.alloc(1).ok_or(Errno::ENOMEM)?;
            // Xen lays the page out for 64 bits when a 64-bit guest has said this.
            let none = CallbackVia::None.value();
            // SAFETY: no interrupt is to be delivered.
            unsafe { hvm::set_param(&self, HvmParam::CALLBACK_IRQ, none) }?;
            // SAFETY: a fresh page, which nobody uses.
            unsafe { add_to_physmap(&self, MapSpace::SHARED_INFO, 0, frame_of(fresh)) }?;
            SHARED.store(fresh.addr().get(), Ordering::Relaxed);
            page = Some(fresh);
        }
        let page = page.ok_or(Errno::ENOMEM)?;
        // SAFETY: Xen's page, which stays.
        Ok(unsafe { PeerPtr::new(page.cast()) })
    }
}

/// The address of the page that is shared with Xen; 0 before there is one.
static SHARED: AtomicUsize = AtomicUsize::new(0);

/// Memory is where it is.
fn frame_of(page: NonNull<u8>) -> Gfn {
    Gfn((page.addr().get() / PAGE_SIZE) as u64)
}

fn pages(count: usize) -> Option<Layout> {
    Layout::from_size_align(count.checked_mul(PAGE_SIZE)?, PAGE_SIZE).ok()
}

// SAFETY: the calls are the processor's trap, unchanged.
unsafe impl Hypercall for Kernel {
    unsafe fn call5(
        &self,
        nr: HypercallNr,
        a1: usize,
        a2: usize,
        a3: usize,
        a4: usize,
        a5: usize,
    ) -> isize {
        match self {
            // SAFETY: this function's contract.
            Self::Intel(trap) => unsafe { trap.call5(nr, a1, a2, a3, a4, a5) },
            // SAFETY: as above.
            Self::Amd(trap) => unsafe { trap.call5(nr, a1, a2, a3, a4, a5) },
        }
    }
}

// SAFETY: pages of the heap, zeroed, at the address that is their frame's.
unsafe impl Pages for Kernel {
    fn alloc(&self, count: usize) -> Option<NonNull<u8>> {
        let layout = pages(count).filter(|layout| layout.size() > 0)?;
        // SAFETY: of more than no bytes.
        NonNull::new(unsafe { alloc::alloc::alloc_zeroed(layout) })
    }

    unsafe fn free(&self, first: NonNull<u8>, count: usize) {
        if let Some(layout) = pages(count) {
            // SAFETY: this function's contract: from `alloc`, with this count.
            unsafe { alloc::alloc::dealloc(first.as_ptr(), layout) };
        }
    }

    fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn> {
        Some(frame_of(page))
    }

    fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        NonNull::new((usize::try_from(gfn.0).ok()?.checked_mul(PAGE_SIZE)?) as *mut u8)
    }

    fn grant_frame(&self, frame: GrantFrame, index: u32) -> Result<NonNull<u8>, Errno> {
        static FRAME: AtomicUsize = AtomicUsize::new(0);
        // One is enough for this kernel's disk, and it stays where it is.
        if (frame, index) != (GrantFrame::Table, 0) {
            return Err(Errno::ENOMEM);
        }
        let known = FRAME.load(Ordering::Relaxed);
        if let Some(known) = NonNull::new(known as *mut u8) {
            return Ok(known);
        }
        let page = self.alloc(1).ok_or(Errno::ENOMEM)?;
        // SAFETY: a fresh page, which nobody uses.
        unsafe { add_to_physmap(self, MapSpace::GRANT_TABLE, 0, frame_of(page)) }?;
        FRAME.store(page.addr().get(), Ordering::Relaxed);
        Ok(page)
    }

    fn singletons(&self) -> &Singletons {
        static SINGLETONS: Singletons = Singletons::new();
        &SINGLETONS
    }

    fn own_grants(&self) -> OwnGrants {
        OwnGrants::Move
    }
}

impl Park for Kernel {
    fn park(&self, ports: &[Port], deadline_ns: Option<u64>) {
        let _early = sched::poll(self, ports, deadline_ns);
    }

    fn idle(&self, deadline_ns: Option<u64>, has_work: &dyn Fn() -> bool) {
        if !has_work() {
            let _early = sched::poll(self, &[], deadline_ns);
        }
    }
}

impl Clock for Kernel {
    fn now_ns(&self) -> u64 {
        let time = self.shared().ok().and_then(|shared| {
            let first = peer_field!(shared, SharedInfo, vcpu_info).get(0)?;
            let time = peer_field!(first, VcpuInfo, time);
            Some(clock::system_time_ns(time, boot::counter))
        });
        time.unwrap_or(0)
    }

    fn wall_clock_ns(&self) -> Option<u64> {
        None
    }
}
