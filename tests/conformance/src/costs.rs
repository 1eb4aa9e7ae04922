//! What the ways to the hypervisor cost: `costs` on the command line.

use core::arch::asm;

use event_channels::Channel;
use hypercall_abi::{
    Errno, HypercallNr, PAGE_SIZE, VcpuId,
    arch_x86::cpuid::Cpuid,
    platform::{Clock, Pages},
    version::{self, XENVER_VERSION},
    xen::mmu::{self, Flush},
};
use pv_guest::{Error, Guest, GuestType, println};

use crate::claim::Stop;

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
    tell(guest, "a hypercall, by the page", || calls.call())?;
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
            let entry = mfn.0 * PAGE_SIZE as u64 | bits;
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
const NO_EXECUTE: u64 = 1 << 63;

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

/// A page with Xen's code for each call: kernels of old use one.
struct HypercallPage(usize);

impl HypercallPage {
    fn new(guest: &Guest) -> Result<Self, Stop> {
        /// Of the part of leaf 2: the register of the model.
        const LEAF: u32 = 2;
        const EXECUTABLE: u64 = READ_WRITE & !NO_EXECUTE;
        let platform = guest.platform();
        let page = platform.alloc(1).ok_or("no page")?;
        // SAFETY: a PV guest of Xen's, as was looked up.
        let cpuid = unsafe { Cpuid::forced() };
        let base = cpuid.xen_base().ok_or("no leaves of Xen's")?;
        let register = cpuid.leaf(base + LEAF, 0).ebx;
        let place = platform.gfn_of(page).ok_or("no frame")?.0 * PAGE_SIZE as u64;
        // SAFETY: has Xen fill the page, which is fresh.
        unsafe {
            asm!("wrmsr", in("ecx") register, in("eax") place as u32,
                 in("edx") (place >> 32) as u32);
        }
        let address = page.addr().get();
        // SAFETY: nothing is in the page but Xen's code.
        unsafe {
            mmu::update_va_mapping(platform, address, place | EXECUTABLE, Flush::PageEverywhere)
        }?;
        Ok(Self(address))
    }

    /// `xen_version`.
    fn call(&self) -> Result<(), Stop> {
        const SLOT_BYTES: usize = 32;
        let slot = self.0 + HypercallNr::XEN_VERSION.0 as usize * SLOT_BYTES;
        let answer: usize;
        // SAFETY: Xen's code, which keeps all registers but that of the answer.
        unsafe {
            asm!("call {}", in(reg) slot, in("rdi") XENVER_VERSION, in("rsi") 0_usize,
                 inlateout("rax") 0_usize => answer);
        }
        Ok(Errno::check(answer.cast_signed()).map(|_| ())?)
    }
}

fn read_control() -> u64 {
    let value;
    // SAFETY: reads it; where this kernel may not, Xen does.
    unsafe { asm!("mov {}, cr4", out(reg) value) };
    value
}
