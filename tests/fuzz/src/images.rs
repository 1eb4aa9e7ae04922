//! Images that lie: whatever is in a kernel's file, it is refused or built, and what is
//! built hangs together.

use arbitrary::Arbitrary;
use domain_builder::{
    Facts, Plan, Request,
    samples::{Elf, Packed, Part, bz_image, gzip},
};
use hypercall_abi::Port;

/// One thing that is done to a good image.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// One more segment: where, its bytes in memory, and in the file.
    Segment(u64, u32, u8),
    /// One of the numbers that notes tell: of which kind, and what.
    Number(u8, u64),
    /// Any note.
    Note(u32, Vec<u8>),
    /// Another byte in the file, there.
    Byte(u16, u8),
    /// The file ends there.
    Cut(u16),
    /// It is packed, by one of the ways.
    Pack(u8),
    /// A ramdisk of so many bytes.
    Ramdisk(u16),
    /// So many pages of memory.
    Memory(u16),
}

const PAGE: u64 = 4096;
/// Most kernels need no more.
const USUAL_PAGES: u16 = 1024;

/// Does all that, and builds the domain.
///
/// # Panics
/// What was built does not hang together.
pub fn run(steps: &[Step]) {
    let mut elf = Elf::good();
    let (mut ramdisk, mut pages) = (None, USUAL_PAGES);
    for step in steps {
        match step {
            Step::Segment(start, memory, file) => elf.parts.push(Part {
                start: *start,
                memory_bytes: u64::from(*memory),
                bytes: vec![1; usize::from(*file)],
                flags: 7,
            }),
            Step::Number(kind, value) => {
                elf = elf.with(u32::from(*kind), &value.to_le_bytes());
            }
            Step::Note(kind, description) => elf = elf.with(*kind, description),
            Step::Ramdisk(bytes) => ramdisk = Some(vec![2; usize::from(*bytes)]),
            Step::Memory(wanted) => pages = *wanted,
            Step::Byte(..) | Step::Cut(_) | Step::Pack(_) => {}
        }
    }
    let mut file = elf.bytes();
    for step in steps {
        match step {
            Step::Byte(at, value) => {
                if let Some(byte) = file.get_mut(usize::from(*at)) {
                    *byte = *value;
                }
            }
            Step::Cut(at) => file.truncate(usize::from(*at)),
            Step::Pack(way) => file = packed(&file, *way),
            _ => {}
        }
    }
    let request = Request {
        kernel: &file,
        ramdisk: ramdisk.as_deref(),
        command_line: "x",
        nr_pages: u64::from(pages),
    };
    let Ok(plan) = Plan::new(&request) else {
        return;
    };
    let mut memory = vec![0; usize::from(pages) * PAGE as usize];
    let facts = Facts {
        mfn_of: &|pfn| pfn,
        shared_info: 0,
        store_port: Port(1),
        console_port: Port(2),
        magic: "xen-3.0-x86_64",
    };
    let written = plan.write(&request, &mut memory, &facts);
    assert!(
        written.is_ok(),
        "what was planned does not fit: {written:?}"
    );
    check(&plan, &memory, u64::from(pages));
}

/// A file of at most so many bytes is packed again.
const MAX_PACKED: usize = 1 << 20;

fn packed(file: &[u8], way: u8) -> Vec<u8> {
    if file.len() > MAX_PACKED {
        return file.to_vec();
    }
    let way = match way % 6 {
        0 => return gzip(file),
        1 => Packed::Gzip,
        2 => Packed::Xz,
        3 => Packed::Lzma,
        4 => Packed::Zstd,
        _ => Packed::Lz4,
    };
    bz_image(file, way)
}

fn check(plan: &Plan<'_>, memory: &[u8], pages: u64) {
    assert!(plan.stack < pages && plan.mapped.end <= plan.virt_base + pages * PAGE);
    let is_table = |frame: u64| plan.tables.iter().any(|table| table.pfn == frame);
    for address in plan.mapped.clone().step_by(PAGE as usize) {
        let mut table = plan.root();
        for level in (0..4).rev() {
            assert!(is_table(table), "{address:#x}: {table:#x} is no table");
            let index = address >> (12 + 9 * level) & 511;
            let at = (table * PAGE + index * 8) as usize;
            let entry = memory.get(at..).and_then(|rest| rest.first_chunk());
            let entry = entry.map_or(0, |bytes| u64::from_le_bytes(*bytes));
            assert!(entry & 1 != 0, "{address:#x} is not mapped");
            table = entry >> 12;
            if level == 0 {
                assert_eq!(table, (address - plan.virt_base) / PAGE, "{address:#x}");
                assert_eq!(entry & 2 == 0, is_table(table), "{address:#x}");
            }
        }
    }
}
