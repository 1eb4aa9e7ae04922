//! All other calls.

use hypercall_abi::{
    DomId, Errno, Gfn, HypercallNr,
    argo::{self, ArgoAddr, ArgoRingDataEnt, ArgoSendAddr, ArgoUnregisterRing},
    physdev,
    pmu::{self, PmuOp},
    xen::{
        VmAssist, console_io,
        multicall::{self, MulticallEntry},
        vm_assist,
    },
};

use super::{Chosen, Done, Fails, NOT_HVM, Row, VCPU, both, check, done, is_before, raw, split};

pub(super) const ROWS: &[Row] = &[
    both(
        "multicall",
        "two",
        |p| {
            let mut calls = [
                MulticallEntry::new(HypercallNr::XEN_VERSION, &[0]),
                MulticallEntry::new(HypercallNr(62), &[]),
            ];
            // SAFETY: neither names memory.
            unsafe { multicall::multicall(p, &mut calls) }?;
            check(calls[0].check()? >= 4 << 16 && calls[1].check() == Err(Errno::ENOSYS))
        },
        Done,
    ),
    both(
        "multicall",
        "null",
        |p| raw(p, HypercallNr::MULTICALL, 0, 1),
        Fails(&[Errno::EFAULT]),
    ),
    both(
        "CONSOLEIO_write",
        "nothing",
        |p| console_io::write(p, &[]),
        Fails(&[Errno::EPERM]),
    ),
    both(
        "CONSOLEIO_read",
        "nothing",
        |p| done(console_io::read(p, &mut [0; 4])),
        Fails(&[Errno::EPERM]),
    ),
    both(
        "VMASST_CMD_enable",
        "runstate updates",
        |p| vm_assist::enable(p, VmAssist::RUNSTATE_UPDATE_FLAG),
        Done,
    ),
    both(
        "VMASST_CMD_enable",
        "no such help",
        |p| vm_assist::enable(p, VmAssist(63)),
        Fails(&[Errno::EINVAL]),
    ),
    split(
        "VMASST_CMD_enable",
        "what only 32 bits use",
        |p| {
            let help = VmAssist::PAE_EXTENDED_CR3;
            vm_assist::enable(p, help)?;
            // SAFETY: it changes nothing of a guest of 64 bits.
            unsafe { vm_assist::disable(p, help) }
        },
        Done,
        Fails(&[Errno::EINVAL]),
    ),
    split(
        "VMASST_CMD_enable",
        "what is for PV",
        |p| {
            let help = VmAssist::SEGMENTS_4GB;
            vm_assist::enable(p, help)?;
            // SAFETY: as above.
            unsafe { vm_assist::disable(p, help) }
        },
        Done,
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "vm_assist",
        "no command, no help",
        |p| raw(p, HypercallNr::VM_ASSIST, 9, 31),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "vm_assist",
        "no command",
        |p| raw(p, HypercallNr::VM_ASSIST, 9, 5),
        Fails(&[Errno::ENOSYS]),
    ),
    both(
        "multicall",
        "of itself",
        |p| {
            let mut calls = [MulticallEntry::new(HypercallNr::MULTICALL, &[0, 0])];
            // SAFETY: it names no memory.
            unsafe { multicall::multicall(p, &mut calls) }?;
            check(calls[0].check() == Err(Errno::EINVAL))
        },
        Done,
    ),
    both(
        "VMASST_CMD_disable",
        "runstate updates",
        |p| {
            // SAFETY: switched on above.
            unsafe { vm_assist::disable(p, VmAssist::RUNSTATE_UPDATE_FLAG) }
        },
        Done,
    ),
    both(
        "XENPMU_init",
        "off",
        |p| {
            // SAFETY: counting is off.
            unsafe { pmu::pmu(p, PmuOp::Init, VCPU, Gfn(1 << 40)) }
        },
        Fails(&[Errno::EOPNOTSUPP]),
    ),
    both(
        "XENPMU_finish",
        "off",
        |p| {
            // SAFETY: counting is off.
            unsafe { pmu::pmu(p, PmuOp::Finish, VCPU, Gfn(0)) }
        },
        Fails(&[Errno::EOPNOTSUPP]),
    ),
    both(
        "XENPMU_lvtpc_set",
        "off",
        |p| {
            // SAFETY: counting is off.
            unsafe { pmu::pmu(p, PmuOp::LvtpcSet, VCPU, Gfn(0)) }
        },
        Fails(&[Errno::EOPNOTSUPP]),
    ),
    split(
        "PHYSDEVOP_pirq_eoi_gmfn_v1",
        "no such frame",
        |p| {
            // SAFETY: no such frame.
            unsafe {
                physdev::set_pirq_eoi_gfn(p, Gfn(1 << 40), physdev::EoiBitmap::UnmaskingItself)
            }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    both(
        "XEN_ARGO_OP_register_ring",
        "too short",
        |p| {
            // SAFETY: of no page.
            unsafe {
                argo::register_ring(
                    p,
                    &mut argo::ArgoRegisterRing {
                        aport: 7,
                        partner_id: DomId(0),
                        len: 3,
                        ..Default::default()
                    },
                    &[],
                    argo::ArgoRegisterFlags::empty(),
                )
            }
        },
        Fails(&[Errno::ENOSYS]),
    ),
    both(
        "XENPMU_flush",
        "off",
        |p| {
            // SAFETY: counting is off.
            unsafe { pmu::pmu(p, PmuOp::Flush, VCPU, Gfn(0)) }
        },
        Fails(&[Errno::EOPNOTSUPP]),
    ),
    split(
        "PHYSDEVOP_eoi",
        "no such interrupt",
        |p| physdev::eoi(p, 1 << 20),
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "PHYSDEVOP_irq_status_query",
        "no such interrupt",
        |p| done(physdev::irq_status_query(p, 1 << 20)),
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "PHYSDEVOP_pirq_eoi_gmfn_v2",
        "no such frame",
        |p| {
            // SAFETY: no such frame.
            unsafe {
                physdev::set_pirq_eoi_gfn(p, Gfn(1 << 40), physdev::EoiBitmap::UnmaskedByGuest)
            }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "PHYSDEVOP_set_iopl",
        "4",
        |p| {
            // SAFETY: there is no such level.
            unsafe { physdev::set_iopl(p, 4) }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "PHYSDEVOP_set_iobitmap",
        "too big",
        |p| {
            // SAFETY: of no port.
            unsafe { physdev::set_iobitmap(p, 0, 70_000) }
        },
        Fails(&[Errno::EINVAL]),
        NOT_HVM,
    ),
    split(
        "PHYSDEVOP_map_pirq",
        "not given",
        |p| {
            done(physdev::map_pirq(
                p,
                &mut physdev::PhysdevMapPirq {
                    domid: DomId::SELF,
                    r#type: physdev::MAP_PIRQ_TYPE_GSI,
                    index: 9,
                    pirq: -1,
                    ..Default::default()
                },
            ))
        },
        Fails(&[Errno::EPERM]),
        // Before, a PVH guest had no such calls.
        Chosen(|guest| match is_before(guest, 18) {
            true => NOT_HVM,
            false => Fails(&[Errno::EPERM]),
        }),
    ),
    split(
        "PHYSDEVOP_unmap_pirq",
        "no such interrupt",
        |p| physdev::unmap_pirq(p, 1 << 20),
        Fails(&[Errno::EPERM]),
        // Before, a PVH guest had no such calls.
        Chosen(|guest| match is_before(guest, 18) {
            true => NOT_HVM,
            false => Fails(&[Errno::EPERM]),
        }),
    ),
    split(
        "PHYSDEVOP_get_free_pirq",
        "",
        |p| done(physdev::get_free_pirq(p, physdev::MAP_PIRQ_TYPE_GSI)),
        Done,
        NOT_HVM,
    ),
    both(
        "PHYSDEVOP_*",
        "unknown",
        |p| raw(p, HypercallNr::PHYSDEV_OP, 99, 0),
        Fails(&[Errno::ENOSYS]),
    ),
    both(
        "XEN_ARGO_OP_unregister_ring",
        "no such ring",
        |p| {
            argo::unregister_ring(
                p,
                &mut ArgoUnregisterRing {
                    aport: 7,
                    partner_id: DomId(0),
                    ..Default::default()
                },
            )
        },
        Fails(&[Errno::ENOSYS]),
    ),
    both(
        "XEN_ARGO_OP_sendv",
        "nobody receives",
        |p| {
            // SAFETY: of no piece.
            done(unsafe {
                argo::sendv(
                    p,
                    &mut ArgoSendAddr {
                        src: ArgoAddr {
                            domain_id: DomId(0x7ff4),
                            ..Default::default()
                        },
                        ..Default::default()
                    },
                    &[],
                    0,
                )
            })
        },
        Fails(&[Errno::ENOSYS]),
    ),
    both(
        "XEN_ARGO_OP_notify",
        "one ring",
        |p| argo::notify(p, &mut ArgoRingDataEnt::default()),
        Fails(&[Errno::ENOSYS]),
    ),
    both(
        "hypercall 62",
        "unknown",
        |p| raw(p, HypercallNr(62), 0, 0),
        Fails(&[Errno::ENOSYS]),
    ),
    both(
        "platform_op",
        "not for guests",
        |p| raw(p, HypercallNr::PLATFORM_OP, 8, 0),
        Fails(&[Errno::EFAULT]),
    ),
    both(
        "sysctl",
        "not for guests",
        |p| raw(p, HypercallNr::SYSCTL, 8, 0),
        Fails(&[Errno::EFAULT]),
    ),
    both(
        "domctl",
        "not for guests",
        |p| raw(p, HypercallNr::DOMCTL, 8, 0),
        Fails(&[Errno::EFAULT]),
    ),
    split(
        "kexec_op",
        "not for guests",
        |p| raw(p, HypercallNr::KEXEC_OP, 0, 0),
        Fails(&[Errno::EPERM]),
        NOT_HVM,
    ),
    both(
        "hypfs_op",
        "not for guests",
        |p| raw(p, HypercallNr::HYPFS_OP, 0, 0),
        Fails(&[Errno::EPERM]),
    ),
];
