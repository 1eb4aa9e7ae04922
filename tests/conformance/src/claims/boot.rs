//! What a guest finds at its start: registers, its start information, memory.
//!
//! Registers are those that an entry of `spoil.S` noted.

use core::ptr::NonNull;

use hypercall_abi::{
    Gfn, PAGE_SIZE, Port,
    event_channel::{self, ChannelStatus},
    memory, peer_field,
    platform::Pages,
    xen::{SharedInfo, StartInfo, VcpuInfo},
};
use pv_guest::{Guest, memory::MemoryKind};

use crate::claim::{
    Group, Stop, Verdict, claims, ensure, everywhere, on_pv, on_pvh, on_xen, same, with_privileges,
};

pub(super) const GROUP: Group = Group {
    name: "boot",
    claims: claims! {
        on_pv(the_magic_tells_the_abi): "xen.h: start_info, magic",
        on_pv(a_register_leads_to_start_info): "xen.h: start-of-day memory layout, 3d",
        on_pv(the_store_and_the_console_follow): "xen.h: start-of-day memory layout, 3e and 3f",
        on_pv(the_first_pages_are_in_their_order): "xen.h: start-of-day memory layout, 3",
        on_pv(there_is_room_behind_the_stack): "xen.h: start-of-day memory layout, 7",
        on_pv(the_tables_are_those_of_the_register): "xen.h: start_info, pt_base",
        on_pv(the_segments_are_flat): "arch-x86/xen-x86_64.h: FLAT_KERNEL_CS",
        on_pv(each_page_has_a_frame_of_its_own): "xen.h: start_info, mfn_list",
        on_pv(the_last_page_is_there): "xen.h: start_info, nr_pages",
        on_pv(a_guest_is_not_the_initial_domain): "xen.h: start_info, flags",
        on_pv(the_shared_page_begins_on_a_page): "xen.h: start_info, shared_info",
        on_pvh(the_magic_is_that_of_pvh): "hvm/start_info.h: magic",
        on_pvh(there_is_a_memory_map): "hvm/start_info.h: memmap_paddr",
        on_pvh(paging_is_off_and_protection_on): "docs/misc/pvh.pandoc: cr0 and cr4",
        on_pvh(interrupts_and_steps_are_off): "docs/misc/pvh.pandoc: eflags",
        on_pvh(segments_are_there): "docs/misc/pvh.pandoc: cs, ds, es, ss and tr",
        on_pvh(the_root_of_acpi_is_there): "hvm/start_info.h: rsdp_paddr",
        on_pvh(special_pages_are_no_memory): "hvm/params.h: HVM_PARAM_CONSOLE_PFN",
        on_pv(upcalls_are_held_back_at_the_start): "xen.h: vcpu_info, evtchn_upcall_mask",
        on_xen(the_console_and_the_store_have_ports): "xen.h: start_info; hvm/params.h",
        on_xen(the_pages_of_rings_are_given_to_nobody): "xen.h: start_info, console and store_mfn",
        everywhere(memory_has_an_order): "hvm/start_info.h: hvm_memmap_table_entry",
        everywhere(the_command_line_is_a_text): "xen.h: start_info, cmd_line",
        everywhere(fresh_memory_can_be_used_to_its_end): "xen.h: start-of-day memory layout, 6",
    },
};

/// What `spoil.S` noted.
#[derive(Clone, Copy)]
#[repr(C)]
struct Witness {
    /// 0: nothing; 1: at the PV entry; 2: at PVH's.
    entry: u64,
    /// `rsi`, or `ebx`.
    start_info: u64,
    rsp: u64,
    flags: u64,
    cs: u64,
    ss: u64,
    ds: u64,
    es: u64,
    cr0: u64,
    cr3: u64,
    cr4: u64,
    tr: u64,
    /// `struct hvm_start_info`.
    pvh: [u64; 7],
    /// What its `rsdp_paddr` leads to.
    rsdp: [u8; 8],
}

#[cfg(target_os = "none")]
fn witness() -> Result<Witness, Stop> {
    unsafe extern "C" {
        static boot_witness: Witness;
    }
    // SAFETY: written before this kernel's first function, and never again.
    let witness = unsafe { (&raw const boot_witness).read_volatile() };
    if witness.entry == 0 {
        return Err(Stop::Skipped(
            "no registers were noted: --corrupt-boot-info witness notes them".into(),
        ));
    }
    Ok(witness)
}

#[cfg(not(target_os = "none"))]
fn witness() -> Result<Witness, Stop> {
    Err(Stop::Skipped(
        "a process starts with the registers of its host".into(),
    ))
}

/// Where it lies, and what it says.
fn start_info(guest: &Guest) -> Result<(u64, StartInfo), Stop> {
    let place = guest.boot_info().start_info.ok_or("there is none")?;
    let start = core::ptr::with_exposed_provenance::<StartInfo>(place.0);
    // SAFETY: Xen put it there, and nobody changes it now.
    Ok((place.0 as u64, unsafe { start.read() }))
}

const PAGE: u64 = PAGE_SIZE as u64;

fn the_magic_tells_the_abi(guest: &Guest) -> Verdict {
    let magic = start_info(guest)?.1.magic;
    let text = magic.split(|byte| *byte == 0).next().unwrap_or(&[]);
    same(text, b"xen-3.0-x86_64")
}

fn a_register_leads_to_start_info(guest: &Guest) -> Verdict {
    same(witness()?.start_info, start_info(guest)?.0)
}

/// Page by page.
fn the_store_and_the_console_follow(guest: &Guest) -> Verdict {
    let (address, start) = start_info(guest)?;
    let page = |gfn: Gfn| {
        let page = guest.platform().page_of(gfn);
        page.map_or(0, |page| page.addr().get() as u64)
    };
    same(page(start.store_mfn.into()), address + PAGE)?;
    same(page(start.console.mfn.into()), address + 2 * PAGE)
}

/// List of frames, start information, tables, stack; all mapped in a row.
fn the_first_pages_are_in_their_order(guest: &Guest) -> Verdict {
    let witness = witness()?;
    let (address, start) = start_info(guest)?;
    let list_end = start.mfn_list + start.nr_pages * 8;
    ensure(list_end <= address, "the list of frames is not first")?;
    ensure(address - list_end < PAGE, "there is a gap behind the list")?;
    same(start.pt_base, address + 3 * PAGE)?;
    let stack = start.pt_base + start.nr_pt_frames * PAGE;
    same(witness.rsp, stack + PAGE)
}

/// 512 KiB that are mapped.
fn there_is_room_behind_the_stack(guest: &Guest) -> Verdict {
    const ROOM: u64 = 512 << 10;
    const BIG: u64 = 4 << 20;
    const TABLE_REACH: u64 = 512 * PAGE;
    let (witness, (_, start)) = (witness()?, start_info(guest)?);
    // The region ends with 4 MiB; each of its lowest tables maps 2 MiB, and
    // there are three above those.
    let end = (witness.rsp + ROOM).next_multiple_of(BIG);
    let base = start.mfn_list & !(BIG - 1);
    let least = (end - base) / TABLE_REACH;
    ensure(
        start.nr_pt_frames >= least,
        "the tables do not reach so far",
    )?;
    ensure(
        guest.memory_bytes() >= witness.rsp + ROOM - base,
        "it is not memory",
    )
}

fn the_tables_are_those_of_the_register(guest: &Guest) -> Verdict {
    let (witness, (_, start)) = (witness()?, start_info(guest)?);
    let table = core::ptr::with_exposed_provenance_mut(start.pt_base as usize);
    let table = NonNull::new(table).ok_or("they are at 0")?;
    let gfn = guest.platform().gfn_of(table).ok_or("they are no memory")?;
    same(witness.cr3 & !(PAGE - 1), gfn.0 * PAGE)
}

fn the_segments_are_flat(guest: &Guest) -> Verdict {
    with_privileges(guest, segments_are_flat)
}

fn segments_are_flat(_: &Guest) -> Verdict {
    const KERNEL_CODE: u64 = 0xe033;
    const KERNEL_DATA: u64 = 0xe02b;
    let witness = witness()?;
    same((witness.cs, witness.ss), (KERNEL_CODE, KERNEL_DATA))?;
    // In 64-bit mode these say nothing: none, or the same as for the stack.
    for segment in [witness.ds, witness.es] {
        ensure(
            [0, KERNEL_DATA].contains(&segment),
            "another segment for data",
        )?;
    }
    Ok(())
}

/// And Xen's own table leads back.
fn each_page_has_a_frame_of_its_own(guest: &Guest) -> Verdict {
    let (address, _) = start_info(guest)?;
    let platform = guest.platform();
    for index in 0..4 {
        let place = core::ptr::with_exposed_provenance_mut(address as usize + index * PAGE_SIZE);
        let page = NonNull::new(place).ok_or("a page at 0")?;
        let gfn = platform.gfn_of(page).ok_or("a page without a frame")?;
        same(platform.page_of(gfn), Some(page))?;
    }
    Ok(())
}

/// The list of frames ends with it, and it leads back to its place in the list.
fn the_last_page_is_there(guest: &Guest) -> Verdict {
    let (_, start) = start_info(guest)?;
    let platform = guest.platform();
    same(start.nr_pages * PAGE, guest.memory_bytes())?;
    ensure(
        start.nr_pages <= memory::maximum_reservation(platform)? as u64,
        "there are more than it may have",
    )?;
    if start.mfn_list == 0 {
        return Ok(());
    }
    let list = core::ptr::with_exposed_provenance::<u64>(start.mfn_list as usize);
    let last = start.nr_pages as usize - 1;
    // SAFETY: the list has so many words; it is there for good.
    let frames = [0, last].map(|index| unsafe { list.wrapping_add(index).read_volatile() });
    let [Some(first), Some(end)] = frames.map(|mfn| platform.page_of(Gfn(mfn))) else {
        return Err("a frame that leads nowhere".into());
    };
    same(
        platform.gfn_of(end).map(|gfn| gfn.0),
        frames.get(1).copied(),
    )?;
    // SAFETY: a page of this guest's, which whoever has it only reads or writes.
    let _mapped = unsafe { end.cast::<u64>().read_volatile() };
    same(end.addr().get() - first.addr().get(), last * PAGE_SIZE)
}

fn a_guest_is_not_the_initial_domain(guest: &Guest) -> Verdict {
    same(start_info(guest)?.1.flags & 0b11, 0)
}

fn the_shared_page_begins_on_a_page(guest: &Guest) -> Verdict {
    let shared = start_info(guest)?.1.shared_info;
    ensure(shared != 0 && shared.is_multiple_of(PAGE), "it does not")
}

/// Words of `struct hvm_start_info`, by their offset in bytes.
fn half(witness: &Witness, offset: usize) -> u32 {
    let word = witness.pvh.get(offset / 8).copied().unwrap_or(0);
    (word >> (offset % 8 * 8)) as u32
}

fn the_magic_is_that_of_pvh(_: &Guest) -> Verdict {
    same(half(&witness()?, 0), 0x336e_c578)
}

/// From version 1 on; the list of modules is there if there are any.
fn there_is_a_memory_map(_: &Guest) -> Verdict {
    let witness = witness()?;
    ensure(half(&witness, 4) >= 1, "version 0")?;
    let [_, _, modules, _, _, map, _] = witness.pvh;
    ensure(map != 0 && half(&witness, 48) > 0, "no memory map")?;
    ensure(
        (half(&witness, 12) == 0) || modules != 0,
        "modules are nowhere",
    )?;
    same(half(&witness, 52), 0)
}

/// Bit 4 of cr0 cannot be cleared.
fn paging_is_off_and_protection_on(_: &Guest) -> Verdict {
    const ALWAYS: u64 = 1 << 4;
    let witness = witness()?;
    same((witness.cr0 & !ALWAYS, witness.cr4), (1, 0))
}

fn interrupts_and_steps_are_off(_: &Guest) -> Verdict {
    const STEP: u64 = 1 << 8;
    const INTERRUPTS: u64 = 1 << 9;
    const VIRTUAL_8086: u64 = 1 << 17;
    same(witness()?.flags & (STEP | INTERRUPTS | VIRTUAL_8086), 0)
}

/// Their selectors may be any. The entry wrote by each of them, at the addresses that
/// it meant: by `ds` and `es` the copy of the start information, by `ss` the flags, of
/// which one is always set. What they lead to is where this kernel, which has segments of
/// its own by now, finds it, too.
fn segments_are_there(guest: &Guest) -> Verdict {
    const ALWAYS: u64 = 1 << 1;
    let witness = witness()?;
    same(half(&witness, 0), 0x336e_c578)?;
    same(witness.flags & ALWAYS, ALWAYS)?;
    let map = guest.boot_info().memory_map;
    ensure(
        map.iter().any(|range| {
            (range.start..range.end.saturating_sub(size_of_val(&witness.pvh) as u64))
                .contains(&witness.start_info)
        }),
        "the start information is nowhere in memory",
    )?;
    let [_, _, _, _, _, map_at, _] = witness.pvh;
    ensure(
        map.iter()
            .any(|range| (range.start..range.end).contains(&map_at)),
        "the memory map is nowhere in memory",
    )
}

fn the_root_of_acpi_is_there(guest: &Guest) -> Verdict {
    let witness = witness()?;
    ensure(guest.boot_info().rsdp_paddr.is_some(), "it is not told")?;
    same(&witness.rsdp, b"RSD PTR ")
}

/// The console's and the store's pages are not in the map, or reserved there.
fn special_pages_are_no_memory(guest: &Guest) -> Verdict {
    let info = guest.boot_info();
    for ring in [info.console, info.store].into_iter().flatten() {
        let at = ring.gfn.0 * PAGE;
        let mut ram = info.memory_map.ram();
        ensure(
            !ram.any(|range| (range.start..range.end).contains(&at)),
            "one is memory",
        )?;
    }
    Ok(())
}

/// Those of the last of the page, which nobody has let through.
fn upcalls_are_held_back_at_the_start(guest: &Guest) -> Verdict {
    // SAFETY: it is only read.
    let shared = unsafe { guest.shared_info() }.ok_or("no shared page")?;
    let last = peer_field!(shared, SharedInfo, vcpu_info).get(31);
    let mask = peer_field!(last.ok_or("no words")?, VcpuInfo, evtchn_upcall_mask);
    same(mask.load_acquire().trust(), 1)
}

fn the_console_and_the_store_have_ports(guest: &Guest) -> Verdict {
    let info = guest.boot_info();
    let (Some(console), Some(store)) = (info.console, info.store) else {
        return Err("one is missing".into());
    };
    ensure(
        console.port != store.port && console.gfn != store.gfn,
        "they are one",
    )?;
    for port in [console.port, store.port] {
        ensure(port != Port(0), "it is no port")?;
        let told = event_channel::status(guest.platform(), port)?;
        same(told.status, ChannelStatus::INTERDOMAIN)?;
        same(
            told.interdomain().map(|peer| peer.dom),
            Some(hypercall_abi::DomId(0)),
        )?;
    }
    Ok(())
}

/// Of all the memory that can be had, no page is a ring's.
fn the_pages_of_rings_are_given_to_nobody(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let info = guest.boot_info();
    let rings = [info.console, info.store].map(|ring| ring.map(|ring| ring.gfn));
    let mut given = 0;
    // Each page leads to the one before: there is no memory for anything else.
    let mut last: Option<NonNull<u8>> = None;
    while let Some(page) = platform.alloc(1) {
        let frame = platform.gfn_of(page);
        given += u32::from(frame.is_some() && rings.contains(&frame));
        // SAFETY: a fresh page that nobody else has.
        unsafe { page.cast().write(last) };
        last = Some(page);
    }
    while let Some(page) = last {
        // SAFETY: written above.
        last = unsafe { page.cast().read() };
        // SAFETY: allocated above, and used by nobody.
        unsafe { platform.free(page, 1) };
    }
    same(given, 0)
}

/// Ranges in a row, none in another.
fn memory_has_an_order(guest: &Guest) -> Verdict {
    let map = guest.boot_info().memory_map;
    let mut end = 0;
    let mut ram = 0;
    for range in map.iter() {
        ensure(range.start >= end && range.end > range.start, "it has not")?;
        end = range.end;
        if range.kind == MemoryKind::Ram {
            ram += range.end - range.start;
        }
    }
    // Of which whole pages count.
    let (whole, ranges) = (guest.memory_bytes(), map.iter().count() as u64);
    ensure(
        whole <= ram && ram - whole <= 2 * ranges * PAGE,
        "the sum is wrong",
    )?;
    ensure(ram > 1 << 20, "less than a MiB")
}

fn the_command_line_is_a_text(guest: &Guest) -> Verdict {
    ensure(
        guest.command_line().chars().all(|c| !c.is_control()),
        "there is something else in it",
    )?;
    match start_info(guest) {
        Ok((_, start)) => ensure(start.cmd_line.contains(&0), "it has no end"),
        Err(_) => Ok(()),
    }
}

fn fresh_memory_can_be_used_to_its_end(guest: &Guest) -> Verdict {
    const PAGES: usize = 64;
    let platform = guest.platform();
    let first = platform.alloc(PAGES).ok_or("no memory")?;
    // SAFETY: fresh pages that nobody else has, zeroed.
    let words = unsafe { core::slice::from_raw_parts_mut(first.cast().as_ptr(), PAGES * 512) };
    for (index, word) in words.iter_mut().enumerate() {
        *word = index as u64;
    }
    let words: &[u64] = core::hint::black_box(words);
    let good = words
        .iter()
        .enumerate()
        .all(|(index, word)| *word == index as u64);
    // SAFETY: allocated above, and used by nobody any more.
    unsafe { platform.free(first, PAGES) };
    ensure(good, "it does not keep what is written")
}
