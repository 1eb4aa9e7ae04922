//! A domain is the platform of the guest in it.

use std::ptr::NonNull;

use hypercall_abi::{
    Errno, Gfn, HypercallNr, Port,
    grant_table::{get_status_frames, setup_table},
    memory::{MapSpace, XENMAPIDX_GRANT_TABLE_STATUS, add_to_physmap},
    peer_field,
    platform::{Clock, GrantFrame, Hypercall, OwnGrants, Pages, Park, Singletons},
    sched,
    xen::VcpuInfo,
};

use crate::{core::memory::ThisProcess, engine::domain::Domain, hypercalls::tell_areas};

// SAFETY: the mock follows Xen's interface for the calls that it knows, and
// touches only the memory that they name.
unsafe impl Hypercall for Domain {
    unsafe fn call5(
        &self,
        nr: HypercallNr,
        a1: usize,
        a2: usize,
        a3: usize,
        a4: usize,
        a5: usize,
    ) -> isize {
        let answer = self.dispatch(&ThisProcess, nr, [a1, a2, a3, a4, a5]);
        self.deliver();
        answer
    }
}

// SAFETY: pages come from the domain's own memory, each to one owner, zeroed.
unsafe impl Pages for Domain {
    fn alloc(&self, count: usize) -> Option<NonNull<u8>> {
        let mut state = self.lock();
        if state.world.happens(|faults| faults.no_pages) {
            return None;
        }
        state.memory.alloc(count)
    }

    unsafe fn free(&self, first: NonNull<u8>, count: usize) {
        self.lock().memory.free(first, count);
    }

    fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn> {
        self.lock().memory.gfn_of(page)
    }

    fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        self.lock().memory.page_of(gfn)
    }

    fn grant_frame(&self, frame: GrantFrame, index: u32) -> Result<NonNull<u8>, Errno> {
        if self.is_pvh() {
            return self.add_grant_frame(frame, index);
        }
        // As a PV guest does: Xen tells the frames of the whole table.
        let count = index as usize + 1;
        let gfn = match frame {
            GrantFrame::Table => {
                let mut frames = vec![Gfn(0); count];
                setup_table(self, &mut frames)?;
                frames[index as usize]
            }
            GrantFrame::Status => {
                let mut frames = vec![0; count];
                get_status_frames(self, &mut frames)?;
                Gfn(frames[index as usize])
            }
        };
        self.page_of(gfn).ok_or(Errno::ENOMEM)
    }

    fn singletons(&self) -> &Singletons {
        &self.singletons
    }

    fn own_grants(&self) -> OwnGrants {
        if self.is_pvh() {
            OwnGrants::Move
        } else {
            OwnGrants::Alias
        }
    }

    fn reserve_window(&self, count: usize) -> Option<NonNull<u8>> {
        self.lock().memory.reserve_window(count)
    }

    unsafe fn release_window(&self, first: NonNull<u8>, count: usize) {
        self.lock().memory.release_window(first, count);
    }
}

impl Domain {
    /// As a PVH guest does: the frame appears in the place of a page of its own,
    /// of the same one each time.
    fn add_grant_frame(&self, frame: GrantFrame, index: u32) -> Result<NonNull<u8>, Errno> {
        let idx = match frame {
            GrantFrame::Table => index,
            GrantFrame::Status => index | XENMAPIDX_GRANT_TABLE_STATUS,
        };
        let (space, idx) = (MapSpace::GRANT_TABLE, u64::from(idx));
        let state = self.lock();
        let frame = state.page_of_space(space, idx)?;
        let known = state.memory.place_of_added(frame);
        drop(state);
        let page = match known {
            Some(page) => page,
            None => self.alloc(1).ok_or(Errno::ENOMEM)?,
        };
        let added = self.gfn_of(page).ok_or(Errno::ENOMEM).and_then(|gfn| {
            // SAFETY: a fresh page, which is given up for it, or the frame's own.
            unsafe { add_to_physmap(self, space, idx, gfn) }
        });
        if added.is_err() && known.is_none() {
            // SAFETY: allocated above; nothing took its place.
            unsafe { self.free(page, 1) };
        }
        added.map(|()| page)
    }
}

impl Park for Domain {
    fn park(&self, ports: &[Port], deadline_ns: Option<u64>) {
        let _bad_port: Result<(), Errno> = sched::poll(self, ports, deadline_ns);
    }

    fn idle(&self, deadline_ns: Option<u64>, has_work: &dyn Fn() -> bool) {
        let Some(info) = self.vcpu_info() else {
            return;
        };
        let mask = peer_field!(info, VcpuInfo, evtchn_upcall_mask);
        // Where nobody takes upcalls, that they are held back means nothing.
        let is_held = mask.swap(1).trust() != 0 && self.upcall.get().is_some();
        if has_work() {
            if !is_held {
                mask.store_release(0);
            }
            self.deliver();
            return;
        }
        if is_held {
            self.park(&[], deadline_ns);
            return;
        }
        // What a guest makes of a timer and SCHEDOP_block, in one.
        self.block(deadline_ns);
        let mut guard = self.lock();
        let core = &mut guard.world.services.core;
        tell_areas(core, self.actor(), &ThisProcess);
        drop(guard);
        self.deliver();
    }
}

impl Clock for Domain {
    fn now_ns(&self) -> u64 {
        self.xen.0.lock().read_time_ns(self.actor())
    }

    fn wall_clock_ns(&self) -> Option<u64> {
        let started_ns = self.xen.0.lock().started_wall_ns();
        Some(started_ns + self.now_ns())
    }
}
