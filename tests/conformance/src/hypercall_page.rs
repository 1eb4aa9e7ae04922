//! The hypercall page, which kernels of old use.

use core::arch::asm;

use hypercall_abi::{
    Errno, HypercallNr, PAGE_SIZE,
    arch_x86::cpuid::Cpuid,
    platform::Pages,
    version::XENVER_VERSION,
    xen::mmu::{self, Flush},
};
use pv_guest::Guest;

use crate::claim::Stop;

/// Bits of an entry: what is there is no code; and of one of code.
pub(crate) const NO_EXECUTE: u64 = 1 << 63;
const EXECUTABLE: u64 = 0x67;

/// A page with Xen's code for each call: kernels of old use one.
pub(crate) struct HypercallPage(usize);

impl HypercallPage {
    /// Asks for one: PV guests only.
    pub(crate) fn new(guest: &Guest) -> Result<Self, Stop> {
        /// Of the leaf that names the register of the model.
        const LEAF: u32 = 2;
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

    /// Where the code of a call is.
    pub(crate) const fn slot(&self, nr: HypercallNr) -> usize {
        const SLOT_BYTES: usize = 32;
        self.0 + nr.0 as usize * SLOT_BYTES
    }

    /// `xen_version`.
    pub(crate) fn version(&self) -> Result<(), Stop> {
        let slot = self.slot(HypercallNr::XEN_VERSION);
        let answer: usize;
        // SAFETY: Xen's code, which keeps all registers but that of the answer.
        unsafe {
            asm!("call {}", in(reg) slot, in("rdi") XENVER_VERSION, in("rsi") 0_usize,
                 inlateout("rax") 0_usize => answer);
        }
        Ok(Errno::check(answer.cast_signed()).map(|_| ())?)
    }
}
