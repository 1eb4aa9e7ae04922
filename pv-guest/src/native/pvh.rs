//! From the PVH entry to `main`: on Xen, and on a plain machine.

use core::{ops::Range, ptr::NonNull, slice};

use hypercall_abi::{
    Gfn, PAGE_SIZE,
    arch_x86::cpuid::Cpuid,
    hvm::{HvmMemmapTableEntry, HvmModlistEntry, HvmStartInfo},
    memory::current_reservation,
    peer::PeerPtr,
    trap::{self, Instruction},
};
use zerocopy::FromBytes;

use super::{
    Native,
    image::{self, Access},
    machine, memory,
    paging::{self, Tables},
    platform, serial, set_guest_type, traps, tsc, window,
};
use crate::{
    BootInfo, Error, Guest, GuestType,
    boot_info::RingLocation,
    clock::RateSource,
    console::{self, Device},
    guest::{SharedPage, place_shared_info},
    println,
    sync::UpcallMutex,
};

/// What `entry.S` has mapped: the first four GiB of memory.
const BOOT_MAPPED: u64 = 4 << 30;
const PAGE: u64 = PAGE_SIZE as u64;

/// The page tables, once they are ours.
static TABLES: UpcallMutex<Option<Tables>> = UpcallMutex::new(None);

/// Where `entry.S` leads: in 64-bit mode, with the first four GiB mapped.
pub(super) extern "C" fn start(start_info_paddr: u64) -> ! {
    let guest_type = match Cpuid::PLAIN.xen_base() {
        Some(_) => {
            let instruction = match &Cpuid::PLAIN.vendor() {
                b"AuthenticAMD" | b"HygonGenuine" => Instruction::Vmmcall,
                _ => Instruction::Vmcall,
            };
            // SAFETY: 1. the linker script's section; 2. the boot tables map
            // the code writable, and there is one processor; 3. by its vendor.
            unsafe { trap::patch(image::hypercall_sites(), instruction) };
            GuestType::Pvh
        }
        None => GuestType::Bare,
    };
    set_guest_type(guest_type);
    traps::init_hardware();
    machine::mask_legacy_interrupts();
    super::run(boot(start_info_paddr, guest_type))
}

fn boot(paddr: u64, guest_type: GuestType) -> Result<Guest, Error> {
    let console = match guest_type {
        GuestType::Bare => {
            console::set(Device::Serial);
            tsc::calibrate();
            if let Some(rate) = tsc::rate()
                && rate.source == RateSource::Assumed
            {
                println!("clock: the rate of the time stamp counter is {rate}");
            }
            None
        }
        _ => {
            let location = early_console();
            if location.is_none() && serial::is_there() {
                console::set(Device::Serial);
            }
            location
        }
    };
    let physical = |paddr: u64, len: usize| boot_bytes(paddr, len);
    let limit_bytes = match guest_type {
        GuestType::Pvh => populated_bytes(),
        _ => u64::MAX,
    };
    let mut info = BootInfo::from_pvh(
        paddr,
        &physical,
        guest_type,
        crate::memory::boot_map()?,
        limit_bytes,
    )?;
    info.console = console;
    if guest_type == GuestType::Pvh {
        info.store = RingLocation::of_store(&Native);
    }
    let mut taken = Taken::by_loader(paddr);
    for ring in [info.console, info.store].into_iter().flatten() {
        // Nobody else's, also where the toolstack has put it into memory.
        taken.push(ring_paddr(ring)?, PAGE);
    }
    memory::init(info.memory_map, taken.ranges(), BOOT_MAPPED)?;
    map_memory(&info)?;
    window::place_behind(info.memory_map.ram_end());
    if guest_type == GuestType::Bare {
        return Ok(Guest::adopt(Native, info));
    }
    let shared = map_shared_info()?;
    Guest::adopt_with_console(Native, info, Some(shared))
}

/// How much memory is there. Where the toolstack has configured less than the map says
/// (`memory` below `maxmem`: populate on demand), Xen ends a guest that touches more.
fn populated_bytes() -> u64 {
    match current_reservation(&Native) {
        Ok(pages) => (pages as u64).saturating_mul(PAGE),
        Err(_) => u64::MAX,
    }
}

/// Bytes that the loader placed, by way of the boot tables.
fn boot_bytes(paddr: u64, len: usize) -> Option<&'static [u8]> {
    let end = paddr.checked_add(len as u64)?;
    if end > BOOT_MAPPED {
        return None;
    }
    let start = core::ptr::with_exposed_provenance(memory::virtual_of(paddr) as usize);
    // SAFETY: 1. mapped by entry.S; 2. what `BootInfo` keeps lies in memory by
    // the memory's map, or is the command line: both are mapped so later; the rest it
    // copies now;
    // 3. nothing writes what the loader placed: it is kept from the allocator.
    Some(unsafe { slice::from_raw_parts(start, len) })
}

/// The physical address of a ring's page.
fn ring_paddr(location: RingLocation) -> Result<u64, Error> {
    let paddr = location.gfn.address().filter(|paddr| *paddr < 1 << 46);
    let paddr = paddr.ok_or(Error::StartInfo("a ring's page has an absurd frame"))?;
    if image::image().contains(&memory::virtual_of(paddr)) {
        return Err(Error::StartInfo("a ring's page lies in the image"));
    }
    Ok(paddr)
}

/// Makes Xen's console work before anything else does, if the boot tables map
/// its page: it lies below 4 GiB.
fn early_console() -> Option<RingLocation> {
    let location = RingLocation::of_console(&Native)?;
    let reachable = ring_paddr(location)
        .ok()
        .filter(|at| at + PAGE <= BOOT_MAPPED);
    let virt = reachable.map_or(0, memory::virtual_of);
    if let Some(page) = NonNull::new(core::ptr::with_exposed_provenance_mut(virt as usize)) {
        // SAFETY: mapped by entry.S (and again later, at the same address), and
        // kept from the allocator; the console's daemon alone shares it.
        let page = unsafe { PeerPtr::new(page) };
        let port = event_channels::PortRef::new(location.port, None);
        console::set(Device::Ring(console::ring::ConsoleRing::new(
            Native, page, port,
        )));
    }
    Some(location)
}

/// What the allocator must not give away.
struct Taken {
    ranges: [Range<u64>; Self::MOST],
    len: usize,
}

impl Taken {
    const MOST: usize = 24;

    fn push(&mut self, start: u64, len_bytes: u64) {
        if let Some(slot) = self.ranges.get_mut(self.len) {
            let end = start.saturating_add(len_bytes);
            *slot = start & !(PAGE - 1)..end.checked_next_multiple_of(PAGE).unwrap_or(end);
            self.len += 1;
        }
    }

    fn ranges(&self) -> &[Range<u64>] {
        self.ranges.get(..self.len).unwrap_or(&[])
    }

    /// The image, and what the loader placed: `BootInfo` has checked it.
    fn by_loader(paddr: u64) -> Self {
        let mut taken = Self {
            ranges: [const { 0..0 }; Self::MOST],
            len: 0,
        };
        let image = image::image();
        taken.push(image.start - image::VIRT_BASE, image.end - image.start);
        taken.push(paddr, size_of::<HvmStartInfo>() as u64);
        let Some(start) = read::<HvmStartInfo>(paddr) else {
            return taken;
        };
        taken.push(
            start.memmap_paddr,
            u64::from(start.memmap_entries) * size_of::<HvmMemmapTableEntry>() as u64,
        );
        if start.cmdline_paddr != 0 {
            taken.push(start.cmdline_paddr, PAGE);
        }
        let entry_bytes = size_of::<HvmModlistEntry>() as u64;
        for i in 0..u64::from(start.nr_modules).min(16) {
            let at = start.modlist_paddr.saturating_add(i * entry_bytes);
            if i == 0 {
                taken.push(at, u64::from(start.nr_modules).min(16) * entry_bytes);
            }
            if let Some(module) = read::<HvmModlistEntry>(at) {
                taken.push(module.paddr, module.size);
            }
        }
        taken
    }
}

fn read<T: FromBytes>(paddr: u64) -> Option<T> {
    T::read_from_bytes(boot_bytes(paddr, size_of::<T>())?).ok()
}

/// Replaces the boot tables by ones that map all memory, and no more.
fn map_memory(info: &BootInfo) -> Result<(), Error> {
    let mut tables = paging::map_all(info.memory_map)?;
    for ring in [info.console, info.store].into_iter().flatten() {
        let paddr = ring_paddr(ring)?;
        tables.map(paddr..paddr + PAGE, Access::Write)?;
    }
    // Firmware may keep it outside of memory.
    let line = info.command_line.as_bytes().as_ptr_range();
    let [start, end] = [line.start, line.end].map(|at| at.addr() as u64);
    for virt in (start & !(PAGE - 1)..end).step_by(PAGE as usize) {
        if let Some(paddr) = memory::physical_of(virt).filter(|paddr| !tables.is_mapped(*paddr)) {
            tables.map(paddr..paddr + PAGE, Access::Read)?;
        }
    }
    // SAFETY: they map the image, its stack, all memory, the rings and the command line
    // at the addresses where the boot tables had them.
    unsafe { paging::activate(&tables) };
    *TABLES.lock() = Some(tables);
    Ok(())
}

/// Puts the shared page where the image has a page for it.
fn map_shared_info() -> Result<SharedPage, Error> {
    let place = image::SHARED_PAGE.place();
    let paddr = memory::physical_of(place.addr().get() as u64)
        .ok_or(Error::StartInfo("the image is not where it was linked"))?;
    // SAFETY: the page was made for this; no reference leads into it.
    unsafe { place_shared_info(&Native, Gfn(paddr / PAGE)) }?;
    // SAFETY: mapped for good, and reached through peer pointers only.
    let shared = unsafe { PeerPtr::new(place) };
    platform::set_shared_info(shared);
    Ok(SharedPage(shared))
}

/// Makes addresses behind the memory lead to the same physical ones.
pub(super) fn map_window(paddr: Range<u64>) -> Result<(), Error> {
    let mut tables = TABLES.lock();
    let tables = tables
        .as_mut()
        .ok_or(Error::OutOfMemory("the first page tables"))?;
    tables.map(paddr, Access::Write)
}

/// Where the frame `gfn` is seen. One that is not memory is mapped; of memory,
/// all is, but for the pages below stacks, which never are.
pub(super) fn page_of(gfn: Gfn) -> Option<NonNull<u8>> {
    let paddr = gfn.address().filter(|paddr| *paddr < 1 << 46)?;
    let virt = memory::virtual_of(paddr);
    let mut tables = TABLES.lock();
    let tables = tables.as_mut()?;
    if !tables.is_mapped(paddr) {
        if image::image().contains(&virt) {
            return None;
        }
        tables.map(paddr..paddr + PAGE, Access::Write).ok()?;
    }
    NonNull::new(core::ptr::with_exposed_provenance_mut(virt as usize))
}
