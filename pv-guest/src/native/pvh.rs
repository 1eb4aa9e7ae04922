//! From the PVH entry to `main`: on Xen, and on a plain machine.

use core::{ops::Range, ptr::NonNull, slice};

use hypercall_abi::{
    Gfn, PAGE_SIZE,
    arch_x86::cpuid::Cpuid,
    memory::current_reservation,
    peer::PeerPtr,
    trap::{self, Instruction},
};

use super::{
    Native,
    image::{self, Access},
    machine, memory,
    paging::{self, Tables},
    platform, serial, set_guest_type, traps, tsc, window,
};
use crate::{
    BootInfo, Error, GuestType,
    boot_info::RingLocation,
    clock::RateSource,
    console::{self, Device},
    guest::{SharedPage, place_shared_info},
    memory::taken::Taken,
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
    crate::entry::finish(boot(start_info_paddr, guest_type))
}

fn boot(paddr: u64, guest_type: GuestType) -> Result<(), Error> {
    let physical = |paddr: u64, len: usize| boot_bytes(paddr, len);
    let mut taken = Taken::new();
    let image = image::image();
    taken.push(image.start - image::VIRT_BASE, image.end - image.start);
    taken.push_pvh(paddr, &physical);
    let console = match guest_type {
        GuestType::Bare => {
            console::set(Device::Serial);
            let rate = tsc::calibrate();
            if rate.source == RateSource::Assumed {
                println!("clock: the rate of the time stamp counter is {rate}");
            }
            None
        }
        _ => {
            let location = early_console(&taken);
            if location.is_none() && serial::is_there() {
                console::set(Device::Serial);
            }
            location
        }
    };
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
    let by_loader = taken.ranges().len();
    taken.push_rings([info.console, info.store], ring_paddr)?;
    memory::set_mapped_end(BOOT_MAPPED);
    memory::init(info.memory_map, &taken)?;
    let rings = taken.ranges().get(by_loader..).unwrap_or(&[]);
    map_memory(&info, rings)?;
    memory::set_mapped_end(info.memory_map.ram_end());
    window::place_behind(info.memory_map.ram_end());
    let shared = match guest_type {
        GuestType::Bare => None,
        _ => Some(map_shared_info()?),
    };
    // SAFETY: the page was made for it; rings are where Xen says, and `taken` keeps
    // their pages from all other use.
    unsafe { super::run(info, shared) }
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
fn ring_paddr(location: RingLocation) -> Result<Option<u64>, Error> {
    match location.gfn.address() {
        Some(paddr) if paddr < 1 << 46 => Ok(Some(paddr)),
        _ => Err(Error::StartInfo("a ring's page has an absurd frame")),
    }
}

/// Makes Xen's console work before anything else does, if the boot tables map
/// its page: it lies below 4 GiB.
fn early_console(taken: &Taken) -> Option<RingLocation> {
    let location = RingLocation::of_console(&Native)?;
    let reachable = ring_paddr(location)
        .ok()
        .flatten()
        .filter(|at| at + PAGE <= BOOT_MAPPED && !taken.has(*at));
    let virt = reachable.map_or(0, memory::virtual_of);
    if let Some(page) = NonNull::new(core::ptr::with_exposed_provenance_mut(virt as usize)) {
        // SAFETY: mapped by entry.S (and again later, at the same address), and
        // kept from the allocator; the console's daemon alone shares it.
        let page = unsafe { PeerPtr::new(page) };
        let port = event_channels::PortRef::new(location.port, None);
        console::set_ring(Native, page, port);
    }
    Some(location)
}

/// Replaces the boot tables by ones that map all memory, and no more.
#[inline(never)]
fn map_memory(info: &BootInfo, rings: &[Range<u64>]) -> Result<(), Error> {
    let mut tables = paging::map_all(info.memory_map)?;
    for ring in rings {
        tables.map(ring.clone(), Access::Write)?;
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
