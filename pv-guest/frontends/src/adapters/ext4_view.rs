//! `ext4-view`: ext2, ext3 and ext4 file systems on a [`Volume`](crate::blkfront::Volume), for reading.

use alloc::{boxed::Box, vec, vec::Vec};
use core::fmt;

use ext4_view::Ext4Read;

use hypercall_abi::platform::Platform;

use super::{BlockOn, Blocking};
use crate::blkfront::SECTOR_BYTES;

impl<P: Platform, B: BlockOn> Ext4Read for Blocking<'_, P, B> {
    fn read(
        &mut self,
        start_byte: u64,
        target: &mut [u8],
    ) -> Result<(), Box<dyn core::error::Error + Send + Sync + 'static>> {
        self.wait(self.volume().read_at(start_byte, target))
            .map_err(|error| Box::new(error).into())
    }
}

/// Bytes of a piece: one request that needs no indirect segments.
const PIECE_BYTES: usize = 32 << 10;

/// A volume that is read in large pieces, the last of which are kept.
///
/// A file system asks block by block, and waits for each: its next blocks, and those
/// that somebody else asked for before, are here already. It does not see what others
/// write to the disk meanwhile.
pub struct Cached<R> {
    reader: R,
    len_bytes: u64,
    most: usize,
    kept: Vec<Piece>,
    /// Goes up with each use.
    uses: u64,
}

struct Piece {
    number: u64,
    bytes: Vec<u8>,
    last_use: u64,
}

impl<'g, P: Platform, B: BlockOn> Cached<Blocking<'g, P, B>> {
    /// A volume of which so many pieces of 32 KiB are kept, at least one.
    pub fn new(volume: Blocking<'g, P, B>, pieces: usize) -> Self {
        let len_bytes = volume.volume().sectors() * SECTOR_BYTES as u64;
        Self::of(volume, len_bytes, pieces)
    }
}

impl<R: Ext4Read> Cached<R> {
    fn of(reader: R, len_bytes: u64, pieces: usize) -> Self {
        Self {
            reader,
            len_bytes,
            most: pieces.max(1),
            kept: Vec::new(),
            uses: 0,
        }
    }

    /// The bytes of a piece: all, or up to the volume's end.
    fn piece(
        &mut self,
        number: u64,
    ) -> Result<&[u8], Box<dyn core::error::Error + Send + Sync + 'static>> {
        self.uses += 1;
        let found = self.kept.iter().position(|piece| piece.number == number);
        let at = match found {
            Some(at) => at,
            None => {
                let start = number * PIECE_BYTES as u64;
                let len = self.len_bytes.saturating_sub(start).min(PIECE_BYTES as u64);
                let mut bytes = self.memory(len as usize)?;
                bytes.resize(len as usize, 0);
                self.reader.read(start, &mut bytes)?;
                self.kept.push(Piece {
                    number,
                    bytes,
                    last_use: 0,
                });
                self.kept.len() - 1
            }
        };
        let piece = self.kept.get_mut(at).ok_or("a piece was lost")?;
        piece.last_use = self.uses;
        Ok(&piece.bytes)
    }

    /// Memory for a piece, which is empty: new, or that of the piece that was not used for
    /// longest, if there are as many as may be or there is no memory for another.
    fn memory(
        &mut self,
        len_bytes: usize,
    ) -> Result<Vec<u8>, Box<dyn core::error::Error + Send + Sync + 'static>> {
        let mut bytes = Vec::new();
        let is_new = self.kept.len() < self.most && bytes.try_reserve_exact(len_bytes).is_ok();
        if !is_new {
            bytes = self.forget();
            bytes.clear();
            bytes
                .try_reserve_exact(len_bytes)
                .map_err(|_| "there is no memory for a piece of a disk")?;
        }
        Ok(bytes)
    }

    fn forget(&mut self) -> Vec<u8> {
        let ages = self.kept.iter().enumerate();
        let oldest = ages.min_by_key(|(_, piece)| piece.last_use);
        match oldest.map(|(at, _)| at) {
            Some(at) => self.kept.swap_remove(at).bytes,
            None => vec![],
        }
    }
}

impl<R: Ext4Read> Ext4Read for Cached<R> {
    fn read(
        &mut self,
        start_byte: u64,
        target: &mut [u8],
    ) -> Result<(), Box<dyn core::error::Error + Send + Sync + 'static>> {
        let mut done = 0;
        while let Some(rest) = target.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let from = start_byte.checked_add(done as u64);
            let from = from.ok_or("a read behind the end of all volumes")?;
            let within = (from % PIECE_BYTES as u64) as usize;
            let piece = self.piece(from / PIECE_BYTES as u64)?;
            let there = piece.get(within..).filter(|there| !there.is_empty());
            let there = there.ok_or("a read behind the end of a volume")?;
            let count = there.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..count), there.get(..count)) {
                to.copy_from_slice(from);
            }
            done += count;
        }
        Ok(())
    }
}

impl<R: fmt::Debug> fmt::Debug for Cached<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached")
            .field("reader", &self.reader)
            .field("pieces", &self.kept.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use alloc::sync::Arc;
    use std::sync::Mutex;

    /// Where was read, and how much.
    type Reads = Arc<Mutex<Vec<(u64, usize)>>>;

    /// Bytes that say where they are.
    struct Bytes(Reads);

    const LEN: usize = PIECE_BYTES * 3 + 100;

    fn byte(at: usize) -> u8 {
        (at ^ at >> 8 ^ at >> 16) as u8
    }

    impl Ext4Read for Bytes {
        fn read(
            &mut self,
            start: u64,
            target: &mut [u8],
        ) -> Result<(), Box<dyn core::error::Error + Send + Sync + 'static>> {
            if start as usize + target.len() > LEN {
                return Err("behind the end".into());
            }
            self.0.lock().unwrap().push((start, target.len()));
            for (at, to) in target.iter_mut().enumerate() {
                *to = byte(start as usize + at);
            }
            Ok(())
        }
    }

    fn cached(pieces: usize) -> (Cached<Bytes>, Reads) {
        let reads = Arc::default();
        let bytes = Bytes(Arc::clone(&reads));
        (Cached::of(bytes, LEN as u64, pieces), reads)
    }

    #[test]
    fn what_is_read_is_what_is_there() {
        let (mut cached, reads) = cached(2);
        for (start, len) in [
            (0, 10),
            (PIECE_BYTES - 1, 2),
            (5, PIECE_BYTES * 2),
            (LEN - 100, 100),
            (0, LEN),
            (7, 0),
        ] {
            let mut target = vec![0; len];
            cached.read(start as u64, &mut target).unwrap();
            let wanted: Vec<u8> = (start..start + len).map(byte).collect();
            assert_eq!(target, wanted, "{len} bytes from {start} on");
        }
        let reads = reads.lock().unwrap();
        assert!(reads.iter().all(|(at, _)| at % PIECE_BYTES as u64 == 0));
        assert!(reads.contains(&(PIECE_BYTES as u64 * 3, 100)));
    }

    #[test]
    fn blocks_of_a_piece_are_one_read() {
        let (mut cached, reads) = cached(2);
        let mut block = [0; 1024];
        for at in (0..PIECE_BYTES * 2).step_by(block.len()) {
            cached.read(at as u64, &mut block).unwrap();
        }
        assert_eq!(reads.lock().unwrap().len(), 2);
        // The third takes the place of the first, which was not used for longest.
        cached.read(PIECE_BYTES as u64 * 2, &mut block).unwrap();
        cached.read(PIECE_BYTES as u64, &mut block).unwrap();
        assert_eq!(reads.lock().unwrap().len(), 3);
        cached.read(0, &mut block).unwrap();
        assert_eq!(reads.lock().unwrap().len(), 4);
        assert_eq!(cached.kept.len(), 2);
    }

    #[test]
    fn behind_the_end_is_nothing() {
        let (mut cached, _) = cached(1);
        let mut two = [0; 2];
        assert!(cached.read(LEN as u64 - 1, &mut two).is_err());
        assert!(cached.read(LEN as u64 * 9, &mut two).is_err());
        assert!(cached.read(u64::MAX, &mut two).is_err());
        // It goes on with what is there.
        cached.read(LEN as u64 - 2, &mut two).unwrap();
        assert_eq!(two, [byte(LEN - 2), byte(LEN - 1)]);
    }
}
