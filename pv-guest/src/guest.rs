//! The guest, as it sees itself.

use core::{fmt::Write as _, ptr::NonNull};

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
use spin::Once;

#[cfg(feature = "alloc")]
use crate::kernel::{store, time};
use crate::{
    boot_info::{BootInfo, GuestType, RingLocation},
    clock::ClockSource,
    error::{Error, asking},
    hypervisor::{self, Current, Delivery},
    kernel::{console, events, grants},
    number::Decimal,
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
            let (major, minor) = (u64::from(version.major), u64::from(version.minor));
            write!(f, " {}.{}", Decimal(major), Decimal(minor))?;
        }
        // ASCII, as whoever built Xen has typed it.
        for byte in self.extraversion.iter().flat_map(|text| text.as_bytes()) {
            f.write_char(if byte.is_ascii() {
                char::from(*byte)
            } else {
                '?'
            })?;
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
    text: Once<&'static str>,
    started_ns: u64,
    own: Option<Own>,
}

/// What a boot of this crate's has found and set apart: memory that safe functions of
/// the guest use. [`BootInfo`] has the same numbers, but anyone may make one.
#[derive(Clone, Copy, Debug)]
struct Own {
    shared: SharedPage,
    #[cfg(feature = "alloc")]
    store: Option<RingLocation>,
}

impl<P: Platform> Guest<P> {
    /// The guest of a kernel that brought its own boot: `platform` is its
    /// memory, clock and trap, `info` what its loader handed over. Nothing is
    /// set up or allocated.
    ///
    /// The places in `info` are told and not used: such a kernel makes its
    /// [`Ports`], [`GrantTable`] and store client itself, as only it knows whose
    /// those pages are; [`Guest::ports`], [`Guest::store`] and [`Guest::bus`] are
    /// [`Error::NotSupported`].
    pub fn adopt(platform: P, info: BootInfo) -> Self {
        let started_ns = platform.now_ns();
        Self {
            platform,
            text: Once::new(),
            info,
            started_ns,
            own: None,
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
        self.own.map(|own| own.shared.0)
    }

    /// The platform.
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
    /// and whether it may be cut, are in [`Guest::boot_info`]. Such a text takes memory
    /// at the first call, of the platform's, and so it lasts as long as the guest.
    pub fn command_line(&self) -> &str {
        self.text
            .call_once(|| self.info.command_line.into_text(&self.platform))
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
        event_channel::own_domid(&self.platform).map_err(asking("find this domain's number"))
    }

    /// What the clock reads, and how good it is on a machine without Xen.
    pub fn clock_source(&self) -> ClockSource {
        hypervisor::clock_source()
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
        let own = self.own.ok_or(Error::NotSupported("event channels"))?;
        events::start(own.shared.0, choice, delivery)
    }

    /// The guest's connection to the store, made at the first call.
    ///
    /// # Errors
    /// There is no Xen, or not enough memory.
    #[cfg(feature = "alloc")]
    pub fn store(&self) -> Result<&'static store::Store, Error> {
        let _ports = self.ports()?;
        let location = self.own.and_then(|own| own.store);
        let location = location.ok_or(Error::NotSupported("the store"))?;
        // SAFETY: a boot of this crate's has set it apart (`use_rings`).
        unsafe { store::start(location) }
    }

    /// The guest's devices, with all that their drivers need.
    ///
    /// # Errors
    /// There is no Xen, or not enough memory.
    #[cfg(feature = "alloc")]
    pub fn bus(&self) -> Result<pv_frontends::xenbus::Bus<'static, Current>, Error> {
        Ok(pv_frontends::xenbus::Bus::new(
            self.store()?,
            self.ports()?,
            self.grants()?,
            &time::Queue,
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

    /// Makes the console of a domain whose pages are known the kernel's.
    ///
    /// # Safety
    /// `shared` is this domain's, and the rings of its information are where its toolstack
    /// has put them: whole pages that nothing else of this guest uses.
    pub(crate) unsafe fn use_rings(&mut self, shared: SharedPage) -> Result<(), Error> {
        if let Some(location) = self.info.console {
            // SAFETY: this function's contract.
            unsafe { set_console(self.platform, location, Some(shared)) }
                .ok_or(Error::StartInfo("the console's page is not memory"))?;
        }
        self.own = Some(Own {
            shared,
            #[cfg(feature = "alloc")]
            store: self.info.store,
        });
        Ok(())
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
    // SAFETY: this function's contract.
    unsafe { add_to_physmap(hypercall, MapSpace::SHARED_INFO, 0, frame) }
        .map_err(asking("map the shared page"))
}

/// Makes the ring at a place that the toolstack told the kernel's console; none: the
/// place is no memory.
///
/// # Safety
/// The page there is shared with the console's daemon, and nothing else of this guest
/// uses it.
pub(crate) unsafe fn set_console(
    platform: Current,
    location: RingLocation,
    shared: Option<SharedPage>,
) -> Option<()> {
    let page: NonNull<XenconsInterface> = Pages::page_of(&platform, location.gfn)?.cast();
    // SAFETY: a whole page of the guest's, mapped for good; the rest is the
    // caller's promise.
    let page = unsafe { PeerPtr::new(page) };
    let port = PortRef::new(location.port, shared.map(|page| page.0));
    console::set_ring(platform, page, port);
    Some(())
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

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::memory::MemoryMap;
    use hypercall_abi::{Mfn, PAGE_SIZE, Port, xen::StartInfo};
    use mock_hypervisor::{Config, Domain};
    use std::boxed::Box;
    use zerocopy::FromZeros;

    /// Whoever can make a [`BootInfo`] can name any page in it.
    #[test]
    fn an_adopted_guest_writes_nowhere() {
        let domain: &'static Domain = Box::leak(Box::new(Domain::new(Config::default()).unwrap()));
        let page = domain.alloc(1).unwrap();
        let gfn = Pages::gfn_of(domain, page).unwrap();
        let mut start = StartInfo::new_zeroed();
        start.magic[..14].copy_from_slice(b"xen-3.0-x86_64");
        start.nr_pages = 1024;
        (start.console.mfn, start.console.evtchn) = (Mfn(gfn.0), Port(1));
        (start.store_mfn, start.store_evtchn) = (Mfn(gfn.0), Port(2));
        let map = Box::leak(Box::new(MemoryMap::empty()));
        let mut info = BootInfo::from_pv(Box::leak(Box::new(start)), None, map).unwrap();
        info.store = info.console;
        let guest: Guest = Guest::adopt(domain, info);
        assert_eq!(guest.boot_info().store.unwrap().gfn, gfn);
        assert!(matches!(guest.ports(), Err(Error::NotSupported(_))));
        assert!(matches!(guest.store(), Err(Error::NotSupported(_))));
        assert!(matches!(guest.bus(), Err(Error::NotSupported(_))));
        crate::println!("nobody's console");
        // SAFETY: nobody else has the page.
        let bytes = unsafe { page.cast::<[u8; PAGE_SIZE]>().read() };
        assert_eq!(bytes, [0; PAGE_SIZE]);
    }
}
