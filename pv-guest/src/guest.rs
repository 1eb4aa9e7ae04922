//! The guest, as it sees itself.

use core::ptr::NonNull;

use event_channels::{Choice, PortRef, Ports};
use grant_tables::{GrantTable, Version};
use hypercall_abi::{
    DomId, Gfn, VcpuId, event_channel,
    features::XenFeatures,
    hvm::{self, CallbackVia, HvmParam},
    io::console::XenconsInterface,
    memory::{MapSpace, add_to_physmap},
    peer::PeerPtr,
    platform::{Hypercall, Pages, Platform},
    vcpu::{self, VcpuState},
    version::{self, Text},
    xen::SharedInfo,
};

use crate::{
    BootInfo, Current, Delivery, Error, GuestType,
    boot_info::RingLocation,
    clock::ClockSource,
    console::{self, ring::ConsoleRing},
    error::asking,
    events, grants,
};

/// The page that Xen and this guest share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedPage(pub(crate) PeerPtr<'static, SharedInfo>);

/// Which hypervisor there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HypervisorInfo {
    /// Its name.
    pub name: &'static str,
    /// Its version, if it tells.
    pub version: Option<version::Version>,
    /// The rest of its version, if it tells.
    pub extraversion: Option<Text<16>>,
}

impl core::fmt::Display for HypervisorInfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)?;
        if let Some(version) = self.version {
            write!(f, " {version}")?;
        }
        if let Some(extra) = &self.extraversion {
            write!(f, "{extra}")?;
        }
        Ok(())
    }
}

/// The most vCPUs that are counted.
const MAX_VCPUS: u32 = 512;

/// A running guest: what it is, and what it was given.
#[derive(Debug)]
pub struct Guest<P: Platform = Current> {
    platform: P,
    info: BootInfo,
    text: &'static str,
    started_ns: u64,
    shared: Option<SharedPage>,
}

impl<P: Platform> Guest<P> {
    /// The guest of a kernel that brought its own boot: `platform` is its
    /// memory, clock and trap, `info` what its loader handed over. Nothing is
    /// set up, and nothing allocated but room for the text of a command line that
    /// is no UTF-8.
    pub fn adopt(platform: P, info: BootInfo) -> Self {
        let started_ns = platform.now_ns();
        let text = info.command_line.into_text(&platform);
        Self {
            platform,
            text,
            info,
            started_ns,
            shared: None,
        }
    }

    /// The page that this guest and Xen share: what event channels need. None
    /// without Xen, and in a guest that was [adopted](Self::adopt).
    ///
    /// # Safety
    /// What is written there leaves this kernel's promises as they are: while
    /// upcalls are held back (by a [`sync::UpcallMutex`](crate::sync::UpcallMutex)
    /// or a critical section) they stay so, by the byte `evtchn_upcall_mask` of the
    /// first vCPU; and the words of ports belong to their [`Ports`].
    pub unsafe fn shared_info(&self) -> Option<PeerPtr<'static, SharedInfo>> {
        self.shared.map(|page| page.0)
    }

    /// The world beneath.
    pub const fn platform(&self) -> &P {
        &self.platform
    }

    /// How this guest is virtualized.
    pub const fn guest_type(&self) -> GuestType {
        self.info.guest_type
    }

    /// What the loader handed over.
    pub const fn boot_info(&self) -> &BootInfo {
        &self.info
    }

    /// The command line as a text. What is no UTF-8 in it is U+FFFD; its bytes,
    /// and whether it may be cut, are in [`Guest::boot_info`].
    pub const fn command_line(&self) -> &'static str {
        self.text
    }

    /// The modules that came with the kernel.
    pub fn modules(&self) -> impl Iterator<Item = &'static [u8]> + '_ {
        self.info.modules()
    }

    /// Bytes of memory that the guest was given.
    pub fn memory_bytes(&self) -> u64 {
        self.info.memory_map.ram_bytes()
    }

    /// Nanoseconds since the guest started.
    pub fn uptime_ns(&self) -> u64 {
        self.platform.now_ns().saturating_sub(self.started_ns)
    }

    /// This domain's number.
    ///
    /// No call tells a guest its number, but a port that it offers to itself
    /// says to whom it was offered.
    ///
    /// # Errors
    /// The hypervisor is not Xen, or all ports are taken.
    pub fn domid(&self) -> Result<DomId, Error> {
        let port = event_channel::alloc_unbound(&self.platform, DomId::SELF)
            .map_err(asking("allocate a port"))?;
        let status = event_channel::status(&self.platform, port);
        event_channel::close(&self.platform, port).map_err(asking("close a port"))?;
        let status = status.map_err(asking("look at a port"))?;
        status
            .unbound()
            .ok_or(Error::Failed("a fresh port is not unbound"))
    }

    /// What the clock reads, and how good it is on a machine without Xen.
    pub fn clock_source(&self) -> ClockSource {
        #[cfg(target_os = "none")]
        return crate::native::clock_source();
        #[cfg(not(target_os = "none"))]
        ClockSource::Platform
    }

    /// The hypervisor.
    pub fn hypervisor(&self) -> HypervisorInfo {
        let version = version::version(&self.platform).ok();
        let name = match (self.info.guest_type, version) {
            (GuestType::Bare, _) | (_, None) => no_xen(),
            _ => "Xen",
        };
        HypervisorInfo {
            name,
            version,
            extraversion: version::extraversion(&self.platform).ok(),
        }
    }

    /// What Xen can do for this guest; nothing where there is no Xen.
    pub fn features(&self) -> XenFeatures {
        version::features(&self.platform).unwrap_or(XenFeatures::empty())
    }

    /// How many vCPUs there are, and how many of them run.
    pub fn vcpus(&self) -> VcpuCount {
        let mut count = VcpuCount { total: 0, up: 0 };
        for id in 0..MAX_VCPUS {
            match vcpu::state(&self.platform, VcpuId(id)) {
                Ok(state) => {
                    count.total += 1;
                    count.up += u32::from(state == VcpuState::Up);
                }
                Err(_) => break,
            }
        }
        if count.total == 0 {
            // A hypervisor that does not say leaves this one.
            let total = match self.info.guest_type {
                GuestType::Bare => processors(),
                _ => 1,
            };
            return VcpuCount { total, up: 1 };
        }
        count
    }
}

/// How many vCPUs a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuCount {
    /// All of them.
    pub total: u32,
    /// Those that run.
    pub up: u32,
}

impl Guest {
    /// The guest's ports, with upcalls that wake who waits for them: set up at
    /// the first call, by the best means that there are.
    ///
    /// # Errors
    /// There is no Xen, or not enough memory.
    pub fn ports(&self) -> Result<&'static Ports<Current>, Error> {
        self.start_ports(Choice::Best, Delivery::Best)
    }

    /// [`Guest::ports`], by these means if this is the first call.
    ///
    /// # Errors
    /// As for [`Guest::ports`].
    pub fn start_ports(
        &self,
        choice: Choice,
        delivery: Delivery,
    ) -> Result<&'static Ports<Current>, Error> {
        let shared = self.shared.ok_or(Error::NotSupported("event channels"))?;
        events::start(shared.0, choice, delivery)
    }

    /// The guest's connection to the store, made at the first call.
    ///
    /// # Errors
    /// There is no Xen, or not enough memory.
    #[cfg(feature = "alloc")]
    pub fn store(&self) -> Result<&'static crate::Store, Error> {
        let _ports = self.ports()?;
        crate::store::start(self.boot_info().store)
    }

    /// The guest's devices, with all that their drivers need.
    ///
    /// # Errors
    /// There is no Xen, or not enough memory.
    #[cfg(feature = "alloc")]
    pub fn bus(&self) -> Result<crate::xenbus::Bus<'static>, Error> {
        Ok(crate::xenbus::Bus::new(
            self.store()?,
            self.ports()?,
            self.grants()?,
            &crate::time::Queue,
        ))
    }

    /// The guest's grant table, of version 1, set up at the first call.
    ///
    /// # Errors
    /// There is no Xen.
    pub fn grants(&self) -> Result<&'static GrantTable<Current>, Error> {
        self.start_grants(Version::One)
    }

    /// [`Guest::grants`], of this version if this is the first call.
    ///
    /// # Errors
    /// As for [`Guest::grants`].
    pub fn start_grants(&self, version: Version) -> Result<&'static GrantTable<Current>, Error> {
        grants::start(version)
    }

    /// [`Guest::adopt`], and makes the guest's console the kernel's.
    pub(crate) fn adopt_with_console(
        platform: Current,
        info: BootInfo,
        shared: Option<SharedPage>,
    ) -> Result<Self, Error> {
        if let Some(location) = info.console {
            let ring = console_ring(platform, location, shared)
                .ok_or(Error::StartInfo("the console's page is not memory"))?;
            console::set(console::Device::Ring(ring));
        }
        Ok(Self {
            shared,
            ..Self::adopt(platform, info)
        })
    }
}

/// Has Xen put the shared page of a PVH guest in the place of a frame.
///
/// # Safety
/// The frame is this guest's, and nothing of it is used.
pub(crate) unsafe fn place_shared_info(
    hypercall: &impl Hypercall,
    frame: Gfn,
) -> Result<(), Error> {
    // Until a guest does this in 64-bit mode, Xen lays the shared page out for
    // a 32-bit one: other places for the ports' bits and the wall clock.
    let none = CallbackVia::None.value();
    // SAFETY: no interrupt is to be delivered.
    unsafe { hvm::set_param(hypercall, HvmParam::CALLBACK_IRQ, none) }
        .map_err(asking("choose the shared page's layout"))?;
    // SAFETY: the caller's promise.
    unsafe { add_to_physmap(hypercall, MapSpace::SHARED_INFO, 0, frame) }
        .map_err(asking("map the shared page"))
}

/// The console's ring at a place that the toolstack told.
pub(crate) fn console_ring(
    platform: Current,
    location: RingLocation,
    shared: Option<SharedPage>,
) -> Option<ConsoleRing<Current>> {
    let page: NonNull<XenconsInterface> = Pages::page_of(&platform, location.gfn)?.cast();
    // SAFETY: a whole page of the guest's, mapped for good, which the
    // toolstack shares with the console's daemon and nobody else uses.
    let page = unsafe { PeerPtr::new(page) };
    let port = PortRef::new(location.port, shared.map(|page| page.0));
    Some(ConsoleRing::new(platform, page, port))
}

fn no_xen() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if let Some((hypervisor, _)) = hypercall_abi::arch_x86::cpuid::Cpuid::PLAIN
        .hypervisors()
        .next()
    {
        return hypervisor.name();
    }
    "none"
}

fn processors() -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        let leaf = hypercall_abi::arch_x86::cpuid::Cpuid::PLAIN.leaf(1, 0);
        // Bit 28: the count is valid.
        if leaf.edx & (1 << 28) != 0 {
            return ((leaf.ebx >> 16) & 0xff).max(1);
        }
    }
    1
}
