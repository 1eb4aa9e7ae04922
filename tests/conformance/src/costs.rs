//! What the ways to the hypervisor cost: `costs` on the command line.

use core::arch::asm;

use event_channels::Channel;
use hypercall_abi::{
    PAGE_SIZE, VcpuId,
    platform::{Clock, Pages},
    version,
    xen::mmu::{self, Flush},
};
use pv_guest::{Error, Guest, GuestType, println};

use crate::{
    claim::Stop,
    hypercall_page::{HypercallPage, NO_EXECUTE},
};

/// As often each is done, and that again and again: the quickest round counts, which
/// nobody disturbed.
const TIMES: u64 = 2000;
const ROUNDS: usize = 10;

/// Tells them, a line each.
pub(crate) fn run(guest: &Guest) -> Result<(), Error> {
    if guest.guest_type() != GuestType::Pv || cfg!(not(target_os = "none")) {
        println!("skipped (for PV guests only)");
        return Ok(());
    }
    let told = all(guest);
    if let Err(Stop::Failed(why) | Stop::Skipped(why)) = told {
        println!("FAILED: {why}");
        return Err(Error::Failed("something could not be measured"));
    }
    Ok(())
}

fn all(guest: &Guest) -> Result<(), Stop> {
    let platform = guest.platform();
    let calls = HypercallPage::new(guest)?;
    tell(guest, "a hypercall, by the page", || calls.version())?;
    tell(guest, "a hypercall, by an instruction of its own", || {
        let _version = version::version(platform)?;
        Ok(())
    })?;
    tell(guest, "a privileged instruction (mov from cr4)", || {
        let _control = read_control();
        Ok(())
    })?;
    let page = platform.alloc(1).ok_or("no page")?;
    let mfn = platform.gfn_of(page).ok_or("no frame")?;
    let address = page.addr().get();
    let mut bits = READ_WRITE;
    tell(
        guest,
        "an entry of a page table (update_va_mapping)",
        || {
            bits ^= READ_WRITE ^ READ_ONLY;
            let entry = (mfn.0 * PAGE_SIZE as u64) | bits;
            // SAFETY: nothing is in the page.
            unsafe { mmu::update_va_mapping(platform, address, entry, Flush::PageEverywhere) }?;
            Ok(())
        },
    )?;
    let bell = Channel::ipi(guest.ports()?, VcpuId(0)).map_err(|_| "no port")?;
    tell(guest, "an event to itself, with its upcall", || {
        let before = bell.events();
        bell.unmask().map_err(|_| "a port cannot be unmasked")?;
        bell.notify().map_err(|_| "it cannot be sent on")?;
        while bell.events() == before {
            core::hint::spin_loop();
        }
        Ok(())
    })
}

/// Entries of a page.
const READ_ONLY: u64 = NO_EXECUTE | 0x65;
const READ_WRITE: u64 = NO_EXECUTE | 0x67;

fn tell(guest: &Guest, what: &str, mut once: impl FnMut() -> Result<(), Stop>) -> Result<(), Stop> {
    let platform = guest.platform();
    let mut least_ns = u64::MAX;
    for _ in 0..ROUNDS {
        let start = platform.now_ns();
        for _ in 0..TIMES {
            once()?;
        }
        least_ns = least_ns.min(platform.now_ns() - start);
    }
    println!("cost: {:6} ns  {what}", least_ns / TIMES);
    Ok(())
}

fn read_control() -> u64 {
    let value;
    // SAFETY: reads it; where this kernel may not, Xen does.
    unsafe { asm!("mov {}, cr4", out(reg) value) };
    value
}
