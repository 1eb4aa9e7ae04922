//! The table: files, and what becomes of each, here and with Xen's own builder.

use hypercall_abi::elfnote::*;

use super::{Elf, NotesAt, Packed, Verdict, bz_image, gzip};

/// Where the memory of the samples begins.
pub const BASE: u64 = 0x4000_0000;

/// One of them.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it is.
    pub name: &'static str,
    /// Its bytes.
    pub file: Vec<u8>,
    /// How much memory its guest has.
    pub memory_mib: u32,
    /// What becomes of it here.
    pub here: Verdict,
    /// What Xen does, if that is something else, and why it is not done here.
    pub on_xen: Option<(Verdict, &'static str)>,
}

use Verdict::{Crashes, Refused, Runs};

const MEMORY_MIB: u32 = 16;

fn sample(name: &'static str, elf: &Elf, here: Verdict) -> Sample {
    of_bytes(name, elf.bytes(), here)
}

fn of_bytes(name: &'static str, file: Vec<u8>, here: Verdict) -> Sample {
    Sample {
        name,
        file,
        memory_mib: MEMORY_MIB,
        here,
        on_xen: None,
    }
}

impl Sample {
    fn but_xen(self, verdict: Verdict, why: &'static str) -> Self {
        Self {
            on_xen: Some((verdict, why)),
            ..self
        }
    }

    fn with_memory(self, memory_mib: u32) -> Self {
        Self { memory_mib, ..self }
    }
}

/// A file with some bytes changed.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = Elf::good().bytes();
    if let Some(place) = file.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
    file
}

fn features(list: &str) -> Elf {
    Elf::good().with(XEN_ELFNOTE_FEATURES, format!("{list}\0").as_bytes())
}

fn old(text: &str) -> Elf {
    let mut elf = Elf::good();
    // Physical addresses are virtual ones then.
    elf.parts[0].start += BASE;
    elf.notes_at = NotesAt::Old(text.to_owned());
    elf
}

/// All of them.
pub fn table() -> Vec<Sample> {
    let mut all = of_features();
    all.extend(of_notes());
    all.extend(of_addresses());
    all.extend(of_segments());
    all.extend(of_files());
    all.extend(of_memory());
    all.extend(of_tables());
    all
}

fn of_features() -> Vec<Sample> {
    vec![
        sample("all is well", &Elf::good(), Runs),
        sample(
            "requires writable_page_tables",
            &features("!writable_page_tables"),
            Runs,
        ),
        sample(
            "requires what no 64-bit guest has",
            &features("!supervisor_mode_kernel|!hvm_callback_vector"),
            Runs,
        ),
        sample(
            "requires all that Xen knows",
            &features("!writable_page_tables|!writable_descriptor_tables|!pae_pgdir_above_4gb"),
            Runs,
        ),
        sample(
            "requires translated frames",
            &features("!auto_translated_physmap"),
            Refused,
        ),
        sample(
            "supports translated frames",
            &features("auto_translated_physmap"),
            Runs,
        ),
        sample("requires dom0", &features("!dom0"), Refused),
        sample("supports dom0", &features("dom0"), Runs),
        sample(
            "requires what nobody knows",
            &features("pae_pgdir_above_4gb|!unheard_of"),
            Refused,
        ),
        sample(
            "requires what is told at run time",
            &features("!mmu_pt_update_preserve_ad"),
            Refused,
        ),
        sample("requires nothing", &features("!"), Refused),
        sample(
            "supports what nobody knows",
            &features("unheard_of|x"),
            Runs,
        ),
        sample(
            "separates features by spaces",
            &features("x !unheard_of"),
            Runs,
        ),
    ]
}

fn of_notes() -> Vec<Sample> {
    let with = |kind, text: &[u8]| Elf::good().with(kind, text);
    let mut none = Elf::good();
    none.notes.clear();
    let mut pvh = none.clone();
    pvh.notes.push((
        XEN_ELFNOTE_PHYS32_ENTRY,
        0x10_0010_u32.to_le_bytes().to_vec(),
    ));
    let both = Elf::good().with(XEN_ELFNOTE_PHYS32_ENTRY, &0x10_0010_u32.to_le_bytes());
    let mut section = Elf::good();
    section.notes_at = NotesAt::Section;
    let no_loader = Elf::good().without(XEN_ELFNOTE_LOADER);
    vec![
        sample("has no notes", &none, Refused),
        sample("has the entry of PVH alone", &pvh, Refused),
        sample("has both entries", &both, Runs),
        sample("has its notes in a section", &section, Runs),
        sample("names no loader", &no_loader, Refused),
        sample(
            "names no loader and is Linux",
            &no_loader.with(XEN_ELFNOTE_GUEST_OS, b"linux\0"),
            Runs,
        ),
        sample(
            "names another loader",
            &with(XEN_ELFNOTE_LOADER, b"bsd\0"),
            Refused,
        ),
        sample(
            "names a longer loader",
            &with(XEN_ELFNOTE_LOADER, b"generic-2\0"),
            Runs,
        ),
        sample(
            "names no Xen",
            &Elf::good().without(XEN_ELFNOTE_XEN_VERSION),
            Refused,
        ),
        sample(
            "names another Xen",
            &with(XEN_ELFNOTE_XEN_VERSION, b"xen-2.0\0"),
            Refused,
        ),
        sample(
            "names a longer Xen",
            &with(XEN_ELFNOTE_XEN_VERSION, b"xen-3.0-x86_64\0"),
            Runs,
        ),
        sample(
            "is of old",
            &old(
                "XEN_VER=xen-3.0,LOADER=generic,VIRT_BASE=0x40000000,VIRT_ENTRY=0x40100010,HYPERCALL_PAGE=0x101",
            ),
            Runs,
        ),
        sample(
            "is of old and names no Xen",
            &old("LOADER=generic,VIRT_BASE=0x40000000,VIRT_ENTRY=0x40100010"),
            Refused,
        ),
        sample(
            "is of old and requires what nobody knows",
            &old(
                "XEN_VER=xen-3.0,LOADER=generic,VIRT_BASE=0x40000000,VIRT_ENTRY=0x40100010,FEATURES=!x",
            ),
            Runs,
        ),
        sample(
            "is of old and requires dom0",
            &old(
                "XEN_VER=xen-3.0,LOADER=generic,VIRT_BASE=0x40000000,VIRT_ENTRY=0x40100010,FEATURES=!dom0",
            ),
            Refused,
        ),
    ]
}

fn of_addresses() -> Vec<Sample> {
    let with = |kind, number| Elf::good().with_number(kind, number);
    let no_entry = Elf::good().without(XEN_ELFNOTE_ENTRY);
    let mut entry_in_header = no_entry.clone();
    entry_in_header.entry = BASE + 0x10_0010;
    let mut low = Elf::good()
        .without(XEN_ELFNOTE_VIRT_BASE)
        .with_number(XEN_ELFNOTE_ENTRY, 0x10_0010)
        .without(XEN_ELFNOTE_HYPERCALL_PAGE);
    let low_with_offset = low.clone().with_number(XEN_ELFNOTE_PADDR_OFFSET, 0);
    low.entry = 0;
    let mut above = with(XEN_ELFNOTE_PADDR_OFFSET, BASE);
    above.parts[0].start += BASE;
    const HIGH: u64 = 0xffff_ffff_8000_0000;
    let high = with(XEN_ELFNOTE_VIRT_BASE, HIGH)
        .with_number(XEN_ELFNOTE_ENTRY, HIGH + 0x10_0010)
        .without(XEN_ELFNOTE_HYPERCALL_PAGE);
    vec![
        sample("has no entry", &no_entry, Refused),
        sample("has its entry in its header", &entry_in_header, Runs),
        sample(
            "has an entry of 4 bytes",
            &Elf::good().with(XEN_ELFNOTE_ENTRY, &(BASE as u32 + 0x10_0010).to_le_bytes()),
            Runs,
        ),
        sample(
            "has an entry of 3 bytes",
            &Elf::good().with(XEN_ELFNOTE_ENTRY, &[1, 2, 3]),
            Refused,
        ),
        sample(
            "has its entry before the image",
            &with(XEN_ELFNOTE_ENTRY, BASE),
            Refused,
        ),
        sample(
            "has its entry behind the image",
            &with(XEN_ELFNOTE_ENTRY, BASE + 0x10_2001),
            Refused,
        ),
        sample(
            "has its entry nowhere",
            &with(XEN_ELFNOTE_ENTRY, u64::MAX),
            Refused,
        ),
        sample("has no base", &low, Runs),
        sample("has an offset and no base", &low_with_offset, Refused),
        sample("counts physical addresses as virtual ones", &above, Runs),
        sample(
            "lies before its memory",
            &with(XEN_ELFNOTE_PADDR_OFFSET, BASE),
            Refused,
        ),
        sample(
            "has a base that is no page",
            &with(XEN_ELFNOTE_VIRT_BASE, BASE + 1),
            Refused,
        ),
        sample("has its base in the upper half", &high, Refused)
            .but_xen(Runs, "no process has such addresses"),
        sample(
            "has no hypercall page",
            &Elf::good().without(XEN_ELFNOTE_HYPERCALL_PAGE),
            Runs,
        ),
        sample(
            "has a hypercall page that is none",
            &with(XEN_ELFNOTE_HYPERCALL_PAGE, BASE + 0x10_1008),
            Runs,
        ),
        sample(
            "has its hypercall page beside the image",
            &with(XEN_ELFNOTE_HYPERCALL_PAGE, BASE + 0x2000),
            Runs,
        ),
        sample(
            "has its hypercall page before the memory",
            &with(XEN_ELFNOTE_HYPERCALL_PAGE, BASE - 0x1000),
            Refused,
        ),
        sample(
            "has its hypercall page behind the memory",
            &with(XEN_ELFNOTE_HYPERCALL_PAGE, BASE + (64 << 20)),
            Refused,
        ),
        sample(
            "wants the ramdisk's frame",
            &with(XEN_ELFNOTE_MOD_START_PFN, 1),
            Runs,
        ),
        sample(
            "has the list of frames below",
            &with(XEN_ELFNOTE_INIT_P2M, 0x1000_0000),
            Runs,
        ),
        sample(
            "has the list of frames at no page",
            &with(XEN_ELFNOTE_INIT_P2M, 0x1000_0010),
            Runs,
        ),
        sample(
            "has the list of frames above",
            &with(XEN_ELFNOTE_INIT_P2M, BASE << 1),
            Runs,
        ),
        sample(
            "has the list of frames in the image",
            &with(XEN_ELFNOTE_INIT_P2M, BASE + 0x10_0000),
            Refused,
        ),
        sample(
            "has the list of frames reach into the memory",
            &with(XEN_ELFNOTE_INIT_P2M, BASE - 0x1000),
            Refused,
        ),
    ]
}

fn of_segments() -> Vec<Sample> {
    let mut unaligned = Elf::good();
    unaligned.parts[0].start += 8;
    let unaligned = unaligned.with_number(XEN_ELFNOTE_ENTRY, BASE + 0x10_0018);
    let mut none = Elf::good();
    none.parts.clear();
    let mut closed = Elf::good();
    closed.parts[0].flags = 0;
    let mut bulging = Elf::good();
    bulging.parts[0].memory_bytes = 0x1000;
    let again = Elf::good().and_part(0x10_0000, 0x1000, &Elf::good().parts[0].bytes[..0x100]);
    let mut cut = Elf::good().and_part(0x10_2000, 0x1000, &[1; 0x800]).bytes();
    cut.truncate(cut.len() - 0x400);
    vec![
        sample(
            "has two segments",
            &Elf::good().and_part(0x10_2000, 0x3000, &[1]),
            Runs,
        ),
        sample(
            "has a segment of zeroes",
            &Elf::good().and_part(0x10_2000, 0x10_0000, &[]),
            Runs,
        ),
        sample("has one segment over another", &again, Runs),
        sample(
            "has a segment that is no page",
            &Elf::good().and_part(0x10_2010, 0x10, &[1]),
            Runs,
        ),
        sample("begins with what is no page", &unaligned, Refused),
        sample("has no segment", &none, Refused),
        sample("has a segment that nobody may touch", &closed, Refused),
        sample(
            "has a segment of a terabyte",
            &Elf::good().and_part(0x10_2000, 1 << 40, &[]),
            Refused,
        ),
        sample(
            "has a segment at the end of all addresses",
            &Elf::good().and_part(u64::MAX - 7, 16, &[]),
            Refused,
        )
        .but_xen(Runs, "the sum wraps, and Xen loads nothing of it"),
        sample(
            "has a segment that is less in memory than in the file",
            &bulging,
            Refused,
        )
        .but_xen(
            Crashes,
            "Xen loads nothing of it, and starts the guest all the same",
        ),
        of_bytes("is cut short", cut, Refused).but_xen(
            Runs,
            "Xen leaves out the segment that is not all there, and says nothing",
        ),
    ]
}

fn of_files() -> Vec<Sample> {
    let good = Elf::good().bytes();
    let mut too_long = gzip(&good);
    if let Some(len) = too_long.last_chunk_mut::<4>() {
        *len = 100_u32.to_le_bytes();
    }
    let mut short = gzip(&good);
    short.truncate(short.len() / 2);
    let mut old_loader = bz_image(&good, Packed::Gzip);
    old_loader[0x206..0x208].copy_from_slice(&0x207_u16.to_le_bytes());
    let mut far = bz_image(&good, Packed::Gzip);
    far[0x248..0x24c].copy_from_slice(&0x100_0000_u32.to_le_bytes());
    let mut xz = bz_image(&good, Packed::Xz);
    xz.drain(..1024);
    let bz = |packed| bz_image(&good, packed);
    vec![
        of_bytes("is no ELF file", b"#!/bin/sh\n".repeat(20), Refused),
        of_bytes("is of 32 bits", patched(4, &[1]), Refused),
        of_bytes("is of the other byte order", patched(5, &[2]), Refused),
        of_bytes(
            "is for another processor",
            patched(18, &183_u16.to_le_bytes()),
            Refused,
        ),
        of_bytes("calls itself an object", patched(16, &[1]), Runs),
        of_bytes(
            "has its segments outside",
            patched(32, &(1_u64 << 40).to_le_bytes()),
            Refused,
        ),
        of_bytes(
            "has its sections outside",
            patched(40, &(1_u64 << 40).to_le_bytes()),
            Refused,
        ),
        of_bytes("is packed by gzip", gzip(&good), Runs),
        of_bytes("is packed by gzip twice", gzip(&gzip(&good)), Refused),
        of_bytes(
            "is packed by gzip and is longer than it says",
            too_long,
            Refused,
        ),
        of_bytes("is packed by gzip and cut short", short, Refused),
        of_bytes("is packed by xz", xz, Refused),
        of_bytes("is a bzImage by gzip", bz(Packed::Gzip), Runs),
        of_bytes(
            "is a bzImage by gzip in gzip",
            gzip(&bz(Packed::Gzip)),
            Runs,
        ),
        of_bytes("is a bzImage by xz", bz(Packed::Xz), Runs),
        of_bytes("is a bzImage by lzma", bz(Packed::Lzma), Runs),
        of_bytes("is a bzImage by zstd", bz(Packed::Zstd), Runs),
        of_bytes("is a bzImage by lz4", bz(Packed::Lz4), Runs),
        of_bytes("is a bzImage by bzip2", bz(Packed::AsBzip2), Refused),
        of_bytes("is a bzImage by lzo", bz(Packed::AsLzo), Refused),
        of_bytes(
            "is a bzImage by nothing known",
            bz(Packed::Unknown),
            Refused,
        ),
        of_bytes("is a bzImage of old", old_loader, Refused),
        of_bytes("is a bzImage whose kernel is outside", far, Refused),
    ]
}

/// A kernel that looks at entries of its first page tables: one of its own page, which it
/// has not written; one of a table; and one that leads to a table. It powers off if their
/// bits are these, else it dies.
fn looks_at_tables(page: u64, table: u64, above: u64) -> Vec<u8> {
    [
        &[0x48, 0x8b, 0x46, 0x58][..], // mov rax, [rsi + pt_base]
        &[0x48, 0xb9, 0xff, 0x0f, 0, 0, 0, 0, 0xf0, 0xff], // mov rcx, all but the address
        &[0x48, 0x8b, 0x90, 0, 0x38, 0, 0], // mov rdx, [rax + 3 tables and 256 entries]
        &[0x48, 0x21, 0xca, 0x48, 0xbb], // and rdx, rcx; mov rbx,
        &page.to_le_bytes(),
        &[0x48, 0x39, 0xda, 0x75, 0x4f], // cmp rdx, rbx; jne the end
        &[0x48, 0x89, 0xc7],             // mov rdi, rax
        &[0x48, 0x81, 0xef],             // sub rdi,
        &(BASE as u32).to_le_bytes(),
        &[0x48, 0xc1, 0xef, 12],                  // shr rdi, 12
        &[0x48, 0x8b, 0x94, 0xf8, 0, 0x30, 0, 0], // mov rdx, [rax + rdi * 8 + 3 tables]
        &[0x48, 0x21, 0xca, 0x48, 0xbb],          // and rdx, rcx; mov rbx,
        &table.to_le_bytes(),
        &[0x48, 0x39, 0xda, 0x75, 0x27], // cmp rdx, rbx; jne the end
        &[0x48, 0x8b, 0x90, 0, 0x20, 0, 0], // mov rdx, [rax + 2 tables]
        &[0x48, 0x21, 0xca, 0x48, 0xbb], // and rdx, rcx; mov rbx,
        &above.to_le_bytes(),
        &[0x48, 0x39, 0xda, 0x75, 0x0e], // cmp rdx, rbx; jne the end
        // The power-off of old, and the end.
        &[
            0xbf, 2, 0, 0, 0, 0x31, 0xf6, 0xb8, 6, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x0b,
        ],
    ]
    .concat()
}

fn of_tables() -> Vec<Sample> {
    /// Present, writable, accessed, and what Xen adds: for user mode, and the mark of what
    /// only the kernel asked for.
    const PAGE: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 5 | 1 << 52;
    const TABLE: u64 = PAGE & !(1 << 1);
    /// Present, writable, for user mode, accessed, dirty.
    const ABOVE: u64 = 0x67;
    const DIRTY: u64 = 1 << 6;
    let looks = |name, code: Vec<u8>, here| sample(name, &Elf::good().running(&code), here);
    vec![
        looks(
            "looks at the bits of its first page tables",
            looks_at_tables(PAGE, TABLE, ABOVE),
            Runs,
        ),
        // That it does look.
        looks(
            "expects a page that is dirty at first",
            looks_at_tables(PAGE | DIRTY, TABLE, ABOVE),
            Crashes,
        ),
        looks(
            "expects a table that is dirty at first",
            looks_at_tables(PAGE, TABLE | DIRTY, ABOVE),
            Crashes,
        ),
        looks(
            "expects that nothing is dirty at first",
            looks_at_tables(PAGE, TABLE, ABOVE & !DIRTY),
            Crashes,
        ),
    ]
}

fn of_memory() -> Vec<Sample> {
    let large = Elf::good().and_part(0x10_2000, 20 << 20, &[]);
    vec![
        sample("has 4 MiB of memory", &Elf::good(), Runs).with_memory(4),
        sample("has 3 MiB of memory", &Elf::good(), Refused).with_memory(3),
        sample("is as large as its memory", &large, Refused).with_memory(20),
        sample("needs the next 4 MiB, too", &large, Refused).with_memory(23),
        sample("has what a large one needs", &large, Runs).with_memory(24),
    ]
}
