//! What is built of good images, and why others are refused.

use domain_builder::{
    Facts, Plan, Refused, Request,
    samples::{self, Elf, Verdict, table},
};
use hypercall_abi::{Port, elfnote::*, xen::StartInfo};
use zerocopy::FromBytes;

const PAGE: usize = 4096;
const BASE: u64 = samples::BASE;
const NR_PAGES: u64 = 2048;

fn request(kernel: &[u8]) -> Request<'_> {
    Request {
        kernel,
        ramdisk: None,
        command_line: "a=1 b",
        nr_pages: NR_PAGES,
    }
}

fn refused(elf: &Elf) -> Refused {
    Plan::new(&request(&elf.bytes())).expect_err("it is not refused")
}

/// Machine frames in no order: none is its own.
fn mfn_of(pfn: u64) -> u64 {
    0x10_0000 + (pfn ^ 5)
}

fn facts() -> Facts<'static> {
    Facts {
        mfn_of: &mfn_of,
        shared_info: 0x7777_7000,
        store_port: Port(1),
        console_port: Port(2),
        magic: "xen-3.0-x86_64",
    }
}

/// A guest's memory, as it begins.
struct Built<'a> {
    plan: Plan<'a>,
    memory: Vec<u8>,
}

fn build<'a>(request: &Request<'a>) -> Built<'a> {
    let plan = Plan::new(request).unwrap();
    let mut memory = vec![0; NR_PAGES as usize * PAGE];
    plan.write(request, &mut memory, &facts()).unwrap();
    Built { plan, memory }
}

impl Built<'_> {
    fn word(&self, pfn: u64, index: usize) -> u64 {
        let at = pfn as usize * PAGE + index * 8;
        u64::from_le_bytes(self.memory[at..at + 8].try_into().unwrap())
    }

    fn start_info(&self) -> StartInfo {
        let at = self.plan.start_info as usize * PAGE;
        StartInfo::read_from_bytes(&self.memory[at..at + size_of::<StartInfo>()]).unwrap()
    }

    /// What the tables say of an address: the entry, as a processor would find it.
    fn entry(&self, address: u64) -> Option<u64> {
        let mut table = self.plan.root();
        for level in (1..=4).rev() {
            let index = (address >> (12 + 9 * (level - 1)) & 511) as usize;
            let entry = self.word(table, index);
            if entry & 1 == 0 {
                return None;
            }
            if level == 1 {
                return Some(entry);
            }
            let mfn = entry >> 12 & 0xff_ffff_ffff;
            table = (0..NR_PAGES).find(|pfn| mfn_of(*pfn) == mfn)?;
        }
        None
    }
}

#[test]
fn everything_has_its_place_in_the_documented_order() {
    let file = Elf::good().bytes();
    let ramdisk = vec![7; 5000];
    let request = Request {
        ramdisk: Some(&ramdisk),
        ..request(&file)
    };
    let built = build(&request);
    let plan = &built.plan;
    let order = [
        plan.ramdisk.start,
        plan.frame_list.start,
        plan.start_info,
        plan.store,
        plan.console,
        plan.root(),
        plan.stack,
    ];
    assert!(order.is_sorted(), "{order:?}");
    // Behind the kernel's two pages, and as large as they have to be.
    assert_eq!(plan.ramdisk, 0x102..0x104);
    assert_eq!(plan.frame_list, 0x104..0x108);
    assert_eq!(
        (plan.start_info, plan.store, plan.console),
        (0x108, 0x109, 0x10a)
    );
    assert_eq!(plan.stack_top(), plan.address_of(plan.stack) + 4096);
    assert!(plan.mapped.end - plan.stack_top() >= 512 << 10);
    assert_eq!(plan.mapped, BASE..BASE + (4 << 20));
    // What is in it.
    assert_eq!(
        &built.memory[0x10_0000..0x10_1234],
        &Elf::good().parts[0].bytes[..]
    );
    assert_eq!(built.memory[0x10_1234..0x10_2000], [0; 0xdcc]);
    assert_eq!(&built.memory[0x10_2000..0x10_2000 + 5000], &ramdisk[..]);
    for pfn in 0..NR_PAGES {
        let index = pfn as usize;
        assert_eq!(
            built.word(plan.frame_list.start + pfn / 512, index % 512),
            mfn_of(pfn)
        );
    }
}

#[test]
fn the_tables_map_all_and_tables_only_to_be_read() {
    let file = Elf::good().bytes();
    let built = build(&request(&file));
    let plan = &built.plan;
    let tables = plan.root()..plan.root() + plan.tables.len() as u64;
    for address in plan.mapped.clone().step_by(PAGE) {
        let pfn = (address - BASE) / 4096;
        let entry = built.entry(address).unwrap();
        assert_eq!(entry >> 12, mfn_of(pfn), "{address:#x}");
        assert_eq!(entry & 2 == 0, tables.contains(&pfn), "{address:#x}");
    }
    assert_eq!(built.entry(plan.mapped.end), None);
    assert_eq!(built.entry(BASE - 4096), None);
}

#[test]
fn the_start_information_tells_all_that() {
    let file = Elf::good().bytes();
    let ramdisk = [1, 2, 3];
    let request = Request {
        ramdisk: Some(&ramdisk),
        ..request(&file)
    };
    let built = build(&request);
    let (plan, start) = (&built.plan, built.start_info());
    assert!(start.magic.starts_with(b"xen-3.0-x86_64\0"));
    assert!(start.cmd_line.starts_with(b"a=1 b\0"));
    assert_eq!((start.nr_pages, start.shared_info), (NR_PAGES, 0x7777_7000));
    assert_eq!(start.store_mfn.0, mfn_of(plan.store));
    assert_eq!(start.console.mfn.0, mfn_of(plan.console));
    assert_eq!(
        (start.store_evtchn, start.console.evtchn),
        (Port(1), Port(2))
    );
    assert_eq!(start.pt_base, plan.address_of(plan.root()));
    assert_eq!(start.nr_pt_frames, plan.tables.len() as u64);
    assert_eq!(start.mfn_list, plan.address_of(plan.frame_list.start));
    assert_eq!((start.first_p2m_pfn, start.nr_p2m_frames), (0, 0));
    assert_eq!(
        (start.mod_start, start.mod_len),
        (plan.address_of(plan.ramdisk.start), 3)
    );
}

#[test]
fn a_ramdisk_is_told_by_its_frame_if_that_is_wanted() {
    let file = Elf::good()
        .with(XEN_ELFNOTE_MOD_START_PFN, &1_u32.to_le_bytes())
        .bytes();
    let request = Request {
        ramdisk: Some(&[9]),
        ..request(&file)
    };
    let built = build(&request);
    let start = built.start_info();
    // Behind all that is mapped; and its pages are told, not its bytes.
    assert_eq!(built.plan.ramdisk, 1024..1025);
    assert_eq!((start.mod_start, start.mod_len), (1024, 4096));
    assert_eq!(built.memory[1024 * PAGE], 9);
    assert_eq!(built.entry(built.plan.mapped.end), None);
    assert_eq!(start.flags & 8, 8, "SIF_MOD_START_PFN");
}

#[test]
fn the_list_of_frames_goes_where_it_is_wanted() {
    let list: u64 = 0x1000_0000;
    let file = Elf::good()
        .with(XEN_ELFNOTE_INIT_P2M, &list.to_le_bytes())
        .bytes();
    let built = build(&request(&file));
    let start = built.start_info();
    let frames = built.plan.frame_list.clone();
    assert_eq!(start.mfn_list, list);
    // Behind all that is mapped, with two tables of its own, which are counted in.
    assert_eq!(frames, 1024..1028);
    assert_eq!((start.first_p2m_pfn, start.nr_p2m_frames), (1024, 6));
    assert_eq!(start.nr_pt_frames + 2, built.plan.tables.len() as u64);
    for table in &built.plan.tables {
        let entry = built.entry(built.plan.address_of(table.pfn));
        let is_mapped = table.pfn < 1024;
        assert_eq!(entry.is_some_and(|entry| entry & 2 == 0), is_mapped);
    }
    assert_eq!(built.entry(list).unwrap() >> 12, mfn_of(frames.start));
    assert_eq!(built.entry(list + 0x4000), None);
    // It must not reach into the memory.
    let list = BASE - 4096;
    let elf = Elf::good().with(XEN_ELFNOTE_INIT_P2M, &list.to_le_bytes());
    assert_eq!(refused(&elf), Refused::ListInMemory);
    // What is no page is passed over.
    let file = Elf::good().with(XEN_ELFNOTE_INIT_P2M, &0x1001_u64.to_le_bytes());
    let file = file.bytes();
    let built = build(&request(&file));
    let start = built.start_info();
    assert_eq!(start.mfn_list, BASE + 0x10_2000);
    assert_eq!((start.first_p2m_pfn, start.nr_p2m_frames), (0, 0));
}

#[test]
fn physical_addresses_are_counted_from_their_offset() {
    let mut elf = Elf::good().with(XEN_ELFNOTE_PADDR_OFFSET, &0x8000_0000_u64.to_le_bytes());
    elf.parts[0].start += 0x8000_0000;
    let file = elf.bytes();
    let built = build(&request(&file));
    assert_eq!(built.plan.segments[0].start, 0x10_0000);
    elf.parts[0].start = 0x1000;
    assert!(matches!(refused(&elf), Refused::BadSegment(_, 0x1000)));
}

#[test]
fn what_is_no_kernel_is_refused() {
    let told = |bytes: &[u8]| Plan::new(&request(bytes)).unwrap_err();
    assert!(matches!(told(b""), Refused::NotElf(_)));
    assert!(matches!(told(b"\x7fELF"), Refused::OtherProcessor));
    assert_eq!(told(&[0x1f, 0x8b, 8]), Refused::BadlyCompressed("gzip"));
    assert_eq!(told(b"BZh91AY&SY"), Refused::Compressed("bzip2"));
    let file = Elf::good().bytes();
    let changed = |at: usize, byte: u8| {
        let mut file = file.clone();
        file[at] = byte;
        Plan::new(&request(&file)).unwrap_err()
    };
    // 32 bits; big-endian; another processor.
    assert_eq!(changed(4, 1), Refused::OtherProcessor);
    assert_eq!(changed(5, 2), Refused::OtherProcessor);
    assert_eq!(changed(18, 40), Refused::OtherProcessor);
    // Cut short anywhere, it is refused, or the same.
    for len in 0..file.len() {
        let _told = Plan::new(&request(&file[..len]));
    }
}

#[test]
fn notes_that_lie_are_refused() {
    let mut elf = Elf::good();
    elf.notes.clear();
    assert_eq!(refused(&elf), Refused::NoNotes);
    elf.notes.push((XEN_ELFNOTE_PHYS32_ENTRY, vec![0; 4]));
    assert_eq!(refused(&elf), Refused::OnlyPvh);
    let other = |kind, text: &[u8]| refused(&Elf::good().with(kind, text));
    assert_eq!(
        other(XEN_ELFNOTE_XEN_VERSION, b"xen-2.0\0"),
        Refused::OtherXen("xen-2.0".into())
    );
    assert_eq!(
        other(XEN_ELFNOTE_LOADER, b"bsd\0"),
        Refused::OtherLoader("bsd".into())
    );
    assert_eq!(
        other(XEN_ELFNOTE_FEATURES, b"dom0|!unheard_of\0"),
        Refused::Feature("unheard_of".into())
    );
    assert_eq!(other(XEN_ELFNOTE_FEATURES, b"!dom0\0"), Refused::OnlyDom0);
    assert_eq!(
        other(XEN_ELFNOTE_ENTRY, &[1, 2, 3]),
        Refused::BadNote("ENTRY")
    );
    assert_eq!(
        other(XEN_ELFNOTE_LOADER, &[0xff, 0]),
        Refused::OtherLoader("\u{fffd}".into())
    );
    for outside in [0, BASE, BASE + 0x10_2001, u64::MAX] {
        let told = other(XEN_ELFNOTE_ENTRY, &outside.to_le_bytes());
        assert_eq!(told, Refused::Outside("entry", outside));
    }
    // The page of hypercalls may be beside the image.
    for outside in [0, BASE - 1, BASE + NR_PAGES * 4096, u64::MAX] {
        let told = other(XEN_ELFNOTE_HYPERCALL_PAGE, &outside.to_le_bytes());
        assert_eq!(told, Refused::Outside("hypercall page", outside));
    }
    let base = |base: u64| other(XEN_ELFNOTE_VIRT_BASE, &base.to_le_bytes());
    assert_eq!(base(BASE + 1), Refused::BadBase(BASE + 1));
    assert!(matches!(base(0xffff_8000_0000_0000), Refused::TooHigh(_)));
    assert!(matches!(base(0x7000_0000_0000), Refused::TooHigh(_)));
}

#[test]
fn segments_that_lie_are_refused() {
    let with = |start, memory_bytes, bytes: usize| {
        refused(&Elf::good().and_part(start, memory_bytes, &vec![0; bytes]))
    };
    assert!(matches!(
        with(0xf_f008, 0x10, 8),
        Refused::BadSegment(_, 0xf_f008)
    ));
    assert!(matches!(
        with(0x20_0000, 7, 8),
        Refused::BadSegment(_, 0x20_0000)
    ));
    assert!(matches!(with(u64::MAX - 7, 16, 8), Refused::BadSegment(..)));
    assert!(matches!(with(1 << 40, 1 << 50, 8), Refused::TooHigh(_)));
    assert!(matches!(with(1 << 40, 16, 8), Refused::TooLittleMemory(..)));
    let mut elf = Elf::good();
    elf.parts.clear();
    assert!(matches!(refused(&elf), Refused::NotElf(_)));
}

#[test]
fn what_does_not_fit_is_refused() {
    let file = Elf::good().bytes();
    let long = "x".repeat(1024);
    let with_line = Request {
        command_line: &long,
        ..request(&file)
    };
    assert_eq!(
        Plan::new(&with_line).unwrap_err(),
        Refused::LongCommandLine(1024)
    );
    let least = (0..NR_PAGES).find(|nr_pages| {
        let small = Request {
            nr_pages: *nr_pages,
            ..request(&file)
        };
        match Plan::new(&small) {
            Err(Refused::TooLittleMemory(..)) => false,
            Err(other) => panic!("{other}"),
            Ok(plan) => {
                // And what was planned with fits.
                let mut memory = vec![0; *nr_pages as usize * PAGE];
                plan.write(&small, &mut memory, &facts()).unwrap();
                let mut less = vec![0; plan.stack as usize * PAGE - PAGE];
                assert!(plan.write(&small, &mut less, &facts()).is_err());
                true
            }
        }
    });
    // All that is mapped must be there.
    assert_eq!(least, Some(1024));
    let huge = Request {
        nr_pages: u64::MAX,
        ..request(&file)
    };
    let told = Plan::new(&huge).unwrap_err();
    assert_eq!(told, Refused::TooMuchMemory(u64::MAX));
}

/// What lies over another is what is seen, with its zeroes.
#[test]
fn later_segments_are_written_over_earlier_ones() {
    let file = Elf::good().and_part(0x10_0800, 0x100, &[7; 0x80]).bytes();
    let built = build(&request(&file));
    let first = &Elf::good().parts[0].bytes;
    assert_eq!(&built.memory[0x10_0000..0x10_0800], &first[..0x800]);
    assert_eq!(built.memory[0x10_0800..0x10_0880], [7; 0x80]);
    assert_eq!(built.memory[0x10_0880..0x10_0900], [0; 0x80]);
    assert_eq!(&built.memory[0x10_0900..0x10_1234], &first[0x900..]);
}

/// What is mapped ends with a region of its own when the memory does with one.
#[test]
fn a_full_region_is_followed_by_another() {
    // The kernel's end, such that all of it and what is free fill 4 MiB exactly.
    let mapped = |pages: u64| {
        let elf = Elf::good().and_part(0x10_2000, pages * 4096, &[]);
        let file = elf.bytes();
        let request = Request {
            nr_pages: 4096,
            ..request(&file)
        };
        let plan = Plan::new(&request).unwrap();
        (plan.mapped.end - BASE, plan.stack)
    };
    let ends: Vec<_> = (0x260..0x280).map(mapped).collect();
    let last = ends.iter().rfind(|(bytes, _)| *bytes == 4 << 20).unwrap();
    let first = ends.iter().find(|(bytes, _)| *bytes == 8 << 20).unwrap();
    // One page more makes the difference, and needs two tables more; 128 pages are free
    // at least.
    assert_eq!(first.1, last.1 + 3);
    assert_eq!(last.1 + 1 + 128, 1024);
}

/// Each file of the table, as it is said there; those that are started are built.
#[test]
fn the_table_is_right_about_this_builder() {
    for sample in table() {
        let request = Request {
            nr_pages: u64::from(sample.memory_mib) << 8,
            ..request(&sample.file)
        };
        let plan = Plan::new(&request);
        let is_refused = sample.here == Verdict::Refused;
        match plan {
            Err(refused) => {
                assert!(
                    is_refused,
                    "a kernel that {} is refused: {refused}",
                    sample.name
                );
                // The fault, and what to do about it.
                let text = refused.to_string();
                let (fault, advice) = text.split_once(": ").expect(&text);
                assert!(fault.len() > 20 && advice.len() > 15, "{text}");
            }
            Ok(plan) => {
                assert!(!is_refused, "a kernel that {} is not refused", sample.name);
                let mut memory = vec![0; request.nr_pages as usize * PAGE];
                plan.write(&request, &mut memory, &facts()).unwrap();
            }
        }
    }
}
