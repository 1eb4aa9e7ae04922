//! From the PVH entry to `main`: on Xen, and on a plain machine.

use core::{ptr::NonNull, slice};

use hypercall_abi::{
    Gfn, PAGE_SIZE,
    arch_x86::cpuid::Cpuid,
    memory::current_reservation,
    peer::PeerPtr,
    trap::{self, Instruction},
};

use super::{entry, native};
use crate::{
    arch::{image, machine, serial, traps, tsc},
    boot_info::{BootInfo, GuestType, RingLocation, boot_map, taken::Taken},
    clock::RateSource,
    cpu::shared_info,
    error::Error,
    guest::{SharedPage, place_shared_info},
    hypervisor::{Native, frames, own_tables::map_memory, window},
    kernel::console::{self, Device},
};

/// What `entry.S` has mapped: the first four GiB of memory.
const BOOT_MAPPED: u64 = 4 << 30;
const PAGE: u64 = PAGE_SIZE as u64;

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
    native::set_guest_type(guest_type);
    traps::init_hardware();
    machine::mask_legacy_interrupts();
    entry::finish(boot(start_info_paddr, guest_type))
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
                console::print(format_args!(
                    "clock: the rate of the time stamp counter is {rate}\n"
                ));
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
    let mut info = BootInfo::from_pvh(paddr, &physical, guest_type, boot_map()?, limit_bytes)?;
    info.console = console;
    if guest_type == GuestType::Pvh {
        info.store = RingLocation::of_store(&Native);
    }
    let by_loader = taken.ranges().len();
    taken.push_rings([info.console, info.store], ring_paddr)?;
    frames::set_mapped_end(BOOT_MAPPED);
    frames::init(info.memory_map, &taken)?;
    let rings = taken.ranges().get(by_loader..).unwrap_or(&[]);
    map_memory(&info, rings)?;
    frames::set_mapped_end(info.memory_map.ram_end());
    window::place_behind(info.memory_map.ram_end());
    let shared = match guest_type {
        GuestType::Bare => None,
        _ => Some(map_shared_info()?),
    };
    // SAFETY: the page was made for it; rings are where Xen says, and `taken` keeps
    // their pages from all other use.
    unsafe { native::run(info, shared) }
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
    let start = core::ptr::with_exposed_provenance(frames::virtual_of(paddr) as usize);
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
    let virt = reachable.map_or(0, frames::virtual_of);
    if let Some(page) = NonNull::new(core::ptr::with_exposed_provenance_mut(virt as usize)) {
        // SAFETY: mapped by entry.S (and again later, at the same address), and
        // kept from the allocator; the console's daemon alone shares it.
        let page = unsafe { PeerPtr::new(page) };
        let port = event_channels::PortRef::new(location.port, None);
        console::set_ring(Native, page, port);
    }
    Some(location)
}

/// Puts the shared page where the image has a page for it.
fn map_shared_info() -> Result<SharedPage, Error> {
    let place = image::SHARED_PAGE.place();
    let paddr = frames::physical_of(place.addr().get() as u64)
        .ok_or(Error::StartInfo("the image is not where it was linked"))?;
    // SAFETY: the page was made for this; no reference leads into it.
    unsafe { place_shared_info(&Native, Gfn(paddr / PAGE)) }?;
    // SAFETY: mapped for good, and reached through peer pointers only.
    let shared = unsafe { PeerPtr::new(place) };
    shared_info::set(shared);
    Ok(SharedPage(shared))
}
