//! Why an image is not built.

use std::fmt;

/// The reason, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// It is no ELF file, or one whose headers make no sense.
    NotElf(&'static str),
    /// It is compressed by this, which is not unpacked.
    Compressed(&'static str),
    /// It is compressed by this, and broken.
    BadlyCompressed(&'static str),
    /// It is a `bzImage` in which no kernel is found.
    BadLoader(&'static str),
    /// It is for another kind of processor.
    OtherProcessor,
    /// It has no notes of Xen's.
    NoNotes,
    /// It only has the entry of PVH guests.
    OnlyPvh,
    /// A note is of a length that its number cannot have.
    BadNote(&'static str),
    /// It was made for another Xen.
    OtherXen(String),
    /// It wants another loader.
    OtherLoader(String),
    /// It requires something that no Xen knows.
    Feature(String),
    /// It requires to be domain 0.
    OnlyDom0,
    /// It requires translated frames.
    OnlyTranslated,
    /// It says how physical addresses are counted, but not where memory begins.
    OffsetWithoutBase,
    /// A segment makes no sense.
    BadSegment(&'static str, u64),
    /// Something lies outside of the image.
    Outside(&'static str, u64),
    /// The list of machine frames is to be where the memory is.
    ListInMemory,
    /// The place of its memory makes no sense.
    BadBase(u64),
    /// No process has this address.
    TooHigh(u64),
    /// So many bytes are needed, and so many are there.
    TooLittleMemory(u64, u64),
    /// So many pages are more than any guest can have.
    TooMuchMemory(u64),
    /// So many bytes of command line are more than there is room for.
    LongCommandLine(usize),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf(why) => write!(
                f,
                "it is no kernel for Xen: {why}. Give it an ELF file, as the linker makes it \
                 (not one of objcopy -O binary)"
            ),
            Self::Compressed(by) => write!(
                f,
                "it is compressed by {by}, which Xen as Debian has it does not unpack there: \
                 unpack the kernel first, or compress it by gzip"
            ),
            Self::BadlyCompressed(by) => write!(
                f,
                "it is compressed by {by}, and broken or cut short: copy or make it again"
            ),
            Self::BadLoader(why) => write!(
                f,
                "it is a bzImage, but {why}: give it the kernel that is packed in it (vmlinux)"
            ),
            Self::OtherProcessor => f.write_str(
                "it is no program for 64-bit x86: build it for x86_64 (PV guests of 32 bits \
                 are not run here)",
            ),
            Self::NoNotes => f.write_str(
                "it has no notes of Xen's, and so no PV entry: is it a kernel for Xen, and \
                 does its linker script keep .note.Xen in a PT_NOTE segment?",
            ),
            Self::OnlyPvh => f.write_str(
                "it has the entry of PVH guests only (PHYS32_ENTRY): run it on xen-pvh, or give \
                 it a PV entry (the note ENTRY)",
            ),
            Self::BadNote(what) => write!(
                f,
                "its note {what} is a number of neither 1, 2, 4 nor 8 bytes, which Xen takes \
                 for 0: make it one of 8 bytes"
            ),
            Self::OtherXen(version) => write!(
                f,
                "its note XEN_VERSION is {version:?}: it must be \"xen-3.0\", for every Xen \
                 since then"
            ),
            Self::OtherLoader(loader) => write!(
                f,
                "its note LOADER is {loader:?}: it must be \"generic\" (or its GUEST_OS \"linux\")"
            ),
            Self::Feature(name) => write!(
                f,
                "its note FEATURES requires {name:?}, which Xen does not know: take the ! away, \
                 or the name"
            ),
            Self::OnlyDom0 => f.write_str(
                "its note FEATURES requires \"dom0\": it can only be the first domain of a \
                 machine; take the ! away if it can be a guest, too",
            ),
            Self::OnlyTranslated => f.write_str(
                "its note FEATURES requires \"auto_translated_physmap\", which only PVH guests have: \
                 run it on xen-pvh, or take the ! away",
            ),
            Self::OffsetWithoutBase => f.write_str(
                "it has the note PADDR_OFFSET without VIRT_BASE, which is counted with it: add the \
                 note VIRT_BASE",
            ),
            Self::BadSegment(what, address) => {
                write!(f, "its segment at physical {address:#x} {what}")
            }
            Self::Outside(what, address) => write!(
                f,
                "its {what}, {address:#x}, is outside of the image: it is a virtual address, \
                 VIRT_BASE + physical address - PADDR_OFFSET"
            ),
            Self::ListInMemory => f.write_str(
                "its note INIT_P2M has the list of frames where its memory is: choose an \
                 address that is lower than VIRT_BASE by 8 bytes for each page of memory",
            ),
            Self::BadBase(address) => write!(
                f,
                "its memory begins at {address:#x}, which is no page: make the note VIRT_BASE a \
                 multiple of 4096"
            ),
            Self::TooHigh(address) => write!(
                f,
                "it is to run at {address:#x}: addresses from 0x500000000000 on cannot be the \
                 guest's in a process (those from 2^47 on cannot be mapped at all). Link it at \
                 0x40000000, say, with -Crelocation-model=static -Ccode-model=small, or run it \
                 on xen-pv"
            ),
            Self::TooLittleMemory(needed, there) => {
                let mib = |bytes: &u64| bytes.div_ceil(1 << 20);
                write!(
                    f,
                    "it needs {} MiB of memory to start, and has {}: give it more (--memory)",
                    mib(needed),
                    mib(there)
                )
            }
            Self::TooMuchMemory(pages) => write!(
                f,
                "{pages} pages of memory are more than a process has addresses: give it less \
                 (--memory)"
            ),
            Self::LongCommandLine(len) => write!(
                f,
                "the command line has {len} bytes, and 1023 is the most (Xen would cut it): make \
                 it shorter"
            ),
        }
    }
}

impl std::error::Error for Refused {}
