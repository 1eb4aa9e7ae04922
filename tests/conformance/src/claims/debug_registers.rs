//! Debug registers of a PV guest: what they begin with, and what of a value they keep.

use hypercall_abi::{
    Errno,
    xen::cpu::{get_debugreg, set_debugreg},
};
use pv_guest::Guest;

use crate::claim::{Group, Verdict, claims, on_pv, refused, same};

pub(super) const GROUP: Group = Group {
    name: "debug_registers",
    claims: claims! {
        on_pv(they_begin_as_at_a_reset): "Intel SDM 3, 19.2: debug registers",
        on_pv(bits_that_are_reserved_stay): "Intel SDM 3, 19.2: debug registers",
        on_pv(two_registers_have_two_names): "Intel SDM 3, 19.2.2: DR4 and DR5",
        on_pv(what_is_xens_is_not_watched): "xen.h: set_debugreg",
    },
};

/// Bits that are always set.
const STATUS: u64 = 0xffff_0ff0;
const CONTROL: u64 = 0x400;

fn they_begin_as_at_a_reset(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    same(get_debugreg(platform, 7)?, CONTROL)?;
    for register in 0..4 {
        same(get_debugreg(platform, register)?, 0)?;
    }
    same(get_debugreg(platform, 6)?, STATUS)
}

fn bits_that_are_reserved_stay(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    set_debugreg(platform, 6, 0x1001)?;
    let status = get_debugreg(platform, 6)?;
    set_debugreg(platform, 6, 0)?;
    // Its conditions, and none that is on.
    set_debugreg(platform, 7, 0x000d_d800)?;
    let control = get_debugreg(platform, 7)?;
    set_debugreg(platform, 7, 0)?;
    same((status, get_debugreg(platform, 6)?), (STATUS | 1, STATUS))?;
    same(
        (control, get_debugreg(platform, 7)?),
        (0x000d_0000 | CONTROL, CONTROL),
    )
}

/// Without debugging extensions, which it has not switched on.
fn two_registers_have_two_names(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    same(get_debugreg(platform, 4)?, get_debugreg(platform, 6)?)?;
    same(get_debugreg(platform, 5)?, get_debugreg(platform, 7)?)?;
    refused(get_debugreg(platform, 8), Errno::ENODEV)?;
    refused(set_debugreg(platform, 8, 0), Errno::ENODEV)
}

fn what_is_xens_is_not_watched(guest: &Guest) -> Verdict {
    const XENS: u64 = 0xffff_8000_0000_0000;
    let platform = guest.platform();
    refused(set_debugreg(platform, 0, XENS), Errno::EPERM)?;
    // Every access to a debug register; a port.
    refused(set_debugreg(platform, 7, 1 << 13), Errno::EPERM)?;
    refused(set_debugreg(platform, 7, 2 << 16 | 1), Errno::EPERM)?;
    for register in [6, 7] {
        refused(set_debugreg(platform, register, 1 << 32), Errno::EINVAL)?;
    }
    same(get_debugreg(platform, 7)?, CONTROL)
}
