//! Calls of PV guests: page tables, traps, callbacks.

use hypercall_abi::{
    DomId, Errno, HypercallNr, Mfn,
    callback::{self, CallbackFlags, CallbackType},
    nmi,
    xen::{
        cpu,
        mmu::{self, Flush, MmuUpdate, MmuextOp},
        traps::{self, SegmentBase},
    },
};

use super::{
    Chosen, Done, Expect, Fails, NOT_HVM, Row, both, check, done, is_before, raw, split, untold,
};

/// What a guest is told that has its own tables.
const NO_TABLES: Expect = Fails(&[Errno::EINVAL]);

pub(super) const ROWS: &[Row] = &[
    split(
        "MMU_NORMAL_PT_UPDATE",
        "none",
        |p| {
            // SAFETY: of no entry.
            unsafe { mmu::mmu_update(p, &[], &mut 0) }
        },
        Done,
        NOT_HVM,
    ),
    split(
        "MMU_NORMAL_PT_UPDATE",
        "a frame of Xen's",
        |p| {
            let mut count = 7;
            let updates = [MmuUpdate {
                ptr: 1 << 50,
                val: 0,
            }];
            // SAFETY: there is no such frame.
            let answer = unsafe { mmu::mmu_update(p, &updates, &mut count) };
            answer.and(check(count == 1))
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "MMU_NORMAL_PT_UPDATE",
        "a count that cannot be told",
        // Xen does not look whether that was written.
        |p| untold(p, HypercallNr::MMU_UPDATE, 0, 0),
        Done,
        NOT_HVM,
    ),
    split(
        "MMUEXT_TLB_FLUSH_LOCAL",
        "a count that cannot be told",
        |p| {
            let list = [MmuextOp::tlb_flush_local()];
            untold(
                p,
                HypercallNr::MMUEXT_OP,
                list.as_ptr().expose_provenance(),
                1,
            )
        },
        Done,
        NO_TABLES,
    ),
    split(
        "MMUEXT_TLB_FLUSH_LOCAL",
        "",
        |p| {
            // SAFETY: flushes take nothing away.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::tlb_flush_local()], &mut 0) }
        },
        Done,
        NO_TABLES,
    ),
    split(
        "MMUEXT_INVLPG_LOCAL",
        "",
        |p| {
            // SAFETY: as above.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::invlpg_local(0x4010_0000)], &mut 0) }
        },
        Done,
        NO_TABLES,
    ),
    split(
        "MMUEXT_TLB_FLUSH_ALL",
        "",
        |p| {
            // SAFETY: as above.
            unsafe {
                mmu::mmuext_op(
                    p,
                    &[MmuextOp::tlb_flush_all(), MmuextOp::invlpg_all(0x4010_0000)],
                    &mut 0,
                )
            }
        },
        Done,
        NO_TABLES,
    ),
    split(
        "MMUEXT_FLUSH_CACHE",
        "no device",
        |p| {
            // SAFETY: there is no device: nothing comes of it.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::flush_cache()], &mut 0) }
        },
        Fails(&[Errno::EACCES]),
        NO_TABLES,
    ),
    split(
        "MMUEXT_PIN_L1_TABLE",
        "no such frame",
        |p| {
            // SAFETY: there is no such frame.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::pin(mmu::Level::L1, Mfn(1 << 40))], &mut 0) }
        },
        Fails(&[Errno::EINVAL]),
        NO_TABLES,
    ),
    split(
        "MMUEXT_UNPIN_TABLE",
        "no such frame",
        |p| {
            // SAFETY: as above.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::unpin(Mfn(1 << 40))], &mut 0) }
        },
        Fails(&[Errno::EINVAL]),
        NO_TABLES,
    ),
    split(
        "MMUEXT_CLEAR_PAGE",
        "no such frame",
        |p| {
            // SAFETY: as above.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::clear_page(Mfn(1 << 40))], &mut 0) }
        },
        Fails(&[Errno::EINVAL]),
        NO_TABLES,
    ),
    split(
        "MMUEXT_PIN_L2_TABLE",
        "no such frame",
        |p| {
            // SAFETY: there is no such frame.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::pin(mmu::Level::L2, Mfn(1 << 40))], &mut 0) }
        },
        Fails(&[Errno::EINVAL]),
        NO_TABLES,
    ),
    split(
        "MMUEXT_PIN_L3_TABLE",
        "no such frame",
        |p| {
            // SAFETY: as above.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::pin(mmu::Level::L3, Mfn(1 << 40))], &mut 0) }
        },
        Fails(&[Errno::EINVAL]),
        NO_TABLES,
    ),
    split(
        "MMUEXT_PIN_L4_TABLE",
        "no such frame",
        |p| {
            // SAFETY: as above.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::pin(mmu::Level::L4, Mfn(1 << 40))], &mut 0) }
        },
        Fails(&[Errno::EINVAL]),
        NO_TABLES,
    ),
    split(
        "MMUEXT_NEW_BASEPTR",
        "no such frame",
        |p| {
            // SAFETY: as above.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::new_baseptr(Mfn(1 << 40))], &mut 0) }
        },
        Fails(&[Errno::EINVAL]),
        NO_TABLES,
    ),
    split(
        "MMUEXT_NEW_USER_BASEPTR",
        "none",
        |p| {
            // SAFETY: there is no user mode.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::new_user_baseptr(Mfn(0))], &mut 0) }
        },
        Done,
        NO_TABLES,
    ),
    split(
        "MMUEXT_TLB_FLUSH_MULTI",
        "this vCPU",
        |p| {
            let mask = 1_u64;
            let address = (&raw const mask).expose_provenance() as u64;
            // SAFETY: flushes take nothing away; the mask outlives the call.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::tlb_flush_multi(address)], &mut 0) }
        },
        Done,
        NO_TABLES,
    ),
    split(
        "MMUEXT_INVLPG_MULTI",
        "this vCPU",
        |p| {
            let mask = 1_u64;
            let address = (&raw const mask).expose_provenance() as u64;
            // SAFETY: as above.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::invlpg_multi(0x4010_0000, address)], &mut 0) }
        },
        Done,
        NO_TABLES,
    ),
    split(
        "MMUEXT_INVLPG_ALL",
        "",
        |p| {
            // SAFETY: as above.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::invlpg_all(0x4010_0000)], &mut 0) }
        },
        Done,
        NO_TABLES,
    ),
    split(
        "MMUEXT_FLUSH_CACHE_GLOBAL",
        "no device",
        |p| {
            // SAFETY: there is no device: nothing comes of it.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::flush_cache_global()], &mut 0) }
        },
        Chosen(|guest| match is_before(guest, 18) {
            true => Fails(&[Errno::EINVAL]),
            false => Fails(&[Errno::EACCES]),
        }),
        NO_TABLES,
    ),
    split(
        "MMUEXT_SET_LDT",
        "an odd address",
        |p| {
            // SAFETY: refused.
            unsafe { mmu::mmuext_op(p, &[MmuextOp::set_ldt(0x4010_0001, 1)], &mut 0) }
        },
        Fails(&[Errno::EINVAL]),
        NO_TABLES,
    ),
    split(
        "MMUEXT_COPY_PAGE",
        "no such frame",
        |p| {
            // SAFETY: there is no such frame.
            unsafe {
                mmu::mmuext_op(
                    p,
                    &[MmuextOp::copy_page(Mfn(1 << 40), Mfn(1 << 40))],
                    &mut 0,
                )
            }
        },
        Fails(&[Errno::EINVAL]),
        NO_TABLES,
    ),
    split(
        "MMU_MACHPHYS_UPDATE",
        "no such frame",
        |p| {
            // SAFETY: there is no such frame.
            unsafe {
                mmu::mmu_update(
                    p,
                    &[MmuUpdate {
                        ptr: (1 << 50) | mmu::MMU_MACHPHYS_UPDATE,
                        val: 0,
                    }],
                    &mut 0,
                )
            }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "MMU_PT_UPDATE_PRESERVE_AD",
        "no such frame",
        |p| {
            // SAFETY: as above.
            unsafe {
                mmu::mmu_update(
                    p,
                    &[MmuUpdate {
                        ptr: (1 << 50) | mmu::MMU_PT_UPDATE_PRESERVE_AD,
                        val: 0,
                    }],
                    &mut 0,
                )
            }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "MMU_PT_UPDATE_NO_TRANSLATE",
        "no such frame",
        |p| {
            // SAFETY: as above.
            unsafe {
                mmu::mmu_update(
                    p,
                    &[MmuUpdate {
                        ptr: (1 << 50) | mmu::MMU_PT_UPDATE_NO_TRANSLATE,
                        val: 0,
                    }],
                    &mut 0,
                )
            }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "stack_switch",
        "",
        |p| {
            // SAFETY: there is no user mode to come from.
            unsafe { traps::stack_switch(p, traps::FLAT_KERNEL_SS, 0x4010_0000) }
        },
        Done,
        NOT_HVM,
    ),
    split(
        "SEGBASE_GS_USER",
        "",
        |p| {
            // SAFETY: nothing uses `gs`.
            unsafe { traps::set_segment_base(p, SegmentBase::GsUser, 0) }
        },
        Done,
        NOT_HVM,
    ),
    split(
        "SEGBASE_GS_KERNEL",
        "",
        |p| {
            // SAFETY: nothing uses `gs`.
            unsafe { traps::set_segment_base(p, SegmentBase::GsKernel, 0) }
        },
        Done,
        NOT_HVM,
    ),
    split(
        "SEGBASE_GS_USER_SEL",
        "none",
        |p| {
            // SAFETY: nothing uses `gs`.
            unsafe { traps::set_segment_base(p, SegmentBase::GsUserSelector, 0) }
        },
        Done,
        NOT_HVM,
    ),
    split(
        "update_va_mapping",
        "no table",
        |p| {
            // SAFETY: no table is there: nothing comes of it.
            unsafe { mmu::update_va_mapping(p, 0x10_0000, 0, Flush::None) }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "update_va_mapping_otherdomain",
        "another's",
        |p| {
            // SAFETY: as above.
            unsafe { mmu::update_va_mapping_otherdomain(p, 0x10_0000, 0, Flush::None, DomId(0)) }
        },
        Fails(&[Errno::EPERM]),
        NOT_HVM,
    ),
    both(
        "set_trap_table",
        "without an end",
        |p| {
            // SAFETY: refused before it is made.
            unsafe { traps::set_trap_table(p, &[]) }
        },
        Fails(&[Errno::EINVAL]),
    ),
    split(
        "set_trap_table",
        "a bad address",
        |p| raw(p, HypercallNr::SET_TRAP_TABLE, 8, 0),
        Fails(&[Errno::EFAULT]),
        NOT_HVM,
    ),
    split(
        "set_gdt",
        "too many entries",
        |p| {
            // SAFETY: refused.
            unsafe { traps::set_gdt(p, &[Mfn(0); 16], 8000) }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "update_descriptor",
        "no such frame",
        |p| {
            // SAFETY: refused.
            unsafe { traps::update_descriptor(p, 1 << 50, 0) }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "set_callbacks",
        "not canonical",
        |p| {
            // SAFETY: refused.
            unsafe { traps::set_callbacks(p, 1 << 62, 1 << 62, 1 << 62) }
        },
        Done,
        NOT_HVM,
    ),
    split(
        "SEGBASE_FS",
        "",
        |p| {
            // SAFETY: nothing uses `fs`.
            unsafe { traps::set_segment_base(p, SegmentBase::Fs, 0x4010_0000) }
        },
        Done,
        NOT_HVM,
    ),
    split(
        "SEGBASE_FS",
        "not canonical",
        |p| {
            // SAFETY: refused.
            unsafe { traps::set_segment_base(p, SegmentBase::Fs, 1 << 62) }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "fpu_taskswitch",
        "clear",
        |p| {
            // SAFETY: as it is; this kernel uses no such registers.
            unsafe { cpu::fpu_taskswitch(p, cpu::FpuTaskswitch::Clear) }
        },
        Done,
        NOT_HVM,
    ),
    split(
        "set_debugreg",
        "0",
        |p| cpu::set_debugreg(p, 0, 0x4010_0000),
        Done,
        NOT_HVM,
    ),
    split(
        "set_debugreg",
        "99",
        |p| cpu::set_debugreg(p, 99, 0),
        Fails(&[Errno::ENODEV]),
        NOT_HVM,
    ),
    split(
        "get_debugreg",
        "0",
        |p| check(cpu::get_debugreg(p, 0)? == 0x4010_0000),
        Done,
        NOT_HVM,
    ),
    split(
        "get_debugreg",
        "99",
        |p| done(cpu::get_debugreg(p, 99)),
        Fails(&[Errno::ENODEV]),
        NOT_HVM,
    ),
    split(
        "CALLBACKOP_register",
        "not canonical",
        |p| {
            // SAFETY: refused.
            unsafe { callback::register(p, CallbackType::EVENT, CallbackFlags::empty(), 1 << 62) }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "CALLBACKOP_register",
        "unknown",
        |p| {
            // SAFETY: refused.
            unsafe { callback::register(p, CallbackType(99), CallbackFlags::empty(), 0) }
        },
        Fails(&[Errno::ENOSYS]),
        NOT_HVM,
    ),
    split(
        "CALLBACKOP_unregister",
        "upcalls",
        |p| callback::unregister(p, CallbackType::EVENT),
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "XENNMI_register_callback",
        "not canonical",
        |p| {
            // SAFETY: refused.
            unsafe { nmi::register_callback(p, 1 << 62) }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "XENNMI_unregister_callback",
        "",
        nmi::unregister_callback,
        Done,
        NOT_HVM,
    ),
];
