//! Why an image is not built.

use std::fmt;

/// The reason, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// It is no ELF file, or one whose headers make no sense.
    NotElf(&'static str),
    /// It is compressed, by this.
    Compressed(&'static str),
    /// It is for another kind of processor.
    OtherProcessor,
    /// It has no notes of Xen's.
    NoNotes,
    /// It only has the entry of PVH guests.
    OnlyPvh,
    /// A note makes no sense.
    BadNote(&'static str),
    /// It was made for another Xen.
    OtherXen(String),
    /// It wants another loader.
    OtherLoader(String),
    /// It needs something that an ordinary PV guest has not.
    Feature(String),
    /// A segment makes no sense.
    BadSegment(&'static str, u64),
    /// Two segments share memory, from this address on.
    Overlap(u64),
    /// Something lies outside of the image.
    Outside(&'static str, u64),
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
            Self::NotElf(why) => f.write_str(why),
            Self::Compressed(by) => {
                write!(
                    f,
                    "it is compressed by {by}, or has a loader: unpack the kernel first"
                )
            }
            Self::OtherProcessor => f.write_str("it is no program for 64-bit x86"),
            Self::NoNotes => f.write_str(
                "it has no notes of Xen's, and so no PV entry: is it a kernel for Xen, and \
                 does its linker script keep .note.Xen in a PT_NOTE segment?",
            ),
            Self::OnlyPvh => f.write_str(
                "it has the entry of PVH guests only (PHYS32_ENTRY): run it on xen-pvh, or give \
                 it a PV entry",
            ),
            Self::BadNote(what) => write!(f, "its note {what} makes no sense"),
            Self::OtherXen(version) => {
                write!(f, "it was made for Xen {version:?}, and this is xen-3.0")
            }
            Self::OtherLoader(loader) => {
                write!(
                    f,
                    "it wants the loader {loader:?}, and this is the generic one"
                )
            }
            Self::Feature(name) => {
                write!(
                    f,
                    "it requires {name:?}, which an ordinary PV guest has not"
                )
            }
            Self::BadSegment(what, address) => {
                write!(f, "its segment at physical {address:#x} {what}")
            }
            Self::Overlap(address) => write!(f, "two segments share memory at {address:#x}"),
            Self::Outside(what, address) => {
                write!(f, "its {what}, {address:#x}, is outside of the image")
            }
            Self::BadBase(address) => {
                write!(f, "its memory begins at {address:#x}, which is no page")
            }
            Self::TooHigh(address) => write!(
                f,
                "it is to run at {address:#x}: addresses from 0x500000000000 on cannot be the \
                 guest's in a process (those from 2^47 on cannot be mapped at all). Link it at \
                 0x40000000, say, with -Crelocation-model=static -Ccode-model=small"
            ),
            Self::TooLittleMemory(needed, there) => {
                let mib = |bytes: &u64| bytes.div_ceil(1 << 20);
                write!(
                    f,
                    "it needs {} MiB of memory to start, and has {}",
                    mib(needed),
                    mib(there)
                )
            }
            Self::TooMuchMemory(pages) => {
                write!(
                    f,
                    "{pages} pages of memory are more than a process has addresses"
                )
            }
            Self::LongCommandLine(len) => {
                write!(f, "the command line has {len} bytes, and 1023 is the most")
            }
        }
    }
}

impl std::error::Error for Refused {}
