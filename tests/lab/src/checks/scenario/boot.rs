//! Scenarios: how guests start, in how much memory, with what.

use super::{Scenario, XENS, scenario};
use crate::job::{Platform, Start, With, XenVersion};

pub(super) const ALL: &[Scenario] = &[
    scenario("hello", "hello", &["hello from"]),
    Scenario {
        start: Start::Cold,
        only_on: &[Platform::XenPv],
        ..scenario("hello, cold", "hello", &["hello from"])
    },
    Scenario {
        memory_mib: 8,
        ..scenario("tour in 8 MiB", "tour", &["powering off"])
    },
    Scenario {
        memory_mib: 48,
        max_memory_mib: Some(256),
        command_line: "touch",
        only_on: XENS,
        ..scenario(
            "less memory than later",
            "conformance",
            &["touch: every page that there is was written"],
        )
    },
    Scenario {
        memory_mib: 512,
        command_line: "touch",
        only_on: &[
            Platform::User,
            Platform::XenPv,
            Platform::XenPvh,
            Platform::Qemu,
        ],
        timeout_s: 90,
        ..scenario(
            "all memory can be had",
            "conformance",
            &["touch: every page that there is was written, 5"],
        )
    },
    Scenario {
        memory_mib: 64,
        command_line: "touch=refused",
        only_on: &[Platform::User, Platform::XenPv],
        ..scenario(
            "memory that Xen refuses to map",
            "conformance",
            &["touch: 512 pages were refused, and had later; in all 6"],
        )
    },
    Scenario {
        memory_mib: 64,
        command_line: "touch=suspend",
        with: With::Toolstack,
        only_on: XENS,
        // The older one's xl has no `suspend`.
        only_xens: &[XenVersion::V4_20],
        timeout_s: 90,
        ..scenario(
            "memory over a suspend",
            "conformance",
            &["touch: a suspend changed no page, and 4"],
        )
    },
    Scenario {
        memory_mib: 64,
        ..scenario("tour in 64 MiB", "tour", &["powering off"])
    },
    Scenario {
        memory_mib: 512,
        ..scenario("tour in 512 MiB", "tour", &["powering off"])
    },
    Scenario {
        module_bytes: 1_000_001,
        only_on: &[
            Platform::User,
            Platform::XenPv,
            Platform::XenPvh,
            Platform::Qemu,
        ],
        ..scenario(
            "a module",
            "tour",
            &["module 0      1000001 bytes, sum 124998136", "powering off"],
        )
    },
    Scenario {
        xl: &["cpuid=\"host,hypervisor=0\""],
        only_on: &[Platform::XenPvh],
        ..scenario("the bit for hypervisors is hidden", "hello", &["on Xen 4."])
    },
    // QEMU puts it below the end of the memory below 4 GiB: at 2 GiB.
    Scenario {
        memory_mib: 3000,
        module_bytes: 1_000_001,
        only_on: &[Platform::Qemu],
        ..scenario(
            "a module above 1 GiB",
            "tour",
            &["module 0      1000001 bytes, sum 124998136", "powering off"],
        )
    },
    Scenario {
        only_on: &[Platform::XenPvh],
        ..scenario(
            "a kernel with its own boot, memory and executor",
            "own-kernel",
            &[
                "own-kernel: PVH on Xen",
                "own-kernel: read disk 51712 of",
                "its first sector ends with 55aa",
            ],
        )
    },
];
