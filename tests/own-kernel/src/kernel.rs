//! What the kernel does.

use alloc::{boxed::Box, format};
use core::{fmt::Write as _, panic::PanicInfo};

use event_channels::{Channel, Choice, PortRef, Ports, Throttle};
use grant_tables::{GrantTable, Version};
use hypercall_abi::{
    peer::PeerPtr,
    platform::Pages as _,
    sched::{self, ShutdownReason},
};
use pv_frontends::{
    blkfront::{Config, Disk, SECTOR_BYTES, Sector},
    xenbus::Bus,
};
use pv_guest::{
    BootInfo, Guest, GuestType, boot_info::RingLocation, console::ring::ConsoleRing,
    memory::MemoryMap,
};
use spin::Mutex;
use talc::{TalcLock, source::Claim};
use xenstore_client::{Client, Ring};

use crate::{
    platform::Kernel,
    tasks::{Alarms, block_on},
};

const HEAP_BYTES: usize = 8 << 20;

#[global_allocator]
static HEAP: TalcLock<Mutex<()>, Claim> = TalcLock::new({
    static mut MEMORY: [u8; HEAP_BYTES] = [0; HEAP_BYTES];
    let memory = &raw mut MEMORY;
    // SAFETY: the allocator's alone.
    unsafe { Claim::array(memory) }
});

static CONSOLE: Mutex<Option<ConsoleRing<Kernel>>> = Mutex::new(None);

/// Writes a line to the guest's console.
fn say(line: core::fmt::Arguments<'_>) {
    if let Some(ring) = &mut *CONSOLE.lock() {
        let _broken = ring.write_all(format!("{line}\n").as_bytes());
    }
}

/// The whole of it.
pub(crate) fn run(start_info: u64) -> ! {
    let reason = match try_run(start_info) {
        Ok(()) => ShutdownReason::POWEROFF,
        Err(error) => {
            say(format_args!("own-kernel: {error}"));
            ShutdownReason::CRASH
        }
    };
    end(reason)
}

fn end(reason: ShutdownReason) -> ! {
    loop {
        let _refused = sched::shutdown(&Kernel::here(), reason);
    }
}

fn try_run(start_info: u64) -> Result<(), Box<dyn core::error::Error>> {
    let kernel = Kernel::here();
    let memory = |paddr: u64, len_bytes: usize| {
        // SAFETY: memory is where it is, and nobody writes what the loader placed there.
        Some(unsafe { core::slice::from_raw_parts(paddr as *const u8, len_bytes) })
    };
    let map = Box::leak(Box::new(MemoryMap::empty()));
    let info = BootInfo::from_pvh(start_info, &memory, GuestType::Pvh, map, u64::MAX)?;

    let console = RingLocation::of_console(&kernel).ok_or("there is no console")?;
    let page = kernel.page_of(console.gfn).ok_or("the console's page")?;
    // SAFETY: the page that Xen gave to this guest for its console.
    let page = unsafe { PeerPtr::new(page.cast()) };
    let port = PortRef::new(console.port, Some(kernel.shared()?));
    *CONSOLE.lock() = Some(ConsoleRing::new(kernel, page, port));

    let guest = Guest::adopt(kernel, info);
    say(format_args!(
        "own-kernel: {} on {}, {:?}",
        guest.guest_type().name(),
        guest.hypervisor(),
        guest.command_line()
    ));

    let ports = Ports::new(kernel, kernel.shared()?, Choice::Best, Throttle::default())?;
    let grants = GrantTable::new(kernel, Version::One)?;
    let place = RingLocation::of_store(&kernel).ok_or("there is no store")?;
    let page = kernel.page_of(place.gfn).ok_or("the store's page")?;
    // SAFETY: the page that Xen gave to this guest for its store.
    let page = unsafe { PeerPtr::new(page.cast()) };
    let store = Client::new(Ring::new(page, Channel::adopt(&ports, place.port)?));
    let alarms = Alarms::default();
    block_on(&ports, &alarms, async {
        let bus = Bus::new(&store, &ports, &grants, &alarms);
        for id in bus.devices("vbd").await? {
            let disk = Disk::new(bus, id.as_str(), Config::default());
            let mut sector = [0; SECTOR_BYTES];
            disk.read(Sector(0), &mut sector).await?;
            let end = u16::from_be_bytes(*sector.last_chunk().ok_or("a sector without bytes")?);
            let geometry = disk.geometry().ok_or("the disk has no geometry")?;
            say(format_args!(
                "own-kernel: read disk {id} of {} bytes; its first sector ends with {end:04x}",
                geometry.len_bytes()
            ));
            disk.close().await;
        }
        Ok(())
    })
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Some(mut console) = CONSOLE.try_lock()
        && let Some(ring) = &mut *console
    {
        let _gone = writeln!(Line(ring), "own-kernel: {info}");
    }
    end(ShutdownReason::CRASH)
}

/// A console, for what must not allocate.
struct Line<'a>(&'a mut ConsoleRing<Kernel>);

impl core::fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0
            .write_all(text.as_bytes())
            .map_err(|_| core::fmt::Error)
    }
}
