//! `grant_table_op`.

use hypercall_abi::{DomId, Errno, Gfn, PAGE_SIZE, grant_table::*, peer::PeerSlice};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Call, read};
use crate::core::{
    grant_table::{Map, Place},
    grant_uses::{Unmap, Use},
    machine::Core,
    memory::{Access, GuestMemory, SHARED_PAGE, TABLE_PAGES},
};

impl Call<'_> {
    pub(super) fn grant_table_op(
        &mut self,
        memory: &impl GuestMemory,
        op: usize,
        list: usize,
        count: usize,
    ) -> Result<usize, Errno> {
        match op {
            GNTTABOP_MAP_GRANT_REF => self.each(memory, list, count, Self::map_grant),
            GNTTABOP_UNMAP_GRANT_REF => self.each(memory, list, count, Self::unmap_grant),
            GNTTABOP_COPY => self.each(memory, list, count, Self::copy_grant),
            GNTTABOP_QUERY_SIZE => self.each(memory, list, count, Self::query_size),
            GNTTABOP_SWAP_GRANT_REF => self.each(memory, list, count, Self::swap_grants),
            // What Xen lets no PVH guest do.
            GNTTABOP_TRANSFER
            | GNTTABOP_UNMAP_AND_REPLACE
            | GNTTABOP_GET_STATUS_FRAMES
            | GNTTABOP_CACHE_FLUSH
                if self.state().is_pvh() =>
            {
                Err(Errno::ENOSYS)
            }
            // Of memory that no device of this domain's writes.
            GNTTABOP_CACHE_FLUSH => match count {
                0 => Ok(0),
                _ => Err(Errno::EPERM),
            },
            GNTTABOP_TRANSFER => self.each(memory, list, count, Self::transfer),
            GNTTABOP_UNMAP_AND_REPLACE => self.each(memory, list, count, Self::unmap_and_replace),
            GNTTABOP_SETUP_TABLE if count == 1 => self.setup_table(memory, list),
            GNTTABOP_GET_STATUS_FRAMES if count == 1 => self.status_frames(memory, list),
            GNTTABOP_SET_VERSION if count == 1 => self.set_version(memory, list),
            GNTTABOP_GET_VERSION if count == 1 => {
                let mut get: GnttabGetVersion = read(memory, list)?;
                self.own(get.dom)?;
                get.version = self.state().grants.version;
                memory.copy_out(list, get.as_bytes()).map(|()| 0)
            }
            GNTTABOP_SETUP_TABLE
            | GNTTABOP_GET_STATUS_FRAMES
            | GNTTABOP_SET_VERSION
            | GNTTABOP_GET_VERSION => Err(Errno::EINVAL),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Does one operation after the other, each with its own status.
    fn each<T: FromBytes + IntoBytes + Immutable>(
        &mut self,
        memory: &impl GuestMemory,
        list: usize,
        count: usize,
        operation: impl Fn(&mut Self, &mut T),
    ) -> Result<usize, Errno> {
        let fails_after = self.state().grants.fails_after.take();
        for i in 0..count {
            if let Some((_, errno)) = fails_after.filter(|(done, _)| *done == i) {
                return Err(errno);
            }
            let at = list.wrapping_add(i * size_of::<T>());
            let mut op: T = read(memory, at)?;
            operation(self, &mut op);
            memory.copy_out(at, op.as_bytes())?;
        }
        Ok(0)
    }

    fn named(&mut self, domid: DomId) -> DomId {
        if domid == DomId::SELF {
            self.domid
        } else {
            domid
        }
    }

    fn map_grant(&mut self, op: &mut GnttabMapGrantRef) {
        let flags = MapFlags::from_bits_retain(op.flags);
        if !flags.intersects(MapFlags::DEVICE_MAP | MapFlags::HOST_MAP) {
            op.status = GrantStatus::BAD_GNTREF;
            return;
        }
        let of_pv = MapFlags::DEVICE_MAP | MapFlags::APPLICATION_MAP | MapFlags::CONTAINS_PTE;
        if self.state().is_pvh() && flags.intersects(of_pv) {
            op.status = GrantStatus::GENERAL_ERROR;
            return;
        }
        let is_for_device = flags.contains(MapFlags::DEVICE_MAP);
        let is_for_host = flags.contains(MapFlags::HOST_MAP);
        let access = if flags.contains(MapFlags::READONLY) {
            Access::Read
        } else {
            Access::Write
        };
        let owner = self.named(op.dom);
        let no_handles = &mut self.state().grants.no_handles;
        if let Some(rest) = no_handles.checked_sub(1) {
            *no_handles = rest;
            op.status = GrantStatus::NO_DEVICE_SPACE;
            return;
        }
        let used = match self.core.acquire(self.domid, owner, op.r#ref, access) {
            Ok(used) => used,
            Err(status) => {
                op.status = status;
                return;
            }
        };
        // A part of a page, or another's, cannot be mapped.
        let whole = used.is_whole && used.frame_owner == owner;
        let place = if flags.contains(MapFlags::CONTAINS_PTE) {
            Place::Entry(op.host_addr)
        } else {
            Place::Address(op.host_addr)
        };
        let mapped = whole
            .then(|| match is_for_host {
                true => self.core.map_page(self.domid, &used, place, access),
                false => Some(()),
            })
            .flatten();
        // For both, it is used twice.
        let again = match mapped {
            Some(()) if is_for_host && is_for_device => {
                let again = self.core.acquire(self.domid, owner, op.r#ref, access);
                again.map(|_| ())
            }
            Some(()) => Ok(()),
            None => Err(GrantStatus::GENERAL_ERROR),
        };
        if let Err(status) = again {
            self.core.release(&used, access);
            op.status = status;
            return;
        }
        op.handle = self.state().grants.track(Map {
            owner,
            gref: op.r#ref,
            access,
            gfn: used.gfn,
            place: is_for_host.then_some(place),
            is_for_device,
        });
        op.dev_bus_addr = used.gfn.address().unwrap_or(0);
        op.status = GrantStatus::OKAY;
    }

    fn unmap_grant(&mut self, op: &mut GnttabUnmapGrantRef) {
        let what = Unmap {
            host_addr: op.host_addr,
            dev_bus_addr: op.dev_bus_addr,
            new_addr: 0,
        };
        op.status = self.core.unmap(self.domid, op.handle, &what);
    }

    /// No domain of the mock's takes a page so.
    fn transfer(&mut self, op: &mut GnttabTransfer) {
        let state = self.state();
        op.status = if state.memory.ram_index(op.mfn.into()).is_none() {
            GrantStatus::BAD_PAGE
        } else if op.domid == self.domid || !self.core.domains.contains_key(&op.domid) {
            GrantStatus::BAD_DOMAIN
        } else {
            GrantStatus::GENERAL_ERROR
        };
    }

    /// The page at another address takes the place of the granted one.
    fn unmap_and_replace(&mut self, op: &mut GnttabUnmapAndReplace) {
        let what = Unmap {
            host_addr: op.host_addr,
            dev_bus_addr: 0,
            new_addr: op.new_addr,
        };
        op.status = self.core.unmap(self.domid, op.handle, &what);
    }

    fn copy_grant(&mut self, op: &mut GnttabCopy) {
        op.status = match self.core.copy(self.domid, op) {
            Ok(()) => GrantStatus::OKAY,
            Err(status) => status,
        };
    }

    fn query_size(&mut self, op: &mut GnttabQuerySize) {
        op.status = GrantStatus::OKAY;
        if self.own(op.dom).is_err() {
            op.status = GrantStatus::PERMISSION_DENIED;
            return;
        }
        op.nr_frames = self.state().grants.frames as u32;
        op.max_nr_frames = TABLE_PAGES as u32;
    }

    fn swap_grants(&mut self, op: &mut GnttabSwapGrantRef) {
        let state = self.state();
        op.status = state.grants.swap(&state.memory, op.ref_a, op.ref_b);
    }

    fn setup_table(&mut self, memory: &impl GuestMemory, list: usize) -> Result<usize, Errno> {
        let mut op: GnttabSetupTable = read(memory, list)?;
        let wanted = op.nr_frames as usize;
        op.status = GrantStatus::OKAY;
        if self.own(op.dom).is_err() {
            op.status = GrantStatus::PERMISSION_DENIED;
        } else if wanted > TABLE_PAGES {
            return Err(Errno::EINVAL);
        } else {
            let state = self.state();
            state.grants.frames = state.grants.frames.max(wanted);
            self.tell_frames(memory, op.frame_list, 0, wanted)?;
        }
        memory.copy_out(list, op.as_bytes()).map(|()| 0)
    }

    fn status_frames(&mut self, memory: &impl GuestMemory, list: usize) -> Result<usize, Errno> {
        let mut op: GnttabGetStatusFrames = read(memory, list)?;
        let wanted = op.nr_frames as usize;
        let state = self.state();
        let there = state.grants.status_frames();
        let version = state.grants.version;
        op.status = if self.own(op.dom).is_err() {
            GrantStatus::PERMISSION_DENIED
        } else if version != 2 || wanted > there {
            GrantStatus::GENERAL_ERROR
        } else {
            self.tell_frames(memory, op.frame_list, TABLE_PAGES, wanted)?;
            GrantStatus::OKAY
        };
        memory.copy_out(list, op.as_bytes()).map(|()| 0)
    }

    fn tell_frames(
        &mut self,
        memory: &impl GuestMemory,
        list: u64,
        first: usize,
        count: usize,
    ) -> Result<(), Errno> {
        for index in 0..count {
            let state = self.state();
            let gfn = state.memory.xen_gfn(first + index).ok_or(Errno::EINVAL)?;
            let at = (list as usize).wrapping_add(index * size_of::<Gfn>());
            memory.copy_out(at, gfn.as_bytes())?;
        }
        Ok(())
    }

    fn set_version(&mut self, memory: &impl GuestMemory, list: usize) -> Result<usize, Errno> {
        let mut op: GnttabSetVersion = read(memory, list)?;
        let wanted = op.version;
        if wanted != 1 && wanted != 2 {
            return Err(Errno::EINVAL);
        }
        let state = self.state();
        let mut answer = Ok(0);
        if wanted != state.grants.version {
            // With the first version, the words of the status go.
            let is_seen = wanted == 1 && state.memory.maps_xens(TABLE_PAGES..SHARED_PAGE);
            if state.grants.busy() || is_seen {
                answer = Err(Errno::EBUSY);
            } else {
                state.grants.set_version(&state.memory, wanted);
            }
        }
        op.version = state.grants.version;
        memory.copy_out(list, op.as_bytes())?;
        answer
    }
}

impl Core {
    /// One end of a copy: the domain's own frame, or a grant.
    fn end(
        &mut self,
        user: DomId,
        end: &GnttabCopyPtr,
        by_grant: bool,
        access: Access,
    ) -> Result<Use, GrantStatus> {
        let domid = if end.domid == DomId::SELF {
            user
        } else {
            end.domid
        };
        if by_grant {
            let gref = hypercall_abi::GrantRef(end.u as u32);
            return self.acquire(user, domid, gref, access);
        }
        if domid != user {
            return Err(GrantStatus::PERMISSION_DENIED);
        }
        let gfn = Gfn(end.u);
        let mine = self.domains.get(&user);
        if mine.and_then(|state| state.memory.ram_of(gfn)).is_none() {
            return Err(GrantStatus::BAD_PAGE);
        }
        Ok(Use {
            owner: user,
            gref: hypercall_abi::GrantRef(u32::MAX),
            frame_owner: user,
            gfn,
            part: 0..PAGE_SIZE,
            is_whole: true,
        })
    }

    fn copy(&mut self, user: DomId, op: &GnttabCopy) -> Result<(), GrantStatus> {
        let flags = CopyFlags::from_bits_retain(op.flags);
        let len = usize::from(op.len);
        let fits = |end: &GnttabCopyPtr| usize::from(end.offset) + len <= PAGE_SIZE;
        if !fits(&op.source) || !fits(&op.dest) {
            return Err(GrantStatus::BAD_COPY_ARG);
        }
        let by_grant = flags.contains(CopyFlags::SOURCE_GREF);
        let source = self.end(user, &op.source, by_grant, Access::Read)?;
        let by_grant = flags.contains(CopyFlags::DEST_GREF);
        let dest = self.end(user, &op.dest, by_grant, Access::Write);
        let copied = dest.and_then(|dest| {
            let copied = self.copy_pages(&source, &dest, op);
            self.release(&dest, Access::Write);
            copied
        });
        self.release(&source, Access::Read);
        copied
    }

    fn copy_pages(&mut self, source: &Use, dest: &Use, op: &GnttabCopy) -> Result<(), GrantStatus> {
        let len = usize::from(op.len);
        let slice = |used: &Use, offset: u16| {
            let offset = usize::from(offset);
            if offset < used.part.start || offset + len > used.part.end {
                return Err(GrantStatus::GENERAL_ERROR);
            }
            let state = self.domains.get(&used.frame_owner);
            let page = state.and_then(|state| state.memory.ram_of(used.gfn));
            let page = page.ok_or(GrantStatus::BAD_PAGE)?;
            // As the guest made it known, not as the mock does.
            let place = std::ptr::with_exposed_provenance_mut(page.as_ptr().expose_provenance());
            let page = std::ptr::NonNull::new(place).ok_or(GrantStatus::BAD_PAGE)?;
            // SAFETY: a page of a domain that is there while the world is
            // locked.
            let page = unsafe { PeerSlice::new(page, PAGE_SIZE) };
            page.get(offset, len).ok_or(GrantStatus::BAD_COPY_ARG)
        };
        let (source, dest) = (
            slice(source, op.source.offset)?,
            slice(dest, op.dest.offset)?,
        );
        let mut bytes = vec![0; len];
        let _all = source.copy_to(&mut bytes);
        let _all = dest.copy_from(&bytes);
        Ok(())
    }
}
