//! Boot information, independent of the boot protocol.

mod command_line;
pub(crate) mod taken;

use hypercall_abi::{
    Gfn, PAGE_SIZE, Port,
    hvm::{
        HvmMemmapTableEntry, HvmModlistEntry, HvmParam, HvmStartInfo, XEN_HVM_MEMMAP_TYPE_ACPI,
        XEN_HVM_MEMMAP_TYPE_RAM, XEN_HVM_START_MAGIC_VALUE, get_param,
    },
    platform::Hypercall,
    xen::{MAX_GUEST_CMDLINE, START_INFO_MAGIC_PREFIX, StartFlags, StartInfo},
};
use zerocopy::FromBytes;

use crate::{
    error::Error,
    memory::{MemoryKind, MemoryMap, MemoryRegion},
};

pub use command_line::CommandLine;

/// How this guest is virtualized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestType {
    /// Xen PV: the kernel asks Xen to change its page tables.
    Pv,
    /// Xen PVH: hardware virtualization, no emulated hardware.
    Pvh,
    /// No Xen: a plain machine that loads PVH images.
    Bare,
}

impl GuestType {
    /// The name, as in Xen's configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pv => "PV",
            Self::Pvh => "PVH",
            Self::Bare => "bare",
        }
    }
}

impl core::fmt::Display for GuestType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// A ring that the toolstack set up: its page and its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLocation {
    /// The page.
    pub gfn: Gfn,
    /// The port.
    pub port: Port,
}

/// The address of a PV guest's [`StartInfo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartInfoPlace(pub usize);

impl RingLocation {
    /// A PVH guest's console, by its parameters (`HVM_PARAM_CONSOLE_*`,
    /// `hvm/params.h`); none if Xen tells none.
    pub fn of_console<H: Hypercall + ?Sized>(h: &H) -> Option<Self> {
        Self::by_params(h, HvmParam::CONSOLE_PFN, HvmParam::CONSOLE_EVTCHN)
    }

    /// A PVH guest's store, by its parameters (`HVM_PARAM_STORE_*`); none if Xen
    /// tells none.
    pub fn of_store<H: Hypercall + ?Sized>(h: &H) -> Option<Self> {
        Self::by_params(h, HvmParam::STORE_PFN, HvmParam::STORE_EVTCHN)
    }

    fn by_params<H: Hypercall + ?Sized>(h: &H, pfn: HvmParam, port: HvmParam) -> Option<Self> {
        let gfn = get_param(h, pfn).ok().filter(|gfn| *gfn != 0)?;
        let port = get_param(h, port).ok().filter(|port| *port != 0)?;
        Some(Self {
            gfn: Gfn(gfn),
            port: Port(u32::try_from(port).ok()?),
        })
    }
}

/// The most modules that are kept.
const MAX_MODULES: usize = 16;

/// What the loader handed over.
#[derive(Clone, Debug)]
pub struct BootInfo {
    /// How this guest is virtualized.
    pub guest_type: GuestType,
    /// The command line; empty if there is none.
    pub command_line: CommandLine,
    /// The memory map, by physical (PV: pseudo-physical) address.
    pub memory_map: &'static MemoryMap,
    /// The console's ring.
    pub console: Option<RingLocation>,
    /// The store's ring.
    pub store: Option<RingLocation>,
    /// The address of ACPI's root pointer.
    pub rsdp_paddr: Option<u64>,
    /// Where Xen put a PV guest's start information (`start_info`, `xen.h`). To be
    /// read only; a suspend may change it.
    pub start_info: Option<StartInfoPlace>,
    modules: [&'static [u8]; MAX_MODULES],
    nr_modules: usize,
}

/// Memory that is populated and not in the map, of a guest that has less than its map says:
/// ACPI's tables, rings and the like, some ten pages, and room for more.
const OTHER_BYTES: u64 = 256 * PAGE_SIZE as u64;

/// The longest command line of a PVH guest that is looked at, with a NUL.
const MAX_COMMAND_LINE: usize = 4096;
/// The longest that a PV guest can be given: its field has a NUL at its end.
const MAX_PV_COMMAND_LINE: usize = MAX_GUEST_CMDLINE - 1;

/// A way from physical addresses to memory: `None` where there is none.
///
/// The loader may not lie about what it placed there, so the bytes do not
/// change while they are used.
pub trait PhysicalMemory {
    /// The `len_bytes` bytes from `paddr`.
    fn bytes(&self, paddr: u64, len_bytes: usize) -> Option<&'static [u8]>;
}

impl<F: Fn(u64, usize) -> Option<&'static [u8]>> PhysicalMemory for F {
    fn bytes(&self, paddr: u64, len_bytes: usize) -> Option<&'static [u8]> {
        self(paddr, len_bytes)
    }
}

impl BootInfo {
    /// Reads a PV guest's start information. `module` is what `mod_start` and
    /// `mod_len` lead to; `map` is where the memory map is kept.
    ///
    /// # Errors
    /// The magic is not a PV guest's, or there is no memory.
    pub fn from_pv(
        start: &'static StartInfo,
        module: Option<&'static [u8]>,
        map: &'static mut MemoryMap,
    ) -> Result<Self, Error> {
        if !start.magic.starts_with(START_INFO_MAGIC_PREFIX) {
            return Err(Error::StartInfo("the magic of start_info is wrong"));
        }
        let end = start
            .nr_pages
            .checked_mul(PAGE_SIZE as u64)
            .filter(|end| *end < 1 << 47)
            .ok_or(Error::StartInfo("start_info has an absurd number of pages"))?;
        map.set([MemoryRegion {
            start: 0,
            end,
            kind: MemoryKind::Ram,
        }])?;
        let initial = StartFlags::from_bits_retain(start.flags).contains(StartFlags::INITDOMAIN);
        let ring = |gfn: hypercall_abi::Mfn, port: Port| {
            (gfn.0 != 0 && port.0 != 0 && !initial).then(|| RingLocation {
                gfn: gfn.into(),
                port,
            })
        };
        let mut info = Self {
            guest_type: GuestType::Pv,
            command_line: CommandLine::until_nul(&start.cmd_line, MAX_PV_COMMAND_LINE),
            memory_map: map,
            console: ring(start.console.mfn, start.console.evtchn),
            store: ring(start.store_mfn, start.store_evtchn),
            rsdp_paddr: None,
            start_info: Some(StartInfoPlace(
                core::ptr::from_ref(start).expose_provenance(),
            )),
            modules: [&[]; MAX_MODULES],
            nr_modules: 0,
        };
        if let Some(module) = module {
            info.add_module(module);
        }
        Ok(info)
    }

    /// Reads a PVH guest's start information at `paddr`. `map` is where the memory map
    /// is kept. If it has more memory than `limit_bytes`, which are populated, only that
    /// much is used, less what is populated elsewhere: a guest may start with less memory
    /// than it may have later.
    ///
    /// # Errors
    /// Part of it lies outside memory, or beyond the limit, its magic is wrong, or there
    /// is no usable memory map.
    pub fn from_pvh(
        paddr: u64,
        memory: &impl PhysicalMemory,
        guest_type: GuestType,
        map: &'static mut MemoryMap,
        limit_bytes: u64,
    ) -> Result<Self, Error> {
        let start: HvmStartInfo =
            read(memory, paddr).ok_or(Error::StartInfo("hvm_start_info does not lie in memory"))?;
        if start.magic != XEN_HVM_START_MAGIC_VALUE {
            return Err(Error::StartInfo("the magic of hvm_start_info is wrong"));
        }
        if start.version == 0 || start.memmap_paddr == 0 || start.memmap_entries == 0 {
            return Err(Error::StartInfo(
                "hvm_start_info has no memory map (version 1 has one)",
            ));
        }
        let mut broken = false;
        let entries = (0..u64::from(start.memmap_entries).min(1 << 16)).map_while(|i| {
            let at = start
                .memmap_paddr
                .checked_add(i * size_of::<HvmMemmapTableEntry>() as u64);
            let entry = at.and_then(|at| read::<HvmMemmapTableEntry>(memory, at));
            broken |= entry.is_none();
            entry.map(|entry| MemoryRegion {
                start: entry.addr,
                end: entry.addr.saturating_add(entry.size),
                kind: match entry.r#type {
                    XEN_HVM_MEMMAP_TYPE_RAM => MemoryKind::Ram,
                    XEN_HVM_MEMMAP_TYPE_ACPI => MemoryKind::Acpi,
                    _ => MemoryKind::Reserved,
                },
            })
        });
        let in_order = map.set(entries);
        if broken {
            return Err(Error::StartInfo("the memory map does not lie in memory"));
        }
        in_order?;
        let line = command_line(memory, map, start.cmdline_paddr);
        if limit_bytes < map.ram_bytes() {
            map.limit_ram(limit_bytes.saturating_sub(OTHER_BYTES));
        }
        let mut info = Self {
            guest_type,
            command_line: line,
            memory_map: map,
            console: None,
            store: None,
            rsdp_paddr: (start.rsdp_paddr != 0).then_some(start.rsdp_paddr),
            start_info: None,
            modules: [&[]; MAX_MODULES],
            nr_modules: 0,
        };
        for i in 0..u64::from(start.nr_modules).min(MAX_MODULES as u64) {
            let module = start
                .modlist_paddr
                .checked_add(i * size_of::<HvmModlistEntry>() as u64)
                .and_then(|at| read::<HvmModlistEntry>(memory, at))
                // By the map, too: what is kept must be memory for good.
                .filter(|entry| entry.size <= ram_from(info.memory_map, entry.paddr))
                .and_then(|entry| memory.bytes(entry.paddr, usize::try_from(entry.size).ok()?))
                .ok_or(Error::StartInfo("a module does not lie in memory"))?;
            info.add_module(module);
        }
        Ok(info)
    }

    fn add_module(&mut self, module: &'static [u8]) {
        if let Some(slot) = self.modules.get_mut(self.nr_modules) {
            *slot = module;
            self.nr_modules += 1;
        }
    }

    /// The modules (the first is also called ramdisk).
    pub fn modules(&self) -> impl Iterator<Item = &'static [u8]> + '_ {
        self.modules.iter().take(self.nr_modules).copied()
    }
}

fn read<T: FromBytes>(memory: &impl PhysicalMemory, paddr: u64) -> Option<T> {
    T::read_from_bytes(memory.bytes(paddr, size_of::<T>())?).ok()
}

/// How many bytes of usable memory there are in a row from `paddr`.
fn ram_from(map: &MemoryMap, paddr: u64) -> u64 {
    map.ram()
        .find(|region| (region.start..region.end).contains(&paddr))
        .map_or(0, |region| region.end - paddr)
}

/// Below this address firmware may keep a line in what the map does not call memory:
/// QEMU's does on a microvm.
const FIRMWARE_END: u64 = 1 << 20;

fn command_line(memory: &impl PhysicalMemory, map: &MemoryMap, paddr: u64) -> CommandLine {
    if paddr == 0 {
        return CommandLine::default();
    }
    let room = match ram_from(map, paddr) {
        0 => FIRMWARE_END.saturating_sub(paddr),
        in_ram => in_ram,
    };
    let most = usize::try_from(room).map_or(MAX_COMMAND_LINE, |len| len.min(MAX_COMMAND_LINE));
    // Memory may end soon after a line: as much as can be read.
    let mut place: &[u8] = &[];
    let mut step = MAX_COMMAND_LINE;
    while step > 0 {
        let len = place.len() + step;
        if len <= most
            && let Some(bytes) = memory.bytes(paddr, len)
        {
            place = bytes;
        }
        step /= 2;
    }
    if place.is_empty() {
        return CommandLine::default();
    }
    CommandLine::until_nul(place, MAX_COMMAND_LINE)
}

/// The memory map of the guest that this image is.
static BOOT_MAP: spin::Mutex<MemoryMap> = spin::Mutex::new(MemoryMap::empty());

/// Where boot keeps the memory map: its stack has no room for copies.
///
/// # Errors
/// The guest was started before.
pub(crate) fn boot_map() -> Result<&'static mut MemoryMap, Error> {
    let map = BOOT_MAP.try_lock().map(spin::MutexGuard::leak);
    map.ok_or(Error::Failed("a guest starts once"))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use hypercall_abi::Mfn;
    use std::{boxed::Box, vec, vec::Vec};
    use zerocopy::{FromZeros, IntoBytes};

    fn place() -> &'static mut MemoryMap {
        Box::leak(Box::new(MemoryMap::empty()))
    }

    fn pv(change: impl FnOnce(&mut StartInfo)) -> Result<BootInfo, Error> {
        let mut start = StartInfo::new_zeroed();
        start.magic[..14].copy_from_slice(b"xen-3.0-x86_64");
        start.nr_pages = 1024;
        start.console.mfn = Mfn(7);
        start.console.evtchn = Port(2);
        start.cmd_line[..5].copy_from_slice(b"a=b c");
        change(&mut start);
        BootInfo::from_pv(Box::leak(Box::new(start)), None, place())
    }

    #[test]
    fn a_pv_start_info_is_read() {
        let info = pv(|_| ()).unwrap();
        assert_eq!(info.command_line.as_bytes(), b"a=b c");
        assert_eq!(info.memory_map.ram_bytes(), 4 << 20);
        assert_eq!(info.console.unwrap().gfn, Gfn(7));
        assert_eq!(info.store, None);
    }

    #[test]
    fn bad_pv_start_infos_are_refused() {
        assert!(matches!(pv(|s| s.magic[0] = 0), Err(Error::StartInfo(_))));
        assert!(matches!(pv(|s| s.nr_pages = 0), Err(Error::MemoryMap(_))));
        assert!(matches!(
            pv(|s| s.nr_pages = u64::MAX),
            Err(Error::StartInfo(_))
        ));
        assert_eq!(pv(|s| s.console.mfn = Mfn(0)).unwrap().console, None);
    }

    #[test]
    fn a_command_line_is_not_lost() {
        let line = |cut: usize| {
            let info = pv(|s| {
                s.cmd_line = [b'x'; 1024];
                s.cmd_line[5] = 0xff;
                s.cmd_line[cut..].fill(0);
            });
            info.unwrap().command_line
        };
        assert_eq!(line(1023).as_bytes().len(), 1023);
        assert!(line(1023).is_truncated() && !line(1022).is_truncated());
        assert_eq!(line(7).as_bytes(), b"xxxxx\xffx");
        // A field without an end.
        let info = pv(|s| s.cmd_line = [0xff; 1024]).unwrap();
        assert_eq!(info.command_line.as_bytes(), [0xff; 1024]);
    }

    /// A physical memory in which PVH's structures lie at 0x100.
    fn pvh_memory(change: impl FnOnce(&mut HvmStartInfo)) -> Vec<u8> {
        let mut memory = vec![0; 0x1000];
        let mut start = HvmStartInfo::new_zeroed();
        start.magic = XEN_HVM_START_MAGIC_VALUE;
        start.version = 1;
        start.nr_modules = 1;
        start.modlist_paddr = 0x200;
        start.cmdline_paddr = 0x300;
        start.memmap_paddr = 0x400;
        start.memmap_entries = 2;
        change(&mut start);
        memory[0x100..0x138].copy_from_slice(start.as_bytes());
        let module = HvmModlistEntry {
            paddr: 0x500,
            size: 3,
            cmdline_paddr: 0,
            reserved: 0,
        };
        memory[0x200..0x220].copy_from_slice(module.as_bytes());
        memory[0x300..0x305].copy_from_slice(b"quiet");
        let entries = [(0, 0x8_0000, 1), (0x4_0000, 0x1000, 2)].map(|(addr, size, r#type)| {
            HvmMemmapTableEntry {
                addr,
                size,
                r#type,
                reserved: 0,
            }
        });
        memory[0x400..0x430].copy_from_slice(entries.as_bytes());
        memory[0x500..0x503].copy_from_slice(b"mod");
        memory
    }

    fn pvh(change: impl FnOnce(&mut HvmStartInfo)) -> Result<BootInfo, Error> {
        from_memory(pvh_memory(change))
    }

    fn from_memory(memory: Vec<u8>) -> Result<BootInfo, Error> {
        let memory: &'static [u8] = Vec::leak(memory);
        let physical = move |paddr: u64, len: usize| {
            let start = usize::try_from(paddr).ok()?;
            memory.get(start..start.checked_add(len)?)
        };
        BootInfo::from_pvh(0x100, &physical, GuestType::Pvh, place(), u64::MAX)
    }

    #[test]
    fn a_pvh_start_info_is_read() {
        let info = pvh(|_| ()).unwrap();
        assert_eq!(info.command_line.as_bytes(), b"quiet");
        assert!(!info.command_line.is_truncated());
        assert_eq!(info.memory_map.ram_bytes(), 0x7_f000);
        assert!(info.modules().eq([b"mod".as_slice()]));
    }

    /// The loader's bytes are there; what the map does not call memory is not kept.
    #[test]
    fn a_module_lies_in_memory_by_the_map() {
        let place = |paddr: u64, size: u64| {
            let start = pvh_memory(|_| ());
            // What the reserved page holds can be read now.
            let mut memory = vec![0; 0x4_2000];
            memory[..start.len()].copy_from_slice(&start);
            memory[0x200..0x208].copy_from_slice(&paddr.to_le_bytes());
            memory[0x208..0x210].copy_from_slice(&size.to_le_bytes());
            from_memory(memory).map(|info| info.modules().map(<[u8]>::len).sum())
        };
        assert_eq!(place(0x3_f000, 0x1000), Ok(0x1000));
        assert_eq!(place(0x4_1000, 0x1000), Ok(0x1000));
        let bad = Err(Error::StartInfo("a module does not lie in memory"));
        for (paddr, size) in [
            (0x3_f000, 0x1001),
            (0x4_0000, 1),
            (0x3_f000, 0x3000),
            (0x8_0000, 1),
            (u64::MAX, 2),
            (0x1000, u64::MAX),
        ] {
            assert_eq!(place(paddr, size), bad, "{paddr:#x} {size:#x}");
        }
    }

    #[test]
    fn what_of_a_line_is_not_read_is_told() {
        // A line of x, in a memory that ends so many bytes behind its start.
        let line = |len: usize, room: usize| {
            let mut memory = pvh_memory(|start| start.cmdline_paddr = 0x2000);
            memory.resize(0x2000 + room, 0);
            memory[0x2000..0x2000 + len].fill(b'x');
            let line = from_memory(memory).unwrap().command_line;
            (line.as_bytes().len(), line.is_truncated())
        };
        assert_eq!(line(4095, 5000), (4095, false));
        assert_eq!(line(4096, 5000), (4096, true));
        assert_eq!(line(4999, 5000), (4096, true));
        // Where memory ends less is read at a time.
        assert_eq!(line(2000, 3000), (2000, false));
        assert_eq!(line(2999, 3000), (2999, false));
        assert_eq!(line(3000, 3000), (3000, true));
        assert_eq!(line(5, 7), (5, false));
    }

    #[test]
    fn firmware_may_keep_the_line_outside_of_memory() {
        let line = |paddr: u64| {
            let mut memory = pvh_memory(|start| start.cmdline_paddr = paddr);
            memory.resize(0x20_0000, 0);
            memory[paddr as usize..][..8].copy_from_slice(b"firmware");
            from_memory(memory).unwrap().command_line
        };
        // Reserved, and in no region of the map.
        assert_eq!(line(0x4_0800).as_bytes(), b"firmware");
        assert_eq!(line(0xe_ff70).as_bytes(), b"firmware");
        assert_eq!(line(0xf_fffc).as_bytes(), b"firm");
        assert!(line(0xf_fffc).is_truncated());
        assert_eq!(line(0x10_0000), CommandLine::default());
    }

    #[test]
    fn bad_pvh_start_infos_are_refused() {
        for change in [
            (|s| s.magic = 0) as fn(&mut HvmStartInfo),
            |s| s.version = 0,
            |s| s.memmap_paddr = 0,
            |s| s.memmap_entries = 0,
            |s| s.memmap_entries = u32::MAX,
            |s| s.memmap_paddr = u64::MAX - 8,
            |s| s.modlist_paddr = 0x0fff,
            |s| s.modlist_paddr = u64::MAX,
        ] {
            assert!(matches!(pvh(change), Err(Error::StartInfo(_))));
        }
        for cmdline_paddr in [0, 0x4_0000, u64::MAX] {
            let info = pvh(|s| s.cmdline_paddr = cmdline_paddr).unwrap();
            assert_eq!(info.command_line, CommandLine::default());
        }
        assert!(
            BootInfo::from_pvh(u64::MAX, &|_, _| None, GuestType::Bare, place(), u64::MAX).is_err()
        );
    }
}
