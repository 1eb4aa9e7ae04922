//! Where the linker put things.

use core::ops::Range;

pub(crate) use super::page_tables::Access;

/// The address at which physical address zero is seen. The linker script and
/// `entry.S` say the same.
pub(crate) const VIRT_BASE: u64 = 0x4000_0000;

unsafe extern "C" {
    static __image_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
    static __boot_stack_guard_start: u8;
    static __boot_stack_guard_end: u8;
    static __boot_stack_top: u8;
    static __fault_stack_guard_start: u8;
    static __fault_stack_guard_end: u8;
    static __fault_stack_top: u8;
    static __hypercall_sites_start: i32;
    static __hypercall_sites_end: i32;
}

macro_rules! address {
    ($symbol:ident) => {
        (&raw const $symbol).addr() as u64
    };
}

/// The whole image, in virtual addresses.
pub(crate) fn image() -> Range<u64> {
    address!(__image_start)..address!(__image_end)
}

/// The code.
pub(crate) fn text() -> Range<u64> {
    address!(__text_start)..address!(__text_end)
}

/// The constants.
pub(crate) fn rodata() -> Range<u64> {
    address!(__text_end)..address!(__rodata_end)
}

/// The pages under the stacks.
pub(crate) fn guards() -> [Range<u64>; 2] {
    [
        address!(__boot_stack_guard_start)..address!(__boot_stack_guard_end),
        address!(__fault_stack_guard_start)..address!(__fault_stack_guard_end),
    ]
}

/// The stacks.
pub(crate) fn stacks() -> [Range<u64>; 2] {
    [
        address!(__boot_stack_guard_end)..address!(__boot_stack_top),
        address!(__fault_stack_guard_end)..address!(__fault_stack_top),
    ]
}

/// The top of the stack for faults that the other one may have caused.
pub(crate) fn fault_stack_top() -> u64 {
    address!(__fault_stack_top)
}

/// The places of hypercalls in the code.
pub(crate) fn hypercall_sites() -> &'static [i32] {
    let start = &raw const __hypercall_sites_start;
    let len = ((&raw const __hypercall_sites_end).addr() - start.addr()) / size_of::<i32>();
    // SAFETY: the linker script sets both ends around the section.
    unsafe { core::slice::from_raw_parts(start, len) }
}

/// What the page at `virt` is for, as far as the image decides it.
pub(crate) fn access_of(virt: u64) -> Access {
    if text().contains(&virt) {
        Access::Execute
    } else if rodata().contains(&virt) {
        Access::Read
    } else if guards().iter().any(|guard| guard.contains(&virt)) {
        Access::None
    } else {
        Access::Write
    }
}

/// A page of the image's own, for the page that Xen shares with us.
#[repr(C, align(4096))]
pub(crate) struct SharedPage(core::cell::UnsafeCell<[u8; 4096]>);

// SAFETY: its content is reached through peer pointers only.
unsafe impl Sync for SharedPage {}

/// Where the shared page is mapped.
pub(crate) static SHARED_PAGE: SharedPage = SharedPage(core::cell::UnsafeCell::new([0; 4096]));

impl SharedPage {
    /// The page.
    pub(crate) fn place(&self) -> core::ptr::NonNull<hypercall_abi::xen::SharedInfo> {
        core::ptr::NonNull::from(&self.0).cast()
    }
}
