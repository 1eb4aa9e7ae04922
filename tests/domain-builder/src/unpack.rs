//! Files that are compressed, as Xen's builder unpacks them: a whole file by gzip, and
//! in the format of a boot loader (`bzImage`) a kernel by whatever it says. Debian's Xen
//! has neither bzip2 nor lzo there, and so this has not.

use std::{
    borrow::Cow,
    io::{self, Cursor, Read},
};

use crate::Refused;

/// The most bytes that are unpacked.
const MAX_BYTES: usize = 1 << 30;
/// By how much a file may be longer than it says, by the format whose end tells that.
const GZIP_SLACK: usize = 16;
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Where things are in the header of a `bzImage`.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_BYTES: usize = 0x24c;
const HEADER_BYTES: usize = 0x250;
const SECTOR_BYTES: u64 = 512;
/// The first version whose header says where the kernel is: 2.8.
const MIN_VERSION: u16 = 0x208;

/// A format, by how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
    Lzma,
    Lz4,
    Lzo,
}

impl Format {
    const ALL: [(&'static [u8], Self); 7] = [
        (GZIP, Self::Gzip),
        (b"BZh", Self::Bzip2),
        (b"\xfd7zXZ\0", Self::Xz),
        (b"\x28\xb5\x2f\xfd", Self::Zstd),
        (b"\x5d\0", Self::Lzma),
        (b"\x89LZO\0", Self::Lzo),
        (b"\x02\x21", Self::Lz4),
    ];

    fn of(bytes: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.iter();
        let found = all.find(|(magic, _)| bytes.starts_with(magic));
        found.map(|(_, format)| *format)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lzma => "lzma",
            Self::Lz4 => "lz4",
            Self::Lzo => "lzo",
        }
    }
}

/// The file, or what is packed in it.
pub(crate) fn unpack(file: &[u8]) -> Result<Cow<'_, [u8]>, Refused> {
    let file = match file.starts_with(GZIP) {
        true => Cow::Owned(gunzip(file)?),
        false => Cow::Borrowed(file),
    };
    match payload(&file)? {
        Some(payload) => Ok(Cow::Owned(unpack_kernel(payload)?)),
        None => match Format::of(&file) {
            // Xen unpacks no other whole file.
            Some(format) => Err(Refused::Compressed(format.name())),
            None => Ok(file),
        },
    }
}

/// The kernel in a `bzImage`, or nothing in another file.
fn payload(file: &[u8]) -> Result<Option<&[u8]>, Refused> {
    let Some(header) = file.get(..HEADER_BYTES) else {
        return Ok(None);
    };
    if !header
        .get(MAGIC..)
        .is_some_and(|at| at.starts_with(b"HdrS"))
    {
        return Ok(None);
    }
    let word = |at: usize| {
        let bytes = header.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    if (word(VERSION) as u16) < MIN_VERSION {
        return Err(Refused::BadLoader("its boot protocol is older than 2.8"));
    }
    let setup = (u64::from(word(SETUP_SECTORS) as u8) + 1) * SECTOR_BYTES;
    let start = setup + u64::from(word(PAYLOAD_OFFSET));
    let payload = usize::try_from(start)
        .ok()
        .and_then(|start| file.get(start..)?.get(..word(PAYLOAD_BYTES) as usize));
    payload
        .map(Some)
        .ok_or(Refused::BadLoader("its kernel is outside of the file"))
}

fn unpack_kernel(payload: &[u8]) -> Result<Vec<u8>, Refused> {
    let format = Format::of(payload);
    let format = format.ok_or(Refused::BadLoader(
        "its kernel is packed by an unknown format",
    ))?;
    if format == Format::Gzip {
        return gunzip(payload);
    }
    let broken = Refused::BadlyCompressed(format.name());
    // Behind the kernel, its length is told.
    let (packed, len) = payload.split_last_chunk().ok_or(broken.clone())?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > MAX_BYTES {
        return Err(broken);
    }
    let unpacked = match format {
        Format::Gzip => return gunzip(payload),
        Format::Lzo | Format::Bzip2 => return Err(Refused::Compressed(format.name())),
        Format::Zstd => ruzstd::decoding::StreamingDecoder::new(packed)
            .map_err(io::Error::other)
            .and_then(|decoder| all_of(decoder, len)),
        Format::Xz => {
            let mut out = Bounded::new(len);
            lzma_rs::xz_decompress(&mut Cursor::new(packed), &mut out)
                .map_err(|error| io::Error::other(format!("{error:?}")))
                .map(|()| out.bytes)
        }
        Format::Lzma => {
            let mut out = Bounded::new(len);
            lzma_rs::lzma_decompress(&mut Cursor::new(packed), &mut out)
                .map_err(|error| io::Error::other(format!("{error:?}")))
                .map(|()| out.bytes)
        }
        Format::Lz4 => unpack_lz4(packed, len),
    };
    match unpacked {
        Ok(bytes) if bytes.len() == len => Ok(bytes),
        _ => Err(broken),
    }
}

/// What a reader has, which is to be at most so much.
fn all_of(reader: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Somewhere to write to that takes no more than it should.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Bounded {
    const fn new(most: usize) -> Self {
        Self {
            bytes: Vec::new(),
            most,
        }
    }
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::Error::other("more than it should be"));
        }
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Its end says how long it is, and that is believed: a file that is longer is broken.
fn gunzip(file: &[u8]) -> Result<Vec<u8>, Refused> {
    const NAME: &str = Format::Gzip.name();
    let broken = || Refused::BadlyCompressed(NAME);
    let len = file.last_chunk().ok_or_else(broken)?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > MAX_BYTES {
        return Err(broken());
    }
    let most = len + GZIP_SLACK;
    let unpacked = all_of(flate2::bufread::GzDecoder::new(file), most);
    match unpacked {
        Ok(bytes) if bytes.len() <= most => Ok(bytes),
        _ => Err(broken()),
    }
}

/// The format of the `lz4` tool of old: blocks, each behind its length.
fn unpack_lz4(mut packed: &[u8], len: usize) -> io::Result<Vec<u8>> {
    const MAGIC: u32 = 0x184c_2102;
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let mut unpacked = vec![0; len];
    let mut done = 0;
    let mut is_first = true;
    while is_first || !packed.is_empty() {
        let (block, rest) = packed.split_first_chunk().ok_or_else(short)?;
        let block = u32::from_le_bytes(*block);
        packed = rest;
        if std::mem::take(&mut is_first) || block == MAGIC {
            continue;
        }
        let (block, rest) = packed.split_at_checked(block as usize).ok_or_else(short)?;
        let room = unpacked.get_mut(done..).ok_or_else(short)?;
        done += lz4_flex::block::decompress_into(block, room).map_err(io::Error::other)?;
        packed = rest;
    }
    unpacked.truncate(done);
    Ok(unpacked)
}
