//! Calls of `vcpu_op`, and the timer.

use hypercall_abi::{
    Errno, Gfn, HypercallNr,
    platform::Clock,
    vcpu::{self, SingleshotFlags, VcpuState},
    xen::cpu,
};

use super::{Done, Fails, NO_VCPU, Row, VCPU, both, check, done, raw, raw3};

pub(super) const ROWS: &[Row] = &[
    both(
        "VCPUOP_is_up",
        "",
        |p| check(vcpu::state(p, VCPU)? == VcpuState::Up),
        Done,
    ),
    both(
        "VCPUOP_is_up",
        "no such vCPU",
        |p| done(vcpu::state(p, NO_VCPU)),
        Fails(&[Errno::ENOENT]),
    ),
    both(
        "VCPUOP_up",
        "one that runs",
        |p| {
            // SAFETY: it runs already: nothing comes of it.
            unsafe { vcpu::up(p, VCPU) }
        },
        Done,
    ),
    both(
        "VCPUOP_down",
        "no such vCPU",
        |p| vcpu::down(p, NO_VCPU),
        Fails(&[Errno::ENOENT]),
    ),
    both(
        "VCPUOP_initialise",
        "no such vCPU",
        |p| {
            // SAFETY: there is no such vCPU.
            unsafe { vcpu::initialise_hvm(p, NO_VCPU, &mut Default::default()) }
        },
        Fails(&[Errno::ENOENT]),
    ),
    both(
        "VCPUOP_get_runstate_info",
        "",
        |p| check(vcpu::get_runstate_info(p, VCPU)?.time[0] > 0),
        Done,
    ),
    both(
        "VCPUOP_get_runstate_info",
        "null",
        |p| raw3(p, HypercallNr::VCPU_OP, 4, 0, 0),
        Fails(&[Errno::EFAULT]),
    ),
    both(
        "VCPUOP_register_runstate_memory_area",
        "end it",
        |p| {
            // SAFETY: nothing is mapped there: Xen refuses it, or ends it.
            unsafe { vcpu::register_runstate_memory_area(p, VCPU, 0) }
        },
        Done,
    ),
    both(
        "VCPUOP_register_vcpu_time_memory_area",
        "end it",
        |p| {
            // SAFETY: as above.
            unsafe { vcpu::register_vcpu_time_memory_area(p, VCPU, 0) }
        },
        Done,
    ),
    both(
        "VCPUOP_register_runstate_phys_area",
        "no such frame",
        |p| {
            // SAFETY: there is no such memory.
            unsafe { vcpu::register_runstate_phys_area(p, VCPU, 1 << 50) }
        },
        Fails(&[Errno::EINVAL]),
    )
    .since(18),
    both(
        "VCPUOP_register_vcpu_time_phys_area",
        "no such frame",
        |p| {
            // SAFETY: as above.
            unsafe { vcpu::register_vcpu_time_phys_area(p, VCPU, 1 << 50) }
        },
        Fails(&[Errno::EINVAL]),
    )
    .since(18),
    both(
        "VCPUOP_set_periodic_timer",
        "too short",
        |p| vcpu::set_periodic_timer(p, VCPU, 1),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "VCPUOP_stop_periodic_timer",
        "",
        |p| vcpu::stop_periodic_timer(p, VCPU),
        Done,
    ),
    both(
        "VCPUOP_set_singleshot_timer",
        "",
        |p| {
            vcpu::set_singleshot_timer(p, VCPU, p.now_ns() + 1_000_000_000, SingleshotFlags::FUTURE)
        },
        Done,
    ),
    both(
        "VCPUOP_set_singleshot_timer",
        "a time that is over",
        |p| vcpu::set_singleshot_timer(p, VCPU, 1, SingleshotFlags::FUTURE),
        Done,
    ),
    both(
        "VCPUOP_stop_singleshot_timer",
        "",
        |p| vcpu::stop_singleshot_timer(p, VCPU),
        Done,
    ),
    both(
        "VCPUOP_register_vcpu_info",
        "an odd place",
        |p| {
            // SAFETY: no such place: nothing comes of it.
            unsafe { vcpu::register_vcpu_info(p, VCPU, Gfn(0), 4095) }
        },
        Fails(&[Errno::ENXIO]),
    ),
    both(
        "VCPUOP_send_nmi",
        "no such vCPU",
        |p| vcpu::send_nmi(p, NO_VCPU),
        Fails(&[Errno::ENOENT]),
    ),
    both(
        "VCPUOP_*",
        "unknown",
        |p| raw(p, HypercallNr::VCPU_OP, 99, 0),
        Fails(&[Errno::ENOSYS]),
    ),
    both("set_timer_op", "stop", |p| cpu::set_timer_op(p, 0), Done),
];
