//! The choices that a job is made of.

use std::{path::PathBuf, time::Duration};

use clap::ValueEnum;

/// What a guest runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    /// The kernel's own image, as a Linux process.
    User,
    /// The kernel's source with a mock of the hypervisor, as a Linux process.
    Mock,
    /// The same, as a PVH guest.
    MockPvh,
    /// A real Xen in QEMU, as a PV guest.
    XenPv,
    /// A real Xen in QEMU, as a PVH guest.
    XenPvh,
    /// QEMU, without Xen.
    Qemu,
}

impl Platform {
    /// Its name, as on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mock => "mock",
            Self::MockPvh => "mock-pvh",
            Self::XenPv => "xen-pv",
            Self::XenPvh => "xen-pvh",
            Self::Qemu => "qemu",
        }
    }

    /// How its guests are virtualized, as Xen's tools call it.
    pub(crate) const fn guest_type(self) -> &'static str {
        match self {
            Self::User | Self::Mock | Self::XenPv => "pv",
            Self::MockPvh | Self::XenPvh | Self::Qemu => "pvh",
        }
    }

    /// Whether it starts a kernel's image, and not a process made of the same source.
    pub(crate) const fn boots_kernels(self) -> bool {
        !matches!(self, Self::Mock | Self::MockPvh)
    }

    /// Whether it can be more than one version of Xen.
    pub(crate) const fn has_versions(self) -> bool {
        !matches!(self, Self::User | Self::Qemu)
    }

    /// Whether it is a real Xen.
    pub(crate) const fn is_xen(self) -> bool {
        matches!(self, Self::XenPv | Self::XenPvh)
    }
}

/// Which machine QEMU makes where there is no Xen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Chipset {
    /// One with ACPI, and with a device that tells the lab why a guest ended.
    #[default]
    Q35,
    /// One with a keyboard controller, which can reset it.
    PcWithoutAcpi,
    /// One with a serial port, and not much more.
    Microvm,
}

impl Chipset {
    /// Its name, as QEMU has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Q35 => "q35",
            Self::PcWithoutAcpi => "pc,acpi=off",
            Self::Microvm => "microvm,acpi=off",
        }
    }
}

/// Who sees the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// The terminal, live; and its input goes to the guest.
    Live,
    /// The terminal, live, with what the hypervisor says too.
    Verbose,
    /// Nobody: it is kept.
    Kept,
}

/// The peer beside the guest (on a real Xen).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum With {
    /// Nobody
    #[default]
    Nobody,
    /// A second guest of the same image, with `pair=back` for a command line;
    /// each is told the other's number
    Peer,
    /// The same, as a Linux process in domain 0
    Linux,
    /// Somebody in domain 0 who answers in the guest's part of the store
    Echo,
    /// That, and others who work there
    Store,
    /// Linux in domain 0, which looks at the sample disk when the guest has ended
    Check,
    /// A visitor on this machine, who fetches all files that a guest serves
    Visitor,
    /// Many visitors at once, each of whom checks every answer: see --clients and
    /// --seconds. The guest is to end by itself: --cmdline quiet=5
    Crowd,
    /// Clients on this machine, who compare what an echo server sends back
    Clients,
    /// A Linux guest on the same bridge, which fetches all files, too
    Neighbour,
    /// Faults of a blank disk: resize, I/O errors, backend restart, hot unplug and
    /// replug
    DiskFaults,
    /// What a benchmark needs: a RAM disk, a server, and one who counts
    Bench,
    /// One who looks at the guest from its first instruction
    #[value(skip)]
    Scene,
    /// Others like it, as many as there is memory for
    #[value(skip)]
    Density,
    /// A toolstack that attaches, detaches and misconfigures devices: `disks=N` and
    /// `nics=N` on the command line say how many there are
    Devices,
    /// A console's daemon that stops when the guest asks for it: `silence=SECONDS` on the
    /// command line
    Silence,
    /// Domain 0 itself, which tries to reach an address outside of the machine:
    /// `outward=ADDRESS:PORT` on the command line
    Outward,
    /// A toolstack that suspends and resumes the guest when it asks for it
    Toolstack,
}

/// The version of Xen that guests run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum XenVersion {
    /// Debian 13's
    #[default]
    #[value(name = "4.20")]
    V4_20,
    /// Debian 12's
    #[value(name = "4.17")]
    V4_17,
}

impl XenVersion {
    /// Its number.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4_20 => "4.20",
            Self::V4_17 => "4.17",
        }
    }
}

/// How to start the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// From its first instruction.
    Cold,
    /// From where it was saved.
    Restored,
}

/// What the time of the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Pace {
    /// The host's.
    Clock,
    /// Its own: each instruction is a nanosecond, of whichever domain it is, and
    /// where nobody has one to do, time goes on to the next event. What takes how
    /// long then depends on nothing else that the host does.
    Counted,
}

impl Pace {
    /// Its name, as on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Counted => "counted",
        }
    }
}

/// What is wrong with the information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Spoil {
    /// Its magic number.
    Magic,
    /// It says that there is no memory.
    Nothing,
    /// It is cut short: a part is missing.
    Short,
    /// Addresses in it lead nowhere.
    Absurd,
    /// Ranges of the memory map overlap.
    Overlap,
    /// There is no console.
    Console,
    /// The console's ring is a page that has another use.
    Ring,
    /// The console's ring is a page of memory that nothing uses (PV only).
    Free,
    /// Nothing is: the guest notes the registers that it starts with.
    Witness,
}

impl Spoil {
    /// Its name, as on the command line and in the symbols of the entries.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Magic => "magic",
            Self::Nothing => "nothing",
            Self::Short => "short",
            Self::Absurd => "absurd",
            Self::Overlap => "overlap",
            Self::Console => "console",
            Self::Ring => "ring",
            Self::Free => "free",
            Self::Witness => "witness",
        }
    }
}

/// How many come, and how long they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowd {
    pub(crate) clients: usize,
    pub(crate) stay: Duration,
}

impl Default for Crowd {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Crowd {
    /// As many as are promised an answer.
    pub(crate) const DEFAULT: Self = Self {
        clients: 200,
        stay: Duration::from_secs(30),
    };
}

/// What `user` tells of a guest.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Tools {
    /// Trace the guest to stderr (user only): hypercalls, traps, mmu
    #[arg(long, value_delimiter = ',', value_name = "WHAT")]
    pub(crate) trace: Vec<String>,
    /// Preempt the guest at random points (user only); its behaviour must not change
    #[arg(long)]
    pub(crate) jitter: bool,
    /// Deterministic time (user only): the clock advances only while the guest sleeps or
    /// reads it, and events are delivered only at hypercalls and traps
    #[arg(long, conflicts_with = "jitter")]
    pub(crate) virtual_time: bool,
    /// Answer a call by an error, as a hypervisor does that does not offer it (user only):
    /// CALL=ERRNO or CALL:OPERATION=ERRNO, by the names that --trace has
    #[arg(long, value_name = "CALL=ERRNO")]
    pub(crate) refuse: Vec<String>,
    /// Write which lines of the guest ran, as lcov's tools read it (user only)
    #[arg(long, value_name = "FILE")]
    pub(crate) coverage: Option<PathBuf>,
}

impl Tools {
    /// What of this the platform cannot do.
    pub(crate) fn refused_on(&self, platform: Platform) -> Option<&'static str> {
        match platform {
            Platform::User => None,
            _ if !self.trace.is_empty() => Some("--trace"),
            _ if self.jitter => Some("--jitter"),
            _ if self.virtual_time => Some("--virtual-time"),
            _ if !self.refuse.is_empty() => Some("--refuse"),
            _ => self.coverage.as_ref().map(|_| "--coverage"),
        }
    }
}

/// Whether a debugger is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Debug {
    /// No.
    Off,
    /// Yes: the guest waits for it, and has all the time it wants.
    Gdb,
}
