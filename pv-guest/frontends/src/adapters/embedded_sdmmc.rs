//! `embedded-sdmmc`: FAT file systems on a [`Volume`](crate::blkfront::Volume).
//!
//! Its `VolumeManager` reads the partition table itself: give it a whole disk.

use alloc::vec::Vec;

use embedded_sdmmc::{Block, BlockCount, BlockDevice, BlockIdx};

use hypercall_abi::platform::Platform;

use super::{BlockOn, Blocking};
use crate::blkfront::{Error, Sector};

impl<P: Platform, B: BlockOn> BlockDevice for Blocking<'_, P, B> {
    type Error = Error;

    fn read(&self, blocks: &mut [Block], first: BlockIdx) -> Result<(), Error> {
        let blocks = blocks.iter_mut().map(|block| block.contents.as_mut_slice());
        let mut blocks: Vec<&mut [u8]> = blocks.collect();
        self.wait(self.volume().read(Sector(first.0.into()), &mut blocks))
    }

    fn write(&self, blocks: &[Block], first: BlockIdx) -> Result<(), Error> {
        let blocks = blocks.iter().map(|block| block.contents.as_slice());
        let blocks: Vec<&[u8]> = blocks.collect();
        self.wait(self.volume().write(Sector(first.0.into()), &blocks))
    }

    fn num_blocks(&self) -> Result<BlockCount, Error> {
        // The crate counts no further.
        Ok(BlockCount(
            u32::try_from(self.volume().sectors()).unwrap_or(u32::MAX),
        ))
    }
}
