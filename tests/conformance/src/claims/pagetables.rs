//! Page tables of PV guests: Xen alone writes them, after a look at each entry.
//! The rules are those of `xen.h` (`mmu_update`, `mmuext_op`), and that nobody may
//! write a table.

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use hypercall_abi::{
    DomId, Errno, HypercallNr, Mfn, PAGE_SIZE,
    memory::{self, MemoryExchange, MemoryReservation},
    platform::{Hypercall, Pages},
    version,
    xen::{
        VmAssist,
        mmu::{self, Flush, Level, MmuUpdate, MmuextOp},
        vm_assist,
    },
};
use pv_guest::{Current, Guest};

use crate::{
    claim::{Group, Stop, Verdict, claims, ensure, on_processor, on_pv, refused, same},
    probe::{self, Then},
};

pub(super) const GROUP: Group = Group {
    name: "pagetables",
    claims: claims! {
        on_pv(a_read_only_page_takes_no_answer): "xen.h: update_va_mapping",
        on_pv(a_page_that_is_not_mapped_is_efault): "xen.h: update_va_mapping",
        on_pv(one_frame_is_seen_at_two_addresses): "xen.h: update_va_mapping",
        on_pv(an_address_of_xens_cannot_be_mapped): "xen.h: update_va_mapping",
        on_pv(a_frame_that_is_not_there_cannot_be_mapped): "xen.h: update_va_mapping",
        on_pv(a_writable_page_is_no_table): "xen.h: MMUEXT_PIN_L1_TABLE",
        on_pv(a_read_only_page_can_be_a_table): "xen.h: MMUEXT_PIN_L1_TABLE",
        on_pv(a_table_is_pinned_once): "xen.h: MMUEXT_PIN_L1_TABLE",
        on_pv(what_is_not_pinned_cannot_be_unpinned): "xen.h: MMUEXT_UNPIN_TABLE",
        on_pv(a_table_is_not_mapped_writable): "xen.h: update_va_mapping",
        on_pv(a_table_has_one_level): "xen.h: MMUEXT_PIN_L2_TABLE",
        on_pv(a_table_that_was_unpinned_is_a_page): "xen.h: MMUEXT_UNPIN_TABLE",
        on_pv(entries_are_written_as_asked): "xen.h: MMU_NORMAL_PT_UPDATE",
        on_pv(entries_of_pages_that_are_no_tables_are_written): "xen.h: MMU_NORMAL_PT_UPDATE",
        on_pv(a_list_ends_at_its_first_bad_update): "xen.h: mmu_update, success_count",
        on_pv(a_list_ends_at_its_first_bad_operation): "xen.h: mmuext_op, success_count",
        on_pv(an_entry_does_not_map_its_table_writable): "xen.h: MMU_NORMAL_PT_UPDATE",
        on_pv(an_entry_maps_no_frame_that_is_not_there): "xen.h: MMU_NORMAL_PT_UPDATE",
        on_pv(a_table_with_a_bad_entry_is_refused): "xen.h: MMUEXT_PIN_L1_TABLE",
        on_pv(accessed_and_dirty_bits_can_be_kept): "xen.h: MMU_PT_UPDATE_PRESERVE_AD",
        on_pv(a_second_level_takes_first_levels): "xen.h: MMUEXT_PIN_L2_TABLE",
        on_pv(a_second_level_takes_no_writable_page): "xen.h: MMUEXT_PIN_L2_TABLE",
        on_pv(a_second_level_takes_no_large_page): "xen.h: MMUEXT_PIN_L2_TABLE",
        on_pv(four_levels_are_checked_at_once): "xen.h: MMUEXT_PIN_L4_TABLE",
        on_pv(a_top_table_may_map_itself_read_only): "xen.h: MMUEXT_PIN_L4_TABLE",
        on_pv(a_top_table_may_not_map_itself_writable): "XSA-182",
        on_pv(a_table_below_a_pinned_one_stays_one): "xen.h: MMUEXT_UNPIN_TABLE",
        on_pv(a_page_can_be_cleared): "xen.h: MMUEXT_CLEAR_PAGE",
        on_pv(a_page_can_be_copied): "xen.h: MMUEXT_COPY_PAGE",
        on_pv(a_table_cannot_be_cleared): "xen.h: MMUEXT_CLEAR_PAGE",
        on_pv(a_table_cannot_be_copied_over): "xen.h: MMUEXT_COPY_PAGE",
        on_pv(a_page_that_is_unmapped_can_be_a_table): "xen.h: update_va_mapping",
        on_pv(the_machines_table_takes_what_it_is_told): "xen.h: MMU_MACHPHYS_UPDATE",
        on_pv(a_mapped_frame_is_not_given_back_yet): "memory.h: XENMEM_decrease_reservation",
        on_pv(frames_can_be_exchanged): "memory.h: XENMEM_exchange",
        on_pv(a_table_is_written_as_memory_if_that_is_asked_for): "xen.h: VMASST_TYPE_writable_pagetables",
        on_pv(another_domains_tables_are_out_of_reach): "xen.h: mmu_update, foreigndom",
    },
};

/// Bits of an entry.
const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
/// Xen sets it in entries of pages that user mode may use: they are the same in
/// both of the guest's modes.
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const READ_ONLY: u64 = PRESENT | USER | ACCESSED | NO_EXECUTE;
const READ_WRITE: u64 = READ_ONLY | WRITE | DIRTY;
/// An entry of a higher table.
const TABLE: u64 = PRESENT | WRITE | USER | ACCESSED;
/// Beyond all memory, and within what an entry can say.
const NOWHERE: Mfn = Mfn(1 << 35);

const fn entry(mfn: Mfn, flags: u64) -> u64 {
    (mfn.0 * PAGE_SIZE as u64) | flags
}

/// A page of the guest's, mapped as usual when it is dropped.
struct Frame<'p> {
    platform: &'p Current,
    page: NonNull<u8>,
    mfn: Mfn,
}

impl<'p> Frame<'p> {
    fn new(guest: &'p Guest) -> Result<Self, Stop> {
        let platform = guest.platform();
        let page = platform.alloc(1).ok_or("no page")?;
        // A PV guest's frames are the machine's.
        let mfn = Mfn(platform.gfn_of(page).ok_or("no frame")?.0);
        Ok(Self {
            platform,
            page,
            mfn,
        })
    }

    /// A page of entries, which nobody may write.
    fn table(guest: &'p Guest, entries: &[(usize, u64)]) -> Result<Self, Stop> {
        let frame = Self::new(guest)?;
        for (index, value) in entries {
            frame.set_word(*index, *value);
        }
        frame.map(entry(frame.mfn, READ_ONLY))?;
        Ok(frame)
    }

    /// Writes the entry for its address.
    fn map(&self, entry: u64) -> Result<(), Errno> {
        let va = self.page.addr().get();
        // SAFETY: no reference leads to the page.
        unsafe { mmu::update_va_mapping(self.platform, va, entry, Flush::PageEverywhere) }
    }

    fn place(&self, index: usize) -> *mut u64 {
        self.page.as_ptr().cast::<u64>().wrapping_add(index & 511)
    }

    fn word(&self, index: usize) -> u64 {
        // SAFETY: a page of ours that can be read.
        unsafe { self.place(index).read_volatile() }
    }

    /// An entry, without what Xen adds.
    fn entry(&self, index: usize) -> u64 {
        self.word(index) & !GLOBAL
    }

    fn set_word(&self, index: usize, value: u64) {
        // SAFETY: a page of ours that can be written.
        unsafe { self.place(index).write_volatile(value) };
    }

    /// Whether Xen could write an answer there.
    fn takes_an_answer(&self) -> Result<(), Errno> {
        let address = self.page.addr().get();
        let op = version::XENVER_EXTRAVERSION;
        // SAFETY: a page of ours.
        let answer = unsafe { self.platform.call2(HypercallNr::XEN_VERSION, op, address) };
        Errno::check(answer).map(|_| ())
    }

    fn do_op(&self, op: MmuextOp) -> Result<(), Errno> {
        ops(self.platform, &[op]).0
    }

    fn pin(&self, level: Level) -> Result<(), Errno> {
        self.do_op(MmuextOp::pin(level, self.mfn))
    }

    fn unpin(&self) -> Result<(), Errno> {
        self.do_op(MmuextOp::unpin(self.mfn))
    }

    fn update(&self, index: usize, value: u64, how: u64) -> MmuUpdate {
        MmuUpdate {
            ptr: (self.mfn.0 * PAGE_SIZE as u64 + index as u64 * 8) | how,
            val: value,
        }
    }

    fn write(&self, index: usize, value: u64) -> Result<(), Errno> {
        updates(
            self.platform,
            &[self.update(index, value, mmu::MMU_NORMAL_PT_UPDATE)],
        )
        .0
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        let _not_pinned = self.unpin();
        if self.map(entry(self.mfn, READ_WRITE)).is_ok() {
            // SAFETY: a page of ours, mapped as it was.
            unsafe { self.platform.free(self.page, 1) };
        }
    }
}

fn ops(platform: &Current, ops: &[MmuextOp]) -> (Result<(), Errno>, u32) {
    let mut done = 0;
    // SAFETY: only pages of the claims' own are named, to which no reference
    // leads.
    let answer = unsafe { mmu::mmuext_op(platform, ops, &mut done) };
    (answer, done)
}

fn updates(platform: &Current, updates: &[MmuUpdate]) -> (Result<(), Errno>, u32) {
    let mut done = 0;
    // SAFETY: as above; none of the tables is in use.
    let answer = unsafe { mmu::mmu_update(platform, updates, &mut done) };
    (answer, done)
}

fn a_read_only_page_takes_no_answer(guest: &Guest) -> Verdict {
    let frame = Frame::new(guest)?;
    frame.takes_an_answer()?;
    frame.map(entry(frame.mfn, READ_ONLY))?;
    refused(frame.takes_an_answer(), Errno::EFAULT)?;
    frame.map(entry(frame.mfn, READ_WRITE))?;
    frame.takes_an_answer().map_err(Stop::from)
}

fn a_page_that_is_not_mapped_is_efault(guest: &Guest) -> Verdict {
    let frame = Frame::new(guest)?;
    frame.set_word(300, 7);
    frame.map(0)?;
    refused(frame.takes_an_answer(), Errno::EFAULT)?;
    frame.map(entry(frame.mfn, READ_WRITE))?;
    same(frame.word(300), 7)
}

fn one_frame_is_seen_at_two_addresses(guest: &Guest) -> Verdict {
    let (one, other) = (Frame::new(guest)?, Frame::new(guest)?);
    other.set_word(0, 1);
    one.map(entry(other.mfn, READ_WRITE))?;
    same(one.word(0), 1)?;
    one.set_word(1, 2);
    same(other.word(1), 2)?;
    one.map(entry(one.mfn, READ_WRITE))?;
    same(one.word(1), 0)
}

fn an_address_of_xens_cannot_be_mapped(guest: &Guest) -> Verdict {
    let frame = Frame::new(guest)?;
    let va = hypercall_abi::xen::traps::HYPERVISOR_VIRT_START as usize;
    let value = entry(frame.mfn, READ_WRITE);
    // SAFETY: refused.
    let mapped = unsafe { mmu::update_va_mapping(guest.platform(), va, value, Flush::None) };
    refused(mapped, Errno::EINVAL)
}

fn a_frame_that_is_not_there_cannot_be_mapped(guest: &Guest) -> Verdict {
    let frame = Frame::new(guest)?;
    refused(frame.map(entry(NOWHERE, READ_ONLY)), Errno::EPERM)?;
    frame.takes_an_answer().map_err(Stop::from)
}

fn a_writable_page_is_no_table(guest: &Guest) -> Verdict {
    refused(Frame::new(guest)?.pin(Level::L1), Errno::EINVAL)
}

fn a_read_only_page_can_be_a_table(guest: &Guest) -> Verdict {
    let table = Frame::table(guest, &[])?;
    table.pin(Level::L1)?;
    table.unpin().map_err(Stop::from)
}

fn a_table_is_pinned_once(guest: &Guest) -> Verdict {
    let table = Frame::table(guest, &[])?;
    table.pin(Level::L1)?;
    refused(table.pin(Level::L1), Errno::EINVAL)
}

fn what_is_not_pinned_cannot_be_unpinned(guest: &Guest) -> Verdict {
    refused(Frame::table(guest, &[])?.unpin(), Errno::EINVAL)
}

fn a_table_is_not_mapped_writable(guest: &Guest) -> Verdict {
    let table = Frame::table(guest, &[])?;
    table.pin(Level::L1)?;
    refused(table.map(entry(table.mfn, READ_WRITE)), Errno::EBUSY)?;
    same(table.word(0), 0)
}

fn a_table_has_one_level(guest: &Guest) -> Verdict {
    let table = Frame::table(guest, &[])?;
    table.pin(Level::L1)?;
    refused(table.pin(Level::L2), Errno::EINVAL)
}

fn a_table_that_was_unpinned_is_a_page(guest: &Guest) -> Verdict {
    let table = Frame::table(guest, &[])?;
    table.pin(Level::L1)?;
    table.unpin()?;
    table.map(entry(table.mfn, READ_WRITE))?;
    table.set_word(5, 5);
    same(table.word(5), 5)
}

fn entries_are_written_as_asked(guest: &Guest) -> Verdict {
    let (table, page) = (Frame::table(guest, &[])?, Frame::new(guest)?);
    table.pin(Level::L1)?;
    let value = entry(page.mfn, READ_ONLY);
    table.write(511, value)?;
    same(table.entry(511), value)?;
    table.write(511, 0)?;
    same(table.word(511), 0)
}

/// By an ordinary instruction, which Xen does in the kernel's place; the rules are the
/// same.
fn a_table_is_written_as_memory_if_that_is_asked_for(guest: &Guest) -> Verdict {
    on_processor(guest, |guest| {
        let platform = guest.platform();
        let (table, page) = (Frame::table(guest, &[])?, Frame::new(guest)?);
        table.pin(Level::L1)?;
        let value = entry(page.mfn, READ_ONLY);
        VALUE.store(value, Ordering::Relaxed);
        // SAFETY: as above.
        let (refused, _) = unsafe { probe::run(store, table.place(3).addr() as u64, Then::Return) };
        vm_assist::enable(platform, VmAssist::WRITABLE_PAGETABLES)?;
        // SAFETY: as above.
        let (done, _) = unsafe { probe::run(store, table.place(3).addr() as u64, Then::Return) };
        let found = table.word(3);
        VALUE.store(entry(table.mfn, READ_WRITE), Ordering::Relaxed);
        // SAFETY: as above.
        let (bad, _) = unsafe { probe::run(store, table.place(4).addr() as u64, Then::Return) };
        table.write(3, 0)?;
        // SAFETY: nothing writes tables so.
        unsafe { vm_assist::disable(platform, VmAssist::WRITABLE_PAGETABLES) }?;
        ensure(refused.is_some(), "it was written before that")?;
        ensure(done.is_none(), "it was not written")?;
        same(found & !GLOBAL, value & !GLOBAL)?;
        ensure(bad.is_some(), "a table was mapped writable")?;
        same(table.word(4), 0)
    })
}

/// What [`store`] writes.
static VALUE: AtomicU64 = AtomicU64::new(0);

/// Writes it.
#[unsafe(naked)]
unsafe extern "C" fn store(_: u64) -> u64 {
    core::arch::naked_asm!(
        "mov rax, [rip + {value}]",
        "mov [rdi], rax",
        "ret",
        value = sym VALUE,
    )
}

/// What has no type yet may hold anything.
fn entries_of_pages_that_are_no_tables_are_written(guest: &Guest) -> Verdict {
    let page = Frame::new(guest)?;
    page.write(3, 0x1234)?;
    same(page.word(3), 0x1234)
}

fn a_list_ends_at_its_first_bad_update(guest: &Guest) -> Verdict {
    let (table, page) = (Frame::table(guest, &[])?, Frame::new(guest)?);
    table.pin(Level::L1)?;
    let good = entry(page.mfn, READ_ONLY);
    let list = [
        table.update(0, good, mmu::MMU_NORMAL_PT_UPDATE),
        table.update(1, entry(NOWHERE, READ_ONLY), mmu::MMU_NORMAL_PT_UPDATE),
        table.update(2, good, mmu::MMU_NORMAL_PT_UPDATE),
    ];
    let (answer, done) = updates(guest.platform(), &list);
    ensure(answer.is_err(), "a bad update was done")?;
    same(done, 1)?;
    same([0, 1, 2].map(|index| table.entry(index)), [good, 0, 0])
}

fn a_list_ends_at_its_first_bad_operation(guest: &Guest) -> Verdict {
    let table = Frame::table(guest, &[])?;
    let mfn = table.mfn;
    let list = [
        MmuextOp::pin(Level::L1, mfn),
        MmuextOp::pin(Level::L1, mfn),
        MmuextOp::unpin(mfn),
    ];
    let (answer, done) = ops(guest.platform(), &list);
    refused(answer, Errno::EINVAL)?;
    same(done, 1)?;
    table.unpin().map_err(Stop::from)
}

fn an_entry_does_not_map_its_table_writable(guest: &Guest) -> Verdict {
    let table = Frame::table(guest, &[])?;
    table.pin(Level::L1)?;
    refused(table.write(0, entry(table.mfn, READ_WRITE)), Errno::EBUSY)?;
    table
        .write(0, entry(table.mfn, READ_ONLY))
        .map_err(Stop::from)
}

fn an_entry_maps_no_frame_that_is_not_there(guest: &Guest) -> Verdict {
    let table = Frame::table(guest, &[])?;
    table.pin(Level::L1)?;
    refused(table.write(0, entry(NOWHERE, READ_ONLY)), Errno::EPERM)
}

fn a_table_with_a_bad_entry_is_refused(guest: &Guest) -> Verdict {
    let table = Frame::table(guest, &[(9, entry(NOWHERE, READ_ONLY))])?;
    refused(table.pin(Level::L1), Errno::EPERM)?;
    // It is a page still.
    table.map(entry(table.mfn, READ_WRITE)).map_err(Stop::from)
}

fn accessed_and_dirty_bits_can_be_kept(guest: &Guest) -> Verdict {
    let (table, page) = (Frame::table(guest, &[])?, Frame::new(guest)?);
    table.pin(Level::L1)?;
    let clean = PRESENT | USER | NO_EXECUTE;
    table.write(0, entry(page.mfn, clean | ACCESSED | DIRTY))?;
    let keep = table.update(0, entry(page.mfn, clean), mmu::MMU_PT_UPDATE_PRESERVE_AD);
    updates(guest.platform(), &[keep]).0?;
    same(table.entry(0), entry(page.mfn, clean | ACCESSED | DIRTY))?;
    table.write(0, entry(page.mfn, clean))?;
    same(table.entry(0), entry(page.mfn, clean))
}

fn a_second_level_takes_first_levels(guest: &Guest) -> Verdict {
    let page = Frame::new(guest)?;
    let first = Frame::table(guest, &[(0, entry(page.mfn, READ_WRITE))])?;
    let second = Frame::table(guest, &[(7, entry(first.mfn, TABLE))])?;
    second.pin(Level::L2)?;
    refused(first.map(entry(first.mfn, READ_WRITE)), Errno::EBUSY)?;
    second.unpin()?;
    first.map(entry(first.mfn, READ_WRITE)).map_err(Stop::from)
}

fn a_second_level_takes_no_writable_page(guest: &Guest) -> Verdict {
    let page = Frame::new(guest)?;
    let second = Frame::table(guest, &[(7, entry(page.mfn, TABLE))])?;
    refused(second.pin(Level::L2), Errno::EINVAL)
}

fn a_second_level_takes_no_large_page(guest: &Guest) -> Verdict {
    // It would do as a table.
    let first = Frame::table(guest, &[])?;
    let second = Frame::table(guest, &[(7, entry(first.mfn, TABLE | LARGE))])?;
    refused(second.pin(Level::L2), Errno::EINVAL)
}

/// A slot of the guest's own half, and of one that Xen does not use.
const SLOT: usize = 2;

fn four_levels_are_checked_at_once(guest: &Guest) -> Verdict {
    let page = Frame::new(guest)?;
    let first = Frame::table(guest, &[(0, entry(page.mfn, READ_ONLY))])?;
    let second = Frame::table(guest, &[(1, entry(first.mfn, TABLE))])?;
    let third = Frame::table(guest, &[(2, entry(second.mfn, TABLE))])?;
    let top = Frame::table(guest, &[(SLOT, entry(third.mfn, TABLE))])?;
    top.pin(Level::L4)?;
    for table in [&first, &second, &third, &top] {
        refused(table.map(entry(table.mfn, READ_WRITE)), Errno::EBUSY)?;
    }
    top.unpin()?;
    for table in [&first, &second, &third, &top] {
        table.map(entry(table.mfn, READ_WRITE))?;
    }
    Ok(())
}

fn a_top_table_may_map_itself_read_only(guest: &Guest) -> Verdict {
    let top = Frame::table(guest, &[])?;
    top.pin(Level::L4)?;
    top.write(SLOT, entry(top.mfn, PRESENT | USER | ACCESSED))?;
    top.write(SLOT, 0).map_err(Stop::from)
}

fn a_top_table_may_not_map_itself_writable(guest: &Guest) -> Verdict {
    let top = Frame::table(guest, &[])?;
    top.pin(Level::L4)?;
    refused(top.write(SLOT, entry(top.mfn, TABLE)), Errno::EINVAL)
}

fn a_table_below_a_pinned_one_stays_one(guest: &Guest) -> Verdict {
    let first = Frame::table(guest, &[])?;
    let second = Frame::table(guest, &[(0, entry(first.mfn, TABLE))])?;
    first.pin(Level::L1)?;
    second.pin(Level::L2)?;
    first.unpin()?;
    refused(first.map(entry(first.mfn, READ_WRITE)), Errno::EBUSY)?;
    second.write(0, 0)?;
    first.map(entry(first.mfn, READ_WRITE)).map_err(Stop::from)
}

fn a_page_can_be_cleared(guest: &Guest) -> Verdict {
    let page = Frame::new(guest)?;
    for index in 0..512 {
        page.set_word(index, index as u64 + 1);
    }
    page.do_op(MmuextOp::clear_page(page.mfn))?;
    ensure(
        (0..512).all(|index| page.word(index) == 0),
        "a part of it is left",
    )
}

fn a_page_can_be_copied(guest: &Guest) -> Verdict {
    let (source, target) = (Frame::new(guest)?, Frame::new(guest)?);
    for index in 0..512 {
        source.set_word(index, index as u64 + 1);
    }
    source.do_op(MmuextOp::copy_page(source.mfn, target.mfn))?;
    for frame in [&source, &target] {
        ensure(
            (0..512).all(|index| frame.word(index) == index as u64 + 1),
            "other words",
        )?;
    }
    Ok(())
}

fn a_table_cannot_be_cleared(guest: &Guest) -> Verdict {
    let table = Frame::table(guest, &[])?;
    table.pin(Level::L1)?;
    refused(table.do_op(MmuextOp::clear_page(table.mfn)), Errno::EINVAL)
}

fn a_table_cannot_be_copied_over(guest: &Guest) -> Verdict {
    let (table, page) = (Frame::table(guest, &[])?, Frame::new(guest)?);
    table.pin(Level::L1)?;
    let over = MmuextOp::copy_page(page.mfn, table.mfn);
    refused(table.do_op(over), Errno::EINVAL)
}

/// What is mapped in its place now is no table for that.
fn a_page_that_is_unmapped_can_be_a_table(guest: &Guest) -> Verdict {
    let (one, other) = (Frame::new(guest)?, Frame::new(guest)?);
    one.map(entry(other.mfn, READ_WRITE))?;
    // Nobody maps the first one's frame; the other's is mapped twice.
    let pinned = one.pin(Level::L1);
    let mapped_again = one.map(entry(one.mfn, READ_WRITE));
    let writable = other.pin(Level::L1);
    one.unpin()?;
    one.map(entry(one.mfn, READ_WRITE))?;
    pinned?;
    refused(mapped_again, Errno::EBUSY)?;
    refused(writable, Errno::EINVAL)
}

/// The place of a frame in the guest's memory: what is written there is read.
fn the_machines_table_takes_what_it_is_told(guest: &Guest) -> Verdict {
    const ANY: u64 = 0x1234;
    on_processor(guest, |guest| {
        let platform = guest.platform();
        let page = Frame::new(guest)?;
        let mapping = memory::machphys_mapping(platform)?;
        ensure(page.mfn.0 <= mapping.max_mfn, "it is behind the table")?;
        let place = (mapping.v_start + page.mfn.0 * 8) as usize;
        let place = core::ptr::with_exposed_provenance::<u64>(place);
        // SAFETY: a word of the machine's table, which Xen shows to all PV guests.
        let read = || unsafe { place.read_volatile() };
        let tell = |value| {
            let update = MmuUpdate {
                ptr: (page.mfn.0 * PAGE_SIZE as u64) | mmu::MMU_MACHPHYS_UPDATE,
                val: value,
            };
            updates(platform, &[update]).0
        };
        let before = read();
        tell(ANY)?;
        let after = read();
        tell(before)?;
        same((after, read()), (ANY, before))?;
        same(platform.page_of(page.mfn.into()), Some(page.page))
    })
}

/// A frame that the guest maps leaves its reservation when it is unmapped.
fn a_mapped_frame_is_not_given_back_yet(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let page = Frame::new(guest)?;
    let before = memory::current_reservation(platform)?;
    page.map(0)?;
    // SAFETY: the frame is not mapped any more.
    let given = unsafe { memory::decrease_reservation(platform, &mut [page.mfn.0], 0) }?;
    same(given, 1)?;
    same(memory::current_reservation(platform)? + 1, before)?;
    refused(page.map(entry(page.mfn, READ_WRITE)), Errno::EBUSY)?;
    // Another frame takes its place.
    let mut frames = [0];
    same(
        memory::increase_reservation(platform, &mut frames, 0, 0)?,
        1,
    )?;
    page.map(entry(Mfn(frames[0]), READ_WRITE))?;
    page.set_word(0, 1);
    same(memory::current_reservation(platform)?, before)?;
    core::mem::forget(page);
    Ok(())
}

fn frames_can_be_exchanged(guest: &Guest) -> Verdict {
    let platform = guest.platform();
    let page = Frame::new(guest)?;
    let before = memory::current_reservation(platform)?;
    page.map(0)?;
    let (mut given, mut got) = ([page.mfn.0], [0_u64]);
    let list = |frames: &mut [u64; 1]| MemoryReservation {
        extent_start: frames.as_mut_ptr().expose_provenance() as u64,
        nr_extents: 1,
        domid: DomId::SELF,
        ..MemoryReservation::default()
    };
    let mut exchange = MemoryExchange {
        r#in: list(&mut given),
        out: list(&mut got),
        ..MemoryExchange::default()
    };
    // SAFETY: the frame is not mapped any more, and the lists outlive the call.
    unsafe { memory::exchange(platform, &mut exchange) }?;
    same(exchange.nr_exchanged, 1)?;
    same(memory::current_reservation(platform)?, before)?;
    page.map(entry(Mfn(got[0]), READ_WRITE))?;
    page.set_word(0, 1);
    core::mem::forget(page);
    Ok(())
}

fn another_domains_tables_are_out_of_reach(guest: &Guest) -> Verdict {
    let table = Frame::table(guest, &[])?;
    table.pin(Level::L1)?;
    let list = [table.update(0, 0, mmu::MMU_NORMAL_PT_UPDATE)];
    let mut done = 7_u32;
    // SAFETY: refused.
    let answer = unsafe {
        guest.platform().call4(
            HypercallNr::MMU_UPDATE,
            list.as_ptr().expose_provenance(),
            list.len(),
            (&raw mut done).expose_provenance(),
            0,
        )
    };
    refused(Errno::check(answer), Errno::EPERM)
}
