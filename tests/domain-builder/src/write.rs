//! The first contents of memory.

use hypercall_abi::{Mfn, Port, xen::StartFlags, xen::StartInfo};
use zerocopy::{FromZeros, IntoBytes};

use crate::{PAGE, Plan, Refused, Request};

/// What the hypervisor decides.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The machine frame of each frame.
    pub mfn_of: &'a dyn Fn(u64) -> u64,
    /// The machine address of the shared page.
    pub shared_info: u64,
    /// The port of the store.
    pub store_port: Port,
    /// The port of the console.
    pub console_port: Port,
    /// What Xen calls its interface.
    pub magic: &'a str,
}

impl std::fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts")
            .field("shared_info", &self.shared_info)
            .finish_non_exhaustive()
    }
}

/// Copies bytes to a place of memory; what is behind them there stays.
fn put(memory: &mut [u8], at: u64, bytes: &[u8]) -> Result<(), Refused> {
    let there = memory.len() as u64;
    let needed = at.saturating_add(bytes.len() as u64);
    let place = usize::try_from(at)
        .ok()
        .and_then(|at| memory.get_mut(at..)?.get_mut(..bytes.len()))
        .ok_or(Refused::TooLittleMemory(needed, there))?;
    place.copy_from_slice(bytes);
    Ok(())
}

/// Fills a place of memory with zeroes.
fn clear(memory: &mut [u8], at: u64, bytes: u64) -> Result<(), Refused> {
    let there = memory.len() as u64;
    let range = usize::try_from(at).ok().zip(usize::try_from(bytes).ok());
    let place = range.and_then(|(at, bytes)| memory.get_mut(at..)?.get_mut(..bytes));
    let needed = at.saturating_add(bytes);
    place
        .ok_or(Refused::TooLittleMemory(needed, there))?
        .fill(0);
    Ok(())
}

/// Copies a text into a field that ends with a zero.
fn text(field: &mut [u8], text: &str) {
    let room = field.len().saturating_sub(1);
    for (place, byte) in field.iter_mut().take(room).zip(text.bytes()) {
        *place = byte;
    }
}

impl Plan<'_> {
    /// Fills memory, which must be all of the guest's, and zeroes until now.
    ///
    /// # Errors
    /// [`Refused::TooLittleMemory`]: it is less than was planned with.
    pub fn write(
        &self,
        request: &Request<'_>,
        memory: &mut [u8],
        facts: &Facts<'_>,
    ) -> Result<(), Refused> {
        for segment in &self.segments {
            let from = usize::try_from(segment.file_offset).unwrap_or(usize::MAX);
            let len = usize::try_from(segment.file_bytes).unwrap_or(usize::MAX);
            let bytes = self.file.get(from..).and_then(|rest| rest.get(..len));
            let bytes =
                bytes.ok_or(Refused::BadSegment("is outside of the file", segment.start))?;
            put(memory, segment.start, bytes)?;
            // Where one lies over another, that is gone.
            let more = segment.memory_bytes - segment.file_bytes;
            clear(memory, segment.start + segment.file_bytes, more)?;
        }
        if let Some(bytes) = request.ramdisk {
            put(memory, self.ramdisk.start * PAGE, bytes)?;
        }
        let list: Vec<u64> = (0..request.nr_pages).map(facts.mfn_of).collect();
        put(memory, self.frame_list.start * PAGE, list.as_bytes())?;
        for table in &self.tables {
            let entries = self.entries(table, facts.mfn_of);
            put(memory, table.pfn * PAGE, entries.as_bytes())?;
        }
        let start = self.start_info(request, facts);
        put(memory, self.start_info * PAGE, start.as_bytes())
    }

    fn start_info(&self, request: &Request<'_>, facts: &Facts<'_>) -> StartInfo {
        let mfn = |pfn: u64| Mfn((facts.mfn_of)(pfn));
        let mut start = StartInfo::new_zeroed();
        text(&mut start.magic, facts.magic);
        start.nr_pages = request.nr_pages;
        start.shared_info = facts.shared_info;
        start.store_mfn = mfn(self.store);
        start.store_evtchn = facts.store_port;
        start.console.mfn = mfn(self.console);
        start.console.evtchn = facts.console_port;
        start.pt_base = self.address_of(self.root());
        start.nr_pt_frames = self.own_tables;
        start.mfn_list = self.frame_list_address;
        if self.frame_list_address < self.virt_base {
            start.first_p2m_pfn = self.frame_list.start;
            // Its tables are counted in.
            let tables = self.tables.len() as u64 - self.own_tables;
            start.nr_p2m_frames = self.frame_list.end - self.frame_list.start + tables;
        }
        start.flags = StartFlags::VIRT_P2M_4TOOLS.bits();
        if let Some(bytes) = request.ramdisk {
            start.mod_len = bytes.len() as u64;
            if self.ramdisk_by_frame {
                // Then all of its pages count.
                start.mod_len = (self.ramdisk.end - self.ramdisk.start) * PAGE;
                start.mod_start = self.ramdisk.start;
                start.flags |= StartFlags::MOD_START_PFN.bits();
            } else {
                start.mod_start = self.address_of(self.ramdisk.start);
            }
        }
        text(&mut start.cmd_line, request.command_line);
        start
    }
}
