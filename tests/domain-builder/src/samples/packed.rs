//! Files that are compressed.

use std::io::{Cursor, Write};

/// How a kernel is packed in a `bzImage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// lzma, as it was before xz.
    Lzma,
    /// zstd.
    Zstd,
    /// lz4, in the format of old.
    Lz4,
    /// No compression, behind a beginning that says bzip2.
    AsBzip2,
    /// The same of lzo.
    AsLzo,
    /// Behind no beginning that is known.
    Unknown,
}

/// A whole file, by gzip.
pub fn gzip(file: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let _written = encoder.write_all(file);
    encoder.finish().unwrap_or_default()
}

impl Packed {
    /// A kernel, with its length behind it.
    fn pack(self, kernel: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            // The format itself has it.
            Self::Gzip => return gzip(kernel),
            Self::Xz => {
                let _written = lzma_rs::xz_compress(&mut Cursor::new(kernel), &mut bytes);
            }
            Self::Lzma => {
                let _written = lzma_rs::lzma_compress(&mut Cursor::new(kernel), &mut bytes);
            }
            Self::Zstd => {
                let level = ruzstd::encoding::CompressionLevel::Fastest;
                bytes = ruzstd::encoding::compress_to_vec(kernel, level);
            }
            Self::Lz4 => {
                bytes.extend(0x184c_2102_u32.to_le_bytes());
                for block in kernel.chunks(8 << 20) {
                    let block = lz4_flex::block::compress(block);
                    bytes.extend((block.len() as u32).to_le_bytes());
                    bytes.extend(block);
                }
            }
            Self::AsBzip2 => bytes.extend([b"BZh9".as_slice(), kernel].concat()),
            Self::AsLzo => bytes.extend([b"\x89LZO\0".as_slice(), kernel].concat()),
            Self::Unknown => bytes.extend([b"????".as_slice(), kernel].concat()),
        }
        bytes.extend((kernel.len() as u32).to_le_bytes());
        bytes
    }
}

/// A `bzImage` with a kernel in it.
pub fn bz_image(kernel: &[u8], packed: Packed) -> Vec<u8> {
    const SECTOR_BYTES: usize = 512;
    let payload = packed.pack(kernel);
    // The first sector, and one of setup code.
    let mut file = vec![0; 2 * SECTOR_BYTES];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = file.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, b"MZ");
    put(0x1f1, &[1]);
    put(0x202, b"HdrS");
    put(0x206, &0x20f_u16.to_le_bytes());
    put(0x24c, &(payload.len() as u32).to_le_bytes());
    file.extend(payload);
    file
}
