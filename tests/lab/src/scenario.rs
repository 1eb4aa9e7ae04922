//! What the lab tests: guests, what they are given, and how they must end.

use std::{path::PathBuf, time::Duration};

use crate::{
    crowd::Crowd,
    disk,
    exit::Ended,
    job::{Job, Platform, Report, Tools, With},
    machine::Start,
    matrix::Column,
    net::Net,
    packages::cache,
    run::run,
    spoil::Spoil,
};

/// One row of the table.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    guest: &'static str,
    memory_mib: u32,
    max_memory_mib: Option<u32>,
    command_line: &'static str,
    /// Lines of its own in the configuration that `xl` is given.
    xl: &'static [&'static str],
    /// Bytes of a module that is loaded with it; none if zero.
    module_bytes: usize,
    with: With,
    crowd: Crowd,
    /// Megabytes of a large file on its disk.
    large_mb: usize,
    vcpus: u32,
    jitter: bool,
    spoil: Option<Spoil>,
    ended: Expected,
    /// What the console must say; each of these.
    says: &'static [&'static str],
    /// Where it can be run; nothing: everywhere.
    only_on: &'static [Platform],
    /// Where it has no way to say it.
    mute_on: &'static [Platform],
    timeout_s: u64,
    start: Start,
}

/// How a guest must end.
#[derive(Clone, Copy)]
enum Expected {
    Shutdown(u8),
    /// For a reason that has no name, which not every platform tells.
    Unnamed,
    TimedOut,
}

impl From<Expected> for Ended {
    fn from(expected: Expected) -> Self {
        match expected {
            Expected::Shutdown(reason) => Self::Shutdown(reason),
            Expected::Unnamed => Self::Unnamed,
            Expected::TimedOut => Self::TimedOut,
        }
    }
}

const fn scenario(
    name: &'static str,
    guest: &'static str,
    says: &'static [&'static str],
) -> Scenario {
    Scenario {
        name,
        guest,
        memory_mib: 32,
        max_memory_mib: None,
        command_line: "",
        xl: &[],
        module_bytes: 0,
        with: With::Nobody,
        crowd: Crowd {
            stay: Duration::from_secs(5),
            ..Crowd::DEFAULT
        },
        large_mb: 0,
        vcpus: 1,
        jitter: false,
        spoil: None,
        ended: Expected::Shutdown(0),
        says,
        only_on: &[],
        mute_on: &[],
        timeout_s: 30,
        start: Start::Restored,
    }
}

const fn fault(
    name: &'static str,
    command_line: &'static str,
    says: &'static [&'static str],
) -> Scenario {
    Scenario {
        command_line,
        ended: Expected::Shutdown(3),
        ..scenario(name, "conformance", says)
    }
}

const fn wild(
    name: &'static str,
    command_line: &'static str,
    says: &'static [&'static str],
) -> Scenario {
    Scenario {
        only_on: &[Platform::User],
        ..fault(name, command_line, says)
    }
}

const fn spoilt(name: &'static str, spoil: Spoil, says: &'static [&'static str]) -> Scenario {
    Scenario {
        spoil: Some(spoil),
        ended: Expected::Shutdown(3),
        ..scenario(name, "conformance", says)
    }
}

const MOCKS: &[Platform] = &[Platform::User, Platform::Mock];
const MOCKS_AND_XENS: &[Platform] = &[
    Platform::User,
    Platform::Mock,
    Platform::XenPv,
    Platform::XenPvh,
];
const MOCKS_AND_XENS_OF_BOTH_KINDS: &[Platform] = &[
    Platform::User,
    Platform::Mock,
    Platform::MockPvh,
    Platform::XenPv,
    Platform::XenPvh,
];
const XENS: &[Platform] = &[Platform::XenPv, Platform::XenPvh];

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
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
        with: With::Check,
        only_on: XENS,
        ..scenario(
            "a disk, by blkback",
            "disk",
            &[
                "3 files are what /SHA256SUMS says",
                "| Linux wrote this.",
                "wrote GUEST.TXT, 100000 bytes, and read it back",
                "dom0: fsck of vfat ended with 0",
                "dom0: fsck of ext4 ended with 0",
                "dom0: numbers.txt: OK",
                "dom0: GUEST.TXT is what the guest wrote",
            ],
        )
    },
    Scenario {
        // A whole round of trouble, and the start of the next one: domain 0 may be slow.
        command_line: "torture=20 statuses=5",
        with: With::Trouble,
        timeout_s: 300,
        only_on: XENS,
        ..scenario(
            "a disk that trouble comes to",
            "load",
            &[
                "32 tasks for 20 s on a disk of",
                "sectors were as they should be",
                "operations failed",
                "were cut off when the disk went",
                "dom0: trouble, round 1",
            ],
        )
    },
    Scenario {
        command_line: "again=8",
        timeout_s: 120,
        only_on: MOCKS_AND_XENS,
        ..scenario(
            "a disk with one frontend after the other",
            "load",
            &["again: 8 frontends had the disk, one after the other"],
        )
    },
    Scenario {
        command_line: "devices=close disks=2 nics=1",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        ..scenario(
            "devices that are closed are taken away",
            "load",
            &[
                "devices: when close() of the disk returned, its state was 6",
                "devices: when close() of the interface returned, its state was 6",
                "devices: all were taken away; what is left of the disk: none",
                "devices: 0 grants are in quarantine",
                "dom0: block-detach of xvda ended with 0",
                "dom0: block-detach of xvdb ended with 0",
                "dom0: network-detach ended with 0",
            ],
        )
    },
    Scenario {
        command_line: "devices=odd",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        ..scenario(
            "disks that say and do odd things",
            "load",
            &[
                "dom0: info is  0\\000",
                "odd: sectors 8192, of 512 bytes, beneath of 512 bytes",
                "odd: discards of 8192 bytes, from 0 bytes",
                "odd: a discard that cannot be done harms nobody: ",
                "odd: a flush: Ok(())",
                "odd: flushes by Some(Cache)",
                "odd: a flush that works: Ok(())",
                "odd: a write: Ok(())",
                "odd: a flush that fails: Err(Io)",
                "odd: a flush that works again: Ok(())",
                "odd: a discard that works: Ok(())",
                "odd: all that is left is zero: true",
            ],
        )
    },
    Scenario {
        command_line: "devices=refused disks=1",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        ..scenario(
            "nightly: a disk with a wrong backend-id",
            "load",
            &[
                "times in a row: the backend ended before it was connected",
                "devices: less than one write a second",
            ],
        )
    },
    Scenario {
        memory_mib: 128,
        command_line: "devices=many disks=100 nics=20",
        with: With::Devices,
        timeout_s: 400,
        only_on: XENS,
        ..scenario(
            "nightly: more devices than the store's quota allows",
            "load",
            &[
                "errors name the quota of nodes",
                "devices: a sector of each disk was read",
                "devices: all are closed",
            ],
        )
    },
    Scenario {
        memory_mib: 128,
        command_line: "devices=many disks=100 nics=20 quota=5000",
        with: With::Devices,
        timeout_s: 400,
        only_on: XENS,
        ..scenario(
            "nightly: 100 disks and 20 interfaces",
            "load",
            &[
                "devices: 100 of 100 disks and 20 of 20 interfaces are connected",
                "devices: 0 were refused",
                "devices: a sector of each disk was read",
                "devices: all are closed",
            ],
        )
    },
    Scenario {
        command_line: "devices=cycles cycles=5 disks=1 nics=1",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        ..scenario(
            "a disk and an interface that go and come",
            "load",
            &[
                "devices: 5 times opened, closed, taken away and given back",
                "devices: 0 grants are in use, 0 in quarantine",
                " ports, 0 are lost",
                "dom0: vbd, 5 cycles: 0 frontends, 0 backends, 0 devices are left",
                "dom0: vif, 5 cycles: 0 frontends, 0 backends, 0 devices are left",
                "dom0: 0 interfaces are left",
            ],
        )
    },
    Scenario {
        command_line: "devices=cycles cycles=100 disks=1",
        with: With::Devices,
        timeout_s: 450,
        only_on: XENS,
        ..scenario(
            "nightly: a disk that goes and comes 100 times",
            "load",
            &[
                "devices: 100 times opened, closed, taken away and given back",
                "devices: 0 grants are in use, 0 in quarantine",
                " ports, 0 are lost",
                "dom0: vbd, 100 cycles: 0 frontends, 0 backends, 0 devices are left",
            ],
        )
    },
    Scenario {
        command_line: "devices=cycles cycles=100 nics=1",
        with: With::Devices,
        timeout_s: 450,
        only_on: XENS,
        ..scenario(
            "nightly: an interface that goes and comes 100 times",
            "load",
            &[
                "devices: 100 times opened, closed, taken away and given back",
                "devices: 0 grants are in use, 0 in quarantine",
                " ports, 0 are lost",
                "dom0: vif, 100 cycles: 0 frontends, 0 backends, 0 devices are left",
                "dom0: 0 interfaces are left",
            ],
        )
    },
    Scenario {
        command_line: "devices=stale-nic nics=2",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        ..scenario(
            "an interface with one frontend after the other",
            "load",
            &["devices: 5 frontends had the interface"],
        )
    },
    Scenario {
        command_line: "devices=groups nics=2",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        ..scenario(
            "more groups than a backend passes",
            "load",
            &[
                "devices: 64 of 80 groups are passed, 16 were refused, the first is Some(64)",
                "devices: packets to 64 groups came, to 0 of the refused",
                "devices: one was left, and another joined: No, Joined",
                "devices: packets to 64 groups came, to the left false, to the joined true",
            ],
        )
    },
    Scenario {
        command_line: "devices=offloads nics=1",
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        ..scenario(
            "checksums and segments that are left to the other side",
            "load",
            &[
                "devices: V4: a checksum that was Blank came back Blank",
                "devices: V6: a checksum that was Blank came back Blank",
                "devices: streams went and came in large packets",
            ],
        )
    },
    Scenario {
        vcpus: 2,
        command_line: "devices=ports nics=1",
        xl: &["max_event_channels=9"],
        with: With::Devices,
        timeout_s: 120,
        only_on: XENS,
        ..scenario(
            "an interface with fewer ports than it wants",
            "load",
            &[
                "devices: 2 of 4 queues, and of the ports none is left",
                "devices: packets come and go by fewer queues",
            ],
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
    Scenario {
        only_on: MOCKS,
        ..scenario(
            "a disk of the mock's",
            "disk",
            &[
                "3 files are what /SHA256SUMS says",
                "wrote GUEST.TXT, 100000 bytes, and read it back",
            ],
        )
    },
    Scenario {
        command_line: "requests=7",
        with: With::Visitor,
        timeout_s: 90,
        only_on: MOCKS_AND_XENS,
        ..scenario(
            "a web server",
            "web",
            &[
                "web: http://10.0.2.15:80/",
                "visitor: 3 files are what SHA256SUMS says",
                "web: 7 requests were answered",
            ],
        )
    },
    Scenario {
        command_line: "requests=8 queues=3 ip=10.0.2.15/24 ip6=fd00::15/64",
        with: With::Visitor,
        timeout_s: 90,
        only_on: XENS,
        ..scenario(
            "a web server, three queues, IPv6",
            "web",
            &[
                "web: http://[fd00::15]:80/",
                "visitor: 3 files are what SHA256SUMS says",
                "dom0: http://[fd00::15]/files/hello.txt: Hello from the sample disk.",
                "web: 8 requests were answered, 3 queues, chosen by a hash",
            ],
        )
    },
    Scenario {
        command_line: "quiet=3",
        with: With::Visitor,
        large_mb: 20,
        timeout_s: 90,
        only_on: MOCKS_AND_XENS,
        ..scenario(
            "a web server with a large file",
            "web",
            &["visitor: 4 files are what SHA256SUMS says"],
        )
    },
    Scenario {
        command_line: "quiet=3",
        with: With::Crowd,
        timeout_s: 90,
        // Not on user: see below.
        only_on: &[Platform::Mock, Platform::XenPv, Platform::XenPvh],
        ..scenario(
            "a web server with 200 clients",
            "web",
            &[
                "crowd: 200 clients at once for 5 s: ",
                " answers, 0 refused, 0 corrupted",
            ],
        )
    },
    Scenario {
        command_line: "quiet=3",
        with: With::Crowd,
        crowd: Crowd {
            clients: 300,
            stay: Duration::from_secs(5),
        },
        timeout_s: 90,
        // About the guest, not the platform. Where it is faster, a connection among
        // thousands stops: smoltcp 0.13, which has sent again what was only late,
        // waits for answers and has no timer set.
        only_on: &[Platform::Mock],
        ..scenario(
            "a web server with more clients than sockets",
            "web",
            &[
                "crowd: 300 clients at once for 5 s: ",
                " answers, 0 refused, 0 corrupted",
            ],
        )
    },
    Scenario {
        command_line: "requests=4",
        with: With::Neighbour,
        timeout_s: 90,
        only_on: XENS,
        ..scenario(
            "a web server and a Linux guest on one bridge",
            "web",
            &[
                "neighbour: hello.txt: OK",
                "neighbour: numbers.txt: OK",
                "web: 4 requests were answered",
            ],
        )
    },
    Scenario {
        command_line: "ports=2level grants=2",
        timeout_s: 90,
        only_on: XENS,
        ..scenario("2-level ports, grants v2", "conformance", &[" 0 failed"])
    },
    Scenario {
        command_line: "upcall=apic",
        timeout_s: 90,
        only_on: &[Platform::XenPvh],
        ..scenario("upcalls by the local APIC", "conformance", &[" 0 failed"])
    },
    Scenario {
        command_line: "pair=front",
        with: With::Peer,
        timeout_s: 90,
        only_on: XENS,
        ..scenario(
            "two guests",
            "conformance",
            &["front: 10000 round trips", "back: 10000 round trips"],
        )
    },
    Scenario {
        command_line: "pair=front",
        with: With::Linux,
        timeout_s: 90,
        only_on: XENS,
        ..scenario(
            "a guest and Linux",
            "conformance",
            &["front: 10000 round trips", "linux back: 10000 round trips"],
        )
    },
    Scenario {
        with: With::Store,
        timeout_s: 90,
        only_on: XENS,
        ..scenario(
            "a shared store",
            "conformance",
            &[
                " 0 failed",
                "a_list_that_is_too_long_comes_in_parts ... ok",
                "others_work_on_the_same_tree ... ok",
                "dom0: 1000 nodes below",
                "dom0: 1000 by Linux's own tool",
                "dom0: echo ended with 0",
            ],
        )
    },
    Scenario {
        vcpus: 2,
        timeout_s: 90,
        jitter: true,
        only_on: &[Platform::User],
        ..scenario(
            "all claims, under interruptions",
            "conformance",
            &[" 0 failed"],
        )
    },
    Scenario {
        vcpus: 2,
        timeout_s: 90,
        jitter: true,
        command_line: "registers=500000",
        only_on: &[Platform::User],
        ..scenario(
            "all registers, under events from another vCPU",
            "conformance",
            &["registers: 500000 loops", "no difference"],
        )
    },
    Scenario {
        timeout_s: 300,
        jitter: true,
        command_line: "registers=10000000",
        only_on: &[Platform::User],
        ..scenario(
            "all registers, ten million times",
            "conformance",
            &["registers: 10000000 loops", "no difference"],
        )
    },
    Scenario {
        vcpus: 2,
        timeout_s: 90,
        command_line: "registers=200000",
        only_on: &[Platform::XenPv],
        ..scenario(
            "all registers",
            "conformance",
            &["registers: 200000 loops", "no difference"],
        )
    },
    Scenario {
        vcpus: 2,
        timeout_s: 90,
        jitter: true,
        command_line: "ipis=100000",
        only_on: &[Platform::User],
        ..scenario(
            "events between vCPUs, under interruptions",
            "conformance",
            &["ipis: 100000 went and came, none was lost"],
        )
    },
    Scenario {
        vcpus: 2,
        timeout_s: 90,
        command_line: "ipis=2000",
        only_on: XENS,
        ..scenario(
            "events between vCPUs",
            "conformance",
            &["ipis: 2000 went and came, none was lost"],
        )
    },
    fault("panic", "fault=panic", &["as the command line wished"]),
    fault(
        "error",
        "fault=return",
        &["FATAL: as the command line wished"],
    ),
    Scenario {
        ended: Expected::Shutdown(1),
        ..fault("reboot", "fault=reboot", &["fault: reboot"])
    },
    Scenario {
        ended: Expected::Shutdown(4),
        only_on: MOCKS_AND_XENS,
        ..fault("watchdog", "fault=watchdog", &["fault: watchdog"])
    },
    fault(
        "panic within print",
        "fault=print",
        &["as the command line wished, within a value"],
    ),
    Scenario {
        command_line: "prints",
        ..scenario(
            "prints within prints",
            "conformance",
            &[
                "prints: a value, talkative, which prints\nprints: within the value\n",
                "prints: a value, tireless, which goes on\nprints: within the value, number   0\n",
                " bytes lost]\nprints: the end\n",
            ],
        )
    },
    Scenario {
        command_line: "prints",
        only_on: MOCKS_AND_XENS,
        ..scenario(
            "an upcall that prints",
            "conformance",
            &["prints: a value, ringing, at which an upcall comes\nprints: within the upcall\n"],
        )
    },
    fault("null", "fault=null", &["FATAL: page fault: write at 0x0"]),
    fault("stack overflow", "fault=stack", &["stack overflow"]),
    fault(
        "write to text",
        "fault=write-text",
        &["which does not allow it"],
    ),
    fault(
        "run data",
        "fault=execute-data",
        &["FATAL: page fault: execute"],
    ),
    wild("jump to nowhere", "fault=jump", &["page fault: execute"]),
    wild(
        "unmap its own code",
        "fault=unmap",
        &["page fault: execute"],
    ),
    wild(
        "take its tables away",
        "fault=tables",
        &["xen: the guest is ended for"],
    ),
    wild(
        "lose its stack",
        "fault=stack-gone",
        &["xen: the guest is ended for invalid opcode, for which its stack"],
    ),
    Scenario {
        ended: Expected::Shutdown(0),
        ..wild("storm of calls", "fault=storm", &["calls were refused"])
    },
    Scenario {
        // Who the guest is, and where its console, is what it cannot believe.
        mute_on: &[Platform::User, Platform::Mock, Platform::XenPv],
        ..spoilt(
            "wrong magic",
            Spoil::Magic,
            &["FATAL: bad start information"],
        )
    },
    spoilt("no memory", Spoil::Nothing, &["has no usable memory"]),
    spoilt("cut short", Spoil::Short, &["FATAL: bad start information"]),
    spoilt(
        "absurd places",
        Spoil::Absurd,
        &["FATAL: bad start information"],
    ),
    Scenario {
        ended: Expected::Shutdown(0),
        ..spoilt("overlaps", Spoil::Overlap, &[" 0 failed"])
    },
    Scenario {
        ended: Expected::Shutdown(0),
        mute_on: MOCKS_AND_XENS,
        ..spoilt("no console", Spoil::Console, &[" 0 failed"])
    },
    Scenario {
        only_on: MOCKS_AND_XENS_OF_BOTH_KINDS,
        // There is no console to say it, and the guest ends at once: one that used the
        // page would wait there for a daemon.
        mute_on: MOCKS_AND_XENS_OF_BOTH_KINDS,
        timeout_s: 20,
        ..spoilt("a ring over something else", Spoil::Ring, &[])
    },
    Scenario {
        // Its output lies where nobody takes it.
        ended: Expected::Shutdown(0),
        command_line: "only=the_pages_of_rings",
        only_on: &[Platform::User, Platform::XenPv],
        mute_on: &[Platform::User, Platform::XenPv],
        timeout_s: 120,
        ..spoilt("a ring in memory", Spoil::Free, &[])
    },
    Scenario {
        command_line: "fault=loop",
        ended: Expected::TimedOut,
        timeout_s: 3,
        ..scenario("endless loop", "conformance", &["fault: loop"])
    },
    Scenario {
        command_line: "fault=hang",
        ended: Expected::TimedOut,
        timeout_s: 3,
        only_on: &[Platform::User],
        ..scenario(
            "a hang behind a call that there is not",
            "conformance",
            &[
                "fault: hang",
                "xen: the guest is interrupted",
                "hypercall 62, operation 7: 1 time",
            ],
        )
    },
    Scenario {
        ended: Expected::Unnamed,
        ..fault(
            "a reason without a name",
            "fault=reason",
            &["fault: reason"],
        )
    },
];

impl Scenario {
    /// Whether there is anything to run there.
    pub(crate) fn is_for(&self, platform: Platform) -> bool {
        // One mock is enough, unless it is named: they differ in what claims are about.
        self.only_on.contains(&platform) || self.only_on.is_empty() && platform != Platform::MockPvh
    }

    /// Runs it, and says what was wrong.
    pub(crate) fn check(&self, column: Column) -> Result<(), String> {
        let platform = column.platform;
        let disks = disk::sample_for(self.guest, platform.name(), self.large_mb);
        let disks = disks.map_err(|error| format!("{error:#}"))?;
        let job = Job {
            xen: column.xen,
            memory_mib: self.memory_mib,
            max_memory_mib: self.max_memory_mib,
            vcpus: self.vcpus,
            tools: Tools {
                jitter: self.jitter,
                ..Tools::default()
            },
            command_line: self.command_line.to_owned(),
            xl: self
                .xl
                .iter()
                .map(|line| line.as_bytes().to_vec())
                .collect(),
            module: module(self.module_bytes).map_err(|error| format!("{error:#}"))?,
            disks: disks.into_iter().collect(),
            net: Net::of(self.guest, None).map_err(|error| format!("{error:#}"))?,
            with: self.with,
            crowd: self.crowd,
            spoil: self.spoil,
            timeout: Duration::from_secs(self.timeout_s),
            start: self.start,
            ..Job::new(self.guest, platform)
        };
        let report = run(&job).map_err(|error| format!("{error:#}"))?;
        let said = said(&report);
        let expected = Ended::from(self.ended);
        let is_unnamed = expected == Ended::Unnamed && report.ended.status() == expected.status();
        if report.ended != expected && !is_unnamed {
            return Err(format!(
                "it ended by {}, not by {expected}\n{said}",
                report.ended
            ));
        }
        if let Some(complaint) = &report.complaint {
            return Err(format!("its visitors complain: {complaint}\n{said}"));
        }
        if self.mute_on.contains(&platform) {
            return Ok(());
        }
        match self.says.iter().find(|text| !said.contains(*text)) {
            Some(text) => Err(format!("it did not say {text:?}\n{said}")),
            None => Ok(()),
        }
    }
}

/// A file of so many bytes, none of which is like its neighbours.
fn module(len_bytes: usize) -> std::io::Result<Option<PathBuf>> {
    if len_bytes == 0 {
        return Ok(None);
    }
    let path = cache().join(format!("module-{len_bytes}"));
    let bytes: Vec<u8> = (0..len_bytes).map(|at| (at % 251) as u8).collect();
    std::fs::write(&path, bytes)?;
    Ok(Some(path))
}

/// What the guest said, and what is said about it.
fn said(report: &Report) -> String {
    let mut text = report.console.clone();
    text.extend(report.diagnosis.iter().map(String::as_str));
    text
}
