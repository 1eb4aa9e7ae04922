//! What a domain is given.

use std::io::Write;

use super::profile::Profile;

/// Which time a domain lives in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Time {
    /// Time passes only when the guest sleeps. A guest that waits for what
    /// cannot come is reported as a deadlock.
    #[default]
    Virtual,
    /// The host's time.
    Real,
}

/// What a shutdown does to the code that asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnShutdown {
    /// Unwinds to [`Domain::run`](crate::Domain::run).
    #[default]
    Unwind,
    /// Ends the process: with 0 for a power-off, else 64 and the reason, or 70 for one
    /// that has no name.
    ExitProcess,
}

/// How a guest is virtualized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DomainType {
    /// By Xen's calls: it knows the machine's frames.
    #[default]
    Pv,
    /// By the processor: it knows frames of its own, and has parameters.
    Pvh,
}

/// What a domain is given.
#[derive(Default)]
pub struct Config {
    /// How it is virtualized.
    pub domain_type: DomainType,
    /// MiB of memory; 0 is as good as 1.
    pub memory_mib: usize,
    /// vCPUs, of which the first runs at the start; 0 is as good as 1.
    pub vcpus: u32,
    /// The command line.
    pub command_line: String,
    /// Where console output goes; `None`: it is kept, see
    /// [`Domain::console_output`](crate::Domain::console_output).
    pub console: Option<Box<dyn Write + Send>>,
    /// Which time it lives in: that of its host, where it has one already.
    pub time: Time,
    /// The ports that it may have; 0: 1023, which is what `xl` gives.
    pub max_event_channels: u32,
    /// What a shutdown does.
    pub on_shutdown: OnShutdown,
    /// The version of Xen that it finds.
    pub profile: Profile,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("domain_type", &self.domain_type)
            .field("memory_mib", &self.memory_mib)
            .field("vcpus", &self.vcpus)
            .field("command_line", &self.command_line)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

/// The host has not enough memory for the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl std::fmt::Display for NoMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not enough memory for the domain")
    }
}

impl std::error::Error for NoMemory {}
