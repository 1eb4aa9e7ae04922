//! What is behind a disk: memory, or a file.

pub(super) const SECTOR_BYTES: u64 = 512;

/// What is behind a disk.
#[derive(Debug, Default)]
pub enum Medium {
    /// Memory, of so many bytes.
    #[default]
    Empty,
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file of the host's.
    File(std::fs::File),
}

/// The bytes of a disk.
#[derive(Debug)]
pub(super) enum Bytes {
    Memory(Vec<u8>),
    File(std::fs::File),
}

impl Bytes {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(file) => file.metadata().map_or(0, |data| data.len()),
        }
    }

    pub(super) fn read(&self, at: u64, target: &mut [u8]) -> bool {
        match self {
            Self::Memory(bytes) => {
                let source = bytes.get(at as usize..at as usize + target.len());
                source
                    .map(|source| target.copy_from_slice(source))
                    .is_some()
            }
            Self::File(file) => std::os::unix::fs::FileExt::read_exact_at(file, target, at).is_ok(),
        }
    }

    pub(super) fn write(&mut self, at: u64, source: &[u8]) -> bool {
        match self {
            Self::Memory(bytes) => {
                let target = bytes.get_mut(at as usize..at as usize + source.len());
                target
                    .map(|target| target.copy_from_slice(source))
                    .is_some()
            }
            Self::File(file) => std::os::unix::fs::FileExt::write_all_at(file, source, at).is_ok(),
        }
    }
}
